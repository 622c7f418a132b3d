//! What came of changes, and how it is printed.

use std::time::Duration;

use super::ScaleRequest;
use crate::args::{Format, ReportFormat};
use crate::document::{Move, ScalePlan, ScaleReport, ScaleReportList};
use crate::error::{Failure, Kind};
use crate::execute::Done;
use crate::history::{Entry, Recording, seconds};
use crate::plan::Plan;
use crate::session::Session;
use crate::view::batch::outcomes;
use crate::view::report::markdown;
use crate::watch::Watched;

/// What came of a change.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// One line for people, where nothing failed.
    pub(crate) said: String,
    /// The word of the report, where nothing failed.
    pub(crate) result: &'static str,
    /// What failed before there was anything to watch.
    pub(crate) failure: Option<Failure>,
    /// The plan, where there was one.
    pub(crate) plan: Option<Plan>,
    /// What was done, however it ended.
    pub(crate) done: Done,
    /// How the wait ended, where there was one.
    pub(crate) watched: Option<Watched>,
    /// What is kept of it, where it was recorded.
    pub(crate) entry: Option<Entry>,
}

impl Outcome {
    /// A plan that came to `result`.
    pub(crate) fn of(plan: Plan, result: &'static str) -> Self {
        Self {
            namespace: plan.namespace.clone(),
            name: plan.name.clone(),
            result,
            plan: Some(plan),
            ..Self::default()
        }
    }

    /// A plan that came to nothing.
    pub(crate) fn failed(plan: Plan, failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::of(plan, "Failed") }
    }

    /// What failed, whenever it did.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        let watched = self.watched.as_ref().and_then(|watched| watched.failure.as_ref());
        self.failure.as_ref().or(watched)
    }

    /// How it ended, in the report's word.
    pub(crate) fn word(&self) -> &'static str {
        self.failure().map_or(self.result, |failure| failure.kind.word())
    }

    /// Completes the record of a change that took so long in all.
    pub(super) async fn record(
        &mut self,
        session: &Session,
        mut recording: Recording,
        took: Duration,
    ) {
        let entry = &mut recording.entry;
        self.word().clone_into(&mut entry.result);
        entry.seconds = Some(seconds(took));
        entry.written = self.done.count.written();
        entry.led(&self.done.lead);
        if let Some(failure) = self.failure() {
            entry.failed(&failure.message);
        }
        if let Some(watched) = &self.watched {
            entry.leader_changes = Some(watched.leader_changes);
            entry.worst_lag_bytes = watched.worst_lag;
            entry.leaderless_seconds = Some(seconds(watched.leaderless));
        }
        self.entry = Some(recording.end(session).await);
    }

    /// The document of it.
    pub(crate) fn report(&self) -> ScaleReport<'_> {
        let mut report = ScaleReport::new(&self.namespace, &self.name);
        report.result = self.word();
        if let Some(failure) = self.failure() {
            report.message = Some(&failure.message);
            report.exit_code = failure.kind.code();
        }
        report.plan = self.plan.as_ref().map(ScalePlan::of);
        let switchover = self.done.lead.switchover();
        report.leader_moved = switchover.map(|(leader_move, moved)| Move::made(leader_move, moved));
        if let Some(watched) = &self.watched {
            report.missing = &watched.missing;
            report.events = &watched.events;
            report.timeline = &watched.timeline;
            report.notes = &watched.notes;
            report.seconds = watched.events.last().map_or(0.0, |event| event.seconds);
        }
        report.record = self.entry.as_ref();
        report
    }

    /// Says what is worth knowing and no failure.
    pub(crate) fn show_notes(&self, session: &Session) {
        for note in self.watched.iter().flat_map(|watched| &watched.notes) {
            session.out.note(&format!("note: {note}"));
        }
    }

    /// Prints it, in the format that was asked for, and ends as it ended.
    pub(crate) fn conclude(
        &self,
        session: &Session,
        format: Format,
        report: Option<ReportFormat>,
    ) -> Result<(), Failure> {
        match (report, format) {
            (Some(ReportFormat::Md), _) => session.out.data(&markdown(self))?,
            (Some(ReportFormat::Json), _) => session.out.document(Format::Json, &self.report())?,
            (None, Format::Json | Format::Yaml) => session.out.document(format, &self.report())?,
            (None, Format::Name | Format::Text | Format::Wide) if self.failure().is_some() => {}
            (None, Format::Text | Format::Wide) => session.out.said(&self.said)?,
            (None, Format::Name) => session.out.data(&super::resource(&self.name))?,
        }
        match self.failure() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }
}

/// Prints what came of all jobs, in the format that was asked for, and ends as they ended: as the
/// only one did, or else as the one that needs a person most. Where a person `declined`, nothing
/// was begun.
pub(super) fn conclude(
    session: &Session,
    request: &ScaleRequest,
    ended: &[Outcome],
    declined: Option<Failure>,
) -> Result<(), Failure> {
    let (out, acting) = (&session.out, &request.acting);
    let (format, report) = (acting.shape.output, acting.report);
    if let [outcome] = ended
        && request.by_name()
    {
        return outcome.conclude(session, format, report);
    }
    let document = || ScaleReportList::of(ended);
    match (report, format) {
        (Some(ReportFormat::Md), _) => {
            let pages: Vec<String> = ended.iter().map(markdown).collect();
            out.data(&pages.join("\n\n"))?;
        }
        (Some(ReportFormat::Json), _) => out.document(Format::Json, &document())?,
        (None, Format::Json | Format::Yaml) => out.document(format, &document())?,
        (None, Format::Name | Format::Text | Format::Wide) if declined.is_some() => {}
        (None, Format::Name) => {
            let done = ended.iter().filter(|outcome| outcome.failure().is_none());
            let names: Vec<String> = done.map(|outcome| super::resource(&outcome.name)).collect();
            if !names.is_empty() {
                out.data(&names.join("\n"))?;
            }
        }
        (None, Format::Text | Format::Wide) => out.data(&outcomes(ended))?,
    }
    match declined {
        Some(declined) => Err(declined),
        None => together(ended),
    }
}

/// Ends as all jobs ended together.
fn together(ended: &[Outcome]) -> Result<(), Failure> {
    let failures: Vec<&Failure> = ended.iter().filter_map(Outcome::failure).collect();
    let Some(kind) = worst(&failures) else { return Ok(()) };
    let mut lines =
        vec![format!("{} of {} clusters are not what was asked for", failures.len(), ended.len())];
    lines.extend(ended.iter().filter_map(|outcome| {
        let line = outcome.failure()?.message.lines().next().unwrap_or_default();
        let cluster = format!("{}/{}", outcome.namespace, outcome.name);
        // Most say it themselves.
        let whom = if line.contains(&cluster) { String::new() } else { format!("{cluster}: ") };
        Some(format!("  {whom}{line}"))
    }));
    Err(Failure::new(kind, lines.join("\n")))
}

/// Returns the kind that decides the exit code: what needs a person most comes first.
pub(super) fn worst(failures: &[&Failure]) -> Option<Kind> {
    const BY_WEIGHT: [Kind; 8] = [
        Kind::NotAsPlanned,
        Kind::Reverted,
        Kind::Error,
        Kind::Timeout,
        Kind::Refused,
        Kind::Usage,
        Kind::Interrupted,
        Kind::Declined,
    ];
    BY_WEIGHT.into_iter().find(|kind| failures.iter().any(|failure| failure.kind == *kind))
}
