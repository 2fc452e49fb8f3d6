use proptest::prelude::*;
use prost::Message;
use stockade::proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Client, TestWorker, command};

async fn refusal(client: &mut Client, request: v1::StartJobRequest) -> tonic::Status {
    client.start_job(request).await.expect_err("should be refused")
}

#[tokio::test]
async fn hostile_requests_are_refused_with_the_field() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let base = || command(&["bash"]);
    let limits = |limits| v1::StartJobRequest {
        limits: Some(limits),
        ..base()
    };
    let path = |path: &str| v1::StartJobRequest {
        path: path.into(),
        ..base()
    };
    for (request, field) in [
        (command(&[]), "argv"),
        (command(&["  "]), "argv[0]"),
        (command(&[&"x".repeat(1 << 20)]), "argv[0]"),
        (command(&["a"; 100_000]), "argv"),
        (command(&["a", &"x".repeat(200 << 10)]), "argv[1]"),
        (path("../../etc/passwd"), "path"),
        (path("/etc/shadow"), "path"),
        (path("a\0b"), "path"),
        (path("missing.sh"), "path"),
        (
            v1::StartJobRequest {
                stop_signal: "NOPE".into(),
                ..base()
            },
            "stop_signal",
        ),
        (
            v1::StartJobRequest {
                on_output_limit: 9,
                ..base()
            },
            "on_output_limit",
        ),
        (
            v1::StartJobRequest {
                network: "all".into(),
                ..base()
            },
            "network",
        ),
        (
            v1::StartJobRequest {
                grace_ms: Some(u64::MAX),
                ..base()
            },
            "grace_ms",
        ),
        (
            v1::StartJobRequest {
                idempotency_key: "k".repeat(300),
                ..base()
            },
            "idempotency_key",
        ),
        (
            v1::StartJobRequest {
                require: Some(v1::IsolationFloor {
                    namespaces: vec!["moon".into()],
                    ..Default::default()
                }),
                ..base()
            },
            "require.namespaces",
        ),
        (
            limits(v1::Limits {
                memory_bytes: 1,
                ..Default::default()
            }),
            "limits.memory_bytes",
        ),
        (
            limits(v1::Limits {
                wall_time_ms: 1 << 63,
                ..Default::default()
            }),
            "limits.wall_time_ms",
        ),
        (
            v1::StartJobRequest {
                labels: [("k".into(), "x\nERROR".into())].into(),
                ..base()
            },
            "labels[k]",
        ),
    ] {
        let refused = refusal(&mut client, request).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused}");
        let details = refused.get_details_bad_request().expect(field);
        assert_eq!(details.field_violations[0].field, field);
    }
    assert_eq!(worker.launcher.launches(), 0);
    let left = client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("list")
        .into_inner();
    assert!(left.jobs.is_empty());
}

#[tokio::test]
async fn a_policy_says_no_with_its_rule() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let greedy = v1::StartJobRequest {
        limits: Some(v1::Limits {
            memory_bytes: 1 << 49,
            ..Default::default()
        }),
        ..command(&["true"])
    };
    let refused = refusal(&mut client, greedy).await;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("memory"), "{}", refused.message());
    let unknown = v1::StartJobRequest {
        policy: "nope".into(),
        ..command(&["true"])
    };
    let refused = refusal(&mut client, unknown).await;
    assert!(
        matches!(refused.code(), Code::InvalidArgument | Code::PermissionDenied),
        "{refused}"
    );
}

#[tokio::test]
async fn scripts_of_the_folder_are_looked_at_before_the_job_is_taken() {
    let scripts = tempfile::tempdir().expect("tempdir");
    std::fs::write(scripts.path().join("a.sh"), "true").expect("write");
    nix::unistd::mkfifo(&scripts.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let folder = scripts.path().to_owned();
    let worker = TestWorker::start_with(|config| config.worker.scripts_dir = Some(folder));
    let mut client = worker.client().await;
    let path = |path: &str| v1::StartJobRequest {
        path: path.into(),
        ..command(&["true"])
    };
    client.start_job(path("a.sh")).await.expect("start");
    for bad in ["b.sh", "fifo", "."] {
        let refused = refusal(&mut client, path(bad)).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
        assert!(!refused.message().contains("/tmp"), "{}", refused.message());
    }
}

fn wire_request() -> impl Strategy<Value = v1::StartJobRequest> {
    let text = || prop_oneof![any::<String>(), "[a-z./\0 ]{0,8}", Just(String::new())];
    let map = || prop::collection::hash_map(text(), text(), 0..4);
    let file = (text(), any::<Vec<u8>>(), any::<u32>()).prop_map(|(path, content, mode)| v1::File {
        path,
        content,
        mode,
    });
    let limits = prop::option::of(
        prop::array::uniform9(prop_oneof![Just(0), any::<u64>()]).prop_map(
            |[
                memory_bytes,
                pids,
                cpu_millis,
                cpu_time_ms,
                wall_time_ms,
                output_bytes,
                disk_bytes,
                inodes,
                open_files,
            ]| {
                v1::Limits {
                    memory_bytes,
                    pids,
                    cpu_millis,
                    cpu_time_ms,
                    wall_time_ms,
                    output_bytes,
                    disk_bytes,
                    inodes,
                    open_files,
                }
            },
        ),
    );
    let words = || prop::collection::vec(text(), 0..4);
    (
        (
            words(),
            any::<Vec<u8>>(),
            text(),
            words(),
            map(),
            prop::collection::vec(file, 0..3),
        ),
        (any::<Vec<u8>>(), text(), text(), limits, map(), text()),
        (text(), any::<Option<u64>>(), any::<i32>(), text(), words()),
    )
        .prop_map(
            |(
                (argv, script, path, args, env, files),
                (stdin, working_dir, policy, limits, labels, idempotency_key),
                (stop_signal, grace_ms, on_output_limit, network, namespaces),
            )| v1::StartJobRequest {
                argv,
                script,
                path,
                args,
                env,
                files,
                stdin,
                working_dir,
                policy,
                limits,
                labels,
                idempotency_key,
                stop_signal,
                grace_ms,
                on_output_limit,
                network,
                require: Some(v1::IsolationFloor {
                    namespaces,
                    ..Default::default()
                }),
            },
        )
}

/// Whatever is sent, the answer is a job or a refusal of the documented kinds, and the worker goes on.
#[test]
fn arbitrary_requests_get_a_job_or_a_refusal() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let worker = TestWorker::start();
    let client = runtime.block_on(worker.client());
    let mut runner = proptest::test_runner::TestRunner::default();
    runner
        .run(&wire_request(), |request| {
            let mut client = client.clone();
            let answer = runtime.block_on(client.start_job(request));
            if let Err(refused) = answer {
                let known = matches!(
                    refused.code(),
                    Code::InvalidArgument
                        | Code::PermissionDenied
                        | Code::AlreadyExists
                        | Code::ResourceExhausted
                );
                prop_assert!(known, "{refused}");
                prop_assert!(refused.message().len() < 4096);
            }
            Ok(())
        })
        .expect("every answer is one of the documented ones");
    let mut client = client;
    runtime.block_on(async {
        client
            .get_worker(v1::GetWorkerRequest {})
            .await
            .expect("still there");
    });
}

proptest! {
    /// Bytes that are no message at all are refused by the decoder, and not by a panic.
    #[test]
    fn arbitrary_bytes_decode_or_do_not(bytes in any::<Vec<u8>>()) {
        if let Ok(request) = v1::StartJobRequest::decode(bytes.as_slice()) {
            prop_assert!(request.encoded_len() <= bytes.len() * 4 + 64);
        }
    }
}

/// What can be told before a job exists is told then; the launcher of these tests has landlock's ABI 5.
#[tokio::test]
async fn a_floor_that_is_out_of_reach_leaves_no_job() {
    let worker = TestWorker::start();
    let mut client = worker.client().await;
    let demanding = |policy: &str, require: v1::IsolationFloor| v1::StartJobRequest {
        policy: policy.into(),
        require: Some(require),
        ..command(&["true"])
    };
    for (policy, require, missing) in [
        (
            "default",
            v1::IsolationFloor {
                landlock_abi: 6,
                ..Default::default()
            },
            "landlock ABI 5 instead of 6",
        ),
        (
            "ci",
            v1::IsolationFloor {
                no_capabilities: true,
                ..Default::default()
            },
            "capability sets",
        ),
    ] {
        let status = refusal(&mut client, demanding(policy, require)).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().contains(missing), "{status:?}");
        assert!(status.message().contains(policy), "{status:?}");
    }
    let host_network = v1::StartJobRequest {
        network: "host".into(),
        ..demanding(
            "ci",
            v1::IsolationFloor {
                namespaces: vec!["net".into()],
                ..Default::default()
            },
        )
    };
    let status = refusal(&mut client, host_network).await;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(worker.launcher.launches(), 0);
    let listed = client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("list");
    assert!(listed.into_inner().jobs.is_empty());

    let within = v1::IsolationFloor {
        namespaces: vec!["user".into(), "net".into()],
        seccomp: true,
        landlock_abi: 5,
        no_capabilities: true,
        cgroup_limits: true,
    };
    client
        .start_job(demanding("default", within))
        .await
        .expect("within reach");
}
