//! The member that led last, and the mount of its volume.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Claim, Facts, Member, Seen};
use crate::object_ref::{self, ObjectRef};
use crate::postgresql::ordinal;
use crate::remedy::Remedy;
use crate::rules::zero::first_to_start::first_to_start;
use crate::rules::zero::{RETURN_FROM_ZERO, kept_in_etcd};
use crate::rules::{kubectl, set_to, status, unread};
use crate::verdict::{Finding, Outcome};

/// The member that led last, with the object that names it.
#[derive(Clone)]
pub(in crate::rules) struct LastLeader<'a> {
    pub(in crate::rules) name: &'a str,
    pub(in crate::rules) evidence: Evidence,
}

impl LastLeader<'_> {
    /// Returns whether the claim is of this member. A claim belongs to a member by its name.
    pub(in crate::rules) fn owns(&self, claim: &Claim) -> bool {
        claim.name.strip_prefix("pgdata-") == Some(self.name)
    }
}

/// Returns the member that led last. `None` where neither the lock nor the history names one.
///
/// The holder of the lock counts first, valid or not, because Patroni writes it before the history.
///
/// # Errors
/// The fact that could not be read, and the reason.
pub(in crate::rules) fn last_leader(
    facts: &Facts,
) -> Result<Option<LastLeader<'_>>, (&'static str, &str)> {
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

pub(super) fn last_leader_left_out(facts: &Assessment<'_>, claims: Option<&[Claim]>) -> Outcome {
    let last = match last_leader(facts) {
        Ok(Some(last)) => last,
        Ok(None) => {
            let why = "what is left does not say who led last: neither the leader lock nor Patroni's history names \
                       a member";
            return not_known(facts, why.to_owned());
        }
        // It never becomes readable: a count that mounts every volume needs no last leader.
        Err((what, why)) if kept_in_etcd(facts) => {
            return not_known(facts, format!("{what} could not be read ({why})"));
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
        let next = may_lead_next(facts, &last);
        return next.map_or_else(|| first_to_start(facts, &last, led, claims), Outcome::Found);
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

/// Judges members that still run while none leads, although zero was asked for: one that is left out
/// may take the lead, and the rows that it then acknowledges go with it.
fn may_lead_next(facts: &Assessment<'_>, last: &LastLeader<'_>) -> Option<Finding> {
    let runs = |member: &&Member| member.pod.containers_running && !member.pod.terminating;
    // The pod of a leader on a lost node runs on, and is no longer Ready.
    if facts.leader_member().filter(runs).is_some_and(|leader| leader.pod.ready) {
        return None;
    }
    let left_out: Vec<&Member> = facts.condemned().filter(runs).collect();
    let highest = left_out.iter().map(|member| member.ordinal).max()?;
    let names: Vec<&str> = left_out.iter().map(|member| member.name.as_str()).collect();
    let names = names.join(", ");
    let message = format!(
        "no member leads, and {names} may take the lead before it is removed: what is written until then would be lost"
    );
    let finding = Finding::deny(RETURN_FROM_ZERO.id, message).because_of(last.evidence.clone());
    let finding = finding.because(ObjectRef::all(object_ref::Kind::Pod), "left", names);
    Some(finding.remedy(set_to(facts, "to keep every member that runs", highest.saturating_add(1))))
}

/// Returns the text about the last entry in Patroni's history.
pub(in crate::rules) fn took_the_lead(facts: &Facts, last: &str) -> Evidence {
    Evidence::new(facts.patroni_source("config"), "last leader in history", last)
}

/// Judges a start whose last leader is unknown.
///
/// A count that mounts every volume needs no last leader. A count that leaves a volume out is refused.
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
        finding = finding.because(
            ObjectRef::claim(&claim.name),
            "still there",
            format_args!("not mounted with a count of {to}"),
        );
    }
    for member in facts.condemned() {
        finding = finding.because(
            ObjectRef::pod(&member.name),
            "still there",
            format_args!("removed with a count of {to}"),
        );
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
