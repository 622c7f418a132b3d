//! The operator's limits, where they are hidden or newer than the operator.

use super::{denials, denials_lowered};
use crate::change::Direction;
use crate::facts::{Facts, Seen};
use crate::policy::Policies;
use crate::rules::rule;
use crate::rules::testing::healthy;

scenarios![
    hidden_limits_never_turn_a_shrink_into_growth,
    settings_the_operator_has_not_read_do_not_hide_a_shrink,
];

fn hidden_limits_never_turn_a_shrink_into_growth() {
    let mut facts = healthy(5, 6).with_settings(|settings| {
        settings.max_instances = 3;
        settings.ignore_limits_annotation = Some("acid.zalan.do/ignore-limits".into());
    });
    if let Some(old) = &mut facts.change.old {
        old.annotations.insert("acid.zalan.do/ignore-limits".into(), "true".into());
    }
    assert_eq!((facts.from(), facts.to(), facts.direction()), (Some(5), 3, Direction::Down));
    facts.operator = Seen::Unreadable("timed out".into());
    // What the operator would write is not known, either.
    let unknown = vec!["operator-limits", "mixed-change", "replace-pending"];
    assert_eq!((facts.direction(), denials(&facts)), (Direction::Down, unknown));
    // Nothing that switches limits is touched: growth stays growth.
    facts.change.old = Some(healthy(5, 6).change.new.with_instances(5));
    assert_eq!((facts.direction(), denials(&facts)), (Direction::Up, vec![]));
}

/// Returns facts in which the settings were edited, and the operator was not restarted.
fn not_restarted(facts: Facts, min: i64, max: i64, stale: Option<bool>) -> Facts {
    let mut facts = facts.with_settings(|settings| {
        settings.min_instances = min;
        settings.max_instances = max;
    });
    if let Seen::Known(operator) = &mut facts.operator {
        operator.stale_settings = stale;
    }
    facts
}

fn settings_the_operator_has_not_read_do_not_hide_a_shrink() {
    let seen = |facts: &Facts| (facts.from(), facts.to(), facts.direction());
    for stale in [Some(true), None] {
        // Lowered from 9 to 3: the running operator takes the cluster from 7 to 3 all the same.
        let lowered = not_restarted(healthy(7, 3).with_leader(6), -1, 3, stale);
        assert_eq!(seen(&lowered), (Some(7), 3, Direction::Down));
        assert_eq!(denials(&lowered), ["leader-condemned"]);
        assert_eq!(denials_lowered(&lowered.stalled([0])), ["leader-cannot-move"]);
        // Raised from -1 to 3: the cluster goes to one instance.
        let raised = not_restarted(healthy(3, 1).with_leader(2), 3, -1, stale);
        assert_eq!(seen(&raised), (Some(3), 1, Direction::Down));
        assert!(denials(&raised).contains(&"leader-condemned"));
        assert!(denials_lowered(&raised.stalled([0])).contains(&"leader-cannot-move"));
        let outage = not_restarted(healthy(3, 0), 1, -1, stale);
        assert!(denials(&outage).contains(&"scale-to-zero"));
        // A count that runs by the limits in place is no change that was not applied.
        let limited = not_restarted(healthy(5, 4).with_count(7, 4), -1, 5, stale);
        assert_eq!(denials(&limited), Vec::<&str>::new());
        // Growth, and a count that stays, are judged as before.
        assert_eq!(seen(&not_restarted(healthy(3, 5), -1, 9, stale)), (Some(3), 5, Direction::Up));
        assert_eq!(
            seen(&not_restarted(healthy(3, 5), -1, 2, stale)),
            (Some(2), 2, Direction::Same)
        );
        assert_eq!(
            seen(&not_restarted(healthy(1, 2), 3, -1, stale)),
            (Some(3), 3, Direction::Same)
        );
        assert_eq!(
            seen(&not_restarted(healthy(7, 7), -1, 3, stale)),
            (Some(3), 3, Direction::Same)
        );
    }
    let read = not_restarted(healthy(7, 3), -1, 3, Some(false));
    assert_eq!(seen(&read), (Some(3), 3, Direction::Same));
    // An unknown state is reported as unknown, and excuses nothing.
    let unknown = not_restarted(healthy(9, 7), -1, 3, None);
    assert!(denials(&unknown).contains(&"operator-limits"));
    let printed =
        rule("operator-limits").unwrap().looks_at(&unknown.assess(), &Policies::default());
    let printed: Vec<String> = printed.iter().map(ToString::to_string).collect();
    assert_eq!(
        printed,
        [
            "postgresql/acid-a: numberOfInstances: 9 -> 7",
            "postgresql/acid-a: effective count by older or newer settings of the operator: 9 -> 3",
            "configmap default/postgres-operator: min_instances: -1",
            "configmap default/postgres-operator: max_instances: 3",
            "deployment default/postgres-operator: settings: perhaps edited after its pod started: its pods could \
             not be listed",
        ]
    );
}
