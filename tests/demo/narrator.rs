//! Commands of the demo, shown as a user types them, with their output.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use pgscale_tests::bed::Bed;
use tokio::io::AsyncWriteExt as _;

/// The teller of the story on stdout, command by command.
pub(crate) struct Narrator {
    bed: Arc<Bed>,
    namespace: &'static str,
    bold: bool,
    notes: Mutex<Vec<String>>,
}

impl Narrator {
    /// Returns a narrator whose commands run against `bed`, in `namespace`.
    pub(crate) fn new(bed: &Arc<Bed>, namespace: &'static str) -> Self {
        let bold = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { bed: Arc::clone(bed), namespace, bold, notes: Mutex::default() }
    }

    /// Prints a heading.
    pub(crate) fn title(&self, text: &str) -> Result<()> {
        let (on, off) = if self.bold { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        line(&format!("\n{on}== {text}{off}"))
    }

    /// Keeps `text` for the summary.
    pub(crate) fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Prints every note.
    pub(crate) fn summary(&self) -> Result<()> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        notes.iter().try_for_each(|note| line(&format!("  {note}")))
    }

    /// Shows a command and passes its output through to the terminal.
    pub(crate) async fn shows(&self, command: &str) -> Result<()> {
        self.prompt(command)?;
        let status = self.command(command)?.status().await.context("failed to run kubectl")?;
        ensure!(status.success(), "`{command}` ended with {status}");
        Ok(())
    }

    /// Shows a command that `rule` must refuse.
    pub(crate) async fn refused(&self, command: &str, rule: &str) -> Result<()> {
        self.prompt(command)?;
        let output = self.command(command)?.output().await.context("failed to run kubectl")?;
        let answer = String::from_utf8_lossy(&output.stderr).into_owned();
        line(answer.trim_end())?;
        if output.status.success() || !answer.contains(rule) {
            bail!("{rule} should have refused `{command}`, and did not");
        }
        self.note(format!("refused by {rule}: {command}"));
        Ok(())
    }

    /// Shows a manifest and applies it.
    pub(crate) async fn apply(&self, text: &str, manifest: &str) -> Result<()> {
        line(&format!("\n{text}\n{}", manifest.trim_end()))?;
        self.prompt("kubectl apply -f policy.yaml")?;
        let mut child = self
            .command("kubectl apply -f -")?
            .stdin(Stdio::piped())
            .spawn()
            .context("failed to run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no stdin")?;
        stdin.write_all(manifest.as_bytes()).await.context("failed to write to kubectl")?;
        drop(stdin);
        let status = child.wait().await.context("failed to wait for kubectl")?;
        ensure!(status.success(), "`kubectl apply` ended with {status}");
        Ok(())
    }

    fn prompt(&self, command: &str) -> Result<()> {
        let (on, off) = if self.bold { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        line(&format!("\n{on}$ {command} -n {}{off}", self.namespace))
    }

    /// Returns the command as the user's shell would run it.
    ///
    /// Quotes are for the reader only: no argument contains spaces.
    fn command(&self, command: &str) -> Result<tokio::process::Command> {
        let mut words = command.split_whitespace().map(|word| word.trim_matches('\''));
        ensure!(words.next() == Some("kubectl"), "the story only uses kubectl: {command}");
        let kubectl = self.bed.tools().kubectl.clone();
        let mut command = self.bed.command(&kubectl, self.bed.kubeconfig())?;
        command.args(words).args(["-n", self.namespace]);
        Ok(command)
    }
}

/// Prints one line without any change.
pub(crate) fn line(text: &str) -> Result<()> {
    // The stderr of the commands comes first, on a terminal as in a file.
    stderr().flush().context("failed to write")?;
    writeln!(stdout(), "{text}").context("failed to write")
}
