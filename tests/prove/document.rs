//! The outcomes of a run, and their place in `docs/proof.md`.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Result, ensure};
use pgscale_tests::budget::edits::Answer;
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

/// What came of many edits under a budget, by one kind of webhook.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgeted {
    /// The webhook, in words.
    pub(crate) who: &'static str,
    /// The instances that all clusters may have.
    pub(crate) budget: i64,
    /// The greatest sum that was ever stored.
    pub(crate) most: i64,
    /// The edits that ask for more.
    pub(crate) edits: usize,
    /// Those that were stored.
    pub(crate) admitted: usize,
    /// Those that the budget refused.
    pub(crate) refused: usize,
    /// Those that were to be repeated.
    pub(crate) repeat: usize,
    /// Those whose webhook was killed meanwhile.
    pub(crate) lost: usize,
    /// Those that came after another writer of the same cluster.
    pub(crate) raced: usize,
    /// The time of each answer.
    pub(crate) took: Vec<Duration>,
}

impl Budgeted {
    /// Counts one more answer.
    pub(crate) fn count(&mut self, answer: &Answer, took: Duration) {
        self.edits += 1;
        self.took.push(took);
        match answer {
            Answer::Admitted => self.admitted += 1,
            Answer::Refused => self.refused += 1,
            Answer::Repeat | Answer::Unjudged => self.repeat += 1,
            Answer::Lost => self.lost += 1,
            Answer::Raced => self.raced += 1,
            Answer::Other(_) => {}
        }
    }

    /// Fails when more than the budget was ever stored.
    pub(crate) fn kept(&self) -> Result<()> {
        let Self { who, budget, most, .. } = self;
        ensure!(most <= budget, "{who}: {most} instances were stored under a budget of {budget}");
        Ok(())
    }

    /// Returns the time within which this part of the answers came, in milliseconds.
    fn within(&self, part: f64) -> f64 {
        let mut took: Vec<_> = self.took.iter().map(|took| took.as_secs_f64() * 1000.0).collect();
        took.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into some thousand answers"
        )]
        let index = ((took.len() as f64 * part).ceil() as usize).saturating_sub(1);
        took.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Budgeted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = (self.most - self.budget).max(0);
        let over = if over > 0 { format!("**{over}**") } else { "0".to_owned() };
        write!(
            out,
            "| {} | {} | {} | {over} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} |",
            self.who,
            self.budget,
            self.most,
            self.edits,
            self.admitted,
            self.refused,
            self.repeat,
            self.lost,
            self.raced,
            self.within(0.5),
            self.within(0.99),
        )
    }
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
    budgeted: Vec<Budgeted>,
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

    /// Adds a row of the table of budgets.
    pub(crate) fn budgeted(&self, budgeted: Budgeted) {
        self.outcomes().budgeted.push(budgeted);
    }

    /// Adds the search of the model.
    pub(crate) fn searched(&self, searched: Searched) {
        self.outcomes().searched = Some(searched);
    }

    /// Returns the outcomes of a run of `commit` in Markdown.
    pub(crate) fn text(&self, commit: &str) -> String {
        let outcomes = self.outcomes();
        let mut text = String::new();
        table(&mut text, "From five members to two", &outcomes.staged);
        table(&mut text, "Losses by a plain edit, a tenant or a slip", &outcomes.lost);
        acts(&mut text, &outcomes.acted);
        walks(&mut text, &outcomes.walked);
        budgets(&mut text, &outcomes.budgeted);
        if let Some(searched) = &outcomes.searched {
            model(&mut text, searched);
        }
        // Tables may come from different runs.
        let from = format!("Commit {commit}.");
        let lines = text.lines().map(|line| {
            if line.starts_with("### ") {
                format!("{line}\n\n{from}\n")
            } else {
                format!("{line}\n")
            }
        });
        machine() + &lines.collect::<String>()
    }

    fn outcomes(&self) -> MutexGuard<'_, Outcomes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Describes the machine and the programs.
fn machine() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    format!(
        "Runs on {cores} cores, with Kubernetes {}, operator {}, Patroni {}.\n",
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

fn budgets(text: &mut String, budgets: &[Budgeted]) {
    if budgets.is_empty() {
        return;
    }
    text.push_str(
        "\n### The budget of a namespace\n\n\
         Three webhooks answer. A sum of a cache or of a list is what a policy engine compares with. They are \
         debug builds that share two cores with everything else, so milliseconds compare rows and no more.\n\n\
         | who keeps it | budget | most ever stored | passed by | edits for more | stored | refused | to be repeated | webhook killed meanwhile | raced | p50, ms | p99, ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in budgets {
        _ = writeln!(text, "{row}");
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
