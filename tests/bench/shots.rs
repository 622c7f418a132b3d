//! The writes of the load, as patches for the API server and as reviews for a webhook.
//!
//! All of them are dry runs, so nothing is stored and every repeat finds the same cluster. A dry
//! run is judged like any write. The webhook writes no Event about it.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::answer::Right;
use crate::clusters::Cluster;
use crate::https::Call;
use crate::rig::Column;

/// The most instances of the policy.
pub(crate) const MAX: u32 = 5;

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// More instances than the policy allows.
    AboveMax,
    /// One instance more.
    Growth,
    /// One instance less of five.
    Shrink,
    /// The same, where the removed member does not answer.
    ShrinkSilent,
    /// One instance less, and the leader is the removed member.
    LosesLeader,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] =
        [Self::AboveMax, Self::Growth, Self::Shrink, Self::ShrinkSilent, Self::LosesLeader];

    /// Returns the kind whose clusters this one uses.
    pub(crate) fn clusters(self) -> Self {
        match self {
            Self::AboveMax => Self::Growth,
            Self::Growth | Self::Shrink | Self::ShrinkSilent | Self::LosesLeader => self,
        }
    }

    /// Returns whether `column` can answer it.
    pub(crate) fn is_for(self, column: Column) -> bool {
        match self {
            Self::AboveMax | Self::Growth | Self::Shrink => true,
            Self::ShrinkSilent | Self::LosesLeader => column == Column::Ours,
        }
    }

    /// Returns the count to write.
    pub(crate) fn count(self, cluster: &Cluster) -> u32 {
        match self {
            Self::AboveMax => MAX + 4,
            Self::Growth => cluster.members + 1,
            Self::Shrink | Self::ShrinkSilent | Self::LosesLeader => cluster.members - 1,
        }
    }

    /// Returns the right answer of `column`.
    pub(crate) fn right(self, column: Column) -> Right {
        match (self, column) {
            (_, Column::Noop) | (Self::Growth | Self::Shrink, _) => Right::Allowed,
            (Self::AboveMax, Column::Ours) => Right::Refused("above-max"),
            (Self::AboveMax, Column::Policy) => Right::Refused(""),
            (Self::ShrinkSilent, _) => Right::Any,
            (Self::LosesLeader, _) => Right::Refused("leader-condemned"),
        }
    }
}

/// Returns a write of `count` to the cluster at `path`, as a dry run.
pub(crate) fn patch(path: &str, count: u32) -> Call {
    let body = json!({"spec": {"numberOfInstances": count}});
    Call::patch(format!("{path}?dryRun=All&fieldManager=bench"), &body)
}

/// Returns the review that the API server sends for a write of `count` to the stored `object`.
///
/// # Errors
/// Fails when the object is none.
pub(crate) fn review(object: &Value, count: u32) -> Result<Value> {
    let mut new = object.clone();
    let place = new.pointer_mut("/spec/numberOfInstances").context("no count")?;
    *place = json!(count);
    if let Some(place) = new.pointer_mut("/metadata/generation") {
        *place = json!(place.as_i64().unwrap_or_default() + 1);
    }
    let kind = json!({"group": "acid.zalan.do", "version": "v1", "kind": "postgresql"});
    let resource = json!({"group": "acid.zalan.do", "version": "v1", "resource": "postgresqls"});
    Ok(json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "2f9f6b54-55c4-4c2a-9a80-52d1b2ef8f1d", "operation": "UPDATE",
            "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
            "namespace": object.pointer("/metadata/namespace"),
            "name": object.pointer("/metadata/name"),
            "userInfo": {
                "username": "bench", "groups": ["system:masters", "system:authenticated"],
            },
            "object": new, "oldObject": object, "dryRun": true,
            "options": {
                "apiVersion": "meta.k8s.io/v1", "kind": "PatchOptions",
                "dryRun": ["All"], "fieldManager": "bench",
            },
        },
    }))
}
