//! The conditions that are still missing for a cluster to have converged. The operator's `Running`
//! is not one of them: it is written seconds after the StatefulSet was patched.

use std::collections::BTreeSet;
use std::fmt;

use pgscale_guard::facts::{Facts, Health, Waiting};
use pgscale_guard::{Assessment, Seen};

use super::{Goal, Snapshot, replicates};
use crate::execute::switchover::labelled;
use crate::plan::describe;
use crate::services::{behind, names, wanted};
use crate::steady;

/// One thing that keeps a cluster from having converged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The StatefulSet asks for another count than it should.
    Asks {
        /// The count that it asks for.
        has: i64,
        /// The count that it should ask for.
        wants: i64,
    },
    /// The controller has not seen the StatefulSet's change.
    Unobserved,
    /// There is no StatefulSet.
    NoStatefulSet,
    /// A member that should be gone has a pod.
    StillThere(String),
    /// A member has no pod.
    NoPod(String),
    /// The operator has marked the pod of a member for its rolling update, and deletes it next
    /// (`zalando-postgres-operator-rolling-update-required`, pkg/cluster/pod.go).
    ToBeRecreated(String),
    /// This number of further members has no pod.
    MorePods(i64),
    /// No member holds a valid leader lock.
    NoLeader,
    /// The leader's label is not on the leader alone.
    Label {
        /// The holder of the lock.
        leader: String,
        /// The members with the label.
        on: Vec<String>,
    },
    /// A healthy member does not stream.
    NotStreaming(String),
    /// A member's pod does not run.
    NotRunning {
        /// The member.
        member: String,
        /// The reason for which its pod does not run.
        waiting: Waiting,
    },
    /// A member cannot be counted on, or it is not known whether it can.
    Unfit {
        /// The member.
        member: String,
        /// Its health.
        health: Health,
    },
    /// A Service does not lead to these members, and should.
    ServiceLacks {
        /// The Service.
        service: String,
        /// The members.
        members: Vec<String>,
    },
    /// A Service leads to these members, and should not.
    ServiceKeeps {
        /// The Service.
        service: String,
        /// The members.
        members: Vec<String>,
    },
    /// An object could not be read.
    Unread {
        /// The object, in words.
        what: &'static str,
        /// The reason.
        why: String,
    },
}

impl Lack {
    /// Returns whether it is only unknown, because an object could not be read.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self, Self::Unread { .. } | Self::Unfit { health: Health::Unknown(_), .. })
    }

    /// Returns the same without the parts that differ from look to look.
    pub(crate) fn steady(self) -> Self {
        match self {
            Self::Asks { wants, .. } => Self::Asks { has: 0, wants },
            Self::MorePods(_) => Self::MorePods(0),
            Self::NotRunning { member, waiting } => {
                Self::NotRunning { member, waiting: steady::waiting(&waiting) }
            }
            Self::Unfit { member, health } => {
                Self::Unfit { member, health: steady::health(&health) }
            }
            same @ (Self::Unobserved
            | Self::NoStatefulSet
            | Self::StillThere(_)
            | Self::NoPod(_)
            | Self::ToBeRecreated(_)
            | Self::NoLeader
            | Self::Label { .. }
            | Self::NotStreaming(_)
            | Self::ServiceLacks { .. }
            | Self::ServiceKeeps { .. }
            | Self::Unread { .. }) => same,
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asks { has, wants } => write!(
                out,
                "the StatefulSet still asks for {has} and not {wants}: the operator has not acted yet"
            ),
            Self::Unobserved => {
                write!(out, "the StatefulSet controller has not seen the change yet")
            }
            Self::NoStatefulSet => write!(out, "there is no StatefulSet"),
            Self::StillThere(member) => write!(out, "{member}: still there"),
            Self::NoPod(member) => write!(out, "{member}: no pod yet"),
            Self::ToBeRecreated(member) => {
                write!(out, "{member}: the operator will recreate its pod (rolling update)")
            }
            Self::MorePods(count) => write!(out, "and {count} more without a pod"),
            Self::NoLeader => write!(out, "no member holds a valid leader lock"),
            Self::Label { leader, on } => {
                let on = if on.is_empty() { "no member".to_owned() } else { on.join(", ") };
                write!(out, "{leader} holds the leader lock, the leader's label is on {on}")
            }
            Self::NotStreaming(member) => write!(out, "{member}: does not stream yet"),
            Self::NotRunning { member, waiting } => write!(out, "{member}: {waiting}"),
            Self::Unfit { member, health } => write!(out, "{member}: {}", describe(health)),
            Self::ServiceLacks { service, members } => {
                write!(out, "service {service} does not lead to {} yet", members.join(", "))
            }
            Self::ServiceKeeps { service, members } => {
                write!(out, "service {service} still leads to {}", members.join(", "))
            }
            Self::Unread { what, why } => write!(out, "{what}: {why}"),
        }
    }
}

/// Returns everything that is missing, each as one line. Empty when converged.
pub(crate) fn missing(goal: &Goal, snapshot: &Snapshot) -> Vec<String> {
    lacks(goal, snapshot).iter().map(ToString::to_string).collect()
}

/// Returns everything that is missing, and everything that may be missing because it is not known.
pub(crate) fn lacks(goal: &Goal, snapshot: &Snapshot) -> Vec<Lack> {
    let facts = &snapshot.facts;
    let mut missing = Vec::new();
    stateful_set(facts, &mut missing);
    pods(goal, facts, &mut missing);
    if facts.to() > 0 {
        leader(facts, &mut missing);
        standbys(goal, &snapshot.facts.assessment(), &mut missing);
        services(goal, snapshot, &mut missing);
    }
    missing
}

/// Returns the lacks of the cluster as a whole, independent of its members.
pub(super) fn of_the_whole(facts: &Facts) -> Vec<Lack> {
    let mut missing = Vec::new();
    stateful_set(facts, &mut missing);
    if facts.to() > 0 {
        leader(facts, &mut missing);
    }
    missing
}

fn unread(what: &'static str, why: &str) -> Lack {
    Lack::Unread { what, why: why.to_owned() }
}

fn stateful_set(facts: &Facts, missing: &mut Vec<Lack>) {
    let wants = facts.to();
    match &facts.stateful_set {
        Seen::Known(set) if set.replicas != wants => {
            missing.push(Lack::Asks { has: set.replicas, wants });
        }
        Seen::Known(set) if set.observed_generation < set.generation => {
            missing.push(Lack::Unobserved);
        }
        Seen::Known(_) => {}
        Seen::Absent => missing.push(Lack::NoStatefulSet),
        Seen::Unreadable(why) => missing.push(unread("the StatefulSet cannot be read", why)),
    }
}

fn pods(goal: &Goal, facts: &Facts, missing: &mut Vec<Lack>) {
    if let Seen::Unreadable(why) = &facts.members {
        missing.push(unread("the members cannot be listed", why));
        return;
    }
    missing.extend(facts.condemned().map(|member| Lack::StillThere(member.name.clone())));
    let flagged = facts.survivors().filter(|member| member.pod.rolling_update_required);
    missing.extend(flagged.map(|member| Lack::ToBeRecreated(member.name.clone())));
    let (named, total) = absent(goal, facts);
    let besides = total - i64::try_from(named.len()).unwrap_or(total);
    missing.extend(named.into_iter().map(Lack::NoPod));
    if besides > 0 {
        missing.push(Lack::MorePods(besides));
    }
}

/// The number of members without a pod that are named. A count may be as high as the greatest
/// int32.
const NAMED: usize = 10;

/// Returns the first members that have no pod and must have one, and the number of all of them.
pub(super) fn absent(goal: &Goal, facts: &Facts) -> (Vec<String>, i64) {
    let to = facts.to();
    let named = (0..to)
        .map(|ordinal| facts.pod_name(ordinal))
        .filter(|name| facts.member(name).is_none() && !goal.unfit.contains(name))
        .take(NAMED)
        .collect();
    // Excused members existed once, and need not exist any more.
    let excused = goal.unfit.iter().filter(|name| facts.member(name).is_none());
    let accounted = i64::try_from(facts.survivors().count() + excused.count()).unwrap_or(to);
    (named, to.saturating_sub(accounted).max(0))
}

fn leader(facts: &Facts, missing: &mut Vec<Lack>) {
    let Some(leader) = facts.leader_name() else {
        missing.push(match &facts.leader {
            Seen::Unreadable(why) => unread("the leader lock cannot be read", why),
            Seen::Absent | Seen::Known(_) => Lack::NoLeader,
        });
        return;
    };
    let labelled = labelled(facts);
    // Where the members cannot be listed, no label was seen.
    if facts.members.unreadable().is_none() && labelled != [leader] {
        let on = labelled.into_iter().map(str::to_owned).collect();
        missing.push(Lack::Label { leader: leader.to_owned(), on });
    }
}

fn standbys(goal: &Goal, facts: &Assessment<'_>, missing: &mut Vec<Lack>) {
    for member in facts.survivors().filter(|member| !goal.unfit.contains(&member.name)) {
        let leads = facts.leader_name() == Some(member.name.as_str());
        let health = facts.health(member);
        let name = member.name.clone();
        // The pod's own message explains more than our conclusion from it.
        let waiting = member.pod.waiting.clone().filter(|_| !member.pod.containers_running);
        match (health, waiting) {
            (Health::Healthy, _) if !leads && replicates(member) == Some(false) => {
                missing.push(Lack::NotStreaming(name));
            }
            (Health::Healthy, _) => {}
            (Health::Unhealthy(_) | Health::Unknown(_), Some(waiting)) => {
                missing.push(Lack::NotRunning { member: name, waiting });
            }
            (health, None) => missing.push(Lack::Unfit { member: name, health }),
        }
    }
}

fn services(goal: &Goal, snapshot: &Snapshot, missing: &mut Vec<Lack>) {
    let facts = &snapshot.facts;
    let Some(wanted) = wanted(facts) else { return };
    let unfit: BTreeSet<String> = facts
        .all_members()
        .iter()
        .filter(|member| goal.unfit.contains(&member.name))
        .filter_map(|member| member.pod.ip.clone())
        .collect();
    let cluster = &goal.name;
    compare(cluster, &wanted.leader, &snapshot.services.leader, &BTreeSet::new(), facts, missing);
    let replicas = format!("{cluster}-repl");
    compare(&replicas, &wanted.replicas, &snapshot.services.replicas, &unfit, facts, missing);
}

/// Compares `seen` with `want`, which it must hold exactly. The members in `either` may be there or
/// not.
fn compare(
    service: &str,
    want: &BTreeSet<String>,
    seen: &Seen<BTreeSet<String>>,
    either: &BTreeSet<String>,
    facts: &Facts,
    missing: &mut Vec<Lack>,
) {
    // A user without permission to read them learns that at the end, and does not wait for ever.
    let Some(have) = behind(seen) else { return };
    let without = |set: &BTreeSet<String>| -> BTreeSet<String> { set - either };
    let (want, have) = (without(want), without(&have));
    let lacking = names(facts, &(&want - &have));
    let surplus = names(facts, &(&have - &want));
    let service = service.to_owned();
    if !lacking.is_empty() {
        missing.push(Lack::ServiceLacks { service: service.clone(), members: lacking });
    }
    if !surplus.is_empty() {
        missing.push(Lack::ServiceKeeps { service, members: surplus });
    }
}
