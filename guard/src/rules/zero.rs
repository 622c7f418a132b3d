//! The way back from zero: the volumes that are mounted must hold the newest data.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Claim, Facts, Seen};
use crate::object_ref::{self, ObjectRef};
use crate::policy::Policies;
use crate::postgresql::ordinal;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CREATE, EXISTING};
use crate::rules::reads::{self, Read};
use crate::rules::recreation::{Volumes, volumes};
use crate::rules::{Kind, Rule, inputs, kubectl, members_unseen, set_to, status, unread};
use crate::verdict::{Finding, Outcome, Severity};

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
and Argo CD's Replace=true do.

Denied where the last leader's ordinal is left out, and where it is not known who led last and any kept
volume is left out. Denied as well where no volume is left to start from and Patroni's key `initialize` is
set: members without data then wait for a leader for ever.

Signals: the holder of the leader lock, valid or not; where it was released, the last row of Patroni's
history (annotation `history` of `<cluster>-config`), whose fifth column names the member that took over
then; the volume claims, by their names; the pods that are left; the key `initialize`. No repair excuses
this rule: there are no members to judge, but there is data to lose.

Warned of where a cluster of this name was deleted just now and its volumes go with it, by the operator's
enable_persistent_volume_claim_deletion, which is true unless it is set, or by the retention policy.

Blind spots: the history is written by the new leader, seconds after it took over. A volume that was deleted
is not there to be left out: that is warned of.

Way out: a count that includes that ordinal; shrink afterwards, when every member has caught up. Without any
volume: restore from a backup, or, where an empty cluster is wanted, remove the key.

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
    ],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader, Read::Claims, Read::LastLeader, Read::Initialize]),
    check: return_from_zero,
    #[cfg(any(test, feature = "testing"))]
    table: tests::return_from_zero,
};

fn return_from_zero(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let outcome = judged(facts);
    let Outcome::Unknown(why) = &outcome else { return outcome };
    if !ran_before(facts) {
        return outcome;
    }
    // Growth on an unknown fact passes elsewhere. Here it may found the cluster on older data.
    let finding = Finding::deny(RETURN_FROM_ZERO.id, format!("cannot be judged: {why}"));
    let finding = inputs::count(facts, policies).into_iter().fold(finding, Finding::because_of);
    let remedy = Remedy::to("ask again once it can be read; what is seen", status(facts));
    Outcome::Found(finding.unexcused().remedy(remedy))
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
    // One that is being deleted goes as soon as no pod mounts it.
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
    if let Some(outcome) = founds_anew(facts, claims) {
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
    // What is kept is not mounted, and a member without data never starts by itself.
    if !denies && members.is_empty() && claims.is_some_and(|claims| !starts(claims)) {
        let without = without_volumes(facts);
        return if without == Outcome::Pass { outcome } else { without };
    }
    outcome
}

/// Ordinal 0 starts without data although others have kept theirs. Where Patroni knows no cluster it founds an empty one,
/// and the others end with "system ID mismatch" (`bootstrap`, patroni/ha.py).
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

/// The member that led last, with the object that says so.
#[derive(Clone)]
struct LastLeader<'a> {
    name: &'a str,
    evidence: Evidence,
}

/// Returns which member led last: the holder of the lock, valid or not, because it is written before the history; else
/// the last one that Patroni's history names. `None` where neither names one.
///
/// # Errors
/// What could not be read, and why.
fn last_leader(facts: &Facts) -> Result<Option<LastLeader<'_>>, (&'static str, &str)> {
    match (&facts.leader, &facts.last_leader) {
        (Seen::Unreadable(why), _) => Err(("the leader lock, which says who led last,", why)),
        (Seen::Known(lock), _) if let Some(name) = &lock.holder => Ok(Some(LastLeader {
            name,
            evidence: Evidence::new(lock.source.clone(), "leader", name),
        })),
        (_, Seen::Known(name)) => {
            Ok(Some(LastLeader { name, evidence: took_the_lead(facts, name) }))
        }
        (_, Seen::Absent) => Ok(None),
        (_, Seen::Unreadable(why)) => Err(("who led last", why)),
    }
}

fn last_leader_left_out(facts: &Assessment<'_>, claims: Option<&[Claim]>) -> Outcome {
    let last = match last_leader(facts) {
        Ok(Some(last)) => last,
        Ok(None) => {
            let why = "what is left does not say who led last: neither the leader lock nor Patroni's history names \
                       a member";
            return not_known(facts, why.to_owned());
        }
        Err((what, why)) => return unread(what, why),
    };
    let cluster = &facts.change.new;
    let LastLeader { name, evidence } = last.clone();
    let Some(led) = ordinal(&cluster.name, name) else {
        return not_known(facts, format!("{name} led last, which is no member of this cluster"));
    };
    let claim = ObjectRef::claim(&format!("pgdata-{name}"));
    let has_pod = facts.member(name).is_some();
    if let Some(claims) = claims.filter(|claims| !has_pod && !claims.is_empty())
        && claims.iter().all(|claim| claim.ordinal != led)
    {
        let kept: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
        return Outcome::Found(
            Finding::warn(
                RETURN_FROM_ZERO.id,
                format!("{name} led last and its volume is gone: the newest data may be missing"),
            )
            .because_of(evidence)
            .because_of(Evidence::absent(claim))
            .because(
                ObjectRef::all(object_ref::Kind::PersistentVolumeClaim),
                "kept",
                kept.join(", "),
            )
            .remedy("restore the volume, or be sure that the others hold every row"),
        );
    }
    let to = facts.to();
    if led < to {
        return first_to_start(facts, &last, led, claims);
    }
    let pods: Vec<&str> = facts.all_members().iter().map(|member| member.name.as_str()).collect();
    let message = if pods.is_empty() {
        format!(
            "{name} led last, and {to} instances leave its volume out: the cluster would start from older data"
        )
    } else {
        format!(
            "{name} led last, and a count of {to} leaves its pod and its volume out: the cluster would go on from \
             older data"
        )
    };
    let mut finding = Finding::deny(RETURN_FROM_ZERO.id, message).because_of(evidence);
    finding = if pods.is_empty() {
        finding.because(claim, "holds", "the newest data")
    } else {
        let cluster = facts.postgresql_source();
        let finding = match facts.from() {
            Some(_) => finding.because(cluster, "numberOfInstances", 0),
            None => finding.because_of(Evidence::absent(cluster)),
        };
        finding.because(ObjectRef::all(object_ref::Kind::Pod), "left", pods.join(", "))
    };
    let keep = if pods.is_empty() { "to mount it" } else { "to keep it" };
    Outcome::Found(finding.remedy(set_to(facts, keep, led.saturating_add(1))))
}

/// The StatefulSet starts its pods one by one, and the first with data is alone. Without a lock that is held it takes the lead, unless its WAL is
/// more than `maximum_lag_on_failover` behind what the last leader wrote down (`_is_healthiest_node`, patroni/ha.py).
fn first_to_start(
    facts: &Assessment<'_>,
    last: &LastLeader<'_>,
    led: i64,
    claims: Option<&[Claim]>,
) -> Outcome {
    let Some(first) = claims.and_then(|claims| claims.iter().map(|claim| claim.ordinal).min())
    else {
        return Outcome::Pass;
    };
    if first >= led || !facts.all_members().is_empty() {
        return Outcome::Pass;
    }
    let (name, first) = (last.name, facts.pod_name(first));
    Outcome::Found(
        Finding::warn(
            RETURN_FROM_ZERO.id,
            format!(
                "{name} led last, and {first} starts first: it may take the lead without the last rows of {name}, up to \
                 maximum_lag_on_failover"
            ),
        )
        .because_of(last.evidence.clone())
        .remedy(Remedy::to("see what each member has before clients write again", status(facts))),
    )
}

/// Returns what Patroni's history says of the member that led last.
pub(super) fn took_the_lead(facts: &Facts, last: &str) -> Evidence {
    Evidence::new(facts.patroni_source("config"), "last leader in history", last)
}

/// It is not known which member led last: a count that leaves no volume out need not know, one that does is refused.
fn not_known(facts: &Assessment<'_>, why: String) -> Outcome {
    let Some(claims) = facts.claims.known() else { return Outcome::Unknown(why) };
    let kept = claims.iter().map(|claim| claim.ordinal);
    let members = facts.all_members().iter().map(|member| member.ordinal);
    let ordinals: Vec<i64> = kept.chain(members).collect();
    let Some(highest) = ordinals.iter().max() else { return Outcome::Unknown(why) };
    let (to, count) = (facts.to(), highest.saturating_add(1));
    if to >= count {
        let remedy = Remedy::note(format!(
            "every kept volume is mounted, but {} starts first and may take the lead with older data. Compare them before \
             (pg_controldata, Latest checkpoint location)",
            facts.pod_name(0)
        ))
        .or_to("or see what each member has before clients write again", status(facts));
        return Outcome::Unsaid { why, remedy };
    }
    let mut finding = Finding::deny(
        RETURN_FROM_ZERO.id,
        format!("{why}, and a count of {to} leaves a volume out that may hold the newest data"),
    );
    for claim in claims.iter().filter(|claim| claim.ordinal >= to) {
        finding = finding.because(ObjectRef::claim(&claim.name), "mounted at the new count", "no");
    }
    for member in facts.condemned() {
        finding = finding.because(ObjectRef::pod(&member.name), "kept at the new count", "no");
    }
    let left_out = claims.iter().filter(|claim| claim.ordinal >= to);
    let left_out: Vec<&str> = left_out.map(|claim| claim.name.as_str()).collect();
    let mount = set_to(facts, "mount every kept volume", count);
    if left_out.is_empty() {
        return Outcome::Found(finding.remedy(mount));
    }
    let delete = kubectl(facts, &[&["delete", "pvc"], &left_out[..]].concat());
    Outcome::Found(finding.remedy(mount.or_to(
        "or, once you have seen that they hold nothing newer (pg_controldata, Latest checkpoint location), delete them \
         for good",
        delete,
    )))
}

/// No volume is left for the members that would start. While Patroni knows the cluster by its system identifier they
/// wait for a leader to copy from, which never comes.
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
mod tests {
    use super::*;
    use crate::facts::Claim;
    use crate::rules::testing::{Want, healthy, table, text};

    /// A cluster at zero with these ordinals' volumes kept, led last by `last`.
    fn asleep(to: i64, kept: &[i64], last: Option<&str>) -> Facts {
        let mut facts = healthy(0, to);
        facts.leader = Seen::Absent;
        facts.initialize = Seen::Absent;
        facts.last_leader = last.map_or(Seen::Absent, |last| Seen::Known(last.to_owned()));
        facts.claims = Seen::Known(
            kept.iter()
                .map(|ordinal| Claim {
                    name: format!("pgdata-acid-a-{ordinal}"),
                    ordinal: *ordinal,
                    ..Claim::default()
                })
                .collect(),
        );
        facts
    }

    /// Patroni knows the cluster.
    fn known(mut facts: Facts) -> Facts {
        facts.initialize = Seen::Known("7401122334455667788".to_owned());
        facts
    }

    fn ending(mut facts: Facts) -> Facts {
        if let Seen::Known(claims) = &mut facts.claims {
            for claim in claims {
                claim.terminating = true;
            }
        }
        facts
    }

    fn claims_hidden(mut facts: Facts) -> Facts {
        facts.claims = Seen::Unreadable("timed out".into());
        facts
    }

    /// A new cluster, of whose name nothing is left.
    fn unborn() -> Facts {
        let mut facts = crate::rules::testing::created(3);
        facts.leader = Seen::Absent;
        facts
    }

    /// Zero was asked for, and three members still run, led by `leader`.
    fn running(leader: i64, to: i64) -> Facts {
        healthy(3, 3).with_leader(leader).with_count(0, to)
    }

    fn created(mut facts: Facts) -> Facts {
        facts.change.old = None;
        facts
    }

    pub(super) fn return_from_zero() {
        let three = &[0, 1, 2][..];
        let last = Some("acid-a-2");
        let mut hidden = asleep(2, three, last);
        hidden.last_leader = Seen::Unreadable("timed out".into());
        let mut blind = asleep(2, three, last);
        blind.claims = Seen::Unreadable("timed out".into());
        table(
            "return-from-zero",
            vec![
                ("its volume is mounted", asleep(3, three, Some("acid-a-0")), Want::Pass),
                ("its volume is mounted, and -0 starts first", asleep(3, three, last), Want::Warn),
                ("its volume is the only one", asleep(1, &[0], Some("acid-a-0")), Want::Pass),
                ("its volume is left out", asleep(2, three, last), Want::Deny),
                ("its volume is left out, of whatever is kept", blind, Want::Deny),
                ("nothing is kept", asleep(2, &[], last), Want::Warn),
                ("its volume is gone", asleep(3, &[0, 1], last), Want::Warn),
                ("not known, and one is left out", asleep(2, three, None), Want::Deny),
                ("not known, and all are mounted", asleep(3, three, None), Want::Unknown),
                (
                    "a stranger led, and one is left out",
                    asleep(2, three, Some("acid-b-0")),
                    Want::Deny,
                ),
                (
                    "a stranger led, all are mounted",
                    asleep(3, three, Some("acid-b-0")),
                    Want::Unknown,
                ),
                ("history unreadable", hidden, Want::Deny),
                (
                    "-0 has none, and would found an empty cluster",
                    asleep(3, &[1, 2], last),
                    Want::Deny,
                ),
                ("-0 has none, created", created(asleep(3, &[1, 2], last)), Want::Deny),
                ("-0 has none, and waits for -1", known(asleep(3, &[1, 2], last)), Want::Warn),
                (
                    "-0 has none, and waits for the last leader",
                    known(asleep(3, &[1, 2], Some("acid-a-1"))),
                    Want::Pass,
                ),
                ("all are being deleted", known(ending(asleep(3, three, last))), Want::Deny),
                ("new, and the claims are hidden", claims_hidden(unborn()), Want::Unknown),
                (
                    "created over a key, and the claims are hidden",
                    claims_hidden(known(created(asleep(3, three, None)))),
                    Want::Deny,
                ),
                ("created over it", created(asleep(2, three, last)), Want::Deny),
                ("created over nothing", created(asleep(2, &[], None)), Want::Pass),
                (
                    "created over volumes of unknown rank",
                    created(asleep(2, three, None)),
                    Want::Deny,
                ),
                ("pods unreadable", asleep(2, three, last).without_sight_of_members(), Want::Deny),
                ("members still run, the leader stays", running(0, 1), Want::Pass),
                ("members still run, the leader goes", running(2, 2), Want::Deny),
                ("members still run, created, the leader goes", created(running(2, 2)), Want::Deny),
                (
                    "members still run, created, the leader stays",
                    created(running(1, 2)).with_settings(|it| it.deletes_with_cluster = None),
                    Want::Pass,
                ),
                (
                    "members still run, created, and the operator deletes their volumes",
                    created(running(1, 2)),
                    Want::Warn,
                ),
                ("stays at zero", asleep(0, three, last), Want::NotApplicable),
                ("from more than zero", healthy(3, 5), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("return-from-zero", &asleep(2, three, last)), @"
        return-from-zero: acid-a-2 led last, and 2 instances leave its volume out: the cluster would start from older data
          endpoints/acid-a-config: last leader in history: acid-a-2
          persistentvolumeclaim/pgdata-acid-a-2: holds: the newest data
          Try: to mount it:
              kubectl pgscale set acid-a 3 -n db
        ");
        insta::assert_snapshot!(text("return-from-zero", &created(asleep(1, three, None))), @"
        return-from-zero: what is left does not say who led last: neither the leader lock nor Patroni's history names a member, and a count of 1 leaves a volume out that may hold the newest data
          persistentvolumeclaim/pgdata-acid-a-1: mounted at the new count: no
          persistentvolumeclaim/pgdata-acid-a-2: mounted at the new count: no
          Try: mount every kept volume: numberOfInstances: 3 in the manifest
            or, once you have seen that they hold nothing newer (pg_controldata, Latest checkpoint location), delete them for good:
              kubectl delete pvc pgdata-acid-a-1 pgdata-acid-a-2 -n db
        ");
        let remedy = |facts: &Facts| {
            let verdict = crate::evaluate(facts, &Policies::default());
            verdict.finding("return-from-zero").unwrap().remedy.clone().unwrap().to_string()
        };
        for last in [None, Some("acid-b-0")] {
            assert_eq!(
                remedy(&asleep(2, three, last)),
                "mount every kept volume:\n  kubectl pgscale set acid-a 3 -n db\nor, once you have seen that they hold \
                 nothing newer (pg_controldata, Latest checkpoint location), delete them for good:\n  kubectl delete \
                 pvc pgdata-acid-a-2 -n db"
            );
            assert_eq!(
                remedy(&asleep(3, three, last)),
                "every kept volume is mounted, but acid-a-0 starts first and may take the lead with older data. Compare \
                 them before (pg_controldata, Latest checkpoint location)\nor see what each member has before clients \
                 write again:\n  kubectl pgscale status acid-a -n db"
            );
        }
    }

    #[test]
    fn a_pod_that_is_left_does_not_hide_who_led_last() {
        // The pods of a shrink to zero end, the leader last.
        let ending = |to| {
            running(2, to)
                .stalled([0])
                .without(1)
                .with_stateful_set(|set| set.replicas = 0)
                .with_member(2, |it| it.pod.terminating = true)
        };
        let released = |last: Seen<String>| {
            let mut facts = ending(1);
            if let Seen::Known(lock) = &mut facts.leader {
                lock.holder = None;
            }
            facts.last_leader = last;
            facts
        };
        let mut expired = ending(1);
        if let Seen::Known(lock) = &mut expired.leader {
            lock.renewed = None;
        }
        expired.last_leader = Seen::Known("acid-a-0".into());
        let mut lockless = released(Seen::Known("acid-a-2".into()));
        lockless.leader = Seen::Absent;
        let mut stranger = ending(1);
        stranger.leader = Seen::Known(crate::rules::testing::lock("acid-b-0"));
        table(
            "return-from-zero",
            vec![
                ("the leader's pod ends", ending(1), Want::Deny),
                ("it comes back", ending(3), Want::Pass),
                ("its lock has expired", expired, Want::Deny),
                ("it let go of the lock", released(Seen::Known("acid-a-2".into())), Want::Deny),
                ("the lock is gone", lockless, Want::Deny),
                ("another led last", released(Seen::Known("acid-a-0".into())), Want::Pass),
                ("not known, and a pod is left out", released(Seen::Absent), Want::Deny),
                ("history unreadable", released(Seen::Unreadable("x".into())), Want::Deny),
                ("lock unreadable", ending(1).without_sight_of_the_lock(), Want::Deny),
                ("a stranger leads, and a pod is left out", stranger, Want::Deny),
                // The StatefulSet still runs three: it is a shrink to one.
                ("zero was never carried out", running(2, 1), Want::Deny),
            ],
        );
        let told = text("return-from-zero", &released(Seen::Absent));
        let way = "Try: mount every kept volume:\n      kubectl pgscale set acid-a 3 -n db";
        assert!(told.ends_with(way), "{told}");
        for facts in [ending(1), running(2, 1)] {
            assert!(!crate::evaluate(&facts, &Policies::default()).allows());
        }
        insta::assert_snapshot!(text("return-from-zero", &ending(1)), @"
        return-from-zero: acid-a-2 led last, and a count of 1 leaves its pod and its volume out: the cluster would go on from older data
          configmap/acid-a-leader: leader: acid-a-2
          postgresql/acid-a: numberOfInstances: 0
          pods: left: acid-a-0, acid-a-2
          Try: to keep it:
              kubectl pgscale set acid-a 3 -n db
        ");
    }

    #[test]
    fn one_kept_volume_is_kept_and_several_are() {
        let says = |claims: &[i64]| {
            let mut facts = asleep(3, claims, None);
            facts.initialize = Seen::Absent;
            text("return-from-zero", &facts)
        };
        assert!(says(&[1]).contains("while pgdata-acid-a-1 is kept"), "{}", says(&[1]));
        let several = says(&[1, 2]);
        assert!(several.contains("while pgdata-acid-a-1, pgdata-acid-a-2 are kept"), "{several}");
    }

    #[test]
    fn no_repair_excuses_it() {
        let facts = asleep(2, &[0, 1, 2], Some("acid-a-2"));
        assert!(facts.assess().repair().is_some());
        assert!(!crate::evaluate(&facts, &Policies::default()).allows());
        assert!(crate::evaluate(&facts.with_count(0, 3), &Policies::default()).allows());
    }
}
