//! The parts of the facts that a rule rests on, so that a change can be judged before all of them
//! are read.

use crate::change::{Change, Direction};
use crate::facts::{Facts, Live, Seen};
use crate::rules::{RULES, Rule};

/// One part of the judge's input: a field of [`Facts`], or the policies.
///
/// The change itself and the time are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Read {
    /// The policies that hold for the cluster.
    Policies,
    /// The operator that owns the cluster, and the one that owned it before the write.
    Operator,
    /// The StatefulSet.
    StatefulSet,
    /// The pods, with their nodes and with the last report of their Patroni.
    Pods,
    /// The answers of the members.
    Answers,
    /// The leader lock.
    Leader,
    /// Patroni's dynamic configuration.
    Configuration,
    /// The switchover that is requested and not done.
    Failover,
    /// The synchronous standbys.
    Sync,
    /// The volume claims.
    Claims,
    /// The last leader by Patroni's history.
    LastLeader,
    /// The system identifier that Patroni keeps, and what is left in the store that it left.
    Initialize,
    /// The template of every member.
    Template,
    /// The namespace's quotas.
    Quotas,
    /// The namespace's limit ranges.
    LimitRanges,
    /// The nodes.
    Nodes,
    /// The disruption budgets.
    DisruptionBudgets,
    /// The logical backup job.
    Backup,
    /// What counts against the budget of the namespace.
    Budget,
}

impl Read {
    /// Every part.
    pub const ALL: &'static [Self] = &[
        Self::Policies,
        Self::Operator,
        Self::StatefulSet,
        Self::Pods,
        Self::Answers,
        Self::Leader,
        Self::Configuration,
        Self::Failover,
        Self::Sync,
        Self::Claims,
        Self::LastLeader,
        Self::Initialize,
        Self::Template,
        Self::Quotas,
        Self::LimitRanges,
        Self::Nodes,
        Self::DisruptionBudgets,
        Self::Backup,
        Self::Budget,
    ];

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// A set of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads(u32);

impl Reads {
    /// No part: only the change itself.
    pub const NONE: Self = Self(0);
    /// Every part.
    pub const ALL: Self = Self::of(Read::ALL);

    /// Returns the set of these parts.
    pub const fn of(reads: &[Read]) -> Self {
        Self::NONE.and(reads)
    }

    /// Returns this set with these parts too.
    #[must_use]
    pub const fn and(self, reads: &[Read]) -> Self {
        let (mut set, mut rest) = (self.0, reads);
        while let Some((first, others)) = rest.split_first() {
            set |= first.bit();
            rest = others;
        }
        Self(set)
    }

    /// Returns whether the part is in the set.
    pub const fn contains(self, read: Read) -> bool {
        self.0 & read.bit() != 0
    }

    /// Returns whether every part of `other` is in the set.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Returns the parts that any rule may need that can find something in this change, before
    /// anything is read.
    ///
    /// The written counts decide. Where the same write may lift the operator's limits or hand the
    /// cluster to another operator, they do not say which way the effective count goes. Then it is
    /// every part.
    pub fn of_change(change: &Change) -> Self {
        let Some(written) = written_direction(change) else { return Self::ALL };
        let may_find = |rule: &&Rule| rule.applies.may_include(written);
        let needs = RULES.iter().filter(may_find).map(|rule| rule.needs);
        needs.fold(Self::NONE, |all, needs| Self(all.0 | needs.0))
    }

    /// Returns the parts, in their order.
    pub fn iter(self) -> impl Iterator<Item = Read> {
        Read::ALL.iter().copied().filter(move |read| self.contains(*read))
    }
}

/// Returns the way in which the write changes the written count. `None` where the effective count
/// may go another way.
///
/// Annotations lift the operator's limits, name the operator, and their keys are its settings. The
/// limits are off for a standby of another cluster with one instance and on for more, so even its
/// written growth may be a shrink ([`crate::operator::Settings::effective`]).
fn written_direction(change: &Change) -> Option<Direction> {
    let Some(old) = &change.old else { return Some(Direction::Create) };
    let new = &change.new;
    if old.annotations != new.annotations || old.is_standby() || new.is_standby() {
        return None;
    }
    let count = |instances: Option<i64>| instances.unwrap_or(0);
    Some(match count(new.instances).cmp(&count(old.instances)) {
        std::cmp::Ordering::Less => Direction::Down,
        std::cmp::Ordering::Equal => Direction::Same,
        std::cmp::Ordering::Greater => Direction::Up,
    })
}

/// Returns whether the write may lower the effective count, by all that it says itself.
#[cfg(feature = "read")]
pub(crate) fn may_shrink(change: &Change) -> bool {
    matches!(written_direction(change), None | Some(Direction::Down))
}

/// The needs of every rule: the operator's limits make the counts before and after the change.
pub(super) const COUNT: Reads = Reads::of(&[Read::Operator]);

/// The needs of a rule that asks for the members that can be counted on.
pub(super) const HEALTH: Reads =
    COUNT.and(&[Read::Policies, Read::Pods, Read::Answers, Read::Leader, Read::Configuration]);

impl Rule {
    /// Returns the parts that the rule's outcome rests on for this change.
    ///
    /// If the operator that owned the cluster is gone, only the StatefulSet and the pods say how
    /// many instances ran. Then every rule needs them.
    pub fn needs(&self, facts: &Facts) -> Reads {
        match facts.operator_before.as_deref() {
            Some(Seen::Absent) => self.needs.and(&[Read::StatefulSet, Read::Pods]),
            Some(Seen::Known(_) | Seen::Unreadable(_)) | None => self.needs,
        }
    }
}

impl Facts {
    /// Returns these facts with nothing but `available` in them.
    ///
    /// Every other part is unreadable, because of `why`.
    #[must_use]
    pub fn only(&self, available: Reads, why: &str) -> Self {
        let mut facts = self.clone();
        for read in Read::ALL.iter().filter(|read| !available.contains(**read)) {
            facts.hide(*read, why);
        }
        facts
    }

    /// Returns the reason for which one part could not be read. The policies and the answers of
    /// members have reasons of their own.
    pub(super) fn why_unread(&self, read: Read) -> Option<&str> {
        let room = &self.capacity;
        match read {
            Read::Policies | Read::Answers => None,
            Read::Operator => {
                let before = || self.operator_before.as_deref()?.unreadable();
                self.operator.unreadable().or_else(before)
            }
            Read::StatefulSet => self.stateful_set.unreadable(),
            Read::Pods => self.members.unreadable(),
            Read::Leader => self.leader.unreadable(),
            Read::Configuration => self.configuration.unreadable(),
            Read::Failover => self.failover.unreadable(),
            Read::Sync => self.sync.unreadable(),
            Read::Claims => self.claims.unreadable(),
            Read::LastLeader => self.last_leader.unreadable(),
            Read::Initialize => {
                self.initialize.unreadable().or_else(|| self.elsewhere.unreadable())
            }
            Read::Template => room.template.unreadable(),
            Read::Quotas => room.quotas.as_ref()?.unreadable(),
            Read::LimitRanges => room.limit_ranges.as_ref()?.unreadable(),
            Read::Nodes => room.nodes.as_ref()?.unreadable(),
            Read::DisruptionBudgets => room.disruption_budgets.as_ref()?.unreadable(),
            Read::Backup => room.backup.as_ref()?.unreadable(),
            Read::Budget => room.budget.as_ref()?.unreadable(),
        }
    }

    /// Makes one part unreadable because of `why`. A part that was not requested stays so.
    fn hide(&mut self, read: Read, why: &str) {
        fn unread<T>(why: &str) -> Seen<T> {
            Seen::Unreadable(why.to_owned())
        }
        fn withheld<T>(seen: &mut Option<Seen<T>>, why: &str) {
            if let Some(seen) = seen {
                *seen = unread(why);
            }
        }
        match read {
            Read::Policies => {}
            Read::Operator => {
                self.operator = unread(why);
                if let Some(before) = &mut self.operator_before {
                    **before = unread(why);
                }
            }
            Read::StatefulSet => self.stateful_set = unread(why),
            Read::Pods => self.members = unread(why),
            Read::Answers => {
                if let Seen::Known(members) = &mut self.members {
                    for member in members {
                        member.live = Live::NotAsked;
                    }
                }
            }
            Read::Leader => self.leader = unread(why),
            Read::Configuration => self.configuration = unread(why),
            Read::Failover => self.failover = unread(why),
            Read::Sync => self.sync = unread(why),
            Read::Claims => self.claims = unread(why),
            Read::LastLeader => self.last_leader = unread(why),
            Read::Initialize => {
                self.initialize = unread(why);
                self.elsewhere = unread(why);
            }
            Read::Template => self.capacity.template = unread(why),
            Read::Quotas => withheld(&mut self.capacity.quotas, why),
            Read::LimitRanges => withheld(&mut self.capacity.limit_ranges, why),
            Read::Nodes => withheld(&mut self.capacity.nodes, why),
            Read::DisruptionBudgets => withheld(&mut self.capacity.disruption_budgets, why),
            Read::Backup => withheld(&mut self.capacity.backup, why),
            Read::Budget => withheld(&mut self.capacity.budget, why),
        }
    }
}

#[cfg(test)]
mod tests;
