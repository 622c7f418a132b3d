//! A switchover on its own: its candidate, and the reasons against it.

use pgscale_guard::facts::Health;
use pgscale_guard::{Assessment, Change, Facts, RuleId, Seen};

use super::{LeaderMove, describe, praise, why_nobody};

/// The wanted candidate of a switchover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The best member there is.
    Best,
    /// A member by name.
    Member(String),
    /// The best of the members that a shrink to this many instances would keep.
    Within(i64),
}

/// The result of planning a switchover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Handover {
    /// The leader is the wanted one already. The text says so.
    Nothing(String),
    /// The leader can move.
    Ready(LeaderMove),
    /// The leader must not move. The text says why.
    Refused(String),
}

/// Plans a switchover.
pub(crate) fn switchover(facts: Assessment<'_>, wanted: &Wanted) -> Handover {
    let Some(leader) = facts.leader_name() else {
        let why = match &facts.leader {
            Seen::Unreadable(why) => format!("the leader lock could not be read ({why})"),
            Seen::Absent | Seen::Known(_) => "no member holds a valid leader lock".to_owned(),
        };
        return Handover::Refused(format!("no-leader: {why}"));
    };
    if let Some(why) = another_switchover(&facts) {
        return Handover::Refused(format!("{}: {why}", RuleId::SWITCHOVER_PENDING));
    }
    match wanted {
        Wanted::Best => best(facts, leader, &format!("moving it away from {leader}")),
        Wanted::Member(name) => to_member(facts, leader, name),
        Wanted::Within(count) => within(facts, leader, *count),
    }
}

/// Returns the reason for which another switchover may be under way. Of two switchovers, the first
/// to come would decide.
pub(super) fn another_switchover(facts: &Facts) -> Option<String> {
    match &facts.failover {
        Seen::Absent => None,
        Seen::Known(pending) => {
            let scheduled = pending
                .scheduled
                .as_ref()
                .map_or(String::new(), |time| format!(", scheduled for {time}"));
            Some(format!(
                "another switchover is under way (from {} to {}{scheduled})",
                pending.leader.as_deref().unwrap_or("the leader"),
                pending.candidate.as_deref().unwrap_or("any member"),
            ))
        }
        Seen::Unreadable(why) => {
            Some(format!("whether another switchover is under way could not be read ({why})"))
        }
    }
}

fn to_member(facts: Assessment<'_>, leader: &str, name: &str) -> Handover {
    if name == leader {
        return Handover::Nothing(format!("{name} leads already"));
    }
    let Some(member) = facts.member(name) else {
        let known: Vec<&str> =
            facts.all_members().iter().map(|member| member.name.as_str()).collect();
        return Handover::Refused(format!(
            "{name} is not a member of {} (its members: {})",
            facts.change.cluster(),
            known.join(", ")
        ));
    };
    let health = facts.takeover(member);
    if health != Health::Healthy {
        return Handover::Refused(format!("{name} cannot take over: {}", describe(&health)));
    }
    if let Err(why) = facts.in_sync_set(member) {
        return Handover::Refused(format!("{name} cannot take over: {why}"));
    }
    Handover::Ready(LeaderMove {
        from: leader.to_owned(),
        to: name.to_owned(),
        why: format!("{name} was asked for and is caught up"),
        named: true,
    })
}

fn within(facts: Assessment<'_>, leader: &str, count: i64) -> Handover {
    let mut shrunk = facts.facts().clone();
    if let Some(old) = facts.change.old.clone() {
        shrunk.change = Change::of_count(old, count);
    }
    let to = shrunk.to();
    if to == 0 {
        return Handover::Refused("no member stays at 0 instances, so none could lead".to_owned());
    }
    if !shrunk.leader_condemned() {
        return Handover::Nothing(format!("{leader} leads, and stays at {to} instances"));
    }
    best(facts.of_others(&shrunk), leader, &format!("{leader} would be removed at {to} instances"))
}

fn best(facts: Assessment<'_>, leader: &str, reason: &str) -> Handover {
    if let Some(best) = facts.best_survivor() {
        return Handover::Ready(LeaderMove {
            from: leader.to_owned(),
            to: best.name.clone(),
            why: format!("{reason}; {}", praise(&facts, best)),
            named: false,
        });
    }
    let mut lines = vec![format!("leader-cannot-move: no member can take over from {leader}")];
    lines.extend(why_nobody(facts, leader).map(|(name, why)| format!("  {name}: {why}")));
    Handover::Refused(lines.join("\n"))
}
