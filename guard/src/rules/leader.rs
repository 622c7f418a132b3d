//! The leader, and the conditions under which it can move out of the way of a shrink.
//!
//! The StatefulSet always deletes the highest ordinals. When the leader is one of them, the
//! operator asks Patroni for a switchover to ordinal 0, and only to that. When Patroni refuses it,
//! the operator logs a warning and lets the leader be deleted all the same (`preScaleDown`,
//! pkg/cluster/resources.go).

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Live, Member, Seen};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CREATE, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{
    Kind, Rule, critical_operation, inputs, inside, kubectl, members_unseen, status, unread,
    until_unmarked,
};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const NO_LEADER: Rule = Rule {
    id: RuleId::NO_LEADER,
    title: "no member leads, or more than one claims to",
    applies: Applies::on(&[DOWN.to_at_least(1), UP]),
    default: "deny down, warn up",
    kind: Kind::Live,
    page: "\
A cluster without a leader takes no writes, and nothing can say which member has the newest data: a shrink
may delete the only one that has it. Two leaders are worse.

Signals: the leader lock that Patroni renews every loop (annotations of `<cluster>-leader` or of the
Endpoints `<cluster>`), valid until renewTime + ttl; whether its holder is a pod of the cluster; how many pods
carry the role label of a leader, `master` or the value that Patroni is configured to write (with two masters
the operator's own hand-over gives up: `getRolePods`, pkg/cluster/pod.go).

Blind spots: the lock says who led up to ttl seconds ago, and clocks may differ: five seconds are allowed for.
A leader that dies between the reading and the shrink is not seen.

Way out: let a leader be elected (`kubectl pgscale status NAME` shows what each member says), resume a paused
Patroni, or repair the member that should lead. Where the pod of one that led and died goes on saying that it
leads, delete that pod, by force if its node is lost: it comes back as a standby. A shrink that removes only
unhealthy members needs a leader to be sure that none of them led. To bring back a count that was not applied
yet is never refused.

Upstream: `patroni/dcs/kubernetes.py`; preScaleDown, pkg/cluster/resources.go.",
    reads: &[inputs::leader, inputs::role_labels, inputs::answers],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Answers, Read::Leader]),
    check: no_leader,
    #[cfg(any(test, feature = "testing"))]
    table: tests::no_leader,
};

fn no_leader(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let grows = facts.direction() == Direction::Up;
    let severity = if grows { Severity::Warn } else { Severity::Deny };
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    if members.is_empty() && facts.from() == Some(0) {
        return Outcome::NotApplicable;
    }
    let cluster = facts.change.cluster();
    let status = Remedy::to("ask again when one member leads; their state", status(facts));
    let lock = match &facts.leader {
        Seen::Unreadable(why) => return unread("the leader lock", why),
        Seen::Absent => {
            return Outcome::Found(
                Finding::new(
                    NO_LEADER.id,
                    severity,
                    format!("no member leads {cluster}: Patroni has no leader lock"),
                )
                .because_of(Evidence::absent(facts.lock_source()))
                .remedy(status),
            );
        }
        Seen::Known(lock) => lock,
    };
    let Some(holder) = facts.leader_name() else {
        let why = if lock.holder.is_none() { "was released" } else { "has expired" };
        let message = format!("no member leads {cluster}: the leader lock {why}");
        let mut finding = Finding::new(NO_LEADER.id, severity, message);
        finding.evidence = inputs::lock(lock);
        return Outcome::Found(finding.remedy(status));
    };
    if facts.leader_member().is_none() {
        return Outcome::Found(
            Finding::new(
                NO_LEADER.id,
                severity,
                format!("the leader lock is held by {holder}, which is not a pod of {cluster}"),
            )
            .because(lock.source.clone(), "leader", holder)
            .remedy(status),
        );
    }
    let masters: Vec<_> = facts.labelled_leaders().collect();
    if masters.len() > 1 {
        let mut finding = Finding::new(
            NO_LEADER.id,
            severity,
            format!(
                "{} pods of {cluster} are labelled as leaders, {holder} holds the lock",
                masters.len()
            ),
        );
        for master in &masters {
            let label = master.pod.role.as_deref().unwrap_or_default();
            finding = finding.because(ObjectRef::pod(&master.name), "role label", label);
        }
        let claims = masters.into_iter().filter(|master| master.name != holder);
        return Outcome::Found(finding.remedy(end_the_dead(facts, claims).unwrap_or(status)));
    }
    let contradicting: Vec<_> =
        facts.all_members().iter().filter(|member| facts.contradicts_lock(member)).collect();
    if !contradicting.is_empty() {
        let mut finding = Finding::new(
            NO_LEADER.id,
            severity,
            format!("{holder} holds the leader lock, but not every member agrees"),
        )
        .because(lock.source.clone(), "leader", holder);
        for member in &contradicting {
            let role = if member.name == holder {
                "another than leader, although it holds the lock"
            } else {
                "leader, without the lock"
            };
            finding.evidence.push(facts.quote(member, "role", role));
        }
        let remedy = end_the_dead(facts, contradicting.into_iter());
        return Outcome::Found(finding.remedy(remedy.unwrap_or(status)));
    }
    match facts.all_members().iter().find(|member| facts.may_contradict_lock(member)) {
        None => Outcome::Pass,
        Some(member) => Outcome::Unknown(format!(
            "{} did not say whether it leads, and left no report that could be read",
            member.name
        )),
    }
}

pub(super) const PAUSED: Rule = Rule {
    id: RuleId::PAUSED,
    title: "Patroni is in maintenance mode: no member takes over, and none starts",
    applies: Applies::on(&[DOWN.to_at_least(1), UP.to_at_least(1), CREATE.to_at_least(1)]),
    default: "down: deny if the leader is removed, else warn; up: warn; from 0: deny",
    kind: Kind::Live,
    page: "\
In Patroni's maintenance mode (`patronictl pause`) no member takes over: when a paused leader's pod is deleted
the leader lock is kept and writes stop until a person resumes Patroni (200s and counting when measured). A
switchover to a named candidate still works, so the operator's hand-over to ordinal 0 may succeed; when it
does not, nothing else helps. The mode is also set while a major upgrade runs.

A member that is added does not start either: it neither copies from the leader nor, from zero, takes the
lead. On the way back from zero, and for a CREATE over what is left of a paused cluster, that is a full
outage which no repair excuses.

Signals: `pause` in the dynamic configuration (annotation `config` of `<cluster>-config`); for a shrink,
whether the leader is known to stay; for growth, whether any member runs.

Blind spots: a pause that begins after the reading.

Way out: `patronictl resume` in any pod of the cluster (at zero there is none: the refusal prints a command that
resumes Patroni in its object), or `kubectl pgscale down NAME --to N`, which moves the
leader by a switchover to a named member first. While a pod is labelled critical-operation, wait: a major
upgrade may run, and Patroni, resumed, would start the data directories that are being upgraded.

Upstream: Ha.shutdown and is_paused, patroni/ha.py; do_POST_switchover, patroni/api.py.",
    reads: &[inputs::pause, inputs::leader, inputs::marks, inputs::pods],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods, Read::Answers, Read::Leader, Read::Configuration]),
    check: paused,
    #[cfg(any(test, feature = "testing"))]
    table: tests::paused,
};

fn paused(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let direction = facts.direction();
    let starts = direction == Direction::Create || facts.from() == Some(0);
    let configuration = match &facts.configuration {
        Seen::Known(configuration) => configuration,
        // A cluster that never ran.
        Seen::Absent if starts => return Outcome::Pass,
        Seen::Absent => {
            return Outcome::Unknown("Patroni's configuration is not there".to_owned());
        }
        Seen::Unreadable(why) => return unread("Patroni's configuration", why),
    };
    if !configuration.paused {
        return Outcome::Pass;
    }
    if direction != Direction::Down {
        return paused_growth(facts, starts);
    }
    // Only a leader that is known to stay makes it harmless.
    let (severity, message) = match (facts.leader_stays(), facts.leader_name()) {
        (true, Some(leader)) => (
            Severity::Warn,
            format!("Patroni is paused: should {leader} fail, no member takes over"),
        ),
        (_, Some(leader)) => (
            Severity::Deny,
            format!(
                "{leader} leads and would be deleted while Patroni is paused: no member takes over"
            ),
        ),
        (_, None) => {
            (Severity::Deny, "no member leads, and Patroni is paused: none takes over".to_owned())
        }
    };
    let mut finding = Finding::new(PAUSED.id, severity, message)
        .because(facts.patroni_source("config"), "pause", true)
        .if_leader_goes(facts.leader_condemned());
    let (remedy, marked) = resume(facts);
    finding.evidence.extend(marked);
    Outcome::Found(finding.remedy(remedy))
}

/// Returns the remedy that resumes Patroni, and the marks that forbid it for now.
///
/// In the middle of a major upgrade a resumed Patroni would start the PostgreSQL that is being
/// upgraded.
fn resume(facts: &Assessment<'_>) -> (Remedy, Vec<Evidence>) {
    let resume = inside(facts, &["patronictl", "resume"]);
    let marked = critical_operation(facts);
    let remedy = if !marked.is_empty() {
        until_unmarked(facts)
    } else if facts.leader_name().is_none() {
        Remedy::to("be sure that no major upgrade runs, then resume it", resume)
    } else {
        Remedy::run(resume)
    };
    (remedy, marked)
}

/// Judges members that start while Patroni is paused: they neither take the lead nor copy from a
/// leader (`bootstrap` and `_run_cycle`, patroni/ha.py).
fn paused_growth(facts: &Assessment<'_>, starts: bool) -> Outcome {
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let config = facts.patroni_source("config");
    if !starts || !members.is_empty() {
        let message = "Patroni is paused: a new member does not start before it is resumed";
        let mut finding = Finding::warn(PAUSED.id, message).because(config, "pause", true);
        let (remedy, marked) = resume(facts);
        finding.evidence.extend(marked);
        return Outcome::Found(finding.remedy(remedy));
    }
    // Without a pod there is no patronictl. The same object is edited instead, which is JSON within
    // JSON.
    let resume = kubectl(facts, &["get", &config.argument(), "-o", "json"])
        .piped_into(["sed", r#"s/\\"pause\\": *true/\\"pause\\":false/"#])
        .piped_into(["kubectl", "replace", "-f", "-"]);
    let remedy = Remedy::to("resume it first", resume);
    let finding = Finding::deny(
        PAUSED.id,
        "Patroni is paused and no member runs: none of the new ones would ever take the lead",
    )
    .because(config, "pause", true);
    Outcome::Found(finding.remedy(remedy).unexcused())
}

/// Returns the remedy for dead members that once led and whose pods still say that they lead, while
/// another member leads by now. `None` where anything else is wrong.
fn end_the_dead<'a>(
    facts: &Assessment<'_>,
    claims: impl Iterator<Item = &'a Member>,
) -> Option<Remedy> {
    let leads = |member: &Member| match &member.live {
        Live::Answered(answer) => answer.role.leads(),
        Live::NotAsked | Live::Silent(_) => false,
    };
    if !facts.leader_member().is_some_and(leads) {
        return None;
    }
    let mut ways = Remedy::default();
    for member in claims {
        let Member { name, pod, .. } = member;
        let delete = ["delete", "pod", name.as_str()];
        if pod.node_ready == Some(false) {
            let node = pod.node.as_deref().unwrap_or_default();
            let force = [&delete[..], &["--force", "--grace-period=0"]].concat();
            let why = format!("only once {node} is sure to be powered off");
            ways = ways.or_to(why, kubectl(facts, &force));
        } else if pod.containers_running {
            return None;
        } else {
            let why =
                format!("{name} runs no PostgreSQL, and another member leads: remove its old pod");
            ways = ways.or_to(why, kubectl(facts, &delete));
        }
    }
    (!ways.commands.is_empty()).then_some(ways)
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests;
