//! The state that Patroni keeps in Kubernetes: the leader lock, the configuration, the synchronous
//! members, the pending switchover.

use super::{flag, one, seen, unread};
use crate::assessment::Assessment;
use crate::facts::Seen;
use crate::patroni::{Configuration, LeaderLock};
use crate::policy::Policies;
use crate::rules::{pending, synchronous, zero};
use crate::verdict::Evidence;

/// Returns the holder of the leader lock and the lock's expiry.
pub(in crate::rules) fn leader(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    seen(&facts.leader, facts.lock_source(), LeaderLock::described)
}

fn configuration(
    facts: &Assessment<'_>,
    says: impl FnOnce(&Configuration) -> String,
) -> Vec<Evidence> {
    seen(&facts.configuration, facts.patroni_source("config"), says)
}

/// Returns whether Patroni is in maintenance mode.
pub(in crate::rules) fn pause(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| flag("pause", config.paused))
}

/// Returns the lag up to which a member may take over.
pub(in crate::rules) fn lag(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| {
        format!("maximum_lag_on_failover: {} bytes", config.maximum_lag_on_failover)
    })
}

/// Returns the replication mode.
pub(in crate::rules) fn synchrony(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| {
        format!(
            "{}, {}, synchronous_node_count: {}",
            synchronous::mode(config),
            flag("synchronous_mode_strict", config.synchronous_strict),
            config.synchronous_node_count
        )
    })
}

/// Returns the number of standbys that the leader can serve.
pub(in crate::rules) fn senders(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    configuration(facts, |config| {
        format!(
            "max_wal_senders: {}, max_replication_slots: {}",
            config.max_wal_senders, config.max_replication_slots
        )
    })
}

/// Returns the members that are synchronous now.
pub(in crate::rules) fn sync_standbys(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    seen(&facts.sync, facts.patroni_source("sync"), |sync| {
        let standbys = match sync.standbys.as_slice() {
            [] => "none".to_owned(),
            standbys => standbys.join(","),
        };
        let leader = sync.leader.as_deref().unwrap_or("none");
        format!("leader: {leader}, sync_standby: {standbys}")
    })
}

/// Returns the pending switchover.
pub(in crate::rules) fn failover(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.failover {
        Seen::Absent => one(facts.patroni_source("failover"), "nothing is pending"),
        Seen::Known(pending) => one(facts.patroni_source("failover"), pending::told(pending)),
        Seen::Unreadable(why) => unread(facts.patroni_source("failover"), why),
    }
}

/// Returns the key that keeps members without data from founding a cluster.
pub(in crate::rules) fn initialize(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.initialize {
        Seen::Absent => one(facts.patroni_source("config"), "initialize: not set"),
        Seen::Known(id) => one(facts.patroni_source("config"), format!("initialize: {id}")),
        Seen::Unreadable(why) => unread(facts.patroni_source("config"), why),
    }
}

/// Returns the member that took the lead last.
pub(in crate::rules) fn last_leader(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    match &facts.last_leader {
        Seen::Absent => one(facts.patroni_source("config"), "history: names no leader"),
        Seen::Known(last) => one(facts.patroni_source("config"), zero::took_the_lead(last)),
        Seen::Unreadable(why) => unread(facts.patroni_source("config"), why),
    }
}
