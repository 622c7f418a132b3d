//! Counts by the clock on the wall: five instances by day, three by night.
//!
//! The entry that began last decides. A time that a clock skips begins when the skipped time is
//! over; a time that a clock shows twice begins at its first appearance. So each entry begins
//! exactly once on each of its days. The time zone database is the built-in one.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::policy::Day;
use crate::policy::calendar::{self, ZONES};

/// The number of days in which the last beginning lies: a weekly entry, and a day for the zones.
const DAYS_BACK: i64 = 8;

/// The greatest number of entries: one for every three hours of a week.
const MOST: usize = 56;

/// A count that holds from a time of day on, until the next entry begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The days on which it begins. Empty for every day.
    pub days: Vec<Day>,
    /// The time of day at which it begins.
    pub at: Time,
    /// The number of instances.
    pub instances: i64,
    /// The name of the time zone.
    pub time_zone: String,
    zone: TimeZone,
}

impl Entry {
    /// Returns the entry that begins on `days` at the time of day `at`, such as `08:00`.
    ///
    /// # Errors
    /// One line for people: what is no time of day, or no time zone, or no count.
    pub fn new(
        days: &[Day],
        at: &str,
        instances: i64,
        time_zone: Option<&str>,
    ) -> Result<Self, String> {
        let minutes = calendar::minutes(at)?;
        let parts = (i8::try_from(minutes / 60), i8::try_from(minutes % 60));
        let at = match parts {
            (Ok(hour), Ok(minute)) => Time::new(hour, minute, 0, 0).ok(),
            (Err(_), _) | (_, Err(_)) => None,
        }
        .ok_or_else(|| format!("{at:?} ends a day: an entry begins at 00:00 of the next day"))?;
        if instances < 1 {
            return Err(format!("{instances} is no count for a schedule: 1 is the fewest"));
        }
        let time_zone = time_zone.unwrap_or("UTC").to_owned();
        let zone = ZONES
            .get(&time_zone)
            .map_err(|_| format!("{time_zone:?} is no time zone such as Europe/Berlin"))?;
        Ok(Self { days: days.to_vec(), at, instances, time_zone, zone })
    }

    /// Returns the last moment, `now` included, at which it began.
    fn began(&self, now: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        (-1..=DAYS_BACK)
            .filter_map(|back| today.checked_sub(back.days()).ok())
            .filter(|date| self.on(calendar::day(date.weekday())))
            .filter_map(|date| {
                self.zone.to_ambiguous_timestamp(date.to_datetime(self.at)).compatible().ok()
            })
            .filter(|begin| *begin <= now)
            .max()
    }

    fn on(&self, day: Day) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }

    /// Returns whether both begin on one day at the same time of one zone.
    fn meets(&self, other: &Self) -> bool {
        let days = self.days.is_empty()
            || other.days.is_empty()
            || self.days.iter().any(|day| other.days.contains(day));
        days && self.at == other.at && self.time_zone == other.time_zone
    }

    /// Returns it in a line: `Mon Tue 08:00 Europe/Berlin: 5`.
    pub fn summary(&self) -> String {
        let days: Vec<String> = self.days.iter().map(|day| format!("{day:?} ")).collect();
        let at = self.at.strftime("%H:%M");
        format!("{}{at} {}: {}", days.concat(), self.time_zone, self.instances)
    }
}

/// All entries of a policy, or of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Vec<Entry>);

impl Schedule {
    /// Returns the schedule of these entries.
    ///
    /// # Errors
    /// One line for people: two entries begin at the same time, or there are too many.
    pub fn new(entries: Vec<Entry>) -> Result<Self, String> {
        if entries.len() > MOST {
            return Err(format!("{} entries are more than {MOST}", entries.len()));
        }
        let mut rest = entries.as_slice();
        while let [first, others @ ..] = rest {
            if let Some(same) = others.iter().find(|other| first.meets(other)) {
                return Err(format!(
                    "two entries begin at the same time: {} and {}",
                    first.summary(),
                    same.summary()
                ));
            }
            rest = others;
        }
        Ok(Self(entries))
    }

    /// Returns the entry that holds at `now`. `None` without entries.
    pub fn holding(&self, now: Timestamp) -> Option<&Entry> {
        let begun = self.0.iter().filter_map(|entry| Some((entry.began(now)?, entry)));
        begun.max_by_key(|(began, _)| *began).map(|(_, entry)| entry)
    }

    /// Returns its entries.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(entries: &[(&[Day], &str, i64, &str)]) -> Schedule {
        let entries = entries
            .iter()
            .map(|(days, at, count, zone)| Entry::new(days, at, *count, Some(zone)).unwrap());
        Schedule::new(entries.collect()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_entry_that_began_last_holds() {
        let week = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
        let office =
            schedule(&[(&week, "08:00", 5, "Europe/Berlin"), (&[], "20:00", 3, "Europe/Berlin")]);
        for (now, want) in [
            // Tuesday. Berlin is an hour ahead of UTC.
            ("2026-11-24T06:59:59Z", 3),
            ("2026-11-24T07:00:00Z", 5),
            ("2026-11-24T18:59:59Z", 5),
            ("2026-11-24T19:00:00Z", 3),
            // Saturday noon: Friday evening began last.
            ("2026-11-28T12:00:00Z", 3),
            // In summer it is two hours ahead.
            ("2026-07-07T05:59:59Z", 3),
            ("2026-07-07T06:00:00Z", 5),
        ] {
            assert_eq!(office.holding(at(now)).unwrap().instances, want, "{now}");
        }
        assert_eq!(Schedule::default().holding(at("2026-11-24T07:00:00Z")), None);
    }

    /// Berlin, 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC. 2026-10-25: 03:00 becomes 02:00 at
    /// 01:00 UTC.
    #[test]
    fn an_entry_begins_once_where_a_clock_jumps() {
        let night =
            schedule(&[(&[], "02:30", 2, "Europe/Berlin"), (&[], "01:00", 4, "Europe/Berlin")]);
        for (now, want) in [
            ("2026-03-29T00:59:59Z", 4),
            ("2026-03-29T01:29:59Z", 4),
            ("2026-03-29T01:30:00Z", 2),
            ("2026-10-25T00:29:59Z", 4),
            ("2026-10-25T00:30:00Z", 2),
            ("2026-10-25T01:15:00Z", 2),
            ("2026-10-25T01:30:00Z", 2),
        ] {
            assert_eq!(night.holding(at(now)).unwrap().instances, want, "{now}");
        }
    }

    #[test]
    fn odd_entries_are_refused_in_words() {
        let new = |at: &str, count: i64, zone: &str| Entry::new(&[], at, count, Some(zone));
        for (entry, want) in [
            (new("25:00", 3, "UTC"), "\"25:00\" is no time of day such as 09:00"),
            (
                new("24:00", 3, "UTC"),
                "\"24:00\" ends a day: an entry begins at 00:00 of the next day",
            ),
            (new("08:00", 0, "UTC"), "0 is no count for a schedule: 1 is the fewest"),
            (new("08:00", 3, "Mars/Base"), "\"Mars/Base\" is no time zone such as Europe/Berlin"),
        ] {
            assert_eq!(entry.unwrap_err(), want);
        }
        let two = vec![
            Entry::new(&[Day::Mon], "08:00", 5, None).unwrap(),
            Entry::new(&[], "08:00", 3, None).unwrap(),
        ];
        assert_eq!(
            Schedule::new(two).unwrap_err(),
            "two entries begin at the same time: Mon 08:00 UTC: 5 and 08:00 UTC: 3"
        );
    }

    proptest! {
        /// Of two daily entries both hold within 26 hours, in every zone, and none begins twice a day.
        #[test]
        fn every_day_has_both_counts(
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo"]),
            hours in 0..24 * 400_i64,
            (day, night) in (0..12_u8, 12..24_u8),
        ) {
            let both = schedule(&[
                (&[], &format!("{day:02}:30"), 5, zone),
                (&[], &format!("{night:02}:30"), 3, zone),
            ]);
            let now = at("2026-01-01T00:00:00Z").checked_add(hours.hours()).unwrap();
            let seen: Vec<i64> = (0..26 * 4_i64)
                .map(|quarter| now.checked_add((quarter * 15).minutes()).unwrap())
                .map(|time| both.holding(time).unwrap().instances)
                .collect();
            prop_assert!(seen.contains(&5) && seen.contains(&3));
            let changes = seen.windows(2).filter(|pair| pair.first() != pair.last()).count();
            prop_assert!((2..=4).contains(&changes), "{} changes", changes);
        }
    }
}
