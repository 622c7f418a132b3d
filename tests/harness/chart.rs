//! The Helm chart, rendered and installed by the real Helm as a user does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::pki::write;

/// The chart of this workspace.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/pgscale");
/// The name of every release here. No object carries it.
const RELEASE: &str = "pgscale";

/// The rendered chart.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The text that Helm prints.
    pub text: String,
    /// The objects in the text, definitions included.
    pub objects: Vec<Value>,
    /// The objects that Helm makes for `helm test` alone.
    pub tests: Vec<Value>,
}

/// Renders the chart for `namespace` with these `values`.
///
/// # Errors
/// Fails when Helm refuses, with its reasons.
pub fn render(helm: &Path, namespace: &str, values: &Value) -> Result<Rendered> {
    let args = ["template", RELEASE, DIRECTORY, "--include-crds", "--namespace", namespace];
    let text = helm_says(helm, &args, values)?;
    let all = objects(&text).context("failed to decode the output of Helm")?;
    let is_test = |it: &Value| it.pointer("/metadata/annotations/helm.sh~1hook").is_some();
    let (tests, objects) = all.into_iter().partition(is_test);
    Ok(Rendered { text, objects, tests })
}

/// Installs the chart into `namespace`, which exists, or upgrades it there. Returns Helm's notes
/// for the user.
///
/// # Errors
/// Fails when Helm or the API server refuses, with their reasons.
pub fn install(helm: &Path, kubeconfig: &Path, namespace: &str, values: &Value) -> Result<String> {
    let kubeconfig = kubeconfig.to_string_lossy();
    let args = ["upgrade", "--install", RELEASE, DIRECTORY, "--namespace", namespace];
    helm_says(helm, &[&args[..], &["--kubeconfig", &kubeconfig]].concat(), values)
}

/// Returns the output of Helm with `args` and `values`.
fn helm_says(helm: &Path, args: &[&str], values: &Value) -> Result<String> {
    // Helm keeps caches and settings. The user's own must not matter here.
    let home = tempfile::tempdir().context("failed to make a home for Helm")?;
    let values = write(home.path(), "values.json", &values.to_string())?;
    let mut command = Command::new(helm);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
        command.env(variable, home.path());
    }
    let output = command
        .args(args)
        .arg("--values")
        .arg(values)
        .output()
        .with_context(|| format!("failed to run {}", helm.display()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm {} failed: {}", args.join(" "), stderr.trim());
    String::from_utf8(output.stdout).context("the output is not UTF-8")
}

/// Returns the objects of a manifest.
///
/// # Errors
/// Fails when it is not YAML.
pub fn objects(manifest: &str) -> Result<Vec<Value>> {
    let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(manifest)?;
    Ok(documents.into_iter().flatten().filter(|object| !object.is_null()).collect())
}

impl Rendered {
    /// Returns the object of this kind and name.
    ///
    /// # Errors
    /// Fails when there is none.
    pub fn object(&self, kind: &str, name: &str) -> Result<&Value> {
        let mut found = self.objects.iter();
        found
            .find(|object| {
                let named = object.pointer("/metadata/name").is_some_and(|found| found == name);
                named && object.get("kind").is_some_and(|found| found == kind)
            })
            .with_context(|| format!("the chart has no {kind} {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_may_have_empty_documents_and_comments() {
        let text = "---\n# Source: a\nkind: A\n---\n# nothing\n---\nkind: B\nname: null\n";
        let kinds: Vec<_> = objects(text).unwrap().iter().map(|it| it["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B"]);
    }
}
