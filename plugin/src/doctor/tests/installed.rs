//! Defects of what the chart installs.

use pgscale_guard::Seen;
use serde_json::{Value, json};

use super::healthy::{HOME, add, deployment, edit, entry, remove};
use super::{Case, case, followed};
use crate::doctor::facts::Facts;

const SHRINK: &str = "shrink.pgscale.dev";
const GROW: &str = "grow.pgscale.dev";
const DIRECT: &str = "direct-scale.pgscale.dev";

/// Sets one field of an entry.
fn set(facts: &mut Facts, name: &str, path: &str, value: Value) {
    entry(facts, name, |entry| *entry.pointer_mut(path).unwrap() = value);
}

fn without_entry(facts: &mut Facts, name: &str) {
    edit(&mut facts.registration, |registration| {
        let entries = registration["webhooks"].as_array_mut().unwrap();
        entries.retain(|entry| entry["name"] != name);
    });
}

fn first_pod(facts: &mut Facts, change: impl FnOnce(&mut Value)) {
    edit(&mut facts.pods, |pods| change(&mut pods[0]));
}

fn definition(facts: &mut Facts, name: &str, change: impl FnOnce(&mut Value)) {
    edit(facts.definitions.get_mut(name).unwrap(), change);
}

const OURS: &str = "scalepolicies.pgscale.dev";
const THEIRS: &str = "postgresqls.acid.zalan.do";

/// Returns the fields of the spec of our definition.
fn schema(definition: &mut Value) -> &mut Value {
    let version = &mut definition["spec"]["versions"][0];
    &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
}

pub(super) const CASES: &[Case] = &[
    case("registration-missing", "the ValidatingWebhookConfiguration deleted", |facts| {
        facts.registration = Seen::Absent;
    }),
    followed(
        case("registration-missing", "nothing installed", |facts| {
            facts.registration = Seen::Absent;
            remove(&mut facts.deployments, "pgscale-webhook");
        }),
        &["deployment-missing"],
    ),
    case("entry-missing", "the entry shrink deleted", |facts| without_entry(facts, SHRINK)),
    case("entry-missing", "the entry scale deleted", |facts| {
        without_entry(facts, "scale.pgscale.dev");
    }),
    case("entry-missing", "the entry direct-scale deleted", |facts| without_entry(facts, DIRECT)),
    case("entry-foreign", "an entry of another author added", |facts| {
        edit(&mut facts.registration, |registration| {
            let mut more = registration["webhooks"][0].clone();
            more["name"] = json!("mine.example.com");
            registration["webhooks"].as_array_mut().unwrap().push(more);
        });
    }),
    case("shrink-passes", "failurePolicy: Ignore for shrink", |facts| {
        set(facts, SHRINK, "/failurePolicy", json!("Ignore"));
    }),
    case("shrink-passes", "failurePolicy: Ignore for scale", |facts| {
        set(facts, "scale.pgscale.dev", "/failurePolicy", json!("Ignore"));
    }),
    case(
        "grow-policy-differs",
        "failurePolicy: Fail for grow in the registration alone",
        |facts| {
            set(facts, GROW, "/failurePolicy", json!("Fail"));
        },
    ),
    case("direct-scale-fails", "failurePolicy: Fail for direct-scale", |facts| {
        set(facts, DIRECT, "/failurePolicy", json!("Fail"));
    }),
    case("rules-differ", "UPDATE taken out of grow", |facts| {
        set(facts, GROW, "/rules/0/operations", json!(["CREATE"]));
    }),
    case("rules-differ", "shrink for another group", |facts| {
        set(facts, SHRINK, "/rules/0/apiGroups", json!(["example.com"]));
    }),
    case("conditions-differ", "a condition added to shrink that exempts a user", |facts| {
        entry(facts, SHRINK, |entry| {
            let more = json!({"name": "not-me", "expression": "request.userInfo.username != 'me'"});
            entry["matchConditions"].as_array_mut().unwrap().push(more);
        });
    }),
    case("conditions-differ", "the condition of shrink replaced by false", |facts| {
        set(facts, SHRINK, "/matchConditions/1/expression", json!("false"));
    }),
    case("operators-differ", "another operator in the conditions than in the list", |facts| {
        let other = "!(request.userInfo.?username.orValue('') in ['system:serviceaccount:a:b'])";
        set(facts, DIRECT, "/matchConditions/1/expression", json!(other));
    }),
    case("object-selector", "objectSelector for shrink", |facts| {
        set(facts, SHRINK, "/objectSelector", json!({"matchLabels": {"guarded": "yes"}}));
    }),
    case("match-policy", "matchPolicy: Exact for shrink", |facts| {
        set(facts, SHRINK, "/matchPolicy", json!("Exact"));
    }),
    case("side-effects", "sideEffects: Unknown for grow", |facts| {
        set(facts, GROW, "/sideEffects", json!("Unknown"));
    }),
    case("timeout", "timeoutSeconds: 1 for shrink", |facts| {
        set(facts, SHRINK, "/timeoutSeconds", json!(1));
    }),
    case("timeout", "timeoutSeconds: 30 for shrink", |facts| {
        set(facts, SHRINK, "/timeoutSeconds", json!(30));
    }),
    case("address-foreign", "shrink calls a Service of another name", |facts| {
        set(facts, SHRINK, "/clientConfig/service/name", json!("other"));
    }),
    case("address-foreign", "grow calls a Service of another namespace", |facts| {
        set(facts, GROW, "/clientConfig/service/namespace", json!("other"));
    }),
    case("address-foreign", "shrink calls a URL", |facts| {
        entry(facts, SHRINK, |entry| {
            let config = entry["clientConfig"].as_object_mut().unwrap();
            config.remove("service");
            config.insert("url".to_owned(), json!("https://10.0.0.9/validate/x"));
        });
    }),
    case("path-missing", "the secret path taken out of shrink", |facts| {
        set(facts, SHRINK, "/clientConfig/service/path", json!("/validate"));
    }),
    case("port-closed", "shrink calls port 8443", |facts| {
        set(facts, SHRINK, "/clientConfig/service/port", json!(8443));
    }),
    case("selectors-differ", "shrink selects other namespaces than the rest", |facts| {
        set(
            facts,
            SHRINK,
            "/namespaceSelector",
            json!({"matchLabels": {"kubernetes.io/metadata.name": "db"}}),
        );
    }),
    case("namespace-exempt", "the namespace of a cluster is not selected", |facts| {
        for name in [SHRINK, GROW, "scale.pgscale.dev", DIRECT] {
            set(
                facts,
                name,
                "/namespaceSelector",
                json!({"matchLabels": {"pgscale.dev/guarded": "true"}}),
            );
        }
    }),
    case("namespace-exempt", "the namespace of a cluster is excluded by an expression", |facts| {
        let other = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator":
            "NotIn", "values": ["db"]}]});
        for name in [SHRINK, GROW, "scale.pgscale.dev", DIRECT] {
            set(facts, name, "/namespaceSelector", other.clone());
        }
    }),
    case("owner-gone", "a registration from a backup, owned by an older Namespace", |facts| {
        edit(&mut facts.registration, |it| {
            it["metadata"]["ownerReferences"][0]["uid"] = json!("old");
        });
    }),
    case("owner-missing", "no owner", |facts| {
        edit(&mut facts.registration, |it| it["metadata"]["ownerReferences"] = json!([]));
    }),
    case("fence-missing", "the admission policy registration.pgscale.dev deleted", |facts| {
        remove(&mut facts.fences, "registration.pgscale.dev");
    }),
    case("fence-missing", "the admission policy break-glass.pgscale.dev deleted", |facts| {
        remove(&mut facts.fences, "break-glass.pgscale.dev");
    }),
    case("fence-differs", "a validation of secret.pgscale.dev replaced by true", |facts| {
        edit(&mut facts.fences, |all| {
            let all = all.as_array_mut().unwrap();
            let one = all.iter_mut().find(|one| one["metadata"]["name"] == "secret.pgscale.dev");
            one.unwrap()["spec"]["validations"][0]["expression"] = json!("true");
        });
    }),
    case("fence-unbound", "the binding of registration.pgscale.dev deleted", |facts| {
        remove(&mut facts.bindings, "registration.pgscale.dev");
    }),
    case("fence-binding-differs", "the binding of registration.pgscale.dev only audits", |facts| {
        edit(&mut facts.bindings, |all| {
            let all = all.as_array_mut().unwrap();
            let one =
                all.iter_mut().find(|one| one["metadata"]["name"] == "registration.pgscale.dev");
            one.unwrap()["spec"]["validationActions"] = json!(["Audit"]);
        });
    }),
    case("namespace-terminating", "the namespace of the webhook is being deleted", |facts| {
        edit(&mut facts.namespaces, |all| {
            all[0]["metadata"]["deletionTimestamp"] = json!("2026-11-24T10:00:00Z");
        });
    }),
    case("installed-twice", "a second release in another namespace", |facts| {
        edit(&mut facts.deployments, |all| {
            let mut more = all[0].clone();
            more["metadata"]["namespace"] = json!("second");
            all.as_array_mut().unwrap().push(more);
        });
    }),
    case("scaled-to-zero", "the Deployment scaled to 0", |facts| {
        deployment(facts, |it| it["spec"]["replicas"] = json!(0));
    }),
    case("no-replica", "no replica available", |facts| {
        deployment(facts, |it| it["status"]["availableReplicas"] = json!(0));
    }),
    case("replica-missing", "one of two replicas available", |facts| {
        deployment(facts, |it| it["status"]["availableReplicas"] = json!(1));
    }),
    case("single-replica", "one replica", |facts| {
        deployment(facts, |it| {
            it["spec"]["replicas"] = json!(1);
            it["status"] = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        });
    }),
    case("rollout-stuck", "a rollout that is over its deadline", |facts| {
        deployment(facts, |it| {
            it["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
                "reason": "ProgressDeadlineExceeded"}]);
        });
    }),
    case("version-skew", "a webhook of another version", |facts| {
        deployment(facts, |it| {
            it["metadata"]["labels"]["app.kubernetes.io/version"] = json!("9.9.9");
            it["spec"]["template"]["spec"]["containers"][0]["image"] = json!("p:9.9.9");
        });
    }),
    case("version-skew", "the image pinned to another version", |facts| {
        deployment(facts, |it| {
            it["spec"]["template"]["spec"]["containers"][0]["image"] =
                json!("r.example.com:5000/p:v9.9.9");
        });
    }),
    case(
        "version-skew",
        "a chart of another version, with the image pinned to this one",
        |facts| {
            deployment(facts, |it| {
                it["metadata"]["labels"]["app.kubernetes.io/version"] = json!("9.9.9");
                let image = format!("p:{}", env!("CARGO_PKG_VERSION"));
                it["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            });
        },
    ),
    case("priority-default", "no priority class", |facts| {
        deployment(facts, |it| it["spec"]["template"]["spec"]["priorityClassName"] = json!(""));
    }),
    case("priority-class-missing", "a priority class that does not exist", |facts| {
        deployment(facts, |it| it["spec"]["template"]["spec"]["priorityClassName"] = json!("gold"));
    }),
    case("budget-missing", "the PodDisruptionBudget deleted", |facts| {
        facts.budgets = Seen::Known(Vec::new());
    }),
    case("budget-blocks", "a PodDisruptionBudget with maxUnavailable: 0", |facts| {
        edit(&mut facts.budgets, |all| {
            all[0]["spec"]["maxUnavailable"] = json!(0);
            all[0]["status"]["disruptionsAllowed"] = json!(0);
        });
    }),
    case("budget-twice", "a second PodDisruptionBudget for the same pods", |facts| {
        edit(&mut facts.budgets, |all| {
            let mut more = all[0].clone();
            more["metadata"]["name"] = json!("second");
            all.as_array_mut().unwrap().push(more);
        });
    }),
    case("container-stuck", "an image that cannot be pulled", |facts| {
        first_pod(facts, |pod| {
            pod["status"]["containerStatuses"][0]["state"] =
                json!({"waiting": {"reason": "ImagePullBackOff"}});
        });
    }),
    case("out-of-memory", "a replica that was ended at its memory limit", |facts| {
        first_pod(facts, |pod| {
            pod["status"]["containerStatuses"][0]["lastState"] =
                json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
        });
    }),
    case("same-node", "both replicas on one node", |facts| {
        first_pod(facts, |pod| pod["spec"]["nodeName"] = json!("node-2"));
    }),
    case("images-differ", "replicas of two images", |facts| {
        first_pod(facts, |pod| {
            pod["status"]["containerStatuses"][0]["imageID"] = json!("sha256:2");
        });
    }),
    case("quota-spent", "a spent quota of pods in the webhook's namespace", |facts| {
        add(
            &mut facts.quotas,
            json!({"metadata": {"name": "team", "namespace": HOME},
            "status": {"hard": {"pods": "2"}, "used": {"pods": "2"}}}),
        );
    }),
    case("service-missing", "the Service deleted", |facts| facts.service = Seen::Absent),
    case("service-selector", "the Service selects other pods", |facts| {
        edit(&mut facts.service, |it| it["spec"]["selector"] = json!({"app": "other"}));
    }),
    case("service-target", "the Service leads to a port without a listener", |facts| {
        edit(&mut facts.service, |it| it["spec"]["ports"][0]["targetPort"] = json!(8443));
    }),
    case("no-endpoint", "no endpoint is ready", |facts| {
        edit(&mut facts.slices, |all| {
            for endpoint in all[0]["endpoints"].as_array_mut().unwrap() {
                endpoint["conditions"]["ready"] = json!(false);
            }
        });
    }),
    case("endpoint-foreign", "an endpoint added by hand", |facts| {
        edit(&mut facts.slices, |all| {
            let more = json!({"addresses": ["10.9.9.9"], "conditions": {"ready": true}});
            all[0]["endpoints"].as_array_mut().unwrap().push(more);
        });
    }),
    case("definition-missing", "a definition deleted", |facts| {
        facts.definitions.insert(OURS.to_owned(), Seen::Absent);
    }),
    case("definition-terminating", "a definition that is being deleted", |facts| {
        definition(facts, OURS, |it| {
            it["metadata"]["deletionTimestamp"] = json!("2026-11-24T10:00:00Z");
        });
    }),
    case("definition-not-established", "a definition whose names conflict", |facts| {
        definition(facts, OURS, |it| it["status"]["conditions"][0]["status"] = json!("False"));
    }),
    case("definition-version", "a definition of another version", |facts| {
        definition(facts, OURS, |it| it["spec"]["versions"][0]["name"] = json!("v9"));
    }),
    case("definition-older", "a definition without the field windows", |facts| {
        definition(facts, OURS, |it| {
            schema(it).as_object_mut().unwrap().remove("windows").unwrap();
        });
    }),
    case("definition-older", "a definition without one value of a field", |facts| {
        definition(facts, OURS, |it| {
            let values = schema(it).pointer_mut("/mode/enum").unwrap();
            values.as_array_mut().unwrap().retain(|value| value != "Audit");
        });
    }),
    case("definition-newer", "a definition with a field of a newer version", |facts| {
        definition(facts, OURS, |it| schema(it)["tomorrow"] = json!({"type": "string"}));
    }),
    case("operator-definition-missing", "the operator's definition deleted", |facts| {
        facts.definitions.insert(THEIRS.to_owned(), Seen::Absent);
    }),
    case("operator-version-unknown", "the operator's definition in another version", |facts| {
        definition(facts, THEIRS, |it| it["spec"]["versions"][0]["name"] = json!("v2"));
    }),
    case(
        "scale-subresource",
        "the scale subresource added to the operator's definition",
        |facts| {
            definition(facts, THEIRS, |it| {
                it["spec"]["versions"][0]["subresources"]["scale"] = json!({"specReplicasPath":
                    ".spec.numberOfInstances", "statusReplicasPath": ".status.n"});
            });
        },
    ),
    case("network-api-server", "a NetworkPolicy without the port of reviews", |facts| {
        edit(&mut facts.network, |all| {
            all[0]["spec"]["ingress"].as_array_mut().unwrap().remove(0);
        });
    }),
    case("network-reads", "a NetworkPolicy without the port of the API server", |facts| {
        edit(&mut facts.api_server, |all| all[0]["ports"][0]["port"] = json!(39001));
    }),
    case("network-reads", "a NetworkPolicy that lets nothing out but Patroni", |facts| {
        edit(&mut facts.network, |all| {
            all[0]["spec"]["egress"].as_array_mut().unwrap().remove(0);
        });
    }),
    case("network-patroni-out", "a NetworkPolicy that does not let the webhook to 8008", |facts| {
        edit(&mut facts.network, |all| {
            all[0]["spec"]["egress"].as_array_mut().unwrap().remove(1);
        });
    }),
    case("network-patroni-in", "a namespace of clusters that lets only itself in", |facts| {
        add(
            &mut facts.network,
            json!({"metadata": {"name": "own", "namespace": "db"},
            "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}}),
        );
    }),
];
