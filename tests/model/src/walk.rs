//! A random search through runs that are too large to search exhaustively. The same seed walks the
//! same way.

use crate::check::{Broken, Found, Violation, broken, steps};
use crate::judge::Guard;
use crate::setup::{Bound, Setup};
use crate::state::State;
use crate::step::Step;

/// The most steps of one walk.
const LENGTH: usize = 60;

/// A small generator of numbers (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % count.max(1)
    }
}

/// Walks `walks` times through a run, and checks what a state breaks on its own.
pub fn walk(setup: &Setup, bound: &Bound, walks: u64) -> Found {
    let mut guard = Guard::new(setup);
    let mut found = Found::default();
    for seed in 1..=walks {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut state = State::first(setup);
        let mut way: Vec<(Option<Step>, State)> = vec![(None, state)];
        for _ in 0..LENGTH {
            let all = steps(&state, setup, bound, &mut guard);
            let at_rest = state.at_rest(setup);
            if let Some(broken) = broken(&state, setup, at_rest) {
                note(&mut found, broken, setup, &way);
                break;
            }
            let Some((step, next)) = chosen(&mut chance, &all) else { break };
            found.steps += 1;
            found.landed += u64::from(next.path.landed && !state.path.landed);
            way.push((Some(step), next));
            state = next;
        }
        found.states += way.len() as u64;
    }
    found.verdicts = guard.asked() as u64;
    found.admitted = guard.admitted() as u64;
    found
}

/// Chooses the kind of step first, or else faults, of which there are most, would come at once.
fn chosen(chance: &mut Chance, all: &[(Step, State)]) -> Option<(Step, State)> {
    let fault = |step: &Step| matches!(step, Step::Fault(_));
    let (faults, others): (Vec<_>, Vec<_>) = all.iter().copied().partition(|it| fault(&it.0));
    let rare = others.is_empty() || chance.below(8) == 0;
    let from = if rare && !faults.is_empty() { faults } else { others };
    (!from.is_empty()).then(|| from[chance.below(from.len())])
}

fn note(found: &mut Found, broken: Broken, setup: &Setup, way: &[(Option<Step>, State)]) {
    let count = found.broken.entry(broken).or_default();
    *count += 1;
    if *count == 1 {
        found.violations.push(Violation { broken, setup: *setup, way: way.to_vec() });
    }
}
