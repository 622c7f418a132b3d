//! The rights the webhook needs and nobody else gets from it: reading what the rules look at, writing
//! Events, and nothing else. No secrets, no exec, no proxy, no write to anything it judges.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pgscale_guard::postgresql::{GROUP, PLURAL};
use serde::Serialize;

use crate::configuration::BREAK_GLASS;

/// Name of the service account and of its role.
pub(crate) const ACCOUNT: &str = "pgscale-webhook";
const BREAK_GLASS_ROLE: &str = "pgscale-break-glass";
const RBAC: &str = "rbac.authorization.k8s.io";

/// One object of the manifest.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Object {
    /// Who the webhook is.
    Account(Box<ServiceAccount>),
    /// Who may do it.
    Binding(Box<ClusterRoleBinding>),
    /// What may be done.
    Role(Box<ClusterRole>),
}

/// Account, role and binding of a webhook in `namespace`, and the way past it for each of
/// `break_glass_users`.
///
/// A user who breaks the glass acts as themselves with one more group. RBAC knows no "themselves": each
/// gets a role that names them, as the right to impersonate any user would be the right to be anyone.
pub(crate) fn manifest(namespace: &str, break_glass_users: &[String]) -> Vec<Object> {
    let account = ServiceAccount {
        metadata: ObjectMeta { namespace: Some(namespace.to_owned()), ..named(ACCOUNT) },
        ..ServiceAccount::default()
    };
    let subject = Subject {
        kind: "ServiceAccount".to_owned(),
        name: ACCOUNT.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Subject::default()
    };
    let mut objects = vec![
        Object::Account(Box::new(account)),
        Object::Role(Box::new(role(ACCOUNT, rights()))),
        Object::Binding(Box::new(binding(ACCOUNT, ACCOUNT, subject))),
        Object::Role(Box::new(role(
            BREAK_GLASS_ROLE,
            vec![impersonate(
                "groups",
                // Who impersonates is no longer a member of anything, not even of the authenticated.
                &[BREAK_GLASS, "system:authenticated"],
            )],
        ))),
    ];
    for user in break_glass_users {
        let own = format!("{BREAK_GLASS_ROLE}:{user}");
        let subject = || Subject {
            kind: "User".to_owned(),
            name: user.clone(),
            api_group: Some(RBAC.to_owned()),
            ..Subject::default()
        };
        objects.push(Object::Role(Box::new(role(&own, vec![impersonate("users", &[user])]))));
        objects.push(Object::Binding(Box::new(binding(&own, &own, subject()))));
        let shared = format!("{own}:group");
        objects.push(Object::Binding(Box::new(binding(&shared, BREAK_GLASS_ROLE, subject()))));
    }
    objects
}

/// Exactly what `pgscale_guard::read` asks for, and the Events.
fn rights() -> Vec<PolicyRule> {
    vec![
        rule(GROUP, &[PLURAL, "operatorconfigurations"], &["get"]),
        rule("pgscale.dev", &["scalepolicies"], &["list"]),
        rule("apps", &["statefulsets"], &["get"]),
        rule("apps", &["deployments"], &["list"]),
        rule("", &["nodes", "endpoints", "configmaps"], &["get"]),
        rule("", &["pods", "persistentvolumeclaims", "resourcequotas", "limitranges"], &["list"]),
        rule("batch", &["cronjobs"], &["get"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

fn impersonate(kind: &str, names: &[&str]) -> PolicyRule {
    let names = names.iter().map(ToString::to_string).collect();
    PolicyRule { resource_names: Some(names), ..rule("", &[kind], &["impersonate"]) }
}

fn role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata: named(name), rules: Some(rules), ..ClusterRole::default() }
}

fn binding(name: &str, role: &str, subject: Subject) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: named(name),
        role_ref: RoleRef {
            api_group: Some(RBAC.to_owned()),
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![subject]),
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(objects: &[Object]) -> impl Iterator<Item = &ClusterRole> {
        objects.iter().filter_map(|object| match object {
            Object::Role(role) => Some(role.as_ref()),
            Object::Account(_) | Object::Binding(_) => None,
        })
    }

    #[test]
    fn the_webhook_reads_and_writes_events_only() {
        let objects = manifest("pgscale", &[]);
        let own = roles(&objects).find(|role| role.metadata.name.as_deref() == Some(ACCOUNT));
        for rule in own.unwrap().rules.as_ref().unwrap() {
            let resources = rule.resources.as_ref().unwrap();
            assert!(!resources.iter().any(|name| name.contains(['/', '*'])), "{resources:?}");
            assert!(!resources.iter().any(|name| name == "secrets"));
            let writes = rule.verbs.iter().any(|verb| verb != "get" && verb != "list");
            assert_eq!(writes, resources == &["events"], "{resources:?}: {:?}", rule.verbs);
        }
    }

    #[test]
    fn breaking_the_glass_makes_nobody_someone_else() {
        let objects = manifest("pgscale", &["jane".into(), "joe".into()]);
        for role in roles(&objects) {
            for rule in role.rules.as_ref().unwrap() {
                if rule.verbs != ["impersonate"] {
                    continue;
                }
                let names = rule.resource_names.as_ref().expect("names whom");
                match rule.resources.as_ref().unwrap()[0].as_str() {
                    "groups" => assert_eq!(names, &[BREAK_GLASS, "system:authenticated"]),
                    "users" => assert_eq!(names.len(), 1),
                    other => panic!("impersonates {other}"),
                }
            }
        }
        let text = crate::documents(&objects).unwrap();
        assert!(text.contains("name: pgscale-break-glass:jane:group\n"), "{text}");
        assert_eq!(text.matches("kind: ClusterRoleBinding").count(), 5);
    }
}
