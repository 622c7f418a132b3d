//! Watches a cluster until it has converged on the goal, or it is certain that it will not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgscale_guard::facts::{Facts, Live, Member};
use pgscale_guard::object_ref::ObjectRef;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Assessed, Change, Seen};
use tokio::time::{Instant, sleep};

use crate::error::{Failure, Kind};
use crate::members::lag_bytes;
use crate::plan::{Plan, nobody_answered};
use crate::services::{self, Services};
use crate::session::Session;
use crate::terminal::live::{Line, LiveLines};
use crate::terminal::text::tenths;

mod backup;
mod blockers;
mod converged;
mod ending;
mod leader;
mod leaving;
mod phase;
mod progress;
mod superseded;
mod timeline;
mod unacted;

use backup::{Backups, Progress};
use blockers::Blockers;
pub(crate) use converged::{Lack, lacks, missing};
use leaving::Leaving;
use phase::{Phase, phases};
use progress::{Stand, Stands, progress_of_all};
use superseded::superseded;
use timeline::Timeline;
pub(crate) use timeline::{MemberTimeline, Milestone};
use unacted::{News, Unacted};

/// The wanted state of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Goal {
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its identity.
    pub(crate) uid: String,
    /// The `numberOfInstances` that must stay.
    pub(crate) count: i64,
    /// The count before. A return to it is called a revert.
    pub(crate) before: Option<i64>,
    /// Members that are unhealthy and were so before. They are reported, and not waited for.
    pub(crate) unfit: BTreeSet<String>,
    /// Removed members.
    pub(crate) removed: Vec<String>,
    /// The count was written by this run, or the operator was asked again by it. So this run keeps
    /// the leader off the removed members.
    pub(crate) ours: bool,
    /// The effective counts before and after, where this run wrote the count, or asked the operator
    /// again: a change continues after its end.
    pub(crate) change: Option<(i64, i64)>,
}

impl Goal {
    /// Returns the goal of `plan`.
    pub(crate) fn of_plan(plan: &Plan) -> Self {
        Self {
            namespace: plan.namespace.clone(),
            name: plan.name.clone(),
            uid: plan.uid.clone(),
            count: plan.count,
            before: plan.resumes.or(plan.declared),
            unfit: plan.unfit.iter().map(|unfit| unfit.pod.clone()).collect(),
            removed: plan.leaving.iter().map(|member| member.pod.clone()).collect(),
            ours: false,
            change: None,
        }
    }

    /// Returns the goal that `cluster` declares now.
    pub(crate) fn of_cluster(cluster: &Postgresql) -> Self {
        Self {
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            uid: cluster.uid.clone(),
            count: cluster.instances.unwrap_or(0),
            ..Self::default()
        }
    }
}

/// The cluster at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Everything the rules look at, with the answers of every member.
    pub(crate) facts: Assessed,
    /// The members behind its Services.
    pub(crate) services: Services,
}

/// A change that the watch saw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Seconds from the start.
    pub(crate) seconds: f64,
    /// The change, in words.
    pub(crate) what: String,
}

/// The end of the watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    /// The failure, where it did not succeed.
    pub(crate) failure: Option<Failure>,
    /// The conditions that were still missing at the end.
    pub(crate) missing: Vec<String>,
    /// The changes meanwhile.
    pub(crate) events: Vec<Event>,
    /// The time at which each new member reached each phase.
    pub(crate) timeline: Vec<MemberTimeline>,
    /// Remarks that are no failure.
    pub(crate) notes: Vec<String>,
    /// The greatest lag in bytes of the replica that was furthest behind. `None` where no lag was
    /// reported.
    pub(crate) worst_lag: Option<u64>,
    /// The number of times that the lead went to another member.
    pub(crate) leader_changes: u32,
    /// The time without a valid leader lock, as far as the looks can measure.
    pub(crate) leaderless: Duration,
}

/// Watches until converged, or for `timeout`.
pub(crate) async fn watch(session: &Session, goal: &Goal, timeout: Duration) -> Watched {
    let session = &session.ending_within(timeout);
    let mut watch = Watch {
        session,
        goal,
        start: Instant::now(),
        known: BTreeMap::new(),
        leader: None,
        leaderless_since: None,
        blind: false,
        timeline: Timeline::default(),
        backups: Backups::default(),
        stands: Stands::default(),
        blockers: Blockers::default(),
        operator: None,
        unacted: Unacted::default(),
        condemned: None,
        // With a timeout of zero there is one look, and no live lines.
        live: if timeout.is_zero() { None } else { session.out.live() },
        done: Watched::default(),
    };
    watch.run(timeout).await;
    watch.live = None;
    watch.done.timeline = watch.timeline.members();
    if !timeout.is_zero()
        && let Some(table) = watch.timeline.table(session.out.width_of_notes)
    {
        session.out.page(&table);
    }
    watch.done
}

struct Watch<'a> {
    session: &'a Session,
    goal: &'a Goal,
    start: Instant,
    known: BTreeMap<String, Phase>,
    leader: Option<String>,
    leaderless_since: Option<Instant>,
    blind: bool,
    timeline: Timeline,
    backups: Backups,
    stands: Stands,
    blockers: Blockers,
    /// The operator's Deployment.
    operator: Option<ObjectRef>,
    unacted: Unacted,
    /// The leader on a removed member, and what was reported of that.
    condemned: Option<(String, Vec<String>)>,
    /// Lines redrawn in place, where the terminal can.
    live: Option<LiveLines>,
    done: Watched,
}

impl Watch<'_> {
    async fn run(&mut self, timeout: Duration) {
        let deadline = self.session.pace.by(timeout);
        let mut well_since: Option<Instant> = None;
        let mut first = true;
        loop {
            match self.look().await {
                Look::Ended(failure) => {
                    self.done.failure = Some(failure);
                    return;
                }
                Look::Blind(why) => {
                    well_since = None;
                    self.done.missing = vec![why];
                }
                Look::Seen(snapshot) => {
                    self.report(&snapshot).await;
                    if let Some(failure) = self.keep_leader(&snapshot).await {
                        self.done.failure = Some(failure);
                        return;
                    }
                    self.done.missing = missing(self.goal, &snapshot);
                    if self.done.missing.is_empty() {
                        let since = *well_since.get_or_insert_with(Instant::now);
                        // With a timeout of zero one look is enough.
                        if since.elapsed() >= self.session.pace.stable || timeout.is_zero() {
                            self.conclude(&snapshot).await;
                            return;
                        }
                    } else {
                        if !first && well_since.is_some() {
                            self.event(
                                format!("not stable: {}", self.done.missing.join("; ")),
                                true,
                            );
                        }
                        well_since = None;
                    }
                }
            }
            first = false;
            if Instant::now() >= deadline {
                self.done.failure = Some(self.timed_out(timeout));
                return;
            }
            sleep(self.session.pace.poll).await;
        }
    }

    /// Looks once. Reads that fail for the moment do not end the watch: an API server may restart.
    async fn look(&mut self) -> Look {
        let (session, goal) = (self.session, self.goal);
        let cluster = match session.reader.cluster(&goal.namespace, &goal.name).await {
            Ok(cluster) => cluster,
            Err(error) if error.is_not_found() => {
                return Look::Ended(Failure::new(
                    Kind::NotAsPlanned,
                    format!("postgresql {}/{} was deleted meanwhile", goal.namespace, goal.name),
                ));
            }
            Err(error) if error.is_forbidden() => {
                return Look::Ended(crate::session::unreadable(&error, "watch the cluster"));
            }
            Err(error) => return Look::Blind(error.to_string()),
        };
        if let Some(failure) = superseded(goal, &cluster, &session.manager) {
            return Look::Ended(failure);
        }
        let change = Change::of_count(cluster, goal.count);
        let (mut facts, services) = futures::join!(
            session.reader.facts(change, AskWhom::All),
            services::read(&session.client, &goal.namespace, &goal.name)
        );
        session.show_warnings();
        if let Some(why) = nobody_answered(&facts).map(str::to_owned) {
            self.judge_by_annotations(&mut facts, &why);
        }
        Look::Seen(Box::new(Snapshot { facts: facts.into(), services }))
    }

    /// Uses the annotations that members wrote about themselves, where no member can be asked at
    /// all.
    fn judge_by_annotations(&mut self, facts: &mut Facts, why: &str) {
        if let Seen::Known(members) = &mut facts.members {
            for member in members {
                member.live = Live::NotAsked;
            }
        }
        if !self.blind {
            self.blind = true;
            let note = format!(
                "no member could be asked ({why}); judging by their annotations, which may be old"
            );
            self.session.out.warning(&note);
            self.done.notes.push(note);
        }
    }

    /// Reports the changes since the last look.
    async fn report(&mut self, snapshot: &Snapshot) {
        let facts = &snapshot.facts;
        let now = phases(self.goal, snapshot);
        let fresh = self.known.is_empty();
        let mut lines = Vec::new();
        for (member, phase) in &now {
            // The first look reports only members that have not settled.
            let news = self.known.get(member) != Some(phase);
            // Where the operator has not acted, one line says so for all of them.
            let idle = matches!(phase, Phase::Leaving(Leaving::NotActed(_)));
            if news && !idle && !(fresh && phase.is_settled()) {
                // The live lines show it already, unless it is too long for them.
                let shown = self.live.is_none() || phase.trouble().is_some();
                lines.push((format!("{member}: {phase}"), shown));
            }
        }
        for member in self.known.keys().filter(|member| !now.contains_key(*member)) {
            lines.push((format!("{member}: gone"), true));
        }
        let leader = facts.leader_name().map(str::to_owned);
        if let (Some(old), Some(new)) = (&self.leader, &leader)
            && old != new
        {
            let note = format!("the leader changed from {old} to {new}");
            lines.push((note.clone(), true));
            self.done.notes.push(note);
            self.done.leader_changes += 1;
        }
        self.measure(facts, leader.is_some());
        self.leader = leader.or(self.leader.take());
        self.operator = facts.operator.known().map(|operator| operator.deployment.clone());
        for (line, shown) in lines {
            self.event(line, shown);
        }
        for news in self.unacted.observe(self.session, self.goal, facts) {
            match news {
                News::Late(what) => self.event(what, true),
                News::Stuck(why, remedy) => {
                    self.event(why, true);
                    self.session.advise("hint:", remedy);
                }
            }
        }
        self.timeline.observe(facts, &now);
        self.follow(snapshot, &now).await;
        self.known = now;
        if let Some(live) = &self.live {
            live.show(&self.lines());
        }
    }

    /// Reports the progress of base backups, and the obstacles of stalled members.
    async fn follow(&mut self, snapshot: &Snapshot, phases: &BTreeMap<String, Phase>) {
        let (session, goal) = (self.session, self.goal);
        let elapsed = self.start.elapsed();
        let found = self.backups.look(session, &snapshot.facts, phases, elapsed).await;
        if let Some(why) = found.unseen {
            session.out.note(&format!("note: {why}"));
        }
        let moved: BTreeSet<String> = found.moved.into_iter().collect();
        self.stands.observe(progress_of_all(goal, snapshot, phases), &moved);
        let blockers = &mut self.blockers;
        let lines =
            blockers.look(session, goal, snapshot, phases, &self.stands, &found.again).await;
        for line in lines {
            self.event(line, true);
        }
        for line in found.progress {
            self.event(line, self.live.is_none());
        }
    }

    /// Returns the live lines: all members that have not settled, and the added ones that have.
    fn lines(&self) -> Vec<Line> {
        let arrived = self.known.iter().filter(|(name, phase)| {
            matches!(phase, Phase::InService(_)) && self.timeline.follows(name)
        });
        let arrived = arrived.map(|(name, phase)| Line {
            member: name.clone(),
            phase: phase.to_string(),
            settled: true,
            ..Line::default()
        });
        self.stands.iter().map(|(name, stand)| self.line(name, stand)).chain(arrived).collect()
    }

    fn line(&self, name: &str, stand: &Stand) -> Line {
        let progress = self.backups.progress(name, self.start.elapsed());
        let more = self.blockers.of(name).map(ToString::to_string);
        Line {
            member: name.to_owned(),
            phase: stand.progress.words(),
            elapsed: Some(stand.since.elapsed()),
            percent: progress.as_ref().and_then(Progress::percent),
            left: progress.as_ref().and_then(|progress| progress.left),
            settled: false,
            more: more.or_else(|| progress.as_ref().map(Progress::rest)),
        }
    }

    /// Measures for the record of a change: the greatest lag, and the time without a leader.
    fn measure(&mut self, facts: &Facts, led: bool) {
        let lag = facts
            .survivors()
            .filter(|member| !self.goal.unfit.contains(&member.name))
            // A member that is being cloned has no data yet, which is no lag.
            .filter(|member| facts.rebuilding(member).is_none())
            .filter_map(|member| lag_bytes(facts, member))
            .max();
        self.done.worst_lag = self.done.worst_lag.max(lag);
        // Between two looks without a leader there was none. Nothing is claimed for the gaps around
        // them.
        let now = Instant::now();
        if let Some(since) = self.leaderless_since.take()
            && !led
        {
            self.done.leaderless += now.duration_since(since);
        }
        self.leaderless_since = (!led && facts.to() > 0).then_some(now);
    }

    /// Records a change for the report, and prints it unless the live lines do.
    fn event(&mut self, what: String, shown: bool) {
        let seconds = self.start.elapsed().as_secs_f64();
        if shown {
            self.session.out.note(&format!("[{seconds:>6.1}s] {what}"));
        }
        self.done.events.push(Event { seconds: tenths(seconds), what });
    }
}

enum Look {
    Blind(String),
    Ended(Failure),
    Seen(Box<Snapshot>),
}

/// Returns whether a member replicates, from its live answer or, where it was not asked, from its
/// annotation.
pub(crate) fn replicates(member: &Member) -> Option<bool> {
    match (&member.live, &member.report) {
        (Live::Answered(answer), _) => Some(
            answer.replication_state.as_deref() == Some("streaming")
                // Patroni before 3.0.4 never reports it. Then only the position shows it.
                || answer.replication_state.is_none() && answer.received.is_some(),
        ),
        (Live::NotAsked, Seen::Known(report)) => Some(
            report.replication_state.as_deref() == Some("streaming")
                || !report.tells_replication_state(),
        ),
        (Live::NotAsked | Live::Silent(_), _) => None,
    }
}

#[cfg(test)]
mod tests;
