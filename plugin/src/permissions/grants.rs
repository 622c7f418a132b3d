//! Roles that grant what commands need, made from the table.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::table::{Access, COMMANDS, Permission, Place};
use super::{LIST_NAME, LIST_NAMESPACE};

/// The namespace of the operator in its own manifests.
const OPERATORS: &str = "default";

/// Permissions in one namespace, or in all.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Grant {
    /// In all namespaces, and for kinds that have none.
    Everywhere(ClusterRole),
    /// In one namespace.
    Local(Role),
}

/// The places of the Roles.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Namespaces<'a> {
    /// That of the clusters. `None` leaves it to `kubectl apply`.
    pub(crate) clusters: Option<&'a str>,
    /// That of the operator, where it is known.
    pub(crate) operator: Option<&'a str>,
}

impl Grant {
    /// Returns its kind and its name, as `kubectl` names it.
    pub(crate) fn resource(&self) -> String {
        let (kind, metadata) = match self {
            Self::Everywhere(role) => ("clusterrole", &role.metadata),
            Self::Local(role) => ("role", &role.metadata),
        };
        let name = metadata.name.as_deref().unwrap_or_default();
        format!("{kind}.rbac.authorization.k8s.io/{name}")
    }
}

/// Verbs that change nothing.
const READS: [&str; 2] = ["get", "list"];

/// Returns the names of the commands with permissions.
pub(crate) fn commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().filter(|(_, parts)| !parts.is_empty()).map(|(name, _)| *name)
}

/// Returns the Roles for one command, or for all of them. Empty where the command needs none.
///
/// Of several ways to do the same, the first one is granted. Of several places to read the same from,
/// all are: the cluster decides in which one Patroni or the operator keeps it.
pub(crate) fn grants(command: Option<&str>, namespaces: Namespaces<'_>) -> Vec<Grant> {
    let permissions = COMMANDS
        .iter()
        .filter(|(name, _)| command.is_none_or(|command| *name == command))
        .flat_map(|(_, parts)| parts.iter().copied().flatten());
    let mut rules: Vec<(Place, PolicyRule)> = Vec::new();
    for Permission { ways, .. } in permissions {
        let reads = ways.iter().all(|way| way.verbs.iter().all(|verb| READS.contains(verb)));
        for way in ways.iter().take(if reads { ways.len() } else { 1 }) {
            add(&mut rules, way);
        }
    }
    let base = command.map_or("pgscale".to_owned(), |command| format!("pgscale-{command}"));
    let of = |place: Place| {
        let rules = rules.iter().filter(|(at, _)| *at == place).map(|(_, rule)| rule.clone());
        Some(rules.collect::<Vec<_>>()).filter(|rules| !rules.is_empty())
    };
    let local = |rules, name: String, namespace: Option<&str>| {
        Grant::Local(Role {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: namespace.map(str::to_owned),
                ..ObjectMeta::default()
            },
            rules: Some(rules),
        })
    };
    let everywhere = |rules| {
        Grant::Everywhere(ClusterRole {
            metadata: ObjectMeta { name: Some(base.clone()), ..ObjectMeta::default() },
            rules: Some(rules),
            ..ClusterRole::default()
        })
    };
    let operator = namespaces.operator.unwrap_or(OPERATORS);
    [
        of(Place::Namespace).map(|rules| local(rules, base.clone(), namespaces.clusters)),
        of(Place::Everywhere).map(everywhere),
        of(Place::Operator).map(|rules| local(rules, format!("{base}-operator"), Some(operator))),
        of(Place::Public)
            .map(|rules| local(rules, format!("{base}-accounts"), Some(LIST_NAMESPACE))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Adds an access to the rules of its place: to the rule about the same resource, where there is
/// one.
pub(super) fn add(rules: &mut Vec<(Place, PolicyRule)>, way: &Access) {
    let resource = match way.subresource {
        "" => way.resource.to_owned(),
        below => format!("{}/{below}", way.resource),
    };
    let names = (way.place == Place::Public).then(|| vec![LIST_NAME.to_owned()]);
    let same = rules.iter_mut().find(|(place, rule)| {
        *place == way.place
            && rule.api_groups.iter().flatten().any(|group| group == way.group)
            && rule.resources.iter().flatten().any(|known| *known == resource)
    });
    let Some((_, rule)) = same else {
        let rule = PolicyRule {
            api_groups: Some(vec![way.group.to_owned()]),
            resources: Some(vec![resource]),
            resource_names: names,
            verbs: way.verbs.iter().map(ToString::to_string).collect(),
            ..PolicyRule::default()
        };
        rules.push((way.place, rule));
        return;
    };
    for verb in way.verbs {
        if !rule.verbs.iter().any(|known| known == verb) {
            rule.verbs.push((*verb).to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the Roles of `command` grant every verb of `way`.
    fn granted(command: Option<&str>, way: &Access) -> bool {
        let resource = match way.subresource {
            "" => way.resource.to_owned(),
            below => format!("{}/{below}", way.resource),
        };
        let holds = |rule: &PolicyRule| {
            rule.api_groups.iter().flatten().any(|group| group == way.group)
                && rule.resources.iter().flatten().any(|known| *known == resource)
                && way.verbs.iter().all(|verb| rule.verbs.iter().any(|known| known == verb))
        };
        grants(command, Namespaces::default()).iter().any(|grant| match grant {
            Grant::Everywhere(role) => {
                way.place == Place::Everywhere && role.rules.iter().flatten().any(holds)
            }
            Grant::Local(role) => {
                way.place != Place::Everywhere && role.rules.iter().flatten().any(holds)
            }
        })
    }

    #[test]
    fn printed_roles_grant_what_the_commands_check() {
        for (command, parts) in COMMANDS {
            for permission in parts.iter().copied().flatten() {
                let first = permission.ways.first().unwrap();
                assert!(granted(Some(command), first), "{command}: {first:?}");
                assert!(granted(None, first), "all: {first:?}");
            }
        }
        for command in ["rules", "completion", "rbac"] {
            assert!(grants(Some(command), Namespaces::default()).is_empty(), "{command}");
        }
    }

    #[test]
    fn printed_roles_read_wherever_patroni_and_the_operator_keep_it() {
        let kept = [
            (Place::Namespace, "", "configmaps"),
            (Place::Namespace, "", "endpoints"),
            (Place::Operator, "", "configmaps"),
            (Place::Operator, "acid.zalan.do", "operatorconfigurations"),
        ];
        for (command, parts) in COMMANDS {
            let judges =
                parts.iter().copied().flatten().any(|permission| {
                    permission.ways.iter().any(|way| way.resource == "endpoints")
                });
            for (place, group, resource) in kept.into_iter().filter(|_| judges) {
                let verbs = &["get"];
                let way = Access { verbs, group, resource, subresource: "", place };
                assert!(granted(Some(command), &way), "{command}: {way:?}");
            }
        }
    }

    #[test]
    fn reader_is_granted_no_write_of_a_cluster() {
        for command in ["status", "plan", "wait", "verify", "history", "policy"] {
            let writes = |verb: &&str| ["patch", "update", "delete"].contains(verb);
            for grant in grants(Some(command), Namespaces::default()) {
                let rules = match grant {
                    Grant::Everywhere(role) => role.rules,
                    Grant::Local(role) => role.rules,
                };
                let verbs: Vec<String> =
                    rules.into_iter().flatten().flat_map(|rule| rule.verbs).collect();
                let found = verbs.iter().map(String::as_str).find(|verb| writes(verb));
                assert_eq!(found, None, "{command}");
            }
        }
    }
}
