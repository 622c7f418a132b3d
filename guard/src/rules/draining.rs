//! The nodes of the kept members.

use std::collections::BTreeSet;

use crate::assessment::Assessment;
use crate::facts::{Draining, Member, Seen};
use crate::object_ref::{self, ObjectRef};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, get_pods, inputs, members_unseen, still_down, wait};
use crate::verdict::{Finding, Outcome};

pub(super) const SURVIVORS_DRAINING: Rule = Rule {
    id: RuleId::SURVIVORS_DRAINING,
    title: "kept members are on nodes that are being emptied, or would all be on one node",
    applies: Applies::on(&[DOWN.to_at_least(1)]),
    default: "warn",
    kind: Kind::Live,
    page: "\
A node that is being emptied takes its members with it within minutes: what the shrink leaves is then fewer
than the count says, and for a time perhaps none. The same holds where all members that stay are on one node:
the next drain of that node is a full outage.

Signals: of the kept members' own nodes, spec.unschedulable (`kubectl cordon`), a deletionTimestamp, and a
taint NoSchedule or NoExecute that the member's pod does not tolerate, such as those of cluster autoscalers.
Taints by which Kubernetes reports the state of a node are left out. A cluster whose members have been on
one node all along loses nothing and is not warned of.

Blind spots: who may not read nodes: then nothing is said. A drain that begins after the reading.

Way out: let the drain end and the member come back on another node first, or end the drain (`kubectl
uncordon`). Where all are on one node: a count that keeps a member elsewhere. These show the members with their
nodes, the nodes that are cordoned, and when the members are back:

    kubectl get pods -n NAMESPACE -l cluster-name=NAME -o wide
    kubectl get node
    kubectl pgscale wait NAME -n NAMESPACE

Upstream: the StatefulSet deletes the highest ordinals, whatever their place (`processCondemned`,
pkg/controller/statefulset/stateful_set_control.go of Kubernetes).",
    reads: &[inputs::draining],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: survivors_draining,
    #[cfg(any(test, feature = "testing"))]
    table: tests::survivors_draining,
};

fn survivors_draining(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let emptied = |member: &'_ Member| -> Option<(String, Draining)> {
        Some((member.pod.node.clone()?, member.pod.draining.clone()?))
    };
    let leaving: Vec<(&Member, (String, Draining))> =
        facts.survivors().filter_map(|member| Some((member, emptied(member)?))).collect();
    if leaving.is_empty() {
        return one_node(facts, members);
    }
    let on =
        |(member, (node, _)): &(&Member, (String, Draining))| format!("{} on {node}", member.name);
    let named: Vec<String> = leaving.iter().map(on).collect();
    let message = format!("kept members are on nodes that are being emptied: {}", named.join(", "));
    let mut finding = Finding::warn(SURVIVORS_DRAINING.id, message);
    let mut shown = BTreeSet::new();
    for (_, (node, sign)) in &leaving {
        let (field, value) = sign.shown();
        if shown.insert((node.clone(), value.clone())) {
            let node = ObjectRef::new(object_ref::Kind::Node, node);
            finding = finding.because(node, field, value);
        }
    }
    let remedy = if facts.doomed_leader().is_some() {
        wait(facts)
    } else {
        let seen = get_pods(facts, &["-o", "wide", "-w"]);
        Remedy::to("shrink once this shows them on other nodes", seen)
    };
    Outcome::Found(finding.remedy(remedy))
}

/// Judges that the shrink leaves all members on one node.
fn one_node(facts: &Assessment<'_>, members: &[Member]) -> Outcome {
    let node = |member: &Member| member.pod.node.clone();
    let Some(kept) = facts.survivors().map(node).collect::<Option<BTreeSet<_>>>() else {
        return Outcome::Pass;
    };
    let (Some(only), 1) = (kept.first(), kept.len()) else { return Outcome::Pass };
    let elsewhere: Vec<&Member> =
        members.iter().filter(|member| node(member).is_some_and(|it| it != *only)).collect();
    let Some(first) = elsewhere.first().filter(|_| facts.survivors().count() >= 2) else {
        return Outcome::Pass;
    };
    let message = format!("all kept members are on node {only}: its next drain stops them all");
    let mut finding = Finding::warn(SURVIVORS_DRAINING.id, message);
    for member in members {
        if let Some(node) = &member.pod.node {
            finding = finding.because(ObjectRef::pod(&member.name), "spec.nodeName", node);
        }
    }
    Outcome::Found(match still_down(facts, first.ordinal.saturating_add(1)) {
        Some(command) => finding.remedy(Remedy::to("to keep a second node", command)),
        None => finding.remedy("keep them, or move a kept member to another node first"),
    })
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
    use crate::facts::{Facts, Taint};
    use crate::rules::testing::{Want, healthy, table, text};

    fn emptied(facts: Facts, ordinal: i64, sign: Draining) -> Facts {
        facts.with_member(ordinal, |it| it.pod.draining = Some(sign))
    }

    fn tainted() -> Draining {
        Draining::Tainted(Taint {
            key: "karpenter.sh/disrupted".into(),
            value: None,
            effect: "NoSchedule".into(),
        })
    }

    /// Returns the cluster with its members below `count` on one node.
    fn together(facts: Facts, count: i64) -> Facts {
        (0..count).fold(facts, |facts, ordinal| {
            facts.with_member(ordinal, |it| it.pod.node = Some("node-0".into()))
        })
    }

    pub(super) fn survivors_draining() {
        let cordoned = |facts, ordinal| emptied(facts, ordinal, Draining::Cordoned);
        // The StatefulSet says 1 already, and the leader on -4 waits to be deleted.
        let doomed = || {
            let facts = cordoned(healthy(5, 3).with_leader(4), 0);
            facts.with_stateful_set(|set| set.replicas = 1)
        };
        let unplaced = |facts: Facts| facts.with_member(1, |it| it.pod.node = None);
        table(
            "survivors-draining",
            vec![
                ("no node is emptied", healthy(5, 3), Want::Pass),
                ("the leader's is cordoned", cordoned(healthy(5, 3), 0), Want::Warn),
                ("a standby's is cordoned", cordoned(healthy(5, 3), 1), Want::Warn),
                ("a standby's is tainted", emptied(healthy(5, 3), 1, tainted()), Want::Warn),
                ("it is deleted", emptied(healthy(5, 3), 1, Draining::Deleted), Want::Warn),
                ("the only one that stays", cordoned(healthy(3, 1), 0), Want::Warn),
                ("a removed one's", cordoned(healthy(5, 3), 4), Want::Pass),
                ("all on one node", together(healthy(5, 3), 3), Want::Warn),
                ("all on one node all along", together(healthy(5, 3), 5), Want::Pass),
                ("one has no node yet", unplaced(together(healthy(5, 3), 3)), Want::Pass),
                ("one that stays", together(healthy(5, 1), 1), Want::Pass),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("growth", cordoned(healthy(3, 5), 0), Want::NotApplicable),
                ("zero has its own rule", cordoned(healthy(3, 0), 0), Want::NotApplicable),
                ("waiting deletes the leader", doomed(), Want::Warn),
            ],
        );
        let id = "survivors-draining";
        let two = emptied(cordoned(healthy(5, 3), 0), 2, tainted());
        insta::assert_snapshot!(text(id, &two), @"
        survivors-draining: kept members are on nodes that are being emptied: acid-a-0 on node-0, acid-a-2 on node-2
          node/node-0: spec.unschedulable: true
          node/node-2: spec.taints: karpenter.sh/disrupted:NoSchedule
          Try: shrink once this shows them on other nodes:
              kubectl get pods -l application=spilo,cluster-name=acid-a -o wide -w -n db
        ");
        assert!(!text(id, &doomed()).contains("pgscale wait"), "{}", text(id, &doomed()));
        insta::assert_snapshot!(text(id, &together(healthy(5, 3), 3)), @"
        survivors-draining: all kept members are on node node-0: its next drain stops them all
          pod/acid-a-0, pod/acid-a-1, pod/acid-a-2: spec.nodeName: node-0
          pod/acid-a-3: spec.nodeName: node-3
          pod/acid-a-4: spec.nodeName: node-4
          Try: to keep a second node:
              kubectl pgscale down acid-a --to 4 -n db
        ");
    }
}
