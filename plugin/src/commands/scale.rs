//! What `up`, `down` and `set` have in common: plan, show, ask, apply, wait, report.

use std::collections::BTreeSet;

use pgscale_guard::change::Direction;
use pgscale_guard::duration::human;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Change, Facts, Policies};
use tokio::time::Instant;

use crate::args::{Acting, DryRun, Format};
use crate::error::{Failure, Kind};
use crate::execute::{Agreed, Done, apply, ask_server};
use crate::history::{Entry, Recording};
use crate::impact;
use crate::permissions;
use crate::plan::{Outcome as PlanOutcome, Plan};
use crate::session::Session;
use crate::terminal::text::instances;
use crate::view::plan::render;
use crate::watch::{Goal, watch};

pub(super) mod batch;
mod outcome;

pub(crate) use outcome::Outcome;

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountRequest {
    /// So many more, or fewer where negative, than run.
    By(i64),
    /// So many.
    Exactly(i64),
    /// So many, which must lie in this direction.
    Towards(Direction, i64),
}

/// A wish, planned and judged: what a person sees before anything is done.
pub(crate) struct Prepared {
    /// What would be done.
    pub(crate) plan: Plan,
    /// What it rests on.
    facts: Facts,
    /// Whether it can be.
    stands: Stands,
}

/// Whether a plan can be carried out.
pub(crate) enum Stands {
    /// The count is there already.
    Nothing,
    /// It can.
    Ready,
    /// It must not.
    Refused(Failure),
}

/// `postgresql.acid.zalan.do/NAME`: what kubectl calls it.
pub(super) fn resource(name: &str) -> String {
    format!("postgresql.acid.zalan.do/{name}")
}

/// Carries a wish for one cluster out.
pub(super) async fn run(
    session: &Session,
    name: &str,
    wish: CountRequest,
    acting: &Acting,
) -> Result<(), Failure> {
    Box::pin(again(session, name, wish, acting, None)).await
}

/// The same, as the undo of a recorded change.
pub(super) async fn again(
    session: &Session,
    name: &str,
    wish: CountRequest,
    acting: &Acting,
    undoes: Option<String>,
) -> Result<(), Failure> {
    let prepared = prepare(session, name, wish, acting.dry_run, undoes.is_some()).await?;
    let outcome = match &prepared.stands {
        Stands::Nothing => resume(session, prepared.plan, acting).await,
        Stands::Refused(failure) => {
            show(session, &prepared.plan, acting.shape.output);
            let failure = failure.clone();
            Outcome::failed(prepared.plan, failure)
        }
        Stands::Ready => {
            show(session, &prepared.plan, acting.shape.output);
            if acting.dry_run == DryRun::None
                && let Err(failure) = confirm(session, &prepared.plan, acting).await
            {
                Outcome::failed(prepared.plan, failure)
            } else {
                Box::pin(act(session, prepared, acting, undoes)).await
            }
        }
    };
    outcome.conclude(session, acting.shape.output, acting.report)
}

/// A wish as it is shown to a person: judged, with what it would mean beyond that.
pub(super) async fn prepare(
    session: &Session,
    name: &str,
    wish: CountRequest,
    dry_run: DryRun,
    undo: bool,
) -> Result<Prepared, Failure> {
    let mut prepared = judge(session, name, wish, dry_run, undo).await?;
    impact::read::add(session, &prepared.facts, &mut prepared.plan).await;
    Ok(prepared)
}

/// Reads the cluster, plans the wish, and judges it: by the rules, and by what we may do.
async fn judge(
    session: &Session,
    name: &str,
    wish: CountRequest,
    dry_run: DryRun,
    undo: bool,
) -> Result<Prepared, Failure> {
    let (plan, facts) = plan(session, name, wish, undo).await?;
    let moves = plan.leader_move.is_some();
    let stands = if let Some(failure) = held_by_limits(session, wish, &plan, facts.direction()) {
        Stands::Refused(failure)
    } else {
        match plan.outcome() {
            PlanOutcome::Nothing => Stands::Nothing,
            PlanOutcome::Ready if dry_run != DryRun::None => Stands::Ready,
            PlanOutcome::Ready => {
                match permissions::check(session, permissions::SCALE, &facts, moves).await {
                    Ok(()) => Stands::Ready,
                    Err(failure) => Stands::Refused(failure),
                }
            }
            PlanOutcome::Refused => Stands::Refused(refusal(session, &plan)),
        }
    };
    Ok(Prepared { plan, facts, stands })
}

/// Carries out what stands and was agreed to.
pub(super) async fn act(
    session: &Session,
    prepared: Prepared,
    acting: &Acting,
    undoes: Option<String>,
) -> Outcome {
    let Prepared { plan, facts, .. } = prepared;
    let (namespace, name) = (plan.namespace.clone(), plan.name.clone());
    let change = format!("from {} to {}", plan.from, instances(plan.to));
    if acting.dry_run != DryRun::None {
        return rehearse(session, plan, acting.dry_run, &change).await;
    }
    let start = Instant::now();
    let reason = acting.why.reason.as_deref();
    let entry = Entry { undoes, ..Entry::of_plan(&plan, facts.now, (session.chance)(), reason) };
    let recording = Recording::begin(session, &namespace, &name, entry).await;
    let mut done = Done::default();
    let agreed = Agreed { unjudged: acting.yes };
    let mut outcome = match apply(session, plan.clone(), &facts, agreed, &mut done).await {
        Err(failure) => Outcome::failed(plan, failure),
        // What is reported is the plan that was agreed to; what is watched is what came of it.
        Ok(now) => Outcome { plan: Some(plan), ..follow(session, now, acting).await },
    };
    outcome.done = done;
    let took = start.elapsed();
    outcome.said = if outcome.watched.is_some() {
        format!("postgresql/{name} scaled {change} in {}", human(took))
    } else {
        format!("postgresql/{name} scaled {change}; not waited for")
    };
    outcome.record(session, recording, took).await;
    outcome
}

/// The count is written: waits for what comes of it, where that is wanted.
async fn follow(session: &Session, plan: Plan, acting: &Acting) -> Outcome {
    let resume = session.command(&format!("wait {}", plan.name));
    session.interruption.means(format!("interrupted; the change goes on; resume: {resume}"));
    session.out.note(&format!("numberOfInstances is {}", plan.asked));
    let watched = if acting.wait {
        Some(watch(session, &Goal::of_plan(&plan), acting.patience.timeout).await)
    } else {
        session.out.note(&format!("wait for it: {resume}"));
        None
    };
    let result = if watched.is_some() { "Converged" } else { "Changed" };
    Outcome { watched, ..Outcome::of(plan, result) }
}

/// A dry run.
async fn rehearse(session: &Session, plan: Plan, mode: DryRun, change: &str) -> Outcome {
    let mut by_server = "";
    if mode == DryRun::Server {
        if let Err(failure) = ask_server(session, &plan).await {
            return Outcome::failed(plan, failure);
        }
        by_server = "server ";
    }
    let said = format!("postgresql/{} scaled {change} ({by_server}dry run)", plan.name);
    Outcome { said, ..Outcome::of(plan, "DryRun") }
}

/// Reads the cluster and plans the wish.
async fn plan(
    session: &Session,
    name: &str,
    wish: CountRequest,
    undo: bool,
) -> Result<(Plan, Facts), Failure> {
    let cluster = session.cluster(name).await?;
    if cluster.terminating {
        return Err(Failure::error(format!(
            "postgresql {}/{name} is being deleted",
            cluster.namespace
        )));
    }
    let declared = cluster.instances.unwrap_or(0);
    let (guess, whom) = match wish {
        CountRequest::By(by) if by < 0 => (declared.saturating_add(by).max(0), AskWhom::All),
        CountRequest::By(by) => (declared.saturating_add(by), AskWhom::AsNeeded),
        CountRequest::Towards(Direction::Down, count) => (count, AskWhom::All),
        CountRequest::Exactly(count) | CountRequest::Towards(_, count) => {
            (count, AskWhom::AsNeeded)
        }
    };
    let change = Change::of_count(cluster.clone(), guess);
    let (mut facts, policies): (Facts, Policies) = session.facts(change, whom).await;
    session.show_warnings();
    // Relative to what runs, and that is known only now: the operator's limits are applied silently.
    let count = wanted(session, wish, name, declared, facts.from().unwrap_or(declared))?;
    facts.change = Change { undo, ..Change::of_count(cluster, count) };
    Ok((Plan::of(&facts, &policies).reached_by(&session.reach), facts))
}

/// The count a wish comes to, where `from` instances run and `declared` are asked for.
fn wanted(
    session: &Session,
    wish: CountRequest,
    name: &str,
    declared: i64,
    from: i64,
) -> Result<i64, Failure> {
    let wrong = |count: i64, than: &str| {
        Failure::usage(format!("{count} is not {than} than the {} of {name}", instances(from)))
            .hint_to("use", session.suggest(&["set", name, &count.to_string()]))
    };
    match wish {
        // What is declared already is no wrong direction: the same command, cut off before, resumes.
        CountRequest::Towards(Direction::Up, count) if count <= from && count != declared => {
            Err(wrong(count, "more"))
        }
        CountRequest::Towards(Direction::Down, count) if count >= from && count != declared => {
            Err(wrong(count, "fewer"))
        }
        CountRequest::Exactly(count) | CountRequest::Towards(_, count) => Ok(count),
        CountRequest::By(by) => {
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
    wish: CountRequest,
    plan: &Plan,
    direction: Direction,
) -> Option<Failure> {
    let wanted = match wish {
        CountRequest::By(by) if by < 0 => Direction::Down,
        CountRequest::By(_) => Direction::Up,
        CountRequest::Towards(_, count) if plan.declared == Some(count) => return None,
        CountRequest::Towards(wanted, _) => wanted,
        CountRequest::Exactly(_) => return None,
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
        .hint_to(
            "to declare what runs",
            session.suggest(&["set", &plan.name, &plan.from.to_string()]),
        ),
    )
}

/// The count is there already; a change that was cut off may still be on its way.
async fn resume(session: &Session, plan: Plan, acting: &Acting) -> Outcome {
    let name = plan.name.clone();
    let count = instances(plan.asked);
    let said = format!("postgresql/{name} asks for {count} already; nothing to do");
    if acting.dry_run != DryRun::None || !acting.wait {
        return Outcome { said, ..Outcome::of(plan, "Nothing") };
    }
    // Nobody is excused: a member that is not fit now may be one that an unfinished change still waits for.
    let goal = Goal { removed: Vec::new(), unfit: BTreeSet::new(), ..Goal::of_plan(&plan) };
    session.interruption.means("interrupted; nothing was changed");
    let once = watch(session, &goal, std::time::Duration::ZERO).await;
    if once.failure.is_none() {
        return Outcome { said, watched: Some(once), ..Outcome::of(plan, "Nothing") };
    }
    session.out.note(&format!(
        "postgresql/{name} asks for {count} already and has not converged; waiting ..."
    ));
    let watched = watch(session, &goal, acting.patience.timeout).await;
    let said = format!("postgresql/{name} has converged on {count}");
    Outcome { said, watched: Some(watched), ..Outcome::of(plan, "Converged") }
}

/// Shows a plan before it is acted on: to the person, because stdout is for the result.
fn show(session: &Session, plan: &Plan, format: Format) {
    if is_shown(format) {
        let wide = format == Format::Wide;
        let text = render(plan, wide, session.out.width_of_notes, |words| session.command(words));
        session.out.page(&text);
    }
}

/// Returns whether the plan is shown beside a result in this format.
fn is_shown(format: Format) -> bool {
    matches!(format, Format::Text | Format::Wide)
}

fn refusal(session: &Session, plan: &Plan) -> Failure {
    let rules: Vec<&str> = plan.verdict.denials().map(|finding| finding.rule.as_str()).collect();
    let failure = Failure::refused(format!(
        "postgresql {} stays at {}: {} refused by {}",
        plan.cluster(),
        instances(plan.from),
        plan.to,
        rules.join(", ")
    ));
    match plan.nearest.counts().next() {
        Some(count) => failure.hint_to(
            "this would be allowed now",
            session.suggest(&["set", &plan.name, &count.to_string()]),
        ),
        None => failure,
    }
}

/// Asks where members are lost, and where a rule could not be judged.
async fn confirm(session: &Session, plan: &Plan, acting: &Acting) -> Result<(), Failure> {
    if !plan.shrinks() {
        return confirm_unjudged(session, plan, acting).await;
    }
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
    let question = format!("Remove {}?", instances(plan.from - plan.to));
    agree(session, acting, &question, "instances would be removed").await
}

/// Asks about growth that not every rule could judge: nothing is known to be wrong with it, and
/// nothing is known to be well.
async fn confirm_unjudged(session: &Session, plan: &Plan, acting: &Acting) -> Result<(), Failure> {
    let rules = plan.unjudged();
    if rules.is_empty() {
        return Ok(());
    }
    let rules = rules.join(", ");
    let question =
        format!("Set numberOfInstances to {}, although {rules} could not be judged?", plan.asked);
    let why = format!("{rules} could not be judged");
    let agreed = agree(session, acting, &question, &why).await;
    if is_shown(acting.shape.output) {
        return agreed;
    }
    agreed.map_err(|failure| {
        // No plan was shown that says which fact is missing.
        let unseen = plan.verdict.unjudged().map(|it| format!("\n  {}: {}", it.rule, it.message));
        Failure { message: format!("{}{}", failure.message, unseen.collect::<String>()), ..failure }
    })
}

/// Has a change agreed to, by --yes or by the answer to `question`; `why` says what must be agreed
/// to.
async fn agree(
    session: &Session,
    acting: &Acting,
    question: &str,
    why: &str,
) -> Result<(), Failure> {
    if acting.yes {
        return Ok(());
    }
    match session.out.agrees(question).await {
        Some(true) => Ok(()),
        Some(false) => Err(declined("declined")),
        None => {
            Err(declined(&format!("{why}, and there is no terminal to ask on")).hint("add --yes"))
        }
    }
}

fn declined(why: &str) -> Failure {
    Failure::new(Kind::Declined, format!("{why}; nothing was changed"))
}

#[cfg(test)]
mod tests;
