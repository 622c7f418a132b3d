//! Help that fits on a screen: `-h` and `--help` alike show examples and the flags that are used most.
//! `help VERB` explains everything, and `options` lists the flags that every verb takes.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::Cli;
use crate::error::EXIT_CODES;

/// The examples stand first, because a tired person copies one.
const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Flags that only `help VERB` lists.
const RARE: [&str; 23] = [
    "at",
    "confirm",
    "cooldown",
    "current",
    "current_replicas",
    "expect_plan",
    "facts",
    "ignore_not_found",
    "interval",
    "max_parallel",
    "no_headers",
    "operator_config",
    "patch",
    "report",
    "settle",
    "show_labels",
    "sort_by",
    "stale_after",
    "stop_on_error",
    "time_zone",
    "timestamps",
    "tolerance",
    "wait",
];

/// Returns the command as people see it: the flags of the connection are behind `options`.
pub(super) fn shaped(command: Command) -> Command {
    let command = command.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    let after = "All about a verb:\n  kubectl pgscale help VERB\n\
                 The flags that every verb takes:\n  kubectl pgscale options";
    with_help_flag(command)
        .mut_subcommands(of_a_verb)
        .after_help(after)
        .after_long_help(format!("{EXIT_CODES}\n\n{after}"))
}

/// Returns the command of a verb with its examples first, and with the permissions that it needs at
/// the end of the whole help.
fn of_a_verb(command: Command) -> Command {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples = if examples.is_empty() { "Examples:".to_owned() } else { examples };
    let rights = crate::permissions::help(command.get_name());
    let options = "  kubectl pgscale options            flags that every verb takes";
    // A verb below a verb has no page of its own.
    let page = rights.as_ref().map(|_| {
        let verb = format!("  kubectl pgscale help {}", command.get_name());
        format!("{verb:<36} all flags and permissions\n")
    });
    let short = format!("{examples}\n{}{options}", page.unwrap_or_default());
    let command = with_help_flag(command)
        .mut_args(|arg| {
            let rare = arg.is_positional() || RARE.contains(&arg.get_id().as_str());
            if rare { arg.hide_short_help(true) } else { arg }
        })
        .mut_subcommands(of_a_verb)
        .help_template(TEMPLATE)
        .before_help(short)
        .before_long_help(format!("{examples}\n{options}"))
        .after_help(Resettable::Reset);
    match rights {
        Some(rights) => command.after_long_help(rights),
        None => command,
    }
}

/// Returns the command with `-h` and `--help` alike: kubectl makes no difference between them.
fn with_help_flag(command: Command) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort);
    command.disable_help_flag(true).arg(help.help("Print this help"))
}

/// Returns the command with one line for each flag, as `-h` shows it. `help VERB` names values and
/// defaults.
pub(super) fn brief(command: Command) -> Command {
    let one_line = |arg: Arg| {
        let arg = arg.help_heading(None);
        if arg.get_action().takes_values() {
            arg.hide_possible_values(true).hide_default_value(true)
        } else {
            arg
        }
    };
    command.mut_args(one_line).mut_subcommands(brief)
}

/// Returns the answer to `help` and `options`, which clap takes for unknown verbs.
pub(super) fn asked_for(error: &clap::Error, arguments: &[OsString]) -> Option<clap::Error> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    match word.as_str() {
        "options" => Some(options()),
        "help" => Some(page(arguments)),
        _ => None,
    }
}

/// Returns the whole help of the verb behind `help`, or of the program.
fn page(arguments: &[OsString]) -> clap::Error {
    let begins = arguments.iter().skip(1).position(|word| word == "help").unwrap_or_default() + 2;
    let verbs =
        arguments.iter().skip(begins).filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let command = whole(Cli::command_as(arguments.first()));
    let words: Vec<OsString> =
        arguments.iter().take(1).chain(verbs).cloned().chain(["--help".into()]).collect();
    match command.try_get_matches_from(&words) {
        Err(error) => error,
        // Help always ends the reading of a command line.
        Ok(_) => options(),
    }
}

/// Returns the command whose `--help` is the whole help.
fn whole(command: Command) -> Command {
    command.mut_arg("help", |arg| arg.action(ArgAction::HelpLong)).mut_subcommands(whole)
}

/// Returns the list of the flags that every verb takes.
fn options() -> clap::Error {
    use clap::CommandFactory as _;

    let flags = Cli::command();
    let flags = flags.get_arguments().filter(|arg| arg.is_global_set()).cloned();
    let command = Command::new("options")
        .bin_name("kubectl pgscale options")
        .disable_version_flag(true)
        .help_template("These flags work with every verb:\n\n{all-args}")
        .max_term_width(100)
        .args(flags.map(|arg| arg.global(false).hide_short_help(false)));
    let shown = with_help_flag(command).try_get_matches_from(["options", "--help"]);
    shown.err().unwrap_or_else(|| clap::Error::new(ErrorKind::DisplayHelp))
}
