//! Very many edits by many writers through two API servers, while replicas are killed and their
//! way to the API server is slow.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{Api, DynamicObject};
use pgscale_guard::ledger::LAND_WITHIN;
use pgscale_tests::budget::edits::{self, Answer};
use pgscale_tests::budget::{DECIDED, Field, name};
use pgscale_tests::control_plane::{ADDRESS, PORT, client};
use pgscale_tests::guarding;
use pgscale_tests::pki::{ADMINISTRATORS, write};
use pgscale_tests::process::Process;
use pgscale_tests::progress::say;
use pgscale_tests::proof::random_walk::Chance;
use pgscale_tests::relay::Relay;
use pgscale_tests::replicas::{Replica, Replicas, SEEN};
use pgscale_tests::trial::TestCtx;
use pgscale_tests::wait::{Attempt, until};
use tokio::time::{Instant, sleep};

use super::seen::Seen;
use super::{REPLICAS, ROOM};
use crate::document::{Budgeted, Proof};

/// The edits for more.
const EDITS: usize = 10_000;
/// After so many of them all writers rest, and what is left of the budget has to fit exactly.
const PHASE: usize = 2000;
const WRITERS: usize = 24;
const CLUSTERS: usize = 60;
/// The most instances of a cluster.
const MOST: i64 = 4;
/// The delays of the API server's answers to a replica, in milliseconds.
const DELAYS: [u64; 4] = [0, 5, 20, 80];
/// The pauses between two kills, in seconds.
const PAUSES: [u64; 4] = [2, 3, 5, 8];

struct Soak {
    field: Field,
    seen: Arc<Seen>,
    /// By each API server.
    clients: [Api<DynamicObject>; 2],
    ids: AtomicUsize,
    outcome: Mutex<Budgeted>,
    /// Creations without a webhook's answer. Each may be reserved until no API server can store it
    /// any more (`LAND_WITHIN`).
    lost_creations: AtomicUsize,
    /// Refusals of what would have fitted, and answers that are faults.
    wrong: Mutex<Vec<String>>,
}

/// Runs the soak and enters its outcome.
pub(crate) async fn run(ctx: TestCtx, proof: Arc<Proof>, seed: u64) -> Result<()> {
    guarding::webhook(&ctx).await?;
    let (second, other) = ctx.bed.control_plane().lock().await.second_api_server().await?;
    let mut herd = Herd::new(&ctx, second, seed).await?;
    let field = Field::stage(&ctx, CLUSTERS, ROOM).await?;
    field.loosen().await?;
    let clients = [field.api(ctx.bed.client()), field.api(client(&other).await?)];
    for _ in 0..REPLICAS {
        herd.start().await?;
    }
    herd.replicas.register(&[&herd.replicas.authority]).await?;
    sleep(SEEN).await;
    for clusters in &clients {
        answers(clusters).await?;
    }
    let (history, watch) = Seen::follow(field.api(ctx.bed.client())).await?;
    let who = "pgscale, two API servers, replicas that are killed and slow";
    let outcome = Budgeted { who, budget: field.budget, ..Budgeted::default() };
    let soak = Arc::new(Soak {
        field,
        seen: history,
        clients,
        ids: AtomicUsize::default(),
        outcome: Mutex::new(outcome),
        lost_creations: AtomicUsize::default(),
        wrong: Mutex::default(),
    });
    let mut goal = 0;
    while goal < EDITS {
        goal += PHASE;
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let soak = Arc::clone(&soak);
                let chance = Chance(herd.chance.number());
                tokio::spawn(async move { soak.write(number, chance, goal).await })
            })
            .collect();
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            herd.kill_one().await?;
        }
        for writer in writers {
            writer.await.context("a writer ended")?;
        }
        ensure!(!watch.is_finished(), "the watch has failed");
        soak.rest().await.with_context(|| format!("after {goal} edits, seed {seed}"))?;
    }
    watch.abort();
    let kills = herd.kills;
    let mut outcome = soak.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
    outcome.most = soak.seen.sums().1;
    outcome.kept()?;
    say(&format!("  {outcome}"));
    say(&format!("  {kills} replicas were killed"));
    herd.end().await?;
    proof.budgeted(outcome);
    Ok(())
}

/// Waits until an edit through this API server is admitted, and takes it back.
///
/// For half a minute after its start it may not know the kind by which the floor is set
/// (kubernetes/kubernetes#124237).
async fn answers(clusters: &Api<DynamicObject>) -> Result<()> {
    until("an edit to be admitted", Duration::from_secs(120), async || {
        let (answer, _) = edits::set(clusters, 0, 2).await;
        let admitted = answer == Answer::Admitted;
        Ok(if admitted { Attempt::Done(()) } else { Attempt::NotYet(format!("{answer:?}")) })
    })
    .await?;
    let (answer, _) = edits::set(clusters, 0, 1).await;
    ensure!(answer == Answer::Admitted, "back to 1: {answer:?}");
    Ok(())
}

impl Soak {
    /// Edits clusters at random until `goal` edits for more were made by all writers.
    async fn write(&self, number: usize, mut chance: Chance, goal: usize) {
        let [first, second] = &self.clients;
        let clusters = if number.is_multiple_of(2) { first } else { second };
        loop {
            let cluster = usize::try_from(chance.number() % CLUSTERS as u64).unwrap_or(0);
            let now = self.seen.count(&name(cluster));
            let roll = chance.number() % 20;
            if now > 1 && roll < 7 {
                let (answer, _) = edits::set(clusters, cluster, 1).await;
                if let Answer::Refused | Answer::Repeat | Answer::Unjudged | Answer::Other(_) =
                    answer
                {
                    self.fault(format!("{} to 1: {answer:?}", name(cluster)));
                }
                continue;
            }
            if now >= MOST {
                continue;
            }
            if self.ids.fetch_add(1, Ordering::Relaxed) >= goal {
                self.ids.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            if now == 0 || (roll == 19 && edits::delete(clusters, cluster).await) {
                let create = async || {
                    let start = Instant::now();
                    (edits::create(clusters, cluster).await, start.elapsed())
                };
                let answer = self.grow(cluster, 1, create).await;
                if let Answer::Lost | Answer::Raced = answer {
                    self.lost_creations.fetch_add(1, Ordering::Relaxed);
                }
            } else {
                let set = async || edits::set(clusters, cluster, now + 1).await;
                self.grow(cluster, now + 1, set).await;
            }
        }
    }

    /// Makes an edit for more, and holds that a refusal is justified.
    async fn grow(
        &self,
        cluster: usize,
        to: i64,
        edit: impl AsyncFnOnce() -> (Answer, Duration),
    ) -> Answer {
        static ID: AtomicUsize = AtomicUsize::new(0);
        let id = ID.fetch_add(1, Ordering::Relaxed);
        let name = name(cluster);
        let start = Instant::now();
        self.seen.begins(id, &name, to);
        let (answer, took) = edit().await;
        if answer == Answer::Refused {
            let most = self.seen.could_count(start, &name, to);
            if most <= self.field.budget {
                self.fault(format!("{name} to {to} was refused, and at most {most} counted"));
            }
        }
        if let Answer::Other(error) = &answer {
            self.fault(format!("{name} to {to}: {error}"));
        }
        self.seen.ends(id, &answer);
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).count(&answer, took);
        answer
    }

    fn fault(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Holds what has to hold while no edit is under way: the budget was never passed, nothing is
    /// reserved any more, and what is left fits exactly.
    async fn rest(&self) -> Result<()> {
        self.none_wrong()?;
        let creations = self.lost_creations.swap(0, Ordering::Relaxed);
        let limit = if creations > 0 { DECIDED + LAND_WITHIN.unsigned_abs() } else { DECIDED };
        let start = Instant::now();
        self.field.settled_within(limit).await?;
        say(&format!(
            "  nothing is reserved {} s after the last edit; {creations} creations got no answer or came second",
            start.elapsed().as_secs()
        ));
        let (sum, most) = self.seen.sums();
        ensure!(sum == self.field.stored().await?, "the watch has not seen everything");
        ensure!(most <= self.field.budget, "{most} under a budget of {}", self.field.budget);
        let mut free = self.field.budget - sum;
        for cluster in 0..CLUSTERS {
            let now = self.seen.count(&name(cluster));
            if now == 0 || now >= MOST {
                continue;
            }
            let [clusters, _] = &self.clients;
            let set = async || edits::set(clusters, cluster, now + 1).await;
            let answer = self.grow(cluster, now + 1, set).await;
            let right = if free > 0 { Answer::Admitted } else { Answer::Refused };
            ensure!(answer == right, "{answer:?} with {free} free");
            if free == 0 {
                break;
            }
            free -= 1;
        }
        self.none_wrong()
    }

    fn none_wrong(&self) -> Result<()> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match wrong.first() {
            Some(first) => bail!("{} wrong answers, the first one: {first}", wrong.len()),
            None => Ok(()),
        }
    }
}

/// The replicas, each with a slow way to one of the API servers.
struct Herd {
    ctx: TestCtx,
    replicas: Replicas,
    running: Vec<(Replica, Relay)>,
    ports: [u16; 2],
    second: Process,
    chance: Chance,
    kills: usize,
}

impl Herd {
    async fn new(ctx: &TestCtx, second: Process, seed: u64) -> Result<Self> {
        let mut replicas = Replicas::new(ctx).await?;
        replicas.operations = &["CREATE", "UPDATE"];
        let ports = [PORT, pgscale_tests::control_plane::SECOND_PORT];
        let (ctx, running, chance) = (ctx.clone(), Vec::new(), Chance(seed));
        Ok(Self { ctx, replicas, running, ports, second, chance, kills: 0 })
    }

    async fn start(&mut self) -> Result<()> {
        let delay = Duration::from_millis(self.chance.pick(&DELAYS).copied().unwrap_or(0));
        let port = self.chance.pick(&self.ports).copied().unwrap_or(PORT);
        let relay = Relay::start(format!("{ADDRESS}:{port}").parse()?, delay).await?;
        let kubeconfig = self.kubeconfig(&relay).await?;
        let replica = self.replicas.start_with(&kubeconfig).await?;
        self.running.push((replica, relay));
        Ok(())
    }

    async fn kubeconfig(&self, relay: &Relay) -> Result<PathBuf> {
        let url = format!("https://{}", relay.address());
        let control_plane = self.ctx.bed.control_plane().lock().await;
        let text = control_plane.authority().kubeconfig(&url, "admin", &[ADMINISTRATORS])?;
        let name = format!("relay-{}.kubeconfig", relay.address().port());
        write(self.ctx.bed.directory(), &name, &text)
    }

    /// Kills the oldest replica after a pause, and starts another.
    async fn kill_one(&mut self) -> Result<()> {
        sleep(Duration::from_secs(self.chance.pick(&PAUSES).copied().unwrap_or(2))).await;
        let (oldest, _relay) = self.running.remove(0);
        oldest.kill().await?;
        self.kills += 1;
        self.start().await
    }

    async fn end(mut self) -> Result<()> {
        self.replicas.deregister().await?;
        for (replica, _relay) in self.running {
            replica.kill().await?;
        }
        self.second.kill().await
    }
}
