//! Requests as command lines: what a caller asks for over HTTP runs as the verb that a person types,
//! so that both cannot differ.

use std::ffi::OsString;
use std::sync::Arc;

use axum::http::StatusCode;
use tokio::runtime::Handle;

use super::operations::{Act, Lines, Printed};
use super::problem::Problem;
use crate::cli::{Cli, Verb, in_session};
use crate::error::Failure;
use crate::session::Session;
use crate::terminal::Output;

/// Reads the verb of a command line.
///
/// # Errors
/// 422, with the reason in clap's words.
pub(crate) fn command(words: impl IntoIterator<Item = String>) -> Result<Verb, Problem> {
    let program = std::iter::once(OsString::from("kubectl-pgscale"));
    let read = Cli::of(program.chain(words.into_iter().map(OsString::from)));
    read.map(|cli| cli.verb).map_err(|error| {
        let text = error.to_string();
        let text = text.split("\n\n").next().unwrap_or_default();
        let text = text.trim().trim_start_matches("error: ");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    })
}

/// Returns an output whose result is kept in `printed`, and whose messages go to nothing.
pub(crate) fn quiet(printed: &Printed) -> Arc<Output> {
    Arc::new(Output::to_writers(printed.clone(), std::io::sink()))
}

/// Returns an output whose messages are events of `act`.
pub(crate) fn speaking(act: &Arc<Act>, printed: &Printed) -> Arc<Output> {
    Arc::new(Output::to_writers(printed.clone(), Lines::of(Arc::clone(act))))
}

/// Runs a verb until its end, also where no caller waits for that any more.
pub(crate) async fn run(verb: Verb, session: Session) -> Result<(), Failure> {
    let work = async move || {
        let result = Box::pin(in_session(verb, &session)).await;
        session.show_warnings();
        result.map_err(|failure| failure.reached_by(&session.reach))
    };
    apart(work).await.unwrap_or_else(Err)
}

/// Does `work` on a thread of its own. The futures of verbs stay on one thread, as they do in a
/// process of their own.
///
/// # Errors
/// It ended by a fault of the program.
pub(crate) async fn apart<F, T>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, Failure>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let runtime = Handle::current();
    let ended = tokio::task::spawn_blocking(move || runtime.block_on(work())).await;
    ended.map_err(|error| Failure::error(format!("ended in the middle: {error}")))
}
