//! The first member that starts on the way back from zero, where another one led last.
//!
//! The first with data is alone. While no member holds the lock it takes the lead, unless its WAL is
//! more than `maximum_lag_on_failover` behind the last leader's record (`_is_healthiest_node`,
//! patroni/ha.py). No member waits for one that has no pod.

use serde_json::Value;

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Claim, Seen, StatefulSet};
use crate::object_ref::ObjectRef;
use crate::patroni::Synchronous;
use crate::remedy::{Command, Remedy};
use crate::rules::zero::RETURN_FROM_ZERO;
use crate::rules::zero::last_leader::LastLeader;
use crate::rules::{kubectl, status, unread};
use crate::verdict::{Finding, Outcome};

/// The key of the lag in Patroni's configuration, and in `spec.patroni`.
const LAG: &str = "maximum_lag_on_failover";

/// Returns the StatefulSet where it starts a member only once the one before passed a probe.
///
/// Patroni's `/readiness` wants the leader, or a member that streams from it (`_readiness`,
/// patroni/api.py).
fn waits_for_a_probe<'a>(facts: &Assessment<'a>) -> Option<&'a StatefulSet> {
    facts.facts().stateful_set.known().filter(|set| set.probed && !set.parallel)
}

/// Judges the lead of the first member that starts, with the ordinal `led` of the last leader.
pub(super) fn first_to_start(
    facts: &Assessment<'_>,
    last: &LastLeader<'_>,
    led: i64,
    claims: Option<&[Claim]>,
) -> Outcome {
    let Some(first) = claims.and_then(|claims| claims.iter().map(|claim| claim.ordinal).min())
    else {
        return Outcome::Pass;
    };
    if first >= led || !facts.all_members().is_empty() {
        return Outcome::Pass;
    }
    let (name, first) = (last.name, facts.pod_name(first));
    let probed = waits_for_a_probe(facts);
    match may_lead(facts, name, &first) {
        Sync::Holds => return Outcome::Pass,
        Sync::Bars(evidence) => {
            let Some(set) = probed else { return Outcome::Pass };
            let message = format!(
                "{first} starts first and may not lead, because it is no synchronous standby of {name}: it is never \
                 Ready, and no other member is ever started"
            );
            return Outcome::Found(never_ready(facts, set, message).because_of(evidence));
        }
        Sync::Unread(what, why) if probed.is_some() => return unread(what, why),
        Sync::Off | Sync::Unread(..) => {}
    }
    let configuration = facts.configuration.known();
    let lag = configuration.map(|configuration| configuration.maximum_lag_on_failover);
    // The last position that the leader wrote down. Without it Patroni compares with nothing.
    let bounded = facts.leader.known().is_some_and(|lock| lock.optime.is_some_and(|it| it > 0));
    let loses = match lag.filter(|_| bounded) {
        None => format!("without the last rows of {name}, up to {LAG}"),
        Some(bytes) => format!("without the last rows of {name}, up to {LAG} ({bytes} bytes)"),
    };
    let unbounded = facts.leader.unreadable().is_none() && !bounded;
    let message = match (lag.filter(|_| bounded), probed) {
        // It does not lead where it lacks anything.
        (Some(0), None) => return Outcome::Pass,
        (Some(0), Some(_)) => format!(
            "{name} led last, and {first} starts first: where it lacks rows of {name} it is never Ready, and no other \
             member is ever started"
        ),
        (_, _) if unbounded => format!(
            "{name} led last, and {first} starts first: it may take the lead without the last rows of {name}, however \
             many those are"
        ),
        (_, Some(_)) => format!(
            "{name} led last, and {first} starts first: it may take the lead {loses}, and where it lacks more, no other \
             member is ever started"
        ),
        (_, None) => {
            format!("{name} led last, and {first} starts first: it may take the lead {loses}")
        }
    };
    let mut finding = Finding::warn(RETURN_FROM_ZERO.id, message).because_of(last.evidence.clone());
    if let Some(bytes) = lag {
        finding = finding.because(facts.patroni_source("config"), LAG, bytes);
    }
    if unbounded {
        let none = facts.leader.known().map_or_else(
            || Evidence::absent(facts.lock_source()),
            |lock| Evidence::new(lock.source.clone(), "optime", "unset"),
        );
        finding = finding.because_of(none);
    }
    if let Some(set) = probed {
        finding = finding.because(facts.stateful_set_source(), "readiness probe", shown(set));
        return Outcome::Found(finding.remedy(without_probe(facts)));
    }
    let look = ("or see what each member has before clients write again", status(facts));
    let remedy = match lag.filter(|lag| *lag > 0 && bounded).and_then(|_| closing(facts, name)) {
        Some(closing) => closing.or_to(look.0, look.1),
        None => Remedy::note(format!(
            "compare {first} with {name} before (pg_controldata, Latest checkpoint location)"
        ))
        .or_to(look.0, look.1),
    };
    Outcome::Found(finding.remedy(remedy))
}

/// Judges a start where ordinal 0 waits for a leader, and every other member for ordinal 0.
pub(super) fn first_waits_for_ever(
    facts: &Assessment<'_>,
    claims: Option<&[Claim]>,
) -> Option<Outcome> {
    let claims = claims.filter(|claims| !claims.is_empty())?;
    let set = waits_for_a_probe(facts)?;
    if !facts.all_members().is_empty() || claims.iter().any(|claim| claim.ordinal == 0) {
        return None;
    }
    let id = facts.initialize.known()?;
    let first = facts.pod_name(0);
    let message = format!(
        "{first} has no volume and waits for a leader to copy from: it is never Ready, and no other member is ever \
         started"
    );
    Some(Outcome::Found(
        never_ready(facts, set, message)
            .because(facts.patroni_source("config"), "initialize", id)
            .because_of(Evidence::absent(ObjectRef::claim(&format!("pgdata-{first}")))),
    ))
}

/// What synchronous replication says about the first member.
enum Sync<'a> {
    /// It is off, or any member may take over.
    Off,
    /// Each commit waited for this member.
    Holds,
    /// Patroni does not let it lead.
    Bars(Evidence),
    /// That could not be read.
    Unread(&'static str, &'a str),
}

/// Returns what synchronous replication says about `first`, where `last` led
/// (`is_healthiest_node`, patroni/ha.py).
fn may_lead<'a>(facts: &'a Assessment<'_>, last: &str, first: &str) -> Sync<'a> {
    let configuration = match &facts.configuration {
        Seen::Known(configuration) => configuration,
        Seen::Absent => return Sync::Off,
        Seen::Unreadable(why) => return Sync::Unread("Patroni's configuration", why),
    };
    if configuration.synchrony() != Synchronous::On {
        return Sync::Off;
    }
    let sync = match &facts.sync {
        Seen::Known(sync) => sync,
        Seen::Absent => return Sync::Off,
        Seen::Unreadable(why) => return Sync::Unread("the synchronous standbys", why),
    };
    let Some(leader) = sync.leader.as_deref() else { return Sync::Off };
    if leader.eq_ignore_ascii_case(first) {
        Sync::Off
    } else if sync.contains(leader, first) {
        if leader == last { Sync::Holds } else { Sync::Off }
    } else {
        let standbys = sync.standbys.join(", ");
        let standbys = if standbys.is_empty() { "none".to_owned() } else { standbys };
        Sync::Bars(Evidence::new(facts.patroni_source("sync"), "sync_standby", standbys))
    }
}

fn never_ready(facts: &Assessment<'_>, set: &StatefulSet, message: String) -> Finding {
    Finding::deny(RETURN_FROM_ZERO.id, message)
        .because(facts.stateful_set_source(), "readiness probe", shown(set))
        .because(facts.stateful_set_source(), "spec.podManagementPolicy", "OrderedReady")
        .remedy(without_probe(facts))
}

fn shown(set: &StatefulSet) -> &'static str {
    if set.probed { "set" } else { "unset" }
}

/// Returns the remedy that starts every member whether or not the one before is Ready.
fn without_probe(facts: &Assessment<'_>) -> Remedy {
    let settings = facts.operator.known().map(|operator| operator.source.to_string());
    let path = "jsonpath={.spec.template.spec.containers[*].readinessProbe}";
    Remedy::note(format!(
        "set enable_readiness_probe: false in {}, restart the operator, and wait for its sync",
        settings.as_deref().unwrap_or("the operator's configuration")
    ))
    .or_to(
        "ask again once this prints nothing",
        kubectl(facts, &["get", "statefulset", &facts.change.new.name, "-o", path]),
    )
}

/// Returns the commands by which no member leads that lacks rows of `last`, and those that take them
/// back. `None` where the document spells the lag in a way that no edit of its text finds.
fn closing(facts: &Assessment<'_>, last: &str) -> Option<Remedy> {
    let configuration = facts.configuration.known()?;
    let bytes = configuration.maximum_lag_on_failover;
    // In the JSON that kubectl prints, the document is a text: its quotes are escaped.
    let (close, open) = match configuration.document.get(LAG) {
        Some(written) if written.as_u64() == Some(bytes) => {
            let (long, short) = (format!(r#"\\"{LAG}\\": *{bytes}"#), format!(r#"\\"{LAG}\\":0"#));
            (format!("s/{long}/{short}/"), format!(r#"s/\\"{LAG}\\": *0/\\"{LAG}\\":{bytes}/"#))
        }
        None if configuration.document.is_object() => (
            format!(r#"s/"config": "{{/"config": "{{\\"{LAG}\\":0,/"#),
            format!(r#"s/\\"{LAG}\\":0,//"#),
        ),
        Some(_) | None => return None,
    };
    let source = facts.patroni_source("config").argument();
    let edit = |edit: &str| -> Command {
        kubectl(facts, &["get", &source, "-o", "json"]).piped_into(["sed", edit]).piped_into([
            "kubectl",
            "replace",
            "-n",
            &facts.change.new.namespace,
            "-f",
            "-",
        ])
    };
    // The operator writes the manifest's value into the configuration as soon as a member answers
    // (`checkAndSetGlobalPostgreSQLConfiguration`, pkg/cluster/sync.go).
    let written = facts
        .change
        .new
        .spec
        .pointer(&format!("/patroni/{LAG}"))
        .and_then(Value::as_i64)
        .filter(|bytes| *bytes > 0);
    let cluster = facts.postgresql_source().argument();
    let manifest = |value: &str| {
        let patch = format!(r#"{{"spec":{{"patroni":{{"{LAG}":{value}}}}}}}"#);
        kubectl(facts, &["patch", &cluster, "--type=merge", "-p", &patch])
    };
    let why = format!("so that only a member with every row of {last} leads, before the change");
    let back = format!("and back, once {last} leads or all members stream");
    Some(match written {
        None => Remedy::to(why, edit(&close)).or_to(back, edit(&open)),
        Some(bytes) => Remedy::to(why, manifest("null"))
            .or(edit(&close))
            .or_to(back, edit(&open))
            .or(manifest(&bytes.to_string())),
    })
}
