//! Members whose pods are made anew, by a rolling update or a drain: gone for seconds, and as good copies as
//! before once they are back.

use crate::facts::{Facts, Member, Problem};

impl Facts {
    /// The pod of `member` is ending and its StatefulSet, as far as anybody knows, makes it anew.
    pub(super) fn comes_back(&self, member: &Member) -> bool {
        let stays_away =
            self.stateful_set.known().is_some_and(|set| set.replicas <= member.ordinal);
        member.pod.terminating && !stays_away
    }

    /// `problem` shows that `member` cannot be counted on. That a pod which comes back ends, and its PostgreSQL
    /// with it, shows nothing.
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
            | Problem::Timeline { .. }
            | Problem::WrongRole => false,
        };
        member.proves(problem) && !(of_the_end && self.comes_back(member))
    }

    /// How many of the members that stay have to be fit.
    pub(crate) fn fit_needed(&self) -> usize {
        usize::try_from(self.to().min(2)).unwrap_or(0)
    }
}
