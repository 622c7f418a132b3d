//! The postgresql object, the operator that owns it, and the StatefulSet that the operator makes
//! from it.

use super::{SHOWN, flag, one, seen, unread};
use crate::assessment::Assessment;
use crate::facts::{Seen, StatefulSet};
use crate::patroni::Store;
use crate::policy::Policies;
use crate::rules::{bounds, mixed, pending};
use crate::verdict::Evidence;

/// Returns the name of the postgresql object.
fn postgresql(facts: &Assessment<'_>) -> String {
    format!("postgresql/{}", facts.change.new.name)
}

/// Returns the written count before and after the write, and the count that the operator makes from
/// it.
pub(in crate::rules) fn count(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let written = |count: Option<i64>| count.map_or("unset".to_owned(), |it| it.to_string());
    let new = facts.change.new.instances;
    let (asked, runs) = match (&facts.change.old, facts.from()) {
        (Some(old), Some(from)) => (
            format!("{} -> {}", written(old.instances), written(new)),
            (old.instances != Some(from) || new != Some(facts.to()))
                .then(|| format!("{from} -> {}", facts.to())),
        ),
        (_, _) => (written(new), (new != Some(facts.to())).then(|| facts.to().to_string())),
    };
    let runs = match runs {
        None => String::new(),
        Some(runs) if facts.shrinks_by_older_settings() => {
            format!(" (judged as {runs}: the operator's settings may be newer than its pod)")
        }
        Some(runs) => format!(" (the operator runs {runs})"),
    };
    one(postgresql(facts), format!("numberOfInstances: {asked}{runs}"))
}

/// Returns the other edits of the same write.
pub(in crate::rules) fn other_edits(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let edits = mixed::described(&facts.change);
    let more = edits.len().saturating_sub(SHOWN);
    if edits.is_empty() {
        return one(postgresql(facts), "no other edit in the same write");
    }
    let mut told: Vec<Evidence> = (edits.into_iter().take(SHOWN))
        .map(|edit| Evidence::new(postgresql(facts), edit))
        .collect();
    if more > 0 {
        told.push(Evidence::new(postgresql(facts), format!("and {more} more edits")));
    }
    told
}

/// Returns the operator's status for its last work on the cluster.
pub(in crate::rules) fn status(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let cluster = facts.change.old.as_ref().unwrap_or(&facts.change.new);
    let word = cluster.status.as_deref().unwrap_or("not set");
    one(postgresql(facts), format!("status.PostgresClusterStatus: {word}"))
}

/// Returns whether the manifest declares a standby of another cluster.
pub(in crate::rules) fn standby(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let says = if facts.change.new.is_standby() {
        "declared as a standby cluster"
    } else {
        "no spec.standby, no STANDBY_WALE_… in spec.env"
    };
    one(postgresql(facts), says)
}

/// Returns the synchronous modes as the manifest declares them.
pub(in crate::rules) fn declared_synchrony(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let declared = ["synchronous_mode", "synchronous_mode_strict"].map(|key| {
        let value = facts.change.new.spec.pointer(&format!("/patroni/{key}"));
        let value = value.map_or("unset".to_owned(), ToString::to_string);
        format!("spec.patroni.{key}: {value}")
    });
    one(postgresql(facts), declared.join(", "))
}

/// Returns the mark of a major upgrade that failed.
pub(in crate::rules) fn upgrade_failure(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let mark = pending::UPGRADE_FAILED;
    let value = facts.change.new.annotations.get(mark).map_or("not set", String::as_str);
    one(postgresql(facts), format!("annotation {mark}: {value}"))
}

/// Returns the operator's limits, and the settings that switch them off for this cluster.
pub(in crate::rules) fn operator_limits(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        Seen::Absent => return nobody(facts),
        Seen::Unreadable(why) => return unread("the operator's settings", why),
    };
    let settings = &operator.settings;
    let mut told = one(&operator.source, bounds::limits(settings));
    if let Some(key) = &settings.ignore_limits_annotation {
        let value = facts.change.new.annotations.get(key).map_or("not set", String::as_str);
        told.push(Evidence::new(postgresql(facts), format!("annotation {key}: {value}")));
    }
    let age = match operator.stale_settings {
        Some(false) => return told,
        Some(true) => "started before these settings were last edited",
        None => {
            "may have started before these settings were last edited: its pods could not be listed"
        }
    };
    told.push(Evidence::new(format!("deployment/{}", operator.deployment), age));
    told
}

/// Returns the operator that owned the cluster, and the count that it ran, where the write moves
/// the cluster to another operator.
pub(in crate::rules) fn owner_before(facts: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    let Some(before) = facts.operator_before.as_deref() else { return Vec::new() };
    match before {
        Seen::Known(operator) => one(
            &operator.source,
            format!("of the operator before: {}", bounds::limits(&operator.settings)),
        ),
        // The StatefulSet says which count runs.
        Seen::Absent => replicas(facts, policies),
        Seen::Unreadable(why) => unread("the settings of the operator before", why),
    }
}

/// Returns whether an operator is there to carry the change out.
pub(in crate::rules) fn operator_runs(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        Seen::Absent => return nobody(facts),
        Seen::Unreadable(why) => return unread("the operator's Deployment", why),
    };
    let available = match operator.available {
        Some(true) => "available",
        Some(false) => "no available replica",
        None => "whether it is available could not be read",
    };
    let watches = operator.watched_namespace.as_deref().unwrap_or("all namespaces");
    one(format!("deployment/{}", operator.deployment), format!("{available}, watches {watches}"))
}

fn nobody(facts: &Assessment<'_>) -> Vec<Evidence> {
    let namespace = &facts.change.new.namespace;
    one(
        "operator",
        match facts.change.new.controller() {
            "" => format!("none found that watches {namespace}"),
            id => format!("none found with CONTROLLER_ID {id} that watches {namespace}"),
        },
    )
}

fn stateful_set(
    facts: &Assessment<'_>,
    says: impl FnOnce(&StatefulSet) -> String,
) -> Vec<Evidence> {
    seen(&facts.stateful_set, facts.stateful_set_source(), says)
}

/// Returns the running count and its writer.
pub(in crate::rules) fn replicas(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    stateful_set(facts, |set| {
        let writer = set.scaled_by.as_ref().map(|who| format!(", written by {who}"));
        format!("spec.replicas: {}{}", set.replicas, writer.unwrap_or_default())
    })
}

/// Returns whether the controller of the StatefulSet has seen the last patch.
pub(in crate::rules) fn generation(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    stateful_set(facts, |set| {
        let ending = if set.terminating { ", being deleted" } else { "" };
        format!(
            "generation: {}, status.observedGeneration: {}{ending}",
            set.generation, set.observed_generation
        )
    })
}

/// Returns whether pods are added and removed one by one, and whether a probe says that they are
/// ready.
pub(in crate::rules) fn pod_management(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    stateful_set(facts, |set| {
        let policy = if set.parallel { "Parallel" } else { "OrderedReady" };
        format!("podManagementPolicy: {policy}, {}", flag("readiness probe", set.probed))
    })
}

/// Returns the annotations that make the operator replace the StatefulSet.
pub(in crate::rules) fn foreign_annotations(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    stateful_set(facts, |set| {
        let foreign = &set.foreign_annotations;
        let foreign: Vec<_> = foreign.iter().map(|(key, who)| format!("{key} by {who}")).collect();
        match foreign.as_slice() {
            [] => "no annotation by anyone but the operator".to_owned(),
            foreign => format!("annotations: {}", foreign.join(", ")),
        }
    })
}

/// Returns Patroni's DCS store by the operator's setting, by the template and by the pods.
pub(in crate::rules) fn stores(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let said = |store: Option<Store>| store.map_or("not known".to_owned(), |it| it.to_string());
    let mut all = seen(&facts.operator, "operator".to_owned(), |operator| {
        format!("store of Patroni by {}: {}", operator.source, said(operator.store()))
    });
    all.extend(stateful_set(facts, |set| format!("template: store: {}", said(set.store))));
    let pods = facts.all_members().iter().take(SHOWN).map(|member| {
        let says = format!("store: {}", said(member.pod.store));
        Evidence::new(format!("pod/{}", member.name), says)
    });
    all.extend(pods);
    all.extend(
        facts
            .members
            .unreadable()
            .map(|why| Evidence::new("pods", format!("could not be read: {why}"))),
    );
    all
}

/// Returns the fate of the claims of removed members.
pub(in crate::rules) fn retention(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let mut all = stateful_set(facts, |set| {
        let kept = if set.deletes_volumes { "Delete" } else { "Retain" };
        format!("persistentVolumeClaimRetentionPolicy.whenScaled: {kept}")
    });
    all.extend(facts.operator.known().map(|operator| {
        let kept = if operator.settings.deletes_volumes { "delete" } else { "retain" };
        let says = format!("persistent_volume_claim_retention_policy.when_scaled: {kept}");
        Evidence::new(&operator.source, says)
    }));
    all
}

/// Returns the fate of the claims of a deleted cluster.
pub(in crate::rules) fn volumes_of_deleted(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let operator = facts.operator.known();
    let said = operator.map(|operator| {
        let says = operator.settings.deletes_with_cluster.map_or_else(
            || "enable_persistent_volume_claim_deletion: false".to_owned(),
            str::to_owned,
        );
        Evidence::new(&operator.source, says)
    });
    said.into_iter().collect()
}
