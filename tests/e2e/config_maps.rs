//! The webhook and the plugin where Patroni keeps its state in ConfigMaps, the default of operator
//! 2.0.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::operator::Settings;
use pgscale_tests::stage::Fault;

use crate::guarding;
use crate::trial::{Case, TestCtx, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![case("config_maps::the_webhook_and_the_plugin_read_patronis_config_maps", walk)]
}

async fn walk(ctx: TestCtx) -> Result<()> {
    let settings = Settings { use_configmaps: true, ..Settings::default() };
    ctx.bed.operator().lock().await.start(&settings).await?;
    let walked = there_and_back(&ctx).await;
    // Other tests need the default, also after a failure of this one.
    ctx.bed.operator().lock().await.start(&Settings::default()).await?;
    walked
}

async fn there_and_back(ctx: &TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = ctx;
    guarding::guarded(ctx).await?;
    let cluster = Cluster::create(bed, namespace, "acid-maps", 3, quick()).await?;
    let maps: Api<ConfigMap> = Api::namespaced(bed.client(), namespace);
    maps.get("acid-maps-leader").await.context("Patroni does not keep its state in ConfigMaps")?;

    cluster.pgscale(&["up", "acid-maps", "--to", "4"]).await?.ok()?;
    cluster.move_leader_to(3).await?;
    cluster.stage(0, Fault::NoFailover).await?;
    let plain = cluster.patch(3).await?;
    ensure!(plain.code == Some(1) && plain.stderr.contains("leader-condemned"), "{plain:?}");
    ensure!(
        plain.stderr.contains("configmap/acid-maps-leader"),
        "the source is not named: {plain:?}"
    );

    cluster.pgscale(&["down", "acid-maps", "--to", "3", "--yes"]).await?.ok()?;
    let leader = cluster.leader().await?.ordinal;
    ensure!(leader == 1 || leader == 2, "{leader} leads");
    ensure!(cluster.replicas().await? == 3, "not scaled");
    Ok(())
}
