//! The answers of the guide's routes, and of operations.

use serde::Serialize;

use super::operations::{Link, Operation};
use crate::status::Status;

/// What a change of the count came to so far.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Started {
    /// Always `true`.
    success: bool,
    /// `Cluster scaling started`, or that nothing is to be done.
    message: &'static str,
    /// What was asked.
    data: Scaled,
    /// The operation to follow. Not there where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Link>,
}

/// The count that was asked for.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Scaled {
    /// The name in the path.
    pub(crate) name: String,
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Instances that were asked for.
    pub(crate) replicas: i64,
}

impl Started {
    /// Returns the answer where an operation has begun.
    pub(crate) fn begun(data: Scaled, operation: Link) -> Self {
        let message = "Cluster scaling started";
        Self { success: true, message, data, operation: Some(operation) }
    }

    /// Returns the answer where the count is there already.
    pub(crate) fn nothing(data: Scaled) -> Self {
        let message = "Cluster has this number of instances already";
        Self { success: true, message, data, operation: None }
    }
}

/// A cluster in a few words.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Summary {
    /// Name of the `postgresql` object.
    name: String,
    /// Its namespace.
    namespace: String,
    /// The operator's word, which proves nothing: `Running` only says that its last act did not
    /// fail. `Unknown` where it has said none.
    status: String,
    /// What holds: `DOWN`, `DEGRADED`, `UNKNOWN`, `STOPPED` or `HEALTHY`.
    verdict: &'static str,
    /// Instances that are asked for.
    replicas: Option<i64>,
    /// Members that are healthy by their own answer. `null` where the pods could not be listed.
    ready: Option<usize>,
    /// The member that leads.
    leader: Option<String>,
}

impl Summary {
    /// Returns the summary of a cluster's state.
    pub(crate) fn of(status: &Status) -> Self {
        let facts = &status.snapshot.facts;
        let cluster = &facts.change.new;
        Self {
            name: cluster.name.clone(),
            namespace: cluster.namespace.clone(),
            status: cluster.status.clone().unwrap_or_else(|| "Unknown".to_owned()),
            verdict: status.headline().word.as_str(),
            replicas: cluster.instances,
            ready: status.healthy().0,
            leader: facts.leader_name().map(str::to_owned),
        }
    }
}

/// A list of operations, the newest first.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Listed {
    /// The operations.
    pub(crate) items: Vec<Operation>,
}
