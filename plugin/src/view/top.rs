//! What the members of clusters use, one line for each cluster.

use super::status::reads::rate;
use super::status::{healthy, word};
use crate::terminal::CARE;
use crate::terminal::text::{Cell, bytes, fitted, spared};
use crate::top::Row;
use crate::usage::{Usage, millicores};

/// Renders the table. Rows that are read in a second are a column only where they were asked for.
pub(crate) fn table(rows: &[Row], everywhere: bool, sql: bool, width: Option<usize>) -> String {
    let mut header = vec!["NAME", "HEALTHY", "CPU", "MEMORY", "LAG"];
    if everywhere {
        header.insert(0, "NAMESPACE");
    }
    if sql {
        header.push("ROWS/S");
    }
    header.push("STATUS");
    let rows = rows.iter().map(|it| row(it, everywhere, sql)).collect();
    let (header, rows) = spared(&header, rows, width, &["HEALTHY"]);
    fitted(&header, &rows, width)
}

fn row(row: &Row, everywhere: bool, sql: bool) -> Vec<Cell> {
    let (namespace, name) = row.name();
    let mut cells = vec![
        Cell::from(name),
        healthy(&row.status),
        summed(row, |usage| millicores(usage.millicores)),
        summed(row, |usage| bytes(usage.memory)),
        row.lag.map(bytes).unwrap_or_default().into(),
    ];
    if everywhere {
        cells.insert(0, namespace.into());
    }
    if sql {
        cells.push(row.rows.map(rate).unwrap_or_default().into());
    }
    cells.push(word(row.status.severity()));
    cells
}

/// Returns a sum. Where the usage of a member is missing in it, the cell says so.
fn summed(row: &Row, text: impl Fn(Usage) -> String) -> Cell {
    let members = row.status.snapshot.facts.all_members().len();
    match row.usage {
        None => Cell::default(),
        Some(usage) if row.measured == members => text(usage).into(),
        Some(usage) => {
            Cell::styled(format!("{} ({} of {members})", text(usage), row.measured), CARE)
        }
    }
}
