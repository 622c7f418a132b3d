//! Members with a pod that is being recreated, by a rolling update or a drain. They are absent for
//! seconds, and as good copies as before once they are back.

use crate::facts::{Facts, Member, Problem};

impl Facts {
    /// Returns whether the pod of `member` is ending and its StatefulSet, as far as is known,
    /// recreates it.
    pub(super) fn comes_back(&self, member: &Member) -> bool {
        let stays_away =
            self.stateful_set.known().is_some_and(|set| set.replicas <= member.ordinal);
        member.pod.terminating && !stays_away
    }

    /// Returns whether `problem` proves that `member` is unhealthy.
    ///
    /// The end of a pod that comes back, and of its PostgreSQL, proves nothing.
    pub(crate) fn proven(&self, member: &Member, problem: &Problem) -> bool {
        let of_the_end = match problem {
            Problem::Terminating | Problem::NotRunning(_) => true,
            // A pod that is Pending never ran.
            Problem::PodNotRunning(_) => member.pod.phase != "Pending",
            Problem::Behind(_)
            | Problem::Missing
            | Problem::NodeNotReady(_)
            | Problem::NoFailover
            | Problem::NotReplicating
            | Problem::Rebuilding(_)
            | Problem::ReplayBehind { .. }
            | Problem::ReplayPaused
            | Problem::Silent(_)
            | Problem::StoreUnreached(_)
            | Problem::Timeline { .. }
            | Problem::WatchdogFailed
            | Problem::WrongRole => false,
        };
        member.proves(problem) && !(of_the_end && self.comes_back(member))
    }

    /// Returns the number of kept members that must be healthy.
    pub(crate) fn fit_needed(&self) -> usize {
        usize::try_from(self.to().min(2)).unwrap_or(0)
    }
}
