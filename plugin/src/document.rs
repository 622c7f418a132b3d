//! The objects of `-o json` and `-o yaml`: versioned, and apart from our own types, so that those
//! may change.

use std::collections::BTreeMap;

use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::remedy::Remedy;
use pgscale_guard::verdict::Finding;
use serde::Serialize;

use crate::execute::switchover::Moved;
use crate::history::Entry;
use crate::impact::Impact;
use crate::outcome::Outcome;
use crate::plan::{LeaderMove, Outcome as PlanOutcome, Plan, Step};
use crate::watch::{self, Milestone};
use effect::EffectDocument;
use impact::{CommitDocument, ImpactDocument, RuleDocument};

mod autoscale;
mod doctor;
mod effect;
mod impact;
mod lint;
mod list;
mod policy;
mod program;
mod reads;
#[cfg(test)]
mod schemas;
mod status;
mod top;
mod verify;

pub(crate) use autoscale::AutoscaleDecision;
pub(crate) use doctor::GuardDiagnosis;
pub(crate) use lint::{ClusterSnapshot, LintReport, Sarif};
pub(crate) use list::ScaleVerificationList;
pub(crate) use policy::{
    EffectivePolicy, NamespaceBudget, PolicyTest, Spent, Tried, Verdicts, Violation,
};
pub(crate) use program::{Program, RuleList};
pub(crate) use status::{ScaleStatus, ScaleStatusList};
pub(crate) use top::ClusterUsageList;
pub(crate) use verify::ScaleVerification;

/// `apiVersion` of every object we print.
pub(crate) const API_VERSION: &str = "pgscale.dev/v1alpha1";

/// The cluster that an object is about.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Identity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
    /// The version that was read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) resource_version: String,
}

impl Metadata {
    /// Returns the metadata of a cluster as it was read.
    pub(crate) fn of(cluster: &Postgresql) -> Self {
        Self {
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            uid: cluster.uid.clone(),
            resource_version: cluster.resource_version.clone(),
        }
    }
}

/// `kind: ScalePlan`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScalePlan<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ScalePlan")))]
    kind: &'static str,
    metadata: Metadata,
    /// `Ready`, `Refused` or `Nothing`.
    outcome: &'static str,
    /// The hash of what the plan decides and rests on, without positions, lags and times, for
    /// `--expect-plan`.
    hash: String,
    declared: Option<i64>,
    asked: i64,
    from: i64,
    to: i64,
    running: Option<i64>,
    leader: Option<&'a str>,
    leader_move: Option<Move<'a>>,
    leaving: Vec<Passing<'a>>,
    coming: Vec<Passing<'a>>,
    /// The number of members that come beyond those in `coming`.
    #[serde(skip_serializing_if = "is_zero")]
    coming_besides: i64,
    unfit: BTreeMap<&'a str, &'a str>,
    steps: Vec<StepDocument<'a>>,
    findings: Vec<&'a Finding>,
    /// Every rule, those included that found nothing.
    rules: Vec<RuleDocument<'a>>,
    /// The first of `nearestAllowed`.
    alternative: Option<i64>,
    /// Of a plan that is refused: the nearest counts in the direction asked for that would be
    /// allowed now, the one that changes less first.
    nearest_allowed: Vec<i64>,
    other_writers: &'a [String],
    /// The rules that refuse a plain write of the same count as long as the leader has not moved.
    plain_write_refused_by: &'a [&'static str],
    /// The next command. Of a plan that is refused, it asks for the nearest counts. Where a plain
    /// write would be refused, it moves the leader first.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Remedy>,
    /// The value to commit where others write the count too.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<CommitDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impact: Option<ImpactDocument<'a>>,
}

/// A switchover.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Move<'a> {
    from: &'a str,
    to: &'a str,
    why: &'a str,
    /// The longest time for which writes may have stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_seconds: Option<f64>,
}

impl<'a> Move<'a> {
    /// Returns the document of a planned switchover.
    pub(crate) fn of(leader_move: &'a LeaderMove) -> Self {
        Self {
            from: &leader_move.from,
            to: &leader_move.to,
            why: &leader_move.why,
            pause_seconds: None,
        }
    }

    /// Returns the document of a switchover that took place.
    pub(crate) fn made(leader_move: &'a LeaderMove, moved: &Moved) -> Self {
        let pause_seconds = moved.pause.map(|pause| pause.as_secs_f64());
        Self { pause_seconds, ..Self::of(leader_move) }
    }
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Passing<'a> {
    pod: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    claim: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "action")]
enum StepDocument<'a> {
    AskAgain { instances: i64 },
    Checkpoint { member: &'a str },
    Converge { instances: i64 },
    MoveLeader { from: &'a str, to: &'a str },
    SetCount { instances: i64 },
}

impl<'a> ScalePlan<'a> {
    /// Returns the document of a plan, and of its impact where that was read.
    pub(crate) fn of(plan: &'a Plan, impact: Option<&'a Impact>) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "ScalePlan",
            metadata: Metadata {
                namespace: plan.namespace.clone(),
                name: plan.name.clone(),
                uid: plan.uid.clone(),
                resource_version: plan.resource_version.clone(),
            },
            outcome: match plan.outcome() {
                PlanOutcome::Nothing => "Nothing",
                PlanOutcome::Ready => "Ready",
                PlanOutcome::Refused => "Refused",
            },
            hash: plan.hash.to_string(),
            declared: plan.declared,
            asked: plan.count,
            from: plan.from,
            to: plan.to,
            running: plan.running,
            leader: plan.leader.as_deref(),
            leader_move: plan.leader_move.as_ref().map(Move::of),
            leaving: plan
                .leaving
                .iter()
                .map(|member| Passing {
                    pod: &member.pod,
                    role: Some(member.role.word()),
                    state: Some(&member.state),
                    claim: member.claim.as_deref(),
                })
                .collect(),
            coming: plan
                .coming
                .iter()
                .map(|member| Passing {
                    pod: &member.pod,
                    role: None,
                    state: None,
                    claim: member.claim.as_deref(),
                })
                .collect(),
            coming_besides: plan.coming_besides,
            unfit: plan
                .unfit
                .iter()
                .map(|unfit| (unfit.pod.as_str(), unfit.why.as_str()))
                .collect(),
            steps: plan.steps.iter().map(step).collect(),
            findings: plan.verdict.findings.iter().filter(|found| !found.audit_only).collect(),
            rules: RuleDocument::all(plan),
            alternative: plan.nearest.counts().next(),
            nearest_allowed: plan.nearest.counts().collect(),
            other_writers: &plan.other_writers,
            plain_write_refused_by: &plan.plain_write_refused_by,
            next: plan.next(),
            commit: CommitDocument::of(plan),
            impact: impact.map(ImpactDocument::of),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

fn step(step: &Step) -> StepDocument<'_> {
    match step {
        Step::Checkpoint(member) => StepDocument::Checkpoint { member },
        Step::MoveLeader(from, to) => StepDocument::MoveLeader { from, to },
        Step::SetCount(count) => StepDocument::SetCount { instances: *count },
        Step::AskAgain(count) => StepDocument::AskAgain { instances: *count },
        Step::Converge(count) => StepDocument::Converge { instances: *count },
    }
}

/// `kind: ScaleReport`: the end of a plan.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleReport<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ScaleReport")))]
    kind: &'static str,
    metadata: Metadata,
    /// `Converged`, `Changed` (not waited for), `Nothing`, `Refused`, `DryRun`, `Failed`,
    /// `TimedOut`, `NotAsPlanned`, `Reverted`, `Declined`.
    pub(crate) result: &'static str,
    /// The exit code of the program.
    pub(crate) exit_code: u8,
    /// The failure, where there is one.
    pub(crate) message: Option<String>,
    /// The plan that the program set out to carry out.
    pub(crate) plan: Option<ScalePlan<'a>>,
    /// The switchover that took place.
    pub(crate) leader_moved: Option<Move<'a>>,
    /// The count that a switchover was for, once it is admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admitted: Option<&'a Admitted>,
    /// The conditions that are still missing for convergence.
    pub(crate) missing: &'a [String],
    /// The events, each with its time in seconds from the start.
    events: Vec<Event<'a>>,
    /// The times at which each new member reached each phase.
    timeline: Vec<MemberTimeline<'a>>,
    /// Facts that are worth knowing and no failure.
    pub(crate) notes: &'a [String],
    /// The duration of the change.
    pub(crate) seconds: f64,
    /// The figures of each member before and after it, where they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<EffectDocument<'a>>,
    /// The entry in the cluster's history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<&'a Entry>,
}

/// A count that every rule admits now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Admitted {
    /// The number of instances.
    pub(crate) instances: i64,
    /// The same in words, for people.
    #[serde(skip)]
    pub(crate) said: String,
    /// The next step.
    pub(crate) next: Remedy,
    /// The consequence for writers that are no people.
    #[serde(skip)]
    pub(crate) note: Option<String>,
}

/// `kind: ScaleReportList`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleReportList<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<ScaleReport<'a>>,
}

impl<'a> ScaleReportList<'a> {
    /// Returns the document of several changes that ended.
    pub(crate) fn of(ended: &'a [Outcome]) -> Self {
        let items = ended.iter().map(ScaleReport::of).collect();
        Self { api_version: API_VERSION, kind: "ScaleReportList", items }
    }
}

/// An event of a change.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Event<'a> {
    /// Seconds from the start.
    seconds: f64,
    /// The event in words.
    what: &'a str,
}

/// The phases of one new member.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MemberTimeline<'a> {
    /// The member.
    member: &'a str,
    /// The phases that it reached, in that order. A phase that no look saw is left out.
    phases: Vec<Reached>,
}

/// A phase that was reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Reached {
    /// `PodCreated`, `Scheduled`, `ContainerStarted`, `ReplicationConfigured`, `BaseBackup`,
    /// `Streaming` or `InService`.
    phase: &'static str,
    /// Seconds from the write of the count.
    seconds: f64,
}

fn timeline(timeline: &watch::MemberTimeline) -> MemberTimeline<'_> {
    let reached = |(milestone, seconds): &(Milestone, f64)| Reached {
        phase: match milestone {
            Milestone::Created => "PodCreated",
            Milestone::Scheduled => "Scheduled",
            Milestone::Started => "ContainerStarted",
            Milestone::Configured => "ReplicationConfigured",
            Milestone::BaseBackup => "BaseBackup",
            Milestone::Streaming => "Streaming",
            Milestone::InService => "InService",
        },
        seconds: *seconds,
    };
    let phases = timeline.reached.iter().map(reached).collect();
    MemberTimeline { member: &timeline.member, phases }
}

impl<'a> ScaleReport<'a> {
    /// Returns an empty report on one cluster.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "ScaleReport",
            metadata: Metadata {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: String::new(),
                resource_version: String::new(),
            },
            result: "Nothing",
            exit_code: 0,
            message: None,
            plan: None,
            leader_moved: None,
            admitted: None,
            missing: &[],
            events: Vec::new(),
            timeline: Vec::new(),
            notes: &[],
            seconds: 0.0,
            effect: None,
            record: None,
        }
    }

    /// Returns the document of a change that ended.
    pub(crate) fn of(outcome: &'a Outcome) -> Self {
        let mut report = Self::new(&outcome.namespace, &outcome.name);
        report.result = outcome.word();
        if let Some(failure) = outcome.failure() {
            report.message = Some(failure.text());
            report.exit_code = failure.kind.code();
        }
        let impact = outcome.impact.as_deref();
        report.plan = outcome.plan.as_ref().map(|plan| ScalePlan::of(plan, impact));
        let switchover = outcome.done.lead.switchover();
        report.leader_moved = switchover.map(|(leader_move, moved)| Move::made(leader_move, moved));
        if let Some(watched) = &outcome.watched {
            let events = watched.events.iter();
            report.missing = &watched.missing;
            report.events =
                events.map(|it| Event { seconds: it.seconds, what: &it.what }).collect();
            report.timeline = watched.timeline.iter().map(timeline).collect();
            report.notes = &watched.notes;
            report.seconds = watched.events.last().map_or(0.0, |event| event.seconds);
        }
        report.effect = outcome.effect.as_deref().map(EffectDocument::of);
        report.record = outcome.entry.as_ref();
        report
    }
}

/// `kind: ScaleHistory`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleHistory<'a> {
    api_version: &'static str,
    kind: &'static str,
    /// The cluster, where it is one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    /// Newest first.
    items: &'a [Entry],
}

/// `kind: ScaleHistoryList`: the histories of several clusters.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleHistoryList<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ScaleHistoryList")))]
    kind: &'static str,
    items: Vec<ScaleHistory<'a>>,
}

impl<'a> ScaleHistoryList<'a> {
    /// Returns the document of several histories.
    pub(crate) fn of(items: Vec<ScaleHistory<'a>>) -> Self {
        Self { api_version: API_VERSION, kind: "ScaleHistoryList", items }
    }
}

impl<'a> ScaleHistory<'a> {
    /// Returns the document of recorded changes.
    pub(crate) fn of(items: &'a [Entry]) -> Self {
        Self { api_version: API_VERSION, kind: "ScaleHistory", metadata: None, items }
    }

    /// The same, with the name of its cluster.
    pub(crate) fn about(self, namespace: &str, name: &str) -> Self {
        let metadata = Metadata {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
            resource_version: String::new(),
        };
        Self { metadata: Some(metadata), ..self }
    }
}
