//! A healthy installation, built from the files of the chart, and the means to break it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pgscale_guard::Seen;
use pgscale_guard::postgresql::Postgresql;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::doctor::canary::{Answer, Canary};
use crate::doctor::facts::Facts;
use crate::doctor::shipped::Shipped;
use crate::testing::{facts, now, object};

/// The namespace of the webhook.
pub(super) const HOME: &str = "pgscale-system";
/// The account of the operator.
const OPERATOR: &str = "default/postgres-operator";

/// An authority.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A span of time around now, in hours.
pub(super) type Life = (i64, i64);

fn at(hours: i64) -> OffsetDateTime {
    let time: Timestamp = now() + SignedDuration::from_hours(hours);
    OffsetDateTime::from_unix_timestamp(time.as_second()).unwrap()
}

/// Returns an authority with this life.
pub(super) fn authority((begins, ends): Life) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (at(begins), at(ends));
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

impl Authority {
    /// Returns the DER of a certificate for `name` that it signs.
    pub(super) fn sign(&self, name: &str, (begins, ends): Life) -> Vec<u8> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (at(begins), at(ends));
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }
}

pub(super) const NAME: &str = "pgscale-webhook.pgscale-system.svc";

/// The authority of the healthy installation, and the certificate of each replica.
pub(super) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| authority((-24, 600 * 24)));
static LEAF: LazyLock<Vec<u8>> = LazyLock::new(|| AUTHORITY.sign(NAME, (-24, 60 * 24)));

/// Changes an object that was read, as JSON.
pub(super) fn edit<K: Serialize + DeserializeOwned>(
    seen: &mut Seen<K>,
    change: impl FnOnce(&mut Value),
) {
    let Seen::Known(known) = seen else { panic!("it is not there") };
    let mut value = serde_json::to_value(&*known).unwrap();
    change(&mut value);
    *known = serde_json::from_value(value).unwrap();
}

/// Changes the entry of the registration with this name.
pub(super) fn entry(facts: &mut Facts, name: &str, change: impl FnOnce(&mut Value)) {
    edit(&mut facts.registration, |registration| {
        let entries = registration["webhooks"].as_array_mut().unwrap();
        change(entries.iter_mut().find(|entry| entry["name"] == name).unwrap());
    });
}

/// Changes the webhook's Deployment.
pub(super) fn deployment(facts: &mut Facts, change: impl FnOnce(&mut Value)) {
    edit(&mut facts.deployments, |all| change(&mut all[0]));
}

/// Adds an object to a list.
pub(super) fn add<K: DeserializeOwned>(seen: &mut Seen<Vec<K>>, object: Value) {
    let Seen::Known(known) = seen else { panic!("it is not there") };
    known.push(serde_json::from_value(object).unwrap());
}

/// Removes the objects with this name from a list.
pub(super) fn remove<K: Serialize + DeserializeOwned>(seen: &mut Seen<Vec<K>>, name: &str) {
    edit(seen, |all| {
        let all = all.as_array_mut().unwrap();
        let before = all.len();
        all.retain(|one| one["metadata"]["name"] != name);
        assert_ne!(all.len(), before, "there is no {name}");
    });
}

fn read<K: DeserializeOwned>(value: Value) -> Seen<K> {
    Seen::Known(serde_json::from_value(value).unwrap())
}

pub(super) fn labels() -> Value {
    json!({"app.kubernetes.io/name": "pgscale-webhook", "app.kubernetes.io/instance": "pgscale",
        "app.kubernetes.io/version": env!("CARGO_PKG_VERSION")})
}

fn selector() -> Value {
    json!({"app.kubernetes.io/name": "pgscale-webhook", "app.kubernetes.io/instance": "pgscale"})
}

fn webhook() -> Value {
    json!({"metadata": {"name": "pgscale-webhook", "namespace": HOME, "labels": labels()},
        "spec": {"replicas": 2, "selector": {"matchLabels": selector()},
            "template": {"metadata": {"labels": labels()}, "spec": {
                "serviceAccountName": "pgscale-webhook",
                "priorityClassName": "system-cluster-critical",
                "containers": [{"name": "webhook", "image": "pgscale-webhook:0.1.0",
                    "args": ["serve", "--grow-failure-policy=Ignore"],
                    "ports": [{"name": "webhook", "containerPort": 9443},
                        {"name": "metrics", "containerPort": 9090}]}]}}},
        "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}})
}

/// Returns a Deployment that looks like an operator.
pub(super) fn operator(namespace: &str, name: &str, account: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"name": name}},
            "template": {"metadata": {"labels": {"name": name}}, "spec": {
                "serviceAccountName": account,
                "containers": [{"name": "postgres-operator", "image": "postgres-operator:v1.15.0",
                    "env": [{"name": "CONFIG_MAP_NAME", "value": name}]}]}}},
        "status": {"availableReplicas": 1}})
}

fn pod(index: u32) -> Value {
    json!({"metadata": {"name": format!("pgscale-webhook-{index}"), "namespace": HOME,
            "labels": labels()},
        "spec": {"nodeName": format!("node-{index}"), "containers": []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "webhook", "image": "pgscale-webhook:0.1.0",
                "imageID": "sha256:1", "ready": true, "restartCount": 0,
                "state": {"running": {}}}]}})
}

fn network_policy() -> Value {
    json!({"metadata": {"name": "pgscale-webhook", "namespace": HOME},
        "spec": {"podSelector": {"matchLabels": selector()},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": 9443}]},
                {"ports": [{"protocol": "TCP", "port": 9090}], "from": [{"namespaceSelector":
                    {}}]}],
            "egress": [{"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port":
                6443}]},
                {"ports": [{"protocol": "TCP", "port": 8008}], "to": [{"namespaceSelector":
                    {}}]}]}})
}

fn definition(value: Value) -> Value {
    let mut value = value;
    value["status"] = json!({"acceptedNames": {"kind": "x", "plural": "x"}, "storedVersions": [],
        "conditions": [{"type": "Established", "status": "True"}]});
    value
}

fn postgresqls() -> Value {
    definition(json!({"metadata": {"name": "postgresqls.acid.zalan.do"},
        "spec": {"group": "acid.zalan.do", "scope": "Namespaced",
            "names": {"kind": "postgresql", "plural": "postgresqls"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}}}]}}))
}

/// Returns the registration as the API server stores it and the webhook completes it.
fn registration(shipped: &Shipped) -> Value {
    let mut value = serde_json::to_value(&shipped.registration).unwrap();
    value["metadata"]["labels"] = labels();
    value["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Namespace", "name": HOME, "uid": "home-uid"}]);
    let bundle = serde_json::to_value(k8s_openapi::ByteString(AUTHORITY.pem.clone().into_bytes()));
    let bundle = bundle.unwrap();
    for entry in value["webhooks"].as_array_mut().unwrap() {
        entry["clientConfig"]["caBundle"] = bundle.clone();
        entry["clientConfig"]["service"]["path"] = json!("/validate/secret");
        entry["clientConfig"]["service"]["port"] = json!(443);
        entry["namespaceSelector"] = json!({});
        entry["objectSelector"] = json!({});
    }
    value
}

/// Returns the shipped objects of this kind, with one break-glass user.
fn rights(shipped: &Shipped, kind: &str) -> Value {
    let of_kind = shipped.rights.iter().filter(|one| one["kind"] == kind);
    let named = of_kind.map(|one| {
        serde_json::from_str(&one.to_string().replace("BREAK-GLASS-USER", "jane")).unwrap()
    });
    Value::Array(named.collect())
}

/// Returns the facts of a healthy installation.
pub(super) fn healthy() -> Facts {
    let account = OPERATOR.parse().unwrap();
    let shipped = Shipped::of(HOME, &[account]).unwrap();
    let settings = facts(3, 3, 0).operator;
    let definitions = shipped.definitions.iter().map(|one| {
        let value = definition(serde_json::to_value(one).unwrap());
        (one.metadata.name.clone().unwrap(), read(value))
    });
    Facts {
        now: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: Some(HOME.to_owned()),
        registration: read(registration(&shipped)),
        fences: read(rights(&shipped, "ValidatingAdmissionPolicy")),
        bindings: read(rights(&shipped, "ValidatingAdmissionPolicyBinding")),
        deployments: read(json!([
            webhook(),
            operator("default", "postgres-operator", "postgres-operator")
        ])),
        namespaces: read(json!([
            {"metadata": {"name": HOME, "uid": "home-uid", "labels":
                {"kubernetes.io/metadata.name": HOME}}},
            {"metadata": {"name": "db", "uid": "db-uid", "labels": {"kubernetes.io/metadata.name":
                "db"}}},
        ])),
        pods: read(json!([pod(1), pod(2)])),
        service: read(json!({"metadata": {"name": "pgscale-webhook", "namespace": HOME},
            "spec": {"selector": selector(),
                "ports": [{"name": "webhook", "port": 443, "targetPort": "webhook"}]}})),
        slices: read(json!([{"metadata": {"name": "pgscale-webhook-x"}, "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind":
                    "Pod", "name": "pgscale-webhook-1"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "targetRef": {"kind":
                    "Pod", "name": "pgscale-webhook-2"}}]}])),
        api_server: read(json!([{"metadata": {"name": "kubernetes"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.9.1"]}], "ports": [{"name": "https", "port":
                6443}]}])),
        budgets: read(json!([{"metadata": {"name": "pgscale-webhook", "namespace": HOME},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector()}},
            "status": {"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1,
                "expectedPods": 2}}])),
        quotas: read(json!([])),
        priority_classes: read(
            json!([{"metadata": {"name": "system-cluster-critical"}, "value": 1}]),
        ),
        network: read(json!([network_policy()])),
        served: ["pgscale-webhook-1", "pgscale-webhook-2"]
            .map(|pod| (pod.to_owned(), Ok(vec![LEAF.clone()])))
            .into(),
        definitions: definitions
            .chain([("postgresqls.acid.zalan.do".to_owned(), read(postgresqls()))])
            .collect(),
        operator_list: read(
            json!({"metadata": {"name": "pgscale-operators", "namespace": "kube-public"},
            "data": {"accounts": OPERATOR}}),
        ),
        clusters: Seen::Known(vec![Postgresql::of(&object(3)).unwrap()]),
        operators: BTreeMap::from([(("db".to_owned(), String::new()), settings)]),
        policies: Seen::Known(Vec::new()),
        platform: Seen::Known(Vec::new()),
        overrides: Seen::Known(Vec::new()),
        autoscalers: read(json!([])),
        scaled_objects: Seen::Absent,
        cluster_roles: read(rights(&shipped, "ClusterRole")),
        cluster_role_bindings: read(rights(&shipped, "ClusterRoleBinding")),
        roles: read(rights(&shipped, "Role")),
        role_bindings: read(rights(&shipped, "RoleBinding")),
        canary: Canary::Sent(
            "db/acid-a".to_owned(),
            Answer::Refused(vec!["scale-to-zero".to_owned()]),
        ),
        // The one reason of the unread parts in these tests that is a lack of permission.
        forbidden: ["forbidden".to_owned()].into(),
    }
}
