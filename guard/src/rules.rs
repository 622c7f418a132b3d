//! The table of rules, and helpers that rules share.
//!
//! A rule is one function beside its documentation and its table test. It never weighs policy:
//! `severity` decides once what an unknown fact means, what a repair excuses and what the mode of a
//! policy changes. `judge` collects the findings, and `evaluate` adds the counts that would pass.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Facts, Live, Member, Seen};
use crate::object_ref::ObjectRef;
use crate::objects::spell;
use crate::operator::Settings;
use crate::patroni::{Answer, Report};
use crate::policy::{Mode, Policies};
use crate::remedy::{Command, Remedy};
use crate::rule_id::RuleId;
use crate::verdict::{Outcome, Severity};

mod after_switchover;
mod alternative;
mod applies;
mod bounds;
mod budget;
mod calendar;
mod capacity;
mod causes;
mod configuration;
mod direct_scale;
mod draining;
mod early;
mod endless;
mod evaluate;
mod floor;
mod foreign;
mod images;
mod inputs;
mod judge;
mod leader;
mod mixed;
mod offline;
mod operator;
mod operator_switchover;
mod passing;
mod pending;
mod progress;
mod reads;
mod rebuild;
mod recreation;
mod relabelled;
mod remaining;
mod replacement;
mod severity;
mod slots;
mod stateful_set;
mod stopping;
mod storage;
mod store;
mod survivors;
mod synchronous;
mod upgrade;
mod zero;

#[cfg(test)]
mod coverage;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "most of it is for this crate"))]
#[allow(
    clippy::assigning_clones,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "it is for tests"
)]
mod generated;
#[cfg(test)]
mod judged_parts;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod replayed;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "it is for tests")]
mod scenarios;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "most of it is for this crate"))]
#[allow(clippy::return_self_not_must_use, clippy::unwrap_used, reason = "it is for tests")]
pub(crate) mod testing;
#[cfg(test)]
mod ways_out;

pub use after_switchover::{AFTER_SWITCHOVER, after_switchover};
pub use alternative::{Alternative, alternative};
pub use applies::Applies;
pub use causes::{Cause, causes};
pub use direct_scale::past_the_operator;
use direct_scale::take_back;
pub use early::{refusable_unseen, refused_unseen};
pub use evaluate::{Partial, evaluate, judge_with};
pub use inputs::Input;
use judge::judge;
pub use offline::{Offline, judge_offline};
pub use pending::about_switchover;
#[cfg(feature = "read")]
pub(crate) use reads::may_shrink;
pub use reads::{Read, Reads};
pub use recreation::{Recreation, Volumes, recreation};

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The id: stable, part of the API.
    pub id: RuleId,
    /// The title: one line for tables.
    pub title: &'static str,
    /// The kinds of change that the rule looks at.
    pub applies: Applies,
    /// The default outcome, unless a policy changes it, for tables.
    pub default: &'static str,
    /// The page: the danger, the signals, their blind spots and the remedy.
    pub page: &'static str,
    /// The kind of judgement.
    pub kind: Kind,
    /// The objects that the rule looks at, for explanations.
    pub reads: &'static [Input],
    /// The parts of the facts that its outcome rests on.
    needs: Reads,
    /// Judges a change of one of those kinds.
    check: fn(&Assessment<'_>, &Policies) -> Outcome,
    /// Its table test: situations, each with the expected outcome.
    #[cfg(any(test, feature = "testing"))]
    pub table: fn(),
}

impl Rule {
    /// Returns the rule's outcome for the change, before policies weigh it.
    fn judge(&self, facts: &Assessment<'_>, policies: &Policies) -> Outcome {
        if !self.applies.includes(facts) {
            return Outcome::NotApplicable;
        }
        (self.check)(facts, policies)
    }
}

/// The kind of a rule's judgement, which decides what a repair excuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bounds that policies, the operator or the data set. A repair has to keep them too.
    Bound,
    /// The pace and the times at which policies let the count change. Such a rule only warns about
    /// a repair, and says nothing about the undo of the last change.
    Calendar,
    /// The live state of the cluster. Such a rule only warns about a repair.
    Live,
    /// The room for what is to start. Such a rule only warns about a repair of members that run.
    /// Where none runs, no repair excuses it.
    Room,
    /// Advice for afterwards, and no reason to refuse. An unreadable fact is only reported.
    Advisory,
}

/// Every rule, in the order in which findings are shown.
pub const RULES: &[Rule] = &[
    bounds::BELOW_MIN,
    bounds::ABOVE_MAX,
    floor::OUTSIDE_FLOOR,
    bounds::SCALE_TO_ZERO,
    budget::NAMESPACE_BUDGET,
    zero::RETURN_FROM_ZERO,
    bounds::OPERATOR_LIMITS,
    operator::LIMITS_UNKNOWN,
    operator::STANDBY_CLUSTER,
    store::DCS_STORE_CHANGING,
    calendar::STEP_TOO_LARGE,
    calendar::CHANGE_FREEZE,
    calendar::OUTSIDE_WINDOW,
    leader::NO_LEADER,
    operator_switchover::LEADER_CONDEMNED,
    operator_switchover::LEADER_CANNOT_MOVE,
    stopping::LAST_TO_STOP,
    survivors::TOO_FEW_HEALTHY_SURVIVORS,
    survivors::SURVIVOR_UNHEALTHY,
    slots::LOGICAL_SLOTS,
    synchronous::SYNC_STANDBYS_CONDEMNED,
    synchronous::STRICT_SYNC_FLOOR,
    synchronous::SYNC_COUNT_FLOOR,
    remaining::NO_STANDBY_LEFT,
    leader::PAUSED,
    pending::SWITCHOVER_PENDING,
    rebuild::REBUILD_IN_PROGRESS,
    progress::OPERATION_IN_PROGRESS,
    progress::CHANGE_NOT_APPLIED,
    pending::MAJOR_UPGRADE,
    upgrade::UPGRADE_PENDING,
    operator::OPERATOR_FAILED,
    operator::OPERATOR_ABSENT,
    mixed::MIXED_CHANGE,
    replacement::REPLACE_PENDING,
    pending::RESTART_PENDING,
    configuration::CONFIGURATION_DRIFT,
    stateful_set::PARALLEL_SHRINK,
    stateful_set::WILL_NOT_PROGRESS,
    remaining::SURVIVORS_ONE_ZONE,
    draining::SURVIVORS_DRAINING,
    remaining::CASCADE_CONDEMNED,
    capacity::QUOTA_HEADROOM,
    capacity::LIMIT_RANGE,
    capacity::TOO_FEW_NODES,
    capacity::TOO_FEW_WAL_SENDERS,
    images::IMAGES_DIFFER,
    storage::VOLUMES_DELETED,
    storage::STALE_VOLUME,
    foreign::FOREIGN_VOLUME,
    storage::VOLUME_RESIZING,
    storage::PDB_BLOCKS_DRAIN,
    storage::NO_RECENT_BACKUP,
    direct_scale::STATEFULSET_SCALED,
];

/// The number of members without a pod, or of volume claims, that a finding names.
const NAMED: usize = 5;

/// Returns the rule with this id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// Returns the outcome of a rule that needs `what`, which could not be read because of `why`.
fn unread(what: &str, why: &str) -> Outcome {
    Outcome::Unknown(format!("{what} could not be read ({why})"))
}

/// Returns a rule's outcome by all policies, where `known` is its outcome by the readable ones.
///
/// If other policies could not be read, `known` stands only if it refuses: no other policy could
/// lift that, and the unread ones could refuse a change that passes by these.
fn by_policies(known: Outcome, facts: &Facts, policies: &Policies) -> Outcome {
    let Some(why) = &policies.unreadable else { return known };
    match &known {
        Outcome::Found(finding) => {
            let enforced = finding.mode.is_none_or(|mode| mode == Mode::Enforce);
            if enforced && finding.severity == Severity::Deny {
                return known;
            }
        }
        Outcome::Pass => {}
        Outcome::NotApplicable | Outcome::Unknown(_) | Outcome::Unsaid { .. } => return known,
    }
    policies_unread(why, facts, policies)
}

/// Returns the outcome of a rule that needs the policies, some of which are unreadable for `why`.
fn policies_unread(why: &str, facts: &Facts, policies: &Policies) -> Outcome {
    match policies.undecodable.first() {
        // Reading again does not help. Only correcting the policy helps.
        Some(one) => Outcome::Unsaid {
            why: why.to_owned(),
            remedy: Remedy::run(one.correction(&facts.change.new.namespace)),
        },
        None => unread("the scale policies", why),
    }
}

/// Returns the outcome of a rule that needs the cluster's pods and cannot see them.
fn members_unseen(facts: &Facts) -> Outcome {
    let why = facts.members.unreadable().unwrap_or("there are none");
    Outcome::Unknown(format!("the cluster's pods could not be listed ({why})"))
}

/// Returns the answer of `member`, or else its last report. `Absent` where it never gave either.
fn last_word<'a, T>(
    member: &'a Member,
    answered: impl FnOnce(&'a Answer) -> T,
    reported: impl FnOnce(&'a Report) -> T,
) -> Seen<T> {
    match (&member.live, &member.report) {
        (Live::Answered(answer), _) => Seen::Known(answered(answer)),
        (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => Seen::Known(reported(report)),
        (Live::NotAsked | Live::Silent(_), Seen::Absent) => Seen::Absent,
        (Live::NotAsked | Live::Silent(_), Seen::Unreadable(why)) => Seen::Unreadable(why.clone()),
    }
}

/// Returns the pods that are marked as busy, as all pods are during a major upgrade.
pub fn critical_operation(facts: &Facts) -> Vec<Evidence> {
    let marked = facts.all_members().iter().filter(|member| member.pod.critical_operation);
    let mark = "label critical-operation";
    marked.map(|member| Evidence::new(ObjectRef::pod(&member.name), mark, true)).collect()
}

/// Returns the command that shows every member.
fn status(facts: &Facts) -> Command {
    pgscale(facts, "status", &[])
}

/// Returns `kubectl pgscale VERB` for the cluster, with more words after its name.
fn pgscale(facts: &Facts, verb: &str, more: &[&str]) -> Command {
    let cluster = &facts.change.new;
    let words = ["pgscale", verb, &cluster.name].into_iter().chain(more.iter().copied());
    Command::kubectl(words.chain(["-n", &cluster.namespace]))
}

/// Returns kubectl with these words in the namespace of the cluster.
fn kubectl(facts: &Facts, words: &[&str]) -> Command {
    Command::kubectl(words.iter().copied().chain(["-n", &facts.change.new.namespace]))
}

/// Returns the remedy that asks for `count` because of `why`: a command, or the manifest where
/// there is no cluster yet.
fn set_to(facts: &Facts, why: impl Into<String>, count: i64) -> Remedy {
    if facts.direction() == Direction::Create {
        return Remedy::note(format!("{}: numberOfInstances: {count} in the manifest", why.into()));
    }
    Remedy::to(why, set_count(facts, count))
}

/// Returns the remedy that asks for `count`: a command, or the manifest where there is no cluster
/// yet.
fn set(facts: &Facts, count: i64) -> Remedy {
    if facts.direction() == Direction::Create {
        return Remedy::note(format!("numberOfInstances: {count} in the manifest"));
    }
    Remedy::run(set_count(facts, count))
}

/// Returns the remedy that lets this one change pass in spite of `rules`, because of `reason`.
///
/// An override is bound to the uid of the cluster, which a new cluster has not got yet. Break-glass
/// lets that pass.
fn let_pass(facts: &Facts, rules: &[&str], reason: &str) -> Remedy {
    if facts.change.old.is_none() {
        let group =
            ["--as=ME", "--as-group=pgscale:break-glass", "--as-group=system:authenticated"];
        let words = [&["create", "-f", "MANIFEST"], &group[..]].concat();
        return Remedy::to("then create it by break-glass", kubectl(facts, &words));
    }
    let (count, rules) = (facts.requested().to_string(), rules.join(","));
    let pass = ["--to", &count, "--rules", &rules, "--reason", reason];
    Remedy::to("then let this one change pass", pgscale(facts, "override", &pass))
}

/// Returns the command that asks for `count`.
fn set_count(facts: &Facts, count: i64) -> Command {
    pgscale(facts, "set", &[&count.to_string()]).asking_for(count)
}

/// Returns the command that moves the leader first and then shrinks to `count`.
fn down(facts: &Facts, count: i64) -> Command {
    pgscale(facts, "down", &["--to", &count.to_string()]).asking_for(count)
}

/// Returns the command of [`down`], where `count` is below the present one.
fn still_down(facts: &Facts, count: i64) -> Option<Command> {
    facts.from().is_some_and(|from| count < from).then(|| down(facts, count))
}

/// Returns the command that waits for the cluster to settle. Where waiting ends with the leader's
/// deletion, it is the command that keeps the leader.
fn wait(facts: &Facts) -> Remedy {
    let Some(leader) = facts.doomed_leader() else {
        return Remedy::run(pgscale(facts, "wait", &[]));
    };
    let doomed = format!("do not wait, the leader {} is about to be deleted", leader.name);
    match keep_leader(facts) {
        Some(keep) => Remedy::note(doomed).or_to("keep it", keep),
        None => Remedy::note(doomed).or_to("its state", status(facts)),
    }
}

/// Returns the command that keeps a leader whose pod is about to be deleted. `None` where the
/// operator's limits allow no count that does.
fn keep_leader(facts: &Facts) -> Option<Command> {
    let cluster = &facts.change.new;
    let leader = facts.leader_member()?;
    // Where the object asks for enough, only the StatefulSet has to be corrected.
    if let Some(from) = facts.from().filter(|from| leader.ordinal < *from) {
        return Some(take_back(&cluster.namespace, &cluster.name, from));
    }
    let count = leader.ordinal.checked_add(1)?;
    let kept = facts.change.new.with_instances(count);
    let runs = facts.operator.known().map_or(count, |operator| operator.settings.effective(&kept));
    (runs > leader.ordinal).then(|| set_count(facts, count))
}

/// Returns the remedy while pods are marked: `wait` does not look at marks.
///
/// The operator removes its marks when its script ends (`majorVersionUpgrade`,
/// pkg/cluster/majorversionupgrade.go). An operator that was stopped meanwhile leaves them.
fn until_unmarked(facts: &Facts) -> Remedy {
    let get = get_pods(facts, &["-L", "critical-operation", "-w"]);
    let remove = pods(facts, "label", &["critical-operation-"]);
    let left = "if they stay, and the operator's log shows no upgrade that runs, they are left over: remove them";
    Remedy::to("wait until no pod is marked", get).or_to(left, remove)
}

/// Returns the command that shows the cluster's pods, with `flags`.
fn get_pods(facts: &Facts, flags: &[&str]) -> Command {
    pods(facts, "get", flags)
}

/// Returns `kubectl VERB` for the cluster's pods, with `flags`.
fn pods(facts: &Facts, verb: &str, flags: &[&str]) -> Command {
    let cluster = &facts.change.new;
    let selector = match facts.operator.known() {
        Some(operator) => operator.settings.selector(&cluster.name),
        None => Settings::default().selector(&cluster.name),
    };
    let selector = spell(&selector);
    let words = [verb, "pods", "-l", &selector].into_iter().chain(flags.iter().copied());
    kubectl(facts, &words.collect::<Vec<_>>())
}

/// Returns the command of [`inside`] for `words` that ask before they do anything.
fn inside_asking(facts: &Facts, words: &[&str]) -> Command {
    exec(facts, &["exec", "-it"], words)
}

/// Returns the command that runs `words` in a member: in one that answers, or else in one that
/// runs.
fn inside(facts: &Facts, words: &[&str]) -> Command {
    exec(facts, &["exec"], words)
}

fn exec(facts: &Facts, exec: &[&str], words: &[&str]) -> Command {
    let members = facts.all_members();
    let answers = |member: &&Member| matches!(member.live, Live::Answered(_));
    let found = members.iter().find(answers);
    let found = found.or_else(|| members.iter().find(|member| member.pod.containers_running));
    let name = found.map_or_else(|| facts.pod_name(0), |member| member.name.clone());
    let pod = [name.as_str(), "-n", &facts.change.new.namespace, "-c", "postgres", "--"];
    Command::kubectl([exec, &pod, words].concat())
}
