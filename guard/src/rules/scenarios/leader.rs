//! Leaders that a change removes: their successor, and the count.

use super::{LEADER_CONDEMNED, denials, denials_lowered, verdict, warnings, warnings_lowered};
use crate::facts::{Facts, Live, Seen};
use crate::patroni::PendingFailover;
use crate::policy::Policies;
use crate::rules::testing::{healthy, judged, led_by_the_last, lowered, text};
use crate::rules::{Alternative, alternative};

scenarios![
    the_guard_refuses_or_the_bare_operator_did_no_harm,
    alternative_never_crosses_a_pending_switchover,
    moving_the_leader_cures_dangers_to_a_removed_leader,
    with_the_receivers_of_0_and_1_stalled_the_alternative_is_four,
    with_0_frozen_another_survivor_takes_the_lead,
    paused_with_0_unfit_is_denied,
    synchronous_standbys_lead_before_better_placed_ones,
    growth_needs_no_live_answers,
];

/// The damage that the bare operator did to a cluster of five under load, reduced to two by a plain
/// patch (operator 2.0.1, Patroni 4.1.5, PostgreSQL 15, asynchronous replication), and the guard's
/// verdict on that patch where the platform leaves the leader to the operator.
///
/// By default every one of these patches that deletes the leader is refused.
struct Seen5To2 {
    stage: &'static str,
    facts: Facts,
    rows_lost: u32,
    stopped_seconds: f64,
    denials: &'static [&'static str],
    warnings: &'static [&'static str],
    alternative: Option<(i64, &'static str)>,
}

fn the_guard_refuses_or_the_bare_operator_did_no_harm() {
    let last = || led_by_the_last(2);
    let rows = [
        Seen5To2 {
            stage: "leader on 0, all healthy",
            facts: healthy(5, 2),
            rows_lost: 0,
            stopped_seconds: 0.0,
            denials: &[],
            warnings: &[],
            alternative: None,
        },
        Seen5To2 {
            stage: "leader on 4, all healthy",
            facts: last(),
            rows_lost: 0,
            stopped_seconds: 2.3,
            denials: &[],
            warnings: &[],
            alternative: Some((2, "acid-a-0")),
        },
        // The switchover to a named candidate is done in pause. Should it fail, no member takes
        // over.
        Seen5To2 {
            stage: "leader on 4, Patroni paused, -0 healthy",
            facts: last().pause(),
            rows_lost: 0,
            stopped_seconds: 2.3,
            denials: &["paused"],
            warnings: &[],
            alternative: Some((2, "acid-a-0")),
        },
        // The leader's clean shutdown let -1 take over, by luck.
        Seen5To2 {
            stage: "leader on 4, -0 tagged nofailover",
            facts: last().nofailover(0),
            rows_lost: 0,
            stopped_seconds: 2.5,
            denials: &["leader-cannot-move", "too-few-healthy-survivors"],
            warnings: &[],
            alternative: Some((3, "acid-a-1")),
        },
        Seen5To2 {
            stage: "leader on 4, -0 tagged nofailover, Patroni paused",
            facts: last().nofailover(0).pause(),
            rows_lost: 0,
            stopped_seconds: 199.8,
            denials: &["leader-cannot-move", "too-few-healthy-survivors", "paused"],
            warnings: &[],
            alternative: Some((3, "acid-a-1")),
        },
        Seen5To2 {
            stage: "leader on 4, WAL receivers of 0 and 1 stalled",
            facts: last().stalled([0, 1]),
            rows_lost: 496,
            stopped_seconds: 199.7,
            denials: &["leader-cannot-move", "too-few-healthy-survivors"],
            warnings: &["survivor-unhealthy"],
            alternative: Some((4, "acid-a-2")),
        },
        // Nothing in 100 s: the operator still waited. In another run it deleted the leader after
        // 50 s.
        Seen5To2 {
            stage: "leader on 4, Patroni of -0 frozen",
            facts: last().frozen(0),
            rows_lost: 0,
            stopped_seconds: 50.0,
            denials: &["leader-cannot-move", "too-few-healthy-survivors"],
            warnings: &["survivor-unhealthy"],
            alternative: Some((3, "acid-a-1")),
        },
    ];
    for row in rows {
        let Seen5To2 { stage, facts, .. } = &row;
        let harmless = row.rows_lost == 0 && row.stopped_seconds <= 5.0;
        let lowered = judged(facts, &lowered());
        assert!(harmless || !lowered.allows(), "{stage}: admitted, and it did harm");
        assert_eq!(denials_lowered(facts), row.denials, "{stage}");
        assert_eq!(warnings_lowered(facts), row.warnings, "{stage}");
        assert_eq!(denials(facts).contains(&LEADER_CONDEMNED), facts.leader_condemned(), "{stage}");
        let Some((to, leader)) = row.alternative else { continue };
        let way = Alternative { to, leader: Some(leader.to_owned()) };
        assert_eq!(alternative(facts, &Policies::default()), Some(way), "{stage}");
    }
}

/// A switchover that others have begun is not crossed by another one.
fn alternative_never_crosses_a_pending_switchover() {
    let mut facts = led_by_the_last(3).frozen(0);
    assert!(alternative(&facts, &Policies::default()).is_some());
    facts.failover = Seen::Known(PendingFailover {
        leader: Some("acid-a-4".into()),
        candidate: Some("acid-a-1".into()),
        scheduled: Some("2026-11-25T03:00:00Z".into()),
    });
    assert_eq!(alternative(&facts, &Policies::default()), None);
    assert_eq!(denials(&facts), ["leader-condemned"]);
    assert_eq!(denials_lowered(&facts), ["leader-cannot-move"]);
    assert!(warnings(&facts).contains(&"switchover-pending"));
}

fn moving_the_leader_cures_dangers_to_a_removed_leader() {
    let annotated = |facts: Facts| facts.with_annotation("a/restartedAt", "kubectl-rollout");
    let down = |mut facts: Facts| {
        if let Seen::Known(operator) = &mut facts.operator {
            operator.available = Some(false);
        }
        facts
    };
    let last = || led_by_the_last(3);
    for (rules, facts) in [
        (&["parallel-shrink"][..], last().in_parallel()),
        (&["leader-cannot-move", "replace-pending"], annotated(last())),
        (&["operator-absent"], down(last())),
        (&["will-not-progress"], last().with_member(2, |member| member.pod.ready = false)),
    ] {
        assert_eq!(denials(&facts), [LEADER_CONDEMNED], "{rules:?}");
        assert_eq!(denials_lowered(&facts), rules);
        let way = Alternative { to: 3, leader: Some("acid-a-0".into()) };
        assert_eq!(alternative(&facts, &Policies::default()), Some(way), "{rules:?}");
        let rule = rules.last().unwrap();
        // A cluster without an operator needs one first: the count would only be stored.
        let shown = text(rule, &facts).contains("this moves the leader to acid-a-0 first:");
        assert_eq!(shown, *rule != "operator-absent", "{rule}");
        assert_eq!(denials(&facts.led_by("acid-a-0")), Vec::<&str>::new(), "{rules:?}");
        assert!(warnings(&facts.led_by("acid-a-0")).contains(rule), "{rule} still tells");
    }
}

fn with_the_receivers_of_0_and_1_stalled_the_alternative_is_four() {
    let stalled = |to| led_by_the_last(to).stalled([0, 1]);
    assert_eq!(denials(&stalled(2)), ["leader-condemned", "too-few-healthy-survivors"]);
    assert_eq!(denials_lowered(&stalled(2)), ["leader-cannot-move", "too-few-healthy-survivors"]);
    assert_eq!(stalled(2).assess().best_survivor(), None);
    let way = alternative(&stalled(2), &Policies::default());
    assert_eq!(way, Some(Alternative { to: 4, leader: Some("acid-a-2".into()) }));
    assert_eq!(denials(&stalled(4).led_by("acid-a-2")), Vec::<&str>::new());
    assert_eq!(denials(&stalled(4)), ["leader-condemned"]);
    assert_eq!(denials_lowered(&stalled(4)), ["leader-cannot-move"]);
}

fn with_0_frozen_another_survivor_takes_the_lead() {
    let frozen = led_by_the_last(3).frozen(0);
    assert_eq!(denials(&frozen), ["leader-condemned"]);
    assert_eq!(denials_lowered(&frozen), ["leader-cannot-move"]);
    assert_eq!(frozen.assess().best_survivor().unwrap().name, "acid-a-1");
    let moved = frozen.led_by("acid-a-1");
    assert_eq!(denials(&moved), Vec::<&str>::new());
    assert_eq!(warnings(&moved), ["survivor-unhealthy"]);
    assert_eq!(
        alternative(&frozen, &Policies::default()),
        Some(Alternative { to: 3, leader: Some("acid-a-1".into()) })
    );
}

fn paused_with_0_unfit_is_denied() {
    let paused = led_by_the_last(3).pause().nofailover(0);
    assert_eq!(denials(&paused), ["leader-condemned"]);
    assert_eq!(denials_lowered(&paused), ["leader-cannot-move", "paused"]);
    assert_eq!(denials(&paused.led_by("acid-a-1")), Vec::<&str>::new());
}

fn synchronous_standbys_lead_before_better_placed_ones() {
    let facts = led_by_the_last(3).synchronous(&["acid-a-2"]);
    assert_eq!(denials(&facts), ["leader-condemned"]);
    assert_eq!(denials_lowered(&facts), ["leader-cannot-move"]);
    assert_eq!(facts.assess().best_survivor().unwrap().name, "acid-a-2");
    let moved = facts.led_by("acid-a-2");
    assert_eq!(denials(&moved), Vec::<&str>::new());
    assert_eq!(moved.sync.known().unwrap().standbys, ["acid-a-4"]);
}

fn growth_needs_no_live_answers() {
    let unasked = |from, to| {
        (0..from).fold(healthy(from, to), |facts, ordinal| {
            facts.with_member(ordinal, |member| member.live = Live::NotAsked)
        })
    };
    assert!(verdict(&unasked(3, 5)).findings.is_empty());
    assert!(!verdict(&unasked(5, 3)).allows(), "an annotation is not enough for a shrink");
}
