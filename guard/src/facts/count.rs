//! The number of instances before and after the change, as far as the operator's settings are
//! known.

use crate::change::Direction;
use crate::facts::{Facts, Seen};
use crate::operator::Operator;
use crate::postgresql::Postgresql;

/// Returns the number of pods that `operator` runs for `cluster`, and the written number where its
/// limits are not known.
fn effective(operator: &Seen<Operator>, cluster: &Postgresql) -> i64 {
    match operator.known() {
        Some(operator) => operator.settings.effective(cluster),
        None => cluster.instances.unwrap_or(0),
    }
}

/// Returns whether `operator` may still run with settings older than those that were read.
fn may_be_stale(operator: &Seen<Operator>) -> bool {
    operator.known().is_some_and(|operator| operator.stale_settings != Some(false))
}

impl Facts {
    /// Returns the effective number of instances before the change, after the operator's own
    /// limits. `None` on CREATE.
    ///
    /// The operator reads its settings once. While those in place may be newer than its pod, it is
    /// not known which limits it applies to a written shrink. This function then returns the most
    /// instances that may run, and [`to`](Self::to) the fewest that may remain.
    pub fn from(&self) -> Option<i64> {
        let from = self.from_by_settings()?;
        let written = self.change.old.as_ref()?.instances.unwrap_or(0);
        let before = self.operator_before.as_deref().unwrap_or(&self.operator);
        Some(if self.written_shrink() && may_be_stale(before) { from.max(written) } else { from })
    }

    /// Returns the effective number before the change by the settings in place, whether or not the
    /// operator has read them.
    pub fn from_by_settings(&self) -> Option<i64> {
        let old = self.change.old.as_ref()?;
        Some(match self.operator_before.as_deref() {
            None => effective(&self.operator, old),
            // No operator carried out the written count. The StatefulSet's count runs, and beyond
            // it the pods that still live, should another writer have scaled it.
            Some(Seen::Absent) if let Seen::Known(set) = &self.stateful_set => {
                let alive = self.all_members().iter().filter(|member| !member.pod.terminating);
                let beyond = alive.map(|member| member.ordinal.saturating_add(1)).max();
                set.replicas.max(beyond.unwrap_or(0))
            }
            Some(before) => effective(before, old),
        })
    }

    /// Returns the effective number of instances after the change.
    ///
    /// For a written shrink under settings that may be newer than the operator's pod, the fewest
    /// that may remain.
    pub fn to(&self) -> i64 {
        let to = self.to_by_settings();
        if self.shrinks_by_older_settings() { to.min(self.requested()) } else { to }
    }

    /// Returns the effective number after the change by the settings in place, whether or not the
    /// operator has read them.
    pub fn to_by_settings(&self) -> i64 {
        effective(&self.operator, &self.change.new)
    }

    /// Returns whether the written count shrinks, and the operator may still run with other limits
    /// than those in place.
    ///
    /// Growth needs no such care: no limits turn it into a shrink.
    pub fn shrinks_by_older_settings(&self) -> bool {
        self.written_shrink() && may_be_stale(&self.operator)
    }

    /// Returns whether the write lowers the written count, whatever the operator's limits make of it.
    pub fn written_shrink(&self) -> bool {
        let old = self.change.old.as_ref();
        old.is_some_and(|old| old.instances.unwrap_or(0) > self.requested())
    }

    /// Returns whether the write raises the written count, or writes the first one, whatever the
    /// operator's limits make of it.
    pub fn written_growth(&self) -> bool {
        let old = self.change.old.as_ref();
        old.is_none_or(|old| old.instances.unwrap_or(0) < self.requested())
    }

    /// Returns the written number. A missing field is 0, as the operator decodes it.
    pub fn requested(&self) -> i64 {
        self.change.new.instances.unwrap_or(0)
    }

    /// Returns the direction of the effective count. `Down` also where it is not known and may be
    /// down.
    pub fn direction(&self) -> Direction {
        match self.from() {
            None => Direction::Create,
            Some(from) if self.to() < from || self.limits_in_doubt() => Direction::Down,
            Some(from) if self.to() > from => Direction::Up,
            Some(_) => Direction::Same,
        }
    }

    /// Returns whether the write changes the written or the effective count of an existing cluster.
    pub fn changes_count(&self) -> bool {
        self.change.old.as_ref().is_some_and(|old| {
            old.instances.unwrap_or(0) != self.requested() || self.direction() != Direction::Same
        })
    }

    /// Returns the reason for which the count before is not known, for a write that moves the
    /// cluster to another operator.
    pub fn count_before_unreadable(&self) -> Option<&str> {
        match self.operator_before.as_deref()? {
            Seen::Known(_) => None,
            Seen::Absent => self.stateful_set.unreadable(),
            Seen::Unreadable(why) => Some(why),
        }
    }

    /// Returns whether the write touches the switches of the operator's limits while those limits
    /// are not known.
    ///
    /// The same or a higher number may then be a smaller effective count.
    fn limits_in_doubt(&self) -> bool {
        if self.count_before_unreadable().is_some() {
            return true;
        }
        let (Some(old), Seen::Absent | Seen::Unreadable(_)) = (&self.change.old, &self.operator)
        else {
            return false;
        };
        let new = &self.change.new;
        // The annotation's key is a setting of the operator. Its value is always "true".
        let switches = |cluster: &Postgresql| {
            let mut keys: Vec<_> = cluster
                .annotations
                .iter()
                .filter(|(_, value)| *value == "true")
                .map(|(key, _)| key.clone())
                .collect();
            keys.sort_unstable();
            keys
        };
        switches(old) != switches(new)
            || old.controller() != new.controller()
            || old.is_standby() != new.is_standby()
    }
}
