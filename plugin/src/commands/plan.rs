//! `plan`: the effect of a change.

use pgscale_guard::Change;
use pgscale_guard::read::AskWhom;

use crate::args::{Shape, Target, count};
use crate::document::ScalePlan;
use crate::error::{Failure, Kind};
use crate::impact::impact;
use crate::plan::{Outcome, Plan};
use crate::session::Session;
use crate::terminal::Format;
use crate::view::plan::render_for_all;

/// Show what a change would do and what every rule says about it.
///
/// Reads the cluster, asks every member for its state, and changes nothing. Beside the verdict it
/// shows what becomes of volumes, resources, quotas, readers and connected clients, and what new
/// members have to copy; -o wide shows everything, and every rule. Ends with 3 where kubectl
/// pgscale would be refused. Where it would move the leader first, a plain write is refused
/// although the plan is allowed, and the plan says so.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale plan acid-a 2
  kubectl pgscale plan acid-a --to 2 --exit-code
  kubectl pgscale plan acid-a --to 5 -o wide
  kubectl pgscale plan acid-a --to 2 -o json | jq '.findings[].rule'")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Number of instances to plan for.
    #[arg(value_name = "N", value_parser = count, allow_negative_numbers = true,
        required_unless_present = "count_by_flag", conflicts_with = "count_by_flag")]
    count: Option<i64>,
    /// The same.
    #[arg(long = "to", value_name = "N", value_parser = count, allow_negative_numbers = true)]
    count_by_flag: Option<i64>,
    /// End with 8 if something would change.
    ///
    /// The code 0 then means that the count is asked for already. Refusals keep their codes.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    shape: Shape,
}

/// Prints the plan, and ends as the rules say.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let cluster = session.cluster(&args.target.name).await?;
    // Clap makes sure that exactly one is there.
    let count = args.count.or(args.count_by_flag).unwrap_or_default();
    let change = Change::of_count(cluster, count);
    let (facts, policies) = session.facts(change, AskWhom::All).await;
    session.show_warnings();
    let plan = Plan::of(&facts, &policies).reached_by(&session.reach);
    let impact = match args.shape.output {
        Format::Name => None,
        Format::Text | Format::Wide | Format::Json | Format::Yaml => {
            impact(session, &facts, &plan).await
        }
    };
    let impact = impact.as_deref();
    match args.shape.output {
        Format::Name => session.out.data(&super::scale::resource(&plan.name))?,
        format @ (Format::Text | Format::Wide) => {
            let wide = format == Format::Wide;
            session.out.data(&render_for_all(&plan, impact, wide, session.out.width))?;
        }
        format @ (Format::Json | Format::Yaml) => {
            session.out.document(format, &ScalePlan::of(&plan, impact))?;
        }
    }
    session.out.note_consent(plan.ways_out().chain(plan.next().iter()));
    match plan.outcome() {
        Outcome::Refused => Err(Failure::new(
            Kind::Refused,
            format!(
                "the change of postgresql {} to {} would be refused",
                plan.cluster(),
                plan.count
            ),
        )),
        Outcome::Ready if args.exit_code => Err(Failure::new(
            Kind::Differs,
            format!("postgresql {} would change to {}", plan.cluster(), plan.count),
        )),
        Outcome::Nothing | Outcome::Ready => Ok(()),
    }
}

#[cfg(test)]
mod tests;
