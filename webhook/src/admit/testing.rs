//! Reviews as an API server sends them.

use serde_json::{Value, json};

/// Returns a `postgresql` object of `count` instances.
pub(crate) fn object(count: i64) -> Value {
    json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {"namespace": "db", "name": "acid-a", "uid": "c1", "resourceVersion": "7"},
        "spec": {"numberOfInstances": count, "teamId": "acid", "volume": {"size": "1Gi"},
                 "postgresql": {"version": "17"}},
    })
}

/// Returns the review of an UPDATE.
pub(crate) fn update(old: &Value, new: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "r1",
            "kind": {"group": "acid.zalan.do", "version": "v1", "kind": "postgresql"},
            "resource": {"group": "acid.zalan.do", "version": "v1", "resource": "postgresqls"},
            "name": "acid-a", "namespace": "db", "operation": "UPDATE",
            "userInfo": {"username": "dba", "groups": ["system:authenticated"]},
            "object": new, "oldObject": old, "dryRun": false,
            "options": {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// Returns the review of a CREATE.
pub(crate) fn create(new: &Value) -> Value {
    let mut review = update(&Value::Null, new);
    review["request"]["operation"] = json!("CREATE");
    review
}

/// Returns the review of a write of `postgresqls/scale`; `None` leaves `spec.replicas` out.
pub(crate) fn scale(from: Option<i64>, to: Option<i64>) -> Value {
    let scale = |replicas: Option<i64>| {
        let mut scale = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"namespace": "db", "name": "acid-a", "uid": "c1"},
            "spec": {}, "status": {"replicas": 3},
        });
        if let Some(replicas) = replicas {
            scale["spec"]["replicas"] = json!(replicas);
        }
        scale
    };
    let mut review = update(&scale(from), &scale(to));
    review["request"]["kind"] = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    review["request"]["subResource"] = json!("scale");
    review
}

/// Returns the review of a write of a StatefulSet, directly or through its `scale`.
pub(crate) fn stateful_set(from: i64, to: i64, by_scale: bool) -> Value {
    let mut review = if by_scale {
        scale(Some(from), Some(to))
    } else {
        let set = |replicas: i64| {
            json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet",
                "metadata": {"namespace": "db", "name": "acid-a", "uid": "s1"},
                "spec": {"replicas": replicas, "selector": {}, "template": {}},
            })
        };
        let mut review = update(&set(from), &set(to));
        review["request"]["kind"] =
            json!({"group": "apps", "version": "v1", "kind": "StatefulSet"});
        review
    };
    review["request"]["resource"] =
        json!({"group": "apps", "version": "v1", "resource": "statefulsets"});
    review
}
