//! Logical replication slots, as their consumers see them.

use anyhow::{Context as _, Result};

use crate::cluster::Cluster;

/// Returns whether the member holds the slot.
///
/// # Errors
/// Fails where the member does not answer.
pub async fn held(cluster: &Cluster, ordinal: u32, slot: &str) -> Result<bool> {
    let count = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'");
    Ok(cluster.sql(ordinal, &count).await? == "1")
}

/// Returns the number of inserted rows of the publication `changes` that a consumer of the slot would
/// get.
///
/// # Errors
/// Fails where the member does not answer, or does not hold the slot.
pub async fn delivered(cluster: &Cluster, ordinal: u32, slot: &str) -> Result<u32> {
    // The first byte of a message of `pgoutput` is its kind.
    let inserted = format!(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, NULL, \
         'proto_version', '1', 'publication_names', 'changes') \
         WHERE get_byte(data, 0) = ascii('I')"
    );
    let rows = cluster.sql(ordinal, &inserted).await?;
    rows.trim().parse().with_context(|| format!("no number: {rows:?}"))
}
