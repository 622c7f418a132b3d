//! The count that a person asks for, and the count that results.

use pgscale_guard::change::Direction;

use crate::error::Failure;
use crate::plan::{Outcome as PlanOutcome, Plan};
use crate::session::Session;
use crate::terminal::text::instances;

/// A count that a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum CountRequest {
    /// So many more than run, or fewer where negative.
    By(i64),
    /// So many.
    Exactly(i64),
    /// So many, which must lie in this direction.
    Towards(Direction, i64),
}

impl CountRequest {
    /// Returns the direction that a person asks for. `None` where either will do.
    pub(super) fn direction(self) -> Option<Direction> {
        match self {
            Self::By(by) if by < 0 => Some(Direction::Down),
            Self::By(_) => Some(Direction::Up),
            Self::Towards(direction, _) => Some(direction),
            Self::Exactly(_) => None,
        }
    }

    /// Returns the count that it would come to if `from` instances ran, before any check.
    pub(super) fn unchecked(self, from: i64) -> i64 {
        match self {
            Self::By(by) => from.saturating_add(by),
            Self::Exactly(count) | Self::Towards(_, count) => count,
        }
    }

    /// Returns the count that it comes to for the cluster `name`, where `from` instances run and
    /// `declared` are asked for.
    ///
    /// # Errors
    /// `Usage` where the count lies in the other direction, or where no cluster can have it.
    pub(super) fn count(
        self,
        session: &Session,
        name: &str,
        declared: i64,
        from: i64,
    ) -> Result<i64, Failure> {
        let count = self.unchecked(from);
        let wrong = |than: &str| {
            Failure::usage(format!("{count} is not {than} than the {} of {name}", instances(from)))
                .hint_to(
                    "to ask for that count",
                    session.suggest(&["set", name, &count.to_string()]),
                )
        };
        match self {
            // A count that is declared already is no wrong direction: the same command, cut off
            // before, resumes.
            Self::Towards(Direction::Up, _) if count <= from && count != declared => {
                Err(wrong("more"))
            }
            Self::Towards(Direction::Down, _) if count >= from && count != declared => {
                Err(wrong("fewer"))
            }
            Self::By(by) if count < 0 => Err(Failure::usage(format!(
                "{name} runs {}; {} cannot be removed",
                instances(from),
                by.unsigned_abs()
            ))),
            Self::By(_) if count > i64::from(i32::MAX) => Err(Failure::usage(format!(
                "{count} is above {}, the most the field numberOfInstances (int32) can hold",
                i32::MAX
            ))),
            Self::By(_) | Self::Exactly(_) | Self::Towards(..) => Ok(count),
        }
    }

    /// Returns the reason why a request for more, or for fewer, would change the number and nothing
    /// else. The operator applies its limits silently, and keeps the members that run.
    ///
    /// Returns nothing where a rule refuses the plan anyway: the text of the rule is the better
    /// one.
    pub(super) fn held_by_limits(
        self,
        session: &Session,
        plan: &Plan,
        direction: Direction,
    ) -> Option<Failure> {
        let held = match self {
            Self::Towards(_, count) if plan.declared == Some(count) => false,
            Self::By(_) | Self::Exactly(_) | Self::Towards(..) => {
                self.direction().is_some_and(|wanted| wanted != direction)
            }
        };
        if !held || plan.outcome() == PlanOutcome::Refused {
            return None;
        }
        let declared = plan.declared.map_or("unset".to_owned(), |count| count.to_string());
        let message = format!(
            "postgresql {} stays at {}: operator-limits: {} instances asked for (declared: {declared}), and \
             within its limits the operator would run {}; nothing was changed",
            plan.cluster(),
            instances(plan.from),
            plan.count,
            plan.to
        );
        let present = ["set", &plan.name, &plan.from.to_string()];
        let failure = Failure::refused(message)
            .hint("change min_instances or max_instances of the operator, and restart it")
            .hint_to("to declare what runs", session.suggest(&present));
        Some(failure)
    }
}
