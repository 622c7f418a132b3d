//! Causes of a wrong count: the controller that should act on it, and the refusal of pods.

use pgscale_guard::Seen;
use pgscale_guard::facts::{Facts, StatefulSet};
use pgscale_guard::operator::Operator;

use super::{Cause, Clues};

/// Returns the cause where the operator silently runs another count than the declared one.
pub(super) fn limited(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    let operator = facts.operator.known()?;
    let declared = facts.change.new.instances?;
    let effective = facts.to();
    if declared == effective {
        return None;
    }
    let (setting, limit) = if effective < declared {
        ("max_instances", operator.settings.max_instances)
    } else {
        ("min_instances", operator.settings.min_instances)
    };
    let name = &facts.change.new.name;
    let next = clues.kubectl(&["pgscale", "set", name, &effective.to_string()]);
    let what = format!("{declared} declared, and the operator runs {effective}");
    Some(Cause::new(what, next).because(&operator.source, format!("{setting}: {limit}")))
}

/// Returns the cause where the StatefulSet does not ask for the count yet.
pub(super) fn not_applied(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    let name = &facts.change.new.name;
    let (source, says) = match &facts.stateful_set {
        Seen::Unreadable(why) => {
            let next = clues.kubectl(&["auth", "can-i", "get", "statefulsets"]);
            let cause = Cause::new("the StatefulSet cannot be read", next);
            return Some(cause.because(format!("statefulset/{name}"), why));
        }
        Seen::Known(set) if set.replicas == facts.to() => return unobserved(clues, set),
        Seen::Known(set) => (
            format!("statefulset/{}", set.name),
            format!("asks for {} and should for {}", set.replicas, facts.to()),
        ),
        Seen::Absent => (format!("statefulset/{name}"), "does not exist".to_owned()),
    };
    Some(idle_operator(clues, facts).because(source, says))
}

/// Returns the reason for which the operator has not acted.
fn idle_operator(clues: &Clues<'_>, facts: &Facts) -> Cause {
    let name = &facts.change.new.name;
    let operator = match &facts.operator {
        Seen::Absent => {
            let next = clues.anywhere(&["get", "deployments", "-A"]);
            let next = next.piped_into(["grep", "operator"]);
            return Cause::new("no operator watches this cluster: nobody will act", next);
        }
        Seen::Unreadable(why) => {
            let next = clues.kubectl(&["describe", "postgresql", name]);
            let what = "the operator has not acted yet, and cannot be seen";
            return Cause::new(what, next).because("operator", why);
        }
        Seen::Known(operator) => operator,
    };
    let source = format!("deployment/{}", operator.deployment);
    if operator.available == Some(false) {
        let (namespace, name) = operators_place(operator);
        let next = clues.anywhere(&["describe", "deployment", name, "-n", namespace]);
        let cause = Cause::new("the operator is down: nobody will act", next);
        return cause.because(source, "has no available replica");
    }
    let status = facts.change.new.status.as_deref().unwrap_or("");
    let (namespace, deployment) = operators_place(operator);
    let deployment = format!("deployment/{deployment}");
    let next = clues.anywhere(&["logs", "--since=10m", &deployment, "-n", namespace]);
    if status.ends_with("Failed") || status == "Invalid" {
        let mut cause = Cause::new(format!("the operator gave up: {status}"), next)
            .because(format!("postgresql/{name}"), format!("status {status}"));
        let reasons = ["Sync", "Update", "Create", "Delete"];
        if let Some(event) = clues.event("postgresql", name, &reasons) {
            cause = cause.because(event.source(facts.now), &event.message);
        }
        return cause;
    }
    if operator.stale_settings == Some(true) {
        let what = "the operator still runs with settings older than those in place";
        return Cause::new(what, next).because(&operator.source, "was edited after it started");
    }
    Cause::new("the operator has not acted yet", next).because(source, "is available")
}

/// Returns the namespace and the name of the operator's Deployment.
fn operators_place(operator: &Operator) -> (&str, &str) {
    operator.deployment.split_once('/').unwrap_or(("default", &operator.deployment))
}

fn unobserved(clues: &Clues<'_>, set: &StatefulSet) -> Option<Cause> {
    let name = &clues.facts().change.new.name;
    (set.observed_generation < set.generation).then(|| {
        let next = clues.kubectl(&["describe", "statefulset", name]);
        Cause::new("the StatefulSet controller has not seen the change yet", next).because(
            format!("statefulset/{}", set.name),
            format!("generation {}, observed {}", set.generation, set.observed_generation),
        )
    })
}

/// Returns the cause where the StatefulSet asks for a pod that does not exist.
pub(super) fn not_created(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    let name = &facts.change.new.name;
    let set = facts.stateful_set.known()?;
    let ordinal = facts.missing_survivors().find(|ordinal| *ordinal < set.replicas)?;
    let pod = facts.pod_name(ordinal);
    if let Some(event) = clues.event("StatefulSet", name, &["FailedCreate"]) {
        let message = event.message.as_str();
        // The API server has no other sign of these cases than its message.
        let (what, next): (_, &[&str]) = if message.contains("exceeded quota") {
            (format!("no quota is left for {pod}"), &["describe", "resourcequota"])
        } else if message.contains("usage per ") {
            (format!("a LimitRange forbids {pod}"), &["describe", "limitrange"])
        } else if message.contains("denied the request") {
            (format!("an admission webhook refuses {pod}"), &["describe", "statefulset", name])
        } else {
            (format!("{pod} cannot be created"), &["describe", "statefulset", name])
        };
        return Some(
            Cause::new(what, clues.kubectl(next)).because(event.source(facts.now), message),
        );
    }
    // OrderedReady: a pod starts only when all pods below it are Ready.
    let below = facts
        .survivors()
        .find(|member| member.ordinal < ordinal && (!member.pod.ready || member.pod.terminating))
        .filter(|_| !set.parallel);
    Some(if let Some(member) = below {
        let next = clues.kubectl(&["describe", "pod", &member.name]);
        Cause::new(format!("{pod} is started only once {} is Ready", member.name), next)
            .because(format!("pod/{}", member.name), "is not Ready")
    } else {
        let next = clues.kubectl(&["describe", "statefulset", name]);
        Cause::new(format!("{pod} has no pod yet"), next)
            .because(format!("statefulset/{}", set.name), format!("asks for {}", set.replicas))
    })
}
