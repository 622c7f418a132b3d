//! The way back from zero: the volumes that are mounted must hold the newest data.

use serde_json::Value;

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Claim, Seen};
use crate::object_ref::{self, ObjectRef};
use crate::patroni::Store;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CREATE, EXISTING};
use crate::rules::reads::{self, Read};
use crate::rules::recreation::{Volumes, volumes};
use crate::rules::{Kind, Rule, inputs, kubectl, let_pass, members_unseen, set_to, status, unread};
use crate::verdict::{Finding, Outcome, Severity};

mod first_to_start;
mod last_leader;

use first_to_start::first_waits_for_ever;
use last_leader::last_leader_left_out;
pub(super) use last_leader::{last_leader, took_the_lead};

pub(super) const RETURN_FROM_ZERO: Rule = Rule {
    id: RuleId::RETURN_FROM_ZERO,
    title: "the volume with the newest data would not be mounted, or no volume is left to start from",
    applies: Applies::on(&[EXISTING.after_zero().to_at_least(1), CREATE.to_at_least(1)]).noted("create only over what is left of a cluster"),
    default: "deny; warn where every kept volume is mounted, or where the last leader's is gone or all are deleted",
    kind: Kind::Bound,
    page: "\
At zero instances only the volumes are left, and the one of the last leader holds the newest data. A new
count that leaves its ordinal out starts the cluster from older data: what was written after the others had
stopped is missing, and the timelines part when the leader's volume is mounted later. The same holds for a
CREATE over the volumes or the pods of a cluster that was deleted, which is what `kubectl replace --force`
and Argo CD's Replace=true do. Where zero was asked for, members still run and none leads, a count that leaves
a running one out is denied too: it may take the lead, and acknowledge rows, before it is removed.

Denied where the last leader's ordinal is left out, and where it is not known who led last and any kept
volume is left out. Denied as well where no volume is left to start from and Patroni's key `initialize` is
set: members without data then wait for a leader for ever. Denied where the same write mounts another directory
of the volumes (volume.subPath).

Where every kept volume is mounted and another than ordinal 0 led last, ordinal 0 starts first and is alone. It
takes the lead unless it lacks more than maximum_lag_on_failover, and what it lacks is lost. The finding prints
the edit that sets that to 0 before the change, and the edit back. With synchronous replication (not quorum) a
synchronous standby lacks nothing, and no other member may lead.

With a readiness probe (enable_readiness_probe) and OrderedReady, the StatefulSet starts the next member only
once the one before leads or streams. If ordinal 0 has no volume, or may not lead, nothing ever starts: that is
denied.

Signals: the holder of the leader lock, valid or not; where it was released, the last row of Patroni's
history (annotation `history` of `<cluster>-config`), whose fifth column names the member that took over
then; the volume claims, by their names; the pods that are left; the key `initialize`; the configuration and
the synchronous standbys; the probe of the StatefulSet's template. No repair excuses
this rule: there are no members to judge, but there is data to lose.

Warned of where a cluster of this name was deleted just now and its volumes go with it, by the operator's
enable_persistent_volume_claim_deletion, which is true unless it is set, or by the retention policy.

Blind spots: the history is written by the new leader, seconds after it took over. A volume that was deleted
is not there to be left out: that is warned of. How far ordinal 0 is behind is on its volume alone. A member
that may be created from a backup (no_leader) does not wait for a leader. In etcd nothing says who led last:
a count that mounts every kept volume is warned of.

Where the webhook gets no verdict in time, it refuses the way back from zero, whatever growFailurePolicy says.
Where no webhook answers, that policy of the chart decides.

Way out: these show the member that led last, what else was read, and the volumes that are kept:

    kubectl pgscale plan NAME --to N -n NAMESPACE -o wide
    kubectl get pvc -n NAMESPACE -l cluster-name=NAME

A count that mounts the last leader's volume, which is its ordinal and one more, passes. Shrink afterwards, when
every member has caught up:

    kubectl pgscale set NAME N -n NAMESPACE
    kubectl pgscale verify NAME -n NAMESPACE
    kubectl pgscale down NAME --to N -n NAMESPACE

Where a probe holds up every member, set enable_readiness_probe to false in the operator's settings. Here these
and the operator are called postgres-operator, in the operator's NAMESPACE. Go on once the last command prints
nothing:

    kubectl edit configmap/postgres-operator -n NAMESPACE
    kubectl rollout restart deployment/postgres-operator -n NAMESPACE
    kubectl get statefulset NAME -n NAMESPACE -o jsonpath='{.spec.template.spec.containers[*].readinessProbe}'

Without any volume, restore the cluster from a backup. Where an empty cluster is wanted, remove the key
(endpoints/ where Patroni keeps its state there):

    kubectl annotate configmap/NAME-config initialize- -n NAMESPACE

Where what is left does not say who led last, compare the volumes (pg_controldata, Latest checkpoint location).
Then mount all of them, or allow the one change:

    kubectl pgscale override NAME --to N --rules return-from-zero --reason TEXT -n NAMESPACE

It is over when `kubectl pgscale verify NAME -n NAMESPACE` finds nothing wrong.

Upstream: history in patroni/dcs/kubernetes.py and patroni/ha.py; bootstrap, patroni/ha.py; #1816 of
zalando/postgres-operator.",
    reads: &[
        inputs::count,
        inputs::pods,
        inputs::leader,
        inputs::last_leader,
        inputs::claims,
        inputs::initialize,
        inputs::volumes_of_deleted,
        inputs::pod_management,
        inputs::lag,
        inputs::synchrony,
        inputs::sync_standbys,
    ],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader, Read::Claims, Read::LastLeader, Read::Initialize, Read::Configuration, Read::Sync]),
    check: return_from_zero,
    #[cfg(any(test, feature = "testing"))]
    table: tests::return_from_zero,
};

fn return_from_zero(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let outcome = judged(facts);
    // If no volume is left, no member ever starts while Patroni knows the cluster.
    if outcome == Outcome::Pass
        && facts.all_members().is_empty()
        && let (Some(why), Seen::Known(_)) = (facts.claims.unreadable(), &facts.initialize)
    {
        return unread("whether a volume is left", why);
    }
    let Outcome::Unknown(why) = &outcome else { return outcome };
    if !ran_before(facts) {
        return outcome;
    }
    // Growth on an unknown fact passes elsewhere. Here it may found the cluster on older data.
    let finding = Finding::deny(RETURN_FROM_ZERO.id, format!("cannot be judged: {why}"));
    let finding = inputs::count(facts, policies).into_iter().fold(finding, Finding::because_of);
    let remedy = past_etcd(facts).unwrap_or_else(|| {
        Remedy::to("ask again once it can be read; what is seen", status(facts))
    });
    Outcome::Found(finding.unexcused().remedy(remedy))
}

/// Returns whether Patroni keeps its state in an etcd of its own, which is not read.
fn kept_in_etcd(facts: &Assessment<'_>) -> bool {
    let set = facts.stateful_set.known().and_then(|set| set.store);
    set.or_else(|| facts.operator.known()?.store()) == Some(Store::Etcd)
}

/// Returns the remedy where Patroni keeps its state in etcd, which never becomes readable.
fn past_etcd(facts: &Assessment<'_>) -> Option<Remedy> {
    kept_in_etcd(facts).then(|| {
        let note = "Patroni keeps its state in etcd, which is not read. Look yourself who led last (etcdctl, key history) \
                    and what each volume holds (pg_controldata)";
        Remedy::note(note)
            .and(let_pass(facts, &[RETURN_FROM_ZERO.id.as_str()], "the volumes were looked at"))
    })
}

/// Returns whether something of the cluster is known to be left.
fn ran_before(facts: &Assessment<'_>) -> bool {
    facts.from() == Some(0)
        || facts.initialize.known().is_some()
        || facts.leader.known().is_some()
        || facts.last_leader.known().is_some()
        || facts.stateful_set.known().is_some()
        || facts.members.known().is_some_and(|members| !members.is_empty())
        || facts.claims.known().is_some_and(|claims| !claims.is_empty())
}

fn judged(facts: &Assessment<'_>) -> Outcome {
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let kept = |claims: &[Claim]| -> Vec<Claim> {
        claims.iter().filter(|claim| !claim.terminating).cloned().collect()
    };
    // A claim that is being deleted disappears as soon as no pod mounts it.
    let claims = match &facts.claims {
        Seen::Known(claims) if members.is_empty() => Some(kept(claims)),
        Seen::Known(claims) => Some(claims.clone()),
        Seen::Absent => Some(Vec::new()),
        Seen::Unreadable(_) => None,
    };
    let claims = claims.as_deref();
    if members.is_empty() && claims.is_some_and(<[Claim]>::is_empty) {
        return without_volumes(facts);
    }
    if let Some(outcome) = data_moves(facts, claims) {
        return outcome;
    }
    if let Some(outcome) = founds_anew(facts, claims) {
        return outcome;
    }
    if let Some(outcome) = first_waits_for_ever(facts, claims) {
        return outcome;
    }
    let mut outcome = last_leader_left_out(facts, claims);
    if outcome == Outcome::Pass
        && facts.from().is_none()
        && let Volumes::Deleted { by, .. } = volumes(facts)
    {
        outcome = Outcome::Found(
            Finding::warn(
                RETURN_FROM_ZERO.id,
                "the volumes of the cluster that had this name are deleted: this one starts empty",
            )
            .because_of(by)
            .remedy("nothing, if that is meant; else restore it from a backup"),
        );
    }
    let starts = |claims: &[Claim]| claims.iter().any(|claim| claim.ordinal < facts.to());
    let denies = matches!(&outcome, Outcome::Found(finding) if finding.severity == Severity::Deny);
    // The kept volumes are not mounted, and a member without data never starts by itself.
    if !denies && members.is_empty() && claims.is_some_and(|claims| !starts(claims)) {
        let without = without_volumes(facts);
        return if without == Outcome::Pass { outcome } else { without };
    }
    outcome
}

/// Judges that the same write moves the data directory within the volumes.
///
/// Every member would start in an empty directory (`generateVolumeMounts` of the operator mounts
/// `volume.subPath` of the claim, pkg/cluster/k8sres.go).
fn data_moves(facts: &Assessment<'_>, claims: Option<&[Claim]>) -> Option<Outcome> {
    let old = facts.change.old.as_ref().filter(|_| facts.from() == Some(0))?;
    if claims.is_some_and(<[Claim]>::is_empty) {
        return None;
    }
    let mut finding: Option<Finding> = None;
    for key in ["subPath", "isSubPathExpr"] {
        let path = format!("/volume/{key}");
        let set = |value: &&Value| !value.is_null() && **value != false && **value != "";
        let was = old.spec.pointer(&path).filter(set);
        let is = facts.change.new.spec.pointer(&path).filter(set);
        if was == is {
            continue;
        }
        let shown = |value: Option<&Value>| {
            let text = value.map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
            text.unwrap_or_else(|| "unset".to_owned())
        };
        finding = Some(
            finding
                .unwrap_or_else(|| {
                    Finding::deny(
                        RETURN_FROM_ZERO.id,
                        "the same write mounts another directory of the volumes: every member would start without data",
                    )
                })
                .because(
                    facts.postgresql_source(),
                    &format!("volume.{key}"),
                    format_args!("{} to {}", shown(was), shown(is)),
                ),
        );
    }
    let only = set_to(facts, "start it from its data: write the count alone", facts.to());
    Some(Outcome::Found(finding?.remedy(only)))
}

/// Judges that ordinal 0 starts without data although others have kept theirs.
///
/// Where Patroni knows no cluster, ordinal 0 founds an empty one, and the others end with "system ID
/// mismatch" (`bootstrap`, patroni/ha.py).
fn founds_anew(facts: &Assessment<'_>, claims: Option<&[Claim]>) -> Option<Outcome> {
    let claims = claims.filter(|claims| !claims.is_empty())?;
    let first = facts.pod_name(0);
    if claims.iter().any(|claim| claim.ordinal == 0) || facts.member(&first).is_some() {
        return None;
    }
    match &facts.initialize {
        Seen::Known(_) => None,
        Seen::Unreadable(why) => Some(unread("whether Patroni knows a cluster of this name", why)),
        Seen::Absent => {
            let kept: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
            let are = if kept.len() == 1 { "is" } else { "are" };
            let message = format!(
                "{first} has no volume and Patroni knows no cluster of this name: it would found an empty one while {} \
                 {are} kept",
                kept.join(", ")
            );
            let config = facts.patroni_source("config");
            Some(Outcome::Found(
                Finding::deny(RETURN_FROM_ZERO.id, message)
                    .because(config, "initialize", "unset")
                    .because_of(Evidence::absent(ObjectRef::claim(&format!("pgdata-{first}"))))
                    .remedy(format!(
                        "give pgdata-{first} the data of the member that led last (a copy of its volume), or restore the \
                         cluster from a backup"
                    )),
            ))
        }
    }
}

/// Judges that no volume is left for the members that would start.
///
/// While Patroni knows the cluster by its system identifier, they wait for a leader to copy from, and
/// no leader comes.
fn without_volumes(facts: &Assessment<'_>) -> Outcome {
    let config = facts.patroni_source("config");
    match &facts.initialize {
        Seen::Unreadable(why) => unread("whether Patroni knows a cluster of this name", why),
        Seen::Known(id) => Outcome::Found(
            Finding::deny(
                RETURN_FROM_ZERO.id,
                "no volume is left to start from, and Patroni still knows the cluster: no member would ever start",
            )
            .because(config.clone(), "initialize", id)
            .because(
                ObjectRef::all(object_ref::Kind::PersistentVolumeClaim),
                &format!("of ordinals below {}", facts.to()),
                "none",
            )
            .remedy(
                Remedy::note("restore the volumes or the cluster from a backup").or_to(
                    "if an empty cluster is wanted, remove the key",
                    kubectl(facts, &["annotate", &config.argument(), "initialize-"]),
                ),
            ),
        ),
        Seen::Absent if facts.from().is_none() => Outcome::Pass,
        Seen::Absent => Outcome::Found(
            Finding::warn(
                RETURN_FROM_ZERO.id,
                "no volume is left to start from: the cluster starts as an empty one",
            )
            .because(config, "initialize", "unset")
            .because_of(Evidence::absent(ObjectRef::all(object_ref::Kind::PersistentVolumeClaim)))
            .remedy("nothing, if it is new; else restore it from a backup first"),
        ),
    }
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
