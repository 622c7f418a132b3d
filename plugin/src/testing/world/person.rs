//! A person who answers while everything changes.

use std::io::{self, BufRead, Cursor, Read};

use serde_json::json;

use super::{Mishap, World, policy};

/// A person at the terminal who answers slowly.
pub(super) struct Person {
    pub(super) world: World,
    pub(super) lines: Cursor<String>,
}

impl Read for Person {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.lines.read(into)
    }
}

impl BufRead for Person {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let mut state = self.world.0.lock().unwrap();
        let stalls = state.mishap == Some(Mishap::FailoverAndStallAtPrompt);
        if stalls || state.mishap == Some(Mishap::FailoverAtPrompt) {
            state.leader = state.members - 1;
            state.timeline += 1;
        }
        if stalls {
            state.stalled = vec![0, 1];
        }
        if state.mishap == Some(Mishap::BoundedAtPrompt) {
            state.policies.push(policy("late", &json!({"instances": {"max": 3}})));
        }
        if let Some(Mishap::CountedAtPrompt(count)) = state.mishap {
            state.declared = count;
            state.version += 1;
        }
        if state.mishap == Some(Mishap::HiddenClaimsAtPrompt) {
            state.hidden = vec!["persistentvolumeclaims"];
        }
        self.lines.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.lines.consume(amount);
    }
}
