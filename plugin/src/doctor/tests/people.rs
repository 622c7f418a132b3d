//! Defects of permissions: of the webhook, and of those who may pass the guard.

use serde_json::{Value, json};

use super::healthy::{HOME, add, edit, remove};
use super::{Case, case, followed};
use crate::doctor::facts::Facts;

/// Lets a subject do something in the whole cluster.
fn grant(facts: &mut Facts, subject: Value, group: &str, resources: &[&str], verbs: &[&str]) {
    let rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    add(&mut facts.cluster_roles, json!({"metadata": {"name": "extra"}, "rules": [rule]}));
    add(
        &mut facts.cluster_role_bindings,
        json!({"metadata": {"name": "extra"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name":
            "extra"},
        "subjects": [subject]}),
    );
}

fn everyone() -> Value {
    json!({"kind": "Group", "name": "system:authenticated"})
}

fn ops() -> Value {
    json!({"kind": "Group", "name": "ops"})
}

fn webhook() -> Value {
    json!({"kind": "ServiceAccount", "name": "pgscale-webhook", "namespace": HOME})
}

/// Changes the rules of a role.
fn rules(facts: &mut Facts, name: &str, change: impl FnOnce(&mut Vec<Value>)) {
    edit(&mut facts.cluster_roles, |all| {
        let all = all.as_array_mut().unwrap();
        let one = all.iter_mut().find(|one| one["metadata"]["name"] == name).unwrap();
        change(one["rules"].as_array_mut().unwrap());
    });
}

const REGISTRATIONS: &str = "admissionregistration.k8s.io";

pub(super) const CASES: &[Case] = &[
    case("webhook-permission-missing", "the ClusterRoleBinding of the webhook deleted", |facts| {
        remove(&mut facts.cluster_role_bindings, "pgscale-webhook");
    }),
    case("webhook-permission-missing", "pods taken out of the webhook's ClusterRole", |facts| {
        rules(facts, "pgscale-webhook", |rules| {
            rules.retain(|rule| !rule.to_string().contains("\"pods\""));
        });
    }),
    followed(
        case(
            "webhook-permission-missing",
            "the binding names the account of another namespace",
            |facts| {
                edit(&mut facts.cluster_role_bindings, |all| {
                    let all = all.as_array_mut().unwrap();
                    let one = all
                        .iter_mut()
                        .find(|one| one["metadata"]["name"] == "pgscale-webhook-registration");
                    one.unwrap()["subjects"][0]["namespace"] = json!("elsewhere");
                });
            },
        ),
        &["who-removes-the-registration"],
    ),
    case("webhook-permission-missing", "the RoleBinding for the Secret deleted", |facts| {
        remove(&mut facts.role_bindings, "pgscale-webhook-certificates");
    }),
    case("webhook-permission-excess", "the webhook may write clusters", |facts| {
        grant(facts, webhook(), "acid.zalan.do", &["postgresqls"], &["update"]);
    }),
    case("webhook-permission-excess", "the webhook may do everything", |facts| {
        grant(facts, webhook(), "*", &["*"], &["*"]);
    }),
    case("operator-list-private", "the RoleBinding for the list of operators deleted", |facts| {
        remove(&mut facts.role_bindings, "pgscale-operators");
    }),
    case("who-removes-the-registration", "a group may delete registrations", |facts| {
        grant(facts, ops(), REGISTRATIONS, &["validatingwebhookconfigurations"], &["delete"]);
    }),
    followed(
        case("registration-open-to-all", "every user may delete registrations", |facts| {
            grant(facts, everyone(), REGISTRATIONS, &["*"], &["delete"]);
        }),
        &["webhook-permission-excess"],
    ),
    case("who-breaks-glass", "one break-glass user, as in a healthy installation", |_| {}),
    case("break-glass-open-to-all", "every user may act in every group", |facts| {
        grant(facts, everyone(), "", &["groups"], &["impersonate"]);
    }),
    case("break-glass-none", "no break-glass user", |facts| {
        for name in ["pgscale-break-glass:jane", "pgscale-break-glass:jane:group"] {
            remove(&mut facts.cluster_role_bindings, name);
        }
    }),
    case("break-glass-powerless", "the binding of the break-glass group deleted", |facts| {
        remove(&mut facts.cluster_role_bindings, "pgscale-break-glass-edit");
    }),
    case("break-glass-incomplete", "a break-glass user who may not act as themselves", |facts| {
        remove(&mut facts.cluster_role_bindings, "pgscale-break-glass:jane");
    }),
    case("who-overrides", "a group may write overrides", |facts| {
        grant(facts, ops(), "pgscale.dev", &["scaleoverrides"], &["create"]);
    }),
    followed(
        case("override-open-to-all", "every user may write overrides", |facts| {
            grant(facts, everyone(), "pgscale.dev", &["scaleoverrides"], &["create"]);
        }),
        &["webhook-permission-excess"],
    ),
    case(
        "who-writes-the-platform-policies",
        "a group may write policies of the platform",
        |facts| {
            grant(facts, ops(), "pgscale.dev", &["clusterscalepolicies"], &["patch"]);
        },
    ),
    case(
        "platform-policies-open-to-all",
        "every user may write policies of the platform",
        |facts| {
            grant(facts, everyone(), "pgscale.dev", &["clusterscalepolicies"], &["create"]);
        },
    ),
    case("side-door-statefulsets", "a group may scale StatefulSets", |facts| {
        grant(facts, ops(), "apps", &["statefulsets/scale"], &["patch"]);
    }),
    case(
        "side-door-statefulsets-open-to-all",
        "every account of a namespace may scale StatefulSets",
        |facts| {
            let accounts = json!({"kind": "Group", "name": "system:serviceaccounts:db"});
            grant(facts, accounts, "apps", &["statefulsets"], &["update"]);
        },
    ),
    case("side-door-patroni", "a group may write Endpoints", |facts| {
        grant(facts, ops(), "", &["endpoints"], &["patch"]);
    }),
    case("side-door-patroni-open-to-all", "every user may write ConfigMaps", |facts| {
        grant(facts, everyone(), "", &["configmaps"], &["update"]);
    }),
    case("side-door-volumes", "a group may delete claims", |facts| {
        grant(facts, ops(), "", &["persistentvolumeclaims"], &["delete"]);
    }),
    case("side-door-volumes-open-to-all", "every user may delete claims", |facts| {
        grant(facts, everyone(), "", &["persistentvolumeclaims"], &["delete"]);
    }),
    case("side-door-clusters", "a group may delete clusters", |facts| {
        grant(facts, ops(), "acid.zalan.do", &["postgresqls"], &["delete"]);
    }),
    case("side-door-clusters-open-to-all", "every user may delete clusters", |facts| {
        grant(facts, everyone(), "acid.zalan.do", &["postgresqls"], &["delete"]);
    }),
    case("side-door-pods", "a group may run commands in pods", |facts| {
        grant(facts, ops(), "", &["pods/exec"], &["create"]);
    }),
    case("side-door-pods-open-to-all", "every user may delete pods", |facts| {
        grant(facts, everyone(), "", &["pods"], &["delete"]);
    }),
    followed(
        case("who-removes-the-registration", "a user is bound to cluster-admin", |facts| {
            let user = json!({"kind": "User", "name": "root"});
            grant(facts, user, "*", &["*"], &["*"]);
        }),
        &[
            "side-door-clusters",
            "side-door-patroni",
            "side-door-pods",
            "side-door-statefulsets",
            "side-door-volumes",
            "who-breaks-glass",
            "who-overrides",
            "who-writes-the-platform-policies",
        ],
    ),
];

#[test]
fn every_door_has_cases_for_some_and_for_all() {
    for id in crate::doctor::who::ids() {
        assert!(CASES.iter().any(|case| case.id == id), "{id}");
    }
}
