//! Policy files: what reaches a job from them, and what is said of those that are wrong.

mod policy_support;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use policy_support::{folder, load, refusal, request, resolve, resolved, rule};
use sha2::{Digest, Sha256};
use stockade::job::{JobRequest, Network, OnOutputLimit};
use stockade::policy::PolicySet;

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
            "[sandbox]\nroot = \"writable\"",
            "x.toml:2:1: sandbox.root: \"writable\" needs sandbox.identity",
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
        ("[stop]\nsignal = 65", "x.toml:2:10: not a signal"),
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

/// The examples of the format's description are well-formed, and the first has every key.
#[test]
fn the_description_is_right() {
    let text = include_str!("../docs/policies.md");
    let mut examples = text
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("an end"));
    let (policy, profile) = (
        examples.next().expect("a policy"),
        examples.next().expect("a profile"),
    );
    let set = load(&[("example.toml", policy), ("seccomp/example.toml", profile)]);
    let all = set
        .get("example")
        .expect("there")
        .to_toml()
        .parse::<toml::Table>()
        .expect("TOML");
    let example = policy.parse::<toml::Table>().expect("TOML");
    for (key, value) in &all {
        let own = example
            .get(key)
            .unwrap_or_else(|| panic!("the example lacks {key}"));
        for inner in value.as_table().iter().flat_map(|table| table.keys()) {
            assert!(own.get(inner).is_some(), "the example lacks {key}.{inner}");
        }
    }
}
