//! Slots, volumes, room and verdicts, case by case.

use pgscale_guard::facts::{Claim, Live};
use pgscale_guard::object_ref::ObjectRef;
use pgscale_guard::policy::Limit;
use serde_json::json;

use super::*;
use crate::services::Services;
use crate::testing::{facts, policies, with};

fn limit<T>(value: T, source: &str, mode: Mode) -> Limit<T> {
    Limit { value, source: ObjectRef::policy(source), mode }
}

#[test]
fn slot_has_its_member_or_none_and_the_leader_has_no_slot() {
    let facts = facts(3, 3, 0);
    let positions = [("acid_a_0", 1000), ("acid_a_2", 400), ("acid_a_7", 10), ("acid_ab_1", 1)]
        .map(|(name, position)| (name.to_owned(), position))
        .into();
    let slots: Vec<_> = slots_of(&facts, &positions)
        .into_iter()
        .map(|slot| (slot.name, slot.member, slot.there, slot.held))
        .collect();
    let (two, seven) = (Some("acid-a-2".to_owned()), Some("acid-a-7".to_owned()));
    assert_eq!(
        slots,
        [
            ("acid_a_2".to_owned(), two, Some(true), Some(600)),
            ("acid_a_7".to_owned(), seven, Some(false), Some(990)),
            ("acid_ab_1".to_owned(), None, Some(false), Some(999)),
        ]
    );
}

#[test]
fn volume_is_kept_only_where_its_member_certainly_has_no_pod() {
    let mut facts = facts(2, 2, 0);
    let claim =
        |ordinal| Claim { name: format!("pgdata-acid-a-{ordinal}"), ordinal, ..Claim::default() };
    facts.claims = Seen::Known(vec![claim(0), claim(5)]);
    let in_use = |facts: &Facts| -> Vec<Option<bool>> {
        volumes(facts).known().unwrap().iter().map(|volume| volume.in_use).collect()
    };
    assert_eq!(in_use(&facts), [Some(true), Some(false)]);
    facts.members = Seen::Unreadable("may not list pods".into());
    assert_eq!(in_use(&facts), [None, None]);
    facts.claims = Seen::Unreadable("may not list claims".into());
    assert_eq!(volumes(&facts).unreadable(), Some("may not list claims"));
}

#[test]
fn room_is_limited_by_every_enforced_bound() {
    let mut facts = facts(4, 4, 0);
    let none = Headroom::of(&facts, &Policies::default());
    assert_eq!((none.more, none.fewer, none.zero), (None, 3, false));

    let policies = Policies {
        min: vec![limit(3, "a", Mode::Enforce), limit(4, "b", Mode::Warn)],
        max: vec![limit(9, "a", Mode::Enforce)],
        zero: vec![limit(Zero::Allow, "a", Mode::Enforce)],
        ..Policies::default()
    };
    if let Seen::Known(operator) = &mut facts.operator {
        operator.settings.max_instances = 6;
    }
    let room = Headroom::of(&facts, &policies);
    assert_eq!((room.more, room.fewer, room.zero), (Some(2), 1, true));
    let sources: Vec<&str> = room.bounds.iter().map(|bound| bound.source.as_str()).collect();
    assert_eq!(
        sources,
        [
            "scalepolicy/a",
            "scalepolicy/b",
            "scalepolicy/a",
            "configmap default/postgres-operator",
            "scalepolicy/a"
        ]
    );
    let denied = Policies {
        zero: vec![limit(Zero::Deny, "c", Mode::Enforce), policies.zero[0].clone()],
        ..policies
    };
    assert!(!Headroom::of(&facts, &denied).zero);
}

#[test]
fn change_now_is_judged_without_another_read() {
    let verdicts = |facts: &Facts| -> Vec<String> {
        would_say(facts, &Policies::default())
            .into_iter()
            .map(|verdict| {
                let outcome = if verdict.allowed { "allowed" } else { "refused" };
                let leader =
                    verdict.leader_moves_to.map_or(String::new(), |it| format!(" -> {it}"));
                format!(
                    "{} {:?} {outcome} {}{leader}",
                    verdict.to,
                    verdict.by,
                    verdict.rules.join(",")
                )
            })
            .collect()
    };
    assert_eq!(verdicts(&facts(3, 3, 0)), ["2 Command allowed ", "4 Command allowed "]);
    assert_eq!(
        verdicts(&facts(3, 3, 2)),
        ["2 Command allowed  -> acid-a-0", "2 Edit refused leader-condemned", "4 Command allowed "]
    );
    let silent = with(facts(3, 3, 2), 0, |member| member.live = Live::Silent("no route".into()));
    assert_eq!(
        verdicts(&silent)[1],
        "2 Edit refused leader-condemned,too-few-healthy-survivors",
        "{:?}",
        verdicts(&silent)
    );
    assert_eq!(verdicts(&facts(1, 1, 0))[0], "0 Command refused scale-to-zero");
}

#[test]
fn worst_cluster_comes_first() {
    let status = |facts: Facts, missing: &[&str]| Status {
        snapshot: Snapshot {
            facts: facts.into(),
            services: Services { leader: Seen::Absent, replicas: Seen::Absent },
        },
        missing: missing.iter().map(|line| (*line).to_owned()).collect(),
        unread: Vec::new(),
        detail: None,
        why: Vec::new(),
        events_unread: None,
        more: None,
    };
    let healthy = facts(3, 3, 0);
    let mut leaderless = healthy.clone();
    if let Seen::Known(lock) = &mut leaderless.leader {
        lock.holder = None;
    }
    let mut unseen = healthy.clone();
    unseen.members = Seen::Unreadable("forbidden".into());
    let mut clamped = healthy.clone();
    clamped.change.new.instances = Some(9);
    let cloning = with(healthy.clone(), 2, |member| {
        member.live = Live::NotAsked;
        member.report = Seen::Absent;
    });
    let all = [
        (status(leaderless, &["leader"]), Severity::NoLeader),
        (status(unseen, &["unseen"]), Severity::Unknown),
        (status(clamped, &[]), Severity::CountDiffers),
        (status(cloning, &["cloning"]), Severity::Rebuilding),
        (status(healthy.clone(), &["lag"]), Severity::NotConverged),
        (status(healthy, &[]), Severity::Converged),
    ];
    for (status, want) in &all {
        assert_eq!(status.severity(), *want);
    }
    let mut sorted: Vec<Status> = all.iter().rev().map(|(status, _)| status.clone()).collect();
    worst_first(&mut sorted);
    assert!(sorted.iter().map(Status::severity).eq(all.iter().map(|(_, severity)| *severity)));
}

#[test]
fn digest_holds_only_news() {
    let status = |facts: Facts| Status {
        snapshot: Snapshot {
            facts: facts.into(),
            services: Services { leader: Seen::Absent, replicas: Seen::Absent },
        },
        missing: Vec::new(),
        unread: Vec::new(),
        detail: None,
        why: Vec::new(),
        events_unread: None,
        more: None,
    };
    let behind = |bytes: u64| {
        with(facts(3, 3, 0), 1, |member| {
            if let Live::Answered(answer) = &mut member.live {
                answer.received = Some(1000 - bytes);
                answer.replayed = answer.received;
            }
        })
    };
    let mut later = behind(10);
    later.now = "2026-11-24T10:00:07Z".parse().unwrap();
    assert_eq!(status(behind(990)).digest(), status(later).digest());
    assert_ne!(status(behind(990)).digest(), status(facts(3, 3, 0)).digest());
    assert_ne!(status(facts(3, 3, 1)).digest(), status(facts(3, 3, 0)).digest());
}

#[test]
fn steps_and_calendar_are_among_the_bounds() {
    let specs = json!({"steps": {"up": 2, "down": 1}, "freeze": {"until": "2026-11-24T11:00:00Z"},
        "windows": {"allow": [{"from": "18:00", "to": "20:00"}]}});
    let past = json!({"freeze": {"until": "2026-11-24T09:00:00Z"}});
    let headroom = Headroom::of(&facts(3, 3, 0), &policies(&[("a", specs), ("past", past)]));
    let bounds: Vec<String> =
        headroom.bounds.iter().map(|bound| format!("{}: {}", bound.what, bound.value)).collect();
    assert_eq!(
        bounds,
        [
            "step up: 2",
            "step down: 1",
            "freeze: Down until 2026-11-24T11:00:00Z, holds now",
            "windows: Down 18:00-20:00 UTC, shut now, opens Tue 2026-11-24 18:00 UTC",
        ]
    );
}
