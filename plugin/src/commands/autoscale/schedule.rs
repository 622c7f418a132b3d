//! `--schedule`: a count from a time of day on.

use pgscale_guard::autoscale::Entry;
use pgscale_guard::policy::Day;

/// Reads `08:00=5`, or `Mon,Fri,08:00=5`.
pub(super) fn entry(word: &str, zone: &str) -> Result<Entry, String> {
    let spelled = || format!("--schedule {word:?} is not spelled as in Mon,Tue,08:00=5");
    let (when, count) = word.split_once('=').ok_or_else(spelled)?;
    let (days, at) = match when.rsplit_once(',') {
        Some((days, at)) => (days.split(',').map(day).collect::<Option<Vec<Day>>>(), at),
        None => (Some(Vec::new()), when),
    };
    let days = days.ok_or_else(spelled)?;
    let count = count.trim().parse().map_err(|_| spelled())?;
    Entry::new(&days, at.trim(), count, Some(zone)).map_err(|why| format!("--schedule: {why}"))
}

fn day(word: &str) -> Option<Day> {
    let (first, rest) = word.trim().split_at_checked(1)?;
    let word = format!("{}{}", first.to_ascii_uppercase(), rest.to_ascii_lowercase());
    serde_json::from_value(serde_json::Value::String(word)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_spelled() {
        for (word, want) in [
            ("08:00=5", Ok("08:00 Europe/Berlin: 5")),
            ("Mon,tue,08:00=5", Ok("Mon Tue 08:00 Europe/Berlin: 5")),
            ("08:00", Err("--schedule \"08:00\" is not spelled as in Mon,Tue,08:00=5")),
            (
                "Someday,08:00=5",
                Err("--schedule \"Someday,08:00=5\" is not spelled as in Mon,Tue,08:00=5"),
            ),
            ("8=5", Err("--schedule: \"8\" is no time of day such as 09:00")),
        ] {
            let read = entry(word, "Europe/Berlin").map(|entry| entry.summary());
            assert_eq!(read.as_deref().map_err(String::as_str), want, "{word}");
        }
    }
}
