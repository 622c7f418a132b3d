//! How many instances there were and will be, as far as what is known of the operator tells.

use crate::change::Direction;
use crate::facts::{Facts, Seen};
use crate::operator::Operator;
use crate::postgresql::Postgresql;

/// The number of pods `operator` runs for `cluster`; the number written where it has no say that is known.
fn effective(operator: &Seen<Operator>, cluster: &Postgresql) -> i64 {
    match operator.known() {
        Some(operator) => operator.settings.effective(cluster),
        None => cluster.instances.unwrap_or(0),
    }
}

/// `operator` may still run with settings older than those that were read.
fn may_be_stale(operator: &Seen<Operator>) -> bool {
    operator.known().is_some_and(|operator| operator.stale_settings != Some(false))
}

impl Facts {
    /// The effective number of instances before the change, after the operator's own limits; `None` on
    /// CREATE.
    ///
    /// The operator reads its settings once. While those in place may be newer than its pod, it is not known by
    /// which limits a written shrink is carried out: from the most that may run ...
    pub fn from(&self) -> Option<i64> {
        let from = self.from_by_settings()?;
        let written = self.change.old.as_ref()?.instances.unwrap_or(0);
        let before = self.operator_before.as_deref().unwrap_or(&self.operator);
        Some(if self.written_shrink() && may_be_stale(before) { from.max(written) } else { from })
    }

    /// The effective number before the change by the settings in place, whichever the operator has read.
    pub fn from_by_settings(&self) -> Option<i64> {
        let old = self.change.old.as_ref()?;
        Some(match self.operator_before.as_deref() {
            None => effective(&self.operator, old),
            // No operator carried out what was written: what runs is what the StatefulSet says, and what still lives
            // of more, should another writer have scaled it.
            Some(Seen::Absent) if let Seen::Known(set) = &self.stateful_set => {
                let alive = self.all_members().iter().filter(|member| !member.pod.terminating);
                let beyond = alive.map(|member| member.ordinal.saturating_add(1)).max();
                set.replicas.max(beyond.unwrap_or(0))
            }
            Some(before) => effective(before, old),
        })
    }

    /// The effective number of instances the change leads to; of a written shrink by settings that may be newer
    /// than the operator's pod: ... to the fewest that may be left.
    pub fn to(&self) -> i64 {
        let to = self.to_by_settings();
        if self.shrinks_by_older_settings() { to.min(self.requested()) } else { to }
    }

    /// The effective number the change leads to by the settings in place, whichever the operator has read.
    pub fn to_by_settings(&self) -> i64 {
        effective(&self.operator, &self.change.new)
    }

    /// It is a shrink as it is written, and the operator may still run with other limits than those in place.
    /// Growth needs no such care: no limits make it a shrink.
    pub fn shrinks_by_older_settings(&self) -> bool {
        self.written_shrink() && may_be_stale(&self.operator)
    }

    fn written_shrink(&self) -> bool {
        let old = self.change.old.as_ref();
        old.is_some_and(|old| old.instances.unwrap_or(0) > self.requested())
    }

    /// The number the writer wrote; 0 when the field is missing, which is how the operator decodes it.
    pub fn requested(&self) -> i64 {
        self.change.new.instances.unwrap_or(0)
    }

    /// Which way the effective count goes. Down as well where nobody can tell and it might.
    pub fn direction(&self) -> Direction {
        match self.from() {
            None => Direction::Create,
            Some(from) if self.to() < from || self.limits_in_doubt() => Direction::Down,
            Some(from) if self.to() > from => Direction::Up,
            Some(_) => Direction::Same,
        }
    }

    /// The write changes the count of a cluster that exists, as it is written or as it is run.
    pub fn changes_count(&self) -> bool {
        self.change.old.as_ref().is_some_and(|old| {
            old.instances.unwrap_or(0) != self.requested() || self.direction() != Direction::Same
        })
    }

    /// Why it cannot be told what ran before a write that moves the cluster to another operator.
    pub fn count_before_unreadable(&self) -> Option<&str> {
        match self.operator_before.as_deref()? {
            Seen::Known(_) => None,
            Seen::Absent => self.stateful_set.unreadable(),
            Seen::Unreadable(why) => Some(why),
        }
    }

    /// The write touches what switches the operator's limits on and off, and those limits are not known:
    /// the same or a higher number may then be a smaller effective count.
    fn limits_in_doubt(&self) -> bool {
        if self.count_before_unreadable().is_some() {
            return true;
        }
        let (Some(old), Seen::Absent | Seen::Unreadable(_)) = (&self.change.old, &self.operator)
        else {
            return false;
        };
        let new = &self.change.new;
        // The annotation's key is a setting of the operator's; its value is always "true".
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
