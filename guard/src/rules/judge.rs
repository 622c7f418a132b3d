//! The judgement of a change: every rule, and what becomes of its finding.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::Facts;
use crate::policy::Policies;
use crate::rule_id::RuleId;
use crate::rules::{Kind, RULES, Reads, Rule, relabelled, severity};
use crate::verdict::{Finding, Outcome, RuleResult, Severity, Standing, Verdict};

/// Judges the change without the search for another count, which judges every candidate itself.
pub(super) fn judge(facts: &Facts, policies: &Policies) -> Verdict {
    judge_by(facts, policies, Reads::ALL)
}

/// Judges the change by the rules whose needs are `available`, without that search.
pub(super) fn judge_by(facts: &Facts, policies: &Policies, available: Reads) -> Verdict {
    judge_if(facts, policies, |rule| available.covers(rule.needs(facts)))
}

/// Judges the change by these rules alone, without that search.
pub(super) fn judge_these(facts: &Facts, policies: &Policies, rules: &[RuleId]) -> Verdict {
    judge_if(facts, policies, |rule| rules.contains(&rule.id))
}

fn judge_if(facts: &Facts, policies: &Policies, judges: impl Fn(&Rule) -> bool) -> Verdict {
    let mut results = results(facts, policies, &judges);
    if let Some(before) = &policies.by_old_labels {
        results = relabelled::stricter(facts, results, self::results(facts, before, &judges));
    }
    let mut verdict = Verdict::default();
    for (result, finding) in results {
        verdict.findings.extend(finding.map(|finding| policies.overrides.weigh(finding, facts)));
        verdict.results.push(result);
    }
    fold(&mut verdict);
    verdict
}

/// Returns the outcome of every rule that `judges`, with the finding that policies leave, if any.
fn results(
    facts: &Facts,
    policies: &Policies,
    judges: impl Fn(&Rule) -> bool,
) -> Vec<(RuleResult, Option<Finding>)> {
    let enforced = policies.enforced_lag().map(|limit| limit.value);
    let lower = |limit: u64| Some(enforced.map_or(limit, |enforced| enforced.min(limit)));
    let on_trial = policies.lags_on_trial();
    let stricter: Vec<_> =
        on_trial.map(|limit| (limit, Assessment::new(facts, lower(limit.value)))).collect();
    let facts = &Assessment::of(facts, policies);
    let mut results = Vec::with_capacity(RULES.len());
    for rule in RULES.iter().filter(|rule| judges(rule)) {
        if rule.kind == Kind::Calendar && facts.change.undo {
            results.push((RuleResult { rule: rule.id, outcome: Outcome::NotApplicable }, None));
            continue;
        }
        let mut outcome = rule.judge(facts, policies);
        if let (Outcome::Found(finding), Some(limit)) = (&mut outcome, policies.enforced_lag())
            && finding.by_policy_lag
        {
            *finding = severity::because_of_lag(finding.clone(), limit);
        }
        let mut finding = severity::weighed(rule, &outcome, facts, policies);
        for (limit, facts) in stricter.iter().filter(|_| rule.kind == Kind::Live) {
            let outcome = rule.judge(facts, policies);
            let tried = severity::on_trial(rule, &outcome, facts, policies, limit);
            finding = severity::stronger(finding, tried);
        }
        results.push((RuleResult { rule: rule.id, outcome }, finding));
    }
    results
}

/// Turns findings that exist only because the leader's pod would be deleted into evidence for
/// `leader-condemned`, while that rule refuses the change. They have one cause and one remedy.
///
/// Those findings stand for themselves where a policy lowers that rule or an override lifts it.
fn fold(verdict: &mut Verdict) {
    let refuses = |it: &Finding| {
        it.rule == RuleId::LEADER_CONDEMNED && it.severity == Severity::Deny && !it.audit_only
    };
    // A finding that could not be judged at all has nothing to fold into.
    let found = verdict
        .results
        .iter()
        .any(|it| it.rule == RuleId::LEADER_CONDEMNED && matches!(it.outcome, Outcome::Found(_)));
    if !found || !verdict.findings.iter().any(refuses) {
        return;
    }
    let (folded, mut findings): (Vec<_>, Vec<_>) =
        std::mem::take(&mut verdict.findings).into_iter().partition(|it| {
            let unjudged = it.rule == RuleId::LEADER_CANNOT_MOVE;
            (it.standing == Standing::LeaderGoes || unjudged)
                && it.rule != RuleId::LEADER_CONDEMNED
                && !it.audit_only
        });
    if let Some(condemned) = findings.iter_mut().find(|it| refuses(it)) {
        for Finding { rule, message, evidence, .. } in &folded {
            if evidence.is_empty() {
                condemned.evidence.push(Evidence::unjudged(*rule, message));
            }
            for fact in evidence {
                if !condemned.evidence.iter().any(|known| known.is_same_fact(fact)) {
                    condemned.evidence.push(fact.clone().found_by(*rule));
                }
            }
        }
    }
    verdict.findings = findings;
    verdict.folded = folded;
}
