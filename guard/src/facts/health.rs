//! The health of a member, and the problems that speak against it.

use std::fmt;

use crate::facts::{Facts, Live, Member, Seen};
use crate::patroni::{Role, State, Synchronous};
use crate::quantity::in_words;

/// The health of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It runs, follows the leader's timeline, and within a second had received all WAL that the
    /// leader had when asked. The leader itself runs and leads.
    Healthy,
    /// It is not healthy, for these reasons.
    Unhealthy(Vec<Problem>),
    /// Its health is not known, for this reason. Never taken as healthy, nor as unhealthy.
    Unknown(String),
}

impl Health {
    /// Returns whether a policy's limit on the lag is one reason against the member.
    pub(crate) fn lags_by_policy(&self) -> bool {
        matches!(self, Self::Unhealthy(problems) if problems.iter().any(Problem::by_policy))
    }

    /// Returns whether a policy's limit on the lag is the only reason against the member.
    pub(crate) fn lags_by_policy_alone(&self) -> bool {
        matches!(self, Self::Unhealthy(problems) if problems.iter().all(Problem::by_policy))
    }
}

/// One reason for which a member is not healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A second later it had still not received the leader's WAL: the bytes that it lacks.
    Behind(u64),
    /// No pod has this ordinal.
    Missing,
    /// Its node is not ready.
    NodeNotReady(String),
    /// Tagged `nofailover`: Patroni will not let it take over.
    NoFailover,
    /// Its PostgreSQL runs, but receives WAL from no server.
    NotReplicating,
    /// Its PostgreSQL does not run.
    NotRunning(String),
    /// Its pod does not run.
    PodNotRunning(String),
    /// It is being created, cloned, reinitialised or rewound.
    Rebuilding(String),
    /// Its replay is further behind than is allowed.
    ReplayBehind {
        /// The bytes that it is behind.
        bytes: u64,
        /// The limit that they exceed.
        limit: LagLimit,
    },
    /// Its replay is paused.
    ReplayPaused,
    /// It did not answer, although others did.
    Silent(String),
    /// Its pod is being deleted.
    Terminating,
    /// Its Patroni did not reach the store for so many seconds, while that of another member did. It
    /// notices no change of the leader and takes over from no leader.
    StoreUnreached(i64),
    /// It is on another timeline than the leader.
    Timeline {
        /// Its own.
        own: u64,
        /// The leader's.
        leader: u64,
    },
    /// It needs a watchdog and has none: Patroni will not let it take over.
    WatchdogFailed,
    /// It leads, or claims to, although another member holds the lock.
    WrongRole,
}

impl Problem {
    /// Returns whether it is there by a policy's limit on the lag, and not by Patroni's.
    pub(crate) fn by_policy(&self) -> bool {
        matches!(self, Self::ReplayBehind { limit: LagLimit::Policy, .. })
    }
}

/// The limit by which a replica's replay is too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagLimit {
    /// Patroni's own `maximum_lag_on_failover`.
    Patroni,
    /// `survivors.maxLag` of a policy, while Patroni allows more.
    Policy,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(bytes) => {
                write!(out, "{} behind the leader after a second", in_words(*bytes))
            }
            Self::Missing => write!(out, "has no pod"),
            Self::NodeNotReady(node) => write!(out, "its node {node} is not Ready"),
            Self::NoFailover => write!(out, "tagged nofailover"),
            Self::NotReplicating => write!(out, "runs, but receives no WAL"),
            Self::NotRunning(state) => write!(out, "PostgreSQL is {state}"),
            Self::PodNotRunning(why) => write!(out, "pod is {why}"),
            Self::Rebuilding(how) => write!(out, "being rebuilt ({how})"),
            Self::ReplayBehind { bytes, .. } => {
                write!(out, "replay is {} behind", in_words(*bytes))
            }
            Self::ReplayPaused => write!(out, "replay is paused"),
            Self::Silent(why) => write!(out, "does not answer ({why})"),
            Self::StoreUnreached(seconds) => {
                write!(out, "its Patroni has not reached its store for {seconds}s")
            }
            Self::Terminating => write!(out, "pod is being deleted"),
            Self::Timeline { own, leader } => {
                write!(out, "on timeline {own}, the leader is on {leader}")
            }
            Self::WatchdogFailed => write!(out, "its watchdog failed"),
            Self::WrongRole => write!(out, "claims to lead without holding the leader lock"),
        }
    }
}

impl Member {
    /// Returns whether `problem` rests on something that was seen of the member, and not on missing
    /// data.
    pub(crate) fn proves(&self, problem: &Problem) -> bool {
        let only_unseen = match &self.live {
            Live::Answered(answer) => answer.state == State::Running && answer.position().is_none(),
            Live::NotAsked | Live::Silent(_) => false,
        };
        match problem {
            Problem::Silent(_) => false,
            // A pod is also Pending while the image of another container cannot be pulled.
            Problem::PodNotRunning(_) => !self.pod.containers_running,
            // A running member that reports no position may have as much WAL as any other.
            Problem::Rebuilding(_) => !only_unseen,
            Problem::Behind(_)
            | Problem::Missing
            | Problem::NodeNotReady(_)
            | Problem::NoFailover
            | Problem::NotReplicating
            | Problem::NotRunning(_)
            | Problem::ReplayBehind { .. }
            | Problem::ReplayPaused
            | Problem::StoreUnreached(_)
            | Problem::Terminating
            | Problem::Timeline { .. }
            | Problem::WatchdogFailed
            | Problem::WrongRole => true,
        }
    }
}

impl Facts {
    /// Checks that `member` is in the set of synchronous standbys, or that no such set binds.
    ///
    /// # Errors
    /// The reason for which neither is known to hold.
    pub fn in_sync_set(&self, member: &Member) -> Result<(), String> {
        let Some(configuration) = self.configuration.known() else {
            return Err(format!(
                "Patroni's configuration could not be read ({})",
                self.configuration.unreadable().unwrap_or("it is not there")
            ));
        };
        if configuration.synchrony() != Synchronous::On {
            return Ok(());
        }
        let Some(leader) = self.leader_name() else { return Err("there is no leader".to_owned()) };
        match &self.sync {
            Seen::Known(sync) if sync.contains(leader, &member.name) => Ok(()),
            Seen::Known(sync) => Err(format!(
                "replication is synchronous and {} is not among the synchronous standbys ({})",
                member.name,
                if sync.standbys.is_empty() { "none".to_owned() } else { sync.standbys.join(", ") }
            )),
            Seen::Absent => Err(format!(
                "replication is synchronous and no member is a synchronous standby, {} included",
                member.name
            )),
            Seen::Unreadable(why) => {
                Err(format!("the synchronous standbys could not be read ({why})"))
            }
        }
    }

    /// Returns the kind of rebuild that `member` is in, if any.
    ///
    /// It reads several independent signals, because each has a blind spot: the annotation's words,
    /// the live answer, the label that Patroni sets, and the pod's own age.
    pub fn rebuilding(&self, member: &Member) -> Option<String> {
        // A live answer counts more than an annotation, which may be ten seconds old.
        if let Live::Answered(answer) = &member.live {
            return rebuild_words(&answer.state, answer.role).or_else(|| {
                let standby = !answer.role.leads() && answer.state == State::Running;
                (standby && answer.received.is_none() && answer.replayed.is_none())
                    .then(|| "runs, but has received nothing yet".to_owned())
            });
        }
        match &member.report {
            Seen::Known(report) => rebuild_words(&report.state, report.role).or_else(|| {
                member.pod.critical_operation.then(|| "labelled critical-operation".to_owned())
            }),
            Seen::Absent if member.pod.phase == "Running" && !member.pod.terminating => {
                Some("its Patroni has not reported yet".to_owned())
            }
            Seen::Absent | Seen::Unreadable(_) => None,
        }
    }

    /// Returns the leader's position when it was asked, in bytes.
    pub fn leader_position(&self) -> Option<u64> {
        match &self.leader_member()?.live {
            Live::Answered(answer) => answer.position(),
            Live::NotAsked | Live::Silent(_) => None,
        }
    }

    /// Returns whether at least one member gave a usable answer. Silence is then the silent
    /// member's own.
    pub fn any_member_answered(&self) -> bool {
        self.all_members().iter().any(|member| matches!(member.live, Live::Answered(_)))
    }
}

pub(crate) fn pod_problems(member: &Member) -> Vec<Problem> {
    let mut problems = Vec::new();
    let pod = &member.pod;
    if pod.terminating {
        problems.push(Problem::Terminating);
    }
    if pod.phase != "Running" || !pod.containers_running {
        let why = pod.waiting.as_ref().map_or_else(|| pod.phase.clone(), ToString::to_string);
        problems.push(Problem::PodNotRunning(why));
    }
    if pod.node_ready == Some(false) {
        problems.push(Problem::NodeNotReady(pod.node.clone().unwrap_or_default()));
    }
    problems
}

fn rebuild_words(state: &State, role: Role) -> Option<String> {
    match (state, role) {
        // A rejoining member starts after its base backup or pg_rewind. A plain restart looks the
        // same.
        (State::CreatingReplica | State::Bootstrapping, _)
        | (State::Starting, Role::Demoted | Role::Replica) => Some(state.word().to_owned()),
        // A failing rebuild alternates "creating replica" and "stopped". In between, a
        // reinitialised member has no data directory (patroni/postgresql/bootstrap.py).
        (State::Stopped | State::Starting, Role::Uninitialized) => {
            Some(format!("{}, without data", state.word()))
        }
        // pg_rewind has no state of its own: the member is stopped, and no longer leader.
        (State::Stopped, Role::Demoted) => Some("stopped after losing the lead".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use k8s_openapi::jiff::SignedDuration;

    use super::*;
    use crate::rules::testing::{healthy, now};

    #[test]
    fn unreadable_lock_makes_no_leader_unhealthy() {
        let mut facts = healthy(3, 3);
        facts.leader = Seen::Unreadable("forbidden".to_owned());
        let leader = facts.member("acid-a-0").unwrap();
        let why = "acid-a-0 claims to lead, and the leader lock could not be read (forbidden)";
        assert_eq!(facts.assess().health(leader), Health::Unknown(why.to_owned()));
        facts.leader = Seen::Absent;
        let pretender = facts.member("acid-a-0").unwrap();
        assert_eq!(facts.assess().health(pretender), Health::Unhealthy(vec![Problem::WrongRole]));
    }

    /// Where all members have lost the store, no one of them is less fit than the others.
    #[test]
    fn loss_of_the_store_is_measured_against_the_other_members() {
        let an_hour_ago = now() - SignedDuration::from_hours(1);
        let seen = an_hour_ago.as_second().try_into().unwrap();
        let seen = NonZeroU32::new(seen);
        let lost = |facts: Facts, ordinal| facts.with_answer(ordinal, |it| it.dcs_last_seen = seen);
        let lone = lost(healthy(3, 3), 1);
        let of = |facts: &Facts| facts.assess().health(facts.member("acid-a-1").unwrap());
        assert_eq!(of(&lone), Health::Unhealthy(vec![Problem::StoreUnreached(3600)]));
        let never = healthy(3, 3).with_answer(1, |it| it.dcs_last_seen = NonZeroU32::new(1));
        assert!(matches!(of(&never), Health::Unhealthy(_)), "it never reached it");
        let mut all = (0..3).fold(healthy(3, 3), lost);
        if let Seen::Known(lock) = &mut all.leader {
            lock.renewed = Some(an_hour_ago);
        }
        assert!(!matches!(of(&all), Health::Unhealthy(problems)
            if problems.iter().any(|it| matches!(it, Problem::StoreUnreached(_)))));
    }

    #[test]
    fn member_whose_watchdog_failed_is_healthy_and_takes_over_never() {
        let facts = healthy(2, 1).with_leader(1).with_answer(0, |it| it.watchdog_failed = true);
        let member = facts.member("acid-a-0").unwrap();
        assert_eq!(facts.assess().health(member), Health::Healthy);
        assert_eq!(
            facts.assess().takeover(member),
            Health::Unhealthy(vec![Problem::WatchdogFailed])
        );
    }

    #[test]
    fn best_survivor_is_the_standby_that_the_leader_waits_for() {
        let sender = |name: &str, sync_state: &str| crate::patroni::Sender {
            name: name.to_owned(),
            state: "streaming".to_owned(),
            sync_state: sync_state.to_owned(),
        };
        let facts = healthy(4, 3)
            .with_leader(3)
            .synchronous(&["acid-a-0", "acid-a-1"])
            .with_answer(0, |answer| answer.received = Some(2000))
            .with_answer(3, |answer| {
                answer.replication = vec![
                    sender("acid-a-0", "potential"),
                    sender("acid-a-1", "sync"),
                    sender("acid-a-2", "async"),
                ];
            });
        assert_eq!(facts.assess().best_survivor().unwrap().name, "acid-a-1");
        let unsaid = facts.with_answer(3, |answer| answer.replication.clear());
        assert_eq!(unsaid.assess().best_survivor().unwrap().name, "acid-a-0");
    }

    #[test]
    fn standby_cluster_has_no_set_of_synchronous_standbys() {
        let facts = healthy(3, 2)
            .with_leader(2)
            .synchronous(&[])
            .with_configuration(|configuration| configuration.standby_cluster = true);
        let assessment = facts.assess();
        assert_eq!(assessment.best_survivor().unwrap().name, "acid-a-0");
        assert_eq!(
            assessment.operator_switchover(),
            crate::facts::OperatorSwitchover::Works,
            "{facts:?}"
        );
    }
}
