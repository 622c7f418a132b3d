//! The impact computed from facts and readings, case by case.

use pgscale_guard::Policies;
use pgscale_guard::patroni::Sender;
use serde_json::json;

use super::*;
use crate::testing::{facts, made_by, stalled, with};

/// Returns the readings of a cluster without quotas and clients.
pub(crate) fn inputs() -> Readings {
    Readings { quotas: Ok(Vec::new()), leader: None, clients: Vec::new() }
}

fn impact(facts: &Facts, inputs: Readings) -> Impact {
    Impact::of(&Plan::of(facts, &Policies::default()), facts, inputs)
}

/// Returns the facts with a claim for each of these ordinals.
fn claimed(mut facts: Facts, ordinals: std::ops::Range<i64>) -> Facts {
    let claim = |ordinal| Claim {
        name: format!("pgdata-acid-a-{ordinal}"),
        ordinal,
        created: Some(facts.now),
        capacity: Some(1 << 30),
        ..Claim::default()
    };
    facts.claims = Seen::Known(ordinals.map(claim).collect());
    facts
}

#[test]
fn storage_follows_the_claims_and_not_the_pods() {
    let delete = json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}});
    for (name, facts, spec, want) in [
        ("new volumes", claimed(facts(3, 5, 0), 0..3), json!({}), (3, 5)),
        ("one kept claim", claimed(facts(3, 5, 0), 0..4), json!({}), (4, 5)),
        ("kept", claimed(facts(5, 3, 0), 0..5), json!({}), (5, 5)),
        ("deleted", claimed(facts(5, 3, 0), 0..5), delete.clone(), (5, 3)),
        ("kept claims beyond the members", claimed(facts(5, 3, 0), 0..7), delete, (7, 5)),
    ] {
        let impact = impact(&made_by(facts, &spec), inputs());
        let gib = impact.storage.unwrap().map(|amount| amount.units() >> 30);
        assert_eq!((gib.before, gib.after), want, "{name}");
    }
}

#[test]
fn unread_fact_never_becomes_a_number() {
    let mut blind = facts(5, 3, 0);
    blind.claims = Seen::Unreadable("list persistentvolumeclaims in db: forbidden".into());
    let found = impact(&blind, inputs());
    assert_eq!(found.storage, Err("list persistentvolumeclaims in db: forbidden".to_owned()));
    assert_eq!(found.volumes, Err("list persistentvolumeclaims in db: forbidden".to_owned()));
    assert!(found.resources.is_ok(), "pods are counted without claims");

    let mut unseen = claimed(facts(5, 3, 0), 0..5);
    let why = "get statefulsets in db: forbidden";
    unseen.stateful_set = Seen::Unreadable(why.to_owned());
    unseen.capacity.template = Seen::Unreadable(why.to_owned());
    let found = impact(&unseen, inputs());
    let unread = format!("the StatefulSet could not be read ({why})");
    assert_eq!(found.retention, Err(why.to_owned()));
    assert_eq!(found.resources, Err(unread.clone()));
    assert_eq!(found.storage, Err(unread));
    assert_eq!(found.quotas, Ok(Quotas::default()), "without a quota nothing is limited");
}

#[test]
fn readers_exclude_the_leader_and_failures_tolerated_the_unhealthy() {
    for (name, facts, readers, spare) in [
        ("growth", facts(3, 5, 0), (2, 4), (2, 4)),
        ("a shrink", facts(5, 2, 0), (4, 1), (4, 1)),
        ("to the last", facts(2, 1, 0), (1, 0), (1, 0)),
        ("to zero", facts(2, 0, 0), (1, 0), (1, 0)),
        ("from zero", facts(0, 2, 0), (0, 1), (0, 1)),
        ("a kept one is unhealthy", stalled(facts(5, 3, 0), 1), (4, 2), (3, 1)),
        ("a removed one is unhealthy", stalled(facts(5, 3, 0), 4), (4, 2), (3, 2)),
    ] {
        let impact = impact(&facts, inputs());
        assert_eq!((impact.readers.before, impact.readers.after), readers, "{name}: readers");
        assert_eq!((impact.spare.before, impact.spare.after), spare, "{name}: spare");
    }
}

#[test]
fn common_zone_of_all_kept_members_is_named() {
    let placed = |zones: &[Option<&str>]| {
        let to = if zones.len() > 2 { 2 } else { 1 };
        let start = facts(i64::try_from(zones.len()).unwrap(), to, 0);
        zones.iter().zip(0..).fold(start, |facts, (zone, ordinal)| {
            with(facts, ordinal, |member| member.pod.zone = zone.map(str::to_owned))
        })
    };
    for (name, facts, want) in [
        ("they differ", placed(&[Some("a"), Some("b"), Some("a")]), None),
        ("they do not", placed(&[Some("a"), Some("a"), Some("b")]), Some("a")),
        ("one has none", placed(&[Some("a"), None, Some("b")]), None),
        ("only one is kept", placed(&[Some("a"), Some("b")]), None),
        (
            "one is not known",
            with(placed(&[Some("a"), None, Some("b")]), 1, |it| it.pod.node_ready = None),
            None,
        ),
    ] {
        let impact = impact(&facts, inputs());
        assert_eq!(impact.zones.after.only(), want, "{name}");
    }
}

#[test]
fn copies_have_a_number_an_order_and_a_duration() {
    let probed = json!({"template": {"spec": {"containers": [
        {"name": "postgres", "readinessProbe": {"tcpSocket": {"port": 5432}}}]}}});
    for (spec, want) in [
        (json!({}), Order::Unprobed),
        (probed, Order::OneByOne),
        (json!({"podManagementPolicy": "Parallel"}), Order::Parallel),
    ] {
        let leader = LeaderReadings {
            data: Ok(10_000),
            wal: Err("not asked".to_owned()),
            pace: Ok(Some(300)),
        };
        let readings = Readings { leader: Some(leader), ..inputs() };
        let growing = made_by(claimed(facts(3, 6, 0), 0..4), &spec);
        let seeding = impact(&growing, readings).seeding.unwrap();
        assert_eq!((seeding.copies(), seeding.returning.clone()), (2, Ok(1)));
        assert_eq!(seeding.order, Ok(want), "{spec}");
        assert_eq!(
            Seeding { pace: Ok(Some(300)), ..seeding.clone() }.seconds_each(),
            Some(34),
            "rounded up"
        );
        assert_eq!(Seeding { pace: Ok(None), ..seeding.clone() }.seconds_each(), None);
        assert_eq!(Seeding { pace: Ok(Some(0)), ..seeding }.seconds_each(), None);
    }
    let mut leaderless = facts(3, 4, 0);
    leaderless.leader = Seen::Absent;
    let seeding = impact(&leaderless, inputs()).seeding.unwrap();
    assert_eq!(seeding.data, Err("there is no leader to ask".to_owned()));
    assert!(impact(&facts(5, 3, 0), inputs()).seeding.is_none());
}

#[test]
fn replica_of_a_removed_member_is_named() {
    let tagged = with(facts(4, 3, 0), 1, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.tags.replicate_from = Some("acid-a-3".into());
        }
    });
    let both = with(tagged, 3, |member| {
        if let Live::Answered(answer) = &mut member.live {
            let sender = |name: &str| Sender {
                name: name.into(),
                state: "streaming".into(),
                sync_state: "async".into(),
            };
            answer.replication = vec![sender("acid-a-1"), sender("acid-a-2"), sender("backup")];
        }
    });
    let pairs = |facts: &Facts| impact(facts, inputs()).cascading;
    let from = |standby: &str| (standby.to_owned(), "acid-a-3".to_owned());
    assert_eq!(pairs(&both), [from("acid-a-1"), from("acid-a-2")]);
    // Replicas of the leader follow the next leader.
    let leads = with(facts(4, 3, 3), 1, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.tags.replicate_from = Some("acid-a-3".into());
        }
    });
    assert_eq!(pairs(&leads), []);
}

#[test]
fn member_that_waits_for_a_restart_is_named() {
    let waits = with(facts(3, 4, 0), 1, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.pending_restart = true;
        }
    });
    let waits = with(waits, 2, |member| {
        member.live = Live::NotAsked;
        if let Seen::Known(report) = &mut member.report {
            report.pending_restart = true;
        }
    });
    assert_eq!(impact(&waits, inputs()).restarts, ["acid-a-1", "acid-a-2"]);
}

#[test]
fn resources_cover_all_pods_and_storage_all_claims() {
    let spec = json!({"template": {"spec": {"containers": [{"name": "postgres", "resources": {
        "requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}}]}}});
    // Two pods are removed, and their claims are kept.
    let impact = impact(&made_by(claimed(facts(5, 3, 0), 0..5), &spec), inputs());
    let resources = impact.resources.unwrap();
    let cpu = resources.requests["cpu"].map(|amount| amount.to_string());
    assert_eq!(cpu, Turn { before: "2500m".into(), after: "1500m".into() });
    assert_eq!(resources.limits["memory"].after.to_string(), "3221225472");
    assert_eq!(
        impact.storage.unwrap().map(Amount::units),
        Turn { before: 5 << 30, after: 5 << 30 }
    );
}
