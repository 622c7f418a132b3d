//! The reasons for which parts of the facts could not be read, each with the rules that it hides.
//!
//! One missing permission hides many rules, and every rule says so in its own words. A person reads
//! the reason once.

use super::reads::Reads;
use super::{RULES, Read};
use crate::facts::Facts;
use crate::rule_id::RuleId;
use crate::verdict::{Outcome, Verdict};

/// One reason for which parts of the facts could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The reason, such as `list pods in db: forbidden`.
    pub why: String,
    /// The rules that rest on these parts and could not judge, in their order.
    pub rules: Vec<RuleId>,
}

/// Returns the reasons for which rules of `verdict` could not judge, in the order of the parts.
///
/// A rule that lacks parts for several reasons is listed under each one. It judges only when all
/// are gone.
pub fn causes(facts: &Facts, verdict: &Verdict) -> Vec<Cause> {
    let mut reasons: Vec<(&str, Reads)> = Vec::new();
    for read in Read::ALL {
        let Some(why) = facts.why_unread(*read) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, parts)) => *parts = parts.and(&[*read]),
            None => reasons.push((why, Reads::of(&[*read]))),
        }
    }
    let causes = reasons.into_iter().map(|(why, parts)| {
        let mut rules = Vec::new();
        for rule in RULES {
            let lacks = rule.needs(facts).iter().any(|read| parts.contains(read));
            if lacks && is_blind(verdict, rule.id) {
                rules.push(rule.id);
            }
        }
        Cause { why: why.to_owned(), rules }
    });
    causes.filter(|cause| !cause.rules.is_empty()).collect()
}

/// Returns whether the rule could not see a fact that it needs.
fn is_blind(verdict: &Verdict, rule: RuleId) -> bool {
    let judged = verdict.results.iter().find(|result| result.rule == rule);
    judged.is_some_and(|result| matches!(result.outcome, Outcome::Unknown(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policies;
    use crate::rules::evaluate;
    use crate::rules::testing::healthy;

    #[test]
    fn one_cause_is_named_once_with_every_rule_that_it_hides() {
        let facts = healthy(3, 2).only(Reads::NONE, "forbidden");
        let verdict = evaluate(&facts, &Policies::default());
        let causes = causes(&facts, &verdict);
        let whys: Vec<&str> = causes.iter().map(|cause| cause.why.as_str()).collect();
        assert_eq!(whys, ["forbidden"]);
        let unknown = verdict
            .results
            .iter()
            .filter(|result| matches!(result.outcome, Outcome::Unknown(_)))
            .map(|result| result.rule);
        let mut unknown: Vec<RuleId> = unknown.collect();
        unknown.sort_by_key(|id| RULES.iter().position(|rule| rule.id == *id));
        assert_eq!(causes[0].rules, unknown);
    }

    #[test]
    fn rule_is_listed_under_each_of_its_causes_and_no_judged_rule_is() {
        let all = healthy(3, 2);
        let verdict = evaluate(&all, &Policies::default());
        assert_eq!(causes(&all, &verdict), []);
        let mut facts = all;
        facts.leader = crate::facts::Seen::Unreadable("get endpoints in db: forbidden".into());
        facts.claims = crate::facts::Seen::Unreadable("list claims in db: forbidden".into());
        let verdict = evaluate(&facts, &Policies::default());
        let causes = causes(&facts, &verdict);
        let whys: Vec<&str> = causes.iter().map(|cause| cause.why.as_str()).collect();
        assert!(whys.contains(&"get endpoints in db: forbidden"), "{causes:?}");
        for cause in &causes {
            for rule in &cause.rules {
                let result = verdict.results.iter().find(|result| result.rule == *rule);
                assert!(matches!(result.map(|it| &it.outcome), Some(Outcome::Unknown(_))));
            }
        }
    }
}
