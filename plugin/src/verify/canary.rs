//! One message through the write-ahead log: written on the leader, and waited for on every standby.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::duration::exact;
use pgscale_guard::facts::Facts;
use pgscale_guard::read::Address;
use tokio::time::{Instant, sleep};

use crate::error::Kind;
use crate::exec::{Exec, ExecError, sql};
use crate::session::{Session, address};

/// Who must have a commit before it is done, and how many of them are there. One that is not there is waited for
/// without end, and nobody but a cancel gets the backend out of that.
const WAITS: &str = "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), \
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))";

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

/// Why no message was written, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoCanary {
    /// One line for people.
    pub(crate) why: String,
    /// The leader refused it, or it was not done in time, or nobody could be asked.
    pub(crate) kind: Kind,
}

impl NoCanary {
    /// `kind`, because `why`.
    pub(crate) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { why: why.into(), kind }
    }

    /// What psql said: PostgreSQL's own no, or that it was not reached.
    fn said(error: ExecError) -> Self {
        let why = match error {
            ExecError::Forbidden(_) => return Self::new(Kind::Error, error.to_string()),
            ExecError::Failed(why) => why,
        };
        let spoke = ["ERROR:", "FATAL:", "DETAIL:", "HINT:"].iter().any(|word| why.contains(word));
        Self::new(if spoke { Kind::NotAsPlanned } else { Kind::Error }, why)
    }
}

/// Writes the message on `leader` and waits for it everywhere else, for at most `timeout` together.
///
/// # Errors
/// Where the leader did not commit it.
pub(crate) async fn fly(
    session: &Session,
    facts: &Facts,
    leader: &str,
    timeout: Duration,
) -> Result<Canary, NoCanary> {
    if let Some(why) = facts.members.unreadable() {
        let why = format!("the members cannot be listed: {why}");
        return Err(NoCanary::new(Kind::Error, why));
    }
    let exec = session.exec.as_ref();
    let pod = address(facts, leader);
    let waits = sql(exec, &pod, WAITS, PATIENCE).await.map_err(NoCanary::said)?;
    can_commit(leader, &waits)?;
    let start = Instant::now();
    emit(exec, &pod, if timeout.is_zero() { PATIENCE } else { timeout }).await?;
    let (committed, since) = (start.elapsed(), Instant::now());
    let end = position(&sql(exec, &pod, END, PATIENCE).await.map_err(NoCanary::said)?).ok_or_else(
        || NoCanary::new(Kind::Error, format!("{leader} did not say where its log ends")),
    )?;
    let standbys = facts.all_members().iter().filter(|member| member.name != leader);
    let left = timeout.saturating_sub(start.elapsed());
    let flights = join_all(standbys.map(async |member| {
        let pod = address(facts, &member.name);
        (member.name.clone(), land(session, &pod, end, since, left).await)
    }));
    Ok(Canary { leader: leader.to_owned(), committed, flights: flights.await })
}

/// A commit on `leader` will end, by what it said about whom it waits for.
fn can_commit(leader: &str, waits: &[Vec<String>]) -> Result<(), NoCanary> {
    let odd =
        || NoCanary::new(Kind::Error, format!("{leader} did not say whom a commit waits for"));
    let [row] = waits else { return Err(odd()) };
    let [names, commit, there] = row.as_slice() else { return Err(odd()) };
    let there: usize = there.parse().map_err(|_| odd())?;
    let needed = needed(names);
    if there >= needed || matches!(commit.as_str(), "local" | "off") {
        return Ok(());
    }
    Err(NoCanary::new(
        Kind::NotAsPlanned,
        format!(
            "a commit on {leader} would wait without end: it needs {needed} of the synchronous standbys {names}, and \
             {there} are there; nothing was written"
        ),
    ))
}

/// How many standbys must have a commit: `FIRST 2 (a, b)`, `ANY 2 (a, b)`, `2 (a, b)`, or a list of which one must.
fn needed(names: &str) -> usize {
    match names.split_once('(') {
        _ if names.trim().is_empty() => 0,
        Some((head, _)) => {
            head.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(1)
        }
        None => 1,
    }
}

/// Commits a message that no table, and no reader but a logical decoder of its prefix, ever sees. Transactional, so
/// that it is flushed and, in synchronous mode, waited for like any commit.
async fn emit(exec: &dyn Exec, pod: &Address, patience: Duration) -> Result<(), NoCanary> {
    // Its own text, by which its backend is found.
    let text = format!("canary {}", Timestamp::now().as_nanosecond());
    let statement = format!("SELECT pg_logical_emit_message(true, 'pgscale', '{text}')");
    let said = sql(exec, pod, &statement, patience + PATIENCE);
    let Ok(said) = tokio::time::timeout(patience, said).await else {
        // A backend that waits for a standby does not see that its client has gone.
        let release = format!(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = $${statement}$$ AND state = 'active'"
        );
        let released = match sql(exec, pod, &release, PATIENCE).await {
            Ok(rows) if rows.is_empty() => "it is not waited for any more".to_owned(),
            Ok(_) => "its wait was ended".to_owned(),
            Err(why) => format!("whether it still waits could not be seen: {why}"),
        };
        let limit = exact(patience);
        let why = format!("the message was not committed within {limit}; {released}");
        return Err(NoCanary::new(Kind::Timeout, why));
    };
    said.map(drop).map_err(NoCanary::said)
}

async fn land(
    session: &Session,
    pod: &Address,
    end: u64,
    since: Instant,
    timeout: Duration,
) -> Flight {
    loop {
        let flight = match sql(session.exec.as_ref(), pod, REPLAYED, PATIENCE).await {
            Err(why) => Flight::Unseen(why.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_needs_as_many_standbys_as_their_names_say() {
        for (names, want) in [
            ("", 0),
            ("*", 1),
            ("\"acid-a-1\"", 1),
            ("a, b", 1),
            ("2 (a, b)", 2),
            ("FIRST 1 (a, b)", 1),
            ("ANY 2(a,b,c)", 2),
            ("\"odd(name\"", 1),
        ] {
            assert_eq!(needed(names), want, "{names}");
        }
        let row = |names: &str, commit: &str, there: &str| {
            vec![vec![names.to_owned(), commit.to_owned(), there.to_owned()]]
        };
        assert_eq!(can_commit("acid-a-0", &row("ANY 2 (a, b)", "on", "2")), Ok(()));
        assert_eq!(can_commit("acid-a-0", &row("*", "local", "0")), Ok(()));
        let kind = |waits: &[Vec<String>]| can_commit("acid-a-0", waits).unwrap_err().kind;
        assert_eq!(kind(&row("*", "remote_apply", "0")), Kind::NotAsPlanned);
        assert_eq!(kind(&[]), Kind::Error);
    }
}
