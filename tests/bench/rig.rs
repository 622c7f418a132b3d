//! The rig: a bed without a running operator, our webhook, a no-op webhook and a
//! `ValidatingAdmissionPolicy`, each for clusters of a namespace of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, Patch, PatchParams, PostParams};
use pgscale_tests::bed::{Bed, BedOptions};
use pgscale_tests::control_plane::{ADDRESS, PORT};
use pgscale_tests::operator::{self, RUN_NOTHING, Settings};
use pgscale_tests::pki::{ADMINISTRATORS, write};
use pgscale_tests::process::Process;
use pgscale_tests::progress::Step;
use pgscale_tests::sandbox;
use pgscale_tests::supplies::Supplies;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::Webhook;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::answer::{Answer, Grade, Right, Shot, Target};
use crate::clusters::{self, Cluster};
use crate::https::{Call, Https};
use crate::members::Members;
use crate::noop;
use crate::shots::{Kind, MAX, patch, review};

/// The address of the no-op webhook: not a loopback address, where the API server would call it by
/// HTTP/2. Our webhook listens on port 9443 of every address.
const NOOP: ([u8; 4], u16) = ([10, 244, 255, 3], 9553);
/// The addresses that the load calls from, as from several API servers.
const SOURCES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 244, 255, 11),
    Ipv4Addr::new(10, 244, 255, 12),
    Ipv4Addr::new(10, 244, 255, 13),
    Ipv4Addr::new(10, 244, 255, 14),
];
/// The label of the namespaces, which says what guards them.
const LABEL: &str = "bench.pgscale.dev/column";
const READY: Duration = Duration::from_secs(60);

/// What guards the clusters of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Our webhook.
    Ours,
    /// A webhook that allows everything.
    Noop,
    /// A `ValidatingAdmissionPolicy` with the same bounds.
    Policy,
}

impl Column {
    /// Every column.
    pub(crate) const ALL: [Self; 3] = [Self::Noop, Self::Ours, Self::Policy];

    /// Returns its namespace.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Ours => "bench-ours",
            Self::Noop => "bench-noop",
            Self::Policy => "bench-policy",
        }
    }
}

/// Everything that runs.
pub(crate) struct Rig {
    /// The control plane and the programs.
    pub(crate) bed: Arc<Bed>,
    /// Our webhook.
    pub(crate) webhook: Webhook,
    /// The API server, for an administrator.
    pub(crate) api: Arc<Target>,
    /// The members of our clusters.
    pub(crate) members: Members,
    clusters: Vec<(Kind, Cluster)>,
    /// The stored clusters of the webhooks. Nothing changes them.
    stored: Vec<(Column, String, Value)>,
    noop: Process,
    noop_ca: String,
    renewing: JoinHandle<()>,
}

impl Rig {
    /// Brings everything up.
    ///
    /// # Errors
    /// Fails when a part does not come up, or does not answer as it should.
    pub(crate) async fn start(quick: bool) -> Result<Self> {
        let step = Step::begin("bringing up the control plane");
        let supplies = Supplies::read()?;
        let directory = sandbox::directory()?;
        let (run, _) = RUN_NOTHING;
        let operator = Settings {
            // One pod after the other would take longer to come up.
            parallel_pods: true,
            more: [("inherited_labels".to_owned(), run.to_owned())].into(),
            ..Settings::default()
        };
        let options = BedOptions { directory, supplies, operator };
        let bed = Arc::new(Bed::start(options).await?);
        stand_in_for_operator(&bed).await?;
        let (identity, ca) = {
            let control_plane = bed.control_plane().lock().await;
            let authority = control_plane.authority();
            (authority.client("bench", &[ADMINISTRATORS])?, authority.certificate().to_owned())
        };
        let address = SocketAddr::new(ADDRESS.parse().context("a bad address")?, PORT);
        let https = || Https::new(address, ADDRESS, ca.as_bytes(), Some(&identity), &[]);
        step.done();

        let step = Step::begin("making clusters");
        let members = Members::start().await?;
        let clusters = clusters_of(quick);
        let plain: Vec<_> = clusters.iter().map(|(_, cluster)| cluster.clone()).collect();
        let api = https()?;
        let complete = clusters::complete()?;
        for column in Column::ALL {
            let namespace = column.namespace();
            let object = json!({"metadata": {"name": namespace, "labels": {LABEL: namespace}}});
            api.expect(&Call::json(Method::POST, "/api/v1/namespaces", &object)).await?;
            clusters::declare(&api, namespace, &plain, &complete).await?;
        }
        let ours = Column::Ours.namespace();
        clusters::bring_up(&api, ours, &plain, &members).await?;
        let renewing = {
            let api = Arc::new(https()?);
            tokio::spawn(async move { clusters::renew(api, ours, &plain).await })
        };
        step.done();

        let step = Step::begin("installing our webhook, the no-op webhook and the policy");
        let webhook = Webhook::start(&bed).await?;
        webhook.guard(ours).await?;
        let bounds = json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"name": "bench"}, "spec": {"instances": {"min": 1, "max": MAX}},
        });
        api.expect(&Call::json(Method::POST, policies(ours), &bounds)).await?;
        let noop = start_noop(&bed).await?;
        register_noop(&bed, &webhook, &ca).await?;
        policy(&api).await?;
        let mut stored = Vec::new();
        for column in [Column::Ours, Column::Noop] {
            for (_, cluster) in &clusters {
                let call = Call::bare(Method::GET, cluster.path(column.namespace()));
                stored.push((column, cluster.name.clone(), api.expect(&call).await?));
            }
        }
        let api = Arc::new(Target::ApiServer(api));
        let noop_ca = ca;
        let rig = Self { bed, webhook, api, members, clusters, stored, noop, noop_ca, renewing };
        rig.answers().await?;
        step.done();
        Ok(rig)
    }

    /// Returns the writes of `kind` for the clusters of `column`, to send to the API server.
    pub(crate) fn shots(&self, column: Column, kind: Kind) -> Arc<Vec<Shot>> {
        let clusters = self.of(kind);
        let right = kind.right(column);
        let shot = |cluster: &Cluster| Shot {
            call: patch(&cluster.path(column.namespace()), kind.count(cluster)),
            right,
        };
        Arc::new(clusters.map(shot).collect())
    }

    /// Returns the same as reviews, to send to a webhook.
    ///
    /// # Errors
    /// Fails when a cluster or a registration cannot be read.
    pub(crate) async fn reviews(&self, column: Column, kind: Kind) -> Result<Arc<Vec<Shot>>> {
        let path = match column {
            Column::Ours => self.entry().await?.0,
            Column::Noop | Column::Policy => "/validate".to_owned(),
        };
        let mut shots = Vec::new();
        for cluster in self.of(kind) {
            let mut stored = self.stored.iter();
            let stored = stored.find(|(of, name, _)| *of == column && *name == cluster.name);
            let (_, _, object) = stored.context("no such cluster")?;
            let review = review(object, kind.count(cluster))?;
            let call = Call::json(Method::POST, format!("{path}?timeout=5s"), &review);
            shots.push(Shot { call, right: kind.right(column) });
        }
        Ok(Arc::new(shots))
    }

    /// Returns a webhook to call straight.
    ///
    /// # Errors
    /// Fails when our registration cannot be read.
    pub(crate) async fn straight(&self, column: Column) -> Result<Arc<Target>> {
        let https = match column {
            Column::Ours => {
                let address = self.webhook.address().parse().context("a bad address")?;
                let (_, ca) = self.entry().await?;
                Https::new(address, &self.webhook.server_name(), &ca, None, &sources(address))?
            }
            Column::Noop | Column::Policy => {
                let (address, port) = NOOP;
                let address = SocketAddr::from((address, port));
                let name = address.ip().to_string();
                Https::new(address, &name, self.noop_ca.as_bytes(), None, &SOURCES)?
            }
        };
        Ok(Arc::new(Target::Webhook(https)))
    }

    /// Returns the path that the API server calls, and the authority that it trusts.
    async fn entry(&self) -> Result<(String, Vec<u8>)> {
        let registration = self.webhook.registration().await?;
        let entries = registration.webhooks.unwrap_or_default();
        let client = entries.into_iter().next().context("an empty registration")?.client_config;
        let ByteString(ca) = client.ca_bundle.context("the registration has no authority")?;
        let of_url = || {
            let (_, rest) = client.url.as_ref()?.split_once("://")?;
            rest.find('/').and_then(|at| rest.get(at..)).map(str::to_owned)
        };
        let path = client.service.as_ref().and_then(|service| service.path.clone());
        Ok((path.or_else(of_url).unwrap_or_else(|| "/".to_owned()), ca))
    }

    /// Returns the client of the API server.
    pub(crate) fn https(&self) -> &Https {
        let (Target::ApiServer(https) | Target::Webhook(https)) = &*self.api;
        https
    }

    /// Returns the process that answers the reviews of `column`.
    ///
    /// # Errors
    /// Fails when it does not run.
    pub(crate) async fn process(&self, column: Column) -> Result<u32> {
        let id = match column {
            Column::Ours => self.webhook.id().await,
            Column::Noop => self.noop.id(),
            Column::Policy => self.bed.control_plane().lock().await.api_server_id(),
        };
        id.context("a process has ended")
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Cluster> {
        let clusters = self.clusters.iter().filter(move |(of, _)| *of == kind.clusters());
        clusters.map(|(_, cluster)| cluster)
    }

    /// Waits until every column answers every kind of write as it should.
    async fn answers(&self) -> Result<()> {
        for (column, kind) in Column::ALL.into_iter().flat_map(|column| {
            let kinds = Kind::ALL.into_iter().filter(move |kind| kind.is_for(column));
            kinds.map(move |kind| (column, kind))
        }) {
            for shot in self.shots(column, kind).iter() {
                let what = format!("the right answer ({column:?}, {kind:?})");
                until(&what, READY, async || {
                    let answer = self.api.send(shot).await;
                    let said = format!("{answer:?}").chars().take(2000).collect();
                    let right = shot.right.grade(&self.api.answer(answer)) == Grade::Right;
                    Ok(if right { Attempt::Done(()) } else { Attempt::NotYet(said) })
                })
                .await?;
            }
            if column == Column::Policy {
                continue;
            }
            let target = self.straight(column).await?;
            for shot in self.reviews(column, kind).await?.iter() {
                let answer = target.ask(shot).await;
                let right = shot.right.grade(&answer) == Grade::Right;
                ensure!(right, "straight, {column:?}, {kind:?}: {answer:?}");
            }
        }
        Ok(())
    }

    /// Ends everything.
    ///
    /// # Errors
    /// Fails when an end cannot be observed.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.renewing.abort();
        self.noop.kill().await?;
        self.webhook.stop().await?;
        drop(self.webhook);
        match Arc::into_inner(self.bed) {
            Some(bed) => bed.stop().await,
            // The end of the sandbox ends it.
            None => Ok(()),
        }
    }
}

/// Returns the addresses to call `address` from: a loopback address takes only loopback callers.
fn sources(address: SocketAddr) -> Vec<Ipv4Addr> {
    let loopback = [1, 2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 7, last));
    if address.ip().is_loopback() { loopback.to_vec() } else { SOURCES.to_vec() }
}

/// Returns the path of the policies of a namespace.
pub(crate) fn policies(namespace: &str) -> String {
    format!("/apis/pgscale.dev/v1alpha1/namespaces/{namespace}/scalepolicies")
}

fn clusters_of(quick: bool) -> Vec<(Kind, Cluster)> {
    let many = if quick { 3 } else { 20 };
    let growing = (0..many).map(|it| (Kind::Growth, Cluster::new(format!("acid-grow-{it}"), 3)));
    let shrinking = (0..4).map(|it| (Kind::Shrink, Cluster::new(format!("acid-shrink-{it}"), 5)));
    let led = (0..4).map(|it| {
        let cluster = Cluster { leader: 2, ..Cluster::new(format!("acid-led-{it}"), 3) };
        (Kind::LosesLeader, cluster)
    });
    let silent = Cluster { silent: Some(4), ..Cluster::new("acid-silent-0", 5) };
    growing.chain(shrinking).chain(led).chain([(Kind::ShrinkSilent, silent)]).collect()
}

/// Ends the operator, and lets its Deployment look as if it ran: it must not act on the clusters.
async fn stand_in_for_operator(bed: &Bed) -> Result<()> {
    bed.operator().lock().await.stop().await?;
    let deployments: Api<Deployment> = Api::namespaced(bed.client(), operator::NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments
        .patch(operator::NAME, &PatchParams::default(), &patch)
        .await
        .context("failed to scale the operator's Deployment")?;
    let rollout = format!("deployment/{}", operator::NAME);
    let wait = ["--namespace", operator::NAMESPACE, "rollout", "status", &rollout];
    bed.kubectl(&[&wait[..], &["--timeout=60s"]].concat()).await?.ok()?;
    Ok(())
}

async fn start_noop(bed: &Bed) -> Result<Process> {
    let directory = bed.directory().join("noop");
    std::fs::create_dir_all(&directory).context("failed to make a directory")?;
    let address = SocketAddr::from(NOOP);
    let name = address.ip().to_string();
    let pair = bed.control_plane().lock().await.authority().server("noop", &[&name])?;
    write(&directory, noop::CERTIFICATE, &pair.certificate)?;
    write(&directory, noop::KEY, &pair.key)?;
    let program = std::env::current_exe().context("failed to find this program's file")?;
    let mut command = Command::new(program);
    command.arg("--serve-noop").arg(address.to_string()).arg("--directory").arg(&directory);
    Process::spawn("noop", command, &bed.logs())
}

/// Registers the no-op webhook with the entries of ours: the same rules, conditions and deadlines.
async fn register_noop(bed: &Bed, webhook: &Webhook, ca: &str) -> Result<()> {
    let mut registration = ValidatingWebhookConfiguration {
        webhooks: webhook.registration().await?.webhooks,
        ..ValidatingWebhookConfiguration::default()
    };
    registration.metadata.name = Some("noop.bench.pgscale.dev".to_owned());
    let (label, namespace) = (LABEL.to_owned(), Column::Noop.namespace().to_owned());
    let (address, port) = NOOP;
    let url = format!("https://{}/validate", SocketAddr::from((address, port)));
    for entry in registration.webhooks.iter_mut().flatten() {
        entry.client_config = WebhookClientConfig {
            url: Some(url.clone()),
            ca_bundle: Some(ByteString(ca.as_bytes().to_vec())),
            service: None,
        };
        // A call that fails must not count as one that was allowed.
        entry.failure_policy = Some("Fail".to_owned());
        entry.namespace_selector = Some(LabelSelector {
            match_labels: Some([(label.clone(), namespace.clone())].into()),
            ..LabelSelector::default()
        });
    }
    Api::all(bed.client())
        .create(&PostParams::default(), &registration)
        .await
        .context("failed to register the no-op webhook")?;
    Ok(())
}

async fn policy(api: &Https) -> Result<()> {
    let rules = json!([{
        "apiGroups": ["acid.zalan.do"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["postgresqls"],
    }]);
    let within = format!(
        "object.?spec.?numberOfInstances.orValue(0) >= 1 && \
         object.?spec.?numberOfInstances.orValue(0) <= {MAX}"
    );
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "bench"},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": within, "message": "not within the bounds"}],
        },
    });
    let path = format!("{group}/validatingadmissionpolicies");
    api.expect(&Call::json(Method::POST, path, &policy)).await?;
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "bench"},
        "spec": {
            "policyName": "bench", "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {
                "matchLabels": {LABEL: Column::Policy.namespace()},
            }},
        },
    });
    let path = format!("{group}/validatingadmissionpolicybindings");
    api.expect(&Call::json(Method::POST, path, &binding)).await?;
    Ok(())
}

/// Returns whether an answer to `shot` is right.
pub(crate) fn is_right(shot: &Shot, answer: &Answer) -> bool {
    shot.right.grade(answer) == Grade::Right
}

/// Returns the same writes with another right answer.
pub(crate) fn with_right(shots: &[Shot], right: Right) -> Vec<Shot> {
    shots.iter().map(|shot| Shot { right, ..shot.clone() }).collect()
}

/// Returns the JSON of a namespace.
pub(crate) fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}
