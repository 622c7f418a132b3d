//! Carries a plan out: checks the facts, moves the leader, checks again, and only then writes the
//! count.
//!
//! Before the leader moves, the API server judges the write as a dry run. Otherwise the leader
//! might move for a write that is then refused.
//!
//! The write is conditional on the version and the identity of the object that the plan was made
//! from. A conflict means that another writer came first, and the plan is made again. After a lost
//! answer the object is read, and the write is never sent again.

use pgscale_guard::read::AskWhom;
use pgscale_guard::remedy::Line;
use pgscale_guard::verdict::Finding;
use pgscale_guard::{Change, Facts, Policies, RuleId};
use tokio::time::{Instant, sleep};

use crate::error::{Failure, Kind};
use crate::execute::slots::LogicalSlots;
use crate::execute::switchover::{Lead, checkpoint, move_leader};
use crate::execute::waiting::Waiting;
use crate::plan::{Outcome, Plan, Unfit};
use crate::session::Session;

mod dry_run;
pub(crate) mod recover;
pub(crate) mod slots;
pub(crate) mod switchover;
pub(crate) mod waiting;
mod write;

pub(crate) use dry_run::ask_server;
use dry_run::must_pass;
#[cfg(test)]
pub(crate) use write::ASKED_AGAIN;
use write::{send, write_count};

/// The number of times that a plan is made again because another writer changed the object
/// meanwhile. Operators write the status several times in a row. More conflicts than this are a
/// fight.
const CONFLICTS: u32 = 5;

/// The completed parts of a change, whether it succeeded or failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Done {
    /// The result for the lead.
    pub(crate) lead: Lead,
    /// The result for the count.
    pub(crate) count: Count,
}

impl Done {
    fn moved(&self) -> bool {
        self.lead.switchover().is_some()
    }
}

/// The result for the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Count {
    /// Nothing was written, and nothing that was sent can still arrive.
    #[default]
    Unwritten,
    /// The count is stored.
    Written,
    /// A write was sent, and it is not known whether it arrived or will arrive.
    InDoubt,
}

impl Count {
    /// Returns whether the count was written. `None` where that is not known.
    pub(crate) fn written(self) -> Option<bool> {
        match self {
            Self::Unwritten => Some(false),
            Self::Written => Some(true),
            Self::InDoubt => None,
        }
    }
}

/// The person's consent beyond the plan that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Rules that judged the plan that was shown may lack a fact when the plan is made again
    /// (--yes).
    pub(crate) unjudged: bool,
    /// The plan must be the one with the hash that was expected (--expect-plan).
    pub(crate) same_hash: bool,
}

impl Agreed {
    /// Checks that rules that judged the plan that was `shown` can judge it `now`. A change that is
    /// not judged in full needs a person's yes.
    pub(crate) fn covers(self, shown: &Plan, now: &Plan) -> Result<(), Failure> {
        if self.same_hash {
            now.is_expected(&shown.hash)?;
        }
        let rules = now.unjudged_since(shown);
        if self.unjudged || rules.is_empty() {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "the change of postgresql {} is not the one that was shown: {} could be judged then, and not now; \
             nothing was changed",
            now.cluster(),
            rules.join(", ")
        ))
        .hint("run the same command again, and look at the plan"))
    }
}

/// Carries out `plan`, made from `facts`, and returns the plan that was carried out in the end.
/// `done` records the completed parts, also after a failure.
pub(crate) async fn apply(
    session: &Session,
    plan: Plan,
    facts: &Facts,
    agreed: Agreed,
    done: &mut Done,
) -> Result<Plan, Failure> {
    let mut plan = plan;
    // A change that was asked about is judged again: a shrink, and growth that lacked a fact.
    if plan.shrinks() || !plan.unjudged().is_empty() {
        let mut slots = LogicalSlots::default();
        if let Some(wanted) = &plan.leader_move {
            must_pass(session, &plan).await?;
            slots.settle(session, facts, wanted).await?;
            checkpoint(session, facts, wanted).await;
        }
        // The question may have been open for hours, and a failover leaves no trace in the object.
        let (now, facts) = read_plan(session, &plan).await?;
        plan = as_agreed(&plan, now, agreed)?;
        if let Some(wanted) = plan.leader_move.clone() {
            slots.confirm(session, &facts, &wanted).await?;
            let moved = move_leader(session, &facts, &wanted).await.map_err(|not_moved| {
                done.lead = not_moved.lead();
                not_moved.failure
            })?;
            session.interruption.means(format!("interrupted; {}", left_behind(true)));
            session.out.note(&moved.reported());
            done.lead = Lead::moved(wanted, moved);
            plan = plan_after_move(session, &plan).await?;
        }
    }
    for _ in 0..CONFLICTS {
        write_count(session, &plan, done).await?;
        if done.count == Count::Written {
            return Ok(plan);
        }
        plan = plan_again(session, &plan, agreed, done.moved()).await?;
    }
    Err(contended(&plan, done.moved()))
}

/// Returns the failure after every attempt met another writer's change.
fn contended(plan: &Plan, moved: bool) -> Failure {
    not_done(
        moved,
        format!(
            "another writer keeps changing postgresql {}: {CONFLICTS} attempts conflicted; \
             numberOfInstances is unchanged",
            plan.cluster()
        ),
    )
}

/// Plans the same change on fresh facts after the leader moved, as soon as the replicas follow the
/// new leader.
///
/// The rules alone would not be enough. Just after a move every replica is behind, the removed ones
/// included, and a shrink that removes only unhealthy members is never refused. A member that was
/// healthy before must be healthy again.
async fn plan_after_move(session: &Session, before: &Plan) -> Result<Plan, Failure> {
    let deadline = session.pace.by(session.pace.follow);
    let mut waiting = Waiting::begin(session);
    loop {
        let (plan, facts) = match read_plan(session, before).await {
            Ok(read) => read,
            Err(failure) if Instant::now() >= deadline || is_gone(session, before).await => {
                let message = format!(
                    "the leader was moved, and numberOfInstances was not changed: {}",
                    failure.message
                );
                return Err(Failure { kind: Kind::NotAsPlanned, message, ..failure });
            }
            // An API server may restart at any time, now included.
            Err(failure) => {
                waiting.tell(&failure.text());
                sleep(session.pace.poll).await;
                continue;
            }
        };
        same_cluster_and_count(before, &plan, true)?;
        let late: Vec<&Unfit> = plan
            .unfit
            .iter()
            .filter(|unfit| !before.unfit.iter().any(|known| known.pod == unfit.pod))
            .collect();
        let leads = facts.leader_name().is_some() && plan.leader_move.is_none();
        if plan.outcome() == Outcome::Nothing {
            return Ok(there_already(before, plan));
        }
        if plan.outcome() == Outcome::Ready && leads && late.is_empty() {
            return Ok(excusing(before, plan));
        }
        let leader = facts.leader_name().unwrap_or("no member");
        if Instant::now() >= deadline {
            let denials = plan.verdict.denials().flat_map(Finding::lines);
            let late = late.iter().map(|it| Line::Text(format!("{}: {}", it.pod, it.why)));
            let mut reasons: Vec<Line> = denials.chain(late).collect();
            if reasons.is_empty() {
                reasons.push(Line::Text(format!("{leader} leads now")));
            }
            return Err(not_done(
                true,
                "the leader was moved, and numberOfInstances was not changed, because the shrink \
                 would not be safe now:"
                    .to_owned(),
            )
            .with(reasons)
            .hint_to("see what ails the members", session.suggest(&["status", &plan.name, "--why"]))
            .hint_to(
                "when that is mended, lower the count",
                session.suggest(&["set", &plan.name, &plan.count.to_string()]),
            ));
        }
        let denials = plan.verdict.denials().map(|it| format!("{}: {}", it.rule, it.message));
        let late = late.iter().map(|unfit| format!("{}: {}", unfit.pod, unfit.why));
        let leads = (!leads).then(|| format!("{leader} leads"));
        let missing: Vec<String> = late.chain(denials).chain(leads).collect();
        waiting.tell(&missing.join("; "));
        sleep(session.pace.poll).await;
    }
}

/// Returns whether the cluster's object is missing, or may not be read. Another look will not help
/// then.
async fn is_gone(session: &Session, plan: &Plan) -> bool {
    let read = session.reader.cluster(&plan.namespace, &plan.name).await;
    read.is_err_and(|error| error.is_not_found() || error.is_forbidden())
}

/// Excuses the members that were unhealthy when the plan was shown. They are not waited for, even
/// where they were healthy for a moment: a member that is pointed to its new leader often is.
fn excusing(before: &Plan, now: Plan) -> Plan {
    let news = |unfit: &&Unfit| !before.unfit.iter().any(|known| known.pod == unfit.pod);
    let unfit = before.unfit.iter().chain(now.unfit.iter().filter(news)).cloned().collect();
    Plan { unfit, ..now }
}

/// The note after a conflict.
const PLANNING_AGAIN: &str = "another writer changed the cluster; planning again ...";

/// Plans the same change on fresh facts after a conflict. Returns an error where the plan is not
/// the same.
async fn plan_again(
    session: &Session,
    before: &Plan,
    agreed: Agreed,
    moved: bool,
) -> Result<Plan, Failure> {
    session.out.note(PLANNING_AGAIN);
    let (now, _) = read_plan(session, before).await?;
    if !moved {
        return as_agreed(before, now, agreed);
    }
    same_cluster_and_count(before, &now, moved)?;
    if now.outcome() == Outcome::Nothing {
        return Ok(there_already(before, now));
    }
    still_allowed(&now, moved)?;
    if now.leader_move.is_some() {
        return Err(not_done(
            moved,
            format!(
                "the leader of postgresql {} is now {}, which would be removed; {}",
                now.cluster(),
                now.leader.as_deref().unwrap_or("unknown"),
                so_far(moved)
            ),
        )
        .hint("run the same command again"));
    }
    Ok(excusing(before, now))
}

/// Returns `now`, the plan of the same change as `before`, while nothing was done. Returns an error
/// where it is not the agreed plan.
fn as_agreed(before: &Plan, now: Plan, agreed: Agreed) -> Result<Plan, Failure> {
    same_cluster_and_count(before, &now, false)?;
    if now.outcome() == Outcome::Nothing {
        return Ok(there_already(before, now));
    }
    let cluster = now.cluster();
    if let Some(why) = leaderless(before, &now) {
        return Err(Failure::refused(format!(
            "no member leads postgresql {cluster} any more: {why}; {}",
            so_far(false)
        ))
        .hint("a new leader is being elected: run the same command again in a few seconds"));
    }
    still_allowed(&now, false)?;
    agreed.covers(before, &now)?;
    let ends = |plan: &Plan| plan.leader_move.clone().map(|wanted| (wanted.from, wanted.to));
    if ends(before) == ends(&now) {
        return Ok(excusing(before, now));
    }
    let leader = now.leader.as_deref().unwrap_or("no member");
    let would = match &now.leader_move {
        Some(wanted) => format!("would have to move from {} to {} first", wanted.from, wanted.to),
        None => "would not have to move".to_owned(),
    };
    Err(Failure::refused(format!(
        "the change of postgresql {} is not the one that was shown: {leader} leads now, and the leader {would}; {}",
        now.cluster(),
        so_far(false)
    ))
    .hint("run the same command again, and look at the plan"))
}

/// Returns the words of the rule by which the leader of `before` leads no more, and Patroni elects
/// another.
fn leaderless(before: &Plan, now: &Plan) -> Option<String> {
    let finds = |rule: RuleId| now.verdict.findings.iter().any(|it| it.rule == rule);
    if before.leader.is_none() || finds(RuleId::PAUSED) {
        return None;
    }
    let unread = now.verdict.unjudged().any(|it| it.rule == RuleId::NO_LEADER);
    let denial = now.verdict.denials().find(|it| it.rule == RuleId::NO_LEADER);
    denial.filter(|_| !unread).map(|finding| format!("{}: {}", finding.rule, finding.message))
}

/// Adopts the lists of `before` where another writer set the very count. The removed and the
/// unhealthy members are those of before, because the added members now count as kept ones and are
/// not healthy yet.
fn there_already(before: &Plan, now: Plan) -> Plan {
    Plan { leaving: before.leaving.clone(), unfit: before.unfit.clone(), ..now }
}

/// Checks that it is the same object, no other writer set its count, and the operator would run the
/// same count.
fn same_cluster_and_count(before: &Plan, now: &Plan, moved: bool) -> Result<(), Failure> {
    let (cluster, so_far) = (now.cluster(), so_far(moved));
    if now.uid != before.uid {
        return Err(not_done(
            moved,
            format!("postgresql {cluster} was deleted and created again meanwhile; {so_far}"),
        ));
    }
    if now.outcome() == Outcome::Nothing {
        return Ok(());
    }
    let look = "look at the plan again, then decide";
    if now.declared != before.declared {
        let count = now.declared.map_or("nothing".to_owned(), |count| count.to_string());
        let message = format!(
            "another writer set numberOfInstances of postgresql {cluster} to {count} meanwhile; {so_far}"
        );
        let kind = if moved { Kind::NotAsPlanned } else { Kind::Reverted };
        return Err(Failure::new(kind, message).hint(look));
    }
    if (now.from, now.to) != (before.from, before.to) {
        return Err(not_done(
            moved,
            format!(
                "the operator's limits make the change of postgresql {cluster} one from {} to {} now, and it \
                 was one from {} to {}; {so_far}",
                now.from, now.to, before.from, before.to
            ),
        )
        .hint(look));
    }
    Ok(())
}

fn still_allowed(now: &Plan, moved: bool) -> Result<(), Failure> {
    if now.outcome() != Outcome::Refused {
        return Ok(());
    }
    let kind = if moved { Kind::NotAsPlanned } else { Kind::Refused };
    let message = format!("the change is not safe any more; {}:", so_far(moved));
    Err(Failure::new(kind, message).with(now.verdict.denials().flat_map(Finding::lines)))
}

/// Returns the work that was done before the count is written, in words.
fn so_far(moved: bool) -> &'static str {
    if moved { "the leader was moved" } else { "nothing was changed" }
}

/// Returns what an interruption leaves behind before the count is written, in words.
fn left_behind(moved: bool) -> &'static str {
    if moved { "the leader was moved, and numberOfInstances is unchanged" } else { so_far(false) }
}

async fn read_plan(session: &Session, before: &Plan) -> Result<(Plan, Facts), Failure> {
    let cluster = session.cluster(&before.name).await?;
    // A count that another writer set is judged as it is, and then found to be another one.
    let running = before.resumes.filter(|_| cluster.instances == Some(before.count));
    let old = running.map_or(cluster.clone(), |running| cluster.with_instances(running));
    let change = Change { undo: before.undo, ..Change::of_count(old, before.count) };
    let (facts, policies): (Facts, Policies) = session.facts(change, whom(before)).await;
    session.show_warnings();
    let candidate = before.leader_move.as_ref().map(|wanted| wanted.to.as_str());
    let plan = Plan::keeping(&facts, &policies, candidate).reached_by(&session.reach);
    let plan = match running {
        // Once the operator has acted, nothing is left to ask.
        Some(_) if plan.running == Some(plan.to) => Plan { declared: Some(plan.count), ..plan },
        Some(running) => plan.resuming(running),
        None => plan,
    };
    Ok((plan, facts))
}

fn whom(plan: &Plan) -> AskWhom {
    if plan.shrinks() { AskWhom::All } else { AskWhom::AsNeeded }
}

/// Returns a failure that came before the count was written.
fn not_done(leader_moved: bool, message: String) -> Failure {
    let kind = if leader_moved { Kind::NotAsPlanned } else { Kind::Error };
    Failure::new(kind, message)
}
