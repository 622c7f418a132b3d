//! One message through the write-ahead log: written on the leader, and waited for on every standby.

use std::time::Duration;

use futures::future::join_all;
use pgscale_guard::facts::Facts;
use pgscale_guard::read::Address;
use tokio::time::{Instant, sleep};

use crate::inside::sql;
use crate::session::{Session, address};

/// Commits a message that no table, and no reader but a logical decoder of its prefix, ever sees. Transactional, so
/// that it is flushed and, in synchronous mode, waited for like any commit.
const EMIT: &str = "SELECT pg_logical_emit_message(true, 'pgscale', 'canary')";

/// Where the log ends after that commit.
const END: &str = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn";

/// How far a standby has come.
const REPLAYED: &str = "SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn";

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Canary {
    /// The leader that wrote it.
    pub(crate) leader: String,
    /// From the request until the leader had committed it.
    pub(crate) committed: Duration,
    /// Every standby, by name.
    pub(crate) flights: Vec<(String, Flight)>,
}

/// What one standby made of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Flight {
    /// It was seen to have replayed it so long after the commit at the latest.
    Arrived(Duration),
    /// It had not replayed it in time, and lacked so many bytes.
    Late(u64),
    /// It could not be asked.
    Unseen(String),
}

/// Writes the message on `leader` and waits for it everywhere else, for at most `timeout`.
///
/// # Errors
/// One line for people, where the leader did not commit it.
pub(crate) async fn fly(
    session: &Session,
    facts: &Facts,
    leader: &str,
    timeout: Duration,
) -> Result<Canary, String> {
    let inside = session.inside.as_ref();
    let pod = address(facts, leader);
    let start = Instant::now();
    sql(inside, &pod, EMIT, PATIENCE).await?;
    let (committed, since) = (start.elapsed(), Instant::now());
    let end = position(&sql(inside, &pod, END, PATIENCE).await?)
        .ok_or_else(|| format!("{leader} did not say where its log ends"))?;
    let standbys = facts.all_members().iter().filter(|member| member.name != leader);
    let flights = join_all(standbys.map(async |member| {
        let pod = address(facts, &member.name);
        (member.name.clone(), land(session, &pod, end, since, timeout).await)
    }));
    Ok(Canary { leader: leader.to_owned(), committed, flights: flights.await })
}

async fn land(
    session: &Session,
    pod: &Address,
    end: u64,
    since: Instant,
    timeout: Duration,
) -> Flight {
    loop {
        let flight = match sql(session.inside.as_ref(), pod, REPLAYED, PATIENCE).await {
            Err(why) => Flight::Unseen(why),
            Ok(rows) => match position(&rows) {
                Some(replayed) if replayed >= end => return Flight::Arrived(since.elapsed()),
                Some(replayed) => Flight::Late(end - replayed),
                None => Flight::Unseen("it has replayed nothing yet".to_owned()),
            },
        };
        if since.elapsed() >= timeout {
            return flight;
        }
        sleep(session.pace.sample).await;
    }
}

fn position(rows: &[Vec<String>]) -> Option<u64> {
    rows.first()?.first()?.parse().ok()
}
