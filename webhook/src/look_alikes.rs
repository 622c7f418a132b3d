//! Deployments that look like an operator and run under no account that the platform lists.
//!
//! They decide nothing: a review takes for the operator only what runs under a listed account, and
//! where there is no list, one look-alike makes the operator unknown. A look-alike is a mistake in
//! the list, or an attempt to have another limit taken for the operator's. So the webhook counts
//! them from time to time, beside its reviews.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, ObjectList, Request};
use kube::{Client, Resource as _};
use pgscale_guard::objects::deployment::{account, may_operate};
use pgscale_guard::operator::account::{LIST_KEY, LIST_NAME, LIST_NAMESPACE, listed};
use pgscale_guard::read::bounded_text;

use crate::metrics::Metrics;

/// The pause between two looks: a look reads every Deployment of the cluster.
const PAUSE: Duration = Duration::from_secs(600);
/// The number of Deployments in one page, small because of the memory.
const PAGE: u32 = 50;
/// The pause after each page: nothing waits for this.
const REST: Duration = Duration::from_millis(100);
/// The number of look-alikes that a line of the log names.
const NAMED: usize = 5;

/// Counts the look-alikes for as long as the process runs.
pub(crate) async fn count(client: Client, metrics: Arc<Metrics>) {
    let mut before = Vec::new();
    loop {
        match look(&client).await {
            Ok(found) => {
                metrics.look_alikes(found.len());
                if found != before && !found.is_empty() {
                    let named: Vec<_> = found.iter().take(NAMED).map(String::as_str).collect();
                    tracing::warn!(
                        count = found.len(),
                        deployments = %named.join(", "),
                        "deployments look like an operator, and {LIST_NAMESPACE}/{LIST_NAME} does not \
                         list their accounts: ignored"
                    );
                }
                before = found;
            }
            // The last figure stays: the API server may be away for a moment.
            Err(error) => tracing::warn!(%error, "cannot look for look-alikes of the operator"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the look-alikes, each with its account. There is none where there is no list.
async fn look(client: &Client) -> Result<Vec<String>> {
    let lists: Api<ConfigMap> = Api::namespaced(client.clone(), LIST_NAMESPACE);
    let list = lists.get_opt(LIST_NAME).await.context("failed to read the operators' accounts")?;
    let Some(list) = list else { return Ok(Vec::new()) };
    let text = list.data.as_ref().and_then(|data| data.get(LIST_KEY));
    let accounts = listed(text.map(String::as_str).unwrap_or_default())
        .map_err(|why| anyhow!("configmap {LIST_NAMESPACE}/{LIST_NAME}: {why}"))?;
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(Deployment::url_path(&(), None)).list(&params)?;
        let page = bounded_text(client, request).await.context("failed to list Deployments")?;
        let page: ObjectList<Deployment> = serde_json::from_str(&page)?;
        for deployment in page.items {
            let account = account(&deployment);
            if may_operate(&deployment) && !accounts.contains(&account) {
                let name = deployment.metadata.name.unwrap_or_default();
                found.push(format!("{}/{name} (account {account})", account.namespace));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
        tokio::time::sleep(REST).await;
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(namespace: &str, name: &str, account: &str, env: &Value) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"selector": {}, "template": {"spec": {"serviceAccountName": account,
                "containers": [{"name": "c", "env": env}]}}}})
    }

    /// Returns an API server with this list, and one Deployment on each page.
    fn api_server(list: Option<&'static str>) -> Client {
        let nothing = json!([]);
        let posing = json!([{"name": "CONFIG_MAP_NAME", "value": "mine"}]);
        let pages = [
            deployment("ops", "postgres-operator", "postgres-operator", &nothing),
            deployment("a-tenant", "postgres-operator", "postgres-operator", &nothing),
            deployment("web", "shop", "default", &nothing),
            deployment("b-tenant", "innocent", "default", &posing),
        ];
        let service = tower::service_fn(move |request: Request<Body>| {
            let uri = request.uri().to_string();
            let end = pages.len() - 1;
            let at = uri.split("continue=").nth(1).and_then(|at| at[..1].parse().ok());
            let at: usize = at.unwrap_or(0);
            let answer = match (uri.contains("/configmaps/"), list) {
                (true, None) => json!({"kind": "Status", "apiVersion": "v1", "code": 404,
                    "status": "Failure", "reason": "NotFound", "message": "gone"}),
                (true, Some(list)) => json!({"metadata": {}, "data": {"accounts": list}}),
                (false, _) => json!({"metadata": {"continue":
                    if at < end { (at + 1).to_string() } else { String::new() }},
                    "items": [pages[at]]}),
            };
            async move {
                let status = if answer["code"] == 404 { 404 } else { 200 };
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn look_alikes_beside_the_listed_operators_are_reported() {
        let found = look(&api_server(Some("ops/postgres-operator"))).await.unwrap();
        assert_eq!(
            found,
            [
                "a-tenant/postgres-operator (account a-tenant/postgres-operator)",
                "b-tenant/innocent (account b-tenant/default)",
            ]
        );
        let all = "ops/postgres-operator\na-tenant/postgres-operator\nb-tenant/default";
        assert_eq!(look(&api_server(Some(all))).await.unwrap(), [""; 0]);
        assert_eq!(look(&api_server(None)).await.unwrap(), [""; 0], "a review says it then");
        assert!(
            look(&api_server(Some(""))).await.unwrap_err().to_string().contains("lists no account")
        );
    }
}
