//! The results of a writer, as tests need them.

use std::time::Duration;

use crate::wait::{Attempt, until};
use crate::writer::Writer;
use anyhow::Result;

/// The limit for further rows: longer than any switchover, and than the outage of any test that
/// waits for writes to continue.
const DEADLINE: Duration = Duration::from_secs(240);

/// The longest pause in writes that a planned move of the leader may cost, on any machine.
pub const PAUSE: Duration = Duration::from_secs(5);

/// The outcome of the writes.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The number of acknowledged commits.
    pub acknowledged: usize,
    /// The number of acknowledged rows that the leader lacks at the end.
    pub missing: usize,
    /// The longest time without an acknowledgement.
    pub longest_gap: Duration,
}

/// Waits until `more` further rows are acknowledged.
pub async fn acknowledged(writer: &Writer, more: usize) -> Result<()> {
    let wanted = writer.acknowledged() + more;
    until(&format!("{wanted} acknowledged rows"), DEADLINE, async || {
        let seen = writer.acknowledged();
        Ok(if seen >= wanted { Attempt::Done(()) } else { Attempt::NotYet(seen.to_string()) })
    })
    .await
}

/// Stops the writer and counts the rows.
pub async fn finish(writer: Writer) -> Result<Record> {
    let record = writer.stop().await;
    let missing = record.missing().await?;
    Ok(Record { acknowledged: record.acknowledged, missing, longest_gap: record.longest_gap })
}

/// The same where the change may have destroyed the rows: those that no leader can show are
/// missing.
pub async fn finish_with_any_loss(writer: Writer) -> Record {
    let record = writer.stop().await;
    let missing = record.missing().await.unwrap_or(record.acknowledged);
    Record { acknowledged: record.acknowledged, missing, longest_gap: record.longest_gap }
}
