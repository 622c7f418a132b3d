//! `switchover`: move the leader, and nothing else.

use std::time::Duration;

use pgscale_guard::facts::Health;
use pgscale_guard::read::AskWhom;
use pgscale_guard::rules::about_switchover;
use pgscale_guard::{Change, Facts};
use tokio::time::{Instant, sleep};

use crate::args::{DryRun, Format, Patience, Shape, Target, Why, count, with_flags};
use crate::error::{Failure, Kind};
use crate::handover::{Lead, checkpoint, move_leader};
use crate::output::document::{Move, ScaleReport};
use crate::plan::{Handover, LeaderMove, Unfit, Wanted, describe, switchover, unfit};
use crate::record::{Entry, Recording, seconds};
use crate::rights;
use crate::session::Session;

/// Move the leader, and nothing else.
///
/// To a member by name, off the ordinals that a shrink to N instances would remove, or to the best member there
/// is. Only a member that is caught up is let take over; writes stop for some seconds.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale switchover acid-a
  kubectl pgscale switchover acid-a --to acid-a-1
  kubectl pgscale switchover acid-a --for 3     before a scale to 3 elsewhere")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The member that shall lead.
    #[arg(long, value_name = "MEMBER", conflicts_with = "within")]
    to: Option<String>,
    /// The count whose members may lead.
    #[arg(long = "for", value_name = "N", id = "within", value_parser = count,
        allow_negative_numbers = true)]
    within: Option<i64>,
    /// Change nothing: show what would be done; `server` does the same as `client` here.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    dry_run: DryRun,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    shape: Shape,
}

/// Runs the verb.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    let declared = cluster.instances.unwrap_or(0);
    let change = Change::of_count(cluster, declared);
    let facts = session.reader.facts(change, AskWhom::All).await;
    session.show_warnings();
    let wanted = match (args.to, args.within) {
        (Some(member), _) => Wanted::Member(member),
        (None, Some(count)) => Wanted::Within(count),
        (None, None) => Wanted::Best,
    };
    let name = facts.change.new.name.clone();
    let mut report = ScaleReport::new(&facts.change.new.namespace, &name);
    let format = args.shape.output;
    match switchover(&facts, &wanted) {
        Handover::Nothing(why) => say(session, format, &report, &format!("nothing to do: {why}")),
        Handover::Refused(why) => {
            let failure = refusal(session, &facts, &why);
            fail(session, format, report, failure)
        }
        Handover::Ready(leader_move) => {
            let text =
                format!("leader {} -> {}: {}", leader_move.from, leader_move.to, leader_move.why);
            session.out.note(&text);
            if args.dry_run != DryRun::None {
                report.result = "DryRun";
                report.leader_moved = Some(Move::of(&leader_move));
                return say(session, format, &report, &format!("{text} (dry run)"));
            }
            if let Err(failure) = rights::check(session, rights::SWITCHOVER, &facts, true).await {
                return fail(session, format, report, failure);
            }
            let reason = args.why.reason.as_deref();
            let ended = act(session, &facts, leader_move, reason, args.patience.timeout).await;
            report.record = Some(&ended.record);
            let switchover = ended.lead.switchover();
            report.leader_moved = switchover.map(|(made, moved)| Move::made(made, moved));
            report.seconds = switchover.map_or(0.0, |(_, moved)| moved.took.as_secs_f64());
            match &ended.followed {
                Ok((told, notes)) => {
                    report.result = CONVERGED;
                    report.notes = notes;
                    say(session, format, &report, &format!("postgresql/{name}: {told}"))
                }
                Err(failure) => {
                    if let Some((_, moved)) = switchover {
                        session.out.note(&moved.told());
                    }
                    fail(session, format, report, failure.clone())
                }
            }
        }
    }
}

/// The word for a switchover that ended as it should.
const CONVERGED: &str = "Converged";

/// What came of a switchover.
struct Ended {
    /// What became of the lead.
    lead: Lead,
    /// The switchover in one line, and what is worth knowing once the standbys follow; or what kept it from that.
    followed: Result<(String, Vec<String>), Failure>,
    /// What is kept of it.
    record: Entry,
}

/// Moves the leader as `wanted`, planned on `facts`: on record from before the first act until the standbys follow.
async fn act(
    session: &Session,
    facts: &Facts,
    wanted: LeaderMove,
    reason: Option<&str>,
    timeout: Duration,
) -> Ended {
    let (cluster, start) = (&facts.change.new, Instant::now());
    let entry = Entry::of_switchover(cluster, &wanted, facts.now, (session.chance)(), reason);
    let mut recording = Recording::begin(session, &cluster.namespace, &cluster.name, entry).await;
    let mut lead = Lead::default();
    let followed = carry_out(session, facts, wanted, timeout, &mut lead).await;
    let entry = &mut recording.entry;
    entry.seconds = Some(seconds(start.elapsed()));
    entry.led(&lead);
    match &followed {
        Ok(_) => CONVERGED.clone_into(&mut entry.result),
        Err(failure) => {
            failure.kind.word().clone_into(&mut entry.result);
            entry.failed(&failure.message);
        }
    }
    Ended { lead, followed, record: recording.end(session).await }
}

/// Looks again after the checkpoint, moves the leader, and waits until the standbys follow: the switchover in one
/// line, and what is worth knowing then. However it ends, `lead` tells what became of the lead.
async fn carry_out(
    session: &Session,
    facts: &Facts,
    wanted: LeaderMove,
    timeout: Duration,
    lead: &mut Lead,
) -> Result<(String, Vec<String>), Failure> {
    checkpoint(session, facts, &wanted).await;
    let facts = session.reader.facts(facts.change.clone(), AskWhom::All).await;
    session.show_warnings();
    still_so(session, &facts, &wanted)?;
    let moved = move_leader(session, &facts, &wanted).await.map_err(|not_moved| {
        *lead = not_moved.lead();
        not_moved.failure
    })?;
    let (leader, asked, told) = (moved.leader.clone(), wanted.to.clone(), moved.told());
    *lead = Lead::moved(wanted, moved);
    if leader != asked {
        let message = format!("{leader} leads now, and not {asked}");
        return Err(Failure::new(Kind::NotAsPlanned, message));
    }
    Ok((told, follow(session, timeout, &facts).await?))
}

/// The same move is still the one to make, on facts that are newer than the checkpoint.
fn still_so(session: &Session, facts: &Facts, wanted: &LeaderMove) -> Result<(), Failure> {
    let why = match switchover(facts, &Wanted::Member(wanted.to.clone())) {
        Handover::Ready(now) if now.from == wanted.from => return Ok(()),
        Handover::Ready(now) => format!("{} leads now, and not {}", now.from, wanted.from),
        Handover::Nothing(why) | Handover::Refused(why) => why,
    };
    Err(refusal(session, facts, &format!("{why}; nothing was changed")))
}

/// The leader is not moved, because `why`.
fn refusal(session: &Session, facts: &Facts, why: &str) -> Failure {
    let cluster = &facts.change.new;
    let failure = Failure::refused(format!("the leader of {} is not moved: {why}", cluster.name));
    match about_switchover(facts) {
        Some(remedy) => failure.hint(with_flags(&remedy, &session.flags)),
        None => failure,
    }
}

/// Waits until every member that was fit before follows the new leader.
async fn follow(
    session: &Session,
    timeout: Duration,
    before: &Facts,
) -> Result<Vec<String>, Failure> {
    session.interruption.means("interrupted; the leader has moved, the standbys follow it");
    let deadline = Instant::now() + timeout;
    let known = unfit(before);
    loop {
        let facts = session.reader.facts(before.change.clone(), AskWhom::All).await;
        let late = late(&facts, &known);
        if late.is_empty() {
            return Ok(known
                .into_iter()
                .map(|unfit| format!("{} was not fit before: {}", unfit.pod, unfit.why))
                .collect());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(
                Kind::Timeout,
                format!(
                    "the leader has moved, and some do not follow it yet:\n  {}",
                    late.join("\n  ")
                ),
            ));
        }
        sleep(session.pace.poll).await;
    }
}

/// What is missing until every member follows, but those in `known`. What cannot be seen is missing.
fn late(facts: &Facts, known: &[Unfit]) -> Vec<String> {
    let mut late: Vec<String> = facts
        .survivors()
        .filter(|member| !known.iter().any(|known| known.pod == member.name))
        .map(|member| (member, facts.health(member)))
        .filter(|(_, health)| *health != Health::Healthy)
        .map(|(member, health)| format!("{}: {}", member.name, describe(&health)))
        .collect();
    if let Some(why) = facts.members.unreadable() {
        late.push(format!("the members cannot be listed: {why}"));
    }
    if facts.leader_name().is_none() {
        late.push("nobody holds a valid leader lock".to_owned());
    }
    late
}

/// Ends with `failure`, once the document that was asked for tells of it.
fn fail(
    session: &Session,
    format: Format,
    report: ScaleReport<'_>,
    failure: Failure,
) -> Result<(), Failure> {
    // Lives no longer than the failure that it tells of.
    let mut report = report;
    report.result = failure.kind.word();
    report.exit_code = failure.kind.code();
    report.message = Some(&failure.message);
    say(session, format, &report, "")?;
    Err(failure)
}

fn say(
    session: &Session,
    format: Format,
    report: &ScaleReport<'_>,
    text: &str,
) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => session.out.document(format, report),
        Format::Name | Format::Text | Format::Wide if text.is_empty() => Ok(()),
        Format::Name | Format::Text | Format::Wide => session.out.said(text),
    }
}

#[cfg(test)]
mod tests;
