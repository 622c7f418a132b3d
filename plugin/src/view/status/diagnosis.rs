//! The causes that keep a cluster from converging, as a person reads them.

use pgscale_guard::evidence;
use pgscale_guard::remedy::Suggested;

use crate::status::Status;
use crate::terminal::text::{laid_out, wrap};
use crate::terminal::{BOLD, CARE, GOOD};

/// Renders the causes, the likeliest first.
pub(crate) fn reasons(status: &Status, width: Option<usize>) -> String {
    let mut lines = Vec::new();
    if status.why.is_empty() {
        lines.push(format!("{GOOD}Nothing keeps it from converging{GOOD:#}"));
    } else {
        lines.push(format!("{BOLD}Why, the likeliest first:{BOLD:#}"));
    }
    for (index, cause) in status.why.iter().enumerate() {
        lines.push(wrap(&format!("  {}. {CARE}{}{CARE:#}", index + 1, cause.what), width, 3));
        for evidence in evidence::lines(&cause.evidence) {
            lines.push(wrap(&format!("     {evidence}"), width, 2));
        }
        lines.push(laid_out(&cause.next.behind("     next:"), width, 2));
        if let Some(Suggested { why, command }) = &cause.last_resort {
            let why = why.as_deref().unwrap_or("last resort");
            lines.push(wrap(&format!("     {why}:"), width, 2));
            lines.push(format!("       {command}"));
        }
    }
    if let Some(why) = &status.events_unread {
        lines.push(wrap(&format!("  {CARE}Events cannot be read:{CARE:#} {why}"), width, 2));
    }
    lines.join("\n")
}
