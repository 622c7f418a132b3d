//! The commands, with a helm and an API server that write down what is asked of them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use crate::error::Failure;
use crate::helm::{Call, Helm, HelmError, Touch};
use crate::session::Session;
use crate::terminal::testing::Screen;
use crate::testing::{World, give};

/// What is there, and what was asked, in order.
#[derive(Default)]
struct State {
    /// The objects of the API server, by path.
    objects: BTreeMap<String, Value>,
    /// The releases that helm lists.
    releases: Vec<Value>,
    /// The word of the call at which helm fails.
    fails_at: Option<&'static str>,
    /// The definition that the API server refuses.
    refuses: Option<&'static str>,
    log: Vec<String>,
}

#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<State>>);

const REGISTRATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/pgscale.dev";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/pgscale-system/deployments/pgscale-webhook";

impl Helm for Cluster {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<String, HelmError>> {
        let mut state = self.0.lock().unwrap();
        let words = call.words.join(" ");
        if call.reach == Touch::Writes {
            state.log.push(format!("helm {words}"));
        }
        let verb = call.words[0].clone();
        let answer = match verb.as_str() {
            at if state.fails_at == Some(at) => Err(HelmError::Failed("Error: no".to_owned())),
            "version" => Ok("v3.14.0".to_owned()),
            "list" => Ok(json!(state.releases).to_string()),
            "template" | "get" => Ok(manifest("webhook:1")),
            "upgrade" if call.reach == Touch::Reads => {
                Ok(json!({"manifest": manifest("webhook:2")}).to_string())
            }
            "upgrade" => {
                state.installed();
                Ok(String::new())
            }
            "uninstall" => {
                state.objects.remove(DEPLOYMENT);
                state.releases.clear();
                Ok(String::new())
            }
            other => panic!("{other}"),
        };
        async move { answer }.boxed()
    }
}

/// Returns the manifest of the chart, as far as it matters here.
fn manifest(image: &str) -> String {
    format!(
        "---\nkind: Deployment\nmetadata: {{name: pgscale-webhook, namespace: ns}}\nspec:\n  \
         template: {{spec: {{containers: [{{image: '{image}'}}]}}}}\n---\nkind: Service\n\
         metadata: {{name: pgscale-webhook, namespace: ns}}\n"
    )
}

impl State {
    /// Adds what helm writes, as it is once the webhook answers.
    fn installed(&mut self) {
        let status = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2,
            "availableReplicas": 2});
        self.objects.insert(
            DEPLOYMENT.to_owned(),
            json!({"metadata": {"name": "pgscale-webhook", "generation": 1},
                "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status}),
        );
        let service = json!({"name": "pgscale-webhook", "namespace": "pgscale-system",
            "path": "/validate/x"});
        self.objects.insert(
            REGISTRATION.to_owned(),
            json!({"metadata": {"name": "pgscale.dev", "annotations": {
                    "meta.helm.sh/release-name": "pgscale",
                    "meta.helm.sh/release-namespace": "pgscale-system"}},
                "webhooks": [{"name": "shrink.pgscale.dev", "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    "clientConfig": {"service": service, "caBundle": "QQ=="}}]}),
        );
        let chart = format!("pgscale-{}", env!("CARGO_PKG_VERSION"));
        self.releases = vec![json!({"name": "pgscale", "namespace": "pgscale-system",
            "revision": "1", "status": "deployed", "chart": chart, "app_version": "x"})];
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        if *method != Method::GET {
            let name = path.rsplit('/').next().unwrap_or_default();
            self.log.push(format!("{method} {name}"));
        }
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": 404, "reason": "NotFound", "message": "not found", "details": {"name": "x"}});
        match *method {
            Method::PATCH if self.refuses.is_some_and(|name| path.ends_with(name)) => (
                403,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                    "reason": "Forbidden", "message": "no", "details": {"name": "x"}}),
            ),
            Method::PATCH if path.starts_with(DEFINITIONS) => {
                let mut object: Value = serde_json::from_slice(body).unwrap();
                object["status"] = json!({"acceptedNames": {"kind": "x", "plural": "x"},
                    "conditions": [{"type": "Established", "status": "True"}],
                    "storedVersions": []});
                self.objects.insert(path.to_owned(), object.clone());
                (200, object)
            }
            Method::DELETE => match self.objects.remove(path) {
                Some(object) => (200, object),
                None => (404, missing),
            },
            _ if path == "/version" => (
                200,
                json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3",
                    "gitCommit": "x", "gitTreeState": "clean", "buildDate": "x",
                    "goVersion": "x", "compiler": "gc", "platform": "linux/amd64"}),
            ),
            _ if path == "/apis" => {
                (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
            }
            _ => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => (404, missing),
            },
        }
    }
}

impl Cluster {
    fn session(&self, screen: &Screen, person: Option<&str>) -> Session {
        let cluster = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let mut state = cluster.0.lock().unwrap();
                let (code, body) = state.answer(&parts.method, parts.uri.path(), &body);
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        let mut session = World::new(1, 0).session(screen, person);
        session.client = kube::Client::new(service, "db");
        session.reader.client = session.client.clone();
        session.helm = Arc::new(self.clone());
        session
    }

    async fn run(&self, line: &str, person: Option<&str>) -> (Screen, Result<(), Failure>) {
        let screen = Screen::default();
        let session = self.session(&screen, person);
        let ended = tokio::time::timeout(Duration::from_secs(30), give(&session, line)).await;
        (screen, ended.expect("a bounded wait"))
    }

    /// Returns what was written since the last look.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    fn there() -> Self {
        let cluster = Self::default();
        cluster.0.lock().unwrap().installed();
        cluster
    }
}

#[tokio::test]
async fn installation_writes_the_definitions_first_and_ends_with_the_verdict() {
    let cluster = Cluster::default();
    let (screen, ended) = cluster.run("install --yes --set a=b", None).await;
    insta::assert_snapshot!(cluster.log().join("\n"), @"
    PATCH clusterscalepolicies.pgscale.dev
    PATCH instanceledgers.pgscale.dev
    PATCH scaleoverrides.pgscale.dev
    PATCH scalepolicies.pgscale.dev
    helm upgrade --install pgscale charts/pgscale --namespace=pgscale-system --create-namespace --skip-crds --reset-values --set=a=b
    ");
    // Nothing else of a cluster is there, so doctor finds the guard wanting.
    let failure = ended.unwrap_err();
    assert_eq!(failure.kind.code(), 5, "{failure}");
    assert!(screen.stdout().contains("the guard DOES NOT HOLD"), "{}", screen.stdout());
    let said = screen.stderr();
    assert!(
        said.contains("- 2 objects, by helm") && said.contains("none is published yet"),
        "{said}"
    );
}

#[tokio::test]
async fn nothing_is_written_where_the_person_declines_or_only_looks() {
    let cluster = Cluster::default();
    for (line, person, code) in [
        ("install", Some("n\n"), 7),
        ("install", None, 7),
        ("install --dry-run=client", None, 0),
        ("install --dry-run=client -o yaml", None, 0),
        ("install --dry-run=client -o json", None, 0),
        ("upgrade", None, 1),
        ("uninstall", None, 0),
    ] {
        let (_, ended) = cluster.run(line, person).await;
        let ended = ended.map_or_else(|failure| failure.kind.code(), |()| 0);
        assert_eq!((ended, cluster.log()), (code, vec![]), "{line}");
    }
    let cluster = Cluster::there();
    for (line, person, code) in [
        ("install --yes", None, 1),
        ("upgrade", Some("no\n"), 7),
        ("upgrade --dry-run=client", None, 0),
        ("upgrade --dry-run=client -o yaml", None, 0),
        ("uninstall", Some("\n"), 7),
        ("uninstall --dry-run=client", None, 0),
    ] {
        let (_, ended) = cluster.run(line, person).await;
        let ended = ended.map_or_else(|failure| failure.kind.code(), |()| 0);
        assert_eq!((ended, cluster.log()), (code, vec![]), "{line}");
    }
}

#[tokio::test]
async fn manifests_begin_with_their_namespace() {
    let cluster = Cluster::default();
    let (screen, ended) = cluster.run("install --dry-run=client -o yaml", None).await;
    ended.unwrap();
    let begins = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: pgscale-system\n---\n";
    assert!(screen.stdout().starts_with(begins), "{}", screen.stdout());
    let (screen, ended) = cluster.run("install --dry-run=client -o json", None).await;
    ended.unwrap();
    let list: Value = serde_json::from_str(&screen.stdout()).unwrap();
    let kinds: Vec<_> = list["items"].as_array().unwrap().iter().map(|it| &it["kind"]).collect();
    assert_eq!(kinds, ["Namespace", "Deployment", "Service"]);
    let (screen, _) = cluster.run("install --dry-run=client -o name", None).await;
    let names = "namespace/pgscale-system\ndeployment/pgscale-webhook\nservice/pgscale-webhook\n";
    assert_eq!(screen.stdout(), names);
    // Those of an upgrade have the definitions too, which the release does not hold.
    let (screen, _) = Cluster::there().run("upgrade --dry-run=client -o name", None).await;
    let names = screen.stdout();
    assert_eq!(names.matches("customresourcedefinition/").count(), 4, "{names}");
}

#[tokio::test]
async fn upgrade_names_the_objects_that_change() {
    let cluster = Cluster::there();
    let (screen, ended) = cluster.run("upgrade --dry-run=client", None).await;
    ended.unwrap();
    insta::assert_snapshot!(screen.stdout(), @"
    Write 0.1.0 again as the release pgscale in namespace pgscale-system:
    - definition clusterscalepolicies.pgscale.dev: new
    - definition instanceledgers.pgscale.dev: new
    - definition scaleoverrides.pgscale.dev: new
    - definition scalepolicies.pgscale.dev: new
    - 1 object changed: Deployment ns/pgscale-webhook
    - image webhook:2: its name has no registry, and none is published yet. Set image.repository to yours
    nothing was changed (dry run)
    ");
}

#[tokio::test]
async fn removal_takes_the_registration_before_the_webhook() {
    let cluster = Cluster::there();
    let (screen, ended) = cluster.run("uninstall --yes", None).await;
    ended.unwrap();
    insta::assert_snapshot!(cluster.log().join("\n"), @"
    DELETE pgscale.dev
    helm uninstall pgscale --namespace=pgscale-system
    ");
    assert!(screen.stdout().contains("is uninstalled"), "{}", screen.stdout());
    let (screen, ended) = cluster.run("uninstall --yes", None).await;
    ended.unwrap();
    assert_eq!(cluster.log(), [""; 0]);
    assert!(screen.stdout().contains("nothing is installed"), "{}", screen.stdout());
}

#[tokio::test]
async fn failure_of_helm_says_what_was_done_and_can_be_repeated() {
    let cluster = Cluster::there();
    cluster.0.lock().unwrap().fails_at = Some("uninstall");
    let (_, ended) = cluster.run("uninstall --yes", None).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.kind.code(), 5, "{failure}");
    assert!(failure.text().contains("the registration is gone"), "{failure}");
    cluster.0.lock().unwrap().fails_at = None;
    let (_, again) = cluster.run("uninstall --yes", None).await;
    again.unwrap();

    let bare = Cluster::default();
    bare.0.lock().unwrap().fails_at = Some("template");
    let (_, ended) = bare.run("install --yes", None).await;
    let failure = ended.unwrap_err();
    assert_eq!((failure.kind.code(), bare.log()), (1, vec![]), "bad values end it: {failure}");
    bare.0.lock().unwrap().fails_at = Some("upgrade");
    let (_, ended) = bare.run("install --yes", None).await;
    assert_eq!(ended.unwrap_err().kind.code(), 5);
}

#[tokio::test]
async fn refused_second_definition_says_what_is_written_and_the_next_run_goes_on() {
    let cluster = Cluster::default();
    cluster.0.lock().unwrap().refuses = Some("instanceledgers.pgscale.dev");
    let (_, ended) = cluster.run("install --yes", None).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.kind.code(), 5, "{failure}");
    let said = failure.to_string();
    assert!(said.contains("write the definition instanceledgers.pgscale.dev"), "{said}");
    assert!(said.contains("written before: clusterscalepolicies.pgscale.dev"), "{said}");
    assert!(cluster.log().iter().all(|line| !line.starts_with("helm")), "helm ran: {said}");

    cluster.0.lock().unwrap().refuses = None;
    cluster.run("install --yes", None).await.1.unwrap_err();
    let log = cluster.log();
    assert!(!log.contains(&"PATCH clusterscalepolicies.pgscale.dev".to_owned()), "{log:?}");
    assert!(log.contains(&"PATCH instanceledgers.pgscale.dev".to_owned()), "{log:?}");
    assert!(log.iter().any(|line| line.starts_with("helm upgrade --install")), "{log:?}");

    // Where the first is refused, nothing is written.
    let cluster = Cluster::default();
    cluster.0.lock().unwrap().refuses = Some("clusterscalepolicies.pgscale.dev");
    let failure = cluster.run("install --yes", None).await.1.unwrap_err();
    assert_eq!(failure.kind.code(), 1, "{failure}");
    assert!(!failure.to_string().contains("written before"), "{failure}");
}

/// A helm whose Deployment has vanished.
struct Silent(Cluster);
impl Helm for Silent {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<String, HelmError>> {
        let answer = Helm::run(&self.0, call);
        async move {
            let answer = answer.await;
            self.0.0.lock().unwrap().objects.remove(DEPLOYMENT);
            answer
        }
        .boxed()
    }
}

#[tokio::test]
async fn webhook_that_does_not_answer_in_time_ends_with_4_and_the_verdict() {
    let cluster = Cluster::default();
    let screen = Screen::default();
    let session = cluster.session(&screen, None);
    let session = Session { helm: Arc::new(Silent(cluster)), ..session };
    let failure = give(&session, "install --yes --timeout=30ms").await.unwrap_err();
    assert_eq!(failure.kind.code(), 4, "{failure}");
    assert!(failure.text().contains("there is no Deployment pgscale-webhook"), "{failure}");
    assert!(screen.stdout().contains("the guard DOES NOT HOLD"), "{}", screen.stdout());
}
