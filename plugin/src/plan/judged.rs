//! What every rule says of a plan, those included that found nothing.

use pgscale_guard::Verdict;
use pgscale_guard::rules::RULES;
use pgscale_guard::verdict::{Outcome, Severity};

/// What one rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It found something that is recorded and refuses nothing: its policy only audits.
    Audit,
    /// It refuses the change.
    Deny,
    /// It has nothing to say about this kind of change.
    NotApplicable,
    /// It looked, and all is well.
    Pass,
    /// It warns.
    Warn,
}

/// Every rule in the order of the rules; after them what only a plan can find.
pub(crate) fn every_rule(verdict: &Verdict) -> Vec<(&'static str, Judged)> {
    let by_rule = RULES.iter().map(|rule| {
        let outcome = verdict.judgements.iter().find(|it| it.rule == rule.id).map(|it| &it.outcome);
        let quiet = match outcome {
            Some(Outcome::Pass) => Judged::Pass,
            // One that found something, or could not see, has a finding.
            Some(Outcome::NotApplicable | Outcome::Found(_) | Outcome::Unknown(_)) | None => {
                Judged::NotApplicable
            }
        };
        (rule.id, found(verdict, rule.id).unwrap_or(quiet))
    });
    let besides = verdict.findings.iter().map(|finding| finding.rule);
    let besides = besides.filter(|id| pgscale_guard::rules::rule(id).is_none());
    let besides = besides.filter_map(|id| Some((id, found(verdict, id)?)));
    by_rule.chain(besides).collect()
}

/// The weightiest finding of a rule.
fn found(verdict: &Verdict, rule: &str) -> Option<Judged> {
    let findings = verdict.findings.iter().filter(|finding| finding.rule == rule);
    findings
        .map(|finding| match finding.severity {
            _ if finding.audit_only => (0, Judged::Audit),
            Severity::Warn => (1, Judged::Warn),
            Severity::Deny => (2, Judged::Deny),
        })
        .max_by_key(|(weight, _)| *weight)
        .map(|(_, judged)| judged)
}
