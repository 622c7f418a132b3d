//! What was verified, for people and for machines.

use std::collections::{BTreeMap, BTreeSet};

use pgscale_guard::duration::exact;
use pgscale_guard::facts::Facts;
use serde::Serialize;

use crate::commands::verify::Verification;
use crate::document::{API_VERSION, Metadata};
use crate::services::name;
use crate::terminal::text::{Cell, fitted, instances, lsn, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};
use crate::verify::{Canary, Flight, NoCanary, Testimony, Words};

/// What was found, as a person reads it.
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
    let wrong: Vec<&String> = found.wrong().collect();
    let unheard: Vec<&String> = found.unheard().collect();
    let indented = |text: &&String| wrap(&format!("  {text}"), width, 2);
    if !wrong.is_empty() {
        lines.push(format!("{BAD}Wrong:{BAD:#}"));
        lines.extend(wrong.iter().map(indented));
    } else if found.unread.is_empty() {
        let count = facts.change.new.instances.unwrap_or(0);
        lines.push(format!("{GOOD}Converged{GOOD:#} on {}", instances(count)));
    }
    if !unheard.is_empty() {
        lines.push(format!("{CARE}Not verified:{CARE:#}"));
        lines.extend(unheard.iter().map(indented));
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

/// The system identifiers that members name.
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
        lines.push(format!("  {CARE}no standby:{CARE:#} nobody could replay it"));
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

/// `kind: ScaleVerification`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleVerification<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    /// Nothing is missing, nothing is wrong, nothing was unreadable and nobody was silent.
    verified: bool,
    missing: &'a [String],
    wrong: &'a [String],
    unheard: Vec<&'a String>,
    /// What the members said; empty unless they were asked.
    members: Vec<MemberWords<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<CanaryDocument<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct MemberWords<'a> {
    name: &'a str,
    in_recovery: bool,
    system_identifier: &'a str,
    timeline: Option<u64>,
    written: Option<u64>,
    replayed: Option<u64>,
    receiver_status: Option<&'a str>,
    sender: Option<&'a str>,
    slot: Option<&'a str>,
    followers: Vec<FollowerDocument<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct FollowerDocument<'a> {
    name: &'a str,
    state: &'a str,
    sync_state: &'a str,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct CanaryDocument<'a> {
    leader: Option<&'a str>,
    /// Why none could be written.
    error: Option<&'a str>,
    commit_seconds: Option<f64>,
    /// Seconds after the commit at the latest, by standby; null where it was not seen to arrive.
    replayed_seconds: BTreeMap<&'a str, Option<f64>>,
}

impl<'a> ScaleVerification<'a> {
    /// The document of what was found.
    pub(crate) fn of(facts: &Facts, found: &'a Verification) -> Self {
        let cluster = &facts.change.new;
        let seen = found.canary.iter().all(|canary| {
            canary.as_ref().is_ok_and(|canary| {
                let arrived = |(_, flight): &_| matches!(flight, Flight::Arrived(_));
                !canary.flights.is_empty() && canary.flights.iter().all(arrived)
            })
        });
        Self {
            api_version: API_VERSION,
            kind: "ScaleVerification",
            metadata: Metadata::of(cluster),
            verified: seen && found.wrong().chain(found.unheard()).next().is_none(),
            missing: &found.missing,
            wrong: &found.result.wrong,
            unheard: found.unheard().collect(),
            members: found
                .testimonies
                .iter()
                .filter_map(|testimony| {
                    Some(member(&testimony.member, testimony.words.as_ref().ok()?))
                })
                .collect(),
            canary: found.canary.as_ref().map(canary),
        }
    }
}

fn member<'a>(name: &'a str, words: &'a Words) -> MemberWords<'a> {
    let receiver = words.receiver.as_ref();
    MemberWords {
        name,
        in_recovery: words.in_recovery,
        system_identifier: &words.system_identifier,
        timeline: words.timeline,
        written: words.written,
        replayed: words.replayed,
        receiver_status: receiver.map(|receiver| receiver.status.as_str()),
        sender: receiver.map(|receiver| receiver.sender.as_str()),
        slot: receiver.map(|receiver| receiver.slot.as_str()).filter(|slot| !slot.is_empty()),
        followers: words
            .followers
            .iter()
            .map(|follower| FollowerDocument {
                name: &follower.name,
                state: &follower.state,
                sync_state: &follower.sync,
            })
            .collect(),
    }
}

fn canary(canary: &Result<Canary, NoCanary>) -> CanaryDocument<'_> {
    match canary {
        Ok(canary) => CanaryDocument {
            leader: Some(&canary.leader),
            error: None,
            commit_seconds: Some(canary.committed.as_secs_f64()),
            replayed_seconds: canary
                .flights
                .iter()
                .map(|(member, flight)| {
                    let seconds = match flight {
                        Flight::Arrived(delay) => Some(delay.as_secs_f64()),
                        Flight::Late(_) | Flight::Unseen(_) => None,
                    };
                    (member.as_str(), seconds)
                })
                .collect(),
        },
        Err(none) => CanaryDocument {
            leader: None,
            error: Some(&none.why),
            commit_seconds: None,
            replayed_seconds: BTreeMap::new(),
        },
    }
}
