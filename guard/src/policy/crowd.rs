//! The policies of a kind beyond those that are kept one by one.
//!
//! The editor of a namespace writes as many policies as it likes, and each limit that is kept costs memory
//! and time in every review. So beyond [`HELD`] policies of a kind, a limit is kept only where no other one
//! is as strict: [`condense`] leaves what decides, and each policy still counts. Calendars cannot be
//! compared, so more than [`HELD`] of them count as unread.
//!
//! [`condense`]: Policies::condense

use std::collections::BTreeSet;

use super::{Limit, Policies, Powerless};

/// The most policies of one kind that are kept with all their limits, and the most with a calendar.
pub(super) const HELD: usize = 64;

/// The policies of one kind that hold for one cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// All of them.
    pub(super) policies: usize,
    /// Those with a freeze or with windows.
    pub(super) calendars: usize,
    /// The reasons that are named for which some cannot be read.
    pub(super) unread: usize,
}

impl Policies {
    /// Adds the limits of one more policy, as far as they change what all of them come to.
    pub(super) fn condense(&mut self, one: Self) {
        strictest(&mut self.min, one.min, |new, old| new > old);
        strictest(&mut self.max, one.max, |new, old| new < old);
        strictest(&mut self.floor_min, one.floor_min, |new, old| new > old);
        strictest(&mut self.floor_max, one.floor_max, |new, old| new < old);
        strictest(&mut self.step_up, one.step_up, |new, old| new < old);
        strictest(&mut self.step_down, one.step_down, |new, old| new < old);
        strictest(&mut self.max_lag, one.max_lag, |new, old| new < old);
        distinct(&mut self.zero, one.zero);
        distinct(&mut self.when_unknown_down, one.when_unknown_down);
        distinct(&mut self.when_unknown_up, one.when_unknown_up);
        distinct(&mut self.own_unknown_down, one.own_unknown_down);
        for (rule, weights) in one.rules {
            distinct(self.rules.entry(rule).or_default(), weights);
        }
        // Two are too many already.
        if self.autoscale.len() < 2 * HELD {
            self.autoscale.extend(one.autoscale);
        }
        self.matched.extend(one.matched);
        self.freezes.extend(one.freezes);
        self.windows.extend(one.windows);
        let ages = self.backup_max_age.take().into_iter().chain(one.backup_max_age);
        self.backup_max_age = Self::strictest_age(ages);
        for powerless in one.powerless {
            let like =
                |it: &Powerless| (&it.rule, it.weight) == (&powerless.rule, powerless.weight);
            if !self.powerless.iter().any(like) {
                self.powerless.push(powerless);
            }
        }
    }

    /// Removes from the lists that the platform makes for the namespaces what others of them say, too.
    pub(super) fn condense_built_in(&mut self) {
        let mut seen = BTreeSet::new();
        self.built_in.retain(|limit| seen.insert(limit.value));
        // A rule may be loosened where every list has it, so two lists are as one of what both have.
        while self.loosenable.len() > HELD {
            let (Some(last), Some(before)) = (self.loosenable.pop(), self.loosenable.last_mut())
            else {
                return;
            };
            before.value.retain(|rule| last.value.contains(rule));
        }
    }
}

/// Adds the limits that are stricter than each one of at least their mode, in place of those that are
/// laxer then.
fn strictest<T>(kept: &mut Vec<Limit<T>>, more: Vec<Limit<T>>, stricter: fn(&T, &T) -> bool) {
    for new in more {
        let covers = |one: &Limit<T>, other: &Limit<T>| {
            one.mode >= other.mode && !stricter(&other.value, &one.value)
        };
        if !kept.iter().any(|old| covers(old, &new)) {
            kept.retain(|old| !covers(&new, old));
            kept.push(new);
        }
    }
}

/// Adds the opinions that no other policy of the same mode has.
fn distinct<T: PartialEq>(kept: &mut Vec<Limit<T>>, more: Vec<Limit<T>>) {
    for new in more {
        if !kept.iter().any(|old| (&old.value, old.mode) == (&new.value, new.mode)) {
            kept.push(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use crate::policy::{ClusterScalePolicy, Mode, Policies, ScalePolicy};
    use crate::seen::Seen;

    fn combined(platform: bool, specs: &[Value]) -> Policies {
        let spec = |spec: &Value| serde_json::from_value(spec.clone()).unwrap();
        let name = |at: usize| format!("p{at}");
        let (mut own, mut everywhere) = (Vec::new(), Vec::new());
        for (at, one) in specs.iter().enumerate() {
            if platform {
                let spec = serde_json::from_value(one.clone()).unwrap();
                everywhere.push(ClusterScalePolicy::new(&name(at), spec));
            } else {
                own.push(ScalePolicy::new(&name(at), spec(one)));
            }
        }
        Policies::of(&own, &everywhere, &Seen::Known(BTreeMap::new()), &BTreeMap::new())
    }

    /// The one policy that matters comes last of thousands.
    #[test]
    fn policy_after_thousands_of_others_holds_like_the_first_one() {
        let lax = json!({"mode": "Warn", "floor": {"min": 1, "max": 99}, "instances": {"min": 1, "max": 90, "zero": "Allow"},
            "steps": {"up": 9, "down": 9}, "survivors": {"maxLag": "1Gi"}, "backup": {"maxAge": "90h"},
            "whenUnknown": {"down": "Deny", "up": "Warn"}, "rules": {"stale-volume": "Warn"}});
        let strict = json!({"floor": {"min": 2, "max": 9}, "instances": {"min": 3, "max": 7, "zero": "Deny"},
            "steps": {"up": 2, "down": 1}, "survivors": {"maxLag": "16Mi"}, "backup": {"maxAge": "26h"},
            "whenUnknown": {"up": "Deny"}, "rules": {"stale-volume": "Deny"},
            "freeze": {"reason": "the sale"}});
        for platform in [true, false] {
            let specs: Vec<_> = (0..3000).map(|_| lax.clone()).chain([strict.clone()]).collect();
            let all = combined(platform, &specs);
            assert_eq!(all.unreadable, None);
            let alone = combined(platform, std::slice::from_ref(&strict));
            let last = |it: &Policies| {
                (
                    (it.min.last().unwrap().value, it.max.last().unwrap().value),
                    (it.floor_min.last().unwrap().value, it.floor_max.last().unwrap().value),
                    (it.step_up.last().unwrap().value, it.step_down.last().unwrap().value),
                    it.enforced_lag().unwrap().value,
                    it.zero.last().unwrap().value,
                    it.when_unknown_up.last().unwrap().value,
                    it.rules["stale-volume"].last().unwrap().value,
                    it.backup_max_age.as_ref().unwrap().value,
                    it.freezes.len(),
                )
            };
            assert_eq!(last(&all), last(&alone));
            assert_eq!(all.max.last().unwrap().mode, Mode::Enforce);
            assert_eq!(all.max.last().unwrap().source.name.as_deref(), Some("p3000"));
            let kept =
                [all.min.len(), all.zero.len(), all.max_lag.len(), all.rules["stale-volume"].len()];
            assert!(kept.iter().all(|count| *count <= super::HELD + 1), "{kept:?}");
            assert_eq!(all.names().len(), 3001);
        }
    }

    /// Each is stricter than the one before: what decides is kept, and little else.
    #[test]
    fn limits_beyond_those_that_are_kept_one_by_one_take_no_more_memory() {
        let specs: Vec<_> = (1..=2000)
            .map(|at| {
                let mode = ["Audit", "Warn", "Enforce"][at % 3];
                json!({"mode": mode, "instances": {"min": at}, "steps": {"down": 2001 - at}})
            })
            .collect();
        let all = combined(true, &specs);
        assert!(all.min.len() <= super::HELD && all.step_down.len() <= super::HELD);
        for mode in [Mode::Audit, Mode::Warn, Mode::Enforce] {
            let of_mode = |limit: &&crate::policy::Limit<i64>| limit.mode >= mode;
            let want = (1..=2000).filter(|at| at % 3 >= mode as i64).max();
            assert_eq!(
                all.min.iter().filter(of_mode).map(|limit| limit.value).max(),
                want,
                "{mode:?}"
            );
        }
    }

    #[test]
    fn rule_is_loosenable_only_where_each_of_many_policies_lists_it() {
        let listing = |rules: Value| json!({"builtIn": {"mode": "Warn", "loosenable": rules}});
        let mut specs: Vec<_> =
            (0..500).map(|_| listing(json!(["stale-volume", "paused"]))).collect();
        specs.push(listing(json!(["paused"])));
        let all = combined(true, &specs);
        assert!(all.loosenable.len() <= super::HELD && all.built_in.len() <= super::HELD);
        assert!(all.may_loosen("paused") && !all.may_loosen("stale-volume"));
        assert_eq!(all.mode, Mode::Warn);
    }

    #[test]
    fn calendars_beyond_those_that_are_computed_count_as_unread() {
        for platform in [true, false] {
            let many: Vec<_> = (0..70).map(|_| json!({"freeze": {"reason": "the sale"}})).collect();
            let all = combined(platform, &many);
            assert_eq!(all.freezes.len(), super::HELD);
            let why = all.unreadable.unwrap();
            assert!(
                why.contains("more than 64 policies of its kind with a freeze or windows"),
                "{why}"
            );
        }
    }
}
