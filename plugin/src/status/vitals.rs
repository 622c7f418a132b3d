//! The knowledge of the leader's PostgreSQL alone: the size of the data, the delays of the replicas, the
//! archive of the WAL.
//!
//! It is asked in SQL where the caller may exec into pods. What could not be asked is an error with
//! its reason, and nothing rests on it but what is shown.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::capacity::Look;
use pgscale_guard::facts::Facts;
use tokio::time::Instant;

use crate::exec::{odd, sql};
use crate::members::Delays;
use crate::session::{Session, address};

/// Bytes of all databases.
const SIZE: &str = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database";

/// The archiver, and the delay of each replica (PostgreSQL 10 and later). The delays are NULL while
/// a replica that has replayed everything is idle.
const FLOW: &str = "SELECT 'archive', current_setting('archive_mode'), \
     extract(epoch FROM last_archived_time)::bigint::text, \
     extract(epoch FROM last_failed_time)::bigint::text, '' FROM pg_stat_archiver \
     UNION ALL SELECT 'replica', application_name, extract(epoch FROM write_lag)::text, \
     extract(epoch FROM flush_lag)::text, extract(epoch FROM replay_lag)::text \
     FROM pg_stat_replication WHERE state <> 'backup'";

/// The answers of the leader's PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vitals {
    /// Bytes of all its databases.
    pub(crate) data: Look<u64>,
    /// The way of its WAL.
    pub(crate) flow: Look<Flow>,
}

/// The way of a leader's WAL to its replicas and to the archive.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    /// The delays of each replica, by its name.
    pub(crate) delays: BTreeMap<String, Delays>,
    /// The archive.
    pub(crate) archive: Archive,
}

impl Flow {
    /// Returns the delays of a replica. PostgreSQL prints the name in the case that Patroni gave it.
    pub(crate) fn of(&self, member: &str) -> Option<&Delays> {
        let mut all = self.delays.iter();
        all.find(|(name, _)| name.eq_ignore_ascii_case(member)).map(|(_, delays)| delays)
    }
}

/// The archive of the WAL (`pg_stat_archiver`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Archive {
    /// `archive_mode` is not `off`.
    pub(crate) on: bool,
    /// The time of the last success.
    pub(crate) last: Option<Timestamp>,
    /// The time of the last failure.
    pub(crate) failed: Option<Timestamp>,
}

impl Archive {
    /// Returns whether the last attempt failed.
    pub(crate) fn fails(&self) -> bool {
        self.on && self.failed.is_some_and(|failed| self.last.is_none_or(|last| last < failed))
    }
}

impl Vitals {
    /// Returns what is known where PostgreSQL was not asked, for the reason `why`.
    pub(crate) fn unknown(why: &str) -> Self {
        Self { data: Err(why.to_owned()), flow: Err(why.to_owned()) }
    }

    /// Asks the leader. PostgreSQL itself cancels what takes too long. The size costs a look at every
    /// file, so a caller that looks `again` and again does without.
    pub(crate) async fn ask(session: &Session, facts: &Facts, again: bool) -> Self {
        let Some(leader) = facts.leader_name() else {
            return Self::unknown("no member leads that could be asked");
        };
        let leader = address(facts, leader);
        let until = Instant::now() + session.pace.impact;
        let ask = async |statement: &str| {
            let left = until.saturating_duration_since(Instant::now());
            let limited =
                format!("SET statement_timeout = {}; {statement}", left.as_millis().max(1));
            let rows = sql(session.exec.as_ref(), &leader, &limited, left).await;
            rows.map_err(|error| error.to_string())
        };
        let data = async {
            if again {
                return Err("not asked for by --watch".to_owned());
            }
            ask(SIZE).await.and_then(|rows| size(&rows))
        };
        let (data, flow) = futures::join!(data, ask(FLOW));
        Self { data, flow: flow.and_then(|rows| read(&rows)) }
    }
}

fn size(rows: &[Vec<String>]) -> Look<u64> {
    let number = rows.first().and_then(|row| row.first()?.parse().ok());
    number.ok_or_else(|| odd(rows))
}

fn read(rows: &[Vec<String>]) -> Look<Flow> {
    let mut flow = Flow::default();
    let seconds = |text: &str| text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    let time = |text: &str| Timestamp::from_second(text.parse().ok()?).ok();
    for row in rows {
        match row.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["archive", mode, last, failed, _] => {
                flow.archive =
                    Archive { on: *mode != "off", last: time(last), failed: time(failed) };
            }
            ["replica", name, write, flush, replay] => {
                let delays = Delays {
                    write: seconds(write),
                    flush: seconds(flush),
                    replay: seconds(replay),
                };
                flow.delays.insert((*name).to_owned(), delays);
            }
            _ => return Err(odd(rows)),
        }
    }
    Ok(flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[&[&str]]) -> Vec<Vec<String>> {
        text.iter().map(|row| row.iter().map(|&word| word.to_owned()).collect()).collect()
    }

    #[test]
    fn delays_and_the_archive_are_read() {
        let flow = read(&rows(&[
            &["archive", "on", "1764000000", "1764000060", ""],
            &["replica", "acid-a-1", "0.001", "1e-05", "75.2"],
            &["replica", "acid-a-2", "", "", ""],
        ]))
        .unwrap();
        assert!(flow.archive.fails());
        assert_eq!(flow.delays["acid-a-1"].replay, Some(75.2));
        assert_eq!(flow.delays["acid-a-2"], Delays::default());
        let off = read(&rows(&[&["archive", "off", "", "1764000060", ""]])).unwrap();
        assert!(!off.archive.fails(), "an archive that is off cannot fail");
        let well = read(&rows(&[&["archive", "on", "1764000061", "1764000060", ""]])).unwrap();
        assert!(!well.archive.fails());
    }

    #[test]
    fn odd_answer_is_never_a_number() {
        assert!(read(&rows(&[&["what"]])).is_err());
        for odd in [&rows(&[])[..], &rows(&[&[""]]), &rows(&[&["many"]])] {
            assert!(size(odd).is_err(), "{odd:?}");
        }
        assert_eq!(size(&rows(&[&["42"]])), Ok(42));
    }
}
