//! The postgresql object, the operator that owns it, and the StatefulSet that the operator makes
//! from it.

use super::{SHOWN, one, seen, unread};
use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Seen, StatefulSet};
use crate::object_ref::{Kind, ObjectRef};
use crate::operator::Operator;
use crate::operator::upgrade::UPGRADE_FAILED;
use crate::patroni::Store;
use crate::policy::Policies;
use crate::rules::{bounds, configuration, mixed, upgrade};

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
    let effective = if facts.shrinks_by_older_settings() {
        "effective count by older or newer settings of the operator"
    } else {
        "effective count"
    };
    let mut printed = one(facts.postgresql_source(), "numberOfInstances", asked);
    printed.extend(runs.map(|runs| Evidence::new(facts.postgresql_source(), effective, runs)));
    printed
}

/// Returns the time at which the cluster was created.
pub(in crate::rules) fn created(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let cluster = facts.change.old.as_ref().unwrap_or(&facts.change.new);
    let created = cluster.created.map_or("not known".to_owned(), |time| format!("{time:.0}"));
    one(facts.postgresql_source(), "created", created)
}

/// Returns the length of the cluster's name, and the newest revision of its pods.
pub(in crate::rules) fn name(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let length = facts.change.new.name.len();
    let mut printed = one(facts.postgresql_source(), "characters of the name", length);
    let revision = facts.stateful_set.known().and_then(|set| set.revision.as_ref());
    let shown = |it| Evidence::new(facts.stateful_set_source(), "status.updateRevision", it);
    printed.extend(revision.map(shown));
    printed
}

/// Returns the other edits of the same write.
pub(in crate::rules) fn other_edits(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let (edits, unknown) = mixed::all_edits(facts);
    let more = edits.len().saturating_sub(SHOWN);
    let mut printed = if edits.is_empty() {
        one(facts.postgresql_source(), "other edits", "none")
    } else {
        edits.into_iter().take(SHOWN).map(|edit| edit.evidence(facts)).collect()
    };
    printed.extend(unknown.map(|why| Evidence::unreadable(operators(), &why)));
    if more > 0 {
        printed.push(Evidence::new(facts.postgresql_source(), "other edits", more));
    }
    printed
}

/// Returns the operator's status for its last work on the cluster.
pub(in crate::rules) fn status(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let cluster = facts.change.old.as_ref().unwrap_or(&facts.change.new);
    let word = cluster.status.as_deref().unwrap_or("unset");
    one(facts.postgresql_source(), "status.PostgresClusterStatus", word)
}

/// Returns the times of the last writes of the stored object.
pub(in crate::rules) fn writes(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let writes = facts.change.old.as_ref().map(|old| old.writes).unwrap_or_default();
    let fields = [
        ("last write of the spec", writes.spec.max(writes.spec_or_labels)),
        ("last write of the status", writes.status),
    ];
    let written = fields.into_iter().map(|(field, time)| {
        let time = time.map_or_else(|| "not known".to_owned(), |time| time.to_string());
        Evidence::new(facts.postgresql_source(), field, time)
    });
    written.collect()
}

/// Returns whether the manifest declares a standby of another cluster.
pub(in crate::rules) fn standby(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let declared = if facts.change.new.is_standby() { "set" } else { "unset" };
    one(facts.postgresql_source(), "spec.standby, or STANDBY_WALE_… in spec.env", declared)
}

/// Returns the synchronous modes as the manifest declares them.
pub(in crate::rules) fn declared_synchrony(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let declared = ["synchronous_mode", "synchronous_mode_strict"].map(|key| {
        let value = facts.change.new.spec.pointer(&format!("/patroni/{key}"));
        let value = value.map_or("unset".to_owned(), ToString::to_string);
        Evidence::new(facts.postgresql_source(), &format!("spec.patroni.{key}"), value)
    });
    declared.into()
}

/// Returns the mark of a major upgrade that failed.
pub(in crate::rules) fn upgrade_failure(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let mark = UPGRADE_FAILED;
    let value = facts.change.new.annotations.get(mark).map_or("unset", String::as_str);
    one(facts.postgresql_source(), &format!("annotation {mark}"), value)
}

/// Returns what decides whether the operator starts a major upgrade now.
pub(in crate::rules) fn upgrades(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    upgrade::looked_at(facts)
}

/// Returns the settings that the operator would write over Patroni's dynamic configuration.
pub(in crate::rules) fn drift(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration::looked_at(facts)
}

/// Returns the operator's limits, and the settings that switch them off for this cluster.
pub(in crate::rules) fn operator_limits(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        Seen::Absent => return without_operator(facts),
        Seen::Unreadable(why) => return unread(operators(), why),
    };
    let settings = &operator.settings;
    let mut printed = bounds::limits(operator);
    if let Some(key) = &settings.ignore_limits_annotation {
        let value = facts.change.new.annotations.get(key).map_or("unset", String::as_str);
        printed.push(Evidence::new(facts.postgresql_source(), &format!("annotation {key}"), value));
    }
    let age = match operator.stale_settings {
        Some(false) => return printed,
        Some(true) => "edited after its pod started",
        None => "perhaps edited after its pod started: its pods could not be listed",
    };
    printed.push(Evidence::new(operator.deployment.clone(), "settings", age));
    printed
}

/// Returns the operator that owned the cluster, and the count that it ran, where the write moves
/// the cluster to another operator.
pub(in crate::rules) fn owner_before(facts: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    let Some(before) = facts.operator_before.as_deref() else { return Vec::new() };
    match before {
        Seen::Known(operator) => bounds::limits(operator),
        // The StatefulSet says which count runs.
        Seen::Absent => replicas(facts, policies),
        Seen::Unreadable(why) => unread(operators(), why),
    }
}

/// Returns whether an operator is there to carry the change out.
pub(in crate::rules) fn operator_runs(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        Seen::Absent => return without_operator(facts),
        Seen::Unreadable(why) => return unread(operators(), why),
    };
    let available = match operator.available {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    let watches = operator.watched_namespace.as_deref().unwrap_or("all namespaces");
    vec![
        Evidence::new(operator.deployment.clone(), "available", available),
        Evidence::new(operator.deployment.clone(), "watches", watches),
    ]
}

fn without_operator(facts: &Assessment<'_>) -> Vec<Evidence> {
    let namespace = &facts.change.new.namespace;
    let id = facts.change.new.controller();
    let id = if id.is_empty() { String::new() } else { format!(" with CONTROLLER_ID {id}") };
    one(operators(), &format!("operator{id} that watches {namespace}"), "none found")
}

/// The Deployments among which the operator is looked for.
fn operators() -> ObjectRef {
    ObjectRef::all(Kind::Deployment)
}

fn stateful_set<const N: usize>(
    facts: &Assessment<'_>,
    fields: impl FnOnce(&StatefulSet) -> [(&'static str, String); N],
) -> Vec<Evidence> {
    seen(&facts.stateful_set, &facts.stateful_set_source(), fields)
}

/// Returns the running count and its writer.
pub(in crate::rules) fn replicas(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let mut printed = stateful_set(facts, |set| [("spec.replicas", set.replicas.to_string())]);
    let writer = facts.stateful_set.known().and_then(|set| set.scaled_by.as_ref());
    printed.extend(writer.map(|writer| {
        Evidence::new(facts.stateful_set_source(), "writer of spec.replicas", writer)
    }));
    printed
}

/// Returns whether the controller of the StatefulSet has seen the last patch.
pub(in crate::rules) fn generation(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let mut printed = stateful_set(facts, |set| {
        [
            ("metadata.generation", set.generation.to_string()),
            ("status.observedGeneration", set.observed_generation.to_string()),
        ]
    });
    if facts.stateful_set.known().is_some_and(|set| set.terminating) {
        let object = facts.stateful_set_source();
        printed.push(Evidence::new(object, "metadata.deletionTimestamp", "set"));
    }
    printed
}

/// Returns whether pods are added and removed one by one, and whether a probe says that they are
/// ready.
pub(in crate::rules) fn pod_management(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    stateful_set(facts, |set| {
        let policy = if set.parallel { "Parallel" } else { "OrderedReady" };
        [
            ("spec.podManagementPolicy", policy.to_owned()),
            ("readiness probe", if set.probed { "set" } else { "unset" }.to_owned()),
        ]
    })
}

/// Returns the reasons for which the operator would replace the StatefulSet.
pub(in crate::rules) fn replacement(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let Some(set) = facts.stateful_set.known() else {
        return stateful_set(facts, |_| [("compared parts", String::new())]);
    };
    let stored = facts.change.old.as_ref().unwrap_or(&facts.change.new);
    match facts.replacement(set, stored) {
        Ok(replacement) if replacement.reasons.is_empty() => {
            stateful_set(facts, |_| [("compared parts", "as the operator writes them".to_owned())])
        }
        Ok(replacement) => replacement.reasons,
        Err(why) => unread(facts.stateful_set_source(), &why),
    }
}

/// Returns Patroni's DCS store by the operator's setting, by the template and by the pods.
pub(in crate::rules) fn stores(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let said = |store: Option<Store>| store.map_or("not known".to_owned(), |it| it.to_string());
    let field = "store of Patroni";
    let source = facts.operator.known().map_or_else(operators, |operator| operator.source.clone());
    let spec = &facts.change.new.spec;
    let given = facts.stateful_set.known().map(|set| &*set.given);
    let next = |operator: &Operator| said(operator.stores(spec, given).only());
    let mut all =
        seen(&facts.operator, &source, |operator| [("store of new members", next(operator))]);
    all.extend(facts.operator.known().and_then(|operator| {
        let map = operator.settings.pods.environment_map.as_ref()?;
        let (namespace, name) = map.split_once('/').unwrap_or(("", map));
        let map = ObjectRef::new(Kind::ConfigMap, name).in_namespace(namespace);
        Some(match &operator.settings.pods.environment {
            Seen::Unreadable(why) => Evidence::unreadable(map, why),
            Seen::Absent => Evidence::absent(map),
            Seen::Known(names) => {
                let names: Vec<&str> = names.keys().map(String::as_str).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Evidence::new(map, "variables of Patroni's store", names)
            }
        })
    }));
    all.extend(facts.operator.known().and_then(|operator| {
        let started = operator.started.filter(|_| operator.store().is_none())?;
        Some(Evidence::new(operator.deployment.clone(), "last start", started))
    }));
    all.extend(stateful_set(facts, |set| [(field, said(set.store))]));
    let pods =
        facts.all_members().iter().take(SHOWN).map(|member| {
            Evidence::new(ObjectRef::pod(&member.name), field, said(member.pod.store))
        });
    all.extend(pods);
    let unreadable = facts.members.unreadable();
    all.extend(unreadable.map(|why| Evidence::unreadable(ObjectRef::all(Kind::Pod), why)));
    all
}

/// Returns the fate of the claims of removed members.
pub(in crate::rules) fn retention(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let mut all = stateful_set(facts, |set| {
        let kept = if set.deletes_volumes { "Delete" } else { "Retain" };
        [("spec.persistentVolumeClaimRetentionPolicy.whenScaled", kept.to_owned())]
    });
    all.extend(facts.operator.known().map(|operator| {
        let kept = if operator.settings.deletes_volumes { "delete" } else { "retain" };
        let field = "persistent_volume_claim_retention_policy.when_scaled";
        Evidence::new(operator.source.clone(), field, kept)
    }));
    all
}

/// Returns the fate of the claims of a deleted cluster.
pub(in crate::rules) fn volumes_of_deleted(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let operator = facts.operator.known();
    let said = operator.map(|operator| {
        let kept = ("enable_persistent_volume_claim_deletion", "false");
        let (field, value) = operator.settings.deletes_with_cluster.unwrap_or(kept);
        Evidence::new(operator.source.clone(), field, value)
    });
    said.into_iter().collect()
}
