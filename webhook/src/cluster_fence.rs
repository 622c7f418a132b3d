//! The fence around clusters: a policy of the API server that lets the webhook's account write one
//! label of a `postgresql` and nothing else.
//!
//! A budget needs a write that moves the revision of a cluster
//! ([`Fence`](pgscale_guard::ledger::Fence)). RBAC cannot name a part of an object, so the account
//! may patch whole clusters. The policy is a `ValidatingAdmissionPolicy`
//! (admissionregistration.k8s.io/v1, Kubernetes 1.30).

use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pgscale_guard::postgresql::{GROUP, PLURAL};

use crate::admit::FENCE;
use crate::api_policy::{self, by_the_webhook, matching, required};
use crate::fence::same_but;

/// Name of the policy and of its binding.
const NAME: &str = "cluster.pgscale.dev";
/// The metadata that the API server itself writes, and the labels, which have a rule of their own.
const OTHER_METADATA: &str = "['generation', 'labels', 'managedFields', 'resourceVersion']";

/// Returns the policy for `user`, the account of the webhook.
pub(crate) fn policy(user: &str) -> ValidatingAdmissionPolicy {
    let writes = NamedRuleWithOperations {
        api_groups: Some(vec![GROUP.to_owned()]),
        api_versions: Some(vec!["*".to_owned()]),
        operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned(), "DELETE".to_owned()]),
        resources: Some(vec![PLURAL.to_owned(), format!("{PLURAL}/*")]),
        scope: Some("*".to_owned()),
        ..NamedRuleWithOperations::default()
    };
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(matching(writes, LabelSelector::default())),
        match_conditions: Some(vec![by_the_webhook(user)]),
        variables: Some(vec![variable("new", "object"), variable("old", "oldObject")]),
        validations: Some(vec![required(
            only_the_label(),
            format!(
                "pgscale's webhook may write the label {FENCE} of a postgresql and nothing else"
            ),
        )]),
        ..ValidatingAdmissionPolicySpec::default()
    };
    api_policy::policy(NAME, spec)
}

/// Returns the binding that puts the policy in force.
pub(crate) fn binding() -> ValidatingAdmissionPolicyBinding {
    api_policy::binding(NAME, &["Deny"], None)
}

fn variable(name: &str, object: &str) -> Variable {
    Variable { name: name.to_owned(), expression: format!("dyn({object})") }
}

fn only_the_label() -> String {
    let (new, old) = ("variables.new", "variables.old");
    let labels = |object: &str| format!("{object}.metadata.?labels.orValue({{}})");
    let same = [
        same_but(new, old, "['metadata']"),
        same_but(&format!("{new}.metadata"), &format!("{old}.metadata"), OTHER_METADATA),
        same_but(&labels(new), &labels(old), &format!("['{FENCE}']")),
    ];
    let same = same.join(" && ");
    // The other operations have only one of both objects.
    format!("request.operation == 'UPDATE' && request.?subResource.orValue('') == '' && {same}")
}
