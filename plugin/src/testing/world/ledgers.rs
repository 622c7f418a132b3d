//! The ledger of a budget, as the webhook has made it.

use http::Response;
use kube::client::Body;
use serde_json::{Value, json};

use super::server::{failure, list, respond};
use super::{State, World};

impl World {
    /// Adds a policy with a budget of so many instances, and its ledger.
    pub(crate) fn budget(self, instances: i64) -> Self {
        self.0.lock().unwrap().ledger = Some(json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "InstanceLedger",
            "metadata": {"namespace": "db", "name": "pgscale", "resourceVersion": "5"},
            "spec": {"budget": instances, "used": 0, "reserved": 0, "free": instances,
                "basis": [], "settles": "2026-11-24T08:00:00Z", "swept": "0", "clusters": {}},
        }));
        self.policy("budget", &json!({"budget": {"instances": instances}}))
    }

    /// Forbids to list ledgers.
    pub(crate) fn ledgers_hidden(self) -> Self {
        self.0.lock().unwrap().ledger = Some(Value::Null);
        self
    }
}

impl State {
    /// Returns the ledger, or all of them, where there is one.
    pub(super) fn ledgers(&self, last: &str) -> Option<Response<Body>> {
        let ledger: &Value = self.ledger.as_ref()?;
        match last {
            "instanceledgers" | "pgscale" if ledger.is_null() => {
                Some(failure(403, "Forbidden", "instanceledgers.pgscale.dev is forbidden"))
            }
            "instanceledgers" => Some(list(std::slice::from_ref(ledger))),
            "pgscale" => Some(respond(200, ledger)),
            _ => None,
        }
    }
}
