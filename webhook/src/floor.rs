//! The floor: bounds on the instance count that the API server holds itself, whether a webhook
//! answers or not.
//!
//! Two `ValidatingAdmissionPolicy` objects (admissionregistration.k8s.io/v1, Kubernetes 1.30) have
//! the policies of pgscale as their parameters: one for each kind. They refuse growth and creation
//! above `floor.max`, and creation below `floor.min`. A shrink is left to the webhook, whose entry
//! for it fails closed. The rule `outside-floor` of the guard says the same of every write that both
//! see.
//!
//! No expression fails on an object of an odd shape. An operator of a selector that is none of the
//! four selects nothing, as the webhook then warns about growth.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec, Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pgscale_guard::postgresql::{GROUP, PLURAL, VERSION};

use crate::api_policy::{self, matching};
use crate::break_glass::in_break_glass;
use crate::registration::count;

/// A kind of policy whose floors are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ScalePolicy`: those of the namespace of the write.
    Namespace,
    /// `ClusterScalePolicy`: those that select the namespace of the write.
    Platform,
}

impl Kind {
    /// Both kinds.
    pub(crate) const ALL: [Self; 2] = [Self::Namespace, Self::Platform];

    /// Returns the name of the policy of the API server, and of its binding.
    fn name(self) -> &'static str {
        match self {
            Self::Namespace => "floor.pgscale.dev",
            Self::Platform => "cluster-floor.pgscale.dev",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Namespace => "ScalePolicy",
            Self::Platform => "ClusterScalePolicy",
        }
    }

    /// Returns the condition that the parameter selects the namespace of the write, before others.
    fn selects_namespace(self) -> String {
        match self {
            Self::Namespace => String::new(),
            Self::Platform => format!(
                "[namespaceObject.?metadata.?labels.orValue({{}})].exists(l, {}) && ",
                selects("dyn(params).?spec.?namespaceSelector.orValue({})")
            ),
        }
    }
}

/// Returns the policy of the API server that holds the floors of one kind.
pub(crate) fn policy(kind: Kind) -> ValidatingAdmissionPolicy {
    let writes = NamedRuleWithOperations {
        api_groups: Some(vec![GROUP.to_owned()]),
        api_versions: Some(vec![VERSION.to_owned()]),
        operations: Some(["CREATE", "UPDATE"].map(str::to_owned).into()),
        resources: Some(vec![PLURAL.to_owned(), format!("{PLURAL}/scale")]),
        scope: Some("Namespaced".to_owned()),
        ..NamedRuleWithOperations::default()
    };
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_constraints: Some(matching(writes, LabelSelector::default())),
        match_conditions: Some(vec![MatchCondition {
            name: "not-break-glass".to_owned(),
            expression: format!("!({})", in_break_glass()),
        }]),
        param_kind: Some(ParamKind {
            api_version: Some("pgscale.dev/v1alpha1".to_owned()),
            kind: Some(kind.kind().to_owned()),
        }),
        variables: Some(variables(kind)),
        validations: Some(validations(kind)),
        ..ValidatingAdmissionPolicySpec::default()
    };
    api_policy::policy(kind.name(), spec)
}

/// Returns the binding that puts the policy in force for every object of its kind.
pub(crate) fn binding(kind: Kind) -> ValidatingAdmissionPolicyBinding {
    let all = ParamRef {
        selector: Some(LabelSelector::default()),
        // Where there is no policy, there is no floor.
        parameter_not_found_action: Some("Allow".to_owned()),
        ..ParamRef::default()
    };
    api_policy::binding(kind.name(), &["Deny"], Some(all))
}

/// Returns the expression that is true when `selector` selects the labels `l`
/// (`LabelSelectorAsSelector`, apimachinery).
fn selects(selector: &str) -> String {
    format!(
        "{selector}.?matchLabels.orValue({{}}).all(k, k in l && l[k] == {selector}.matchLabels[k]) && \
         {selector}.?matchExpressions.orValue([]).all(e, \
         e.operator == 'In' ? e.key in l && l[e.key] in e.?values.orValue([]) : \
         e.operator == 'NotIn' ? !(e.key in l && l[e.key] in e.?values.orValue([])) : \
         e.operator == 'Exists' ? e.key in l : \
         e.operator == 'DoesNotExist' && !(e.key in l))"
    )
}

/// Returns the variables: the counts, and whether the parameter selects the cluster.
///
/// The labels before a write count as well as those after it, so that no write leaves a policy and
/// breaks its floor at once. A `Scale` has no labels of the cluster: only a policy for all clusters
/// holds for it.
fn variables(kind: Kind) -> Vec<Variable> {
    let scale = "request.?subResource.orValue('') == 'scale'";
    let replicas = |object: &str| format!("{object}.?spec.?replicas.orValue(0)");
    let asked = |object: &str| format!("{scale} ? {} : {}", replicas(object), count(object));
    let selector = "variables.clusters";
    let variables = [
        ("created", "request.operation == 'CREATE'".to_owned()),
        ("after", asked("dyn(object)")),
        ("before", format!("variables.created ? 0 : ({})", asked("dyn(oldObject)"))),
        ("clusters", "dyn(params).?spec.?clusterSelector.orValue({})".to_owned()),
        (
            "labels",
            "(variables.created ? [dyn(object)] : [dyn(object), dyn(oldObject)])\
             .map(o, o.?metadata.?labels.orValue({}))"
                .to_owned(),
        ),
        (
            "selected",
            format!(
                "{}({scale} ? {selector}.?matchLabels.orValue({{}}).size() == 0 && \
                 {selector}.?matchExpressions.orValue([]).size() == 0 : \
                 variables.labels.exists(l, {}))",
                kind.selects_namespace(),
                selects(selector)
            ),
        ),
        ("floor", "dyn(params).?spec.?floor.orValue({})".to_owned()),
    ];
    variables.map(|(name, expression)| Variable { name: name.to_owned(), expression }).into()
}

fn validations(kind: Kind) -> Vec<Validation> {
    let bound = |field: &str, holds: String, words: &str| {
        let limit = format!("string(variables.floor.{field})");
        Validation {
            expression: holds,
            message: Some(format!(
                "outside-floor: more or fewer instances than floor.{field} of a {}",
                kind.kind()
            )),
            message_expression: Some(format!(
                "'outside-floor: ' + string(variables.after) + ' asked for as numberOfInstances, ' + {limit} + \
                 ' is {words} that the API server allows ({kind}/' + params.metadata.name + ': floor.{field}). \
                 No override lifts it. To ask for that: ' + (variables.created ? 'numberOfInstances: ' + {limit} + \
                 ' in the manifest' : 'kubectl pgscale set ' + request.name + ' ' + {limit} + \
                 ' -n ' + request.namespace)",
                kind = kind.kind().to_lowercase(),
            )),
            reason: Some("Forbidden".to_owned()),
        }
    };
    let after = "variables.after";
    vec![
        bound(
            "max",
            format!(
                "!(variables.created || {after} > variables.before) || !variables.selected || \
                 {after} <= variables.floor.?max.orValue({after})"
            ),
            "the most",
        ),
        bound(
            "min",
            format!(
                "!variables.created || !variables.selected || {after} >= variables.floor.?min.orValue({after})"
            ),
            "the fewest",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_fail_closed_and_yield_to_break_glass_alone() {
        for kind in Kind::ALL {
            let spec = policy(kind).spec.unwrap();
            assert_eq!(spec.failure_policy.as_deref(), Some("Fail"));
            assert_eq!(spec.param_kind.unwrap().kind.as_deref(), Some(kind.kind()));
            let conditions = spec.match_conditions.unwrap();
            assert_eq!(conditions.len(), 1);
            assert!(conditions[0].expression.contains("pgscale:break-glass"));
            let bound = binding(kind).spec;
            assert_eq!(bound.policy_name, kind.name());
            assert_eq!(bound.validation_actions, ["Deny"]);
            let all = bound.param_ref.unwrap();
            assert_eq!(all.selector, Some(LabelSelector::default()), "every object is a parameter");
            assert_eq!(all.parameter_not_found_action.as_deref(), Some("Allow"));
        }
    }
}
