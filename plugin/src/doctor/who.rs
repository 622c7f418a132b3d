//! Who may pass the guard: by break glass, by the registration, by an override, and by the side
//! doors that no webhook sees.

use std::collections::BTreeSet;

use pgscale_guard::remedy::Command;

use super::policies::several;
use super::rights::{Access, Holder, holders};
use super::shipped::{BREAK_GLASS, BREAK_GLASS_EDIT, BREAK_GLASS_ROLE, NAME};
use super::{Case, Finding, Level, Object, note, weakens};

const fn access<'a>(verb: &'a str, group: &'a str, resource: &'a str) -> Access<'a> {
    Access { verb, group, resource, name: None }
}

const fn named<'a>(name: &'a str, access: Access<'a>) -> Access<'a> {
    Access { name: Some(name), ..access }
}

const REGISTRATIONS: (&str, &str) =
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations");

/// A way past the guard that is a permission.
struct Door {
    /// The id where only named subjects have the permission, and the id where every user has it.
    ids: (&'static str, &'static str),
    /// The weight in the second case.
    open: Level,
    /// What the permission lets one do.
    what: &'static str,
    any: &'static [Access<'static>],
}

const DOORS: &[Door] = &[
    Door {
        ids: ("who-removes-the-registration", "registration-open-to-all"),
        open: Level::Fails,
        what: "may change or delete the registration, and so end the guard",
        any: &[
            named(NAME, access("delete", REGISTRATIONS.0, REGISTRATIONS.1)),
            named(NAME, access("patch", REGISTRATIONS.0, REGISTRATIONS.1)),
            named(NAME, access("update", REGISTRATIONS.0, REGISTRATIONS.1)),
            access("deletecollection", REGISTRATIONS.0, REGISTRATIONS.1),
        ],
    },
    Door {
        ids: ("who-breaks-glass", "break-glass-open-to-all"),
        open: Level::Fails,
        what: "may act in the group of break glass, and so change any count unjudged",
        any: &[named(BREAK_GLASS, access("impersonate", "", "groups"))],
    },
    Door {
        ids: ("who-overrides", "override-open-to-all"),
        open: Level::Weakens,
        what: "may write an override, and so lift rules for one change",
        any: &[access("create", "pgscale.dev", "scaleoverrides")],
    },
    Door {
        ids: ("who-writes-the-platform-policies", "platform-policies-open-to-all"),
        open: Level::Weakens,
        what: "may write a ClusterScalePolicy, and so put the built-in rules on trial",
        any: &[
            access("create", "pgscale.dev", "clusterscalepolicies"),
            access("patch", "pgscale.dev", "clusterscalepolicies"),
            access("update", "pgscale.dev", "clusterscalepolicies"),
            access("delete", "pgscale.dev", "clusterscalepolicies"),
        ],
    },
    Door {
        ids: ("side-door-statefulsets", "side-door-statefulsets-open-to-all"),
        open: Level::Weakens,
        what: "may scale or delete the StatefulSet of a cluster, past the operator: the webhook \
               only warns",
        any: &[
            access("patch", "apps", "statefulsets"),
            access("update", "apps", "statefulsets"),
            access("delete", "apps", "statefulsets"),
            access("patch", "apps", "statefulsets/scale"),
            access("update", "apps", "statefulsets/scale"),
        ],
    },
    Door {
        ids: ("side-door-patroni", "side-door-patroni-open-to-all"),
        open: Level::Weakens,
        what: "may write the Endpoints or ConfigMaps in which Patroni keeps its lock: they can \
               move the leader, or pause the failover",
        any: &[
            access("patch", "", "endpoints"),
            access("update", "", "endpoints"),
            access("delete", "", "endpoints"),
            access("patch", "", "configmaps"),
            access("update", "", "configmaps"),
            access("delete", "", "configmaps"),
        ],
    },
    Door {
        ids: ("side-door-volumes", "side-door-volumes-open-to-all"),
        open: Level::Weakens,
        what: "may delete the claims of a cluster, and its data with them",
        any: &[
            access("delete", "", "persistentvolumeclaims"),
            access("deletecollection", "", "persistentvolumeclaims"),
        ],
    },
    Door {
        ids: ("side-door-clusters", "side-door-clusters-open-to-all"),
        open: Level::Weakens,
        what: "may delete a postgresql: no rule judges a deletion",
        any: &[
            access("delete", "acid.zalan.do", "postgresqls"),
            access("deletecollection", "acid.zalan.do", "postgresqls"),
        ],
    },
    Door {
        ids: ("side-door-pods", "side-door-pods-open-to-all"),
        open: Level::Weakens,
        what: "may delete pods, or run commands in them",
        any: &[
            access("delete", "", "pods"),
            access("create", "", "pods/exec"),
            access("create", "", "pods/eviction"),
        ],
    },
];

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = DOORS.iter().flat_map(|door| opened(case, door)).collect();
    found.extend(break_glass(case));
    found
}

fn binding(holder: &Holder) -> Object {
    let (kind, name) = &holder.by;
    match &holder.within {
        Some(namespace) => Object::within(kind, namespace, name),
        None => Object::global(kind, name),
    }
}

fn edit(holder: &Holder) -> Command {
    let (kind, name) = &holder.by;
    match &holder.within {
        Some(namespace) => Command::kubectl(["edit", kind, name, "-n", namespace]),
        None => Command::kubectl(["edit", kind, name]),
    }
}

fn opened(case: &Case<'_>, door: &Door) -> Vec<Finding> {
    let Some(all) = holders(case.facts, door.any) else { return Vec::new() };
    // The operator and the webhook do what they are for.
    let itself = format!("serviceaccount {}/{}", case.home, super::shipped::WEBHOOK);
    let accounts = case.facts.listed_accounts().unwrap_or_default();
    let accounts: Vec<String> =
        accounts.iter().map(|account| format!("serviceaccount {account}")).collect();
    // What one may do in a namespace without a cluster is no way past the guard.
    let is_of_a_cluster = |namespace: &str| {
        let clusters = case.facts.clusters.known();
        clusters.is_none_or(|all| all.iter().any(|cluster| cluster.namespace == namespace))
    };
    let all: Vec<Holder> = all
        .into_iter()
        .filter(|holder| holder.who != itself && !accounts.contains(&holder.who))
        .filter(|holder| holder.within.as_ref().is_none_or(|namespace| is_of_a_cluster(namespace)))
        .collect();
    let (broad, some): (Vec<Holder>, Vec<Holder>) = all.into_iter().partition(|it| it.broad);
    let mut found = Vec::new();
    for holder in &broad {
        let place =
            holder.within.as_ref().map_or(String::new(), |it| format!(" in namespace {it}"));
        found.push(
            Finding::new(door.open, door.ids.1, format!("{} {}{place}", holder.who, door.what))
                .because(binding(holder), "subjects", &holder.who)
                .cure(edit(holder)),
        );
    }
    let people: BTreeSet<String> = some.iter().map(|holder| holder.who.clone()).collect();
    if let Some(first) = some.first() {
        let people: Vec<String> = people.into_iter().collect();
        let bindings: BTreeSet<String> =
            some.iter().map(|holder| binding(holder).to_string()).collect();
        let bindings: Vec<String> = bindings.into_iter().collect();
        found.push(
            note(door.ids.0, format!("{} {}", several(&people), door.what))
                .because(
                    binding(first),
                    "and all bindings with this permission",
                    several(&bindings),
                )
                .cure_to("to take it from one of them", edit(first)),
        );
    }
    found
}

/// Looks whether break glass would work: a user needs three permissions for it.
fn break_glass(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let enter = [named(BREAK_GLASS, access("impersonate", "", "groups"))];
    let Some(users) = holders(case.facts, &enter) else { return found };
    if users.is_empty() {
        found.push(
            note(
                "break-glass-none",
                "no user may break glass: while the webhook is down or wrong, only an \
                 administrator who removes the registration can shrink a cluster",
            )
            .of(Object::global("clusterrole", BREAK_GLASS_ROLE), "bound to no user")
            .cure_to("name users in the chart", case.upgrade(&["--set=breakGlass.users={USER}"])),
        );
        return found;
    }
    let write = [access("patch", "acid.zalan.do", "postgresqls")];
    let group = format!("group {BREAK_GLASS}");
    let writes = holders(case.facts, &write).unwrap_or_default();
    if !writes.iter().any(|holder| holder.who == group && holder.within.is_none()) {
        found.push(
            weakens(
                "break-glass-powerless",
                format!(
                    "the group {BREAK_GLASS} may not write a postgresql: break glass does not work"
                ),
            )
            .of(
                Object::global("clusterrolebinding", BREAK_GLASS_EDIT),
                "does not let the group patch postgresqls",
            )
            .cured(case.restore()),
        );
    }
    for user in users.iter().filter(|user| !user.broad && !user.who.contains(' ')) {
        let itself = [named(&user.who, access("impersonate", "", "users"))];
        let may = holders(case.facts, &itself).unwrap_or_default();
        if !may.iter().any(|holder| holder.who == user.who) {
            found.push(
                weakens(
                    "break-glass-incomplete",
                    format!(
                        "{0} may act in the group of break glass, and not as {0}: the API server \
                         refuses the command, which names both",
                        user.who
                    ),
                )
                .because(binding(user), "subjects", &user.who)
                .cured(case.restore()),
            );
        }
    }
    found
}

/// Returns the ids of all doors.
#[cfg(test)]
pub(super) fn ids() -> Vec<&'static str> {
    DOORS.iter().flat_map(|door| [door.ids.0, door.ids.1]).collect()
}
