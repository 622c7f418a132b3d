//! Kubernetes objects to facts. No I/O.
//!
//! Names and labels are the operator's (pkg/cluster/k8sres.go) unless another source is cited.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::facts::{self, Claim, Seen};
use crate::object_ref::ObjectRef;
use crate::operator::{Compared, Given, POSTGRES_CONTAINER, Settings, variables};
use crate::patroni::{self, Configuration, PendingFailover, Store, SyncState};
use crate::postgresql::ordinal;
use crate::quantity::Amount;

pub mod capacity;
pub mod deployment;
pub mod nodes;
pub mod pods;
mod rest_refusals;
mod writers;

use writers::Writers;

/// Conditions of a claim whose resize is not finished.
const RESIZES: [&str; 2] = ["Resizing", "FileSystemResizePending"];

/// Reduces the StatefulSet of a cluster.
pub fn stateful_set(object: &StatefulSet) -> facts::StatefulSet {
    let metadata = &object.metadata;
    let spec = object.spec.as_ref();
    let writers = Writers::of(metadata);
    facts::StatefulSet {
        name: qualified(metadata),
        replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1).into(),
        generation: metadata.generation.unwrap_or(0),
        observed_generation: object
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            .unwrap_or(0),
        parallel: spec.and_then(|spec| spec.pod_management_policy.as_deref()) == Some("Parallel"),
        terminating: metadata.deletion_timestamp.is_some(),
        compared: Box::new(compared(object)),
        foreign_annotations: writers.foreign_annotations(),
        store: spec.and_then(|spec| stated_store(spec.template.spec.as_ref())),
        given: Box::new(given(spec.and_then(|spec| spec.template.spec.as_ref()))),
        written: writers.written(),
        scaled_by: writers.scaled_by(),
        deletes_volumes: spec
            .and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref())
            .and_then(|policy| policy.when_scaled.as_deref())
            == Some("Delete"),
        image: spec.and_then(|spec| postgres_container(spec.template.spec.as_ref())?.image.clone()),
        revision: object.status.as_ref().and_then(|status| status.update_revision.clone()),
        probed: spec.and_then(|spec| spec.template.spec.as_ref()).is_some_and(|pod| {
            pod.containers.iter().any(|container| container.readiness_probe.is_some())
        }),
    }
}

/// Returns the parts that the operator compares.
fn compared(object: &StatefulSet) -> Compared {
    let spec = object.spec.as_ref();
    let template = spec.map(|spec| &spec.template);
    let metadata = template.and_then(|template| template.metadata.as_ref());
    let pod = template.and_then(|template| template.spec.as_ref());
    let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |fate: Option<&String>| fate.is_some_and(|fate| fate == "Delete");
    Compared {
        annotations: object.metadata.annotations.clone().unwrap_or_default(),
        pod_annotations: metadata.and_then(|it| it.annotations.clone()).unwrap_or_default(),
        pod_labels: metadata.and_then(|it| it.labels.clone()).unwrap_or_default(),
        service_account: pod.and_then(|pod| pod.service_account_name.clone()),
        grace_seconds: pod.and_then(|pod| pod.termination_grace_period_seconds),
        parallel: spec.and_then(|spec| spec.pod_management_policy.as_deref()) == Some("Parallel"),
        when_scaled: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        when_deleted: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
    }
}

/// Returns the volume claims of the cluster's members (`pgdata-<cluster>-<ordinal>`), by ordinal.
pub fn claims(objects: &[PersistentVolumeClaim], cluster: &str) -> Vec<Claim> {
    let mut claims: Vec<Claim> = objects
        .iter()
        .filter_map(|object| {
            let name = object.metadata.name.as_deref()?;
            Some(Claim {
                name: name.to_owned(),
                ordinal: ordinal(cluster, name.strip_prefix("pgdata-")?)?,
                created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
                capacity: object
                    .status
                    .as_ref()
                    .and_then(|status| bytes(status.capacity.as_ref()?)),
                requested: object
                    .spec
                    .as_ref()
                    .and_then(|spec| bytes(spec.resources.as_ref()?.requests.as_ref()?)),
                resizing: object
                    .status
                    .iter()
                    .flat_map(|status| status.conditions.iter().flatten())
                    .find(|it| RESIZES.contains(&it.type_.as_str()) && it.status == "True")
                    .map(|condition| condition.type_.clone()),
                terminating: object.metadata.deletion_timestamp.is_some(),
            })
        })
        .collect();
    claims.sort_by_key(|claim| claim.ordinal);
    claims
}

fn bytes(resources: &BTreeMap<String, Quantity>) -> Option<u64> {
    Some(Amount::of(resources.get("storage")?)?.units())
}

/// The labels of a cluster's pods, and the store of their Patroni.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Labels of all its pods and claims.
    pub selector: BTreeMap<String, String>,
    /// The label that holds a pod's role.
    pub role_label: String,
    /// Values of that label that mean "leader".
    pub leader_values: BTreeSet<String>,
    /// The store of Patroni's objects.
    pub store: Store,
}

impl Layout {
    /// Reads it off the cluster's StatefulSet, and fills in the operator's defaults.
    pub fn of(object: &StatefulSet, cluster: &str) -> Self {
        let mut layout = Self::by_settings(cluster, &Settings::default());
        let Some(spec) = &object.spec else { return layout };
        if let Some(labels) = &spec.selector.match_labels
            && !labels.is_empty()
        {
            layout.selector.clone_from(labels);
        }
        let Some(container) = postgres_container(spec.template.spec.as_ref()) else {
            return layout;
        };
        let value = |name: &str| {
            environment(container, name).and_then(Variable::text).filter(|text| !text.is_empty())
        };
        if let Some(label) = value("KUBERNETES_ROLE_LABEL") {
            label.clone_into(&mut layout.role_label);
        }
        for name in ["KUBERNETES_LEADER_LABEL_VALUE", "KUBERNETES_STANDBY_LEADER_LABEL_VALUE"] {
            layout.leader_values.extend(value(name).map(str::to_owned));
        }
        layout.store = store(container);
        layout
    }

    /// Derives it from the operator's settings, for a cluster without a StatefulSet.
    pub fn by_settings(cluster: &str, settings: &Settings) -> Self {
        Self {
            selector: settings.selector(cluster),
            role_label: settings.role_label.clone(),
            leader_values: ["master", "primary", "standby_leader"].map(str::to_owned).into(),
            store: match (&settings.etcd_host, settings.use_config_maps) {
                (Some(_), _) => Store::Etcd,
                (None, Some(true)) => Store::ConfigMaps,
                (None, Some(false)) => Store::Endpoints,
                (None, None) => Store::Unknown,
            },
        }
    }
}

/// Returns the container of a pod that runs Patroni and PostgreSQL, or the first where none has its
/// name.
pub(crate) fn postgres_container(pod: Option<&PodSpec>) -> Option<&Container> {
    let containers = pod.map_or(&[][..], |pod| &pod.containers);
    containers
        .iter()
        .find(|container| container.name == POSTGRES_CONTAINER)
        .or_else(|| containers.first())
}

/// Returns the DCS store of the Patroni in `container`. Not known where a whole object of variables
/// may name it.
fn store(container: &Container) -> Store {
    let of_container = store_variables(container);
    let store = Store::of_variables(&of_container);
    let more = container.env_from.as_ref().is_some_and(|whole| !whole.is_empty());
    // A variable of the container wins over one of a whole object.
    if more && store == Store::Endpoints { Store::Unknown } else { store }
}

/// Returns the variables of `container` by which Patroni finds its store. The last of a name wins,
/// as for the kubelet.
fn store_variables(container: &Container) -> BTreeMap<String, bool> {
    let all = container.env.iter().flatten();
    variables(all.map(|it| {
        let text = it.value.as_ref().is_some_and(|text| !text.is_empty());
        (it.name.as_str(), it.value_from.is_some() || text)
    }))
}

/// Returns the DCS store of a pod that an operator made: its container names its scope
/// (`generateSpiloPodEnvVars`, pkg/cluster/k8sres.go). `None` where it is not known.
///
/// In any other container a missing variable proves nothing.
pub(crate) fn stated_store(pod: Option<&PodSpec>) -> Option<Store> {
    let container = postgres_container(pod)?;
    environment(container, "SCOPE")?;
    Some(store(container)).filter(|store| *store != Store::Unknown)
}

/// Returns the part of a template that the operator takes into account when it writes the store of
/// new members.
fn given(pod: Option<&PodSpec>) -> Given {
    let Some(container) = postgres_container(pod) else { return Given::default() };
    let from_secrets = container.env.iter().flatten().filter_map(|variable| {
        let from = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        let own = from.key == variable.name && !variables([(&*variable.name, true)]).is_empty();
        own.then(|| (variable.name.clone(), from.name.clone()))
    });
    let whole = container.env_from.iter().flatten();
    Given {
        from_secrets: from_secrets.collect(),
        whole_objects: whole.filter_map(|it| serde_json::to_value(it).ok()).collect(),
    }
}

/// Reads Patroni's configuration from the annotations of `<cluster>-config`, which is `source`.
pub fn configuration(
    source: &ObjectRef,
    annotations: &BTreeMap<String, String>,
) -> Seen<Configuration> {
    match annotations.get("config").filter(|text| !text.is_empty()) {
        None => Seen::Absent,
        Some(text) => match Configuration::of(text) {
            Ok(configuration) => Seen::Known(configuration),
            Err(error) => {
                Seen::Unreadable(format!("annotation config of {source} is not JSON: {error}"))
            }
        },
    }
}

/// Reads the last leader from the annotations of `<cluster>-config`, which is `source`.
pub fn last_leader(source: &ObjectRef, annotations: &BTreeMap<String, String>) -> Seen<String> {
    match annotations.get("history").filter(|text| !text.is_empty()) {
        None => Seen::Absent,
        Some(text) => match patroni::last_leader(text) {
            Ok(leader) => leader.map_or(Seen::Absent, Seen::Known),
            Err(error) => Seen::Unreadable(format!(
                "annotation history of {source} is not a list in JSON: {error}"
            )),
        },
    }
}

/// Reads the cluster's system identifier from the annotations of `<cluster>-config`. It is empty
/// while a bootstrap runs.
pub fn initialize(annotations: &BTreeMap<String, String>) -> Seen<String> {
    let text = annotations.get("initialize").filter(|text| !text.is_empty());
    text.map_or(Seen::Absent, |text| Seen::Known(text.clone()))
}

/// Reads the pending switchover from the annotations of `<cluster>-failover`, which remains when
/// nothing is pending.
pub fn failover(annotations: &BTreeMap<String, String>) -> Seen<PendingFailover> {
    PendingFailover::of(annotations).map_or(Seen::Absent, Seen::Known)
}

/// Reads the synchronous standbys from the annotations of `<cluster>-sync`.
pub fn sync(annotations: &BTreeMap<String, String>) -> Seen<SyncState> {
    Seen::Known(SyncState::of(annotations))
}

/// Returns a label selector in the API server's spelling: `a=1,b=2`.
pub fn spell(selector: &BTreeMap<String, String>) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// An environment variable of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable<'a> {
    /// Set to this text.
    Text(&'a str),
    /// Set from the pod's own field of this path.
    Field(&'a str),
    /// Set from an object that the guard does not read, as `kind name`.
    Elsewhere(&'static str),
}

impl<'a> Variable<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Field(_) | Self::Elsewhere(_) => None,
        }
    }
}

/// Returns the variable `name`. The last entry wins, as for the kubelet.
fn environment<'a>(container: &'a Container, name: &str) -> Option<Variable<'a>> {
    let variable = container.env.iter().flatten().rfind(|variable| variable.name == name)?;
    let Some(source) = &variable.value_from else {
        return Some(Variable::Text(variable.value.as_deref().unwrap_or("")));
    };
    Some(match &source.field_ref {
        Some(field) => Variable::Field(&field.field_path),
        None if source.secret_key_ref.is_some() => Variable::Elsewhere("a Secret"),
        None if source.config_map_key_ref.is_some() => Variable::Elsewhere("a ConfigMap"),
        None => Variable::Elsewhere("another place"),
    })
}

/// Returns `namespace/name`.
fn qualified(metadata: &ObjectMeta) -> String {
    format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or(""),
        metadata.name.as_deref().unwrap_or("")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::facts::Seen;

    fn set(object: Value) -> StatefulSet {
        serde_json::from_value(object).unwrap()
    }

    /// Returns a StatefulSet whose Postgres container has this environment.
    fn with_environment(env: &Value) -> StatefulSet {
        set(json!({"metadata": {"namespace": "db", "name": "acid-a"}, "spec": {
        "selector": {"matchLabels": {"application": "pg", "cluster": "acid-a"}},
        "template": {"spec": {"containers": [
            {"name": "sidecar", "env": [{"name": "ETCD_HOST", "value": "not.this.one"}]},
            {"name": "postgres", "env": env},
        ]}}}}))
    }

    #[test]
    fn stateful_set_without_a_spec_has_kubernetes_defaults() {
        let full = stateful_set(&set(json!({
            "metadata": {"namespace": "db", "name": "acid-a", "generation": 7,
                "deletionTimestamp": "2026-11-24T10:00:00Z"},
            "spec": {"replicas": 0, "podManagementPolicy": "Parallel", "selector": {}, "template": {}},
            "status": {"replicas": 2, "observedGeneration": 6}})));
        assert_eq!(full.name, "db/acid-a");
        assert_eq!((full.replicas, full.generation, full.observed_generation), (0, 7, 6));
        assert!(full.parallel && full.terminating && full.foreign_annotations.is_empty());

        let bare = stateful_set(&set(json!({"metadata": {}})));
        assert_eq!((bare.replicas, bare.parallel, bare.terminating), (1, false, false));
    }

    #[test]
    fn environment_determines_the_dcs_store() {
        let settings = Settings { use_config_maps: Some(true), ..Settings::default() };
        for (env, want) in [
            (json!(null), Store::Endpoints),
            (json!([{"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"}]), Store::ConfigMaps),
            (
                json!([{"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"},
                    {"name": "KUBERNETES_USE_CONFIGMAPS", "value": ""}]),
                Store::Endpoints, // the last one wins
            ),
            // For Spilo any text means yes.
            (json!([{"name": "KUBERNETES_USE_CONFIGMAPS", "value": "false"}]), Store::ConfigMaps),
            (
                json!([{"name": "DCS_ENABLE_KUBERNETES_API", "value": "true"},
                    {"name": "ETCD_HOST", "value": "left.over"}]),
                Store::Endpoints,
            ),
            (json!([{"name": "ETCD_HOST", "value": "etcd:2379"}]), Store::Etcd),
            (json!([{"name": "ETCD_HOST", "value": ""}]), Store::Endpoints),
            (
                json!([{"name": "ETCD_HOST",
                    "valueFrom": {"configMapKeyRef": {"name": "etcd", "key": "host"}}}]),
                Store::Etcd,
            ),
        ] {
            assert_eq!(Layout::of(&with_environment(&env), "acid-a").store, want, "{env}");
        }
        let maps = json!({"name": "KUBERNETES_USE_CONFIGMAPS", "value": "true"});
        let endpoints = json!({"name": "KUBERNETES_USE_ENDPOINTS", "value": "x"});
        let both = with_environment(&json!([maps, endpoints]));
        assert_eq!(Layout::of(&both, "acid-a").store, Store::Endpoints, "Spilo sets both");
        let scope = json!({"name": "SCOPE", "value": "acid-a"});
        let from = json!({"name": "KUBERNETES_USE_CONFIGMAPS",
            "valueFrom": {"secretKeyRef": {"name": "s", "key": "KUBERNETES_USE_CONFIGMAPS"}}});
        let secret = stateful_set(&with_environment(&json!([scope, from])));
        assert_eq!(secret.store, Some(Store::ConfigMaps));
        assert_eq!(secret.given.from_secrets["KUBERNETES_USE_CONFIGMAPS"], "s");
        let mut whole = with_environment(&json!([scope]));
        let container =
            &mut whole.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[1];
        container.env_from =
            serde_json::from_value(json!([{"configMapRef": {"name": "c"}}])).unwrap();
        assert_eq!(Layout::of(&whole, "acid-a").store, Store::Unknown);
        let whole = stateful_set(&whole);
        assert_eq!(whole.store, None);
        assert_eq!(whole.given.whole_objects, [json!({"configMapRef": {"name": "c"}})]);
        assert_eq!(Layout::by_settings("acid-a", &settings).store, Store::ConfigMaps);
        assert_eq!(Layout::by_settings("acid-a", &Settings::default()).store, Store::Unknown);
        let etcd = Settings { etcd_host: Some("etcd".into()), ..settings };
        assert_eq!(Layout::by_settings("acid-a", &etcd).store, Store::Etcd);
    }

    #[test]
    fn labels_of_the_stateful_set_win_over_the_settings() {
        let own = Layout::of(
            &with_environment(&json!([
                {"name": "KUBERNETES_ROLE_LABEL", "value": "role"},
                {"name": "KUBERNETES_LEADER_LABEL_VALUE", "value": "boss"}])),
            "acid-a",
        );
        assert_eq!(spell(&own.selector), "application=pg,cluster=acid-a");
        assert_eq!(own.role_label, "role");
        assert!(own.leader_values.contains("boss") && own.leader_values.contains("master"));

        let settings = Settings {
            cluster_labels: BTreeMap::from([("team".into(), "a".into())]),
            cluster_name_label: "name".into(),
            role_label: "part".into(),
            ..Settings::default()
        };
        let layout = Layout::by_settings("acid-a", &settings);
        assert_eq!(
            (spell(&layout.selector).as_str(), layout.role_label.as_str()),
            ("name=acid-a,team=a", "part")
        );
    }

    #[test]
    fn claims_of_other_clusters_and_purposes_are_left_out() {
        let claim = |name: &str, size: Option<&str>| -> PersistentVolumeClaim {
            let status = size.map(|size| json!({"capacity": {"storage": size}}));
            serde_json::from_value(json!({"metadata": {"name": name,
                "creationTimestamp": "2026-11-20T10:00:00Z"}, "status": status}))
            .unwrap()
        };
        let found = claims(
            &[
                claim("pgdata-acid-a-10", Some("2Gi")),
                claim("pgdata-acid-a-2", None),
                claim("pgdata-acid-a-1-0", Some("1Gi")),
                claim("wal-acid-a-0", Some("1Gi")),
                claim("pgdata-acid-ab-0", Some("1Gi")),
            ],
            "acid-a",
        );
        let found: Vec<_> = found
            .iter()
            .map(|claim| (claim.name.as_str(), claim.ordinal, claim.capacity))
            .collect();
        assert_eq!(found, [("pgdata-acid-a-2", 2, None), ("pgdata-acid-a-10", 10, Some(2 << 30))]);
    }

    #[test]
    fn missing_annotation_is_absent_and_broken_one_unreadable() {
        let annotations = |text: &str| BTreeMap::from([("config".to_owned(), text.to_owned())]);
        let endpoints = || ObjectRef::new(crate::object_ref::Kind::Endpoints, "a-config");
        assert_eq!(configuration(&endpoints(), &BTreeMap::new()), Seen::Absent);
        assert_eq!(configuration(&endpoints(), &annotations("")), Seen::Absent);
        let paused = configuration(&endpoints(), &annotations(r#"{"pause": true}"#));
        assert!(paused.known().unwrap().paused);
        assert_eq!(
            configuration(&endpoints(), &annotations("nonsense")).unreadable(),
            Some(
                "annotation config of endpoints/a-config is not JSON: expected ident at line 1 column 2"
            )
        );
        assert_eq!(failover(&BTreeMap::new()), Seen::Absent);
        assert_eq!(sync(&BTreeMap::new()), Seen::Known(SyncState::default()));
    }
}
