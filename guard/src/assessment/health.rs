//! The health of members, and the candidates for the leader's role.

use crate::assessment::{Assessment, UnknownLag};
use crate::change::Direction;
use crate::facts::{CLOCK_GRACE, Health, Live, Member, Problem, Seen, pod_problems};
use crate::patroni::{Answer, Role, State};
use crate::quantity::in_words;

/// The reason where nothing can be compared with the leader.
const NO_POSITION: &str = "the leader did not report its WAL position";

impl<'a> Assessment<'a> {
    /// Returns the health of `member`, tags aside. [`Assessment::takeover`] judges the tags too.
    pub fn health(&self, member: &Member) -> Health {
        let mut problems = pod_problems(member);
        let mut unknown = None;
        let leads = self.leader_name() == Some(member.name.as_str());
        match &member.live {
            Live::Answered(answer) => {
                self.judge_answer(member, answer, leads, &mut problems, &mut unknown);
            }
            Live::Silent(why) if self.any_member_answered() => {
                problems.push(Problem::Silent(why.clone()));
            }
            Live::Silent(why) => {
                unknown = Some(format!("no member answered; {}: {why}", member.name));
            }
            Live::NotAsked => {
                self.judge_report(member, leads, &mut problems, &mut unknown);
                // An annotation says "running" for ever: a shrink needs the answer of each member
                // it counts on.
                if self.direction() == Direction::Down && (leads || member.ordinal < self.to()) {
                    unknown.get_or_insert(format!("{} was not asked", member.name));
                }
            }
        }
        if !problems.is_empty() {
            return Health::Unhealthy(problems);
        }
        unknown.map_or(Health::Healthy, Health::Unknown)
    }

    /// Returns the health of `member` as a candidate: healthy, not tagged `nofailover`, and with the
    /// watchdog that it needs (`failover_limitation`, patroni/ha.py).
    ///
    /// Under synchronous replication the candidate must be in the set of synchronous standbys too.
    /// Patroni chooses that set again when members are removed: see
    /// [`in_sync_set`](crate::facts::Facts::in_sync_set).
    pub fn takeover(&self, member: &Member) -> Health {
        let tags = match (&member.live, &member.report) {
            (Live::Answered(answer), _) => Some(&answer.tags),
            (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => Some(&report.tags),
            (Live::NotAsked | Live::Silent(_), Seen::Absent | Seen::Unreadable(_)) => None,
        };
        let mut barred = Vec::new();
        if tags.is_some_and(|tags| tags.nofailover) {
            barred.push(Problem::NoFailover);
        }
        if matches!(&member.live, Live::Answered(answer) if answer.watchdog_failed) {
            barred.push(Problem::WatchdogFailed);
        }
        match self.health(member) {
            Health::Healthy | Health::Unknown(_) if !barred.is_empty() => Health::Unhealthy(barred),
            Health::Unhealthy(mut problems) if !barred.is_empty() => {
                problems.extend(barred);
                Health::Unhealthy(problems)
            }
            health @ (Health::Healthy | Health::Unhealthy(_) | Health::Unknown(_)) => health,
        }
    }

    /// Returns the best kept member to lead when the ordinals from `to` upwards are removed.
    ///
    /// It must be fit to take over. A synchronous standby comes before others, one that the leader
    /// itself lists as synchronous first: it has flushed every acknowledged row, and what a replica
    /// says that it received may be written and not flushed. Then comes the member that has received
    /// most WAL, then the lowest ordinal.
    pub fn best_survivor(&self) -> Option<&'a Member> {
        self.facts
            .survivors()
            .filter(|member| Some(member.name.as_str()) != self.leader_name())
            .filter(|member| self.takeover(member) == Health::Healthy)
            .filter(|member| self.in_sync_set(member).is_ok())
            .max_by_key(|member| {
                let sync = self
                    .leader_name()
                    .zip(self.sync.known())
                    .is_some_and(|(leader, sync)| sync.contains(leader, &member.name));
                let received = match &member.live {
                    Live::Answered(answer) => answer.position(),
                    Live::NotAsked | Live::Silent(_) => None,
                };
                let flushed = sync && self.confirms(member);
                (sync, flushed, received, std::cmp::Reverse(member.ordinal))
            })
    }

    /// Returns whether commits wait until `member` has flushed them, by the leader's list of
    /// receivers (`sync_state` of `pg_stat_replication`).
    fn confirms(&self, member: &Member) -> bool {
        let Some(Live::Answered(leader)) = self.leader_member().map(|leader| &leader.live) else {
            return false;
        };
        leader.replication.iter().any(|sender| {
            sender.name.eq_ignore_ascii_case(&member.name)
                && sender.state == "streaming"
                && ["sync", "quorum"].contains(&sender.sync_state.as_str())
        })
    }

    fn judge_answer(
        &self,
        member: &Member,
        answer: &Answer,
        leads: bool,
        problems: &mut Vec<Problem>,
        unknown: &mut Option<String>,
    ) {
        if let Some(how) = self.rebuilding(member) {
            problems.push(Problem::Rebuilding(how));
            return;
        }
        if answer.state != State::Running {
            problems.push(Problem::NotRunning(answer.state.word().to_owned()));
            return;
        }
        if leads {
            if !answer.role.leads() {
                problems.push(Problem::NotRunning(format!(
                    "{:?}, although it holds the lock",
                    answer.role
                )));
            }
            return;
        }
        if answer.role.leads() {
            match self.leader.unreadable() {
                Some(why) => {
                    *unknown = Some(format!(
                        "{} claims to lead, and the leader lock could not be read ({why})",
                        member.name
                    ));
                }
                None => problems.push(Problem::WrongRole),
            }
            return;
        }
        if !answer.streams() || self.is_not_fed(member, answer) {
            problems.push(Problem::NotReplicating);
        }
        if let Some(seconds) = self.without_store(answer) {
            problems.push(Problem::StoreUnreached(seconds));
        }
        if answer.replay_paused {
            problems.push(Problem::ReplayPaused);
        }
        let leader = self.leader_member();
        let leader_answer = leader.and_then(|leader| match &leader.live {
            Live::Answered(answer) => Some(answer),
            Live::NotAsked | Live::Silent(_) => None,
        });
        let Some(leader_answer) = leader_answer else {
            *unknown = Some(NO_POSITION.to_owned());
            return;
        };
        match (answer.timeline, leader_answer.timeline) {
            (Some(own), Some(leader)) if own != leader => {
                problems.push(Problem::Timeline { own, leader });
            }
            (Some(_), Some(_)) => {}
            (Some(_), None) => *unknown = Some("the leader did not report its timeline".to_owned()),
            (None, _) => *unknown = Some(format!("{} did not report its timeline", member.name)),
        }
        match (answer.position(), leader_answer.position()) {
            (Some(own), Some(leader)) if own < leader => {
                problems.push(Problem::Behind(leader - own));
            }
            (Some(_), Some(leader)) => {
                let behind = leader.saturating_sub(answer.replayed.unwrap_or(leader));
                match self.exceeded_by(behind) {
                    Ok(None) => {}
                    Ok(Some(limit)) => {
                        problems.push(Problem::ReplayBehind { bytes: behind, limit });
                    }
                    Err(UnknownLag) if behind == 0 => {}
                    Err(UnknownLag) => {
                        *unknown = Some(format!(
                            "the replay of {} is {} behind and the allowed lag could not be read",
                            member.name,
                            in_words(behind)
                        ));
                    }
                }
            }
            (Some(_), None) => *unknown = Some(NO_POSITION.to_owned()),
            (None, _) => {
                *unknown = Some(format!("{} did not report its WAL position", member.name));
            }
        }
    }

    /// Returns whether the leader's own list of receivers leaves out `member`, whose Patroni does not
    /// say whether it streams.
    ///
    /// Without a new row it looks caught up, however long its receiver is down. A member that
    /// replicates from another is not in that list.
    fn is_not_fed(&self, member: &Member, answer: &Answer) -> bool {
        let Some(Live::Answered(leader)) = self.leader_member().map(|leader| &leader.live) else {
            return false;
        };
        // A list without a version may be missing, and not empty.
        let listed = !leader.replication.is_empty() || leader.version.is_some();
        let fed = leader.replication.iter().any(|it| it.name.eq_ignore_ascii_case(&member.name));
        let asked = !answer.tells_replication_state() && answer.tags.replicate_from.is_none();
        asked && leader.role == Role::Primary && listed && !fed
    }

    /// Returns the seconds for which this member's Patroni has not reached its store, where those are
    /// more than the lock's time to live and another member's has reached it since.
    ///
    /// It is measured against the other members, because all of them may have lost the store, and
    /// their clocks are not the guard's. Patroni reports the time of its last loop that read the
    /// cluster (`get_cluster`, patroni/dcs/__init__.py). A leader that does not report it reached the
    /// store when it renewed the lock.
    fn without_store(&self, answer: &Answer) -> Option<i64> {
        let of = |member: &Member| match &member.live {
            Live::Answered(answer) => answer.dcs_last_seen.map(|it| i64::from(it.get())),
            Live::NotAsked | Live::Silent(_) => None,
        };
        let seen = i64::from(answer.dcs_last_seen?.get());
        let silent = self.leader_member().is_some_and(|leader| of(leader).is_none());
        let renewed = self.leader.known().and_then(|lock| lock.renewed).filter(|_| silent);
        // Any writer may set the annotation to a time that is yet to come.
        let renewed = renewed.map(|renewed| renewed.min(self.now).as_second());
        let last = self.all_members().iter().filter_map(of).chain(renewed).max()?;
        let missed = last.saturating_sub(seen);
        let of_lock = self.leader.known().map(|lock| lock.ttl);
        let ttl = of_lock.or_else(|| Some(self.configuration.known()?.ttl)).unwrap_or(30);
        (missed > ttl.saturating_add(CLOCK_GRACE.as_secs())).then_some(missed)
    }

    /// Judges a member without a live answer by its annotation.
    ///
    /// The annotation may be old: it is enough for growth, and never for a shrink.
    fn judge_report(
        &self,
        member: &Member,
        leads: bool,
        problems: &mut Vec<Problem>,
        unknown: &mut Option<String>,
    ) {
        if let Some(how) = self.rebuilding(member) {
            problems.push(Problem::Rebuilding(how));
            return;
        }
        match &member.report {
            Seen::Known(report) if report.state != State::Running => {
                problems.push(Problem::NotRunning(report.state.word().to_owned()));
            }
            Seen::Known(report) => {
                if !leads && report.tells_replication_state() && report.replication_state.is_none()
                {
                    problems.push(Problem::NotReplicating);
                }
            }
            Seen::Absent => *unknown = Some(format!("{} has not reported yet", member.name)),
            Seen::Unreadable(why) => *unknown = Some(format!("{}: {why}", member.name)),
        }
    }
}
