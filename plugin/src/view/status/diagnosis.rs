//! The causes that keep a cluster from converging, as a person reads them.

use pgscale_guard::remedy::Suggested;

use super::super::plan::shown_evidence;
use crate::status::Status;
use crate::terminal::text::{laid_out, wrap};
use crate::terminal::{BOLD, CARE, GOOD};

/// The number of causes that are shown where not all are asked for.
const CAUSES: usize = 3;

/// Renders the causes, the likeliest first: the first ones, or `all` with all of their evidence.
pub(super) fn reasons(status: &Status, all: bool, width: Option<usize>) -> String {
    let mut lines = Vec::new();
    if status.why.is_empty() {
        lines.push(format!("{GOOD}Nothing keeps it from converging{GOOD:#}"));
    } else {
        let title = if status.missing.is_empty() {
            "Although it has converged:"
        } else {
            "Why, the likeliest first:"
        };
        lines.push(format!("{BOLD}{title}{BOLD:#}"));
    }
    let shown = if all { status.why.len() } else { CAUSES };
    for (index, cause) in status.why.iter().take(shown).enumerate() {
        lines.push(wrap(&format!("  {}. {CARE}{}{CARE:#}", index + 1, cause.what), width, 3));
        for evidence in shown_evidence(&cause.evidence, all) {
            lines.push(wrap(&format!("     {evidence}"), width, 2));
        }
        let next = cause.sure.map_or("     next:".to_owned(), |sure| {
            wrap(&format!("     next, once it is sure that {sure}:"), width, 2)
        });
        lines.push(laid_out(&cause.next.behind(&next), width, 2));
        if let Some(Suggested { why, command }) = &cause.last_resort {
            let why = why.as_deref().unwrap_or("last resort");
            lines.push(wrap(&format!("     {why}:"), width, 2));
            lines.push(format!("       {command}"));
        }
    }
    if let Some(more) = &status.more {
        let besides = status.why.len().saturating_sub(shown);
        let title = match besides {
            0 => "  With Events:".to_owned(),
            _ => format!("  The other {besides}, and Events:"),
        };
        lines.push(laid_out(&more.behind(&title), width, 2));
    }
    if let Some(why) = &status.events_unread {
        lines.push(wrap(&format!("  {CARE}Events cannot be read:{CARE:#} {why}"), width, 2));
    }
    lines.join("\n")
}
