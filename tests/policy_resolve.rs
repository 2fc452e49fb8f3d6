//! A request and a policy give one explicit job, or the rule that forbids it.

use std::path::PathBuf;
use std::sync::Arc;

use stockade::isolation::layout;
use stockade::job::{
    Blob, Enforcement, Identity, JobRequest, LandlockMode, Limit, Network, OnOutputLimit, Proc, Root, Signal,
};
use stockade::policy::{Denial, PolicySet, Resolved, Site, Tenant};

fn site() -> Site {
    Site {
        default_policy: "default".into(),
        scripts_dir: Some(PathBuf::from("/srv/scripts")),
    }
}

fn request(argv: &[&str]) -> JobRequest {
    JobRequest {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        ..JobRequest::default()
    }
}

fn resolve_at(request: &JobRequest, site: &Site) -> Result<Resolved, Denial> {
    let tenant = Tenant { name: "t".into() };
    PolicySet::built_in().resolve(request, site, &tenant)
}

fn resolved(request: &JobRequest) -> Resolved {
    resolve_at(request, &site()).expect("a job")
}

fn with_policy(name: &str) -> JobRequest {
    JobRequest {
        policy: Some(name.into()),
        ..request(&["true"])
    }
}

#[test]
fn a_request_that_says_nothing_gets_the_default_policy() {
    let Resolved {
        policy,
        policy_hash,
        spec,
        sandbox,
    } = resolved(&request(&["echo", "hi"]));
    assert_eq!((policy.as_str(), policy_hash.len()), ("default", 64));
    assert_eq!(spec.argv, ["echo", "hi"]);
    assert_eq!(spec.working_dir, layout::WORKSPACE);
    let limits = spec.limits;
    assert_eq!(
        Limit::ALL.map(|limit| limits.get(limit)),
        [
            256 << 20,
            128,
            1000,
            600_000,
            3_600_000,
            64 << 20,
            256 << 20,
            65_536,
            1024
        ]
    );
    assert_eq!(
        (spec.stop_signal, spec.grace_ms, spec.on_output_limit),
        (Signal::TERM, 10_000, OnOutputLimit::Truncate)
    );
    assert_eq!(
        (sandbox.root, sandbox.proc, sandbox.network, sandbox.identity),
        (
            Root::ReadOnly,
            Proc::Masked,
            Network::None,
            Identity::Unprivileged
        )
    );
    assert_eq!(
        (sandbox.landlock, sandbox.limits),
        (LandlockMode::BestEffort, Enforcement::FailClosed)
    );
    let seccomp = sandbox.seccomp.as_ref().expect("a filter");
    assert_eq!(
        (
            seccomp.name.as_str(),
            seccomp.default_action.as_str(),
            seccomp.hash.len()
        ),
        ("default", "ERRNO(ENOSYS)", 64)
    );
    assert_eq!(sandbox.mounts.len(), 1, "the scripts folder");
    assert_eq!(sandbox.mounts[0].target, PathBuf::from(layout::SCRIPTS));
}

#[test]
fn the_argument_vector_is_put_together() {
    let script = Some(Blob(b"#!/bin/sh\n".to_vec()));
    let with = |argv: &[&str], script: Option<Blob>, path: Option<&str>| {
        let request = JobRequest {
            script,
            path: path.map(str::to_owned),
            args: vec!["a".into(), "-b".into()],
            ..request(argv)
        };
        resolved(&request).spec.argv
    };
    assert_eq!(with(&["sh", "-e"], None, None), ["sh", "-e", "a", "-b"]);
    assert_eq!(
        with(&["sh"], script.clone(), None),
        ["sh", layout::SCRIPT, "a", "-b"]
    );
    assert_eq!(with(&[], script, None), [layout::SCRIPT, "a", "-b"]);
    assert_eq!(
        with(&["sh"], None, Some("x y.sh")),
        ["sh", "/scripts/x y.sh", "a", "-b"]
    );
    assert_eq!(with(&[], None, Some("d/x")), ["/scripts/d/x", "a", "-b"]);
}

#[test]
fn the_environment_is_the_policys_then_the_requests() {
    let mut request = with_policy("ci");
    request.env.insert("LANG".into(), "de_DE.UTF-8".into());
    request.env.insert("X".into(), "a=b".into());
    let env = resolved(&request).spec.env;
    for word in [
        "LANG=de_DE.UTF-8",
        "X=a=b",
        "CI=true",
        "USER=root",
        "TMPDIR=/tmp",
        "HOME=/workspace",
    ] {
        assert_eq!(env.iter().filter(|other| *other == word).count(), 1, "{word}");
    }
    assert!(env.contains(&format!("PATH={}", layout::DEFAULT_PATH)));
    assert_eq!(env.iter().filter(|word| word.starts_with("LANG=")).count(), 1);
    let unprivileged = resolved(&with_policy("default")).spec.env;
    assert!(unprivileged.contains(&format!("LOGNAME={}", layout::USER)));
}

#[test]
fn the_working_directory_becomes_absolute() {
    for (given, becomes) in [
        ("sub/dir", "/workspace/sub/dir"),
        ("/tmp", "/tmp"),
        (".", "/workspace/."),
    ] {
        let request = JobRequest {
            working_dir: Some(given.into()),
            ..request(&["true"])
        };
        assert_eq!(resolved(&request).spec.working_dir, becomes);
    }
}

#[test]
fn a_request_can_choose_within_the_maxima() {
    let mut asked = request(&["true"]);
    asked.limits.set(Limit::Memory, Some(1 << 30));
    asked.limits.set(Limit::Pids, Some(7));
    asked.stop_signal = Some(Signal::KILL);
    asked.grace_ms = Some(0);
    asked.on_output_limit = Some(OnOutputLimit::Kill);
    let spec = resolved(&asked).spec;
    assert_eq!((spec.limits.memory_bytes, spec.limits.pids), (1 << 30, 7));
    assert_eq!(spec.limits.open_files, 1024);
    assert_eq!(
        (spec.stop_signal, spec.grace_ms, spec.on_output_limit),
        (Signal::KILL, 0, OnOutputLimit::Kill)
    );
}

fn forbidden(request: &JobRequest) -> (String, String) {
    match resolve_at(request, &site()) {
        Err(Denial::Forbidden { rule, reason, .. }) => (rule, reason),
        other => panic!("not forbidden: {other:?}"),
    }
}

#[test]
fn every_limit_has_a_maximum_that_names_itself() {
    let keys = [
        "memory",
        "pids",
        "cpus",
        "cpu_time",
        "wall_time",
        "output",
        "disk",
        "inodes",
        "open_files",
    ];
    for (limit, key) in Limit::ALL.into_iter().zip(keys) {
        let mut asked = with_policy("strict");
        asked.limits.set(limit, Some(limit.largest()));
        assert_eq!(forbidden(&asked).0, format!("maximum.{key}"));
    }
    let mut asked = with_policy("strict");
    asked.limits.set(Limit::Memory, Some((1 << 30) + 1));
    let denial = resolve_at(&asked, &site()).expect_err("forbidden").to_string();
    assert_eq!(
        denial,
        "policy strict: maximum.memory: 1073741825 is more than 512M"
    );
}

#[test]
fn a_network_that_is_not_listed_is_forbidden() {
    let host = |policy| JobRequest {
        network: Some(Network::Host),
        ..with_policy(policy)
    };
    assert_eq!(forbidden(&host("default")).0, "sandbox.allow_network");
    assert_eq!(forbidden(&host("strict")).0, "sandbox.allow_network");
    assert_eq!(resolved(&host("ci")).sandbox.network, Network::Host);
    assert_eq!(resolved(&with_policy("ci")).sandbox.network, Network::None);
}

#[test]
fn what_no_policy_could_allow_is_invalid() {
    let invalid = |request: &JobRequest, site: &Site| match resolve_at(request, site) {
        Err(Denial::Invalid(invalid)) => invalid.field,
        other => panic!("not invalid: {other:?}"),
    };
    assert_eq!(invalid(&with_policy("absent"), &site()), "policy");
    assert_eq!(invalid(&with_policy("../default"), &site()), "policy");
    assert_eq!(invalid(&request(&[]), &site()), "argv");
    let no_scripts = Site {
        scripts_dir: None,
        ..site()
    };
    let by_path = JobRequest {
        path: Some("x.sh".into()),
        ..request(&["sh"])
    };
    assert_eq!(invalid(&by_path, &no_scripts), "path");
}

#[test]
fn jobs_of_equal_sandboxes_share_one() {
    let set = PolicySet::built_in();
    let tenant = Tenant { name: "t".into() };
    let sandbox =
        |request: &JobRequest, site: &Site| set.resolve(request, site, &tenant).expect("a job").sandbox;
    let host = JobRequest {
        network: Some(Network::Host),
        ..with_policy("ci")
    };
    let elsewhere = Site {
        scripts_dir: None,
        ..site()
    };
    let first = sandbox(&with_policy("ci"), &site());
    assert!(Arc::ptr_eq(&first, &sandbox(&with_policy("ci"), &site())));
    assert_ne!(first, sandbox(&host, &site()));
    let moved = sandbox(&with_policy("ci"), &elsewhere);
    assert!(moved.mounts.is_empty() && !first.mounts.is_empty());
}

#[test]
fn the_strict_policy_asks_for_every_layer() {
    let sandbox = resolved(&with_policy("strict")).sandbox;
    assert_eq!(
        (sandbox.landlock, sandbox.limits, sandbox.network),
        (LandlockMode::Require, Enforcement::FailClosed, Network::None)
    );
    assert!(sandbox.seccomp.is_some());
}
