//! Changes whose hand-over the operator would not make: it replaces the StatefulSet instead, or
//! reaches no member. A plain edit is refused, and the plugin moves the leader first.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use kube::ResourceExt as _;
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::operator::{Reach, Settings};
use pgscale_tests::patroni::rest;
use pgscale_tests::proof::admission::{ANNOTATION, annotate, stop_annotating};
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use serde_json::json;

use crate::guarding;
use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::{self, Expected, State};
use crate::writing::{PAUSE, acknowledged, finish};

const NAME: &str = "acid-hand";
/// A label and an annotation of the cluster that the operator hands down to its pods.
const LABEL: &str = "environment";
const OWNER: &str = "example.com/owner";
const WARM: usize = 100;
/// The operator renews the pods within this time, or has given up: it waits 30 s for each deletion.
const GIVEN_UP: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("hand_over::an_annotation_by_admission_never_deletes_the_leader", annotated),
        case("hand_over::a_label_that_is_handed_down_is_worked_through_before_a_shrink", inherited),
        case("hand_over::an_operator_that_reaches_no_member_never_deletes_the_leader", unreachable),
        case("hand_over::a_move_of_the_leader_while_the_operator_is_busy_loses_nothing", busy),
    ]
}

/// Checks that a plain patch to `to` is refused because the leader would be deleted, with `mention`
/// in the answer, and changes nothing.
async fn refused(cluster: &Cluster, to: u32, mention: &str) -> Result<()> {
    let before = State::of(cluster).await?;
    let said = cluster.patch(to.into()).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("- leader-condemned: "), "{said:?}");
    ensure!(said.stderr.contains(mention), "{mention} is not named: {said:?}");
    let after = State::of(cluster).await?;
    ensure!(after == before, "refused, but changed: {before:?}, then {after:?}");
    Ok(())
}

/// Moves the leader to 2 and starts a client that writes.
async fn moved(ctx: &TestCtx, cluster: &Cluster) -> Result<Writer> {
    cluster.move_leader_to(2).await?;
    let writer = Writer::start(ctx.bed.client(), &cluster.namespace, NAME).await?;
    acknowledged(&writer, WARM).await?;
    Ok(writer)
}

/// Moves the leader to 2. Checks that a plain edit is refused with `mention` in the answer, and that
/// the plugin scales to 2.
async fn moved_first(ctx: &TestCtx, cluster: &Cluster, mention: &str) -> Result<()> {
    let writer = moved(ctx, cluster).await?;
    refused(cluster, 2, mention).await?;
    with_plugin::down(cluster, writer, 2, Expected::Shrinks).await?;
    Ok(())
}

async fn annotated(ctx: TestCtx) -> Result<()> {
    annotate(&ctx.bed, &ctx.namespace).await?;
    // As in production, no synchronisation of the operator comes between two changes.
    let seldom = Settings::with_production_intervals();
    ctx.bed.operator().lock().await.start(&seldom).await?;
    let tried = twice(&ctx).await;
    ctx.bed.operator().lock().await.start(&Settings::default()).await?;
    stop_annotating(&ctx.bed, &ctx.namespace).await?;
    tried
}

async fn twice(ctx: &TestCtx) -> Result<()> {
    guarding::guarded(ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, 3, quick()).await?;
    moved_first(ctx, &cluster, ANNOTATION).await?;
    // The operator replaces the StatefulSet at every change, and so it does at the next one.
    guarding::admitted(&cluster, 3).await?;
    cluster.converged(3).await?;
    moved_first(ctx, &cluster, ANNOTATION).await.context("the second time")
}

async fn inherited(ctx: TestCtx) -> Result<()> {
    // No synchronisation comes between the edit and the shrink.
    let mut settings = Settings::with_production_intervals();
    let keys = [("inherited_labels", LABEL), ("inherited_annotations", OWNER)];
    settings.more.extend(keys.map(|(key, value)| (key.to_owned(), value.to_owned())));
    ctx.bed.operator().lock().await.start(&settings).await?;
    let tried = handed_down(&ctx, &settings).await;
    // Other tests expect the default, also after a failure of this one.
    ctx.bed.operator().lock().await.start(&Settings::default()).await?;
    tried
}

/// The operator acts on no edit of labels alone. Its next synchronisation replaces the StatefulSet
/// and renews the pods.
async fn handed_down(ctx: &TestCtx, settings: &Settings) -> Result<()> {
    guarding::guarded(ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, 3, quick()).await?;
    cluster.move_leader_to(2).await?;
    let label = format!("{LABEL}=new");
    cluster.kubectl(&["label", "postgresql", NAME, &label]).await?.ok()?;
    refused(&cluster, 2, LABEL).await?;
    // A move of the leader would not do: the pods that stay would be renewed while others are
    // removed.
    let said = with_plugin::refused(&cluster, &["down", NAME, "--to", "2"]).await?;
    ensure!(said.contains("replace-pending"), "{said}");

    // A start of the operator begins with a synchronisation. It may delete a pod before its watch of
    // pods has begun: then it waits in vain, and gives up until the next synchronisation.
    ctx.bed.operator().lock().await.start(settings).await?;
    let mut started = Instant::now();
    until("every pod to have the label", TIMEOUT, async || {
        if started.elapsed() > GIVEN_UP {
            ctx.bed.operator().lock().await.start(settings).await?;
            started = Instant::now();
        }
        let pods = cluster.pods().await?;
        let labels: Vec<_> = pods.iter().map(|pod| pod.labels().get(LABEL)).collect();
        let renewed = labels.len() == 3 && labels.iter().all(Option::is_some);
        Ok(if renewed { Attempt::Done(()) } else { Attempt::NotYet(format!("{labels:?}")) })
    })
    .await?;
    cluster.converged(3).await?;
    cluster.settled().await?;
    let writer = moved(ctx, &cluster).await?;
    // The same in one write: the operator would take both the annotation and the count from it.
    let both = json!({
        "metadata": {"annotations": {OWNER: "team"}}, "spec": {"numberOfInstances": 2},
    })
    .to_string();
    let before = State::of(&cluster).await?;
    let merge = ["patch", "postgresql", NAME, "--type=merge", "-p", &both];
    let said = cluster.kubectl(&merge).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("- mixed-change: "), "{said:?}");
    ensure!(said.stderr.contains(OWNER), "the annotation is not named: {said:?}");
    ensure!(State::of(&cluster).await? == before, "refused, but changed: {said:?}");

    with_plugin::down(&cluster, writer, 2, Expected::Shrinks).await?;
    Ok(())
}

async fn unreachable(ctx: TestCtx) -> Result<()> {
    guarding::guarded(&ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, 3, quick()).await?;
    let cut_off = Settings { patroni: Reach::CutOff, ..Settings::default() };
    ctx.bed.operator().lock().await.start(&cut_off).await?;
    let tried = moved_first(&ctx, &cluster, "acid-hand-2").await;
    // Other tests expect the default, also after a failure of this one.
    ctx.bed.operator().lock().await.start(&Settings::default()).await?;
    tried?;
    let log = ctx.bed.logs().join("postgres-operator.log");
    let log = std::fs::read_to_string(log).context("failed to read the operator's log")?;
    ensure!(log.contains("proxyconnect"), "the operator reached the members");
    Ok(())
}

/// The operator is busy when the plugin writes the count. Before it acts, the leader moves to a
/// member that is to be removed.
async fn busy(ctx: TestCtx) -> Result<()> {
    guarding::guarded(&ctx).await?;
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, 3, quick()).await?;
    cluster.move_leader_to(0).await?;
    ctx.bed.operator().lock().await.freeze();
    let tried = moved_meanwhile(&ctx, &cluster).await;
    ctx.bed.operator().lock().await.thaw();
    tried
}

async fn moved_meanwhile(ctx: &TestCtx, cluster: &Cluster) -> Result<()> {
    let writer = Writer::start(ctx.bed.client(), &cluster.namespace, NAME).await?;
    acknowledged(&writer, WARM).await?;
    let mut down =
        cluster.follow_pgscale(&["down", NAME, "--to", "2", "--yes", "--timeout", "4m"])?;
    let written = down.says(|line| line.starts_with("numberOfInstances is 2")).await?;
    ensure!(written, "the count was not written: {:?}", down.end().await?);
    let leader = cluster.leader().await?;
    let address = leader.address.context("the leader has no address")?;
    let request = json!({"leader": leader.pod, "candidate": cluster.pod_name(2)});
    // The answer comes after the switchover, which may outlast a call.
    _ = rest::send(address, Method::POST, "/switchover", &request).await;
    let before = State::timeline(&leader)?;
    until("another leader", TIMEOUT, async || {
        // The plugin may move the leader again at once: only the timeline shows that it moved.
        let timeline = State::timeline(&cluster.leader().await?)?;
        let seen = format!("timeline {timeline}");
        Ok(if timeline > before { Attempt::Done(()) } else { Attempt::NotYet(seen) })
    })
    .await?;
    acknowledged(&writer, WARM).await?;
    // An operator that acts before the leader has moved again deletes it, and nothing can be
    // promised. The command ends without this line where it set the count back instead.
    down.says(|line| line.contains("the leader was moved again")).await?;
    ctx.bed.operator().lock().await.thaw();
    let said = down.end().await?;
    acknowledged(&writer, WARM).await?;
    let record = finish(writer).await?;
    ensure!(record.missing == 0 && record.longest_gap < PAUSE, "{record:?}: {said:?}");
    let leader = cluster.leader().await?.ordinal;
    let declared = cluster.declared().await?;
    ensure!(i64::from(leader) < declared, "-{leader} leads, {declared} declared: {said:?}");
    Ok(())
}
