//! Defects around the installation: operators, policies, autoscalers, and what cannot be read.

use pgscale_guard::Seen;
use pgscale_guard::operator::Operator;
use serde_json::{Value, json};

use super::healthy::{add, edit, operator, remove};
use super::{Case, case, followed};
use crate::doctor::facts::Facts;

/// The number of parts that one case each makes unreadable.
pub(super) const PARTS: usize = 25;

fn known(facts: &mut Facts, change: impl FnOnce(&mut Operator)) {
    let Some(Seen::Known(operator)) = facts.operators.values_mut().next() else {
        panic!("the operator is not known")
    };
    change(operator);
}

fn settle(facts: &mut Facts, operator: Seen<Operator>) {
    facts.operators.insert(("db".to_owned(), String::new()), operator);
}

fn list(facts: &mut Facts, accounts: &str) {
    edit(&mut facts.operator_list, |list| list["data"]["accounts"] = json!(accounts));
}

/// Takes the list away. The registration then exempts no operator.
fn unlist(facts: &mut Facts) {
    facts.operator_list = Seen::Absent;
    super::healthy::entry(facts, "direct-scale.pgscale.dev", |entry| {
        entry["matchConditions"][1]["expression"] =
            json!("!(request.userInfo.?username.orValue('') in [])");
    });
}

fn policy(facts: &mut Facts, spec: Value) {
    add(
        &mut facts.policies,
        json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "limits", "namespace": "db"}, "spec": spec}),
    );
}

fn platform(facts: &mut Facts, spec: Value) {
    add(
        &mut facts.platform,
        json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
        "metadata": {"name": "platform"}, "spec": spec}),
    );
}

fn autoscaler(facts: &mut Facts, kind: &str) {
    add(
        &mut facts.autoscalers,
        json!({"metadata": {"name": "load", "namespace": "db"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"kind": kind, "name": "acid-a"}}}),
    );
}

fn scaled(facts: &mut Facts, kind: &str) {
    facts.scaled_objects =
        Seen::Known(vec![json!({"metadata": {"name": "load", "namespace": "db"},
        "spec": {"scaleTargetRef": {"kind": kind, "name": "acid-a"}}})]);
}

fn why<T>() -> Seen<T> {
    Seen::Unreadable("forbidden".to_owned())
}

pub(super) const CASES: &[Case] = &[
    case("operator-missing", "no list, and no Deployment that looks like an operator", |facts| {
        unlist(facts);
        remove(&mut facts.deployments, "postgres-operator");
    }),
    case("operator-unlisted", "no list beside one operator", unlist),
    case("operator-ambiguous", "no list beside two operators", |facts| {
        unlist(facts);
        add(&mut facts.deployments, operator("ops", "postgres-operator", "postgres-operator"));
    }),
    followed(
        case("operator-list-unreadable", "a list with a line that is no account", |facts| {
            list(facts, "postgres-operator");
        }),
        &["operators-differ"],
    ),
    case("operator-look-alike", "a tenant's Deployment that looks like an operator", |facts| {
        add(&mut facts.deployments, operator("tenant", "postgres-operator", "postgres-operator"));
    }),
    followed(
        case("operator-account-unused", "a listed account under which nothing runs", |facts| {
            list(facts, "default/postgres-operator,ops/gone");
        }),
        &["operators-differ"],
    ),
    case("operator-unknown", "two operators own one cluster", |facts| {
        settle(facts, Seen::Unreadable("both own postgresql db/acid-a".to_owned()));
    }),
    case("operator-absent", "no operator owns a cluster", |facts| settle(facts, Seen::Absent)),
    case("operator-down", "the operator has no available replica", |facts| {
        known(facts, |operator| operator.available = Some(false));
    }),
    case("operator-settings-stale", "the operator's settings edited after its start", |facts| {
        known(facts, |operator| operator.stale_settings = Some(true));
    }),
    case("operator-limits-contradict", "min_instances above max_instances", |facts| {
        known(facts, |operator| {
            operator.settings.min_instances = 5;
            operator.settings.max_instances = 3;
        });
    }),
    case("operator-limits-can-be-lifted", "ignore_instance_limits_annotation_key set", |facts| {
        known(facts, |operator| {
            operator.settings.ignore_limits_annotation = Some("ignore-limits".to_owned());
        });
    }),
    case("policy-unreadable", "a policy with a mode of a newer version", |facts| {
        policy(facts, json!({"mode": "Quarantine"}));
    }),
    case("policy-unreadable", "a policy of the platform with a field of another type", |facts| {
        platform(facts, json!({"instances": {"max": "many"}}));
    }),
    case("policy-rule-unknown", "a policy that weighs a rule that does not exist", |facts| {
        policy(facts, json!({"rules": {"no-such-rule": "Deny"}}));
    }),
    case("policy-selects-nothing", "a policy with a misspelt label", |facts| {
        policy(facts, json!({"clusterSelector": {"matchLabels": {"env": "prdo"}}}));
    }),
    case(
        "policy-selects-nothing",
        "a policy of the platform for namespaces that no cluster is in",
        |facts| {
            platform(facts, json!({"namespaceSelector": {"matchLabels": {"env": "prdo"}}}));
        },
    ),
    case("policies-contradict", "a minimum above the platform's maximum", |facts| {
        policy(facts, json!({"instances": {"min": 5}}));
        platform(facts, json!({"instances": {"max": 3}}));
    }),
    case("policy-beyond-operator", "a minimum above the operator's max_instances", |facts| {
        policy(facts, json!({"instances": {"min": 5}}));
        known(facts, |operator| operator.settings.max_instances = 3);
    }),
    case("calendar-never-opens", "a freeze without an end", |facts| {
        policy(facts, json!({"freeze": {"from": "2026-01-01T00:00:00Z", "directions": ["Down"]}}));
    }),
    case("built-in-on-trial", "builtIn.mode: Warn for everything", |facts| {
        platform(facts, json!({"builtIn": {"mode": "Warn"}}));
    }),
    case("built-in-on-trial", "builtIn.mode: Audit, and no cluster yet", |facts| {
        platform(facts, json!({"builtIn": {"mode": "Audit"}}));
        facts.clusters = Seen::Known(Vec::new());
        facts.operators.clear();
    }),
    case("budget-not-kept", "a budget, and growFailurePolicy: Ignore", |facts| {
        policy(facts, json!({"budget": {"instances": 12}}));
    }),
    case("budget-not-kept", "a budget of the platform", |facts| {
        platform(facts, json!({"budget": {"instances": 12}}));
    }),
    case(
        "autoscaler-on-statefulset",
        "a HorizontalPodAutoscaler on the StatefulSet of a cluster",
        |facts| {
            autoscaler(facts, "StatefulSet");
        },
    ),
    case(
        "autoscaler-on-statefulset",
        "a ScaledObject of KEDA on the StatefulSet of a cluster",
        |facts| {
            scaled(facts, "StatefulSet");
        },
    ),
    case("autoscaler-on-statefulset", "a ScaledObject of KEDA with its own autoscaler", |facts| {
        scaled(facts, "StatefulSet");
        autoscaler(facts, "StatefulSet");
        edit(&mut facts.autoscalers, |all| {
            all[0]["metadata"]["ownerReferences"] = json!([{"apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject", "name": "load", "uid": "u"}]);
        });
    }),
    case("autoscaler-on-postgresql", "a HorizontalPodAutoscaler on a postgresql", |facts| {
        autoscaler(facts, "postgresql");
    }),
    case("autoscaler-on-postgresql", "a ScaledObject of KEDA on a postgresql", |facts| {
        scaled(facts, "postgresql");
    }),
    case("part-unread", "no permission to read the registration", |facts| {
        facts.registration = why();
    }),
    case("part-unread", "no permission to list the admission policies", |facts| {
        facts.fences = why();
    }),
    case("part-unread", "no permission to list their bindings", |facts| facts.bindings = why()),
    case("part-unread", "no permission to list Deployments", |facts| facts.deployments = why()),
    case("part-unread", "no permission to list namespaces", |facts| facts.namespaces = why()),
    case("part-unread", "no permission to list pods", |facts| facts.pods = why()),
    case("part-unread", "no permission to read the Service", |facts| facts.service = why()),
    case("part-unread", "no permission to list its slices", |facts| facts.slices = why()),
    case("part-unread", "no permission to list the API server's slices", |facts| {
        facts.api_server = why();
    }),
    case("part-unread", "no permission to list PodDisruptionBudgets", |facts| {
        facts.budgets = why();
    }),
    case("part-unread", "no permission to list quotas", |facts| facts.quotas = why()),
    case("part-unread", "no permission to list priority classes", |facts| {
        facts.priority_classes = why();
    }),
    case("part-unread", "no permission to list NetworkPolicies", |facts| facts.network = why()),
    followed(
        case("part-unread", "no permission to read the list of operators", |facts| {
            facts.operator_list = why();
        }),
        &["operators-differ"],
    ),
    case("part-unread", "no permission to list clusters", |facts| facts.clusters = why()),
    case("part-unread", "no permission to list policies", |facts| facts.policies = why()),
    case("part-unread", "no permission to list policies of the platform", |facts| {
        facts.platform = why();
    }),
    case("part-unread", "no permission to list overrides", |facts| facts.overrides = why()),
    case("part-unread", "no permission to list autoscalers", |facts| facts.autoscalers = why()),
    case("part-unread", "no permission to list ScaledObjects", |facts| {
        facts.scaled_objects = why();
    }),
    case("part-unread", "no permission to list ClusterRoles", |facts| facts.cluster_roles = why()),
    case("part-unread", "no permission to list ClusterRoleBindings", |facts| {
        facts.cluster_role_bindings = why();
    }),
    case("part-unread", "no permission to list Roles", |facts| facts.roles = why()),
    case("part-unread", "no permission to list RoleBindings", |facts| facts.role_bindings = why()),
    case("part-unread", "no permission to read a definition", |facts| {
        facts.definitions.insert("scalepolicies.pgscale.dev".to_owned(), why());
    }),
];
