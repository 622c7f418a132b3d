//! The roles that the chart has for people give what commands need.

use std::fs;

use serde::Deserialize;

use super::table::{Access, COMMANDS, Parts, Place};

#[derive(Debug, Deserialize)]
struct Role {
    kind: String,
    metadata: Named,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    resource_names: Vec<String>,
}

/// Returns the rules of the chart's cluster roles of these names.
fn rules_of(names: &[&str]) -> Vec<Rule> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/pgscale/files/rbac.yaml");
    let roles: Vec<Role> = serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap();
    let (mut found, mut all) = (0, Vec::new());
    for role in roles {
        if role.kind == "ClusterRole" && names.contains(&role.metadata.name.as_str()) {
            found += 1;
            all.extend(role.rules);
        }
    }
    assert_eq!(found, names.len(), "the chart has all of {names:?}");
    all
}

/// Returns whether the rules give every verb of `access`, for objects of any name.
fn gives(rules: &[Rule], access: &Access) -> bool {
    let resource = if access.subresource.is_empty() {
        access.resource.to_owned()
    } else {
        format!("{}/{}", access.resource, access.subresource)
    };
    access.verbs.iter().all(|verb| {
        rules.iter().any(|rule| {
            rule.resource_names.is_empty()
                && rule.api_groups.iter().any(|group| group == access.group)
                && rule.resources.contains(&resource)
                && rule.verbs.iter().any(|given| given == verb)
        })
    })
}

/// Returns the parts of the work of `command` that the roles do not cover, a role of a namespace
/// or one of all namespaces.
fn lacks(command: &str, here: &[&str], everywhere: &[&str]) -> Vec<String> {
    let (here, everywhere) = (rules_of(here), rules_of(everywhere));
    let parts: Parts = COMMANDS.iter().find(|(name, _)| *name == command).unwrap().1;
    let permissions = parts.iter().copied().flatten();
    let lacking = permissions.filter(|permission| {
        !permission.ways.iter().any(|way| match way.place {
            Place::Namespace => gives(&here, way),
            Place::Everywhere | Place::Operator => gives(&everywhere, way),
            // The chart lets every user read that list.
            Place::Public => true,
        })
    });
    lacking.map(|permission| permission.ways[0].phrase()).collect()
}

const PLATFORM: &[&str] = &["pgscale-platform-reader"];

#[test]
fn scaler_and_reader_of_the_platform_lack_nothing_for_a_change() {
    let same = ["status", "top", "plan", "verify", "wait", "history", "policy"];
    for command in ["up", "down", "set", "undo", "switchover"].into_iter().chain(same) {
        assert_eq!(lacks(command, &["pgscale-scaler"], PLATFORM), [""; 0], "{command}");
    }
}

#[test]
fn reader_lacks_only_the_way_into_a_member() {
    for command in ["status", "top", "plan", "verify", "wait", "history", "policy"] {
        for lack in lacks(command, &["pgscale-reader"], PLATFORM) {
            assert!(lack.contains("pods/exec") || lack.contains("pods/portforward"), "{lack}");
        }
    }
    // A reader writes nothing about a count.
    assert!(!lacks("set", &["pgscale-reader"], PLATFORM).is_empty());
}

#[test]
fn override_needs_its_role_beside_that_of_a_scaler() {
    let scaler: &[&str] = &["pgscale-scaler"];
    assert_eq!(lacks("override", scaler, PLATFORM).len(), 1);
    let both: &[&str] = &["pgscale-scaler", "pgscale-override"];
    assert_eq!(lacks("override", both, PLATFORM), [""; 0]);
}
