//! The tables of all rules, checked from outside: every rule is shown to pass, to find and to be
//! unsure.

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use crate::policy::Policies;
use crate::rule_id::RuleId;
use crate::rules::testing::{Want, created, healthy, shown};
use crate::rules::{Kind, RULES, evaluate};
use crate::verdict::Outcome;

/// The rules that need no fact beside the written object, which says everything. The rule
/// mixed-change treats a StatefulSet that cannot be seen as one that would be replaced, and
/// change-not-applied reports it. The rule operator-limits reports an operator that cannot be read.
const NEVER_UNSURE: &[&str] = &[
    "limits-unknown",
    "mixed-change",
    "no-standby-left",
    "operator-failed",
    "standby-cluster",
    "statefulset-scaled",
];

/// Returns the outcomes of each rule that the tables do not show.
fn gaps(shown: &BTreeSet<(RuleId, Want)>) -> Vec<String> {
    let has = |id, want| shown.contains(&(id, want));
    let mut gaps = Vec::new();
    for rule in RULES {
        if !has(rule.id, Want::Pass) {
            gaps.push(format!("{} is never shown to pass", rule.id));
        }
        if !has(rule.id, Want::Deny) && !has(rule.id, Want::Warn) {
            gaps.push(format!("{} is never shown to find anything", rule.id));
        }
        if !NEVER_UNSURE.iter().any(|id| rule.id == *id) && !has(rule.id, Want::Unknown) {
            gaps.push(format!("{} is never shown to be unsure", rule.id));
        }
    }
    gaps
}

/// Goes through every table, and is the only test that does: the situations of a rule are the
/// function `table` beside it.
#[test]
fn every_table_holds_and_shows_all_outcomes() {
    let mut wrong = Vec::new();
    let all = shown(|| {
        // A table that fails hides no other.
        let failed = RULES.iter().filter(|rule| catch_unwind(rule.table).is_err());
        wrong.extend(failed.map(|rule| rule.id));
    })
    .outcomes;
    assert_eq!(wrong, Vec::<RuleId>::new(), "the reasons are above");
    assert_eq!(gaps(&all), Vec::<String>::new());
    let without_paused = all.iter().copied().filter(|(rule, _)| *rule != "paused").collect();
    assert_eq!(
        gaps(&without_paused),
        [
            "paused is never shown to pass",
            "paused is never shown to find anything",
            "paused is never shown to be unsure"
        ],
        "a gap is seen"
    );
    let dealt_out_both_ways = |id: &str| {
        [Want::Deny, Want::Warn]
            .map(|want| all.iter().any(|(rule, shown)| *rule == *id && *shown == want))
    };
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
        "return-from-zero",
        "sync-standbys-condemned",
        "switchover-pending",
        "major-upgrade",
        "operator-absent",
        "replace-pending",
        "parallel-shrink",
        "will-not-progress",
        "stale-volume",
        "too-few-wal-senders",
        "foreign-volume",
    ] {
        assert_eq!(dealt_out_both_ways(id), [true, true], "{id}");
    }
}

#[test]
fn a_healthy_cluster_passes_every_rule() {
    for (from, to) in [(5, 2), (5, 4), (3, 5), (1, 3), (3, 3), (3, 2)] {
        let verdict = evaluate(&healthy(from, to), &Policies::default());
        assert!(verdict.findings.is_empty(), "{from} to {to}: {:?}", verdict.findings);
        assert_eq!(verdict.results.len(), RULES.len());
        let unsure = verdict
            .results
            .iter()
            .any(|result| matches!(result.outcome, Outcome::Unknown(_) | Outcome::Unsaid { .. }));
        assert!(!unsure);
    }
    // A single remaining member is reported, however healthy it is.
    for from in [5, 2] {
        let verdict = evaluate(&healthy(from, 1), &Policies::default());
        let found: Vec<_> = verdict.findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(found, ["no-standby-left"]);
    }
    assert!(evaluate(&created(3), &Policies::default()).findings.is_empty());
}

#[test]
fn rules_are_named_and_documented() {
    let mut ids = BTreeSet::new();
    for rule in RULES {
        assert!(ids.insert(rule.id), "{} is there twice", rule.id);
        assert!(
            rule.id.as_str().split('-').all(|word| {
                !word.is_empty() && word.bytes().all(|letter| letter.is_ascii_lowercase())
            }),
            "{} is not kebab-case",
            rule.id
        );
        assert!(
            !rule.title.is_empty()
                && !rule.applies.to_string().is_empty()
                && !rule.default.is_empty()
        );
        let way_out = rule.page.split_once("Way out:").map(|(_, way_out)| way_out);
        let way_out = way_out.unwrap_or_else(|| panic!("the page of {} shows no way out", rule.id));
        assert!(way_out.contains("kubectl "), "the way out of {} shows no command", rule.id);
        if matches!(rule.kind, Kind::Advisory | Kind::Live | Kind::Room) {
            for part in ["Signals:", "Blind spots:", "Upstream:"] {
                assert!(rule.page.contains(part), "the page of {} lacks {part}", rule.id);
            }
        }
        assert!(!rule.reads.is_empty(), "nobody knows what {} looks at", rule.id);
        let widest = rule.page.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= 112, "a line of the page of {} has {widest} characters", rule.id);
    }
}
