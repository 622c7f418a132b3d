//! The document of `verify`.

use std::collections::BTreeMap;

use pgscale_guard::facts::Facts;
use serde::Serialize;

use super::{API_VERSION, Metadata};
use crate::verify::{Canary, Flight, NoCanary, Verification, Words};

/// `kind: ScaleVerification`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleVerification<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    /// Nothing is missing, wrong or unreadable, and every member answered.
    verified: bool,
    missing: Vec<String>,
    wrong: Vec<String>,
    unheard: Vec<&'a String>,
    /// The missing permission for which no member was asked in SQL. `null` where they were asked, or
    /// were not to be.
    not_asked_in_sql: Option<&'a str>,
    /// The answers of the members. Empty unless they were asked.
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
    /// The reason why none could be written.
    error: Option<&'a str>,
    commit_seconds: Option<f64>,
    /// Seconds after the commit at the latest, by standby. Null where it was not seen to arrive.
    replayed_seconds: BTreeMap<&'a str, Option<f64>>,
}

impl<'a> ScaleVerification<'a> {
    /// Returns the document of a verification.
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
            verified: seen && found.is_right() && found.unheard().next().is_none(),
            missing: found.missing.iter().map(ToString::to_string).collect(),
            wrong: found.result.wrong.iter().map(ToString::to_string).collect(),
            unheard: found.unheard().collect(),
            not_asked_in_sql: found.unasked.as_deref(),
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
