//! `switchover`: move the leader, and nothing else.

use pgscale_guard::Change;
use pgscale_guard::facts::Health;
use pgscale_guard::read::AskWhom;
use tokio::time::{Instant, sleep};

use crate::args::{DryRun, Format, Patience, Shape, Target, Why, count};
use crate::error::{Failure, Kind};
use crate::handover::{Moved, checkpoint, move_leader};
use crate::output::document::{Move, ScaleReport};
use crate::plan::{Handover, LeaderMove, Unfit, Wanted, describe, switchover, unfit};
use crate::record::{Entry, Recording, chance, seconds};
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
  kubectl pgscale switchover acid-a --for 3      before somebody else scales to 3")]
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
    /// Change nothing: show what would be done.
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
    let facts = session.reader.facts(change.clone(), AskWhom::All).await;
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
            report.result = "Refused";
            report.exit_code = Kind::Refused.code();
            report.message = Some(&why);
            say(session, format, &report, "")?;
            Err(Failure::refused(format!("the leader of {name} is not moved: {why}")))
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
            rights::check(session, rights::SWITCHOVER, &facts, true).await?;
            checkpoint(session, &facts, &leader_move).await;
            let facts = session.reader.facts(change.clone(), AskWhom::All).await;
            session.show_warnings();
            still_so(&facts, &leader_move)?;
            let reason = args.why.reason.as_deref();
            let cluster = &facts.change.new;
            let entry = Entry::of_switchover(cluster, &leader_move, facts.now, chance(), reason);
            let (namespace, start) = (facts.change.new.namespace.clone(), Instant::now());
            let recording = Recording::begin(session, &namespace, &name, entry).await;
            let moved = move_leader(session, &facts, &leader_move).await.map_err(|not| not.failure);
            let record = end(session, recording, &leader_move, &moved, start.elapsed()).await;
            report.record = Some(&record);
            let moved = moved?;
            let after = LeaderMove { to: moved.leader.clone(), ..leader_move.clone() };
            report.result = "Converged";
            report.seconds = moved.took.as_secs_f64();
            report.leader_moved = Some(Move::made(&after, &moved));
            if moved.leader != leader_move.to {
                let failure = Failure::new(
                    Kind::NotAsPlanned,
                    format!("{} leads now, and not {}", moved.leader, leader_move.to),
                );
                report.result = "NotAsPlanned";
                report.exit_code = failure.kind.code();
                say(session, format, &report, "")?;
                return Err(failure);
            }
            let notes = follow(session, &change, args.patience.timeout, &facts).await?;
            report.notes = &notes;
            let text = format!("postgresql/{name}: {}", moved.told());
            say(session, format, &report, &text)
        }
    }
}

/// Completes the record of a move.
async fn end(
    session: &Session,
    mut recording: Recording,
    wanted: &LeaderMove,
    moved: &Result<Moved, Failure>,
    took: std::time::Duration,
) -> Entry {
    let entry = &mut recording.entry;
    entry.seconds = Some(seconds(took));
    match moved {
        Ok(moved) => {
            let well = moved.leader == wanted.to;
            let word = if well { "Converged" } else { "NotAsPlanned" };
            word.clone_into(&mut entry.result);
            entry.leader_to = Some(moved.leader.clone());
            entry.pause_seconds = moved.pause.map(seconds);
        }
        Err(failure) => {
            let refused = failure.kind == Kind::Refused;
            let word = if refused { "Refused" } else { "Failed" };
            word.clone_into(&mut entry.result);
            entry.failed(&failure.message);
        }
    }
    recording.end(session).await
}

/// The same move is still the one to make, on facts that are newer than the checkpoint.
fn still_so(facts: &pgscale_guard::Facts, wanted: &LeaderMove) -> Result<(), Failure> {
    let name = &facts.change.new.name;
    let why = match switchover(facts, &Wanted::Member(wanted.to.clone())) {
        Handover::Ready(now) if now.from == wanted.from => return Ok(()),
        Handover::Ready(now) => format!("{} leads now, and not {}", now.from, wanted.from),
        Handover::Nothing(why) | Handover::Refused(why) => why,
    };
    Err(Failure::refused(format!("the leader of {name} is not moved: {why}; nothing was changed")))
}

/// Waits until every member that was fit before follows the new leader.
async fn follow(
    session: &Session,
    change: &Change,
    timeout: std::time::Duration,
    before: &pgscale_guard::Facts,
) -> Result<Vec<String>, Failure> {
    session.interruption.means("interrupted; the leader has moved, the standbys follow it");
    let deadline = Instant::now() + timeout;
    let known = unfit(before);
    loop {
        let facts = session.reader.facts(change.clone(), AskWhom::All).await;
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
fn late(facts: &pgscale_guard::Facts, known: &[Unfit]) -> Vec<String> {
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

fn say(
    session: &Session,
    format: Format,
    report: &ScaleReport<'_>,
    text: &str,
) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => session.out.document(format, report),
        Format::Name | Format::Text | Format::Wide if text.is_empty() => Ok(()),
        Format::Name | Format::Text | Format::Wide => session.out.data(text),
    }
}

#[cfg(test)]
mod tests {
    use pgscale_guard::Seen;

    use super::*;
    use crate::testing::{facts, stalled};

    #[test]
    fn what_cannot_be_seen_does_not_follow() {
        assert_eq!(late(&facts(3, 3, 0), &[]), [""; 0]);
        let behind = stalled(facts(3, 3, 0), 2);
        assert_eq!(late(&behind, &[]).len(), 1);
        assert_eq!(late(&behind, &unfit(&behind)), [""; 0], "it was so before");
        let mut hidden = facts(3, 3, 0);
        hidden.members = Seen::Unreadable("timed out".to_owned());
        let said = late(&hidden, &[]);
        assert!(said.contains(&"the members cannot be listed: timed out".to_owned()), "{said:?}");
        let mut leaderless = facts(3, 3, 0);
        leaderless.leader = Seen::Absent;
        let said = late(&leaderless, &[]);
        assert!(said.contains(&"nobody holds a valid leader lock".to_owned()), "{said:?}");
    }
}
