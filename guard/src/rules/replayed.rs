//! The property that a verdict is the same on the record of a cluster.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::rules::evaluate;
use crate::rules::generated::{facts, opinionated};
use crate::rules::properties::seeded;
use crate::snapshot::tests::{snapshot, stored};

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn replayed_verdict_is_the_live_one(
        facts in facts(), own in vec(opinionated(), 0..4)
    ) {
        let live = snapshot(facts, own);
        let (facts, policies) = live.replay();
        let (again, combined) = stored(&live).replay();
        prop_assert_eq!(&again, &facts);
        prop_assert_eq!(&combined, &policies);
        prop_assert_eq!(evaluate(&again, &combined), evaluate(&facts, &policies));
    }
}
