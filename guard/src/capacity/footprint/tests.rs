//! The amounts that pods count with and that quotas leave, case by case.

use serde_json::{Value, json};

use super::*;

fn made_from(pod: &Value, claims: &Value) -> Template {
    let set = serde_json::from_value(json!({"metadata": {"name": "acid-a"}, "spec": {
        "serviceName": "acid-a", "selector": {}, "template": {"spec": pod},
        "volumeClaimTemplates": claims}}));
    Template::of(&set.unwrap(), &[])
}

fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
}

fn container(requests: &Value, limits: &Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

#[test]
fn pod_counts_with_the_same_amounts_as_in_kubernetes() {
    let cpu = |requests: &str| container(&json!({"cpu": requests}), &json!({}));
    let sidecar = |requests: &str| {
        let mut sidecar = cpu(requests);
        sidecar["restartPolicy"] = json!("Always");
        sidecar
    };
    for (name, pod, requests, limits, unlimited) in [
        ("no requests", json!({"containers": [{"name": "c"}]}), "", "", "cpu memory"),
        (
            "all containers together",
            json!({"containers": [cpu("1"), cpu("500m")]}),
            "cpu=1500m",
            "",
            "cpu memory",
        ),
        (
            "a limit alone is a request too",
            json!({"containers": [container(&json!({"memory": "1Gi"}), &json!({"cpu": "2", "memory": "2Gi"}))]}),
            "cpu=2 memory=1073741824",
            "cpu=2 memory=2147483648",
            "",
        ),
        (
            "a container without a limit may take everything",
            json!({"containers": [container(&json!({}), &json!({"cpu": "2"})), cpu("1")]}),
            "cpu=3",
            "cpu=2",
            "cpu memory",
        ),
        (
            "a small init container adds nothing",
            json!({"initContainers": [cpu("1")], "containers": [cpu("2")]}),
            "cpu=2",
            "",
            "cpu memory",
        ),
        (
            "the largest init container",
            json!({"initContainers": [cpu("1"), cpu("3")], "containers": [cpu("2")]}),
            "cpu=3",
            "",
            "cpu memory",
        ),
        (
            "an init container that keeps running counts beside the others",
            json!({"initContainers": [sidecar("1"), cpu("3")], "containers": [cpu("2")]}),
            "cpu=4",
            "",
            "cpu memory",
        ),
        (
            "and after an init container only from then on",
            json!({"initContainers": [cpu("3"), sidecar("500m")], "containers": [cpu("2")]}),
            "cpu=3",
            "",
            "cpu memory",
        ),
        (
            "resources of the whole pod, and its overhead",
            json!({"containers": [cpu("1")], "overhead": {"cpu": "100m"},
                "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "4", "memory": "1Gi"}}}),
            "cpu=3100m",
            "cpu=4 memory=1073741824",
            "",
        ),
    ] {
        let footprint = Footprint::of(&made_from(&pod, &json!([]))).unwrap();
        let open: Vec<&str> = footprint.unlimited.iter().copied().collect();
        assert_eq!(
            (
                shown(&footprint.requests).as_str(),
                shown(&footprint.limits).as_str(),
                open.join(" ").as_str()
            ),
            (requests, limits, unlimited),
            "{name}"
        );
    }
    let broken = made_from(&json!({"containers": [cpu("lots")]}), &json!([]));
    assert_eq!(Footprint::of(&broken), Err("cpu is \"lots\", which is no quantity".to_owned()));
}

/// Describes the amount that is left or exceeded, by quota and resource, and the limits that were
/// not judged.
fn room(quota: &Value, added: &Added) -> String {
    let pod = json!({"priorityClassName": "db",
        "containers": [container(&json!({"cpu": "1", "memory": "1Gi"}), &json!({"cpu": "2"}))]});
    let claims = json!([{"metadata": {"name": "pgdata"},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "10Gi"}}}}]);
    let quota: ResourceQuota = serde_json::from_value(quota.clone()).unwrap();
    let quotas = Footprint::of(&made_from(&pod, &claims)).unwrap().quotas(&[quota], added);
    let rooms = quotas.rooms.iter().map(|room| match room.exceeded() {
        Some(more) => format!("{}: exceeded by {more}", room.resource),
        None => format!("{}: {} left", room.resource, room.hard.minus(room.after)),
    });
    let unset = quotas
        .unspecified
        .iter()
        .map(|it| format!("{}: not set for {}", it.resource, it.containers.join(" ")));
    rooms.chain(unset).chain(quotas.unjudged.iter().cloned()).collect::<Vec<_>>().join("; ")
}

#[test]
fn quota_is_judged_limit_by_limit() {
    let two = &Added { pods: 2, claims: Ok(2) };
    let unseen = &Added { pods: 2, claims: Err("the claims could not be read".into()) };
    let of = |hard: &str, used: &str, name: &str| json!({"metadata": {"name": "q"}, "spec": {"hard": {name: hard}}, "status": {"used": {name: used}}});
    for (quota, added, want) in [
        (of("5", "3", "pods"), two, "pods: 0 left"),
        (of("4", "3", "count/pods"), two, "count/pods: exceeded by 1"),
        (of("4", "3", "requests.cpu"), two, "requests.cpu: exceeded by 1"),
        (of("10", "3500m", "cpu"), two, "cpu: 4500m left"),
        (of("10", "3", "limits.cpu"), two, "limits.cpu: 3 left"),
        (of("4Gi", "3Gi", "requests.memory"), two, "requests.memory: exceeded by 1073741824"),
        (of("50Gi", "30Gi", "requests.storage"), two, "requests.storage: 0 left"),
        (of("4", "3", "persistentvolumeclaims"), two, "persistentvolumeclaims: exceeded by 1"),
        (
            of("4", "3", "fast.storageclass.storage.k8s.io/persistentvolumeclaims"),
            two,
            "fast.storageclass.storage.k8s.io/persistentvolumeclaims: exceeded by 1",
        ),
        (of("1Gi", "0", "slow.storageclass.storage.k8s.io/requests.storage"), two, ""),
        // A limit that the change does not touch is left out. One that it frees is shown.
        (of("1", "9", "services"), two, ""),
        // A container must set what a quota limits, or no pod is made.
        (of("1", "1", "limits.memory"), two, "limits.memory: not set for c"),
        (of("1", "1", "limits.memory"), &Added { pods: 0, claims: Ok(2) }, ""),
        (of("4", "3", "persistentvolumeclaims"), &Added { pods: 2, claims: Ok(0) }, ""),
        (of("2", "5", "pods"), &Added { pods: -2, claims: Ok(0) }, "pods: -1 left"),
        (of("9", "3", "pods"), unseen, "pods: 4 left"),
        (
            of("9", "3", "persistentvolumeclaims"),
            unseen,
            "q: persistentvolumeclaims: the claims could not be read",
        ),
        (of("5", "x", "pods"), two, "q: pods: pods is \"x\", which is no quantity"),
        (
            json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5"}}}),
            two,
            "q: pods: what is used was not counted yet",
        ),
    ] {
        assert_eq!(room(&quota, added), want, "{quota}");
    }
}

#[test]
fn quota_counts_the_pods_in_its_scope() {
    let scoped = |scope: Value| {
        let mut quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "9"}},
            "status": {"used": {"pods": "0"}}});
        quota["spec"].as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        quota
    };
    let by_class = |operator: &str, classes: &[&str]| {
        scoped(json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": classes}]}}))
    };
    let counted = "pods: 8 left";
    for (quota, want) in [
        (scoped(json!({})), counted),
        (scoped(json!({"scopes": ["NotTerminating"]})), counted),
        (scoped(json!({"scopes": ["Terminating"]})), ""),
        (scoped(json!({"scopes": ["NotTerminating", "BestEffort"]})), ""),
        (scoped(json!({"scopes": ["NotBestEffort"]})), counted),
        (by_class("In", &["db", "web"]), counted),
        (by_class("In", &["web"]), ""),
        (by_class("NotIn", &["web"]), counted),
        (by_class("Exists", &[]), counted),
        (by_class("DoesNotExist", &[]), ""),
        (
            scoped(json!({"scopes": ["CrossNamespacePodAffinity"]})),
            "q: its scope CrossNamespacePodAffinity is not judged here",
        ),
    ] {
        assert_eq!(room(&quota, &Added { pods: 1, claims: Ok(0) }), want, "{quota}");
    }
}

#[test]
fn priority_class_that_admission_may_give_is_not_guessed() {
    let template = made_from(&json!({"containers": []}), &json!([]));
    let in_scope = |admitted: bool, operator: &str| {
        let template = Template { admitted, ..template.clone() };
        let own = Footprint::of(&template).unwrap();
        own.in_scope("PriorityClass", operator, &["db".to_owned()])
    };
    for (operator, want) in
        [("In", false), ("NotIn", true), ("Exists", false), ("DoesNotExist", true)]
    {
        assert_eq!(in_scope(true, operator), Some(want), "{operator}");
        assert_eq!(in_scope(false, operator), None, "{operator}");
    }
}

#[test]
fn default_storage_class_is_not_guessed() {
    let claims = json!([{"metadata": {"name": "pgdata"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]);
    let footprint = Footprint::of(&made_from(&json!({"containers": []}), &claims)).unwrap();
    let added = &Added { pods: 1, claims: Ok(1) };
    assert!(footprint.adds("fast.storageclass.storage.k8s.io/requests.storage", added).is_err());
    assert_eq!(footprint.adds("persistentvolumeclaims", added), Ok(Some(Amount::whole(1))));
}
