//! One module per verb: its flags, its help, and what it does.

use std::sync::Arc;

use crate::args::{Cli, Verb};
use crate::connect::Connection;
use crate::error::Failure;
use crate::session::{Interruption, Session};
use crate::terminal::Output;

pub(crate) mod completion;
pub(crate) mod down;
pub(crate) mod history;
pub(crate) mod overrides;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod rules;
mod scale;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod switchover;
pub(crate) mod undo;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod wait;

/// Runs the verb of `cli`.
pub(crate) async fn run(
    cli: Cli,
    out: &Arc<Output>,
    interruption: Interruption,
) -> Result<(), Failure> {
    // These speak to nobody.
    match &cli.verb {
        Verb::Completion(args) => return completion::run(args, out),
        Verb::Rules(args) => return rules::run(args, out),
        Verb::Version(args) => return version::run(args, out),
        Verb::Down(_)
        | Verb::History(_)
        | Verb::Override(_)
        | Verb::Plan(_)
        | Verb::Policy(_)
        | Verb::Set(_)
        | Verb::Status(_)
        | Verb::Switchover(_)
        | Verb::Undo(_)
        | Verb::Up(_)
        | Verb::Verify(_)
        | Verb::Wait(_) => {}
    }
    let connection = Connection::open(&cli.connection.into()).await?;
    let session = Session::new(connection, Arc::clone(out), interruption);
    let result = in_session(cli.verb, &session).await;
    session.show_warnings();
    result.map_err(|failure| failure.reached_by(&session.reach))
}

/// Runs a verb in a session that is there already.
pub(crate) async fn in_session(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Completion(args) => completion::run(&args, &session.out),
        Verb::Down(args) => Box::pin(down::run(session, args)).await,
        Verb::History(args) => Box::pin(history::run(session, args)).await,
        Verb::Override(args) => Box::pin(overrides::run(session, args)).await,
        Verb::Plan(args) => Box::pin(plan::run(session, args)).await,
        Verb::Policy(args) => Box::pin(policy::run(session, args)).await,
        Verb::Rules(args) => rules::run(&args, &session.out),
        Verb::Set(args) => Box::pin(set::run(session, args)).await,
        Verb::Status(args) => Box::pin(status::run(session, args)).await,
        Verb::Switchover(args) => Box::pin(switchover::run(session, args)).await,
        Verb::Undo(args) => Box::pin(undo::run(session, args)).await,
        Verb::Up(args) => Box::pin(up::run(session, args)).await,
        Verb::Verify(args) => Box::pin(verify::run(session, args)).await,
        Verb::Version(args) => version::run(&args, &session.out),
        Verb::Wait(args) => Box::pin(wait::run(session, args)).await,
    }
}
