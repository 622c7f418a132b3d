//! Patroni's words and values of every version, read as Patroni reads them.

use serde_json::json;

use super::*;

#[test]
fn words_of_every_patroni_version_are_read() {
    for (word, want) in [
        ("running", State::Running),
        ("initalizing new cluster", State::Bootstrapping),
        ("restart failed (restarting)", State::Failed),
        ("creating replica", State::CreatingReplica),
        ("levitating", State::Unknown("levitating".into())),
        ("", State::Unknown(String::new())),
    ] {
        assert_eq!(State::of(word), want);
    }
    assert!(Role::of("master").leads() && Role::of("primary").leads());
    assert!(!Role::of("demoted").leads());
}

#[test]
fn lock_expires_after_its_ttl() {
    let lock = LeaderLock::of(
        ObjectRef::new(crate::object_ref::Kind::ConfigMap, "acid-a-leader"),
        &[("leader", "acid-a-0"), ("renewTime", "2026-11-24T10:00:00.123456+00:00"), ("ttl", "30")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    let grace = SignedDuration::from_secs(5);
    for (now, want) in [
        ("2026-11-24T10:00:30Z", Some("acid-a-0")),
        ("2026-11-24T10:00:35Z", Some("acid-a-0")),
        ("2026-11-24T10:00:36Z", None),
    ] {
        assert_eq!(lock.valid_holder(now.parse().unwrap(), grace), want, "{now}");
    }
    let released = LeaderLock { holder: None, ..lock };
    assert_eq!(released.valid_holder("2026-11-24T10:00:00Z".parse().unwrap(), grace), None);
}

#[test]
fn unset_configuration_takes_patronis_defaults() {
    let read = Configuration::of("{}").unwrap();
    assert_eq!(Configuration { document: Arc::default(), ..read }, Configuration::default());
    let set = Configuration::of(
        &json!({"pause": true, "synchronous_mode": "quorum", "maximum_lag_on_failover": 33_554_432,
            "postgresql": {"parameters": {"max_wal_senders": "5"}}, "standby_cluster": {"host": "h"}})
        .to_string(),
    )
    .unwrap();
    assert!(set.paused && set.standby_cluster);
    assert_eq!(set.synchronous, Synchronous::Quorum);
    assert_eq!((set.max_wal_senders, set.maximum_lag_on_failover), (5, 33_554_432));
    assert!(Configuration::of("not json").is_err());
}

#[test]
fn emptied_failover_object_has_nothing_pending() {
    assert_eq!(PendingFailover::of(&BTreeMap::new()), None);
    let pending = BTreeMap::from([("member".to_owned(), "acid-a-1".to_owned())]);
    assert_eq!(PendingFailover::of(&pending).unwrap().candidate.as_deref(), Some("acid-a-1"));
}

#[test]
fn history_names_the_last_leader() {
    let row = |leader: &str| json!([1, 25_165_920, "no recovery target specified", "", leader]);
    for (history, want) in [
        (json!([]), None),
        (json!([row("acid-a-1"), row("acid-a-2")]), Some("acid-a-2")),
        (json!([row("acid-a-1"), [2, 1, "no recovery target specified"]]), None),
        (json!([row("")]), None),
        (json!([7]), None),
    ] {
        let found = last_leader(&history.to_string()).unwrap();
        assert_eq!(found.as_deref(), want, "{history}");
    }
    assert!(last_leader("{").is_err() && last_leader("{}").is_err());
}

#[test]
fn nofailover_tag_is_computed_as_by_patroni() {
    for (tags, want) in [
        (json!({"nofailover": true}), true),
        (json!({"nofailover": "on"}), true),
        (json!({"nofailover": "false"}), true),
        (json!({"nofailover": "0"}), true),
        (json!({"nofailover": ""}), false),
        (json!({"nofailover": 0}), false),
        (json!({"failover_priority": 0}), true),
        (json!({"failover_priority": "0"}), true),
        (json!({"failover_priority": " -1 "}), true),
        (json!({"failover_priority": "0x0"}), true),
        (json!({"failover_priority": 0.4}), true),
        (json!({"failover_priority": "2"}), false),
        (json!({"failover_priority": "first"}), false),
        (json!({"failover_priority": null}), false),
        (json!({"nofailover": false, "failover_priority": 0}), false),
        (json!({"nofailover": null, "failover_priority": 0}), true),
        (json!({}), false),
    ] {
        assert_eq!(Tags::of(&tags, Some("4.1.4")).nofailover, want, "{tags}");
    }
}

#[test]
fn nosync_tag_is_computed_as_by_patroni() {
    for (tags, want) in [
        (json!({"nosync": true}), true),
        (json!({"nosync": "false"}), true),
        (json!({"nosync": false}), false),
        (json!({"sync_priority": 0}), true),
        (json!({"sync_priority": "0"}), true),
        (json!({"sync_priority": 3}), false),
        (json!({"nosync": false, "sync_priority": 0}), false),
        (json!({}), false),
    ] {
        assert_eq!(Tags::of(&tags, Some("4.1.4")).nosync, want, "{tags}");
    }
}

#[test]
fn priority_tags_bind_since_the_version_that_knows_them() {
    let tags = json!({"failover_priority": 0, "sync_priority": 0});
    for (version, want) in [
        (Some("2.1.7"), (false, false)),
        (Some("3.1.2"), (false, false)),
        (Some("3.2.0"), (true, false)),
        (Some("4.0.6"), (true, false)),
        (Some("4.1.0"), (true, true)),
        // A version that is not known may be any.
        (None, (true, true)),
        (Some("main"), (true, true)),
    ] {
        let read = Tags::of(&tags, version);
        assert_eq!((read.nofailover, read.nosync), want, "{version:?}");
    }
}

#[test]
fn standby_cluster_replicates_asynchronously_whatever_is_written() {
    for (section, follows) in [
        (json!({"host": "h"}), true),
        (json!({"port": 5432}), true),
        (json!({"restore_command": "c"}), true),
        (json!({"create_replica_methods": ["basebackup"]}), false),
        (json!({"host": "", "port": null}), false),
        (json!({}), false),
        (json!(null), false),
    ] {
        for mode in [json!(true), json!("quorum"), json!("on")] {
            let text = json!({"synchronous_mode": mode, "standby_cluster": section});
            let read = Configuration::of(&text.to_string()).unwrap();
            assert_eq!(read.standby_cluster, follows, "{text}");
            assert_eq!(read.synchrony() == Synchronous::Off, follows, "{text}");
        }
    }
}

#[test]
fn logical_slots_are_those_that_patroni_keeps() {
    let cdc = json!({"type": "logical", "database": "a", "plugin": "pgoutput"});
    let implied = json!({"database": "a", "plugin": "pgoutput"});
    let physical = json!({"type": "physical"});
    for (text, want) in [
        (json!({}), &[][..]),
        (json!({"slots": {"b": implied, "a": cdc, "p": physical, "n": null}}), &["a", "b"]),
        (json!({"slots": {"a": {"type": "logical", "database": "a"}}}), &[]),
        (json!({"permanent_slots": {"old": cdc}, "slots": {"a": cdc}}), &["old"]),
        (json!({"permanent_slots": {}, "slots": {"a": cdc}}), &["a"]),
        (json!({"slots": {"a": cdc}, "postgresql": {"use_slots": false}}), &[]),
        (json!({"slots": {"a": cdc}, "postgresql": {"use_slots": true}}), &["a"]),
        (json!({"slots": {"a": cdc}, "standby_cluster": {"host": "h"}}), &[]),
        (json!({"slots": ["a"]}), &[]),
    ] {
        let read = Configuration::of(&text.to_string()).unwrap();
        let found: Vec<&str> = read.logical_slots().into_iter().collect();
        assert_eq!(found, want, "{text}");
    }
}

#[test]
fn switches_are_read_as_by_patroni() {
    for (value, want) in [
        (json!(true), true),
        (json!("ON"), true),
        (json!("1"), true),
        (json!(1), true),
        (json!(2), false),
        (json!("maybe"), false),
        (json!(""), false),
        (json!(null), false),
    ] {
        let text = json!({"pause": value, "synchronous_mode_strict": value}).to_string();
        let read = Configuration::of(&text).unwrap();
        assert_eq!((read.paused, read.synchronous_strict), (want, want), "{text}");
    }
}

#[test]
fn answer_holds_the_live_position() {
    let standby = json!({"state": "running", "role": "replica", "timeline": 3,
        "xlog": {"received_location": 100, "replayed_location": 90, "paused": false},
        "replication_state": "streaming", "patroni": {"version": "4.1.4"}});
    let answer = Answer::of(&standby).unwrap();
    assert_eq!((answer.position(), answer.timeline), (Some(100), Some(3)));
    assert_eq!(Answer::of(&json!({"error": "nope"})), None);
}

#[test]
fn replication_state_is_expected_from_patroni_3_0_4_on() {
    for (version, want) in [("2.1.4", false), ("3.0.3", false), ("3.0.4", true), ("4.1.4", true)] {
        let report =
            Report::of(&json!({"state": "running", "version": version}).to_string()).unwrap();
        assert_eq!(report.tells_replication_state(), want, "{version}");
    }
}
