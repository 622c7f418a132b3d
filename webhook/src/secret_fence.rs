//! The fence around Secrets: a policy of the API server that lets the webhook's account make its own
//! Secret and no other.
//!
//! RBAC cannot name an object that is to be created. An account that may make any Secret of its
//! namespace could make itself a token of another account there
//! (`kubernetes.io/service-account-token`), under the name of the Secret that it may read. The
//! policy is a `ValidatingAdmissionPolicy` (admissionregistration.k8s.io/v1, Kubernetes 1.30).

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api_policy::{self, by_the_webhook, matching, required};

/// Name of the policy and of its binding.
const NAME: &str = "secret.pgscale.dev";

/// Returns the policy for `user`, the account of the webhook in `namespace`, which may make `secret`.
pub(crate) fn policy(namespace: &str, user: &str, secret: &str) -> ValidatingAdmissionPolicy {
    let creates = NamedRuleWithOperations {
        api_groups: Some(vec![String::new()]),
        api_versions: Some(vec!["v1".to_owned()]),
        operations: Some(vec!["CREATE".to_owned()]),
        resources: Some(vec!["secrets".to_owned()]),
        scope: Some("Namespaced".to_owned()),
        ..NamedRuleWithOperations::default()
    };
    // The account may make Secrets here alone. Nothing is evaluated in other namespaces.
    let here = ("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
    let here =
        LabelSelector { match_labels: Some(BTreeMap::from([here])), ..LabelSelector::default() };
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(matching(creates, here)),
        match_conditions: Some(vec![by_the_webhook(user)]),
        validations: Some(vec![required(
            format!(
                "object.metadata.?name.orValue('') == '{secret}' \
                 && object.?type.orValue('Opaque') == 'Opaque'"
            ),
            format!("pgscale's webhook may make the Secret {secret} and no other"),
        )]),
        ..ValidatingAdmissionPolicySpec::default()
    };
    api_policy::policy(NAME, spec)
}

/// Returns the binding that puts the policy in force.
pub(crate) fn binding() -> ValidatingAdmissionPolicyBinding {
    api_policy::binding(NAME, &["Deny"], None)
}
