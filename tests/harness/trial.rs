//! Tests that share one bed, each in a namespace of its own.

use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bed::{Bed, BedOptions};
use crate::operator::Settings;
use crate::progress::{Step, brief, say};
use crate::sandbox;
use crate::supplies::Supplies;
use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, PostParams};
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, RwLock};
use tokio::time::timeout;

/// The time limit of a test, unless the test sets another one.
const LIMIT: Duration = Duration::from_secs(900);
/// The number of tests in the list of the slowest ones.
const SLOWEST: usize = 20;

/// The bed and the namespace of one test.
#[derive(Clone)]
pub struct TestCtx {
    /// The bed that all tests share.
    pub bed: Arc<Bed>,
    /// A new namespace, removed after the test has passed.
    pub namespace: String,
}

type Run = dyn FnOnce(TestCtx) -> Pin<Box<dyn Future<Output = Result<()>>>> + Send;

/// A test that shares the bed.
pub struct Case {
    /// The name, `module::property`.
    pub name: &'static str,
    /// True if the test uses the project's own programs.
    pub programs: bool,
    /// True if the test may run beside another one.
    pub beside: bool,
    /// The time limit.
    limit: Duration,
    run: Box<Run>,
}

/// Returns a test called `name`.
pub fn case<F>(name: &'static str, run: impl FnOnce(TestCtx) -> F + Send + 'static) -> Case
where
    F: Future<Output = Result<()>> + 'static,
{
    let run = Box::new(move |ctx| Box::pin(run(ctx)) as Pin<Box<dyn Future<Output = _>>>);
    Case { name, programs: true, beside: false, limit: LIMIT, run }
}

impl Case {
    /// Declares that the test does not use the project's own programs: it then runs even while they
    /// do not compile.
    #[must_use]
    pub fn without_programs(self) -> Self {
        Self { programs: false, ..self }
    }

    /// Declares that the test may run beside another one: it waits more than it works, and changes
    /// nothing that tests share (the operator, the webhook, the control plane, nodes, objects
    /// outside of its namespace).
    #[must_use]
    pub fn beside_others(self) -> Self {
        Self { beside: true, ..self }
    }

    /// Sets the time limit.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Returns the case as the test runner knows it.
    pub fn on(self, shared: &Arc<SharedBed>) -> Trial {
        let shared = Arc::clone(shared);
        // The runner indents nothing and shows only this text.
        let failed = |error| Failed::from(format!("{error:#}"));
        Trial::test(self.name, move || shared.run(self).map_err(failed))
    }
}

/// The bed that the cases run on.
pub struct SharedBed {
    runtime: Runtime,
    bed: OnceCell<Arc<Bed>>,
    /// The turn of a test: several tests that may run beside others, or one that may not.
    turn: RwLock<()>,
    took: Mutex<Vec<(Duration, &'static str)>>,
}

impl SharedBed {
    /// Returns a bed that is not up yet. The first case brings it up.
    pub fn new() -> Result<Arc<Self>> {
        let runtime = Runtime::new().context("failed to start a runtime")?;
        Ok(Arc::new(Self {
            runtime,
            bed: OnceCell::new(),
            turn: RwLock::default(),
            took: Mutex::default(),
        }))
    }

    /// Runs a case in a namespace of its own.
    ///
    /// # Errors
    /// Fails when the case fails, takes too long, or leaves a broken bed.
    pub fn run(&self, case: Case) -> Result<()> {
        self.runtime.block_on(async {
            if case.beside {
                let _turn = self.turn.read().await;
                self.perform(case).await
            } else {
                let _turn = self.turn.write().await;
                self.perform(case).await
            }
        })
    }

    async fn perform(&self, case: Case) -> Result<()> {
        let Case { name, limit, run, .. } = case;
        let bed = Arc::clone(self.bed.get_or_try_init(start).await?);
        let namespace = namespace(name);
        create_namespace(&bed, &namespace).await?;
        let start = Instant::now();
        let ctx = TestCtx { bed: Arc::clone(&bed), namespace: namespace.clone() };
        let performed = timeout(limit, AssertUnwindSafe(run(ctx)).catch_unwind()).await;
        say(&format!("{name} took {}", brief(start.elapsed())));
        self.took.lock().unwrap_or_else(PoisonError::into_inner).push((start.elapsed(), name));
        if bed.kubelet().unstage_all(&namespace) {
            // The operator may wait for a member that was frozen, and other clusters wait in its
            // queue.
            bed.operator().lock().await.start(&Settings::default()).await?;
        }
        match performed {
            Ok(Ok(result)) => result?,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => anyhow::bail!("took longer than {}", brief(limit)),
        }
        bed.ensure_alive().await.context("the bed did not survive this test")?;
        // The next test does not need the end of this deletion.
        Api::<Namespace>::all(bed.client())
            .delete(&namespace, &DeleteParams::default())
            .await
            .with_context(|| format!("failed to delete the namespace {namespace}"))?;
        Ok(())
    }

    /// Prints the cases that took longest.
    pub fn print_slowest(&self) {
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner).clone();
        took.sort_unstable();
        if took.len() <= SLOWEST {
            return;
        }
        say("\nthe slowest tests:");
        for (duration, name) in took.iter().rev().take(SLOWEST) {
            say(&format!("  {:>7} {name}", brief(*duration)));
        }
    }
}

async fn start() -> Result<Arc<Bed>> {
    let step = Step::begin("bringing up the bed");
    let supplies = Supplies::read()?;
    let directory = sandbox::directory()?;
    let options = BedOptions { directory, supplies, operator: Settings::default() };
    let bed = Bed::start(options).await?;
    step.done();
    Ok(Arc::new(bed))
}

/// Creates a namespace. The caller removes it.
pub async fn create_namespace(bed: &Bed, name: &str) -> Result<()> {
    let mut fresh = Namespace::default();
    fresh.metadata.name = Some(name.to_owned());
    Api::all(bed.client())
        .create(&PostParams::default(), &fresh)
        .await
        .with_context(|| format!("failed to create the namespace {name}"))?;
    Ok(())
}

/// Copies the logs of the bed's programs to `kept`, in the place of those of an earlier run.
pub fn save_logs(kept: &Path) -> Result<()> {
    _ = fs::remove_dir_all(kept);
    fs::create_dir_all(kept).with_context(|| format!("failed to make {}", kept.display()))?;
    let directory = sandbox::directory()?;
    for logs in ["logs", "kubelet/logs"] {
        for entry in fs::read_dir(directory.join(logs)).into_iter().flatten().flatten() {
            let copy = kept.join(entry.file_name());
            fs::copy(entry.path(), copy).context("failed to copy a log")?;
        }
    }
    Ok(())
}

/// Returns a name for a namespace: lower case, digits and dashes, at most 63 characters of a test's
/// name.
fn namespace(name: &str) -> String {
    let spelled: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let words: Vec<_> = spelled.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-").chars().take(63).collect::<String>().trim_end_matches('-').to_owned()
}
