//! Tests of the list of several clusters.

use super::*;
use crate::status::worst_first;

/// Returns one cluster of every kind, the worst last.
fn fleet() -> Vec<Status> {
    let named = |name: &str, mut facts: Facts, missing: &[&str]| {
        facts.change.new.name = name.into();
        status(facts, missing)
    };
    let mut leaderless = facts(3, 3, 0);
    if let Seen::Known(lock) = &mut leaderless.leader {
        lock.holder = None;
    }
    let mut clamped = facts(3, 3, 0);
    clamped.change.new.instances = Some(9);
    if let Seen::Known(operator) = &mut clamped.operator {
        operator.settings.max_instances = 3;
    }
    let cloning = with(facts(3, 3, 0), 2, |member| {
        member.live = Live::NotAsked;
        member.report = Seen::Absent;
    });
    let mut unseen = facts(3, 3, 0);
    unseen.members = Seen::Unreadable("may not list pods".into());
    let mut all = vec![
        named("healthy", facts(3, 3, 0), &[]),
        named("behind", stalled(facts(3, 3, 0), 1), &["acid-a-1: 990 bytes behind"]),
        named("cloning", cloning, &["acid-a-2: being rebuilt"]),
        named("clamped", clamped, &[]),
        named("unseen", unseen, &["the members cannot be listed"]),
        named("leaderless", leaderless, &["no member holds a valid leader lock"]),
    ];
    worst_first(&mut all);
    all
}

#[test]
fn a_list_puts_the_worst_first() {
    insta::assert_snapshot!(plain(&list(&fleet(), true, false, None)), @r"
    NAMESPACE   NAME         DECLARED   EFFECTIVE   RUNNING   LEADER     STATUS         AGE
    db          leaderless   3          3           3         none       NoLeader       4d
    db          unseen       3          3           unknown   acid-a-0   Unknown        4d
    db          clamped      9          3           3         acid-a-0   CountDiffers   4d
    db          cloning      3          3           3         acid-a-0   Rebuilding     4d
    db          behind       3          3           3         acid-a-0   NotConverged   4d
    db          healthy      3          3           3         acid-a-0   Converged      4d
    ");
    insta::assert_snapshot!(plain(&list(&fleet(), false, true, None)), @"
    NAME         DECLARED   EFFECTIVE   RUNNING   LEADER     STATUS         AGE   WHY
    leaderless   3          3           3         none       NoLeader       4d    no member leads: nothing can be written
    unseen       3          3           unknown   acid-a-0   Unknown        4d    the pods could not be listed, so most causes cannot be found
    clamped      9          3           3         acid-a-0   CountDiffers   4d    9 declared, and the operator runs 3
    cloning      3          3           3         acid-a-0   Rebuilding     4d    acid-a-2 is being built
    behind       3          3           3         acid-a-0   NotConverged   4d    acid-a-1 does not receive: it lacks 990 B
    healthy      3          3           3         acid-a-0   Converged      4d    -
    ");
}

#[test]
fn several_clusters() {
    let mut other = facts(3, 3, 0);
    other.change.new.namespace = "shop".into();
    let all = [troubled(), status(other, &[])];
    insta::assert_snapshot!(plain(&list(&all, false, false, None)), @r"
    NAME     DECLARED   EFFECTIVE   RUNNING   LEADER     STATUS         AGE
    acid-a   3          3           2         acid-a-0   CountDiffers   4d
    acid-a   3          3           3         acid-a-0   Converged      4d
    ");
    insta::assert_snapshot!(plain(&list(&all, true, true, None)), @r"
    NAMESPACE   NAME     DECLARED   EFFECTIVE   RUNNING   LEADER     STATUS         AGE   WHY
    db          acid-a   3          3           2         acid-a-0   CountDiffers   4d    acid-a-2 cannot be scheduled
    shop        acid-a   3          3           3         acid-a-0   Converged      4d    -
    ");
}

#[test]
fn colours_show_which_clusters_deserve_a_look() {
    insta::assert_snapshot!(coloured(&list(&fleet(), true, false, None)), @r"
    NAMESPACE   NAME         DECLARED   EFFECTIVE   RUNNING   LEADER     STATUS         AGE
    db          leaderless   3          3           3         ^[31mnone^[0m       ^[31mNoLeader^[0m       4d
    db          unseen       3          3           ^[33munknown^[0m   acid-a-0   ^[33mUnknown^[0m        4d
    db          clamped      9          ^[33m3^[0m           3         acid-a-0   ^[33mCountDiffers^[0m   4d
    db          cloning      3          3           3         acid-a-0   ^[33mRebuilding^[0m     4d
    db          behind       3          3           3         acid-a-0   ^[33mNotConverged^[0m   4d
    db          healthy      3          3           3         acid-a-0   ^[32mConverged^[0m      4d
    ");
}
