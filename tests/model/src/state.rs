//! One state of the model: members, Patroni's lock, the StatefulSet, the operator, and what the
//! check keeps in mind.

use std::fmt;

use crate::setup::Setup;
use crate::step;

/// The most members that a state has room for.
pub const MEMBERS: usize = 5;
/// The commits by which a member may lag and still take over: `maximum_lag_on_failover`.
pub const MAX_LAG: u32 = 1;

/// A set of ordinals or of commits, one bit for each.
pub type Bits = u8;

/// Returns the bit of one ordinal.
pub fn bit(ordinal: usize) -> Bits {
    1 << ordinal
}

/// The pod of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pod {
    /// There is none.
    #[default]
    Absent,
    /// Its containers run.
    Running,
    /// It is being deleted: PostgreSQL shuts down.
    Terminating,
    /// Its node is lost. Kubernetes neither ends it nor starts it elsewhere.
    Lost,
}

/// One member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a small state")]
pub struct Member {
    /// Its pod.
    pub pod: Pod,
    /// Its PostgreSQL was started. Patroni starts none while it is paused.
    pub started: bool,
    /// Its volume claim exists.
    pub volume: bool,
    /// Its volume holds a copy of the cluster.
    pub built: bool,
    /// Its claim is being deleted.
    pub ending: bool,
    /// Its pod looks for Patroni's state in the other store.
    pub elsewhere: bool,
    /// The acknowledged commits on its volume.
    pub log: Bits,
    /// It is on the leader's timeline.
    pub current: bool,
    /// Its WAL receiver gets nothing.
    pub stalled: bool,
    /// Its Patroni neither answers nor acts.
    pub frozen: bool,
    /// It is tagged `nofailover`.
    pub barred: bool,
}

impl Member {
    /// Returns whether its PostgreSQL runs.
    pub fn up(&self) -> bool {
        self.pod == Pod::Running && self.started && self.built
    }

    /// Returns whether WAL of a leader reaches it.
    pub fn receives(&self) -> bool {
        self.up() && !self.stalled && !self.elsewhere
    }

    /// Returns whether Patroni may let it take over, its position aside.
    pub fn fit(&self) -> bool {
        self.up() && !self.frozen && !self.barred && !self.elsewhere
    }

    /// Ends its pod, and its volume where that goes with the pod.
    pub fn end(&mut self, volume_goes: bool) {
        (self.pod, self.started) = (Pod::Absent, false);
        if volume_goes || self.ending {
            (self.volume, self.built, self.log, self.current) = (false, false, 0, false);
            self.ending = false;
        }
    }

    /// Returns what Patroni compares of two members. A promotion writes WAL too: of two with as many
    /// commits, the one on the leader's timeline has more.
    pub fn reach(&self) -> (u32, bool) {
        (self.position(), self.current)
    }

    /// Returns its position: the number of commits that it holds.
    pub fn position(&self) -> u32 {
        self.log.count_ones()
    }
}

/// The operator's work on this cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Nothing is queued.
    #[default]
    Idle,
    /// An update waits to be worked on.
    Queued,
    /// An update was dropped: only the next synchronisation acts on it (`Update`,
    /// pkg/cluster/cluster.go, operator 2.0).
    Dropped,
    /// It has moved the leader to ordinal 0 and not written the StatefulSet yet.
    Moved,
}

/// A mishap that no rule can prevent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The pod of a member dies. Its volume stays.
    Dies(u8),
    /// The node of a member is lost.
    NodeLost(u8),
    /// The WAL receiver of a member stalls.
    Stalls(u8),
    /// The Patroni of a replica freezes.
    Freezes(u8),
    /// A person tags a member `nofailover`.
    Barred(u8),
    /// Patroni is paused.
    Paused,
    /// The operator stops.
    OperatorStops,
    /// The leader loses its lock and stops to lead.
    LockLost,
    /// Another writer scales the StatefulSet itself.
    Scaled(u8),
}

impl Fault {
    /// Returns its kind, without the member it strikes.
    pub fn kind(self) -> u8 {
        match self {
            Self::Dies(_) => 0,
            Self::NodeLost(_) => 1,
            Self::Stalls(_) => 2,
            Self::Freezes(_) => 3,
            Self::Barred(_) => 4,
            Self::Paused => 5,
            Self::OperatorStops => 6,
            Self::LockLost => 7,
            Self::Scaled(_) => 8,
        }
    }
}

/// What the check keeps in mind beside the cluster. No step depends on it but the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent marks of a path")]
pub struct Path {
    /// The commits that clients were told of.
    pub acknowledged: Bits,
    /// Those that a leader later lacked, or that no volume holds any more.
    pub lost: Bits,
    /// Those that a fit member held when the last change was admitted, and all later ones.
    pub safe: Bits,
    /// The faults so far, in order of their kind.
    pub faults: [Option<Fault>; 2],
    /// The changes that were written.
    pub writes: u8,
    /// The faults since the last admitted act.
    pub since: u8,
    /// An admitted change, or the plugin's switchover for one, took place.
    pub acted: bool,
    /// A member led when it was admitted, or none was there to lead.
    pub led: bool,
    /// The plugin moved the leader.
    pub moved: bool,
    /// The StatefulSet deleted the leader.
    pub deleted: bool,
    /// The StatefulSet deleted a leader that the declared count keeps: another writer scaled it.
    pub foreign: bool,
    /// A failover landed on an ordinal that an admitted change removes.
    pub landed: bool,
    /// The count of an earlier change that was not carried out when the last one was admitted.
    pub earlier: Option<u8>,
    /// Faults came between the two: the last change is not to blame for what the earlier removes.
    pub parted: bool,
}

/// One state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a small state")]
pub struct State {
    /// The members by ordinal.
    pub members: [Member; MEMBERS],
    /// The holder of the leader lock.
    pub holder: Option<u8>,
    /// The lock is no longer renewed, and has expired.
    pub expired: bool,
    /// The holder took the lock within the last minute.
    pub fresh: bool,
    /// The leader's position that Patroni keeps.
    pub optime: u8,
    /// The last member that led.
    pub last: u8,
    /// Patroni's history names it.
    pub history: bool,
    /// Patroni is paused.
    pub paused: bool,
    /// The manifest names the other store.
    pub asked_elsewhere: bool,
    /// The template of the StatefulSet names it.
    pub made_elsewhere: bool,
    /// A member leads in the other store.
    pub led_elsewhere: bool,
    /// The leader that wrote the set of synchronous standbys.
    pub sync_leader: Option<u8>,
    /// The synchronous standbys.
    pub sync: Bits,
    /// `spec.numberOfInstances`.
    pub declared: u8,
    /// `spec.replicas` of the StatefulSet.
    pub replicas: u8,
    /// The operator's work.
    pub operator: Operator,
    /// The operator does not run.
    pub stopped: bool,
    /// Marks of the way that led here.
    pub path: Path,
}

impl State {
    /// Returns the first state: a healthy cluster, or one at zero with its volumes kept.
    pub fn first(setup: &Setup) -> Self {
        let mut state = Self {
            last: setup.leader,
            history: setup.leader != 0,
            asked_elsewhere: setup.store_moves,
            ..Self::default()
        };
        let runs = setup.effective(setup.size);
        for (ordinal, member) in state.members.iter_mut().enumerate().take(usize::from(runs)) {
            let ending = setup.ending & bit(ordinal) != 0;
            *member = Member { volume: true, built: true, ending, ..Member::default() };
            if !setup.from_zero {
                (member.pod, member.started, member.current) = (Pod::Running, true, true);
            }
        }
        if setup.from_zero {
            // The last leader alone held one more commit when it stopped.
            let last = usize::from(setup.leader);
            state.members[last].log = 1;
            state.members[last].current = true;
            (state.path.acknowledged, state.path.safe, state.optime) = (1, 1, 1);
            return state;
        }
        (state.declared, state.replicas) = (setup.size, runs);
        state.holder = Some(setup.leader);
        if setup.synchronous {
            state.sync_leader = state.holder;
            state.sync = bit(usize::from(setup.leader == 0));
        }
        state
    }

    /// Returns the members with their ordinals.
    pub fn each(&self) -> impl DoubleEndedIterator<Item = (usize, &Member)> {
        self.members.iter().enumerate()
    }

    /// Returns the member that leads: it holds a valid lock, and its PostgreSQL runs.
    pub fn leading(&self) -> Option<usize> {
        let holder = usize::from(self.holder?);
        (!self.expired && self.members[holder].up()).then_some(holder)
    }

    /// Returns whether a pod is Ready.
    pub fn ready(&self, setup: &Setup, ordinal: usize) -> bool {
        let member = &self.members[ordinal];
        member.pod == Pod::Running && (!setup.probed || (member.up() && !member.frozen))
    }

    /// Returns the count that the operator runs for the declared one.
    pub fn target(&self, setup: &Setup) -> u8 {
        setup.effective(self.declared)
    }

    /// Returns the same cluster without the marks of the way to it.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.path = Path::default();
        self
    }

    /// Returns whether nothing moves any more, and nothing waits for an operator that is stopped.
    pub fn at_rest(&self, setup: &Setup) -> bool {
        let waits = self.operator != Operator::Idle || self.replicas != self.target(setup);
        !(self.stopped && waits) && step::of_the_system(self, setup).is_empty()
    }

    /// Returns whether the cluster is led and does what it was asked.
    pub fn converged(&self, setup: &Setup) -> bool {
        let target = self.target(setup);
        target >= 1
            && self.replicas == target
            && self.leading().is_some()
            && self.each().all(|(ordinal, member)| match member.pod {
                Pod::Running => ordinal < usize::from(target),
                Pod::Absent => ordinal >= usize::from(target),
                Pod::Terminating | Pod::Lost => false,
            })
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ordinal, member) in self.each() {
            if member.pod == Pod::Absent && !member.volume {
                continue;
            }
            let leads = self.holder.map(usize::from) == Some(ordinal);
            write!(out, "-{ordinal}{} {:?}", if leads { "*" } else { "" }, member.pod)?;
            for (yes, word) in [
                (!member.started && member.pod == Pod::Running, "not-started"),
                (!member.built, "empty"),
                (!member.current, "old-timeline"),
                (member.stalled, "stalled"),
                (member.frozen, "frozen"),
                (member.barred, "nofailover"),
                (member.ending, "claim-being-deleted"),
                (member.elsewhere, "other-store"),
            ] {
                if yes {
                    write!(out, " {word}")?;
                }
            }
            write!(out, " log {:b}; ", member.log)?;
        }
        write!(
            out,
            "declared {}, StatefulSet {}, operator {:?}{}{}{}",
            self.declared,
            self.replicas,
            self.operator,
            if self.stopped { " stopped" } else { "" },
            if self.paused { ", paused" } else { "" },
            if self.expired { ", lock expired" } else { "" },
        )?;
        if self.sync_leader.is_some() {
            write!(out, ", sync {:b}", self.sync)?;
        }
        write!(out, ", acknowledged {:b}, lost {:b}", self.path.acknowledged, self.path.lost)
    }
}
