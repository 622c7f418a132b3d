//! The effect of a change in documents.

use serde::Serialize;

use crate::effect::{Effect, Shot};

/// The figures of each member before a change, and after it has settled.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct EffectDocument<'a> {
    /// The seconds between the end of the change and the second look.
    settled_seconds: f64,
    before: ShotDocument<'a>,
    /// `null` where there was no second look.
    after: Option<ShotDocument<'a>>,
    /// The reason for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_measured: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ShotDocument<'a> {
    leader: Option<&'a str>,
    members: Vec<FiguresDocument<'a>>,
    /// The figures that are not known, each with the reason.
    unread: &'a [String],
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct FiguresDocument<'a> {
    member: &'a str,
    cpu_millicores: Option<u64>,
    memory_bytes: Option<u64>,
    /// `null` for the leader.
    lag_bytes: Option<u64>,
    rows_returned_per_second: Option<f64>,
}

impl<'a> EffectDocument<'a> {
    /// Returns the document of an effect.
    pub(super) fn of(effect: &'a Effect) -> Self {
        Self {
            settled_seconds: effect.settled.as_secs_f64(),
            before: shot(&effect.before),
            after: effect.after.as_ref().ok().map(shot),
            not_measured: effect.after.as_ref().err().map(String::as_str),
        }
    }
}

fn shot(shot: &Shot) -> ShotDocument<'_> {
    ShotDocument {
        leader: shot.leader.as_deref(),
        members: shot
            .members
            .iter()
            .map(|((_, member), figures)| FiguresDocument {
                member,
                cpu_millicores: figures.millicores,
                memory_bytes: figures.memory,
                lag_bytes: figures.lag,
                rows_returned_per_second: figures.rows,
            })
            .collect(),
        unread: &shot.unread,
    }
}
