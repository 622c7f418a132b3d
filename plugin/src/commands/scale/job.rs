//! The change of one cluster, from its plan to its outcome.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt as _;
use pgscale_guard::change::Direction;
use pgscale_guard::duration::human;
use pgscale_guard::read::AskWhom;
use pgscale_guard::remedy::Remedy;
use pgscale_guard::{Change, Facts};
use tokio::time::{Instant, sleep};

use super::{ScaleRequest, show_notes};
use crate::args::DryRun;
use crate::effect;
use crate::error::{Failure, Kind};
use crate::execute::{Agreed, Done, apply, ask_server};
use crate::history::{Entry, Recording};
use crate::impact::{Impact, impact};
use crate::outcome::Outcome;
use crate::patience::{LEAST, Patience};
use crate::permissions;
use crate::plan::{Outcome as PlanOutcome, Plan};
use crate::session::Session;
use crate::terminal::text::instances;
use crate::view::batch::Planned;
use crate::watch::{Goal, watch};

/// The change of one cluster.
pub(super) struct Job {
    /// Speaks for this cluster.
    session: Session,
    /// Namespace of the cluster.
    namespace: String,
    /// Its name.
    name: String,
    /// The judged plan, or the reason for having none.
    pub(super) prepared: Result<Prepared, Failure>,
    /// The impact of the plan, as it is shown.
    impact: Option<Box<Impact>>,
}

/// A change that is planned and judged.
pub(super) struct Prepared {
    /// The plan.
    plan: Plan,
    /// The facts that it rests on.
    facts: Facts,
    /// The answer to whether it can be carried out.
    stands: Stands,
}

impl Prepared {
    /// Returns the plan, and why it must not be carried out if so.
    pub(super) fn judged(self) -> (Plan, Option<Failure>) {
        let refusal = match self.stands {
            Stands::Refused(failure) => Some(failure),
            Stands::Nothing | Stands::Ready => None,
        };
        (self.plan, refusal)
    }
}

/// The answer to whether a plan can be carried out.
enum Stands {
    /// The count is there already.
    Nothing,
    /// It can.
    Ready,
    /// It must not.
    Refused(Failure),
}

impl Job {
    /// Reads the cluster `name` in the namespace of `session`, plans the request, judges the plan,
    /// and reads its impact.
    pub(super) async fn prepare(session: Session, name: String, request: &ScaleRequest) -> Self {
        let mut prepared = judge(&session, &name, request).await;
        let mut shown = None;
        if let Ok(Prepared { plan, facts, stands }) = &mut prepared {
            shown = impact(&session, facts, plan).await;
            if !request.by_name() && plan.to == 0 && matches!(stands, Stands::Ready) {
                let alone = session.suggest(&["set", &plan.name, "0"]);
                *stands = Stands::Refused(
                    Failure::refused("a change to 0 is confirmed one cluster at a time")
                        .hint_to("this one alone", alone),
                );
            }
        }
        Self { namespace: session.namespace.clone(), session, name, prepared, impact: shown }
    }

    fn plan(&self) -> Option<&Plan> {
        self.prepared.as_ref().ok().map(|prepared| &prepared.plan)
    }

    /// Returns the plan with its impact, unless the count is there already and there is nothing to
    /// look at.
    pub(super) fn to_show(&self) -> Option<(&Plan, Option<&Impact>)> {
        match &self.prepared {
            Ok(Prepared { plan, stands: Stands::Ready | Stands::Refused(_), .. }) => {
                Some((plan, self.impact.as_deref()))
            }
            Ok(Prepared { stands: Stands::Nothing, .. }) | Err(_) => None,
        }
    }

    /// Returns the plan, if it can be carried out.
    pub(super) fn ready(&self) -> Option<&Plan> {
        match &self.prepared {
            Ok(Prepared { plan, stands: Stands::Ready, .. }) => Some(plan),
            Ok(_) | Err(_) => None,
        }
    }

    /// Returns the reason for doing nothing, where nothing will be done.
    pub(super) fn refusal(&self) -> Option<&Failure> {
        match &self.prepared {
            Ok(Prepared { stands: Stands::Refused(failure), .. }) | Err(failure) => Some(failure),
            Ok(Prepared { stands: Stands::Nothing | Stands::Ready, .. }) => None,
        }
    }

    /// Returns what the findings that refuse the plan suggest.
    pub(super) fn ways_out(&self) -> impl Iterator<Item = &Remedy> {
        self.plan().into_iter().flat_map(Plan::ways_out)
    }

    /// Returns the summary that a person sees before anything is done.
    pub(super) fn planned(&self) -> Planned<'_> {
        Planned {
            namespace: &self.namespace,
            name: &self.name,
            plan: self.plan(),
            refusal: self.refusal(),
        }
    }

    /// Ends the job where nothing is done: because of its own state, or else because of `why`.
    pub(super) fn end(self, why: impl FnOnce() -> Failure) -> Outcome {
        let Self { namespace, name, prepared, impact, .. } = self;
        let outcome = match prepared {
            Err(failure) => {
                Outcome { namespace, name, failure: Some(failure), ..Outcome::default() }
            }
            Ok(Prepared { plan, stands: Stands::Refused(failure), .. }) => {
                Outcome::failed(plan, failure)
            }
            Ok(Prepared { plan, stands: Stands::Nothing, .. }) => Outcome::of(plan, "Nothing"),
            Ok(Prepared { plan, stands: Stands::Ready, .. }) => Outcome::failed(plan, why()),
        };
        Outcome { impact, ..outcome }
    }

    /// Carries the job out as it was `agreed` to.
    ///
    /// A job that `waited` for others is judged again first, where its count grows. A shrink is
    /// always judged again.
    pub(super) async fn run(
        mut self,
        request: &ScaleRequest,
        agreed: Agreed,
        waited: bool,
    ) -> Outcome {
        let grows = self.plan().is_some_and(|plan| plan.to > plan.from);
        if waited && grows && request.acting.dry_run == DryRun::None {
            let now = Box::pin(judge(&self.session, &self.name, request)).await;
            self.prepared = match (self.prepared, now) {
                (Ok(shown), Ok(now)) => as_shown(&shown, now, agreed),
                (Err(failure), _) | (_, Err(failure)) => Err(failure),
            };
        }
        let (session, impact) = (self.session.clone(), self.impact.take());
        let outcome = match self.prepared {
            Ok(Prepared { plan, stands: Stands::Nothing, .. }) => {
                Box::pin(resume(&session, plan, request)).await
            }
            Ok(Prepared { plan, facts, stands: Stands::Ready }) => {
                let patience = Patience::of_change(impact.as_deref());
                let asked_for = Wanted { request, agreed, patience };
                Box::pin(act(&session, plan, facts, asked_for)).await
            }
            Ok(Prepared { stands: Stands::Refused(_), .. }) | Err(_) => {
                self.end(|| Failure::new(Kind::Declined, "not begun"))
            }
        };
        let outcome = Outcome { impact, ..outcome };
        show_notes(&session, &outcome);
        // The failure is printed in full and at once, under the cluster's name: the table at the
        // end has room for a word.
        if let Some(failure) = outcome.failure().filter(|_| !request.by_name()) {
            session.out.failure(&failure.clone().reached_by(&session.reach));
        }
        outcome
    }
}

/// Reads the cluster, plans the request, and judges the plan by the rules and by our permissions.
pub(super) async fn judge(
    session: &Session,
    name: &str,
    request: &ScaleRequest,
) -> Result<Prepared, Failure> {
    let (plan, facts) = plan(session, name, request).await?;
    let moves = plan.leader_move.is_some();
    let held = request.count.held_by_limits(session, &plan, facts.direction());
    let stands = match (held, plan.outcome()) {
        (Some(failure), _) => Stands::Refused(failure),
        (None, PlanOutcome::Nothing) => Stands::Nothing,
        (None, PlanOutcome::Refused) => Stands::Refused(refusal(session, &plan)),
        (None, PlanOutcome::Ready) => {
            let dry_run = request.acting.dry_run != DryRun::None;
            let stands = match as_expected(&plan, request) {
                Ok(()) if dry_run => Ok(()),
                Ok(()) => permissions::check(session, permissions::SCALE, &facts, moves).await,
                Err(moved_on) => Err(moved_on),
            };
            stands.map_or_else(Stands::Refused, |()| Stands::Ready)
        }
    };
    Ok(Prepared { plan, facts, stands })
}

/// Checks that the plan is the one that `--expect-plan` names, if it is given.
fn as_expected(plan: &Plan, request: &ScaleRequest) -> Result<(), Failure> {
    request.acting.expect_plan.as_ref().map_or(Ok(()), |expected| plan.is_expected(expected))
}

/// Reads the cluster and plans the request.
async fn plan(
    session: &Session,
    name: &str,
    request: &ScaleRequest,
) -> Result<(Plan, Facts), Failure> {
    let cluster = session.cluster(name).await?;
    if cluster.terminating {
        return Err(Failure::error(format!(
            "postgresql {}/{name} is being deleted",
            cluster.namespace
        )));
    }
    let declared = cluster.instances.unwrap_or(0);
    if request.declared.is_some_and(|wanted| wanted != declared) {
        return Err(Failure::refused(format!(
            "postgresql {}/{name} asks for {}, and not for the number of --current-replicas",
            cluster.namespace,
            instances(declared)
        ))
        .hint_to("see its state", session.suggest(&["status", name])));
    }
    // The hash of a plan covers the health of every member, as `plan` shows it.
    let whom = match request.count.direction() {
        _ if request.acting.expect_plan.is_some() => AskWhom::All,
        Some(Direction::Down) => AskWhom::All,
        Some(_) | None => AskWhom::AsNeeded,
    };
    let first = Change::of_count(cluster.clone(), request.count.unchecked(declared).max(0));
    let (mut facts, policies) = session.facts(first, whom).await;
    session.show_warnings();
    // A relative count starts from the number that runs. That is known only now: the operator
    // applies its limits silently.
    let from = facts.from().unwrap_or(declared);
    let count = request.count.count(session, name, declared, from)?;
    let of_count = |old| Change { undo: request.undoes.is_some(), ..Change::of_count(old, count) };
    facts.change = of_count(cluster.clone());
    let plan = Plan::of(&facts, &policies).reached_by(&session.reach);
    if let Some(running) = unacted(session, &plan, request).await {
        let change = of_count(cluster.with_instances(running));
        let (facts, policies) = session.facts(change, AskWhom::All).await;
        session.show_warnings();
        let again = Plan::of(&facts, &policies).reached_by(&session.reach).resuming(running);
        // Where the rules refuse it by now, the operator is not pushed. The wait says how it stands.
        let wrong = request.count.direction().is_some_and(|wanted| wanted != facts.direction());
        if again.outcome() == PlanOutcome::Ready && !wrong {
            return Ok((again, facts));
        }
    }
    Ok((plan, facts))
}

/// Returns the count of the StatefulSet, where the count is declared already, and the operator does
/// not act on it within some seconds.
///
/// The same command, run again, then makes the operator act.
async fn unacted(session: &Session, plan: &Plan, request: &ScaleRequest) -> Option<i64> {
    let acting = &request.acting;
    let waits = acting.dry_run == DryRun::None && acting.wait && request.by_name();
    let idle = plan.outcome() == PlanOutcome::Nothing && waits;
    let mut running = plan.running.filter(|running| idle && *running != plan.to)?;
    let until = Instant::now() + session.pace.tell;
    while Instant::now() < until {
        sleep(session.pace.poll).await;
        let cluster = session.cluster(&plan.name).await.ok()?;
        let change = Change::of_count(cluster, plan.count);
        let facts = session.reader.facts(change, AskWhom::AsNeeded).await;
        session.show_warnings();
        running = facts.stateful_set.known()?.replicas;
        if running == facts.to() {
            return None;
        }
    }
    Some(running)
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

/// Returns `now`, if it is the change that was `shown` and `agreed` to.
fn as_shown(shown: &Prepared, now: Prepared, agreed: Agreed) -> Result<Prepared, Failure> {
    let of = |plan: &Plan| (plan.uid.clone(), plan.declared, plan.count);
    if of(&shown.plan) == of(&now.plan) {
        agreed.covers(&shown.plan, &now.plan)?;
        return Ok(now);
    }
    let superseded = shown.plan.uid == now.plan.uid && shown.plan.declared != now.plan.declared;
    let kind = if superseded { Kind::Reverted } else { Kind::Refused };
    Err(Failure::new(
        kind,
        format!(
            "the change of postgresql {} is not the one that was shown any more: numberOfInstances would go from {} \
         to {}; nothing was changed",
            now.plan.cluster(),
            now.plan.declared.map_or("unset".to_owned(), |count| count.to_string()),
            now.plan.count
        ),
    ))
}

/// The wish that a plan fulfils: the request, what was agreed to, and the time that it may take.
struct Wanted<'a> {
    request: &'a ScaleRequest,
    agreed: Agreed,
    patience: Patience,
}

/// Returns the time to wait for a change that was made before, and tells the person where it is long.
async fn patience(session: &Session, plan: &Plan) -> Duration {
    let Ok(cluster) = session.cluster(&plan.name).await else { return LEAST };
    let patience = Patience::of_cluster(session, &cluster).await;
    patience.tell(session);
    patience.limit
}

/// Carries out a plan that was agreed to.
async fn act(session: &Session, plan: Plan, facts: Facts, wanted: Wanted<'_>) -> Outcome {
    let Wanted { request, agreed, patience } = wanted;
    let (namespace, name) = (plan.namespace.clone(), plan.name.clone());
    let change = format!("from {} to {}", plan.from, instances(plan.to));
    let acting = &request.acting;
    if acting.dry_run != DryRun::None {
        return rehearse(session, plan, acting.dry_run, &change).await;
    }
    if acting.patience.timeout.is_none() && acting.wait {
        patience.tell(session);
    }
    let timeout = acting.patience.timeout.unwrap_or(patience.limit);
    let session = &session.ending_within(timeout);
    let start = Instant::now();
    let reason = acting.why.reason.as_deref();
    let entry = Entry {
        undoes: request.undoes.clone(),
        ..Entry::of_plan(&plan, facts.now, (session.chance)(), reason)
    };
    let settled = acting.settles(session.pace.settle);
    let before = match settled {
        Some(settled) => Some((settled, effect::look(session, &facts).boxed().await)),
        None => None,
    };
    let recording = Recording::begin(session, &namespace, &name, entry).await;
    let mut done = Done::default();
    let mut outcome = match apply(session, plan.clone(), &facts, agreed, &mut done).await {
        Err(failure) => Outcome::failed(plan, failure),
        // The report shows the plan that was agreed to. The wait follows the plan that was carried
        // out.
        Ok(now) => {
            let followed = Box::pin(follow(session, now, request, timeout)).await;
            Outcome { plan: Some(plan), ..followed }
        }
    };
    outcome.done = done;
    if outcome.watched.is_some() && outcome.failure().is_none() {
        session.interruption.means("interrupted; the cluster has converged");
    }
    let took = start.elapsed();
    outcome.said = if outcome.watched.is_some() {
        format!("postgresql/{name} scaled {change} in {}", human(took))
    } else {
        format!("postgresql/{name} scaled {change}; not waited for")
    };
    outcome.record(session, recording, took).await;
    // The change is recorded, and has ended: what follows only looks.
    if let Some((settled, before)) = before
        && outcome.watched.is_some()
        && outcome.failure().is_none()
    {
        let effect = effect::settle(session, before, &outcome.name, settled).boxed().await;
        outcome.effect = Some(Box::new(effect));
    }
    outcome
}

/// Waits for the effect of the written count, where that is wanted.
async fn follow(
    session: &Session,
    plan: Plan,
    request: &ScaleRequest,
    timeout: Duration,
) -> Outcome {
    let resume = session.suggest(&["wait", &plan.name]);
    session.interrupted_means("interrupted; the change continues", "resume", resume.clone());
    let asked = if plan.resumes.is_some() { "; the operator was asked again" } else { "" };
    session.out.note(&format!("numberOfInstances is {}{asked}", plan.count));
    let watched = if request.acting.wait {
        // An override may let the leader go. That was agreed to.
        let change = Some((plan.from, plan.to));
        let goal = Goal { ours: plan.keeps_leader(), change, ..Goal::of_plan(&plan) };
        Some(watch(session, &goal, timeout).await)
    } else {
        session.advise("wait for it:", resume.into());
        None
    };
    let result = if watched.is_some() { "Converged" } else { "Changed" };
    Outcome { watched, ..Outcome::of(plan, result) }
}

/// Makes a dry run.
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

/// Waits for a change that was cut off and may still be on its way: the count is there already.
///
/// Among clusters that labels chose it does not wait: the others would wait for their turns.
async fn resume(session: &Session, plan: Plan, request: &ScaleRequest) -> Outcome {
    let (name, acting) = (plan.name.clone(), &request.acting);
    let count = instances(plan.count);
    let said = format!("postgresql/{name} asks for {count} already; nothing to do");
    if acting.dry_run != DryRun::None || !acting.wait || !request.by_name() {
        return Outcome { said, ..Outcome::of(plan, "Nothing") };
    }
    // No member is excused: one that is not fit now may be one that an unfinished change still
    // waits for.
    let goal = Goal { removed: Vec::new(), unfit: BTreeSet::new(), ..Goal::of_plan(&plan) };
    session.interruption.means("interrupted; nothing was changed");
    let once = watch(session, &goal, Duration::ZERO).await;
    if once.failure.is_none() {
        return Outcome { said, watched: Some(once), ..Outcome::of(plan, "Nothing") };
    }
    session.out.note(&format!(
        "postgresql/{name} asks for {count} already and has not converged; waiting ..."
    ));
    let timeout = match acting.patience.timeout {
        Some(timeout) => timeout,
        None => patience(session, &plan).await,
    };
    let watched = watch(session, &goal, timeout).await;
    let said = format!("postgresql/{name} has converged on {count}");
    Outcome { said, watched: Some(watched), ..Outcome::of(plan, "Converged") }
}
