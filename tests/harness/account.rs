//! The identities of programs that the bed runs outside of a pod: those of service accounts.

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};

use crate::control_plane::url;
use crate::pki::Authority;

/// The lifetime of a token: longer than that of any bed.
const TOKEN_SECONDS: i64 = 7 * 24 * 3600;

/// Makes a kubeconfig with a token of this service account, and no other permission than its own.
///
/// # Errors
/// Fails when the API server issues no token.
pub async fn kubeconfig(
    client: &Client,
    authority: &Authority,
    namespace: &str,
    name: &str,
) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let spec =
        TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .with_context(|| format!("failed to get a token of service account {namespace}/{name}"))?;
    let token = answer.status.and_then(|status| status.token);
    let token = token.context("the API server answered without a token")?;
    let user = format!("system:serviceaccount:{namespace}:{name}");
    authority.kubeconfig_with_token(&url(), &user, &token)
}
