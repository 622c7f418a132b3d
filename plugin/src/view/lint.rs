//! The verdicts on manifests, as a person and as a pipeline reads them.

use pgscale_guard::remedy::Line;
use pgscale_guard::verdict::Severity;

use crate::lint::{Basis, Checked, Report, Said};
use crate::terminal::text::{laid_out, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};

mod github;
mod junit;

pub(crate) use github::annotations;
pub(crate) use junit::junit;

/// Renders the clusters, the inputs that cannot be judged, and the numbers. `wide` names every rule
/// that could not be judged.
pub(crate) fn render(report: &Report, wide: bool, width: Option<usize>) -> String {
    let mut parts: Vec<String> =
        report.clusters.iter().map(|it| cluster(it, wide, width)).collect();
    parts.extend(report.problems.iter().map(|problem| {
        wrap(&format!("{}: {BAD}error:{BAD:#} {}", problem.place, problem.message), width, 2)
    }));
    parts.extend(report.notes.iter().map(|note| {
        wrap(&format!("{}: {CARE}note:{CARE:#} {}", note.place, note.message), width, 2)
    }));
    parts.extend(report.strangers.iter().map(|place| {
        let why =
            "it has no apiVersion or no kind, so it is no object of Kubernetes and is not judged";
        wrap(&format!("{place}: {CARE}note:{CARE:#} {why}"), width, 2)
    }));
    parts.push(wrap(&numbers(report), width, 0));
    parts.join("\n")
}

/// Returns the change of the count in words.
pub(crate) fn counts(checked: &Checked) -> String {
    match (checked.from, checked.to) {
        (Some(from), Some(to)) => format!("{from} -> {to}"),
        (None, Some(to)) => format!("new, {to}"),
        (Some(from), None) => format!("{from}, removed"),
        (None, None) => "removed".to_owned(),
    }
}

/// Returns the result in words, without what it rests on.
pub(crate) fn said(said: Said) -> &'static str {
    match said {
        Said::Refused => "refused",
        Said::Allowed => "allowed",
        Said::SoFar => "nothing refuses it that is known without the cluster",
        Said::Unchanged => "the count does not change",
        Said::Removed => "not judged",
    }
}

/// Returns the rules that could not be judged in one sentence. `None` where all were.
pub(crate) fn unjudged(checked: &Checked, wide: bool) -> Option<String> {
    if checked.not_judged.is_empty() {
        return None;
    }
    let by_reason = checked.unjudged();
    let groups: Vec<String> = by_reason
        .iter()
        .map(|(why, rules)| {
            let count = rules.len();
            let names =
                if wide || count <= 3 { format!(" ({})", rules.join(", ")) } else { String::new() };
            format!("{}{names}, because {why}", many(count, "rule", "rules"))
        })
        .collect();
    Some(format!("Not judged: {}", groups.join("; ")))
}

fn cluster(checked: &Checked, wide: bool, width: Option<usize>) -> String {
    let style = match checked.said {
        Said::Refused => BAD,
        Said::Allowed | Said::Unchanged => GOOD,
        Said::SoFar | Said::Removed => CARE,
    };
    let since = match checked.basis {
        Basis::Recorded(time) => format!(", as recorded at {time}"),
        Basis::Nothing | Basis::Stored | Basis::Revision | Basis::Live => String::new(),
    };
    let head = format!(
        "{}: {BOLD}postgresql {}{BOLD:#} ({}): {style}{}{style:#}{since}",
        checked.place,
        checked.cluster(),
        counts(checked),
        said(checked.said)
    );
    let mut text = vec![wrap(&head, width, 2)];
    for finding in &checked.findings {
        let mut lines: Vec<Line> = finding.lines();
        if finding.severity == Severity::Deny && !checked.certain.contains(&finding.rule) {
            lines.push(Line::Text(
                "  The state of the cluster, or the operator's limits, may lift this refusal: --live looks"
                    .to_owned(),
            ));
        }
        let lines: Vec<Line> = lines
            .into_iter()
            .map(|line| match line {
                Line::Text(text) => Line::Text(format!("  {text}")),
                Line::Command(command) => Line::Command(format!("  {command}")),
            })
            .collect();
        text.push(laid_out(&lines, width, 4));
    }
    let more = checked.notes.iter().map(|note| format!("Note: {note}"));
    let more = more.chain(unjudged(checked, wide));
    text.extend(more.map(|line| wrap(&format!("  {line}"), width, 4)));
    text.join("\n")
}

fn many(count: usize, one: &str, more: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {more}") }
}

/// Returns the numbers of everything that was looked at.
fn numbers(report: &Report) -> String {
    let mut results = Vec::new();
    for (kind, word) in [
        (Said::Refused, "refused"),
        (Said::Allowed, "allowed"),
        (Said::SoFar, "not refused so far"),
        (Said::Unchanged, "unchanged"),
        (Said::Removed, "removed"),
    ] {
        let count = report.count(kind);
        if count > 0 {
            results.push(format!("{count} {word}"));
        }
    }
    let results =
        if results.is_empty() { String::new() } else { format!(" ({})", results.join(", ")) };
    format!(
        "{}{results}, {}, {}, {} in {}",
        many(report.clusters.len(), "cluster", "clusters"),
        many(report.problems.len(), "error", "errors"),
        many(report.policies, "policy", "policies"),
        many(report.others, "object of another kind", "objects of other kinds"),
        many(report.files, "file", "files"),
    )
}
