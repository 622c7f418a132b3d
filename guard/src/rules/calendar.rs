//! Pace and calendar: the steps and the times at which policies let the count change.

use jiff::Timestamp;

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::object_ref::ObjectRef;
use crate::policy::{Limit, Mode, Policies, Way, Windows, way};
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, by_policies, inputs, pgscale, set_to};
use crate::verdict::{Finding, Outcome};

pub(super) const STEP_TOO_LARGE: Rule = Rule {
    id: RuleId::STEP_TOO_LARGE,
    title: "more instances at once than the policy's step",
    applies: Applies::on(&[DOWN.to_some(), UP]),
    default: "deny",
    kind: Kind::Calendar,
    page: "\
A policy's `steps.up` and `steps.down` say how many instances one change may add or remove: base backups
load the leader, and a mistake of one costs less than a mistake of five. The effective counts are compared,
after the operator's own limits. Zero is judged by scale-to-zero, and creation by the bounds.

The undo of the last change (`kubectl pgscale undo NAME`) may take any step; the webhook cannot tell an undo.
A repair is only warned of.

Way out: go there in several changes, each within the step that the first command shows, or change the
ScalePolicy that the denial names:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl pgscale set NAME N -n NAMESPACE
    kubectl pgscale wait NAME -n NAMESPACE",
    reads: &[inputs::count, inputs::steps],
    needs: reads::COUNT.and(&[Read::Policies]),
    check: step_too_large,
    #[cfg(any(test, feature = "testing"))]
    table: tests::step_too_large,
};

fn step_too_large(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let (from, to) = (facts.from().unwrap_or(0), facts.to());
    let (steps, field, nearest): (_, _, fn(i64, i64) -> i64) = match facts.direction() {
        Direction::Up => (&policies.step_up, "steps.up", i64::saturating_add),
        Direction::Create | Direction::Down | Direction::Same => {
            (&policies.step_down, "steps.down", i64::saturating_sub)
        }
    };
    let size = i64::try_from(from.abs_diff(to)).unwrap_or(i64::MAX);
    let broken = steps.iter().filter(|step| size > step.value);
    let Some(step) = broken.max_by_key(|step| (step.mode, -step.value)) else {
        return by_policies(Outcome::Pass, facts, policies);
    };
    let found = Outcome::Found(
        Finding::deny(
            STEP_TOO_LARGE.id,
            format!(
                "from {from} to {to} instances is a step of {size}, {} at once is the most",
                step.value
            ),
        )
        .because(step.source.clone(), field, step.value)
        .remedy(set_to(facts, "first", nearest(from, step.value)))
        .in_mode(step.mode),
    );
    by_policies(found, facts, policies)
}

pub(super) const CHANGE_FREEZE: Rule = Rule {
    id: RuleId::CHANGE_FREEZE,
    title: "a time in which the count must not change",
    applies: Applies::on(&[DOWN, UP]).noted("up only where the policy says so"),
    default: "deny",
    kind: Kind::Calendar,
    page: "\
A policy's `freeze` names a time, from `from` until `until`, in which the count of its clusters stays as it
is: for shrinks, unless `directions` says otherwise. Policies are read again for every change, so a freeze
applies at once.

Never refused: a new cluster, a repair, and the undo of the last change (`kubectl pgscale undo NAME`; the
webhook cannot tell an undo).

Way out: wait until the time that the denial names, or change the ScalePolicy that it names. A person with
the right to may let one change pass:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl pgscale override NAME --to N --rules change-freeze --reason TEXT -n NAMESPACE",
    reads: &[inputs::freezes],
    needs: reads::COUNT.and(&[Read::Policies]),
    check: change_freeze,
    #[cfg(any(test, feature = "testing"))]
    table: tests::change_freeze,
};

fn change_freeze(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let Some(way) = way(facts.direction()) else { return Outcome::NotApplicable };
    by_policies(known_freeze(way, facts, policies), facts, policies)
}

/// Judges by the freezes that could be read.
fn known_freeze(way: Way, facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let holding = policies
        .freezes
        .iter()
        .filter(|freeze| freeze.value.ways.contains(&way) && freeze.value.holds(facts.now));
    // A freeze without an end is the longest.
    let longest = |freeze: &&Limit<_>| (freeze.mode, end(freeze).unwrap_or(Timestamp::MAX));
    let Some(freeze) = holding.max_by_key(longest) else { return Outcome::Pass };
    let reason = freeze.value.reason.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let until = end(freeze).map_or("further notice".to_owned(), |until| until.to_string());
    Outcome::Found(
        Finding::deny(
            CHANGE_FREEZE.id,
            format!("{} is frozen until {until}{reason}", facts.change.cluster()),
        )
        .because(
            freeze.source.clone(),
            "freeze.until",
            end(freeze).map_or("unset".to_owned(), |until| until.to_string()),
        )
        .remedy(this_once(
            facts,
            CHANGE_FREEZE.id,
            freeze.mode,
            next(facts, policies, &freeze.source, end(freeze), |time| time.to_string()),
        ))
        .in_mode(freeze.mode),
    )
}

fn end(freeze: &Limit<crate::policy::Freeze>) -> Option<Timestamp> {
    freeze.value.until
}

pub(super) const OUTSIDE_WINDOW: Rule = Rule {
    id: RuleId::OUTSIDE_WINDOW,
    title: "outside the hours in which the count may change",
    applies: Applies::on(&[DOWN.to_some(), UP.to_some()]).noted("up only where the policy says so"),
    default: "deny",
    kind: Kind::Calendar,
    page: "\
A policy's `windows` are the hours of the week, in a time zone, in which the count of its clusters may
change: for shrinks, unless `directions` says otherwise. They go by the clock on the wall: an hour that
comes twice when clocks are put back counts twice, one that is skipped is skipped. A window that ends no
later than it begins goes on after midnight. Where several policies have windows, one of each must be open.

Never refused: a new cluster, a repair, and the undo of the last change (`kubectl pgscale undo NAME`; the
webhook cannot tell an undo). Zero is judged by scale-to-zero and change-freeze.

Way out: wait until the time that the denial names, or change the ScalePolicy that it names. A person with
the right to may let one change pass:

    kubectl pgscale policy NAME -n NAMESPACE
    kubectl pgscale override NAME --to N --rules outside-window --reason TEXT -n NAMESPACE",
    reads: &[inputs::windows],
    needs: reads::COUNT.and(&[Read::Policies]),
    check: outside_window,
    #[cfg(any(test, feature = "testing"))]
    table: tests::outside_window,
};

fn outside_window(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let Some(way) = way(facts.direction()) else { return Outcome::NotApplicable };
    by_policies(known_windows(way, facts, policies), facts, policies)
}

/// Judges by the windows that could be read.
fn known_windows(way: Way, facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let about = || policies.windows.iter().filter(|windows| windows.value.ways.contains(&way));
    let shut = about().filter(|windows| windows.value.open(facts.now) == Some(false));
    let latest = |windows: &&Limit<Windows>| {
        (windows.mode, windows.value.next_open(facts.now).unwrap_or(Timestamp::MAX))
    };
    let shut = shut.max_by_key(latest);
    let lost = about().filter(|windows| windows.value.open(facts.now).is_none());
    let lost = lost.max_by_key(|windows| windows.mode);
    // Only an enforced policy may make every change depend on an unknown fact.
    if let Some(lost) = lost.filter(|lost| shut.is_none_or(|shut| lost.mode > shut.mode)) {
        let why = format!(
            "{} has windows in the time zone {:?}, which is not known",
            lost.source, lost.value.time_zone
        );
        let remedy = format!(
            "in {} name a time zone of the IANA database, such as Europe/Berlin",
            lost.source
        );
        if lost.mode == Mode::Enforce {
            return Outcome::Unsaid { why, remedy: remedy.into() };
        }
        return Outcome::Found(
            Finding::deny(OUTSIDE_WINDOW.id, format!("cannot be judged: {why}"))
                .because(lost.source.clone(), "windows.timeZone", &lost.value.time_zone)
                .remedy(remedy)
                .in_mode(lost.mode),
        );
    }
    let Some(windows) = shut else { return Outcome::Pass };
    let opens = windows.value.next_open(facts.now);
    let spell = |time| windows.value.spell(time);
    Outcome::Found(
        Finding::deny(
            OUTSIDE_WINDOW.id,
            format!(
                "it is {}, outside the hours for changes of {}",
                spell(facts.now),
                facts.change.cluster()
            ),
        )
        .because(windows.source.clone(), "windows", windows.value.summary())
        .remedy(this_once(
            facts,
            OUTSIDE_WINDOW.id,
            windows.mode,
            next(facts, policies, &windows.source, opens, spell),
        ))
        .in_mode(windows.mode),
    )
}

/// Returns the time at which to ask again. `own` is the time at which the calendar of `source`
/// alone would allow the change.
fn next(
    facts: &Assessment<'_>,
    policies: &Policies,
    source: &ObjectRef,
    own: Option<Timestamp>,
    spell: impl Fn(Timestamp) -> String,
) -> String {
    let all = policies.next_allowed(facts.now, facts.direction());
    // A policy on trial blocks no change, and is not among the enforced ones.
    match (own, own.max(all)) {
        (Some(own), Some(all)) if all > own => format!(
            "ask again at {}, when every calendar allows it, or change {source}",
            spell(all)
        ),
        (Some(own), _) => format!("ask again at {}, or change {source}", spell(own)),
        (None, _) => format!("change {source}"),
    }
}

/// Returns the remedy for a refusal by `rule`, with the override for a change that cannot wait. A
/// policy on trial refuses nothing.
fn this_once(facts: &Assessment<'_>, rule: RuleId, mode: Mode, next: String) -> Remedy {
    let remedy = Remedy::note(next);
    // The field is an int32: no override can name a higher count, or one below 0.
    if mode != Mode::Enforce || !(0..=i64::from(i32::MAX)).contains(&facts.requested()) {
        return remedy;
    }
    let count = facts.requested().to_string();
    let words = ["--to", &count, "--rules", rule.as_str(), "--reason", "TEXT"];
    remedy.or_to("for this one change, if it cannot wait", pgscale(facts, "override", &words))
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
    use crate::facts::Facts;
    use crate::policy::ScalePolicy;
    use crate::rules::testing::{Want, created, healthy, judged, table_with};
    use crate::verdict::Severity;

    fn policies(specs: &[Value]) -> Policies {
        let all: Vec<ScalePolicy> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| {
                ScalePolicy::new(
                    &format!("p{index}"),
                    serde_json::from_value(spec.clone()).unwrap(),
                )
            })
            .collect();
        Policies::combine(&all, &healthy(3, 3).change.new)
    }

    fn text(id: &str, facts: &Facts, policies: &Policies) -> String {
        judged(facts, policies).finding(id).unwrap().to_string()
    }

    pub(super) fn step_too_large() {
        let steps = policies(&[
            json!({"steps": {"up": 2, "down": 1}}),
            json!({"steps": {"up": 3}, "mode": "Warn"}),
        ]);
        table_with(
            "step-too-large",
            &steps,
            vec![
                ("up by the step", healthy(3, 5), Want::Pass),
                ("up by more", healthy(3, 6), Want::Deny),
                ("down by the step", healthy(5, 4), Want::Pass),
                ("down by more", healthy(5, 3), Want::Deny),
                ("zero has its own rule", healthy(5, 0), Want::NotApplicable),
                ("created", created(9), Want::NotApplicable),
                ("the count stays", healthy(5, 5), Want::NotApplicable),
            ],
        );
        table_with(
            "step-too-large",
            &Policies::default(),
            vec![("no policy", healthy(1, 9), Want::Pass)],
        );
        table_with(
            "step-too-large",
            &Policies::unreadable("forbidden"),
            vec![("policies unreadable", healthy(5, 3), Want::Unknown)],
        );
        insta::assert_snapshot!(text("step-too-large", &healthy(5, 2), &steps), @"
        step-too-large: from 5 to 2 instances is a step of 3, 1 at once is the most
          scalepolicy/p0: steps.down: 1
          Try: first:
              kubectl pgscale set acid-a 4 -n db
        ");
    }

    pub(super) fn change_freeze() {
        let frozen = |directions: Value| {
            policies(&[
                json!({"freeze": {"from": "2026-11-24T00:00:00Z", "until": "2026-11-27T00:00:00Z",
                    "directions": directions, "reason": "peak season"}}),
            ])
        };
        table_with(
            "change-freeze",
            &frozen(json!(null)),
            vec![
                ("down", healthy(5, 4), Want::Deny),
                ("to zero", healthy(5, 0), Want::Deny),
                ("up", healthy(3, 4), Want::Pass),
                ("created", created(3), Want::NotApplicable),
                ("the count stays", healthy(5, 5), Want::NotApplicable),
            ],
        );
        table_with(
            "change-freeze",
            &frozen(json!(["Up"])),
            vec![
                ("only up is frozen", healthy(3, 4), Want::Deny),
                ("down is not", healthy(5, 4), Want::Pass),
            ],
        );
        table_with(
            "change-freeze",
            &policies(&[json!({"freeze": {"until": "2026-11-24T10:00:00Z"}})]),
            vec![("it ends now", healthy(5, 4), Want::Pass)],
        );
        table_with(
            "change-freeze",
            &Policies::unreadable("forbidden"),
            vec![("policies unreadable", healthy(5, 3), Want::Unknown)],
        );
        insta::assert_snapshot!(text("change-freeze", &healthy(5, 4), &frozen(json!(null))), @"
        change-freeze: db/acid-a is frozen until 2026-11-27T00:00:00Z (peak season)
          scalepolicy/p0: freeze.until: 2026-11-27T00:00:00Z
          Try: ask again at 2026-11-27T00:00:00Z, or change scalepolicy/p0
            for this one change, if it cannot wait:
              kubectl pgscale override acid-a --to 4 --rules change-freeze --reason TEXT -n db
        ");
        let for_ever = policies(&[json!({"freeze": {}})]);
        insta::assert_snapshot!(text("change-freeze", &healthy(5, 4), &for_ever), @"
        change-freeze: db/acid-a is frozen until further notice
          scalepolicy/p0: freeze.until: unset
          Try: change scalepolicy/p0
            for this one change, if it cannot wait:
              kubectl pgscale override acid-a --to 4 --rules change-freeze --reason TEXT -n db
        ");
        let trial = policies(&[json!({"freeze": {}, "mode": "Warn"})]);
        let printed = text("change-freeze", &healthy(5, 4), &trial);
        assert!(printed.ends_with("Try: change scalepolicy/p0"), "nothing to override: {printed}");
    }

    pub(super) fn outside_window() {
        // The facts were read on a Tuesday at 10:00 UTC, 19:00 in Seoul.
        let window = |zone: &str, from: &str, to: &str, directions: Value| {
            json!({"windows": {"timeZone": zone, "directions": directions,
                "allow": [{"days": ["Mon", "Tue", "Wed", "Thu"], "from": from, "to": to}]}})
        };
        let seoul = policies(&[window("Asia/Seoul", "09:00", "17:00", json!(null))]);
        table_with(
            "outside-window",
            &seoul,
            vec![
                ("after hours", healthy(5, 4), Want::Deny),
                ("growth", healthy(3, 4), Want::Pass),
                ("zero has other rules", healthy(5, 0), Want::NotApplicable),
                ("created", created(3), Want::NotApplicable),
                ("the count stays", healthy(5, 5), Want::NotApplicable),
            ],
        );
        let berlin = window("Europe/Berlin", "09:00", "17:00", json!(["Up", "Down"]));
        table_with(
            "outside-window",
            &policies(std::slice::from_ref(&berlin)),
            vec![("in hours", healthy(5, 4), Want::Pass), ("both ways", healthy(3, 4), Want::Pass)],
        );
        let night = window("UTC", "22:00", "06:00", json!(["Up"]));
        table_with(
            "outside-window",
            &policies(&[berlin.clone(), night]),
            vec![("one of two is shut", healthy(3, 4), Want::Deny)],
        );
        let nowhere = window("Mars/Olympus", "09:00", "17:00", json!(null));
        let mut trial = nowhere.clone();
        trial["mode"] = json!("Warn");
        table_with(
            "outside-window",
            &policies(&[berlin.clone(), nowhere.clone()]),
            vec![("a zone nobody knows", healthy(5, 4), Want::Unknown)],
        );
        insta::assert_snapshot!(text("outside-window", &healthy(5, 4), &policies(&[nowhere])), @r#"
        outside-window: cannot be judged: scalepolicy/p0 has windows in the time zone "Mars/Olympus", which is not known
          Try: in scalepolicy/p0 name a time zone of the IANA database, such as Europe/Berlin
        "#);
        let trial = policies(&[berlin, trial]);
        table_with("outside-window", &trial, vec![("on trial", healthy(5, 4), Want::Deny)]);
        assert!(crate::evaluate(&healthy(5, 4), &trial).allows());
        table_with(
            "outside-window",
            &Policies::unreadable("forbidden"),
            vec![("policies unreadable", healthy(5, 3), Want::Unknown)],
        );
        insta::assert_snapshot!(text("outside-window", &healthy(5, 4), &seoul), @"
        outside-window: it is Tue 2026-11-24 19:00 Asia/Seoul, outside the hours for changes of db/acid-a
          scalepolicy/p0: windows: Mon Tue Wed Thu 09:00-17:00 Asia/Seoul
          Try: ask again at Wed 2026-11-25 09:00 Asia/Seoul, or change scalepolicy/p0
            for this one change, if it cannot wait:
              kubectl pgscale override acid-a --to 4 --rules outside-window --reason TEXT -n db
        ");
        let both = policies(&[
            window("Asia/Seoul", "09:00", "17:00", json!(null)),
            json!({"freeze": {"until": "2026-11-26T00:00:00Z"}}),
        ]);
        insta::assert_snapshot!(text("outside-window", &healthy(5, 4), &both), @"
        outside-window: it is Tue 2026-11-24 19:00 Asia/Seoul, outside the hours for changes of db/acid-a
          scalepolicy/p0: windows: Mon Tue Wed Thu 09:00-17:00 Asia/Seoul
          Try: ask again at Thu 2026-11-26 09:00 Asia/Seoul, when every calendar allows it, or change scalepolicy/p0
            for this one change, if it cannot wait:
              kubectl pgscale override acid-a --to 4 --rules outside-window --reason TEXT -n db
        ");
    }

    #[test]
    fn calendar_never_binds_repairs_and_undos() {
        let strict = policies(&[json!({"steps": {"up": 1, "down": 1},
            "freeze": {"directions": ["Up", "Down"]},
            "windows": {"directions": ["Up", "Down"], "allow": [{"from": "01:00", "to": "02:00"}]}})]);
        let denied = |facts: &Facts| {
            let verdict = crate::evaluate(facts, &strict);
            verdict.denials().map(|finding| finding.rule).collect::<Vec<_>>()
        };
        assert_eq!(denied(&healthy(5, 3)), ["step-too-large", "change-freeze", "outside-window"]);
        let cancels = healthy(5, 5).with_count(3, 5);
        assert_eq!(denied(&cancels), Vec::<&str>::new());
        let printed = crate::evaluate(&cancels, &strict);
        let printed = printed.finding("change-freeze").unwrap();
        assert_eq!(printed.severity, Severity::Warn, "a repair is warned of: {printed}");
        let mut undo = healthy(5, 3);
        undo.change.undo = true;
        assert_eq!(denied(&undo), Vec::<&str>::new());
        assert!(crate::evaluate(&undo, &strict).finding("change-freeze").is_none());
    }
}
