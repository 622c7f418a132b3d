//! Broken states, each with a remedy that `plan`, the refusal or `status --why` prints. The printed
//! command runs as it stands, through the webhook, and the cluster converges.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::progress::say;
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};

use crate::guarding;
use crate::suggested;
use crate::trial::{Case, TestCtx};

mod growth;
mod members;
mod not_applied;

pub(crate) fn cases() -> Vec<Case> {
    [growth::cases(), not_applied::cases(), members::cases()].into_iter().flatten().collect()
}

/// A guarded cluster to break and to repair.
struct BrokenCluster {
    ctx: TestCtx,
    cluster: Cluster,
}

impl BrokenCluster {
    /// Creates a guarded cluster that -0 leads, with a Patroni that reacts fast.
    async fn of(ctx: TestCtx, instances: u32) -> Result<Self> {
        guarding::guarded(&ctx).await?;
        let cluster =
            Cluster::create(&ctx.bed, &ctx.namespace, "acid-fix", instances, quick()).await?;
        cluster.move_leader_to(0).await?;
        Ok(Self { ctx, cluster })
    }

    /// Writes an object into the namespace.
    async fn write(&self, object: &Value) -> Result<()> {
        let directory = self.ctx.bed.directory();
        let name = format!("{}.json", self.ctx.namespace);
        let file = pgscale_tests::pki::write(directory, &name, &object.to_string())?;
        let file = file.to_string_lossy();
        self.cluster.kubectl(&["apply", "--server-side", "-f", &file]).await?.ok()?;
        Ok(())
    }

    /// Sets `instances` of a policy for the namespace. `None` deletes the policy.
    async fn policy(&self, instances: Option<Value>) -> Result<()> {
        match instances {
            Some(instances) => {
                self.write(&json!({
                    "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                    "metadata": {"name": "bounds"}, "spec": {"instances": instances},
                }))
                .await
            }
            None => {
                self.cluster.kubectl(&["delete", "scalepolicy", "bounds"]).await?.ok().map(drop)
            }
        }
    }

    /// Returns the texts of the plan and the webhook that refuse `count`. The webhook refuses a
    /// plain patch by `rule`, while the plan may move the leader first.
    ///
    /// On a busy machine a member may answer too late for its state to be known.
    async fn refused(&self, state: &str, count: u32, rule: &str) -> Result<Printed> {
        let declared = self.cluster.declared().await?;
        until(&format!("{state}: {count} to be refused by {rule}"), TIMEOUT, async || {
            let planned = self.plan(count).await?;
            let written = self.cluster.patch(count.into()).await?;
            let shown = format!("{count} asked for: {planned:?}\n{written:?}");
            ensure!(written.code == Some(1), "{state}: {shown}");
            ensure!(self.cluster.declared().await? == declared, "refused, but changed: {shown}");
            let refused = planned.code == Some(3) && written.stderr.contains(rule);
            Ok(if refused {
                Attempt::Done(Printed::of(state, &[planned.stdout, written.stderr]))
            } else {
                Attempt::NotYet(shown)
            })
        })
        .await
    }

    /// Returns the text of a plan for `count` that is not refused and that has a warning of `rule`.
    async fn warned(&self, state: &str, count: u32, rule: &str) -> Result<Printed> {
        until(&format!("{state}: a warning of {rule} for {count}"), TIMEOUT, async || {
            let planned = self.plan(count).await?;
            Ok(if planned.code == Some(0) && planned.stdout.contains(rule) {
                Attempt::Done(Printed::of(state, &[planned.stdout]))
            } else {
                Attempt::NotYet(format!("{planned:?}"))
            })
        })
        .await
    }

    /// Returns the text of `status --why`.
    async fn why(&self, state: &str) -> Result<Printed> {
        let said = self.cluster.pgscale(&["status", &self.cluster.name, "--why"]).await?;
        Ok(Printed::of(state, &[said.stdout]))
    }

    async fn plan(&self, count: u32) -> Result<Said> {
        self.cluster.pgscale(&["plan", &self.cluster.name, "--to", &count.to_string()]).await
    }

    /// Runs the printed command that begins with `words`, after `kubectl`, with `more` at its end.
    async fn run_printed(&self, printed: &Printed, words: &str, more: &[&str]) -> Result<()> {
        let Printed { state, text } = printed;
        let ran = suggested::run(&self.cluster, text, words, more).await;
        let command = ran.with_context(|| state.clone())?;
        say(&format!("  {state}: {command}"));
        Ok(())
    }

    /// Waits until the cluster has converged, as the plugin and its members say.
    async fn settled(&self, instances: u32) -> Result<()> {
        let wait = ["wait", self.cluster.name.as_str(), "--timeout", "4m"];
        self.cluster.pgscale(&wait).await?.ok()?;
        self.cluster.converged(instances).await?;
        let declared = self.cluster.declared().await?;
        ensure!(declared == i64::from(instances), "{declared} declared");
        Ok(())
    }

    /// Runs the printed command that returns to `instances`, and waits until the cluster has
    /// converged.
    async fn back_to(&self, printed: &Printed, instances: u32) -> Result<()> {
        let words = format!("pgscale set {} {instances}", self.cluster.name);
        self.run_printed(printed, &words, &["--yes", "--timeout", "4m"]).await?;
        self.settled(instances).await.with_context(|| printed.state.clone())
    }
}

/// The text that was printed about a broken state.
struct Printed {
    state: String,
    text: String,
}

impl Printed {
    fn of(state: &str, texts: &[String]) -> Self {
        Self { state: state.to_owned(), text: texts.join("\n") }
    }
}
