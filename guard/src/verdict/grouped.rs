//! Findings that say the same, said once.
//!
//! A fact that could not be read hides many rules. A person reads one cause with the rules behind
//! it, and not the same sentence for each rule.

use std::fmt;

use super::{Finding, Severity};
use crate::evidence;
use crate::remedy::Line;
use crate::rule_id::RuleId;

/// The findings of one or several rules that are equal but for the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped<'a> {
    /// The rules, in their order.
    pub rules: Vec<RuleId>,
    /// The first finding, which speaks for all.
    pub finding: &'a Finding,
}

/// Groups findings by what they say, in the order of the first of each group.
pub fn grouped<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<Grouped<'a>> {
    let mut groups: Vec<Grouped<'a>> = Vec::new();
    for finding in findings {
        match groups.iter_mut().find(|group| says_the_same(group.finding, finding)) {
            Some(group) => group.rules.push(finding.rule),
            None => groups.push(Grouped { rules: vec![finding.rule], finding }),
        }
    }
    groups
}

fn says_the_same(one: &Finding, other: &Finding) -> bool {
    let said = |it: &Finding| -> (Severity, bool) { (it.severity, it.audit_only) };
    said(one) == said(other)
        && one.message == other.message
        && one.evidence == other.evidence
        && one.remedy == other.remedy
        && one.severity_reason == other.severity_reason
}

impl Grouped<'_> {
    /// Returns the ids of the rules.
    pub fn ids(&self) -> String {
        self.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the group line by line: the rules with the message, the evidence, the reason for the
    /// severity, and the remedy.
    pub fn lines(&self) -> Vec<Line> {
        let Finding { message, evidence, severity_reason, remedy, .. } = self.finding;
        let mut lines = vec![Line::Text(format!("{}: {message}", self.ids()))];
        let evidence = evidence::lines(evidence).into_iter();
        lines.extend(evidence.map(|line| Line::Text(format!("  {line}"))));
        lines.extend(severity_reason.iter().map(|why| Line::Text(format!("  ({why})"))));
        lines.extend(remedy.iter().flat_map(|remedy| remedy.behind("  Try:")));
        lines
    }
}

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Line::Text(line) | Line::Command(line)) in self.lines().iter().enumerate() {
            let begins = if index == 0 { "" } else { "\n" };
            write!(out, "{begins}{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_ref::{Kind, ObjectRef};
    use crate::policy::Policies;
    use crate::rules::testing::healthy;
    use crate::rules::{Reads, evaluate};

    #[test]
    fn one_cause_is_said_once_with_every_rule_that_it_hides() {
        let facts = healthy(3, 2).only(Reads::NONE, "no answer within 2s");
        let verdict = evaluate(&facts, &Policies::default());
        let groups = grouped(verdict.denials());
        let rules: usize = groups.iter().map(|group| group.rules.len()).sum();
        assert_eq!(rules, verdict.denials().count(), "no rule is left out");
        let mut messages: Vec<&str> =
            groups.iter().map(|group| group.finding.message.as_str()).collect();
        messages.sort_unstable();
        messages.dedup();
        assert_eq!(messages.len(), groups.len());
        let pods = groups.iter().find(|group| group.rules.contains(&RuleId::NO_LEADER)).unwrap();
        assert!(pods.rules.contains(&RuleId::SURVIVORS_DRAINING), "{pods}");
        assert!(groups.len() < 10, "{}", groups.len());
    }

    #[test]
    fn findings_that_differ_in_anything_that_is_read_stand_alone() {
        let base = || Finding::deny(RuleId::PAUSED, "cannot be judged");
        let object = || ObjectRef::new(Kind::ConfigMap, "acid-a-config");
        let findings = [
            base(),
            Finding::warn(RuleId::PAUSED, "cannot be judged"),
            Finding::deny(RuleId::NO_LEADER, "cannot be judged, too"),
            base().because(object(), "pause", "true"),
            base().remedy("kubectl pgscale status acid-a"),
            Finding { severity_reason: Some("a policy".into()), ..base() },
            Finding { audit_only: true, ..base() },
        ];
        assert_eq!(grouped(&findings).len(), findings.len());
        let same = [base(), Finding::deny(RuleId::NO_LEADER, "cannot be judged")];
        insta::assert_snapshot!(grouped(&same)[0], @"paused, no-leader: cannot be judged");
    }
}
