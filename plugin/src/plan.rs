//! Turns facts and a wish into a plan: the added and removed members, the switchover, and the
//! findings of the rules.
//!
//! Pure and complete: the code that carries a plan out has no choice left, and plans again when the
//! facts changed.

use std::collections::BTreeMap;

use pgscale_guard::evidence::Evidence;
use pgscale_guard::facts::{Health, Live, Member};
use pgscale_guard::object_ref::ObjectRef;
use pgscale_guard::remedy::{Command, Reach, Remedy};
use pgscale_guard::rules::{Cause, about_switchover, causes};
use pgscale_guard::verdict::Finding;
use pgscale_guard::{Assessment, Facts, Policies, RuleId, Verdict, evaluate};

mod commit;
mod handover;
mod hash;
mod judged;
mod members;
mod nearest;
mod resuming;

use crate::error::Failure;
use crate::members::{Role, is_sync};
pub(crate) use commit::Commit;
use handover::another_switchover;
pub(crate) use handover::{Handover, Wanted, switchover};
pub(crate) use hash::PlanHash;
pub(crate) use judged::{Judged, Says, every_rule};
pub(crate) use members::{SHOWN, claim, describe, unfit};
use members::{arrivals, coming, leaving, shown};
pub(crate) use nearest::Nearest;

/// Our name as a writer of fields (`metadata.managedFields`).
pub(crate) const FIELD_MANAGER: &str = "kubectl-pgscale";

/// The effect of one change of the count.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Namespace of the cluster.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its identity. The write is conditional on it.
    pub(crate) uid: String,
    /// The version that the plan rests on. The write is conditional on it.
    pub(crate) resource_version: String,
    /// The present `spec.numberOfInstances`. `None` where the field is missing.
    pub(crate) declared: Option<i64>,
    /// `spec.numberOfInstances` after the change.
    pub(crate) count: i64,
    /// The StatefulSet's count, where the count is declared already and the operator has not acted on
    /// it: the plan makes the operator act.
    pub(crate) resumes: Option<i64>,
    /// The plan takes the last recorded change back.
    pub(crate) undo: bool,
    /// The present effective count, within the operator's limits.
    pub(crate) from: i64,
    /// The effective count after the change.
    pub(crate) to: i64,
    /// The StatefulSet's present count, where it could be read.
    pub(crate) running: Option<i64>,
    /// The present leader.
    pub(crate) leader: Option<String>,
    /// Removed members, by ordinal.
    pub(crate) leaving: Vec<Leaving>,
    /// The first [`SHOWN`] added members, by ordinal.
    pub(crate) coming: Vec<Coming>,
    /// The number of added members beyond `coming`.
    pub(crate) coming_besides: i64,
    /// Kept members that are not healthy. They are reported afterwards, and not waited for.
    pub(crate) unfit: Vec<Unfit>,
    /// The lag that the policies allow, in bytes.
    pub(crate) max_lag: Option<u64>,
    /// The switchover that comes first, if the change would remove the leader.
    pub(crate) leader_move: Option<LeaderMove>,
    /// The verdict of all rules, with the leader where the plan puts it.
    pub(crate) verdict: Verdict,
    /// The reasons for which rules lack facts, each once.
    pub(crate) causes: Vec<Cause>,
    /// The steps, in this order.
    pub(crate) steps: Vec<Step>,
    /// The facts that each rule looked at, by its id. They are those of now, also where the plan
    /// moves the leader first.
    pub(crate) looked_at: BTreeMap<&'static str, Vec<Evidence>>,
    /// The nearest counts that would be allowed, for a plan that is shown and refused.
    pub(crate) nearest: Nearest,
    /// The connection flags of the caller.
    pub(crate) reach: Reach,
    /// The rules that refuse a plain write of the same count as long as the leader has not moved.
    /// Empty where the plan is refused as well.
    pub(crate) plain_write_refused_by: Vec<&'static str>,
    /// Other writers of the count, which may undo the change.
    pub(crate) other_writers: Vec<String>,
    /// The hash of what the plan decides and rests on.
    pub(crate) hash: PlanHash,
}

/// A removed member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Its pod.
    pub(crate) pod: String,
    /// Its role in the cluster.
    pub(crate) role: Role,
    /// Its state in one word or sentence.
    pub(crate) state: String,
    /// The volume claim that it leaves behind.
    pub(crate) claim: Option<String>,
}

/// An added member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coming {
    /// Its pod.
    pub(crate) pod: String,
    /// The kept claim that will be attached. `None` where a new one is made.
    pub(crate) claim: Option<String>,
}

/// A kept member that is not healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// Its pod.
    pub(crate) pod: String,
    /// The reason.
    pub(crate) why: String,
}

/// A switchover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaderMove {
    /// The present leader.
    pub(crate) from: String,
    /// The next leader.
    pub(crate) to: String,
    /// The reason for the move, and for this candidate.
    pub(crate) why: String,
    /// True if a person named the candidate, so that the same command asks for it again.
    pub(crate) named: bool,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A checkpoint on the leader, so that its shutdown during the switchover is short.
    Checkpoint(String),
    /// A switchover through Patroni, confirmed by lock, label and the member's own report.
    MoveLeader(String, String),
    /// `spec.numberOfInstances`, conditional on version and identity.
    SetCount(i64),
    /// An annotation that makes the operator act on a count that is declared already.
    AskAgain(i64),
    /// A wait until this many members have converged.
    Converge(i64),
}

/// The result of planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The count is already the requested one.
    Nothing,
    /// The plan can be carried out.
    Ready,
    /// A rule refuses it.
    Refused,
}

impl Plan {
    /// Plans the change in `facts`, to be shown. A refused plan has the nearest counts that would
    /// be allowed.
    pub(crate) fn of(facts: &Facts, policies: &Policies) -> Self {
        let plan = Self::keeping(facts, policies, None);
        if plan.verdict.allows() {
            return plan;
        }
        Self { nearest: Nearest::of(facts, policies), ..plan }
    }

    /// Plans the change in `facts` again, for comparison with the plan that was shown. No other
    /// count is searched.
    ///
    /// If the leader must move, `candidate` leads if it still can. On a busy cluster the best
    /// replica is another one at every look, and the plan must stay the agreed one.
    pub(crate) fn keeping(facts: &Facts, policies: &Policies, candidate: Option<&str>) -> Self {
        let (leader_move, verdict) = judge(facts, policies, candidate);
        let plain_write_refused_by = if leader_move.is_some() && verdict.allows() {
            evaluate(facts, policies).denials().map(|finding| finding.rule.as_str()).collect()
        } else {
            Vec::new()
        };
        let assessment = &Assessment::of(facts, policies);
        let cluster = facts.change.old.as_ref().unwrap_or(&facts.change.new);
        let from = facts.from().unwrap_or(0);
        let to = facts.to();
        let coming: Vec<Coming> =
            (from..to).filter_map(|ordinal| coming(facts, ordinal)).take(SHOWN).collect();
        let mut steps = Vec::new();
        if let Some(leader_move) = &leader_move {
            steps.push(Step::Checkpoint(leader_move.from.clone()));
            steps.push(Step::MoveLeader(leader_move.from.clone(), leader_move.to.clone()));
        }
        if cluster.instances != Some(facts.requested()) {
            steps.push(Step::SetCount(facts.requested()));
        }
        steps.push(Step::Converge(to));
        let plan = Self {
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            uid: cluster.uid.clone(),
            resource_version: cluster.resource_version.clone(),
            declared: cluster.instances,
            count: facts.requested(),
            resumes: None,
            undo: facts.change.undo,
            from,
            to,
            running: facts.stateful_set.known().map(|set| set.replicas),
            leader: facts.leader_name().map(str::to_owned),
            leaving: facts.condemned().map(|member| leaving(assessment, member)).collect(),
            coming_besides: arrivals(facts, from, to).saturating_sub(shown(&coming)),
            coming,
            unfit: unfit(assessment),
            max_lag: policies.enforced_lag().map(|limit| limit.value),
            leader_move,
            causes: causes(facts, &verdict),
            verdict,
            steps,
            looked_at: judged::looked_at(facts, policies),
            nearest: Nearest::default(),
            reach: Reach::default(),
            plain_write_refused_by,
            other_writers: other_writers(cluster),
            hash: PlanHash::default(),
        };
        Self { hash: PlanHash::of(&plan, facts, |member| assessment.health(member)), ..plan }
    }

    /// Returns the result of planning.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.declared == Some(self.count) && self.resumes.is_none() {
            Outcome::Nothing
        } else if self.verdict.allows() {
            Outcome::Ready
        } else {
            Outcome::Refused
        }
    }

    /// Adds the connection flags to the commands that findings suggest. The rules do not know these
    /// flags.
    pub(crate) fn reached_by(mut self, reach: &Reach) -> Self {
        for finding in &mut self.verdict.findings {
            finding.remedy = finding.remedy.take().map(|remedy| remedy.reached_by(reach));
        }
        self.reach = reach.clone();
        self
    }

    /// Returns the next thing to do about a plan that is refused, or that a plain write would not
    /// pass.
    pub(crate) fn next(&self) -> Option<Remedy> {
        if self.outcome() == Outcome::Refused {
            return Some(self.nearest.remedy(self));
        }
        let count = self.count.to_string();
        let first = || self.command("switchover", &["--for", &count]);
        (!self.plain_write_refused_by.is_empty()).then(|| Remedy::run(first()))
    }

    /// Returns one of our own commands about the cluster.
    fn command(&self, verb: &str, more: &[&str]) -> Command {
        let words = ["pgscale", verb, &self.name].into_iter().chain(more.iter().copied());
        Command::kubectl(words.chain(["-n", self.namespace.as_str()])).reached_by(&self.reach)
    }

    /// Returns the ids of the rules that lack a fact, and warn because of that.
    pub(crate) fn unjudged(&self) -> Vec<&'static str> {
        self.verdict.unjudged().map(|finding| finding.rule.as_str()).collect()
    }

    /// Returns the ids of those rules among them that judged `shown`, the plan that a person agreed
    /// to.
    pub(crate) fn unjudged_since(&self, shown: &Self) -> Vec<&'static str> {
        let known = shown.unjudged();
        self.unjudged().into_iter().filter(|rule| !known.contains(rule)).collect()
    }

    /// Returns whether the leader is none of the removed members, or moves first.
    pub(crate) fn keeps_leader(&self) -> bool {
        let leads = |it: &Leaving| self.leader.as_ref() == Some(&it.pod);
        self.leader_move.is_some() || !self.leaving.iter().any(leads)
    }

    /// Returns what the findings that refuse it suggest.
    pub(crate) fn ways_out(&self) -> impl Iterator<Item = &Remedy> {
        self.verdict.denials().filter_map(|finding| finding.remedy.as_ref())
    }

    /// Checks that it is the plan with this hash.
    ///
    /// # Errors
    /// `Refused` where it is another one.
    pub(crate) fn is_expected(&self, expected: &PlanHash) -> Result<(), Failure> {
        if self.hash == *expected {
            return Ok(());
        }
        let look = self.command("plan", &["--to", &self.count.to_string(), "-o", "wide"]);
        Err(Failure::refused(format!(
            "the plan of postgresql {} is {} now, not the expected {expected}: its members, its leader, its steps or \
             its findings have changed; nothing was changed",
            self.cluster(),
            self.hash
        ))
        .hint_to("look at it again", look))
    }

    /// Returns whether members are removed by it.
    pub(crate) fn shrinks(&self) -> bool {
        self.to < self.from
    }

    /// Returns `namespace/name`.
    pub(crate) fn cluster(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Judges the count: returns the switchover that goes ahead, and the verdict with the leader where
/// that puts it. Where the leader must move, `candidate` leads if it still can.
pub(crate) fn judge(
    facts: &Facts,
    policies: &Policies,
    candidate: Option<&str>,
) -> (Option<LeaderMove>, Verdict) {
    let assessment = Assessment::of(facts, policies);
    if facts.leads_from_above_at_zero() {
        let leader_move = to_the_last_to_stop(assessment);
        let there = leader_move.as_ref().map(|it| facts.led_by(&it.to));
        return (leader_move, evaluate(there.as_ref().unwrap_or(facts), policies));
    }
    let Some(leader) = facts.leader_name().filter(|_| facts.deletes_leader()) else {
        return (None, evaluate(facts, policies));
    };
    if let Some(why) = another_switchover(facts) {
        let mut verdict = evaluate(facts, policies);
        let remedy = about_switchover(facts);
        if assessment.repair().is_some() {
            return (None, verdict);
        }
        if verdict.denials().any(|finding| finding.rule == RuleId::SWITCHOVER_PENDING) {
            // The rule says why. The remedy is that of a requested switchover.
            for known in
                verdict.findings.iter_mut().filter(|it| it.rule == RuleId::SWITCHOVER_PENDING)
            {
                known.remedy.clone_from(&remedy);
            }
        } else {
            let finding = Finding::deny(
                RuleId::SWITCHOVER_PENDING,
                format!("{leader} leads and would have to move first, and {why}"),
            );
            // The rule may have warned of the same switchover for its effect on the other members.
            verdict.findings.retain(|known| known.rule != RuleId::SWITCHOVER_PENDING);
            let finding = Finding { remedy, ..finding };
            verdict.findings.push(policies.overrides.weigh(finding, facts));
        }
        return (None, verdict);
    }
    let agreed = candidate
        .filter(|candidate| *candidate != leader)
        .and_then(|candidate| facts.survivors().find(|member| member.name == candidate))
        .filter(|member| assessment.takeover(member) == Health::Healthy)
        .filter(|member| facts.in_sync_set(member).is_ok());
    if let Some(best) = agreed.or_else(|| assessment.best_survivor()) {
        let leader_move = LeaderMove {
            from: leader.to_owned(),
            to: best.name.clone(),
            why: format!("{leader} leads and is removed; {}", praise(facts, best)),
            named: false,
        };
        return (Some(leader_move), evaluate(&facts.led_by(&best.name), policies));
    }
    let mut verdict = evaluate(facts, policies);
    // A repair is not refused for the live state, not even this one: its pods are removed in any
    // case.
    if verdict.allows() && assessment.repair().is_none() {
        let finding = nobody_to_lead(assessment, leader);
        verdict.findings.push(policies.overrides.weigh(finding, facts));
    }
    (None, verdict)
}

/// Returns the switchover to ordinal 0, which stops last on the way to zero and starts first again.
/// `None` where it cannot lead, or another switchover is pending.
fn to_the_last_to_stop(assessment: Assessment<'_>) -> Option<LeaderMove> {
    let facts = assessment.facts();
    let leader = facts.leader_name()?;
    let first = facts.member(&facts.pod_name(0))?;
    let fit = assessment.takeover(first) == Health::Healthy && facts.in_sync_set(first).is_ok();
    (fit && another_switchover(facts).is_none()).then(|| LeaderMove {
        from: leader.to_owned(),
        to: first.name.clone(),
        why: format!("{leader} leads; {} stops last, and starts first again", first.name),
        named: false,
    })
}

/// Returns the reason for which `member` is the candidate.
fn praise(facts: &Facts, member: &Member) -> String {
    if is_sync(facts, member) {
        format!("{} is a caught-up synchronous standby", member.name)
    } else {
        format!("{} is the best caught-up member that is kept", member.name)
    }
}

fn nobody_to_lead(facts: Assessment<'_>, leader: &str) -> Finding {
    let mut finding = Finding::deny(
        RuleId::LEADER_CANNOT_MOVE,
        format!("{leader} leads and would be removed, and no kept member can take over"),
    );
    for (name, why) in why_nobody(facts, leader) {
        finding = finding.because(ObjectRef::pod(name), "cannot take over", why);
    }
    finding
}

/// Returns the reason for which each kept member cannot take over, by name.
fn why_nobody<'a>(
    assessment: Assessment<'a>,
    leader: &'a str,
) -> impl Iterator<Item = (&'a str, String)> + 'a {
    let facts = assessment.facts();
    facts.survivors().filter(move |member| member.name != leader).filter_map(move |member| {
        let health = assessment.takeover(member);
        let why = if health == Health::Healthy {
            facts.in_sync_set(member).err()?
        } else {
            describe(&health)
        };
        Some((member.name.as_str(), why))
    })
}

/// Returns the reason for the silence, if members were asked and none answered.
pub(crate) fn nobody_answered(facts: &Facts) -> Option<&str> {
    let mut why = None;
    for member in facts.all_members() {
        match &member.live {
            Live::Answered(_) => return None,
            Live::NotAsked => {}
            Live::Silent(text) => why = why.or(Some(text.as_str())),
        }
    }
    why
}

/// Returns the managers of the count that are neither this plugin nor a person's kubectl, as
/// (manager, its way of writing).
fn other_writers(cluster: &pgscale_guard::postgresql::Postgresql) -> Vec<String> {
    let mut writers: Vec<String> = cluster
        .count_managers
        .iter()
        .filter(|(manager, operation, _)| {
            let person = manager.starts_with("kubectl") || manager == FIELD_MANAGER;
            !person && (operation == "Apply" || is_reconciler(manager))
        })
        .map(|(manager, ..)| manager.clone())
        .collect();
    writers.dedup();
    writers
}

/// Returns whether a manager is known to write a manifest again and again. Most do so of
/// themselves, Helm with every upgrade.
fn is_reconciler(manager: &str) -> bool {
    ["argocd", "kustomize-controller", "helm", "flux", "fleet", "crossplane"]
        .iter()
        .any(|known| manager.starts_with(known))
}

#[cfg(test)]
mod tests;
