//! The facts of a diagnosis: the objects of the installation as they were read.
//!
//! Every part is `Seen`: what could not be read is never taken as fine.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ResourceQuota, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::Seen;
use pgscale_guard::operator::account::{LIST_KEY, listed};
use pgscale_guard::operator::{Account, Operator};
use pgscale_guard::postgresql::Postgresql;
use serde_json::Value;

use super::canary::Canary;
use super::shipped::WEBHOOK;

/// The certificates that one replica showed, DER, its own first.
pub(crate) type Chain = Vec<Vec<u8>>;

/// Everything that [`diagnose`](super::diagnose) looks at.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The time of the API server.
    pub(crate) now: Timestamp,
    /// The version of this program.
    pub(crate) version: String,
    /// The namespace of the webhook, as registration or Deployment name it.
    pub(crate) home: Option<String>,
    pub(crate) registration: Seen<ValidatingWebhookConfiguration>,
    pub(crate) fences: Seen<Vec<ValidatingAdmissionPolicy>>,
    pub(crate) bindings: Seen<Vec<ValidatingAdmissionPolicyBinding>>,
    /// Of the whole cluster: the webhook's and the operators' are among them.
    pub(crate) deployments: Seen<Vec<Deployment>>,
    pub(crate) namespaces: Seen<Vec<Namespace>>,
    /// Of the webhook's namespace, and so are the next ones.
    pub(crate) pods: Seen<Vec<Pod>>,
    pub(crate) service: Seen<Service>,
    /// The slices of that Service.
    pub(crate) slices: Seen<Vec<EndpointSlice>>,
    /// The slices of the API server's own Service.
    pub(crate) api_server: Seen<Vec<EndpointSlice>>,
    pub(crate) budgets: Seen<Vec<PodDisruptionBudget>>,
    pub(crate) quotas: Seen<Vec<ResourceQuota>>,
    pub(crate) priority_classes: Seen<Vec<PriorityClass>>,
    /// Of the whole cluster.
    pub(crate) network: Seen<Vec<NetworkPolicy>>,
    /// The certificates that each replica showed, or the reason for which it showed none.
    pub(crate) served: BTreeMap<String, Result<Chain, String>>,
    /// Our definitions and the operator's, by name.
    pub(crate) definitions: BTreeMap<String, Seen<CustomResourceDefinition>>,
    pub(crate) operator_list: Seen<ConfigMap>,
    pub(crate) clusters: Seen<Vec<Postgresql>>,
    /// The operator of each namespace's clusters, by namespace and controller annotation.
    pub(crate) operators: BTreeMap<(String, String), Seen<Operator>>,
    /// As they are stored: a policy of a newer version may not be decodable.
    pub(crate) policies: Seen<Vec<Value>>,
    pub(crate) platform: Seen<Vec<Value>>,
    pub(crate) overrides: Seen<Vec<Value>>,
    pub(crate) autoscalers: Seen<Vec<HorizontalPodAutoscaler>>,
    /// KEDA's; absent where KEDA is not installed.
    pub(crate) scaled_objects: Seen<Vec<Value>>,
    pub(crate) cluster_roles: Seen<Vec<ClusterRole>>,
    pub(crate) cluster_role_bindings: Seen<Vec<ClusterRoleBinding>>,
    pub(crate) roles: Seen<Vec<Role>>,
    pub(crate) role_bindings: Seen<Vec<RoleBinding>>,
    pub(crate) canary: Canary,
    /// The reasons for unread parts that are a lack of permission, word by word.
    pub(crate) forbidden: BTreeSet<String>,
}

impl Facts {
    /// Returns the webhook's Deployment. Unreadable as the list is.
    pub(crate) fn deployment(&self) -> Seen<&Deployment> {
        self.deployments.as_ref().and_then(|all| {
            let ours = all.iter().find(|one| {
                one.metadata.name.as_deref() == Some(WEBHOOK) && one.metadata.namespace == self.home
            });
            ours.map_or(Seen::Absent, Seen::Known)
        })
    }

    /// Returns the pods of the webhook, by the selector of its Deployment.
    pub(crate) fn replicas(&self) -> Vec<&Pod> {
        let deployment = self.deployment();
        let selector = deployment.known().and_then(|it| it.spec.as_ref()).map(|it| &it.selector);
        let (Some(selector), Some(pods)) = (selector, self.pods.known()) else {
            return Vec::new();
        };
        let none = BTreeMap::new();
        let ours = |pod: &&Pod| {
            let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
            pgscale_guard::selector::selects(selector, labels).unwrap_or(false)
        };
        pods.iter().filter(ours).collect()
    }

    /// Returns the release's name, as the chart's labels say it.
    pub(crate) fn release(&self) -> Option<&str> {
        let registration = self.registration.known().map(|it| &it.metadata);
        let deployment = self.deployment();
        let deployment = deployment.known().map(|it| &it.metadata);
        let metadata = registration.into_iter().chain(deployment);
        metadata
            .filter_map(|it| it.labels.as_ref()?.get("app.kubernetes.io/instance"))
            .map(String::as_str)
            .next()
    }

    /// Returns the listed accounts of operators. `None` where there is no list, or none that can be
    /// read.
    pub(crate) fn listed_accounts(&self) -> Option<Vec<Account>> {
        listed(self.operator_list.known()?.data.as_ref()?.get(LIST_KEY)?).ok()
    }

    /// Returns the labels of a namespace.
    pub(crate) fn labels_of(&self, namespace: &str) -> Seen<BTreeMap<String, String>> {
        self.namespaces.as_ref().and_then(|all| {
            let found = all.iter().find(|one| one.metadata.name.as_deref() == Some(namespace));
            found.map_or(Seen::Absent, |found| {
                Seen::Known(found.metadata.labels.clone().unwrap_or_default())
            })
        })
    }
}
