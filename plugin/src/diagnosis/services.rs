//! Services that do not lead to the right members.

use std::collections::BTreeSet;

use pgscale_guard::Seen;
use pgscale_guard::facts::Member;
use pgscale_guard::object_ref::{Kind, ObjectRef};

use super::{Cause, Clues};
use crate::services::names;

/// Returns one cause for each Service that leads to a wrong member. Services follow the pods, so
/// this comes after the problems of pods.
pub(super) fn causes(clues: &Clues<'_>) -> Vec<Cause> {
    let facts = clues.facts();
    let Some(leader) = facts.leader_member() else { return Vec::new() };
    let address = |member: &Member| member.pod.ip.clone();
    let primary = address(leader).into_iter().collect();
    let standbys =
        facts.survivors().filter(|member| member.name != leader.name).filter_map(address).collect();
    let name = &facts.change.new.name;
    let services = &clues.snapshot.services;
    [
        compare(clues, name, &primary, &services.leader),
        compare(clues, &format!("{name}-repl"), &standbys, &services.replicas),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn compare(
    clues: &Clues<'_>,
    service: &str,
    want: &BTreeSet<String>,
    seen: &Seen<BTreeSet<String>>,
) -> Option<Cause> {
    let nobody = BTreeSet::new();
    let have = match seen {
        Seen::Known(have) => have,
        Seen::Absent => &nobody,
        Seen::Unreadable(_) => return None,
    };
    if want == have {
        return None;
    }
    let list = |addresses: &BTreeSet<String>| {
        let names = names(clues.facts(), addresses);
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let selector = format!("kubernetes.io/service-name={service}");
    let next = clues.kubectl(&["get", "endpointslices", "-l", &selector, "-o", "yaml"]);
    let what = format!("service {service} does not lead where it should");
    let value = format!("{}; wanted: {}", list(have), list(want));
    let object = ObjectRef::new(Kind::Service, service);
    Some(Cause::new(what, next).because(object, "endpoints", value))
}
