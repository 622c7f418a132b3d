//! `kubectl pgscale autoscale` by metrics.k8s.io: the load of the replicas is real, and so is what
//! the API says of it. Bad values come from the server of the API.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::metrics::{Answers, Metrics};
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::trial::{Case, TestCtx, case};
use crate::writing::{acknowledged, finish};

const WARM: usize = 100;
/// What a replica of this test requests, in thousandths of a core: a few times what one at rest
/// uses.
const REQUEST: u32 = 150;
/// A statement that needs CPU and no disk, for less than a second.
const STATEMENT: &str = "SELECT count(*) FROM (SELECT generate_series(1, 4000000)) AS numbers";
/// The pause between two statements: other members need CPU too.
const PAUSE: Duration = Duration::from_millis(300);
/// The number of looks at something that must change nothing: together they take longer than
/// `--up-after`.
const LOOKS: usize = 4;
/// The limit for looks until the awaited one.
const MOST: usize = 120;
/// A load that comes and goes: each is longer than the window of a measurement, and shorter than
/// `--down-after`.
const FLAPS: [(Duration, Duration); 2] = [(Duration::from_secs(7), Duration::from_secs(5)); 2];
/// So slow that a rebuild lasts until this is lifted.
const SLOW: Fault = Fault::SlowBaseBackup { kilobytes_per_second: 64 };

pub(crate) fn cases() -> Vec<Case> {
    vec![case("autoscale::the_count_follows_the_load_and_no_bad_value", whole)]
}

async fn whole(ctx: TestCtx) -> Result<()> {
    let metrics = Metrics::start(&ctx.bed, &ctx.namespace).await?;
    let followed = follow(&ctx, &metrics).await;
    // The next test needs an API server without it, also after a failure.
    let stopped = metrics.stop().await;
    followed.and(stopped)
}

async fn follow(ctx: &TestCtx, metrics: &Metrics) -> Result<()> {
    let TestCtx { bed, namespace } = ctx;
    let cluster = Cluster::new(bed, namespace, "acid-auto");
    let request = format!("{REQUEST}m");
    let resources = json!({
        "requests": {"cpu": request, "memory": "100Mi"}, "limits": {"cpu": "2", "memory": "500Mi"},
    });
    let patroni = json!({"ttl": 25, "loop_wait": 5});
    cluster.submit(3, json!({"patroni": patroni, "resources": resources})).await?;

    // It may be started before the members have: nothing is decided by what they use meanwhile.
    let mut autoscaler = Autoscaler::start(&cluster)?;
    autoscaler.next().await?.stays(3, "NotConverged")?;
    cluster.converged(3).await?;
    cluster.settled().await?;
    known(&cluster).await?;
    autoscaler.until("AtMin").await?.stays(3, "AtMin")?;
    let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
    acknowledged(&writer, WARM).await?;

    let leader = cluster.leader().await?.ordinal;
    let replicas: Vec<u32> = (0..3).filter(|ordinal| *ordinal != leader).collect();
    metrics.answer(Answers::NotANumber);
    autoscaler.until("MetricNotANumber").await?;
    let load = Load::start(&cluster, &replicas);
    nothing_is_decided_by_bad_values(metrics, &mut autoscaler).await?;
    let rebuilt = *replicas.last().context("the cluster has no replica")?;
    nothing_is_decided_during_a_rebuild(&cluster, rebuilt, metrics, &mut autoscaler).await?;
    autoscaler.until("StepUp").await?.converged(3, 4)?;
    ensure!(cluster.declared().await? == 4, "the count is another one");
    cluster.converged(4).await?;
    autoscaler.until("AtMax").await?.stays(4, "AtMax")?;
    drop(load);

    a_flapping_load_changes_nothing(&cluster, &replicas, &mut autoscaler).await?;

    // The leader is where the shrink removes a member, so it has to move first.
    cluster.move_leader_to(3).await?;
    autoscaler.until("StepDown").await?.converged(4, 3)?;
    ensure!(cluster.leader().await?.ordinal < 3, "the leader is the removed member");
    cluster.converged(3).await?;
    autoscaler.until("AtMin").await?.stays(3, "AtMin")?;
    ensure!(autoscaler.steps == 2, "{} steps", autoscaler.steps);

    acknowledged(&writer, WARM).await?;
    let record = finish(writer).await?;
    ensure!(record.missing == 0, "{record:?}");
    let history = cluster.pgscale(&["history", &cluster.name]).await?.ok()?;
    ensure!(history.matches("autoscale: the load asks for one").count() == 2, "{history}");
    Ok(())
}

/// Under a load that asks for one more.
async fn nothing_is_decided_by_bad_values(
    metrics: &Metrics,
    autoscaler: &mut Autoscaler,
) -> Result<()> {
    for (how, reason) in [
        (Answers::NotANumber, "MetricNotANumber"),
        (Answers::Old, "MetricStale"),
        (Answers::NotFound, "MetricMissing"),
    ] {
        metrics.answer(how);
        autoscaler.until(reason).await?;
        for _ in 0..LOOKS {
            autoscaler.next().await?.stays(3, reason)?;
        }
    }
    Ok(())
}

/// The same, and afterwards there are good values.
async fn nothing_is_decided_during_a_rebuild(
    cluster: &Cluster,
    ordinal: u32,
    metrics: &Metrics,
    autoscaler: &mut Autoscaler,
) -> Result<()> {
    cluster.stage(ordinal, SLOW).await?;
    let kubelet = cluster.bed().kubelet();
    kubelet.reinitialize(&cluster.namespace, &cluster.pod_name(ordinal)).await?;
    autoscaler.until("NotConverged").await?;
    metrics.answer(Answers::Measured);
    for _ in 0..LOOKS {
        autoscaler.next().await?.stays(3, "NotConverged")?;
    }
    cluster.unstage(ordinal, SLOW).await
}

/// The load is gone at first.
async fn a_flapping_load_changes_nothing(
    cluster: &Cluster,
    replicas: &[u32],
    autoscaler: &mut Autoscaler,
) -> Result<()> {
    let mut fewer = 0;
    for (without, with) in FLAPS {
        fewer += autoscaler.during(without).await?;
        let load = Load::start(cluster, replicas);
        fewer += autoscaler.during(with).await?;
        drop(load);
    }
    ensure!(fewer > 0, "no look saw that the load was gone");
    Ok(())
}

/// Waits until `kubectl top pods` shows every member.
async fn known(cluster: &Cluster) -> Result<()> {
    until("kubectl top pods to show every member", TIMEOUT, async || {
        let said = cluster.kubectl(&["top", "pods"]).await?;
        let shown = (0..3).all(|ordinal| said.stdout.contains(&cluster.pod_name(ordinal)));
        Ok(if shown { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await
}

/// Statements that run on members one after the other, until this is dropped.
struct Load {
    _tasks: JoinSet<()>,
}

impl Load {
    fn start(cluster: &Cluster, ordinals: &[u32]) -> Self {
        let mut tasks = JoinSet::new();
        for ordinal in ordinals.iter().copied() {
            let cluster = cluster.clone();
            tasks.spawn(async move {
                loop {
                    // A member that is rebuilt answers none.
                    _ = cluster.sql(ordinal, STATEMENT).await;
                    sleep(PAUSE).await;
                }
            });
        }
        Self { _tasks: tasks }
    }
}

/// One look, as it was printed.
struct Look(Value);

impl Look {
    /// Fails unless it left the count at `count` for this reason.
    fn stays(&self, count: u32, reason: &str) -> Result<()> {
        let Self(look) = self;
        let stays = look["declared"] == count && look["wanted"] == count;
        ensure!(stays && look["reason"] == reason && look["result"].is_null(), "{look}");
        Ok(())
    }

    /// Fails unless it changed the count, and waited for the end of the change.
    fn converged(&self, from: u32, to: u32) -> Result<()> {
        let Self(look) = self;
        let changed = look["declared"] == from && look["wanted"] == to;
        ensure!(changed && look["result"] == "Converged", "{look}");
        Ok(())
    }
}

/// A running `kubectl pgscale autoscale`. It is killed when this is dropped.
struct Autoscaler {
    lines: Lines<BufReader<ChildStdout>>,
    /// The number of looks that changed the count, or tried to.
    steps: usize,
    looks: File,
    log: PathBuf,
    _child: Child,
}

impl Autoscaler {
    fn start(cluster: &Cluster) -> Result<Self> {
        let bed = cluster.bed();
        let log = bed.logs().join("autoscale.log");
        let mut command = bed.command(&bed.tools().kubectl, bed.kubeconfig())?;
        command.args(["pgscale", "autoscale", &cluster.name, "--namespace", &cluster.namespace]);
        command.args(["--cpu=80", "--min=3", "--max=4", "--up-after=8s", "--down-after=15s"]);
        command.args(["--cooldown=1s", "--interval=2s", "--output=json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().context("failed to start the autoscaler")?;
        let stdout = child.stdout.take().context("the autoscaler has no stdout")?;
        let looks = File::create(bed.logs().join("autoscale-looks.log"))?;
        Ok(Self { lines: BufReader::new(stdout).lines(), steps: 0, looks, log, _child: child })
    }

    /// Returns the next look.
    async fn next(&mut self) -> Result<Look> {
        let line = timeout(TIMEOUT, self.lines.next_line()).await;
        let line = line.context("the autoscaler prints nothing")??;
        let line = line.with_context(|| format!("it has ended: see {}", self.log.display()))?;
        writeln!(self.looks, "{line}")?;
        let look: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(look["kind"] == "AutoscaleDecision", "{look}");
        self.steps += usize::from(look["declared"] != look["wanted"]);
        Ok(Look(look))
    }

    /// Reads all looks for a time, none of which may change the count. Returns how many of them saw
    /// that fewer are wanted.
    async fn during(&mut self, time: Duration) -> Result<usize> {
        let (start, mut fewer) = (Instant::now(), 0);
        while start.elapsed() < time {
            let Look(look) = self.next().await?;
            ensure!(look["declared"] == look["wanted"], "{look}");
            fewer += usize::from(look["reason"] == "StabilisingDown");
        }
        Ok(fewer)
    }

    /// Returns the next look with this reason.
    async fn until(&mut self, reason: &str) -> Result<Look> {
        let mut last = Value::Null;
        for _ in 0..MOST {
            let look = self.next().await?;
            if look.0["reason"] == reason {
                return Ok(look);
            }
            last = look.0;
        }
        bail!("no look was {reason}; the last: {last}")
    }
}
