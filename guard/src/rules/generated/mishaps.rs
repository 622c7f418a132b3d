//! Mishaps to facts: a fact is hidden, or a member gets worse.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::facts::{Facts, Live, Member, Seen};
use crate::patroni::State;
use crate::rules::testing::healthy;

/// One fact that can no longer be seen.
#[derive(Clone, Debug)]
pub(in crate::rules) enum Hidden {
    Answer(Index),
    Available,
    Backup,
    Budget,
    Claims,
    Configuration,
    Failover,
    LastLeader,
    Initialize,
    Leader,
    LimitRanges,
    Members,
    Node(Index),
    Nodes,
    Operator,
    OperatorBefore,
    Position(Index),
    Quotas,
    Report(Index),
    StatefulSet,
    Sync,
    Timeline(Index),
}

pub(in crate::rules) fn hidden() -> impl Strategy<Value = Hidden> {
    prop_oneof![
        4 => any::<Index>().prop_map(Hidden::Answer),
        2 => any::<Index>().prop_map(Hidden::Report),
        1 => any::<Index>().prop_map(Hidden::Node),
        1 => any::<Index>().prop_map(Hidden::Position),
        1 => any::<Index>().prop_map(Hidden::Timeline),
        6 => select(vec![
            Hidden::Available,
            Hidden::Backup,
            Hidden::Budget,
            Hidden::Claims,
            Hidden::Configuration,
            Hidden::Failover,
            Hidden::LastLeader,
            Hidden::Initialize,
            Hidden::Leader,
            Hidden::LimitRanges,
            Hidden::Members,
            Hidden::Nodes,
            Hidden::Operator,
            Hidden::OperatorBefore,
            Hidden::Quotas,
            Hidden::StatefulSet,
            Hidden::Sync,
        ]),
    ]
}

pub(in crate::rules) fn hide(facts: &mut Facts, what: &Hidden) {
    let why = "hidden".to_owned();
    match what {
        Hidden::Answer(index) => {
            if let Some(member) = any_of(facts, *index) {
                member.live = Live::Silent(why);
            }
        }
        Hidden::Available => {
            if let Seen::Known(operator) = &mut facts.operator {
                operator.available = None;
            }
        }
        Hidden::Backup => withheld(&mut facts.capacity.backup),
        Hidden::Budget => withheld(&mut facts.capacity.budget),
        Hidden::Claims => facts.claims = Seen::Unreadable(why),
        Hidden::Configuration => facts.configuration = Seen::Unreadable(why),
        Hidden::Failover => facts.failover = Seen::Unreadable(why),
        Hidden::LastLeader => facts.last_leader = Seen::Unreadable(why),
        Hidden::Initialize => facts.initialize = Seen::Unreadable(why),
        Hidden::Leader => facts.leader = Seen::Unreadable(why),
        Hidden::Members => facts.members = Seen::Unreadable(why),
        Hidden::LimitRanges => withheld(&mut facts.capacity.limit_ranges),
        Hidden::Node(index) => {
            if let Some(member) = any_of(facts, *index) {
                (member.pod.node_ready, member.pod.zone) = (None, None);
                member.pod.draining = None;
            }
        }
        Hidden::Nodes => withheld(&mut facts.capacity.nodes),
        Hidden::OperatorBefore => {
            if let Some(before) = &mut facts.operator_before {
                **before = Seen::Unreadable(why);
            }
        }
        Hidden::Position(index) => {
            if let Some(Member { live: Live::Answered(answer), .. }) = any_of(facts, *index) {
                (answer.location, answer.received, answer.replayed) = (None, None, None);
            }
        }
        Hidden::Quotas => withheld(&mut facts.capacity.quotas),
        Hidden::Timeline(index) => {
            if let Some(Member { live: Live::Answered(answer), .. }) = any_of(facts, *index) {
                answer.timeline = None;
            }
        }
        Hidden::Operator => facts.operator = Seen::Unreadable(why),
        Hidden::Report(index) => {
            if let Some(member) = any_of(facts, *index) {
                member.report = Seen::Unreadable(why);
            }
        }
        Hidden::StatefulSet => {
            facts.capacity.template = Seen::Unreadable(why.clone());
            facts.stateful_set = Seen::Unreadable(why);
        }
        Hidden::Sync => facts.sync = Seen::Unreadable(why),
    }
}

/// Makes a requested fact unreadable. A fact that was not requested stays so.
fn withheld<T>(seen: &mut Option<Seen<T>>) {
    if let Some(seen) = seen {
        *seen = Seen::Unreadable("hidden".to_owned());
    }
}

fn any_of(facts: &mut Facts, index: Index) -> Option<&mut Member> {
    match &mut facts.members {
        Seen::Known(members) if !members.is_empty() => {
            let chosen = index.index(members.len());
            members.get_mut(chosen)
        }
        Seen::Known(_) | Seen::Absent | Seen::Unreadable(_) => None,
    }
}

/// The way in which a kept member gets worse.
#[derive(Clone, Copy, Debug)]
pub(in crate::rules) enum Worse {
    Behind,
    Cloning,
    Crashed,
    NoFailover,
    NodeLost,
    NotReady,
    NotStarted,
    OldTimeline,
    ReplayPaused,
    RestartPending,
    Renewed,
    Stopping,
}

pub(in crate::rules) fn worsen(facts: &mut Facts, index: Index, how: Worse) {
    let to = facts.to();
    let leader = facts.leader_name().map(str::to_owned);
    let Some(member) = any_of(facts, index) else { return };
    if member.ordinal >= to {
        return;
    }
    // The leader's answer is the measure of the others.
    let leads = leader.as_deref() == Some(member.name.as_str());
    let answer = match &mut member.live {
        Live::Answered(answer) => Some(answer),
        Live::NotAsked | Live::Silent(_) => None,
    };
    match (how, answer) {
        (Worse::NodeLost, _) => member.pod.node_ready = Some(false),
        (Worse::NotReady, _) => member.pod.ready = false,
        (Worse::RestartPending, Some(answer)) => answer.pending_restart = true,
        (Worse::NotStarted, _) => {
            member.pod.phase = "Pending".to_owned();
            member.pod.containers_running = false;
        }
        (Worse::Renewed, _) => member.pod.rolling_update_required = true,
        (Worse::Stopping, _) => member.pod.terminating = true,
        (Worse::Cloning, _) if !leads => {
            let cloned = healthy(1, 1).cloning(0).member("acid-a-0").unwrap().clone();
            member.live = cloned.live;
            member.report = cloned.report;
        }
        (Worse::NoFailover, Some(answer)) => answer.tags.nofailover = true,
        (Worse::ReplayPaused, Some(answer)) => answer.replay_paused = true,
        (Worse::Behind, Some(answer)) if !leads => {
            answer.received = answer.received.map(|received| received / 2);
            answer.replayed = answer.replayed.map(|replayed| replayed / 2);
        }
        (Worse::OldTimeline, Some(answer)) if !leads => {
            answer.timeline = answer.timeline.map(|timeline| timeline.saturating_sub(1));
        }
        // A member that has received nothing is being built. A member that is built may only get
        // worse than that.
        (Worse::Crashed, Some(answer))
            if answer.state == State::Running
                && (leads || answer.received.is_some() || answer.replayed.is_some()) =>
        {
            answer.state = State::Failed;
        }
        _ => {}
    }
}

pub(in crate::rules) fn worse() -> impl Strategy<Value = Worse> {
    use Worse::{
        Behind, Cloning, Crashed, NoFailover, NodeLost, NotReady, NotStarted, OldTimeline, Renewed,
        ReplayPaused, RestartPending, Stopping,
    };
    select(vec![
        Behind,
        Cloning,
        Crashed,
        NoFailover,
        NodeLost,
        NotReady,
        NotStarted,
        OldTimeline,
        Renewed,
        ReplayPaused,
        RestartPending,
        Stopping,
    ])
}
