use std::convert::Infallible;

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full as Whole, StreamBody};
use tonic::Code;
use tower::ServiceExt;

use super::*;
use crate::server::places::Places;
use crate::server::tenant::Peer;

const LIST: &str = "/stockade.v1.Worker/ListJobs";
const QUERY: &str = "/stockade.v1.Worker/QueryJob";
const START: &str = "/stockade.v1.Worker/StartJob";

/// Reads the request, then answers with ten bytes.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(match request.into_body().collect().await {
        Ok(_) => Response::new(Body::new(Whole::from(&b"0123456789"[..]))),
        Err(status) => status.into_http(),
    })
}

fn share(bytes: usize) -> Share {
    Arc::new(Places::new(bytes, false)).share("default")
}

async fn answer(share: &Share, path: &str, body: Body) -> Response<Body> {
    let mut request = Request::new(body);
    *request.uri_mut() = path.parse().expect("path");
    let caller = Caller::new(Peer::default(), share.clone());
    request.extensions_mut().insert(Arc::new(caller));
    let calls = HoldCalls.layer(tower::service_fn(echo));
    calls.oneshot(request).await.expect("an answer")
}

fn code(answer: &Response<Body>) -> Code {
    Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code())
}

/// So many bytes, of which the last never comes.
fn stalled(bytes: usize) -> Body {
    let frames = stream::once(async move { Ok::<_, Status>(Frame::data(vec![0; bytes - 1].into())) });
    Body::new(StreamBody::new(frames.chain(stream::pending())))
}

#[tokio::test]
async fn a_call_has_its_place_until_its_answer_has_left() {
    let one = share(CALL_BYTES);
    let first = answer(&one, QUERY, Body::empty()).await;
    assert_eq!(code(&first), Code::Ok);
    let second = answer(&one, QUERY, Body::empty()).await;
    assert_eq!(code(&second), Code::ResourceExhausted);
    // HTTP/2 lets the answer go, and keeps its bytes for a client that takes them slowly.
    let bytes = {
        let mut body = first.into_body();
        let frame = body.frame().await.expect("a frame").expect("no error");
        frame.into_data().expect("bytes")
    };
    assert_eq!(&bytes[..], b"0123456789");
    let second = answer(&one, QUERY, Body::empty()).await;
    assert_eq!(code(&second), Code::ResourceExhausted);
    drop(bytes);
    let second = answer(&one, QUERY, Body::empty()).await;
    assert_eq!(code(&second), Code::Ok);
}

#[tokio::test]
async fn large_answers_and_requests_take_more_of_it() {
    let page = share(CALL_BYTES + store::PAGE_BYTES);
    let list = answer(&page, LIST, Body::empty()).await;
    assert_eq!(code(&list), Code::Ok);
    let other = answer(&page, QUERY, Body::empty()).await;
    assert_eq!(code(&other), Code::ResourceExhausted);
    drop(list);

    let start = |bytes: usize| {
        let page = page.clone();
        async move { answer(&page, START, Body::new(Whole::from(vec![0; bytes]))).await }
    };
    assert_eq!(code(&start(store::PAGE_BYTES).await), Code::Ok);
    // Beyond the share, though not beyond what one request may have.
    assert_eq!(code(&start(2 * store::PAGE_BYTES).await), Code::ResourceExhausted);
    // What was refused holds nothing.
    assert_eq!(code(&start(store::PAGE_BYTES).await), Code::Ok);
}

#[tokio::test]
async fn only_starts_of_jobs_are_long() {
    let plenty = share(64 << 20);
    for (path, bytes, expected) in [
        (QUERY, SHORT_REQUEST_BYTES, Code::Ok),
        (QUERY, SHORT_REQUEST_BYTES + 1, Code::ResourceExhausted),
        (START, bounds::REQUEST_BYTES + PREFIX_BYTES, Code::Ok),
        (
            START,
            bounds::REQUEST_BYTES + PREFIX_BYTES + 1,
            Code::ResourceExhausted,
        ),
    ] {
        let answer = answer(&plenty, path, Body::new(Whole::from(vec![0; bytes]))).await;
        assert_eq!(code(&answer), expected, "{path} {bytes}");
    }
}

#[tokio::test]
async fn a_request_that_stays_behind_is_given_up() {
    let share = share(4 << 20);
    let call = Arc::new(share.take(CALL_BYTES).expect("free"));
    let within = Duration::from_millis(50);
    let mut body = RequestBody::new(stalled(1 << 20), call, 2 << 20, within);
    let begun = tokio::time::timeout(within / 2, body.frame()).await;
    assert!(begun.is_err(), "what is not whole is passed on: {begun:?}");
    assert!(share.take(7 << 19).is_err(), "it holds a quarter");
    let late = body.collect().await.expect_err("late");
    assert_eq!(late.code(), Code::DeadlineExceeded);
    share.take(4 << 20).expect("it holds nothing");
}

/// A decoder that has all of a message holds what it is decoded to.
#[tokio::test]
async fn a_request_is_passed_on_once_it_is_whole() {
    let share = share(4 << 20);
    let (pieces, body) = tokio::sync::mpsc::channel(4);
    let body = StreamBody::new(stream::unfold(body, |mut body| async {
        Some((Ok::<_, Status>(body.recv().await?), body))
    }));
    let call = Arc::new(share.take(CALL_BYTES).expect("free"));
    let mut body = RequestBody::new(Body::new(body), call, 1 << 20, Duration::from_secs(60));
    let moment = Duration::from_millis(20);
    for piece in ["be", "gin", ""] {
        pieces.send(Frame::data(piece.into())).await.expect("taken");
        let early = tokio::time::timeout(moment, body.frame()).await;
        assert!(early.is_err(), "{early:?}");
    }
    drop(pieces);
    let frame = body.frame().await.expect("a frame").expect("no error");
    assert_eq!(frame.into_data().expect("data"), "begin");
    assert!(body.frame().await.is_none());
}
