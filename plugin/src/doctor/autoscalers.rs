//! Autoscalers that point at a cluster: of Kubernetes, and of KEDA.
//!
//! The StatefulSet of a cluster belongs to the operator, which writes its replicas back from
//! `numberOfInstances` (`syncStatefulSet`, pkg/cluster/sync.go). An autoscaler on it removes
//! members past every rule until then. A `postgresql` has no scale subresource
//! (`manifests/postgresql.crd.yaml`), so an autoscaler on it does nothing.

use pgscale_guard::postgresql::KIND;
use pgscale_guard::remedy::Command;
use serde_json::Value;

use super::{Case, Finding, Object, fails, weakens};

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let by_keda = case.facts.scaled_objects.known().is_some();
    for one in case.facts.autoscalers.known().into_iter().flatten() {
        // KEDA makes an autoscaler for each ScaledObject, which owns it and is named instead.
        let mut owners = one.metadata.owner_references.iter().flatten();
        if by_keda && owners.any(|owner| owner.kind == "ScaledObject") {
            continue;
        }
        let target = &one.spec.scale_target_ref;
        let namespace = one.metadata.namespace.clone().unwrap_or_default();
        let name = one.metadata.name.clone().unwrap_or_default();
        let object = Object::within("horizontalpodautoscaler", namespace, name);
        found.extend(judge(case, &object, "spec.scaleTargetRef", &target.kind, &target.name));
    }
    for one in case.facts.scaled_objects.known().into_iter().flatten() {
        let text = |path: &str| one.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let object =
            Object::within("scaledobject", text("/metadata/namespace"), text("/metadata/name"));
        // Without a kind KEDA takes a Deployment.
        found.extend(judge(
            case,
            &object,
            "spec.scaleTargetRef",
            text("/spec/scaleTargetRef/kind"),
            text("/spec/scaleTargetRef/name"),
        ));
    }
    found
}

fn judge(case: &Case<'_>, object: &Object, field: &str, kind: &str, name: &str) -> Option<Finding> {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let clusters = case.facts.clusters.known()?;
    // The operator gives the StatefulSet the name of its cluster.
    clusters.iter().find(|cluster| cluster.namespace == namespace && cluster.name == name)?;
    let remove = Command::kubectl(["delete", object.kind, &object.name, "-n", namespace]);
    let instead = "bound the count by a ScalePolicy, and let a person or a pipeline change it by \
                   this command";
    let plan = Command::kubectl(["pgscale", "plan", name, "--to", "N", "-n", namespace]);
    let finding = match kind {
        "StatefulSet" => fails(
            "autoscaler-on-statefulset",
            format!(
                "{object} scales the StatefulSet of postgresql {namespace}/{name} past the \
                 operator and past every rule: it removes the leader like any other member, and \
                 the operator and it undo each other"
            ),
        ),
        KIND => weakens(
            "autoscaler-on-postgresql",
            format!(
                "{object} points at postgresql {namespace}/{name}: load on a database is no \
                 reason to add replicas, each of which costs a base backup, and to remove them \
                 again"
            ),
        ),
        _ => return None,
    };
    Some(
        finding
            .because(object.clone(), field, format!("{kind}/{name}"))
            .cure_to("remove it", remove)
            .cure_to(instead, plan),
    )
}
