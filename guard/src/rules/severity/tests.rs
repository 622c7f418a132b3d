//! Severities by policies, modes, repairs and unread facts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::evaluate;
use crate::facts::{Facts, Seen};
use crate::policy::{ClusterScalePolicy, Policies, ScalePolicy};
use crate::rules::testing::{created, healthy};

fn policies(specs: &[Value]) -> Policies {
    let named = specs.iter().zip(["a", "b", "c"]);
    let all: Vec<ScalePolicy> = named
        .map(|(spec, name)| ScalePolicy::new(name, serde_json::from_value(spec.clone()).unwrap()))
        .collect();
    Policies::combine(&all, &healthy(3, 3).change.new)
}

/// `deny`, `warn`, `audit` or nothing, and `!` where an enforced policy would refuse it.
fn effect(facts: &Facts, rule: &str, policies: &Policies) -> String {
    let verdict = evaluate(facts, policies);
    let Some(finding) = verdict.finding(rule) else { return String::new() };
    let effect = if finding.audit_only {
        "audit"
    } else if verdict.denials().any(|denial| denial.rule == rule) {
        "deny"
    } else {
        "warn"
    };
    format!("{effect}{}", if finding.on_trial { "!" } else { "" })
}

#[test]
fn opinions_on_a_rule_lower_it_and_raise_it() {
    let said =
        |mode: &str, weight: &str, rule: &str| json!({"mode": mode, "rules": {rule: weight}});
    let denied = healthy(5, 3).cloning(1);
    let rule = "rebuild-in-progress";
    let own = |mode, weight| said(mode, weight, rule);
    for (name, specs, want) in [
        ("no policy says anything", vec![], "deny"),
        ("ignored", vec![own("Enforce", "Ignore")], ""),
        ("lowered", vec![own("Enforce", "Warn")], "warn"),
        (
            "the strictest opinion wins",
            vec![own("Enforce", "Ignore"), own("Enforce", "Warn")],
            "warn",
        ),
        (
            "pinned by another policy",
            vec![own("Enforce", "Ignore"), own("Enforce", "Deny")],
            "deny",
        ),
        ("a pin on trial only warns", vec![own("Enforce", "Ignore"), own("Warn", "Deny")], "warn!"),
        ("one that is recorded", vec![own("Enforce", "Warn"), own("Audit", "Deny")], "warn"),
        ("the only policy audits", vec![own("Audit", "Deny")], "deny"),
    ] {
        assert_eq!(effect(&denied, rule, &policies(&specs)), want, "{name}");
    }
    let warned = healthy(5, 1);
    let own = |mode, weight| said(mode, weight, "no-standby-left");
    for (name, specs, want) in [
        ("no policy says anything", vec![], "warn"),
        ("raised", vec![own("Enforce", "Deny")], "deny"),
        ("raised on trial", vec![own("Warn", "Deny"), json!({})], "warn!"),
        ("raised for the record", vec![own("Audit", "Deny"), json!({})], "warn"),
        ("ignored", vec![own("Enforce", "Ignore")], ""),
    ] {
        assert_eq!(effect(&warned, "no-standby-left", &policies(&specs)), want, "{name}");
    }
}

/// Policies of the platform with these specs, and of the namespace with those.
fn both(platform: &[Value], own: &[Value]) -> Policies {
    let everywhere: Vec<ClusterScalePolicy> = platform
        .iter()
        .map(|spec| ClusterScalePolicy::new("p", serde_json::from_value(spec.clone()).unwrap()))
        .collect();
    let own: Vec<ScalePolicy> = own
        .iter()
        .map(|spec| ScalePolicy::new("a", serde_json::from_value(spec.clone()).unwrap()))
        .collect();
    Policies::of(&own, &everywhere, &Seen::Absent, &BTreeMap::new())
}

#[test]
fn only_the_platform_sets_the_mode_of_what_is_built_in() {
    let denied = healthy(5, 3).cloning(1);
    let effect = |platform: &[Value], own: &[Value]| {
        effect(&denied, "rebuild-in-progress", &both(platform, own))
    };
    let mode = |mode: &str| json!({"mode": mode});
    let built_in = |mode: &str| json!({"builtIn": {"mode": mode}});
    for own in ["Enforce", "Warn", "Audit"] {
        assert_eq!(effect(&[], &[mode(own)]), "deny", "{own}");
        assert_eq!(effect(&[mode(own)], &[]), "deny", "{own}, of its own limits");
        assert_eq!(effect(&[built_in("Warn")], &[mode(own)]), "warn!", "{own}");
    }
    assert_eq!(effect(&[built_in("Audit")], &[]), "audit!");
    assert_eq!(effect(&[built_in("Warn"), built_in("Audit")], &[]), "warn!");
    assert_eq!(effect(&[built_in("Warn"), built_in("Enforce")], &[]), "deny");
    // Limits of policies keep their own modes.
    let floor = both(&[built_in("Audit")], &[json!({"instances": {"min": 4}})]);
    assert_eq!(super::tests::effect(&healthy(5, 3), "below-min", &floor), "deny");
}

#[test]
fn a_namespace_lowers_only_what_the_platform_lists_as_loosenable() {
    let condemned = healthy(5, 2).with_leader(4);
    let rule = "leader-condemned";
    let says = |rule: &str, weight: &str| json!({"rules": {rule: weight}});
    let lists = |rules: &[&str]| json!({"builtIn": {"loosenable": rules}});
    for weight in ["Ignore", "Warn"] {
        let own = [says(rule, weight)];
        assert_eq!(effect(&condemned, rule, &both(&[], &own)), "deny", "{weight}");
        let listed = both(&[lists(&[rule])], &own);
        assert_ne!(effect(&condemned, rule, &listed), "deny", "{weight}");
        let one_of_two = both(&[lists(&[rule]), lists(&[])], &own);
        assert_eq!(effect(&condemned, rule, &one_of_two), "deny", "{weight}");
        assert_ne!(effect(&condemned, rule, &both(&own, &[])), "deny", "{weight}: the platform");
        assert_eq!(both(&[], &own).powerless.len(), 1);
    }
    let cloning = healthy(5, 3).cloning(1);
    let own = [says("rebuild-in-progress", "Warn")];
    assert_eq!(effect(&cloning, "rebuild-in-progress", &both(&[], &own)), "warn");
    let unlisted = both(&[lists(&["paused"])], &own);
    assert_eq!(effect(&cloning, "rebuild-in-progress", &unlisted), "deny");
    // To raise is always allowed.
    let raised = both(&[lists(&[])], &[says("no-standby-left", "Deny")]);
    assert_eq!(effect(&healthy(5, 1), "no-standby-left", &raised), "deny");
}

#[test]
fn what_a_namespace_says_of_unread_facts_does_not_lower_a_fixed_rule() {
    let mut blind = healthy(5, 2).without_sight_of_the_lock();
    blind.stateful_set = Seen::Unreadable("forbidden".to_owned());
    let lax = [json!({"whenUnknown": {"down": "Warn"}})];
    let own = both(&[], &lax);
    assert_eq!(effect(&blind, "leader-condemned", &own), "deny");
    assert_eq!(effect(&blind, "no-leader", &own), "warn");
    assert_eq!(effect(&blind, "leader-condemned", &both(&lax, &[])), "warn", "the platform");
}

#[test]
fn nobody_lowers_the_limit_of_another_policy() {
    let floor = json!({"instances": {"min": 3}});
    let tenant = |weight: &str| json!({"rules": {"below-min": weight}});
    let shrink = healthy(5, 2);
    for weight in ["Ignore", "Warn"] {
        let both = policies(&[floor.clone(), tenant(weight)]);
        assert_eq!(effect(&shrink, "below-min", &both), "deny", "{weight}");
    }
    let own = policies(&[json!({"instances": {"min": 3}, "rules": {"below-min": "Warn"}})]);
    assert_eq!(effect(&shrink, "below-min", &own), "warn!");
}

#[test]
fn what_is_not_known_weighs_what_policies_say() {
    let blind = healthy(5, 2).without_sight_of_the_lock();
    let grows = healthy(3, 4).without_sight_of_the_lock();
    let unknown = |mode: &str, down: &str, up: &str| json!({"mode": mode, "whenUnknown": {"down": down, "up": up}});
    let rule = |weight: &str| json!({"rules": {"no-leader": weight}});
    for (name, specs, down, up) in [
        ("nobody says anything", vec![], "deny", "warn"),
        ("loosened and raised", vec![unknown("Enforce", "Warn", "Deny")], "warn", "deny"),
        (
            "the strictest wins",
            vec![unknown("Enforce", "Warn", "Warn"), unknown("Enforce", "Deny", "Deny")],
            "deny",
            "deny",
        ),
        ("raised on trial", vec![unknown("Warn", "Deny", "Deny"), json!({})], "deny", "warn!"),
        ("the rule is ignored", vec![rule("Ignore")], "", ""),
        ("the rule is lowered", vec![rule("Warn")], "warn", "warn"),
        ("the rule is pinned", vec![rule("Ignore"), rule("Deny")], "deny", "warn"),
    ] {
        assert_eq!(effect(&blind, "no-leader", &policies(&specs)), down, "{name}, down");
        assert_eq!(effect(&grows, "no-leader", &policies(&specs)), up, "{name}, up");
    }
}

#[test]
fn a_caution_refuses_what_is_not_known_where_a_policy_raised_it() {
    let mut blind = healthy(5, 2);
    blind.claims = Seen::Unreadable("forbidden".to_owned());
    let mut grows = healthy(3, 4);
    grows.claims = blind.claims.clone();
    let rule = "volume-resizing";
    let raised = || json!({"rules": {rule: "Deny"}});
    let unknown = |down: &str, up: &str| json!({"whenUnknown": {"down": down, "up": up}});
    for (name, specs, down, up) in [
        ("nobody says anything", vec![], "warn", "warn"),
        ("raised", vec![raised()], "deny", "warn"),
        ("unknown facts refuse", vec![unknown("Deny", "Deny")], "warn", "warn"),
        ("both", vec![raised(), unknown("Deny", "Deny")], "deny", "deny"),
        (
            "raised, and unknown facts are told",
            vec![raised(), unknown("Warn", "Warn")],
            "warn",
            "warn",
        ),
        (
            "raised on trial",
            vec![json!({"mode": "Warn", "rules": {rule: "Deny"}}), json!({})],
            "warn!",
            "warn",
        ),
        ("ignored", vec![json!({"rules": {rule: "Ignore"}})], "", ""),
    ] {
        assert_eq!(effect(&blind, rule, &policies(&specs)), down, "{name}, down");
        assert_eq!(effect(&grows, rule, &policies(&specs)), up, "{name}, up");
    }
}

#[test]
fn a_backup_that_is_asked_for_on_trial_refuses_nothing_where_it_is_not_known() {
    let unread = healthy(5, 2);
    let backup = |mode: &str| json!({"mode": mode, "backup": {"maxAge": "26h"}});
    for (mode, want) in [("Enforce", "deny"), ("Warn", "warn!"), ("Audit", "audit!")] {
        let both = policies(&[backup(mode), json!({})]);
        assert_eq!(effect(&unread, "no-recent-backup", &both), want, "{mode}");
    }
}

#[test]
fn growth_on_an_unknown_fact_is_refused_where_the_installation_fails_closed() {
    let unseen = |facts: Facts| facts.without_sight_of_the_lock();
    let up = |mode: &str, up: &str| json!({"mode": mode, "whenUnknown": {"up": up}});
    let rule = "no-leader";
    for (name, specs, open, closed) in [
        ("no policy", vec![], "warn", "deny"),
        ("the policy warns", vec![up("Enforce", "Warn")], "warn", "deny"),
        ("the policy refuses", vec![up("Enforce", "Deny")], "deny", "deny"),
        ("a trial refuses", vec![up("Warn", "Deny")], "warn!", "deny"),
        ("a trial warns", vec![up("Audit", "Warn")], "warn", "deny"),
        ("the rule is lowered", vec![json!({"rules": {rule: "Warn"}})], "warn", "warn"),
        ("the rule is ignored", vec![json!({"rules": {rule: "Ignore"}})], "", ""),
    ] {
        let by_default = policies(&specs);
        let fails = by_default.clone().failing_growth_closed();
        assert_eq!(effect(&unseen(healthy(3, 4)), rule, &by_default), open, "{name}");
        assert_eq!(effect(&unseen(healthy(3, 4)), rule, &fails), closed, "{name}");
        // A shrink is weighed as before, and so is growth of which everything is known.
        for facts in [unseen(healthy(5, 2)), healthy(3, 4), healthy(5, 2)] {
            let want = effect(&facts, rule, &by_default);
            assert_eq!(effect(&facts, rule, &fails), want, "{name}");
        }
    }
    let fails = Policies::default().failing_growth_closed();
    insta::assert_snapshot!(
        evaluate(&unseen(healthy(3, 4)), &fails).finding(rule).unwrap(), @"
    no-leader: cannot be judged: the leader lock could not be read (configmaps is forbidden)
      (this installation says growFailurePolicy: Fail)
      Try: make the fact readable (network, rights), then ask again
    ");
    // Advice that refuses nothing when it is known refuses nothing unknown.
    let mut blind = healthy(3, 4);
    blind.claims = Seen::Unreadable("forbidden".to_owned());
    assert_eq!(effect(&blind, "volume-resizing", &fails), "warn");
}

#[test]
fn a_new_cluster_on_an_unknown_fact_is_refused_where_the_installation_fails_closed() {
    let unread = Policies::unreadable("no answer within 4s");
    assert_eq!(effect(&created(3), "above-max", &unread), "warn");
    assert_eq!(effect(&created(3), "above-max", &unread.failing_growth_closed()), "deny");
}

#[test]
fn of_policies_that_could_not_all_be_read_none_loosens() {
    let mut partly = policies(&[json!({"whenUnknown": {"down": "Warn"},
        "rules": {"rebuild-in-progress": "Ignore", "below-min": "Ignore"}})]);
    partly.unreadable = Some("forbidden".to_owned());
    let shrink = healthy(5, 3).cloning(1);
    for rule in ["below-min", "rebuild-in-progress"] {
        assert_eq!(effect(&shrink, rule, &partly), "deny", "{rule}");
    }
}

#[test]
fn the_smaller_lag_holds_and_one_on_trial_only_warns() {
    // Their replay lags; they have received everything.
    let mut facts = healthy(4, 2);
    for ordinal in [1, 2, 3] {
        facts = facts.with_answer(ordinal, |answer| answer.replayed = Some(900));
    }
    let lag = |mode: &str, lag: &str| json!({"mode": mode, "survivors": {"maxLag": lag}});
    let rule = "too-few-healthy-survivors";
    for (name, specs, want) in [
        ("Patroni allows it", vec![], ""),
        ("so does the policy", vec![lag("Enforce", "1Ki")], ""),
        ("the policy does not", vec![lag("Enforce", "50")], "deny"),
        ("on trial", vec![lag("Warn", "50"), lag("Enforce", "1Ki")], "warn!"),
        ("for the record", vec![lag("Audit", "50"), json!({})], "audit!"),
        ("enforced beside a stricter trial", vec![lag("Enforce", "60"), lag("Warn", "50")], "deny"),
    ] {
        assert_eq!(effect(&facts, rule, &policies(&specs)), want, "{name}");
    }
}
