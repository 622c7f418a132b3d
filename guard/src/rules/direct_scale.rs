//! A StatefulSet that another writer than the operator scales.

use crate::assessment::Assessment;
use crate::facts::Seen;
use crate::object_ref::{self, ObjectRef};
use crate::policy::Policies;
use crate::remedy::{Command, Remedy};
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, EXISTING};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, keep_leader, set_count};
use crate::verdict::{Finding, Outcome};

pub(super) const STATEFULSET_SCALED: Rule = Rule {
    id: RuleId::STATEFULSET_SCALED,
    title: "someone other than the operator scales the StatefulSet itself",
    applies: Applies::on(&[EXISTING]).noted("the write of the StatefulSet itself"),
    default: "warn",
    kind: Kind::Live,
    page: "\
`kubectl scale statefulset`, an autoscaler or a downscaler that is pointed at the StatefulSet goes past the
operator and past every rule: the highest ordinals are deleted at once, the leader among them, and the
operator sets the count back at its next synchronisation. New members come and go the same way.

Signals: a write of `statefulsets` or `statefulsets/scale` of Spilo by anyone but the operator's account,
seen by the webhook; for a change of the cluster, spec.replicas of the StatefulSet other than what the
cluster runs, written by a manager other than the operator (managedFields).

Blind spots: the webhook only warns, so that a cluster can still be repaired by hand. Where it does not answer
within a second there is no warning. A write through the operator's account looks like the operator's.

Way out: scale the postgresql (`kubectl pgscale set NAME N`), and have the autoscaler scale it too.

Upstream: syncStatefulSet, pkg/cluster/sync.go, sets the replicas back.",
    reads: &[inputs::count, inputs::replicas],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: statefulset_scaled,
    #[cfg(any(test, feature = "testing"))]
    table: tests::statefulset_scaled,
};

fn statefulset_scaled(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    // The rule change-not-applied reports a StatefulSet that cannot be seen: it needs the
    // StatefulSet more.
    let (Some(from), Seen::Known(set)) = (facts.from(), &facts.stateful_set) else {
        return Outcome::NotApplicable;
    };
    let Some(manager) = set.scaled_by.as_ref().filter(|_| set.replicas != from) else {
        return Outcome::Pass;
    };
    let source = facts.stateful_set_source();
    let cluster = &facts.change.new;
    // A StatefulSet that another writer scales down deletes the leader without any switchover.
    let doomed = facts.leader_member().is_some_and(|leader| leader.ordinal >= from);
    let back = match (doomed, keep_leader(facts)) {
        (true, Some(keep)) => Remedy::to("keep the leader", keep),
        (true, None) => Remedy::note(format!("move the leader below ordinal {from} first")),
        (false, _) if set.replicas > from => Remedy::to(
            "the operator takes it back at its next sync; to keep the members",
            set_count(facts, set.replicas),
        ),
        (false, _) => {
            Remedy::to("take it back", take_back(&cluster.namespace, &cluster.name, from))
        }
    };
    Outcome::Found(
        Finding::warn(
            STATEFULSET_SCALED.id,
            format!(
                "the StatefulSet asks for {}, the cluster for {from}: {manager} scaled it past the operator",
                set.replicas
            ),
        )
        .because(source.clone(), "spec.replicas", set.replicas)
        .because(source, "writer of spec.replicas", manager)
        .remedy(back),
    )
}

/// Returns the finding for the writer that scales the StatefulSet `namespace/name` directly.
pub fn past_the_operator(namespace: &str, name: &str, from: i64, to: i64) -> Finding {
    let (least, most) = (from.min(to), from.max(to).saturating_sub(1));
    let (members, are) = if least == most {
        (format!("{name}-{least}"), "is")
    } else {
        (format!("{name}-{least} to {name}-{most}"), "are")
    };
    let comes_of_it = match (to < from, least == most) {
        (false, _) => "made unchecked,",
        (true, true) => "deleted unchecked, even if it leads,",
        (true, false) => "deleted unchecked, the leader too if it is among them,",
    };
    Finding::warn(
        STATEFULSET_SCALED.id,
        format!(
            "statefulset {namespace}/{name} goes from {from} to {to} past its operator: {members} {are} \
             {comes_of_it} until the operator's next sync. Take it back: {}. If {to} is meant: kubectl pgscale \
             set {name} {to} -n {namespace}",
            take_back(namespace, name, from)
        ),
    )
    .because(
        ObjectRef::new(object_ref::Kind::StatefulSet, name),
        "spec.replicas",
        format_args!("{from} -> {to}"),
    )
}

/// Returns the command that sets the StatefulSet back to the count that the cluster asks for.
pub(super) fn take_back(namespace: &str, name: &str, count: i64) -> Command {
    let replicas = format!("--replicas={count}");
    Command::kubectl(["scale", "statefulset", name, &replicas, "-n", namespace])
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
    use crate::facts::Facts;
    use crate::rules::testing::{Want, healthy, table, text};

    fn scaled(replicas: i64, by: Option<&str>) -> Facts {
        healthy(3, 2).with_stateful_set(|set| {
            set.replicas = replicas;
            set.scaled_by = by.map(str::to_owned);
        })
    }

    pub(super) fn statefulset_scaled() {
        let mut gone = healthy(3, 2);
        gone.stateful_set = Seen::Absent;
        let mut created = scaled(5, Some("kubectl"));
        created.change.old = None;
        table(
            "statefulset-scaled",
            vec![
                ("by the operator", scaled(5, None), Want::Pass),
                (
                    "by somebody, to what the cluster asks for",
                    scaled(3, Some("kubectl")),
                    Want::Pass,
                ),
                ("by somebody", scaled(5, Some("kubectl")), Want::Warn),
                ("unreadable", healthy(3, 2).without_sight_of_the_set(), Want::NotApplicable),
                ("none", gone, Want::NotApplicable),
                ("a new cluster over an old StatefulSet", created, Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("statefulset-scaled", &scaled(5, Some("kubectl"))), @"
        statefulset-scaled: the StatefulSet asks for 5, the cluster for 3: kubectl scaled it past the operator
          statefulset/acid-a: spec.replicas: 5; writer of spec.replicas: kubectl
          Try: the operator takes it back at its next sync; to keep the members:
              kubectl pgscale set acid-a 5 -n db
        ");
    }

    #[test]
    fn direct_scaling_is_reported_with_its_consequences() {
        insta::assert_snapshot!(past_the_operator("db", "acid-a", 5, 2).message, @"statefulset db/acid-a goes from 5 to 2 past its operator: acid-a-2 to acid-a-4 are deleted unchecked, the leader too if it is among them, until the operator's next sync. Take it back: kubectl scale statefulset acid-a --replicas=5 -n db. If 2 is meant: kubectl pgscale set acid-a 2 -n db");
        insta::assert_snapshot!(past_the_operator("db", "acid-a", 5, 4).message, @"statefulset db/acid-a goes from 5 to 4 past its operator: acid-a-4 is deleted unchecked, even if it leads, until the operator's next sync. Take it back: kubectl scale statefulset acid-a --replicas=5 -n db. If 4 is meant: kubectl pgscale set acid-a 4 -n db");
        insta::assert_snapshot!(past_the_operator("db", "acid-a", 2, 5).message, @"statefulset db/acid-a goes from 2 to 5 past its operator: acid-a-2 to acid-a-4 are made unchecked, until the operator's next sync. Take it back: kubectl scale statefulset acid-a --replicas=2 -n db. If 5 is meant: kubectl pgscale set acid-a 5 -n db");
    }
}
