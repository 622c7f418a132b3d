//! The members' own reports on the outcome: neither Kubernetes, nor the operator, nor Patroni is
//! trusted here.
//!
//! Every member is asked in SQL for its identity and its sender, and the answers are compared. A
//! member that could not be asked is reported as such, and nothing is concluded from its silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pgscale_guard::facts::{Facts, Live};
use pgscale_guard::patroni::{Role, Synchronous};

use crate::exec::ExecError;
use crate::services::name;

mod ask;
mod canary;
mod verification;

pub(crate) use ask::ask;
pub(crate) use canary::{Canary, Flight, NoCanary, fly};
pub(crate) use verification::{Before, Verification};

/// The answers of one member, or the reason for its silence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Testimony {
    /// The member.
    pub(crate) member: String,
    /// Its answers.
    pub(crate) words: Result<Words, ExecError>,
}

/// The answers of a member about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Words {
    /// `pg_is_in_recovery()`: the member is a standby.
    pub(crate) in_recovery: bool,
    /// `pg_control_system().system_identifier`: the identity of the cluster to which its files
    /// belong.
    pub(crate) system_identifier: String,
    /// The timeline that it writes or receives. `None` for a standby that receives nothing.
    pub(crate) timeline: Option<u64>,
    /// Byte position it has written (leader) or received (standby).
    pub(crate) written: Option<u64>,
    /// Byte position it has replayed. `None` for a leader.
    pub(crate) replayed: Option<u64>,
    /// Its receiver, for a standby that receives.
    pub(crate) receiver: Option<Receiver>,
    /// The members that receive from it (`pg_stat_replication`).
    pub(crate) followers: Vec<Follower>,
}

/// `pg_stat_wal_receiver`, without its connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    /// `status`.
    pub(crate) status: String,
    /// `slot_name`. Empty where it uses none.
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

/// The conclusions from the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Conditions that do not hold.
    pub(crate) wrong: Vec<Wrong>,
    /// Conditions that are not known.
    pub(crate) unheard: Vec<String>,
}

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// No member holds a valid leader lock.
    NoLeader,
    /// The leader is in recovery.
    LeaderInRecovery(String),
    /// The leader of a standby cluster is not in recovery.
    LeaderFollowsNone(String),
    /// A member is not in recovery although another one leads.
    SecondLeader {
        /// The member.
        member: String,
        /// The leader by the lock.
        leader: String,
    },
    /// The members have different values of one thing.
    Differ {
        /// The thing, in the plural.
        what: &'static str,
        /// Each value, and the members that have it.
        values: Vec<(String, Vec<String>)>,
    },
    /// A standby has no WAL receiver.
    NoReceiver(String),
    /// A standby's WAL receiver does not stream.
    Receiver {
        /// The standby.
        member: String,
        /// The receiver's status.
        status: String,
    },
    /// A standby receives from no member.
    Stranger {
        /// The standby.
        member: String,
        /// The sender from which it receives.
        sender: String,
    },
    /// The sender of a standby does not stream to it.
    Sender {
        /// The sender.
        sender: String,
        /// The standby.
        member: String,
        /// The state of the sending.
        state: String,
    },
    /// The sender of a standby does not list it.
    Unlisted {
        /// The standby.
        member: String,
        /// Its sender.
        sender: String,
    },
    /// A standby is synchronous for Patroni and not for PostgreSQL.
    NotSynchronous {
        /// The standby.
        standby: String,
        /// The leader.
        leader: String,
    },
}

impl Wrong {
    /// Returns the same without the parts that differ from look to look: numbers, and addresses.
    pub(crate) fn steady(self) -> Self {
        match self {
            Self::Differ { what, mut values } => {
                for (value, _) in &mut values {
                    value.clear();
                }
                values.sort();
                Self::Differ { what, values }
            }
            Self::Stranger { member, .. } => Self::Stranger { member, sender: String::new() },
            same @ (Self::NoLeader
            | Self::LeaderInRecovery(_)
            | Self::LeaderFollowsNone(_)
            | Self::SecondLeader { .. }
            | Self::NoReceiver(_)
            | Self::Receiver { .. }
            | Self::Sender { .. }
            | Self::Unlisted { .. }
            | Self::NotSynchronous { .. }) => same,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(out, "no member holds a valid leader lock"),
            Self::LeaderInRecovery(leader) => {
                write!(out, "{leader} holds the leader lock and is in recovery: it takes no writes")
            }
            Self::LeaderFollowsNone(leader) => write!(
                out,
                "{leader} leads a standby cluster and is not in recovery: it follows no other server"
            ),
            Self::SecondLeader { member, leader } => write!(
                out,
                "{member} is not in recovery although {leader} leads: it takes writes of its own"
            ),
            Self::Differ { what, values } => {
                let each: Vec<String> = values
                    .iter()
                    .map(|(value, members)| format!("{value} ({})", members.join(", ")))
                    .collect();
                write!(out, "the members have different {what}: {}", each.join(", "))
            }
            Self::NoReceiver(member) => {
                write!(out, "{member} has no WAL receiver: it receives nothing")
            }
            Self::Receiver { member, status } => {
                write!(out, "the WAL receiver of {member} is {status}")
            }
            Self::Stranger { member, sender } => {
                write!(out, "{member} receives from {sender}, which is no member of this cluster")
            }
            Self::Sender { sender, member, state } => {
                write!(out, "{sender} sends to {member} in state {state}")
            }
            Self::Unlisted { member, sender } => {
                write!(out, "{member} says that it receives from {sender}, which does not list it")
            }
            Self::NotSynchronous { standby, leader } => write!(
                out,
                "{standby} is a synchronous standby by Patroni's word and not by {leader}'s"
            ),
        }
    }
}

/// Compares the answers with each other and with the holder of the lock.
pub(crate) fn judge(facts: &Facts, testimonies: &[Testimony]) -> Checked {
    let mut result = Checked::default();
    let mut answers: BTreeMap<&str, &Words> = BTreeMap::new();
    for Testimony { member, words } in testimonies {
        match words {
            Ok(words) => drop(answers.insert(member, words)),
            Err(why) => result.unheard.push(format!("{member} could not be asked: {why}")),
        }
    }
    let Some(leader) = facts.leader_name() else {
        match facts.leader.unreadable() {
            Some(why) => result.unheard.push(format!("who leads could not be read: {why}")),
            None if facts.to() == 0 => {}
            None => result.wrong.push(Wrong::NoLeader),
        }
        return result;
    };
    one_primary(leader, &answers, follows_elsewhere(facts), &mut result.wrong);
    one_identity(&answers, &mut result.wrong);
    for (member, words) in answers.iter().filter(|(member, _)| **member != leader) {
        result.wrong.extend(follows(facts, member, words, &answers));
    }
    if let Some(words) = answers.get(leader) {
        is_synchronous(facts, leader, words, &mut result);
    }
    result
}

/// Returns whether it is a standby cluster, whose leader follows a primary elsewhere.
pub(crate) fn follows_elsewhere(facts: &Facts) -> bool {
    let leader = facts.leader_member().map(|leader| &leader.live);
    facts.change.new.is_standby()
        || matches!(leader, Some(Live::Answered(answer)) if answer.role == Role::StandbyLeader)
}

fn one_primary(
    leader: &str,
    answers: &BTreeMap<&str, &Words>,
    elsewhere: bool,
    wrong: &mut Vec<Wrong>,
) {
    for (member, words) in answers {
        let name = || (*member).to_owned();
        match (words.in_recovery, *member == leader) {
            (true, true) if !elsewhere => wrong.push(Wrong::LeaderInRecovery(name())),
            (false, true) if elsewhere => wrong.push(Wrong::LeaderFollowsNone(name())),
            (false, false) => {
                wrong.push(Wrong::SecondLeader { member: name(), leader: leader.to_owned() });
            }
            (true | false, _) => {}
        }
    }
}

/// Checks that there are one system identifier and one timeline.
fn one_identity(answers: &BTreeMap<&str, &Words>, wrong: &mut Vec<Wrong>) {
    let named = |values: BTreeMap<String, Vec<String>>, what: &'static str| {
        (values.len() > 1).then(|| Wrong::Differ { what, values: values.into_iter().collect() })
    };
    let mut identifiers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut timelines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (member, words) in answers {
        let name = || (*member).to_owned();
        identifiers.entry(words.system_identifier.clone()).or_default().push(name());
        if let Some(timeline) = words.timeline {
            timelines.entry(timeline.to_string()).or_default().push(name());
        }
    }
    wrong.extend(named(identifiers, "system identifiers"));
    wrong.extend(named(timelines, "timelines"));
}

/// Returns the reason for which `member` does not stream, from a member of this cluster that
/// confirms it.
fn follows(
    facts: &Facts,
    member: &str,
    words: &Words,
    answers: &BTreeMap<&str, &Words>,
) -> Option<Wrong> {
    let member = member.to_owned();
    if !words.in_recovery {
        return None;
    }
    let Some(receiver) = &words.receiver else { return Some(Wrong::NoReceiver(member)) };
    if receiver.status != "streaming" {
        return Some(Wrong::Receiver { member, status: receiver.status.clone() });
    }
    // A sender may be given by its name as well.
    let Some(sender) = facts.member(name(facts, &receiver.sender)) else {
        return Some(Wrong::Stranger { member, sender: receiver.sender.clone() });
    };
    let words = answers.get(sender.name.as_str())?;
    let sender = sender.name.clone();
    match words.followers.iter().find(|follower| follower.name == member) {
        Some(follower) if follower.state == "streaming" => None,
        Some(follower) => Some(Wrong::Sender { sender, member, state: follower.state.clone() }),
        None => Some(Wrong::Unlisted { member, sender }),
    }
}

/// Checks that the members that Patroni counts as synchronous are so for PostgreSQL.
fn is_synchronous(facts: &Facts, leader: &str, words: &Words, result: &mut Checked) {
    if let Some(why) = facts.configuration.unreadable() {
        result.unheard.push(format!("whether Patroni is synchronous could not be read: {why}"));
    }
    let on = facts
        .configuration
        .known()
        .is_some_and(|configuration| configuration.synchrony() != Synchronous::Off);
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
            let (standby, leader) = (standby.clone(), leader.to_owned());
            result.wrong.push(Wrong::NotSynchronous { standby, leader });
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::talkative;
