//! What a fact that could not be read weighs.

use crate::change::Direction;
use crate::policy::{Limit, Mode, Policies};
use crate::rules::Rule;
use crate::rules::severity::{Candidate, base};
use crate::verdict::Severity;

/// What a fact that could not be seen means: refused for a shrink, told for growth, unless policies say otherwise. What
/// policies of the namespace say to loosen that counts only for rules that they may lower.
pub(super) fn unseen(rule: &Rule, direction: Direction, policies: &Policies) -> Vec<Candidate> {
    let own = &policies.own_unknown_down;
    let own = if policies.may_loosen(rule.id.as_str()) { own.as_slice() } else { &[] };
    let (default, opinions, field): (_, Vec<_>, _) = match direction {
        Direction::Down => {
            (Severity::Deny, policies.when_unknown_down.iter().chain(own).collect(), "down")
        }
        Direction::Up => (Severity::Warn, policies.when_unknown_up.iter().collect(), "up"),
        Direction::Create | Direction::Same => return vec![base(Severity::Warn, policies)],
    };
    let spoken = |limit: &Limit<Severity>| {
        format!("{} says whenUnknown.{field}: {:?}", limit.source, limit.value)
    };
    let mut candidates: Vec<_> = opinions
        .iter()
        .copied()
        .filter(|limit| limit.value >= default)
        .map(|limit| Candidate {
            severity: limit.value,
            mode: limit.mode,
            says: Some(spoken(limit)),
        })
        .collect();
    let below = opinions.into_iter().filter(|limit| limit.value < default);
    candidates.push(match below.max_by_key(|limit| limit.value) {
        Some(limit) if policies.unreadable.is_none() => {
            Candidate { says: Some(spoken(limit)), ..base(limit.value, policies) }
        }
        Some(_) | None => base(default, policies),
    });
    candidates
}

/// Returns the weight of a fact that could not be seen on growth, where the installation refuses growth that cannot be
/// judged. It stands beside the policies' weights, so that the stricter of both wins.
pub(super) fn failing_closed(direction: Direction, policies: &Policies) -> Option<Candidate> {
    let grows = matches!(direction, Direction::Create | Direction::Up);
    (policies.growth_fails_closed && grows).then(|| Candidate {
        severity: Severity::Deny,
        mode: Mode::Enforce,
        says: Some("this installation says growFailurePolicy: Fail".to_owned()),
    })
}
