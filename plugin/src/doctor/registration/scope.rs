//! The scope of the registration: the namespaces that its entries select, and its owner.

use std::cmp::Reverse;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhook, ValidatingWebhookConfiguration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pgscale_guard::remedy::Command;
use pgscale_guard::selector::{matches, matches_all};
use serde_json::json;

use super::super::shipped::NAME;
use super::super::{Case, Finding, fails, weakens};
use super::{DIRECT, logs, object, plain, selector, set};

/// Returns the entries that select other namespaces than most, and the clusters that are left out.
pub(super) fn exempt(case: &Case<'_>, entries: &[ValidatingWebhook]) -> Vec<Finding> {
    let mut found = Vec::new();
    let weighty: Vec<(usize, &ValidatingWebhook)> =
        entries.iter().enumerate().filter(|(_, entry)| entry.name != DIRECT).collect();
    let alike = |entry: &ValidatingWebhook| {
        let selector = entry.namespace_selector.as_ref();
        let same = |(_, other): &&(usize, &ValidatingWebhook)| {
            same(selector, other.namespace_selector.as_ref())
        };
        weighty.iter().filter(same).count()
    };
    let usual = weighty.iter().max_by_key(|(at, entry)| (alike(entry), Reverse(*at)));
    let Some((_, usual)) = usual else { return found };
    let usual = usual.namespace_selector.as_ref();
    for (at, entry) in &weighty {
        let (at, name) = (*at, entry.name.as_str());
        let own = entry.namespace_selector.as_ref();
        let field = format!("webhooks[{name}].namespaceSelector");
        if !same(usual, own) {
            let wanted = usual.and_then(plain).unwrap_or_else(|| json!({}));
            found.push(
                fails(
                    "selectors-differ",
                    format!(
                        "the entry {name} selects other namespaces than the other entries: a \
                         change in one direction is judged where one in the other is not"
                    ),
                )
                .because(object(), &field, selector(own))
                .cure(set(at, name, "namespaceSelector", Some(wanted))),
            );
        }
        for namespace in left_out(case, own) {
            let finding = fails(
                "namespace-exempt",
                format!(
                    "the clusters of namespace {namespace} are not guarded: the entry {name} does \
                     not select it"
                ),
            )
            .because(object(), &field, selector(own));
            let label = own.and_then(|it| it.match_labels.as_ref()?.iter().next());
            found.push(match label {
                Some((key, value)) => finding.cure(Command::kubectl([
                    "label",
                    "namespace",
                    namespace,
                    &format!("{key}={value}"),
                    "--overwrite",
                ])),
                None => finding.cure_to(
                    "guard every namespace (and take namespaceSelector out of the values)",
                    set(at, name, "namespaceSelector", Some(json!({}))),
                ),
            });
        }
    }
    found
}

/// Returns the namespaces with a cluster that a selector does not select.
fn left_out<'a>(case: &Case<'a>, selector: Option<&LabelSelector>) -> Vec<&'a str> {
    let clusters = case.facts.clusters.known().map(Vec::as_slice).unwrap_or_default();
    let mut outside: Vec<&str> = clusters
        .iter()
        .map(|cluster| cluster.namespace.as_str())
        .filter(|namespace| {
            let labels = case.facts.labels_of(namespace);
            labels.known().is_some_and(|labels| !matches(selector, labels).unwrap_or(true))
        })
        .collect();
    outside.sort_unstable();
    outside.dedup();
    outside
}

fn same(one: Option<&LabelSelector>, other: Option<&LabelSelector>) -> bool {
    one == other || (matches_all(one) && matches_all(other))
}

/// Looks at the owner: the garbage collector deletes a registration whose owner is gone.
pub(super) fn owner(case: &Case<'_>, live: &ValidatingWebhookConfiguration) -> Vec<Finding> {
    let Some(namespaces) = case.facts.namespaces.known() else { return Vec::new() };
    let owners = live.metadata.owner_references.as_deref().unwrap_or_default();
    let owned = owners.iter().filter(|owner| owner.kind == "Namespace" && owner.name == case.home);
    let mut found = Vec::new();
    for owner in owned.clone() {
        let home = namespaces.iter().find(|one| one.metadata.name.as_deref() == Some(&owner.name));
        let uid = home.and_then(|home| home.metadata.uid.as_deref());
        if uid != Some(owner.uid.as_str()) {
            found.push(
                fails(
                    "owner-gone",
                    "the registration is owned by a Namespace that does not exist any more: \
                     Kubernetes deletes the registration, and then every change passes unjudged",
                )
                .because(object(), "metadata.ownerReferences.uid", &owner.uid)
                .cure(Command::kubectl([
                    "patch",
                    "validatingwebhookconfiguration",
                    NAME,
                    "--type=merge",
                    "-p",
                    "{\"metadata\":{\"ownerReferences\":null}}",
                ])),
            );
        }
    }
    if owned.count() == 0 {
        found.push(
            weakens(
                "owner-missing",
                "the registration has no owner: when its Namespace is deleted it stays, and then \
                 every shrink is refused. The webhook writes the owner itself within a minute",
            )
            .because(object(), "metadata.ownerReferences", "no Namespace")
            .cure_to("see why no replica writes it", logs(case.home)),
        );
    }
    found
}
