//! The documents of `policy` and of `policy test`.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::facts::{Booking, Spending};
use pgscale_guard::object_ref::Kind;
use pgscale_guard::policy::{Mode, Undecodable, Written, named};
use pgscale_guard::{Policies, Seen};
use serde::Serialize;

use super::API_VERSION;
use crate::policy::{Allowed, Entry, allowed, entries};

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
    /// The effect of findings that rest on no policy's own limit: the mode that the platform asks
    /// for.
    pub(crate) mode: Mode,
    /// The kinds of policies are installed. `true` where that could not be read.
    pub(crate) installed: bool,
    /// The policies that match.
    pub(crate) policies: Vec<MatchedPolicy>,
    /// Policies that hold for some clusters of the namespace only. Empty for one cluster.
    pub(crate) selective: Vec<String>,
    /// Every value that is set, and the built-in ones.
    pub(crate) fields: Vec<Entry>,
    /// The times at which freezes and windows allow a change. Empty where there are none.
    pub(crate) allowed: Vec<Allowed>,
    /// What counts against the budget of the namespace. None where no policy sets one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<Spent>,
    /// Policies that may hold here and cannot be decoded, each with the reason.
    pub(crate) undecodable: Vec<Undecoded>,
    /// The reason why policies could not be read. A shrink is refused then.
    pub(crate) unreadable: Option<String>,
}

/// The subject of an effective policy.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Place {
    namespace: String,
    /// The cluster. None for the whole namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// What counts against the budget of a namespace.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spent {
    /// The smallest budget of the strictest mode.
    pub(crate) instances: i64,
    /// The instances that clusters have.
    pub(crate) used: Option<u64>,
    /// The instances that changes may add which were admitted and are not decided yet.
    pub(crate) reserved: Option<u64>,
    /// What is left.
    pub(crate) free: Option<u64>,
    /// The time before which no growth is admitted. None where the ledger has settled.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) settles: Option<Timestamp>,
    /// The reason why the sums could not be read.
    pub(crate) unreadable: Option<String>,
}

/// The budget of one namespace of a list.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct NamespaceBudget {
    /// The namespace.
    pub(crate) namespace: String,
    #[serde(flatten)]
    pub(crate) spent: Spent,
}

impl Spent {
    /// Returns what counts against a budget of so many instances.
    pub(crate) fn of(instances: i64, seen: &Seen<Spending>) -> Self {
        let spent = Self { instances, ..Self::default() };
        match seen {
            Seen::Known(spending) => Self {
                used: Some(spending.used),
                reserved: Some(spending.reserved),
                free: Some(spending.free(instances)),
                settles: match spending.booking {
                    Booking::Settling(until) => Some(until),
                    Booking::Looked | Booking::Granted(_) | Booking::Contended | Booking::Full => {
                        None
                    }
                },
                ..spent
            },
            Seen::Absent => spent,
            Seen::Unreadable(why) => Self { unreadable: Some(why.clone()), ..spent },
        }
    }
}

/// A policy that matches.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct MatchedPolicy {
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
    /// The fields at fault, each with its error.
    pub(crate) reason: String,
    /// The command that opens it for correction.
    pub(crate) correction: String,
}

impl EffectivePolicy {
    /// Returns the document of the effective policy for a namespace, or for the cluster `name` in
    /// it.
    pub(crate) fn of(
        namespace: &str,
        name: Option<String>,
        written: &Written,
        policies: &Policies,
        now: Timestamp,
    ) -> Self {
        let matched =
            |(name, mode): &(String, Mode)| MatchedPolicy { name: name.clone(), mode: *mode };
        let selective = if name.is_some() { Vec::new() } else { selective(written) };
        let undecodable: Vec<&Undecodable> = match name {
            Some(_) => policies.undecodable.iter().collect(),
            // Policies for some of its clusters are shown as well.
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
            installed: true,
            policies: policies.matched.iter().map(matched).collect(),
            selective,
            fields: entries(policies, now),
            allowed: allowed(policies, now),
            budget: None,
            undecodable: undecodable.into_iter().map(undecoded).collect(),
            unreadable: policies.unreadable.clone(),
        }
    }

    /// Returns `namespace db`, or `postgresql db/acid-a`.
    pub(crate) fn place(&self) -> String {
        let Place { namespace, name } = &self.metadata;
        match name {
            Some(name) => format!("postgresql {namespace}/{name}"),
            None => format!("namespace {namespace}"),
        }
    }
}

/// Returns the policies that hold for some clusters of the namespace only, by name.
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

/// `kind: PolicyTest`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyTest {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "PolicyTest")))]
    kind: &'static str,
    /// The clusters, by name.
    pub(crate) items: Vec<Tried>,
}

impl PolicyTest {
    /// Returns the document of the effect of policies on each cluster.
    pub(crate) fn of(items: Vec<Tried>) -> Self {
        Self { api_version: API_VERSION, kind: "PolicyTest", items }
    }
}

/// The effect of the policies on one cluster.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tried {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The effective number of instances.
    pub(crate) instances: i64,
    /// The bounds it breaks now.
    pub(crate) violations: Vec<Violation>,
    /// The verdicts on one instance less and one more.
    pub(crate) changes: Vec<Verdicts>,
    /// The reason why not all policies could be read.
    pub(crate) unreadable: Option<String>,
}

/// A bound that a cluster breaks as it is.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Violation {
    /// The field.
    pub(crate) field: &'static str,
    /// Its value.
    pub(crate) value: String,
    /// The policy, as `kind/name`.
    pub(crate) source: String,
    /// Its mode.
    pub(crate) mode: Mode,
}

/// The verdicts on a change, today and under the new policies.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdicts {
    /// The count it would be.
    pub(crate) to: i64,
    /// The existing policies allow it.
    pub(crate) allowed_today: bool,
    /// The new policies would allow it.
    pub(crate) allowed: bool,
    /// The rules that would refuse it, or else those that would warn.
    pub(crate) rules: Vec<&'static str>,
}
