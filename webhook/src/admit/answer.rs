//! The answer to a review: pure, from what was judged to what people, machines and the audit log read.
//!
//! People read one line of kubectl's: `Error from server (Forbidden): admission webhook "shrink.pgscale.dev"
//! denied the request: `, then our message, newlines kept. Argo CD and Flux fold it into one line. So
//! each reason starts with its rule's id, and none depends on the layout to be understood.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kube::core::Status;
use kube::core::admission::AdmissionResponse;
use kube::core::response::{StatusCause, StatusDetails};
use pgscale_guard::policy::Policies;
use pgscale_guard::postgresql::{GROUP, PLURAL};
use pgscale_guard::rules::past_the_operator;
use pgscale_guard::verdict::{Finding, Severity};
use pgscale_guard::{Change, Facts, Verdict};

use super::request::{Review, Scaled};
use super::text::{cut, printable, wrap};
use crate::events::Happened;
use crate::metrics::{Effect, Outcome};

/// Stands in for a rule's id where no rule could be asked.
pub(crate) const CANNOT_BE_JUDGED: &str = "cannot-be-judged";
/// 429 and 503 would be sent again and again by clients; 400 says the request is malformed.
const FORBIDDEN: u16 = 403;
/// A message people still read; far below what the API server or kubectl could carry.
const MESSAGE_LIMIT: usize = 8 * 1024;
/// One reason's share of it.
const REASON_LIMIT: usize = 2 * 1024;
/// One cause, for machines: there is one for every rule, however many, and the message says it in full.
const CAUSE_LIMIT: usize = 512;
/// What the API conventions ask of one warning, in characters.
const WARNING_WIDTH: usize = 120;
/// What the API server passes on of all warnings together, in characters
/// (`truncateAtTotalRunes`, apiserver/pkg/endpoints/filters/warning.go).
const WARNINGS_LIMIT: usize = 4096;
/// What the API server takes of one audit annotation without complaint.
const AUDIT_LIMIT: usize = 1024;

/// A review and what became of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Judged {
    /// There was nothing to judge; the text says why.
    Nothing(&'static str),
    /// No verdict could be reached.
    Unjudged {
        /// Why, for people.
        why: String,
        /// The write may pass with a warning: it certainly takes nothing away.
        grows: bool,
    },
    /// The guard's verdict.
    Verdict(Box<Judgement>),
}

/// A verdict with what it was reached on.
#[derive(Debug, PartialEq)]
pub(crate) struct Judgement {
    namespace: String,
    name: String,
    uid: String,
    /// The effective counts before and after.
    from: Option<i64>,
    to: i64,
    /// The count as written.
    asked: i64,
    /// The policies that were heard.
    policies: Vec<String>,
    /// It is the StatefulSet that is scaled, and not the cluster.
    past_the_operator: bool,
    verdict: Verdict,
}

impl Judgement {
    /// Puts together what the guard was given and what it said.
    pub(crate) fn new(facts: &Facts, policies: &Policies, verdict: Verdict) -> Self {
        let cluster = &facts.change.new;
        Self {
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            uid: identity(&facts.change),
            from: facts.from(),
            to: facts.to(),
            asked: facts.asked(),
            policies: policies.matched.iter().map(|(name, _)| name.clone()).collect(),
            past_the_operator: false,
            verdict,
        }
    }

    /// What is found of a write that goes past the operator.
    pub(crate) fn past_the_operator(scaled: &Scaled) -> Self {
        let Scaled { namespace, name, from, to, .. } = scaled;
        let finding = past_the_operator(namespace, name, *from, *to);
        Self {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: String::new(),
            from: Some(*from),
            to: *to,
            asked: *to,
            policies: Vec::new(),
            past_the_operator: true,
            verdict: Verdict { findings: vec![finding], judgements: Vec::new() },
        }
    }

    /// `3 -> 5`, or `new -> 5`.
    pub(crate) fn span(&self) -> String {
        let from = self.from.map_or_else(|| "new".to_owned(), |from| from.to_string());
        format!("{from} -> {}", self.to)
    }

    fn heading(&self) -> String {
        let cluster = format!("{}/{}", self.namespace, self.name);
        let asked = if self.asked == self.to {
            self.to.to_string()
        } else {
            format!("{} (asked for: {})", self.to, self.asked)
        };
        match self.from {
            None => format!("pgscale refuses to create {cluster} with {asked} instances"),
            Some(from) => {
                format!("pgscale refuses to scale {cluster} from {from} to {asked} instances")
            }
        }
    }
}

/// Identity of a cluster that exists; one that is being created has none to attach anything to yet.
fn identity(change: &Change) -> String {
    change.old.as_ref().map(|old| old.uid.clone()).unwrap_or_default()
}

impl Judged {
    /// How it ends, for counting.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Unjudged { grows: true, .. } => Outcome::warned,
            Self::Unjudged { grows: false, .. } => Outcome::denied,
            Self::Verdict(judgement) if !judgement.verdict.allows() => Outcome::denied,
            Self::Verdict(judgement) if judgement.verdict.warnings().next().is_some() => {
                Outcome::warned
            }
            Self::Nothing(_) | Self::Verdict(_) => Outcome::allowed,
        }
    }

    /// What was found, rule by rule.
    pub(crate) fn effects(&self) -> Vec<(&'static str, Effect)> {
        match self {
            Self::Nothing(_) => Vec::new(),
            Self::Unjudged { grows, .. } => {
                vec![(CANNOT_BE_JUDGED, if *grows { Effect::warn } else { Effect::deny })]
            }
            Self::Verdict(judgement) => judgement
                .verdict
                .findings
                .iter()
                .map(|finding| (finding.rule, effect(finding)))
                .collect(),
        }
    }

    /// What would have refused it, were the policy behind it not on trial: rule by rule, with the policy's mode.
    pub(crate) fn on_trial(&self) -> Vec<(&'static str, &'static str)> {
        let Self::Verdict(judgement) = self else { return Vec::new() };
        let findings = judgement.verdict.findings.iter().filter(|finding| finding.on_trial);
        findings
            .map(|finding| (finding.rule, if finding.audit_only { "Audit" } else { "Warn" }))
            .collect()
    }

    /// The rules that refuse it.
    pub(crate) fn refusing(&self) -> Vec<&'static str> {
        let denying = |(rule, effect)| (effect == Effect::deny).then_some(rule);
        self.effects().into_iter().filter_map(denying).collect()
    }

    /// The findings that would refuse it but for an override; none where it is refused anyway.
    fn overridden(&self) -> Vec<&Finding> {
        let Self::Verdict(judgement) = self else { return Vec::new() };
        if !judgement.verdict.allows() {
            return Vec::new();
        }
        let findings = judgement.verdict.findings.iter();
        findings.filter(|finding| finding.overridden.is_some()).collect()
    }

    /// What is worth an Event, with the rules behind it and the whole story.
    pub(crate) fn story(&self, user: &str) -> Option<(Happened, Vec<&'static str>, String)> {
        if self.outcome() == Outcome::denied {
            return Some((Happened::Denied, self.refusing(), self.message()));
        }
        let Self::Verdict(judgement) = self else { return None };
        let overridden = self.overridden();
        let (happened, told) = if judgement.past_the_operator {
            (Happened::PastTheOperator, judgement.verdict.findings.iter().collect())
        } else if overridden.is_empty() {
            return None;
        } else {
            (Happened::Overridden, overridden)
        };
        let texts: Vec<_> = told.iter().map(|finding| warning(finding)).collect();
        let Judgement { namespace, name, .. } = &**judgement;
        let (span, texts) = (judgement.span(), texts.join("; "));
        let note = printable(&format!("{user} scaled {namespace}/{name}, {span}: {texts}"));
        Some((happened, told.iter().map(|finding| finding.rule).collect(), note))
    }

    /// It passes only because of an override.
    pub(crate) fn is_overridden(&self) -> bool {
        !self.overridden().is_empty()
    }

    /// What a refused writer reads; empty for one that is not refused.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Nothing(_) | Self::Unjudged { grows: true, .. } => String::new(),
            Self::Unjudged { why, grows: false } => {
                printable(&format!("pgscale cannot judge this change: {why}"))
            }
            Self::Verdict(judgement) => refusal(judgement),
        }
    }

    /// The answer to `review`.
    pub(crate) fn respond(&self, review: &Review) -> AdmissionResponse {
        let mut response = AdmissionResponse::from(review);
        if self.outcome() == Outcome::denied {
            response.allowed = false;
            response.result = Status::failure(&self.message(), "Forbidden")
                .with_code(FORBIDDEN)
                .with_details(self.details(review));
        }
        let warnings = self.warnings();
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
            Self::Nothing(_) => (String::new(), Vec::new()),
            Self::Unjudged { why, .. } => (String::new(), vec![cause(CANNOT_BE_JUDGED, why)]),
            Self::Verdict(judgement) => {
                let causes = judgement.verdict.denials();
                let causes = causes.map(|denial| cause(denial.rule, &denial.message)).collect();
                (judgement.uid.clone(), causes)
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

    /// Only for a write that passes: beside a refusal they would hide its reasons, and `plan` shows them.
    fn warnings(&self) -> Vec<String> {
        let texts: Vec<String> = match self {
            Self::Nothing(_) | Self::Unjudged { grows: false, .. } => Vec::new(),
            Self::Unjudged { why, grows: true } => vec![format!(
                "{CANNOT_BE_JUDGED}: the change was let through unjudged, as it only adds: {why}"
            )],
            Self::Verdict(judgement) if !judgement.verdict.allows() => Vec::new(),
            Self::Verdict(judgement) => judgement.verdict.warnings().map(warning).collect(),
        };
        // Where they do not fit, each is cut, so that the first do not hide the others; a tenth is for indentation.
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
        let verdict = match self.outcome() {
            Outcome::allowed => "allowed",
            Outcome::denied => "denied",
            Outcome::malformed => "malformed",
            Outcome::warned => "warned",
        };
        let mut entries = vec![("verdict", verdict.to_owned())];
        let rules: Vec<_> = self
            .effects()
            .iter()
            .map(|(rule, effect)| format!("{rule}={}", spelled(*effect)))
            .collect();
        if !rules.is_empty() {
            entries.push(("rules", rules.join(",")));
        }
        if let Self::Verdict(judgement) = self {
            entries.push(("instances", judgement.span()));
            if !judgement.policies.is_empty() {
                entries.push(("policy", judgement.policies.join(",")));
            }
            let whys: BTreeSet<_> = (self.overridden().iter())
                .filter_map(|finding| finding.tempered.as_deref())
                .collect();
            if !whys.is_empty() {
                entries.push(("override", whys.into_iter().collect::<Vec<_>>().join("; ")));
            }
        }
        entries
    }
}

fn effect(finding: &Finding) -> Effect {
    match (finding.audit_only, finding.severity, &finding.overridden) {
        (true, ..) => Effect::audit,
        (false, _, Some(_)) => Effect::overridden,
        (false, Severity::Deny, None) => Effect::deny,
        (false, Severity::Warn, None) => Effect::warn,
    }
}

fn spelled(effect: Effect) -> &'static str {
    match effect {
        Effect::audit => "audit",
        Effect::deny => "deny",
        Effect::overridden => "overridden",
        Effect::warn => "warn",
    }
}

/// Every reason with its evidence and its way out; where they would not fit, at least every rule's id.
fn refusal(judgement: &Judgement) -> String {
    let reasons: Vec<_> = judgement.verdict.denials().collect();
    let mut message = judgement.heading();
    match reasons.len() {
        0 => return String::new(),
        1 => message.push(':'),
        several => append(&mut message, format_args!(", for {several} reasons:")),
    }
    let mut untold = Vec::new();
    for reason in reasons {
        let text = cut(&printable(&reason.to_string()), REASON_LIMIT);
        if message.len() + text.len() > MESSAGE_LIMIT {
            untold.push(reason.rule);
        } else {
            append(&mut message, format_args!("\n- {}", text.replace('\n', "\n  ")));
        }
    }
    if !untold.is_empty() {
        append(&mut message, format_args!("\n- and of {}", untold.join(", ")));
    }
    if judgement.from.is_some() {
        let Judgement { namespace, name, asked, .. } = judgement;
        append(
            &mut message,
            format_args!(
                "\nEverything the guard sees: kubectl pgscale plan {name} --to {asked} -n {namespace}"
            ),
        );
    }
    message
}

fn append(message: &mut String, text: std::fmt::Arguments<'_>) {
    let written = message.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a String");
}

/// A finding on one line; the evidence stays behind, but why it did not refuse belongs to it.
fn warning(finding: &Finding) -> String {
    let tempered = finding.tempered.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{}: {}{tempered}", finding.rule, finding.message)
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use kube::core::admission::AdmissionReview;
    use pgscale_guard::rules::RULES;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::request::tests::{object, scale, update};
    use super::*;

    fn review(json: &Value) -> Review {
        let review: AdmissionReview<DynamicObject> = serde_json::from_value(json.clone()).unwrap();
        review.try_into().unwrap()
    }

    fn judged(findings: Vec<Finding>) -> Judged {
        Judged::Verdict(Box::new(Judgement {
            namespace: "db".into(),
            name: "acid-a".into(),
            uid: "c1".into(),
            from: Some(5),
            to: 2,
            asked: 2,
            policies: vec!["scalepolicy/production".into()],
            past_the_operator: false,
            verdict: Verdict { findings, judgements: Vec::new() },
        }))
    }

    fn cannot_move() -> Finding {
        Finding::deny("leader-cannot-move", "acid-a-4 leads and would be deleted")
            .because("configmap/acid-a-leader", "held by acid-a-4")
            .remedy("kubectl pgscale down acid-a --to 2 -n db")
    }

    fn paused() -> Finding {
        Finding::deny("paused", "Patroni is paused, nobody takes over")
            .remedy("kubectl exec -n db acid-a-0 -- patronictl resume")
    }

    #[test]
    fn a_refusal_tells_every_reason_and_its_way_out() {
        let heeded = Finding::warn("survivor-unhealthy", "acid-a-1 does not answer");
        let judged = judged(vec![cannot_move(), heeded, paused()]);
        insta::assert_snapshot!(judged.message(), @r"
        pgscale refuses to scale db/acid-a from 5 to 2 instances, for 2 reasons:
        - leader-cannot-move: acid-a-4 leads and would be deleted
            configmap/acid-a-leader: held by acid-a-4
            Try: kubectl pgscale down acid-a --to 2 -n db
        - paused: Patroni is paused, nobody takes over
            Try: kubectl exec -n db acid-a-0 -- patronictl resume
        Everything the guard sees: kubectl pgscale plan acid-a --to 2 -n db
        ");
        let response = judged.respond(&review(&update(&object(5), &object(2))));
        assert!(!response.allowed);
        assert_eq!((response.result.code, &*response.result.reason), (403, "Forbidden"));
        assert_eq!(response.uid, "r1");
        let details = response.result.details.unwrap();
        assert_eq!((&*details.name, &*details.group, &*details.kind), ("acid-a", GROUP, PLURAL));
        let causes: Vec<_> = details
            .causes
            .iter()
            .map(|cause| (cause.reason.as_str(), cause.field.as_str(), cause.message.as_str()))
            .collect();
        assert_eq!(
            causes,
            [
                (
                    "leader-cannot-move",
                    "spec.numberOfInstances",
                    "acid-a-4 leads and would be deleted"
                ),
                ("paused", "spec.numberOfInstances", "Patroni is paused, nobody takes over"),
            ]
        );
        assert_eq!(response.warnings, None, "nothing stands before the reasons");
        let mut audit: Vec<_> = response.audit_annotations.into_iter().collect();
        audit.sort();
        insta::assert_snapshot!(format!("{audit:?}"), @r#"[("instances", "5 -> 2"), ("policy", "scalepolicy/production"), ("rules", "leader-cannot-move=deny,survivor-unhealthy=warn,paused=deny"), ("verdict", "denied")]"#);
    }

    #[test]
    fn a_scale_is_refused_for_its_own_field() {
        let response = judged(vec![paused()]).respond(&review(&scale(Some(5), Some(2))));
        assert_eq!(response.result.details.unwrap().causes[0].field, "spec.replicas");
    }

    #[test]
    fn warnings_are_wrapped_not_lost() {
        let finding = Finding::warn(
            "leader-condemned",
            "the leader acid-a-4 will be deleted; acid-a-0 is caught up, so the operator's hand-over \
             will work: writes stop for some seconds",
        );
        let mut recorded = Finding::warn("no-leader", "not for the writer");
        recorded.audit_only = true;
        let judged = judged(vec![finding, recorded]);
        let response = judged.respond(&review(&update(&object(5), &object(2))));
        assert!(response.allowed);
        assert_eq!(judged.outcome(), Outcome::warned);
        insta::assert_snapshot!(response.warnings.unwrap().join("\n"), @r"
        leader-condemned: the leader acid-a-4 will be deleted; acid-a-0 is caught up, so the operator's hand-over will work:
          writes stop for some seconds
        ");
        assert_eq!(response.audit_annotations["rules"], "leader-condemned=warn,no-leader=audit");
    }

    #[test]
    fn what_cannot_be_judged_stops_a_shrink_and_warns_growth() {
        let shrink = Judged::Unjudged { why: "no answer in 4 s".into(), grows: false };
        let response = shrink.respond(&review(&update(&object(5), &object(2))));
        assert!(!response.allowed);
        assert_eq!(response.result.code, 403);
        assert_eq!(response.result.message, "pgscale cannot judge this change: no answer in 4 s");
        assert_eq!(shrink.refusing(), [CANNOT_BE_JUDGED]);

        let growth = Judged::Unjudged { why: "no answer in 4 s".into(), grows: true };
        let response = growth.respond(&review(&update(&object(2), &object(5))));
        assert!(response.allowed);
        assert_eq!(
            response.warnings.unwrap(),
            [
                "cannot-be-judged: the change was let through unjudged, as it only adds: no answer in 4 s"
            ]
        );
        assert_eq!(growth.refusing(), [""; 0]);
    }

    #[test]
    fn what_others_wrote_cannot_steer_a_terminal() {
        let finding = Finding::deny("paused", "says \u{1b}[2J\u{202e}\r\0hi");
        assert_eq!(
            judged(vec![finding]).message().lines().nth(1),
            Some("- paused: says  [2J   hi")
        );
    }

    #[test]
    fn every_rule_at_once_is_told_within_the_limits() {
        let rules = RULES.iter().map(|rule| rule.id);
        assert!(rules.len() >= 40);
        for (name, severity, length) in [
            ("short denials", Severity::Deny, 40),
            ("long denials", Severity::Deny, 5000),
            ("long warnings", Severity::Warn, 5000),
        ] {
            let findings: Vec<_> = rules
                .clone()
                .map(|rule| {
                    Finding::new(rule, severity, "한 ".repeat(length))
                        .because("configmap/acid-a-config", "x".repeat(length))
                        .remedy("wait")
                })
                .collect();
            let judged = judged(findings);
            let response = judged.respond(&review(&update(&object(5), &object(2))));
            let whole = serde_json::to_vec(&response).unwrap().len();
            assert!(whole < 64 << 10, "{name}: {whole} bytes");
            assert!(response.result.message.len() <= MESSAGE_LIMIT + 1024, "{name}");
            let causes = response.result.details.map(|details| details.causes).unwrap_or_default();
            assert!(causes.iter().all(|cause| cause.message.len() <= CAUSE_LIMIT), "{name}");
            if severity == Severity::Deny {
                assert_eq!(causes.len(), RULES.len(), "{name}: every rule for machines");
                for rule in rules.clone() {
                    assert!(response.result.message.contains(rule), "{name}: {rule}");
                }
            }
            let warnings = response.warnings.unwrap_or_default();
            assert!(warnings.iter().all(|line| line.chars().count() <= WARNING_WIDTH), "{name}");
            if severity == Severity::Warn {
                for rule in rules.clone() {
                    assert!(warnings.iter().any(|line| line.starts_with(rule)), "{name}: {rule}");
                }
            }
            let total: usize = warnings.iter().map(|line| line.chars().count()).sum();
            assert!(total <= WARNINGS_LIMIT, "{name}: {total}");
            assert!(response.audit_annotations.values().all(|text| text.len() <= AUDIT_LIMIT));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn no_text_exceeds_what_the_api_carries(
            messages in prop::collection::vec(("\\PC{0,900}", any::<bool>()), 0..20),
            evidence in "\\PC{0,1500}",
        ) {
            let findings = messages.iter().map(|(message, deny)| {
                let severity = if *deny { Severity::Deny } else { Severity::Warn };
                Finding::new("some-rule", severity, message.clone()).because("somewhere", &*evidence)
            });
            let judged = judged(findings.collect());
            let response = judged.respond(&review(&update(&object(5), &object(2))));
            prop_assert!(response.result.message.len() < MESSAGE_LIMIT + 1024);
            let warnings = response.warnings.unwrap_or_default();
            let lengths: Vec<_> = warnings.iter().map(|line| line.chars().count()).collect();
            prop_assert!(lengths.iter().all(|length| *length <= WARNING_WIDTH));
            prop_assert!(lengths.iter().sum::<usize>() <= WARNINGS_LIMIT);
            prop_assert!(warnings.iter().all(|line| !line.chars().any(char::is_control)));
            prop_assert!(response.audit_annotations.values().all(|text| text.len() <= AUDIT_LIMIT));
            let denied = messages.iter().any(|(_, deny)| *deny);
            prop_assert_eq!(response.allowed, !denied);
        }
    }
}
