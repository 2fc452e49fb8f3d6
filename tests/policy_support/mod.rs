//! What the tests of policies share. Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod filter;

use stockade::job::JobRequest;
use stockade::policy::{Denial, PolicySet, Resolved, Site, Tenant};
use tempfile::TempDir;

/// A policies folder with these files.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    }
    dir
}

pub fn load(files: &[(&str, &str)]) -> PolicySet {
    PolicySet::load(folder(files).path()).expect("well-formed policies")
}

/// The error of a folder, without the folder's own path.
pub fn refusal(files: &[(&str, &str)]) -> String {
    let dir = folder(files);
    let error = PolicySet::load(dir.path()).expect_err("refused").to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

pub fn request(policy: &str) -> JobRequest {
    JobRequest {
        argv: vec!["true".into()],
        policy: Some(policy.into()),
        ..JobRequest::default()
    }
}

pub fn resolve(set: &PolicySet, request: &JobRequest) -> Result<Resolved, Denial> {
    let site = Site {
        default_policy: "default".into(),
        scripts_dir: None,
    };
    set.resolve(request, &site, &Tenant { name: "t".into() })
}

pub fn resolved(set: &PolicySet, policy: &str) -> Resolved {
    resolve(set, &request(policy)).expect("a job")
}

/// The policy and its rule that forbid `request`.
pub fn rule(set: &PolicySet, request: &JobRequest) -> String {
    match resolve(set, request) {
        Err(Denial::Forbidden { policy, rule, .. }) => format!("{policy} {rule}"),
        other => panic!("not forbidden: {other:?}"),
    }
}
