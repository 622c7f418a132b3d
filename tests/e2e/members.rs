//! Members of the bed behave like real members, and misbehave as staged.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::Api;
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::operator::Settings;
use pgscale_tests::patroni::rest;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;

use crate::cloning;
use crate::trial::{Case, TestCtx, case};

pub(crate) fn cases() -> Vec<Case> {
    [
        case("members::every_fault_of_a_pod_can_be_seen_and_lifted", every_fault).beside_others(),
        case("members::a_claim_keeps_its_data_until_it_is_deleted", claims).beside_others(),
        case(
            "members::patroni_can_keep_its_state_in_config_maps_and_a_node_can_be_lost",
            config_maps,
        ),
    ]
    .map(Case::without_programs)
    .into()
}

/// Creates a cluster of three members that 0 leads, so that 1 and 2 can have faults.
async fn three(ctx: &TestCtx) -> Result<Cluster> {
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, "acid-members", 3, quick()).await?;
    cluster.move_leader_to(0).await?;
    cluster.converged(3).await?;
    cluster.sql(0, "CREATE TABLE seen (row int)").await?;
    Ok(cluster)
}

async fn every_fault(ctx: TestCtx) -> Result<()> {
    let cluster = three(&ctx).await?;
    let faulty = FaultyMember { ctx: &ctx, cluster: &cluster, pod: cluster.pod_name(2) };

    faulty.stage(Fault::FrozenPatroni).await?;
    ensure!(rest::member(faulty.address()?).await.is_err(), "a frozen Patroni answered");
    faulty.sees(1).await.context("PostgreSQL goes on without Patroni")?;
    faulty.unstage(Fault::FrozenPatroni).await?;
    faulty.answer().await?;

    faulty.stage(Fault::RestRefused).await?;
    let refused = rest::member(faulty.address()?).await.err().context("Patroni answered")?;
    ensure!(format!("{refused:#}").contains("refused"), "{refused:#}");
    faulty.unstage(Fault::RestRefused).await?;
    faulty.answer().await?;

    faulty.stage(Fault::NoFailover).await?;
    ensure!(faulty.answer().await?.nofailover(), "the tag is not there");
    faulty.unstage(Fault::NoFailover).await?;
    ensure!(!faulty.answer().await?.nofailover(), "the tag is still there");

    for (row, fault) in [(2, Fault::StalledReceiver), (3, Fault::PausedReplay)] {
        faulty.stage(fault).await?;
        let row = faulty.keeps_back(row).await.with_context(|| format!("{fault:?}"))?;
        ensure!(
            faulty.answer().await?.state == "running",
            "{fault:?} shows in the state of the member"
        );
        faulty.unstage(fault).await?;
        faulty.catches_up(row).await.with_context(|| format!("{fault:?}"))?;
    }
    cluster.converged(3).await?;

    ctx.bed.kubelet().stage(&ctx.namespace, &faulty.pod, Fault::FailingBaseBackup).await?;
    ctx.bed.kubelet().reinitialize(&ctx.namespace, &faulty.pod).await?;
    cloning::fails(ctx.bed.kubelet(), &ctx.namespace, &faulty.pod).await?;
    faulty.unstage(Fault::FailingBaseBackup).await?;
    cluster.converged(3).await?;

    faulty.stage(Fault::StoppedPatroni).await?;
    faulty.is_reported(0, false).await?;
    faulty.unstage(Fault::StoppedPatroni).await?;
    faulty.is_reported(1, true).await?;
    cluster.converged(3).await?;

    ctx.bed.kubelet().pause(&ctx.namespace, &cluster.name).await?;
    ensure!(faulty.answer().await?.pause, "the member does not report the pause");
    ctx.bed.kubelet().resume(&ctx.namespace, &cluster.name).await?;
    ensure!(!faulty.answer().await?.pause, "the member still pauses");
    Ok(())
}

/// The member that gets the faults.
struct FaultyMember<'a> {
    ctx: &'a TestCtx,
    cluster: &'a Cluster,
    pod: String,
}

impl FaultyMember<'_> {
    async fn stage(&self, fault: Fault) -> Result<()> {
        self.ctx.bed.kubelet().stage(&self.ctx.namespace, &self.pod, fault).await
    }

    async fn unstage(&self, fault: Fault) -> Result<()> {
        self.ctx.bed.kubelet().unstage(&self.ctx.namespace, &self.pod, fault).await
    }

    fn address(&self) -> Result<Ipv4Addr> {
        let address = self.ctx.bed.kubelet().address(&self.ctx.namespace, &self.pod);
        address.context("it does not run")
    }

    /// Returns the member's own answer as soon as it gives one: on a busy machine a healthy member
    /// may be too late once.
    async fn answer(&self) -> Result<rest::Member> {
        let address = self.address()?;
        until(&format!("{} to answer", self.pod), TIMEOUT, async || {
            Ok(match rest::member(address).await {
                Ok(answer) => Attempt::Done(answer),
                Err(error) => Attempt::NotYet(format!("{error:#}")),
            })
        })
        .await
    }

    /// Writes a row on the leader, and waits until the member has it.
    async fn sees(&self, row: u32) -> Result<()> {
        self.writes(row).await?;
        self.has(2, row).await
    }

    /// Writes rows on the leader until the member does not get one, and returns that.
    ///
    /// A PostgreSQL that restarts loses the fault until the kubelet has looked again.
    async fn keeps_back(&self, row: u32) -> Result<u32> {
        let mut next = row;
        until("a row to be kept back", TIMEOUT, async || {
            let row = next;
            next += 100;
            self.writes(row).await?;
            let count = format!("SELECT count(*) FROM seen WHERE row = {row}");
            Ok(match self.cluster.sql(2, &count).await?.as_str() {
                "0" => Attempt::Done(row),
                _ => Attempt::NotYet(format!("row {row} arrived")),
            })
        })
        .await
    }

    /// Writes a row on the leader, and waits until a healthy replica has it: by then the member
    /// would have it too.
    async fn writes(&self, row: u32) -> Result<()> {
        self.cluster.sql(0, &format!("INSERT INTO seen VALUES ({row})")).await?;
        self.has(1, row).await
    }

    async fn catches_up(&self, row: u32) -> Result<()> {
        self.has(2, row).await
    }

    async fn has(&self, ordinal: u32, row: u32) -> Result<()> {
        let count = format!("SELECT count(*) FROM seen WHERE row = {row}");
        until(&format!("row {row} on member {ordinal}"), TIMEOUT, async || {
            let count = self.cluster.sql(ordinal, &count).await?;
            Ok(if count == "1" { Attempt::Done(()) } else { Attempt::NotYet(count) })
        })
        .await
    }

    async fn object(&self) -> Result<Pod> {
        let pods = Api::<Pod>::namespaced(self.ctx.bed.client(), &self.ctx.namespace);
        Ok(pods.get(&self.pod).await?)
    }

    /// Returns the address in the API server, whether the member runs or not.
    async fn last_address(&self) -> Result<Ipv4Addr> {
        let status = self.object().await?.status;
        let address = status.and_then(|status| status.pod_ip).context("it never had an address")?;
        Ok(address.parse()?)
    }

    /// Returns the number of restarts of the container, and whether it is ready.
    async fn container(&self) -> Result<(i32, bool)> {
        let status = self.object().await?.status.context("it has no status")?;
        let container = status.container_statuses.into_iter().flatten().next();
        let container = container.context("it has no container")?;
        Ok((container.restart_count, container.ready))
    }

    /// Waits until the kubelet has reported this number of restarts and this readiness.
    async fn is_reported(&self, restarts: i32, ready: bool) -> Result<()> {
        until(&format!("{restarts} restarts and ready: {ready}"), TIMEOUT, async || {
            let seen = self.container().await?;
            Ok(if seen == (restarts, ready) {
                Attempt::Done(())
            } else {
                Attempt::NotYet(format!("{seen:?}"))
            })
        })
        .await
    }

    /// Waits until the Ready condition of the member's node has this status.
    async fn node_is_ready(&self, wanted: &str) -> Result<()> {
        let node = self.object().await?.spec.and_then(|spec| spec.node_name).context("no node")?;
        until(&format!("{node} to be ready: {wanted}"), TIMEOUT, async || {
            let node = Api::<Node>::all(self.ctx.bed.client()).get(&node).await?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
            let seen = ready.context("it has no Ready condition")?.status;
            Ok(if seen == wanted { Attempt::Done(()) } else { Attempt::NotYet(seen) })
        })
        .await
    }
}

async fn claims(ctx: TestCtx) -> Result<()> {
    let cluster = three(&ctx).await?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(ctx.bed.client(), &ctx.namespace);
    let volumes = Api::<PersistentVolume>::all(ctx.bed.client());
    let name = format!("pgdata-{}", cluster.pod_name(2));
    let kept = claims.get(&name).await?.uid().context("a claim without uid")?;
    let directory = ctx.bed.directory().join(format!("kubelet/volumes/{}/{kept}", ctx.namespace));
    let start = directory.join("pgroot/data/PG_VERSION");
    let made = std::fs::metadata(&start).and_then(|file| file.modified())?;

    cluster.patch(2).await?.ok()?;
    cluster.converged(2).await?;
    ensure!(start.is_file(), "the data disappeared with the pod");
    cluster.patch(3).await?.ok()?;
    cluster.converged(3).await?;
    let found = std::fs::metadata(&start).and_then(|file| file.modified())?;
    ensure!(found == made, "the member was cloned again although its claim was kept");

    cluster.patch(2).await?.ok()?;
    cluster.converged(2).await?;
    claims.delete(&name, &kube::api::DeleteParams::default()).await?;
    until("the volume to go with its claim", TIMEOUT, async || {
        let volume = volumes.get_opt(&format!("pvc-{kept}")).await?;
        Ok(if volume.is_none() && !directory.exists() {
            Attempt::Done(())
        } else {
            Attempt::NotYet(format!("{:?}", volume.and_then(|volume| volume.status)))
        })
    })
    .await?;
    cluster.patch(3).await?.ok()?;
    cluster.converged(3).await?;
    let fresh = claims.get(&name).await?.uid();
    ensure!(fresh.is_some_and(|fresh| fresh != kept), "the claim was not created again");
    Ok(())
}

async fn config_maps(ctx: TestCtx) -> Result<()> {
    let settings = Settings { use_configmaps: true, readiness_probe: true, ..Settings::default() };
    restart_operator(&ctx, &settings).await?;
    let tried = in_config_maps(&ctx).await;
    // Other tests expect the default, also after a failure of this one.
    restart_operator(&ctx, &Settings::default()).await?;
    tried
}

async fn restart_operator(ctx: &TestCtx, settings: &Settings) -> Result<()> {
    let mut operator = ctx.bed.operator().lock().await;
    operator.stop().await?;
    operator.start(settings).await
}

async fn in_config_maps(ctx: &TestCtx) -> Result<()> {
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, "acid-maps", 3, quick()).await?;
    let leader = cluster.leader().await?;
    let lock = ["get", "configmap", "acid-maps-leader"];
    let path = "--output=jsonpath={.metadata.annotations.leader}";
    let holder = cluster.kubectl(&[&lock[..], &[path]].concat()).await?.ok()?;
    ensure!(holder == leader.pod, "the lock is held by {holder:?}");

    let writer = Writer::start(ctx.bed.client(), &cluster.namespace, &cluster.name).await?;
    cluster.kubectl(&["delete", "pod", &leader.pod]).await?.ok()?;
    cluster.converged(3).await?;
    ensure!(cluster.leader().await?.pod != leader.pod, "no other member took over");
    let kept = writer.stop().await;
    ensure!(kept.missing().await? == 0, "an orderly switchover lost rows: {kept:?}");
    until("the service to lead to the new leader", TIMEOUT, async || {
        let leader = cluster.leader().await?.address.context("the leader has no address")?;
        let endpoints = cluster.endpoints(&cluster.name).await?;
        Ok(if endpoints == [leader.to_string()] {
            Attempt::Done(())
        } else {
            Attempt::NotYet(format!("{endpoints:?}, not {leader}"))
        })
    })
    .await?;
    lost_node(ctx, &cluster).await.context("a lost node")
}

/// Members of other clusters are on the same nodes, so no other test may run meanwhile.
async fn lost_node(ctx: &TestCtx, cluster: &Cluster) -> Result<()> {
    cluster.move_leader_to(0).await?;
    let faulty = FaultyMember { ctx, cluster, pod: cluster.pod_name(2) };
    // Just after a move of the leader a probe may have failed, and the kubelet has reported it.
    let (restarts, _) = faulty.container().await?;
    faulty.is_reported(restarts, true).await?;
    faulty.stage(Fault::NodeLost).await?;
    ensure!(faulty.container().await?.1, "the kubelet reported for a lost node");
    faulty.node_is_ready("Unknown").await?;
    ensure!(
        rest::member(faulty.last_address().await?).await.is_err(),
        "the member on the lost node answers"
    );
    faulty.unstage(Fault::NodeLost).await?;
    faulty.node_is_ready("True").await?;
    cluster.converged(3).await?;
    Ok(())
}
