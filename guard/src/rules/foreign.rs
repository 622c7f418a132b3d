//! Volumes that hold the data of another cluster.

use std::time::Duration;

use crate::assessment::Assessment;
use crate::duration::{age, human};
use crate::evidence::Evidence;
use crate::facts::{Foreign, Seen};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, NAMED, Rule, inputs, kubectl, members_unseen, status, unread};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const FOREIGN_VOLUME: Rule = Rule {
    id: RuleId::FOREIGN_VOLUME,
    title: "a volume holds the data of another cluster: its member never joins",
    applies: Applies::on(&[UP.to_at_least(1)]),
    default: "deny where a member says that its data are of another cluster, else warn",
    kind: Kind::Advisory,
    page: "\
A volume of an earlier cluster of the same name is attached to the member that has its ordinal. Patroni
compares the system identifier of its data with the cluster's, ends with \"system ID mismatch\", and is
started again, for ever. Such a member looks like one that is being built, and to wait for it is no use.

Signals: a claim that is older than the cluster, while the one of the leader (or of the last leader in
Patroni's history) is not; a member that runs for over an
hour, does not answer, and whose Patroni never reported or is stopped; a member that answers with another
system identifier (database_system_identifier) than Patroni's key `initialize`, as one does while Patroni is
paused. Only the last one is certain, and denies.

Blind spots: the words \"system ID mismatch\" stand in the container's log, which is not read. A cluster that
was created again over its own volumes has old claims, too: then the leader's is among them, and no claim is
named.

Way out: look into the log of the MEMBER. Where its volume is of another cluster, and you need nothing from it,
delete the claim, which is pgdata- and the name of the MEMBER, and then the pod: the member is then copied from
the leader. To remove that member is not refused.

    kubectl logs MEMBER -n NAMESPACE -c postgres --tail=50
    kubectl pgscale plan NAME --to N -n NAMESPACE

Upstream: _run_cycle, patroni/ha.py; `database_system_identifier`, patroni/api.py.",
    reads: &[
        inputs::created,
        inputs::claims,
        inputs::pods,
        inputs::answers,
        inputs::leader,
        inputs::last_leader,
        inputs::initialize,
    ],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Answers, Read::Leader, Read::LastLeader, Read::Claims, Read::Initialize]),
    check: foreign_volume,
    #[cfg(any(test, feature = "testing"))]
    table: tests::foreign_volume,
};

fn foreign_volume(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let claims = match &facts.claims {
        Seen::Known(claims) => claims.as_slice(),
        Seen::Absent => &[],
        Seen::Unreadable(why) => return unread("the volume claims", why),
    };
    let members = facts.survivors().map(|member| member.ordinal);
    let kept = claims.iter().map(|claim| claim.ordinal).filter(|it| (0..facts.to()).contains(it));
    let mut ordinals: Vec<i64> = members.chain(kept).collect();
    ordinals.sort_unstable();
    ordinals.dedup();
    let found: Vec<(i64, Foreign<'_>)> = ordinals
        .into_iter()
        .filter_map(|ordinal| Some((ordinal, facts.foreign(ordinal)?)))
        .collect();
    let Some((first, _)) = found.first() else { return Outcome::Pass };
    let names = found.iter().take(NAMED).map(|(ordinal, sign)| {
        let name = facts.pod_name(*ordinal);
        match sign {
            Foreign::Identifier { .. } => format!("{name} holds another cluster's data"),
            Foreign::Older { claim, .. } => format!("{} is older than the cluster", claim.name),
            Foreign::NeverJoined(lasts) => {
                let lasts = human(Duration::try_from(*lasts).unwrap_or_default());
                format!("{name} has not joined in {lasts}")
            }
        }
    });
    let names: Vec<String> = names.collect();
    let certain = found.iter().any(|(_, sign)| matches!(sign, Foreign::Identifier { .. }));
    let (severity, which) = if certain {
        (Severity::Deny, "it never joins")
    } else {
        (Severity::Warn, "its volume may be of another cluster, and then it never joins")
    };
    let message = format!("{}: {which}", names.join(", "));
    let mut finding = Finding::new(FOREIGN_VOLUME.id, severity, message);
    for (ordinal, sign) in found.iter().take(NAMED) {
        finding.evidence.extend(evidence(facts, *ordinal, sign));
    }
    Outcome::Found(finding.remedy(remedy(facts, *first)))
}

fn evidence(facts: &Assessment<'_>, ordinal: i64, sign: &Foreign<'_>) -> Vec<Evidence> {
    let name = facts.pod_name(ordinal);
    match sign {
        Foreign::Identifier { own, cluster } => {
            let config = Evidence::new(facts.patroni_source("config"), "initialize", cluster);
            let member = facts.member(&name);
            let own = member.map(|it| facts.quote(it, "database_system_identifier", own));
            own.into_iter().chain([config]).collect()
        }
        Foreign::Older { claim, made, cluster } => {
            let ago = |time| format!("{} ago", age(time, facts.now));
            vec![
                Evidence::new(ObjectRef::claim(&claim.name), "created", ago(*made)),
                Evidence::new(facts.postgresql_source(), "created", ago(*cluster)),
            ]
        }
        Foreign::NeverJoined(_) => {
            let Some(member) = facts.member(&name) else { return Vec::new() };
            let state = member.report.known().map_or("unset", |report| report.state.word());
            let started = member.pod.started.or(member.pod.created);
            let pod = |field, value: String| Evidence::new(ObjectRef::pod(&name), field, value);
            let started = started.map(|time| format!("{} ago", age(time, facts.now)));
            let mut shown = vec![pod("annotation status", state.to_owned())];
            shown.extend(started.map(|ago| pod("started", ago)));
            shown
        }
    }
}

/// Returns the remedy for the member with `ordinal`: to look, and then to give it a fresh volume.
///
/// A volume is deleted only while a leader is well enough to be copied from.
fn remedy(facts: &Assessment<'_>, ordinal: i64) -> Remedy {
    let name = facts.pod_name(ordinal);
    let claim = format!("pgdata-{name}");
    let runs = facts.member(&name).is_some();
    let look = if runs {
        let log = kubectl(facts, &["logs", &name, "-c", "postgres", "--tail=1000"]);
        Remedy::to("see whether its log says \"system ID mismatch\"", log)
    } else {
        Remedy::to("see what is kept", kubectl(facts, &["get", "pvc"]))
    };
    if !facts.leader_can_be_copied() {
        return look
            .or_to("keep its volume, no leader is well enough to be copied from", status(facts));
    }
    let why =
        "if its volume is of another cluster and holds nothing that is needed, for a fresh copy";
    let delete = kubectl(facts, &["delete", "pvc", &claim, "--wait=false"]);
    if runs {
        look.or_to(why, delete).and(Remedy::run(kubectl(facts, &["delete", "pod", &name])))
    } else {
        look.or_to(why, delete)
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
