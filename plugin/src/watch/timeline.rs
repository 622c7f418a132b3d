//! The time at which each new member reached each phase: the measured timeline of a growth.
//!
//! The time is that of an object where it carries one. Elsewhere it is that of the look, which is
//! at most one look late. Nothing is claimed for changes before the first look.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::facts::{Facts, Live, Member};
use pgscale_guard::{Seen, postgresql::Postgresql};

use super::phase::Phase;
use crate::terminal::text::{Cell, fitted, tenths};

/// The greatest age in seconds of a write that counts as the cause of the present growth.
const SAME_CHANGE: i64 = 24 * 3600;

/// A phase that every new member passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Milestone {
    Created,
    Scheduled,
    Started,
    Configured,
    BaseBackup,
    Streaming,
    InService,
}

impl Milestone {
    const ALL: [Self; 7] = [
        Self::Created,
        Self::Scheduled,
        Self::Started,
        Self::Configured,
        Self::BaseBackup,
        Self::Streaming,
        Self::InService,
    ];

    /// Returns its column.
    fn column(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Scheduled => "SCHEDULED",
            Self::Started => "STARTED",
            Self::Configured => "CONFIGURED",
            Self::BaseBackup => "BASE BACKUP",
            Self::Streaming => "STREAMING",
            Self::InService => "IN SERVICE",
        }
    }
}

/// The timeline of one new member.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberTimeline {
    /// Its name.
    pub(crate) member: String,
    /// The milestones that it reached, in that order, in seconds from the write of the count.
    /// Milestones that were not seen are left out.
    pub(crate) reached: Vec<(Milestone, f64)>,
}

/// The origin of the seconds of a timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Origin {
    /// The write of the count.
    Write(Timestamp),
    /// The first look, because no write is known, or it is old.
    FirstLook(Timestamp),
}

/// The timelines of all new members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    origin: Option<Origin>,
    tracks: BTreeMap<String, Track>,
}

#[derive(Clone, Debug)]
struct Track {
    /// Distinguishes one pod from the next of the same name.
    created: Option<Timestamp>,
    /// The member is new. Settled members have no timeline.
    is_new: bool,
    /// Its milestones with their times. `None` for those before the first look.
    marks: BTreeMap<Milestone, Option<f64>>,
}

impl Timeline {
    /// Takes one look, made at `facts.now`, into account.
    pub(crate) fn observe(&mut self, facts: &Facts, phases: &BTreeMap<String, Phase>) {
        let first = self.origin.is_none();
        let origin = *self.origin.get_or_insert_with(|| origin(&facts.change.new, facts.now));
        let from = match origin {
            Origin::Write(time) | Origin::FirstLook(time) => time,
        };
        for (name, phase) in phases {
            let Some(member) = facts.member(name).filter(|_| !phase.ends()) else {
                continue;
            };
            let created = member.pod.created;
            let came = created.is_some_and(|time| time >= from);
            let is_new = if first { phase.is_early() || came && !phase.is_settled() } else { came };
            let track =
                self.tracks.entry(name.clone()).or_insert_with(|| Track::of(created, is_new));
            if track.created != created {
                *track = Track::of(created, is_new);
            }
            for (milestone, time) in reached(member, phase) {
                // A milestone that has no time of its own and existed before the first look has no
                // time at all.
                let at = time.or((!first).then_some(facts.now));
                track.marks.entry(milestone).or_insert_with(|| at.map(|at| seconds(from, at)));
            }
        }
    }

    /// Returns whether this member has a timeline.
    pub(crate) fn follows(&self, member: &str) -> bool {
        self.tracks.get(member).is_some_and(|track| track.is_new)
    }

    fn new_members(&self) -> impl Iterator<Item = (&String, &Track)> {
        self.tracks.iter().filter(|(_, track)| track.is_new)
    }

    /// Returns the table for a person. `None` where no member was added.
    pub(crate) fn table(&self, width: Option<usize>) -> Option<String> {
        self.new_members().next()?;
        let mut header = vec!["MEMBER"];
        header.extend(Milestone::ALL.map(Milestone::column));
        let rows: Vec<Vec<Cell>> = self
            .new_members()
            .map(|(name, track)| {
                let cell = |milestone: Milestone| {
                    let seconds = track.marks.get(&milestone).copied().flatten();
                    seconds.map_or(String::new(), |seconds| format!("{seconds:.0}")).into()
                };
                std::iter::once(name.as_str().into()).chain(Milestone::ALL.map(cell)).collect()
            })
            .collect();
        let since = match self.origin {
            Some(Origin::Write(_)) => "the count was written",
            Some(Origin::FirstLook(_)) | None => "the wait began",
        };
        Some(format!("Timeline, in seconds since {since}:\n{}", fitted(&header, &rows, width)))
    }

    /// Returns the timelines of all new members.
    pub(crate) fn members(&self) -> Vec<MemberTimeline> {
        self.new_members()
            .map(|(name, track)| {
                let marks = track.marks.iter();
                let seen = marks.filter_map(|(milestone, at)| Some((*milestone, tenths((*at)?))));
                MemberTimeline { member: name.clone(), reached: seen.collect() }
            })
            .collect()
    }
}

impl Track {
    fn of(created: Option<Timestamp>, is_new: bool) -> Self {
        Self { created, is_new, marks: BTreeMap::new() }
    }
}

/// Returns the time that the API server noted for the last write of the count, unless that was long
/// ago.
fn origin(cluster: &Postgresql, now: Timestamp) -> Origin {
    let written = cluster.count_managers.iter().filter_map(|(.., time)| *time).max();
    match written {
        Some(time) if now.as_second() - time.as_second() < SAME_CHANGE => Origin::Write(time),
        Some(_) | None => Origin::FirstLook(now),
    }
}

/// Returns the milestones of `member`, with their times where an object has one.
fn reached(member: &Member, phase: &Phase) -> Vec<(Milestone, Option<Timestamp>)> {
    let pod = &member.pod;
    let reported =
        matches!(member.report, Seen::Known(_)) || matches!(member.live, Live::Answered(_));
    let streams = phase.is_settled();
    [
        (true, Milestone::Created, pod.created),
        (pod.node.is_some() || pod.scheduled.is_some(), Milestone::Scheduled, pod.scheduled),
        (pod.containers_running, Milestone::Started, pod.started),
        (pod.containers_running && reported, Milestone::Configured, None),
        (*phase == Phase::Cloning, Milestone::BaseBackup, None),
        (streams, Milestone::Streaming, None),
        (matches!(phase, Phase::InService(_)), Milestone::InService, None),
    ]
    .into_iter()
    .filter(|(there, ..)| *there)
    .map(|(_, milestone, time)| (milestone, time))
    .collect()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;
    use crate::testing::{facts, now, with};
    use crate::watch::phase::Behind;

    fn after(seconds: i64) -> Timestamp {
        now() + SignedDuration::from_secs(seconds)
    }

    /// Takes a look `seconds` after the write, at which member 2 is in `phase`.
    fn look(
        seconds: i64,
        phase: Phase,
        change: impl FnOnce(&mut Member),
    ) -> (Facts, BTreeMap<String, Phase>) {
        let mut facts = with(facts(3, 3, 0), 2, |member| {
            member.pod.created = Some(after(1));
            member.report = Seen::Absent;
            member.live = Live::Silent("connection refused".into());
            change(member);
        });
        facts.now = after(seconds);
        facts.change.new.count_managers =
            vec![("kubectl-pgscale".into(), "Update".into(), Some(now()))];
        let phases = BTreeMap::from([
            ("acid-a-1".to_owned(), Phase::InService("replica")),
            ("acid-a-2".to_owned(), phase),
        ]);
        (facts, phases)
    }

    fn pending(member: &mut Member) {
        member.pod.containers_running = false;
        member.pod.node = None;
    }

    fn started(member: &mut Member) {
        member.pod.scheduled = Some(after(4));
        member.pod.started = Some(after(9));
    }

    fn reported(member: &mut Member) {
        started(member);
        member.report = crate::testing::member(2, false).report;
    }

    #[test]
    fn times_come_from_objects_or_else_from_looks() {
        let mut timeline = Timeline::default();
        let mut alone = look(0, Phase::Created(None), |_| ());
        alone.1.remove("acid-a-2");
        for (facts, phases) in vec![
            alone,
            look(2, Phase::Created(None), pending),
            look(12, Phase::Started, started),
            look(15, Phase::Configured, reported),
            look(16, Phase::Cloning, reported),
            look(90, Phase::Behind(Behind::Rebuilding("starting".into())), reported),
            look(95, Phase::Streaming, reported),
            look(97, Phase::InService("replica"), reported),
            look(98, Phase::InService("replica"), reported),
        ] {
            timeline.observe(&facts, &phases);
        }
        insta::assert_snapshot!(timeline.table(None).unwrap(), @r"
        Timeline, in seconds since the count was written:
        MEMBER     CREATED   SCHEDULED   STARTED   CONFIGURED   BASE BACKUP   STREAMING   IN SERVICE
        acid-a-2   1         4           9         15           16            95          97
        ");
        assert_eq!(timeline.members()[0].reached[2], (Milestone::Started, 9.0));
    }

    #[test]
    fn times_before_the_first_look_are_not_guessed() {
        let mut timeline = Timeline::default();
        for (facts, phases) in
            [look(60, Phase::Cloning, reported), look(70, Phase::Streaming, reported)]
        {
            timeline.observe(&facts, &phases);
        }
        assert!(timeline.follows("acid-a-2") && !timeline.follows("acid-a-1"));
        insta::assert_snapshot!(timeline.table(None).unwrap(), @r"
        Timeline, in seconds since the count was written:
        MEMBER     CREATED   SCHEDULED   STARTED   CONFIGURED   BASE BACKUP   STREAMING   IN SERVICE
        acid-a-2   1         4           9         -            -             70          -
        ");
    }

    #[test]
    fn settled_member_and_old_write_make_no_timeline() {
        let mut timeline = Timeline::default();
        let (facts, phases) = look(60, Phase::InService("replica"), reported);
        timeline.observe(&facts, &phases);
        assert_eq!((timeline.table(None), timeline.members().len()), (None, 0));
        let cluster = &facts.change.new;
        assert_eq!(origin(cluster, after(60)), Origin::Write(now()));
        assert_eq!(origin(cluster, after(SAME_CHANGE)), Origin::FirstLook(after(SAME_CHANGE)));
    }

    #[test]
    fn recreated_pod_starts_a_new_timeline() {
        let mut timeline = Timeline::default();
        let anew = |member: &mut Member| {
            pending(member);
            member.pod.created = Some(after(40));
        };
        for (facts, phases) in [
            look(0, Phase::Created(None), pending),
            look(12, Phase::Started, started),
            look(41, Phase::Created(None), anew),
        ] {
            timeline.observe(&facts, &phases);
        }
        assert_eq!(timeline.members()[0].reached, [(Milestone::Created, 40.0)]);
    }
}
