//! The command line as a whole: every verb, the answers to wrong usage, and the way from a line to
//! the verb that it runs.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::args::{ConnectionFlags, expression};
use crate::commands::{
    autoscale, completion, doctor, down, history, install, lint, overrides, plan, policy, rbac,
    rules, serve, set, snapshot, status, switchover, top, undo, uninstall, up, upgrade, verify,
    version, wait,
};
use crate::connect::{Connection, Flags};
use crate::error::Failure;
use crate::session::{Interruption, Session};
use crate::terminal::expression::Expression;
use crate::terminal::{Color, Output};

mod help;
mod tips;

/// Scale PostgreSQL clusters of the Zalando postgres-operator without losing the leader or the
/// data.
///
/// Every change is a planned, verified act. The plan says which members are added or removed and what every
/// rule says about it. A shrink moves the leader off the removed members before the count is lowered. The
/// command ends when every member streams, and not when the operator says Running.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubectl-pgscale", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Colours in the output; `NO_COLOR` wins.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// The connection to the API server.
    #[command(flatten)]
    pub(crate) connection: ConnectionFlags,
    /// The verb.
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// The expression of `-o`, beside the format: see [`Shape`](crate::args::Shape).
    #[arg(skip)]
    pub(crate) expression: Option<Expression>,
}

/// The verbs. The help of each verb is the doc comment of its arguments.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(aliases = ["get", "list", "ls", "describe"])]
    Status(status::Args),
    Top(top::Args),
    Plan(plan::Args),
    Up(up::Args),
    Down(down::Args),
    #[command(alias = "scale")]
    Set(set::Args),
    Autoscale(autoscale::Args),
    Switchover(switchover::Args),
    Wait(wait::Args),
    Verify(verify::Args),
    History(history::Args),
    Undo(undo::Args),
    Override(overrides::Args),
    Policy(policy::Args),
    Rules(rules::Args),
    Rbac(rbac::Args),
    Lint(lint::Args),
    Snapshot(snapshot::Args),
    Serve(serve::Args),
    Doctor(doctor::Args),
    Install(install::Args),
    Upgrade(upgrade::Args),
    Uninstall(uninstall::Args),
    Completion(completion::Args),
    Version(version::Args),
}

impl Cli {
    /// Reads the command line. The error is clap's: help and `--version` arrive as one too.
    pub(crate) fn of<I, T>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let arguments: Vec<std::ffi::OsString> = arguments.into_iter().map(Into::into).collect();
        let matches = Self::screen_as(arguments.first()).try_get_matches_from(&arguments).map_err(
            |error| match help::asked_for(&error, &arguments) {
                Some(page) => page,
                None => tips::advised(error, &arguments),
            },
        )?;
        let expression = expression(&matches);
        Ok(Self { expression, ..Self::from_arg_matches(&matches)? })
    }

    /// Returns the command, named the way it was called: kubectl runs `kubectl-pgscale` for
    /// `kubectl pgscale`.
    pub(crate) fn command_as(program: Option<&std::ffi::OsString>) -> clap::Command {
        let file = program
            .map(PathBuf::from)
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let command = help::shaped(Self::command());
        match file {
            Some(file) if !file.starts_with("kubectl-") => command.bin_name(file),
            _ => command.bin_name("kubectl pgscale"),
        }
    }

    /// Returns the command whose help fits on a screen.
    pub(crate) fn screen_as(program: Option<&std::ffi::OsString>) -> clap::Command {
        help::brief(Self::command_as(program))
    }
}

/// Runs the verb of `cli`.
pub(crate) async fn run(
    cli: Cli,
    out: &Arc<Output>,
    interruption: Interruption,
) -> Result<(), Failure> {
    // These need no API server.
    match &cli.verb {
        Verb::Completion(args) => return completion::run(args, out),
        Verb::Rbac(args) => return rbac::run(args, &cli.connection.clone().into(), out),
        Verb::Rules(args) => return rules::run(args, out),
        Verb::Version(args) if args.is_local() => return version::client(args, out),
        Verb::Lint(args) if !args.is_live() => {
            let namespace = cli.connection.namespace.as_deref().unwrap_or("default");
            return Box::pin(lint::run(args, namespace, out, None)).await;
        }
        Verb::Install(args) if args.prints_alone() => {
            return Box::pin(install::print_alone(args, cli.connection.namespace, out)).await;
        }
        Verb::Autoscale(_)
        | Verb::Doctor(_)
        | Verb::Down(_)
        | Verb::History(_)
        | Verb::Install(_)
        | Verb::Lint(_)
        | Verb::Override(_)
        | Verb::Plan(_)
        | Verb::Policy(_)
        | Verb::Serve(_)
        | Verb::Set(_)
        | Verb::Snapshot(_)
        | Verb::Status(_)
        | Verb::Switchover(_)
        | Verb::Top(_)
        | Verb::Undo(_)
        | Verb::Uninstall(_)
        | Verb::Up(_)
        | Verb::Upgrade(_)
        | Verb::Verify(_)
        | Verb::Version(_)
        | Verb::Wait(_) => {}
    }
    let manager = cli.connection.field_manager.clone();
    let strict = cli.connection.warnings_as_errors;
    let connection = match (Connection::open(&cli.connection.into()).await, &cli.verb) {
        (Ok(connection), _) => connection,
        (Err(failure), Verb::Version(args)) => {
            // This program's own version is known anyway.
            version::client(args, out)?;
            return Err(failure);
        }
        (Err(failure), _) => return Err(failure),
    };
    let session = Session::new(connection, Arc::clone(out), interruption);
    let session = session.writing_as(manager.as_deref());
    let result = in_session(cli.verb, &session).await;
    session.show_warnings();
    result
        .and_then(|()| if strict { session.warnings.as_error() } else { Ok(()) })
        .map_err(|failure| failure.reached_by(&session.reach))
}

/// Runs a verb in a session that is there already.
pub(crate) async fn in_session(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Autoscale(args) => Box::pin(autoscale::run(session, args)).await,
        Verb::Completion(args) => completion::run(&args, &session.out),
        Verb::Doctor(args) => Box::pin(doctor::run(session, args)).await,
        Verb::Down(args) => Box::pin(down::run(session, args)).await,
        Verb::History(args) => Box::pin(history::run(session, args)).await,
        Verb::Install(args) => Box::pin(install::run(session, args)).await,
        Verb::Lint(args) => {
            Box::pin(lint::run(&args, &session.namespace, &session.out, Some(session))).await
        }
        Verb::Override(args) => Box::pin(overrides::run(session, args)).await,
        Verb::Plan(args) => Box::pin(plan::run(session, args)).await,
        Verb::Policy(args) => Box::pin(policy::run(session, args)).await,
        Verb::Rbac(args) => {
            let namespace = Some(session.namespace.clone());
            rbac::run(&args, &Flags { namespace, ..Flags::default() }, &session.out)
        }
        Verb::Rules(args) => rules::run(&args, &session.out),
        Verb::Serve(args) => {
            args.check()?;
            Err(Failure::usage("serve opens sessions of its own"))
        }
        Verb::Set(args) => Box::pin(set::run(session, args)).await,
        Verb::Snapshot(args) => Box::pin(snapshot::run(session, args)).await,
        Verb::Status(args) => Box::pin(status::run(session, args)).await,
        Verb::Switchover(args) => Box::pin(switchover::run(session, args)).await,
        Verb::Top(args) => Box::pin(top::run(session, args)).await,
        Verb::Undo(args) => Box::pin(undo::run(session, args)).await,
        Verb::Uninstall(args) => Box::pin(uninstall::run(session, args)).await,
        Verb::Upgrade(args) => Box::pin(upgrade::run(session, args)).await,
        Verb::Up(args) => Box::pin(up::run(session, args)).await,
        Verb::Verify(args) => Box::pin(verify::run(session, args)).await,
        Verb::Version(args) => Box::pin(version::run(session, args)).await,
        Verb::Wait(args) => Box::pin(wait::run(session, args)).await,
    }
}

#[cfg(test)]
mod tests;
