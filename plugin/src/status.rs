//! The status of one cluster beyond its members: slots, volumes, the room in policies, and the
//! verdicts on a change of the count now.
//!
//! Pure but for [`vitals`], which asks PostgreSQL: everything else rests on one read.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::facts::{Facts, Health, Waiting};
use pgscale_guard::patroni::PendingFailover;
use pgscale_guard::policy::{Freeze, Limit, Mode, Zero};
use pgscale_guard::remedy::Remedy;
use pgscale_guard::rules::causes;
use pgscale_guard::verdict::Finding;
use pgscale_guard::{Change, Policies, Seen, evaluate};

use crate::diagnosis::Cause;
use crate::members::Role;
use crate::plan::judge;
use crate::policy::{freeze, windows};
use crate::reads::Reads;
use crate::services::{Services, slot_of};
use crate::steady;
use crate::watch::Snapshot;

mod health;
mod vitals;

pub(crate) use health::{Headline, Version, Word, bound_of_pods, pending_restarts, worst_lag};
pub(crate) use vitals::{Archive, Flow, Vitals};

/// The status of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// The facts that were read.
    pub(crate) snapshot: Snapshot,
    /// The conditions of convergence that are not met, or not known to be.
    pub(crate) missing: Vec<String>,
    /// Those of them that are only not known, because an object could not be read.
    pub(crate) unread: Vec<String>,
    /// Details for a single cluster. `None` in a list.
    pub(crate) detail: Option<Detail>,
    /// The reasons for which it does not converge, the likeliest first.
    pub(crate) why: Vec<Cause>,
    /// The reason for which Events could not be read, if they were requested.
    pub(crate) events_unread: Option<String>,
    /// The command that adds the Events to the reasons, where they were not requested.
    pub(crate) more: Option<Remedy>,
}

/// Details for a single cluster.
#[derive(Clone, Debug)]
pub(crate) struct Detail {
    /// Replication slots. `Absent` where Patroni publishes none.
    pub(crate) slots: Seen<Vec<Slot>>,
    /// The room that policies and the operator leave.
    pub(crate) headroom: Headroom,
    /// The verdicts on a change now.
    pub(crate) would_say: Vec<CountVerdict>,
    /// The answers of the leader's PostgreSQL.
    pub(crate) vitals: Vitals,
    /// The reads of every member, where they were asked for.
    pub(crate) reads: Option<Reads>,
}

impl Detail {
    /// Collects the details from the facts that were read.
    pub(crate) fn of(
        facts: &Facts,
        policies: &Policies,
        slots: Seen<BTreeMap<String, u64>>,
        vitals: Vitals,
    ) -> Self {
        Self {
            slots: slots.map(|positions| slots_of(facts, &positions)),
            headroom: Headroom::of(facts, policies),
            would_say: would_say(facts, policies),
            vitals,
            reads: None,
        }
    }
}

/// A replication slot on the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Its name.
    pub(crate) name: String,
    /// Its member. `None` for a slot of no member.
    pub(crate) member: Option<String>,
    /// That member has a pod. `None` where the pods could not be listed.
    pub(crate) there: Option<bool>,
    /// The oldest position that it needs.
    pub(crate) position: u64,
    /// Bytes of WAL that it holds. `None` where the leader's position is not known.
    pub(crate) held: Option<u64>,
}

fn slots_of(facts: &Facts, positions: &BTreeMap<String, u64>) -> Vec<Slot> {
    let now = facts.leader_position().or_else(|| facts.leader.known()?.optime);
    // Patroni adds the leader's own position under the leader's name, although there is no such
    // slot (`Postgresql.slots`, patroni/postgresql/__init__.py).
    let own = facts.leader_name().map(slot_of);
    positions
        .iter()
        .filter(|(name, _)| Some(*name) != own.as_ref())
        .map(|(name, position)| {
            let member = owner(facts, name);
            Slot {
                name: name.clone(),
                there: member.as_deref().map_or(Some(false), |member| has_pod(facts, member)),
                member,
                position: *position,
                held: now.map(|now| now.saturating_sub(*position)),
            }
        })
        .collect()
}

/// Returns whether `member` has a pod. `None` where the pods could not be listed.
pub(crate) fn has_pod(facts: &Facts, member: &str) -> Option<bool> {
    facts.members.unreadable().is_none().then(|| facts.member(member).is_some())
}

/// Returns the member of a slot, with or without a pod.
pub(crate) fn owner(facts: &Facts, slot: &str) -> Option<String> {
    let prefix = format!("{}_", slot_of(&facts.change.new.name));
    let ordinal = slot.strip_prefix(&prefix)?;
    (!ordinal.is_empty() && ordinal.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| format!("{}-{ordinal}", facts.change.new.name))
}

/// A volume claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Its claim.
    pub(crate) claim: String,
    /// Its member.
    pub(crate) member: String,
    /// That member has a pod. Without a pod the claim is kept from a removed member. `None` where
    /// the pods could not be listed.
    pub(crate) in_use: Option<bool>,
    /// Bytes of its size.
    pub(crate) capacity: Option<u64>,
    /// Its time of creation.
    pub(crate) created: Option<Timestamp>,
}

/// Returns the volumes of a cluster, by ordinal.
pub(crate) fn volumes(facts: &Facts) -> Seen<Vec<Volume>> {
    let claims = match &facts.claims {
        Seen::Known(claims) => claims,
        Seen::Absent => return Seen::Absent,
        Seen::Unreadable(why) => return Seen::Unreadable(why.clone()),
    };
    let volume = |claim: &pgscale_guard::facts::Claim| {
        let member = facts.pod_name(claim.ordinal);
        Volume {
            claim: claim.name.clone(),
            in_use: has_pod(facts, &member),
            member,
            capacity: claim.capacity,
            created: claim.created,
        }
    };
    Seen::Known(claims.iter().map(volume).collect())
}

/// The room that policies and the operator leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headroom {
    /// Every bound, with its source.
    pub(crate) bounds: Vec<Bound>,
    /// The number of instances that may be added. `None` where nothing limits it.
    pub(crate) more: Option<i64>,
    /// The number of instances that may be removed, with at least one left.
    pub(crate) fewer: i64,
    /// Zero instances are allowed.
    pub(crate) zero: bool,
    /// The reason for which the policies could not be read.
    pub(crate) unreadable: Option<String>,
    /// The reason for which the operator's limits could not be read.
    pub(crate) operator_unreadable: Option<String>,
}

/// One bound on the count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// `min`, `max`, `zero`, `step up`, `step down`, `freeze` or `windows`.
    pub(crate) what: &'static str,
    /// Its value.
    pub(crate) value: String,
    /// The object that sets it.
    pub(crate) source: String,
    /// The effect of a violation.
    pub(crate) mode: Mode,
}

impl Headroom {
    fn of(facts: &Facts, policies: &Policies) -> Self {
        let (floors, limits) = operator_limits(facts);
        let min: Vec<&Limit<i64>> =
            policies.min.iter().chain(&policies.floor_min).chain(&floors).collect();
        let max: Vec<&Limit<i64>> =
            policies.max.iter().chain(&policies.floor_max).chain(&limits).collect();
        let now = facts.to();
        let enforced = |limit: &&&Limit<i64>| limit.mode == Mode::Enforce;
        let floor = min.iter().filter(enforced).map(|limit| limit.value).max();
        let ceiling = max.iter().filter(enforced).map(|limit| limit.value).min();
        let spending = facts.capacity.budget.as_ref().and_then(Seen::known);
        let fits = spending.zip(policies.budget.enforced()).map(|(it, limit)| it.most(limit.value));
        let opinions = || policies.zero.iter().map(|limit| limit.value);
        let mut bounds: Vec<Bound> = Vec::new();
        bounds.extend(min.into_iter().map(|limit| bound("min", limit, ToString::to_string)));
        bounds.extend(max.into_iter().map(|limit| bound("max", limit, ToString::to_string)));
        bounds.extend(policies.zero.iter().map(|limit| {
            bound("zero", limit, |value| {
                match value {
                    Zero::Allow => "allowed",
                    Zero::Deny => "denied",
                }
                .to_owned()
            })
        }));
        let number = |value: &i64| value.to_string();
        let budgets = policies.budget.limits.iter();
        bounds.extend(budgets.map(|limit| bound("budget of the namespace", limit, number)));
        bounds.extend(policies.step_up.iter().map(|limit| bound("step up", limit, number)));
        bounds.extend(policies.step_down.iter().map(|limit| bound("step down", limit, number)));
        // A freeze that is over no longer bounds anything.
        let over = |freeze: &Freeze| freeze.until.is_some_and(|until| until <= facts.now);
        let freezes = policies.freezes.iter().filter(|limit| !over(&limit.value));
        bounds.extend(freezes.map(|limit| bound("freeze", limit, |it| freeze(it, facts.now))));
        bounds.extend(
            policies
                .windows
                .iter()
                .map(|limit| bound("windows", limit, |it| windows(it, facts.now))),
        );
        Self {
            bounds,
            more: ceiling.into_iter().chain(fits).min().map(|most| most.saturating_sub(now).max(0)),
            fewer: now.saturating_sub(floor.unwrap_or(1).max(1)).max(0),
            zero: opinions().any(|zero| zero == Zero::Allow)
                && opinions().all(|zero| zero == Zero::Allow),
            unreadable: policies.unreadable.clone(),
            operator_unreadable: facts.operator.unreadable().map(str::to_owned),
        }
    }
}

fn bound<T>(what: &'static str, limit: &Limit<T>, value: impl Fn(&T) -> String) -> Bound {
    Bound { what, value: value(&limit.value), source: limit.source.to_string(), mode: limit.mode }
}

/// Returns the operator's own limits, which it applies silently.
fn operator_limits(facts: &Facts) -> (Vec<Limit<i64>>, Vec<Limit<i64>>) {
    let Some(operator) = facts.operator.known() else { return (Vec::new(), Vec::new()) };
    if operator.settings.limits_ignored(&facts.change.new) {
        return (Vec::new(), Vec::new());
    }
    let limit = |value: i64| {
        let source = operator.source.clone();
        // Negative means none.
        (value >= 0).then_some(Limit { value, source, mode: Mode::Enforce }).into_iter().collect()
    };
    (limit(operator.settings.min_instances), limit(operator.settings.max_instances))
}

/// The verdict on one change now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CountVerdict {
    /// The count of the change.
    pub(crate) to: i64,
    /// The writer: this program, or an edit that moves no leader.
    pub(crate) by: By,
    /// No rule refuses it.
    pub(crate) allowed: bool,
    /// The rules that refuse it, or else those that warn.
    pub(crate) rules: Vec<&'static str>,
    /// The reasons for which these rules lack facts, each once. Empty where one of them has found
    /// something.
    pub(crate) unread: Vec<String>,
    /// The member that would have to lead first.
    pub(crate) leader_moves_to: Option<String>,
    /// The message of the first of them.
    pub(crate) message: Option<String>,
}

/// The writer of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// `kubectl pgscale`.
    Command,
    /// `kubectl edit`, Argo CD and every other writer of only the count.
    Edit,
}

/// Judges one instance less and one more, on the present facts.
pub(crate) fn would_say(facts: &Facts, policies: &Policies) -> Vec<CountVerdict> {
    let now = facts.to();
    let mut all = Vec::new();
    for to in [now - 1, now + 1].into_iter().filter(|to| (0..=i64::from(i32::MAX)).contains(to)) {
        let mut there = facts.clone();
        there.change = Change::of_count(facts.change.new.clone(), to);
        let (leader_move, verdict) = judge(&there, policies, None);
        all.push(CountVerdict {
            leader_moves_to: leader_move.map(|moved| moved.to),
            ..judged(&there, By::Command, &verdict)
        });
        if to > 0 && there.leader_condemned() {
            all.push(judged(&there, By::Edit, &evaluate(&there, policies)));
        }
    }
    all
}

fn judged(facts: &Facts, by: By, verdict: &pgscale_guard::Verdict) -> CountVerdict {
    let allowed = verdict.allows();
    let findings: Vec<_> =
        if allowed { verdict.warnings().collect() } else { verdict.denials().collect() };
    let mut rules: Vec<&'static str> =
        findings.iter().map(|finding| finding.rule.as_str()).collect();
    rules.dedup();
    let message = findings.first().map(|finding| finding.message.clone());
    let causes = causes(facts, verdict);
    let blind = |it: &&Finding| causes.iter().any(|cause| cause.rules.contains(&it.rule));
    let unread = if findings.iter().all(blind) {
        causes.into_iter().map(|cause| cause.why).collect()
    } else {
        Vec::new()
    };
    let to = facts.requested();
    CountVerdict { to, by, allowed, rules, unread, leader_moves_to: None, message }
}

/// Returns the number of pods with running containers. `None` where the pods could not be listed.
pub(crate) fn running(facts: &Facts) -> Option<i64> {
    let members = match &facts.members {
        Seen::Unreadable(_) => return None,
        Seen::Absent => &[],
        Seen::Known(members) => members.as_slice(),
    };
    let count = members.iter().filter(|member| member.pod.containers_running).count();
    Some(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The severity of a cluster's state. The worst comes first in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// There is no leader: nothing can be written.
    NoLeader,
    /// Members or the leader lock could not be read.
    Unknown,
    /// The number of running members is not the requested one.
    CountDiffers,
    /// A member is being built.
    Rebuilding,
    /// Another condition of convergence is not met.
    NotConverged,
    /// It has converged.
    Converged,
}

impl Severity {
    /// Returns the word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NoLeader => "NoLeader",
            Self::Unknown => "Unknown",
            Self::CountDiffers => "CountDiffers",
            Self::Rebuilding => "Rebuilding",
            Self::NotConverged => "NotConverged",
            Self::Converged => "Converged",
        }
    }
}

/// Sorts clusters, the worst first: those with a paused Patroni before others of the same severity,
/// and within that by name, so that the order is stable.
pub(crate) fn worst_first(all: &mut [Status]) {
    all.sort_by_cached_key(|status| {
        let facts = &status.snapshot.facts;
        let paused = facts.configuration.known().is_some_and(|it| it.paused);
        (status.severity(), !paused, facts.change.cluster())
    });
}

/// The part of a status that is news when it changes. Ages, positions and bytes change at every look
/// and are left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Digest {
    declared: Option<i64>,
    effective: i64,
    stateful_set: Option<i64>,
    running: Option<i64>,
    leader: Option<String>,
    paused: Option<bool>,
    failover: Seen<PendingFailover>,
    operator_available: Option<bool>,
    operator_status: Option<String>,
    services: Services,
    severity: Severity,
    members: Vec<MemberDigest>,
    slots: Vec<String>,
    word: &'static str,
    restarts: Vec<String>,
    would_say: Vec<(i64, By, bool, Vec<&'static str>)>,
}

/// The part of a member that is news when it changes.
#[derive(Clone, Debug, PartialEq)]
struct MemberDigest {
    name: String,
    role: Role,
    node: Option<String>,
    phase: String,
    restarts: i64,
    timeline: Option<u64>,
    health: Health,
    waiting: Option<Waiting>,
}

impl Status {
    /// Returns everything that is news when it changes.
    pub(crate) fn digest(&self) -> Digest {
        let facts = &self.snapshot.facts;
        let cluster = &facts.change.new;
        let leader = facts.leader_name();
        let detail = self.detail.as_ref();
        Digest {
            declared: cluster.instances,
            effective: facts.to(),
            stateful_set: facts.stateful_set.known().map(|set| set.replicas),
            running: running(facts),
            leader: leader.map(str::to_owned),
            paused: facts.configuration.known().map(|configuration| configuration.paused),
            failover: facts.failover.clone(),
            operator_available: facts.operator.known().and_then(|operator| operator.available),
            operator_status: cluster.status.clone(),
            services: self.snapshot.services.clone(),
            severity: self.severity(),
            members: facts
                .all_members()
                .iter()
                .map(|member| MemberDigest {
                    name: member.name.clone(),
                    role: Role::of(facts, member),
                    node: member.pod.node.clone(),
                    phase: member.pod.phase.clone(),
                    restarts: member.pod.restarts,
                    timeline: member.timeline(),
                    health: steady::health(&facts.assessment().health(member)),
                    waiting: member.pod.waiting.as_ref().map(steady::waiting),
                })
                .collect(),
            slots: detail
                .and_then(|detail| detail.slots.known())
                .into_iter()
                .flatten()
                .map(|slot| slot.name.clone())
                .collect(),
            word: self.headline().word.as_str(),
            restarts: pending_restarts(facts).into_iter().map(str::to_owned).collect(),
            would_say: detail
                .into_iter()
                .flat_map(|detail| &detail.would_say)
                .map(|reported| {
                    (reported.to, reported.by, reported.allowed, reported.rules.clone())
                })
                .collect(),
        }
    }

    /// Returns the severity of the cluster's state.
    pub(crate) fn severity(&self) -> Severity {
        let facts = &self.snapshot.facts;
        let running = running(facts);
        if facts.leader.unreadable().is_some() || running.is_none() {
            Severity::Unknown
        } else if facts.to() > 0 && facts.leader_name().is_none() {
            Severity::NoLeader
        } else if running != Some(facts.requested()) {
            Severity::CountDiffers
        } else if facts.survivors().any(|member| facts.rebuilding(member).is_some()) {
            Severity::Rebuilding
        } else if self.missing.is_empty() {
            Severity::Converged
        } else {
            Severity::NotConverged
        }
    }
}

#[cfg(test)]
mod tests;
