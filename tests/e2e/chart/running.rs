//! The values that say where and as what the webhook's pods run, and who may do what.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use pgscale_tests::chart::Rendered;
use serde_json::{Value, json};

use super::{pod, render};
use crate::sandbox::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("chart::pods_are_spread_over_nodes_and_zones", spread),
        trial("chart::critical_pods_are_admitted_outside_of_kube_system", critical),
        trial("chart::every_value_is_described_and_closed", described),
        trial("chart::values_reach_the_objects_that_they_are_about", values_arrive),
        trial("chart::the_services_answer_in_each_family_of_the_cluster", services),
        trial("chart::roles_for_people_are_taken_up_only_where_wanted", people),
    ]
}

fn spread() -> Result<()> {
    let rendered = render(&json!({}))?;
    let spread = pod(&rendered)?["topologySpreadConstraints"].clone();
    let selector = &rendered.object("Deployment", "pgscale-webhook")?["spec"]["selector"];
    let constraints = spread.as_array().context("no constraints")?;
    let keys: Vec<_> = constraints.iter().map(|it| it["topologyKey"].clone()).collect();
    ensure!(keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"], "{spread:#}");
    for constraint in constraints {
        // Two replicas on one node are better than one.
        ensure!(constraint["whenUnsatisfiable"] == "ScheduleAnyway", "{spread:#}");
        ensure!(constraint["labelSelector"] == *selector, "{spread:#}");
        // Pods of the version before do not count.
        ensure!(constraint["matchLabelKeys"] == json!(["pod-template-hash"]), "{spread:#}");
    }
    let own = json!({"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"});
    let chosen = json!({"matchLabels": {"a": "b"}});
    let mut other = own.clone();
    other["labelSelector"] = chosen.clone();
    let rendered = render(&json!({"topologySpreadConstraints": [own, other]}))?;
    let spread = pod(&rendered)?["topologySpreadConstraints"].clone();
    ensure!(spread[0]["topologyKey"] == "rack" && spread[0]["labelSelector"] == *selector);
    ensure!(spread[1]["labelSelector"] == chosen && spread.as_array().map(Vec::len) == Some(2));
    let none = pod(&render(&json!({"topologySpreadConstraints": []}))?)?;
    ensure!(none.get("topologySpreadConstraints").is_none(), "{none:#}");
    Ok(())
}

fn critical() -> Result<()> {
    let quota =
        |rendered: &Rendered| rendered.object("ResourceQuota", "pgscale-critical-pods").cloned();
    let rendered = render(&json!({}))?;
    ensure!(pod(&rendered)?["priorityClassName"] == "system-cluster-critical");
    let spec = quota(&rendered)?["spec"].clone();
    let named = json!([
        {"scopeName": "PriorityClass", "operator": "In", "values": ["system-cluster-critical"]}
    ]);
    ensure!(spec["scopeSelector"]["matchExpressions"] == named, "{spec:#}");
    ensure!(spec["hard"] == json!({"pods": "100"}), "{spec:#}");
    let most = render(&json!({"criticalPods": {"most": 5}}))?;
    ensure!(quota(&most)?["spec"]["hard"] == json!({"pods": "5"}), "another number");
    for values in [
        json!({"criticalPods": {"quota": false}}),
        json!({"priorityClassName": "important"}),
        json!({"priorityClassName": ""}),
    ] {
        ensure!(quota(&render(&values)?).is_err(), "{values} has a quota");
    }
    let other = pod(&render(&json!({"priorityClassName": "important"}))?)?;
    ensure!(other["priorityClassName"] == "important", "{other:#}");
    let none = pod(&render(&json!({"priorityClassName": ""}))?)?;
    ensure!(none.get("priorityClassName").is_none(), "{none:#}");
    Ok(())
}

/// Adds the places below `schema` that have no description, or take keys that they do not know.
fn gaps(schema: &Value, place: &str, found: &mut Vec<String>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    if schema.get("additionalProperties") != Some(&json!(false)) {
        found.push(format!("{place} takes unknown keys"));
    }
    for (key, value) in properties {
        let place = format!("{place}.{key}");
        if value.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
            found.push(format!("{place} is not described"));
        }
        gaps(value, &place, found);
    }
}

/// Adds the names of all values below `value`, as far as `schema` knows their keys.
fn names(value: &Value, schema: &Value, place: &str, found: &mut BTreeSet<String>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (key, value) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        if let Some(schema) = properties.get(key) {
            names(value, schema, &place, found);
        }
        found.insert(place);
    }
}

/// Adds the names of all values that `schema` knows.
fn known(schema: &Value, place: &str, found: &mut BTreeSet<String>) {
    for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let place = format!("{place}.{key}");
        known(value, &place, found);
        found.insert(place);
    }
}

fn described() -> Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/pgscale");
    let schema = fs::read_to_string(chart.join("values.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    let mut found = Vec::new();
    gaps(&schema, "", &mut found);
    ensure!(found.is_empty(), "{found:#?}");
    let values = fs::read_to_string(chart.join("values.yaml"))?;
    let values: Value = serde_saphyr::from_str(&values)?;
    let (mut there, mut described) = (BTreeSet::new(), BTreeSet::new());
    names(&values, &schema, "", &mut there);
    known(&schema, "", &mut described);
    // These have no default: a parent's values, and keys of Kubernetes.
    let without = |name: &&String| {
        let parents = [".global", ".namespaceSelector.", ".affinity.", ".resources."];
        !parents.iter().any(|parent| name.starts_with(parent))
    };
    let unlisted: Vec<_> = described.difference(&there).filter(without).collect();
    ensure!(unlisted.is_empty(), "values.yaml has no {unlisted:?}");
    let unknown: Vec<_> = there.difference(&described).filter(without).collect();
    ensure!(unknown.is_empty(), "the schema has no {unknown:?}");
    Ok(())
}

fn values_arrive() -> Result<()> {
    let toleration = json!({"key": "a", "operator": "Exists"});
    let affinity = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []},
    }});
    let volume = json!({"name": "more", "emptyDir": {"sizeLimit": "1Mi"}});
    let rendered = render(&json!({
        "image": {"repository": "r.example.com/p", "tag": "1", "pullPolicy": "Always"},
        "resources": {"limits": {"memory": "256Mi"}},
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "networkPolicy": {"metrics": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [toleration],
        "affinity": affinity,
        "commonLabels": {"team": "databases"},
        "podLabels": {"team": "platform"},
        "podAnnotations": {"a": "pod"},
        "deploymentAnnotations": {"a": "deployment"},
        "extraArgs": ["--max-connections=64"],
        "extraEnv": [
            {"name": "RUST_BACKTRACE", "value": "1"},
            {"name": "MALLOC_MMAP_THRESHOLD_", "value": "65536"},
        ],
        "extraVolumes": [volume],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "podSecurityContext": {"runAsUser": null, "fsGroup": 1},
        "securityContext": {"capabilities": {"drop": ["NET_RAW"]}},
        "log": {"filter": "info,hyper=warn", "format": "text"},
        "drain": {"delay": "1s", "timeout": "2s"},
        "terminationGracePeriodSeconds": 6,
        "listenAddress": "0.0.0.0",
    }))?;
    let deployment = rendered.object("Deployment", "pgscale-webhook")?;
    let template = &deployment["spec"]["template"];
    for (pointer, wanted) in [
        ("/metadata/annotations", json!({"a": "pod"})),
        ("/metadata/labels/team", json!("platform")),
        ("/spec/imagePullSecrets", json!([{"name": "registry"}])),
        ("/spec/containers/0/image", json!("r.example.com/p:1")),
        ("/spec/containers/0/imagePullPolicy", json!("Always")),
        ("/spec/containers/0/resources/limits/memory", json!("256Mi")),
        ("/spec/nodeSelector", json!({"disk": "ssd"})),
        ("/spec/tolerations", json!([toleration])),
        ("/spec/affinity", affinity),
        ("/spec/volumes", json!([volume])),
        ("/spec/terminationGracePeriodSeconds", json!(6)),
        ("/spec/securityContext/fsGroup", json!(1)),
        ("/spec/securityContext/runAsNonRoot", json!(true)),
        ("/spec/containers/0/volumeMounts", json!([{"name": "more", "mountPath": "/more"}])),
        ("/spec/containers/0/securityContext/capabilities", json!({"drop": ["NET_RAW"]})),
        ("/spec/containers/0/securityContext/readOnlyRootFilesystem", json!(true)),
    ] {
        let found = template.pointer(pointer);
        ensure!(found == Some(&wanted), "{pointer} is {found:?}, not {wanted}");
    }
    ensure!(deployment["metadata"]["annotations"] == json!({"a": "deployment"}));
    ensure!(template["spec"]["securityContext"].get("runAsUser").is_none(), "{template:#}");
    let container = &template["spec"]["containers"][0];
    let args = container["args"].as_array().context("no arguments")?;
    for arg in [
        "--max-connections=64",
        "--listen=0.0.0.0:9443",
        "--metrics-listen=0.0.0.0:9090",
        "--log=info,hyper=warn",
        "--log-format=text",
        "--drain-delay=1s",
        "--drain-timeout=2s",
    ] {
        ensure!(args.contains(&json!(arg)), "{arg} is not in {args:?}");
    }
    let budget = rendered.object("PodDisruptionBudget", "pgscale-webhook")?;
    ensure!(budget["spec"]["maxUnavailable"] == "50%", "{budget:#}");
    let policy = rendered.object("NetworkPolicy", "pgscale-webhook")?;
    let readers = json!([{"podSelector": {"matchLabels": {"app": "prometheus"}}}]);
    ensure!(policy["spec"]["ingress"][1]["from"] == readers, "{policy:#}");
    // A variable is there once, with the installer's value.
    let variables = container["env"].as_array().context("no variables")?;
    let of = |name: &str| variables.iter().filter(|it| it["name"] == name).collect::<Vec<_>>();
    ensure!(variables.len() == 2 && of("RUST_BACKTRACE").len() == 1, "{variables:?}");
    let threshold = of("MALLOC_MMAP_THRESHOLD_");
    ensure!(threshold.iter().all(|it| it["value"] == "65536"), "{variables:?}");
    ensure!(threshold.len() == 1, "{variables:?}");
    for object in &rendered.objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let labelled = object["metadata"]["labels"]["team"] == "databases";
        ensure!(labelled || kind == "CustomResourceDefinition", "{kind} has no common label");
    }
    Ok(())
}

fn services() -> Result<()> {
    let rendered = render(&json!({}))?;
    let service = &rendered.object("Service", "pgscale-webhook")?["spec"];
    ensure!(service["ipFamilyPolicy"] == "PreferDualStack", "{service:#}");
    ensure!(service.get("ipFamilies").is_none(), "{service:#}");
    let chosen = render(&json!({"service": {
        "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"], "annotations": {"a": "b"},
    }}))?;
    let object = chosen.object("Service", "pgscale-webhook")?;
    ensure!(object["spec"]["ipFamilyPolicy"] == "SingleStack", "{object:#}");
    ensure!(object["spec"]["ipFamilies"] == json!(["IPv6"]), "{object:#}");
    ensure!(object["metadata"]["annotations"] == json!({"a": "b"}), "{object:#}");
    let none = render(&json!({"service": {"ipFamilyPolicy": ""}}))?;
    let none = &none.object("Service", "pgscale-webhook")?["spec"];
    ensure!(none.get("ipFamilyPolicy").is_none(), "{none:#}");

    // The metrics of a pod that is not ready matter most.
    let metrics = &rendered.object("Service", "pgscale-webhook-metrics")?["spec"];
    ensure!(metrics["clusterIP"] == "None" && metrics["publishNotReadyAddresses"] == true);
    ensure!(metrics["selector"] == service["selector"], "{metrics:#}");
    ensure!(metrics["ports"][0]["targetPort"] == "metrics", "{metrics:#}");
    Ok(())
}

fn people() -> Result<()> {
    let taken_up = |values: &Value| -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for object in &render(values)?.objects {
            for label in object["metadata"]["labels"].as_object().into_iter().flatten() {
                if let Some(into) = label.0.strip_prefix("rbac.authorization.k8s.io/aggregate-to-")
                {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    found.push((name.to_owned(), into.to_owned()));
                }
            }
        }
        found.sort();
        Ok(found)
    };
    let wanted = [("pgscale-policy-editor", "admin"), ("pgscale-reader", "view")];
    let wanted = wanted.map(|(name, into)| (name.to_owned(), into.to_owned()));
    ensure!(taken_up(&json!({}))? == wanted, "{:?}", taken_up(&json!({}))?);
    ensure!(taken_up(&json!({"roles": {"aggregate": false}}))?.is_empty());
    let rendered = render(&json!({"roles": {"aggregate": false}}))?;
    for name in ["reader", "scaler", "policy-editor", "platform-reader", "override"] {
        let name = format!("pgscale-{name}");
        let role = rendered.object("ClusterRole", &name)?;
        ensure!(role["rules"].as_array().is_some_and(|rules| !rules.is_empty()), "{role:#}");
        // No person gets one by the chart.
        let bound = rendered.objects.iter().any(|object| object["roleRef"]["name"] == name);
        ensure!(!bound, "{name} is bound");
    }
    Ok(())
}
