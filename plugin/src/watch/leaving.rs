//! The reason for which the pod of a removed member still lives.

use std::fmt;

use pgscale_guard::Assessment;
use pgscale_guard::facts::{Facts, Health, Member, Seen, Waiting};

use super::phase::{Behind, without_back_off};

/// The reason for which the pod of a removed member still lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// The operator has not lowered the count of the StatefulSet, which is this.
    NotActed(i64),
    /// None: its turn is next.
    Next,
    /// The StatefulSet waits for another member first.
    Waits {
        /// The other member.
        other: String,
        /// The condition that the other member lacks.
        ailment: Ailment,
    },
}

/// The condition that a member lacks for which the StatefulSet waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ailment {
    /// It has to be gone first.
    ToBeGone,
    /// It has no pod.
    NoPod,
    /// Its pod is being deleted, and comes back.
    Terminating,
    /// Its node is not ready.
    Node(String),
    /// Its pod does not run, for this reason.
    Pod(Waiting),
    /// It runs and is not healthy.
    Behind(Behind),
    /// It is healthy, and its pod is not Ready.
    NotReady,
}

impl Leaving {
    /// Returns the reason for `member`, which has an ordinal beyond the count.
    ///
    /// With `podManagementPolicy: OrderedReady` the StatefulSet deletes nothing before every kept
    /// pod is Running and Ready, and then the highest ordinal first, one after the other
    /// (`processReplica` and `processCondemned`, `stateful_set_control.go` of Kubernetes).
    pub(super) fn of(assessment: &Assessment<'_>, member: &Member) -> Self {
        let facts = assessment.facts();
        let Seen::Known(set) = &facts.stateful_set else { return Self::Next };
        if member.ordinal < set.replicas {
            return Self::NotActed(set.replicas);
        }
        if set.parallel {
            return Self::Next;
        }
        for ordinal in 0..set.replicas {
            let other = facts.pod_name(ordinal);
            let Some(kept) = facts.member(&other) else {
                return Self::Waits { other, ailment: Ailment::NoPod };
            };
            if let Some(ailment) = ailment(assessment, kept) {
                return Self::Waits { other, ailment };
            }
        }
        let higher = facts.all_members().iter().rfind(|other| other.ordinal > member.ordinal);
        higher.map_or(Self::Next, |other| Self::Waits {
            other: other.name.clone(),
            ailment: Ailment::ToBeGone,
        })
    }

    /// Returns the member that the StatefulSet waits for.
    pub(super) fn waits_for(&self) -> Option<&str> {
        match self {
            Self::Waits { other, .. } => Some(other),
            Self::NotActed(_) | Self::Next => None,
        }
    }
}

/// Returns the condition that a kept member lacks for the StatefulSet to go on.
fn ailment(assessment: &Assessment<'_>, member: &Member) -> Option<Ailment> {
    let pod = &member.pod;
    if pod.terminating {
        return Some(Ailment::Terminating);
    }
    if pod.phase == "Running" && pod.ready {
        return None;
    }
    if let (Some(false), Some(node)) = (pod.node_ready, &pod.node) {
        return Some(Ailment::Node(node.clone()));
    }
    if let (false, Some(waiting)) = (pod.containers_running, &pod.waiting) {
        return Some(Ailment::Pod(without_back_off(waiting.clone())));
    }
    Some(match assessment.health(member) {
        Health::Healthy => Ailment::NotReady,
        health @ (Health::Unhealthy(_) | Health::Unknown(_)) => Ailment::Behind(Behind::of(health)),
    })
}

impl fmt::Display for Leaving {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotActed(_) | Self::Next => write!(out, "to be removed"),
            Self::Waits { other, ailment: Ailment::ToBeGone } => {
                write!(out, "waits until {other} is gone (OrderedReady)")
            }
            Self::Waits { other, ailment } => {
                write!(out, "waits for {other} to become Ready (OrderedReady): {ailment}")
            }
        }
    }
}

impl fmt::Display for Ailment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToBeGone => write!(out, "it has to be gone first"),
            Self::NoPod => write!(out, "it has no pod"),
            Self::Terminating => write!(out, "its pod is being deleted"),
            Self::Node(node) => write!(out, "its node {node} is not Ready"),
            Self::Pod(waiting) => write!(out, "{waiting}"),
            Self::Behind(behind) => write!(out, "{behind}"),
            Self::NotReady => write!(out, "its readiness probe fails"),
        }
    }
}

/// Returns whether the operator has yet to lower or raise the count of the StatefulSet, and the
/// count that it has.
pub(super) fn not_acted(facts: &Facts) -> Option<i64> {
    let set = facts.stateful_set.known()?;
    (set.replicas != facts.to()).then_some(set.replicas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, stalled, with};

    fn of(facts: &Facts, ordinal: i64) -> String {
        let name = facts.pod_name(ordinal);
        let assessment = Assessment::new(facts, None);
        Leaving::of(&assessment, facts.member(&name).unwrap()).to_string()
    }

    fn acted(facts: Facts) -> Facts {
        let mut facts = facts;
        let to = facts.to();
        if let Seen::Known(set) = &mut facts.stateful_set {
            set.replicas = to;
        }
        facts
    }

    fn unready(facts: Facts, ordinal: i64) -> Facts {
        with(facts, ordinal, |member| member.pod.ready = false)
    }

    #[test]
    fn removed_member_says_what_the_stateful_set_waits_for() {
        let shrink = || acted(facts(5, 4, 0));
        let crashing = |member: &mut Member| {
            member.pod.ready = false;
            member.pod.containers_running = false;
            member.pod.waiting =
                Some(Waiting { reason: Some("CrashLoopBackOff".into()), ..Waiting::default() });
        };
        let mut parallel = unready(shrink(), 0);
        if let Seen::Known(set) = &mut parallel.stateful_set {
            set.parallel = true;
        }
        let mut missing = shrink();
        if let Seen::Known(members) = &mut missing.members {
            members.remove(1);
        }
        for (facts, ordinal, want) in vec![
            (facts(5, 4, 0), 4, "to be removed"),
            (shrink(), 4, "to be removed"),
            (acted(facts(5, 3, 0)), 3, "waits until acid-a-4 is gone (OrderedReady)"),
            (parallel, 4, "to be removed"),
            (
                with(shrink(), 0, crashing),
                4,
                "waits for acid-a-0 to become Ready (OrderedReady): CrashLoopBackOff",
            ),
            (
                unready(stalled(acted(facts(5, 4, 1)), 0), 0),
                4,
                "waits for acid-a-0 to become Ready (OrderedReady): catching up",
            ),
            (
                unready(shrink(), 2),
                4,
                "waits for acid-a-2 to become Ready (OrderedReady): its readiness probe fails",
            ),
            (
                with(shrink(), 0, |member| member.pod.terminating = true),
                4,
                "waits for acid-a-0 to become Ready (OrderedReady): its pod is being deleted",
            ),
            (missing, 4, "waits for acid-a-1 to become Ready (OrderedReady): it has no pod"),
        ] {
            assert_eq!(of(&facts, ordinal), want);
        }
    }
}
