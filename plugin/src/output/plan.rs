//! A plan as a person reads it.

use pgscale_guard::verdict::{Finding, Severity};

use super::text::{Cell, fitted, instances, table, wrap};
use super::{BAD, BOLD, CARE, GOOD, outlook};
use crate::plan::{Commit, Judged, Outcome, Plan, Step, every_rule};

/// Renders a plan; where it shall be wide, with all of its outlook and every rule. `command` makes a command for
/// people out of our words.
pub(crate) fn render(
    plan: &Plan,
    wide: bool,
    width: Option<usize>,
    command: impl Fn(&str) -> String,
) -> String {
    let mut sections = vec![heading(plan)];
    sections.extend(members(plan, width));
    if let Some(leader_move) = &plan.leader_move {
        sections.push(wrap(
            &format!(
                "{BOLD}Leader:{BOLD:#} {} -> {} ({})",
                leader_move.from, leader_move.to, leader_move.why
            ),
            width,
            2,
        ));
    }
    for unfit in &plan.unfit {
        sections.push(wrap(
            &format!("{CARE}Not counted on:{CARE:#} {}: {}", unfit.pod, unfit.why),
            width,
            2,
        ));
    }
    sections.extend(Commit::of(plan).map(|it| commit(&it, width)));
    if let Some(outlook) = &plan.outlook {
        sections.push(outlook::render(plan, outlook, wide, width));
    }
    if plan.outcome() == Outcome::Ready {
        sections.push(steps(plan));
    }
    sections.push(verdict(plan, width, command));
    if wide {
        sections.push(rules(plan));
    }
    sections.join("\n")
}

fn heading(plan: &Plan) -> String {
    let declared = plan.declared.map_or("unset".to_owned(), |count| count.to_string());
    let mut odd = Vec::new();
    if plan.declared != Some(plan.from) || plan.asked != plan.to {
        odd.push(format!("declared {declared} -> {}", plan.asked));
    }
    if let Some(running) = plan.running.filter(|running| *running != plan.from) {
        odd.push(format!("the StatefulSet asks for {running}"));
    }
    let odd = if odd.is_empty() { String::new() } else { format!(" ({})", odd.join("; ")) };
    format!(
        "{BOLD}postgresql {}:{BOLD:#} {} -> {}{odd}",
        plan.cluster(),
        plan.from,
        instances(plan.to)
    )
}

fn members(plan: &Plan, width: Option<usize>) -> Option<String> {
    let leaving = plan.leaving.iter().map(|member| {
        let volume = match &member.claim {
            Some(claim) => outlook::volume(plan.outlook.as_deref(), claim, true),
            None => Cell::default(),
        };
        vec![
            Cell::from(&member.pod),
            Cell::styled("goes", CARE),
            member.role().into(),
            (&member.state).into(),
            volume,
        ]
    });
    let coming = plan.coming.iter().map(|member| {
        let volume = match &member.claim {
            Some(claim) => outlook::volume(plan.outlook.as_deref(), claim, false),
            None => outlook::new_volume(plan.outlook.as_deref()).into(),
        };
        vec![
            Cell::from(&member.pod),
            Cell::styled("comes", GOOD),
            "replica".into(),
            "".into(),
            volume,
        ]
    });
    let rows: Vec<Vec<Cell>> = leaving.chain(coming).collect();
    (!rows.is_empty()).then(|| {
        let shown = fitted(&["MEMBER", "CHANGE", "ROLE", "STATE", "VOLUME"], &rows, width);
        match plan.coming_besides {
            0 => shown,
            besides => format!("{shown}\n... and {besides} more"),
        }
    })
}

/// What others must be told so that they do not undo the change.
fn commit(commit: &Commit, width: Option<usize>) -> String {
    let writers: Vec<&str> = commit.places.iter().map(|(writer, _)| writer.as_str()).collect();
    let places: Vec<&str> = commit.places.iter().map(|(_, place)| *place).collect();
    let said = format!(
        "{CARE}Also written by:{CARE:#} {} (may undo the change: commit this to {})",
        writers.join(", "),
        places.join(", and to ")
    );
    let manifest = commit.yaml();
    let manifest = manifest.lines().map(|line| format!("    {line}"));
    std::iter::once(wrap(&said, width, 2)).chain(manifest).collect::<Vec<_>>().join("\n")
}

/// Every rule, and what it says.
fn rules(plan: &Plan) -> String {
    let rows: Vec<Vec<Cell>> = every_rule(&plan.verdict)
        .into_iter()
        .map(|(id, judged)| {
            let judged = match judged {
                Judged::Audit => Cell::styled("audit only", CARE),
                Judged::Deny => Cell::styled("deny", BAD),
                Judged::NotApplicable => "not applicable".into(),
                Judged::Pass => Cell::styled("pass", GOOD),
                Judged::Warn => Cell::styled("warn", CARE),
            };
            vec![id.into(), judged]
        })
        .collect();
    table(&["RULE", "VERDICT"], &rows)
}

fn steps(plan: &Plan) -> String {
    let numbered =
        plan.steps.iter().zip(1..).map(|(step, number)| format!("  {number}. {}", step_text(step)));
    let lines: Vec<String> =
        std::iter::once(format!("{BOLD}Steps:{BOLD:#}")).chain(numbered).collect();
    lines.join("\n")
}

/// One step in one sentence.
pub(crate) fn step_text(step: &Step) -> String {
    match step {
        Step::Checkpoint(member) => format!("CHECKPOINT on {member}"),
        Step::MoveLeader(from, to) => {
            format!("switch over from {from} to {to}, and see it done")
        }
        Step::SetCount(count) => format!("set numberOfInstances to {count}"),
        Step::Converge(1) => "wait until 1 instance has converged".to_owned(),
        Step::Converge(count) => format!("wait until {} have converged", instances(*count)),
    }
}

fn verdict(plan: &Plan, width: Option<usize>, command: impl Fn(&str) -> String) -> String {
    let denials: Vec<&Finding> = plan.verdict.denials().collect();
    let warnings: Vec<&Finding> = plan.verdict.warnings().collect();
    let mut lines = Vec::new();
    lines.push(match (plan.outcome(), denials.as_slice()) {
        (Outcome::Nothing, _) => {
            format!("{GOOD}Nothing to do:{GOOD:#} {} asked for already", instances(plan.asked))
        }
        (_, []) if warnings.is_empty() => format!("{GOOD}Allowed{GOOD:#}"),
        (_, []) => format!("{GOOD}Allowed{GOOD:#}, with warnings"),
        (_, denials) => {
            let rules: Vec<&str> = denials.iter().map(|finding| finding.rule).collect();
            format!("{BAD}Refused{BAD:#} by {}", rules.join(", "))
        }
    });
    if plan.outcome() != Outcome::Nothing {
        lines.extend(denials.iter().chain(&warnings).map(|finding| render_finding(finding, width)));
    }
    if plan.outcome() == Outcome::Refused {
        lines.push(match plan.way_out {
            Some(count) => {
                format!("{BOLD}Way out:{BOLD:#} {}", command(&format!("set {} {count}", plan.name)))
            }
            None => format!(
                "{BOLD}Way out:{BOLD:#} no count between {} and {} is allowed now",
                plan.from, plan.asked
            ),
        });
    }
    lines.join("\n")
}

/// One finding, with its evidence and its way out.
pub(crate) fn render_finding(finding: &Finding, width: Option<usize>) -> String {
    let (style, word) = match finding.severity {
        Severity::Deny => (BAD, "DENY"),
        Severity::Warn => (CARE, "WARN"),
    };
    let text = finding.to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let mut rendered = wrap(&format!("  {style}{word}{style:#} {first}"), width, 5);
    for line in lines {
        rendered.push('\n');
        rendered.push_str(&wrap(&format!("     {line}"), width, 2));
    }
    rendered
}
