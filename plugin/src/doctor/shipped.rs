//! The objects of the chart that this program was built with.
//!
//! `charts/pgscale/files` is the output of the webhook itself, so names, rules and permissions have
//! one source. The chart's templates fill in the namespace and the operators' accounts, and so does
//! this module.

use std::sync::LazyLock;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhook,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use pgscale_guard::operator::Account;
use serde::de::DeserializeOwned;
use serde_json::Value;

const REGISTRATION: &str = include_str!("../../../charts/pgscale/files/configuration.yaml");
const RIGHTS: &str = include_str!("../../../charts/pgscale/files/rbac.yaml");
const DEFINITIONS: [&str; 4] = [
    include_str!("../../../charts/pgscale/crds/clusterscalepolicies.pgscale.dev.yaml"),
    include_str!("../../../charts/pgscale/crds/instanceledgers.pgscale.dev.yaml"),
    include_str!("../../../charts/pgscale/crds/scaleoverrides.pgscale.dev.yaml"),
    include_str!("../../../charts/pgscale/crds/scalepolicies.pgscale.dev.yaml"),
];
/// The operators in the conditions of the registration, as `registration.yaml` of the chart
/// replaces them.
const ACCOUNTS: &str = "'system:serviceaccount:OPERATOR-NAMESPACE:OPERATOR-ACCOUNT'";
/// The name of Deployment, Service, account and pods. It is fixed (`values.yaml` of the chart).
pub(crate) const WEBHOOK: &str = "pgscale-webhook";
/// The name of the registration.
pub(crate) const NAME: &str = "pgscale.dev";
/// The group whose members pass unjudged.
pub(crate) const BREAK_GLASS: &str = "pgscale:break-glass";
/// The permission of a break-glass user to act in that group.
pub(crate) const BREAK_GLASS_ROLE: &str = "pgscale-break-glass";
/// The permission of that group to write every cluster.
pub(crate) const BREAK_GLASS_EDIT: &str = "pgscale-break-glass-edit";

/// The objects as the chart installs them into one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Shipped {
    pub(crate) registration: ValidatingWebhookConfiguration,
    pub(crate) fences: Vec<ValidatingAdmissionPolicy>,
    pub(crate) bindings: Vec<ValidatingAdmissionPolicyBinding>,
    pub(crate) cluster_roles: Vec<ClusterRole>,
    pub(crate) roles: Vec<Role>,
    pub(crate) definitions: Vec<CustomResourceDefinition>,
    /// Every object of `files/rbac.yaml`.
    #[cfg(test)]
    pub(crate) rights: Vec<Value>,
}

impl Shipped {
    /// Returns the objects for this namespace and these operators.
    ///
    /// # Errors
    /// A file of the chart is malformed. A test keeps that from happening.
    pub(crate) fn of(namespace: &str, operators: &[Account]) -> Result<Self, String> {
        let users: Vec<String> =
            operators.iter().map(|account| format!("'{}'", account.user())).collect();
        let registration =
            REGISTRATION.replace(ACCOUNTS, &users.join(", ")).replace("NAMESPACE", namespace);
        let rights: Vec<Value> = RIGHTS
            .split("---\n")
            .map(|text| value(&text.replace("NAMESPACE", namespace)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            registration: typed(value(&registration)?)?,
            fences: all(&rights, "ValidatingAdmissionPolicy")?,
            bindings: all(&rights, "ValidatingAdmissionPolicyBinding")?,
            cluster_roles: all(&rights, "ClusterRole")?,
            roles: all(&rights, "Role")?,
            definitions: definitions()?,
            #[cfg(test)]
            rights,
        })
    }

    /// Returns the entries of the registration.
    pub(crate) fn entries(&self) -> &[ValidatingWebhook] {
        self.registration.webhooks.as_deref().unwrap_or_default()
    }

    /// Returns the rules of the webhook's account that hold in the whole cluster.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &PolicyRule> {
        self.cluster_roles
            .iter()
            .filter(|role| {
                role.metadata.name.as_deref().is_some_and(|name| name.starts_with(WEBHOOK))
            })
            .flat_map(|role| role.rules.as_deref().unwrap_or_default())
    }

    /// Returns the rules of the webhook's account in its own namespace.
    pub(crate) fn rules_at_home(&self) -> impl Iterator<Item = &PolicyRule> {
        self.roles
            .iter()
            .filter(|role| {
                role.metadata.name.as_deref().is_some_and(|name| name.starts_with(WEBHOOK))
            })
            .flat_map(|role| role.rules.as_deref().unwrap_or_default())
    }
}

/// Returns the definitions of our resources.
///
/// # Errors
/// A file of the chart is malformed.
pub(crate) fn definitions() -> Result<Vec<CustomResourceDefinition>, String> {
    static READ: LazyLock<Result<Vec<CustomResourceDefinition>, String>> =
        LazyLock::new(|| DEFINITIONS.iter().map(|text| value(text).and_then(typed)).collect());
    READ.clone()
}

fn value(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn typed<K: DeserializeOwned>(value: Value) -> Result<K, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn all<K: DeserializeOwned>(objects: &[Value], kind: &str) -> Result<Vec<K>, String> {
    let of_kind =
        objects.iter().filter(|object| object.get("kind").and_then(Value::as_str) == Some(kind));
    of_kind.map(|object| typed(object.clone())).collect()
}
