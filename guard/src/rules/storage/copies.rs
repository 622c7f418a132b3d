//! Volumes as copies of the data: those that are on their way out, and those that may hold what no
//! member has.

use crate::assessment::Assessment;
use crate::facts::{Claim, Facts, Health, Member, Seen};
use crate::object_ref::ObjectRef;
use crate::remedy::Remedy;
use crate::rules::storage::{VOLUMES_DELETED, names};
use crate::rules::{NAMED, kubectl, pgscale, status};
use crate::verdict::Finding;

/// Returns whether the claim of `member` is being deleted: it goes as soon as the pod does.
pub(super) fn its_volume_ends(facts: &Facts, member: &Member) -> bool {
    let claims = facts.claims.known().into_iter().flatten();
    claims.filter(|claim| claim.ordinal == member.ordinal).any(|claim| claim.terminating)
}

/// Returns the finding where this change leaves no volume, or no leader's volume, that lasts.
///
/// A claim that is being deleted stays while a pod mounts it (`pvc-protection` of Kubernetes). With
/// the next restart of that pod its data is gone.
pub(super) fn copies_end(facts: &Assessment<'_>) -> Option<Finding> {
    let claims = facts.claims.known()?;
    let to = facts.to();
    // At zero nothing mounts the kept volumes: those of every ordinal are meant.
    let kept: Vec<&Member> =
        if to == 0 { facts.all_members().iter().collect() } else { facts.survivors().collect() };
    let ends = |member: &&&Member| its_volume_ends(facts, member);
    let ending: Vec<&Claim> = claims
        .iter()
        .filter(|claim| claim.terminating && kept.iter().any(|it| it.ordinal == claim.ordinal))
        .collect();
    let leader = facts.leader_member().filter(|_| to == 0);
    let of_leader = leader.is_some_and(|leader| its_volume_ends(facts, leader));
    // It stops last, as the leader: what is written until then is on its volume alone.
    let first = facts.pod_name(0);
    let of_last = to == 0 && facts.member(&first).is_some_and(|it| its_volume_ends(facts, it));
    let all = !kept.is_empty() && kept.iter().filter(ends).count() == kept.len();
    if ending.is_empty() || !(all || of_leader || of_last) {
        return None;
    }
    let message = if all {
        format!("no volume that lasts is kept: {} is being deleted", names(&ending))
    } else if of_leader {
        format!("the leader's data would be lost: {} is being deleted", names(&ending))
    } else {
        format!(
            "{first} stops last, and what is written until then would be lost: {} is being deleted",
            names(&ending)
        )
    };
    let mut finding = Finding::deny(VOLUMES_DELETED.id, message);
    for claim in ending.iter().take(NAMED) {
        let field = "metadata.deletionTimestamp";
        finding = finding.because(ObjectRef::claim(&claim.name), field, "set");
    }
    Some(finding.remedy(fresh_volume(facts, &kept)))
}

/// Returns the remedy that makes the operator keep volumes. The operator reads its settings when it
/// starts, and then changes the StatefulSet.
pub(super) fn keep_volumes(facts: &Assessment<'_>) -> Remedy {
    let settings = facts.operator.known().map(|operator| operator.source.to_string());
    let path = "jsonpath={.spec.persistentVolumeClaimRetentionPolicy.whenScaled}";
    Remedy::note(format!(
        "to keep them: persistent_volume_claim_retention_policy when_scaled: retain in {}, restart the operator",
        settings.as_deref().unwrap_or("the operator's configuration")
    ))
    .or_to(
        "shrink only once this says Retain",
        kubectl(facts, &["get", "statefulset", &facts.change.new.name, "-o", path]),
    )
}

/// Returns the remedy that gives the members, whose volumes are being deleted, new ones while another
/// member has the data.
fn fresh_volume(facts: &Assessment<'_>, ending: &[&Member]) -> Remedy {
    let lasting = facts
        .all_members()
        .iter()
        .find(|member| !its_volume_ends(facts, member) && facts.fitness(member) == Health::Healthy);
    let ends = ending.iter().find(|member| its_volume_ends(facts, member));
    let (Some(lasting), Some(ends)) = (lasting, ends) else {
        return Remedy::to(
            "back the data up before any pod stops, no member has a volume that lasts; the members",
            status(facts),
        );
    };
    let name = ends.name.as_str();
    let again = format!("let {name} be made again with a new volume, and shrink when it streams");
    let delete = kubectl(facts, &["delete", "pod", name]);
    if facts.leader_name() == Some(name) {
        let to = pgscale(facts, "switchover", &["--to", &lasting.name]);
        return Remedy::to("move the leader to a member whose volume lasts", to)
            .or_to(again, delete);
    }
    Remedy::to(again, delete)
}

/// Returns whether the member of `claim` may have led before the present leader, so that its volume
/// may hold rows that no other member has.
///
/// The history names the new leader of each row. It does not name the leader of the first timeline.
pub(super) fn may_hold_the_only_copy(facts: &Facts, claim: &Claim) -> bool {
    let never_moved = matches!(facts.last_leader, Seen::Absent);
    let acquired = facts.leader.known().and_then(|lock| lock.acquired);
    let made_since = claim.created.zip(acquired).is_some_and(|(made, since)| made > since);
    !never_moved && !made_since
}
