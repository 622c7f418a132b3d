//! The parts of the documents that the page shows, read from their JSON form.
//!
//! What a document calls `null` is not known, and the page says so.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The parts of a `ScaleStatusList`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fleet {
    /// The clusters, in any order.
    pub(crate) items: Vec<Status>,
    /// The budgets of their namespaces.
    #[serde(default)]
    pub(crate) budgets: Vec<Budget>,
}

/// The budget of one namespace.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Budget {
    /// The namespace.
    pub(crate) namespace: String,
    /// The most instances of all its clusters together.
    pub(crate) instances: i64,
    /// The instances that its clusters have.
    pub(crate) used: Option<u64>,
    /// What is left.
    pub(crate) free: Option<u64>,
    /// The reason why the sums could not be read.
    pub(crate) unreadable: Option<String>,
}

/// The cluster that a document is about.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Metadata {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
}

/// How a cluster is. The order is that of the page: the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Health {
    /// No leader, or no member that answers.
    Down,
    /// Something is missing.
    Degraded,
    /// Facts could not be read. It may be any of the others.
    Unknown,
    /// It has no instances, as declared.
    Stopped,
    /// Nothing is missing.
    Healthy,
}

/// The parts of a `ScaleStatus`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// The cluster.
    pub(crate) metadata: Metadata,
    /// The time of the look, RFC 3339.
    pub(crate) time: String,
    /// How it is.
    pub(crate) verdict: Health,
    /// The faults, or the facts that are not known.
    pub(crate) reasons: Vec<String>,
    /// Points that deserve a look although nothing is missing.
    pub(crate) warnings: Vec<String>,
    /// `numberOfInstances`.
    pub(crate) declared: Option<i64>,
    /// The count that the operator makes of it.
    pub(crate) effective: i64,
    /// The pods that run. None where they could not be listed.
    pub(crate) running: Option<i64>,
    /// The members that are healthy. None where the pods could not be listed.
    pub(crate) healthy_members: Option<usize>,
    /// The leader's name.
    pub(crate) leader: Option<String>,
    /// The bytes that the replica lacks that is furthest behind.
    pub(crate) worst_lag_bytes: Option<u64>,
    /// Its members.
    pub(crate) members: Vec<Member>,
    /// What other counts would get. None where it was not looked up.
    pub(crate) would_say: Option<Vec<WouldSay>>,
    /// The causes that keep it from converging.
    #[serde(default)]
    pub(crate) why: Vec<Cause>,
}

/// A member.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    /// The pod's name.
    pub(crate) name: String,
    /// Its role, in a word.
    pub(crate) role: String,
    /// What it does.
    pub(crate) state: String,
    /// The same judged, in words.
    pub(crate) health: String,
    /// None where it is not known.
    pub(crate) healthy: Option<bool>,
    /// None for the leader, and where it is not known.
    pub(crate) lag_bytes: Option<u64>,
    /// The node.
    pub(crate) node: Option<String>,
    /// The zone of the node.
    pub(crate) zone: Option<String>,
}

/// The verdict on one count.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WouldSay {
    /// The count.
    pub(crate) to: i64,
    /// `Command` or `Edit`.
    pub(crate) by: String,
    /// It would be admitted.
    pub(crate) allowed: bool,
    /// The ids of the rules that object.
    pub(crate) rules: Vec<String>,
    /// The member that would lead.
    pub(crate) leader_moves_to: Option<String>,
    /// What the rules say.
    pub(crate) message: Option<String>,
}

/// A cause that keeps a cluster from converging.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Cause {
    /// The cause, as a sentence.
    pub(crate) what: String,
    /// What to do next.
    pub(crate) next: Remedy,
}

/// What to do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Remedy {
    /// The commands, the most useful one first.
    pub(crate) commands: Vec<Command>,
    /// Advice that no command expresses.
    pub(crate) note: Option<String>,
}

/// A command.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Command {
    /// Its words.
    pub(crate) argv: Vec<String>,
    /// Its purpose.
    pub(crate) why: Option<String>,
    /// The words of the programs that read its output.
    #[serde(rename = "pipedInto", default)]
    pub(crate) piped_into: Vec<Vec<String>>,
}

/// What a plan comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Outcome {
    /// It may be carried out.
    Ready,
    /// A rule refuses it.
    Refused,
    /// There is nothing to do.
    Nothing,
}

/// The parts of a `ScalePlan`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// The cluster.
    pub(crate) metadata: Metadata,
    /// What it comes to.
    pub(crate) outcome: Outcome,
    /// The hash of what it decides and rests on.
    pub(crate) hash: String,
    /// The count that was asked for.
    pub(crate) asked: i64,
    /// The count now.
    pub(crate) from: i64,
    /// The count that the operator would make of it.
    pub(crate) to: i64,
    /// The switchover before the change.
    pub(crate) leader_move: Option<Move>,
    /// The members that go.
    pub(crate) leaving: Vec<Passing>,
    /// The members that come.
    pub(crate) coming: Vec<Passing>,
    /// The number of members that come beyond those.
    #[serde(default)]
    pub(crate) coming_besides: i64,
    /// The members that cannot lead, each with the reason.
    pub(crate) unfit: BTreeMap<String, String>,
    /// The steps.
    pub(crate) steps: Vec<Step>,
    /// The findings.
    pub(crate) findings: Vec<Finding>,
    /// The nearest counts that would be admitted, of a plan that is refused.
    pub(crate) nearest_allowed: Vec<i64>,
    /// Others that write the count.
    pub(crate) other_writers: Vec<String>,
}

/// A switchover.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Move {
    /// The leader now.
    pub(crate) from: String,
    /// The leader afterwards.
    pub(crate) to: String,
    /// The reason.
    pub(crate) why: String,
}

/// A member that goes or comes.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Passing {
    /// The pod.
    pub(crate) pod: String,
    /// Its role.
    pub(crate) role: Option<String>,
    /// Its volume claim.
    pub(crate) claim: Option<String>,
}

/// A step of a plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "action")]
pub(crate) enum Step {
    /// Ask the guard again.
    AskAgain {
        /// The count.
        instances: i64,
    },
    /// A checkpoint before a switchover.
    Checkpoint {
        /// The leader.
        member: String,
    },
    /// Wait until the cluster has the count.
    Converge {
        /// The count.
        instances: i64,
    },
    /// A switchover.
    MoveLeader {
        /// The leader now.
        from: String,
        /// The leader afterwards.
        to: String,
    },
    /// Write the count.
    SetCount {
        /// The count.
        instances: i64,
    },
}

/// The finding of a rule.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Finding {
    /// The rule's id.
    pub(crate) rule: String,
    /// `Deny` or `Warn`.
    pub(crate) severity: String,
    /// What was asked, the limit and the present value.
    pub(crate) message: String,
    /// What would work.
    pub(crate) remedy: Option<Remedy>,
}

/// A change that runs or has ended.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Operation {
    /// Its id.
    pub(crate) id: String,
    /// The cluster.
    pub(crate) metadata: Metadata,
    /// What it does, as a title: `Run 3 instead of 5`.
    pub(crate) title: String,
    /// What has happened until now.
    pub(crate) lines: Vec<Line>,
    /// The word for its end. `None` while it goes on.
    pub(crate) result: Option<String>,
    /// Why it did not end as asked.
    pub(crate) message: Option<String>,
    /// What to do next.
    pub(crate) hints: Vec<String>,
}

/// A line of a timeline.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    /// Its place.
    pub(crate) seq: u64,
    /// Its time, RFC 3339.
    pub(crate) at: String,
    /// What happened.
    pub(crate) text: String,
}
