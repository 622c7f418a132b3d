//! Writes that change labels, and with them the policies that hold.
//!
//! The policies that select the labels before the write hold as well as those that select the
//! labels after it. Otherwise one write could leave a policy and break its limits. Each rule is
//! judged by either set, and the stricter finding stands. So a policy that loosens counts only
//! where both sets are as loose.

use crate::facts::Facts;
use crate::rules::severity;
use crate::verdict::{Finding, RuleResult};

/// Returns the stricter result of each rule: by the policies after the write, or by those before
/// it.
pub(super) fn stricter(
    facts: &Facts,
    after: Vec<(RuleResult, Option<Finding>)>,
    before: Vec<(RuleResult, Option<Finding>)>,
) -> Vec<(RuleResult, Option<Finding>)> {
    let pairs = after.into_iter().zip(before);
    pairs
        .map(|(after, before)| {
            let strongest = severity::stronger(after.1.clone(), before.1.clone());
            if strongest == after.1 {
                return after;
            }
            let (field, value) = ("metadata.labels", "the labels before this write count, too");
            let object = facts.postgresql_source();
            (before.0, strongest.map(|finding| finding.because(object, field, value)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_json::{Value, json};

    use crate::evaluate;
    use crate::facts::{Facts, Seen};
    use crate::policy::{ClusterScalePolicy, Policies, ScalePolicy, Written};
    use crate::postgresql::Postgresql;
    use crate::rules::generated::{facts, opinionated};
    use crate::rules::properties::seeded;
    use crate::rules::testing::{created, healthy};

    type Labels = BTreeMap<String, String>;

    fn policy(name: &str, spec: Value) -> ScalePolicy {
        ScalePolicy::new(name, serde_json::from_value(spec).unwrap())
    }

    fn written(own: Vec<ScalePolicy>) -> Written {
        Written {
            own: Arc::new(own),
            everywhere: Arc::default(),
            undecodable: Vec::new(),
            labels: Seen::Absent,
            unreadable: None,
        }
    }

    fn production() -> Labels {
        Labels::from([("env".to_owned(), "production".to_owned())])
    }

    /// Returns the change in `facts`, of a cluster that has the labels `old` before the write and
    /// `new` after it.
    fn relabelled(mut facts: Facts, old: &Labels, new: &Labels) -> Facts {
        let label = |cluster: &mut Postgresql, labels: &Labels| cluster.labels.clone_from(labels);
        if let Some(cluster) = &mut facts.change.old {
            label(cluster, old);
        }
        label(&mut facts.change.new, new);
        facts
    }

    fn refusing(facts: &Facts, policies: &Written) -> Vec<&'static str> {
        let verdict = evaluate(facts, &policies.of(&facts.change));
        verdict.denials().map(|denial| denial.rule.as_str()).collect()
    }

    #[test]
    fn dropping_the_label_of_a_policy_never_lifts_its_limits_in_the_same_write() {
        let selector = json!({"matchLabels": {"env": "production"}});
        let seven = |more: Value| {
            let mut spec = json!({"clusterSelector": selector, "instances": {"max": 7}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            written(vec![policy("production", spec)])
        };
        let (with, without) = (production(), Labels::new());
        let dropped = relabelled(healthy(5, 9), &with, &without);
        assert_eq!(refusing(&dropped, &seven(json!({}))), ["above-max"]);
        let verdict = evaluate(&dropped, &seven(json!({})).of(&dropped.change));
        insta::assert_snapshot!(verdict.finding("above-max").unwrap(), @"
        above-max: 9 instances asked for, 7 is the maximum
          scalepolicy/production: instances.max: 7
          postgresql/acid-a: metadata.labels: the labels before this write count, too
          Try:
              kubectl pgscale set acid-a 7 -n db
        ");
        // The policy does not hold less for the label that the write adds, or that stays.
        for old in [&without, &with] {
            let facts = relabelled(healthy(5, 9), old, &with);
            assert_eq!(refusing(&facts, &seven(json!({}))), ["above-max"], "{old:?}");
        }
        // A policy that only warns continues to warn.
        let verdict = evaluate(&dropped, &seven(json!({"mode": "Warn"})).of(&dropped.change));
        assert!(verdict.allows() && verdict.finding("above-max").is_some(), "{verdict:?}");
    }

    #[test]
    fn adding_the_label_of_a_looser_policy_never_loosens_the_same_write() {
        let selector = json!({"matchLabels": {"env": "production"}});
        let zero = json!({"clusterSelector": selector, "instances": {"zero": "Allow"}});
        let trial = json!({"clusterSelector": selector, "builtIn": {"mode": "Audit"}});
        let ignoring =
            json!({"clusterSelector": selector, "rules": {"rebuild-in-progress": "Ignore"}});
        let cloning = || healthy(5, 3).cloning(1);
        let of_the_namespace = |spec| written(vec![policy("loose", spec)]);
        let of_the_platform = |spec| {
            let policy = ClusterScalePolicy::new("loose", serde_json::from_value(spec).unwrap());
            Written { everywhere: Arc::new(vec![policy]), ..written(Vec::new()) }
        };
        let rebuild = "rebuild-in-progress";
        for (name, policies, facts, want) in [
            ("zero", of_the_namespace(zero), healthy(3, 0), "scale-to-zero"),
            ("a trial", of_the_platform(trial), cloning(), rebuild),
            ("a rule", of_the_namespace(ignoring), cloning(), rebuild),
        ] {
            let before = relabelled(facts.clone(), &production(), &production());
            assert!(!refusing(&before, &policies).contains(&want), "{name}: it loosens");
            for (old, new) in [(Labels::new(), production()), (production(), Labels::new())] {
                let facts = relabelled(facts.clone(), &old, &new);
                assert!(refusing(&facts, &policies).contains(&want), "{name}: {old:?} -> {new:?}");
            }
        }
    }

    #[test]
    fn a_new_cluster_has_only_the_labels_it_is_created_with() {
        let selector = json!({"matchLabels": {"env": "production"}});
        let spec = json!({"clusterSelector": selector, "instances": {"max": 7}});
        let policies = written(vec![policy("production", spec)]);
        let created = |labels: &Labels| relabelled(created(9), &Labels::new(), labels);
        assert_eq!(refusing(&created(&production()), &policies), ["above-max"]);
        assert_eq!(refusing(&created(&Labels::new()), &policies), [""; 0]);
    }

    #[test]
    fn a_selector_is_met_by_one_set_of_labels_and_never_by_both_together() {
        let selector = json!({"matchLabels": {"env": "production", "tier": "gold"}});
        let spec = json!({"clusterSelector": selector, "instances": {"max": 7}});
        let policies = written(vec![policy("gold", spec)]);
        let gold = Labels::from([("tier".to_owned(), "gold".to_owned())]);
        let facts = relabelled(healthy(5, 9), &production(), &gold);
        assert_eq!(refusing(&facts, &policies), [""; 0]);
        let absent = json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]});
        let spec = json!({"clusterSelector": absent, "instances": {"max": 7}});
        let policies = written(vec![policy("plain", spec)]);
        assert_eq!(refusing(&facts, &policies), ["above-max"]);
    }

    fn labels() -> impl Strategy<Value = Labels> {
        let word =
            |words: &[&str]| select(words.iter().map(ToString::to_string).collect::<Vec<_>>());
        btree_map(word(&["env", "tier"]), word(&["a", "b"]), 0..3)
    }

    fn selector() -> impl Strategy<Value = Value> {
        let operator = select(vec!["In", "NotIn", "Exists", "DoesNotExist", "Like"]);
        let expression = (select(vec!["env", "tier"]), operator, vec(select(vec!["a", "b"]), 1..3))
            .prop_map(|(key, operator, values)| {
                json!({"key": key, "operator": operator, "values": values})
            });
        (option::of(labels()), option::weighted(0.6, vec(expression, 1..3)))
            .prop_map(|(labels, all)| json!({"matchLabels": labels, "matchExpressions": all}))
    }

    fn selective() -> impl Strategy<Value = ScalePolicy> {
        (opinionated(), option::weighted(0.8, selector())).prop_map(|(mut policy, selector)| {
            policy.spec.cluster_selector =
                selector.map(|selector| serde_json::from_value(selector).unwrap());
            policy
        })
    }

    proptest! {
        #![proptest_config(seeded())]

        /// No other change is refused, either.
        #[test]
        fn a_refused_change_is_never_admitted_by_changing_labels_in_the_same_write(
            facts in facts(), policies in vec(selective(), 1..4), old in labels(), new in labels()
        ) {
            let policies = written(policies);
            let admitted = |old: &Labels, new: &Labels| {
                let facts = relabelled(facts.clone(), old, new);
                evaluate(&facts, &policies.of(&facts.change)).allows()
            };
            let under = |labels: &Labels| {
                let combined: Policies = policies.matching(labels);
                evaluate(&relabelled(facts.clone(), labels, labels), &combined).allows()
            };
            let both = if facts.change.old.is_some() { under(&old) && under(&new) } else { under(&new) };
            prop_assert_eq!(admitted(&old, &new), both);
        }
    }
}
