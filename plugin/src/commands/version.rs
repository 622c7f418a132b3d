//! `version`: the versions of this program and of everything that it works with.

use crate::args::Shape;
use crate::document::Program;
use crate::error::Failure;
use crate::session::Session;
use crate::terminal::{Format, Output};
use crate::versions::{CLIENT, Part, read, skews};
use crate::view::version::render;

/// Print the versions of everything that takes part, and what does not fit together.
///
/// This program, the API server, the webhook with its chart, our definitions, the operators of the
/// clusters in the namespace, Patroni as its members report it, and PostgreSQL as it is declared.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale version
  kubectl pgscale version --client
  kubectl pgscale version -o json")]
pub(crate) struct Args {
    /// Print this program's version, without a request.
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true)]
    client: bool,
    #[command(flatten)]
    shape: Shape,
}

impl Args {
    /// Returns whether no API server is asked.
    pub(crate) fn is_local(&self) -> bool {
        self.client || self.shape.output == Format::Name
    }
}

/// Prints this program's version.
pub(crate) fn client(args: &Args, out: &Output) -> Result<(), Failure> {
    print(args, out, &[])
}

/// Prints all versions.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    if args.is_local() {
        return client(&args, &session.out);
    }
    let parts = read(session).await;
    session.show_warnings();
    print(&args, &session.out, &parts)
}

fn print(args: &Args, out: &Output, parts: &[Part]) -> Result<(), Failure> {
    let skews = skews(parts);
    match args.shape.output {
        Format::Name => out.data("kubectl-pgscale"),
        Format::Text | Format::Wide => out.data(&render(parts, &skews, out.width)),
        format @ (Format::Json | Format::Yaml) => {
            out.document(format, &Program::of(CLIENT, parts, &skews))
        }
    }
}
