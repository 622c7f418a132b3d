//! Quantities of resources, and the sums over them.

#![no_main]

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use libfuzzer_sys::fuzz_target;
use pgscale_guard::quantity::{Amount, in_words};

fuzz_target!(|text: &str| {
    let (one, other) = text.split_once(' ').unwrap_or((text, "1Gi"));
    let amount = |text: &str| Amount::of(&Quantity(text.to_owned()));
    let (Some(one), Some(other)) = (amount(one), amount(other)) else { return };
    for amount in [one, one.plus(other), one.minus(other), one.times(i64::MAX), one.times(-1)] {
        let _ = (amount.decimal(), amount.readable(), in_words(amount.units()));
        assert!(!amount.to_string().is_empty());
    }
    let _ = one.exceeds(other, one);
});
