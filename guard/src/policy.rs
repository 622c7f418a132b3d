//! The demands of a namespace's owners and of the platform's owners on every change of the count,
//! and the way in which several policies combine.
//!
//! All policies that match a cluster apply, and the strictest wins field by field. Each limit keeps
//! the policy it came from and that policy's mode, so that a trial in `Warn` beside an enforced
//! policy neither weakens nor hides it. A value that loosens a rule's own default (`rules`,
//! `whenUnknown`, `instances.zero: Allow`) counts in every mode, because a mode only decides the
//! effect of violations. It never loosens the demand of another policy.
//!
//! A policy's mode governs its own limits. Findings of built-in rules follow the platform:
//! `builtIn` of a `ClusterScalePolicy`. A `ScalePolicy` lowers only the rules that the platform
//! lists as loosenable.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::change::Direction;
use crate::object_ref::{Kind, ObjectRef};
use crate::overrides::Overrides;
use crate::postgresql::Postgresql;
use crate::rule_id::RuleId;
use crate::seen::Seen;
use crate::selector::{matches, matches_all};
use crate::severity::Severity;

mod autoscale;
mod budget;
pub(crate) mod calendar;
mod crowd;
mod own;
mod spec;
mod undecodable;
mod written;

pub use crate::severity::{Mode, Weight};
pub use autoscale::{AutoscaleSpec, ScheduleEntry};
pub use budget::Budgets;
pub use calendar::{Freeze, Windows, way};
pub use spec::{
    Backup, Budget, BuiltIn, ClusterScalePolicy, ClusterScalePolicySpec, Day, Floor, FreezeSpec,
    InstanceBounds, ScalePolicy, ScalePolicySpec, Steps, Survivors, Way, WhenUnknown, WindowSpec,
    WindowsSpec, Zero,
};
pub use undecodable::{Undecodable, decode};
pub use written::Written;

use crowd::{HELD, Held};
use own::{Own, age, bytes};

/// The rules that a policy of a namespace never lowers unless the platform lists them as
/// loosenable. They protect the leader and the last copies.
const FIXED: &[RuleId] = &[
    RuleId::DCS_STORE_CHANGING,
    RuleId::LEADER_CANNOT_MOVE,
    RuleId::LEADER_CONDEMNED,
    RuleId::RETURN_FROM_ZERO,
    RuleId::TOO_FEW_HEALTHY_SURVIVORS,
    RuleId::VOLUMES_DELETED,
];

/// The owner of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The owners of the namespace, by a `ScalePolicy`.
    Namespace,
    /// The owners of the platform, by a `ClusterScalePolicy`.
    Platform,
}

/// A value of a namespace's policy that has no effect, because the platform does not allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Powerless {
    /// The policy, as `kind/name`.
    pub source: String,
    /// The policy's mode.
    pub mode: Mode,
    /// The id of the rule that it would lower.
    pub rule: String,
    /// The weight that it gives the rule.
    pub weight: Weight,
}

/// One limit with the policy it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// The limit.
    pub value: T,
    /// The object that sets it.
    pub source: ObjectRef,
    /// The effect of a violation.
    pub mode: Mode,
}

/// The policies that hold for one cluster, combined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The policies that match, with their modes.
    pub matched: Vec<(String, Mode)>,
    /// Floors. All of them hold.
    pub min: Vec<Limit<i64>>,
    /// Limits. All of them hold.
    pub max: Vec<Limit<i64>>,
    /// Fewest instances, zero included, in every mode and in spite of overrides. All of them hold.
    pub floor_min: Vec<Limit<i64>>,
    /// Most instances, in every mode and in spite of overrides. All of them hold.
    pub floor_max: Vec<Limit<i64>>,
    /// The budgets of the namespace, whatever clusters their policies select.
    pub budget: Budgets,
    /// Opinions on zero instances. Zero is allowed only where at least one policy allows it and
    /// none denies it.
    pub zero: Vec<Limit<Zero>>,
    /// Most instances that one change may add. All of these limits hold.
    pub step_up: Vec<Limit<i64>>,
    /// Most instances that one change may remove. All of these limits hold.
    pub step_down: Vec<Limit<i64>>,
    /// Most bytes by which the replay of a healthy member may be behind. All of these limits hold,
    /// and Patroni's limit too.
    pub max_lag: Vec<Limit<u64>>,
    /// The effect of an unread fact on a shrink. The shrink is refused where no policy says
    /// anything.
    pub when_unknown_down: Vec<Limit<Severity>>,
    /// The effect of an unread fact on growth. The writer is warned where no policy says anything.
    pub when_unknown_up: Vec<Limit<Severity>>,
    /// Times in which the count must not change. All of them hold.
    pub freezes: Vec<Limit<Freeze>>,
    /// Hours in which the count may change. All of these windows must be open.
    pub windows: Vec<Limit<Windows>>,
    /// The weights of single rules, by their ids.
    pub rules: BTreeMap<String, Vec<Limit<Weight>>>,
    /// What the cluster's count is to follow. No rule looks at it, and its mode says whether it acts.
    pub autoscale: Vec<Limit<AutoscaleSpec>>,
    /// The greatest age of the last backup before members are removed: the least value of the
    /// strictest mode.
    pub backup_max_age: Option<Limit<SignedDuration>>,
    /// The effect of an unread fact on a shrink by a `ScalePolicy`, where that is laxer than the
    /// default. It counts for loosenable rules only.
    pub own_unknown_down: Vec<Limit<Severity>>,
    /// The mode of findings that rest on no policy's limit: the strictest that the platform asks
    /// for. It is `Enforce` where the platform does not say, and where not all policies could be
    /// read, because one of those may enforce.
    pub mode: Mode,
    /// The modes that the platform asks for there.
    pub built_in: Vec<Limit<Mode>>,
    /// The rules that policies of the namespace may lower, for each policy of the platform that
    /// lists them.
    pub loosenable: Vec<Limit<Vec<String>>>,
    /// Values of the namespace's policies that have no effect.
    pub powerless: Vec<Powerless>,
    /// The reason for which some or all policies could not be read. Then no bound may be taken as
    /// kept.
    pub unreadable: Option<String>,
    /// The policies that select the cluster and cannot be decoded. `unreadable` names them, too.
    pub undecodable: Vec<Undecodable>,
    /// The overrides of the cluster.
    pub overrides: Overrides,
    /// The policies that select the labels before the write, where the write changes labels and
    /// other policies hold then. The stricter finding of both stands.
    pub by_old_labels: Option<Box<Self>>,
    /// The installation refuses growth and new clusters that cannot be judged (`growFailurePolicy:
    /// Fail` of the chart). An unread fact then refuses them, even where `whenUnknown.up` is Warn.
    pub growth_fails_closed: bool,
}

impl ScalePolicySpec {
    /// Returns whether it holds for every cluster, whatever its labels are.
    pub fn holds_for_all(&self) -> bool {
        matches_all(self.cluster_selector.as_ref())
    }
}

impl Policies {
    /// Combines those of `policies` with a selector that matches `cluster`.
    pub fn combine<'a>(
        policies: impl IntoIterator<Item = &'a ScalePolicy>,
        cluster: &Postgresql,
    ) -> Self {
        Self::of(policies, [], &Seen::Absent, &cluster.labels)
    }

    /// Combines the policies of a namespace, and those of all namespaces, that match a cluster with
    /// these labels there. The labels of the namespace are needed only where a policy selects by
    /// them.
    pub fn of<'a>(
        own: impl IntoIterator<Item = &'a ScalePolicy>,
        everywhere: impl IntoIterator<Item = &'a ClusterScalePolicy>,
        namespace: &Seen<BTreeMap<String, String>>,
        cluster: &BTreeMap<String, String>,
    ) -> Self {
        let mut combined = Self::default();
        let mut held = Held::default();
        for policy in everywhere {
            let source = named(Kind::ClusterScalePolicy, policy.metadata.name.as_deref());
            let selector = policy.spec.namespace_selector.as_ref();
            let here = match namespace {
                _ if matches_all(selector) => Ok(true),
                Seen::Known(labels) => matches(selector, labels),
                Seen::Absent => Err("the namespace is not there".to_owned()),
                Seen::Unreadable(why) => Err(format!("the namespace's labels: {why}")),
            };
            let spec = &policy.spec;
            combined.spend(&source, here.as_ref(), &policy.metadata, &spec.policy, cluster);
            if combined.hear(&mut held, &source, Scope::Platform, here, &spec.policy, cluster) {
                combined.built_in(&source, spec.built_in.as_ref());
                if held.policies > HELD {
                    combined.condense_built_in();
                }
            }
        }
        // Only now it is known which rules these may lower. They are counted on their own: the editor of a
        // namespace adds as many as it likes, and takes no place of a policy of the platform.
        let mut held = Held::default();
        for policy in own {
            let source = named(Kind::ScalePolicy, policy.metadata.name.as_deref());
            combined.spend(&source, Ok(&true), &policy.metadata, &policy.spec, cluster);
            combined.hear(&mut held, &source, Scope::Namespace, Ok(true), &policy.spec, cluster);
        }
        combined.mode = combined.built_in.iter().map(|limit| limit.value).max().unwrap_or_default();
        match combined.unreadable.take() {
            Some(why) => combined.and_unreadable(why),
            None => combined,
        }
    }

    /// Adds the budget of a policy, if it has one and holds in the namespace. It counts every cluster
    /// there, so the selector of clusters and the number of policies do not matter.
    fn spend(
        &mut self,
        source: &ObjectRef,
        here: Result<&bool, &String>,
        metadata: &ObjectMeta,
        spec: &ScalePolicySpec,
        cluster: &BTreeMap<String, String>,
    ) {
        let Some(instances) = spec.budget.as_ref().and_then(|budget| budget.instances) else {
            return;
        };
        match here {
            Ok(false) => {}
            Ok(true) => {
                let weights = spec.rules.clone().unwrap_or_default();
                let mode = spec.mode.unwrap_or_default();
                let own = Own { source, mode, weights: &weights };
                let limit = own.limit(RuleId::NAMESPACE_BUDGET, Some(i64::from(instances)));
                self.budget.extend(limit, metadata);
            }
            // Where the policy selects the cluster, the rest of it is as little known.
            Err(_) if matches(spec.cluster_selector.as_ref(), cluster) == Ok(true) => {}
            Err(why) => {
                let before = self.unreadable.take().map_or(String::new(), |before| before + "; ");
                self.unreadable = Some(format!("{before}{source}: {why}"));
            }
        }
    }

    /// Adds a policy if it holds for the cluster. Returns whether it does. One whose calendar is too many
    /// counts as one that could not be read, and so do all after it that have one.
    fn hear(
        &mut self,
        held: &mut Held,
        source: &ObjectRef,
        scope: Scope,
        here: Result<bool, String>,
        spec: &ScalePolicySpec,
        cluster: &BTreeMap<String, String>,
    ) -> bool {
        let selector = spec.cluster_selector.as_ref();
        let matched = match (here, matches(selector, cluster)) {
            // If either selector does not match, the other one does not matter.
            (Ok(false), _) | (_, Ok(false)) => return false,
            (Ok(true), Ok(true)) => Ok(()),
            (Err(why), _) | (_, Err(why)) => Err(why),
        };
        held.policies += 1;
        let has_calendar = spec.freeze.is_some() || spec.windows.is_some();
        held.calendars += usize::from(has_calendar);
        let added = matched.and_then(|()| {
            if held.policies <= HELD {
                return self.add(source, scope, spec);
            }
            let mut one = Self { loosenable: self.loosenable.clone(), ..Self::default() };
            if !has_calendar || held.calendars <= HELD {
                let added = one.add(source, scope, spec);
                self.condense(one);
                return added;
            }
            let without = ScalePolicySpec { freeze: None, windows: None, ..spec.clone() };
            let added = one.add(source, scope, &without);
            self.condense(one);
            added.and(Err(format!(
                "more than {HELD} policies of its kind with a freeze or windows hold for this cluster, the most \
                 that pgscale looks at: delete some, or narrow their selectors"
            )))
        });
        let Err(why) = added else { return true };
        // One reason is enough for all calendars that are too many.
        let repeated = has_calendar && held.calendars > HELD + 1;
        if !repeated && held.unread <= HELD {
            held.unread += 1;
            let before = self.unreadable.take().map_or(String::new(), |before| before + "; ");
            self.unreadable = Some(format!("{before}{source}: {why}"));
        }
        false
    }

    fn built_in(&mut self, source: &ObjectRef, built_in: Option<&BuiltIn>) {
        let Some(BuiltIn { mode, loosenable }) = built_in else { return };
        let source = source.clone();
        self.built_in.extend(mode.map(|value| {
            let mode = Mode::Enforce;
            Limit { value, source: source.clone(), mode }
        }));
        self.loosenable.extend(loosenable.clone().map(|value| {
            let mode = Mode::Enforce;
            Limit { value, source, mode }
        }));
    }

    /// Returns whether a policy of the namespace may lower the rule with this id.
    pub fn may_loosen(&self, rule: &str) -> bool {
        if self.loosenable.is_empty() {
            return !FIXED.iter().any(|fixed| fixed == rule);
        }
        self.loosenable.iter().all(|limit| limit.value.iter().any(|listed| listed == rule))
    }

    fn add(
        &mut self,
        source: &ObjectRef,
        scope: Scope,
        spec: &ScalePolicySpec,
    ) -> Result<(), String> {
        let mode = spec.mode.unwrap_or_default();
        self.matched.push((source.to_string(), mode));
        let weights = spec.rules.clone().unwrap_or_default();
        let own = Own { source, mode, weights: &weights };

        let bounds = spec.instances.clone().unwrap_or_default();
        self.min.extend(own.limit(RuleId::BELOW_MIN, bounds.min.map(i64::from)));
        self.max.extend(own.limit(RuleId::ABOVE_MAX, bounds.max.map(i64::from)));
        self.zero.extend(own.limit(RuleId::SCALE_TO_ZERO, bounds.zero));
        let floor = spec.floor.clone().unwrap_or_default();
        self.floor_min.extend(own.held(floor.min.map(i64::from)));
        self.floor_max.extend(own.held(floor.max.map(i64::from)));
        self.autoscale.extend(own.opinion(spec.autoscale.clone()));
        let steps = spec.steps.clone().unwrap_or_default();
        self.step_up.extend(own.limit(RuleId::STEP_TOO_LARGE, steps.up.map(i64::from)));
        self.step_down.extend(own.limit(RuleId::STEP_TOO_LARGE, steps.down.map(i64::from)));
        self.freezes.extend(own.limit(RuleId::CHANGE_FREEZE, spec.freeze.as_ref().map(Freeze::of)));
        let unknown = spec.when_unknown.clone().unwrap_or_default();
        match (scope, unknown.down) {
            (Scope::Namespace, Some(Severity::Warn)) => {
                self.own_unknown_down.extend(own.opinion(unknown.down));
            }
            _ => self.when_unknown_down.extend(own.opinion(unknown.down)),
        }
        self.when_unknown_up.extend(own.opinion(unknown.up));
        for (rule, weight) in &weights {
            let lowers = scope == Scope::Namespace && *weight < Weight::Deny;
            if lowers && !self.may_loosen(rule) {
                let (source, rule) = (source.to_string(), rule.clone());
                self.powerless.push(Powerless { source, mode, rule, weight: *weight });
                continue;
            }
            self.rules.entry(rule.clone()).or_default().extend(own.opinion(Some(*weight)));
        }

        let windows = spec.windows.as_ref().map(Windows::of).transpose()?;
        self.windows.extend(own.limit(RuleId::OUTSIDE_WINDOW, windows));
        let max_lag = spec.survivors.as_ref().and_then(|survivors| survivors.max_lag.as_deref());
        self.max_lag.extend(own.opinion(max_lag.map(bytes).transpose()?));
        let max_age = spec.backup.as_ref().and_then(|backup| backup.max_age.as_deref());
        let max_age = own.limit(RuleId::NO_RECENT_BACKUP, max_age.map(age).transpose()?);
        let both = self.backup_max_age.take().into_iter().chain(max_age);
        self.backup_max_age = Self::strictest_age(both);
        Ok(())
    }

    /// Returns every count that bounds the number of instances, in any mode.
    pub fn bounds(&self) -> impl Iterator<Item = i64> {
        let all = [&self.min, &self.max, &self.floor_min, &self.floor_max];
        all.into_iter().flatten().map(|limit| limit.value)
    }

    /// Returns the least value of the strictest mode.
    fn strictest_age(
        ages: impl Iterator<Item = Limit<SignedDuration>>,
    ) -> Option<Limit<SignedDuration>> {
        ages.max_by_key(|limit| (limit.mode, std::cmp::Reverse(limit.value)))
    }

    /// Returns the names of the policies that match, as `kind/name`, those that select the labels
    /// before the write included.
    pub fn names(&self) -> Vec<String> {
        let before = self.by_old_labels.iter().flat_map(|before| &before.matched);
        let mut seen = BTreeSet::new();
        let all = self.matched.iter().chain(before).map(|(name, _)| name);
        all.filter(|name| seen.insert(*name)).cloned().collect()
    }

    /// Returns policies that could not be read, with the reason.
    pub fn unreadable(why: impl Into<String>) -> Self {
        Self::default().and_unreadable(why)
    }

    /// Returns these policies beside others that could not be read. The mode of the others is not
    /// known, so findings that rest on no single policy's limit are enforced, whatever these
    /// policies only try out.
    #[must_use]
    pub(crate) fn and_unreadable(self, why: impl Into<String>) -> Self {
        let reasons = self.unreadable.into_iter().chain([why.into()]);
        let unreadable = Some(reasons.collect::<Vec<_>>().join("; "));
        Self { unreadable, mode: Mode::Enforce, ..self }
    }

    /// Returns these policies in an installation whose `growFailurePolicy` is `Fail`.
    #[must_use]
    pub fn failing_growth_closed(mut self) -> Self {
        self.by_old_labels = self.by_old_labels.map(|old| Box::new(old.failing_growth_closed()));
        Self { growth_fails_closed: true, ..self }
    }

    /// Returns the mode in which policies ask for the judgement of `rule`, where only policies do.
    pub(crate) fn requested(&self, rule: RuleId) -> Option<Mode> {
        let limit = self.backup_max_age.as_ref().filter(|_| rule == RuleId::NO_RECENT_BACKUP);
        limit.map(|limit| limit.mode)
    }

    /// Returns whether a policy refuses by `rule`, whatever its default is.
    #[cfg(feature = "read")]
    pub(crate) fn denies_by(&self, rule: RuleId) -> bool {
        let before = self.by_old_labels.as_deref();
        self.rules.get(rule.as_str()).is_some_and(|it| it.iter().any(|it| it.value == Weight::Deny))
            || before.is_some_and(|before| before.denies_by(rule))
    }

    /// Returns the smallest lag limit that is enforced.
    pub fn enforced_lag(&self) -> Option<&Limit<u64>> {
        let enforced = self.max_lag.iter().filter(|limit| limit.mode == Mode::Enforce);
        enforced.min_by_key(|limit| limit.value)
    }

    /// Returns the smallest lag that is on trial in each mode.
    ///
    /// A larger one finds nothing more. Each costs another run of the rules, and a namespace could
    /// ask for as many runs as it has policies.
    pub fn lags_on_trial(&self) -> impl Iterator<Item = &Limit<u64>> {
        [Mode::Warn, Mode::Audit].into_iter().filter_map(|mode| {
            let tried = self.max_lag.iter().filter(move |limit| limit.mode == mode);
            tried.min_by_key(|limit| limit.value)
        })
    }

    /// Returns the next time at which every enforced freeze and window allows a change in this
    /// direction, `now` included. `None` where that time is not known.
    pub fn next_allowed(&self, now: Timestamp, direction: Direction) -> Option<Timestamp> {
        let way = way(direction)?;
        let mut time = now;
        // Each step goes past one freeze or to one opening. Calendars that never agree are given
        // up.
        for _ in 0..100 {
            let frozen = (self.freezes.iter().filter(|freeze| freeze.mode == Mode::Enforce))
                .find(|freeze| freeze.value.ways.contains(&way) && freeze.value.holds(time));
            if let Some(freeze) = frozen {
                time = freeze.value.until?;
                continue;
            }
            let shut = (self.windows.iter().filter(|windows| windows.mode == Mode::Enforce))
                .filter(|windows| windows.value.ways.contains(&way))
                .find(|windows| windows.value.open(time) != Some(true));
            match shut {
                Some(windows) => time = windows.value.next_open(time)?,
                None => return Some(time),
            }
        }
        None
    }
}

/// Returns the policy of this kind and name.
pub fn named(kind: Kind, name: Option<&str>) -> ObjectRef {
    ObjectRef::new(kind, name.unwrap_or_default())
}

#[cfg(test)]
mod tests;
