//! What was found when a cluster was verified.

use std::collections::BTreeSet;

use super::{Canary, Checked, NoCanary, Testimony};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verification {
    /// What is missing for convergence.
    pub(crate) missing: Vec<String>,
    /// What could not be read, so that nobody knows whether it is missing.
    pub(crate) unread: Vec<String>,
    /// What the members said, where they were asked.
    pub(crate) testimonies: Vec<Testimony>,
    /// What follows from that.
    pub(crate) result: Checked,
    /// What became of the message, where one was written; or why none could be.
    pub(crate) canary: Option<Result<Canary, NoCanary>>,
}

impl Verification {
    /// Everything that is wrong.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = &String> {
        self.missing.iter().chain(&self.result.wrong)
    }

    /// Everything that could not be learned.
    pub(crate) fn unheard(&self) -> impl Iterator<Item = &String> {
        self.unread.iter().chain(&self.result.unheard)
    }

    /// Leaves out what was not wrong `before`. Nothing is left out, and `false` returned, where nothing would be left.
    pub(crate) fn keep_what_was_so(&mut self, before: &BTreeSet<String>) -> bool {
        let was_so = |line: &String| before.contains(&gist(line));
        if !self.wrong().any(was_so) {
            return false;
        }
        self.missing.retain(was_so);
        self.result.wrong.retain(was_so);
        true
    }
}

/// What a line says without its numbers, which differ from look to look.
pub(crate) fn gist(line: &str) -> String {
    let number = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
    line.split(' ').filter(|word| !number(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(wrong: &[&str]) -> Verification {
        let missing = wrong.iter().map(|&line| line.to_owned()).collect();
        Verification { missing, ..Verification::default() }
    }

    fn before(wrong: &[&str]) -> BTreeSet<String> {
        wrong.iter().map(|line| gist(line)).collect()
    }

    #[test]
    fn numbers_that_change_do_not_make_another_finding() {
        let before = before(&["acid-a-1: 990 bytes behind the leader after a second"]);
        let mut now = found(&[
            "acid-a-1: 1200 bytes behind the leader after a second",
            "acid-a-2: 7 bytes behind the leader after a second",
        ]);
        assert!(now.keep_what_was_so(&before));
        assert_eq!(now.missing, ["acid-a-1: 1200 bytes behind the leader after a second"]);
    }

    #[test]
    fn where_nothing_was_wrong_before_nothing_is_left_out() {
        let mut now = found(&["acid-a-1: no pod yet"]);
        assert!(!now.keep_what_was_so(&before(&["nobody holds a valid leader lock"])));
        assert_eq!(now.missing, ["acid-a-1: no pod yet"]);
    }
}
