//! The account of `helm test` may do what `doctor` does, and no more.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Serialize;

use super::grants::add;
use super::table::{COMMANDS, Place};
use crate::generated;

const FILE: &str = "charts/pgscale/files/doctor.yaml";

/// The rules as the chart reads them.
#[derive(Debug, Default, Serialize)]
struct Rules {
    /// In all namespaces.
    everywhere: Vec<PolicyRule>,
    /// In the namespace of the webhook.
    home: Vec<PolicyRule>,
    /// In all namespaces, where a canary is wanted.
    canary: Vec<PolicyRule>,
}

/// Returns the rules for the account, made from the table.
fn rules() -> Rules {
    let parts = COMMANDS.iter().find(|(name, _)| *name == "doctor").unwrap().1;
    let mut found = Rules::default();
    let mut placed = Vec::new();
    for way in parts.iter().copied().flatten().flat_map(|permission| {
        // An operator is configured in either way, and its namespace is not known here.
        let all = permission.ways.iter().all(|way| way.place == Place::Operator);
        permission.ways.iter().take(if all { permission.ways.len() } else { 1 })
    }) {
        add(&mut placed, way);
    }
    for (place, rule) in placed {
        let writes = rule.verbs.iter().any(|verb| verb == "patch");
        let of_api_server = rule.resources.iter().flatten().any(|it| it == "endpointslices");
        match place {
            Place::Namespace if writes => found.canary.push(rule),
            // Those of the API server are in another namespace.
            Place::Namespace if !of_api_server => found.home.push(rule),
            Place::Namespace | Place::Everywhere | Place::Operator => found.everywhere.push(rule),
            // The chart lets every user read that list.
            Place::Public => {}
        }
    }
    found
}

#[test]
fn the_chart_carries_the_permissions_of_doctor() {
    let text = format!(
        "# The permissions of `helm test`, made from those of `kubectl pgscale doctor` by a test of the plugin.\n{}",
        serde_saphyr::to_string(&rules()).unwrap()
    );
    generated::check(FILE, &text, |stored, wanted| stored == wanted);
}

#[test]
fn account_of_the_helm_test_writes_nothing_without_a_canary() {
    let rules = rules();
    let mut writes = BTreeMap::new();
    for (place, rules) in [("everywhere", &rules.everywhere), ("home", &rules.home)] {
        for rule in rules {
            for verb in rule.verbs.iter().filter(|verb| !["get", "list"].contains(&verb.as_str())) {
                writes.insert((place, rule.resources.clone().unwrap()), verb.clone());
            }
            assert!(!rule.resources.iter().flatten().any(|it| it == "secrets" || it == "*"));
        }
    }
    let forward = (("home", vec!["pods/portforward".to_owned()]), "create".to_owned());
    assert_eq!(writes, [forward].into());
    assert_eq!(rules.canary.len(), 1, "{:#?}", rules.canary);
}
