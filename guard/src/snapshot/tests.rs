use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::policy::ScalePolicy;
use crate::rules::evaluate;
use crate::rules::testing::{created, healthy, of_scenarios, of_tables};

/// Returns the record of `facts` in a namespace with these policies.
pub(crate) fn snapshot(facts: Facts, own: Vec<ScalePolicy>) -> Snapshot {
    let policies = Written {
        own: own.into(),
        everywhere: Arc::default(),
        undecodable: Vec::new(),
        labels: Seen::Known(BTreeMap::new()),
        unreadable: None,
    };
    Snapshot { facts, policies, overrides: Overrides::default() }
}

/// Returns the record as a file would hold it, read again.
pub(crate) fn stored(snapshot: &Snapshot) -> Snapshot {
    let text = serde_json::to_string(&snapshot.redacted().unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_situation_of_the_tables_survives_a_record() {
    let all = insta::allow_duplicates! { [of_tables(), of_scenarios()].concat() };
    for (facts, policies) in all {
        let (again, _) = stored(&snapshot(facts.clone(), Vec::new())).replay();
        let rules = |facts: &Facts| {
            let findings = evaluate(facts, &policies).findings.into_iter();
            findings.map(|found| (found.rule, found.severity)).collect::<Vec<_>>()
        };
        assert_eq!(rules(&again), rules(&facts), "{:?}", facts.change);
    }
}

#[test]
fn no_secret_is_in_the_record_and_the_verdict_is_the_same() {
    const SECRETS: [&str; 8] = [
        "hunter2",
        "s3cr3t",
        "AKIAKEY",
        "eyJhbGci",
        "swordfish",
        "pgpass1",
        "whole-manifest",
        "MIIE",
    ];
    let mut facts = healthy(5, 3);
    let spec = json!({
        "env": [{"name": "AWS_SECRET", "value": "hunter2"}, {"name": "PLAIN", "value": "s3cr3t"},
                {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "k"}}}],
        "clone": {"s3_access_key_id": "AKIAKEY"},
        "patroni": {"initdb": {"pwfile": "x"}, "token": "eyJhbGci"},
        "postgresql": {"version": "15", "parameters": {
            "primary_conninfo": "host=a password=swordfish",
            "archive_command": "wal --to postgres://u:pgpass1@h/x %p"}},
        "sidecars": [{"name": "s", "command": ["run", "-----BEGIN KEY----- MIIE"]}],
    });
    for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
        cluster.spec = spec.clone();
        cluster.spec["numberOfInstances"] = json!(cluster.instances);
        let key = "kubectl.kubernetes.io/last-applied-configuration".to_owned();
        cluster.annotations.insert(key, "{\"whole-manifest\": 1}".to_owned());
    }
    let text = snapshot(facts.clone(), Vec::new()).redacted().unwrap().to_string();
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for kept in ["vault", "AWS_SECRET", "primary_conninfo", "acid-a-0"] {
        assert!(text.contains(kept), "{kept} is no secret");
    }
    let kept = stored(&snapshot(facts.clone(), Vec::new()));
    let (again, policies) = kept.replay();
    assert_eq!(evaluate(&again, &policies), evaluate(&facts, &policies));
    // Equal secrets stay equal, so the write changes nothing else.
    assert_eq!(again.change.other_edits(), Vec::new());
}

#[test]
fn changed_secret_is_still_a_change_of_the_same_write() {
    let mut facts = healthy(5, 3);
    facts.change.new.spec["env"] = json!([{"name": "A", "value": "two"}]);
    if let Some(old) = &mut facts.change.old {
        old.spec["env"] = json!([{"name": "A", "value": "one"}]);
    }
    let (again, _) = stored(&snapshot(facts, Vec::new())).replay();
    assert_eq!(again.change.other_edits().len(), 1);
}

#[test]
fn record_is_judged_for_another_change() {
    let kept = stored(&snapshot(healthy(5, 5).with_leader(4), Vec::new()));
    let to = |count| kept.changed_to(kept.cluster().with_instances(count)).replay();
    let (facts, policies) = to(3);
    assert!(evaluate(&facts, &policies).denials().any(|it| it.rule == "leader-condemned"));
    let (facts, policies) = to(5);
    assert!(evaluate(&facts, &policies).allows());
    let mut new = kept.cluster().with_instances(3);
    let key = crate::postgresql::CONTROLLER_ANNOTATION.to_owned();
    new.annotations.insert(key, "other".to_owned());
    let (facts, _) = kept.changed_to(new).replay();
    assert!(facts.operator.unreadable().is_some(), "the other operator is not recorded");
    assert!(facts.operator_before.is_some_and(|before| before.known().is_some()));
}

#[test]
fn record_of_a_new_cluster_is_judged_again() {
    let facts = created(3);
    let (again, policies) = stored(&snapshot(facts.clone(), Vec::new())).replay();
    assert_eq!(evaluate(&again, &policies), evaluate(&facts, &policies));
}
