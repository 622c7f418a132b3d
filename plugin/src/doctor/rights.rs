//! Permissions by RBAC: who may do what, and what the webhook's account lacks.
//!
//! Roles and bindings are evaluated as the API server does (`RuleAllows` and `VisitRulesFor`,
//! pkg/registry/rbac/validation/rule.go). Another authorizer beside RBAC is not seen here.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use pgscale_guard::Seen;
use pgscale_guard::operator::account::{LIST_NAME, LIST_NAMESPACE};
use pgscale_guard::remedy::Command;

use super::facts::Facts;
use super::policies::several;
use super::shipped::{NAME, WEBHOOK};
use super::{Case, Finding, Object, fails, weakens};

/// One request, as RBAC judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access<'a> {
    pub(super) verb: &'a str,
    pub(super) group: &'a str,
    /// With its subresource.
    pub(super) resource: &'a str,
    /// The name of the object, where one is meant.
    pub(super) name: Option<&'a str>,
}

/// A subject that may do something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    /// `jane`, `group ops` or `serviceaccount ns/name`.
    pub(super) who: String,
    /// Every user, or every account, is in it.
    pub(super) broad: bool,
    /// The kind and the name of the binding.
    pub(super) by: (&'static str, String),
    /// The namespace in which it holds. `None` for all.
    pub(super) within: Option<String>,
}

/// Returns whether `rule` allows the request.
fn allows(rule: &PolicyRule, access: &Access<'_>) -> bool {
    let any = |list: &[String], word: &str| list.iter().any(|one| one == "*" || one == word);
    let below = access.resource.split_once('/').map(|(_, below)| format!("*/{below}"));
    let resources = rule.resources.as_deref().unwrap_or_default();
    let names = rule.resource_names.as_deref().unwrap_or_default();
    any(&rule.verbs, access.verb)
        && any(rule.api_groups.as_deref().unwrap_or_default(), access.group)
        && (any(resources, access.resource)
            || below.is_some_and(|below| resources.contains(&below)))
        && (names.is_empty()
            || access.name.is_some_and(|name| names.iter().any(|listed| listed == name)))
}

/// One binding, of either kind, with the rules of its role.
struct Bound<'a> {
    kind: &'static str,
    name: &'a str,
    within: Option<&'a str>,
    role: &'a str,
    subjects: &'a [Subject],
    rules: &'a [PolicyRule],
}

/// Returns all bindings. `None` where a part could not be read.
fn bound(facts: &Facts) -> Option<Vec<Bound<'_>>> {
    let cluster_roles = facts.cluster_roles.known()?;
    let roles = facts.roles.known()?;
    let of = |role: &RoleRef, namespace: Option<&str>| -> &[PolicyRule] {
        let name = Some(role.name.as_str());
        let found = if role.kind == "ClusterRole" {
            let found = cluster_roles.iter().find(|one| one.metadata.name.as_deref() == name);
            found.and_then(|role| role.rules.as_deref())
        } else {
            let found = roles.iter().find(|one| {
                let place = one.metadata.namespace.as_deref();
                one.metadata.name.as_deref() == name && place == namespace
            });
            found.and_then(|role| role.rules.as_deref())
        };
        found.unwrap_or_default()
    };
    let everywhere = facts.cluster_role_bindings.known()?.iter().map(|binding| Bound {
        kind: "clusterrolebinding",
        name: binding.metadata.name.as_deref().unwrap_or_default(),
        within: None,
        role: &binding.role_ref.name,
        subjects: binding.subjects.as_deref().unwrap_or_default(),
        rules: of(&binding.role_ref, None),
    });
    let within = facts.role_bindings.known()?.iter().map(|binding| {
        let namespace = binding.metadata.namespace.as_deref();
        Bound {
            kind: "rolebinding",
            name: binding.metadata.name.as_deref().unwrap_or_default(),
            within: namespace,
            role: &binding.role_ref.name,
            subjects: binding.subjects.as_deref().unwrap_or_default(),
            rules: of(&binding.role_ref, namespace),
        }
    });
    Some(everywhere.chain(within).collect())
}

/// Returns whether the subject is one that every user, or every account of a kind, is in.
fn is_broad(subject: &Subject) -> bool {
    let name = subject.name.as_str();
    match subject.kind.as_str() {
        "Group" => {
            ["system:authenticated", "system:unauthenticated", "system:serviceaccounts"]
                .contains(&name)
                || name.starts_with("system:serviceaccounts:")
        }
        "User" => name == "system:anonymous",
        _ => false,
    }
}

/// Returns whether the subject is a part of Kubernetes itself, or its first administrator.
fn is_of_kubernetes(subject: &Subject, role: &str) -> bool {
    match subject.kind.as_str() {
        "ServiceAccount" => {
            subject.namespace.as_deref() == Some("kube-system") && role.starts_with("system:")
        }
        _ => subject.name.starts_with("system:") && !is_broad(subject),
    }
}

/// Returns who may do any of these. `None` where roles or bindings could not be read.
pub(super) fn holders(facts: &Facts, any: &[Access<'_>]) -> Option<Vec<Holder>> {
    let mut found = Vec::new();
    for bound in bound(facts)? {
        let granted = any.iter().any(|access| bound.rules.iter().any(|rule| allows(rule, access)));
        if !granted {
            continue;
        }
        for subject in bound.subjects {
            if is_of_kubernetes(subject, bound.role) {
                continue;
            }
            let who = match subject.kind.as_str() {
                "User" => subject.name.clone(),
                "ServiceAccount" => {
                    let namespace = subject.namespace.as_deref().or(bound.within);
                    format!("serviceaccount {}/{}", namespace.unwrap_or_default(), subject.name)
                }
                kind => format!("{} {}", kind.to_lowercase(), subject.name),
            };
            found.push(Holder {
                who,
                broad: is_broad(subject),
                by: (bound.kind, bound.name.to_owned()),
                within: bound.within.map(str::to_owned),
            });
        }
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// Returns whether the webhook's account may do this in `namespace`, or everywhere where that is
/// `None`. `None` where roles or bindings could not be read.
fn webhook_may(case: &Case<'_>, access: &Access<'_>, namespace: Option<&str>) -> Option<bool> {
    let own_group = format!("system:serviceaccounts:{}", case.home);
    let groups = ["system:serviceaccounts", own_group.as_str(), "system:authenticated"];
    let user = format!("system:serviceaccount:{}:{WEBHOOK}", case.home);
    let is_it = |subject: &Subject| match subject.kind.as_str() {
        "ServiceAccount" => {
            subject.name == WEBHOOK && subject.namespace.as_deref() == Some(case.home)
        }
        "Group" => groups.contains(&subject.name.as_str()),
        "User" => subject.name == user,
        _ => false,
    };
    Some(bound(case.facts)?.iter().any(|bound| {
        (bound.within.is_none() || (namespace.is_some() && bound.within == namespace))
            && bound.subjects.iter().any(is_it)
            && bound.rules.iter().any(|rule| allows(rule, access))
    }))
}

/// Requests that the webhook never makes, and that would make it worth taking over.
const EXCESS: &[Access<'static>] = &[
    Access { verb: "update", group: "acid.zalan.do", resource: "postgresqls", name: None },
    Access { verb: "patch", group: "apps", resource: "statefulsets", name: None },
    Access { verb: "create", group: "pgscale.dev", resource: "scaleoverrides", name: None },
    Access { verb: "get", group: "", resource: "secrets", name: None },
    Access { verb: "list", group: "", resource: "secrets", name: None },
    Access { verb: "create", group: "", resource: "pods/exec", name: None },
    Access { verb: "impersonate", group: "", resource: "users", name: None },
    Access {
        verb: "delete",
        group: "admissionregistration.k8s.io",
        resource: "validatingwebhookconfigurations",
        name: Some(NAME),
    },
];

fn spelled(access: &Access<'_>) -> String {
    let (resource, below) = access.resource.split_once('/').unwrap_or((access.resource, ""));
    let group = if access.group.is_empty() { String::new() } else { format!(".{}", access.group) };
    let below = if below.is_empty() { String::new() } else { format!("/{below}") };
    format!("{} {resource}{group}{below}", access.verb)
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    // No account is known that could lack anything.
    if case.facts.home.is_none() {
        return found;
    }
    let account = || Object::within("serviceaccount", case.home, WEBHOOK);
    let mut missing = Vec::new();
    let places = [
        (case.shipped.rules().collect::<Vec<_>>(), None),
        (case.shipped.rules_at_home().collect(), Some(case.home)),
    ];
    for (rules, namespace) in places {
        for rule in rules {
            let names = rule.resource_names.as_deref().unwrap_or_default();
            for verb in &rule.verbs {
                for group in rule.api_groups.iter().flatten() {
                    for resource in rule.resources.iter().flatten() {
                        let name = names.first().map(String::as_str);
                        let access = Access { verb, group, resource, name };
                        if webhook_may(case, &access, namespace) == Some(false) {
                            missing.push(spelled(&access));
                        }
                    }
                }
            }
        }
    }
    if !missing.is_empty() {
        found.push(
            fails(
                "webhook-permission-missing",
                "the account of the webhook lacks permissions: what it cannot read is unknown to \
                 its rules, and every shrink is refused",
            )
            .because(account(), "may not", several(&missing))
            .cured(case.restore())
            .cure_to(
                "see what it may",
                Command::kubectl([
                    "auth",
                    "can-i",
                    "--list",
                    &format!("--as=system:serviceaccount:{}:{WEBHOOK}", case.home),
                ]),
            ),
        );
    }
    let excess: Vec<String> = EXCESS
        .iter()
        .filter(|access| webhook_may(case, access, None) == Some(true))
        .map(spelled)
        .collect();
    if !excess.is_empty() {
        found.push(
            weakens(
                "webhook-permission-excess",
                "the account of the webhook may do more than it needs: a webhook that is taken \
                 over could use it",
            )
            .because(account(), "may", excess.join(", "))
            .cure_to(
                "see by which bindings",
                Command::kubectl(["get", "clusterrolebinding", "-o", "wide"]),
            ),
        );
    }
    found.extend(public_list(case));
    found
}

/// Looks whether every user may read the list of operators' accounts.
fn public_list(case: &Case<'_>) -> Option<Finding> {
    if !matches!(case.facts.operator_list, Seen::Known(_)) {
        return None;
    }
    let access = Access { verb: "get", group: "", resource: "configmaps", name: Some(LIST_NAME) };
    let all = bound(case.facts)?;
    let open = all.iter().any(|bound| {
        bound.within.is_none_or(|namespace| namespace == LIST_NAMESPACE)
            && bound
                .subjects
                .iter()
                .any(|it| it.kind == "Group" && it.name == "system:authenticated")
            && bound.rules.iter().any(|rule| allows(rule, &access))
    });
    (!open).then(|| {
        weakens(
            "operator-list-private",
            "not every user may read the list of operators' accounts: to their plugin the \
             operator is unknown, and it refuses every shrink",
        )
        .of(
            Object::within("rolebinding", LIST_NAMESPACE, LIST_NAME),
            "does not let system:authenticated read it",
        )
        .cured(case.restore())
    })
}
