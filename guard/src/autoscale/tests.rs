use jiff::ToSpan as _;
use proptest::prelude::*;

use super::*;
use crate::policy::Day;
use crate::testing::now;

fn spec() -> Spec {
    Spec { cpu: Some(80), min: 3, max: 7, ..Spec::default() }
}

fn at(seconds: i64) -> Timestamp {
    now().checked_add(seconds.seconds()).unwrap()
}

/// A converged cluster of which every replica uses this percentage of one core, measured at
/// `seconds`.
fn sample(declared: i64, percent: u64, seconds: i64) -> Sample {
    let replica = |ordinal: i64| Replica {
        name: format!("acid-a-{ordinal}"),
        request: 1000,
        cpu: Cpu::Used { millicores: percent * 10, at: at(seconds) },
    };
    Sample {
        declared,
        lacks: None,
        writer: Some("kubectl-edit".to_owned()),
        replicas: (1..declared).map(replica).collect(),
    }
}

/// Looks every 15 seconds from `from` on, and carries every step out at once. Returns the changed
/// reasons with their times.
fn looks(spec: &Spec, from: i64, count: i64, load: impl Fn(i64) -> u64, times: i64) -> Vec<String> {
    let (mut state, mut declared, mut said) = (State::default(), count, Vec::<String>::new());
    let mut last = String::new();
    for look in 0..times {
        let seconds = from + look * 15;
        let decision =
            decide(spec, &mut state, &sample(declared, load(seconds), seconds), at(seconds));
        let line = format!("{} {}", decision.reason.word(), decision.wanted);
        if line != last {
            said.push(format!("{seconds}s {line}"));
            last = line;
        }
        if decision.acts() {
            state.stepped(declared, decision.wanted, at(seconds));
            declared = decision.wanted;
        }
    }
    said
}

#[test]
fn load_up_adds_one_at_a_time_and_load_gone_removes_one_at_a_time() {
    let up = looks(&spec(), 0, 3, |_| 160, 60);
    assert_eq!(
        up,
        [
            "0s StabilisingUp 3",
            "60s StepUp 4",
            "75s Cooldown 4",
            "360s StepUp 5",
            "375s Cooldown 5",
            "660s StepUp 6",
            "675s Cooldown 6",
        ]
    );
    let down = looks(&spec(), 0, 5, |_| 5, 80);
    assert_eq!(
        down,
        [
            "0s StabilisingDown 5",
            "300s StepDown 4",
            "315s Cooldown 4",
            "600s StepDown 3",
            "615s AtMin 3",
        ]
    );
}

#[test]
fn flapping_load_gives_no_flapping_count() {
    // Load for 45 seconds, none for 45.
    let short = |seconds: i64| if seconds / 45 % 2 == 0 { 200 } else { 1 };
    let said = looks(&spec(), 0, 4, short, 240);
    assert!(said.iter().all(|line| !line.contains("Step")), "{said:?}");
    // A load that lasts for longer than the window is one to grow for. The count never comes back
    // while it returns.
    let long = |seconds: i64| if seconds / 120 % 2 == 0 { 200 } else { 1 };
    let said = looks(&spec(), 0, 4, long, 480);
    assert!(said.iter().all(|line| !line.contains("StepDown")), "{said:?}");
    assert_eq!(said.iter().filter(|line| line.contains("StepUp")).count(), 3, "{said:?}");
}

#[test]
fn one_look_decides_nothing_and_a_restart_begins_new_windows() {
    let mut state = State::default();
    let first = decide(&spec(), &mut state, &sample(3, 300, 0), at(0));
    assert_eq!(first.reason, Reason::StabilisingUp { until: at(60) });
    // A change shortly before the restart still counts.
    let mut state = State::since(Some(at(-10)));
    let first = decide(&spec(), &mut state, &sample(3, 300, 0), at(0));
    assert_eq!(first.reason, Reason::Cooldown { until: at(290) });
}

#[test]
fn recommendation_is_that_of_the_formula() {
    // (replicas, percent of each, wanted instances)
    for (replicas, percent, want) in [
        (2, 80, None),
        (2, 88, None),
        (2, 72, None),
        (2, 89, Some(4)),
        (2, 71, Some(3)),
        (2, 160, Some(5)),
        (2, 161, Some(6)),
        (4, 40, Some(3)),
        (4, 0, Some(1)),
        (1, 8000, Some(101)),
    ] {
        let load = Load { replicas, used: replicas * percent * 10, requested: replicas * 1000 };
        assert_eq!(recommended(&spec(), &load, 80), want, "{replicas} of {percent}%");
        assert_eq!(load.percent(), percent);
    }
}

#[test]
fn a_look_that_cannot_judge_does_nothing_and_says_why() {
    let odd = |change: fn(&mut Sample)| {
        let mut sample = sample(3, 300, 0);
        change(&mut sample);
        sample
    };
    let replica = |sample: &mut Sample, cpu| sample.replicas[1].cpu = cpu;
    let used = |seconds| Cpu::Used { millicores: 3000, at: at(seconds) };
    let mut unmeasured = sample(3, 300, 0);
    replica(&mut unmeasured, Cpu::Missing("no value".to_owned()));
    let mut nan = sample(3, 300, 0);
    replica(&mut nan, Cpu::NotANumber("NaN".to_owned()));
    let (mut old, mut future) = (sample(3, 300, 0), sample(3, 300, 0));
    replica(&mut old, used(-121));
    replica(&mut future, used(121));
    let rows = [
        (unmeasured, "no CPU value of acid-a-2: no value"),
        (nan, "the CPU value of acid-a-2 is no number: \"NaN\""),
        (old, "the CPU value of acid-a-2 is 2m1s old"),
        (future, "the CPU value of acid-a-2 is 2m1s old"),
        (
            odd(|it| it.replicas[0].request = 0),
            "acid-a-1 requests no CPU to take a percentage of: set spec.resources.requests.cpu",
        ),
        (odd(|it| it.replicas.clear()), "no CPU value of any replica: the cluster has no replica"),
        (
            odd(|it| it.lacks = Some("acid-a-2: creating replica".to_owned())),
            "not converged: acid-a-2: creating replica",
        ),
    ];
    for (sample, want) in rows {
        let mut state = State::default();
        // More was wanted for long before.
        for seconds in [-120, -90, -60, -30] {
            state.recommend(&spec(), at(seconds), 7);
        }
        let decision = decide(&spec(), &mut state, &sample, at(0));
        assert!(!decision.acts(), "{want}");
        assert_eq!(decision.reason.to_string(), want);
    }
}

#[test]
fn another_writer_is_named_and_after_two_rounds_it_gives_up() {
    let (spec, mut state) = (spec(), State::default());
    let undone = Sample { writer: Some("argocd-controller".to_owned()), ..sample(3, 300, 0) };
    state.stepped(3, 4, at(0));
    let look = |state: &mut State, seconds| {
        let mut sample = undone.clone();
        for replica in &mut sample.replicas {
            replica.cpu = Cpu::Used { millicores: 3000, at: at(seconds) };
        }
        decide(&spec, state, &sample, at(seconds)).reason
    };
    let by = "argocd-controller".to_owned();
    assert_eq!(look(&mut state, 15), Reason::Undone { by: by.clone(), round: 1 });
    assert_eq!(look(&mut state, 30), Reason::Cooldown { until: at(315) });
    assert_eq!(look(&mut state, 315), Reason::StepUp);
    state.stepped(3, 4, at(315));
    assert_eq!(look(&mut state, 330), Reason::GaveUp { by: by.clone() });
    assert_eq!(look(&mut state, 86_400 * 3), Reason::GaveUp { by });
}

#[test]
fn a_step_that_stood_for_a_day_begins_new_rounds() {
    let (spec, mut state) = (spec(), State::default());
    for day in 0..4 {
        let begin = day * 2 * 86_400;
        state.stepped(3, 4, at(begin));
        decide(&spec, &mut state, &sample(4, 80, begin + 86_400), at(begin + 86_400));
        let seconds = begin + 86_460;
        let reason = decide(&spec, &mut state, &sample(3, 80, seconds), at(seconds)).reason;
        assert_eq!(reason, Reason::Undone { by: "kubectl-edit".to_owned(), round: 1 });
    }
}

#[test]
fn another_count_of_a_person_is_no_fight() {
    let (spec, mut state) = (spec(), State::default());
    state.stepped(3, 4, at(0));
    let decision = decide(&spec, &mut state, &sample(6, 10, 15), at(15));
    assert_eq!(decision.reason, Reason::Cooldown { until: at(315) });
}

#[test]
fn schedule_moves_the_count_one_step_at_a_time_and_rests_only_after_a_failure() {
    let entry = |at: &str, count| Entry::new(&[Day::Tue], at, count, None).unwrap();
    let schedule = Schedule::new(vec![entry("10:00", 5), entry("20:00", 3)]).unwrap();
    let spec = Spec { cpu: None, schedule, ..spec() };
    // `now` is Tuesday, 10:00 UTC.
    let said = looks(&spec, -30, 3, |_| 0, 6);
    assert_eq!(
        said,
        ["-30s OnSchedule 3", "0s Scheduled 4", "15s Scheduled 5", "30s OnSchedule 5"]
    );
    let mut state = State::default();
    state.failed(at(0));
    let decision = decide(&spec, &mut state, &sample(3, 0, 15), at(15));
    assert_eq!(decision.reason, Reason::Cooldown { until: at(300) });
}

#[test]
fn schedule_is_the_fewest_where_load_counts_too() {
    let schedule = Schedule::new(vec![Entry::new(&[], "10:00", 5, None).unwrap()]).unwrap();
    let spec = Spec { schedule, ..spec() };
    let said = looks(&spec, 0, 3, |_| 10, 30);
    assert_eq!(said, ["0s Scheduled 4", "15s Scheduled 5", "30s AtMin 5"]);
}

#[test]
fn impossible_specs_are_named() {
    let scheduled =
        |count| Schedule::new(vec![Entry::new(&[], "08:00", count, None).unwrap()]).unwrap();
    for (spec, want) in [
        (spec(), None),
        (Spec { min: 0, ..spec() }, Some("min is 0: an autoscaler never stops a cluster")),
        (Spec { min: 8, ..spec() }, Some("min 8 is above max 7")),
        (Spec { cpu: Some(0), ..spec() }, Some("cpu is 0: a target is 1 percent or more")),
        (
            Spec { min: 1, ..spec() },
            Some("min is 1: the CPU of the replicas is measured, so 2 instances are the fewest"),
        ),
        (
            Spec { cpu: None, ..spec() },
            Some("there is neither cpu nor schedule: nothing to follow"),
        ),
        (
            Spec { schedule: scheduled(9), ..spec() },
            Some("schedule 08:00 UTC: 9 is outside of min 3 and max 7"),
        ),
    ] {
        assert_eq!(spec.check().err().as_deref(), want);
    }
}

#[derive(Clone, Debug)]
enum Look {
    Load(u64),
    Missing,
    Stale,
    Nan,
    Rebuilding,
}

fn look() -> impl Strategy<Value = Look> {
    prop_oneof![
        6 => (0..400_u64).prop_map(Look::Load),
        1 => Just(Look::Missing),
        1 => Just(Look::Stale),
        1 => Just(Look::Nan),
        1 => Just(Look::Rebuilding),
    ]
}

proptest! {
    #[test]
    fn no_run_of_looks_breaks_the_promises(
        looks in prop::collection::vec((look(), 1..12_i64), 1..60),
        start in 3..=7_i64,
        pause in 1..120_i64,
    ) {
        let (spec, mut state, mut declared) = (spec(), State::default(), start);
        let (mut seconds, mut last): (i64, Option<i64>) = (0, None);
        for (look, times) in looks {
            for _ in 0..times {
                seconds += pause;
                let mut sample = sample(declared, 100, seconds);
                let Some(replica) = sample.replicas.first_mut() else { unreachable!() };
                match look {
                    Look::Load(percent) => sample = self::sample(declared, percent, seconds),
                    Look::Missing => replica.cpu = Cpu::Missing("none".to_owned()),
                    Look::Stale => replica.cpu = Cpu::Used { millicores: 1, at: at(seconds - 121) },
                    Look::Nan => replica.cpu = Cpu::NotANumber("NaN".to_owned()),
                    Look::Rebuilding => sample.lacks = Some("rebuild".to_owned()),
                }
                let decision = decide(&spec, &mut state, &sample, at(seconds));
                prop_assert!((decision.wanted - declared).abs() <= 1);
                prop_assert!((spec.min..=spec.max).contains(&decision.wanted));
                if decision.acts() {
                    prop_assert!(matches!(look, Look::Load(_)));
                    prop_assert!(last.is_none_or(|last| seconds - last >= 300), "{last:?} {seconds}");
                    prop_assert!(seconds > pause, "the first look");
                    state.stepped(declared, decision.wanted, at(seconds));
                    (declared, last) = (decision.wanted, Some(seconds));
                }
            }
        }
    }

    /// Every value for which more, or fewer, are wanted must have lasted for a whole window.
    #[test]
    fn load_that_changes_sides_within_the_window_moves_nothing(
        half in 1..20_i64, low in 0..60_u64, high in 100..1000_u64, start in 4..=6_i64,
    ) {
        // Half a period below the shorter window.
        let half = half * 3;
        let load = |seconds: i64| if seconds / half % 2 == 0 { low } else { high };
        let (spec, mut state) = (spec(), State::default());
        for look in 0..400 {
            let seconds = look * 3;
            let decision = decide(&spec, &mut state, &sample(start, load(seconds), seconds), at(seconds));
            prop_assert!(!decision.acts());
        }
    }
}
