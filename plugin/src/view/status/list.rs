//! Several clusters, one line each.

use crate::status::{Severity, Status, running};
use crate::terminal::text::{Cell, age, rows_of};
use crate::terminal::{BAD, CARE, GOOD};

/// Renders several clusters, one line each.
pub(crate) fn list(all: &[Status], everywhere: bool, wide: bool, width: Option<usize>) -> String {
    rows(all, everywhere, wide, width).join("\n")
}

/// Returns the header of the list, and one row for each cluster.
pub(crate) fn rows(
    all: &[Status],
    everywhere: bool,
    wide: bool,
    width: Option<usize>,
) -> Vec<String> {
    let mut header = vec!["NAME", "DECLARED", "EFFECTIVE", "RUNNING", "LEADER", "STATUS", "AGE"];
    if everywhere {
        header.insert(0, "NAMESPACE");
    }
    if wide {
        header.push("WHY");
    }
    let rows: Vec<Vec<Cell>> = all.iter().map(|status| row(status, everywhere, wide)).collect();
    rows_of(&header, &rows, width)
}

fn row(status: &Status, everywhere: bool, wide: bool) -> Vec<Cell> {
    let facts = &status.snapshot.facts;
    let cluster = &facts.change.new;
    let effective = facts.to();
    let differs = |different: bool| if different { CARE } else { anstyle::Style::new() };
    let leader = match facts.leader_name() {
        Some(leader) => Cell::from(leader),
        None if facts.leader.unreadable().is_some() => Cell::styled("unknown", CARE),
        None if effective == 0 => Cell::default(),
        None => Cell::styled("none", BAD),
    };
    let running = running(facts).map_or(Cell::styled("unknown", CARE), |running| {
        Cell::styled(running.to_string(), differs(running != effective))
    });
    let mut row = vec![
        Cell::from(&cluster.name),
        cluster.instances.map_or(Cell::default(), |count| Cell::from(count.to_string())),
        Cell::styled(effective.to_string(), differs(cluster.instances != Some(effective))),
        running,
        leader,
        word(status.severity()),
        age(cluster.created, facts.now).into(),
    ];
    if everywhere {
        row.insert(0, Cell::from(&cluster.namespace));
    }
    if wide {
        row.push(status.why.first().map_or(Cell::default(), |cause| Cell::from(&cause.what)));
    }
    row
}

fn word(severity: Severity) -> Cell {
    let style = match severity {
        Severity::NoLeader => BAD,
        Severity::CountDiffers
        | Severity::NotConverged
        | Severity::Rebuilding
        | Severity::Unknown => CARE,
        Severity::Converged => GOOD,
    };
    Cell::styled(severity.word(), style)
}
