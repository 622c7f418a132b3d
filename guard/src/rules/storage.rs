//! The fate of volumes and of the last backup, and the drain of nodes.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::duration::{age, exact};
use crate::evidence::Evidence;
use crate::facts::{Claim, DisruptionBudget, Health, Seen};
use crate::object_ref::{self, ObjectRef};
use crate::policy::Policies;
use crate::quantity::Amount;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::zero::{last_leader, took_the_lead};
use crate::rules::{
    Kind, NAMED, Rule, inputs, kubectl, members_unseen, status, still_down, unread,
};
use crate::verdict::{Finding, Outcome, Severity};

mod copies;

use copies::{copies_end, its_volume_ends, keep_volumes, may_hold_the_only_copy};

pub(super) const VOLUMES_DELETED: Rule = Rule {
    id: RuleId::VOLUMES_DELETED,
    title: "the volumes of the members that are removed are deleted, and their data with them",
    applies: Applies::on(&[CHANGE]).noted("if it removes members"),
    default: "deny if the last good copy is deleted (to 0, no healthy member is kept, the leader is removed, no kept volume lasts), else warn",
    kind: Kind::Bound,
    page: "\
With `persistent_volume_claim_retention_policy: when_scaled: delete` the operator has Kubernetes delete the
claim of every member that is removed. There is no way back to what was on it. Without that setting claims are
kept, and so is the room that they take.

Denied where the last good copy would be deleted: to zero (whatever a policy says of zero), where no healthy
member stays, and where the leader's own volume is deleted. Denied as well where every kept claim is on its
way out already: a claim that was deleted goes as soon as its pod stops. Patroni's key `initialize` outlives
the volumes, so a cluster whose volumes are all deleted never starts again by itself. No repair excuses that.

Signals: persistentVolumeClaimRetentionPolicy.whenScaled of the StatefulSet; the operator's setting, which
replaces it with the next update; the claims; the live answers of the kept members.

Blind spots: whether the storage behind a claim is deleted with it is up to its storage class.

Way out: these show what the StatefulSet does, and which claims are on their way out (Terminating):

    kubectl get statefulset NAME -n NAMESPACE -o jsonpath='{.spec.persistentVolumeClaimRetentionPolicy}'
    kubectl get pvc -n NAMESPACE -l cluster-name=NAME

To keep the volumes, set when_scaled of persistent_volume_claim_retention_policy to retain in the operator's
settings. Here these and the operator are called postgres-operator, in the operator's NAMESPACE. The operator
then changes the StatefulSet. It is over when the first command above says Retain, and the same change passes:

    kubectl edit configmap/postgres-operator -n NAMESPACE
    kubectl rollout restart deployment/postgres-operator -n NAMESPACE

A claim that is being deleted cannot be kept. Let its MEMBER be made again with a new volume, while a member
whose claim lasts leads (`kubectl pgscale switchover NAME --to MEMBER -n NAMESPACE`). It is over when it
streams:

    kubectl delete pod MEMBER -n NAMESPACE
    kubectl pgscale wait NAME -n NAMESPACE

Upstream: generateStatefulSet, pkg/cluster/k8sres.go; bootstrap, patroni/ha.py.",
    reads: &[inputs::retention, inputs::claims, inputs::leader, inputs::answers],
    needs: reads::HEALTH.and(&[Read::StatefulSet, Read::Claims]),
    check: volumes_deleted,
    #[cfg(any(test, feature = "testing"))]
    table: tests::volumes_deleted,
};

fn volumes_deleted(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    // More pods may live than the object asks for. Then any write of the count makes the operator
    // delete them.
    let surplus = facts.condemned().any(|member| !member.pod.terminating);
    if facts.direction() != Direction::Down && !surplus {
        return Outcome::NotApplicable;
    }
    let mut says = Vec::new();
    match &facts.stateful_set {
        Seen::Known(set) if set.deletes_volumes => {
            let field = "spec.persistentVolumeClaimRetentionPolicy.whenScaled";
            says.push(Evidence::new(facts.stateful_set_source(), field, "Delete"));
        }
        Seen::Known(_) | Seen::Absent => {}
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    }
    if let Some(operator) = facts.operator.known().filter(|it| it.settings.deletes_volumes) {
        let field = "persistent_volume_claim_retention_policy.when_scaled";
        says.push(Evidence::new(operator.source.clone(), field, "delete"));
    }
    if let Some(finding) = copies_end(facts) {
        return Outcome::Found(finding);
    }
    let to = facts.to();
    if says.is_empty() {
        // At zero no member has a copy: only claims that last do.
        let why = facts.claims.unreadable().filter(|_| to == 0);
        return why.map_or(Outcome::Pass, |why| unread("whether a volume lasts", why));
    }
    let which = match &facts.claims {
        Seen::Known(claims) => {
            let going: Vec<&Claim> = claims.iter().filter(|claim| claim.ordinal >= to).collect();
            if going.is_empty() {
                return Outcome::Pass;
            }
            format!("of the members that are removed, with all data ({})", names(&going))
        }
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(_) => format!("of the members from ordinal {to} on, with all data"),
    };
    let lasting = facts.survivors().filter(|member| !its_volume_ends(facts, member));
    let copies: Vec<Health> = lasting.map(|member| facts.health(member)).collect();
    let unknown = copies.iter().find_map(|health| match health {
        Health::Unknown(why) => Some(why),
        Health::Healthy | Health::Unhealthy(_) => None,
    });
    let message = if to == 0 {
        format!("no member could ever start again: this shrink deletes the volumes {which}")
    } else if facts.leader_condemned() {
        format!("the leader's data would be lost: this shrink deletes the volumes {which}")
    } else if copies.contains(&Health::Healthy) {
        format!("this shrink deletes the volumes {which}")
    } else if let Some(why) = unknown {
        return Outcome::Unknown(format!(
            "this shrink deletes volumes, and whether a good copy is kept is not known ({why})"
        ));
    } else {
        format!("no healthy member is kept, and this shrink deletes the volumes {which}")
    };
    let last_copy = to == 0 || facts.leader_condemned() || !copies.contains(&Health::Healthy);
    let severity = if last_copy { Severity::Deny } else { Severity::Warn };
    let mut finding = Finding::new(VOLUMES_DELETED.id, severity, message)
        .if_leader_goes(to > 0 && facts.leader_condemned());
    finding.evidence = says;
    Outcome::Found(finding.remedy(keep_volumes(facts)))
}

pub(super) const STALE_VOLUME: Rule = Rule {
    id: RuleId::STALE_VOLUME,
    title: "a volume of an earlier life will be attached to a new member",
    // At zero these volumes are the cluster: return-from-zero judges them.
    applies: Applies::on(&[UP.after_some()]),
    default: "warn; deny where no member leads, unless the last leader comes back",
    kind: Kind::Advisory,
    page: "\
A claim that was kept when its member went is attached again when that ordinal comes back. Its data is as
old as the day it left: of an older timeline, perhaps of an older major version. Patroni rewinds it or
copies everything again, where it can; where it cannot, the member never streams.

Without a leader the first member that starts may take the lead with older data, so growth is refused then. It
is not where the member that led last comes back with its volume: it holds the newest data, and without it the
others may be too far behind it to take over at all.

Signals: volume claims of ordinals that come, and that have no pod now; their creation time; whether a healthy
leader holds the lock; without one, the member that led last (the lock, or `history` in `<cluster>-config`).

Blind spots: when the member left is not recorded anywhere; the claim's creation time says only how old it may
be.

Way out: nothing, if the member is seen to stream (`kubectl pgscale up NAME` waits for that). Where the leader
moved after the claim was made, its member may have led before, and the volume may hold rows that no other
member has: copy or snapshot it first. Else, while a leader is well, delete the claims that the finding names
before, and the member starts from a fresh copy.
Without one, they may hold the only copy there is; on the way back from zero they do (return-from-zero).

Upstream: persistent_volume_claim_retention_policy, docs/reference/operator_parameters.md;
zalando/postgres-operator#1451, #2957.",
    reads: &[inputs::claims, inputs::pods, inputs::leader, inputs::last_leader],
    needs: reads::COUNT.and(&[Read::Pods, Read::Answers, Read::Leader, Read::Claims, Read::LastLeader, Read::StatefulSet]),
    check: stale_volume,
    #[cfg(any(test, feature = "testing"))]
    table: tests::stale_volume,
};

fn stale_volume(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let from = facts.from().unwrap_or(0);
    let claims = match &facts.claims {
        Seen::Known(claims) => claims,
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return claims_unseen(why),
    };
    let old: Vec<&Claim> = claims
        .iter()
        .filter(|claim| (from..facts.to()).contains(&claim.ordinal) && !claim.terminating)
        .filter(|claim| facts.member(&facts.pod_name(claim.ordinal)).is_none())
        .collect();
    if old.is_empty() {
        return Outcome::Pass;
    }
    // Without sight of the pods, a kept claim looks like one that is in use.
    if facts.members.unreadable().is_some() {
        return members_unseen(facts);
    }
    let leaderless = facts.leader.unreadable().is_none() && facts.leader_name().is_none();
    let last = last_leader(facts).ok().flatten();
    let returns = last.filter(|last| old.iter().any(|claim| last.owns(claim)));
    let mut finding = if let Some(last) = returns.filter(|_| leaderless) {
        // Without it the others may lag too far behind it, or not be in its set of synchronous
        // standbys: then none of them takes over (`_is_healthiest_node`, patroni/ha.py).
        let message = format!(
            "no member leads, and {}, which led last, comes back with its volume: {} is kept from an earlier life",
            last.name,
            names(&old)
        );
        Finding::warn(STALE_VOLUME.id, message).because_of(last.evidence)
    } else if leaderless {
        // Patroni lets the first member that starts take the lead while its lag is small enough or
        // not known.
        let message = format!(
            "no member leads, and a new member may take the lead with older data: {} is kept from an earlier life",
            names(&old)
        );
        Finding::deny(STALE_VOLUME.id, message).unexcused()
    } else {
        let message = format!("kept from an earlier life, and attached again: {}", names(&old));
        Finding::warn(STALE_VOLUME.id, message)
    };
    for claim in old.iter().take(NAMED) {
        let made = match claim.created {
            Some(created) => format!("{} ago", age(created, facts.now)),
            None => "not known".to_owned(),
        };
        finding = finding.because(ObjectRef::claim(&claim.name), "created", made);
    }
    let listed = old.iter().take(NAMED);
    let listed: Vec<&str> = listed.map(|claim| claim.name.as_str()).collect();
    // Without a leader to copy from, a kept volume may hold the newest rows, or the only ones.
    if !facts.leader_can_be_copied() {
        let why = "keep them, no leader is well enough to be copied from";
        return Outcome::Found(finding.remedy(Remedy::to(why, status(facts))));
    }
    let led = old.iter().find(|claim| may_hold_the_only_copy(facts, claim));
    if let Some(claim) = led {
        if let Some(last) = facts.last_leader.known() {
            finding = finding.because_of(took_the_lead(facts, last));
        }
        return Outcome::Found(finding.remedy(Remedy::to(
            format!(
                "copy or snapshot the volume of {} first: its member may have led before the last failover, and \
                 Patroni rewinds or overwrites what no other member has. The volume",
                claim.name
            ),
            kubectl(facts, &["describe", "pvc", &claim.name]),
        )));
    }
    let delete = kubectl(facts, &[&["delete", "pvc"], &listed[..]].concat());
    Outcome::Found(finding.remedy(Remedy::to("for a fresh copy, delete first", delete)))
}

pub(super) const VOLUME_RESIZING: Rule = Rule {
    id: RuleId::VOLUME_RESIZING,
    title: "a volume is being resized",
    applies: Applies::on(&[DOWN, UP]),
    default: "warn",
    kind: Kind::Advisory,
    page: "\
A resize that is not finished, or that the storage cannot do, leaves volumes of different sizes. A member that
comes gets the new size, one that stays may run out of room with the old one.

Signals: conditions Resizing and FileSystemResizePending of the members' claims; a bound claim whose
capacity is below its request.

Blind spots: in the modes ebs and off of storage_resize_mode no claim changes. What a claim shows while it is
resized is up to the storage driver.

Way out: wait until the claim shows the size it asks for (`kubectl get pvc -n NAMESPACE`).

Upstream: syncVolumes, pkg/cluster/volumes.go.",
    reads: &[inputs::claims],
    needs: reads::COUNT.and(&[Read::Claims]),
    check: volume_resizing,
    #[cfg(any(test, feature = "testing"))]
    table: tests::volume_resizing,
};

fn volume_resizing(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let claims = match &facts.claims {
        Seen::Known(claims) => claims,
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return claims_unseen(why),
    };
    let members = facts.to().max(facts.from().unwrap_or(0));
    let open: Vec<(&Claim, Evidence)> = claims
        .iter()
        .filter(|claim| claim.ordinal < members)
        .filter_map(|claim| Some((claim, resizing(claim)?)))
        .collect();
    if open.is_empty() {
        return Outcome::Pass;
    }
    let named: Vec<&Claim> = open.iter().map(|(claim, _)| *claim).collect();
    let message = format!("not resized yet: {}", names(&named));
    let mut finding = Finding::warn(VOLUME_RESIZING.id, message);
    finding.evidence.extend(open.into_iter().take(NAMED).map(|(_, evidence)| evidence));
    Outcome::Found(finding.remedy(Remedy::to("wait for it", kubectl(facts, &["get", "pvc"]))))
}

/// Returns the sign by which a claim shows that it is being resized.
fn resizing(claim: &Claim) -> Option<Evidence> {
    let evidence = |field, value| Evidence::new(ObjectRef::claim(&claim.name), field, value);
    if let Some(condition) = &claim.resizing {
        return Some(evidence("condition", condition.clone()));
    }
    let (has, wants) = (claim.capacity?, claim.requested?);
    (has < wants)
        .then(|| evidence("capacity", format!("{} of the requested {}", size(has), size(wants))))
}

/// Returns bytes as manifests spell them.
pub(super) fn size(bytes: u64) -> String {
    Amount::whole(i64::try_from(bytes).unwrap_or(i64::MAX)).readable()
}

pub(super) const PDB_BLOCKS_DRAIN: Rule = Rule {
    id: RuleId::PDB_BLOCKS_DRAIN,
    title: "a PodDisruptionBudget would keep the last member's node from being drained",
    applies: Applies::on(&[DOWN.to_exactly(1)]).noted("kubectl pgscale only"),
    default: "warn",
    kind: Kind::Advisory,
    page: "\
The operator's PodDisruptionBudget wants one leader to be available. With several members a drain is let
through once the leader has moved; with one there is nowhere to move to, and every drain of its node hangs
until the pod or the budget is deleted by hand.

Signals: PodDisruptionBudgets of the namespace that select the leader's pod, with minAvailable or
maxUnavailable applied to what is left.

Blind spots: for a budget that counts other pods as well, theirs are taken as they were when it last counted.

Way out: keep two members, or set `enable_pod_disruption_budget: false`, or be ready to delete the pod by hand
when the node is drained.

    kubectl pgscale down NAME --to 2 -n NAMESPACE

Upstream: generatePrimaryPodDisruptionBudget, pkg/cluster/k8sres.go; zalando/postgres-operator#2987, #2988.",
    reads: &[inputs::count, inputs::disruption_budgets],
    needs: reads::COUNT.and(&[Read::Pods, Read::DisruptionBudgets]),
    check: pdb_blocks_drain,
    #[cfg(any(test, feature = "testing"))]
    table: tests::pdb_blocks_drain,
};

fn pdb_blocks_drain(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let Some(budgets) = &facts.capacity.disruption_budgets else { return Outcome::NotApplicable };
    let budgets = match budgets {
        Seen::Known(budgets) => budgets,
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return unread("the disruption budgets", why),
    };
    let members = i64::try_from(facts.all_members().len()).unwrap_or(i64::MAX);
    let mut blocking = budgets.iter().filter_map(|it| Some((it, blocks(it, members)?))).peekable();
    if blocking.peek().is_none() {
        return Outcome::Pass;
    }
    let mut finding = Finding::warn(
        PDB_BLOCKS_DRAIN.id,
        "with one member no node it runs on can be drained: a disruption budget forbids to evict it",
    );
    for (budget, (field, value)) in blocking {
        let object = ObjectRef::new(object_ref::Kind::PodDisruptionBudget, &budget.name);
        finding = finding.because(object, field, value);
    }
    let delete = kubectl(facts, &["delete", "pod", &facts.pod_name(0)]);
    let by_hand = "or delete the pod by hand when its node is drained";
    Outcome::Found(finding.remedy(match still_down(facts, 2) {
        Some(command) => Remedy::to("keep 2 members", command).or_to(by_hand, delete),
        None => Remedy::note("keep 2 members").or_to(by_hand, delete),
    }))
}

/// Returns the part of the budget that forbids an eviction of the last of `members`
/// (`getExpectedScale`, pkg/controller/disruption).
fn blocks(budget: &DisruptionBudget, members: i64) -> Option<(&'static str, String)> {
    let own = if budget.leader_only { 1 } else { members };
    let others = budget.expected.map_or(0, |expected| expected.saturating_sub(own).max(0));
    let left = others.saturating_add(1);
    let (desired, says) = match (&budget.min_available, &budget.max_unavailable) {
        (Some(least), _) => (scaled(least, left)?, ("spec.minAvailable", shown(least))),
        (None, Some(most)) => {
            (left.saturating_sub(scaled(most, left)?), ("spec.maxUnavailable", shown(most)))
        }
        (None, None) => return None,
    };
    (desired >= left).then_some(says)
}

/// Returns the share of `pods`, rounded up as Kubernetes does.
fn scaled(value: &IntOrString, pods: i64) -> Option<i64> {
    match value {
        IntOrString::Int(count) => Some(i64::from(*count)),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            Some(percent.checked_mul(pods)?.checked_add(99)?.div_euclid(100))
        }
    }
}

pub(super) fn shown(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(count) => count.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

pub(super) const NO_RECENT_BACKUP: Rule = Rule {
    id: RuleId::NO_RECENT_BACKUP,
    title: "the last logical backup is older than the policy allows",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "off; deny where a policy says backup.maxAge",
    kind: Kind::Live,
    page: "\
Fewer members are fewer copies. A policy with `backup.maxAge` wants a backup first that is younger than that.

Signals: `status.lastSuccessfulTime` of the CronJob that the operator makes for a cluster with
`enableLogicalBackup`.

Blind spots: archives of the write-ahead log and base backups outside of Kubernetes (WAL-G, WAL-E, pgBackRest)
are not visible here; a job that ended well may have written nothing worth restoring.

Way out: run the job now (`kubectl create job NAME --from=cronjob/NAME -n NAMESPACE`), or enable it; or have
the policy changed.

Upstream: generateLogicalBackupJob, pkg/cluster/k8sres.go.",
    reads: &[inputs::backup_age, inputs::backup],
    needs: reads::COUNT.and(&[Read::Policies, Read::Backup]),
    check: no_recent_backup,
    #[cfg(any(test, feature = "testing"))]
    table: tests::no_recent_backup,
};

fn no_recent_backup(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let Some(limit) = &policies.backup_max_age else { return Outcome::NotApplicable };
    let found = |message: String| {
        Finding::deny(NO_RECENT_BACKUP.id, message)
            .because(limit.source.clone(), "backup.maxAge", exact(limit.value.unsigned_abs()))
            .in_mode(limit.mode)
    };
    let backup = match &facts.capacity.backup {
        None => return Outcome::Unknown("the backup job was not read".to_owned()),
        Some(Seen::Unreadable(why)) => return unread("the backup job", why),
        Some(Seen::Absent) => {
            return Outcome::Found(
                found(
                    "there is no logical backup job; archives of the log are not visible here"
                        .into(),
                )
                .remedy("set enableLogicalBackup: true, and let it run once"),
            );
        }
        Some(Seen::Known(backup)) => backup,
    };
    let since = |time: Timestamp| facts.now.duration_since(time);
    let old = match backup.succeeded {
        Some(time) if since(time) <= limit.value => return Outcome::Pass,
        Some(time) => format!("{} old", age(time, facts.now)),
        None => "not there: the job never succeeded".to_owned(),
    };
    let name = &backup.name;
    let job = || ObjectRef::new(object_ref::Kind::CronJob, name);
    let last = backup.succeeded.map_or("never".to_owned(), |time| time.to_string());
    let mut finding = found(format!(
        "the last logical backup is {old}; archives of the log are not visible here"
    ))
    .because(job(), "status.lastSuccessfulTime", last);
    if backup.suspended {
        finding = finding.because(job(), "spec.suspend", true);
    }
    Outcome::Found(finding.remedy(kubectl(
        facts,
        &["create", "job", &format!("{name}-now"), &format!("--from=cronjob/{name}")],
    )))
}

fn claims_unseen(why: &str) -> Outcome {
    Outcome::Unknown(format!("the volume claims could not be listed ({why})"))
}

fn names(claims: &[&Claim]) -> String {
    let mut names: Vec<String> =
        claims.iter().take(NAMED).map(|claim| claim.name.clone()).collect();
    if claims.len() > NAMED {
        names.push(format!("and {} more", claims.len() - NAMED));
    }
    names.join(", ")
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
