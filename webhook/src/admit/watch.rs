//! The watch after admission: a change that removes members is looked at again until the operator
//! has carried it out.
//!
//! A review judges the moment of the write. A failover between that moment and the operator's act
//! may put the leader on a member that is removed, and the operator deletes it. The replica that
//! admitted the change looks every few seconds, and writes an Event with the command that moves the
//! leader away. Reviews never wait for it. It holds a bounded number of changes, each for a bounded
//! time, and forgets them when the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::ObjectReference;
use pgscale_guard::Facts;
use pgscale_guard::change::Direction;
use pgscale_guard::facts::Seen;
use pgscale_guard::postgresql::ordinal;
use pgscale_guard::read::CarriedOut;
use pgscale_guard::remedy::Command;
use tokio::time::{Instant, MissedTickBehavior};

use super::object::stored_head;
use super::{Admission, Deadlines, internal};
use crate::events::Reason;
use crate::metrics::Metrics;

/// The time between two looks. Patroni needs longer for a failover, and the operator often not.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time for the reads of one look.
const LOOK_TIME: Duration = Duration::from_secs(4);
/// The time for which a change is watched.
const WATCHED_FOR: Duration = Duration::from_secs(600);
/// The time within which the API server stores an admitted write, or never: its own limit of a
/// request (`--request-timeout`).
const STORED_WITHIN: Duration = Duration::from_secs(60);
/// The most changes that are watched at the same time. Further ones are counted and not watched.
const MOST: usize = 256;
/// The most of them in one namespace, so that one leaves room for others.
const MOST_OF_NAMESPACE: usize = MOST / 4;
/// The most clusters that are read at the same time.
const AT_ONCE: usize = 4;

/// An admitted change that may still delete the leader.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Removal {
    /// The effective count before.
    from: i64,
    /// The effective count after. Members from this ordinal upwards are removed.
    to: i64,
    /// The count as written.
    requested: i64,
    /// The leader, where it was among the removed members at admission: the answer said so.
    leader: Option<String>,
}

impl Removal {
    /// Returns what is to be watched of a change that these facts describe. `None` where it removes
    /// no member, or all of them, or of a cluster that never ran.
    pub(super) fn of(facts: &Facts) -> Option<Self> {
        let to = facts.to();
        let never_ran =
            facts.stateful_set == Seen::Absent && facts.members.known().is_some_and(Vec::is_empty);
        if facts.change.old.is_none() || to < 1 || never_ran {
            return None;
        }
        let runs = facts.stateful_set.known().map(|set| set.replicas);
        let more_run = runs.map_or(facts.direction() == Direction::Down, |runs| runs > to);
        let removes = more_run || facts.condemned().next().is_some();
        removes.then(|| Self {
            from: facts.from().or(runs).unwrap_or(to),
            to,
            requested: facts.requested(),
            leader: facts.leader_name().filter(|_| facts.leader_condemned()).map(str::to_owned),
        })
    }

    /// Returns the ordinal of `member`, where the change removes it.
    fn removed(&self, cluster: &str, member: &str) -> Option<i64> {
        ordinal(cluster, member).filter(|ordinal| *ordinal >= self.to)
    }
}

/// The write of an admitted change.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// The cluster, for Events.
    pub(super) object: ObjectReference,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// The user who wrote.
    pub(super) user: String,
    pub(super) removal: Removal,
}

/// What a look shows of the cluster itself.
#[derive(Clone, Debug, PartialEq)]
struct Declared {
    uid: String,
    instances: Option<i64>,
    terminating: bool,
}

/// The reason why a change is watched no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The StatefulSet has the new count, and no removed member has a pod.
    CarriedOut,
    /// Another write has set another count, or the cluster is gone.
    Superseded,
    /// The API server did not store the write that was admitted.
    NotStored,
    /// The time is over.
    TimeOver,
    /// There are too many others.
    TooMany,
}

impl End {
    /// Returns the word for it in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CarriedOut => "carried-out",
            Self::Superseded => "superseded",
            Self::NotStored => "not-stored",
            Self::TimeOver => "time-over",
            Self::TooMany => "too-many",
        }
    }
}

/// The reason why the leader is about to be deleted, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Danger {
    /// The lock has moved to a removed member after admission, and the operator has not acted yet.
    LeadsNow,
    /// The operator has lowered the count, and a removed member leads.
    NotHandedOver,
    /// The leader was a removed member at admission, and the operator has not acted in all the time.
    NotActed,
}

/// What one look comes to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Judged {
    /// The leader that is about to be deleted, once for each time that one is.
    found: Option<(String, Danger)>,
    end: Option<End>,
}

/// A change that is watched.
#[derive(Clone, Debug)]
struct Watched {
    admitted: Admitted,
    since: Instant,
    /// A look has seen the count as it was written.
    stored: bool,
    /// The removed member that led at the last look.
    leads: Option<String>,
    /// An Event names it.
    reported: bool,
}

impl Watched {
    fn new(admitted: Admitted, since: Instant) -> Self {
        let leads = admitted.removal.leader.clone();
        Self { admitted, since, stored: false, leads, reported: false }
    }

    /// Judges one look.
    fn judge(&mut self, declared: &Seen<Declared>, seen: &CarriedOut, now: Instant) -> Judged {
        let waited = now.saturating_duration_since(self.since);
        let over = (waited >= WATCHED_FOR).then_some(End::TimeOver);
        match declared {
            Seen::Absent => return Judged { end: Some(End::Superseded), ..Judged::default() },
            Seen::Unreadable(_) => return Judged { end: over, ..Judged::default() },
            Seen::Known(it) if it.uid != self.admitted.uid || it.terminating => {
                return Judged { end: Some(End::Superseded), ..Judged::default() };
            }
            Seen::Known(it) if it.instances == Some(self.admitted.removal.requested) => {
                self.stored = true;
            }
            Seen::Known(_) if self.stored => {
                return Judged { end: Some(End::Superseded), ..Judged::default() };
            }
            Seen::Known(_) => {
                let never = (waited >= STORED_WITHIN).then_some(End::NotStored);
                return Judged { end: never, ..Judged::default() };
            }
        }
        let removal = &self.admitted.removal;
        let acted = seen.replicas.known().map(|replicas| *replicas <= removal.to);
        let kept = |pods: &BTreeSet<i64>| pods.iter().all(|it| *it < removal.to);
        if acted == Some(true) && seen.pods.known().is_some_and(kept) {
            return Judged { end: Some(End::CarriedOut), ..Judged::default() };
        }
        let mut found = None;
        if let Some(leader) = seen.leader.known() {
            let removed = removal.removed(&self.admitted.name, leader).is_some();
            let known = self.leads.as_ref() == Some(leader);
            let danger = match acted {
                _ if !removed || known && self.reported => None,
                Some(true) => Some(Danger::NotHandedOver),
                _ if !known => Some(Danger::LeadsNow),
                _ => over.is_some().then_some(Danger::NotActed),
            };
            self.leads = removed.then(|| leader.clone());
            self.reported = removed && (self.reported || danger.is_some());
            found = danger.map(|danger| (leader.clone(), danger));
        }
        Judged { found, end: over }
    }

    /// Returns the text of the Event about a leader that is about to be deleted.
    fn note(&self, leader: &str, danger: Danger) -> String {
        let Admitted { namespace, name, user, removal, .. } = &self.admitted;
        let Removal { from, to, .. } = removal;
        let next = match danger {
            Danger::LeadsNow => {
                "The operator has not acted yet, and deletes the leader when it does"
            }
            Danger::NotHandedOver => {
                "The StatefulSet has the new count, so Kubernetes deletes the leader's pod next"
            }
            Danger::NotActed => {
                "The operator has not acted in 10 minutes, and deletes the leader when it does"
            }
        };
        let pgscale = |verb: &str, more: &[&str]| {
            let words = ["pgscale", verb, name].into_iter().chain(more.iter().copied());
            Command::kubectl(words.chain(["-n", namespace]))
        };
        let least = removal.removed(name, leader).map_or(*from, |it| it.saturating_add(1));
        let away = pgscale("switchover", &["--for", &to.to_string()]);
        let back = pgscale("set", &[&least.max(*from).to_string()]);
        format!(
            "{leader} leads, and the change {from} -> {to} of {user} removes it. {next}. \
             Move the leader: {away}; or keep it: {back}"
        )
    }
}

/// The changes that are watched, by namespace and name of the cluster.
#[derive(Clone)]
pub(crate) struct Watch {
    changes: Arc<Mutex<BTreeMap<(String, String), Watched>>>,
    metrics: Arc<Metrics>,
}

impl Watch {
    /// Returns a watch of nothing.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { changes: Arc::default(), metrics }
    }

    /// Watches a change from now on, in place of an earlier one of the same cluster.
    pub(super) fn add(&self, admitted: Admitted) {
        let key = (admitted.namespace.clone(), admitted.name.clone());
        let watched = Watched::new(admitted, Instant::now());
        self.locked(|changes| {
            let beside = changes.keys().filter(|(namespace, _)| *namespace == key.0).count();
            let full = changes.len() >= MOST || beside >= MOST_OF_NAMESPACE;
            if full && !changes.contains_key(&key) {
                self.metrics.watch_ended(End::TooMany.as_str());
            } else if changes.insert(key, watched).is_some() {
                self.metrics.watch_ended(End::Superseded.as_str());
            }
        });
    }

    /// Looks at every watched change every few seconds, and never ends.
    pub(crate) async fn run(self, admission: Admission) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A watch that ends unnoticed would look like one that finds nothing.
            if let Err(panic) = AssertUnwindSafe(self.look(&admission)).catch_unwind().await {
                tracing::error!(
                    why = internal(panic.as_ref()),
                    "failed to look at watched changes"
                );
            }
        }
    }

    /// Looks at every watched change once.
    pub(super) async fn look(&self, admission: &Admission) {
        let keys = self.locked(|changes| changes.keys().cloned().collect::<Vec<_>>());
        let looks = keys.into_iter().map(|key| self.look_at(admission, key));
        futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn look_at(&self, admission: &Admission, key: (String, String)) {
        let (namespace, name) = &key;
        let reader = admission.reader(Deadlines::within(LOOK_TIME));
        let declared = match reader.cluster_text(namespace, name).await {
            Ok(text) => declared(&text),
            Err(error) if error.is_not_found() => Seen::Absent,
            Err(error) => Seen::Unreadable(error.to_string()),
        };
        let seen = reader.carried_out(namespace, name).await;
        self.record(admission, &key, &declared, &seen);
    }

    fn record(
        &self,
        admission: &Admission,
        key: &(String, String),
        declared: &Seen<Declared>,
        seen: &CarriedOut,
    ) {
        let judged = self.locked(|changes| {
            let watched = changes.get_mut(key)?;
            let judged = watched.judge(declared, seen, Instant::now());
            let watched = watched.clone();
            if judged.end.is_some() {
                changes.remove(key);
            }
            Some((watched, judged))
        });
        // A newer change of this cluster may have been carried out since the look began.
        let Some((watched, judged)) = judged else { return };
        let cluster = format!("{}/{}", key.0, key.1);
        if let Some((leader, danger)) = judged.found {
            let note = watched.note(&leader, danger);
            tracing::warn!(cluster, leader, ?danger, note, "the leader is about to be deleted");
            self.metrics.leader_condemned();
            let object = watched.admitted.object.clone();
            // The member is part of what Kubernetes counts together: another one is another Event.
            let about = ["leader-condemned", &leader];
            admission.events.write(object, Reason::LeaderCondemned, &about, &note);
        }
        if let Some(end) = judged.end {
            self.metrics.watch_ended(end.as_str());
            tracing::info!(cluster, end = end.as_str(), "watched a change to its end");
        }
    }

    /// Calls `act` with the watched changes, and publishes their number.
    fn locked<T>(&self, act: impl FnOnce(&mut BTreeMap<(String, String), Watched>) -> T) -> T {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut changes);
        self.metrics.watches(changes.len());
        result
    }
}

/// Reads what the cluster declares out of its JSON, within the bounds of a review.
fn declared(text: &str) -> Seen<Declared> {
    match stored_head(text) {
        Ok(cluster) => Seen::Known(Declared {
            uid: cluster.uid,
            instances: cluster.instances,
            terminating: cluster.terminating,
        }),
        Err(refusal) => Seen::Unreadable(refusal.to_string()),
    }
}

#[cfg(test)]
mod tests;
