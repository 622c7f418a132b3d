//! The history of real clusters, and the guard's verdict on it.

use crate::facts::{Claim, Facts, Seen};
use crate::policy::Policies;
use crate::rule_id::RuleId;
use crate::rules::testing::{judged, lowered};
use crate::verdict::Verdict;

/// Makes a test of each of these functions, and lists them for the properties that need their
/// situations. A function that is not named here is dead code.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        pub(super) const SCENARIOS: &[fn()] = &[$($name),+];

        #[cfg(test)]
        mod tests {
            $(
                #[test]
                fn $name() {
                    super::$name();
                }
            )+
        }
    };
}

mod copies;
mod leader;
mod limits;
mod repairs;
mod rescues;

/// Goes through every scenario.
pub(super) fn run() {
    let all = [
        copies::SCENARIOS,
        leader::SCENARIOS,
        limits::SCENARIOS,
        repairs::SCENARIOS,
        rescues::SCENARIOS,
    ];
    for scenario in all.concat() {
        scenario();
    }
}

fn verdict(facts: &Facts) -> Verdict {
    judged(facts, &Policies::default())
}

const LEADER_CONDEMNED: &str = RuleId::LEADER_CONDEMNED.as_str();

fn denials(facts: &Facts) -> Vec<&'static str> {
    verdict(facts).denials().map(|finding| finding.rule.as_str()).collect()
}

fn warnings(facts: &Facts) -> Vec<&'static str> {
    verdict(facts).warnings().map(|finding| finding.rule.as_str()).collect()
}

/// Returns the denials where the platform leaves the leader to the operator's own switchover.
fn denials_lowered(facts: &Facts) -> Vec<&'static str> {
    judged(facts, &lowered()).denials().map(|finding| finding.rule.as_str()).collect()
}

/// Returns the warnings there, without the one about the leader's deletion.
fn warnings_lowered(facts: &Facts) -> Vec<&'static str> {
    let verdict = judged(facts, &lowered());
    let rules = verdict.warnings().map(|finding| finding.rule.as_str());
    rules.filter(|rule| *rule != LEADER_CONDEMNED).collect()
}

/// Returns facts with the claims of all five members, with this room.
fn bound(mut facts: Facts, capacity: Option<u64>) -> Facts {
    let claim = |ordinal| {
        let name = format!("pgdata-acid-a-{ordinal}");
        Claim { name, ordinal, capacity, ..Claim::default() }
    };
    facts.claims = Seen::Known((0..5).map(claim).collect());
    facts
}
