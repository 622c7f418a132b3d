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
use pgscale_guard::postgresql::{GROUP, PLURAL};
use pgscale_guard::remedy::Command;
use pgscale_guard::rules::{Recreation, Volumes};
use pgscale_guard::verdict::Finding;

use super::decision::{CANNOT_BE_JUDGED, Decided, Fallback, Judgement};
use super::review::Review;
use super::text::{cut, printable, wrap};
use crate::events::Happened;
use crate::metrics::{Effect, Outcome};

/// 429 and 503 would be sent again and again by clients; 400 says the request is malformed.
const FORBIDDEN: u16 = 403;
/// A message people still read; far below what the API server or kubectl could carry.
const MESSAGE_LIMIT: usize = 8 * 1024;
/// One reason's share of it.
const REASON_LIMIT: usize = 2 * 1024;
/// One cause, for machines: there is one for every rule, however many, and the message says it in full.
const CAUSE_LIMIT: usize = 512;
/// What the API conventions ask of one warning, in characters. Kept in columns as well, so that a
/// Korean warning is no wider on a terminal than an English one.
const WARNING_WIDTH: usize = 120;
/// What the API server passes on of all warnings together, in characters
/// (`truncateAtTotalRunes`, apiserver/pkg/endpoints/filters/warning.go).
const WARNINGS_LIMIT: usize = 4096;
/// What the API server takes of one audit annotation without complaint.
const AUDIT_LIMIT: usize = 1024;

impl Judgement {
    fn heading(&self) -> String {
        let cluster = format!("{}/{}", self.namespace, self.name);
        let asked = if self.asked == self.to {
            self.to.to_string()
        } else {
            format!("{} (asked for: {})", self.to, self.asked)
        };
        let instances = if self.to == 1 { "instance" } else { "instances" };
        match self.from {
            None => format!("pgscale refuses to create {cluster} with {asked} {instances}"),
            Some(from) => {
                let assumed = self.assumed_leader.as_ref();
                let moved = assumed.map_or_else(String::new, |leader| {
                    format!(", even after a switchover to {leader}")
                });
                format!(
                    "pgscale refuses to scale {cluster} from {from} to {asked} {instances}{moved}"
                )
            }
        }
    }
}

impl Decided {
    /// What is worth an Event, with the rules behind it and the whole story.
    pub(crate) fn story(&self, user: &str) -> Option<(Happened, Vec<&'static str>, String)> {
        if self.outcome() == Outcome::denied {
            return Some((Happened::Denied, self.refusing(), self.message()));
        }
        let Self::Verdict(result) = self else { return None };
        let overridden = self.overridden();
        let (happened, told) = if result.past_the_operator {
            (Happened::PastTheOperator, result.verdict.findings.iter().collect())
        } else if overridden.is_empty() {
            return None;
        } else {
            (Happened::Overridden, overridden)
        };
        let texts: Vec<_> = told.iter().map(|finding| warning(finding)).collect();
        let Judgement { namespace, name, .. } = &**result;
        let (span, texts) = (result.span(), texts.join("; "));
        let note = printable(&format!("{user} scaled {namespace}/{name}, {span}: {texts}"));
        Some((happened, told.iter().map(|finding| finding.rule).collect(), note))
    }

    /// What a refused writer reads; empty for one that is not refused.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Nothing(_) | Self::Unjudged { fallback: Fallback::Pass, .. } => String::new(),
            Self::Unjudged { why, fallback: Fallback::Refuse } => {
                printable(&format!("pgscale cannot judge this change: {why}"))
            }
            Self::Unjudged { why, fallback: Fallback::RefuseGrowth } => printable(&format!(
                "pgscale cannot judge this change: {why}; this installation refuses growth that \
                 cannot be judged (growFailurePolicy: Fail)"
            )),
            Self::Verdict(result) => refusal(result),
        }
    }

    /// The answer to `review`.
    pub(crate) fn respond(&self, review: &Review) -> AdmissionResponse {
        let mut response = review.allowed();
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
            Self::Verdict(result) => {
                let causes = result.verdict.denials();
                let causes = causes.map(|denial| cause(denial.rule, &denial.message)).collect();
                (result.uid.clone(), causes)
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
            Self::Unjudged { why, fallback: Fallback::Pass } => vec![format!(
                "{CANNOT_BE_JUDGED}: the change was let through unjudged, as it only adds: {why}"
            )],
            Self::Nothing(_) | Self::Unjudged { .. } => Vec::new(),
            Self::Verdict(result) if !result.verdict.allows() => Vec::new(),
            Self::Verdict(result) => result.verdict.warnings().map(warning).collect(),
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
        if let Self::Verdict(result) = self {
            entries.push(("instances", result.span()));
            if let Some(leader) = &result.assumed_leader {
                entries.push(("assumed-leader", leader.clone()));
            }
            if !result.policies.is_empty() {
                entries.push(("policy", result.policies.join(",")));
            }
            let whys: BTreeSet<_> = (self.overridden().iter())
                .filter_map(|finding| finding.severity_reason.as_deref())
                .collect();
            if !whys.is_empty() {
                entries.push(("override", whys.into_iter().collect::<Vec<_>>().join("; ")));
            }
        }
        entries
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
fn refusal(result: &Judgement) -> String {
    let reasons: Vec<_> = result.verdict.denials().collect();
    let mut message = result.heading();
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
    if let Some(recreation) = &result.recreation {
        append(&mut message, format_args!("\n{}", gone(result, recreation)));
    }
    if result.from.is_some() {
        let Judgement { namespace, name, asked, .. } = result;
        append(
            &mut message,
            format_args!(
                "\nEverything the guard sees:\n    kubectl pgscale plan {name} --to {asked} -n {namespace}"
            ),
        );
    }
    message
}

/// What it means that a CREATE is refused whose cluster was deleted a moment ago, and what brings the cluster back.
fn gone(result: &Judgement, recreation: &Recreation) -> String {
    let Judgement { namespace, name, .. } = result;
    let Recreation { left, count, volumes } = recreation;
    let more = left.len().saturating_sub(NAMED);
    let mut shown: Vec<String> = left.iter().take(NAMED).map(ToString::to_string).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    let back = || {
        match count {
        Some(count) => {
            let patch = format!("{{\"spec\":{{\"numberOfInstances\":{count}}}}}");
            let patch =
                ["patch", "--local", "-f", "MANIFEST", "--type=merge", "-o", "yaml", "-p", &patch];
            let create = ["kubectl", "create", "-n", namespace, "-f", "-"];
            let command = Command::kubectl(patch).piped_into(create);
            format!("To bring it back with {count}:\n    {command}")
        }
        None => "No number of instances is admitted now: mend what is named above, then create it again.".to_owned(),
    }
    };
    let way = match volumes {
        Volumes::Kept => back(),
        Volumes::Deleted { by, claims } => {
            let keep = if claims.is_empty() {
                String::new()
            } else {
                let names = "custom-columns=:.spec.volumeName";
                let get = ["get", "pvc"].into_iter().chain(claims.iter().map(String::as_str));
                let get = get.chain(["-n", namespace, "-o", names, "--no-headers"]);
                let retain = r#"{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}"#;
                let patch = ["xargs", "kubectl", "patch", "pv", "-p", retain];
                let command = Command::kubectl(get).piped_into(patch);
                format!("\nTo keep the disks that are still there:\n    {command}")
            };
            format!("Its volumes go, too ({by}): what they held is in backups only.{keep}")
        }
        Volumes::Unknown => format!(
            "Whether its operator deletes the volumes, too, could not be read. If it does not: {}",
            back()
        ),
    };
    format!(
        "postgresql {namespace}/{name} was deleted, and it is gone while this is refused; what is left of it: {}.\n{way}",
        shown.join(", ")
    )
}

/// How many of the objects that are left a message names.
const NAMED: usize = 8;

fn append(message: &mut String, text: std::fmt::Arguments<'_>) {
    let written = message.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a String");
}

/// A finding on one line; the evidence stays behind, but why it did not refuse belongs to it.
fn warning(finding: &Finding) -> String {
    let severity_reason =
        finding.severity_reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{}: {}{severity_reason}", finding.rule, finding.message)
}

#[cfg(test)]
mod tests {
    use pgscale_guard::Verdict;
    use pgscale_guard::object_ref::{Kind, ObjectRef};
    use pgscale_guard::rules::RULES;
    use pgscale_guard::verdict::Severity;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::request::tests::{object, scale, update};
    use super::super::review::Received;
    use super::*;

    fn config() -> ObjectRef {
        ObjectRef::new(Kind::ConfigMap, "acid-a-config")
    }

    fn review(json: &Value) -> Review {
        Received::of(json.to_string().as_bytes()).unwrap().review
    }

    fn judged(findings: Vec<Finding>) -> Decided {
        Decided::Verdict(Box::new(Judgement {
            namespace: "db".into(),
            name: "acid-a".into(),
            uid: "c1".into(),
            from: Some(5),
            to: 2,
            asked: 2,
            policies: vec!["scalepolicy/production".into()],
            recreation: None,
            assumed_leader: None,
            past_the_operator: false,
            verdict: Verdict { findings, ..Verdict::default() },
        }))
    }

    fn cannot_move() -> Finding {
        Finding::deny("leader-cannot-move", "acid-a-4 leads and would be deleted")
            .because(ObjectRef::new(Kind::ConfigMap, "acid-a-leader"), "leader", "acid-a-4")
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
        insta::assert_snapshot!(judged.message(), @"
        pgscale refuses to scale db/acid-a from 5 to 2 instances, for 2 reasons:
        - leader-cannot-move: acid-a-4 leads and would be deleted
            configmap/acid-a-leader: leader: acid-a-4
            Try: kubectl pgscale down acid-a --to 2 -n db
        - paused: Patroni is paused, nobody takes over
            Try: kubectl exec -n db acid-a-0 -- patronictl resume
        Everything the guard sees:
            kubectl pgscale plan acid-a --to 2 -n db
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
        let unjudged = |fallback| Decided::Unjudged { why: "no answer in 4s".to_owned(), fallback };
        let shrink = unjudged(Fallback::Refuse);
        let response = shrink.respond(&review(&update(&object(5), &object(2))));
        assert!(!response.allowed);
        assert_eq!(response.result.code, 403);
        assert_eq!(response.result.message, "pgscale cannot judge this change: no answer in 4s");
        assert_eq!(shrink.refusing(), [CANNOT_BE_JUDGED]);

        let growth = unjudged(Fallback::RefuseGrowth);
        let response = growth.respond(&review(&update(&object(2), &object(5))));
        assert!(!response.allowed);
        assert_eq!(
            response.result.message,
            "pgscale cannot judge this change: no answer in 4s; this installation refuses growth that \
             cannot be judged (growFailurePolicy: Fail)"
        );
        assert_eq!(growth.refusing(), [CANNOT_BE_JUDGED]);

        let growth = unjudged(Fallback::Pass);
        let response = growth.respond(&review(&update(&object(2), &object(5))));
        assert!(response.allowed);
        assert_eq!(
            response.warnings.unwrap(),
            [
                "cannot-be-judged: the change was let through unjudged, as it only adds: no answer in 4s"
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
                        .because(config(), "config", "x".repeat(length))
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
                Finding::new("some-rule", severity, message.clone()).because(config(), "config", &evidence)
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
