//! The hash of a plan, so that a person or a program can act on the plan that another one looked
//! at, and on no other (`--expect-plan`).

use std::fmt;
use std::fmt::Write as _;

use pgscale_guard::Facts;
use pgscale_guard::facts::{Health, Member};
use pgscale_guard::verdict::Severity;
use sha2::{Digest as _, Sha256};

use crate::plan::{Plan, Step};

/// The first line of the hashed text. It changes with the meaning of the text, so that no hash of
/// another version fits by chance.
const VERSION: &str = "pgscale plan 1";
/// The bytes of the digest that are printed. People compare them, and paste them.
const PRINTED: usize = 8;

/// The hash of what a plan decides and of what it rests on.
///
/// It covers the cluster's identity, the counts, the leader, the health of every member in a word,
/// the steps, and every finding of the rules by its id and severity. It covers no position, no lag
/// and no time, and not the candidate of a switchover: on a busy cluster these change at every
/// look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanHash(String);

impl PlanHash {
    /// Returns the hash of `plan`, which was made from `facts`, with the health of every member.
    pub(crate) fn of<'a>(
        plan: &Plan,
        facts: &'a Facts,
        health: impl Fn(&'a Member) -> Health,
    ) -> Self {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn fmt::Display| {
            // Length first: no value can look like the next line.
            let value = value.to_string();
            writeln!(text, "{key} {} {value}", value.len()).ok();
        };
        line("version", &VERSION);
        line("uid", &plan.uid);
        let declared = plan.declared.map_or_else(|| "unset".to_owned(), |count| count.to_string());
        line("declared", &declared);
        line("count", &plan.count);
        line("from", &plan.from);
        line("to", &plan.to);
        line("leader", &plan.leader.as_deref().unwrap_or_default());
        let mut members: Vec<_> = facts.all_members().iter().collect();
        members.sort_by_key(|member| member.ordinal);
        for member in members {
            line("member", &member.name);
            line("health", &word(&health(member)));
        }
        for step in &plan.steps {
            line("step", &described(step));
        }
        let mut found: Vec<_> = plan
            .verdict
            .findings
            .iter()
            .filter(|finding| !finding.audit_only)
            .map(|finding| {
                let severity = match finding.severity {
                    Severity::Warn => "warns",
                    Severity::Deny => "denies",
                };
                (finding.rule.as_str(), severity)
            })
            .collect();
        found.sort_unstable();
        for (rule, severity) in found {
            line("rule", &rule);
            line("severity", &severity);
        }
        let digest = Sha256::digest(text.as_bytes());
        let printed = digest.iter().take(PRINTED).fold(String::new(), |mut printed, byte| {
            write!(printed, "{byte:02x}").ok();
            printed
        });
        Self(printed)
    }

    /// Reads a hash from the command line.
    ///
    /// # Errors
    /// It is not as long as a hash is, or has other characters.
    pub(crate) fn read(word: &str) -> Result<Self, String> {
        let word = word.trim();
        let digits = word.chars().all(|it| it.is_ascii_hexdigit() && !it.is_ascii_uppercase());
        if word.len() == 2 * PRINTED && digits {
            return Ok(Self(word.to_owned()));
        }
        Err(format!("a plan's hash has {} digits, 0-9 and a-f: see plan -o json", 2 * PRINTED))
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn word(health: &Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Unhealthy(_) => "unhealthy",
        Health::Unknown(_) => "unknown",
    }
}

fn described(step: &Step) -> String {
    match step {
        Step::Checkpoint(member) => format!("checkpoint on {member}"),
        Step::MoveLeader(from, _) => format!("move the leader off {from}"),
        Step::SetCount(count) => format!("set {count}"),
        Step::AskAgain(count) => format!("ask again for {count}"),
        Step::Converge(count) => format!("converge on {count}"),
    }
}

#[cfg(test)]
mod tests {
    use pgscale_guard::facts::Live;
    use pgscale_guard::patroni::Answer;
    use pgscale_guard::{Policies, Seen};

    use super::*;
    use crate::testing::facts;

    fn hash(facts: &Facts) -> PlanHash {
        Plan::of(facts, &Policies::default()).hash
    }

    /// Returns the facts with every position moved on by `bytes`.
    fn later(mut facts: Facts, bytes: u64) -> Facts {
        if let Seen::Known(members) = &mut facts.members {
            for member in members {
                if let Live::Answered(answer) = &mut member.live {
                    let Answer { location, received, replayed, .. } = answer;
                    for position in [location, received, replayed] {
                        *position = position.map(|position| position + bytes);
                    }
                }
            }
        }
        facts
    }

    #[test]
    fn hash_stays_while_only_positions_move() {
        let first = hash(&facts(3, 2, 2));
        assert_eq!(first, hash(&facts(3, 2, 2)));
        assert_eq!(first, hash(&later(facts(3, 2, 2), 1 << 20)));
        assert_eq!(PlanHash::read(&first.to_string()), Ok(first));
    }

    #[test]
    fn hash_changes_with_everything_that_a_plan_decides() {
        let first = facts(3, 2, 0);
        let moved = facts(3, 2, 1);
        let another_count = facts(3, 4, 0);
        let mut unfit = first.clone();
        if let Seen::Known(members) = &mut unfit.members {
            members[1].pod.terminating = true;
        }
        let mut unread = first.clone();
        unread.failover = Seen::Unreadable("forbidden".to_owned());
        let mut another = first.clone();
        another.change.new.uid = "another".to_owned();
        if let Some(old) = &mut another.change.old {
            old.uid = "another".to_owned();
        }
        let all = [first, moved, another_count, unfit, unread, another];
        let mut hashes: Vec<String> = all.iter().map(|facts| hash(facts).to_string()).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), all.len());
    }

    #[test]
    fn words_that_are_no_hash_are_refused() {
        for word in ["", "abc", "0123456789abcdeg", "0123456789ABCDEF", "0123456789abcdef0"] {
            assert!(PlanHash::read(word).is_err(), "{word}");
        }
    }
}
