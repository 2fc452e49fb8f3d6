use proptest::prelude::*;

use super::super::names::NATIVE_ARCH;
use super::super::{Call, call_number};
use super::*;

/// In the manner of Docker's own profile: every construct of the format, few calls.
const PROFILE: &str = r#"{
  "defaultAction": "SCMP_ACT_ERRNO",
  "defaultErrnoRet": 1,
  "archMap": [
    {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}
  ],
  "syscalls": [
    {"names": ["read", "write", "a_call_of_the_future"], "action": "SCMP_ACT_ALLOW"},
    {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
    {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
    {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
    {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
    {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
    {"names": ["mount", "setns"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]},
     "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}], "comment": "no namespace"},
    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
    {"name": "fcntl", "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 3, "op": "SCMP_CMP_EQ"}]},
    {"names": ["lseek"], "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_GE"}, {"index": 2, "value": 2, "op": "SCMP_CMP_LE"}]}
  ]
}"#;

fn decision(filter: &Filter, name: &str, arguments: &[u64]) -> Action {
    let mut call = Call {
        number: call_number(name).expect(name),
        arch: NATIVE_ARCH,
        arguments: [0; 6],
    };
    call.arguments[..arguments.len()].copy_from_slice(arguments);
    filter.decide(&call)
}

#[test]
fn entries_hold_for_a_job_without_capabilities() {
    let filter = parse(PROFILE).expect("well-formed");
    const REFUSED: Action = Action::Errno(1);
    for (name, arguments, action) in [
        ("read", &[][..], Action::Allow),
        ("ptrace", &[], Action::Allow),
        ("bpf", &[], REFUSED),
        ("mount", &[], REFUSED),
        ("arch_prctl", &[], REFUSED),
        ("socket", &[2], Action::Allow),
        ("socket", &[40], REFUSED),
        ("personality", &[8], Action::Allow),
        ("personality", &[4], REFUSED),
        ("clone", &[0x0001_0000], Action::Allow),
        ("clone", &[0x1000_0000], REFUSED),
        ("clone3", &[], Action::Errno(38)),
    ] {
        if call_number(name).is_some() {
            assert_eq!(decision(&filter, name, arguments), action, "{name} {arguments:?}");
        }
    }
}

#[test]
fn conditions_on_one_argument_are_alternatives_as_in_runc() {
    let filter = parse(PROFILE).expect("well-formed");
    for (arguments, action) in [
        ([0, 1, 0], Action::Allow),
        ([0, 3, 0], Action::Allow),
        ([0, 2, 0], Action::Errno(1)),
    ] {
        assert_eq!(decision(&filter, "fcntl", &arguments), action);
    }
    for (arguments, action) in [
        ([0, 5, 2], Action::Allow),
        ([0, 4, 2], Action::Errno(1)),
        ([0, 5, 3], Action::Errno(1)),
    ] {
        assert_eq!(decision(&filter, "lseek", &arguments), action);
    }
}

#[test]
fn of_several_entries_the_severest_decides() {
    let filter = parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["kill"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["kill"], "action": "SCMP_ACT_LOG"},
            {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]}
        ]}"#,
    )
    .expect("well-formed");
    assert_eq!(decision(&filter, "kill", &[1, 9]), Action::Kill);
    assert_eq!(decision(&filter, "kill", &[1, 15]), Action::Log);
    assert_eq!(decision(&filter, "read", &[]), Action::Allow);
}

#[test]
fn what_cannot_be_carried_out_is_refused() {
    let entry = |entry: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{entry}]}}"#);
    for text in [
        String::new(),
        "{}".to_owned(),
        r#"{"defaultAction": "SCMP_ACT_TRACE"}"#.to_owned(),
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}"#.to_owned(),
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#.to_owned(),
        entry(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#),
        entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#),
        entry(
            r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
        ),
        entry(
            r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_IN"}]}"#,
        ),
        entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"kernelConfig": "X"}}"#),
    ] {
        assert!(parse(&text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(at in 0..PROFILE.len(), length in 0..40_usize, noise in "[\\[\\]{}\",:0-9a-z-]{0,12}") {
        // The profile is ASCII, so every place is a boundary of characters.
        let end = (at + length).min(PROFILE.len());
        let text = format!("{}{noise}{}", &PROFILE[..at], &PROFILE[end..]);
        if let Ok(filter) = parse(&text) {
            let _ = filter.compile();
        }
    }
}
