//! The documents of `status`.

use std::collections::BTreeMap;

use pgscale_guard::evidence::Evidence;
use pgscale_guard::facts::{DisruptionBudget, Health, Live, Member};
use pgscale_guard::remedy::{Remedy, Suggested};
use pgscale_guard::{Assessment, Seen};
use serde::Serialize;

use super::policy::NamespaceBudget;
use super::reads::ReadsDocument;
use super::{API_VERSION, Metadata};
use crate::diagnosis::Cause;
use crate::members::{Activity, Role, lag_bytes, waits_for_restart};
use crate::plan::describe;
use crate::services::names;
use crate::status::{
    Archive, Bound, By, CountVerdict, Flow, Headline, Headroom, Slot, Status, Version, Volume,
    bound_of_pods, pending_restarts, running, volumes, worst_lag,
};

/// `kind: ScaleStatus`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleStatus<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ScaleStatus")))]
    kind: &'static str,
    metadata: Metadata,
    /// The time of the look.
    time: String,
    /// `DOWN`, `DEGRADED`, `UNKNOWN`, `STOPPED` or `HEALTHY`.
    verdict: &'static str,
    /// The faults, or the facts that are not known.
    reasons: Vec<String>,
    /// Points that deserve a look although nothing is missing.
    warnings: Vec<String>,
    /// The versions of PostgreSQL that members run. Empty where none was asked, or none answered.
    versions: Vec<String>,
    declared_version: Option<String>,
    /// Bytes of all databases. `null` where they could not be read, or were not looked up.
    data_bytes: Option<u64>,
    /// `null` where the pods could not be listed. By reports where no member was asked.
    healthy_members: Option<usize>,
    /// Bytes that the replica lacks that is furthest behind.
    worst_lag_bytes: Option<u64>,
    /// Members whose PostgreSQL waits for a restart.
    pending_restarts: Vec<String>,
    /// The archive of the WAL. `null` where it could not be read, or was not looked up.
    archive: Option<ArchiveDocument>,
    /// The last success of the logical backup job. `null` where there is none, or it could not be
    /// read.
    last_logical_backup: Option<String>,
    /// Disruption budgets that count the leader. `null` where they could not be read.
    budgets: Option<Vec<BudgetDocument>>,
    declared: Option<i64>,
    effective: i64,
    stateful_set: Option<i64>,
    /// `null` where the pods could not be listed.
    running: Option<i64>,
    converged: bool,
    /// `NoLeader`, `Unknown`, `CountDiffers`, `Rebuilding`, `NotConverged` or `Converged`: the
    /// first that holds.
    state: &'static str,
    missing: &'a [String],
    leader: Option<&'a str>,
    paused: Option<bool>,
    members: Vec<MemberDocument<'a>>,
    services: BTreeMap<String, Option<Vec<String>>>,
    operator: Option<String>,
    operator_available: Option<bool>,
    operator_status: Option<&'a str>,
    /// `null` where they could not be read, or were not looked up for a list.
    slots: Option<Vec<SlotDocument>>,
    /// `null` where they could not be read.
    volumes: Option<Vec<VolumeDocument>>,
    /// `null` where it was not looked up for a list.
    policy: Option<PolicyDocument<'a>>,
    /// The verdicts on changes now. `null` where they were not looked up for a list.
    would_say: Option<Vec<CountVerdictDocument<'a>>>,
    /// The reads of every member, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<Vec<ReadsDocument<'a>>>,
    /// The causes that keep it from converging, the likeliest first. Only `--why` adds the Events.
    why: Vec<CauseDocument<'a>>,
}

/// The archive of the WAL.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct ArchiveDocument {
    on: bool,
    /// The last attempt failed.
    failing: bool,
    last_archived: Option<String>,
    last_failed: Option<String>,
}

/// A disruption budget.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct BudgetDocument {
    name: String,
    min_available: Option<String>,
    max_unavailable: Option<String>,
    leader_only: bool,
}

/// A cause that keeps a cluster from converging.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct CauseDocument<'a> {
    what: &'a str,
    evidence: &'a [Evidence],
    next: &'a Remedy,
    /// What to be sure of before, where the next command changes the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    sure: Option<&'static str>,
    /// The event that ends it where nothing else does, and the condition for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_resort: Option<&'a Suggested>,
}

/// A replication slot.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct SlotDocument {
    name: String,
    member: Option<String>,
    member_has_pod: Option<bool>,
    held_bytes: Option<u64>,
    oldest_needed: u64,
}

/// A volume claim.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct VolumeDocument {
    claim: String,
    member: String,
    in_use: Option<bool>,
    capacity_bytes: Option<u64>,
    created: Option<String>,
}

/// The room that policies and the operator leave.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct PolicyDocument<'a> {
    bounds: Vec<BoundDocument<'a>>,
    more: Option<i64>,
    fewer: i64,
    zero_allowed: bool,
    unreadable: Option<&'a str>,
    operator_limits_unreadable: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BoundDocument<'a> {
    what: &'a str,
    value: &'a str,
    source: &'a str,
    mode: pgscale_guard::policy::Mode,
}

/// The verdict on one change.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct CountVerdictDocument<'a> {
    to: i64,
    /// `Command`, or `Edit` for one that moves no leader first.
    by: &'static str,
    allowed: bool,
    rules: &'a [&'static str],
    leader_moves_to: Option<&'a str>,
    message: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct MemberDocument<'a> {
    name: &'a str,
    role: &'static str,
    state: String,
    health: String,
    healthy: Option<bool>,
    timeline: Option<u64>,
    lag_bytes: Option<u64>,
    /// Seconds until it had written, flushed and replayed the WAL of a commit. `null` where
    /// PostgreSQL was not asked, or measured none lately.
    write_lag_seconds: Option<f64>,
    flush_lag_seconds: Option<f64>,
    replay_lag_seconds: Option<f64>,
    pending_restart: bool,
    received: Option<u64>,
    replayed: Option<u64>,
    address: Option<&'a str>,
    node: Option<&'a str>,
    zone: Option<&'a str>,
}

impl<'a> ScaleStatus<'a> {
    /// Returns the document of a cluster's state.
    pub(crate) fn of(status: &'a Status) -> Self {
        let facts = &status.snapshot.facts;
        let cluster = &facts.change.new;
        let services = &status.snapshot.services;
        let named = |seen: &Seen<_>| match seen {
            Seen::Known(addresses) => Some(names(facts, addresses)),
            Seen::Absent => Some(Vec::new()),
            Seen::Unreadable(_) => None,
        };
        let Headline { word, reasons, warnings } = status.headline();
        let Version { running: versions, declared: declared_version } = Version::of(facts);
        let vitals = status.detail.as_ref().map(|detail| &detail.vitals);
        let flow = vitals.and_then(|vitals| vitals.flow.as_ref().ok());
        let backup = facts.capacity.backup.as_ref().and_then(Seen::known);
        Self {
            api_version: API_VERSION,
            kind: "ScaleStatus",
            metadata: Metadata::of(cluster),
            time: facts.now.to_string(),
            verdict: word.as_str(),
            reasons,
            warnings,
            versions,
            declared_version,
            data_bytes: vitals.and_then(|vitals| vitals.data.as_ref().ok().copied()),
            healthy_members: status.healthy().0,
            worst_lag_bytes: worst_lag(facts),
            pending_restarts: pending_restarts(facts).into_iter().map(str::to_owned).collect(),
            archive: flow.map(|flow| archive(&flow.archive)),
            last_logical_backup: backup.and_then(|it| Some(it.succeeded?.to_string())),
            budgets: facts.capacity.disruption_budgets.as_ref().and_then(budgets),
            declared: cluster.instances,
            effective: facts.to(),
            stateful_set: facts.stateful_set.known().map(|set| set.replicas),
            running: running(facts),
            converged: status.missing.is_empty(),
            state: status.severity().word(),
            missing: &status.missing,
            leader: facts.leader_name(),
            paused: facts.configuration.known().map(|configuration| configuration.paused),
            members: facts
                .all_members()
                .iter()
                .map(|it| member(&facts.assessment(), flow, it))
                .collect(),
            services: BTreeMap::from([
                (cluster.name.clone(), named(&services.leader)),
                (format!("{}-repl", cluster.name), named(&services.replicas)),
            ]),
            operator: facts.operator.known().map(|operator| operator.deployment.qualified()),
            operator_available: facts.operator.known().and_then(|operator| operator.available),
            operator_status: cluster.status.as_deref(),
            slots: status.detail.as_ref().and_then(|detail| slots(&detail.slots)),
            volumes: volumes(facts).known().map(|all| all.iter().map(volume).collect()),
            policy: status.detail.as_ref().map(|detail| policy(&detail.headroom)),
            would_say: status
                .detail
                .as_ref()
                .map(|detail| detail.would_say.iter().map(would_say).collect()),
            reads: status.detail.as_ref().and_then(|detail| {
                Some(detail.reads.as_ref()?.members.iter().map(ReadsDocument::of).collect())
            }),
            why: status.why.iter().map(cause).collect(),
        }
    }
}

fn cause(cause: &Cause) -> CauseDocument<'_> {
    let Cause { what, evidence, next, sure, last_resort } = cause;
    CauseDocument { what, evidence, next, sure: *sure, last_resort: last_resort.as_ref() }
}

fn archive(archive: &Archive) -> ArchiveDocument {
    let time = |time: Option<k8s_openapi::jiff::Timestamp>| time.map(|time| time.to_string());
    ArchiveDocument {
        on: archive.on,
        failing: archive.fails(),
        last_archived: time(archive.last),
        last_failed: time(archive.failed),
    }
}

fn budgets(seen: &Seen<Vec<DisruptionBudget>>) -> Option<Vec<BudgetDocument>> {
    let all = match seen {
        Seen::Known(all) => all.as_slice(),
        Seen::Absent => &[],
        Seen::Unreadable(_) => return None,
    };
    let document = |budget: &DisruptionBudget| BudgetDocument {
        name: budget.name.clone(),
        min_available: budget.min_available.as_ref().map(bound_of_pods),
        max_unavailable: budget.max_unavailable.as_ref().map(bound_of_pods),
        leader_only: budget.leader_only,
    };
    Some(all.iter().map(document).collect())
}

fn slots(seen: &Seen<Vec<Slot>>) -> Option<Vec<SlotDocument>> {
    let all = match seen {
        Seen::Known(all) => all.as_slice(),
        Seen::Absent => &[],
        Seen::Unreadable(_) => return None,
    };
    let document = |slot: &Slot| SlotDocument {
        name: slot.name.clone(),
        member: slot.member.clone(),
        member_has_pod: slot.there,
        held_bytes: slot.held,
        oldest_needed: slot.position,
    };
    Some(all.iter().map(document).collect())
}

fn volume(volume: &Volume) -> VolumeDocument {
    VolumeDocument {
        claim: volume.claim.clone(),
        member: volume.member.clone(),
        in_use: volume.in_use,
        capacity_bytes: volume.capacity,
        created: volume.created.map(|time| time.to_string()),
    }
}

fn policy(headroom: &Headroom) -> PolicyDocument<'_> {
    PolicyDocument {
        bounds: headroom.bounds.iter().map(bound).collect(),
        more: headroom.more,
        fewer: headroom.fewer,
        zero_allowed: headroom.zero,
        unreadable: headroom.unreadable.as_deref(),
        operator_limits_unreadable: headroom.operator_unreadable.as_deref(),
    }
}

fn bound(bound: &Bound) -> BoundDocument<'_> {
    let Bound { what, value, source, mode } = bound;
    BoundDocument { what, value, source, mode: *mode }
}

fn would_say(reported: &CountVerdict) -> CountVerdictDocument<'_> {
    CountVerdictDocument {
        to: reported.to,
        by: match reported.by {
            By::Command => "Command",
            By::Edit => "Edit",
        },
        allowed: reported.allowed,
        rules: &reported.rules,
        leader_moves_to: reported.leader_moves_to.as_deref(),
        message: reported.message.as_deref(),
    }
}

fn member<'a>(
    facts: &Assessment<'_>,
    flow: Option<&Flow>,
    member: &'a Member,
) -> MemberDocument<'a> {
    let leads = facts.leader_name() == Some(member.name.as_str());
    let health = facts.health(member);
    let answer = match &member.live {
        Live::Answered(answer) => Some(answer),
        Live::NotAsked | Live::Silent(_) => None,
    };
    let delays = flow.and_then(|flow| flow.of(&member.name)).copied().unwrap_or_default();
    MemberDocument {
        name: &member.name,
        role: Role::of(facts, member).word(),
        state: Activity::of(facts, member).to_string(),
        healthy: match health {
            Health::Healthy => Some(true),
            Health::Unhealthy(_) => Some(false),
            Health::Unknown(_) => None,
        },
        health: describe(&health),
        timeline: answer.and_then(|answer| answer.timeline),
        lag_bytes: if leads { None } else { lag_bytes(facts, member) },
        write_lag_seconds: delays.write,
        flush_lag_seconds: delays.flush,
        replay_lag_seconds: delays.replay,
        pending_restart: waits_for_restart(member),
        received: answer.and_then(|answer| answer.location.or(answer.received)),
        replayed: answer.and_then(|answer| answer.replayed),
        address: member.pod.ip.as_deref(),
        node: member.pod.node.as_deref(),
        zone: member.pod.zone.as_deref(),
    }
}

/// `kind: ScaleStatusList`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleStatusList<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ScaleStatusList")))]
    kind: &'static str,
    items: Vec<ScaleStatus<'a>>,
    /// The budgets of their namespaces. Absent where there is none, and in a watch.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    budgets: &'a [NamespaceBudget],
}

impl<'a> ScaleStatusList<'a> {
    /// Returns the document of several clusters, with the budgets of their namespaces.
    pub(crate) fn of(all: &'a [Status], budgets: &'a [NamespaceBudget]) -> Self {
        let items = all.iter().map(ScaleStatus::of).collect();
        Self { api_version: API_VERSION, kind: "ScaleStatusList", items, budgets }
    }
}
