//! Services that do not lead to the right members.

use std::collections::BTreeSet;

use pgscale_guard::Seen;
use pgscale_guard::object_ref::{Kind, ObjectRef};

use super::{Cause, Clues};
use crate::services::{behind, names, wanted};

/// Returns one cause for each Service that leads to a wrong member. Services follow the pods, so
/// this comes after the problems of pods.
pub(super) fn causes(clues: &Clues<'_>) -> Vec<Cause> {
    let facts = clues.facts();
    let Some(wanted) = wanted(facts) else { return Vec::new() };
    let name = &facts.change.new.name;
    let services = &clues.snapshot.services;
    [
        compare(clues, name, &wanted.leader, &services.leader),
        compare(clues, &format!("{name}-repl"), &wanted.replicas, &services.replicas),
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
    let have = behind(seen)?;
    if *want == *have {
        return None;
    }
    let list = |addresses: &BTreeSet<String>| {
        let names = names(clues.facts(), addresses);
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let selector = format!("kubernetes.io/service-name={service}");
    let next = clues.kubectl(&["get", "endpointslices", "-l", &selector, "-o", "yaml"]);
    let what = if have.is_empty() {
        format!("service {service} leads to no member: its clients are not served")
    } else {
        format!("service {service} does not lead where it should")
    };
    let value = format!("{}; wanted: {}", list(&have), list(want));
    let object = ObjectRef::new(Kind::Service, service);
    Some(Cause::new(what, next).because(object, "endpoints", value))
}
