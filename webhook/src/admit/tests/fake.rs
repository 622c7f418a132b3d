//! An API server in memory, and members that follow a script.

use super::*;

/// An API server in memory: its answers by path, and the requests that it got.
#[derive(Clone, Default)]
pub(super) struct FakeApiServer {
    pub(super) policies: Vec<Value>,
    pub(super) overrides: Vec<Value>,
    pub(super) claims: Vec<Value>,
    pub(super) pods: Vec<Value>,
    /// The settings of an operator, `None` where there is no operator.
    pub(super) operator: Option<Value>,
    pub(super) stored: Option<Value>,
    /// Other objects, by the end of their path.
    pub(super) others: Vec<(&'static str, Value)>,
    /// Every request hangs, as in a partition.
    pub(super) silent: bool,
    /// The time that every answer takes.
    pub(super) slow: Duration,
    /// The installation's choice for growth that cannot be judged.
    pub(super) growth: FailurePolicy,
    pub(super) requests: Arc<Mutex<Vec<(Method, String, Value)>>>,
}

impl FakeApiServer {
    pub(super) async fn answer(&self, request: Request<ClientBody>) -> HttpResponse<ClientBody> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        self.requests.lock().unwrap().push((parts.method.clone(), path.clone(), body.clone()));
        if self.silent {
            return futures::future::pending().await;
        }
        tokio::time::sleep(self.slow).await;
        let list = |items: &[Value]| json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
        let (status, answer) = match path.rsplit('/').next().unwrap_or_default() {
            "events" => (201, body),
            "scalepolicies" => (200, list(&self.policies)),
            "scaleoverrides" => (200, list(&self.overrides)),
            "persistentvolumeclaims" => (200, list(&self.claims)),
            "deployments" if self.operator.is_some() => (200, list(&[deployment()])),
            "postgres-operator" if path.contains("/deployments/") && self.operator.is_some() => {
                (200, deployment())
            }
            "postgres-operator" if path.contains("/configmaps/") && self.operator.is_some() => {
                let metadata = json!({"namespace": "default", "name": "postgres-operator"});
                (200, json!({"metadata": metadata, "data": self.operator}))
            }
            "pods" => (200, list(&self.pods)),
            "deployments" => (200, list(&[])),
            "acid-a" if path.contains("/postgresqls/") && self.stored.is_some() => {
                (200, self.stored.clone().unwrap())
            }
            _ => match self.others.iter().find(|(end, _)| path.ends_with(end)) {
                Some((_, object)) => (200, object.clone()),
                None => (
                    404,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotFound", "message": format!("{path} not found"), "code": 404}),
                ),
            },
        };
        HttpResponse::builder()
            .status(status)
            .body(ClientBody::from(answer.to_string().into_bytes()))
            .unwrap()
    }

    pub(super) fn admission(&self) -> Admission {
        let api_server = self.clone();
        let service = tower::service_fn(move |request| {
            let api_server = api_server.clone();
            async move { Ok::<_, Infallible>(api_server.answer(request).await) }
        });
        self.admission_by(Client::new(service, "default"))
    }

    /// Returns the webhook with a way to an API server of its own.
    pub(super) fn admission_by(&self, client: Client) -> Admission {
        let metrics = Arc::new(Metrics::new());
        let events = Events::new(client.clone(), Arc::clone(&metrics));
        let watch = Watch::new(Arc::clone(&metrics));
        let operators = KnownOperators::default();
        let ask: Arc<dyn MemberClient> = Arc::new(Silence);
        let ledgers =
            Ledgers::new(client.clone(), Arc::clone(&ask), operators.clone(), Arc::clone(&metrics));
        Admission {
            ledgers,
            limits: Limits::new(Arc::clone(&metrics)),
            operators,
            shared: Shared::new(client.clone(), metrics.reads()),
            client,
            ask,
            events,
            metrics,
            watch,
            growth: self.growth,
        }
    }

    /// Returns the bodies of the requests for one kind.
    pub(super) fn requested(&self, suffix: &str) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        let requests = requests.iter().filter(|(_, path, _)| path.ends_with(suffix));
        requests.map(|(.., body)| body.clone()).collect()
    }
}

/// Returns the Deployment of an operator as its own manifests install it.
fn deployment() -> Value {
    json!({
        "metadata": {"namespace": "default", "name": "postgres-operator"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"name": "postgres-operator"}},
            "template": {"spec": {"serviceAccountName": "postgres-operator", "containers": [{"name": "postgres-operator",
                "image": "ghcr.io/zalando/postgres-operator:v1.15.1",
                "env": [{"name": "CONFIG_MAP_NAME", "value": "postgres-operator"}]}]}}},
        "status": {"replicas": 1, "availableReplicas": 1},
    })
}

/// Members that do not answer.
pub(super) struct Silence;

impl MemberClient for Silence {
    fn exchange<'a>(
        &'a self,
        _: &'a Address,
        _: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        Box::pin(async { Err("connection refused".to_owned()) })
    }
}

/// Members for which each question panics.
pub(super) struct Panic;

impl MemberClient for Panic {
    fn exchange<'a>(
        &'a self,
        _: &'a Address,
        _: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        panic!("staged")
    }
}
