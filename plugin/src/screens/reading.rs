//! What members read and use, at two widths.

use super::{BROAD, NARROW, on};

#[tokio::test(start_paused = true)]
async fn status_sql() {
    insta::assert_snapshot!(on("status --sql", NARROW).await, @"
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

    MEMBER    ROWS/S  ROWS READ  BY INDEX  CACHE HIT  BLOCKS READ  WAL/S      SINCE
    acid-a-0  12.0k   1.0M       410.0k    99.5%      500          512.0 KiB  5d22h
    acid-a-1  50      120        10        -          0            0 B        -
    acid-a-2  50      120        10        -          0            0 B        -
    ROWS/S, WAL/S: now; the others since the statistics of the member began

    REPLICA    FROM       WRITE   FLUSH   REPLAY    W/F/R SEC
    acid-a-1   acid-a-0   0 B     0 B     1.0 MiB   0.0/0.0/75
    acid-a-2   acid-a-0   0 B     0 B     0 B       -

    SLOT       ON         FOR                IN USE   WAL HELD   WAL STATE
    acid_a_1   acid-a-0   acid-a-1           yes      1.0 MiB    reserved
    acid_a_7   acid-a-0   acid-a-7, no pod   no       9.0 GiB    extended
    cdc        acid-a-0   database shop      no       20.0 MiB   unreserved

    TABLE                ON         SEQ SCANS   SEQ ROWS   IDX SCANS   IDX ROWS
    shop.public.orders   acid-a-0   120         960.0k     4000        30.0k
    shop.public.log      acid-a-0   9           9000       -           -

    IF SET TO   VERDICT   RULES
    2           allowed   -
    4           allowed   -

    HEALTHY: db/acid-a has converged on 3 instances
    [exit 0]
    ");
    insta::assert_snapshot!(on("status --sql", BROAD).await, @"
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

    MEMBER     ROWS/S   ROWS READ   BY INDEX   CACHE HIT   BLOCKS READ   WAL/S       SINCE
    acid-a-0   12.0k    1.0M        410.0k     99.5%       500           512.0 KiB   5d22h
    acid-a-1   50       120         10         -           0             0 B         -
    acid-a-2   50       120         10         -           0             0 B         -
    ROWS/S, WAL/S: now; the others since the statistics of the member began

    REPLICA    FROM       WRITE   FLUSH   REPLAY    W/F/R SEC
    acid-a-1   acid-a-0   0 B     0 B     1.0 MiB   0.0/0.0/75
    acid-a-2   acid-a-0   0 B     0 B     0 B       -

    SLOT       ON         FOR                IN USE   WAL HELD   WAL STATE
    acid_a_1   acid-a-0   acid-a-1           yes      1.0 MiB    reserved
    acid_a_7   acid-a-0   acid-a-7, no pod   no       9.0 GiB    extended
    cdc        acid-a-0   database shop      no       20.0 MiB   unreserved

    TABLE                ON         SEQ SCANS   SEQ ROWS   IDX SCANS   IDX ROWS
    shop.public.orders   acid-a-0   120         960.0k     4000        30.0k
    shop.public.log      acid-a-0   9           9000       -           -

    IF SET TO   VERDICT   RULES
    2           allowed   -
    4           allowed   -

    HEALTHY: db/acid-a has converged on 3 instances
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn status_sql_not_permitted() {
    insta::assert_snapshot!(on("status --sql, not permitted", NARROW).await, @"
    [stdout]
    HEALTHY: db/acid-a has converged on 3 instances
    postgresql db/acid-a
      Version:   PostgreSQL 15.4
      Instances: 3
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   asynchronous replication
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    no logical backup job
      Budget:    none counts the leader
      Policy:    none; any number may be added, 2 may be removed

    MEMBER     ROLE      HEALTH    STATE       TL   LAG   NODE     AGE
    acid-a-0   leader    healthy   running     1    -     node-0   120m
    acid-a-1   replica   healthy   streaming   1    0 B   node-1   120m
    acid-a-2   replica   healthy   streaming   1    0 B   node-2   120m
    Not known: the size, lag in seconds, the WAL archive: pods/exec is not permitted

    Not known: what the members read: pods/exec is not permitted
      check:
          kubectl auth can-i create pods --subresource=exec -n db

    IF SET TO   VERDICT   RULES
    2           allowed   -
    4           allowed   -

    HEALTHY: db/acid-a has converged on 3 instances
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn top() {
    insta::assert_snapshot!(on("top", NARROW).await, @"
    [stdout]
    NAME     HEALTHY   CPU    MEMORY    LAG   ROWS/S   STATUS
    acid-b   0/3       -      -         -     -        NoLeader
    acid-a   3/3       600m   6.0 GiB   0 B   12.1k    Converged
    [exit 0]
    ");
    insta::assert_snapshot!(on("top", BROAD).await, @"
    [stdout]
    NAME     HEALTHY   CPU    MEMORY    LAG   ROWS/S   STATUS
    acid-b   0/3       -      -         -     -        NoLeader
    acid-a   3/3       600m   6.0 GiB   0 B   12.1k    Converged
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn up_measured() {
    insta::assert_snapshot!(on("up, measured", NARROW).await, @"
    [stderr]
    PLANNED 3 -> 4, allowed
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       1 of unknown size: psql is not installed; ETA unknown: no
                          base backup of this cluster was measured yet
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
    PLANNED 3 -> 4, allowed
    numberOfInstances is 4
    looking again at what members read in 1m ...
    [stdout]
    postgresql/acid-a scaled from 3 to 4 instances in 5s
    Did it help? Before the change, and 1m after it converged
    MEMBER              CPU            MEMORY               LAG                  ROWS/S
    acid-a-0 (leader)   100m -> 100m   1.0 GiB -> 1.0 GiB   -                    12.0k -> 3000
    acid-a-1            200m -> 200m   2.0 GiB -> 2.0 GiB   1.0 MiB -> 1.0 MiB   50 -> 3000
    acid-a-2            300m -> 300m   3.0 GiB -> 3.0 GiB   0 B -> 0 B           50 -> 3000
    acid-a-3            - -> 400m      - -> 4.0 GiB         - -> 0 B             - -> 50
    Rows read per second by all members: 12.1k -> 9050 (-25 %)
    Rows read per second by the leader: 12.0k -> 3000 (-75 %)
    [exit 0]
    ");
}
