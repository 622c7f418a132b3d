//! Losses that a plain edit, a tenant or a slip caused before the guard had a rule for them.
//!
//! Each is staged twice: guarded, where a plain edit and `kubectl pgscale` are refused or move the
//! leader first, and for the operator alone, which is watched to its end.

mod label;
mod slot;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::guarding;
use pgscale_tests::operator::Settings;
use pgscale_tests::pki::write;
use pgscale_tests::progress::say;
use pgscale_tests::proof::stages::{HEALTHY, WARM};
use pgscale_tests::proof::{Outcome, answered, pause_kept, with_plugin};
use pgscale_tests::stage::Fault;
use pgscale_tests::trial::{Case, TestCtx, case};
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use pgscale_tests::writing::{PAUSE, Record, acknowledged, finish, finish_with_any_loss};
use serde_json::json;
use tokio::time::Instant;

use crate::document::{Proof, Row};
use crate::stages::{LIMIT, Surroundings, compared};

const NAME: &str = "acid-loss";
/// The length of a stop of writes that counts as an outage without an end.
const STUCK: Duration = Duration::from_secs(60);
/// The limit for the work of the operator and Patroni.
const DEADLINE: Duration = Duration::from_secs(300);

pub(crate) fn parts(proof: &Arc<Proof>) -> Vec<Case> {
    let annotated = "leader on 4, StatefulSet annotated by an admission policy";
    let cut_off = "leader on 4, the operator cannot reach port 8008";
    vec![
        part(proof, "losses::annotated_by_admission", |ctx| {
            compared(ctx, &HEALTHY, annotated, Surroundings::Annotated)
        }),
        part(proof, "losses::operator_reaches_no_member", |ctx| {
            compared(ctx, &HEALTHY, cut_off, Surroundings::CutOff)
        }),
        part(proof, "losses::failover_while_the_operator_is_busy", busy),
        part(proof, "losses::volumes_deleted_at_zero", volumes),
        part(proof, "losses::paused_at_zero", paused),
        part(proof, "losses::stateful_set_scaled_while_0_is_away", away),
        part(proof, "losses::dcs_store_changed", store),
        part(proof, "losses::label_not_worked_through", label::edited),
        part(proof, "losses::logical_slot_made_just_before", slot::made),
    ]
}

fn part<F>(
    proof: &Arc<Proof>,
    name: &'static str,
    run: impl FnOnce(TestCtx) -> F + Send + 'static,
) -> Case
where
    F: Future<Output = Result<Row>> + 'static,
{
    let proof = Arc::clone(proof);
    let staged = move |ctx| async move {
        proof.lost(run(ctx).await?);
        Ok(())
    };
    case(name, staged).within(LIMIT)
}

/// The cluster of one loss.
struct Staged {
    ctx: TestCtx,
    cluster: Cluster,
}

impl Staged {
    async fn of(ctx: TestCtx, instances: u32) -> Result<Self> {
        Self::called(NAME, ctx, instances).await
    }

    async fn called(name: &str, ctx: TestCtx, instances: u32) -> Result<Self> {
        let cluster = Cluster::create(&ctx.bed, &ctx.namespace, name, instances, quick()).await?;
        Ok(Self { ctx, cluster })
    }

    async fn operator(&self, settings: &Settings) -> Result<()> {
        self.ctx.bed.operator().lock().await.start(settings).await
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let said = self.cluster.kubectl(args).await?;
        said.ok().with_context(|| format!("kubectl {}", args.join(" ")))
    }

    async fn writing(&self) -> Result<Writer> {
        let writer =
            Writer::start(self.ctx.bed.client(), &self.ctx.namespace, &self.cluster.name).await?;
        acknowledged(&writer, WARM).await?;
        Ok(writer)
    }

    /// Patches the count without the webhook.
    async fn patch(&self, to: u32) -> Result<()> {
        self.cluster.patch(to.into()).await?.ok().map(drop)
    }

    /// Returns what the webhook and the plugin say of a change that both refuse.
    async fn refused(&self, to: u32, args: &[&str]) -> Result<(String, String)> {
        let webhook = guarding::guarded(&self.ctx).await?;
        let answered = answered(&self.cluster, to).await?;
        say(&format!("  a plain edit: {answered}"));
        let plugin = with_plugin::refused(&self.cluster, args).await?;
        say(&format!("  kubectl pgscale: {plugin}"));
        webhook.unguard(&self.ctx.namespace).await?;
        Ok((answered, plugin))
    }

    /// Moves the leader to 4, stalls the receivers of 0 and 1, and lets the writer write on.
    async fn fail_over(&self, writer: &Writer) -> Result<()> {
        self.cluster.move_leader_to(4).await?;
        for ordinal in [0, 1] {
            self.cluster.stage(ordinal, Fault::StalledReceiver).await?;
        }
        acknowledged(writer, 10 * WARM).await
    }

    async fn no_pods(&self) -> Result<()> {
        until("the pods to end", TIMEOUT, async || {
            let pods = self.cluster.pods().await?.len();
            Ok(if pods == 0 { Attempt::Done(()) } else { Attempt::NotYet(pods.to_string()) })
        })
        .await
    }

    async fn claims(&self) -> Result<usize> {
        let claims =
            Api::<PersistentVolumeClaim>::namespaced(self.ctx.bed.client(), &self.ctx.namespace);
        Ok(claims.list(&ListParams::default()).await?.items.len())
    }

    /// Watches until a member leads and `instances` pods are left, or writes have stopped for too
    /// long. Returns the leader.
    async fn led(&self, writer: &Writer, instances: usize) -> Result<Option<u32>> {
        let start = Instant::now();
        until("the operator's work to end", DEADLINE, async || {
            let members = self.cluster.members().await?;
            let leader = members.iter().find(|member| member.leads()).map(|member| member.ordinal);
            let stuck = start.elapsed().min(writer.silence()) >= STUCK;
            Ok(match leader {
                Some(_) if members.len() == instances && writer.silence() < PAUSE => {
                    Attempt::Done(leader)
                }
                leader if stuck => Attempt::Done(leader),
                _ => Attempt::NotYet(format!("{} pods, leader {leader:?}", members.len())),
            })
        })
        .await
    }
}

/// Returns the row of a change that the guard refuses.
fn row(words: &str, alone: (String, Record), answered: (String, String), record: Record) -> Row {
    let (what, lost) = alone;
    let alone = Outcome { what, record: lost };
    say(&format!("  the operator alone: {alone}"));
    let (answered, plugin) = answered;
    let with_plugin = Outcome { what: plugin, record };
    Row { words: words.to_owned(), alone, answered, with_plugin }
}

/// The StatefulSet deletes the claims of members that it removes.
async fn volumes(ctx: TestCtx) -> Result<Row> {
    let key = "persistent_volume_claim_retention_policy".to_owned();
    let deletes = [(key, "when_deleted:retain,when_scaled:delete".to_owned())].into();
    let settings = Settings { more: deletes, ..Settings::default() };
    let bed = Arc::clone(&ctx.bed);
    bed.operator().lock().await.start(&settings).await?;
    let row = volumes_deleted(ctx).await;
    bed.operator().lock().await.start(&Settings::default()).await?;
    row
}

async fn volumes_deleted(ctx: TestCtx) -> Result<Row> {
    let staged = Staged::of(ctx, 3).await?;
    let namespace = &staged.ctx.namespace;
    let writer = staged.writing().await?;
    guarding::webhook(&staged.ctx).await?;
    let policy = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "sleeps"}, "spec": {"instances": {"zero": "Allow"}},
    });
    let directory = staged.ctx.bed.directory();
    let file = write(directory, &format!("{namespace}.json"), &policy.to_string())?;
    staged.kubectl(&["apply", "--server-side", "-f", &file.to_string_lossy()]).await?;
    let whole = format!("--confirm={namespace}/{NAME}");
    let answered = staged.refused(0, &["set", NAME, "0", &whole]).await?;
    let record = finish(writer).await?;

    let writer = staged.writing().await?;
    staged.patch(0).await?;
    staged.no_pods().await?;
    until("the claims to be deleted", TIMEOUT, async || {
        let claims = staged.claims().await?;
        Ok(if claims == 0 { Attempt::Done(()) } else { Attempt::NotYet(claims.to_string()) })
    })
    .await?;
    staged.patch(3).await?;
    let what = match staged.led(&writer, 3).await? {
        Some(_) => "deletes all volumes; the cluster starts empty",
        None => "deletes all volumes; no member starts again",
    };
    let lost = finish_with_any_loss(writer).await;
    let words = "3 to 0 and back, the StatefulSet deletes claims when scaled";
    Ok(row(words, (what.to_owned(), lost), answered, record))
}

/// Patroni is paused while no member runs.
async fn paused(ctx: TestCtx) -> Result<Row> {
    let staged = Staged::of(ctx, 3).await?;
    let writer = staged.writing().await?;
    staged.patch(0).await?;
    staged.no_pods().await?;
    // Nothing can be written while the change is refused.
    let acknowledged_before = writer.acknowledged();
    let running =
        Record { acknowledged: acknowledged_before, missing: 0, longest_gap: Duration::ZERO };
    pause_kept(&staged.cluster, Some(true)).await?;
    let answered = staged.refused(3, &["set", NAME, "3"]).await?;

    let start = Instant::now();
    staged.patch(3).await?;
    let leader = staged.led(&writer, 3).await?;
    let what = if let Some(leader) = leader {
        format!("-{leader} leads")
    } else {
        let stuck = start.elapsed().as_secs();
        // Only then a member takes the lock.
        pause_kept(&staged.cluster, None).await?;
        staged.led(&writer, 3).await?;
        format!("no member leads for {stuck} s, until a person resumes Patroni")
    };
    acknowledged(&writer, WARM).await?;
    let lost = finish_with_any_loss(writer).await;
    Ok(row("0 to 3, Patroni paused meanwhile", (what, lost), answered, running))
}

/// Another writer scales the StatefulSet while -0 is away, so that nothing is deleted yet. Then the
/// count of the cluster follows.
async fn away(ctx: TestCtx) -> Result<Row> {
    let staged = Staged::of(ctx, 4).await?;
    let bed = Arc::clone(&staged.ctx.bed);
    let row = scaled(&staged).await;
    bed.operator().lock().await.start(&Settings::default()).await?;
    row
}

async fn scaled(staged: &Staged) -> Result<Row> {
    let cluster = &staged.cluster;
    cluster.move_leader_to(3).await?;
    cluster.settled().await?;
    // Before -0 goes, because it has to have the writer's table.
    let writer = staged.writing().await?;
    cluster.stage(0, Fault::ImageUnavailable).await?;
    staged.kubectl(&["delete", "pod", &cluster.pod_name(0)]).await?;
    // The operator would set the count of the StatefulSet back.
    staged.ctx.bed.operator().lock().await.stop().await?;
    staged.kubectl(&["scale", "statefulset", NAME, "--replicas=1"]).await?;
    let answered = staged.refused(1, &["down", NAME, "--to", "1"]).await?;
    let record = finish(writer).await?;

    let writer = staged.writing().await?;
    staged.patch(1).await?;
    staged.operator(&Settings::default()).await?;
    acknowledged(&writer, 10 * WARM).await?;
    cluster.unstage(0, Fault::ImageUnavailable).await?;
    let what = match staged.led(&writer, 1).await? {
        Some(leader) => {
            acknowledged(&writer, WARM).await?;
            format!("deletes the leader once -0 is back; -{leader} takes over")
        }
        None => "deletes the leader once -0 is back; no member leads".to_owned(),
    };
    let lost = finish_with_any_loss(writer).await;
    let words = "4 to 1, after another writer scaled the StatefulSet to 1 while -0 was away";
    Ok(row(words, (what, lost), answered, record))
}

/// The operator is busy when the count is written. Before it acts, the leader moves to a member
/// that is to be removed, and the survivors no longer receive.
async fn busy(ctx: TestCtx) -> Result<Row> {
    let row = failed_over(&ctx).await;
    ctx.bed.operator().lock().await.thaw();
    row
}

async fn failed_over(ctx: &TestCtx) -> Result<Row> {
    let webhook = guarding::guarded(ctx).await?;
    let staged = Staged::of(ctx.clone(), 5).await?;
    let cluster = &staged.cluster;
    cluster.move_leader_to(0).await?;
    let answered = answered(cluster, 2).await?;
    let writer = staged.writing().await?;
    ctx.bed.operator().lock().await.freeze();
    let down = ["down", NAME, "--to", "2", "--yes", "--timeout", "90s"];
    let followed = cluster.follow_pgscale(&down)?;
    until("the count to be written", TIMEOUT, async || {
        let declared = cluster.declared().await?;
        Ok(if declared == 2 { Attempt::Done(()) } else { Attempt::NotYet(declared.to_string()) })
    })
    .await?;
    staged.fail_over(&writer).await?;
    ctx.bed.operator().lock().await.thaw();
    let code = followed.end().await?.code;
    ctx.bed.kubelet().unstage_all(&ctx.namespace);
    acknowledged(&writer, WARM).await?;
    let record = finish(writer).await?;
    let (leader, declared) = (cluster.leader().await?.ordinal, cluster.declared().await?);
    let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    let what = format!("ends with {code}; {declared} instances are declared, -{leader} leads");
    let with_plugin = Outcome { what, record };
    say(&format!("  kubectl pgscale: {with_plugin}"));
    staged.kubectl(&["delete", "postgresql", NAME]).await?;
    webhook.unguard(&ctx.namespace).await?;

    // A survivor that received more than the new leader may never follow it.
    let staged = Staged::called("acid-alone", ctx.clone(), 5).await?;
    let cluster = &staged.cluster;
    cluster.move_leader_to(0).await?;
    cluster.settled().await?;
    let writer = staged.writing().await?;
    ctx.bed.operator().lock().await.freeze();
    staged.patch(2).await?;
    staged.fail_over(&writer).await?;
    ctx.bed.operator().lock().await.thaw();
    let what = match staged.led(&writer, 2).await? {
        Some(leader) => format!("deletes the leader; -{leader} takes over"),
        None => "deletes the leader; no member leads".to_owned(),
    };
    ctx.bed.kubelet().unstage_all(&ctx.namespace);
    let alone = Outcome { what, record: finish_with_any_loss(writer).await };
    say(&format!("  the operator alone: {alone}"));
    let words = "5 to 2 with the leader on 0, the operator busy; then a failover to 4, and the \
                 receivers of 0 and 1 stall";
    Ok(Row { words: words.to_owned(), alone, answered, with_plugin })
}

/// The operator's setting of Patroni's store changes together with the count, as in an upgrade to
/// operator 2 that does not pin the setting.
async fn store(ctx: TestCtx) -> Result<Row> {
    let staged = Staged::of(ctx, 1).await?;
    let row = moved(&staged).await;
    staged.operator(&Settings::default()).await?;
    row
}

async fn moved(staged: &Staged) -> Result<Row> {
    let writer = staged.writing().await?;
    let maps = Settings { use_configmaps: true, ..Settings::default() };
    staged.ctx.bed.operator().lock().await.configure(&maps).await?;
    let answered = staged.refused(2, &["up", NAME, "--to", "2"]).await?;
    let record = finish(writer).await?;

    let writer = staged.writing().await?;
    staged.ctx.bed.operator().lock().await.stop().await?;
    staged.patch(2).await?;
    staged.operator(&maps).await?;
    let leads = until("the new member to lead or to follow", DEADLINE, async || {
        let members = staged.cluster.members().await?;
        let leader = members.iter().find(|member| member.ordinal == 1 && member.leads());
        let follows = members.iter().any(|member| member.ordinal == 1 && member.streams());
        Ok(if leader.is_some() || follows {
            Attempt::Done(leader.is_some())
        } else {
            Attempt::NotYet(format!("{} pods", members.len()))
        })
    })
    .await?;
    let what = if leads {
        until("writes to stop or to go on", DEADLINE, async || {
            let silence = writer.silence();
            let seen = format!("silent for {} s", silence.as_secs());
            Ok(if silence >= STUCK / 2 { Attempt::Done(()) } else { Attempt::NotYet(seen) })
        })
        .await?;
        "the new member makes an empty database and leads it"
    } else {
        "the new member follows"
    };
    let lost = finish_with_any_loss(writer).await;
    let words = "1 to 2, the operator moves Patroni's store to ConfigMaps";
    Ok(row(words, (what.to_owned(), lost), answered, record))
}
