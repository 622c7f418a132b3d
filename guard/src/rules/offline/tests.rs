use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::object_ref::ObjectRef;
use crate::policy::{Limit, Mode, ScalePolicy, ScalePolicySpec, Steps};
use crate::postgresql::Postgresql;
use crate::rules::evaluate;
use crate::rules::generated::{facts, opinionated};
use crate::rules::properties::seeded;
use crate::rules::testing::healthy;

fn limit<T>(value: T) -> Limit<T> {
    Limit { value, source: ObjectRef::policy("production"), mode: Mode::Enforce }
}

fn judged(facts: &Facts, policies: &Policies, with_operator: bool) -> Offline {
    let operator = facts.operator.known().filter(|_| with_operator);
    judge_offline(facts.change.clone(), facts.now, policies, operator)
}

fn refusing(offline: &Offline) -> Vec<&'static str> {
    offline.verdict.denials().map(|denial| denial.rule.as_str()).collect()
}

#[test]
fn unread_fact_neither_refuses_nor_allows_offline() {
    let offline = judged(&healthy(5, 2), &Policies::default(), false);
    assert_eq!(refusing(&offline), [""; 0]);
    let unknown: Vec<&str> = offline.not_judged.iter().map(|(id, _)| id.as_str()).collect();
    for rule in ["leader-condemned", "too-few-healthy-survivors", "operator-limits"] {
        assert!(unknown.contains(&rule), "{rule} is named: {unknown:?}");
    }
    assert!(!unknown.contains(&"quota-headroom"), "no member is added: {unknown:?}");
    assert!(!unknown.contains(&"below-min"), "it is judged: {unknown:?}");
}

#[test]
fn bounds_and_steps_refuse_offline_and_only_bounds_are_certain() {
    let policies = Policies {
        min: vec![limit(3)],
        max: vec![limit(7)],
        step_up: vec![limit(1)],
        ..Policies::default()
    };
    for (from, to, refused, certain) in [
        (5, 2, vec!["below-min"], vec!["below-min"]),
        (5, 6, vec![], vec![]),
        (5, 7, vec!["step-too-large"], vec![]),
        (5, 9, vec!["above-max", "step-too-large"], vec!["above-max"]),
        (5, 0, vec!["scale-to-zero"], vec![]),
    ] {
        let offline = judged(&healthy(from, to), &policies, false);
        assert_eq!(refusing(&offline), refused, "{from} -> {to}");
        let found: Vec<&str> = offline.certain.iter().map(|id| id.as_str()).collect();
        assert_eq!(found, certain, "{from} -> {to}");
    }
    let offline = judged(&healthy(5, 0), &policies, true);
    assert_eq!(offline.certain.len(), 1, "the operator's limits are known");
}

#[test]
fn policies_that_cannot_be_read_are_named_and_refuse_nothing_offline() {
    let offline = judged(&healthy(5, 3), &Policies::unreadable("a typo"), true);
    assert_eq!(refusing(&offline), [""; 0]);
    let why = offline.not_judged.iter().find(|(id, _)| *id == "below-min").map(|(_, why)| why);
    assert!(why.is_some_and(|why| why.contains("a typo")), "{why:?}");
}

#[test]
fn write_that_moves_a_cluster_to_another_operator_is_never_certain() {
    let mut facts = healthy(5, 2);
    let key = crate::postgresql::CONTROLLER_ANNOTATION.to_owned();
    facts.change.new.annotations.insert(key, "other".to_owned());
    let policies = Policies { min: vec![limit(3)], ..Policies::default() };
    assert_eq!(judged(&facts, &policies, false).certain, Vec::<RuleId>::new());
}

#[test]
fn edit_that_keeps_the_written_count_refuses_nothing_where_the_limits_are_not_known() {
    let mut facts = healthy(9, 9);
    facts.change.new.annotations.insert("acid/ignore".to_owned(), "true".to_owned());
    let policies = Policies { max: vec![limit(7)], ..Policies::default() };
    let offline = judged(&facts, &policies, false);
    assert_eq!(refusing(&offline), [""; 0]);
    assert!(offline.not_judged.iter().any(|(id, _)| *id == "above-max"), "{offline:?}");
}

#[test]
fn new_cluster_is_judged_by_its_bounds_offline() {
    let new = Postgresql::of(&json!({"metadata": {"namespace": "db", "name": "acid-a"},
        "spec": {"numberOfInstances": 2}}))
    .unwrap();
    let change = Change { old: None, new, dry_run: false, undo: false, user: None };
    let spec = ScalePolicySpec {
        steps: Some(Steps { up: Some(1), down: Some(1) }),
        instances: serde_json::from_value(json!({"min": 3})).unwrap(),
        ..ScalePolicySpec::default()
    };
    let policies = Policies::combine(&[ScalePolicy::new("production", spec)], &change.new);
    let offline = judge_offline(change, healthy(1, 1).now, &policies, None);
    assert_eq!(refusing(&offline), ["below-min"]);
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn certain_refusal_offline_is_one_of_the_whole_verdict(
        facts in facts(), policies in vec(opinionated(), 0..4), with_operator in any::<bool>()
    ) {
        let policies = Policies::combine(&policies, &facts.change.new);
        let offline = judged(&facts, &policies, with_operator);
        let whole = evaluate(&facts, &policies);
        for rule in &offline.certain {
            prop_assert!(
                whole.denials().any(|denial| denial.rule == *rule),
                "{rule} refuses offline, and in the cluster {:?}",
                whole.denials().map(|denial| denial.rule.as_str()).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn every_rule_is_judged_or_named_offline(
        facts in facts(), policies in vec(opinionated(), 0..4)
    ) {
        let policies = Policies::combine(&policies, &facts.change.new);
        let offline = judged(&facts, &policies, true);
        // The direction is the written one where the operator is not known.
        let whole = evaluate(&offline.facts, &policies);
        for result in &whole.results {
            let named = offline.not_judged.iter().any(|(id, _)| *id == result.rule);
            let judged = offline.verdict.results.iter().any(|it| it.rule == result.rule);
            // Without a budget there is nothing to say about it.
            let none = result.rule == RuleId::NAMESPACE_BUDGET && result.outcome == Outcome::Pass;
            let nothing = none || result.outcome == Outcome::NotApplicable;
            prop_assert!(named || judged || nothing, "{} is lost", result.rule);
        }
    }
}
