//! The verdicts as XML for test reports: one test case per cluster.

use pgscale_guard::verdict::{Finding, Severity};

use super::{counts, said, unjudged};
use crate::lint::{Checked, Report, Said};

/// Returns the report: refusals are failures, and inputs that cannot be judged are errors.
pub(crate) fn junit(report: &Report) -> String {
    let (failures, errors) = (report.count(Said::Refused), report.problems.len());
    let tests = report.clusters.len() + errors;
    let numbers = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    let mut lines = vec![
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned(),
        format!("<testsuites name=\"pgscale lint\" {numbers}>"),
        format!("  <testsuite name=\"pgscale lint\" {numbers} skipped=\"0\">"),
    ];
    for checked in &report.clusters {
        lines.extend(case(checked));
    }
    for problem in &report.problems {
        let (place, message) = (escaped(&problem.place.to_string()), escaped(&problem.message));
        lines.push(format!(
            "    <testcase classname=\"{}\" name=\"{place}\">",
            escaped(&problem.place.file)
        ));
        lines.push(format!(
            "      <error type=\"input-error\" message=\"{message}\">{place}: {message}</error>"
        ));
        lines.push("    </testcase>".to_owned());
    }
    lines.push("  </testsuite>".to_owned());
    lines.push("</testsuites>".to_owned());
    lines.join("\n")
}

fn case(checked: &Checked) -> Vec<String> {
    let name = format!("postgresql {} ({})", checked.cluster(), counts(checked));
    let mut lines = vec![format!(
        "    <testcase classname=\"{}\" name=\"{}\">",
        escaped(&checked.place.file),
        escaped(&name)
    )];
    let of = |severity: Severity| {
        let findings = checked.findings.iter().filter(move |it| it.severity == severity);
        findings.collect::<Vec<&Finding>>()
    };
    let denials = of(Severity::Deny);
    if !denials.is_empty() {
        let rules: Vec<&str> = denials.iter().map(|it| it.rule.as_str()).collect();
        let texts: Vec<String> = denials.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "      <failure type=\"{}\" message=\"{} {}\">{}</failure>",
            escaped(&rules.join(" ")),
            escaped(&checked.place.to_string()),
            escaped(&rules.join(", ")),
            escaped(&format!("{}\n{}", checked.place, texts.join("\n")))
        ));
    }
    let warnings = of(Severity::Warn).into_iter().map(ToString::to_string);
    let notes = checked.notes.iter().cloned().chain(unjudged(checked, true));
    let result = [format!("{}: {}", checked.place, said(checked.said))];
    let more: Vec<String> = result.into_iter().chain(warnings).chain(notes).collect();
    lines.push(format!("      <system-out>{}</system-out>", escaped(&more.join("\n"))));
    lines.push("    </testcase>".to_owned());
    lines
}

/// Returns a text for XML 1.0, which cannot hold most control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
