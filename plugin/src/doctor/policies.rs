//! The policies: can they be read, do they select anything, and can they be kept?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pgscale_guard::Seen;
use pgscale_guard::change::Direction;
use pgscale_guard::object_ref::Kind;
use pgscale_guard::policy::{
    ClusterScalePolicy, Mode, Policies, ScalePolicy, ScalePolicySpec, Undecodable, Written, decode,
};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::remedy::Command;
use pgscale_guard::rules::rule;
use pgscale_guard::selector::{matches, matches_all};
use serde_json::Value;

use super::facts::Facts;
use super::registration::GROW;
use super::shipped::NAME;
use super::{Case, Finding, Object, fails, weakens};

/// The policies of all namespaces, as far as they can be decoded.
#[derive(Default)]
struct All {
    own: Vec<(String, ScalePolicy)>,
    platform: Vec<ClusterScalePolicy>,
    undecodable: Vec<(Option<String>, Undecodable)>,
}

impl All {
    fn of(facts: &Facts) -> Self {
        let mut all = Self::default();
        for value in facts.policies.known().into_iter().flatten() {
            let namespace = text(value, "/metadata/namespace");
            match decode::<ScalePolicy>(value) {
                Ok(policy) => all.own.push((namespace, policy)),
                Err(why) => {
                    let policy = Undecodable::of(Kind::ScalePolicy, value, why);
                    all.undecodable.push((Some(namespace), policy));
                }
            }
        }
        for value in facts.platform.known().into_iter().flatten() {
            match decode::<ClusterScalePolicy>(value) {
                Ok(policy) => all.platform.push(policy),
                Err(why) => {
                    let policy = Undecodable::of(Kind::ClusterScalePolicy, value, why);
                    all.undecodable.push((None, policy));
                }
            }
        }
        all
    }

    /// Returns the policies that may hold for the clusters of a namespace.
    fn written(&self, facts: &Facts, namespace: &str) -> Written {
        let here = |(of, _): &&(String, ScalePolicy)| of == namespace;
        let unread = [facts.policies.unreadable(), facts.platform.unreadable()];
        let unread: Vec<&str> = unread.into_iter().flatten().collect();
        Written {
            own: Arc::new(self.own.iter().filter(here).map(|(_, policy)| policy.clone()).collect()),
            everywhere: Arc::new(self.platform.clone()),
            undecodable: self
                .undecodable
                .iter()
                .filter(|(of, _)| of.as_deref().is_none_or(|of| of == namespace))
                .map(|(_, policy)| policy.clone())
                .collect(),
            labels: facts.labels_of(namespace),
            unreadable: (!unread.is_empty()).then(|| unread.join("; ")),
        }
    }
}

/// Returns the policies that hold for `cluster`.
pub(crate) fn of_cluster(facts: &Facts, cluster: &Postgresql) -> Policies {
    All::of(facts).written(facts, &cluster.namespace).matching(&cluster.labels)
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn own_object(namespace: &str, name: &str) -> Object {
    Object::within("scalepolicy", namespace, name)
}

fn platform_object(name: &str) -> Object {
    Object::global("clusterscalepolicy", name)
}

fn edit(object: &Object) -> Command {
    match &object.namespace {
        Some(namespace) => Command::kubectl(["edit", object.kind, &object.name, "-n", namespace]),
        None => Command::kubectl(["edit", object.kind, &object.name]),
    }
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let all = All::of(case.facts);
    let mut found = undecodable(&all);
    for (namespace, policy) in &all.own {
        let name = policy.metadata.name.clone().unwrap_or_default();
        found.extend(unknown_rules(&own_object(namespace, &name), policy.spec.rules.as_ref()));
    }
    for policy in &all.platform {
        let name = policy.metadata.name.clone().unwrap_or_default();
        let object = platform_object(&name);
        found.extend(unknown_rules(&object, policy.spec.policy.rules.as_ref()));
        let mode = policy.spec.built_in.as_ref().and_then(|built_in| built_in.mode);
        if mode.is_some_and(|mode| mode != Mode::Enforce) {
            found.extend(trial(case, policy, &all));
        }
    }
    found.extend(idle(case, &all));
    found.extend(impossible(case, &all));
    found.extend(budgets(case, &all));
    found
}

/// Looks at budgets that hold only while a webhook answers.
fn budgets(case: &Case<'_>, all: &All) -> Option<Finding> {
    let registration = case.facts.registration.known()?;
    let entries = registration.webhooks.iter().flatten();
    let grows = entries.filter(|entry| entry.name == GROW);
    let open = grows.filter(|entry| entry.failure_policy.as_deref() == Some("Ignore")).count() > 0;
    if !open {
        return None;
    }
    let enforced = |spec: &ScalePolicySpec| {
        spec.budget.as_ref().is_some_and(|budget| budget.instances.is_some())
            && spec.mode.unwrap_or_default() == Mode::Enforce
    };
    let name = |metadata: &ObjectMeta| metadata.name.clone().unwrap_or_default();
    let own = all.own.iter().filter(|(_, policy)| enforced(&policy.spec));
    let own = own.map(|(namespace, policy)| own_object(namespace, &name(&policy.metadata)));
    let platform = all.platform.iter().filter(|policy| enforced(&policy.spec.policy));
    let platform = platform.map(|policy| platform_object(&name(&policy.metadata)));
    let with_budget: Vec<Object> = own.chain(platform).collect();
    let first = with_budget.first()?;
    let named: Vec<String> = with_budget.iter().map(ToString::to_string).collect();
    Some(
        weakens(
            "budget-not-kept",
            format!(
                "growth passes while no webhook answers, also beyond the budget of {}",
                several(&named)
            ),
        )
        .because(
            Object::global("validatingwebhookconfiguration", NAME),
            &format!("webhooks[{GROW}].failurePolicy"),
            "Ignore",
        )
        .because(first.clone(), "spec.budget", "set")
        .cure_to(
            "refuse growth then (growFailurePolicy: Fail in the values of the chart)",
            Command::kubectl(["pgscale", "upgrade", "--set", "growFailurePolicy=Fail"]),
        ),
    )
}

fn undecodable(all: &All) -> Vec<Finding> {
    let finding = |(namespace, policy): &(Option<String>, Undecodable)| {
        let name = policy.source.name().to_owned();
        let object = match namespace {
            Some(namespace) => own_object(namespace, &name),
            None => platform_object(&name),
        };
        weakens(
            "policy-unreadable",
            format!(
                "{object} cannot be decoded: every shrink of the clusters that it selects is \
                 refused"
            ),
        )
        .because(object.clone(), "spec", &policy.why)
        .cure(edit(&object))
    };
    all.undecodable.iter().map(finding).collect()
}

fn unknown_rules<W>(object: &Object, rules: Option<&BTreeMap<String, W>>) -> Option<Finding> {
    let unknown: Vec<&str> =
        rules?.keys().map(String::as_str).filter(|id| rule(id).is_none()).collect();
    (!unknown.is_empty()).then(|| {
        weakens(
            "policy-rule-unknown",
            format!(
                "{object} names rules that do not exist: what it says about them has no effect"
            ),
        )
        .because(object.clone(), "spec.rules", unknown.join(", "))
        .cure_to("see the rules", Command::kubectl(["pgscale", "rules"]))
        .cure(edit(object))
    })
}

/// Looks at a policy that takes the built-in rules out of force.
fn trial(case: &Case<'_>, policy: &ClusterScalePolicy, all: &All) -> Option<Finding> {
    let name = policy.metadata.name.clone().unwrap_or_default();
    let object = platform_object(&name);
    let everywhere =
        matches_all(policy.spec.namespace_selector.as_ref()) && policy.spec.policy.holds_for_all();
    let mode = policy.spec.built_in.as_ref().and_then(|built_in| built_in.mode)?;
    let clusters = case.facts.clusters.known().map(Vec::as_slice).unwrap_or_default();
    let on_trial: Vec<String> = clusters
        .iter()
        .filter(|cluster| {
            let policies = all.written(case.facts, &cluster.namespace).matching(&cluster.labels);
            policies.mode != Mode::Enforce
        })
        .map(|cluster| format!("{}/{}", cluster.namespace, cluster.name))
        .collect();
    if on_trial.is_empty() && !(clusters.is_empty() && everywhere) {
        return None;
    }
    let shown = if on_trial.is_empty() { "every cluster".to_owned() } else { several(&on_trial) };
    Some(
        fails(
            "built-in-on-trial",
            format!("the built-in rules refuse nothing for {shown}: {object} has them on trial"),
        )
        .because(object.clone(), "spec.builtIn.mode", format!("{mode:?}"))
        .cure_to(
            "enforce them (and set builtIn.mode of the chart, where the policy is the chart's)",
            Command::kubectl([
                "patch",
                "clusterscalepolicy",
                &name,
                "--type=merge",
                "-p",
                r#"{"spec":{"builtIn":{"mode":"Enforce"}}}"#,
            ]),
        ),
    )
}

/// Returns at most five of them, and the number of the others.
pub(super) fn several(all: &[String]) -> String {
    let shown: Vec<&str> = all.iter().take(5).map(String::as_str).collect();
    match all.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns the policies that select no cluster.
fn idle(case: &Case<'_>, all: &All) -> Vec<Finding> {
    let Some(clusters) = case.facts.clusters.known() else { return Vec::new() };
    let finding = |object: Object, selector: &'static str| {
        weakens(
            "policy-selects-nothing",
            format!(
                "{object} selects no cluster: it has no effect, most likely by a misspelt label"
            ),
        )
        .because(object.clone(), selector, "no cluster has these labels")
        .cure_to("see the labels", Command::kubectl(["get", "postgresql", "-A", "--show-labels"]))
        .cure(edit(&object))
    };
    let mut found = Vec::new();
    for (namespace, policy) in &all.own {
        let selector = policy.spec.cluster_selector.as_ref();
        let selects = |one: &&Postgresql| {
            one.namespace == *namespace && matches(selector, &one.labels).unwrap_or(true)
        };
        // A policy for clusters that are still to come selects by no label.
        if !matches_all(selector) && !clusters.iter().any(|one| selects(&one)) {
            let name = policy.metadata.name.clone().unwrap_or_default();
            found.push(finding(own_object(namespace, &name), "spec.clusterSelector"));
        }
    }
    for policy in &all.platform {
        let (namespaces, selector) =
            (policy.spec.namespace_selector.as_ref(), policy.spec.policy.cluster_selector.as_ref());
        if matches_all(namespaces) && matches_all(selector) {
            continue;
        }
        let selects = clusters.iter().any(|one| {
            let here = match case.facts.labels_of(&one.namespace) {
                Seen::Known(labels) => matches(namespaces, &labels).unwrap_or(true),
                Seen::Absent | Seen::Unreadable(_) => true,
            };
            here && matches(selector, &one.labels).unwrap_or(true)
        });
        if !selects {
            let name = policy.metadata.name.clone().unwrap_or_default();
            let by = if matches_all(selector) {
                "spec.namespaceSelector"
            } else {
                "spec.clusterSelector"
            };
            found.push(finding(platform_object(&name), by));
        }
    }
    found
}

/// Returns the clusters whose policies no count, or no time, can satisfy.
fn impossible(case: &Case<'_>, all: &All) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut said: BTreeSet<(&'static str, String)> = BTreeSet::new();
    for cluster in case.facts.clusters.known().into_iter().flatten() {
        let policies = all.written(case.facts, &cluster.namespace).matching(&cluster.labels);
        let named = format!("{}/{}", cluster.namespace, cluster.name);
        let object = || Object::within("postgresql", &cluster.namespace, &cluster.name);
        let look = Command::kubectl(["pgscale", "policy", &cluster.name, "-n", &cluster.namespace]);
        let enforced = |mode: Mode| mode == Mode::Enforce;
        let all = policies.min.iter().chain(&policies.floor_min);
        let min = all.filter(|it| enforced(it.mode)).max_by_key(|it| it.value);
        let all = policies.max.iter().chain(&policies.floor_max);
        let max = all.filter(|it| enforced(it.mode)).min_by_key(|it| it.value);
        if let (Some(min), Some(max)) = (min, max)
            && min.value > max.value
            && said.insert(("contradict", format!("{} {}", min.source, max.source)))
        {
            found.push(
                weakens(
                    "policies-contradict",
                    format!(
                        "the policies of {named} leave no count: at least {} and at most {}",
                        min.value, max.value
                    ),
                )
                .because(object(), "instances.min", format!("{} by {}", min.value, min.source))
                .because(object(), "instances.max", format!("{} by {}", max.value, max.source))
                .cure(look.clone()),
            );
        }
        let operator =
            case.facts.operators.get(&(cluster.namespace.clone(), cluster.controller().to_owned()));
        let operator = operator.and_then(Seen::known);
        if let (Some(min), Some(operator)) = (min, operator) {
            let runs = operator.settings.effective(&cluster.with_instances(min.value));
            let most = operator.settings.max_instances;
            if runs < min.value && said.insert(("operator", min.source.to_string())) {
                found.push(
                    weakens(
                        "policy-beyond-operator",
                        format!(
                            "a policy wants at least {} instances of {named}, and its operator \
                             runs at most {most}",
                            min.value
                        ),
                    )
                    .because(object(), "instances.min", format!("{} by {}", min.value, min.source))
                    .because(
                        Object::within(
                            "deployment",
                            operator.deployment.namespace.clone().unwrap_or_default(),
                            operator.deployment.name(),
                        ),
                        "max_instances",
                        most,
                    )
                    .cure(look.clone()),
                );
            }
        }
        let calendars = !policies.windows.is_empty() || !policies.freezes.is_empty();
        for (way, words) in [(Direction::Down, "shrink"), (Direction::Up, "grow")] {
            if calendars
                && policies.unreadable.is_none()
                && policies.next_allowed(case.facts.now, way).is_none()
                && said.insert(("calendar", format!("{words} {}", policies.names().join(","))))
            {
                found.push(
                    weakens(
                        "calendar-never-opens",
                        format!(
                            "windows and freezes of its policies let {named} {words} at no time"
                        ),
                    )
                    .because(object(), "windows, freeze", policies.names().join(", "))
                    .cure(look.clone()),
                );
            }
        }
    }
    found
}
