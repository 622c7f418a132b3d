//! The ids of the rules: a part of the API.

use std::fmt;

use serde::Serialize;

/// The id of one rule, such as `leader-condemned`.
///
/// There is no value for an id that no rule has. Only [`RuleId::parse`] makes one from a person's
/// text or a stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RuleId(&'static str);

macro_rules! ids {
    ($($name:ident = $id:literal,)*) => {
        impl RuleId {
            $(
                #[doc = concat!("`", $id, "`")]
                pub const $name: Self = Self($id);
            )*

            /// Every id, in the order of the printed findings.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

ids! {
    BELOW_MIN = "below-min",
    ABOVE_MAX = "above-max",
    OUTSIDE_FLOOR = "outside-floor",
    SCALE_TO_ZERO = "scale-to-zero",
    NAMESPACE_BUDGET = "namespace-budget",
    RETURN_FROM_ZERO = "return-from-zero",
    OPERATOR_LIMITS = "operator-limits",
    LIMITS_UNKNOWN = "limits-unknown",
    STANDBY_CLUSTER = "standby-cluster",
    DCS_STORE_CHANGING = "dcs-store-changing",
    STEP_TOO_LARGE = "step-too-large",
    CHANGE_FREEZE = "change-freeze",
    OUTSIDE_WINDOW = "outside-window",
    NO_LEADER = "no-leader",
    LEADER_CONDEMNED = "leader-condemned",
    LEADER_CANNOT_MOVE = "leader-cannot-move",
    LAST_TO_STOP = "last-to-stop",
    TOO_FEW_HEALTHY_SURVIVORS = "too-few-healthy-survivors",
    SURVIVOR_UNHEALTHY = "survivor-unhealthy",
    LOGICAL_SLOTS = "logical-slots",
    SYNC_STANDBYS_CONDEMNED = "sync-standbys-condemned",
    STRICT_SYNC_FLOOR = "strict-sync-floor",
    SYNC_COUNT_FLOOR = "sync-count-floor",
    NO_STANDBY_LEFT = "no-standby-left",
    PAUSED = "paused",
    SWITCHOVER_PENDING = "switchover-pending",
    REBUILD_IN_PROGRESS = "rebuild-in-progress",
    OPERATION_IN_PROGRESS = "operation-in-progress",
    CHANGE_NOT_APPLIED = "change-not-applied",
    MAJOR_UPGRADE = "major-upgrade",
    UPGRADE_PENDING = "upgrade-pending",
    OPERATOR_FAILED = "operator-failed",
    OPERATOR_ABSENT = "operator-absent",
    MIXED_CHANGE = "mixed-change",
    REPLACE_PENDING = "replace-pending",
    RESTART_PENDING = "restart-pending",
    CONFIGURATION_DRIFT = "configuration-drift",
    PARALLEL_SHRINK = "parallel-shrink",
    WILL_NOT_PROGRESS = "will-not-progress",
    SURVIVORS_ONE_ZONE = "survivors-one-zone",
    SURVIVORS_DRAINING = "survivors-draining",
    CASCADE_CONDEMNED = "cascade-condemned",
    QUOTA_HEADROOM = "quota-headroom",
    LIMIT_RANGE = "limit-range",
    TOO_FEW_NODES = "too-few-nodes",
    TOO_FEW_WAL_SENDERS = "too-few-wal-senders",
    IMAGES_DIFFER = "images-differ",
    VOLUMES_DELETED = "volumes-deleted",
    STALE_VOLUME = "stale-volume",
    FOREIGN_VOLUME = "foreign-volume",
    VOLUME_RESIZING = "volume-resizing",
    PDB_BLOCKS_DRAIN = "pdb-blocks-drain",
    NO_RECENT_BACKUP = "no-recent-backup",
    STATEFULSET_SCALED = "statefulset-scaled",
}

impl RuleId {
    /// Returns the id with this spelling. `None` where no rule has it.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| id.0 == text)
    }

    /// Returns its spelling.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.0)
    }
}

impl AsRef<str> for RuleId {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl From<RuleId> for String {
    fn from(id: RuleId) -> Self {
        id.0.to_owned()
    }
}

impl PartialEq<str> for RuleId {
    fn eq(&self, text: &str) -> bool {
        self.0 == text
    }
}

impl PartialEq<&str> for RuleId {
    fn eq(&self, text: &&str) -> bool {
        self.0 == *text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RULES;

    #[test]
    fn every_rule_has_an_id_and_every_id_has_a_rule() {
        let ids: Vec<RuleId> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids, RuleId::ALL);
    }

    #[test]
    fn only_the_id_of_a_rule_becomes_one() {
        for id in RuleId::ALL {
            assert_eq!(RuleId::parse(id.as_str()), Some(*id));
        }
        for text in ["", "below-minimum", "Below-Min", " below-min", "below_min"] {
            assert_eq!(RuleId::parse(text), None, "{text:?}");
        }
    }
}
