//! `switchover`: move the leader, and nothing else.

use std::time::Duration;

use pgscale_guard::change::Direction;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::remedy::Line;
use pgscale_guard::rules::{Kind as RuleKind, about_switchover, rule};
use pgscale_guard::verdict::Finding;
use pgscale_guard::{Assessed, Change, Facts};
use tokio::time::Instant;

use crate::args::{DryRun, Shape, Target, WaitOptions, Why, count};
use crate::document::{Admitted, Move, ScaleReport};
use crate::error::{Failure, Kind};
use crate::execute::slots::LogicalSlots;
use crate::execute::switchover::{Lead, checkpoint, move_leader};
use crate::history::{Entry, Recording, seconds};
use crate::patience::LEAST;
use crate::permissions;
use crate::plan::{Handover, LeaderMove, Plan, Wanted, switchover};
use crate::session::Session;
use crate::terminal::Format;
use crate::terminal::text::instances;

mod settle;

use settle::{Settled, Settling};

/// Move the leader, and nothing else.
///
/// To a member by name, off the members that a shrink to N instances would remove, or to the best
/// member there is. Only a member that is caught up is let take over; writes stop for some seconds.
///
/// With --for N it succeeds only when a shrink to N passes every rule. Where a rule would refuse N
/// after the move too, nothing is touched. After the move it waits until the standbys follow and N
/// is admitted, says what it waits for, and prints the command that lowers the count.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale switchover acid-a
  kubectl pgscale switchover acid-a --to acid-a-1
  kubectl pgscale switchover acid-a --for 3     before a scale to 3 elsewhere")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The member that is to lead.
    #[arg(long, value_name = "MEMBER", conflicts_with = "count")]
    to: Option<String>,
    /// Move it so that a shrink to N passes.
    ///
    /// The command waits until it does.
    #[arg(long = "for", value_name = "N", value_parser = count,
        allow_negative_numbers = true)]
    count: Option<i64>,
    /// Change nothing: show what would be done.
    ///
    /// `server` does the same as `client` here.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    dry_run: DryRun,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    patience: WaitOptions,
    #[command(flatten)]
    shape: Shape,
}

/// Plans the switchover, carries it out, and waits until the cluster has settled.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    let (namespace, name) = (cluster.namespace.clone(), cluster.name.clone());
    let (facts, plan) = read(session, cluster, args.count).await;
    let wanted = match (args.to, args.count) {
        (Some(member), _) => Wanted::Member(member),
        (None, Some(count)) => Wanted::Within(count),
        (None, None) => Wanted::Best,
    };
    // No member copies anything.
    let patience = args.patience.timeout.unwrap_or(LEAST);
    let mut report = ScaleReport::new(&namespace, &name);
    let format = args.shape.output;
    let handover = switchover(facts.assessment(), &wanted);
    if let Some(failure) = plan.as_ref().and_then(|plan| hopeless(session, plan, &handover)) {
        return fail(session, format, report, failure);
    }
    // A shrink that is to pass afterwards. A count that is no shrink needs no leader to move.
    let count = args.count.filter(|_| plan.is_some());
    match handover {
        Handover::Refused(why) => {
            let failure = refusal(&facts, &why);
            let failure =
                plan.iter().fold(failure, |failure, it| with_nearest(session, failure, it));
            fail(session, format, report, failure)
        }
        Handover::Nothing(why) => {
            let text = format!("nothing to do: {why}");
            let Some(count) = count else {
                return say(session, format, &report, &[Line::Text(text)]);
            };
            session.interruption.means("interrupted; nothing was changed");
            let waits = args.dry_run == DryRun::None;
            let timeout = if waits { patience } else { Duration::ZERO };
            let settling = Settling { session, before: &facts, moved: false, count: Some(count) };
            match settling.wait(timeout).await {
                Ok(settled) => {
                    report.admitted = settled.next.as_ref();
                    say(session, format, &report, &with_next(text, settled.next.as_ref()))
                }
                Err(failure) if waits => fail(session, format, report, failure),
                // No wait took place, so this is the answer of the rules.
                Err(failure) => {
                    fail(session, format, report, Failure { kind: Kind::Refused, ..failure })
                }
            }
        }
        Handover::Ready(leader_move) => {
            let text =
                format!("leader {} -> {}: {}", leader_move.from, leader_move.to, leader_move.why);
            session.out.note(&text);
            if args.dry_run != DryRun::None {
                report.result = "DryRun";
                report.leader_moved = Some(Move::of(&leader_move));
                let text = format!("{text} (dry run)");
                return say(session, format, &report, &[Line::Text(text)]);
            }
            if let Err(failure) =
                permissions::check(session, permissions::SWITCHOVER, &facts, true).await
            {
                return fail(session, format, report, failure);
            }
            let errand = Errand { wanted: leader_move, count, timeout: patience };
            let ended = act(session, &facts, errand, args.why.reason.as_deref()).await;
            report.record = Some(&ended.record);
            let switchover = ended.lead.switchover();
            report.leader_moved = switchover.map(|(made, moved)| Move::made(made, moved));
            report.seconds = switchover.map_or(0.0, |(_, moved)| moved.took.as_secs_f64());
            match &ended.followed {
                Ok(settled) => {
                    report.result = CONVERGED;
                    report.notes = &settled.notes;
                    report.admitted = settled.next.as_ref();
                    let ends = switchover.map(|(made, _)| (made.from.as_str(), made.to.as_str()));
                    let (from, to) = ends.unwrap_or_default();
                    let text = format!("postgresql/{name}: leader moved from {from} to {to}");
                    say(session, format, &report, &with_next(text, settled.next.as_ref()))
                }
                Err(failure) => fail(session, format, report, failure.clone()),
            }
        }
    }
}

/// Reads the cluster. Where `count` is a shrink, reads the policies and overrides too, and plans
/// that shrink.
async fn read(
    session: &Session,
    cluster: Postgresql,
    count: Option<i64>,
) -> (Assessed, Option<Plan>) {
    let Some(count) = count else {
        let declared = cluster.instances.unwrap_or(0);
        let change = Change::of_count(cluster, declared);
        let facts = session.reader.facts(change, AskWhom::All).await;
        session.show_warnings();
        return (facts.into(), None);
    };
    let (facts, policies) = session.facts(Change::of_count(cluster, count), AskWhom::All).await;
    session.show_warnings();
    let shrinks = facts.direction() == Direction::Down || facts.deletes_leader();
    let plan = shrinks.then(|| Plan::of(&facts, &policies).reached_by(&session.reach));
    (Assessed::of(facts, &policies), plan)
}

/// Returns the reason why a switchover for the shrink in `plan` would be pointless: with the leader
/// where the plan puts it, rules still refuse the count. A leader that can stay is not moved, and
/// the program waits for anything that time mends.
fn hopeless(session: &Session, plan: &Plan, handover: &Handover) -> Option<Failure> {
    let in_the_way = |finding: &&Finding| match handover {
        Handover::Ready(_) => true,
        Handover::Nothing(_) => {
            rule(finding.rule.as_str()).is_none_or(|rule| rule.kind != RuleKind::Live)
        }
        Handover::Refused(_) => false,
    };
    let denials: Vec<&Finding> = plan.verdict.denials().filter(in_the_way).collect();
    if denials.is_empty() {
        return None;
    }
    let Plan { name, count, .. } = plan;
    let failure = Failure::refused(format!(
        "the leader of {name} is not moved, because {} would be refused all the same; nothing was changed",
        instances(*count)
    ))
    .with(denials.into_iter().flat_map(Finding::lines));
    Some(with_nearest(session, failure, plan))
}

/// Adds the nearest count that would be admitted after a switchover.
fn with_nearest(session: &Session, failure: Failure, plan: &Plan) -> Failure {
    plan.nearest.counts().take(1).fold(failure, |failure, count| {
        let words = ["switchover", &plan.name, "--for", &count.to_string()];
        failure.hint_to(format!("{} would be admitted", instances(count)), session.suggest(&words))
    })
}

/// Adds the next command to `text`.
fn with_next(text: String, next: Option<&Admitted>) -> Vec<Line> {
    let mut lines = vec![Line::Text(text)];
    if let Some(Admitted { said, next, note, .. }) = next {
        lines.extend(next.behind(&format!("{said}:")));
        lines.extend(note.clone().map(Line::Text));
    }
    lines
}

/// The word for a switchover that ended as it should.
const CONVERGED: &str = "Converged";

/// A switchover that is to be made.
struct Errand {
    wanted: LeaderMove,
    /// The count that a shrink is to pass to afterwards.
    count: Option<i64>,
    /// The time that the standbys may take to follow, and the rules to admit the count.
    timeout: Duration,
}

/// The end of a switchover.
struct Ended {
    /// The lead at the end.
    lead: Lead,
    /// The state that the cluster reached, or the reason for not reaching one.
    followed: Result<Settled, Failure>,
    /// The entry for the history.
    record: Entry,
}

/// Carries `errand` out, planned on `facts`. The history holds it from before the first act until
/// the standbys follow.
async fn act(session: &Session, facts: &Assessed, errand: Errand, reason: Option<&str>) -> Ended {
    let session = &session.ending_within(errand.timeout);
    let (cluster, start) = (&facts.change.new, Instant::now());
    // The count stays what it is, whatever the switchover is for.
    let cluster = facts.change.old.as_ref().unwrap_or(cluster);
    let entry =
        Entry::of_switchover(cluster, &errand.wanted, facts.now, (session.chance)(), reason);
    let mut recording = Recording::begin(session, &cluster.namespace, &cluster.name, entry).await;
    let mut lead = Lead::default();
    let followed = carry_out(session, facts, errand, &mut lead).await;
    let entry = &mut recording.entry;
    entry.seconds = Some(seconds(start.elapsed()));
    entry.led(&lead);
    match &followed {
        Ok(_) => CONVERGED.clone_into(&mut entry.result),
        Err(failure) => {
            failure.kind.word().clone_into(&mut entry.result);
            entry.failed(&failure.text());
        }
    }
    Ended { lead, followed, record: recording.end(session).await }
}

/// Looks again after the checkpoint, moves the leader, and waits until the cluster has settled. At
/// every end, `lead` says who holds the lead.
async fn carry_out(
    session: &Session,
    facts: &Assessed,
    errand: Errand,
    lead: &mut Lead,
) -> Result<Settled, Failure> {
    let Errand { wanted, count, timeout } = errand;
    let mut slots = LogicalSlots::default();
    slots.settle(session, facts, &wanted).await?;
    checkpoint(session, facts, &wanted).await;
    let facts = look_again(session, facts, &wanted, count).await?;
    slots.confirm(session, &facts, &wanted).await?;
    let moved = move_leader(session, &facts, &wanted).await.map_err(|not_moved| {
        *lead = not_moved.lead();
        not_moved.failure
    })?;
    session.out.note(&moved.reported());
    let (leader, asked) = (moved.leader.clone(), wanted.to.clone());
    *lead = Lead::moved(wanted, moved);
    // Where a count is to pass, any leader that stays is right.
    let stays = facts.member(&leader).is_some_and(|member| member.ordinal < facts.to());
    if leader != asked && !(count.is_some() && stays) {
        let message = format!("{leader} leads now, and not {asked}");
        return Err(Failure::new(Kind::NotAsPlanned, message));
    }
    let settling = Settling { session, before: &facts, moved: true, count };
    settling.wait(timeout).await
}

/// Reads the cluster after the checkpoint, which may have taken a minute. The same move must still
/// be the right one, for a count that it still leads to.
async fn look_again(
    session: &Session,
    before: &Assessed,
    wanted: &LeaderMove,
    count: Option<i64>,
) -> Result<Assessed, Failure> {
    let Some(count) = count else {
        let facts = session.reader.facts(before.change.clone(), AskWhom::All).await;
        let facts = Assessed::from(facts);
        session.show_warnings();
        return still_so(&facts, wanted).map(|()| facts);
    };
    let cluster = session.cluster(&before.change.new.name).await?;
    let declared = cluster.instances.map_or("unset".to_owned(), |count| count.to_string());
    let same = cluster.uid == before.change.new.uid;
    let (facts, plan) = read(session, cluster, Some(count)).await;
    let Some(plan) = plan.filter(|_| same) else {
        let why = if same {
            format!("numberOfInstances is {declared} now, and {count} is no shrink of that")
        } else {
            "the cluster was deleted and created again meanwhile".to_owned()
        };
        let kind = if same { Kind::Reverted } else { Kind::Refused };
        let failure = refusal(&facts, &format!("{why}; nothing was changed"));
        return Err(Failure { kind, ..failure });
    };
    still_so(&facts, wanted)?;
    let handover = Handover::Ready(wanted.clone());
    match hopeless(session, &plan, &handover) {
        Some(failure) => Err(failure),
        None => Ok(facts),
    }
}

/// Checks that the same move is still the right one, on facts that are newer than the checkpoint.
fn still_so(facts: &Assessed, wanted: &LeaderMove) -> Result<(), Failure> {
    let why = match switchover(facts.assessment(), &Wanted::Member(wanted.to.clone())) {
        Handover::Ready(now) if now.from == wanted.from => return Ok(()),
        Handover::Ready(now) => format!("{} leads now, and not {}", now.from, wanted.from),
        Handover::Nothing(why) | Handover::Refused(why) => why,
    };
    let failure = refusal(facts, &format!("{why}; nothing was changed"));
    let paused = facts.configuration.known().is_some_and(|it| it.paused);
    let elects = facts.leader_name().is_none() && facts.leader.unreadable().is_none() && !paused;
    Err(if elects {
        failure.hint("a new leader is being elected: run the same command again in a few seconds")
    } else {
        failure
    })
}

/// Returns the failure of a leader that is not moved, because of `why`.
fn refusal(facts: &Facts, why: &str) -> Failure {
    let cluster = &facts.change.new;
    let failure = Failure::refused(format!("the leader of {} is not moved: {why}", cluster.name));
    match about_switchover(facts) {
        Some(remedy) => failure.hint(remedy),
        None => failure,
    }
}

/// Prints the requested document with `failure`, and ends with it.
fn fail(
    session: &Session,
    format: Format,
    report: ScaleReport<'_>,
    failure: Failure,
) -> Result<(), Failure> {
    let mut report = report;
    report.result = failure.kind.word();
    report.exit_code = failure.kind.code();
    report.message = Some(failure.text());
    say(session, format, &report, &[])?;
    Err(failure)
}

fn say(
    session: &Session,
    format: Format,
    report: &ScaleReport<'_>,
    lines: &[Line],
) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => session.out.document(format, report),
        Format::Name | Format::Text | Format::Wide if lines.is_empty() => Ok(()),
        Format::Name | Format::Text | Format::Wide => session.out.said_in_lines(lines),
    }
}

#[cfg(test)]
mod tests;
