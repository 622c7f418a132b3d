//! The webhook's own certificates: in the Secret that all replicas share, and in the registration
//! by which the API server trusts them.
//!
//! No replica leads. Each does the same from time to time, and writes only what follows from what
//! it has read: every patch carries the resource version, and the replica that comes second reads
//! again. The chart makes the Secret, empty. The webhook may not make one, and it changes nothing
//! of the registration but the bundles.

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::authority::{self, Contents};
use super::pair::{Offer, Part};
use crate::registration;

/// The most conflicts with other writers before the round fails.
const ATTEMPTS: usize = 5;
const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The Secret and the registration, with the names by which the API server calls the webhook.
pub(crate) struct SelfSigned {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
    configurations: Api<ValidatingWebhookConfiguration>,
    server_names: Vec<String>,
}

impl SelfSigned {
    /// Returns the source that keeps its pair in the Secret `name` in `namespace`, with a
    /// certificate for `server_names`.
    pub(crate) fn new(
        client: Client,
        (namespace, name): (String, String),
        server_names: Vec<String>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &namespace),
            namespace,
            name,
            configurations: Api::all(client),
            server_names,
        }
    }

    /// Makes certificates that are missing or due, publishes the authorities, and returns the pair
    /// to serve.
    ///
    /// # Errors
    /// Fails when the Secret or the registration cannot be read or written.
    pub(super) async fn offer(&self) -> Result<Offer> {
        for _ in 0..ATTEMPTS {
            if let Some(contents) = self.attempt().await? {
                let part = |key: &str, text: String| Part {
                    place: format!("{key} of {}", self.place()),
                    text: text.into_bytes(),
                };
                return Ok(Offer {
                    certificate: part(CERTIFICATE, contents.certificate),
                    key: part(KEY, contents.key),
                });
            }
        }
        anyhow::bail!("other writers kept changing {} or the registration", self.place())
    }

    /// Tries once; `None` where another writer was faster.
    async fn attempt(&self) -> Result<Option<Contents>> {
        let place = self.place();
        let secret = self.secrets.get(&self.name).await;
        let secret = secret.with_context(|| format!("failed to read {place}"))?;
        let published = self.configurations.get_opt(registration::NAME).await;
        let published = published.context("failed to read the webhook's registration")?;
        let bundles = published.as_ref().map(bundles).unwrap_or_default();

        let held = Contents::of(&secret);
        let next = authority::next(&held, &bundles, &self.server_names, Timestamp::now());
        let contents = match next.context("failed to make a certificate")? {
            None => held,
            Some(next) => {
                let patch = json!({
                    "metadata": {"resourceVersion": secret.metadata.resource_version},
                    "data": next.data(),
                });
                let patch = Patch::Merge(patch);
                let stored = self.secrets.patch(&self.name, &PatchParams::default(), &patch).await;
                if !first(stored).with_context(|| format!("failed to write {place}"))? {
                    return Ok(None);
                }
                tracing::info!(secret = %place, "wrote new certificates");
                next
            }
        };
        match published {
            Some(published) if bundles.iter().any(|it| it != contents.authorities.as_bytes()) => {
                let patch = Patch::Strategic(bundle_patch(&published, &contents.authorities));
                let params = PatchParams::default();
                let stored = self.configurations.patch(registration::NAME, &params, &patch).await;
                if !first(stored).context("failed to write the webhook's registration")? {
                    return Ok(None);
                }
                tracing::info!("published the authorities");
            }
            // A webhook whose registration was deleted on purpose must still run.
            Some(_) | None => {}
        }
        Ok(Some(contents))
    }

    fn place(&self) -> String {
        format!("the Secret {}/{}", self.namespace, self.name)
    }
}

impl Contents {
    fn of(secret: &Secret) -> Self {
        let text = |key: &str| {
            let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.clone()).ok()
        };
        Self {
            authorities: text(AUTHORITIES).unwrap_or_default(),
            authority_key: text(AUTHORITY_KEY).unwrap_or_default(),
            certificate: text(CERTIFICATE).unwrap_or_default(),
            key: text(KEY).unwrap_or_default(),
        }
    }

    fn data(&self) -> Value {
        let bytes = |text: &String| ByteString(text.clone().into_bytes());
        json!({
            AUTHORITIES: bytes(&self.authorities),
            AUTHORITY_KEY: bytes(&self.authority_key),
            CERTIFICATE: bytes(&self.certificate),
            KEY: bytes(&self.key),
        })
    }
}

/// Returns the bundle of each entry.
fn bundles(configuration: &ValidatingWebhookConfiguration) -> Vec<Vec<u8>> {
    let entries = configuration.webhooks.iter().flatten();
    let bundle = entries.map(|entry| entry.client_config.ca_bundle.clone());
    bundle.map(|bundle| bundle.map(|ByteString(bytes)| bytes).unwrap_or_default()).collect()
}

/// Returns the patch that puts `bundle` into every entry. The API server merges entries by their
/// names, and keeps their other fields.
fn bundle_patch(configuration: &ValidatingWebhookConfiguration, bundle: &str) -> Value {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let entries = configuration.webhooks.iter().flatten();
    let entries =
        entries.map(|entry| json!({"name": entry.name, "clientConfig": {"caBundle": bundle}}));
    json!({
        "metadata": {"resourceVersion": configuration.metadata.resource_version},
        "webhooks": entries.collect::<Vec<_>>(),
    })
}

/// Returns whether no other writer came between the read and this write.
fn first<T>(stored: Result<T, Error>) -> Result<bool, Error> {
    match stored {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use axum::http::{Method, Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::certs::Certificates;

    /// A Secret and a registration as an API server keeps them: a patch made from another version
    /// than the present one is a conflict.
    #[derive(Default)]
    struct FakeApiServer {
        secret: Value,
        configuration: Option<Value>,
        /// The number of patches that will be in conflict with another writer.
        overtaken: usize,
        /// The number of patches that were stored.
        written: usize,
    }

    type Shared = Arc<Mutex<FakeApiServer>>;

    fn api_server() -> Shared {
        let entry = |name: &str| {
            json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"namespace": "ns", "name": "pgscale-webhook"}}})
        };
        Arc::new(Mutex::new(FakeApiServer {
            secret: json!({"metadata": {"name": "kept", "resourceVersion": "1"}}),
            configuration: Some(json!({
                "metadata": {"name": "pgscale.dev", "resourceVersion": "1"},
                "webhooks": [entry("shrink.pgscale.dev"), entry("grow.pgscale.dev")],
            })),
            ..FakeApiServer::default()
        }))
    }

    fn self_signed(api_server: &Shared) -> SelfSigned {
        let api_server = Arc::clone(api_server);
        let service = tower::service_fn(move |request: Request<Body>| {
            let api_server = Arc::clone(&api_server);
            async move {
                let (head, body) = request.into_parts();
                let patch = body.collect_bytes().await.unwrap();
                let (status, answer) =
                    api_server.lock().unwrap().answer(&head.method, head.uri.path(), &patch);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
            }
        });
        let client = Client::new(service, "default");
        let names = vec!["pgscale-webhook.ns.svc".to_owned()];
        SelfSigned::new(client, ("ns".to_owned(), "kept".to_owned()), names)
    }

    impl FakeApiServer {
        fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
            let status = |code: u16, reason: &str| {
                (
                    code,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "message": reason, "reason": reason, "code": code}),
                )
            };
            let object = match path {
                "/api/v1/namespaces/ns/secrets/kept" => Some(&mut self.secret),
                _ => self.configuration.as_mut(),
            };
            let Some(object) = object else { return status(404, "NotFound") };
            if *method == Method::GET {
                return (200, object.clone());
            }
            let version: u64 =
                object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            let change: Value = serde_json::from_slice(body).unwrap();
            if self.overtaken > 0 {
                self.overtaken -= 1;
                object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
                return status(409, "Conflict");
            }
            if change["metadata"]["resourceVersion"] != *version.to_string() {
                return status(409, "Conflict");
            }
            self.written += 1;
            object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
            for (key, value) in change["data"].as_object().into_iter().flatten() {
                object["data"][key] = value.clone();
            }
            for entry in change["webhooks"].as_array().into_iter().flatten() {
                let mut stored = object["webhooks"].as_array_mut().unwrap().iter_mut();
                let stored = stored.find(|stored| stored["name"] == entry["name"]).unwrap();
                stored["clientConfig"]["caBundle"] = entry["clientConfig"]["caBundle"].clone();
            }
            (200, object.clone())
        }

        /// Returns the bundle that both entries have.
        fn trusted(&self) -> String {
            let bundle = |at: usize| {
                let entry = &self.configuration.as_ref().unwrap()["webhooks"][at];
                assert_eq!(entry["clientConfig"]["service"]["name"], "pgscale-webhook");
                text(&entry["clientConfig"]["caBundle"])
            };
            assert_eq!(bundle(0), bundle(1));
            bundle(0)
        }

        fn stored(&self, key: &str) -> String {
            text(&self.secret["data"][key])
        }
    }

    fn text(bytes: &Value) -> String {
        let ByteString(bytes) = serde_json::from_value(bytes.clone()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn empty_secret_is_filled_and_published_once() {
        let api_server = api_server();
        let self_signed = self_signed(&api_server);
        let certificates = Certificates::new(self_signed.offer().await.unwrap()).unwrap();
        assert_eq!(api_server.lock().unwrap().written, 2);
        let trusted = api_server.lock().unwrap().trusted();
        assert_eq!(trusted, api_server.lock().unwrap().stored(AUTHORITIES));
        assert!(!certificates.replace(self_signed.offer().await.unwrap()).unwrap());
        assert_eq!(api_server.lock().unwrap().written, 2, "nothing was due");
    }

    #[tokio::test]
    async fn replicas_that_start_together_serve_the_same_certificate() {
        let api_server = api_server();
        let offers = futures::future::join_all((0..4).map(|_| {
            let self_signed = self_signed(&api_server);
            async move { self_signed.offer().await.unwrap().certificate.text }
        }));
        for text in offers.await {
            assert_eq!(text, api_server.lock().unwrap().stored(CERTIFICATE).as_bytes());
        }
    }

    #[tokio::test]
    async fn conflict_is_read_again_until_the_attempts_are_used_up() {
        let api_server = api_server();
        api_server.lock().unwrap().overtaken = 3;
        self_signed(&api_server).offer().await.unwrap();
        api_server.lock().unwrap().secret["data"] = Value::Null;
        api_server.lock().unwrap().overtaken = ATTEMPTS;
        let error = self_signed(&api_server).offer().await.err().unwrap();
        assert!(error.to_string().starts_with("other writers kept changing the Secret ns/kept"));
    }

    #[tokio::test]
    async fn wiped_bundle_is_published_again_and_a_missing_registration_is_no_error() {
        let api_server = api_server();
        let self_signed = self_signed(&api_server);
        self_signed.offer().await.unwrap();
        let trusted = api_server.lock().unwrap().trusted();
        let wiped = Value::Null;
        api_server.lock().unwrap().configuration.as_mut().unwrap()["webhooks"][1]["clientConfig"]
            ["caBundle"] = wiped;
        self_signed.offer().await.unwrap();
        assert_eq!(api_server.lock().unwrap().trusted(), trusted);

        api_server.lock().unwrap().configuration = None;
        let written = api_server.lock().unwrap().written;
        self_signed.offer().await.unwrap();
        assert_eq!(api_server.lock().unwrap().written, written);
    }
}
