//! The real webhook under the chart's memory limit, with reviews that were built to crash it.
//!
//! A tenant who may edit one `postgresql`, or any process that reaches the port, can send a row of
//! [`corpus`]. The webhook answers each as the row says, survives, and judges an ordinary edit
//! afterwards.

mod api_server;
mod connections;
mod corpus;

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::StatusCode;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use libtest_mimic::Trial;
use pgscale_tests::confined::Limit;
use pgscale_tests::patroni::rest;
use pgscale_tests::pki::{Authority, write};
use pgscale_tests::process::Process;
use pgscale_tests::progress::say;
use pgscale_tests::wait::{Attempt, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::chart;
use crate::sandbox::trial;
use api_server::ApiServer;
use connections::{Peers, Way};
use corpus::{Answer, Row};

/// The limit for the program to start.
const START: Duration = Duration::from_secs(60);
/// The limit for one answer on a busy machine, in a build without optimisation.
const ANSWER: Duration = Duration::from_secs(60);
/// The number of equal edits that are sent at once. One edit alone can be several reviews: the API
/// server calls the webhook again for each of its own attempts.
const AT_ONCE: usize = 8;
/// The limit for a probe. A kubelet gives it one second.
const PROBE: Duration = Duration::from_secs(5);
/// The limit for the program to end.
const GRACE: Duration = Duration::from_secs(15);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("hostile::reviews_are_answered_within_the_memory_limit_of_the_chart", answered),
        trial("hostile::connections_take_no_more_memory_than_an_idle_webhook_again", connected),
    ]
}

/// Returns whether `name` is a test of this module.
pub(crate) fn has(name: &str) -> bool {
    name.starts_with("hostile::")
}

fn answered() -> Result<()> {
    Runtime::new().context("failed to start a runtime")?.block_on(async {
        let (mut webhook, idle) = Webhook::idle("reviews").await?;
        let mut peak = webhook.peak()?;
        for row in corpus::rows() {
            let start = Instant::now();
            webhook.answers(&row).await.with_context(|| row.name.to_owned())?;
            let took = start.elapsed();
            webhook
                .judges_an_ordinary_edit()
                .await
                .with_context(|| format!("after {}", row.name))?;
            let now = webhook.peak()?;
            say(&format!(
                "{}: {} kB in {} ms, peak {} -> {} kB",
                row.name,
                row.body.len() >> 10,
                took.as_millis(),
                peak >> 10,
                now >> 10
            ));
            peak = now;
        }
        webhook.answers_at_once(&corpus::storable()).await.context("several at once")?;
        webhook.judges_an_ordinary_edit().await.context("after several at once")?;
        let at_once = webhook.peak()?;
        say(&format!("{AT_ONCE} edits at once: peak {} -> {} kB", peak >> 10, at_once >> 10));
        peak = at_once;
        say(&format!(
            "RSS {} kB idle, {} kB at the peak of {} kB, enforced by {}",
            idle >> 10,
            peak >> 10,
            webhook.bytes >> 10,
            webhook.limit.enforced_by()
        ));
        ensure!(peak < webhook.bytes, "{peak} bytes at the peak, {} are allowed", webhook.bytes);
        ensure!(peak <= 2 * idle, "{peak} bytes at the peak, {idle} idle");
        webhook.process.ensure_alive()?;
        webhook.process.stop(GRACE).await
    })
}

fn connected() -> Result<()> {
    raise_descriptors();
    Runtime::new().context("failed to start a runtime")?.block_on(async {
        let (mut webhook, idle) = Webhook::idle("connections").await?;
        let mut peak = webhook.peak()?;
        for row in connections::rows() {
            let peers = Peers::connect(&webhook.way, &row).await;
            let start = Instant::now();
            webhook
                .judges_an_ordinary_edit()
                .await
                .with_context(|| format!("beside {}", row.name))?;
            let took = start.elapsed();
            webhook.is_ready().await.with_context(|| format!("beside {}", row.name))?;
            let (before, now) = (peak, webhook.peak()?);
            peak = now;
            say(&format!(
                "{}: a review beside them in {} ms, peak {} -> {} kB",
                row.name,
                took.as_millis(),
                before >> 10,
                now >> 10
            ));
            drop(peers);
        }
        say(&format!(
            "RSS {} kB idle, {} kB at the peak of {} kB, enforced by {}",
            idle >> 10,
            peak >> 10,
            webhook.bytes >> 10,
            webhook.limit.enforced_by()
        ));
        ensure!(peak <= 2 * idle, "{peak} bytes at the peak, {idle} idle");
        webhook.process.ensure_alive()?;
        webhook.process.stop(GRACE).await
    })
}

/// Lets this process open as many files as it may: a connection is one on either side.
fn raise_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
}

/// A running webhook that can have as much memory as the chart gives it.
struct Webhook {
    // Dropped first, because only an empty cgroup can be removed.
    process: Process,
    limit: Limit,
    bytes: u64,
    client: Client,
    way: Way,
    metrics: SocketAddr,
    api_server: ApiServer,
    _directory: tempfile::TempDir,
}

impl Webhook {
    /// Starts a webhook for the test of this name, because two run at a time.
    async fn start(test: &str) -> Result<Self> {
        let bytes = chart::memory_limit()?;
        let directory = tempfile::tempdir().context("failed to make a directory")?;
        let api_server = ApiServer::start().await?;
        let [address, metrics] = [free_address()?, free_address()?];
        let authority = Authority::new()?;
        let pair = authority.server("pgscale-webhook", &["127.0.0.1"])?;
        let file = |name: &str, text: &str| write(directory.path(), name, text);
        let kubeconfig =
            authority.kubeconfig_with_token(&api_server.url(), "pgscale-webhook", "none")?;
        let mut args: Vec<OsString> = vec!["serve".into(), "--log-format=text".into()];
        for (flag, value) in [
            ("--listen", OsString::from(&address)),
            ("--metrics-listen", OsString::from(&metrics)),
            ("--tls-cert", file("tls.crt", &pair.certificate)?.into()),
            ("--tls-key", file("tls.key", &pair.key)?.into()),
            ("--kubeconfig", file("kubeconfig", &kubeconfig)?.into()),
            ("--drain-delay", OsString::from("100ms")),
        ] {
            args.extend([flag.into(), value]);
        }
        let program = chart::webhook()?;
        let limit = Limit::new(&format!("pgscale-hostile-{test}-{}", std::process::id()), bytes);
        // As the chart does.
        let variable = ("MALLOC_MMAP_THRESHOLD_", "131072");
        let process =
            limit.spawn("pgscale-webhook", &program, &args, &[variable], directory.path())?;
        let url = format!("https://{address}");
        let mine = authority.kubeconfig_with_token(&url, "api-server", "none")?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(Kubeconfig::from_yaml(&mine)?, &options)
            .await
            .context("failed to use a kubeconfig")?;
        let client = Client::try_from(config).context("failed to make a client")?;
        let way = Way::new(&address, &metrics, authority.certificate())?;
        let metrics = metrics.parse()?;
        let mut webhook =
            Self { process, limit, bytes, client, way, metrics, api_server, _directory: directory };
        until("the webhook to answer", START, async || {
            webhook.process.ensure_alive()?;
            Ok(match webhook.post(b"{}").await {
                Ok(_) => Attempt::Done(()),
                Err(error) => Attempt::NotYet(format!("{error:#}")),
            })
        })
        .await?;
        Ok(webhook)
    }

    /// Sends a body and returns the status and the answer, null if that is no JSON.
    async fn post(&self, body: &[u8]) -> Result<(u16, Value)> {
        let request = http::Request::post("/validate?timeout=10s")
            .header("content-type", "application/json")
            .body(Body::from(body.to_vec()))?;
        let exchange = async {
            let response = self.client.send(request).await?;
            let status = response.status().as_u16();
            anyhow::Ok((status, response.into_body().collect_bytes().await?))
        };
        let (status, body) =
            tokio::time::timeout(ANSWER, exchange).await.context("no answer in time")??;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    async fn answers(&mut self, row: &Row) -> Result<()> {
        let reads = self.api_server.reads();
        let answer = self.post(&row.body).await;
        self.process.ensure_alive()?;
        let (status, answer) = answer?;
        let response = &answer["response"];
        match &row.answer {
            Answer::Status(wanted) => ensure!(status == *wanted, "{status}: {answer}"),
            Answer::Refused(why) => {
                ensure!(status == 200, "{status}: {answer}");
                ensure!(response["uid"] == corpus::UID, "{answer}");
                ensure!(response["allowed"] == false, "{answer}");
                ensure!(response["status"]["code"] == 403, "{answer}");
                ensure!(response["status"]["reason"] == "Forbidden", "{answer}");
                let message = response["status"]["message"].as_str().unwrap_or_default();
                ensure!(why.iter().all(|why| message.contains(why)), "{why:?} not in {message}");
                ensure!(self.api_server.reads() == reads, "objects were read for a refusal");
            }
            Answer::Judged { allowed, rule } => {
                ensure!(status == 200 && response["uid"] == corpus::UID, "{status}: {answer}");
                ensure!(response["allowed"] == *allowed, "{answer}");
                let rules = response["auditAnnotations"]["rules"].as_str().unwrap_or_default();
                ensure!(rules.contains(rule), "{rule} is not in {rules:?}");
            }
        }
        Ok(())
    }

    /// Starts one that has judged a review, and returns it with its memory at rest, in bytes.
    async fn idle(name: &str) -> Result<(Self, u64)> {
        let mut webhook = Self::start(name).await?;
        webhook.judges_an_ordinary_edit().await.context("before anything hostile")?;
        let idle = webhook.memory("VmRSS:")?;
        Ok((webhook, idle))
    }

    /// Checks that every one of several equal reviews is refused.
    async fn answers_at_once(&mut self, body: &[u8]) -> Result<()> {
        let answers = futures::future::join_all((0..AT_ONCE).map(|_| self.post(body))).await;
        self.process.ensure_alive()?;
        for answer in answers {
            let (status, answer) = answer?;
            let code = &answer["response"]["status"]["code"];
            ensure!(status == 200 && *code == 403, "{status}: {answer}");
        }
        Ok(())
    }

    /// Checks that growth past the maximum of the only policy is refused for that reason alone.
    async fn judges_an_ordinary_edit(&mut self) -> Result<()> {
        let answer = Answer::Judged { allowed: false, rule: "above-max=deny" };
        let row = Row { name: "an ordinary edit", body: corpus::ordinary(), answer };
        self.answers(&row).await
    }

    /// Checks that a kubelet would take the webhook for ready.
    async fn is_ready(&self) -> Result<()> {
        let status = rest::probe(self.metrics, "/readyz", PROBE).await?;
        ensure!(status == StatusCode::OK, "/readyz says {status}");
        Ok(())
    }

    /// Returns the largest resident memory of the webhook so far, in bytes.
    fn peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Returns a line of the webhook's status, which the kernel gives in kB, in bytes.
    fn memory(&self, line: &str) -> Result<u64> {
        let id = self.process.id().context("the webhook has ended")?;
        let status = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status"))
            .context("failed to read the webhook's status")?;
        let found = status.lines().find_map(|found| found.strip_prefix(line));
        let found = found.and_then(|text| text.trim().strip_suffix(" kB"));
        let kilobytes: u64 = found.with_context(|| format!("no {line} in the status"))?.parse()?;
        Ok(kilobytes << 10)
    }
}

/// Returns an address of this machine with a port that is free now.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr().context("no address")?.to_string())
}

/// Returns the policy that the API server holds.
fn policy() -> Value {
    json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"namespace": "db", "name": "production"},
        "spec": {"instances": {"min": 1, "max": 7}},
    })
}
