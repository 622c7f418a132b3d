//! Break glass: the group whose writes pass the webhook, and the policy of the API server that
//! reports each of those writes to the writer and to the audit log.
//!
//! The policy refuses nothing, and needs no webhook: it is a `ValidatingAdmissionPolicy`
//! (admissionregistration.k8s.io/v1, Kubernetes 1.30). Its validation never holds, and its binding
//! only warns and audits. The API server ignores an error in it, because nothing of pgscale may
//! stand in the way here.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec, Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pgscale_guard::postgresql::{GROUP, PLURAL, VERSION};

use crate::api_policy::{self, matching};

/// The group whose writes pass unjudged, for when the webhook is down or wrong.
///
/// It has no members. RBAC decides which users may impersonate it (`rbac --break-glass-user`).
pub(crate) const BREAK_GLASS: &str = "pgscale:break-glass";
/// Name of the policy and of its binding.
const NAME: &str = "break-glass.pgscale.dev";

/// Returns the condition that the writer is in the group that passes.
pub(crate) fn in_break_glass() -> String {
    format!("'{BREAK_GLASS}' in request.userInfo.?groups.orValue([])")
}

/// Returns the policy that reports user and counts of each write by the group.
pub(crate) fn policy() -> ValidatingAdmissionPolicy {
    let writes = NamedRuleWithOperations {
        api_groups: Some(vec![GROUP.to_owned()]),
        api_versions: Some(vec![VERSION.to_owned()]),
        operations: Some(["CREATE", "UPDATE", "DELETE"].map(str::to_owned).into()),
        resources: Some(vec![PLURAL.to_owned(), format!("{PLURAL}/scale")]),
        scope: Some("Namespaced".to_owned()),
        ..NamedRuleWithOperations::default()
    };
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Ignore".to_owned()),
        match_constraints: Some(matching(writes, LabelSelector::default())),
        match_conditions: Some(vec![MatchCondition {
            name: "break-glass".to_owned(),
            expression: in_break_glass(),
        }]),
        variables: Some(variables()),
        validations: Some(vec![Validation {
            expression: "false".to_owned(),
            // The API server uses it where the expression below fails, on an object of an odd
            // shape.
            message: Some(format!(
                "break glass: a member of {BREAK_GLASS} wrote a postgresql; pgscale did not judge it"
            )),
            message_expression: Some(message()),
            ..Validation::default()
        }]),
        ..ValidatingAdmissionPolicySpec::default()
    };
    api_policy::policy(NAME, spec)
}

/// Returns the binding that puts the policy in force in all namespaces.
pub(crate) fn binding() -> ValidatingAdmissionPolicyBinding {
    api_policy::binding(NAME, &["Warn", "Audit"], None)
}

/// Returns the variables with the counts before and after the write.
///
/// A `Scale` has them under another name, and the type checker of the API server knows the type of
/// only one of the two kinds.
fn variables() -> Vec<Variable> {
    let count = |object: &str| format!("string(dyn({object}).?spec[?variables.field].orValue(0))");
    let (old, new) = (count("oldObject"), count("object"));
    let variables = [
        (
            "field",
            "request.?subResource.orValue('') == 'scale' ? 'replicas' : 'numberOfInstances'"
                .to_owned(),
        ),
        ("before", format!("request.operation == 'CREATE' ? 'none' : {old}")),
        ("after", format!("request.operation == 'DELETE' ? 'none' : {new}")),
    ];
    variables.map(|(name, expression)| Variable { name: name.to_owned(), expression }).into()
}

/// Returns the expression of the report: user, cluster, operation and counts.
fn message() -> String {
    let user = "request.?userInfo.?username.orValue('?')";
    let cluster = "request.?namespace.orValue('?') + '/' + request.?name.orValue('?')";
    let counts = "variables.field + ' ' + variables.before + ' -> ' + variables.after";
    format!(
        "'break glass: ' + {user} + ' wrote postgresql ' + {cluster} + ' (' + request.operation + '), ' \
         + {counts} + '; pgscale did not judge it'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_by_the_group_is_reported_and_never_refused() {
        let text = crate::manifests::documents(&[
            serde_json::to_value(policy()).unwrap(),
            serde_json::to_value(binding()).unwrap(),
        ]);
        insta::assert_snapshot!(text.unwrap(), @r#"
        apiVersion: admissionregistration.k8s.io/v1
        kind: ValidatingAdmissionPolicy
        metadata:
          name: break-glass.pgscale.dev
        spec:
          failurePolicy: Ignore
          matchConditions:
          - expression: "'pgscale:break-glass' in request.userInfo.?groups.orValue([])"
            name: break-glass
          matchConstraints:
            matchPolicy: Equivalent
            namespaceSelector: {}
            objectSelector: {}
            resourceRules:
            - apiGroups:
              - acid.zalan.do
              apiVersions:
              - v1
              operations:
              - CREATE
              - UPDATE
              - DELETE
              resources:
              - postgresqls
              - postgresqls/scale
              scope: Namespaced
          validations:
          - expression: "false"
            message: "break glass: a member of pgscale:break-glass wrote a postgresql; pgscale did not judge it"
            messageExpression: "'break glass: ' + request.?userInfo.?username.orValue('?') + ' wrote postgresql ' + request.?namespace.orValue('?') + '/' + request.?name.orValue('?') + ' (' + request.operation + '), ' + variables.field + ' ' + variables.before + ' -> ' + variables.after + '; pgscale did not judge it'"
          variables:
          - expression: "request.?subResource.orValue('') == 'scale' ? 'replicas' : 'numberOfInstances'"
            name: field
          - expression: "request.operation == 'CREATE' ? 'none' : string(dyn(oldObject).?spec[?variables.field].orValue(0))"
            name: before
          - expression: "request.operation == 'DELETE' ? 'none' : string(dyn(object).?spec[?variables.field].orValue(0))"
            name: after
        ---
        apiVersion: admissionregistration.k8s.io/v1
        kind: ValidatingAdmissionPolicyBinding
        metadata:
          name: break-glass.pgscale.dev
        spec:
          policyName: break-glass.pgscale.dev
          validationActions:
          - Warn
          - Audit
        "#);
    }
}
