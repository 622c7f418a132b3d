//! The guard's verdict on a change in a state: the real rules, asked once for each state that looks
//! different.

use std::collections::HashMap;

use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::policy::{Limit, Mode, Policies, Zero};
use pgscale_guard::rules::{Reads, after_switchover, judge_with};
use pgscale_guard::testing::lowered;
use pgscale_guard::{Assessment, Facts, RuleId};

use crate::explore::Hashing;
use crate::seen::{Patterns, facts_of, view};
use crate::setup::{Mistake, Setup};
use crate::state::State;

/// The guard of one run, with the verdicts it has come to.
pub struct Guard {
    setup: Setup,
    policies: Policies,
    patterns: Patterns,
    verdicts: HashMap<(State, u8), bool, Hashing>,
    moves: HashMap<(State, u8), Option<u8>, Hashing>,
}

impl Guard {
    /// Returns the guard of a run, with its policies.
    pub fn new(setup: &Setup) -> Self {
        let policies = policies(setup);
        Self {
            setup: *setup,
            policies,
            patterns: Patterns::new(),
            verdicts: HashMap::default(),
            moves: HashMap::default(),
        }
    }

    /// Returns whether a plain write of the count `to` is admitted in this state.
    pub fn admits(&mut self, state: &State, to: u8) -> bool {
        let Self { setup, policies, patterns, verdicts, .. } = self;
        if setup.mistake == Some(Mistake::StatefulSetsCountPasses) && to == state.replicas {
            return true;
        }
        let view = view(state, setup);
        *verdicts.entry((view, to)).or_insert_with(|| {
            denying(&facts_of(patterns, &view, setup, to), policies, setup).is_empty()
        })
    }

    /// Returns the member to which the plugin moves the leader before it writes the count `to`, if
    /// the plan says so and the verdict after that would admit the write.
    pub fn plugin_moves_to(&mut self, state: &State, to: u8) -> Option<u8> {
        let Self { setup, policies, patterns, moves, .. } = self;
        let view = view(state, setup);
        *moves.entry((view, to)).or_insert_with(|| {
            let facts = facts_of(patterns, &view, setup, to);
            if !facts.deletes_leader() {
                return None;
            }
            let best = Assessment::of(&facts, policies).best_survivor()?;
            let after = after_switchover(&facts, policies);
            let passes = denying(&after, policies, setup).is_empty();
            u8::try_from(best.ordinal).ok().filter(|_| passes)
        })
    }

    /// Returns the rules that refuse a plain write of the count `to` in this state.
    pub fn refusals(&self, state: &State, to: u8) -> Vec<RuleId> {
        let facts = facts_of(&self.patterns, &view(state, &self.setup), &self.setup, to);
        denying(&facts, &self.policies, &self.setup)
    }

    /// Returns the number of verdicts that the rules were asked for.
    pub fn asked(&self) -> usize {
        self.verdicts.len() + self.moves.len()
    }

    /// Returns the number of changes that were admitted, of all that were judged.
    pub fn admitted(&self) -> usize {
        self.verdicts.values().filter(|admitted| **admitted).count()
    }
}

/// Returns the rules that refuse a change.
pub fn denying(facts: &Facts, policies: &Policies, setup: &Setup) -> Vec<RuleId> {
    let verdict = judge_with(facts, policies, Reads::ALL).verdict;
    let off = match setup.mistake {
        Some(Mistake::Without(rule)) => Some(rule),
        _ => None,
    };
    let warnings = verdict.warnings().filter(|_| setup.mistake == Some(Mistake::WarningsRefuse));
    let rules = verdict.denials().chain(warnings).map(|finding| finding.rule);
    rules.filter(|rule| Some(*rule) != off).collect()
}

/// Returns the policies of a run.
pub fn policies(setup: &Setup) -> Policies {
    let mut policies = if setup.leader_lowered { lowered() } else { Policies::default() };
    if setup.zero_allowed {
        let source = ObjectRef::new(Kind::ClusterScalePolicy, "p");
        policies.zero.push(Limit { value: Zero::Allow, source, mode: Mode::Enforce });
    }
    policies
}
