//! A verification as a person reads it.

use std::collections::{BTreeMap, BTreeSet};

use pgscale_guard::duration::exact;
use pgscale_guard::facts::Facts;

use crate::services::name;
use crate::terminal::text::{Cell, fitted, instances, lsn, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};
use crate::verify::{Canary, Flight, Testimony, Verification, Words};

/// Renders a verification, between two lines with its verdict.
pub(crate) fn render(facts: &Facts, found: &Verification, width: Option<usize>) -> String {
    let title = format!("{BOLD}postgresql {}{BOLD:#}", facts.change.cluster());
    let mut lines = vec![headline(facts, found, width), title];
    if !found.testimonies.is_empty() {
        lines.push(members(facts, &found.testimonies, width));
    }
    match &found.canary {
        Some(Ok(canary)) => lines.push(flights(canary)),
        Some(Err(none)) => {
            let text = format!("{BAD}No canary:{BAD:#} {}", none.why);
            lines.push(wrap(&text, width, 2));
        }
        None => {}
    }
    let wrong: Vec<String> = found.wrong().collect();
    let unheard: Vec<&String> = found.unheard().collect();
    let indented = |text: &String| wrap(&format!("  {text}"), width, 2);
    if !wrong.is_empty() {
        lines.push(format!("{BAD}Wrong:{BAD:#}"));
        lines.extend(wrong.iter().map(indented));
    }
    if let Some(why) = &found.unasked {
        let text = format!("{CARE}No member was asked in SQL:{CARE:#} {why}");
        lines.push(wrap(&text, width, 2));
    }
    if !unheard.is_empty() {
        lines.push(format!("{CARE}Not verified:{CARE:#}"));
        lines.extend(unheard.into_iter().map(indented));
    } else if wrong.is_empty() && !found.testimonies.is_empty() {
        let whom = match found.testimonies.len() {
            1 => "its only member".to_owned(),
            count => format!("all {count} members"),
        };
        let identifier = identifiers(&found.testimonies).into_iter().collect::<Vec<_>>().join(", ");
        let text = format!(
            "{GOOD}Confirmed{GOOD:#} by {whom}: one primary, one system identifier ({identifier}), one timeline, every \
             standby streams"
        );
        lines.push(wrap(&text, width, 2));
    }
    lines.push(headline(facts, found, width));
    lines.join("\n")
}

/// Renders the verdict in one line. Something that is not known never reads as verified.
fn headline(facts: &Facts, found: &Verification, width: Option<usize>) -> String {
    let wrong: Vec<String> = found.wrong().collect();
    let unknown = not_known(found);
    let some = |all: &[String]| match all {
        [first, rest @ ..] if !rest.is_empty() => format!("{first}; and {} more", rest.len()),
        all => all.concat(),
    };
    let text = if !wrong.is_empty() {
        format!("{BAD}WRONG{BAD:#}: {}", some(&wrong))
    } else if !unknown.is_empty() {
        format!("{CARE}NOT VERIFIED{CARE:#}: {}", some(&unknown))
    } else {
        let count = instances(facts.change.new.instances.unwrap_or(0));
        let cluster = facts.change.cluster();
        match &found.unasked {
            None => format!("{GOOD}VERIFIED{GOOD:#}: {cluster} has converged on {count}"),
            Some(_) => {
                format!(
                    "{CARE}VERIFIED, but not in SQL{CARE:#}: {cluster} has converged on {count}"
                )
            }
        }
    };
    wrap(&text, width, 2)
}

/// Returns what could not be seen, the canary included.
fn not_known(found: &Verification) -> Vec<String> {
    let mut all: Vec<String> = match &found.canary {
        None => Vec::new(),
        Some(Err(none)) => vec![format!("no canary: {}", none.why)],
        Some(Ok(canary)) if canary.flights.is_empty() => {
            vec!["no standby could replay the canary".to_owned()]
        }
        Some(Ok(canary)) => {
            let late = canary.flights.iter().filter(|(_, it)| !matches!(it, Flight::Arrived(_)));
            late.map(|(member, _)| format!("{member} was not seen to replay the canary")).collect()
        }
    };
    all.extend(found.unheard().cloned());
    all
}

fn members(facts: &Facts, testimonies: &[Testimony], width: Option<usize>) -> String {
    // Only where they differ: it takes a quarter of a narrow terminal.
    let differ = identifiers(testimonies).len() > 1;
    let mut header = vec!["MEMBER", "ROLE", "TL", "WAL", "REPLAYED", "FROM", "SLOT", "SYNC"];
    if differ {
        header.insert(2, "SYSTEM ID");
    }
    let followers: BTreeMap<&str, &str> = testimonies
        .iter()
        .filter_map(|testimony| testimony.words.as_ref().ok())
        .flat_map(|words| &words.followers)
        .map(|follower| (follower.name.as_str(), follower.sync.as_str()))
        .collect();
    let rows: Vec<Vec<Cell>> = testimonies
        .iter()
        .map(|Testimony { member, words }| match words {
            Ok(words) => {
                let mut row = row(facts, member, words, followers.get(member.as_str()).copied());
                if differ {
                    row.insert(2, Cell::styled(&words.system_identifier, BAD));
                }
                row
            }
            Err(_) => vec![Cell::from(member), Cell::styled("silent", CARE)],
        })
        .collect();
    fitted(&header, &rows, width)
}

/// Returns the system identifiers that members name.
fn identifiers(testimonies: &[Testimony]) -> BTreeSet<&str> {
    let words = testimonies.iter().filter_map(|testimony| testimony.words.as_ref().ok());
    words.map(|words| words.system_identifier.as_str()).collect()
}

fn row(facts: &Facts, member: &str, words: &Words, sync: Option<&str>) -> Vec<Cell> {
    let role = if words.in_recovery { "standby" } else { "primary" };
    let position = |value: Option<u64>| value.map_or(Cell::default(), |it| Cell::from(lsn(it)));
    let (from, slot) = match &words.receiver {
        Some(receiver) => (name(facts, &receiver.sender).to_owned(), receiver.slot.clone()),
        None => (String::new(), String::new()),
    };
    vec![
        Cell::from(member),
        role.into(),
        words.timeline.map_or(Cell::default(), |timeline| Cell::from(timeline.to_string())),
        position(words.written),
        position(words.replayed),
        from.into(),
        slot.into(),
        sync.unwrap_or_default().into(),
    ]
}

fn flights(canary: &Canary) -> String {
    let mut lines = vec![format!(
        "{BOLD}Canary:{BOLD:#} committed on {} in {}",
        canary.leader,
        exact(canary.committed)
    )];
    if canary.flights.is_empty() {
        lines.push(format!("  {CARE}no standby:{CARE:#} no member could replay it"));
    }
    lines.extend(canary.flights.iter().map(|(member, flight)| match flight {
        Flight::Arrived(delay) => {
            format!("  {member}: replayed within {} of the commit", exact(*delay))
        }
        Flight::Late(bytes) => {
            format!(
                "  {member}: {BAD}not replayed in time{BAD:#}, {} behind",
                crate::terminal::text::bytes(*bytes)
            )
        }
        Flight::Unseen(why) => format!("  {member}: {CARE}could not be seen{CARE:#}: {why}"),
    }));
    lines.join("\n")
}
