//! `ScaleOverride`: one change that an authorised person allows in spite of named rules, for some
//! hours.
//!
//! The override is bound to the identity of one cluster and to one count. A writer of the change
//! (Argo CD, an autoscaler) can therefore use what a person granted, and nothing else. It turns
//! denials into warnings and hides nothing: the finding that would have refused the change is still
//! shown, with the override and its reason.
#![allow(
    unreachable_pub,
    reason = "the schema derive repeats each struct inside a function, where nothing is reachable"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration::exact;
use crate::evidence::Evidence;
use crate::facts::Facts;
use crate::object_ref::{Kind, ObjectRef};
use crate::rule_id::RuleId;
use crate::verdict::{Finding, Severity};

/// The longest time after its creation for which an override may be used.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(4);
/// The tolerance for the clock of the override's writer, which may be ahead of the API server's.
const CLOCK_GRACE: SignedDuration = SignedDuration::from_mins(1);

/// One change of one cluster that named rules do not refuse.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "pgscale.dev",
    version = "v1alpha1",
    kind = "ScaleOverride",
    plural = "scaleoverrides",
    shortname = "scaleovr",
    category = "pgscale",
    namespaced,
    derive = "PartialEq",
    doc = "Permission for one change of a postgresql cluster's number of instances in spite of named rules",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "To", type_ = "integer", json_path = ".spec.to"),
    printcolumn(name = "Rules", type_ = "string", json_path = ".spec.rules"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason")
)]
#[expect(clippy::duplicated_attributes, reason = "each column has its own type_")]
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("an override cannot be changed: delete it and write another")
)]
#[serde(rename_all = "camelCase")]
pub struct ScaleOverrideSpec {
    /// Name of the postgresql cluster, in the namespace of the override.
    #[schemars(length(min = 1, max = 253))]
    pub cluster: String,
    /// Identity of that cluster (metadata.uid): one that is deleted and created again is another
    /// cluster.
    #[schemars(length(min = 1, max = 64))]
    pub cluster_uid: String,
    /// The number of instances it allows, and no other.
    #[schemars(range(min = 0))]
    pub to: i32,
    /// Ids of the rules that warn instead of refuse. outside-floor always refuses.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rules: Vec<String>,
    /// The reason. It is shown wherever the override is used.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
    /// Its end: at most 4 hours after its creation.
    pub expires_at: Time,
}

/// An override that this version cannot decode, such as one that a newer version wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndecodableOverride {
    /// The object.
    source: ObjectRef,
    /// The decoder's message.
    why: String,
    /// The rules it names. `None` where they cannot be decoded either.
    rules: Option<Vec<String>>,
}

/// All overrides of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    /// Every override that names the cluster, whether it applies or not.
    pub granted: Vec<ScaleOverride>,
    /// Overrides that may name the cluster and cannot be decoded. None of them applies.
    pub undecodable: Vec<UndecodableOverride>,
    /// The reason for which they could not be read. Then none applies, and the denial says so.
    pub unreadable: Option<String>,
}

impl Overrides {
    /// Returns the overrides that name `cluster`.
    pub fn of(overrides: Vec<ScaleOverride>, cluster: &str) -> Self {
        let mut granted = overrides;
        granted.retain(|one| one.spec.cluster == cluster);
        Self { granted, ..Self::default() }
    }

    /// Adds the undecodable ones of `objects` that may name `cluster`, each with the decoder's
    /// message.
    #[must_use]
    pub fn and_undecodable(mut self, objects: &[(Value, String)], cluster: &str) -> Self {
        let text = |object: &Value, place: &str| {
            object.pointer(place).and_then(Value::as_str).map(str::to_owned)
        };
        // An override whose cluster cannot be decoded may be for this one.
        let named = objects
            .iter()
            .filter(|(object, _)| text(object, "/spec/cluster").is_none_or(|name| name == cluster));
        self.undecodable.extend(named.map(|(object, why)| {
            let rules = object.pointer("/spec/rules").cloned();
            UndecodableOverride {
                source: named_override(text(object, "/metadata/name").as_deref()),
                why: why.clone(),
                rules: rules.and_then(|rules| serde_json::from_value(rules).ok()),
            }
        }));
        self
    }

    /// Returns no override, and the reason for which they could not be read.
    pub fn unreadable(why: impl Into<String>) -> Self {
        Self { unreadable: Some(why.into()), ..Self::default() }
    }

    /// Returns the finding after the overrides: a warning where one applies. Where one does not
    /// apply, the finding stays a denial and says why.
    #[must_use]
    pub fn weigh(&self, mut finding: Finding, facts: &Facts) -> Finding {
        if finding.severity != Severity::Deny || finding.audit_only {
            return finding;
        }
        if finding.rule == RuleId::OUTSIDE_FLOOR {
            return self.none_lifts(finding);
        }
        let mut idle = Vec::new();
        for one in &self.granted {
            match applies(one, facts) {
                Ok(()) if names(one, finding.rule) => {
                    finding.severity = Severity::Warn;
                    finding.severity_reason = Some(format!(
                        "not refused: {} allows it until {}: {}",
                        source(one),
                        one.spec.expires_at.0,
                        one.spec.reason
                    ));
                    finding.overridden = Some(source(one).to_string());
                    return finding;
                }
                Err(why) if names(one, finding.rule) || unknown(one).is_some() => {
                    idle.push(idle_because(source(one), &why));
                }
                Ok(()) | Err(_) => {}
            }
        }
        for one in &self.undecodable {
            if one
                .rules
                .as_ref()
                .is_none_or(|rules| rules.iter().any(|id| finding.rule == id.as_str()))
            {
                let version = env!("CARGO_PKG_VERSION");
                let why = format!(
                    "pgscale {version} cannot decode it ({}): upgrade pgscale or write another override",
                    one.why
                );
                idle.push(idle_because(one.source.clone(), &why));
            }
        }
        if let Some(why) = &self.unreadable {
            idle.push(Evidence::unreadable(ObjectRef::all(Kind::ScaleOverride), why));
        }
        idle.into_iter().fold(finding, Finding::because_of)
    }

    /// Returns the finding of a rule that no override lifts, with those that name it.
    fn none_lifts(&self, finding: Finding) -> Finding {
        let naming = self.granted.iter().filter(|one| names(one, finding.rule));
        let idle = naming.map(|one| idle_because(source(one), "no override lifts a floor"));
        let idle: Vec<Evidence> = idle.collect();
        idle.into_iter().fold(finding, Finding::because_of)
    }
}

/// Returns that an override lifts nothing, and the reason.
fn idle_because(source: ObjectRef, why: &str) -> Evidence {
    Evidence::new(source, "does not apply", why)
}

fn source(one: &ScaleOverride) -> ObjectRef {
    named_override(one.metadata.name.as_deref())
}

fn named_override(name: Option<&str>) -> ObjectRef {
    ObjectRef::new(Kind::ScaleOverride, name.unwrap_or_default())
}

fn names(one: &ScaleOverride, id: RuleId) -> bool {
    one.spec.rules.iter().any(|named| id == named.as_str())
}

/// Returns a rule that it names and that does not exist. The writer meant something else than the
/// override says.
fn unknown(one: &ScaleOverride) -> Option<&str> {
    one.spec.rules.iter().map(String::as_str).find(|id| RuleId::parse(id).is_none())
}

/// Checks that it allows the change in `facts`.
///
/// # Errors
/// The reason for which it does not.
fn applies(one: &ScaleOverride, facts: &Facts) -> Result<(), String> {
    let spec = &one.spec;
    let Some(cluster) = &facts.change.old else {
        return Err(format!(
            "it is for the cluster with uid {}, and this one is being created",
            spec.cluster_uid
        ));
    };
    if spec.cluster_uid != cluster.uid {
        return Err(format!(
            "it is for the cluster with uid {}, and this one has {}",
            spec.cluster_uid, cluster.uid
        ));
    }
    let to = i64::from(spec.to);
    if facts.requested() != to {
        return Err(format!("it allows {to} instances, and {} are asked for", facts.requested()));
    }
    if facts.to() != to && !names(one, RuleId::OPERATOR_LIMITS) {
        return Err(format!("it allows {to} instances, and the operator would run {}", facts.to()));
    }
    if let Some(id) = unknown(one) {
        return Err(format!(
            "it names {id:?}, which is no rule; all of them: kubectl pgscale rules"
        ));
    }
    let expires = spec.expires_at.0;
    if expires <= facts.now {
        return Err(format!("it ended at {expires}"));
    }
    if one.metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted".to_owned());
    }
    let Some(created) = &one.metadata.creation_timestamp else {
        return Err("it has no time of creation".to_owned());
    };
    if expires.duration_since(created.0) > LONGEST + CLOCK_GRACE {
        return Err(format!(
            "it ends at {expires}, more than {} after its creation",
            exact(LONGEST.unsigned_abs())
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;
    use serde_json::json;

    use super::*;
    use crate::policy::{Limit, Mode, Policies};
    use crate::rules::evaluate;
    use crate::rules::testing::{healthy, lowered};
    use crate::verdict::Verdict;

    /// Returns an override that applies to 3 -> 9 of the cluster in the test facts.
    fn granted(edit: impl FnOnce(&mut Value)) -> ScaleOverride {
        let mut object = json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
            "metadata": {"name": "night", "creationTimestamp": "2026-11-24T09:00:00Z"},
            "spec": {"cluster": "acid-a", "clusterUid": "u1", "to": 9, "rules": ["above-max"],
                "reason": "sale", "expiresAt": "2026-11-24T11:00:00Z"},
        });
        edit(&mut object);
        serde_json::from_value(object).unwrap()
    }

    fn seven(overrides: Overrides) -> Policies {
        let max = Limit { value: 7, source: ObjectRef::policy("a"), mode: Mode::Enforce };
        Policies { max: vec![max], overrides, ..Policies::default() }
    }

    fn verdict(overrides: Vec<ScaleOverride>) -> Verdict {
        evaluate(&healthy(3, 9), &seven(Overrides::of(overrides, "acid-a")))
    }

    #[test]
    fn overridden_denial_becomes_a_warning_with_its_override() {
        let verdict = verdict(vec![granted(|_| {})]);
        assert!(verdict.allows());
        let finding = verdict.finding("above-max").unwrap();
        assert_eq!(finding.overridden.as_deref(), Some("scaleoverride/night"));
        insta::assert_snapshot!(finding, @"
        above-max: 9 instances asked for, 7 is the maximum
          scalepolicy/a: instances.max: 7
          (not refused: scaleoverride/night allows it until 2026-11-24T11:00:00Z: sale)
          Try:
              kubectl pgscale set acid-a 7 -n db
        ");
    }

    #[test]
    fn override_that_does_not_fit_has_no_effect_and_the_denial_says_why() {
        for (place, value, want) in [
            (
                "/spec/clusterUid",
                json!("u0"),
                "it is for the cluster with uid u0, and this one has u1",
            ),
            ("/spec/to", json!(8), "it allows 8 instances, and 9 are asked for"),
            ("/spec/expiresAt", json!("2026-11-24T10:00:00Z"), "it ended at 2026-11-24T10:00:00Z"),
            (
                "/spec/expiresAt",
                json!("2026-11-24T13:01:01Z"),
                "it ends at 2026-11-24T13:01:01Z, more than 4h after its creation",
            ),
            ("/metadata/creationTimestamp", Value::Null, "it has no time of creation"),
            (
                "/metadata",
                json!({"name": "night", "creationTimestamp": "2026-11-24T09:00:00Z",
                    "deletionTimestamp": "2026-11-24T09:30:00Z"}),
                "it is being deleted",
            ),
            (
                "/spec/rules",
                json!(["above-max", "above-maximum"]),
                "it names \"above-maximum\", which is no rule; all of them: kubectl pgscale rules",
            ),
            // It names no existing rule, and the denial still mentions it.
            (
                "/spec/rules",
                json!(["max"]),
                "it names \"max\", which is no rule; all of them: kubectl pgscale rules",
            ),
        ] {
            let one = granted(|object| *object.pointer_mut(place).unwrap() = value);
            let verdict = verdict(vec![one]);
            let denial = verdict.denials().next().expect(want);
            let last = denial.evidence.last().unwrap();
            assert_eq!(last.to_string(), format!("scaleoverride/night: does not apply: {want}"));
            assert_eq!(denial.overridden, None);
        }
        // A skewed clock is tolerated. An override of another rule or cluster is not mentioned.
        let late = |object: &mut Value| object["spec"]["expiresAt"] = json!("2026-11-24T13:00:59Z");
        assert!(verdict(vec![granted(late)]).allows());
        let mut other = granted(|object| object["spec"]["rules"] = json!(["paused"]));
        for _ in 0..2 {
            let verdict = verdict(vec![other.clone()]);
            assert_eq!(verdict.denials().next().unwrap().evidence.len(), 1);
            other = granted(|object| object["spec"]["cluster"] = json!("acid-b"));
        }
    }

    #[test]
    fn override_never_applies_to_create() {
        let mut facts = healthy(9, 9);
        facts.change.old = None;
        let policies = seven(Overrides::of(vec![granted(|_| {})], "acid-a"));
        let verdict = evaluate(&facts, &policies);
        let says = &verdict.denials().next().unwrap().evidence.last().unwrap().value;
        assert!(says.ends_with("and this one is being created"), "{says}");
    }

    #[test]
    fn one_override_of_several_is_enough_and_unnamed_rules_still_refuse() {
        let ended = granted(|object| object["spec"]["expiresAt"] = json!("2026-11-24T09:30:00Z"));
        assert!(verdict(vec![ended, granted(|_| {})]).allows());

        let mut facts = healthy(5, 2).with_leader(4).stalled([0, 1, 2, 3]);
        facts.change.new.instances = Some(2);
        let cannot_move = |object: &mut Value| {
            object["spec"]["to"] = json!(2);
            object["spec"]["rules"] = json!(["leader-cannot-move"]);
        };
        let overrides = Overrides::of(vec![granted(cannot_move)], "acid-a");
        let verdict = evaluate(&facts, &Policies { overrides, ..lowered() });
        let denied: Vec<_> = verdict.denials().map(|finding| finding.rule).collect();
        assert_eq!(denied, ["too-few-healthy-survivors"]);
        assert!(verdict.finding("leader-cannot-move").unwrap().overridden.is_some());

        // A finding that was evidence for an overridden denial becomes a denial of its own.
        let condemned = |object: &mut Value| {
            object["spec"]["to"] = json!(2);
            object["spec"]["rules"] = json!(["leader-condemned"]);
        };
        let overrides = Overrides::of(vec![granted(condemned)], "acid-a");
        let verdict = evaluate(&facts, &Policies { overrides, ..Policies::default() });
        let denied: Vec<_> = verdict.denials().map(|finding| finding.rule).collect();
        assert_eq!(denied, ["leader-cannot-move", "too-few-healthy-survivors"]);
    }

    #[test]
    fn operator_limits_never_turn_an_override_into_another_count() {
        let mut facts = healthy(3, 9);
        if let crate::facts::Seen::Known(operator) = &mut facts.operator {
            operator.settings.max_instances = 8;
        }
        let policies = |rules: Value| {
            let one = granted(|object| object["spec"]["rules"] = rules);
            seven(Overrides::of(vec![one], "acid-a"))
        };
        let verdict = evaluate(&facts, &policies(json!(["above-max"])));
        let says = &verdict.finding("above-max").unwrap().evidence.last().unwrap().value;
        assert_eq!(says, "it allows 9 instances, and the operator would run 8");
        assert!(evaluate(&facts, &policies(json!(["above-max", "operator-limits"]))).allows());
    }

    #[test]
    fn an_override_that_cannot_be_decoded_grants_nothing_and_hides_no_other() {
        let strange = |place: &str, value: Value| {
            let mut object = serde_json::to_value(granted(|_| {})).unwrap();
            object["metadata"]["name"] = json!("strange");
            object["spec"]["to"] = json!("nine");
            *object.pointer_mut(place).unwrap() = value;
            let error = serde_json::from_value::<ScaleOverride>(object.clone()).unwrap_err();
            (object, error.to_string())
        };
        let ours = || strange("/spec/to", json!("nine"));
        let beside = |granted: Vec<ScaleOverride>, strange: (Value, String)| {
            let overrides = Overrides::of(granted, "acid-a").and_undecodable(&[strange], "acid-a");
            evaluate(&healthy(3, 9), &seven(overrides))
        };
        assert!(beside(vec![granted(|_| {})], ours()).allows(), "the other one still grants");
        for (strange, said) in [
            (ours(), true),
            (strange("/spec/cluster", json!(["acid-a"])), true),
            (strange("/spec/rules", json!("all")), true),
            (strange("/spec/cluster", json!("acid-b")), false),
            (strange("/spec/rules", json!(["paused"])), false),
        ] {
            let verdict = beside(Vec::new(), strange.clone());
            let denial = verdict.denials().next().expect("it grants nothing");
            let last = denial.evidence.last().unwrap();
            let named = last.object == ObjectRef::new(Kind::ScaleOverride, "strange")
                && last.field.as_deref() == Some("does not apply")
                && last.value.starts_with("pgscale ")
                && last.value.contains("expected");
            assert_eq!(named, said, "{strange:?}: {denial}");
        }
    }

    #[test]
    fn unread_overrides_are_reported_and_lift_nothing() {
        let policies = seven(Overrides::unreadable("forbidden"));
        let verdict = evaluate(&healthy(3, 9), &policies);
        let last = verdict.denials().next().unwrap().evidence.last().unwrap();
        assert_eq!(last.to_string(), "scaleoverrides: could not be read: forbidden");
    }

    #[test]
    fn the_definition_checks_what_it_can() {
        let definition = serde_json::to_value(ScaleOverride::crd()).unwrap();
        let spec =
            definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
        let of = |place: &str| spec.pointer(place).cloned().unwrap_or_default();
        assert_eq!(of("/properties/rules/minItems"), json!(1));
        assert_eq!(of("/properties/rules/x-kubernetes-list-type"), json!("set"));
        assert_eq!(of("/properties/to/minimum"), json!(0.0));
        assert_eq!(of("/properties/reason/minLength"), json!(1));
        assert_eq!(of("/properties/expiresAt/format"), json!("date-time"));
        assert_eq!(of("/x-kubernetes-validations/0/rule"), json!("self == oldSelf"));
        let required = ["cluster", "clusterUid", "expiresAt", "reason", "rules", "to"];
        assert_eq!(of("/required"), json!(required));
    }
}
