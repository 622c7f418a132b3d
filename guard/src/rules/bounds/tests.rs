//! Tables of the bounds, and their neighbours.

use super::*;
use crate::facts::Facts;
use crate::rules::testing::{Want, created, healthy, table, table_with, text};

fn policies(min: Option<i64>, max: Option<i64>, zero: Option<Zero>, mode: Mode) -> Policies {
    let source = || ObjectRef::policy("production");
    Policies {
        min: min.map(|value| Limit { value, source: source(), mode }).into_iter().collect(),
        max: max.map(|value| Limit { value, source: source(), mode }).into_iter().collect(),
        zero: zero.map(|value| Limit { value, source: source(), mode }).into_iter().collect(),
        mode,
        ..Policies::default()
    }
}

/// Returns a change under an operator with these limits.
fn limited(from: i64, to: i64, (min, max): (i64, i64)) -> Facts {
    healthy(from, to).with_settings(|settings| {
        settings.min_instances = min;
        settings.max_instances = max;
    })
}

fn new_limited(to: i64, limits: (i64, i64)) -> Facts {
    let mut facts = limited(to, to, limits);
    facts.change.old = None;
    facts
}

pub(super) fn below_min() {
    let three = policies(Some(3), None, None, Mode::Enforce);
    table_with(
        "below-min",
        &three,
        vec![
            ("at the minimum", healthy(5, 3), Want::Pass),
            ("under it", healthy(5, 2), Want::Deny),
            ("created under it", created(2), Want::Deny),
            ("towards it", healthy(1, 2), Want::Pass),
            ("further away", healthy(2, 1), Want::Deny),
            ("zero has its own rule", healthy(3, 0), Want::NotApplicable),
            ("the count stays", healthy(2, 2), Want::NotApplicable),
            ("the operator would run more", limited(5, 2, (3, -1)), Want::Deny),
            ("the operator runs none", limited(5, 2, (-1, 0)), Want::Deny),
            ("the operator runs as many as before", limited(9, 2, (4, 4)), Want::Deny),
            ("at the minimum, and the operator runs as before", limited(9, 3, (4, 4)), Want::Pass),
            ("towards it, and the operator runs fewer", limited(1, 4, (-1, 2)), Want::Pass),
            (
                "created under it, and the operator would run more",
                new_limited(2, (3, -1)),
                Want::Deny,
            ),
        ],
    );
    table("below-min", vec![("the built-in floor", healthy(3, -1), Want::Deny)]);
    table_with(
        "below-min",
        &Policies::unreadable("forbidden"),
        vec![("policies unreadable", healthy(5, 3), Want::Unknown)],
    );
}

#[test]
fn an_enforced_floor_is_not_hidden_by_a_higher_one_on_trial() {
    let mut both = policies(Some(3), None, None, Mode::Enforce);
    both.min.push(Limit { value: 5, source: ObjectRef::policy("trial"), mode: Mode::Warn });
    table_with(
        "below-min",
        &both,
        vec![("under both", healthy(5, 2), Want::Deny), ("under one", healthy(5, 4), Want::Deny)],
    );
    let verdict = |to| crate::evaluate(&healthy(5, to), &both);
    assert!(!verdict(2).allows(), "the enforced floor refuses");
    assert!(verdict(4).allows(), "the floor on trial only warns");
    assert_eq!(verdict(4).warnings().count(), 1);
}

pub(super) fn above_max() {
    table_with(
        "above-max",
        &policies(None, Some(5), None, Mode::Enforce),
        vec![
            ("at the maximum", healthy(3, 5), Want::Pass),
            ("above it", healthy(3, 6), Want::Deny),
            ("created above it", created(6), Want::Deny),
            ("towards it", healthy(8, 7), Want::Pass),
            ("the count stays", healthy(8, 8), Want::NotApplicable),
            ("the operator would run fewer", limited(3, 9, (-1, 4)), Want::Deny),
            ("the operator runs as many as before", limited(5, 9, (-1, 4)), Want::Deny),
            ("the operator runs more anyway", limited(3, 9, (9, -1)), Want::Deny),
            (
                "towards it, and the operator runs as before",
                limited(9, 8, (-1, 4)),
                Want::NotApplicable,
            ),
            (
                "created above it, and the operator would run fewer",
                new_limited(9, (-1, 4)),
                Want::Deny,
            ),
        ],
    );
    table_with(
        "above-max",
        &Policies::unreadable("forbidden"),
        vec![("policies unreadable", healthy(3, 5), Want::Unknown)],
    );
}

pub(super) fn scale_to_zero() {
    table(
        "scale-to-zero",
        vec![
            ("no policy", healthy(3, 0), Want::Deny),
            ("created empty", created(0), Want::Warn),
            ("one stays", healthy(3, 1), Want::NotApplicable),
            ("already at zero", healthy(0, 0), Want::NotApplicable),
        ],
    );
    let allow = policies(None, None, Some(Zero::Allow), Mode::Enforce);
    table_with("scale-to-zero", &allow, vec![("allowed", healthy(3, 0), Want::Pass)]);
    let mut both = allow;
    both.zero.extend(policies(None, None, Some(Zero::Deny), Mode::Enforce).zero);
    table_with("scale-to-zero", &both, vec![("one policy denies", healthy(3, 0), Want::Deny)]);
    let mut trial = policies(None, None, Some(Zero::Deny), Mode::Warn);
    assert!(crate::evaluate(&healthy(3, 0), &trial).allows(), "the only policy is on trial");
    trial.mode = Mode::Enforce;
    assert!(!crate::evaluate(&healthy(3, 0), &trial).allows(), "an enforced one does not allow it");
    table_with(
        "scale-to-zero",
        &Policies::unreadable("forbidden"),
        vec![("policies unreadable", healthy(3, 0), Want::Unknown)],
    );
}

#[test]
fn remedy_for_zero_is_never_below_the_minimum() {
    let remedy = |policies: &Policies| {
        let verdict = crate::evaluate(&healthy(5, 0), policies);
        let finding = verdict.denials().find(|finding| finding.rule == "scale-to-zero");
        finding.unwrap().remedy.clone().unwrap().to_string()
    };
    let silent = policies(Some(3), None, None, Mode::Enforce);
    assert_eq!(
        remedy(&silent),
        "allow zero in a ScalePolicy, or keep the fewest that are allowed:\n  kubectl pgscale set acid-a 3 -n db"
    );
    let denying = policies(Some(3), None, Some(Zero::Deny), Mode::Enforce);
    assert_eq!(remedy(&denying), "  kubectl pgscale set acid-a 3 -n db");
    assert_eq!(
        remedy(&Policies::default()),
        "allow zero in a ScalePolicy, or keep the fewest that are allowed:\n  kubectl pgscale set acid-a 1 -n db"
    );
}

pub(super) fn operator_limits() {
    let limited = |from, to| {
        healthy(from, to).with_settings(|settings| {
            settings.min_instances = 2;
            settings.max_instances = 5;
        })
    };
    let mut stale = limited(3, 9);
    if let Seen::Known(operator) = &mut stale.operator {
        operator.stale_settings = Some(true);
    }
    let mut absent = healthy(3, 9);
    absent.operator = Seen::Absent;
    let mut hidden = healthy(3, 9);
    hidden.operator = Seen::Unreadable("deployments are forbidden".into());
    let handed_over = |before| {
        let mut facts = limited(3, 4);
        facts.operator_before = Some(Box::new(before));
        facts
    };
    let forgotten = handed_over(Seen::Unreadable("deployments are forbidden".into()));
    let unowned = handed_over(Seen::Absent);
    table(
        "operator-limits",
        vec![
            ("no operator owned it before", unowned.clone(), Want::Pass),
            (
                "no operator owned it before, and what runs is not known",
                unowned.without_sight_of_the_set(),
                Want::Unknown,
            ),
            ("the limits of who owned it before are unreadable", forgotten, Want::Unknown),
            ("inside", limited(3, 5), Want::Pass),
            ("above", limited(3, 9), Want::Deny),
            ("below", limited(3, 1), Want::Deny),
            ("further above, effective count unchanged", limited(6, 9), Want::Deny),
            ("closer, effective count unchanged", limited(9, 6), Want::Warn),
            ("nothing changes", limited(9, 9), Want::NotApplicable),
            ("settings newer than the operator", stale, Want::Warn),
            ("no operator", absent, Want::NotApplicable),
            ("settings unreadable", hidden, Want::Unknown),
        ],
    );
    insta::assert_snapshot!(text("operator-limits", &limited(3, 9)), @"
    operator-limits: 9 instances asked for, the operator would run 5
      configmap default/postgres-operator: min_instances: 2; max_instances: 5
      Try:
          kubectl pgscale set acid-a 5 -n db
    ");
}
