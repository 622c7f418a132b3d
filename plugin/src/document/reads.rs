//! The reads of a member in documents.

use serde::Serialize;

use crate::reads::{HeldSlot, MemberReads, Replica, TableReads};

/// The reads of one member, since its statistics began, and their rates.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadsDocument<'a> {
    member: &'a str,
    /// The reason for which it could not be asked. Every other value is missing then.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    answer: Option<Answer<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    /// Rows that scans read (`tup_returned`).
    rows_returned: u64,
    /// Rows that index scans fetched (`tup_fetched`).
    rows_fetched: u64,
    /// Blocks that were not in PostgreSQL's cache.
    blocks_read: u64,
    /// Blocks that were in it.
    blocks_hit: u64,
    /// From 0 to 1. `null` where no block was wanted yet.
    cache_hit_ratio: Option<f64>,
    /// The last reset of these counters. `null` where there was none.
    counted_since: Option<String>,
    /// The seconds between the two looks. `null` where the second one failed.
    measured_seconds: Option<f64>,
    rows_returned_per_second: Option<f64>,
    /// Written on a leader, received on a replica.
    wal_bytes_per_second: Option<f64>,
    /// The reason for which the rates are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates_unread: Option<&'a str>,
    /// The servers that receive its WAL.
    replicas: Vec<ReplicaDocument<'a>>,
    /// Its slots, the one that holds back most first, 64 at most.
    slots: Vec<SlotDocument<'a>>,
    slot_count: u64,
    /// Its busiest tables.
    tables: Vec<TableDocument<'a>>,
    /// The tables that could not be read, each with the reason.
    tables_unread: &'a [String],
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ReplicaDocument<'a> {
    name: &'a str,
    write_lag_bytes: Option<u64>,
    flush_lag_bytes: Option<u64>,
    replay_lag_bytes: Option<u64>,
    /// `null` where PostgreSQL measured none lately.
    write_lag_seconds: Option<f64>,
    flush_lag_seconds: Option<f64>,
    replay_lag_seconds: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct SlotDocument<'a> {
    name: &'a str,
    /// `physical` or `logical`.
    kind: &'a str,
    database: Option<&'a str>,
    active: bool,
    /// `null` for a slot that reserves no WAL.
    held_bytes: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    wal_status: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct TableDocument<'a> {
    database: &'a str,
    schema: &'a str,
    name: &'a str,
    seq_scan: u64,
    seq_tup_read: u64,
    /// `null` for a table without an index.
    idx_scan: Option<u64>,
    idx_tup_fetch: Option<u64>,
}

impl<'a> ReadsDocument<'a> {
    /// Returns the document of one member.
    pub(super) fn of(reads: &'a MemberReads) -> Self {
        let member = reads.member.as_str();
        let measured = match &reads.said {
            Ok(measured) => measured,
            Err(why) => return Self { member, unread: Some(why.to_string()), answer: None },
        };
        let (sample, rates) = (&measured.sample, measured.rates.as_ref());
        let counters = &sample.counters;
        let answer = Answer {
            rows_returned: counters.returned,
            rows_fetched: counters.fetched,
            blocks_read: counters.blocks_read,
            blocks_hit: counters.blocks_hit,
            cache_hit_ratio: counters.hit_ratio(),
            counted_since: counters.since.map(|since| since.to_string()),
            measured_seconds: rates.ok().map(|rates| rates.seconds),
            rows_returned_per_second: rates.ok().and_then(|rates| rates.rows),
            wal_bytes_per_second: rates.ok().and_then(|rates| rates.wal),
            rates_unread: rates.err().map(String::as_str),
            replicas: sample.replicas.iter().map(replica).collect(),
            slots: sample.slots.iter().map(slot).collect(),
            slot_count: sample.slots_in_all,
            tables: measured.tables.iter().map(table).collect(),
            tables_unread: &measured.unread,
        };
        Self { member, unread: None, answer: Some(answer) }
    }
}

fn replica(replica: &Replica) -> ReplicaDocument<'_> {
    let Replica { name, write, flush, replay, delays } = replica;
    ReplicaDocument {
        name,
        write_lag_bytes: *write,
        flush_lag_bytes: *flush,
        replay_lag_bytes: *replay,
        write_lag_seconds: delays.write,
        flush_lag_seconds: delays.flush,
        replay_lag_seconds: delays.replay,
    }
}

fn slot(slot: &HeldSlot) -> SlotDocument<'_> {
    SlotDocument {
        name: &slot.name,
        kind: &slot.kind,
        database: slot.database.as_deref(),
        active: slot.active,
        held_bytes: slot.held,
        wal_status: slot.state.as_deref(),
    }
}

fn table(table: &TableReads) -> TableDocument<'_> {
    let TableReads { database, schema, name, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch } =
        table;
    TableDocument {
        database,
        schema,
        name,
        seq_scan: *seq_scan,
        seq_tup_read: *seq_tup_read,
        idx_scan: *idx_scan,
        idx_tup_fetch: *idx_tup_fetch,
    }
}
