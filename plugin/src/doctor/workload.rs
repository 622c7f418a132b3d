//! The webhook's Deployment: is it there, do its replicas run, do they survive a node, a drain and
//! a full namespace, and are they of this version?

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use pgscale_guard::Seen;
use pgscale_guard::remedy::Command;

use super::registration::logs;
use super::shipped::WEBHOOK;
use super::{Case, Finding, Object, fails, image, note, weakens};

mod room;

/// The label with the version (`_helpers.tpl` of the chart).
const VERSION: &str = "app.kubernetes.io/version";

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = namespace(case).into_iter().collect();
    match case.facts.deployment() {
        Seen::Unreadable(_) => {}
        // Nothing is installed: the missing registration says so.
        Seen::Absent if case.facts.home.is_none() => {}
        Seen::Absent => found.push(
            fails(
                "deployment-missing",
                "there is no Deployment of the webhook: no review is answered, the API server \
                 refuses every shrink, and growth passes unjudged",
            )
            .of(object(case), "not there")
            .cured(case.restore()),
        ),
        Seen::Known(deployment) => {
            found.extend(replicas(case, deployment));
            found.extend(version(case, deployment));
            found.extend(priority(case, deployment));
            found.extend(room::budget(case, deployment));
        }
    }
    found.extend(twice(case));
    found.extend(pods(case));
    found.extend(room::quotas(case));
    found
}

fn object(case: &Case<'_>) -> Object {
    Object::within("deployment", case.home, WEBHOOK)
}

fn scale(case: &Case<'_>, replicas: i32) -> Command {
    Command::kubectl([
        "scale",
        &format!("deployment/{WEBHOOK}"),
        &format!("--replicas={replicas}"),
        "-n",
        case.home,
    ])
}

fn namespace(case: &Case<'_>) -> Option<Finding> {
    let all = case.facts.namespaces.known()?;
    let home = all.iter().find(|one| one.metadata.name.as_deref() == case.facts.home.as_deref())?;
    home.metadata.deletion_timestamp.as_ref()?;
    Some(
        fails(
            "namespace-terminating",
            format!(
                "the namespace {} is being deleted: the webhook ends, the registration goes with \
                 it, and then every change passes unjudged",
                case.home
            ),
        )
        .because(Object::global("namespace", case.home), "metadata.deletionTimestamp", "set")
        .cure_to(
            "a deletion cannot be taken back: wait until it is gone, then install again",
            Command::kubectl([
                "wait",
                "--for=delete",
                &format!("namespace/{}", case.home),
                "--timeout=5m",
            ]),
        )
        .cure(install(case.home)),
    )
}

/// Returns the command that installs the chart.
pub(super) fn install(home: &str) -> Command {
    Command::kubectl(["pgscale", "install", "-n", home, "--values=FILE"])
}

/// Returns a finding where the chart is installed into several namespaces.
fn twice(case: &Case<'_>) -> Option<Finding> {
    let all = case.facts.deployments.known()?.iter();
    let ours = all.filter(|one| one.metadata.name.as_deref() == Some(WEBHOOK));
    let places: Vec<&str> = ours.filter_map(|one| one.metadata.namespace.as_deref()).collect();
    let other = places.iter().find(|place| **place != case.home)?;
    Some(
        weakens(
            "installed-twice",
            format!(
                "the webhook is installed in {}: each writes the one registration, and only one \
                 of them is asked",
                places.join(" and ")
            ),
        )
        .of(Object::within("deployment", *other, WEBHOOK), "a second one")
        .cure_to(
            "see which release it is, and uninstall one of them",
            Command::kubectl(["get", "deployment", WEBHOOK, "-n", other, "--show-labels"]),
        ),
    )
}

fn replicas(case: &Case<'_>, deployment: &Deployment) -> Vec<Finding> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let available = status.available_replicas.unwrap_or(0);
    let mut found = Vec::new();
    if wanted == 0 {
        found.push(
            fails(
                "scaled-to-zero",
                "the webhook is scaled to 0: the API server refuses every shrink, and growth \
                 passes unjudged",
            )
            .because(object(case), "spec.replicas", 0)
            .cure(scale(case, 2)),
        );
        return found;
    }
    if available == 0 {
        found.push(
            fails(
                "no-replica",
                "no replica of the webhook is available: the API server refuses every shrink, and \
                 growth passes unjudged",
            )
            .because(object(case), "status.availableReplicas", 0)
            .cure_to("see why", logs(case.home))
            .cure(describe(case)),
        );
    } else if available < wanted {
        found.push(
            weakens(
                "replica-missing",
                format!("{available} of {wanted} replicas of the webhook are available"),
            )
            .because(object(case), "status.availableReplicas", available)
            .cure_to("see why", describe(case)),
        );
    }
    if wanted == 1 {
        found.push(
            weakens(
                "single-replica",
                "the webhook has one replica: while it moves to another node, every shrink is \
                 refused and growth passes unjudged",
            )
            .because(object(case), "spec.replicas", 1)
            .cure(scale(case, 2)),
        );
    }
    let stuck = status.conditions.iter().flatten().find(|condition| {
        let is = |kind: &str, value: &str| condition.type_ == kind && condition.status == value;
        is("Progressing", "False") || is("ReplicaFailure", "True")
    });
    if let Some(condition) = stuck {
        found.push(
            weakens(
                "rollout-stuck",
                "a new version of the webhook does not start: the replicas are of different \
                 versions",
            )
            .because(
                object(case),
                &format!("status.conditions[{}]", condition.type_),
                condition.reason.as_deref().unwrap_or("without a reason"),
            )
            .cure_to("see why", describe(case))
            .cure_to(
                "go back",
                Command::kubectl([
                    "rollout",
                    "undo",
                    &format!("deployment/{WEBHOOK}"),
                    "-n",
                    case.home,
                ]),
            ),
        );
    }
    found
}

fn describe(case: &Case<'_>) -> Command {
    Command::kubectl([
        "describe",
        "pods",
        "-n",
        case.home,
        "-l",
        &format!("app.kubernetes.io/name={WEBHOOK}"),
    ])
}

/// Compares the version that runs, and that of its chart, with this program.
///
/// The image says what runs where its tag is a version. It may be pinned to another one than that of
/// the chart, which the label has.
fn version(case: &Case<'_>, deployment: &Deployment) -> Option<Finding> {
    let labels = deployment.metadata.labels.as_ref();
    let chart = labels.and_then(|labels| labels.get(VERSION)).map(String::as_str);
    let tagged = image::version(deployment);
    let runs = tagged.or(chart)?;
    let mine = &case.facts.version;
    let own = |version: &str| version == mine;
    if own(runs) && chart.is_none_or(own) {
        return None;
    }
    let label = format!("metadata.labels[{VERSION}]");
    let Some(chart) = chart.filter(|chart| *chart != runs) else {
        let why = format!(
            "the webhook is of version {runs} and this program of {mine}: their plans and verdicts \
             may differ, and what follows is compared with the chart of {mine}"
        );
        let found = weakens("version-skew", why).because(object(case), &label, runs);
        return Some(found.cure(case.upgrade(&[])));
    };
    let why = if own(runs) {
        format!(
            "the chart of the webhook is of version {chart}, while its image is of {mine} like this \
             program: what follows is compared with the chart of {mine}"
        )
    } else {
        format!(
            "the image of the webhook is pinned to version {runs}, while its chart is of {chart} and \
             this program of {mine}: their plans and verdicts may differ, and the objects of one \
             version may not fit the program of another"
        )
    };
    let image = image::image(deployment).unwrap_or_default();
    let found = weakens("version-skew", why).because(object(case), &label, chart).because(
        object(case),
        "spec.template.spec.containers[0].image",
        image,
    );
    // An upgrade keeps the values that are stored, and so the tag.
    Some(found.cure(case.upgrade(&["--set=image.tag=null"])))
}

fn priority(case: &Case<'_>, deployment: &Deployment) -> Option<Finding> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let Some(class) = pod.priority_class_name.as_deref().filter(|class| !class.is_empty()) else {
        return Some(
            note(
                "priority-default",
                "the webhook has no priority class: a full node may end it for any other pod",
            )
            .because(object(case), "spec.template.spec.priorityClassName", "none")
            .cure(patch_priority(case)),
        );
    };
    let classes = case.facts.priority_classes.known()?;
    if classes.iter().any(|one| one.metadata.name.as_deref() == Some(class)) {
        return None;
    }
    Some(
        weakens(
            "priority-class-missing",
            format!(
                "there is no priority class {class}: no new replica of the webhook can be created"
            ),
        )
        .because(object(case), "spec.template.spec.priorityClassName", class)
        .cure(patch_priority(case)),
    )
}

fn patch_priority(case: &Case<'_>) -> Command {
    Command::kubectl([
        "patch",
        "deployment",
        WEBHOOK,
        "-n",
        case.home,
        "-p",
        r#"{"spec":{"template":{"spec":{"priorityClassName":"system-cluster-critical"}}}}"#,
    ])
}

/// The reasons for which a container waits and does not start without help.
const STUCK: &[&str] = &[
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

fn pods(case: &Case<'_>) -> Vec<Finding> {
    let pods = case.facts.replicas();
    let mut found = Vec::new();
    let mut nodes: Vec<&str> = Vec::new();
    let mut images = BTreeSet::new();
    for pod in &pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let object = || Object::within("pod", case.home, &name);
        let status = pod.status.clone().unwrap_or_default();
        nodes.extend(pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()));
        for container in status.container_statuses.iter().flatten() {
            images.insert(if container.image_id.is_empty() {
                container.image.clone()
            } else {
                container.image_id.clone()
            });
            let state = container.state.clone().unwrap_or_default();
            let waits = state.waiting.and_then(|waiting| waiting.reason);
            if let Some(why) = waits.filter(|why| STUCK.contains(&why.as_str())) {
                found.push(
                    weakens(
                        "container-stuck",
                        format!("replica {name} of the webhook does not start: {why}"),
                    )
                    .because(object(), "status.containerStatuses.state.waiting.reason", why)
                    .cure_to(
                        "see why",
                        Command::kubectl(["describe", "pod", &name, "-n", case.home]),
                    ),
                );
            }
            let last = container.last_state.clone().unwrap_or_default().terminated;
            if let Some(last) = last.filter(|last| last.reason.as_deref() == Some("OOMKilled")) {
                found.push(
                    weakens(
                        "out-of-memory",
                        format!(
                            "replica {name} of the webhook was ended because its memory limit was \
                             reached: the reviews that it worked on were lost"
                        ),
                    )
                    .because(
                        object(),
                        "status.containerStatuses.lastState.terminated",
                        last.reason.unwrap_or_default(),
                    )
                    .cure_to(
                        "raise the limit, and keep it in the values of the chart (resources)",
                        Command::kubectl([
                            "set",
                            "resources",
                            &format!("deployment/{WEBHOOK}"),
                            "-n",
                            case.home,
                            "--limits=memory=256Mi",
                        ]),
                    ),
                );
            }
        }
    }
    let different: BTreeSet<&str> = nodes.iter().copied().collect();
    if let (Some(node), true) = (nodes.first(), nodes.len() > 1 && different.len() == 1) {
        found.push(
            weakens(
                "same-node",
                format!(
                    "all {} replicas of the webhook run on node {node}: its loss stops the guard",
                    nodes.len()
                ),
            )
            .because(object(case), "spec.nodeName of every pod", node)
            .cure_to(
                "they are spread again when they start, if there is room on another node",
                Command::kubectl([
                    "rollout",
                    "restart",
                    &format!("deployment/{WEBHOOK}"),
                    "-n",
                    case.home,
                ]),
            ),
        );
    }
    if images.len() > 1 && !is_rolling(case) {
        found.push(
            weakens(
                "images-differ",
                "the replicas of the webhook run different images, and no rollout is under way: a \
                 moved tag, most likely",
            )
            .because(
                object(case),
                "imageID of the pods",
                images.iter().cloned().collect::<Vec<_>>().join(", "),
            )
            .cure(Command::kubectl([
                "rollout",
                "restart",
                &format!("deployment/{WEBHOOK}"),
                "-n",
                case.home,
            ])),
        );
    }
    found
}

fn is_rolling(case: &Case<'_>) -> bool {
    case.facts.deployment().known().is_some_and(|deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.as_ref();
        status.and_then(|status| status.updated_replicas).unwrap_or(0) < wanted
            || status.and_then(|status| status.replicas).unwrap_or(0) > wanted
    })
}

/// Returns whether a pod answers reviews now.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}
