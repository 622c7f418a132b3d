//! The addresses behind the cluster's two Services: `<cluster>` for the leader, `<cluster>-repl`
//! for the replicas.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use pgscale_guard::Seen;
use pgscale_guard::facts::{Facts, Member};
use pgscale_guard::object_ref::Kind;

/// Label that ties an `EndpointSlice` to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Addresses behind both Services.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Services {
    /// Behind `<cluster>`.
    pub(crate) leader: Seen<BTreeSet<String>>,
    /// Behind `<cluster>-repl`.
    pub(crate) replicas: Seen<BTreeSet<String>>,
}

impl Services {
    /// Returns one line for each Service that could not be read.
    pub(crate) fn unchecked(&self, cluster: &str) -> impl Iterator<Item = String> {
        [("", &self.leader), ("-repl", &self.replicas)].into_iter().filter_map(
            move |(what, seen)| {
                seen.unreadable()
                    .map(|why| format!("service {cluster}{what} was not checked: {why}"))
            },
        )
    }
}

/// The addresses that the two Services should lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Behind `<cluster>`: the leader.
    pub(crate) leader: BTreeSet<String>,
    /// Behind `<cluster>-repl`: the other kept members.
    pub(crate) replicas: BTreeSet<String>,
}

/// Returns the addresses that the Services should lead to. `None` where no member leads.
pub(crate) fn wanted(facts: &Facts) -> Option<Wanted> {
    let leader = facts.leader_member()?;
    let address = |member: &Member| member.pod.ip.clone();
    let replicas = facts.survivors().filter(|member| member.name != leader.name);
    Some(Wanted {
        leader: address(leader).into_iter().collect(),
        replicas: replicas.filter_map(address).collect(),
    })
}

/// Returns the addresses behind a Service: none where it does not exist, and `None` where it could
/// not be read.
pub(crate) fn behind(seen: &Seen<BTreeSet<String>>) -> Option<Cow<'_, BTreeSet<String>>> {
    match seen {
        Seen::Known(addresses) => Some(Cow::Borrowed(addresses)),
        Seen::Absent => Some(Cow::Owned(BTreeSet::new())),
        Seen::Unreadable(_) => None,
    }
}

/// Reads both Services.
pub(crate) async fn read(client: &Client, namespace: &str, cluster: &str) -> Services {
    let replicas = format!("{cluster}-repl");
    let (leader, replicas) = futures::join!(
        addresses(client, namespace, cluster),
        addresses(client, namespace, &replicas)
    );
    Services { leader, replicas }
}

/// Returns the addresses that a proxy would balance over: from the slices, or from the Endpoints
/// where there are no slices.
async fn addresses(client: &Client, namespace: &str, service: &str) -> Seen<BTreeSet<String>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let selector = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
    match slices.list(&selector).await {
        Ok(list) if !list.items.is_empty() => Seen::Known(of_slices(&list.items)),
        Ok(_) => of_endpoints(client, namespace, service).await,
        Err(first) => match of_endpoints(client, namespace, service).await {
            Seen::Unreadable(_) => Seen::Unreadable(short(&first, "endpointslices")),
            seen @ (Seen::Absent | Seen::Known(_)) => seen,
        },
    }
}

async fn of_endpoints(client: &Client, namespace: &str, service: &str) -> Seen<BTreeSet<String>> {
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), namespace);
    match endpoints.get_opt(service).await {
        Ok(Some(object)) => Seen::Known(
            object
                .subsets
                .iter()
                .flatten()
                .flat_map(|subset| subset.addresses.iter().flatten())
                .map(|address| address.ip.clone())
                .collect(),
        ),
        Ok(None) => Seen::Absent,
        Err(error) => Seen::Unreadable(short(&error, "endpoints")),
    }
}

/// Returns the ready addresses. An unset condition means ready (discovery/v1 `EndpointConditions`).
fn of_slices(slices: &[EndpointSlice]) -> BTreeSet<String> {
    slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|endpoint| {
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
        })
        .flat_map(|endpoint| endpoint.addresses.iter().cloned())
        .collect()
}

/// Returns the reason of a failed request, in a few words.
pub(crate) fn short(error: &kube::Error, resource: &str) -> String {
    if let kube::Error::Api(status) = error {
        if status.is_forbidden() {
            return format!("may not read {resource}");
        }
        return format!("{resource}: {}", status.message);
    }
    format!("{resource}: {}", crate::error::chain(error))
}

/// Returns the name of the member with this address, or the address where no member has it.
pub(crate) fn name<'a>(facts: &'a Facts, address: &'a str) -> &'a str {
    facts
        .all_members()
        .iter()
        .find(|member| member.pod.ip.as_deref() == Some(address))
        .map_or(address, |member| member.name.as_str())
}

/// Returns the names of the members with these addresses, or the addresses.
pub(crate) fn names(facts: &Facts, addresses: &BTreeSet<String>) -> Vec<String> {
    let mut names: Vec<String> =
        addresses.iter().map(|address| name(facts, address).to_owned()).collect();
    names.sort();
    names
}

/// Reads the replication slots that Patroni tracks on the leader, with the oldest position that
/// each needs.
///
/// They are in the annotation `slots` of the leader object (`_write_leader_optime`,
/// patroni/dcs/kubernetes.py). `Absent` where Patroni writes none.
pub(crate) async fn read_slots(client: &Client, facts: &Facts) -> Seen<BTreeMap<String, u64>> {
    let lock = match &facts.leader {
        Seen::Known(lock) => lock,
        Seen::Absent => return Seen::Absent,
        Seen::Unreadable(why) => return Seen::Unreadable(why.clone()),
    };
    let name = lock.source.name();
    let namespace = &facts.change.new.namespace;
    let annotations = if lock.source.kind == Kind::ConfigMap {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        maps.get_metadata_opt(name).await.map(|found| found.and_then(|it| it.metadata.annotations))
    } else {
        let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), namespace);
        endpoints
            .get_metadata_opt(name)
            .await
            .map(|found| found.and_then(|it| it.metadata.annotations))
    };
    let text = match annotations {
        Ok(annotations) => annotations.and_then(|annotations| annotations.get("slots").cloned()),
        Err(error) => return Seen::Unreadable(short(&error, &lock.source.argument())),
    };
    text.map_or(Seen::Absent, |text| match serde_json::from_str(&text) {
        Ok(slots) => Seen::Known(slots),
        Err(error) => {
            Seen::Unreadable(format!("annotation slots of {} is not JSON: {error}", lock.source))
        }
    })
}

/// Returns the slot of a member (`slot_name_from_member_name`, patroni/dcs/__init__.py): in lower
/// case, with an underscore for each character that a slot's name may not hold.
pub(crate) fn slot_of(member: &str) -> String {
    member
        .to_ascii_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ready_addresses_count() {
        let slice: EndpointSlice = serde_json::from_value(json!({
        "addressType": "IPv4", "metadata": {}, "ports": [], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"]},
        ]}))
        .unwrap();
        let addresses: Vec<String> = of_slices(&[slice]).into_iter().collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.3"]);
    }

    #[test]
    fn slots_are_named_after_members() {
        assert_eq!(slot_of("acid-a-4"), "acid_a_4");
        assert_eq!(slot_of("Acid.B-0"), "acid_b_0");
    }
}
