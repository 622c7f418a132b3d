//! The progress of a member, as a timeline that a person follows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pgscale_guard::Seen;
use pgscale_guard::facts::{Facts, Health, Live, Member, Problem, Waiting};
use pgscale_guard::patroni::{Role, State};

use super::leaving::Leaving;
use super::{Goal, Snapshot, replicates};
use crate::plan::describe;

/// The phase of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The member runs and is not yet healthy.
    Behind(Behind),
    /// The member is being cloned.
    Cloning,
    /// Its Patroni has found the cluster, and it has no data yet.
    Configured,
    /// Its pod exists and nothing runs yet, for this reason.
    Created(Option<Waiting>),
    /// The member serves readers or, as the leader, writers.
    InService(&'static str),
    /// The member is to be removed, and its pod still lives, for this reason.
    Leaving(Leaving),
    /// Its PostgreSQL container runs, and Patroni has not reported its state.
    Started,
    /// Its pod is being deleted.
    Stopping,
    /// The member replicates, and its Service does not lead to it yet.
    Streaming,
}

impl Phase {
    /// Returns whether the member has reached its last phase.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::InService(_) | Self::Streaming)
    }

    /// Returns whether the pod is being deleted, or is to be removed.
    pub(crate) fn ends(&self) -> bool {
        matches!(self, Self::Leaving(_) | Self::Stopping)
    }

    /// Returns whether it has no data of its own yet.
    pub(crate) fn is_early(&self) -> bool {
        matches!(self, Self::Cloning | Self::Configured | Self::Created(_) | Self::Started)
    }

    /// Returns the obstacle to its start. Containers that are being created are normal.
    pub(crate) fn trouble(&self) -> Option<&Waiting> {
        match self {
            Self::Created(Some(why)) => {
                let reason = why.reason.as_deref();
                let ordinary = matches!(reason, Some("ContainerCreating" | "PodInitializing"));
                (!ordinary || why.message.is_some()).then_some(why)
            }
            Self::Behind(_)
            | Self::Cloning
            | Self::Configured
            | Self::Created(None)
            | Self::InService(_)
            | Self::Leaving(_)
            | Self::Started
            | Self::Stopping
            | Self::Streaming => None,
        }
    }
}

/// The condition that a running member lacks.
#[derive(Clone, Debug)]
pub(crate) enum Behind {
    /// It lacks some of the leader's data. The number of bytes changes at every look.
    CatchingUp,
    /// It is being rebuilt, in this way.
    Rebuilding(String),
    /// It is unhealthy for another reason.
    Unfit(Health),
}

impl Behind {
    /// Returns the condition that a member of this health lacks.
    pub(super) fn of(health: Health) -> Self {
        let lags = |problem: &Problem| {
            matches!(problem, Problem::Behind(_) | Problem::ReplayBehind { .. })
        };
        match &health {
            Health::Unhealthy(problems) if problems.iter().any(lags) => Self::CatchingUp,
            Health::Healthy | Health::Unhealthy(_) | Health::Unknown(_) => Self::Unfit(health),
        }
    }
}

impl PartialEq for Behind {
    /// Compares two looks. The reason for an unknown health may hold a number of bytes, which is no
    /// news.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::CatchingUp, Self::CatchingUp)
            | (Self::Unfit(Health::Unknown(_)), Self::Unfit(Health::Unknown(_))) => true,
            (Self::Rebuilding(how), Self::Rebuilding(other)) => how == other,
            (Self::Unfit(health), Self::Unfit(other)) => health == other,
            (Self::CatchingUp | Self::Rebuilding(_) | Self::Unfit(_), _) => false,
        }
    }
}

impl Eq for Behind {}

impl fmt::Display for Behind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CatchingUp => write!(out, "catching up"),
            Self::Rebuilding(how) => write!(out, "{how}"),
            Self::Unfit(health) => write!(out, "{}", describe(health)),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(why) => write!(out, "{why}"),
            Self::Cloning => write!(out, "base backup"),
            Self::Configured => write!(out, "replication configured"),
            Self::Created(None) => write!(out, "pod created"),
            Self::Created(Some(why)) => write!(out, "pod created, waiting: {why}"),
            Self::InService(role) => write!(out, "in service as {role}"),
            Self::Leaving(why) => write!(out, "{why}"),
            Self::Started => write!(out, "container started"),
            Self::Stopping => write!(out, "stopping"),
            Self::Streaming => write!(out, "streaming"),
        }
    }
}

/// Returns the phase of every member, by name. Members that were unhealthy from the start are left
/// out.
pub(crate) fn phases(goal: &Goal, snapshot: &Snapshot) -> BTreeMap<String, Phase> {
    let facts = &snapshot.facts;
    facts
        .all_members()
        .iter()
        .filter(|member| !goal.unfit.contains(&member.name))
        .map(|member| (member.name.clone(), phase(facts, member, snapshot)))
        .collect()
}

fn phase(facts: &Facts, member: &Member, snapshot: &Snapshot) -> Phase {
    if member.pod.terminating {
        return Phase::Stopping;
    }
    // The health of a removed member does not matter.
    if member.ordinal >= facts.to() {
        return Phase::Leaving(Leaving::of(&snapshot.facts.assessment(), member));
    }
    if !member.pod.containers_running {
        return Phase::Created(member.pod.waiting.clone().map(without_back_off));
    }
    let health = snapshot.facts.assessment().health(member);
    let healthy = health == Health::Healthy;
    if facts.leader_name() == Some(member.name.as_str()) {
        let behind = || Phase::Behind(Behind::Unfit(health));
        return if healthy { Phase::InService("leader") } else { behind() };
    }
    if let Some(how) = facts.rebuilding(member) {
        return match state(member) {
            None => Phase::Started,
            Some((State::Bootstrapping | State::CreatingReplica, _)) => Phase::Cloning,
            Some((State::Stopped, Role::Uninitialized)) => Phase::Configured,
            Some(_) => Phase::Behind(Behind::Rebuilding(how)),
        };
    }
    if !healthy {
        return match &member.report {
            Seen::Absent => Phase::Started,
            Seen::Known(_) | Seen::Unreadable(_) => Phase::Behind(Behind::of(health)),
        };
    }
    if replicates(member) == Some(false) {
        Phase::Behind(Behind::CatchingUp)
    } else if served(member, &snapshot.services.replicas) {
        Phase::InService("replica")
    } else {
        Phase::Streaming
    }
}

/// Returns a member's present report on itself, or else the last that it wrote.
fn state(member: &Member) -> Option<(&State, Role)> {
    match (&member.live, &member.report) {
        (Live::Answered(answer), _) => Some((&answer.state, answer.role)),
        (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => {
            Some((&report.state, report.role))
        }
        (Live::NotAsked | Live::Silent(_), Seen::Absent | Seen::Unreadable(_)) => None,
    }
}

/// Returns the text without the kubelet's growing back-off (`back-off 40s restarting failed
/// container`), which is no news.
pub(crate) fn steady(text: &str) -> String {
    let Some((before, after)) = text.split_once("back-off ") else { return text.to_owned() };
    let Some((time, rest)) = after.split_once(' ') else { return text.to_owned() };
    let is_time = time.starts_with(|first: char| first.is_ascii_digit());
    if is_time { format!("{before}back-off {rest}") } else { text.to_owned() }
}

/// Returns the reason for a pod that does not run, without the back-off.
pub(super) fn without_back_off(waiting: Waiting) -> Waiting {
    Waiting { message: waiting.message.as_deref().map(steady), ..waiting }
}

fn served(member: &Member, addresses: &Seen<BTreeSet<String>>) -> bool {
    member
        .pod
        .ip
        .as_ref()
        .is_some_and(|ip| addresses.known().is_some_and(|addresses| addresses.contains(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Services;
    use crate::testing::{facts, with};

    /// Returns the phase of member 2 of three after `change`.
    fn of(change: impl FnOnce(&mut Member)) -> Phase {
        let facts = with(facts(3, 3, 0), 2, change);
        let replicas = Seen::Known(BTreeSet::from(["10.244.0.11".to_owned()]));
        let snapshot =
            Snapshot { facts: facts.into(), services: Services { leader: Seen::Absent, replicas } };
        phases(&Goal::default(), &snapshot).remove("acid-a-2").unwrap()
    }

    fn says(member: &mut Member, state: State, role: Role) {
        if let Live::Answered(answer) = &mut member.live {
            answer.state = state;
            answer.role = role;
        }
    }

    #[test]
    fn a_new_member_goes_from_phase_to_phase() {
        assert_eq!(
            of(|member| {
                member.live = Live::Silent("connection refused".into());
                member.report = Seen::Absent;
            }),
            Phase::Started
        );
        for (state, role, want) in [
            (State::Stopped, Role::Uninitialized, Phase::Configured),
            (State::CreatingReplica, Role::Uninitialized, Phase::Cloning),
            (State::Starting, Role::Replica, Phase::Behind(Behind::Rebuilding("starting".into()))),
            (State::Running, Role::Replica, Phase::Streaming),
        ] {
            assert_eq!(of(|member| says(member, state.clone(), role)), want);
        }
        assert!(Phase::Configured.is_early() && !Phase::Streaming.is_early());
    }

    #[test]
    fn only_an_obstacle_to_a_start_is_trouble() {
        let container = |reason: &str, message: Option<&str>| Waiting {
            container: Some("postgres".into()),
            reason: Some(reason.into()),
            message: message.map(str::to_owned),
            exit_code: None,
        };
        for (why, trouble) in [
            (container("ContainerCreating", None), false),
            (container("PodInitializing", None), false),
            (container("ContainerCreating", Some("no claim")), true),
            (container("ImagePullBackOff", Some("Back-off pulling image")), true),
            (Waiting::from("0/3 nodes are available"), true),
        ] {
            assert_eq!(Phase::Created(Some(why.clone())).trouble().is_some(), trouble, "{why}");
        }
        assert_eq!(Phase::Started.trouble(), None);
    }

    #[test]
    fn a_growing_back_off_is_no_news() {
        let crash = |time: &str| {
            let message = format!("back-off {time} restarting failed container");
            let reason = Some("CrashLoopBackOff".to_owned());
            Waiting { reason, message: Some(message), ..Waiting::default() }
        };
        let reported = without_back_off(crash("20s"));
        assert_eq!(reported, without_back_off(crash("2m40s")));
        assert_eq!(reported.to_string(), "CrashLoopBackOff: back-off restarting failed container");
        assert_eq!(steady("Back-off pulling image"), "Back-off pulling image");
        assert_eq!(steady("back-off pulling image"), "back-off pulling image");
    }
}
