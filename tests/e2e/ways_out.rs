//! Broken states, each with a way out that the product prints: by `plan`, by the refusal, or by `status --why`. What
//! is printed is run as it stands, through the webhook, and the cluster converges.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::cluster::Cluster;
use pgscale_tests::progress::say;
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

/// A guarded cluster, and what is done to it.
struct BrokenCluster {
    ctx: TestCtx,
    cluster: Cluster,
}

impl BrokenCluster {
    /// A guarded cluster whose leader is -0, and whose Patroni notices soon.
    async fn of(ctx: TestCtx, instances: u32) -> Result<Self> {
        guarding::guarded(&ctx).await?;
        let quick = json!({"patroni": {"ttl": 25, "loop_wait": 5}});
        let cluster =
            Cluster::create(&ctx.bed, &ctx.namespace, "acid-fix", instances, quick).await?;
        cluster.move_leader_to(0).await?;
        Ok(Self { ctx, cluster })
    }

    /// Writes an object of the namespace.
    async fn write(&self, object: &Value) -> Result<()> {
        let directory = self.ctx.bed.directory();
        let name = format!("{}.json", self.ctx.namespace);
        let file = pgscale_tests::pki::write(directory, &name, &object.to_string())?;
        let file = file.to_string_lossy();
        self.cluster.kubectl(&["apply", "--server-side", "-f", &file]).await?.ok()?;
        Ok(())
    }

    /// `instances` of a policy for the namespace; nothing removes it again.
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

    /// What is printed where `wish` is refused, by the plan and by the webhook alike, and by `rule` where it is
    /// written plainly: the plan moves the leader first.
    async fn refused(&self, state: &str, wish: u32, rule: &str) -> Result<Printed> {
        let declared = self.cluster.declared().await?;
        let planned = self.plan(wish).await?;
        let written = self.cluster.patch(wish.into()).await?;
        let told = format!("{state}: {wish} asked for: {planned:?}\n{written:?}");
        ensure!(planned.code == Some(3), "{told}");
        ensure!(written.code == Some(1) && written.stderr.contains(rule), "{told}");
        ensure!(self.cluster.declared().await? == declared, "refused, and changed: {told}");
        Ok(Printed::of(state, &[planned.stdout, written.stderr]))
    }

    /// What a plan for `wish` prints, which is not refused and about which `rule` warns.
    async fn warned(&self, state: &str, wish: u32, rule: &str) -> Result<Printed> {
        let planned = self.plan(wish).await?;
        let told = format!("{state}: {wish} asked for: {planned:?}");
        ensure!(planned.code == Some(0) && planned.stdout.contains(rule), "{told}");
        Ok(Printed::of(state, &[planned.stdout]))
    }

    /// What `status --why` prints.
    async fn why(&self, state: &str) -> Result<Printed> {
        let said = self.cluster.pgscale(&["status", &self.cluster.name, "--why"]).await?;
        Ok(Printed::of(state, &[said.stdout]))
    }

    async fn plan(&self, wish: u32) -> Result<Said> {
        self.cluster.pgscale(&["plan", &self.cluster.name, "--to", &wish.to_string()]).await
    }

    /// Runs the command that was printed and begins with `words`, after `kubectl`, as it was printed, with `more`
    /// for where no person is there to answer.
    async fn run_printed(&self, printed: &Printed, words: &str, more: &[&str]) -> Result<()> {
        let Printed { state, text } = printed;
        let ran = suggested::run(&self.cluster, text, words, more).await;
        let command = ran.with_context(|| state.clone())?;
        say(&format!("  {state}: {command}"));
        Ok(())
    }

    /// The cluster has converged, by our word and by its members'.
    async fn settled(&self, instances: u32) -> Result<()> {
        let wait = ["wait", self.cluster.name.as_str(), "--timeout", "4m"];
        self.cluster.pgscale(&wait).await?.ok()?;
        self.cluster.converged(instances).await?;
        let declared = self.cluster.declared().await?;
        ensure!(declared == i64::from(instances), "{declared} declared");
        Ok(())
    }

    /// The printed way back to `instances`, which the cluster then has.
    async fn back_to(&self, printed: &Printed, instances: u32) -> Result<()> {
        let words = format!("pgscale set {} {instances}", self.cluster.name);
        self.run_printed(printed, &words, &["--yes", "--timeout", "4m"]).await?;
        self.settled(instances).await.with_context(|| printed.state.clone())
    }
}

/// What was printed about a broken state.
struct Printed {
    state: String,
    text: String,
}

impl Printed {
    fn of(state: &str, texts: &[String]) -> Self {
        Self { state: state.to_owned(), text: texts.join("\n") }
    }
}
