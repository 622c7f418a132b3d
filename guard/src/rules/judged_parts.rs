//! The list of parts that rules read from a spec is complete: without the other parts every verdict
//! is the same.

use json_patch::PatchOperation;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::capacity::{Template, template};
use crate::facts::Facts;
use crate::operator::PodSettings;
use crate::policy::{Policies, ScalePolicy};
use crate::postgresql::JUDGED_PARTS;
use crate::rules::evaluate;
use crate::rules::generated::{facts, policy};
use crate::rules::properties::seeded;
use crate::verdict::Verdict;

/// Every part of a spec that the CRD knows, with a value that is not its default
/// (`manifests/postgresql.crd.yaml` of the operator, 1.15.1 and 2.0.1).
const EVERY_PART: &str = r#"{
    "additionalVolumes": [{"name": "empty", "mountPath": "/opt", "volumeSource": {"emptyDir": {}}}],
    "allowedSourceRanges": ["127.0.0.1/32"],
    "clone": {"cluster": "acid-b"},
    "connectionPooler": {"numberOfInstances": 2},
    "databases": {"foo": "zalando"},
    "dockerImage": "spilo",
    "enableConnectionPooler": true,
    "enableLogicalBackup": true,
    "enableMasterLoadBalancer": true,
    "enableMasterPoolerLoadBalancer": true,
    "enableReplicaConnectionPooler": true,
    "enableReplicaLoadBalancer": true,
    "enableReplicaPoolerLoadBalancer": true,
    "enableShmVolume": false,
    "env": [{"name": "STANDBY_WALE_S3_PREFIX", "value": "s3://b"}],
    "envFrom": [{"configMapRef": {"name": "c"}}],
    "initContainers": [{"name": "a", "image": "i", "resources": {"requests": {"cpu": "10m"}}}],
    "init_containers": [{"name": "b", "image": "i", "resources": {"requests": {"cpu": "10m"}}}],
    "livenessProbe": {"httpGet": {"path": "/liveness", "port": 8008}},
    "logicalBackupRetention": "3 months",
    "logicalBackupSchedule": "30 00 * * *",
    "maintenanceWindows": ["01:00-06:00"],
    "masterServiceAnnotations": {"a": "b"},
    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
    "patroni": {"synchronous_mode": true, "synchronous_mode_strict": true, "pg_hba": ["local"]},
    "podAnnotations": {"a": "b"},
    "podPriorityClassName": "high",
    "pod_priority_class_name": "higher",
    "postgresql": {"version": "16", "parameters": {"ssl": "on"}},
    "preparedDatabases": {"bar": {"defaultUsers": true}},
    "replicaLoadBalancer": true,
    "replicaServiceAnnotations": {"a": "b"},
    "resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "1Gi"}},
    "schedulerName": "other",
    "serviceAnnotations": {"a": "b"},
    "sidecars": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "10m"}}}],
    "spiloFSGroup": 103,
    "spiloRunAsGroup": 103,
    "spiloRunAsUser": 101,
    "standby": {"standby_host": "elsewhere"},
    "streams": [{"applicationId": "a"}],
    "teamId": "acid",
    "tls": {"secretName": "s"},
    "tolerations": [{"key": "postgres"}],
    "topologySpreadConstraints": [{"maxSkew": 1}],
    "useLoadBalancer": true,
    "users": {"zalando": ["superuser"]},
    "usersIgnoringSecretRotation": ["a"],
    "usersWithInPlaceSecretRotation": ["a"],
    "usersWithSecretRotation": ["a"],
    "volume": {"size": "2Gi", "storageClass": "fast"}
}"#;

fn every_part() -> serde_json::Map<String, Value> {
    serde_json::from_str(EVERY_PART).unwrap()
}

fn names() -> Vec<String> {
    every_part().keys().cloned().collect()
}

/// Returns a change with these parts in both specs beside its own, and other parts only in the new
/// spec.
fn whole() -> impl Strategy<Value = Facts> {
    (facts(), vec(any::<bool>(), names().len()), vec(select(names()), 0..3)).prop_map(
        |(mut facts, present, edited)| {
            for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
                let spec = cluster.spec.as_object_mut().unwrap();
                let parts = every_part().into_iter().zip(&present);
                spec.extend(parts.filter(|(_, present)| **present).map(|(part, _)| part));
            }
            for part in edited {
                facts.change.new.spec[part] = json!(["another"]);
            }
            facts
        },
    )
}

/// Returns the same change with nothing in both specs but `parts` and the differences between them.
fn reduced(facts: &Facts, parts: &[&str]) -> Facts {
    let mut reduced = facts.clone();
    let new = &facts.change.new.spec;
    let old = facts.change.old.as_ref().map_or(new, |old| &old.spec);
    for cluster in reduced.change.old.iter_mut().chain([&mut reduced.change.new]) {
        cluster
            .spec
            .as_object_mut()
            .unwrap()
            .retain(|part, _| parts.contains(&part.as_str()) || old.get(part) != new.get(part));
    }
    reduced
}

/// Returns every result that is made from a change and can depend on its specs.
fn judged(
    facts: &Facts,
    policies: &[ScalePolicy],
) -> (Verdict, Vec<PatchOperation>, Option<Template>) {
    let settings = PodSettings { sidecars: true, init_containers: true, ..PodSettings::default() };
    let verdict = evaluate(facts, &Policies::combine(policies, &facts.change.new));
    let template = template(&facts.change.new, &settings).ok();
    (verdict, facts.change.other_edits(), template)
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn parts_that_are_not_judged_change_no_verdict(
        whole in whole(), policies in vec(policy(), 0..2)
    ) {
        let reduced = reduced(&whole, &JUDGED_PARTS);
        prop_assert_eq!(judged(&whole, &policies), judged(&reduced, &policies));
    }
}

/// Shows that the property above can fail, and that no part is listed needlessly.
#[test]
fn leaving_out_a_judged_part_changes_some_verdict() {
    let mut runner = TestRunner::deterministic();
    let changes: Vec<_> =
        (0..400).map(|_| whole().new_tree(&mut runner).unwrap().current()).collect();
    // The count is a separate field once the object is read.
    for part in JUDGED_PARTS.into_iter().filter(|part| *part != "numberOfInstances") {
        let others: Vec<_> = JUDGED_PARTS.into_iter().filter(|other| *other != part).collect();
        let noticed =
            changes.iter().any(|whole| judged(whole, &[]) != judged(&reduced(whole, &others), &[]));
        assert!(noticed, "{part}");
    }
}
