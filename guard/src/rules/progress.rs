//! Work under way: an operation, or a change of the count that was not applied.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Seen, SpecEdit};
use crate::object_ref::{self, ObjectRef};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{
    Kind, NAMED, Rule, get_pods, inputs, kubectl, members_unseen, set_count, unread, wait,
};
use crate::verdict::{Finding, Outcome, Severity};

/// The annotation of a pod that the operator is to renew.
const ROLLING_UPDATE: &str = "zalando-postgres-operator-rolling-update-required";

pub(super) const OPERATION_IN_PROGRESS: Rule = Rule {
    id: RuleId::OPERATION_IN_PROGRESS,
    title: "Kubernetes or the operator is still busy with this cluster",
    applies: Applies::on(&[DOWN.to_at_least(1), UP]),
    default: "deny down, warn up",
    kind: Kind::Live,
    page: "\
While the StatefulSet is being replaced, a pod renewed or the last patch not yet seen by its controller, a
further change is queued behind, meets half-changed pods, or takes the path that skips the hand-over of the
leader.

An edit of the spec that the operator has not taken up yet would be carried out in one go with the new count.
That is a mixed change in two writes: the operator replaces the StatefulSet and does not move the leader.

Signals: the last write of the spec that is not older than the operator's last write of the status, both by
managedFields of the stored object; the StatefulSet's status.observedGeneration behind its generation; its
deletionTimestamp; its absence although pods exist; a pod that stays being deleted; the annotation
`zalando-postgres-operator-rolling-update-required` on any pod. Never the cluster's status alone: `Updating`
may stick for half an hour and `Running` is written while members are still being built. Never updatedReplicas
or currentRevision: with the OnDelete strategy they do not advance.

Blind spots: a synchronisation of the operator that has not touched anything yet shows nowhere. A renewal of
the pods that the operator has only just decided on shows when the annotation is set. Times have whole seconds:
an edit in the second of the last status counts for 5 seconds. For an edit of labels alone the operator writes
no status, and the writer of the spec may have made one: where it owns labels the edit counts for 5 minutes,
else until the next synchronisation (resync_period). Without managed fields nothing is seen.

Way out: `kubectl pgscale wait NAME`, and for an edit until `kubectl get postgresql NAME -n NAMESPACE -w` shows
another status. A flag that never goes away means that the operator cannot finish: its log says why.

Upstream: Update, pkg/cluster/cluster.go; syncStatefulSet, pkg/cluster/sync.go;
rollingUpdatePodAnnotationKey, pkg/cluster/resources.go.",
    reads: &[inputs::generation, inputs::marks, inputs::writes],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: operation_in_progress,
    #[cfg(any(test, feature = "testing"))]
    table: tests::operation_in_progress,
};

fn operation_in_progress(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let severity = match facts.direction() {
        Direction::Up => Severity::Warn,
        Direction::Create | Direction::Down | Direction::Same => Severity::Deny,
    };
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let mut evidence = Vec::new();
    let mut unknown = None;
    let source = facts.stateful_set_source();
    match &facts.stateful_set {
        Seen::Known(set) => {
            if set.terminating {
                evidence.push(Evidence::new(source, "metadata.deletionTimestamp", "set"));
            } else if set.observed_generation < set.generation {
                let (written, seen) = (set.generation, set.observed_generation);
                evidence.push(Evidence::new(source.clone(), "metadata.generation", written));
                evidence.push(Evidence::new(source, "status.observedGeneration", seen));
            }
        }
        Seen::Absent if members.is_empty() => {}
        Seen::Absent => {
            evidence.push(Evidence::absent(source));
            let pods = members.iter().map(|member| member.name.as_str());
            let pods: Vec<&str> = pods.take(NAMED).collect();
            evidence.push(Evidence::new(
                ObjectRef::all(object_ref::Kind::Pod),
                "still there",
                pods.join(", "),
            ));
        }
        Seen::Unreadable(why) => {
            unknown = Some(format!("the StatefulSet could not be read ({why})"));
        }
    }
    for member in members {
        if member.pod.terminating && member.ordinal < facts.to() {
            let pod = ObjectRef::pod(&member.name);
            let value = format_args!("set, and the count of {} keeps it", facts.to());
            evidence.push(Evidence::new(pod, "metadata.deletionTimestamp", value));
        }
        if member.pod.rolling_update_required {
            let field = format!("annotation {ROLLING_UPDATE}");
            evidence.push(Evidence::new(ObjectRef::pod(&member.name), &field, true));
        }
    }
    let edit = facts.pending_spec_edit();
    if let Some(SpecEdit { written, status }) = edit {
        let object = || facts.postgresql_source();
        evidence.push(Evidence::new(object(), "last write of the spec", written));
        evidence.push(Evidence::new(object(), "last write of the status", status));
    }
    if evidence.is_empty() {
        return unknown.map_or(Outcome::Pass, Outcome::Unknown);
    }
    let mut finding = Finding::new(
        OPERATION_IN_PROGRESS.id,
        severity,
        format!("an operation on {} is not finished", facts.change.cluster()),
    );
    finding.evidence = evidence;
    let renewed = members.iter().any(|member| member.pod.rolling_update_required);
    let remedy = if renewed {
        // Once the pods run, `wait` ends, whether the operator has renewed them or not.
        let marked = format!(
            "jsonpath={{.items[?(@.metadata.annotations.{ROLLING_UPDATE}==\"true\")].metadata.name}}"
        );
        wait(facts).or_to("and until this names no pod", get_pods(facts, &["-o", &marked]))
    } else if edit.is_some() {
        let get = kubectl(facts, &["get", "postgresql", &facts.change.new.name, "-w"]);
        wait(facts).or_to("and until the operator has written another status", get)
    } else {
        wait(facts)
    };
    Outcome::Found(finding.remedy(remedy))
}

pub(super) const CHANGE_NOT_APPLIED: Rule = Rule {
    id: RuleId::CHANGE_NOT_APPLIED,
    title: "the operator has not applied the last change of the count",
    applies: Applies::on(&[DOWN.to_at_least(1), UP.to_at_least(1)]),
    default: "deny a further shrink, else warn",
    kind: Kind::Live,
    page: "\
The StatefulSet does not run the count that the cluster asks for: the operator has not applied the last
change, because it is down, busy, does not own the cluster, or dropped the update (version 2 does so when
another write comes in between, until its next synchronisation). A further shrink would be carried out
later, together with the last one, in a state that no rule has checked.

Signals: numberOfInstances before this write, after the operator's own limits, against spec.replicas of the
StatefulSet. To return to what the StatefulSet runs cancels the change that is stuck, and passes. A shrink
that still leaves as many instances as run, and growth, are warned of.

Blind spots: where the operator's limits are not known the counts are compared as written. For a second or two
after every admitted change the difference is normal.

Way out: wait (`kubectl pgscale wait NAME`), look after the operator, or cancel the change.

Upstream: Update, pkg/cluster/cluster.go; getNumberOfInstances, pkg/cluster/k8sres.go.",
    reads: &[inputs::count, inputs::operator_limits, inputs::replicas],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: change_not_applied,
    #[cfg(any(test, feature = "testing"))]
    table: tests::change_not_applied,
};

fn change_not_applied(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let direction = facts.direction();
    let (from, to) = (facts.from().unwrap_or(0), facts.to());
    let runs = match &facts.stateful_set {
        Seen::Known(set) => set.replicas,
        // Without a StatefulSet beside pods an operation is under way, which has its own rule.
        Seen::Absent if from == 0 || !facts.all_members().is_empty() => {
            return Outcome::NotApplicable;
        }
        Seen::Absent => {
            return Outcome::Found(
                Finding::warn(
                    CHANGE_NOT_APPLIED.id,
                    format!("{from} instances asked for so far, and the operator runs none"),
                )
                .because_of(Evidence::absent(facts.stateful_set_source()))
                .remedy(Remedy::note("look into the operator's log, then wait").and(wait(facts))),
            );
        }
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    if runs == from || runs == to || Some(runs) == facts.from_by_settings() {
        return Outcome::Pass;
    }
    if let Some(why) = facts.operator.unreadable() {
        return unread("the operator's limits", why);
    }
    let severity =
        if direction == Direction::Down && to < runs { Severity::Deny } else { Severity::Warn };
    Outcome::Found(
        Finding::new(
            CHANGE_NOT_APPLIED.id,
            severity,
            format!("the operator has not applied the last change: {from} instances asked for, {runs} run"),
        )
        .because(facts.postgresql_source(), "numberOfInstances within the operator's limits", from)
        .because(facts.stateful_set_source(), "spec.replicas", runs)
        // With none running, a cancel would ask for a full outage.
        .remedy(if runs >= 1 {
            wait(facts).or_to("or cancel it", set_count(facts, runs))
        } else {
            wait(facts)
        }),
    )
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
    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::facts::Facts;
    use crate::postgresql::Writes;
    use crate::rules::testing::{Want, healthy, table, text};

    /// Returns facts in which the StatefulSet runs another count than the cluster asks for.
    fn running(from: i64, to: i64, runs: i64) -> Facts {
        healthy(from, to).with_stateful_set(|set| set.replicas = runs)
    }

    pub(super) fn operation_in_progress() {
        let behind =
            |from, to| healthy(from, to).with_stateful_set(|set| set.observed_generation = 3);
        let terminating =
            |ordinal| healthy(5, 3).with_member(ordinal, |it| it.pod.terminating = true);
        let rolling = |from, to| {
            healthy(from, to).with_member(from - 1, |it| it.pod.rolling_update_required = true)
        };
        let mut gone = healthy(5, 3);
        gone.stateful_set = Seen::Absent;
        let mut nothing = (0..5).fold(healthy(5, 3), Facts::without);
        nothing.stateful_set = Seen::Absent;
        table(
            "operation-in-progress",
            vec![
                ("at rest", healthy(5, 3), Want::Pass),
                ("at rest, growing", healthy(3, 5), Want::Pass),
                ("not observed yet", behind(5, 3), Want::Deny),
                ("not observed yet, growing", behind(3, 5), Want::Warn),
                (
                    "being deleted",
                    healthy(5, 3).with_stateful_set(|set| set.terminating = true),
                    Want::Deny,
                ),
                ("gone, pods remain", gone, Want::Deny),
                ("gone, and no pod", nothing, Want::Pass),
                ("a survivor ends", terminating(1), Want::Deny),
                ("a condemned one ends", terminating(4), Want::Pass),
                ("a pod is to be renewed", rolling(5, 3), Want::Deny),
                ("a pod is to be renewed, growing", rolling(3, 5), Want::Warn),
                ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("zero has its own rule", behind(5, 0), Want::NotApplicable),
                ("the count stays", behind(5, 5), Want::NotApplicable),
            ],
        );
        let mut busy = healthy(5, 3);
        busy.change.new.status = Some("Updating".into());
        table("operation-in-progress", vec![("the status alone proves nothing", busy, Want::Pass)]);
        let id = "operation-in-progress";
        insta::assert_snapshot!(text(id, &behind(5, 3).with_member(1, |it| it.pod.terminating = true)), @"
        operation-in-progress: an operation on db/acid-a is not finished
          statefulset/acid-a: metadata.generation: 4; status.observedGeneration: 3
          pod/acid-a-1: metadata.deletionTimestamp: set, and the count of 3 keeps it
          Try:
              kubectl pgscale wait acid-a -n db
        ");
        insta::assert_snapshot!(text(id, &rolling(3, 5)), @r#"
        operation-in-progress: an operation on db/acid-a is not finished
          pod/acid-a-2: annotation zalando-postgres-operator-rolling-update-required: true
          Try:
              kubectl pgscale wait acid-a -n db
            and until this names no pod:
              kubectl get pods -l application=spilo,cluster-name=acid-a -o jsonpath='{.items[?(@.metadata.annotations.zalando-postgres-operator-rolling-update-required=="true")].metadata.name}' -n db
        "#);
    }

    /// Returns facts whose spec was written so many seconds ago, and whose status so many.
    fn written(facts: Facts, spec: Option<i64>, status: Option<i64>) -> Facts {
        with_writes(facts, |before| Writes {
            spec: before(spec),
            status: before(status),
            ..Writes::default()
        })
    }

    fn with_writes(
        mut facts: Facts,
        writes: impl Fn(&dyn Fn(Option<i64>) -> Option<Timestamp>) -> Writes,
    ) -> Facts {
        let now = facts.now;
        let before = |seconds: Option<i64>| Some(now - SignedDuration::from_secs(seconds?));
        if let Some(old) = &mut facts.change.old {
            old.writes = writes(&before);
        }
        facts
    }

    #[test]
    fn edit_of_the_spec_is_worked_through_first() {
        let of = |spec: i64, status: i64| written(healthy(5, 3), Some(spec), Some(status));
        let labels = |ago: i64| {
            with_writes(healthy(5, 3), |before| Writes {
                spec: before(Some(900)),
                spec_or_labels: before(Some(ago)),
                status: before(Some(600)),
            })
        };
        let resync = |facts: Facts, minutes: i64| {
            facts.with_settings(|settings| {
                settings.shaping.resync = Some(SignedDuration::from_mins(minutes));
            })
        };
        let operator = |mut facts: Facts, change: fn(&mut Seen<crate::operator::Operator>)| {
            change(&mut facts.operator);
            facts
        };
        let stopped: fn(&mut Seen<crate::operator::Operator>) = |it| {
            if let Seen::Known(operator) = it {
                operator.available = Some(false);
            }
        };
        table(
            "operation-in-progress",
            vec![
                ("a busy operator", of(2, 30), Want::Deny),
                ("a busy operator, growing", written(healthy(3, 5), Some(2), Some(30)), Want::Warn),
                ("missed by the operator, or dropped", of(900, 2000), Want::Deny),
                ("synchronised since", of(1900, 2000), Want::Pass),
                ("synchronised since, by its own period", resync(of(400, 2000), 5), Want::Pass),
                ("its period is longer", resync(of(1900, 2000), 60), Want::Deny),
                ("nothing was synchronised", operator(of(1900, 2000), stopped), Want::Deny),
                (
                    "no operator is known",
                    operator(of(900, 2000), |it| *it = Seen::Absent),
                    Want::Deny,
                ),
                // An idle operator writes its status within the second, or in the next.
                ("an idle operator", of(3, 2), Want::Pass),
                ("in the same second, just now", of(1, 1), Want::Deny),
                ("in the same second, some seconds ago", of(6, 6), Want::Pass),
                ("long ago", of(90_000, 89_000), Want::Pass),
                ("perhaps an edit of labels, just now", labels(30), Want::Deny),
                ("perhaps an edit of labels, some time ago", labels(301), Want::Pass),
                ("no status was ever written", written(healthy(5, 3), Some(2), None), Want::Pass),
                ("the spec has no times", written(healthy(5, 3), None, Some(2)), Want::Pass),
                ("no managed fields", written(healthy(5, 3), None, None), Want::Pass),
            ],
        );
        insta::assert_snapshot!(text("operation-in-progress", &of(2, 30)), @"
        operation-in-progress: an operation on db/acid-a is not finished
          postgresql/acid-a: last write of the spec: 2026-11-24T09:59:58Z
          postgresql/acid-a: last write of the status: 2026-11-24T09:59:30Z
          Try:
              kubectl pgscale wait acid-a -n db
            and until the operator has written another status:
              kubectl get postgresql acid-a -w -n db
        ");
    }

    #[test]
    fn own_write_of_a_review_is_no_pending_edit() {
        let mut facts = written(healthy(5, 3), Some(40), Some(30));
        facts.change.new.writes.spec = Some(facts.now);
        table("operation-in-progress", vec![("the write itself", facts, Want::Pass)]);
    }

    pub(super) fn change_not_applied() {
        let mut gone = healthy(5, 3);
        gone.stateful_set = Seen::Absent;
        let nothing = (0..5).fold(gone.clone(), Facts::without);
        let limited = healthy(9, 4)
            .with_count(9, 4)
            .with_stateful_set(|set| set.replicas = 5)
            .with_settings(|settings| settings.max_instances = 5);
        let mut hidden = running(9, 4, 5);
        hidden.operator = Seen::Unreadable("deployments is forbidden".into());
        table(
            "change-not-applied",
            vec![
                ("applied", healthy(5, 3), Want::Pass),
                ("a further shrink", running(4, 2, 5), Want::Deny),
                ("a shrink after growth that never came", running(5, 2, 3), Want::Deny),
                ("no pod goes", running(5, 4, 3), Want::Warn),
                ("growth", running(4, 6, 5), Want::Warn),
                ("cancelled, down", running(5, 3, 3), Want::Pass),
                ("cancelled, up", running(2, 5, 5), Want::Pass),
                ("the operator's limits explain it", limited, Want::Pass),
                ("they might, but are hidden", hidden, Want::Unknown),
                ("the StatefulSet is gone, an operation", gone, Want::NotApplicable),
                ("nothing was ever applied", nothing, Want::Warn),
                ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
                ("zero has its own rule", running(4, 0, 5), Want::NotApplicable),
                ("the count stays", running(4, 4, 5), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("change-not-applied", &running(4, 2, 5)), @"
        change-not-applied: the operator has not applied the last change: 4 instances asked for, 5 run
          postgresql/acid-a: numberOfInstances within the operator's limits: 4
          statefulset/acid-a: spec.replicas: 5
          Try:
              kubectl pgscale wait acid-a -n db
            or cancel it:
              kubectl pgscale set acid-a 5 -n db
        ");
    }

    #[test]
    fn cancelling_a_change_never_asks_for_a_full_outage() {
        for to in [2, 4] {
            let found = text("change-not-applied", &running(3, to, 0));
            let keep = "keep it:\n      kubectl scale statefulset acid-a --replicas=3 -n db";
            assert!(found.ends_with(keep), "{found}");
            let mut leaderless = running(3, to, 0);
            leaderless.leader = Seen::Absent;
            let found = text("change-not-applied", &leaderless);
            assert!(found.ends_with("Try:\n      kubectl pgscale wait acid-a -n db"), "{found}");
        }
        assert!(text("change-not-applied", &running(3, 4, 1)).contains("cancel it"));
    }
}
