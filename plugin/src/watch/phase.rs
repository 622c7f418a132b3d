//! How far a member has come, as a timeline a person follows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pgscale_guard::Seen;
use pgscale_guard::facts::{Facts, Health, Member};

use super::{Goal, Snapshot, replicates};
use crate::plan::describe;

/// How far a member has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It runs and is not yet what it should be.
    Behind(String),
    /// It is being cloned.
    Cloning,
    /// Its pod is there; nothing runs yet, and why.
    Created(Option<String>),
    /// It serves readers or, as the leader, writers.
    InService(&'static str),
    /// Its PostgreSQL container runs; Patroni has not said what it does.
    Started,
    /// Its pod is being deleted.
    Stopping,
    /// It replicates, and its Service does not lead to it yet.
    Streaming,
}

impl Phase {
    /// It is where it should be.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::InService(_) | Self::Streaming)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(why) => write!(out, "{why}"),
            Self::Cloning => write!(out, "base backup"),
            Self::Created(None) => write!(out, "pod created"),
            Self::Created(Some(why)) => write!(out, "pod created, waiting: {why}"),
            Self::InService(role) => write!(out, "in service as {role}"),
            Self::Started => write!(out, "container started"),
            Self::Stopping => write!(out, "stopping"),
            Self::Streaming => write!(out, "streaming"),
        }
    }
}

/// The phase of every member, by name. Members unfit from the start do not take part.
pub(crate) fn phases(goal: &Goal, snapshot: &Snapshot) -> BTreeMap<String, Phase> {
    let facts = &snapshot.facts;
    facts
        .all_members()
        .iter()
        .filter(|member| !goal.unfit.contains(&member.name))
        .map(|member| (member.name.clone(), phase(facts, member, snapshot)))
        .collect()
}

fn phase(facts: &Facts, member: &Member, snapshot: &Snapshot) -> Phase {
    // One that goes is not worth a word on its health.
    if member.pod.terminating || member.ordinal >= facts.to() {
        return Phase::Stopping;
    }
    if !member.pod.containers_running {
        return Phase::Created(member.pod.waiting.clone());
    }
    let health = facts.health(member);
    let healthy = health == Health::Healthy;
    if facts.leader_name() == Some(member.name.as_str()) {
        return if healthy { Phase::InService("leader") } else { Phase::Behind(describe(&health)) };
    }
    if facts.rebuilding(member).is_some() {
        return match &member.report {
            Seen::Known(_) => Phase::Cloning,
            Seen::Absent | Seen::Unreadable(_) => Phase::Started,
        };
    }
    if !healthy {
        return match &member.report {
            Seen::Absent => Phase::Started,
            Seen::Known(_) | Seen::Unreadable(_) => {
                Phase::Behind(without_numbers(&describe(&health)))
            }
        };
    }
    if replicates(member) == Some(false) {
        Phase::Behind("catching up".to_owned())
    } else if served(member, &snapshot.services.replicas) {
        Phase::InService("replica")
    } else {
        Phase::Streaming
    }
}

/// A line that changes with every byte is noise.
fn without_numbers(text: &str) -> String {
    if text.contains(" bytes behind") { "catching up".to_owned() } else { text.to_owned() }
}

fn served(member: &Member, addresses: &Seen<BTreeSet<String>>) -> bool {
    member
        .pod
        .ip
        .as_ref()
        .is_some_and(|ip| addresses.known().is_some_and(|addresses| addresses.contains(ip)))
}
