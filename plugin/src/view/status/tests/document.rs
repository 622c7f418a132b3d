//! Tests of the document that programs read of one cluster.

use super::*;

#[test]
fn the_document_is_versioned_and_whole() {
    let troubled = troubled();
    let document = serde_json::to_string_pretty(&ScaleStatus::of(&troubled)).unwrap();
    insta::assert_snapshot!(document, @r#"
    {
      "apiVersion": "pgscale.dev/v1alpha1",
      "kind": "ScaleStatus",
      "metadata": {
        "namespace": "db",
        "name": "acid-a",
        "uid": "u1",
        "resourceVersion": "7"
      },
      "time": "2026-11-24T10:00:00Z",
      "verdict": "DEGRADED",
      "reasons": [
        "acid-a-2 cannot be scheduled",
        "acid-a-1 does not receive: it lacks 990 B",
        "Patroni is paused: it neither starts nor rebuilds a member, and no member takes over"
      ],
      "warnings": [
        "Patroni is paused, no member takes over"
      ],
      "versions": [
        "15.4"
      ],
      "declaredVersion": "15",
      "dataBytes": 13213121536,
      "healthyMembers": 1,
      "worstLagBytes": 990,
      "pendingRestarts": [],
      "archive": {
        "on": true,
        "failing": false,
        "lastArchived": "2026-11-24T09:59:48Z",
        "lastFailed": null
      },
      "lastLogicalBackup": null,
      "budgets": null,
      "declared": 3,
      "effective": 3,
      "statefulSet": 3,
      "running": 2,
      "converged": false,
      "state": "CountDiffers",
      "missing": [
        "acid-a-1: 990 bytes behind the leader after a second",
        "acid-a-2: Unschedulable"
      ],
      "leader": "acid-a-0",
      "paused": true,
      "members": [
        {
          "name": "acid-a-0",
          "role": "leader",
          "state": "running",
          "health": "healthy",
          "healthy": true,
          "timeline": 1,
          "lagBytes": null,
          "writeLagSeconds": null,
          "flushLagSeconds": null,
          "replayLagSeconds": null,
          "pendingRestart": false,
          "received": 1000,
          "replayed": null,
          "address": "10.244.0.10",
          "node": "node-0",
          "zone": null
        },
        {
          "name": "acid-a-1",
          "role": "sync standby",
          "state": "streaming",
          "health": "990 bytes behind the leader after a second",
          "healthy": false,
          "timeline": 1,
          "lagBytes": 990,
          "writeLagSeconds": 0.0012,
          "flushLagSeconds": 0.04,
          "replayLagSeconds": 75.3,
          "pendingRestart": false,
          "received": 10,
          "replayed": 10,
          "address": "10.244.0.11",
          "node": "node-1",
          "zone": null
        },
        {
          "name": "acid-a-2",
          "role": "replica",
          "state": "Unschedulable",
          "health": "pod is Unschedulable, does not answer (its pod is Pending)",
          "healthy": false,
          "timeline": null,
          "lagBytes": null,
          "writeLagSeconds": 0.0012,
          "flushLagSeconds": 0.04,
          "replayLagSeconds": 0.26,
          "pendingRestart": false,
          "received": null,
          "replayed": null,
          "address": "10.244.0.12",
          "node": null,
          "zone": null
        }
      ],
      "services": {
        "acid-a": [
          "acid-a-0"
        ],
        "acid-a-repl": [
          "acid-a-1",
          "acid-a-2"
        ]
      },
      "operator": "default/postgres-operator",
      "operatorAvailable": true,
      "operatorStatus": "Running",
      "slots": [
        {
          "name": "acid_a_1",
          "member": "acid-a-1",
          "memberHasPod": true,
          "heldBytes": 0,
          "oldestNeeded": 1000
        },
        {
          "name": "acid_a_2",
          "member": "acid-a-2",
          "memberHasPod": true,
          "heldBytes": 100,
          "oldestNeeded": 900
        },
        {
          "name": "acid_a_4",
          "member": "acid-a-4",
          "memberHasPod": false,
          "heldBytes": 990,
          "oldestNeeded": 10
        }
      ],
      "volumes": [
        {
          "claim": "pgdata-acid-a-0",
          "member": "acid-a-0",
          "inUse": true,
          "capacityBytes": 42949672960,
          "created": "2026-08-22T10:00:00Z"
        },
        {
          "claim": "pgdata-acid-a-1",
          "member": "acid-a-1",
          "inUse": true,
          "capacityBytes": 42949672960,
          "created": "2026-08-22T10:00:00Z"
        },
        {
          "claim": "pgdata-acid-a-2",
          "member": "acid-a-2",
          "inUse": true,
          "capacityBytes": 42949672960,
          "created": "2026-08-22T10:00:00Z"
        },
        {
          "claim": "pgdata-acid-a-4",
          "member": "acid-a-4",
          "inUse": false,
          "capacityBytes": 42949672960,
          "created": "2026-08-22T10:00:00Z"
        }
      ],
      "policy": {
        "bounds": [
          {
            "what": "min",
            "value": "3",
            "source": "scalepolicy/production",
            "mode": "Enforce"
          },
          {
            "what": "min",
            "value": "5",
            "source": "scalepolicy/trial",
            "mode": "Warn"
          },
          {
            "what": "max",
            "value": "7",
            "source": "scalepolicy/production",
            "mode": "Enforce"
          }
        ],
        "more": 4,
        "fewer": 0,
        "zeroAllowed": false,
        "unreadable": null,
        "operatorLimitsUnreadable": null
      },
      "wouldSay": [
        {
          "to": 2,
          "by": "Command",
          "allowed": false,
          "rules": [
            "below-min"
          ],
          "leaderMovesTo": null,
          "message": "2 instances asked for, 3 is the minimum"
        },
        {
          "to": 4,
          "by": "Command",
          "allowed": true,
          "rules": [
            "paused",
            "rebuild-in-progress"
          ],
          "leaderMovesTo": null,
          "message": "Patroni is paused: a new member does not start before it is resumed"
        }
      ],
      "why": [
        {
          "what": "acid-a-2 cannot be scheduled",
          "evidence": [
            {
              "object": {
                "kind": "pod",
                "name": "acid-a-2"
              },
              "field": "status",
              "value": "Unschedulable"
            }
          ],
          "next": {
            "commands": [
              {
                "argv": [
                  "kubectl",
                  "describe",
                  "pod",
                  "acid-a-2",
                  "-n",
                  "db"
                ]
              }
            ]
          }
        },
        {
          "what": "acid-a-1 does not receive: it lacks 990 B",
          "evidence": [
            {
              "object": {
                "kind": "member",
                "name": "acid-a-1",
                "address": "http://10.244.0.11:8008/patroni"
              },
              "field": "WAL not received after 1s",
              "value": "990 bytes"
            }
          ],
          "next": {
            "commands": [
              {
                "argv": [
                  "kubectl",
                  "exec",
                  "acid-a-1",
                  "-c",
                  "postgres",
                  "-n",
                  "db",
                  "--",
                  "psql",
                  "-U",
                  "postgres",
                  "-xc",
                  "select * from pg_stat_wal_receiver"
                ]
              }
            ]
          }
        },
        {
          "what": "Patroni is paused: it neither starts nor rebuilds a member, and no member takes over",
          "evidence": [
            {
              "object": {
                "kind": "configmap",
                "name": "acid-a-config"
              },
              "field": "pause",
              "value": "true"
            }
          ],
          "next": {
            "commands": [
              {
                "argv": [
                  "kubectl",
                  "exec",
                  "acid-a-0",
                  "-c",
                  "postgres",
                  "-n",
                  "db",
                  "--",
                  "patronictl",
                  "resume",
                  "--wait",
                  "acid-a"
                ]
              }
            ]
          },
          "sure": "the pause is not needed any more"
        }
      ]
    }
    "#);
}
