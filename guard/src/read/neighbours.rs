//! Clusters that are not alone, have unusual names and labels, or keep their state out of sight.

use serde_json::json;

use crate::change::{Change, Direction};
use crate::facts::{Facts, Live, Seen};
use crate::postgresql::Postgresql;
use crate::read::AskWhom;
use crate::read::matrix::{findings, findings_lowered};
use crate::read::recorded::{Condition, Kept, Recording, SetBy};
use crate::read::testing::{World, core};

fn names(facts: &Facts) -> Vec<&str> {
    facts.all_members().iter().map(|member| member.name.as_str()).collect()
}

/// The operator finds a leader only by the label `master`. With a leader called `primary` it
/// requests no switchover, and lets the leader be deleted.
#[tokio::test(start_paused = true)]
async fn leader_with_a_label_that_the_operator_ignores_cannot_move() {
    for (label, goes) in [
        (None, &[][..]),
        (Some("master"), &[]),
        (Some("primary"), &["deny leader-cannot-move"]),
        (Some("boss"), &["deny leader-cannot-move"]),
    ] {
        for mut recording in Recording::all() {
            recording.leader_label = label;
            assert_eq!(findings(&recording.read(2).await), Vec::<&str>::new(), "{label:?}, kept");
            let facts = recording.led_by(2).read(2).await;
            assert_eq!(findings(&facts), ["deny leader-condemned"], "{label:?}, removed");
            assert_eq!(findings_lowered(&facts), goes, "{label:?}, removed");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn label_of_any_name_is_followed() {
    for mut recording in Recording::all() {
        recording.name_label = "pg.example.com/cluster";
        recording.role_label = "pg.example.com/role";
        let facts = recording.clone().led_by(2).read(2).await;
        assert_eq!(findings(&facts), ["deny leader-condemned"]);

        // Without the StatefulSet, the operator's settings determine the labels and the place of
        // the lock.
        let world = recording.world().without(&recording.set_path());
        let facts = recording.read_in(&world, 2).await;
        assert_eq!(names(&facts), ["acid-a-0", "acid-a-1", "acid-a-2"]);
        assert_eq!(facts.labelled_masters().count(), 1);
        assert_eq!(facts.leader_name(), Some("acid-a-0"));
        assert_eq!(facts.claims.known().map(Vec::len), Some(3));
    }
}

#[tokio::test(start_paused = true)]
async fn standby_cluster_is_judged_like_others() {
    let standby = |mut recording: Recording, limits| {
        recording.standby = true;
        recording.limits = limits;
        recording
    };
    for recording in Recording::all() {
        let recording = standby(recording, (2, 4));
        let rows: [(Recording, i64, i64, &[&str]); 5] = [
            (recording.clone(), 2, 2, &["warn standby-cluster"]),
            (recording.clone().led_by(2), 2, 2, &["warn standby-cluster", "deny leader-condemned"]),
            (
                recording.clone().led_by(2).with(0, Condition::Stalled),
                2,
                2,
                &[
                    "warn standby-cluster",
                    "deny leader-condemned",
                    "deny too-few-healthy-survivors",
                    "warn survivor-unhealthy",
                ],
            ),
            // The operator's limits do not touch a single instance.
            (recording.clone(), 1, 1, &["warn no-standby-left"]),
            (recording.clone(), 5, 4, &["deny operator-limits", "warn standby-cluster"]),
        ];
        for (recording, asked, runs, want) in rows {
            let facts = recording.read(asked).await;
            assert_eq!(findings(&facts), want, "{asked}");
            assert_eq!(facts.to(), runs);
        }
    }
}

/// Patroni's state is out of sight: a shrink is refused, growth is warned about.
#[tokio::test(start_paused = true)]
async fn etcd_store_refuses_a_shrink_and_warns_about_growth() {
    for mut recording in Recording::all().filter(|it| it.kept == Kept::Endpoints) {
        recording.kept = Kept::Etcd;
        let facts = recording.read(2).await;
        assert!(facts.leader.unreadable().unwrap().contains("etcd"), "{:?}", facts.leader);
        let found = findings(&facts);
        assert!(found.contains(&"deny no-leader".to_owned()), "{found:?}");
        let found = findings(&recording.read(5).await);
        assert_eq!(
            found,
            [
                "warn no-leader",
                "warn paused",
                "warn configuration-drift",
                "warn too-few-wal-senders"
            ]
        );
    }
}

/// With etcd no pod carries an annotation of Patroni. That is no sign of a member that is being
/// built.
#[tokio::test(start_paused = true)]
async fn silent_member_with_etcd_is_not_one_that_never_reported() {
    let mut recording = Recording::usual().with(1, Condition::Silent);
    recording.kept = Kept::Etcd;
    let facts = recording.read(5).await;
    assert!(matches!(facts.member("acid-a-1").unwrap().report, Seen::Unreadable(_)));
    assert!(!findings(&facts).iter().any(|it| it.starts_with("deny")), "{:?}", findings(&facts));
}

#[tokio::test(start_paused = true)]
async fn clusters_with_similar_names_are_kept_apart() {
    let clusters = ["acid-a", "acid-a-0", "acid-a-1", "acid-a-b", "acid-a-10", "acid-ab"];
    for kept in [Kept::Endpoints, Kept::ConfigMaps] {
        let recording = |name, ill: bool| {
            let mut recording = Recording { kept, name, ..Recording::usual() };
            if ill {
                recording.paused = true;
                recording = recording.led_by(2).with(0, Condition::Stalled);
            }
            recording
        };
        for chosen in clusters {
            for ill in [false, true] {
                let world = clusters.iter().fold(World::default(), |world, name| {
                    // The neighbours are in the opposite state of the chosen one.
                    world.and(recording(name, ill == (*name == chosen)).world())
                });
                let recording = recording(chosen, ill);
                let facts = recording.read_in(&world, 2).await;
                let alone = recording.read(2).await;
                assert_eq!(facts, Facts { now: facts.now, ..alone }, "{chosen}");
                let pods: Vec<_> = (0..3).map(|ordinal| format!("{chosen}-{ordinal}")).collect();
                assert_eq!(names(&facts), pods);
                assert_eq!(findings(&facts).is_empty(), !ill, "{chosen}: {:?}", findings(&facts));
            }
        }
    }
}

/// Reads the cluster of `recording`, for a write that hands it to the operator of `to`.
async fn hand(recording: &Recording, to: &Recording, world: &World) -> Facts {
    let of = |recording: &Recording| Postgresql::of(&recording.postgresql()).unwrap();
    let change = Change { old: Some(of(recording)), ..Change::of_count(of(to), 3) };
    world.reader(&recording.voices()).facts(change, AskWhom::AsNeeded).await
}

/// By the new operator's limits alone both counts were the same, and no rule applied.
#[tokio::test(start_paused = true)]
async fn cluster_handed_to_an_operator_with_lower_limits_shrinks() {
    for set_by in [SetBy::ConfigMap, SetBy::OperatorConfiguration] {
        let first = Recording { set_by, ..Recording::usual() };
        let second = |limits| Recording {
            operated_by: "second",
            controller: "second",
            limits,
            ..first.clone()
        };
        let world = |second: &Recording| second.operator_in(first.world());

        let low = second((-1, 2));
        let facts = hand(&first, &low, &world(&low)).await;
        assert_eq!((facts.from(), facts.to(), facts.direction()), (Some(3), 2, Direction::Down));
        assert_eq!(findings(&facts), ["deny operator-limits"]);
        assert!(facts.all_members().iter().all(|member| member.live != Live::NotAsked));

        let same = second((-1, 9));
        let facts = hand(&first, &same, &world(&same)).await;
        assert_eq!((facts.direction(), findings(&facts)), (Direction::Same, vec![]));

        // No operator is "third", so the written count was never run: the StatefulSet has the
        // running count.
        let third = Recording { controller: "third", ..first.clone() };
        let fewer = world(&low).edit(&first.set_path(), |set| set["spec"]["replicas"] = json!(2));
        let facts = hand(&third, &low, &fewer).await;
        assert_eq!(facts.operator_before.as_deref(), Some(&Seen::Absent));
        assert_eq!((facts.from(), facts.to()), (Some(3), 2), "its third pod still lives");
        let gone = fewer.without(&core("pods", "acid-a-2"));
        let facts = hand(&third, &low, &gone).await;
        assert_eq!((facts.from(), facts.to()), (Some(2), 2));
    }
}

/// The write may be a shrink where the count of the old owner is not known.
#[tokio::test(start_paused = true)]
async fn cluster_of_an_operator_with_hidden_limits_may_shrink() {
    let first = Recording { operated_by: "first", controller: "first", ..Recording::usual() };
    let second = Recording { operated_by: "second", controller: "second", ..first.clone() };
    let hidden = first
        .world()
        .without("/apis/acid.zalan.do/v1/namespaces/default/operatorconfigurations/first")
        .and(second.operator_in(World::default()));
    let facts = hand(&first, &second, &hidden).await;
    assert!(facts.operator_before.as_deref().unwrap().unreadable().is_some());
    assert_eq!(facts.direction(), Direction::Down);
    assert_eq!(findings(&facts), ["deny operator-limits"]);
}

/// An operator that watches another namespace, or that the cluster does not name, does not own the
/// cluster: its limits do not hold, and it would not carry the change out.
#[tokio::test(start_paused = true)]
async fn limits_of_an_operator_that_does_not_own_the_cluster_do_not_hold() {
    let elsewhere = |mut recording: Recording| {
        recording.watches = "other";
        recording
    };
    let named = |mut recording: Recording| {
        recording.operated_by = "second";
        recording.controller = "second";
        recording
    };
    for recording in Recording::all() {
        let recording = Recording { limits: (-1, 3), ..recording };
        let second = named(Recording { limits: (-1, 4), ..recording.clone() });
        let both = recording.world().and(second.operator_in(World::default()));
        let mut nowhere = vec!["warn limits-unknown", "warn operator-absent"];
        if recording.kept == Kept::Endpoints {
            nowhere.insert(1, "warn dcs-store-changing");
        }
        for (name, recording, world, runs, want) in [
            ("its own", &recording, both.clone(), 3, vec!["deny operator-limits"]),
            ("the one it names", &second, both.clone(), 4, vec!["deny operator-limits"]),
            (
                "it names an operator that does not exist",
                &second,
                recording.world(),
                5,
                nowhere.clone(),
            ),
            (
                "its own watches elsewhere",
                &recording,
                elsewhere(recording.clone()).world().and(second.operator_in(World::default())),
                5,
                nowhere.clone(),
            ),
        ] {
            let facts = recording.read_in(&world, 5).await;
            assert_eq!(findings(&facts), want, "{name}");
            assert_eq!(facts.to(), runs, "{name}");
        }
    }
}
