//! Changes that improve a bad state: they remove unhealthy members that hold nothing that others
//! lack.

use k8s_openapi::jiff::SignedDuration;

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::facts::{Health, Live, Member, Repair, Seen};
use crate::patroni::State;

/// The time within which a healthy member follows a new leader: some loops of Patroni, which take 10 s
/// each (`loop_wait`).
const FOLLOWS_WITHIN: SignedDuration = SignedDuration::from_secs(40);

impl Assessment<'_> {
    /// Returns the kind of repair that this change is. Live state never refuses a repair.
    pub fn repair(&self) -> Option<Repair> {
        let from = self.from()?;
        // A return to a count of zero is an outage, whatever the StatefulSet says.
        if self.to() == 0 {
            return None;
        }
        let stateful_set = self.stateful_set.known();
        if self.direction() != Direction::Same
            && stateful_set.is_some_and(|set| set.replicas == self.to())
            && self.members.known().is_some()
            // Another writer scaled the StatefulSet: a terminating pod still lives, and may be the
            // leader's.
            && self.condemned().all(|member| member.pod.terminating)
            && (self.direction() != Direction::Down || self.removes_nothing_newer(from))
        {
            return Some(Repair::Cancels);
        }
        if self.direction() == Direction::Up {
            let adds = from..self.to();
            let highest = self.all_members().iter().map(|member| member.ordinal).max();
            let known = highest.is_some_and(|highest| self.to() <= highest.saturating_add(1));
            if known && self.doomed_leader().is_some_and(|leader| adds.contains(&leader.ordinal)) {
                return Some(Repair::KeepsLeader);
            }
            // No more ordinals than pods: a count may be as high as an int32.
            let pods = i64::try_from(self.all_members().len()).unwrap_or(i64::MAX);
            if self.to().saturating_sub(from) <= pods
                && adds.into_iter().all(|ordinal| self.has_pod(ordinal))
            {
                return Some(Repair::AddsNothingNew);
            }
        }
        let no_members = self.members.known().is_some_and(Vec::is_empty);
        // An empty list may be the wrong list: without the StatefulSet its labels are a guess.
        let certain = match &self.stateful_set {
            Seen::Known(_) => true,
            Seen::Absent => self.leader_name().is_none(),
            Seen::Unreadable(_) => false,
        };
        if no_members && certain && self.claims.known().is_some_and(Vec::is_empty) {
            return Some(Repair::NothingRuns);
        }
        if from == 0 && no_members {
            return Some(Repair::ReturnsFromZero);
        }
        // A member is "not the leader" only where the leader is certain and no other member claims
        // to lead.
        let leader_stays = self.leader_member().is_some_and(|leader| {
            leader.ordinal < self.to()
                // A leader whose pod ends gives the lead up, and perhaps to a removed member.
                && !leader.pod.terminating
                && !self.contradicts_lock(leader)
                && !self.may_contradict_lock(leader)
        });
        let removes_unhealthy_only = self.direction() == Direction::Down
            && leader_stays
            // A count above the StatefulSet's is growth, whatever the object asked for before.
            && !self.adds_members()
            && self.labelled_leaders().count() <= 1
            && self.condemned().all(|member| self.safe_to_remove(member))
            && self.missed_claims().is_ok_and(|claims| claims.is_empty());
        removes_unhealthy_only.then_some(Repair::RemovesUnhealthyOnly)
    }

    /// Returns whether the cluster would miss `member`: it is healthy, or its health is not
    /// certain.
    ///
    /// The rules count such a member as healthy.
    pub fn missed(&self, member: &Member) -> bool {
        !self.safe_to_remove(member)
    }

    /// Returns whether nothing but a policy's limit on the lag lets a member go that would otherwise be missed.
    pub(crate) fn spared_by_policy(&self, member: &Member) -> bool {
        let Health::Unhealthy(problems) = self.health(member) else { return false };
        let mut others = problems.iter().filter(|problem| !problem.by_policy());
        others.clone().count() < problems.len()
            && !others.any(|problem| self.proven(member, problem))
            && !self.missed(member)
    }

    /// Returns whether positive evidence (not missing data) shows that `member` is unhealthy and
    /// holds no WAL that the leader lacks.
    ///
    /// Silence is no proof: the PostgreSQL of a frozen Patroni may hold every row.
    fn safe_to_remove(&self, member: &Member) -> bool {
        let Health::Unhealthy(problems) = self.health(member) else { return false };
        problems.iter().any(|problem| self.proven(member, problem))
            && !self.may_be_ahead(member)
            && !self.holds_what_others_lack(member)
            && !self.may_lead_next(member)
            && !self.follows_soon(member)
    }

    /// Returns whether `member` may only not have had the time to follow a leader that is new.
    fn follows_soon(&self, member: &Member) -> bool {
        let acquired = self.leader.known().and_then(|lock| lock.acquired);
        let new = acquired.is_some_and(|since| self.now.duration_since(since) < FOLLOWS_WITHIN);
        let Live::Answered(answer) = &member.live else { return false };
        let comes = matches!(answer.state, State::Running | State::Starting);
        new && comes && !member.pod.terminating && member.pod.node_ready != Some(false)
    }

    /// Returns whether `member` may lead once the lock of a leader that gives no sign of life has
    /// expired.
    ///
    /// An old timeline does not stop it: Patroni compares timelines only with `check_timeline`
    /// (`is_healthiest_node`, patroni/ha.py).
    fn may_lead_next(&self, member: &Member) -> bool {
        let Live::Answered(answer) = &member.live else { return false };
        let runs = answer.state == State::Running && self.rebuilding(member).is_none();
        let lost = |leader: &Member| {
            matches!(leader.live, Live::Silent(_)) || leader.pod.node_ready == Some(false)
        };
        runs && !answer.tags.nofailover && self.leader_member().is_some_and(lost)
    }
}
