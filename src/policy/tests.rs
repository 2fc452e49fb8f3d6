//! No text that an operator could write makes this module panic, and what it accepts can be resolved.

use std::path::Path;

use proptest::prelude::*;

use super::document::Document;
use super::inherit::Source;
use super::library::Library;
use super::seccomp::{self, Profiles};
use super::{Policy, PolicySet, Site};
use crate::job::JobRequest;

const POLICY: &str = include_str!("../../policies/default.toml");
const PROFILE: &str = include_str!("../../policies/seccomp/default.toml");

/// `text` with a piece of it replaced by noise or by another piece.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    let places = (0..text.len(), 0..60_usize, 0..text.len(), 0..60_usize);
    (places, "[\\[\\]{}\"'=,.#\n0-9a-zA-Z_*/-]{0,8}", any::<bool>()).prop_map(
        move |((at, cut, from, copied), noise, copy)| {
            let bytes = text.as_bytes();
            let piece = |start: usize, length: usize| &bytes[start..(start + length).min(bytes.len())];
            let filling = if copy {
                piece(from, copied)
            } else {
                noise.as_bytes()
            };
            let rest = &bytes[(at + cut).min(bytes.len())..];
            String::from_utf8_lossy(&[&bytes[..at], filling, rest].concat()).into_owned()
        },
    )
}

fn document(text: &str) -> Document {
    Document::new(Path::new("x.toml"), text.to_owned())
}

#[test]
fn built_in_policies_are_what_their_files_say_now() {
    let library = Library::built_in().expect("well-formed");
    let set = PolicySet::built_in();
    assert_eq!(set.names(), ["ci", "default", "strict"]);
    for name in set.names() {
        let compiled = Policy::compile(&name, &library).expect("well-formed");
        let bytes = |policy| postcard::to_stdvec(policy).expect("encoded");
        let built_in = set.get(&name).expect("there");
        assert_eq!(bytes(built_in), bytes(&compiled), "{name}");
    }
    // The filters among it were not compiled again.
    let profiles = Profiles::default();
    for file in &seccomp::BUILT_IN {
        let [built_in, compiled] = [profiles.compiled(file.name), profiles.compile(file.name)]
            .map(|profile| profile.expect("there").expect("well-formed"));
        assert_eq!(built_in, compiled, "{}", file.name);
    }
}

#[test]
fn a_profile_extends_those_of_files_rather_than_built_in_ones() {
    let dir = tempfile::tempdir().expect("tempdir");
    let default = dir.path().join("default.toml");
    std::fs::write(
        &default,
        "description = \"x\"\ndefault = \"kill\"\n[[rule]]\naction = \"allow\"\nreason = \"x\"\ncalls = [\"read\"]\n",
    )
    .expect("write");
    let mut profiles = Profiles::default();
    let before = profiles.compiled("strict").expect("there").expect("well-formed");
    profiles.add_file(&default).expect("well-formed");
    let after = profiles.compiled("strict").expect("there").expect("well-formed");
    assert_ne!(before, after);
    assert_eq!(
        after,
        profiles.compile("strict").expect("there").expect("well-formed")
    );
}

#[test]
fn a_built_in_policy_alone_is_what_it_is_among_all() {
    let all = PolicySet::built_in();
    for name in all.names() {
        let alone = PolicySet::built_in_alone(&name);
        let (found, expected) = (alone.get(&name).expect("there"), all.get(&name).expect("there"));
        assert_eq!((alone.names(), found.to_toml()), (vec![name], expected.to_toml()));
        assert_eq!(found.hash(), expected.hash());
    }
    assert!(PolicySet::built_in_alone("nosuch").names().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_policy_is_an_error_or_a_policy(text in damaged(POLICY)) {
        let Ok(source) = Source::new(document(&text)) else { return Ok(()) };
        let mut library = Library::built_in().expect("well-formed");
        library.policies.insert("x".to_owned(), source);
        let Ok(policy) = Policy::compile("x", &library) else { return Ok(()) };
        let request = JobRequest { argv: vec!["true".to_owned()], ..JobRequest::default() };
        let site = Site { default_policy: "x".to_owned(), scripts_dir: None };
        if let Ok(resolved) = policy.resolve(&request, &site) {
            for limit in crate::job::Limit::ALL {
                prop_assert!(resolved.spec.limits.get(limit) >= limit.smallest());
                prop_assert!(resolved.spec.limits.get(limit) <= limit.largest());
            }
        }
    }

    #[test]
    fn a_damaged_profile_is_an_error_or_a_profile(text in damaged(PROFILE)) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).expect("write");
        let _ = seccomp::check_file(&path);
    }
}
