//! Policies that nobody thought of, and each of them made stricter.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::policy::{Mode, ScalePolicy, Survivors, Way, Weight, WhenUnknown, Zero};
use crate::rules::RULES;
use crate::verdict::Severity;

/// A policy of bounds, pace and calendar. Of what rules and unknown facts weigh it says nothing: what loosens those
/// may admit, where a fact is hidden, what was refused because of it.
pub(in crate::rules) fn policy() -> impl Strategy<Value = ScalePolicy> {
    let bound = || option::of(1..7);
    let zero = option::of(select(vec!["Allow", "Deny"]));
    let mode = option::of(select(vec!["Audit", "Warn", "Enforce"]));
    let steps = (option::weighted(0.2, 1..4), option::weighted(0.2, 1..4));
    let lag = option::weighted(0.3, select(vec!["50", "1Ki", "16Mi"]));
    let age = option::weighted(0.15, select(vec!["2h", "26h"]));
    (bound(), bound(), zero, mode, steps, (lag, age), calendar()).prop_map(
        |(min, max, zero, mode, (up, down), (lag, age), (freeze, windows))| {
            let spec = json!({"mode": mode, "instances": {"min": min, "max": max, "zero": zero},
                "steps": {"up": up, "down": down}, "survivors": {"maxLag": lag},
                "backup": {"maxAge": age},
                "freeze": freeze, "windows": windows});
            ScalePolicy::new("p", serde_json::from_value(spec).unwrap())
        },
    )
}

/// A freeze and windows, around the time at which the facts are read: a Tuesday, 10:00.
fn calendar() -> impl Strategy<Value = (Option<Value>, Option<Value>)> {
    let ways = || select(vec![json!(null), json!(["Up"]), json!(["Up", "Down"])]);
    let until = select(vec!["2026-11-24T09:00:00Z", "2026-11-24T11:00:00Z"]);
    let freeze =
        (until, ways()).prop_map(|(until, ways)| json!({"until": until, "directions": ways}));
    let zone = select(vec!["UTC", "Asia/Seoul", "Mars/Olympus"]);
    let hours = select(vec![("09:00", "17:00"), ("18:00", "20:00"), ("22:00", "06:00")]);
    let windows = (zone, vec(hours, 1..3), ways()).prop_map(|(zone, hours, ways)| {
        let allow: Vec<Value> =
            hours.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
        json!({"timeZone": zone, "allow": allow, "directions": ways})
    });
    (option::weighted(0.15, freeze), option::weighted(0.15, windows))
}

/// A policy that also says what some rules, and unknown facts, weigh.
pub(in crate::rules) fn opinionated() -> impl Strategy<Value = ScalePolicy> {
    let id = (0..RULES.len()).prop_map(|index| RULES[index].id.to_owned());
    let weight = select(vec![Weight::Ignore, Weight::Warn, Weight::Deny]);
    let severity = || option::weighted(0.2, select(vec![Severity::Warn, Severity::Deny]));
    (policy(), btree_map(id, weight, 0..8), severity(), severity()).prop_map(
        |(mut policy, rules, down, up)| {
            policy.spec.rules = Some(rules);
            policy.spec.when_unknown = Some(WhenUnknown { down, up });
            policy
        },
    )
}

/// How many ways there are to make a policy stricter.
pub(in crate::rules) const TIGHTENINGS: usize = 15;

/// The same policy, stricter in one respect.
pub(in crate::rules) fn tightened(policy: &ScalePolicy, how: usize, index: Index) -> ScalePolicy {
    let mut policy = policy.clone();
    let spec = &mut policy.spec;
    let mut bounds = spec.instances.clone().unwrap_or_default();
    let mut steps = spec.steps.clone().unwrap_or_default();
    match how {
        0 => bounds.min = Some(bounds.min.unwrap_or(0) + 1),
        1 => bounds.max = Some(bounds.max.unwrap_or(8) - 1),
        2 => bounds.zero = Some(Zero::Deny),
        3 => bounds.zero = bounds.zero.filter(|zero| *zero == Zero::Deny),
        4 => steps.up = Some(steps.up.unwrap_or(8) - 1),
        5 => steps.down = Some(steps.down.unwrap_or(8) - 1),
        6 => spec.survivors = Some(Survivors { max_lag: Some("10".to_owned()) }),
        7 => {
            let freeze = spec.freeze.get_or_insert_default();
            freeze.until = None;
        }
        8 => {
            let freeze = spec.freeze.get_or_insert_default();
            freeze.directions = Some(vec![Way::Down, Way::Up]);
        }
        9 => {
            if let Some(windows) = &mut spec.windows
                && windows.allow.len() > 1
            {
                windows.allow.pop();
            }
        }
        10 => {
            let shut =
                json!({"directions": ["Up", "Down"], "allow": [{"from": "01:00", "to": "02:00"}]});
            spec.windows.get_or_insert(serde_json::from_value(shut).unwrap());
        }
        // An opinion that is there gets stricter; where there was none, the strictest is stricter than the default.
        11 => {
            let rules = spec.rules.get_or_insert_default();
            let id = RULES[index.index(RULES.len())].id.to_owned();
            let stricter = match rules.get(&id) {
                Some(Weight::Ignore) => Weight::Warn,
                Some(Weight::Warn | Weight::Deny) | None => Weight::Deny,
            };
            rules.insert(id, stricter);
        }
        12 => spec.when_unknown.get_or_insert_default().down = Some(Severity::Deny),
        13 => spec.when_unknown.get_or_insert_default().up = Some(Severity::Deny),
        _ => {
            spec.mode = match spec.mode {
                Some(Mode::Audit) => Some(Mode::Warn),
                Some(Mode::Warn | Mode::Enforce) | None => Some(Mode::Enforce),
            }
        }
    }
    spec.instances = Some(bounds);
    spec.steps = Some(steps);
    policy
}
