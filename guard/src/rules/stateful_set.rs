//! The effect of a new count on the StatefulSet's controller.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{LONGEST_LABEL, Member, Seen, StatefulSet};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CREATE, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, NAMED, Rule, down, inputs, last_word, members_unseen, status, unread};
use crate::verdict::{Finding, Outcome, Severity};

/// The longest hash in the name of a revision: the digits of a 32-bit number.
const LONGEST_HASH: usize = 10;

/// The longest name of a cluster whose pods can always be labelled.
const LONGEST_NAME: usize = LONGEST_LABEL - 1 - LONGEST_HASH;

pub(super) const PARALLEL_SHRINK: Rule = Rule {
    id: RuleId::PARALLEL_SHRINK,
    title: "several members would be deleted at the same moment",
    applies: Applies::on(&[DOWN.to_at_least(1)]).noted("by 2 or more"),
    default: "deny if the leader is removed, else warn",
    kind: Kind::Live,
    page: "\
With `podManagementPolicy: Parallel` the StatefulSet deletes all pods beyond the new count at once; with the
default, one after the other, each when the one before it is gone. A leader among them then shuts down
together with the standbys that would have received its last rows.

Signals: `spec.podManagementPolicy` of the StatefulSet, and its `spec.replicas` against the new count. Denied
where the leader is not known to stay.

Blind spots: the operator's setting `pod_management_policy` may have changed since; the StatefulSet is then
replaced first.

Way out: shrink by one at a time, or by the command that moves the leader first:

    kubectl pgscale down NAME --to N -n NAMESPACE

Upstream: processCondemned, pkg/controller/statefulset/stateful_set_control.go of Kubernetes.",
    reads: &[inputs::pod_management, inputs::replicas, inputs::leader],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: parallel_shrink,
    #[cfg(any(test, feature = "testing"))]
    table: tests::parallel_shrink,
};

fn parallel_shrink(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let set = match &facts.stateful_set {
        Seen::Known(set) => set,
        Seen::Absent => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    // Pods that live beyond `spec.replicas` are deleted as well, should another writer have scaled
    // it.
    let living = facts.condemned().filter(|member| !member.pod.terminating).count();
    let living = i64::try_from(living).unwrap_or(i64::MAX);
    let going = set.replicas.saturating_sub(facts.to()).max(living);
    if going < 2 {
        return Outcome::NotApplicable;
    }
    if !set.parallel {
        return Outcome::Pass;
    }
    let (severity, message) = if facts.leader_stays() {
        (Severity::Warn, format!("{going} members would be deleted at the same moment"))
    } else {
        (
            Severity::Deny,
            format!("{going} members would be deleted at the same moment, the leader among them"),
        )
    };
    Outcome::Found(
        Finding::new(PARALLEL_SHRINK.id, severity, message)
            .if_leader_goes(facts.leader_condemned())
            .because(facts.stateful_set_source(), "spec.podManagementPolicy", "Parallel")
            .because(facts.stateful_set_source(), "spec.replicas", set.replicas)
            .remedy(Remedy::to("one at a time", down(facts, set.replicas.saturating_sub(1)))),
    )
}

pub(super) const WILL_NOT_PROGRESS: Rule = Rule {
    id: RuleId::WILL_NOT_PROGRESS,
    title: "the StatefulSet waits for a pod that is not Ready and would act later, or can make no pod",
    applies: Applies::on(&[UP.to_at_least(1), DOWN.to_at_least(1), CREATE.to_at_least(1)]).noted("create only where the name is too long"),
    default: "down: deny if the leader is removed, else warn; up, create: warn",
    kind: Kind::Live,
    page: "\
With the default `podManagementPolicy: OrderedReady` the StatefulSet creates and deletes nothing before every
pod that stays is there, runs and is Ready. The new count is stored, nothing happens, and when that pod comes
back at some later time the shrink goes ahead: in a state that no rule has checked, and long after the operator
asked the leader to move.

A StatefulSet makes no pod at all where the cluster's name is too long: the label controller-revision-hash is
the name, a hyphen and a hash of up to 10 digits, and a label has at most 63 characters. With 53 characters
three of four revisions are refused, with more nearly all.

Signals: `spec.podManagementPolicy`; the pods with ordinals below both counts, for growth below the new one:
missing, not Ready, or being deleted; their tag nofailover, by which none takes the lead that others wait for;
status.updateRevision, and the length of the name. Denied where the leader is not known to stay.

Blind spots: without a readiness probe (the operator's default) Ready only means that the containers run. An
unfit pod among the removed ones can hold up the ones above it, too.

Way out: mend the pod that is named (`kubectl describe pod MEMBER -n NAMESPACE`); a cluster that shrinks to
below it does not wait for it. `kubectl pgscale down NAME --to N` moves the leader first. A name cannot be
changed: clone the cluster into one with a name of 52 characters or fewer.

Upstream: updateStatefulSet, pkg/controller/statefulset/stateful_set_control.go of Kubernetes;
ControllerRevisionName, pkg/controller/history/controller_history.go there; #2190 of zalando/postgres-operator.",
    reads: &[
        inputs::pod_management,
        inputs::replicas,
        inputs::pods,
        inputs::tags,
        inputs::leader,
        inputs::name,
    ],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Answers, Read::Leader]),
    check: will_not_progress,
    #[cfg(any(test, feature = "testing"))]
    table: tests::will_not_progress,
};

fn will_not_progress(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let direction = facts.direction();
    let set = match &facts.stateful_set {
        Seen::Known(set) => Some(set),
        Seen::Absent => None,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    if let Some(finding) = unlabelled(facts, set) {
        return Outcome::Found(finding);
    }
    let Some(set) = set.filter(|_| direction != Direction::Create) else {
        return if direction == Direction::Create { Outcome::Pass } else { Outcome::NotApplicable };
    };
    // The controller also waits for pods beyond the count that still live, should another writer
    // have scaled the StatefulSet.
    let beyond = facts.condemned().any(|member| !member.pod.terminating);
    let grows = direction == Direction::Up;
    let done = set.replicas == facts.to() && !beyond;
    if set.parallel || (done && !grows) {
        return Outcome::Pass;
    }
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    if done && facts.missing_survivors().next().is_none() {
        return Outcome::Pass;
    }
    let stays = facts.to().min(set.replicas);
    // Once the StatefulSet asks for more, it also waits for pods that it had given up.
    let waits = if grows { facts.to() } else { stays };
    let mut evidence = Vec::new();
    let mut names = Vec::new();
    let mut barred = false;
    for member in members.iter().filter(|member| member.ordinal < waits) {
        let pod = |field, value: &str| Evidence::new(ObjectRef::pod(&member.name), field, value);
        match (&member.pod.waiting, member.pod.terminating, member.pod.ready) {
            (_, true, _) => evidence.push(pod("metadata.deletionTimestamp", "set")),
            (why, false, false) => {
                evidence.push(pod("condition Ready", "no"));
                evidence.extend(why.as_ref().map(|why| pod("status", &why.to_string())));
                if nofailover(member) {
                    evidence.push(facts.quote(member, "tags.nofailover", true));
                    barred = true;
                }
            }
            (_, false, true) => continue,
        }
        names.push(member.name.clone());
    }
    for ordinal in facts.missing_survivors().take_while(|ordinal| *ordinal < stays).take(NAMED) {
        let name = facts.pod_name(ordinal);
        evidence.push(Evidence::absent(ObjectRef::pod(&name)));
        names.push(name);
    }
    if names.is_empty() {
        return Outcome::Pass;
    }
    let severity = if direction == Direction::Down && !facts.leader_stays() {
        Severity::Deny
    } else {
        Severity::Warn
    };
    let mut finding = Finding::new(
        WILL_NOT_PROGRESS.id,
        severity,
        format!(
            "the StatefulSet waits for {} and would {} later, unchecked",
            names.join(", "),
            match (direction, severity) {
                (Direction::Down, Severity::Deny) => "delete the leader",
                (Direction::Down, Severity::Warn) => "shrink",
                (Direction::Create | Direction::Same | Direction::Up, _) => "grow",
            }
        ),
    );
    finding.evidence = evidence;
    finding = finding.if_leader_goes(direction == Direction::Down && facts.leader_condemned());
    let mend = Remedy::to("mend what is named first", status(facts));
    Outcome::Found(finding.remedy(if barred && facts.leader_name().is_none() {
        Remedy::note("remove the tag nofailover: no member leads, and one with the tag never does")
            .and(mend)
    } else {
        mend
    }))
}

/// Returns whether `member` said that it is tagged `nofailover`.
fn nofailover(member: &Member) -> bool {
    let tagged =
        last_word(member, |answer| answer.tags.nofailover, |report| report.tags.nofailover);
    tagged == Seen::Known(true)
}

/// Returns the finding where Kubernetes refuses the pods for the length of a label.
///
/// The StatefulSet labels them with the name of their revision (`ControllerRevisionName`,
/// `pkg/controller/history/controller_history.go` of Kubernetes). Until there is one, the longest hash
/// counts.
fn unlabelled(facts: &Assessment<'_>, set: Option<&StatefulSet>) -> Option<Finding> {
    if !facts.adds_members() {
        return None;
    }
    let length = &facts.change.new.name.len();
    let label = |length| format!("{length} characters, {LONGEST_LABEL} are allowed");
    let finding = if let Some(revision) = facts.unlabelled_revision() {
        let message =
            "Kubernetes refuses every new pod: the cluster's name is too long for its labels";
        Finding::warn(WILL_NOT_PROGRESS.id, message).because(
            facts.stateful_set_source(),
            "status.updateRevision",
            format_args!("{revision}: {}", label(revision.len())),
        )
    } else if *length > LONGEST_NAME && set.is_none_or(|set| set.revision.is_none()) {
        let message = format!(
            "the name has {length} characters: with more than {LONGEST_NAME} Kubernetes refuses most revisions of its pods"
        );
        Finding::warn(WILL_NOT_PROGRESS.id, message).because(
            facts.postgresql_source(),
            "label controller-revision-hash",
            format_args!("up to {}", label(length + 1 + LONGEST_HASH)),
        )
    } else {
        return None;
    };
    let way = if facts.direction() == Direction::Create {
        format!("choose a name of {LONGEST_NAME} characters or fewer")
    } else {
        format!(
            "clone it (spec.clone) into a cluster whose name has {LONGEST_NAME} characters or fewer"
        )
    };
    Some(finding.remedy(way))
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
