//! The members: their pods, and their own answers.

use std::fmt::Display;

use super::{listed, seen, unread};
use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Live, Member, Seen};
use crate::object_ref::{Kind, ObjectRef};
use crate::patroni::{Answer, Report, Role, Tags};
use crate::policy::Policies;
use crate::rules::last_word;

/// Returns all facts about each member.
fn each(facts: &Assessment<'_>, of: impl Fn(&Member) -> Vec<Evidence>) -> Vec<Evidence> {
    match &facts.members {
        Seen::Known(members) => listed(Kind::Pod, members.iter().map(of).collect()),
        Seen::Absent => vec![Evidence::absent(ObjectRef::all(Kind::Pod))],
        Seen::Unreadable(why) => unread(ObjectRef::all(Kind::Pod), why),
    }
}

fn pod(member: &Member, field: &str, value: impl Display) -> Evidence {
    Evidence::new(ObjectRef::pod(&member.name), field, value)
}

/// A yes or a no of an object's condition.
fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Returns the state of each pod by the kubelet and by the node.
pub(in crate::rules) fn pods(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let it = &member.pod;
        let phase = if it.phase.is_empty() { "unset" } else { &it.phase };
        let mut printed =
            vec![pod(member, "status.phase", phase), pod(member, "condition Ready", yes(it.ready))];
        printed.extend(it.waiting.as_ref().map(|waiting| pod(member, "status", waiting)));
        if it.terminating {
            printed.push(pod(member, "metadata.deletionTimestamp", "set"));
        }
        printed.push(pod(member, "spec.nodeName", it.node.as_deref().unwrap_or("unset")));
        if let (Some(node), false) = (&it.node, it.node_ready == Some(true)) {
            let ready = it.node_ready.map_or("could not be read", yes);
            printed.push(pod(member, &format!("condition Ready of its node {node}"), ready));
        }
        printed
    })
}

/// Returns the pods that are busy, and those that wait to be renewed.
pub(in crate::rules) fn marks(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let it = &member.pod;
        let marks = [
            (it.terminating, "metadata.deletionTimestamp", "set"),
            (it.critical_operation, "label critical-operation", "true"),
            (it.rolling_update_required, "annotation rolling-update-required", "true"),
        ];
        let marks: Vec<Evidence> = marks
            .into_iter()
            .filter(|(set, ..)| *set)
            .map(|(_, field, value)| pod(member, field, value))
            .collect();
        if marks.is_empty() { vec![pod(member, "marks", "none")] } else { marks }
    })
}

/// Returns the role label of each member.
pub(in crate::rules) fn role_labels(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        vec![pod(member, "role label", member.pod.role.as_deref().unwrap_or("none"))]
    })
}

/// Returns the settings for which the leader's REST interface refuses the operator, or may.
pub(in crate::rules) fn rest_refusals(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let Some(leader) = facts.leader_member() else { return Vec::new() };
    let refusals = &leader.pod.rest_refusals;
    if refusals.is_empty() {
        return vec![pod(
            leader,
            "TLS, a password or an allowlist of its REST interface",
            "none seen",
        )];
    }
    refusals.iter().map(|refusal| pod(leader, &refusal.field, &refusal.value)).collect()
}

/// Returns the node and the zone of each member.
pub(in crate::rules) fn zones(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let zone = member.pod.zone.as_deref().unwrap_or("unknown");
        vec![match &member.pod.node {
            Some(node) => {
                let field = format!("zone of {}", member.name);
                Evidence::new(ObjectRef::new(Kind::Node, node), &field, zone)
            }
            None => pod(member, "zone", zone),
        }]
    })
}

/// Returns the node of each member, and the sign that it is being emptied.
pub(in crate::rules) fn draining(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let Some(node) = &member.pod.node else {
            return vec![pod(member, "spec.nodeName", "unset")];
        };
        let mut printed = vec![pod(member, "spec.nodeName", node)];
        printed.extend(member.pod.draining.as_ref().map(|sign| {
            let (field, value) = sign.shown();
            Evidence::new(ObjectRef::new(Kind::Node, node), field, value)
        }));
        printed
    })
}

/// Returns the image of new members, and that of each member.
pub(in crate::rules) fn images(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let shown = |image: &Option<String>| image.clone().unwrap_or_else(|| "unknown".to_owned());
    let field = "image of postgres";
    let set = facts.stateful_set_source();
    let mut printed = seen(&facts.stateful_set, &set, |set| [(field, shown(&set.image))]);
    printed.extend(each(facts, |member| vec![pod(member, field, shown(&member.pod.image))]));
    printed
}

/// Returns the tag nofailover of each member.
pub(in crate::rules) fn tags(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    word(
        facts,
        |answer| answer.tags.nofailover,
        |report| report.tags.nofailover,
        |barred| vec![("tags.nofailover", barred.to_string())],
    )
}

/// Returns the answer of each member about its PostgreSQL.
pub(in crate::rules) fn answers(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    each(facts, |member| {
        let says = |field, value: String| Evidence::new(facts.source_of(member), field, value);
        match &member.live {
            Live::Answered(answer) => vec![says("answer", answered(answer))],
            Live::NotAsked => vec![pod(member, "annotation status", reported(&member.report))],
            Live::Silent(why) => vec![
                says("answer", format!("none ({why})")),
                pod(member, "annotation status", reported(&member.report)),
            ],
        }
    })
}

/// Returns whether a restart of PostgreSQL is pending.
pub(in crate::rules) fn restarts(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    word(
        facts,
        |answer| answer.pending_restart,
        |report| report.pending_restart,
        |pending| vec![("pending_restart", pending.to_string())],
    )
}

/// Returns the replication source of each member, and the members that it feeds.
pub(in crate::rules) fn sources(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let tag = |tags: &Tags| {
        let source = tags.replicate_from.as_deref().unwrap_or("unset");
        vec![("tags.replicatefrom", source.to_owned())]
    };
    let feeds = |answer: &Answer| {
        let mut printed = tag(&answer.tags);
        let fed: Vec<&str> = answer.replication.iter().map(|it| it.name.as_str()).collect();
        if !fed.is_empty() {
            printed.push(("feeds", fed.join(", ")));
        }
        printed
    };
    word(facts, feeds, |report| tag(&report.tags), |printed| printed)
}

/// Returns the version of the leader's PostgreSQL.
pub(in crate::rules) fn server_version(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    if let Some(why) = facts.members.unreadable() {
        return vec![Evidence::unreadable(ObjectRef::all(Kind::Pod), why)];
    }
    let Some(leader) = facts.leader_member() else { return Vec::new() };
    let value = match &leader.live {
        Live::Answered(answer) => {
            answer.server_version.map_or("unset".to_owned(), |version| version.to_string())
        }
        Live::NotAsked => "not asked".to_owned(),
        Live::Silent(why) => format!("no answer ({why})"),
    };
    vec![Evidence::new(facts.source_of(leader), "server_version", value)]
}

/// Returns the tags that keep each member from becoming a synchronous standby.
pub(in crate::rules) fn sync_tags(facts: &Assessment<'_>, _: &Policies) -> Vec<Evidence> {
    let tags = |tags: &Tags| {
        let source = tags.replicate_from.as_deref().unwrap_or("unset");
        vec![
            (
                "tags.nosync or tags.sync_priority",
                if tags.nosync { "never synchronous" } else { "unset" }.to_owned(),
            ),
            ("tags.replicatefrom", source.to_owned()),
        ]
    };
    word(facts, |answer| tags(&answer.tags), |report| tags(&report.tags), |printed| printed)
}

/// Returns fields of each member's answer, or of its report where it gave no answer.
fn word<T>(
    facts: &Assessment<'_>,
    answered: impl Fn(&Answer) -> T,
    reported: impl Fn(&Report) -> T,
    fields: impl Fn(T) -> Vec<(&'static str, String)>,
) -> Vec<Evidence> {
    each(facts, |member| {
        let unsaid = |value: String| vec![pod(member, "annotation status", value)];
        match last_word(member, &answered, &reported) {
            Seen::Known(word) => fields(word)
                .into_iter()
                .map(|(field, value)| facts.quote(member, field, value))
                .collect(),
            Seen::Absent => unsaid("unset".to_owned()),
            Seen::Unreadable(why) => unsaid(format!("could not be read: {why}")),
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
    words.extend(answer.dcs_last_seen.map(|at| format!("its store reached at {at}")));
    let marks = [
        (answer.replay_paused, "replay paused"),
        (answer.tags.nofailover, "nofailover"),
        (answer.watchdog_failed, "watchdog failed"),
    ];
    words.extend(marks.into_iter().filter(|(set, _)| *set).map(|(_, mark)| mark.to_owned()));
    words.join(", ")
}

fn reported(report: &Seen<Report>) -> String {
    match report {
        Seen::Absent => "unset".to_owned(),
        Seen::Unreadable(why) => format!("could not be read: {why}"),
        Seen::Known(report) => {
            let mut words = vec![format!("{} {}", report.state.word(), role(report.role))];
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
