//! The budget of a namespace: growth is admitted only after it was reserved.

use std::collections::BTreeSet;

use pgscale_guard::ledger::{Ask, Base, FENCE_AFTER, Revision, Terms as LedgerTerms};

use super::super::ledgers::{FENCE, Terms};
use super::*;

mod store;

use store::{Mishap, Store, budget};

fn message(answer: &Value) -> &str {
    assert_eq!(answer["allowed"], false, "{answer}");
    assert_eq!(answer["status"]["code"], 403);
    answer["status"]["message"].as_str().unwrap()
}

fn terms() -> Terms {
    Terms { budget: 12, basis: BTreeSet::from(["p@1".to_owned()]) }
}

#[tokio::test]
async fn growth_is_reserved_by_one_write_and_then_admitted() {
    let store = Store::ready(12, &[("a", 3), ("b", 5)]);
    let replica = store.replica();
    let answer = ask(&replica, &store.edit("a", 5)).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    assert_eq!(store.done(), ["GET instanceledgers/pgscale", "PUT instanceledgers/pgscale"]);
    assert_eq!(store.sums(), (8, 2));
    // The ledger is remembered, and the same growth is recorded already.
    assert_eq!(ask(&replica, &store.edit("a", 5)).await["allowed"], true);
    assert_eq!(store.done(), [""; 0]);
    assert_eq!(ask(&replica, &store.edit("b", 6)).await["allowed"], true);
    assert_eq!(store.done(), ["PUT instanceledgers/pgscale"]);
}

#[tokio::test]
async fn growth_that_does_not_fit_is_refused_with_the_count_that_does() {
    let store = Store::ready(12, &[("a", 3), ("b", 5)]);
    let answer = ask(&store.replica(), &store.edit("a", 8)).await;
    insta::assert_snapshot!(message(&answer), @"
    pgscale refuses to scale db/a from 3 to 8 instances:
    - namespace-budget: 5 more instances asked for, and 4 of the budget of 12 are free: 8 used, 0 reserved
        scalepolicy/production: budget.instances: 12
        postgresql/b: counts for: 5
        Try: ask for what fits:
            kubectl pgscale set a 7 -n db
    Everything the guard sees:
        kubectl pgscale plan a --to 8 -n db
    ");
    assert_eq!(store.sums(), (8, 0));
    assert!(store.done().iter().all(|asked| asked.starts_with("GET ")));
    // A new cluster, and one that wakes up.
    let mut new = object(5);
    new["metadata"]["name"] = json!("new");
    let mut review = create(&new);
    review["request"]["name"] = json!("new");
    assert!(message(&ask(&store.replica(), &review).await).contains("- namespace-budget: 5 more"));
    store.store("asleep", 0);
    let answer = ask(&store.replica(), &store.edit("asleep", 5)).await;
    assert!(message(&answer).contains("namespace-budget"), "{answer}");
}

#[tokio::test]
async fn namespace_without_a_budget_costs_no_request() {
    let store = Store::new(vec![policy(&json!({"max": 9}))], &[("a", 3)]);
    let replica = store.replica();
    for to in [5, 9, 2] {
        ask(&replica, &store.edit("a", to)).await;
    }
    assert_eq!(store.done(), [""; 0]);
}

#[tokio::test]
async fn what_adds_nothing_and_dry_runs_write_nothing() {
    let store = Store::ready(12, &[("a", 5), ("b", 5)]);
    let replica = store.replica();
    ask(&replica, &store.edit("a", 4)).await;
    ask(&replica, &store.edit("a", 5)).await;
    assert_eq!(store.done(), [""; 0]);
    for (to, allowed) in [(7, true), (8, false)] {
        let mut dry = store.edit("a", to);
        dry["request"]["dryRun"] = json!(true);
        assert_eq!(ask(&replica, &dry).await["allowed"], allowed);
    }
    let done = store.done();
    assert!(done.iter().all(|asked| asked.starts_with("GET ")), "{done:?}");
}

#[tokio::test]
async fn growth_that_another_rule_refuses_reserves_nothing() {
    let mut both = budget(12);
    both["spec"]["rules"] = json!({"limits-unknown": "Deny"});
    let store = Store::new(vec![both], &[("a", 3), ("b", 9)]);
    store.keep(store.settled());
    let answer = ask(&store.replica(), &store.edit("a", 5)).await;
    let text = message(&answer);
    assert!(text.contains("- limits-unknown") && text.contains("- namespace-budget"), "{text}");
    assert!(store.done().iter().all(|asked| asked.starts_with("GET ")));
}

#[tokio::test]
async fn fence_of_a_cluster_passes_its_own_webhook_without_a_look() {
    let store = Store::ready(12, &[("a", 3)]);
    let mut review = store.edit("a", 3);
    review["request"]["object"]["metadata"]["labels"] = json!({FENCE: "7"});
    assert_eq!(ask(&store.replica(), &review).await["allowed"], true);
    assert_eq!(store.done(), [""; 0]);
    assert_eq!(store.other.requested("scalepolicies").len(), 0);
}

/// Many writers, three replicas, writes that take their time, and conflicts: the sum of what is
/// admitted stays within the budget, and whatever fits is admitted.
#[tokio::test]
async fn replicas_never_admit_more_than_the_budget_together() {
    let names: Vec<String> = (0..40).map(|number| format!("c{number:02}")).collect();
    let clusters: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    for (budget, fits) in [(60, 10), (120, 40)] {
        let mut store = Store::ready(budget, &clusters);
        store.slow = Duration::from_millis(5);
        store.state.lock().unwrap().mishaps = vec![Mishap::Conflict; 3];
        let replicas = [store.replica(), store.replica(), store.replica()];
        let edits = names.iter().enumerate().map(|(number, name)| {
            let (store, replica) = (store.clone(), replicas[number % 3].clone());
            async move {
                let answer = ask(&replica, &store.edit(name, 3)).await;
                let admitted = answer["allowed"] == true;
                if admitted {
                    store.store(name, 3);
                } else {
                    assert!(message(&answer).contains("namespace-budget"), "{answer}");
                }
                admitted
            }
        });
        let admitted = futures::future::join_all(edits).await;
        let admitted = admitted.into_iter().filter(|it| *it).count();
        let total: i64 = names.iter().map(|name| store.instances(name)).sum();
        assert_eq!((admitted, total), (fits, 40 + 2 * i64::try_from(fits).unwrap()));
        let writes = store.done().iter().filter(|asked| asked.starts_with("PUT ")).count();
        assert!(writes <= fits + 43, "{writes} writes for {fits} of 40");
        // Whatever was stored is released by one look.
        let ledger = replicas[0].ledgers.heal("db", &terms()).await.unwrap();
        let ledger = ledger.unwrap_or_else(|| store.ledger());
        assert_eq!((ledger.totals().used, ledger.totals().reserved), (total.unsigned_abs(), 0));
    }
}

#[tokio::test]
async fn conflict_each_time_is_answered_with_another_try() {
    let store = Store::ready(12, &[("a", 3)]);
    store.state.lock().unwrap().mishaps = vec![Mishap::Conflict; 20];
    let replica = store.replica();
    let answer = ask(&replica, &store.edit("a", 5)).await;
    insta::assert_snapshot!(message(&answer), @"
    pgscale refuses to scale db/a from 3 to 5 instances:
    - namespace-budget: nothing could be reserved in the budget of 12: too many others did so at the same time
        scalepolicy/production: budget.instances: 12
        Try: repeat the same change in some seconds
          see what is reserved:
            kubectl get instanceledgers -n db
    Everything the guard sees:
        kubectl pgscale plan a --to 5 -n db
    ");
    assert!(replica.metrics.text().contains("pgscale_budget_conflicts_total 20"));
    assert_eq!(ask(&replica, &store.edit("a", 5)).await["allowed"], true);
}

#[tokio::test(start_paused = true)]
async fn growth_that_cannot_be_reserved_in_time_is_refused() {
    let store = Store::ready(12, &[("a", 3)]);
    for (mishap, why) in [
        (Mishap::Forbidden, "failed to write its ledger: forbidden"),
        (Mishap::Lost, "the API server did not answer in time"),
    ] {
        store.state.lock().unwrap().mishaps = vec![mishap];
        let started = Instant::now();
        let answer = ask(&store.replica(), &store.edit("a", 5)).await;
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(message(&answer).contains(why), "{answer}");
        assert!(message(&answer).contains("repeat the same change"), "{answer}");
    }
    assert_eq!(store.sums(), (3, 2), "what may be stored counts");
}

/// A replica that was killed after its write has left a reservation.
#[tokio::test]
async fn reservation_of_a_replica_that_is_gone_is_fenced_by_the_next_one() {
    let store = Store::ready(8, &[("a", 3), ("b", 3)]);
    let mut ledger = store.settled();
    let base = Base::Update { at: Revision(1), from: 3 };
    let left = Ask { name: "a".into(), uid: "uid-a".into(), base, to: 5, dry_run: false };
    let now = machine_time() - FENCE_AFTER;
    let basis = terms().basis;
    assert!(ledger.reserve(&left, &LedgerTerms { budget: 8, basis: &basis, now }).admits());
    store.keep(ledger);
    assert_eq!(store.sums(), (6, 2));
    store.done();
    let answer = ask(&store.replica(), &store.edit("b", 5)).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    assert_eq!(
        store.done(),
        [
            "GET instanceledgers/pgscale",
            "GET postgresqls",
            "PATCH postgresqls/a",
            "PUT instanceledgers/pgscale"
        ]
    );
    assert_eq!(store.sums(), (6, 2));
}

#[tokio::test]
async fn new_budget_settles_before_it_admits_growth() {
    let store = Store::new(vec![budget(12)], &[("a", 3)]);
    let answer = ask(&store.replica(), &store.edit("a", 5)).await;
    let text = message(&answer);
    assert!(text.contains("the budget of 12 admits no growth before"), "{text}");
    assert!(store.ledger().settles.is_some());
    // A shrink is no matter of the ledger.
    store.done();
    ask(&store.replica(), &store.edit("a", 2)).await;
    assert_eq!(store.done(), [""; 0]);
}

#[tokio::test]
async fn ledger_of_a_new_budget_is_made_without_a_review() {
    let store = Store::new(vec![budget(12)], &[("a", 3)]);
    for policy in &store.other.policies {
        assert_eq!(policy["metadata"]["namespace"], "db");
    }
    let replica = store.replica();
    replica.ledgers.look_at_all(true).await.unwrap();
    assert!(store.ledger().settles.is_some());
    let mut ledger = store.settled();
    ledger.settles = None;
    store.keep(ledger);
    replica.ledgers.look_at_all(true).await.unwrap();
    let text = replica.metrics.text();
    assert!(text.contains("pgscale_budget_free_instances{namespace=\"db\"} 9"), "{text}");
}

#[tokio::test]
async fn budget_on_trial_warns_and_reserves_nothing() {
    let mut tried = budget(4);
    tried["spec"]["mode"] = json!("Warn");
    let store = Store::new(vec![tried], &[("a", 3)]);
    let answer = ask(&store.replica(), &store.edit("a", 5)).await;
    assert_eq!(answer["allowed"], true);
    assert!(answer["warnings"].to_string().contains("namespace-budget"), "{answer}");
    assert_eq!(store.done(), ["GET instanceledgers/pgscale", "GET postgresqls"]);
}

#[tokio::test]
async fn growth_without_a_place_or_a_revision_is_refused_where_a_budget_holds() {
    let store = Store::ready(12, &[("a", 3)]);
    let mut review = store.edit("a", 5);
    review["request"]["oldObject"]["metadata"]["resourceVersion"] = json!("x");
    let answer = ask(&store.replica(), &review).await;
    assert!(message(&answer).contains("no revision of the cluster"), "{answer}");

    let received = serde_json::to_vec(&store.edit("a", 5)).unwrap();
    let received = Received::of(&received).unwrap();
    let deadlines = Deadlines::of(None, Instant::now());
    let question = Question::of(&received).unwrap();
    let decision = store.replica().decide(question, false, deadlines, Err(Busy)).await;
    let text = decision.message();
    assert!(text.contains("The namespace has a budget, and nothing was reserved"), "{text}");
}
