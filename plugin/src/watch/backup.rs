//! The progress of base backups, as reported by the leader that sends them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pgscale_guard::duration::human;
use pgscale_guard::facts::Facts;

use super::phase::Phase;
use crate::exec::{self, ExecError};
use crate::session::{Session, address};
use crate::terminal::text::bytes;

/// The number of looks for one question to the leader while a member is cloned. An exec every
/// second would burden it, and a percentage and a rate need no more.
const EVERY: u32 = 5;

/// The time limit of one answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The number of samples for the rate: at one in five seconds, the last minute.
const SAMPLES: usize = 12;

/// The step in per cent, or in time, after which a line is due.
const STEP: u64 = 10;
const PAUSE: Duration = Duration::from_secs(30);

/// The question for the progress. PostgreSQL 13 and later answer it. `backup_total` is NULL until
/// the size is estimated, and always with `--no-estimate-size`.
const QUESTION: &str = "SELECT pid, r.application_name, host(r.client_addr), p.phase, p.backup_total, \
                        p.backup_streamed FROM pg_stat_progress_basebackup p JOIN pg_stat_replication r USING (pid)";

/// One base backup, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    pid: String,
    application: String,
    address: String,
    phase: String,
    total: Option<u64>,
    streamed: u64,
}

impl Row {
    fn of(columns: &[String]) -> Option<Self> {
        let [pid, application, address, phase, total, streamed] = columns else { return None };
        Some(Self {
            pid: pid.clone(),
            application: application.clone(),
            address: address.clone(),
            phase: phase.clone(),
            total: total.parse().ok(),
            streamed: streamed.parse().unwrap_or(0),
        })
    }
}

/// The progress of one base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// PostgreSQL's word for its work, such as `streaming database files`.
    pub(crate) step: String,
    /// Estimated bytes to send. `None` without an estimate.
    pub(crate) total: Option<u64>,
    /// Bytes sent.
    pub(crate) streamed: u64,
    /// The remaining time at the rate measured last.
    pub(crate) left: Option<Duration>,
}

impl Progress {
    /// Returns per cent sent. Never above 100, because the total is an estimate.
    pub(crate) fn percent(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        u64::try_from(u128::from(self.streamed.min(total)) * 100 / u128::from(total)).ok()
    }

    /// Returns `42 % of 12.3 GiB, about 3m5s left`.
    pub(crate) fn words(&self) -> String {
        let mut words = match (self.percent(), self.total) {
            (Some(percent), Some(total)) => format!("{percent} % of {}", bytes(total)),
            _ if self.streamed > 0 => format!("{} so far", bytes(self.streamed)),
            _ => self.step.clone(),
        };
        if let Some(left) = self.left {
            words = format!("{words}, about {} left", human(left));
        }
        words
    }

    /// Returns the details beside a line that shows per cent and time left.
    pub(crate) fn rest(&self) -> String {
        match (self.percent(), self.total) {
            (Some(_), Some(total)) => format!("of {}", bytes(total)),
            _ => self.words(),
        }
    }
}

/// The base backups of a watch.
#[derive(Default)]
pub(crate) struct Backups {
    asked: Option<Duration>,
    known: BTreeMap<String, Backup>,
    /// The failure to see them was reported.
    said: bool,
    /// The backups will never be seen.
    hidden: bool,
}

struct Backup {
    pid: String,
    samples: VecDeque<(Duration, u64)>,
    progress: Progress,
    reported: Option<(Duration, Progress)>,
}

/// The result of a look at the base backups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Lines on progress that are due.
    pub(crate) progress: Vec<String>,
    /// Members whose base backup began again, each with its line.
    pub(crate) again: Vec<String>,
    /// Members that received data since the last answer.
    pub(crate) moved: Vec<String>,
    /// The reason for which nothing can be seen, reported once.
    pub(crate) unseen: Option<String>,
}

impl Backups {
    /// Asks the leader, where a member is cloned and the time has come. `now` is the time since the
    /// watch began.
    pub(crate) async fn look(
        &mut self,
        session: &Session,
        facts: &Facts,
        phases: &BTreeMap<String, Phase>,
        now: Duration,
    ) -> Found {
        let cloned: BTreeMap<String, String> = phases
            .iter()
            .filter(|(_, phase)| **phase == Phase::Cloning)
            .filter_map(|(name, _)| Some((name.clone(), facts.member(name)?.pod.ip.clone()?)))
            .collect();
        self.known.retain(|member, _| cloned.contains_key(member));
        if cloned.is_empty() {
            self.asked = None;
            return Found::default();
        }
        let pause = session.pace.poll * EVERY;
        let turn = self.asked.is_none_or(|asked| now.saturating_sub(asked) >= pause);
        let Some(leader) = facts.leader_name().filter(|_| turn && !self.hidden) else {
            return Found::default();
        };
        self.asked = Some(now);
        let leader = address(facts, leader);
        match exec::sql(session.exec.as_ref(), &leader, QUESTION, PATIENCE).await {
            Ok(rows) => {
                let rows = rows.iter().filter_map(|columns| Row::of(columns)).collect();
                self.take(&cloned, rows, now)
            }
            Err(why) => {
                // A missing permission, or PostgreSQL before 13, which says `relation "…" does not
                // exist`: that does not change. A leader that is busy may answer later.
                self.hidden = match &why {
                    ExecError::Forbidden(_) => true,
                    ExecError::NoConnection => false,
                    ExecError::Failed(said) => said.contains("does not exist"),
                };
                let first = !std::mem::replace(&mut self.said, true);
                let unseen =
                    first.then(|| format!("the progress of base backups cannot be seen: {why}"));
                Found { unseen, ..Found::default() }
            }
        }
    }

    /// Returns the progress of `member` at the leader's last answer, with the time left at `now`.
    pub(crate) fn progress(&self, member: &str, now: Duration) -> Option<Progress> {
        let backup = self.known.get(member)?;
        let (sampled, _) = backup.samples.back()?;
        let since = now.saturating_sub(*sampled);
        // A backup past its estimated end takes longer than estimated, and its time left is not
        // known.
        let left = backup.progress.left.and_then(|left| left.checked_sub(since));
        let left = left.filter(|left| !left.is_zero());
        Some(Progress { left, ..backup.progress.clone() })
    }

    /// Takes the leader's rows into account. `cloned` holds the addresses of the members that are
    /// cloned.
    fn take(&mut self, cloned: &BTreeMap<String, String>, rows: Vec<Row>, now: Duration) -> Found {
        let mut found = Found::default();
        for (member, row) in matched(cloned, rows) {
            let begun_anew = self.known.get(&member).is_some_and(|backup| backup.pid != row.pid);
            if begun_anew {
                found.again.push(member.clone());
                self.known.remove(&member);
            }
            let fresh = !self.known.contains_key(&member);
            let backup = self.known.entry(member.clone()).or_insert_with(|| Backup::of(&row));
            if fresh || backup.samples.back().is_some_and(|(_, before)| row.streamed > *before) {
                found.moved.push(member.clone());
            }
            backup.samples.push_back((now, row.streamed));
            if backup.samples.len() > SAMPLES {
                backup.samples.pop_front();
            }
            let left = left(backup.samples.make_contiguous(), row.total);
            backup.progress =
                Progress { step: row.phase, total: row.total, streamed: row.streamed, left };
            let reported = backup
                .reported
                .as_ref()
                .map(|(time, reported)| (now.saturating_sub(*time), reported));
            if due(reported, &backup.progress) {
                backup.reported = Some((now, backup.progress.clone()));
                found.progress.push(format!("{member}: base backup, {}", backup.progress.words()));
            }
        }
        found
    }
}

impl Backup {
    fn of(row: &Row) -> Self {
        let progress = Progress {
            step: row.phase.clone(),
            total: row.total,
            streamed: row.streamed,
            left: None,
        };
        Self { pid: row.pid.clone(), samples: VecDeque::new(), progress, reported: None }
    }
}

/// Returns the member of each row: by address, else by name, else, where one is cloned and one
/// backup runs, those two.
fn matched(cloned: &BTreeMap<String, String>, mut rows: Vec<Row>) -> Vec<(String, Row)> {
    let alone = cloned.len() == 1 && rows.len() == 1;
    let mut matched = Vec::new();
    for (member, address) in cloned {
        let own = rows
            .iter()
            .position(|row| row.address == *address)
            .or_else(|| rows.iter().position(|row| row.application == *member))
            .or(alone.then_some(0));
        if let Some(own) = own {
            matched.push((member.clone(), rows.remove(own)));
        }
    }
    matched
}

/// Returns the remaining time at the rate between the first and the last of `samples`: (time, bytes
/// sent by then). `None` without a total, before two samples, or where nothing moved.
fn left(samples: &[(Duration, u64)], total: Option<u64>) -> Option<Duration> {
    let (first, last) = (samples.first()?, samples.last()?);
    let sent = last.1.checked_sub(first.1).filter(|sent| *sent > 0)?;
    let took = last.0.checked_sub(first.0).filter(|took| !took.is_zero())?;
    let rest = total?.saturating_sub(last.1);
    let milliseconds = u128::from(rest) * took.as_millis() / u128::from(sent);
    // Up to the next whole second: "0s left" would be read as done.
    u64::try_from(milliseconds.div_ceil(1000)).ok().map(Duration::from_secs)
}

/// Returns whether a line on `now` is due after the last line and its time.
fn due(reported: Option<(Duration, &Progress)>, now: &Progress) -> bool {
    let Some((ago, reported)) = reported else { return true };
    let steps = |progress: &Progress| progress.percent().map(|percent| percent / STEP);
    *reported != *now && (ago >= PAUSE || steps(reported) != steps(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn row(pid: &str, address: &str, total: Option<u64>, streamed: u64) -> Row {
        Row {
            pid: pid.into(),
            application: "pg_basebackup".into(),
            address: address.into(),
            phase: "streaming database files".into(),
            total,
            streamed,
        }
    }

    fn cloned(ordinals: &[u64]) -> BTreeMap<String, String> {
        ordinals
            .iter()
            .map(|one| (format!("acid-a-{one}"), format!("10.244.0.{}", 10 + one)))
            .collect()
    }

    #[test]
    fn the_time_left_is_measured_and_never_guessed() {
        for (samples, total, want) in [
            (&[][..], Some(100), None),
            (&[(at(0), 50)], Some(100), None),
            (&[(at(0), 50), (at(5), 50)], Some(100), None),
            (&[(at(0), 50), (at(5), 40)], Some(100), None),
            (&[(at(5), 50), (at(5), 60)], Some(100), None),
            (&[(at(0), 50), (at(5), 60)], None, None),
            (&[(at(0), 50), (at(5), 60)], Some(100), Some(at(20))),
            (&[(at(0), 0), (at(5), 60), (at(10), 70)], Some(101), Some(at(5))),
            (&[(at(0), 0), (at(5), 120)], Some(100), Some(at(0))),
            (&[(at(0), 0), (at(1), 1)], Some(u64::MAX), Some(at(u64::MAX - 1))),
        ] {
            assert_eq!(left(samples, total), want, "{samples:?} {total:?}");
        }
    }

    #[test]
    fn per_cent_follow_the_estimate_and_stay_below_it() {
        let progress = |total, streamed| Progress {
            step: "waiting for checkpoint to finish".into(),
            total,
            streamed,
            left: None,
        };
        for (total, streamed, want, words) in [
            (Some(200), 84, Some(42), "42 % of 200 B"),
            (Some(200), 300, Some(100), "100 % of 200 B"),
            (Some(0), 300, None, "300 B so far"),
            (None, 5 << 20, None, "5.0 MiB so far"),
            (None, 0, None, "waiting for checkpoint to finish"),
            (Some(u64::MAX), u64::MAX, Some(100), "100 % of 16777215.9 TiB"),
        ] {
            let progress = progress(total, streamed);
            assert_eq!((progress.percent(), progress.words().as_str()), (want, words));
        }
        let left = Progress { left: Some(at(185)), ..progress(Some(200), 84) };
        assert_eq!(left.words(), "42 % of 200 B, about 3m5s left");
    }

    #[test]
    fn several_backups_are_distinguished() {
        let rows = vec![row("7", "10.244.0.14", Some(9), 1), row("8", "10.244.0.13", Some(9), 2)];
        let pids = |cloned: &BTreeMap<String, String>, rows: Vec<Row>| -> Vec<(String, String)> {
            matched(cloned, rows).into_iter().map(|(member, row)| (member, row.pid)).collect()
        };
        let pair = |member: &str, pid: &str| (member.to_owned(), pid.to_owned());
        assert_eq!(
            pids(&cloned(&[3, 4]), rows.clone()),
            [pair("acid-a-3", "8"), pair("acid-a-4", "7")]
        );
        // Behind an address that is translated one member and one row belong together. Two of each
        // cannot be assigned.
        let elsewhere = row("9", "192.168.0.1", None, 1);
        assert_eq!(pids(&cloned(&[3]), vec![elsewhere.clone()]), [pair("acid-a-3", "9")]);
        assert_eq!(pids(&cloned(&[3, 4]), vec![elsewhere.clone()]), []);
        let named = Row { application: "acid-a-4".into(), ..elsewhere };
        assert_eq!(pids(&cloned(&[3, 4]), vec![named]), [pair("acid-a-4", "9")]);
    }

    #[test]
    fn a_line_is_due_every_ten_per_cent_or_thirty_seconds() {
        let mut backups = Backups::default();
        let mut said = Vec::new();
        for (seconds, streamed) in
            [(0, 0), (5, 5), (10, 12), (15, 14), (20, 16), (40, 18), (45, 18), (75, 18), (80, 99)]
        {
            let found = backups.take(
                &cloned(&[3]),
                vec![row("7", "10.244.0.13", Some(100), streamed)],
                at(seconds),
            );
            said.extend(found.progress.into_iter().map(|line| format!("{seconds}: {line}")));
        }
        insta::assert_snapshot!(said.join("\n"), @"
        0: acid-a-3: base backup, 0 % of 100 B
        10: acid-a-3: base backup, 12 % of 100 B, about 74s left
        40: acid-a-3: base backup, 18 % of 100 B, about 3m3s left
        75: acid-a-3: base backup, 18 % of 100 B, about 5m42s left
        80: acid-a-3: base backup, 99 % of 100 B, about 1s left
        ");
    }

    #[test]
    fn backup_that_begins_again_is_reported_and_measured_again() {
        let mut backups = Backups::default();
        let one = cloned(&[3]);
        backups.take(&one, vec![row("7", "10.244.0.13", Some(100), 10)], at(0));
        let same = backups.take(&one, vec![row("7", "10.244.0.13", Some(100), 10)], at(5));
        assert_eq!((same.again.len(), same.moved.len()), (0, 0));
        let anew = backups.take(&one, vec![row("8", "10.244.0.13", Some(100), 20)], at(10));
        assert_eq!((anew.again, anew.moved.len()), (vec!["acid-a-3".to_owned()], 1));
        assert_eq!(backups.progress("acid-a-3", at(10)).unwrap().left, None);
    }

    #[test]
    fn the_time_left_runs_between_two_answers() {
        let mut backups = Backups::default();
        for (seconds, streamed) in [(0, 0), (5, 25)] {
            backups.take(
                &cloned(&[3]),
                vec![row("7", "10.244.0.13", Some(100), streamed)],
                at(seconds),
            );
        }
        for (now, left) in [(5, Some(15)), (9, Some(11)), (20, None), (90, None)] {
            assert_eq!(backups.progress("acid-a-3", at(now)).unwrap().left, left.map(at), "{now}");
        }
        assert_eq!(backups.progress("acid-a-4", at(5)), None);
    }

    #[test]
    fn row_of_another_shape_is_ignored() {
        let columns = |row: &[&str]| row.iter().map(ToString::to_string).collect::<Vec<_>>();
        let read =
            Row::of(&columns(&["7", "pg_basebackup", "10.244.0.13", "initializing", "", "0"]));
        assert_eq!(read.map(|row| (row.total, row.streamed)), Some((None, 0)));
        assert_eq!(Row::of(&columns(&["7"])), None);
    }
}
