//! Generated policies, and stricter versions of each.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::policy::{
    Backup, Day, Mode, ScalePolicy, ScalePolicySpec, Survivors, Way, Weight, WhenUnknown, Zero,
};
use crate::rules::RULES;
use crate::verdict::Severity;

/// Returns a policy of bounds, pace and calendar.
///
/// It sets no severity for rules or unknown facts: a policy that loosens those may admit, where a
/// fact is hidden, a change that was refused because of that fact.
pub(in crate::rules) fn policy() -> impl Strategy<Value = ScalePolicy> {
    let bound = || option::of(1..7);
    let zero = option::of(select(vec!["Allow", "Deny"]));
    let mode = option::of(select(vec!["Audit", "Warn", "Enforce"]));
    let steps = (option::weighted(0.2, 1..4), option::weighted(0.2, 1..4));
    let lag = option::weighted(0.3, select(vec!["50", "1Ki", "16Mi"]));
    let backup = option::weighted(0.2, select(vec!["1m", "26h", "72h"]));
    // The clusters are labelled env=prod.
    let chosen = option::weighted(0.15, select(vec!["prod", "prod", "test"]));
    (bound(), bound(), zero, mode, steps, (lag, backup), calendar(), chosen).prop_map(
        |(min, max, zero, mode, (up, down), (lag, backup), (freeze, windows), chosen)| {
            // Made of what is drawn, so that every other field is drawn as it was without it.
            let budget = lag.and(max).map(|max| max + 4);
            let selector = chosen.map(|env| json!({"matchLabels": {"env": env}}));
            let spec = json!({"mode": mode, "instances": {"min": min, "max": max, "zero": zero},
                "steps": {"up": up, "down": down}, "survivors": {"maxLag": lag},
                "backup": {"maxAge": backup}, "budget": {"instances": budget}, "freeze": freeze, "windows": windows,
                "clusterSelector": selector});
            ScalePolicy::new("p", serde_json::from_value(spec).unwrap())
        },
    )
}

/// Returns a freeze and windows around the time at which the facts are read: a Tuesday, 10:00.
fn calendar() -> impl Strategy<Value = (Option<Value>, Option<Value>)> {
    let ways = || select(vec![json!(null), json!(["Up"]), json!(["Up", "Down"])]);
    let from = option::of(select(vec!["2026-11-24T08:00:00Z", "2026-11-24T10:30:00Z"]));
    let until = option::of(select(vec!["2026-11-24T09:00:00Z", "2026-11-24T11:00:00Z"]));
    let freeze = (from, until, ways())
        .prop_map(|(from, until, ways)| json!({"from": from, "until": until, "directions": ways}));
    let zone = select(vec!["UTC", "Asia/Seoul", "Mars/Olympus"]);
    let hours = select(vec![("09:00", "17:00"), ("18:00", "20:00"), ("22:00", "06:00")]);
    let days =
        option::of(select(vec![json!(["Tue"]), json!(["Mon", "Tue"]), json!(["Sat", "Sun"])]));
    let windows = (zone, vec((hours, days), 1..3), ways()).prop_map(|(zone, windows, ways)| {
        let allow: Vec<Value> = windows
            .into_iter()
            .map(|((from, to), days)| json!({"from": from, "to": to, "days": days}))
            .collect();
        json!({"timeZone": zone, "allow": allow, "directions": ways})
    });
    (option::weighted(0.15, freeze), option::weighted(0.15, windows))
}

/// Returns a policy that also sets the severity of some rules and of unknown facts.
pub(in crate::rules) fn opinionated() -> impl Strategy<Value = ScalePolicy> {
    let id = (0..RULES.len()).prop_map(|index| RULES[index].id.to_string());
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

/// Returns a policy that can only refuse: it lowers nothing, and is enforced.
pub(in crate::rules) fn restrictive() -> impl Strategy<Value = ScalePolicy> {
    opinionated().prop_map(|mut policy| {
        let spec = &mut policy.spec;
        spec.mode = Some(Mode::Enforce);
        if let Some(bounds) = &mut spec.instances {
            bounds.zero = bounds.zero.filter(|zero| *zero == Zero::Deny);
        }
        if let Some(rules) = &mut spec.rules {
            rules.retain(|_, weight| *weight == Weight::Deny);
        }
        if let Some(unknown) = &mut spec.when_unknown {
            unknown.down = unknown.down.filter(|severity| *severity == Severity::Deny);
        }
        policy
    })
}

/// A tightening of one part of a policy.
type Tightening = fn(&mut ScalePolicySpec, Index);

/// The ways to make a policy stricter: at least one for each of its fields.
pub(in crate::rules) const TIGHTENINGS: &[(&str, Tightening)] = &[
    ("mode", |spec, _| {
        spec.mode = match spec.mode {
            Some(Mode::Audit) => Some(Mode::Warn),
            Some(Mode::Warn | Mode::Enforce) | None => Some(Mode::Enforce),
        }
    }),
    ("instances.min", |spec, _| {
        let min = &mut spec.instances.get_or_insert_default().min;
        *min = Some(min.unwrap_or(0) + 1);
    }),
    ("instances.max", |spec, _| {
        let max = &mut spec.instances.get_or_insert_default().max;
        *max = Some(max.unwrap_or(8) - 1);
    }),
    ("floor.min", |spec, _| {
        let min = &mut spec.floor.get_or_insert_default().min;
        *min = Some(min.unwrap_or(0) + 1);
    }),
    ("floor.max", |spec, _| {
        let max = &mut spec.floor.get_or_insert_default().max;
        *max = Some(max.unwrap_or(8) - 1);
    }),
    ("instances.zero, denied", |spec, _| {
        spec.instances.get_or_insert_default().zero = Some(Zero::Deny);
    }),
    ("instances.zero, no longer allowed", |spec, _| {
        let zero = &mut spec.instances.get_or_insert_default().zero;
        *zero = zero.filter(|zero| *zero == Zero::Deny);
    }),
    ("budget.instances", |spec, _| {
        let instances = &mut spec.budget.get_or_insert_default().instances;
        *instances = Some(instances.unwrap_or(20) - 1);
    }),
    ("steps.up", |spec, _| {
        let up = &mut spec.steps.get_or_insert_default().up;
        *up = Some(up.unwrap_or(8) - 1);
    }),
    ("steps.down", |spec, _| {
        let down = &mut spec.steps.get_or_insert_default().down;
        *down = Some(down.unwrap_or(8) - 1);
    }),
    ("survivors.maxLag", |spec, _| {
        spec.survivors = Some(Survivors { max_lag: Some("10".to_owned()) });
    }),
    ("whenUnknown.down", |spec, _| {
        spec.when_unknown.get_or_insert_default().down = Some(Severity::Deny);
    }),
    ("whenUnknown.up", |spec, _| {
        spec.when_unknown.get_or_insert_default().up = Some(Severity::Deny);
    }),
    ("freeze.from", |spec, _| {
        if let Some(freeze) = &mut spec.freeze {
            freeze.from = None;
        }
    }),
    ("freeze.until", |spec, _| spec.freeze.get_or_insert_default().until = None),
    ("freeze.directions", |spec, _| {
        spec.freeze.get_or_insert_default().directions = Some(vec![Way::Down, Way::Up]);
    }),
    ("windows", |spec, _| {
        let shut =
            json!({"directions": ["Up", "Down"], "allow": [{"from": "01:00", "to": "02:00"}]});
        spec.windows.get_or_insert(serde_json::from_value(shut).unwrap());
    }),
    ("windows.directions", |spec, _| {
        if let Some(windows) = &mut spec.windows {
            windows.directions = Some(vec![Way::Down, Way::Up]);
        }
    }),
    ("windows.allow", |spec, index| {
        if let Some(windows) = &mut spec.windows
            && windows.allow.len() > 1
        {
            windows.allow.remove(index.index(windows.allow.len()));
        }
    }),
    ("windows.allow.days", |spec, index| {
        if let Some(windows) = &mut spec.windows {
            let chosen = index.index(windows.allow.len());
            let days = &mut windows.allow[chosen].days;
            let all = || vec![Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
            let first = days.clone().unwrap_or_else(all)[0];
            *days = Some(vec![first]);
        }
    }),
    ("windows.allow.to", |spec, index| {
        if let Some(windows) = &mut spec.windows {
            let chosen = index.index(windows.allow.len());
            let window = &mut windows.allow[chosen];
            // More than a minute after it began, still on the same day.
            window.to = format!("{}:01", &window.from[..2]);
        }
    }),
    ("windows.allow.from", |spec, index| {
        if let Some(windows) = &mut spec.windows {
            let chosen = index.index(windows.allow.len());
            let window = &mut windows.allow[chosen];
            let hour: u32 = window.from[..2].parse().unwrap();
            window.from = format!("{hour:02}:45");
        }
    }),
    // A rule's severity gets stricter. A rule without a severity gets the strictest.
    ("rules", |spec, index| {
        let rules = spec.rules.get_or_insert_default();
        let id = RULES[index.index(RULES.len())].id.to_string();
        let stricter = match rules.get(&id) {
            Some(Weight::Ignore) => Weight::Warn,
            Some(Weight::Warn | Weight::Deny) | None => Weight::Deny,
        };
        rules.insert(id, stricter);
    }),
    ("backup.maxAge", |spec, _| {
        spec.backup = Some(Backup { max_age: Some("30s".to_owned()) });
    }),
];
