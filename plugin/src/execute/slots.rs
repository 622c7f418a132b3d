//! Logical replication slots before a switchover: each must be on the candidate, and safe to use
//! there.
//!
//! Patroni copies the slots of its configuration to the replicas, in some loops and with a restart
//! of each replica. A new leader that lacks one makes it at the present position, and its consumer
//! loses what it has not read (`_ensure_logical_slots_primary`, `patroni/postgresql/slots.py`). Only
//! SQL shows which member holds which slot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgscale_guard::duration::human;
use pgscale_guard::facts::{Facts, Live, Seen};
use pgscale_guard::remedy::{Command, Line};
use tokio::time::{Instant, sleep};

use crate::error::Failure;
use crate::exec::sql;
use crate::execute::waiting::Waiting;
use crate::plan::LeaderMove;
use crate::session::{Session, address};

/// The question for the slots of a member. Columns that older versions lack are read from JSON.
const SLOTS: &str = "SELECT slot_name, slot_type, plugin, database, catalog_xmin, \
    to_jsonb(slot) ->> 'failover', to_jsonb(slot) ->> 'synced', to_jsonb(slot) ->> 'wal_status' \
    FROM pg_replication_slots AS slot WHERE NOT temporary ORDER BY slot_name";

/// The time limit of one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One slot of a member.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts as PostgreSQL reports them")]
struct Slot {
    logical: bool,
    plugin: String,
    database: String,
    /// The oldest transaction whose catalog rows the member keeps for it.
    catalog_xmin: Option<u32>,
    /// PostgreSQL 17 itself copies it to standbys.
    failover: bool,
    /// It is such a copy.
    synced: bool,
    /// Its WAL is gone, so no consumer can read from it any more.
    lost: bool,
}

type Slots = BTreeMap<String, Slot>;

/// The look at the slots of one switchover, from the first question to the move.
#[derive(Debug, Default)]
pub(crate) struct LogicalSlots {
    /// `catalog_xmin` of each slot on the leader when the candidate's feedback was first seen.
    first: BTreeMap<String, u32>,
    /// Slots that are safe on the candidate. One that was safe stays so.
    ready: BTreeSet<String>,
    /// Slots that were reported as made by hand.
    by_hand: BTreeSet<String>,
}

impl LogicalSlots {
    /// Waits until the candidate holds every logical slot of the leader that Patroni keeps, and not
    /// beyond the time that a person gave.
    ///
    /// # Errors
    /// They are not there in time, or the slots could not be read where there are some.
    pub(crate) async fn settle(
        &mut self,
        session: &Session,
        facts: &Facts,
        wanted: &LeaderMove,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let deadline = session.pace.by(session.pace.slots);
        let mut waiting = Waiting::begin(session);
        let mut begun = false;
        loop {
            let missing = match self.look(session, facts, wanted).await {
                Ok(missing) if missing.is_empty() => return Ok(()),
                Ok(missing) => missing,
                Err(why) => vec![why],
            };
            if Instant::now() >= deadline {
                let after = format!(" after {}", human(start.elapsed()));
                return Err(refused(session, facts, wanted, &missing, &after));
            }
            if !begun {
                begun = true;
                session.out.note(&format!(
                    "waiting until {} holds the logical replication slots of {} ...",
                    wanted.to, wanted.from
                ));
            }
            waiting.tell(&missing.join("; "));
            sleep(session.pace.poll).await;
        }
    }

    /// Checks once more, just before the move.
    ///
    /// # Errors
    /// A slot was made meanwhile, or is gone from the candidate.
    pub(crate) async fn confirm(
        &mut self,
        session: &Session,
        facts: &Facts,
        wanted: &LeaderMove,
    ) -> Result<(), Failure> {
        let missing = self.look(session, facts, wanted).await.unwrap_or_else(|why| vec![why]);
        if missing.is_empty() {
            return Ok(());
        }
        Err(refused(session, facts, wanted, &missing, ""))
    }

    /// Returns what is still missing, one line for each slot.
    ///
    /// # Errors
    /// The slots of a member could not be read, and some are or may be kept by Patroni.
    async fn look(
        &mut self,
        session: &Session,
        facts: &Facts,
        wanted: &LeaderMove,
    ) -> Result<Vec<String>, String> {
        // Patroni keeps no logical slot in a standby cluster, whose leader cannot decode changes.
        let configuration = facts.configuration.known();
        if configuration.is_some_and(|configuration| configuration.standby_cluster) {
            return Ok(Vec::new());
        }
        let kept = configuration.map(|configuration| configuration.logical_slots());
        let leader = match ask(session, facts, &wanted.from).await {
            Ok(slots) => slots,
            Err(why) => {
                let unread =
                    format!("the replication slots of {} could not be read: {why}", wanted.from);
                if kept.is_some_and(|kept| kept.is_empty()) {
                    self.cannot_tell(session, &unread);
                    return Ok(Vec::new());
                }
                return Err(unread);
            }
        };
        let logical: Vec<(&String, &Slot)> =
            leader.iter().filter(|(_, slot)| slot.logical && !slot.lost).collect();
        let (needed, by_hand): (Vec<_>, Vec<_>) = logical.into_iter().partition(|(name, slot)| {
            slot.failover || kept.as_ref().is_none_or(|kept| kept.contains(name.as_str()))
        });
        for (name, slot) in by_hand {
            self.name_slot_made_by_hand(session, &wanted.from, name, slot);
        }
        if needed.is_empty() {
            return Ok(Vec::new());
        }
        let candidate = ask(session, facts, &wanted.to).await.map_err(|why| {
            format!("the replication slots of {} could not be read: {why}", wanted.to)
        })?;
        let feedback = feedback_slot(facts, &wanted.to);
        let horizon = leader.get(&feedback).and_then(|slot| slot.catalog_xmin);
        let missing = needed.into_iter().filter_map(|(name, slot)| {
            let why = self.lacks(name, slot, candidate.get(name), horizon)?;
            Some(format!("{name}: {}", why.said(&wanted.to, &feedback)))
        });
        Ok(missing.collect())
    }

    /// Returns what the candidate lacks for a slot to be safe there, if anything.
    ///
    /// A copied slot is safe once the leader keeps catalog rows for the candidate (`horizon`) that are
    /// no newer than the copy needs, and has kept them since the slot on the leader needed them
    /// (`_ready_logical_slots`, `patroni/postgresql/slots.py`).
    fn lacks(
        &mut self,
        name: &str,
        leader: &Slot,
        copy: Option<&Slot>,
        horizon: Option<u32>,
    ) -> Option<Lack> {
        let Some(copy) = copy.filter(|copy| copy.logical && !copy.lost) else {
            self.ready.remove(name);
            return Some(Lack::Copy);
        };
        if leader.failover {
            return (!copy.synced).then_some(Lack::Synced);
        }
        if self.ready.contains(name) {
            return None;
        }
        let (Some(horizon), Some(now)) = (horizon, leader.catalog_xmin) else {
            return Some(Lack::Feedback);
        };
        let first = *self.first.entry(name.to_owned()).or_insert(now);
        let safe = copy
            .catalog_xmin
            .is_some_and(|copy| not_newer(first, horizon) && not_newer(horizon, copy));
        if safe {
            self.ready.insert(name.to_owned());
            return None;
        }
        Some(Lack::CatchUp)
    }

    /// Warns of a slot that goes with the leader, once.
    fn name_slot_made_by_hand(&mut self, session: &Session, leader: &str, name: &str, slot: &Slot) {
        if !self.by_hand.insert(name.to_owned()) {
            return;
        }
        session.out.warning(&format!(
            "logical replication slot {name} of {leader} (plugin {}, database {}) is none that Patroni keeps: no \
             other member has it, and its consumer loses what it has not read when the leader moves. Slots under \
             spec.patroni.slots of the manifest are kept.",
            slot.plugin, slot.database
        ));
    }

    /// Says once that slots made by hand cannot be seen.
    fn cannot_tell(&mut self, session: &Session, why: &str) {
        if self.by_hand.insert(String::new()) {
            session.out.warning(&format!(
                "{why}; a logical slot that was made by hand there would go with the leader"
            ));
        }
    }
}

/// What a candidate lacks for one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The slot itself.
    Copy,
    /// A copy by PostgreSQL 17 that is finished.
    Synced,
    /// Rows of the leader's catalog that are kept for it.
    Feedback,
    /// The position from which those rows are kept.
    CatchUp,
}

impl Lack {
    fn said(self, candidate: &str, feedback: &str) -> String {
        match self {
            Self::Copy => format!("not on {candidate} yet"),
            Self::Synced => format!("not synchronised to {candidate} yet (synced is false)"),
            Self::Feedback => format!(
                "not safe on {candidate} yet: slot {feedback} of the leader has no catalog_xmin (hot_standby_feedback)"
            ),
            Self::CatchUp => {
                format!("not safe on {candidate} yet: its catalog_xmin has to pass the leader's")
            }
        }
    }
}

/// Returns whether transaction `one` is not newer than `other`. The numbers wrap around.
fn not_newer(one: u32, other: u32) -> bool {
    other.wrapping_sub(one) < 1 << 31
}

/// Returns the name of the physical slot on the leader through which the feedback of `member` comes
/// (`slot_name_from_member_name` and `get_slot_name_on_primary`, `patroni/dcs/__init__.py`). A
/// member that replicates from another one sends it through that one.
fn feedback_slot(facts: &Facts, member: &str) -> String {
    let mut name = member;
    let leader = facts.leader_name();
    // A chain is no longer than the cluster has members.
    for _ in facts.all_members() {
        let source = facts.member(name).and_then(|member| match (&member.live, &member.report) {
            (Live::Answered(answer), _) => answer.tags.replicate_from.as_deref(),
            (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => {
                report.tags.replicate_from.as_deref()
            }
            (Live::NotAsked | Live::Silent(_), Seen::Absent | Seen::Unreadable(_)) => None,
        });
        match source.filter(|source| Some(*source) != leader) {
            Some(source) if facts.member(source).is_some() => name = source,
            Some(_) | None => break,
        }
    }
    name.to_ascii_lowercase().replace(['-', '.'], "_").chars().take(63).collect()
}

async fn ask(session: &Session, facts: &Facts, member: &str) -> Result<Slots, String> {
    let pod = address(facts, member);
    let rows = sql(session.exec.as_ref(), &pod, SLOTS, PATIENCE).await;
    read(&rows.map_err(|error| error.to_string())?)
}

fn read(rows: &[Vec<String>]) -> Result<Slots, String> {
    rows.iter()
        .map(|row| match row.as_slice() {
            [name, kind, plugin, database, catalog_xmin, failover, synced, wal_status] => Ok((
                name.clone(),
                Slot {
                    logical: kind == "logical",
                    plugin: plugin.clone(),
                    database: database.clone(),
                    catalog_xmin: catalog_xmin.parse().ok(),
                    failover: failover == "true",
                    synced: synced == "true",
                    lost: wal_status == "lost",
                },
            )),
            row => Err(format!("psql printed an unexpected row: {row:?}")),
        })
        .collect()
}

/// Returns the failure of a leader that is not moved because of its slots.
fn refused(
    session: &Session,
    facts: &Facts,
    wanted: &LeaderMove,
    missing: &[String],
    after: &str,
) -> Failure {
    let cluster = &facts.change.new;
    let inside = |words: &[&str]| {
        let pod = ["exec", &wanted.to, "-n", &cluster.namespace, "-c", "postgres", "--"];
        Command::kubectl(pod.iter().chain(words)).reached_by(&session.reach)
    };
    let look = "SELECT slot_name, plugin, database, catalog_xmin, active FROM pg_replication_slots";
    Failure::refused(format!(
        "the leader of {} is not moved: {} does not hold every logical replication slot of {}{after}, and \
         consumers would lose changes; nothing was changed",
        cluster.name, wanted.to, wanted.from
    ))
    .with(missing.iter().cloned().map(Line::Text))
    .hint_to(
        "Patroni copies slots within some loops: run it again. What the candidate holds",
        inside(&["psql", "-U", "postgres", "-c", look]),
    )
    .hint_to(
        "the slots that Patroni keeps. One that no consumer needs can be taken out",
        inside(&["patronictl", "show-config", &cluster.name]),
    )
}

#[cfg(test)]
mod tests;
