//! The table of rules and their pages.

use pgscale_guard::rules::Rule;

use super::BOLD;
use super::text::{Cell, fitted, wrap};

/// All rules, one line each.
pub(crate) fn list(rules: &[&Rule], wide: bool, width: Option<usize>) -> String {
    let mut header = vec!["RULE", "MEANING"];
    if wide {
        header.extend(["FIRES ON", "DEFAULT"]);
    }
    let rows: Vec<Vec<Cell>> = rules
        .iter()
        .map(|rule| {
            let mut row = vec![Cell::from(rule.id), rule.title.into()];
            if wide {
                row.extend([rule.fires_on.into(), rule.default.into()]);
            }
            row
        })
        .collect();
    fitted(&header, &rows, width)
}

/// Prose that is wider than this is hard to read, however wide the terminal.
const PROSE: usize = 100;

/// One rule's page.
pub(crate) fn page(rule: &Rule, width: Option<usize>) -> String {
    let head = format!(
        "{BOLD}{}{BOLD:#}: {}\n  fires on: {}\n  default:  {}\n\n",
        rule.id, rule.title, rule.fires_on, rule.default
    );
    head + &wrap(rule.page, width, 0)
}
