//! Namespaces without room.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::PATIENCE;
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

use super::{Ground, MEMBERS, NAME, situation};
use crate::trial::Case;

pub(super) fn cases() -> Vec<Case> {
    vec![
        situation("situations::a_quota_has_room_for_one_of_two", quota),
        situation("situations::a_limit_range_is_too_small", limit_range),
    ]
}

async fn quota(ground: Ground) -> Result<()> {
    ground.kubectl(&["create", "quota", "room", "--hard=pods=4"]).await?;
    let used = ["get", "quota", "room", "--output=jsonpath={.status.used.pods}"];
    until("the quota to be counted", PATIENCE, async || {
        let used = ground.kubectl(&used).await?;
        Ok(if used == "3" { Attempt::Done(()) } else { Attempt::NotYet(used) })
    })
    .await?;
    let finding = ground.refuses(5, "quota-headroom", "resourcequota/room").await?;
    let one = format!("pgscale up {NAME} --to 4 -n NS");
    ground.carry_out(finding.remedy()?, &one, &["--yes"]).await?;
    ensure!(ground.cluster.replicas().await? == 4, "it did not grow by one");
    ground.refuses(5, "quota-headroom", "resourcequota/room").await?;
    ground.kubectl(&["delete", "quota", "room"]).await?;
    ground.admits(5).await?;
    ground.resize(MEMBERS).await
}

async fn limit_range(ground: Ground) -> Result<()> {
    // A claim that was kept stays as it is: only a new one can be too large.
    let kept = format!("pgdata-{}", ground.pod(MEMBERS));
    ground.kubectl(&["delete", "pvc", &kept, "--ignore-not-found"]).await?;
    let limits = [
        json!({"type": "Container", "max": {"memory": "100Mi"}}),
        json!({"type": "PersistentVolumeClaim", "max": {"storage": "512Mi"}}),
    ];
    for limit in limits {
        let range = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
            "spec": {"limits": [limit]},
        });
        let file = ground.bed.directory().join("small.json");
        std::fs::write(&file, range.to_string()).context("failed to write a manifest")?;
        ground.kubectl(&["create", "--filename", &file.display().to_string()]).await?;
        ground.refuses(4, "limit-range", "limitrange/small").await?;
        ground.kubectl(&["delete", "limitrange", "small"]).await?;
        ground.admits(4).await?;
    }
    Ok(())
}
