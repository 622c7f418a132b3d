//! The versions as a person reads them.

use crate::terminal::CARE;
use crate::terminal::text::{Cell, fitted, wrap};
use crate::versions::{CLIENT, Part};

/// Renders this program's version, those of all parts, and what does not fit together.
pub(crate) fn render(parts: &[Part], skews: &[String], width: Option<usize>) -> String {
    let mut text = vec![format!("kubectl-pgscale {CLIENT}")];
    if !parts.is_empty() {
        let rows: Vec<Vec<Cell>> = parts
            .iter()
            .map(|part| {
                let version = part.version.as_deref().unwrap_or("unknown");
                let version = match &part.problem {
                    None => Cell::from(version),
                    Some(problem) if part.version.is_none() => Cell::styled(problem, CARE),
                    Some(problem) => Cell::styled(format!("{version} ({problem})"), CARE),
                };
                vec![Cell::from(part.what), Cell::from(&part.place), version]
            })
            .collect();
        text.push(format!("\n{}", fitted(&["PART", "WHERE", "VERSION"], &rows, width)));
    }
    if !skews.is_empty() {
        let skews: Vec<String> =
            skews.iter().map(|skew| format!("{CARE}skew:{CARE:#} {skew}")).collect();
        text.push(format!("\n{}", wrap(&skews.join("\n"), width, 2)));
    }
    text.join("\n")
}
