//! A history as a person reads it.

use k8s_openapi::jiff::Timestamp;

use crate::history::{BEGUN, Entry};
use crate::terminal::text::{Cell, age, bytes, fitted, took};
use crate::terminal::{BAD, CARE, GOOD};

/// Renders the changes in the order given, one line each. `wide` adds the measured values.
pub(crate) fn render(items: &[Entry], wide: bool, now: Timestamp, width: Option<usize>) -> String {
    let mut header = vec!["AGE", "WHO", "CHANGE", "LEADER", "RESULT", "TOOK", "REASON"];
    if wide {
        header.splice(6..6, ["PAUSE", "LEADERLESS", "WORST LAG", "STARTED", "MESSAGE"]);
    }
    let rows: Vec<Vec<Cell>> = items.iter().map(|entry| row(entry, items, wide, now)).collect();
    fitted(&header, &rows, width)
}

fn row(entry: &Entry, items: &[Entry], wide: bool, now: Timestamp) -> Vec<Cell> {
    let seconds = |value: Option<f64>| value.map_or(String::new(), took);
    let style = match entry.result.as_str() {
        "Converged" | "Changed" => GOOD,
        BEGUN => CARE,
        _ => BAD,
    };
    let mut row = vec![
        Cell::from(age(entry.time(), now)),
        entry.who.as_str().into(),
        entry.count().unwrap_or_default().into(),
        entry.lead().unwrap_or_default().into(),
        Cell::styled(&entry.result, style),
        seconds(entry.seconds).into(),
    ];
    if wide {
        row.push(seconds(entry.pause_seconds).into());
        row.push(seconds(entry.leaderless_seconds).into());
        row.push(entry.worst_lag_bytes.map_or(Cell::default(), |lag| bytes(lag).into()));
        row.push(entry.started.as_str().into());
        row.push(entry.message.as_deref().unwrap_or_default().into());
    }
    row.push(reason(entry, items).into());
    row
}

fn reason(entry: &Entry, items: &[Entry]) -> String {
    match (&entry.reason, &entry.undoes) {
        (Some(reason), _) => reason.clone(),
        (None, Some(undoes)) => {
            // Ids are for machines. The entry that was undone may be too old to be kept.
            let undone = items.iter().find(|it| it.id == *undoes).and_then(Entry::count);
            format!("undo of {}", undone.as_ref().unwrap_or(undoes))
        }
        (None, None) => String::new(),
    }
}
