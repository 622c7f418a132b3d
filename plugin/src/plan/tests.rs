//! Plans made from facts: the content of plans, the refusals, and the printed text of both.

use pgscale_guard::Assessment;
use pgscale_guard::facts::Live;
use pgscale_guard::operator::Settings;
use pgscale_guard::patroni::{PendingFailover, SyncState, Synchronous};
use pgscale_guard::policy::{Limit, Mode, Policies};
use pgscale_guard::rules::after_switchover;
use pgscale_guard::{Facts, Seen};
use serde_json::json;

use super::*;
use crate::document::ScalePlan;
use crate::testing::{facts, policies, stalled, with};
use crate::view::plan::render;

mod switchover;

fn plan(facts: &Facts) -> Plan {
    Plan::of(facts, &Policies::default())
}

fn text(plan: &Plan, width: Option<usize>) -> String {
    let text = render(plan, None, false, width);
    anstream::adapter::strip_str(&text).to_string()
}

fn denials(plan: &Plan) -> Vec<&str> {
    plan.verdict.denials().map(|finding| finding.rule.as_str()).collect()
}

#[test]
fn growth_of_a_healthy_cluster_is_one_write_and_a_wait() {
    insta::assert_snapshot!(text(&plan(&facts(3, 5, 0)), Some(80)), @"
    PLANNED 3 -> 5, allowed
    postgresql db/acid-a: 3 -> 5 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new
    acid-a-4   added    replica   -       new
    Steps:
      1. set numberOfInstances to 5
      2. wait until 5 instances have converged
    PLANNED 3 -> 5, allowed
    ");
}

#[test]
fn a_condemned_leader_is_moved_first() {
    let plan = plan(&facts(5, 3, 4));
    assert_eq!(
        plan.steps,
        [
            Step::Checkpoint("acid-a-4".into()),
            Step::MoveLeader("acid-a-4".into(), "acid-a-0".into()),
            Step::SetCount(3),
            Step::Converge(3),
        ]
    );
    // The rules on a condemned leader judge the cluster as it is after the move.
    assert_eq!((plan.outcome(), denials(&plan)), (Outcome::Ready, vec![]));
    insta::assert_snapshot!(text(&plan, Some(80)), @"
    PLANNED 5 -> 3, allowed
    postgresql db/acid-a: 5 -> 3 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-3   removed   replica   healthy   -
    acid-a-4   removed   leader    healthy   -
    Leader: acid-a-4 -> acid-a-0 (acid-a-4 leads and is removed; acid-a-0 is the
      best caught-up member that is kept)
    Steps:
      1. CHECKPOINT on acid-a-4
      2. switch over from acid-a-4 to acid-a-0, and see it done
      3. set numberOfInstances to 3
      4. wait until 3 instances have converged
    PLANNED 5 -> 3, allowed
    ");
}

#[test]
fn candidate_is_caught_up_and_synchronous_where_possible() {
    let behind = stalled(facts(5, 3, 4), 0);
    assert_eq!(plan(&behind).leader_move.unwrap().to, "acid-a-1");

    let mut synchronous = facts(5, 3, 4);
    if let Seen::Known(configuration) = &mut synchronous.configuration {
        configuration.synchronous = Synchronous::On;
    }
    synchronous.sync = Seen::Known(SyncState {
        leader: Some("acid-a-4".into()),
        standbys: vec!["acid-a-2".into()],
    });
    let leader_move = plan(&synchronous).leader_move.unwrap();
    assert_eq!(leader_move.to, "acid-a-2");
    assert!(leader_move.why.contains("synchronous standby"), "{}", leader_move.why);

    synchronous.sync = Seen::Known(SyncState {
        leader: Some("acid-a-4".into()),
        standbys: vec!["acid-a-3".into()],
    });
    let roles: Vec<&str> = plan(&synchronous).leaving.iter().map(|it| it.role.word()).collect();
    assert_eq!(roles, ["sync standby", "leader"]);
}

#[test]
fn plan_without_a_candidate_is_refused_with_the_nearest_count() {
    let facts = stalled(stalled(facts(5, 2, 4), 0), 1);
    let plan = plan(&facts);
    assert_eq!((plan.outcome(), plan.nearest.short), (Outcome::Refused, Some(4)));
    assert!(denials(&plan).contains(&"leader-condemned"), "{:?}", denials(&plan));
    insta::assert_snapshot!(text(&plan, Some(80)), @"
    REFUSED 5 -> 2: leader-condemned, too-few-healthy-survivors
    postgresql db/acid-a: 5 -> 2 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-2   removed   replica   healthy   -
    acid-a-3   removed   replica   healthy   -
    acid-a-4   removed   leader    healthy   -
    Not counted on: acid-a-0: 990 bytes behind the leader after a second
    Not counted on: acid-a-1: 990 bytes behind the leader after a second
      DENY leader-condemned: acid-a-4 is the leader, and its pod would be deleted:
           acid-a-0 to acid-a-1 are kept
           configmap/acid-a-leader: leader: acid-a-4
           http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 990
             bytes
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990
             bytes
           Try: not 2, but 4; this moves the leader to acid-a-2 first:
               kubectl pgscale down acid-a --to 4 -n db
      DENY too-few-healthy-survivors: acid-a-2, acid-a-3, acid-a-4 would be removed,
           and of the kept members none can be counted on; at least 2 must
           http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 990
             bytes
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990
             bytes
           Try: not 2, but 4; this moves the leader to acid-a-2 first:
               kubectl pgscale down acid-a --to 4 -n db
      WARN survivor-unhealthy: of the kept members, acid-a-0, acid-a-1 cannot be
           counted on
           http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 990
             bytes
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990
             bytes
           Try: mend what this names:
               kubectl pgscale status acid-a -n db
    Nearest count that would be allowed now: 4
        kubectl pgscale down acid-a --to 4 -n db
    REFUSED 5 -> 2: leader-condemned, too-few-healthy-survivors
    ");
    insta::assert_snapshot!(text(&plan, Some(160)), @"
    REFUSED 5 -> 2: leader-condemned, too-few-healthy-survivors
    postgresql db/acid-a: 5 -> 2 instances
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-2   removed   replica   healthy   -
    acid-a-3   removed   replica   healthy   -
    acid-a-4   removed   leader    healthy   -
    Not counted on: acid-a-0: 990 bytes behind the leader after a second
    Not counted on: acid-a-1: 990 bytes behind the leader after a second
      DENY leader-condemned: acid-a-4 is the leader, and its pod would be deleted: acid-a-0 to acid-a-1 are kept
           configmap/acid-a-leader: leader: acid-a-4
           http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 990 bytes
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990 bytes
           Try: not 2, but 4; this moves the leader to acid-a-2 first:
               kubectl pgscale down acid-a --to 4 -n db
      DENY too-few-healthy-survivors: acid-a-2, acid-a-3, acid-a-4 would be removed, and of the kept members none can be counted on; at least 2 must
           http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 990 bytes
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990 bytes
           Try: not 2, but 4; this moves the leader to acid-a-2 first:
               kubectl pgscale down acid-a --to 4 -n db
      WARN survivor-unhealthy: of the kept members, acid-a-0, acid-a-1 cannot be counted on
           http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 990 bytes
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990 bytes
           Try: mend what this names:
               kubectl pgscale status acid-a -n db
    Nearest count that would be allowed now: 4
        kubectl pgscale down acid-a --to 4 -n db
    REFUSED 5 -> 2: leader-condemned, too-few-healthy-survivors
    ");
}

fn reach(context: &str) -> Reach {
    Reach { kubectl: vec![format!("--context={context}")], pgscale: Vec::new() }
}

#[test]
fn commands_of_findings_carry_the_connection_flags() {
    let plan = plan(&stalled(stalled(facts(5, 2, 4), 0), 1)).reached_by(&reach("my cluster"));
    let remedies = plan
        .verdict
        .findings
        .iter()
        .filter_map(|finding| finding.remedy.as_ref().map(ToString::to_string));
    assert_eq!(
        remedies.collect::<Vec<_>>(),
        [
            "not 2, but 4; this moves the leader to acid-a-2 first:\n  kubectl pgscale down acid-a --to 4 -n db \
             --context='my cluster'",
            "not 2, but 4; this moves the leader to acid-a-2 first:\n  kubectl pgscale down acid-a --to 4 -n db \
             --context='my cluster'",
            "mend what this names:\n  kubectl pgscale status acid-a -n db --context='my cluster'"
        ]
    );
}

#[test]
fn members_that_cannot_be_asked_are_never_taken_as_fine() {
    let mut facts = facts(5, 3, 4);
    if let Seen::Known(members) = &mut facts.members {
        for member in members {
            member.live = Live::Silent("pods/portforward is not permitted".into());
        }
    }
    let plan = plan(&facts);
    assert_eq!((plan.outcome(), plan.leader_move.clone()), (Outcome::Refused, None));
    assert_eq!(nobody_answered(&facts), Some("pods/portforward is not permitted"));
}

#[test]
fn unhealthy_kept_member_is_named_and_not_waited_for() {
    let plan = plan(&stalled(facts(4, 3, 0), 1));
    assert_eq!(plan.unfit.len(), 1);
    assert_eq!(plan.unfit[0].pod, "acid-a-1");
}

#[test]
fn the_operators_limits_show_in_the_heading() {
    let mut facts = facts(3, 9, 0);
    if let Seen::Known(operator) = &mut facts.operator {
        operator.settings = Settings { max_instances: 5, ..Settings::default() };
    }
    let plan = plan(&facts);
    assert_eq!((plan.to, plan.count, denials(&plan)), (5, 9, vec!["operator-limits"]));
    assert_eq!(plan.nearest.short, Some(5));
    assert!(text(&plan, None).contains("declared 3 -> 9"));
}

#[test]
fn plan_for_a_huge_count_stays_readable() {
    let most = i64::from(i32::MAX);
    let plan = plan(&facts(3, most, 0));
    assert_eq!((plan.coming.len(), plan.coming_besides), (100, most - 103));
    assert_eq!(plan.coming[0].pod, "acid-a-3");
    assert!(text(&plan, None).contains("\n... and 2147483544 more\n"), "{}", text(&plan, None));
    let document = serde_json::to_value(ScalePlan::of(&plan, None)).unwrap();
    assert_eq!(document["comingBesides"], json!(most - 103));
}

#[test]
fn alternative_keeps_to_the_policy_that_refuses() {
    let min = Limit { value: 3, source: ObjectRef::policy("production"), mode: Mode::Enforce };
    let policies = Policies { min: vec![min], ..Policies::default() };
    let plan = Plan::of(&facts(5, 2, 0), &policies);
    assert_eq!((denials(&plan), plan.nearest.short), (vec!["below-min"], Some(3)));
}

#[test]
fn requested_count_that_is_present_is_nothing_to_do() {
    let plan = plan(&facts(3, 3, 0));
    assert_eq!((plan.outcome(), plan.steps.clone()), (Outcome::Nothing, vec![Step::Converge(3)]));
    assert!(text(&plan, None).contains("NOTHING TO DO"));
}

#[test]
fn other_writers_are_named_in_the_plan() {
    let mut facts = facts(3, 5, 0);
    if let Some(old) = &mut facts.change.old {
        let writer = |name: &str, how: &str| (name.to_owned(), how.to_owned(), None);
        old.count_managers = vec![
            writer("kubectl-client-side-apply", "Update"),
            writer("argocd-controller", "Update"),
            writer("our-reconciler", "Apply"),
            writer(FIELD_MANAGER, "Update"),
        ];
    }
    let plan = plan(&facts);
    assert_eq!(plan.other_writers, ["argocd-controller", "our-reconciler"]);
    assert!(text(&plan, None).contains("may undo the change"));
}

#[test]
fn the_document_is_versioned_and_whole() {
    let plan = plan(&facts(5, 3, 4));
    let mut document = serde_json::to_value(ScalePlan::of(&plan, None)).unwrap();
    // The texts of the rules have a test of their own (`plan -o json`).
    let rules = document["rules"].as_array_mut().unwrap();
    assert_eq!(rules.len(), pgscale_guard::rules::RULES.len());
    rules.truncate(2);
    insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap(), @r#"
    {
      "alternative": null,
      "apiVersion": "pgscale.dev/v1alpha1",
      "asked": 3,
      "coming": [],
      "declared": 5,
      "findings": [],
      "from": 5,
      "hash": "52e0950a6ec5e025",
      "kind": "ScalePlan",
      "leader": "acid-a-4",
      "leaderMove": {
        "from": "acid-a-4",
        "to": "acid-a-0",
        "why": "acid-a-4 leads and is removed; acid-a-0 is the best caught-up member that is kept"
      },
      "leaving": [
        {
          "claim": null,
          "pod": "acid-a-3",
          "role": "replica",
          "state": "healthy"
        },
        {
          "claim": null,
          "pod": "acid-a-4",
          "role": "leader",
          "state": "healthy"
        }
      ],
      "metadata": {
        "name": "acid-a",
        "namespace": "db",
        "resourceVersion": "7",
        "uid": "u1"
      },
      "nearestAllowed": [],
      "next": {
        "commands": [
          {
            "argv": [
              "kubectl",
              "pgscale",
              "switchover",
              "acid-a",
              "--for",
              "3",
              "-n",
              "db"
            ]
          }
        ]
      },
      "otherWriters": [],
      "outcome": "Ready",
      "plainWriteRefusedBy": [
        "leader-condemned"
      ],
      "rules": [
        {
          "lookedAt": [
            {
              "field": "numberOfInstances",
              "object": {
                "kind": "postgresql",
                "name": "acid-a"
              },
              "value": "5 -> 3"
            },
            {
              "field": "instances.min",
              "object": {
                "kind": "scalepolicy"
              },
              "value": "set by none"
            },
            {
              "field": "instances.min",
              "object": {
                "kind": "built-in"
              },
              "value": "1"
            },
            {
              "field": "min_instances",
              "object": {
                "kind": "configmap",
                "name": "postgres-operator",
                "namespace": "default"
              },
              "value": "-1"
            },
            {
              "field": "max_instances",
              "object": {
                "kind": "configmap",
                "name": "postgres-operator",
                "namespace": "default"
              },
              "value": "-1"
            }
          ],
          "rule": "below-min",
          "verdict": "Pass"
        },
        {
          "lookedAt": [
            {
              "field": "numberOfInstances",
              "object": {
                "kind": "postgresql",
                "name": "acid-a"
              },
              "value": "5 -> 3"
            },
            {
              "field": "instances.max",
              "object": {
                "kind": "scalepolicy"
              },
              "value": "set by none"
            },
            {
              "field": "min_instances",
              "object": {
                "kind": "configmap",
                "name": "postgres-operator",
                "namespace": "default"
              },
              "value": "-1"
            },
            {
              "field": "max_instances",
              "object": {
                "kind": "configmap",
                "name": "postgres-operator",
                "namespace": "default"
              },
              "value": "-1"
            }
          ],
          "rule": "above-max",
          "verdict": "Pass"
        }
      ],
      "running": 5,
      "steps": [
        {
          "action": "Checkpoint",
          "member": "acid-a-4"
        },
        {
          "action": "MoveLeader",
          "from": "acid-a-4",
          "to": "acid-a-0"
        },
        {
          "action": "SetCount",
          "instances": 3
        },
        {
          "action": "Converge",
          "instances": 3
        }
      ],
      "to": 3,
      "unfit": {}
    }
    "#);
    assert_eq!(document["apiVersion"], json!("pgscale.dev/v1alpha1"));
}

#[test]
fn plan_keeps_a_leader_that_stays_or_moves() {
    let none = Policies::default();
    let lost = (0..3).fold(facts(5, 3, 4), stalled);
    for (facts, keeps) in [(facts(5, 3, 0), true), (facts(5, 3, 4), true), (lost, false)] {
        assert_eq!(Plan::of(&facts, &none).keeps_leader(), keeps);
    }
}
