//! The bodies of a request and of its answer: their ends say when what was sent is consumed, and
//! when the request is no longer in flight.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};

use super::room::Held;
use super::table::Slot;

/// The body of a request. What a connection has sent is consumed when it is dropped.
pub(super) struct Received {
    pub(super) body: Incoming,
    pub(super) held: Arc<Held>,
}

/// The body of an answer. Once hyper has taken it, the request is no longer in flight.
pub(super) struct Answer {
    body: Body,
    _answering: Answering,
}

/// A request in flight.
pub(super) struct Answering(Arc<Slot>);

impl Answering {
    /// Notes that a request arrived on the connection.
    pub(super) fn begin(slot: &Arc<Slot>) -> Self {
        slot.asked();
        Self(Arc::clone(slot))
    }
}

impl Answer {
    /// Makes `body` the end of a request.
    pub(super) fn new(body: Body, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.held.release();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
