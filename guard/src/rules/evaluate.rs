//! The verdict of a change: the judgement, and the counts and commands that it suggests.

use crate::facts::Facts;
use crate::patroni::Store;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::judge::{judge, judge_by};
use crate::rules::{RULES, Read, Reads, alternative, endless, inside, let_pass, passing};
use crate::verdict::{Finding, Outcome, Severity, Verdict};

/// Judges one change by every rule.
pub fn evaluate(facts: &Facts, policies: &Policies) -> Verdict {
    let mut verdict = judge(facts, policies);
    alternative::show(&mut verdict, facts, policies);
    past_unreadable(&mut verdict, facts);
    passing::keep(&mut verdict, facts, policies);
    endless::mend(&mut verdict, facts);
    verdict
}

/// Replaces the remedy of each denial for want of a fact, where Patroni keeps its state in etcd, or
/// answers over TLS only.
///
/// Such a fact never becomes readable there: the remedy says how to let one change pass all the
/// same.
fn past_unreadable(verdict: &mut Verdict, facts: &Facts) {
    let set = facts.stateful_set.known().and_then(|set| set.store);
    let store = set.or_else(|| facts.operator.known()?.store());
    let hidden = !facts.any_member_answered()
        && facts.all_members().iter().any(|member| member.rest_port().is_err());
    let note = match store {
        Some(Store::Etcd | Store::Other) => "Patroni keeps its state in etcd, which is not read",
        _ if hidden => "Patroni answers over TLS only, which cannot be verified",
        _ => return,
    };
    let unknown: Vec<RuleId> = verdict
        .results
        .iter()
        .filter(|result| matches!(result.outcome, Outcome::Unknown(_)))
        .map(|result| result.rule)
        .collect();
    let refuses = |it: &Finding| it.severity == Severity::Deny && unknown.contains(&it.rule);
    let refusing = verdict.findings.iter().filter(|it| refuses(it));
    let rules: Vec<&str> = refusing.map(|finding| finding.rule.as_str()).collect();
    let pass = let_pass(facts, &rules, "patronictl list was looked at");
    let remedy = if facts.all_members().is_empty() {
        Remedy::note(format!("{note}. Look at it yourself")).and(pass)
    } else {
        let look = inside(facts, &["patronictl", "list"]);
        Remedy::note(note).or_to("look yourself", look).and(pass)
    };
    for finding in verdict.findings.iter_mut().filter(|it| refuses(it)) {
        finding.remedy = Some(remedy.clone());
    }
}

/// A verdict on a change of which only some facts have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The findings of the rules that could be judged. They suggest no counts, because it is not
    /// known yet whether all rules admit one.
    pub verdict: Verdict,
    /// The rules that need more facts.
    pub not_judged: Vec<RuleId>,
}

/// Judges one change by the rules whose needs are `available`, and by no other part of `facts` and
/// `policies`.
///
/// Each outcome is the one that [`evaluate`] comes to. Its severity may be higher than there: a
/// policy that is not available loosens nothing, and a repair that cannot be seen excuses nothing.
pub fn judge_with(facts: &Facts, policies: &Policies, available: Reads) -> Partial {
    const WHY: &str = "it is not read yet";
    let not_judged = RULES.iter().filter(|rule| !available.covers(rule.needs(facts)));
    let not_judged = not_judged.map(|rule| rule.id).collect();
    let facts = facts.only(available, WHY);
    let unread = Policies { overrides: policies.overrides.clone(), ..Policies::unreadable(WHY) };
    let known = if available.contains(Read::Policies) { policies } else { &unread };
    let mut verdict = judge_by(&facts, known, available);
    passing::suggest_no_count(&mut verdict);
    Partial { verdict, not_judged }
}
