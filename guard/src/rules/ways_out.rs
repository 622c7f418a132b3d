//! The remedies of denials: the first command is admitted, ends, and leads to no harm that the
//! denial warns of.

use proptest::collection::vec;
use proptest::prelude::*;

use super::endless::before_a_wait;
use super::generated::{facts, growths, hidden, hide, opinionated, shrinks};
use super::properties::seeded;
use super::testing::{healthy, judged, led_by_the_last, lowered, of_scenarios, of_tables};
use super::{after_switchover, critical_operation};
use crate::assessment::Assessment;
use crate::change::Change;
use crate::evaluate;
use crate::facts::{Facts, Health, Live, Seen, Waiting};
use crate::policy::Policies;
use crate::verdict::Finding;

/// Returns the reason why the first command of a denial is no way out. `None` where it is one.
fn harm(finding: &Finding, facts: &Facts, policies: &Policies) -> Option<String> {
    let Some(remedy) = &finding.remedy else { return Some("no remedy".to_owned()) };
    let Some(first) = remedy.commands.first() else {
        return remedy.note.is_none().then(|| "neither a command nor a note".to_owned());
    };
    let words: Vec<&str> = first.command.argv.iter().map(String::as_str).collect();
    let leads = |name: &str| facts.leader_name() == Some(name);
    match words.as_slice() {
        ["kubectl", "pgscale", "wait", ..] => {
            if let Some(doomed) = facts.doomed_leader() {
                return Some(format!("waiting deletes the leader {}", doomed.name));
            }
            let before = before_a_wait(finding.rule, facts);
            (!before.is_empty()).then(|| format!("waiting never ends without {before:?}"))
        }
        ["kubectl", "pgscale", "set" | "down" | "up", ..] => {
            let count = first.command.count()?;
            goes_wrong(facts, policies, count)
        }
        ["kubectl", "pgscale", "switchover", _, "--for", count, ..] => {
            let count = count.parse().unwrap();
            let there = with_count(facts, count)?;
            if Assessment::of(&there, policies).best_survivor().is_none() {
                return Some("no kept member can take over".to_owned());
            }
            goes_wrong(facts, policies, count)
        }
        // A note comes before the commands: this is the second way then, after a look.
        ["kubectl", "delete", ..] if remedy.note.is_some() => None,
        ["kubectl", "delete", "pvc", claims @ ..] => {
            let mut members = claims.iter().filter_map(|claim| claim.strip_prefix("pgdata-"));
            // A leader that holds the lock now is newer than any kept volume.
            let kept =
                facts.leader_member().is_none() || members.any(|name| facts.member(name).is_some());
            kept.then(|| "it may delete the newest data".to_owned())
        }
        ["kubectl", "delete", "pod", rest @ ..] => {
            let names: Vec<&str> =
                rest.iter().copied().take_while(|it| !it.starts_with('-')).collect();
            // The pod of a leader whose container has ended runs no PostgreSQL any more.
            let runs = |name: &str| facts.member(name).is_some_and(|it| it.pod.containers_running);
            if names.iter().any(|name| leads(name) && runs(name)) {
                return Some("it deletes the leader's pod".to_owned());
            }
            let lost =
                |name: &&str| facts.member(name).is_some_and(|it| it.pod.node_ready == Some(false));
            let forced = rest.contains(&"--force");
            (forced && !names.iter().all(lost)).then(|| "its node still answers".to_owned())
        }
        [.., "patronictl", "resume"] => {
            (!critical_operation(facts).is_empty()).then(|| "a major upgrade may run".to_owned())
        }
        [.., "patronictl", "switchover", _, "--candidate", name] => {
            let fit = facts.survivors().find(|it| it.name == *name).is_some_and(|member| {
                Assessment::of(facts, policies).takeover(member) == Health::Healthy
            });
            (!fit).then(|| format!("{name} is no fit member that is kept"))
        }
        _ => None,
    }
}

fn with_count(facts: &Facts, count: i64) -> Option<Facts> {
    let old = facts.change.old.clone()?;
    let mut there = facts.clone();
    there.change = Change { dry_run: true, ..Change::of_count(old, count) };
    Some(there)
}

/// Returns the reason why `kubectl pgscale` must not go to `count`: it is refused, or deletes the
/// leader.
fn goes_wrong(facts: &Facts, policies: &Policies, count: i64) -> Option<String> {
    let there = with_count(facts, count)?;
    let there = after_switchover(&there, policies);
    let verdict = evaluate(&there, policies);
    // Where a platform leaves the leader to the operator, leader-cannot-move has judged that.
    if there.deletes_leader() && verdict.finding("leader-condemned").is_none() {
        return Some(format!("{count} deletes the leader"));
    }
    let refused: Vec<&str> = verdict.denials().map(|finding| finding.rule.as_str()).collect();
    (!refused.is_empty()).then(|| format!("{count} is refused by {refused:?}"))
}

/// Returns every first command that is no way out.
fn harms(facts: &Facts, policies: &Policies) -> Vec<String> {
    let verdict = evaluate(facts, policies);
    let denials = verdict.denials();
    denials
        .filter_map(|denial| {
            harm(denial, facts, policies).map(|why| format!("{}: {why}: {denial}", denial.rule))
        })
        .collect()
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn first_command_of_every_denial_is_a_way_out(
        mut facts in prop_oneof![facts().boxed(), shrinks().boxed(), growths().boxed()],
        what in vec(hidden(), 0..2), policies in vec(opinionated(), 0..3), left_to_it in any::<bool>()
    ) {
        for what in &what {
            hide(&mut facts, what);
        }
        let policies = Policies::combine(&policies, &facts.change.new);
        let policies = if left_to_it { lowered() } else { policies };
        let harms = harms(&facts, &policies);
        prop_assert!(harms.is_empty(), "{harms:#?}");
    }
}

#[test]
fn first_command_of_every_denial_in_tables_and_scenarios_is_a_way_out() {
    // Other tests go through the same tables and their snapshots.
    let all = insta::allow_duplicates! { [of_tables(), of_scenarios()].concat() };
    let found: Vec<String> =
        all.into_iter().flat_map(|(facts, policies)| harms(&facts, &policies)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The states in which nothing goes on by itself, each with the command that comes before a wait.
#[test]
fn wait_is_never_the_first_command_where_it_would_not_end() {
    let crashing = |facts: Facts, ordinal| {
        facts.with_member(ordinal, |member| {
            member.pod.containers_running = false;
            member.pod.waiting = Some(Waiting {
                container: Some("postgres".into()),
                reason: Some("CrashLoopBackOff".into()),
                ..Waiting::default()
            });
            member.report = Seen::Absent;
            member.live = Live::Silent("connection refused".into());
        })
    };
    let down = |mut facts: Facts| {
        if let Seen::Known(operator) = &mut facts.operator {
            operator.available = Some(false);
        }
        facts
    };
    let absent = |mut facts: Facts| {
        facts.operator = Seen::Absent;
        facts
    };
    let leaderless = |mut facts: Facts| {
        facts.leader = Seen::Absent;
        facts
    };
    let ending = |facts: Facts| {
        facts.with_member(1, |it| (it.pod.terminating, it.pod.node_ready) = (true, Some(false)))
    };
    let last = |facts: Facts| facts.with_leader(0);
    for (name, facts, rule, first) in vec![
        (
            "OrderedReady behind a member that crashes",
            crashing(healthy(4, 5).without(3), 2),
            "rebuild-in-progress",
            "kubectl logs acid-a-2 -c postgres --previous -n db",
        ),
        (
            "a pod that finds no node",
            healthy(4, 5).pending(2).without(3),
            "rebuild-in-progress",
            "kubectl describe pod acid-a-2 -n db",
        ),
        (
            "Patroni paused while a member is built",
            healthy(4, 5).cloning(3).pause(),
            "rebuild-in-progress",
            "kubectl exec acid-a-0 -n db -c postgres -- patronictl resume",
        ),
        (
            "Patroni paused, and none leads",
            leaderless(healthy(3, 2)).pause(),
            "no-leader",
            "kubectl exec acid-a-0 -n db -c postgres -- patronictl resume",
        ),
        (
            "a change that an operator that is down has not applied",
            down(healthy(5, 2).with_count(3, 2)),
            "change-not-applied",
            "kubectl get deployment,pods -n default",
        ),
        (
            "a renewal by an operator that is down",
            down(healthy(5, 4).with_member(1, |it| it.pod.rolling_update_required = true)),
            "operation-in-progress",
            "kubectl get deployment,pods -n default",
        ),
        (
            "a pod on a lost node that never ends",
            ending(healthy(5, 4)),
            "operation-in-progress",
            "kubectl delete pod acid-a-1 --force --grace-period=0 -n db",
        ),
        (
            "a member that has been starting for two hours",
            healthy(4, 5).cloning(3).with_member(3, |it| {
                it.pod.started = Some("2026-11-24T08:00:00Z".parse().unwrap());
            }),
            "rebuild-in-progress",
            "kubectl logs acid-a-3 -c postgres --tail=100 -n db",
        ),
        (
            "a change that no operator applies",
            last(absent(healthy(5, 2).with_count(3, 2))),
            "change-not-applied",
            "kubectl edit configmap pgscale-operators -n kube-public",
        ),
        (
            "nothing is in the way",
            healthy(4, 5).cloning(3),
            "rebuild-in-progress",
            "kubectl pgscale wait acid-a -n db",
        ),
    ] {
        let verdict = judged(&facts, &Policies::default());
        let finding = verdict.finding(rule).unwrap_or_else(|| panic!("{name}: {verdict:?}"));
        let commands = &finding.remedy.as_ref().unwrap().commands;
        assert_eq!(commands[0].command.to_string(), first, "{name}: {finding}");
    }
    // A leader that is about to be deleted is kept first.
    let doomed = led_by_the_last(0).with_count(2, 3).cloning(1);
    assert!(!evaluate(&doomed, &Policies::default()).denials().any(|it| {
        it.remedy.as_ref().is_some_and(|it| it.to_string().contains("pgscale wait"))
    }));
}
