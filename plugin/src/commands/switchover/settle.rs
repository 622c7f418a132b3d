//! The wait after a switchover: until the standbys follow the new leader, and until the shrink that
//! it was for is admitted.

use std::time::Duration;

use pgscale_guard::change::Direction;
use pgscale_guard::facts::Health;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use pgscale_guard::remedy::{Line, Reach, Remedy};
use pgscale_guard::verdict::Finding;
use pgscale_guard::{Assessed, Assessment, Change, evaluate};
use tokio::time::{Instant, sleep};

use crate::document::Admitted;
use crate::error::{Failure, Kind};
use crate::execute::waiting::Waiting;
use crate::plan::{Unfit, describe, unfit};
use crate::session::Session;
use crate::terminal::text::instances;

/// The conditions that the wait is for.
pub(super) struct Settling<'a> {
    pub(super) session: &'a Session,
    /// The cluster before anything was done.
    pub(super) before: &'a Assessed,
    /// The leader has moved, so the standbys have to follow it.
    pub(super) moved: bool,
    /// The count that a shrink is to be admitted to.
    pub(super) count: Option<i64>,
}

/// The state that the cluster reached.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Facts that are worth knowing and no failure.
    pub(super) notes: Vec<String>,
    /// The count that is admitted, and the next command.
    pub(super) next: Option<Admitted>,
}

/// The cluster at one look.
enum Look {
    /// Nothing is missing.
    Well(Option<Admitted>),
    Lacks(Missing),
}

/// The reason for not having read the cluster's object.
enum Unread {
    /// Another look may help.
    Now(String),
    /// No other look will help.
    Ever(Failure),
}

/// The conditions that are still missing.
#[derive(Debug, Default)]
struct Missing {
    /// Members that do not follow, and everything else that cannot be counted on.
    late: Vec<String>,
    /// The findings that refuse the count.
    denials: Vec<Finding>,
}

impl Missing {
    fn late(why: String) -> Self {
        Self { late: vec![why], denials: Vec::new() }
    }

    /// Returns the missing conditions in one line.
    fn line(&self) -> String {
        let denials = self.denials.iter().map(|it| format!("{}: {}", it.rule, it.message));
        self.late.iter().cloned().chain(denials).collect::<Vec<_>>().join("; ")
    }

    /// Returns the missing conditions in full, with the remedy of each rule.
    fn lines(&self, reach: &Reach) -> Vec<Line> {
        let late = self.late.iter().map(|why| Line::Text(format!("  {why}")));
        let denials = self.denials.iter().flat_map(|denial| {
            let remedy = denial.remedy.clone().map(|remedy| remedy.reached_by(reach));
            Finding { remedy, ..denial.clone() }.lines()
        });
        late.chain(denials).collect()
    }
}

impl Settling<'_> {
    /// Waits until nothing is missing, or for `timeout`. It does not wait for members that were not
    /// fit before.
    ///
    /// # Errors
    /// `Timeout` with everything that is still missing. It comes sooner where the cluster is
    /// gone, or another writer has set a count that makes this one no shrink.
    pub(super) async fn wait(&self, timeout: Duration) -> Result<Settled, Failure> {
        if self.moved {
            let means = "interrupted; the leader has moved, the standbys follow it";
            self.session.interruption.means(means);
        }
        let deadline = self.session.pace.by(timeout);
        let known = if self.moved { unfit(&self.before.assessment()) } else { Vec::new() };
        let mut waiting = Waiting::begin(self.session);
        loop {
            let missing = match self.look(&known).await? {
                Look::Well(next) => {
                    let notes = known
                        .into_iter()
                        .map(|unfit| format!("{} was not fit before: {}", unfit.pod, unfit.why));
                    return Ok(Settled { notes: notes.collect(), next });
                }
                Look::Lacks(missing) => missing,
            };
            if Instant::now() >= deadline {
                return Err(self.timed_out(&missing));
            }
            waiting.tell(&missing.line());
            sleep(self.session.pace.poll).await;
        }
    }

    async fn look(&self, known: &[Unfit]) -> Result<Look, Failure> {
        let session = self.session;
        let Some(count) = self.count else {
            let facts = session.reader.facts(self.before.change.clone(), AskWhom::All).await;
            session.show_warnings();
            return Ok(look_at(late(&Assessment::new(&facts, None), known), Vec::new(), None));
        };
        let cluster = match self.cluster().await {
            Ok(cluster) => cluster,
            Err(Unread::Now(why)) => return Ok(Look::Lacks(Missing::late(why))),
            Err(Unread::Ever(failure)) => return Err(failure),
        };
        let (name, declared) = (cluster.name.clone(), cluster.instances);
        if declared == Some(count) {
            let next = self.next(&["wait", &name]);
            let said = format!("numberOfInstances is {count} already; to wait for it");
            return Ok(Look::Well(Some(Admitted { instances: count, said, next, note: None })));
        }
        let change = Change::of_count(cluster, count);
        let (facts, policies) = session.facts(change, AskWhom::All).await;
        session.show_warnings();
        if self.before.direction() == Direction::Down && facts.direction() != Direction::Down {
            return Err(self.superseded(declared, count));
        }
        let mut late =
            if self.moved { late(&Assessment::of(&facts, &policies), known) } else { Vec::new() };
        // A policy may let the operator's own switchover pass. The request is for a leader that
        // stays.
        if let Some(leader) = facts.leader_name().filter(|_| facts.leader_condemned()) {
            let to = instances(facts.to());
            late.push(format!("{leader} leads, and would be removed at {to}"));
        }
        let next = self.next(&["set", &name, &count.to_string()]);
        let said = format!("{count} is admitted now");
        let note = format!("where Git sets the count: commit {count} there, or synchronise again");
        let admitted = Admitted { instances: count, said, next, note: Some(note) };
        let denials = evaluate(&facts, &policies).denials().cloned().collect();
        Ok(look_at(late, denials, Some(admitted)))
    }

    fn next(&self, words: &[&str]) -> Remedy {
        Remedy::run(self.session.suggest(words)).reached_by(&self.session.reach)
    }

    async fn cluster(&self) -> Result<Postgresql, Unread> {
        let before = &self.before.change.new;
        let cluster = format!("postgresql {}/{}", before.namespace, before.name);
        let so_far = if self.moved { "the leader was moved" } else { "nothing was changed" };
        let kind = if self.moved { Kind::NotAsPlanned } else { Kind::Error };
        let gone = |how: &str| {
            Unread::Ever(Failure::new(kind, format!("{cluster} was {how} meanwhile; {so_far}")))
        };
        match self.session.reader.cluster(&before.namespace, &before.name).await {
            Ok(found) if found.uid == before.uid => Ok(found),
            Ok(_) => Err(gone("deleted and created again")),
            Err(error) if error.is_not_found() => Err(gone("deleted")),
            Err(error) if error.is_forbidden() => {
                let failure = crate::session::unreadable(&error, &format!("read {cluster}"));
                Err(Unread::Ever(Failure { kind, ..failure }))
            }
            // An API server may restart at any time, now included.
            Err(error) => Err(Unread::Now(error.to_string())),
        }
    }

    /// Returns the failure where another writer set a count that is not above the requested one.
    fn superseded(&self, declared: Option<i64>, count: i64) -> Failure {
        let declared = declared.map_or("unset".to_owned(), |count| count.to_string());
        let so_far = if self.moved { "the leader was moved" } else { "nothing was changed" };
        Failure::new(
            Kind::Reverted,
            format!(
                "another writer set numberOfInstances of postgresql {} to {declared} meanwhile, and {count} is no \
                 shrink of that; {so_far}",
                self.before.change.cluster()
            ),
        )
    }

    fn timed_out(&self, missing: &Missing) -> Failure {
        let session = self.session;
        let name = &self.before.change.new.name;
        let moved = if self.moved { "the leader has moved, and " } else { "" };
        let what = match self.count {
            Some(count) => format!("a change to {} is not admitted yet", instances(count)),
            None => "not every member follows it yet".to_owned(),
        };
        let outcome = format!("NOT DONE: {moved}{what}");
        let failure = Failure::new(Kind::Timeout, format!("{outcome}:"))
            .closing_with(outcome)
            .with(missing.lines(&session.reach));
        let status = (!missing.late.is_empty()).then(|| {
            Remedy::to("to see why these members lag", session.suggest(&["status", name, "--why"]))
        });
        let again = self.count.map(|count| {
            let words = ["switchover", name, "--for", &count.to_string()];
            Remedy::to("when that is mended, wait again", session.suggest(&words))
        });
        status.into_iter().chain(again).fold(failure, Failure::hint)
    }
}

/// Returns the missing conditions, or `admitted`.
fn look_at(late: Vec<String>, denials: Vec<Finding>, admitted: Option<Admitted>) -> Look {
    if late.is_empty() && denials.is_empty() {
        return Look::Well(admitted);
    }
    Look::Lacks(Missing { late, denials })
}

/// Returns the obstacles until every member that is kept follows, but those in `known`. A fact that
/// cannot be seen is an obstacle.
pub(super) fn late(facts: &Assessment<'_>, known: &[Unfit]) -> Vec<String> {
    let mut late: Vec<String> = facts
        .survivors()
        .filter(|member| !known.iter().any(|known| known.pod == member.name))
        .map(|member| (member, facts.health(member)))
        .filter(|(_, health)| *health != Health::Healthy)
        .map(|(member, health)| format!("{}: {}", member.name, describe(&health)))
        .collect();
    if let Some(why) = facts.members.unreadable() {
        late.push(format!("the members cannot be listed: {why}"));
    }
    if facts.leader_name().is_none() {
        late.push("no member holds a valid leader lock".to_owned());
    }
    late
}
