//! The fence around the webhook's own registration: a policy of the API server that lets the
//! webhook's account write there only what the webhook has to write.
//!
//! RBAC cannot name a part of an object, and an account that may change the rules of a registration
//! may have the API server send it every Secret that is written. The policy is a
//! `ValidatingAdmissionPolicy` (admissionregistration.k8s.io/v1, Kubernetes 1.30), which needs no
//! webhook. It compares every field that an object has, whatever its name: a field of a later
//! Kubernetes is fenced as well.
//!
//! The parameter of the policy is the webhook's Namespace, because its uid is known only at run
//! time. An owner with another uid does not exist, and the garbage collector would delete the
//! registration.

use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec, Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api_policy::{self, by_the_webhook, matching, required};
use crate::registration;

/// Name of the policy and of its binding.
const NAME: &str = "registration.pgscale.dev";
/// The metadata that the API server itself writes, and the owners, which have a rule of their own.
const OTHER_METADATA: &str =
    "['generation', 'managedFields', 'ownerReferences', 'resourceVersion']";

/// Returns the policy for `user`, the account of the webhook in `namespace`.
pub(crate) fn policy(namespace: &str, user: &str) -> ValidatingAdmissionPolicy {
    let updates = NamedRuleWithOperations {
        api_groups: Some(vec!["admissionregistration.k8s.io".to_owned()]),
        api_versions: Some(vec!["*".to_owned()]),
        operations: Some(vec!["UPDATE".to_owned()]),
        // Only this one: while the API server cannot read the parameter, it refuses every write
        // that matches here, of any user.
        resource_names: Some(vec![registration::NAME.to_owned()]),
        resources: Some(vec!["validatingwebhookconfigurations".to_owned()]),
        scope: Some("*".to_owned()),
    };
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(matching(updates, LabelSelector::default())),
        match_conditions: Some(vec![by_the_webhook(user)]),
        param_kind: Some(ParamKind {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
        }),
        variables: Some(variables(namespace)),
        validations: Some(validations(namespace)),
        ..ValidatingAdmissionPolicySpec::default()
    };
    api_policy::policy(NAME, spec)
}

/// Returns the binding that puts the policy in force, with `namespace` as its parameter.
pub(crate) fn binding(namespace: &str) -> ValidatingAdmissionPolicyBinding {
    let namespace = ParamRef {
        name: Some(namespace.to_owned()),
        // An account of a Namespace that is gone has no valid token.
        parameter_not_found_action: Some("Allow".to_owned()),
        ..ParamRef::default()
    };
    api_policy::binding(NAME, &["Deny"], Some(namespace))
}

/// Returns the variables: both objects without their types, the owners before and after, and those
/// that are the live Namespace.
fn variables(namespace: &str) -> Vec<Variable> {
    let owners = |object: &str| format!("variables.{object}.metadata.?ownerReferences.orValue([])");
    let own = format!(
        "variables.owners.filter(o, o.apiVersion == 'v1' && o.kind == 'Namespace' && \
         o.name == '{namespace}' && o.uid == params.metadata.uid && o.size() == 4)"
    );
    let variables = [
        ("new", "dyn(object)".to_owned()),
        ("old", "dyn(oldObject)".to_owned()),
        ("owners", owners("new")),
        ("formerOwners", owners("old")),
        ("itsNamespace", own),
    ];
    variables.map(|(name, expression)| Variable { name: name.to_owned(), expression }).into()
}

fn validations(namespace: &str) -> Vec<Validation> {
    let (new, old) = ("variables.new", "variables.old");
    let but = |allowed: &str, new: &str, old: &str| same_but(new, old, allowed);
    let config = |entry: &str| format!("{entry}.clientConfig");
    let service = |entry: &str| format!("{entry}.clientConfig.?service.orValue({{}})");
    // Of a URL, the path may change as well.
    let server = |entry: &str| {
        format!(
            "{entry}.clientConfig.?url.optMap(u, url(u).getScheme() + ' ' + url(u).getHost()).orValue('')"
        )
    };
    let same_entry = [
        but("['clientConfig']", "n", "o"),
        but("['caBundle', 'service', 'url']", &config("n"), &config("o")),
        but("['path']", &service("n"), &service("o")),
        format!("{} == {}", server("n"), server("o")),
    ]
    .join(" && ");
    let entries = |object: &str| format!("{object}.?webhooks.orValue([])");
    // No two entries have the same name.
    let entries = format!(
        "{new}.size() == {old}.size() && {new}.all(n, {old}.exists(o, {same_entry}))",
        new = entries(new),
        old = entries(old)
    );
    let metadata = [
        but("['metadata', 'webhooks']", new, old),
        but(OTHER_METADATA, &format!("{new}.metadata"), &format!("{old}.metadata")),
    ]
    .join(" && ");
    let gone =
        format!("o.kind == 'Namespace' && o.name == '{namespace}' && o.uid != params.metadata.uid");
    let owners = format!(
        "variables.itsNamespace.size() <= 1 \
         && variables.owners.all(o, o in variables.formerOwners || o in variables.itsNamespace) \
         && variables.formerOwners.all(o, o in variables.owners || ({gone}))"
    );
    [
        (entries, "caBundle and the path of the entries, and nothing else in them"),
        (metadata, "no labels, annotations or finalizers"),
        (owners, "no owner but the webhook's own Namespace"),
    ]
    .map(|(expression, allowed)| {
        let message = format!("pgscale's webhook may write to its registration: {allowed}");
        required(expression, message)
    })
    .into()
}

/// Returns the expression that two maps are the same, except for the keys in the list `but`.
pub(crate) fn same_but(new: &str, old: &str, but: &str) -> String {
    format!(
        "{new}.all(k, k in {but} || (k in {old} && {new}[k] == {old}[k])) \
         && {old}.all(k, k in {but} || k in {new})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registration_is_fenced_for_the_webhook_alone() {
        let user = "system:serviceaccount:ns:pgscale-webhook";
        let text = crate::manifests::documents(&[
            serde_json::to_value(policy("ns", user)).unwrap(),
            serde_json::to_value(binding("ns")).unwrap(),
        ]);
        insta::assert_snapshot!(text.unwrap(), @r#"
        apiVersion: admissionregistration.k8s.io/v1
        kind: ValidatingAdmissionPolicy
        metadata:
          name: registration.pgscale.dev
        spec:
          failurePolicy: Fail
          matchConditions:
          - expression: >-
              request.userInfo.?username.orValue('') ==
              'system:serviceaccount:ns:pgscale-webhook'
            name: the-webhook-itself
          matchConstraints:
            matchPolicy: Equivalent
            namespaceSelector: {}
            objectSelector: {}
            resourceRules:
            - apiGroups:
              - admissionregistration.k8s.io
              apiVersions:
              - "*"
              operations:
              - UPDATE
              resourceNames:
              - pgscale.dev
              resources:
              - validatingwebhookconfigurations
              scope: "*"
          paramKind:
            apiVersion: v1
            kind: Namespace
          validations:
          - expression: >-
              variables.new.?webhooks.orValue([]).size() ==
              variables.old.?webhooks.orValue([]).size() && variables.new.?webhooks.orValue([]).all(n,
              variables.old.?webhooks.orValue([]).exists(o, n.all(k, k in ['clientConfig'] || (k in o && n[k] == o[k]))
              && o.all(k, k in ['clientConfig'] || k in n) && n.clientConfig.all(k, k in
              ['caBundle', 'service', 'url'] || (k in o.clientConfig && n.clientConfig[k] ==
              o.clientConfig[k])) && o.clientConfig.all(k, k in ['caBundle', 'service', 'url'] || k in
              n.clientConfig) && n.clientConfig.?service.orValue({}).all(k, k in ['path'] || (k
              in o.clientConfig.?service.orValue({}) && n.clientConfig.?service.orValue({})[k]
              == o.clientConfig.?service.orValue({})[k])) &&
              o.clientConfig.?service.orValue({}).all(k, k in ['path'] || k in n.clientConfig.?service.orValue({})) &&
              n.clientConfig.?url.optMap(u, url(u).getScheme() + ' ' + url(u).getHost()).orValue('') ==
              o.clientConfig.?url.optMap(u, url(u).getScheme() + ' ' +
              url(u).getHost()).orValue('')))
            message: "pgscale's webhook may write to its registration: caBundle and the path of the entries, and nothing else in them"
            reason: Forbidden
          - expression: >-
              variables.new.all(k, k in ['metadata', 'webhooks'] || (k in variables.old &&
              variables.new[k] == variables.old[k])) && variables.old.all(k, k in ['metadata',
              'webhooks'] || k in variables.new) && variables.new.metadata.all(k, k in
              ['generation', 'managedFields', 'ownerReferences', 'resourceVersion'] || (k in
              variables.old.metadata && variables.new.metadata[k] == variables.old.metadata[k])) &&
              variables.old.metadata.all(k, k in ['generation', 'managedFields', 'ownerReferences',
              'resourceVersion'] || k in variables.new.metadata)
            message: "pgscale's webhook may write to its registration: no labels, annotations or finalizers"
            reason: Forbidden
          - expression: >-
              variables.itsNamespace.size() <= 1 && variables.owners.all(o, o in
              variables.formerOwners || o in variables.itsNamespace) && variables.formerOwners.all(o, o in
              variables.owners || (o.kind == 'Namespace' && o.name == 'ns' && o.uid !=
              params.metadata.uid))
            message: "pgscale's webhook may write to its registration: no owner but the webhook's own Namespace"
            reason: Forbidden
          variables:
          - expression: dyn(object)
            name: new
          - expression: dyn(oldObject)
            name: old
          - expression: variables.new.metadata.?ownerReferences.orValue([])
            name: owners
          - expression: variables.old.metadata.?ownerReferences.orValue([])
            name: formerOwners
          - expression: >-
              variables.owners.filter(o, o.apiVersion == 'v1' && o.kind == 'Namespace' &&
              o.name == 'ns' && o.uid == params.metadata.uid && o.size() == 4)
            name: itsNamespace
        ---
        apiVersion: admissionregistration.k8s.io/v1
        kind: ValidatingAdmissionPolicyBinding
        metadata:
          name: registration.pgscale.dev
        spec:
          paramRef:
            name: ns
            parameterNotFoundAction: Allow
          policyName: registration.pgscale.dev
          validationActions:
          - Deny
        "#);
    }
}
