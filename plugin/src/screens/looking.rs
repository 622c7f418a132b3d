//! The screens of clusters.

use super::{BROAD, NARROW, on, words};

#[tokio::test(start_paused = true)]
async fn status() {
    insta::assert_snapshot!(on("status", NARROW).await, @"
    [stdout]
    postgresql db/acid-a
      Instances: 3 declared, 3 effective, 3 in the StatefulSet, 3 running
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Policy:    min 2 (scalepolicy/production), min 5 (scalepolicy/trial, only
                 warns), max 7 (scalepolicy/production), step down 2
                 (scalepolicy/production); 4 more may be added, 1 may be removed

    MEMBER     ROLE      STATE       TL   LAG     NODE     AGE
    acid-a-0   leader    running     1    -       node-0   120m
    acid-a-1   replica   streaming   1    0 B     node-1   120m
    acid-a-2   replica   streaming   1    990 B   node-2   120m

    VOLUME            SIZE        MEMBER     STATE          AGE
    pgdata-acid-a-0   100.0 GiB   acid-a-0   in use         12d
    pgdata-acid-a-1   100.0 GiB   acid-a-1   in use         12d
    pgdata-acid-a-2   100.0 GiB   acid-a-2   in use         12d
    pgdata-acid-a-3   100.0 GiB   acid-a-3   kept, no pod   12d

    IF SET TO   VERDICT   RULES
    2           allowed   below-min
    4           allowed   stale-volume

    Not converged:
      acid-a-2: 990 bytes behind the leader after a second
    [stderr]
    why:
        kubectl pgscale status acid-a --why -n db
    [exit 0]
    ");
    insta::assert_snapshot!(on("status", BROAD).await, @"
    [stdout]
    postgresql db/acid-a
      Instances: 3 declared, 3 effective, 3 in the StatefulSet, 3 running
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Policy:    min 2 (scalepolicy/production), min 5 (scalepolicy/trial, only warns), max 7 (scalepolicy/production), step down 2 (scalepolicy/production); 4 more
                 may be added, 1 may be removed

    MEMBER     ROLE      STATE       TL   LAG     NODE     AGE
    acid-a-0   leader    running     1    -       node-0   120m
    acid-a-1   replica   streaming   1    0 B     node-1   120m
    acid-a-2   replica   streaming   1    990 B   node-2   120m

    VOLUME            SIZE        MEMBER     STATE          AGE
    pgdata-acid-a-0   100.0 GiB   acid-a-0   in use         12d
    pgdata-acid-a-1   100.0 GiB   acid-a-1   in use         12d
    pgdata-acid-a-2   100.0 GiB   acid-a-2   in use         12d
    pgdata-acid-a-3   100.0 GiB   acid-a-3   kept, no pod   12d

    IF SET TO   VERDICT   RULES
    2           allowed   below-min
    4           allowed   stale-volume

    Not converged:
      acid-a-2: 990 bytes behind the leader after a second
    [stderr]
    why:
        kubectl pgscale status acid-a --why -n db
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_a() {
    insta::assert_snapshot!(on("status -A", NARROW).await, @"
    [stdout]
    NAMESPACE  NAME    DECLARED  EFFECTIVE  RUNNING  LEADER    STATUS        AGE
    db         acid-a  9         3          3        acid-a-0  CountDiffers  4d
    [exit 0]
    ");
    insta::assert_snapshot!(on("status -A", BROAD).await, @"
    [stdout]
    NAMESPACE   NAME     DECLARED   EFFECTIVE   RUNNING   LEADER     STATUS         AGE
    db          acid-a   9          3           3         acid-a-0   CountDiffers   4d
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_why() {
    let narrow = on("status --why", NARROW).await;
    insta::assert_snapshot!(narrow, @r#"
    [stdout]
    postgresql db/acid-a
      Instances: 4 declared, 4 effective, 4 in the StatefulSet, 3 running
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Policy:    none; any number may be added, 3 may be removed

    MEMBER     ROLE      STATE       TL   LAG   NODE     AGE
    acid-a-0   leader    running     1    -     node-0   120m
    acid-a-1   replica   streaming   1    0 B   node-1   120m
    acid-a-2   replica   streaming   1    0 B   node-2   120m

    IF SET TO   VERDICT   RULES
    3           allowed   -
    5           refused   rebuild-in-progress

    Not converged:
      acid-a-3: no pod yet

    Why, the likeliest first:
      1. no quota is left for acid-a-3
         statefulset/acid-a: event FailedCreate 0s ago: pods "acid-a-3" is
           forbidden: exceeded quota: team
         next:
             kubectl describe resourcequota -n db
    [exit 0]
    "#);
    assert_eq!(words(&on("status --why", BROAD).await), words(&narrow));
}

#[tokio::test(start_paused = true)]
async fn wait() {
    let narrow = on("wait", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    postgresql/acid-a has converged on 3 instances
    [exit 0]
    ");
    assert_eq!(on("wait", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn wait_in_vain() {
    let narrow = on("wait, in vain", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stderr]
    error: postgresql db/acid-a has not converged within 20s; the change continues
    Missing:
      acid-a-3: no pod yet
    Where it stands, and where to look:
      acid-a-3: no pod yet, for 20s
        kubectl describe statefulset acid-a -n db
    hint: wait on:
        kubectl pgscale wait acid-a -n db
    [exit 4]
    ");
    assert_eq!(on("wait, in vain", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn verify() {
    insta::assert_snapshot!(on("verify", NARROW).await, @"
    [stdout]
    postgresql db/acid-a
    MEMBER     ROLE      TL   WAL     REPLAYED   FROM       SLOT       SYNC
    acid-a-0   primary   1    0/3E8   -          -          -          -
    acid-a-1   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_1   async
    acid-a-2   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_2   async
    Canary: committed on acid-a-0 in 0s
      acid-a-1: replayed within 0s of the commit
      acid-a-2: replayed within 0s of the commit
    Converged on 3 instances
    Verified by all 3 members: one primary, one system identifier (7100), one
      timeline, every standby streams
    [exit 0]
    ");
    insta::assert_snapshot!(on("verify", BROAD).await, @"
    [stdout]
    postgresql db/acid-a
    MEMBER     ROLE      TL   WAL     REPLAYED   FROM       SLOT       SYNC
    acid-a-0   primary   1    0/3E8   -          -          -          -
    acid-a-1   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_1   async
    acid-a-2   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_2   async
    Canary: committed on acid-a-0 in 0s
      acid-a-1: replayed within 0s of the commit
      acid-a-2: replayed within 0s of the commit
    Converged on 3 instances
    Verified by all 3 members: one primary, one system identifier (7100), one timeline, every standby streams
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn verify_something_is_wrong() {
    let narrow = on("verify, something is wrong", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stderr]
    something looks wrong; looking again in 3s ...
    [stdout]
    postgresql db/acid-a
    MEMBER     ROLE     TL   WAL   REPLAYED   FROM   SLOT   SYNC
    acid-a-0   silent
    acid-a-1   silent
    acid-a-2   silent
    Wrong:
      acid-a-1: 990 bytes behind the leader after a second
    Not verified:
      acid-a-0 could not be asked: psql is not installed
      acid-a-1 could not be asked: psql is not installed
      acid-a-2 could not be asked: psql is not installed
    [stderr]
    error: postgresql db/acid-a is not what it should be
    [exit 5]
    ");
    assert_eq!(on("verify, something is wrong", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn history() {
    let narrow = on("history", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    AGE   WHO   CHANGE   LEADER                 RESULT      TOOK   REASON
    3s    dba   3 -> 5   -                      Converged   3.0s   undo of 5 -> 3
    6s    dba   5 -> 3   acid-a-4 -> acid-a-0   Converged   3.0s   maintenance
    [exit 0]
    ");
    assert_eq!(on("history", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn version() {
    let narrow = on("version", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    kubectl-pgscale 0.1.0
    [exit 0]
    ");
    assert_eq!(on("version", BROAD).await, narrow);
}
