//! Situations in which a change of the count is not safe or not possible. Each is produced for
//! real, met by the rule of its name, and ended: by the printed remedy where that is a command.
//!
//! They share one guarded cluster of three members, led by -0. A test that passes leaves the
//! cluster at rest for the next one.

mod copies;
mod members;
mod operator;
mod room;
mod synchronous;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::{Bed, Said};
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::wait::{Attempt, until};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::guarding;
use crate::pool::{Pool, Turn};
use crate::suggested;
use crate::trial::{Case, TestCtx, case};
use crate::with_plugin::State;

const NAME: &str = "acid-live";
/// The number of members at rest.
const MEMBERS: u32 = 3;

pub(crate) fn cases() -> Vec<Case> {
    [members::cases(), copies::cases(), room::cases(), operator::cases(), synchronous::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns a test of one situation.
fn situation<F>(name: &'static str, run: impl FnOnce(SharedCluster) -> F + Send + 'static) -> Case
where
    F: Future<Output = Result<()>> + 'static,
{
    case(name, |ctx| async move {
        let (shared, turn) = SharedCluster::take(&ctx).await?;
        run(shared.clone()).await?;
        shared.rest().await.context("the situation has not ended")?;
        turn.hand_on();
        Ok(())
    })
}

static POOL: Pool = Pool::new("situations", NAME, MEMBERS, quick);

/// The cluster that situations share.
#[derive(Clone)]
struct SharedCluster {
    bed: Arc<Bed>,
    cluster: Cluster,
}

impl SharedCluster {
    /// Takes the shared cluster, or creates a new one.
    async fn take(ctx: &TestCtx) -> Result<(Self, Turn)> {
        let webhook = guarding::webhook(ctx).await?;
        let bed = Arc::clone(&ctx.bed);
        let turn = POOL.take(&bed, async |namespace| webhook.guard(namespace).await).await?;
        let shared = Self { bed, cluster: turn.cluster.clone() };
        if turn.new {
            shared.rest().await?;
        }
        Ok((shared, turn))
    }

    async fn rest(&self) -> Result<()> {
        self.cluster.converged(MEMBERS).await?;
        self.cluster.move_leader_to(0).await?;
        self.admits(2).await
    }

    fn pod(&self, ordinal: u32) -> String {
        self.cluster.pod_name(ordinal)
    }

    /// Runs `kubectl` in the namespace of the cluster, which must succeed.
    async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(args)
            .await?
            .ok()
            .with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// Runs `patronictl` in the pod of -0, as an administrator does.
    async fn patronictl(&self, args: &[&str]) -> Result<String> {
        let pod = self.pod(0);
        let exec = ["exec", &pod, "-c", "postgres", "--", "patronictl"];
        self.kubectl(&[&exec[..], args].concat()).await
    }

    /// Merges `patch` into the spec.
    async fn edit(&self, spec: Value) -> Result<()> {
        let patch = json!({"spec": spec}).to_string();
        self.kubectl(&["patch", "postgresql", NAME, "--type=merge", "-p", &patch]).await?;
        Ok(())
    }

    /// Returns what `kubectl pgscale plan` finds in a change to `to`.
    async fn plan(&self, to: u32) -> Result<Plan> {
        let count = to.to_string();
        let said = self.cluster.pgscale(&["plan", NAME, "--to", &count, "-o", "json"]).await?;
        let plan: Plan = serde_json::from_str(&said.stdout)
            .with_context(|| format!("the plan is no JSON: {said:?}"))?;
        let expected = if plan.outcome == "Refused" { 3 } else { 0 };
        ensure!(
            said.code == Some(expected),
            "{} and {:?}: {}",
            plan.outcome,
            said.code,
            said.stderr
        );
        Ok(plan)
    }

    /// Checks that `rule` refuses a plan and a plain patch to `to`, both with `mention` in the
    /// reason, and that nothing has changed.
    async fn refuses(&self, to: u32, rule: &str, mention: &str) -> Result<Finding> {
        let fits = |it: &Finding| it.severity == "Deny" && it.mentions(mention);
        let finding = self.found(to, rule, fits).await?;
        self.patch_refused(to, rule, mention).await?;
        Ok(finding)
    }

    /// Checks that every plain patch is refused and changes nothing, and waits until `rule` refuses
    /// it with `mention` in the answer.
    ///
    /// On a busy machine a member may answer too late for its state to be known.
    async fn patch_refused(&self, to: u32, rule: &str, mention: &str) -> Result<Said> {
        let before = State::of(&self.cluster).await?;
        let what = format!("a patch to {to} to be refused by {rule} with {mention:?}");
        let said = until(&what, TIMEOUT, async || {
            let said = self.cluster.patch(to.into()).await?;
            ensure!(said.code == Some(1), "{rule} should have refused a patch to {to}: {said:?}");
            let named = said.stderr.contains(&format!("- {rule}: "));
            Ok(if named && said.stderr.contains(mention) {
                Attempt::Done(said)
            } else {
                Attempt::NotYet(format!("{said:?}"))
            })
        })
        .await?;
        let after = State::of(&self.cluster).await?;
        ensure!(after == before, "refused, but changed: {before:?}, then {after:?}");
        Ok(said)
    }

    /// Checks that the switchover in a refusal of `to` ends with a leader that is kept, and that
    /// the same patch then shrinks the cluster.
    async fn make_way(&self, said: &Said, to: u32) -> Result<()> {
        let switchover =
            format!("pgscale switchover {NAME} --for {to} -n {}", self.cluster.namespace);
        suggested::run(&self.cluster, &said.stderr, &switchover, &[]).await?;
        let leader = self.cluster.leader().await?.ordinal;
        ensure!(leader < to, "-{leader} leads");
        self.cluster.patch(to.into()).await?.ok()?;
        self.cluster.converged(to).await?;
        Ok(())
    }

    /// Waits until the webhook would admit a change to `to`.
    async fn admits(&self, to: u32) -> Result<()> {
        guarding::admissible(&self.cluster, to, TIMEOUT).await
    }

    /// Patches the count of a healthy cluster and waits until that many members stream.
    async fn resize(&self, to: u32) -> Result<()> {
        guarding::admitted(&self.cluster, to.into()).await?;
        self.cluster.converged(to).await?;
        Ok(())
    }

    /// Waits until a plan to `to` has a finding of `rule` that fits.
    async fn found(&self, to: u32, rule: &str, fits: impl Fn(&Finding) -> bool) -> Result<Finding> {
        until(&format!("{rule} in a plan to {to}"), TIMEOUT, async || {
            let plan = self.plan(to).await?;
            Ok(match plan.finding(rule) {
                Ok(finding) if fits(&finding) => Attempt::Done(finding),
                Ok(_) | Err(_) => Attempt::NotYet(format!("{plan:?}")),
            })
        })
        .await
    }

    /// Runs `kubectl COMMAND`, which `remedy` must suggest word by word, with `more` at its end. It
    /// must succeed. `NS` in the command stands for the namespace.
    async fn run_remedy(&self, remedy: &Remedy, command: &str, more: &[&str]) -> Result<String> {
        let command = format!("kubectl {command}").replace("NS", &self.cluster.namespace);
        let suggested = remedy.commands.iter().find(|it| it.argv.join(" ") == command);
        let suggested = suggested.with_context(|| format!("no {command:?} in {remedy:?}"))?;
        suggested::run_argv(&self.cluster, &suggested.argv, more).await
    }
}

/// The parts of a plan that matter here.
#[derive(Debug, Deserialize)]
struct Plan {
    outcome: String,
    findings: Vec<Finding>,
}

impl Plan {
    /// Returns the finding of `rule`.
    fn finding(&self, rule: &str) -> Result<Finding> {
        let finding = self.findings.iter().find(|finding| finding.rule == rule);
        finding.cloned().with_context(|| format!("{rule} found nothing: {self:?}"))
    }

    fn silent(&self, rule: &str) -> bool {
        self.finding(rule).is_err()
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Finding {
    rule: String,
    severity: String,
    message: String,
    evidence: Vec<Evidence>,
    remedy: Option<Remedy>,
}

#[derive(Clone, Debug, Deserialize)]
struct Remedy {
    #[serde(default)]
    commands: Vec<Suggested>,
}

#[derive(Clone, Debug, Deserialize)]
struct Suggested {
    argv: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Evidence {
    object: Object,
    field: Option<String>,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Object {
    kind: String,
    name: Option<String>,
}

impl Finding {
    fn mentions(&self, words: &str) -> bool {
        let evidence = self.evidence.iter().map(|Evidence { object, field, value }| {
            let name = object.name.as_deref().unwrap_or_default();
            let field = field.as_deref().unwrap_or_default();
            format!("{}/{name}: {field}: {value}", object.kind)
        });
        evidence.chain([self.message.clone()]).any(|text| text.contains(words))
    }

    fn remedy(&self) -> Result<&Remedy> {
        self.remedy.as_ref().with_context(|| format!("no remedy: {self:?}"))
    }
}
