//! The registration at the API server: which writes it sends to the webhook, and what it does when
//! the webhook does not answer.
//!
//! Tests, demo, chart and installation all use this one source. Every write of the count goes to
//! exactly one entry, so that each fails in its own way. The API server refuses a shrink that the
//! webhook could not check. It lets growth pass, unless the installation says otherwise. For a
//! StatefulSet that is scaled past its operator, the webhook only warns.
//!
//! The API server evaluates the conditions for every write of a `postgresql`, whatever it looks
//! like, and an error in one under `failurePolicy: Fail` refuses the write. So everything in them
//! is optional, and a missing count is 0, as it is to the operator. The API server compiles them
//! when this configuration is stored.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pgscale_guard::operator::Account;
use pgscale_guard::postgresql::{CONTROLLER_ANNOTATION, GROUP, PLURAL, STANDBY_VARIABLES, VERSION};

use crate::break_glass::in_break_glass;

/// Name of the configuration.
pub(crate) const NAME: &str = "pgscale.dev";
/// Path that the API server sends reviews to: the first part of it, where there is a secret part.
pub(crate) const PATH: &str = "/validate";
/// The time that the API server waits for an answer, in seconds.
const TIMEOUT: i32 = 5;
/// The same for direct writes of a StatefulSet, which the webhook only warns about. They must not
/// wait long for it.
const DIRECT_SCALE_TIMEOUT: i32 = 1;
/// The condition that a write of replicas changes their number: of a `Scale`, or of a StatefulSet.
const OTHER_COUNT: (&str, &str) =
    ("other-count", "object.?spec.?replicas.orValue(0) != oldObject.?spec.?replicas.orValue(0)");

/// The values that the configuration depends on.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// The address of the webhook.
    pub(crate) target: Target,
    /// The authority that signed the webhook's certificate, PEM; left out where something else
    /// fills it in.
    pub(crate) authority: Option<Vec<u8>>,
    /// The secret part of the path; left out where the webhook itself fills it in.
    pub(crate) token: Option<String>,
    /// The accounts that operators run under, where the platform lists them. Only these may scale
    /// Spilo's StatefulSets without a review. For other accounts the webhook finds out whether they
    /// are the operator's.
    pub(crate) operator_accounts: Vec<Account>,
    /// The choice for growth while the webhook does not answer.
    pub(crate) growth: FailurePolicy,
}

/// The answer of the API server to a write that it could not send to the webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FailurePolicy {
    /// It refuses the write.
    Fail,
    /// It lets the write pass.
    #[default]
    Ignore,
}

impl FailurePolicy {
    /// Returns the word for it in a registration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
    }
}

/// The address at which the API server reaches the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port; 443 where none is given.
        port: Option<u16>,
    },
    /// An `https` URL without a path.
    Url(String),
}

impl Target {
    /// Reads `NAMESPACE/NAME[:PORT]`.
    pub(crate) fn service(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAMESPACE/NAME or NAMESPACE/NAME:PORT");
        let (namespace, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (name, port) = match rest.split_once(':') {
            None => (rest, None),
            Some((name, port)) => (name, Some(port.parse().map_err(|_| wrong())?)),
        };
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return Err(wrong());
        }
        Ok(Self::Service { namespace: namespace.to_owned(), name: name.to_owned(), port })
    }

    /// Reads `https://HOST[:PORT]`.
    pub(crate) fn url(text: &str) -> Result<Self, String> {
        let base = text.strip_suffix('/').unwrap_or(text);
        match base.strip_prefix("https://") {
            Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@']) => {
                Ok(Self::Url(base.to_owned()))
            }
            _ => Err(format!("{text:?} is not https://HOST or https://HOST:PORT")),
        }
    }
}

/// Returns the path of reviews with this secret part.
pub(crate) fn path(token: &str) -> String {
    format!("{PATH}/{token}")
}

/// Returns the configuration to store.
pub(crate) fn configuration(registration: &Registration) -> ValidatingWebhookConfiguration {
    let entry = |name, subresource: &str, operations: &[&str], policy, when: (&str, &str)| {
        let resources = [format!("{PLURAL}{subresource}")];
        let writes = writes((GROUP, VERSION), operations, &resources);
        ValidatingWebhook {
            failure_policy: Some(FailurePolicy::as_str(policy).to_owned()),
            match_conditions: Some(vec![not_break_glass(), condition(when)]),
            timeout_seconds: Some(TIMEOUT),
            ..webhook(registration, name, writes)
        }
    };
    let relimited = relimited();
    let (old, new) = (count("oldObject"), count("object"));
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        webhooks: Some(vec![
            // Another operator, or limits that hold from now on, may mean fewer instances, whatever
            // the number says. Such a change is judged as a shrink.
            entry(
                "shrink",
                "",
                &["UPDATE"],
                FailurePolicy::Fail,
                ("fewer-instances-or-other-limits", &format!("{new} < {old} || {relimited}")),
            ),
            entry(
                "grow",
                "",
                &["CREATE", "UPDATE"],
                registration.growth,
                (
                    "created-or-more-instances",
                    &format!("request.operation == 'CREATE' || ({new} > {old} && !({relimited}))"),
                ),
            ),
            // The resource has no such subresource today. Where it is enabled, a write of it
            // bypasses the two entries above.
            entry("scale", "/scale", &["UPDATE"], FailurePolicy::Fail, OTHER_COUNT),
            direct_scale(registration),
        ]),
    }
}

/// Returns the entry for writes of the replicas of Spilo's StatefulSets by anyone but an operator.
///
/// The webhook never refuses them. A StatefulSet that cannot be written because the webhook is away
/// would be an outage that pgscale made.
fn direct_scale(registration: &Registration) -> ValidatingWebhook {
    let operators: Vec<String> = registration.operator_accounts.iter().map(Account::user).collect();
    let operators = list(operators.iter().map(String::as_str));
    let not_the_operator = format!("!(request.userInfo.?username.orValue('') in {operators})");
    let conditions = [
        ("not-the-operator", not_the_operator.as_str()),
        // A `Scale` has no labels of its own, only the selector of its pods.
        (
            "of-spilo",
            "request.?subResource.orValue('') == 'scale' \
             ? 'application=spilo' in object.?status.?selector.orValue('').split(',') \
             : object.?metadata.?labels[?'application'].orValue('') == 'spilo' \
             || object.?metadata.?ownerReferences.orValue([]).exists(owner, owner.?kind.orValue('') == 'postgresql')",
        ),
        OTHER_COUNT,
    ];
    let resources = ["statefulsets".to_owned(), "statefulsets/scale".to_owned()];
    ValidatingWebhook {
        failure_policy: Some(FailurePolicy::Ignore.as_str().to_owned()),
        match_conditions: Some(
            std::iter::once(not_break_glass()).chain(conditions.map(condition)).collect(),
        ),
        timeout_seconds: Some(DIRECT_SCALE_TIMEOUT),
        ..webhook(registration, "direct-scale", writes(("apps", "v1"), &["UPDATE"], &resources))
    }
}

/// Returns an entry with the fields that all entries have in common.
fn webhook(
    registration: &Registration,
    name: &str,
    writes: RuleWithOperations,
) -> ValidatingWebhook {
    ValidatingWebhook {
        name: format!("{name}.{NAME}"),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(registration),
        match_policy: Some("Equivalent".to_owned()),
        rules: Some(vec![writes]),
        side_effects: "NoneOnDryRun".to_owned(),
        ..ValidatingWebhook::default()
    }
}

fn writes(
    (group, version): (&str, &str),
    operations: &[&str],
    resources: &[String],
) -> RuleWithOperations {
    RuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec![version.to_owned()]),
        operations: Some(operations.iter().map(ToString::to_string).collect()),
        resources: Some(resources.to_vec()),
        scope: Some("Namespaced".to_owned()),
    }
}

/// Returns the address of the webhook.
///
/// The path of a Service is left out where the webhook itself writes it. So neither an upgrade nor
/// another controller puts another one there.
fn client_config(registration: &Registration) -> WebhookClientConfig {
    let path = registration.token.as_deref().map(path);
    let (service, url) = match &registration.target {
        Target::Service { namespace, name, port } => {
            let service = ServiceReference {
                namespace: namespace.clone(),
                name: name.clone(),
                path,
                port: port.map(i32::from),
            };
            (Some(service), None)
        }
        Target::Url(base) => {
            (None, Some(format!("{base}{}", path.unwrap_or_else(|| PATH.to_owned()))))
        }
    };
    WebhookClientConfig { ca_bundle: registration.authority.clone().map(ByteString), service, url }
}

fn not_break_glass() -> MatchCondition {
    condition(("not-break-glass", &format!("!({})", in_break_glass())))
}

fn condition((name, expression): (&str, &str)) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression: expression.to_owned() }
}

/// Returns the expression of a list of texts that need no escaping.
fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(|text| format!("'{text}'")).collect();
    format!("[{}]", texts.join(", "))
}

/// Returns the expression of the spec of `object`; of an empty one where it is no map.
///
/// Such objects do not pass the operator's own schema, but they may be older than the schema.
fn spec(object: &str) -> String {
    format!("{object}.?spec.optMap(s, type(s) == map ? s : {{}})")
}

/// Returns the expression of the count of `object`; of 0 where there is none, or it is no number.
///
/// A client may write `3.0`. The schema of the operator takes it for a whole number and the API
/// server stores 3, but here it is a double (`isFloatInt`, kube-openapi). The conversion of a
/// double larger than an int64 would be an error, and no schema lets one in.
pub(crate) fn count(object: &str) -> String {
    let spec = spec(object);
    format!(
        "{spec}.?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0)"
    )
}

/// The most annotations, or variables in `spec.env`, that the conditions look through. A write with
/// more, or of a cluster with more, is judged whatever it changes.
///
/// The API server ends an expression that costs too much (`PerCallLimit`, apiserver/pkg/apis/cel/config.go).
/// Then it does not call a webhook whose failure is ignored, and refuses the write for one whose failure is
/// not. A stored object has at most 32,000 annotations, which have 256 KiB. They cost less than that.
const MANY: u32 = 10_000;

/// Returns the expression that is true when other limits may hold after the write, whatever the
/// number says, or when there is too much to find that out.
///
/// Three changes count:
/// - the annotation by which a cluster chooses its operator,
/// - any annotation that is or was `"true"`, because the key by which a cluster lifts the limits is
///   a setting of its operator,
/// - the declaration of a standby, by `spec.standby` or by a variable in `spec.env`, because no
///   limit raises the one instance of a standby.
fn relimited() -> String {
    let value =
        |object: &str, key: &str| format!("{object}.?metadata.?annotations[?{key}].orValue('')");
    let names = list(STANDBY_VARIABLES);
    let variables = |object: &str| {
        format!("{}.?env.optMap(e, type(e) == list ? e : []).orValue([])", spec(object))
    };
    let standby = |object: &str| {
        format!(
            "({}.?standby.hasValue() || {}.exists(v, type(v) == map && v.?name.orValue('') in {names}))",
            spec(object),
            variables(object)
        )
    };
    let annotations = |object: &str| format!("{object}.?metadata.?annotations.orValue({{}})");
    let only = |one: &str, other: &str| {
        format!(
            "{}.exists(k, {} == 'true' && {} != 'true')",
            annotations(one),
            value(one, "k"),
            value(other, "k")
        )
    };
    let (old, new) = ("oldObject", "object");
    let controller = format!("'{CONTROLLER_ANNOTATION}'");
    format!(
        "{}.size() > {MANY} || {}.size() > {MANY} || {}.size() > {MANY} || {} != {} || {} || {} || {} != {}",
        annotations(new),
        variables(new),
        variables(old),
        value(new, &controller),
        value(old, &controller),
        only(old, new),
        only(new, old),
        standby(new),
        standby(old)
    )
}

#[cfg(test)]
mod tests;
