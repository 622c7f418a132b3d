//! Situations in which a change of the count is not safe, or not possible: each is produced for real, each is met by
//! the rule that is named for it, and each can be ended, by the printed remedy where there is a command.
//!
//! They share one guarded cluster of three, led by -0. Whoever ends well hands it on at rest.

mod copies;
mod members;
mod operator;
mod room;
mod synchronous;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::{Bed, Said};
use pgscale_tests::cluster::{Cluster, PATIENCE};
use pgscale_tests::operator::Settings;
use pgscale_tests::wait::{Attempt, until};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::guarding;
use crate::ours::State;
use crate::trial::{Case, Scene, case, create_namespace};

const NAME: &str = "acid-live";
/// How many members it has at rest.
const MEMBERS: u32 = 3;

pub(crate) fn cases() -> Vec<Case> {
    [members::cases(), copies::cases(), room::cases(), operator::cases(), synchronous::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// A test of one situation.
fn situation<F>(name: &'static str, run: impl FnOnce(Ground) -> F + Send + 'static) -> Case
where
    F: Future<Output = Result<()>> + 'static,
{
    case(name, |scene| async move {
        let ground = Ground::take(&scene).await?;
        run(ground.clone()).await?;
        ground.hand_on().await
    })
}

/// The cluster that situations share.
struct Shared {
    /// How many there were: whoever fails takes its one along.
    made: u32,
    /// The one at rest, if nobody has it.
    ground: Option<Ground>,
}

static SHARED: Mutex<Shared> = Mutex::const_new(Shared { made: 0, ground: None });

fn namespace(number: u32) -> String {
    format!("situations-{number}")
}

/// What a situation is played on.
#[derive(Clone)]
struct Ground {
    bed: Arc<Bed>,
    cluster: Cluster,
}

impl Ground {
    /// The shared cluster, or a new one.
    async fn take(scene: &Scene) -> Result<Self> {
        let webhook = guarding::webhook(scene).await?;
        let mut shared = SHARED.lock().await;
        if let Some(ground) = shared.ground.take() {
            return Ok(ground);
        }
        let bed = Arc::clone(&scene.bed);
        if shared.made > 0 {
            // Whoever failed may have left a member frozen, which the operator waits for, or other settings.
            bed.kubelet().unstage_all(&namespace(shared.made));
            bed.operator().lock().await.start(&Settings::default()).await?;
        }
        shared.made += 1;
        let namespace = namespace(shared.made);
        create_namespace(&bed, &namespace).await?;
        webhook.guard(&namespace).await?;
        let cluster = Cluster::create(&bed, &namespace, NAME, MEMBERS, json!({})).await?;
        let ground = Self { bed, cluster };
        ground.rest().await?;
        Ok(ground)
    }

    /// Waits until it is at rest, and leaves it to the next situation.
    async fn hand_on(self) -> Result<()> {
        self.rest().await.context("the situation has not ended")?;
        SHARED.lock().await.ground = Some(self);
        Ok(())
    }

    async fn rest(&self) -> Result<()> {
        self.cluster.converged(MEMBERS).await?;
        self.cluster.move_leader_to(0).await?;
        self.admits(2).await
    }

    fn pod(&self, ordinal: u32) -> String {
        self.cluster.pod_name(ordinal)
    }

    /// `kubectl` in its namespace, which must succeed.
    async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(args)
            .await?
            .ok()
            .with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// `patronictl` in the pod of -0, as an administrator calls it.
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

    /// What `kubectl pgscale plan` finds in a change to `to`.
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

    /// A plan and a plain patch to `to` are refused by `rule`, both with `mention` in the reason, and nothing has
    /// changed.
    async fn refuses(&self, to: u32, rule: &str, mention: &str) -> Result<Finding> {
        let fits = |it: &Finding| it.severity == "Deny" && it.mentions(mention);
        let finding = self.found(to, rule, fits).await?;
        self.patch_refused(to, rule, mention).await?;
        Ok(finding)
    }

    /// Every plain patch is refused, at last by `rule` with `mention` in the answer, and nothing has changed: on a busy
    /// machine a member may answer too late for its state to be told.
    async fn patch_refused(&self, to: u32, rule: &str, mention: &str) -> Result<Said> {
        let before = State::of(&self.cluster).await?;
        let what = format!("a patch to {to} to be refused by {rule} with {mention:?}");
        let said = until(&what, PATIENCE, async || {
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
        ensure!(after == before, "refused, and changed: {before:?}, then {after:?}");
        Ok(said)
    }

    /// The switchover that a refused patch to `to` prints ends with a leader that stays; then the same patch shrinks
    /// the cluster.
    async fn make_way(&self, said: &Said, to: u32) -> Result<()> {
        let switchover =
            format!("pgscale switchover {NAME} --for {to} -n {}", self.cluster.namespace);
        guarding::take(&self.cluster, &said.stderr, &switchover, &[]).await?;
        let leader = self.cluster.leader().await?.ordinal;
        ensure!(leader < to, "-{leader} leads");
        self.cluster.patch(to.into()).await?.ok()?;
        self.cluster.converged(to).await?;
        Ok(())
    }

    /// Waits until the guard lets a change to `to` in.
    async fn admits(&self, to: u32) -> Result<()> {
        guarding::admissible(&self.cluster, to, PATIENCE).await
    }

    /// Patches the count of a healthy cluster and waits until so many members stream.
    async fn resize(&self, to: u32) -> Result<()> {
        guarding::admitted(&self.cluster, to.into()).await?;
        self.cluster.converged(to).await?;
        Ok(())
    }

    /// Waits until a plan to `to` has a finding of `rule` that fits.
    async fn found(&self, to: u32, rule: &str, fits: impl Fn(&Finding) -> bool) -> Result<Finding> {
        until(&format!("{rule} in a plan to {to}"), PATIENCE, async || {
            let plan = self.plan(to).await?;
            Ok(match plan.finding(rule) {
                Ok(finding) if fits(&finding) => Attempt::Done(finding),
                Ok(_) | Err(_) => Attempt::NotYet(format!("{plan:?}")),
            })
        })
        .await
    }

    /// Runs `kubectl COMMAND`, which `remedy` must suggest word by word, with `more` after it; it must succeed. `NS` in the
    /// command stands for the namespace.
    async fn carry_out(&self, remedy: &Remedy, command: &str, more: &[&str]) -> Result<String> {
        let command = format!("kubectl {command}").replace("NS", &self.cluster.namespace);
        let suggested = remedy.commands.iter().find(|it| it.argv.join(" ") == command);
        let suggested = suggested.with_context(|| format!("no {command:?} in {remedy:?}"))?;
        let args = suggested.argv.iter().skip(1).map(String::as_str);
        let said = self.bed.kubectl(&args.chain(more.iter().copied()).collect::<Vec<_>>()).await?;
        said.ok().with_context(|| format!("the remedy does not work: {command}"))
    }
}

/// What a plan says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Plan {
    outcome: String,
    findings: Vec<Finding>,
}

impl Plan {
    /// The finding of `rule`.
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
        let evidence = self.evidence.iter().flat_map(|it| {
            let Evidence { object, field, value } = it;
            [Some(&object.kind), object.name.as_ref(), field.as_ref(), Some(value)]
        });
        evidence.flatten().chain([&self.message]).any(|text| text.contains(words))
    }

    fn remedy(&self) -> Result<&Remedy> {
        self.remedy.as_ref().with_context(|| format!("no way out: {self:?}"))
    }
}
