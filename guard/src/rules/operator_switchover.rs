//! The ability of the leader to move out of the way of a shrink that deletes its pod.
//!
//! The StatefulSet always deletes the highest ordinals. When the leader is one of them, the
//! operator asks Patroni for a switchover to ordinal 0, and only to that. When Patroni refuses it,
//! the operator logs a warning and lets the leader be deleted all the same (`preScaleDown`,
//! pkg/cluster/resources.go).

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::facts::{Facts, Health, Live, Member, OperatorSwitchover, Seen};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::{Command, Remedy};
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, REWRITTEN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, keep_leader, members_unseen, pgscale, status, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const LEADER_CONDEMNED: Rule = Rule {
    id: RuleId::LEADER_CONDEMNED,
    title: "the leader's pod would be deleted",
    // At zero there is no leader to lose: return-from-zero looks at the remaining volumes.
    applies: Applies::on(&[DOWN.to_at_least(1), UP.after_some(), REWRITTEN.to_at_least(1)]),
    default: "deny",
    kind: Kind::Live,
    page: "\
The leader is on an ordinal that the new count leaves out. Between the admission of a write and the moment
the operator acts on it, the guard sees nothing: the operator may be busy with another cluster for minutes,
Patroni may refuse its switchover to ordinal 0, or the StatefulSet may be replaced, which skips the
switchover. Each of these roads ends with a deleted leader, and measured on a real cluster some of them lost
every row that was acknowledged in between. So a plain write never deletes the leader: move it first, then
write the count.

When this rule refuses a change, what other rules find only because the leader would be deleted is listed as
its evidence. It refuses growth, too, that leaves the leader's pod out: where five pods live, -4 leads and the
object asks for 2, any write of 3 makes the operator delete -4. The same holds for a number that the operator's
limits turn into such a count. This rule refuses no count that keeps the leader.

Signals: the holder of the leader lock and the ordinal of its pod.

Blind spots: a failover between admission and the operator's act can put the leader back on an ordinal that is
removed. The webhook that admitted the change watches for that for 10 minutes, and writes the Event
LeaderCondemned on the cluster; `kubectl pgscale wait NAME` and the operator's log show it, too.

Way out: `kubectl pgscale switchover NAME --for N` moves the leader to the best member that is kept and ends
when the change to N is admitted; then repeat the change. `kubectl pgscale down NAME --to N` does both in
one act. Without the plugin: `patronictl switchover NAME --candidate MEMBER` in a pod of the cluster, with a
MEMBER below N; repeat the change once `patronictl list` shows every member streaming. A platform's policy may
say `rules: {leader-condemned: Warn}`: then leader-cannot-move judges the operator's own switchover.

Upstream: preScaleDown, pkg/cluster/resources.go of zalando/postgres-operator.",
    reads: &[inputs::leader, inputs::pods],
    needs: reads::HEALTH.and(&[Read::StatefulSet, Read::Sync]),
    check: leader_condemned,
    #[cfg(any(test, feature = "testing"))]
    table: tests::leader_condemned,
};

fn leader_condemned(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let grows = facts.direction() != Direction::Down;
    let lock = match &facts.leader {
        Seen::Known(lock) => lock,
        // The rule no-leader judges an absent lock.
        Seen::Absent => return Outcome::Pass,
        // Growth deletes nothing: no-leader reports that the lock is hidden.
        Seen::Unreadable(_) if grows => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the leader lock", why),
    };
    if facts.members.known().is_none() {
        return if grows { Outcome::NotApplicable } else { members_unseen(facts) };
    }
    if !facts.leader_condemned() {
        return Outcome::Pass;
    }
    let leader = facts.leader_name().unwrap_or_default();
    if grows {
        return Outcome::Found(left_out(facts, leader, &lock.source));
    }
    let to = facts.to();
    let kept = if to == 1 {
        format!("only {} is kept", facts.pod_name(0))
    } else {
        format!("{} to {} are kept", facts.pod_name(0), facts.pod_name(to - 1))
    };
    let mut finding = Finding::deny(
        LEADER_CONDEMNED.id,
        format!("{leader} is the leader, and its pod would be deleted: {kept}"),
    )
    .because(lock.source.clone(), "leader", leader);
    if facts.best_survivor().is_some() {
        return Outcome::Found(finding.remedy(plan(facts)));
    }
    for member in facts.survivors() {
        let why = match facts.takeover(member) {
            Health::Unhealthy(problems) => {
                let evidence = problems.iter().map(|problem| facts.evidence_for(member, problem));
                finding.evidence.extend(evidence);
                continue;
            }
            Health::Unknown(why) => why,
            Health::Healthy => match facts.in_sync_set(member) {
                Ok(()) => continue,
                Err(why) => why,
            },
        };
        finding = finding.because(facts.source_of(member), "cannot take over", why);
    }
    let by_policy = facts.survivors().any(|member| facts.takeover(member).lags_by_policy());
    Outcome::Found(finding.remedy(mend_one(facts)).if_by_policy_lag(by_policy))
}

/// Returns the finding where more pods live than the object asks for, the leader's among them, and
/// the new count leaves the leader's pod out as well.
fn left_out(facts: &Assessment<'_>, leader: &str, lock: &ObjectRef) -> Finding {
    let to = facts.to();
    let message = format!(
        "{leader} is the leader, and a count of {to} leaves its pod out: the operator deletes it with this write"
    );
    let mut finding = Finding::deny(LEADER_CONDEMNED.id, message)
        .because(lock.clone(), "leader", leader)
        .unexcused();
    if let Seen::Known(set) = &facts.stateful_set {
        finding = finding.because(facts.stateful_set_source(), "spec.replicas", set.replicas);
    }
    finding.remedy(Remedy::run(keep_leader(facts).unwrap_or_else(|| status(facts))))
}

pub(super) const LEADER_CANNOT_MOVE: Rule = Rule {
    id: RuleId::LEADER_CANNOT_MOVE,
    title: "the leader's pod would be deleted and ordinal 0 cannot take over",
    applies: Applies::on(&[DOWN.to_at_least(1), UP.after_some(), REWRITTEN.to_at_least(1)]),
    default: "deny",
    kind: Kind::Live,
    page: "\
The leader is on an ordinal that the new count leaves out, and the operator's hand-over would fail. It asks
Patroni to switch over to ordinal 0 and to no other, whatever its state. When that is refused it logs one
warning (\"could not scale down\") and lets the StatefulSet delete the leader all the same; no event, and the
status stays Running. Measured on a real cluster, 5 to 2 under load: with the survivors' WAL receivers stalled
every row acknowledged since then was lost; with Patroni paused and ordinal 0 unfit no member took over until
a person resumed Patroni.

Signals: those of leader-condemned. It is found when ordinal 0 has no pod, is not caught up (another
timeline, or had not received within a second what the leader had when asked), is tagged nofailover, does
not run or does not answer; when replication is synchronous (not quorum) and it is not among the synchronous
standbys; when the role label master is not on the leader alone (the operator knows no other name for it,
whatever KUBERNETES_LEADER_LABEL_VALUE makes Patroni write), the leader has no address or does not answer,
so that the operator cannot ask; when the leader's container turns on TLS or a password for Patroni's REST
interface or moves it to another port, because the operator asks http on 8008 without a password; and when the
StatefulSet is gone or carries annotations that make the operator replace it, which skips the hand-over.
It cannot be judged where an allowlist or a variable of Patroni itself may refuse the operator.

Blind spots: a network that lets this program through to port 8008 and not the operator (NetworkPolicy,
service mesh), or that answers GET and not POST; variables that come from a whole Secret or ConfigMap
(envFrom). The operator is then refused, and the leader is deleted without a hand-over. The webhook writes the
Event LeaderCondemned where the operator has lowered the count and a removed member still leads.

Way out: `kubectl pgscale down NAME --to N` moves the leader to any fit survivor first. Where no survivor is
fit, ask for a count that keeps a fit member, or mend one. This shows each member:

    kubectl pgscale status NAME -n NAMESPACE --why

Upstream: preScaleDown, pkg/cluster/resources.go; Switchover, pkg/cluster/pod.go; is_failover_possible,
patroni/api.py; process_manual_failover_from_leader, patroni/ha.py; apiURL, pkg/util/patroni/patroni.go;
postgres-appliance/scripts/configure_spilo.py of zalando/spilo.",
    reads: &[inputs::leader, inputs::role_labels, inputs::rest_refusals, inputs::answers, inputs::lag, inputs::max_lag, inputs::synchrony, inputs::sync_standbys, inputs::replacement],
    needs: reads::HEALTH.and(&[Read::StatefulSet, Read::Sync]),
    check: leader_cannot_move,
    #[cfg(any(test, feature = "testing"))]
    table: tests::leader_cannot_move,
};

fn leader_cannot_move(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let shrinks = facts.direction() == Direction::Down;
    // More pods may live than the object asks for, and any write makes the operator delete them.
    if !shrinks && !facts.deletes_leader() {
        return Outcome::NotApplicable;
    }
    let first = facts.member(&facts.pod_name(0));
    let asked = first.is_none_or(|first| first.live != Live::NotAsked);
    match facts.operator_switchover() {
        // What is not known of growth warns only, and this deletes the leader. Growth needs no live
        // answers otherwise, so its health may rest on a report alone.
        OperatorSwitchover::Works if !shrinks && !asked => {
            let why = format!("{} was not asked", facts.pod_name(0));
            Outcome::Found(unknown_of_growth(facts, &why))
        }
        OperatorSwitchover::Unknown(why) if !shrinks => {
            Outcome::Found(unknown_of_growth(facts, &why))
        }
        OperatorSwitchover::NotNeeded | OperatorSwitchover::Works => Outcome::Pass,
        OperatorSwitchover::Unknown(why) => Outcome::Unknown(why),
        OperatorSwitchover::Fails(obstacles) => {
            let leader = facts.leader_name().unwrap_or_default();
            let candidate = facts.pod_name(0);
            let mut finding = Finding::deny(
                LEADER_CANNOT_MOVE.id,
                format!(
                    "{leader} leads and would be deleted, but the operator hands over to {candidate} only, \
                     and that would fail"
                ),
            );
            if let Seen::Known(lock) = &facts.leader {
                finding = finding.because(lock.source.clone(), "leader", leader);
            }
            finding.evidence.extend(obstacles);
            // Where another leader or another count would do, that is shown instead (`alternative`).
            let none_fits = facts.best_survivor().is_none();
            let would_do = |member: &Member| {
                facts.takeover(member).lags_by_policy_alone() && facts.in_sync_set(member).is_ok()
            };
            let first = facts.member(&candidate);
            let by_policy = first.is_some_and(|first| facts.takeover(first).lags_by_policy())
                || none_fits && facts.survivors().any(would_do);
            let remedy = if none_fits {
                mend_one(facts)
            } else {
                Remedy::to(format!("mend {candidate}, or see what else is in the way"), plan(facts))
            };
            let finding = finding.remedy(remedy).if_by_policy_lag(by_policy);
            Outcome::Found(finding.if_leader_goes(true))
        }
    }
}

/// Returns the finding where a write that is no shrink deletes the leader, and nothing shows that
/// ordinal 0 can take over.
fn unknown_of_growth(facts: &Assessment<'_>, why: &str) -> Finding {
    let leader = facts.leader_name().unwrap_or_default();
    let message = format!(
        "{leader} leads and would be deleted, and whether {} can take over is not known: {why}",
        facts.pod_name(0)
    );
    let keep = keep_leader(facts).unwrap_or_else(|| plan(facts));
    Finding::deny(LEADER_CANNOT_MOVE.id, message)
        .because(facts.lock_source(), "leader", leader)
        .remedy(Remedy::run(keep))
        .if_leader_goes(true)
}

/// Returns the command that shows which counts would be admitted.
fn plan(facts: &Assessment<'_>) -> Command {
    pgscale(facts, "plan", &["--to", &facts.to().to_string()])
}

/// Returns the remedy where no kept member can lead.
fn mend_one(facts: &Facts) -> Remedy {
    Remedy::to("no kept member can take over: mend one; their state", status(facts))
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
