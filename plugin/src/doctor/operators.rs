//! The operators: are they known, do they run, and who poses as one?

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use pgscale_guard::Seen;
use pgscale_guard::objects::deployment::{account, may_operate};
use pgscale_guard::operator::Account;
use pgscale_guard::operator::account::{
    LIST_KEY, LIST_NAME, LIST_NAMESPACE, create_list, edit_list, listed,
};
use pgscale_guard::remedy::Command;

use super::{Case, Finding, Object, fails, note, weakens};

fn list_object() -> Object {
    Object::within("configmap", LIST_NAMESPACE, LIST_NAME)
}

fn named(deployment: &Deployment) -> (String, String) {
    let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
    (namespace, deployment.metadata.name.clone().unwrap_or_default())
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let accounts: Option<Vec<Account>> = match &case.facts.operator_list {
        Seen::Unreadable(_) => return found,
        Seen::Absent => None,
        Seen::Known(list) => {
            let text = list.data.as_ref().and_then(|data| data.get(LIST_KEY)).cloned();
            match listed(&text.unwrap_or_default()) {
                Ok(accounts) => Some(accounts),
                Err(why) => {
                    found.push(
                        fails(
                            "operator-list-unreadable",
                            "the list of operators' accounts cannot be read: no operator is \
                             known, and every shrink is refused",
                        )
                        .because(list_object(), LIST_KEY, why)
                        .cure(edit_list()),
                    );
                    return found;
                }
            }
        }
    };
    let Some(deployments) = case.facts.deployments.known() else { return found };
    let candidates: Vec<&Deployment> = deployments.iter().filter(|one| may_operate(one)).collect();
    match &accounts {
        None => found.extend(unlisted(&candidates)),
        Some(accounts) => found.extend(beside(accounts, deployments, &candidates)),
    }
    found.extend(by_cluster(case));
    found
}

/// Returns the findings where no account is listed.
fn unlisted(candidates: &[&Deployment]) -> Vec<Finding> {
    match candidates {
        [] => vec![
            weakens(
                "operator-missing",
                "no Deployment looks like an operator: its limits are unknown, and a count that \
                 is written is not carried out",
            )
            .of(Object::global("deployment", "all"), "none looks like an operator")
            .cure_to(
                "look for it",
                Command::kubectl([
                    "get",
                    "deployment",
                    "-A",
                    "-l",
                    "app.kubernetes.io/name=postgres-operator",
                ]),
            ),
        ],
        [one] => {
            let (namespace, name) = named(one);
            vec![
                weakens(
                    "operator-unlisted",
                    "no operator account is listed: a tenant who may create a Deployment can make \
                     the operator unknown, and then every shrink is refused",
                )
                .of(list_object(), "not there")
                .because(
                    Object::within("deployment", namespace, name),
                    "the account that runs it",
                    account(one),
                )
                .cure_to(
                    "list it (and set operatorAccounts of the chart)",
                    listing(&[account(one)]),
                ),
            ]
        }
        several => {
            let mut finding = fails(
                "operator-ambiguous",
                "several Deployments look like an operator, and no account is listed: the \
                 operator is unknown, and every shrink is refused",
            );
            for one in several {
                let (namespace, name) = named(one);
                finding = finding.because(
                    Object::within("deployment", namespace, name),
                    "the account that runs it",
                    account(one),
                );
            }
            vec![finding.cure_to(
                "list the real ones (and set operatorAccounts of the chart)",
                create_list(),
            )]
        }
    }
}

fn listing(accounts: &[Account]) -> Command {
    let all: Vec<String> = accounts.iter().map(ToString::to_string).collect();
    let literal = format!("--from-literal={LIST_KEY}={}", all.join(","));
    Command::kubectl(["create", "configmap", LIST_NAME, "-n", LIST_NAMESPACE, &literal])
}

/// Returns the findings beside a list of accounts.
fn beside(
    accounts: &[Account],
    deployments: &[Deployment],
    candidates: &[&Deployment],
) -> Vec<Finding> {
    let mut found = Vec::new();
    for look_alike in candidates.iter().filter(|one| !accounts.contains(&account(one))) {
        let (namespace, name) = named(look_alike);
        found.push(
            weakens(
                "operator-look-alike",
                format!(
                    "the deployment {namespace}/{name} looks like an operator, and its account is \
                     not listed: it is ignored. It may be a second operator, whose limits then do \
                     not count"
                ),
            )
            .because(
                Object::within("deployment", &namespace, &name),
                "the account that runs it",
                account(look_alike),
            )
            .cure_to("a real operator belongs into the list", edit_list())
            .cure_to(
                "see what it is",
                Command::kubectl(["describe", "deployment", &name, "-n", &namespace]),
            ),
        );
    }
    let used: BTreeSet<Account> = deployments.iter().map(account).collect();
    for idle in accounts.iter().filter(|account| !used.contains(account)) {
        found.push(
            weakens(
                "operator-account-unused",
                format!(
                    "no Deployment runs under the listed account {idle}: it is misspelt, or its \
                     operator is gone. Its clusters have no known operator"
                ),
            )
            .because(list_object(), LIST_KEY, idle)
            .cure(edit_list()),
        );
    }
    found
}

/// Looks at the operator of each group of clusters.
fn by_cluster(case: &Case<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for ((namespace, id), operator) in &case.facts.operators {
        let clusters = || {
            Object::within(
                "postgresql",
                namespace,
                if id.is_empty() { "all".to_owned() } else { format!("with controller {id}") },
            )
        };
        let finding = match operator {
            Seen::Unreadable(why) => weakens(
                "operator-unknown",
                format!(
                    "the operator of the clusters in namespace {namespace} is unknown: a shrink \
                     that removes the leader is refused there"
                ),
            )
            .because(clusters(), "operator", why)
            .cure(edit_list()),
            Seen::Absent => weakens(
                "operator-absent",
                format!(
                    "no operator owns the clusters in namespace {namespace}: a count that is \
                     written there is not carried out"
                ),
            )
            .because(clusters(), "operator", "none")
            .cure(Command::kubectl([
                "get",
                "postgresql",
                "-n",
                namespace,
                "-o",
                "yaml",
            ])),
            Seen::Known(operator) => {
                let (namespace, name) = (
                    operator.deployment.namespace.clone().unwrap_or_default(),
                    operator.deployment.name().to_owned(),
                );
                let object = || Object::within("deployment", &namespace, &name);
                let settings = &operator.settings;
                // Each operator once.
                if found.iter().any(|known| known.evidence.iter().any(|it| it.object == object())) {
                    continue;
                }
                if operator.available == Some(false) {
                    found.push(
                        weakens(
                            "operator-down",
                            format!(
                                "the operator {namespace}/{name} does not run: a count that is \
                                 written is not carried out"
                            ),
                        )
                        .because(object(), "status.availableReplicas", 0)
                        .cure(Command::kubectl([
                            "rollout",
                            "status",
                            &format!("deployment/{name}"),
                            "-n",
                            &namespace,
                        ])),
                    );
                }
                if operator.stale_settings == Some(true) {
                    found.push(
                        weakens(
                            "operator-settings-stale",
                            format!(
                                "the operator {namespace}/{name} runs with older settings than \
                                 are stored: its limits may be others than those that are judged by"
                            ),
                        )
                        .because(
                            object(),
                            "settings",
                            format!("{} was edited after the start", operator.source),
                        )
                        .cure(Command::kubectl([
                            "rollout",
                            "restart",
                            &format!("deployment/{name}"),
                            "-n",
                            &namespace,
                        ])),
                    );
                }
                let (min, max) = (settings.min_instances, settings.max_instances);
                // Below 0 is no limit, and the minimum wins (`getNumberOfInstances`,
                // pkg/cluster/k8sres.go).
                if min >= 0 && max >= 0 && min > max {
                    found.push(
                        weakens(
                            "operator-limits-contradict",
                            format!(
                                "the operator {namespace}/{name} has min_instances {min} above \
                                 max_instances {max}: every cluster gets {min}"
                            ),
                        )
                        .because(object(), "min_instances, max_instances", format!("{min}, {max}"))
                        .cure(edit_settings(operator)),
                    );
                }
                let Some(annotation) = &settings.ignore_limits_annotation else { continue };
                note(
                    "operator-limits-can-be-lifted",
                    format!(
                        "an editor of a cluster can lift the limits of the operator \
                         {namespace}/{name} by an annotation"
                    ),
                )
                .because(object(), "ignore_instance_limits_annotation_key", annotation)
                .cure_to(
                    "a limit that they cannot lift is one of a ClusterScalePolicy",
                    Command::kubectl(["explain", "clusterscalepolicy.spec.instances"]),
                )
            }
        };
        found.push(finding);
    }
    found
}

/// Returns the command that opens the operator's settings.
fn edit_settings(operator: &pgscale_guard::operator::Operator) -> Command {
    let source = &operator.source;
    let (namespace, argument) = (source.namespace.clone().unwrap_or_default(), source.argument());
    Command::kubectl(["edit", &argument, "-n", &namespace])
}
