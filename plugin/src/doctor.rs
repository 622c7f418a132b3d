//! `doctor`: does the guard hold, what would get past it, and who may. Facts of the installation
//! in, findings out.
//!
//! [`read`] is the edge: it lists and gets, and sends one dry run. [`diagnose`] is pure. The
//! expected objects are those of the chart that this program was built with ([`shipped`]), so that
//! doctor and chart cannot disagree. `docs/doctor.md` lists every finding, and a test holds both
//! lists together.

use std::fmt;

use pgscale_guard::printable::printable;
use pgscale_guard::remedy::{Command, Reach, Remedy};
use serde::Serialize;

use facts::Facts;
pub(crate) use image::{tag as tag_of_image, version as version_of_image};
use shipped::Shipped;
pub(crate) use shipped::definitions as shipped_definitions;

mod autoscalers;
pub(crate) mod canary;
mod certificates;
pub(crate) mod definitions;
pub(crate) mod facts;
mod fences;
mod image;
mod network;
mod operators;
mod policies;
pub(crate) mod read;
mod registration;
mod rights;
mod services;
pub(crate) mod shipped;
mod unread;
mod who;
mod workload;

/// The weight of a finding, the heaviest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Level {
    /// Changes pass unjudged, or no change can be judged.
    Fails,
    /// A part could not be read, so nothing is known about it.
    Unread,
    /// The guard holds. It is less safe, or less available, than it could be.
    Weakens,
    /// The guard holds. This is worth knowing, such as who may pass it.
    Note,
}

/// The answer to the question whether the guard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Verdict {
    /// Every change is judged.
    Holds,
    /// Changes pass unjudged, or no change can be judged.
    DoesNotHold,
    /// A part could not be read.
    CannotBeJudged,
}

/// An object of Kubernetes, as evidence names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Object {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
}

impl Object {
    /// Returns an object of the whole cluster. The kind is spelled as kubectl takes it.
    pub(crate) fn global(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, namespace: None, name: printable(&name.into()) }
    }

    /// Returns an object of a namespace.
    pub(crate) fn within(
        kind: &'static str,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self { namespace: Some(printable(&namespace.into())), ..Self::global(kind, name) }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(out, "{} {namespace}/{}", self.kind, self.name),
            None => write!(out, "{} {}", self.kind, self.name),
        }
    }
}

/// One fact that a finding rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Evidence {
    object: Object,
    /// The part of the object. Absent where the object as a whole is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    value: String,
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(out, "{}: {field}: {}", self.object, self.value),
            None => write!(out, "{}: {}", self.object, self.value),
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Finding {
    /// Its id, which never changes: the anchor of its row in `docs/doctor.md`.
    pub(crate) id: &'static str,
    pub(crate) level: Level,
    /// What is wrong, and what follows from it.
    pub(crate) message: String,
    pub(crate) evidence: Vec<Evidence>,
    /// The commands that cure it.
    pub(crate) remedy: Remedy,
}

impl Finding {
    fn new(level: Level, id: &'static str, message: impl Into<String>) -> Self {
        let message = printable(&message.into());
        Self { id, level, message, evidence: Vec::new(), remedy: Remedy::default() }
    }

    /// Adds that `field` of `object` holds `value`.
    #[must_use]
    fn because(mut self, object: Object, field: &str, value: impl fmt::Display) -> Self {
        let value = printable(&value.to_string());
        self.evidence.push(Evidence { object, field: Some(printable(field)), value });
        self
    }

    /// Adds what is true of `object` as a whole, such as that it is not there.
    #[must_use]
    fn of(mut self, object: Object, value: impl fmt::Display) -> Self {
        let value = printable(&value.to_string());
        self.evidence.push(Evidence { object, field: None, value });
        self
    }

    /// Adds the command that cures it.
    #[must_use]
    fn cure(mut self, command: Command) -> Self {
        self.remedy = self.remedy.or(command);
        self
    }

    /// Adds a command, with its purpose.
    #[must_use]
    fn cure_to(mut self, why: impl Into<String>, command: Command) -> Self {
        self.remedy = self.remedy.or_to(why, command);
        self
    }

    /// Adds all commands of `remedy`.
    #[must_use]
    fn cured(mut self, remedy: Remedy) -> Self {
        self.remedy = self.remedy.and(remedy);
        self
    }
}

fn fails(id: &'static str, message: impl Into<String>) -> Finding {
    Finding::new(Level::Fails, id, message)
}

fn weakens(id: &'static str, message: impl Into<String>) -> Finding {
    Finding::new(Level::Weakens, id, message)
}

fn note(id: &'static str, message: impl Into<String>) -> Finding {
    Finding::new(Level::Note, id, message)
}

/// All findings, the heaviest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) findings: Vec<Finding>,
    /// What became of the canary, in one sentence.
    pub(crate) canary: String,
}

impl Diagnosis {
    /// Returns whether the guard holds.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.findings.iter().map(|finding| finding.level).min() {
            Some(Level::Fails) => Verdict::DoesNotHold,
            Some(Level::Unread) => Verdict::CannotBeJudged,
            Some(Level::Weakens | Level::Note) | None => Verdict::Holds,
        }
    }

    /// Returns the findings of this weight.
    pub(crate) fn of(&self, level: Level) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.level == level)
    }

    /// Adds the flags by which the caller reached the API server to every command.
    #[must_use]
    pub(crate) fn reached_by(mut self, reach: &Reach) -> Self {
        for finding in &mut self.findings {
            finding.remedy = std::mem::take(&mut finding.remedy).reached_by(reach);
        }
        self
    }
}

/// The facts, and what they are compared with.
struct Case<'a> {
    facts: &'a Facts,
    shipped: Shipped,
    /// The namespace of the webhook. The placeholder of help where it is not known.
    home: &'a str,
}

impl Case<'_> {
    /// Returns the command that upgrades the release, with `more` at its end.
    fn upgrade(&self, more: &[&str]) -> Command {
        let words = ["pgscale", "upgrade", "-n", self.home];
        let other = self.facts.release().filter(|release| *release != "pgscale");
        let release = other.map(|release| format!("--release={release}"));
        let more = release.as_deref().into_iter().chain(more.iter().copied());
        Command::kubectl(words.into_iter().chain(more))
    }

    /// Returns the command that puts back what the release has: everything that was changed or
    /// deleted past Helm. It takes nothing from the fields that the webhook writes.
    fn restore(&self) -> Remedy {
        let release = self.facts.release().unwrap_or("pgscale");
        let stored = Command::program(["helm", "get", "manifest", release, "-n", self.home]);
        let apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-"];
        Remedy::to(
            "put back what the Helm release has (under GitOps: sync it instead)",
            stored.piped_into(apply),
        )
    }
}

/// Returns everything that is wrong with the installation, or worth knowing about it.
///
/// # Errors
/// The chart inside this program cannot be read.
pub(crate) fn diagnose(facts: &Facts) -> Result<Diagnosis, String> {
    let home = facts.home.as_deref().unwrap_or("NAMESPACE");
    let shipped = Shipped::of(home, &facts.listed_accounts().unwrap_or_default())?;
    let case = Case { facts, shipped, home };
    let checks: [fn(&Case<'_>) -> Vec<Finding>; 14] = [
        unread::findings,
        registration::findings,
        certificates::findings,
        canary::findings,
        workload::findings,
        services::findings,
        network::findings,
        definitions::findings,
        fences::findings,
        operators::findings,
        policies::findings,
        autoscalers::findings,
        rights::findings,
        who::findings,
    ];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(&case)).collect();
    findings.sort_by_key(|finding| finding.level);
    Ok(Diagnosis { findings, canary: facts.canary.to_string() })
}

#[cfg(test)]
mod tests;
