//! References to the sources of facts: objects of Kubernetes, and the answers of members.

use std::fmt;

use serde::Serialize;

use crate::printable::printable;

/// The kind of an object, as kubectl spells it in lower case.
///
/// The last four are no kinds of Kubernetes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    schemars::JsonSchema,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A policy of the people who run the platform.
    ClusterScalePolicy,
    /// A `ConfigMap`.
    ConfigMap,
    /// A `CronJob`.
    CronJob,
    /// A `Deployment`.
    Deployment,
    /// An `Endpoints` object.
    Endpoints,
    /// The ledger of a namespace's budget.
    InstanceLedger,
    /// A `LimitRange`.
    LimitRange,
    /// A node.
    Node,
    /// The operator's settings as an object of their own.
    OperatorConfiguration,
    /// A claim of a volume.
    PersistentVolumeClaim,
    /// A pod.
    Pod,
    /// A `PodDisruptionBudget`.
    PodDisruptionBudget,
    /// A cluster as the operator knows it.
    Postgresql,
    /// A `ResourceQuota`.
    ResourceQuota,
    /// A change that is allowed in spite of rules.
    ScaleOverride,
    /// A policy of a namespace.
    ScalePolicy,
    /// A `Service`.
    Service,
    /// A `StatefulSet`.
    StatefulSet,
    /// The value that a program or the operator uses where nothing is set.
    #[serde(rename = "built-in")]
    BuiltIn,
    /// The time at which a change is judged.
    Clock,
    /// A member that was asked itself, over Patroni's REST interface.
    Member,
    /// A rule that could not be judged.
    Rule,
}

impl Kind {
    /// Returns the word for one object of the kind.
    pub const fn word(self) -> &'static str {
        self.words().0
    }

    /// Returns the words for one object of the kind and for all of them.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ClusterScalePolicy => ("clusterscalepolicy", "clusterscalepolicies"),
            Self::ConfigMap => ("configmap", "configmaps"),
            Self::CronJob => ("cronjob", "cronjobs"),
            Self::Deployment => ("deployment", "deployments"),
            Self::Endpoints => ("endpoints", "endpoints"),
            Self::InstanceLedger => ("instanceledger", "instanceledgers"),
            Self::LimitRange => ("limitrange", "limitranges"),
            Self::Node => ("node", "nodes"),
            Self::OperatorConfiguration => ("operatorconfiguration", "operatorconfigurations"),
            Self::PersistentVolumeClaim => ("persistentvolumeclaim", "persistentvolumeclaims"),
            Self::Pod => ("pod", "pods"),
            Self::PodDisruptionBudget => ("poddisruptionbudget", "poddisruptionbudgets"),
            Self::Postgresql => ("postgresql", "postgresqls"),
            Self::ResourceQuota => ("resourcequota", "resourcequotas"),
            Self::ScaleOverride => ("scaleoverride", "scaleoverrides"),
            Self::ScalePolicy => ("scalepolicy", "scalepolicies"),
            Self::Service => ("service", "services"),
            Self::StatefulSet => ("statefulset", "statefulsets"),
            Self::BuiltIn => ("built-in", "built-in defaults"),
            Self::Clock => ("clock", "clock"),
            Self::Member => ("member", "members"),
            Self::Rule => ("rule", "rules"),
        }
    }
}

/// One object, all objects of a kind, or a member that was asked.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    schemars::JsonSchema,
    serde::Deserialize,
)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; absent where it is the namespace of the cluster, or the kind has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name; absent where all objects of the kind are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The address at which a member was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl ObjectRef {
    /// Returns the object of this kind and name in the namespace of the cluster, or in none.
    pub fn new(kind: Kind, name: &str) -> Self {
        Self { name: Some(printable(name)), ..Self::all(kind) }
    }

    /// Returns all objects of a kind in the namespace of the cluster, or in none.
    pub const fn all(kind: Kind) -> Self {
        Self { kind, namespace: None, name: None, address: None }
    }

    /// Returns the pod of this name.
    pub fn pod(name: &str) -> Self {
        Self::new(Kind::Pod, name)
    }

    /// Returns the claim of this name.
    pub fn claim(name: &str) -> Self {
        Self::new(Kind::PersistentVolumeClaim, name)
    }

    /// Returns the policy of this name in the namespace of the cluster.
    pub fn policy(name: &str) -> Self {
        Self::new(Kind::ScalePolicy, name)
    }

    /// Returns the member of this name, as it answers at `address`.
    pub fn member(name: &str, address: &str) -> Self {
        Self { address: Some(printable(address)), ..Self::new(Kind::Member, name) }
    }

    /// Returns the same object in another namespace than the cluster's.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self { namespace: Some(printable(namespace)), ..self }
    }

    /// Returns the name; empty where all objects of the kind are meant.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Returns `namespace/name`; the name alone in the namespace of the cluster.
    pub fn qualified(&self) -> String {
        let namespace = self.namespace.as_ref().map_or(String::new(), |it| format!("{it}/"));
        format!("{namespace}{}", self.name())
    }

    /// Returns `kind/name`, as kubectl takes it for an argument.
    pub fn argument(&self) -> String {
        format!("{}/{}", self.kind.word(), self.name())
    }
}

/// `pod/acid-a-1`; `deployment ops/postgres-operator` in another namespace; `pods` for all of a kind; the address and
/// the name for a member.
impl fmt::Display for ObjectRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, all) = self.kind.words();
        match (&self.namespace, &self.name, &self.address) {
            (_, None, _) => out.write_str(all),
            (_, Some(name), Some(address)) => write!(out, "{address}: {name}"),
            (Some(namespace), Some(name), None) => write!(out, "{one} {namespace}/{name}"),
            (None, Some(name), None) => write!(out, "{one}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reference_reads_as_kubectl_spells_it() {
        let operator = ObjectRef::new(Kind::Deployment, "postgres-operator").in_namespace("ops");
        let member = ObjectRef::member("acid-a-1", "http://10.244.0.11:8008/patroni");
        for (reference, want) in [
            (ObjectRef::pod("acid-a-1"), "pod/acid-a-1"),
            (operator, "deployment ops/postgres-operator"),
            (ObjectRef::all(Kind::ScalePolicy), "scalepolicies"),
            (ObjectRef::all(Kind::BuiltIn), "built-in defaults"),
            (member, "http://10.244.0.11:8008/patroni: acid-a-1"),
        ] {
            assert_eq!(reference.to_string(), want);
        }
    }

    #[test]
    fn reference_is_data_in_json() {
        let member = ObjectRef::member("acid-a-1", "http://10.244.0.11:8008/patroni");
        for (reference, want) in [
            (ObjectRef::pod("acid-a-1"), json!({"kind": "pod", "name": "acid-a-1"})),
            (ObjectRef::all(Kind::BuiltIn), json!({"kind": "built-in"})),
            (
                member,
                json!({"kind": "member", "name": "acid-a-1", "address": "http://10.244.0.11:8008/patroni"}),
            ),
        ] {
            assert_eq!(serde_json::to_value(reference).unwrap(), want);
        }
    }

    #[test]
    fn kind_is_the_same_word_in_text_and_in_json() {
        for kind in [Kind::BuiltIn, Kind::ClusterScalePolicy, Kind::Endpoints, Kind::Member] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }
}
