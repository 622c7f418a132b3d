//! What the API server is told about us: which writes to send, and what to do when we do not answer.
//!
//! One source for tests, demo, chart and installation. Every write of the count goes to exactly one entry,
//! so that each fails the right way: a shrink nobody could check is refused, growth passes unless the
//! installation says otherwise, and a StatefulSet that is scaled past its operator is only told of.
//!
//! The conditions are evaluated for every write of a `postgresql`, whatever it looks like, and an error in
//! one under `failurePolicy: Fail` refuses the write. So everything is optional in them, and a missing count
//! is 0, as it is to the operator. They are compiled when this configuration is stored.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook,
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt as _;
use pgscale_guard::operator::Account;
use pgscale_guard::overrides::ScaleOverride;
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy};
use pgscale_guard::postgresql::{CONTROLLER_ANNOTATION, GROUP, PLURAL, STANDBY_VARIABLES, VERSION};

use crate::admit::PATH;

/// Members of this group pass unjudged: the way in when the webhook is down or wrong. Nobody is a member;
/// who may impersonate it is decided by RBAC (`rbac --break-glass-user`).
pub(crate) const BREAK_GLASS: &str = "pgscale:break-glass";
/// Name of the configuration.
pub(crate) const NAME: &str = "pgscale.dev";
/// How long the API server waits for an answer, in seconds.
const TIMEOUT: i32 = 5;
/// The same for what is only warned of, and is not ours: nobody shall wait for it.
const SIDE_DOOR_TIMEOUT: i32 = 1;
/// The condition that a write of replicas is one of their number: of a `Scale`, or of a StatefulSet.
const OTHER_COUNT: (&str, &str) =
    ("other-count", "object.?spec.?replicas.orValue(0) != oldObject.?spec.?replicas.orValue(0)");
/// What the configuration depends on.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// Where the API server reaches us.
    pub(crate) target: Target,
    /// The authority behind our certificate, PEM; left out where something else fills it in.
    pub(crate) authority: Option<Vec<u8>>,
    /// The accounts that operators run under, where the platform lists them: they alone may scale a StatefulSet of Spilo
    /// without being asked about. Of others the webhook finds out which is the operator.
    pub(crate) operator_accounts: Vec<Account>,
    /// What becomes of growth while we do not answer.
    pub(crate) growth: FailurePolicy,
}

/// What the API server does with a write it could not ask us about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum FailurePolicy {
    /// It refuses it.
    Fail,
    /// It lets it pass.
    #[default]
    Ignore,
}

impl FailurePolicy {
    fn spelled(self) -> String {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
        .to_owned()
    }
}

/// Where the API server reaches us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A Service, port 443 unless said otherwise.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
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

/// The configuration to store.
pub(crate) fn configuration(registration: &Registration) -> ValidatingWebhookConfiguration {
    let entry = |name, subresource: &str, operations: &[&str], policy, when: (&str, &str)| {
        let resources = [format!("{PLURAL}{subresource}")];
        let writes = writes((GROUP, VERSION), operations, &resources);
        ValidatingWebhook {
            failure_policy: Some(FailurePolicy::spelled(policy)),
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
            // A change of who owns the cluster or of whether the limits hold may mean fewer instances,
            // whatever the number says: it is judged as a shrink.
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
            // The resource has no such subresource today; where somebody enables it, this is the way past
            // the two entries above.
            entry("scale", "/scale", &["UPDATE"], FailurePolicy::Fail, OTHER_COUNT),
            direct_scale(registration),
        ]),
    }
}

/// Writes of the replicas of Spilo's StatefulSets by anyone but an operator. They are not ours to refuse, and
/// a StatefulSet that cannot be written because we are away would be an outage of our making.
fn direct_scale(registration: &Registration) -> ValidatingWebhook {
    let operators: Vec<String> = registration.operator_accounts.iter().map(Account::user).collect();
    let operators = list(operators.iter().map(String::as_str));
    let not_the_operator = format!("!(request.userInfo.?username.orValue('') in {operators})");
    let conditions = [
        ("not-the-operator", not_the_operator.as_str()),
        // A `Scale` has no labels of its own, only the selector of the pods behind it.
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
        failure_policy: Some(FailurePolicy::Ignore.spelled()),
        match_conditions: Some(
            std::iter::once(not_break_glass()).chain(conditions.map(condition)).collect(),
        ),
        timeout_seconds: Some(SIDE_DOOR_TIMEOUT),
        ..webhook(registration, "side-door", writes(("apps", "v1"), &["UPDATE"], &resources))
    }
}

/// What all entries have in common.
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

/// The definitions of our own resources, as they are shipped.
pub(crate) fn definitions() -> Vec<CustomResourceDefinition> {
    vec![ScalePolicy::crd(), ClusterScalePolicy::crd(), ScaleOverride::crd()]
}

fn client_config(registration: &Registration) -> WebhookClientConfig {
    let (service, url) = match &registration.target {
        Target::Service { namespace, name, port } => {
            let service = ServiceReference {
                namespace: namespace.clone(),
                name: name.clone(),
                path: Some(PATH.to_owned()),
                port: port.map(i32::from),
            };
            (Some(service), None)
        }
        Target::Url(base) => (None, Some(format!("{base}{PATH}"))),
    };
    WebhookClientConfig { ca_bundle: registration.authority.clone().map(ByteString), service, url }
}

fn not_break_glass() -> MatchCondition {
    condition(("not-break-glass", &format!("!({})", in_break_glass())))
}

/// Returns the condition that the writer is in the group that passes.
pub(crate) fn in_break_glass() -> String {
    format!("'{BREAK_GLASS}' in request.userInfo.?groups.orValue([])")
}

fn condition((name, expression): (&str, &str)) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression: expression.to_owned() }
}

/// A list of texts that need no escaping.
fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.into_iter().map(|text| format!("'{text}'")).collect();
    format!("[{}]", texts.join(", "))
}

/// The spec of `object`, and an empty one where it is no map. Such objects do not pass the operator's own
/// schema, but they may be older than it.
fn spec(object: &str) -> String {
    format!("{object}.?spec.optMap(s, type(s) == map ? s : {{}})")
}

/// The count of `object`, and 0 where there is none to be compared, or no number.
///
/// A client may write `3.0`: the schema of the operator takes it for a whole number, it is stored as 3, and here it is a
/// double (`isFloatInt`, kube-openapi). A larger one than an int64 would be an error, and no schema lets it in.
fn count(object: &str) -> String {
    let spec = spec(object);
    format!(
        "{spec}.?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0)"
    )
}

/// More annotations than this, or variables in `spec.env`, and a write is judged whatever it changes. The API server
/// ends an expression that costs too much, and then a webhook that may be ignored is not called.
const MANY: u32 = 10_000;

/// True when something changes that decides which limits hold whatever the number says, or when there is too much to find
/// that out: the annotation by which a
/// cluster chooses its operator; any annotation that is or was `"true"`, because the key by which a cluster lifts the
/// limits is a setting of its operator; and that it is a standby, by `spec.standby` or by a variable in `spec.env`,
/// whose one instance no limit raises.
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
        "{}.size() > {MANY} || {}.size() > {MANY} || {} != {} || {} || {} || {} != {}",
        annotations(new),
        variables(new),
        value(new, &controller),
        value(old, &controller),
        only(old, new),
        only(new, old),
        standby(new),
        standby(old)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;

    fn registration() -> Registration {
        Registration {
            target: Target::url("https://10.0.0.1:9443/").unwrap(),
            authority: Some(b"PEM".to_vec()),
            operator_accounts: vec!["default/postgres-operator".parse().unwrap()],
            growth: FailurePolicy::default(),
        }
    }

    #[test]
    fn every_entry_fails_its_own_way() {
        let entries = configuration(&registration()).webhooks.unwrap();
        let shape: Vec<_> = entries
            .iter()
            .map(|entry| {
                let rule = &entry.rules.as_ref().unwrap()[0];
                let (operations, resources) = (rule.operations.clone(), rule.resources.clone());
                let policy = entry.failure_policy.as_deref().unwrap();
                (
                    entry.name.as_str(),
                    operations.unwrap().join("+"),
                    resources.unwrap().join("+"),
                    policy,
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                ("shrink.pgscale.dev", "UPDATE".into(), "postgresqls".into(), "Fail"),
                ("grow.pgscale.dev", "CREATE+UPDATE".into(), "postgresqls".into(), "Ignore"),
                ("scale.pgscale.dev", "UPDATE".into(), "postgresqls/scale".into(), "Fail"),
                (
                    "side-door.pgscale.dev",
                    "UPDATE".into(),
                    "statefulsets+statefulsets/scale".into(),
                    "Ignore"
                ),
            ]
        );
        for entry in &entries {
            assert_eq!(entry.side_effects, "NoneOnDryRun");
            assert_eq!(entry.match_policy.as_deref(), Some("Equivalent"));
            let seconds = if entry.name.starts_with("side-door") { 1 } else { 5 };
            assert_eq!(entry.timeout_seconds, Some(seconds));
            assert_eq!(entry.client_config.url.as_deref(), Some("https://10.0.0.1:9443/validate"));
            let conditions = entry.match_conditions.as_ref().unwrap();
            assert!(conditions[0].expression.contains("'pgscale:break-glass' in"));
        }
    }

    #[test]
    fn growth_fails_where_that_is_asked_for_and_nothing_else_changes() {
        let strict = Registration { growth: FailurePolicy::Fail, ..registration() };
        let policies = |registration: &Registration| -> Vec<String> {
            let entries = configuration(registration).webhooks.unwrap();
            entries.into_iter().filter_map(|entry| entry.failure_policy).collect()
        };
        assert_eq!(policies(&strict), ["Fail", "Fail", "Fail", "Ignore"]);
        assert_eq!(policies(&registration()), ["Fail", "Ignore", "Fail", "Ignore"]);
    }

    #[test]
    fn a_write_that_makes_a_standby_by_the_environment_is_judged() {
        let entries = configuration(&registration()).webhooks.unwrap();
        for entry in &entries[..2] {
            let condition = &entry.match_conditions.as_ref().unwrap()[1].expression;
            for name in STANDBY_VARIABLES {
                // Before the write and after it.
                let mentions = condition.matches(&format!("'{name}'")).count();
                assert_eq!(mentions, 2, "{}: {name}", entry.name);
            }
        }
    }

    #[test]
    fn the_conditions_read_as_written() {
        let entries = configuration(&registration()).webhooks.unwrap();
        let conditions: Vec<_> = entries
            .iter()
            .flat_map(|entry| entry.match_conditions.as_ref().unwrap().iter().skip(1))
            .map(|condition| condition.expression.as_str())
            .collect();
        insta::assert_snapshot!(conditions.join("\n\n"), @"
        object.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) < oldObject.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) || object.?metadata.?annotations.orValue({}).size() > 10000 || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).size() > 10000 || object.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') != oldObject.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') || oldObject.?metadata.?annotations.orValue({}).exists(k, oldObject.?metadata.?annotations[?k].orValue('') == 'true' && object.?metadata.?annotations[?k].orValue('') != 'true') || object.?metadata.?annotations.orValue({}).exists(k, object.?metadata.?annotations[?k].orValue('') == 'true' && oldObject.?metadata.?annotations[?k].orValue('') != 'true') || (object.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX'])) != (oldObject.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || oldObject.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX']))

        request.operation == 'CREATE' || (object.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) > oldObject.?spec.optMap(s, type(s) == map ? s : {}).?numberOfInstances.optMap(n, type(n) == int ? n : type(n) == double && n < 1e10 && n > -1e10 ? int(n) : 0).orValue(0) && !(object.?metadata.?annotations.orValue({}).size() > 10000 || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).size() > 10000 || object.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') != oldObject.?metadata.?annotations[?'acid.zalan.do/controller'].orValue('') || oldObject.?metadata.?annotations.orValue({}).exists(k, oldObject.?metadata.?annotations[?k].orValue('') == 'true' && object.?metadata.?annotations[?k].orValue('') != 'true') || object.?metadata.?annotations.orValue({}).exists(k, object.?metadata.?annotations[?k].orValue('') == 'true' && oldObject.?metadata.?annotations[?k].orValue('') != 'true') || (object.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || object.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX'])) != (oldObject.?spec.optMap(s, type(s) == map ? s : {}).?standby.hasValue() || oldObject.?spec.optMap(s, type(s) == map ? s : {}).?env.optMap(e, type(e) == list ? e : []).orValue([]).exists(v, type(v) == map && v.?name.orValue('') in ['STANDBY_WALE_S3_PREFIX', 'STANDBY_WALE_GS_PREFIX', 'STANDBY_WALE_GSC_PREFIX', 'STANDBY_WALE_SWIFT_PREFIX']))))

        object.?spec.?replicas.orValue(0) != oldObject.?spec.?replicas.orValue(0)

        !(request.userInfo.?username.orValue('') in ['system:serviceaccount:default:postgres-operator'])

        request.?subResource.orValue('') == 'scale' ? 'application=spilo' in object.?status.?selector.orValue('').split(',') : object.?metadata.?labels[?'application'].orValue('') == 'spilo' || object.?metadata.?ownerReferences.orValue([]).exists(owner, owner.?kind.orValue('') == 'postgresql')

        object.?spec.?replicas.orValue(0) != oldObject.?spec.?replicas.orValue(0)
        ");
    }

    #[test]
    fn a_service_may_name_its_port() {
        let service = |port| Target::Service { namespace: "ns".into(), name: "name".into(), port };
        assert_eq!(Target::service("ns/name"), Ok(service(None)));
        assert_eq!(Target::service("ns/name:8443"), Ok(service(Some(8443))));
        for wrong in ["name", "ns/", "/name", "ns/name:", "ns/name:x", "a/b/c"] {
            assert!(Target::service(wrong).is_err(), "{wrong}");
        }
        for wrong in ["http://h", "h:9443", "https://", "https://h/path", "https://u@h"] {
            assert!(Target::url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_but_an_account_gets_into_an_expression() {
        for wrong in ["", "a'] || true", "a b", "a/b'] || true"] {
            assert!(wrong.parse::<Account>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_shipped_definitions_are_the_present_ones() {
        for definition in definitions() {
            let name = definition.metadata.name.clone().unwrap();
            let path = format!("charts/pgscale/crds/{name}.yaml");
            let present = crate::yaml(&definition).unwrap();
            generated::check(&path, &present, |stored, present| stored == present);
        }
    }
}
