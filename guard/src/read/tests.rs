//! Whole reads of a cluster, with faults of single requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::facts::Live;
use crate::read::testing::{Fault, Members, SET, World, change, world};

async fn read(world: &World) -> Facts {
    world.reader(&Members::healthy()).facts(change(3, 2), AskWhom::AsNeeded).await
}

/// Returns every unreadable fact with its reason, by name.
fn unreadable(facts: &Facts) -> BTreeMap<&'static str, &str> {
    [
        ("operator", facts.operator.unreadable()),
        ("stateful_set", facts.stateful_set.unreadable()),
        ("members", facts.members.unreadable()),
        ("leader", facts.leader.unreadable()),
        ("configuration", facts.configuration.unreadable()),
        ("failover", facts.failover.unreadable()),
        ("sync", facts.sync.unreadable()),
        ("claims", facts.claims.unreadable()),
        ("last_leader", facts.last_leader.unreadable()),
        ("initialize", facts.initialize.unreadable()),
    ]
    .into_iter()
    .filter_map(|(name, why)| Some((name, why?)))
    .collect()
}

#[tokio::test(start_paused = true)]
async fn healthy_cluster_is_read_in_full() {
    for plural in ["endpoints", "configmaps"] {
        let world = world(plural);
        let facts = read(&world).await;
        assert_eq!(unreadable(&facts), BTreeMap::new());
        let names: Vec<_> = facts.all_members().iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["acid-a-0", "acid-a-1", "acid-a-2"]);
        let member = facts.member("acid-a-1").unwrap();
        assert_eq!(member.pod.zone.as_deref(), Some("zone-1"));
        assert_eq!(member.pod.node_ready, Some(true));
        assert_eq!(facts.leader_name(), Some("acid-a-0"));
        let source = match plural {
            "endpoints" => "endpoints/acid-a",
            _ => "configmap/acid-a-leader",
        };
        assert_eq!(facts.leader.known().unwrap().source.to_string(), source);
        assert_eq!(facts.configuration.known().unwrap().maximum_lag_on_failover, 33_554_432);
        assert_eq!(facts.failover, Seen::Absent, "the object is there and holds nothing");
        assert_eq!(facts.sync.known().unwrap().standbys, ["acid-a-1"]);
        assert_eq!(facts.last_leader, Seen::Known("acid-a-0".into()));
        assert_eq!(facts.claims.known().unwrap().len(), 3);
        assert_eq!(facts.operator.known().unwrap().settings.max_instances, 9);
        assert_eq!((facts.from(), facts.to()), (Some(3), 2));
        assert!(facts.all_members().iter().all(|member| member.live != Live::NotAsked));
        assert!(
            world.requested().iter().all(|asked| !asked.contains("resourceVersion")),
            "a resource version would be answered from a cache: {:?}",
            world.requested()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn forbidden_resource_is_named_and_hides_no_other_fact() {
    let patroni = ["configuration", "failover", "initialize", "last_leader", "leader", "sync"];
    for (resource, blind, why) in [
        ("statefulsets", &["stateful_set"][..], "get statefulsets in db: forbidden"),
        ("pods", &["members"], "list pods in db: forbidden"),
        ("persistentvolumeclaims", &["claims"], "list persistentvolumeclaims in db: forbidden"),
        ("endpoints", &patroni, "get endpoints in db: forbidden"),
        ("deployments", &["operator"], "list deployments: forbidden"),
        (
            "configmaps",
            &["operator"],
            "the list of operators' accounts: get configmaps in kube-public: forbidden",
        ),
        ("nodes", &[], ""),
    ] {
        let facts = read(&world("endpoints").fault(resource, Fault::Status(403))).await;
        let mut found = unreadable(&facts);
        if resource == "statefulsets" {
            // Without it the DCS store is not known, and both kinds are read.
            assert_eq!(facts.leader_name(), Some("acid-a-0"));
            found.retain(|name, _| !patroni.contains(name));
        }
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), blind, "{resource}");
        assert!(found.values().all(|said| *said == why), "{resource}: {found:?}");
        if resource == "nodes" {
            let nodes: Vec<_> =
                facts.all_members().iter().map(|member| member.pod.node_ready).collect();
            assert_eq!(nodes, [None, None, None]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn missing_objects_are_absent_and_not_unreadable() {
    let facts = World::default()
        .reader(&Members::healthy())
        .facts(Change { old: None, ..change(3, 3) }, AskWhom::All)
        .await;
    assert_eq!(unreadable(&facts), BTreeMap::new());
    assert_eq!(facts.operator, Seen::Absent);
    assert_eq!(facts.stateful_set, Seen::Absent);
    assert_eq!(facts.members, Seen::Known(Vec::new()));
    assert_eq!(facts.leader, Seen::Absent);
    assert_eq!(facts.configuration, Seen::Absent);
    assert_eq!(facts.claims, Seen::Known(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn hanging_api_server_costs_no_more_than_the_deadline() {
    let start = Instant::now();
    let facts = read(&world("endpoints").fault("persistentvolumeclaims", Fault::Hang)).await;
    assert_eq!(
        unreadable(&facts),
        BTreeMap::from([("claims", "list persistentvolumeclaims in db: no answer within 2.7s")])
    );
    assert!(matches!(facts.all_members()[0].live, Live::Answered(_)), "there is time to ask");
    assert!(start.elapsed() <= Duration::from_secs(4));

    let mut dead = world("endpoints");
    for resource in
        ["statefulsets", "pods", "deployments", "endpoints", "configmaps", "persistentvolumeclaims"]
    {
        dead = dead.fault(resource, Fault::Hang);
    }
    let start = Instant::now();
    let facts = read(&dead).await;
    assert_eq!(unreadable(&facts).len(), 10);
    assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn deleted_node_is_not_ready() {
    let facts = read(&world("endpoints").without("/api/v1/nodes/node-2")).await;
    assert_eq!(facts.member("acid-a-2").unwrap().pod.node_ready, Some(false));
}

#[tokio::test(start_paused = true)]
async fn annotation_that_the_operator_ignores_is_not_foreign() {
    let foreign = |set: &mut Value| {
        set["metadata"]["annotations"] = json!({"a/b": "x", "c": "x"});
        set["metadata"]["managedFields"] = json!([{"manager": "vela", "operation": "Update",
            "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:a/b": {}, "f:c": {}}}}}]);
    };
    let facts = read(&world("endpoints").edit(SET, foreign).edit(testing::SETTINGS, |settings| {
        settings["data"]["ignored_annotations"] = json!("a/b");
    }))
    .await;
    let set = facts.stateful_set.known().unwrap();
    let replacement = facts.assess().replacement(set, &facts.change.new).unwrap();
    let reasons: Vec<String> = replacement.reasons.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, ["statefulset/acid-a: annotation c: written by vela"]);
}

const CLUSTER: &str = "/apis/acid.zalan.do/v1/namespaces/db/postgresqls/acid-a";

#[tokio::test(start_paused = true)]
async fn cluster_is_read_or_the_error_names_the_reason() {
    let there = World::default().with(
        CLUSTER,
        json!({"metadata": {"namespace": "db", "name": "acid-a", "labels": {"team": "acid"}},
            "spec": {"numberOfInstances": 3}}),
    );
    let members = Members::healthy();
    let reader = there.reader(&members);
    assert_eq!(reader.cluster("db", "acid-a").await.unwrap().instances, Some(3));
    let missing = reader.cluster("db", "acid-b").await.unwrap_err();
    assert!(missing.is_not_found() && !missing.is_forbidden());
    assert_eq!(missing.to_string(), "failed to get postgresqls acid-b in db: not found");
    assert_eq!(reader.clusters(Some("db"), Some("team=acid")).await.unwrap().len(), 1);
    assert_eq!(reader.clusters(None, Some("team=other")).await.unwrap().len(), 0);
    assert_eq!(reader.clusters(None, None).await.unwrap().len(), 1);

    for (fault, why) in [
        (Fault::Status(403), "failed to get postgresqls acid-a in db: forbidden"),
        (Fault::Status(401), "failed to get postgresqls acid-a in db: unauthorized"),
        (
            Fault::Status(500),
            "failed to get postgresqls acid-a in db: 500 the server says InternalError",
        ),
        (Fault::Hang, "failed to get postgresqls acid-a in db: no answer within 4s"),
    ] {
        let reader = there.clone().fault("postgresqls", fault).reader(&members);
        assert_eq!(reader.cluster("db", "acid-a").await.unwrap_err().to_string(), why);
    }
    let odd = there.edit(CLUSTER, |cluster| cluster["spec"]["numberOfInstances"] = json!("3"));
    assert_eq!(
        odd.reader(&members).clusters(None, None).await.unwrap_err().to_string(),
        "failed to understand postgresqls db/acid-a: spec.numberOfInstances is \"3\", which is not a \
         whole number of instances"
    );
}

#[tokio::test(start_paused = true)]
async fn overrides_are_read_or_the_error_names_the_reason() {
    let members = Members::healthy();
    let cluster = change(3, 3).new;
    let named = |name: &str| {
        json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
            "metadata": {"namespace": "db", "name": name},
            "spec": {"cluster": name, "clusterUid": "u1", "to": 2, "rules": ["paused"],
                "reason": "night", "expiresAt": "2026-11-24T11:00:00Z"}})
    };
    let path = "/apis/pgscale.dev/v1alpha1/namespaces/db/scaleoverrides";
    let world = World::default()
        .with(&format!("{path}/acid-a"), named("acid-a"))
        .with(&format!("{path}/acid-b"), named("acid-b"));
    let found = world.reader(&members).overrides(&cluster).await;
    assert_eq!(found.granted.len(), 1, "{found:?}");
    assert_eq!(found.granted[0].spec.cluster, "acid-a");

    let without_crd = World::default().fault("scaleoverrides", Fault::Status(404));
    assert_eq!(without_crd.reader(&members).overrides(&cluster).await, Overrides::default());

    let forbidden = world.fault("scaleoverrides", Fault::Status(403));
    assert_eq!(
        forbidden.reader(&members).overrides(&cluster).await.unreadable.as_deref(),
        Some("failed to list scaleoverrides in db: forbidden")
    );
}

#[tokio::test(start_paused = true)]
async fn future_of_a_read_can_be_spawned() {
    let reader = world("endpoints").reader(&Members::healthy());
    let facts =
        tokio::spawn(async move { reader.facts(change(3, 2), AskWhom::All).await }).await.unwrap();
    assert_eq!(facts.all_members().len(), 3);
}
