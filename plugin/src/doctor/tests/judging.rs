//! How permissions and network policies are judged, and a Kubernetes cluster without anything.

use std::collections::BTreeMap;

use pgscale_guard::Seen;
use serde_json::{Value, json};

use super::healthy::{HOME, add, edit, healthy};
use super::{diagnose, ids};
use crate::doctor::canary::Canary;
use crate::doctor::facts::Facts;
use crate::doctor::read::hide_where_home_is_unread;
use crate::doctor::rights::{Access, holders};
use crate::doctor::{Level, Verdict};

/// Adds a role with this rule and its binding, in a namespace or everywhere.
fn bind(facts: &mut Facts, namespace: Option<&str>, rule: Value, subject: Value) {
    let (kind, metadata) = match namespace {
        Some(namespace) => ("Role", json!({"name": "extra", "namespace": namespace})),
        None => ("ClusterRole", json!({"name": "extra"})),
    };
    let granted = json!({"metadata": metadata, "rules": [rule]});
    let binding = json!({"metadata": metadata, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "extra"}});
    if namespace.is_some() {
        add(&mut facts.roles, granted);
        add(&mut facts.role_bindings, binding);
    } else {
        add(&mut facts.cluster_roles, granted);
        add(&mut facts.cluster_role_bindings, binding);
    }
}

fn rule(group: &str, resource: &str, verb: &str, names: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb], "resourceNames": names})
}

#[test]
fn a_rule_allows_what_the_api_server_says() {
    let exec = Access { verb: "create", group: "", resource: "pods/exec", name: None };
    let one = Access { name: Some("pgscale.dev"), verb: "delete", group: "a", resource: "b" };
    let jane = || json!({"kind": "User", "name": "jane"});
    for (rule, access, want) in [
        (rule("", "pods/exec", "create", &[]), exec, true),
        (rule("", "pods", "create", &[]), exec, false),
        (rule("", "*/exec", "create", &[]), exec, true),
        (rule("*", "*", "*", &[]), exec, true),
        (rule("apps", "pods/exec", "create", &[]), exec, false),
        (rule("", "pods/exec", "get", &[]), exec, false),
        (rule("", "pods/exec", "create", &["one"]), exec, false),
        (rule("a", "b", "delete", &["pgscale.dev"]), one, true),
        (rule("a", "b", "delete", &["other"]), one, false),
        (rule("a", "b", "delete", &[]), one, true),
    ] {
        let mut facts = healthy();
        bind(&mut facts, None, rule.clone(), jane());
        let found = holders(&facts, &[access]).unwrap();
        assert_eq!(found.iter().any(|holder| holder.who == "jane"), want, "{rule}");
    }
}

#[test]
fn parts_of_kubernetes_and_other_namespaces_are_no_way_past_the_guard() {
    let door = || rule("apps", "statefulsets", "patch", &[]);
    let found = |namespace: Option<&str>, subject: Value| {
        let mut facts = healthy();
        bind(&mut facts, namespace, door(), subject);
        ids(&diagnose(&facts).unwrap()).contains("side-door-statefulsets")
    };
    let account = |namespace: &str| {
        json!({"kind": "ServiceAccount", "name": "a", "namespace":
        namespace})
    };
    assert!(found(None, json!({"kind": "User", "name": "jane"})));
    assert!(found(Some("db"), json!({"kind": "User", "name": "jane"})));
    assert!(!found(Some("web"), json!({"kind": "User", "name": "jane"})), "no cluster is there");
    assert!(!found(None, json!({"kind": "Group", "name": "system:masters"})));
    assert!(!found(None, json!({"kind": "User", "name": "system:kube-controller-manager"})));
    assert!(found(None, account("kube-system")), "its role is none of Kubernetes itself");
    let operator = json!({"kind": "ServiceAccount", "name": "postgres-operator", "namespace":
        "default"});
    assert!(!found(None, operator), "the operator is listed");
}

#[test]
fn a_network_policy_is_judged_by_its_rules() {
    let open = |ingress: Value| {
        let mut facts = healthy();
        edit(&mut facts.network, |all| all[0]["spec"]["ingress"] = ingress);
        !ids(&diagnose(&facts).unwrap()).contains("network-api-server")
    };
    for (ingress, want) in [
        (json!([{}]), true),
        (json!([]), false),
        (json!([{"ports": [{"port": 9443}]}]), true),
        (json!([{"ports": [{"port": "webhook"}]}]), true),
        (json!([{"ports": [{"port": "metrics"}]}]), false),
        (json!([{"ports": [{"port": 9000, "endPort": 9999}]}]), true),
        (json!([{"ports": [{"port": 9000, "endPort": 9100}]}]), false),
        (json!([{"ports": [{"protocol": "UDP", "port": 9443}]}]), false),
        (json!([{"ports": [{"protocol": "TCP"}]}]), true),
        (json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]), true),
        (json!([{"from": [{"podSelector": {}}]}]), false),
        (json!([{"from": [{"namespaceSelector": {}}]}]), true),
    ] {
        assert_eq!(open(ingress.clone()), want, "{ingress}");
    }
    // A second policy opens what the first one leaves closed.
    let mut facts = healthy();
    edit(&mut facts.network, |all| all[0]["spec"]["ingress"] = json!([]));
    add(
        &mut facts.network,
        json!({"metadata": {"name": "more", "namespace": HOME},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}),
    );
    assert!(!ids(&diagnose(&facts).unwrap()).contains("network-api-server"));
}

#[test]
fn pods_in_the_network_of_their_node_are_under_no_network_policy() {
    let mut facts = healthy();
    edit(&mut facts.network, |all| all[0]["spec"]["ingress"] = json!([]));
    super::healthy::deployment(&mut facts, |it| {
        it["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    });
    assert_eq!(ids(&diagnose(&facts).unwrap()), ids(&diagnose(&healthy()).unwrap()));
}

/// Returns a Kubernetes cluster in which nothing of ours is installed.
fn empty() -> Facts {
    let definitions = healthy().definitions.into_keys();
    Facts {
        home: None,
        registration: Seen::Absent,
        fences: Seen::Known(Vec::new()),
        bindings: Seen::Known(Vec::new()),
        deployments: Seen::Known(Vec::new()),
        pods: Seen::Absent,
        service: Seen::Absent,
        slices: Seen::Absent,
        budgets: Seen::Absent,
        quotas: Seen::Absent,
        network: Seen::Known(Vec::new()),
        served: BTreeMap::new(),
        definitions: definitions.map(|name| (name, Seen::Absent)).collect(),
        operator_list: Seen::Absent,
        clusters: Seen::Absent,
        operators: BTreeMap::new(),
        policies: Seen::Absent,
        platform: Seen::Absent,
        overrides: Seen::Absent,
        cluster_roles: Seen::Known(Vec::new()),
        cluster_role_bindings: Seen::Known(Vec::new()),
        roles: Seen::Known(Vec::new()),
        role_bindings: Seen::Known(Vec::new()),
        canary: Canary::NotSent("there is no cluster to try it on".to_owned()),
        ..healthy()
    }
}

#[test]
fn bare_cluster_has_no_guard_and_every_command_can_be_pasted() {
    let found = diagnose(&empty()).unwrap();
    assert_eq!(found.verdict(), Verdict::DoesNotHold);
    let first = found.findings.first().unwrap();
    assert_eq!(first.id, "registration-missing");
    let command = first.remedy.commands.first().unwrap().command.to_string();
    assert_eq!(command, "kubectl pgscale install -n pgscale-system --values=FILE");
}

#[test]
fn nothing_is_fine_where_nothing_could_be_read() {
    fn why<T>() -> Seen<T> {
        Seen::Unreadable("forbidden".to_owned())
    }
    let facts = Facts {
        registration: why(),
        fences: why(),
        bindings: why(),
        deployments: why(),
        namespaces: why(),
        pods: why(),
        service: why(),
        slices: why(),
        api_server: why(),
        budgets: why(),
        quotas: why(),
        priority_classes: why(),
        network: why(),
        definitions: healthy().definitions.into_keys().map(|name| (name, why())).collect(),
        operator_list: why(),
        clusters: why(),
        policies: why(),
        platform: why(),
        overrides: why(),
        autoscalers: why(),
        scaled_objects: why(),
        cluster_roles: why(),
        cluster_role_bindings: why(),
        roles: why(),
        role_bindings: why(),
        ..empty()
    };
    let found = diagnose(&facts).unwrap();
    assert_eq!(found.verdict(), Verdict::CannotBeJudged);
    assert!(found.findings.iter().all(|finding| finding.level == Level::Unread), "{found:#?}");
}

#[test]
fn unread_part_names_a_permission_only_where_one_is_missing() {
    for (why, cure) in [
        ("forbidden", "kubectl auth can-i list pods -A"),
        ("no route to host", "kubectl get pods -A"),
    ] {
        let facts = Facts { pods: Seen::Unreadable(why.to_owned()), ..healthy() };
        let found = diagnose(&facts).unwrap();
        let finding = found.findings.iter().find(|it| it.id == "part-unread").unwrap();
        let commands = finding.remedy.commands.iter().map(|it| it.command.to_string());
        assert_eq!(commands.collect::<Vec<_>>(), [cure], "{why}");
    }
}

/// Where the guard is installed could not be read: neither is a Service missing there, nor can
/// anything be put back.
#[test]
fn nothing_is_missing_in_a_namespace_that_could_not_be_read() {
    let mut facts = Facts { definitions: healthy().definitions, ..empty() };
    facts.registration = Seen::Unreadable("connection refused".to_owned());
    facts.deployments = Seen::Unreadable("connection refused".to_owned());
    hide_where_home_is_unread(&mut facts);
    let found = diagnose(&facts).unwrap();
    let failing: Vec<_> = found.findings.iter().filter(|it| it.level == Level::Fails).collect();
    assert_eq!(failing.len(), 0, "{failing:#?}");
    assert_eq!(found.verdict(), Verdict::CannotBeJudged);
}

#[test]
fn missing_installation_is_found_once() {
    let found = diagnose(&empty()).unwrap();
    let missing: Vec<_> = found.findings.iter().map(|it| it.id).collect();
    for id in ["service-missing", "deployment-missing", "webhook-permission-missing"] {
        assert!(!missing.contains(&id), "{missing:?}");
    }
}
