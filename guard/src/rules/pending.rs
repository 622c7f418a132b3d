//! What somebody else has begun: a switchover, a restart, a major upgrade.

use crate::change::Direction;
use crate::facts::{Facts, Live, Member, Seen};
use crate::patroni::PendingFailover;
use crate::policy::Policies;
use crate::postgresql::ordinal;
use crate::rules::{Kind, Rule, inside, members_unseen, readings, wait};
use crate::verdict::{Evidence, Finding, Outcome, Severity};

/// Annotation by which the operator remembers a major upgrade that failed (pkg/cluster/majorversionupgrade.go).
pub(super) const UPGRADE_FAILED: &str = "last-major-upgrade-failure";

pub(super) const SWITCHOVER_PENDING: Rule = Rule {
    id: "switchover-pending",
    title: "somebody has asked for a switchover that is not done yet",
    fires_on: "down, to 1 or more",
    default: "deny if immediate, or its candidate goes or is not named; else warn",
    kind: Kind::Live,
    page: "\
The leader is about to move, perhaps onto a member that this shrink deletes; and where two switchovers meet,
the one that comes first decides. The operator schedules them itself, for a node that is drained outside of the
maintenance window.

An immediate one is over within seconds: wait for it. A scheduled one is denied where its candidate is on an
ordinal that goes, or where it names none, so that Patroni may pick one that goes; else it is warned of.

Signals: the annotations leader, member and scheduled_at of `<cluster>-failover`. The object stays when nothing
is pending.

Blind spots: an immediate switchover shows for seconds only. One that is asked for after the reading is not
seen.

Way out: wait until it is done; a scheduled one can be withdrawn: `patronictl flush CLUSTER switchover`. Where
the leader has to move first, `kubectl pgscale down` waits for none: it refuses, too.

Upstream: manual_failover, patroni/dcs/kubernetes.py; scheduleSwitchover, pkg/cluster/pod.go.",
    reads: &[readings::failover],
    check: switchover_pending,
};

fn switchover_pending(facts: &Facts, _: &Policies) -> Outcome {
    if facts.direction() != Direction::Down || facts.to() < 1 {
        return Outcome::NotApplicable;
    }
    let pending = match &facts.failover {
        Seen::Absent => return Outcome::Pass,
        Seen::Known(pending) => pending,
        Seen::Unreadable(why) => {
            return Outcome::Unknown(format!(
                "whether a switchover is pending could not be read ({why})"
            ));
        }
    };
    let cluster = &facts.change.new;
    let stays = pending.candidate.as_deref().map(|candidate| {
        ordinal(&cluster.name, candidate).is_some_and(|ordinal| ordinal < facts.to())
    });
    let (severity, why) = match (&pending.scheduled, stays) {
        (None, _) => (Severity::Deny, "it is to happen now"),
        (Some(_), None) => (Severity::Deny, "it names no candidate, and may choose one that goes"),
        (Some(_), Some(false)) => (Severity::Deny, "its candidate would be deleted"),
        (Some(_), Some(true)) => (Severity::Warn, "its candidate stays"),
    };
    let finding = Finding::new(
        SWITCHOVER_PENDING.id,
        severity,
        format!("a switchover of {} is pending, and {why}", facts.change.cluster()),
    );
    let finding = finding.because(facts.patroni_source("failover"), told(pending));
    Outcome::Found(Finding { remedy: about_switchover(facts), ..finding })
}

/// What to do about a switchover that is pending, or may be; `None` where none is.
///
/// One that is scheduled waits for its time, and can be flushed. One that is not is done or dropped within a loop
/// of the leader (`process_manual_failover_from_leader`, patroni/ha.py), and `patronictl flush` does nothing
/// about it: "No pending scheduled switchover" (patroni/ctl.py).
pub fn about_switchover(facts: &Facts) -> Option<String> {
    let object = facts.patroni_source("failover");
    let cluster = &facts.change.new;
    let pending = match &facts.failover {
        Seen::Absent => return None,
        Seen::Known(pending) => pending,
        Seen::Unreadable(_) => return Some(format!("have {object} made readable")),
    };
    if pending.scheduled.is_some() {
        let flush = inside(facts, &format!("patronictl flush {} switchover --force", cluster.name));
        return Some(format!("wait until it is done, or withdraw it: {flush}"));
    }
    let fail_over = inside(facts, &format!("patronictl failover {}", cluster.name));
    // It asks who shall lead.
    let fail_over = fail_over.replacen("exec", "exec -it", 1);
    Some(format!(
        "run it again in some seconds: the leader does this switchover or drops it within a loop. If it stays, \
         nobody acts on it: choose who leads ({fail_over}), or remove it (kubectl annotate {object} leader- \
         member- -n {})",
        cluster.namespace
    ))
}

/// The annotations of a pending switchover.
pub(super) fn told(pending: &PendingFailover) -> String {
    [
        ("leader", &pending.leader),
        ("member", &pending.candidate),
        ("scheduled_at", &pending.scheduled),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(format!("{key}: {}", value.as_ref()?)))
    .collect::<Vec<_>>()
    .join(", ")
}

pub(super) const RESTART_PENDING: Rule = Rule {
    id: "restart-pending",
    title: "the operator restarts PostgreSQL together with this change",
    fires_on: "any change of the count, to 1 or more",
    default: "warn",
    kind: Kind::Live,
    page: "\
Members wait for a restart of PostgreSQL because a parameter was changed that needs one. The operator restarts
them with the next update of the cluster, whatever it is about, the leader included: a change of the count then
interrupts every connection to them.

Signals: `pending_restart` in the members' live answers, or in their annotation `status` where they were not
asked.

Blind spots: a parameter that this very write changes. An annotation may be a loop (10 s) old.

Way out: restart them first, at a time of your choosing: `patronictl restart CLUSTER --pending`.

Upstream: restartInstances, pkg/cluster/sync.go; #510 of zalando/postgres-operator.",
    reads: &[readings::restarts],
    check: restart_pending,
};

fn restart_pending(facts: &Facts, _: &Policies) -> Outcome {
    if !facts.changes_count() || facts.to() < 1 {
        return Outcome::NotApplicable;
    }
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let mut unknown = None;
    let mut evidence = Vec::new();
    for member in members {
        match waits_for_restart(member) {
            Ok(true) => evidence.push(Evidence::new(
                facts.witness(member),
                format!("{}: pending_restart", member.name),
            )),
            Ok(false) => {}
            Err(why) => unknown = Some(why),
        }
    }
    if evidence.is_empty() {
        return unknown.map_or(Outcome::Pass, Outcome::Unknown);
    }
    let mut finding = Finding::warn(
        RESTART_PENDING.id,
        format!(
            "{} of the members of {} wait for a restart of PostgreSQL, which the operator does with any \
             change",
            evidence.len(),
            facts.change.cluster()
        ),
    );
    finding.evidence = evidence;
    Outcome::Found(finding.remedy(format!(
        "restart them first: {}",
        inside(facts, &format!("patronictl restart {} --pending --force", facts.change.new.name))
    )))
}

/// `member` waits for a restart; the error says why nobody can tell.
fn waits_for_restart(member: &Member) -> Result<bool, String> {
    match (&member.live, &member.report) {
        (Live::Answered(answer), _) => Ok(answer.pending_restart),
        (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => Ok(report.pending_restart),
        // Without a Patroni that ever reported there is no PostgreSQL to restart.
        (Live::NotAsked | Live::Silent(_), Seen::Absent) => Ok(false),
        (Live::NotAsked | Live::Silent(_), Seen::Unreadable(why)) => {
            Err(format!("{} does not say whether it waits for a restart ({why})", member.name))
        }
    }
}

pub(super) const MAJOR_UPGRADE: Rule = Rule {
    id: "major-upgrade",
    title: "PostgreSQL is being upgraded to another major version, or that failed",
    fires_on: "any change of the count",
    default: "deny while it runs; warn after a failure",
    kind: Kind::Live,
    page: "\
During a major upgrade the operator's script counts the members and stops when their number is not the one it
expects; a member that comes or goes meanwhile leaves the cluster with data directories of two versions. After
one that failed, replicas may be left on the old version.

Signals: while it runs all pods carry the label `critical-operation: \"true\"` and Patroni is paused: each of
the two alone has other causes. After a failure the annotation `last-major-upgrade-failure` stays on the
postgresql object until one succeeds.

Blind spots: the seconds between the operator's decision and the labels. In a cluster of one member a person's
pause during its first base backup looks the same.

Way out: wait (`kubectl pgscale wait NAME`). After a failure, mend its cause and remove the annotation.

Upstream: majorVersionUpgrade, pkg/cluster/majorversionupgrade.go; inplace_upgrade.py of Spilo.",
    reads: &[readings::marks, readings::pause, readings::upgrade_failure],
    check: major_upgrade,
};

fn major_upgrade(facts: &Facts, _: &Policies) -> Outcome {
    if !facts.changes_count() {
        return Outcome::NotApplicable;
    }
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let marked = !members.is_empty() && members.iter().all(|member| member.pod.critical_operation);
    if marked {
        let why = match &facts.configuration {
            Seen::Known(configuration) if configuration.paused => {
                return Outcome::Found(running(facts, members));
            }
            Seen::Known(_) => None,
            Seen::Absent => Some("it is not there"),
            Seen::Unreadable(why) => Some(why.as_str()),
        };
        if let Some(why) = why {
            return Outcome::Unknown(format!(
                "all pods are labelled critical-operation, and Patroni's configuration could not be read \
                 ({why})"
            ));
        }
    }
    let cluster = &facts.change.new;
    let Some(failed) = cluster.annotations.get(UPGRADE_FAILED) else { return Outcome::Pass };
    Outcome::Found(
        Finding::warn(
            MAJOR_UPGRADE.id,
            format!(
                "the last major upgrade of {} failed: members may be on two versions",
                facts.change.cluster()
            ),
        )
        .because(format!("postgresql/{}", cluster.name), format!("{UPGRADE_FAILED}: {failed}"))
        .remedy(format!(
            "mend its cause, then kubectl annotate postgresql {} -n {} {UPGRADE_FAILED}-",
            cluster.name, cluster.namespace
        )),
    )
}

fn running(facts: &Facts, members: &[Member]) -> Finding {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    Finding::deny(
        MAJOR_UPGRADE.id,
        format!(
            "{} is being upgraded to another major version, which counts its members",
            facts.change.cluster()
        ),
    )
    .because(format!("pod/{}", names.join(", pod/")), "critical-operation: true")
    .because(facts.patroni_source("config"), "pause: true")
    .remedy(wait(facts))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rules::testing::{Want, healthy, table, text};

    #[test]
    pub(in crate::rules) fn switchover_pending() {
        let pending = |to, candidate: Option<&str>, scheduled: Option<&str>| {
            let mut facts = healthy(5, to);
            facts.failover = Seen::Known(PendingFailover {
                leader: Some("acid-a-0".into()),
                candidate: candidate.map(str::to_owned),
                scheduled: scheduled.map(str::to_owned),
            });
            facts
        };
        let time = Some("2026-11-25T03:00:00+00:00");
        let mut hidden = healthy(5, 3);
        hidden.failover = Seen::Unreadable("timed out".into());
        let mut growing = pending(3, Some("acid-a-1"), None);
        growing = growing.with_count(5, 6);
        table(
            "switchover-pending",
            vec![
                ("none", healthy(5, 3), Want::Pass),
                ("now", pending(3, Some("acid-a-1"), None), Want::Deny),
                ("now, to anyone", pending(3, None, None), Want::Deny),
                ("later, to one that stays", pending(3, Some("acid-a-2"), time), Want::Warn),
                ("later, to one that goes", pending(3, Some("acid-a-3"), time), Want::Deny),
                ("later, to anyone", pending(3, None, time), Want::Deny),
                ("later, to a stranger", pending(3, Some("acid-a-1-0"), time), Want::Deny),
                ("hidden", hidden, Want::Unknown),
                ("zero has its own rule", pending(0, None, None), Want::NotApplicable),
                ("growing", growing, Want::NotApplicable),
            ],
        );
        let id = "switchover-pending";
        insta::assert_snapshot!(text(id, &pending(3, Some("acid-a-1"), None)), @"
        switchover-pending: a switchover of db/acid-a is pending, and it is to happen now
          configmap/acid-a-failover: leader: acid-a-0, member: acid-a-1
          Try: run it again in some seconds: the leader does this switchover or drops it within a loop. If it stays, nobody acts on it: choose who leads (kubectl exec -it acid-a-0 -n db -c postgres -- patronictl failover acid-a), or remove it (kubectl annotate configmap/acid-a-failover leader- member- -n db)
        ");
        insta::assert_snapshot!(text(id, &pending(3, Some("acid-a-4"), time)), @"
        switchover-pending: a switchover of db/acid-a is pending, and its candidate would be deleted
          configmap/acid-a-failover: leader: acid-a-0, member: acid-a-4, scheduled_at: 2026-11-25T03:00:00+00:00
          Try: wait until it is done, or withdraw it: kubectl exec acid-a-0 -n db -c postgres -- patronictl flush acid-a switchover --force
        ");
    }

    #[test]
    pub(in crate::rules) fn restart_pending() {
        let waiting = |from, to| {
            healthy(from, to)
                .with_answer(0, |answer| answer.pending_restart = true)
                .with_answer(1, |answer| answer.pending_restart = true)
        };
        let reported = healthy(3, 5).with_member(2, |member| {
            member.live = Live::NotAsked;
            if let Seen::Known(report) = &mut member.report {
                report.pending_restart = true;
            }
        });
        let unreadable = |facts: Facts| {
            facts.with_member(1, |member| {
                member.live = Live::Silent("no answer in 1 s".into());
                member.report = Seen::Unreadable("not JSON".into());
            })
        };
        table(
            "restart-pending",
            vec![
                ("nobody waits", healthy(5, 3), Want::Pass),
                ("nobody waits, growing", healthy(3, 5), Want::Pass),
                ("two wait", waiting(5, 3), Want::Warn),
                ("two wait, growing", waiting(3, 5), Want::Warn),
                ("one reported so, and was not asked", reported, Want::Warn),
                ("one has not reported yet", healthy(5, 3).pending(2), Want::Pass),
                ("one cannot be heard", unreadable(healthy(5, 3)), Want::Unknown),
                ("two wait and one cannot be heard", unreadable(waiting(5, 3)), Want::Warn),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("zero has its own rule", waiting(5, 0), Want::NotApplicable),
                ("the count stays", waiting(3, 3), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("restart-pending", &waiting(3, 5)), @"
        restart-pending: 2 of the members of db/acid-a wait for a restart of PostgreSQL, which the operator does with any change
          http://10.244.0.10:8008/patroni: acid-a-0: pending_restart
          http://10.244.0.11:8008/patroni: acid-a-1: pending_restart
          Try: restart them first: kubectl exec acid-a-0 -n db -c postgres -- patronictl restart acid-a --pending --force
        ");
    }

    #[test]
    pub(in crate::rules) fn major_upgrade() {
        let marked = |from: i64, to| {
            (0..from).fold(healthy(from, to), |facts, ordinal| {
                facts.with_member(ordinal, |member| member.pod.critical_operation = true)
            })
        };
        let failed = |mut facts: Facts| {
            facts.change.new.annotations.insert(UPGRADE_FAILED.into(), "2026-11-20".into());
            facts
        };
        let unconfigured = |mut facts: Facts, configuration| {
            facts.configuration = configuration;
            facts
        };
        let hidden = || Seen::Unreadable("timed out".into());
        table(
            "major-upgrade",
            vec![
                ("none", healthy(5, 3), Want::Pass),
                ("it runs", marked(5, 3).pause(), Want::Deny),
                ("it runs, growing", marked(3, 5).pause(), Want::Deny),
                ("it runs, to zero", marked(3, 0).pause(), Want::Deny),
                ("paused by a person", healthy(5, 3).pause(), Want::Pass),
                ("all are marked, not paused", marked(5, 3), Want::Pass),
                (
                    "paused, one is cloned",
                    healthy(5, 3).pause().with_member(2, |it| it.pod.critical_operation = true),
                    Want::Pass,
                ),
                ("the last one failed", failed(healthy(5, 3)), Want::Warn),
                ("the last one failed, growing", failed(healthy(3, 5)), Want::Warn),
                ("the last one failed, another runs", failed(marked(5, 3).pause()), Want::Deny),
                ("configuration unreadable", unconfigured(healthy(5, 3), hidden()), Want::Pass),
                (
                    "all are marked, configuration unreadable",
                    unconfigured(marked(5, 3), hidden()),
                    Want::Unknown,
                ),
                (
                    "all are marked, configuration gone",
                    unconfigured(marked(5, 3), Seen::Absent),
                    Want::Unknown,
                ),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("the count stays", marked(3, 3).pause(), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("major-upgrade", &marked(3, 5).pause()), @"
        major-upgrade: db/acid-a is being upgraded to another major version, which counts its members
          pod/acid-a-0, pod/acid-a-1, pod/acid-a-2: critical-operation: true
          configmap/acid-a-config: pause: true
          Try: kubectl pgscale wait acid-a -n db
        ");
        insta::assert_snapshot!(text("major-upgrade", &failed(healthy(5, 3))), @"
        major-upgrade: the last major upgrade of db/acid-a failed: members may be on two versions
          postgresql/acid-a: last-major-upgrade-failure: 2026-11-20
          Try: mend its cause, then kubectl annotate postgresql acid-a -n db last-major-upgrade-failure-
        ");
    }
}
