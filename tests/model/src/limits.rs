//! The known limits of the rules. `docs/reliability.md` explains each.
//!
//! A finding that is on the list breaks nothing. A limit that a whole large search does not meet any
//! more does: it has to leave the list and the document.

use std::fmt;

use crate::check::{Broken, Found, Violation};
use crate::setup::Setup;

/// A limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The rule of the check that is broken.
    broken: Broken,
    /// Returns whether it is to be expected with these settings.
    expected: fn(&Setup) -> bool,
    /// The limit in words.
    words: &'static str,
}

/// All limits.
const LIMITS: [Limit; 2] = [
    Limit {
        broken: Broken::LeaderlessAfterFault,
        expected: |setup| !setup.prompt,
        words: "a removed member that is some bytes behind at the time of the verdict passes for \
                unhealthy, and the only kept replica may not take over",
    },
    Limit {
        broken: Broken::CostsMore,
        expected: |setup| setup.from_zero,
        words: "back from zero, ordinal 0 leads with older data; the last leader's volume is as long \
                and takes over after two faults",
    },
];

/// The limits that a search has met.
#[derive(Clone, Debug, Default)]
pub struct Met([Option<(u64, Violation)>; LIMITS.len()]);

impl Met {
    /// Takes what is a limit out of the findings of one run.
    pub(crate) fn take(&mut self, setup: &Setup, found: &mut Found) {
        for (limit, met) in LIMITS.iter().zip(&mut self.0) {
            if !(limit.expected)(setup) {
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
