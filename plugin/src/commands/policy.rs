//! `policy`: the effective policy, and the effect of a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgscale_guard::Policies;
use pgscale_guard::policy::{Budgets, Undecodable, Written};

use crate::args::{Shape, cluster_name};
use crate::document::{EffectivePolicy, Spent};
use crate::error::Failure;
use crate::session::Session;
use crate::terminal::Format;
use crate::view::policy::render;

mod trial;

/// Show the effective policy of a namespace or of one cluster, and where each value comes from.
///
/// All policies that match apply: those of the namespace and those of the platform
/// (`ClusterScalePolicy`). The strictest value of each field decides; the limits of a policy in
/// mode Warn or Audit refuse nothing. Built-in rules follow builtIn of the platform's policies.
/// Without NAME, policies that select among the clusters of the namespace are named and not
/// counted. A cluster called `test` is pg/test here.
#[derive(clap::Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  kubectl pgscale policy -n db
  kubectl pgscale policy acid-a
  kubectl pgscale policy acid-a -o json | jq '.fields[]'
  kubectl pgscale policy test -f production.yaml      what a new policy would do"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The cluster: NAME, pg/NAME or postgresql/NAME; what holds for all of the namespace when
    /// unset.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    name: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

/// The other commands on policies.
#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    Test(trial::Args),
}

/// Prints the effective policy, or tries new policies.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    if let Some(Action::Test(args)) = args.action {
        return Box::pin(trial::run(session, args)).await;
    }
    let namespace = session.namespace.as_str();
    let (written, policies) = if let Some(name) = &args.name {
        let cluster = session.cluster(name).await?;
        let written = session.reader.written_policies(namespace).await;
        let policies = written.matching(&cluster.labels);
        (written, policies)
    } else {
        let written = session.reader.written_policies(namespace).await;
        let policies = for_all(&written);
        (written, policies)
    };
    session.show_warnings();
    let mut effective =
        EffectivePolicy::of(namespace, args.name, &written, &policies, session.now());
    effective.budget = spent(session, namespace, &policies.budget).await;
    if written.own.is_empty() && written.everywhere.is_empty() && written.unreadable.is_none() {
        effective.installed = session.knows_own_kinds().await;
    }
    match args.shape.output {
        Format::Name => {
            let names: Vec<_> = effective.policies.iter().map(|it| it.name.as_str()).collect();
            if !names.is_empty() {
                session.out.data(&names.join("\n"))?;
            }
        }
        format @ (Format::Json | Format::Yaml) => session.out.document(format, &effective)?,
        format @ (Format::Text | Format::Wide) => {
            let wide = format == Format::Wide;
            session.out.data(&render(&effective, wide, session.out.width))?;
        }
    }
    let Some(why) = effective.unreadable else { return Ok(()) };
    // Without the policies no shown value can be relied on.
    let failure = Failure::error(format!("not all policies could be read: {why}"));
    let corrections = policies.undecodable.iter().map(|policy| policy.correction(namespace));
    Err(corrections
        .fold(failure, |failure, correction| failure.hint_to("open it for correction", correction)))
}

/// Reads what counts against the budgets of a namespace. `None` where there is none.
pub(super) async fn spent(session: &Session, namespace: &str, budgets: &Budgets) -> Option<Spent> {
    let limit = budgets.strictest()?.value;
    let spending = session.reader.spending(namespace, "", budgets).await;
    Some(Spent::of(limit, &spending))
}

/// Returns the policies that hold for every cluster of the namespace.
fn for_all(written: &Written) -> Policies {
    let mut common = written.clone();
    Arc::make_mut(&mut common.own).retain(|policy| policy.spec.holds_for_all());
    Arc::make_mut(&mut common.everywhere).retain(|policy| policy.spec.policy.holds_for_all());
    common.undecodable.retain(Undecodable::holds_for_all);
    Policies { budget: written.budgets(), ..common.matching(&BTreeMap::new()) }
}

#[cfg(test)]
mod tests;
