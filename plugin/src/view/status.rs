//! The state of clusters as a person reads it.

use pgscale_guard::facts::{Facts, Health, Live, Member};
use pgscale_guard::patroni::Synchronous;
use pgscale_guard::{Assessed, Assessment, Seen};

use super::plan::counted;
use crate::members::{Activity, Delays, Role, lag_bytes};
use crate::plan::describe;
use crate::services::names;
use crate::status::{Flow, Headline, Status, Vitals, Word, running};
use crate::terminal::text::{Cell, age, bytes, fitted, lsn, padded, spared, without, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};

mod diagnosis;
mod list;
pub(super) mod reads;
mod rest;

use diagnosis::reasons;
pub(super) use list::{healthy, word};
pub(crate) use list::{list, rows};

/// Columns of the keys above the members.
const KEYS: usize = 11;

/// Renders one cluster in detail, between two lines with its state. `why` and a wide view have every
/// cause.
pub(crate) fn detail(status: &Status, why: bool, wide: bool, width: Option<usize>) -> String {
    let facts = &status.snapshot.facts;
    let title = format!("{BOLD}postgresql {}{BOLD:#}", facts.change.cluster());
    let mut lines = vec![headline(status, width), title];
    for (key, value) in [
        ("Version", rest::version(status)),
        ("Instances", counts(facts)),
        ("Leader", leader(facts)),
        ("Patroni", patroni(facts)),
        ("Operator", operator(facts)),
        ("Services", services(status)),
        ("Restart", rest::restarts(facts)),
        ("Backup", rest::backup(status)),
        ("Budget", rest::budget(facts)),
        ("Policy", rest::policy(status)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    {
        let key = padded(&format!("{key}:"), KEYS);
        lines.push(wrap(&format!("  {key}{value}"), width, KEYS));
    }
    lines.push(String::new());
    match &facts.members {
        Seen::Unreadable(why) => lines.push(format!("{BAD}members cannot be listed:{BAD:#} {why}")),
        Seen::Absent | Seen::Known(_) if facts.all_members().is_empty() => {
            lines.push("no members".to_owned());
        }
        Seen::Absent | Seen::Known(_) => {
            let vitals = status.detail.as_ref().map(|detail| &detail.vitals);
            lines.push(members(facts, vitals, wide, width));
        }
    }
    let reads = status.detail.as_ref().and_then(|detail| detail.reads.as_ref());
    for section in reads.map(|all| reads::sections(all, facts, width)).into_iter().flatten() {
        lines.push(String::new());
        lines.push(section);
    }
    for section in rest::sections(status, wide, width) {
        lines.push(String::new());
        lines.push(section);
    }
    lines.push(String::new());
    if !status.missing.is_empty() {
        lines.push(format!("{CARE}Not converged:{CARE:#}"));
        for missing in &status.missing {
            lines.push(wrap(&format!("  {missing}"), width, 2));
        }
    }
    if why || !status.why.is_empty() {
        lines.push(reasons(status, why || wide, width));
    }
    lines.push(headline(status, width));
    lines.join("\n")
}

/// The number of reasons that the line with the state names.
const NAMED: usize = 2;

/// Renders the state of the cluster in one line: the word, and what is wrong.
///
/// It is the first line that a tired person sees and the last one.
fn headline(status: &Status, width: Option<usize>) -> String {
    let headline = status.headline();
    let Headline { word, reasons, warnings } = &headline;
    let style = match word {
        Word::Down | Word::Degraded => BAD,
        Word::Healthy if warnings.is_empty() => GOOD,
        Word::Unknown | Word::Stopped | Word::Healthy => CARE,
    };
    let mut says = format!("{style}{}{style:#}", word.as_str());
    let some = |all: &[&str]| {
        let besides = all.len().saturating_sub(NAMED);
        let more = (besides > 0).then(|| format!("and {besides} more"));
        let named = all.iter().take(NAMED).map(|point| (*point).to_owned());
        named.chain(more).collect::<Vec<_>>().join("; ")
    };
    if reasons.is_empty() && !warnings.is_empty() {
        says = format!("{says}, {}", counted(warnings.len(), "warning"));
    }
    let all: Vec<&str> = headline.points().collect();
    if all.is_empty() {
        let facts = &status.snapshot.facts;
        let count = crate::terminal::text::instances(facts.to());
        says = if *word == Word::Stopped {
            format!("{says}: it is asked to run no instance")
        } else {
            format!("{says}: {} has converged on {count}", facts.change.cluster())
        };
    } else {
        says = format!("{says}: {}", some(&all));
    }
    wrap(&says, width, 2)
}

fn counts(facts: &Facts) -> String {
    let set = facts.stateful_set.known().map(|set| set.replicas);
    let all = [facts.change.new.instances, Some(facts.to()), set, running(facts)];
    // In full only where they differ, or one of them is not known.
    if let [Some(one), ..] = all
        && all.iter().all(|count| *count == Some(one))
    {
        return one.to_string();
    }
    let declared = facts.change.new.instances.map_or("unset".to_owned(), |count| count.to_string());
    let set = match &facts.stateful_set {
        Seen::Known(set) => set.replicas.to_string(),
        Seen::Absent => "none".to_owned(),
        Seen::Unreadable(_) => "unknown".to_owned(),
    };
    let (effective, running) = (facts.to(), running(facts));
    // A value that differs from the one before it stands out.
    let style = |different: bool| if different { CARE } else { anstyle::Style::new() };
    let clamped = style(facts.change.new.instances != Some(effective));
    let short = style(running != Some(effective));
    let running = running.map_or("unknown".to_owned(), |count| count.to_string());
    format!(
        "{declared} declared, {clamped}{effective} effective{clamped:#}, {set} in the StatefulSet, \
         {short}{running} running{short:#}"
    )
}

fn leader(facts: &Facts) -> String {
    match (facts.leader_name(), &facts.leader) {
        (Some(name), Seen::Known(lock)) => {
            let timeline = match facts.leader_member() {
                Some(Member { live: Live::Answered(answer), .. }) => answer.timeline,
                Some(_) | None => None,
            };
            let timeline =
                timeline.map_or(String::new(), |timeline| format!(", timeline {timeline}"));
            format!("{name}{timeline}, lock renewed {} ago", age(lock.renewed, facts.now))
        }
        (_, Seen::Unreadable(why)) => format!("{BAD}unknown{BAD:#}: {why}"),
        (_, Seen::Known(lock)) => match &lock.holder {
            Some(holder) => {
                let ago = age(lock.renewed, facts.now);
                format!("{BAD}none{BAD:#}: {holder} last renewed the lock {ago} ago")
            }
            None => format!("{BAD}none{BAD:#}: the lock is free"),
        },
        (_, Seen::Absent) => format!("{BAD}none{BAD:#}: there is no leader lock"),
    }
}

fn patroni(facts: &Facts) -> String {
    let Seen::Known(configuration) = &facts.configuration else {
        let why = facts.configuration.unreadable().unwrap_or("not there");
        return format!("its configuration cannot be read: {why}");
    };
    let mut parts = vec![match configuration.synchrony() {
        Synchronous::Off => "asynchronous replication".to_owned(),
        Synchronous::On => "synchronous replication".to_owned(),
        Synchronous::Quorum => "quorum replication".to_owned(),
    }];
    if let Seen::Known(sync) = &facts.sync
        && configuration.synchrony() != Synchronous::Off
        && !sync.standbys.is_empty()
    {
        parts.push(format!("synchronous standbys: {}", sync.standbys.join(" ")));
    }
    if configuration.paused {
        parts.push(format!("{BAD}paused{BAD:#}: no member takes over"));
    }
    if let Seen::Known(pending) = &facts.failover {
        let candidate = pending.candidate.as_deref().unwrap_or("any member");
        parts.push(format!("{CARE}switchover to {candidate} pending{CARE:#}"));
    }
    parts.join(", ")
}

fn operator(facts: &Facts) -> String {
    let word = facts.change.new.status.as_deref().unwrap_or("nothing");
    match &facts.operator {
        Seen::Known(operator) => {
            let up = match operator.available {
                Some(true) => "available".to_owned(),
                Some(false) => format!("{BAD}not available{BAD:#}"),
                None => "availability unknown".to_owned(),
            };
            format!("{}, {up}; it says {word}", operator.deployment.qualified())
        }
        Seen::Absent => format!("{CARE}none found{CARE:#}; the cluster says {word}"),
        Seen::Unreadable(why) => format!("cannot be read: {why}; the cluster says {word}"),
    }
}

fn services(status: &Status) -> String {
    let facts = &status.snapshot.facts;
    let name = &facts.change.new.name;
    let one = |service: &str, seen: &Seen<std::collections::BTreeSet<String>>| match seen {
        Seen::Known(addresses) if addresses.is_empty() => format!("{service} -> no member"),
        Seen::Known(addresses) => format!("{service} -> {}", names(facts, addresses).join(", ")),
        Seen::Absent => format!("{service} -> no member"),
        Seen::Unreadable(why) => format!("{service}: {why}"),
    };
    let leader = one(name, &status.snapshot.services.leader);
    let replicas = one(&format!("{name}-repl"), &status.snapshot.services.replicas);
    format!("{leader}; {replicas}")
}

/// The title of the column with the delays.
const DELAYS: &str = "W/F/R SEC";

/// Columns of members that are left out where the terminal is too narrow, the first one first.
const SPARE: [&str; 4] = ["AGE", "TL", "NODE", DELAYS];

fn members(facts: &Assessed, vitals: Option<&Vitals>, wide: bool, width: Option<usize>) -> String {
    let mut header = vec!["MEMBER", "ROLE", "HEALTH", "STATE", "TL", "LAG", DELAYS, "NODE", "AGE"];
    if wide {
        header.splice(7..7, ["SYNC", "RECEIVED", "REPLAYED", "ADDRESS", "RESTARTS"]);
        header.push("ZONE");
    }
    let assessment = facts.assessment();
    let flow = vitals.and_then(|vitals| vitals.flow.as_ref().ok());
    let rows: Vec<Vec<Cell>> =
        facts.all_members().iter().map(|member| row(&assessment, flow, member, wide)).collect();
    let unknown: &[&str] = if flow.is_none() { &[DELAYS] } else { &[] };
    let (header, rows) = without(&header, rows, unknown);
    let shown = if wide {
        fitted(&header, &rows, width)
    } else {
        let (header, rows) = spared(&header, rows, width, &SPARE);
        fitted(&header, &rows, width)
    };
    let mut notes = Vec::new();
    if shown.contains(DELAYS) {
        notes.push(format!(
            "{DELAYS}: seconds until a replica has written, flushed and replayed WAL"
        ));
    }
    notes.extend(vitals.into_iter().flat_map(unknown_vitals));
    let notes = notes.iter().map(|note| wrap(note, width, 2));
    std::iter::once(shown).chain(notes).collect::<Vec<_>>().join("\n")
}

/// Returns what PostgreSQL did not say. One reason is named once.
fn unknown_vitals(vitals: &Vitals) -> Vec<String> {
    let line = |what: &str, why: &str| format!("{CARE}Not known{CARE:#}: {what}: {why}");
    let flow = "lag in seconds, the WAL archive";
    match (&vitals.data, &vitals.flow) {
        (Ok(_), Ok(_)) => Vec::new(),
        (Err(why), Ok(_)) => vec![line("the size", why)],
        (Ok(_), Err(why)) => vec![line(flow, why)],
        (Err(one), Err(other)) if one == other => {
            vec![line(&format!("the size, {flow}"), one)]
        }
        (Err(one), Err(other)) => vec![line("the size", one), line(flow, other)],
    }
}

/// Returns the delays of a member as one cell: written, flushed, replayed.
fn delays(flow: Option<&Flow>, member: &Member) -> String {
    let found = flow.and_then(|flow| flow.of(&member.name));
    found.copied().map_or(String::new(), written)
}

/// Returns delays in seconds as one cell. Empty where none was measured.
fn written(delays: Delays) -> String {
    let Delays { write, flush, replay } = delays;
    if [write, flush, replay].iter().all(Option::is_none) {
        return String::new();
    }
    let one = |seconds: Option<f64>| match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 10.0 => format!("{seconds:.1}"),
        Some(seconds) => format!("{seconds:.0}"),
    };
    format!("{}/{}/{}", one(write), one(flush), one(replay))
}

/// Returns the state in which the leader sees a replica (`sync_state` of `pg_stat_replication`).
fn sync_state<'a>(facts: &'a Facts, member: &Member) -> &'a str {
    let Some(Member { live: Live::Answered(leader), .. }) = facts.leader_member() else {
        return "";
    };
    let row = leader.replication.iter().find(|row| row.name.eq_ignore_ascii_case(&member.name));
    row.map_or("", |row| row.sync_state.as_str())
}

fn row(facts: &Assessment<'_>, flow: Option<&Flow>, member: &Member, wide: bool) -> Vec<Cell> {
    let leads = facts.leader_name() == Some(member.name.as_str());
    let answer = match &member.live {
        Live::Answered(answer) => Some(answer),
        Live::NotAsked | Live::Silent(_) => None,
    };
    let health = facts.health(member);
    let (word, style) = match health {
        Health::Healthy => ("healthy", GOOD),
        Health::Unhealthy(_) => ("unhealthy", BAD),
        Health::Unknown(_) => ("unknown", CARE),
    };
    let health = if wide { describe(&health) } else { word.to_owned() };
    let position =
        |value: Option<u64>| value.map_or(Cell::default(), |position| Cell::from(lsn(position)));
    let timeline = answer.and_then(|answer| answer.timeline);
    let mut row = vec![
        Cell::from(&member.name),
        Role::of(facts, member).word().into(),
        Cell::styled(health, style),
        Activity::of(facts, member).to_string().into(),
        timeline.map_or(Cell::default(), |timeline| Cell::from(timeline.to_string())),
        lag(facts, member, leads).into(),
        delays(flow, member).into(),
    ];
    if wide {
        row.push(sync_state(facts.facts(), member).into());
        let received = answer.and_then(|answer| answer.location.or(answer.received));
        row.push(position(received));
        row.push(position(answer.and_then(|answer| answer.replayed)));
        row.push(member.pod.ip.as_deref().unwrap_or_default().into());
        row.push(member.pod.restarts.to_string().into());
    }
    row.push(member.pod.node.as_deref().unwrap_or_default().into());
    row.push(age(member.pod.created, facts.now).into());
    if wide {
        row.push(member.pod.zone.as_deref().unwrap_or_default().into());
    }
    row
}

fn lag(facts: &Facts, member: &Member, leads: bool) -> String {
    if leads {
        return String::new();
    }
    lag_bytes(facts, member).map_or(String::new(), bytes)
}

#[cfg(test)]
mod tests;
