//! The StatefulSet that the operator would write now, against the one that is there.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::facts::{Facts, Seen};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, kubectl, unread};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const REPLACE_PENDING: Rule = Rule {
    id: RuleId::REPLACE_PENDING,
    title: "the operator would replace the StatefulSet instead of updating it",
    applies: Applies::on(&[UP, DOWN.to_at_least(1)]),
    default: "down: deny if the leader is removed or pods are renewed, else warn; up: warn",
    kind: Kind::Live,
    page: "\
The StatefulSet is not the one that the operator would write now. An annotation of another program is there
(`kubectl rollout restart`, a mutating webhook), a label of the cluster was edited that the operator hands down,
or a setting of the operator has changed. With the next change or synchronisation the operator deletes the
StatefulSet and creates it again. On that path it does not try to move the leader at all: a leader on an
ordinal that goes is deleted. For some differences it also renews every pod, and waits up to 20 minutes for
each pod that the shrink has deleted.

Signals: the annotations of the StatefulSet, and the annotations and labels of its pod template, against what
the operator makes of the stored cluster by its settings: cluster_labels, cluster_name_label, the team,
inherited_labels, inherited_annotations, downscaler_annotations, custom_pod_annotations, podAnnotations,
kube_iam_role. What `ignored_annotations` names is left out. Further the pods' service account and termination
grace period, pod_management_policy and persistent_volume_claim_retention_policy. Who wrote a key does not
matter. Denied where the leader is not known to stay; leader-cannot-move then says the same of the leader.
Denied, too, where the pods would be renewed: for labels, service account and grace period.

Blind spots: owner references, and everything else in the template (resources, variables, volumes). An
operator whose settings were edited since it started may run with others: then the rule denies only where the
leader is not known to stay. Without a known operator the managers of annotations decide, which can be given
any name.

Way out: remove the annotation, or let the operator's next synchronisation replace the StatefulSet at the
present count (resync_period, 30 minutes by default), then ask again. A label that is edited alone is acted
on by no version before that. Where a program puts an annotation back each time, enter it in
`ignored_annotations`. `kubectl pgscale down NAME --to N` moves the leader first. The finding names the key, and
prints the command that removes it. These show the annotations, and the end of what the operator does:

    kubectl get statefulset NAME -n NAMESPACE -o jsonpath='{.metadata.annotations}'
    kubectl pgscale wait NAME -n NAMESPACE

Upstream: compareStatefulSetWith, pkg/cluster/cluster.go; labelsSet and annotationsSet, pkg/cluster/util.go;
replaceStatefulSet, pkg/cluster/resources.go. Edits of labels alone: postgresqlUpdate,
pkg/controller/postgresql.go.",
    reads: &[inputs::replacement, inputs::leader],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: replace_pending,
    #[cfg(any(test, feature = "testing"))]
    table: tests::replace_pending,
};

fn replace_pending(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let set = match &facts.stateful_set {
        Seen::Known(set) => set,
        // Without a StatefulSet beside pods an operation is under way, which has its own rule.
        Seen::Absent => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    // What this very write changes is for mixed-change to say.
    let stored = facts.change.old.as_ref().unwrap_or(&facts.change.new);
    let replacement = match facts.replacement(set, stored) {
        Ok(replacement) => replacement,
        Err(why) => return Outcome::Unknown(why),
    };
    if replacement.reasons.is_empty() {
        return Outcome::Pass;
    }
    let shrinks = facts.direction() == Direction::Down;
    let (severity, consequence) = if shrinks && !facts.leader_stays() {
        (Severity::Deny, "and not move the leader, which would be deleted")
    } else if shrinks && replacement.renews {
        (Severity::Deny, "and renew every pod while some are deleted")
    } else {
        (Severity::Warn, "with whatever else has piled up")
    };
    let mut finding = Finding::new(
        REPLACE_PENDING.id,
        severity,
        format!(
            "the operator would replace the StatefulSet of {} instead of updating it, {consequence}",
            facts.change.cluster()
        ),
    )
    .if_leader_goes(facts.leader_condemned());
    finding.evidence = replacement.reasons;
    Outcome::Found(finding.remedy(out_of_replacement(facts, &replacement.foreign)))
}

/// Returns the remedy: what can be removed by hand, and what ends with the operator's next
/// synchronisation.
fn out_of_replacement(facts: &Facts, foreign: &[String]) -> Remedy {
    let wait = "let the operator's next synchronisation replace it, then ask again";
    let name = &facts.change.new.name;
    if foreign.is_empty() {
        let watch = ["get", "statefulset", name, "--show-labels", "-w"];
        return Remedy::to(format!("{wait}; until then"), kubectl(facts, &watch));
    }
    let removed: Vec<String> = foreign.iter().map(|key| format!("{key}-")).collect();
    let words = ["annotate", "statefulset", name].into_iter();
    let words: Vec<&str> = words.chain(removed.iter().map(String::as_str)).collect();
    Remedy::to(format!("remove it, or {wait}"), kubectl(facts, &words))
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
    use crate::rules::testing::{Want, healthy, led_by_the_last, table, text};

    fn gone(mut facts: Facts) -> Facts {
        facts.stateful_set = Seen::Absent;
        facts
    }

    pub(super) fn replace_pending() {
        let annotated = |facts: Facts| {
            facts.with_annotation("kubectl.kubernetes.io/restartedAt", "kubectl-rollout")
        };
        table(
            "replace-pending",
            vec![
                ("its own annotations", healthy(5, 3), Want::Pass),
                ("a stranger's, the leader is kept", annotated(healthy(5, 3)), Want::Warn),
                ("a stranger's, the leader is removed", annotated(led_by_the_last(3)), Want::Deny),
                (
                    "a stranger's, the leader is hidden",
                    annotated(healthy(5, 3)).without_sight_of_the_lock(),
                    Want::Deny,
                ),
                ("a stranger's, growing", annotated(healthy(3, 5)), Want::Warn),
                ("no StatefulSet", gone(healthy(5, 3)), Want::NotApplicable),
                ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
                ("zero has its own rule", annotated(led_by_the_last(0)), Want::NotApplicable),
                ("the count stays", annotated(healthy(3, 3)), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("replace-pending", &annotated(led_by_the_last(3))), @"
        replace-pending: the operator would replace the StatefulSet of db/acid-a instead of updating it, and not move the leader, which would be deleted
          statefulset/acid-a: annotation kubectl.kubernetes.io/restartedAt: written by kubectl-rollout
          Try: this moves the leader to acid-a-0 first:
              kubectl pgscale down acid-a --to 3 -n db
        ");
        insta::assert_snapshot!(text("replace-pending", &annotated(healthy(3, 5))), @"
        replace-pending: the operator would replace the StatefulSet of db/acid-a instead of updating it, with whatever else has piled up
          statefulset/acid-a: annotation kubectl.kubernetes.io/restartedAt: written by kubectl-rollout
          Try: remove it, or let the operator's next synchronisation replace it, then ask again:
              kubectl annotate statefulset acid-a kubectl.kubernetes.io/restartedAt- -n db
        ");
    }

    /// Returns facts whose operator hands down the label `cost` and the annotation `owner`.
    fn handing_down(facts: Facts) -> Facts {
        facts.with_settings(|settings| {
            settings.shaping.inherited_labels = vec!["cost".into()];
            settings.shaping.inherited_annotations = vec!["owner".into()];
        })
    }

    /// Returns facts after an edit of the stored cluster that the operator has not acted on.
    fn edited(mut facts: Facts, edit: impl Fn(&mut crate::postgresql::Postgresql)) -> Facts {
        for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
            edit(cluster);
        }
        facts
    }

    fn of_version(mut facts: Facts, version: Option<u32>) -> Facts {
        if let Seen::Known(operator) = &mut facts.operator {
            operator.major = version;
        }
        facts
    }

    #[test]
    fn edit_of_inherited_label_is_worked_through_first() {
        let relabelled = |facts: Facts| {
            edited(facts, |cluster| {
                cluster.labels.insert("cost".into(), "7".into());
            })
        };
        for version in [Some(1), Some(2), None] {
            let of = |facts: Facts| of_version(facts, version);
            let handed = |facts| of(relabelled(handing_down(facts)));
            table(
                "replace-pending",
                vec![
                    ("handed down, the leader is removed", handed(led_by_the_last(3)), Want::Deny),
                    // Every pod is renewed, those that go as well.
                    ("handed down, the leader is kept", handed(healthy(5, 3)), Want::Deny),
                    ("handed down, growing", handed(healthy(3, 5)), Want::Warn),
                    ("not handed down", of(relabelled(led_by_the_last(3))), Want::Pass),
                    (
                        "worked through",
                        handed(led_by_the_last(3)).with_stateful_set(|set| {
                            set.compared.pod_labels.insert("cost".into(), "7".into());
                        }),
                        Want::Pass,
                    ),
                ],
            );
        }
        insta::assert_snapshot!(text("replace-pending", &relabelled(handing_down(healthy(5, 3)))), @"
        replace-pending: the operator would replace the StatefulSet of db/acid-a instead of updating it, and renew every pod while some are deleted
          statefulset/acid-a: spec.template label cost: none, and the operator would write 7
          Try: let the operator's next synchronisation replace it, then ask again; until then:
              kubectl get statefulset acid-a --show-labels -w -n db
        ");
    }

    #[test]
    fn edit_of_inherited_annotation_is_worked_through_first() {
        let annotated = |facts: Facts| {
            edited(handing_down(facts), |cluster| {
                cluster.annotations.insert("owner".into(), "ann".into());
            })
        };
        let done = |facts: Facts| {
            facts.with_stateful_set(|set| {
                for pairs in [&mut set.compared.annotations, &mut set.compared.pod_annotations] {
                    pairs.insert("owner".into(), "ann".into());
                }
            })
        };
        table(
            "replace-pending",
            vec![
                ("not worked through, the leader goes", annotated(led_by_the_last(3)), Want::Deny),
                ("not worked through, the leader stays", annotated(healthy(5, 3)), Want::Warn),
                ("worked through", done(annotated(led_by_the_last(3))), Want::Pass),
                (
                    "ignored",
                    annotated(led_by_the_last(3)).with_settings(|settings| {
                        settings.ignored_annotations = vec!["owner".into()];
                    }),
                    Want::Pass,
                ),
            ],
        );
    }

    #[test]
    fn foreign_annotation_is_known_by_its_key_and_not_by_its_manager() {
        // A mutating policy puts it into the operator's own write.
        let mutated = |facts: Facts| {
            facts.with_stateful_set(|set| {
                set.compared.annotations.insert("mesh".into(), "on".into());
            })
        };
        let on_pods = |facts: Facts| {
            facts.with_stateful_set(|set| {
                set.compared.pod_annotations.insert("mesh".into(), "on".into());
            })
        };
        let ignored = |facts: Facts| {
            facts.with_settings(|settings| settings.ignored_annotations = vec!["mesh".into()])
        };
        let stale = |mut facts: Facts| {
            if let Seen::Known(operator) = &mut facts.operator {
                operator.stale_settings = Some(true);
            }
            facts
        };
        let unknown = |mut facts: Facts| {
            facts.operator = Seen::Unreadable("deployments is forbidden".into());
            facts
        };
        let none = |mut facts: Facts| {
            facts.operator = Seen::Absent;
            facts
        };
        let last = || led_by_the_last(3);
        table(
            "replace-pending",
            vec![
                ("on the StatefulSet", mutated(last()), Want::Deny),
                ("on the template", on_pods(last()), Want::Deny),
                ("ignored", ignored(mutated(on_pods(last()))), Want::Pass),
                (
                    "ignored by settings that came later",
                    stale(ignored(mutated(last()))),
                    Want::Deny,
                ),
                ("the operator is hidden", unknown(mutated(last())), Want::Unknown),
                (
                    "the operator is hidden, a manager",
                    unknown(last().with_annotation("a", "b")),
                    Want::Deny,
                ),
                ("no operator is known", none(mutated(last())), Want::Pass),
                (
                    "no operator is known, a manager",
                    none(last().with_annotation("a", "b")),
                    Want::Deny,
                ),
            ],
        );
        insta::assert_snapshot!(text("replace-pending", &mutated(on_pods(healthy(5, 3)))), @"
        replace-pending: the operator would replace the StatefulSet of db/acid-a instead of updating it, with whatever else has piled up
          statefulset/acid-a: annotation mesh: not one that the operator writes
          statefulset/acid-a: spec.template annotation mesh: not one that the operator writes
          Try: remove it, or let the operator's next synchronisation replace it, then ask again:
              kubectl annotate statefulset acid-a mesh- -n db
        ");
    }

    #[test]
    fn other_settings_than_at_the_last_write_replace_the_set() {
        let set =
            |facts: Facts, change: fn(&mut crate::operator::Settings)| facts.with_settings(change);
        let stale = |mut facts: Facts| {
            if let Seen::Known(operator) = &mut facts.operator {
                operator.stale_settings = Some(true);
            }
            facts
        };
        let account: fn(&mut crate::operator::Settings) =
            |settings| settings.shaping.service_account = "other".into();
        table(
            "replace-pending",
            vec![
                ("parallel", set(healthy(5, 3), |it| it.shaping.parallel = true), Want::Warn),
                ("claims deleted", set(healthy(5, 3), |it| it.deletes_volumes = true), Want::Warn),
                (
                    "claims deleted, the leader goes",
                    set(led_by_the_last(3), |it| it.deletes_volumes = true),
                    Want::Deny,
                ),
                ("another account", set(healthy(5, 3), account), Want::Deny),
                (
                    "another account, once the operator restarts",
                    stale(set(healthy(5, 3), account)),
                    Want::Warn,
                ),
                (
                    "another time to end",
                    set(healthy(5, 3), |it| it.shaping.grace_seconds = Some(30)),
                    Want::Deny,
                ),
                (
                    "a time that is not understood",
                    set(healthy(5, 3), |it| it.shaping.grace_seconds = None),
                    Want::Pass,
                ),
                (
                    "a pattern that is not understood",
                    set(healthy(5, 3), |it| it.shaping.downscaler_annotations = vec!["(".into()]),
                    Want::Unknown,
                ),
            ],
        );
    }
}
