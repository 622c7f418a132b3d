//! The canary: one dry run that must be refused, to see who answers.
//!
//! It asks for 0 instances of a cluster for which that is certainly refused, whatever its live
//! state is ([`refused_unseen`]), and for which no override is written. A dry run stores nothing,
//! and the webhook has no side effects on one (`sideEffects: NoneOnDryRun`). Where no cluster is
//! certain, no canary is sent.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use kube::core::Status;
use pgscale_guard::operator::Operator;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::remedy::Command;
use pgscale_guard::rules::{refused_unseen, rule};
use pgscale_guard::{Change, Policies};

use super::registration::logs;
use super::{Case, Finding, Level, Object, fails, weakens};

/// The reason of a refusal without a verdict (`CANNOT_BE_JUDGED`,
/// `webhook/src/admit/decision.rs`).
const CANNOT_BE_JUDGED: &str = "cannot-be-judged";

/// What became of the canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    /// None was sent, for this reason.
    NotSent(String),
    /// It was sent for this cluster, as `NAMESPACE/NAME`.
    Sent(String, Answer),
}

/// The answer to the canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Refused by the webhook, by these rules.
    Refused(Vec<String>),
    /// Let pass.
    Admitted,
    /// The webhook refused it without a verdict, for this reason.
    Unjudged(String),
    /// The API server could not ask the webhook, and said so.
    NotAsked(String),
    /// Any other answer: nothing is known.
    Unclear(String),
}

impl fmt::Display for Canary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(out, "no canary was sent: {why}"),
            Self::Sent(cluster, answer) => {
                write!(out, "a dry run of {cluster} to 0 instances ")?;
                match answer {
                    Answer::Refused(rules) => write!(out, "was refused by {}", rules.join(", ")),
                    Answer::Admitted => write!(out, "passed"),
                    Answer::Unjudged(_) => write!(out, "was refused without a verdict"),
                    Answer::NotAsked(_) => write!(out, "did not reach the webhook"),
                    Answer::Unclear(_) => write!(out, "had no clear answer"),
                }
            }
        }
    }
}

impl Answer {
    /// Returns what the API server's error says. Only its code and its causes are looked at, and no
    /// sentence of its.
    pub(crate) fn of(status: &Status) -> Self {
        let reasons: Vec<&str> = status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .map(|cause| cause.reason.as_str())
            .collect();
        let rules: Vec<String> = reasons
            .iter()
            .filter(|reason| rule(reason).is_some())
            .map(|reason| (*reason).to_owned())
            .collect();
        if !rules.is_empty() {
            return Self::Refused(rules);
        }
        if reasons.contains(&CANNOT_BE_JUDGED) {
            return Self::Unjudged(status.message.clone());
        }
        // `failed calling webhook` is an internal error of the API server
        // (apiserver/pkg/admission/plugin/webhook/errors/statuserror.go and dispatcher.go).
        if [500, 504].contains(&status.code) {
            return Self::NotAsked(status.message.clone());
        }
        Self::Unclear(status.message.clone())
    }
}

/// Returns the change to 0 instances of `cluster`, if it is certainly refused.
pub(crate) fn certain(
    cluster: &Postgresql,
    policies: &Policies,
    operator: Option<&Operator>,
    now: Timestamp,
) -> Option<Change> {
    if cluster.terminating || cluster.instances.unwrap_or(0) < 1 {
        return None;
    }
    let change = Change { dry_run: true, ..Change::of_count(cluster.clone(), 0) };
    refused_unseen(&change, now, policies, operator).map(|_| change)
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let Canary::Sent(cluster, answer) = &case.facts.canary else { return Vec::new() };
    let (namespace, name) = cluster.split_once('/').unwrap_or(("", cluster));
    let object = || Object::within("postgresql", namespace, name);
    let field = "dry run to 0 instances";
    let finding = match answer {
        Answer::Refused(_) => return Vec::new(),
        Answer::Admitted => fails(
            "canary-passed",
            format!(
                "the dry run of {cluster} to 0 instances passed: a change that every rule book \
                 refuses is not refused. The writer may be in the group of break glass"
            ),
        )
        .because(object(), field, "passed")
        .cured(case.restore()),
        Answer::Unjudged(why) => weakens(
            "canary-unjudged",
            format!(
                "the webhook answers, and reached no verdict on the dry run of {cluster}: it \
                 refuses every shrink"
            ),
        )
        .because(object(), field, why)
        .cure_to("see what it lacks", logs(case.home)),
        Answer::NotAsked(why) => fails(
            "canary-unanswered",
            format!(
                "the API server could not ask the webhook about the dry run of {cluster}: it \
                 refuses every shrink, and growth passes unjudged"
            ),
        )
        .because(object(), field, why)
        .cure_to("see whether it runs", logs(case.home)),
        Answer::Unclear(why) => Finding::new(
            Level::Unread,
            "canary-unclear",
            format!(
                "the dry run of {cluster} to 0 instances was refused by another part than the \
                 webhook: whether the webhook answers is unknown"
            ),
        )
        .because(object(), field, why)
        .cure_to(
            "it needs this permission",
            Command::kubectl([
                "auth",
                "can-i",
                "patch",
                "postgresqls.acid.zalan.do",
                "-n",
                namespace,
            ]),
        ),
    };
    vec![finding]
}
