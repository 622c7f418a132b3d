//! All runs of a bound, and the summary of what they found.

use std::fmt;
use std::sync::Mutex;

use crate::check::{Alone, Broken, Found, check};
use crate::limits::Met;
use crate::setup::{Bound, Kinds, Setup};
use crate::state::Fault;
use crate::walk::walk;

/// How much is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What `cargo unit` runs: one fault, and the settings one at a time.
    Small,
    /// Two faults, the settings in combination, and many random walks: minutes.
    Large,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How much was searched.
    pub extent: Extent,
    /// The runs that were searched exhaustively.
    pub runs: usize,
    /// What they found.
    pub exhaustive: Found,
    /// Every run of the extent was searched, without a filter.
    pub whole: bool,
    /// The limits that were met. Their states are not among those that `exhaustive` counts as broken.
    pub limits: Met,
    /// The random walks.
    pub walks: u64,
    /// What those found. Their states are not distinct.
    pub random: Found,
}

impl Summary {
    /// Returns whether no rule of the check was broken, and a whole large search met every limit.
    pub fn holds(&self) -> bool {
        let must_meet = self.whole && self.extent == Extent::Large;
        self.exhaustive.broken.is_empty()
            && self.random.broken.is_empty()
            && (!must_meet || self.limits.all())
    }
}

enum Job {
    Exhaustive(Setup, Bound),
    Random(Setup, Bound, u64),
}

/// Searches everything of an extent, with two threads.
pub fn run(extent: Extent) -> Summary {
    run_with(extent, "", &|_, _| {})
}

/// Searches the runs of an extent whose settings, as they are printed, contain `filter`. Shows each
/// run to `done` as it ends.
pub fn run_with(extent: Extent, filter: &str, done: &(dyn Fn(&Setup, &Found) + Sync)) -> Summary {
    let mut jobs = match extent {
        Extent::Small => small(),
        Extent::Large => large(),
    };
    jobs.retain(|job| {
        let (Job::Exhaustive(setup, _) | Job::Random(setup, ..)) = job;
        format!("{setup:?}").contains(filter)
    });
    let mut summary = Summary {
        extent,
        runs: 0,
        exhaustive: Found::default(),
        whole: filter.is_empty(),
        limits: Met::default(),
        walks: 0,
        random: Found::default(),
    };
    for job in &jobs {
        match job {
            Job::Exhaustive(..) => summary.runs += 1,
            Job::Random(_, _, walks) => summary.walks += walks,
        }
    }
    let (jobs, results) = (Mutex::new(jobs.into_iter()), Mutex::new((summary, ())));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(job) = next(&jobs) {
                    let (setup, bound, mut found, random) = match job {
                        Job::Exhaustive(setup, bound) => {
                            let alone = Alone::search(&setup, &bound);
                            (setup, bound, check(&setup, &bound, &alone), false)
                        }
                        Job::Random(setup, bound, walks) => {
                            (setup, bound, walk(&setup, &bound, walks), true)
                        }
                    };
                    done(&setup, &found);
                    let mut results =
                        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if !random {
                        results.0.limits.take(&setup, &bound, &mut found);
                    }
                    let into =
                        if random { &mut results.0.random } else { &mut results.0.exhaustive };
                    into.add(found);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).0
}

fn next(jobs: &Mutex<std::vec::IntoIter<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}

/// Returns the settings that differ from the defaults in one way.
fn one_at_a_time(size: u8, leader: u8) -> Vec<Setup> {
    let usual = Setup::new(size, leader);
    vec![
        usual,
        Setup { parallel: true, ..usual },
        Setup { deletes_volumes: true, ..usual },
        Setup { synchronous: true, ..usual },
        Setup { replaced: true, ..usual },
        Setup { unreachable: true, ..usual },
        Setup { prompt: false, ..usual },
        Setup { probed: true, ..usual },
        Setup { min: Some(2), ..usual },
        Setup { max: Some(size - 1), leader: size - 2, ..usual },
        Setup { zero_allowed: true, deletes_volumes: true, ..usual },
    ]
}

fn at_zero(leader: u8) -> Setup {
    Setup { from_zero: true, zero_allowed: true, ..Setup::new(3, leader) }
}

fn small() -> Vec<Job> {
    let bound = Bound { commits: 1, faults: 1, writes: 1, most: 3, kinds: Kinds::ALL };
    let mut jobs: Vec<Job> = Vec::new();
    for setup in one_at_a_time(3, 2) {
        jobs.push(Job::Exhaustive(setup, bound));
    }
    for setup in [Setup::new(3, 0), Setup::new(2, 1), at_zero(0), at_zero(2)] {
        jobs.push(Job::Exhaustive(setup, bound));
    }
    jobs.extend(to_zero_and_back(2, Bound { most: 2, ..bound.twice() }));
    jobs.extend(without_faults(bound));
    jobs.push(Job::Random(Setup::new(5, 4), FIVE, 100));
    jobs
}

/// Returns the runs in which a cluster may go to zero and come back: with every fault but a stalled
/// receiver, and with that one alone, which meets two limits.
fn to_zero_and_back(size: u8, bound: Bound) -> impl Iterator<Item = Job> {
    let stalls = Fault::Stalls(0);
    let kinds = [Kinds::ALL.but(stalls), Kinds::of(&[stalls])];
    let setups =
        (0..size).map(move |leader| Setup { zero_allowed: true, ..Setup::new(size, leader) });
    setups.flat_map(move |it| kinds.map(|kinds| Job::Exhaustive(it, Bound { kinds, ..bound })))
}

/// Returns the runs in which a person has begun something that no fault may be blamed for: claims that
/// are being deleted, and another store of Patroni. Each makes two changes.
fn without_faults(bound: Bound) -> impl Iterator<Item = Job> {
    let ending = [0b001, 0b010, 0b100, 0b110, 0b111];
    let ending = ending.into_iter().flat_map(|ending| {
        let setup = |leader| Setup { ending, zero_allowed: true, ..Setup::new(3, leader) };
        [setup(0), setup(2)]
    });
    let with_other_store = |setup| Setup { store_moves: true, ..setup };
    let moved = [Setup::new(1, 0), Setup::new(3, 2), at_zero(0), at_zero(2)].map(with_other_store);
    let bound = Bound { faults: 0, ..bound.twice() };
    ending.chain(moved).map(move |setup| Job::Exhaustive(setup, bound))
}

/// The bound of the random walks: five members, two changes.
const FIVE: Bound = Bound { commits: 3, faults: 2, writes: 2, most: 5, kinds: Kinds::ALL };

fn large() -> Vec<Job> {
    let bound = Bound { commits: 2, faults: 2, writes: 1, most: 3, kinds: Kinds::ALL };
    // A step for each replica's receipt makes many more states.
    let exhaustive = |setup: Setup| {
        let commits = if setup.prompt { bound.commits } else { 1 };
        Job::Exhaustive(setup, Bound { commits, ..bound })
    };
    let last = Setup::new(3, 2);
    let pairs = [
        Setup { parallel: true, synchronous: true, ..last },
        Setup { parallel: true, deletes_volumes: true, ..last },
        Setup { synchronous: true, unreachable: true, ..last },
        Setup { parallel: true, replaced: true, ..last },
    ];
    let mut jobs: Vec<Job> = one_at_a_time(3, 2).into_iter().map(exhaustive).collect();
    jobs.extend((0..5).map(|leader| Job::Random(Setup::new(5, leader), FIVE, 2000)));
    jobs.extend([Setup::new(3, 0), Setup::new(3, 1)].map(exhaustive));
    jobs.extend([Setup::new(2, 1), Setup::new(1, 0)].map(exhaustive));
    jobs.extend((0..3).map(|leader| exhaustive(at_zero(leader))));
    jobs.extend(pairs.map(exhaustive));
    let once = Bound { commits: 1, faults: 1, ..bound };
    jobs.extend(to_zero_and_back(2, Bound { most: 2, ..once.twice() }));
    jobs.extend(without_faults(once));
    jobs.extend(one_at_a_time(5, 4).into_iter().skip(1).map(|it| Job::Random(it, FIVE, 1000)));
    jobs
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.exhaustive;
        writeln!(
            out,
            "exhaustive: {} runs, {} states, {} steps, {} verdicts on distinct facts, {} of them admitted",
            self.runs, found.states, found.steps, found.verdicts, found.admitted
        )?;
        writeln!(
            out,
            "failovers that landed on a removed ordinal: {}; states after one with a greater loss: {}",
            found.landed, found.landed_and_lost
        )?;
        writeln!(
            out,
            "states searched back: {}; {} come to a led cluster by themselves, {} with admitted changes, all others after a repair",
            found.recovered,
            found.settled,
            found.unaided - found.settled.min(found.unaided)
        )?;
        writeln!(
            out,
            "random: {} walks, {} steps, {} verdicts, {} failovers that landed on a removed ordinal",
            self.walks, self.random.steps, self.random.verdicts, self.random.landed
        )?;
        if self.extent == Extent::Large {
            write!(out, "{}", self.limits)?;
        }
        for (found, kind) in [(found, "exhaustive"), (&self.random, "random")] {
            for (broken, count) in &found.broken {
                writeln!(out, "BROKEN ({kind}): {broken:?} in {count} states")?;
            }
            for violation in &found.violations {
                writeln!(out, "{violation}")?;
                if violation.broken == Broken::NoWayBack {
                    for (to, rules) in &found.refusals {
                        let rules: Vec<&str> = rules.iter().map(|rule| rule.as_str()).collect();
                        writeln!(out, "  to {to}: {}", rules.join(", "))?;
                    }
                }
            }
        }
        match &found.landed_way {
            Some(way) => write!(out, "a failover that landed and lost:\n{way}"),
            None => Ok(()),
        }
    }
}
