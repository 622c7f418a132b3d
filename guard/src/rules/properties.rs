//! The properties that hold for any cluster, beyond the hand-written situations.

use k8s_openapi::jiff::SignedDuration;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;

use crate::assessment::Assessment;
use crate::change::{Change, Direction};
use crate::facts::{Facts, Live, Seen};
use crate::object_ref::ObjectRef;
use crate::patroni::Role;
use crate::policy::{
    ClusterScalePolicy, ClusterScalePolicySpec, Limit, Mode, Policies, ScalePolicy,
    ScalePolicySpec, WhenUnknown,
};
use crate::rules::generated::{
    Hidden, TIGHTENINGS, Worse, facts, growths, hidden, hide, opinionated, policy, restrictive,
    shrinks, worse, worsen,
};
use crate::rules::rebuild::has_spare;
use crate::rules::testing::{healthy, lock, lowered};
use crate::rules::{Kind, RULES, alternative, evaluate};
use crate::verdict::{Outcome, Severity, Verdict};

/// Returns a configuration with the same clusters in every run, so that a red run is about the
/// change it ran on.
///
/// `PROPTEST_RNG_SEED` and `PROPTEST_CASES` reach other clusters, as the nightly workflow does.
pub(super) fn seeded() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 600;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(20_261_124);
    }
    config
}

/// Returns `policies` with the addition that unknown facts refuse growth, too.
fn careful(mut policies: Vec<ScalePolicy>, facts: &Facts) -> Policies {
    let when_unknown = Some(WhenUnknown { down: None, up: Some(Severity::Deny) });
    policies.push(ScalePolicy::new(
        "careful",
        ScalePolicySpec { when_unknown, ..ScalePolicySpec::default() },
    ));
    Policies::combine(&policies, &facts.change.new)
}

fn denials(verdict: &Verdict) -> Vec<&'static str> {
    verdict.denials().map(|finding| finding.rule.as_str()).collect()
}

/// Checks that a refused change stays refused when `what` cannot be seen.
fn never_admitted_without(
    facts: &Facts,
    what: &[Hidden],
    policies: &Policies,
) -> Result<(), TestCaseError> {
    let before = evaluate(facts, policies);
    if before.allows() {
        return Ok(());
    }
    let mut less = facts.clone();
    for what in what {
        hide(&mut less, what);
    }
    let verdict = evaluate(&less, policies);
    prop_assert!(!verdict.allows(), "{what:?} hidden, was refused by {:?}", denials(&before));
    Ok(())
}

/// Checks that a refused change stays refused when a kept member gets worse.
fn never_admitted_worse(
    facts: &Facts,
    index: Index,
    how: &[Worse],
    policies: &Policies,
) -> Result<(), TestCaseError> {
    let before = evaluate(facts, policies);
    if before.allows() {
        return Ok(());
    }
    let mut worse = facts.clone();
    for how in how {
        worsen(&mut worse, index, *how);
    }
    let every_new_one_counts = worse.direction() == Direction::Up && !has_spare(&worse.assess());
    prop_assert!(
        every_new_one_counts || !evaluate(&worse, policies).allows(),
        "{how:?}, was refused by {:?}",
        denials(&before)
    );
    Ok(())
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn hiding_a_fact_never_admits_a_refused_shrink(
        facts in shrinks(), what in vec(hidden(), 1..4), policies in vec(policy(), 0..3)
    ) {
        let policies = Policies::combine(&policies, &facts.change.new);
        never_admitted_without(&facts, &what, &policies)?;
    }

    #[test]
    fn hiding_a_fact_never_admits_refused_growth_where_unknown_facts_refuse(
        facts in growths(), what in vec(hidden(), 1..4), policies in vec(policy(), 0..3)
    ) {
        never_admitted_without(&facts, &what, &careful(policies, &facts))?;
    }

    #[test]
    fn a_survivor_that_gets_worse_never_admits_a_refused_shrink(
        facts in shrinks(), index in any::<Index>(), how in vec(worse(), 1..3),
        policies in vec(policy(), 0..3)
    ) {
        let policies = Policies::combine(&policies, &facts.change.new);
        never_admitted_worse(&facts, index, &how, &policies)?;
    }

    /// Without a healthy standby every new member counts, and a rebuild is no reason to wait.
    #[test]
    fn a_member_that_gets_worse_never_admits_refused_growth(
        facts in growths(), index in any::<Index>(), how in vec(worse(), 1..3),
        policies in vec(policy(), 0..3)
    ) {
        never_admitted_worse(&facts, index, &how, &careful(policies, &facts))?;
    }

    #[test]
    fn a_tighter_policy_never_admits_a_refused_change(
        facts in facts(), policies in vec(opinionated(), 1..4), index in any::<(Index, Index)>(),
        how in any::<Index>()
    ) {
        let (what, tighten) = how.get(TIGHTENINGS);
        let mut tighter = policies.clone();
        let chosen = index.0.index(tighter.len());
        tighten(&mut tighter[chosen].spec, index.1);
        let judge = |policies: &[ScalePolicy]| {
            evaluate(&facts, &Policies::combine(policies, &facts.change.new)).allows()
        };
        prop_assert!(judge(&policies) || !judge(&tighter), "{what}");
    }

    /// Each count is requested as `kubectl pgscale` would: the count alone, with the leader moved
    /// first where it has to move.
    #[test]
    fn every_suggested_count_is_admitted(
        facts in facts(), policies in vec(opinionated(), 0..4)
    ) {
        let policies = Policies::combine(&policies, &facts.change.new);
        let verdict = evaluate(&facts, &policies);
        let remedies = verdict.findings.iter().filter_map(|finding| finding.remedy.as_ref());
        let commands = remedies.flat_map(|remedy| &remedy.commands);
        for command in commands.map(|suggested| &suggested.command) {
            let Some((count, old)) = command.count().zip(facts.change.old.clone()) else { continue };
            let mut there = facts.clone();
            there.change = Change { dry_run: true, ..Change::of_count(old, count) };
            let leads = there.deletes_leader().then(|| {
                Assessment::of(&there, &policies).best_survivor().map(|best| best.name.clone())
            });
            if let Some(best) = leads.flatten() {
                there = there.led_by(&best);
            }
            let refused: Vec<&str> =
                evaluate(&there, &policies).denials().map(|finding| finding.rule.as_str()).collect();
            prop_assert!(refused.is_empty(), "{command} is refused by {refused:?}");
        }
    }

    /// The new policy is one of the namespace, one of the platform, or one with a wider selector.
    #[test]
    fn one_more_policy_that_only_restricts_never_admits_a_refused_change(
        facts in facts(), policies in vec(opinionated(), 0..3), more in restrictive(),
        of_the_platform in any::<bool>()
    ) {
        let labels = &facts.change.new.labels;
        let namespace = Seen::Absent;
        let before = Policies::of(&policies, [], &namespace, labels);
        let everywhere = ClusterScalePolicy::new("p", ClusterScalePolicySpec {
            namespace_selector: None,
            built_in: None,
            policy: more.spec.clone(),
        });
        let after = if of_the_platform {
            Policies::of(&policies, [&everywhere], &namespace, labels)
        } else {
            Policies::of(policies.iter().chain([&more]), [], &namespace, labels)
        };
        prop_assert!(evaluate(&facts, &before).allows() || !evaluate(&facts, &after).allows());
    }

    #[test]
    fn an_installation_that_fails_closed_never_admits_a_refused_change(
        facts in facts(), policies in vec(opinionated(), 0..4)
    ) {
        let open = Policies::combine(&policies, &facts.change.new);
        let closed = open.clone().failing_growth_closed();
        prop_assert!(evaluate(&facts, &open).allows() || !evaluate(&facts, &closed).allows());
    }

    #[test]
    fn unreadable_policies_never_admit_a_change_that_the_others_refuse(
        facts in facts(), policies in vec(opinionated(), 0..4)
    ) {
        let known = Policies::combine(&policies, &facts.change.new);
        let partly = known.clone().and_unreadable("forbidden");
        prop_assert!(evaluate(&facts, &known).allows() || !evaluate(&facts, &partly).allows());
    }

    #[test]
    fn a_policy_on_trial_refuses_nothing(
        facts in facts(), enforced in vec(policy(), 0..3), mut trial in opinionated()
    ) {
        // An enforced policy beside it keeps the built-in rules enforced, whatever its own mode.
        let enforced: Vec<_> = enforced.into_iter().map(|mut policy| {
            policy.spec.mode = None;
            policy
        }).chain([ScalePolicy::new("empty", ScalePolicySpec::default())]).collect();
        trial.spec.mode = Some(Mode::Warn);
        let judge = |policies: &[ScalePolicy]| {
            evaluate(&facts, &Policies::combine(policies, &facts.change.new)).allows()
        };
        let both: Vec<_> = enforced.iter().cloned().chain([trial]).collect();
        prop_assert!(!judge(&enforced) || judge(&both));
    }

    #[test]
    fn namespace_policy_never_admits_a_write_that_deletes_the_leader(
        facts in shrinks(), policies in vec(opinionated(), 0..3)
    ) {
        let policies = Policies::combine(&policies, &facts.change.new);
        if facts.to() > 0 && facts.leader_condemned() && facts.assess().repair().is_none() {
            prop_assert!(!evaluate(&facts, &policies).allows());
        }
    }

    #[test]
    fn namespace_policy_never_lifts_a_limit_of_the_platform(
        facts in facts(), policies in vec(opinionated(), 1..4)
    ) {
        let alone = evaluate(&facts, &Policies::default());
        let policies = Policies::combine(&policies, &facts.change.new);
        let fixed = alone.denials().any(|it| !policies.may_loosen(it.rule.as_str()));
        prop_assert!(!fixed || !evaluate(&facts, &policies).allows(), "{:?}", denials(&alone));
    }

    #[test]
    fn a_shrink_left_to_the_operator_has_a_candidate_with_every_row(facts in shrinks()) {
        let judged = facts.to() > 0 && facts.assess().repair().is_none() && facts.leader_condemned();
        if judged && evaluate(&facts, &lowered()).allows() {
            let position = |name: &str| match &facts.member(name).unwrap().live {
                Live::Answered(answer) => (answer.timeline, answer.position()),
                Live::NotAsked | Live::Silent(_) => (None, None),
            };
            let (candidate, leader) = (position("acid-a-0"), position(facts.leader_name().unwrap()));
            prop_assert!(facts.leader_member().unwrap().pod.rest_refusals.is_empty());
            prop_assert!(leader.1.is_some() && candidate.1 >= leader.1 && candidate.0 == leader.0);
            prop_assert!(!facts.configuration.known().unwrap().paused);
        }
    }

    #[test]
    fn every_alternative_is_admitted(facts in shrinks(), policies in vec(policy(), 0..3)) {
        let policies = Policies::combine(&policies, &facts.change.new);
        if let Some(way) = alternative(&facts, &policies) {
            let mut there = facts.clone();
            there.change = Change::of_count(facts.change.old.clone().unwrap(), way.to);
            there.change.undo = facts.change.undo && way.to == facts.to();
            if let Some(leader) = &way.leader {
                there = there.led_by(leader);
            }
            prop_assert!(!there.leader_condemned() && evaluate(&there, &policies).allows());
            prop_assert!(way.to >= facts.to() && way.to > 0);
        }
    }

    #[test]
    fn judgement_never_fails(facts in facts(), leader in "acid-a-[0-9]|") {
        for facts in [facts.led_by(&leader), facts] {
            let verdict = evaluate(&facts, &Policies::default());
            prop_assert_eq!(verdict.results.len(), RULES.len());
            for finding in &verdict.findings {
                prop_assert!(finding.to_string().len() > finding.rule.as_str().len() + 2);
            }
        }
    }
}

/// The member that contradicts the lock falls silent. Its last report must still count, and where
/// the report is gone as well the rule must not pass.
#[test]
fn a_silent_lock_holder_that_last_reported_a_replica_is_no_leader() {
    let unhealthy_go = || healthy(5, 3).cloning(3).cloning(4);
    let replica = unhealthy_go().member("acid-a-1").unwrap().report.clone();
    let silent = || Live::Silent("no answer in 1s".to_owned());
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
            let allowed = evaluate(&facts, &lowered()).allows();
            counted[usize::from(allowed) + 2 * usize::from(facts.leader_condemned())] += 1;
        }
    }
    // A property over clusters that are all refused, or all admitted, would show nothing.
    assert!(counted.iter().all(|count| *count >= 10), "{counted:?}");
}

/// The fields of a policy that nothing can make stricter. `clusterSelector` is covered by the
/// property with one more policy, and no rule looks at `autoscale`.
const NEITHER_STRICT_NOR_LAX: &[&str] =
    &["autoscale", "clusterSelector", "freeze.reason", "windows.timeZone"];

#[test]
fn every_field_of_a_policy_is_made_stricter() {
    use kube::core::CustomResourceExt as _;
    let crd = serde_json::to_value(ScalePolicy::crd()).unwrap();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let mut untouched = Vec::new();
    fields(crd.pointer(schema).unwrap(), "", &mut |field| {
        let exempt = NEITHER_STRICT_NOR_LAX.iter().any(|it| field.starts_with(it));
        if !exempt && !TIGHTENINGS.iter().any(|(name, _)| name.starts_with(field)) {
            untouched.push(field.to_owned());
        }
    });
    assert_eq!(untouched, Vec::<String>::new());
}

/// Finds every field of a schema that holds no others, by its path.
fn fields(schema: &serde_json::Value, path: &str, found: &mut impl FnMut(&str)) {
    let items = schema.get("items").unwrap_or(schema);
    let Some(properties) = items["properties"].as_object() else { return found(path) };
    for (name, field) in properties {
        let dot = if path.is_empty() { "" } else { "." };
        fields(field, &format!("{path}{dot}{name}"), found);
    }
}

#[test]
fn a_lock_beyond_all_bounds_is_no_lock() {
    let facts = healthy(3, 2);
    let mut strange = lock("acid-a-0");
    strange.ttl = i64::MAX;
    strange.renewed = Some(facts.now);
    assert_eq!(strange.valid_holder(facts.now, SignedDuration::from_secs(5)), None);
}

proptest! {
    #![proptest_config(seeded())]

    /// A finding is compared with the one by Patroni's limit alone.
    #[test]
    fn a_policy_s_lag_is_named_exactly_where_it_decides(
        facts in prop_oneof![shrinks().boxed(), growths().boxed()],
        replayed in vec(select(vec![1000_u64, 850, 850, 0]), 8),
    ) {
        let mut facts = facts;
        if let Seen::Known(members) = &mut facts.members {
            for (member, replayed) in members.iter_mut().zip(replayed) {
                if let Live::Answered(answer) = &mut member.live {
                    answer.replayed = Some(replayed);
                }
            }
        }
        let by_patroni = Assessment::new(&facts, None);
        let by_policy = Assessment::new(&facts, Some(50));
        let policies = Policies::default();
        for rule in RULES.iter().filter(|rule| rule.kind == Kind::Live) {
            let Outcome::Found(mut finding) = rule.judge(&by_policy, &policies) else { continue };
            let named = std::mem::take(&mut finding.by_policy_lag);
            let decided = rule.judge(&by_patroni, &policies) != Outcome::Found(finding.clone());
            prop_assert_eq!(named, decided, "{}", finding);
        }
    }

    /// Neither the time, the thread nor what was judged before enters a verdict, and judging changes nothing.
    #[test]
    fn equal_facts_and_policies_come_to_equal_bytes(
        facts in facts(), policies in vec(policy(), 0..3), lag in option::of(select(vec![50_u64, 500])),
        other in facts()
    ) {
        let mut policies = Policies::combine(&policies, &facts.change.new);
        policies.max_lag.extend(lag.map(|value| Limit {
            value,
            source: ObjectRef::policy("lag"),
            mode: Mode::Enforce,
        }));
        let given = (facts.clone(), policies.clone());
        let here = serde_json::to_string(&evaluate(&facts, &policies)).unwrap();
        evaluate(&other, &policies);
        let (again, same) = given.clone();
        let there = std::thread::spawn(move || serde_json::to_string(&evaluate(&again, &same)).unwrap());
        prop_assert_eq!(here, there.join().unwrap());
        prop_assert_eq!((facts, policies), given);
    }
}
