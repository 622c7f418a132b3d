//! `policy`: what the policies come to, and what a new one would do.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::Policies;
use pgscale_guard::object_ref::Kind;
use pgscale_guard::policy::{Mode, Undecodable, Written, named};
use serde::Serialize;

use crate::args::{Format, Shape, cluster_name};
use crate::document::API_VERSION;
use crate::error::Failure;
use crate::policy::{Allowed, Entry, allowed, entries};
use crate::session::Session;
use crate::view::policy::render;

pub(crate) mod trial;

/// Show the effective policy of a namespace or of one cluster, and where each value comes from.
///
/// All policies that match apply: those of the namespace and those of the platform (`ClusterScalePolicy`). The
/// strictest value of each field decides; the limits of a policy in mode Warn or Audit refuse nothing. Built-in rules
/// follow builtIn of the platform's policies. Without NAME, policies that
/// select among the clusters of the namespace are named and not counted. A cluster called `test` is pg/test here.
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
    /// The cluster: NAME, pg/NAME or postgresql/NAME; what holds for all of the namespace when unset.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    name: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

/// What else can be done with policies.
#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    Test(trial::Args),
}

/// `kind: EffectivePolicy`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct EffectivePolicy {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "EffectivePolicy")))]
    kind: &'static str,
    metadata: Place,
    /// What becomes of findings that rest on no policy's own limit: what the platform asks for.
    pub(crate) mode: Mode,
    /// The policies that match.
    pub(crate) policies: Vec<Heard>,
    /// Policies that hold for some clusters of the namespace only; empty for one cluster.
    pub(crate) selective: Vec<String>,
    /// Every value that is set, and the built-in ones.
    pub(crate) fields: Vec<Entry>,
    /// When freezes and windows allow a change; empty where there are none.
    pub(crate) allowed: Vec<Allowed>,
    /// Policies that may hold here and cannot be decoded, each with the reason.
    pub(crate) undecodable: Vec<Undecoded>,
    /// Why policies could not be read; then a shrink is refused.
    pub(crate) unreadable: Option<String>,
}

/// What an effective policy is about.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Place {
    namespace: String,
    /// The cluster; none for the whole namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A policy that matches.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Heard {
    /// `kind/name`.
    pub(crate) name: String,
    /// Its mode.
    pub(crate) mode: Mode,
}

/// A policy that this version cannot decode.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Undecoded {
    /// `kind/name`.
    pub(crate) name: String,
    /// The fields at fault, and what is wrong with them.
    pub(crate) reason: String,
    /// The command that opens it for correction.
    pub(crate) correction: String,
}

impl EffectivePolicy {
    fn of(
        namespace: &str,
        name: Option<String>,
        written: &Written,
        policies: &Policies,
        now: Timestamp,
    ) -> Self {
        let heard = |(name, mode): &(String, Mode)| Heard { name: name.clone(), mode: *mode };
        let selective = if name.is_some() { Vec::new() } else { selective(written) };
        let undecodable: Vec<&Undecodable> = match name {
            Some(_) => policies.undecodable.iter().collect(),
            // Those for some of its clusters are shown as well.
            None => written.undecodable_here().collect(),
        };
        let undecoded = |policy: &Undecodable| Undecoded {
            name: policy.source.to_string(),
            reason: policy.why.clone(),
            correction: policy.correction(namespace).to_string(),
        };
        Self {
            api_version: API_VERSION,
            kind: "EffectivePolicy",
            metadata: Place { namespace: namespace.to_owned(), name },
            mode: policies.mode,
            policies: policies.matched.iter().map(heard).collect(),
            selective,
            fields: entries(policies, now),
            allowed: allowed(policies, now),
            undecodable: undecodable.into_iter().map(undecoded).collect(),
            unreadable: policies.unreadable.clone(),
        }
    }

    /// `namespace db`, `postgresql db/acid-a`.
    pub(crate) fn place(&self) -> String {
        let Place { namespace, name } = &self.metadata;
        match name {
            Some(name) => format!("postgresql {namespace}/{name}"),
            None => format!("namespace {namespace}"),
        }
    }
}

/// Runs the verb.
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
    let effective = EffectivePolicy::of(namespace, args.name, &written, &policies, session.now());
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
    // Without them nothing that is shown can be relied on.
    let failure = Failure::error(format!("not all policies could be read: {why}"));
    let corrections = policies.undecodable.iter().map(|policy| policy.correction(namespace));
    Err(corrections
        .fold(failure, |failure, correction| failure.hint_to("open it for correction", correction)))
}

/// The policies that hold for every cluster of the namespace.
fn for_all(written: &Written) -> Policies {
    let mut common = written.clone();
    common.own.retain(|policy| policy.spec.holds_for_all());
    common.everywhere.retain(|policy| policy.spec.policy.holds_for_all());
    common.undecodable.retain(Undecodable::holds_for_all);
    common.matching(&std::collections::BTreeMap::new())
}

/// The others, by name.
fn selective(written: &Written) -> Vec<String> {
    let own = written.own.iter().filter(|policy| !policy.spec.holds_for_all());
    let own = own.map(|policy| named(Kind::ScalePolicy, policy.metadata.name.as_deref()));
    let everywhere = written.everywhere.iter();
    let everywhere = everywhere.filter(|policy| !policy.spec.policy.holds_for_all());
    let everywhere =
        everywhere.map(|policy| named(Kind::ClusterScalePolicy, policy.metadata.name.as_deref()));
    let undecodable = written.undecodable_here().filter(|policy| !policy.holds_for_all());
    let undecodable = undecodable.map(|policy| policy.source.clone());
    own.chain(everywhere).chain(undecodable).map(|policy| policy.to_string()).collect()
}

#[cfg(test)]
mod tests;
