use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use stockade::proto::v1;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::support::{TestWorker, command, start};

fn raw(worker: &TestWorker) -> UnixStream {
    let stream = UnixStream::connect(worker.dir().join("worker.sock")).expect("connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    stream
}

/// Reads until the other end closes; how long that took.
fn until_closed(mut stream: UnixStream) -> Duration {
    let start = Instant::now();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    start.elapsed()
}

#[tokio::test]
async fn whoever_does_not_speak_http2_is_shown_out() {
    let worker = TestWorker::start();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nXX",
    ] {
        let mut stream = raw(&worker);
        stream.write_all(bytes).expect("write");
        assert!(until_closed(stream) < Duration::from_secs(1), "{bytes:?}");
    }
    let mut client = worker.client().await;
    start(&mut client, &["true"]).await;
}

#[tokio::test]
async fn whoever_says_nothing_is_shown_out_in_time() {
    let worker = TestWorker::start();
    let silent = raw(&worker);
    let mut slow = raw(&worker);
    slow.write_all(b"PRI * HT").expect("write");
    for stream in [silent, slow] {
        assert!(until_closed(stream) < Duration::from_secs(8));
    }
}

#[tokio::test]
async fn a_crowd_that_says_nothing_is_shown_out_sooner() {
    let worker = TestWorker::start_with(|config| config.grpc_server.max_connections = 16);
    let _silent: Vec<_> = (0..32).map(|_| raw(&worker)).collect();
    let begin = Instant::now();
    let mut client = worker.client().await;
    start(&mut client, &["true"]).await;
    // Eight at a time, a second each.
    assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn oversized_messages_are_refused() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let request = v1::StartJobRequest {
        stdin: vec![0; (4 << 20) + 1],
        ..command(&["cat"])
    };
    let refused = client.start_job(request).await.expect_err("too large");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    start(&mut client, &["true"]).await;
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let worker = TestWorker::start();
    let mut health = HealthClient::new(worker.channel().await);
    for service in ["", "stockade.v1.Worker", "jobscheduler.Worker"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = health.check(request).await.expect(service).into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let mut reflection = ServerReflectionClient::new(worker.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection")
        .into_inner();
    let answer = answers
        .message()
        .await
        .expect("answer")
        .expect("answer")
        .message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = services
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for expected in [
        "stockade.v1.Worker",
        "jobscheduler.Worker",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&expected), "{names:?}");
    }
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let worker = TestWorker::start();
    let mut grpc = tonic::client::Grpc::new(worker.channel().await);
    grpc.ready().await.expect("ready");
    let refused = grpc
        .unary::<v1::GetWorkerRequest, v1::GetWorkerResponse, _>(
            tonic::Request::new(v1::GetWorkerRequest {}),
            "/stockade.v1.Worker/Nope".parse().expect("path"),
            tonic_prost::ProstCodec::default(),
        )
        .await
        .expect_err("unknown");
    assert_eq!(refused.code(), Code::Unimplemented);
}

/// Sends a message of another type than QueryJob has.
async fn query_with<M: prost::Message + 'static>(worker: &TestWorker, message: M) -> tonic::Status {
    let mut grpc = tonic::client::Grpc::new(worker.channel().await);
    grpc.ready().await.expect("ready");
    let answer = grpc.unary::<M, v1::QueryJobResponse, _>(
        tonic::Request::new(message),
        "/stockade.v1.Worker/QueryJob".parse().expect("path"),
        tonic_prost::ProstCodec::default(),
    );
    answer.await.expect_err("malformed")
}

#[tokio::test]
async fn what_cannot_be_decoded_is_an_invalid_argument() {
    let worker = TestWorker::start();
    // A number, and bytes that are no UTF-8, where the job's id should be.
    for refused in [
        query_with(&worker, 7_u64).await,
        query_with(&worker, vec![0xff_u8]).await,
    ] {
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(!refused.message().is_empty());
    }
}

#[tokio::test]
async fn a_thousand_calls_at_once_are_answered() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let id = start(&mut client, &["sleep"]).await;
    let calls = (0..3000).map(|_| {
        let mut client = client.clone();
        let request = v1::QueryJobRequest {
            job_id: id.to_string(),
        };
        async move { client.query_job(request).await.expect("query") }
    });
    futures_util::future::join_all(calls).await;
}
