//! Commits that wait for a synchronous standby.

use anyhow::{Result, ensure};
use pgscale_tests::cluster::TIMEOUT;
use pgscale_tests::patroni::TagValue;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::{Finding, NAME, SharedCluster, situation};
use crate::trial::Case;

const CONDEMNED: &str = "sync-standbys-condemned";
const FLOOR: &str = "strict-sync-floor";

pub(super) fn cases() -> Vec<Case> {
    vec![situation("situations::removing_the_synchronous_standbys_is_refused", synchronous)]
}

async fn synchronous(shared: SharedCluster) -> Result<()> {
    let cluster = &shared.cluster;
    // Only -2 can be chosen.
    shared.cluster.stage(1, Fault::StalledReceiver).await?;
    let of_1 = format!("application_name = '{}'", shared.pod(1));
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE {of_1}");
    cluster.sql(0, &cut).await?;
    shared.edit(json!({"patroni": {"synchronous_mode": true}})).await?;
    chosen(&shared, &shared.pod(2)).await?;
    cluster.sql(0, "CREATE TABLE unreceived AS SELECT 1").await?;
    shared.refuses(2, CONDEMNED, &shared.pod(2)).await?;

    // With another replica that has caught up, commits wait for a moment only.
    shared.cluster.unstage(1, Fault::StalledReceiver).await?;
    let softer =
        |finding: &Finding| finding.severity == "Warn" && finding.mentions("chosen another");
    shared.found(2, CONDEMNED, softer).await?;
    shared.admits(2).await?;
    cluster.sql(0, "DROP TABLE unreceived").await?;

    // Patroni never chooses a member with this priority, whatever it has received.
    let barred = Fault::Tagged { tag: "sync_priority", value: TagValue::Number(0) };
    shared.cluster.stage(1, barred).await?;
    chosen(&shared, &shared.pod(2)).await?;
    shared.refuses(2, CONDEMNED, &shared.pod(2)).await?;
    shared.bed.kubelet().unstage_all(&cluster.namespace);
    shared.admits(2).await?;

    shared.edit(json!({"patroni": {"synchronous_mode_strict": true}})).await?;
    let runs = format!("{NAME}-config");
    shared.found(1, FLOOR, |finding| finding.mentions(&runs)).await?;
    // The printed count has to be admitted: the operator has worked the edit through.
    shared.admits(2).await?;
    let finding = shared.refuses(1, FLOOR, "strict synchronous mode").await?;
    let set = format!("pgscale set {NAME} 2 -n NS");
    shared.run_remedy(finding.remedy()?, &set, &["--yes", "--dry-run=server"]).await?;

    let off = json!({"patroni": {"synchronous_mode": false, "synchronous_mode_strict": false}});
    shared.edit(off).await?;
    until("the cluster to be asynchronous", TIMEOUT, async || {
        let plan = shared.plan(1).await?;
        let off = plan.silent(FLOOR) && plan.silent(CONDEMNED);
        Ok(if off { Attempt::Done(()) } else { Attempt::NotYet(format!("{plan:?}")) })
    })
    .await?;
    ensure!(shared.plan(1).await?.outcome == "Ready", "{:?}", shared.plan(1).await?);
    Ok(())
}

/// Waits until `standby` is the only synchronous standby.
async fn chosen(shared: &SharedCluster, standby: &str) -> Result<()> {
    let object = format!("{NAME}-sync");
    let path = "--output=jsonpath={.metadata.annotations.sync_standby}";
    until(&format!("{standby} to be synchronous"), TIMEOUT, async || {
        let said = shared.cluster.kubectl(&["get", "endpoints", &object, path]).await?;
        Ok(if said.stdout == standby {
            Attempt::Done(())
        } else {
            Attempt::NotYet(format!("{said:?}"))
        })
    })
    .await
}
