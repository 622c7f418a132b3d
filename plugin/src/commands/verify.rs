//! `verify`: what the members themselves say.

use pgscale_guard::read::AskWhom;

use crate::args::{Format, Shape, Target, timeout};
use crate::commands::status::{Events, look};
use crate::error::{Failure, Kind};
use crate::output::verify::{ScaleVerification, render};
use crate::session::Session;
use crate::verify::{Canary, Flight, Judgement, Testimony, ask, fly, follows_elsewhere, judge};

/// Check that a cluster is what it should be, by its members' own word.
///
/// Looks once at everything that `wait` waits for. With --sql every member is asked in SQL who it is, whom it follows
/// and who follows it, and the answers are held against each other. With --canary one message is committed to the
/// write-ahead log of the leader (no table is touched), and every standby must replay it.
///
/// Ends with 5 where something is wrong, with 1 where somebody could not be asked, and with 4 where the canary did
/// not arrive in time.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale verify acid-a
  kubectl pgscale verify acid-a --sql
  kubectl pgscale verify acid-a --sql --canary -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Ask every member in SQL.
    #[arg(long)]
    sql: bool,
    /// Write one message on the leader, and wait until every standby has replayed it.
    #[arg(long)]
    canary: bool,
    /// How long the canary may take, such as 5s or 2m; 0 looks once.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout,
        allow_hyphen_values = true)]
    timeout: std::time::Duration,
    #[command(flatten)]
    shape: Shape,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verification {
    /// What is missing for convergence.
    pub(crate) missing: Vec<String>,
    /// What the members said, where they were asked.
    pub(crate) testimonies: Vec<Testimony>,
    /// What follows from that.
    pub(crate) judgement: Judgement,
    /// What became of the message, where one was written; or why none could be.
    pub(crate) canary: Option<Result<Canary, String>>,
}

/// Runs the verb.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    session.interruption.means("interrupted; verifying changes nothing");
    let status = look(session, cluster, AskWhom::All, Events::Left).await;
    session.show_warnings();
    let facts = &status.snapshot.facts;
    let mut found = Verification { missing: status.missing.clone(), ..Verification::default() };
    if args.sql {
        found.testimonies = ask(session, facts).await;
        found.judgement = judge(facts, &found.testimonies);
    }
    if args.canary {
        if follows_elsewhere(facts) {
            return Err(Failure::refused(format!(
                "postgresql {} is a standby cluster: nobody in it can write a canary",
                facts.change.cluster()
            ))
            .hint(session.command(&format!("verify {} --sql", args.target.name))));
        }
        found.canary = Some(match facts.leader_name() {
            Some(leader) => fly(session, facts, leader, args.timeout).await,
            None => Err("nobody holds a valid leader lock".to_owned()),
        });
    }
    match args.shape.output {
        Format::Name => session.out.data(&super::scale::resource(&args.target.name))?,
        Format::Text | Format::Wide => {
            session.out.data(&render(facts, &found, session.out.width))?;
        }
        format @ (Format::Json | Format::Yaml) => {
            session.out.document(format, &ScaleVerification::of(facts, &found))?;
        }
    }
    outcome(&facts.change.cluster(), &found)
}

/// The worst of what was found.
fn outcome(cluster: &str, found: &Verification) -> Result<(), Failure> {
    let told = |kind, what: &str| Err(Failure::new(kind, format!("postgresql {cluster} {what}")));
    let flights = || found.canary.iter().flatten().flat_map(|canary| &canary.flights);
    if !found.missing.is_empty() || !found.judgement.wrong.is_empty() {
        return told(Kind::NotAsPlanned, "is not what it should be");
    }
    if let Some(Err(why)) = &found.canary {
        return told(Kind::NotAsPlanned, &format!("took no canary: {why}"));
    }
    if flights().any(|(_, flight)| matches!(flight, Flight::Late(_))) {
        return told(Kind::Timeout, "has standbys that did not replay the canary in time");
    }
    let unseen = flights().any(|(_, flight)| matches!(flight, Flight::Unseen(_)));
    if unseen || !found.judgement.unheard.is_empty() {
        return told(Kind::Error, "could not be verified in full: some members could not be asked");
    }
    Ok(())
}
