//! What a policy inherits, and what it cannot change.

mod policy_support;

use policy_support::{load, refusal, resolved};
use stockade::job::{Identity, Root};

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
    assert_eq!(job.spec.limits.open_files, 4096, "of ci");
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
