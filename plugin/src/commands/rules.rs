//! `rules`: the table of rules, and each rule's page.

use pgscale_guard::remedy::Command;
use pgscale_guard::rules::{RULES, rule};

use crate::args::Shape;
use crate::document::RuleList;
use crate::error::Failure;
use crate::terminal::{Format, Output};
use crate::view::rules as text;

/// Print the table of rules, or one rule's page.
///
/// The same rules judge in this command and in the admission webhook.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale rules
  kubectl pgscale rules leader-cannot-move")]
pub(crate) struct Args {
    /// One rule's id.
    #[arg(value_name = "RULE")]
    id: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

/// Prints the table of rules, or the page of one rule.
pub(crate) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let chosen = match &args.id {
        None => RULES.iter().collect(),
        Some(id) => vec![rule(id).ok_or_else(|| {
            Failure::usage(format!("there is no rule {id:?}"))
                .hint_to("see them all", Command::kubectl(["pgscale", "rules"]))
        })?],
    };
    match args.shape.output {
        Format::Name => {
            let ids: Vec<&str> = chosen.iter().map(|rule| rule.id.as_str()).collect();
            out.data(&ids.join("\n"))
        }
        Format::Text | Format::Wide => match (&args.id, chosen.as_slice()) {
            (Some(_), [rule]) => out.data(&text::page(rule, out.width)),
            (_, rules) => {
                out.data(&text::list(rules, args.shape.output == Format::Wide, out.width))
            }
        },
        format @ (Format::Json | Format::Yaml) => out.document(format, &RuleList::of(&chosen)),
    }
}
