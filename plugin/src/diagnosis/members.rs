//! Problems of single members, one cause each: the pod before its PostgreSQL, and PostgreSQL before
//! its replication.

use pgscale_guard::evidence::Evidence;
use pgscale_guard::facts::{Health, Member, Problem, Waiting};
use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::remedy::{Command, Suggested};

use super::{Cause, Clues, DELETION};
use crate::plan::{claim, nobody_answered};
use crate::terminal::text::{age, bytes};

/// The rank of a member's problem by how much else it explains. The lowest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Claims,
    Node,
    Pod,
    Rebuild,
    Database,
    Timeline,
    Replication,
    Silent,
    Unknown,
    Leaving,
}

/// Returns one cause for each member with a problem, the likeliest first.
pub(super) fn causes(clues: &Clues<'_>) -> Vec<Cause> {
    let facts = clues.facts();
    let mut ranked: Vec<(Rank, i64, Cause)> = Vec::new();
    for member in facts.all_members() {
        let found = if member.ordinal >= facts.to() {
            Some((Rank::Leaving, leaving(clues, member)))
        } else {
            member_cause(clues, member)
        };
        ranked.extend(found.map(|(rank, cause)| (rank, member.ordinal, cause)));
    }
    if let Some(why) = nobody_answered(facts).map(str::to_owned) {
        // One cause for all, and not one for each member that could not be asked.
        let before = ranked.len();
        ranked.retain(|(rank, ..)| *rank != Rank::Unknown);
        if ranked.len() < before {
            ranked.push((Rank::Unknown, 0, unasked(clues, &why)));
        }
    } else if let Some(leader) = facts.leader_member()
        && ranked.iter().any(|(_, ordinal, _)| *ordinal == leader.ordinal)
    {
        // Members cannot be compared with a leader that is in trouble itself.
        ranked.retain(|(rank, ..)| *rank != Rank::Unknown);
    }
    ranked.sort_by_key(|(rank, ordinal, _)| (*rank, *ordinal));
    ranked.into_iter().map(|(.., cause)| cause).collect()
}

fn unasked(clues: &Clues<'_>, why: &str) -> Cause {
    let next = clues.kubectl(&["auth", "can-i", "create", "pods", "--subresource=portforward"]);
    Cause::new("no member could be asked how far it is", next)
        .because_of(Evidence::unreadable(ObjectRef::all(Kind::Member), why))
}

fn leaving(clues: &Clues<'_>, member: &Member) -> Cause {
    let (what, deleted) = if member.pod.terminating {
        (format!("{} has not ended yet", member.name), "set")
    } else {
        (format!("{} is still there", member.name), "unset")
    };
    let cause = |next: Command| Cause::new(what, next).because(source(member), DELETION, deleted);
    match lost_node(member).filter(|_| member.pod.terminating) {
        Some(node) => {
            let cause = cause(about_node(clues, node)).because_of(not_ready(node));
            Cause { last_resort: Some(by_force(clues, member)), ..cause }
        }
        None => cause(clues.kubectl(&["describe", "pod", &member.name])),
    }
}

/// Returns the node of `member` where that is not Ready.
fn lost_node(member: &Member) -> Option<&str> {
    (member.pod.node_ready == Some(false)).then(|| member.pod.node.as_deref().unwrap_or("?"))
}

fn about_node(clues: &Clues<'_>, node: &str) -> Command {
    clues.anywhere(&["describe", "node", node])
}

/// Returns the state of a lost node.
fn not_ready(node: &str) -> Evidence {
    let value = "not True, and its kubelet ends no pod";
    Evidence::new(ObjectRef::new(Kind::Node, node), "condition Ready", value)
}

/// Returns the command that removes a pod from a node that does not come back.
///
/// It is not the command to run next: on a node that is only cut off, PostgreSQL continues to run.
fn by_force(clues: &Clues<'_>, member: &Member) -> Suggested {
    let namespace = &clues.facts().change.new.namespace;
    let delete = ["delete", "pod", &member.name, "--force", "--grace-period=0", "-n", namespace];
    let node = lost_node(member).unwrap_or("?");
    Suggested {
        why: Some(format!("only once {node} is sure to be powered off")),
        command: Command::kubectl(delete).reached_by(clues.reach),
    }
}

fn member_cause(clues: &Clues<'_>, member: &Member) -> Option<(Rank, Cause)> {
    let facts = clues.facts();
    let pod = &member.pod;
    if let Some(node) = lost_node(member) {
        if pod.terminating {
            let what = format!("{} is being deleted on a node that is not Ready", member.name);
            let cause = Cause::new(what, about_node(clues, node))
                .because(source(member), DELETION, "set")
                .because_of(not_ready(node));
            let last_resort = Some(by_force(clues, member));
            return Some((Rank::Node, Cause { last_resort, ..cause }));
        }
        let what = format!("the node of {} is not Ready", member.name);
        let cause = Cause::new(what, about_node(clues, node));
        return Some((
            Rank::Node,
            cause.because(ObjectRef::new(Kind::Node, node), "condition Ready", "no"),
        ));
    }
    if pod.terminating {
        let next = clues.kubectl(&["describe", "pod", &member.name]);
        let set = facts.stateful_set.known();
        let what = match set.filter(|set| set.replicas <= member.ordinal) {
            Some(set) => format!(
                "{} is being deleted: the StatefulSet asks for {}",
                member.name, set.replicas
            ),
            None => format!("{} is being deleted and comes back", member.name),
        };
        let cause = Cause::new(what, next);
        return Some((Rank::Pod, cause.because(source(member), DELETION, "set")));
    }
    if pod.phase != "Running" || !pod.containers_running {
        return Some((Rank::Pod, idle_pod(clues, member)));
    }
    if let Some(how) = facts.rebuilding(member) {
        let since = age(pod.created, facts.now);
        let cause = Cause::new(format!("{} is being built", member.name), logs(clues, member))
            .because_of(facts.evidence_for(member, &Problem::Rebuilding(how)))
            .because(source(member), "age of its pod", since);
        return Some((Rank::Rebuild, cause));
    }
    match clues.snapshot.facts.assessment().health(member) {
        Health::Healthy => (crate::watch::replicates(member) == Some(false)
            && facts.leader_name() != Some(member.name.as_str()))
        .then(|| replication(clues, member, &Problem::NotReplicating)),
        // Without a leader no member can be compared with it. That is a cause of its own.
        Health::Unknown(_) if facts.leader_name().is_none() => None,
        Health::Unknown(why) => {
            let cause = Cause::new(
                format!("the state of {} is not known", member.name),
                clues.patronictl(&["list"]),
            );
            Some((Rank::Unknown, cause.because(source(member), "health not known", why)))
        }
        Health::Unhealthy(problems) => {
            let worst = problems.iter().min_by_key(|problem| weight(problem))?;
            Some(replication(clues, member, worst))
        }
    }
}

fn source(member: &Member) -> ObjectRef {
    ObjectRef::pod(&member.name)
}

fn logs(clues: &Clues<'_>, member: &Member) -> Command {
    clues.kubectl(&["logs", &member.name, "-c", "postgres", "--tail=30"])
}

/// Returns the cause for a pod that does not run, in the words of the component that holds it up.
fn idle_pod(clues: &Clues<'_>, member: &Member) -> Cause {
    let name = &member.name;
    let waiting = member.pod.waiting.as_ref();
    let words = waiting.map(ToString::to_string).unwrap_or_default();
    let describe = clues.kubectl(&["describe", "pod", name]);
    let about_claim = claim(clues.facts(), member.ordinal).and_then(|claim| {
        let reasons = ["ProvisioningFailed", "FailedBinding"];
        clues.event("PersistentVolumeClaim", &claim, &reasons).map(|event| (claim, event))
    });
    let scheduling = ["FailedScheduling"];
    let mounting = ["FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"];
    let unscheduled = member.pod.node.is_none() && member.pod.phase == "Pending";
    let placeless = unscheduled && about_claim.is_none();
    let (what, next) = if let Some((claim, _)) = &about_claim {
        let next = clues.kubectl(&["describe", "pvc", claim]);
        (format!("the volume of {name} cannot be made"), next)
    } else if unscheduled {
        (format!("{name} cannot be scheduled"), describe)
    } else if waiting.is_some_and(lacks_image) {
        (format!("the image of {name} cannot be pulled"), describe)
    } else if let Some(waiting) = waiting.filter(|waiting| waiting.crashes()) {
        let mut logs = vec!["logs", name.as_str(), "-c", "postgres"];
        logs.extend(waiting.last_run());
        logs.push("--tail=30");
        let restarts = member.pod.restarts;
        let what = if restarts == 0 && waiting.exit_code.is_some() {
            format!("{name} has ended, and was not started again yet")
        } else {
            format!("{name} crashes over and over ({restarts} restarts)")
        };
        (what, clues.kubectl(&logs))
    } else if clues.event("Pod", name, &mounting).is_some() {
        (format!("{name} cannot be started on its node"), describe)
    } else {
        (format!("{name} does not run yet"), describe)
    };
    let status = if words.is_empty() { &member.pod.phase } else { &words };
    let mut cause = Cause::new(what, next).because(source(member), "status", status);
    let about_claim = about_claim.map(|(claim, event)| (ObjectRef::claim(&claim), event));
    let event = about_claim.or_else(|| {
        let of_pod = |reasons: &[&str]| clues.event("Pod", name, reasons);
        of_pod(&mounting).or_else(|| of_pod(&scheduling)).map(|event| (source(member), event))
    });
    let said = waiting.and_then(|waiting| waiting.message.as_ref());
    if let Some((object, event)) = event.filter(|(_, event)| Some(&event.message) != said) {
        cause = cause.because_of(event.evidence(object, clues.facts().now));
    }
    if placeless {
        cause.evidence.extend_from_slice(clues.nodes);
    }
    cause
}

/// Returns whether the image of a container cannot be pulled, by the kubelet's reason
/// (`pkg/kubelet/images/types.go`).
fn lacks_image(waiting: &Waiting) -> bool {
    matches!(
        waiting.reason.as_deref(),
        Some("ErrImageNeverPull" | "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName")
    )
}

/// Returns the weight of a problem. Of several problems, the one that explains the others weighs
/// most.
fn weight(problem: &Problem) -> u8 {
    match problem {
        Problem::Missing
        | Problem::NodeNotReady(_)
        | Problem::PodNotRunning(_)
        | Problem::Terminating => 0,
        Problem::WrongRole => 1,
        Problem::Rebuilding(_) => 2,
        Problem::NotRunning(_) => 3,
        Problem::Timeline { .. } => 4,
        Problem::NotReplicating => 5,
        Problem::Behind(_) => 6,
        Problem::ReplayPaused => 7,
        Problem::ReplayBehind { .. } => 8,
        Problem::Silent(_) => 9,
        Problem::StoreUnreached(_) => 10,
        Problem::NoFailover | Problem::WatchdogFailed => 11,
    }
}

/// Returns the cause for a member whose pod runs, and whose PostgreSQL or replication does not.
fn replication(clues: &Clues<'_>, member: &Member, problem: &Problem) -> (Rank, Cause) {
    let name = &member.name;
    let sql = |words: &str| clues.exec(name, &["psql", "-U", "postgres", "-xc", words]);
    let receiver = || sql("select * from pg_stat_wal_receiver");
    let (rank, what, next) = match problem {
        Problem::WrongRole => (
            Rank::Claims,
            format!("{name} claims to lead without holding the leader lock"),
            clues.patronictl(&["list"]),
        ),
        Problem::NotRunning(state) => (
            Rank::Database,
            format!("PostgreSQL of {name} does not run: {state}"),
            logs(clues, member),
        ),
        Problem::Timeline { own, leader } => (
            Rank::Timeline,
            format!("{name} is on timeline {own} and the leader on {leader}: it has diverged"),
            logs(clues, member),
        ),
        Problem::NotReplicating => {
            (Rank::Replication, format!("{name} replicates from no member"), receiver())
        }
        Problem::Behind(missing) => (
            Rank::Replication,
            format!("{name} does not receive: it lacks {}", bytes(*missing)),
            receiver(),
        ),
        Problem::ReplayPaused => (
            Rank::Replication,
            format!("the replay of {name} is paused"),
            sql("select pg_wal_replay_resume()"),
        ),
        Problem::ReplayBehind { bytes: missing, .. } => (
            Rank::Replication,
            format!("the replay of {name} is {} behind", bytes(*missing)),
            sql("select * from pg_stat_activity where backend_type = $$startup$$"),
        ),
        Problem::Silent(_) => (
            Rank::Silent,
            format!("{name} does not answer"),
            clues.exec(name, &["curl", "-sS", "--max-time", "5", "localhost:8008/patroni"]),
        ),
        Problem::StoreUnreached(seconds) => (
            Rank::Replication,
            format!("Patroni of {name} has not reached its store for {seconds}s"),
            logs(clues, member),
        ),
        Problem::Missing
        | Problem::NodeNotReady(_)
        | Problem::NoFailover
        | Problem::PodNotRunning(_)
        | Problem::Rebuilding(_)
        | Problem::Terminating
        | Problem::WatchdogFailed => {
            (Rank::Unknown, format!("{name} is not healthy"), logs(clues, member))
        }
    };
    let cause = Cause::new(what, next).because_of(clues.facts().evidence_for(member, problem));
    let paused = *problem == Problem::ReplayPaused;
    (rank, if paused { cause.once("the pause is not meant") } else { cause })
}
