//! Room: the load that the namespace, the nodes and the leader can take.

use crate::assessment::Assessment;
use crate::capacity::{Added, Look, Quotas, Room, Unspecified, domains, violations};
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::Seen;
use crate::object_ref::{self, ObjectRef};
use crate::policy::Policies;
use crate::quantity::Amount;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CREATE, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, kubectl, pgscale, set_to, unread};
use crate::verdict::{Finding, Outcome};

/// The WAL senders that one base backup takes while it runs: one for the copy, one for the log
/// beside it.
const OF_A_BASE_BACKUP: i64 = 2;

pub(super) const QUOTA_HEADROOM: Rule = Rule {
    id: RuleId::QUOTA_HEADROOM,
    title: "a ResourceQuota leaves no room for the new members",
    applies: Applies::on(&[UP.to_at_least(1), CREATE.to_at_least(1)]),
    default: "deny",
    kind: Kind::Room,
    page: "\
A pod or claim that a ResourceQuota forbids is never made. The operator has long said Running by then: the
only trace is a Warning FailedCreate on the StatefulSet, and the cluster stays small.

Counted is what will be made: every ordinal below the new count without a pod, those of an earlier growth too,
and every such ordinal without a claim, because a claim that was kept is charged already. Each is held against
every quota that counts it, by its scopes, with the pod's requests and limits as Kubernetes counts them (the
hungriest init container, sidecars, overhead, defaults of a LimitRange). Where a quota limits cpu or memory,
every container must declare its share, or no pod is created at all.

Signals: the namespace's ResourceQuotas (hard and used); a running pod of the newest template, else the
StatefulSet's template; on CREATE, or where the same write changes resources, sidecars or the volume, the
manifest with the operator's defaults and bounds.

Blind spots: `used` lags behind, and other writers take the same room a moment later. Quotas of a storage
class are judged only where the claims name their class. Pods that are replaced because the same write
reshapes them are not counted. Services, secrets and the pooler are not counted: they do not grow with the
instances.

A repair of members that run gets only a warning: it asks for no pod that the StatefulSet does not ask for, or
it keeps the leader, and a refusal would cost members that are there. Where none runs, as at zero, nothing
excuses it.

Way out: ask for the number that fits, which the denial names, or have the quota raised:

    kubectl describe resourcequota -n NAMESPACE
    kubectl pgscale set NAME N -n NAMESPACE

Upstream: pkg/quota/v1/evaluator/core/pods.go and persistent_volume_claims.go in kubernetes/kubernetes.",
    reads: &[inputs::count, inputs::need, inputs::quotas],
    needs: reads::COUNT.and(&[Read::Pods, Read::Claims, Read::Template, Read::Quotas, Read::LimitRanges]),
    check: quota_headroom,
    #[cfg(any(test, feature = "testing"))]
    table: tests::quota_headroom,
};

fn quota_headroom(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let seen = match quotas(facts, facts.to()) {
        Ok(seen) => seen,
        Err(why) => return Outcome::Unknown(why),
    };
    let short: Vec<(&Room, Amount)> =
        seen.rooms.iter().filter_map(|room| Some((room, room.exceeded()?))).collect();
    if short.is_empty() && seen.unspecified.is_empty() {
        return match seen.unjudged.first() {
            None => Outcome::Pass,
            Some(_) => {
                Outcome::Unknown(format!("not every quota is clear: {}", seen.unjudged.join("; ")))
            }
        };
    }
    let to = facts.to();
    let message = if seen.unspecified.is_empty() {
        format!("no room for {to} instances: {}", limits(short.len()))
    } else {
        "no new pod can be made: a quota wants every container to say what it needs".to_owned()
    };
    let mut finding = Finding::deny(QUOTA_HEADROOM.id, message);
    for lack in &seen.unspecified {
        finding.evidence.push(unspecified(lack));
    }
    for (room, more) in short {
        let Room { resource, hard, used, after, .. } = room;
        let value = format!(
            "{} of {} used, {} needed: {} too many",
            used.readable(),
            hard.readable(),
            after.minus(*used).readable(),
            more.readable()
        );
        finding = finding.because(quota(&room.quota), resource, value);
    }
    let raise = "have the quota raised";
    let quota = kubectl(facts, &["describe", "resourcequota"]);
    Outcome::Found(finding.remedy(match most(facts) {
        _ if !seen.unspecified.is_empty() => {
            "set it in spec.resources and in every sidecar, or in a LimitRange's defaults".into()
        }
        Some(count) => ask_for(facts, "ask for fewer", count).or_to(format!("or {raise}"), quota),
        None => Remedy::to(raise, quota),
    }))
}

/// Returns the quota of this name.
pub(super) fn quota(name: &str) -> ObjectRef {
    ObjectRef::new(object_ref::Kind::ResourceQuota, name)
}

/// Returns which containers do not say what they need of a resource that a quota limits.
pub(super) fn unspecified(lack: &Unspecified) -> Evidence {
    let value = format!("limited, and not set for {}", lack.containers.join(", "));
    Evidence::new(quota(&lack.quota), &lack.resource, value)
}

fn limits(count: usize) -> String {
    if count == 1 {
        "a limit would be passed".to_owned()
    } else {
        format!("{count} limits would be passed")
    }
}

/// Returns the room that the quotas leave beside `count` members.
pub(super) fn quotas(facts: &Assessment<'_>, count: i64) -> Look<Quotas> {
    let quotas = match &facts.capacity.quotas {
        None => return Err("the quotas were not read".to_owned()),
        Some(Seen::Unreadable(why)) => return Err(format!("the quotas could not be read ({why})")),
        Some(Seen::Absent) => return Ok(Quotas::default()),
        Some(Seen::Known(quotas)) => quotas,
    };
    // Where no quota limits anything, the pods need not be known.
    if quotas.is_empty() {
        return Ok(Quotas::default());
    }
    let added = Added { pods: facts.pods_to_come(count)?, claims: facts.claims_to_come(count) };
    // The defaults of limit ranges count: without them the need of a member is unknown.
    if let Some(Seen::Unreadable(why)) = &facts.capacity.limit_ranges {
        return Err(format!("the limit ranges could not be read ({why})"));
    }
    Ok(facts.footprint()?.quotas(quotas, &added))
}

/// Returns the largest count between the present and the requested one for which the quotas have
/// room.
fn most(facts: &Assessment<'_>) -> Option<i64> {
    let fits = |count: i64| {
        quotas(facts, count).is_ok_and(|seen| {
            seen.unspecified.is_empty()
                && seen.unjudged.is_empty()
                && seen.rooms.iter().all(|room| room.exceeded().is_none())
        })
    };
    let (mut low, mut high) = (facts.from().unwrap_or(0).max(0), facts.to());
    let least = low;
    // More members never need less room.
    while high.saturating_sub(low) > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > least).then_some(low)
}

pub(super) const LIMIT_RANGE: Rule = Rule {
    id: RuleId::LIMIT_RANGE,
    title: "a LimitRange forbids the new pod or its volume claim",
    applies: Applies::on(&[UP.to_at_least(1), CREATE.to_at_least(1)]),
    default: "deny",
    kind: Kind::Room,
    page: "\
A LimitRange may set a minimum, a maximum and a ratio for every container, every pod and every volume claim
of a namespace. One that was tightened after the cluster was made forbids the next member, while those that
run stay as they are: the pod is never made, and the operator says Running.

Judged is one new member, after the LimitRange's own defaults have filled in what its containers do not say. A
claim is judged only where one will be made: a kept one stays as it is. A repair of members that run is only
warned of, as by quota-headroom. Where none runs, as at zero, nothing excuses it.

Signals: the namespace's LimitRanges; the pod and the claims as quota-headroom sees them.

Blind spots: a webhook that changes pods when they are made shows only in a pod that runs already.

Way out: bring the cluster's resources or volume within the LimitRange, or have the LimitRange changed:

    kubectl describe limitrange -n NAMESPACE
    kubectl edit postgresql NAME -n NAMESPACE

Upstream: plugin/pkg/admission/limitranger/admission.go in kubernetes/kubernetes.",
    reads: &[inputs::need, inputs::limit_ranges],
    needs: reads::COUNT.and(&[Read::Pods, Read::Claims, Read::Template, Read::LimitRanges]),
    check: limit_range,
    #[cfg(any(test, feature = "testing"))]
    table: tests::limit_range,
};

fn limit_range(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let ranges = match &facts.capacity.limit_ranges {
        None => return Outcome::Unknown("the limit ranges were not read".to_owned()),
        Some(Seen::Unreadable(why)) => return unread("the limit ranges", why),
        Some(Seen::Absent) => return Outcome::Pass,
        Some(Seen::Known(ranges)) => ranges,
    };
    if ranges.is_empty() {
        return Outcome::Pass;
    }
    let found = facts.footprint().and_then(|footprint| {
        // Where it is unknown whether a pod is made, a pod that would be forbidden is worth a
        // finding.
        let pod = facts.pods_to_come(facts.to()).map_or(true, |count| count > 0);
        let claim = facts.claims_to_come(facts.to()).map_or(true, |count| count > 0);
        violations(ranges, &footprint, pod, claim)
    });
    match found {
        Err(why) => Outcome::Unknown(why),
        Ok(found) if found.is_empty() => Outcome::Pass,
        Ok(found) => {
            let mut finding = Finding::deny(
                LIMIT_RANGE.id,
                "the new member would be forbidden: its pod or its volume claim is never made",
            );
            for violation in found {
                let range = ObjectRef::new(object_ref::Kind::LimitRange, &violation.range);
                finding = finding.because(range, &violation.field, violation.value);
            }
            Outcome::Found(finding.remedy(Remedy::to(
                "bring spec.resources, sidecars or spec.volume within it, or have it changed",
                kubectl(facts, &["describe", "limitrange"]),
            )))
        }
    }
}

pub(super) const TOO_FEW_NODES: Rule = Rule {
    id: RuleId::TOO_FEW_NODES,
    title: "members must be kept apart, and there are fewer fitting nodes than members",
    applies: Applies::on(&[UP]).noted("kubectl pgscale only"),
    default: "warn",
    kind: Kind::Advisory,
    page: "\
With `enable_pod_antiaffinity` the operator requires every member to run on another node (or in another
zone, by `pod_antiaffinity_topology_key`). A member for which there is none stays Pending for ever, and the
operator says Running.

A node fits when it is not cordoned, its taints are tolerated, and the pod's node selector and required node
affinity choose it. What is free on it is not counted. Only the command looks: listing every node is too much
for a review.

Signals: required pod anti-affinity, node affinity and tolerations of the StatefulSet's template; the nodes.

Blind spots: a cluster autoscaler may add nodes. Volumes that are bound to a node or a zone, topology spread
constraints and the free room of nodes are not looked at.

Way out: add nodes, or ask for as many members as there are places, which the finding names:

    kubectl pgscale set NAME N -n NAMESPACE

Upstream: podAffinity, pkg/cluster/k8sres.go.",
    reads: &[inputs::count, inputs::anti_affinity, inputs::nodes],
    needs: reads::COUNT.and(&[Read::Template, Read::Nodes]),
    check: too_few_nodes,
    #[cfg(any(test, feature = "testing"))]
    table: tests::too_few_nodes,
};

fn too_few_nodes(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let Some(nodes) = &facts.capacity.nodes else { return Outcome::NotApplicable };
    let nodes = match nodes {
        Seen::Known(nodes) => nodes.as_slice(),
        Seen::Absent => &[],
        Seen::Unreadable(why) => return unread("the nodes", why),
    };
    let template = match &facts.capacity.template {
        Seen::Known(template) => template,
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    let to = facts.to();
    let scarce = domains(template, nodes).into_iter().find_map(|domain| {
        let places = i64::try_from(domain.places?.len()).unwrap_or(i64::MAX);
        (places < to).then_some((domain.key, places))
    });
    let Some((key, places)) = scarce else { return Outcome::Pass };
    let pending = to.saturating_sub(places);
    Outcome::Found(
        Finding::warn(
            TOO_FEW_NODES.id,
            format!(
                "{to} members must be kept apart by {key}, and {places} fit: {pending} would stay Pending"
            ),
        )
        .because(facts.stateful_set_source(), "required pod anti-affinity by", key)
        .because(ObjectRef::all(object_ref::Kind::Node), "count", nodes.len())
        .because(ObjectRef::all(object_ref::Kind::Node), "fitting places", places)
        .remedy(if places > facts.from().unwrap_or(0) {
            Remedy::note("add nodes").and(ask_for(facts, "or ask for fewer", places))
        } else {
            "add nodes, or change the anti-affinity in the operator's settings".into()
        }),
    )
}

pub(super) const TOO_FEW_WAL_SENDERS: Rule = Rule {
    id: RuleId::TOO_FEW_WAL_SENDERS,
    title: "the leader has too few WAL senders or replication slots for the new members",
    applies: Applies::on(&[UP]),
    default: "deny; warn without spare for their base backups",
    kind: Kind::Live,
    page: "\
Every standby takes one of the leader's `max_wal_senders` and one of its `max_replication_slots`. One more
than there are never streams. A base backup takes up to two senders while it runs; new members copy at the
same time, because without a readiness probe the StatefulSet does not wait for one before it starts the
next.

Denies where the standbys alone need more than there are; warns where they fit and the base backups of the new
ones may have to wait for each other.

Signals: `max_wal_senders` and `max_replication_slots` in Patroni's configuration; 10 each if unset.

Blind spots: backup tools, logical replication, slots of members that are gone (kept for member_slots_ttl)
and standbys outside of this cluster take senders and slots as well, and are not counted. A standby that
replicates from another one takes that one's.

Way out: ask for as many members as fit, which the denial names, or raise the two parameters
(`spec.postgresql.parameters`). The operator then restarts PostgreSQL. Wait until it has:

    kubectl pgscale set NAME N -n NAMESPACE
    kubectl edit postgresql NAME -n NAMESPACE
    kubectl pgscale wait NAME -n NAMESPACE

Upstream: patroni/postgresql/config.py; scripts/configure_spilo.py; zalando/postgres-operator#807.",
    reads: &[inputs::count, inputs::senders],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Leader, Read::Configuration]),
    check: too_few_wal_senders,
    #[cfg(any(test, feature = "testing"))]
    table: tests::too_few_wal_senders,
};

fn too_few_wal_senders(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let (senders, slots) = match &facts.configuration {
        Seen::Known(configuration) => {
            (configuration.max_wal_senders, configuration.max_replication_slots)
        }
        // No member runs yet that could have written it.
        Seen::Absent => {
            let default = crate::patroni::Configuration::default();
            (default.max_wal_senders, default.max_replication_slots)
        }
        Seen::Unreadable(why) => return unread("Patroni's configuration", why),
    };
    let bound = |setting: u64| i64::try_from(setting).unwrap_or(i64::MAX);
    let (senders, slots) = (bound(senders), bound(slots));
    let standbys = facts.to().saturating_sub(1);
    let from = facts.from().unwrap_or(0).max(0);
    let copying = facts.to().saturating_sub(from.max(1));
    let streaming = standbys.saturating_sub(copying);
    let peak = streaming.saturating_add(copying.saturating_mul(OF_A_BASE_BACKUP));
    let source = facts.patroni_source("config");
    let because = |finding: Finding| {
        finding.because(source.clone(), "max_wal_senders", senders).because(
            source.clone(),
            "max_replication_slots",
            slots,
        )
    };
    let fits = senders.min(slots);
    let raise = "raise both in spec.postgresql.parameters, which restarts PostgreSQL";
    if standbys > fits {
        let most = fits.saturating_add(1);
        let remedy = if most > from {
            Remedy::note(raise).and(ask_for(facts, "or ask for fewer", most))
        } else {
            raise.into()
        };
        let message = format!(
            "{standbys} standbys need as many WAL senders and slots, the leader has {fits}"
        );
        let finding = because(Finding::deny(TOO_FEW_WAL_SENDERS.id, message));
        return Outcome::Found(finding.remedy(remedy));
    }
    if peak > senders {
        let message = format!(
            "up to {peak} WAL senders while {copying} new members are copied, the leader has {senders}: base \
             backups may fail and be tried again"
        );
        let finding = because(Finding::warn(TOO_FEW_WAL_SENDERS.id, message));
        return Outcome::Found(
            finding.remedy("add fewer members at a time, or raise max_wal_senders"),
        );
    }
    Outcome::Pass
}

/// Returns the remedy that asks for `count`, and waits for the new members where a cluster exists.
fn ask_for(facts: &Assessment<'_>, why: &str, count: i64) -> Remedy {
    if facts.direction() == Direction::Create {
        return set_to(facts, why, count);
    }
    let up = pgscale(facts, "up", &["--to", &count.to_string()]).asking_for(count);
    Remedy::to(why, up)
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests;
