//! Several clusters, one line each: before a change, and after it.

use super::plan::{counted, is_hidden, render_verdict};
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::plan::{Outcome as Comes, Plan};
use crate::terminal::text::{Cell, fitted, laid_out, took, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};

/// One cluster of several, before anything is done.
pub(crate) struct Planned<'a> {
    /// Namespace of the cluster.
    pub(crate) namespace: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its plan, where there is one.
    pub(crate) plan: Option<&'a Plan>,
    /// The reason for doing nothing, where nothing will be done.
    pub(crate) refusal: Option<&'a Failure>,
}

/// Renders the plans, and below them the reasons of refusals and the points that deserve a look.
pub(crate) fn plans(clusters: &[Planned<'_>], wide: bool, width: Option<usize>) -> String {
    let rows: Vec<Vec<Cell>> = clusters.iter().map(plan).collect();
    let header = ["NAMESPACE", "NAME", "CHANGE", "LEADER", "MOVES TO", "VERDICT"];
    let mut lines = vec![fitted(&header, &rows, width)];
    for cluster in clusters {
        let mut said = Vec::new();
        if let Some(plan) = cluster.plan.filter(|plan| plan.outcome() != Comes::Nothing) {
            said.extend(render_verdict(plan, wide, width));
        }
        let by_rules = cluster.plan.is_some_and(|plan| plan.outcome() == Comes::Refused);
        if let Some(failure) = cluster.refusal.filter(|_| !by_rules) {
            said.push(wrap(&format!("  {}", failure.message), width, 2));
            if !failure.details.is_empty() {
                said.push(laid_out(&failure.details, width, 2));
            }
        }
        if !said.is_empty() {
            lines.push(format!("{BOLD}{}/{}:{BOLD:#}", cluster.namespace, cluster.name));
            lines.append(&mut said);
        }
    }
    lines.join("\n")
}

fn plan(cluster: &Planned<'_>) -> Vec<Cell> {
    let mut row = vec![Cell::from(cluster.namespace), Cell::from(cluster.name)];
    let Some(plan) = cluster.plan else {
        row.extend([
            Cell::default(),
            Cell::default(),
            Cell::default(),
            Cell::styled("failed", BAD),
        ]);
        return row;
    };
    row.extend([
        change(plan).into(),
        plan.leader.as_deref().unwrap_or_default().into(),
        plan.leader_move.as_ref().map_or(Cell::default(), |wanted| Cell::from(&wanted.to)),
    ]);
    let warnings = plan.verdict.warnings().count();
    let blind = plan.verdict.warnings().all(|finding| is_hidden(plan, finding));
    row.push(if cluster.refusal.is_some() {
        Cell::styled("refused", BAD)
    } else if plan.outcome() == Comes::Nothing {
        "nothing to do".into()
    } else if warnings > 0 && blind {
        Cell::styled(format!("allowed, {} not judged", counted(warnings, "rule")), CARE)
    } else if warnings > 0 {
        Cell::styled(format!("allowed, {}", counted(warnings, "warning")), CARE)
    } else {
        Cell::styled("allowed", GOOD)
    });
    row
}

fn change(plan: &Plan) -> String {
    format!("{} -> {}", plan.from, plan.to)
}

/// Renders the end of each change.
pub(crate) fn outcomes(ended: &[Outcome], width: Option<usize>) -> String {
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
    let header = ["NAMESPACE", "NAME", "CHANGE", "RESULT", "TOOK", "LEADER MOVED"];
    fitted(&header, &rows, width)
}
