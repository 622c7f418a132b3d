//! The printed end of changes.

use super::ScaleRequest;
use crate::args::ReportFormat;
use crate::document::{ScaleReport, ScaleReportList};
use crate::error::{Failure, Kind};
use crate::outcome::Outcome;
use crate::session::Session;
use crate::terminal::Format;
use crate::view::batch::outcomes;
use crate::view::effect::effect;
use crate::view::report::markdown;

/// Prints the notes of an outcome: they are worth knowing and no failure.
pub(in crate::commands) fn show_notes(session: &Session, outcome: &Outcome) {
    for note in outcome.watched.iter().flat_map(|watched| &watched.notes) {
        session.out.note(&format!("note: {note}"));
    }
}

/// Prints the outcome of one change in the requested format, and ends as the change ended.
pub(in crate::commands) fn conclude(
    session: &Session,
    outcome: &Outcome,
    format: Format,
    report: Option<ReportFormat>,
) -> Result<(), Failure> {
    let out = &session.out;
    let document = || ScaleReport::of(outcome);
    match (report, format) {
        (Some(ReportFormat::Md), _) => out.data(&markdown(outcome))?,
        (Some(ReportFormat::Json), _) => out.document(Format::Json, &document())?,
        (None, Format::Json | Format::Yaml) => out.document(format, &document())?,
        (None, Format::Name | Format::Text | Format::Wide) if outcome.failure().is_some() => {}
        (None, Format::Text | Format::Wide) => {
            out.said(&outcome.said)?;
            if let Some(measured) = &outcome.effect {
                out.data(&effect(measured, out.width))?;
            }
        }
        (None, Format::Name) => out.data(&super::resource(&outcome.name))?,
    }
    match outcome.failure() {
        Some(failure) => Err(failure.clone()),
        None => Ok(()),
    }
}

/// Prints the outcomes of all jobs in the requested format, and ends as they ended: as the only one
/// did, or else as the one that needs a person most. Where a person `declined`, nothing was begun.
pub(super) fn conclude_all(
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
        return conclude(session, outcome, format, report);
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
        (None, Format::Text | Format::Wide) => {
            out.data(&outcomes(ended, out.width))?;
            for outcome in ended {
                if let Some(measured) = &outcome.effect {
                    let title = format!("\n{}/{}", outcome.namespace, outcome.name);
                    out.data(&format!("{title}\n{}", effect(measured, out.width)))?;
                }
            }
        }
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
        let message = &outcome.failure()?.message;
        Some(format!("  {}/{}: {message}", outcome.namespace, outcome.name))
    }));
    Err(Failure::new(kind, lines.join("\n")))
}

/// Returns the kind that decides the exit code: the one that needs a person most.
pub(in crate::commands) fn worst(failures: &[&Failure]) -> Option<Kind> {
    const BY_WEIGHT: [Kind; 9] = [
        Kind::NotAsPlanned,
        Kind::Reverted,
        Kind::Error,
        Kind::Timeout,
        Kind::Refused,
        Kind::Usage,
        Kind::Interrupted,
        Kind::Declined,
        Kind::Differs,
    ];
    BY_WEIGHT.into_iter().find(|kind| failures.iter().any(|failure| failure.kind == *kind))
}
