//! The permissions that the webhook needs, and those of the users who may pass it.
//!
//! The webhook may read the objects that rules look at, and write Events. It may write its own
//! registration, as far as the policy of [`fence`] lets it. A webhook that keeps its own
//! authorities or its own secret path may also write one Secret, by name, and make that Secret
//! again, as far as the policy of [`secret_fence`] lets it. For budgets it writes one object in each
//! namespace that has one, and one label of a cluster, as far as the policy of [`cluster_fence`] lets
//! it. It has no permission for other Secrets, for exec or proxy, or for any other write of an object
//! that it judges.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pgscale_guard::operator::Account;
use pgscale_guard::operator::account::{LIST_NAME, LIST_NAMESPACE};
use pgscale_guard::postgresql::{GROUP, PLURAL};
use serde::Serialize;

use crate::break_glass::{self, BREAK_GLASS};
use crate::{cluster_fence, fence, floor, registration, secret_fence};

mod people;

/// Name of the service account and of its role.
pub(crate) const ACCOUNT: &str = "pgscale-webhook";
/// Name of the role with which the webhook looks after its registration.
const REGISTRATION: &str = "pgscale-webhook-registration";
/// Name of the role with which the webhook keeps its certificates.
const CERTIFICATES: &str = "pgscale-webhook-certificates";
/// The role with which a user may act in the group that passes the webhook.
const BREAK_GLASS_ROLE: &str = "pgscale-break-glass";
/// The role of that group.
const BREAK_GLASS_EDIT: &str = "pgscale-break-glass-edit";
const RBAC: &str = "rbac.authorization.k8s.io";

/// One object of the manifest.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Object {
    /// The account of the webhook.
    Account(Box<ServiceAccount>),
    /// A binding in all namespaces.
    Binding(Box<ClusterRoleBinding>),
    /// A binding in one namespace.
    LocalBinding(Box<RoleBinding>),
    /// Permissions in one namespace.
    LocalRole(Box<Role>),
    /// Permissions in all namespaces.
    Role(Box<ClusterRole>),
    /// A policy of the API server: the floors, the report of break-glass writes, or a fence around what the
    /// webhook writes.
    Policy(Box<ValidatingAdmissionPolicy>),
    /// A binding of such a policy.
    PolicyBinding(Box<ValidatingAdmissionPolicyBinding>),
}

/// Returns account, roles and bindings of a webhook in `namespace`, which keeps its certificates in
/// `certificate_secret`, and the way past it for each of `break_glass_users`.
///
/// A user who breaks the glass acts as themselves in that one group. RBAC has no word for
/// "themselves", so each user gets a role that names them: the permission to impersonate any user
/// would be the permission to be anyone. An impersonated user has none of their groups, and so none
/// of the permissions that come from groups. Therefore the group itself has the permissions to
/// change a count, and a policy of the API server reports each use.
pub(crate) fn manifest(
    namespace: &str,
    certificate_secret: Option<&str>,
    break_glass_users: &[String],
) -> Vec<Object> {
    let account =
        ServiceAccount { metadata: local(namespace, ACCOUNT), ..ServiceAccount::default() };
    let mut objects = vec![
        Object::Account(Box::new(account)),
        Object::Role(Box::new(role(ACCOUNT, permissions()))),
        Object::Binding(Box::new(binding(ACCOUNT, ACCOUNT, itself(namespace)))),
        Object::Role(Box::new(role(REGISTRATION, vec![own_registration()]))),
        Object::Binding(Box::new(binding(REGISTRATION, REGISTRATION, itself(namespace)))),
        Object::Policy(Box::new(fence::policy(namespace, &user(namespace)))),
        Object::PolicyBinding(Box::new(fence::binding(namespace))),
        Object::Policy(Box::new(cluster_fence::policy(&user(namespace)))),
        Object::PolicyBinding(Box::new(cluster_fence::binding())),
    ];
    if let Some(secret) = certificate_secret {
        objects.extend(certificates(namespace, secret));
    }
    objects.extend(operators());
    objects.push(Object::Role(Box::new(role(
        BREAK_GLASS_ROLE,
        vec![impersonate(
            "groups",
            // An impersonated user is in no group that is not named, not even in the authenticated.
            &[BREAK_GLASS, "system:authenticated"],
        )],
    ))));
    objects.push(Object::Role(Box::new(role(BREAK_GLASS_EDIT, break_glass_edit()))));
    let group = Subject {
        kind: "Group".to_owned(),
        name: BREAK_GLASS.to_owned(),
        api_group: Some(RBAC.to_owned()),
        ..Subject::default()
    };
    let edit = binding(BREAK_GLASS_EDIT, BREAK_GLASS_EDIT, group);
    objects.push(Object::Binding(Box::new(edit)));
    objects.push(Object::Policy(Box::new(break_glass::policy())));
    objects.push(Object::PolicyBinding(Box::new(break_glass::binding())));
    for kind in floor::Kind::ALL {
        objects.push(Object::Policy(Box::new(floor::policy(kind))));
        objects.push(Object::PolicyBinding(Box::new(floor::binding(kind))));
    }
    objects.extend(people::roles().into_iter().map(|role| Object::Role(Box::new(role))));
    for user in break_glass_users {
        // The name of an RBAC object must not have a slash.
        let own = format!("{BREAK_GLASS_ROLE}:{}", user.replace('/', ":"));
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

/// Returns the permission of every user to read the list of the operators' accounts. The plugin
/// judges by that list as well, with the permissions of its user.
fn operators() -> [Object; 2] {
    let list = only(LIST_NAME, rule("", &["configmaps"], &["get"]));
    let role = Role { metadata: local(LIST_NAMESPACE, LIST_NAME), rules: Some(vec![list]) };
    let binding = RoleBinding {
        metadata: local(LIST_NAMESPACE, LIST_NAME),
        role_ref: RoleRef { kind: "Role".to_owned(), ..role_ref(LIST_NAME) },
        subjects: Some(vec![Subject {
            kind: "Group".to_owned(),
            name: "system:authenticated".to_owned(),
            api_group: Some(RBAC.to_owned()),
            ..Subject::default()
        }]),
    };
    [Object::LocalRole(Box::new(role)), Object::LocalBinding(Box::new(binding))]
}

/// Returns the permission to change the registration.
///
/// RBAC cannot name a part of an object. The policy of [`fence`] does.
fn own_registration() -> PolicyRule {
    let registration = rule(
        "admissionregistration.k8s.io",
        &["validatingwebhookconfigurations"],
        &["get", "patch"],
    );
    only(registration::NAME, registration)
}

/// Returns the permissions with which the webhook keeps its authorities and its secret path in one
/// Secret.
///
/// RBAC cannot name an object that is to be created. The policy of [`secret_fence`] does.
fn certificates(namespace: &str, secret: &str) -> [Object; 4] {
    let local_role = Role {
        metadata: local(namespace, CERTIFICATES),
        rules: Some(vec![
            only(secret, rule("", &["secrets"], &["get", "patch"])),
            rule("", &["secrets"], &["create"]),
        ]),
    };
    let local_binding = RoleBinding {
        metadata: local(namespace, CERTIFICATES),
        role_ref: RoleRef { kind: "Role".to_owned(), ..role_ref(CERTIFICATES) },
        subjects: Some(vec![itself(namespace)]),
    };
    [
        Object::LocalRole(Box::new(local_role)),
        Object::LocalBinding(Box::new(local_binding)),
        Object::Policy(Box::new(secret_fence::policy(namespace, &user(namespace), secret))),
        Object::PolicyBinding(Box::new(secret_fence::binding())),
    ]
}

/// Returns the permissions for exactly the requests of `pgscale_guard::read`, and for Events.
fn permissions() -> Vec<PolicyRule> {
    vec![
        // The clusters of a namespace with a budget are counted. A patch moves the revision of one, as
        // far as the policy of [`cluster_fence`] lets it.
        rule(GROUP, &[PLURAL], &["get", "list", "patch"]),
        // Growth is reserved there.
        rule("pgscale.dev", &["instanceledgers"], &["get", "list", "create", "update"]),
        // The operators' settings, of which a watch announces changes.
        rule(GROUP, &["operatorconfigurations"], &["get", "list", "watch"]),
        rule(
            "pgscale.dev",
            &["scalepolicies", "clusterscalepolicies", "scaleoverrides"],
            &["list", "watch"],
        ),
        rule("apps", &["statefulsets"], &["get"]),
        rule("apps", &["deployments"], &["get", "list", "watch"]),
        rule("", &["nodes"], &["get"]),
        rule("", &["namespaces"], &["get", "list", "watch"]),
        // Patroni's objects in one list, and by name where their labels are others.
        rule("", &["endpoints"], &["get", "list"]),
        // The operators' settings as well, of which a watch announces changes.
        rule("", &["configmaps"], &["get", "list", "watch"]),
        rule("", &["pods", "persistentvolumeclaims", "resourcequotas", "limitranges"], &["list"]),
        rule("batch", &["cronjobs"], &["get"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// Returns the permissions that `kubectl edit`, `patch`, `replace` and `scale` need, and no more.
///
/// The operator's resource has no `scale` today. Where it is enabled, the webhook judges a write of
/// it, and the group passes.
fn break_glass_edit() -> Vec<PolicyRule> {
    let scale = format!("{PLURAL}/scale");
    vec![rule(GROUP, &[PLURAL, &scale], &["get", "patch", "update"])]
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

fn only(name: &str, rule: PolicyRule) -> PolicyRule {
    PolicyRule { resource_names: Some(vec![name.to_owned()]), ..rule }
}

/// Returns the user of the webhook's service account.
fn user(namespace: &str) -> String {
    Account { namespace: namespace.to_owned(), name: ACCOUNT.to_owned() }.user()
}

/// Returns the webhook's service account as a subject.
fn itself(namespace: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: ACCOUNT.to_owned(),
        namespace: Some(namespace.to_owned()),
        ..Subject::default()
    }
}

fn role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata: named(name), rules: Some(rules), ..ClusterRole::default() }
}

fn binding(name: &str, role: &str, subject: Subject) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: named(name),
        role_ref: role_ref(role),
        subjects: Some(vec![subject]),
    }
}

fn role_ref(role: &str) -> RoleRef {
    RoleRef {
        api_group: Some(RBAC.to_owned()),
        kind: "ClusterRole".to_owned(),
        name: role.to_owned(),
    }
}

fn local(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), ..named(name) }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::documents;

    fn roles(objects: &[Object]) -> impl Iterator<Item = &ClusterRole> {
        objects.iter().filter_map(|object| match object {
            Object::Role(role) => Some(role.as_ref()),
            Object::Account(_)
            | Object::Binding(_)
            | Object::LocalBinding(_)
            | Object::LocalRole(_)
            | Object::Policy(_)
            | Object::PolicyBinding(_) => None,
        })
    }

    #[test]
    fn webhook_writes_nothing_but_events_ledgers_and_a_label_of_clusters() {
        let objects = manifest("pgscale", None, &[]);
        let own = roles(&objects).find(|role| role.metadata.name.as_deref() == Some(ACCOUNT));
        for rule in own.unwrap().rules.as_ref().unwrap() {
            let resources = rule.resources.as_ref().unwrap();
            assert!(!resources.iter().any(|name| name.contains(['/', '*'])), "{resources:?}");
            assert!(!resources.iter().any(|name| name == "secrets"));
            let writes =
                rule.verbs.iter().any(|verb| !["get", "list", "watch"].contains(&verb.as_str()));
            let written = ["events", "instanceledgers", "postgresqls"];
            let may = resources.iter().all(|name| written.contains(&name.as_str()));
            assert_eq!(writes, may, "{resources:?}: {:?}", rule.verbs);
            if resources == &["postgresqls"] {
                assert_eq!(rule.verbs, ["get", "list", "patch"], "the policy is about updates");
            }
        }
    }

    #[test]
    fn patch_of_a_cluster_is_fenced_to_one_label() {
        let policy = serde_json::to_value(cluster_fence::policy("webhook")).unwrap();
        let expression = &policy["spec"]["validations"][0]["expression"];
        assert!(expression.as_str().unwrap().contains("['pgscale.dev/fence']"), "{expression}");
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    }

    #[test]
    fn certificates_are_written_to_named_objects_only() {
        let objects = manifest("pgscale", Some("kept"), &[]);
        let mut rules: Vec<_> = roles(&objects)
            .filter(|role| role.metadata.name.as_deref() == Some(REGISTRATION))
            .flat_map(|role| role.rules.clone().unwrap())
            .collect();
        for object in &objects {
            if let Object::LocalRole(role) = object
                && role.metadata.name.as_deref() != Some(LIST_NAME)
            {
                assert_eq!(role.metadata.namespace.as_deref(), Some("pgscale"));
                rules.extend(role.rules.clone().unwrap());
            }
        }
        let (bound, free): (Vec<_>, Vec<_>) =
            rules.into_iter().partition(|rule| rule.resource_names.is_some());
        let names = bound.iter().map(|rule| rule.resource_names.clone().unwrap().join("+"));
        assert_eq!(names.collect::<Vec<_>>(), ["pgscale.dev", "kept"]);
        assert!(bound.iter().all(|rule| rule.verbs == ["get", "patch"]));
        // RBAC cannot name what does not exist yet.
        assert_eq!(free, [rule("", &["secrets"], &["create"])]);
        let without = documents(&manifest("pgscale", None, &[])).unwrap();
        assert!(!without.contains("secrets") && !without.contains(CERTIFICATES), "{without}");
    }

    #[test]
    fn overrides_are_granted_by_a_role_that_no_user_has_by_default() {
        let objects = manifest("pgscale", None, &["jane".into()]);
        let grants: Vec<_> = roles(&objects)
            .filter(|role| {
                let mut rules = role.rules.iter().flatten();
                rules.any(|rule| {
                    rule.verbs.iter().any(|verb| verb == "create")
                        && rule.resources.as_ref().unwrap()[0] == "scaleoverrides"
                })
            })
            .filter_map(|role| role.metadata.name.as_deref())
            .collect();
        assert_eq!(grants, [people::OVERRIDE]);
        let bound = objects.iter().any(|object| match object {
            Object::Binding(binding) => binding.role_ref.name == people::OVERRIDE,
            Object::Account(_)
            | Object::LocalBinding(_)
            | Object::LocalRole(_)
            | Object::Role(_)
            | Object::Policy(_)
            | Object::PolicyBinding(_) => false,
        });
        assert!(!bound);
    }

    #[test]
    fn breaking_the_glass_lets_a_user_act_as_themselves_only() {
        let objects = manifest("pgscale", None, &["jane".into(), "joe".into()]);
        for role in roles(&objects) {
            for rule in role.rules.as_ref().unwrap() {
                if rule.verbs != ["impersonate"] {
                    continue;
                }
                let names = rule.resource_names.as_ref().expect("names the user");
                match rule.resources.as_ref().unwrap()[0].as_str() {
                    "groups" => assert_eq!(names, &[BREAK_GLASS, "system:authenticated"]),
                    "users" => assert_eq!(names.len(), 1),
                    other => panic!("impersonates {other}"),
                }
            }
        }
        let text = documents(&objects).unwrap();
        assert!(text.contains("name: pgscale-break-glass:jane:group\n"), "{text}");
        assert_eq!(text.matches("kind: ClusterRoleBinding").count(), 7);
        let arn = "arn:aws:iam::123456789012:user/jane";
        let text = documents(&manifest("pgscale", None, &[arn.to_owned()])).unwrap();
        assert!(text.contains("name: pgscale-break-glass:arn:aws:iam::123456789012:user:jane\n"));
        assert!(text.contains(&format!("  name: {arn}\n")), "{text}");
    }

    #[test]
    fn breaking_the_glass_needs_no_permission_from_another_group() {
        let objects = manifest("pgscale", None, &["jane".into()]);
        let bound: Vec<_> = objects
            .iter()
            .filter_map(|object| if let Object::Binding(it) = object { Some(it) } else { None })
            .filter(|binding| {
                let mut subjects = binding.subjects.iter().flatten();
                subjects.any(|it| it.kind == "Group" && it.name == BREAK_GLASS)
            })
            .collect();
        assert_eq!(bound.len(), 1, "{bound:?}");
        assert_eq!(bound[0].subjects.as_ref().unwrap().len(), 1);
        let role_of = |name: &str| {
            let mut all = roles(&objects);
            all.find(|role| role.metadata.name.as_deref() == Some(name)).unwrap()
        };
        let rules = role_of(&bound[0].role_ref.name).rules.as_ref().unwrap();
        assert_eq!(rules.len(), 1, "{rules:?}");
        assert_eq!(rules[0].api_groups.as_ref().unwrap(), &["acid.zalan.do"]);
        assert_eq!(rules[0].resources.as_ref().unwrap(), &["postgresqls", "postgresqls/scale"]);
        assert_eq!(rules[0].verbs, ["get", "patch", "update"]);
        assert!(
            objects.iter().any(|object| matches!(object, Object::Policy(_))),
            "its use is reported"
        );
        assert!(objects.iter().any(|object| matches!(object, Object::PolicyBinding(_))));
    }
}
