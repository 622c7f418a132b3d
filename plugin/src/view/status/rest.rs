//! The parts of one cluster besides members: room for change, slots, volumes, and verdicts on
//! changes.

use pgscale_guard::Seen;
use pgscale_guard::facts::{DisruptionBudget, Facts};

use super::super::plan::{counted, reasons};
use super::super::policy::source;
use crate::status::{
    Archive, Bound, By, CountVerdict, Flow, Headroom, Slot, Status, Version, Volume, bound_of_pods,
    pending_restarts, volumes,
};
use crate::terminal::text::{Cell, age, bytes, fitted, lsn, spared};
use crate::terminal::{BAD, CARE, GOOD};

/// The number of rules that are named in a narrow table.
const RULES: usize = 3;

/// Returns the version of PostgreSQL and the size of its data. What is only declared is said to be.
pub(super) fn version(status: &Status) -> String {
    let Version { running, declared } = Version::of(&status.snapshot.facts);
    let version = match (running.as_slice(), declared) {
        ([], Some(declared)) => format!("PostgreSQL {declared} declared, no member answered"),
        ([], None) => format!("PostgreSQL, {CARE}version not known{CARE:#}"),
        (running, _) => format!("PostgreSQL {}", running.join(" and ")),
    };
    match status.detail.as_ref().map(|detail| &detail.vitals.data) {
        Some(Ok(size)) => format!("{version}, {} of data", bytes(*size)),
        Some(Err(_)) | None => version,
    }
}

/// Returns the members whose PostgreSQL waits for a restart. Empty where there is none.
pub(super) fn restarts(facts: &Facts) -> String {
    match pending_restarts(facts).as_slice() {
        [] => String::new(),
        members => format!("{CARE}pending{CARE:#} on {}", members.join(", ")),
    }
}

/// Returns the last logical backup, and the archive of the WAL.
pub(super) fn backup(status: &Status) -> String {
    let Some(detail) = &status.detail else { return String::new() };
    let facts = &status.snapshot.facts;
    let job = match &facts.capacity.backup {
        Some(Seen::Known(job)) => {
            let suspended = if job.suspended { ", suspended" } else { "" };
            match job.succeeded {
                Some(then) => format!("logical {} ago{suspended}", age(Some(then), facts.now)),
                None => format!("{CARE}logical never succeeded{CARE:#}{suspended}"),
            }
        }
        Some(Seen::Absent) => "no logical backup job".to_owned(),
        Some(Seen::Unreadable(why)) => format!("logical not known: {why}"),
        None => "logical not read".to_owned(),
    };
    match &detail.vitals.flow {
        // The reason stands below the members.
        Err(_) => job,
        Ok(Flow { archive, .. }) => format!("{job}; {}", archived(archive, facts.now)),
    }
}

fn archived(archive: &Archive, now: k8s_openapi::jiff::Timestamp) -> String {
    let last = match archive.last {
        Some(last) => format!("last archived {} ago", age(Some(last), now)),
        None => "none archived yet".to_owned(),
    };
    if !archive.on {
        return "WAL is not archived".to_owned();
    }
    if archive.fails() {
        let failed = age(archive.failed, now);
        return format!("{BAD}WAL archiving fails{BAD:#}, last {failed} ago; {last}");
    }
    format!("WAL {last}")
}

/// Returns the disruption budgets that count the leader.
pub(super) fn budget(facts: &Facts) -> String {
    match &facts.capacity.disruption_budgets {
        None => String::new(),
        Some(Seen::Unreadable(why)) => format!("not known: {why}"),
        Some(Seen::Absent) => "none counts the leader".to_owned(),
        Some(Seen::Known(all)) if all.is_empty() => "none counts the leader".to_owned(),
        Some(Seen::Known(all)) => all.iter().map(one_budget).collect::<Vec<_>>().join("; "),
    }
}

fn one_budget(budget: &DisruptionBudget) -> String {
    let least = budget.min_available.as_ref().map(bound_of_pods);
    let least = least.map(|it| format!("min available {it}"));
    let most = budget.max_unavailable.as_ref().map(bound_of_pods);
    let most = most.map(|it| format!("max unavailable {it}"));
    let bound = least.or(most).unwrap_or_else(|| "without a bound".to_owned());
    let whom = if budget.leader_only { ", the leader alone" } else { "" };
    format!("{}: {bound}{whom}", budget.name)
}

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
    // PostgreSQL itself says more about them than Patroni's object does.
    if let Some(detail) = &status.detail
        && !leader_answered(status)
    {
        sections.extend(section("replication slots", &detail.slots, |all| slots(all, wide, width)));
    }
    let volumes = volumes(&status.snapshot.facts);
    sections.extend(section("volumes", &volumes, |all| {
        let rows: Vec<Vec<Cell>> = all.iter().map(|it| volume(it, now, wide)).collect();
        let mut header = vec!["VOLUME", "SIZE", "MEMBER", "STATE", "AGE"];
        if wide {
            header.push("CREATED");
        }
        let spare: &[&str] = if wide { &[] } else { &["AGE", "MEMBER"] };
        let (header, rows) = spared(&header, rows, width, spare);
        fitted(&header, &rows, width)
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

/// Returns whether the leader's PostgreSQL has listed its slots.
fn leader_answered(status: &Status) -> bool {
    let reads = status.detail.as_ref().and_then(|detail| detail.reads.as_ref());
    let leader = status.snapshot.facts.leader_name();
    let mut all = reads.into_iter().flat_map(|reads| &reads.members);
    all.any(|one| Some(one.member.as_str()) == leader && one.said.is_ok())
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

fn slots(all: &[Slot], wide: bool, width: Option<usize>) -> String {
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
    fitted(&header, &rows, width)
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
    let (rules, moves) = (reported.rules.len(), reported.leader_moves_to.is_some() && !wide);
    let moves = if moves { ", leader moves" } else { "" };
    let blind = !reported.unread.is_empty();
    let verdict = match (reported.allowed, rules) {
        (true, 0) => Cell::styled(format!("allowed{moves}"), GOOD),
        (true, _) if blind => Cell::styled(format!("allowed{moves}, not judged"), CARE),
        // The rules of a change that is allowed are those that warn.
        (true, _) => Cell::styled(format!("allowed{moves}, {}", counted(rules, "warning")), CARE),
        (false, _) if blind => Cell::styled("refused, not judged", BAD),
        (false, _) => Cell::styled("refused", BAD),
    };
    let rules = if blind && !wide {
        // Nearly every rule says the same then.
        let why = reasons(reported.unread.iter().map(String::as_str));
        format!("{} without facts: {why}", counted(rules, "rule"))
    } else {
        let shown = if wide { rules } else { RULES };
        let besides = rules.saturating_sub(shown);
        let more = (besides > 0).then(|| format!("and {besides} more"));
        let named = reported.rules.iter().take(shown).map(|rule| (*rule).to_owned());
        named.chain(more).collect::<Vec<_>>().join(", ")
    };
    let mut row = vec![Cell::from(count), verdict, rules.into()];
    if wide {
        row.push(reported.leader_moves_to.as_deref().unwrap_or_default().into());
        row.push(reported.message.as_deref().unwrap_or_default().into());
    }
    row
}
