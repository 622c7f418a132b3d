//! What stays the same along a run: the cluster's settings, the bounds, and the mistakes that a
//! test puts in.

use pgscale_guard::RuleId;

use crate::state::{Bits, Fault};

/// The settings of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent settings of a small model")]
pub struct Setup {
    /// The number of members at the start.
    pub size: u8,
    /// The ordinal that leads at the start.
    pub leader: u8,
    /// The run starts at zero instances, with the volumes of `size` members. The leader's alone
    /// holds the last commit.
    pub from_zero: bool,
    /// The StatefulSet deletes and creates its pods at the same time (`Parallel`).
    pub parallel: bool,
    /// The StatefulSet deletes the claims of removed members.
    pub deletes_volumes: bool,
    /// The claims of these ordinals are being deleted: each goes as soon as its pod does.
    pub ending: Bits,
    /// `spec.env` names another store for Patroni's state than the members use, and the operator has
    /// not written that into the StatefulSet.
    pub store_moves: bool,
    /// `synchronous_mode`.
    pub synchronous: bool,
    /// The StatefulSet carries an annotation of a stranger: the operator replaces it and moves no
    /// leader.
    pub replaced: bool,
    /// The operator cannot reach Patroni's REST interface. No fact tells.
    pub unreachable: bool,
    /// The operator's `min_instances` and `max_instances`.
    pub min: Option<u8>,
    /// See `min`.
    pub max: Option<u8>,
    /// Pods have the operator's readiness probe: one is Ready while its Patroni answers and its
    /// PostgreSQL runs. Without it, every running pod is Ready.
    pub probed: bool,
    /// A policy allows zero instances.
    pub zero_allowed: bool,
    /// The platform lowers `leader-condemned` to a warning.
    pub leader_lowered: bool,
    /// A replica receives each commit at once, unless it is stalled. Without this, replication is a
    /// step of its own.
    pub prompt: bool,
    /// The mistake that a test puts in.
    pub mistake: Option<Mistake>,
}

impl Setup {
    /// Returns three members, led by `leader`, with the operator's and our defaults.
    pub fn new(size: u8, leader: u8) -> Self {
        Self {
            size,
            leader,
            from_zero: false,
            parallel: false,
            deletes_volumes: false,
            ending: 0,
            store_moves: false,
            synchronous: false,
            replaced: false,
            unreachable: false,
            min: None,
            max: None,
            probed: false,
            zero_allowed: false,
            leader_lowered: false,
            prompt: true,
            mistake: None,
        }
    }

    /// Returns whether a run begins with members, and all of them may go and keep their volumes.
    pub fn goes_to_zero(&self) -> bool {
        self.zero_allowed && !self.from_zero && !self.deletes_volumes
    }

    /// Returns the count that the operator runs for a declared one (`getNumberOfInstances`,
    /// pkg/cluster/k8sres.go): its limits bind zero as well.
    pub fn effective(&self, declared: u8) -> u8 {
        let below = declared.min(self.max.unwrap_or(u8::MAX));
        below.max(self.min.unwrap_or(0))
    }
}

/// A mistake of the guard, as it once was: a test puts it in to see that the search finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// A rule is off.
    Without(RuleId),
    /// Tags are not read as Patroni reads them: no member looks barred (cases A12).
    TagsUnread,
    /// Annotations of strangers on the StatefulSet are not seen (cases A3, A4).
    StrangersUnseen,
    /// A count that the StatefulSet's spec already has is never refused (cases A21).
    StatefulSetsCountPasses,
    /// The answer of ordinal 0 passes for that of every replica (cases A19).
    AnswersMixedUp,
    /// Every warning refuses: no rescue is admitted.
    WarningsRefuse,
}

/// The bounds of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The most commits that clients make.
    pub commits: u8,
    /// The most faults, two at most.
    pub faults: u8,
    /// The most changes that the writer makes.
    pub writes: u8,
    /// The greatest count that it asks for.
    pub most: u8,
    /// The kinds of fault that may strike.
    pub kinds: Kinds,
}

impl Bound {
    /// Returns the same bound with two changes.
    #[must_use]
    pub fn twice(self) -> Self {
        Self { writes: 2, ..self }
    }
}

/// A set of kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self(u16::MAX);

    /// Returns the kinds of these faults.
    pub fn of(faults: &[Fault]) -> Self {
        Self(faults.iter().fold(0, |set, fault| set | 1 << fault.kind()))
    }

    /// Returns the set without the kind of this fault.
    #[must_use]
    pub fn but(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault.kind()))
    }

    /// Returns whether a fault's kind is in the set.
    pub fn contains(self, fault: Fault) -> bool {
        self.0 & 1 << fault.kind() != 0
    }
}
