//! The known limits of the rules. `docs/reliability.md` explains each.
//!
//! A finding that is on the list breaks nothing. A limit that a whole large search does not meet any
//! more does: it has to leave the list and the document.

use std::fmt;

use crate::check::{Broken, Found, Violation};
use crate::setup::{Bound, Setup};
use crate::state::Fault;

/// A limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The rule of the check that is broken.
    broken: Broken,
    /// Returns whether it is to be expected with these settings.
    expected: fn(&Setup, &Bound) -> bool,
    /// The limit in words.
    words: &'static str,
}

/// Returns whether a receiver may stall on the way to zero.
fn stalls_unseen(setup: &Setup, bound: &Bound) -> bool {
    setup.goes_to_zero() && bound.faults > 0 && bound.kinds.contains(Fault::Stalls(0))
}

/// All limits.
const LIMITS: [Limit; 4] = [
    Limit {
        broken: Broken::LeaderlessAfterFault,
        expected: |setup, _| !setup.prompt,
        words: "a removed member that is some bytes behind at the time of the verdict passes for \
                unhealthy, and the only kept replica may not take over",
    },
    Limit {
        broken: Broken::CostsMore,
        expected: |setup, bound| {
            setup.from_zero || (setup.goes_to_zero() && !stalls_unseen(setup, bound))
        },
        words: "back from zero, ordinal 0 leads with older data; the last leader's volume is as long \
                and takes over after two faults",
    },
    Limit {
        broken: Broken::CostsMore,
        expected: stalls_unseen,
        words: "on the way to zero, ordinal 0 stalls after the verdict and before the operator asks \
                Patroni to make it the leader",
    },
    Limit {
        broken: Broken::CommitLost,
        expected: stalls_unseen,
        words: "on the way to zero, ordinal 0 had stalled before the verdict, and the leader had \
                written nothing that it lacked",
    },
];

/// The limits that a search has met.
#[derive(Clone, Debug, Default)]
pub struct Met([Option<(u64, Violation)>; LIMITS.len()]);

impl Met {
    /// Takes what is a limit out of the findings of one run.
    pub(crate) fn take(&mut self, setup: &Setup, bound: &Bound, found: &mut Found) {
        for (limit, met) in LIMITS.iter().zip(&mut self.0) {
            if !(limit.expected)(setup, bound) {
                continue;
            }
            let Some(count) = found.broken.remove(&limit.broken) else { continue };
            let known = |it: &Violation| it.broken == limit.broken;
            let Some(place) = found.violations.iter().position(known) else { continue };
            let violation = found.violations.remove(place);
            let (sum, _) = met.get_or_insert((0, violation));
            *sum += count;
        }
    }

    /// Returns whether every limit was met.
    pub fn all(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }

    /// Returns the number of limits that were met.
    pub fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

impl fmt::Display for Met {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (limit, met) in LIMITS.iter().zip(&self.0) {
            match met {
                Some((count, way)) => {
                    writeln!(out, "limit, in {count} states: {}\n{way}", limit.words)?;
                }
                None => writeln!(out, "limit, not met: {}", limit.words)?,
            }
        }
        Ok(())
    }
}
