//! The screens of plans.

use super::{BROAD, NARROW, on};

#[tokio::test(start_paused = true)]
async fn plan_allowed() {
    insta::assert_snapshot!(on("plan, allowed", NARROW).await, @"
    [stdout]
    ALLOWED 5 -> 3, 2 warnings: below-min, survivors-one-zone
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER    CHANGE   ROLE     STATE    VOLUME
    acid-a-3  removed  replica  healthy  pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    acid-a-4  removed  leader   healthy  pgdata-acid-a-4 is kept (100.0 GiB, 12d)
    Leader: acid-a-4 -> acid-a-0 (acid-a-4 leads and is removed; acid-a-0 is the
      best caught-up member that is kept)
    Also written by: argocd-controller (may undo the change: commit this to the
      source of the Argo CD Application, once the leader has moved)
        apiVersion: acid.zalan.do/v1
        kind: postgresql
        metadata:
          name: acid-a
          namespace: db
        spec:
          numberOfInstances: 3
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
      WARN below-min: 3 instances asked for, 5 is the minimum
           scalepolicy/trial: instances.min: 5
           (not refused: the policy is in mode Warn)
           Try:
               kubectl pgscale set acid-a 5 -n db
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b
           are removed
           node/node-0: zone of acid-a-0: zone-a
           node/node-1: zone of acid-a-1: zone-a
           and 3 more lines: -o wide shows all
           Try: to keep a second zone:
               kubectl pgscale down acid-a --to 4 -n db
    A plain write (kubectl edit, Argo CD, Helm) is refused by leader-condemned until
      the leader has moved:
        kubectl pgscale switchover acid-a --for 3 -n db
    ALLOWED 5 -> 3, 2 warnings: below-min, survivors-one-zone
    [exit 0]
    ");
    insta::assert_snapshot!(on("plan, allowed", BROAD).await, @"
    [stdout]
    ALLOWED 5 -> 3, 2 warnings: below-min, survivors-one-zone
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-3   removed   replica   healthy   pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    acid-a-4   removed   leader    healthy   pgdata-acid-a-4 is kept (100.0 GiB, 12d)
    Leader: acid-a-4 -> acid-a-0 (acid-a-4 leads and is removed; acid-a-0 is the best caught-up member that is kept)
    Also written by: argocd-controller (may undo the change: commit this to the source of the Argo CD Application, once the leader has moved)
        apiVersion: acid.zalan.do/v1
        kind: postgresql
        metadata:
          name: acid-a
          namespace: db
        spec:
          numberOfInstances: 3
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
      WARN below-min: 3 instances asked for, 5 is the minimum
           scalepolicy/trial: instances.min: 5
           (not refused: the policy is in mode Warn)
           Try:
               kubectl pgscale set acid-a 5 -n db
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b are removed
           node/node-0: zone of acid-a-0: zone-a
           node/node-1: zone of acid-a-1: zone-a
           and 3 more lines: -o wide shows all
           Try: to keep a second zone:
               kubectl pgscale down acid-a --to 4 -n db
    A plain write (kubectl edit, Argo CD, Helm) is refused by leader-condemned until the leader has moved:
        kubectl pgscale switchover acid-a --for 3 -n db
    ALLOWED 5 -> 3, 2 warnings: below-min, survivors-one-zone
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn plan_refused() {
    insta::assert_snapshot!(on("plan, refused", NARROW).await, @"
    [stdout]
    REFUSED 4 -> 1: below-min, step-too-large
    postgresql db/acid-a: 4 -> 1 instance
    MEMBER     CHANGE    ROLE      STATE                     VOLUME
    acid-a-1   removed   replica   990 bytes behind the      pgdata-acid-a-1 is kept
                                   leader after a second     (100.0 GiB, 12d)
    acid-a-2   removed   replica   990 bytes behind the      pgdata-acid-a-2 is kept
                                   leader after a second     (100.0 GiB, 12d)
    acid-a-3   removed   replica   healthy                   pgdata-acid-a-3 is kept
                                                             (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 4.4 -> 1.1, memory 16.5 GiB -> 4.1 GiB, storage
                          500.0 GiB as before
      Readers:            3 -> 0 behind acid-a-repl
      Failures tolerated: 1 -> 0
      Zones:              zone-a x 3, zone-b x 1 -> zone-a x 1
      Clients:            acid-a-1, acid-a-2, acid-a-3: unknown: psql is not
                          installed
      DENY below-min: 1 instance asked for, 2 is the minimum
           scalepolicy/production: instances.min: 2
           Try: no count that helps is admitted now; see why:
               kubectl pgscale status acid-a -n db
      DENY step-too-large: from 4 to 1 instances is a step of 3, 2 at once is the
           most
           scalepolicy/production: steps.down: 2
           Try: no count that helps is admitted now; see why:
               kubectl pgscale status acid-a -n db
      WARN no-standby-left: 1 instance is left: nothing to fail over to, and
           acid-a-repl will have no endpoints
           postgresql/acid-a: numberOfInstances: 4 -> 1
           Try: no count that helps is admitted now; see why:
               kubectl pgscale status acid-a -n db
    Nearest count that would be allowed now: none
      what is wrong with the cluster:
        kubectl pgscale status acid-a --why -n db
    REFUSED 4 -> 1: below-min, step-too-large
    [stderr]
    error: the change of postgresql db/acid-a to 1 would be refused
    [exit 3]
    ");
    insta::assert_snapshot!(on("plan, refused", BROAD).await, @"
    [stdout]
    REFUSED 4 -> 1: below-min, step-too-large
    postgresql db/acid-a: 4 -> 1 instance
    MEMBER     CHANGE    ROLE      STATE                                        VOLUME
    acid-a-1   removed   replica   990 bytes behind the leader after a second   pgdata-acid-a-1 is kept (100.0 GiB, 12d)
    acid-a-2   removed   replica   990 bytes behind the leader after a second   pgdata-acid-a-2 is kept (100.0 GiB, 12d)
    acid-a-3   removed   replica   healthy                                      pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 4.4 -> 1.1, memory 16.5 GiB -> 4.1 GiB, storage 500.0 GiB as before
      Readers:            3 -> 0 behind acid-a-repl
      Failures tolerated: 1 -> 0
      Zones:              zone-a x 3, zone-b x 1 -> zone-a x 1
      Clients:            acid-a-1, acid-a-2, acid-a-3: unknown: psql is not installed
      DENY below-min: 1 instance asked for, 2 is the minimum
           scalepolicy/production: instances.min: 2
           Try: no count that helps is admitted now; see why:
               kubectl pgscale status acid-a -n db
      DENY step-too-large: from 4 to 1 instances is a step of 3, 2 at once is the most
           scalepolicy/production: steps.down: 2
           Try: no count that helps is admitted now; see why:
               kubectl pgscale status acid-a -n db
      WARN no-standby-left: 1 instance is left: nothing to fail over to, and acid-a-repl will have no endpoints
           postgresql/acid-a: numberOfInstances: 4 -> 1
           Try: no count that helps is admitted now; see why:
               kubectl pgscale status acid-a -n db
    Nearest count that would be allowed now: none
      what is wrong with the cluster:
        kubectl pgscale status acid-a --why -n db
    REFUSED 4 -> 1: below-min, step-too-large
    [stderr]
    error: the change of postgresql db/acid-a to 1 would be refused
    [exit 3]
    ");
}
