//! Moves the leader through Patroni and confirms it only when lock, label and the new leader itself
//! agree.
//!
//! Patroni's answer alone is not trusted in either direction. After a refusal or a lost answer the
//! cluster is read, and nothing is ever sent twice.

use std::convert::Infallible;
use std::time::Duration;

use pgscale_guard::duration::measured;
use pgscale_guard::facts::{Facts, Live, Member};
use pgscale_guard::patroni::Role;
use pgscale_guard::read::{AskWhom, RestRequest, RestResponse};
use pgscale_guard::remedy::{Command, Line};
use pgscale_guard::{Change, Seen};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::error::{Failure, Kind};
use crate::exec::CHECKPOINT_PATIENCE;
use crate::execute::waiting::Waiting;
use crate::plan::LeaderMove;
use crate::session::{Session, address};

mod pause;

use pause::Samples;

/// A switchover that took place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moved {
    /// The present leader: the candidate, unless Patroni chose another meanwhile.
    pub(crate) leader: String,
    /// The time from the request to the confirmation.
    pub(crate) took: Duration,
    /// The longest time for which writes may have stopped, as measured from here. `None` where that
    /// could not be seen.
    pub(crate) pause: Option<Duration>,
}

impl Moved {
    /// Describes the switchover in one line.
    pub(crate) fn reported(&self) -> String {
        let pause = match self.pause {
            Some(pause) => format!("writes stopped for {} at most", measured(pause)),
            None => "how long writes stopped could not be measured".to_owned(),
        };
        format!(
            "{} leads (lock, label and Patroni agree), {} after the request; {pause}",
            self.leader,
            measured(self.took)
        )
    }
}

/// The result of a change for the lead.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Lead {
    /// The plugin did not move the lead.
    #[default]
    Kept,
    /// The lead moved, as described here.
    Moved(LeaderMove, Moved),
    /// A move was requested, and the present leader is not known.
    InDoubt,
}

impl Lead {
    /// Returns the actual switchover, where `wanted` came to `moved`. Patroni may have chosen
    /// another candidate than the requested one.
    pub(crate) fn moved(wanted: LeaderMove, moved: Moved) -> Self {
        let leader = &moved.leader;
        if wanted.to == *leader {
            return Self::Moved(wanted, moved);
        }
        let why = format!("{}; Patroni chose {leader} instead", wanted.why);
        Self::Moved(LeaderMove { to: leader.clone(), why, ..wanted }, moved)
    }

    /// Returns the switchover that took place.
    pub(crate) fn switchover(&self) -> Option<(&LeaderMove, &Moved)> {
        match self {
            Self::Moved(leader_move, moved) => Some((leader_move, moved)),
            Self::Kept | Self::InDoubt => None,
        }
    }
}

/// The reason for which no switchover was seen to take place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NotMoved {
    /// The failure to show.
    pub(crate) failure: Failure,
    /// The present leader is not known. Otherwise it is the leader of before.
    in_doubt: bool,
}

impl NotMoved {
    /// Returns the result for the lead.
    pub(crate) fn lead(&self) -> Lead {
        if self.in_doubt { Lead::InDoubt } else { Lead::Kept }
    }
}

/// Patroni's answer to the request.
enum Said {
    /// The switchover is done.
    Done,
    /// A refusal, with the reason.
    No(String),
    /// It did not succeed, as Patroni says. It may still happen.
    Failed(String),
    /// No answer, or one that proves nothing.
    Unclear(String),
}

/// Moves the leader as `wanted`, where `before` was read just now.
pub(crate) async fn move_leader(
    session: &Session,
    before: &Facts,
    wanted: &LeaderMove,
) -> Result<Moved, NotMoved> {
    let start = Instant::now();
    session.interrupted_means(
        format!(
            "interrupted while the leader was being moved from {} to {}; numberOfInstances is unchanged",
            wanted.from, wanted.to
        ),
        "see where it leads",
        session.suggest(&["status", &before.change.new.name]),
    );
    session.out.note(&format!("switching over from {} to {} ...", wanted.from, wanted.to));
    let request = RestRequest::post(
        "/switchover",
        json!({"leader": wanted.from, "candidate": wanted.to}),
        session.pace.at_most(session.pace.switchover),
    );
    let (pod, candidate) = (address(before, &wanted.from), address(before, &wanted.to));
    let samples = Samples::default();
    let act = async {
        let said = tokio::select! {
            biased;
            said = session.ask.exchange(&pod, request) => understand(said),
            never = tell_of_silence(session, wanted) => match never {},
        };
        confirm(session, before, wanted, said).await
    };
    let leader = tokio::select! {
        biased;
        never = samples.take(session, &pod, &candidate) => match never {},
        leader = act => leader?,
    };
    Ok(Moved {
        took: start.elapsed(),
        // Patroni may have chosen another member, which was not sampled.
        pause: samples.pause(&wanted.from, &leader),
        leader,
    })
}

/// Reports again and again that Patroni has not answered yet, until dropped.
async fn tell_of_silence(session: &Session, wanted: &LeaderMove) -> Infallible {
    let mut waiting = Waiting::begin(session);
    loop {
        sleep(session.pace.tell).await;
        waiting.tell(&format!(
            "Patroni of {} has not answered; it waits for {} to take over",
            wanted.from, wanted.to
        ));
    }
}

/// Writes a checkpoint on the leader, so that its shutdown is short.
///
/// It may take a minute, in which everything may change. The caller that then moves the leader
/// checks the facts again first.
pub(crate) async fn checkpoint(session: &Session, facts: &Facts, wanted: &LeaderMove) {
    session.out.note(&format!("CHECKPOINT on {} ...", wanted.from));
    let pod = address(facts, &wanted.from);
    let patience = session.pace.at_most(CHECKPOINT_PATIENCE);
    let written = crate::exec::checkpoint(session.exec.as_ref(), &pod, patience);
    let said = tokio::select! {
        biased;
        said = written => said,
        never = tell_of_checkpoint(session, wanted) => match never {},
    };
    if let Err(why) = said {
        session.out.warning(&format!(
            "no CHECKPOINT on {}: {why}; the switchover may take longer",
            wanted.from
        ));
    }
}

/// Reports again and again that the checkpoint is not written yet, until dropped.
async fn tell_of_checkpoint(session: &Session, wanted: &LeaderMove) -> Infallible {
    let mut waiting = Waiting::begin(session);
    loop {
        sleep(session.pace.tell).await;
        waiting.tell(&format!("the checkpoint on {}", wanted.from));
    }
}

/// Reads Patroni's answer (`do_POST_switchover`, patroni/api.py). 200 means done. 503 also stands
/// for "failed" and "status unknown", after which it may still happen. Other refusals came before
/// anything was tried.
fn understand(answer: Result<RestResponse, String>) -> Said {
    match answer {
        Ok(RestResponse { status: 200, .. }) => Said::Done,
        Ok(RestResponse { status: 503, body }) => Said::Failed(format!("503 {}", body.trim())),
        Ok(RestResponse { status, body }) if (400..500).contains(&status) => {
            Said::No(format!("{status} {}", body.trim()))
        }
        Ok(RestResponse { status, body }) => Said::Unclear(format!("{status} {}", body.trim())),
        Err(why) => Said::Unclear(why),
    }
}

/// Reads the cluster until the leader is certain, and returns the name of the new leader.
async fn confirm(
    session: &Session,
    before: &Facts,
    wanted: &LeaderMove,
    said: Said,
) -> Result<String, NotMoved> {
    let deadline = session.pace.by(session.pace.confirm);
    let mut unmoved = 0;
    let mut waiting = Waiting::begin(session);
    loop {
        let facts = look(session, before).await;
        if let Some(leader) = leads_by_all_signs(before, &facts, &wanted.from) {
            return Ok(leader);
        }
        // The old leader still holds a fresh lock and nothing is pending, so it did not move. After
        // a clear answer one look is enough. Otherwise this must last, because Patroni acts a loop
        // later.
        let still = facts.leader_name() == Some(wanted.from.as_str())
            && facts.failover == Seen::Absent
            && facts.member(&wanted.from).is_some_and(
                |member| matches!(&member.live, Live::Answered(answer) if answer.role.leads()),
            );
        unmoved = if still { unmoved + 1 } else { 0 };
        if let Some((kind, message)) = not_moved(&said, wanted, unmoved) {
            let failure = Failure::new(kind, message)
                .with(silent(&facts, [wanted.to.as_str()]))
                .hint_to("see how the members are", status(session, &facts))
                .hint(next_try(wanted));
            return Err(NotMoved { failure, in_doubt: false });
        }
        if Instant::now() >= deadline {
            let failure = doubt(session, &facts, wanted, &said);
            return Err(NotMoved { failure, in_doubt: true });
        }
        let signs = signs(&facts);
        waiting.tell(&format!("lock, label and the new leader itself do not agree yet; {signs}"));
        sleep(session.pace.poll).await;
    }
}

/// Returns the failure where the old leader still leads, after so many looks that showed it.
fn not_moved(said: &Said, wanted: &LeaderMove, unmoved: u32) -> Option<(Kind, String)> {
    let LeaderMove { from, to, .. } = wanted;
    let failed = |words: &str| {
        format!(
            "the switchover from {from} to {to} did not take place ({words}); nothing was changed"
        )
    };
    match said {
        Said::No(words) if unmoved > 0 => Some((
            Kind::Refused,
            format!(
                "Patroni refused to switch over from {from} to {to}: {words}; nothing was changed"
            ),
        )),
        Said::Failed(words) if unmoved >= LOOKS_TO_BE_SURE => Some((Kind::Refused, failed(words))),
        Said::Unclear(words) if unmoved >= LOOKS_TO_BE_SURE => Some((Kind::Error, failed(words))),
        Said::Done | Said::No(_) | Said::Failed(_) | Said::Unclear(_) => None,
    }
}

/// Returns what to do after a switchover that did not take place.
fn next_try(wanted: &LeaderMove) -> String {
    if wanted.named {
        format!("run the same command again once {} is fit, or name another member", wanted.to)
    } else {
        "run the same command again: it chooses the best member that is fit then".to_owned()
    }
}

/// The number of looks at the old leader still leading after which a switchover with an unclear
/// answer counts as failed.
const LOOKS_TO_BE_SURE: u32 = 15;

fn doubt(session: &Session, facts: &Facts, wanted: &LeaderMove, said: &Said) -> Failure {
    let words = match said {
        Said::Done => "Patroni said it was done".to_owned(),
        Said::No(words) | Said::Failed(words) | Said::Unclear(words) => {
            format!("Patroni said: {words}")
        }
    };
    Failure::new(
        Kind::NotAsPlanned,
        format!(
            "cannot confirm the switchover from {} to {}: {words}; {}; numberOfInstances is unchanged",
            wanted.from,
            wanted.to,
            signs(facts)
        ),
    )
    .with(silent(facts, [wanted.from.as_str(), wanted.to.as_str()]))
    .hint_to("look at the members", status(session, facts))
    .hint("once one leader is certain, run the same command again")
}

/// Returns in words which member the lock names, and which pods carry the leader's label. After a
/// failover from a leader that froze these are two.
fn signs(facts: &Facts) -> String {
    let lock = facts.leader_name().unwrap_or("that no member leads");
    let label = match labelled(facts).as_slice() {
        [] => "no pod".to_owned(),
        pods => pods.join(", "),
    };
    format!("the lock says {lock}, and the leader's label is on {label}")
}

fn status(session: &Session, facts: &Facts) -> Command {
    session.suggest(&["status", &facts.change.new.name, "--why"])
}

/// Returns a line for each of `members` that does not answer.
fn silent<'a>(facts: &Facts, members: impl IntoIterator<Item = &'a str>) -> Vec<Line> {
    let silent = members.into_iter().filter_map(|name| match facts.member(name) {
        None => Some(format!("{name} has no pod any more")),
        Some(Member { live: Live::Silent(why), .. }) => {
            Some(format!("{name} does not answer any more: {why}"))
        }
        Some(_) => None,
    });
    silent.map(Line::Text).collect()
}

/// Returns the leader after a move. It holds the lock, it alone carries the leader's label, it
/// reports itself as leader, and it is on a later timeline than the old one was. In a standby
/// cluster it is on no earlier one.
fn leads_by_all_signs(before: &Facts, facts: &Facts, old: &str) -> Option<String> {
    let leader = facts.leader_member().filter(|member| member.name != old)?;
    let Live::Answered(answer) = &leader.live else { return None };
    let then = before.member(old).and_then(|member| match &member.live {
        Live::Answered(answer) => answer.timeline,
        Live::NotAsked | Live::Silent(_) => None,
    });
    let later = match (then, answer.timeline) {
        // No member is promoted in a standby cluster: the timeline stays the remote primary's.
        (Some(then), Some(now)) if answer.role == Role::StandbyLeader => now >= then,
        (Some(then), Some(now)) => now > then,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let alone = labelled(facts) == [leader.name.as_str()];
    (alone && answer.role.leads() && later).then(|| leader.name.clone())
}

/// Returns the names of the members whose pod carries the leader's label.
pub(crate) fn labelled(facts: &Facts) -> Vec<&str> {
    facts
        .all_members()
        .iter()
        .filter(|member| is_leader_label(member.pod.role.as_deref()))
        .map(|member| member.name.as_str())
        .collect()
}

/// Returns whether a role label is that of a leader: `master`, or `primary` where Patroni is
/// configured so.
fn is_leader_label(label: Option<&str>) -> bool {
    matches!(label, Some("master" | "primary" | "standby_leader"))
}

/// Reads the cluster as it is now, every member included.
async fn look(session: &Session, before: &Facts) -> Facts {
    let change: Change = before.change.clone();
    let facts = session.reader.facts(change, AskWhom::All).await;
    session.show_warnings();
    facts
}
