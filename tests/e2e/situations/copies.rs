//! Members without a complete copy, and old volumes.

use anyhow::{Result, ensure};
use pgscale_tests::stage::Fault;

use super::{NAME, SharedCluster, situation};
use crate::cloning::{self, SLOW};
use crate::guarding;
use crate::trial::Case;

const REBUILD: &str = "rebuild-in-progress";
/// The number of looks at a failing base backup, over more than one attempt of Patroni.
const LOOKS: usize = 12;

pub(super) fn cases() -> Vec<Case> {
    vec![
        situation("situations::a_slow_or_failing_base_backup_blocks_growth", base_backup),
        situation("situations::a_survivor_that_is_rebuilt_blocks_a_shrink", reinitialised),
        situation("situations::an_old_volume_is_reported", stale_volume),
    ]
}

async fn base_backup(shared: SharedCluster) -> Result<()> {
    let newest = shared.pod(3);
    shared.cluster.stage(3, SLOW).await?;
    guarding::admitted(&shared.cluster, 4).await?;
    cloning::runs(&shared.cluster, 3).await?;
    shared.refuses(5, REBUILD, &newest).await?;

    shared.cluster.stage(3, Fault::FailingBaseBackup).await?;
    shared.cluster.unstage(3, SLOW).await?;
    cloning::fails(shared.bed.kubelet(), &shared.cluster.namespace, &newest).await?;
    // Between two attempts Patroni reports another state.
    for _ in 0..LOOKS {
        let finding = shared.plan(5).await?.finding(REBUILD)?;
        let late = finding.message.starts_with("cannot be judged");
        ensure!(late || finding.severity == "Deny" && finding.mentions(&newest), "{finding:?}");
    }
    let finding = shared.refuses(5, REBUILD, &newest).await?;
    let give_up = format!("pgscale set {NAME} 3 -n NS");
    shared.run_remedy(finding.remedy()?, &give_up, &["--yes"]).await?;
    shared.cluster.unstage(3, Fault::FailingBaseBackup).await
}

async fn reinitialised(shared: SharedCluster) -> Result<()> {
    let rebuilt = shared.pod(1);
    shared.cluster.stage(1, SLOW).await?;
    shared.patronictl(&["reinit", NAME, &rebuilt, "--force"]).await?;
    cloning::runs(&shared.cluster, 1).await?;
    shared.refuses(2, REBUILD, &rebuilt).await?;
    shared.cluster.unstage(1, SLOW).await?;
    shared.cluster.converged(super::MEMBERS).await?;
    shared.admits(2).await
}

async fn stale_volume(shared: SharedCluster) -> Result<()> {
    shared.resize(4).await?;
    shared.resize(3).await?;
    let claim = format!("pgdata-{}", shared.pod(3));
    let finding = shared.plan(4).await?.finding("stale-volume")?;
    ensure!(finding.severity == "Warn" && finding.mentions(&claim), "{finding:?}");
    shared.run_remedy(finding.remedy()?, &format!("delete pvc {claim} -n NS"), &[]).await?;
    let plan = shared.plan(4).await?;
    ensure!(plan.silent("stale-volume") && plan.outcome == "Ready", "{plan:?}");
    Ok(())
}
