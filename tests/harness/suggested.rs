//! Commands that the plugin or the webhook suggests, run as they were printed.
//!
//! A suggested command stands alone on its line of a text, or is an argument vector of the JSON. A
//! test may add flags at the end, such as `--yes`, because it has no terminal at which a person
//! could answer.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::cluster::Cluster;
use crate::progress::say;
use anyhow::{Context as _, Result, bail};

/// The commands that ran and succeeded, each as it was printed, with `NAMESPACE` for the namespace
/// of its test.
static RUN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Runs the command in `text` that begins with `kubectl` and `words`, with `more` at its end, and
/// returns it.
///
/// # Errors
/// Fails when no line of `text` is such a command, or when the command does not succeed.
pub async fn run(cluster: &Cluster, text: &str, words: &str, more: &[&str]) -> Result<String> {
    let commands: Vec<_> = text.lines().map(str::trim).filter(|line| is_command(line)).collect();
    let begins = |command: &&&str| command.trim_start_matches("kubectl ").starts_with(words);
    let Some(command) = commands.iter().find(begins) else {
        bail!("no command begins with {words:?} among {commands:?} in {text}");
    };
    let line = [&[*command], more].concat().join(" ");
    cluster.bed().paste(&line).await?.ok().with_context(|| line.clone())?;
    note(cluster, command);
    Ok((*command).to_owned())
}

/// Runs an argument vector of the JSON, with `more` at its end, and returns what it printed.
///
/// # Errors
/// Fails when the vector does not begin with `kubectl`, or when the command does not succeed.
pub async fn run_argv(cluster: &Cluster, argv: &[String], more: &[&str]) -> Result<String> {
    let command = argv.join(" ");
    let Some(rest) = argv.strip_prefix(&["kubectl".to_owned()]) else {
        bail!("{command:?} does not begin with kubectl");
    };
    let rest = rest.iter().map(String::as_str).chain(more.iter().copied());
    let said = cluster.bed().kubectl(&rest.collect::<Vec<_>>()).await?;
    let stdout = said.ok().with_context(|| format!("the remedy does not work: {command}"))?;
    note(cluster, &command);
    Ok(stdout)
}

/// Runs the line below the line `words` of `text`, with `manifest` in the place of `MANIFEST`, and
/// returns it.
///
/// # Errors
/// Fails when `text` has no such line, or when the command does not succeed.
pub async fn run_below(
    cluster: &Cluster,
    text: &str,
    words: &str,
    manifest: &str,
) -> Result<String> {
    let command = text.lines().skip_while(|line| *line != words).nth(1);
    let command = command.with_context(|| format!("nothing below {words:?} in {text}"))?.trim();
    let line = command.replace("MANIFEST", manifest);
    cluster.bed().paste(&line).await?.ok().with_context(|| line.clone())?;
    note(cluster, command);
    Ok(line)
}

/// Prints the commands that ran. Prints nothing if none did.
pub fn print() {
    let commands = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    if commands.is_empty() {
        return;
    }
    say(&format!("\n{} distinct suggested commands were run as printed:", commands.len()));
    for command in commands.iter() {
        say(&format!("  {command}"));
    }
    say("");
}

fn is_command(line: &str) -> bool {
    line.starts_with("kubectl ")
}

fn note(cluster: &Cluster, command: &str) {
    let command = command.replace(&cluster.namespace, "NAMESPACE");
    RUN.lock().unwrap_or_else(PoisonError::into_inner).insert(command);
}
