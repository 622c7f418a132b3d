//! A verification as a person reads it.

use std::collections::{BTreeMap, BTreeSet};

use pgscale_guard::duration::exact;
use pgscale_guard::facts::Facts;

use crate::services::name;
use crate::terminal::text::{Cell, fitted, instances, lsn, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};
use crate::verify::{Canary, Flight, Testimony, Verification, Words};

/// Renders a verification.
pub(crate) fn render(facts: &Facts, found: &Verification, width: Option<usize>) -> String {
    let mut lines = vec![format!("{BOLD}postgresql {}{BOLD:#}", facts.change.cluster())];
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
    } else if found.unread.is_empty() {
        let count = facts.change.new.instances.unwrap_or(0);
        lines.push(format!("{GOOD}Converged{GOOD:#} on {}", instances(count)));
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
            "{GOOD}Verified{GOOD:#} by {whom}: one primary, one system identifier ({identifier}), one timeline, every \
             standby streams"
        );
        lines.push(wrap(&text, width, 2));
    }
    lines.join("\n")
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
