//! What a write does to the leader's pod and to the number of members.

use crate::change::Direction;
use crate::facts::Facts;

impl Facts {
    /// Returns whether the change removes the leader's pod.
    pub fn leader_condemned(&self) -> bool {
        self.leader_member().is_some_and(|leader| leader.ordinal >= self.to())
    }

    /// Returns whether carrying out this write deletes the leader's pod.
    ///
    /// Not only a shrink does that. By the operator's limits, or by an earlier write that is not
    /// carried out yet, more pods may live than the object asks for. The operator compares the new
    /// count with those (`updateStatefulSet`, pkg/cluster/resources.go).
    pub fn deletes_leader(&self) -> bool {
        self.changes_count()
            && self.from().is_some_and(|from| from != 0)
            && self.to() >= 1
            && self.leader_condemned()
    }

    /// Returns whether this write stops every member while another than ordinal 0 leads.
    ///
    /// The highest ordinals are stopped first, so ordinal 0 leads last, and starts first again.
    pub fn leads_from_above_at_zero(&self) -> bool {
        self.to() == 0
            && self.from().is_some_and(|from| from != 0)
            && self.leader_member().is_some_and(|leader| leader.ordinal != 0)
    }

    /// Returns whether this write starts a member that has no pod now.
    ///
    /// The count in the object before does not tell: by the operator's limits, or by another
    /// writer, the StatefulSet may ask for fewer.
    pub fn adds_members(&self) -> bool {
        let asks = self.direction() == Direction::Create || self.changes_count();
        let replicas = self.stateful_set.known().map_or(0, |set| set.replicas);
        // The search ends at the first ordinal without a pod: a count may be as high as an int32.
        asks && (replicas.max(0)..self.to()).any(|ordinal| !self.has_pod(ordinal))
    }

    /// Returns whether a pod with this ordinal was seen.
    pub(crate) fn has_pod(&self, ordinal: i64) -> bool {
        self.all_members().iter().any(|member| member.ordinal == ordinal)
    }

    /// Returns whether a leader is known and its pod is kept. An unknown leader counts as removed.
    pub fn leader_stays(&self) -> bool {
        self.leader_member().is_some_and(|leader| leader.ordinal < self.to())
    }
}
