//! Causes case by case: none in a healthy cluster, and the one broken thing first.

use pgscale_guard::Seen;
use pgscale_guard::facts::{Live, Member, Waiting};
use pgscale_guard::patroni::{Report, Role, State};

use super::*;
use crate::services::Services;
use crate::testing::{facts, stalled, with};
use crate::watch::{Goal, missing};

mod leader;

fn snapshot(facts: Facts) -> Snapshot {
    let addresses = |ordinals: &[i64]| {
        Seen::Known(ordinals.iter().map(|ordinal| format!("10.244.0.{}", 10 + ordinal)).collect())
    };
    let services = Services { leader: addresses(&[0]), replicas: addresses(&[1, 2]) };
    Snapshot { facts: facts.into(), services }
}

fn event(kind: &str, name: &str, reason: &str, message: &str) -> Event {
    Event {
        kind: kind.into(),
        name: name.into(),
        reason: reason.into(),
        message: message.into(),
        last: Some(crate::testing::now()),
    }
}

fn found(snapshot: &Snapshot, events: Vec<Event>) -> Vec<Cause> {
    let goal = Goal::of_cluster(&snapshot.facts.change.new);
    let missing = missing(&goal, snapshot);
    let events = Seen::Known(events);
    let reach = Reach { kubectl: vec!["--context=c".to_owned()], pgscale: Vec::new() };
    let nodes = [Evidence::new(ObjectRef::new(Kind::Node, "node-9"), "takes it", "yes")];
    causes(&Clues { snapshot, missing: &missing, events: &events, nodes: &nodes, reach: &reach })
}

/// Returns the first cause: problem, evidence and the next command.
fn first(facts: Facts, events: Vec<Event>) -> String {
    let causes = found(&snapshot(facts), events);
    let cause = causes.first().expect("a cause");
    let evidence: Vec<String> = cause.evidence.iter().map(ToString::to_string).collect();
    let last_resort = cause
        .last_resort
        .iter()
        .map(|it| format!(" | {}: {}", it.why.as_deref().unwrap_or_default(), it.command));
    let last_resort: Vec<String> = last_resort.collect();
    let Remedy { note: None, commands } = &cause.next else { panic!("{:?}", cause.next) };
    let [Suggested { why: None, command }] = commands.as_slice() else { panic!("{commands:?}") };
    format!("{} | {} | {command}{}", cause.what, evidence.join("; "), last_resort.concat())
}

fn healthy() -> Facts {
    with(
        with(with(facts(3, 3, 0), 0, |it| it.pod.ready = true), 1, |it| it.pod.ready = true),
        2,
        |it| it.pod.ready = true,
    )
}

fn pod(change: impl FnOnce(&mut Member)) -> Facts {
    with(healthy(), 2, change)
}

/// Returns container `postgres` waiting for this reason.
fn postgres(reason: &str, message: Option<&str>) -> Waiting {
    Waiting {
        container: Some("postgres".into()),
        reason: Some(reason.into()),
        message: message.map(str::to_owned),
        exit_code: None,
    }
}

/// Returns facts in which member 2 does not run for this reason.
fn idle(phase: &str, node: Option<&str>, waiting: impl Into<Waiting>) -> Facts {
    pod(|member| {
        member.pod.phase = phase.into();
        member.pod.containers_running = false;
        member.pod.node = node.map(str::to_owned);
        member.pod.waiting = Some(waiting.into());
        member.pod.restarts = 12;
        member.pod.ip = None;
        member.live = Live::Silent("its pod does not run".into());
        member.report = Seen::Absent;
    })
}

/// Returns facts in which the first run of member 2's container has ended without an error.
fn first_run_ended() -> Facts {
    let ended = Waiting { exit_code: Some(0), ..postgres("Completed", None) };
    with(idle("Running", Some("node-2"), ended), 2, |member| member.pod.restarts = 0)
}

fn asking_for(replicas: i64, change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = healthy();
    if let Seen::Known(set) = &mut facts.stateful_set {
        set.replicas = replicas;
    }
    change(&mut facts);
    facts
}

fn operator(facts: &mut Facts, change: impl FnOnce(&mut pgscale_guard::operator::Operator)) {
    if let Seen::Known(operator) = &mut facts.operator {
        change(operator);
    }
}

fn answering(change: impl FnOnce(&mut pgscale_guard::patroni::Answer)) -> Facts {
    pod(|member| {
        if let Live::Answered(answer) = &mut member.live {
            change(answer);
        }
    })
}

/// Returns facts in which only the members up to `count` have a pod.
fn without_pods_from(count: i64, mut facts: Facts) -> Facts {
    if let Seen::Known(members) = &mut facts.members {
        members.retain(|member| member.ordinal < count);
    }
    facts
}

fn leaderless(paused: bool) -> Facts {
    let mut facts = healthy();
    if let Seen::Known(lock) = &mut facts.leader {
        lock.holder = None;
    }
    if let Seen::Known(configuration) = &mut facts.configuration {
        configuration.paused = paused;
    }
    facts
}

#[test]
fn healthy_cluster_has_no_cause() {
    assert_eq!(found(&snapshot(healthy()), Vec::new()), []);
    // Old warnings mean nothing where nothing is missing.
    let old = event("StatefulSet", "acid-a", "FailedCreate", "exceeded quota: pods");
    assert_eq!(found(&snapshot(healthy()), vec![old]), []);
}

#[test]
fn converged_cluster_that_nothing_would_mend_has_a_cause() {
    let mut paused = healthy();
    if let Seen::Known(configuration) = &mut paused.configuration {
        configuration.paused = true;
    }
    let mut down = healthy();
    operator(&mut down, |operator| operator.available = Some(false));
    let mut absent = healthy();
    absent.operator = Seen::Absent;
    let mut failed = healthy();
    failed.change.new.status = Some("SyncFailed".to_owned());
    let mut unseen = healthy();
    unseen.operator = Seen::Unreadable("may not list deployments".to_owned());
    for (facts, what) in [
        (paused, Some("Patroni is paused: it neither starts nor rebuilds a member")),
        (down, Some("the operator is down: changes are not carried out")),
        (absent, Some("no operator watches this cluster: changes are not carried out")),
        (failed, Some("the operator gave up: SyncFailed")),
        (unseen, None),
        (healthy(), None),
    ] {
        let found = found(&snapshot(facts), Vec::new());
        let first = found.first().map(|cause| cause.what.as_str());
        match what {
            Some(what) => assert!(first.is_some_and(|it| it.starts_with(what)), "{first:?}"),
            None => assert_eq!(first, None),
        }
    }
}

#[test]
fn broken_part_is_the_first_cause() {
    let quota = "create Pod acid-a-2 in StatefulSet acid-a failed error: pods \"acid-a-2\" is forbidden: \
                 exceeded quota: team, requested: pods=1, used: pods=10, limited: pods=10";
    let cases: Vec<(&str, Facts, Vec<Event>)> = vec![
        ("no leader", leaderless(false), vec![]),
        ("no leader, paused", leaderless(true), vec![]),
        (
            "lock unreadable",
            {
                let mut facts = healthy();
                facts.leader = Seen::Unreadable("may not get configmaps".into());
                facts
            },
            vec![],
        ),
        ("two leaders labelled", pod(|it| it.pod.role = Some("master".into())), vec![]),
        (
            "pods unreadable",
            {
                let mut facts = healthy();
                facts.members = Seen::Unreadable("may not list pods".into());
                facts
            },
            vec![],
        ),
        ("being deleted", asking_for(2, |facts| facts.change.new.terminating = true), vec![]),
        ("operator absent", asking_for(2, |facts| facts.operator = Seen::Absent), vec![]),
        (
            "operator down",
            asking_for(2, |facts| operator(facts, |it| it.available = Some(false))),
            vec![],
        ),
        (
            "operator failed",
            asking_for(2, |facts| facts.change.new.status = Some("SyncFailed".into())),
            vec![event("postgresql", "acid-a", "Sync", "could not sync: no such secret")],
        ),
        (
            "operator has old settings",
            asking_for(2, |facts| operator(facts, |it| it.stale_settings = Some(true))),
            vec![],
        ),
        ("operator slow", asking_for(2, |_| ()), vec![]),
        (
            "operator limits",
            asking_for(3, |facts| {
                facts.change.new.instances = Some(9);
                operator(facts, |it| it.settings.max_instances = 3);
            }),
            vec![],
        ),
        (
            "controller behind",
            {
                let mut facts = healthy();
                if let Seen::Known(set) = &mut facts.stateful_set {
                    set.generation = 5;
                }
                facts
            },
            vec![],
        ),
        (
            "quota",
            without_pods_from(2, healthy()),
            vec![event("StatefulSet", "acid-a", "FailedCreate", quota)],
        ),
        (
            "limit range",
            without_pods_from(2, healthy()),
            vec![event(
                "StatefulSet",
                "acid-a",
                "FailedCreate",
                "maximum memory usage per Container is 1Gi, but limit is 2Gi",
            )],
        ),
        (
            "pod webhook",
            without_pods_from(2, healthy()),
            vec![event(
                "StatefulSet",
                "acid-a",
                "FailedCreate",
                "admission webhook \"policy.io\" denied the request: no",
            )],
        ),
        ("no pod, no word", without_pods_from(2, healthy()), vec![]),
        (
            "waits for its turn",
            without_pods_from(2, with(healthy(), 1, |it| it.pod.ready = false)),
            vec![],
        ),
        ("node", pod(|it| it.pod.node_ready = Some(false)), vec![]),
        (
            "unschedulable",
            idle("Pending", None, "0/3 nodes are available: 3 Insufficient cpu."),
            vec![],
        ),
        (
            "no volume",
            {
                let mut facts = idle("Pending", None, "pod has unbound immediate claims");
                facts.claims = Seen::Known(vec![pgscale_guard::facts::Claim {
                    name: "pgdata-acid-a-2".into(),
                    ordinal: 2,
                    ..pgscale_guard::facts::Claim::default()
                }]);
                facts
            },
            vec![event(
                "PersistentVolumeClaim",
                "pgdata-acid-a-2",
                "ProvisioningFailed",
                "storageclass \"fast\" not found",
            )],
        ),
        (
            "image",
            idle("Pending", Some("node-2"), postgres("ImagePullBackOff", Some("no such tag"))),
            vec![],
        ),
        (
            "crash",
            idle("Running", Some("node-2"), postgres("CrashLoopBackOff", Some("back-off 5m"))),
            vec![],
        ),
        ("first run ended", first_run_ended(), vec![]),
        (
            "mount",
            idle("Pending", Some("node-2"), postgres("ContainerCreating", None)),
            vec![event("Pod", "acid-a-2", "FailedAttachVolume", "Multi-Attach error")],
        ),
        ("ending", pod(|it| it.pod.terminating = true), vec![]),
        (
            "base backup",
            pod(|it| {
                it.live = Live::NotAsked;
                it.report = Seen::Known(Report {
                    state: State::CreatingReplica,
                    role: Role::Uninitialized,
                    ..it.report.known().unwrap().clone()
                });
            }),
            vec![],
        ),
        ("database down", answering(|it| it.state = State::Failed), vec![]),
        ("timeline", answering(|it| it.timeline = Some(2)), vec![]),
        ("no receiver", answering(|it| it.replication_state = None), vec![]),
        ("stalled receiver", stalled(healthy(), 2), vec![]),
        ("replay paused", answering(|it| it.replay_paused = true), vec![]),
        ("wrong role", answering(|it| it.role = Role::Primary), vec![]),
        ("silent", pod(|it| it.live = Live::Silent("timed out".into())), vec![]),
    ];
    let text: Vec<String> = cases
        .into_iter()
        .map(|(name, facts, events)| format!("{name}: {}", first(facts, events)))
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    no leader: no member leads: nothing can be written | configmap/acid-a-leader: leader: none; pod/acid-a-0: health: claims to lead without holding the leader lock; pod/acid-a-1: health: unknown: the leader did not report its WAL position; pod/acid-a-2: health: unknown: the leader did not report its WAL position | kubectl exec acid-a-0 -c postgres -n db --context=c -- patronictl list
    no leader, paused: no member leads, and Patroni is paused: no member takes over | configmap/acid-a-leader: leader: none; configmap/acid-a-config: pause: true | kubectl exec acid-a-0 -c postgres -n db --context=c -- patronictl resume --wait acid-a
    lock unreadable: the leader is not known: its lock could not be read | endpoints/acid-a: could not be read: may not get configmaps | kubectl exec acid-a-0 -c postgres -n db --context=c -- patronictl list
    two leaders labelled: 2 pods carry the leader's label | configmap/acid-a-leader: leader: acid-a-0; pod/acid-a-0: role label: leader; pod/acid-a-2: role label: leader | kubectl exec acid-a-0 -c postgres -n db --context=c -- patronictl list
    pods unreadable: the pods could not be listed, so most causes cannot be found | pods: could not be read: may not list pods | kubectl auth can-i list pods -n db --context=c
    being deleted: the cluster is being deleted | postgresql/acid-a: metadata.deletionTimestamp: set | kubectl get postgresql acid-a -o yaml -n db --context=c
    operator absent: no operator watches this cluster: changes are not carried out | statefulset/acid-a: spec.replicas: 2; wanted: 3 | kubectl get deployments -A --context=c | grep operator
    operator down: the operator is down: changes are not carried out | deployment default/postgres-operator: status.availableReplicas: 0; statefulset/acid-a: spec.replicas: 2; wanted: 3 | kubectl describe deployment postgres-operator -n default --context=c
    operator failed: the operator gave up: SyncFailed | postgresql/acid-a: status.PostgresClusterStatus: SyncFailed; postgresql/acid-a: event Sync 0s ago: could not sync: no such secret; statefulset/acid-a: spec.replicas: 2; wanted: 3 | kubectl logs --since=10m deployment/postgres-operator -n default --context=c
    operator has old settings: the operator still runs with settings older than those in place | configmap default/postgres-operator: edited: after the operator's pod started; statefulset/acid-a: spec.replicas: 2; wanted: 3 | kubectl logs --since=10m deployment/postgres-operator -n default --context=c
    operator slow: the operator has not acted yet | deployment default/postgres-operator: available: yes; statefulset/acid-a: spec.replicas: 2; wanted: 3 | kubectl logs --since=10m deployment/postgres-operator -n default --context=c
    operator limits: 9 declared, and the operator runs 3 | configmap default/postgres-operator: max_instances: 3 | kubectl pgscale set acid-a 3 -n db --context=c
    controller behind: the StatefulSet controller has not seen the change yet | statefulset/acid-a: metadata.generation: 5; statefulset/acid-a: status.observedGeneration: 4 | kubectl describe statefulset acid-a -n db --context=c
    quota: no quota is left for acid-a-2 | statefulset/acid-a: event FailedCreate 0s ago: create Pod acid-a-2 in StatefulSet acid-a failed error: pods "acid-a-2" is forbidden: exceeded quota: team, requested: pods=1, used: pods=10, limited: pods=10 | kubectl describe resourcequota -n db --context=c
    limit range: a LimitRange forbids acid-a-2 | statefulset/acid-a: event FailedCreate 0s ago: maximum memory usage per Container is 1Gi, but limit is 2Gi | kubectl describe limitrange -n db --context=c
    pod webhook: an admission webhook refuses acid-a-2 | statefulset/acid-a: event FailedCreate 0s ago: admission webhook "policy.io" denied the request: no | kubectl describe statefulset acid-a -n db --context=c
    no pod, no word: acid-a-2 has no pod yet | statefulset/acid-a: spec.replicas: 3 | kubectl describe statefulset acid-a -n db --context=c
    waits for its turn: acid-a-2 is started only once acid-a-1 is Ready | pod/acid-a-1: condition Ready: no | kubectl describe pod acid-a-1 -n db --context=c
    node: the node of acid-a-2 is not Ready | node/node-2: condition Ready: no | kubectl describe node node-2 --context=c
    unschedulable: acid-a-2 cannot be scheduled | pod/acid-a-2: status: 0/3 nodes are available: 3 Insufficient cpu.; node/node-9: takes it: yes | kubectl describe pod acid-a-2 -n db --context=c
    no volume: the volume of acid-a-2 cannot be made | pod/acid-a-2: status: pod has unbound immediate claims; persistentvolumeclaim/pgdata-acid-a-2: event ProvisioningFailed 0s ago: storageclass "fast" not found | kubectl describe pvc pgdata-acid-a-2 -n db --context=c
    image: the image of acid-a-2 cannot be pulled | pod/acid-a-2: status: container postgres: ImagePullBackOff: no such tag | kubectl describe pod acid-a-2 -n db --context=c
    crash: acid-a-2 crashes over and over (12 restarts) | pod/acid-a-2: status: container postgres: CrashLoopBackOff: back-off 5m | kubectl logs acid-a-2 -c postgres --previous --tail=30 -n db --context=c
    first run ended: acid-a-2 has ended, and was not started again yet | pod/acid-a-2: status: container postgres: Completed, exit code 0 | kubectl logs acid-a-2 -c postgres --tail=30 -n db --context=c
    mount: acid-a-2 cannot be started on its node | pod/acid-a-2: status: container postgres: ContainerCreating; pod/acid-a-2: event FailedAttachVolume 0s ago: Multi-Attach error | kubectl describe pod acid-a-2 -n db --context=c
    ending: acid-a-2 is being deleted and comes back | pod/acid-a-2: metadata.deletionTimestamp: set | kubectl describe pod acid-a-2 -n db --context=c
    base backup: acid-a-2 is being built | pod/acid-a-2: state: being rebuilt (creating replica); pod/acid-a-2: age of its pod: 90m | kubectl logs acid-a-2 -c postgres --tail=30 -n db --context=c
    database down: PostgreSQL of acid-a-2 does not run: failed | http://10.244.0.12:8008/patroni: acid-a-2: state: failed | kubectl logs acid-a-2 -c postgres --tail=30 -n db --context=c
    timeline: acid-a-2 is on timeline 2 and the leader on 1: it has diverged | http://10.244.0.12:8008/patroni: acid-a-2: timeline: 2, and 1 on the leader | kubectl logs acid-a-2 -c postgres --tail=30 -n db --context=c
    no receiver: acid-a-2 replicates from no member | http://10.244.0.12:8008/patroni: acid-a-2: replication_state: none | kubectl exec acid-a-2 -c postgres -n db --context=c -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
    stalled receiver: acid-a-2 does not receive: it lacks 990 B | http://10.244.0.12:8008/patroni: acid-a-2: WAL not received after 1s: 990 bytes | kubectl exec acid-a-2 -c postgres -n db --context=c -- psql -U postgres -xc 'select * from pg_stat_wal_receiver'
    replay paused: the replay of acid-a-2 is paused | http://10.244.0.12:8008/patroni: acid-a-2: replay is paused: true | kubectl exec acid-a-2 -c postgres -n db --context=c -- psql -U postgres -xc 'select pg_wal_replay_resume()'
    wrong role: acid-a-2 claims to lead without holding the leader lock | http://10.244.0.12:8008/patroni: acid-a-2: role: leader, without the leader lock | kubectl exec acid-a-0 -c postgres -n db --context=c -- patronictl list
    silent: acid-a-2 does not answer | http://10.244.0.12:8008/patroni: acid-a-2: does not answer: timed out | kubectl exec acid-a-2 -c postgres -n db --context=c -- curl -sS --max-time 5 localhost:8008/patroni
    "#);
}

#[test]
fn consequence_comes_after_its_cause() {
    let mut both = idle("Pending", None, "0/3 nodes are available");
    if let Seen::Known(configuration) = &mut both.configuration {
        configuration.paused = true;
    }
    let mut snapshot = snapshot(both);
    snapshot.services.leader = Seen::Absent;
    let what: Vec<String> =
        found(&snapshot, Vec::new()).into_iter().map(|cause| cause.what).collect();
    insta::assert_snapshot!(what.join("\n"), @"
    acid-a-2 cannot be scheduled
    service acid-a leads to no member: its clients are not served
    service acid-a-repl does not lead where it should
    Patroni is paused: it neither starts nor rebuilds a member, and no member takes over
    ");
}

#[test]
fn unread_member_states_make_one_cause() {
    let silent = |facts: Facts, ordinals: &[i64]| {
        ordinals.iter().fold(facts, |facts, ordinal| {
            with(facts, *ordinal, |it| it.live = Live::Silent("not permitted".into()))
        })
    };
    let what = |facts: Facts| -> Vec<String> {
        found(&snapshot(facts), Vec::new()).into_iter().map(|cause| cause.what).collect()
    };
    assert_eq!(what(silent(healthy(), &[0, 1, 2])), ["no member could be asked how far it is"]);
    assert_eq!(what(silent(healthy(), &[0])), ["acid-a-0 does not answer"]);
    // A pod that does not run is cause enough.
    let idle = idle("Pending", None, "0/3 nodes are available");
    assert_eq!(
        what(silent(idle, &[0, 1]))[..2],
        ["acid-a-2 cannot be scheduled", "no member could be asked how far it is"]
    );
}

#[test]
fn wrong_services_and_lingering_members_are_causes() {
    let mut elsewhere = snapshot(healthy());
    elsewhere.services.replicas = Seen::Known(["10.244.0.11".to_owned()].into());
    let lines = |snapshot: &Snapshot| -> Vec<String> {
        found(snapshot, Vec::new())
            .into_iter()
            .map(|cause| {
                let Evidence { field, value, .. } = &cause.evidence[0];
                format!("{} ({}: {value})", cause.what, field.as_deref().unwrap())
            })
            .collect()
    };
    assert_eq!(
        lines(&elsewhere),
        [
            "service acid-a-repl does not lead where it should (endpoints: acid-a-1; wanted: acid-a-1, acid-a-2)"
        ]
    );
    let mut shrunk = healthy();
    shrunk.change.new.instances = Some(2);
    if let Seen::Known(set) = &mut shrunk.stateful_set {
        set.replicas = 2;
    }
    assert_eq!(
        lines(&snapshot(shrunk))[0],
        "acid-a-2 is still there (metadata.deletionTimestamp: unset)"
    );
}

#[test]
fn missing_receiver_is_named_before_its_lag() {
    // A member is behind because its receiver has gone: the cause is the receiver.
    let both = answering(|answer| {
        answer.replication_state = None;
        answer.received = Some(10);
        answer.replayed = Some(10);
    });
    assert!(first(both, Vec::new()).starts_with("acid-a-2 replicates from no member"));
}

#[test]
fn forced_deletion_is_never_the_next_step_on_a_node_that_may_run() {
    let ending = |it: &mut Member| {
        it.pod.terminating = true;
        it.pod.node_ready = Some(false);
    };
    insta::assert_snapshot!(first(pod(ending), Vec::new()), @"acid-a-2 is being deleted on a node that is not Ready | pod/acid-a-2: metadata.deletionTimestamp: set; node/node-2: condition Ready: not True, and its kubelet ends no pod | kubectl describe node node-2 --context=c | only once node-2 is sure to be powered off: kubectl delete pod acid-a-2 --force --grace-period=0 -n db --context=c");
    let mut shrunk = pod(ending);
    shrunk.change.new.instances = Some(2);
    if let Seen::Known(set) = &mut shrunk.stateful_set {
        set.replicas = 2;
    }
    insta::assert_snapshot!(first(shrunk, Vec::new()), @"acid-a-2 has not ended yet | pod/acid-a-2: metadata.deletionTimestamp: set; node/node-2: condition Ready: not True, and its kubelet ends no pod | kubectl describe node node-2 --context=c | only once node-2 is sure to be powered off: kubectl delete pod acid-a-2 --force --grace-period=0 -n db --context=c");
}

/// A cluster whose name is too long for the labels of its pods never gets one: nothing else matters.
#[test]
fn name_that_is_too_long_for_labels_comes_first() {
    let long = "a".repeat(64);
    let mut nothing = healthy();
    nothing.members = Seen::Known(Vec::new());
    nothing.leader = Seen::Absent;
    if let Seen::Known(set) = &mut nothing.stateful_set {
        set.revision = Some(long.clone());
    }
    let refused =
        event("StatefulSet", "acid-a", "FailedCreate", "must be no more than 63 characters");
    let causes = found(&snapshot(nothing.clone()), vec![refused]);
    assert_eq!(
        causes[0].what,
        "Kubernetes refuses acid-a-0: the cluster's name is too long for the pods' labels"
    );
    let evidence = format!(
        "statefulset/acid-a: status.updateRevision: {long} (64 characters, 63 are allowed)"
    );
    assert_eq!(causes[0].evidence[0].to_string(), evidence);
    assert!(causes[0].next.to_string().contains("52 characters or fewer"), "{}", causes[0].next);
    if let Seen::Known(set) = &mut nothing.stateful_set {
        set.revision = Some("a".repeat(63));
    }
    assert!(!found(&snapshot(nothing), Vec::new())[0].what.contains("label"));
}
