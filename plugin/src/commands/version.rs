//! `version`: the version of this program.

use crate::args::Shape;
use crate::document::Program;
use crate::error::Failure;
use crate::terminal::{Format, Output};

/// Print the version.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale version
  kubectl pgscale version -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
}

/// Prints the version of this program.
pub(crate) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let client = env!("CARGO_PKG_VERSION");
    match args.shape.output {
        Format::Name => out.data("kubectl-pgscale"),
        Format::Text | Format::Wide => out.data(&format!("kubectl-pgscale {client}")),
        format @ (Format::Json | Format::Yaml) => out.document(format, &Program::of(client)),
    }
}
