//! The members: their pods, and their own answers.

use super::{listed, one, unread};
use crate::assessment::Assessment;
use crate::facts::{Live, Member, Seen};
use crate::patroni::{Answer, Report, Role, Tags};
use crate::policy::Policies;
use crate::rules::last_word;
use crate::verdict::Evidence;

/// Returns one text for each member.
fn each(facts: &Assessment<'_>, of: impl Fn(&Member) -> Evidence) -> Vec<Evidence> {
    match &facts.members {
        Seen::Known(members) => listed("pods", members.iter().map(of).collect()),
        Seen::Absent => one("pods", "there are none"),
        Seen::Unreadable(why) => unread("pods", why),
    }
}

fn pod(member: &Member, says: String) -> Evidence {
    Evidence::new(format!("pod/{}", member.name), says)
}

/// Returns the state of each pod by the kubelet and by the node.
pub(in crate::rules) fn pods(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let it = &member.pod;
        let mut words = vec![if it.phase.is_empty() { "no phase" } else { &it.phase }.to_owned()];
        words.push(if it.ready { "Ready" } else { "not Ready" }.to_owned());
        words.extend(it.waiting.as_ref().map(ToString::to_string));
        if it.terminating {
            words.push("being deleted".to_owned());
        }
        words.push(match (&it.node, it.node_ready) {
            (None, _) => "on no node".to_owned(),
            (Some(node), Some(true)) => format!("on {node}"),
            (Some(node), Some(false)) => format!("on {node}, which is not Ready"),
            (Some(node), None) => format!("on {node}, whose state could not be read"),
        });
        pod(member, words.join(", "))
    })
}

/// Returns the pods that are busy, and those that wait to be renewed.
pub(in crate::rules) fn marks(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let it = &member.pod;
        let marks = [
            (it.terminating, "being deleted"),
            (it.critical_operation, "critical-operation"),
            (it.rolling_update_required, "rolling-update-required"),
        ];
        let marks: Vec<&str> =
            marks.into_iter().filter_map(|(set, mark)| set.then_some(mark)).collect();
        let marks = if marks.is_empty() { "no mark".to_owned() } else { marks.join(", ") };
        pod(member, marks)
    })
}

/// Returns the role label of each member.
pub(in crate::rules) fn role_labels(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        pod(member, format!("role label: {}", member.pod.role.as_deref().unwrap_or("none")))
    })
}

/// Returns the node and the zone of each member.
pub(in crate::rules) fn zones(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let zone = member.pod.zone.as_deref().unwrap_or("unknown");
        let says = format!("{}: zone {zone}", member.name);
        match &member.pod.node {
            Some(node) => Evidence::new(format!("node/{node}"), says),
            None => pod(member, says),
        }
    })
}

/// Returns the answer of each member about its PostgreSQL.
pub(in crate::rules) fn answers(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let says = match &member.live {
            Live::Answered(answer) => answered(answer),
            Live::NotAsked => format!("not asked; {}", reported(&member.report)),
            Live::Silent(why) => {
                format!("does not answer ({why}); {}", reported(&member.report))
            }
        };
        Evidence::new(facts.source_of(member), format!("{}: {says}", member.name))
    })
}

/// Returns whether a restart of PostgreSQL is pending.
pub(in crate::rules) fn restarts(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    word(
        facts,
        |answer| answer.pending_restart,
        |report| report.pending_restart,
        |pending| format!("pending_restart: {pending}"),
    )
}

/// Returns the replication source of each member, and the members that it feeds.
pub(in crate::rules) fn sources(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let tag = |tags: &Tags| {
        format!("replicatefrom: {}", tags.replicate_from.as_deref().unwrap_or("unset"))
    };
    let feeds = |answer: &Answer| {
        let fed: Vec<&str> = answer.replication.iter().map(|it| it.name.as_str()).collect();
        let fed =
            if fed.is_empty() { String::new() } else { format!(", feeds {}", fed.join(", ")) };
        format!("{}{fed}", tag(&answer.tags))
    };
    word(facts, feeds, |report| tag(&report.tags), |says| says)
}

/// Returns one value of each member's answer, or of its report where it gave no answer.
fn word<T>(
    facts: &Assessment<'_>,
    answered: impl Fn(&Answer) -> T,
    reported: impl Fn(&Report) -> T,
    says: impl Fn(T) -> String,
) -> Vec<Evidence> {
    each(facts, |member| {
        let unsaid =
            |why: String| Evidence::new(facts.source_of(member), format!("{}: {why}", member.name));
        match last_word(member, &answered, &reported) {
            Seen::Known(word) => facts.quote(member, says(word)),
            Seen::Absent => unsaid("never reported".to_owned()),
            Seen::Unreadable(why) => unsaid(format!("its report could not be read: {why}")),
        }
    })
}

fn answered(answer: &Answer) -> String {
    let mut words = vec![format!("{} {}", answer.state.word(), role(answer.role))];
    words.push(match answer.timeline {
        Some(timeline) => format!("timeline {timeline}"),
        None => "timeline unknown".to_owned(),
    });
    words.extend(answer.location.map(|at| format!("at {}", lsn(at))));
    words.extend(answer.received.map(|at| format!("received {}", lsn(at))));
    words.extend(answer.replayed.map(|at| format!("replayed {}", lsn(at))));
    words.extend(answer.replication_state.clone());
    let marks = [(answer.replay_paused, "replay paused"), (answer.tags.nofailover, "nofailover")];
    words.extend(marks.into_iter().filter(|(set, _)| *set).map(|(_, mark)| mark.to_owned()));
    words.join(", ")
}

fn reported(report: &Seen<Report>) -> String {
    match report {
        Seen::Absent => "never reported".to_owned(),
        Seen::Unreadable(why) => format!("its report could not be read: {why}"),
        Seen::Known(report) => {
            let mut words =
                vec![format!("last reported {} {}", report.state.word(), role(report.role))];
            words.extend(report.timeline.map(|timeline| format!("timeline {timeline}")));
            words.extend(report.position.map(|at| format!("at {}", lsn(at))));
            words.extend(report.replication_state.clone());
            if report.tags.nofailover {
                words.push("nofailover".to_owned());
            }
            words.join(", ")
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::StandbyLeader => "standby leader",
        Role::Replica => "replica",
        Role::Demoted => "demoted",
        Role::Uninitialized => "uninitialized",
        Role::Other => "in an unknown role",
    }
}

/// Returns a write-ahead log position as PostgreSQL writes it (`pg_lsn`).
fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}
