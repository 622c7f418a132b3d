//! The table of rules and their pages.

use pgscale_guard::rules::Rule;

use crate::terminal::BOLD;
use crate::terminal::text::{Cell, fitted, wrap};

/// Renders all rules, one line each.
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
                row.extend([rule.applies.to_string().into(), rule.default.into()]);
            }
            row
        })
        .collect();
    fitted(&header, &rows, width)
}

/// The width of prose beyond which it is hard to read, however wide the terminal.
const PROSE: usize = 100;

/// Renders one rule's page.
pub(crate) fn page(rule: &Rule, width: Option<usize>) -> String {
    let head = format!(
        "{BOLD}{}{BOLD:#}: {}\n  fires on: {}\n  default:  {}",
        rule.id, rule.title, rule.applies, rule.default
    );
    let prose = match width {
        None => rule.page.to_owned(),
        // The lines break at other places than in our sources.
        Some(width) => {
            let paragraphs = rule.page.split("\n\n").map(|text| text.replace('\n', " "));
            wrap(&paragraphs.collect::<Vec<_>>().join("\n\n"), Some(width.min(PROSE)), 0)
        }
    };
    format!("{}\n\n{prose}", wrap(&head, width, 2))
}
