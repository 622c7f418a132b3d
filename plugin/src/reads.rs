//! The reads of every member according to its own PostgreSQL: rows and blocks, tables, the lag of
//! its replicas, the rate of its WAL, and the slots that hold WAL back.
//!
//! Each member answers one statement, twice, with a pause in between: rates are the difference.
//! Rows, members asked at a time and every answer's time are bounded. Nothing but what is shown
//! rests on it.

use std::cmp::Reverse;

use futures::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::duration::exact;
use pgscale_guard::facts::Facts;
use pgscale_guard::read::Address;
use pgscale_guard::remedy::{Command, Remedy};
use tokio::time::{sleep, timeout};

use crate::exec::{ExecError, sql_in};
use crate::members::Delays;
use crate::session::{Session, address};

mod rows;

/// The number of members that are asked at a time.
const AT_ONCE: usize = 8;

/// The number of tables of each member that are shown where no number is given.
pub(crate) const TABLES: usize = 5;

/// The databases of each member whose tables are read: those that are read most.
const DATABASES: usize = 8;

/// One sample of a member. Rows of each kind are bounded, and those that matter most come first.
///
/// `to_jsonb` reads `wal_status`, which PostgreSQL has since version 13, without an error before.
const SAMPLE: &str = "WITH here AS (SELECT pg_is_in_recovery() AS standby, \
     CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
          ELSE pg_current_wal_lsn() END AS wal) \
     SELECT 'member', standby::text, extract(epoch FROM clock_timestamp())::text, (wal - '0/0'::pg_lsn)::text, \
     (SELECT count(*) FROM pg_replication_slots)::text, \
     (SELECT count(*) FROM pg_database WHERE datallowconn AND NOT datistemplate)::text, '', '' FROM here \
     UNION ALL SELECT 'reads', sum(tup_returned)::text, sum(tup_fetched)::text, sum(blks_read)::text, \
     sum(blks_hit)::text, extract(epoch FROM max(stats_reset))::bigint::text, '', '' FROM pg_stat_database \
     UNION ALL (SELECT 'database', datname::text, '', '', '', '', '', '' FROM pg_stat_database JOIN pg_database \
     USING (datname) WHERE datallowconn AND NOT datistemplate ORDER BY tup_returned + tup_fetched DESC, datname LIMIT 8) \
     UNION ALL (SELECT 'replica', application_name, pg_wal_lsn_diff(wal, write_lsn)::text, \
     pg_wal_lsn_diff(wal, flush_lsn)::text, pg_wal_lsn_diff(wal, replay_lsn)::text, \
     extract(epoch FROM write_lag)::text, extract(epoch FROM flush_lag)::text, extract(epoch FROM replay_lag)::text \
     FROM pg_stat_replication, here WHERE state <> 'backup' ORDER BY application_name LIMIT 64) \
     UNION ALL (SELECT 'slot', slot_name::text, slot_type, active::text, pg_wal_lsn_diff(wal, restart_lsn)::text, \
     to_jsonb(slot)->>'wal_status', database::text, '' FROM pg_replication_slots AS slot, here \
     ORDER BY restart_lsn, slot_name LIMIT 64)";

/// Returns the statement for the busiest tables of one database.
fn busiest(tables: usize) -> String {
    format!(
        "SELECT schemaname, relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch FROM pg_stat_user_tables \
         ORDER BY coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) DESC, schemaname, relname LIMIT {tables}"
    )
}

/// The reads of one member.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberReads {
    /// The member.
    pub(crate) member: String,
    /// Its answers, or the reason for having none.
    pub(crate) said: Result<Measured, ExecError>,
}

/// The answers of one member.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Its second sample, or else the first one.
    pub(crate) sample: Sample,
    /// The rates between the samples, or the reason why they are not known.
    pub(crate) rates: Result<Rates, String>,
    /// Its busiest tables, the busiest first.
    pub(crate) tables: Vec<TableReads>,
    /// The tables that could not be read, each with the reason.
    pub(crate) unread: Vec<String>,
}

/// One look at a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// It replays WAL of another server.
    pub(crate) standby: bool,
    /// The seconds of its clock.
    at: f64,
    /// The end of its WAL: written on a leader, received on a replica.
    pub(crate) wal: Option<u64>,
    /// What it has read since its statistics began.
    pub(crate) counters: Counters,
    /// Its databases, the most read first.
    databases: Vec<String>,
    /// The number of all its databases.
    databases_in_all: u64,
    /// The servers that receive its WAL.
    pub(crate) replicas: Vec<Replica>,
    /// Its slots, the one that holds back most first.
    pub(crate) slots: Vec<HeldSlot>,
    /// The number of all its slots.
    pub(crate) slots_in_all: u64,
}

/// Counters of all databases of a member (`pg_stat_database`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counters {
    /// Rows that scans have read (`tup_returned`).
    pub(crate) returned: u64,
    /// Rows that index scans have fetched (`tup_fetched`).
    pub(crate) fetched: u64,
    /// Blocks that were not in PostgreSQL's cache (`blks_read`).
    pub(crate) blocks_read: u64,
    /// Blocks that were (`blks_hit`).
    pub(crate) blocks_hit: u64,
    /// The last reset of the statistics of a database. `None` where there was none.
    pub(crate) since: Option<Timestamp>,
}

impl Counters {
    /// Returns the part of blocks that were in the cache. `None` where no block was wanted.
    pub(crate) fn hit_ratio(&self) -> Option<f64> {
        let all = self.blocks_hit.checked_add(self.blocks_read).filter(|all| *all > 0)?;
        Some(float(self.blocks_hit) / float(all))
    }
}

/// Rates between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// The seconds between them.
    pub(crate) seconds: f64,
    /// Rows that scans read in a second. `None` where the statistics were reset in between.
    pub(crate) rows: Option<f64>,
    /// Bytes of WAL in a second: written on a leader, received on a replica. `None` where the
    /// position was not known, or went back.
    pub(crate) wal: Option<f64>,
}

impl Rates {
    fn between(first: &Sample, second: &Sample) -> Result<Self, String> {
        let seconds = second.at - first.at;
        if !(seconds.is_finite() && seconds > 0.0) {
            return Err("its clock did not go forward between two looks".to_owned());
        }
        let rate = |from: u64, to: u64| Some(float(to.checked_sub(from)?) / seconds);
        Ok(Self {
            seconds,
            rows: rate(first.counters.returned, second.counters.returned),
            wal: first.wal.zip(second.wal).and_then(|(from, to)| rate(from, to)),
        })
    }
}

/// A server that receives a member's WAL (`pg_stat_replication`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Replica {
    /// Its name.
    pub(crate) name: String,
    /// The bytes that it has not written.
    pub(crate) write: Option<u64>,
    /// The bytes that it has not flushed.
    pub(crate) flush: Option<u64>,
    /// The bytes that it has not replayed.
    pub(crate) replay: Option<u64>,
    /// The same in seconds.
    pub(crate) delays: Delays,
}

/// A replication slot (`pg_replication_slots`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeldSlot {
    /// Its name.
    pub(crate) name: String,
    /// The database of a logical slot.
    pub(crate) database: Option<String>,
    /// `physical` or `logical`.
    pub(crate) kind: String,
    /// A reader is connected to it.
    pub(crate) active: bool,
    /// Bytes of WAL that it holds back. `None` for a slot that reserves none.
    pub(crate) held: Option<u64>,
    /// `wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) state: Option<String>,
}

/// The reads of one table on one member (`pg_stat_user_tables`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableReads {
    /// Its database.
    pub(crate) database: String,
    /// Its schema.
    pub(crate) schema: String,
    /// Its name.
    pub(crate) name: String,
    /// Sequential scans.
    pub(crate) seq_scan: u64,
    /// Rows that these read.
    pub(crate) seq_tup_read: u64,
    /// Index scans. `None` for a table without an index.
    pub(crate) idx_scan: Option<u64>,
    /// Rows that these fetched.
    pub(crate) idx_tup_fetch: Option<u64>,
}

impl TableReads {
    fn rows(&self) -> u64 {
        self.seq_tup_read.saturating_add(self.idx_tup_fetch.unwrap_or(0))
    }
}

/// The reads of all members.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reads {
    /// Each member.
    pub(crate) members: Vec<MemberReads>,
    /// The check of the permission without which none could be asked.
    pub(crate) check: Option<Remedy>,
}

impl Reads {
    /// Asks every member, with so many tables of each.
    pub(crate) async fn ask(session: &Session, facts: &Facts, tables: usize) -> Self {
        let members = ask(session, facts, tables).await;
        let check = forbidden(&members).map(|_| {
            let words = ["auth", "can-i", "create", "pods", "--subresource=exec", "-n"];
            let words = words.into_iter().chain([facts.change.new.namespace.as_str()]);
            Remedy::from(Command::kubectl(words)).reached_by(&session.reach)
        });
        Self { members, check }
    }
}

/// Asks every member, with so many tables of each.
pub(crate) async fn ask(session: &Session, facts: &Facts, tables: usize) -> Vec<MemberReads> {
    let members: Vec<String> =
        facts.all_members().iter().map(|member| member.name.clone()).collect();
    stream::iter(members)
        .map(|member| {
            async move {
                let said = measured(session, &address(facts, &member), tables).await;
                MemberReads { member, said }
            }
            // Boxed: the state between all these answers would make every caller's future large.
            .boxed()
        })
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// Returns the missing permission, where that kept every member from being asked.
fn forbidden(all: &[MemberReads]) -> Option<String> {
    let missing = |one: &MemberReads| match &one.said {
        Err(error @ ExecError::Forbidden(_)) => Some(error.to_string()),
        Ok(_) | Err(ExecError::NoConnection | ExecError::Failed(_)) => None,
    };
    all.iter().map(missing).collect::<Option<Vec<String>>>()?.pop()
}

/// Returns the rates that are not known, one line for each reason.
pub(crate) fn unread<'a>(all: impl IntoIterator<Item = &'a MemberReads>) -> Vec<String> {
    let mut by_reason: Vec<(String, Vec<&str>)> = Vec::new();
    for one in all {
        let why = match &one.said {
            Err(error) => error.to_string(),
            Ok(Measured { rates: Err(why), .. }) => why.clone(),
            Ok(_) => continue,
        };
        match by_reason.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, members)) => members.push(&one.member),
            None => by_reason.push((why, vec![&one.member])),
        }
    }
    let line = |(why, members): (String, Vec<&str>)| match members.as_slice() {
        [one] => format!("what {one} reads: {why}"),
        [one, two] => format!("what {one} and {two} read: {why}"),
        [one, rest @ ..] => format!("what {one} and {} more members read: {why}", rest.len()),
        [] => why,
    };
    by_reason.into_iter().map(line).collect()
}

async fn measured(session: &Session, pod: &Address, tables: usize) -> Result<Measured, ExecError> {
    let look = async || {
        let answer = limited(session, pod, "postgres", SAMPLE).await?;
        rows::sample(&answer).map_err(ExecError::Failed)
    };
    let first = look().await?;
    sleep(session.pace.rate).await;
    let (sample, rates) = match look().await {
        Ok(second) => {
            let rates = Rates::between(&first, &second);
            (second, rates)
        }
        Err(error) => (first, Err(error.to_string())),
    };
    let mut measured = Measured { sample, rates, tables: Vec::new(), unread: Vec::new() };
    if tables > 0 {
        read_tables(session, pod, tables, &mut measured).await;
    }
    Ok(measured)
}

/// Reads the busiest tables. Each database is a connection of its own.
async fn read_tables(session: &Session, pod: &Address, most: usize, measured: &mut Measured) {
    let statement = busiest(most);
    for database in &measured.sample.databases {
        let answer = limited(session, pod, database, &statement).await;
        let read = answer.map_err(|error| error.to_string());
        match read.and_then(|answer| rows::tables(database, &answer)) {
            Ok(tables) => measured.tables.extend(tables),
            Err(why) => measured.unread.push(format!("tables of database {database}: {why}")),
        }
    }
    measured.tables.sort_by_cached_key(|table| Reverse(table.rows()));
    measured.tables.truncate(most);
    let asked = u64::try_from(measured.sample.databases.len()).unwrap_or(u64::MAX);
    let besides = measured.sample.databases_in_all.saturating_sub(asked);
    if besides > 0 {
        measured.unread.push(format!(
            "tables of {besides} more databases: only the {DATABASES} that are read most are asked"
        ));
    }
}

/// Asks with a time limit that PostgreSQL itself keeps.
async fn limited(
    session: &Session,
    pod: &Address,
    database: &str,
    statement: &str,
) -> Result<Vec<Vec<String>>, ExecError> {
    let limit = session.pace.impact;
    let statement = format!("SET statement_timeout = {}; {statement}", limit.as_millis().max(1));
    let answer = sql_in(session.exec.as_ref(), pod, database, &statement, limit);
    let late = || ExecError::Failed(format!("not done within {}", exact(limit)));
    timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
}

/// Returns a count as a number with a fraction: those above 2^53 lose their last digits.
#[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests;
