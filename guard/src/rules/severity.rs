//! What a finding weighs: its rule's default, what policies say of the rule, what a repair excuses, and what the
//! policy's mode tempers, in this order.
//!
//! Policies' opinions on a rule (`rules`) work so that a stricter opinion never weighs less, and a trial never refuses:
//! one below the default lowers what the rule found by itself to the strictest of those below; one at or above it
//! stands beside that, in the mode of its own policy. A finding that rests on a policy's own limit is not lowered by
//! anybody else: that policy's `rules` have weighed it when it was read.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::policy::{Limit, Mode, Policies, Weight};
use crate::remedy::Remedy;
use crate::rules::{Kind, Rule};
use crate::verdict::{Finding, Outcome, Severity, Standing};

/// One thing a finding may weigh, in the mode of a policy, and who says so where it is not the rule itself.
#[derive(Clone, Debug)]
struct Candidate {
    severity: Severity,
    mode: Mode,
    says: Option<String>,
}

/// What a rule says once policies, repairs and modes have been heard.
pub(super) fn weighed(
    rule: &Rule,
    outcome: &Outcome,
    facts: &Assessment<'_>,
    policies: &Policies,
) -> Option<Finding> {
    let (finding, candidates) = match outcome {
        Outcome::NotApplicable | Outcome::Pass => return None,
        Outcome::Found(finding @ Finding { mode: Some(mode), .. }) => {
            let own = Candidate { severity: finding.severity, mode: *mode, says: None };
            (finding.clone(), vec![own])
        }
        Outcome::Found(finding) => {
            let own = base(finding.severity, policies);
            let raised = |limit: &Limit<Weight>| weight(limit).filter(|it| *it >= own.severity);
            let raising = opinions(rule, policies)
                .filter_map(|limit| Some(spoken(rule, limit, raised(limit)?)));
            let mut candidates: Vec<_> = raising.collect();
            candidates.extend(lowered(rule, own, policies));
            (finding.clone(), candidates)
        }
        Outcome::Unknown(why) | Outcome::Unsaid { why, .. } => {
            let mut unseen = unseen(rule, facts.direction(), policies);
            unseen.extend(failing_closed(facts.direction(), policies));
            let most = unseen.iter().map(|it| it.severity).max();
            // A rule can be pinned, but not to more than what is not known may mean.
            let pinned = opinions(rule, policies)
                .filter_map(|limit| Some(spoken(rule, limit, weight(limit)?.min(most?))));
            let mut candidates: Vec<_> = pinned.collect();
            // A caution refuses nothing by itself, seen or not, unless a policy has raised it.
            let own = unseen.into_iter().map(|it| match rule.kind {
                Kind::Advisory if it.severity > Severity::Warn => {
                    Candidate { severity: Severity::Warn, says: None, ..it }
                }
                Kind::Bound | Kind::Calendar | Kind::Advisory | Kind::Live => it,
            });
            candidates.extend(own.filter_map(|it| lowered(rule, it, policies)));
            // What a policy asks for on trial refuses nothing for want of the fact, either.
            let asked = policies.requested(rule.id).unwrap_or(Mode::Enforce);
            for candidate in &mut candidates {
                candidate.mode = candidate.mode.min(asked);
            }
            let remedy = match outcome {
                Outcome::Unsaid { remedy, .. } => remedy.clone(),
                Outcome::NotApplicable
                | Outcome::Pass
                | Outcome::Found(_)
                | Outcome::Unknown(_) => {
                    Remedy::note("make the fact readable (network, rights), then ask again")
                }
            };
            let finding = Finding::new(rule.id, Severity::Warn, format!("cannot be judged: {why}"))
                .remedy(remedy);
            (finding, candidates)
        }
    };
    let strongest =
        candidates.into_iter().max_by_key(|it| (strength(it.severity, it.mode), it.severity))?;
    Some(apply(rule, finding, strongest, facts, policies))
}

/// The same for facts that are judged by a limit on trial: nothing weighs more than that policy's mode lets it.
pub(super) fn on_trial(
    rule: &Rule,
    outcome: &Outcome,
    facts: &Assessment<'_>,
    policies: &Policies,
    limit: &Limit<u64>,
) -> Option<Finding> {
    // What is not known does not depend on the lag that is allowed.
    let Outcome::Found(finding) = outcome else { return None };
    let mode = finding.mode.unwrap_or(policies.mode).min(limit.mode);
    let found = Outcome::Found(because_of_lag(finding.clone(), limit).in_mode(mode));
    weighed(rule, &found, facts, policies)
}

/// Says which policy's limit on the lag it rests on.
pub(super) fn because_of_lag(finding: Finding, limit: &Limit<u64>) -> Finding {
    let value = format_args!("{} bytes", limit.value);
    finding.because(limit.source.clone(), "survivors.maxLag", value)
}

/// The one that weighs more; the first where they weigh the same.
pub(super) fn stronger(one: Option<Finding>, other: Option<Finding>) -> Option<Finding> {
    let weight = |finding: &Option<Finding>| {
        finding.as_ref().map(|finding| (!finding.audit_only, finding.severity, finding.on_trial))
    };
    if weight(&other) > weight(&one) { other } else { one }
}

/// How much it comes to: 1 is recorded, 2 is told, 3 refuses.
fn strength(severity: Severity, mode: Mode) -> u8 {
    match (mode, severity) {
        (Mode::Audit, _) => 1,
        (Mode::Warn, _) | (Mode::Enforce, Severity::Warn) => 2,
        (Mode::Enforce, Severity::Deny) => 3,
    }
}

fn base(severity: Severity, policies: &Policies) -> Candidate {
    Candidate { severity, mode: policies.mode, says: None }
}

/// What policies say of a rule. Of policies that could not all be read none may loosen anything.
fn opinions<'a>(rule: &Rule, policies: &'a Policies) -> impl Iterator<Item = &'a Limit<Weight>> {
    policies.rules.get(rule.id.as_str()).into_iter().flatten()
}

fn weight(limit: &Limit<Weight>) -> Option<Severity> {
    match limit.value {
        Weight::Ignore => None,
        Weight::Warn => Some(Severity::Warn),
        Weight::Deny => Some(Severity::Deny),
    }
}

fn spoken(rule: &Rule, limit: &Limit<Weight>, severity: Severity) -> Candidate {
    Candidate { severity, mode: limit.mode, says: Some(says(rule, limit)) }
}

fn says(rule: &Rule, limit: &Limit<Weight>) -> String {
    format!("{} says rules.{}: {:?}", limit.source, rule.id, limit.value)
}

/// `own`, lowered to the strictest of the opinions that are below it; `None` where they ignore it.
fn lowered(rule: &Rule, own: Candidate, policies: &Policies) -> Option<Candidate> {
    if policies.unreadable.is_some() {
        return Some(own);
    }
    let below = opinions(rule, policies).filter(|limit| weight(limit) < Some(own.severity));
    match below.max_by_key(|limit| limit.value) {
        None => Some(own),
        Some(limit) => {
            let severity = weight(limit)?;
            Some(Candidate { severity, says: Some(says(rule, limit)), ..own })
        }
    }
}

/// What a fact that could not be seen means: refused for a shrink, told for growth, unless policies say otherwise. What
/// policies of the namespace say to loosen that counts only for rules that they may lower.
fn unseen(rule: &Rule, direction: Direction, policies: &Policies) -> Vec<Candidate> {
    let own = &policies.own_unknown_down;
    let own = if policies.may_loosen(rule.id.as_str()) { own.as_slice() } else { &[] };
    let (default, opinions, field): (_, Vec<_>, _) = match direction {
        Direction::Down => {
            (Severity::Deny, policies.when_unknown_down.iter().chain(own).collect(), "down")
        }
        Direction::Up => (Severity::Warn, policies.when_unknown_up.iter().collect(), "up"),
        Direction::Create | Direction::Same => return vec![base(Severity::Warn, policies)],
    };
    let spoken = |limit: &Limit<Severity>| {
        format!("{} says whenUnknown.{field}: {:?}", limit.source, limit.value)
    };
    let mut candidates: Vec<_> = opinions
        .iter()
        .copied()
        .filter(|limit| limit.value >= default)
        .map(|limit| Candidate {
            severity: limit.value,
            mode: limit.mode,
            says: Some(spoken(limit)),
        })
        .collect();
    let below = opinions.into_iter().filter(|limit| limit.value < default);
    candidates.push(match below.max_by_key(|limit| limit.value) {
        Some(limit) if policies.unreadable.is_none() => {
            Candidate { says: Some(spoken(limit)), ..base(limit.value, policies) }
        }
        Some(_) | None => base(default, policies),
    });
    candidates
}

/// Returns the weight of a fact that could not be seen on growth, where the installation refuses growth that cannot be
/// judged. It stands beside the policies' weights, so that the stricter of both wins.
fn failing_closed(direction: Direction, policies: &Policies) -> Option<Candidate> {
    let grows = matches!(direction, Direction::Create | Direction::Up);
    (policies.growth_fails_closed && grows).then(|| Candidate {
        severity: Severity::Deny,
        mode: Mode::Enforce,
        says: Some("this installation says growFailurePolicy: Fail".to_owned()),
    })
}

/// The finding with this weight, as far as a repair and the mode let it.
fn apply(
    rule: &Rule,
    mut finding: Finding,
    chosen: Candidate,
    facts: &Assessment<'_>,
    policies: &Policies,
) -> Finding {
    let built_in = finding.mode.is_none() && chosen.says.is_none();
    if chosen.severity != finding.severity || (chosen.says.is_some() && finding.mode.is_none()) {
        finding.severity = chosen.severity;
        finding.severity_reason = chosen.says.or(finding.severity_reason);
    }
    finding.mode = Some(chosen.mode);
    if let Some(repair) = facts.repair()
        && rule.kind != Kind::Bound
        && finding.standing != Standing::Unexcused
        && finding.severity == Severity::Deny
    {
        finding.severity = Severity::Warn;
        finding.severity_reason = Some(repair.reason().to_owned());
    }
    match (chosen.mode, finding.severity) {
        (Mode::Enforce, _) | (Mode::Warn, Severity::Warn) => {}
        (Mode::Warn, Severity::Deny) => {
            finding.severity = Severity::Warn;
            finding.severity_reason = Some(if built_in {
                let sources: Vec<String> =
                    policies.built_in.iter().map(|limit| limit.source.to_string()).collect();
                format!("not refused: built-in rules only warn here ({})", sources.join(", "))
            } else {
                "not refused: the policy is in mode Warn".to_owned()
            });
            finding.on_trial = true;
        }
        (Mode::Audit, severity) => {
            finding.audit_only = true;
            finding.on_trial = severity == Severity::Deny;
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use crate::evaluate;
    use crate::facts::{Facts, Seen};
    use crate::policy::{ClusterScalePolicy, Policies, ScalePolicy};
    use crate::rules::testing::{created, healthy};

    fn policies(specs: &[Value]) -> Policies {
        let named = specs.iter().zip(["a", "b", "c"]);
        let all: Vec<ScalePolicy> = named
            .map(|(spec, name)| {
                ScalePolicy::new(name, serde_json::from_value(spec.clone()).unwrap())
            })
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
            (
                "a pin on trial only warns",
                vec![own("Enforce", "Ignore"), own("Warn", "Deny")],
                "warn!",
            ),
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
            assert_ne!(
                effect(&condemned, rule, &both(&own, &[])),
                "deny",
                "{weight}: the platform"
            );
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
            (
                "enforced beside a stricter trial",
                vec![lag("Enforce", "60"), lag("Warn", "50")],
                "deny",
            ),
        ] {
            assert_eq!(effect(&facts, rule, &policies(&specs)), want, "{name}");
        }
    }
}
