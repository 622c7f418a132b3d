//! The rest after a shrink: a standby, a second zone, a replication source.

use std::collections::BTreeSet;

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Live, Member, Seen};
use crate::object_ref::{self, ObjectRef};
use crate::patroni::Tags;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, last_word, members_unseen, still_down};
use crate::verdict::{Finding, Outcome};

pub(super) const NO_STANDBY_LEFT: Rule = Rule {
    id: RuleId::NO_STANDBY_LEFT,
    title: "one instance is left: nothing to fail over to",
    applies: Applies::on(&[DOWN.to_at_least(1)]).noted("a finding only at 1"),
    default: "warn",
    kind: Kind::Bound,
    page: "\
A cluster of one has no standby. When its pod, its node or its volume fails, writes stop until they are
back; a node that is drained takes the cluster with it. The service `<cluster>-repl` and a connection pooler
for replicas have no endpoints: readers that use them fail at once.

Way out: keep two, or point readers at `<cluster>` before the last standby goes. A policy may refuse it:
`rules: {no-standby-left: Deny}`.

    kubectl pgscale down NAME --to 2 -n NAMESPACE",
    reads: &[inputs::count],
    needs: reads::COUNT,
    check: no_standby_left,
    #[cfg(any(test, feature = "testing"))]
    table: tests::no_standby_left,
};

fn no_standby_left(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    if facts.to() > 1 {
        return Outcome::Pass;
    }
    let cluster = &facts.change.new;
    let name = &cluster.name;
    let wanted =
        cluster.spec.get("enableReplicaConnectionPooler") == Some(&serde_json::Value::Bool(true));
    let pooler = if wanted { format!(" and {name}-pooler-repl") } else { String::new() };
    Outcome::Found(
        Finding::warn(
            NO_STANDBY_LEFT.id,
            format!(
                "1 instance is left: nothing to fail over to, and {name}-repl{pooler} will have no endpoints"
            ),
        )
        .because(
            facts.postgresql_source(),
            "numberOfInstances",
            format_args!("{} -> {}", facts.from().unwrap_or(0), facts.to()),
        )
        .remedy(match still_down(facts, 2) {
            Some(command) => Remedy::to("to keep one", command),
            None => Remedy::note(format!("point readers at {name} first")),
        }),
    )
}

pub(super) const SURVIVORS_ONE_ZONE: Rule = Rule {
    id: RuleId::SURVIVORS_ONE_ZONE,
    title: "the kept members would all be in one zone",
    applies: Applies::on(&[DOWN.to_at_least(2)]),
    default: "warn",
    kind: Kind::Live,
    page: "\
The members run in several zones, and those that stay are all in one: when that zone fails, the cluster does.
Which members go is fixed by their ordinals.

Signals: the label `topology.kubernetes.io/zone` of the members' nodes. A cluster that has been in one zone
all along loses nothing and is not warned of.

Blind spots: who may not read nodes, and nodes without the label: then nothing is said. Zones are no more than
what the labels say.

Way out: a count that keeps a member in another zone, or let a pod that stays be scheduled elsewhere first
(its volume must be able to move). This shows the nodes of the members:

    kubectl get pods -n NAMESPACE -l cluster-name=NAME -o wide
    kubectl pgscale plan NAME --to N -n NAMESPACE

Upstream: the StatefulSet deletes the highest ordinals, whatever their place (`processCondemned`,
pkg/controller/statefulset/stateful_set_control.go of Kubernetes).",
    reads: &[inputs::zones],
    needs: reads::COUNT.and(&[Read::Pods]),
    check: survivors_one_zone,
    #[cfg(any(test, feature = "testing"))]
    table: tests::survivors_one_zone,
};

fn survivors_one_zone(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let zone = |member: &Member| member.pod.zone.clone();
    let Some(kept) = facts.survivors().map(zone).collect::<Option<BTreeSet<_>>>() else {
        return Outcome::NotApplicable;
    };
    let lost: BTreeSet<_> =
        members.iter().filter_map(zone).filter(|it| !kept.contains(it)).collect();
    let (Some(only), 1) = (kept.first(), kept.len()) else { return Outcome::Pass };
    if lost.is_empty() || facts.survivors().count() < 2 {
        return Outcome::Pass;
    }
    let mut finding = Finding::warn(
        SURVIVORS_ONE_ZONE.id,
        format!(
            "all kept members are in zone {only}; those in {} are removed",
            lost.into_iter().collect::<Vec<_>>().join(", ")
        ),
    );
    for member in members {
        if let (Some(zone), Some(node)) = (&member.pod.zone, &member.pod.node) {
            let field = format!("zone of {}", member.name);
            finding = finding.because(ObjectRef::new(object_ref::Kind::Node, node), &field, zone);
        }
    }
    // The lowest member elsewhere, and the count that keeps it.
    let elsewhere = members.iter().find(|member| zone(member).is_some_and(|it| it != *only));
    let count = elsewhere.map(|member| member.ordinal.saturating_add(1));
    Outcome::Found(match count.and_then(|count| still_down(facts, count)) {
        Some(command) => finding.remedy(Remedy::to("to keep a second zone", command)),
        None => finding.remedy("keep them, or move a kept member to another zone first"),
    })
}

pub(super) const CASCADE_CONDEMNED: Rule = Rule {
    id: RuleId::CASCADE_CONDEMNED,
    title: "a kept member replicates from one that would be deleted",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "warn",
    kind: Kind::Live,
    page: "\
A member tagged `replicatefrom` receives its rows from another standby instead of the leader. When that one is
deleted it loses its source: it falls back to the leader within a loop or two, and is behind for as long.

Signals: the tag `replicatefrom` of the kept members, as they answer or last reported; and which standbys
the removed members answer to be feeding (`replication` in their answers).

Blind spots: the fall-back needs the leader to have kept the rows: where its WAL was recycled meanwhile, the
member has to be cloned again.

Way out: remove the tag (`replicatefrom`) first, or shrink to a count that keeps the source. This shows who
follows whom:

    kubectl exec NAME-0 -n NAMESPACE -c postgres -- patronictl topology
    kubectl pgscale plan NAME --to N -n NAMESPACE

Upstream: replicatefrom, patroni/tags.py; _get_node_to_follow, patroni/ha.py.",
    reads: &[inputs::sources],
    needs: reads::COUNT.and(&[Read::Pods, Read::Answers, Read::Leader]),
    check: cascade_condemned,
    #[cfg(any(test, feature = "testing"))]
    table: tests::cascade_condemned,
};

fn cascade_condemned(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let leader = facts.leader_name();
    let mut found: Vec<(String, String, Evidence)> = Vec::new();
    let mut unknown = None;
    for survivor in facts.survivors().filter(|it| Some(it.name.as_str()) != leader) {
        let tagged = match tags(survivor) {
            Ok(tags) => tags.and_then(|tags| tags.replicate_from.as_deref()),
            Err(why) => {
                unknown = Some(why);
                None
            }
        };
        let source = facts.condemned().filter(|it| Some(it.name.as_str()) != leader).find(|it| {
            tagged.is_some_and(|tagged| tagged.eq_ignore_ascii_case(&it.name))
                || feeds(it, survivor)
        });
        let Some(source) = source else { continue };
        let evidence = if feeds(source, survivor) {
            Evidence::new(facts.source_of(source), "feeds", &survivor.name)
        } else {
            facts.quote(survivor, "tags.replicatefrom", &source.name)
        };
        found.push((survivor.name.clone(), source.name.clone(), evidence));
    }
    if found.is_empty() {
        return unknown.map_or(Outcome::Pass, Outcome::Unknown);
    }
    let pairs: Vec<String> =
        found.iter().map(|(survivor, source, _)| format!("{survivor} from {source}")).collect();
    let mut finding = Finding::warn(
        CASCADE_CONDEMNED.id,
        format!(
            "kept members replicate from removed members: {}; they will be behind until they follow \
             the leader",
            pairs.join(", ")
        ),
    );
    finding.evidence = found.into_iter().map(|(.., evidence)| evidence).collect();
    Outcome::Found(finding.remedy("remove the tag replicatefrom first, or keep the source"))
}

/// Returns the tags of `member` by its answer or last report. `None` where it never gave any, an
/// error where they cannot be read.
fn tags(member: &Member) -> Result<Option<&Tags>, String> {
    match last_word(member, |answer| &answer.tags, |report| &report.tags) {
        Seen::Known(tags) => Ok(Some(tags)),
        Seen::Absent => Ok(None),
        Seen::Unreadable(why) => {
            Err(format!("{} does not say whom it replicates from ({why})", member.name))
        }
    }
}

/// Returns whether `source` says that `standby` streams from it.
fn feeds(source: &Member, standby: &Member) -> bool {
    match &source.live {
        Live::Answered(answer) => {
            answer.replication.iter().any(|sender| sender.name.eq_ignore_ascii_case(&standby.name))
        }
        Live::NotAsked | Live::Silent(_) => false,
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
    use serde_json::json;

    use super::*;
    use crate::facts::Facts;
    use crate::patroni::Sender;
    use crate::rules::testing::{Want, healthy, table, text};

    pub(super) fn no_standby_left() {
        let pooled =
            healthy(3, 1).editing(|spec| spec["enableReplicaConnectionPooler"] = json!(true));
        table(
            "no-standby-left",
            vec![
                ("two stay", healthy(5, 2), Want::Pass),
                ("one stays", healthy(5, 1), Want::Warn),
                ("one of two stays", healthy(2, 1), Want::Warn),
                ("zero has its own rule", healthy(5, 0), Want::NotApplicable),
                ("growing", healthy(0, 1), Want::NotApplicable),
                ("the count stays", healthy(1, 1), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("no-standby-left", &pooled), @"
        no-standby-left: 1 instance is left: nothing to fail over to, and acid-a-repl and acid-a-pooler-repl will have no endpoints
          postgresql/acid-a: numberOfInstances: 3 -> 1
          Try: to keep one:
              kubectl pgscale down acid-a --to 2 -n db
        ");
        insta::assert_snapshot!(text("no-standby-left", &healthy(2, 1)), @"
        no-standby-left: 1 instance is left: nothing to fail over to, and acid-a-repl will have no endpoints
          postgresql/acid-a: numberOfInstances: 2 -> 1
          Try: point readers at acid-a first
        ");
    }

    pub(super) fn survivors_one_zone() {
        let zoned = |to, zones: [Option<&str>; 5]| {
            (0..5).zip(zones).fold(healthy(5, to), |facts, (ordinal, zone)| {
                facts.with_member(ordinal, |it| it.pod.zone = zone.map(str::to_owned))
            })
        };
        let (a, b) = (Some("a"), Some("b"));
        table(
            "survivors-one-zone",
            vec![
                ("two zones stay", zoned(3, [a, b, a, b, a]), Want::Pass),
                ("one stays", zoned(3, [a, a, a, b, b]), Want::Warn),
                ("there was but one", zoned(3, [a, a, a, a, a]), Want::Pass),
                (
                    "only one member is there to stay",
                    zoned(2, [a, b, a, b, a]).without(1),
                    Want::Pass,
                ),
                ("nobody tells", healthy(5, 3), Want::NotApplicable),
                ("one survivor's is unknown", zoned(3, [a, None, a, b, b]), Want::NotApplicable),
                ("one of the removed ones is unknown", zoned(3, [a, a, a, None, b]), Want::Warn),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("one has a rule of its own", zoned(1, [a, a, a, b, b]), Want::NotApplicable),
                ("growing", healthy(3, 5), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("survivors-one-zone", &zoned(2, [a, a, a, b, b])), @"
        survivors-one-zone: all kept members are in zone a; those in b are removed
          node/node-0: zone of acid-a-0: a
          node/node-1: zone of acid-a-1: a
          node/node-2: zone of acid-a-2: a
          node/node-3: zone of acid-a-3: b
          node/node-4: zone of acid-a-4: b
          Try: to keep a second zone:
              kubectl pgscale down acid-a --to 4 -n db
        ");
    }

    pub(super) fn cascade_condemned() {
        let tagged = |to, from: &str| {
            healthy(5, to)
                .with_answer(1, |answer| answer.tags.replicate_from = Some(from.to_owned()))
        };
        let sender = || Sender {
            name: "acid-a-1".into(),
            state: "streaming".into(),
            sync_state: "async".into(),
        };
        let feeding = |ordinal| {
            healthy(5, 3).with_answer(ordinal, |answer| answer.replication = vec![sender()])
        };
        let reported = healthy(5, 3).with_member(2, |member| {
            member.live = Live::Silent("no answer in 1s".into());
            if let Seen::Known(report) = &mut member.report {
                report.tags.replicate_from = Some("acid-a-4".into());
            }
        });
        let unreadable = healthy(5, 3).with_member(2, |member| {
            member.live = Live::Silent("no answer in 1s".into());
            member.report = Seen::Unreadable("not JSON".into());
        });
        table(
            "cascade-condemned",
            vec![
                ("all follow the leader", healthy(5, 3), Want::Pass),
                ("one follows a removed one", tagged(3, "ACID-A-3"), Want::Warn),
                ("one follows one that stays", tagged(3, "acid-a-2"), Want::Pass),
                ("one is fed by a removed one", feeding(3), Want::Warn),
                ("one is fed by one that stays", feeding(2), Want::Pass),
                ("fed by a leader that goes", feeding(4).with_leader(4), Want::Pass),
                ("one is silent and reported it", reported, Want::Warn),
                ("one is silent and unreadable", unreadable, Want::Unknown),
                ("one has not reported yet", healthy(5, 3).pending(2), Want::Pass),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("zero has its own rule", tagged(0, "acid-a-3"), Want::NotApplicable),
                ("growing", healthy(3, 5), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("cascade-condemned", &tagged(3, "acid-a-3")), @"
        cascade-condemned: kept members replicate from removed members: acid-a-1 from acid-a-3; they will be behind until they follow the leader
          http://10.244.0.11:8008/patroni: acid-a-1: tags.replicatefrom: acid-a-3
          Try: remove the tag replicatefrom first, or keep the source
        ");
        insta::assert_snapshot!(text("cascade-condemned", &feeding(3)), @"
        cascade-condemned: kept members replicate from removed members: acid-a-1 from acid-a-3; they will be behind until they follow the leader
          http://10.244.0.13:8008/patroni: acid-a-3: feeds: acid-a-1
          Try: remove the tag replicatefrom first, or keep the source
        ");
    }

    #[test]
    fn standbys_that_the_leader_fed_before_it_moves_are_no_cascade() {
        let fed = healthy(5, 3).with_leader(4).with_answer(4, |answer| {
            answer.replication = (0..4)
                .map(|ordinal| Sender {
                    name: format!("acid-a-{ordinal}"),
                    state: "streaming".into(),
                    sync_state: "async".into(),
                })
                .collect();
        });
        let judged = |facts: &Facts| CASCADE_CONDEMNED.judge(&facts.assess(), &Policies::default());
        assert_eq!(judged(&fed), Outcome::Pass);
        assert_eq!(judged(&fed.led_by("acid-a-0")), Outcome::Pass);
        // A member that a tag makes follow the old leader does so after the move, too.
        let tagged =
            fed.with_answer(1, |answer| answer.tags.replicate_from = Some("acid-a-4".into()));
        assert!(matches!(judged(&tagged.led_by("acid-a-0")), Outcome::Found(_)));
    }
}
