//! The outlook of a plan as a person reads it: one line per subject, those that matter for the
//! direction, or all.

use std::time::Duration;

use pgscale_guard::capacity::{Look, Quotas};
use pgscale_guard::duration::human;
use pgscale_guard::quantity::Amount;

use crate::impact::{
    Budget, Clients, Impact, Order, Resources, Retention, Seeding, Turn, Volume, Zones,
};
use crate::plan::Plan;
use crate::terminal::text::{Cell, age, bytes, padded, wrap};
use crate::terminal::{BAD, BOLD, CARE};

/// Columns of the subjects.
const SUBJECTS: usize = 20;

/// Renders the lines of an impact, under their heading.
pub(crate) fn render(plan: &Plan, impact: &Impact, wide: bool, width: Option<usize>) -> String {
    let mut lines = vec![format!("{BOLD}Impact:{BOLD:#}")];
    for (subject, value) in subjects(plan, impact, wide) {
        let subject = if subject.is_empty() { subject.to_owned() } else { format!("{subject}:") };
        // Text that goes on under a subject is indented as far already.
        let hang = if subject.is_empty() { 2 } else { SUBJECTS };
        lines.push(wrap(&format!("  {}{value}", padded(&subject, SUBJECTS)), width, hang));
    }
    lines.join("\n")
}

fn subjects(plan: &Plan, impact: &Impact, wide: bool) -> Vec<(&'static str, String)> {
    let grows = plan.to > plan.from;
    let mut lines = Vec::new();
    lines.push(("Requests", requests(impact)));
    if let Ok(resources) = &impact.resources
        && wide
    {
        lines.push(("Limits", limits(resources)));
    }
    if grows || wide {
        lines.extend(under("Quota", quotas(&impact.quotas, wide)));
    }
    lines.extend(impact.budget.as_ref().map(|budget| ("Budget", budget_line(budget))));
    let Turn { before, after } = impact.readers;
    lines.push(("Readers", format!("{before} -> {after} behind {}-repl", plan.name)));
    lines.push(("Failures tolerated", spare(plan, impact.spare)));
    if plan.shrinks() || wide {
        lines.extend(zones(&impact.zones, wide).map(|line| ("Zones", line)));
    }
    if let Some(seeding) = &impact.seeding {
        lines.push(("Base backups", base_backups(seeding)));
        if seeding.leader.is_some() {
            lines.push(("Leader disk", leader_disk(seeding)));
        }
    }
    lines.extend(under("Clients", clients(&impact.clients)));
    for (standby, gone) in &impact.cascading {
        let line = format!("{CARE}{standby} replicates from {gone}{CARE:#}, which is removed");
        lines.push(("Cascading", line));
    }
    if !impact.restarts.is_empty() {
        let waits = if impact.restarts.len() == 1 { "waits" } else { "wait" };
        lines.push((
            "Restarts",
            format!(
                "{CARE}{}{CARE:#} {waits} for a restart of PostgreSQL, which the operator makes with any change",
                impact.restarts.join(", ")
            ),
        ));
    }
    lines
}

/// Renders several lines of one subject, which is named once.
fn under(
    subject: &'static str,
    lines: Vec<String>,
) -> impl Iterator<Item = (&'static str, String)> {
    std::iter::once(subject).chain(std::iter::repeat("")).zip(lines)
}

/// Returns the cell on the volume of a member that is removed, or that comes back to it.
pub(super) fn volume(impact: Option<&Impact>, claim: &str, goes: bool) -> Cell {
    let Some(impact) = impact else { return claim.into() };
    let volume = impact.volumes.as_ref().ok().and_then(|volumes| volumes.get(claim));
    let size = volume.and_then(|volume| size_and_age(volume, impact));
    let size = size.map_or(String::new(), |size| format!(" ({size})"));
    match (goes, &impact.retention) {
        (false, _) => format!("{claim} returns{size}").into(),
        (true, Ok(Retention::Kept)) => format!("{claim} is kept{size}").into(),
        (true, Ok(Retention::Deleted)) => Cell::styled(format!("{claim} is deleted{size}"), BAD),
        (true, Err(_)) => Cell::styled(format!("{claim}: unknown whether it is kept{size}"), CARE),
    }
}

/// Returns the text on the volume of a member that comes for the first time, as far as it is known.
pub(super) fn new_volume(impact: Option<&Impact>) -> String {
    let size = impact.and_then(|impact| impact.new_volume.as_ref().ok().copied().flatten());
    let new = size.map_or("new".to_owned(), |size| format!("new, {}", bytes(size)));
    match impact.map(|impact| &impact.volumes) {
        Some(Err(_)) => format!("{new}; or an earlier one"),
        Some(Ok(_)) | None => new,
    }
}

fn size_and_age(volume: &Volume, impact: &Impact) -> Option<String> {
    let age = Some(age(volume.created, impact.now)).filter(|age| !age.is_empty());
    let known: Vec<String> = volume.capacity.map(bytes).into_iter().chain(age).collect();
    (!known.is_empty()).then(|| known.join(", "))
}

fn unknown(why: &str) -> String {
    format!("{CARE}unknown{CARE:#}: {why}")
}

fn requests(impact: &Impact) -> String {
    let mut parts: Vec<String> = match &impact.resources {
        Ok(resources) => {
            resources.requests.iter().map(|(name, turn)| turned(name, *turn)).collect()
        }
        // A reason that hides the size of the pods hides that of the volumes too.
        Err(why) => return unknown(why),
    };
    parts.push(match &impact.storage {
        Ok(turn) => turned("storage", *turn),
        Err(why) => format!("storage {}", unknown(why)),
    });
    parts.join(", ")
}

fn limits(resources: &Resources) -> String {
    let open = |name: &str| resources.unlimited.contains(name);
    let limited = resources.limits.iter().filter(|(name, _)| !open(name));
    limited
        .map(|(name, turn)| turned(name, *turn))
        .chain(resources.unlimited.iter().map(|name| format!("{name} unlimited")))
        .collect::<Vec<_>>()
        .join(", ")
}

fn turned(name: &str, turn: Turn<Amount>) -> String {
    let Turn { before, after } = turn.map(|amount| shown(name, amount));
    if before == after {
        format!("{name} {after} as before")
    } else {
        format!("{name} {before} -> {after}")
    }
}

/// Returns an amount in the unit that people know the resource by.
fn shown(resource: &str, amount: Amount) -> String {
    let name = resource.rsplit('/').next().unwrap_or(resource);
    let name =
        ["requests.", "limits."].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    let in_bytes = matches!(name, "memory" | "storage" | "ephemeral-storage")
        || name.starts_with("hugepages-");
    if in_bytes { bytes(amount.units()) } else { amount.decimal() }
}

fn quotas(quotas: &Look<Quotas>, wide: bool) -> Vec<String> {
    let quotas = match quotas {
        Ok(quotas) => quotas,
        Err(why) => return vec![unknown(why)],
    };
    let mut lines: Vec<String> = Vec::new();
    for room in &quotas.rooms {
        let (hard, name) = (room.hard, &room.resource);
        let (before, after) = (shown(name, room.used), shown(name, room.after));
        let left = if let Some(more) = room.exceeded() {
            format!("{BAD}exceeded by {}{BAD:#}", shown(name, more))
        } else {
            let left = hard.minus(room.after).max(Amount::default());
            format!("{} left", shown(name, left))
        };
        let hard = shown(name, hard);
        lines.push(format!("{}: {name} {before} -> {after} of {hard}, {left}", room.quota));
    }
    lines.extend(quotas.unspecified.iter().map(|lack| {
        let containers = lack.containers.join(", ");
        format!("{}: {BAD}{} is not set{BAD:#} for {containers}", lack.quota, lack.resource)
    }));
    lines.extend(quotas.unjudged.iter().map(|why| format!("{CARE}not judged{CARE:#}: {why}")));
    if lines.is_empty() && wide {
        lines.push("none that this change touches".to_owned());
    }
    lines
}

fn budget_line(budget: &Look<Budget>) -> String {
    let Budget { instances, counted, reserved } = match budget {
        Ok(budget) => budget,
        Err(why) => return unknown(why),
    };
    let Turn { before, after } = counted;
    let left = i64::try_from(*after).map_or(i64::MIN, |after| instances.saturating_sub(after));
    let left = if left < 0 {
        format!("{BAD}exceeded by {}{BAD:#}", left.saturating_neg())
    } else {
        format!("{left} left")
    };
    let reserved = match reserved {
        0 => String::new(),
        some => format!(" ({some} only reserved)"),
    };
    format!("{before} -> {after} of {instances} instances in the namespace, {left}{reserved}")
}

fn spare(plan: &Plan, Turn { before, after }: Turn<i64>) -> String {
    if plan.to == 0 {
        return format!("{before} -> {BAD}no member is left to lead{BAD:#}");
    }
    let members = format!("{before} -> {after}");
    if after == 0 { format!("{CARE}{members}{CARE:#}") } else { members }
}

/// Returns the line on zones. There is none where no zone is known, unless everything is asked for.
fn zones(Turn { before, after }: &Turn<Zones>, wide: bool) -> Option<String> {
    let of = |zones: &Zones| {
        let mut parts: Vec<String> =
            zones.members.iter().map(|(zone, count)| format!("{zone} x {count}")).collect();
        if zones.without > 0 {
            parts.push(format!("without a zone x {}", zones.without));
        }
        if zones.unknown > 0 {
            parts.push(format!("unknown x {}", zones.unknown));
        }
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    if before.members.is_empty() && before.unknown == 0 && !wide {
        return None;
    }
    let stays =
        if before == after { of(after) } else { format!("{} -> {}", of(before), of(after)) };
    Some(match after.only() {
        Some(zone) => format!("{stays}; {CARE}all kept members are in {zone}{CARE:#}"),
        None => stays,
    })
}

fn base_backups(seeding: &Seeding) -> String {
    let mut parts = Vec::new();
    let copies = seeding.copies();
    if copies > 0 {
        let most = if seeding.returning.is_err() { "up to " } else { "" };
        parts.push(match &seeding.data {
            Ok(data) => {
                let all = u64::try_from(copies).unwrap_or(0).saturating_mul(*data);
                let all = if copies == 1 { String::new() } else { format!(" = {}", bytes(all)) };
                format!("{most}{copies} x {}{all}", bytes(*data))
            }
            Err(why) => format!("{most}{copies} of {CARE}unknown{CARE:#} size: {why}"),
        });
        if copies > 1 {
            parts.push(match &seeding.order {
                Ok(Order::OneByOne) => "one after the other".to_owned(),
                Ok(Order::Parallel) => "at the same time (Parallel pods)".to_owned(),
                Ok(Order::Unprobed) => {
                    "at nearly the same time (no readiness probe holds the next pod back)"
                        .to_owned()
                }
                Err(why) => format!("in what order is {CARE}unknown{CARE:#}: {why}"),
            });
        }
        parts.push(match (seeding.seconds_each(), &seeding.pace) {
            (Some(seconds), Ok(Some(pace))) => format!(
                "about {} each at the {}/s of the one that runs now",
                human(Duration::from_secs(seconds)),
                bytes(*pace)
            ),
            _ => "ETA unknown: no base backup of this cluster was measured yet".to_owned(),
        });
    }
    match &seeding.returning {
        Ok(0) => {}
        Ok(returning) => parts.push(format!(
            "{returning} on the volume of an earlier life: catches up, or copies all where it cannot"
        )),
        Err(why) => parts.push(format!("volumes of an earlier life are {}", unknown(why))),
    }
    // Pods that are there already, ahead of the count, copy nothing because of it.
    if parts.is_empty() { "none".to_owned() } else { parts.join("; ") }
}

fn leader_disk(seeding: &Seeding) -> String {
    let leader = seeding.leader.as_deref().unwrap_or_default();
    let wal = match &seeding.wal {
        Ok(wal) => wal,
        Err(why) => return format!("{leader}: {}", unknown(why)),
    };
    let free = match &wal.free {
        Ok(free) => format!("{} free", bytes(*free)),
        Err(why) => format!("free {}", unknown(why)),
    };
    let held = match &wal.held {
        Some((held, slot)) => format!("slots hold back {} of WAL (most: {slot})", bytes(*held)),
        None => "no slot holds WAL back".to_owned(),
    };
    format!("{leader}: {free}; {held}")
}

/// Returns one line per member. Members with the same text share one.
fn clients(members: &[(String, Look<Vec<Clients>>)]) -> Vec<String> {
    let mut reported: Vec<(&Look<Vec<Clients>>, Vec<&str>)> = Vec::new();
    for (member, clients) in members {
        match reported.iter_mut().find(|(other, _)| *other == clients) {
            Some((_, members)) => members.push(member),
            None => reported.push((clients, vec![member])),
        }
    }
    let any = members.iter().any(|(_, clients)| clients.as_ref().is_ok_and(|it| !it.is_empty()));
    reported
        .into_iter()
        .map(|(clients, members)| {
            let text = match clients {
                Err(why) => unknown(why),
                Ok(clients) if clients.is_empty() => "none".to_owned(),
                Ok(clients) => connected(clients),
            };
            format!("{}: {text}", members.join(", "))
        })
        .chain(any.then(|| "connections end when their member is removed".to_owned()))
        .collect()
}

/// Returns `12 clients (psql as app x 10, app x 2)`.
fn connected(clients: &[Clients]) -> String {
    let count: u64 = clients.iter().map(|clients| clients.count).sum();
    let noun = if count == 1 { "client" } else { "clients" };
    let kinds: Vec<String> =
        clients.iter().map(|clients| format!("{} x {}", who(clients), clients.count)).collect();
    format!("{CARE}{count} {noun}{CARE:#} ({})", kinds.join(", "))
}

/// Returns `psql as app`, or `app` for a client that does not name its program.
fn who(Clients { user, application, .. }: &Clients) -> String {
    match (application.is_empty(), user.is_empty()) {
        (true, true) => "unnamed".to_owned(),
        (true, false) => user.clone(),
        (false, true) => application.clone(),
        (false, false) => format!("{application} as {user}"),
    }
}

#[cfg(test)]
mod tests;
