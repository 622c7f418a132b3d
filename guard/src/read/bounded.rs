//! Answers of the API server, up to a size.
//!
//! The editor of one namespace decides how many objects it holds, and how large they are. A process that
//! reads them for all namespaces must not end because of one.

use futures::AsyncReadExt as _;
use kube::Client;

use crate::patroni::bounded::at_most;

/// The most bytes of one answer. An object has at most 1.5 MiB (`--max-request-bytes` of etcd).
const BYTES: usize = 8 << 20;
/// The most JSON values of one answer. A pod of the operator has 300, its `managedFields` among them 150,
/// and a page has at most 250 objects. Decoded, the costliest ones take 380 bytes each.
const VALUES: usize = 100_000;

/// The answer is larger than what is decoded.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {0}")]
struct TooLarge(String);

/// Sends a request and returns the text of its answer.
///
/// # Errors
/// Fails as the request does, and with [`kube::Error::Service`] where the answer has more than 8 MiB or
/// 100,000 JSON values. No more than that is read or decoded.
pub async fn bounded_text(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<String, kube::Error> {
    let too_large = |limit: String| kube::Error::Service(Box::new(TooLarge(limit)));
    let answer = client.request_stream(request).await?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(BYTES).unwrap_or(u64::MAX).saturating_add(1);
    Box::pin(answer)
        .take(limit)
        .read_to_end(&mut bytes)
        .await
        .map_err(kube::Error::ReadEvents)?;
    if bytes.len() > BYTES {
        return Err(too_large(format!("{} MiB", BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(kube::Error::FromUtf8)?;
    if at_most(&text) > VALUES {
        return Err(too_large(format!("{VALUES} JSON values")));
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is for tests")]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    async fn answered(status: u16, text: String) -> Result<usize, String> {
        let service = tower::service_fn(move |_: Request<Body>| {
            let answer = Response::builder().status(status).body(Body::from(text.clone().into_bytes()));
            async move { Ok::<_, Infallible>(answer.unwrap()) }
        });
        let client = Client::new(service, "default");
        let request = Request::get("/api/v1/pods").body(Vec::new()).unwrap();
        let text = bounded_text(&client, request).await;
        text.map(|text| text.len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn answer_that_is_too_large_is_not_decoded() {
        let items = |count: usize| format!("{{\"items\":[{}]}}", vec!["{\"\":0}"; count].join(","));
        let whole = items(VALUES / 4);
        assert_eq!(answered(200, whole.clone()).await, Ok(whole.len()));
        let many = answered(200, items(VALUES)).await.unwrap_err();
        assert!(many.contains("more than 100000 JSON values"), "{many}");
        let long = answered(200, format!("\"{}\"", "a".repeat(BYTES))).await.unwrap_err();
        assert!(long.contains("more than 8 MiB"), "{long}");
    }

    #[tokio::test]
    async fn refusal_of_the_api_server_is_its_own() {
        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound","message":"gone"}"#;
        let error = answered(404, gone.to_owned()).await.unwrap_err();
        assert!(error.contains("gone"), "{error}");
    }
}
