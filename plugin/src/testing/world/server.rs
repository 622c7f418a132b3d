//! The answers of the API server.

use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::super::growth::Stage;
use super::super::{object, with_resources};
use super::objects::operator;
use super::{Mishap, State};

/// Answers one request to the API server.
pub(super) async fn serve(
    state: &Mutex<State>,
    request: Request<Body>,
) -> Result<Response<Body>, tower::BoxError> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let body = body.collect_bytes().await?;
    let mut state = state.lock().unwrap();
    if state.is_away(&path) {
        return Err("connection refused".into());
    }
    if let Some(answer) = state.misplaced(&path) {
        return Ok(answer);
    }
    if parts.method == Method::PATCH {
        let wish: Value = serde_json::from_slice(&body)?;
        if path.contains("/configmaps/") {
            let mut map = state.history.clone().unwrap_or_default();
            map["metadata"]["resourceVersion"] = wish["metadata"]["resourceVersion"].clone();
            map["data"] = wish["data"].clone();
            return Ok(state.store(&path, map));
        }
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
        let dry_run = query.contains("dryRun=All").then(|| manager.unwrap_or_default());
        return state.write(&wish, dry_run);
    }
    if path.ends_with("/selfsubjectaccessreviews") {
        return Ok(state.review(serde_json::from_slice(&body)?));
    }
    if parts.method == Method::POST {
        let object = serde_json::from_slice(&body)?;
        if query.contains("dryRun=All") {
            return Ok(respond(201, &object));
        }
        return Ok(state.store(&path, object));
    }
    Ok(state.read(&path, &query))
}

pub(super) fn respond(code: u16, body: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

pub(super) fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let causes = json!([{"reason": "below-min", "message": "2 instances asked, 3 is the minimum",
        "field": "spec.numberOfInstances"}]);
    let details =
        if code == 403 { json!({"causes": causes}) } else { json!({"name": "what was asked for"}) };
    respond(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": message, "details": details}),
    )
}

pub(super) fn list(items: &[Value]) -> Response<Body> {
    let metadata = json!({"resourceVersion": "1000000"});
    respond(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

impl State {
    pub(super) fn now(&self) -> String {
        (self.clock)().to_string()
    }

    fn object(&self) -> Value {
        let mut object = object(self.declared);
        object["metadata"]["uid"] = json!(self.uid);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let time = self.growth.as_ref().map(|growth| growth.since.clone());
        object["metadata"]["managedFields"] = self
            .managers
            .iter()
            .map(|manager| {
                json!({"manager": manager, "operation": "Update", "time": time,
                    "fieldsV1": {"f:spec": {"f:numberOfInstances": {}}}})
            })
            .collect();
        if self.mishap == Some(Mishap::LeadReturnsLate) && self.declared < self.replicas {
            object["status"] = json!({"PostgresClusterStatus": "Updating"});
        }
        object
    }

    fn another(&self) -> Value {
        let mut object = self.object();
        object["metadata"]["name"] = json!("acid-b");
        object["metadata"]["deletionTimestamp"] = json!("2026-11-24T09:00:00Z");
        object
    }

    /// Takes a write, or a dry run under this field manager.
    fn write(
        &mut self,
        patch: &Value,
        dry_run: Option<&str>,
    ) -> Result<Response<Body>, tower::BoxError> {
        if self.denied.contains(&"patch postgresqls") {
            return Ok(failure(403, "Forbidden", "postgresqls \"acid-a\" is forbidden"));
        }
        match dry_run {
            Some(manager) => self.dry_runs.push((manager.to_owned(), patch.clone())),
            None => self.writes.push(patch.clone()),
        }
        let mishap = self.mishap;
        match (mishap, dry_run) {
            (Some(Mishap::Conflict), _) => self.version += 1,
            (Some(Mishap::ConflictAndHiddenClaims), _) => {
                self.version += 1;
                self.hidden = vec!["persistentvolumeclaims"];
            }
            (Some(Mishap::PendingAndCounted), None) => {
                self.version += 1;
                self.declared = patch["spec"]["numberOfInstances"].as_i64().unwrap();
                self.replicas = self.declared;
                self.members = self.declared;
            }
            (Some(Mishap::Recreated), _) | (Some(Mishap::RecreatedAfterDryRun), None) => {
                self.version += 1;
                self.uid = "u2".to_owned();
            }
            (Some(Mishap::Denial), _) | (Some(Mishap::DenialAfterDryRun), None) => {
                let text = "admission webhook \"shrink.pgscale.dev\" denied the request: below-min: \
                            2 instances asked, 3 is the minimum";
                return Ok(failure(403, "Forbidden", text));
            }
            (Some(Mishap::DryRunUnsupported), Some(_)) => {
                let text = "admission webhook \"audit.example.com\" does not support dry run";
                return Ok(failure(400, "BadRequest", text));
            }
            (Some(Mishap::LostBefore), None) => return Err("connection reset by peer".into()),
            // They fail elsewhere.
            (Some(_) | None, _) => {}
        }
        if matches!(
            mishap,
            Some(Mishap::Conflict | Mishap::ConflictAndHiddenClaims | Mishap::Recreated)
        ) {
            self.mishap = None;
        }
        if patch["metadata"]["resourceVersion"] != json!(self.version.to_string()) {
            return Ok(failure(409, "Conflict", "the object has been modified"));
        }
        if dry_run.is_some() {
            return Ok(respond(200, &self.object()));
        }
        self.version += 1;
        let Some(count) = patch["spec"]["numberOfInstances"].as_i64() else {
            // The operator acts on an annotation as it does on the count.
            self.replicas = self.declared;
            self.members = self.declared;
            return Ok(respond(200, &self.object()));
        };
        self.declared = count;
        self.managers = vec!["kubectl-pgscale"];
        if matches!(mishap, Some(Mishap::UpdateDropped | Mishap::ActsLate(_))) {
            return Ok(respond(200, &self.object()));
        }
        if matches!(
            mishap,
            Some(
                Mishap::LeadReturns
                    | Mishap::LeadReturnsLate
                    | Mishap::LeadReturnsFrozen
                    | Mishap::LeadReturnsForGood
            )
        ) {
            let first = self.writes.iter().filter(|it| it["spec"].is_object()).count() <= 1;
            if self.declared < self.replicas && first {
                self.leader = self.members - 1;
                self.timeline += 1;
            } else if self.declared < self.replicas {
                self.replicas = self.declared;
                self.members = self.declared;
            }
            if mishap == Some(Mishap::LeadReturnsForGood) {
                self.stalled = (0..self.declared).collect();
            }
            return Ok(respond(200, &self.object()));
        }
        if let Some(growth) = &mut self.growth {
            growth.since = (self.clock)().to_string();
        }
        self.replicas = self.declared;
        self.members = self.declared;
        match mishap {
            Some(Mishap::LostAfter) => return Err("connection reset by peer".into()),
            Some(Mishap::StallsAgain) => self.stalled = vec![0],
            Some(Mishap::Reverted) => {
                self.version += 1;
                self.declared = 3;
                self.managers = vec!["argocd-controller"];
            }
            _ => {}
        }
        Ok(respond(200, &self.object()))
    }

    /// Stores objects other than the cluster: the history, Events, and reviews of the user.
    fn store(&mut self, path: &str, object: Value) -> Response<Body> {
        match path.rsplit('/').next().unwrap_or_default() {
            "selfsubjectreviews" => respond(
                201,
                &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
                    "metadata": {}, "status": {"userInfo": {"username": "dba"}}}),
            ),
            "events" => {
                self.events.push(object.clone());
                respond(201, &object)
            }
            "scaleoverrides" => {
                let mut object = object;
                let name = object["metadata"]["generateName"].as_str().unwrap_or_default();
                object["metadata"]["name"] = json!(format!("{name}x7k2p"));
                object["metadata"]["creationTimestamp"] = json!(self.now());
                self.overrides.push(object.clone());
                respond(201, &object)
            }
            "configmaps" | "pgscale-history-acid-a" => {
                let there = self.history.as_ref().map(|map| &map["metadata"]["resourceVersion"]);
                if self.history_conflicts > 0
                    || there
                        .is_some_and(|version| *version != object["metadata"]["resourceVersion"])
                {
                    self.history_conflicts = self.history_conflicts.saturating_sub(1);
                    return failure(409, "Conflict", "the object has been modified");
                }
                let version = there
                    .and_then(Value::as_str)
                    .map_or(1, |version| version.parse::<u64>().unwrap() + 1);
                let mut object = object;
                object["metadata"]["resourceVersion"] = json!(version.to_string());
                self.history = Some(object.clone());
                respond(200, &object)
            }
            _ => failure(404, "NotFound", &format!("{path} not found")),
        }
    }

    fn review(&self, mut review: Value) -> Response<Body> {
        if self.denied.contains(&"review") {
            return failure(403, "Forbidden", "reviews are denied");
        }
        let of = &review["spec"]["resourceAttributes"];
        let word = |name: &str| of[name].as_str().unwrap_or_default();
        let sub = word("subresource");
        let slash = if sub.is_empty() { "" } else { "/" };
        let asked = format!("{} {}{slash}{sub}", word("verb"), word("resource"));
        review["status"] = json!({"allowed": !self.denied.contains(&asked.as_str())});
        respond(201, &review)
    }

    fn read(&mut self, path: &str, query: &str) -> Response<Body> {
        let last = path.rsplit('/').next().unwrap_or_default();
        if let Some(hidden) = self.hidden.iter().find(|it| path.split('/').any(|part| part == **it))
        {
            return failure(403, "Forbidden", &format!("{hidden} is forbidden"));
        }
        if path.contains("/metrics.k8s.io/") {
            return self.usage(path);
        }
        match last {
            "postgresqls" if self.fleet > 0 => {
                let one = |number: usize| {
                    let mut object = self.object();
                    object["metadata"]["namespace"] = json!(format!("db-{number}"));
                    object
                };
                list(&(0..self.fleet).map(one).collect::<Vec<_>>())
            }
            "postgresqls" if self.second => list(&[self.object(), self.another()]),
            "resourcequotas" if self.with_resources => list(&with_resources::quotas(self.members)),
            "persistentvolumeclaims" if self.with_resources => {
                list(&with_resources::claims(self.members + 1, (self.clock)()))
            }
            "namespaces" => list(&["db", "default"].map(|name| {
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": name}})
            })),
            "postgresqls" => list(&[self.object()]),
            "acid-b" if self.second && path.contains("/postgresqls/") => {
                respond(200, &self.another())
            }
            "pgscale-history-acid-a" if self.history.is_some() => {
                respond(200, self.history.as_ref().unwrap())
            }
            "events" if self.quota_spent && query.contains("involvedObject.name%3Dacid-a%2C") => {
                list(&[json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
                    "involvedObject": {"kind": "StatefulSet", "name": "acid-a"},
                    "type": "Warning", "reason": "FailedCreate", "lastTimestamp": self.now(),
                    "message": "pods \"acid-a-3\" is forbidden: exceeded quota: team"})])
            }
            "events" | "log" if self.growth.is_some() => self.tell(last, query),
            "acid-a" if path.contains("/postgresqls/") => {
                // Every read of the cluster begins here.
                if let Some(growth) = self.growth.as_mut().filter(|it| self.members > it.from) {
                    growth.looks += 1;
                }
                self.be_less_busy();
                self.act_late();
                respond(200, &self.object())
            }
            "acid-a" if path.contains("/statefulsets/") => respond(200, &self.stateful_set()),
            "pods" => {
                let ordinals =
                    (0..self.members).filter(|ordinal| self.stage(*ordinal) != Some(Stage::Absent));
                let pods: Vec<Value> = ordinals.map(|ordinal| self.pod(ordinal)).collect();
                list(&pods)
            }
            "acid-a-leader" => self.annotated(last, &self.lock()),
            "acid-a-config" => {
                let mut config = json!({"maximum_lag_on_failover": 1_000_000});
                if self.paused {
                    config["pause"] = json!(true);
                }
                if self.standby_cluster {
                    // Patroni ignores the mode in a standby cluster.
                    config["standby_cluster"] = json!({"host": "remote"});
                    config["synchronous_mode"] = json!(true);
                }
                if let Some(slot) = self.logical_slot {
                    config["slots"][slot] =
                        json!({"type": "logical", "database": "shop", "plugin": "pgoutput"});
                }
                self.annotated(last, &json!({"config": config.to_string()}))
            }
            "acid-a-failover" if self.mishap == Some(Mishap::SwitchoverPending) => {
                self.annotated(last, &json!({"leader": "acid-a-4", "member": "acid-a-1"}))
            }
            "acid-a-failover" if self.mishap == Some(Mishap::SwitchoversHidden) => {
                failure(403, "Forbidden", "configmaps \"acid-a-failover\" is forbidden")
            }
            "endpointslices" => list(&[self.slice(query.contains("repl"))]),
            "deployments" if query.contains("pgscale-webhook") => list(&[]),
            "deployments" => list(&[operator()]),
            "postgres-operator" if path.contains("/deployments/") => respond(200, &operator()),
            "events"
            | "persistentvolumeclaims"
            | "resourcequotas"
            | "limitranges"
            | "poddisruptionbudgets"
            | "nodes" => list(&[]),
            "postgres-operator" => {
                let (min, max) = self.limits;
                respond(
                    200,
                    &json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"namespace": "default", "name": last},
                        "data": {"watched_namespace": "*", "min_instances": min.to_string(),
                            "max_instances": max.to_string(), "kubernetes_use_configmaps": "true"}}),
                )
            }
            _ if path.contains("/nodes/") => {
                let mut node = json!({"apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": last, "labels": {}},
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
                if self.with_resources {
                    node["metadata"]["labels"]["topology.kubernetes.io/zone"] =
                        json!(with_resources::zone(last));
                }
                respond(200, &node)
            }
            "scaleoverrides" => list(&self.overrides),
            "scalepolicies" | "clusterscalepolicies" if !self.policies.is_empty() => {
                let kind =
                    if last == "scalepolicies" { "ScalePolicy" } else { "ClusterScalePolicy" };
                let of_kind = self.policies.iter().filter(|policy| policy["kind"] == kind);
                list(&of_kind.cloned().collect::<Vec<_>>())
            }
            _ => self
                .ledgers(last)
                .unwrap_or_else(|| failure(404, "NotFound", &format!("{path} not found"))),
        }
    }

    /// Returns the stage of an added member.
    pub(super) fn stage(&self, ordinal: i64) -> Option<Stage> {
        let growth = self.growth.as_ref().filter(|growth| ordinal >= growth.from)?;
        Some(growth.stage())
    }

    /// Returns Events and logs.
    fn tell(&mut self, what: &str, query: &str) -> Response<Body> {
        let Some(growth) = &mut self.growth else { return list(&[]) };
        let asked = if what == "log" { &mut growth.asked.1 } else { &mut growth.asked.0 };
        *asked += 1;
        if growth.forbidden {
            return failure(403, "Forbidden", "events is forbidden");
        }
        if what == "log" {
            let log = "pg_basebackup: error: connection to server failed: FATAL: no pg_hba.conf entry\n\
                       INFO: Lock owner: acid-a-0; I am acid-a-3\n";
            return Response::new(Body::from(log.as_bytes().to_vec()));
        }
        let name = query.split("involvedObject.name%3D").nth(1).unwrap_or_default();
        list(&growth.events(name.split('&').next().unwrap_or_default()))
    }

    /// Returns the annotations of the leader lock, which may have no holder.
    fn lock(&self) -> Value {
        let mut lock = json!({"ttl": "30", "renewTime": self.now(), "optime": "1000",
            "transitions": "0"});
        if self.leader >= 0 {
            lock["leader"] = json!(format!("acid-a-{}", self.leader));
        }
        lock
    }
}
