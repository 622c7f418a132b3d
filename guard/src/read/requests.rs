//! The number of requests that a review costs, by the kind of change.
//!
//! A process that judges many changes shares the operators for a second. The counts are those of a
//! review within that second, with the policies, the cluster of a `Scale`, and the overrides that a
//! refusal needs. The first review of a second costs two more: the list of accounts and the Deployments.
//!
//! Eight for growth are both kinds of policies, the StatefulSet, the pods, Patroni's objects, the claims,
//! the quotas and the limit ranges. Each is a kind of its own, for which the API server has no common
//! request, and each may have changed a moment ago in a way that refuses the change. A shrink needs no
//! quotas and no limit ranges. While no watch announces the changes of the operators, their settings are
//! read for each review, too: one request more.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::change::Change;
use crate::facts::{Facts, Health, Live, Seen};
use crate::operator::account::LIST_NAME;
use crate::read::testing::{
    self, Fault, LIST, Members, OPERATOR, REAL, Reply, SET, SETTINGS, World, change, core, leader,
    pod, standby, world,
};
use crate::read::{Age, AskWhom, KnownOperators, Moment, Operators, Reader, Shared};
use crate::rules::evaluate;
use tokio::time::{Duration, Instant, advance};

const CLUSTER: &str = "/apis/acid.zalan.do/v1/namespaces/db/postgresqls/acid-a";

/// Returns a healthy cluster of five beside a list of operators' accounts.
fn five(plural: &str) -> World {
    let labels = json!({"application": "spilo", "cluster-name": "acid-a"});
    let cluster = json!({"metadata": {"namespace": "db", "name": "acid-a"},
        "spec": {"numberOfInstances": 5}});
    let there = world(plural)
        .with(LIST, testing::accounts(REAL))
        .with(CLUSTER, cluster)
        .edit(SET, |set| {
            set["spec"]["replicas"] = json!(5);
            set["status"]["replicas"] = json!(5);
        })
        .edit(SETTINGS, |settings| {
            let maps = plural == "configmaps";
            settings["data"]["kubernetes_use_configmaps"] = json!(maps.to_string());
        });
    (3..5).fold(there, |there, ordinal| {
        let claim = format!("pgdata-acid-a-{ordinal}");
        there
            .with(&core("pods", &format!("acid-a-{ordinal}")), pod(ordinal))
            .with(
                &core("persistentvolumeclaims", &claim),
                json!({"metadata": {"namespace": "db", "name": claim, "labels": labels,
                    "creationTimestamp": "2026-11-20T10:00:00Z"},
                    "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}),
            )
            .with(
                &format!("/api/v1/nodes/node-{ordinal}"),
                json!({"metadata": {"name": format!("node-{ordinal}")},
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            )
    })
}

fn answering(count: usize) -> Members {
    let standbys = (1..count).map(|_| vec![standby(1000)]);
    Members::of([vec![leader(1000)]].into_iter().chain(standbys))
}

/// Returns a reader as a webhook has it.
fn reviewer(world: &World, members: &Members, known: &KnownOperators) -> Reader {
    Reader { operators: Operators::Known(known.clone()), ..world.reader(members) }
}

/// The cost of one review: requests to the API server without those for nodes, requests for nodes,
/// and questions to members.
type Cost = (usize, usize, usize);

/// Reviews a change as the webhook does, and returns what it read and its cost.
async fn review(
    world: &World,
    reader: &Reader,
    members: &Members,
    change: Change,
) -> (Facts, Cost) {
    let before = world.requested().len();
    let asked = |members: &Members| members.counts().values().sum::<usize>();
    let asked_before = asked(members);
    reader.cluster_text("db", "acid-a").await.unwrap();
    let (facts, policies) = reader.facts_and_policies(change, AskWhom::AsNeeded).await;
    if !evaluate(&facts, &policies).allows() {
        reader.overrides(&facts.change.new).await;
    }
    let requests = world.requested().split_off(before);
    let nodes = requests.iter().filter(|asked| asked.contains("/nodes/")).count();
    (facts, (requests.len() - nodes, nodes, asked(members) - asked_before))
}

/// Returns the cost of a review within a second of another one. It reads neither the Deployments, nor the
/// pods of the operator that are known to have its settings, nor the nodes of members that are well. It
/// reads the settings where no watch announces their changes.
async fn cost(world: &World, members: &Members, change: Change, watched: bool) -> Cost {
    let known = KnownOperators::default();
    let plain = reviewer(world, members, &known);
    let shared = Shared::new(plain.client.clone(), Arc::new(|_| {}));
    let arrived = || {
        let age = Age::Since(Moment::now());
        let operators = Operators::Known(known.aged(age));
        Reader { operators, sharing: Some(shared.aged(age)), ..plain.clone() }
    };
    review(world, &arrived(), members, change.clone()).await;
    if watched {
        // The first look says which objects are to be watched. The next one relies on the watches.
        known.sources().borrow().iter().for_each(|source| shared.announced(&source.path()));
        advance(Duration::from_millis(1001)).await;
        review(world, &arrived(), members, change.clone()).await;
    }
    let (_, cost) = review(world, &arrived(), members, change).await;
    cost
}

fn written(from: i64, to: i64, edit: impl Fn(&mut Value)) -> Change {
    let mut change = change(from, to);
    edit(&mut change.new.spec);
    change
}

#[tokio::test(start_paused = true)]
async fn admitted_growth_costs_at_most_8_requests() {
    for plural in ["endpoints", "configmaps"] {
        let there = five(plural);
        let members = answering(5);
        for (watched, want) in [(true, 8), (false, 9)] {
            // One more for the cluster, where the write is of its `Scale`.
            let (requests, nodes, asked) = cost(&there, &members, change(5, 6), watched).await;
            let asks = there.requested();
            assert_eq!((requests - 1, nodes, asked), (want, 0, 0), "{plural}: {asks:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn shrink_of_5_costs_at_most_7_requests_and_a_question_to_each_member() {
    for plural in ["endpoints", "configmaps"] {
        let there = five(plural);
        for (watched, want) in [(true, 6), (false, 7)] {
            let start = Instant::now();
            // One more for the cluster, where the write is of its `Scale`.
            let (requests, nodes, asked) = cost(&there, &answering(5), change(5, 3), watched).await;
            let asks = there.requested();
            assert_eq!((requests - 1, nodes, asked), (want, 0, 5), "{plural}: {asks:?}");
            assert!(watched || start.elapsed() == Duration::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silent_member_costs_its_node_and_at_most_1_3_seconds() {
    let there = five("endpoints");
    let mut scripts: Vec<Vec<Reply>> = vec![vec![leader(1000)]];
    scripts.extend((1..5).map(|_| vec![standby(1000)]));
    scripts[4] = vec![Reply::Hang];
    let members = Members::of(scripts);
    let known = KnownOperators::default();
    let reader = reviewer(&there, &members, &known);
    let start = Instant::now();
    let (facts, _) = review(&there, &reader, &members, change(5, 3)).await;
    assert!(start.elapsed() <= Duration::from_millis(1300), "{:?}", start.elapsed());
    assert!(matches!(facts.member("acid-a-4").unwrap().live, Live::Silent(_)));
    // Growth asks for the node of a member that gives no answer, and for no other.
    let unwell = there.edit(&core("pods", "acid-a-4"), |pod| {
        let status = json!({"state": "starting", "role": "replica"});
        pod["metadata"]["annotations"]["status"] = json!(status.to_string());
    });
    let gone = unwell.without("/api/v1/nodes/node-4");
    let reader = reviewer(&gone, &members, &known);
    let (facts, (_, nodes, _)) = review(&gone, &reader, &members, change(5, 6)).await;
    assert_eq!((nodes, facts.member("acid-a-4").unwrap().pod.node_ready), (1, Some(false)));
}

/// Each row: the cost of a review that has to judge nothing that does not matter for it.
#[tokio::test(start_paused = true)]
async fn each_kind_of_change_reads_only_what_its_rules_need() {
    let there = five("endpoints");
    let same = written(5, 5, |spec| spec["postgresql"] = json!({"version": "17"}));
    let mut lifted = change(5, 6);
    lifted.new.annotations.insert("a/b".into(), "true".into());
    let mut created = change(5, 5);
    created.old = None;
    for (name, change, want) in [
        ("growth", change(5, 6), (10, 0, 0)),
        ("shrink", change(5, 4), (8, 0, 5)),
        ("to zero", change(5, 0), (9, 0, 5)),
        ("the same count", same, (8, 0, 0)),
        ("a switch of the limits", lifted, (10, 0, 0)),
        ("from zero", change(0, 5), (12, 0, 0)),
        ("a new cluster over an old one", created, (12, 0, 0)),
    ] {
        let cost = cost(&there, &answering(5), change, false).await;
        assert_eq!(cost, want, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn backup_is_read_only_where_a_policy_asks_for_it() {
    let policy = json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"namespace": "db", "name": "kept"}, "spec": {"backup": {"maxAge": "24h"}}});
    let asking = five("endpoints")
        .with("/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/kept", policy);
    let members = answering(5);
    let reader = asking.reader(&members);
    let (facts, _) = reader.facts_and_policies(change(5, 4), AskWhom::AsNeeded).await;
    assert_eq!(facts.capacity.backup, Some(Seen::Absent));
    let (facts, _) = reader.facts_and_policies(change(5, 6), AskWhom::AsNeeded).await;
    assert_eq!(facts.capacity.backup, None);
    let there = five("endpoints");
    let reader = there.reader(&members);
    let (facts, _) = reader.facts_and_policies(change(5, 4), AskWhom::AsNeeded).await;
    assert_eq!(facts.capacity.backup, None);
}

#[tokio::test(start_paused = true)]
async fn labels_of_the_namespace_are_read_only_where_a_policy_selects_by_them() {
    let path = "/apis/pgscale.dev/v1alpha1/clusterscalepolicies/prod";
    let policy = |spec: Value| {
        json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
            "metadata": {"name": "prod"}, "spec": spec})
    };
    let selecting = json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}});
    for (spec, want) in [(json!({"steps": {"down": 1}}), 0), (selecting, 1)] {
        let there = World::default().with(path, policy(spec));
        there.reader(&Members::healthy()).policies(&change(3, 3)).await;
        let asked = there.requested();
        let labels = asked.iter().filter(|path| path.ends_with("/namespaces/db?")).count()
            + asked.iter().filter(|path| path.ends_with("/namespaces/db")).count();
        assert_eq!(labels, want, "{asked:?}");
    }
}

/// Returns the number of lists of the Deployments of all namespaces.
fn searches(world: &World) -> usize {
    let everywhere = |asked: &&String| asked.starts_with("/apis/apps/v1/deployments");
    world.requested().iter().filter(everywhere).count()
}

#[tokio::test(start_paused = true)]
async fn reviews_share_the_operators_for_a_second_and_never_longer() {
    let there = five("endpoints");
    let (members, known) = (answering(5), KnownOperators::default());
    let reader = reviewer(&there, &members, &known);
    let limit = async |reader: &Reader| {
        let facts = reader.facts(change(5, 6), AskWhom::AsNeeded).await;
        facts.operator.known().map(|operator| operator.settings.max_instances)
    };
    let reviews = (0..20).map(|_| limit(&reader));
    let found = futures::future::join_all(reviews).await;
    assert_eq!(found, [Some(9); 20]);
    let lists = there.requested().iter().filter(|asked| asked.contains(LIST_NAME)).count();
    assert_eq!(lists, 1, "{:?}", there.requested());
    let edited = there.edit(SETTINGS, |settings| settings["data"]["max_instances"] = json!("7"));
    let reader = reviewer(&edited, &members, &known);
    advance(Duration::from_millis(1001)).await;
    assert_eq!(limit(&reader).await, Some(7));
    // A failure serves the review that met it, and no later one.
    let failing = edited.clone().fault("configmaps", Fault::Status(500));
    advance(Duration::from_millis(1001)).await;
    assert_eq!(limit(&reviewer(&failing, &members, &known)).await, None);
    assert_eq!(limit(&reader).await, Some(7));
}

/// A pod that started after the last edit has these settings, and so has each later one.
#[tokio::test(start_paused = true)]
async fn pods_of_the_operator_are_read_until_each_started_after_the_last_edit() {
    const POD: &str = "/api/v1/namespaces/default/pods/postgres-operator-x";
    let there = five("endpoints");
    let edited = |world: &World, time: &str| {
        let entry = json!({"manager": "kubectl-edit", "operation": "Update", "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:max_instances": {}}}});
        world.clone().edit(SETTINGS, |it| it["metadata"]["managedFields"] = json!([entry]))
    };
    let started =
        |world: World, time: &str| world.edit(POD, |pod| pod["status"]["startTime"] = json!(time));
    let newer = edited(&there, "2026-11-03T00:00:00Z");
    let restarted = started(newer.clone(), "2026-11-04T00:00:00Z");
    let mut second = restarted.clone();
    let old = json!({"metadata": {"namespace": "default", "name": "postgres-operator-y",
        "labels": {"name": "postgres-operator"}}, "status": {"startTime": "2026-11-02T00:00:00Z"}});
    second = second.with("/api/v1/namespaces/default/pods/postgres-operator-y", old);
    let gone = restarted.clone().without(POD);
    let forbidden = newer.clone().fault("pods", Fault::Status(403));
    let (members, known) = (answering(5), KnownOperators::default());
    for (name, world, stale, reads) in [
        ("the first look", &there, Some(false), 1),
        ("known", &there, Some(false), 0),
        ("edited since", &newer, Some(true), 1),
        ("still", &newer, Some(true), 1),
        ("the pods cannot be read", &forbidden, None, 1),
        ("beside an older pod that may be left", &second, Some(false), 1),
        ("the older one is gone", &restarted, Some(false), 1),
        ("known again", &restarted, Some(false), 0),
        ("none runs: the next one reads them", &gone, Some(false), 0),
        ("edited again", &edited(&restarted, "2026-11-05T00:00:00Z"), Some(true), 1),
    ] {
        let before = world.requested().len();
        let reader = reviewer(world, &members, &known.aged(Age::Since(Moment::now())));
        let operator = reader.operator(&change(5, 6).new).await;
        assert_eq!(operator.known().unwrap().stale_settings, stale, "{name}");
        let requests = world.requested().split_off(before);
        let pods = requests.iter().filter(|it| it.contains("/namespaces/default/pods")).count();
        assert_eq!(pods, reads, "{name}: {requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_review_lists_the_deployments_of_all_namespaces() {
    let (members, known) = (answering(5), KnownOperators::default());
    let listed = five("endpoints");
    review(&listed, &reviewer(&listed, &members, &known), &members, change(5, 4)).await;
    assert_eq!(searches(&listed), 0);

    let unlisted = listed.without(LIST);
    let known = KnownOperators::default();
    let reader = reviewer(&unlisted, &members, &known);
    let searching = tokio::spawn(known.clone().keep_searching(reader.client.clone()));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(searches(&unlisted), 1, "at the start of the process");
    for _ in 0..4 {
        let (facts, _) = review(&unlisted, &reader, &members, change(5, 4)).await;
        assert_eq!(
            facts.operator.known().unwrap().deployment.to_string(),
            format!("deployment {REAL}")
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(searches(&unlisted), 1);

    // A tenant's look-alike is never the operator, and makes it unknown with the next search.
    let mut tenants = testing::operator("postgres-operator");
    tenants["metadata"]["namespace"] = json!("a-tenant");
    let both =
        unlisted.with("/apis/apps/v1/namespaces/a-tenant/deployments/postgres-operator", tenants);
    searching.abort();
    let reader = reviewer(&both, &members, &known);
    let searching = tokio::spawn(known.clone().keep_searching(reader.client.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (facts, _) = review(&both, &reader, &members, change(5, 4)).await;
    let why = facts.operator.unreadable().unwrap();
    assert!(why.contains("a-tenant/postgres-operator"), "{why}");
    searching.abort();
    // The operator is gone: what the search has found is read again by name.
    let gone = five("endpoints").without(LIST).without(OPERATOR);
    let known = KnownOperators::default();
    let reader = reviewer(&five("endpoints").without(LIST), &members, &known);
    reader.facts(change(5, 4), AskWhom::AsNeeded).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reader = reviewer(&gone, &members, &known);
    let facts = reader.facts(change(5, 4), AskWhom::AsNeeded).await;
    assert_eq!(facts.operator, Seen::Absent);
}

#[tokio::test(start_paused = true)]
async fn wrong_guess_of_labels_or_store_is_read_again() {
    let renamed = |object: &mut Value| {
        object["metadata"]["labels"]["application"] = json!("pg");
    };
    let there = (0..5).fold(five("configmaps"), |there, ordinal| {
        there.edit(&core("pods", &format!("acid-a-{ordinal}")), renamed)
    });
    let there = there.edit(SET, |set| {
        set["spec"]["selector"]["matchLabels"]["application"] = json!("pg");
    });
    // The settings say other labels, and Endpoints.
    let there = there.edit(SETTINGS, |settings| {
        settings["data"]["kubernetes_use_configmaps"] = json!("false");
    });
    let (members, known) = (answering(5), KnownOperators::default());
    let reader = reviewer(&there, &members, &known);
    for _ in 0..2 {
        let (facts, _) = review(&there, &reader, &members, change(5, 4)).await;
        assert_eq!((facts.all_members().len(), facts.leader_name()), (5, Some("acid-a-0")));
        let source = facts.leader.known().unwrap().source.to_string();
        assert_eq!(source, "configmap/acid-a-leader");
    }
}

/// Who may create pods in the namespace decides how many carry the cluster's labels.
#[tokio::test(start_paused = true)]
async fn thousand_pods_with_the_clusters_labels_cost_a_bounded_number_of_requests() {
    let crowd = |count: i64| {
        let there = five("endpoints")
            .edit(SETTINGS, |settings| settings["data"]["max_instances"] = json!("-1"));
        (5..count).fold(there, |there, ordinal| {
            there.with(&core("pods", &format!("acid-a-{ordinal}")), pod(ordinal))
        })
    };
    let many = crowd(200);
    let members = answering(200);
    let reader = many.reader(&members);
    let facts = reader.facts(change(200, 100), AskWhom::AsNeeded).await;
    assert_eq!(members.counts().len(), 32);
    let nodes = many.requested().into_iter().filter(|asked| asked.contains("/nodes/")).count();
    assert_eq!(nodes, 32);
    assert_eq!(facts.member("acid-a-99").unwrap().live, Live::NotAsked);
    let health = facts.assess().health(facts.member("acid-a-99").unwrap());
    assert_eq!(health, Health::Unknown("acid-a-99 was not asked".to_owned()));
    // The leader is asked, whatever its ordinal is.
    let led = many.edit(&core("endpoints", "acid-a"), |lock| {
        lock["metadata"]["annotations"]["leader"] = json!("acid-a-150");
    });
    let members = answering(200);
    led.reader(&members).facts(change(200, 160), AskWhom::AsNeeded).await;
    assert!(members.counts().contains_key("acid-a-150"), "{:?}", members.counts());
}
