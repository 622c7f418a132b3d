//! The plugin's act and watch where something else stops: the operator, a kept member, the new
//! leader, the candidate, or the API server that refuses the pods.
//!
//! These are the cases D of `docs/cases.md`. Each is staged on the real stack. A part fails where
//! the promised words do not come, come too late, or are not true.

mod idle;
mod screen;
mod switching;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::operator::Settings;
use pgscale_tests::pki::write;
use pgscale_tests::progress::say;
use pgscale_tests::trial::{Case, TestCtx, case};
use serde_json::Value;

use crate::acts::screen::{Screen, Seen};
use crate::document::{Act, Proof};

const NAME: &str = "acid-act";
/// The time limit of one part.
const LIMIT: Duration = Duration::from_secs(1200);
/// The plugin reports a wait every five seconds. A look at a member that does not answer takes one
/// more, and the machine is busy.
const SILENCE: Duration = Duration::from_secs(10);

pub(crate) fn parts(proof: &Arc<Proof>) -> Vec<Case> {
    vec![
        part(proof, "acts::operator_hangs", idle::hangs),
        part(proof, "acts::operator_is_asked_again", idle::asked_again),
        part(proof, "acts::kept_member_is_not_ready", waiting::ordered_ready),
        part(proof, "acts::new_leader_freezes", switching::new_leader),
        part(proof, "acts::candidate_freezes", switching::candidate),
        part(proof, "acts::name_is_too_long", waiting::long_name),
        part(proof, "acts::back_from_zero_without_a_leader", waiting::barred),
    ]
}

fn part<F>(
    proof: &Arc<Proof>,
    name: &'static str,
    run: impl FnOnce(TestCtx) -> F + Send + 'static,
) -> Case
where
    F: Future<Output = Result<Vec<Act>>> + 'static,
{
    let proof = Arc::clone(proof);
    let staged = move |ctx: TestCtx| async move {
        let bed = Arc::clone(&ctx.bed);
        let acts = run(ctx).await;
        // Every later part needs the operator, whatever came of this one.
        let mut operator = bed.operator().lock().await;
        operator.thaw();
        operator.start(&Settings::default()).await?;
        for act in acts? {
            for (at, line) in &act.said {
                say(&format!("  {} [{:>5.1}s] {line}", act.case, at.as_secs_f64()));
            }
            say(&format!("  {} {}: {}", act.case, act.command, act.end));
            proof.acted(act);
        }
        Ok(())
    };
    case(name, staged).within(LIMIT)
}

/// The cluster of one part.
struct Staged {
    ctx: TestCtx,
    cluster: Cluster,
}

impl Staged {
    /// Creates the cluster, with a Patroni that reacts fast.
    async fn of(ctx: TestCtx, instances: u32) -> Result<Self> {
        let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, instances, quick()).await?;
        cluster.reported().await?;
        Ok(Self { ctx, cluster })
    }

    async fn freeze_operator(&self) {
        self.ctx.bed.operator().lock().await.freeze();
    }

    async fn thaw_operator(&self) {
        self.ctx.bed.operator().lock().await.thaw();
    }

    /// Writes an object into the namespace by `kubectl`, and returns what that printed on stderr.
    async fn write(&self, object: &Value) -> Result<String> {
        written(&self.ctx, &self.cluster, object).await
    }

    /// Runs `kubectl pgscale` with these words to its end.
    async fn run(&self, words: &str) -> Result<Seen> {
        Screen::start(&self.cluster, words)?.end().await
    }

    /// Runs `kubectl pgscale` with these words, which has to succeed.
    async fn done(&self, words: &str) -> Result<Seen> {
        let seen = self.run(words).await?;
        ensure!(seen.code == Some(0), "{words} ended with {:?}:\n{}", seen.code, seen.text());
        Ok(seen)
    }
}

async fn written(ctx: &TestCtx, cluster: &Cluster, object: &Value) -> Result<String> {
    let name = format!("{}.json", ctx.namespace);
    let file = write(ctx.bed.directory(), &name, &object.to_string())?;
    let said = cluster.kubectl(&["apply", "-f", &file.to_string_lossy()]).await?;
    let warnings = said.stderr.clone();
    said.ok().context("kubectl apply")?;
    Ok(warnings)
}
