//! The kept members: their number and their health.

use std::collections::BTreeSet;

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Health, Member};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, NAMED, Rule, inputs, members_unseen, status};
use crate::verdict::{Finding, Outcome};

pub(super) const TOO_FEW_HEALTHY_SURVIVORS: Rule = Rule {
    id: RuleId::TOO_FEW_HEALTHY_SURVIVORS,
    title: "healthy members would be removed and too few healthy ones kept",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "deny",
    kind: Kind::Live,
    page: "\
The StatefulSet deletes the highest ordinals, healthy or not. If the kept members are the broken ones,
the good copies are deleted: after the next failure no member can take over, or one that lacks the last rows
does.

At least min(2, to) of the kept members must be fit to take over: PostgreSQL runs, on the leader's
timeline, within a second it had received what the leader had when asked, its replay is not behind by more
than Patroni allows, it is not tagged nofailover, its pod and node are well. The leader counts if it is
healthy itself; one whose pod goes counts no more, and one of the others has to take its place. A member
whose health is unknown counts as healthy where it would go and as not healthy where it would stay. So does
one whose pod is being recreated: ending or gone, while the StatefulSet asks for it and its claim is bound.

Signals: one `GET http://POD_IP:8008/patroni` to the leader and to each survivor, the pods and their nodes;
for removed members and have no pod, the StatefulSet's count and the volume claims. The pods' annotations
are not enough: they are written only on change, so a frozen member says \"running\" for ever.

Blind spots: only the moment of asking is seen. Whether the data are intact cannot be seen from outside.
Since Patroni 4.1, with PostgreSQL 13 and later, `received_location` is what a replica has written: where its
node fails in the next moment, rows that it had not flushed yet are lost. A synchronous standby has flushed
every acknowledged row, so that one leads next where there is one. An answer that names another member or
cluster (`patroni.name`, `patroni.scope`) is not believed.

Way out: mend the survivors that are named, or shrink to a count that keeps a fit member; `kubectl pgscale
plan NAME --to N` shows each. To remove only unhealthy members is never refused.

Upstream: `is_failover_possible` and `is_lagging`, patroni/api.py and patroni/ha.py; `get_postgresql_status`,
patroni/api.py.",
    reads: &[
        inputs::leader,
        inputs::pods,
        inputs::answers,
        inputs::lag,
        inputs::max_lag,
        inputs::missed_claims,
    ],
    needs: reads::HEALTH.and(&[Read::StatefulSet, Read::Claims]),
    check: too_few_healthy_survivors,
    #[cfg(any(test, feature = "testing"))]
    table: tests::too_few_healthy_survivors,
};

fn too_few_healthy_survivors(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let mut missed = facts.condemned().filter(|member| facts.missed(member)).peekable();
    let absent = facts.missed_claims();
    if missed.peek().is_none() && absent.as_ref().is_ok_and(Vec::is_empty) {
        return Outcome::Pass;
    }
    let needed = facts.fit_needed();
    let states: Vec<_> = facts.survivors().map(|member| (member, facts.fitness(member))).collect();
    let fit = states.iter().filter(|(_, health)| *health == Health::Healthy).count();
    if fit >= needed {
        return Outcome::Pass;
    }
    let unknown: Vec<_> = states
        .iter()
        .filter_map(|(_, health)| match health {
            Health::Unknown(why) => Some(why.as_str()),
            Health::Healthy | Health::Unhealthy(_) => None,
        })
        .collect();
    if fit + unknown.len() >= needed {
        // A leader that says nothing is the one cause of all of them.
        let causes: BTreeSet<_> = unknown.into_iter().collect();
        return Outcome::Unknown(format!(
            "{fit} of the members that would be kept can be counted on, {needed} are needed ({})",
            causes.into_iter().collect::<Vec<_>>().join("; ")
        ));
    }
    let absent = match absent {
        Err(why) if missed.peek().is_none() => return Outcome::Unknown(why),
        absent => absent.unwrap_or_default(),
    };
    let gone = missed
        .map(|member| member.name.clone())
        .chain(absent.iter().map(|claim| facts.pod_name(claim.ordinal)))
        .collect::<Vec<_>>()
        .join(", ");
    let mut finding = Finding::deny(
        TOO_FEW_HEALTHY_SURVIVORS.id,
        format!(
            "{gone} would be removed, and of the kept members {} can be counted on; at least {needed} must",
            match fit {
                0 => "none".to_owned(),
                count => format!("only {count}"),
            }
        ),
    );
    for (member, health) in &states {
        finding.evidence.extend(complaints(facts, member, health));
    }
    finding.evidence.extend(missing(facts));
    finding.evidence.extend(inputs::missed_claims(facts, policies));
    let by_policy = states.iter().any(|(_, health)| health.lags_by_policy())
        || facts.condemned().any(|member| facts.spared_by_policy(member));
    let remedy = "mend the members named here; to see when they are fit";
    Outcome::Found(finding.remedy(Remedy::to(remedy, status(facts))).if_by_policy_lag(by_policy))
}

pub(super) const SURVIVOR_UNHEALTHY: Rule = Rule {
    id: RuleId::SURVIVOR_UNHEALTHY,
    title: "a kept member is not healthy",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "warn",
    kind: Kind::Live,
    page: "\
A member that is kept does not answer, does not run, is behind, is being rebuilt, or has no pod, though enough
others are well. The shrink is not refused for it, but it leaves fewer good copies than the new count says,
and with the default OrderedReady policy the StatefulSet waits for a survivor that is not Ready before it
deletes anything: the shrink then happens later, unguarded.

Signals: as for too-few-healthy-survivors; ordinals below the new count that have no pod.

Blind spots: a pod without a readiness probe (the operator's default) is Ready as soon as it starts. A member
tagged nofailover is healthy here; it is not counted on for a takeover.

Way out: mend it first. The first command says what ails it. The second copies a MEMBER that does not lead from
the leader again, the third restarts it:

    kubectl pgscale status NAME -n NAMESPACE --why
    kubectl exec NAME-0 -n NAMESPACE -c postgres -- patronictl reinit NAME MEMBER --force
    kubectl delete pod MEMBER -n NAMESPACE
    kubectl pgscale wait NAME -n NAMESPACE

Upstream: processReplica, pkg/controller/statefulset/stateful_set_control.go of Kubernetes.",
    reads: &[inputs::leader, inputs::pods, inputs::answers, inputs::lag, inputs::max_lag],
    needs: reads::HEALTH,
    check: survivor_unhealthy,
    #[cfg(any(test, feature = "testing"))]
    table: tests::survivor_unhealthy,
};

fn survivor_unhealthy(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let mut names = Vec::new();
    let mut evidence = Vec::new();
    for member in facts.survivors() {
        let health = facts.health(member);
        if health != Health::Healthy {
            names.push(member.name.clone());
            evidence.extend(complaints(facts, member, &health));
        }
    }
    let absent = missing(facts);
    names.extend(facts.missing_survivors().take(NAMED).map(|ordinal| facts.pod_name(ordinal)));
    evidence.extend(absent);
    if names.is_empty() {
        return Outcome::Pass;
    }
    let mut finding = Finding::warn(
        SURVIVOR_UNHEALTHY.id,
        format!("of the kept members, {} cannot be counted on", names.join(", ")),
    );
    finding.evidence = evidence;
    let by_policy = facts.survivors().any(|member| facts.health(member).lags_by_policy());
    let remedy = Remedy::to("mend what this names", status(facts));
    Outcome::Found(finding.remedy(remedy).if_by_policy_lag(by_policy))
}

/// Returns the evidence against counting on `member`.
fn complaints(facts: &Assessment<'_>, member: &Member, health: &Health) -> Vec<Evidence> {
    match health {
        Health::Healthy => Vec::new(),
        Health::Unhealthy(problems) => {
            problems.iter().map(|problem| facts.evidence_for(member, problem)).collect()
        }
        Health::Unknown(why) => {
            vec![Evidence::new(facts.source_of(member), "health not known", why)]
        }
    }
}

/// Returns the first survivors that have no pod.
fn missing(facts: &Assessment<'_>) -> impl Iterator<Item = Evidence> {
    facts
        .missing_survivors()
        .take(NAMED)
        .map(|ordinal| Evidence::absent(ObjectRef::pod(&facts.pod_name(ordinal))))
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
    use std::num::NonZeroU32;

    use crate::facts::Facts;
    use crate::facts::{Live, Seen};
    use crate::patroni::{Role, Sender};
    use crate::rules::testing::{Want, healthy, now, table, text};

    /// Returns five members of an old Patroni, of which two stay, and whose leader lists these.
    fn old_patroni(fed: &[&str]) -> Facts {
        let sender = |name: &&str| Sender {
            name: (*name).to_owned(),
            state: "streaming".to_owned(),
            sync_state: "async".to_owned(),
        };
        let facts = (0..5).fold(healthy(5, 2), |facts, ordinal| {
            facts.with_answer(ordinal, |answer| {
                answer.replication_state = None;
                answer.version = Some("2.1.4".into());
            })
        });
        facts.with_answer(0, |leader| leader.replication = fed.iter().map(sender).collect())
    }

    /// Returns the cluster of which some members' Patroni reached the store an hour ago.
    fn without_store(facts: Facts, lost: &[i64]) -> Facts {
        let ordinals: Vec<i64> = facts.all_members().iter().map(|it| it.ordinal).collect();
        ordinals.into_iter().fold(facts, |facts, it| {
            let ago = if lost.contains(&it) { 3600 } else { 10 * (it % 2) };
            let seen = (now().as_second() - ago).try_into().unwrap();
            facts.with_answer(it, |answer| answer.dcs_last_seen = NonZeroU32::new(seen))
        })
    }

    pub(super) fn too_few_healthy_survivors() {
        let late = |allowed| {
            healthy(5, 2)
                .with_answer(1, |answer| answer.replayed = Some(400))
                .with_configuration(|config| config.maximum_lag_on_failover = allowed)
        };
        let hidden_limit = |mut facts: Facts| {
            facts.configuration = Seen::Unreadable("timed out".into());
            facts
        };
        let one_unknown = |to| healthy(5, to).with_answer(1, |answer| answer.timeline = None);
        let silent = |to| (0..5).fold(healthy(5, to), Facts::frozen);
        table(
            "too-few-healthy-survivors",
            vec![
                ("two fit ones stay", healthy(5, 2), Want::Pass),
                ("to one: the leader is enough", healthy(5, 1).stalled([1, 2]), Want::Pass),
                ("one of two is behind", healthy(5, 2).stalled([1]), Want::Deny),
                ("one of three is behind", healthy(5, 3).stalled([1]), Want::Pass),
                ("two of three are behind", healthy(5, 3).stalled([1, 2]), Want::Deny),
                ("one is tagged", healthy(5, 2).nofailover(1), Want::Deny),
                ("the leader's own tag does not matter", healthy(5, 2).nofailover(0), Want::Pass),
                ("one does not answer", healthy(5, 2).frozen(1), Want::Deny),
                ("one is being cloned", healthy(5, 2).cloning(1), Want::Deny),
                ("one has no pod", healthy(5, 2).without(1), Want::Deny),
                (
                    "the leader is removed, two fit ones stay",
                    healthy(5, 2).with_leader(4),
                    Want::Pass,
                ),
                (
                    "the leader is removed, one takes its place",
                    healthy(5, 1).with_leader(4),
                    Want::Pass,
                ),
                (
                    "the leader is removed, nobody can",
                    healthy(5, 1).with_leader(4).stalled([0]),
                    Want::Deny,
                ),
                (
                    "the leader is removed, one of two can",
                    healthy(5, 2).with_leader(4).stalled([1]),
                    Want::Deny,
                ),
                ("only unhealthy ones go", healthy(3, 2).stalled([1, 2]), Want::Pass),
                ("a silent one would be missed", healthy(3, 2).stalled([1]).frozen(2), Want::Deny),
                (
                    "a silent one on a lost node would not",
                    healthy(3, 2).stalled([1]).frozen(2).with_member(2, |it| {
                        it.pod.node_ready = Some(false);
                    }),
                    Want::Pass,
                ),
                (
                    "nobody goes: the pods were never created",
                    { healthy(5, 3).stalled([1, 2]).without(3).without(4) },
                    Want::Pass,
                ),
                ("an unknown one does not decide", one_unknown(3), Want::Pass),
                ("an unknown one decides", one_unknown(2), Want::Unknown),
                (
                    "an unknown one cannot save it",
                    one_unknown(3).stalled([2]).frozen(0),
                    Want::Unknown,
                ),
                ("no member answers", silent(3), Want::Unknown),
                (
                    "one was not asked",
                    healthy(5, 2).with_member(1, |it| it.live = Live::NotAsked),
                    Want::Unknown,
                ),
                ("one replays late, as far as allowed", late(1000), Want::Pass),
                ("one replays later than allowed", late(10), Want::Deny),
                ("how late it may be is hidden", hidden_limit(late(1000)), Want::Unknown),
                ("the same, and all is replayed", hidden_limit(healthy(5, 2)), Want::Pass),
                (
                    "one's replay is paused",
                    { healthy(5, 2).with_answer(1, |answer| answer.replay_paused = true) },
                    Want::Deny,
                ),
                (
                    "one claims to lead",
                    { healthy(5, 2).with_answer(1, |answer| answer.role = Role::Primary) },
                    Want::Deny,
                ),
                (
                    "the leader does not claim to",
                    { healthy(5, 2).with_answer(0, |answer| answer.role = Role::Replica) },
                    Want::Deny,
                ),
                (
                    "an old Patroni says nothing of replication, and the leader feeds it",
                    old_patroni(&["acid-a-1"]),
                    Want::Pass,
                ),
                (
                    "an old Patroni, and the leader feeds only one that goes",
                    old_patroni(&["acid-a-3"]),
                    Want::Deny,
                ),
                ("an old Patroni, and the leader feeds no member", old_patroni(&[]), Want::Deny),
                (
                    "an old Patroni that replicates from another member",
                    old_patroni(&["acid-a-2"]).with_answer(1, |answer| {
                        answer.tags.replicate_from = Some("acid-a-2".into());
                    }),
                    Want::Pass,
                ),
                ("a survivor lost the store", without_store(healthy(5, 2), &[1]), Want::Deny),
                (
                    "a survivor that has just lost the store",
                    healthy(5, 2).with_answer(1, |answer| {
                        answer.dcs_last_seen =
                            NonZeroU32::new((now().as_second() - 35).try_into().unwrap());
                    }),
                    Want::Pass,
                ),
                (
                    "a survivor whose watchdog failed",
                    healthy(5, 2).with_answer(1, |answer| answer.watchdog_failed = true),
                    Want::Deny,
                ),
                (
                    "a survivor lost its receiver, and nobody writes",
                    healthy(5, 2).with_answer(1, |answer| answer.replication_state = None),
                    Want::Deny,
                ),
                (
                    "the removed ones are a byte behind, the kept standbys are far behind",
                    healthy(5, 3)
                        .stalled([1, 2])
                        .with_answer(3, |it| it.received = Some(999))
                        .with_answer(4, |it| it.received = Some(999)),
                    Want::Deny,
                ),
                (
                    "the removed ones have their replay paused, the kept standbys are far behind",
                    healthy(5, 3)
                        .stalled([1, 2])
                        .with_answer(3, |it| it.replay_paused = true)
                        .with_answer(4, |it| it.replay_paused = true),
                    Want::Deny,
                ),
                (
                    "the removed ones are cloned, the kept standbys are far behind",
                    healthy(5, 3).stalled([1, 2]).cloning(3).cloning(4),
                    Want::Pass,
                ),
                (
                    "the leader does not say how far it is",
                    { healthy(5, 2).with_answer(0, |answer| answer.location = None) },
                    Want::Unknown,
                ),
                ("pods unreadable", healthy(5, 2).without_sight_of_members(), Want::Unknown),
                ("zero has its own rule", healthy(5, 0).stalled([1]), Want::NotApplicable),
                ("growing", healthy(3, 5).stalled([1, 2]), Want::NotApplicable),
            ],
        );
        let id = "too-few-healthy-survivors";
        insta::assert_snapshot!(text(id, &healthy(5, 2).with_leader(4).stalled([0, 1])), @"
        too-few-healthy-survivors: acid-a-2, acid-a-3, acid-a-4 would be removed, and of the kept members none can be counted on; at least 2 must
          http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 600 bytes
          http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 600 bytes
          Try: not 2, but 4; this moves the leader to acid-a-2 first:
              kubectl pgscale down acid-a --to 4 -n db
        ");
        insta::assert_snapshot!(text(id, &healthy(5, 3).nofailover(1).without(2)), @"
        too-few-healthy-survivors: acid-a-3, acid-a-4 would be removed, and of the kept members only 1 can be counted on; at least 2 must
          http://10.244.0.11:8008/patroni: acid-a-1: tags.nofailover: true
          pod/acid-a-2: not there
          Try: mend the members named here; to see when they are fit:
              kubectl pgscale status acid-a -n db
        ");
        insta::assert_snapshot!(text(id, &one_unknown(2)), @"
        too-few-healthy-survivors: cannot be judged: 1 of the members that would be kept can be counted on, 2 are needed (acid-a-1 did not report its timeline)
          Try: not 2, but 3:
              kubectl pgscale down acid-a --to 3 -n db
        ");
        let silent_leader =
            healthy(5, 2).with_leader(4).with_answer(4, |answer| answer.location = None);
        let said = text(id, &silent_leader);
        assert_eq!(said.matches("did not report its WAL position").count(), 1, "{said}");
    }

    pub(super) fn survivor_unhealthy() {
        table(
            "survivor-unhealthy",
            vec![
                ("all are well", healthy(5, 3), Want::Pass),
                ("a condemned one is not", healthy(5, 3).frozen(4), Want::Pass),
                ("a tag is no illness", healthy(5, 3).nofailover(1), Want::Pass),
                ("one does not answer", healthy(5, 3).frozen(1), Want::Warn),
                ("one is behind", healthy(5, 3).stalled([1]), Want::Warn),
                (
                    "its node is lost",
                    healthy(5, 3).with_member(1, |it| it.pod.node_ready = Some(false)),
                    Want::Warn,
                ),
                ("one has no pod", healthy(5, 3).without(1), Want::Warn),
                (
                    "one cannot be judged",
                    healthy(5, 3).with_answer(1, |it| it.timeline = None),
                    Want::Warn,
                ),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("zero has its own rule", healthy(5, 0).frozen(1), Want::NotApplicable),
                ("growing", healthy(3, 5).frozen(1), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("survivor-unhealthy", &healthy(9, 5).frozen(1).stalled([2]).without(3)
            .with_member(4, |it| it.pod.node_ready = Some(false))), @"
        survivor-unhealthy: of the kept members, acid-a-1, acid-a-2, acid-a-4, acid-a-3 cannot be counted on
          http://10.244.0.11:8008/patroni: acid-a-1: does not answer: no answer in 1s
          http://10.244.0.12:8008/patroni: acid-a-2: WAL not received after 1s: 600 bytes
          node/node-4: condition Ready: not True (acid-a-4 runs on it)
          pod/acid-a-3: not there
          Try: acid-a-4 runs on node-4, which is not Ready:
              kubectl describe node node-4
            mend what this names:
              kubectl pgscale status acid-a -n db
        ");
    }

    #[test]
    fn a_million_missing_members_are_counted_without_a_list() {
        let finding =
            text("survivor-unhealthy", &healthy(3, 2).with_count(2_000_000_000, 1_999_999_999));
        insta::assert_snapshot!(finding, @"
        survivor-unhealthy: of the kept members, acid-a-3, acid-a-4, acid-a-5, acid-a-6, acid-a-7 cannot be counted on
          pod/acid-a-3, pod/acid-a-4, pod/acid-a-5, pod/acid-a-6, pod/acid-a-7: not there
          Try: mend what this names:
              kubectl pgscale status acid-a -n db
        ");
    }
}
