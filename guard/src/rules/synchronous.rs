//! Synchronous replication: the standbys that remain for a commit to wait for.

use crate::assessment::Assessment;
use crate::facts::{Facts, Health, Live, Member, Seen};
use crate::patroni::{Configuration, Synchronous, Tags};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CREATE, DOWN, EXISTING, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, last_word, members_unseen, set_to, still_down, unread};
use crate::verdict::{Finding, Outcome, Severity};

mod names;

pub(super) use names::{looked_at as names_looked_at, parameter};

pub(super) const SYNC_STANDBYS_CONDEMNED: Rule = Rule {
    id: RuleId::SYNC_STANDBYS_CONDEMNED,
    title: "every synchronous standby would be deleted",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "deny if the leader is removed too or no other survivor is caught up, else warn",
    kind: Kind::Live,
    page: "\
Where replication is synchronous only its synchronous standbys are sure to have every acknowledged row, and
only they may take over. When all of them are on ordinals that go, and the leader as well, no member is left
that may lead. When the leader is kept, commits wait until Patroni has chosen another standby, which takes up
to two loops (20s). With none that is caught up, commits go on without any, silently, or hang where
synchronous_mode_strict is set.

To shrink to one instance takes every standby away by request: that is warned of (no-standby-left), and
refused where the mode is strict (strict-sync-floor).

Signals: `synchronous_mode` in the dynamic configuration; the standbys in `<cluster>-sync`, which count only
while the leader it names still leads; the survivors' live answers, of which one tagged nosync, sync_priority 0
or replicatefrom counts for nothing: Patroni never chooses it. Tags are read as Patroni reads them: the text
\"false\" is true. Denied where the leader is not known to stay; leader-cannot-move then says the same of the
leader. A standby cluster is never synchronous, whatever its configuration says.

Blind spots: Patroni chooses standbys again in every loop; the choice that was read is up to ten seconds old.

Way out: a count that keeps a synchronous standby, or wait until one that stays has become one. These show
which member is one, and which count passes:

    kubectl exec NAME-0 -n NAMESPACE -c postgres -- patronictl list
    kubectl pgscale plan NAME --to N -n NAMESPACE

Upstream: process_sync_replication and _is_healthiest_node, patroni/ha.py; tags.py; is_synchronous_mode,
patroni/global_config.py.",
    reads: &[inputs::synchrony, inputs::sync_standbys, inputs::leader, inputs::answers],
    needs: reads::HEALTH.and(&[Read::Sync]),
    check: sync_standbys_condemned,
    #[cfg(any(test, feature = "testing"))]
    table: tests::sync_standbys_condemned,
};

fn sync_standbys_condemned(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let configuration = match synchronous(facts) {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Outcome::Pass,
        Err(why) => return Outcome::Unknown(why),
    };
    let leader = facts.leader_name();
    let sync = match &facts.sync {
        Seen::Known(sync) => sync,
        // No member is synchronous: leader-cannot-move and too-few-healthy-survivors look at the
        // consequences.
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return unread("the synchronous standbys", why),
    };
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let current = sync.leader.is_some() && sync.leader.as_deref() == leader;
    let stays =
        |name: &String| facts.survivors().any(|survivor| survivor.name.eq_ignore_ascii_case(name));
    if !current || sync.standbys.is_empty() || sync.standbys.iter().any(stays) {
        return Outcome::Pass;
    }
    let all = sync.standbys.join(", ");
    let others: Vec<&Member> =
        facts.survivors().filter(|member| Some(member.name.as_str()) != leader).collect();
    // However far along such a member is, Patroni never chooses it.
    let (barred, others): (Vec<(&Member, Option<Tag>)>, Vec<_>) = (others.into_iter())
        .map(|member| (member, never_synchronous(member)))
        .partition(|(_, tag)| tag.is_some());
    let states: Vec<Health> = others.iter().map(|(member, _)| facts.health(member)).collect();
    let caught_up = states.contains(&Health::Healthy);
    let (severity, message) = if !facts.leader_stays() {
        (
            Severity::Deny,
            format!("every synchronous standby ({all}) would be deleted together with the leader"),
        )
    } else if caught_up {
        (
            Severity::Warn,
            format!(
                "every synchronous standby ({all}) would be deleted: commits wait until Patroni has chosen \
                 another"
            ),
        )
    } else if facts.to() == 1 {
        (
            Severity::Warn,
            format!(
                "every synchronous standby ({all}) would be deleted, and no other member is kept"
            ),
        )
    } else {
        let unknown = states.iter().find_map(|state| match state {
            Health::Unknown(why) => Some(why),
            Health::Healthy | Health::Unhealthy(_) => None,
        });
        if let Some(why) = unknown {
            return Outcome::Unknown(format!(
                "every synchronous standby ({all}) would go, and whether another could become one is not \
                 known ({why})"
            ));
        }
        (
            Severity::Deny,
            format!(
                "every synchronous standby ({all}) would be deleted, and no kept member is caught up{}",
                if barred.is_empty() { "" } else { " and may become one" }
            ),
        )
    };
    let mut finding = Finding::new(SYNC_STANDBYS_CONDEMNED.id, severity, message)
        .if_leader_goes(facts.leader_condemned())
        .because(facts.patroni_source("sync"), "sync_standby", &all)
        .because(facts.patroni_source("config"), "synchronous_mode", mode(configuration));
    let by_policy =
        !caught_up && facts.leader_stays() && states.iter().any(Health::lags_by_policy_alone);
    let tagged = !barred.is_empty();
    let tags = barred.into_iter().filter_map(|(member, tag)| Some((member, tag?)));
    finding.evidence.extend(tags.map(|(member, (tag, value))| facts.quote(member, tag, value)));
    Outcome::Found(finding.remedy(keep_one(facts, tagged)).if_by_policy_lag(by_policy))
}

/// Returns the tag by which a member never becomes a synchronous standby: `nosync`, or the member
/// it replicates from instead of the leader, which then does not see it.
///
/// Only an answer counts: a member without an answer is not counted on either.
fn never_synchronous(member: &Member) -> Option<Tag> {
    let Live::Answered(answer) = &member.live else { return None };
    bars(&answer.tags)
}

/// Returns the tag among `tags` by which Patroni never chooses the member.
fn bars(tags: &Tags) -> Option<Tag> {
    if tags.nosync {
        return Some(("tags.nosync or tags.sync_priority", "never synchronous".to_owned()));
    }
    let source = tags.replicate_from.as_ref()?;
    Some(("tags.replicatefrom", source.clone()))
}

/// A tag of a member, and its value.
type Tag = (&'static str, String);

/// Returns the smallest count that keeps a synchronous standby. Where there is none, returns the
/// way in which a kept member becomes one.
fn keep_one(facts: &Assessment<'_>, tagged: bool) -> Remedy {
    let lowest = facts.sync.known().and_then(|sync| {
        facts
            .condemned()
            .filter(|member| {
                sync.standbys.iter().any(|name| name.eq_ignore_ascii_case(&member.name))
            })
            .map(|member| member.ordinal.saturating_add(1))
            .min()
    });
    match lowest.and_then(|count| still_down(facts, count)) {
        Some(command) => Remedy::to("keep one", command),
        None => Remedy::note(format!(
            "{}wait until a kept member has become a synchronous standby",
            if tagged { "remove the tag, then " } else { "" }
        )),
    }
}

pub(super) const STRICT_SYNC_FLOOR: Rule = Rule {
    id: RuleId::STRICT_SYNC_FLOOR,
    title: "every commit would wait for a standby that is not there",
    applies: Applies::on(&[
        DOWN.to_at_least(1),
        UP.to_exactly(1),
        EXISTING.after_zero().to_at_least(1),
        CREATE.to_at_least(1),
    ]),
    default: "deny",
    kind: Kind::Live,
    page: "\
With synchronous_mode_strict every commit waits for a synchronous standby, also when there is none. A
cluster of one has none: every commit hangs until another member has joined. Standby clusters commit nothing
of their own and are left out. No repair excuses it.

The same holds where synchronous_mode is off and `synchronous_standby_names` of `postgresql.parameters` is set
by hand: Patroni gives it to PostgreSQL as it is. Denied where fewer standbys that it names would be kept than
it asks for, unless there are too few now. Members count by their names; another receiver counts while the
leader lists it. With synchronous_commit off or local no commit waits.

Signals: `synchronous_mode` and `synchronous_mode_strict` in the dynamic configuration (annotation `config` of
`<cluster>-config`), which is what the cluster runs by, and in `spec.patroni` of the manifest, which it will:
with any update of the cluster the operator writes both modes of the manifest into the configuration
(configuration-drift). A mode that is off by hand and on in the manifest counts as on.
`synchronous_standby_names` and `synchronous_commit` of both; the leader's list of receivers.

Blind spots: a configuration that is changed after the reading; a session or a role with its own
synchronous_commit; ALTER SYSTEM.

Way out: this shows which of the settings are on, and where:

    kubectl pgscale plan NAME --to N -n NAMESPACE -o wide

Keep the standbys that commits wait for; two members are enough for synchronous_mode_strict:

    kubectl pgscale set NAME 2 -n NAMESPACE

Or switch synchronous_mode_strict off, in the manifest (and in Git, where that is the source) and in Patroni's
configuration. From then on a commit waits for no standby while there is none. Where synchronous_standby_names
is set by hand, take that out of both instead (the third command):

    kubectl edit postgresql NAME -n NAMESPACE
    kubectl exec -it NAME-0 -n NAMESPACE -c postgres -- patronictl edit-config -s synchronous_mode_strict=false
    kubectl exec -it NAME-0 -n NAMESPACE -c postgres -- patronictl edit-config -p synchronous_standby_names=

It is over when the plan above does not name this rule any more. At zero no member runs: edit the manifest, and
start 2.

Upstream: process_sync_replication and disable_synchronous_replication, patroni/ha.py;
is_synchronous_mode_strict, patroni/global_config.py; checkAndSetGlobalPostgreSQLConfiguration,
pkg/cluster/sync.go.",
    reads: &[
        inputs::count,
        inputs::synchrony,
        inputs::declared_synchrony,
        inputs::sync_names,
        inputs::leader,
    ],
    needs: reads::COUNT.and(&[
        Read::StatefulSet,
        Read::Pods,
        Read::Answers,
        Read::Leader,
        Read::Configuration,
    ]),
    check: strict_sync_floor,
    #[cfg(any(test, feature = "testing"))]
    table: tests::strict_sync_floor,
};

fn strict_sync_floor(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let created = facts.change.old.is_none();
    let cluster = &facts.change.new;
    let configuration = facts.configuration.known();
    if cluster.is_standby() || configuration.is_some_and(|config| config.standby_cluster) {
        return Outcome::Pass;
    }
    if let Some(finding) = names::missing(facts) {
        return Outcome::Found(finding.unexcused());
    }
    if facts.to() != 1 {
        return configured(facts);
    }
    let declared = ["synchronous_mode", "synchronous_mode_strict"].iter().all(|key| {
        cluster.spec.pointer(&format!("/patroni/{key}")).and_then(serde_json::Value::as_bool)
            == Some(true)
    });
    let runs = configuration
        .is_some_and(|config| config.synchronous_strict && config.synchrony() != Synchronous::Off);
    if !declared && !runs {
        return configured(facts);
    }
    let mut finding = Finding::deny(
        STRICT_SYNC_FLOOR.id,
        format!(
            "{} replicates in strict synchronous mode: with 1 instance every commit would hang",
            facts.change.cluster()
        ),
    );
    if runs {
        finding = finding.because(facts.patroni_source("config"), "synchronous_mode_strict", true);
    }
    if declared {
        let field = "spec.patroni.synchronous_mode_strict";
        finding = finding.because(facts.postgresql_source(), field, true);
    }
    let or = if created {
        "no synchronous_mode_strict"
    } else {
        "switch synchronous_mode_strict off first"
    };
    let finding = finding.remedy(Remedy::note(or).and(set_to(facts, "or keep 2", 2)));
    Outcome::Found(finding.unexcused())
}

/// Returns the outcome where nothing was found in what is known of the configuration.
fn configured(facts: &Assessment<'_>) -> Outcome {
    // A cluster that is created, or never ran, has nothing but its manifest.
    let created = facts.change.old.is_none();
    match &facts.configuration {
        Seen::Known(_) => Outcome::Pass,
        Seen::Absent | Seen::Unreadable(_) if created => Outcome::Pass,
        Seen::Absent if facts.from() == Some(0) => Outcome::Pass,
        Seen::Absent => Outcome::Unknown("Patroni's configuration is not there".to_owned()),
        Seen::Unreadable(why) => unread("Patroni's configuration", why),
    }
}

pub(super) const SYNC_COUNT_FLOOR: Rule = Rule {
    id: RuleId::SYNC_COUNT_FLOOR,
    title: "fewer standbys would be kept than synchronous_node_count asks for",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "warn",
    kind: Kind::Live,
    page: "\
synchronous_node_count is the number of standbys that must have a row before its commit is acknowledged.
With fewer standbys than that Patroni takes those there are, and says so only in its log.

Signals: `synchronous_mode` and `synchronous_node_count` (1 when unset) in the dynamic configuration, against
the new count less one, the leader, and less the kept members that are tagged nosync, sync_priority 0 or
replicatefrom: these never become synchronous.

Blind spots: the tags of a member that neither answers nor ever reported.

Way out: keep one more instance than synchronous_node_count, or lower that first, in the manifest and in
Patroni's configuration:

    kubectl pgscale plan NAME --to N -n NAMESPACE
    kubectl edit postgresql NAME -n NAMESPACE
    kubectl exec -it NAME-0 -n NAMESPACE -c postgres -- patronictl edit-config -s synchronous_node_count=1

Upstream: get_synchronous_node_count and min_synchronous_nodes, patroni/global_config.py.",
    reads: &[inputs::count, inputs::synchrony, inputs::leader, inputs::sync_tags],
    needs: reads::COUNT.and(&[
        Read::StatefulSet,
        Read::Pods,
        Read::Answers,
        Read::Leader,
        Read::Configuration,
    ]),
    check: sync_count_floor,
    #[cfg(any(test, feature = "testing"))]
    table: tests::sync_count_floor,
};

fn sync_count_floor(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let configuration = match synchronous(facts) {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Outcome::Pass,
        Err(why) => return Outcome::Unknown(why),
    };
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let leader = facts.leader_name();
    let barred: Vec<(&Member, Tag)> = facts
        .survivors()
        .filter(|member| Some(member.name.as_str()) != leader)
        .filter_map(|member| {
            let bar = last_word(member, |it| bars(&it.tags), |it| bars(&it.tags));
            Some((member, bar.known()?.clone()?))
        })
        .collect();
    let kept = facts.to().saturating_sub(1);
    let standbys = kept.saturating_sub(i64::try_from(barred.len()).unwrap_or(i64::MAX));
    let wanted = i64::try_from(configuration.synchronous_node_count).unwrap_or(i64::MAX);
    if standbys >= wanted {
        return Outcome::Pass;
    }
    let kept = if barred.is_empty() { "would be kept" } else { "that may be chosen would be kept" };
    let mut finding = Finding::warn(
        SYNC_COUNT_FLOOR.id,
        format!("{standbys} standbys {kept}, and {wanted} are to be synchronous"),
    )
    .because(facts.patroni_source("config"), "synchronous_mode", mode(configuration))
    .because(facts.patroni_source("config"), "synchronous_node_count", wanted);
    finding
        .evidence
        .extend(barred.into_iter().map(|(member, (tag, value))| facts.quote(member, tag, value)));
    let lower = "lower synchronous_node_count first";
    Outcome::Found(finding.remedy(match still_down(facts, wanted.saturating_add(1)) {
        Some(command) => Remedy::note(lower).or_to("or keep more", command),
        None => lower.into(),
    }))
}

/// Returns the configuration of a cluster that replicates synchronously. `None` for an asynchronous
/// one, an error where the mode is unknown.
fn synchronous(facts: &Facts) -> Result<Option<&Configuration>, String> {
    match &facts.configuration {
        Seen::Known(configuration) => {
            Ok(Some(configuration).filter(|it| it.synchrony() != Synchronous::Off))
        }
        Seen::Absent => Err("Patroni's configuration is not there".to_owned()),
        Seen::Unreadable(why) => Err(format!("Patroni's configuration could not be read ({why})")),
    }
}

/// Returns `synchronous_mode` as the configuration spells it.
pub(super) fn mode(configuration: &Configuration) -> &'static str {
    match configuration.synchronous {
        Synchronous::Off => "false",
        Synchronous::On => "true",
        Synchronous::Quorum => "quorum",
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
