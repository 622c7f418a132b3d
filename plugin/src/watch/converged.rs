//! What is still missing for a cluster to have converged. Not the operator's `Running`: that is written seconds
//! after the StatefulSet was patched.

use std::collections::BTreeSet;

use pgscale_guard::facts::{Facts, Health, Member};
use pgscale_guard::{Assessment, Seen};

use super::{Goal, Snapshot, replicates};
use crate::execute::switchover::labelled;
use crate::plan::describe;
use crate::services::names;

/// One thing that keeps a cluster from having converged, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It is not so.
    Missing(String),
    /// Whether it is so could not be read.
    Unread(String),
}

impl Lack {
    fn words(self) -> String {
        match self {
            Self::Missing(words) | Self::Unread(words) => words,
        }
    }
}

/// Everything that is missing, each as one line; nothing when converged.
pub(crate) fn missing(goal: &Goal, snapshot: &Snapshot) -> Vec<String> {
    lacks(goal, snapshot).into_iter().map(Lack::words).collect()
}

/// The same, with what is not so apart from what could not be read.
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

/// What the cluster lacks as a whole, whoever its members are.
pub(super) fn of_the_whole(facts: &Facts) -> Vec<String> {
    let mut missing = Vec::new();
    stateful_set(facts, &mut missing);
    if facts.to() > 0 {
        leader(facts, &mut missing);
    }
    missing.into_iter().map(Lack::words).collect()
}

fn stateful_set(facts: &Facts, missing: &mut Vec<Lack>) {
    let to = facts.to();
    match &facts.stateful_set {
        Seen::Known(set) if set.replicas != to => missing.push(Lack::Missing(format!(
            "the StatefulSet still asks for {} and not {to}: the operator has not acted yet",
            set.replicas
        ))),
        Seen::Known(set) if set.observed_generation < set.generation => {
            let words = "the StatefulSet controller has not seen the change yet";
            missing.push(Lack::Missing(words.to_owned()));
        }
        Seen::Known(_) => {}
        Seen::Absent => missing.push(Lack::Missing("there is no StatefulSet".to_owned())),
        Seen::Unreadable(why) => {
            missing.push(Lack::Unread(format!("the StatefulSet cannot be read: {why}")));
        }
    }
}

fn pods(goal: &Goal, facts: &Facts, missing: &mut Vec<Lack>) {
    if let Seen::Unreadable(why) = &facts.members {
        missing.push(Lack::Unread(format!("the members cannot be listed: {why}")));
        return;
    }
    for member in facts.condemned() {
        missing.push(Lack::Missing(format!("{}: still there", member.name)));
    }
    let (named, total) = absent(goal, facts);
    let besides = total - i64::try_from(named.len()).unwrap_or(total);
    missing.extend(named.into_iter().map(|name| Lack::Missing(format!("{name}: no pod yet"))));
    if besides > 0 {
        missing.push(Lack::Missing(format!("and {besides} more without a pod")));
    }
}

/// How many members without a pod are named: a count may be as high as an int32 goes.
const NAMED: usize = 10;

/// The first members that have no pod and must have one, and how many of them there are.
pub(super) fn absent(goal: &Goal, facts: &Facts) -> (Vec<String>, i64) {
    let to = facts.to();
    let named = (0..to)
        .map(|ordinal| facts.pod_name(ordinal))
        .filter(|name| facts.member(name).is_none() && !goal.unfit.contains(name))
        .take(NAMED)
        .collect();
    // Those that are excused were members once, and need not be any more.
    let excused = goal.unfit.iter().filter(|name| facts.member(name).is_none());
    let accounted = i64::try_from(facts.survivors().count() + excused.count()).unwrap_or(to);
    (named, to.saturating_sub(accounted).max(0))
}

fn leader(facts: &Facts, missing: &mut Vec<Lack>) {
    let Some(leader) = facts.leader_name() else {
        missing.push(match &facts.leader {
            Seen::Unreadable(why) => Lack::Unread(format!("the leader lock cannot be read: {why}")),
            Seen::Absent | Seen::Known(_) => {
                Lack::Missing("nobody holds a valid leader lock".to_owned())
            }
        });
        return;
    };
    let labelled = labelled(facts);
    // Where the members cannot be listed, nobody's label was seen.
    if facts.members.unreadable().is_none() && labelled != [leader] {
        let who = if labelled.is_empty() { "nobody".to_owned() } else { labelled.join(", ") };
        missing.push(Lack::Missing(format!(
            "{leader} holds the leader lock, the leader's label is on {who}"
        )));
    }
}

fn standbys(goal: &Goal, facts: &Assessment<'_>, missing: &mut Vec<Lack>) {
    for member in facts.survivors().filter(|member| !goal.unfit.contains(&member.name)) {
        let leads = facts.leader_name() == Some(member.name.as_str());
        let health = facts.health(member);
        // The pod's own words tell more than our conclusion from them.
        let waiting = member.pod.waiting.as_ref().filter(|_| !member.pod.containers_running);
        match (&health, waiting) {
            (Health::Healthy, _) if !leads && replicates(member) == Some(false) => {
                missing.push(Lack::Missing(format!("{}: does not stream yet", member.name)));
            }
            (Health::Healthy, _) => {}
            (Health::Unhealthy(_) | Health::Unknown(_), Some(waiting)) => {
                missing.push(Lack::Missing(format!("{}: {waiting}", member.name)));
            }
            (Health::Unhealthy(_), None) => {
                missing.push(Lack::Missing(format!("{}: {}", member.name, describe(&health))));
            }
            (Health::Unknown(_), None) => {
                missing.push(Lack::Unread(format!("{}: {}", member.name, describe(&health))));
            }
        }
    }
}

fn services(goal: &Goal, snapshot: &Snapshot, missing: &mut Vec<Lack>) {
    let facts = &snapshot.facts;
    let Some(leader) = facts.leader_member() else { return };
    let address = |member: &Member| member.pod.ip.clone();
    let unfit: BTreeSet<String> = facts
        .all_members()
        .iter()
        .filter(|member| goal.unfit.contains(&member.name))
        .filter_map(address)
        .collect();
    let standbys: BTreeSet<String> =
        facts.survivors().filter(|member| member.name != leader.name).filter_map(address).collect();
    let primary: BTreeSet<String> = address(leader).into_iter().collect();
    let cluster = &goal.name;
    compare(cluster, &primary, &snapshot.services.leader, &BTreeSet::new(), facts, missing);
    let replicas = format!("{cluster}-repl");
    compare(&replicas, &standbys, &snapshot.services.replicas, &unfit, facts, missing);
}

/// `seen` must hold exactly `want`; those in `either` may be there or not.
fn compare(
    service: &str,
    want: &BTreeSet<String>,
    seen: &Seen<BTreeSet<String>>,
    either: &BTreeSet<String>,
    facts: &Facts,
    missing: &mut Vec<Lack>,
) {
    let nobody = BTreeSet::new();
    let have = match seen {
        Seen::Known(have) => have,
        Seen::Absent => &nobody,
        // Who may not read them is told so at the end; it keeps nobody waiting for ever.
        Seen::Unreadable(_) => return,
    };
    let without = |set: &BTreeSet<String>| -> BTreeSet<String> { set - either };
    let (want, have) = (without(want), without(have));
    let lacking = names(facts, &(&want - &have));
    let surplus = names(facts, &(&have - &want));
    if !lacking.is_empty() {
        let who = lacking.join(", ");
        missing.push(Lack::Missing(format!("service {service} does not lead to {who} yet")));
    }
    if !surplus.is_empty() {
        let who = surplus.join(", ");
        missing.push(Lack::Missing(format!("service {service} still leads to {who}")));
    }
}
