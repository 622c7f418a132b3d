//! The budget of a namespace: how many instances all its clusters may have together.

use crate::assessment::Assessment;
use crate::facts::{Booking, Seen, Spending};
use crate::ledger::{self, Holder};
use crate::object_ref::{self, ObjectRef};
use crate::policy::{Limit, Mode, Policies};
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CREATE, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, by_policies, inputs, kubectl, set_to, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const NAMESPACE_BUDGET: Rule = Rule {
    id: RuleId::NAMESPACE_BUDGET,
    title: "more instances than the namespace's budget",
    applies: Applies::on(&[UP.to_at_least(1), CREATE.to_at_least(1)]),
    default: "deny",
    kind: Kind::Bound,
    page: "\
A policy's `budget.instances` bounds what all clusters of its namespace may have together. It counts the
effective instances of every cluster there, whatever the policy's `clusterSelector` says. A cluster with zero
instances counts as 0, and the way back needs room. Of several policies the smallest budget holds.

The sum is exact while many writers and several replicas of the webhook work at the same time. The webhook
reserves each growth in one object of the namespace, InstanceLedger/pgscale, before it admits the growth. What
is reserved counts until the change is stored, or certainly never will be: mostly a second, after 10 seconds
where its writer gave up, and for a new cluster that was never stored 3 minutes.

Only what raises the sum beyond the budget is refused. A namespace that is above a new budget may shrink, and
every repair that asks for no more instances passes. Growth is refused for 3 minutes after a budget was set for
the first time: what was admitted before may still be stored. A smaller or a larger number alone does not
begin these minutes again.

Growth that cannot be reserved is refused as well, because others wrote the ledger each time or the API server
did not answer in time. The refusal then says that the same change may be repeated. A budget in mode Warn or
Audit reserves nothing: it compares the change with what is there now.

Way out: ask for a count that fits, which the denial names, take instances from another cluster of the
namespace, or raise the budget. The first command shows the budget with its policy, the second one what is used
and reserved:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl get instanceledgers -n NAMESPACE
    kubectl pgscale set NAME N -n NAMESPACE",
    reads: &[inputs::count, inputs::budget, inputs::spending],
    needs: reads::COUNT.and(&[Read::Policies, Read::Budget]),
    check: namespace_budget,
    #[cfg(any(test, feature = "testing"))]
    table: tests::namespace_budget,
};

fn namespace_budget(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    by_policies(by_known_budgets(facts, policies), facts, policies)
}

fn by_known_budgets(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let limits = &policies.budget.limits;
    // An enforced one comes first, then the one that warns.
    let Some(strictest) = policies.budget.strictest() else {
        return Outcome::Pass;
    };
    let spending = match &facts.capacity.budget {
        Some(Seen::Known(spending)) => spending,
        Some(Seen::Unreadable(why)) => return unreserved(facts, strictest, why),
        Some(Seen::Absent) | None => {
            return unread("what counts against the budget", "it was not asked for");
        }
    };
    let to = facts.to();
    if let Some(why) = not_ready(spending, strictest) {
        let remedy = not_ready_remedy(facts, spending);
        return found(facts, spending, strictest, why, remedy);
    }
    let broken = limits.iter().filter(|limit| is_broken(facts, spending, limit));
    match broken.max_by_key(|limit| limit.mode) {
        None => Outcome::Pass,
        Some(limit) => found(facts, spending, limit, over(spending, limit, to), {
            remedy(facts, spending, limit)
        }),
    }
}

/// Returns whether the change would lead beyond this budget.
///
/// Growth that is reserved keeps the enforced budget, whatever the sums say: it counts in them.
fn is_broken(facts: &Assessment<'_>, spending: &Spending, limit: &Limit<i64>) -> bool {
    let to = facts.to();
    let budget = u64::try_from(limit.value).unwrap_or(0);
    let (wanted, counted) = (spending.wanted(to), spending.counted());
    match spending.booking {
        Booking::Granted(most) if to <= most => limit.mode != Mode::Enforce && counted > budget,
        Booking::Granted(_)
        | Booking::Looked
        | Booking::Settling(_)
        | Booking::Contended
        | Booking::Full => wanted > 0 && counted.saturating_add(wanted) > budget,
    }
}

/// Returns the reason for which the ledger admits no growth, if there is one.
fn not_ready(spending: &Spending, limit: &Limit<i64>) -> Option<String> {
    match spending.booking {
        Booking::Settling(until) => Some(format!(
            "the budget of {} admits no growth before {until:.0}: what was admitted without it may \
             still be stored",
            limit.value
        )),
        Booking::Contended => Some(format!(
            "nothing could be reserved in the budget of {}: too many others did so at the same time",
            limit.value
        )),
        Booking::Full => Some(format!(
            "the namespace has more than {} clusters, and a budget is kept for no more",
            ledger::MOST_CLUSTERS
        )),
        Booking::Looked | Booking::Granted(_) => None,
    }
}

/// Returns the finding about growth for which the ledger could not be asked.
///
/// It refuses whatever unread facts do elsewhere: an unreserved instance is what a budget prevents.
fn unreserved(facts: &Assessment<'_>, limit: &Limit<i64>, why: &str) -> Outcome {
    let message = format!("nothing could be reserved in the budget of {}: {why}", limit.value);
    Outcome::Found(
        Finding::deny(NAMESPACE_BUDGET.id, message)
            .because(limit.source.clone(), "budget.instances", limit.value)
            .remedy(repeat(facts))
            .in_mode(limit.mode),
    )
}

fn over(spending: &Spending, limit: &Limit<i64>, to: i64) -> String {
    let Spending { used, reserved, .. } = spending;
    let more = spending.wanted(to);
    let free = spending.free(limit.value);
    format!(
        "{more} more {} asked for, and {free} of the budget of {} {} free: {used} used, {reserved} reserved",
        if more == 1 { "instance" } else { "instances" },
        limit.value,
        if free == 1 { "is" } else { "are" },
    )
}

fn found(
    facts: &Assessment<'_>,
    spending: &Spending,
    limit: &Limit<i64>,
    message: String,
    remedy: Remedy,
) -> Outcome {
    let ledger = ObjectRef::new(object_ref::Kind::InstanceLedger, ledger::NAME);
    let mut finding = Finding::deny(NAMESPACE_BUDGET.id, message)
        .because(limit.source.clone(), "budget.instances", limit.value)
        .remedy(remedy)
        .in_mode(limit.mode);
    let own = &facts.change.new.name;
    let others = spending.holders.iter().filter(|holder| holder.name != *own);
    for Holder { name, counted, .. } in others {
        let cluster = ObjectRef::new(object_ref::Kind::Postgresql, name);
        finding = finding.because(cluster, "counts for", counted);
    }
    if spending.others > 0 {
        finding = finding.because(ledger, "further clusters that count", spending.others);
    }
    Outcome::Found(finding)
}

/// Returns the count that fits. Where none does, what will: time, or room.
fn remedy(facts: &Assessment<'_>, spending: &Spending, limit: &Limit<i64>) -> Remedy {
    let most = spending.most(limit.value);
    if most > facts.from().unwrap_or(0) {
        return set_to(facts, "ask for what fits", most);
    }
    let budget = u64::try_from(limit.value).unwrap_or(0);
    let soon = spending.used.saturating_add(spending.wanted(facts.to())) <= budget;
    if soon { repeat(facts) } else { make_room(facts, spending) }
}

/// Returns the remedy where the same change may pass in some seconds.
fn repeat(facts: &Assessment<'_>) -> Remedy {
    Remedy::note("repeat the same change in some seconds")
        .or_to("see what is reserved", ledgers(facts))
}

/// Returns the remedy where the ledger admits no growth.
fn not_ready_remedy(facts: &Assessment<'_>, spending: &Spending) -> Remedy {
    match spending.booking {
        Booking::Settling(_) => Remedy::note("repeat the same change after that")
            .or_to("see when that is", ledgers(facts)),
        Booking::Full => {
            let why = "move clusters to another namespace, or take the budget out. What counts";
            Remedy::to(why, ledgers(facts))
        }
        Booking::Looked | Booking::Granted(_) | Booking::Contended => repeat(facts),
    }
}

/// Returns the remedy where only fewer instances elsewhere, or a larger budget, help.
fn make_room(facts: &Assessment<'_>, spending: &Spending) -> Remedy {
    let own = &facts.change.new.name;
    let largest =
        spending.holders.iter().find(|holder| holder.name != *own && holder.committed > 1);
    let Some(Holder { name, committed, .. }) = largest else {
        return Remedy::to("raise the budget. What counts", ledgers(facts));
    };
    let fewer = (committed - 1).to_string();
    let plan = kubectl(facts, &["pgscale", "plan", name, "--to", &fewer]);
    let why = "take instances from another cluster of the namespace, such as this one";
    Remedy::to(why, plan).or_to("or raise the budget. What counts", ledgers(facts))
}

fn ledgers(facts: &Assessment<'_>) -> crate::remedy::Command {
    kubectl(facts, &["get", "instanceledgers"])
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
