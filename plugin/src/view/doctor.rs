//! The diagnosis of the guard, as a person reads it.

use pgscale_guard::remedy::Line;

use crate::doctor::{Diagnosis, Finding, Level, Verdict};
use crate::terminal::text::laid_out;
use crate::terminal::{BAD, CARE, GOOD};

/// Returns the verdict in one line, without colours.
pub(crate) fn verdict(diagnosis: &Diagnosis) -> String {
    let ids = |level| {
        let mut ids: Vec<&str> = diagnosis.of(level).map(|finding| finding.id).collect();
        ids.dedup();
        ids.join(", ")
    };
    match diagnosis.verdict() {
        Verdict::Holds => match diagnosis.of(Level::Weakens).count() {
            0 => "the guard HOLDS".to_owned(),
            1 => "the guard HOLDS, with 1 weakness".to_owned(),
            more => format!("the guard HOLDS, with {more} weaknesses"),
        },
        Verdict::DoesNotHold => format!("the guard DOES NOT HOLD: {}", ids(Level::Fails)),
        Verdict::CannotBeJudged => format!("the guard CANNOT BE JUDGED: {}", ids(Level::Unread)),
    }
}

/// Renders all findings, with the verdict first and last. Notes are for `wide`.
pub(crate) fn render(diagnosis: &Diagnosis, wide: bool, width: Option<usize>) -> String {
    let style = match diagnosis.verdict() {
        Verdict::Holds => GOOD,
        Verdict::DoesNotHold => BAD,
        Verdict::CannotBeJudged => CARE,
    };
    let text = verdict(diagnosis);
    let (word, rest) = text.split_at(text.find([',', ':']).unwrap_or(text.len()));
    let verdict = Line::Text(format!("{style}{word}{style:#}{rest}"));
    let mut lines = vec![verdict.clone(), Line::Text(format!("Canary: {}.", diagnosis.canary))];
    for (level, title) in [
        (Level::Fails, "The guard fails:"),
        (Level::Unread, "Could not be read:"),
        (Level::Weakens, "The guard is weaker than it could be:"),
        (Level::Note, "Worth knowing:"),
    ] {
        let all: Vec<&Finding> = diagnosis.of(level).collect();
        if all.is_empty() {
            continue;
        }
        lines.push(Line::Text(String::new()));
        if level == Level::Note && !wide {
            lines.push(Line::Text(format!("{} notes more: -o wide shows them.", all.len())));
            continue;
        }
        lines.push(Line::Text(title.to_owned()));
        lines.extend(all.into_iter().flat_map(shown));
    }
    lines.extend([Line::Text(String::new()), verdict]);
    laid_out(&lines, width, 4)
}

fn shown(finding: &Finding) -> Vec<Line> {
    let mut lines = vec![Line::Text(format!("- {}: {}", finding.id, finding.message))];
    lines.extend(finding.evidence.iter().map(|fact| Line::Text(format!("  {fact}"))));
    lines.extend(finding.remedy.behind("  Try:"));
    lines
}
