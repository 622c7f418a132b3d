//! The combined value of each policy field, with its source and its effect. Pure.

use std::cmp::Reverse;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::Policies;
use pgscale_guard::change::Direction;
use pgscale_guard::duration::exact;
use pgscale_guard::policy::{Freeze, Limit, Mode, Way, Weight, Windows, Zero};
use pgscale_guard::verdict::Severity;
use serde::Serialize;

/// The source of a value that no policy sets.
const BUILT_IN: &str = "built-in";

/// The effect of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Effect {
    /// It decides.
    InForce,
    /// A stricter one decides.
    Weaker,
    /// It only warns.
    Warns,
    /// It is only recorded.
    Recorded,
    /// Nothing: the platform does not let policies of the namespace lower this rule.
    Powerless,
}

/// One value of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// The field, as a policy spells it.
    pub(crate) field: String,
    /// Its value.
    pub(crate) value: String,
    /// The object it comes from, as `kind/name`. `built-in` where no policy sets it.
    pub(crate) source: String,
    /// The mode of that policy. For a rule that its policy tempers, the lowered mode.
    pub(crate) mode: Mode,
    /// Its effect.
    pub(crate) effect: Effect,
}

/// The times at which the calendars allow a change in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Allowed {
    /// `down` or `up`.
    pub(crate) direction: &'static str,
    /// A change is allowed now.
    pub(crate) now: bool,
    /// The next allowed time, now included. `None` where it is not known.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) next: Option<Timestamp>,
}

/// Returns every value that policies set, and the built-in ones where they set none.
pub(crate) fn entries(policies: &Policies, now: Timestamp) -> Vec<Entry> {
    let mut all = Vec::new();
    let number = |value: &i64| value.to_string();
    all.extend(field("instances.min", &policies.min, number, |value| *value, Some("1")));
    all.extend(field("instances.max", &policies.max, number, |value| Reverse(*value), None));
    all.extend(field("floor.min", &policies.floor_min, number, |value| *value, None));
    all.extend(field("floor.max", &policies.floor_max, number, |value| Reverse(*value), None));
    let budgets = &policies.budget.limits;
    all.extend(field("budget.instances", budgets, number, |value| Reverse(*value), None));
    let (strict, allows) = (|zero: &Zero| *zero == Zero::Deny, |zero: &Zero| *zero == Zero::Allow);
    let shown = |zero: &Zero| format!("{zero:?}");
    all.extend(opinions("instances.zero", &policies.zero, shown, strict, allows, Some("Deny")));
    all.extend(field("steps.up", &policies.step_up, number, |value| Reverse(*value), None));
    all.extend(field("steps.down", &policies.step_down, number, |value| Reverse(*value), None));
    let bytes = |value: &u64| format!("{value} bytes");
    let least = |value: &u64| Reverse(*value);
    all.extend(field("survivors.maxLag", &policies.max_lag, bytes, least, None));
    let down = &[&policies.when_unknown_down[..], &policies.own_unknown_down].concat();
    let up = &policies.when_unknown_up;
    let shown = |severity: &Severity| format!("{severity:?}");
    let warns = |severity: &Severity| *severity == Severity::Warn;
    all.extend(opinions("whenUnknown.down", down, shown, |it| *it, warns, Some("Deny")));
    all.extend(opinions("whenUnknown.up", up, shown, |it| *it, warns, Some("Warn")));
    let shown = ToString::to_string;
    all.extend(field("autoscale", &policies.autoscale, shown, |_| (), None));
    all.extend(field("freeze", &policies.freezes, |it| freeze(it, now), |_| (), None));
    all.extend(field("windows", &policies.windows, |it| windows(it, now), |_| (), None));
    for (rule, weights) in &policies.rules {
        let name = format!("rules.{rule}");
        let shown = |weight: &Weight| format!("{weight:?}");
        let lowers = |weight: &Weight| *weight < Weight::Deny;
        all.extend(opinions(&name, weights, shown, |it| *it, lowers, None));
    }
    all.extend(policies.powerless.iter().map(|powerless| Entry {
        field: format!("rules.{}", powerless.rule),
        value: format!("{:?}", powerless.weight),
        source: powerless.source.clone(),
        mode: powerless.mode,
        effect: Effect::Powerless,
    }));
    let shown = |mode: &Mode| format!("{mode:?}");
    all.extend(field("builtIn.mode", &policies.built_in, shown, |mode| *mode, Some("Enforce")));
    let shown = |rules: &Vec<String>| rules.join(", ");
    let fewest = |rules: &Vec<String>| Reverse(rules.len());
    all.extend(field(
        "builtIn.loosenable",
        &policies.loosenable,
        shown,
        fewest,
        Some("all but 6 rules"),
    ));
    let age = policies.backup_max_age.as_slice();
    all.extend(field("backup.maxAge", age, |age| exact(age.unsigned_abs()), |_| (), None));
    all
}

/// Returns the times at which the calendars allow a change, in each direction.
pub(crate) fn allowed(policies: &Policies, now: Timestamp) -> Vec<Allowed> {
    if policies.freezes.is_empty() && policies.windows.is_empty() {
        return Vec::new();
    }
    [("down", Direction::Down), ("up", Direction::Up)]
        .map(|(direction, way)| {
            let next = policies.next_allowed(now, way);
            Allowed { direction, now: next == Some(now), next }
        })
        .into()
}

/// Returns the limits of one field. Of the enforced ones the strictest decides.
fn field<T, K: Ord>(
    name: &str,
    limits: &[Limit<T>],
    shown: impl Fn(&T) -> String,
    strictness: impl Fn(&T) -> K,
    default: Option<&str>,
) -> Vec<Entry> {
    let enforced = limits.iter().filter(|limit| limit.mode == Mode::Enforce);
    let strictest = enforced.map(|limit| strictness(&limit.value)).max();
    let effect = |limit: &Limit<T>| match limit.mode {
        Mode::Audit => Effect::Recorded,
        Mode::Warn => Effect::Warns,
        Mode::Enforce if Some(strictness(&limit.value)) < strictest => Effect::Weaker,
        Mode::Enforce => Effect::InForce,
    };
    spelled(name, limits, shown, effect, default)
}

/// Returns the opinions on a built-in value. One that loosens it counts in every mode, where none
/// is stricter. One that does not loosen it stands beside it, in its own mode.
fn opinions<T, K: Ord>(
    name: &str,
    limits: &[Limit<T>],
    shown: impl Fn(&T) -> String,
    strictness: impl Fn(&T) -> K,
    loosens: impl Fn(&T) -> bool,
    default: Option<&str>,
) -> Vec<Entry> {
    let effect = |limit: &Limit<T>| {
        let counts = |other: &&Limit<T>| other.mode == Mode::Enforce || loosens(&other.value);
        let mut stricter = limits.iter().filter(counts);
        if stricter.any(|other| strictness(&other.value) > strictness(&limit.value)) {
            return Effect::Weaker;
        }
        match limit.mode {
            _ if loosens(&limit.value) => Effect::InForce,
            Mode::Enforce => Effect::InForce,
            Mode::Warn => Effect::Warns,
            Mode::Audit => Effect::Recorded,
        }
    };
    spelled(name, limits, shown, effect, default)
}

fn spelled<T>(
    name: &str,
    limits: &[Limit<T>],
    shown: impl Fn(&T) -> String,
    effect: impl Fn(&Limit<T>) -> Effect,
    default: Option<&str>,
) -> Vec<Entry> {
    let entry = |limit: &Limit<T>| Entry {
        field: name.to_owned(),
        value: shown(&limit.value),
        source: limit.source.to_string(),
        mode: limit.mode,
        effect: effect(limit),
    };
    let mut entries: Vec<Entry> = limits.iter().map(entry).collect();
    if entries.is_empty() {
        entries.extend(default.map(|value| Entry {
            field: name.to_owned(),
            value: value.to_owned(),
            source: BUILT_IN.to_owned(),
            mode: Mode::Enforce,
            effect: Effect::InForce,
        }));
    }
    entries
}

/// Returns `Down until 2026-12-27T00:00:00Z (peak season), holds now`.
pub(crate) fn freeze(freeze: &Freeze, now: Timestamp) -> String {
    let from = freeze.from.map_or(String::new(), |from| format!(" from {from}"));
    let until = freeze.until.map_or(String::new(), |until| format!(" until {until}"));
    let reason = freeze.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let holds = match freeze.until {
        _ if freeze.holds(now) => ", holds now",
        Some(until) if until <= now => ", is over",
        Some(_) | None => "",
    };
    format!("{}{from}{until}{reason}{holds}", ways(&freeze.ways))
}

/// Returns `Down Mon Tue 09:00-17:00 Asia/Seoul, open now`.
pub(crate) fn windows(windows: &Windows, now: Timestamp) -> String {
    let state = match (windows.open(now), windows.next_open(now)) {
        (Some(true), _) => "open now".to_owned(),
        (Some(false), Some(next)) => format!("shut now, opens {}", windows.spell(next)),
        (Some(false), None) => "shut now".to_owned(),
        (None, _) => "which is no known time zone".to_owned(),
    };
    format!("{} {}, {state}", ways(&windows.ways), windows.summary())
}

fn ways(ways: &[Way]) -> String {
    ways.iter().map(|way| format!("{way:?}")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests;
