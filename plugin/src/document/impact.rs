//! The outlook in `-o json` and `-o yaml`, the verdict of every rule, and the value that others
//! must commit.
//!
//! Amounts are Kubernetes quantities in plain units. A value that could not be read is missing, and
//! named under `unread`.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::capacity::Look;
use pgscale_guard::evidence::Evidence;
use pgscale_guard::quantity::Amount;
use pgscale_guard::remedy::Remedy;
use pgscale_guard::verdict::Severity;
use serde::Serialize;

use crate::impact::{Impact, Order, Retention, Seeding, Turn, Zones};
use crate::plan::{Commit, Judged, Plan, Says, every_rule};

/// The outlook of a plan.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImpactDocument<'a> {
    requests: Option<BTreeMap<&'a str, TurnDocument<String>>>,
    limits: Option<BTreeMap<&'a str, TurnDocument<String>>>,
    /// Resources of which some container may take as much as there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unlimited: Vec<&'a str>,
    /// The storage that the volume claims ask for.
    storage: Option<TurnDocument<String>>,
    quotas: Option<Vec<Room<'a>>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    quotas_not_judged: &'a [String],
    /// What counts against the budget of the namespace, where a policy sets one.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetDocument>,
    readers: TurnDocument<i64>,
    may_be_lost: TurnDocument<i64>,
    zones: TurnDocument<BTreeMap<&'a str, usize>>,
    /// `Kept` or `Deleted`: claims of members that are removed.
    claims_of_leaving: Option<&'static str>,
    volumes: Option<BTreeMap<&'a str, Volume>>,
    new_volume_bytes: Option<u64>,
    base_backups: Option<BaseBackups<'a>>,
    /// The clients that are connected to members that are removed.
    clients: BTreeMap<&'a str, Vec<Group<'a>>>,
    /// Standbys that are kept, and the removed member that each replicates from.
    cascading: BTreeMap<&'a str, &'a str>,
    pending_restart: &'a [String],
    /// The facts that could not be read, each with the reason.
    unread: BTreeMap<String, &'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BudgetDocument {
    /// Most instances of all clusters together.
    instances: i64,
    counted: TurnDocument<u64>,
    /// The part of it that changes have reserved which are not decided yet.
    reserved: u64,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TurnDocument<T> {
    before: T,
    after: T,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Room<'a> {
    quota: &'a str,
    resource: &'a str,
    hard: String,
    used: TurnDocument<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exceeded_by: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Volume {
    bytes: Option<u64>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    created: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct BaseBackups<'a> {
    count: i64,
    /// Members that come back to a volume that they had before.
    returning: Option<i64>,
    bytes_each: Option<u64>,
    /// The members are made at the same time.
    parallel: Option<bool>,
    /// The seconds for each copy, at the pace of a base backup that runs now.
    seconds_each: Option<u64>,
    leader: Option<&'a str>,
    leader_free_bytes: Option<u64>,
    /// The amount of the write-ahead log that replication slots hold back.
    retained_bytes: Option<u64>,
    retaining_slot: Option<&'a str>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Group<'a> {
    user: &'a str,
    application: &'a str,
    count: u64,
}

impl<'a> ImpactDocument<'a> {
    /// Returns the document of an impact.
    pub(crate) fn of(impact: &'a Impact) -> Self {
        let mut unread = Unread::default();
        let resources = unread.look("resources", &impact.resources);
        let quotas = unread.look("quotas", &impact.quotas);
        let retention = unread.look("claimsOfLeaving", &impact.retention);
        let new_volume = unread.look("newVolumeBytes", &impact.new_volume);
        let storage = unread.look("storage", &impact.storage);
        let budget = impact.budget.as_ref().and_then(|it| unread.look("budget", it));
        let volumes = unread.look("volumes", &impact.volumes);
        let mut clients = BTreeMap::new();
        for (member, looked) in &impact.clients {
            let Some(looked) = unread.look(&format!("clients.{member}"), looked) else { continue };
            let groups = looked.iter().map(|clients| Group {
                user: &clients.user,
                application: &clients.application,
                count: clients.count,
            });
            clients.insert(member.as_str(), groups.collect());
        }
        Self {
            requests: resources.map(|resources| amounts(&resources.requests)),
            limits: resources.map(|resources| amounts(&resources.limits)),
            unlimited: resources
                .map_or(Vec::new(), |resources| resources.unlimited.iter().copied().collect()),
            storage: storage.map(|storage| turn(storage, Amount::to_string)),
            quotas_not_judged: quotas.map_or(&[], |quotas| &quotas.unjudged),
            quotas: quotas.map(|quotas| {
                quotas
                    .rooms
                    .iter()
                    .map(|room| Room {
                        quota: &room.quota,
                        resource: &room.resource,
                        hard: room.hard.to_string(),
                        used: TurnDocument {
                            before: room.used.to_string(),
                            after: room.after.to_string(),
                        },
                        exceeded_by: room.exceeded().map(|more| more.to_string()),
                    })
                    .collect()
            }),
            budget: budget.map(|budget| BudgetDocument {
                instances: budget.instances,
                counted: turn(&budget.counted, |count| *count),
                reserved: budget.reserved,
            }),
            readers: turn(&impact.readers, |count| *count),
            may_be_lost: turn(&impact.spare, |count| *count),
            zones: TurnDocument {
                before: zones(&impact.zones.before),
                after: zones(&impact.zones.after),
            },
            claims_of_leaving: retention.map(|retention| match retention {
                Retention::Deleted => "Deleted",
                Retention::Kept => "Kept",
            }),
            volumes: volumes.map(|volumes| {
                volumes
                    .iter()
                    .map(|(name, volume)| {
                        let shown = Volume { bytes: volume.capacity, created: volume.created };
                        (name.as_str(), shown)
                    })
                    .collect()
            }),
            new_volume_bytes: new_volume.copied().flatten(),
            base_backups: impact.seeding.as_ref().map(|seeding| base_backups(seeding, &mut unread)),
            clients,
            cascading: impact
                .cascading
                .iter()
                .map(|(standby, gone)| (standby.as_str(), gone.as_str()))
                .collect(),
            pending_restart: &impact.restarts,
            unread: unread.0,
        }
    }
}

fn base_backups<'a>(seeding: &'a Seeding, unread: &mut Unread<'a>) -> BaseBackups<'a> {
    let wal = unread.look("baseBackups.wal", &seeding.wal);
    let order = unread.look("baseBackups.parallel", &seeding.order);
    unread.look("baseBackups.pace", &seeding.pace);
    let held = wal.and_then(|wal| wal.held.as_ref());
    BaseBackups {
        count: seeding.copies(),
        returning: unread.look("baseBackups.returning", &seeding.returning).copied(),
        bytes_each: unread.look("baseBackups.bytesEach", &seeding.data).copied(),
        parallel: order.map(|order| match order {
            Order::OneByOne => false,
            Order::Parallel | Order::Unprobed => true,
        }),
        seconds_each: seeding.seconds_each(),
        leader: seeding.leader.as_deref(),
        leader_free_bytes: wal
            .and_then(|wal| unread.look("baseBackups.leaderFreeBytes", &wal.free))
            .copied(),
        retained_bytes: held.map(|(bytes, _)| *bytes),
        retaining_slot: held.map(|(_, slot)| slot.as_str()),
    }
}

/// The facts that could not be read, each with the reason.
#[derive(Default)]
struct Unread<'a>(BTreeMap<String, &'a str>);

impl<'a> Unread<'a> {
    /// Returns the value that was seen, or notes the reason for not seeing it.
    fn look<T>(&mut self, what: &str, seen: &'a Look<T>) -> Option<&'a T> {
        match seen {
            Ok(seen) => Some(seen),
            Err(why) => {
                self.0.insert(what.to_owned(), why);
                None
            }
        }
    }
}

fn amounts(turns: &BTreeMap<String, Turn<Amount>>) -> BTreeMap<&str, TurnDocument<String>> {
    turns.iter().map(|(name, amount)| (name.as_str(), turn(amount, Amount::to_string))).collect()
}

fn turn<T, U>(turn: &Turn<T>, of: impl Fn(&T) -> U) -> TurnDocument<U> {
    TurnDocument { before: of(&turn.before), after: of(&turn.after) }
}

fn zones(zones: &Zones) -> BTreeMap<&str, usize> {
    zones.members.iter().map(|(zone, count)| (zone.as_str(), *count)).collect()
}

/// The verdict of one rule.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleDocument<'a> {
    rule: &'static str,
    /// `Audit`, `Deny`, `Ignored`, `NotApplicable`, `Pass`, `Unknown` or `Warn`.
    verdict: &'static str,
    /// The severity. It is left out for a rule that passes or that does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    /// The finding, or the fact that could not be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    /// The change that would make it pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a Remedy>,
    /// The objects it looked at, with their present values.
    looked_at: &'a [Evidence],
}

impl<'a> RuleDocument<'a> {
    /// Returns the documents of every rule of a plan.
    pub(crate) fn all(plan: &'a Plan) -> Vec<Self> {
        every_rule(plan).into_iter().map(Self::of).collect()
    }

    fn of(judged: Judged<'a>) -> Self {
        let Judged { rule, says, message, finding, looked_at } = judged;
        let (verdict, severity) = match says {
            Says::Audit => ("Audit", None),
            Says::Deny => ("Deny", Some(Severity::Deny)),
            Says::Ignored => ("Ignored", None),
            Says::NotApplicable => ("NotApplicable", None),
            Says::Pass => ("Pass", None),
            Says::Unknown(severity) => ("Unknown", Some(severity)),
            Says::Warn => ("Warn", Some(Severity::Warn)),
        };
        let remedy = finding.and_then(|finding| finding.remedy.as_ref());
        Self { rule, verdict, severity, message, remedy, looked_at }
    }
}

/// The value to commit, and the place where each other writer takes it from.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CommitDocument {
    places: BTreeMap<String, &'static str>,
    manifest: serde_json::Value,
}

impl CommitDocument {
    /// Returns the value to commit for a plan, where others write the count too.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        let Commit { places, manifest } = Commit::of(plan)?;
        Some(Self { places: places.into_iter().collect(), manifest })
    }
}
