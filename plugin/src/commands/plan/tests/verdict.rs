//! The verdict of `plan`: why it is not known, and the exit code for it.

use super::shown;
use crate::testing::{World, run};

#[tokio::test]
async fn one_cause_is_named_once_with_its_rules_and_a_check() {
    let hidden = ["endpoints", "persistentvolumeclaims", "pods", "statefulsets"];
    let world = World::new(3, 0).hiding(&hidden);
    insta::assert_snapshot!(shown(&world, "acid-a --to 2", Some(80)).await, @"
    REFUSED 3 -> 2: 18 rules could not be judged: get statefulsets in db: forbidden;
      list pods in db: forbidden; and 1 more
    postgresql db/acid-a: 3 -> 2 instances
    Impact:
      Requests:           unknown: the StatefulSet could not be read (get
                          statefulsets in db: forbidden)
      Readers:            2 -> 1 behind acid-a-repl
      Failures tolerated: 2 -> 1
      DENY 20 rules cannot be judged:
           get statefulsets in db: forbidden
             hides dcs-store-changing, no-leader, leader-condemned,
               leader-cannot-move, too-few-healthy-survivors, rebuild-in-progress,
               operation-in-progress, change-not-applied, major-upgrade,
               replace-pending, parallel-shrink, will-not-progress,
               survivors-draining, volumes-deleted
             Try:
                 kubectl auth can-i get statefulsets.apps -n db
           list pods in db: forbidden
             hides dcs-store-changing, no-leader, leader-condemned,
               leader-cannot-move, too-few-healthy-survivors, survivor-unhealthy,
               rebuild-in-progress, operation-in-progress, change-not-applied,
               major-upgrade, replace-pending, restart-pending, parallel-shrink,
               will-not-progress, survivors-one-zone, survivors-draining,
               cascade-condemned, volumes-deleted; with a warning only:
               upgrade-pending
             Try:
                 kubectl auth can-i list pods -n db
           list persistentvolumeclaims in db: forbidden
             hides dcs-store-changing, too-few-healthy-survivors,
               rebuild-in-progress, volumes-deleted; with a warning only:
               volume-resizing
             Try:
                 kubectl auth can-i list persistentvolumeclaims -n db
    Nearest count that would be allowed now: none
      what is wrong with the cluster:
        kubectl pgscale status acid-a --why -n db
    REFUSED 3 -> 2: 18 rules could not be judged: get statefulsets in db: forbidden;
      list pods in db: forbidden; and 1 more
    ");
    let wide = shown(&world, "acid-a --to 2", Some(160)).await;
    insta::assert_snapshot!(wide, @"
    REFUSED 3 -> 2: 18 rules could not be judged: get statefulsets in db: forbidden; list pods in db: forbidden; and 1 more
    postgresql db/acid-a: 3 -> 2 instances
    Impact:
      Requests:           unknown: the StatefulSet could not be read (get statefulsets in db: forbidden)
      Readers:            2 -> 1 behind acid-a-repl
      Failures tolerated: 2 -> 1
      DENY 20 rules cannot be judged:
           get statefulsets in db: forbidden
             hides dcs-store-changing, no-leader, leader-condemned, leader-cannot-move, too-few-healthy-survivors, rebuild-in-progress, operation-in-progress,
               change-not-applied, major-upgrade, replace-pending, parallel-shrink, will-not-progress, survivors-draining, volumes-deleted
             Try:
                 kubectl auth can-i get statefulsets.apps -n db
           list pods in db: forbidden
             hides dcs-store-changing, no-leader, leader-condemned, leader-cannot-move, too-few-healthy-survivors, survivor-unhealthy, rebuild-in-progress,
               operation-in-progress, change-not-applied, major-upgrade, replace-pending, restart-pending, parallel-shrink, will-not-progress, survivors-one-zone,
               survivors-draining, cascade-condemned, volumes-deleted; with a warning only: upgrade-pending
             Try:
                 kubectl auth can-i list pods -n db
           list persistentvolumeclaims in db: forbidden
             hides dcs-store-changing, too-few-healthy-survivors, rebuild-in-progress, volumes-deleted; with a warning only: volume-resizing
             Try:
                 kubectl auth can-i list persistentvolumeclaims -n db
    Nearest count that would be allowed now: none
      what is wrong with the cluster:
        kubectl pgscale status acid-a --why -n db
    REFUSED 3 -> 2: 18 rules could not be judged: get statefulsets in db: forbidden; list pods in db: forbidden; and 1 more
    ");
    let said = |what: &str| wide.lines().filter(|line| line.trim().ends_with(what)).count();
    assert_eq!((said("list pods in db: forbidden"), said("cannot be judged:")), (1, 1), "{wide}");
}

#[tokio::test]
async fn exit_code_says_whether_something_would_change() {
    for (line, code) in [
        ("plan acid-a 3 --exit-code", 0),
        ("plan acid-a 4 --exit-code", 8),
        ("plan acid-a --to 4 --exit-code", 8),
        ("plan acid-a 4", 0),
    ] {
        let (_, ended, _) = run(&World::new(3, 0), line, None).await;
        assert_eq!(ended, code, "{line}");
    }
}
