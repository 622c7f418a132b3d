//! Keeps the webhook's own certificates: in the Secret all replicas share, and in the configuration by which
//! the API server trusts them.
//!
//! No replica leads. Each does the same from time to time, and writes only what it has read: every patch
//! carries the resource version, and who comes second reads again. It cannot make the Secret, which the chart
//! brings empty, and it touches nothing of the configuration but the bundles.

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::authority::{self, Contents};
use super::{Offer, Part};
use crate::configuration;

/// How often somebody else may be faster before this round is given up.
const ATTEMPTS: usize = 5;
const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The Secret, the configuration, and what the API server calls us.
pub(crate) struct SelfSigned {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
    configurations: Api<ValidatingWebhookConfiguration>,
    server_names: Vec<String>,
}

impl SelfSigned {
    /// A keeper of the Secret `name` in `namespace`; the certificate is for `server_names`.
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

    /// Makes what is missing or due, publishes the authorities, and returns the pair to serve.
    ///
    /// # Errors
    /// When any of it cannot be read or written.
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
        anyhow::bail!("others went on changing {} or the configuration", self.place())
    }

    /// Nothing if somebody else was faster.
    async fn attempt(&self) -> Result<Option<Contents>> {
        let place = self.place();
        let secret = self.secrets.get(&self.name).await;
        let secret = secret.with_context(|| format!("failed to read {place}"))?;
        let published = self.configurations.get_opt(configuration::NAME).await;
        let published = published.context("failed to read the webhook's configuration")?;
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
                let stored = self.configurations.patch(configuration::NAME, &params, &patch).await;
                if !first(stored).context("failed to write the webhook's configuration")? {
                    return Ok(None);
                }
                tracing::info!("published the authorities");
            }
            // A webhook that is taken out of use on purpose must be able to run.
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

/// The bundle of each entry.
fn bundles(configuration: &ValidatingWebhookConfiguration) -> Vec<Vec<u8>> {
    let entries = configuration.webhooks.iter().flatten();
    let bundle = entries.map(|entry| entry.client_config.ca_bundle.clone());
    bundle.map(|bundle| bundle.map(|ByteString(bytes)| bytes).unwrap_or_default()).collect()
}

/// Entries are merged by their names: the rest of them stays as it is.
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

/// Whether the write was the first after what it was made from.
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

    /// A Secret and a configuration as an API server keeps them: a patch made from another version than the
    /// present one is a conflict.
    #[derive(Default)]
    struct World {
        secret: Value,
        configuration: Option<Value>,
        /// So many patches find that somebody else has just written.
        overtaken: usize,
        /// How many patches were stored.
        written: usize,
    }

    type Shared = Arc<Mutex<World>>;

    fn world() -> Shared {
        let entry = |name: &str| {
            json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"service": {"namespace": "ns", "name": "pgscale-webhook"}}})
        };
        Arc::new(Mutex::new(World {
            secret: json!({"metadata": {"name": "kept", "resourceVersion": "1"}}),
            configuration: Some(json!({
                "metadata": {"name": "pgscale.dev", "resourceVersion": "1"},
                "webhooks": [entry("shrink.pgscale.dev"), entry("grow.pgscale.dev")],
            })),
            ..World::default()
        }))
    }

    fn self_signed(world: &Shared) -> SelfSigned {
        let world = Arc::clone(world);
        let service = tower::service_fn(move |request: Request<Body>| {
            let world = Arc::clone(&world);
            async move {
                let (head, body) = request.into_parts();
                let patch = body.collect_bytes().await.unwrap();
                let (status, answer) =
                    world.lock().unwrap().answer(&head.method, head.uri.path(), &patch);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
            }
        });
        let client = Client::new(service, "default");
        let names = vec!["pgscale-webhook.ns.svc".to_owned()];
        SelfSigned::new(client, ("ns".to_owned(), "kept".to_owned()), names)
    }

    impl World {
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

        /// What both entries trust.
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
    async fn an_empty_secret_is_filled_and_trusted_and_then_left_alone() {
        let world = world();
        let self_signed = self_signed(&world);
        let certificates = Certificates::new(self_signed.offer().await.unwrap()).unwrap();
        assert_eq!(world.lock().unwrap().written, 2);
        let trusted = world.lock().unwrap().trusted();
        assert_eq!(trusted, world.lock().unwrap().stored(AUTHORITIES));
        assert!(!certificates.replace(self_signed.offer().await.unwrap()).unwrap());
        assert_eq!(world.lock().unwrap().written, 2, "nothing was due");
    }

    #[tokio::test]
    async fn replicas_that_start_at_once_serve_the_same() {
        let world = world();
        let offers = futures::future::join_all((0..4).map(|_| {
            let self_signed = self_signed(&world);
            async move { self_signed.offer().await.unwrap().certificate.text }
        }));
        for text in offers.await {
            assert_eq!(text, world.lock().unwrap().stored(CERTIFICATE).as_bytes());
        }
    }

    #[tokio::test]
    async fn who_is_overtaken_reads_again_and_gives_up_at_last() {
        let world = world();
        world.lock().unwrap().overtaken = 3;
        self_signed(&world).offer().await.unwrap();
        world.lock().unwrap().secret["data"] = Value::Null;
        world.lock().unwrap().overtaken = ATTEMPTS;
        let error = self_signed(&world).offer().await.err().unwrap();
        assert!(error.to_string().starts_with("others went on changing the Secret ns/kept"));
    }

    #[tokio::test]
    async fn a_wiped_bundle_is_published_again_and_a_missing_registration_is_no_fault() {
        let world = world();
        let self_signed = self_signed(&world);
        self_signed.offer().await.unwrap();
        let trusted = world.lock().unwrap().trusted();
        let wiped = Value::Null;
        world.lock().unwrap().configuration.as_mut().unwrap()["webhooks"][1]["clientConfig"]["caBundle"] =
            wiped;
        self_signed.offer().await.unwrap();
        assert_eq!(world.lock().unwrap().trusted(), trusted);

        world.lock().unwrap().configuration = None;
        let written = world.lock().unwrap().written;
        self_signed.offer().await.unwrap();
        assert_eq!(world.lock().unwrap().written, written);
    }
}
