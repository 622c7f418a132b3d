//! What to do where the leader is on a member that is being removed, although the count is written:
//! it moves again, or the count is set back.
//!
//! Between the write and the operator's act a failover may bring the leader back. The operator then
//! asks Patroni once, for ordinal 0, and deletes the leader all the same (`preScaleDown`,
//! pkg/cluster/resources.go).
//!
//! A switchover takes seconds, and the operator may act in any of them. So the count is set back
//! first, the leader moves, and the count is written again. The operator queues one update of a
//! cluster: a later one takes the place of one that waits (`queueClusterEvent`,
//! pkg/controller/postgresql.go: the key is the kind of event and the uid). An operator that has not
//! taken the first update out of its queue then removes nothing. One that has, acts on it whatever is
//! written later. Such an operator has set the status to `Updating`. The leader then moves at once.
//! Where the count was set back there is time: the candidate gets the logical slots first.

use std::borrow::Cow;

use kube::api::{Patch, PatchParams};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Change, Facts};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::error::chain;
use crate::execute::slots::LogicalSlots;
use crate::execute::switchover::{Lead, move_leader};
use crate::execute::waiting::Waiting;
use crate::plan::{LeaderMove, judge};
use crate::session::Session;

/// The number of times that the restoration is tried again after a conflict. The operator writes the
/// status several times in a row.
const CONFLICTS: u32 = 5;

/// The number of times that another candidate may turn out to be the best one meanwhile.
const CHOICES: u32 = 3;

/// A count that this program wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its identity.
    pub(crate) uid: String,
    /// The written count.
    pub(crate) count: i64,
    /// The count before.
    pub(crate) before: i64,
}

/// The end of a recovery.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Recovered {
    /// The leader is on a member that stays, and the count is written.
    Moved(Lead),
    /// The leader is on a member that stays. The count is the one of before, and was not written
    /// again, for these reasons.
    Held(Lead, Vec<String>),
    /// No member could take over, for these reasons. The count is the one of before.
    Restored(Vec<String>, OperatorWas),
    /// Nothing was done, for these reasons.
    Not(Vec<String>),
}

/// The operator's state while the count was set back, by the status that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperatorWas {
    /// It did not work on the cluster.
    Idle,
    /// It worked on the cluster, and may carry the former count out once.
    AtWork,
}

/// Moves the leader to the best member that stays. Where none can take over, sets the count back,
/// unless the operator has acted or another writer has set the count.
pub(crate) async fn recover(
    session: &Session,
    written: &Written,
    cluster: &Postgresql,
) -> Recovered {
    let old = cluster.with_instances(written.before);
    let change = Change::of_count(old, written.count);
    let (facts, policies) = session.facts(change, AskWhom::All).await;
    session.show_warnings();
    // The same choice as before the write. The verdict does not matter: the count is written.
    let (leader_move, verdict) = judge(&facts, &policies, None);
    if facts.failover.known().is_some() {
        return Recovered::Not(vec!["a switchover is under way".to_owned()]);
    }
    let mut reasons = Vec::new();
    match leader_move {
        Some(wanted) => {
            let held = hold(session, written).await;
            let moved = if held {
                move_at_rest(session, &facts, wanted).await
            } else {
                move_again(session, &facts, wanted).await
            };
            match moved {
                Ok(lead) if held => {
                    return match write_again(session, written).await {
                        Ok(()) => Recovered::Moved(lead),
                        Err(why) => Recovered::Held(lead, why),
                    };
                }
                Ok(lead) => return Recovered::Moved(lead),
                Err(why) if held => return Recovered::Restored(vec![why], OperatorWas::Idle),
                Err(why) => reasons.push(why),
            }
        }
        None if !facts.leader_condemned() => return Recovered::Not(Vec::new()),
        None => {
            let denials = verdict.denials();
            reasons.extend(denials.map(|it| format!("{}: {}", it.rule, it.message)));
        }
    }
    match restore(session, written).await {
        Ok(operator) => Recovered::Restored(reasons, operator),
        Err(why) => {
            reasons.push(format!("numberOfInstances stays {}: {why}", written.count));
            Recovered::Not(reasons)
        }
    }
}

/// Sets the count back for the time of a switchover, where the operator has not begun to act.
/// Returns whether it did.
async fn hold(session: &Session, written: &Written) -> bool {
    let read = session.reader.cluster(&written.namespace, &written.name).await;
    if !read.is_ok_and(|cluster| cluster.status.as_deref() != Some("Updating")) {
        return false;
    }
    let held = restore(session, written).await.is_ok();
    if held {
        let count = written.before;
        session.out.note(&format!("numberOfInstances is {count} until the leader has moved"));
    }
    held
}

/// Writes the count again after it was held, as soon as the replicas follow the new leader and the
/// rules admit it.
///
/// # Errors
/// The reasons for which the count stays the one of before.
async fn write_again(session: &Session, written: &Written) -> Result<(), Vec<String>> {
    let Written { namespace, name, uid, count, before } = written;
    let deadline = session.pace.by(session.pace.follow);
    let mut waiting = Waiting::begin(session);
    loop {
        let missing = match session.reader.cluster(namespace, name).await {
            Err(error) => vec![error.to_string()],
            Ok(cluster) => {
                ours(&cluster, written, *before, &session.manager).map_err(|why| vec![why])?;
                let version = cluster.resource_version.clone();
                let change = Change::of_count(cluster, *count);
                let (facts, policies) = session.facts(change, AskWhom::All).await;
                session.show_warnings();
                let (leader_move, verdict) = judge(&facts, &policies, None);
                let denials = verdict.denials().map(|it| format!("{}: {}", it.rule, it.message));
                let mut missing: Vec<String> = denials.collect();
                if let Some(wanted) = leader_move {
                    missing.push(format!("{} leads", wanted.from));
                } else if facts.leader_name().is_none() {
                    missing.push("no member leads".to_owned());
                }
                if missing.is_empty() {
                    let patch = json!({"metadata": {"resourceVersion": version, "uid": uid},
                        "spec": {"numberOfInstances": count}});
                    match patch_count(session, written, &patch, *count).await {
                        Ok(true) => {
                            session.out.note(&format!("numberOfInstances is {count} again"));
                            return Ok(());
                        }
                        Ok(false) => missing.push("another writer came first".to_owned()),
                        Err(why) => missing.push(why),
                    }
                }
                missing
            }
        };
        if Instant::now() >= deadline {
            return Err(missing);
        }
        waiting.tell(&missing.join("; "));
        sleep(session.pace.poll).await;
    }
}

/// Moves the leader while the count is held, which leaves the time to do that as before any shrink:
/// the candidate holds the logical slots, and everything is read once more.
///
/// # Errors
/// The reason for which the leader stays where it is.
async fn move_at_rest(
    session: &Session,
    before: &Facts,
    mut wanted: LeaderMove,
) -> Result<Lead, String> {
    let mut facts = Cow::Borrowed(before);
    for _ in 0..CHOICES {
        let mut slots = LogicalSlots::default();
        slots.settle(session, &facts, &wanted).await.map_err(|failure| failure.text())?;
        let (now, policies) = session.facts(before.change.clone(), AskWhom::All).await;
        session.show_warnings();
        let (leader_move, _) = judge(&now, &policies, None);
        let Some(best) = leader_move else {
            let stays = now.leader_stays() && !now.leader_condemned();
            return if stays {
                Ok(Lead::Kept)
            } else {
                Err("no member that stays can take over any more".to_owned())
            };
        };
        if (&best.from, &best.to) == (&wanted.from, &wanted.to) {
            let confirmed = slots.confirm(session, &now, &best).await;
            confirmed.map_err(|failure| failure.text())?;
            return move_again(session, &now, best).await;
        }
        (wanted, facts) = (best, Cow::Owned(now));
    }
    Err("the member that can take over best keeps changing".to_owned())
}

async fn move_again(session: &Session, facts: &Facts, wanted: LeaderMove) -> Result<Lead, String> {
    match move_leader(session, facts, &wanted).await {
        Ok(moved) => {
            session.out.note(&moved.reported());
            Ok(Lead::moved(wanted, moved))
        }
        Err(not_moved) => Err(not_moved.failure.text()),
    }
}

/// Sets the count back to the one of before.
///
/// The write is conditional on the version of the object. An operator that begins to act writes the
/// status first, and so changes the version.
///
/// # Errors
/// The reason for which the count stays.
pub(crate) async fn restore(session: &Session, written: &Written) -> Result<OperatorWas, String> {
    let Written { namespace, name, uid, count, before } = written;
    for _ in 0..CONFLICTS {
        let read = session.reader.cluster(namespace, name).await;
        let cluster = read.map_err(|error| error.to_string())?;
        ours(&cluster, written, *count, &session.manager)?;
        let version = cluster.resource_version.clone();
        let operator = match cluster.status.as_deref() {
            Some("Updating") => OperatorWas::AtWork,
            Some(_) | None => OperatorWas::Idle,
        };
        let change = Change::of_count(cluster.with_instances(*before), *count);
        let facts = session.reader.facts(change, AskWhom::AsNeeded).await;
        session.show_warnings();
        match facts.stateful_set.known() {
            Some(set) if Some(set.replicas) == facts.from() => {}
            Some(set) => return Err(format!("the StatefulSet says {} already", set.replicas)),
            None => return Err("the StatefulSet could not be read".to_owned()),
        }
        let patch = json!({"metadata": {"resourceVersion": version, "uid": uid},
            "spec": {"numberOfInstances": before}});
        if patch_count(session, written, &patch, *before).await? {
            return Ok(operator);
        }
    }
    Err(format!("another writer keeps changing the object: {CONFLICTS} attempts conflicted"))
}

/// Sends a patch that sets `count`. Returns whether it is stored: a conflict means that another
/// writer came first.
///
/// # Errors
/// The reason for which it is not.
async fn patch_count(
    session: &Session,
    written: &Written,
    patch: &Value,
    count: i64,
) -> Result<bool, String> {
    let Written { namespace, name, uid, .. } = written;
    let params =
        PatchParams { field_manager: Some(session.manager.to_string()), ..PatchParams::default() };
    let sent = session.clusters(namespace).patch(name, &params, &Patch::Merge(patch)).await;
    session.show_warnings();
    match sent {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
        // An answer that was lost is no answer: the object shows whether the write arrived.
        Err(error) => {
            let read = session.reader.cluster(namespace, name).await;
            let arrived = read.is_ok_and(|now| now.uid == *uid && now.instances == Some(count));
            if arrived { Ok(true) } else { Err(chain(&error)) }
        }
    }
}

/// Checks that the present count is `count`, that this program wrote it, and that no other writer
/// wrote the same.
fn ours(cluster: &Postgresql, written: &Written, count: i64, manager: &str) -> Result<(), String> {
    if cluster.uid != written.uid || cluster.instances != Some(count) {
        return Err("another writer has changed it".to_owned());
    }
    let mut writers = cluster.count_managers.iter().map(|(manager, ..)| manager.as_str());
    match writers.find(|writer| *writer != manager) {
        Some(writer) => Err(format!("{writer} has set it too")),
        None if cluster.count_managers.is_empty() => {
            Err("it is not known which program wrote it".to_owned())
        }
        None => Ok(()),
    }
}
