//! The kubelet of the test bed: runs Spilo pods as real Patroni and PostgreSQL processes.
//!
//! It registers nodes, binds pods to them (it is the scheduler too), gives every incarnation of a
//! pod an address of its own, and starts its program in namespaces of its own under the token of
//! its own service account. It mounts a directory per claim, probes, reports, restarts and ends the
//! pod with its grace period, as a kubelet does. [`crate::stage`] stages faults of its members.
//!
//! It runs inside the sandbox, in the process that owns the bed. None of its processes outlives it.

mod addresses;
mod container;
mod ending;
mod environment;
mod faults;
mod history;
mod identity;
mod journal;
mod launch;
mod nodes;
mod observe;
mod pod;
mod probe;
mod scheduler;
mod status;
mod usage;
mod volumes;
mod workload;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch_objects};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::addresses::Addresses;
use self::container::Processes;
use self::journal::Journal;
use self::nodes::Nodes;
use self::pod::{Seen, Worker};
use self::volumes::Volumes;
use crate::python::Environment;
use crate::stage::StagedFaults;

pub use self::usage::Usage;
pub use self::workload::RUN_LABEL;

/// The field manager of what the kubelet applies.
const MANAGER: &str = "bed-kubelet";

/// The directory of programs for `kubectl exec`, below the kubelet's directory.
const PROGRAMS: &str = "bin";

/// The options of a kubelet.
#[derive(Clone)]
pub struct KubeletOptions {
    /// A client with cluster-admin permissions: a kubelet, a scheduler and a provisioner in one
    /// need most of them.
    pub client: Client,
    /// The address of the API server for pods, such as `https://127.0.0.1:16443`. Its certificate
    /// must be valid for this host.
    pub api_server: String,
    /// The certificate authority of the API server, PEM, as pods find it in their `ca.crt`.
    pub ca_pem: String,
    /// The directory of volumes, container files and logs. It must not be below `/run`, because
    /// each pod has a `/run` of its own.
    pub dir: PathBuf,
    /// Patroni and PostgreSQL.
    pub python: Environment,
    /// The port at which exec and port-forward are served for every node.
    pub streaming_port: u16,
}

/// A running kubelet. Dropping it kills every pod's processes at once.
pub struct Kubelet {
    pub(crate) host: Arc<Host>,
    pods: JoinHandle<()>,
    volumes: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Kubelet {
    /// Registers the nodes and starts to serve pods and claims.
    ///
    /// # Errors
    /// Fails when the API server refuses the nodes or the storage class, or when the directory
    /// cannot be used.
    pub async fn start(options: KubeletOptions) -> Result<Self> {
        let host = Arc::new(Host::new(options).await?);
        let (stop, stopped) = oneshot::channel();
        let pods = tokio::spawn(Arc::clone(&host).serve_pods(stopped));
        let volumes = tokio::spawn({
            let host = Arc::clone(&host);
            async move { host.volumes.serve(&host.journal).await }
        });
        Ok(Self { host, pods, volumes, stop: Some(stop) })
    }

    /// Kills every pod's processes and waits until they are gone.
    ///
    /// Pods and nodes stay as they are in the API server: the kubelet stops, and no pod is deleted.
    pub async fn stop(mut self) {
        self.volumes.abort();
        if let Some(stop) = self.stop.take() {
            _ = stop.send(());
        }
        // A task that panicked has dropped its containers, which kills them.
        _ = (&mut self.pods).await;
    }

    /// Returns the directory of programs for `kubectl exec`. Each starts the program of the same
    /// name in the pod's own `PATH`.
    pub fn programs(&self) -> PathBuf {
        self.host.directory.join(PROGRAMS)
    }

    /// Returns the address of a running member.
    pub fn address(&self, namespace: &str, pod: &str) -> Option<Ipv4Addr> {
        self.host.member(&PodName::new(namespace, pod)).map(|member| member.address)
    }

    /// Returns the log of a pod's Patroni and PostgreSQL, over all its incarnations.
    pub fn log(&self, namespace: &str, pod: &str) -> PathBuf {
        self.host.log(&PodName::new(namespace, pod))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.pods.abort();
        self.volumes.abort();
    }
}

/// The name of a pod: a fault is set for every pod of that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl PodName {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The address of the API server.
#[derive(Clone, Debug)]
pub(crate) struct ApiServer {
    host: String,
    port: u16,
}

impl ApiServer {
    fn parse(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
        let parts = rest.and_then(|rest| rest.rsplit_once(':'));
        let (host, port) = parts.with_context(|| {
            format!("the API server's address {url:?} is not of the form https://HOST:PORT")
        })?;
        let port = port.parse().with_context(|| format!("{port:?} is not a port"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A running member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) address: Ipv4Addr,
    pub(crate) superuser: String,
    launch: launch::Launch,
    processes: Processes,
}

/// The state that all pods of a kubelet share.
pub(crate) struct Host {
    client: Client,
    api_server: ApiServer,
    ca_pem: String,
    directory: PathBuf,
    python: Environment,
    addresses: Mutex<Addresses>,
    /// A lock: one pod is placed at a time, so that the placement of one sees the other.
    placing: tokio::sync::Mutex<()>,
    pub(crate) stages: StagedFaults,
    nodes: Nodes,
    volumes: Volumes,
    members: Mutex<HashMap<PodName, Member>>,
    /// The nodes that were lost, by the pod for which they were lost.
    lost_for: Mutex<HashMap<PodName, String>>,
    journal: Journal,
}

impl Host {
    async fn new(options: KubeletOptions) -> Result<Self> {
        let KubeletOptions { client, api_server, ca_pem, dir, python, streaming_port } = options;
        for name in ["logs", "pods", "volumes"] {
            let path = dir.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("failed to create {}", path.display()))?;
        }
        let directory = dir.canonicalize()?;
        if directory.starts_with(Path::new("/run").canonicalize().unwrap_or_default()) {
            bail!(
                "the bed's directory {} is below /run, and every pod has a /run of its own; \
                 set TMPDIR to a directory elsewhere, such as /tmp",
                directory.display()
            );
        }
        fs::write(directory.join("init.py"), include_str!("kubelet/init.py"))?;
        launch::lay_out_programs(&directory.join(PROGRAMS))?;
        Ok(Self {
            journal: Journal::open(&directory.join("kubelet.log"))?,
            api_server: ApiServer::parse(&api_server)?,
            nodes: Nodes::register(client.clone(), streaming_port).await?,
            volumes: Volumes::new(client.clone(), directory.join("volumes")).await?,
            addresses: Mutex::new(Addresses::new()),
            placing: tokio::sync::Mutex::default(),
            stages: StagedFaults::default(),
            members: Mutex::default(),
            lost_for: Mutex::default(),
            client,
            ca_pem,
            directory,
            python,
        })
    }

    /// Watches pods and keeps one [`Worker`] per incarnation, until it is stopped.
    async fn serve_pods(self: Arc<Self>, mut stopped: oneshot::Receiver<()>) {
        let mut workers = Workers::default();
        let api = Api::<Pod>::all(self.client.clone());
        let mut events = watch_objects(api, watcher::Config::default()).default_backoff().boxed();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = &mut stopped => break,
            };
            match event {
                Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => workers.update(&self, pod),
                Some(Ok(Event::Delete(pod))) => workers.remove(&pod),
                Some(Ok(Event::Init)) => workers.begin_listing(),
                Some(Ok(Event::InitDone)) => workers.end_listing(),
                Some(Err(error)) => self.journal.write(format_args!("watching pods: {error}")),
                None => break,
            }
        }
        workers.stop().await;
    }

    /// Returns the running member of this name.
    pub(crate) fn member(&self, name: &PodName) -> Option<Member> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn enter(&self, name: &PodName, member: Member) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.insert(name.clone(), member);
    }

    fn leave(&self, name: &PodName) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn log(&self, name: &PodName) -> PathBuf {
        self.directory.join(format!("logs/{}_{}.log", name.namespace, name.name))
    }

    /// Marks the node of a pod as lost, and remembers the pod.
    pub(crate) async fn lose_node(&self, name: &PodName, node: &str) -> Result<()> {
        {
            let mut lost_for = self.lost_for.lock().unwrap_or_else(PoisonError::into_inner);
            lost_for.insert(name.clone(), node.to_owned());
        }
        self.nodes.lose(node).await
    }

    /// Brings back the node that was lost for a pod. Returns whether there was one.
    pub(crate) async fn recover_node(&self, name: &PodName) -> Result<bool> {
        let node = {
            let mut lost_for = self.lost_for.lock().unwrap_or_else(PoisonError::into_inner);
            lost_for.remove(name)
        };
        match node {
            Some(node) => self.nodes.recover(&node).await.map(|()| true),
            None => Ok(false),
        }
    }
}

/// The workers, by the uid of their pod.
#[derive(Debug, Default)]
struct Workers {
    pods: HashMap<String, WatchedPod>,
    tasks: JoinSet<()>,
}

/// A pod with its worker.
#[derive(Debug)]
struct WatchedPod {
    seen: watch::Sender<Seen>,
    /// True if the present listing has shown the pod.
    listed: bool,
}

impl Workers {
    /// Handles a pod that is new or changed.
    fn update(&mut self, host: &Arc<Host>, pod: Pod) {
        // Ended workers are collected here: they outlive their pods by moments only.
        while self.tasks.try_join_next().is_some() {}
        let Some(uid) = pod.uid() else { return };
        let seen = Seen { pod: Arc::new(pod), gone: false };
        if let Some(watched) = self.pods.get_mut(&uid) {
            watched.listed = true;
            watched.seen.send_replace(seen);
        } else {
            let (sender, receiver) = watch::channel(seen);
            self.tasks.spawn(Worker::new(Arc::clone(host), receiver).run());
            self.pods.insert(uid, WatchedPod { seen: sender, listed: true });
        }
    }

    /// Handles the deletion of a pod. Dropping the sender would signal the end too, but it could
    /// also mean that the kubelet stops.
    fn remove(&mut self, pod: &Pod) {
        if let Some(watched) = pod.uid().and_then(|uid| self.pods.remove(&uid)) {
            watched.seen.send_modify(|seen| seen.gone = true);
        }
    }

    /// Begins a listing.
    fn begin_listing(&mut self) {
        for watched in self.pods.values_mut() {
            watched.listed = false;
        }
    }

    /// Ends a listing: pods that it has not shown are gone.
    fn end_listing(&mut self) {
        self.pods.retain(|_, watched| {
            if !watched.listed {
                watched.seen.send_modify(|seen| seen.gone = true);
            }
            watched.listed
        });
    }

    /// Ends every worker and waits for them.
    async fn stop(mut self) {
        self.pods.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Returns list parameters without any filter.
fn everything() -> ListParams {
    ListParams::default()
}
