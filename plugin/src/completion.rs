//! Answers a shell that asks for completions of the word under the cursor.
//!
//! Two callers ask. kubectl runs an executable `kubectl_complete-pgscale` with the words behind
//! `kubectl pgscale` and expects cobra's answer (`kubectl/pkg/cmd/plugin/plugin_completion.go`).
//! The scripts of `completion` set [`VARIABLE`]. `clap_complete` parses the command line, and this
//! module looks up the words that only a cluster knows. A person waits with a finger on a key:
//! nothing is ever printed to stderr, and nothing takes longer than [`PATIENCE`].

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use clap_complete::env::Shells;
use futures::FutureExt as _;

use crate::args::{ConnectionFlags, cluster_name};
use crate::cli::Cli;
use crate::commands::completion::{FOR_KUBECTL, PROGRAM, VARIABLE};
use crate::connect::Flags;

mod candidates;
#[cfg(unix)]
mod worker;

use candidates::{Candidate, Cluster, Connect, Word, look_up};

/// The time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Set for the process that looks a word up.
#[cfg(unix)]
const WORKER: &str = "PGSCALE_COMPLETES";

/// The time beyond [`PATIENCE`] that this process has for its start and its end.
#[cfg(unix)]
const GRACE: Duration = Duration::from_millis(300);

/// Set by the scripts of some shells to the word under the cursor. In the others it is the last.
const CURSOR: &str = "_CLAP_COMPLETE_INDEX";

/// No file names, and this program's order (`ShellCompDirectiveNoFileComp`,
/// `ShellCompDirectiveKeepOrder`).
const DIRECTIVE: u8 = 4 | 32;

/// No space behind the word (`ShellCompDirectiveNoSpace`).
const NO_SPACE: u8 = 2;

/// Returns the answer, where a shell asks. `None` where a person runs a command.
pub(crate) fn answer(arguments: Vec<OsString>) -> Option<Vec<u8>> {
    let program = arguments.first().map(Path::new).and_then(Path::file_stem);
    let shell = std::env::var(VARIABLE).ok().filter(|shell| !shell.is_empty());
    let for_kubectl = program == Some(OsStr::new(FOR_KUBECTL));
    if !for_kubectl && shell.is_none() {
        return None;
    }
    let connect = match by_worker(&arguments) {
        Worked::Answered(answer) => return Some(answer),
        Worked::TooLong => nowhere(),
        Worked::Here => connect(),
    };
    if for_kubectl {
        let words = arguments.into_iter().skip(1).collect();
        return Some(self::for_kubectl(words, &connect).into_bytes());
    }
    let words: Vec<OsString> =
        arguments.into_iter().skip_while(|word| word != "--").skip(1).collect();
    Some(for_shell(&shell?, words, &connect).unwrap_or_default())
}

/// Returns the way to a cluster for one run of the program.
fn connect() -> Arc<Connect> {
    Arc::new(|flags| Cluster::connect(flags).boxed())
}

/// Returns the way to no cluster: the words that need none are still known.
fn nowhere() -> Arc<Connect> {
    Arc::new(|_| std::future::ready(None).boxed())
}

/// The answer of a process of its own.
enum Worked {
    /// It answered.
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has process groups"))]
    Answered(Vec<u8>),
    /// It did not end in time.
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has process groups"))]
    TooLong,
    /// This is that process, or there can be none.
    Here,
}

/// Lets a process of its own answer `arguments`.
#[cfg(unix)]
fn by_worker(arguments: &[OsString]) -> Worked {
    use std::os::unix::process::CommandExt as _;

    let (Ok(program), Some((name, words))) = (std::env::current_exe(), arguments.split_first())
    else {
        return Worked::Here;
    };
    if std::env::var_os(WORKER).is_some() {
        return Worked::Here;
    }
    let mut command = std::process::Command::new(program);
    command.arg0(name).args(words).env(WORKER, "1");
    worker::printed(command, PATIENCE + GRACE).map_or(Worked::TooLong, Worked::Answered)
}

/// Answers here: the process cannot be ended with everything that it starts.
#[cfg(not(unix))]
fn by_worker(_: &[OsString]) -> Worked {
    Worked::Here
}

/// Returns the answer in cobra's words: one candidate a line, its meaning behind a tab, and a
/// directive as the last line.
fn for_kubectl(words: Vec<OsString>, connect: &Arc<Connect>) -> String {
    let mut line = vec![OsString::from(PROGRAM)];
    line.extend(words);
    if line.len() == 1 {
        line.push(OsString::new());
    }
    let cursor = line.len() - 1;
    let mut directive = DIRECTIVE;
    let mut lines = Vec::new();
    for (value, meaning) in candidates(line, cursor, connect) {
        if value.ends_with('/') {
            directive |= NO_SPACE;
        }
        lines.push(if meaning.is_empty() { value } else { format!("{value}\t{meaning}") });
    }
    lines.push(format!(":{directive}\n"));
    lines.join("\n")
}

/// Returns the answer in the words of one of the scripts.
fn for_shell(shell: &str, words: Vec<OsString>, connect: &Arc<Connect>) -> Option<Vec<u8>> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell)?;
    let cursor = std::env::var(CURSOR)
        .ok()
        .and_then(|index| index.parse().ok())
        .unwrap_or(words.len().saturating_sub(1));
    // The candidates are decided already. They are passed as the only possible continuation of a
    // command line of the same length, and the shell's writer spells them.
    let line = vec![OsString::new(); words.len().max(cursor + 1)];
    let candidates = candidates(words, cursor, connect);
    let anything =
        Arg::new("anything").num_args(0..).add(ArgValueCompleter::new(move |_: &OsStr| {
            candidates.iter().map(candidate).collect::<Vec<_>>()
        }));
    let mut command =
        Command::new(PROGRAM).disable_help_flag(true).disable_version_flag(true).arg(anything);
    let mut answer = Vec::new();
    shell.write_complete(&mut command, line, None, &mut answer).ok()?;
    Some(answer)
}

fn candidate((value, meaning): &Candidate) -> CompletionCandidate {
    let meaning = (!meaning.is_empty()).then(|| meaning.into());
    CompletionCandidate::new(value).help(meaning)
}

/// Returns the candidates for the word of `line` under the cursor.
fn candidates(line: Vec<OsString>, cursor: usize, connect: &Arc<Connect>) -> Vec<Candidate> {
    let typed = Arc::new(Typed::of(line.iter().take(cursor)));
    let wants_flags =
        line.get(cursor).is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
    let know = |verb: &str, arg: Arg| {
        let Some(word) = Word::of(verb, arg.get_id().as_str()) else { return arg };
        let (typed, connect) = (Arc::clone(&typed), Arc::clone(connect));
        arg.add(ArgValueCompleter::new(move |begun: &OsStr| {
            typed.candidates(word, begun, &connect).iter().map(candidate).collect::<Vec<_>>()
        }))
    };
    let mut command = Cli::command().mut_args(|arg| know("", arg)).mut_subcommands(|verb| {
        let name = verb.get_name().to_owned();
        verb.mut_args(|arg| know(&name, arg))
    });
    let here = std::env::current_dir().ok();
    let found = complete(&mut command, line, cursor, here.as_deref()).unwrap_or_default();
    found
        .iter()
        .map(|candidate| {
            let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
            let meaning = help.lines().next().unwrap_or_default().to_owned();
            (candidate.get_value().to_string_lossy().into_owned(), meaning)
        })
        // As in kubectl, flags are proposed after a dash.
        .filter(|(value, _)| wants_flags || !value.starts_with('-'))
        .collect()
}

/// The words before the word under the cursor.
#[derive(Clone, Debug, Default)]
struct Typed {
    flags: Flags,
    /// NAME.
    name: Option<String>,
}

impl Typed {
    /// Reads an unfinished command line, without the parts that cannot be parsed yet.
    fn of<'a>(words: impl Iterator<Item = &'a OsString>) -> Self {
        let Ok(matches) = Cli::command().ignore_errors(true).try_get_matches_from(words) else {
            return Self::default();
        };
        let verb = matches.subcommand().map(|(_, verb)| verb);
        let flags = ConnectionFlags::from_arg_matches(verb.unwrap_or(&matches));
        let name = verb.and_then(|verb| verb.try_get_one::<String>("name").ok().flatten());
        Self { flags: flags.map(Flags::from).unwrap_or_default(), name: name.cloned() }
    }

    /// Returns the candidates for a word of this kind that begins with `begun`.
    fn candidates(&self, word: Word, begun: &OsStr, connect: &Arc<Connect>) -> Vec<Candidate> {
        let Some(begun) = begun.to_str() else { return Vec::new() };
        let (typed, connect) = (self.clone(), Arc::clone(connect));
        let found = within(PATIENCE, move || {
            look_up(word, &typed.flags, typed.name.as_deref(), connect.as_ref())
        });
        // `pg/acid-a` is a name as well.
        let kind = begun.split_once('/').map_or("", |(kind, _)| kind);
        let kind = if word == Word::Cluster && cluster_name(&format!("{kind}/a")).is_ok() {
            format!("{kind}/")
        } else {
            String::new()
        };
        let found = found.unwrap_or_default().into_iter();
        let spelled = found.map(|(value, meaning)| (format!("{kind}{value}"), meaning));
        spelled.filter(|(value, _)| value.starts_with(begun)).collect()
    }
}

/// Returns the result of `work`, if it is ready in time.
///
/// `work` may block: some credentials come from a program that is run. A program that does not
/// answer is ended with the group of this process.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(work()).ok());
    ended.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests;
