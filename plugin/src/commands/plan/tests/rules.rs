//! `plan -o wide`: the verdict of every rule, its evidence, and the change that would satisfy it.

use k8s_openapi::jiff::Timestamp;

use super::{growing, shown, shrinking};
use crate::testing::World;

/// Returns `text` without the times that differ with every run.
fn timeless(text: &str) -> String {
    let time = |word: &str| word.trim_end_matches([',', ';']).parse::<Timestamp>().is_ok();
    let spell = |word| if time(word) { "TIME" } else { word };
    text.split(' ')
        .map(|word| word.split('\n').map(spell).collect::<Vec<_>>().join("\n"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the text about one rule.
async fn looked_at(world: &World, line: &str, rule: &str) -> String {
    let text = timeless(&shown(world, line, Some(100)).await);
    let (_, rules) = text.split_once("Every rule").unwrap();
    let mut lines = rules.lines().skip_while(|line| !line.contains(&format!(" {rule}")));
    let first = lines.next().unwrap();
    let rest = lines.take_while(|line| line.starts_with("     "));
    std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn wide_shows_the_whole_impact_and_every_rule() {
    insta::assert_snapshot!(timeless(&shown(&shrinking(), "acid-a --to 3 -o wide", Some(160)).await), @"
    ALLOWED 5 -> 3, 1 warning: survivors-one-zone
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-3   removed   replica   healthy   pgdata-acid-a-3 is kept (100.0 GiB, 12d)
    acid-a-4   removed   replica   healthy   pgdata-acid-a-4 is kept (100.0 GiB, 12d)
    Impact:
      Requests:           cpu 5.5 -> 3.3, memory 20.6 GiB -> 12.3 GiB, storage 600.0 GiB as before
      Limits:             memory 20.6 GiB -> 12.3 GiB, cpu unlimited
      Quota:              compute: pods 5 -> 3 of 20, 17 left
                          compute: requests.cpu 5.5 -> 3.3 of 7, 3.7 left
                          compute: requests.memory 20.6 GiB -> 12.3 GiB of 64.0 GiB, 51.6 GiB left
      Readers:            4 -> 2 behind acid-a-repl
      Failures tolerated: 4 -> 2
      Zones:              zone-a x 3, zone-b x 2 -> zone-a x 3; all kept members are in zone-a
      Clients:            acid-a-3: none
                          acid-a-4: 12 clients (web as app x 10, app x 2)
                          connections end when their member is removed
    Steps:
      1. set numberOfInstances to 3
      2. wait until 3 instances have converged
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b are removed
           node/node-0: zone of acid-a-0: zone-a
           node/node-1: zone of acid-a-1: zone-a
           node/node-2: zone of acid-a-2: zone-a
           node/node-3: zone of acid-a-3: zone-b
           node/node-4: zone of acid-a-4: zone-b
           Try: to keep a second zone:
               kubectl pgscale down acid-a --to 4 -n db
    Hash: 9486f79540b6b5bf (for --expect-plan)
    Every rule, and what it looked at:
      PASS below-min
         postgresql/acid-a: numberOfInstances: 5 -> 3
         scalepolicies: instances.min: set by none
         built-in defaults: instances.min: 1
         configmap default/postgres-operator: min_instances: -1; max_instances: -1
      PASS above-max
         postgresql/acid-a: numberOfInstances: 5 -> 3
         scalepolicies: instances.max: set by none
         configmap default/postgres-operator: min_instances: -1; max_instances: -1
      PASS outside-floor
         postgresql/acid-a: numberOfInstances: 5 -> 3
         scalepolicies: floor.min: set by none; floor.max: set by none
      n/a  scale-to-zero
      n/a  namespace-budget
      n/a  return-from-zero
      PASS operator-limits
         postgresql/acid-a: numberOfInstances: 5 -> 3
         configmap default/postgres-operator: min_instances: -1; max_instances: -1
      PASS limits-unknown
         configmap default/postgres-operator: min_instances: -1; max_instances: -1
      PASS standby-cluster
         postgresql/acid-a: numberOfInstances: 5 -> 3; spec.standby, or STANDBY_WALE_… in spec.env: unset
      n/a  dcs-store-changing
      PASS step-too-large
         postgresql/acid-a: numberOfInstances: 5 -> 3
         scalepolicies: steps.down: set by none; steps.up: set by none
      PASS change-freeze
         scalepolicies: freeze: set by none
         clock: now: TIME
      PASS outside-window
         scalepolicies: windows: set by none
         clock: now: TIME
      PASS no-leader
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         pod/acid-a-0: role label: master
         pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: role label: replica
         http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
         http://10.244.0.11:8008/patroni: acid-a-1: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.12:8008/patroni: acid-a-2: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.13:8008/patroni: acid-a-3: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.14:8008/patroni: acid-a-4: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
      PASS leader-condemned
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         pod/acid-a-0: status.phase: Running; condition Ready: yes; spec.nodeName: node-0
         pod/acid-a-1: status.phase: Running; condition Ready: yes; spec.nodeName: node-1
         pod/acid-a-2: status.phase: Running; condition Ready: yes; spec.nodeName: node-2
         pod/acid-a-3: status.phase: Running; condition Ready: yes; spec.nodeName: node-3
         pod/acid-a-4: status.phase: Running; condition Ready: yes; spec.nodeName: node-4
      PASS leader-cannot-move
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         pod/acid-a-0: role label: master
         pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: role label: replica
         pod/acid-a-0: TLS, a password or an allowlist of its REST interface: none seen
         http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
         http://10.244.0.11:8008/patroni: acid-a-1: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.12:8008/patroni: acid-a-2: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.13:8008/patroni: acid-a-3: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.14:8008/patroni: acid-a-4: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         configmap/acid-a-config: maximum_lag_on_failover: 1000000 bytes
         scalepolicies: survivors.maxLag: set by none
         configmap/acid-a-config: synchronous_mode: false; synchronous_mode_strict: false
         configmap/acid-a-config: synchronous_node_count: 1
         configmap/acid-a-sync: not there
         statefulset/acid-a: compared parts: as the operator writes them
      n/a  last-to-stop
      PASS too-few-healthy-survivors
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         pod/acid-a-0: status.phase: Running; condition Ready: yes; spec.nodeName: node-0
         pod/acid-a-1: status.phase: Running; condition Ready: yes; spec.nodeName: node-1
         pod/acid-a-2: status.phase: Running; condition Ready: yes; spec.nodeName: node-2
         pod/acid-a-3: status.phase: Running; condition Ready: yes; spec.nodeName: node-3
         pod/acid-a-4: status.phase: Running; condition Ready: yes; spec.nodeName: node-4
         http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
         http://10.244.0.11:8008/patroni: acid-a-1: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.12:8008/patroni: acid-a-2: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.13:8008/patroni: acid-a-3: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.14:8008/patroni: acid-a-4: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         configmap/acid-a-config: maximum_lag_on_failover: 1000000 bytes
         scalepolicies: survivors.maxLag: set by none
      PASS survivor-unhealthy
         the same as too-few-healthy-survivors
      PASS logical-slots
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         pod/acid-a-0: status.phase: Running; condition Ready: yes; spec.nodeName: node-0
         pod/acid-a-1: status.phase: Running; condition Ready: yes; spec.nodeName: node-1
         pod/acid-a-2: status.phase: Running; condition Ready: yes; spec.nodeName: node-2
         pod/acid-a-3: status.phase: Running; condition Ready: yes; spec.nodeName: node-3
         pod/acid-a-4: status.phase: Running; condition Ready: yes; spec.nodeName: node-4
         configmap/acid-a-config: logical slots: none
      PASS sync-standbys-condemned
         configmap/acid-a-config: synchronous_mode: false; synchronous_mode_strict: false
         configmap/acid-a-config: synchronous_node_count: 1
         configmap/acid-a-sync: not there
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
         http://10.244.0.11:8008/patroni: acid-a-1: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.12:8008/patroni: acid-a-2: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.13:8008/patroni: acid-a-3: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.14:8008/patroni: acid-a-4: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
      PASS strict-sync-floor
         postgresql/acid-a: numberOfInstances: 5 -> 3
         configmap/acid-a-config: synchronous_mode: false; synchronous_mode_strict: false
         configmap/acid-a-config: synchronous_node_count: 1
         postgresql/acid-a: spec.patroni.synchronous_mode: unset; spec.patroni.synchronous_mode_strict: unset
         configmap/acid-a-config: synchronous_standby_names: unset; synchronous_commit: unset
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
      PASS sync-count-floor
         postgresql/acid-a: numberOfInstances: 5 -> 3
         configmap/acid-a-config: synchronous_mode: false; synchronous_mode_strict: false
         configmap/acid-a-config: synchronous_node_count: 1
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         http://10.244.0.10:8008/patroni: acid-a-0: tags.nosync or tags.sync_priority: unset
         http://10.244.0.10:8008/patroni: acid-a-0: tags.replicatefrom: unset
         http://10.244.0.11:8008/patroni: acid-a-1: tags.nosync or tags.sync_priority: unset
         http://10.244.0.11:8008/patroni: acid-a-1: tags.replicatefrom: unset
         http://10.244.0.12:8008/patroni: acid-a-2: tags.nosync or tags.sync_priority: unset
         http://10.244.0.12:8008/patroni: acid-a-2: tags.replicatefrom: unset
         http://10.244.0.13:8008/patroni: acid-a-3: tags.nosync or tags.sync_priority: unset
         http://10.244.0.13:8008/patroni: acid-a-3: tags.replicatefrom: unset
         http://10.244.0.14:8008/patroni: acid-a-4: tags.nosync or tags.sync_priority: unset
         http://10.244.0.14:8008/patroni: acid-a-4: tags.replicatefrom: unset
      PASS no-standby-left
         postgresql/acid-a: numberOfInstances: 5 -> 3
      PASS paused
         configmap/acid-a-config: pause: false
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         pod/acid-a-0, pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: marks: none
         pod/acid-a-0: status.phase: Running; condition Ready: yes; spec.nodeName: node-0
         pod/acid-a-1: status.phase: Running; condition Ready: yes; spec.nodeName: node-1
         pod/acid-a-2: status.phase: Running; condition Ready: yes; spec.nodeName: node-2
         pod/acid-a-3: status.phase: Running; condition Ready: yes; spec.nodeName: node-3
         pod/acid-a-4: status.phase: Running; condition Ready: yes; spec.nodeName: node-4
      PASS switchover-pending
         configmap/acid-a-failover: member: unset
      PASS rebuild-in-progress
         statefulset/acid-a: spec.replicas: 5
         pod/acid-a-0: status.phase: Running; condition Ready: yes; spec.nodeName: node-0
         pod/acid-a-1: status.phase: Running; condition Ready: yes; spec.nodeName: node-1
         pod/acid-a-2: status.phase: Running; condition Ready: yes; spec.nodeName: node-2
         pod/acid-a-3: status.phase: Running; condition Ready: yes; spec.nodeName: node-3
         pod/acid-a-4: status.phase: Running; condition Ready: yes; spec.nodeName: node-4
         http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
         http://10.244.0.11:8008/patroni: acid-a-1: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.12:8008/patroni: acid-a-2: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.13:8008/patroni: acid-a-3: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.14:8008/patroni: acid-a-4: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         pod/acid-a-0, pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: marks: none
      PASS operation-in-progress
         statefulset/acid-a: metadata.generation: 1; status.observedGeneration: 1
         pod/acid-a-0, pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: marks: none
         postgresql/acid-a: last write of the spec: not known; last write of the status: not known
      PASS change-not-applied
         postgresql/acid-a: numberOfInstances: 5 -> 3
         configmap default/postgres-operator: min_instances: -1; max_instances: -1
         statefulset/acid-a: spec.replicas: 5
      PASS major-upgrade
         pod/acid-a-0, pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: marks: none
         configmap/acid-a-config: pause: false
         postgresql/acid-a: annotation last-major-upgrade-failure: unset
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
         http://10.244.0.11:8008/patroni: acid-a-1: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.12:8008/patroni: acid-a-2: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.13:8008/patroni: acid-a-3: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.14:8008/patroni: acid-a-4: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
      PASS upgrade-pending
         postgresql/acid-a: spec.postgresql.version: 15; spec.maintenanceWindows: unset
         configmap default/postgres-operator: major_version_upgrade_mode: manual
         http://10.244.0.10:8008/patroni: acid-a-0: server_version: 150004
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
      PASS operator-failed
         postgresql/acid-a: status.PostgresClusterStatus: Running
      PASS operator-absent
         deployment default/postgres-operator: available: yes; watches: all namespaces
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
      PASS mixed-change
         postgresql/acid-a: other edits: none
         statefulset/acid-a: spec.replicas: 5
      PASS replace-pending
         statefulset/acid-a: compared parts: as the operator writes them
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
      PASS restart-pending
         http://10.244.0.10:8008/patroni: acid-a-0: pending_restart: false
         http://10.244.0.11:8008/patroni: acid-a-1: pending_restart: false
         http://10.244.0.12:8008/patroni: acid-a-2: pending_restart: false
         http://10.244.0.13:8008/patroni: acid-a-3: pending_restart: false
         http://10.244.0.14:8008/patroni: acid-a-4: pending_restart: false
      PASS configuration-drift
         configmap/acid-a-config: settings that the operator would set back: none
      PASS parallel-shrink
         statefulset/acid-a: spec.podManagementPolicy: OrderedReady; readiness probe: unset; spec.replicas: 5
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
      PASS will-not-progress
         statefulset/acid-a: spec.podManagementPolicy: OrderedReady; readiness probe: unset; spec.replicas: 5
         pod/acid-a-0: status.phase: Running; condition Ready: yes; spec.nodeName: node-0
         pod/acid-a-1: status.phase: Running; condition Ready: yes; spec.nodeName: node-1
         pod/acid-a-2: status.phase: Running; condition Ready: yes; spec.nodeName: node-2
         pod/acid-a-3: status.phase: Running; condition Ready: yes; spec.nodeName: node-3
         pod/acid-a-4: status.phase: Running; condition Ready: yes; spec.nodeName: node-4
         http://10.244.0.10:8008/patroni: acid-a-0: tags.nofailover: false
         http://10.244.0.11:8008/patroni: acid-a-1: tags.nofailover: false
         http://10.244.0.12:8008/patroni: acid-a-2: tags.nofailover: false
         http://10.244.0.13:8008/patroni: acid-a-3: tags.nofailover: false
         http://10.244.0.14:8008/patroni: acid-a-4: tags.nofailover: false
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         postgresql/acid-a: characters of the name: 6
      WARN survivors-one-zone: all kept members are in zone zone-a; those in zone-b are removed
         node/node-0: zone of acid-a-0: zone-a
         node/node-1: zone of acid-a-1: zone-a
         node/node-2: zone of acid-a-2: zone-a
         node/node-3: zone of acid-a-3: zone-b
         node/node-4: zone of acid-a-4: zone-b
         To pass: to keep a second zone:
             kubectl pgscale down acid-a --to 4 -n db
      PASS survivors-draining
         pod/acid-a-0: spec.nodeName: node-0
         pod/acid-a-1: spec.nodeName: node-1
         pod/acid-a-2: spec.nodeName: node-2
         pod/acid-a-3: spec.nodeName: node-3
         pod/acid-a-4: spec.nodeName: node-4
      PASS cascade-condemned
         http://10.244.0.10:8008/patroni: acid-a-0: tags.replicatefrom: unset
         http://10.244.0.11:8008/patroni: acid-a-1: tags.replicatefrom: unset
         http://10.244.0.12:8008/patroni: acid-a-2: tags.replicatefrom: unset
         http://10.244.0.13:8008/patroni: acid-a-3: tags.replicatefrom: unset
         http://10.244.0.14:8008/patroni: acid-a-4: tags.replicatefrom: unset
      n/a  quota-headroom
      n/a  limit-range
      n/a  too-few-nodes
      n/a  too-few-wal-senders
      n/a  images-differ
      PASS volumes-deleted
         statefulset/acid-a: spec.persistentVolumeClaimRetentionPolicy.whenScaled: Retain
         configmap default/postgres-operator: persistent_volume_claim_retention_policy.when_scaled: retain
         persistentvolumeclaim/pgdata-acid-a-0: ordinal: 0; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-1: ordinal: 1; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-2: ordinal: 2; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-3: ordinal: 3; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-4: ordinal: 4; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-5: ordinal: 5; created: TIME capacity: 100Gi
         configmap/acid-a-leader: leader: acid-a-0; renewTime: TIME ttl: 30
         http://10.244.0.10:8008/patroni: acid-a-0: answer: running primary, timeline 1, at 0/3E8
         http://10.244.0.11:8008/patroni: acid-a-1: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.12:8008/patroni: acid-a-2: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.13:8008/patroni: acid-a-3: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
         http://10.244.0.14:8008/patroni: acid-a-4: answer: running replica, timeline 1, received 0/3E8, replayed 0/3E8, streaming
      n/a  stale-volume
      n/a  foreign-volume
      PASS volume-resizing
         persistentvolumeclaim/pgdata-acid-a-0: ordinal: 0; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-1: ordinal: 1; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-2: ordinal: 2; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-3: ordinal: 3; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-4: ordinal: 4; created: TIME capacity: 100Gi
         persistentvolumeclaim/pgdata-acid-a-5: ordinal: 5; created: TIME capacity: 100Gi
      n/a  pdb-blocks-drain
      n/a  no-recent-backup
      PASS statefulset-scaled
         postgresql/acid-a: numberOfInstances: 5 -> 3
         statefulset/acid-a: spec.replicas: 5
    ALLOWED 5 -> 3, 1 warning: survivors-one-zone
    ");
}

#[tokio::test]
async fn every_rule_shows_its_evidence_and_the_change_it_wants() {
    let full = looked_at(&growing(), "acid-a --to 5 -o wide", "quota-headroom").await;
    insta::assert_snapshot!(full, @"
    DENY quota-headroom: no room for 5 instances: a limit would be passed
       postgresql/acid-a: numberOfInstances: 3 -> 5; requests of each new member: cpu 1.1, memory
         4224Mi
       postgresql/acid-a: limits of each new member: cpu 4, memory 4224Mi; volumes of each new member:
         100Gi
       resourcequota/compute: pods: 3 of 20 used, 5 afterwards; requests.cpu: 3.3 of 5 used, 5.5
         afterwards
       resourcequota/compute: requests.memory: 12672Mi of 64Gi used, 21120Mi afterwards
       To pass: ask for fewer:
           kubectl pgscale up acid-a --to 4 -n db
         or have the quota raised:
           kubectl describe resourcequota -n db
    ");
    let hidden = growing().hiding(&["resourcequotas", "persistentvolumeclaims"]);
    let unknown = looked_at(&hidden, "acid-a --to 5 -o wide", "quota-headroom").await;
    insta::assert_snapshot!(unknown, @"
    UNKNOWN, WARN quota-headroom: cannot be judged: the quotas could not be read (list resourcequotas
         in db: forbidden)
       postgresql/acid-a: numberOfInstances: 3 -> 5; requests of each new member: cpu 1.1, memory
         4224Mi
       postgresql/acid-a: limits of each new member: cpu 4, memory 4224Mi; volumes of each new member:
         100Gi
       resourcequotas: cannot be judged: the quotas could not be read (list resourcequotas in db:
         forbidden)
       To pass: make the fact readable (network, rights), then ask again
    ");
}

#[tokio::test]
async fn rules_judge_as_if_the_leader_had_moved_and_the_plan_says_so() {
    let text = shown(&World::new(3, 2), "acid-a --to 2 -o wide", None).await;
    assert!(text.contains("Every rule, as if acid-a-0 led already, and"), "{text}");
}

#[tokio::test]
async fn a_plan_names_the_policy_whose_lag_refuses_and_quotes_patroni_as_it_is() {
    let world = World::new(5, 0)
        .replaying_slowly(&[1])
        .policy("strict", &serde_json::json!({"survivors": {"maxLag": "500"}}));
    let text = shown(&world, "acid-a --to 2", None).await;
    let finding = text.split_once("DENY too-few-healthy-survivors").unwrap().1;
    let finding = finding.split_once("Try: ").unwrap().0;
    assert!(
        finding
            .contains("acid-a-1: WAL not replayed: 600 bytes, more than survivors.maxLag allows"),
        "{text}"
    );
    assert!(finding.contains("scalepolicy/strict: survivors.maxLag: 500 bytes"), "{text}");
    let seen = looked_at(&world, "acid-a --to 2 -o wide", "too-few-healthy-survivors").await;
    assert!(
        seen.contains("configmap/acid-a-config: maximum_lag_on_failover: 1000000 bytes"),
        "{seen}"
    );
}
