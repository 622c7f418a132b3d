//! The edge of the diagnosis: it lists and gets, looks at the certificate of each replica through a
//! port-forward, and sends one dry run. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use pgscale_guard::Seen;
use pgscale_guard::operator::Operator;
use pgscale_guard::operator::account::{LIST_NAME, LIST_NAMESPACE};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::{KnownOperators, Operators, Reader};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::canary::{Answer, Canary, certain};
use super::definitions::operators_definition;
use super::facts::{Chain, Facts};
use super::policies::of_cluster;
use super::shipped::{NAME, WEBHOOK, definitions};
use super::workload::is_ready;
use crate::error::chain;
use crate::session::Session;

/// The number of objects in one answer.
const PAGE: u32 = 500;
/// The time limit of one look at a certificate.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of operators that are looked for at a time.
const AT_ONCE: usize = 8;
/// The field manager of the dry run.
const MANAGER: &str = "kubectl-pgscale-doctor";
/// The port of the webhook, where its Deployment names none.
const PORT: u16 = 9443;

/// Reads everything. A part that cannot be read is unreadable, and the others are read. `canary` says
/// whether a dry run is sent.
///
/// # Errors
/// The chart inside this program cannot be read.
pub(crate) async fn facts(session: &Session, canary: bool) -> Result<Facts, String> {
    let client = &session.client;
    let objects = &Objects::default();
    let everywhere =
        |group, version, kind, plural| objects.untyped(client, group, version, kind, plural);
    let names = definitions()?;
    let names = names.into_iter().filter_map(|definition| definition.metadata.name);
    let names: Vec<String> = names.chain([operators_definition()]).collect();
    let installed_definitions = names.into_iter().map(async |name| {
        let definition = objects.get(Api::all(client.clone()), &name).await;
        (name, definition)
    });
    let installed = async {
        futures::join!(
            objects.get(Api::all(client.clone()), NAME),
            objects.all(Api::all(client.clone())),
            objects.all(Api::all(client.clone())),
            objects.all(Api::all(client.clone())),
            objects.all(Api::all(client.clone())),
        )
    };
    let surroundings = async {
        futures::join!(
            objects.all(Api::all(client.clone())),
            objects.all(Api::all(client.clone())),
            objects.get(Api::namespaced(client.clone(), LIST_NAMESPACE), LIST_NAME),
            objects.all(Api::all(client.clone())),
            everywhere("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
            session.reader.clusters(None, None),
            futures::future::join_all(installed_definitions),
        )
    };
    let ours = async {
        futures::join!(
            everywhere("pgscale.dev", "v1alpha1", "ScalePolicy", "scalepolicies"),
            everywhere("pgscale.dev", "v1alpha1", "ClusterScalePolicy", "clusterscalepolicies"),
            everywhere("pgscale.dev", "v1alpha1", "ScaleOverride", "scaleoverrides"),
        )
    };
    let rights = async {
        futures::join!(
            objects.all(Api::all(client.clone())),
            objects.all(Api::all(client.clone())),
            objects.all(Api::all(client.clone())),
            objects.all(Api::all(client.clone())),
        )
    };
    let (
        (registration, fences, bindings, deployments, namespaces),
        (
            priority_classes,
            network,
            operator_list,
            autoscalers,
            scaled_objects,
            clusters,
            definitions,
        ),
        (policies, platform, overrides),
        (cluster_roles, cluster_role_bindings, roles, role_bindings),
    ) = futures::join!(installed.boxed(), surroundings.boxed(), ours.boxed(), rights.boxed());
    let mut facts = Facts {
        now: session.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: None,
        registration,
        fences,
        bindings,
        deployments,
        namespaces,
        pods: Seen::Absent,
        service: Seen::Absent,
        slices: Seen::Absent,
        api_server: Seen::Absent,
        budgets: Seen::Absent,
        quotas: Seen::Absent,
        priority_classes,
        network,
        served: BTreeMap::new(),
        definitions: definitions.into_iter().collect(),
        operator_list,
        clusters: match clusters {
            Ok(clusters) => Seen::Known(clusters),
            Err(error) if error.is_not_found() => Seen::Absent,
            Err(error) => objects.unread(chain(&error), error.is_forbidden()),
        },
        operators: BTreeMap::new(),
        policies,
        platform,
        overrides,
        autoscalers,
        scaled_objects,
        cluster_roles,
        cluster_role_bindings,
        roles,
        role_bindings,
        canary: Canary::NotSent("it was not looked for".to_owned()),
        forbidden: BTreeSet::new(),
    };
    facts.home = home(&facts);
    at_home(session, objects, &mut facts).await;
    hide_where_home_is_unread(&mut facts);
    facts.forbidden.clone_from(&objects.0.lock().unwrap_or_else(PoisonError::into_inner));
    facts.served = served(client, &facts).await;
    facts.operators = operators(session, &facts).await;
    // The time of the last answer: reading takes a while.
    facts.now = session.now();
    facts.canary = if canary {
        send(session, &facts).await
    } else {
        Canary::NotSent("it was not wanted (--no-canary)".to_owned())
    };
    session.show_warnings();
    Ok(facts)
}

/// Takes nothing as missing in a namespace that is not known because it could not be read which it is.
pub(super) fn hide_where_home_is_unread(facts: &mut Facts) {
    let unread = facts.registration.unreadable().or(facts.deployments.unreadable());
    let (None, Some(why)) = (&facts.home, unread) else { return };
    let why = why.to_owned();
    facts.pods = Seen::Unreadable(why.clone());
    facts.service = Seen::Unreadable(why.clone());
    facts.slices = Seen::Unreadable(why.clone());
    facts.budgets = Seen::Unreadable(why.clone());
    facts.quotas = Seen::Unreadable(why);
}

/// Returns the namespace of the webhook: of the Deployment with its name, or of the Service that
/// the registration names. Of several Deployments, the one that the registration names.
fn home(facts: &Facts) -> Option<String> {
    let entries = facts.registration.known().and_then(|it| it.webhooks.as_deref());
    let called = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.client_config.service.as_ref())
        .find(|service| service.name == WEBHOOK)
        .map(|service| service.namespace.clone());
    let installed: Vec<String> = facts
        .deployments
        .known()
        .into_iter()
        .flatten()
        .filter(|one| one.metadata.name.as_deref() == Some(WEBHOOK))
        .filter_map(|one| one.metadata.namespace.clone())
        .collect();
    match (called, installed.as_slice()) {
        (Some(called), [one]) if *one != called => Some(one.clone()),
        (Some(called), _) => Some(called),
        (None, all) => all.first().cloned(),
    }
}

/// Reads what is in the namespace of the webhook.
async fn at_home(session: &Session, objects: &Objects, facts: &mut Facts) {
    let Some(home) = facts.home.clone() else { return };
    let client = &session.client;
    let of_service = |service: &str| {
        ListParams::default().labels(&format!("kubernetes.io/service-name={service}"))
    };
    let (pods, service, slices, api_server, budgets, quotas) = futures::join!(
        objects.all(Api::namespaced(client.clone(), &home)),
        objects.get(Api::namespaced(client.clone(), &home), WEBHOOK),
        objects.paged(Api::namespaced(client.clone(), &home), of_service(WEBHOOK)),
        objects.paged(Api::namespaced(client.clone(), "default"), of_service("kubernetes")),
        objects.all(Api::namespaced(client.clone(), &home)),
        objects.all(Api::namespaced(client.clone(), &home)),
    );
    (facts.pods, facts.service, facts.slices) = (pods, service, slices);
    facts.api_server = api_server;
    (facts.budgets, facts.quotas) = (budgets, quotas);
}

/// The way to the objects. It knows which reasons for unread parts are a lack of permission.
#[derive(Default)]
struct Objects(Mutex<BTreeSet<String>>);

impl Objects {
    /// Returns a part that was not read. `forbidden` says whether the reason `why` is a lack of
    /// permission.
    fn unread<T>(&self, why: String, forbidden: bool) -> Seen<T> {
        if forbidden {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(why.clone());
        }
        Seen::Unreadable(why)
    }

    fn failed<T>(&self, error: &kube::Error) -> Seen<T> {
        let kube::Error::Api(status) = error else { return self.unread(chain(error), false) };
        if status.code == 404 {
            return Seen::Absent;
        }
        self.unread(status.message.clone(), status.is_forbidden())
    }

    async fn get<K: Clone + DeserializeOwned + Debug>(&self, api: Api<K>, name: &str) -> Seen<K> {
        match api.get(name).await {
            Ok(object) => Seen::Known(object),
            Err(error) => self.failed(&error),
        }
    }

    async fn all<K: Clone + DeserializeOwned + Debug>(&self, api: Api<K>) -> Seen<Vec<K>> {
        self.paged(api, ListParams::default()).await
    }

    async fn paged<K: Clone + DeserializeOwned + Debug>(
        &self,
        api: Api<K>,
        params: ListParams,
    ) -> Seen<Vec<K>> {
        let mut params = params.limit(PAGE);
        let mut found = Vec::new();
        loop {
            match api.list(&params).await {
                Ok(page) => {
                    found.extend(page.items);
                    match page.metadata.continue_.filter(|token| !token.is_empty()) {
                        Some(token) => params = params.continue_token(&token),
                        None => return Seen::Known(found),
                    }
                }
                Err(error) => return self.failed(&error),
            }
        }
    }

    /// Lists objects of a kind whose shape may be that of another version.
    async fn untyped(
        &self,
        client: &Client,
        group: &str,
        version: &str,
        kind: &str,
        plural: &str,
    ) -> Seen<Vec<Value>> {
        let kind = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        match self.all(api).await {
            Seen::Known(objects) => Seen::Known(
                objects.iter().filter_map(|one| serde_json::to_value(one).ok()).collect(),
            ),
            Seen::Absent => Seen::Absent,
            Seen::Unreadable(why) => Seen::Unreadable(why),
        }
    }
}

/// Asks each ready replica for its certificate.
async fn served(client: &Client, facts: &Facts) -> BTreeMap<String, Result<Chain, String>> {
    let Some(home) = &facts.home else { return BTreeMap::new() };
    let api: Api<Pod> = Api::namespaced(client.clone(), home);
    let replicas = facts.replicas();
    let asked = replicas.iter().filter(|pod| is_ready(pod)).map(async |pod| {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
        let port = ports.find(|port| port.name.as_deref() == Some("webhook"));
        let port = port.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(PORT);
        let answer = timeout(PATIENCE, certificates(&api, &name, port, home)).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        (name, answer)
    });
    futures::future::join_all(asked).await.into_iter().collect()
}

async fn certificates(
    api: &Api<Pod>,
    pod: &str,
    port: u16,
    namespace: &str,
) -> Result<Chain, String> {
    let mut forwarder = api.portforward(pod, &[port]).await.map_err(|error| chain(&error))?;
    let stream = forwarder.take_stream(port).ok_or("the port-forward has no stream")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let look = Arc::new(Look(Arc::clone(&provider)));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(look)
        .with_no_client_auth();
    let name = ServerName::try_from(format!("{WEBHOOK}.{namespace}.svc"))
        .map_err(|error| error.to_string())?;
    let connection = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let shown = connection.map(|stream| {
        let (_, state) = stream.get_ref();
        let shown = state.peer_certificates().unwrap_or_default();
        shown.iter().map(|one| one.as_ref().to_vec()).collect()
    });
    forwarder.abort();
    shown.map_err(|error| chain(&error))
}

/// A verifier that believes every certificate: it is only looked at, and nothing is sent after.
#[derive(Debug)]
struct Look(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Finds the operator of each namespace's clusters.
async fn operators(session: &Session, facts: &Facts) -> BTreeMap<(String, String), Seen<Operator>> {
    let mut groups: BTreeMap<(String, String), &Postgresql> = BTreeMap::new();
    for cluster in facts.clusters.known().into_iter().flatten() {
        let group = (cluster.namespace.clone(), cluster.controller().to_owned());
        groups.entry(group).or_insert(cluster);
    }
    // One look serves all of them, unless the person names the operator.
    let operators = match &session.reader.operators {
        Operators::Listed => Operators::Known(KnownOperators::default()),
        named @ (Operators::Known(_) | Operators::Named { .. }) => named.clone(),
    };
    let reader = Reader { operators, ..session.reader.clone() };
    let reader = &reader;
    let asked = groups
        .into_iter()
        .map(|(group, cluster)| async move { (group, reader.operator(cluster).await) });
    futures::stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
}

/// Sends the canary for the first cluster for which a refusal is certain.
async fn send(session: &Session, facts: &Facts) -> Canary {
    let clusters = match &facts.clusters {
        Seen::Known(clusters) if clusters.is_empty() => {
            return Canary::NotSent("there is no cluster to try it on".to_owned());
        }
        Seen::Absent => return Canary::NotSent("there is no cluster to try it on".to_owned()),
        Seen::Unreadable(_) => return Canary::NotSent("the clusters could not be read".to_owned()),
        Seen::Known(clusters) => clusters,
    };
    let Some(overrides) = overrides(facts) else {
        return Canary::NotSent("the overrides could not be read".to_owned());
    };
    if facts.registration.known().is_none() {
        return Canary::NotSent("there is no registration that is known".to_owned());
    }
    let Some(cluster) = clusters.iter().find(|cluster| {
        let named = (cluster.namespace.clone(), cluster.name.clone());
        !overrides.contains(&named) && is_certain(facts, cluster, facts.now)
    }) else {
        return Canary::NotSent("no cluster is certain to be refused 0 instances".to_owned());
    };
    let params = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER) };
    let patch = Patch::Merge(json!({"spec": {"numberOfInstances": 0}}));
    let answer = session.clusters(&cluster.namespace).patch(&cluster.name, &params, &patch).await;
    let answer = match answer {
        Ok(_) => Answer::Admitted,
        Err(kube::Error::Api(status)) => Answer::of(&status),
        Err(error) => Answer::Unclear(chain(&error)),
    };
    Canary::Sent(format!("{}/{}", cluster.namespace, cluster.name), answer)
}

fn is_certain(facts: &Facts, cluster: &Postgresql, now: Timestamp) -> bool {
    let operator =
        facts.operators.get(&(cluster.namespace.clone(), cluster.controller().to_owned()));
    let policies = of_cluster(facts, cluster);
    certain(cluster, &policies, operator.and_then(Seen::known), now).is_some()
}

/// Returns the clusters for which an override is written. `None` where that is not known.
fn overrides(facts: &Facts) -> Option<Vec<(String, String)>> {
    let all = match &facts.overrides {
        Seen::Known(all) => all.as_slice(),
        Seen::Absent => &[],
        Seen::Unreadable(_) => return None,
    };
    let text = |one: &Value, path: &str| {
        one.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Some(
        all.iter()
            .map(|one| (text(one, "/metadata/namespace"), text(one, "/spec/cluster")))
            .collect(),
    )
}
