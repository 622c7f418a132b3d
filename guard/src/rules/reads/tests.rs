//! The needs of the rules are true: no other part matters, and each need does.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::assessment::Assessment;
use crate::facts::Claim;
use crate::object_ref::{Kind, ObjectRef};
use crate::patroni::{Store, SyncState, Synchronous};
use crate::policy::{Limit, Mode, Policies};
use crate::rule_id::RuleId;
use crate::rules::generated::{facts, growths, hidden, hide, policy, shrinks};
use crate::rules::properties::seeded;
use crate::rules::testing::{healthy, shown};
use crate::rules::{RULES, judge, judge_with, rule};
use crate::verdict::Outcome;

/// Replaces one part by that of another cluster.
fn replace(facts: &mut Facts, read: Read, other: &Facts) {
    match read {
        Read::Policies => {}
        Read::Operator => {
            facts.operator = other.operator.clone();
            facts.operator_before = other.operator_before.clone();
        }
        Read::StatefulSet => facts.stateful_set = other.stateful_set.clone(),
        Read::Pods => facts.members = other.members.clone(),
        Read::Answers => {
            if let Seen::Known(members) = &mut facts.members {
                for (member, other) in members.iter_mut().zip(other.all_members()) {
                    member.live = other.live.clone();
                }
            }
        }
        Read::Leader => facts.leader = other.leader.clone(),
        Read::Configuration => facts.configuration = other.configuration.clone(),
        Read::Failover => facts.failover = other.failover.clone(),
        Read::Sync => facts.sync = other.sync.clone(),
        Read::Claims => facts.claims = other.claims.clone(),
        Read::LastLeader => facts.last_leader = other.last_leader.clone(),
        Read::Initialize => {
            facts.initialize = other.initialize.clone();
            facts.elsewhere = other.elsewhere.clone();
        }
        Read::Template => facts.capacity.template = other.capacity.template.clone(),
        Read::Quotas => facts.capacity.quotas = other.capacity.quotas.clone(),
        Read::LimitRanges => facts.capacity.limit_ranges = other.capacity.limit_ranges.clone(),
        Read::Nodes => facts.capacity.nodes = other.capacity.nodes.clone(),
        Read::DisruptionBudgets => {
            facts.capacity.disruption_budgets = other.capacity.disruption_budgets.clone();
        }
        Read::Backup => facts.capacity.backup = other.capacity.backup.clone(),
        Read::Budget => facts.capacity.budget = other.capacity.budget.clone(),
    }
}

/// Returns any change of any cluster, with the parts that the other properties leave alone:
/// Patroni's DCS store, the writer that scales the StatefulSet, replicas whose replay lags, and
/// volumes that are deleted.
fn any_facts() -> BoxedStrategy<Facts> {
    let stores = vec![None, Some(Store::ConfigMaps), Some(Store::Endpoints), Some(Store::Etcd)];
    let rarely = || prop::bool::weighted(0.2);
    let rare = (select(stores), rarely(), rarely(), rarely(), rarely(), rarely(), rarely());
    let clusters = prop_oneof![facts().boxed(), shrinks().boxed(), growths().boxed()];
    (clusters, rare)
        .prop_map(|(mut facts, (store, endpoints, scaled, no_lock, created, lagging, deletes))| {
            if let Seen::Known(set) = &mut facts.stateful_set {
                set.store = store.or(set.store);
                set.scaled_by = scaled.then(|| "kubectl".to_owned());
                set.deletes_volumes |= deletes;
            }
            if no_lock {
                facts.leader = Seen::Absent;
            } else if let Seen::Known(lock) = &mut facts.leader
                && endpoints
            {
                lock.source = ObjectRef::new(Kind::Endpoints, "acid-a");
            }
            if created {
                facts.change.old = None;
                facts.operator_before = None;
            }
            if let Seen::Known(members) = &mut facts.members
                && lagging
            {
                for member in members {
                    if let Live::Answered(answer) = &mut member.live {
                        answer.replayed = answer.received.map(|received| received.min(850));
                    }
                }
            }
            facts
        })
        .boxed()
}

/// Returns policies of any kind, some of which ask for a smaller lag than Patroni.
fn any_policies() -> impl Strategy<Value = Policies> {
    let lag = option::weighted(0.3, select(vec![50_u64, 100]));
    (vec(policy(), 0..3), lag).prop_map(|(policies, lag)| {
        let mut policies = Policies::combine(&policies, &healthy(3, 3).change.new);
        policies.max_lag.extend(lag.map(|value| Limit {
            value,
            source: ObjectRef::policy("lag"),
            mode: Mode::Enforce,
        }));
        policies
    })
}

fn situations() -> BoxedStrategy<(Facts, Policies)> {
    (any_facts(), any_policies(), vec(hidden(), 0..2))
        .prop_map(|(mut facts, policies, what)| {
            for what in &what {
                hide(&mut facts, what);
            }
            (facts, policies)
        })
        .boxed()
}

fn outcome(rule: &Rule, facts: &Facts, policies: &Policies) -> Outcome {
    rule.judge(&Assessment::of(facts, policies), policies)
}

/// Returns the difference in the outcome when every part beside the rule's needs is hidden, or
/// comes from another cluster.
fn changed(rule: &Rule, facts: &Facts, policies: &Policies, other: &Facts) -> Option<String> {
    let needs = rule.needs(facts);
    let mut replaced = facts.clone();
    for read in Read::ALL.iter().filter(|read| !needs.contains(**read)) {
        replace(&mut replaced, *read, other);
    }
    let unread = Policies::unreadable("hidden");
    let policies_of = |there: bool| if there { policies } else { &unread };
    let there = needs.contains(Read::Policies);
    let was = outcome(rule, facts, policies);
    [(facts.only(needs, "hidden"), policies_of(there)), (replaced, policies_of(true))]
        .into_iter()
        .map(|(facts, policies)| outcome(rule, &facts, policies))
        .find(|now| *now != was)
        .map(|now| format!("{}: {was:?} -> {now:?}", rule.id))
}

/// Returns the rows of every rule's table.
fn rows() -> Vec<(RuleId, Facts, Policies)> {
    let of = |rule: &Rule| {
        // Another test goes through the same tables.
        let situations = shown(|| insta::allow_duplicates! { (rule.table)() }).situations;
        let situations = situations.into_iter();
        situations.map(|(facts, policies)| (rule.id, facts, policies)).collect::<Vec<_>>()
    };
    RULES.iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn a_rule_rests_on_nothing_but_its_needs(
        (facts, policies) in situations(), other in any_facts()
    ) {
        for rule in RULES {
            prop_assert_eq!(changed(rule, &facts, &policies, &other), None);
        }
    }

    #[test]
    fn parts_of_a_change_cover_every_rule_that_applies_to_it(facts in any_facts()) {
        let read = Reads::of_change(&facts.change);
        for rule in RULES.iter().filter(|rule| rule.applies.includes(&facts)) {
            prop_assert!(read.covers(rule.needs(&facts)), "{}: {read:?}", rule.id);
        }
    }

    #[test]
    fn early_judgement_equals_the_final_one(
        (facts, policies) in situations(), bits in any::<u32>()
    ) {
        let reads: Vec<Read> =
            Read::ALL.iter().copied().filter(|read| bits & read.bit() != 0).collect();
        let available = Reads::of(&reads).and(&[Read::Operator]);
        let early = judge_with(&facts, &policies, available);
        let full = judge(&facts, &policies);
        for rule in RULES {
            let later = full.results.iter().find(|it| it.rule == rule.id).unwrap();
            let now = early.verdict.results.iter().find(|it| it.rule == rule.id);
            prop_assert_eq!(now.is_none(), early.not_judged.contains(&rule.id));
            // The findings of a trial of a smaller lag do not belong to the outcome.
            prop_assert!(now.is_none_or(|now| now == later), "{:?} -> {:?}", now, later);
        }
    }
}

#[test]
fn no_table_rests_on_more_than_the_needs_of_its_rule() {
    let other = healthy(7, 2);
    for (id, facts, policies) in rows() {
        assert_eq!(changed(rule(id.as_str()).unwrap(), &facts, &policies, &other), None);
    }
}

/// Returns clusters in which only the allowed lag makes the difference: these are drawn too rarely.
fn decided_by_lag() -> Vec<Facts> {
    let lagging = |facts: Facts| {
        (1..4).fold(facts, |facts, ordinal| {
            facts.with_answer(ordinal, |answer| answer.replayed = Some(850))
        })
    };
    let mut synchronous = lagging(healthy(4, 2));
    if let Seen::Known(configuration) = &mut synchronous.configuration {
        configuration.synchronous = Synchronous::On;
    }
    let leader = Some("acid-a-0".to_owned());
    synchronous.sync = Seen::Known(SyncState { leader, standbys: vec!["acid-a-3".to_owned()] });
    // The leader stays, on a node that is lost.
    let mut deleting =
        lagging(healthy(4, 2)).with_member(0, |member| member.pod.node_ready = Some(false));
    if let Seen::Known(set) = &mut deleting.stateful_set {
        set.deletes_volumes = true;
    }
    let claim = |ordinal| Claim { ordinal, ..Claim::default() };
    deleting.claims = Seen::Known((0..4).map(claim).collect());
    vec![synchronous, deleting]
}

/// Each need of each rule is shown to matter by some row of its table, or by some cluster.
#[test]
fn no_need_is_superfluous() {
    let mut unshown: BTreeSet<(RuleId, Read)> =
        RULES.iter().flat_map(|rule| rule.needs.iter().map(|read| (rule.id, read))).collect();
    let mut show = |facts: &Facts, policies: &Policies, only: Option<RuleId>| {
        unshown.retain(|(id, read)| {
            if only.is_some_and(|only| only != *id) {
                return true;
            }
            let rule = rule(id.as_str()).unwrap();
            let mut hidden = facts.clone();
            hidden.hide(*read, "hidden");
            let unread = Policies::unreadable("hidden");
            let others = if *read == Read::Policies { &unread } else { policies };
            outcome(rule, facts, policies) == outcome(rule, &hidden, others)
        });
        unshown.is_empty()
    };
    for (id, facts, policies) in rows() {
        show(&facts, &policies, Some(id));
    }
    let smaller = Limit { value: 50, source: ObjectRef::policy("lag"), mode: Mode::Enforce };
    let smaller = Policies { max_lag: vec![smaller], ..Policies::default() };
    for facts in decided_by_lag() {
        show(&facts, &smaller, None);
        show(&facts, &Policies::default(), None);
    }
    let mut runner = TestRunner::new(seeded());
    let strategy = situations();
    for _ in 0..6000 {
        let (facts, policies) = strategy.new_tree(&mut runner).unwrap().current();
        if show(&facts, &policies, None) {
            return;
        }
    }
    assert_eq!(unshown, BTreeSet::new());
}

#[test]
fn written_counts_say_which_parts_can_matter() {
    use Read::{Backup, Claims, Failover, LimitRanges, Nodes, Quotas};
    let of = |facts: &Facts| {
        let read = Reads::of_change(&facts.change);
        [Backup, Claims, Failover, LimitRanges, Nodes, Quotas].map(|part| read.contains(part))
    };
    let all = [true; 6];
    assert_eq!(of(&healthy(3, 5)), [false, true, false, true, true, true]);
    assert_eq!(of(&healthy(5, 3)), [true, true, true, false, false, false]);
    assert_eq!(of(&healthy(3, 3)), [false, true, false, false, false, false]);
    let mut lifted = healthy(3, 5);
    lifted.change.new.annotations.insert("a/b".into(), "true".into());
    assert_eq!(of(&lifted), all, "the annotation may lift the operator's limits");
    let mut created = healthy(3, 3);
    created.change.old = None;
    assert_eq!(of(&created), [false, true, false, true, false, true]);
}

#[test]
fn every_rule_needs_the_operator_and_answers_come_with_their_pods() {
    for rule in RULES {
        assert!(rule.needs.covers(COUNT), "{}", rule.id);
        let answers = rule.needs.contains(Read::Answers);
        assert!(!answers || rule.needs.contains(Read::Pods), "{}", rule.id);
    }
    assert!(Reads::ALL.covers(HEALTH) && !HEALTH.covers(Reads::ALL));
    assert_eq!(HEALTH.iter().count(), 6);
}
