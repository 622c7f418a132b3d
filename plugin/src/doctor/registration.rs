//! The registration: which writes the API server sends, where to, and what it does without an
//! answer.
//!
//! Each entry is compared with the one that the chart ships. The API server adds defaults
//! (`SetDefaults_ValidatingWebhook`, pkg/apis/admissionregistration/v1/defaults.go), and the
//! webhook writes `caBundle` and path.

use k8s_openapi::api::admissionregistration::v1::{RuleWithOperations, ValidatingWebhook};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pgscale_guard::Seen;
use pgscale_guard::remedy::Command;
use pgscale_guard::selector::matches_all;
use serde::Serialize;
use serde_json::{Value, json};

use super::shipped::{NAME, WEBHOOK};
use super::{Case, Finding, Object, fails, weakens, workload};

mod address;
mod scope;

/// The entry whose failure policy is a choice of the platform.
pub(super) const GROW: &str = "grow.pgscale.dev";
/// The entry that only warns.
const DIRECT: &str = "direct-scale.pgscale.dev";
/// The argument of the webhook with that choice (`deployment.yaml` of the chart).
const GROW_ARGUMENT: &str = "--grow-failure-policy=";
/// The condition that differs with the operators' accounts.
const OPERATORS: &str = "not-the-operator";

fn object() -> Object {
    Object::global("validatingwebhookconfiguration", NAME)
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    match &case.facts.registration {
        // `unread` says it.
        Seen::Unreadable(_) => Vec::new(),
        Seen::Absent => vec![missing(case)],
        Seen::Known(live) => {
            let mut found = scope::owner(case, live);
            let entries = live.webhooks.as_deref().unwrap_or_default();
            for shipped in case.shipped.entries() {
                match entries.iter().enumerate().find(|(_, live)| live.name == shipped.name) {
                    None => found.push(entry_missing(case, shipped)),
                    Some((at, live)) => found.extend(entry(case, at, live, shipped)),
                }
            }
            let known = |live: &ValidatingWebhook| {
                case.shipped.entries().iter().any(|shipped| shipped.name == live.name)
            };
            for (at, foreign) in entries.iter().enumerate().filter(|(_, live)| !known(live)) {
                found.push(
                    weakens(
                        "entry-foreign",
                        format!(
                            "the entry {} is none of the chart's: {WEBHOOK} may refuse what it is \
                             sent by it",
                            foreign.name
                        ),
                    )
                    .because(object(), "webhooks", &foreign.name)
                    .cure(remove(at, &foreign.name)),
                );
            }
            found.extend(scope::exempt(case, entries));
            found
        }
    }
}

fn missing(case: &Case<'_>) -> Finding {
    let finding = fails(
        "registration-missing",
        "there is no registration: the API server asks no webhook, and every change passes \
         unjudged",
    )
    .of(object(), "not there");
    if case.facts.deployment().known().is_some() {
        return finding.cured(case.restore());
    }
    finding.cure_to("install the chart", workload::install("pgscale-system"))
}

fn entry_missing(case: &Case<'_>, shipped: &ValidatingWebhook) -> Finding {
    let only_warns = shipped.name == DIRECT;
    let text = format!(
        "the entry {} is missing: {}",
        shipped.name,
        if only_warns {
            "nothing warns about a StatefulSet that is scaled past its operator"
        } else {
            "the API server sends no review for its writes, and they pass unjudged"
        }
    );
    let finding =
        if only_warns { weakens("entry-missing", text) } else { fails("entry-missing", text) };
    finding.because(object(), "webhooks", format!("no {}", shipped.name)).cured(case.restore())
}

/// Returns the command that sets one field of an entry, if the entry is still at this place.
fn set(at: usize, name: &str, field: &str, value: Option<Value>) -> Command {
    let (test, path) = (format!("/webhooks/{at}/name"), format!("/webhooks/{at}/{field}"));
    let change = match value {
        Some(value) => json!({"op": "add", "path": path, "value": value}),
        None => json!({"op": "remove", "path": path}),
    };
    patched(&json!([{"op": "test", "path": test, "value": name}, change]))
}

/// Returns the command that removes an entry, if it is still at this place.
fn remove(at: usize, name: &str) -> Command {
    let patch = json!([
        {"op": "test", "path": format!("/webhooks/{at}/name"), "value": name},
        {"op": "remove", "path": format!("/webhooks/{at}")},
    ]);
    patched(&patch)
}

/// Returns the command that applies a JSON patch to the registration.
fn patched(patch: &Value) -> Command {
    let patch = patch.to_string();
    let words = ["patch", "validatingwebhookconfiguration", NAME, "--type=json", "-p", &patch];
    Command::kubectl(words)
}

fn plain(value: &impl Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}

fn entry(
    case: &Case<'_>,
    at: usize,
    live: &ValidatingWebhook,
    shipped: &ValidatingWebhook,
) -> Vec<Finding> {
    let name = live.name.as_str();
    let field = |field: &str| format!("webhooks[{name}].{field}");
    let only_warns = name == DIRECT;
    let heavy = |id, text: String| if only_warns { weakens(id, text) } else { fails(id, text) };
    let mut found = Vec::new();

    found.extend(failure_policy(case, at, live, shipped));
    if rules(live) != rules(shipped) {
        let (has, wants) = (spelled(live), spelled(shipped));
        found.push(
            heavy(
                "rules-differ",
                format!(
                    "the entry {name} is for other writes than the chart's: a write that it \
                     leaves out passes unjudged"
                ),
            )
            .because(object(), &field("rules"), format!("{has}, the chart has {wants}"))
            .cure(set(at, name, "rules", plain(&shipped.rules))),
        );
    }
    found.extend(conditions(at, live, shipped));
    if !matches_all(live.object_selector.as_ref()) {
        found.push(
            heavy(
                "object-selector",
                format!(
                    "the entry {name} selects objects by their labels: each editor of a cluster \
                     can leave the guard by a label"
                ),
            )
            .because(object(), &field("objectSelector"), selector(live.object_selector.as_ref()))
            .cure(set(at, name, "objectSelector", Some(json!({})))),
        );
    }
    if live.match_policy.as_deref() == Some("Exact") {
        found.push(
            weakens(
                "match-policy",
                format!(
                    "the entry {name} matches one version of the resource only: a write of \
                     another version passes unjudged"
                ),
            )
            .because(object(), &field("matchPolicy"), "Exact")
            .cure(set(at, name, "matchPolicy", Some(json!("Equivalent")))),
        );
    }
    if !["None", "NoneOnDryRun"].contains(&live.side_effects.as_str()) {
        found.push(
            weakens(
                "side-effects",
                format!("the entry {name} takes no dry runs: the API server refuses each of them"),
            )
            .because(object(), &field("sideEffects"), &live.side_effects)
            .cure(set(at, name, "sideEffects", Some(json!(shipped.side_effects)))),
        );
    }
    let (has, wants) = (live.timeout_seconds.unwrap_or(10), shipped.timeout_seconds.unwrap_or(10));
    if has != wants {
        let what = if has < wants {
            "the API server may give up before the webhook has an answer"
        } else {
            "a webhook that hangs holds every write for that long"
        };
        found.push(
            weakens("timeout", format!("the entry {name} waits for {has} s: {what}"))
                .because(
                    object(),
                    &field("timeoutSeconds"),
                    format!("{has}, the chart has {wants}"),
                )
                .cure(set(at, name, "timeoutSeconds", Some(json!(wants)))),
        );
    }
    found.extend(address::findings(case, at, live, shipped, heavy));
    found
}

fn failure_policy(
    case: &Case<'_>,
    at: usize,
    live: &ValidatingWebhook,
    shipped: &ValidatingWebhook,
) -> Option<Finding> {
    let name = live.name.as_str();
    let has = live.failure_policy.as_deref().unwrap_or("Fail");
    // The webhook's own argument says what the platform has chosen for growth.
    let argument = case.facts.deployment().known().and_then(|deployment| {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        let mut arguments = pod.containers.iter().flat_map(|it| it.args.iter().flatten());
        arguments.find_map(|argument| argument.strip_prefix(GROW_ARGUMENT))
    });
    let chart = shipped.failure_policy.as_deref().unwrap_or("Fail");
    let wants = if name == GROW { argument.unwrap_or(has) } else { chart };
    if has == wants {
        return None;
    }
    let finding = match (name, has) {
        (GROW, _) => weakens(
            "grow-policy-differs",
            "the registration and the webhook differ in growFailurePolicy: growth that cannot be \
             judged is treated differently, whether the webhook is down or not",
        ),
        (DIRECT, _) => weakens(
            "direct-scale-fails",
            "while no webhook answers, the API server refuses every direct write of a \
             StatefulSet's replicas",
        ),
        _ => fails(
            "shrink-passes",
            format!(
                "while no webhook answers, the API server lets the writes of {name} pass unjudged"
            ),
        ),
    };
    let field = format!("webhooks[{name}].failurePolicy");
    Some(finding.because(object(), &field, format!("{has}, expected {wants}")).cure(set(
        at,
        name,
        "failurePolicy",
        Some(json!(wants)),
    )))
}

fn conditions(at: usize, live: &ValidatingWebhook, shipped: &ValidatingWebhook) -> Option<Finding> {
    let name = live.name.as_str();
    let list = |entry: &ValidatingWebhook| entry.match_conditions.clone().unwrap_or_default();
    let (has, wants) = (list(live), list(shipped));
    if has == wants {
        return None;
    }
    let differing: Vec<&str> = wants
        .iter()
        .filter(|condition| !has.contains(condition))
        .chain(has.iter().filter(|condition| !wants.iter().any(|it| it.name == condition.name)))
        .map(|condition| condition.name.as_str())
        .collect();
    let finding = if differing == [OPERATORS] {
        weakens(
            "operators-differ",
            "the registration and the list of operators' accounts differ: the webhook is asked \
             about writes of an operator, or is not asked about those of another account",
        )
    } else if name == DIRECT {
        weakens(
            "conditions-differ",
            format!(
                "the conditions of {name} are not the chart's: direct writes of StatefulSets may \
                 pass without a warning"
            ),
        )
    } else {
        fails(
            "conditions-differ",
            format!(
                "the conditions of {name} are not the chart's: a write that they leave out passes \
                 unjudged"
            ),
        )
    };
    let field = format!("webhooks[{name}].matchConditions");
    let shown =
        if differing.is_empty() { "in another order".to_owned() } else { differing.join(", ") };
    Some(finding.because(object(), &field, shown).cure(set(
        at,
        name,
        "matchConditions",
        plain(&shipped.match_conditions),
    )))
}

/// Returns the command that shows what the replicas log.
pub(super) fn logs(home: &str) -> Command {
    Command::kubectl(["logs", &format!("deployment/{WEBHOOK}"), "-n", home, "--tail=50"])
}

/// Returns the rules without their order, and with the scope that a missing one means.
fn rules(entry: &ValidatingWebhook) -> Vec<String> {
    let sorted = |list: &Option<Vec<String>>| {
        let mut list = list.clone().unwrap_or_default();
        list.sort_unstable();
        list.join(",")
    };
    let spell = |rule: &RuleWithOperations| {
        let scope = rule.scope.as_deref().unwrap_or("*");
        format!(
            "{} {}/{} {} {scope}",
            sorted(&rule.operations),
            sorted(&rule.api_groups),
            sorted(&rule.api_versions),
            sorted(&rule.resources)
        )
    };
    let mut all: Vec<String> = entry.rules.iter().flatten().map(spell).collect();
    all.sort_unstable();
    all
}

fn spelled(entry: &ValidatingWebhook) -> String {
    let rules = rules(entry);
    if rules.is_empty() { "none".to_owned() } else { rules.join("; ") }
}

fn selector(selector: Option<&LabelSelector>) -> String {
    selector.and_then(plain).map_or_else(|| "none".to_owned(), |value| value.to_string())
}
