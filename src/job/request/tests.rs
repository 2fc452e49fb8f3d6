use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;

fn request(argv: &[&str]) -> JobRequest {
    JobRequest {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        ..JobRequest::default()
    }
}

fn refused_field(request: &JobRequest) -> String {
    request.check().expect_err("should be refused").field
}

#[test]
fn an_ordinary_request_passes() {
    let mut request = request(&["sh", "-c", "; rm -rf / $(id)"]);
    request.env.insert("A".into(), "b=c\n".into());
    request.labels.insert("team/name".into(), "grün".into());
    request.limits.memory_bytes = Some(1 << 28);
    assert_eq!(request.check(), Ok(()));
}

#[test]
fn paths_that_climb_or_name_no_file_are_refused() {
    let long = "a/".repeat(3000) + "b";
    let wide = "a".repeat(256);
    for path in [
        "../../etc/passwd",
        "a/../../b",
        "./../x",
        "/etc/shadow",
        "",
        " ",
        ".",
        "/",
        "a/",
        "a\0b",
        &long,
        &wide,
    ] {
        let request = JobRequest {
            path: Some(path.to_owned()),
            ..request(&["bash"])
        };
        assert_eq!(refused_field(&request), "path", "{path:?}");
    }
}

#[test]
fn commands_out_of_bounds_are_refused() {
    assert_eq!(refused_field(&request(&[])), "argv");
    assert_eq!(refused_field(&request(&["  "])), "argv[0]");
    assert_eq!(refused_field(&request(&[&"x".repeat(1 << 20)])), "argv[0]");
    assert_eq!(refused_field(&request(&["a", &"x".repeat(200 << 10)])), "argv[1]");
    assert_eq!(refused_field(&request(&["a"; 100_000])), "argv");
    assert_eq!(refused_field(&request(&["a\0b"])), "argv[0]");
}

#[test]
fn a_script_without_command_needs_an_interpreter_line() {
    let mut request = JobRequest {
        script: Some(Blob(b"echo hi".to_vec())),
        ..request(&[])
    };
    assert_eq!(refused_field(&request), "argv");
    request.script = Some(Blob(b"#!/bin/sh\necho hi".to_vec()));
    assert_eq!(request.check(), Ok(()));
}

#[test]
fn limits_out_of_range_are_refused() {
    for (limit, value) in [
        (Limit::Memory, 4096),
        (Limit::WallTime, u64::MAX),
        (Limit::Cpu, 1),
        (Limit::Pids, 1 << 62),
    ] {
        let mut request = request(&["true"]);
        request.limits.set(limit, Some(value));
        assert_eq!(refused_field(&request), format!("limits.{}", limit.field()));
    }
}

#[test]
fn labels_cannot_forge_a_log_line() {
    for (key, value) in [
        ("a b", "c"),
        ("", "c"),
        ("k", "x\nERROR y"),
        ("k", "\u{202e}x"),
        ("k\u{1b}[31m", "c"),
    ] {
        let mut request = request(&["true"]);
        request.labels.insert(key.into(), value.into());
        assert!(refused_field(&request).starts_with("labels"), "{key:?} {value:?}");
    }
}

#[test]
fn what_is_large_is_bounded_together() {
    let mut request = request(&["sh"]);
    let half = bounds::REQUEST_BYTES / 2;
    request.stdin = Some(Blob(vec![0; half - 64]));
    request.script = Some(Blob(vec![0; half - 64]));
    assert_eq!(request.check(), Ok(()));
    request.files = vec![InputFile {
        path: "f".into(),
        content: Blob(vec![0; 256]),
        mode: 0o644,
    }];
    let refused = request.check().expect_err("too much");
    assert!(refused.reason.contains("whole request"), "{refused}");
    request.script = Some(Blob(vec![0; bounds::REQUEST_BYTES]));
    assert_eq!(refused_field(&request), "script");
}

#[test]
fn many_files_with_long_names_are_checked_at_once() {
    let mut request = request(&["sh"]);
    let folder = format!("{}/", "d".repeat(250)).repeat(15);
    request.files = (0..bounds::FILES)
        .map(|n| InputFile {
            path: format!("{folder}{n}"),
            content: Blob::default(),
            mode: 0o644,
        })
        .collect();
    // Of this thread alone: other tests run meanwhile.
    let cpu_time = |check: &dyn Fn()| {
        let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time");
        let before = now();
        check();
        now() - before
    };
    let together = cpu_time(&|| assert_eq!(request.check(), Ok(())));
    let apart = cpu_time(&|| {
        for file in &request.files {
            check_relative_path("files", &file.path).expect("a path");
        }
    });
    assert!(together < 8 * apart, "{together:?}, one by one {apart:?}");
    request.files[1] = request.files[0].clone();
    assert_eq!(refused_field(&request), "files[1].path");
}

#[test]
fn debug_shows_no_secret() {
    let mut request = request(&["sh", "-c", "hush"]);
    request.env.insert("TOKEN".into(), "hush".into());
    request.script = Some(Blob(b"hush".to_vec()));
    assert!(!format!("{request:?}").contains("hush"));
}
