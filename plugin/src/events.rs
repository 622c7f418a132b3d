//! The Events about the objects that are not as they should be.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use pgscale_guard::Seen;
use pgscale_guard::evidence::Evidence;
use pgscale_guard::facts::{Facts, Member};
use pgscale_guard::object_ref::ObjectRef;

use crate::plan::claim;
use crate::terminal::text::age;

/// The number of members that do not run and are looked up: the first ones show the reason.
const MEMBERS: usize = 5;

/// A warning in an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Kind of the object.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// The reason in one word.
    pub(crate) reason: String,
    /// The message.
    pub(crate) message: String,
    /// The time when it happened last.
    pub(crate) last: Option<Timestamp>,
}

impl Event {
    /// Returns the event as evidence about `object`.
    pub(crate) fn evidence(&self, object: ObjectRef, now: Timestamp) -> Evidence {
        let field = format!("event {} {} ago", self.reason, age(self.last, now));
        Evidence::new(object, &field, &self.message)
    }
}

/// Reads the warnings about the cluster's StatefulSet, and about the pods that do not run and their
/// claims.
pub(crate) async fn read(client: &Client, facts: &Facts) -> Seen<Vec<Event>> {
    let api: Api<v1::Event> = Api::namespaced(client.clone(), &facts.change.new.namespace);
    let lists = names(facts).into_iter().map(|name| {
        let api = api.clone();
        async move {
            let fields = format!("involvedObject.name={name},type=Warning");
            api.list(&ListParams::default().fields(&fields)).await
        }
    });
    match try_join_all(lists).await {
        Ok(lists) => Seen::Known(lists.into_iter().flatten().filter_map(reduce).collect()),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            Seen::Unreadable("may not list events".to_owned())
        }
        Err(error) => Seen::Unreadable(crate::error::chain(&error)),
    }
}

/// Returns the names of the objects. The StatefulSet and the `postgresql` object share one.
fn names(facts: &Facts) -> BTreeSet<String> {
    let idle = |member: &&Member| !member.pod.containers_running;
    let pods: Vec<&Member> = facts.all_members().iter().filter(idle).take(MEMBERS).collect();
    let claims: Vec<String> =
        pods.iter().filter_map(|member| claim(facts, member.ordinal)).collect();
    let pods = pods.into_iter().map(|member| member.name.clone());
    std::iter::once(facts.change.new.name.clone()).chain(pods).chain(claims).collect()
}

/// Returns the time when it happened last. The writer and the number of repetitions decide which of
/// the three times is set.
pub(crate) fn last_seen(event: &v1::Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
    micro.max(event.last_timestamp.as_ref().map(|time| time.0))
}

fn reduce(event: v1::Event) -> Option<Event> {
    Some(Event {
        last: last_seen(&event),
        kind: event.involved_object.kind?,
        name: event.involved_object.name?,
        reason: event.reason?,
        message: event.message?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{facts, with};

    #[test]
    fn the_latest_time_counts_for_every_writer() {
        for (times, want) in [
            (json!({"lastTimestamp": "2026-11-24T09:00:00Z"}), Some("2026-11-24T09:00:00Z")),
            (json!({"eventTime": "2026-11-24T08:00:00.000000Z"}), Some("2026-11-24T08:00:00Z")),
            (
                json!({"eventTime": "2026-11-24T08:00:00.000000Z", "series": {"count": 2,
                    "lastObservedTime": "2026-11-24T09:30:00.000000Z"}}),
                Some("2026-11-24T09:30:00Z"),
            ),
            (json!({}), None),
        ] {
            let mut object = json!({"metadata": {}, "reason": "FailedCreate", "message": "no room",
                "involvedObject": {"kind": "StatefulSet", "name": "acid-a"}});
            object.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            let event = reduce(serde_json::from_value(object).unwrap()).unwrap();
            assert_eq!(event.last, want.map(|time| time.parse().unwrap()));
        }
    }

    #[test]
    fn only_objects_that_do_not_run_are_looked_up() {
        let broken = with(facts(3, 3, 0), 2, |member| member.pod.containers_running = false);
        let names: Vec<String> = names(&broken).into_iter().collect();
        assert_eq!(names, ["acid-a", "acid-a-2"]);
    }
}
