//! The operator's own switchover: its outcome, and the obstacles in its way.

use std::fmt::Display;

use crate::evidence::Evidence;
use crate::facts::{Facts, LagLimit, Live, Member, Problem};
use crate::object_ref::{Kind, ObjectRef};
use crate::patroni::PATRONI_PORT;

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
            obstacles.push(role_label(leader));
            let others = self.labelled_masters().filter(|master| master.name != leader.name);
            obstacles.extend(others.map(role_label));
        }
        if leader.pod.ip.is_none() {
            obstacles.push(Evidence::new(ObjectRef::pod(&leader.name), "status.podIP", "unset"));
        }
        // The operator knows one port, and no TLS.
        let url = leader.report.known().and_then(|report| report.api_url.as_ref());
        if let Some(url) = url.filter(|_| leader.rest_port() != Ok(PATRONI_PORT)) {
            let scheme = if url.tls { "https" } else { "http" };
            let value = format_args!(
                "{scheme}, port {} (the operator calls http, port {PATRONI_PORT})",
                url.port
            );
            let pod = ObjectRef::pod(&leader.name);
            obstacles.push(Evidence::new(pod, "annotation status.api_url", value));
        }
        if let (Live::Silent(why), true) = (&leader.live, self.any_member_answered()) {
            let problem = Problem::Silent(why.clone());
            obstacles.push(self.evidence_for(leader, &problem));
        }
        let certain = leader.pod.rest_refusals.iter().filter(|refusal| refusal.certain);
        obstacles.extend(certain.map(|refusal| {
            Evidence::new(ObjectRef::pod(&leader.name), &refusal.field, &refusal.value)
        }));
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

    /// Returns the source of facts about `member`'s PostgreSQL: the member itself where it was asked,
    /// or else its pod.
    pub fn source_of(&self, member: &Member) -> ObjectRef {
        match member.rest_url() {
            Some(address) => ObjectRef::member(&member.name, &address),
            None => ObjectRef::pod(&member.name),
        }
    }

    /// Returns `field` by the last word of `member`: its answer, or else the report on its pod.
    pub fn quote(&self, member: &Member, field: &str, value: impl Display) -> Evidence {
        let report = |note: &str| {
            let field = format!("annotation status.{field}{note}");
            Evidence::new(ObjectRef::pod(&member.name), &field, &value)
        };
        match &member.live {
            Live::Answered(_) => Evidence::new(self.source_of(member), field, &value),
            Live::NotAsked => report(""),
            Live::Silent(_) => report(" (last report, no answer now)"),
        }
    }

    /// Returns what shows that `member` has `problem`.
    pub fn evidence_for(&self, member: &Member, problem: &Problem) -> Evidence {
        let pod =
            |field: &str, value: &str| Evidence::new(ObjectRef::pod(&member.name), field, value);
        let says =
            |field: &str, value: &dyn Display| Evidence::new(self.source_of(member), field, value);
        match problem {
            Problem::Missing => Evidence::absent(ObjectRef::pod(&member.name)),
            Problem::PodNotRunning(why) => pod("status", why),
            Problem::Terminating => pod("metadata.deletionTimestamp", "set"),
            Problem::NodeNotReady(node) => Evidence::new(
                ObjectRef::new(Kind::Node, node),
                "condition Ready",
                format_args!("not True ({} runs on it)", member.name),
            ),
            Problem::Behind(bytes) => {
                says("WAL not received after 1s", &format_args!("{bytes} bytes"))
            }
            Problem::NoFailover => self.quote(member, "tags.nofailover", true),
            Problem::NotReplicating => self.quote(member, "replication_state", "none"),
            Problem::NotRunning(state) => self.quote(member, "state", state),
            Problem::Rebuilding(how) => says("state", &format_args!("being rebuilt ({how})")),
            Problem::ReplayBehind { bytes, limit } => {
                let limit = match limit {
                    LagLimit::Patroni => "maximum_lag_on_failover",
                    LagLimit::Policy => "survivors.maxLag",
                };
                says("WAL not replayed", &format_args!("{bytes} bytes, more than {limit} allows"))
            }
            Problem::ReplayPaused => says("replay is paused", &true),
            Problem::Silent(why) => says("does not answer", why),
            Problem::Timeline { own, leader } => {
                says("timeline", &format_args!("{own}, and {leader} on the leader"))
            }
            Problem::StoreUnreached(seconds) => {
                says("dcs_last_seen", &format_args!("{seconds}s before that of another member"))
            }
            Problem::WatchdogFailed => says("watchdog_failed", &true),
            Problem::WrongRole => says("role", &"leader, without the leader lock"),
        }
    }

    /// Returns an annotation of the StatefulSet that makes the operator replace it.
    pub(crate) fn foreign_annotation(&self, key: &str, manager: &str) -> Evidence {
        let field = format!("annotation {key}");
        Evidence::new(self.stateful_set_source(), &field, format_args!("written by {manager}"))
    }

    /// Returns the cluster's StatefulSet.
    pub fn stateful_set_source(&self) -> ObjectRef {
        ObjectRef::new(Kind::StatefulSet, &self.change.new.name)
    }

    /// Returns the cluster's `postgresql` object.
    pub fn postgresql_source(&self) -> ObjectRef {
        ObjectRef::new(Kind::Postgresql, &self.change.new.name)
    }
}

/// Returns the label by which the operator knows the role of `member`.
fn role_label(member: &Member) -> Evidence {
    let role = member.pod.role.as_deref().unwrap_or("none");
    Evidence::new(ObjectRef::pod(&member.name), "role label", role)
}
