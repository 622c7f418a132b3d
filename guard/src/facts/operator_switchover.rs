//! The operator's own switchover: its outcome, and the obstacles in its way.

use std::fmt::Display;

use crate::facts::{Facts, Live, Member, Problem};
use crate::verdict::Evidence;

/// Port of Patroni's REST interface. Spilo never changes it.
const REST_PORT: u16 = 8008;

/// The outcome for the leader when the StatefulSet is shrunk.
///
/// The operator asks Patroni to switch over to ordinal 0, whatever its state. It logs a refusal as
/// a warning and shrinks the StatefulSet all the same (`preScaleDown`, pkg/cluster/resources.go).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorSwitchover {
    /// The leader's pod is removed, and the switchover to ordinal 0 would be refused or never
    /// requested: every reason.
    Fails(Vec<Evidence>),
    /// There is no leader, or the leader is kept.
    NotNeeded,
    /// The outcome is not known, for this reason.
    Unknown(String),
    /// The leader's pod is removed, and ordinal 0 can take over now.
    Works,
}

impl Facts {
    /// Returns the operator's own obstacles, before it asks Patroni.
    ///
    /// It finds the leader by the role label (`getPods`, pkg/cluster/pod.go) and calls that pod's
    /// REST interface (pkg/util/patroni/patroni.go).
    pub(crate) fn operator_obstacles(&self, leader: &Member) -> Vec<Evidence> {
        let mut obstacles = Vec::new();
        let mut masters =
            self.labelled_masters().map(|master| master.name.as_str()).collect::<Vec<_>>();
        masters.sort_unstable();
        if masters != [leader.name.as_str()] {
            let labelled =
                if masters.is_empty() { "no pod".to_owned() } else { masters.join(" and ") };
            obstacles.push(Evidence::new(
                format!("pod/{}", leader.name),
                format!("holds the leader lock, but {labelled} has the role label master"),
            ));
        }
        if leader.pod.ip.is_none() {
            obstacles.push(Evidence::new(
                format!("pod/{}", leader.name),
                "has no address: the operator cannot ask it for a switchover",
            ));
        }
        if let (Live::Silent(why), true) = (&leader.live, self.any_member_answered()) {
            obstacles.push(Evidence::new(
                self.source_of(leader),
                format!("the leader does not answer ({why}): it cannot be asked for a switchover"),
            ));
        }
        obstacles
    }

    /// Returns the pods with a role label that means leader, in either spelling.
    pub fn labelled_leaders(&self) -> impl Iterator<Item = &Member> {
        let leads =
            |member: &&Member| matches!(member.pod.role.as_deref(), Some("master" | "primary"));
        self.all_members().iter().filter(leads)
    }

    /// Returns the pods with the role label `master`, which the operator and the service
    /// `<cluster>` select.
    pub fn labelled_masters(&self) -> impl Iterator<Item = &Member> {
        self.all_members().iter().filter(|member| member.pod.role.as_deref() == Some("master"))
    }

    /// Returns the source of facts about `member`'s PostgreSQL: the address that was asked, or else
    /// its pod.
    pub fn source_of(&self, member: &Member) -> String {
        match (&member.live, &member.pod.ip) {
            (Live::Answered(_) | Live::Silent(_), Some(ip)) if ip.contains(':') => {
                format!("http://[{ip}]:{REST_PORT}/patroni")
            }
            (Live::Answered(_) | Live::Silent(_), Some(ip)) => {
                format!("http://{ip}:{REST_PORT}/patroni")
            }
            _ => format!("pod/{}", member.name),
        }
    }

    /// Returns `says` as evidence, with its source: `member`'s answer, or else the report on its
    /// pod.
    pub fn quote(&self, member: &Member, says: impl Display) -> Evidence {
        let pod = || format!("pod/{}", member.name);
        match &member.live {
            Live::Answered(_) => {
                Evidence::new(self.source_of(member), format!("{}: {says}", member.name))
            }
            Live::NotAsked => Evidence::new(pod(), format!("annotation status: {says}")),
            Live::Silent(_) => Evidence::new(
                pod(),
                format!("annotation status: {says} (last report; it does not answer)"),
            ),
        }
    }

    /// Returns one problem of `member` as evidence, with the object that shows it.
    pub fn evidence_for(&self, member: &Member, problem: &Problem) -> Evidence {
        let source = match problem {
            Problem::Missing | Problem::PodNotRunning(_) | Problem::Terminating => {
                format!("pod/{}", member.name)
            }
            Problem::NodeNotReady(node) => format!("node/{node}"),
            Problem::Behind(_)
            | Problem::NoFailover
            | Problem::NotReplicating
            | Problem::NotRunning(_)
            | Problem::Rebuilding(_)
            | Problem::ReplayBehind { .. }
            | Problem::ReplayPaused
            | Problem::Silent(_)
            | Problem::Timeline { .. }
            | Problem::WrongRole => self.source_of(member),
        };
        Evidence::new(source, format!("{}: {problem}", member.name))
    }

    /// Returns `kind/name` of the cluster's StatefulSet.
    pub fn stateful_set_source(&self) -> String {
        format!("statefulset/{}", self.change.new.name)
    }
}
