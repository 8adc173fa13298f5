//! Bodies as hyper sees them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::kept::Kept;

/// Marks an answer (among its extensions) whose body comes in small pieces and has no end of its own, so that its connection
/// keeps as little as it can for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endless;

/// Body of an answer: at hand, or made by a route.
pub(crate) enum ReplyBody {
    /// A body in memory.
    Whole(Bytes),
    /// A body of the cache, shared with it, until it was handed over.
    Kept(Kept),
    /// Whatever a route answers with.
    Stream(axum::body::Body),
}

impl ReplyBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Kept(kept) => {
                let bytes = kept.bytes().clone();
                *self = Self::empty();
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::data(bytes))))
            }
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Kept(kept) => kept.bytes().is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Kept(kept) => SizeHint::with_exact(kept.bytes().len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// Body of a request that tells its connection whether it was read to the end.
pub(crate) struct RequestBody {
    /// What was taken from the body before, to be given first.
    taken: Option<Result<Frame<Bytes>, hyper::Error>>,
    body: Incoming,
    whole: Arc<AtomicBool>,
}

/// The other end of a [`RequestBody`].
#[derive(Debug)]
pub(crate) struct Finished(Arc<AtomicBool>);

impl Finished {
    /// Whether nothing of the body is left unread.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> (Self, Finished) {
        Self::resumed(None, body)
    }

    /// A body of which a piece was taken already.
    pub(crate) fn resumed(taken: Option<Result<Frame<Bytes>, hyper::Error>>, body: Incoming) -> (Self, Finished) {
        let whole = Arc::new(AtomicBool::new(body.is_end_stream()));
        let finished = Finished(Arc::clone(&whole));
        (Self { taken, body, whole }, finished)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(taken) = self.taken.take() {
            return Poll::Ready(Some(taken));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.whole.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.taken {
            // The rest's hint would leave out what was taken.
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}
