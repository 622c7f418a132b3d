//! The store of the history. All calls are limited in time, and none stands in the way of a change.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use pgscale_guard::duration::exact;
use pgscale_guard::postgresql::{GROUP, KIND, VERSION};
use serde_json::json;
use tokio::time::timeout;

use super::{BEGUN, Entry, History};
use crate::plan::FIELD_MANAGER;
use crate::session::Session;
use crate::terminal::text::took;

/// The time limit of one write of the history, or of one Event.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of times that a write is repeated after another writer's.
const CONFLICTS: u32 = 5;

/// The key of the history in the `ConfigMap`.
const KEY: &str = "changes";

/// The greatest length of an Event's note, in bytes (pkg/apis/core/validation/events.go).
const NOTE: usize = 1024;

/// Reads the history of the cluster `name`. Empty where none is stored.
///
/// # Errors
/// The API server's error.
pub(crate) async fn read(session: &Session, name: &str) -> Result<History, kube::Error> {
    let found = maps(session, &session.namespace).get_opt(&map_name(name)).await?;
    Ok(found.map_or_else(History::default, |map| history(&map)))
}

fn history(map: &ConfigMap) -> History {
    let text = map.data.as_ref().and_then(|data| data.get(KEY));
    text.map_or_else(History::default, |text| History::of(text))
}

/// A change that is being recorded.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    namespace: String,
    name: String,
    /// The present state of its entry.
    pub(crate) entry: Entry,
    /// The intent is in the history.
    begun: bool,
}

impl Recording {
    /// Records the intent to make the change of `entry` in cluster `namespace/name`.
    pub(crate) async fn begin(
        session: &Session,
        namespace: &str,
        name: &str,
        entry: Entry,
    ) -> Self {
        let entry = Entry { who: who(session).await, ..entry };
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let mut recording = Self { namespace, name, entry, begun: true };
        if let Err(why) = recording.write(session).await {
            recording.begun = false;
            session.out.warning(&format!(
                "the change will not be in the history of postgresql {}/{}: {why}",
                recording.namespace, recording.name
            ));
        }
        recording
    }

    /// Completes the entry, and reports the result as an Event of the cluster.
    pub(crate) async fn end(self, session: &Session) -> Entry {
        // A failure at the beginning was reported then.
        if let Err(why) = self.write(session).await
            && self.begun
        {
            session.out.warning(&format!(
                "the result of the change is not in the history of postgresql {}/{}, which still shows {BEGUN}: {why}",
                self.namespace, self.name
            ));
        }
        self.report(session).await;
        self.entry
    }

    async fn write(&self, session: &Session) -> Result<(), String> {
        let kept = timeout(PATIENCE, keep(session, self)).await;
        session.show_warnings();
        match kept {
            Ok(Ok(())) => Ok(()),
            Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
            Ok(Err(error)) => Err(crate::error::chain(&error)),
            Err(_) => Err(format!("no answer within {}", exact(PATIENCE))),
        }
    }

    /// Creates an Event for people who look at the cluster with kubectl. Nothing depends on it.
    async fn report(&self, session: &Session) {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        let cluster = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(KIND.to_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.entry.uid.clone()),
            ..ObjectReference::default()
        };
        let well = matches!(self.entry.result.as_str(), "Converged" | "Changed");
        let event = Event {
            type_: if well { EventType::Normal } else { EventType::Warning },
            reason: format!("{}{}", self.entry.action, self.entry.result),
            note: Some(cut(&described(&self.entry)).to_owned()),
            action: self.entry.action.clone(),
            secondary: None,
        };
        let recorder = Recorder::new(session.client.clone(), reporter);
        timeout(PATIENCE, recorder.publish(&event, &cluster)).await.ok();
        session.show_warnings();
    }
}

/// Describes a change in one line.
fn described(entry: &Entry) -> String {
    let count = entry.count().map(|count| format!("numberOfInstances {count}"));
    let lead = entry.lead().map(|lead| format!("leader {lead}"));
    let mut line = count.into_iter().chain(lead).collect::<Vec<_>>().join(", ");
    if !entry.who.is_empty() {
        line = format!("{line} by {}", entry.who);
    }
    if let Some(reason) = &entry.reason {
        line = format!("{line} ({reason})");
    }
    if let Some(seconds) = entry.seconds {
        line = format!("{line}, {}", took(seconds));
    }
    match &entry.message {
        Some(message) => format!("{line}: {message}"),
        None => line,
    }
}

fn cut(note: &str) -> &str {
    let mut end = note.len().min(NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.get(..end).unwrap_or_default()
}

/// Returns this program's user, as the API server reports it. Empty where it does not.
async fn who(session: &Session) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(session.client.clone());
    let (params, review) = (PostParams::default(), SelfSubjectReview::default());
    let answer = timeout(PATIENCE, reviews.create(&params, &review)).await;
    answer
        .ok()
        .and_then(Result::ok)
        .and_then(|review| review.status?.user_info?.username)
        .unwrap_or_default()
}

/// Stores the entry. A write with a lost answer may be repeated, because an entry replaces itself.
async fn keep(session: &Session, recording: &Recording) -> Result<(), kube::Error> {
    let maps = maps(session, &recording.namespace);
    let name = map_name(&recording.name);
    let mut attempt = 1;
    loop {
        let written = if let Some(map) = maps.get_opt(&name).await? {
            let mut history = history(&map);
            history.put(&recording.entry);
            // The write names the version that was read, so no entry of another writer is lost.
            let patch = json!({
                "metadata": {"resourceVersion": map.metadata.resource_version},
                "data": {KEY: history.text()},
            });
            maps.patch(&name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(&patch)).await
        } else {
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            maps.create(&params, &first(recording)).await
        };
        match written {
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < CONFLICTS => {
                attempt += 1;
            }
            other => return other.map(drop),
        }
    }
}

/// Returns the `ConfigMap` with its first entry.
///
/// Kubernetes deletes it with its cluster. It carries none of the labels by which the operator and
/// Patroni find their objects.
fn first(recording: &Recording) -> ConfigMap {
    let mut history = History::default();
    history.put(&recording.entry);
    let mut map = ConfigMap::default();
    map.metadata.name = Some(map_name(&recording.name));
    map.metadata.labels = Some(BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "pgscale".to_owned()),
        ("pgscale.dev/record".to_owned(), "history".to_owned()),
    ]));
    map.metadata.owner_references = Some(vec![OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: KIND.to_owned(),
        name: recording.name.clone(),
        uid: recording.entry.uid.clone(),
        ..OwnerReference::default()
    }]);
    map.data = Some(BTreeMap::from([(KEY.to_owned(), history.text())]));
    map
}

fn maps(session: &Session, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(session.client.clone(), namespace)
}

/// Returns the map's name. It does not begin with the cluster's name, because such names belong to
/// Patroni.
fn map_name(cluster: &str) -> String {
    format!("pgscale-history-{cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_describes_the_change_in_one_line() {
        let entry = Entry {
            who: "dba".to_owned(),
            from: Some(5),
            to: Some(3),
            leader_from: Some("acid-a-4".to_owned()),
            leader_to: Some("acid-a-0".to_owned()),
            reason: Some("night".to_owned()),
            written: Some(true),
            seconds: Some(12.3),
            ..Entry::default()
        };
        assert_eq!(
            described(&entry),
            "numberOfInstances 5 -> 3, leader acid-a-4 -> acid-a-0 by dba (night), 12s"
        );
        assert_eq!(cut(&"ä".repeat(600)).len(), 1024);
    }
}
