//! The state that Patroni keeps in Kubernetes: the leader lock, the configuration, the synchronous
//! members, the pending switchover.

use super::{claims, one, seen, unread};
use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::Seen;
use crate::object_ref::{Kind, ObjectRef};
use crate::patroni::{Configuration, LeaderLock};
use crate::policy::Policies;
use crate::rules::{pending, slots, synchronous, zero};

/// Returns the holder of the leader lock and the lock's expiry.
pub(in crate::rules) fn leader(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.leader {
        Seen::Known(known) => lock(known),
        Seen::Absent => vec![Evidence::absent(facts.lock_source())],
        Seen::Unreadable(why) => unread(facts.lock_source(), why),
    }
}

/// Returns the state of the leader lock.
pub(in crate::rules) fn lock(lock: &LeaderLock) -> Vec<Evidence> {
    let field = |field, value: String| Evidence::new(lock.source.clone(), field, value);
    let Some(holder) = &lock.holder else { return vec![field("leader", "none".to_owned())] };
    let mut printed = vec![field("leader", holder.clone())];
    match lock.renewed {
        None => printed.push(field("renewTime", "unset".to_owned())),
        Some(renewed) => {
            printed.push(field("renewTime", renewed.to_string()));
            printed.push(field("ttl", lock.ttl.to_string()));
        }
    }
    printed
}

fn configuration<const N: usize>(
    facts: &Assessment<'_>,
    fields: impl FnOnce(&Configuration) -> [(&'static str, String); N],
) -> Vec<Evidence> {
    seen(&facts.configuration, &facts.patroni_source("config"), fields)
}

/// Returns whether Patroni is in maintenance mode.
pub(in crate::rules) fn pause(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| [("pause", config.paused.to_string())])
}

/// Returns the lag up to which a member may take over.
pub(in crate::rules) fn lag(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| {
        [("maximum_lag_on_failover", format!("{} bytes", config.maximum_lag_on_failover))]
    })
}

/// Returns the replication mode.
pub(in crate::rules) fn synchrony(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| {
        [
            ("synchronous_mode", synchronous::mode(config).to_owned()),
            ("synchronous_mode_strict", config.synchronous_strict.to_string()),
            ("synchronous_node_count", config.synchronous_node_count.to_string()),
        ]
    })
}

/// Returns the standbys that commits wait for by hand.
pub(in crate::rules) fn sync_names(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    synchronous::names_looked_at(facts)
}

/// Returns the number of standbys that the leader can serve.
pub(in crate::rules) fn senders(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| {
        [
            ("max_wal_senders", config.max_wal_senders.to_string()),
            ("max_replication_slots", config.max_replication_slots.to_string()),
        ]
    })
}

/// Returns the logical slots that Patroni keeps, or is to keep.
pub(in crate::rules) fn logical_slots(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    slots::declared_slots(facts)
}

/// Returns the members that are synchronous now.
pub(in crate::rules) fn sync_standbys(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    seen(&facts.sync, &facts.patroni_source("sync"), |sync| {
        let standbys = match sync.standbys.as_slice() {
            [] => "none".to_owned(),
            standbys => standbys.join(", "),
        };
        let leader = sync.leader.as_deref().unwrap_or("none");
        [("leader", leader.to_owned()), ("sync_standby", standbys)]
    })
}

/// Returns the pending switchover.
pub(in crate::rules) fn failover(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.failover {
        Seen::Absent => one(facts.patroni_source("failover"), "member", "unset"),
        Seen::Known(pending) => pending::annotations(facts, pending),
        Seen::Unreadable(why) => unread(facts.patroni_source("failover"), why),
    }
}

/// Returns the key that keeps members without data from founding a cluster.
pub(in crate::rules) fn initialize(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.initialize {
        Seen::Absent => one(facts.patroni_source("config"), "initialize", "unset"),
        Seen::Known(id) => one(facts.patroni_source("config"), "initialize", id),
        Seen::Unreadable(why) => unread(facts.patroni_source("config"), why),
    }
}

/// Returns what is left of a cluster without members in each kind of object, and its claims.
pub(in crate::rules) fn elsewhere(facts: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    if !facts.all_members().is_empty() {
        return Vec::new();
    }
    let object = match &facts.elsewhere {
        Seen::Known(left) => left.source(&facts.change.new.name),
        Seen::Absent | Seen::Unreadable(_) => {
            ObjectRef::new(Kind::Endpoints, &format!("{}-config", facts.change.new.name))
        }
    };
    let mut all = match &facts.elsewhere {
        Seen::Absent => {
            vec![Evidence::new(object, "state of Patroni outside of its store", "none")]
        }
        Seen::Unreadable(why) => unread(object, why),
        Seen::Known(left) => {
            let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "unset".to_owned());
            let renewed = left.renewed.map(|time| time.to_string());
            vec![
                Evidence::new(object.clone(), "initialize", said(&left.initialize)),
                Evidence::new(object.clone(), "last leader", said(&left.last_leader)),
                Evidence::new(object, "renewTime of its lock", said(&renewed)),
            ]
        }
    };
    all.extend(initialize(facts, policies));
    all.extend(claims(facts, policies));
    all
}

/// Returns the member that took the lead last.
pub(in crate::rules) fn last_leader(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.last_leader {
        Seen::Absent => vec![zero::took_the_lead(facts, "none")],
        Seen::Known(last) => vec![zero::took_the_lead(facts, last)],
        Seen::Unreadable(why) => unread(facts.patroni_source("config"), why),
    }
}
