//! An edit of the spec that the operator has not worked through.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::facts::Facts;

/// The time after which an operator that has nothing else to do has begun with an edit. Within one
/// second the order of an edit and of a status is not known.
const BEGUN: SignedDuration = SignedDuration::from_secs(5);
/// The time after which an edit that may be one of labels alone is not waited for any more: the
/// operator never writes a status for that.
const PERHAPS_LABELS: SignedDuration = SignedDuration::from_mins(5);
/// The operator's own time between two synchronisations, where it is not known
/// (pkg/util/config/config.go).
const RESYNC: SignedDuration = SignedDuration::from_mins(30);
/// The time that a synchronisation may take until it compares the StatefulSet.
const SYNC: SignedDuration = SignedDuration::from_mins(1);

/// An edit of the spec that the operator has not worked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecEdit {
    /// The time of the edit.
    pub written: Timestamp,
    /// The time of the operator's last status.
    pub status: Timestamp,
}

impl Facts {
    /// Returns the last edit of the stored spec that may shape the pods, where the operator has
    /// written no status since. `None` where the object does not say when it was written.
    ///
    /// The operator writes `Updating` before it acts on an edit, and another word at the end
    /// (`Update`, pkg/cluster/cluster.go). So a status that is newer than the edit proves that the
    /// operator has taken it up. The next synchronisation carries out what it has missed, without a
    /// new status: after that long, an edit counts as worked through, unless the operator is down.
    pub fn pending_spec_edit(&self) -> Option<SpecEdit> {
        let writes = &self.change.old.as_ref()?.writes;
        let status = writes.status?;
        let operator = self.operator.known();
        let resync = operator.map_or(Some(RESYNC), |operator| operator.settings.shaping.resync);
        let resync = resync.unwrap_or(RESYNC).saturating_add(SYNC);
        let stopped = operator.is_some_and(|operator| operator.available == Some(false));
        let pending = |written: Timestamp, longest: SignedDuration| {
            let longest = if written == status { BEGUN } else { longest };
            let since = self.now.duration_since(written);
            written >= status && (stopped || since < longest)
        };
        let edits = [(writes.spec, resync), (writes.spec_or_labels, resync.min(PERHAPS_LABELS))];
        edits
            .into_iter()
            .filter_map(|(written, longest)| written.filter(|written| pending(*written, longest)))
            .max()
            .map(|written| SpecEdit { written, status })
    }
}
