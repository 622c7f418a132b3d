//! The parts that could not be read. None of them is taken as fine.

use pgscale_guard::Seen;
use pgscale_guard::remedy::Command;

use super::{Case, Finding, Level, Object};

/// One part of the facts.
struct Part {
    /// The verb and the resource that `kubectl auth can-i` tests.
    verb: &'static str,
    resource: &'static str,
    /// What is unknown without it.
    unknown: &'static str,
    why: Option<String>,
}

fn part<T>(
    seen: &Seen<T>,
    verb: &'static str,
    resource: &'static str,
    unknown: &'static str,
) -> Part {
    Part { verb, resource, unknown, why: seen.unreadable().map(str::to_owned) }
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let policies = "which policies hold, and whether they can be carried out";
    let rights = "who may pass the guard, and what the webhook may read";
    let mut parts = vec![
        part(
            &facts.registration,
            "get",
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            "whether the API server asks the webhook at all",
        ),
        part(
            &facts.fences,
            "list",
            "validatingadmissionpolicies.admissionregistration.k8s.io",
            "whether the fences stand",
        ),
        part(
            &facts.bindings,
            "list",
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            "whether the fences stand",
        ),
        part(
            &facts.deployments,
            "list",
            "deployments.apps",
            "whether the webhook runs, and who the operator is",
        ),
        part(&facts.namespaces, "list", "namespaces", "which namespaces the registration selects"),
        part(&facts.pods, "list", "pods", "which replicas answer"),
        part(&facts.service, "get", "services", "whether the API server reaches the webhook"),
        part(&facts.slices, "list", "endpointslices.discovery.k8s.io", "which replicas answer"),
        part(
            &facts.api_server,
            "list",
            "endpointslices.discovery.k8s.io",
            "on which port the API server listens",
        ),
        part(
            &facts.budgets,
            "list",
            "poddisruptionbudgets.policy",
            "whether a drain may stop every replica",
        ),
        part(&facts.quotas, "list", "resourcequotas", "whether a new replica has room"),
        part(
            &facts.priority_classes,
            "list",
            "priorityclasses.scheduling.k8s.io",
            "whether a new replica may start",
        ),
        part(
            &facts.network,
            "list",
            "networkpolicies.networking.k8s.io",
            "whether a network policy cuts the webhook off",
        ),
        part(&facts.operator_list, "get", "configmaps", "which accounts are operators"),
        part(&facts.clusters, "list", "postgresqls.acid.zalan.do", "which clusters there are"),
        part(&facts.policies, "list", "scalepolicies.pgscale.dev", policies),
        part(&facts.platform, "list", "clusterscalepolicies.pgscale.dev", policies),
        part(
            &facts.overrides,
            "list",
            "scaleoverrides.pgscale.dev",
            "whether the canary may be refused",
        ),
        part(
            &facts.autoscalers,
            "list",
            "horizontalpodautoscalers.autoscaling",
            "whether an autoscaler changes the count",
        ),
        part(
            &facts.scaled_objects,
            "list",
            "scaledobjects.keda.sh",
            "whether KEDA changes the count",
        ),
        part(&facts.cluster_roles, "list", "clusterroles.rbac.authorization.k8s.io", rights),
        part(
            &facts.cluster_role_bindings,
            "list",
            "clusterrolebindings.rbac.authorization.k8s.io",
            rights,
        ),
        part(&facts.roles, "list", "roles.rbac.authorization.k8s.io", rights),
        part(&facts.role_bindings, "list", "rolebindings.rbac.authorization.k8s.io", rights),
    ];
    parts.extend(facts.definitions.values().map(|definition| {
        part(
            definition,
            "get",
            "customresourcedefinitions.apiextensions.k8s.io",
            "which versions of our resources are installed",
        )
    }));
    let mut found: Vec<Finding> = Vec::new();
    for Part { verb, resource, unknown, why } in parts {
        let Some(why) = why else { continue };
        let object = Object::global(resource, "all");
        // The definitions are several reads of one permission.
        if found.iter().any(|known| known.evidence.iter().any(|it| it.object == object)) {
            continue;
        }
        // A permission mends nothing where the API server could not be asked.
        let (cure, command) = if facts.forbidden.contains(&why) {
            ("it needs this permission", vec!["auth", "can-i", verb, resource, "-A"])
        } else {
            ("see what the API server answers", vec!["get", resource, "-A"])
        };
        found.push(
            Finding::new(
                Level::Unread,
                "part-unread",
                format!("{resource} could not be read: {unknown} is unknown"),
            )
            .of(object, why)
            .cure_to(cure, Command::kubectl(command)),
        );
    }
    let silent: Vec<_> = facts
        .served
        .iter()
        .filter_map(|(pod, chain)| chain.as_ref().err().map(|why| (pod, why)))
        .collect();
    for (pod, why) in silent {
        found.push(
            Finding::new(
                Level::Unread,
                "certificate-unread",
                format!(
                    "replica {pod} showed no certificate over a port-forward: whether the API \
                     server trusts it is unknown"
                ),
            )
            .of(Object::within("pod", case.home, pod), why)
            .cure_to(
                "it needs this permission, and the replica must run",
                Command::kubectl([
                    "auth",
                    "can-i",
                    "create",
                    "pods",
                    "--subresource=portforward",
                    "-n",
                    case.home,
                ]),
            ),
        );
    }
    found
}
