//! The invariants, and one run of the search with them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::explore::{Explored, Hashing, can_reach, explore};
use crate::judge::Guard;
use crate::setup::{Bound, Setup};
use crate::state::{Bits, Fault, State};
use crate::step::{self, Step};

/// A rule of the check that a state breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// An admitted change, without a later fault, deleted the leader without a hand-over.
    LeaderDeleted,
    /// An admitted change, without a later fault, lost a commit that a fit member held.
    CommitLost,
    /// An admitted change, without a later fault, ends with no leader, although one led before.
    NeverLed,
    /// With a change, faults cost more commits than the same faults without it, and no failover had
    /// landed on a removed ordinal.
    CostsMore,
    /// One fault after an admitted change to two or more leaves no leader, and without the change
    /// the same faults do not. Only with asynchronous replication, and without faults that no fact
    /// shows.
    LeaderlessAfterFault,
    /// No admitted way leads to a led cluster any more.
    NoWayBack,
}

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

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} with {:?}", self.broken, self.setup)?;
        for (step, state) in &self.way {
            match step {
                Some(step) => write!(out, "\n  {step:?}\n      {state}")?,
                None => write!(out, "\n      {state}")?,
            }
        }
        Ok(())
    }
}

/// What one run has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Distinct states.
    pub states: u64,
    /// Steps between them.
    pub steps: u64,
    /// Verdicts of the rules on distinct facts.
    pub verdicts: u64,
    /// Those that admitted the change.
    pub admitted: u64,
    /// Steps in which a failover landed on an ordinal that an admitted change removes.
    pub landed: u64,
    /// States after such a step in which more commits are lost than the same faults cost alone.
    pub landed_and_lost: u64,
    /// A shortest way to one of them.
    pub landed_way: Option<Violation>,
    /// States of the search back.
    pub recovered: u64,
    /// Those that come to a led cluster by themselves.
    pub settled: u64,
    /// Those from which the system and admitted changes alone lead there, without a repair.
    pub unaided: u64,
    /// How often each rule of the check was broken.
    pub broken: BTreeMap<Broken, u64>,
    /// The rules that refuse each count where no way leads back.
    pub refusals: Vec<(u8, Vec<pgscale_guard::RuleId>)>,
    /// The first violation of each.
    pub violations: Vec<Violation>,
}

impl Found {
    /// Adds what another run has found.
    pub fn add(&mut self, other: Self) {
        self.states += other.states;
        self.steps += other.steps;
        self.verdicts += other.verdicts;
        self.admitted += other.admitted;
        self.landed += other.landed;
        self.landed_and_lost += other.landed_and_lost;
        self.recovered += other.recovered;
        self.settled += other.settled;
        self.unaided += other.unaided;
        self.landed_way = self.landed_way.take().or(other.landed_way);
        for (broken, count) in other.broken {
            *self.broken.entry(broken).or_default() += count;
        }
        if self.refusals.is_empty() {
            self.refusals = other.refusals;
        }
        for violation in other.violations {
            if self.violations.iter().all(|known| known.broken != violation.broken) {
                self.violations.push(violation);
            }
        }
    }
}

/// Returns every step that a state allows.
pub fn steps(state: &State, setup: &Setup, bound: &Bound, guard: &mut Guard) -> Vec<(Step, State)> {
    let mut steps = step::of_the_system(state, setup);
    steps.extend(step::commit(state, setup, bound));
    steps.extend(step::faults(state, setup, bound));
    if state.path.writes >= bound.writes {
        return steps;
    }
    for to in (0..=bound.most).filter(|to| *to != state.declared) {
        if guard.admits(state, to) {
            for dropped in [false, true] {
                steps.push((Step::Write { to, dropped }, step::write(state, setup, to, dropped)));
            }
        }
        let runs = usize::from(setup.effective(to));
        let removed = state.leading().is_some_and(|leader| leader >= runs);
        if !removed || to == 0 || state.path.moved {
            continue;
        }
        let Some(candidate) = guard.plugin_moves_to(state, to) else { continue };
        if let Some(next) = step::plugin_moves(state, setup, to, candidate) {
            steps.push((Step::Move { to, candidate }, next));
        }
    }
    steps
}

/// Returns the rule that a state breaks on its own, without a look at other runs.
pub fn broken(state: &State, setup: &Setup, at_rest: bool) -> Option<Broken> {
    let path = &state.path;
    if !path.acted || path.since > 0 {
        return None;
    }
    let runs = state.target(setup) >= 1;
    if path.foreign {
        return None;
    }
    if path.lost & path.safe != 0 {
        return Some(Broken::CommitLost);
    }
    if path.deleted && runs {
        return Some(Broken::LeaderDeleted);
    }
    let stays_without = at_rest && path.led && runs && state.leading().is_none();
    stays_without.then_some(Broken::NeverLed)
}

/// The worst that one set of faults has cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Lost commits, without a change and with one.
    lost: u32,
    /// The cluster rests without a leader.
    leaderless: bool,
}

type Faults = [Option<Fault>; 2];

/// Searches one run exhaustively. `alone` is what faults cost without a change.
pub fn check(setup: &Setup, bound: &Bound, alone: &Alone) -> Found {
    let mut guard = Guard::new(setup);
    let mut found = Found::default();
    let mut bad: Vec<(Broken, u32)> = Vec::new();
    let explored = explore([State::first(setup)], false, |number, state| {
        let all = steps(state, setup, bound, &mut guard);
        if let Some(broken) = broken(state, setup, state.at_rest(setup)) {
            bad.push((broken, number));
            return Vec::new();
        }
        let landed = all.iter().filter(|(_, next)| next.path.landed && !state.path.landed);
        found.landed += landed.count() as u64;
        all.into_iter().map(|(_, next)| next).collect()
    });
    let mut landed_way = None;
    for (number, state) in (0_u32..).zip(explored.states.iter()) {
        if !state.path.acted || state.path.writes == 0 {
            continue;
        }
        let cost = alone.of(state.path.faults);
        // What only one volume held at zero is compared with nothing.
        let begun = Bits::from(setup.from_zero);
        if (state.path.lost & !begun).count_ones() > cost.lost {
            if state.path.landed {
                found.landed_and_lost += 1;
                landed_way.get_or_insert(number);
            } else {
                bad.push((Broken::CostsMore, number));
            }
        }
        let hidden = |fault: &Fault| matches!(fault, Fault::Stalls(_) | Fault::Scaled(_));
        if state.path.since == 1
            && state.path.writes == 1
            && !setup.synchronous
            && !setup.from_zero
            && !state.path.faults.iter().flatten().any(hidden)
            && state.path.led
            && state.target(setup) >= 2
            && state.leading().is_none()
            && state.at_rest(setup)
            && !cost.leaderless
        {
            bad.push((Broken::LeaderlessAfterFault, number));
        }
    }
    found.states = explored.states.len() as u64;
    found.steps = explored.steps;
    let mut tell = |broken, number| Violation {
        broken,
        setup: *setup,
        way: named(&explored, number, setup, bound, &mut guard),
    };
    found.landed_way = landed_way.map(|number| tell(Broken::CostsMore, number));
    for (broken, number) in bad {
        let count = found.broken.entry(broken).or_default();
        *count += 1;
        if *count == 1 {
            found.violations.push(tell(broken, number));
        }
    }
    back(&explored, setup, bound, &mut guard, &mut found);
    found.verdicts = guard.asked() as u64;
    found.admitted = guard.admitted() as u64;
    found
}

/// What faults cost without a change, by their kinds: the worst of clusters of every size, with
/// every leader. Whether they leave no leader is known of clusters of the size before the change.
///
/// A change to fewer members gives redundancy up, as it was asked to. It must not cost more than
/// the same faults do in a cluster that always had the one count or the other.
#[derive(Clone, Debug, Default)]
pub struct Alone(BTreeMap<Vec<u8>, Cost>);

impl Alone {
    /// Searches clusters of `1..=most` members with the other settings of `setup`.
    pub fn search(setup: &Setup, bound: &Bound) -> Self {
        let mut alone = Self::default();
        let idle = Bound { writes: 0, ..*bound };
        let own = setup.size;
        for size in 1..=bound.most {
            for leader in 0..setup.effective(size) {
                let setup = Setup { size, leader, from_zero: false, ..*setup };
                let mut guard = Guard::new(&setup);
                explore([State::first(&setup)], false, |_, state| {
                    let cost = alone.0.entry(kinds(state.path.faults)).or_default();
                    cost.lost = cost.lost.max(state.path.lost.count_ones());
                    let leaderless = state.leading().is_none() && state.at_rest(&setup);
                    cost.leaderless |= size == own && leaderless;
                    steps(state, &setup, &idle, &mut guard).into_iter().map(|(_, it)| it).collect()
                });
            }
        }
        alone
    }

    /// Returns what these faults, or fewer of them, cost.
    fn of(&self, faults: Faults) -> Cost {
        let [first, second] = faults;
        let subsets = [[None, None], [first, None], [second, None], faults];
        let costs = subsets.into_iter().filter_map(|faults| self.0.get(&kinds(faults)));
        costs.fold(Cost::default(), |one, other| Cost {
            lost: one.lost.max(other.lost),
            leaderless: one.leaderless || other.leaderless,
        })
    }
}

/// Returns the kinds of faults, without the members they strike.
fn kinds(faults: Faults) -> Vec<u8> {
    faults.into_iter().flatten().map(Fault::kind).collect()
}

/// Returns a way with the steps between its states.
fn named(
    explored: &Explored<State>,
    number: u32,
    setup: &Setup,
    bound: &Bound,
    guard: &mut Guard,
) -> Vec<(Option<Step>, State)> {
    let way = explored.way_to(number);
    let mut before: Option<State> = None;
    let mut named = Vec::with_capacity(way.len());
    for state in way {
        let step = before.and_then(|before| {
            let all = steps(&before, setup, bound, guard);
            all.into_iter().find(|(_, next)| *next == state).map(|(step, _)| step)
        });
        named.push((step, state));
        before = Some(state);
    }
    named
}

/// Searches back from every led state: some admitted way must lead there from each state that was
/// reached. A person may mend what broke, and write any count that is admitted.
fn back(
    explored: &Explored<State>,
    setup: &Setup,
    bound: &Bound,
    guard: &mut Guard,
    found: &mut Found,
) {
    let first: Vec<State> = explored.states.iter().map(|state| state.bare()).collect();
    let mut settling = Settling::default();
    // Steps that a person takes beside the object: repairs.
    let mut repairs: Vec<(u32, State)> = Vec::new();
    let mut all = explore(first, true, |number, state| {
        let system = step::of_the_system(state, setup);
        let mut next: Vec<State> = system.into_iter().map(|(_, next)| next.bare()).collect();
        if settling.settles(state, setup) {
            return next;
        }
        for to in (1..=bound.most).filter(|to| *to != state.declared) {
            if guard.admits(state, to) {
                next.push(step::write(state, setup, to, false).bare());
            }
        }
        for (_, mended) in step::heals(state, setup) {
            repairs.push((number, mended.bare()));
            next.push(mended.bare());
        }
        next
    });
    let count = all.states.len();
    let goals: Vec<u32> = (0_u32..)
        .zip(all.states.iter())
        .filter(|(_, state)| state.converged(setup))
        .map(|(number, _)| number)
        .collect();
    let reached = can_reach(count, &all.edges, goals.iter().copied());
    found.recovered += count as u64;
    found.settled += settling.known.len() as u64;
    let lost = (0_u32..).zip(&reached).filter(|(_, reached)| !**reached).map(|(number, _)| number);
    let lost: Vec<u32> = lost.collect();
    if let Some(first) = lost.first() {
        *found.broken.entry(Broken::NoWayBack).or_default() += lost.len() as u64;
        let state = all.states.get(*first);
        let whole = explored.states.iter().position(|it| it.bare() == state);
        let whole = whole.and_then(|number| u32::try_from(number).ok());
        let way = match whole {
            Some(number) => named(explored, number, setup, bound, guard),
            None => all.way_to(*first).into_iter().map(|state| (None, state)).collect(),
        };
        found.violations.push(Violation { broken: Broken::NoWayBack, setup: *setup, way });
        for to in 1..=bound.most {
            found.refusals.push((to, guard.refusals(&state, to)));
        }
    }
    let repairs: HashSet<(u32, u32)> =
        repairs.into_iter().map(|(from, to)| (from, all.states.number(to).0)).collect();
    all.edges.retain(|edge| !repairs.contains(edge));
    let unaided = can_reach(count, &all.edges, goals);
    found.unaided += unaided.iter().filter(|reached| **reached).count() as u64;
}

/// The states that come to a led cluster by themselves, as far as they are known.
#[derive(Default)]
struct Settling {
    known: HashSet<State, Hashing>,
}

impl Settling {
    /// Returns whether some steps of the system alone lead to a led cluster that does what it was
    /// asked.
    fn settles(&mut self, state: &State, setup: &Setup) -> bool {
        let known = &self.known;
        let mut seen = Vec::new();
        let mut open = vec![*state];
        let mut settles = false;
        while let Some(at) = open.pop() {
            if known.contains(&at) || at.converged(setup) {
                settles = true;
                break;
            }
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            open.extend(step::of_the_system(&at, setup).into_iter().map(|(_, next)| next.bare()));
        }
        if settles {
            self.known.insert(*state);
        }
        settles
    }
}
