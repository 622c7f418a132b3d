//! `ScalePolicy`: what a namespace's owners demand of every change of the count, and how several combine.
//!
//! All policies that match a cluster apply. Each limit keeps the policy it came from and that policy's mode,
//! so that a trial in `Warn` beside an enforced policy neither weakens nor hides it. Fields that combine have
//! no schema default: unset must stay unset.
#![allow(
    unreachable_pub,
    reason = "the schema derive repeats each struct inside a function, where nothing is reachable"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::SignedDuration;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::overrides::Overrides;
use crate::postgresql::Postgresql;

/// What a namespace demands of every scale change of its `postgresql` clusters.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "pgscale.dev",
    version = "v1alpha1",
    kind = "ScalePolicy",
    plural = "scalepolicies",
    shortname = "scalepol",
    category = "pgscale",
    namespaced,
    derive = "PartialEq",
    doc = "Limits on the number of instances of the postgresql clusters in this namespace",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.instances.min"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.instances.max"),
    printcolumn(name = "Zero", type_ = "string", json_path = ".spec.instances.zero"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[expect(clippy::duplicated_attributes, reason = "each column has its own type_")]
#[serde(rename_all = "camelCase")]
pub struct ScalePolicySpec {
    /// What becomes of a violation: Enforce refuses it, Warn tells the writer, Audit only records it.
    /// Enforce when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The clusters it holds for, by their labels; all of the namespace when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<LabelSelector>,
    /// Bounds on the effective number of instances of each cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstanceBounds>,
}

/// Bounds on the effective number of instances.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
        .message("instances.min must not be greater than instances.max")
        .field_path(".min")
)]
pub struct InstanceBounds {
    /// Fewest instances, zero aside.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i32>,
    /// Most instances.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i32>,
    /// Whether a cluster may be scaled to zero, which is a full outage. Deny when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero: Option<Zero>,
}

/// What becomes of a violation.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Mode {
    /// It is only recorded.
    Audit,
    /// The writer is told, the change passes.
    Warn,
    /// The change is refused.
    #[default]
    Enforce,
}

/// Whether zero instances are acceptable.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum Zero {
    /// A cluster may be scaled to zero.
    Allow,
    /// It may not.
    #[default]
    Deny,
}

/// One limit with the policy it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// The limit.
    pub value: T,
    /// The object that sets it, as `kind/name`.
    pub source: String,
    /// What becomes of a violation.
    pub mode: Mode,
}

/// The policies that hold for one cluster, combined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// Floors; all hold.
    pub min: Vec<Limit<i64>>,
    /// Limits; all hold.
    pub max: Vec<Limit<i64>>,
    /// Opinions on zero; it is allowed only where at least one policy allows it and none denies.
    pub zero: Vec<Limit<Zero>>,
    /// The strictest mode of all that match; `Enforce` where no policy matches.
    pub mode: Mode,
    /// Why the policies could not be read: then no bound may be taken as kept.
    pub unreadable: Option<String>,
    /// How old the last logical backup may be; `None` where nobody asks for one.
    pub backup_max_age: Option<Limit<SignedDuration>>,
    /// What somebody allowed in spite of them.
    pub overrides: Overrides,
}

impl Policies {
    /// Combines those of `policies` whose selector matches `cluster`.
    pub fn combine<'a>(
        policies: impl IntoIterator<Item = &'a ScalePolicy>,
        cluster: &Postgresql,
    ) -> Self {
        let mut combined = Self::default();
        let mut strictest = None;
        for policy in policies {
            let selector = policy.spec.cluster_selector.as_ref();
            match selector.map_or(Ok(true), |it| selects(it, &cluster.labels)) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    combined.unreadable = Some(format!("{}: {why}", source(policy)));
                    continue;
                }
            }
            let mode = policy.spec.mode.unwrap_or_default();
            strictest = strictest.max(Some(mode));
            let bounds = policy.spec.instances.clone().unwrap_or_default();
            let source = source(policy);
            let limit =
                |value: i32| Limit { value: i64::from(value), source: source.clone(), mode };
            combined.min.extend(bounds.min.map(limit));
            combined.max.extend(bounds.max.map(limit));
            combined.zero.extend(bounds.zero.map(|value| Limit {
                value,
                source: source.clone(),
                mode,
            }));
        }
        combined.mode = strictest.unwrap_or_default();
        combined
    }

    /// Policies that could not be read, and why.
    pub fn unreadable(why: impl Into<String>) -> Self {
        Self { unreadable: Some(why.into()), ..Self::default() }
    }
}

fn source(policy: &ScalePolicy) -> String {
    format!("scalepolicy/{}", policy.metadata.name.as_deref().unwrap_or(""))
}

/// Label selectors as the API server understands them (`LabelSelectorAsSelector`).
///
/// # Errors
/// An operator that we do not know.
pub(crate) fn selects(
    selector: &LabelSelector,
    labels: &BTreeMap<String, String>,
) -> Result<bool, String> {
    let exact =
        selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let mut all = exact;
    for expression in selector.match_expressions.iter().flatten() {
        let value = labels.get(&expression.key);
        let listed = value.is_some_and(|value| {
            expression.values.iter().flatten().any(|candidate| candidate == value)
        });
        all &= match expression.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => return Err(format!("its selector has the unknown operator {other:?}")),
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(name: &str, spec: serde_json::Value) -> ScalePolicy {
        ScalePolicy::new(name, serde_json::from_value(spec).unwrap())
    }

    fn cluster(labels: &serde_json::Value) -> Postgresql {
        Postgresql::of(&json!({"metadata": {"name": "acid-a", "labels": labels}})).unwrap()
    }

    #[test]
    fn every_matching_limit_is_kept_with_its_mode() {
        let policies = [
            policy("trial", json!({"mode": "Warn", "instances": {"min": 5}})),
            policy("floor", json!({"instances": {"min": 3, "max": 7}})),
            policy(
                "other",
                json!({"clusterSelector": {"matchLabels": {"env": "dev"}},
                "instances": {"zero": "Allow"}}),
            ),
        ];
        let combined = Policies::combine(&policies, &cluster(&json!({"env": "prod"})));
        let min: Vec<_> = combined
            .min
            .iter()
            .map(|limit| (limit.value, limit.source.as_str(), limit.mode))
            .collect();
        assert_eq!(
            min,
            [(5, "scalepolicy/trial", Mode::Warn), (3, "scalepolicy/floor", Mode::Enforce)]
        );
        assert_eq!((combined.zero.len(), combined.mode), (0, Mode::Enforce));
    }

    #[test]
    fn selectors_match_as_the_api_server_does() {
        let labelled = cluster(&json!({"env": "prod"}));
        let bare = cluster(&json!({}));
        for (operator, values, with, without) in [
            ("In", json!(["prod"]), true, false),
            ("NotIn", json!(["prod"]), false, true),
            ("Exists", json!(null), true, false),
            ("DoesNotExist", json!(null), false, true),
        ] {
            let selector: LabelSelector = serde_json::from_value(json!({"matchExpressions": [
                {"key": "env", "operator": operator, "values": values}]}))
            .unwrap();
            assert_eq!(selects(&selector, &labelled.labels), Ok(with), "{operator}");
            assert_eq!(selects(&selector, &bare.labels), Ok(without), "{operator}");
        }
        assert_eq!(selects(&LabelSelector::default(), &bare.labels), Ok(true));
        let odd: LabelSelector = serde_json::from_value(
            json!({"matchExpressions": [{"key": "env", "operator": "Near"}]}),
        )
        .unwrap();
        assert!(selects(&odd, &bare.labels).is_err());
    }

    #[test]
    fn no_policy_means_enforce_without_bounds() {
        let combined = Policies::combine(&[], &cluster(&json!({})));
        assert_eq!(combined, Policies::default());
        assert_eq!(combined.mode, Mode::Enforce);
    }
}
