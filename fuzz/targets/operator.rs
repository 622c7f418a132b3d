//! The operator: its Deployment, the list of its accounts, and its settings from either source.

#![no_main]

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use libfuzzer_sys::fuzz_target;
use pgscale_guard::objects::deployment::{Candidate, account, may_operate};
use pgscale_guard::operator::account::listed;
use pgscale_guard::operator::{Account, Settings};
use pgscale_guard::postgresql::Postgresql;
use serde_json::Value;

fuzz_target!(|text: &str| {
    if let Ok(accounts) = listed(text) {
        for account in accounts {
            assert_eq!(account.to_string().parse::<Account>().as_ref(), Ok(&account));
        }
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    let configuration = Settings::of_operator_configuration(&value);
    let data = value.get("data").unwrap_or(&value).clone();
    let data = serde_json::from_value::<BTreeMap<String, String>>(data);
    let map = data.ok().and_then(|data| Settings::of_config_map(&data).ok());
    for settings in configuration.into_iter().chain(map) {
        let _ = settings.selector("acid-a");
        if let Ok(cluster) = Postgresql::of(&value) {
            let _ = (settings.effective(&cluster), settings.limits_ignored(&cluster));
        }
    }
    if let Ok(deployment) = serde_json::from_value::<Deployment>(value) {
        let _ = (may_operate(&deployment), account(&deployment));
        if let Ok(candidate) = Candidate::of(&deployment) {
            let _ = candidate.watched_namespace(Some("db"));
        }
    }
});
