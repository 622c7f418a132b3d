//! Watches that announce changes of what early refusals rest on: policies, overrides, namespaces, and the
//! objects of the operators.
//!
//! A watch alone does not know how old it is: a connection may be silent because nothing changes, or
//! because it is dead. So no decision rests on it. It only says earlier than the end of a second that an
//! answer is too old. Without a watch each early refusal asks the API server itself. The watches hold no
//! object, whatever the number of objects is.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, ObjectList, Request, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource};
use pgscale_guard::overrides::ScaleOverride;
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy};
use pgscale_guard::read::{KnownOperators, Shared, Source};
use tokio::time::Instant;

/// The time after which the API server ends a watch, and the next one goes on where it ended. It is less
/// than the client waits for a silent connection.
const WATCH_TIME: u32 = 25;
/// The time for the start of a watch. What changes between two watches is announced when the second has
/// started.
const START_TIME: Duration = Duration::from_millis(250);
/// The time for which a watch lives at least, where the API server works.
const LEAST_TIME: Duration = Duration::from_secs(1);
/// The shortest and the longest pause after a watch that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What one watch announces.
#[derive(Clone, Debug)]
struct Subject {
    /// The name under which its changes are announced.
    key: String,
    /// The path of its objects.
    collection: String,
    /// The one object of these that it is about. `None` for all.
    name: Option<String>,
}

impl Subject {
    /// Names all objects of a kind.
    fn all<K: Resource<DynamicType = ()>>() -> Self {
        let path = K::url_path(&(), None);
        Self { key: path.clone(), collection: path, name: None }
    }

    /// Names one object of an operator.
    fn one(source: &Source) -> Self {
        let Source { collection, name } = source;
        Self { key: source.path(), collection: collection.clone(), name: Some(name.clone()) }
    }

    fn fields(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("metadata.name={name}"))
    }
}

/// Watches until the task ends.
pub(crate) async fn announce(client: Client, shared: Shared, operators: KnownOperators) {
    let subjects = [
        Subject::all::<ScalePolicy>(),
        Subject::all::<ClusterScalePolicy>(),
        Subject::all::<ScaleOverride>(),
        Subject::all::<Namespace>(),
    ];
    futures::join!(
        keep_watching_all(&client, &shared, &subjects),
        follow(&client, &shared, operators)
    );
}

/// Watches the objects that the last look at the operators rests on.
async fn follow(client: &Client, shared: &Shared, operators: KnownOperators) {
    let mut sources = operators.sources();
    loop {
        let subjects: Vec<_> = sources.borrow_and_update().iter().map(Subject::one).collect();
        let changed = tokio::select! {
            () = keep_watching_all(client, shared, &subjects) => return,
            changed = sources.changed() => changed,
        };
        for Subject { key, .. } in &subjects {
            shared.unannounced(key);
        }
        if changed.is_err() {
            return;
        }
    }
}

/// Watches all subjects, and never ends.
async fn keep_watching_all(client: &Client, shared: &Shared, subjects: &[Subject]) {
    join_all(subjects.iter().map(|subject| keep_watching(client, shared, subject))).await;
    futures::future::pending::<()>().await;
}

async fn keep_watching(client: &Client, shared: &Shared, subject: &Subject) {
    let (shortest, longest) = PAUSES;
    let mut pause = shortest;
    loop {
        let begun = Instant::now();
        let error = watch(client, shared, subject).await;
        shared.unannounced(&subject.key);
        tracing::debug!(%error, subject.key, "the watch has ended");
        pause = if begun.elapsed() > longest { shortest } else { longest.min(pause * 2) };
        tokio::time::sleep(pause).await;
    }
}

/// Watches from now on. Returns the reason why that is not possible any more.
async fn watch(client: &Client, shared: &Shared, subject: &Subject) -> kube::Error {
    let path = Request::new(subject.collection.clone());
    let mut list = ListParams::default().limit(1);
    list.field_selector = subject.fields();
    let list = match path.list_metadata(&list) {
        Ok(list) => client.request::<ObjectList<PartialObjectMeta>>(list).await,
        Err(error) => return kube::Error::BuildRequest(error),
    };
    let mut version = match list {
        Ok(list) => list.metadata.resource_version.unwrap_or_default(),
        Err(error) => return error,
    };
    let mut parameters = WatchParams::default().timeout(WATCH_TIME);
    parameters.field_selector = subject.fields();
    loop {
        let begun = Instant::now();
        let start = match path.watch_metadata(&parameters, &version) {
            Ok(start) => client.request_events::<PartialObjectMeta>(start),
            Err(error) => return kube::Error::BuildRequest(error),
        };
        let mut events = match tokio::time::timeout(START_TIME, start).await {
            Ok(Ok(events)) => events.boxed(),
            Ok(Err(error)) => return error,
            Err(_) => return kube::Error::Service("it did not start in time".into()),
        };
        if shared.unchanged_since(&subject.key).is_none() {
            shared.announced(&subject.key);
        }
        while let Some(event) = events.next().await {
            let seen = match event {
                Ok(WatchEvent::Bookmark(mark)) => Some(mark.metadata.resource_version),
                Ok(WatchEvent::Error(status)) => return kube::Error::Api(status),
                Ok(
                    WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object),
                ) => {
                    shared.changed(&subject.key);
                    object.metadata.resource_version
                }
                Err(error) => return error,
            };
            version = seen.unwrap_or(version);
        }
        if begun.elapsed() < LEAST_TIME {
            return kube::Error::Service("it ended at once".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use axum::http::{Request, Response};
    use futures::channel::mpsc;
    use kube::client::Body;
    use pgscale_guard::read::Moment;
    use serde_json::{Value, json};

    use super::*;

    /// Returns an API server with two watches, which bring what is sent to their channels, and its
    /// client.
    fn server() -> ([mpsc::UnboundedSender<Value>; 2], Client) {
        let channels: [_; 2] = std::array::from_fn(|_| mpsc::unbounded::<Value>());
        let senders = channels.each_ref().map(|(sender, _)| sender.clone());
        let mut watches = channels.map(|(_, receiver)| receiver).into_iter();
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let body = if query.contains("watch=true") {
                match watches.next() {
                    Some(events) => axum::body::Body::from_stream(
                        events.map(|event| Ok::<_, Infallible>(event.to_string() + "\n")),
                    ),
                    None => axum::body::Body::empty(),
                }
            } else {
                let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": "7"}, "items": []});
                axum::body::Body::from(list.to_string())
            };
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        (senders, Client::new(service, "default"))
    }

    #[tokio::test(start_paused = true)]
    async fn change_is_announced_and_the_end_of_a_watch_too() {
        let ([first, second], client) = server();
        let shared = Shared::new(client.clone(), Arc::new(|_| {}));
        let root = ScalePolicy::url_path(&(), None);
        let watching = tokio::spawn({
            let shared = shared.clone();
            async move { keep_watching(&client, &shared, &Subject::all::<ScalePolicy>()).await }
        });
        let step = || tokio::time::sleep(Duration::from_millis(10));
        step().await;
        let before = Moment::now();
        let begun = shared.unchanged_since(&root);
        assert!(begun.is_some_and(|since| since < before), "it has begun");
        // The API server ends each watch after a while, and the next one goes on.
        tokio::time::sleep(LEAST_TIME).await;
        first.close_channel();
        step().await;
        assert_eq!(shared.unchanged_since(&root), begun, "no change was missed");
        let event = json!({"type": "MODIFIED", "object": {"kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a", "namespace": "db"}}});
        second.unbounded_send(event).unwrap();
        step().await;
        let changed = shared.unchanged_since(&root);
        assert!(changed.is_some_and(|since| since > before), "what was read before is old");
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1",
            "metadata": {}, "status": "Failure", "reason": "Expired", "message": "too old", "code": 410}});
        second.unbounded_send(gone).unwrap();
        step().await;
        assert_eq!(shared.unchanged_since(&root), None);
        watching.abort();
    }
}
