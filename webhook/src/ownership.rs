//! The owner of the registration: the webhook's Namespace. When the Namespace is deleted, the
//! garbage collector deletes the registration, and no shrink is refused any more because its
//! webhook is gone.
//!
//! The chart cannot name the owner, because the uid of a Namespace is known only in the cluster. A
//! registration from a backup has the uid of a Namespace that is gone, and the garbage collector
//! deletes it soon. So the webhook also looks whether its registration is there, and says so in a
//! metric.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::json;

use crate::metrics::Metrics;
use crate::registration;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(30);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// There is no registration.
    Missing,
    /// It is there, with its owner.
    Owned,
    /// It is there. Another writer came between, or no namespace is known.
    Present,
}

/// The registration and the Namespace that is to own it.
pub(crate) struct Ownership {
    configurations: Api<ValidatingWebhookConfiguration>,
    namespaces: Api<Namespace>,
    /// The name of the Namespace. Without it the registration gets no owner.
    namespace: Option<String>,
    metrics: Arc<Metrics>,
}

impl Ownership {
    /// Returns the registration and its owner-to-be.
    pub(crate) fn new(client: Client, namespace: Option<String>, metrics: Arc<Metrics>) -> Self {
        let configurations = Api::all(client.clone());
        Self { configurations, namespaces: Api::all(client), namespace, metrics }
    }

    /// Looks at the registration for as long as the process runs.
    pub(crate) async fn keep(self) {
        let mut before = None;
        loop {
            let found = self.look().await;
            match &found {
                Ok(found) => self.metrics.registered(*found != Found::Missing),
                // The last figure stays: the API server may be away for a moment.
                Err(error) => tracing::warn!(%error, "cannot look after the registration"),
            }
            let found = found.ok();
            if found == Some(Found::Missing) && before != found {
                tracing::error!(
                    "the ValidatingWebhookConfiguration {} is missing: no write is judged. Install \
                     the chart again",
                    registration::NAME
                );
            }
            before = found.or(before);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads the registration, and writes its owner where that is another.
    async fn look(&self) -> Result<Found> {
        let stored = self.configurations.get_metadata_opt(registration::NAME).await;
        let Some(stored) = stored.context("failed to read the registration")? else {
            return Ok(Found::Missing);
        };
        let Some(namespace) = &self.namespace else { return Ok(Found::Present) };
        let owner = self.namespaces.get_metadata(namespace).await;
        let owner = owner.with_context(|| format!("failed to read the Namespace {namespace}"))?;
        let uid = owner.metadata.uid.context("a Namespace without a uid")?;
        let before = stored.metadata.owner_references.unwrap_or_default();
        let Some(owners) = owned(&before, namespace, &uid) else { return Ok(Found::Owned) };
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": stored.metadata.resource_version,
            "ownerReferences": owners,
        }}));
        let params = PatchParams::default();
        match self.configurations.patch_metadata(registration::NAME, &params, &patch).await {
            Ok(_) => {
                tracing::info!(%namespace, "the registration goes with its Namespace");
                Ok(Found::Owned)
            }
            Err(Error::Api(status)) if status.code == 409 => Ok(Found::Present),
            Err(error) => Err(error).context("failed to write the registration's owner"),
        }
    }
}

/// Returns the owners to store, `None` where the Namespace with this uid is one already. A
/// Namespace of that name with another uid is gone, and is left out.
fn owned(before: &[OwnerReference], namespace: &str, uid: &str) -> Option<Vec<OwnerReference>> {
    let named = |owner: &OwnerReference| owner.kind == "Namespace" && owner.name == namespace;
    let stale = before.iter().any(|owner| named(owner) && owner.uid != uid);
    if !stale && before.iter().any(|owner| named(owner) && owner.uid == uid) {
        return None;
    }
    let itself = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        name: namespace.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let others = before.iter().filter(|owner| !named(owner)).cloned();
    Some(others.chain([itself]).collect())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use axum::http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid})
    }

    type Stored = Arc<Mutex<Option<Value>>>;

    /// Returns the ownership by the Namespace `ns`, whose uid is `live`, and what is stored.
    fn ownership(stored: Option<Value>, namespace: Option<&str>) -> (Ownership, Stored) {
        let stored = Arc::new(Mutex::new(stored));
        let api_server = Arc::clone(&stored);
        let service = tower::service_fn(move |request: Request<Body>| {
            let api_server = Arc::clone(&api_server);
            async move {
                let (head, body) = request.into_parts();
                let patch = body.collect_bytes().await.unwrap();
                let mut stored = api_server.lock().unwrap();
                let answer = match (head.uri.path(), stored.as_mut()) {
                    ("/api/v1/namespaces/ns", _) => json!({"metadata": {"uid": "live"}}),
                    (_, None) => json!({"kind": "Status", "apiVersion": "v1", "code": 404,
                        "status": "Failure", "reason": "NotFound", "message": "gone"}),
                    (_, Some(stored)) => {
                        if head.method == Method::PATCH {
                            let patch: Value = serde_json::from_slice(&patch).unwrap();
                            assert_eq!(patch["metadata"]["resourceVersion"], "7");
                            assert_eq!(patch.as_object().unwrap().len(), 1, "{patch}");
                            stored["metadata"]["ownerReferences"] =
                                patch["metadata"]["ownerReferences"].clone();
                        }
                        stored.clone()
                    }
                };
                let status = if answer["code"] == 404 { 404 } else { 200 };
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
            }
        });
        let client = Client::new(service, "default");
        let metrics = Arc::new(Metrics::new());
        (Ownership::new(client, namespace.map(str::to_owned), metrics), stored)
    }

    fn registration_with(owners: &Value) -> Value {
        json!({"metadata": {"name": "pgscale.dev", "resourceVersion": "7",
            "ownerReferences": owners}})
    }

    #[tokio::test]
    async fn registration_is_owned_by_the_live_namespace_and_keeps_its_other_owners() {
        let (live, old) = (owner("Namespace", "ns", "live"), owner("Namespace", "ns", "old"));
        let other = owner("ClusterRole", "ns", "x");
        for (before, after) in [
            (json!(null), json!([live])),
            (json!([live]), json!([live])),
            (json!([other]), json!([other, live])),
            // From a backup: the garbage collector is about to delete it.
            (json!([old]), json!([live])),
            (json!([old, live, other]), json!([other, live])),
        ] {
            let (ownership, stored) = ownership(Some(registration_with(&before)), Some("ns"));
            assert_eq!(ownership.look().await.unwrap(), Found::Owned);
            let stored = stored.lock().unwrap().clone().unwrap();
            assert_eq!(stored["metadata"]["ownerReferences"], after, "{before}");
        }
    }

    #[tokio::test]
    async fn missing_registration_is_seen_and_an_unknown_namespace_owns_nothing() {
        let (gone, _) = ownership(None, Some("ns"));
        assert_eq!(gone.look().await.unwrap(), Found::Missing);
        let (unowned, stored) = ownership(Some(registration_with(&json!(null))), None);
        assert_eq!(unowned.look().await.unwrap(), Found::Present);
        assert!(stored.lock().unwrap().as_ref().unwrap()["metadata"]["ownerReferences"].is_null());
    }
}
