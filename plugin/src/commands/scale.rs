//! The way that `up`, `down`, `set` and `undo` share: plan, show, ask, apply, wait, report.
//!
//! A request becomes one [`Job`] for each cluster that it names. One cluster is a batch of one: it
//! takes the same way, and is shown in full where several are shown as a table.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use pgscale_guard::remedy::Command;
use tokio::sync::Semaphore;

use crate::args::{Acting, DryRun, Targets};
use crate::error::{Failure, Kind};
use crate::execute::Agreed;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::session::Session;
use crate::terminal::Format;
use crate::view::batch::{Planned, plans};
use crate::view::plan::render;

mod agreement;
mod conclude;
mod count;
mod job;

use conclude::conclude_all;
pub(super) use conclude::{conclude, show_notes, worst};
pub(super) use count::CountRequest;
use job::Job;

/// The number of clusters that are read at a time before anything is done.
const READ_AT_ONCE: usize = 8;

/// A change of the count as a person asks for it.
pub(super) struct ScaleRequest {
    /// The count.
    pub(super) count: CountRequest,
    /// The cluster, or the clusters.
    pub(super) targets: Targets,
    /// The manner: questions, waiting, reason, output.
    pub(super) acting: Acting,
    /// The recorded change that it takes back.
    pub(super) undoes: Option<String>,
    /// The count that must be declared before it, if any other one is a reason to stop.
    pub(super) declared: Option<i64>,
}

impl ScaleRequest {
    /// Returns whether it names its only cluster. Labels that find one cluster might have found
    /// more.
    fn by_name(&self) -> bool {
        self.targets.name.is_some()
    }
}

/// Returns `postgresql.acid.zalan.do/NAME`, kubectl's name for the object.
pub(super) fn resource(name: &str) -> String {
    format!("postgresql.acid.zalan.do/{name}")
}

/// Returns whether the plan is shown beside a result in this format.
fn is_shown(format: Format) -> bool {
    matches!(format, Format::Text | Format::Wide)
}

/// Carries a request out for every cluster that it names.
pub(super) async fn run(session: &Session, request: &ScaleRequest) -> Result<(), Failure> {
    if request.acting.expect_plan.is_some() && !request.by_name() {
        return Err(Failure::usage("--expect-plan is about one plan: name the cluster"));
    }
    let jobs = Box::pin(jobs(session, request)).await?;
    show(session, request, &jobs);
    let refused = jobs.iter().filter(|job| job.refusal().is_some()).count();
    if refused > 0 && request.targets.stop_on_error {
        let why = format!("not begun: {refused} of {} clusters cannot be changed", jobs.len());
        let end = |job: Job| job.end(|| Failure::new(Kind::Declined, why.as_str()));
        let ended: Vec<Outcome> = jobs.into_iter().map(end).collect();
        return conclude_all(session, request, &ended, None);
    }
    match agreement::seek(session, request, &jobs).await {
        Ok(agreed) => {
            let ended = carry_out(session, request, jobs, agreed).await;
            conclude_all(session, request, &ended, None)
        }
        Err(declined) => {
            let ended = jobs.into_iter().map(|job| job.end(|| declined.clone()));
            conclude_all(session, request, &ended.collect::<Vec<_>>(), Some(declined))
        }
    }
}

/// Judges a request for the cluster `name`. Returns the plan, and why it must not be carried out if
/// so.
///
/// # Errors
/// There is no plan.
pub(super) async fn judge(
    session: &Session,
    name: &str,
    request: &ScaleRequest,
) -> Result<(Plan, Option<Failure>), Failure> {
    Ok(job::judge(session, name, request).await?.judged())
}

/// Carries a request for one cluster out, and returns its outcome instead of printing it. No person
/// has seen the plan: where a rule could not be judged, nothing is done.
///
/// # Errors
/// Where there is no plan, or where a rule could not be judged.
pub(super) async fn unattended(
    session: &Session,
    request: &ScaleRequest,
) -> Result<Outcome, Failure> {
    let jobs = Box::pin(jobs(session, request)).await?;
    show(session, request, &jobs);
    if let Some(plan) = jobs.iter().filter_map(Job::ready).find(|it| !it.unjudged().is_empty()) {
        return Err(Failure::refused(format!(
            "postgresql {} stays at {}: {} could not be judged",
            plan.cluster(),
            crate::terminal::text::instances(plan.from),
            plan.unjudged().join(", ")
        )));
    }
    let agreed = agreement::seek(session, request, &jobs).await?;
    let mut ended = Box::pin(carry_out(session, request, jobs, agreed)).await;
    ended.pop().ok_or_else(|| Failure::error("there is no cluster to change"))
}

/// Prepares one job for each cluster that is named.
///
/// # Errors
/// `Error` where there is no cluster. The failure of the only cluster, by name, if there is no plan
/// for it.
async fn jobs(session: &Session, request: &ScaleRequest) -> Result<Vec<Job>, Failure> {
    let Targets { name, selector, all_namespaces, .. } = &request.targets;
    if let Some(name) = name {
        let job = Box::pin(Job::prepare(session.clone(), name.clone(), request)).await;
        return match &job.prepared {
            Ok(_) => Ok(vec![job]),
            Err(failure) => Err(failure.clone()),
        };
    }
    let clusters = session.clusters_of(*all_namespaces, selector.as_deref()).await?;
    if clusters.is_empty() {
        let place = session.place(*all_namespaces);
        return Err(Failure::error(format!("no postgresql clusters found in {place}")));
    }
    let mut places: Vec<_> = clusters.into_iter().map(|it| (it.namespace, it.name)).collect();
    places.sort();
    let jobs = stream::iter(places)
        .map(|(namespace, name)| Job::prepare(session.of(&namespace, &name), name, request));
    Ok(jobs.buffered(READ_AT_ONCE).collect().await)
}

/// Shows the plans to the person before the first act. They do not go to stdout, which is for the
/// result.
fn show(session: &Session, request: &ScaleRequest, jobs: &[Job]) {
    let format = request.acting.shape.output;
    let width = session.out.width_of_notes;
    let text = match jobs {
        _ if !is_shown(format) => return,
        [job] if request.by_name() => {
            let Some((plan, impact)) = job.to_show() else { return };
            render(plan, impact, format == Format::Wide, width)
        }
        jobs => {
            let planned: Vec<Planned<'_>> = jobs.iter().map(Job::planned).collect();
            plans(&planned, format == Format::Wide, width)
        }
    };
    session.out.page(&text);
    session.out.note_consent(jobs.iter().flat_map(Job::ways_out));
}

/// Carries out the jobs that stand, so many at a time: each cluster on its own, in the order of the
/// table.
async fn carry_out(
    session: &Session,
    request: &ScaleRequest,
    jobs: Vec<Job>,
    agreed: Agreed,
) -> Vec<Outcome> {
    let targets = &request.targets;
    if !request.by_name() && request.acting.dry_run == DryRun::None {
        session.interrupted_means(
            "interrupted; counts that were written stay",
            "see where each cluster is",
            see_all(session, targets),
        );
    }
    let several = jobs.len() > 1;
    let failed = AtomicBool::new(false);
    let turns = Semaphore::new(targets.max_parallel);
    let jobs = jobs.into_iter().map(async |job| {
        if job.refusal().is_some() {
            return job.end(|| Failure::new(Kind::Declined, "not begun"));
        }
        // Fair: clusters take their turns in the order of the table.
        let _turn = turns.acquire().await;
        if targets.stop_on_error && failed.load(Ordering::Acquire) {
            let why = "not begun: another cluster failed before";
            return job.end(|| Failure::new(Kind::Declined, why));
        }
        let outcome = Box::pin(job.run(request, agreed, several)).await;
        if outcome.failure().is_some() {
            failed.store(true, Ordering::Release);
        }
        outcome
    });
    join_all(jobs).await
}

/// Returns the command that shows all clusters that labels chose.
fn see_all(session: &Session, targets: &Targets) -> Command {
    let labels = targets.selector.as_deref().map(|labels| ["-l", labels]);
    let words: Vec<&str> = ["status"].into_iter().chain(labels.into_iter().flatten()).collect();
    if targets.all_namespaces {
        Command::kubectl(["pgscale"].into_iter().chain(words).chain(["-A"]))
    } else {
        session.suggest(&words)
    }
}

#[cfg(test)]
mod tests;
