//! The cost of one more member, and the room for it. No I/O and no opinion: the rules judge.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaimSpec, Pod, PodSpec};

mod footprint;
mod limit_range;
mod manifest;
mod placement;

pub use footprint::{Added, Amounts, Footprint, Needs, Quotas, Room, Unspecified};
pub use limit_range::{Violation, defaulted, violations};
pub use manifest::template;
pub use placement::{Domain, Draining, Node, Taint, domains, draining, fits, spreads};

/// A value that was read, or the reason why it was not.
pub type Look<T> = Result<T, String>;

/// Label of a pod, and field of its StatefulSet, that names the revision of its template.
const REVISION: &str = "controller-revision-hash";

/// The template of every member, reduced to its cost and its place.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Template {
    /// Its pod.
    pub pod: PodSpec,
    /// Labels of its pod.
    pub labels: BTreeMap<String, String>,
    /// Its volume claims.
    pub claims: Vec<PersistentVolumeClaimSpec>,
    /// The pod is a running one, so it holds everything that admission fills in and injects.
    pub admitted: bool,
}

impl Template {
    /// Reads it off the StatefulSet, or off one of its `pods` that was made from the same template.
    ///
    /// Such a pod shows the additions of admission (defaults of a `LimitRange`, overhead, sidecars,
    /// a priority class).
    pub fn of(set: &StatefulSet, pods: &[Pod]) -> Self {
        let Some(spec) = &set.spec else { return Self::default() };
        let revision = set.status.as_ref().and_then(|status| status.update_revision.as_ref());
        let made = |pod: &&Pod| {
            let own = pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION));
            revision.is_some() && own == revision
        };
        let running = pods.iter().find(made).and_then(|pod| pod.spec.as_ref());
        let labels = spec.template.metadata.as_ref().and_then(|it| it.labels.clone());
        let claims = spec.volume_claim_templates.iter().flatten();
        Self {
            pod: running.or(spec.template.spec.as_ref()).map(reduced).unwrap_or_default(),
            labels: labels.unwrap_or_default(),
            claims: claims.map(|claim| claim.spec.clone().unwrap_or_default()).collect(),
            admitted: running.is_some(),
        }
    }
}

/// Returns a pod with only the fields that bear on its cost or its place.
fn reduced(pod: &PodSpec) -> PodSpec {
    let containers = |containers: &[Container]| -> Vec<Container> {
        containers
            .iter()
            .map(|it| Container {
                name: it.name.clone(),
                resources: it.resources.clone(),
                restart_policy: it.restart_policy.clone(),
                ..Container::default()
            })
            .collect()
    };
    PodSpec {
        containers: containers(&pod.containers),
        init_containers: pod.init_containers.as_deref().map(containers),
        resources: pod.resources.clone(),
        overhead: pod.overhead.clone(),
        priority_class_name: pod.priority_class_name.clone(),
        affinity: pod.affinity.clone(),
        node_selector: pod.node_selector.clone(),
        tolerations: pod.tolerations.clone(),
        ..PodSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pod_of_the_same_template_shows_the_additions_of_admission() {
        let set: StatefulSet =
            serde_json::from_value(json!({"metadata": {}, "spec": {"selector": {},
            "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "postgres", "image": "spilo"}]}}},
            "status": {"replicas": 1, "updateRevision": "r2"}}))
            .unwrap();
        let pod = |revision: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"labels": {(REVISION): revision}},
                "spec": {"priorityClassName": "db",
                    "containers": [{"name": "postgres"}, {"name": "injected"}]}}))
            .unwrap()
        };
        let names = |template: &Template| -> Vec<String> {
            template.pod.containers.iter().map(|it| it.name.clone()).collect()
        };
        let old = Template::of(&set, &[pod("r1")]);
        assert_eq!((names(&old), old.admitted), (vec!["postgres".to_owned()], false));
        assert!(old.pod.containers[0].image.is_none(), "an image costs nothing");
        let same = Template::of(&set, &[pod("r1"), pod("r2")]);
        assert_eq!(names(&same), ["postgres", "injected"]);
        assert_eq!((same.admitted, same.labels["a"].as_str()), (true, "b"));
        assert_eq!(same.pod.priority_class_name.as_deref(), Some("db"));
    }
}
