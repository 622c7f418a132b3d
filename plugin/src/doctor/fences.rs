//! The admission policies of the API server around what the webhook may write, and the one that
//! reports break glass.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use serde::Serialize;
use serde_json::Value;

use super::{Case, Finding, Object, weakens};

/// The fence that reports writes by break glass.
const REPORT: &str = "break-glass.pgscale.dev";
/// The end of the names of the two that hold the floors of policies.
const FLOOR: &str = "floor.pgscale.dev";

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let Some(policies) = case.facts.fences.known() else { return Vec::new() };
    let all = &case.shipped.fences;
    all.iter().filter_map(|shipped| fence(case, policies, shipped)).collect()
}

/// Returns what the fence is for.
fn purpose(name: &str) -> &'static str {
    if name == REPORT {
        "writes by break glass are reported to no one"
    } else if name.ends_with(FLOOR) {
        "the floors of policies hold only while a webhook answers"
    } else {
        "a webhook that was taken over can write more than it needs"
    }
}

fn fence(
    case: &Case<'_>,
    policies: &[ValidatingAdmissionPolicy],
    shipped: &ValidatingAdmissionPolicy,
) -> Option<Finding> {
    let name = shipped.metadata.name.as_deref()?;
    let object = || Object::global("validatingadmissionpolicy", name);
    let bound = || Object::global("validatingadmissionpolicybinding", name);
    let purpose = purpose(name);
    let Some(live) = policies.iter().find(|one| one.metadata.name.as_deref() == Some(name)) else {
        return Some(
            weakens("fence-missing", format!("the admission policy {name} is missing: {purpose}"))
                .of(object(), "not there")
                .cured(case.restore()),
        );
    };
    if !within(&shaped(&shipped.spec), &shaped(&live.spec)) {
        return Some(
            weakens(
                "fence-differs",
                format!("the admission policy {name} is not the chart's: {purpose}"),
            )
            .because(object(), "spec", differing(&shaped(&shipped.spec), &shaped(&live.spec)))
            .cured(case.restore()),
        );
    }
    let bindings: Vec<&ValidatingAdmissionPolicyBinding> =
        (case.facts.bindings.known()?.iter()).filter(|one| one.spec.policy_name == name).collect();
    let wanted =
        case.shipped.bindings.iter().find(|one| one.metadata.name.as_deref() == Some(name));
    let wanted = wanted.map(|one| shaped(&one.spec)).unwrap_or_default();
    if bindings.is_empty() {
        return Some(
            weakens(
                "fence-unbound",
                format!(
                    "the admission policy {name} has no binding, so it does nothing: {purpose}"
                ),
            )
            .of(bound(), "not there")
            .cured(case.restore()),
        );
    }
    if !bindings.iter().any(|one| within(&wanted, &shaped(&one.spec))) {
        return Some(
            weakens(
                "fence-binding-differs",
                format!("the binding of the admission policy {name} is not the chart's: {purpose}"),
            )
            .because(
                bound(),
                "spec",
                bindings
                    .first()
                    .map(|one| differing(&wanted, &shaped(&one.spec)))
                    .unwrap_or_default(),
            )
            .cured(case.restore()),
        );
    }
    None
}

fn shaped(spec: &impl Serialize) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

/// Returns whether everything that the chart sets is so. The API server adds defaults beside it.
fn within(shipped: &Value, live: &Value) -> bool {
    match (shipped, live) {
        (Value::Object(shipped), Value::Object(live)) => shipped.iter().all(|(key, value)| {
            let there = live.get(key);
            there.is_some_and(|there| within(value, there)) || (there.is_none() && is_empty(value))
        }),
        (Value::Array(shipped), Value::Array(live)) => {
            shipped.len() == live.len() && shipped.iter().zip(live).all(|(a, b)| within(a, b))
        }
        (shipped, live) => shipped == live,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Returns the fields of the spec that differ.
fn differing(shipped: &Value, live: &Value) -> String {
    let fields = shipped.as_object().into_iter().flatten().filter(|(key, value)| {
        live.get(key).map_or(!is_empty(value), |there| !within(value, there))
    });
    fields.map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
}
