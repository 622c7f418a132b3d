//! A cluster that was deleted and is created again, as `kubectl replace --force` does. While the
//! CREATE is refused, the cluster does not exist.

use std::collections::BTreeSet;

use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Facts, Seen};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::rules::judge;

/// The distance from the written count within which others are tried.
const NEAR: i64 = 20;

/// The number of counts that are tried: there may be as many volume claims as a namespace holds.
const TRIES: usize = 64;

/// The remains of the cluster, and the way to bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreation {
    /// The pods and the volumes that are left.
    pub left: Vec<ObjectRef>,
    /// The nearest count with which the same manifest would be admitted. `None` where there is
    /// none.
    pub count: Option<i64>,
    /// The fate of the volumes.
    pub volumes: Volumes,
}

/// The fate of the volumes of a deleted cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// The volumes are kept.
    Kept,
    /// The volumes are deleted, too.
    Deleted {
        /// The setting or the object that decides it.
        by: Evidence,
        /// The claims that are still there.
        claims: Vec<String>,
    },
    /// The operator's settings could not be read.
    Unknown,
}

/// Returns the fate of the volumes that an earlier cluster of this name had.
pub(super) fn volumes(facts: &Facts) -> Volumes {
    let claims = facts.claims.known().map_or(&[][..], Vec::as_slice);
    let names = || claims.iter().map(|claim| claim.name.clone()).collect();
    if let Some(claim) = claims.iter().find(|claim| claim.terminating) {
        let by = ObjectRef::claim(&claim.name);
        let by = Evidence::new(by, "metadata.deletionTimestamp", "set");
        return Volumes::Deleted { by, claims: names() };
    }
    // The operator deletes the claims right after the pods: where no pod is left, it has already
    // done so.
    if facts.all_members().is_empty() {
        return Volumes::Kept;
    }
    match &facts.operator {
        Seen::Known(operator) => match operator.settings.deletes_with_cluster {
            Some((setting, value)) => Volumes::Deleted {
                by: Evidence::new(operator.source.clone(), setting, value),
                claims: names(),
            },
            None => Volumes::Kept,
        },
        Seen::Absent | Seen::Unreadable(_) => Volumes::Unknown,
    }
}

/// Returns the remains after a refused CREATE, where a cluster of this name was there before.
/// `None` for any other change, and for a new name.
pub fn recreation(facts: &Facts, policies: &Policies) -> Option<Recreation> {
    if facts.direction() != Direction::Create {
        return None;
    }
    let pods = facts.all_members().iter().map(|member| ObjectRef::pod(&member.name));
    let claims = facts.claims.known().into_iter().flatten();
    let claims = claims.map(|claim| ObjectRef::claim(&claim.name));
    let left: Vec<ObjectRef> = pods.chain(claims).collect();
    if left.is_empty() {
        return None;
    }
    let written = facts.requested();
    let ordinals = facts.all_members().iter().map(|member| member.ordinal);
    let claims = facts.claims.known().into_iter().flatten().map(|claim| claim.ordinal);
    let bounds = policies.bounds();
    let settings = facts.operator.known().map(|operator| &operator.settings);
    let limits = settings.into_iter().flat_map(|it| [it.min_instances, it.max_instances]);
    let counts: BTreeSet<i64> = (written.saturating_sub(NEAR)..=written.saturating_add(NEAR))
        .chain(ordinals.chain(claims).map(|ordinal| ordinal.saturating_add(1)))
        .chain(bounds)
        .chain(limits)
        .filter(|count| (1..=i64::from(i32::MAX)).contains(count) && *count != written)
        .collect();
    let mut counts: Vec<i64> = counts.into_iter().collect();
    // Of two counts that are as near, the one that leaves nothing out comes first.
    counts.sort_by_key(|count| (count.abs_diff(written), std::cmp::Reverse(*count)));
    let count = counts.into_iter().take(TRIES).find(|count| {
        let mut other = facts.clone();
        other.change.new = facts.change.new.with_instances(*count);
        judge(&other, policies).allows()
    });
    Some(Recreation { left, count, volumes: volumes(facts) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Claim;
    use crate::policy::{Limit, Mode};
    use crate::rules::testing::{healthy, led_by_the_last};

    fn claimed(mut facts: Facts, claims: i64) -> Facts {
        let claim = |ordinal| Claim {
            name: format!("pgdata-acid-a-{ordinal}"),
            ordinal,
            ..Claim::default()
        };
        facts.claims = Seen::Known((0..claims).map(claim).collect());
        facts
    }

    /// Returns 5 pods of a cluster that was deleted a second ago, led by the last one, and a CREATE
    /// with `to`.
    fn replaced(to: i64) -> Facts {
        let mut facts = claimed(led_by_the_last(to), 5);
        facts.change.old = None;
        facts.stateful_set = Seen::Absent;
        (0..5).fold(facts, |facts, it| facts.with_member(it, |it| it.pod.terminating = true))
    }

    /// `kubectl replace --force` from 3 to 2 lost rows that only the last member
    /// had.
    #[test]
    fn create_over_terminating_pods_is_judged_as_if_they_were_deleted() {
        let denied = |facts: &Facts| {
            let verdict = crate::evaluate(facts, &Policies::default());
            verdict.denials().map(|finding| finding.rule).collect::<Vec<_>>()
        };
        let gone = |mut facts: Facts| {
            facts.members = Seen::Known(Vec::new());
            facts
        };
        for to in 1..=5 {
            let want: &[&str] = if to < 5 { &["return-from-zero"] } else { &[] };
            assert_eq!(denied(&replaced(to)), want, "{to}");
            assert_eq!(denied(&gone(replaced(to))), want, "{to}, and the pods are gone");
        }
    }

    #[test]
    fn count_that_brings_a_deleted_cluster_back_is_admitted() {
        let found = recreation(&replaced(1), &Policies::default()).unwrap();
        assert_eq!((found.count, found.left.len()), (Some(5), 10));
        let max = Limit { value: 4, source: ObjectRef::policy("a"), mode: Mode::Enforce };
        let bounded = Policies { max: vec![max], ..Policies::default() };
        assert_eq!(recreation(&replaced(1), &bounded).unwrap().count, None);
        let min = Limit { value: 3, source: ObjectRef::policy("a"), mode: Mode::Enforce };
        let floor = Policies { min: vec![min], ..Policies::default() };
        let mut kept = claimed(healthy(0, 1), 1);
        kept.change.old = None;
        assert_eq!(recreation(&kept, &floor).unwrap().count, Some(3));
    }

    /// By its default the operator deletes the volumes of a deleted cluster: no count brings their
    /// rows back.
    #[test]
    fn fate_of_the_volumes_is_reported() {
        let volumes = |facts: &Facts| recreation(facts, &Policies::default()).unwrap().volumes;
        let kept = |facts: Facts| facts.with_settings(|it| it.deletes_with_cluster = None);
        let Volumes::Deleted { by, claims } = volumes(&replaced(1)) else {
            panic!("the default deletes")
        };
        assert_eq!(by.field.as_deref(), Some("enable_persistent_volume_claim_deletion"));
        assert_eq!(by.value, "true");
        assert_eq!(claims.len(), 5);
        assert_eq!(volumes(&kept(replaced(1))), Volumes::Kept);
        let mut settled = replaced(1);
        settled.members = Seen::Known(Vec::new());
        assert_eq!(volumes(&settled), Volumes::Kept, "it has been there, and left them");
        if let Seen::Known(claims) = &mut settled.claims {
            claims[2].terminating = true;
        }
        let Volumes::Deleted { by, .. } = volumes(&settled) else {
            panic!("one is on its way out")
        };
        assert_eq!(by.object, ObjectRef::claim("pgdata-acid-a-2"));
        let mut unseen = replaced(1);
        unseen.operator = Seen::Unreadable("forbidden".into());
        assert_eq!(volumes(&unseen), Volumes::Unknown);
    }

    #[test]
    fn a_new_cluster_and_a_change_are_no_recreation() {
        let mut new = healthy(0, 3);
        new.change.old = None;
        assert_eq!(recreation(&new, &Policies::default()), None);
        assert_eq!(recreation(&claimed(healthy(3, 2), 3), &Policies::default()), None);
    }
}
