//! Runs the search and prints what it found.

#![expect(clippy::print_stdout, reason = "it is a program")]

use pgscale_model::check::{Alone, check};
use pgscale_model::setup::{Bound, Setup};

fn main() {
    let bound = Bound { commits: 2, faults: 2, writes: 1, most: 3 };
    let setup = Setup::new(3, 2);
    let found = check(&setup, &bound, &Alone::search(&setup, &bound));
    println!("{} states {} steps {} verdicts {} admitted, landed {} lost {}, {}/{} {:?}", found.states, found.steps, found.verdicts,
        found.admitted, found.landed, found.landed_and_lost, found.unaided, found.recovered, found.broken);
    println!("{:?}", found.refusals);
    for violation in found.violations.iter().chain(&found.landed_way) {
        println!("{:?} {:?}", violation.broken, violation.setup);
        for (step, state) in &violation.way {
            println!("  {step:?}\n      {state}");
        }
    }
}
