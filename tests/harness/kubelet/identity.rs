//! The service account of a pod: a token of its own, bound to the pod and renewed in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

/// The lifetime of a token, as kubelets request it.
const LIFETIME: Duration = Duration::from_secs(3607);

/// The time until the next token is fetched.
pub(super) const RENEWAL: Duration = Duration::from_secs(3000);

/// Writes `token`, `ca.crt` and `namespace` to `directory`, as a projected volume holds them.
///
/// # Errors
/// Fails when the API server issues no token, usually because the service account does not exist
/// (yet).
pub(super) async fn project(
    client: &Client,
    ca_pem: &str,
    pod: &Pod,
    directory: &Path,
) -> Result<()> {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.unwrap_or_else(|| "default".to_owned());
    let request: TokenRequest = serde_json::from_value(json!({
        "metadata": {},
        "spec": {
            "audiences": [],
            "expirationSeconds": LIFETIME.as_secs(),
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid(),
            },
        },
    }))?;
    let token = Api::<ServiceAccount>::namespaced(client.clone(), &namespace)
        .create_token_request(&account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("failed to get a token of service account {account}"))?;
    let token = token.status.and_then(|status| status.token);
    let token = token.context("the API server issued an empty token")?;
    tokio::fs::create_dir_all(directory).await?;
    for (name, text) in [("ca.crt", ca_pem), ("namespace", &namespace), ("token", &token)] {
        replace(&directory.join(name), text).await?;
    }
    Ok(())
}

/// Replaces a file as a whole: a reader finds the old text or the new one.
pub(super) async fn replace(path: &Path, text: &str) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    tokio::fs::write(&new, text)
        .await
        .with_context(|| format!("failed to write {}", new.display()))?;
    tokio::fs::rename(&new, path)
        .await
        .with_context(|| format!("failed to replace {}", path.display()))
}
