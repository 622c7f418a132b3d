//! The kubelet's choice of a program for a pod (pure).

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;

/// The label of a pod that is reported as running without a process, such as the pod of an operator
/// that runs outside the cluster. Its value is `none`.
pub const RUN_LABEL: &str = "pgscale.dev/bed-run";

/// The program of a pod.
#[derive(Debug, PartialEq)]
pub(super) enum Workload {
    /// Patroni and PostgreSQL, for this container. Sidecars are reported as running beside it.
    Spilo(Box<Container>),
    /// No program. The pod is reported as running.
    Nothing,
    /// No program, and the pod waits for ever: the bed has none for this image.
    Unknown { image: String },
}

impl Workload {
    /// Returns the program for `pod`. A container is Spilo's when it has the variable `SCOPE`,
    /// which the operator gives to no other container.
    pub(super) fn of(pod: &Pod) -> Self {
        if pod.labels().get(RUN_LABEL).is_some_and(|value| value == "none") {
            return Self::Nothing;
        }
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice());
        let containers = containers.unwrap_or_default();
        let is_spilo = |container: &&Container| {
            container.env.iter().flatten().any(|variable| variable.name == "SCOPE")
        };
        if let Some(container) = containers.iter().find(is_spilo) {
            return Self::Spilo(Box::new(container.clone()));
        }
        let image = containers.first().and_then(|container| container.image.clone());
        Self::Unknown { image: image.unwrap_or_default() }
    }
}

/// Returns the claim behind the volume of the database.
pub(super) fn data_claim(pod: &Pod) -> Option<&str> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let data = volumes.iter().find(|volume| volume.name == "pgdata")?;
    Some(&data.persistent_volume_claim.as_ref()?.claim_name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(labels: &Value, env: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "acid-a-0", "labels": labels},
            "spec": {
                "containers": [
                    {"name": "sidecar", "image": "exporter"},
                    {"name": "postgres", "image": "spilo-17", "env": env},
                ],
                "volumes": [
                    {"name": "dshm", "emptyDir": {}},
                    {"name": "pgdata", "persistentVolumeClaim": {"claimName": "pgdata-acid-a-0"}},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn spilo_is_known_by_its_scope() {
        let scope = json!([{"name": "SCOPE", "value": "acid-a"}]);
        let spilo = Workload::of(&pod(&json!({}), &scope));
        assert!(matches!(spilo, Workload::Spilo(container) if container.name == "postgres"));
        let label = json!({"pgscale.dev/bed-run": "none"});
        assert_eq!(Workload::of(&pod(&label, &scope)), Workload::Nothing);
        let image = "exporter".to_owned();
        assert_eq!(Workload::of(&pod(&json!({}), &json!([]))), Workload::Unknown { image });
    }

    #[test]
    fn the_data_claim_is_found() {
        assert_eq!(data_claim(&pod(&json!({}), &json!([]))), Some("pgdata-acid-a-0"));
        assert_eq!(data_claim(&Pod::default()), None);
    }
}
