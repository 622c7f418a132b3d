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

impl World {
    /// Serves metrics.k8s.io: the `postgres` container of every member uses this quantity of the
    /// one core that it requests, by a value that is so many seconds old.
    pub(crate) fn using(self, cpu: &'static str, age: i64) -> Self {
        {
            let mut state = self.0.lock().unwrap();
            (state.metered, state.using) = (true, Some((cpu, age)));
        }
        self
    }

    /// Lets the count be another one, written by `manager`.
    pub(crate) fn set_back(&self, count: i64, manager: &'static str) {
        let mut state = self.0.lock().unwrap();
        (state.declared, state.replicas, state.members) = (count, count, count);
        state.version += 1;
        state.managers = vec![manager];
    }
}

impl State {
    /// Returns what pods use, by metrics.k8s.io.
    pub(super) fn usage(&self, path: &str) -> Response<Body> {
        if !self.metered {
            return failure(404, "NotFound", &format!("{path} not found"));
        }
        let using = |ordinal: i64| {
            let (cpu, age) = self.using.unwrap_or_default();
            let at = (self.clock)() - k8s_openapi::jiff::SignedDuration::from_secs(age);
            json!({"metadata": {"namespace": "db", "name": format!("acid-a-{ordinal}")},
                "timestamp": at.to_string(), "window": "15s", "containers": [
                    {"name": "exporter", "usage": {"cpu": "3", "memory": "1Mi"}},
                    {"name": "postgres", "usage": {"cpu": cpu}}]})
        };
        let pod = |ordinal: i64| {
            json!({"metadata": {"namespace": "db", "name": format!("acid-a-{ordinal}")},
                "timestamp": self.now(), "window": "15s", "containers": [{"name": "postgres",
                    "usage": {"cpu": format!("{}m", 100 * (ordinal + 1)),
                        "memory": format!("{}Gi", ordinal + 1)}}]})
        };
        let pods: Vec<Value> = match self.using {
            Some(_) => (0..self.members).map(using).collect(),
            None => (0..self.members).map(pod).collect(),
        };
        respond(
            200,
            &json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {}, "items": pods}),
        )
    }
}
