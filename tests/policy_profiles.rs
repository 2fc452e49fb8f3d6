//! Seccomp profiles of a policies folder, in both forms.

mod policy_support;

use policy_support::{folder, load, refusal, resolved};
use stockade::policy::PolicySet;

const PROFILE: &str = r#"
description = "No sockets at all"
extends = "default"
[[rule]]
reason = "Nobody to talk to"
action = "EACCES"
calls = ["socket", "connect"]
"#;

#[test]
fn a_profile_of_the_folder_can_extend_and_replace() {
    let own = load(&[
        ("x.toml", "[sandbox]\nseccomp = \"quiet\"\n"),
        ("seccomp/quiet.toml", PROFILE),
    ]);
    let filter = |set: &PolicySet| resolved(set, "x").sandbox.seccomp.clone().expect("a filter");
    assert_eq!(filter(&own).name, "quiet");
    assert_eq!(filter(&own).default_action, "ERRNO(ENOSYS)");
    let other = PROFILE.replace("\"connect\"", "\"bind\"");
    let changed = load(&[
        ("x.toml", "[sandbox]\nseccomp = \"quiet\"\n"),
        ("seccomp/quiet.toml", &other),
    ]);
    assert_ne!(filter(&own).hash, filter(&changed).hash);
    assert_ne!(
        resolved(&own, "x").policy_hash,
        resolved(&changed, "x").policy_hash,
        "the policy's hash covers the filter"
    );
}

#[test]
fn profiles_that_are_wrong_say_where() {
    for (text, start) in [
        (
            PROFILE.replace("EACCES", "EACCESS"),
            "seccomp/q.toml:6:10: \"EACCESS\" is no action",
        ),
        (
            PROFILE.replace("\"connect\"", "\"conect\""),
            "seccomp/q.toml:7:9: \"conect\" is no system call",
        ),
        (
            PROFILE.replace("Nobody to talk to", " "),
            "seccomp/q.toml:5:1: rule[0].reason: is empty",
        ),
        (
            PROFILE.replace("[\"socket\", \"connect\"]", "[]"),
            "seccomp/q.toml:7:1: rule[0].calls: is empty",
        ),
        (
            PROFILE.replace("extends = \"default\"", ""),
            "seccomp/q.toml: default: is nowhere set",
        ),
        (
            PROFILE.replace("\"default\"", "\"absent\""),
            "seccomp/q.toml:3:1: extends: there is no profile",
        ),
        (
            PROFILE.replace("\"default\"", "\"q\""),
            "seccomp/q.toml:3:1: extends: a circle",
        ),
        (
            format!("{PROFILE}[[rule.when]]\narg = 6\neq = 1\n"),
            "seccomp/q.toml:8:1: rule[0].when[0]: arg",
        ),
        (
            format!("{PROFILE}[[rule.when]]\narg = 0\n"),
            "seccomp/q.toml:8:1: rule[0].when[0]: needs one of",
        ),
        (
            format!("{PROFILE}[[rule.when]]\narg = 0\neq = 1\nne = 2\n"),
            "seccomp/q.toml:8:1: rule[0].when[0]: needs",
        ),
        (
            format!("{PROFILE}[[rule.when]]\narg = 0\nmask = 1\neq = 2\n"),
            "seccomp/q.toml:8:1: rule[0].when[0]: the value",
        ),
        (
            format!("{PROFILE}[[rule.when]]\narg = 0\nin = []\n"),
            "seccomp/q.toml:8:1: rule[0].when[0]: in holds",
        ),
    ] {
        let dir = folder(&[("seccomp/q.toml", text.as_str())]);
        let error = PolicySet::check_file(&dir.path().join("seccomp/q.toml"))
            .expect_err(&text)
            .to_string();
        let error = error.replace(&format!("{}/", dir.path().display()), "");
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn a_docker_profile_can_be_used() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [{"names": ["read", "write", "exit_group", "rt_sigreturn"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let policy = "[sandbox]\nseccomp = \"docker\"\n";
    let set = load(&[("x.toml", policy), ("seccomp/docker.json", json)]);
    let filter = resolved(&set, "x").sandbox.seccomp.clone().expect("a filter");
    assert_eq!(
        (filter.name.as_str(), filter.default_action.as_str()),
        ("docker", "ERRNO(ENOSYS)")
    );
    let broken = json.replace("\"names\"", "\"nmaes\"");
    let message = refusal(&[("x.toml", policy), ("seccomp/docker.json", &broken)]);
    assert!(message.starts_with("seccomp/docker.json:4:"), "{message}");
    let twins = refusal(&[("seccomp/d.json", json), ("seccomp/d.toml", PROFILE)]);
    assert!(twins.contains("a .toml and a .json"), "{twins}");
}

#[test]
fn check_finds_ancestors_and_profiles_beside_the_file() {
    let dir = folder(&[
        ("parent.toml", "[sandbox]\nseccomp = \"quiet\"\n"),
        ("child.toml", "inherits = \"parent\""),
        ("broken.toml", "inherits = 1"),
        ("seccomp/quiet.toml", PROFILE),
    ]);
    let check = |name: &str| PolicySet::check_file(&dir.path().join(name));
    check("child.toml").expect("its ancestors are well-formed");
    check("seccomp/quiet.toml").expect("a profile");
    assert!(check("broken.toml").is_err());
    assert!(check("absent.toml").is_err());
}
