//! Several clusters, one line each.

use pgscale_guard::Seen;
use pgscale_guard::facts::Facts;

use crate::status::{Severity, Status, Version, running, worst_lag};
use crate::terminal::text::{Cell, age, bytes, rows_of, spared_for};
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
    let mut header = vec!["NAME", "HEALTHY", "LEADER", "LAG", "VERSION", "PAUSED", "STATUS", "AGE"];
    if everywhere {
        header.insert(0, "NAMESPACE");
    }
    if wide {
        header.extend(["DECLARED", "EFFECTIVE", "RUNNING"]);
    }
    header.push(WHY);
    let quiet = all.iter().all(|status| status.headline().points().next().is_none());
    let rows: Vec<Vec<Cell>> = all.iter().map(|status| row(status, everywhere, wide)).collect();
    // The first one is left out first, where the terminal is too narrow.
    let spare: &[&str] = match (wide, quiet) {
        (true, _) => &[],
        (false, true) => &[WHY, "AGE", "VERSION", "LEADER"],
        (false, false) => &["AGE", "VERSION", "LEADER", "LAG"],
    };
    let (header, rows) = spared_for(&header, rows, width, spare, Some((WHY, SENTENCE)));
    rows_of(&header, &rows, width)
}

/// The title of the column with the likeliest cause.
const WHY: &str = "WHY";

/// The columns that a cause gets, where others can be left out for it.
const SENTENCE: usize = 24;

/// Returns the healthy members of those that there should be. Another count that is declared stands
/// beside them.
pub(in crate::view) fn healthy(status: &Status) -> Cell {
    let (healthy, of) = status.healthy();
    let declared = match status.snapshot.facts.change.new.instances {
        Some(declared) if declared == of => String::new(),
        Some(declared) => format!(" of {declared}"),
        None => " of none".to_owned(),
    };
    match healthy {
        None => Cell::styled(format!("?/{of}{declared}"), CARE),
        Some(count) if i64::try_from(count).ok() == Some(of) && declared.is_empty() => {
            Cell::from(format!("{count}/{of}"))
        }
        Some(count) => Cell::styled(format!("{count}/{of}{declared}"), CARE),
    }
}

/// Returns whether Patroni is paused, in a word.
fn paused(facts: &Facts) -> Cell {
    match &facts.configuration {
        Seen::Known(configuration) if configuration.paused => Cell::styled("paused", BAD),
        Seen::Known(_) => "no".into(),
        Seen::Absent => Cell::default(),
        Seen::Unreadable(_) => Cell::styled("unknown", CARE),
    }
}

/// Returns the version of PostgreSQL: what members run, or else what is declared.
fn version(facts: &Facts) -> String {
    let Version { running, declared } = Version::of(facts);
    if running.is_empty() { declared.unwrap_or_default() } else { running.join(", ") }
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
    let headline = status.headline();
    let why = headline.points().next().map_or(Cell::default(), Cell::from);
    let mut row = vec![
        Cell::from(&cluster.name),
        healthy(status),
        leader,
        worst_lag(facts).map_or(Cell::default(), |lag| bytes(lag).into()),
        version(facts).into(),
        paused(facts),
        word(status.severity()),
        age(cluster.created, facts.now).into(),
    ];
    if everywhere {
        row.insert(0, Cell::from(&cluster.namespace));
    }
    if wide {
        row.extend([
            cluster.instances.map_or(Cell::default(), |count| Cell::from(count.to_string())),
            Cell::styled(effective.to_string(), differs(cluster.instances != Some(effective))),
            running,
        ]);
    }
    row.push(why);
    row
}

pub(in crate::view) fn word(severity: Severity) -> Cell {
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
