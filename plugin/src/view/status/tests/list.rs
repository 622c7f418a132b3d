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
    insta::assert_snapshot!(plain(&list(&fleet(), true, false, None)), @"
    NAMESPACE   NAME         HEALTHY    LEADER     LAG     VERSION   PAUSED   STATUS         AGE   WHY
    db          leaderless   0/3        none       0 B     15.4      no       NoLeader       4d    no member leads, nothing can be written
    db          unseen       ?/3        acid-a-0   -       15        no       Unknown        4d    the pods could not be listed, so most causes cannot be found
    db          clamped      3/3 of 9   acid-a-0   0 B     15.4      no       CountDiffers   4d    9 declared, and the operator runs 3
    db          cloning      2/3        acid-a-0   0 B     15.4      no       Rebuilding     4d    acid-a-2 is being built
    db          behind       2/3        acid-a-0   990 B   15.4      no       NotConverged   4d    acid-a-1 does not receive: it lacks 990 B
    db          healthy      3/3        acid-a-0   0 B     15.4      no       Converged      4d    -
    ");
    insta::assert_snapshot!(plain(&list(&fleet(), false, true, None)), @"
    NAME         HEALTHY    LEADER     LAG     VERSION   PAUSED   STATUS         AGE   DECLARED   EFFECTIVE   RUNNING   WHY
    leaderless   0/3        none       0 B     15.4      no       NoLeader       4d    3          3           3         no member leads, nothing can be written
    unseen       ?/3        acid-a-0   -       15        no       Unknown        4d    3          3           unknown   the pods could not be listed, so most causes cannot be found
    clamped      3/3 of 9   acid-a-0   0 B     15.4      no       CountDiffers   4d    9          3           3         9 declared, and the operator runs 3
    cloning      2/3        acid-a-0   0 B     15.4      no       Rebuilding     4d    3          3           3         acid-a-2 is being built
    behind       2/3        acid-a-0   990 B   15.4      no       NotConverged   4d    3          3           3         acid-a-1 does not receive: it lacks 990 B
    healthy      3/3        acid-a-0   0 B     15.4      no       Converged      4d    3          3           3         -
    ");
}

#[test]
fn narrow_list_gives_up_columns_for_the_cause() {
    insta::assert_snapshot!(plain(&list(&fleet(), true, false, Some(80))), @"
    NAMESPACE   NAME         HEALTHY    PAUSED   STATUS         WHY
    db          leaderless   0/3        no       NoLeader       no member leads,
                                                                nothing can be
                                                                written
    db          unseen       ?/3        no       Unknown        the pods could not
                                                                be listed, so most
                                                                causes cannot be
                                                                found
    db          clamped      3/3 of 9   no       CountDiffers   9 declared, and the
                                                                operator runs 3
    db          cloning      2/3        no       Rebuilding     acid-a-2 is being
                                                                built
    db          behind       2/3        no       NotConverged   acid-a-1 does not
                                                                receive: it lacks
                                                                990 B
    db          healthy      3/3        no       Converged      -
    ");
    insta::assert_snapshot!(plain(&list(&fleet(), true, false, Some(160))), @"
    NAMESPACE   NAME         HEALTHY    LEADER     LAG     VERSION   PAUSED   STATUS         AGE   WHY
    db          leaderless   0/3        none       0 B     15.4      no       NoLeader       4d    no member leads, nothing can be written
    db          unseen       ?/3        acid-a-0   -       15        no       Unknown        4d    the pods could not be listed, so most causes cannot be found
    db          clamped      3/3 of 9   acid-a-0   0 B     15.4      no       CountDiffers   4d    9 declared, and the operator runs 3
    db          cloning      2/3        acid-a-0   0 B     15.4      no       Rebuilding     4d    acid-a-2 is being built
    db          behind       2/3        acid-a-0   990 B   15.4      no       NotConverged   4d    acid-a-1 does not receive: it lacks 990 B
    db          healthy      3/3        acid-a-0   0 B     15.4      no       Converged      4d    -
    ");
    insta::assert_snapshot!(plain(&list(&fleet()[5..], true, false, Some(80))), @"
    NAMESPACE  NAME     HEALTHY  LEADER    LAG  VERSION  PAUSED  STATUS     AGE  WHY
    db         healthy  3/3      acid-a-0  0 B  15.4     no      Converged  4d   -
    ");
}

#[test]
fn several_clusters() {
    let mut other = facts(3, 3, 0);
    other.change.new.namespace = "shop".into();
    let all = [troubled(), status(other, &[])];
    insta::assert_snapshot!(plain(&list(&all, false, false, None)), @"
    NAME     HEALTHY   LEADER     LAG     VERSION   PAUSED   STATUS         AGE   WHY
    acid-a   1/3       acid-a-0   990 B   15.4      paused   CountDiffers   4d    acid-a-2 cannot be scheduled
    acid-a   3/3       acid-a-0   0 B     15.4      no       Converged      4d    -
    ");
    insta::assert_snapshot!(plain(&list(&all, true, true, None)), @"
    NAMESPACE   NAME     HEALTHY   LEADER     LAG     VERSION   PAUSED   STATUS         AGE   DECLARED   EFFECTIVE   RUNNING   WHY
    db          acid-a   1/3       acid-a-0   990 B   15.4      paused   CountDiffers   4d    3          3           2         acid-a-2 cannot be scheduled
    shop        acid-a   3/3       acid-a-0   0 B     15.4      no       Converged      4d    3          3           3         -
    ");
}

#[test]
fn colours_show_which_clusters_deserve_a_look() {
    insta::assert_snapshot!(coloured(&list(&fleet(), true, false, None)), @"
    NAMESPACE   NAME         HEALTHY    LEADER     LAG     VERSION   PAUSED   STATUS         AGE   WHY
    db          leaderless   ^[33m0/3^[0m        ^[31mnone^[0m       0 B     15.4      no       ^[31mNoLeader^[0m       4d    no member leads, nothing can be written
    db          unseen       ^[33m?/3^[0m        acid-a-0   -       15        no       ^[33mUnknown^[0m        4d    the pods could not be listed, so most causes cannot be found
    db          clamped      ^[33m3/3 of 9^[0m   acid-a-0   0 B     15.4      no       ^[33mCountDiffers^[0m   4d    9 declared, and the operator runs 3
    db          cloning      ^[33m2/3^[0m        acid-a-0   0 B     15.4      no       ^[33mRebuilding^[0m     4d    acid-a-2 is being built
    db          behind       ^[33m2/3^[0m        acid-a-0   990 B   15.4      no       ^[33mNotConverged^[0m   4d    acid-a-1 does not receive: it lacks 990 B
    db          healthy      3/3        acid-a-0   0 B     15.4      no       ^[32mConverged^[0m      4d    -
    ");
}
