//! Healthy copies of the data on kept members, and volumes of members that may come back.

use crate::assessment::Assessment;
use crate::facts::{Claim, Health, Member, Seen};

impl<'a> Assessment<'a> {
    /// Returns the claims that this change must not lose.
    ///
    /// These are bound claims of removed ordinals without a pod, where the StatefulSet asks for the
    /// pod and too few kept members are healthy. An error means that this is not known.
    ///
    /// Such a member may be on its way back, or may never have run. An unbound claim holds no data.
    /// Both kinds of claims may go where enough healthy members are kept, so that growth that is
    /// stuck can be taken back.
    pub(crate) fn missed_claims(&self) -> Result<Vec<&'a Claim>, String> {
        if self.enough_fit_kept() {
            return Ok(Vec::new());
        }
        let asked_for = match &self.stateful_set {
            // Another writer may have scaled it: the operator's next sync restores the object's
            // count.
            Seen::Known(set) => set.replicas.max(self.from().unwrap_or(0)),
            Seen::Absent => self.from().unwrap_or(0),
            Seen::Unreadable(_) => i64::MAX,
        };
        let mut condemned = self.to()..asked_for;
        match &self.facts.claims {
            Seen::Known(claims) => Ok(claims
                .iter()
                .filter(|claim| claim.capacity.is_some() && !claim.terminating)
                .filter(|claim| condemned.contains(&claim.ordinal) && !self.has_pod(claim.ordinal))
                .collect()),
            Seen::Absent => Ok(Vec::new()),
            Seen::Unreadable(why) => match condemned.find(|ordinal| !self.has_pod(*ordinal)) {
                None => Ok(Vec::new()),
                Some(ordinal) => Err(format!(
                    "{} has no pod, and the volume claims could not be listed ({why})",
                    self.pod_name(ordinal)
                )),
            },
        }
    }

    /// Returns whether a leader stays that a new member can copy from.
    ///
    /// Growth asks a leader only where its last report leaves doubts.
    pub(crate) fn leader_can_be_copied(&self) -> bool {
        let from = self.from().unwrap_or(0);
        self.leader_member().is_some_and(|leader| {
            leader.ordinal < from
                && self.health(leader) == Health::Healthy
                && !self.contradicts_lock(leader)
        })
    }

    /// Returns the health of `member` for its present role: a leader's tags do not matter.
    pub(crate) fn fitness(&self, member: &Member) -> Health {
        if self.leader_name() == Some(member.name.as_str()) {
            self.health(member)
        } else {
            self.takeover(member)
        }
    }

    /// Returns whether enough fit members stay as soon as Patroni's own limit on the lag counts, and no policy's.
    pub(crate) fn enough_fit_by_patroni(&self) -> bool {
        let fit = self.survivors().map(|member| self.fitness(member));
        let fit = fit.filter(|it| *it == Health::Healthy || it.lags_by_policy_alone());
        fit.count() >= self.fit_needed()
    }

    fn enough_fit_kept(&self) -> bool {
        let fit = self.survivors().filter(|member| self.fitness(member) == Health::Healthy);
        fit.count() >= self.fit_needed()
    }
}
