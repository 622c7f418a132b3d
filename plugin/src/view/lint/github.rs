//! The verdicts as annotations of GitHub Actions, which it shows beside the lines.

use pgscale_guard::verdict::Severity;

use super::{counts, unjudged};
use crate::lint::{Place, Report};

/// Returns one workflow command per finding and per input that cannot be judged. What could not be
/// judged is a notice.
pub(crate) fn annotations(report: &Report) -> String {
    let mut lines = Vec::new();
    for checked in &report.clusters {
        let change = format!("postgresql {} ({})", checked.cluster(), counts(checked));
        for finding in &checked.findings {
            let word = match finding.severity {
                Severity::Deny => "error",
                Severity::Warn => "warning",
            };
            let text = format!("{change}: {finding}");
            lines.push(command(word, &checked.place, finding.rule.as_str(), &text));
        }
        let notes = checked.notes.iter().cloned().chain(unjudged(checked, false));
        let notes: Vec<String> = notes.collect();
        if !notes.is_empty() {
            let text = format!("{change}: {}", notes.join("; "));
            lines.push(command("notice", &checked.place, "pgscale", &text));
        }
    }
    let notes = report.notes.iter();
    lines.extend(notes.map(|it| command("warning", &it.place, "pgscale", &it.message)));
    let problems = report.problems.iter();
    lines.extend(problems.map(|it| command("error", &it.place, "input-error", &it.message)));
    lines.join("\n")
}

/// Returns a workflow command (`toolkit/packages/core/src/command.ts`).
fn command(word: &str, place: &Place, title: &str, text: &str) -> String {
    let mut properties = vec![format!("file={}", property(&place.file))];
    properties.extend(place.line.map(|line| format!("line={line}")));
    properties.extend(place.column.filter(|_| place.line.is_some()).map(|it| format!("col={it}")));
    properties.push(format!("title={}", property(title)));
    format!("::{word} {}::{}", properties.join(","), data(text))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
