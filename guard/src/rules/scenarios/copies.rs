//! Members that are copies of the data, members that are not copies yet, and members that only seem
//! not to be.

use super::{bound, denials, verdict, warnings};
use crate::facts::{Facts, Repair, Seen};
use crate::patroni::State;
use crate::rules::testing::{healthy, text};

scenarios![
    only_the_unfinished_member_may_go_during_a_base_backup,
    diverged_survivor_never_replaces_the_removed_good_copy,
    good_copy_counts_while_its_pod_is_recreated,
];

fn only_the_unfinished_member_may_go_during_a_base_backup() {
    assert_eq!(denials(&healthy(4, 5).cloning(3)), ["rebuild-in-progress"]);
    let keeps_it = healthy(5, 4).cloning(3);
    assert_eq!(denials(&keeps_it), ["rebuild-in-progress"]);
    assert!(text("rebuild-in-progress", &keeps_it).contains("acid-a-3"));
    let removes_it = healthy(4, 3).cloning(3);
    assert_eq!(
        (denials(&removes_it), warnings(&removes_it)),
        (vec![], vec!["rebuild-in-progress"])
    );
    assert_eq!(removes_it.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    assert!(verdict(&healthy(5, 4)).findings.is_empty(), "once it streams all pass");
}

/// After a failover -0 leads on timeline 2. Only -1 has its rows of timeline 1. -2 follows.
fn diverged_survivor_never_replaces_the_removed_good_copy() {
    let standby = |facts: Facts, ordinal, timeline, position| {
        facts.with_answer(ordinal, |it| {
            it.timeline = Some(timeline);
            (it.received, it.replayed) = (Some(position), Some(position));
        })
    };
    let after = healthy(3, 2).with_answer(0, |it| it.timeline = Some(2));
    let good = standby(after, 2, 2, 900);
    let same_timeline = standby(good.clone(), 1, 2, 950);
    assert_eq!(same_timeline.assess().repair(), Some(Repair::RemovesUnhealthyOnly));
    for (name, facts) in [
        ("it has diverged", standby(good.clone(), 1, 1, 950)),
        ("it does not say on which timeline it is", {
            same_timeline.clone().with_answer(1, |it| it.timeline = None)
        }),
        (
            "it starts after pg_rewind",
            same_timeline.with_answer(1, |it| it.state = State::Starting),
        ),
    ] {
        assert_eq!(facts.assess().repair(), None, "{name}");
        let denied = denials(&facts);
        assert!(denied.contains(&"too-few-healthy-survivors"), "{name}: {denied:?}");
    }
}

/// -1 is stalled. A rolling update or a drain recreates the pod of -2, the only good standby.
fn good_copy_counts_while_its_pod_is_recreated() {
    let facts = || bound(healthy(3, 2).stalled([1]), Some(1 << 30));
    let ending = facts().with_member(2, |it| it.pod.terminating = true);
    let stopped = ending.clone().frozen(2).with_member(2, |it| it.pod.containers_running = false);
    let mut blind = facts().without(2);
    blind.claims = Seen::Unreadable("forbidden".into());
    for (name, facts) in [
        ("ending", ending.clone()),
        ("its receiver has ended", ending.clone().with_answer(2, |it| it.replication_state = None)),
        ("stopping", ending.clone().with_answer(2, |it| it.state = State::of("stopping"))),
        ("stopped", stopped.clone()),
        ("gone", facts().without(2)),
        ("gone, and the StatefulSet is hidden", facts().without(2).without_sight_of_the_set()),
        ("gone, and the claims are hidden", blind),
    ] {
        assert_eq!(facts.assess().repair(), None, "{name}");
        let denied = denials(&facts);
        assert!(denied.contains(&"too-few-healthy-survivors"), "{name}: {denied:?}");
    }
    insta::assert_snapshot!(text("too-few-healthy-survivors", &facts().without(2)), @"
    too-few-healthy-survivors: acid-a-2 would be removed, and of the kept members only 1 can be counted on; at least 2 must
      http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 600 bytes
      persistentvolumeclaim/pgdata-acid-a-2: may hold the data of: acid-a-2, which has no pod now
      Try: mend the members named here; to see when they are fit:
          kubectl pgscale status acid-a -n db
    ");
    // Where only the StatefulSet asks for fewer, the pod comes back with the operator's next sync.
    let lower = |facts: Facts| facts.with_count(4, 2).with_stateful_set(|set| set.replicas = 1);
    for facts in [lower(stopped), lower(facts().without(2))] {
        assert_eq!(facts.assess().repair(), None);
    }
}
