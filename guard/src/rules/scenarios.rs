//! What happened to real clusters, and what the guard says to it.

use crate::change::Direction;
use crate::facts::{Claim, Facts, Live, Repair, Seen};
use crate::patroni::{PendingFailover, State};
use crate::policy::Policies;
use crate::rules::testing::{healthy, led_by_the_last, lowered, text};
use crate::rules::{Alternative, LEADER_CONDEMNED, alternative, evaluate, rule};
use crate::verdict::Verdict;

fn verdict(facts: &Facts) -> Verdict {
    evaluate(facts, &Policies::default())
}

fn denials(facts: &Facts) -> Vec<&'static str> {
    verdict(facts).denials().map(|finding| finding.rule).collect()
}

fn warnings(facts: &Facts) -> Vec<&'static str> {
    verdict(facts).warnings().map(|finding| finding.rule).collect()
}

/// What is refused where the platform leaves the leader to the operator's own switchover.
fn denials_lowered(facts: &Facts) -> Vec<&'static str> {
    evaluate(facts, &lowered()).denials().map(|finding| finding.rule).collect()
}

/// What is warned of there, beside that the leader goes.
fn warnings_lowered(facts: &Facts) -> Vec<&'static str> {
    let verdict = evaluate(facts, &lowered());
    let rules = verdict.warnings().map(|finding| finding.rule);
    rules.filter(|rule| *rule != LEADER_CONDEMNED).collect()
}

/// What the bare operator did to a cluster of five under load, reduced to two by a plain patch (operator 2.0.1,
/// Patroni 4.1.5, PostgreSQL 15, asynchronous replication), and what the guard says to that patch where the platform
/// leaves the leader to the operator. By default every one of them that deletes the leader is refused.
struct Seen5To2 {
    stage: &'static str,
    facts: Facts,
    rows_lost: u32,
    stopped_seconds: f64,
    denials: &'static [&'static str],
    warnings: &'static [&'static str],
    alternative: Option<(i64, &'static str)>,
}

#[test]
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
        // The switchover to a named candidate is done in pause; should it fail, nobody takes over.
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
        // Nothing in 100 s: the operator still waited; in another run it deleted the leader after 50 s.
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
        let lowered = evaluate(facts, &lowered());
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
#[test]
fn no_way_out_moves_a_leader_that_somebody_else_moves() {
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

#[test]
fn what_is_only_dangerous_to_a_leader_that_goes_is_cured_by_moving_it() {
    let annotated = |facts: Facts| {
        facts.with_stateful_set(|set| {
            set.foreign_annotations = vec![("a/restartedAt".into(), "kubectl-rollout".into())];
        })
    };
    let down = |mut facts: Facts| {
        if let Seen::Known(operator) = &mut facts.operator {
            operator.available = Some(false);
        }
        facts
    };
    let last = || led_by_the_last(3);
    for (rules, facts) in [
        (&["parallel-shrink"][..], last().with_stateful_set(|set| set.parallel = true)),
        (&["leader-cannot-move", "replace-pending"], annotated(last())),
        (&["operator-absent"], down(last())),
        (&["will-not-progress"], last().with_member(2, |member| member.pod.ready = false)),
    ] {
        assert_eq!(denials(&facts), [LEADER_CONDEMNED], "{rules:?}");
        assert_eq!(denials_lowered(&facts), rules);
        let way = Alternative { to: 3, leader: Some("acid-a-0".into()) };
        assert_eq!(alternative(&facts, &Policies::default()), Some(way), "{rules:?}");
        let rule = rules.last().unwrap();
        // Who has no operator is told to bring it back: the count would only be stored.
        let shown = text(rule, &facts).contains("this moves the leader to acid-a-0 first:");
        assert_eq!(shown, *rule != "operator-absent", "{rule}");
        assert_eq!(denials(&facts.led_by("acid-a-0")), Vec::<&str>::new(), "{rules:?}");
        assert!(warnings(&facts.led_by("acid-a-0")).contains(rule), "{rule} still tells");
    }
}

#[test]
fn repairs_pass_whatever_the_operator_and_others_are_doing() {
    let mut facts = healthy(5, 4).stalled([4]).with_stateful_set(|set| {
        set.foreign_annotations = vec![("a".into(), "b".into())];
    });
    facts = facts.with_member(1, |member| member.pod.ready = false);
    facts.failover = Seen::Known(PendingFailover {
        leader: Some("acid-a-0".into()),
        candidate: None,
        scheduled: None,
    });
    facts.operator = Seen::Absent;
    let facts = (0..5).fold(facts.pause(), |facts, ordinal| {
        facts.with_member(ordinal, |member| member.pod.critical_operation = true)
    });
    assert_eq!(facts.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    assert!(verdict(&facts).allows(), "{:?}", denials(&facts));
    for rule in ["switchover-pending", "major-upgrade"] {
        let found = verdict(&facts).finding(rule).cloned().unwrap();
        assert!(found.severity_reason.is_some(), "{rule} would refuse it otherwise");
    }
}

#[test]
fn with_the_receivers_of_0_and_1_stalled_the_way_out_is_four() {
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

#[test]
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

#[test]
fn paused_with_0_unfit_is_denied() {
    let paused = led_by_the_last(3).pause().nofailover(0);
    assert_eq!(denials(&paused), ["leader-condemned"]);
    assert_eq!(denials_lowered(&paused), ["leader-cannot-move", "paused"]);
    assert_eq!(denials(&paused.led_by("acid-a-1")), Vec::<&str>::new());
}

#[test]
fn only_the_unfinished_member_may_go_during_a_base_backup() {
    assert_eq!(denials(&healthy(4, 5).cloning(3)), ["rebuild-in-progress"]);
    let keeps_it = healthy(5, 4).cloning(3);
    assert_eq!(denials(&keeps_it), ["rebuild-in-progress"]);
    assert!(text("rebuild-in-progress", &keeps_it).contains("acid-a-3"));
    let removes_it = healthy(4, 3).cloning(3);
    assert_eq!(
        (denials(&removes_it), warnings(&removes_it)),
        (vec![], vec!["rebuild-in-progress"])
    );
    assert_eq!(removes_it.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    assert!(verdict(&healthy(5, 4)).findings.is_empty(), "once it streams all pass");
}

#[test]
fn a_pod_pending_for_ever_does_not_block_the_way_back() {
    // OrderedReady: the pod after it was never created.
    let stuck = healthy(5, 3).pending(3).without(4);
    assert_eq!(stuck.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    assert!(verdict(&stuck).allows());
    // The same with a member that is behind, which the way back does not touch.
    assert!(verdict(&stuck.stalled([1, 2])).allows());
}

#[test]
fn a_change_that_a_stopped_operator_never_applied_can_be_cancelled() {
    // 5 to 2 was written while the operator was down; the StatefulSet still runs 5.
    let back = healthy(5, 5).with_count(2, 5);
    assert_eq!((back.direction(), back.assess().repair()), (Direction::Up, Some(Repair::Cancels)));
    assert!(verdict(&back).allows());
    assert!(verdict(&back.clone().cloning(3).pause()).allows());
    // 5 to 7 was written; going back to 5 is a shrink that shrinks nothing.
    let down = healthy(5, 5).with_count(7, 5).cloning(3).stalled([1, 2]);
    assert_eq!(
        (down.direction(), down.assess().repair()),
        (Direction::Down, Some(Repair::Cancels))
    );
    assert!(verdict(&down).allows());
    // A further shrink is none.
    assert!(denials(&healthy(5, 5).with_count(3, 2)).contains(&"change-not-applied"));
}

/// cases.md A21: a StatefulSet that was scaled past the operator is no licence to delete what still lives.
#[test]
fn a_stateful_set_scaled_by_another_writer_licenses_no_shrink() {
    // -0 is away, so the StatefulSet, scaled to 1, has deleted nothing yet.
    let scaled = |facts: Facts| facts.with_stateful_set(|set| set.replicas = 1);
    let led_by_2 = scaled(healthy(3, 1).with_leader(2).without(0));
    assert_eq!(led_by_2.assess().repair(), None);
    assert!(denials(&led_by_2).contains(&"leader-condemned"), "{:?}", denials(&led_by_2));
    let led_by_1 = scaled(healthy(3, 1).with_leader(1).without(0));
    assert!(!verdict(&led_by_1).allows());
    let lives = healthy(4, 2).stalled([1]).with_stateful_set(|set| set.replicas = 2);
    assert_eq!(lives.assess().repair(), None, "-2 and -3 live");
    assert_eq!(denials(&lives), ["too-few-healthy-survivors"]);
    let hidden = scaled(healthy(3, 1)).without_sight_of_members();
    assert_eq!(hidden.assess().repair(), None, "pods that cannot be listed may live");
    assert!(!verdict(&hidden).allows());
    // Once all of them end, nothing is decided by the count any more.
    let ends = |facts: Facts, ordinal| facts.with_member(ordinal, |it| it.pod.terminating = true);
    let ending = ends(ends(lives, 2), 3);
    assert_eq!(ending.assess().repair(), Some(Repair::Cancels));
    assert!(verdict(&ending).allows());
}

/// cases.md B1: 5 to 2 is stuck because -0 is gone, and the leader on -4 waits to be deleted. The way back was refused
/// with the remedy to wait, and waiting deletes the leader.
#[test]
fn the_way_back_from_a_stuck_shrink_is_never_refused() {
    let stuck =
        || healthy(5, 5).with_leader(4).without(0).with_stateful_set(|set| set.replicas = 2);
    let back = stuck().with_count(2, 5);
    assert_eq!(back.assess().repair(), Some(Repair::KeepsLeader));
    assert!(verdict(&back).allows(), "{:?}", denials(&back));
    assert!(warnings(&back).contains(&"rebuild-in-progress"));
    // The leader is safe, and the others that were to go still live.
    let led_by_1 = healthy(5, 5).with_leader(1).without(0);
    let back = led_by_1.with_stateful_set(|set| set.replicas = 2).with_count(2, 5);
    assert_eq!(back.assess().repair(), Some(Repair::AddsNothingNew));
    assert!(verdict(&back).allows());
    // -3 is gone already: the count makes it anew, and still keeps the leader.
    let back = stuck().without(3).with_count(2, 5);
    assert_eq!(back.assess().repair(), Some(Repair::KeepsLeader));
    assert!(verdict(&back).allows());
    // Without a leader to keep, a member that is made anew is no repair.
    let back = healthy(5, 5).without(0).without(3).with_stateful_set(|set| set.replicas = 2);
    assert_eq!(back.with_count(2, 5).assess().repair(), None);
    // More than there ever was is no way back.
    assert_eq!(stuck().with_count(2, 6).assess().repair(), None);
    assert_eq!(healthy(5, 6).cloning(4).assess().repair(), None);
}

#[test]
fn no_remedy_is_to_wait_where_waiting_deletes_the_leader() {
    // 3 does not keep the leader on -4, and is refused for that alone: every pod that it adds is there.
    let stuck = healthy(5, 5).with_leader(4).without(0).with_stateful_set(|set| set.replicas = 2);
    let too_few = stuck.with_count(2, 3);
    assert_eq!(denials(&too_few), ["leader-condemned"]);
    insta::assert_snapshot!(text("leader-condemned", &too_few), @"
    leader-condemned: acid-a-4 is the leader, and a count of 3 leaves its pod out: the operator deletes it with this write
      configmap/acid-a-leader: leader: acid-a-4
      statefulset/acid-a: spec.replicas: 2
      Try: move the leader first, then repeat the change:
          kubectl pgscale switchover acid-a --for 3 -n db
        without the plugin:
          kubectl exec -it acid-a-1 -n db -c postgres -- patronictl switchover acid-a --candidate acid-a-1
    ");
    insta::assert_snapshot!(text("rebuild-in-progress", &too_few.clone().without(2)), @"
    rebuild-in-progress: still being built: acid-a-0
      pod/acid-a-0: not there
      Try: do not wait, the leader acid-a-4 is about to be deleted
        keep it:
          kubectl pgscale set acid-a 5 -n db
    ");
    let remedies = verdict(&too_few.without(2)).findings.into_iter().filter_map(|it| it.remedy);
    for remedy in remedies.collect::<Vec<_>>() {
        assert!(!remedy.to_string().contains("pgscale wait"), "{remedy}");
    }
}

#[test]
fn what_is_no_repair() {
    for (name, facts) in vec![
        ("the leader goes, unhealthy as it is", led_by_the_last(4).frozen(4)),
        ("one of those that go is healthy", healthy(5, 3).stalled([4])),
        ("one of those that go is only silent", healthy(5, 4).frozen(4)),
        (
            "one of those that go is only silent, and another container of its pod is not there",
            healthy(5, 4).frozen(4).with_member(4, |it| it.pod.phase = "Pending".into()),
        ),
        (
            "one of those that go claims to lead",
            healthy(5, 4).with_member(4, |it| {
                it.pod.role = Some("master".into());
                it.pod.node_ready = Some(false);
            }),
        ),
        (
            "one of those that go is on a newer timeline",
            healthy(5, 4).with_answer(4, |it| it.timeline = Some(2)),
        ),
        ("nobody leads", {
            let mut facts = healthy(5, 4).stalled([4]);
            facts.leader = Seen::Absent;
            facts
        }),
        ("who leads is hidden", healthy(5, 4).stalled([4]).without_sight_of_the_lock()),
        ("a stranger leads", healthy(5, 4).stalled([4]).without(0)),
        ("the pods are hidden", healthy(5, 4).without_sight_of_members()),
        ("the allowed lag is hidden", {
            let mut facts = healthy(5, 4)
                .with_answer(4, |it| {
                    it.received = Some(4_000_000);
                    it.replayed = Some(1000);
                })
                .with_answer(0, |it| it.location = Some(4_000_000));
            facts.configuration = Seen::Unreadable("timed out".into());
            facts
        }),
        ("to zero", healthy(5, 5).with_count(2, 0).with_stateful_set(|set| set.replicas = 0)),
        ("growth is none by itself", healthy(3, 5)),
    ] {
        assert_eq!(facts.assess().repair(), None, "{name}");
    }
}

#[test]
fn what_is_a_repair() {
    let mut empty = (0..3).fold(healthy(3, 2), Facts::without);
    assert_eq!(empty.assess().repair(), Some(Repair::NothingRuns));
    empty = empty.with_stateful_set(|set| set.replicas = 0);
    assert_eq!(empty.clone().with_count(0, 3).assess().repair(), Some(Repair::NothingRuns));
    empty.claims = Seen::Unreadable("timed out".into());
    assert_eq!(empty.clone().with_count(0, 3).assess().repair(), Some(Repair::ReturnsFromZero));
    assert!(verdict(&empty.with_count(0, 3)).allows());
    for (name, facts) in [
        ("behind", healthy(5, 4).stalled([4])),
        (
            "on a lost node",
            healthy(5, 4).frozen(4).with_member(4, |it| it.pod.node_ready = Some(false)),
        ),
        (
            "ending already, and not asked for any more",
            healthy(5, 3)
                .stalled([3])
                .with_member(4, |it| it.pod.terminating = true)
                .with_stateful_set(|set| set.replicas = 4),
        ),
        (
            "ending on a lost node, for ever",
            healthy(5, 4).frozen(4).with_member(4, |it| {
                (it.pod.terminating, it.pod.node_ready) = (true, Some(false));
            }),
        ),
        ("never created", healthy(5, 4).without(4)),
        ("never created, and nobody else is fit", healthy(5, 4).without(4).stalled([1, 2, 3])),
        (
            "never created, its claim not bound, and nobody else is fit",
            bound(healthy(5, 4).without(4).stalled([1, 2, 3]), None),
        ),
        ("kept from being created, and others are fit", bound(healthy(5, 4).without(4), Some(1))),
    ] {
        assert_eq!(facts.assess().repair(), Some(Repair::RemovesUnhealthyOnly), "{name}");
        assert!(verdict(&facts.pause()).allows(), "{name}");
    }
}

/// After a failover: -0 leads on timeline 2, -1 has rows of timeline 1 that nobody else has, -2 follows.
#[test]
fn a_diverged_survivor_was_taken_for_as_far_as_the_good_copy_that_goes() {
    let standby = |facts: Facts, ordinal, timeline, position| {
        facts.with_answer(ordinal, |it| {
            it.timeline = Some(timeline);
            (it.received, it.replayed) = (Some(position), Some(position));
        })
    };
    let after = healthy(3, 2).with_answer(0, |it| it.timeline = Some(2));
    let good = standby(after, 2, 2, 900);
    let same_timeline = standby(good.clone(), 1, 2, 950);
    assert_eq!(same_timeline.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    for (name, facts) in [
        ("it has diverged", standby(good.clone(), 1, 1, 950)),
        ("it does not say on which timeline it is", {
            same_timeline.clone().with_answer(1, |it| it.timeline = None)
        }),
        (
            "it starts after pg_rewind",
            same_timeline.with_answer(1, |it| it.state = State::Starting),
        ),
    ] {
        assert_eq!(facts.assess().repair(), None, "{name}");
        let denied = denials(&facts);
        assert!(denied.contains(&"too-few-healthy-survivors"), "{name}: {denied:?}");
    }
}

/// The claims of all five members, with this room.
fn bound(mut facts: Facts, capacity: Option<u64>) -> Facts {
    let claim = |ordinal| {
        let name = format!("pgdata-acid-a-{ordinal}");
        Claim { name, ordinal, capacity, ..Claim::default() }
    };
    facts.claims = Seen::Known((0..5).map(claim).collect());
    facts
}

/// -1 is stalled, and -2, the only good standby, is being made anew by a rolling update or a drain.
#[test]
fn a_good_copy_whose_pod_was_made_anew_was_taken_for_an_unhealthy_one_or_for_nobody() {
    let facts = || bound(healthy(3, 2).stalled([1]), Some(1 << 30));
    let ending = facts().with_member(2, |it| it.pod.terminating = true);
    let stopped = ending.clone().frozen(2).with_member(2, |it| it.pod.containers_running = false);
    let mut blind = facts().without(2);
    blind.claims = Seen::Unreadable("forbidden".into());
    for (name, facts) in [
        ("ending", ending.clone()),
        ("its receiver has ended", ending.clone().with_answer(2, |it| it.replication_state = None)),
        ("stopping", ending.clone().with_answer(2, |it| it.state = State::of("stopping"))),
        ("stopped", stopped.clone()),
        ("gone", facts().without(2)),
        ("gone, and the StatefulSet is hidden", facts().without(2).without_sight_of_the_set()),
        ("gone, and the claims are hidden", blind),
    ] {
        assert_eq!(facts.assess().repair(), None, "{name}");
        let denied = denials(&facts);
        assert!(denied.contains(&"too-few-healthy-survivors"), "{name}: {denied:?}");
    }
    insta::assert_snapshot!(text("too-few-healthy-survivors", &facts().without(2)), @"
    too-few-healthy-survivors: acid-a-2 would go, and of the members that stay only 1 can be counted on; at least 2 must
      http://10.244.0.11:8008/patroni: acid-a-1: bytes behind the leader after a second: 600
      persistentvolumeclaim/pgdata-acid-a-2: may hold the data of: acid-a-2, which has no pod now
      Try: mend the members named here; to see when they are fit:
          kubectl pgscale status acid-a -n db
    ");
    // Where only the StatefulSet asks for fewer, it comes back with the operator's next sync.
    let lower = |facts: Facts| facts.with_count(4, 2).with_stateful_set(|set| set.replicas = 1);
    for facts in [lower(stopped), lower(facts().without(2))] {
        assert_eq!(facts.assess().repair(), None);
    }
}

#[test]
fn a_tempered_denial_says_why() {
    let facts = healthy(4, 3).stalled([3]).with_stateful_set(|set| set.observed_generation = 3);
    insta::assert_snapshot!(text("operation-in-progress", &facts), @"
    operation-in-progress: an operation on db/acid-a is not finished
      statefulset/acid-a: metadata.generation: 4; status.observedGeneration: 3
      (not refused: only members that are not healthy, and not the leader, go)
      Try:
          kubectl pgscale wait acid-a -n db
    ");
}

#[test]
fn hidden_limits_do_not_pass_a_shrink_off_as_growth() {
    let mut facts = healthy(5, 6).with_settings(|settings| {
        settings.max_instances = 3;
        settings.ignore_limits_annotation = Some("acid.zalan.do/ignore-limits".into());
    });
    if let Some(old) = &mut facts.change.old {
        old.annotations.insert("acid.zalan.do/ignore-limits".into(), "true".into());
    }
    assert_eq!((facts.from(), facts.to(), facts.direction()), (Some(5), 3, Direction::Down));
    facts.operator = Seen::Unreadable("timed out".into());
    assert_eq!((facts.direction(), denials(&facts)), (Direction::Down, vec!["operator-limits"]));
    // Nothing that switches limits is touched: growth stays growth.
    facts.change.old = Some(healthy(5, 6).change.new.with_instances(5));
    assert_eq!((facts.direction(), denials(&facts)), (Direction::Up, vec![]));
}

/// The settings were edited, and the operator was not started anew.
fn not_restarted(facts: Facts, min: i64, max: i64, stale: Option<bool>) -> Facts {
    let mut facts = facts.with_settings(|settings| {
        settings.min_instances = min;
        settings.max_instances = max;
    });
    if let Seen::Known(operator) = &mut facts.operator {
        operator.stale_settings = stale;
    }
    facts
}

#[test]
fn settings_the_operator_has_not_read_do_not_hide_a_shrink() {
    let seen = |facts: &Facts| (facts.from(), facts.to(), facts.direction());
    for stale in [Some(true), None] {
        // Lowered from 9 to 3: the operator that runs takes the cluster from 7 to 3 all the same.
        let lowered = not_restarted(healthy(7, 3).with_leader(6), -1, 3, stale);
        assert_eq!(seen(&lowered), (Some(7), 3, Direction::Down));
        assert_eq!(denials(&lowered), ["leader-condemned"]);
        assert_eq!(denials_lowered(&lowered.stalled([0])), ["leader-cannot-move"]);
        // Raised from -1 to 3: it goes to one instance.
        let raised = not_restarted(healthy(3, 1).with_leader(2), 3, -1, stale);
        assert_eq!(seen(&raised), (Some(3), 1, Direction::Down));
        assert!(denials(&raised).contains(&"leader-condemned"));
        assert!(denials_lowered(&raised.stalled([0])).contains(&"leader-cannot-move"));
        let outage = not_restarted(healthy(3, 0), 1, -1, stale);
        assert!(denials(&outage).contains(&"scale-to-zero"));
        // What runs by the limits in place is no change that was not applied.
        let limited = not_restarted(healthy(5, 4).with_count(7, 4), -1, 5, stale);
        assert_eq!(denials(&limited), Vec::<&str>::new());
        // Growth, and a count that stays, are what they were.
        assert_eq!(seen(&not_restarted(healthy(3, 5), -1, 9, stale)), (Some(3), 5, Direction::Up));
        assert_eq!(
            seen(&not_restarted(healthy(3, 5), -1, 2, stale)),
            (Some(2), 2, Direction::Same)
        );
        assert_eq!(
            seen(&not_restarted(healthy(1, 2), 3, -1, stale)),
            (Some(3), 3, Direction::Same)
        );
        assert_eq!(
            seen(&not_restarted(healthy(7, 7), -1, 3, stale)),
            (Some(3), 3, Direction::Same)
        );
    }
    let read = not_restarted(healthy(7, 3), -1, 3, Some(false));
    assert_eq!(seen(&read), (Some(3), 3, Direction::Same));
    // Not known is told as that, and excuses nothing.
    let unknown = not_restarted(healthy(9, 7), -1, 3, None);
    assert!(denials(&unknown).contains(&"operator-limits"));
    let told = rule("operator-limits").unwrap().looks_at(&unknown.assess(), &Policies::default());
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "postgresql/acid-a: numberOfInstances: 9 -> 7",
            "postgresql/acid-a: effective count by older or newer settings of the operator: 9 -> 3",
            "configmap default/postgres-operator: min_instances: -1",
            "configmap default/postgres-operator: max_instances: 3",
            "deployment default/postgres-operator: settings: perhaps edited after its pod started: its pods could \
             not be listed",
        ]
    );
}

#[test]
fn synchronous_standbys_lead_before_better_placed_ones() {
    let facts = led_by_the_last(3).synchronous(&["acid-a-2"]);
    assert_eq!(denials(&facts), ["leader-condemned"]);
    assert_eq!(denials_lowered(&facts), ["leader-cannot-move"]);
    assert_eq!(facts.assess().best_survivor().unwrap().name, "acid-a-2");
    let moved = facts.led_by("acid-a-2");
    assert_eq!(denials(&moved), Vec::<&str>::new());
    assert_eq!(moved.sync.known().unwrap().standbys, ["acid-a-4"]);
}

#[test]
fn growth_needs_no_live_answers() {
    let unasked = |from, to| {
        (0..from).fold(healthy(from, to), |facts, ordinal| {
            facts.with_member(ordinal, |member| member.live = Live::NotAsked)
        })
    };
    assert!(verdict(&unasked(3, 5)).findings.is_empty());
    assert!(!verdict(&unasked(5, 3)).allows(), "an annotation is not enough for a shrink");
}
