//! What the members themselves say of the outcome: neither Kubernetes, nor the operator, nor Patroni is taken at
//! its word.
//!
//! Every member is asked in SQL who it is and whom it follows, and the answers are held against each other. A member
//! that could not be asked is told as such, and nothing is concluded from its silence.

use std::collections::{BTreeMap, BTreeSet};

use pgscale_guard::facts::{Facts, Live};
use pgscale_guard::patroni::{Role, Synchronous};

use crate::services::name;

mod ask;
mod canary;
mod verification;

pub(crate) use ask::ask;
pub(crate) use canary::{Canary, Flight, NoCanary, fly};
pub(crate) use verification::{Verification, gist};

/// What one member said, or why it said nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Testimony {
    /// The member.
    pub(crate) member: String,
    /// Its words.
    pub(crate) words: Result<Words, String>,
}

/// A member about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Words {
    /// `pg_is_in_recovery()`: it is a standby.
    pub(crate) in_recovery: bool,
    /// `pg_control_system().system_identifier`: which cluster its files belong to.
    pub(crate) system_identifier: String,
    /// The timeline it writes, or receives; `None` for a standby that receives nothing.
    pub(crate) timeline: Option<u64>,
    /// Byte position it has written (leader) or received (standby).
    pub(crate) written: Option<u64>,
    /// Byte position it has replayed; nothing for a leader.
    pub(crate) replayed: Option<u64>,
    /// Whom it receives from, for a standby that receives.
    pub(crate) receiver: Option<Receiver>,
    /// Who receives from it (`pg_stat_replication`).
    pub(crate) followers: Vec<Follower>,
}

/// `pg_stat_wal_receiver`, without its connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    /// `status`.
    pub(crate) status: String,
    /// `slot_name`; empty where it uses none.
    pub(crate) slot: String,
    /// `sender_host`.
    pub(crate) sender: String,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    /// `application_name`: Patroni's name of the member.
    pub(crate) name: String,
    /// `state`.
    pub(crate) state: String,
    /// `sync_state`.
    pub(crate) sync: String,
}

/// What follows from the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// What does not hold.
    pub(crate) wrong: Vec<String>,
    /// What could not be learned.
    pub(crate) unheard: Vec<String>,
}

/// Holds the answers against each other and against who leads by the lock.
pub(crate) fn judge(facts: &Facts, testimonies: &[Testimony]) -> Checked {
    let mut result = Checked::default();
    let mut heard: BTreeMap<&str, &Words> = BTreeMap::new();
    for Testimony { member, words } in testimonies {
        match words {
            Ok(words) => drop(heard.insert(member, words)),
            Err(why) => result.unheard.push(format!("{member} could not be asked: {why}")),
        }
    }
    let Some(leader) = facts.leader_name() else {
        match facts.leader.unreadable() {
            Some(why) => result.unheard.push(format!("who leads could not be read: {why}")),
            None if facts.to() == 0 => {}
            None => result.wrong.push("nobody holds a valid leader lock".to_owned()),
        }
        return result;
    };
    one_primary(leader, &heard, follows_elsewhere(facts), &mut result.wrong);
    one_identity(&heard, &mut result.wrong);
    for (member, words) in heard.iter().filter(|(member, _)| **member != leader) {
        follows(facts, member, words, &heard, &mut result.wrong);
    }
    if let Some(words) = heard.get(leader) {
        is_synchronous(facts, leader, words, &mut result);
    }
    result
}

/// It is a standby cluster: its leader follows a primary elsewhere.
pub(crate) fn follows_elsewhere(facts: &Facts) -> bool {
    let leader = facts.leader_member().map(|leader| &leader.live);
    facts.change.new.is_standby()
        || matches!(leader, Some(Live::Answered(answer)) if answer.role == Role::StandbyLeader)
}

fn one_primary(
    leader: &str,
    heard: &BTreeMap<&str, &Words>,
    elsewhere: bool,
    wrong: &mut Vec<String>,
) {
    for (member, words) in heard {
        let leads = *member == leader;
        match (words.in_recovery, leads) {
            (true, true) if !elsewhere => wrong.push(format!(
                "{member} holds the leader lock and is in recovery: it takes no writes"
            )),
            (false, true) if elsewhere => wrong.push(format!(
                "{member} leads a standby cluster and is not in recovery: it follows nobody"
            )),
            (false, false) => wrong.push(format!(
                "{member} is not in recovery although {leader} leads: it takes writes of its own"
            )),
            (true | false, _) => {}
        }
    }
}

/// One system identifier and one timeline.
fn one_identity(heard: &BTreeMap<&str, &Words>, wrong: &mut Vec<String>) {
    let named = |values: BTreeMap<String, Vec<&str>>, what: &str| {
        (values.len() > 1).then(|| {
            let each: Vec<String> = values
                .into_iter()
                .map(|(value, members)| format!("{value} ({})", members.join(", ")))
                .collect();
            format!("the members have different {what}: {}", each.join(", "))
        })
    };
    let mut identifiers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut timelines: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (member, words) in heard {
        identifiers.entry(words.system_identifier.clone()).or_default().push(member);
        if let Some(timeline) = words.timeline {
            timelines.entry(timeline.to_string()).or_default().push(member);
        }
    }
    wrong.extend(named(identifiers, "system identifiers"));
    wrong.extend(named(timelines, "timelines"));
}

/// `member` streams, from a member of this cluster that says so too.
fn follows(
    facts: &Facts,
    member: &str,
    words: &Words,
    heard: &BTreeMap<&str, &Words>,
    wrong: &mut Vec<String>,
) {
    let Some(receiver) = words.receiver.as_ref().filter(|_| words.in_recovery) else {
        if words.in_recovery {
            wrong.push(format!("{member} has no WAL receiver: it receives nothing"));
        }
        return;
    };
    if receiver.status != "streaming" {
        wrong.push(format!("the WAL receiver of {member} is {}", receiver.status));
        return;
    }
    // A sender may be told by its name as well.
    let Some(sender) = facts.member(name(facts, &receiver.sender)) else {
        wrong.push(format!(
            "{member} receives from {}, which is no member of this cluster",
            receiver.sender
        ));
        return;
    };
    let Some(words) = heard.get(sender.name.as_str()) else { return };
    match words.followers.iter().find(|follower| follower.name == member) {
        Some(follower) if follower.state == "streaming" => {}
        Some(follower) => {
            wrong.push(format!("{} sends to {member} in state {}", sender.name, follower.state));
        }
        None => wrong.push(format!(
            "{member} says that it receives from {}, which does not list it",
            sender.name
        )),
    }
}

/// Those that Patroni counts as synchronous are so for PostgreSQL.
fn is_synchronous(facts: &Facts, leader: &str, words: &Words, result: &mut Checked) {
    if let Some(why) = facts.configuration.unreadable() {
        result.unheard.push(format!("whether Patroni is synchronous could not be read: {why}"));
    }
    let on = facts
        .configuration
        .known()
        .is_some_and(|configuration| configuration.synchronous != Synchronous::Off);
    if !on {
        return;
    }
    if let Some(why) = facts.sync.unreadable() {
        result.unheard.push(format!("who is synchronous for Patroni could not be read: {why}"));
    }
    let Some(sync) = facts.sync.known() else { return };
    let synchronous: BTreeSet<&str> = words
        .followers
        .iter()
        .filter(|follower| matches!(follower.sync.as_str(), "sync" | "quorum"))
        .map(|follower| follower.name.as_str())
        .collect();
    for standby in &sync.standbys {
        if standby != leader && !synchronous.contains(standby.as_str()) {
            result.wrong.push(format!(
                "{standby} is a synchronous standby by Patroni's word and not by {leader}'s"
            ));
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::talkative;
