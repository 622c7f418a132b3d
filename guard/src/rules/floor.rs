//! The bounds that the API server holds itself. The chart's `ValidatingAdmissionPolicy` judges the same
//! policies in CEL (`webhook/src/floor.rs`), and this rule says the same of every write that both see.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::policy::{Limit, Policies};
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE, CREATE};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, by_policies, inputs, set};
use crate::verdict::{Finding, Outcome};

pub(super) const OUTSIDE_FLOOR: Rule = Rule {
    id: RuleId::OUTSIDE_FLOOR,
    title: "outside the bounds that the API server holds",
    applies: Applies::on(&[CHANGE, CREATE]),
    default: "deny",
    kind: Kind::Bound,
    page: "\
A policy's `floor.min` and `floor.max` are hard bounds. They hold in every mode of the policy, no `rules` lower
them, and no override lifts them. Zero is fewer than any `floor.min`.

The API server refuses growth and new clusters above `floor.max`, and new clusters below `floor.min`, even while
no webhook answers: the chart installs the `ValidatingAdmissionPolicy` floor.pgscale.dev, and
cluster-floor.pgscale.dev for those of the platform, which read the policies as their parameters. The webhook
refuses the same, and a shrink below `floor.min`. While it is away, every shrink is refused anyway.

The written count is compared, because the API server knows no limits of the operator. A shrink is also compared
by the count that the operator would run.

A cluster that is already outside may always move towards the bounds. Where a `Scale` is written in place of the
cluster (`kubectl scale`, an autoscaler), the API server knows no labels of the cluster: policies with a
`clusterSelector` are then held by the webhook alone.

Way out: ask for a count within the bounds, or change the policy that the denial names. The first command shows
the bounds and the policies that they come from:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl pgscale set NAME N -n NAMESPACE",
    reads: &[inputs::count, inputs::floor],
    needs: reads::COUNT.and(&[Read::Policies]),
    check: outside_floor,
    #[cfg(any(test, feature = "testing"))]
    table: tests::outside_floor,
};

fn outside_floor(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    by_policies(outside_known_floor(facts, policies), facts, policies)
}

/// Judges the count by the bounds that could be read.
fn outside_known_floor(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let (written, to) = (facts.requested(), facts.to());
    let created = facts.direction() == Direction::Create;
    if facts.written_growth()
        && let Some(max) = least(&policies.floor_max).filter(|max| written > max.value)
    {
        return found(facts, max, "floor.max", written, "the most");
    }
    let fewest = match (created, facts.written_shrink()) {
        (true, _) => written,
        (false, true) => written.min(to),
        (false, false) if facts.from().is_some_and(|from| to < from) => to,
        (false, false) => return Outcome::Pass,
    };
    match greatest(&policies.floor_min).filter(|min| fewest < min.value) {
        Some(min) => found(facts, min, "floor.min", fewest, "the fewest"),
        None => Outcome::Pass,
    }
}

/// Returns the least of some upper bounds.
pub(super) fn least(limits: &[Limit<i64>]) -> Option<&Limit<i64>> {
    limits.iter().min_by_key(|limit| limit.value)
}

/// Returns the greatest of some lower bounds.
pub(super) fn greatest(limits: &[Limit<i64>]) -> Option<&Limit<i64>> {
    limits.iter().max_by_key(|limit| limit.value)
}

fn found(
    facts: &Assessment<'_>,
    limit: &Limit<i64>,
    field: &str,
    asked: i64,
    bound: &str,
) -> Outcome {
    let instances = if asked == 1 { "instance" } else { "instances" };
    let message = format!(
        "{asked} {instances} asked for, {} is {bound} that the API server allows: no override lifts it",
        limit.value
    );
    Outcome::Found(
        Finding::deny(OUTSIDE_FLOOR.id, message)
            .because(limit.source.clone(), field, limit.value)
            .remedy(set(facts, limit.value))
            .in_mode(limit.mode),
    )
}

#[cfg(any(test, feature = "testing"))]
#[allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests;
