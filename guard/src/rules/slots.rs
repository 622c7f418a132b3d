//! Logical replication slots, which live on the leader.

use std::collections::BTreeSet;

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Facts, Seen};
use crate::patroni::{logical, slot_of};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, REWRITTEN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::synchronous::parameter;
use crate::rules::{Kind, NAMED, Rule, down, inputs, members_unseen, pgscale, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const LOGICAL_SLOTS: Rule = Rule {
    id: RuleId::LOGICAL_SLOTS,
    title: "the leader goes, and the next one may lack its logical replication slots",
    applies: Applies::on(&[DOWN.to_at_least(1), UP.after_some(), REWRITTEN.to_at_least(1)]),
    default: "warn",
    kind: Kind::Advisory,
    page: "\
A logical replication slot remembers how far a consumer of changes (change data capture, a subscription) has
read. It lives on the leader. Patroni copies the slots of its configuration to the replicas, which takes some
loops (10s each) and a restart of each replica. Where the next leader lacks one, Patroni makes it there at the
present position: what the consumer had not read yet is lost, without an error. Measured on a real cluster: a
slot made just before the leader went delivered 0 of 100 changes afterwards, and one that all members had
delivered 100 of 100.

Signals: logical slots (with `database` and `plugin`) under `slots`, `permanent_slots` or
`permanent_replication_slots` of Patroni's dynamic configuration, and under `spec.patroni.slots` of the
manifest. A standby cluster has none, and neither has one with `use_slots: false`. A member tagged nofailover
never gets them. Slots of removed members in `synchronized_standby_slots` (PostgreSQL 17) of both: logical
replication waits for those for ever.

Blind spots: only SQL shows which member holds which slot, and the webhook asks none. Slots that were made by
hand and stand in neither place are not seen here; they go with the leader in any case.

Way out: either of these asks the leader and the candidate by SQL, and moves the leader only when every such
slot is on the candidate and safe to use there. They name the slots that were made by hand. No policy and no
override lifts that wait:

    kubectl pgscale down NAME --to N -n NAMESPACE
    kubectl pgscale switchover NAME --for N -n NAMESPACE

This shows the slots that a MEMBER holds, and how far their consumers are:

    kubectl exec MEMBER -n NAMESPACE -c postgres -- psql -U postgres -c 'SELECT * FROM pg_replication_slots'

A slot whose changes are not needed is taken out of `spec.patroni.slots`. A slot that was made by hand goes with
the leader: stop its consumer once it has read everything, and make the slot again on the next leader.

    kubectl edit postgresql NAME -n NAMESPACE

It is over when the new leader shows every slot, and `confirmed_flush_lsn` moves on there.

Upstream: _ensure_logical_slots_primary, copy_logical_slots and _ready_logical_slots,
patroni/postgresql/slots.py; _get_permanent_slots, patroni/dcs/__init__.py.",
    reads: &[inputs::leader, inputs::pods, inputs::logical_slots],
    needs: reads::COUNT.and(&[
        Read::Pods,
        Read::Leader,
        Read::Configuration,
    ]),
    check: logical_slots,
    #[cfg(any(test, feature = "testing"))]
    table: tests::logical_slots,
};

fn logical_slots(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let outcome = leader_goes(facts);
    let waited = facts.direction() == Direction::Down && outcome == Outcome::Pass;
    waited.then(|| waited_for(facts)).flatten().map_or(outcome, Outcome::Found)
}

/// Judges that the leader goes, with the slots that it has.
fn leader_goes(facts: &Assessment<'_>) -> Outcome {
    let grows = facts.direction() != Direction::Down;
    if facts.leader.unreadable().is_some() || facts.members.known().is_none() {
        // Growth deletes no leader that is not seen to be left out.
        if grows {
            return Outcome::NotApplicable;
        }
        return match (facts.configuration.unreadable(), facts.leader.unreadable()) {
            (None, _) if slots(facts).is_empty() => Outcome::Pass,
            (_, Some(why)) => unread("the leader lock", why),
            (_, None) => members_unseen(facts),
        };
    }
    if !facts.leader_condemned() {
        return Outcome::Pass;
    }
    if let Some(why) = facts.configuration.unreadable() {
        return unread("Patroni's configuration, which lists the logical slots,", why);
    }
    let slots = slots(facts);
    if slots.is_empty() {
        return Outcome::Pass;
    }
    let leader = facts.leader_name().unwrap_or_default();
    let more = slots.len().saturating_sub(NAMED);
    let mut names: Vec<String> = slots.iter().take(NAMED).cloned().collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    let mut finding = Finding::warn(
        LOGICAL_SLOTS.id,
        format!(
            "{leader} leads and would be deleted: changes of logical slots that the next leader lacks are lost ({})",
            names.join(", ")
        ),
    )
    .if_leader_goes(true);
    finding.evidence = declared_slots(facts);
    let to = facts.to();
    let moving = if facts.from().is_some_and(|from| to < from) {
        down(facts, to)
    } else {
        pgscale(facts, "switchover", &["--for", &to.to_string()])
    };
    let why = "this moves the leader first, once the candidate holds every slot";
    Outcome::Found(finding.remedy(Remedy::to(why, moving)))
}

/// The parameter with the physical slots that logical senders wait for, since PostgreSQL 17.
const WAITED_FOR: &str = "synchronized_standby_slots";

/// Returns the finding that logical senders wait for the slot of a removed member.
///
/// Then no consumer of a failover slot gets a change any more (`StandbySlotsHaveCaughtup`,
/// src/backend/replication/slot.c of PostgreSQL).
fn waited_for(facts: &Facts) -> Option<Finding> {
    // The lock says in which kind of object the configuration is.
    facts.leader.known()?;
    let gone = |slot: &str| {
        let slot = slot.trim().trim_matches('"');
        let prefix = format!("{}_", slot_of(&facts.change.new.name));
        let ordinal = slot.strip_prefix(&prefix).and_then(|it| it.parse::<i64>().ok());
        ordinal.is_some_and(|ordinal| ordinal >= facts.to())
    };
    let (source, field, text) =
        parameter(facts, WAITED_FOR).into_iter().find(|(_, _, text)| text.split(',').any(gone))?;
    let names: Vec<&str> = text.split(',').filter(|slot| gone(slot)).map(str::trim).collect();
    let message = format!(
        "logical replication waits for the slots of members that go ({}): no consumer of a failover slot would get a \
         change",
        names.join(", ")
    );
    let finding = Finding::warn(LOGICAL_SLOTS.id, message).because(source, &field, &text);
    Some(finding.remedy(format!("take them out of {WAITED_FOR} first")))
}

/// Returns the names of the logical slots that Patroni keeps, or is to keep by the manifest.
fn slots(facts: &Facts) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    match facts.configuration.known() {
        Some(configuration) if configuration.standby_cluster => return all,
        Some(configuration) => {
            all.extend(configuration.logical_slots().into_iter().map(str::to_owned));
        }
        None if facts.change.new.is_standby() => return all,
        None => {}
    }
    let declared = facts.change.new.spec.pointer("/patroni/slots");
    all.extend(declared.into_iter().flat_map(logical).map(str::to_owned));
    all
}

/// Returns each logical slot with the place that lists it, or that there is none.
pub(super) fn declared_slots(facts: &Facts) -> Vec<Evidence> {
    let source = facts.patroni_source("config");
    let live: BTreeSet<&str> = match &facts.configuration {
        Seen::Known(configuration) => configuration.logical_slots(),
        Seen::Absent => BTreeSet::new(),
        Seen::Unreadable(why) => return vec![Evidence::unreadable(source, why)],
    };
    let waited = parameter(facts, WAITED_FOR).into_iter();
    let mut all: Vec<Evidence> =
        waited.map(|(source, field, text)| Evidence::new(source, &field, text)).collect();
    for name in slots(facts) {
        if live.contains(name.as_str()) {
            all.push(Evidence::new(source.clone(), &format!("slots.{name}"), "logical"));
        } else {
            let field = format!("spec.patroni.slots.{name}");
            all.push(Evidence::new(facts.postgresql_source(), &field, "logical"));
        }
    }
    if all.is_empty() {
        all.push(Evidence::new(source, "logical slots", "none"));
    }
    all
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::patroni::Configuration;
    use crate::rules::testing::{Want, healthy, led_by_the_last, table, text};

    fn configured(facts: Facts, document: &Value) -> Facts {
        facts.with_configuration(|configuration| {
            *configuration = Configuration::of(&document.to_string()).unwrap();
        })
    }

    pub(super) fn logical_slots() {
        let slot = || json!({"type": "logical", "database": "shop", "plugin": "pgoutput"});
        let cdc = |facts: Facts| configured(facts, &json!({"slots": {"cdc": slot()}}));
        let physical =
            |facts: Facts| configured(facts, &json!({"slots": {"backup": {"type": "physical"}}}));
        let declared = |facts: Facts| {
            facts.editing(|spec| spec["patroni"] = json!({"slots": {"cdc": slot()}}))
        };
        let hidden = |mut facts: Facts| {
            facts.configuration = Seen::Unreadable("configmaps is forbidden".into());
            facts
        };
        let absent = |mut facts: Facts| {
            facts.configuration = Seen::Absent;
            facts
        };
        let waits = |facts: Facts, slots: &str| {
            let parameters = json!({"synchronized_standby_slots": slots});
            configured(facts, &json!({"postgresql": {"parameters": parameters}}))
        };
        let followed = |facts: Facts| {
            configured(facts, &json!({"slots": {"cdc": slot()}, "standby_cluster": {"host": "h"}}))
        };
        table(
            "logical-slots",
            vec![
                ("no slot", led_by_the_last(3), Want::Pass),
                ("only physical slots", physical(led_by_the_last(3)), Want::Pass),
                ("the leader stays", cdc(healthy(5, 3)), Want::Pass),
                ("the leader goes", cdc(led_by_the_last(3)), Want::Warn),
                ("the leader goes, to one", cdc(led_by_the_last(1)), Want::Warn),
                ("declared in the manifest only", declared(led_by_the_last(3)), Want::Warn),
                (
                    "declared, and no configuration yet",
                    absent(declared(led_by_the_last(3))),
                    Want::Warn,
                ),
                ("a standby cluster", followed(led_by_the_last(3)), Want::Pass),
                (
                    "a standby cluster that declares one",
                    declared(followed(led_by_the_last(3))),
                    Want::Pass,
                ),
                (
                    "growth leaves the leader out",
                    cdc(led_by_the_last(0).with_count(2, 3)),
                    Want::Warn,
                ),
                ("growth keeps the leader", cdc(healthy(3, 5)), Want::Pass),
                ("configuration unreadable", hidden(led_by_the_last(3)), Want::Unknown),
                ("configuration unreadable, the leader stays", hidden(healthy(5, 3)), Want::Pass),
                (
                    "lock unreadable",
                    cdc(led_by_the_last(3)).without_sight_of_the_lock(),
                    Want::Unknown,
                ),
                (
                    "lock unreadable, no slot",
                    led_by_the_last(3).without_sight_of_the_lock(),
                    Want::Pass,
                ),
                (
                    "pods unreadable",
                    cdc(led_by_the_last(3)).without_sight_of_members(),
                    Want::Unknown,
                ),
                (
                    "growth, lock unreadable",
                    cdc(healthy(3, 5)).without_sight_of_the_lock(),
                    Want::NotApplicable,
                ),
                ("to zero", cdc(led_by_the_last(0)), Want::NotApplicable),
                ("senders wait for a slot that goes", waits(healthy(5, 3), "acid_a_4"), Want::Warn),
                (
                    "senders wait for a slot that stays",
                    waits(healthy(5, 3), "acid_a_2"),
                    Want::Pass,
                ),
                ("senders wait for another's slot", waits(healthy(5, 3), "acid_b_4"), Want::Pass),
            ],
        );
        insta::assert_snapshot!(text("logical-slots", &waits(healthy(5, 3), "acid_a_1, acid_a_4")), @"
        logical-slots: logical replication waits for the slots of members that go (acid_a_4): no consumer of a failover slot would get a change
          configmap/acid-a-config: postgresql.parameters.synchronized_standby_slots: acid_a_1, acid_a_4
          Try: take them out of synchronized_standby_slots first
        ");
        insta::assert_snapshot!(text("logical-slots", &cdc(led_by_the_last(3))), @"
        logical-slots: acid-a-4 leads and would be deleted: changes of logical slots that the next leader lacks are lost (cdc)
          configmap/acid-a-config: slots.cdc: logical
          Try: this moves the leader first, once the candidate holds every slot:
              kubectl pgscale down acid-a --to 3 -n db
        ");
        insta::assert_snapshot!(text("logical-slots", &cdc(led_by_the_last(0).with_count(2, 3))), @"
        logical-slots: acid-a-4 leads and would be deleted: changes of logical slots that the next leader lacks are lost (cdc)
          configmap/acid-a-config: slots.cdc: logical
          Try: this moves the leader first, once the candidate holds every slot:
              kubectl pgscale switchover acid-a --for 3 -n db
        ");
        insta::assert_snapshot!(text("leader-condemned", &cdc(led_by_the_last(3))), @"
        leader-condemned: acid-a-4 is the leader, and its pod would be deleted: acid-a-0 to acid-a-2 are kept
          configmap/acid-a-leader: leader: acid-a-4
          configmap/acid-a-config: slots.cdc: logical (logical-slots)
          Try: move the leader first, then repeat the change:
              kubectl pgscale switchover acid-a --for 3 -n db
            without the plugin:
              kubectl exec -it acid-a-0 -n db -c postgres -- patronictl switchover acid-a --candidate acid-a-0
        ");
    }
}
