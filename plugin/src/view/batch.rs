//! Several clusters, one line each: before a change, and after it.

use super::plan::render_finding;
use crate::commands::{Outcome, Seat};
use crate::plan::{Outcome as Comes, Plan};
use crate::terminal::text::{Cell, fitted, table, took, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};

/// The plans, and below them why some are refused and what deserves a look.
pub(crate) fn plans(seats: &[Seat], width: Option<usize>) -> String {
    let rows: Vec<Vec<Cell>> = seats.iter().map(plan).collect();
    let header = ["NAMESPACE", "NAME", "CHANGE", "LEADER", "MOVES TO", "VERDICT"];
    let mut lines = vec![fitted(&header, &rows, width)];
    for seat in seats {
        let mut said = Vec::new();
        if let Ok(prepared) = &seat.prepared
            && prepared.plan.outcome() != Comes::Nothing
        {
            let verdict = &prepared.plan.verdict;
            let findings = verdict.denials().chain(verdict.warnings());
            said.extend(findings.map(|finding| render_finding(finding, width)));
        }
        let by_rules =
            matches!(&seat.prepared, Ok(prepared) if prepared.plan.outcome() == Comes::Refused);
        if let Some(failure) = seat.refusal().filter(|_| !by_rules) {
            said.push(wrap(&format!("  {}", failure.message), width, 2));
        }
        if !said.is_empty() {
            lines.push(format!("{BOLD}{}/{}:{BOLD:#}", seat.namespace, seat.name));
            lines.append(&mut said);
        }
    }
    lines.join("\n")
}

fn plan(seat: &Seat) -> Vec<Cell> {
    let mut row = vec![Cell::from(&seat.namespace), Cell::from(&seat.name)];
    match &seat.prepared {
        Err(_) => row.extend([
            Cell::default(),
            Cell::default(),
            Cell::default(),
            Cell::styled("failed", BAD),
        ]),
        Ok(prepared) => {
            let plan = &prepared.plan;
            row.extend([
                change(plan).into(),
                plan.leader.as_deref().unwrap_or_default().into(),
                plan.leader_move.as_ref().map_or(Cell::default(), |wanted| Cell::from(&wanted.to)),
            ]);
            let warned = plan.verdict.warnings().count() > 0;
            row.push(if seat.refusal().is_some() {
                Cell::styled("refused", BAD)
            } else if plan.outcome() == Comes::Nothing {
                "nothing to do".into()
            } else if warned {
                Cell::styled("allowed, with warnings", CARE)
            } else {
                Cell::styled("allowed", GOOD)
            });
        }
    }
    row
}

fn change(plan: &Plan) -> String {
    format!("{} -> {}", plan.from, plan.to)
}

/// How each ended.
pub(crate) fn outcomes(ended: &[Outcome]) -> String {
    let rows: Vec<Vec<Cell>> = ended
        .iter()
        .map(|outcome| {
            let style = if outcome.failure().is_none() { GOOD } else { BAD };
            let seconds = outcome.entry.as_ref().and_then(|entry| entry.seconds);
            let moved =
                outcome.done.lead.switchover().map(|(it, _)| format!("{} -> {}", it.from, it.to));
            vec![
                Cell::from(&outcome.namespace),
                Cell::from(&outcome.name),
                outcome.plan.as_ref().map_or(Cell::default(), |plan| Cell::from(change(plan))),
                Cell::styled(outcome.word(), style),
                seconds.map_or(Cell::default(), |seconds| Cell::from(took(seconds))),
                moved.unwrap_or_default().into(),
            ]
        })
        .collect();
    table(&["NAMESPACE", "NAME", "CHANGE", "RESULT", "TOOK", "LEADER MOVED"], &rows)
}
