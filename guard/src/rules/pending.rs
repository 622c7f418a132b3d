//! The work that others have begun: a switchover, a restart, a major upgrade.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Facts, Live, Member, Seen};
use crate::operator::upgrade::UPGRADE_FAILED;
use crate::patroni::{PendingFailover, State};
use crate::policy::Policies;
use crate::postgresql::ordinal;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE, DOWN};
use crate::rules::reads::{self, Read};
use crate::rules::{
    Kind, Rule, critical_operation, inputs, inside, inside_asking, kubectl, last_word,
    members_unseen, status, unread, until_unmarked,
};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const SWITCHOVER_PENDING: Rule = Rule {
    id: RuleId::SWITCHOVER_PENDING,
    title: "a switchover was requested and is not done yet",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "deny if immediate, or its candidate is removed or is not named; else warn",
    kind: Kind::Live,
    page: "\
The leader is about to move, perhaps onto a member that this shrink deletes; and where two switchovers meet,
the one that comes first decides. The operator schedules them itself, for a node that is drained outside of
the maintenance window.

An immediate one is over within seconds: wait for it. A scheduled one is denied where its candidate is on an
ordinal that goes, or where it names none, so that Patroni may pick a removed one; else it is warned of.

Signals: the annotations leader, member and scheduled_at of `<cluster>-failover`. The object stays when
nothing is pending.

Blind spots: an immediate switchover shows for seconds only. One that is asked for after the reading is not
seen.

Way out: wait until it is done, or withdraw a scheduled one. Where the leader has to move first, `kubectl
pgscale down NAME` waits for none: it refuses, too. The first command shows it, the second withdraws it:

    kubectl exec NAME-0 -n NAMESPACE -c postgres -- patronictl list
    kubectl exec NAME-0 -n NAMESPACE -c postgres -- patronictl flush NAME switchover --force

Upstream: manual_failover, patroni/dcs/kubernetes.py; scheduleSwitchover, pkg/cluster/pod.go.",
    reads: &[inputs::failover],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Answers, Read::Leader, Read::Failover]),
    check: switchover_pending,
    #[cfg(any(test, feature = "testing"))]
    table: tests::switchover_pending,
};

fn switchover_pending(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let pending = match &facts.failover {
        Seen::Absent => return Outcome::Pass,
        Seen::Known(pending) => pending,
        Seen::Unreadable(why) => return unread("whether a switchover is pending", why),
    };
    let cluster = &facts.change.new;
    let stays = pending.candidate.as_deref().map(|candidate| {
        ordinal(&cluster.name, candidate).is_some_and(|ordinal| ordinal < facts.to())
    });
    let (severity, why) = match (&pending.scheduled, stays) {
        (None, _) => (Severity::Deny, "it is to happen now"),
        (Some(_), None) => {
            (Severity::Deny, "it names no candidate, and may choose a removed member")
        }
        (Some(_), Some(false)) => (Severity::Deny, "its candidate would be deleted"),
        (Some(_), Some(true)) => (Severity::Warn, "its candidate is kept"),
    };
    let finding = Finding::new(
        SWITCHOVER_PENDING.id,
        severity,
        format!("a switchover of {} is pending, and {why}", facts.change.cluster()),
    );
    let evidence = annotations(facts, pending);
    Outcome::Found(Finding { remedy: about_switchover(facts), evidence, ..finding })
}

/// Returns the remedy for a switchover that is pending, or may be. `None` where none is pending.
///
/// A scheduled switchover waits for its time, and can be flushed. Patroni does or drops any other
/// one within a loop of the leader (`process_manual_failover_from_leader`, patroni/ha.py), and
/// `patronictl flush` has no effect on that one: "No pending scheduled switchover"
/// (patroni/ctl.py).
pub fn about_switchover(facts: &Facts) -> Option<Remedy> {
    let object = facts.patroni_source("failover");
    let cluster = &facts.change.new;
    let pending = match &facts.failover {
        Seen::Absent => return None,
        Seen::Known(pending) => pending,
        Seen::Unreadable(_) => return Some(Remedy::note(format!("have {object} made readable"))),
    };
    if pending.scheduled.is_some() {
        let flush = ["patronictl", "flush", &cluster.name, "switchover", "--force"];
        let why = "wait until it is done, or withdraw it";
        return Some(Remedy::to(why, inside(facts, &flush)));
    }
    // The command asks for the new leader.
    let fail_over = inside_asking(facts, &["patronictl", "failover", &cluster.name]);
    let remove = kubectl(facts, &["annotate", &object.argument(), "leader-", "member-"]);
    let note =
        "run it again in some seconds: the leader does this switchover or drops it within a loop";
    Some(
        Remedy::note(note)
            .or_to("if it stays, no leader is there to act on it", status(facts))
            .or_to("then remove it", remove)
            .or_to("last resort: rows that the chosen member has not received are lost", fail_over),
    )
}

/// Returns the annotations of a pending switchover.
pub(super) fn annotations(facts: &Facts, pending: &PendingFailover) -> Vec<Evidence> {
    let object = || facts.patroni_source("failover");
    [
        ("leader", &pending.leader),
        ("member", &pending.candidate),
        ("scheduled_at", &pending.scheduled),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(Evidence::new(object(), key, value.as_ref()?)))
    .collect()
}

pub(super) const RESTART_PENDING: Rule = Rule {
    id: RuleId::RESTART_PENDING,
    title: "the operator restarts PostgreSQL together with this change",
    applies: Applies::on(&[CHANGE.to_at_least(1)]),
    default: "warn",
    kind: Kind::Live,
    page: "\
Members wait for a restart of PostgreSQL because a parameter was changed that needs one. The operator
restarts them with the next update of the cluster, whatever it is about, the leader included: a change of
the count then interrupts every connection to them.

Signals: `pending_restart` in the members' live answers, or in their annotation `status` where they were not
asked.

Blind spots: a parameter that this very write changes. An annotation may be a loop (10s) old.

Way out: restart them first, at a time of your choosing. Clients of a member are cut off while it restarts:

    kubectl exec -it NAME-0 -n NAMESPACE -c postgres -- patronictl restart NAME --pending
    kubectl pgscale wait NAME -n NAMESPACE

Upstream: restartInstances, pkg/cluster/sync.go; #510 of zalando/postgres-operator.",
    reads: &[inputs::restarts],
    needs: reads::COUNT.and(&[Read::Pods, Read::Answers]),
    check: restart_pending,
    #[cfg(any(test, feature = "testing"))]
    table: tests::restart_pending,
};

fn restart_pending(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let mut unknown = None;
    let mut evidence = Vec::new();
    for member in members {
        match waits_for_restart(member) {
            Ok(true) => evidence.push(facts.quote(member, "pending_restart", true)),
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
    let restart = ["patronictl", "restart", &facts.change.new.name, "--pending"];
    Outcome::Found(finding.remedy(Remedy::to(
        "at a time when connections may be cut (the leader restarts too)",
        inside_asking(facts, &restart),
    )))
}

/// Returns whether `member` waits for a restart. The error says why that is unknown.
fn waits_for_restart(member: &Member) -> Result<bool, String> {
    match last_word(member, |answer| answer.pending_restart, |report| report.pending_restart) {
        Seen::Known(waits) => Ok(waits),
        // Without a Patroni that ever reported there is no PostgreSQL to restart.
        Seen::Absent => Ok(false),
        Seen::Unreadable(why) => {
            Err(format!("{} does not say whether it waits for a restart ({why})", member.name))
        }
    }
}

pub(super) const MAJOR_UPGRADE: Rule = Rule {
    id: RuleId::MAJOR_UPGRADE,
    title: "PostgreSQL is being upgraded to another major version, or that failed",
    applies: Applies::on(&[CHANGE]),
    default: "deny while it runs; warn after a failure",
    kind: Kind::Live,
    page: "\
During a major upgrade the operator's script counts the members and stops when their number is not the one it
expects; a member that comes or goes meanwhile leaves the cluster with data directories of two versions. After
one that failed, replicas may be left on the old version.

Signals: while it runs all pods carry the label `critical-operation: \"true\"` and Patroni is paused: each
of the two alone has other causes. Before the script pauses Patroni the label alone counts, where there are
two members or more and the leader runs an older version than the manifest declares. After a failure the
annotation `last-major-upgrade-failure` stays on the postgresql object until one succeeds.

Blind spots: the seconds between the operator's decision and the labels; until the pause also an upgrade
past what the manifest declares (major_version_upgrade_mode full). In a cluster of one member a person's
pause during its first base backup looks the same.

Way out: wait until no pod carries the label any more. An operator that was stopped in an upgrade leaves its
labels: where its log shows no upgrade that runs, remove them. After a failure, mend its cause and remove the
annotation, which the finding names.

    kubectl get pods -n NAMESPACE -l cluster-name=NAME -L critical-operation
    kubectl label pods -n NAMESPACE -l cluster-name=NAME critical-operation-

Upstream: majorVersionUpgrade, pkg/cluster/majorversionupgrade.go; inplace_upgrade.py of Spilo.",
    reads: &[
        inputs::marks,
        inputs::pause,
        inputs::upgrade_failure,
        inputs::leader,
        inputs::answers,
    ],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Answers, Read::Leader, Read::Configuration]),
    check: major_upgrade,
    #[cfg(any(test, feature = "testing"))]
    table: tests::major_upgrade,
};

fn major_upgrade(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let marked = !members.is_empty() && members.iter().all(|member| member.pod.critical_operation);
    if marked {
        let why = match &facts.configuration {
            Seen::Known(configuration) if configuration.paused => {
                return Outcome::Found(running(facts));
            }
            Seen::Known(_) => match begins(facts, members) {
                Ok(None) => None,
                Ok(Some(finding)) => return Outcome::Found(finding),
                Err(why) => return Outcome::Unknown(why),
            },
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
        .because(facts.postgresql_source(), &format!("annotation {UPGRADE_FAILED}"), failed)
        .remedy(Remedy::to(
            "find the cause in the operator's log and mend it. Only then remove the mark, after which the operator \
             may try the upgrade again",
            kubectl(
                facts,
                &["annotate", "postgresql", &cluster.name, &format!("{UPGRADE_FAILED}-")],
            ),
        )),
    )
}

/// Returns the finding where all members are marked, and Patroni is not paused yet: the operator
/// marks them before it runs the script.
///
/// A cluster whose members are marked for another reason runs the declared version, and while a
/// first leader is made no PostgreSQL runs. The error says why the state is unknown.
fn begins(facts: &Assessment<'_>, members: &[Member]) -> Result<Option<Finding>, String> {
    // The operator acts on the stored object, and not on the changes of this write.
    let stored = facts.change.old.as_ref().unwrap_or(&facts.change.new);
    let version = stored.spec.pointer("/postgresql/version").and_then(serde_json::Value::as_str);
    let Some(declared) = version.and_then(|version| version.parse::<u64>().ok()) else {
        return Ok(None);
    };
    if members.len() < 2 {
        return Ok(None);
    }
    let printed = "all pods are labelled critical-operation, and which version runs is not known";
    if let Seen::Unreadable(why) = &facts.leader {
        return Err(format!("{printed}: the leader lock could not be read ({why})"));
    }
    let Some(leader) = facts.leader_member() else { return Ok(None) };
    let answer = match &leader.live {
        Live::Answered(answer) => answer,
        Live::NotAsked => return Err(format!("{printed}: {} was not asked", leader.name)),
        Live::Silent(why) => {
            return Err(format!("{printed}: {} does not answer ({why})", leader.name));
        }
    };
    if answer.state != State::Running {
        return Ok(None);
    }
    let Some(runs) = answer.server_version else {
        return Err(format!("{printed}: {} does not say it", leader.name));
    };
    if u64::from(runs / 10_000) >= declared {
        return Ok(None);
    }
    let finding = about(facts, "is about to be upgraded")
        .because(facts.postgresql_source(), "spec.postgresql.version", declared)
        .because(facts.source_of(leader), "server_version", runs);
    Ok(Some(finding.remedy(until_unmarked(facts))))
}

fn running(facts: &Assessment<'_>) -> Finding {
    about(facts, "is being upgraded")
        .because(facts.patroni_source("config"), "pause", true)
        .remedy(until_unmarked(facts))
}

fn about(facts: &Assessment<'_>, upgraded: &str) -> Finding {
    let mut finding = Finding::deny(
        MAJOR_UPGRADE.id,
        format!(
            "{} {upgraded} to another major version, which counts its members",
            facts.change.cluster()
        ),
    );
    finding.evidence.extend(critical_operation(facts));
    finding
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests;
