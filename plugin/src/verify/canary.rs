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

/// The question for the standbys that must have a commit before it is done, and for the number of
/// them that are there. A commit waits without end for one that is not there, and only a cancel
/// frees its backend.
const WAITS: &str = "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'), \
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))";

/// The question for the end of the WAL after that commit.
const END: &str = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn";

/// The question for the position that a standby has replayed.
const REPLAYED: &str = "SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn";

/// The time limit of one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The result of the message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Canary {
    /// The leader that wrote it.
    pub(crate) leader: String,
    /// The time from the request until the leader had committed it.
    pub(crate) committed: Duration,
    /// Every standby, by name.
    pub(crate) flights: Vec<(String, Flight)>,
}

/// The arrival of the message at one standby.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Flight {
    /// The standby had replayed it at most this long after the commit.
    Arrived(Duration),
    /// It had not replayed the message in time, and lacked this number of bytes.
    Late(u64),
    /// The standby could not be asked.
    Unseen(String),
}

/// The reason for which no message was written, or is not known to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoCanary {
    /// One line for people.
    pub(crate) why: String,
    /// The kind: the leader refused it, or it was not done in time, or no member could be asked.
    pub(crate) kind: Kind,
}

impl NoCanary {
    /// Returns a failure of this `kind`, because of `why`.
    pub(crate) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { why: why.into(), kind }
    }

    /// Returns psql's failure: PostgreSQL's own refusal, or that it was not reached.
    fn said(error: ExecError) -> Self {
        let why = match error {
            ExecError::Forbidden(_) => return Self::new(Kind::Error, error.to_string()),
            ExecError::NoConnection => error.to_string(),
            ExecError::Failed(why) => why,
        };
        let spoke = ["ERROR:", "FATAL:", "DETAIL:", "HINT:"].iter().any(|word| why.contains(word));
        Self::new(if spoke { Kind::NotAsPlanned } else { Kind::Error }, why)
    }
}

/// Writes the message on `leader` and waits for it on every other member, for at most `timeout`
/// together.
///
/// # Errors
/// The leader did not commit it.
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

/// Checks that a commit on `leader` will end, by its report on the standbys that it waits for.
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

/// Returns the number of standbys that must have a commit: `FIRST 2 (a, b)`, `ANY 2 (a, b)`, `2 (a,
/// b)`, or a list of which one must.
fn needed(names: &str) -> usize {
    match names.split_once('(') {
        _ if names.trim().is_empty() => 0,
        Some((head, _)) => {
            head.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(1)
        }
        None => 1,
    }
}

/// Commits a message that no table, and no reader but a logical decoder of its prefix, ever sees.
/// It is transactional, so that it is flushed and, in synchronous mode, waited for like any commit.
async fn emit(exec: &dyn Exec, pod: &Address, patience: Duration) -> Result<(), NoCanary> {
    // A text of its own, by which its backend is found.
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
