//! Random walks: legal changes of a cluster that `status` reports as converged, one after another,
//! written in every way.
//!
//! Only a plain patch that would delete the leader is refused, and the command that the refusal
//! prints makes the patch possible. Each change ends converged, and a client that writes all the
//! time loses nothing.
//!
//! The test works out which changes are legal from what PostgreSQL and the operator do. It does not
//! ask the guard.
#![expect(
    clippy::indexing_slicing,
    reason = "a missing field of a report is null, which no check accepts"
)]

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, TIMEOUT};
use crate::guarding;
use crate::progress::{brief, say};
use crate::suggested;
use crate::trial::{Case, TestCtx, case};
use crate::wait::{Attempt, until};
use crate::writer::Writer;
use crate::writing::{Record, acknowledged, finish};

/// The seed of a walk, unless [`SEED_VARIABLE`] sets another one. It is fixed, so that a run can be
/// repeated. With this seed the leader is soon on an ordinal that is removed: once when the plugin
/// shrinks, once when a plain patch does.
const SEED: u64 = 4393;
const SEED_VARIABLE: &str = "PGSCALE_WALK_SEED";
/// The number of steps in the tests, unless [`STEPS_VARIABLE`] sets another one.
const STEPS: u32 = 5;
const STEPS_VARIABLE: &str = "PGSCALE_WALK_STEPS";
/// The time limit of a step on a busy machine.
const STEP: Duration = Duration::from_secs(120);
/// The maximum of instances: PostgreSQL's ten WAL senders suffice for them and for base backups.
const MOST: u32 = 5;
const START: u32 = 3;
const AFTER: usize = 50;

/// Returns the walks of the tests.
pub fn cases() -> Vec<Case> {
    [
        ("random_walk::legal_changes_are_never_refused_and_lose_nothing", false),
        ("random_walk::legal_changes_of_a_synchronous_cluster_lose_nothing", true),
    ]
    .map(|(name, synchronous)| {
        let run = move |ctx| async move {
            walk(ctx, synchronous, variable(SEED_VARIABLE, SEED)?, variable(STEPS_VARIABLE, STEPS)?)
                .await
                .map(drop)
        };
        let limit = limit(variable(STEPS_VARIABLE, STEPS).unwrap_or(STEPS));
        case(name, run).within(limit).beside_others()
    })
    .into()
}

/// Returns the time limit of a walk.
pub fn limit(steps: u32) -> Duration {
    STEP.saturating_mul(steps.max(STEPS))
}

/// The outcome of a walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The seed that repeats it.
    pub seed: u64,
    /// The number of changes.
    pub changes: u32,
    /// The times from each refusal of a plain patch until the same patch was admitted.
    pub refused: Vec<Duration>,
    /// The writer's rows.
    pub record: Record,
}

impl Walked {
    /// Returns the median time from a refusal until the same patch was admitted.
    pub fn median(&self) -> Option<Duration> {
        let mut all = self.refused.clone();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

/// A change and the way it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `kubectl pgscale up --to N`.
    Up(u32),
    /// `kubectl pgscale down --to N`.
    Down(u32),
    /// `kubectl pgscale set NAME N`.
    Set(u32),
    /// `kubectl patch`, without the plugin and through the webhook.
    Patch(u32),
    /// `kubectl pgscale switchover --to MEMBER`.
    Switchover(u32),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(count) => write!(out, "up --to {count}"),
            Self::Down(count) => write!(out, "down --to {count}"),
            Self::Set(count) => write!(out, "set {count}"),
            Self::Patch(count) => write!(out, "kubectl patch to {count}"),
            Self::Switchover(ordinal) => write!(out, "switchover to -{ordinal}"),
        }
    }
}

/// The state of a converged cluster that decides which changes are legal.
#[derive(Clone, Debug)]
struct State {
    count: u32,
    leader: u32,
    /// The ordinals of the candidates.
    candidates: BTreeSet<u32>,
}

impl State {
    /// Returns every legal change, grouped by the way it is written.
    fn legal(&self) -> Vec<Vec<Step>> {
        let Self { count, leader, ref candidates } = *self;
        let more = || count + 1..=MOST;
        let keeps_leader = |to: u32| leader < to;
        // A candidate that is kept can become leader: the plugin moves it itself, or by a
        // switchover before a plain patch.
        let planned =
            |to: &u32| keeps_leader(*to) || candidates.iter().any(|candidate| candidate < to);
        let moves = || candidates.iter().copied().map(Step::Switchover).collect();
        // Two of the six ways move the leader: with -0 as leader nothing is at risk.
        let ways: [Vec<Step>; 6] = [
            more().map(Step::Up).collect(),
            (1..count).filter(planned).map(Step::Down).collect(),
            (1..count).filter(planned).chain(more()).map(Step::Set).collect(),
            (1..count).filter(planned).chain(more()).map(Step::Patch).collect(),
            moves(),
            moves(),
        ];
        ways.into_iter().filter(|way| !way.is_empty()).collect()
    }
}

/// A running walk.
struct Walk {
    cluster: Cluster,
    synchronous: bool,
    chance: Chance,
    /// The times from each refusal of a plain patch until the same patch was admitted.
    refused: Vec<Duration>,
}

/// Takes `steps` steps, and checks that nothing was lost.
///
/// # Errors
/// Fails when a legal change is refused for another reason than the leader, or does not converge,
/// or when a row is lost.
pub async fn walk(ctx: TestCtx, synchronous: bool, seed: u64, steps: u32) -> Result<Walked> {
    say(&format!("  {steps} steps; repeat them with {SEED_VARIABLE}={seed}"));
    guarding::guarded(&ctx).await?;
    let spec = json!({"patroni": {"synchronous_mode": synchronous}});
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, "acid-walk", START, spec).await?;
    let writer = Writer::start(ctx.bed.client(), &cluster.namespace, &cluster.name).await?;
    let mut walk = Walk { cluster, synchronous, chance: Chance(seed), refused: Vec::new() };
    walk.settled(START).await?;
    let mut count = START;
    for number in 1..=steps {
        let state = walk.state(count).await?;
        let step = walk.choose(&state).context("nothing is legal")?;
        let start = Instant::now();
        count = walk.take(step, &state).await.with_context(|| {
            format!("step {number} of {SEED_VARIABLE}={seed}: {step}, legal in {state:?}")
        })?;
        let before = format!("{}, led by -{}", state.count, state.leader);
        say(&format!("  {number:>3}. {before}: {step} ({})", brief(start.elapsed())));
        acknowledged(&writer, AFTER).await?;
    }
    let record = finish(writer).await?;
    let walked = Walked { seed, changes: steps, refused: walk.refused, record };
    say(&format!(
        "  {} of {steps} changes refused until the leader had moved{}; {} of {} acknowledged rows lost; writes stopped for \
         {:.1} s at most",
        walked.refused.len(),
        walked
            .median()
            .map_or_else(String::new, |median| format!(", for {} (median)", brief(median))),
        record.missing,
        record.acknowledged,
        record.longest_gap.as_secs_f64()
    ));
    ensure!(record.missing == 0, "acknowledged rows are lost: {record:?}");
    Ok(walked)
}

impl Walk {
    /// Reads the state of the cluster from its members and from Patroni.
    async fn state(&self, count: u32) -> Result<State> {
        let leader = self.cluster.leader().await?.ordinal;
        let mut candidates: BTreeSet<u32> =
            (0..count).filter(|ordinal| *ordinal != leader).collect();
        if self.synchronous {
            let set = self.synchronous_standbys().await?;
            candidates.retain(|ordinal| set.contains(&self.cluster.pod_name(*ordinal)));
        }
        Ok(State { count, leader, candidates })
    }

    /// Chooses a legal step: first the way it is written, then its result, so that every way is
    /// taken.
    fn choose(&mut self, state: &State) -> Option<Step> {
        let ways = state.legal();
        let way = self.chance.pick(&ways)?.clone();
        self.chance.pick(&way).copied()
    }

    /// Takes a step, waits until the cluster has converged again, and returns the new count.
    async fn take(&mut self, step: Step, state: &State) -> Result<u32> {
        let count = state.count;
        let name = self.cluster.name.as_str();
        let (verb, to) = match step {
            Step::Up(to) => ("up", to),
            Step::Down(to) => ("down", to),
            Step::Set(to) => ("set", to),
            Step::Patch(to) => {
                if state.leader >= to {
                    self.make_way(to).await?;
                }
                self.cluster.patch(to.into()).await?.ok()?;
                self.settled(to).await?;
                return Ok(to);
            }
            Step::Switchover(ordinal) => {
                let candidate = self.cluster.pod_name(ordinal);
                self.cluster.pgscale(&["switchover", name, "--to", &candidate]).await?.ok()?;
                ensure!(self.cluster.leader().await?.pod == candidate, "{candidate} does not lead");
                self.settled(count).await?;
                return Ok(count);
            }
        };
        let number = to.to_string();
        let how: &[&str] = if verb == "set" { &[&number] } else { &["--to", &number] };
        let args = [&[verb, name], how, &["--yes", "--timeout", "4m"]].concat();
        self.cluster.pgscale(&args).await?.ok()?;
        self.settled(to).await?;
        Ok(to)
    }

    /// Checks that a plain patch to `to` is refused because the leader would be deleted, and moves
    /// the leader by the printed command.
    async fn make_way(&mut self, to: u32) -> Result<()> {
        let said = self.cluster.patch(to.into()).await?;
        let start = Instant::now();
        ensure!(said.code == Some(1) && said.stderr.contains("leader-condemned"), "{said:?}");
        let words = format!("pgscale switchover {} --for {to}", self.cluster.name);
        suggested::run(&self.cluster, &said.stderr, &words, &[]).await?;
        self.refused.push(start.elapsed());
        Ok(())
    }

    /// Waits until the cluster has converged, as the plugin and its members say.
    async fn settled(&self, count: u32) -> Result<()> {
        let name = self.cluster.name.as_str();
        self.cluster.pgscale(&["wait", name, "--timeout", "4m"]).await?.ok()?;
        self.cluster.converged(count).await?;
        if self.synchronous && count > 1 {
            // Patroni chooses synchronous standbys in its next loops.
            until("a synchronous standby", TIMEOUT, async || {
                let set = self.synchronous_standbys().await?;
                let leader = self.cluster.leader().await?.pod;
                let chosen = !set.is_empty() && !set.contains(&leader);
                Ok(if chosen { Attempt::Done(()) } else { Attempt::NotYet(format!("{set:?}")) })
            })
            .await?;
        }
        let status = self.cluster.pgscale(&["status", name, "-o", "json"]).await?.ok()?;
        let status: Value = serde_json::from_str(&status)?;
        ensure!(status["converged"] == true && status["declared"] == count, "{status:#}");
        Ok(())
    }

    /// Returns Patroni's synchronous standbys.
    async fn synchronous_standbys(&self) -> Result<BTreeSet<String>> {
        let set = format!("{}-sync", self.cluster.name);
        let output = "--output=jsonpath={.metadata.annotations.sync_standby}";
        let get = ["get", "endpoints", &set, "--ignore-not-found", output];
        let said = self.cluster.kubectl(&get).await?.ok()?;
        Ok(said.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }
}

/// Pseudo-random numbers, the same for the same seed (Steele, Lea, Flood: `SplitMix64`).
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns one of `all`.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let index = self.number().checked_rem(u64::try_from(all.len()).ok()?)?;
        all.get(usize::try_from(index).ok()?)
    }
}

/// Returns the value of an environment variable, or `default` where it is not set.
fn variable<T: FromStr>(name: &str, default: T) -> Result<T> {
    let Ok(text) = env::var(name) else { return Ok(default) };
    text.parse().ok().with_context(|| format!("{name}={text} is not a whole number"))
}
