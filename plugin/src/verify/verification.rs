//! The result of the verification of a cluster.

use super::{Canary, Checked, NoCanary, Testimony, Wrong};
use crate::watch::Lack;

/// The result of a verification.
#[derive(Debug, Default)]
pub(crate) struct Verification {
    /// The conditions that are missing for convergence.
    pub(crate) missing: Vec<Lack>,
    /// The conditions that could not be read, so that it is not known whether they are missing.
    pub(crate) unread: Vec<String>,
    /// The members' answers, where they were asked.
    pub(crate) testimonies: Vec<Testimony>,
    /// The missing permission for which no member was asked in SQL, where the caller left the choice
    /// to the program.
    pub(crate) unasked: Option<String>,
    /// The conclusions from the answers.
    pub(crate) result: Checked,
    /// The result of the message, where one was written, or the reason for which none could be.
    pub(crate) canary: Option<Result<Canary, NoCanary>>,
}

impl Verification {
    /// Returns every problem, each in one line.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = String> {
        let missing = self.missing.iter().map(ToString::to_string);
        missing.chain(self.result.wrong.iter().map(ToString::to_string))
    }

    /// Returns whether nothing is wrong.
    pub(crate) fn is_right(&self) -> bool {
        self.missing.is_empty() && self.result.wrong.is_empty()
    }

    /// Returns everything that could not be read.
    pub(crate) fn unheard(&self) -> impl Iterator<Item = &String> {
        self.unread.iter().chain(&self.result.unheard)
    }

    /// Leaves out the problems that existed `before`. Leaves out none, and returns `false`, where
    /// none would remain.
    pub(crate) fn keep_what_was_so(&mut self, before: &Before) -> bool {
        let lacked = |lack: &Lack| before.missing.contains(&lack.clone().steady());
        let was_wrong = |wrong: &Wrong| before.wrong.contains(&wrong.clone().steady());
        if !self.missing.iter().any(lacked) && !self.result.wrong.iter().any(was_wrong) {
            return false;
        }
        self.missing.retain(lacked);
        self.result.wrong.retain(was_wrong);
        true
    }
}

/// The problems of one look, without the parts that differ from look to look.
#[derive(Debug)]
pub(crate) struct Before {
    missing: Vec<Lack>,
    wrong: Vec<Wrong>,
}

impl Before {
    /// Returns the problems in `found`.
    pub(crate) fn of(found: Verification) -> Self {
        Self {
            missing: found.missing.into_iter().map(Lack::steady).collect(),
            wrong: found.result.wrong.into_iter().map(Wrong::steady).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use pgscale_guard::facts::{Health, Problem};

    use super::*;

    fn found(missing: &[Lack], wrong: &[Wrong]) -> Verification {
        let result = Checked { wrong: wrong.to_vec(), ..Checked::default() };
        Verification { missing: missing.to_vec(), result, ..Verification::default() }
    }

    fn behind(member: &str, bytes: u64) -> Lack {
        let health = Health::Unhealthy(vec![Problem::Behind(bytes)]);
        Lack::Unfit { member: member.into(), health }
    }

    #[test]
    fn numbers_that_change_do_not_make_another_finding() {
        let timelines = |one: &str, other: &str| Wrong::Differ {
            what: "timelines",
            values: vec![
                (one.into(), vec!["acid-a-1".into()]),
                (other.into(), vec!["acid-a-0".into(), "acid-a-2".into()]),
            ],
        };
        let before = Before::of(found(&[behind("acid-a-1", 990)], &[timelines("1", "2")]));
        let mut now = found(
            &[behind("acid-a-1", 1200), behind("acid-a-2", 7)],
            &[Wrong::NoReceiver("acid-a-1".into()), timelines("2", "3")],
        );
        assert!(now.keep_what_was_so(&before));
        let left: Vec<String> = now.wrong().collect();
        assert_eq!(
            left,
            [
                "acid-a-1: 1.2 KiB behind the leader after a second",
                "the members have different timelines: 2 (acid-a-1), 3 (acid-a-0, acid-a-2)"
            ]
        );
    }

    #[test]
    fn problem_is_kept_where_none_existed_before() {
        let mut now = found(&[Lack::NoPod("acid-a-1".into())], &[]);
        assert!(!now.keep_what_was_so(&Before::of(found(&[Lack::NoLeader], &[]))));
        assert_eq!(now.missing, [Lack::NoPod("acid-a-1".into())]);
    }
}
