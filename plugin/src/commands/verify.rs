//! `verify`: the state of a cluster according to its members.

use pgscale_guard::duration::exact;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Assessed, Change, Facts};
use serde_json::Value;
use tokio::time::sleep;

use super::each::{Place, Places, places, together};
use crate::args::{Shape, Target, Which, timeout};
use crate::document::{ScaleVerification, ScaleVerificationList};
use crate::error::{Failure, Kind};
use crate::exec::ExecError;
use crate::services;
use crate::session::Session;
use crate::terminal::Format;
use crate::verify::{
    Before, Canary, Flight, NoCanary, Testimony, Verification, ask, fly, follows_elsewhere, judge,
};
use crate::view::verify::render;
use crate::watch::{Goal, Snapshot, lacks};

/// Check that a cluster is what it should be, by its members' own word.
///
/// Looks at everything that `wait` waits for. Every member is asked in SQL who it is, whom it follows
/// and who follows it, and the answers are held against each other: by default where you may exec
/// into pods, and a note says so where you may not. With --sql a member that cannot be asked is a
/// failure. With --sql=false none is asked. What looks wrong is looked at again some seconds later, and reported only if it is still so: a failover in
/// between is not wrong. With --canary one message is committed to the write-ahead log of the
/// leader (no table is touched), and every standby must replay it.
///
/// Ends with 5 where something is wrong, with 1 where something could not be read or a member not
/// be asked, and with 4 where the canary was not committed or did not arrive in time.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale verify acid-a
  kubectl pgscale verify -l env=production -A
  kubectl pgscale verify acid-a --sql=false         without SQL
  kubectl pgscale verify acid-a --canary -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The one of them that is verified now.
    #[arg(skip)]
    target: Target,
    /// Ask in SQL; by default where you may exec.
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    sql: Option<bool>,
    /// Write one message and see it replayed.
    ///
    /// It is committed on the leader, and every standby must replay it.
    #[arg(long)]
    canary: bool,
    /// Time limit for the canary, such as 5s or 2m.
    ///
    /// The commit is included. 0 looks once for it.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout,
        allow_hyphen_values = true)]
    timeout: std::time::Duration,
    #[command(flatten)]
    shape: Shape,
}

/// The number of looks at a cluster where every look finds something else.
const LOOKS: usize = 3;

/// Verifies the clusters, one after the other, and prints the findings.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    session.interruption.means("interrupted; verifying changes nothing");
    let this = |name: &str| Args { target: Target { name: name.to_owned() }, ..args.clone() };
    let all = match places(session, &args.which).await? {
        Places::One(name) => return Box::pin(verify(session, this(&name), None)).await,
        Places::Several(all) => all,
    };
    let mut documents = Vec::new();
    let mut ended: Vec<(&Place, Option<Failure>)> = Vec::new();
    for place in &all {
        let found = verify(&place.session, this(&place.name), Some(&mut documents));
        ended.push((place, Box::pin(found).await.err()));
    }
    if let format @ (Format::Json | Format::Yaml) = args.shape.output {
        session.out.document(format, &ScaleVerificationList::of(documents))?;
    }
    together(&ended, "are not known to be what they should be")
}

/// Verifies one cluster and prints the findings. A document of one of several goes to `documents`.
async fn verify(
    session: &Session,
    args: Args,
    documents: Option<&mut Vec<Value>>,
) -> Result<(), Failure> {
    let (mut facts, mut found) = look_until_sure(session, &args).await?;
    if args.canary {
        let mut canary = send(session, &facts, &args).await?;
        // The leader, or the standby that it waits for, may have changed since the look.
        if canary.as_ref().is_err_and(|none| none.kind == Kind::NotAsPlanned) {
            pause(session).await;
            (facts, found) = look_until_sure(session, &args).await?;
            canary = send(session, &facts, &args).await?;
        }
        found.canary = Some(canary);
    }
    match args.shape.output {
        Format::Name => session.out.data(&super::scale::resource(&args.target.name))?,
        Format::Text | Format::Wide => {
            session.out.data(&render(&facts, &found, session.out.width))?;
        }
        format @ (Format::Json | Format::Yaml) => {
            let document = ScaleVerification::of(&facts, &found);
            match documents {
                None => session.out.document(format, &document)?,
                Some(all) => all.extend(serde_json::to_value(&document).ok()),
            }
        }
    }
    outcome(&facts.change.cluster(), &found)
}

/// Looks at the cluster, and looks again where that leaves a doubt. A problem counts when two looks
/// in a row find it.
async fn look_until_sure(
    session: &Session,
    args: &Args,
) -> Result<(Assessed, Verification), Failure> {
    let mut before: Option<Before> = None;
    for _ in 1..LOOKS {
        let (facts, mut found) = look_once(session, args).await?;
        let sure = match &before {
            None => found.is_right() && found.unheard().next().is_none(),
            Some(before) => found.is_right() || found.keep_what_was_so(before),
        };
        if sure {
            return Ok((facts, found));
        }
        before = Some(Before::of(found));
        pause(session).await;
    }
    let (facts, mut found) = look_once(session, args).await?;
    if let Some(before) = before {
        found.keep_what_was_so(&before);
    }
    Ok((facts, found))
}

async fn pause(session: &Session) {
    let pause = session.pace.stable;
    session.out.note(&format!("something looks wrong; looking again in {} ...", exact(pause)));
    sleep(pause).await;
}

async fn look_once(session: &Session, args: &Args) -> Result<(Assessed, Verification), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    let goal = Goal::of_cluster(&cluster);
    let change = Change::of_count(cluster, goal.count);
    let ((facts, policies), services) = futures::join!(
        session.facts(change, AskWhom::All),
        services::read(&session.client, &goal.namespace, &goal.name)
    );
    session.show_warnings();
    let facts = Assessed::of(facts, &policies);
    let snapshot = Snapshot { facts, services };
    let mut found = Verification::default();
    for lack in lacks(&goal, &snapshot) {
        if lack.is_unread() {
            found.unread.push(lack.to_string());
        } else {
            found.missing.push(lack);
        }
    }
    let Snapshot { facts, services } = snapshot;
    found.unread.extend(services.unchecked(&goal.name));
    if args.sql != Some(false) {
        let testimonies = ask(session, &facts).await;
        found.unasked = forbidden(&testimonies).filter(|_| args.sql.is_none());
        if found.unasked.is_none() {
            found.result = judge(&facts, &testimonies);
            found.testimonies = testimonies;
        }
    }
    Ok((facts, found))
}

/// Returns the permission that is missing, where that kept every member from being asked.
fn forbidden(testimonies: &[Testimony]) -> Option<String> {
    let missing = |testimony: &Testimony| match &testimony.words {
        Err(error @ ExecError::Forbidden(_)) => Some(error.to_string()),
        Ok(_) | Err(ExecError::NoConnection | ExecError::Failed(_)) => None,
    };
    let all: Option<Vec<String>> = testimonies.iter().map(missing).collect();
    all?.pop()
}

/// Sends the canary, where one is possible.
async fn send(
    session: &Session,
    facts: &Facts,
    args: &Args,
) -> Result<Result<Canary, NoCanary>, Failure> {
    if follows_elsewhere(facts) {
        return Err(Failure::error(format!(
            "postgresql {} is a standby cluster: no member can write a canary",
            facts.change.cluster()
        ))
        .hint_to("without a canary", session.suggest(&["verify", &args.target.name])));
    }
    let none = |kind, why: String| Ok(Err(NoCanary::new(kind, why)));
    match (facts.leader_name(), facts.leader.unreadable()) {
        (Some(leader), _) => Ok(fly(session, facts, leader, args.timeout).await),
        (None, Some(why)) => none(Kind::Error, format!("the leader lock cannot be read: {why}")),
        (None, None) if facts.to() == 0 => none(Kind::Error, "it runs no instance".to_owned()),
        (None, None) => none(Kind::NotAsPlanned, "no member holds a valid leader lock".to_owned()),
    }
}

/// Returns the worst of the findings.
fn outcome(cluster: &str, found: &Verification) -> Result<(), Failure> {
    let reported =
        |kind, what: &str| Err(Failure::new(kind, format!("postgresql {cluster} {what}")));
    if !found.is_right() {
        return reported(Kind::NotAsPlanned, "is not what it should be");
    }
    let flights = match &found.canary {
        Some(Err(NoCanary { why, kind })) => {
            return reported(*kind, &format!("took no canary: {why}"));
        }
        Some(Ok(canary)) if canary.flights.is_empty() => {
            return reported(Kind::Error, "has no standby: no member could replay the canary");
        }
        Some(Ok(canary)) => canary.flights.as_slice(),
        None => &[],
    };
    if flights.iter().any(|(_, flight)| matches!(flight, Flight::Late(_))) {
        return reported(Kind::Timeout, "has standbys that did not replay the canary in time");
    }
    let unseen = flights.iter().any(|(_, flight)| matches!(flight, Flight::Unseen(_)));
    if unseen || !found.result.unheard.is_empty() {
        return reported(
            Kind::Error,
            "could not be verified in full: some members could not be asked",
        );
    }
    if !found.unread.is_empty() {
        return reported(Kind::Error, "could not be verified in full: something could not be read");
    }
    Ok(())
}
