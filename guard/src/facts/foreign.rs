//! Members that never join: their volume holds the data of another cluster, or their copy never ends.
//!
//! Patroni ends with "system ID mismatch" where the data directory has another system identifier than
//! the key `initialize`, each time it is started (`_run_cycle`, patroni/ha.py). While it is paused it
//! only warns of that. The text stands in the container's log alone, which the guard does not read.

use std::num::NonZeroU64;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::facts::{Claim, Facts, Live, Member, Seen};
use crate::patroni::State;

/// The time after which a member that is no copy yet blocks no growth any more: it is more likely
/// stuck than at work.
const LONG: SignedDuration = SignedDuration::from_hours(1);

/// The sign that a volume holds the data of another cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Foreign<'a> {
    /// The member answers with another system identifier.
    Identifier {
        /// Its own.
        own: NonZeroU64,
        /// The cluster's.
        cluster: &'a str,
    },
    /// The claim is older than the cluster, and the one that the cluster's data are on is not.
    Older {
        /// The claim.
        claim: &'a Claim,
        /// Its time of creation.
        made: Timestamp,
        /// The cluster's time of creation.
        cluster: Timestamp,
    },
    /// Its Patroni is started over and over, and has joined at no time.
    NeverJoined(SignedDuration),
}

impl Facts {
    /// Returns the time for which `member` has been no copy, where that is over an hour.
    ///
    /// The last start of its container bounds it. A pod that Patroni has never reported on, or that is
    /// Pending, has been none since it was made. A member that was reinitialised long after its
    /// container's start counts from that start, unless its pod stopped to be Ready with it.
    pub(crate) fn lasting(&self, member: &Member) -> Option<SignedDuration> {
        let pod = &member.pod;
        let never = pod.phase == "Pending" || member.report == Seen::Absent;
        let since = if never {
            [pod.created, pod.scheduled, pod.started].into_iter().flatten().min()?
        } else {
            pod.started?.max(pod.unready.unwrap_or(Timestamp::MIN))
        };
        self.over_an_hour(since)
    }

    /// Returns the time since `since`, where that is over an hour.
    pub(crate) fn over_an_hour(&self, since: Timestamp) -> Option<SignedDuration> {
        let lasts = self.now.duration_since(since);
        (lasts > LONG).then_some(lasts)
    }

    /// Returns the sign that the volume of `ordinal` holds the data of another cluster.
    ///
    /// The leader's own volume holds the cluster's data, and a member that streams has them as well.
    pub(crate) fn foreign(&self, ordinal: i64) -> Option<Foreign<'_>> {
        let member = self.all_members().iter().find(|member| member.ordinal == ordinal);
        let Some(member) = member else { return self.older(ordinal) };
        if self.holder() == Some(member.name.as_str()) || streams(member) {
            return None;
        }
        if let (Live::Answered(answer), Seen::Known(cluster)) = (&member.live, &self.initialize)
            && let Some(own) = answer.system_identifier
        {
            // One that says the same belongs to it, however old its claim is.
            return (own.to_string() != *cluster).then_some(Foreign::Identifier { own, cluster });
        }
        self.older(ordinal).or_else(|| self.never_joined(member))
    }

    /// Returns the holder of the leader lock, valid or not.
    fn holder(&self) -> Option<&str> {
        self.leader.known()?.holder.as_deref()
    }

    /// Returns the claim of `ordinal` where it is older than the cluster.
    ///
    /// Where the leader's claim is older too, the cluster was created again over its own volumes.
    fn older(&self, ordinal: i64) -> Option<Foreign<'_>> {
        let cluster = self.change.old.as_ref().unwrap_or(&self.change.new).created?;
        let claims = self.claims.known()?;
        let (claim, made) = claims
            .iter()
            .filter(|claim| claim.ordinal == ordinal && !claim.terminating)
            .find_map(|claim| Some((claim, claim.created?)))
            .filter(|(_, made)| *made < cluster)?;
        // Without a lock, ordinal 0 founded the cluster, unless the history names a later leader.
        let holder = self.holder().or(self.last_leader.known().map(String::as_str));
        let leads = |claim: &Claim| {
            let name = self.pod_name(claim.ordinal);
            holder.map_or(claim.ordinal == 0, |holder| holder == name)
        };
        let founded = claims.iter().filter(|claim| leads(claim)).find_map(|claim| claim.created)?;
        (founded >= cluster).then_some(Foreign::Older { claim, made, cluster })
    }

    /// Returns the time for which the Patroni of `member` has been started over and over.
    ///
    /// One that is at work on a copy says so, in its annotation or when it is asked.
    fn never_joined(&self, member: &Member) -> Option<Foreign<'_>> {
        let silent = matches!(member.live, Live::Silent(_) | Live::NotAsked);
        let idle = match &member.report {
            Seen::Absent => true,
            Seen::Known(report) => matches!(report.state, State::Stopped | State::Failed),
            Seen::Unreadable(_) => false,
        };
        let stands = member.pod.phase == "Running" && !member.pod.terminating;
        // Without an answer of any member it is the way to them that is closed.
        (silent && idle && stands && self.any_member_answered())
            .then(|| self.lasting(member).map(Foreign::NeverJoined))
            .flatten()
    }
}

/// Returns whether `member` follows the leader, as it answers or last reported.
fn streams(member: &Member) -> bool {
    match (&member.live, &member.report) {
        (Live::Answered(answer), _) => {
            answer.state == State::Running && answer.replication_state.is_some()
        }
        (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => {
            report.state == State::Running && report.replication_state.is_some()
        }
        (Live::NotAsked | Live::Silent(_), Seen::Absent | Seen::Unreadable(_)) => false,
    }
}
