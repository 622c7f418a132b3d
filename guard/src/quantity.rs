//! Kubernetes quantities as exact numbers.
//!
//! This crate has its own decoder because sums must be exact. `kube_quantity` cuts a fraction off
//! before it applies the suffix (`to_bytes_u64` of `1.5Gi` is that of `1Gi`) and gives no whole
//! number for `m`.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Returns bytes for people: `990 bytes`, `1.2 KiB`, `61 KiB`.
pub fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let bytes = u128::from(bytes);
    let mut size = 1024_u128;
    let mut unit = UNITS[0];
    let tenths = |size: u128| (bytes * 10 + size / 2) / size;
    for larger in &UNITS[1..] {
        if tenths(size) < 10_235 {
            break;
        }
        size *= 1024;
        unit = larger;
    }
    let tenths = tenths(size);
    if tenths < 100 {
        return format!("{}.{} {unit}", tenths / 10, tenths % 10);
    }
    format!("{} {unit}", (tenths + 5) / 10)
}

/// An amount in thousandths of its unit (cores, bytes, pieces): the smallest step in which a quota
/// counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

impl Amount {
    /// Reads a quantity. `None` where the text is no quantity.
    ///
    /// A part smaller than a thousandth is rounded up, as in Kubernetes.
    pub fn of(quantity: &Quantity) -> Option<Self> {
        let text = quantity.0.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let (binary, decimal) = scale(suffix)?;
        let power = decimal + 3 - i32::try_from(fraction.len()).ok()?;
        let scaled = digits.checked_mul(1024_i128.checked_pow(binary)?)?;
        let by = 10_i128.checked_pow(power.unsigned_abs())?;
        let amount = if power < 0 {
            // Rounded up: the negative's floor is the number's ceiling.
            -(-scaled).div_euclid(by)
        } else {
            scaled.checked_mul(by)?
        };
        Some(Self(if negative { -amount } else { amount }))
    }

    /// Returns the amount of `count` pieces.
    pub fn whole(count: i64) -> Self {
        Self(i128::from(count) * 1000)
    }

    /// Returns `count` times the amount.
    #[must_use]
    pub fn times(self, count: i64) -> Self {
        Self(self.0.saturating_mul(i128::from(count)))
    }

    /// Returns the sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Returns whether it is more than `ratio` times `other`.
    pub fn exceeds(self, ratio: Self, other: Self) -> bool {
        self.0.saturating_mul(1000) > ratio.0.saturating_mul(other.0)
    }

    /// Returns the amount in units, with the decimals that it needs: `3`, `0.25`.
    pub fn decimal(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        let text = format!("{sign}{whole}.{rest:03}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// Returns the amount for people: in the largest binary unit that divides it, else in units
    /// with decimals.
    pub fn readable(self) -> String {
        const UNITS: [(&str, u32); 4] = [("Ti", 4), ("Gi", 3), ("Mi", 2), ("Ki", 1)];
        let whole = UNITS.iter().find_map(|(unit, power)| {
            let size = 1024_i128.pow(*power) * 1000;
            (self.0 != 0 && self.0 % size == 0).then(|| format!("{}{unit}", self.0 / size))
        });
        whole.unwrap_or_else(|| self.decimal())
    }

    /// Returns whole units, rounded up. A negative amount is 0.
    pub fn units(self) -> u64 {
        u64::try_from(self.0.max(0).unsigned_abs().div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

/// Writes plain units, or thousandths where the amount is no whole number of units.
impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1000 == 0 {
            write!(out, "{}", self.0 / 1000)
        } else {
            write!(out, "{}m", self.0)
        }
    }
}

/// Returns the factor of a suffix, as (power of 1024, power of 10).
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (1, 0),
        "Mi" => (2, 0),
        "Gi" => (3, 0),
        "Ti" => (4, 0),
        "Pi" => (5, 0),
        "Ei" => (6, 0),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (0, (-18..=18).contains(&power).then_some(power)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_in_the_unit_that_fits() {
        for (bytes, want) in [
            (0, "0 bytes"),
            (990, "990 bytes"),
            (1024, "1.0 KiB"),
            (1200, "1.2 KiB"),
            (62_312, "61 KiB"),
            (1_048_575, "1.0 MiB"),
            (16 << 20, "16 MiB"),
            (3 << 40, "3.0 TiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(in_words(bytes), want);
        }
    }

    #[test]
    fn quantity_is_read_exactly() {
        for (text, want) in [
            ("0", Some("0")),
            ("3", Some("3")),
            ("+2", Some("2")),
            ("-1500m", Some("-1500m")),
            ("1500m", Some("1500m")),
            ("2000m", Some("2")),
            ("0.5", Some("500m")),
            ("1.5Gi", Some("1610612736")),
            ("1536Mi", Some("1610612736")),
            ("10G", Some("10000000000")),
            ("1E", Some("1000000000000000000")),
            ("1e3", Some("1000")),
            ("12E2", Some("1200")),
            ("5e-1", Some("500m")),
            // Smaller than a thousandth: rounded up, never to nothing.
            ("100u", Some("1m")),
            ("1n", Some("1m")),
            ("0.0001", Some("1m")),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("1Q", None),
            ("Gi", None),
            ("1e99", None),
        ] {
            let read = Amount::of(&Quantity(text.to_owned())).map(|amount| amount.to_string());
            assert_eq!(read.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn amounts_are_added_and_compared() {
        let amount = |text: &str| Amount::of(&Quantity(text.to_owned())).unwrap();
        assert_eq!(amount("1").plus(amount("500m")), amount("1.5"));
        assert_eq!(amount("1Gi").times(3).minus(amount("3Gi")), Amount::default());
        assert!(amount("1100m") > amount("1") && amount("1Gi") > amount("1G"));
        assert_eq!((amount("1100m").units(), amount("-3").units()), (2, 0));
        assert_eq!((amount("1m").units(), amount("-1m").units(), amount("2").units()), (1, 0, 2));
        assert_eq!(Amount::whole(2), amount("2"));
        assert!(amount("3").exceeds(amount("2"), amount("1")));
        assert!(!amount("3").exceeds(amount("1500m"), amount("2")));
        assert_eq!(
            ["0", "1100m", "4Gi", "4224Mi", "3000"].map(|text| amount(text).readable()),
            ["0", "1.1", "4Gi", "4224Mi", "3000"]
        );
        assert_eq!(
            ["0", "20", "1500m", "-50m"].map(|text| amount(text).decimal()),
            ["0", "20", "1.5", "-0.05"]
        );
    }

    /// Found by fuzzing: the least number has no counterpart.
    #[test]
    fn sums_end_at_the_greatest_and_the_least_number() {
        let exa = |text: &str| Amount::of(&Quantity(text.to_owned())).unwrap();
        let least = exa("-1Ei").times(i64::MAX);
        assert_eq!((least.units(), least.minus(exa("1Ei"))), (0, least));
        let greatest = exa("1Ei").times(i64::MAX);
        assert_eq!((greatest.units(), greatest.plus(exa("1Ei"))), (u64::MAX, greatest));
        for amount in [least, greatest] {
            assert!(!amount.readable().is_empty() && !amount.decimal().is_empty());
            assert!(!amount.exceeds(amount, amount));
        }
    }
}
