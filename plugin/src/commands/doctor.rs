//! `doctor`: does the guard hold?

use crate::args::Shape;
use crate::doctor::{Diagnosis, Verdict, diagnose, read};
use crate::document::GuardDiagnosis;
use crate::error::{Failure, Kind};
use crate::session::Session;
use crate::terminal::Format;
use crate::view::doctor::{render, verdict};

/// Check the guard itself: is it on, who answers, what would get past it, and who may.
///
/// Looks at the registration and its conditions, the certificates by the API server's clock, the
/// webhook's Deployment, Service and network, the definitions, the operators, the policies,
/// autoscalers that point at a cluster, and everyone's permissions. A canary shows that a change is
/// really refused: a dry run of one cluster to 0 instances, for which that is certain. Nothing is
/// written.
///
/// Each finding has an id, which docs/doctor.md explains, and the commands that cure it. Needs the
/// permission to read the whole cluster. What could not be read is a finding.
///
/// Ends with 0 where the guard holds, with 5 where it does not, and with 1 where that cannot be
/// judged.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale doctor
  kubectl pgscale doctor -o wide      the notes as well: who may pass the guard
  kubectl pgscale doctor -o json | jq '.findings[].id'")]
pub(crate) struct Args {
    /// Send no canary, which needs the permission to patch a cluster.
    ///
    /// The verdict then rests on everything else.
    #[arg(long)]
    no_canary: bool,
    #[command(flatten)]
    shape: Shape,
}

/// Looks at everything and prints the findings.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    session.interruption.means("interrupted; nothing is changed by looking");
    let diagnosis = examined(session, !args.no_canary).await?;
    print(session, args.shape.output, &diagnosis)?;
    concluded(&diagnosis)
}

/// Looks at everything, with a canary where that is wanted.
pub(super) async fn examined(session: &Session, canary: bool) -> Result<Diagnosis, Failure> {
    let broken =
        |why: String| Failure::error(format!("the chart in this program is broken: {why}"));
    let facts = Box::pin(read::facts(session, canary)).await.map_err(broken)?;
    Ok(diagnose(&facts).map_err(broken)?.reached_by(&session.reach))
}

/// Returns the end of a command that asked whether the guard holds.
pub(super) fn concluded(diagnosis: &Diagnosis) -> Result<(), Failure> {
    match diagnosis.verdict() {
        Verdict::Holds => Ok(()),
        Verdict::DoesNotHold => Err(Failure::new(Kind::NotAsPlanned, verdict(diagnosis))),
        Verdict::CannotBeJudged => Err(Failure::error(verdict(diagnosis))),
    }
}

/// Prints the findings.
pub(super) fn print(
    session: &Session,
    format: Format,
    diagnosis: &Diagnosis,
) -> Result<(), Failure> {
    match format {
        Format::Name => {
            let ids: Vec<&str> = diagnosis.findings.iter().map(|finding| finding.id).collect();
            if ids.is_empty() { Ok(()) } else { session.out.data(&ids.join("\n")) }
        }
        Format::Text | Format::Wide => {
            session.out.data(&render(diagnosis, format == Format::Wide, session.out.width))
        }
        Format::Json | Format::Yaml => session.out.document(format, &GuardDiagnosis::of(diagnosis)),
    }
}
