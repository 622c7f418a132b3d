//! What a policy wants of the autoscaler.

use std::time::Duration;

use jiff::SignedDuration;

use super::{Entry, Schedule, Spec};
use crate::object_ref::Kind;
use crate::policy::{AutoscaleSpec, Limit, Policies};

impl Spec {
    /// Reads `autoscale` of a policy.
    ///
    /// # Errors
    /// One line for people, that names the field: what no schema can check, such as the name of a
    /// time zone.
    pub fn of(written: &AutoscaleSpec) -> Result<Self, String> {
        let usual = Self::default();
        let entries = written.schedule.iter().flatten().map(|entry| {
            let days = entry.days.clone().unwrap_or_default();
            Entry::new(&days, &entry.at, i64::from(entry.instances), entry.time_zone.as_deref())
        });
        let entries: Vec<Entry> =
            entries.collect::<Result<_, _>>().map_err(|why| format!("schedule: {why}"))?;
        let spec = Self {
            cpu: written.cpu,
            min: i64::from(written.min),
            max: i64::from(written.max),
            tolerance: written.tolerance.unwrap_or(usual.tolerance),
            up_after: length("upAfter", written.up_after.as_deref(), usual.up_after)?,
            down_after: length("downAfter", written.down_after.as_deref(), usual.down_after)?,
            cooldown: length("cooldown", written.cooldown.as_deref(), usual.cooldown)?,
            stale: usual.stale,
            schedule: Schedule::new(entries)?,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn length(field: &str, text: Option<&str>, usual: Duration) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(usual) };
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|length| Duration::try_from(length).ok())
        .ok_or_else(|| format!("{field} {text:?} is no duration such as 5m"))
}

/// Returns the one policy that wants the cluster to be scaled. One of the namespace goes before one
/// of the platform. `None` where no policy does.
///
/// # Errors
/// One line for people: several of the same kind do, or not all policies could be read.
pub fn wanted(policies: &Policies) -> Result<Option<&Limit<AutoscaleSpec>>, String> {
    if let Some(why) = &policies.unreadable {
        return Err(format!("not all policies could be read: {why}"));
    }
    for kind in [Kind::ScalePolicy, Kind::ClusterScalePolicy] {
        let of_kind = |limit: &&Limit<AutoscaleSpec>| limit.source.kind == kind;
        let all: Vec<_> = policies.autoscale.iter().filter(of_kind).collect();
        match all.as_slice() {
            [] => {}
            [one] => return Ok(Some(one)),
            [one, other, ..] => {
                return Err(format!(
                    "{} and {} both have autoscale for this cluster: leave it in one of them",
                    one.source, other.source
                ));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::ScalePolicy;
    use crate::postgresql::Postgresql;

    fn spec(value: Value) -> Result<Spec, String> {
        Spec::of(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_policy_is_read_with_the_usual_values_where_it_says_nothing() {
        let read = spec(json!({"cpu": 80, "min": 3, "max": 7})).unwrap();
        assert_eq!(read, Spec { cpu: Some(80), min: 3, max: 7, ..Spec::default() });
        let read = spec(json!({"min": 3, "max": 5, "cooldown": "1h30m", "tolerance": 5,
            "schedule": [{"days": ["Mon"], "at": "08:00", "instances": 5, "timeZone": "Asia/Seoul"}]}))
        .unwrap();
        assert_eq!((read.cooldown, read.tolerance), (Duration::from_secs(5400), 5));
        assert_eq!(read.schedule.entries()[0].summary(), "Mon 08:00 Asia/Seoul: 5");
    }

    #[test]
    fn what_no_schema_checks_is_named() {
        let entry = |at: &str, zone: &str| json!({"at": at, "instances": 3, "timeZone": zone});
        let of = |entries: Value| json!({"min": 3, "max": 5, "schedule": entries});
        for (written, want) in [
            (
                of(json!([entry("08:00", "Mars/Base")])),
                "schedule: \"Mars/Base\" is no time zone such as Europe/Berlin",
            ),
            (
                of(json!([entry("08:00", "UTC"), entry("08:00", "UTC")])),
                "two entries begin at the same time: 08:00 UTC: 3 and 08:00 UTC: 3",
            ),
            (json!({"cpu": 80, "min": 5, "max": 3}), "min 5 is above max 3"),
            (
                json!({"cpu": 80, "min": 3, "max": 5, "upAfter": "soon"}),
                "upAfter \"soon\" is no duration such as 5m",
            ),
        ] {
            assert_eq!(spec(written).unwrap_err(), want);
        }
    }

    #[test]
    fn one_policy_of_a_kind_wants_it() {
        let policy = |name: &str| {
            let spec = json!({"autoscale": {"cpu": 80, "min": 3, "max": 7}});
            ScalePolicy::new(name, serde_json::from_value(spec).unwrap())
        };
        let combine = |all: &[ScalePolicy]| Policies::combine(all, &Postgresql::default());
        assert_eq!(wanted(&combine(&[])), Ok(None));
        let one = combine(&[policy("a")]);
        assert_eq!(wanted(&one).unwrap().unwrap().source.to_string(), "scalepolicy/a");
        assert_eq!(
            wanted(&combine(&[policy("a"), policy("b")])).unwrap_err(),
            "scalepolicy/a and scalepolicy/b both have autoscale for this cluster: leave it in one of them"
        );
        let unread = Policies { unreadable: Some("forbidden".to_owned()), ..one };
        assert_eq!(wanted(&unread).unwrap_err(), "not all policies could be read: forbidden");
    }
}
