//! The times at which the count may change: freezes and windows, and the next allowed time.
//!
//! Windows follow the clock on the wall. Where clocks are put forward, times that do not exist are
//! skipped, and a window that would begin among them begins when they are over. Where clocks are
//! put back, an hour that comes twice counts twice. The time zone database is the built-in one. It
//! is the same for every caller, and exists in a container that has none.

use std::sync::LazyLock;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp, ToSpan as _};

use super::spec::{Day, FreezeSpec, Way, WindowSpec, WindowsSpec};
use crate::change::Direction;

pub(crate) static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The number of days in which the next opening is looked for. A weekly window may lie in the hour
/// that a clock skips.
const DAYS_AHEAD: i64 = 21;

/// The minutes of a day, and so its end.
const WHOLE_DAY: i16 = 24 * 60;

/// A time in which the count must not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Its beginning. `None` for one that has always held.
    pub from: Option<Timestamp>,
    /// Its end. `None` for one without an end.
    pub until: Option<Timestamp>,
    /// The directions that it forbids.
    pub ways: Vec<Way>,
    /// The reason.
    pub reason: Option<String>,
}

impl Freeze {
    /// Reads it from a policy.
    pub(super) fn of(spec: &FreezeSpec) -> Self {
        Self {
            from: spec.from.as_ref().map(|time| time.0),
            until: spec.until.as_ref().map(|time| time.0),
            ways: spec.directions.clone().unwrap_or_else(|| vec![Way::Down]),
            reason: spec.reason.clone(),
        }
    }

    /// Returns whether it holds at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// The hours of the week in which the count may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The directions that they allow.
    pub ways: Vec<Way>,
    /// The name of the time zone.
    pub time_zone: String,
    zone: Option<TimeZone>,
    allow: Vec<Window>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Empty for every day.
    days: Vec<Day>,
    /// Minutes of the day.
    from: i16,
    to: i16,
}

impl Windows {
    /// Reads the windows from a policy.
    ///
    /// # Errors
    /// The text that is no time of day.
    pub(super) fn of(spec: &WindowsSpec) -> Result<Self, String> {
        let time_zone = spec.time_zone.clone().unwrap_or_else(|| "UTC".to_owned());
        Ok(Self {
            ways: spec.directions.clone().unwrap_or_else(|| vec![Way::Down]),
            zone: ZONES.get(&time_zone).ok(),
            time_zone,
            allow: spec.allow.iter().map(Window::of).collect::<Result<_, _>>()?,
        })
    }

    /// Returns whether one is open at `now`. `None` where the time zone is not known.
    pub fn open(&self, now: Timestamp) -> Option<bool> {
        let zone = self.zone.as_ref()?;
        let local = zone.to_datetime(now);
        let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
        let today = local.date();
        Some(self.allow.iter().any(|window| window.open(today, minute)))
    }

    /// Returns the next time at which one is open, `now` included. `None` where there is none
    /// within three weeks, or the zone is not known.
    pub fn next_open(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = self.zone.as_ref()?;
        let today = zone.to_datetime(now).date();
        let horizon = now.checked_add(Span::new().hours(24 * (DAYS_AHEAD + 1))).ok()?;
        let opens = |time: &Timestamp| *time >= now && self.open(*time) == Some(true);
        if opens(&now) {
            return Some(now);
        }
        // A window may open because a clock is put forward or back.
        let jumps = zone.following(now).map(|jump| jump.timestamp());
        let mut first = jumps.take_while(|jump| *jump <= horizon).filter(opens).min();
        let mut last = DAYS_AHEAD;
        for days in 0..=DAYS_AHEAD {
            let Ok(day) = today.checked_add(days.days()) else { continue };
            // Where a clock jumps, a day may begin before the last one has ended. Two days later, none
            // does.
            if days > last {
                break;
            }
            let begins = self.allow.iter().flat_map(|window| window.begins(day, zone));
            if let Some(begin) = begins.filter(opens).min() {
                first = Some(first.map_or(begin, |first| first.min(begin)));
                last = last.min(days + 1);
            }
        }
        first
    }

    /// Returns `time` in the zone of the windows.
    pub fn spell(&self, time: Timestamp) -> String {
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        let local = zone.to_datetime(time);
        format!("{} {}", local.strftime("%a %F %H:%M"), self.time_zone)
    }

    /// Returns all of them in a line: `Mon Tue 09:00-17:00, 22:00-02:00 Asia/Seoul`.
    pub fn summary(&self) -> String {
        let windows: Vec<String> = self.allow.iter().map(Window::summary).collect();
        format!("{} {}", windows.join(", "), self.time_zone)
    }
}

impl Window {
    fn of(spec: &WindowSpec) -> Result<Self, String> {
        let (from, to) = (minutes(&spec.from)?, minutes(&spec.to)?);
        if from == WHOLE_DAY {
            return Err(format!(
                "{:?} ends a day: a window begins at 00:00 of the next day",
                spec.from
            ));
        }
        Ok(Self { days: spec.days.clone().unwrap_or_default(), from, to })
    }

    fn on(&self, date: Date) -> bool {
        self.days.is_empty() || self.days.contains(&day(date.weekday()))
    }

    fn open(&self, today: Date, minute: i16) -> bool {
        if self.from < self.to {
            return self.on(today) && (self.from..self.to).contains(&minute);
        }
        let since_yesterday = minute < self.to && today.yesterday().is_ok_and(|day| self.on(day));
        since_yesterday || (minute >= self.from && self.on(today))
    }

    /// Returns the moments at which it may begin on `day`: two where the clock shows its beginning
    /// twice, or never.
    fn begins(&self, day: Date, zone: &TimeZone) -> Vec<Timestamp> {
        if !self.on(day) {
            return Vec::new();
        }
        let (hour, minute) = (self.from / 60, self.from % 60);
        let (Ok(hour), Ok(minute)) = (i8::try_from(hour), i8::try_from(minute)) else {
            return Vec::new();
        };
        let Ok(time) = Time::new(hour, minute, 0, 0) else { return Vec::new() };
        let ambiguous = || zone.to_ambiguous_timestamp(day.to_datetime(time));
        [ambiguous().earlier(), ambiguous().later()].into_iter().flatten().collect()
    }

    fn summary(&self) -> String {
        let days: Vec<String> = self.days.iter().map(|day| format!("{day:?} ")).collect();
        let clock = |minutes: i16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        format!("{}{}-{}", days.concat(), clock(self.from), clock(self.to))
    }
}

/// Reads `09:30` as minutes of the day.
pub(crate) fn minutes(text: &str) -> Result<i16, String> {
    let parsed = text
        .split_once(':')
        .and_then(|(hour, minute)| Some((hour.parse::<i16>().ok()?, minute.parse::<i16>().ok()?)));
    match parsed {
        Some((hour @ 0..=23, minute @ 0..=59)) => Ok(hour * 60 + minute),
        Some((24, 0)) => Ok(WHOLE_DAY),
        Some(_) | None => Err(format!("{text:?} is no time of day such as 09:00")),
    }
}

pub(crate) fn day(weekday: Weekday) -> Day {
    match weekday {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

/// Returns the direction as policies name it. `None` for one that is no change of the count.
pub fn way(direction: Direction) -> Option<Way> {
    match direction {
        Direction::Down => Some(Way::Down),
        Direction::Up => Some(Way::Up),
        Direction::Create | Direction::Same => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn windows(zone: &str, allow: &serde_json::Value) -> Windows {
        let spec = json!({"timeZone": zone, "allow": allow});
        Windows::of(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Checks rows of (now, open, next opening).
    fn check(windows: &Windows, rows: &[(&str, bool, &str)]) {
        for (now, open, next) in rows {
            assert_eq!(windows.open(at(now)), Some(*open), "{now}");
            assert_eq!(windows.next_open(at(now)), Some(at(next)), "{now}");
        }
    }

    /// Returns the first opening of all days, each looked at.
    fn first_of_all(windows: &Windows, now: Timestamp) -> Option<Timestamp> {
        let zone = windows.zone.as_ref()?;
        let today = zone.to_datetime(now).date();
        let days = (0..=DAYS_AHEAD).filter_map(|days| today.checked_add(days.days()).ok());
        let begins =
            days.flat_map(|day| windows.allow.iter().flat_map(move |it| it.begins(day, zone)));
        let horizon = now.checked_add(Span::new().hours(24 * (DAYS_AHEAD + 1))).ok()?;
        let jumps = zone.following(now).map(|jump| jump.timestamp());
        let jumps = jumps.take_while(|jump| *jump <= horizon);
        let times = std::iter::once(now).chain(begins).chain(jumps);
        times.filter(|time| *time >= now && windows.open(*time) == Some(true)).min()
    }

    proptest! {
        #[test]
        fn next_opening_is_the_first_of_all(
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"]),
            hours in 0..24 * 400_i64,
            windows_of in prop::collection::vec((0..7_usize, 0..24_u8, 0..60_u8, 0..24_u8), 1..5),
        ) {
            let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let allow = windows_of.iter().map(|(day, from, minute, to)| {
                json!({"days": [names[*day]], "from": format!("{from:02}:{minute:02}"),
                    "to": format!("{to:02}:30")})
            });
            let windows = windows(zone, &allow.collect());
            let now = at("2026-01-01T00:07:00Z").checked_add(Span::new().hours(hours)).unwrap();
            prop_assert_eq!(windows.next_open(now), first_of_all(&windows, now));
        }
    }

    #[test]
    fn working_hours_in_their_own_zone() {
        let seoul = windows(
            "Asia/Seoul",
            &json!([{"days": ["Mon", "Tue", "Wed", "Thu"], "from": "09:00", "to": "17:00"}]),
        );
        check(
            &seoul,
            &[
                // Tuesday the 24th, 09:00 in Seoul.
                ("2026-11-24T00:00:00Z", true, "2026-11-24T00:00:00Z"),
                ("2026-11-24T07:59:59Z", true, "2026-11-24T07:59:59Z"),
                ("2026-11-24T08:00:00Z", false, "2026-11-25T00:00:00Z"),
                ("2026-11-23T23:59:59Z", false, "2026-11-24T00:00:00Z"),
                // Thursday evening to Monday morning.
                ("2026-11-26T08:00:00Z", false, "2026-11-30T00:00:00Z"),
            ],
        );
        assert_eq!(seoul.summary(), "Mon Tue Wed Thu 09:00-17:00 Asia/Seoul");
        assert_eq!(seoul.spell(at("2026-11-25T00:00:00Z")), "Wed 2026-11-25 09:00 Asia/Seoul");
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let friday = windows("UTC", &json!([{"days": ["Fri"], "from": "22:00", "to": "04:00"}]));
        check(
            &friday,
            &[
                ("2026-11-27T21:59:59Z", false, "2026-11-27T22:00:00Z"),
                ("2026-11-27T23:00:00Z", true, "2026-11-27T23:00:00Z"),
                ("2026-11-28T03:59:59Z", true, "2026-11-28T03:59:59Z"),
                ("2026-11-28T04:00:00Z", false, "2026-12-04T22:00:00Z"),
                ("2026-11-27T03:00:00Z", false, "2026-11-27T22:00:00Z"),
                ("2026-11-28T23:00:00Z", false, "2026-12-04T22:00:00Z"),
            ],
        );
        let whole = windows("UTC", &json!([{"days": ["Sun"], "from": "00:00", "to": "24:00"}]));
        check(
            &whole,
            &[
                ("2026-11-29T23:59:59Z", true, "2026-11-29T23:59:59Z"),
                ("2026-11-30T00:00:00Z", false, "2026-12-06T00:00:00Z"),
            ],
        );
    }

    /// Berlin, 2026-03-29: 02:00 becomes 03:00, at 01:00 UTC.
    #[test]
    fn times_that_a_clock_skips_are_skipped() {
        let into = windows("Europe/Berlin", &json!([{"from": "02:30", "to": "04:00"}]));
        check(
            &into,
            &[
                ("2026-03-29T00:59:59Z", false, "2026-03-29T01:00:00Z"),
                ("2026-03-29T01:00:00Z", true, "2026-03-29T01:00:00Z"),
                ("2026-03-29T02:00:00Z", false, "2026-03-30T00:30:00Z"),
            ],
        );
        let inside =
            windows("Europe/Berlin", &json!([{"days": ["Sun"], "from": "02:00", "to": "03:00"}]));
        check(&inside, &[("2026-03-29T00:00:00Z", false, "2026-04-05T00:00:00Z")]);
    }

    /// Berlin, 2026-10-25: 03:00 becomes 02:00 again, at 01:00 UTC.
    #[test]
    fn an_hour_that_comes_twice_counts_twice() {
        let half = windows("Europe/Berlin", &json!([{"from": "02:00", "to": "02:30"}]));
        check(
            &half,
            &[
                ("2026-10-25T00:00:00Z", true, "2026-10-25T00:00:00Z"),
                ("2026-10-25T00:30:00Z", false, "2026-10-25T01:00:00Z"),
                ("2026-10-25T01:29:59Z", true, "2026-10-25T01:29:59Z"),
                ("2026-10-25T01:30:00Z", false, "2026-10-26T01:00:00Z"),
            ],
        );
        let until = windows("Europe/Berlin", &json!([{"from": "01:00", "to": "02:15"}]));
        check(&until, &[("2026-10-25T00:15:00Z", false, "2026-10-25T01:00:00Z")]);
    }

    /// The definition refuses it. A file that is checked offline may still have it.
    #[test]
    fn window_that_begins_at_the_end_of_a_day_is_refused_and_never_panics() {
        let allow = json!({"allow": [{"from": "24:00", "to": "02:00"}]});
        let spec: WindowsSpec = serde_json::from_value(allow).unwrap();
        let why = Windows::of(&spec).unwrap_err();
        assert_eq!(why, "\"24:00\" ends a day: a window begins at 00:00 of the next day");
        // Not even where such a window is there: the end of a day is no time of the clock.
        let window = Window { days: Vec::new(), from: WHOLE_DAY, to: 120 };
        let day = "2026-11-24".parse().unwrap();
        assert_eq!(window.begins(day, &TimeZone::UTC), Vec::new());
    }

    #[test]
    fn malformed_time_or_zone_is_named() {
        let nowhere = windows("Mars/Olympus", &json!([{"from": "09:00", "to": "17:00"}]));
        assert_eq!((nowhere.open(at("2026-11-24T10:00:00Z")), nowhere.zone), (None, None));
        for wrong in ["25:00", "24:01", "9", "09:60", "-1:00", "a:b"] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_freeze_ends_when_it_says() {
        let spec = json!({"from": "2026-12-20T00:00:00Z", "until": "2026-12-27T00:00:00Z"});
        let freeze = Freeze::of(&serde_json::from_value(spec).unwrap());
        for (now, holds) in [
            ("2026-12-19T23:59:59Z", false),
            ("2026-12-20T00:00:00Z", true),
            ("2026-12-26T23:59:59Z", true),
            ("2026-12-27T00:00:00Z", false),
        ] {
            assert_eq!(freeze.holds(at(now)), holds, "{now}");
        }
        let without_end = Freeze::of(&FreezeSpec::default());
        assert!(without_end.holds(at("2026-12-27T00:00:00Z")));
        assert_eq!(without_end.ways, [Way::Down]);
    }
}
