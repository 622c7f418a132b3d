//! metrics.k8s.io, where it is served.

use http::Response;
use kube::client::Body;
use serde_json::{Value, json};

use super::server::{failure, respond};
use super::{State, World};

impl World {
    /// Serves metrics.k8s.io: member N uses N + 1 tenths of a core, and as many GiB.
    pub(crate) fn metered(self) -> Self {
        self.0.lock().unwrap().metered = true;
        self
    }
}

impl State {
    /// Returns what pods use, by metrics.k8s.io.
    pub(super) fn usage(&self, path: &str) -> Response<Body> {
        if !self.metered {
            return failure(404, "NotFound", &format!("{path} not found"));
        }
        let pod = |ordinal: i64| {
            json!({"metadata": {"namespace": "db", "name": format!("acid-a-{ordinal}")},
                "timestamp": self.now(), "window": "15s", "containers": [{"name": "postgres",
                    "usage": {"cpu": format!("{}m", 100 * (ordinal + 1)),
                        "memory": format!("{}Gi", ordinal + 1)}}]})
        };
        let pods: Vec<Value> = (0..self.members).map(pod).collect();
        respond(
            200,
            &json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {}, "items": pods}),
        )
    }
}
