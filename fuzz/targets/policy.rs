//! Policies and overrides of any version: decoded or named as undecodable, and judged by.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use pgscale_guard::object_ref::Kind;
use pgscale_guard::overrides::{Overrides, ScaleOverride};
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy, Undecodable, Written, decode};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::{Change, Facts, Seen, evaluate};
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let labels = Seen::Known(BTreeMap::from([("env".to_owned(), "prod".to_owned())]));
    let mut written = Written {
        own: Arc::default(),
        everywhere: Arc::default(),
        undecodable: Vec::new(),
        labels,
        unreadable: None,
    };
    match decode::<ScalePolicy>(&value) {
        Ok(policy) => written.own = Arc::new(vec![policy]),
        Err(why) => written.undecodable.push(Undecodable::of(Kind::ScalePolicy, &value, why)),
    }
    match decode::<ClusterScalePolicy>(&value) {
        Ok(policy) => written.everywhere = Arc::new(vec![policy]),
        Err(why) => {
            written.undecodable.push(Undecodable::of(Kind::ClusterScalePolicy, &value, why));
        }
    }
    let overrides = match decode::<ScaleOverride>(&value) {
        Ok(one) => Overrides::of(vec![one], "acid-a"),
        Err(why) => Overrides::default().and_undecodable(&[(value, why)], "acid-a"),
    };
    let cluster = json!({"metadata": {"namespace": "db", "name": "acid-a", "uid": "c1",
        "labels": {"tier": "gold"}}, "spec": {"numberOfInstances": 5}});
    let cluster = Postgresql::of(&cluster).expect("a cluster");
    for to in [0, 4, 6] {
        let change = Change::of_count(cluster.clone(), to);
        let mut policies = written.of(&change);
        policies.overrides = overrides.clone();
        let now = Timestamp::UNIX_EPOCH;
        let verdict = evaluate(&Facts::unread(change, now), &policies);
        for finding in &verdict.findings {
            assert!(!finding.to_string().is_empty());
        }
    }
});
