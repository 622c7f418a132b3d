//! Policies that this version cannot decode, such as one with a value that only a newer version
//! knows.
//!
//! They are decoded one by one, so that none of them hides another. Their selectors are decoded on
//! their own: such a policy binds where it selects, and only there. There it counts as a policy
//! that could not be read.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::object_ref::{Kind, ObjectRef};
use crate::remedy::Command;
use crate::seen::Seen;
use crate::selector::{matches, matches_all};

/// A policy that this version cannot decode.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Undecodable {
    /// The object.
    pub source: ObjectRef,
    /// The reason: the fields at fault, and the decoder's messages.
    pub why: String,
    /// The namespaces it selects. It selects all where it names none, or where its selector cannot
    /// be decoded.
    namespaces: Option<LabelSelector>,
    /// The clusters it selects. It selects all where it names none, or where its selector cannot be
    /// decoded.
    clusters: Option<LabelSelector>,
}

impl Undecodable {
    /// Reads the name and the selectors of `object`, a policy of this `kind`.
    pub fn of(kind: Kind, object: &Value, why: String) -> Self {
        let selector = |field: &str| {
            let selector = object.pointer(&format!("/spec/{field}"));
            selector.and_then(|selector| serde_json::from_value(selector.clone()).ok())
        };
        Self {
            source: super::named(kind, object.pointer("/metadata/name").and_then(Value::as_str)),
            why,
            namespaces: selector("namespaceSelector"),
            clusters: selector("clusterSelector"),
        }
    }

    /// Returns whether it selects namespaces by a selector that can be decoded.
    pub(super) fn selects_namespaces(&self) -> bool {
        self.namespaces.is_some()
    }

    /// Returns whether it may hold for a cluster with the labels `cluster` in a namespace with the
    /// labels `namespace`. A selector that cannot be evaluated selects everything.
    pub(super) fn may_select(
        &self,
        namespace: &Seen<BTreeMap<String, String>>,
        cluster: &BTreeMap<String, String>,
    ) -> bool {
        self.may_hold_in(namespace) && matches(self.clusters.as_ref(), cluster).unwrap_or(true)
    }

    /// Returns whether it may hold for clusters of a namespace with these labels.
    pub fn may_hold_in(&self, namespace: &Seen<BTreeMap<String, String>>) -> bool {
        match namespace {
            Seen::Known(labels) => matches(self.namespaces.as_ref(), labels).unwrap_or(true),
            Seen::Absent | Seen::Unreadable(_) => true,
        }
    }

    /// Returns whether it holds for every cluster of the namespaces it selects.
    pub fn holds_for_all(&self) -> bool {
        matches_all(self.clusters.as_ref())
    }

    /// Returns the command that opens it for correction, for a cluster in `namespace`.
    pub fn correction(&self, namespace: &str) -> Command {
        Command::kubectl(["edit", &self.source.argument(), "-n", namespace])
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, why, .. } = self;
        let version = env!("CARGO_PKG_VERSION");
        write!(
            out,
            "{source} cannot be decoded by pgscale {version} ({why}): upgrade pgscale or correct the policy"
        )
    }
}

/// Decodes an object of our own.
///
/// # Errors
/// The decoder's message, where the object is malformed, or holds a value that this version does
/// not know. It names the fields at fault where all fields of the spec are optional, as in policies.
pub fn decode<K: DeserializeOwned>(object: &Value) -> Result<K, String> {
    serde_json::from_value(object.clone()).map_err(|error| {
        let with_spec = |spec: Value| {
            let mut object = object.clone();
            if let Some(place) = object.get_mut("spec") {
                *place = spec;
            }
            serde_json::from_value::<K>(object).err()
        };
        // The decoder names no field. Fields that may be left out can each be tried alone.
        let fields = object.get("spec").and_then(Value::as_object);
        let fields = fields.filter(|_| with_spec(json!({})).is_none()).into_iter().flatten();
        let wrong: Vec<String> = fields
            .filter_map(|(field, value)| {
                with_spec(json!({field: value})).map(|error| format!("spec.{field}: {error}"))
            })
            .collect();
        if wrong.is_empty() { error.to_string() } else { wrong.join("; ") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overrides::ScaleOverride;
    use crate::policy::{ClusterScalePolicy, ScalePolicy};

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn platform(spec: &Value) -> Undecodable {
        let object = json!({"metadata": {"name": "strange"}, "spec": spec});
        Undecodable::of(Kind::ClusterScalePolicy, &object, "?".to_owned())
    }

    #[test]
    fn a_policy_that_cannot_be_decoded_may_hold_only_where_it_selects() {
        let select = |env: &str| json!({"matchLabels": {"env": env}});
        let prod = labels(&[("env", "prod")]);
        let here = Seen::Known(prod.clone());
        let unseen = Seen::Unreadable("forbidden".to_owned());
        for (name, spec, namespace, want) in [
            ("everything", json!({}), &here, true),
            ("null", json!({"namespaceSelector": null}), &here, true),
            ("this namespace", json!({"namespaceSelector": select("prod")}), &here, true),
            ("another namespace", json!({"namespaceSelector": select("dev")}), &here, false),
            ("an unseen namespace", json!({"namespaceSelector": select("dev")}), &unseen, true),
            ("this cluster", json!({"clusterSelector": select("prod")}), &here, true),
            ("another cluster", json!({"clusterSelector": select("dev")}), &unseen, false),
            ("an unreadable selector", json!({"clusterSelector": "all"}), &here, true),
            (
                "an unreadable selector of another namespace",
                json!({"namespaceSelector": select("dev"), "clusterSelector": [1]}),
                &here,
                false,
            ),
            (
                "an operator of tomorrow",
                json!({"clusterSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
                &here,
                true,
            ),
        ] {
            assert_eq!(platform(&spec).may_select(namespace, &prod), want, "{name}");
        }
        assert!(!platform(&json!({"clusterSelector": select("dev")})).holds_for_all());
        assert!(platform(&json!({"clusterSelector": "all"})).holds_for_all());
        let nameless = Undecodable::of(Kind::ScalePolicy, &Value::Null, "?".into());
        assert_eq!(nameless.source.to_string(), "scalepolicy/");
    }

    #[test]
    fn every_field_at_fault_is_named() {
        let object = json!({"metadata": {"name": "strange"}, "spec": {"mode": "Quarantine",
            "instances": {"max": 7}, "windows": {"directions": ["Sideways"], "allow": []}}});
        let want = "spec.mode: unknown variant `Quarantine`, expected one of `Audit`, `Warn`, `Enforce`; \
                    spec.windows: unknown variant `Sideways`, expected `Down` or `Up`";
        assert_eq!(decode::<ScalePolicy>(&object).unwrap_err(), want);
        assert_eq!(decode::<ClusterScalePolicy>(&object).unwrap_err(), want);
        let no_spec = json!({"metadata": {"name": "strange"}});
        assert_eq!(decode::<ScalePolicy>(&no_spec).unwrap_err(), "missing field `spec`");
        assert!(decode::<ScalePolicy>(&json!("text")).is_err());
        let odd = json!({"metadata": {"name": 7}, "spec": {"mode": "Warn"}});
        assert!(decode::<ScalePolicy>(&odd).unwrap_err().starts_with("invalid type: integer `7`"));
        // Required fields cannot be tried alone.
        let granted = json!({"metadata": {"name": "night"}, "spec": {"cluster": "acid-a",
            "clusterUid": "u1", "to": "nine", "rules": [], "reason": "x", "expiresAt": "2026-11-24T11:00:00Z"}});
        assert_eq!(
            decode::<ScaleOverride>(&granted).unwrap_err(),
            "invalid type: string \"nine\", expected i32"
        );
    }
}
