//! The chart that this program was built with, for helm.

use std::fs;
use std::io;
use std::path::Path;

/// Returns the name of a file of the chart, and its text.
macro_rules! shipped {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../charts/pgscale/", $name)))
    };
}

/// Every file of `charts/pgscale`, by its path there.
const FILES: &[(&str, &str)] = &[
    shipped!(".helmignore"),
    shipped!("Chart.yaml"),
    shipped!("crds/clusterscalepolicies.pgscale.dev.yaml"),
    shipped!("crds/instanceledgers.pgscale.dev.yaml"),
    shipped!("crds/scaleoverrides.pgscale.dev.yaml"),
    shipped!("crds/scalepolicies.pgscale.dev.yaml"),
    shipped!("examples/development.yaml"),
    shipped!("examples/platform.yaml"),
    shipped!("examples/production.yaml"),
    shipped!("examples/staging.yaml"),
    shipped!("files/alerts.yaml"),
    shipped!("files/configuration.yaml"),
    shipped!("files/dashboard.json"),
    shipped!("files/doctor.yaml"),
    shipped!("files/rbac.yaml"),
    shipped!("templates/NOTES.txt"),
    shipped!("templates/_helpers.tpl"),
    shipped!("templates/api.yaml"),
    shipped!("templates/apipriority.yaml"),
    shipped!("templates/certificates.yaml"),
    shipped!("templates/checks.yaml"),
    shipped!("templates/deployment.yaml"),
    shipped!("templates/monitoring.yaml"),
    shipped!("templates/networkpolicy.yaml"),
    shipped!("templates/operators.yaml"),
    shipped!("templates/poddisruptionbudget.yaml"),
    shipped!("templates/quota.yaml"),
    shipped!("templates/rbac.yaml"),
    shipped!("templates/registration.yaml"),
    shipped!("templates/service.yaml"),
    shipped!("templates/tests/doctor.yaml"),
    shipped!("templates/trial.yaml"),
    shipped!("values.schema.json"),
    shipped!("values.yaml"),
];

/// The oldest Kubernetes that the chart is for. `Chart.yaml` says the same.
pub(crate) const OLDEST_KUBERNETES: &str = "1.30.0";

/// Writes the chart into a directory that is there.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(directory: &Path) -> io::Result<()> {
    for (name, text) in FILES {
        let path = directory.join(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// Returns the definitions of the chart, as one manifest.
pub(crate) fn definitions() -> String {
    let texts = FILES.iter().filter(|(name, _)| name.starts_with("crds/")).map(|(_, text)| *text);
    texts.collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/pgscale");

    /// Adds every file below a directory, by its path below `root`.
    fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }

    fn files(root: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        collect(root, root, &mut found);
        found
    }

    #[test]
    fn program_holds_the_whole_chart_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        write(place.path()).unwrap();
        let (there, written) = (files(Path::new(CHART)), files(place.path()));
        let names = |of: &BTreeMap<String, String>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&written), names(&there), "list each file of the chart in FILES");
        assert_eq!(written, there);
    }

    #[test]
    fn chart_is_of_the_version_of_the_program() {
        let (_, text) = FILES.iter().find(|(name, _)| *name == "Chart.yaml").unwrap();
        let chart: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["kubeVersion"], format!(">={OLDEST_KUBERNETES}-0"));
    }
}
