//! The screens of clusters.

use super::{BROAD, NARROW, on, words};

#[tokio::test(start_paused = true)]
async fn status() {
    insta::assert_snapshot!(on("status", NARROW).await, @"
    [stdout]
    DEGRADED: acid-a-2 does not receive: it lacks 990 B
    postgresql db/acid-a
      Version:   PostgreSQL 15.4
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job
      Budget:    none counts the leader
      Policy:    min 2 (scalepolicy/production), min 5 (scalepolicy/trial, only
                 warns), max 7 (scalepolicy/production), step down 2
                 (scalepolicy/production); 4 more may be added, 1 may be removed

    MEMBER     ROLE      HEALTH      STATE       TL   LAG     NODE     AGE
    acid-a-0   leader    healthy     running     1    -       node-0   120m
    acid-a-1   replica   healthy     streaming   1    0 B     node-1   120m
    acid-a-2   replica   unhealthy   streaming   1    990 B   node-2   120m
    Not known: the size, lag in seconds, the WAL archive: psql is not installed

    VOLUME            SIZE        MEMBER     STATE          AGE
    pgdata-acid-a-0   100.0 GiB   acid-a-0   in use         12d
    pgdata-acid-a-1   100.0 GiB   acid-a-1   in use         12d
    pgdata-acid-a-2   100.0 GiB   acid-a-2   in use         12d
    pgdata-acid-a-3   100.0 GiB   acid-a-3   kept, no pod   12d

    IF SET TO   VERDICT              RULES
    2           allowed, 1 warning   below-min
    4           allowed, 1 warning   stale-volume

    Not converged:
      acid-a-2: 990 bytes behind the leader after a second
    Why, the likeliest first:
      1. acid-a-2 does not receive: it lacks 990 B
         http://10.244.0.12:8008/patroni: acid-a-2: WAL not received after 1s: 990
           bytes
         next:
             kubectl exec acid-a-2 -c postgres -n db -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
      With Events:
          kubectl pgscale status acid-a --why -n db
    DEGRADED: acid-a-2 does not receive: it lacks 990 B
    [exit 0]
    ");
    insta::assert_snapshot!(on("status", BROAD).await, @"
    [stdout]
    DEGRADED: acid-a-2 does not receive: it lacks 990 B
    postgresql db/acid-a
      Version:   PostgreSQL 15.4
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job
      Budget:    none counts the leader
      Policy:    min 2 (scalepolicy/production), min 5 (scalepolicy/trial, only warns), max 7 (scalepolicy/production), step down 2 (scalepolicy/production); 4 more
                 may be added, 1 may be removed

    MEMBER     ROLE      HEALTH      STATE       TL   LAG     NODE     AGE
    acid-a-0   leader    healthy     running     1    -       node-0   120m
    acid-a-1   replica   healthy     streaming   1    0 B     node-1   120m
    acid-a-2   replica   unhealthy   streaming   1    990 B   node-2   120m
    Not known: the size, lag in seconds, the WAL archive: psql is not installed

    VOLUME            SIZE        MEMBER     STATE          AGE
    pgdata-acid-a-0   100.0 GiB   acid-a-0   in use         12d
    pgdata-acid-a-1   100.0 GiB   acid-a-1   in use         12d
    pgdata-acid-a-2   100.0 GiB   acid-a-2   in use         12d
    pgdata-acid-a-3   100.0 GiB   acid-a-3   kept, no pod   12d

    IF SET TO   VERDICT              RULES
    2           allowed, 1 warning   below-min
    4           allowed, 1 warning   stale-volume

    Not converged:
      acid-a-2: 990 bytes behind the leader after a second
    Why, the likeliest first:
      1. acid-a-2 does not receive: it lacks 990 B
         http://10.244.0.12:8008/patroni: acid-a-2: WAL not received after 1s: 990 bytes
         next:
             kubectl exec acid-a-2 -c postgres -n db -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
      With Events:
          kubectl pgscale status acid-a --why -n db
    DEGRADED: acid-a-2 does not receive: it lacks 990 B
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_healthy() {
    insta::assert_snapshot!(on("status, healthy", NARROW).await, @"
    [stdout]
    HEALTHY: db/acid-a has converged on 3 instances
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job; WAL last archived 12s ago
      Budget:    none counts the leader
      Policy:    none; any number may be added, 2 may be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   W/F/R SEC    NODE     AGE
    acid-a-0   leader    healthy   running     1    -     -            node-0   120m
    acid-a-1   replica   healthy   streaming   1    0 B   0.0/0.0/75   node-1   120m
    acid-a-2   replica   healthy   streaming   1    0 B   -            node-2   120m
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    VOLUME            SIZE        MEMBER     STATE          AGE
    pgdata-acid-a-0   100.0 GiB   acid-a-0   in use         12d
    pgdata-acid-a-1   100.0 GiB   acid-a-1   in use         12d
    pgdata-acid-a-2   100.0 GiB   acid-a-2   in use         12d
    pgdata-acid-a-3   100.0 GiB   acid-a-3   kept, no pod   12d

    IF SET TO   VERDICT              RULES
    2           allowed              -
    4           allowed, 1 warning   stale-volume

    HEALTHY: db/acid-a has converged on 3 instances
    [exit 0]
    ");
    insta::assert_snapshot!(on("status, healthy", BROAD).await, @"
    [stdout]
    HEALTHY: db/acid-a has converged on 3 instances
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job; WAL last archived 12s ago
      Budget:    none counts the leader
      Policy:    none; any number may be added, 2 may be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   W/F/R SEC    NODE     AGE
    acid-a-0   leader    healthy   running     1    -     -            node-0   120m
    acid-a-1   replica   healthy   streaming   1    0 B   0.0/0.0/75   node-1   120m
    acid-a-2   replica   healthy   streaming   1    0 B   -            node-2   120m
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    VOLUME            SIZE        MEMBER     STATE          AGE
    pgdata-acid-a-0   100.0 GiB   acid-a-0   in use         12d
    pgdata-acid-a-1   100.0 GiB   acid-a-1   in use         12d
    pgdata-acid-a-2   100.0 GiB   acid-a-2   in use         12d
    pgdata-acid-a-3   100.0 GiB   acid-a-3   kept, no pod   12d

    IF SET TO   VERDICT              RULES
    2           allowed              -
    4           allowed, 1 warning   stale-volume

    HEALTHY: db/acid-a has converged on 3 instances
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_paused() {
    let narrow = on("status, paused", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    HEALTHY, 1 warning: Patroni is paused, no member takes over
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication, paused: no member takes over
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job; WAL last archived 12s ago
      Budget:    none counts the leader
      Policy:    none; any number may be added, 2 may be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   W/F/R SEC    NODE     AGE
    acid-a-0   leader    healthy   running     1    -     -            node-0   120m
    acid-a-1   replica   healthy   streaming   1    0 B   0.0/0.0/75   node-1   120m
    acid-a-2   replica   healthy   streaming   1    0 B   -            node-2   120m
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    IF SET TO   VERDICT              RULES
    2           allowed, 1 warning   paused
    4           allowed, 1 warning   paused

    Although it has converged:
      1. Patroni is paused: it neither starts nor rebuilds a member, and no member
         takes over
         configmap/acid-a-config: pause: true
         next, once it is sure that the pause is not needed any more:
             kubectl exec acid-a-0 -c postgres -n db -- patronictl resume --wait acid-a
    HEALTHY, 1 warning: Patroni is paused, no member takes over
    [exit 0]
    ");
    insta::assert_snapshot!(on("status, paused", BROAD).await, @"
    [stdout]
    HEALTHY, 1 warning: Patroni is paused, no member takes over
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication, paused: no member takes over
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job; WAL last archived 12s ago
      Budget:    none counts the leader
      Policy:    none; any number may be added, 2 may be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   W/F/R SEC    NODE     AGE
    acid-a-0   leader    healthy   running     1    -     -            node-0   120m
    acid-a-1   replica   healthy   streaming   1    0 B   0.0/0.0/75   node-1   120m
    acid-a-2   replica   healthy   streaming   1    0 B   -            node-2   120m
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    IF SET TO   VERDICT              RULES
    2           allowed, 1 warning   paused
    4           allowed, 1 warning   paused

    Although it has converged:
      1. Patroni is paused: it neither starts nor rebuilds a member, and no member takes over
         configmap/acid-a-config: pause: true
         next, once it is sure that the pause is not needed any more:
             kubectl exec acid-a-0 -c postgres -n db -- patronictl resume --wait acid-a
    HEALTHY, 1 warning: Patroni is paused, no member takes over
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_unread() {
    insta::assert_snapshot!(on("status, unread", NARROW).await, @"
    [stdout]
    UNKNOWN: the members cannot be listed: list pods in db: forbidden; the leader
      lock cannot be read: get configmaps in db: forbidden; and 1 more
    postgresql db/acid-a
      Version:   PostgreSQL 15 declared, no member answered
      Instances: 3 declared, 3 effective, 3 in the StatefulSet, unknown running
      Leader:    unknown: get configmaps in db: forbidden
      Patroni:   its configuration cannot be read: get configmaps in db: forbidden
      Operator:  cannot be read: the list of operators' accounts: get configmaps in
                 kube-public: forbidden; the cluster says Running
      Services:  acid-a -> 10.244.0.10; acid-a-repl -> 10.244.0.11, 10.244.0.12
      Backup:    no logical backup job
      Budget:    none counts the leader
      Policy:    none; any number may be added, 2 may be removed; the operator's own
                 limits cannot be read

    members cannot be listed: list pods in db: forbidden

    replication slots cannot be read: get configmaps in db: forbidden

    IF SET TO   VERDICT               RULES
    2           refused, not judged   21 rules without facts: the list of operators'
                                      accounts: get configmaps in kube-public:
                                      forbidden; list pods in db: forbidden; and 1
                                      more
    4           allowed, not judged   15 rules without facts: the list of operators'
                                      accounts: get configmaps in kube-public:
                                      forbidden; list pods in db: forbidden; and 1
                                      more

    Not converged:
      the members cannot be listed: list pods in db: forbidden
      the leader lock cannot be read: get configmaps in db: forbidden
    Why, the likeliest first:
      1. the pods could not be listed, so most causes cannot be found
         pods: could not be read: list pods in db: forbidden
         next:
             kubectl auth can-i list pods -n db
      2. the leader is not known: its lock could not be read
         configmap/acid-a-leader: could not be read: get configmaps in db: forbidden
         next:
             kubectl get pods -n db
      With Events:
          kubectl pgscale status acid-a --why -n db
    UNKNOWN: the members cannot be listed: list pods in db: forbidden; the leader
      lock cannot be read: get configmaps in db: forbidden; and 1 more
    [exit 0]
    ");
    insta::assert_snapshot!(on("status, unread", BROAD).await, @"
    [stdout]
    UNKNOWN: the members cannot be listed: list pods in db: forbidden; the leader lock cannot be read: get configmaps in db: forbidden; and 1 more
    postgresql db/acid-a
      Version:   PostgreSQL 15 declared, no member answered
      Instances: 3 declared, 3 effective, 3 in the StatefulSet, unknown running
      Leader:    unknown: get configmaps in db: forbidden
      Patroni:   its configuration cannot be read: get configmaps in db: forbidden
      Operator:  cannot be read: the list of operators' accounts: get configmaps in kube-public: forbidden; the cluster says Running
      Services:  acid-a -> 10.244.0.10; acid-a-repl -> 10.244.0.11, 10.244.0.12
      Backup:    no logical backup job
      Budget:    none counts the leader
      Policy:    none; any number may be added, 2 may be removed; the operator's own limits cannot be read

    members cannot be listed: list pods in db: forbidden

    replication slots cannot be read: get configmaps in db: forbidden

    IF SET TO   VERDICT               RULES
    2           refused, not judged   21 rules without facts: the list of operators' accounts: get configmaps in kube-public: forbidden; list pods in db: forbidden;
                                      and 1 more
    4           allowed, not judged   15 rules without facts: the list of operators' accounts: get configmaps in kube-public: forbidden; list pods in db: forbidden;
                                      and 1 more

    Not converged:
      the members cannot be listed: list pods in db: forbidden
      the leader lock cannot be read: get configmaps in db: forbidden
    Why, the likeliest first:
      1. the pods could not be listed, so most causes cannot be found
         pods: could not be read: list pods in db: forbidden
         next:
             kubectl auth can-i list pods -n db
      2. the leader is not known: its lock could not be read
         configmap/acid-a-leader: could not be read: get configmaps in db: forbidden
         next:
             kubectl get pods -n db
      With Events:
          kubectl pgscale status acid-a --why -n db
    UNKNOWN: the members cannot be listed: list pods in db: forbidden; the leader lock cannot be read: get configmaps in db: forbidden; and 1 more
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_several() {
    insta::assert_snapshot!(on("status, several", NARROW).await, @"
    [stdout]
    NAME    HEALTHY  LAG  PAUSED  STATUS     WHY
    acid-b  0/3      -    -       NoLeader   no member leads, nothing can be written
    acid-a  3/3      0 B  paused  Converged  Patroni is paused, no member takes over
    [exit 0]
    ");
    insta::assert_snapshot!(on("status, several", BROAD).await, @"
    [stdout]
    NAME     HEALTHY   LEADER     LAG   VERSION   PAUSED   STATUS      AGE   WHY
    acid-b   0/3       none       -     15        -        NoLeader    4d    no member leads, nothing can be written
    acid-a   3/3       acid-a-0   0 B   15        paused   Converged   4d    Patroni is paused, no member takes over
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn verdict_is_the_first_line_and_the_last() {
    let names = super::CASES.iter().filter(|case| case.line.starts_with("status acid-a"));
    for case in names {
        for width in [NARROW, BROAD] {
            let shown = on(case.name, width).await;
            let text = shown.strip_prefix("[stdout]\n").unwrap();
            let (text, _) = text.rsplit_once("\n[exit").unwrap();
            let words = ["HEALTHY", "DEGRADED", "UNKNOWN", "DOWN", "STOPPED"];
            let verdict = words.into_iter().find(|word| text.starts_with(word)).unwrap();
            let last = text.lines().rev().find(|line| !line.starts_with("  ")).unwrap();
            assert!(last.starts_with(verdict), "{}: {text}", case.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn status_a() {
    insta::assert_snapshot!(on("status -A", NARROW).await, @"
    [stdout]
    NAMESPACE  NAME    HEALTHY   LAG  PAUSED  STATUS        WHY
    db         acid-a  3/3 of 9  0 B  no      CountDiffers  9 declared, and the
                                                            operator runs 3
    [exit 0]
    ");
    insta::assert_snapshot!(on("status -A", BROAD).await, @"
    [stdout]
    NAMESPACE   NAME     HEALTHY    LEADER     LAG   VERSION   PAUSED   STATUS         AGE   WHY
    db          acid-a   3/3 of 9   acid-a-0   0 B   15        no       CountDiffers   4d    9 declared, and the operator runs 3
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn list_names_the_cause_that_the_screen_of_the_cluster_begins_with() {
    let name = "status -A, something is wrong";
    insta::assert_snapshot!(on(name, NARROW).await, @"
    [stdout]
    NAMESPACE  NAME    HEALTHY  LAG  PAUSED  STATUS        WHY
    db         acid-b  0/4      -    -       NoLeader      no member leads, nothing
                                                           can be written
    db         acid-a  3/4      0 B  no      CountDiffers  acid-a-3 has no pod yet
    [exit 0]
    ");
    insta::assert_snapshot!(on(name, BROAD).await, @"
    [stdout]
    NAMESPACE   NAME     HEALTHY   LEADER     LAG   VERSION   PAUSED   STATUS         AGE   WHY
    db          acid-b   0/4       none       -     15        -        NoLeader       4d    no member leads, nothing can be written
    db          acid-a   3/4       acid-a-0   0 B   15        no       CountDiffers   4d    acid-a-3 has no pod yet
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_why() {
    let narrow = on("status --why", NARROW).await;
    insta::assert_snapshot!(narrow, @r#"
    [stdout]
    DEGRADED: no quota is left for acid-a-3
    postgresql db/acid-a
      Version:   PostgreSQL 15.4
      Instances: 4 declared, 4 effective, 4 in the StatefulSet, 3 running
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job
      Budget:    none counts the leader
      Policy:    none; any number may be added, 3 may be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   NODE     AGE
    acid-a-0   leader    healthy   running     1    -     node-0   120m
    acid-a-1   replica   healthy   streaming   1    0 B   node-1   120m
    acid-a-2   replica   healthy   streaming   1    0 B   node-2   120m
    Not known: the size, lag in seconds, the WAL archive: psql is not installed

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
    DEGRADED: no quota is left for acid-a-3
    [exit 0]
    "#);
    assert_eq!(words(&on("status --why", BROAD).await), words(&narrow));
}
