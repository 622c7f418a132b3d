//! `rules`: the table of rules, and each rule's page.

use pgscale_guard::remedy::Command;
use pgscale_guard::rules::{RULES, rule};
use serde::Serialize;

use crate::args::{Format, Shape};
use crate::document::API_VERSION;
use crate::error::Failure;
use crate::terminal::Output;
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

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleList<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "RuleList")))]
    kind: &'static str,
    items: Vec<RulePage<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RulePage<'a> {
    id: &'a str,
    title: &'a str,
    fires_on: String,
    default: &'a str,
    page: &'a str,
}

/// Runs the verb.
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
        format @ (Format::Json | Format::Yaml) => {
            let items = chosen
                .into_iter()
                .map(|rule| RulePage {
                    id: rule.id.as_str(),
                    title: rule.title,
                    fires_on: rule.applies.to_string(),
                    default: rule.default,
                    page: rule.page,
                })
                .collect();
            out.document(format, &RuleList { api_version: API_VERSION, kind: "RuleList", items })
        }
    }
}
