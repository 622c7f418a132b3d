//! The image of new members beside the one that runs.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Member, Seen};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, NAMED, Rule, inputs, kubectl, members_unseen, pgscale, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const IMAGES_DIFFER: Rule = Rule {
    id: RuleId::IMAGES_DIFFER,
    title: "new members would run another image than those that run",
    applies: Applies::on(&[UP.after_some()]).noted("if it adds members"),
    default: "warn",
    kind: Kind::Advisory,
    page: "\
With `enable_lazy_spilo_upgrade` the operator writes a new image into the StatefulSet and leaves the pods that
run as they are. A member that is added then runs another image than the others. With another C library its
collations may sort texts differently: its indexes were copied from the leader, and queries on it can miss
rows. Once it leads, so can writes that check a unique index.

Signals: the image of the container postgres in the StatefulSet's template, and in each pod as it was made.
What the kubelet reports is not compared: it names the same image in other ways.

Blind spots: one tag that was pushed twice names two images. Another image need not hold another C library.

Way out: bring the members that run to the new image first, one at a time and the leader last, or accept it and
compare the collations (`pg_collation_actual_version`) before clients read from the new member. The first
command shows the images, the second restarts a replica. Once all replicas have the new one, the last moves the
leader to such a MEMBER, and the former leader is restarted as the others were:

    kubectl get pods -n NAMESPACE -l cluster-name=NAME -o jsonpath='{.items[*].spec.containers[0].image}'
    kubectl delete pod MEMBER -n NAMESPACE
    kubectl pgscale wait NAME -n NAMESPACE
    kubectl pgscale switchover NAME --to MEMBER -n NAMESPACE

Upstream: enable_lazy_spilo_upgrade, docs/reference/operator_parameters.md; syncStatefulSet,
pkg/cluster/sync.go.",
    reads: &[inputs::images],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Leader]),
    check: images_differ,
    #[cfg(any(test, feature = "testing"))]
    table: tests::images_differ,
};

fn images_differ(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let set = match &facts.stateful_set {
        Seen::Known(set) => set,
        Seen::Absent => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    let Some(image) = set.image.as_ref().filter(|_| facts.adds_members()) else {
        return Outcome::Pass;
    };
    let others: Vec<(&Member, &String)> = members
        .iter()
        .filter_map(|member| Some((member, member.pod.image.as_ref()?)))
        .filter(|(_, own)| *own != image)
        .collect();
    let Some((first, _)) = others.first() else { return Outcome::Pass };
    let names: Vec<&str> = others.iter().map(|(it, _)| it.name.as_str()).take(NAMED).collect();
    let mut finding = Finding::warn(
        IMAGES_DIFFER.id,
        format!(
            "new members would run another image than {}: texts may sort differently",
            names.join(", ")
        ),
    )
    .because_of(Evidence::new(facts.stateful_set_source(), "image of postgres", image));
    for (member, own) in others.iter().take(NAMED) {
        finding = finding.because(ObjectRef::pod(&member.name), "image of postgres", own);
    }
    // The leader is renewed last, and only once another member leads.
    let leads = |member: &Member| facts.leader_name() == Some(member.name.as_str());
    let standby = others.iter().find(|(member, _)| !leads(member)).map(|(member, _)| member);
    let why = "give the members that run the new image first, one at a time, each once the last one streams";
    let remedy = match standby.filter(|_| facts.leader_name().is_some()) {
        Some(standby) => Remedy::to(why, kubectl(facts, &["delete", "pod", &standby.name])),
        None if leads(first) && members.len() > 1 => Remedy::to(
            "move the leader, then delete its old pod",
            pgscale(facts, "switchover", &[]),
        ),
        None => Remedy::note("compare the collations before clients read from the new member"),
    };
    Outcome::Found(finding.remedy(remedy))
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

    const OLD: &str = "ghcr.io/zalando/spilo-17:4.0-p2";
    const NEW: &str = "ghcr.io/zalando/spilo-17:4.0-p3";

    /// Returns the cluster with a new image in its template, and the old one in these members.
    fn lazy(facts: Facts, old: &[i64]) -> Facts {
        let facts = facts.with_stateful_set(|set| set.image = Some(NEW.into()));
        let ordinals: Vec<i64> = facts.all_members().iter().map(|it| it.ordinal).collect();
        ordinals.into_iter().fold(facts, |facts, ordinal| {
            let image = if old.contains(&ordinal) { OLD } else { NEW };
            facts.with_member(ordinal, |it| it.pod.image = Some(image.into()))
        })
    }

    pub(super) fn images_differ() {
        let mut gone = lazy(healthy(3, 5), &[0]);
        gone.stateful_set = Seen::Absent;
        table(
            "images-differ",
            vec![
                ("one image", lazy(healthy(3, 5), &[]), Want::Pass),
                ("none is known", healthy(3, 5), Want::Pass),
                ("all run the old one", lazy(healthy(3, 5), &[0, 1, 2]), Want::Warn),
                ("only the leader does", lazy(healthy(3, 5), &[0]), Want::Warn),
                ("the only member does", lazy(healthy(1, 2), &[0]), Want::Warn),
                ("no member is added", lazy(healthy(3, 3), &[0]).with_count(2, 3), Want::Pass),
                ("no StatefulSet", gone, Want::NotApplicable),
                ("StatefulSet unreadable", healthy(3, 5).without_sight_of_the_set(), Want::Unknown),
                ("pods unreadable", healthy(3, 5).without_sight_of_members(), Want::Unknown),
                ("from zero: none runs", lazy(healthy(0, 3), &[]), Want::NotApplicable),
                ("a shrink", lazy(healthy(5, 3), &[0]), Want::NotApplicable),
            ],
        );
        let id = "images-differ";
        insta::assert_snapshot!(text(id, &lazy(healthy(3, 5), &[0, 1, 2])), @"
        images-differ: new members would run another image than acid-a-0, acid-a-1, acid-a-2: texts may sort differently
          statefulset/acid-a: image of postgres: ghcr.io/zalando/spilo-17:4.0-p3
          pod/acid-a-0, pod/acid-a-1, pod/acid-a-2: image of postgres: ghcr.io/zalando/spilo-17:4.0-p2
          Try: give the members that run the new image first, one at a time, each once the last one streams:
              kubectl delete pod acid-a-1 -n db
        ");
        let mut leaderless = lazy(healthy(3, 5), &[0, 1, 2]);
        leaderless.leader = Seen::Absent;
        assert!(!text(id, &leaderless).contains("delete"), "it may be the newest copy");
        insta::assert_snapshot!(text(id, &lazy(healthy(3, 5), &[0])), @"
        images-differ: new members would run another image than acid-a-0: texts may sort differently
          statefulset/acid-a: image of postgres: ghcr.io/zalando/spilo-17:4.0-p3
          pod/acid-a-0: image of postgres: ghcr.io/zalando/spilo-17:4.0-p2
          Try: move the leader, then delete its old pod:
              kubectl pgscale switchover acid-a -n db
        ");
    }
}
