//! Watches that announce changes of what early refusals rest on: policies, overrides and namespaces.
//!
//! A watch alone does not know how old it is: a connection may be silent because nothing changes, or
//! because it is dead. So no decision rests on it. It only says earlier than the end of a second that an
//! answer is too old. Without a watch each early refusal asks the API server itself. The watches hold no
//! object, whatever the number of objects is.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource};
use pgscale_guard::overrides::ScaleOverride;
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy};
use pgscale_guard::read::Shared;
use serde::de::DeserializeOwned;

/// The time between the end of a watch and the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches until the task ends.
pub(crate) async fn announce(client: Client, shared: Shared) {
    futures::join!(
        keep_watching::<ScalePolicy>(&client, &shared),
        keep_watching::<ClusterScalePolicy>(&client, &shared),
        keep_watching::<ScaleOverride>(&client, &shared),
        keep_watching::<Namespace>(&client, &shared),
    );
}

async fn keep_watching<K>(client: &Client, shared: &Shared)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let root = K::url_path(&(), None);
    loop {
        let ended = watch::<K>(client, shared, &root).await;
        shared.unannounced(&root);
        if let Err(error) = ended {
            tracing::debug!(%error, root, "the watch has ended");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Watches from now on until the API server ends the watch.
async fn watch<K>(client: &Client, shared: &Shared, root: &str) -> kube::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let now = api.list_metadata(&ListParams::default().limit(1)).await?;
    let version = now.metadata.resource_version.unwrap_or_default();
    let events = api.watch_metadata(&WatchParams::default(), &version).await?;
    let mut events = events.boxed();
    shared.announced(root);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => {
                shared.changed(root);
            }
        }
    }
    Ok(())
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

    /// Returns an API server whose watches bring what is sent to the channel, and its client.
    fn server() -> (mpsc::UnboundedSender<Value>, Client) {
        let (sender, receiver) = mpsc::unbounded::<Value>();
        let events = receiver.map(|event| Ok::<_, Infallible>(event.to_string() + "\n"));
        let mut events = Some(axum::body::Body::from_stream(events));
        let service = tower::service_fn(move |request: Request<Body>| {
            let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": "7"}, "items": []});
            let body = match events.take_if(|_| watches) {
                Some(events) => events,
                None if watches => axum::body::Body::empty(),
                None => axum::body::Body::from(list.to_string()),
            };
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        (sender, Client::new(service, "default"))
    }

    #[tokio::test(start_paused = true)]
    async fn change_is_announced_and_the_end_of_a_watch_too() {
        let (sender, client) = server();
        let shared = Shared::new(client.clone(), Arc::new(|_| {}));
        let root = ScalePolicy::url_path(&(), None);
        let watching = tokio::spawn({
            let shared = shared.clone();
            async move { keep_watching::<ScalePolicy>(&client, &shared).await }
        });
        let step = || tokio::time::sleep(Duration::from_millis(10));
        step().await;
        let before = Moment::now();
        assert!(shared.unchanged_since(&root).is_some_and(|since| since < before), "it has begun");
        let event = json!({"type": "MODIFIED", "object": {"kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a", "namespace": "db"}}});
        sender.unbounded_send(event).unwrap();
        step().await;
        let changed = shared.unchanged_since(&root);
        assert!(changed.is_some_and(|since| since > before), "what was read before is old");
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1",
            "metadata": {}, "status": "Failure", "reason": "Expired", "message": "too old", "code": 410}});
        sender.unbounded_send(gone).unwrap();
        step().await;
        assert_eq!(shared.unchanged_since(&root), None);
        watching.abort();
    }
}
