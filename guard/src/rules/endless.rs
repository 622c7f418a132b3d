//! The remedies that only wait or look, where that alone never ends: the command that lets it end
//! comes first.
//!
//! A rule that says to wait sees its own part of the cluster. Another part may be the reason why
//! nothing goes on: a paused Patroni starts no member, `OrderedReady` makes no pod after a broken one,
//! a pod on a lost node never ends, and an operator that is down applies nothing.

use crate::facts::{Facts, Member, Waiting};
use crate::remedy::{Command, Remedy, Suggested};
use crate::rule_id::RuleId;
use crate::rules::operator::start_operator;
use crate::rules::{critical_operation, inside, kubectl, status};
use crate::verdict::Verdict;

/// The rules whose wait ends by an act of the operator.
const FOR_THE_OPERATOR: [RuleId; 2] = [RuleId::CHANGE_NOT_APPLIED, RuleId::OPERATION_IN_PROGRESS];

/// The reasons of a container that is about to start.
const STARTS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Puts the commands without which waiting never ends before every command that only waits or looks.
pub(super) fn mend(verdict: &mut Verdict, facts: &Facts) {
    for finding in &mut verdict.findings {
        let Some(remedy) = &mut finding.remedy else { continue };
        let Some(first) = remedy.commands.first_mut() else { continue };
        let Some(about) = About::of(&first.command, facts) else { continue };
        let hindrances = hindrances(finding.rule, about, facts);
        if hindrances.is_empty() {
            continue;
        }
        if first.why.is_none() {
            first.why = Some("then".to_owned());
        }
        remedy.commands.splice(0..0, hindrances);
    }
}

/// The members that a command is about which does nothing by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// All that the cluster asks for: it waits for them.
    All,
    /// Those that are kept: one of them is to be mended, and the command shows their state.
    Kept,
}

impl About {
    fn of(command: &Command, facts: &Facts) -> Option<Self> {
        let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["kubectl", "pgscale", "wait", ..] => Some(Self::All),
            _ => (*command == status(facts)).then_some(Self::Kept),
        }
    }
}

/// Returns the commands that remove what keeps a wait from ending, each with the reason.
fn hindrances(rule: RuleId, about: About, facts: &Facts) -> Vec<Suggested> {
    let mut found = Remedy::default();
    let count = match about {
        About::All => facts.from().unwrap_or(0).max(facts.to()),
        About::Kept => facts.to(),
    };
    let members = || facts.all_members().iter().filter(|member| member.ordinal < count);
    let paused = facts.configuration.known().is_some_and(|configuration| configuration.paused);
    let none_leads = facts.leader.unreadable().is_none() && facts.leader_member().is_none();
    let builds = members().any(|member| facts.rebuilding(member).is_some());
    // While a major upgrade may run, Patroni must stay paused.
    if paused && (none_leads || builds) && critical_operation(facts).is_empty() {
        let runs = facts.all_members().iter().any(|member| member.pod.containers_running);
        if runs {
            let why = if none_leads {
                "Patroni is paused, so no member takes the lead. Be sure that no major upgrade runs, then resume it"
            } else {
                "Patroni is paused, so no new member starts: resume it"
            };
            found = found.or_to(why, inside(facts, &["patronictl", "resume"]));
        }
    }
    if FOR_THE_OPERATOR.contains(&rule)
        && let Some(start) = start_operator(facts)
    {
        found = found.and(start);
    }
    for member in members() {
        if let Some((why, command)) = stuck(facts, member) {
            found = found.or_to(why, command);
        }
    }
    found.commands
}

/// Returns the reason why `member` does not go on by itself, and the command that shows or ends it.
fn stuck(facts: &Facts, member: &Member) -> Option<(String, Command)> {
    let Member { name, pod, .. } = member;
    let lost = pod.node.as_deref().filter(|_| pod.node_ready == Some(false));
    if let Some(node) = lost {
        // The pod of a leader whose lock still holds is not ended by force: another one leads first.
        let leads = facts.leader_name() == Some(name.as_str());
        return Some(if pod.terminating && !leads {
            let force = ["delete", "pod", name.as_str(), "--force", "--grace-period=0"];
            (
                format!(
                    "{name} ends only when its node answers. Once {node} is sure to be powered off"
                ),
                kubectl(facts, &force),
            )
        } else {
            (
                format!("{name} runs on {node}, which is not Ready"),
                Command::kubectl(["describe", "node", node]),
            )
        });
    }
    if let Some(waiting) = &pod.waiting
        && !pod.containers_running
        && !waiting.reason.as_deref().is_some_and(|reason| STARTS.contains(&reason))
    {
        return Some(not_running(facts, member, waiting));
    }
    let how = facts.rebuilding(member).filter(|_| facts.lasting(member).is_some())?;
    let logs = ["logs", name.as_str(), "-c", "postgres", "--tail=50"];
    Some((format!("{name} has been so for over an hour ({how}); its log"), kubectl(facts, &logs)))
}

fn not_running(facts: &Facts, member: &Member, waiting: &Waiting) -> (String, Command) {
    let name = member.name.as_str();
    if !waiting.crashes() {
        let why = format!("{name} does not start ({waiting}); see why");
        return (why, kubectl(facts, &["describe", "pod", name]));
    }
    let container = waiting.container.as_deref().unwrap_or("postgres");
    let mut logs = vec!["logs", name, "-c", container];
    logs.extend(waiting.last_run());
    // It may hold the only copy of the rows: another database may have been founded beside it.
    let ends = if waiting.exit_code.is_some() && member.pod.restarts == 0 {
        "has ended"
    } else {
        "ends over and over"
    };
    let why = format!(
        "{name} {ends}. Keep its volume, and read its log. For \"system ID mismatch\" see `kubectl pgscale \
         rules {}`",
        RuleId::DCS_STORE_CHANGING
    );
    (why, kubectl(facts, &logs))
}

/// Returns the commands that must come before a wait that a finding of `rule` suggests.
#[cfg(test)]
pub(super) fn before_a_wait(rule: RuleId, facts: &Facts) -> Vec<String> {
    hindrances(rule, About::All, facts).iter().map(|it| it.command.to_string()).collect()
}
