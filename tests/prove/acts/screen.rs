//! What a command of the plugin prints, line by line, with the time of each.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::followed::Followed;
use tokio::time::{Instant, timeout};

/// The limit for one line to come, and for the end: no command of these parts waits longer.
const LIMIT: Duration = Duration::from_secs(300);

/// A command of the plugin that runs.
pub(super) struct Screen {
    program: Followed,
    namespace: String,
    start: Instant,
    lines: Vec<Printed>,
}

/// One line on stderr, and the time since the start.
#[derive(Clone, Debug)]
pub(super) struct Printed {
    pub(super) at: Duration,
    pub(super) line: String,
}

/// Everything that a command printed, and its end.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) lines: Vec<Printed>,
    pub(super) stdout: String,
    pub(super) code: Option<i32>,
    pub(super) took: Duration,
    namespace: String,
}

impl Screen {
    /// Starts `kubectl pgscale` with these words.
    pub(super) fn start(cluster: &Cluster, words: &str) -> Result<Self> {
        let args: Vec<_> = words.split_whitespace().collect();
        Ok(Self {
            start: Instant::now(),
            program: cluster.follow_pgscale(&args)?,
            namespace: cluster.namespace.clone(),
            lines: Vec::new(),
        })
    }

    /// Returns the next line that contains `words`.
    pub(super) async fn says(&mut self, words: &str) -> Result<Printed> {
        while let Some(printed) = self.line().await? {
            if printed.line.contains(words) {
                return Ok(printed);
            }
        }
        bail!("no line says {words:?}:\n{}", text(&self.lines))
    }

    /// Reads to the end.
    pub(super) async fn end(mut self) -> Result<Seen> {
        while self.line().await?.is_some() {}
        let took = self.start.elapsed();
        let said =
            timeout(LIMIT, self.program.end()).await.context("the command does not end")??;
        Ok(Seen {
            lines: self.lines,
            stdout: said.stdout,
            code: said.code,
            took,
            namespace: self.namespace,
        })
    }

    /// Fails where a line printed so far contains `words`.
    pub(super) fn never_said(&self, words: &str) -> Result<()> {
        let said = self.lines.iter().any(|printed| printed.line.contains(words));
        ensure!(!said, "{words:?} is not true yet:\n{}", text(&self.lines));
        Ok(())
    }

    async fn line(&mut self) -> Result<Option<Printed>> {
        let line = timeout(LIMIT, self.program.line()).await;
        let line = line.with_context(|| format!("no line came:\n{}", text(&self.lines)))??;
        let printed = line.map(|line| Printed { at: self.start.elapsed(), line });
        self.lines.extend(printed.clone());
        Ok(printed)
    }
}

impl Seen {
    /// Returns the first line that contains `words`, as the page shows it. Lines of stdout come at
    /// the end.
    pub(super) fn line(&self, words: &str) -> Result<(Duration, String)> {
        let notes = self.lines.iter().map(|printed| (printed.at, printed.line.as_str()));
        let data = self.stdout.lines().map(|line| (self.took, line));
        let found = notes.chain(data).find(|(_, line)| line.contains(words));
        let (at, line) =
            found.with_context(|| format!("no line says {words:?}:\n{}", self.text()))?;
        Ok((at, self.shown(line)))
    }

    /// Returns the first lines that contain these words, in the order of `all`.
    pub(super) fn lines(&self, all: &[&str]) -> Result<Vec<(Duration, String)>> {
        all.iter().map(|words| self.line(words)).collect()
    }

    /// Returns the longest time without a line.
    pub(super) fn silence(&self) -> Duration {
        let times = self.lines.iter().map(|printed| printed.at).chain([self.took]);
        let mut before = Duration::ZERO;
        times
            .map(|at| at.saturating_sub(std::mem::replace(&mut before, at)))
            .max()
            .unwrap_or_default()
    }

    /// Returns the exit code in words.
    pub(super) fn code(&self) -> String {
        self.code.map_or_else(|| "ends by a signal".to_owned(), |code| format!("exit code {code}"))
    }

    /// Returns everything that was printed, with times.
    pub(super) fn text(&self) -> String {
        format!("{}{}", text(&self.lines), self.stdout)
    }

    /// Returns a line without the namespace of this run and the watch's own clock.
    fn shown(&self, line: &str) -> String {
        let line = match line.split_once("s] ") {
            Some((_, what)) if line.starts_with('[') => what,
            _ => line,
        };
        line.trim().replace(&self.namespace, "NAMESPACE").replace('`', "'")
    }
}

fn text(lines: &[Printed]) -> String {
    let lines = lines.iter().map(|it| format!("[{:>5.1}] {}\n", it.at.as_secs_f64(), it.line));
    lines.collect()
}
