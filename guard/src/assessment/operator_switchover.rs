//! The outcome of the operator's own switchover, if the leader's pod were deleted now.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Health, Member, OperatorSwitchover, Seen};
use crate::object_ref::ObjectRef;
use crate::patroni::Synchronous;

impl Assessment<'_> {
    /// Returns the outcome for the leader when the operator alone carries out the change.
    pub fn operator_switchover(&self) -> OperatorSwitchover {
        if let Some(why) = self.leader.unreadable() {
            return OperatorSwitchover::Unknown(format!(
                "the leader lock could not be read ({why})"
            ));
        }
        if let Some(why) = self.members.unreadable() {
            return OperatorSwitchover::Unknown(format!(
                "the cluster's pods could not be listed ({why})"
            ));
        }
        let Some(leader) = self.leader_member().filter(|leader| leader.ordinal >= self.to()) else {
            return OperatorSwitchover::NotNeeded;
        };
        let mut obstacles = self.operator_obstacles(leader);
        let mut unknown =
            leader.pod.rest_refusals.iter().find(|refusal| !refusal.certain).map(|it| {
                format!(
                    "{}: {}: {}: Patroni there may refuse the operator",
                    leader.name, it.field, it.value
                )
            });
        self.candidate_obstacles(leader, &mut obstacles, &mut unknown);
        match &self.stateful_set {
            Seen::Known(set) => match self.replacement(set, &self.change.new) {
                Ok(replacement) => obstacles.extend(replacement.reasons),
                Err(why) => {
                    unknown.get_or_insert(why);
                }
            },
            Seen::Absent => obstacles.push(Evidence::absent(self.stateful_set_source())),
            Seen::Unreadable(why) => {
                unknown.get_or_insert(format!("the StatefulSet could not be read ({why})"));
            }
        }
        if !obstacles.is_empty() {
            return OperatorSwitchover::Fails(obstacles);
        }
        unknown.map_or(OperatorSwitchover::Works, OperatorSwitchover::Unknown)
    }

    /// Collects the reasons for which Patroni would refuse the candidate (`is_failover_possible`,
    /// `patroni/api.py`).
    fn candidate_obstacles(
        &self,
        leader: &Member,
        obstacles: &mut Vec<Evidence>,
        unknown: &mut Option<String>,
    ) {
        let name = self.pod_name(0);
        let Some(candidate) = self.member(&name) else {
            obstacles.push(Evidence::absent(ObjectRef::pod(&name)));
            return;
        };
        match self.takeover(candidate) {
            Health::Healthy => {}
            Health::Unhealthy(problems) => {
                obstacles
                    .extend(problems.iter().map(|problem| self.evidence_for(candidate, problem)));
            }
            Health::Unknown(why) => {
                unknown.get_or_insert(why);
            }
        }
        let synchronous = match &self.configuration {
            Seen::Known(configuration) => configuration.synchrony(),
            Seen::Absent => {
                unknown.get_or_insert("Patroni's configuration is not there".to_owned());
                return;
            }
            Seen::Unreadable(why) => {
                unknown.get_or_insert(format!("Patroni's configuration could not be read ({why})"));
                return;
            }
        };
        if synchronous != Synchronous::On {
            return;
        }
        let [mode, sync_source] = ["config", "sync"].map(|part| move || self.patroni_source(part));
        match &self.sync {
            Seen::Known(sync) if sync.contains(&leader.name, &candidate.name) => {}
            Seen::Known(sync) => {
                let all = sync.standbys.join(", ");
                let all = if all.is_empty() { "none" } else { &all };
                obstacles.push(Evidence::new(mode(), "synchronous_mode", true));
                obstacles.push(Evidence::new(sync_source(), "sync_standby", all));
            }
            Seen::Absent => {
                obstacles.push(Evidence::new(mode(), "synchronous_mode", true));
                obstacles.push(Evidence::absent(sync_source()));
            }
            Seen::Unreadable(why) => {
                unknown
                    .get_or_insert(format!("the synchronous standbys could not be read ({why})"));
            }
        }
    }
}
