//! The kinds of change that a rule looks at. Its page and the tables print them, and the judge
//! checks them.

use std::fmt;

use crate::change::Direction;
use crate::facts::Facts;

/// The kinds of change that one rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Applies {
    cases: &'static [Case],
    note: Option<&'static str>,
}

/// One kind of change, with the counts before and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    way: Way,
    from: Count,
    to: Count,
}

/// The direction in which a write changes the count.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The change goes one way, as [`Facts::direction`] says.
    Goes(Direction),
    /// The write changes the written or the running count of a cluster that exists.
    Changes,
    /// The write changes the written count, and as many instances as before run.
    Rewritten,
    /// Any write of a cluster that exists.
    Exists,
}

/// A condition on a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Any,
    Exactly(i64),
    AtLeast(i64),
    /// Any other count than 0. A negative count is not a valid count, and no rule may overlook it.
    NotZero,
}

/// Fewer instances, or perhaps fewer.
pub(super) const DOWN: Case = Case::of(Way::Goes(Direction::Down));
/// More instances.
pub(super) const UP: Case = Case::of(Way::Goes(Direction::Up));
/// A new cluster.
pub(super) const CREATE: Case = Case::of(Way::Goes(Direction::Create));
/// Any change of the count of a cluster that exists, even where as many instances as before run.
pub(super) const CHANGE: Case = Case::of(Way::Changes);
/// A change of the written count after which as many instances as before run.
pub(super) const REWRITTEN: Case = Case::of(Way::Rewritten);
/// Any write of a cluster that exists.
pub(super) const EXISTING: Case = Case::of(Way::Exists);

impl Case {
    const fn of(way: Way) -> Self {
        Self { way, from: Count::Any, to: Count::Any }
    }

    /// Returns the cases that lead to `count` or more.
    pub(super) const fn to_at_least(self, count: i64) -> Self {
        Self { to: Count::AtLeast(count), ..self }
    }

    /// Returns the cases that lead to `count`.
    pub(super) const fn to_exactly(self, count: i64) -> Self {
        Self { to: Count::Exactly(count), ..self }
    }

    /// Returns the cases that do not lead to 0.
    pub(super) const fn to_some(self) -> Self {
        Self { to: Count::NotZero, ..self }
    }

    /// Returns the cases that begin at 0.
    pub(super) const fn after_zero(self) -> Self {
        Self { from: Count::Exactly(0), ..self }
    }

    /// Returns the cases that do not begin at 0.
    pub(super) const fn after_some(self) -> Self {
        Self { from: Count::NotZero, ..self }
    }

    fn includes(self, facts: &Facts) -> bool {
        let direction = facts.direction();
        let way = match self.way {
            Way::Goes(way) => direction == way,
            Way::Changes => facts.changes_count(),
            Way::Rewritten => direction == Direction::Same && facts.changes_count(),
            Way::Exists => direction != Direction::Create,
        };
        way && self.to.holds(facts.to()) && facts.from().is_none_or(|from| self.from.holds(from))
    }
}

impl Way {
    /// Returns whether a write may be of this kind that changes the written count the way `written`
    /// goes.
    ///
    /// The operator's limits may make it a write that keeps the count, and no more: they raise or
    /// lower both counts to the same bounds.
    fn may_hold(self, written: Direction) -> bool {
        match self {
            Self::Goes(way) => way == written,
            Self::Changes | Self::Rewritten => {
                matches!(written, Direction::Down | Direction::Up)
            }
            Self::Exists => written != Direction::Create,
        }
    }
}

impl Count {
    const fn holds(self, count: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => count == wanted,
            Self::AtLeast(least) => count >= least,
            Self::NotZero => count != 0,
        }
    }
}

impl Applies {
    /// Returns the kinds of change in `cases`, without a note.
    pub(super) const fn on(cases: &'static [Case]) -> Self {
        Self { cases, note: None }
    }

    /// Adds a condition that is not a kind of change, for tables. The rule's function checks it.
    pub(super) const fn noted(self, note: &'static str) -> Self {
        Self { note: Some(note), ..self }
    }

    /// Returns whether the change in `facts` is one of these kinds.
    pub fn includes(&self, facts: &Facts) -> bool {
        self.cases.iter().any(|case| case.includes(facts))
    }

    /// Returns whether a write that changes the written count this way may be one of these kinds,
    /// whatever the counts and the operator's limits are.
    pub(super) fn may_include(&self, written: Direction) -> bool {
        self.cases.iter().any(|case| case.way.may_hold(written))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Exactly(count) => write!(out, "{count}"),
            Self::AtLeast(count) => write!(out, "{count} or more"),
            Self::NotZero => write!(out, "1 or more"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.way {
            Way::Goes(Direction::Create) => "create",
            Way::Goes(Direction::Down) => "down",
            Way::Goes(Direction::Up) => "up",
            Way::Goes(Direction::Same) => "any write that keeps the count",
            Way::Changes => "any change of the count",
            Way::Rewritten => "another written count that keeps the members",
            Way::Exists => "any write of an existing cluster",
        };
        write!(out, "{word}")?;
        if self.from != Count::Any {
            write!(out, " from {}", self.from)?;
        }
        let grows = matches!(self.way, Way::Goes(Direction::Up) | Way::Rewritten);
        // After such a change there are members anyway.
        let plain = grows && matches!(self.to, Count::AtLeast(i64::MIN..=1) | Count::NotZero);
        if plain || self.to == Count::Any {
            return Ok(());
        }
        let joint = if matches!(self.way, Way::Goes(Direction::Create)) { "with" } else { "to" };
        write!(out, " {joint} {}", self.to)
    }
}

impl fmt::Display for Applies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, case) in self.cases.iter().enumerate() {
            let joint = if at == 0 { "" } else { ", " };
            write!(out, "{joint}{case}")?;
        }
        self.note.map_or(Ok(()), |note| write!(out, "; {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{created, healthy};

    #[test]
    fn each_case_holds_for_its_kind_of_change_and_its_counts() {
        let down: [(&str, Case, bool); 11] = [
            ("down", DOWN, true),
            ("at least", DOWN.to_at_least(2), true),
            ("more than that", DOWN.to_at_least(3), false),
            ("exactly", DOWN.to_exactly(2), true),
            ("to some", DOWN.to_some(), true),
            ("from zero", DOWN.after_zero(), false),
            ("from some", DOWN.after_some(), true),
            ("up", UP, false),
            ("create", CREATE, false),
            ("change", CHANGE, true),
            ("rewritten", REWRITTEN, false),
        ];
        for (name, case, want) in down {
            assert_eq!(case.includes(&healthy(5, 2)), want, "{name}");
        }
        assert!(Applies::on(&[DOWN, UP]).includes(&healthy(2, 5)));
        assert!(Applies::on(&[EXISTING]).includes(&healthy(2, 2)));
        assert!(!Applies::on(&[EXISTING, CHANGE]).includes(&created(2)));
        assert!(!DOWN.to_some().includes(&healthy(2, 0)));
    }

    #[test]
    fn cases_are_printed_in_plain_words() {
        const BOTH: Applies = Applies::on(&[DOWN.to_some(), UP]).noted("kubectl pgscale only");
        assert_eq!(BOTH.to_string(), "down to 1 or more, up; kubectl pgscale only");
        for (case, want) in [
            (CREATE.to_exactly(0), "create with 0"),
            (UP.after_some(), "up from 1 or more"),
            (CHANGE.to_at_least(2), "any change of the count to 2 or more"),
            (UP.after_zero().to_some(), "up from 0"),
        ] {
            assert_eq!(case.to_string(), want);
        }
    }
}
