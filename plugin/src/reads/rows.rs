//! The answers of `psql` as values. An odd row is an error, and never a number.

use k8s_openapi::jiff::Timestamp;

use super::{Counters, HeldSlot, Replica, Sample, TableReads};
use crate::members::Delays;

/// Reads the answer to [`SAMPLE`](super::SAMPLE).
pub(super) fn sample(rows: &[Vec<String>]) -> Result<Sample, String> {
    let mut sample = Sample::default();
    let (mut member, mut reads) = (false, false);
    for row in rows {
        let words: Vec<&str> = row.iter().map(String::as_str).collect();
        let read = || -> Option<Part> {
            Some(match words.as_slice() {
                ["member", standby, at, wal, slots, databases, ..] => Part::Member {
                    standby: boolean(standby)?,
                    at: at.parse().ok().filter(|at: &f64| at.is_finite())?,
                    wal: optional(wal)?,
                    slots: slots.parse().ok()?,
                    databases: databases.parse().ok()?,
                },
                ["reads", returned, fetched, read, hit, since, ..] => Part::Reads(Counters {
                    returned: returned.parse().ok()?,
                    fetched: fetched.parse().ok()?,
                    blocks_read: read.parse().ok()?,
                    blocks_hit: hit.parse().ok()?,
                    since: optional::<i64>(since)?.and_then(|it| Timestamp::from_second(it).ok()),
                }),
                ["database", name, ..] if !name.is_empty() => Part::Database((*name).to_owned()),
                ["replica", name, write, flush, replay, one, two, three] => {
                    Part::Replica(Replica {
                        name: (*name).to_owned(),
                        write: behind(write)?,
                        flush: behind(flush)?,
                        replay: behind(replay)?,
                        delays: Delays {
                            write: seconds(one)?,
                            flush: seconds(two)?,
                            replay: seconds(three)?,
                        },
                    })
                }
                ["slot", name, kind, active, held, state, database, ..] => Part::Slot(HeldSlot {
                    name: (*name).to_owned(),
                    kind: (*kind).to_owned(),
                    active: boolean(active)?,
                    held: behind(held)?,
                    state: word(state),
                    database: word(database),
                }),
                _ => return None,
            })
        };
        match read().ok_or_else(|| odd(row))? {
            Part::Member { standby, at, wal, slots, databases } => {
                (sample.standby, sample.at, sample.wal) = (standby, at, wal);
                (sample.slots_in_all, sample.databases_in_all) = (slots, databases);
                member = true;
            }
            Part::Reads(counters) => {
                sample.counters = counters;
                reads = true;
            }
            Part::Database(name) => sample.databases.push(name),
            Part::Replica(replica) => sample.replicas.push(replica),
            Part::Slot(slot) => sample.slots.push(slot),
        }
    }
    if member && reads { Ok(sample) } else { Err("psql left rows out".to_owned()) }
}

/// One row of a sample.
enum Part {
    Member { standby: bool, at: f64, wal: Option<u64>, slots: u64, databases: u64 },
    Reads(Counters),
    Database(String),
    Replica(Replica),
    Slot(HeldSlot),
}

/// Reads the tables of one database.
pub(super) fn tables(database: &str, rows: &[Vec<String>]) -> Result<Vec<TableReads>, String> {
    let table = |row: &Vec<String>| -> Option<TableReads> {
        match row.as_slice() {
            [schema, name, seq_scan, seq_rows, idx_scan, idx_rows] => Some(TableReads {
                database: database.to_owned(),
                schema: schema.clone(),
                name: name.clone(),
                seq_scan: optional(seq_scan)?.unwrap_or(0),
                seq_tup_read: optional(seq_rows)?.unwrap_or(0),
                idx_scan: optional(idx_scan)?,
                idx_tup_fetch: optional(idx_rows)?,
            }),
            _ => None,
        }
    };
    rows.iter().map(|row| table(row).ok_or_else(|| odd(row))).collect()
}

fn odd(row: &[String]) -> String {
    format!("psql printed an unexpected row: {row:?}")
}

/// Reads a value that may be NULL. `None` where it is something else.
#[expect(clippy::option_option, reason = "odd, NULL, or a value")]
fn optional<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

/// Reads bytes of lag. A position that was read a moment later is below zero, which is no lag.
#[expect(clippy::option_option, reason = "odd, NULL, or a value")]
fn behind(text: &str) -> Option<Option<u64>> {
    let bytes: Option<i64> = optional(text)?;
    Some(bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
}

#[expect(clippy::option_option, reason = "odd, NULL, or a value")]
fn seconds(text: &str) -> Option<Option<f64>> {
    let seconds: Option<f64> = optional(text)?;
    if seconds.is_some_and(|seconds| !seconds.is_finite()) { None } else { Some(seconds) }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "t" => Some(true),
        "false" | "f" => Some(false),
        _ => None,
    }
}

fn word(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
