//! The parts of one cluster besides members: room for change, slots, volumes, and verdicts on
//! changes.

use pgscale_guard::Seen;

use super::super::policy::source;
use crate::status::{Bound, By, CountVerdict, Headroom, Slot, Status, Volume, volumes};
use crate::terminal::text::{Cell, age, bytes, fitted, lsn, table};
use crate::terminal::{BAD, CARE, GOOD};

/// The number of rules that are named in a narrow table.
const RULES: usize = 3;

/// Returns the room that policies leave, in a sentence. It is empty where that was not looked up.
pub(super) fn policy(status: &Status) -> String {
    let Some(detail) = &status.detail else { return String::new() };
    let Headroom { bounds, more, fewer, zero, unreadable, operator_unreadable } = &detail.headroom;
    if let Some(why) = unreadable {
        return format!("{BAD}cannot be read:{BAD:#} {why}");
    }
    let limits: Vec<String> = bounds.iter().map(bound).collect();
    let limits = if limits.is_empty() { "none".to_owned() } else { limits.join(", ") };
    let more = more
        .map_or("any number may be added".to_owned(), |more| format!("{more} more may be added"));
    let zero = if *zero { ", zero is allowed" } else { "" };
    let operator = match operator_unreadable {
        Some(_) => "; the operator's own limits cannot be read",
        None => "",
    };
    format!("{limits}; {more}, {fewer} may be removed{zero}{operator}")
}

fn bound(bound: &Bound) -> String {
    format!("{} {} ({})", bound.what, bound.value, source(&bound.source, bound.mode))
}

/// Returns the sections below the members.
pub(super) fn sections(status: &Status, wide: bool, width: Option<usize>) -> Vec<String> {
    let now = status.snapshot.facts.now;
    let mut sections = Vec::new();
    if let Some(detail) = &status.detail {
        sections.extend(section("replication slots", &detail.slots, |all| slots(all, wide)));
    }
    let volumes = volumes(&status.snapshot.facts);
    sections.extend(section("volumes", &volumes, |all| {
        let rows: Vec<Vec<Cell>> = all.iter().map(|it| volume(it, now, wide)).collect();
        let mut header = vec!["VOLUME", "SIZE", "MEMBER", "STATE", "AGE"];
        if wide {
            header.push("CREATED");
        }
        table(&header, &rows)
    }));
    if let Some(detail) = &status.detail
        && !detail.would_say.is_empty()
    {
        let rows: Vec<Vec<Cell>> =
            detail.would_say.iter().map(|reported| row(reported, wide)).collect();
        let mut header = vec!["IF SET TO", "VERDICT", "RULES"];
        if wide {
            header.extend(["LEADER MOVES TO", "MESSAGE"]);
        }
        sections.push(fitted(&header, &rows, width));
    }
    sections
}

/// Returns the section of a list. An empty list has none, and an unreadable one has the reason.
fn section<T>(
    what: &str,
    seen: &Seen<Vec<T>>,
    render: impl FnOnce(&[T]) -> String,
) -> Option<String> {
    match seen {
        Seen::Absent => None,
        Seen::Known(all) if all.is_empty() => None,
        Seen::Known(all) => Some(render(all)),
        Seen::Unreadable(why) => Some(format!("{CARE}{what} cannot be read:{CARE:#} {why}")),
    }
}

fn slots(all: &[Slot], wide: bool) -> String {
    let mut header = vec!["SLOT", "MEMBER", "WAL HELD"];
    if wide {
        header.push("OLDEST NEEDED");
    }
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|slot| {
            let member = match &slot.member {
                // Patroni drops the slot later (member_slots_ttl). Until then it holds WAL that no
                // member will fetch.
                Some(member) if slot.there == Some(false) => {
                    Cell::styled(format!("{member}, no pod"), CARE)
                }
                Some(member) => Cell::from(member),
                None => Cell::from("no member's"),
            };
            let mut row = vec![
                Cell::from(&slot.name),
                member,
                slot.held.map_or(Cell::default(), |held| Cell::from(bytes(held))),
            ];
            if wide {
                row.push(lsn(slot.position).into());
            }
            row
        })
        .collect();
    table(&header, &rows)
}

fn volume(volume: &Volume, now: k8s_openapi::jiff::Timestamp, wide: bool) -> Vec<Cell> {
    let state = match volume.in_use {
        Some(true) => Cell::from("in use"),
        Some(false) => Cell::styled("kept, no pod", CARE),
        None => Cell::from("unknown"),
    };
    let mut row = vec![
        Cell::from(&volume.claim),
        volume.capacity.map_or(Cell::default(), |size| Cell::from(bytes(size))),
        Cell::from(&volume.member),
        state,
        age(volume.created, now).into(),
    ];
    if wide {
        row.push(volume.created.map_or(Cell::default(), |time| Cell::from(time.to_string())));
    }
    row
}

fn row(reported: &CountVerdict, wide: bool) -> Vec<Cell> {
    let count = match reported.by {
        By::Command => reported.to.to_string(),
        By::Edit => format!("{} by an edit", reported.to),
    };
    let verdict = match (reported.allowed, &reported.leader_moves_to) {
        (false, _) => Cell::styled("refused", BAD),
        (true, Some(_)) if !wide => Cell::styled("allowed, leader moves", GOOD),
        (true, _) => Cell::styled("allowed", GOOD),
    };
    // Where few facts could be read, nearly every rule says so.
    let shown = if wide { reported.rules.len() } else { RULES };
    let mut rules: Vec<String> =
        reported.rules.iter().take(shown).map(|rule| (*rule).to_owned()).collect();
    let besides = reported.rules.len().saturating_sub(shown);
    if besides > 0 {
        rules.push(format!("and {besides} more"));
    }
    let mut row = vec![Cell::from(count), verdict, rules.join(", ").into()];
    if wide {
        row.push(reported.leader_moves_to.as_deref().unwrap_or_default().into());
        row.push(reported.message.as_deref().unwrap_or_default().into());
    }
    row
}
