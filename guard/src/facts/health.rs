//! Is a member one that can be counted on?

use std::borrow::Cow;
use std::fmt;

use crate::change::Direction;
use crate::facts::{Facts, Live, Member, Seen};
use crate::patroni::{Answer, Role, State, Synchronous};
use crate::policy::Policies;

/// Whether a member can be counted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It runs, follows the leader's timeline and had received, within a second, everything the leader had
    /// when asked. The leader itself: it runs and leads.
    Healthy,
    /// It cannot be counted on, and why.
    Unhealthy(Vec<Ailment>),
    /// It could not be told, and why. Never taken as healthy, nor as unhealthy.
    Unknown(String),
}

/// One reason why a member cannot be counted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// It had not received what the leader had a second before; bytes missing.
    Behind(u64),
    /// No pod has this ordinal.
    Missing,
    /// Its node is not ready.
    NodeNotReady(String),
    /// Tagged `nofailover`: it will not take over.
    NoFailover,
    /// Its PostgreSQL runs but replicates from nobody.
    NotReplicating,
    /// Its PostgreSQL does not run.
    NotRunning(String),
    /// Its pod does not run.
    PodNotRunning(String),
    /// It is being created, cloned, reinitialised or rewound.
    Rebuilding(String),
    /// Its replay is further behind than Patroni allows, in bytes.
    ReplayBehind(u64),
    /// Its replay is paused.
    ReplayPaused,
    /// Others answered, it did not.
    Silent(String),
    /// Its pod is being deleted.
    Terminating,
    /// It is on another timeline than the leader.
    Timeline {
        /// Its own.
        own: u64,
        /// The leader's.
        leader: u64,
    },
    /// It leads, or claims to, although another member holds the lock.
    WrongRole,
}

impl fmt::Display for Ailment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(bytes) => write!(out, "{bytes} bytes behind the leader after a second"),
            Self::Missing => write!(out, "has no pod"),
            Self::NodeNotReady(node) => write!(out, "its node {node} is not Ready"),
            Self::NoFailover => write!(out, "tagged nofailover"),
            Self::NotReplicating => write!(out, "runs, but replicates from nobody"),
            Self::NotRunning(state) => write!(out, "PostgreSQL is {state}"),
            Self::PodNotRunning(why) => write!(out, "pod is {why}"),
            Self::Rebuilding(how) => write!(out, "being rebuilt ({how})"),
            Self::ReplayBehind(bytes) => write!(out, "replay is {bytes} bytes behind"),
            Self::ReplayPaused => write!(out, "replay is paused"),
            Self::Silent(why) => write!(out, "does not answer ({why})"),
            Self::Terminating => write!(out, "pod is being deleted"),
            Self::Timeline { own, leader } => {
                write!(out, "on timeline {own}, the leader is on {leader}")
            }
            Self::WrongRole => write!(out, "claims to lead without holding the leader lock"),
        }
    }
}

impl Member {
    /// `ailment` is something that was seen of it, not something that was not.
    pub(crate) fn proves(&self, ailment: &Ailment) -> bool {
        let only_unseen = match &self.live {
            Live::Answered(answer) => answer.state == State::Running && answer.position().is_none(),
            Live::NotAsked | Live::Silent(_) => false,
        };
        match ailment {
            Ailment::Silent(_) => false,
            // A pod is Pending, too, while another container's image cannot be pulled.
            Ailment::PodNotRunning(_) => !self.pod.containers_running,
            // What runs and does not say how far it is may be as far as any other.
            Ailment::Rebuilding(_) => !only_unseen,
            Ailment::Behind(_)
            | Ailment::Missing
            | Ailment::NodeNotReady(_)
            | Ailment::NoFailover
            | Ailment::NotReplicating
            | Ailment::NotRunning(_)
            | Ailment::ReplayBehind(_)
            | Ailment::ReplayPaused
            | Ailment::Terminating
            | Ailment::Timeline { .. }
            | Ailment::WrongRole => true,
        }
    }
}

impl Facts {
    /// The same facts, by which members must be as close behind the leader as `policies` demand. Applied twice it
    /// changes nothing.
    #[must_use]
    pub fn under(&self, policies: &Policies) -> Cow<'_, Self> {
        match policies.enforced_lag() {
            Some(limit) => Cow::Owned(self.with_max_lag(limit.value)),
            None => Cow::Borrowed(self),
        }
    }

    /// The same facts, with no more than `bytes` of lag allowed; where Patroni allows less, that holds.
    pub(crate) fn with_max_lag(&self, bytes: u64) -> Self {
        let mut facts = self.clone();
        if let Seen::Known(configuration) = &mut facts.configuration {
            configuration.maximum_lag_on_failover =
                configuration.maximum_lag_on_failover.min(bytes);
        }
        facts
    }

    /// Whether `member` can be counted on. Tags are not looked at: see [`Facts::takeover`].
    pub fn health(&self, member: &Member) -> Health {
        let mut ailments = pod_ailments(member);
        let mut unknown = None;
        let leads = self.leader_name() == Some(member.name.as_str());
        match &member.live {
            Live::Answered(answer) => {
                self.judge_answer(member, answer, leads, &mut ailments, &mut unknown);
            }
            Live::Silent(why) if self.anybody_answered() => {
                ailments.push(Ailment::Silent(why.clone()));
            }
            Live::Silent(why) => {
                unknown = Some(format!("no member answered; {}: {why}", member.name));
            }
            Live::NotAsked => {
                self.judge_report(member, leads, &mut ailments, &mut unknown);
                // An annotation says "running" for ever: nobody is counted on in a shrink without an answer.
                if self.direction() == Direction::Down && (leads || member.ordinal < self.to()) {
                    unknown.get_or_insert(format!("{} was not asked", member.name));
                }
            }
        }
        if !ailments.is_empty() {
            return Health::Unhealthy(ailments);
        }
        unknown.map_or(Health::Healthy, Health::Unknown)
    }

    /// Whether `member` is fit to take over: healthy and not tagged `nofailover` (`patroni/api.py`
    /// `is_failover_possible`). Where replication is synchronous it must be in the set of synchronous standbys
    /// too, which Patroni chooses anew when members go: see [`Facts::in_sync_set`].
    pub fn takeover(&self, member: &Member) -> Health {
        let tags = match (&member.live, &member.report) {
            (Live::Answered(answer), _) => Some(&answer.tags),
            (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => Some(&report.tags),
            (Live::NotAsked | Live::Silent(_), Seen::Absent | Seen::Unreadable(_)) => None,
        };
        let nofailover = tags.is_some_and(|tags| tags.nofailover);
        match self.health(member) {
            Health::Healthy | Health::Unknown(_) if nofailover => {
                Health::Unhealthy(vec![Ailment::NoFailover])
            }
            Health::Unhealthy(mut ailments) if nofailover => {
                ailments.push(Ailment::NoFailover);
                Health::Unhealthy(ailments)
            }
            health @ (Health::Healthy | Health::Unhealthy(_) | Health::Unknown(_)) => health,
        }
    }

    /// `member` is in the set of synchronous standbys, or no such set binds: `Err` says why not.
    pub fn in_sync_set(&self, member: &Member) -> Result<(), String> {
        let Some(configuration) = self.configuration.known() else {
            return Err(format!(
                "Patroni's configuration could not be read ({})",
                self.configuration.unreadable().unwrap_or("it is not there")
            ));
        };
        if configuration.synchronous != Synchronous::On {
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

    /// The best member to lead when the ordinals from `to` upwards go: can take over, stays, a synchronous
    /// standby before others, then the one that has received most, then the lowest ordinal.
    pub fn best_survivor(&self) -> Option<&Member> {
        self.survivors()
            .filter(|member| Some(member.name.as_str()) != self.leader_name())
            .filter(|member| self.takeover(member) == Health::Healthy)
            .filter(|member| self.in_sync_set(member).is_ok())
            .max_by_key(|member| {
                let sync = self
                    .leader_name()
                    .zip(self.sync.known())
                    .is_some_and(|(leader, sync)| sync.contains(leader, &member.name));
                let received = match &member.live {
                    Live::Answered(answer) => answer.position(),
                    Live::NotAsked | Live::Silent(_) => None,
                };
                (sync, received, std::cmp::Reverse(member.ordinal))
            })
    }

    /// How `member` is being rebuilt, if it is. Several independent signals, because each has a blind spot:
    /// the annotation's words, the live answer, the label Patroni sets, and the pod's own age.
    pub fn rebuilding(&self, member: &Member) -> Option<String> {
        // Who answers now is believed before an annotation that may be ten seconds old.
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

    /// The position the leader had when it was asked, in bytes.
    pub fn leader_position(&self) -> Option<u64> {
        match &self.leader_member()?.live {
            Live::Answered(answer) => answer.position(),
            Live::NotAsked | Live::Silent(_) => None,
        }
    }

    /// At least one member gave a usable answer, so that silence is the silent member's own.
    pub fn anybody_answered(&self) -> bool {
        self.all_members().iter().any(|member| matches!(member.live, Live::Answered(_)))
    }

    fn judge_answer(
        &self,
        member: &Member,
        answer: &Answer,
        leads: bool,
        ailments: &mut Vec<Ailment>,
        unknown: &mut Option<String>,
    ) {
        if let Some(how) = self.rebuilding(member) {
            ailments.push(Ailment::Rebuilding(how));
            return;
        }
        if answer.state != State::Running {
            ailments.push(Ailment::NotRunning(answer.state.word().to_owned()));
            return;
        }
        if leads {
            if !answer.role.leads() {
                ailments.push(Ailment::NotRunning(format!(
                    "{:?}, although it holds the lock",
                    answer.role
                )));
            }
            return;
        }
        if answer.role.leads() {
            match self.leader.unreadable() {
                Some(why) => {
                    *unknown = Some(format!(
                        "{} claims to lead, and the leader lock could not be read ({why})",
                        member.name
                    ));
                }
                None => ailments.push(Ailment::WrongRole),
            }
            return;
        }
        if !answer.streams() {
            ailments.push(Ailment::NotReplicating);
        }
        if answer.replay_paused {
            ailments.push(Ailment::ReplayPaused);
        }
        let leader = self.leader_member();
        let leader_answer = leader.and_then(|leader| match &leader.live {
            Live::Answered(answer) => Some(answer),
            Live::NotAsked | Live::Silent(_) => None,
        });
        let Some(leader_answer) = leader_answer else {
            *unknown = Some("the leader did not say how far it is".to_owned());
            return;
        };
        match (answer.timeline, leader_answer.timeline) {
            (Some(own), Some(leader)) if own != leader => {
                ailments.push(Ailment::Timeline { own, leader });
            }
            (Some(_), Some(_)) => {}
            _ => *unknown = Some(format!("{} did not say its timeline", member.name)),
        }
        match (answer.position(), leader_answer.position()) {
            (Some(own), Some(leader)) if own < leader => {
                ailments.push(Ailment::Behind(leader - own));
            }
            (Some(_), Some(leader)) => {
                let behind = leader.saturating_sub(answer.replayed.unwrap_or(leader));
                let limit = self.configuration.known().map(|config| config.maximum_lag_on_failover);
                if behind > limit.unwrap_or(u64::MAX) {
                    ailments.push(Ailment::ReplayBehind(behind));
                } else if behind > 0 && limit.is_none() {
                    *unknown = Some(format!(
                        "the replay of {} is {behind} bytes behind and the allowed lag could not be read",
                        member.name
                    ));
                }
            }
            _ => *unknown = Some(format!("{} did not say how far it is", member.name)),
        }
    }

    /// Without a live answer: the annotation, which may be old. Enough for growth, never for a shrink.
    fn judge_report(
        &self,
        member: &Member,
        leads: bool,
        ailments: &mut Vec<Ailment>,
        unknown: &mut Option<String>,
    ) {
        if let Some(how) = self.rebuilding(member) {
            ailments.push(Ailment::Rebuilding(how));
            return;
        }
        match &member.report {
            Seen::Known(report) if report.state != State::Running => {
                ailments.push(Ailment::NotRunning(report.state.word().to_owned()));
            }
            Seen::Known(report) => {
                if !leads && report.tells_replication_state() && report.replication_state.is_none()
                {
                    ailments.push(Ailment::NotReplicating);
                }
            }
            Seen::Absent => *unknown = Some(format!("{} has not reported yet", member.name)),
            Seen::Unreadable(why) => *unknown = Some(format!("{}: {why}", member.name)),
        }
    }
}

fn pod_ailments(member: &Member) -> Vec<Ailment> {
    let mut ailments = Vec::new();
    let pod = &member.pod;
    if pod.terminating {
        ailments.push(Ailment::Terminating);
    }
    if pod.phase != "Running" || !pod.containers_running {
        let why = pod.waiting.clone().unwrap_or_else(|| pod.phase.clone());
        ailments.push(Ailment::PodNotRunning(why));
    }
    if pod.node_ready == Some(false) {
        ailments.push(Ailment::NodeNotReady(pod.node.clone().unwrap_or_default()));
    }
    ailments
}

fn rebuild_words(state: &State, role: Role) -> Option<String> {
    match (state, role) {
        // A rejoining member starts after its base backup or pg_rewind; a plain restart looks the same.
        (State::CreatingReplica | State::Bootstrapping, _)
        | (State::Starting, Role::Demoted | Role::Replica) => Some(state.word().to_owned()),
        // A failing rebuild alternates "creating replica" and "stopped"; a reinitialised member has no data
        // directory in between (patroni/postgresql/bootstrap.py).
        (State::Stopped | State::Starting, Role::Uninitialized) => {
            Some(format!("{}, without data", state.word()))
        }
        // pg_rewind has no state of its own: stopped, and no longer leader.
        (State::Stopped, Role::Demoted) => Some("stopped after losing the lead".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::healthy;

    #[test]
    fn a_leader_whose_lock_cannot_be_read_was_called_a_pretender() {
        let mut facts = healthy(3, 3);
        facts.leader = Seen::Unreadable("forbidden".to_owned());
        let leader = facts.member("acid-a-0").unwrap();
        let why = "acid-a-0 claims to lead, and the leader lock could not be read (forbidden)";
        assert_eq!(facts.health(leader), Health::Unknown(why.to_owned()));
        facts.leader = Seen::Absent;
        let pretender = facts.member("acid-a-0").unwrap();
        assert_eq!(facts.health(pretender), Health::Unhealthy(vec![Ailment::WrongRole]));
    }
}
