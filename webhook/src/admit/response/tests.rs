//! Every text of an answer, and the limits that each is kept within.

use pgscale_guard::RuleId;
use pgscale_guard::Verdict;
use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::rules::RULES;
use pgscale_guard::verdict::{Finding, Severity};
use proptest::prelude::*;
use serde_json::Value;

use super::super::refusal::MESSAGE_LIMIT;
use super::super::review::Received;
use super::super::testing::{object, scale, update};
use super::*;

fn config() -> ObjectRef {
    ObjectRef::new(Kind::ConfigMap, "acid-a-config")
}

fn review(json: &Value) -> Review {
    Received::of(json.to_string().as_bytes()).unwrap().review
}

fn judged(findings: Vec<Finding>) -> Decision {
    Decision::Judged(Box::new(JudgedChange {
        namespace: "db".into(),
        name: "acid-a".into(),
        uid: "c1".into(),
        from: Some(5),
        to: 2,
        requested: 2,
        policies: vec!["scalepolicy/production".into()],
        recreation: None,
        assumed_leader: None,
        unseen: false,
        past_the_operator: false,
        removal: None,
        verdict: Verdict { findings, ..Verdict::default() },
    }))
}

fn cannot_move() -> Finding {
    Finding::deny(RuleId::LEADER_CANNOT_MOVE, "acid-a-4 leads and would be deleted")
        .because(ObjectRef::new(Kind::ConfigMap, "acid-a-leader"), "leader", "acid-a-4")
        .remedy("kubectl pgscale down acid-a --to 2 -n db")
}

fn paused() -> Finding {
    Finding::deny(RuleId::PAUSED, "Patroni is paused, no member takes over")
        .remedy("kubectl exec -n db acid-a-0 -- patronictl resume")
}

#[test]
fn refusal_says_every_reason_and_its_remedy() {
    let warned = Finding::warn(RuleId::SURVIVOR_UNHEALTHY, "acid-a-1 does not answer");
    let judged = judged(vec![cannot_move(), warned, paused()]);
    insta::assert_snapshot!(judged.message(), @"
    pgscale refuses to scale db/acid-a from 5 to 2 instances, for 2 reasons:
    - leader-cannot-move: acid-a-4 leads and would be deleted
        configmap/acid-a-leader: leader: acid-a-4
        Try: kubectl pgscale down acid-a --to 2 -n db
    - paused: Patroni is paused, no member takes over
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
            ("leader-cannot-move", "spec.numberOfInstances", "acid-a-4 leads and would be deleted"),
            ("paused", "spec.numberOfInstances", "Patroni is paused, no member takes over"),
        ]
    );
    assert_eq!(response.warnings, None, "no warning stands before the reasons");
    let mut audit: Vec<_> = response.audit_annotations.into_iter().collect();
    audit.sort();
    insta::assert_snapshot!(format!("{audit:?}"), @r#"[("instances", "5 -> 2"), ("policy", "scalepolicy/production"), ("rules", "leader-cannot-move=deny,survivor-unhealthy=warn,paused=deny"), ("verdict", "denied")]"#);
}

#[test]
fn refused_scale_names_its_own_field() {
    let response = judged(vec![paused()]).respond(&review(&scale(Some(5), Some(2))));
    assert_eq!(response.result.details.unwrap().causes[0].field, "spec.replicas");
}

#[test]
fn warnings_are_wrapped_and_not_lost() {
    let finding = Finding::warn(
        RuleId::LEADER_CONDEMNED,
        "the leader acid-a-4 will be deleted; acid-a-0 is caught up, so the operator's \
         switchover will work: writes stop for some seconds",
    );
    let mut recorded = Finding::warn(RuleId::NO_LEADER, "not for the writer");
    recorded.audit_only = true;
    let judged = judged(vec![finding, recorded]);
    let response = judged.respond(&review(&update(&object(5), &object(2))));
    assert!(response.allowed);
    assert_eq!(judged.outcome(), Outcome::Warned);
    insta::assert_snapshot!(response.warnings.unwrap().join("\n"), @r"
    leader-condemned: the leader acid-a-4 will be deleted; acid-a-0 is caught up, so the operator's switchover will work:
      writes stop for some seconds
    ");
    assert_eq!(response.audit_annotations["rules"], "leader-condemned=warn,no-leader=audit");
}

#[test]
fn unjudged_shrink_is_refused_and_unjudged_growth_warns() {
    let unjudged = |fallback| Decision::Unjudged { why: "no answer in 4s".to_owned(), fallback };
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
        "pgscale cannot judge this change: no answer in 4s. This installation refuses growth that \
         cannot be judged (growFailurePolicy: Fail)"
    );
    assert_eq!(growth.refusing(), [CANNOT_BE_JUDGED]);

    let back = unjudged(Fallback::RefuseReturn);
    let response = back.respond(&review(&update(&object(0), &object(3))));
    assert!(!response.allowed);
    assert_eq!(
        response.result.message,
        "pgscale cannot judge this change: no answer in 4s. It starts the cluster from its volumes, \
         and a count or a store that leaves out the newest one loses rows"
    );
    assert_eq!(back.refusing(), [CANNOT_BE_JUDGED]);

    let growth = unjudged(Fallback::Pass);
    let response = growth.respond(&review(&update(&object(2), &object(5))));
    assert!(response.allowed);
    assert_eq!(
        response.warnings.unwrap(),
        [
            "cannot-be-judged: pgscale let the change pass without a verdict, because it only adds: no answer in 4s"
        ]
    );
    assert_eq!(growth.refusing(), [""; 0]);
}

#[test]
fn control_characters_never_reach_a_terminal() {
    let finding = Finding::deny(RuleId::PAUSED, "says \u{1b}[2J\u{202e}\r\0hi");
    assert_eq!(judged(vec![finding]).message().lines().nth(1), Some("- paused: says  [2J   hi"));
}

#[test]
fn all_rules_at_once_fit_into_the_limits() {
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
                Finding::new(rule, severity, format!("{rule}{}", "한 ".repeat(length)))
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
            assert_eq!(causes.len(), RULES.len(), "{name}: a cause for every rule");
            for rule in rules.clone() {
                assert!(response.result.message.contains(rule.as_str()), "{name}: {rule}");
            }
        }
        let warnings = response.warnings.unwrap_or_default();
        assert!(warnings.iter().all(|line| line.chars().count() <= WARNING_WIDTH), "{name}");
        if severity == Severity::Warn {
            for rule in rules.clone() {
                assert!(
                    warnings.iter().any(|line| line.starts_with(rule.as_str())),
                    "{name}: {rule}"
                );
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
    fn no_text_exceeds_the_limits_of_the_api(
        messages in prop::collection::vec(("\\PC{0,900}", any::<bool>()), 0..20),
        evidence in "\\PC{0,1500}",
    ) {
        let findings = messages.iter().map(|(message, deny)| {
            let severity = if *deny { Severity::Deny } else { Severity::Warn };
            Finding::new(RuleId::PAUSED, severity, message.clone()).because(config(), "config", &evidence)
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
