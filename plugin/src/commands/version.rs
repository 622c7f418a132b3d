//! `version`: which program this is.

use serde::Serialize;

use crate::args::{Format, Shape};
use crate::error::Failure;
use crate::output::Output;
use crate::output::document::API_VERSION;

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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Program {
    api_version: &'static str,
    kind: &'static str,
    client: &'static str,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let client = env!("CARGO_PKG_VERSION");
    match args.shape.output {
        Format::Name => out.data("kubectl-pgscale"),
        Format::Text | Format::Wide => out.data(&format!("kubectl-pgscale {client}")),
        format @ (Format::Json | Format::Yaml) => {
            out.document(format, &Program { api_version: API_VERSION, kind: "Version", client })
        }
    }
}
