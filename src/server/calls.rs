//! What calls under way hold: memory, which the tenants share, and the time until a request is whole.
//!
//! One connection may have a thousand calls, and each can be made to stay: its request lacks a byte, it waits for a
//! job, or nobody takes its answer. So a call has its part of the shared memory before anything is read of it, and
//! gives it back with the last byte of its answer that has left.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use crate::job::bounds;

use super::Refusal;
use super::places::{Full, Place, Share};
use super::store;
use super::tenant::Caller;

/// A call that waits: its stream, its tasks, a short request and a short answer.
const CALL_BYTES: usize = 16 << 10;
/// Whatever is asked but the start of a job. The most labels that select jobs are a third of it.
const SHORT_REQUEST_BYTES: usize = 64 << 10;
/// In front of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// From a request's head to its last byte.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// Holds every call within its tenant's share.
#[derive(Debug, Clone, Copy)]
pub(super) struct HoldCalls;

#[derive(Debug, Clone)]
pub(super) struct HeldCalls<S> {
    service: S,
}

impl<S> Layer<S> for HoldCalls {
    type Service = HeldCalls<S>;

    fn layer(&self, service: S) -> HeldCalls<S> {
        HeldCalls { service }
    }
}

impl<S> Service<Request<Body>> for HeldCalls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(caller) = request.extensions().get::<Arc<Caller>>() else {
            // Only in process, where nobody else is to be protected.
            return self.service.call(request).boxed();
        };
        let costs = Costs::of(request.uri().path());
        let call = match take(&caller.calls, &costs) {
            Ok(call) => Arc::new(call),
            Err(full) => {
                let refused = Status::from(too_many(full)).into_http();
                return std::future::ready(Ok(refused)).boxed();
            }
        };
        let request = match costs.request {
            Some(most) => {
                let call = Arc::clone(&call);
                request.map(|body| Body::new(RequestBody::new(body, call, most, REQUEST_WITHIN)))
            }
            None => request,
        };
        let answer = self.service.call(request);
        async move { Ok(answer.await?.map(|body| until_sent(body, call))) }.boxed()
    }
}

/// What a call of some method may hold.
#[derive(Debug, PartialEq, Eq)]
struct Costs {
    /// The longest request, which is one message. `None`: a stream of short ones, each bounded by its decoder.
    request: Option<usize>,
    /// The largest answer under way, beyond a short one.
    answer: usize,
}

impl Costs {
    fn of(path: &str) -> Self {
        let (service, method) = path.rsplit_once('/').unwrap_or_default();
        if service.starts_with("/grpc.reflection.") {
            return Self {
                request: None,
                answer: 0,
            };
        }
        let request = match method {
            "StartJob" => bounds::REQUEST_BYTES + PREFIX_BYTES,
            _ => SHORT_REQUEST_BYTES,
        };
        let answer = match method {
            "ListJobs" => store::PAGE_BYTES,
            "WatchJobs" => store::CHANGES_BYTES,
            // Readers of output have places of their own.
            _ => 0,
        };
        Self {
            request: Some(request),
            answer,
        }
    }
}

fn take(share: &Share, costs: &Costs) -> Result<Place, Full> {
    share.take(CALL_BYTES + costs.answer)
}

fn too_many(full: Full) -> Refusal {
    const RETRY_AFTER: Duration = Duration::from_secs(1);
    Refusal::Exhausted {
        what: match full {
            Full::ForAll => "too many calls under way",
            Full::ForTenant => "too many calls of this tenant under way",
        },
        retry_after: RETRY_AFTER,
    }
}

/// A request: bounded in length and time, paid for by the byte, and passed on once it is whole. What it is decoded to takes
/// several times its bytes, and the decoder would hold that until the client ends the request.
struct RequestBody {
    body: Body,
    whole: BytesMut,
    ended: bool,
    call: Arc<Place>,
    most: usize,
    length: usize,
    within: Duration,
    /// Set when there is something to wait for.
    late: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    fn new(body: Body, call: Arc<Place>, most: usize, within: Duration) -> Self {
        Self {
            body,
            whole: BytesMut::new(),
            ended: false,
            call,
            most,
            length: 0,
            within,
            late: None,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        // What every call has paid for.
        let before = self.length.max(CALL_BYTES);
        self.length += bytes;
        if self.length > self.most {
            return Err(Refusal::TooLong(self.most));
        }
        match self.length.saturating_sub(before) {
            0 => Ok(()),
            more => self.call.grow(more).map_err(too_many),
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let me = &mut *self;
        while !me.ended {
            let Poll::Ready(frame) = Pin::new(&mut me.body).poll_frame(context) else {
                let late = me
                    .late
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(me.within)));
                ready!(late.as_mut().poll(context));
                return Poll::Ready(Some(Err(Refusal::RequestLate(me.within).into())));
            };
            let data = frame.transpose()?.map(Frame::into_data);
            me.ended = data.is_none() || me.body.is_end_stream();
            // Trailers say nothing.
            let Some(Ok(data)) = data else { continue };
            me.count(data.len())?;
            if me.ended && me.whole.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            // Many small pieces would each take more than they hold.
            me.whole.extend_from_slice(&data);
        }
        let whole = std::mem::take(&mut me.whole).freeze();
        Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))))
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_empty() && (self.ended || self.body.is_end_stream())
    }
}

/// The answer keeps the call's place. So do its bytes: HTTP/2 takes all of them into its own buffer as soon as the
/// client has room for one.
fn until_sent(answer: Body, call: Arc<Place>) -> Body {
    Body::new(answer.map_frame(move |frame| {
        frame.map_data(|bytes| {
            Bytes::from_owner(Unsent {
                bytes,
                _call: Arc::clone(&call),
            })
        })
    }))
}

struct Unsent {
    bytes: Bytes,
    _call: Arc<Place>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
