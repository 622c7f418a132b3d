//! The webhook that guards the namespaces of tests.

use std::sync::Arc;
use std::time::Duration;

use crate::bed::Said;
use crate::cluster::{Cluster, TIMEOUT};
use crate::wait::{Attempt, until};
use crate::webhook::Webhook;
use anyhow::Result;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::trial::TestCtx;

static WEBHOOK: OnceCell<Arc<Webhook>> = OnceCell::const_new();

/// Returns the running webhook. The first test that needs it starts it.
pub async fn webhook(ctx: &TestCtx) -> Result<Arc<Webhook>> {
    let start = async || Webhook::start(&ctx.bed).await.map(Arc::new);
    WEBHOOK.get_or_try_init(start).await.cloned()
}

/// Lets the webhook guard the namespace of this test.
pub async fn guarded(ctx: &TestCtx) -> Result<Arc<Webhook>> {
    let webhook = webhook(ctx).await?;
    webhook.guard(&ctx.namespace).await?;
    Ok(webhook)
}

/// Patches the count until the patch is admitted, and returns what kubectl says then.
///
/// A refusal changes nothing, and may come from a member that answered too late on a busy machine.
pub async fn admitted(cluster: &Cluster, instances: i64) -> Result<Said> {
    until(&format!("{instances} to be admitted"), TIMEOUT, async || {
        let said = cluster.patch(instances).await?;
        Ok(match said.code {
            Some(0) => Attempt::Done(said),
            _ => Attempt::NotYet(format!("{said:?}")),
        })
    })
    .await
}

/// Waits until a change of the count would be admitted, for `limit` at most, without making it.
pub async fn admissible(cluster: &Cluster, instances: u32, limit: Duration) -> Result<()> {
    let patch = json!({"spec": {"numberOfInstances": instances}}).to_string();
    let dry =
        ["patch", "postgresql", &cluster.name, "--type=merge", "--dry-run=server", "-p", &patch];
    until(&format!("a change to {instances} to be admitted"), limit, async || {
        let said = cluster.kubectl(&dry).await?;
        Ok(if said.code == Some(0) { Attempt::Done(()) } else { Attempt::NotYet(said.stderr) })
    })
    .await
}
