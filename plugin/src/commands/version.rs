//! `version`: which program this is.

use serde::Serialize;

use crate::args::{Format, Shape};
use crate::document::API_VERSION;
use crate::error::Failure;
use crate::terminal::Output;

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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Program {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "Version")))]
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
