//! Role, activity and lag of a member, for every text and document.

use std::fmt;

use pgscale_guard::Seen;
use pgscale_guard::facts::{Facts, Live, Member};
use pgscale_guard::patroni;

/// The part of a member in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It holds the leader lock.
    Leader,
    /// A replica for whose confirmation a commit waits.
    SyncStandby,
    /// A member that follows another one.
    Replica,
}

impl Role {
    /// Returns the part of `member`.
    pub(crate) fn of(facts: &Facts, member: &Member) -> Self {
        if facts.leader_name() == Some(member.name.as_str()) {
            Self::Leader
        } else if is_sync(facts, member) {
            Self::SyncStandby
        } else {
            Self::Replica
        }
    }

    /// Returns the word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::SyncStandby => "sync standby",
            Self::Replica => "replica",
        }
    }
}

/// Returns whether `member` is a synchronous standby of the leader.
pub(crate) fn is_sync(facts: &Facts, member: &Member) -> bool {
    facts
        .leader_name()
        .zip(facts.sync.known())
        .is_some_and(|(leader, sync)| sync.contains(leader, &member.name))
}

/// The present work of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Activity<'a> {
    /// Its pod is being deleted.
    Terminating,
    /// Its containers do not run, in the word of the pod.
    NotStarted(String),
    /// It copies the leader's data.
    CreatingReplica,
    /// It replicates, in PostgreSQL's word.
    Replicating(&'a str),
    /// The state that Patroni reports.
    Patroni(&'a patroni::State),
    /// It was asked, and did not answer.
    Silent,
    /// Nothing is known.
    Unknown,
}

impl<'a> Activity<'a> {
    /// Returns the present work of `member`.
    pub(crate) fn of(facts: &Facts, member: &'a Member) -> Self {
        let pod = &member.pod;
        if pod.terminating {
            return Self::Terminating;
        }
        if !pod.containers_running {
            let waiting = pod.waiting.as_ref().map(ToString::to_string);
            return Self::NotStarted(waiting.unwrap_or_else(|| pod.phase.clone()));
        }
        if facts.rebuilding(member).is_some() {
            return Self::CreatingReplica;
        }
        match (&member.live, &member.report) {
            (Live::Answered(answer), _) => match &answer.replication_state {
                Some(words) if answer.state == patroni::State::Running => Self::Replicating(words),
                _ => Self::Patroni(&answer.state),
            },
            (Live::Silent(_), _) => Self::Silent,
            (Live::NotAsked, Seen::Known(report)) => Self::Patroni(&report.state),
            (Live::NotAsked, Seen::Absent | Seen::Unreadable(_)) => Self::Unknown,
        }
    }
}

impl fmt::Display for Activity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminating => "terminating",
            Self::NotStarted(why) => why,
            Self::CreatingReplica => "creating replica",
            Self::Replicating(words) => words,
            Self::Patroni(state) => state.word(),
            Self::Silent => "does not answer",
            Self::Unknown => "",
        })
    }
}

/// The seconds until a replica had written, flushed and replayed the WAL of a commit. `None` where
/// PostgreSQL measured none lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Delays {
    /// `write_lag`.
    pub(crate) write: Option<f64>,
    /// `flush_lag`.
    pub(crate) flush: Option<f64>,
    /// `replay_lag`.
    pub(crate) replay: Option<f64>,
}

/// Returns how many bytes a standby had not received, by the reports of both. They are some seconds
/// old. `None` where one of them reports no position.
pub(crate) fn reported_lag(facts: &Facts, member: &Member) -> Option<u64> {
    let position = |member: &Member| member.report.known()?.position;
    let optime = facts.leader.known().and_then(|lock| lock.optime);
    let leader = facts.leader_member().and_then(position).max(optime)?;
    Some(leader.saturating_sub(position(member)?))
}

/// Returns whether the member's PostgreSQL waits for a restart: by its answer, or else by its report.
pub(crate) fn waits_for_restart(member: &Member) -> bool {
    match (&member.live, member.report.known()) {
        (Live::Answered(answer), _) => answer.pending_restart,
        (Live::NotAsked | Live::Silent(_), report) => {
            report.is_some_and(|report| report.pending_restart)
        }
    }
}

/// Returns how many bytes a standby had not received when the leader was asked.
pub(crate) fn lag_bytes(facts: &Facts, member: &Member) -> Option<u64> {
    let Live::Answered(answer) = &member.live else { return None };
    Some(facts.leader_position()?.saturating_sub(answer.position()?))
}
