use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::object_ref::ObjectRef;
use crate::overrides::{Overrides, ScaleOverride, ScaleOverrideSpec};
use crate::policy::{Limit, Mode, ScalePolicy, ScalePolicySpec, WhenUnknown, Zero};
use crate::rules::evaluate;
use crate::rules::generated::{Hidden, facts, growths, hidden, hide, opinionated, policy, shrinks};
use crate::rules::properties::seeded;
use crate::rules::testing::healthy;
use crate::severity::Severity;

fn limit<T>(value: T) -> Limit<T> {
    Limit { value, source: ObjectRef::policy("production"), mode: Mode::Enforce }
}

/// Returns the early verdict on the change in `facts`, with or without its operator.
fn early(facts: &Facts, policies: &Policies, with_operator: bool) -> Option<Verdict> {
    let operator = facts.operator.known().filter(|_| with_operator);
    refused_unseen(&facts.change, facts.now, policies, operator).map(|(_, verdict)| verdict)
}

fn rules(verdict: Option<Verdict>) -> Vec<&'static str> {
    let verdict = verdict.unwrap_or_default();
    verdict.denials().map(|denial| denial.rule.as_str()).collect()
}

/// Returns whether the whole path refuses: early, or on a look at everything.
fn refuses(facts: &Facts, policies: &Policies) -> bool {
    [false, true].into_iter().any(|operator| early(facts, policies, operator).is_some())
        || !evaluate(facts, policies).allows()
}

/// Returns an override that would let the change in `facts` pass `rules`.
fn granted(facts: &Facts, rules: &[&str]) -> ScaleOverride {
    let mut one = ScaleOverride::new(
        "night",
        ScaleOverrideSpec {
            cluster: facts.change.new.name.clone(),
            cluster_uid: facts.change.old.as_ref().map(|old| old.uid.clone()).unwrap_or_default(),
            to: i32::try_from(facts.requested()).unwrap_or(0),
            rules: rules.iter().map(ToString::to_string).collect(),
            reason: "the sale begins".to_owned(),
            expires_at: Time(facts.now + SignedDuration::from_hours(1)),
        },
    );
    one.metadata.creation_timestamp = Some(Time(facts.now));
    one
}

#[test]
fn bounds_refuse_before_anything_live_is_read() {
    let bounded = |zero| Policies {
        min: vec![limit(3)],
        max: vec![limit(7)],
        zero: vec![limit(zero)],
        ..Policies::default()
    };
    let closed = bounded(Zero::Deny);
    let limited = |from, to| healthy(from, to).with_settings(|it| it.max_instances = 5);
    for (name, facts, unseen, with_operator) in [
        ("above", healthy(3, 9), &["above-max"][..], &["above-max"][..]),
        ("below", healthy(5, 2), &["below-min"], &["below-min"]),
        // Without its operator it is not known whether none would run.
        ("zero", healthy(5, 0), &[], &["scale-to-zero"]),
        ("the operator's limits", limited(3, 6), &[], &["operator-limits"]),
        ("admitted", healthy(3, 5), &[], &[]),
        ("the count stays", healthy(9, 9), &[], &[]),
    ] {
        assert_eq!(rules(early(&facts, &closed, false)), unseen, "{name}");
        assert_eq!(rules(early(&facts, &closed, true)), with_operator, "{name}");
    }
    assert_eq!(rules(early(&healthy(5, 0), &bounded(Zero::Allow), true)), [""; 0]);
    let mut created = healthy(9, 9);
    created.change.old = None;
    assert_eq!(early(&created, &closed, true), None, "its refusal has to say what is left");
    let partly = closed.and_unreadable("forbidden");
    assert_eq!(early(&healthy(3, 9), &partly, true), None, "the unread policy may allow it");
}

#[test]
fn early_refusal_suggests_plans_and_no_change() {
    let policies = Policies { max: vec![limit(7)], ..Policies::default() };
    let verdict = early(&healthy(3, 9), &policies, false).unwrap();
    insta::assert_snapshot!(verdict.finding("above-max").unwrap(), @"
    above-max: 9 instances asked for, 7 is the maximum
      scalepolicy/production: instances.max: 7
      Try:
          kubectl pgscale plan acid-a --to 7 -n db
    ");
}

#[test]
fn rescue_under_a_step_or_a_freeze_is_never_refused_early() {
    // The members that go are broken: a look at them admits what the calendar refuses otherwise.
    let rescue = healthy(5, 3).stalled([3, 4]);
    let spec = serde_json::json!({"steps": {"down": 1}, "freeze": {"reason": "holidays"}});
    let policy = ScalePolicy::new("calendar", serde_json::from_value(spec).unwrap());
    let policies = Policies::combine(&[policy], &rescue.change.new);
    assert!(!evaluate(&healthy(5, 3), &policies).allows(), "it is refused where all are healthy");
    assert!(evaluate(&rescue, &policies).allows(), "the rescue is admitted");
    assert!([false, true].iter().all(|it| early(&rescue, &policies, *it).is_none()));
}

/// Checks that the early look refuses nothing that a look at everything admits, with any operator.
fn refuses_no_more(
    mut facts: Facts,
    policies: &[ScalePolicy],
    limits: Option<(i64, i64)>,
    stale: Option<bool>,
    overridden: &[&str],
) -> Result<(), TestCaseError> {
    if let (Seen::Known(operator), Some((min, max))) = (&mut facts.operator, limits) {
        operator.settings.min_instances = min;
        operator.settings.max_instances = max;
        operator.stale_settings = stale;
    }
    let cluster = &facts.change.new;
    let mut policies = Policies::combine(policies, cluster);
    if !overridden.is_empty() {
        policies.overrides = Overrides::of(vec![granted(&facts, overridden)], &cluster.name);
    }
    for operator in [false, true] {
        let early = early(&facts, &policies, operator);
        prop_assert!(
            early.is_none() || !evaluate(&facts, &policies).allows(),
            "refused early (operator known: {operator}) by {:?}",
            rules(early)
        );
    }
    Ok(())
}

/// Checks that a change that the path refuses stays refused when `what` is hidden, or comes too late.
fn never_admitted_without(
    facts: &Facts,
    what: &[Hidden],
    policies: Vec<ScalePolicy>,
    policies_too: bool,
) -> Result<(), TestCaseError> {
    let deny = Some(Severity::Deny);
    let when_unknown = Some(WhenUnknown { down: deny, up: deny });
    let careful = ScalePolicySpec { when_unknown, ..ScalePolicySpec::default() };
    let careful = ScalePolicy::new("careful", careful);
    let policies = policies.into_iter().chain([careful]);
    let policies = Policies::combine(&policies.collect::<Vec<_>>(), &facts.change.new);
    let mut less = facts.clone();
    for what in what {
        hide(&mut less, what);
    }
    let read =
        if policies_too { policies.clone().and_unreadable("late") } else { policies.clone() };
    prop_assert!(!refuses(facts, &policies) || refuses(&less, &read), "{what:?}");
    Ok(())
}

proptest! {
    #![proptest_config(seeded())]

    /// The policies and overrides are those of the early look. The operator and the live state are any.
    #[test]
    fn early_refusal_refuses_nothing_that_a_look_at_everything_admits(
        facts in facts(),
        policies in vec(opinionated(), 0..4),
        limits in option::of((-1_i64..10, -1_i64..10)),
        stale in select(vec![None, Some(false), Some(true)]),
        overridden in vec(select(vec!["above-max", "below-min", "operator-limits"]), 0..3),
    ) {
        refuses_no_more(facts, &policies, limits, stale, &overridden)?;
    }

    #[test]
    fn early_refusal_refuses_no_shrink_that_a_look_at_everything_admits(
        facts in shrinks(),
        policies in vec(opinionated(), 0..4),
        limits in option::of((-1_i64..10, -1_i64..10)),
        stale in select(vec![None, Some(false), Some(true)]),
        overridden in vec(select(vec!["scale-to-zero", "below-min", "operator-limits"]), 0..3),
    ) {
        refuses_no_more(facts, &policies, limits, stale, &overridden)?;
    }

    #[test]
    fn hiding_or_delaying_a_fact_never_admits_a_shrink_that_the_path_refuses(
        facts in shrinks(), what in vec(hidden(), 1..4), policies in vec(policy(), 0..3),
        policies_too in any::<bool>(),
    ) {
        never_admitted_without(&facts, &what, policies, policies_too)?;
    }

    #[test]
    fn hiding_or_delaying_a_fact_never_admits_growth_that_the_path_refuses(
        facts in growths(), what in vec(hidden(), 1..4), policies in vec(policy(), 0..3),
        policies_too in any::<bool>(),
    ) {
        never_admitted_without(&facts, &what, policies, policies_too)?;
    }
}
