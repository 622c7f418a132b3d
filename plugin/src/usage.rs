//! CPU and memory of members, as metrics.k8s.io reports them.
//!
//! Not every cluster serves that API: without it the values are unknown, with the reason, and
//! nothing else changes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use pgscale_guard::autoscale::Cpu;
use pgscale_guard::capacity::Look;
use pgscale_guard::duration::exact;
use pgscale_guard::quantity::Amount;
use serde_json::Value;
use tokio::time::timeout;

use crate::services::short;
use crate::session::Session;

/// The resource, as `kubectl auth can-i` names it.
pub(crate) const RESOURCE: &str = "pods.metrics.k8s.io";

/// What one pod uses, all its containers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Thousandths of a core.
    pub(crate) millicores: u64,
    /// Bytes of the working set.
    pub(crate) memory: u64,
}

impl Usage {
    /// Returns the sum of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            millicores: self.millicores.saturating_add(other.millicores),
            memory: self.memory.saturating_add(other.memory),
        }
    }
}

/// The usage of pods, by namespace and name.
pub(crate) type Usages = BTreeMap<(String, String), Usage>;

/// Reads the usage of all pods of a namespace, or of all namespaces.
///
/// # Errors
/// One line for people: the API is not served, no permission, no answer in time.
pub(crate) async fn read(session: &Session, namespace: Option<&str>) -> Look<Usages> {
    Ok(list(session, namespace).await?.iter().filter_map(of_pod).collect())
}

/// Reads the CPU of the `postgres` containers of a namespace, by the names of their pods. Sidecars
/// do not count, and memory is not needed for it.
///
/// # Errors
/// One line for people: the API is not served, no permission, no answer in time.
pub(crate) async fn of_postgres(session: &Session, namespace: &str) -> Look<BTreeMap<String, Cpu>> {
    let pods = list(session, Some(namespace)).await?;
    Ok(pods.iter().filter_map(|pod| Some((pod.metadata.name.clone()?, cpu(pod)))).collect())
}

/// Returns the CPU of the `postgres` container of one pod.
fn cpu(object: &DynamicObject) -> Cpu {
    let missing = |why: &str| Cpu::Missing(why.to_owned());
    let at = object.data.get("timestamp").and_then(Value::as_str);
    let Some(at) = at.and_then(|at| at.parse::<Timestamp>().ok()) else {
        return missing("it has no timestamp");
    };
    let containers = object.data.get("containers").and_then(Value::as_array);
    let postgres =
        containers.into_iter().flatten().find(|it| it.get("name") == Some(&"postgres".into()));
    let Some(postgres) = postgres else {
        return missing("there is none of its postgres container");
    };
    match postgres.pointer("/usage/cpu") {
        None | Some(Value::Null) => missing("its postgres container has none"),
        Some(value) => match value.as_str().and_then(amount_of) {
            Some(cores) => Cpu::Used { millicores: cores.times(1000).units(), at },
            None => Cpu::NotANumber(value.as_str().map_or(value.to_string(), str::to_owned)),
        },
    }
}

/// Reads an amount, which is never below 0.
fn amount_of(text: &str) -> Option<Amount> {
    Amount::of(&Quantity(text.to_owned())).filter(|amount| *amount >= Amount::default())
}

async fn list(session: &Session, namespace: Option<&str>) -> Look<Vec<DynamicObject>> {
    let resource = ApiResource {
        group: "metrics.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "metrics.k8s.io/v1beta1".to_owned(),
        kind: "PodMetrics".to_owned(),
        plural: "pods".to_owned(),
    };
    let client = session.client.clone();
    let pods: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let (all, limit) = (ListParams::default(), session.pace.impact);
    match timeout(limit, pods.list(&all)).await {
        Err(_) => Err(format!("{RESOURCE}: no answer within {}", exact(limit))),
        Ok(Ok(list)) => Ok(list.items),
        Ok(Err(error)) => Err(why(&error)),
    }
}

fn why(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error
        && status.code == 404
    {
        // Without the group the API server answers in plain text, and no reason is in it.
        return "metrics.k8s.io is not served here (metrics-server does that)".to_owned();
    }
    short(error, RESOURCE)
}

/// Reads the usage of one pod. `None` where a value is no quantity, or is missing: that pod is
/// unknown then.
fn of_pod(object: &DynamicObject) -> Option<((String, String), Usage)> {
    let containers = object.data.get("containers")?.as_array()?;
    let usages: Option<Vec<Usage>> = containers.iter().map(of_container).collect();
    let usages = usages.filter(|usages| !usages.is_empty())?;
    let name = (object.metadata.namespace.clone()?, object.metadata.name.clone()?);
    Some((name, usages.into_iter().fold(Usage::default(), Usage::plus)))
}

fn of_container(container: &Value) -> Option<Usage> {
    let amount =
        |resource: &str| amount_of(container.pointer(&format!("/usage/{resource}"))?.as_str()?);
    Some(Usage {
        millicores: amount("cpu")?.times(1000).units(),
        memory: amount("memory")?.units(),
    })
}

/// Returns CPU as `kubectl top` writes it.
pub(crate) fn millicores(millicores: u64) -> String {
    format!("{millicores}m")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usage(containers: &Value) -> Option<Usage> {
        let object = json!({"metadata": {"namespace": "db", "name": "acid-a-0"},
            "containers": containers});
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        of_pod(&object).map(|(_, usage)| usage)
    }

    #[test]
    fn plain_404_of_an_api_server_without_the_group_says_who_serves_it() {
        let plain = kube::core::Status {
            code: 404,
            message: "404 page not found".to_owned(),
            ..kube::core::Status::default()
        };
        let said = why(&kube::Error::Api(Box::new(plain)));
        assert_eq!(said, "metrics.k8s.io is not served here (metrics-server does that)");
    }

    #[test]
    fn cpu_of_postgres_counts_no_sidecar_needs_no_memory_and_tells_missing_from_nan() {
        let at: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let read = |value: Value| {
            let object = json!({"metadata": {"name": "acid-a-1"}, "timestamp": at, "containers": [
                {"name": "exporter", "usage": {"cpu": "3"}}, {"name": "postgres", "usage": value}]});
            cpu(&serde_json::from_value(object).unwrap())
        };
        for (value, want) in [
            (json!({"cpu": "1500m"}), Cpu::Used { millicores: 1500, at }),
            (json!({"cpu": "0", "memory": "x"}), Cpu::Used { millicores: 0, at }),
            (json!({"cpu": "NaN"}), Cpu::NotANumber("NaN".to_owned())),
            (json!({"cpu": "-1"}), Cpu::NotANumber("-1".to_owned())),
            (json!({"cpu": 1}), Cpu::NotANumber("1".to_owned())),
            (json!({}), Cpu::Missing("its postgres container has none".to_owned())),
        ] {
            assert_eq!(read(value.clone()), want, "{value}");
        }
        let bare = json!({"metadata": {"name": "acid-a-1"}, "containers": []});
        let untimed = cpu(&serde_json::from_value(bare).unwrap());
        assert_eq!(untimed, Cpu::Missing("it has no timestamp".to_owned()));
    }

    #[test]
    fn usage_of_a_pod_is_that_of_all_its_containers() {
        let container = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        for (containers, want) in [
            (json!([container("156340n", "8Mi")]), Some((1, 8 << 20))),
            (
                json!([container("1", "1Gi"), container("250m", "1024Ki")]),
                Some((1250, (1 << 30) + (1 << 20))),
            ),
            (json!([container("0", "0")]), Some((0, 0))),
        ] {
            let want = want.map(|(millicores, memory)| Usage { millicores, memory });
            assert_eq!(usage(&containers), want, "{containers}");
        }
    }

    #[test]
    fn odd_usage_is_unknown_and_never_zero() {
        for containers in [
            json!([]),
            json!(null),
            json!([{"usage": {"cpu": "1"}}]),
            json!([{"usage": {"cpu": "NaN", "memory": "1Mi"}}]),
            json!([{"usage": {"cpu": "-1", "memory": "1Mi"}}]),
            json!([{"usage": {"cpu": 1, "memory": "1Mi"}}]),
            json!([{"usage": {"cpu": "1", "memory": "1Mi"}}, {}]),
        ] {
            assert_eq!(usage(&containers), None, "{containers}");
        }
    }
}
