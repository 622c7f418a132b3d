//! The requests of a ledger: the only ones with which the webhook writes for a budget.

use futures::future::join_all;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, Request};
use pgscale_guard::ledger::{
    Fence, Found, InstanceLedger, InstanceLedgerSpec, Ledger, Listing, Stored,
};
use pgscale_guard::postgresql::{GROUP, PLURAL, VERSION};
use pgscale_guard::read::Reader;
use serde_json::{Value, json};

use super::REQUEST_TIME;

/// The label whose only purpose is to move the revision of a cluster.
///
/// The operator compares spec and annotations (`postgresqlUpdate`, pkg/controller/postgresql.go),
/// so it does nothing about a label.
pub(crate) const FENCE: &str = "pgscale.dev/fence";
/// The most clusters that are fenced at once.
const FENCES: usize = 16;
/// The name under which the API server records the fields that the webhook writes.
const MANAGER: &str = "pgscale-webhook";

/// The outcome of a write of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is stored, with this version.
    Version(String),
    /// Another write came first.
    Conflict,
}

/// The way to the ledger of one namespace.
pub(super) struct Edge {
    reader: Reader,
    namespace: String,
}

impl Edge {
    pub(super) fn new(reader: Reader, namespace: &str) -> Self {
        Self { reader, namespace: namespace.to_owned() }
    }

    /// Reads the ledger. `None` where there is none.
    pub(super) async fn read(&self) -> Result<Option<Stored>, String> {
        self.reader.ledger(&self.namespace).await
    }

    /// Lists all clusters of the namespace.
    pub(super) async fn list(&self) -> Result<Listing, String> {
        self.reader.listing(&self.namespace).await
    }

    /// Writes a ledger that was kept for `budget`.
    pub(super) async fn write_ledger(
        &self,
        ledger: Ledger,
        budget: u32,
        replaces: Option<String>,
    ) -> Result<Written, String> {
        let spec = InstanceLedgerSpec::of(ledger, budget);
        self.write(&InstanceLedger::to_store(&self.namespace, spec, replaces)).await
    }

    /// Writes the ledger, on the condition that it is still the one that `object` replaces.
    #[expect(
        clippy::disallowed_methods,
        reason = "the ledger is the webhook's own, and is written as a whole on its version"
    )]
    pub(super) async fn write(&self, object: &InstanceLedger) -> Result<Written, String> {
        let client = self.reader.client.clone();
        let ledgers: Api<InstanceLedger> = Api::namespaced(client, &self.namespace);
        let params =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let replaces = object.metadata.resource_version.is_some();
        let write = async {
            if replaces {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                ledgers.replace(name, &params, object).await
            } else {
                ledgers.create(&params, object).await
            }
        };
        match tokio::time::timeout(REQUEST_TIME, write).await {
            Ok(Ok(stored)) => {
                let version = stored.metadata.resource_version.filter(|it| !it.is_empty());
                version.map(Written::Version).ok_or_else(|| "the ledger has no version".to_owned())
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Written::Conflict),
            // It was deleted since it was read. The next read finds none.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && replaces => {
                Ok(Written::Conflict)
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                Err("the kind InstanceLedger is not installed".to_owned())
            }
            Ok(Err(error)) => Err(format!("failed to write its ledger: {}", words(&error))),
            // It may be stored all the same. Then it counts, until it is decided.
            Err(_) => Err("the API server did not answer in time".to_owned()),
        }
    }

    /// Moves the revision of these clusters, and returns what they are now. Those that are gone are
    /// left out, and so are those beyond a bound.
    pub(super) async fn fence(&self, fences: Vec<Fence>) -> Result<Vec<Found>, String> {
        let moved = fences.iter().take(FENCES).map(|fence| self.move_one(fence));
        let moved: Result<Vec<_>, String> = join_all(moved).await.into_iter().collect();
        Ok(moved?.into_iter().flatten().collect())
    }

    async fn move_one(&self, fence: &Fence) -> Result<Option<Found>, String> {
        let at = fence.at.to_string();
        let patch = json!({"metadata": {"uid": fence.uid, "resourceVersion": at,
            "labels": {FENCE: at}}});
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let all =
            Request::new(format!("/apis/{GROUP}/{VERSION}/namespaces/{}/{PLURAL}", self.namespace));
        let patch = all.patch(&fence.name, &params, &Patch::Merge(patch));
        let object = match self.send(patch).await? {
            // Another write has moved it, or it is another cluster: what it is now decides as well.
            Err(409 | 422) => {
                self.send(all.get(&fence.name, &kube::api::GetParams::default())).await?
            }
            sent => sent,
        };
        match object {
            Ok(object) => self.reader.found(&object, &self.namespace).await.map(Some),
            Err(404) => Ok(None),
            Err(code) => Err(format!("failed to label postgresql {}: {code}", fence.name)),
        }
    }

    /// Sends a request. Returns the object, or the code of a refusal.
    async fn send(
        &self,
        request: Result<axum::http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Result<Value, u16>, String> {
        let request = request.map_err(|error| error.to_string())?;
        let answer = self.reader.client.request::<Value>(request);
        match tokio::time::timeout(REQUEST_TIME, answer).await {
            Ok(Ok(object)) => Ok(Ok(object)),
            Ok(Err(kube::Error::Api(status))) => Ok(Err(status.code)),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err("the API server did not answer in time".to_owned()),
        }
    }
}

/// Returns the cause of a failed write in few words.
fn words(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return error.to_string() };
    if status.code == 403 {
        return "forbidden".to_owned();
    }
    format!("{} {}", status.code, status.message)
}
