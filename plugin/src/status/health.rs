//! The state of a cluster in one line and in a few numbers, for the eye that looks first.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pgscale_guard::Seen;
use pgscale_guard::facts::{Facts, Health, Live};
use serde_json::Value;

use super::{Severity, Status};
use crate::diagnosis::Cause;
use crate::members::{Role, lag_bytes, reported_lag, waits_for_restart};

/// The state of a cluster in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// No member leads: nothing can be written.
    Down,
    /// It runs, and something is missing or wrong.
    Degraded,
    /// Something could not be read, and nothing that was read is wrong.
    Unknown,
    /// It is asked to run no instance, and runs none.
    Stopped,
    /// Nothing is missing, and everything was read.
    Healthy,
}

impl Word {
    /// Returns the word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "DOWN",
            Self::Degraded => "DEGRADED",
            Self::Unknown => "UNKNOWN",
            Self::Stopped => "STOPPED",
            Self::Healthy => "HEALTHY",
        }
    }
}

/// The state of a cluster in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headline {
    /// The word.
    pub(crate) word: Word,
    /// The faults, or the facts that are not known.
    pub(crate) reasons: Vec<String>,
    /// Points that deserve a look although nothing is missing.
    pub(crate) warnings: Vec<String>,
}

impl Headline {
    /// Returns what is wrong or deserves a look, the likeliest cause first. The screen of a cluster
    /// begins with the first ones, and a list names the first one.
    pub(crate) fn points(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().chain(&self.warnings).map(String::as_str)
    }
}

impl Status {
    /// Returns the state of the cluster in one line. Nothing that could not be read is taken as
    /// fine.
    pub(crate) fn headline(&self) -> Headline {
        let facts = &self.snapshot.facts;
        let known = self.missing.iter().filter(|line| !self.unread.contains(line));
        let mut reasons: Vec<String> = known.cloned().collect();
        let warnings = self.warnings();
        let word = if self.severity() == Severity::NoLeader {
            reasons = vec!["no member leads, nothing can be written".to_owned()];
            Word::Down
        } else if !reasons.is_empty() {
            // A cause says more than what it leads to.
            if !self.why.is_empty() {
                reasons = self.why.iter().map(|cause| cause.what.clone()).collect();
            }
            Word::Degraded
        } else if !self.missing.is_empty() {
            reasons.clone_from(&self.missing);
            Word::Unknown
        } else if self.severity() == Severity::Unknown {
            reasons = vec!["the members or the leader could not be read".to_owned()];
            Word::Unknown
        } else if facts.to() == 0 {
            Word::Stopped
        } else {
            Word::Healthy
        };
        Headline { word, reasons, warnings }
    }

    /// Returns what deserves a look although nothing is missing for convergence.
    fn warnings(&self) -> Vec<String> {
        let facts = &self.snapshot.facts;
        let mut all = Vec::new();
        match &facts.configuration {
            Seen::Known(configuration) if configuration.paused => {
                all.push("Patroni is paused, no member takes over".to_owned());
            }
            Seen::Known(_) => {}
            Seen::Absent if facts.to() == 0 => {}
            Seen::Absent => all.push("Patroni has no configuration".to_owned()),
            Seen::Unreadable(why) => {
                all.push(format!("whether Patroni is paused is not known: {why}"));
            }
        }
        match pending_restarts(facts).as_slice() {
            [] => {}
            [one] => all.push(format!("{one} waits for a restart")),
            several => all.push(format!("{} wait for a restart", several.join(", "))),
        }
        if let Some(detail) = &self.detail {
            all.extend(self.snapshot.services.unchecked(&facts.change.new.name));
            if let Ok(flow) = &detail.vitals.flow
                && flow.archive.fails()
            {
                all.push("WAL archiving fails".to_owned());
            }
        }
        // A count that the operator limits is no lack, and has a cause. The pause is named above.
        if self.missing.is_empty() {
            let of_the_pause = |cause: &&Cause| {
                cause.evidence.iter().any(|fact| fact.field.as_deref() == Some("pause"))
            };
            let causes = self.why.iter().filter(|cause| !of_the_pause(cause));
            all.extend(causes.map(|cause| cause.what.clone()));
        }
        all
    }

    /// Returns the number of members that are healthy, and the number that there should be. In a
    /// list no member is asked, so the first is by the members' reports. `None` where the pods could
    /// not be listed.
    pub(crate) fn healthy(&self) -> (Option<usize>, i64) {
        let facts = &self.snapshot.facts;
        let assessment = facts.assessment();
        let healthy = facts.members.unreadable().is_none().then(|| {
            facts.survivors().filter(|it| assessment.health(it) == Health::Healthy).count()
        });
        (healthy, facts.to())
    }
}

/// Returns the bytes that the replica lacks that is furthest behind: by its answer, or else by its
/// report. `None` where no position is known.
pub(crate) fn worst_lag(facts: &Facts) -> Option<u64> {
    let replicas = facts.survivors().filter(|it| Role::of(facts, it) != Role::Leader);
    replicas.filter_map(|it| lag_bytes(facts, it).or_else(|| reported_lag(facts, it))).max()
}

/// Returns the members whose PostgreSQL waits for a restart.
pub(crate) fn pending_restarts(facts: &Facts) -> Vec<&str> {
    let members = facts.all_members().iter();
    members.filter(|it| waits_for_restart(it)).map(|it| it.name.as_str()).collect()
}

/// Returns a bound of a disruption budget: a number of pods, or a part of them.
pub(crate) fn bound_of_pods(bound: &IntOrString) -> String {
    match bound {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

/// The version of PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// The versions that members run, by their own answers. Several during an upgrade.
    pub(crate) running: Vec<String>,
    /// `spec.postgresql.version`.
    pub(crate) declared: Option<String>,
}

impl Version {
    /// Returns the version of a cluster.
    pub(crate) fn of(facts: &Facts) -> Self {
        let answered = facts.all_members().iter().filter_map(|member| match &member.live {
            Live::Answered(answer) => answer.server_version,
            Live::NotAsked | Live::Silent(_) => None,
        });
        let mut running: Vec<u32> = answered.collect();
        running.sort_unstable();
        running.dedup();
        Self {
            running: running.into_iter().map(spelled).collect(),
            declared: facts
                .change
                .new
                .spec
                .pointer("/postgresql/version")
                .and_then(Value::as_str)
                .map(str::to_owned),
        }
    }
}

/// Returns `server_version_num` as people write it: 150004 is 15.4, and 90624 is 9.6.24.
fn spelled(number: u32) -> String {
    match number {
        100_000.. => format!("{}.{}", number / 10_000, number % 10_000),
        _ => format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_spelled_as_postgresql_spells_them() {
        for (number, want) in [(150_004, "15.4"), (170_000, "17.0"), (90_624, "9.6.24")] {
            assert_eq!(spelled(number), want);
        }
    }
}
