//! The answer to a review: pure, from the decision to the texts for people, machines and the audit
//! log.

use std::collections::BTreeSet;

use kube::core::Status;
use kube::core::admission::AdmissionResponse;
use kube::core::response::{StatusCause, StatusDetails};
use pgscale_guard::postgresql::{GROUP, PLURAL};
use pgscale_guard::verdict::{Grouped, grouped};

use super::decision::{CANNOT_BE_JUDGED, Decision, Fallback, JudgedChange, Outcome};
use super::refusal::refusal;
use super::review::Review;
use super::text::{cut, printable, wrap};

/// The HTTP code of a refusal. Clients send a write again and again after 429 and 503, and 400 says
/// that the request is malformed.
const FORBIDDEN: u16 = 403;
/// The most bytes of one cause, for machines. There is a cause for every rule, however many, and
/// the message says each in full.
const CAUSE_LIMIT: usize = 512;
/// The most characters of one warning, as the API conventions ask. It is kept in columns as well,
/// so that a Korean warning is no wider on a terminal than an English one.
const WARNING_WIDTH: usize = 120;
/// The most characters of all warnings together that the API server passes on
/// (`truncateAtTotalRunes`, apiserver/pkg/endpoints/filters/warning.go).
const WARNINGS_LIMIT: usize = 4096;
/// The most bytes of one audit annotation that the API server takes without complaint.
const AUDIT_LIMIT: usize = 1024;

impl Decision {
    /// Returns the note of the Event about the decision, for a write by `user`.
    pub(crate) fn note(&self, user: &str) -> String {
        match self {
            Self::Judged(judged) if self.outcome() != Outcome::Denied => {
                let JudgedChange { namespace, name, .. } = &**judged;
                let findings = self.findings_of_event();
                let texts: Vec<_> = grouped(findings).iter().map(warning).collect();
                let (span, texts) = (judged.span(), texts.join("; "));
                printable(&format!("{user} scaled {namespace}/{name}, {span}: {texts}"))
            }
            Self::NothingToJudge(_) | Self::Unjudged { .. } | Self::Judged(_) => self.message(),
        }
    }

    /// Returns the message that a refused writer reads; empty where the write passes.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::NothingToJudge(_) | Self::Unjudged { fallback: Fallback::Pass, .. } => {
                String::new()
            }
            Self::Unjudged { why, fallback: Fallback::Refuse } => {
                printable(&format!("pgscale cannot judge this change: {why}"))
            }
            Self::Unjudged { why, fallback: Fallback::RefuseGrowth } => printable(&format!(
                "pgscale cannot judge this change: {why}. This installation refuses growth that \
                 cannot be judged (growFailurePolicy: Fail)"
            )),
            Self::Unjudged { why, fallback: Fallback::RefuseReturn } => printable(&format!(
                "pgscale cannot judge this change: {why}. It starts the cluster from its volumes, \
                 and a count or a store that leaves out the newest one loses rows"
            )),
            Self::Unjudged { why, fallback: Fallback::RefuseUnreserved } => printable(&format!(
                "pgscale cannot judge this change: {why}. The namespace has a budget, and nothing \
                 was reserved in it. Repeat the same change in some seconds"
            )),
            Self::Judged(judged) => refusal(judged),
        }
    }

    /// Returns the answer to `review`.
    pub(crate) fn respond(&self, review: &Review) -> AdmissionResponse {
        let mut response = review.allowed();
        if self.outcome() == Outcome::Denied {
            response.allowed = false;
            response.result = Status::failure(&self.message(), "Forbidden")
                .with_code(FORBIDDEN)
                .with_details(self.details(review));
        }
        let warnings = self.warning_lines();
        response.warnings = (!warnings.is_empty()).then_some(warnings);
        response.audit_annotations = self
            .audit()
            .into_iter()
            .map(|(key, text)| (key.to_owned(), cut(&printable(&text), AUDIT_LIMIT)))
            .collect();
        response
    }

    fn details(&self, review: &Review) -> StatusDetails {
        let field = match review.sub_resource.as_deref() {
            Some("scale") => "spec.replicas",
            _ => "spec.numberOfInstances",
        };
        let cause = |reason: &str, message: &str| StatusCause {
            reason: reason.to_owned(),
            message: cut(&printable(message), CAUSE_LIMIT),
            field: field.to_owned(),
        };
        let (uid, causes) = match self {
            Self::NothingToJudge(_) => (String::new(), Vec::new()),
            Self::Unjudged { why, .. } => (String::new(), vec![cause(CANNOT_BE_JUDGED, why)]),
            Self::Judged(judged) => {
                let causes = judged.verdict.denials();
                let causes =
                    causes.map(|denial| cause(denial.rule.as_str(), &denial.message)).collect();
                (judged.uid.clone(), causes)
            }
        };
        StatusDetails {
            name: review.name.clone(),
            group: GROUP.to_owned(),
            kind: PLURAL.to_owned(),
            uid,
            causes,
            retry_after_seconds: 0,
        }
    }

    /// Returns the warnings to a writer whose change passes, within the limits of the API server.
    fn warning_lines(&self) -> Vec<String> {
        let texts: Vec<String> = match self {
            Self::Unjudged { why, fallback: Fallback::Pass } => vec![format!(
                "{CANNOT_BE_JUDGED}: pgscale let the change pass without a verdict, because it \
                 only adds: {why}"
            )],
            Self::NothingToJudge(_) | Self::Unjudged { .. } | Self::Judged(_) => {
                grouped(self.warnings()).iter().map(warning).collect()
            }
        };
        // Where they do not fit, each is cut, so that the first do not hide the others. A tenth is
        // left for indentation.
        let whole: usize = texts.iter().map(|text| text.chars().count()).sum();
        let most = WARNINGS_LIMIT / 10 * 9;
        let share = if whole <= most { usize::MAX } else { most / texts.len().max(1) };
        let texts = texts.iter().map(|text| cut(&printable(text), share));
        let mut room = WARNINGS_LIMIT;
        let mut warnings = Vec::new();
        for line in texts.flat_map(|text| wrap(&text, WARNING_WIDTH)) {
            let length = line.chars().count();
            let Some(left) = room.checked_sub(length) else { break };
            room = left;
            warnings.push(line);
        }
        warnings
    }

    fn audit(&self) -> Vec<(&'static str, String)> {
        let mut entries = vec![("verdict", self.outcome().as_str().to_owned())];
        let effects = self.effects();
        let rules = effects.iter().map(|(rule, effect)| format!("{rule}={}", effect.as_str()));
        let rules = rules.collect::<Vec<_>>();
        if !rules.is_empty() {
            entries.push(("rules", rules.join(",")));
        }
        if let Self::Judged(judged) = self {
            entries.push(("instances", judged.span()));
            if let Some(leader) = &judged.assumed_leader {
                entries.push(("assumed-leader", leader.clone()));
            }
            if judged.unseen {
                entries.push(("live-state", "not looked at".to_owned()));
            }
            if !judged.policies.is_empty() {
                entries.push(("policy", judged.policies.join(",")));
            }
            let reasons: BTreeSet<_> = (self.overridden().iter())
                .filter_map(|finding| finding.severity_reason.as_deref())
                .collect();
            if !reasons.is_empty() {
                entries.push(("override", reasons.into_iter().collect::<Vec<_>>().join("; ")));
            }
        }
        entries
    }
}

/// Returns findings that say the same on one line: without their evidence, and with the reason why
/// they do not refuse.
fn warning(group: &Grouped<'_>) -> String {
    let reason = group.finding.severity_reason.as_ref();
    let reason = reason.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{}: {}{reason}", group.ids(), group.finding.message)
}

#[cfg(test)]
mod tests;
