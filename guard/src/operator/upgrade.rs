//! The operator's own major upgrade of PostgreSQL: the version that it wants, and whether it starts
//! now.
//!
//! The upgrade is the last step of every update and of every sync, whatever they are about
//! (`majorVersionUpgrade`, pkg/cluster/majorversionupgrade.go).

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use serde_json::Value;

use crate::operator::parse_bool;
use crate::postgresql::Postgresql;

/// The annotation by which the operator remembers an upgrade that failed. It tries no other one
/// while that is set.
pub const UPGRADE_FAILED: &str = "last-major-upgrade-failure";

/// The settings about major upgrades.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Upgrades {
    /// `major_version_upgrade_mode`. `manual` where it is unset.
    pub mode: Mode,
    /// `major_version_upgrade_team_allow_list`: teams whose clusters are upgraded in mode `off`.
    pub teams: Vec<String>,
    /// `minimal_major_version`. In mode `full` a cluster below it gets the target.
    pub minimal: Option<u64>,
    /// `target_major_version`.
    pub target: Option<u64>,
    /// `maintenance_windows`, for clusters that declare none. Since 2.0.
    pub windows: Vec<String>,
    /// `enable_maintenance_windows: false`: every time is in the window. Since 2.0.
    pub any_time: bool,
}

/// The mode of major upgrades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Mode {
    /// Only for the teams on the list.
    Off,
    /// When the manifest asks for a newer version.
    #[default]
    Manual,
    /// Also when the manifest asks for less than the minimum.
    Full,
}

impl Mode {
    /// Returns the word for it in the operator's settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Manual => "manual",
            Self::Full => "full",
        }
    }
}

impl Upgrades {
    /// Reads the flat keys of an operator ConfigMap.
    pub(super) fn of_config_map(data: &BTreeMap<String, String>) -> Self {
        let text =
            |name: &str| data.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let list = |name: &str| {
            let parts = text(name).into_iter().flat_map(|list| list.split(','));
            parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        };
        Self {
            mode: mode(text("major_version_upgrade_mode")),
            teams: list("major_version_upgrade_team_allow_list"),
            minimal: text("minimal_major_version").and_then(|text| text.parse().ok()),
            target: text("target_major_version").and_then(|text| text.parse().ok()),
            windows: list("maintenance_windows"),
            any_time: text("enable_maintenance_windows").and_then(parse_bool) == Some(false),
        }
    }

    /// Reads `configuration` of an `OperatorConfiguration` object.
    pub(super) fn of_operator_configuration(configuration: &Value) -> Self {
        let own = |name: &str| configuration.get("major_version_upgrade")?.get(name);
        let number = |name: &str| own(name).and_then(Value::as_str)?.trim().parse().ok();
        let list = |list: Option<&Value>| {
            let parts = list.and_then(Value::as_array).into_iter().flatten();
            parts.filter_map(|part| part.as_str().map(str::to_owned)).collect()
        };
        Self {
            mode: mode(own("major_version_upgrade_mode").and_then(Value::as_str)),
            teams: list(own("major_version_upgrade_team_allow_list")),
            minimal: number("minimal_major_version"),
            target: number("target_major_version"),
            windows: list(configuration.get("maintenance_windows")),
            any_time: configuration.get("enable_maintenance_windows").and_then(Value::as_bool)
                == Some(false),
        }
    }

    /// Returns the version to which an operator of the version `major` would bring `cluster`, if it
    /// would upgrade it now at all (`GetDesiredMajorVersion`, `isInMaintenanceWindow`).
    ///
    /// It upgrades no standby cluster, and none with a failed upgrade. Whether the server runs an
    /// older version is not asked here.
    pub fn wanted(&self, cluster: &Postgresql, major: Option<u32>, now: Timestamp) -> Option<u64> {
        let team = cluster.spec.get("teamId").and_then(Value::as_str).unwrap_or_default();
        let allowed = self.mode != Mode::Off || self.teams.iter().any(|it| it == team);
        if !allowed
            || cluster.annotations.contains_key(UPGRADE_FAILED)
            || cluster.is_standby()
            || !self.in_window(cluster, major, now)
        {
            return None;
        }
        let declared = declared(cluster)?;
        let old = matches!(major, Some(0 | 1));
        // The defaults of 1.15 and of 2.0 (pkg/util/config/config.go).
        let minimal = self.minimal.unwrap_or(if old { 13 } else { 14 });
        let target = self.target.unwrap_or(if old { 17 } else { 18 });
        Some(if self.mode == Mode::Full && declared < minimal { target } else { declared })
    }

    fn in_window(&self, cluster: &Postgresql, major: Option<u32>, now: Timestamp) -> bool {
        let windows = cluster.spec.get("maintenanceWindows").and_then(Value::as_array);
        let mut windows: Vec<&str> =
            windows.into_iter().flatten().filter_map(Value::as_str).collect();
        if !matches!(major, Some(0 | 1)) {
            if self.any_time {
                return true;
            }
            if windows.is_empty() {
                windows = self.windows.iter().map(String::as_str).collect();
            }
        }
        windows.is_empty() || windows.into_iter().any(|window| holds(window, now))
    }
}

/// Returns the PostgreSQL version that the manifest declares.
pub fn declared(cluster: &Postgresql) -> Option<u64> {
    cluster.spec.pointer("/postgresql/version")?.as_str()?.parse().ok()
}

/// Returns the maintenance windows that the manifest declares, in one line.
pub fn declared_windows(cluster: &Postgresql) -> Option<String> {
    let windows = cluster.spec.get("maintenanceWindows")?.as_array()?;
    let windows: Vec<&str> = windows.iter().filter_map(Value::as_str).collect();
    (!windows.is_empty()).then(|| windows.join(", "))
}

fn mode(text: Option<&str>) -> Mode {
    match text {
        Some("off") => Mode::Off,
        Some("full") => Mode::Full,
        // The operator treats any other text as `manual`.
        _ => Mode::Manual,
    }
}

/// Returns whether `now` is in a window such as `Sat:01:00-06:00` or `01:00-06:00`
/// (`MaintenanceWindow`, pkg/apis/acid.zalan.do/v1/marshal.go). The last minute belongs to it. The
/// operator's container runs in UTC.
///
/// True where the text is no window: what the operator makes of it is not known.
fn holds(window: &str, now: Timestamp) -> bool {
    let now = now.to_zoned(TimeZone::UTC);
    let time = now.strftime("%H:%M").to_string();
    let Some((from, until)) = window.split_once('-') else { return true };
    let (day, from) = match from.matches(':').count() {
        2 => match from.split_once(':') {
            Some((day, from)) => (Some(day), from),
            None => return true,
        },
        _ => (None, from),
    };
    let plain = |text: &str| text.len() == 5 && text.as_bytes().get(2) == Some(&b':');
    if !plain(from) || !plain(until) {
        return true;
    }
    day.is_none_or(|day| day == now.strftime("%a").to_string())
        && (from..=until).contains(&time.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Tuesday.
    const NOW: &str = "2026-11-24T10:00:30Z";

    fn cluster(spec: &Value) -> Postgresql {
        Postgresql::of(&json!({"metadata": {"name": "acid-a"}, "spec": spec})).unwrap()
    }

    #[test]
    fn version_is_wanted_as_by_the_operator() {
        let manual = Upgrades::default();
        let off = Upgrades { mode: Mode::Off, teams: vec!["acid".into()], ..manual.clone() };
        let full = Upgrades { mode: Mode::Full, ..manual.clone() };
        let spec = |version: &str| json!({"teamId": "acid", "postgresql": {"version": version}});
        let mut other = spec("16");
        other["teamId"] = json!("other");
        let mut standby = spec("16");
        standby["standby"] = json!({"standby_host": "h"});
        for (settings, major, spec, want) in [
            (&manual, 2, spec("16"), Some(16)),
            (&manual, 2, spec(""), None),
            (&manual, 2, json!({}), None),
            (&manual, 2, standby, None),
            (&off, 2, spec("16"), Some(16)),
            (&off, 2, other, None),
            (&full, 2, spec("16"), Some(16)),
            (&full, 2, spec("13"), Some(18)),
            (&full, 1, spec("13"), Some(13)),
            (&full, 1, spec("12"), Some(17)),
        ] {
            let found = settings.wanted(&cluster(&spec), Some(major), NOW.parse().unwrap());
            assert_eq!(found, want, "{settings:?} {spec}");
        }
        let mut failed = cluster(&spec("16"));
        failed.annotations.insert(UPGRADE_FAILED.to_owned(), "2026-11-01".to_owned());
        assert_eq!(manual.wanted(&failed, Some(2), NOW.parse().unwrap()), None);
    }

    #[test]
    fn upgrade_starts_in_the_window_only() {
        let spec = |windows: &Value| {
            cluster(&json!({"postgresql": {"version": "16"}, "maintenanceWindows": windows}))
        };
        let night = Upgrades { windows: vec!["01:00-06:00".into()], ..Upgrades::default() };
        let never = Upgrades { any_time: true, ..night.clone() };
        let unset = Upgrades::default();
        for (settings, major, windows, want) in [
            (&unset, 2, json!(null), true),
            (&unset, 2, json!([]), true),
            (&unset, 2, json!(["09:00-10:00"]), true),
            (&unset, 2, json!(["09:00-09:59"]), false),
            (&unset, 2, json!(["10:01-11:00"]), false),
            (&unset, 2, json!(["Tue:09:00-11:00"]), true),
            (&unset, 2, json!(["Wed:09:00-11:00"]), false),
            (&unset, 2, json!(["Wed:09:00-11:00", "00:00-23:59"]), true),
            (&unset, 2, json!(["sometime"]), true),
            (&night, 2, json!(null), false),
            (&night, 2, json!(["09:00-11:00"]), true),
            // 1.15 knows only the windows of the manifest.
            (&night, 1, json!(null), true),
            (&never, 2, json!(["01:00-06:00"]), true),
            (&never, 1, json!(["01:00-06:00"]), false),
        ] {
            let found = settings.wanted(&spec(&windows), Some(major), NOW.parse().unwrap());
            assert_eq!(found.is_some(), want, "{settings:?} {major} {windows}");
        }
    }

    #[test]
    fn both_sources_of_the_settings_are_read_alike() {
        let flat: BTreeMap<String, String> = [
            ("major_version_upgrade_mode", "full"),
            ("major_version_upgrade_team_allow_list", "acid, db"),
            ("minimal_major_version", "14"),
            ("target_major_version", "17"),
            ("maintenance_windows", "Sat:22:00-23:59,Sun:00:00-01:00"),
            ("enable_maintenance_windows", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let configuration = json!({
            "major_version_upgrade": {"major_version_upgrade_mode": "full",
                "major_version_upgrade_team_allow_list": ["acid", "db"],
                "minimal_major_version": "14", "target_major_version": "17"},
            "maintenance_windows": ["Sat:22:00-23:59", "Sun:00:00-01:00"],
            "enable_maintenance_windows": false,
        });
        let read = Upgrades::of_config_map(&flat);
        assert_eq!(read, Upgrades::of_operator_configuration(&configuration));
        assert_eq!((read.mode, read.target, read.any_time), (Mode::Full, Some(17), true));
        assert_eq!(Upgrades::of_config_map(&BTreeMap::new()), Upgrades::default());
        assert_eq!(Upgrades::of_operator_configuration(&json!({})), Upgrades::default());
    }
}
