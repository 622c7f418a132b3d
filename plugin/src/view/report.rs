//! A change as a page for a ticket or a chat.

use crate::execute::Count;
use crate::execute::switchover::Lead;
use crate::history::Entry;
use crate::members::Role;
use crate::outcome::Outcome;
use crate::plan::{Plan, Step};
use crate::terminal::text::{bytes, instances, took};

/// Renders the page in Markdown.
pub(crate) fn markdown(outcome: &Outcome) -> String {
    let cluster = format!("{}/{}", outcome.namespace, outcome.name);
    let title = match &outcome.plan {
        Some(plan) => format!("# postgresql {cluster}: {} -> {}", plan.from, instances(plan.to)),
        None => format!("# postgresql {cluster}"),
    };
    let mut lines = vec![title, String::new(), "| | |".to_owned(), "|---|---|".to_owned()];
    lines.extend(
        facts(outcome).into_iter().map(|(key, value)| format!("| {key} | {} |", cell(&value))),
    );
    if let Some(plan) = &outcome.plan {
        section(&mut lines, "Plan", plan.steps.iter().map(step).collect());
        let findings = plan.verdict.findings.iter().filter(|finding| !finding.audit_only);
        section(&mut lines, "What the rules said", findings.map(ToString::to_string).collect());
        section(&mut lines, "Removed members", leaving(plan));
    }
    if let Some(effect) = &outcome.effect {
        lines.extend(super::effect::page(effect));
    }
    if let Some(watched) = &outcome.watched {
        let events = watched.events.iter();
        section(
            &mut lines,
            "What happened",
            events.map(|event| format!("{:.1}s: {}", event.seconds, event.what)).collect(),
        );
        section(&mut lines, "Missing", watched.missing.clone());
        section(&mut lines, "Notes", watched.notes.clone());
    }
    lines.join("\n")
}

fn facts(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Result", outcome.word().to_owned())];
    if let Some(failure) = outcome.failure() {
        facts.push(("Why", failure.text()));
    }
    if let Some(entry) = &outcome.entry {
        let who = if entry.who.is_empty() {
            "a user that the API server did not name"
        } else {
            &entry.who
        };
        facts.push(("Asked by", format!("{who}, {}", entry.started)));
        if let Some(reason) = &entry.reason {
            facts.push(("Reason", reason.clone()));
        }
        if let Some(undoes) = &entry.undoes {
            facts.push(("Takes back", undoes.clone()));
        }
    }
    if let Some(plan) = &outcome.plan {
        let declared = plan.declared.map_or("unset".to_owned(), |count| count.to_string());
        let change = format!("{declared} -> {}", plan.count);
        facts.push((
            "numberOfInstances",
            match outcome.done.count {
                Count::Unwritten if outcome.failure().is_some() => {
                    format!("not changed ({change} asked)")
                }
                Count::InDoubt => format!("{change} (not certain)"),
                Count::Unwritten | Count::Written => change,
            },
        ));
    }
    let planned = outcome.plan.as_ref().and_then(|plan| plan.leader.as_ref());
    match (&outcome.done.lead, planned) {
        (Lead::Moved(leader_move, moved), _) => {
            facts.push(("Leader", format!("{} -> {}", leader_move.from, leader_move.to)));
            facts.push(("Switchover", moved.reported()));
        }
        // Another writer may have moved it since.
        (Lead::Kept, Some(leader)) => {
            facts.push(("Leader", format!("{leader} when planned; not moved by this change")));
        }
        (Lead::InDoubt, Some(leader)) => {
            facts.push(("Leader", format!("{leader} when planned; who leads now is not certain")));
        }
        (Lead::Kept | Lead::InDoubt, None) => {}
    }
    if let Some(entry) = &outcome.entry {
        facts.extend(measured(entry));
    }
    facts
}

/// Returns the values that were measured while the change was watched.
fn measured(entry: &Entry) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(seconds) = entry.seconds {
        facts.push(("Took", took(seconds)));
    }
    if let Some(changes) = entry.leader_changes {
        facts.push(("Leader changes while watched", changes.to_string()));
    }
    if let Some(seconds) = entry.leaderless_seconds {
        facts.push(("Without a leader while watched", took(seconds)));
    }
    if let Some(lag) = entry.worst_lag_bytes {
        facts.push(("Worst lag while watched", bytes(lag)));
    }
    facts
}

fn step(step: &Step) -> String {
    super::plan::step_text(step)
}

fn leaving(plan: &Plan) -> Vec<String> {
    plan.leaving
        .iter()
        .map(|member| {
            let role = if member.role == Role::Leader { "leader" } else { "replica" };
            format!("{} ({role}, {})", member.pod, member.state)
        })
        .collect()
}

fn section(lines: &mut Vec<String>, title: &str, items: Vec<String>) {
    if items.is_empty() {
        return;
    }
    lines.extend([String::new(), format!("## {title}"), String::new()]);
    // A line that follows in the same item is indented. Otherwise it would end the list.
    lines.extend(items.into_iter().map(|item| format!("- {}", item.replace('\n', "\n  "))));
}

/// Returns a table's cell: it is one line, and holds no bar itself.
fn cell(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("<br>").replace('|', "\\|")
}
