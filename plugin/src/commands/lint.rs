//! `lint`: the verdicts on manifests, without the cluster or with it.

use std::io;
use std::path::PathBuf;

use clap::{ArgGroup, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::postgresql::KIND;
use pgscale_guard::read::machine_time;

use crate::args::count;
use crate::document::{LintReport, Sarif};
use crate::error::{Failure, Kind};
use crate::lint::{
    Current, Document, Lint, Manifest, Objects, Problem, Report, Said, Text, at_revision, check,
    documents, read, recorded,
};
use crate::session::Session;
use crate::terminal::{Format, Output};
use crate::view::lint::{annotations, junit, render};

/// Say what the rules would say about manifests, without the cluster.
///
/// Reads files, directories with all below them, or the output of helm template or kustomize build
/// on standard input. Policies, overrides, namespaces and the operator's settings among the
/// documents count as if they were stored. The change is from --current, from the revision of
/// --diff, from a record (--facts) or from the cluster itself (--live); without any of them a
/// manifest is judged as a new cluster. Rules that need the cluster are named and refuse nothing.
/// Ends with 3 where a rule refuses a change, else with 1 where an input cannot be judged, and with
/// 0 otherwise.
#[derive(clap::Args, Clone, Debug)]
#[command(
    group(ArgGroup::new("manifests").args(["filename", "path"]).multiple(true)),
    after_help = "\
Examples:
  kubectl pgscale lint -f manifests/ --diff origin/main
  kubectl pgscale lint -f acid-a.yaml --policy prod.yaml --current now.yaml
  helm template . | kubectl pgscale lint -f - --live
  kubectl pgscale lint --facts record.json --to 2
  kubectl pgscale lint -f manifests/ -o github"
)]
pub(crate) struct Args {
    /// Manifests: files, directories, - for stdin.
    ///
    /// They are YAML or JSON, and a directory is read with all below it.
    #[arg(short = 'f', long, value_name = "FILE", num_args = 1..)]
    filename: Vec<PathBuf>,
    /// The same, as a hook of Git gives them.
    #[arg(value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Policies beside those of -f: files, directories.
    ///
    /// Overrides and namespaces are read from there as well.
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
    /// The state before: a file with objects as kubectl get -o yaml prints them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["diff", "facts", "live"])]
    current: Option<PathBuf>,
    /// The state before: the manifests of -f at this revision of git.
    #[arg(long, value_name = "REVISION", requires = "manifests", conflicts_with_all = ["facts", "live"])]
    diff: Option<String>,
    /// A record of kubectl pgscale snapshot, by which the cluster in it is judged.
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    facts: Vec<PathBuf>,
    /// Count to judge the record for.
    ///
    /// Without it the recorded change is judged.
    #[arg(long = "to", value_name = "N", value_parser = count, allow_negative_numbers = true,
        requires = "facts", conflicts_with = "manifests")]
    count: Option<i64>,
    /// A JSON merge patch or a JSON Patch of the only cluster in --current or --facts.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["diff", "live", "count"])]
    patch: Vec<PathBuf>,
    /// The operator's settings: its configuration object or ConfigMap.
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    operator_config: Option<PathBuf>,
    /// Read the cluster for everything that is not in the manifests.
    #[arg(long, requires = "manifests")]
    live: bool,
    /// Time at which freezes and windows are judged, such as 2026-11-24T10:00:00Z; now when unset.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["facts", "live"])]
    at: Option<Timestamp>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Shown,
}

/// The format of the verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// For people.
    #[default]
    Text,
    /// For people, with the name of every rule.
    Wide,
    /// A versioned JSON object.
    Json,
    /// The same as YAML.
    Yaml,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// XML for test reports.
    Junit,
    /// Annotations of GitHub Actions.
    Github,
}

fn time(word: &str) -> Result<Timestamp, String> {
    word.parse().map_err(|_| "it is no time such as 2026-11-24T10:00:00Z".to_owned())
}

impl Args {
    /// Returns whether the cluster is to be read.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }
}

/// Judges the manifests, and ends as the rules say. Those that name no namespace are of `namespace`.
pub(crate) async fn run(
    args: &Args,
    namespace: &str,
    out: &Output,
    session: Option<&Session>,
) -> Result<(), Failure> {
    let manifests: Vec<PathBuf> = args.filename.iter().chain(&args.path).cloned().collect();
    if manifests.is_empty() && args.patch.is_empty() && args.facts.is_empty() {
        let why = "there is nothing to check: name manifests with -f, a patch with --patch, or a record with --facts";
        return Err(Failure::usage(why));
    }
    let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
    let inputs = manifests.iter().chain(&args.policy).chain(&args.current);
    let inputs = inputs.chain(&args.facts).chain(&args.patch).chain(&args.operator_config);
    if inputs.filter(|path| is_stdin(path)).count() > 1 {
        return Err(Failure::usage("standard input can be read once: name - for one input"));
    }
    if args.diff.is_some() && manifests.iter().any(is_stdin) {
        return Err(Failure::usage(
            "--diff compares files of a work tree: it cannot compare standard input",
        ));
    }

    let mut read = Reading::default();
    let mut objects = read.documents(&manifests).await?;
    let files = read.files;
    // Only the manifests of -f are judged.
    let laws = read.documents(&args.policy).await?.into_iter();
    objects.extend(laws.filter(|document| document.text("/kind") != KIND));
    let mut objects = Objects::of(objects, namespace);
    let settings = args.operator_config.iter().cloned().collect::<Vec<_>>();
    objects.add_operator(read.documents(&settings).await?);

    let mut notes = Vec::new();
    let current = match (&args.current, &args.diff) {
        (Some(path), _) => {
            let stored = read.documents(std::slice::from_ref(path)).await?;
            Current::Stored(read.clusters(stored, namespace))
        }
        (None, Some(base)) => {
            let (texts, problems) = at_revision(base, &manifests).await.map_err(Failure::error)?;
            let (documents, more) = parsed(&texts);
            let before = Objects::of(documents, namespace);
            let all = problems.into_iter().chain(more).chain(before.problems);
            notes.extend(all.map(|it| at_base(it, base)));
            Current::Revision(before.clusters)
        }
        (None, None) => Current::Unknown,
    };
    let records = read.documents(&args.facts).await?;
    let records = records.iter().filter_map(|it| match recorded(it) {
        Ok(record) => Some(record),
        Err(problem) => {
            read.problems.push(problem);
            None
        }
    });
    let records = records.collect();
    let lint = Lint {
        now: args.at.unwrap_or_else(|| session.map_or_else(machine_time, Session::now)),
        current,
        recorded: records,
        patches: read.documents(&args.patch).await?,
        to: args.count,
        live: session.filter(|_| args.live),
    };
    let mut report = check(&lint, &objects).await?;
    report.files = files;
    report.notes.extend(notes);
    report.problems.extend(read.problems);
    report.problems.sort_by(|one, other| one.place.cmp(&other.place));
    show(args.output, &report, out)?;
    conclude(&report)
}

/// Names the revision that a problem is about: its file may be fine now.
fn at_base(problem: Problem, base: &str) -> Problem {
    Problem { message: format!("at revision {base}: {}", problem.message), ..problem }
}

/// The inputs that were read so far.
#[derive(Default)]
struct Reading {
    files: usize,
    problems: Vec<Problem>,
}

impl Reading {
    /// Reads the documents of files. Those that cannot be read become problems.
    async fn documents(&mut self, paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let paths = paths.to_vec();
        // Standard input may never end, and an interruption must end the program all the same.
        let all = tokio::task::spawn_blocking(move || {
            let (texts, problems) = read(&paths, &mut io::stdin());
            let (documents, more) = parsed(&texts);
            (texts.len(), documents, problems.into_iter().chain(more).collect::<Vec<_>>())
        });
        let (files, documents, problems) =
            all.await.map_err(|error| Failure::error(format!("failed to read: {error}")))?;
        self.files += files;
        self.problems.extend(problems);
        Ok(documents)
    }

    /// Returns the clusters among the documents of a state before.
    fn clusters(&mut self, documents: Vec<Document>, namespace: &str) -> Vec<Manifest> {
        let objects = Objects::of(documents, namespace);
        self.problems.extend(objects.problems);
        objects.clusters
    }
}

fn parsed(texts: &[Text]) -> (Vec<Document>, Vec<Problem>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for text in texts {
        let (some, wrong) = documents(text);
        found.extend(some);
        problems.extend(wrong);
    }
    (found, problems)
}

fn show(shown: Shown, report: &Report, out: &Output) -> Result<(), Failure> {
    match shown {
        Shown::Text | Shown::Wide => out.data(&render(report, shown == Shown::Wide, out.width)),
        Shown::Json => out.document(Format::Json, &LintReport::of(report)),
        Shown::Yaml => out.document(Format::Yaml, &LintReport::of(report)),
        Shown::Sarif => out.document(Format::Json, &Sarif::of(report)),
        Shown::Junit => out.data(&junit(report)),
        Shown::Github => {
            let text = annotations(report);
            if text.is_empty() { Ok(()) } else { out.data(&text) }
        }
    }
}

/// Ends as the verdicts say.
fn conclude(report: &Report) -> Result<(), Failure> {
    let refused = report.count(Said::Refused);
    let faults = report.problems.len();
    let errors = match faults {
        0 => String::new(),
        1 => ", and 1 input cannot be judged".to_owned(),
        count => format!(", and {count} inputs cannot be judged"),
    };
    match (refused, faults) {
        (0, 0) => Ok(()),
        (0, 1) => Err(Failure::error("1 input cannot be judged")),
        (0, faults) => Err(Failure::error(format!("{faults} inputs cannot be judged"))),
        (1, _) => {
            Err(Failure::new(Kind::Refused, format!("the change of 1 cluster is refused{errors}")))
        }
        (refused, _) => Err(Failure::new(
            Kind::Refused,
            format!("the changes of {refused} clusters are refused{errors}"),
        )),
    }
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
