//! The tables of all rules, looked at from outside: is every rule shown to pass, to find and to be unsure?

use std::collections::BTreeSet;

use crate::policy::Policies;
use crate::rules::testing::{Want, healthy, shown};
use crate::rules::{
    Kind, RULES, bounds, calendar, evaluate, hand_over, leader, mixed, progress, rebuild,
    side_door, survivors,
};
use crate::verdict::Outcome;

/// Every table test.
const TABLES: &[fn()] = &[
    bounds::tests::below_min,
    bounds::tests::above_max,
    bounds::tests::scale_to_zero,
    bounds::tests::operator_limits,
    calendar::tests::step_too_large,
    calendar::tests::change_freeze,
    calendar::tests::outside_window,
    leader::tests::no_leader,
    hand_over::tests::leader_condemned,
    hand_over::tests::leader_cannot_move,
    leader::tests::paused,
    survivors::tests::too_few_healthy_survivors,
    survivors::tests::survivor_unhealthy,
    rebuild::tests::rebuild_in_progress,
    progress::tests::operation_in_progress,
    progress::tests::change_not_applied,
    mixed::tests::mixed_change,
    side_door::tests::statefulset_scaled,
];

/// Rules that need no live fact: the write says it all, and a StatefulSet that cannot be seen is taken for one
/// that would be replaced, or change-not-applied says that it cannot be seen.
const NEVER_UNSURE: &[&str] = &["mixed-change", "statefulset-scaled"];

/// Runs tables once more, with the texts that some of them check.
fn run<'a>(tables: impl Iterator<Item = &'a fn()>) {
    insta::allow_duplicates! {
        for table in tables {
            table();
        }
    }
}

/// What the tables do not show of some rule.
fn gaps(shown: &BTreeSet<(&'static str, Want)>) -> Vec<String> {
    let has = |id, want| shown.contains(&(id, want));
    let mut gaps = Vec::new();
    for rule in RULES {
        if !has(rule.id, Want::Pass) {
            gaps.push(format!("{} is never shown to pass", rule.id));
        }
        if !has(rule.id, Want::Deny) && !has(rule.id, Want::Warn) {
            gaps.push(format!("{} is never shown to find anything", rule.id));
        }
        if !NEVER_UNSURE.contains(&rule.id) && !has(rule.id, Want::Unknown) {
            gaps.push(format!("{} is never shown to be unsure", rule.id));
        }
    }
    gaps
}

#[test]
fn every_rule_is_shown_to_pass_to_find_and_to_be_unsure() {
    let all = shown(|| run(TABLES.iter()));
    assert_eq!(gaps(&all), Vec::<String>::new());
    let dealt_out_both_ways = |id| [Want::Deny, Want::Warn].map(|want| all.contains(&(id, want)));
    // Rules that weigh by circumstances are shown to do both.
    for id in [
        "no-leader",
        "paused",
        "rebuild-in-progress",
        "operation-in-progress",
        "change-not-applied",
        "mixed-change",
        "operator-limits",
        "scale-to-zero",
    ] {
        assert_eq!(dealt_out_both_ways(id), [true, true], "{id}");
    }
}

#[test]
fn a_gap_in_the_tables_is_seen() {
    let others =
        TABLES.iter().filter(|table| !std::ptr::fn_addr_eq(**table, leader::tests::paused as fn()));
    let without_paused = shown(|| run(others));
    assert_eq!(
        gaps(&without_paused),
        [
            "paused is never shown to pass",
            "paused is never shown to find anything",
            "paused is never shown to be unsure"
        ]
    );
}

#[test]
fn a_healthy_cluster_passes_every_rule() {
    for (from, to) in [(5, 2), (5, 1), (3, 5), (1, 3), (3, 3), (2, 1)] {
        let verdict = evaluate(&healthy(from, to), &Policies::default());
        assert!(verdict.findings.is_empty(), "{from} to {to}: {:?}", verdict.findings);
        assert_eq!(verdict.judgements.len(), RULES.len());
        let unsure = verdict
            .judgements
            .iter()
            .any(|judgement| matches!(judgement.outcome, Outcome::Unknown(_)));
        assert!(!unsure);
    }
    let mut created = healthy(3, 3);
    created.change.old = None;
    assert!(evaluate(&created, &Policies::default()).findings.is_empty());
}

#[test]
fn rules_are_named_and_documented() {
    let mut ids = BTreeSet::new();
    for rule in RULES {
        assert!(ids.insert(rule.id), "{} is there twice", rule.id);
        assert!(
            rule.id.split('-').all(|word| {
                !word.is_empty() && word.bytes().all(|letter| letter.is_ascii_lowercase())
            }),
            "{} is not kebab-case",
            rule.id
        );
        assert!(!rule.title.is_empty() && !rule.fires_on.is_empty() && !rule.default.is_empty());
        assert!(rule.page.contains("Way out:"), "the page of {} shows no way out", rule.id);
        if rule.kind == Kind::Live {
            for part in ["Signals:", "Blind spots:", "Upstream:"] {
                assert!(rule.page.contains(part), "the page of {} lacks {part}", rule.id);
            }
        }
        let widest = rule.page.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= 112, "a line of the page of {} has {widest} characters", rule.id);
    }
}
