//! The state of clusters as a person reads it.

use pgscale_guard::facts::{Facts, Health, Live, Member};
use pgscale_guard::patroni::Synchronous;
use pgscale_guard::{Assessed, Assessment, Seen};

use crate::members::{Activity, Role, lag_bytes};
use crate::plan::describe;
use crate::services::names;
use crate::status::{Status, running};
use crate::terminal::text::{Cell, age, bytes, fitted, lsn, padded, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};

mod diagnosis;
mod list;
mod rest;

pub(crate) use diagnosis::reasons;
pub(crate) use list::{list, rows};

/// Columns of the keys above the members.
const KEYS: usize = 11;

/// Renders one cluster in detail.
pub(crate) fn detail(status: &Status, wide: bool, width: Option<usize>) -> String {
    let facts = &status.snapshot.facts;
    let mut lines = vec![format!("{BOLD}postgresql {}{BOLD:#}", facts.change.cluster())];
    for (key, value) in [
        ("Instances", counts(facts)),
        ("Leader", leader(facts)),
        ("Patroni", patroni(facts)),
        ("Operator", operator(facts)),
        ("Services", services(status)),
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
            lines.push(members(facts, wide, width));
        }
    }
    for section in rest::sections(status, wide, width) {
        lines.push(String::new());
        lines.push(section);
    }
    lines.push(String::new());
    if status.missing.is_empty() {
        let count = crate::terminal::text::instances(facts.to());
        lines.push(format!("{GOOD}Converged{GOOD:#} on {count}"));
    } else {
        lines.push(format!("{CARE}Not converged:{CARE:#}"));
        for missing in &status.missing {
            lines.push(wrap(&format!("  {missing}"), width, 2));
        }
    }
    lines.join("\n")
}

fn counts(facts: &Facts) -> String {
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

fn members(facts: &Assessed, wide: bool, width: Option<usize>) -> String {
    let mut header = vec!["MEMBER", "ROLE", "STATE", "TL", "LAG", "NODE", "AGE"];
    if wide {
        header.splice(5..5, ["RECEIVED", "REPLAYED", "ADDRESS", "RESTARTS", "HEALTH"]);
        header.push("ZONE");
    }
    let assessment = facts.assessment();
    let rows: Vec<Vec<Cell>> =
        facts.all_members().iter().map(|member| row(&assessment, member, wide)).collect();
    fitted(&header, &rows, width)
}

fn row(facts: &Assessment<'_>, member: &Member, wide: bool) -> Vec<Cell> {
    let leads = facts.leader_name() == Some(member.name.as_str());
    let answer = match &member.live {
        Live::Answered(answer) => Some(answer),
        Live::NotAsked | Live::Silent(_) => None,
    };
    let health = facts.health(member);
    let style = match health {
        Health::Healthy => GOOD,
        Health::Unhealthy(_) => BAD,
        Health::Unknown(_) => CARE,
    };
    let position =
        |value: Option<u64>| value.map_or(Cell::default(), |position| Cell::from(lsn(position)));
    let timeline = answer.and_then(|answer| answer.timeline);
    let mut row = vec![
        Cell::from(&member.name),
        Role::of(facts, member).word().into(),
        Cell::styled(Activity::of(facts, member).to_string(), style),
        timeline.map_or(Cell::default(), |timeline| Cell::from(timeline.to_string())),
        lag(facts, member, leads).into(),
    ];
    if wide {
        let received = answer.and_then(|answer| answer.location.or(answer.received));
        row.push(position(received));
        row.push(position(answer.and_then(|answer| answer.replayed)));
        row.push(member.pod.ip.as_deref().unwrap_or_default().into());
        row.push(member.pod.restarts.to_string().into());
        row.push(describe(&health).into());
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
