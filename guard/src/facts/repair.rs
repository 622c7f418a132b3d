//! Changes that improve a bad state: the members that may be removed, because they hold nothing
//! that others lack.

use crate::facts::{Claim, Facts, Live, Member, Seen};
use crate::patroni::State;

/// A change that improves a bad state. Neither live state nor the calendar refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Growth that adds no ordinal without a pod: it takes back an unfinished shrink.
    AddsNothingNew,
    /// `to` is the count that the StatefulSet already runs, and no pod beyond it lives: a change
    /// that was not applied is cancelled.
    Cancels,
    /// Growth, to no more than the present pods, that keeps a leader whose pod the StatefulSet is
    /// about to delete.
    KeepsLeader,
    /// The cluster has no pod and no kept volume.
    NothingRuns,
    /// The cluster comes back from zero: there are no members to judge.
    ReturnsFromZero,
    /// The change removes only members that are not healthy, and keeps the leader.
    RemovesUnhealthyOnly,
}

impl Repair {
    /// Returns the reason for which live-state rules only warn.
    pub fn reason(self) -> &'static str {
        match self {
            Self::AddsNothingNew => {
                "not refused: every member that the count adds still has its pod"
            }
            Self::KeepsLeader => {
                "not refused: the StatefulSet is about to delete the leader, and this count keeps it"
            }
            Self::Cancels => "not refused: the change returns to what the StatefulSet already runs",
            Self::NothingRuns => "not refused: the cluster has no pod and no kept volume",
            Self::ReturnsFromZero => "not refused: at 0 instances there are no members to judge",
            Self::RemovesUnhealthyOnly => {
                "not refused: it removes only members that are not healthy, and not the leader"
            }
        }
    }
}

impl Facts {
    /// Returns whether the change certainly removes nothing that the kept members lack.
    ///
    /// That holds where an uncontradicted leader is kept and its pod does not end, or else where no
    /// removed member left a pod or a volume.
    pub(crate) fn removes_nothing_newer(&self, from: i64) -> bool {
        let leads = self.leader_stays()
            && self
                .leader_member()
                .is_some_and(|leader| !leader.pod.terminating && !self.contradicts_lock(leader));
        let gone = self.to()..from;
        let kept = |claim: &Claim| claim.capacity.is_some() && gone.contains(&claim.ordinal);
        let nothing = self.condemned().next().is_none()
            && self.claims.known().is_some_and(|claims| !claims.iter().any(kept));
        leads || nothing
    }

    /// Returns the leader whose pod is about to be deleted, independent of this write.
    ///
    /// The StatefulSet deletes it where its ordinal is not below `spec.replicas`
    /// (`processCondemned`, `stateful_set_control.go` of Kubernetes). The operator deletes it where
    /// its ordinal is not below the count that the object already asks for.
    pub fn doomed_leader(&self) -> Option<&Member> {
        let replicas = self.stateful_set.known().map(|set| set.replicas);
        let declared = self.from().filter(|from| *from != 0);
        self.leader_member().filter(|leader| {
            [replicas, declared].into_iter().flatten().any(|count| leader.ordinal >= count)
        })
    }

    /// Returns whether `member` has a problem, yet reports as much WAL as the leader, or more than
    /// any kept replica.
    ///
    /// A paused replay or a few bytes of lag make it no worse a copy.
    pub(crate) fn holds_what_others_lack(&self, member: &Member) -> bool {
        let Live::Answered(answer) = &member.live else { return false };
        // The state of its pod and node counts with or without an answer: a lost node must not
        // block a repair.
        let pod = &member.pod;
        let ends = pod.terminating && !self.comes_back(member);
        if ends || !pod.containers_running || pod.node_ready == Some(false) {
            return false;
        }
        let leader = self.leader_member();
        let diverged = leader
            .and_then(Member::timeline)
            .zip(answer.timeline)
            .is_some_and(|(leader, own)| leader != own);
        if answer.state != State::Running || diverged || self.rebuilding(member).is_some() {
            return false;
        }
        let Some(own) = answer.position() else { return false };
        // A member that has left the leader's timeline, or is being built, counts WAL that it has
        // to give up or does not have.
        let timeline = leader.and_then(Member::timeline);
        let as_far = |other: &Member| match &other.live {
            Live::Answered(answer) => {
                answer.state == State::Running
                    && answer.timeline.is_some()
                    && answer.timeline == timeline
                    && self.rebuilding(other).is_none()
                    && answer.position().is_some_and(|position| position >= own)
            }
            Live::NotAsked | Live::Silent(_) => false,
        };
        let mut standbys =
            self.survivors().filter(|other| leader.is_none_or(|leader| other.name != leader.name));
        self.leader_position().is_none_or(|leader| own >= leader) || !standbys.any(as_far)
    }

    /// Returns whether the role that `member` reports contradicts the leader lock.
    ///
    /// A silent member is judged by its last report: a lock holder that last reported to be a
    /// replica is no leader until it says so.
    pub fn contradicts_lock(&self, member: &Member) -> bool {
        let holds = self.leader_name() == Some(member.name.as_str());
        let claims = match (&member.live, &member.report) {
            (Live::Answered(answer), _) => answer.role.leads(),
            (Live::Silent(_), Seen::Known(report)) => report.role.leads(),
            (Live::Silent(_) | Live::NotAsked, _) => return false,
        };
        claims != holds
    }

    /// Returns whether `member` was asked, is silent, and left no readable report: it may lead or
    /// not.
    pub fn may_contradict_lock(&self, member: &Member) -> bool {
        let holds = self.leader_name() == Some(member.name.as_str());
        match (&member.live, &member.report) {
            (Live::Silent(_), Seen::Unreadable(_)) => true,
            // A Patroni that never reported anything cannot hold the lock. Without the lock, it
            // never led.
            (Live::Silent(_), Seen::Absent) => holds,
            (Live::Silent(_), Seen::Known(_)) | (Live::Answered(_) | Live::NotAsked, _) => false,
        }
    }

    /// Returns whether `member` leads or claims to, or is on a newer timeline than the leader, or
    /// may be.
    pub(crate) fn may_be_ahead(&self, member: &Member) -> bool {
        let leads = match (&member.live, &member.report) {
            (Live::Answered(answer), _) => answer.role.leads(),
            (_, Seen::Known(report)) => report.role.leads(),
            (_, Seen::Unreadable(_)) => return true,
            // Its Patroni has never reported anything.
            (_, Seen::Absent) => false,
        };
        let state = match &member.live {
            Live::Answered(answer) => Some(&answer.state),
            Live::NotAsked | Live::Silent(_) => member.report.known().map(|report| &report.state),
        };
        let unclear = state == Some(&State::Running) && member.timeline().is_none();
        let leader = self.leader_member().and_then(Member::timeline);
        leads
            || unclear
            || member.timeline().is_some_and(|own| leader.is_none_or(|leader| own > leader))
    }
}
