//! The operator: stopped, busy, with its own limits, and about to replace the StatefulSet.

use std::time::Duration;

use anyhow::{Result, ensure};
use pgscale_tests::cluster::TIMEOUT;
use pgscale_tests::operator::Settings;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::{MEMBERS, NAME, SharedCluster, situation};
use crate::guarding;
use crate::trial::Case;

const DRIFT: &str = "configuration-drift";

pub(super) fn cases() -> Vec<Case> {
    vec![
        situation(
            "situations::a_foreign_annotation_blocks_removing_the_leader",
            foreign_annotation,
        ),
        situation("situations::a_rolling_update_blocks_a_shrink", rolling_update),
        situation("situations::a_count_that_is_not_applied_blocks_the_next_shrink", stopped),
        situation("situations::the_operators_limits_are_enforced", limits),
    ]
}

impl SharedCluster {
    async fn start_operator(&self, settings: &Settings) -> Result<()> {
        self.bed.operator().lock().await.start(settings).await
    }
}

async fn foreign_annotation(shared: SharedCluster) -> Result<()> {
    let cluster = &shared.cluster;
    // The operator's next synchronisation would end the situation before the test has looked.
    let seldom = Settings { resync: Duration::from_secs(3600), ..Settings::default() };
    shared.start_operator(&seldom).await?;
    cluster.move_leader_to(2).await?;
    // An edit by hand, which the operator sets back with the next change.
    let by_hand = ["edit-config", NAME, "--force", "--quiet", "-s", "failsafe_mode=true"];
    shared.patronictl(&by_hand).await?;
    let drift = shared.found(2, DRIFT, |finding| finding.mentions("failsafe_mode")).await?;
    ensure!(drift.severity == "Warn", "{drift:?}");
    shared.kubectl(&["annotate", "statefulset", NAME, "example.com/seen=yes"]).await?;
    let rule = "replace-pending";
    let said = shared.patch_refused(2, "leader-condemned", "example.com/seen").await?;
    shared.make_way(&said, 2).await?;

    // The operator has replaced the StatefulSet, without the annotation.
    let plan = shared.plan(MEMBERS).await?;
    ensure!(plan.silent(rule), "{plan:?}");
    until("the configuration to be set back", TIMEOUT, async || {
        let plan = shared.plan(MEMBERS).await?;
        let back = plan.silent(DRIFT);
        Ok(if back { Attempt::Done(()) } else { Attempt::NotYet(format!("{plan:?}")) })
    })
    .await?;
    shared.resize(MEMBERS).await?;
    // Where the leader is kept, the rule only warns, and removing the annotation ends it.
    shared.kubectl(&["annotate", "statefulset", NAME, "example.com/seen=yes"]).await?;
    let finding = shared.plan(2).await?.finding(rule)?;
    ensure!(finding.severity == "Warn" && finding.mentions("example.com/seen"), "{finding:?}");
    shared.kubectl(&["annotate", "statefulset", NAME, "example.com/seen-"]).await?;
    let plan = shared.plan(2).await?;
    ensure!(plan.silent(rule), "{plan:?}");
    shared.start_operator(&Settings::default()).await
}

async fn rolling_update(shared: SharedCluster) -> Result<()> {
    let rule = "operation-in-progress";
    shared.edit(json!({"resources": {"requests": {"cpu": "20m"}}})).await?;
    let flag = "zalando-postgres-operator-rolling-update-required";
    let finding = shared.found(2, rule, |finding| finding.mentions(flag)).await?;
    ensure!(finding.severity == "Deny", "{finding:?}");
    let said = shared.cluster.patch(2).await?;
    ensure!(said.code == Some(1) && said.stderr.contains(rule), "{said:?}");
    ensure!(shared.cluster.declared().await? == 3, "refused, but changed");
    let wait = format!("pgscale wait {NAME} -n NS");
    shared.run_remedy(finding.remedy()?, &wait, &["--timeout=5m"]).await?;
    shared.admits(2).await?;
    let plan = shared.plan(2).await?;
    ensure!(plan.silent(rule), "{plan:?}");
    Ok(())
}

async fn stopped(shared: SharedCluster) -> Result<()> {
    let cluster = &shared.cluster;
    shared.bed.operator().lock().await.stop().await?;
    guarding::admitted(cluster, 2).await?;
    let finding = shared.refuses(1, "change-not-applied", "2 instances asked for, 3 run").await?;
    let cancel = format!("pgscale set {NAME} 3 -n NS");
    shared.run_remedy(finding.remedy()?, &cancel, &["--yes"]).await?;
    ensure!(cluster.declared().await? == 3 && cluster.replicas().await? == 3, "not cancelled");
    shared.start_operator(&Settings::default()).await?;
    // A synchronisation writes no status, so the edits would count as not taken up until the next
    // one is over. For an edit, the operator writes one.
    shared.edit(json!({"users": {"seen": []}})).await
}

async fn limits(shared: SharedCluster) -> Result<()> {
    let rule = "operator-limits";
    let limited = Settings { min_instances: 2, max_instances: 4, ..Settings::default() };
    shared.start_operator(&limited).await?;
    for (asked, runs) in [(1, 2), (5, 4)] {
        let would = format!("the operator would run {runs}");
        let finding = shared.refuses(asked, rule, &would).await?;
        let set = format!("pgscale set {NAME} {runs} -n NS");
        let dry = ["--yes", "--dry-run=server"];
        shared.run_remedy(finding.remedy()?, &set, &dry).await?;
    }
    shared.start_operator(&Settings::default()).await?;
    shared.admits(5).await?;
    shared.admits(1).await
}
