//! The values of the policies that hold for the cluster.

use super::{one, unread};
use crate::assessment::Assessment;
use crate::duration::exact;
use crate::evidence::Evidence;
use crate::object_ref::{Kind, ObjectRef};
use crate::policy::{Freeze, Limit, Mode, Policies, Way, Windows};

/// The source for all policies together, where none of them sets a value.
const ALL: ObjectRef = ObjectRef::all(Kind::ScalePolicy);

/// Returns each limit of one kind. `field` is its name in policies.
fn limits<'a, T: 'a>(
    policies: &Policies,
    field: &str,
    limits: impl IntoIterator<Item = &'a Limit<T>>,
    shown: impl Fn(&T) -> String,
) -> Vec<Evidence> {
    let unread = policies.unreadable.as_ref().map(|why| unread(ALL, why)).unwrap_or_default();
    let printed: Vec<Evidence> = limits
        .into_iter()
        .flat_map(|limit| {
            let mode = match limit.mode {
                Mode::Enforce => None,
                Mode::Warn => Some("Warn"),
                Mode::Audit => Some("Audit"),
            };
            let source = || limit.source.clone();
            let value = Evidence::new(source(), field, shown(&limit.value));
            std::iter::once(value).chain(mode.map(|mode| Evidence::new(source(), "mode", mode)))
        })
        .chain(unread)
        .collect();
    if printed.is_empty() { one(ALL, field, "set by none") } else { printed }
}

/// Returns the floors.
pub(in crate::rules) fn min(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    let mut printed = limits(policies, "instances.min", &policies.min, ToString::to_string);
    printed.extend(one(ObjectRef::all(Kind::BuiltIn), "instances.min", 1));
    printed
}

/// Returns the limits.
pub(in crate::rules) fn max(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    limits(policies, "instances.max", &policies.max, ToString::to_string)
}

/// Returns the bounds that the API server holds.
pub(in crate::rules) fn floor(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    let mut printed = limits(policies, "floor.min", &policies.floor_min, ToString::to_string);
    printed.extend(limits(policies, "floor.max", &policies.floor_max, ToString::to_string));
    printed
}

/// Returns the budgets of the namespace.
pub(in crate::rules) fn budget(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    limits(policies, "budget.instances", &policies.budget.limits, ToString::to_string)
}

/// Returns the policies' settings for zero.
pub(in crate::rules) fn zero(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    limits(policies, "instances.zero", &policies.zero, |zero| format!("{zero:?}"))
}

/// Returns the largest steps, each way.
pub(in crate::rules) fn steps(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    let mut printed = limits(policies, "steps.down", &policies.step_down, ToString::to_string);
    printed.extend(limits(policies, "steps.up", &policies.step_up, ToString::to_string));
    printed
}

/// Returns the freezes and the present time.
pub(in crate::rules) fn freezes(facts: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    let spell = |freeze: &Freeze| {
        let from = freeze.from.map_or("always".to_owned(), |time| time.to_string());
        let until = freeze.until.map_or("further notice".to_owned(), |time| time.to_string());
        format!("{from} until {until}, {}", ways(&freeze.ways))
    };
    at(facts, limits(policies, "freeze", &policies.freezes, spell))
}

/// Returns the windows and the present time.
pub(in crate::rules) fn windows(facts: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    let spell = |windows: &Windows| format!("{}, {}", windows.summary(), ways(&windows.ways));
    at(facts, limits(policies, "windows", &policies.windows, spell))
}

fn ways(ways: &[Way]) -> String {
    let words: Vec<&str> = (ways.iter())
        .map(|way| match way {
            Way::Down => "down",
            Way::Up => "up",
        })
        .collect();
    format!("for {}", words.join(" and "))
}

fn at(facts: &Assessment<'_>, mut printed: Vec<Evidence>) -> Vec<Evidence> {
    let clock = ObjectRef::all(Kind::Clock);
    printed.push(Evidence::new(clock, "now", format_args!("{:.0}", facts.now)));
    printed
}

/// Returns the largest lag that policies allow.
pub(in crate::rules) fn max_lag(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    limits(policies, "survivors.maxLag", &policies.max_lag, |bytes| format!("{bytes} bytes"))
}

/// Returns the largest age of the last backup that policies allow.
pub(in crate::rules) fn backup_age(_: &Assessment<'_>, policies: &Policies) -> Vec<Evidence> {
    limits(policies, "backup.maxAge", &policies.backup_max_age, |age| exact(age.unsigned_abs()))
}
