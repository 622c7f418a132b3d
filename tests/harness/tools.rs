//! The programs of a bed, provisioned once: built from Go modules that this crate pins and kept in
//! a cache, or taken from `$KUBEBUILDER_ASSETS` where that is set.

pub mod cache;
mod go;
mod modules;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use modules::Build;

/// The variable that names the directory with prebuilt `etcd`, `kube-apiserver` and
/// `kube-controller-manager`.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The paths of the programs of the bed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tools {
    /// The store behind the API server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers of StatefulSets, Deployments, Endpoints, service accounts and so on.
    pub kube_controller_manager: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// The Zalando postgres-operator.
    pub operator: PathBuf,
    /// The operator's own manifests: its CRDs, RBAC, configuration and Deployment.
    pub operator_manifests: PathBuf,
    /// kwok, which serves `exec` and `port-forward`.
    pub kwok: PathBuf,
    /// kwok's CRDs.
    pub kwok_manifests: PathBuf,
    /// Helm, which renders the chart.
    pub helm: PathBuf,
}

/// Returns the version of Kubernetes, such as `1.36.3`.
pub fn kubernetes_version() -> &'static str {
    modules::KUBE_APISERVER.version.trim_start_matches('v')
}

/// Returns the version of the operator, such as `1.15.1`.
pub fn operator_version() -> &'static str {
    modules::OPERATOR.version.trim_start_matches('v')
}

impl Tools {
    /// Finds all programs, and builds those that no cache has yet, with progress on stderr.
    ///
    /// The first time takes about ten minutes on two cores and needs Go and the network. Later
    /// calls need neither.
    ///
    /// # Errors
    /// Fails when `$KUBEBUILDER_ASSETS` is incomplete, Go is missing, or a build fails. The error
    /// names a remedy.
    pub fn provision() -> Result<Self> {
        let [etcd, kube_apiserver, kube_controller_manager] = match assets() {
            Some(assets) => prebuilt(&assets)?,
            None => [
                modules::ETCD.provision()?.program,
                modules::KUBE_APISERVER.provision()?.program,
                modules::KUBE_CONTROLLER_MANAGER.provision()?.program,
            ],
        };
        let Build { program: operator, manifests: operator_manifests } =
            modules::OPERATOR.provision()?;
        let Build { program: kwok, manifests: kwok_manifests } = modules::KWOK.provision()?;
        Ok(Self {
            etcd,
            kube_apiserver,
            kube_controller_manager,
            kubectl: Self::kubectl()?,
            operator,
            operator_manifests,
            kwok,
            kwok_manifests,
            helm: Self::helm()?,
        })
    }

    /// Provisions only kubectl, for tests without a bed.
    ///
    /// # Errors
    /// Fails like [`Tools::provision`].
    pub fn kubectl() -> Result<PathBuf> {
        match assets().map(|assets| assets.join("kubectl")) {
            Some(kubectl) if kubectl.is_file() => Ok(kubectl),
            Some(_) | None => Ok(modules::KUBECTL.provision()?.program),
        }
    }

    /// Provisions only Helm, for tests without a bed.
    ///
    /// # Errors
    /// Fails like [`Tools::provision`].
    pub fn helm() -> Result<PathBuf> {
        Ok(modules::HELM.provision()?.program)
    }
}

/// Returns the directory that `$KUBEBUILDER_ASSETS` names.
fn assets() -> Option<PathBuf> {
    env::var_os(ASSETS).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Returns the control plane of `$KUBEBUILDER_ASSETS`.
fn prebuilt(assets: &Path) -> Result<[PathBuf; 3]> {
    let programs = ["etcd", "kube-apiserver", "kube-controller-manager"];
    let missing: Vec<_> =
        programs.into_iter().filter(|program| !assets.join(program).is_file()).collect();
    ensure!(
        missing.is_empty(),
        "{ASSETS}={} lacks {}; add the missing programs there, or `unset {ASSETS}` to build them",
        assets.display(),
        missing.join(", "),
    );
    Ok(programs.map(|program| assets.join(program)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn missing_assets_are_named() {
        let assets = tempfile::tempdir().unwrap();
        for program in ["etcd", "kube-apiserver"] {
            fs::write(assets.path().join(program), "").unwrap();
        }
        let error = prebuilt(assets.path()).unwrap_err().to_string();
        assert!(error.contains("lacks kube-controller-manager;"), "{error}");
        fs::write(assets.path().join("kube-controller-manager"), "").unwrap();
        let [etcd, ..] = prebuilt(assets.path()).unwrap();
        assert_eq!(etcd, assets.path().join("etcd"));
    }
}
