//! Commits that wait for a standby.

use anyhow::{Result, ensure};
use pgscale_tests::cluster::PATIENCE;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::{Finding, Ground, NAME, situation};
use crate::trial::Case;

const CONDEMNED: &str = "sync-standbys-condemned";
const FLOOR: &str = "strict-sync-floor";

pub(super) fn cases() -> Vec<Case> {
    vec![situation(
        "situations::the_only_synchronous_standby_would_go_then_all_of_them",
        synchronous,
    )]
}

async fn synchronous(ground: Ground) -> Result<()> {
    let cluster = &ground.cluster;
    // Nobody but -2 is there to be chosen.
    ground.cluster.stage(1, Fault::StalledReceiver).await?;
    let of_1 = format!("application_name = '{}'", ground.pod(1));
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE {of_1}");
    cluster.sql(0, &cut).await?;
    ground.edit(json!({"patroni": {"synchronous_mode": true}})).await?;
    chosen(&ground, &ground.pod(2)).await?;
    cluster.sql(0, "CREATE TABLE unreceived AS SELECT 1").await?;
    ground.refuses(2, CONDEMNED, &ground.pod(2)).await?;

    // With another that is caught up commits wait for a moment only.
    ground.cluster.unstage(1, Fault::StalledReceiver).await?;
    let softer =
        |finding: &Finding| finding.severity == "Warn" && finding.mentions("chosen another");
    ground.found(2, CONDEMNED, softer).await?;
    ground.admits(2).await?;
    cluster.sql(0, "DROP TABLE unreceived").await?;

    ground.edit(json!({"patroni": {"synchronous_mode_strict": true}})).await?;
    let runs = format!("{NAME}-config");
    ground.found(1, FLOOR, |finding| finding.mentions(&runs)).await?;
    let finding = ground.refuses(1, FLOOR, "strict synchronous mode").await?;
    let set = format!("pgscale set {NAME} 2 -n NS");
    ground.carry_out(finding.remedy()?, &set, &["--yes", "--dry-run=server"]).await?;

    let off = json!({"patroni": {"synchronous_mode": false, "synchronous_mode_strict": false}});
    ground.edit(off).await?;
    until("the cluster to be asynchronous", PATIENCE, async || {
        let plan = ground.plan(1).await?;
        let off = plan.silent(FLOOR) && plan.silent(CONDEMNED);
        Ok(if off { Attempt::Done(()) } else { Attempt::NotYet(format!("{plan:?}")) })
    })
    .await?;
    ensure!(ground.plan(1).await?.outcome == "Ready", "{:?}", ground.plan(1).await?);
    Ok(())
}

/// Waits until `standby` is the one that commits wait for.
async fn chosen(ground: &Ground, standby: &str) -> Result<()> {
    let object = format!("{NAME}-sync");
    let path = "--output=jsonpath={.metadata.annotations.sync_standby}";
    until(&format!("{standby} to be synchronous"), PATIENCE, async || {
        let said = ground.cluster.kubectl(&["get", "endpoints", &object, path]).await?;
        Ok(if said.stdout == standby {
            Attempt::Done(())
        } else {
            Attempt::NotYet(format!("{said:?}"))
        })
    })
    .await
}
