//! An API server that keeps the clusters of one namespace, and its ledger.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::ledger::{Found, InstanceLedger, InstanceLedgerSpec, Ledger, Listing, Revision};

use super::super::*;

/// What the API server does to a write of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// Another write came first.
    Conflict,
    /// It is stored, and the answer is lost.
    Lost,
    /// The permission is missing.
    Forbidden,
}

#[derive(Clone, Debug)]
struct Cluster {
    uid: String,
    at: u64,
    instances: i64,
    labels: Value,
}

#[derive(Debug, Default)]
pub(super) struct State {
    revision: u64,
    clusters: BTreeMap<String, Cluster>,
    ledger: Option<Value>,
    /// The mishaps of the next writes of the ledger.
    pub(super) mishaps: Vec<Mishap>,
    /// What is done with ledgers and clusters, as `VERB path`.
    pub(super) requests: Vec<String>,
}

/// The API server, with everything else as a [`FakeApiServer`] has it.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) other: FakeApiServer,
    /// The time that each write of a ledger takes.
    pub(super) slow: Duration,
}

/// Returns a policy with a budget.
pub(super) fn budget(instances: i64) -> Value {
    let mut policy = policy(&Value::Null);
    policy["metadata"]["uid"] = json!("p");
    policy["metadata"]["generation"] = json!(1);
    policy["spec"] = json!({"budget": {"instances": instances}});
    policy
}

impl Store {
    /// Returns a namespace with these policies and clusters, and no ledger.
    pub(super) fn new(policies: Vec<Value>, clusters: &[(&str, i64)]) -> Self {
        let other = FakeApiServer { policies, ..FakeApiServer::default() };
        let store = Self { state: Arc::default(), other, slow: Duration::ZERO };
        for (name, instances) in clusters {
            store.store(name, *instances);
        }
        store
    }

    /// Returns the same with a ledger that has settled.
    pub(super) fn ready(instances: i64, clusters: &[(&str, i64)]) -> Self {
        let store = Self::new(vec![budget(instances)], clusters);
        let ledger = store.settled();
        store.keep(ledger);
        store
    }

    /// Returns the ledger of all that is stored now.
    pub(super) fn settled(&self) -> Ledger {
        let state = self.state.lock().unwrap();
        let mut ledger = Ledger::unsettled(["p@1".to_owned()].into(), Timestamp::MIN);
        let found = |(name, it): (&String, &Cluster)| Found {
            name: name.clone(),
            uid: it.uid.clone(),
            at: Revision(it.at),
            instances: u32::try_from(it.instances).unwrap(),
        };
        let clusters = state.clusters.iter().map(found).collect();
        let begun = Some(Timestamp::UNIX_EPOCH);
        ledger.observe_all(&Listing { at: Revision(state.revision), begun, clusters }).unwrap();
        ledger
    }

    /// Stores a ledger past the webhook.
    pub(super) fn keep(&self, ledger: Ledger) {
        let object = InstanceLedger::to_store("db", InstanceLedgerSpec::of(ledger, 12), None);
        let mut state = self.state.lock().unwrap();
        state.write(serde_json::to_value(object).unwrap());
    }

    /// Stores a cluster: a new one, or another count.
    pub(super) fn store(&self, name: &str, instances: i64) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let at = state.revision;
        let new = || Cluster { uid: format!("uid-{name}"), at, instances, labels: json!({}) };
        let cluster = state.clusters.entry(name.to_owned()).or_insert_with(new);
        (cluster.at, cluster.instances) = (at, instances);
    }

    pub(super) fn instances(&self, name: &str) -> i64 {
        self.state.lock().unwrap().clusters[name].instances
    }

    /// Returns the review of an edit of the count, as the cluster is now.
    pub(super) fn edit(&self, name: &str, to: i64) -> Value {
        let state = self.state.lock().unwrap();
        let old = object_of(name, &state.clusters[name]);
        let mut new = old.clone();
        new["spec"]["numberOfInstances"] = json!(to);
        drop(state);
        let mut review = update(&old, &new);
        review["request"]["name"] = json!(name);
        review
    }

    /// Returns the stored ledger.
    pub(super) fn ledger(&self) -> Ledger {
        let state = self.state.lock().unwrap();
        let object: InstanceLedger = serde_json::from_value(state.ledger.clone().unwrap()).unwrap();
        object.spec.ledger
    }

    /// Returns (used, reserved).
    pub(super) fn sums(&self) -> (u64, u64) {
        let totals = self.ledger().totals();
        (totals.used, totals.reserved)
    }

    /// Returns what was done with ledgers and clusters since the last call.
    pub(super) fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// Returns one replica of the webhook.
    pub(super) fn replica(&self) -> Admission {
        let store = self.clone();
        let service = tower::service_fn(move |request| {
            let store = store.clone();
            async move { Ok::<_, Infallible>(store.answer(request).await) }
        });
        self.other.admission_by(Client::new(service, "default"))
    }

    async fn answer(&self, request: Request<ClientBody>) -> HttpResponse<ClientBody> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        let kind = parts.iter().find(|part| ["instanceledgers", "postgresqls"].contains(*part));
        let Some(kind) = kind.copied() else { return self.other.answer(request).await };
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let name = parts.last().copied().filter(|last| *last != kind);
        let asked = format!("{} {}", head.method, &path[path.find(kind).unwrap()..]);
        self.state.lock().unwrap().requests.push(asked);
        if kind == "postgresqls" {
            return reply(&self.cluster(&head.method, name, &body));
        }
        if head.method == Method::GET {
            let state = self.state.lock().unwrap();
            return reply(&match (name, &state.ledger) {
                (None, ledger) => {
                    Ok(list(&ledger.iter().cloned().collect::<Vec<_>>(), state.revision))
                }
                (Some(_), Some(ledger)) => Ok(ledger.clone()),
                (Some(_), None) => Err(404),
            });
        }
        tokio::time::sleep(self.slow).await;
        let answer = self.state.lock().unwrap().write_on_condition(body);
        match answer {
            Some(answer) => reply(&answer),
            None => futures::future::pending().await,
        }
    }

    fn cluster(&self, method: &Method, name: Option<&str>, body: &Value) -> Result<Value, u16> {
        let mut state = self.state.lock().unwrap();
        let next = state.revision + 1;
        let Some(name) = name else {
            let items: Vec<_> =
                state.clusters.iter().map(|(name, it)| object_of(name, it)).collect();
            return Ok(list(&items, state.revision));
        };
        let cluster = state.clusters.get_mut(name).ok_or(404_u16)?;
        if *method == Method::PATCH {
            let metadata = &body["metadata"];
            let at = cluster.at.to_string();
            if metadata["resourceVersion"] != json!(at) || metadata["uid"] != json!(cluster.uid) {
                return Err(409);
            }
            assert_eq!(body.as_object().unwrap().len(), 1, "a fence is about metadata: {body}");
            (cluster.labels, cluster.at) = (metadata["labels"].clone(), next);
        }
        let object = object_of(name, cluster);
        if *method == Method::PATCH {
            state.revision = next;
        }
        Ok(object)
    }
}

impl State {
    fn write(&mut self, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.ledger = Some(object.clone());
        object
    }

    /// Writes the ledger as the API server does. `None` where the answer is lost.
    fn write_on_condition(&mut self, object: Value) -> Option<Result<Value, u16>> {
        let mishap = if self.mishaps.is_empty() { None } else { Some(self.mishaps.remove(0)) };
        match mishap {
            Some(Mishap::Conflict) => return Some(Err(409)),
            Some(Mishap::Forbidden) => return Some(Err(403)),
            Some(Mishap::Lost) | None => {}
        }
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let present = self.ledger.as_ref().map_or(Value::Null, version);
        if version(&object) != present {
            return Some(Err(409));
        }
        let stored = self.write(object);
        (mishap != Some(Mishap::Lost)).then_some(Ok(stored))
    }
}

fn object_of(name: &str, cluster: &Cluster) -> Value {
    let mut object = object(cluster.instances);
    object["metadata"]["name"] = json!(name);
    object["metadata"]["uid"] = json!(cluster.uid);
    object["metadata"]["resourceVersion"] = json!(cluster.at.to_string());
    object["metadata"]["labels"] = cluster.labels.clone();
    object
}

fn list(items: &[Value], revision: u64) -> Value {
    let metadata = json!({"resourceVersion": revision.to_string()});
    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})
}

fn reply(answer: &Result<Value, u16>) -> HttpResponse<ClientBody> {
    let (status, body) = match answer {
        Ok(body) => (200, body.clone()),
        Err(code) => (
            *code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                "reason": "staged", "message": "staged"}),
        ),
    };
    let body = ClientBody::from(body.to_string().into_bytes());
    HttpResponse::builder().status(status).body(body).unwrap()
}
