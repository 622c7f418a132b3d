//! What must hold for any cluster, not only for those that somebody thought of.

use k8s_openapi::jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

use crate::facts::{Live, Seen};
use crate::patroni::Role;
use crate::policy::{Mode, Policies, ScalePolicy};
use crate::rules::generated::{
    TIGHTENINGS, facts, hidden, hide, opinionated, policy, shrinks, tightened, worse, worsen,
};
use crate::rules::testing::{healthy, lock};
use crate::rules::{RULES, evaluate, way_out};

/// The same clusters in every run, so that a red run is about the change it ran on. `PROPTEST_RNG_SEED` and
/// `PROPTEST_CASES` look further afield, as the nightly workflow does.
fn seeded() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 600;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(20_261_124);
    }
    config
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn hiding_a_fact_never_admits_a_refused_shrink(
        facts in shrinks(), what in vec(hidden(), 1..4), policies in vec(policy(), 0..3)
    ) {
        let policies = Policies::combine(&policies, &facts.change.new);
        let mut less = facts.clone();
        for what in &what {
            hide(&mut less, what);
        }
        if !evaluate(&facts, &policies).allows() {
            let verdict = evaluate(&less, &policies);
            prop_assert!(!verdict.allows(), "{:?} hidden: {:#?}", what, evaluate(&facts, &policies));
        }
    }

    #[test]
    fn a_survivor_that_gets_worse_never_admits_a_refused_shrink(
        facts in shrinks(), index in any::<Index>(), how in vec(worse(), 1..3)
    ) {
        let policies = Policies::default();
        let mut worse = facts.clone();
        for how in &how {
            worsen(&mut worse, index, *how);
        }
        if !evaluate(&facts, &policies).allows() {
            prop_assert!(!evaluate(&worse, &policies).allows(), "{:#?}", evaluate(&facts, &policies));
        }
    }

    #[test]
    fn a_tighter_policy_never_admits_a_refused_change(
        facts in facts(), policies in vec(opinionated(), 1..4), index in any::<(Index, Index)>(),
        how in 0..TIGHTENINGS
    ) {
        let mut tighter = policies.clone();
        let chosen = index.0.index(tighter.len());
        tighter[chosen] = tightened(&policies[chosen], how, index.1);
        let judge = |policies: &[ScalePolicy]| {
            evaluate(&facts, &Policies::combine(policies, &facts.change.new)).allows()
        };
        prop_assert!(judge(&policies) || !judge(&tighter));
    }

    #[test]
    fn a_policy_on_trial_refuses_nothing(
        facts in facts(), enforced in vec(policy(), 0..3), mut trial in opinionated()
    ) {
        // An enforced policy beside it keeps the built-in rules enforced, whatever its own mode.
        let enforced: Vec<_> = enforced.into_iter().map(|mut policy| {
            policy.spec.mode = None;
            policy
        }).chain([ScalePolicy::new("empty", crate::policy::ScalePolicySpec::default())]).collect();
        trial.spec.mode = Some(Mode::Warn);
        let judge = |policies: &[ScalePolicy]| {
            evaluate(&facts, &Policies::combine(policies, &facts.change.new)).allows()
        };
        let both: Vec<_> = enforced.iter().cloned().chain([trial]).collect();
        prop_assert!(!judge(&enforced) || judge(&both));
    }

    #[test]
    fn an_admitted_shrink_has_an_heir_with_every_row(facts in shrinks()) {
        let judged = facts.to() > 0 && facts.repair().is_none() && facts.leader_condemned();
        if judged && evaluate(&facts, &Policies::default()).allows() {
            let position = |name: &str| match &facts.member(name).unwrap().live {
                Live::Answered(answer) => (answer.timeline, answer.position()),
                Live::NotAsked | Live::Silent(_) => (None, None),
            };
            let (heir, leader) = (position("acid-a-0"), position(facts.leader_name().unwrap()));
            prop_assert!(leader.1.is_some() && heir.1 >= leader.1 && heir.0 == leader.0);
            prop_assert!(!facts.configuration.known().unwrap().paused);
        }
    }

    #[test]
    fn a_way_out_is_admitted(facts in shrinks(), policies in vec(policy(), 0..3)) {
        let policies = Policies::combine(&policies, &facts.change.new);
        if let Some(way) = way_out(&facts, &policies) {
            let mut there = facts.clone();
            there.change = crate::Change::of_count(facts.change.old.clone().unwrap(), way.to);
            if let Some(leader) = &way.leader {
                there = there.led_by(leader);
            }
            prop_assert!(!there.leader_condemned() && evaluate(&there, &policies).allows());
            prop_assert!(way.to >= facts.to() && way.to > 0);
        }
    }

    #[test]
    fn nothing_makes_a_judgement_fail(facts in facts(), leader in "acid-a-[0-9]|") {
        for facts in [facts.led_by(&leader), facts] {
            let verdict = evaluate(&facts, &Policies::default());
            prop_assert_eq!(verdict.judgements.len(), RULES.len());
            for finding in &verdict.findings {
                prop_assert!(finding.to_string().len() > finding.rule.len() + 2);
            }
        }
    }
}

/// The member that contradicts the lock falls silent: it must still be heard by its last report, and where
/// that is gone as well the rule must not pass.
#[test]
fn a_silent_lock_holder_that_last_reported_a_replica_is_no_leader() {
    let unhealthy_go = || healthy(5, 3).cloning(3).cloning(4);
    let replica = unhealthy_go().member("acid-a-1").unwrap().report.clone();
    let silent = || Live::Silent("no answer in 1 s".to_owned());
    let truth = unhealthy_go().with_member(0, |it| it.report = replica.clone());
    let truth = truth.with_answer(0, |it| it.role = Role::Replica);
    let unheard = truth.clone().with_member(0, |it| it.live = silent());
    let hidden =
        unheard.clone().with_member(0, |it| it.report = Seen::Unreadable("hidden".to_owned()));
    for facts in [truth, unheard, hidden] {
        assert!(!evaluate(&facts, &Policies::default()).allows(), "{facts:#?}");
    }
}

#[test]
fn the_generated_clusters_are_admitted_and_refused() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut counted = [0_u32; 4];
    for _ in 0..2000 {
        let facts = shrinks().new_tree(&mut runner).unwrap().current();
        if facts.to() > 0 {
            let allowed = evaluate(&facts, &Policies::default()).allows();
            counted[usize::from(allowed) + 2 * usize::from(facts.leader_condemned())] += 1;
        }
    }
    // A property over clusters that are all refused, or all admitted, would show nothing.
    assert!(counted.iter().all(|count| *count >= 10), "{counted:?}");
}

#[test]
fn a_lock_beyond_all_bounds_is_no_lock() {
    let facts = healthy(3, 2);
    let mut strange = lock("acid-a-0");
    strange.ttl = i64::MAX;
    strange.renewed = Some(facts.now);
    assert_eq!(strange.valid_holder(facts.now, SignedDuration::from_secs(5)), None);
}
