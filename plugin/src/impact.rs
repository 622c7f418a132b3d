//! The impact of a change beyond its verdict: volumes, resources, quotas, readers, base backups,
//! clients.
//!
//! Pure and only informative: nothing in here refuses or allows anything. A value that could not be
//! read is an error with its reason, never a number.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::Assessment;
use pgscale_guard::capacity::{Added, Look, Quotas};
use pgscale_guard::facts::{Claim, Facts, Health, Live, Member, Seen, Spending, StatefulSet};
use pgscale_guard::quantity::Amount;

use crate::members::waits_for_restart;
use crate::plan::Plan;

mod read;
mod resources;

pub(crate) use read::impact;
pub(crate) use resources::Resources;
use resources::storage;

/// Before and after the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn<T> {
    /// The present value.
    pub(crate) before: T,
    /// The value after the change.
    pub(crate) after: T,
}

impl<T> Turn<T> {
    /// Applies `of` to both values.
    pub(crate) fn map<U>(self, of: impl Fn(T) -> U) -> Turn<U> {
        Turn { before: of(self.before), after: of(self.after) }
    }
}

/// The facts that only the impact needs.
#[derive(Clone, Debug)]
pub(crate) struct Readings {
    /// The quotas of the namespace.
    pub(crate) quotas: Look<Vec<ResourceQuota>>,
    /// The leader's answers from PostgreSQL. `None` where it was not asked.
    pub(crate) leader: Option<LeaderReadings>,
    /// The clients of each removed member.
    pub(crate) clients: Vec<(String, Look<Vec<Clients>>)>,
}

/// The leader's answers from PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) struct LeaderReadings {
    /// Bytes of all its databases.
    pub(crate) data: Look<u64>,
    /// Its WAL.
    pub(crate) wal: Look<Wal>,
    /// Bytes per second of a base backup that runs now. `None` where none does.
    pub(crate) pace: Look<Option<u64>>,
}

/// The state of a leader's WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wal {
    /// Bytes that replication slots hold back, and the slot that holds back most. `None` without
    /// slots.
    pub(crate) held: Option<(u64, String)>,
    /// Bytes free on its file system.
    pub(crate) free: Look<u64>,
}

/// Connections of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clients {
    /// The role that is logged in.
    pub(crate) user: String,
    /// The client's name for itself, often empty.
    pub(crate) application: String,
    /// The number of connections.
    pub(crate) count: u64,
}

/// The impact of a change.
#[derive(Clone, Debug)]
pub(crate) struct Impact {
    /// The time at which the facts were read. Ages count from here.
    pub(crate) now: Timestamp,
    /// Claims of added and removed members, by name.
    pub(crate) volumes: Look<BTreeMap<String, Volume>>,
    /// Bytes of a new volume claim. `None` where the StatefulSet has none.
    pub(crate) new_volume: Look<Option<u64>>,
    /// The fate of the claims of removed members.
    pub(crate) retention: Look<Retention>,
    /// The requests and limits of the cluster's pods.
    pub(crate) resources: Look<Resources>,
    /// The storage of the cluster's claims.
    pub(crate) storage: Look<Turn<Amount>>,
    /// The room in the namespace's quotas.
    pub(crate) quotas: Look<Quotas>,
    /// The budget of the namespace. `None` where no policy sets one, or no instance is added.
    pub(crate) budget: Option<Look<Budget>>,
    /// Replicas that serve reads.
    pub(crate) readers: Turn<i64>,
    /// Failures tolerated: the members that may be lost with one left to lead.
    pub(crate) spare: Turn<i64>,
    /// The zones of the members.
    pub(crate) zones: Turn<Zones>,
    /// The initial copies of added members. `None` where no member is added.
    pub(crate) seeding: Option<Seeding>,
    /// The clients of each removed member.
    pub(crate) clients: Vec<(String, Look<Vec<Clients>>)>,
    /// Kept replicas that replicate from a removed member, as (replica, removed member).
    pub(crate) cascading: Vec<(String, String)>,
    /// Members whose PostgreSQL waits for a restart.
    pub(crate) restarts: Vec<String>,
}

/// The budget of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Most instances of all clusters together.
    pub(crate) instances: i64,
    /// What counts against it.
    pub(crate) counted: Turn<u64>,
    /// The part of it that changes have reserved which are not decided yet.
    pub(crate) reserved: u64,
}

impl Budget {
    fn of(spending: &Spending, to: i64) -> Option<Self> {
        let before = spending.counted();
        let after = before.saturating_add(spending.wanted(to));
        let counted = Turn { before, after };
        Some(Self { instances: spending.budget?, counted, reserved: spending.reserved })
    }
}

/// The volume claim of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Bytes.
    pub(crate) capacity: Option<u64>,
    /// Its time of creation.
    pub(crate) created: Option<Timestamp>,
}

/// The fate of the claim of a removed member (`persistentVolumeClaimRetentionPolicy.whenScaled`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// Kubernetes deletes it, and with it the data.
    Deleted,
    /// It is kept.
    Kept,
}

/// The zones of members.
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

    /// Returns the common zone of all of several members.
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

/// The initial copies of added members.
#[derive(Clone, Debug)]
pub(crate) struct Seeding {
    /// The leader, where there is one.
    pub(crate) leader: Option<String>,
    /// The number of added members.
    pub(crate) coming: i64,
    /// The number of added members that get a kept claim. The others copy everything.
    pub(crate) returning: Look<i64>,
    /// Bytes of each copy.
    pub(crate) data: Look<u64>,
    /// The order of the copies.
    pub(crate) order: Look<Order>,
    /// Bytes per second of a base backup that runs now.
    pub(crate) pace: Look<Option<u64>>,
    /// The leader's WAL, which grows during the copies.
    pub(crate) wal: Look<Wal>,
}

impl Seeding {
    /// Returns the number of members that copy everything: all added ones, where the kept claims
    /// are not known.
    pub(crate) fn copies(&self) -> i64 {
        self.coming - self.returning.as_ref().copied().unwrap_or(0)
    }

    /// Returns the seconds of one copy, at the pace of the one that runs now.
    pub(crate) fn seconds_each(&self) -> Option<u64> {
        let pace = self.pace.as_ref().ok().copied().flatten().filter(|pace| *pace > 0)?;
        Some(self.data.as_ref().ok()?.div_ceil(pace))
    }
}

/// The order in which several added members copy their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other: each waits until the one before is ready.
    OneByOne,
    /// At the same time, because all pods start at once.
    Parallel,
    /// At the same time: pods start in order, but without a readiness probe a started container
    /// counts as ready.
    Unprobed,
}

impl Impact {
    /// Computes the impact of `plan`.
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
            // Without any quota, the pods need not be known.
            if quotas.is_empty() {
                return Ok(Quotas::default());
            }
            Ok(footprint?.quotas(&quotas, &added))
        });
        let budget = match &facts.capacity.budget {
            Some(Seen::Known(spending)) => Budget::of(spending, plan.to).map(Ok),
            Some(Seen::Unreadable(why)) => Some(Err(why.clone())),
            Some(Seen::Absent) | None => None,
        };
        Self {
            budget,
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

/// Added and removed pods and claims.
struct Moves {
    /// Added pods, or removed ones where negative.
    pods: i64,
    /// Added members.
    coming: i64,
    /// Added members that get a kept claim.
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

/// Returns the failures tolerated: all members but one, without the unhealthy ones.
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
    let no_leader = || "there is no leader to ask".to_owned();
    let leader = leader.unwrap_or_else(|| LeaderReadings {
        data: Err(no_leader()),
        wal: Err(no_leader()),
        pace: Err(no_leader()),
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

/// Returns the order of the copies. The operator sets no readiness probe by default
/// (`enable_readiness_probe`).
fn order(set: &StatefulSet) -> Order {
    match (set.parallel, set.probed) {
        (true, _) => Order::Parallel,
        (false, true) => Order::OneByOne,
        (false, false) => Order::Unprobed,
    }
}

/// Returns the kept replicas that get their WAL from a removed member, by their tag or by that
/// member's own list.
///
/// Replicas of the leader are left out, because they follow the next leader.
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

fn name(member: &Member) -> String {
    member.name.clone()
}

#[cfg(test)]
pub(crate) mod tests;
