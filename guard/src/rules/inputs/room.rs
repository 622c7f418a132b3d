//! Volumes, and the room in the namespace and on the nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{listed, one, seen, unread};
use crate::assessment::Assessment;
use crate::capacity::{Amounts, domains};
use crate::evidence::Evidence;
use crate::facts::{Claim, DisruptionBudget, Seen};
use crate::ledger;
use crate::object_ref::{Kind, ObjectRef};
use crate::policy::Policies;
use crate::rules::{capacity, storage};

/// Returns the objects that were listed of a kind, that they were not listed, or the reason why they
/// could not be read.
fn each<T>(
    list: Option<&Seen<Vec<T>>>,
    kind: Kind,
    of: impl Fn(&T) -> Vec<Evidence>,
) -> Vec<Evidence> {
    match list {
        None => not_read(kind),
        Some(Seen::Known(list)) => listed(kind, list.iter().map(of).collect()),
        Some(Seen::Absent) => vec![Evidence::absent(ObjectRef::all(kind))],
        Some(Seen::Unreadable(why)) => unread(ObjectRef::all(kind), why),
    }
}

/// Returns that a kind was not read: the webhook leaves out what only the command looks at.
fn not_read(kind: Kind) -> Vec<Evidence> {
    one(ObjectRef::all(kind), "read", "no")
}

/// Returns the reason why `object` cannot be judged.
fn unjudged(object: ObjectRef, why: &str) -> Evidence {
    Evidence::new(object, "cannot be judged", why)
}

/// Returns the volume claims.
pub(in crate::rules) fn claims(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let says = |claim: &Claim| {
        let field =
            |field, value: String| Evidence::new(ObjectRef::claim(&claim.name), field, value);
        let mut printed = vec![field("ordinal", claim.ordinal.to_string())];
        printed.extend(claim.created.map(|created| field("created", format!("{created:.0}"))));
        printed.extend(claim.capacity.map(|bytes| field("capacity", storage::size(bytes))));
        printed.extend(claim.requested.map(|bytes| field("requested", storage::size(bytes))));
        printed.extend(claim.resizing.clone().map(|condition| field("condition", condition)));
        if claim.terminating {
            printed.push(field("metadata.deletionTimestamp", "set".to_owned()));
        }
        printed
    };
    each(Some(&facts.claims), Kind::PersistentVolumeClaim, says)
}

/// Returns the claims without a pod that would be missed. It is empty where there are none.
pub(in crate::rules) fn missed_claims(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let says = |claim: &Claim| {
        let name = facts.pod_name(claim.ordinal);
        let value = format!("{name}, which has no pod now");
        Evidence::new(ObjectRef::claim(&claim.name), "may hold the data of", value)
    };
    match facts.missed_claims() {
        Ok(claims) => claims.into_iter().map(says).collect(),
        Err(why) => vec![unjudged(ObjectRef::all(Kind::PersistentVolumeClaim), &why)],
    }
}

/// Returns the room that each quota has left once the change is done.
pub(in crate::rules) fn quotas(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let seen = match capacity::quotas(facts, facts.to()) {
        Ok(seen) => seen,
        Err(why) => return vec![unjudged(ObjectRef::all(Kind::ResourceQuota), &why)],
    };
    let room = |room: &crate::capacity::Room| {
        Evidence::new(
            capacity::quota(&room.quota),
            &room.resource,
            format_args!(
                "{} of {} used, {} afterwards",
                room.used.readable(),
                room.hard.readable(),
                room.after.readable()
            ),
        )
    };
    let mut printed: Vec<Evidence> = seen.rooms.iter().map(room).collect();
    printed.extend(seen.unspecified.iter().map(capacity::unspecified));
    let all = ObjectRef::all(Kind::ResourceQuota);
    printed.extend(seen.unjudged.iter().map(|why| unjudged(all.clone(), why)));
    if printed.is_empty() { one(all, "count a new member", "none") } else { printed }
}

/// Returns the need of one member.
pub(in crate::rules) fn need(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let source = || facts.postgresql_source();
    let footprint = match facts.footprint() {
        Ok(footprint) => footprint,
        Err(why) => return one(source(), "need of a new member", format_args!("not known, {why}")),
    };
    let spell = |amounts: &Amounts| {
        let all: Vec<_> =
            amounts.iter().map(|(name, amount)| format!("{name} {}", amount.readable())).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let volumes = footprint.volumes.iter().map(|(size, _)| size.readable());
    let volumes: Vec<_> = volumes.collect();
    let volumes = if volumes.is_empty() { "none".to_owned() } else { volumes.join(", ") };
    vec![
        Evidence::new(source(), "requests of each new member", spell(&footprint.requests)),
        Evidence::new(source(), "limits of each new member", spell(&footprint.limits)),
        Evidence::new(source(), "volumes of each new member", volumes),
    ]
}

/// Returns the bounds of containers, pods and claims.
pub(in crate::rules) fn limit_ranges(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts.capacity.limit_ranges.as_ref(), Kind::LimitRange, |range: &LimitRange| {
        let name = range.metadata.name.as_deref().unwrap_or_default();
        let items = range.spec.iter().flat_map(|spec| &spec.limits);
        let object = || ObjectRef::new(Kind::LimitRange, name);
        items.map(|item| Evidence::new(object(), &item.type_, bounds(item))).collect()
    })
}

fn bounds(item: &LimitRangeItem) -> String {
    let bound = |word: &str, amounts: &Option<BTreeMap<String, Quantity>>| {
        let all =
            amounts.iter().flatten().map(|(name, value)| format!("{word} {name} {}", value.0));
        all.collect::<Vec<_>>()
    };
    let mut all = bound("min", &item.min);
    all.extend(bound("max", &item.max));
    all.extend(bound("ratio", &item.max_limit_request_ratio));
    if all.is_empty() { "only defaults".to_owned() } else { all.join(", ") }
}

/// Returns the anti-affinity that keeps members apart.
pub(in crate::rules) fn anti_affinity(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    seen(&facts.capacity.template, &facts.stateful_set_source(), |template| {
        let nodes = facts.capacity.nodes.as_ref().and_then(Seen::known);
        let domains = domains(template, nodes.map_or(&[], Vec::as_slice));
        let printed: Vec<_> = (domains.into_iter())
            .map(|domain| match domain.places {
                Some(places) => format!("{}, fitting places: {}", domain.key, places.len()),
                None => format!("{}, fitting places are not known", domain.key),
            })
            .collect();
        let printed = if printed.is_empty() { "none".to_owned() } else { printed.join("; ") };
        [("required pod anti-affinity by", printed)]
    })
}

/// Returns the number of nodes.
pub(in crate::rules) fn nodes(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.capacity.nodes {
        None => not_read(Kind::Node),
        Some(nodes) => seen(nodes, &ObjectRef::all(Kind::Node), |nodes| {
            let cordoned = nodes.iter().filter(|node| node.unschedulable).count();
            [("count", nodes.len().to_string()), ("cordoned", cordoned.to_string())]
        }),
    }
}

/// Returns the disruption budgets that forbid an eviction of the leader.
pub(in crate::rules) fn disruption_budgets(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let budgets = facts.capacity.disruption_budgets.as_ref();
    each(budgets, Kind::PodDisruptionBudget, |budget: &DisruptionBudget| {
        let object = || ObjectRef::new(Kind::PodDisruptionBudget, &budget.name);
        let least = budget.min_available.as_ref();
        let most = budget.max_unavailable.as_ref();
        let least =
            least.map(|it| Evidence::new(object(), "spec.minAvailable", storage::shown(it)));
        let most =
            most.map(|it| Evidence::new(object(), "spec.maxUnavailable", storage::shown(it)));
        let printed: Vec<Evidence> = least.into_iter().chain(most).collect();
        if printed.is_empty() { one(object(), "spec", "sets nothing") } else { printed }
    })
}

/// Returns the logical backup job.
pub(in crate::rules) fn backup(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let backup = match &facts.capacity.backup {
        None => return not_read(Kind::CronJob),
        Some(Seen::Absent) => {
            return one(ObjectRef::all(Kind::CronJob), "logical backup job", "none");
        }
        Some(Seen::Unreadable(why)) => return unread(ObjectRef::all(Kind::CronJob), why),
        Some(Seen::Known(backup)) => backup,
    };
    let last = backup.succeeded.map_or("never".to_owned(), |time| time.to_string());
    let job = ObjectRef::new(Kind::CronJob, &backup.name);
    vec![
        Evidence::new(job.clone(), "status.lastSuccessfulTime", last),
        Evidence::new(job, "spec.suspend", backup.suspended),
    ]
}

/// Returns what counts against the budget, where a policy sets one.
pub(in crate::rules) fn spending(facts: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    if policies.budget.limits.is_empty() {
        return Vec::new();
    }
    let ledger = || ObjectRef::new(Kind::InstanceLedger, ledger::NAME);
    match &facts.capacity.budget {
        None => not_read(Kind::InstanceLedger),
        Some(spending) => seen(spending, &ledger(), |spending| {
            [("used", spending.used.to_string()), ("reserved", spending.reserved.to_string())]
        }),
    }
}
