//! Answers of the API server, up to a size.
//!
//! The editor of one namespace decides how many objects it holds, and how large they are. A process that
//! reads them for all namespaces must not end because of one. So an answer ends at [`BYTES`] and
//! [`VALUES`], and beyond them it counts as unreadable. Reviews read few of the large ones at a time
//! ([`LARGE`]). Ordinary answers wait for none of these.

use std::sync::Arc;

use futures::AsyncReadExt as _;
use kube::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::patroni::bounded::at_most;

/// The most bytes of one answer. An object has at most 1.5 MiB (`--max-request-bytes` of etcd).
const BYTES: usize = 8 << 20;
/// The most JSON values of one answer. A pod of the operator has 300, its `managedFields` among them 150.
/// Decoded, the costliest ones take 380 bytes each.
const VALUES: usize = 50_000;
/// The most bytes of an ordinary answer.
const ORDINARY_BYTES: usize = 256 << 10;
/// The most JSON values of an ordinary answer.
const ORDINARY_VALUES: usize = 5_000;
/// The most large answers that are in memory at the same time, from their last byte that is ordinary until
/// they are decoded.
const LARGE: usize = 2;

/// The answer is larger than what is decoded.
#[derive(Debug, thiserror::Error)]
#[error(
    "the answer has more than {0}, the most that pgscale reads at once: delete what is not needed there"
)]
struct TooLarge(String);

/// Returns the error of an answer that is larger than this `limit`.
pub(super) fn too_large(limit: String) -> kube::Error {
    kube::Error::Service(Box::new(TooLarge(limit)))
}

/// Returns whether a request failed because its answer is larger than what is decoded.
pub(super) fn is_too_large(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(why) if why.is::<TooLarge>())
}

/// The places of large answers.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE)))
    }
}

impl Places {
    async fn one(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// The text of an answer, with the place of a large one.
pub(super) type Bounded = (String, Option<OwnedSemaphorePermit>);

/// Sends a request and returns the text of its answer.
///
/// # Errors
/// Fails as the request does, and with [`kube::Error::Service`] where the answer has more than 8 MiB or
/// 50,000 JSON values. No more than that is read or decoded.
pub async fn bounded_text(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<String, kube::Error> {
    bounded(client, request, &Places::default()).await.map(|(text, _)| text)
}

/// Does the same, and waits for a place where the answer is large.
pub(super) async fn bounded(
    client: &Client,
    request: http::Request<Vec<u8>>,
    places: &Places,
) -> Result<Bounded, kube::Error> {
    let mut answer = Box::pin(client.request_stream(request).await?);
    let (mut bytes, mut place) = (Vec::new(), None);
    for limit in [ORDINARY_BYTES, BYTES] {
        if limit == BYTES {
            place = places.one().await;
        }
        // One byte more says that there are more.
        let more = u64::try_from(limit + 1 - bytes.len()).unwrap_or(u64::MAX);
        let read = answer.as_mut().take(more).read_to_end(&mut bytes).await;
        read.map_err(kube::Error::ReadEvents)?;
        if bytes.len() <= limit {
            break;
        }
    }
    if bytes.len() > BYTES {
        return Err(too_large(format!("{} MiB", BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(kube::Error::FromUtf8)?;
    // A value has a byte, and another one keeps it from the next value.
    if text.len() / 2 < ORDINARY_VALUES {
        return Ok((text, place));
    }
    let values = at_most(&text);
    if values > VALUES {
        return Err(too_large(format!("{VALUES} JSON values")));
    }
    if values > ORDINARY_VALUES && place.is_none() {
        place = places.one().await;
    }
    Ok((text, place))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is for tests")]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    fn client(status: u16, text: String) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| {
            let answer =
                Response::builder().status(status).body(Body::from(text.clone().into_bytes()));
            async move { Ok::<_, Infallible>(answer.unwrap()) }
        });
        Client::new(service, "default")
    }

    fn request() -> Request<Vec<u8>> {
        Request::get("/api/v1/pods").body(Vec::new()).unwrap()
    }

    async fn answered(status: u16, text: String) -> Result<usize, String> {
        let text = bounded_text(&client(status, text), request()).await;
        text.map(|text| text.len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn answer_that_is_too_large_is_not_decoded() {
        let items = |count: usize| format!("{{\"items\":[{}]}}", vec!["{\"\":0}"; count].join(","));
        let whole = items(VALUES / 4);
        assert_eq!(answered(200, whole.clone()).await, Ok(whole.len()));
        let many = answered(200, items(VALUES)).await.unwrap_err();
        assert!(many.contains("more than 50000 JSON values"), "{many}");
        let long = answered(200, format!("\"{}\"", "a".repeat(BYTES))).await.unwrap_err();
        assert!(long.contains("more than 8 MiB"), "{long}");
    }

    #[tokio::test]
    async fn large_answers_wait_for_each_other_and_ordinary_ones_for_none() {
        let places = Places::default();
        let values = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        let read = async |text: String| {
            let client = client(200, text);
            let read = bounded(&client, request(), &places);
            tokio::time::timeout(Duration::from_millis(50), read).await.map(Result::unwrap).ok()
        };
        let long = format!("\"{}\"", "a".repeat(ORDINARY_BYTES));
        let mut held = vec![read(long.clone()).await.unwrap()];
        held.push(read(values(ORDINARY_VALUES + 1)).await.unwrap());
        assert!(read(long.clone()).await.is_none());
        assert!(read(values(ORDINARY_VALUES + 1)).await.is_none());
        for ordinary in [values(ORDINARY_VALUES - 1), format!("\"{}\"", "a".repeat(250 << 10))] {
            let (text, place) = read(ordinary.clone()).await.unwrap();
            assert_eq!((text, place.is_none()), (ordinary, true));
        }
        held.pop();
        assert!(read(long).await.is_some());
    }

    #[tokio::test]
    async fn refusal_of_the_api_server_is_its_own() {
        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound","message":"gone"}"#;
        let error = answered(404, gone.to_owned()).await.unwrap_err();
        assert!(error.contains("gone"), "{error}");
    }
}
