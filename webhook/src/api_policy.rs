//! The common parts of the policies of the API server: `ValidatingAdmissionPolicy`
//! (admissionregistration.k8s.io/v1, Kubernetes 1.30), which needs no webhook.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// Returns the policy with this name.
pub(crate) fn policy(name: &str, spec: ValidatingAdmissionPolicySpec) -> ValidatingAdmissionPolicy {
    ValidatingAdmissionPolicy { metadata: named(name), spec: Some(spec), ..Default::default() }
}

/// Returns the binding that puts the policy of the same name in force.
pub(crate) fn binding(
    name: &str,
    actions: &[&str],
    param_ref: Option<ParamRef>,
) -> ValidatingAdmissionPolicyBinding {
    let spec = ValidatingAdmissionPolicyBindingSpec {
        policy_name: name.to_owned(),
        param_ref,
        validation_actions: actions.iter().map(ToString::to_string).collect(),
        ..ValidatingAdmissionPolicyBindingSpec::default()
    };
    ValidatingAdmissionPolicyBinding { metadata: named(name), spec }
}

/// Returns the constraints that match these writes in the selected namespaces.
///
/// Both selectors are spelled as the API server completes them. Server-side apply owns this part as
/// a whole, so a field that is left out would be a conflict for the next program that applies the
/// same.
pub(crate) fn matching(
    writes: NamedRuleWithOperations,
    namespaces: LabelSelector,
) -> MatchResources {
    MatchResources {
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(namespaces),
        object_selector: Some(LabelSelector::default()),
        resource_rules: Some(vec![writes]),
        ..MatchResources::default()
    }
}

/// Returns the condition that the writer is `user`, the account of the webhook.
pub(crate) fn by_the_webhook(user: &str) -> MatchCondition {
    MatchCondition {
        name: "the-webhook-itself".to_owned(),
        expression: format!("request.userInfo.?username.orValue('') == '{user}'"),
    }
}

/// Returns the validation that forbids a write for which `expression` does not hold.
pub(crate) fn required(expression: String, message: String) -> Validation {
    Validation {
        expression,
        message: Some(message),
        reason: Some("Forbidden".to_owned()),
        ..Validation::default()
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}
