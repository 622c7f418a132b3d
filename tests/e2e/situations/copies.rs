//! Members that are no copies yet, and volumes that are old ones.

use anyhow::{Result, ensure};
use pgscale_tests::stage::Fault;

use super::{Ground, NAME, situation};
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

async fn base_backup(ground: Ground) -> Result<()> {
    let newest = ground.pod(3);
    ground.cluster.stage(3, SLOW).await?;
    guarding::admitted(&ground.cluster, 4).await?;
    cloning::runs(&ground.cluster, 3).await?;
    ground.refuses(5, REBUILD, &newest).await?;

    ground.cluster.stage(3, Fault::FailingBaseBackup).await?;
    ground.cluster.unstage(3, SLOW).await?;
    cloning::fails(ground.bed.kubelet(), &ground.cluster.namespace, &newest).await?;
    // Between two tries Patroni has other words for it.
    for _ in 0..LOOKS {
        let finding = ground.plan(5).await?.finding(REBUILD)?;
        let late = finding.message.starts_with("cannot be judged");
        ensure!(late || finding.severity == "Deny" && finding.mentions(&newest), "{finding:?}");
    }
    let finding = ground.refuses(5, REBUILD, &newest).await?;
    let give_up = format!("pgscale set {NAME} 3 -n NS");
    ground.carry_out(finding.remedy()?, &give_up, &["--yes"]).await?;
    ground.cluster.unstage(3, Fault::FailingBaseBackup).await
}

async fn reinitialised(ground: Ground) -> Result<()> {
    let rebuilt = ground.pod(1);
    ground.cluster.stage(1, SLOW).await?;
    ground.patronictl(&["reinit", NAME, &rebuilt, "--force"]).await?;
    cloning::runs(&ground.cluster, 1).await?;
    ground.refuses(2, REBUILD, &rebuilt).await?;
    ground.cluster.unstage(1, SLOW).await?;
    ground.cluster.converged(super::MEMBERS).await?;
    ground.admits(2).await
}

async fn stale_volume(ground: Ground) -> Result<()> {
    ground.resize(4).await?;
    ground.resize(3).await?;
    let claim = format!("pgdata-{}", ground.pod(3));
    let finding = ground.plan(4).await?.finding("stale-volume")?;
    ensure!(finding.severity == "Warn" && finding.mentions(&claim), "{finding:?}");
    ground.carry_out(finding.remedy()?, &format!("delete pvc {claim} -n NS"), &[]).await?;
    let plan = ground.plan(4).await?;
    ensure!(plan.silent("stale-volume") && plan.outcome == "Ready", "{plan:?}");
    Ok(())
}
