//! The failures in a test's cluster.

use super::State;

/// A failure that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Another writer changes the object just before the plugin's write.
    Conflict,
    /// The webhook refuses the write, and its dry run.
    Denial,
    /// The webhook refuses the write, and lets its dry run pass.
    DenialAfterDryRun,
    /// A webhook takes no dry runs.
    DryRunUnsupported,
    /// The write is lost on its way.
    LostBefore,
    /// The answer to the write is lost on its way.
    LostAfter,
    /// The operator drops the update: the count is stored, and nothing happens until another update.
    UpdateDropped,
    /// The operator acts on the count after this number of reads of the cluster.
    ActsLate(u32),
    /// The operator has not acted yet when a failover brings the lead to the last member. It acts on
    /// the count that is there while the lead moves again, and on every later one.
    LeadReturns,
    /// The same, but the operator has begun to act, and its status says so. It acts as soon as the
    /// lead has moved again.
    LeadReturnsLate,
    /// The same as `LeadReturns`, and a policy freezes the count while the leader moves again.
    LeadReturnsFrozen,
    /// The same as `LeadReturns`, and no kept member can take over.
    LeadReturnsForGood,
    /// The leader's pod is deleted while the checkpoint is written: no member holds the lock.
    LeaderGoneAtCheckpoint,
    /// The candidate freezes while Patroni switches over, and Patroni gives up.
    CandidateFreezes,
    /// The candidate freezes just before the switchover is requested, and Patroni refuses it.
    CandidateFrozen,
    /// The new leader freezes right after the switchover.
    NewLeaderFreezes,
    /// Patroni refuses to switch over.
    SwitchoverRefused,
    /// Patroni's answer to a switchover that works is lost.
    SwitchoverAnswerLost,
    /// The switchover works, and the replicas do not follow the new leader.
    NobodyFollows,
    /// Another writer sets the count back as soon as it is written.
    Reverted,
    /// The new member never starts.
    Pending,
    /// Another writer writes the same count just before the plugin, and the new member never
    /// starts.
    PendingAndCounted,
    /// The last member takes the lead while the question is open.
    FailoverAtPrompt,
    /// The same, and the first two stall.
    FailoverAndStallAtPrompt,
    /// The last member but one takes the lead while the checkpoint is written.
    FailoverAtCheckpoint,
    /// The switchover works, and member 1 leads, whichever candidate was requested.
    AnotherTakesOver,
    /// The switchover works, and another writer sets the count to this meanwhile.
    CountedDuringSwitchover(i64),
    /// The StatefulSet's controller is busy for this number of reads.
    Busy(u32),
    /// The switchover works, and the StatefulSet's controller is busy for this number of reads
    /// after it.
    BusyAfterSwitchover(u32),
    /// The switchover works, and a policy freezes the count meanwhile.
    FrozenDuringSwitchover,
    /// Another user has requested a switchover.
    SwitchoverPending,
    /// The object with the pending switchover cannot be read.
    SwitchoversHidden,
    /// Everything is deleted and created again just before the plugin's write, or its dry run.
    Recreated,
    /// The same, just before the plugin's write and after its dry run.
    RecreatedAfterDryRun,
    /// The switchover works, and the API server cannot be reached for the first reads after it.
    AwayAfterSwitchover,
    /// Stalled receivers work for a moment after the switchover, and stall again.
    StallsAgain,
    /// Another writer comes just before the plugin's write, and the volume claims cannot be read
    /// from then on.
    ConflictAndHiddenClaims,
    /// The volume claims cannot be read any more once the question is open.
    HiddenClaimsAtPrompt,
    /// Another writer sets the count to this while the question is open.
    CountedAtPrompt(i64),
    /// A policy allows no more than 3 instances once the question is open.
    BoundedAtPrompt,
}

impl State {
    /// Returns whether a read of the cluster's object fails, as the first ones after a switchover
    /// may.
    pub(super) fn is_away(&mut self, path: &str) -> bool {
        let looks = path.ends_with("/postgresqls/acid-a") && !self.switchovers.is_empty();
        let away = looks && self.away > 0 && self.mishap == Some(Mishap::AwayAfterSwitchover);
        self.away -= u32::from(away);
        away
    }

    /// Returns whether the StatefulSet's controller has not observed its newest generation.
    pub(super) fn is_busy(&self) -> bool {
        match self.mishap {
            Some(Mishap::Busy(looks)) => looks > 0,
            Some(Mishap::BusyAfterSwitchover(looks)) => looks > 0 && !self.switchovers.is_empty(),
            _ => false,
        }
    }

    /// Counts one read of a busy controller.
    pub(super) fn be_less_busy(&mut self) {
        if self.is_busy()
            && let Some(Mishap::Busy(looks) | Mishap::BusyAfterSwitchover(looks)) = &mut self.mishap
        {
            *looks -= 1;
        }
    }

    /// Counts one read of a cluster whose operator acts late.
    pub(super) fn act_late(&mut self) {
        if let Some(Mishap::ActsLate(reads)) = &mut self.mishap
            && !self.writes.is_empty()
        {
            *reads = reads.saturating_sub(1);
            if *reads == 0 {
                self.replicas = self.declared;
                self.members = self.declared;
            }
        }
    }
}
