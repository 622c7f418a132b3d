//! Several clusters at once: one table of plans, one question, one table of outcomes, one exit code.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use pgscale_guard::remedy::quoted;
use tokio::sync::Semaphore;

use super::{Agreed, CountRequest, Outcome, Prepared, Stands, act, agree, judge, prepare, resume};
use crate::args::{Acting, DryRun, Format, ReportFormat, Targets};
use crate::document::ScaleReportList;
use crate::error::{Failure, Kind};
use crate::plan::Plan;
use crate::session::Session;
use crate::terminal::text::instances;
use crate::view::batch::{outcomes, plans};
use crate::view::report::markdown;

/// How many clusters are read at a time before anything is done.
const READ_AT_ONCE: usize = 8;

/// One cluster of several.
pub(crate) struct Seat {
    /// Speaks for this cluster.
    session: Session,
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// What is wanted of it.
    wish: CountRequest,
    /// Its plan, or why there is none.
    pub(crate) prepared: Result<Prepared, Failure>,
}

impl Seat {
    /// Why nothing will be done here, where that is so.
    pub(crate) fn refusal(&self) -> Option<&Failure> {
        match &self.prepared {
            Ok(Prepared { stands: Stands::Refused(failure), .. }) | Err(failure) => Some(failure),
            Ok(Prepared { stands: Stands::Nothing | Stands::Ready, .. }) => None,
        }
    }

    /// What comes of it where nothing is done: because of its own state, or else because of `why`.
    fn idle(self, why: &str) -> Outcome {
        idle(self.namespace, self.name, self.prepared, why)
    }

    /// Returns the plan that would be carried out here.
    fn ready(&self) -> Option<&Plan> {
        match &self.prepared {
            Ok(Prepared { plan, stands: Stands::Ready, .. }) => Some(plan),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Carries a wish out for the cluster, or the clusters, that `targets` names.
pub(in crate::commands) async fn run(
    session: &Session,
    targets: &Targets,
    wish: CountRequest,
    acting: &Acting,
) -> Result<(), Failure> {
    if let Some(name) = &targets.name {
        return Box::pin(super::run(session, name, wish, acting)).await;
    }
    let seats = seats(session, targets, wish, acting.dry_run).await?;
    let format = acting.shape.output;
    if matches!(format, Format::Text | Format::Wide) {
        session.out.page(&plans(&seats, session.out.width_of_notes));
    }
    let refused = seats.iter().filter(|seat| seat.refusal().is_some()).count();
    if refused > 0 && targets.stop_on_error {
        let all = format!("{refused} of {} clusters cannot be changed", seats.len());
        let ended = seats.into_iter().map(|seat| seat.idle(&format!("not begun: {all}")));
        return conclude(session, &ended.collect::<Vec<_>>(), acting);
    }
    if acting.dry_run == DryRun::None {
        confirm(session, &seats, acting).await?;
    }
    let ended = carry_out(session, seats, targets, acting).await;
    conclude(session, &ended, acting)
}

async fn seats(
    session: &Session,
    targets: &Targets,
    wish: CountRequest,
    dry_run: DryRun,
) -> Result<Vec<Seat>, Failure> {
    let everywhere = targets.all_namespaces;
    let clusters = session.clusters_of(everywhere, targets.selector.as_deref()).await?;
    if clusters.is_empty() {
        let place = session.place(everywhere);
        return Err(Failure::error(format!("no postgresql clusters found in {place}")));
    }
    let mut seats: Vec<Seat> = stream::iter(clusters)
        .map(async |cluster| {
            let session = session.of(&cluster.namespace, &cluster.name);
            let mut prepared = prepare(&session, &cluster.name, wish, dry_run, false).await;
            if let Ok(Prepared { plan, stands: stands @ Stands::Ready, .. }) = &mut prepared
                && plan.to == 0
            {
                *stands = Stands::Refused(
                    Failure::refused("a change to 0 is confirmed one cluster at a time")
                        .hint_to("this one alone", session.suggest(&["set", &plan.name, "0"])),
                );
            }
            Seat { session, namespace: cluster.namespace, name: cluster.name, wish, prepared }
        })
        .buffer_unordered(READ_AT_ONCE)
        .collect()
        .await;
    seats.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    Ok(seats)
}

/// Asks one question about all clusters: always where the labels found several, because they may
/// have found more than was meant; for a single one as where it is named.
async fn confirm(session: &Session, seats: &[Seat], acting: &Acting) -> Result<(), Failure> {
    let ready: Vec<&Plan> = seats.iter().filter_map(Seat::ready).collect();
    let must_ask =
        seats.len() > 1 || ready.iter().any(|it| it.shrinks() || !it.unjudged().is_empty());
    if ready.is_empty() || !must_ask {
        return Ok(());
    }
    let would = if ready.len() == 1 { "1 cluster" } else { &format!("{} clusters", ready.len()) };
    let why = format!("{would} would be changed");
    agree(session, acting, &question(&ready), &why).await
}

/// Returns the question about `plans`: how many instances are added and removed, and where that was
/// not judged in full.
fn question(plans: &[&Plan]) -> String {
    let clusters = |count: usize| {
        if count == 1 { "1 cluster".to_owned() } else { format!("{count} clusters") }
    };
    let differences = || plans.iter().map(|plan| plan.to - plan.from);
    let (added, removed): (Vec<i64>, Vec<i64>) = (
        differences().filter(|count| *count > 0).collect(),
        differences().filter(|count| *count < 0).map(i64::abs).collect(),
    );
    let mut parts = Vec::new();
    if !added.is_empty() {
        let count = instances(added.iter().sum());
        parts.push(format!("add {count} to {}", clusters(added.len())));
    }
    if !removed.is_empty() {
        let count = instances(removed.iter().sum());
        parts.push(format!("remove {count} from {}", clusters(removed.len())));
    }
    let same = plans.len() - added.len() - removed.len();
    if same > 0 {
        parts.push(format!("write numberOfInstances of {}", clusters(same)));
    }
    let unjudged = plans.iter().filter(|plan| !plan.unjudged().is_empty()).count();
    let although = match unjudged {
        0 => String::new(),
        count => format!(", although not every rule could be judged for {}", clusters(count)),
    };
    let question = format!("{}{although}?", parts.join(" and "));
    let mut letters = question.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}", first.to_ascii_uppercase(), letters.as_str())
    })
}

/// Carries out what stands, so many at a time; each cluster on its own, in the order of the table.
async fn carry_out(
    session: &Session,
    seats: Vec<Seat>,
    targets: &Targets,
    acting: &Acting,
) -> Vec<Outcome> {
    let mut resume_all = session.command("status");
    if targets.all_namespaces {
        resume_all = format!("kubectl pgscale status -A{}", session.flags());
    }
    if let Some(labels) = &targets.selector {
        resume_all = format!("{resume_all} -l {}", quoted(labels));
    }
    session.interruption.means(format!(
        "interrupted; counts that were written stay; see where each cluster is: {resume_all}"
    ));
    let failed = AtomicBool::new(false);
    let turns = Semaphore::new(targets.max_parallel);
    let turns = seats.into_iter().map(async |seat| {
        if seat.refusal().is_some() {
            return seat.idle("");
        }
        // Fair: clusters take their turns in the order of the table.
        let _turn = turns.acquire().await;
        if targets.stop_on_error && failed.load(Ordering::Acquire) {
            return seat.idle("not begun: another cluster failed before");
        }
        let outcome = Box::pin(take(seat, acting)).await;
        if outcome.failure().is_some() {
            failed.store(true, Ordering::Release);
        }
        outcome
    });
    join_all(turns).await
}

async fn take(seat: Seat, acting: &Acting) -> Outcome {
    let Seat { session, namespace, name, wish, prepared } = seat;
    let prepared = match prepared {
        // A shrink is judged anew before it is carried out; growth must be too, after a wait for its turn.
        Ok(shown) if acting.dry_run == DryRun::None && shown.plan.to > shown.plan.from => {
            let now = Box::pin(judge(&session, &name, wish, acting.dry_run, false)).await;
            now.and_then(|now| as_shown(shown, now, acting))
        }
        other => other,
    };
    let outcome = match prepared {
        Ok(prepared @ Prepared { stands: Stands::Nothing, .. }) => {
            // Where nothing was asked for, nobody else waits for it.
            let acting = Acting { wait: false, ..acting.clone() };
            resume(&session, prepared.plan, &acting).await
        }
        Ok(prepared @ Prepared { stands: Stands::Ready, .. }) => {
            Box::pin(act(&session, prepared, acting, None)).await
        }
        refused => idle(namespace, name, refused, ""),
    };
    // In full and at once, under the cluster's name: the table at the end has room for a word.
    for note in outcome.watched.iter().flat_map(|watched| &watched.notes) {
        session.out.note(&format!("note: {note}"));
    }
    if let Some(failure) = outcome.failure() {
        session.out.failure(&failure.clone().reached_by(&session.reach));
    }
    outcome
}

/// `now`, if it is the change that was shown; with what was shown of it beyond the verdict.
fn as_shown(shown: Prepared, now: Prepared, acting: &Acting) -> Result<Prepared, Failure> {
    let of = |plan: &Plan| (plan.uid.clone(), plan.declared, plan.asked);
    if of(&shown.plan) == of(&now.plan) {
        Agreed { unjudged: acting.yes }.covers(&shown.plan, &now.plan)?;
        let plan = Plan { impact: shown.plan.impact, ..now.plan };
        return Ok(Prepared { plan, ..now });
    }
    Err(Failure::refused(format!(
        "the change of postgresql {} is not the one that was shown any more: numberOfInstances would go from {} \
         to {}; nothing was changed",
        now.plan.cluster(),
        now.plan.declared.map_or("unset".to_owned(), |count| count.to_string()),
        now.plan.asked
    )))
}

/// A cluster that nothing is done to: because of its own state, or else because of `why`.
fn idle(
    namespace: String,
    name: String,
    prepared: Result<Prepared, Failure>,
    why: &str,
) -> Outcome {
    match prepared {
        Err(failure) => Outcome { namespace, name, failure: Some(failure), ..Outcome::default() },
        Ok(Prepared { plan, stands: Stands::Refused(failure), .. }) => {
            Outcome::failed(plan, failure)
        }
        Ok(Prepared { plan, stands: Stands::Nothing, .. }) => Outcome::of(plan, "Nothing"),
        Ok(Prepared { plan, stands: Stands::Ready, .. }) => {
            Outcome::failed(plan, Failure::new(Kind::Declined, why))
        }
    }
}

fn conclude(session: &Session, ended: &[Outcome], acting: &Acting) -> Result<(), Failure> {
    match (acting.report, acting.shape.output) {
        (Some(ReportFormat::Md), _) => {
            let pages: Vec<String> = ended.iter().map(markdown).collect();
            session.out.data(&pages.join("\n\n"))?;
        }
        (Some(ReportFormat::Json), _) => {
            session.out.document(Format::Json, &ScaleReportList::of(ended))?;
        }
        (None, format @ (Format::Json | Format::Yaml)) => {
            session.out.document(format, &ScaleReportList::of(ended))?;
        }
        (None, Format::Name) => {
            let done = ended.iter().filter(|outcome| outcome.failure().is_none());
            let names: Vec<String> = done.map(|outcome| super::resource(&outcome.name)).collect();
            if !names.is_empty() {
                session.out.data(&names.join("\n"))?;
            }
        }
        (None, Format::Text | Format::Wide) => session.out.data(&outcomes(ended))?,
    }
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

/// The kind that decides the exit code: what needs a person most comes first.
fn worst(failures: &[&Failure]) -> Option<Kind> {
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

#[cfg(test)]
mod tests;
