//! A body that arrives.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::http::StatusCode;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::beginning;
use super::limits::Place;

/// The most bytes of a body: two objects of 3 MB, which is etcd's limit with the API server's own
/// allowance, and the fields around them. It is the arithmetic of controller-runtime
/// (pkg/webhook/admission/http.go).
const BODY_LIMIT: usize = 7 << 20;
/// The most bytes of a body that is too large, which the webhook reads and throws away. A sender
/// that is still sending does not read an answer.
const DISCARD_LIMIT: usize = 32 << 20;
/// The most bytes of a body for which memory is set aside before they are there.
const RESERVED: usize = 256 << 10;
/// The time for the body of a review that is worked on. Then it lends its place.
const BODY_GRACE: Duration = Duration::from_millis(100);
/// The time for the whole body.
const BODY_TIME: Duration = Duration::from_secs(5);

/// A body of which some has arrived.
pub(super) struct Arriving {
    stream: BodyDataStream,
    length: Option<u64>,
    whole: Vec<u8>,
    /// The bytes that have come, those included that are thrown away.
    seen: usize,
    ended: bool,
    failed: Option<axum::Error>,
}

impl Arriving {
    /// Returns a body of which nothing is read.
    pub(super) fn of(body: Body) -> Self {
        let length = body.size_hint().exact();
        let stream = body.into_data_stream();
        Self { stream, length, whole: Vec::new(), seen: 0, ended: false, failed: None }
    }

    /// Returns the length that its sender says.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns the namespace of the review in it, if its beginning says that in time.
    pub(super) async fn namespace(&mut self) -> Option<String> {
        let begun = async { while self.seen < beginning::BEGINNING && self.more().await {} };
        // What comes later does not keep it waiting here: the whole body has a time of its own.
        _ = timeout(BODY_GRACE, begun).await;
        beginning::namespace(&self.whole)
    }

    /// Reads what is left, for `until` at most, and keeps nothing. A sender that is still sending does not
    /// read an answer.
    pub(super) async fn discard(mut self, until: Instant) {
        self.whole = Vec::new();
        let left = async {
            while let Some(Ok(chunk)) = self.stream.next().await {
                self.seen += chunk.len();
                if self.seen > DISCARD_LIMIT {
                    break;
                }
            }
        };
        _ = timeout_at(until.min(Instant::now() + BODY_TIME), left).await;
    }

    /// Waits until it has arrived, or has failed to.
    async fn fill(&mut self) {
        while self.more().await {}
    }

    /// Takes what comes next. Returns whether there is more. Nothing is lost where it is dropped before.
    async fn more(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let chunk = match self.stream.next().await {
            Some(Ok(chunk)) => chunk,
            last => {
                self.ended = true;
                self.failed = last.and_then(Result::err);
                return false;
            }
        };
        if self.seen == 0 {
            let length = self.length.and_then(|length| usize::try_from(length).ok());
            self.whole.reserve_exact(length.filter(|length| *length <= RESERVED).unwrap_or(0));
        }
        self.seen += chunk.len();
        if self.seen <= BODY_LIMIT {
            self.whole.extend_from_slice(&chunk);
        } else {
            self.whole = Vec::new();
        }
        self.ended = self.seen > DISCARD_LIMIT;
        !self.ended
    }

    /// Returns the whole body as soon as it is there; `None` where it does not arrive in time.
    ///
    /// The API server sends it at once. A slow sender does not keep others from being worked on.
    pub(super) async fn whole(
        mut self,
        place: Option<&Place>,
        until: Instant,
    ) -> Option<Result<Vec<u8>, (StatusCode, String)>> {
        let until = until.min(Instant::now() + BODY_TIME);
        if timeout(BODY_GRACE, self.fill()).await.is_err() {
            if let Some(place) = place {
                place.lend();
            }
            timeout_at(until, self.fill()).await.ok()?;
        }
        Some(self.arrived())
    }

    /// Returns what has arrived.
    ///
    /// # Errors
    /// It is larger than a review may be, or could not be read.
    fn arrived(self) -> Result<Vec<u8>, (StatusCode, String)> {
        if let Some(error) = self.failed {
            return Err((StatusCode::BAD_REQUEST, format!("failed to read the body: {error}")));
        }
        if self.seen > BODY_LIMIT {
            let limit = BODY_LIMIT >> 20;
            let why = format!("the body is larger than {limit} MiB, the most a review can be");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Ok(self.whole)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Bytes;
    use futures::stream;

    use super::*;

    /// An answer to a sender that is still sending is lost: the API server reports a broken pipe.
    #[tokio::test]
    async fn body_of_a_busy_review_is_taken_from_its_sender_before_the_answer() {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let chunks = stream::iter((0..100).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 << 10]))
        }));
        let mut body = Arriving::of(Body::from_stream(chunks));
        assert_eq!(body.namespace().await, None);
        assert!(taken.load(Ordering::Relaxed) < 100);
        body.discard(Instant::now() + BODY_TIME).await;
        assert_eq!(taken.load(Ordering::Relaxed), 100);
    }
}
