//! Policy files: what they inherit, what they cannot change, and what is said of those that are wrong.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use stockade::job::{Identity, JobRequest, Network, OnOutputLimit, Root};
use stockade::policy::{Denial, PolicySet, Resolved, Site, Tenant};
use tempfile::TempDir;

/// A policies folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    }
    dir
}

fn load(files: &[(&str, &str)]) -> PolicySet {
    PolicySet::load(folder(files).path()).expect("well-formed policies")
}

/// The error of a folder, without the folder's own path.
fn refusal(files: &[(&str, &str)]) -> String {
    let dir = folder(files);
    let error = PolicySet::load(dir.path()).expect_err("refused").to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

fn request(policy: &str) -> JobRequest {
    JobRequest {
        argv: vec!["true".into()],
        policy: Some(policy.into()),
        ..JobRequest::default()
    }
}

fn resolve(set: &PolicySet, request: &JobRequest) -> Result<Resolved, Denial> {
    let site = Site {
        default_policy: "default".into(),
        scripts_dir: None,
    };
    set.resolve(request, &site, &Tenant { name: "t".into() })
}

fn resolved(set: &PolicySet, policy: &str) -> Resolved {
    resolve(set, &request(policy)).expect("a job")
}

#[test]
fn the_built_in_policies_are_there() {
    assert_eq!(PolicySet::built_in().names(), ["ci", "default", "strict"]);
    for name in PolicySet::built_in().names() {
        let set = PolicySet::built_in();
        let policy = set.get(&name).expect("there");
        assert_eq!(policy.name(), name);
        assert!(!policy.description().is_empty());
    }
}

#[test]
fn a_child_changes_what_it_says_and_inherits_the_rest() {
    let set = load(&[
        (
            "team.toml",
            "inherits = \"ci\"\n[limits]\nmemory = \"1G\"\n[environment]\nset = { TEAM = \"a\" }\n",
        ),
        (
            "small.toml",
            "inherits = \"team\"\n[limits]\npids = 9\n[sandbox]\nroot = \"read-only\"\n",
        ),
    ]);
    let job = resolved(&set, "small");
    assert_eq!((job.spec.limits.memory_bytes, job.spec.limits.pids), (1 << 30, 9));
    assert_eq!(job.spec.limits.cpu_millis, 2000, "of ci");
    assert_eq!(job.spec.limits.open_files, 65_536, "of ci");
    assert_eq!(
        (job.sandbox.root, job.sandbox.identity),
        (Root::ReadOnly, Identity::Root)
    );
    for word in ["TEAM=a", "CI=true"] {
        assert!(job.spec.env.iter().any(|other| other == word), "{word}");
    }
    assert_eq!(set.get("small").expect("there").description(), "", "not ci's");
}

#[test]
fn a_policy_that_inherits_nothing_starts_from_the_built_in_default() {
    let set = load(&[
        ("default.toml", "[limits]\nmemory = \"64M\"\n"),
        ("other.toml", ""),
    ]);
    assert_eq!(resolved(&set, "default").spec.limits.memory_bytes, 64 << 20);
    assert_eq!(resolved(&set, "default").spec.limits.pids, 128);
    assert_eq!(resolved(&set, "other").spec.limits.memory_bytes, 256 << 20);
    let set = load(&[
        ("default.toml", "[limits]\nmemory = \"64M\"\n"),
        ("other.toml", "inherits = \"default\""),
    ]);
    assert_eq!(resolved(&set, "other").spec.limits.memory_bytes, 64 << 20);
}

#[test]
fn lists_replace_lists() {
    let set = load(&[(
        "x.toml",
        "[sandbox]\netc = [\"localtime\", \"alternatives\", \"localtime\"]\n",
    )]);
    assert_eq!(resolved(&set, "x").sandbox.etc, ["alternatives", "localtime"]);
}

#[test]
fn a_default_above_the_maximum_is_cut_to_it() {
    let set = load(&[("x.toml", "[maximum]\nmemory = \"32M\"\n")]);
    assert_eq!(resolved(&set, "x").spec.limits.memory_bytes, 32 << 20);
}

#[test]
fn what_is_final_cannot_be_changed_further_down() {
    let strict = |text: &str| refusal(&[("x.toml", &format!("inherits = \"strict\"\n{text}"))]);
    for (text, place) in [
        (
            "[sandbox]\nfail_closed = false\n",
            "x.toml:3:1: sandbox.fail_closed",
        ),
        (
            "[sandbox]\nlandlock = \"best-effort\"\n",
            "x.toml:3:1: sandbox.landlock",
        ),
        (
            "[sandbox]\nlimits = \"best-effort\"\n",
            "x.toml:3:1: sandbox.limits",
        ),
        ("sandbox.seccomp = \"none\"\n", "x.toml:2:9: sandbox.seccomp"),
        (
            "[sandbox]\nhostname = \"h\"\nallow_network = [\"host\"]",
            "x.toml:4:1: sandbox.allow_network",
        ),
    ] {
        let message = strict(text);
        assert!(
            message.starts_with(place) && message.contains("final"),
            "{message}"
        );
    }
    let set = load(&[("x.toml", "inherits = \"strict\"\n[limits]\nmemory = \"100M\"\n")]);
    assert_eq!(resolved(&set, "x").spec.limits.memory_bytes, 100 << 20);
}

#[test]
fn final_closes_whole_tables_and_passes_on() {
    let parent = ("parent.toml", "final = [\"maximum\", \"mounts\"]\n");
    let child = ("child.toml", "inherits = \"parent\"\n");
    for text in [
        "[maximum]\nmemory = \"1T\"\n",
        "[[mounts]]\nsource = \"/opt\"\ntarget = \"/opt\"\n",
    ] {
        let text = format!("inherits = \"child\"\n{text}");
        let message = refusal(&[parent, child, ("grandchild.toml", &text)]);
        assert!(message.starts_with("grandchild.toml:2:"), "{message}");
    }
    let message = refusal(&[("x.toml", "final = [\"sandbox.netwrok\"]")]);
    assert!(message.starts_with("x.toml:1:1: final"), "{message}");
}

#[test]
fn fail_closed_allows_nothing_weaker() {
    for (text, key) in [
        ("landlock = \"best-effort\"", "sandbox.landlock"),
        (
            "landlock = \"require\"\nlimits = \"best-effort\"",
            "sandbox.limits",
        ),
        ("landlock = \"require\"\nseccomp = \"none\"", "sandbox.seccomp"),
    ] {
        let message = refusal(&[("x.toml", &format!("[sandbox]\nfail_closed = true\n{text}\n"))]);
        assert!(
            message.contains(key) && message.contains("fail_closed"),
            "{message}"
        );
    }
    let set = load(&[("x.toml", "[sandbox]\nseccomp = \"none\"\n")]);
    assert!(resolved(&set, "x").sandbox.seccomp.is_none());
}

#[test]
fn chains_that_lead_nowhere_are_refused() {
    let of = |name: &str| format!("inherits = \"{name}\"");
    let message = refusal(&[("a.toml", &of("b")), ("b.toml", &of("c")), ("c.toml", &of("a"))]);
    assert!(message.contains("a circle: a -> b -> c -> a"), "{message}");
    assert!(refusal(&[("a.toml", &of("a"))]).starts_with("a.toml:1:1: inherits: a circle"));
    assert!(refusal(&[("a.toml", &of("absent"))]).contains("there is no policy \"absent\""));
    let names: Vec<String> = (0..9).map(|n| format!("p{n}.toml")).collect();
    let texts: Vec<String> = (0..9)
        .map(|n| {
            if n == 8 {
                String::new()
            } else {
                of(&format!("p{}", n + 1))
            }
        })
        .collect();
    let long: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    assert!(refusal(&long).contains("more than 8"));
    load(&long[1..]);
}

#[test]
fn errors_name_file_line_and_column() {
    for (text, start) in [
        ("limits = 1", "x.toml:1:10: "),
        ("[limits]\nmemry = \"1M\"", "x.toml:2:1: unknown field `memry`"),
        ("[limits]\nmemory = \"1Q\"", "x.toml:2:10: \"1Q\" is not a size"),
        ("[limits]\npids = -1", "x.toml:2:8: "),
        (
            "[limits]\nmemory = \"1K\"",
            "x.toml:2:1: limits.memory: less than 1M",
        ),
        (
            "[maximum]\ncpus = 100000",
            "x.toml:2:1: maximum.cpus: more than 8192",
        ),
        (
            "[maximum]\nwall_time = \"99999999999d\"",
            "x.toml:2:1: maximum.wall_time: more than 36500d",
        ),
        ("inherits = \"../x\"", "x.toml:1:12: \"../x\" is not a name"),
        (
            "[sandbox]\nnetwork = \"bridge\"",
            "x.toml:2:11: unknown variant `bridge`",
        ),
        (
            "[sandbox]\nnetwork = \"host\"",
            "x.toml:1:2: sandbox.allow_network",
        ),
        (
            "[sandbox]\nseccomp = \"absent\"",
            "x.toml:2:1: sandbox.seccomp: there is no seccomp profile",
        ),
        (
            "[sandbox]\netc = [\"localtime\",\n\"shadow\"]",
            "x.toml:2:7: \"shadow\" would copy",
        ),
        ("[sandbox]\nhostname = \"a b\"", "x.toml:2:12: "),
        ("[stop]\nsignal = \"TERMINATE\"", "x.toml:2:10: not a signal"),
        (
            "[stop]\ngrace = \"25h\"",
            "x.toml:2:1: stop.grace: more than a day",
        ),
        ("[environment]\nset = { \"A=B\" = \"\" }", "x.toml:2:"),
        (
            "[environment]\nset = { A = \"\\u0000\" }",
            "x.toml:2:9: environment.set.A",
        ),
        ("[environment]\nallow = [\"*X\"]", "x.toml:2:9: "),
        (
            "[[mounts]]\nsource = \"/opt\"\ntarget = \"/proc/x\"",
            "x.toml:3:1: mounts[0].target: lies in /proc",
        ),
        (
            "[[mounts]]\nsource = \"/proc/1\"\ntarget = \"/x\"",
            "x.toml:2:1: mounts[0].source: lies in /proc",
        ),
        (
            "[[mounts]]\nsource = \"/\"\ntarget = \"/x\"",
            "x.toml:2:1: mounts[0].source: is the root",
        ),
        (
            "[[mounts]]\nsource = \"a\"\ntarget = \"/x\"",
            "x.toml:2:1: mounts[0].source: not an absolute",
        ),
        (
            "[[mounts]]\nsource = \"/a\"\ntarget = \"/x/../etc\"",
            "x.toml:3:1: mounts[0].target: not an absolute",
        ),
        ("a = [", "x.toml:1:"),
    ] {
        let message = refusal(&[("x.toml", text)]);
        assert!(message.starts_with(start), "{text:?}: {message}");
    }
}

#[test]
fn files_that_are_no_policies_are_refused_or_passed_over() {
    assert!(refusal(&[("Upper.toml", "")]).contains("is not a name"));
    let set = load(&[
        (".hidden.toml", "= ="),
        ("x.toml~", "= ="),
        ("README", "= ="),
        ("x.toml", ""),
    ]);
    assert_eq!(set.names(), ["ci", "default", "strict", "x"]);
    let dir = folder(&[("real.txt", "")]);
    symlink(dir.path().join("real.txt"), dir.path().join("x.toml")).expect("symlink");
    let message = PolicySet::load(dir.path()).expect_err("a link").to_string();
    assert!(message.contains("symbolic link"), "{message}");
    assert!(PolicySet::load(Path::new("/nonexistent/policies")).is_err());
}

#[test]
fn mounts_and_stop_reach_the_job() {
    let text = "[[mounts]]\nsource = \"/srv/data\"\ntarget = \"/data\"\n\
                [stop]\nsignal = \"INT\"\ngrace = 1.5\non_output_limit = \"kill\"\n";
    let job = resolved(&load(&[("x.toml", text)]), "x");
    assert_eq!(job.sandbox.mounts.len(), 1);
    assert_eq!(job.sandbox.mounts[0].target, PathBuf::from("/data"));
    assert_eq!((job.spec.stop_signal.number(), job.spec.grace_ms), (2, 1500));
    assert_eq!(job.spec.on_output_limit, OnOutputLimit::Kill);
}

fn rule(set: &PolicySet, request: &JobRequest) -> String {
    match resolve(set, request) {
        Err(Denial::Forbidden { policy, rule, .. }) => format!("{policy} {rule}"),
        other => panic!("not forbidden: {other:?}"),
    }
}

#[test]
fn listed_commands_are_the_only_ones() {
    let set = load(&[(
        "x.toml",
        "commands = [\"bash\", \"/usr/bin/py*\", \"/scripts/*\"]",
    )]);
    let with = |command: &str| JobRequest {
        argv: vec![command.into()],
        ..request("x")
    };
    for command in ["bash", "/usr/bin/python3"] {
        assert_eq!(resolve(&set, &with(command)).expect(command).spec.argv, [command]);
    }
    for command in ["sh", "/bin/bash", "python3", "bash "] {
        assert_eq!(rule(&set, &with(command)), "x commands", "{command}");
    }
    let script = JobRequest {
        argv: Vec::new(),
        script: Some(stockade::job::Blob(b"#!/bin/bash\n".to_vec())),
        ..request("x")
    };
    assert_eq!(
        rule(&set, &script),
        "x commands",
        "a script that was sent is not listed"
    );
}

#[test]
fn variables_need_a_pattern_that_allows_them() {
    let set = load(&[(
        "x.toml",
        "[environment]\nallow = [\"CI_*\", \"LANG\"]\ndeny = [\"CI_SECRET*\"]\n",
    )]);
    let with = |name: &str| {
        let mut request = request("x");
        request.env.insert(name.into(), "hush".into());
        request
    };
    for name in ["CI_JOB", "LANG"] {
        assert!(resolve(&set, &with(name)).is_ok(), "{name}");
    }
    assert_eq!(rule(&set, &with("PATH")), "x environment.allow");
    assert_eq!(rule(&set, &with("CI_SECRET_1")), "x environment.deny");
    let message = resolve(&set, &with("PATH")).expect_err("forbidden").to_string();
    assert!(!message.contains("hush"), "{message}");
}

#[test]
fn what_show_prints_is_a_policy_file_and_what_the_hash_is_of() {
    let set = PolicySet::built_in();
    for name in set.names() {
        let shown = set.get(&name).expect("there");
        assert_eq!(
            shown.hash(),
            format!("{:x}", Hex(Sha256::digest(shown.to_toml()).to_vec()))
        );
        assert_eq!(resolved(&set, &name).policy_hash, shown.hash());
        let copy = load(&[("copy.toml", shown.to_toml())]);
        let body = |text: &str| {
            text.lines()
                .filter(|line| !line.starts_with("# policy "))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(
            body(copy.get("copy").expect("there").to_toml()),
            body(shown.to_toml())
        );
    }
}

struct Hex(Vec<u8>);

impl std::fmt::LowerHex for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

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

#[test]
fn every_network_that_is_listed_can_be_asked_for() {
    let set = load(&[(
        "x.toml",
        "[sandbox]\nnetwork = \"host\"\nallow_network = [\"host\"]\n",
    )]);
    assert_eq!(resolved(&set, "x").sandbox.network, Network::Host);
    let none = JobRequest {
        network: Some(Network::None),
        ..request("x")
    };
    assert_eq!(rule(&set, &none), "x sandbox.allow_network");
}
