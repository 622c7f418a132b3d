//! An empty bed for another program: a test that needs a second bed, or a bed to kill.

use std::fs;
use std::io::{Read as _, Write as _, stdin, stdout};
use std::thread;

use anyhow::{Context as _, Result};
use pgscale_tests::bed::{Bed, BedOptions};
use pgscale_tests::operator::Settings;
use pgscale_tests::sandbox;
use pgscale_tests::supplies::Supplies;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Brings up the bed, prints one line of JSON about it, and waits.
///
/// The bed ends when stdin is closed or when this process gets SIGTERM. With `keep`, only SIGTERM
/// ends it.
pub(crate) async fn run(keep: bool) -> Result<()> {
    let mut terminations = signal(SignalKind::terminate()).context("failed to watch signals")?;
    let supplies = Supplies::read()?;
    let directory = sandbox::directory()?;
    let options =
        BedOptions { directory: directory.clone(), supplies, operator: Settings::default() };
    let bed = Bed::start(options).await?;
    let namespace = |kind: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}"));
        link.with_context(|| format!("failed to read the {kind} namespace"))
    };
    let line = json!({
        "directory": directory,
        "kubeconfig": bed.kubeconfig(),
        "path": bed.path(),
        "postgres": bed.postgres_major().await?,
        "namespaces": { "pid": namespace("pid")?, "mnt": namespace("mnt")? },
    });
    writeln!(stdout(), "{line}").context("failed to print the line about the bed")?;
    if keep {
        sandbox::keep(bed.kubeconfig().to_owned(), bed.path())?;
        terminations.recv().await;
        return bed.stop().await;
    }
    let (close, closed) = oneshot::channel();
    // A thread and not a task: the read may block for ever, and the runtime would wait for it.
    thread::spawn(move || {
        let read = stdin().read_to_end(&mut Vec::new());
        close.send(read)
    });
    tokio::select! {
        _ = terminations.recv() => {}
        read = closed => {
            read.context("the thread that reads stdin has ended")?.context("failed to read stdin")?;
        }
    }
    bed.stop().await
}
