//! The room of the webhook: what a drain may take, and what a quota leaves for a new replica.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use pgscale_guard::quantity::Amount;
use pgscale_guard::remedy::Command;
use pgscale_guard::selector::selects;

use super::super::shipped::WEBHOOK;
use super::super::{Case, Finding, Object, weakens};

pub(super) fn budget(case: &Case<'_>, deployment: &Deployment) -> Vec<Finding> {
    let Some(budgets) = case.facts.budgets.known() else { return Vec::new() };
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let none = BTreeMap::new();
    let labels = spec.template.metadata.as_ref().and_then(|it| it.labels.as_ref()).unwrap_or(&none);
    let ours: Vec<&PodDisruptionBudget> = budgets
        .iter()
        .filter(|budget| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.is_some_and(|selector| selects(selector, labels).unwrap_or(false))
        })
        .collect();
    let named = |budget: &PodDisruptionBudget| {
        Object::within(
            "poddisruptionbudget",
            case.home,
            budget.metadata.name.clone().unwrap_or_default(),
        )
    };
    let mut found = Vec::new();
    match ours.as_slice() {
        [] if spec.replicas.unwrap_or(1) > 1 => found.push(
            weakens(
                "budget-missing",
                "no PodDisruptionBudget holds for the webhook: a drain may stop all replicas at \
                 once",
            )
            .of(Object::within("poddisruptionbudget", case.home, WEBHOOK), "not there")
            .cured(case.restore()),
        ),
        [] => {}
        [one] => {
            let status = one.status.clone().unwrap_or_default();
            let healthy =
                status.current_healthy >= status.expected_pods && status.expected_pods > Some(0);
            if healthy && status.disruptions_allowed.unwrap_or(0) == 0 {
                found.push(
                    weakens(
                        "budget-blocks",
                        "the PodDisruptionBudget of the webhook lets no replica go: no node with \
                         one can be drained",
                    )
                    .because(named(one), "status.disruptionsAllowed", 0)
                    .cured(case.restore()),
                );
            }
        }
        [_, second, ..] => found.push(
            weakens(
                "budget-twice",
                "several PodDisruptionBudgets select the webhook: Kubernetes then evicts no \
                 replica, and no node with one can be drained",
            )
            .of(named(second), "selects the same pods")
            .cure(Command::kubectl(["get", "poddisruptionbudget", "-n", case.home])),
        ),
    }
    found
}

pub(super) fn quotas(case: &Case<'_>) -> Vec<Finding> {
    let spent = |quota: &ResourceQuota| -> Vec<String> {
        let Some(status) = &quota.status else { return Vec::new() };
        let used = status.used.clone().unwrap_or_default();
        let of_pods = |name: &str| {
            name == "pods"
                || name == "count/pods"
                || name.starts_with("requests.")
                || name.starts_with("limits.")
                || ["cpu", "memory"].contains(&name)
        };
        status
            .hard
            .iter()
            .flatten()
            .filter(|(name, hard)| {
                let (Some(hard), Some(used)) =
                    (Amount::of(hard), used.get(*name).and_then(Amount::of))
                else {
                    return false;
                };
                let storage = name.contains("storage");
                of_pods(name) && !storage && used >= hard
            })
            .map(|(name, _)| name.clone())
            .collect()
    };
    let Some(quotas) = case.facts.quotas.known() else { return Vec::new() };
    quotas
        .iter()
        .map(|quota| (quota, spent(quota)))
        .filter(|(_, spent)| !spent.is_empty())
        .map(|(quota, spent)| {
            let name = quota.metadata.name.clone().unwrap_or_default();
            weakens(
                "quota-spent",
                format!(
                    "a quota of the namespace {} is spent: a replica that is lost does not come \
                     back, and an upgrade does not begin",
                    case.home
                ),
            )
            .because(
                Object::within("resourcequota", case.home, &name),
                "status",
                format!("{} spent", spent.join(", ")),
            )
            .cure(Command::kubectl(["edit", "resourcequota", &name, "-n", case.home]))
        })
        .collect()
}
