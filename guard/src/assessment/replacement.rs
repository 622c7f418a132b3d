//! The reasons for which the operator would replace the StatefulSet with its next update.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Facts, Seen, StatefulSet};
use crate::operator::Compared;
use crate::operator::compared::{Difference, Place};
use crate::postgresql::Postgresql;

/// The reasons for which the operator would replace the StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacement {
    /// Every reason.
    pub reasons: Vec<Evidence>,
    /// It would renew the pods, too. False where the operator may run with other settings than
    /// those that were read.
    pub renews: bool,
    /// Annotations of the StatefulSet itself that the operator would not write, by key.
    pub foreign: Vec<String>,
}

impl Assessment<'_> {
    /// Returns the reasons for which the operator would replace `set` for `cluster`.
    ///
    /// Its settings and the cluster say what it would write. Where no operator is known the writers
    /// of the annotations decide (managedFields): those of the operator are not foreign.
    ///
    /// # Errors
    /// The reason for which it is not known.
    pub fn replacement(
        &self,
        set: &StatefulSet,
        cluster: &Postgresql,
    ) -> Result<Replacement, String> {
        let facts = self.facts();
        let operator = match &facts.operator {
            Seen::Known(operator) => operator,
            Seen::Absent | Seen::Unreadable(_) => {
                let by_writers = by_writers(facts, set);
                return match facts.operator.unreadable() {
                    Some(why) if by_writers.reasons.is_empty() => {
                        Err(format!("the operator's settings could not be read ({why})"))
                    }
                    Some(_) | None => Ok(by_writers),
                };
            }
        };
        let settings = &operator.settings;
        let live = Compared {
            parallel: set.parallel,
            when_scaled: set.deletes_volumes,
            ..(*set.compared).clone()
        };
        let found = live.differences(&settings.compared(cluster)?, operator.certainly_ignored());
        let foreign = found.iter().filter_map(|it| match (&it.place, &it.becomes) {
            (Place::Annotation(key), None) => Some(key.clone()),
            _ => None,
        });
        Ok(Replacement {
            foreign: foreign.collect(),
            renews: operator.stale_settings != Some(true)
                && found.iter().any(|it| it.place.renews()),
            reasons: found.iter().map(|it| different(facts, set, it)).collect(),
        })
    }
}

/// Returns the annotations of other writers than the operator.
fn by_writers(facts: &Facts, set: &StatefulSet) -> Replacement {
    let all = set.foreign_annotations.iter();
    let reasons = all.map(|(key, manager)| facts.foreign_annotation(key, manager));
    Replacement { reasons: reasons.collect(), renews: false, foreign: Vec::new() }
}

/// Returns a difference as evidence. Values of annotations are not shown: they may be secret.
fn different(facts: &Facts, set: &StatefulSet, difference: &Difference) -> Evidence {
    let Difference { place, is, becomes } = difference;
    let source = facts.stateful_set_source();
    let by_whom = |key: &String| {
        let mut writers = set.foreign_annotations.iter().filter(|(written, _)| written == key);
        writers.next().map_or_else(
            || "not one that the operator writes".to_owned(),
            |(_, manager)| format!("written by {manager}"),
        )
    };
    let annotation = |field: String, key: &String| {
        let value = match (is, becomes) {
            (_, None) => by_whom(key),
            (None, Some(_)) => "unset, and the operator would set it".to_owned(),
            (Some(_), Some(_)) => "not the value that the operator would write".to_owned(),
        };
        Evidence::new(source.clone(), &field, value)
    };
    let field = match place {
        Place::Annotation(key) => return annotation(format!("annotation {key}"), key),
        Place::PodAnnotation(key) => {
            return annotation(format!("spec.template annotation {key}"), key);
        }
        Place::PodLabel(key) => format!("spec.template label {key}"),
        Place::ServiceAccount => "spec.template serviceAccountName".to_owned(),
        Place::GracePeriod => "spec.template terminationGracePeriodSeconds".to_owned(),
        Place::PodManagement => "spec.podManagementPolicy".to_owned(),
        Place::Retention => "spec.persistentVolumeClaimRetentionPolicy".to_owned(),
    };
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let value = format!("{}, and the operator would write {}", or_none(is), or_none(becomes));
    Evidence::new(source, &field, value)
}
