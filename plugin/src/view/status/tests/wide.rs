//! One cluster on a wide screen.

use super::*;

#[test]
fn a_cluster_in_trouble_on_a_wide_screen() {
    insta::assert_snapshot!(plain(&detail(&troubled(), false, true, Some(160))), @"
    DEGRADED: acid-a-2 cannot be scheduled; acid-a-1 does not receive: it lacks 990 B; and 2 more
    postgresql db/acid-a
      Version:   PostgreSQL 15.4, 12.3 GiB of data
      Instances: 3 declared, 3 effective, 3 in the StatefulSet, 2 running
      Leader:    acid-a-0, timeline 1, lock renewed 0s ago
      Patroni:   synchronous replication, synchronous standbys: acid-a-1, paused: no member takes over
      Operator:  default/postgres-operator, available; it says Running
      Services:  acid-a -> acid-a-0; acid-a-repl -> acid-a-1, acid-a-2
      Backup:    logical not read; WAL last archived 12s ago
      Policy:    min 3 (scalepolicy/production), min 5 (scalepolicy/trial, only warns), max 7 (scalepolicy/production); 4 more may be added, 0 may be removed

    MEMBER    ROLE          HEALTH                         STATE          TL  LAG    W/F/R SEC    SYNC  RECEIVED  REPLAYED  ADDRESS      RESTARTS  NODE    AGE  ZONE
    acid-a-0  leader        healthy                        running        1   -      -            -     0/3E8     -         10.244.0.10  0         node-0  90m  -
    acid-a-1  sync standby  990 bytes behind the leader    streaming      1   990 B  0.0/0.0/75   -     0/A       0/A       10.244.0.11  0         node-1  90m  -
                            after a second
    acid-a-2  replica       pod is Unschedulable, does     Unschedulable  -   -      0.0/0.0/0.3  -     -         -         10.244.0.12  0         -       90m  -
                            not answer (its pod is
                            Pending)
    W/F/R SEC: seconds until a replica has written, flushed and replayed WAL

    SLOT       MEMBER             WAL HELD   OLDEST NEEDED
    acid_a_1   acid-a-1           0 B        0/3E8
    acid_a_2   acid-a-2           100 B      0/384
    acid_a_4   acid-a-4, no pod   990 B      0/A

    VOLUME            SIZE       MEMBER     STATE          AGE   CREATED
    pgdata-acid-a-0   40.0 GiB   acid-a-0   in use         94d   2026-08-22T10:00:00Z
    pgdata-acid-a-1   40.0 GiB   acid-a-1   in use         94d   2026-08-22T10:00:00Z
    pgdata-acid-a-2   40.0 GiB   acid-a-2   in use         94d   2026-08-22T10:00:00Z
    pgdata-acid-a-4   40.0 GiB   acid-a-4   kept, no pod   94d   2026-08-22T10:00:00Z

    IF SET TO   VERDICT               RULES                         LEADER MOVES TO   MESSAGE
    2           refused               below-min                     -                 2 instances asked for, 3 is the minimum
    4           allowed, 2 warnings   paused, rebuild-in-progress   -                 Patroni is paused: a new member does not start before it is resumed

    Not converged:
      acid-a-1: 990 bytes behind the leader after a second
      acid-a-2: Unschedulable
    Why, the likeliest first:
      1. acid-a-2 cannot be scheduled
         pod/acid-a-2: status: Unschedulable
         next:
             kubectl describe pod acid-a-2 -n db
      2. acid-a-1 does not receive: it lacks 990 B
         http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990 bytes
         next:
             kubectl exec acid-a-1 -c postgres -n db -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
      3. Patroni is paused: it neither starts nor rebuilds a member, and no member takes over
         configmap/acid-a-config: pause: true
         next, once it is sure that the pause is not needed any more:
             kubectl exec acid-a-0 -c postgres -n db -- patronictl resume --wait acid-a
      Events cannot be read: may not list events
    DEGRADED: acid-a-2 cannot be scheduled; acid-a-1 does not receive: it lacks 990 B; and 2 more
    ");
}
