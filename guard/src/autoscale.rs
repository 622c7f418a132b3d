//! The number of instances that load and the clock ask for.
//!
//! Pure: [`decide`] takes what a policy wants ([`Spec`]), what is remembered ([`State`]), what was
//! measured ([`Sample`]) and the time. It never reads a clock or a cluster. Whether the step that it
//! wants may be taken is another question: the rules answer it.
//!
//! The ratio, the tolerance and the windows are those of the `HorizontalPodAutoscaler`
//! (`pkg/controller/podautoscaler/replica_calculator.go`, `horizontal.go`), with four differences.
//! One step at a time. Only replicas are measured. A replica without a value stops it, where the
//! other one counts 0 or 100 percent for it. After a change it rests.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;

mod reason;
mod schedule;
#[cfg(test)]
mod tests;
mod written;

pub use reason::Reason;
pub use schedule::{Entry, Schedule};
pub use written::wanted;

/// The number of times that another writer takes a step back before it gives up.
const ROUNDS: u32 = 2;

/// A step that stood so long was not taken back: rounds are counted again from 0.
const STOOD: Duration = Duration::from_secs(24 * 60 * 60);

/// The greatest number of recommendations that are kept.
const KEPT: usize = 4096;

/// What is wanted for one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The wanted average CPU of the replicas, in percent of what they request. `None` where only
    /// the schedule counts.
    pub cpu: Option<u32>,
    /// The fewest instances.
    pub min: i64,
    /// The most instances.
    pub max: i64,
    /// The difference at which nothing is done, in percent of the target.
    pub tolerance: u32,
    /// How long more instances must be wanted before one is added.
    pub up_after: Duration,
    /// How long fewer instances must be wanted before one is removed.
    pub down_after: Duration,
    /// The rest after a change, and after one that failed or was taken back.
    pub cooldown: Duration,
    /// The age at which a measured value is too old.
    pub stale: Duration,
    /// Counts by the clock. With a CPU target they are the fewest instances of their hours.
    pub schedule: Schedule,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            cpu: None,
            min: 1,
            max: 1,
            tolerance: 10,
            up_after: Duration::from_secs(60),
            down_after: Duration::from_secs(300),
            cooldown: Duration::from_secs(300),
            stale: Duration::from_secs(120),
            schedule: Schedule::default(),
        }
    }
}

impl Spec {
    /// Checks what no schema can.
    ///
    /// # Errors
    /// One line for people, that names the field.
    pub fn check(&self) -> Result<(), String> {
        if self.min < 1 {
            return Err(format!("min is {}: an autoscaler never stops a cluster", self.min));
        }
        if self.min > self.max {
            return Err(format!("min {} is above max {}", self.min, self.max));
        }
        if self.cpu == Some(0) {
            return Err("cpu is 0: a target is 1 percent or more".to_owned());
        }
        if self.cpu.is_some() && self.min < 2 {
            return Err(format!(
                "min is {}: the CPU of the replicas is measured, so 2 instances are the fewest",
                self.min
            ));
        }
        if self.cpu.is_none() && self.schedule.entries().is_empty() {
            return Err("there is neither cpu nor schedule: nothing to follow".to_owned());
        }
        let outside = |entry: &&Entry| !(self.min..=self.max).contains(&entry.instances);
        match self.schedule.entries().iter().find(outside) {
            Some(entry) => Err(format!(
                "schedule {} is outside of min {} and max {}",
                entry.summary(),
                self.min,
                self.max
            )),
            None => Ok(()),
        }
    }

    /// Returns the fewest and the most instances at `now`, and whether the clock decides them.
    fn bounds(&self, now: Timestamp) -> (i64, i64, bool) {
        let count = self.schedule.holding(now).map(|it| it.instances.clamp(self.min, self.max));
        match (count, self.cpu) {
            (None, _) => (self.min, self.max, false),
            (Some(count), Some(_)) => (count, self.max, count != self.min),
            (Some(count), None) => (count, count, true),
        }
    }
}

/// The CPU of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// It was measured.
    Used {
        /// Thousandths of a core.
        millicores: u64,
        /// The time at which it was measured.
        at: Timestamp,
    },
    /// There is no value, for this reason.
    Missing(String),
    /// The value is no number.
    NotANumber(String),
}

/// One replica as it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The name of its pod.
    pub name: String,
    /// Thousandths of a core that its `postgres` container requests. 0 where it requests none.
    pub request: u64,
    /// What it uses.
    pub cpu: Cpu,
}

/// One look at the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The count that the object asks for.
    pub declared: i64,
    /// What keeps the cluster from having converged on it, in one line. `None` where it has.
    pub lacks: Option<String>,
    /// The last writer of the count, where it is known.
    pub writer: Option<String>,
    /// The replicas. The leader is none of them.
    pub replicas: Vec<Replica>,
}

/// A step that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    from: i64,
    to: i64,
    at: Timestamp,
}

/// What is remembered from look to look. A new one knows nothing, and so waits for whole windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What the looks asked for, oldest first. A look that could not judge asks for the present
    /// count.
    recommendations: Vec<(Timestamp, i64)>,
    /// The count of the last look.
    declared: Option<i64>,
    step: Option<Step>,
    changed: Option<Timestamp>,
    /// The time of a failure, or of a step that was taken back.
    held: Option<Timestamp>,
    rounds: u32,
    by: Option<String>,
}

impl State {
    /// Returns the state after a restart, where the last change was at `changed`.
    pub fn since(changed: Option<Timestamp>) -> Self {
        Self { changed, ..Self::default() }
    }

    /// Records that the count went from `from` to `to`.
    pub fn stepped(&mut self, from: i64, to: i64, now: Timestamp) {
        self.step = Some(Step { from, to, at: now });
        self.changed = Some(now);
        self.declared = Some(to);
    }

    /// Records that a step was refused, or failed.
    pub fn failed(&mut self, now: Timestamp) {
        self.held = Some(now);
    }

    fn recommend(&mut self, spec: &Spec, now: Timestamp, count: i64) {
        let longest = spec.up_after.max(spec.down_after);
        self.recommendations.retain(|(time, _)| !is_over(*time, longest, now));
        self.recommendations.push((now, count));
        let surplus = self.recommendations.len().saturating_sub(KEPT);
        self.recommendations.drain(..surplus);
    }

    /// Returns the last moment within `window` at which the count was to be no more than, or no
    /// less than, `present`. That moment holds a step back.
    fn holds(
        &self,
        window: Duration,
        now: Timestamp,
        keeps: impl Fn(i64) -> bool,
    ) -> Option<Timestamp> {
        let within =
            |(time, count): &&(Timestamp, i64)| !is_over(*time, window, now) && keeps(*count);
        self.recommendations.iter().rev().find(within).map(|(time, _)| *time)
    }
}

/// Returns whether `length` has passed since `then`.
fn is_over(then: Timestamp, length: Duration, now: Timestamp) -> bool {
    now >= after(then, length)
}

fn after(then: Timestamp, length: Duration) -> Timestamp {
    then.checked_add(length).unwrap_or(Timestamp::MAX)
}

/// The decision of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The count that was declared.
    pub declared: i64,
    /// The count that is wanted now: at most one step away.
    pub wanted: i64,
    /// The average CPU of the replicas, in percent of what they request. `None` where not known.
    pub cpu: Option<u64>,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// Returns whether it asks for another count than is declared.
    pub fn acts(&self) -> bool {
        self.wanted != self.declared
    }
}

/// Decides about one look, and remembers it.
///
/// The caller carries a step out and calls [`State::stepped`], or [`State::failed`].
pub fn decide(spec: &Spec, state: &mut State, sample: &Sample, now: Timestamp) -> Decision {
    let declared = sample.declared;
    if state.recommendations.is_empty() {
        // Nothing is known from before: a whole window begins.
        state.recommend(spec, now, declared);
    }
    let stay = |reason| Decision { declared, wanted: declared, cpu: None, reason };
    if let Some(reason) = other_writer(state, sample, now) {
        state.recommend(spec, now, declared);
        return stay(reason);
    }
    if let Some(lacks) = &sample.lacks {
        state.recommend(spec, now, declared);
        return stay(Reason::NotConverged(lacks.clone()));
    }
    let (min, max, scheduled) = spec.bounds(now);
    let step = (declared.clamp(min, max) - declared).signum();
    if step != 0 {
        state.recommend(spec, now, declared);
        // The clock and the bounds do not waver, so they wait only where something went wrong.
        if let Some(until) = rest(state.held, spec.cooldown, now) {
            return stay(Reason::Cooldown { until });
        }
        let reason = match spec.schedule.holding(now) {
            Some(entry) if scheduled => Reason::Scheduled(entry.instances),
            Some(_) | None => Reason::OutOfBounds { min, max },
        };
        return Decision { wanted: declared.saturating_add(step), ..stay(reason) };
    }
    let Some(target) = spec.cpu else { return stay(Reason::OnSchedule) };
    match load(spec, sample, now) {
        Ok(load) => by_load(spec, state, declared, (min, max), &load, target, now),
        Err(reason) => {
            state.recommend(spec, now, declared);
            stay(reason)
        }
    }
}

/// Returns the reason not to act that another writer of the count gives.
fn other_writer(state: &mut State, sample: &Sample, now: Timestamp) -> Option<Reason> {
    let declared = sample.declared;
    let before = state.declared.replace(declared);
    if state.step.is_some_and(|step| is_over(step.at, STOOD, now)) && before == Some(declared) {
        state.rounds = 0;
    }
    let changed = before.is_some_and(|before| before != declared);
    if changed {
        state.changed = Some(now);
        let taken_back = |step: &Step| {
            if step.to > step.from { declared <= step.from } else { declared >= step.from }
        };
        if state.step.take_if(|step| taken_back(step)).is_some() {
            let by = sample.writer.clone().unwrap_or_else(|| "another writer".to_owned());
            state.rounds += 1;
            state.held = Some(now);
            state.by = Some(by.clone());
            if state.rounds < ROUNDS {
                return Some(Reason::Undone { by, round: state.rounds });
            }
        }
    }
    let by = state.by.clone().filter(|_| state.rounds >= ROUNDS)?;
    Some(Reason::GaveUp { by })
}

/// Returns the end of the rest after `time`, unless it is over.
fn rest(time: Option<Timestamp>, cooldown: Duration, now: Timestamp) -> Option<Timestamp> {
    time.map(|time| after(time, cooldown)).filter(|until| now < *until)
}

/// The load of all replicas together.
struct Load {
    replicas: u64,
    /// Thousandths of a core.
    used: u64,
    /// Thousandths of a core.
    requested: u64,
}

impl Load {
    /// Returns the average in percent of the request.
    fn percent(&self) -> u64 {
        let percent = u128::from(self.used) * 100 / u128::from(self.requested.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }
}

/// Adds the replicas up.
///
/// # Errors
/// The first replica without a value that can be used.
fn load(spec: &Spec, sample: &Sample, now: Timestamp) -> Result<Load, Reason> {
    let mut load = Load { replicas: 0, used: 0, requested: 0 };
    for replica in &sample.replicas {
        let member = replica.name.clone();
        match &replica.cpu {
            Cpu::Missing(why) => {
                return Err(Reason::MetricMissing { member, why: why.clone() });
            }
            Cpu::NotANumber(value) => {
                return Err(Reason::MetricNotANumber { member, value: value.clone() });
            }
            Cpu::Used { millicores, at } => {
                let age = now.duration_since(*at).unsigned_abs();
                if age > spec.stale {
                    return Err(Reason::MetricStale { member, age });
                }
                load.used = load.used.saturating_add(*millicores);
            }
        }
        if replica.request == 0 {
            return Err(Reason::NoRequest(replica.name.clone()));
        }
        load.requested = load.requested.saturating_add(replica.request);
        load.replicas += 1;
    }
    if load.replicas == 0 {
        let why = "the cluster has no replica".to_owned();
        return Err(Reason::MetricMissing { member: "any replica".to_owned(), why });
    }
    Ok(load)
}

/// Returns the number of instances for which the average would be the target: one leader and the
/// replicas. `None` where the average is close enough to it.
fn recommended(spec: &Spec, load: &Load, target: u32) -> Option<i64> {
    let (used, replicas) = (u128::from(load.used) * 100, u128::from(load.replicas));
    let aim = (u128::from(load.requested) * u128::from(target)).max(1);
    if used.abs_diff(aim) * 100 <= aim * u128::from(spec.tolerance) {
        return None;
    }
    let wanted = (used.saturating_mul(replicas)).div_ceil(aim);
    Some(i64::try_from(wanted).unwrap_or(i64::MAX).saturating_add(1))
}

fn by_load(
    spec: &Spec,
    state: &mut State,
    declared: i64,
    (min, max): (i64, i64),
    load: &Load,
    target: u32,
    now: Timestamp,
) -> Decision {
    let wanted = recommended(spec, load, target).unwrap_or(declared);
    let aim = wanted.clamp(min, max);
    state.recommend(spec, now, aim);
    let cpu = Some(load.percent());
    let stay = |reason| Decision { declared, wanted: declared, cpu, reason };
    let changed = state.changed.max(state.held);
    match aim.cmp(&declared) {
        Ordering::Equal => stay(match wanted.cmp(&declared) {
            Ordering::Greater => Reason::AtMax(max),
            Ordering::Less => Reason::AtMin(min),
            Ordering::Equal => Reason::WithinTolerance,
        }),
        side @ (Ordering::Greater | Ordering::Less) => {
            let up = side == Ordering::Greater;
            let window = if up { spec.up_after } else { spec.down_after };
            let keeps = |count: i64| if up { count <= declared } else { count >= declared };
            let held = state.holds(window, now, keeps).map(|time| after(time, window));
            match (held, rest(changed, spec.cooldown, now)) {
                (_, Some(until)) => stay(Reason::Cooldown { until }),
                (Some(until), None) if up => stay(Reason::StabilisingUp { until }),
                (Some(until), None) => stay(Reason::StabilisingDown { until }),
                (None, None) if up => {
                    Decision { wanted: declared.saturating_add(1), ..stay(Reason::StepUp) }
                }
                (None, None) => {
                    Decision { wanted: declared.saturating_sub(1), ..stay(Reason::StepDown) }
                }
            }
        }
    }
}
