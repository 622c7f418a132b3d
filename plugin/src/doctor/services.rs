//! The way from the API server to the replicas: the Service and its endpoints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pgscale_guard::Seen;
use pgscale_guard::remedy::Command;

use super::registration::logs;
use super::shipped::WEBHOOK;
use super::{Case, Finding, Object, fails};

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let object = || Object::within("service", case.home, WEBHOOK);
    match &case.facts.service {
        Seen::Unreadable(_) => {}
        // Nothing is installed: the missing registration says so.
        Seen::Absent if case.facts.home.is_none() => {}
        Seen::Absent => found.push(
            fails(
                "service-missing",
                "there is no Service of the webhook: the API server reaches no replica, refuses \
                 every shrink, and lets growth pass unjudged",
            )
            .of(object(), "not there")
            .cured(case.restore()),
        ),
        Seen::Known(service) => found.extend(service_leads_elsewhere(case, service)),
    }
    found.extend(endpoints(case));
    found
}

fn service_leads_elsewhere(case: &Case<'_>, service: &Service) -> Vec<Finding> {
    let object = || Object::within("service", case.home, WEBHOOK);
    let mut found = Vec::new();
    let Some(spec) = &service.spec else { return found };
    let Some(deployment) = case.facts.deployment().known().copied() else { return found };
    let Some(template) = deployment.spec.as_ref().map(|spec| &spec.template) else { return found };
    let none = BTreeMap::new();
    let labels = template.metadata.as_ref().and_then(|it| it.labels.as_ref()).unwrap_or(&none);
    let selector = spec.selector.as_ref().unwrap_or(&none);
    let other = selector.iter().find(|(key, value)| labels.get(*key) != Some(*value));
    if selector.is_empty() || other.is_some() {
        let shown: Vec<String> =
            selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(",") };
        found.push(
            fails(
                "service-selector",
                "the Service of the webhook does not select its pods: the reviews go elsewhere, \
                 or nowhere",
            )
            .because(object(), "spec.selector", shown)
            .cured(case.restore()),
        );
    }
    let ports: Vec<_> = template
        .spec
        .iter()
        .flat_map(|pod| &pod.containers)
        .flat_map(|container| container.ports.iter().flatten())
        .collect();
    for port in spec.ports.iter().flatten() {
        let there = match &port.target_port {
            None => ports.iter().any(|it| it.container_port == port.port),
            Some(IntOrString::Int(number)) => ports.iter().any(|it| it.container_port == *number),
            Some(IntOrString::String(name)) => {
                ports.iter().any(|it| it.name.as_deref() == Some(name.as_str()))
            }
        };
        if !there {
            let target = match &port.target_port {
                None => port.port.to_string(),
                Some(IntOrString::Int(number)) => number.to_string(),
                Some(IntOrString::String(name)) => name.clone(),
            };
            found.push(
                fails(
                    "service-target",
                    "the Service of the webhook leads to a port on which no container listens",
                )
                .because(object(), "spec.ports.targetPort", target)
                .cured(case.restore()),
            );
        }
    }
    found
}

fn endpoints(case: &Case<'_>) -> Vec<Finding> {
    let Some(slices) = case.facts.slices.known() else { return Vec::new() };
    if case.facts.service.known().is_none() {
        return Vec::new();
    }
    let object = || Object::within("endpointslices", case.home, WEBHOOK);
    let ready: Vec<_> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            // A missing condition counts as ready (EndpointConditions, discovery/v1).
            conditions.ready.unwrap_or(true)
        })
        .collect();
    let mut found = Vec::new();
    if ready.is_empty() {
        found.push(
            fails(
                "no-endpoint",
                "the Service of the webhook has no ready endpoint: the API server refuses every \
                 shrink, and lets growth pass unjudged",
            )
            .because(object(), "endpoints", "none is ready")
            .cure_to("see why no replica is ready", logs(case.home)),
        );
    }
    let replicas: Vec<&str> = case
        .facts
        .replicas()
        .iter()
        .filter_map(|pod: &&Pod| pod.metadata.name.as_deref())
        .collect();
    // Without the list of the pods, nothing is known about them.
    if case.facts.pods.known().is_none() || case.facts.deployment().known().is_none() {
        return found;
    }
    for endpoint in &ready {
        let target = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
        if target.is_some_and(|target| replicas.contains(&target)) {
            continue;
        }
        let shown = target.map_or_else(|| endpoint.addresses.join(","), str::to_owned);
        found.push(
            fails(
                "endpoint-foreign",
                "the Service of the webhook leads to a process that is none of its replicas: it \
                 may answer reviews",
            )
            .because(object(), "endpoints", &shown)
            .cure_to(
                "see what it is, and who wrote the slice",
                Command::kubectl([
                    "get",
                    "endpointslices",
                    "-n",
                    case.home,
                    "-l",
                    &format!("kubernetes.io/service-name={WEBHOOK}"),
                    "-o",
                    "yaml",
                ]),
            ),
        );
    }
    found
}
