//! Members that are no copies yet, and volumes that are old ones.

use anyhow::{Result, ensure};
use pgscale_tests::cluster::PATIENCE;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};

use super::{Ground, NAME, situation};
use crate::guarding;
use crate::trial::Case;

/// Kilobytes a second: slow enough to look at, quick enough to end when the throttle is lifted.
const SLOW: Fault = Fault::SlowBaseBackup { kilobytes_per_second: 64 };
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

/// Waits until the member is being cloned, by its own word.
async fn cloning(ground: &Ground, ordinal: u32) -> Result<()> {
    until("a base backup to run", PATIENCE, async || {
        let members = ground.cluster.members().await?;
        let member = members.into_iter().find(|member| member.ordinal == ordinal);
        let cloning = member.as_ref().is_some_and(|member| member.state() == "creating replica");
        Ok(if cloning { Attempt::Done(()) } else { Attempt::NotYet(format!("{member:?}")) })
    })
    .await
}

async fn base_backup(ground: Ground) -> Result<()> {
    let newest = ground.pod(3);
    ground.stage(3, SLOW).await?;
    guarding::admitted(&ground.cluster, 4).await?;
    cloning(&ground, 3).await?;
    ground.refuses(5, REBUILD, &newest).await?;

    ground.stage(3, Fault::FailingBaseBackup).await?;
    ground.unstage(3, SLOW).await?;
    let log = ground.bed.kubelet().log(&ground.cluster.namespace, &newest);
    until("a base backup to fail", PATIENCE, async || {
        let failed = std::fs::read_to_string(&log)?.contains("error: staged to fail");
        Ok(if failed { Attempt::Done(()) } else { Attempt::NotYet("none has".into()) })
    })
    .await?;
    // Between two tries Patroni has other words for it.
    for _ in 0..LOOKS {
        let finding = ground.plan(5).await?.finding(REBUILD)?;
        let late = finding.message.starts_with("cannot be judged");
        ensure!(late || finding.severity == "Deny" && finding.mentions(&newest), "{finding:?}");
    }
    let finding = ground.refuses(5, REBUILD, &newest).await?;
    let give_up = format!("pgscale set {NAME} 3 -n NS");
    ground.carry_out(finding.remedy()?, &give_up, &["--yes"]).await?;
    ground.unstage(3, Fault::FailingBaseBackup).await
}

async fn reinitialised(ground: Ground) -> Result<()> {
    let rebuilt = ground.pod(1);
    ground.stage(1, SLOW).await?;
    ground.patronictl(&["reinit", NAME, &rebuilt, "--force"]).await?;
    cloning(&ground, 1).await?;
    ground.refuses(2, REBUILD, &rebuilt).await?;
    ground.unstage(1, SLOW).await?;
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
