//! The roles for people. Nothing here binds them: the platform gives each to whom it trusts with it.
//!
//! A role without "platform" in its name is meant for a binding in the namespace of the clusters. A
//! role with it is about what has no namespace, or is in the operator's, and needs a binding in all
//! namespaces.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use pgscale_guard::postgresql::{GROUP, PLURAL};

use super::{role, rule};

/// The role of users who look at clusters, and change nothing.
const READER: &str = "pgscale-reader";
/// The role of users who change counts.
const SCALER: &str = "pgscale-scaler";
/// The role of users who write the policies of a namespace.
const POLICY_EDITOR: &str = "pgscale-policy-editor";
/// The role of users who look at what clusters of all namespaces share.
const PLATFORM_READER: &str = "pgscale-platform-reader";
/// The role of users who write policies for all namespaces.
const PLATFORM_POLICY_EDITOR: &str = "pgscale-platform-policy-editor";
/// The role of users who may allow a change in spite of the rules.
pub(super) const OVERRIDE: &str = "pgscale-override";

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];

/// Returns all roles for people but those of break glass.
///
/// The label of a reader lets Kubernetes' own role `view` take the permissions up, that of an editor
/// of policies `admin`. The count and an override are given by name only.
pub(super) fn roles() -> Vec<ClusterRole> {
    let policies = rule("pgscale.dev", &["scalepolicies"], &WRITE);
    let platform = rule("pgscale.dev", &["clusterscalepolicies"], &WRITE);
    let overrides =
        rule("pgscale.dev", &["scaleoverrides"], &["create", "delete", "get", "list", "watch"]);
    vec![
        aggregated("view", role(READER, reads())),
        role(SCALER, [reads(), changes()].concat()),
        aggregated("admin", role(POLICY_EDITOR, vec![policies])),
        role(PLATFORM_READER, shared()),
        role(PLATFORM_POLICY_EDITOR, vec![platform]),
        role(OVERRIDE, vec![overrides]),
    ]
}

/// Returns the permissions for the reads of the plugin in one namespace. None of them reaches into a
/// member, so the plugin does not know the members' WAL positions by them.
fn reads() -> Vec<PolicyRule> {
    vec![
        rule(GROUP, &[PLURAL], &READ),
        rule("pgscale.dev", &["instanceledgers", "scalepolicies", "scaleoverrides"], &READ),
        rule("apps", &["statefulsets"], &READ),
        rule(
            "",
            &[
                "configmaps",
                "endpoints",
                "events",
                "limitranges",
                "persistentvolumeclaims",
                "pods",
                "resourcequotas",
                "services",
            ],
            &READ,
        ),
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        rule("policy", &["poddisruptionbudgets"], &READ),
        rule("batch", &["cronjobs"], &READ),
        // CPU and memory of members.
        rule("metrics.k8s.io", &["pods"], &["get", "list"]),
        // The labels of the namespace itself.
        rule("", &["namespaces"], &["get"]),
    ]
}

/// Returns the permissions for a change of a count beside those of [`reads`]: the write, the way to
/// the members and into them, and what the plugin writes about it.
///
/// A stream begins as a GET, and Kubernetes 1.35 and later ask for `create` as well.
fn changes() -> Vec<PolicyRule> {
    vec![
        rule(GROUP, &[PLURAL], &["patch", "update"]),
        rule("", &["pods/exec", "pods/portforward"], &["get", "create"]),
        rule("", &["pods/log"], &["get"]),
        rule("", &["configmaps"], &["create", "patch"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// Returns the permissions to read what has no namespace, and the operators' Deployments.
fn shared() -> Vec<PolicyRule> {
    vec![
        rule("pgscale.dev", &["clusterscalepolicies"], &READ),
        rule("", &["namespaces", "nodes"], &READ),
        rule("apps", &["deployments"], &READ),
        rule(GROUP, &["operatorconfigurations"], &["get"]),
    ]
}

/// Returns the role with the label by which Kubernetes' own role `into` takes its permissions up.
fn aggregated(into: &str, role: ClusterRole) -> ClusterRole {
    let label = format!("rbac.authorization.k8s.io/aggregate-to-{into}");
    let mut role = role;
    role.metadata.labels = Some([(label, "true".to_owned())].into());
    role
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the writes of a role: each verb that is no read, with its resource.
    fn writes(role: &ClusterRole) -> Vec<String> {
        let rules = role.rules.iter().flatten();
        rules
            .flat_map(|rule| {
                let verbs = rule.verbs.iter().filter(|verb| !READ.contains(&verb.as_str()));
                verbs.flat_map(|verb| {
                    let resources = rule.resources.iter().flatten();
                    resources.map(move |resource| format!("{verb} {resource}"))
                })
            })
            .collect()
    }

    #[test]
    fn readers_change_nothing_and_reach_into_no_member() {
        for role in roles() {
            let name = role.metadata.name.clone().unwrap();
            if name.ends_with("-reader") {
                assert_eq!(writes(&role), [""; 0], "{name}");
                let rules = role.rules.iter().flatten();
                let resources = rules.flat_map(|rule| rule.resources.iter().flatten());
                let inside = resources.filter(|it| it.contains(['/', '*']) || *it == "secrets");
                assert_eq!(inside.count(), 0, "{name}");
            }
        }
    }

    #[test]
    fn no_role_of_kubernetes_takes_up_a_write_of_counts_or_overrides() {
        for role in roles() {
            let name = role.metadata.name.clone().unwrap();
            if role.metadata.labels.is_none() {
                continue;
            }
            assert!([READER, POLICY_EDITOR].contains(&name.as_str()), "{name}");
            for write in writes(&role) {
                assert!(write.ends_with(" scalepolicies"), "{name}: {write}");
            }
        }
    }

    #[test]
    fn policies_of_the_platform_are_written_by_one_role_only() {
        let editors: Vec<_> = roles()
            .into_iter()
            .filter(|role| writes(role).iter().any(|it| it.ends_with(" clusterscalepolicies")))
            .filter_map(|role| role.metadata.name)
            .collect();
        assert_eq!(editors, [PLATFORM_POLICY_EDITOR]);
    }
}
