//! Members that are no copies yet, and volumes that are old ones.

use anyhow::{Result, ensure};
use pgscale_tests::stage::Fault;

use super::{NAME, SharedCluster, situation};
use crate::cloning::{self, SLOW};
use crate::guarding;
use crate::trial::Case;

const REBUILD: &str = "rebuild-in-progress";
/// How often a base backup that fails is looked at, over more than one try of Patroni.
const LOOKS: usize = 12;

pub(super) fn cases() -> Vec<Case> {
    vec![
        situation("situations::a_base_backup_is_slow_and_then_fails", base_backup),
        situation("situations::a_survivor_is_reinitialised", reinitialised),
        situation("situations::a_volume_was_kept_from_an_earlier_life", stale_volume),
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
    // Between two tries Patroni has other words for it.
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
