//! The outcomes of a run, and their place in `docs/proof.md`.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use pgscale_tests::progress::brief;
use pgscale_tests::proof::Outcome;
use pgscale_tests::proof::random_walk::Walked;
use pgscale_tests::{python, tools};

use crate::searched::Searched;

/// The lines around the generated part of the document.
pub(crate) const MARKERS: (&str, &str) = (
    "<!-- written by `cargo run -p pgscale-tests --bin prove`: begin -->",
    "<!-- written by `cargo run -p pgscale-tests --bin prove`: end -->",
);

/// One state before a change, and what came of the change.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The state, in words.
    pub(crate) words: String,
    /// The outcome of a plain edit, by the operator alone.
    pub(crate) alone: Outcome,
    /// The answer of the webhook to the same plain edit.
    pub(crate) answered: String,
    /// The outcome of `kubectl pgscale`.
    pub(crate) with_plugin: Outcome,
}

/// One case of the plugin's act and watch, and what a person saw.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    /// The number of the case in `docs/cases.md`.
    pub(crate) case: &'static str,
    /// The state that was staged, in words.
    pub(crate) staged: &'static str,
    /// The command line after `kubectl pgscale`, or the whole of another one.
    pub(crate) command: String,
    /// The decisive lines, each with the time since the command was started.
    pub(crate) said: Vec<(Duration, String)>,
    /// The end, in words.
    pub(crate) end: String,
}

/// The outcomes of a run.
#[derive(Debug, Default)]
pub(crate) struct Proof(Mutex<Outcomes>);

#[derive(Debug, Default)]
struct Outcomes {
    staged: Vec<Row>,
    lost: Vec<Row>,
    acted: Vec<Act>,
    walked: Vec<(&'static str, Walked)>,
    searched: Option<Searched>,
}

impl Proof {
    /// Adds a row of the table of stages.
    pub(crate) fn staged(&self, row: Row) {
        self.outcomes().staged.push(row);
    }

    /// Adds a row of the table of losses.
    pub(crate) fn lost(&self, row: Row) {
        self.outcomes().lost.push(row);
    }

    /// Adds a row of the table of the plugin's act and watch.
    pub(crate) fn acted(&self, act: Act) {
        self.outcomes().acted.push(act);
    }

    /// Adds a walk.
    pub(crate) fn walked(&self, words: &'static str, walked: Walked) {
        self.outcomes().walked.push((words, walked));
    }

    /// Adds the search of the model.
    pub(crate) fn searched(&self, searched: Searched) {
        self.outcomes().searched = Some(searched);
    }

    /// Returns the outcomes in Markdown.
    pub(crate) fn text(&self) -> String {
        let outcomes = self.outcomes();
        let mut text = machine();
        table(&mut text, "From five members to two", &outcomes.staged);
        table(&mut text, "Losses by a plain edit, a tenant or a slip", &outcomes.lost);
        acts(&mut text, &outcomes.acted);
        walks(&mut text, &outcomes.walked);
        if let Some(searched) = &outcomes.searched {
            model(&mut text, searched);
        }
        text
    }

    fn outcomes(&self) -> MutexGuard<'_, Outcomes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Describes the machine and the programs.
fn machine() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    format!(
        "One run on {cores} cores, with Kubernetes {}, operator {}, Patroni {}.\n",
        tools::kubernetes_version(),
        tools::operator_version(),
        python::patroni_version(),
    )
}

fn table(text: &mut String, title: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    _ = write!(
        text,
        "\n### {title}\n\n\
         | stage | operator only | rows lost | writes stopped | a plain edit, with the webhook | with kubectl pgscale | rows lost | writes stopped |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for Row { words, alone, answered, with_plugin } in rows {
        _ = writeln!(text, "| {words} | {alone} | {answered} | {with_plugin} |");
    }
}

fn acts(text: &mut String, acts: &[Act]) {
    if acts.is_empty() {
        return;
    }
    text.push_str(
        "\n### The plugin's act and watch\n\n\
         The cases D of [cases](cases.md). Seconds count from the start of the command.\n\n\
         | case | staged | command | printed after so many seconds | the end |\n\
         |---|---|---|---|---|\n",
    );
    for Act { case, staged, command, said, end } in acts {
        let said = said.iter().map(|(at, line)| format!("{:.0}: `{line}`", at.as_secs_f64()));
        let said = said.collect::<Vec<_>>().join("; ").replace('|', "\\|");
        _ = writeln!(text, "| {case} | {staged} | `{command}` | {said} | {end} |");
    }
}

fn walks(text: &mut String, walks: &[(&'static str, Walked)]) {
    if walks.is_empty() {
        return;
    }
    text.push_str(
        "\n### Random walks\n\n\
         | cluster | seed | changes | plain edits refused until the leader had moved | median time until the same edit was admitted | rows lost | writes stopped |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (words, walked) in walks {
        let Walked { seed, changes, refused, record } = walked;
        let median = walked.median().map_or_else(|| "none refused".to_owned(), brief);
        _ = writeln!(
            text,
            "| {words} | {seed} | {changes} | {} | {median} | {} of {} | {:.1} s |",
            refused.len(),
            record.missing,
            record.acknowledged,
            record.longest_gap.as_secs_f64()
        );
    }
}

fn model(text: &mut String, searched: &Searched) {
    let Searched { summary, took, ledger, ledger_took } = searched;
    let found = &summary.exhaustive;
    _ = write!(
        text,
        "\n### The model, searched\n\n\
         | runs | states | steps | verdicts | random walks | failovers that landed on a removed ordinal | limits met | rules broken | time |\n\
         |---|---|---|---|---|---|---|---|---|\n\
         | {} | {} | {} | {} | {} | {} | {} | 0 | {} |\n",
        summary.runs,
        found.states,
        found.steps,
        found.verdicts,
        summary.walks,
        found.landed,
        summary.limits.count(),
        brief(*took),
    );
    _ = write!(
        text,
        "\n### The ledger of a budget, searched\n\n\
         | runs | states | steps | answers of replicas | rules broken | time |\n\
         |---|---|---|---|---|---|\n\
         | {} | {} | {} | {} | 0 | {} |\n",
        ledger.runs,
        ledger.states,
        ledger.steps,
        ledger.turns,
        brief(*ledger_took),
    );
}
