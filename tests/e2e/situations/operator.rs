//! The operator: stopped, busy, with limits of its own, and about to replace the StatefulSet.

use std::time::Duration;

use anyhow::{Result, ensure};
use pgscale_tests::operator::Settings;
use serde_json::json;

use super::{Ground, MEMBERS, NAME, situation};
use crate::guarding;
use crate::trial::Case;

pub(super) fn cases() -> Vec<Case> {
    vec![
        situation("situations::the_stateful_set_has_a_foreign_annotation", foreign_annotation),
        situation("situations::a_rolling_update_is_in_progress", rolling_update),
        situation("situations::the_operator_is_stopped_and_a_count_not_applied", stopped),
        situation("situations::the_operator_has_limits_of_its_own", limits),
    ]
}

impl Ground {
    async fn start_operator(&self, settings: &Settings) -> Result<()> {
        self.bed.operator().lock().await.start(settings).await
    }
}

async fn foreign_annotation(ground: Ground) -> Result<()> {
    let cluster = &ground.cluster;
    // Its next synchronisation would end the situation before anybody has looked.
    let seldom = Settings { resync: Duration::from_secs(3600), ..Settings::default() };
    ground.start_operator(&seldom).await?;
    cluster.move_leader_to(2).await?;
    ground.kubectl(&["annotate", "statefulset", NAME, "example.com/seen=yes"]).await?;
    let rule = "replace-pending";
    let said = ground.patch_refused(2, "leader-condemned", "example.com/seen").await?;
    ground.make_way(&said, 2).await?;

    // Replaced by now, without the annotation.
    let plan = ground.plan(MEMBERS).await?;
    ensure!(plan.silent(rule), "{plan:?}");
    ground.resize(MEMBERS).await?;
    // Where the leader stays it is only told, and to remove the annotation ends it.
    ground.kubectl(&["annotate", "statefulset", NAME, "example.com/seen=yes"]).await?;
    let finding = ground.plan(2).await?.finding(rule)?;
    ensure!(finding.severity == "Warn" && finding.mentions("example.com/seen"), "{finding:?}");
    ground.kubectl(&["annotate", "statefulset", NAME, "example.com/seen-"]).await?;
    let plan = ground.plan(2).await?;
    ensure!(plan.silent(rule), "{plan:?}");
    ground.start_operator(&Settings::default()).await
}

async fn rolling_update(ground: Ground) -> Result<()> {
    let rule = "operation-in-progress";
    ground.edit(json!({"resources": {"requests": {"cpu": "20m"}}})).await?;
    let flag = "zalando-postgres-operator-rolling-update-required";
    let finding = ground.found(2, rule, |finding| finding.mentions(flag)).await?;
    ensure!(finding.severity == "Deny", "{finding:?}");
    let said = ground.cluster.patch(2).await?;
    ensure!(said.code == Some(1) && said.stderr.contains(rule), "{said:?}");
    ensure!(ground.cluster.declared().await? == 3, "refused, and changed all the same");
    let wait = format!("pgscale wait {NAME} -n NS");
    ground.carry_out(finding.remedy()?, &wait, &["--timeout=5m"]).await?;
    ground.admits(2).await?;
    let plan = ground.plan(2).await?;
    ensure!(plan.silent(rule), "{plan:?}");
    Ok(())
}

async fn stopped(ground: Ground) -> Result<()> {
    let cluster = &ground.cluster;
    ground.bed.operator().lock().await.stop().await?;
    guarding::admitted(cluster, 2).await?;
    let finding = ground.refuses(1, "change-not-applied", "2 instances asked for, 3 run").await?;
    let cancel = format!("pgscale set {NAME} 3 -n NS");
    ground.carry_out(finding.remedy()?, &cancel, &["--yes"]).await?;
    ensure!(cluster.declared().await? == 3 && cluster.replicas().await? == 3, "not cancelled");
    ground.start_operator(&Settings::default()).await
}

async fn limits(ground: Ground) -> Result<()> {
    let rule = "operator-limits";
    let limited = Settings { min_instances: 2, max_instances: 4, ..Settings::default() };
    ground.start_operator(&limited).await?;
    for (asked, runs) in [(1, 2), (5, 4)] {
        let would = format!("the operator would run {runs}");
        let finding = ground.refuses(asked, rule, &would).await?;
        let set = format!("pgscale set {NAME} {runs} -n NS");
        let dry = ["--yes", "--dry-run=server"];
        ground.carry_out(finding.remedy()?, &set, &dry).await?;
    }
    ground.start_operator(&Settings::default()).await?;
    ground.admits(5).await?;
    ground.admits(1).await
}
