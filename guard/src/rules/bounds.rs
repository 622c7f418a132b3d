//! Bounds: the counts that policies and the operator allow, whatever the cluster's state.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::Seen;
use crate::object_ref::{self, ObjectRef};
use crate::operator::{Operator, Settings};
use crate::policy::{Limit, Mode, Policies, Zero};
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE, CREATE, DOWN, REWRITTEN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, by_policies, floor, inputs, policies_unread, set, set_to, unread};
use crate::verdict::{Finding, Outcome};

/// The smallest number of instances where no policy demands more.
const FLOOR: i64 = 1;

pub(super) const BELOW_MIN: Rule = Rule {
    id: RuleId::BELOW_MIN,
    title: "fewer instances than the policy's minimum",
    applies: Applies::on(&[DOWN, UP, REWRITTEN, CREATE]),
    default: "deny",
    kind: Kind::Bound,
    page: "\
A policy's `instances.min` is the number of copies its owners decided they need. Without a policy the floor
is 1. Zero is judged by scale-to-zero.

The effective count is compared, after the operator's own limits, and the written count where a write lowers
it: those limits can change later, and no write of the cluster, which could be judged, comes before that.

A cluster that is already below may always move up: a change towards the bound is not refused by it.

Way out: ask for the minimum, or change the ScalePolicy that the denial names. The first command shows the
minimum and the policy that it comes from:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl pgscale set NAME N -n NAMESPACE",
    reads: &[inputs::count, inputs::min, inputs::operator_limits],
    needs: reads::COUNT.and(&[Read::Policies]),
    check: below_min,
    #[cfg(any(test, feature = "testing"))]
    table: tests::below_min,
};

fn below_min(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let (to, requested) = (facts.to(), facts.requested());
    let written = requested != 0 && (facts.written_shrink() || facts.change.old.is_none());
    let least = match (written, to) {
        (true, 0) => requested,
        (true, _) => to.min(requested),
        (false, 0) => return Outcome::NotApplicable,
        (false, _) if facts.direction() == Direction::Same => return Outcome::NotApplicable,
        (false, _) => to,
    };
    if !written && facts.from().is_some_and(|from| to > from) {
        return Outcome::Pass;
    }
    by_policies(below_known_min(least, facts, policies), facts, policies)
}

/// Judges a count that does not grow by the floors that could be read.
fn below_known_min(to: i64, facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let floor = Limit {
        value: FLOOR,
        source: ObjectRef::all(object_ref::Kind::BuiltIn),
        mode: Mode::Enforce,
    };
    let broken = policies.min.iter().chain([&floor]).filter(|min| to < min.value);
    let Some(min) = strictest(broken, |min| min.value) else { return Outcome::Pass };
    found(
        BELOW_MIN.id,
        facts,
        (min, floor::greatest(&policies.floor_min).map_or(min.value, |it| it.value.max(min.value))),
        "instances.min",
        format!("{to} {} asked for, {} is the minimum", noun(to), min.value),
    )
}

fn noun(count: i64) -> &'static str {
    if count == 1 { "instance" } else { "instances" }
}

pub(super) const ABOVE_MAX: Rule = Rule {
    id: RuleId::ABOVE_MAX,
    title: "more instances than the policy's maximum",
    applies: Applies::on(&[UP, DOWN, REWRITTEN, CREATE]),
    default: "deny",
    kind: Kind::Bound,
    page: "\
A policy's `instances.max` bounds what one cluster may take.

The effective count is compared, after the operator's own limits, and the written count where a write raises
it: those limits can change later, and no write of the cluster, which could be judged, comes before that.

A cluster that is already above may always move down: a change towards the bound is not refused by it.

Way out: ask for the maximum, or change the ScalePolicy that the denial names. The first command shows the
maximum and the policy that it comes from:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl pgscale set NAME N -n NAMESPACE",
    reads: &[inputs::count, inputs::max, inputs::operator_limits],
    needs: reads::COUNT.and(&[Read::Policies]),
    check: above_max,
    #[cfg(any(test, feature = "testing"))]
    table: tests::above_max,
};

fn above_max(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let to = facts.to();
    let written = facts.written_growth();
    if !written && facts.direction() == Direction::Same {
        return Outcome::NotApplicable;
    }
    if !written && facts.from().is_some_and(|from| to < from) {
        return Outcome::Pass;
    }
    let most = if written { to.max(facts.requested()) } else { to };
    by_policies(above_known_max(most, facts, policies), facts, policies)
}

/// Judges a count that does not fall by the limits that could be read.
fn above_known_max(to: i64, facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let broken = policies.max.iter().filter(|max| to > max.value);
    let Some(max) = strictest(broken, |max| -max.value) else { return Outcome::Pass };
    found(
        ABOVE_MAX.id,
        facts,
        (max, floor::least(&policies.floor_max).map_or(max.value, |it| it.value.min(max.value))),
        "instances.max",
        format!("{to} {} asked for, {} is the maximum", noun(to), max.value),
    )
}

pub(super) const SCALE_TO_ZERO: Rule = Rule {
    id: RuleId::SCALE_TO_ZERO,
    title: "no instance left: a full outage",
    applies: Applies::on(&[DOWN.to_exactly(0), CREATE.to_exactly(0)]),
    default: "deny; warn on create",
    kind: Kind::Bound,
    page: "\
Zero instances is legal for the operator and an outage for everyone else: no leader, no reads, no writes. The
way back is delicate too, because the volume of the last leader must be among those that are mounted again.

Allowed only where a policy that matches the cluster says `instances.zero: Allow` and none says `Deny`.

Way out: keep one instance, or have the namespace's policy allow zero. The first command shows every policy
that has a say:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl pgscale down NAME --to 1 -n NAMESPACE",
    reads: &[inputs::count, inputs::zero],
    needs: reads::COUNT.and(&[Read::Policies]),
    check: scale_to_zero,
    #[cfg(any(test, feature = "testing"))]
    table: tests::scale_to_zero,
};

fn scale_to_zero(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    match facts.direction() {
        Direction::Create => Outcome::Found(
            Finding::warn(
                SCALE_TO_ZERO.id,
                "the cluster is created with 0 instances: nothing will run",
            )
            .because(facts.postgresql_source(), "numberOfInstances", 0)
            .remedy(set(facts, fewest(policies))),
        ),
        Direction::Down | Direction::Same | Direction::Up => {
            if let Some(why) = &policies.unreadable {
                return policies_unread(why, facts, policies);
            }
            let denied = policies.zero.iter().filter(|zero| zero.value == Zero::Deny);
            let message = format!(
                "0 instances asked for, {} run: a full outage of {}",
                facts.from().unwrap_or(0),
                facts.change.cluster()
            );
            let allowed = policies.zero.iter().any(|zero| zero.value == Zero::Allow);
            // Where no policy allows zero, it is refused by default: a denial on trial does not
            // soften that.
            if let Some(zero) = strictest(denied, |_| 0)
                && (allowed || zero.mode >= policies.mode)
            {
                let alternative = (zero, fewest(policies));
                return found(SCALE_TO_ZERO.id, facts, alternative, "instances.zero", message);
            }
            if allowed {
                return Outcome::Pass;
            }
            Outcome::Found(
                Finding::deny(SCALE_TO_ZERO.id, message)
                    .because(
                        ObjectRef::all(object_ref::Kind::ScalePolicy),
                        "instances.zero",
                        "Allow in none",
                    )
                    .remedy(set_to(
                        facts,
                        "allow zero in a ScalePolicy, or keep the fewest that are allowed",
                        fewest(policies),
                    )),
            )
        }
    }
}

pub(super) const OPERATOR_LIMITS: Rule = Rule {
    id: RuleId::OPERATOR_LIMITS,
    title: "the operator would run another number than the one asked for",
    applies: Applies::on(&[CHANGE, CREATE]),
    default: "deny; warn if the operator's settings are newer than its pod",
    kind: Kind::Bound,
    page: "\
The operator applies its `min_instances` and `max_instances` silently: one line in its log, no event, no
status. The manifest then says one number and the cluster runs another (`getNumberOfInstances`,
pkg/cluster/k8sres.go). The annotation named by `ignore_instance_limits_annotation_key`, set to \"true\",
switches both limits off for one cluster.

The settings are read once, when the operator starts: if they were edited since, it is not certain which
ones are in force, and the rule only warns. Every rule then judges a shrink from the most that may run to the
fewest that may be left, with the limits and without.

Way out: ask for the number that the operator would run, which the denial names, or change the limits and
restart the operator. Here its settings and the operator are called postgres-operator, in the operator's
NAMESPACE:

    kubectl pgscale set NAME N -n NAMESPACE
    kubectl edit configmap/postgres-operator -n NAMESPACE
    kubectl rollout restart deployment/postgres-operator -n NAMESPACE",
    reads: &[inputs::count, inputs::operator_limits, inputs::owner_before],
    needs: reads::COUNT,
    check: operator_limits,
    #[cfg(any(test, feature = "testing"))]
    table: tests::operator_limits,
};

fn operator_limits(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let asked = facts.requested();
    if let Some(why) = facts.count_before_unreadable() {
        return unread("what the operator that owned it before ran", why);
    }
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        // Unknown limits are a finding by themselves (limits-unknown), and no violation.
        Seen::Absent => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("the operator's limits", why),
    };
    let runs = facts.to_by_settings();
    if runs == asked {
        return Outcome::Pass;
    }
    let message = format!("{asked} instances asked for, the operator would run {runs}");
    // A write that comes closer to the count that the operator runs is on its way to compliance.
    let closer =
        facts.change.old.as_ref().and_then(|old| old.instances).is_some_and(|old| {
            asked.abs_diff(runs) < old.abs_diff(runs) && facts.from() == Some(runs)
        });
    let stale = operator.stale_settings == Some(true);
    let finding = if stale || closer {
        Finding::warn(OPERATOR_LIMITS.id, message)
    } else {
        Finding::deny(OPERATOR_LIMITS.id, message)
    };
    let mut finding = finding;
    finding.evidence = limits(operator);
    if stale {
        finding = finding.because(
            operator.deployment.clone(),
            "settings",
            "edited after its pod started, and it reads them only then",
        );
    }
    Outcome::Found(finding.remedy(set(facts, runs)))
}

/// Returns the operator's limits as its configuration spells them.
pub(super) fn limits(operator: &Operator) -> Vec<Evidence> {
    let Settings { min_instances, max_instances, .. } = operator.settings;
    [("min_instances", min_instances), ("max_instances", max_instances)]
        .map(|(field, value)| Evidence::new(operator.source.clone(), field, value))
        .into()
}

/// Returns the broken limit to show: the strictest mode first, then the strictest value.
fn strictest<'a, T: 'a>(
    broken: impl Iterator<Item = &'a Limit<T>>,
    strictness: impl Fn(&Limit<T>) -> i64,
) -> Option<&'a Limit<T>> {
    broken.max_by_key(|limit| (limit.mode, strictness(limit)))
}

/// Returns the fewest instances that every policy accepts.
fn fewest(policies: &Policies) -> i64 {
    let all = policies.min.iter().chain(&policies.floor_min);
    all.map(|min| min.value).fold(FLOOR, i64::max)
}

/// Returns the finding for a broken limit, with the count that keeps it.
fn found<T: Shown>(
    rule: RuleId,
    facts: &Assessment<'_>,
    (limit, kept): (&Limit<T>, i64),
    field: &str,
    message: String,
) -> Outcome {
    Outcome::Found(
        Finding::deny(rule, message)
            .because(limit.source.clone(), field, limit.value.shown())
            .remedy(set(facts, kept))
            .in_mode(limit.mode),
    )
}

/// A limit's value as a policy spells it.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for i64 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for Zero {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests;
