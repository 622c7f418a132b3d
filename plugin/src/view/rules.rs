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

/// The indentation of a command in a page.
const COMMAND: &str = "    ";

/// Renders one rule's page.
pub(crate) fn page(rule: &Rule, width: Option<usize>) -> String {
    let head = format!(
        "{BOLD}{}{BOLD:#}: {}\n  fires on: {}\n  default:  {}",
        rule.id, rule.title, rule.applies, rule.default
    );
    let prose = match width {
        None => rule.page.to_owned(),
        // The lines break at other places than in our sources. A command keeps its own.
        Some(width) => {
            let paragraphs = rule.page.split("\n\n").map(|text| {
                if text.lines().all(|line| line.starts_with(COMMAND)) {
                    return text.to_owned();
                }
                wrap(&text.replace('\n', " "), Some(width.min(PROSE)), 0)
            });
            paragraphs.collect::<Vec<_>>().join("\n\n")
        }
    };
    format!("{}\n\n{prose}", wrap(&head, width, 2))
}

#[cfg(test)]
mod tests {
    use pgscale_guard::rules::RULES;

    use super::{COMMAND, page};

    #[test]
    fn command_of_a_page_stands_unbroken_on_its_line_at_every_width() {
        let mut commands = 0;
        for rule in RULES {
            let own = rule.page.lines().filter(|line| line.starts_with(COMMAND));
            let own: Vec<&str> = own.collect();
            for width in [None, Some(40), Some(80), Some(200)] {
                let shown = page(rule, width);
                for command in &own {
                    assert!(shown.lines().any(|line| line == *command), "{}: {command}", rule.id);
                }
            }
            commands += own.len();
        }
        assert!(commands > 80, "only {commands} commands");
    }
}
