//! Namespaces without room for another member.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::TIMEOUT;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::{MEMBERS, NAME, SharedCluster, situation};
use crate::trial::Case;

pub(super) fn cases() -> Vec<Case> {
    vec![
        situation("situations::a_quota_limits_growth_to_the_room_that_is_left", quota),
        situation("situations::a_limit_range_that_is_too_small_blocks_growth", limit_range),
    ]
}

async fn quota(shared: SharedCluster) -> Result<()> {
    shared.kubectl(&["create", "quota", "room", "--hard=pods=4"]).await?;
    let used = ["get", "quota", "room", "--output=jsonpath={.status.used.pods}"];
    until("the quota to be counted", TIMEOUT, async || {
        let used = shared.kubectl(&used).await?;
        Ok(if used == "3" { Attempt::Done(()) } else { Attempt::NotYet(used) })
    })
    .await?;
    let finding = shared.refuses(5, "quota-headroom", "resourcequota/room").await?;
    let one = format!("pgscale up {NAME} --to 4 -n NS");
    shared.run_remedy(finding.remedy()?, &one, &["--yes"]).await?;
    ensure!(shared.cluster.replicas().await? == 4, "the cluster did not grow by one");
    shared.refuses(5, "quota-headroom", "resourcequota/room").await?;
    shared.kubectl(&["delete", "quota", "room"]).await?;
    shared.admits(5).await?;
    shared.resize(MEMBERS).await
}

async fn limit_range(shared: SharedCluster) -> Result<()> {
    // A kept claim stays as it is: only a new one can be too large.
    let kept = format!("pgdata-{}", shared.pod(MEMBERS));
    shared.kubectl(&["delete", "pvc", &kept, "--ignore-not-found"]).await?;
    let limits = [
        json!({"type": "Container", "max": {"memory": "100Mi"}}),
        json!({"type": "PersistentVolumeClaim", "max": {"storage": "512Mi"}}),
    ];
    for limit in limits {
        let range = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
            "spec": {"limits": [limit]},
        });
        let file = shared.bed.directory().join("small.json");
        std::fs::write(&file, range.to_string()).context("failed to write a manifest")?;
        shared.kubectl(&["create", "--filename", &file.display().to_string()]).await?;
        shared.refuses(4, "limit-range", "limitrange/small").await?;
        shared.kubectl(&["delete", "limitrange", "small"]).await?;
        shared.admits(4).await?;
    }
    Ok(())
}
