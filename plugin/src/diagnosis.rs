//! Causes that keep a cluster from converging, the likeliest first, each with its evidence and the
//! next command to run. Pure: it rests on the facts that were read and on Events.
//!
//! The order follows the dependencies: members that cannot be seen, the leader, the controllers
//! that act on the count, the creation of pods, their start, replication, and last the Services,
//! which only follow.

use std::fmt::Display;

use pgscale_guard::evidence::Evidence;
use pgscale_guard::facts::{Facts, Health, Member, Problem};
use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::printable::printable;
use pgscale_guard::remedy::{Command, Reach, Remedy, Suggested};
use pgscale_guard::rules::critical_operation;
use pgscale_guard::{Assessment, Seen};

use crate::events::Event;
use crate::execute::switchover::labelled;
use crate::terminal::text::age;
use crate::watch::Snapshot;

mod count;
mod members;
mod services;

/// One thing that keeps a cluster from converging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The problem, in words.
    pub(crate) what: String,
    /// The facts that it rests on.
    pub(crate) evidence: Vec<Evidence>,
    /// The next thing to do.
    pub(crate) next: Remedy,
    /// What to be sure of before, where the next thing changes the cluster.
    pub(crate) sure: Option<&'static str>,
    /// The last resort that ends it where nothing else does, and its condition.
    pub(crate) last_resort: Option<Suggested>,
}

impl Cause {
    fn new(what: impl Into<String>, next: impl Into<Remedy>) -> Self {
        let (what, next) = (printable(&what.into()), next.into());
        Self { what, evidence: Vec::new(), next, sure: None, last_resort: None }
    }

    /// Says what to be sure of before the next command, which changes the cluster.
    fn once(self, sure: &'static str) -> Self {
        Self { sure: Some(sure), ..self }
    }

    fn because(self, object: ObjectRef, field: &str, value: impl Display) -> Self {
        self.because_of(Evidence::new(object, field, value))
    }

    fn because_of(mut self, evidence: Evidence) -> Self {
        self.evidence.push(evidence);
        self
    }
}

/// The field that a deletion sets.
const DELETION: &str = "metadata.deletionTimestamp";

/// The facts in which causes are found.
pub(crate) struct Clues<'a> {
    /// The facts of the cluster.
    pub(crate) snapshot: &'a Snapshot,
    /// The conditions that are missing for convergence.
    pub(crate) missing: &'a [String],
    /// The Events. `Absent` where they were not read.
    pub(crate) events: &'a Seen<Vec<Event>>,
    /// The nodes, and what keeps a pod that is not scheduled away from each. Empty where that was not
    /// looked up.
    pub(crate) nodes: &'a [Evidence],
    /// Connection flags for the commands.
    pub(crate) reach: &'a Reach,
}

/// Returns the causes that keep the cluster from converging, the likeliest first, or else what
/// deserves a look although it has converged. Empty where there is none.
pub(crate) fn causes(clues: &Clues<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = count::limited(clues).into_iter().collect();
    if clues.missing.is_empty() {
        // It has converged, and the next change or the next failure would not go well.
        causes.extend(paused(clues));
        causes.extend(count::unattended(clues));
        return causes;
    }
    let facts = clues.facts();
    let mut before = Vec::new();
    before.extend(unseen(clues));
    before.extend(count::unlabelled(clues));
    before.extend(ends(clues));
    if facts.to() > 0 {
        before.extend(leadership(clues));
    }
    causes.splice(0..0, before);
    causes.extend(count::not_applied(clues));
    causes.extend(count::not_created(clues));
    causes.extend(members::causes(clues));
    if facts.to() > 0 {
        causes.extend(services::causes(clues));
        causes.extend(paused(clues));
    }
    if causes.is_empty() {
        // A cluster that has not converged always has a cause.
        let what = clues.missing.join("; ");
        let next = clues.kubectl(&["describe", "statefulset", &facts.change.new.name]);
        causes.push(Cause::new(what, next));
    }
    causes
}

impl Clues<'_> {
    fn facts(&self) -> &Facts {
        &self.snapshot.facts
    }

    /// Returns kubectl with these words, as the caller reaches the API server.
    fn anywhere(&self, words: &[&str]) -> Command {
        Command::kubectl(words).reached_by(self.reach)
    }

    /// Returns kubectl with these words in the cluster's namespace.
    fn kubectl(&self, words: &[&str]) -> Command {
        self.anywhere(&[words, &["-n", &self.facts().change.new.namespace]].concat())
    }

    /// Returns a command inside a member.
    fn exec(&self, pod: &str, words: &[&str]) -> Command {
        let namespace = self.facts().change.new.namespace.as_str();
        let exec = ["exec", pod, "-c", "postgres", "-n", namespace, "--"];
        self.anywhere(&[&exec[..], words].concat())
    }

    /// Returns `patronictl` in the member that leads, or else in the first that runs.
    fn patronictl(&self, words: &[&str]) -> Command {
        let facts = self.facts();
        let leader = facts.leader_member();
        let first = || facts.all_members().iter().find(|member| member.pod.containers_running);
        match leader.or_else(first) {
            Some(member) => self.exec(&member.name, &[&["patronictl"][..], words].concat()),
            None => self.kubectl(&["get", "pods"]),
        }
    }

    /// Returns the latest Event of one of these reasons about an object, as evidence.
    fn event(&self, kind: &str, name: &str, reasons: &[&str]) -> Option<&Event> {
        let events = self.events.known()?;
        events
            .iter()
            .filter(|event| event.kind == kind && event.name == name)
            .filter(|event| reasons.contains(&event.reason.as_str()))
            .max_by_key(|event| event.last)
    }
}

/// Returns the cause where the pods cannot be seen. Without them nothing else is certain.
fn unseen(clues: &Clues<'_>) -> Option<Cause> {
    let why = clues.facts().members.unreadable()?;
    let next = clues.kubectl(&["auth", "can-i", "list", "pods"]);
    Some(
        Cause::new("the pods could not be listed, so most causes cannot be found", next)
            .because_of(Evidence::unreadable(ObjectRef::all(Kind::Pod), why)),
    )
}

fn ends(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    let name = &facts.change.new.name;
    if facts.change.new.terminating {
        let next = clues.kubectl(&["get", "postgresql", name, "-o", "yaml"]);
        let cause = Cause::new("the cluster is being deleted", next);
        return Some(cause.because(facts.postgresql_source(), DELETION, "set"));
    }
    facts.stateful_set.known().filter(|set| set.terminating)?;
    let next = clues.kubectl(&["get", "statefulset", name, "-o", "yaml"]);
    Some(Cause::new("the StatefulSet is being deleted: the operator replaces it", next).because(
        facts.stateful_set_source(),
        DELETION,
        "set",
    ))
}

/// Returns the cause where no member leads, or the leader is not certain.
fn leadership(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    if let Some(why) = facts.leader.unreadable() {
        let cause = Cause::new(
            "the leader is not known: its lock could not be read",
            clues.patronictl(&["list"]),
        );
        return Some(cause.because_of(Evidence::unreadable(facts.lock_source(), why)));
    }
    let labelled = labelled(facts);
    let Some(leader) = facts.leader_name() else { return Some(leaderless(clues)) };
    if facts.members.unreadable().is_some() || labelled == [leader] {
        return None;
    }
    let what = match labelled.as_slice() {
        [] => format!("{leader} leads, and no pod carries the leader's label"),
        [one] => format!("{leader} leads, and the leader's label is on {one}"),
        several => format!("{} pods carry the leader's label", several.len()),
    };
    let mut cause = Cause::new(what, clues.patronictl(&["list"])).because(
        facts.lock_source(),
        "leader",
        leader,
    );
    for name in labelled {
        cause = cause.because(ObjectRef::pod(name), "role label", "leader");
    }
    Some(cause)
}

fn leaderless(clues: &Clues<'_>) -> Cause {
    let facts = clues.facts();
    let lock = match facts.leader.known() {
        Some(lock) => match &lock.holder {
            Some(holder) => {
                let value = format!("{holder}, renewed {} ago", age(lock.renewed, facts.now));
                Evidence::new(lock.source.clone(), "leader", value)
            }
            None => Evidence::new(lock.source.clone(), "leader", "none"),
        },
        None => Evidence::absent(facts.lock_source()),
    };
    if is_paused(facts) {
        let what = "no member leads, and Patroni is paused: no member takes over";
        return ending_the_pause(clues, what, vec![lock]);
    }
    let assessment = clues.snapshot.facts.assessment();
    let members = facts.all_members();
    let list = clues.patronictl(&["list"]);
    let mut cause = if !members.is_empty() && members.iter().all(|it| barred(&assessment, it)) {
        let next = "remove the tag nofailover: no member leads, and one with the tag never does";
        Cause::new(
            "no member leads, and every member that is there is tagged nofailover",
            Remedy::note(next).or_to("see the tags", list),
        )
    } else {
        Cause::new("no member leads: nothing can be written", list)
    };
    cause = cause.because_of(lock);
    for member in members {
        let health = crate::plan::describe(&assessment.takeover(member));
        cause = cause.because(ObjectRef::pod(&member.name), "health", health);
    }
    cause
}

/// Returns whether `member` is tagged `nofailover`, whatever else ails it.
fn barred(assessment: &Assessment<'_>, member: &Member) -> bool {
    match assessment.takeover(member) {
        Health::Unhealthy(problems) => problems.contains(&Problem::NoFailover),
        Health::Healthy | Health::Unknown(_) => false,
    }
}

fn is_paused(facts: &Facts) -> bool {
    facts.configuration.known().is_some_and(|configuration| configuration.paused)
}

/// Returns the cause where Patroni is paused: it starts and rebuilds no member then.
fn paused(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    // Without a leader the pause is part of that cause.
    if !is_paused(facts) || facts.leader_name().is_none() {
        return None;
    }
    let what =
        "Patroni is paused: it neither starts nor rebuilds a member, and no member takes over";
    Some(ending_the_pause(clues, what, Vec::new()))
}

/// Returns the cause for a pause, which `resume` ends. It names no `resume` while a pod is marked,
/// as all are during a major upgrade: Patroni would start the data directories that are being
/// upgraded.
fn ending_the_pause(clues: &Clues<'_>, what: &str, evidence: Vec<Evidence>) -> Cause {
    let facts = clues.facts();
    let marked = critical_operation(facts);
    let next = if marked.is_empty() {
        clues.patronictl(&["resume", "--wait", &facts.change.new.name])
    } else {
        clues.kubectl(&["get", "pods", "-L", "critical-operation", "-w"])
    };
    let mut cause = Cause { evidence, ..Cause::new(what, next) }.because(
        facts.patroni_source("config"),
        "pause",
        true,
    );
    if marked.is_empty() {
        cause = cause.once("the pause is not needed any more");
    }
    cause.evidence.extend(marked);
    cause
}

#[cfg(test)]
mod tests;
