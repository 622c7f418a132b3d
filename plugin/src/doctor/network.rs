//! Network policies: may the API server reach the webhook, and may the webhook reach the API server
//! and the members?
//!
//! A pod that no policy selects in a direction is open in it. Otherwise one rule of any of them is
//! enough (`NetworkPolicySpec`, networking/v1). The address of the API server is not known here, so
//! a rule that names addresses is taken to cover it, and one that names only pods is not.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pgscale_guard::patroni::PATRONI_PORT;
use pgscale_guard::remedy::Command;
use pgscale_guard::selector::{matches, selects};

use super::{Case, Finding, Object, fails, weakens};

type Labels = BTreeMap<String, String>;

/// The ports on which API servers listen, where their own Service does not say it
/// (`networkPolicy.apiServerPorts` of the chart).
const API_SERVER: &[i32] = &[443, 6443, 8443, 16443];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// The other end of a connection.
enum Peer<'a> {
    /// A process whose address is not known, and that is no pod.
    Outside,
    /// Pods with these labels in a namespace with these labels, which is the policies' own or not.
    Pods { namespace: &'a Labels, pods: &'a Labels, same: bool },
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let Some(all) = case.facts.network.known() else { return Vec::new() };
    let Some(deployment) = case.facts.deployment().known().copied() else { return Vec::new() };
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let none = Labels::new();
    let labels = spec.template.metadata.as_ref().and_then(|it| it.labels.as_ref()).unwrap_or(&none);
    let pod = spec.template.spec.clone().unwrap_or_default();
    // A pod in the network of its node is under no NetworkPolicy.
    if pod.host_network == Some(true) {
        return Vec::new();
    }
    let ports: Vec<(Option<&str>, i32)> = pod
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| (port.name.as_deref(), port.container_port))
        .collect();
    let port = ports.iter().find(|(name, _)| *name == Some("webhook")).map_or(9443, |it| it.1);
    let here = |policy: &&NetworkPolicy| policy.metadata.namespace.as_deref() == Some(case.home);
    let ours: Vec<&NetworkPolicy> = all.iter().filter(here).collect();
    let mut found = Vec::new();
    let (open, by) = allows(&ours, labels, Direction::Ingress, &[port], &ports, &Peer::Outside);
    if !open {
        found.push(
            fails(
                "network-api-server",
                format!(
                    "NetworkPolicies of namespace {} let no review in: the API server cannot \
                     reach port {port} of the webhook",
                    case.home
                ),
            )
            .because(policy_object(case, &by), "spec.ingress", format!("no rule for port {port}"))
            .cured(case.restore()),
        );
    }
    // A NetworkPolicy sees the port of the server, and not that of its Service.
    let slices = case.facts.api_server.known().into_iter().flatten();
    let mut servers: Vec<i32> =
        slices.flat_map(|slice| slice.ports.iter().flatten()).filter_map(|it| it.port).collect();
    if servers.is_empty() {
        servers = API_SERVER.to_vec();
    }
    let (open, by) = allows(&ours, labels, Direction::Egress, &servers, &[], &Peer::Outside);
    if !open {
        found.push(
            fails(
                "network-reads",
                "NetworkPolicies keep the webhook from the API server: it reads nothing, and \
                 refuses every shrink",
            )
            .because(
                policy_object(case, &by),
                "spec.egress",
                "no rule for the port of an API server",
            )
            .cured(case.restore()),
        );
    }
    found.extend(members(case, all, &ours, labels));
    found
}

fn policy_object(case: &Case<'_>, by: &[String]) -> Object {
    Object::within("networkpolicy", case.home, by.join(","))
}

/// Looks at the way from the webhook to Patroni, out of its own namespace and into the others.
fn members(
    case: &Case<'_>,
    all: &[NetworkPolicy],
    ours: &[&NetworkPolicy],
    webhook: &Labels,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let port = i32::from(PATRONI_PORT);
    let home = case.facts.labels_of(case.home);
    let none = Labels::new();
    let home = home.known().unwrap_or(&none);
    let Some(clusters) = case.facts.clusters.known() else { return found };
    let mut said: Vec<&str> = Vec::new();
    for cluster in clusters {
        if said.contains(&cluster.namespace.as_str()) {
            continue;
        }
        said.push(&cluster.namespace);
        let there = case.facts.labels_of(&cluster.namespace);
        let there = there.known().unwrap_or(&none);
        // The labels that the operator gives every member, with its default settings.
        let members = Labels::from([
            ("application".to_owned(), "spilo".to_owned()),
            ("cluster-name".to_owned(), cluster.name.clone()),
        ]);
        let same = cluster.namespace == case.home;
        let to = Peer::Pods { namespace: there, pods: &members, same };
        let (open, by) = allows(ours, webhook, Direction::Egress, &[port], &[], &to);
        if !open {
            found.push(
                fails(
                    "network-patroni-out",
                    format!(
                        "NetworkPolicies of the webhook keep it from the members in namespace {} \
                         (port {port}): it refuses every shrink there",
                        cluster.namespace
                    ),
                )
                .because(
                    policy_object(case, &by),
                    "spec.egress",
                    format!("no rule for port {port}"),
                )
                .cured(case.restore()),
            );
        }
        let theirs: Vec<&NetworkPolicy> = all
            .iter()
            .filter(|one| one.metadata.namespace.as_deref() == Some(cluster.namespace.as_str()))
            .collect();
        let from = Peer::Pods { namespace: home, pods: webhook, same };
        let (open, by) = allows(&theirs, &members, Direction::Ingress, &[port], &[], &from);
        if !open {
            found.push(
                weakens(
                    "network-patroni-in",
                    format!(
                        "NetworkPolicies of namespace {} keep the webhook from the members (port \
                         {port}): it refuses every shrink there",
                        cluster.namespace
                    ),
                )
                .because(
                    Object::within("networkpolicy", &cluster.namespace, by.join(",")),
                    "spec.ingress",
                    format!("no rule for port {port} from namespace {}", case.home),
                )
                .cure_to(
                    "let the namespace of the webhook in",
                    Command::kubectl([
                        "edit",
                        "networkpolicy",
                        by.first().map_or("NAME", String::as_str),
                        "-n",
                        &cluster.namespace,
                    ]),
                ),
            );
        }
    }
    found
}

/// Returns whether pods with these labels are open to the peer in this direction on one of the
/// ports, and the policies that select them.
fn allows(
    policies: &[&NetworkPolicy],
    labels: &Labels,
    direction: Direction,
    ports: &[i32],
    named: &[(Option<&str>, i32)],
    peer: &Peer<'_>,
) -> (bool, Vec<String>) {
    let mut selecting = Vec::new();
    let mut open = false;
    for policy in policies {
        let Some(spec) = &policy.spec else { continue };
        let selected =
            spec.pod_selector.as_ref().is_none_or(|it| selects(it, labels).unwrap_or(true));
        // Without types it is for ingress, and for egress where it has such rules.
        let types = spec.policy_types.as_deref().filter(|types| !types.is_empty());
        let concerned = match (types, direction) {
            (Some(types), Direction::Ingress) => types.iter().any(|it| it == "Ingress"),
            (Some(types), Direction::Egress) => types.iter().any(|it| it == "Egress"),
            (None, Direction::Ingress) => true,
            (None, Direction::Egress) => spec.egress.is_some(),
        };
        if !selected || !concerned {
            continue;
        }
        selecting.push(policy.metadata.name.clone().unwrap_or_default());
        open |= match direction {
            Direction::Ingress => spec.ingress.iter().flatten().any(|rule| {
                covers(rule.ports.as_deref(), ports, named) && admits(rule.from.as_deref(), peer)
            }),
            Direction::Egress => spec.egress.iter().flatten().any(|rule| {
                covers(rule.ports.as_deref(), ports, named) && admits(rule.to.as_deref(), peer)
            }),
        };
    }
    (open || selecting.is_empty(), selecting)
}

fn covers(
    rules: Option<&[NetworkPolicyPort]>,
    ports: &[i32],
    named: &[(Option<&str>, i32)],
) -> bool {
    let Some(rules) = rules.filter(|rules| !rules.is_empty()) else { return true };
    rules.iter().filter(|rule| rule.protocol.as_deref().unwrap_or("TCP") == "TCP").any(|rule| {
        match (&rule.port, rule.end_port) {
            (None, _) => true,
            (Some(IntOrString::Int(first)), last) => {
                ports.iter().any(|port| (*first..=last.unwrap_or(*first)).contains(port))
            }
            (Some(IntOrString::String(name)), _) => {
                let meant = named.iter().find(|(known, _)| *known == Some(name.as_str()));
                // The name of a port of another pod is not known here.
                meant.map_or(named.is_empty(), |(_, port)| ports.contains(port))
            }
        }
    })
}

fn admits(peers: Option<&[NetworkPolicyPeer]>, peer: &Peer<'_>) -> bool {
    let Some(peers) = peers.filter(|peers| !peers.is_empty()) else { return true };
    peers.iter().any(|one| match peer {
        // konnectivity's agents are pods, and so may be what calls for a managed API server.
        Peer::Outside => one.ip_block.is_some() || one.namespace_selector.is_some(),
        Peer::Pods { namespace, pods, same } => {
            if one.ip_block.is_some() {
                return true;
            }
            let there = match &one.namespace_selector {
                Some(selector) => matches(Some(selector), namespace).unwrap_or(true),
                None => *same,
            };
            there && matches(one.pod_selector.as_ref(), pods).unwrap_or(true)
        }
    })
}
