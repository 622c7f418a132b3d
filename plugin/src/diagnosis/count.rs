//! Causes of a wrong count: the controller that should act on it, and the refusal of pods.

use pgscale_guard::Seen;
use pgscale_guard::evidence::Evidence;
use pgscale_guard::facts::{Facts, StatefulSet};
use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::operator::Operator;
use pgscale_guard::printable::printable;
use pgscale_guard::remedy::Remedy;

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
    let cause = Cause::new(what, next).because(operator.source.clone(), setting, limit);
    Some(cause.once("the limit is meant, and not the count"))
}

/// Returns the cause where the StatefulSet does not ask for the count yet.
pub(super) fn not_applied(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    let set = facts.stateful_set_source();
    let evidence = match &facts.stateful_set {
        Seen::Unreadable(why) => {
            let next = clues.kubectl(&["auth", "can-i", "get", "statefulsets"]);
            let cause = Cause::new("the StatefulSet cannot be read", next);
            return Some(cause.because_of(Evidence::unreadable(set, why)));
        }
        Seen::Known(set) if set.replicas == facts.to() => return unobserved(clues, set),
        Seen::Known(known) => {
            let value = format!("{}; wanted: {}", known.replicas, facts.to());
            Evidence::new(set, "spec.replicas", value)
        }
        Seen::Absent => Evidence::absent(set),
    };
    let idle = idle_operator(clues, facts).because_of(evidence);
    let Some((set, writer)) = scaled_past(facts) else { return Some(idle) };
    // That writer is the cause, and the operator has not set it back yet.
    let what = format!("{writer} scaled the StatefulSet to {}, and {}", set.replicas, idle.what);
    Some(Cause { what: printable(&what), ..idle })
}

/// Returns the StatefulSet where another writer than the operator gave it another count than the
/// cluster runs, and that writer.
fn scaled_past(facts: &Facts) -> Option<(&StatefulSet, &String)> {
    let set = facts.stateful_set.known()?;
    Some((set, set.scaled_by.as_ref()?))
}

/// Returns the cause for which the operator would not carry out a change, although the last one is
/// carried out.
pub(super) fn unattended(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    let status = facts.change.new.status.as_deref().unwrap_or("");
    let down = match &facts.operator {
        Seen::Absent => true,
        Seen::Unreadable(_) => false,
        Seen::Known(operator) => {
            operator.available == Some(false) || operator.stale_settings == Some(true)
        }
    };
    let failed =
        facts.operator.known().is_some() && (status.ends_with("Failed") || status == "Invalid");
    (down || failed).then(|| idle_operator(clues, facts))
}

/// Returns the reason for which the operator has not acted.
fn idle_operator(clues: &Clues<'_>, facts: &Facts) -> Cause {
    let name = &facts.change.new.name;
    let operator = match &facts.operator {
        Seen::Absent => {
            let next = clues.anywhere(&["get", "deployments", "-A"]);
            let next = next.piped_into(["grep", "operator"]);
            return Cause::new(
                "no operator watches this cluster: changes are not carried out",
                next,
            );
        }
        Seen::Unreadable(why) => {
            let next = clues.kubectl(&["describe", "postgresql", name]);
            let what = "the operator has not acted yet, and cannot be seen";
            return Cause::new(what, next)
                .because_of(Evidence::unreadable(ObjectRef::all(Kind::Deployment), why));
        }
        Seen::Known(operator) => operator,
    };
    let source = operator.deployment.clone();
    if operator.available == Some(false) {
        let (namespace, name) = operators_place(operator);
        let next = clues.anywhere(&["describe", "deployment", name, "-n", namespace]);
        let cause = Cause::new("the operator is down: changes are not carried out", next);
        return cause.because(source, "status.availableReplicas", 0);
    }
    let status = facts.change.new.status.as_deref().unwrap_or("");
    let (namespace, deployment) = operators_place(operator);
    let deployment = format!("deployment/{deployment}");
    let next = clues.anywhere(&["logs", "--since=10m", &deployment, "-n", namespace]);
    if status.ends_with("Failed") || status == "Invalid" {
        let mut cause = Cause::new(format!("the operator gave up: {status}"), next).because(
            facts.postgresql_source(),
            "status.PostgresClusterStatus",
            status,
        );
        let reasons = ["Sync", "Update", "Create", "Delete"];
        if let Some(event) = clues.event("postgresql", name, &reasons) {
            cause = cause.because_of(event.evidence(facts.postgresql_source(), facts.now));
        }
        return cause;
    }
    if operator.stale_settings == Some(true) {
        let what = "the operator still runs with settings older than those in place";
        return Cause::new(what, next).because(
            operator.source.clone(),
            "edited",
            "after the operator's pod started",
        );
    }
    Cause::new("the operator has not acted yet", next).because(source, "available", "yes")
}

/// Returns the namespace and the name of the operator's Deployment.
fn operators_place(operator: &Operator) -> (&str, &str) {
    let deployment = &operator.deployment;
    (deployment.namespace.as_deref().unwrap_or("default"), deployment.name())
}

fn unobserved(clues: &Clues<'_>, set: &StatefulSet) -> Option<Cause> {
    let name = &clues.facts().change.new.name;
    (set.observed_generation < set.generation).then(|| {
        let next = clues.kubectl(&["describe", "statefulset", name]);
        let object = || clues.facts().stateful_set_source();
        Cause::new("the StatefulSet controller has not seen the change yet", next)
            .because(object(), "metadata.generation", set.generation)
            .because(object(), "status.observedGeneration", set.observed_generation)
    })
}

/// Returns the cause where Kubernetes refuses every pod of the cluster, because its name is too long
/// for a label.
///
/// Nothing else of the cluster matters then: no other cause can be mended first.
pub(super) fn unlabelled(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    let revision = facts.unlabelled_revision()?;
    let pod = facts.pod_name(facts.missing_survivors().next()?);
    let next = Remedy::note(
        "a name cannot be changed: clone it (spec.clone) into a cluster with a name of 52 characters or fewer",
    )
    .or_to("what Kubernetes says", clues.kubectl(&["describe", "statefulset", &facts.change.new.name]));
    let what =
        format!("Kubernetes refuses {pod}: the cluster's name is too long for the pods' labels");
    let value = format!("{revision} ({} characters, 63 are allowed)", revision.len());
    Some(Cause::new(what, next).because(
        facts.stateful_set_source(),
        "status.updateRevision",
        value,
    ))
}

/// Returns the cause where the StatefulSet asks for a pod that does not exist.
pub(super) fn not_created(clues: &Clues<'_>) -> Option<Cause> {
    let facts = clues.facts();
    if facts.unlabelled_revision().is_some() {
        return None;
    }
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
            Cause::new(what, clues.kubectl(next))
                .because_of(event.evidence(facts.stateful_set_source(), facts.now)),
        );
    }
    // OrderedReady: a pod starts only when all pods below it are Ready.
    let below = facts
        .survivors()
        .find(|member| member.ordinal < ordinal && (!member.pod.ready || member.pod.terminating))
        .filter(|_| !set.parallel);
    Some(if let Some(member) = below {
        let next = clues.kubectl(&["describe", "pod", &member.name]);
        Cause::new(format!("{pod} is started only once {} is Ready", member.name), next).because(
            ObjectRef::pod(&member.name),
            "condition Ready",
            "no",
        )
    } else {
        let next = clues.kubectl(&["describe", "statefulset", name]);
        Cause::new(format!("{pod} has no pod yet"), next).because(
            facts.stateful_set_source(),
            "spec.replicas",
            set.replicas,
        )
    })
}
