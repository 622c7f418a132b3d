//! Would the operator's own hand-over work, if the leader's pod were deleted now?

use std::fmt::Display;

use crate::facts::{Facts, Live, Member, Problem};
use crate::verdict::Evidence;

/// Port of Patroni's REST interface; Spilo never changes it.
const REST_PORT: u16 = 8008;

/// What becomes of the leader when the StatefulSet is shrunk.
///
/// The operator asks Patroni to switch over to ordinal 0, whatever its state, logs a refusal as a warning and
/// shrinks the StatefulSet all the same (`preScaleDown`, pkg/cluster/resources.go).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorSwitchover {
    /// The leader's pod goes and the switchover to ordinal 0 would be refused or never asked for: every
    /// reason.
    Fails(Vec<Evidence>),
    /// Nobody leads, or the leader stays.
    NotNeeded,
    /// It cannot be told, and why.
    Unknown(String),
    /// The leader's pod goes; ordinal 0 can take over now.
    Works,
}

impl Facts {
    /// What the operator itself stumbles over before it asks Patroni: it takes the leader from the role label
    /// (`getPods`, pkg/cluster/pod.go) and calls that pod's REST interface (pkg/util/patroni/patroni.go).
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
                "has no address: the operator cannot ask it to hand over",
            ));
        }
        if let (Live::Silent(why), true) = (&leader.live, self.anybody_answered()) {
            obstacles.push(Evidence::new(
                self.source_of(leader),
                format!("the leader does not answer ({why}): it cannot be asked to hand over"),
            ));
        }
        obstacles
    }

    /// Pods whose role label says that they lead, by whatever name.
    pub fn labelled_leaders(&self) -> impl Iterator<Item = &Member> {
        let leads =
            |member: &&Member| matches!(member.pod.role.as_deref(), Some("master" | "primary"));
        self.all_members().iter().filter(leads)
    }

    /// Pods whose role label says `master`: what the operator and the service `<cluster>` go by.
    pub fn labelled_masters(&self) -> impl Iterator<Item = &Member> {
        self.all_members().iter().filter(|member| member.pod.role.as_deref() == Some("master"))
    }

    /// Who was asked about `member`'s PostgreSQL: the address that answered or did not, or else its pod.
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

    /// What `member` says by its last word: its answer, or else the report on its pod.
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

    /// One ailment of `member` with the object that shows it.
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

    /// `kind/name` of the cluster's StatefulSet.
    pub fn stateful_set_source(&self) -> String {
        format!("statefulset/{}", self.change.new.name)
    }
}
