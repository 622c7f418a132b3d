//! Members whose pods are made anew, by a rolling update or a drain: gone for seconds, and as good copies as
//! before once they are back.

use crate::facts::{Ailment, Facts, Member};

impl Facts {
    /// The pod of `member` is ending and its StatefulSet, as far as anybody knows, makes it anew.
    pub(super) fn comes_back(&self, member: &Member) -> bool {
        let stays_away =
            self.stateful_set.known().is_some_and(|set| set.replicas <= member.ordinal);
        member.pod.terminating && !stays_away
    }

    /// `ailment` shows that `member` cannot be counted on. That a pod which comes back ends, and its PostgreSQL
    /// with it, shows nothing.
    pub(crate) fn proven(&self, member: &Member, ailment: &Ailment) -> bool {
        let of_the_end = match ailment {
            Ailment::Terminating | Ailment::NotRunning(_) => true,
            // A pod that is Pending never ran.
            Ailment::PodNotRunning(_) => member.pod.phase != "Pending",
            Ailment::Behind(_)
            | Ailment::Missing
            | Ailment::NodeNotReady(_)
            | Ailment::NoFailover
            | Ailment::NotReplicating
            | Ailment::Rebuilding(_)
            | Ailment::ReplayBehind(_)
            | Ailment::ReplayPaused
            | Ailment::Silent(_)
            | Ailment::Timeline { .. }
            | Ailment::WrongRole => false,
        };
        member.proves(ailment) && !(of_the_end && self.comes_back(member))
    }

    /// How many of the members that stay have to be fit.
    pub(crate) fn fit_needed(&self) -> usize {
        usize::try_from(self.to().min(2)).unwrap_or(0)
    }
}
