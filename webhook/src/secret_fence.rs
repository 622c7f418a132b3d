//! The fence around Secrets: a policy of the API server that lets the webhook's account make its own
//! Secret and no other.
//!
//! RBAC cannot name an object that is to be created. An account that may make any Secret of its
//! namespace could make itself a token of another account there
//! (`kubernetes.io/service-account-token`), under the name of the Secret that it may read. The
//! policy is a `ValidatingAdmissionPolicy` (admissionregistration.k8s.io/v1, Kubernetes 1.30).

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

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
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(MatchResources {
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([here])),
                ..LabelSelector::default()
            }),
            // As the API server completes it, as in `break_glass`.
            object_selector: Some(LabelSelector::default()),
            resource_rules: Some(vec![creates]),
            ..MatchResources::default()
        }),
        match_conditions: Some(vec![MatchCondition {
            name: "the-webhook-itself".to_owned(),
            expression: format!("request.userInfo.?username.orValue('') == '{user}'"),
        }]),
        validations: Some(vec![Validation {
            expression: format!(
                "object.metadata.?name.orValue('') == '{secret}' \
                 && object.?type.orValue('Opaque') == 'Opaque'"
            ),
            message: Some(format!("pgscale's webhook may make the Secret {secret} and no other")),
            reason: Some("Forbidden".to_owned()),
            ..Validation::default()
        }]),
        ..ValidatingAdmissionPolicySpec::default()
    };
    ValidatingAdmissionPolicy { metadata: named(), spec: Some(spec), ..Default::default() }
}

/// Returns the binding that puts the policy in force.
pub(crate) fn binding() -> ValidatingAdmissionPolicyBinding {
    let spec = ValidatingAdmissionPolicyBindingSpec {
        policy_name: NAME.to_owned(),
        validation_actions: vec!["Deny".to_owned()],
        ..ValidatingAdmissionPolicyBindingSpec::default()
    };
    ValidatingAdmissionPolicyBinding { metadata: named(), spec }
}

fn named() -> ObjectMeta {
    ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() }
}
