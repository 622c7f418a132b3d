//! The members of a plan: removed, added, and those that are not counted on.

use pgscale_guard::facts::{Health, Member};
use pgscale_guard::{Assessment, Facts};

use super::{Coming, Leaving, Unfit};
use crate::members::Role;

/// Returns a removed member.
pub(super) fn leaving(facts: &Assessment<'_>, member: &Member) -> Leaving {
    Leaving {
        pod: member.name.clone(),
        role: Role::of(facts, member),
        state: describe(&facts.health(member)),
        claim: claim(facts, member.ordinal),
    }
}

/// The number of members that a plan names. A count may be as high as the greatest int32.
pub(crate) const SHOWN: usize = 100;

/// Returns how many added members a plan names.
pub(super) fn shown(coming: &[Coming]) -> i64 {
    i64::try_from(coming.len()).unwrap_or(i64::MAX)
}

/// Returns the number of added members, those included that have no place in the plan's list.
pub(super) fn arrivals(facts: &Facts, from: i64, to: i64) -> i64 {
    let there = facts.all_members().iter().filter(|member| (from..to).contains(&member.ordinal));
    let there = i64::try_from(there.count()).unwrap_or(i64::MAX);
    to.saturating_sub(from).max(0).saturating_sub(there)
}

/// Returns the added member of an ordinal. `None` where it has a pod already.
pub(super) fn coming(facts: &Facts, ordinal: i64) -> Option<Coming> {
    let pod = facts.pod_name(ordinal);
    facts.member(&pod).is_none().then(|| Coming { claim: claim(facts, ordinal), pod })
}

/// Returns the volume claim of an ordinal.
pub(crate) fn claim(facts: &Facts, ordinal: i64) -> Option<String> {
    let claims = facts.claims.known()?;
    claims.iter().find(|claim| claim.ordinal == ordinal).map(|claim| claim.name.clone())
}

/// Returns the kept members that are known not to be healthy.
pub(crate) fn unfit(facts: &Assessment<'_>) -> Vec<Unfit> {
    facts
        .survivors()
        .filter_map(|member| match facts.health(member) {
            Health::Healthy | Health::Unknown(_) => None,
            health @ Health::Unhealthy(_) => {
                Some(Unfit { pod: member.name.clone(), why: describe(&health) })
            }
        })
        .collect()
}

/// Returns a member's health in words.
pub(crate) fn describe(health: &Health) -> String {
    match health {
        Health::Healthy => "healthy".to_owned(),
        Health::Unhealthy(problems) => {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        Health::Unknown(why) => format!("unknown: {why}"),
    }
}
