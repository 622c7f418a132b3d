//! What a change would mean beyond its verdict: volumes, resources, quotas, readers, base backups, clients.
//!
//! Pure, and only told: nothing in here refuses or allows anything. What could not be read is an error with its
//! reason, never a number.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::Assessment;
use pgscale_guard::capacity::{Added, Look, Quotas};
use pgscale_guard::facts::{Claim, Facts, Health, Live, Member, Seen, StatefulSet};
use pgscale_guard::quantity::Amount;

use crate::plan::Plan;

mod read;
mod resources;

pub(crate) use read::impact;
pub(crate) use resources::Resources;
use resources::storage;

/// Before and after the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn<T> {
    /// As it is.
    pub(crate) before: T,
    /// As it would be.
    pub(crate) after: T,
}

impl<T> Turn<T> {
    /// The same of both.
    pub(crate) fn map<U>(self, of: impl Fn(T) -> U) -> Turn<U> {
        Turn { before: of(self.before), after: of(self.after) }
    }
}

/// What was read for the impact, beyond the facts.
#[derive(Clone, Debug)]
pub(crate) struct Readings {
    /// The quotas of the namespace.
    pub(crate) quotas: Look<Vec<ResourceQuota>>,
    /// What the leader says of itself; `None` where nobody asked.
    pub(crate) leader: Option<LeaderReadings>,
    /// Who is connected to each member that goes.
    pub(crate) clients: Vec<(String, Look<Vec<Clients>>)>,
}

/// What the leader says of itself, inside PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) struct LeaderReadings {
    /// Bytes of all its databases.
    pub(crate) data: Look<u64>,
    /// Its write-ahead log.
    pub(crate) wal: Look<Wal>,
    /// Bytes per second of a base backup that runs now; `None` where none does.
    pub(crate) pace: Look<Option<u64>>,
}

/// What is known of a leader's write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wal {
    /// Bytes that replication slots hold back, and the slot that holds back most; `None` without slots.
    pub(crate) held: Option<(u64, String)>,
    /// Bytes free on its file system.
    pub(crate) free: Look<u64>,
}

/// Connections of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clients {
    /// The role that is logged in.
    pub(crate) user: String,
    /// What the client calls itself; often nothing.
    pub(crate) application: String,
    /// How many.
    pub(crate) count: u64,
}

/// What a change would mean.
#[derive(Clone, Debug)]
pub(crate) struct Impact {
    /// When the facts were read; ages count from here.
    pub(crate) now: Timestamp,
    /// Claims of members that come and go, by name.
    pub(crate) volumes: Look<BTreeMap<String, Volume>>,
    /// Bytes of a volume claim that is made new; `None` where the StatefulSet has none.
    pub(crate) new_volume: Look<Option<u64>>,
    /// What becomes of the claims of members that go.
    pub(crate) retention: Look<Retention>,
    /// What the cluster's pods ask for.
    pub(crate) resources: Look<Resources>,
    /// What the cluster's claims ask for.
    pub(crate) storage: Look<Turn<Amount>>,
    /// What the namespace's quotas leave.
    pub(crate) quotas: Look<Quotas>,
    /// Standbys that serve reads.
    pub(crate) readers: Turn<i64>,
    /// Members that may be lost with one left to lead.
    pub(crate) spare: Turn<i64>,
    /// Where the members are.
    pub(crate) zones: Turn<Zones>,
    /// How new members get their data; `None` where none comes.
    pub(crate) seeding: Option<Seeding>,
    /// Who is connected to each member that goes.
    pub(crate) clients: Vec<(String, Look<Vec<Clients>>)>,
    /// Standbys that stay and replicate from a member that goes, as (standby, member).
    pub(crate) cascading: Vec<(String, String)>,
    /// Members whose PostgreSQL waits for a restart.
    pub(crate) restarts: Vec<String>,
}

/// The volume claim of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Bytes.
    pub(crate) capacity: Option<u64>,
    /// When it was made.
    pub(crate) created: Option<Timestamp>,
}

/// What becomes of the claim of a member that goes (`persistentVolumeClaimRetentionPolicy.whenScaled`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// It is deleted, and with it the data.
    Deleted,
    /// It stays.
    Kept,
}

/// Where members are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zones {
    /// Members by zone.
    pub(crate) members: BTreeMap<String, usize>,
    /// Members whose node has no zone.
    pub(crate) without: usize,
    /// Members whose node could not be read, or that have none.
    pub(crate) unknown: usize,
}

impl Zones {
    fn of<'a>(members: impl Iterator<Item = &'a Member>) -> Self {
        let mut zones = Self::default();
        for member in members {
            match (&member.pod.zone, member.pod.node_ready) {
                (Some(zone), _) => *zones.members.entry(zone.clone()).or_default() += 1,
                (None, Some(_)) => zones.without += 1,
                (None, None) => zones.unknown += 1,
            }
        }
        zones
    }

    /// The one zone of all of several members.
    pub(crate) fn only(&self) -> Option<&str> {
        let mut zones = self.members.iter();
        match (zones.next(), zones.next()) {
            (Some((zone, count)), None) if *count > 1 && self.without + self.unknown == 0 => {
                Some(zone)
            }
            _ => None,
        }
    }
}

/// How new members get their data.
#[derive(Clone, Debug)]
pub(crate) struct Seeding {
    /// The leader, where there is one.
    pub(crate) leader: Option<String>,
    /// Members that come.
    pub(crate) coming: i64,
    /// Those of them that come back to the volume of an earlier life; the others copy everything.
    pub(crate) returning: Look<i64>,
    /// Bytes each copies.
    pub(crate) data: Look<u64>,
    /// When the copies are made.
    pub(crate) order: Look<Order>,
    /// Bytes per second of a base backup that runs now.
    pub(crate) pace: Look<Option<u64>>,
    /// The leader's write-ahead log, which grows while they copy.
    pub(crate) wal: Look<Wal>,
}

impl Seeding {
    /// Members that copy everything; all that come, where nobody can tell.
    pub(crate) fn copies(&self) -> i64 {
        self.coming - self.returning.as_ref().copied().unwrap_or(0)
    }

    /// Seconds that one copy would take at the pace of the one that runs now.
    pub(crate) fn seconds_each(&self) -> Option<u64> {
        let pace = self.pace.as_ref().ok().copied().flatten().filter(|pace| *pace > 0)?;
        Some(self.data.as_ref().ok()?.div_ceil(pace))
    }
}

/// When several new members copy their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other: each waits until the one before is ready.
    OneByOne,
    /// At the same time, because all pods start at once.
    Parallel,
    /// At the same time: pods start in order, but without a readiness probe a started container counts as ready.
    Unprobed,
}

impl Impact {
    /// What `plan` would mean.
    pub(crate) fn of(plan: &Plan, facts: &Facts, inputs: Readings) -> Self {
        let Readings { quotas, leader, clients } = inputs;
        let set = match &facts.stateful_set {
            Seen::Known(set) => Ok(set),
            Seen::Absent => Err("there is no StatefulSet yet".to_owned()),
            Seen::Unreadable(why) => Err(why.clone()),
        };
        let footprint = facts.footprint();
        let retention = set.clone().map(retention);
        let moves = Moves::of(plan, facts, &retention);
        let new_volume = footprint
            .as_ref()
            .map(|footprint| footprint.volumes.first().map(|(size, _)| size.units()))
            .map_err(Clone::clone);
        let counts = Turn { before: plan.from, after: plan.to };
        let resources =
            footprint.as_ref().map(|it| Resources::of(it, counts)).map_err(Clone::clone);
        let storage = match (&footprint, &moves.claims) {
            (Ok(footprint), Ok(claims)) => Ok(storage(footprint, *claims)),
            (Err(why), _) | (Ok(_), Err(why)) => Err(why.clone()),
        };
        let quotas = quotas.and_then(|quotas| {
            let claims = moves.claims.clone();
            let claims = claims.map(|claims| claims.after.saturating_sub(claims.before));
            let added = Added { pods: moves.pods, claims };
            // Without any quota there is nothing to know of the pods.
            if quotas.is_empty() {
                return Ok(Quotas::default());
            }
            Ok(footprint?.quotas(&quotas, &added))
        });
        Self {
            now: facts.now,
            volumes: volumes(plan, facts),
            new_volume,
            resources,
            storage,
            quotas,
            readers: counts.map(|count| (count - 1).max(0)),
            spare: spare(plan, &Assessment::new(facts, plan.max_lag)),
            zones: Turn {
                before: Zones::of(facts.all_members().iter()),
                after: Zones::of(facts.survivors()),
            },
            seeding: (plan.to > plan.from)
                .then(|| seeding(plan, &moves, set.as_ref().ok().copied(), leader)),
            retention,
            clients,
            cascading: cascading(plan, facts),
            restarts: facts
                .all_members()
                .iter()
                .filter(|it| waits_for_restart(it))
                .map(name)
                .collect(),
        }
    }
}

/// Pods and claims that come and go.
struct Moves {
    /// Pods that come, or go where negative.
    pods: i64,
    /// Members that come.
    coming: i64,
    /// Those of them that come back to a claim of an earlier life.
    returning: Look<i64>,
    /// Members that have claims.
    claims: Look<Turn<i64>>,
}

impl Moves {
    fn of(plan: &Plan, facts: &Facts, retention: &Look<Retention>) -> Self {
        let coming = count(plan.coming.len()).saturating_add(plan.coming_besides);
        let claims = claims(facts);
        let returning = claims.clone().map(|claims| {
            let returning = claims.iter().filter(|claim| {
                let comes = (plan.from..plan.to).contains(&claim.ordinal);
                comes && facts.member(&facts.pod_name(claim.ordinal)).is_none()
            });
            count(returning.count())
        });
        let turn = claims.and_then(|claims| {
            let before = count(claims.len());
            if !plan.shrinks() {
                let after = before.saturating_add(coming - returning.clone()?);
                return Ok(Turn { before, after });
            }
            let gone = match retention.clone()? {
                Retention::Deleted => plan.leaving.iter().filter(|it| it.claim.is_some()).count(),
                Retention::Kept => 0,
            };
            Ok(Turn { before, after: before - count(gone) })
        });
        Self {
            pods: coming.saturating_sub(count(plan.leaving.len())),
            coming,
            returning,
            claims: turn,
        }
    }
}

fn count(these: usize) -> i64 {
    i64::try_from(these).unwrap_or(i64::MAX)
}

fn claims(facts: &Facts) -> Look<&[Claim]> {
    match &facts.claims {
        Seen::Known(claims) => Ok(claims),
        Seen::Absent => Ok(&[]),
        Seen::Unreadable(why) => Err(why.clone()),
    }
}

fn volumes(plan: &Plan, facts: &Facts) -> Look<BTreeMap<String, Volume>> {
    let leaving = plan.leaving.iter().filter_map(|member| member.claim.as_ref());
    let coming = plan.coming.iter().filter_map(|member| member.claim.as_ref());
    let named: BTreeSet<&String> = leaving.chain(coming).collect();
    let claims = claims(facts)?.iter().filter(|claim| named.contains(&claim.name));
    Ok(claims
        .map(|claim| {
            let volume = Volume { capacity: claim.capacity, created: claim.created };
            (claim.name.clone(), volume)
        })
        .collect())
}

fn retention(set: &StatefulSet) -> Retention {
    if set.deletes_volumes { Retention::Deleted } else { Retention::Kept }
}

/// Members that may be lost: all but one of those that can be counted on.
fn spare(plan: &Plan, facts: &Assessment<'_>) -> Turn<i64> {
    let unfit = |stays: bool| {
        let unfit = facts
            .all_members()
            .iter()
            .filter(|member| !stays || member.ordinal < plan.to)
            .filter(|member| matches!(facts.health(member), Health::Unhealthy(_)));
        count(unfit.count())
    };
    let spare = |members: i64, stays| members.saturating_sub(1).saturating_sub(unfit(stays)).max(0);
    Turn { before: spare(plan.from, false), after: spare(plan.to, true) }
}

fn seeding(
    plan: &Plan,
    moves: &Moves,
    set: Option<&StatefulSet>,
    leader: Option<LeaderReadings>,
) -> Seeding {
    let nobody = || "there is no leader to ask".to_owned();
    let leader = leader.unwrap_or_else(|| LeaderReadings {
        data: Err(nobody()),
        wal: Err(nobody()),
        pace: Err(nobody()),
    });
    Seeding {
        leader: plan.leader.clone(),
        coming: moves.coming,
        returning: moves.returning.clone(),
        data: leader.data,
        order: set.map(order).ok_or_else(|| "the StatefulSet could not be read".to_owned()),
        pace: leader.pace,
        wal: leader.wal,
    }
}

/// When the copies are made. The operator sets no readiness probe unless told to (`enable_readiness_probe`).
fn order(set: &StatefulSet) -> Order {
    match (set.parallel, set.probed) {
        (true, _) => Order::Parallel,
        (false, true) => Order::OneByOne,
        (false, false) => Order::Unprobed,
    }
}

/// Standbys that stay and get their log from a member that goes: by their tag, or by that member's own list. All
/// follow the leader, and follow the next one.
fn cascading(plan: &Plan, facts: &Facts) -> Vec<(String, String)> {
    let mut found = BTreeSet::new();
    for gone in facts.condemned().filter(|it| plan.leader.as_deref() != Some(it.name.as_str())) {
        let fed: Vec<&str> = match &gone.live {
            Live::Answered(answer) => {
                answer.replication.iter().map(|sender| sender.name.as_str()).collect()
            }
            Live::NotAsked | Live::Silent(_) => Vec::new(),
        };
        for standby in facts.survivors() {
            let tagged = match (&standby.live, standby.report.known()) {
                (Live::Answered(answer), _) => answer.tags.replicate_from.as_deref(),
                (_, Some(report)) => report.tags.replicate_from.as_deref(),
                (_, None) => None,
            };
            if tagged == Some(gone.name.as_str()) || fed.contains(&standby.name.as_str()) {
                found.insert((standby.name.clone(), gone.name.clone()));
            }
        }
    }
    found.into_iter().collect()
}

fn waits_for_restart(member: &Member) -> bool {
    match (&member.live, member.report.known()) {
        (Live::Answered(answer), _) => answer.pending_restart,
        (Live::NotAsked | Live::Silent(_), report) => {
            report.is_some_and(|report| report.pending_restart)
        }
    }
}

fn name(member: &Member) -> String {
    member.name.clone()
}

#[cfg(test)]
pub(crate) mod tests;
