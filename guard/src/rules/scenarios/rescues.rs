//! Broken states, each with a way out that is printed and admitted.
//!
//! The states of `tests/e2e/ways_out.rs` and `tests/e2e/situations.rs`, where those commands run on
//! the real stack, and the states after the fact.

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::{bound, denials};
use crate::assessment::Assessment;
use crate::change::Change;
use crate::facts::{Claim, Facts, Live, Seen, Waiting};
use crate::object_ref::ObjectRef;
use crate::overrides::{Overrides, ScaleOverride};
use crate::patroni::{PendingFailover, State};
use crate::policy::{Limit, Mode, Policies};
use crate::rules::testing::{healthy, judged, led_by_the_last, now};
use crate::rules::{after_switchover, evaluate};

scenarios![
    members_that_do_not_start_can_be_given_up,
    members_that_fail_while_the_count_stays_have_a_way_out,
    counts_that_are_not_applied_can_be_taken_back,
    leaderless_cluster_has_a_way_back_to_a_leader,
    empty_database_that_leads_beside_the_rows_deletes_neither_volume,
    member_of_another_cluster_or_starting_for_days_blocks_no_way_back,
];

/// A broken state: the change that was tried, and the command that leads out of it.
struct Broken {
    name: &'static str,
    facts: Facts,
    policies: Policies,
    /// The printed way out, after `kubectl `.
    way: &'static str,
}

fn broken(name: &'static str, facts: Facts, way: &'static str) -> Broken {
    Broken { name, facts, policies: Policies::default(), way }
}

impl Broken {
    fn under(self, policies: Policies) -> Self {
        Self { policies, ..self }
    }

    /// Checks that the way out is printed, and that a count in it is admitted and keeps the leader.
    fn check(self) {
        let Self { name, facts, policies, way } = self;
        let verdict = judged(&facts, &policies);
        let printed: Vec<String> = (verdict.findings.iter())
            .filter_map(|finding| finding.remedy.as_ref())
            .flat_map(|remedy| &remedy.commands)
            .map(|suggested| suggested.command.to_string())
            .collect();
        let command = format!("kubectl {way}");
        assert!(printed.contains(&command), "{name}: {command}\n{printed:#?}\n{verdict:#?}");
        let words: Vec<&str> = way.split(' ').collect();
        if let ["pgscale", "set" | "up" | "down", rest @ ..] = words.as_slice() {
            let count = rest.iter().find_map(|word| word.parse().ok()).unwrap();
            admits(name, &facts, &policies, count);
        }
    }
}

fn check(states: Vec<Broken>) {
    states.into_iter().for_each(Broken::check);
}

/// Checks that `kubectl pgscale` may go to `count`, and that this deletes no leader.
fn admits(name: &str, facts: &Facts, policies: &Policies, count: i64) {
    let mut there = facts.clone();
    there.change = Change::of_count(facts.change.old.clone().unwrap(), count);
    let there = after_switchover(&there, policies);
    let verdict = evaluate(&there, policies);
    assert!(verdict.allows(), "{name}: {count}: {:#?}", verdict.denials().collect::<Vec<_>>());
    assert!(!there.deletes_leader(), "{name}: {count} deletes the leader");
}

/// Stops the container of a member: it ended with `reason`.
fn stopped(facts: Facts, ordinal: i64, reason: &str) -> Facts {
    let waiting = Waiting {
        container: Some("postgres".into()),
        reason: Some(reason.into()),
        ..Waiting::default()
    };
    facts.with_member(ordinal, |member| {
        member.pod.containers_running = false;
        member.pod.waiting = Some(waiting);
        member.live = Live::Silent("connection refused".into());
    })
}

/// The same for a member that never reported anything.
fn never_started(facts: Facts, ordinal: i64, reason: &str) -> Facts {
    stopped(facts, ordinal, reason).with_member(ordinal, |member| {
        member.report = Seen::Absent;
        member.pod.phase = "Pending".into();
    })
}

fn lost(facts: Facts, ordinal: i64) -> Facts {
    facts.frozen(ordinal).with_member(ordinal, |member| member.pod.node_ready = Some(false))
}

fn expired(mut facts: Facts) -> Facts {
    if let Seen::Known(lock) = &mut facts.leader {
        lock.renewed = Some(now() - SignedDuration::from_mins(10));
    }
    facts
}

fn operator_down(mut facts: Facts) -> Facts {
    if let Seen::Known(operator) = &mut facts.operator {
        operator.available = Some(false);
    }
    facts
}

fn members_that_do_not_start_can_be_given_up() {
    let four = || healthy(4, 5);
    let lowered_meanwhile = healthy(4, 6).with_count(5, 6);
    check(vec![
        broken("a pod that finds no node", four().pending(3), "pgscale set acid-a 3 -n db"),
        broken(
            "a base backup that fails for ever",
            four().cloning(3),
            "pgscale set acid-a 3 -n db",
        ),
        broken(
            "an image that cannot be pulled",
            never_started(four(), 3, "ImagePullBackOff"),
            "pgscale set acid-a 3 -n db",
        ),
        broken(
            "a container that crashes over and over",
            never_started(four(), 3, "CrashLoopBackOff"),
            "pgscale set acid-a 3 -n db",
        ),
        broken(
            "a quota that was lowered meanwhile",
            lowered_meanwhile.with_stateful_set(|set| set.replicas = 5),
            "pgscale set acid-a 4 -n db",
        ),
        broken(
            "two members that do not start",
            four().pending(2).without(3),
            "pgscale set acid-a 2 -n db",
        ),
        broken(
            "OrderedReady behind a member in the middle that crashes",
            never_started(four().without(2).without(3), 1, "CrashLoopBackOff"),
            "logs acid-a-1 -c postgres --previous -n db",
        ),
    ]);
}

fn members_that_fail_while_the_count_stays_have_a_way_out() {
    let pending = PendingFailover {
        leader: Some("acid-a-0".into()),
        candidate: Some("acid-a-2".into()),
        scheduled: Some("2026-11-25T03:00:00Z".into()),
    };
    let mut scheduled = healthy(3, 2);
    scheduled.failover = Seen::Known(pending);
    let dead = lost(healthy(3, 2), 2).with_member(2, |it| it.pod.role = Some("master".into()));
    let ends = |facts: Facts| lost(facts, 1).with_member(1, |it| it.pod.terminating = true);
    let renewed = healthy(3, 2).with_member(1, |it| it.pod.rolling_update_required = true);
    let diverged = stopped(healthy(4, 2).with_leader(3), 0, "Completed").with_member(0, |it| {
        if let Seen::Known(report) = &mut it.report {
            report.state = State::of("stopped");
            report.replication_state = None;
        }
    });
    check(vec![
        broken(
            "the leader on the highest ordinal, and -0 stopped",
            diverged,
            "delete pod acid-a-0 -n db",
        ),
        broken(
            "a switchover for tomorrow to a member that is removed",
            scheduled,
            "exec acid-a-0 -n db -c postgres -- patronictl flush acid-a switchover --force",
        ),
        broken(
            "a dead leader whose pod still says that it leads",
            dead,
            "delete pod acid-a-2 --force --grace-period=0 -n db",
        ),
        broken(
            "the leader on the highest ordinal, and -0 only looks alive",
            led_by_the_last(3).frozen(0),
            "pgscale switchover acid-a --for 3 -n db",
        ),
        broken(
            "a kept pod on a lost node that ends for ever",
            ends(healthy(5, 4)),
            "delete pod acid-a-1 --force --grace-period=0 -n db",
        ),
        broken("pods that the operator renews", renewed.clone(), "pgscale wait acid-a -n db"),
        broken(
            "pods that an operator that is down was to renew",
            operator_down(renewed),
            "scale deployment/postgres-operator --replicas=1 -n default",
        ),
        broken(
            "a member is built while Patroni is paused",
            healthy(4, 5).cloning(3).pause(),
            "exec acid-a-0 -n db -c postgres -- patronictl resume",
        ),
    ]);
    // Removing only what is broken passes as it is.
    let ending =
        Claim { name: "pgdata-acid-a-2".into(), ordinal: 2, terminating: true, ..Claim::default() };
    let mut deleted = healthy(3, 2);
    deleted.claims = Seen::Known(vec![ending]);
    for (name, facts) in [
        ("a lost node", lost(healthy(3, 2), 2)),
        ("no synchronous standby", healthy(3, 2).synchronous(&[]).stalled([1, 2])),
        ("a volume that is being deleted", deleted),
    ] {
        assert_eq!(denials(&facts), Vec::<&str>::new(), "{name}");
    }
}

fn counts_that_are_not_applied_can_be_taken_back() {
    let limit = |value| Limit { value, source: ObjectRef::policy("bounds"), mode: Mode::Enforce };
    let too_few = Policies { min: vec![limit(3)], ..Policies::default() };
    let too_many = Policies { max: vec![limit(2)], ..Policies::default() };
    let limited = healthy(3, 4).with_settings(|settings| settings.max_instances = 2);
    let mut asleep = healthy(0, 1);
    asleep.last_leader = Seen::Known("acid-a-1".into());
    asleep.leader = Seen::Absent;
    asleep.claims = Seen::Known(
        (0..2)
            .map(|ordinal| Claim {
                name: format!("pgdata-acid-a-{ordinal}"),
                ordinal,
                capacity: Some(1 << 30),
                ..Claim::default()
            })
            .collect(),
    );
    let annotated = led_by_the_last(3).with_stateful_set(|set| {
        set.foreign_annotations = vec![("a/b".into(), "kubectl".into())];
    });
    check(vec![
        broken(
            "a shrink that was not applied",
            operator_down(healthy(3, 1).with_count(2, 1)),
            "pgscale set acid-a 3 -n db",
        ),
        broken(
            "growth that was not applied",
            operator_down(healthy(3, 6).with_count(5, 6)),
            "pgscale set acid-a 3 -n db",
        ),
        broken("a count over the operator's limit", limited, "pgscale set acid-a 2 -n db"),
        broken("a count below the minimum", healthy(2, 1), "pgscale set acid-a 3 -n db")
            .under(too_few),
        broken("a count over the maximum", healthy(3, 4), "pgscale set acid-a 2 -n db")
            .under(too_many),
        broken(
            "no instances, and a volume would be left out",
            asleep,
            "pgscale set acid-a 2 -n db",
        ),
        broken(
            "a StatefulSet that will be replaced, with the leader on top",
            annotated,
            "pgscale switchover acid-a --for 3 -n db",
        ),
        broken(
            "a stuck shrink whose leader waits to be deleted",
            healthy(5, 5)
                .with_leader(4)
                .without(0)
                .without(2)
                .with_stateful_set(|set| set.replicas = 2)
                .with_count(2, 3),
            "pgscale set acid-a 5 -n db",
        ),
    ]);
}

/// paused, 0 to 3 was admitted, and no member takes the lead.
fn leaderless_cluster_has_a_way_back_to_a_leader() {
    let waiting = |facts: Facts| {
        (0..3).fold(expired(facts), |facts, ordinal| {
            facts.with_answer(ordinal, |answer| answer.state = State::of("stopped"))
        })
    };
    let resume = "exec acid-a-0 -n db -c postgres -- patronictl resume";
    for to in [1, 2, 4] {
        let paused = waiting(healthy(3, to)).pause();
        broken("paused, and no member ever led", paused.clone(), resume).check();
        // Every finding that is about waiting for a leader says so first.
        let verdict = judged(&paused, &Policies::default());
        let finding = verdict.finding("no-leader").unwrap();
        let first = &finding.remedy.as_ref().unwrap().commands[0].command;
        assert_eq!(first.to_string(), format!("kubectl {resume}"));
    }
    // While a major upgrade may run, a resumed Patroni would do harm.
    let upgraded = (0..3).fold(waiting(healthy(3, 4)).pause(), |facts, ordinal| {
        facts.with_member(ordinal, |member| member.pod.critical_operation = true)
    });
    let verdict = judged(&upgraded, &Policies::default());
    for finding in &verdict.findings {
        let text = finding.to_string();
        assert!(!text.contains("patronictl resume"), "{text}");
    }
}

/// -1 leads an empty database, and -0 with the rows ends with "system ID
/// mismatch". Only -0's volume has the rows.
fn empty_database_that_leads_beside_the_rows_deletes_neither_volume() {
    let state = |to| {
        let both = bound(healthy(2, to).with_leader(1), Some(1 << 30));
        let mut facts = stopped(both, 0, "CrashLoopBackOff");
        if let Seen::Known(claims) = &mut facts.claims {
            claims.truncate(2);
        }
        facts
    };
    for to in [1, 3] {
        let verdict = judged(&state(to), &Policies::default());
        for finding in &verdict.findings {
            let text = finding.to_string();
            assert!(!text.contains("delete pvc"), "{to}: {text}");
            assert!(
                !text.contains("pgscale wait") || text.contains("kubectl logs acid-a-0"),
                "{text}"
            );
        }
    }
    // The shrink that keeps the rows is refused, and says where to look. Then one override lets
    // it pass (the page of dcs-store-changing has the whole way).
    let shrink = state(1);
    assert!(denials(&shrink).contains(&"leader-condemned"), "{:?}", denials(&shrink));
    broken("an empty database leads", shrink.clone(), "logs acid-a-0 -c postgres --previous -n db")
        .check();
    let verdict = judged(&shrink, &Policies::default());
    let refused = verdict.denials().chain(&verdict.folded);
    let rules: Vec<&str> = refused.map(|finding| finding.rule.as_str()).collect();
    let granted: ScaleOverride = serde_json::from_value(json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
        "metadata": {"namespace": "db", "name": "rescue", "creationTimestamp": now()},
        "spec": {"cluster": "acid-a", "clusterUid": "u1", "to": 1, "rules": rules,
            "reason": "acid-a-1 leads an empty database",
            "expiresAt": now() + SignedDuration::from_hours(1)},
    }))
    .unwrap();
    let overrides = Overrides::of(vec![granted], "acid-a");
    let lifted = Policies { overrides, ..Policies::default() };
    let verdict = judged(&shrink, &lifted);
    assert!(verdict.allows(), "{:?}", verdict.denials().collect::<Vec<_>>());
    // Once -0 leads, the member of the other cluster goes without a question, and a new one comes.
    let rescued = stopped(healthy(2, 1), 1, "CrashLoopBackOff");
    assert_eq!(denials(&rescued), Vec::<&str>::new());
    assert_eq!(denials(&healthy(1, 2)), Vec::<&str>::new());
}

fn member_of_another_cluster_or_starting_for_days_blocks_no_way_back() {
    let foreign = |to| stopped(healthy(3, to), 2, "CrashLoopBackOff");
    assert_eq!(denials(&foreign(2)), Vec::<&str>::new(), "it may go");
    let days = now() - SignedDuration::from_hours(72);
    let starting =
        |to| healthy(3, to).cloning(2).with_member(2, |member| member.pod.started = Some(days));
    assert_eq!(denials(&starting(2)), Vec::<&str>::new(), "it may go");
    let grown = judged(&starting(4), &Policies::default());
    for finding in grown.findings.iter().filter(|it| it.rule.as_str() == "rebuild-in-progress") {
        let first = &finding.remedy.as_ref().unwrap().commands[0].command;
        assert_eq!(first.to_string(), "kubectl logs acid-a-2 -c postgres --tail=100 -n db");
    }
    assert!(Assessment::of(&starting(2), &Policies::default()).repair().is_some());
}
