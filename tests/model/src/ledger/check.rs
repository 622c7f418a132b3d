//! The search through one run, and all runs of a bound.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Extent;
use crate::explore::explore;
use crate::ledger::setup::{Mistake, Setup, runs};
use crate::ledger::state::State;
use crate::ledger::step::{Broken, Step, broken, steps};

/// A broken rule, with the way to it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The broken rule.
    pub broken: Broken,
    /// The settings of the run.
    pub setup: Setup,
    /// A shortest way, each state after the step that led to it.
    pub way: Vec<(Option<Step>, State)>,
}

/// What a search has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The runs.
    pub runs: usize,
    /// Distinct states.
    pub states: u64,
    /// Steps between them.
    pub steps: u64,
    /// Steps in which replicas answered.
    pub turns: u64,
    /// States in which every edit had ended.
    pub ends: u64,
    /// The most by which the sum passes what it must not pass.
    pub overshoot: u8,
    /// The kinds of step that were taken.
    pub kinds: HashSet<Discriminant<Step>>,
    /// How often each rule was broken.
    pub broken: BTreeMap<Broken, u64>,
    /// The first violation of each.
    pub violations: Vec<Violation>,
}

impl Found {
    /// Adds what another run has found.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.states += other.states;
        self.steps += other.steps;
        self.turns += other.turns;
        self.ends += other.ends;
        self.overshoot = self.overshoot.max(other.overshoot);
        self.kinds.extend(other.kinds);
        for (broken, count) in other.broken {
            *self.broken.entry(broken).or_default() += count;
        }
        self.violations.extend(other.violations);
    }

    /// Returns whether no rule was broken.
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Searches every run of an extent, with two threads. Shows each to `done` as it ends.
pub fn run(extent: Extent, done: &(dyn Fn(&Setup, &Found) + Sync)) -> Found {
    let (jobs, sum) = (Mutex::new(runs(extent).into_iter()), Mutex::new(Found::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(setup) = locked(&jobs).next() {
                    let found = check(&setup);
                    done(&setup, &found);
                    locked(&sum).add(found);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Searches one run exhaustively.
pub fn check(setup: &Setup) -> Found {
    let mut found = Found { runs: 1, ..Found::default() };
    let mut bad: Vec<(Broken, u32, Option<Step>)> = Vec::new();
    // What a webhook without a ledger does is looked at to its end.
    let whole = setup.mistake == Some(Mistake::LiveList);
    let explored = explore([setup.first()], false, |number, state| {
        // One way to what a mistake does is enough.
        if setup.mistake.is_some()
            && !whole
            && bad.iter().any(|(broken, ..)| !broken.is_of_the_ledger())
        {
            return Vec::new();
        }
        found.overshoot = found.overshoot.max(state.worst().saturating_sub(state.cap));
        if let Some(broken) = broken(state, setup) {
            bad.push((broken, number, None));
            // A wrong ledger has not done harm yet: the search goes on to what it leads to.
            if !broken.is_of_the_ledger() && !whole {
                return Vec::new();
            }
        }
        found.ends += u64::from(state.is_quiet());
        let all = steps(state, setup);
        for (step, _, broken) in &all {
            found.kinds.insert(discriminant(step));
            found.turns += u64::from(matches!(step, Step::Turn { .. }));
            if let Some(broken) = broken {
                bad.push((*broken, number, Some(*step)));
            }
        }
        all.into_iter().map(|(_, next, _)| next).collect()
    });
    found.states = explored.states.len() as u64;
    found.steps = explored.steps;
    for (broken, number, last) in bad {
        let count = found.broken.entry(broken).or_default();
        *count += 1;
        if *count == 1 {
            let mut way = named(explored.way_to(number), setup);
            let after = last.zip(way.last().map(|(_, state)| *state));
            way.extend(after.map(|(step, state)| (Some(step), state)));
            found.violations.push(Violation { broken, setup: *setup, way });
        }
    }
    found
}

/// Returns a way with the steps between its states.
fn named(way: Vec<State>, setup: &Setup) -> Vec<(Option<Step>, State)> {
    let mut before: Option<State> = None;
    let mut named = Vec::with_capacity(way.len());
    for state in way {
        let step = before.and_then(|before| {
            let all = steps(&before, setup);
            all.into_iter().find(|(_, next, _)| *next == state).map(|(step, ..)| step)
        });
        named.push((step, state));
        before = Some(state);
    }
    named
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} with {:?}", self.broken, self.setup)?;
        for (step, state) in &self.way {
            match step {
                Some(step) => write!(out, "\n  {step:?}\n      {state:?}")?,
                None => write!(out, "\n      {state:?}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, states, steps, turns, ends, .. } = self;
        writeln!(
            out,
            "ledger: {runs} runs, {states} states, {steps} steps, {turns} turns of a replica; \
             {ends} states after the last edit"
        )?;
        for (broken, count) in &self.broken {
            writeln!(out, "BROKEN: {broken:?} in {count} states")?;
        }
        for violation in &self.violations {
            writeln!(out, "{violation}")?;
        }
        Ok(())
    }
}
