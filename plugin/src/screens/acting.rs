//! The screens of changes.

use super::{BROAD, NARROW, on};

#[tokio::test(start_paused = true)]
async fn up() {
    insta::assert_snapshot!(on("up", NARROW).await, @"
    [stderr]
    PLANNED 3 -> 4, allowed, 1 warning: stale-volume
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       pgdata-acid-a-3 returns (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 3.3 -> 4.4, memory 12.3 GiB -> 16.5 GiB, storage
                          400.0 GiB as before
      Quota:              compute: pods 3 -> 4 of 20, 16 left
                          compute: requests.cpu 3.3 -> 4.4 of 5, 0.6 left
                          compute: requests.memory 12.3 GiB -> 16.5 GiB of 64.0 GiB,
                            47.5 GiB left
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       1 on the volume of an earlier life: catches up, or copies
                          all where it cannot
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
      WARN stale-volume: kept from an earlier life, and attached again:
           pgdata-acid-a-3
           persistentvolumeclaim/pgdata-acid-a-3: created: 12d ago
           Try: for a fresh copy, delete first:
               kubectl delete pvc pgdata-acid-a-3 -n db
    PLANNED 3 -> 4, allowed, 1 warning: stale-volume
    waiting for 3h20m at most: 1 base backup of 100.0 GiB may be needed
    numberOfInstances is 4
    [   0.0s] acid-a-3: pod created, waiting: 0/3 nodes are available: 3
      Insufficient cpu
    [  10.0s] acid-a-3: FailedBinding: no volume fits the claim
    [  40.0s] acid-a-3: pod created, waiting: container postgres: ContainerCreating
    [  43.0s] acid-a-3: container started
    [  45.0s] acid-a-3: replication configured
    [  47.0s] acid-a-3: base backup
    [  47.0s] acid-a-3: base backup, 25 % of 4.0 GiB
    [  77.0s] acid-a-3: base backup, 50 % of 4.0 GiB, about 60s left
    [ 107.0s] acid-a-3: streaming
    [ 109.0s] acid-a-3: in service as replica
    Timeline, in seconds since the count was written:
    MEMBER    CREATED  SCHEDULED  STARTED  CONFIGURED  BASE      STREAMING  IN
                                                       BACKUP               SERVICE
    acid-a-3  0        0          0        45          47        107        109
    [stdout]
    postgresql/acid-a scaled from 3 to 4 instances in 112s
    [exit 0]
    ");
    insta::assert_snapshot!(on("up", BROAD).await, @"
    [stderr]
    PLANNED 3 -> 4, allowed, 1 warning: stale-volume
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       pgdata-acid-a-3 returns (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 3.3 -> 4.4, memory 12.3 GiB -> 16.5 GiB, storage 400.0 GiB as before
      Quota:              compute: pods 3 -> 4 of 20, 16 left
                          compute: requests.cpu 3.3 -> 4.4 of 5, 0.6 left
                          compute: requests.memory 12.3 GiB -> 16.5 GiB of 64.0 GiB, 47.5 GiB left
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       1 on the volume of an earlier life: catches up, or copies all where it cannot
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
      WARN stale-volume: kept from an earlier life, and attached again: pgdata-acid-a-3
           persistentvolumeclaim/pgdata-acid-a-3: created: 12d ago
           Try: for a fresh copy, delete first:
               kubectl delete pvc pgdata-acid-a-3 -n db
    PLANNED 3 -> 4, allowed, 1 warning: stale-volume
    waiting for 3h20m at most: 1 base backup of 100.0 GiB may be needed
    numberOfInstances is 4
    [   0.0s] acid-a-3: pod created, waiting: 0/3 nodes are available: 3 Insufficient cpu
    [  10.0s] acid-a-3: FailedBinding: no volume fits the claim
    [  40.0s] acid-a-3: pod created, waiting: container postgres: ContainerCreating
    [  43.0s] acid-a-3: container started
    [  45.0s] acid-a-3: replication configured
    [  47.0s] acid-a-3: base backup
    [  47.0s] acid-a-3: base backup, 25 % of 4.0 GiB
    [  77.0s] acid-a-3: base backup, 50 % of 4.0 GiB, about 60s left
    [ 107.0s] acid-a-3: streaming
    [ 109.0s] acid-a-3: in service as replica
    Timeline, in seconds since the count was written:
    MEMBER     CREATED   SCHEDULED   STARTED   CONFIGURED   BASE BACKUP   STREAMING   IN SERVICE
    acid-a-3   0         0           0         45           47            107         109
    [stdout]
    postgresql/acid-a scaled from 3 to 4 instances in 112s
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn up_not_judged_in_full() {
    insta::assert_snapshot!(on("up, not judged in full", NARROW).await, @"
    [stderr]
    PLANNED 3 -> 4, allowed, but 3 rules could not be judged: list
      persistentvolumeclaims in db: forbidden
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new; or an earlier one
    Impact:
      Requests:           storage unknown: list persistentvolumeclaims in db:
                          forbidden
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       up to 1 of unknown size: psql is not installed; ETA
                          unknown: no base backup of this cluster was measured yet;
                          volumes of an earlier life are unknown: list
                          persistentvolumeclaims in db: forbidden
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
      WARN cannot be judged: list persistentvolumeclaims in db: forbidden
           hides stale-volume, foreign-volume, volume-resizing
           Try:
               kubectl auth can-i list persistentvolumeclaims -n db
    PLANNED 3 -> 4, allowed, but 3 rules could not be judged: list
      persistentvolumeclaims in db: forbidden
    error: stale-volume, foreign-volume, volume-resizing could not be judged, and
      there is no terminal to ask on; nothing was changed
    hint: add --yes
    [exit 7]
    ");
    insta::assert_snapshot!(on("up, not judged in full", BROAD).await, @"
    [stderr]
    PLANNED 3 -> 4, allowed, but 3 rules could not be judged: list persistentvolumeclaims in db: forbidden
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new; or an earlier one
    Impact:
      Requests:           storage unknown: list persistentvolumeclaims in db: forbidden
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       up to 1 of unknown size: psql is not installed; ETA unknown: no base backup of this cluster was measured yet; volumes of an earlier life
                          are unknown: list persistentvolumeclaims in db: forbidden
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
      WARN cannot be judged: list persistentvolumeclaims in db: forbidden
           hides stale-volume, foreign-volume, volume-resizing
           Try:
               kubectl auth can-i list persistentvolumeclaims -n db
    PLANNED 3 -> 4, allowed, but 3 rules could not be judged: list persistentvolumeclaims in db: forbidden
    error: stale-volume, foreign-volume, volume-resizing could not be judged, and there is no terminal to ask on; nothing was changed
    hint: add --yes
    [exit 7]
    ");
}

#[tokio::test(start_paused = true)]
async fn down_the_leader_moves() {
    insta::assert_snapshot!(on("down, the leader moves", NARROW).await, @"
    [stderr]
    PLANNED 5 -> 3, allowed, 1 warning: survivors-one-zone
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER    CHANGE   ROLE     STATE    VOLUME
    acid-a-3  removed  replica  healthy  pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    acid-a-4  removed  leader   healthy  pgdata-acid-a-4 is kept (100.0 GiB, 12d)
    Leader: acid-a-4 -> acid-a-0 (acid-a-4 leads and is removed; acid-a-0 is the
      best caught-up member that is kept)
    Impact:
      Requests:           cpu 5.5 -> 3.3, memory 20.6 GiB -> 12.3 GiB, storage
                          600.0 GiB as before
      Readers:            4 -> 2 behind acid-a-repl
      Failures tolerated: 4 -> 2
      Zones:              zone-a x 3, zone-b x 2 -> zone-a x 3; all kept members are
                          in zone-a
      Clients:            acid-a-3, acid-a-4: unknown: psql is not installed
    Steps:
      1. CHECKPOINT on acid-a-4
      2. switch over from acid-a-4 to acid-a-0, and see it done
      3. set numberOfInstances to 3
      4. wait until 3 instances have converged
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b
           are removed
           node/node-0: zone of acid-a-0: zone-a
           node/node-1: zone of acid-a-1: zone-a
           and 3 more lines: -o wide shows all
           Try: to keep a second zone:
               kubectl pgscale down acid-a --to 4 -n db
    PLANNED 5 -> 3, allowed, 1 warning: survivors-one-zone
    CHECKPOINT on acid-a-4 ...
    switching over from acid-a-4 to acid-a-0 ...
    acid-a-0 leads (lock, label and Patroni agree), 0.0s after the request; how long
      writes stopped could not be measured
    numberOfInstances is 3
    [stdout]
    postgresql/acid-a scaled from 5 to 3 instances in 3s
    [exit 0]
    ");
    insta::assert_snapshot!(on("down, the leader moves", BROAD).await, @"
    [stderr]
    PLANNED 5 -> 3, allowed, 1 warning: survivors-one-zone
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-3   removed   replica   healthy   pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    acid-a-4   removed   leader    healthy   pgdata-acid-a-4 is kept (100.0 GiB, 12d)
    Leader: acid-a-4 -> acid-a-0 (acid-a-4 leads and is removed; acid-a-0 is the best caught-up member that is kept)
    Impact:
      Requests:           cpu 5.5 -> 3.3, memory 20.6 GiB -> 12.3 GiB, storage 600.0 GiB as before
      Readers:            4 -> 2 behind acid-a-repl
      Failures tolerated: 4 -> 2
      Zones:              zone-a x 3, zone-b x 2 -> zone-a x 3; all kept members are in zone-a
      Clients:            acid-a-3, acid-a-4: unknown: psql is not installed
    Steps:
      1. CHECKPOINT on acid-a-4
      2. switch over from acid-a-4 to acid-a-0, and see it done
      3. set numberOfInstances to 3
      4. wait until 3 instances have converged
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b are removed
           node/node-0: zone of acid-a-0: zone-a
           node/node-1: zone of acid-a-1: zone-a
           and 3 more lines: -o wide shows all
           Try: to keep a second zone:
               kubectl pgscale down acid-a --to 4 -n db
    PLANNED 5 -> 3, allowed, 1 warning: survivors-one-zone
    CHECKPOINT on acid-a-4 ...
    switching over from acid-a-4 to acid-a-0 ...
    acid-a-0 leads (lock, label and Patroni agree), 0.0s after the request; how long writes stopped could not be measured
    numberOfInstances is 3
    [stdout]
    postgresql/acid-a scaled from 5 to 3 instances in 3s
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn down_without_a_person_to_ask() {
    insta::assert_snapshot!(on("down, no person to ask", NARROW).await, @"
    [stderr]
    PLANNED 3 -> 2, allowed
    postgresql db/acid-a: 3 -> 2 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-2   removed   replica   healthy   -
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 1 behind acid-a-repl
      Failures tolerated: 2 -> 1
      Clients:            acid-a-2: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 2
      2. wait until 2 instances have converged
    PLANNED 3 -> 2, allowed
    error: instances would be removed, and there is no terminal to ask on; nothing
      was changed
    hint: add --yes
    [exit 7]
    ");
    insta::assert_snapshot!(on("down, no person to ask", BROAD).await, @"
    [stderr]
    PLANNED 3 -> 2, allowed
    postgresql db/acid-a: 3 -> 2 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-2   removed   replica   healthy   -
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 1 behind acid-a-repl
      Failures tolerated: 2 -> 1
      Clients:            acid-a-2: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 2
      2. wait until 2 instances have converged
    PLANNED 3 -> 2, allowed
    error: instances would be removed, and there is no terminal to ask on; nothing was changed
    hint: add --yes
    [exit 7]
    ");
}

#[tokio::test(start_paused = true)]
async fn down_the_webhook_says_no() {
    insta::assert_snapshot!(on("down, the webhook says no", NARROW).await, @r#"
    [stderr]
    PLANNED 3 -> 2, allowed
    postgresql db/acid-a: 3 -> 2 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-2   removed   replica   healthy   -
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 1 behind acid-a-repl
      Failures tolerated: 2 -> 1
      Clients:            acid-a-2: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 2
      2. wait until 2 instances have converged
    PLANNED 3 -> 2, allowed
    error: refused to change postgresql db/acid-a: admission webhook
      "shrink.pgscale.dev" denied the request: below-min: 2 instances asked, 3 is
      the minimum
    nothing was changed
    hint: every rule has a page:
        kubectl pgscale rules RULE
    [exit 3]
    "#);
    insta::assert_snapshot!(on("down, the webhook says no", BROAD).await, @r#"
    [stderr]
    PLANNED 3 -> 2, allowed
    postgresql db/acid-a: 3 -> 2 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-2   removed   replica   healthy   -
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 1 behind acid-a-repl
      Failures tolerated: 2 -> 1
      Clients:            acid-a-2: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 2
      2. wait until 2 instances have converged
    PLANNED 3 -> 2, allowed
    error: refused to change postgresql db/acid-a: admission webhook "shrink.pgscale.dev" denied the request: below-min: 2 instances asked, 3 is the minimum
    nothing was changed
    hint: every rule has a page:
        kubectl pgscale rules RULE
    [exit 3]
    "#);
}

#[tokio::test(start_paused = true)]
async fn set_another_writer_takes_it_back() {
    insta::assert_snapshot!(on("set, another writer takes it back", NARROW).await, @"
    [stderr]
    PLANNED 3 -> 5, allowed
    postgresql db/acid-a: 3 -> 5 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new
    acid-a-4   added    replica   -       new
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 4 behind acid-a-repl
      Failures tolerated: 2 -> 4
      Base backups:       2 of unknown size: psql is not installed; at nearly the
                          same time (no readiness probe holds the next pod back);
                          ETA unknown: no base backup of this cluster was measured
                          yet
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 5
      2. wait until 5 instances have converged
    PLANNED 3 -> 5, allowed
    numberOfInstances is 5
    error: numberOfInstances of postgresql db/acid-a was set back to 3 by
      argocd-controller; 5 was asked for
    hint: change it where argocd-controller takes it from: spec.numberOfInstances: 5
    [exit 6]
    ");
    insta::assert_snapshot!(on("set, another writer takes it back", BROAD).await, @"
    [stderr]
    PLANNED 3 -> 5, allowed
    postgresql db/acid-a: 3 -> 5 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new
    acid-a-4   added    replica   -       new
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 4 behind acid-a-repl
      Failures tolerated: 2 -> 4
      Base backups:       2 of unknown size: psql is not installed; at nearly the same time (no readiness probe holds the next pod back); ETA unknown: no base
                          backup of this cluster was measured yet
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 5
      2. wait until 5 instances have converged
    PLANNED 3 -> 5, allowed
    numberOfInstances is 5
    error: numberOfInstances of postgresql db/acid-a was set back to 3 by argocd-controller; 5 was asked for
    hint: change it where argocd-controller takes it from: spec.numberOfInstances: 5
    [exit 6]
    ");
}

#[tokio::test(start_paused = true)]
async fn set_nothing_to_do() {
    let narrow = on("set, nothing to do", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    postgresql/acid-a asks for 3 instances already; nothing to do
    [exit 0]
    ");
    assert_eq!(on("set, nothing to do", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn several() {
    let narrow = on("several", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stderr]
    NAMESPACE   NAME     CHANGE   LEADER     MOVES TO   VERDICT
    db          acid-a   3 -> 4   acid-a-0   -          allowed
    db          acid-b   -        -          -          failed
    db/acid-b:
      postgresql db/acid-b is being deleted
    db/acid-a: numberOfInstances is 4
    [stdout]
    NAMESPACE   NAME     CHANGE   RESULT      TOOK   LEADER MOVED
    db          acid-a   3 -> 4   Converged   3.0s   -
    db          acid-b   -        Failed      -      -
    [stderr]
    error: 1 of 2 clusters are not what was asked for
      db/acid-b: postgresql db/acid-b is being deleted
    [exit 1]
    ");
    assert_eq!(on("several", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn several_no_terminal() {
    let narrow = on("several, no terminal", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stderr]
    NAMESPACE   NAME     CHANGE   LEADER     MOVES TO   VERDICT
    db          acid-a   3 -> 4   acid-a-0   -          allowed
    db          acid-b   -        -          -          failed
    db/acid-b:
      postgresql db/acid-b is being deleted
    error: 1 cluster would be changed, and there is no terminal to ask on; nothing
      was changed
    hint: add --yes
    [exit 7]
    ");
    insta::assert_snapshot!(on("several, no terminal", BROAD).await, @"
    [stderr]
    NAMESPACE   NAME     CHANGE   LEADER     MOVES TO   VERDICT
    db          acid-a   3 -> 4   acid-a-0   -          allowed
    db          acid-b   -        -          -          failed
    db/acid-b:
      postgresql db/acid-b is being deleted
    error: 1 cluster would be changed, and there is no terminal to ask on; nothing was changed
    hint: add --yes
    [exit 7]
    ");
}

#[tokio::test(start_paused = true)]
async fn undo() {
    let narrow = on("undo", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stderr]
    taking back the change of 2026-11-24T10:00:00Z by dba, sale
    PLANNED 5 -> 3, allowed
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-3   removed   replica   healthy   -
    acid-a-4   removed   replica   healthy   -
    Impact:
      Requests:           storage 0 B as before
      Readers:            4 -> 2 behind acid-a-repl
      Failures tolerated: 4 -> 2
      Clients:            acid-a-3, acid-a-4: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 3
      2. wait until 3 instances have converged
    PLANNED 5 -> 3, allowed
    numberOfInstances is 3
    [stdout]
    postgresql/acid-a scaled from 5 to 3 instances in 3s
    [exit 0]
    ");
    assert_eq!(on("undo", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn undo_nothing_to_undo() {
    insta::assert_snapshot!(on("undo, nothing to undo", NARROW).await, @"
    [stderr]
    error: nothing of postgresql db/acid-a is undone: no change of the count is
      recorded
    hint: see what was done:
        kubectl pgscale history acid-a -n db
    hint: ask for a count yourself:
        kubectl pgscale set acid-a N -n db
    note: there is no terminal to ask on: add --yes to a command that changes the
      count
    [exit 1]
    ");
    insta::assert_snapshot!(on("undo, nothing to undo", BROAD).await, @"
    [stderr]
    error: nothing of postgresql db/acid-a is undone: no change of the count is recorded
    hint: see what was done:
        kubectl pgscale history acid-a -n db
    hint: ask for a count yourself:
        kubectl pgscale set acid-a N -n db
    note: there is no terminal to ask on: add --yes to a command that changes the count
    [exit 1]
    ");
}
