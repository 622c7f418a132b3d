//! What `up`, `down` and `set` have in common: plan, show, ask, apply, wait, report.

use std::collections::BTreeSet;

use pgscale_guard::change::Direction;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Change, Facts, Policies};
use tokio::time::Instant;

use crate::apply::{Applied, apply, ask_server};
use crate::args::{Acting, DryRun, Format};
use crate::error::{Failure, Kind};
use crate::output::document::{Move, ScalePlan, ScaleReport};
use crate::output::plan::render;
use crate::output::text::instances;
use crate::plan::{Outcome as PlanOutcome, Plan};
use crate::session::Session;
use crate::watch::{Goal, Watched, watch};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// So many more, or fewer where negative, than run.
    By(i64),
    /// So many.
    Exactly(i64),
    /// So many, which must lie in this direction.
    Towards(Direction, i64),
}

/// What came of it, for the report.
pub(super) struct Outcome {
    /// The word of the report where nothing failed.
    pub(super) result: &'static str,
    /// The plan, where there was one.
    pub(super) plan: Option<Plan>,
    /// What was done.
    pub(super) applied: Option<Applied>,
    /// How the wait ended, where there was one.
    pub(super) watched: Option<Watched>,
}

/// `postgresql.acid.zalan.do/NAME`: what kubectl calls it.
pub(super) fn resource(name: &str) -> String {
    format!("postgresql.acid.zalan.do/{name}")
}

/// Carries a wish out.
pub(super) async fn run(
    session: &Session,
    name: &str,
    wish: Wish,
    acting: &Acting,
) -> Result<(), Failure> {
    let (plan, facts) = plan(session, name, wish).await?;
    let format = acting.shape.output;
    let target = (plan.namespace.clone(), plan.name.clone());
    let finish = |said: &str, outcome: Outcome| {
        conclude(session, &target.0, &target.1, format, said, outcome)
    };
    if let Some(failure) = held_by_limits(session, wish, &plan, facts.direction()) {
        show(session, &plan, format);
        report(session, &target.0, &target.1, format, Some(&failure), |report| {
            report.plan = Some(ScalePlan::of(&plan));
        })?;
        return Err(failure);
    }
    match plan.outcome() {
        PlanOutcome::Nothing => return resume(session, plan, acting).await,
        PlanOutcome::Refused => {
            show(session, &plan, format);
            let failure = refusal(session, &plan);
            report(session, &target.0, &target.1, format, Some(&failure), |report| {
                report.plan = Some(ScalePlan::of(&plan));
            })?;
            return Err(failure);
        }
        PlanOutcome::Ready => show(session, &plan, format),
    }
    let change = format!("from {} to {}", plan.from, instances(plan.to));
    let outcome =
        |plan: Plan, result| Outcome { result, plan: Some(plan), applied: None, watched: None };
    match acting.dry_run {
        DryRun::Client => {
            let said = format!("postgresql/{name} scaled {change} (dry run)");
            return finish(&said, outcome(plan, "DryRun"));
        }
        DryRun::Server => {
            if plan.leader_move.is_some() {
                session.out.warning(
                    "the server judges the count alone: a dry run does not move the leader first",
                );
            }
            ask_server(session, &plan).await?;
            let said = format!("postgresql/{name} scaled {change} (server dry run)");
            return finish(&said, outcome(plan, "DryRun"));
        }
        DryRun::None => {}
    }
    confirm(session, &plan, acting).await?;
    let start = Instant::now();
    let applied = apply(session, plan, &facts).await?;
    session.interruption.means(format!(
        "interrupted; the change goes on; resume: {}",
        session.command(&format!("wait {name}"))
    ));
    session.out.note(&format!("numberOfInstances is {}", applied.plan.asked));
    if !acting.wait {
        session.out.note(&format!("wait for it: {}", session.command(&format!("wait {name}"))));
        let said = format!("postgresql/{name} scaled {change}; not waited for");
        let plan = Some(applied.plan.clone());
        return finish(
            &said,
            Outcome { result: "Changed", plan, applied: Some(applied), watched: None },
        );
    }
    let watched = watch(session, &Goal::of_plan(&applied.plan), acting.patience.timeout).await;
    let said =
        format!("postgresql/{name} scaled {change} in {:.0} s", start.elapsed().as_secs_f64());
    let plan = Some(applied.plan.clone());
    finish(
        &said,
        Outcome { result: "Converged", plan, applied: Some(applied), watched: Some(watched) },
    )
}

/// Reads the cluster and plans the wish.
async fn plan(session: &Session, name: &str, wish: Wish) -> Result<(Plan, Facts), Failure> {
    let cluster = session.cluster(name).await?;
    if cluster.terminating {
        return Err(Failure::error(format!(
            "postgresql {}/{name} is being deleted",
            cluster.namespace
        )));
    }
    let declared = cluster.instances.unwrap_or(0);
    let (guess, whom) = match wish {
        Wish::By(by) if by < 0 => (declared.saturating_add(by).max(0), AskWhom::All),
        Wish::By(by) => (declared.saturating_add(by), AskWhom::AsNeeded),
        Wish::Towards(Direction::Down, count) => (count, AskWhom::All),
        Wish::Exactly(count) | Wish::Towards(_, count) => (count, AskWhom::AsNeeded),
    };
    let change = Change::of_count(cluster.clone(), guess);
    let (mut facts, policies): (Facts, Policies) = session.facts(change, whom).await;
    session.show_warnings();
    // Relative to what runs, and that is known only now: the operator's limits are applied silently.
    let count = wanted(session, wish, name, declared, facts.from().unwrap_or(declared))?;
    facts.change = Change::of_count(cluster, count);
    Ok((Plan::of(&facts, &policies), facts))
}

/// The count a wish comes to, where `from` instances run and `declared` are asked for.
fn wanted(
    session: &Session,
    wish: Wish,
    name: &str,
    declared: i64,
    from: i64,
) -> Result<i64, Failure> {
    let wrong = |count: i64, than: &str| {
        Failure::usage(format!("{count} is not {than} than the {} of {name}", instances(from)))
            .hint(format!("use {}", session.command(&format!("set {name} {count}"))))
    };
    match wish {
        // What is declared already is no wrong direction: the same command, cut off before, resumes.
        Wish::Towards(Direction::Up, count) if count <= from && count != declared => {
            Err(wrong(count, "more"))
        }
        Wish::Towards(Direction::Down, count) if count >= from && count != declared => {
            Err(wrong(count, "fewer"))
        }
        Wish::Exactly(count) | Wish::Towards(_, count) => Ok(count),
        Wish::By(by) => {
            let count = from.saturating_add(by);
            if count < 0 {
                return Err(Failure::usage(format!(
                    "{name} runs {}; {} cannot be removed",
                    instances(from),
                    by.unsigned_abs()
                )));
            }
            if count > i64::from(i32::MAX) {
                return Err(Failure::usage(format!(
                    "{count} is above {}, the most the field numberOfInstances (int32) can hold",
                    i32::MAX
                )));
            }
            Ok(count)
        }
    }
}

/// Why a wish for more, or for fewer, would change the number and nothing else: the operator applies its limits
/// silently, and runs what it runs. Where a rule refuses the plan anyway, its words are the better ones.
fn held_by_limits(
    session: &Session,
    wish: Wish,
    plan: &Plan,
    direction: Direction,
) -> Option<Failure> {
    let wanted = match wish {
        Wish::By(by) if by < 0 => Direction::Down,
        Wish::By(_) => Direction::Up,
        Wish::Towards(_, count) if plan.declared == Some(count) => return None,
        Wish::Towards(wanted, _) => wanted,
        Wish::Exactly(_) => return None,
    };
    if direction == wanted || plan.outcome() == PlanOutcome::Refused {
        return None;
    }
    let declared = plan.declared.map_or("unset".to_owned(), |count| count.to_string());
    Some(
        Failure::refused(format!(
            "postgresql {} stays at {}: operator-limits: {} instances asked for (declared: {declared}), and \
             within its limits the operator would run {}; nothing was changed",
            plan.cluster(),
            instances(plan.from),
            plan.asked,
            plan.to
        ))
        .hint("change min_instances or max_instances of the operator, and restart it")
        .hint(format!(
            "to declare what runs: {}",
            session.command(&format!("set {} {}", plan.name, plan.from))
        )),
    )
}

/// The count is there already; a change that was cut off may still be on its way.
async fn resume(session: &Session, plan: Plan, acting: &Acting) -> Result<(), Failure> {
    let (namespace, name) = (plan.namespace.clone(), plan.name.clone());
    let count = instances(plan.asked);
    let format = acting.shape.output;
    let quiet = acting.dry_run != DryRun::None || !acting.wait;
    let outcome =
        |result, watched| Outcome { result, plan: Some(plan.clone()), applied: None, watched };
    let said = format!("postgresql/{name} asks for {count} already; nothing to do");
    if quiet {
        return conclude(session, &namespace, &name, format, &said, outcome("Nothing", None));
    }
    // Nobody is excused: a member that is not fit now may be one that an unfinished change still waits for.
    let goal = Goal { removed: Vec::new(), unfit: BTreeSet::new(), ..Goal::of_plan(&plan) };
    session.interruption.means("interrupted; nothing was changed");
    let once = watch(session, &goal, std::time::Duration::ZERO).await;
    if once.failure.is_none() {
        return conclude(session, &namespace, &name, format, &said, outcome("Nothing", Some(once)));
    }
    session.out.note(&format!(
        "postgresql/{name} asks for {count} already and has not converged; waiting ..."
    ));
    let watched = watch(session, &goal, acting.patience.timeout).await;
    let said = format!("postgresql/{name} has converged on {count}");
    conclude(session, &namespace, &name, format, &said, outcome("Converged", Some(watched)))
}

/// Shows a plan before it is acted on: to the person, because stdout is for the result.
fn show(session: &Session, plan: &Plan, format: Format) {
    if matches!(format, Format::Text | Format::Wide) {
        let text = render(plan, session.out.width, |words| session.command(words));
        session.out.note(&text);
    }
}

fn refusal(session: &Session, plan: &Plan) -> Failure {
    let rules: Vec<&str> = plan.verdict.denials().map(|finding| finding.rule).collect();
    let failure = Failure::refused(format!(
        "postgresql {} stays at {}: {} refused by {}",
        plan.cluster(),
        instances(plan.from),
        plan.to,
        rules.join(", ")
    ));
    match plan.way_out {
        Some(count) => failure.hint(format!(
            "this would be allowed now: {}",
            session.command(&format!("set {} {count}", plan.name))
        )),
        None => failure,
    }
}

/// Asks only where something is lost.
async fn confirm(session: &Session, plan: &Plan, acting: &Acting) -> Result<(), Failure> {
    if !plan.shrinks() {
        return Ok(());
    }
    let declined = |why: &str| Failure::new(Kind::Declined, format!("{why}; nothing was changed"));
    if plan.to == 0 {
        let cluster = plan.cluster();
        return match &acting.confirm {
            Some(given) if *given == cluster => Ok(()),
            Some(given) => Err(declined(&format!("--confirm={given} is not {cluster}"))),
            None if !session.out.is_interactive() => {
                Err(declined("a change to 0 instances ends the service and must be confirmed")
                    .hint(format!("add --confirm={cluster}")))
            }
            None => {
                let question = format!("This ends the service. Type {cluster} to confirm:");
                match session.out.ask(&question).await {
                    Some(typed) if typed == cluster => Ok(()),
                    _ => Err(declined("not confirmed")),
                }
            }
        };
    }
    if acting.yes {
        return Ok(());
    }
    if !session.out.is_interactive() {
        return Err(declined("instances would be removed, and there is no terminal to ask on")
            .hint("add --yes"));
    }
    let question = format!("Remove {}? [y/N]", instances(plan.from - plan.to));
    let answer = session.out.ask(&question).await.map(|answer| answer.to_ascii_lowercase());
    match answer.as_deref() {
        Some("y" | "yes") => Ok(()),
        _ => Err(declined("declined")),
    }
}

/// Reports the end, in the format that was asked for.
pub(super) fn conclude(
    session: &Session,
    namespace: &str,
    name: &str,
    format: Format,
    said: &str,
    outcome: Outcome,
) -> Result<(), Failure> {
    let watched = outcome.watched.unwrap_or_default();
    for note in &watched.notes {
        session.out.note(&format!("note: {note}"));
    }
    let moved = outcome.applied.as_ref().and_then(|applied| applied.moved.as_ref());
    report(session, namespace, name, format, watched.failure.as_ref(), |report| {
        if watched.failure.is_none() {
            report.result = outcome.result;
        }
        report.plan = outcome.plan.as_ref().map(ScalePlan::of);
        report.leader_moved = moved.map(|(leader_move, moved)| Move::made(leader_move, moved));
        report.missing = &watched.missing;
        report.events = &watched.events;
        report.timeline = &watched.timeline;
        report.notes = &watched.notes;
        report.seconds = watched.events.last().map_or(0.0, |event| event.seconds);
    })?;
    match watched.failure {
        Some(failure) => Err(failure),
        None => match format {
            Format::Text | Format::Wide => session.out.data(said),
            Format::Name => session.out.data(&resource(name)),
            Format::Json | Format::Yaml => Ok(()),
        },
    }
}

/// Prints the report where one is asked for; `fill` completes it.
fn report<'a>(
    session: &Session,
    namespace: &str,
    name: &str,
    format: Format,
    failure: Option<&'a Failure>,
    fill: impl FnOnce(&mut ScaleReport<'a>),
) -> Result<(), Failure> {
    if !matches!(format, Format::Json | Format::Yaml) {
        return Ok(());
    }
    let mut report = ScaleReport::new(namespace, name);
    if let Some(failure) = failure {
        report.message = Some(&failure.message);
        report.exit_code = failure.kind.code();
        report.result = match failure.kind {
            Kind::Declined => "Declined",
            Kind::Error | Kind::Interrupted | Kind::Usage => "Failed",
            Kind::NotAsPlanned => "NotAsPlanned",
            Kind::Refused => "Refused",
            Kind::Reverted => "Reverted",
            Kind::Timeout => "TimedOut",
        };
    }
    fill(&mut report);
    session.out.document(format, &report)
}

#[cfg(test)]
mod tests;
