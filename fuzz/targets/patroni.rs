//! What Patroni writes into annotations, and what a member answers.

#![no_main]

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::patroni::{
    Answer, ApiUrl, Configuration, LeaderLock, PendingFailover, Report, SyncState,
    given_by_another, last_leader,
};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let _ = Report::of(text);
    let _ = ApiUrl::of(text);
    let _ = last_leader(text);
    if let Ok(configuration) = Configuration::of(text) {
        let _ = configuration.synchrony();
        let _ = configuration.logical_slots().len();
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    if let Some(answer) = Answer::of(&value) {
        let _ = (answer.streams(), answer.position());
        let another = given_by_another(&value, "acid-a", "acid-a-1");
        let said = value["patroni"]["name"].as_str();
        assert!(another.is_some() || said.is_none_or(|name| name == "acid-a-1"));
    }
    let Ok(annotations) = serde_json::from_value::<BTreeMap<String, String>>(value) else { return };
    for text in annotations.values() {
        let _ = (Report::of(text), Configuration::of(text), last_leader(text));
    }
    let lock = LeaderLock::of(ObjectRef::new(Kind::Endpoints, "acid-a"), &annotations);
    for grace in [SignedDuration::ZERO, SignedDuration::MAX] {
        for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let _ = lock.valid_holder(now, grace);
        }
    }
    let _ = PendingFailover::of(&annotations);
    let _ = SyncState::of(&annotations).contains("acid-a-0", "acid-a-1");
});
