//! Tests that share one bed, each in a namespace of its own.

use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, PostParams};
use libtest_mimic::{Failed, Trial};
use pgscale_tests::bed::{Bed, BedOptions};
use pgscale_tests::operator::Settings;
use pgscale_tests::progress::{Step, brief, say};
use pgscale_tests::sandbox;
use pgscale_tests::supplies::Supplies;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long a test may take, unless it says otherwise.
const LIMIT: Duration = Duration::from_secs(900);

/// What a test finds when it begins.
#[derive(Clone)]
pub(crate) struct TestCtx {
    /// The bed all tests share.
    pub(crate) bed: Arc<Bed>,
    /// A fresh namespace, removed after the test has passed.
    pub(crate) namespace: String,
}

type Run = dyn FnOnce(TestCtx) -> Pin<Box<dyn Future<Output = Result<()>>>> + Send;

/// A test that shares the bed.
pub(crate) struct Case {
    /// Its name, `module::promise`.
    pub(crate) name: &'static str,
    /// Whether it uses the project's own programs.
    pub(crate) programs: bool,
    /// How long it may take.
    limit: Duration,
    run: Box<Run>,
}

/// A test called `name`.
pub(crate) fn case<F>(name: &'static str, run: impl FnOnce(TestCtx) -> F + Send + 'static) -> Case
where
    F: Future<Output = Result<()>> + 'static,
{
    Case { name, programs: true, limit: LIMIT, run: Box::new(move |ctx| Box::pin(run(ctx))) }
}

impl Case {
    /// Says that it does without the project's own programs: it then runs even while they do not
    /// compile.
    pub(crate) fn without_programs(self) -> Self {
        Self { programs: false, ..self }
    }

    /// Says how long it may take.
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The case as the test runner knows it.
    pub(crate) fn on(self, stage: &Arc<Stage>) -> Trial {
        let stage = Arc::clone(stage);
        let Self { name, limit, run, .. } = self;
        Trial::test(name, move || {
            stage.runtime.block_on(stage.perform(name, limit, run)).map_err(|error| {
                // The runner indents nothing and shows only this text.
                Failed::from(format!("{error:#}"))
            })
        })
    }
}

/// Where the cases are performed.
pub(crate) struct Stage {
    runtime: Runtime,
    bed: OnceCell<Arc<Bed>>,
}

impl Stage {
    /// An empty stage; the first case brings the bed up.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let runtime = Runtime::new().context("failed to start a runtime")?;
        Ok(Arc::new(Self { runtime, bed: OnceCell::new() }))
    }

    async fn perform(&self, name: &str, limit: Duration, run: Box<Run>) -> Result<()> {
        let bed = Arc::clone(self.bed.get_or_try_init(start).await?);
        let namespace = namespace(name);
        create_namespace(&bed, &namespace).await?;
        let start = Instant::now();
        let ctx = TestCtx { bed: Arc::clone(&bed), namespace: namespace.clone() };
        let performed = timeout(limit, AssertUnwindSafe(run(ctx)).catch_unwind()).await;
        say(&format!("{name} took {}", brief(start.elapsed())));
        if bed.kubelet().unstage_all(&namespace) {
            // It may be waiting for a member that was frozen, and other clusters wait in its queue.
            bed.operator().lock().await.start(&Settings::default()).await?;
        }
        match performed {
            Ok(Ok(result)) => result?,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => anyhow::bail!("took longer than {}", brief(limit)),
        }
        bed.ensure_alive().await.context("the bed did not survive this test")?;
        // The next test needs no answer, only this one's objects on their way out.
        Api::<Namespace>::all(bed.client())
            .delete(&namespace, &DeleteParams::default())
            .await
            .with_context(|| format!("failed to delete the namespace {namespace}"))?;
        Ok(())
    }
}

async fn start() -> Result<Arc<Bed>> {
    let step = Step::begin("bringing up the bed");
    let supplies = Supplies::take()?;
    let directory = sandbox::directory()?;
    let options = BedOptions { directory, supplies, operator: Settings::default() };
    let bed = Bed::start(options).await?;
    step.done();
    Ok(Arc::new(bed))
}

/// Creates a namespace; removing it is the caller's.
pub(crate) async fn create_namespace(bed: &Bed, name: &str) -> Result<()> {
    let mut fresh = Namespace::default();
    fresh.metadata.name = Some(name.to_owned());
    Api::all(bed.client())
        .create(&PostParams::default(), &fresh)
        .await
        .with_context(|| format!("failed to create the namespace {name}"))?;
    Ok(())
}

/// Copies the logs of the bed's programs to `kept`, replacing those of an earlier run.
pub(crate) fn save_logs(kept: &Path) -> Result<()> {
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

/// A namespace's name made of a test's: lower case, digits and dashes, at most 63.
fn namespace(name: &str) -> String {
    let spelled: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let words: Vec<_> = spelled.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-").chars().take(63).collect::<String>().trim_end_matches('-').to_owned()
}
