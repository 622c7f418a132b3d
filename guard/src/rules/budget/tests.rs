//! The table of the budget, and what a person reads.

use super::*;
use crate::facts::Facts;
use crate::policy::Budgets;
use crate::rules::testing::{Want, created, healthy, judged, table_with};

fn budget(value: i64, mode: Mode) -> Policies {
    let limit = Limit { value, source: ObjectRef::policy("production"), mode };
    let budget = Budgets { limits: vec![limit], ..Budgets::default() };
    Policies { budget, ..Policies::default() }
}

/// Returns a ledger that counts `own` for acid-a, 5 for acid-b and 3 for acid-c, and has `reserved`
/// of these.
fn counting(own: u32, reserved: u64, booking: Booking) -> Spending {
    let holder = |name: &str, counted| Holder { name: name.into(), committed: counted, counted };
    Spending {
        used: u64::from(own) + 8 - reserved,
        reserved,
        own: own.into(),
        holders: vec![holder("acid-b", 5), holder("acid-c", 3), holder("acid-a", own)],
        others: 0,
        booking,
        budget: None,
    }
}

fn with(facts: Facts, spending: Spending) -> Facts {
    seeing(facts, Seen::Known(spending))
}

fn seeing(mut facts: Facts, budget: Seen<Spending>) -> Facts {
    facts.capacity.budget = Some(budget);
    facts
}

fn looked(from: i64, to: i64) -> Facts {
    with(healthy(from, to), counting(u32::try_from(from).unwrap(), 0, Booking::Looked))
}

pub(super) fn namespace_budget() {
    let settling = Booking::Settling("2026-11-24T10:03:00Z".parse().unwrap());
    let unreadable = || Seen::Unreadable("the API server did not answer in time".to_owned());
    let grows = |booking| with(healthy(3, 4), counting(3, 0, booking));
    table_with(
        "namespace-budget",
        &budget(12, Mode::Enforce),
        vec![
            ("it fits", looked(3, 4), Want::Pass),
            ("it does not", looked(3, 5), Want::Deny),
            (
                "a new cluster that fits",
                with(created(4), counting(0, 0, Booking::Looked)),
                Want::Pass,
            ),
            (
                "and one that does not",
                with(created(5), counting(0, 0, Booking::Looked)),
                Want::Deny,
            ),
            ("the way back needs room", looked(0, 5), Want::Deny),
            (
                "room that others have reserved",
                { with(healthy(3, 4), counting(3, 1, Booking::Looked)) },
                Want::Pass,
            ),
            ("it is reserved", grows(Booking::Granted(4)), Want::Pass),
            (
                "what counts already is no growth",
                { with(healthy(3, 9), counting(9, 6, Booking::Looked)) },
                Want::Pass,
            ),
            (
                "a shrink above the budget",
                { with(healthy(9, 8), counting(9, 0, Booking::Looked)) },
                Want::NotApplicable,
            ),
            (
                "other edits above the budget",
                { with(healthy(9, 9), counting(9, 0, Booking::Looked)) },
                Want::NotApplicable,
            ),
            (
                "created with none",
                with(created(0), counting(0, 0, Booking::Looked)),
                Want::NotApplicable,
            ),
            ("the ledger is new", grows(settling), Want::Deny),
            ("others wrote it each time", grows(Booking::Contended), Want::Deny),
            ("too many clusters", grows(Booking::Full), Want::Deny),
            ("it could not be asked", seeing(healthy(3, 4), unreadable()), Want::Deny),
            ("it was not asked", healthy(3, 4), Want::Unknown),
        ],
    );
    table_with(
        "namespace-budget",
        &budget(8, Mode::Enforce),
        vec![
            ("growth above a new budget", looked(3, 4), Want::Deny),
            ("a reservation under a budget that fell", grows(Booking::Granted(4)), Want::Pass),
        ],
    );
    table_with(
        "namespace-budget",
        &Policies::default(),
        vec![("no budget", healthy(3, 9), Want::Pass)],
    );
    table_with(
        "namespace-budget",
        &Policies::unreadable("forbidden"),
        vec![("perhaps a budget", looked(3, 4), Want::Unknown)],
    );
}

fn says(policies: &Policies, facts: &Facts) -> String {
    judged(facts, policies)
        .finding("namespace-budget")
        .map_or_else(|| "nothing found".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod seen_by_people {
    use super::*;
    use crate::rules::evaluate;

    #[test]
    fn refusal_names_the_sums_and_a_count_that_fits() {
        let twelve = budget(12, Mode::Enforce);
        insta::assert_snapshot!(says(&twelve, &looked(3, 6)), @"
        namespace-budget: 3 more instances asked for, and 1 of the budget of 12 is free: 11 used, 0 reserved
          scalepolicy/production: budget.instances: 12
          postgresql/acid-b: counts for: 5
          postgresql/acid-c: counts for: 3
          Try: ask for what fits:
              kubectl pgscale set acid-a 4 -n db
        ");
        let created = with(created(5), counting(0, 0, Booking::Looked));
        insta::assert_snapshot!(says(&twelve, &created), @"
        namespace-budget: 5 more instances asked for, and 4 of the budget of 12 are free: 8 used, 0 reserved
          scalepolicy/production: budget.instances: 12
          postgresql/acid-b: counts for: 5
          postgresql/acid-c: counts for: 3
          Try: ask for what fits: numberOfInstances: 4 in the manifest
        ");
    }

    #[test]
    fn refusal_says_what_helps_where_no_count_fits() {
        let eleven = budget(11, Mode::Enforce);
        insta::assert_snapshot!(says(&eleven, &looked(3, 4)), @"
        namespace-budget: 1 more instance asked for, and 0 of the budget of 11 are free: 11 used, 0 reserved
          scalepolicy/production: budget.instances: 11
          postgresql/acid-b: counts for: 5
          postgresql/acid-c: counts for: 3
          Try: take instances from another cluster of the namespace, such as this one:
              kubectl pgscale plan acid-b --to 4 -n db
            or raise the budget. What counts:
              kubectl get instanceledgers -n db
        ");
        let mut soon = counting(3, 2, Booking::Looked);
        soon.others = 2;
        insta::assert_snapshot!(says(&eleven, &with(healthy(3, 4), soon)), @"
        namespace-budget: 1 more instance asked for, and 0 of the budget of 11 are free: 9 used, 2 reserved
          scalepolicy/production: budget.instances: 11
          postgresql/acid-b: counts for: 5
          postgresql/acid-c: counts for: 3
          instanceledger/pgscale: further clusters that count: 2
          Try: repeat the same change in some seconds
            see what is reserved:
              kubectl get instanceledgers -n db
        ");
        let alone = Spending { used: 3, holders: Vec::new(), ..counting(3, 0, Booking::Looked) };
        insta::assert_snapshot!(says(&budget(3, Mode::Enforce), &with(healthy(3, 4), alone)), @"
        namespace-budget: 1 more instance asked for, and 0 of the budget of 3 are free: 3 used, 0 reserved
          scalepolicy/production: budget.instances: 3
          Try: raise the budget. What counts:
              kubectl get instanceledgers -n db
        ");
    }

    #[test]
    fn refusal_for_want_of_the_ledger_asks_for_another_try() {
        let twelve = budget(12, Mode::Enforce);
        let grows = |booking| with(healthy(3, 4), counting(3, 0, booking));
        let settling = Booking::Settling("2026-11-24T10:03:00Z".parse().unwrap());
        insta::assert_snapshot!(says(&twelve, &grows(settling)), @"
        namespace-budget: the budget of 12 admits no growth before 2026-11-24T10:03:00Z: what was admitted without it may still be stored
          scalepolicy/production: budget.instances: 12
          postgresql/acid-b: counts for: 5
          postgresql/acid-c: counts for: 3
          Try: repeat the same change after that
            see when that is:
              kubectl get instanceledgers -n db
        ");
        insta::assert_snapshot!(says(&twelve, &grows(Booking::Contended)), @"
        namespace-budget: nothing could be reserved in the budget of 12: too many others did so at the same time
          scalepolicy/production: budget.instances: 12
          postgresql/acid-b: counts for: 5
          postgresql/acid-c: counts for: 3
          Try: repeat the same change in some seconds
            see what is reserved:
              kubectl get instanceledgers -n db
        ");
        insta::assert_snapshot!(says(&twelve, &grows(Booking::Full)), @"
        namespace-budget: the namespace has more than 1000 clusters, and a budget is kept for no more
          scalepolicy/production: budget.instances: 12
          postgresql/acid-b: counts for: 5
          postgresql/acid-c: counts for: 3
          Try: move clusters to another namespace, or take the budget out. What counts:
              kubectl get instanceledgers -n db
        ");
        let unread = Seen::Unreadable("the API server did not answer in time".to_owned());
        insta::assert_snapshot!(says(&twelve, &seeing(healthy(3, 4), unread)), @"
        namespace-budget: nothing could be reserved in the budget of 12: the API server did not answer in time
          scalepolicy/production: budget.instances: 12
          Try: repeat the same change in some seconds
            see what is reserved:
              kubectl get instanceledgers -n db
        ");
    }

    /// A budget on trial reserves nothing, and one beside it that is enforced does.
    #[test]
    fn budget_on_trial_warns_beside_an_enforced_one() {
        let mut policies = budget(20, Mode::Enforce);
        policies.budget.limits.extend(budget(11, Mode::Warn).budget.limits);
        let granted = with(healthy(3, 4), counting(4, 1, Booking::Granted(4)));
        let verdict = evaluate(&granted, &policies);
        assert!(verdict.allows());
        let finding = verdict.finding("namespace-budget").unwrap();
        assert!(finding.on_trial, "{finding}");
        assert!(evaluate(&granted, &budget(12, Mode::Warn)).finding("namespace-budget").is_none());
    }

    #[test]
    fn suggested_count_is_admitted() {
        let policies = budget(12, Mode::Enforce);
        let refused = looked(3, 6);
        assert!(!evaluate(&refused, &policies).allows());
        assert!(evaluate(&looked(3, 4), &policies).allows());
    }
}
