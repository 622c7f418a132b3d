//! What all replicas keep in common: authorities and secret paths in one Secret, and both published
//! in the registration.
//!
//! No replica leads. Each does the same from time to time, and writes only what follows from what
//! it has read: every patch carries the resource version, and the replica that comes second reads
//! again. The chart makes the Secret, empty. The webhook makes it again where it was deleted, and it
//! changes nothing of the registration but bundles and paths.
//!
//! Each step is worth something alone. A replica that can publish nothing still serves with what it
//! holds, and a Secret that cannot be written is no reason to forget what is published.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::http::header;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, GetParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Client, Error, Resource as _};
use serde_json::{Map, Value, json};

use super::authority::{self, Held, Leaf, Trusted};
use super::clock::{self, Clock};
use super::pair::{Offer, Part};
use super::paths;
use super::{Certificates, entries};
use crate::caller::Caller;
use crate::registration;

#[cfg(test)]
mod tests;

/// The most conflicts with other writers before a look fails.
const ATTEMPTS: usize = 5;
const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEYS: &str = "ca.key";
const PATHS: &str = "paths";
/// The serving certificate of earlier versions, which all replicas shared.
const SHARED: [&str; 2] = ["tls.crt", "tls.key"];
/// The least time after which every replica has seen a new path: several looks.
const SPREAD: SignedDuration = SignedDuration::from_mins(1);
/// The number of looks in which a replica is sure to have read the Secret once.
const LOOKS: u32 = 3;
/// The most new connections over which it asks for the time where an API server's differs. Each leads to
/// one of several API servers, by chance.
const WITNESSES: usize = 5;
/// The time for each of them.
const WITNESS_TIME: Duration = Duration::from_secs(5);

/// The Secret and the registration.
pub(crate) struct Kept {
    client: Client,
    secrets: Api<Secret>,
    namespace: String,
    name: String,
    configurations: Api<ValidatingWebhookConfiguration>,
    /// The names by which the API server calls the webhook, where it signs certificates itself.
    server_names: Option<Vec<String>>,
    /// Whether it makes the secret path itself. Otherwise that is given.
    own_path: bool,
    spread: SignedDuration,
    clock: fn() -> Timestamp,
    /// Makes a client with connections of its own, which may lead to another API server.
    connect: Option<Connect>,
    leaf: Mutex<Option<Leaf>>,
}

/// A function that makes a client.
type Connect = Box<dyn Fn() -> Result<Client> + Send + Sync>;

/// The contents of the Secret.
#[derive(Clone, Default, PartialEq, Eq)]
struct Contents {
    authorities: Held,
    paths: Vec<paths::Kept>,
}

impl Kept {
    /// Returns what is kept in the Secret `name` in `namespace`, by replicas that look every
    /// `period`. With `server_names`, each signs a certificate for these names. Without, another
    /// program makes the certificates, and publishes their authority. With `own_path` the webhook
    /// makes the secret path. Without, another program publishes it.
    pub(crate) fn new(
        client: Client,
        (namespace, name): (String, String),
        server_names: Option<Vec<String>>,
        own_path: bool,
        period: Duration,
    ) -> Self {
        let looks = SignedDuration::try_from(period.saturating_mul(LOOKS)).unwrap_or(SPREAD);
        Self {
            secrets: Api::namespaced(client.clone(), &namespace),
            namespace,
            name,
            configurations: Api::all(client.clone()),
            client,
            server_names,
            own_path,
            spread: SPREAD.max(looks),
            clock: Timestamp::now,
            connect: None,
            leaf: Mutex::default(),
        }
    }

    /// Lets it ask other API servers for the time, by clients that `connect` makes.
    pub(crate) fn with_others(
        self,
        connect: impl Fn() -> Result<Client> + Send + Sync + 'static,
    ) -> Self {
        Self { connect: Some(Box::new(connect)), ..self }
    }

    /// Makes what is missing or due, publishes it, and takes it into use. Returns whether the
    /// certificate is another one than before.
    ///
    /// # Errors
    /// Fails when the Secret or the registration cannot be read or written, or the clock is wrong.
    /// What could be done was done.
    pub(super) async fn look(&self, certificates: &Certificates, caller: &Caller) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            if let Some(changed) = self.attempt(certificates, caller).await? {
                return Ok(changed);
            }
        }
        anyhow::bail!("other writers kept changing {} or the registration", self.place())
    }

    /// Tries once; `None` where another writer was faster.
    async fn attempt(&self, certificates: &Certificates, caller: &Caller) -> Result<Option<bool>> {
        let place = self.place();
        let (secret, date) =
            self.secret(&self.client).await.with_context(|| format!("failed to read {place}"))?;
        let now = self.time(date.as_deref()).await.inspect_err(|wrong| {
            certificates.reached(Err(wrong.to_string()));
        })?;
        let found = self.configurations.get_opt(registration::NAME).await;
        let found = found.context("failed to read the webhook's registration")?;
        let bundles = found.as_ref().map(entries::bundles).unwrap_or_default();
        let tokens = found.as_ref().map(entries::tokens).unwrap_or_default();
        let trusted = Trusted::of(&bundles);

        let held = Contents::of(secret.as_ref(), now);
        let next = self.next(&held, &trusted, &tokens, now)?;
        let mut problem = None;
        let contents = if next == held && secret.is_some() {
            held
        } else {
            match self.store(secret.as_ref(), &next).await {
                Ok(true) => {
                    tracing::info!(secret = %place, "wrote new authorities or paths");
                    next
                }
                Ok(false) => return Ok(None),
                Err(error) => {
                    problem =
                        Some(anyhow::Error::new(error).context(format!("failed to write {place}")));
                    held
                }
            }
        };
        let changed = self.sign(&contents, &trusted, now, certificates)?;
        if self.own_path {
            caller.accept(paths::accepted(&contents.paths, &tokens));
        }

        let leaf = self.leaf();
        let Some(found) = found else {
            // A webhook whose registration was deleted on purpose must still run.
            let missing = format!("the registration {} does not exist", registration::NAME);
            certificates.reached(Err(missing));
            return problem.map_or(Ok(Some(changed)), Err);
        };
        let bundle = self
            .server_names
            .as_ref()
            .map(|_| authority::bundle(&contents.authorities, &trusted, leaf.as_ref(), now));
        // An authority that could not be made is no reason to publish an empty bundle.
        let bundle = bundle.filter(|bundle| !bundle.is_empty());
        let token = paths::to_publish(&contents.paths, self.spread, now);
        let mut published = self.publish(&found, bundle.as_deref(), token).await;
        if published.is_err() && token.is_some() {
            // A policy of the API server may refuse another path, such as that of a URL, and not
            // the bundle.
            if let Ok(Some(stored)) = self.publish(&found, bundle.as_deref(), None).await {
                published = self.publish(&stored, None, token).await;
            }
        }
        let found = match published {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(None),
            Err(error) => {
                let error = anyhow::Error::new(error);
                problem =
                    problem.or(Some(error.context("failed to write the webhook's registration")));
                // As it is by now.
                let again = self.configurations.get_opt(registration::NAME).await;
                again.ok().flatten().unwrap_or(found)
            }
        };
        certificates.reached(self.reached(&found, leaf.as_ref(), caller));
        problem.map_or(Ok(Some(changed)), Err)
    }

    /// Returns the contents to keep from `now` on.
    fn next(
        &self,
        held: &Contents,
        trusted: &Trusted,
        tokens: &[Option<String>],
        now: Timestamp,
    ) -> Result<Contents> {
        let authorities = if self.server_names.is_some() {
            authority::next(&held.authorities, trusted, now)
                .context("failed to make an authority")?
        } else {
            held.authorities.clone()
        };
        let paths = if self.own_path {
            paths::next(&held.paths, tokens, self.spread, now)?
        } else {
            Vec::new()
        };
        Ok(Contents { authorities, paths })
    }

    /// Signs a certificate, if one is due, and takes it into use.
    fn sign(
        &self,
        contents: &Contents,
        trusted: &Trusted,
        now: Timestamp,
        certificates: &Certificates,
    ) -> Result<bool> {
        let Some(names) = &self.server_names else { return Ok(false) };
        let old = self.leaf();
        let renewed = authority::renewed(old.as_ref(), &contents.authorities, trusted, names, now);
        let Some(leaf) = renewed.context("failed to sign a certificate")? else {
            return Ok(false);
        };
        let part = |text: &String| Part {
            place: "the certificate that this replica signed".to_owned(),
            text: text.clone().into_bytes(),
        };
        let offer = Offer { certificate: part(&leaf.certificate), key: part(&leaf.key) };
        let changed = certificates.replace_at(offer, now)?;
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf);
        Ok(changed)
    }

    /// Writes bundle and token into the registration where it has others. Returns it as it is then,
    /// `None` where another writer was faster.
    async fn publish(
        &self,
        found: &ValidatingWebhookConfiguration,
        bundle: Option<&str>,
        token: Option<&str>,
    ) -> Result<Option<ValidatingWebhookConfiguration>, Error> {
        let Some(patch) = entries::patch(found, bundle, token) else {
            return Ok(Some(found.clone()));
        };
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        match self.configurations.patch(registration::NAME, &params, &patch).await {
            Ok(stored) => {
                tracing::info!("published authorities and path");
                Ok(Some(stored))
            }
            Err(Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether a review by this registration arrives here, and the reason where it does not.
    fn reached(
        &self,
        found: &ValidatingWebhookConfiguration,
        leaf: Option<&Leaf>,
        caller: &Caller,
    ) -> Result<(), String> {
        let name = registration::NAME;
        let (bundles, tokens) = (entries::bundles(found), entries::tokens(found));
        if bundles.is_empty() {
            return Err(format!("the registration {name} has no entry"));
        }
        let trusts = |at: usize| match (&self.server_names, leaf) {
            // Another program publishes the authority, or everybody trusts it.
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(leaf)) => bundles
                .get(at..=at)
                .is_some_and(|bundle| authority::accepted(leaf, &Trusted::of(bundle))),
        };
        if let Some(entry) = entries::first_other(found, trusts) {
            return Err(format!(
                "the entry {entry} of the registration {name} does not trust this replica"
            ));
        }
        let known = |at: usize| match tokens.get(at) {
            Some(Some(token)) => caller.knows(&registration::path(token)),
            Some(None) | None => false,
        };
        match entries::first_other(found, known) {
            Some(entry) => Err(format!(
                "the entry {entry} of the registration {name} has no path that is answered here"
            )),
            None => Ok(()),
        }
    }

    /// Reads the Secret, and the header `Date` of the answer.
    /// Returns the time of an API server by the `date` of its answer.
    ///
    /// Where it differs from the time here, one of the two clocks is wrong. New connections may lead to
    /// other API servers, and one that agrees with this machine says that its own clock is right.
    async fn time(&self, date: Option<&str>) -> Result<Timestamp, Clock> {
        let agreed = clock::agreed(date, (self.clock)());
        let (Err(wrong @ Clock::Wrong { .. }), Some(connect)) = (&agreed, &self.connect) else {
            return agreed;
        };
        for _ in 0..WITNESSES {
            let Ok(client) = connect() else { break };
            let asked = tokio::time::timeout(WITNESS_TIME, self.secret(&client)).await;
            let Ok(Ok((_, date))) = asked else { continue };
            if let Ok(now) = clock::agreed(date.as_deref(), (self.clock)()) {
                tracing::warn!(%wrong, "another API server agrees with this node: one API server has a wrong clock");
                return Ok(now);
            }
        }
        agreed
    }

    /// Reads the Secret, and the date of the answer.
    async fn secret(&self, client: &Client) -> Result<(Option<Secret>, Option<String>)> {
        let url = Secret::url_path(&(), Some(&self.namespace));
        let request = Request::new(url).get(&self.name, &GetParams::default())?;
        let response = client.send(request.map(Body::from)).await?;
        let date = response.headers().get(header::DATE);
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        let code = response.status();
        let body = response.into_body().collect_bytes().await?;
        if code.is_success() {
            let secret = serde_json::from_slice(&body).context("the answer is no Secret")?;
            return Ok((Some(secret), date));
        }
        let status = serde_json::from_slice::<Status>(&body);
        let status = status.unwrap_or_else(|_| Status::failure(code.as_str(), "Unreadable"));
        if status.code == 404 {
            return Ok((None, date));
        }
        Err(Error::Api(Box::new(status.with_code(code.as_u16()))).into())
    }

    /// Writes the Secret. Returns whether no other writer came between the read and this write.
    async fn store(&self, read: Option<&Secret>, next: &Contents) -> Result<bool, Error> {
        let stored = match read {
            None => {
                let secret: Secret = serde_json::from_value(json!({
                    "metadata": {"name": self.name, "namespace": self.namespace},
                    "type": "Opaque",
                    "data": next.data(self.server_names.is_some()),
                }))
                .map_err(Error::SerdeError)?;
                self.secrets.create(&PostParams::default(), &secret).await
            }
            Some(read) => {
                let mut data = next.data(self.server_names.is_some());
                let present = read.data.iter().flatten().map(|(key, _)| key);
                let shared = present.filter(|key| SHARED.contains(&key.as_str()));
                data.extend(shared.map(|key| (key.clone(), Value::Null)));
                let patch = json!({
                    "metadata": {"resourceVersion": read.metadata.resource_version},
                    "data": data,
                });
                let params = PatchParams::default();
                self.secrets.patch(&self.name, &params, &Patch::Merge(&patch)).await
            }
        };
        match stored {
            Ok(_) => Ok(true),
            // It was changed, made or deleted since.
            Err(Error::Api(status)) if status.code == 409 => Ok(false),
            Err(Error::Api(status)) if status.code == 404 && read.is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn leaf(&self) -> Option<Leaf> {
        self.leaf.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn place(&self) -> String {
        format!("the Secret {}/{}", self.namespace, self.name)
    }
}

impl Contents {
    fn of(secret: Option<&Secret>, now: Timestamp) -> Self {
        let text = |key: &str| {
            let ByteString(bytes) = secret?.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.clone()).ok()
        };
        let text = |key: &str| text(key).unwrap_or_default();
        let authorities = Held { certificates: text(AUTHORITIES), keys: text(AUTHORITY_KEYS) };
        Self { authorities, paths: paths::read(&text(PATHS), now) }
    }

    fn data(&self, with_authorities: bool) -> Map<String, Value> {
        let bytes =
            |key: &str, text: &str| (key.to_owned(), json!(ByteString(text.as_bytes().to_vec())));
        let mut data = Map::from_iter([bytes(PATHS, &paths::text(&self.paths))]);
        if with_authorities {
            let Held { certificates, keys } = &self.authorities;
            data.extend([bytes(AUTHORITIES, certificates), bytes(AUTHORITY_KEYS, keys)]);
        }
        data
    }
}
