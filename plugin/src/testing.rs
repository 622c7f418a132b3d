//! Facts for pure tests, and a cluster in memory for the rest: an API server and members that exist
//! only here.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::capacity::Template;
use pgscale_guard::facts::{Capacity, Facts, Live, Member, Pod, StatefulSet};
use pgscale_guard::operator::{Operator, Settings};
use pgscale_guard::patroni::{Answer, Configuration, LeaderLock, Report};
use pgscale_guard::policy::ScalePolicy;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::{Change, Policies, Seen};
use serde_json::{Value, json};

mod growth;
mod with_resources;
mod world;

pub(crate) use growth::Stage;
pub(crate) use world::{HANGS, Mishap, World, give, run};

/// Returns the time at which the facts of pure tests were read.
pub(crate) fn now() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

/// Returns a healthy cluster of `from` members, led by `leader`, that is to become `to`.
pub(crate) fn facts(from: i64, to: i64, leader: i64) -> Facts {
    let old = Postgresql::of(&object(from)).unwrap();
    let facts = Facts {
        now: now(),
        change: Change::of_count(old, to),
        operator_before: None,
        operator: Seen::Known(Operator {
            deployment: pgscale_guard::object_ref::ObjectRef::new(
                pgscale_guard::object_ref::Kind::Deployment,
                "postgres-operator",
            )
            .in_namespace("default"),
            account: "default/postgres-operator".parse().unwrap(),
            major: Some(1),
            source: pgscale_guard::object_ref::ObjectRef::new(
                pgscale_guard::object_ref::Kind::ConfigMap,
                "postgres-operator",
            )
            .in_namespace("default"),
            settings: Settings::default(),
            available: Some(true),
            stale_settings: Some(false),
            watched_namespace: None,
        }),
        stateful_set: Seen::Known(StatefulSet {
            name: "db/acid-a".into(),
            replicas: from,
            generation: 4,
            observed_generation: 4,
            ..StatefulSet::default()
        }),
        members: Seen::Known((0..from).map(|ordinal| member(ordinal, ordinal == leader)).collect()),
        leader: Seen::Known(LeaderLock {
            source: pgscale_guard::object_ref::ObjectRef::new(
                pgscale_guard::object_ref::Kind::ConfigMap,
                "acid-a-leader",
            ),
            holder: Some(format!("acid-a-{leader}")),
            renewed: Some(now()),
            ttl: 30,
            transitions: Some(0),
            optime: Some(1000),
        }),
        configuration: Seen::Known(Configuration {
            maximum_lag_on_failover: 33_554_432,
            ..Configuration::default()
        }),
        failover: Seen::Absent,
        sync: Seen::Absent,
        claims: Seen::Known(Vec::new()),
        last_leader: Seen::Absent,
        initialize: Seen::Known("7401122334455667788".into()),
        capacity: Box::new(Capacity {
            quotas: Some(Seen::Known(Vec::new())),
            limit_ranges: Some(Seen::Known(Vec::new())),
            ..Capacity::default()
        }),
    };
    made_by(facts, &json!({}))
}

/// Returns the `postgresql` object of the test cluster.
pub(crate) fn object(instances: i64) -> Value {
    json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {"namespace": "db", "name": "acid-a", "uid": "u1", "resourceVersion": "7",
            "creationTimestamp": "2026-11-20T10:00:00Z"},
        "spec": {"numberOfInstances": instances, "teamId": "acid", "volume": {"size": "1Gi"},
                 "postgresql": {"version": "15"}},
        "status": {"PostgresClusterStatus": "Running"},
    })
}

/// Returns a healthy member.
pub(crate) fn member(ordinal: i64, leads: bool) -> Member {
    Member {
        name: format!("acid-a-{ordinal}"),
        ordinal,
        pod: Pod {
            phase: "Running".into(),
            ready: true,
            containers_running: true,
            created: Some("2026-11-24T08:30:00Z".parse().unwrap()),
            ip: Some(format!("10.244.0.{}", 10 + ordinal)),
            role: Some(if leads { "master" } else { "replica" }.into()),
            node: Some(format!("node-{ordinal}")),
            node_ready: Some(true),
            ..Pod::default()
        },
        report: Seen::Known(Report::of(&report(leads, 1).to_string()).unwrap()),
        live: Live::Answered(Answer::of(&answer(leads, 1)).unwrap()),
    }
}

/// Returns the annotation of a healthy member.
pub(crate) fn report(leads: bool, timeline: u64) -> Value {
    json!({"state": "running", "role": if leads { "primary" } else { "replica" }, "version": "4.1.4",
        "timeline": timeline, "xlog_location": 1000,
        "replication_state": if leads { None } else { Some("streaming") }})
}

/// Returns the answer of a healthy member.
pub(crate) fn answer(leads: bool, timeline: u64) -> Value {
    json!({"state": "running", "role": if leads { "primary" } else { "replica" },
        "timeline": timeline, "server_version": 150_004,
        "replication_state": if leads { None } else { Some("streaming") },
        "xlog": if leads { json!({"location": 1000}) }
                else { json!({"received_location": 1000, "replayed_location": 1000}) },
        "patroni": {"version": "4.1.4"}})
}

/// Returns the policies of these names and specs, combined for the test cluster.
pub(crate) fn policies(specs: &[(&str, Value)]) -> Policies {
    let spec = |spec: &Value| serde_json::from_value(spec.clone()).unwrap();
    let all: Vec<ScalePolicy> =
        specs.iter().map(|(name, it)| ScalePolicy::new(name, spec(it))).collect();
    Policies::combine(&all, &Postgresql::of(&object(3)).unwrap())
}

/// Returns the facts of a cluster whose StatefulSet has these parts, and one-GiB volumes.
pub(crate) fn made_by(mut facts: Facts, parts: &Value) -> Facts {
    let mut whole = json!({"metadata": {"name": "acid-a"}, "spec": {"serviceName": "acid-a",
        "selector": {}, "template": {"spec": {"containers": [{"name": "postgres"}]}},
        "volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": "1Gi"}}}}]}});
    whole["spec"].as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    let whole = serde_json::from_value(whole).unwrap();
    let reduced = pgscale_guard::objects::stateful_set(&whole);
    if let Seen::Known(set) = &mut facts.stateful_set {
        set.deletes_volumes = reduced.deletes_volumes;
        set.parallel = reduced.parallel;
        set.probed = reduced.probed;
    }
    facts.capacity.template = Seen::Known(Template::of(&whole, &[]));
    facts
}

/// Returns the facts with one member changed.
pub(crate) fn with(mut facts: Facts, ordinal: i64, change: impl FnOnce(&mut Member)) -> Facts {
    if let Seen::Known(members) = &mut facts.members {
        change(members.iter_mut().find(|member| member.ordinal == ordinal).unwrap());
    }
    facts
}

/// Returns the facts with one member's receiver stalled.
pub(crate) fn stalled(facts: Facts, ordinal: i64) -> Facts {
    with(facts, ordinal, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.received = Some(10);
            answer.replayed = Some(10);
        }
    })
}
