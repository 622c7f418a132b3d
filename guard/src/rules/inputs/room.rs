//! Volumes, and the room in the namespace and on the nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{listed, one, seen, unread};
use crate::assessment::Assessment;
use crate::capacity::{Amounts, domains};
use crate::facts::{Claim, DisruptionBudget, Seen};
use crate::policy::Policies;
use crate::rules::{capacity, storage};
use crate::verdict::Evidence;

/// Returns the objects that were listed as `source`, that they were not listed, or the reason why
/// they could not be read.
fn each<T>(
    list: Option<&Seen<Vec<T>>>,
    source: &str,
    of: impl Fn(&T) -> Evidence,
) -> Vec<Evidence> {
    match list {
        None => one(source, "not read"),
        Some(Seen::Known(list)) => listed(source, list.iter().map(of).collect()),
        Some(Seen::Absent) => one(source, "there are none"),
        Some(Seen::Unreadable(why)) => unread(source, why),
    }
}

/// Returns the volume claims.
pub(in crate::rules) fn claims(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let says = |claim: &Claim| {
        let mut words = vec![format!("ordinal {}", claim.ordinal)];
        words.extend(claim.created.map(|created| format!("created {created:.0}")));
        words.extend(claim.capacity.map(|bytes| format!("capacity {}", storage::size(bytes))));
        words.extend(claim.requested.map(|bytes| format!("asks for {}", storage::size(bytes))));
        words.extend(claim.resizing.as_ref().map(|condition| format!("condition {condition}")));
        if claim.terminating {
            words.push("being deleted".to_owned());
        }
        Evidence::new(format!("persistentvolumeclaim/{}", claim.name), words.join(", "))
    };
    each(Some(&facts.claims), "persistentvolumeclaims", says)
}

/// Returns the claims without a pod that would be missed. It is empty where there are none.
pub(in crate::rules) fn missed_claims(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let says = |claim: &Claim| {
        let name = facts.pod_name(claim.ordinal);
        let says = format!("{name} has no pod now, and this may be its data");
        Evidence::new(format!("persistentvolumeclaim/{}", claim.name), says)
    };
    match facts.missed_claims() {
        Ok(claims) => claims.into_iter().map(says).collect(),
        Err(why) => one("persistentvolumeclaims", why),
    }
}

/// Returns the room that each quota has left once the change is done.
pub(in crate::rules) fn quotas(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let seen = match capacity::quotas(facts, facts.to()) {
        Ok(seen) => seen,
        Err(why) => return one("resourcequotas", format!("cannot be judged: {why}")),
    };
    let room = |room: &crate::capacity::Room| {
        Evidence::new(
            format!("resourcequota/{}", room.quota),
            format!(
                "{}: {} of {} used, {} afterwards",
                room.resource,
                room.used.readable(),
                room.hard.readable(),
                room.after.readable()
            ),
        )
    };
    let mut told: Vec<Evidence> = seen.rooms.iter().map(room).collect();
    told.extend(seen.unspecified.iter().map(|lack| {
        Evidence::new(
            format!("resourcequota/{}", lack.quota),
            format!("limits {}, not set for: {}", lack.resource, lack.containers.join(", ")),
        )
    }));
    told.extend(seen.unjudged.iter().map(|why| Evidence::new("resourcequotas", why.as_str())));
    if told.is_empty() { one("resourcequotas", "none counts a new member") } else { told }
}

/// Returns the need of one member.
pub(in crate::rules) fn need(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let source = "a new member";
    let footprint = match facts.footprint() {
        Ok(footprint) => footprint,
        Err(why) => return one(source, format!("cannot be judged: {why}")),
    };
    let spell = |amounts: &Amounts| {
        let all: Vec<_> =
            amounts.iter().map(|(name, amount)| format!("{name} {}", amount.readable())).collect();
        if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
    };
    let volumes = footprint.volumes.iter().map(|(size, _)| size.readable());
    let volumes: Vec<_> = volumes.collect();
    let volumes = if volumes.is_empty() { "none".to_owned() } else { volumes.join(", ") };
    let (requests, limits) = (spell(&footprint.requests), spell(&footprint.limits));
    one(source, format!("requests {requests}; limits {limits}; volumes {volumes}"))
}

/// Returns the bounds of containers, pods and claims.
pub(in crate::rules) fn limit_ranges(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts.capacity.limit_ranges.as_ref(), "limitranges", |range: &LimitRange| {
        let name = range.metadata.name.as_deref().unwrap_or_default();
        let items = range.spec.iter().flat_map(|spec| &spec.limits).map(bounds);
        Evidence::new(format!("limitrange/{name}"), items.collect::<Vec<_>>().join("; "))
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
    let all = if all.is_empty() { "only defaults".to_owned() } else { all.join(", ") };
    format!("{}: {all}", item.type_)
}

/// Returns the anti-affinity that keeps members apart.
pub(in crate::rules) fn anti_affinity(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    seen(&facts.capacity.template, facts.stateful_set_source(), |template| {
        let nodes = facts.capacity.nodes.as_ref().and_then(Seen::known);
        let domains = domains(template, nodes.map_or(&[], Vec::as_slice));
        let told: Vec<_> = (domains.into_iter())
            .map(|domain| match domain.places {
                Some(places) => format!("{}, fitting places: {}", domain.key, places.len()),
                None => format!("{}, fitting places are not known", domain.key),
            })
            .collect();
        if told.is_empty() {
            "no required pod anti-affinity".to_owned()
        } else {
            format!("required pod anti-affinity by {}", told.join("; "))
        }
    })
}

/// Returns the number of nodes.
pub(in crate::rules) fn nodes(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.capacity.nodes {
        None => one("nodes", "not read"),
        Some(nodes) => seen(nodes, "nodes".to_owned(), |nodes| {
            let cordoned = nodes.iter().filter(|node| node.unschedulable).count();
            format!("{} in all, {cordoned} cordoned", nodes.len())
        }),
    }
}

/// Returns the disruption budgets that forbid an eviction of the leader.
pub(in crate::rules) fn disruption_budgets(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let budgets = facts.capacity.disruption_budgets.as_ref();
    each(budgets, "poddisruptionbudgets", |budget: &DisruptionBudget| {
        let least = budget.min_available.as_ref();
        let most = budget.max_unavailable.as_ref();
        let least = least.map(|it| format!("minAvailable: {}", storage::shown(it)));
        let most = most.map(|it| format!("maxUnavailable: {}", storage::shown(it)));
        let says: Vec<String> = least.into_iter().chain(most).collect();
        let says = if says.is_empty() { "sets nothing".to_owned() } else { says.join(", ") };
        Evidence::new(format!("poddisruptionbudget/{}", budget.name), says)
    })
}

/// Returns the logical backup job.
pub(in crate::rules) fn backup(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let backup = match &facts.capacity.backup {
        None => return one("cronjobs", "not read"),
        Some(Seen::Absent) => return one("cronjobs", "no logical backup job"),
        Some(Seen::Unreadable(why)) => return unread("cronjobs", why),
        Some(Seen::Known(backup)) => backup,
    };
    let last = backup.succeeded.map_or("never".to_owned(), |time| time.to_string());
    let suspended = if backup.suspended { ", suspended" } else { "" };
    one(format!("cronjob/{}", backup.name), format!("lastSuccessfulTime: {last}{suspended}"))
}
