//! The binary that is built without the feature `fault-points` has no place to fail at a test's word. It is one file.

#![cfg(not(feature = "fault-points"))]

#[path = "support/fault_places.rs"]
mod fault_places;
#[path = "support/needs.rs"]
mod needs;

use std::fs;

#[test]
#[cfg(all(feature = "static", target_os = "linux", target_env = "gnu"))]
fn it_has_no_loader() {
    if !has_archives() {
        let what = "the C library's archives are not installed";
        assert!(std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(), "{what}");
        eprintln!("skipped: {what}");
        return;
    }
    let binary = fs::read(env!("CARGO_BIN_EXE_stockade")).expect("the binary");
    let word = |at: usize, bytes: usize| {
        let mut whole = [0; 8];
        whole[..bytes].copy_from_slice(&binary[at..at + bytes]);
        usize::try_from(u64::from_le_bytes(whole)).expect("a small number")
    };
    // elf(5): the file's type, and the types of its program headers.
    const ET_DYN: usize = 3;
    const PT_DYNAMIC: usize = 2;
    const PT_INTERP: usize = 3;
    let (table, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    let kinds: Vec<usize> = (0..count).map(|index| word(table + index * size, 4)).collect();
    assert_eq!(word(16, 2), ET_DYN, "its address is random");
    assert!(kinds.contains(&PT_DYNAMIC), "{kinds:?}");
    assert!(!kinds.contains(&PT_INTERP), "{kinds:?}");
}

#[cfg(all(feature = "static", target_os = "linux", target_env = "gnu"))]
fn has_archives() -> bool {
    let asked = std::process::Command::new("cc")
        .arg("-print-file-name=libc.a")
        .output();
    asked.is_ok_and(|answer| answer.stdout.starts_with(b"/"))
}

#[test]
fn it_has_no_fault_points() {
    let text = fault_places::text_of_program();
    let contains = |name: &str| text.contains(name);
    assert!(
        contains("STOCKADE_ENDPOINT"),
        "names of the environment can be found"
    );
    assert!(!contains("STOCKADE_FAULT"));
    for place in fault_places::named_in_sources() {
        assert!(!contains(&place), "{place}");
    }
}

/// Needs root, unshare and strace. A library would bring a second C library into a static program.
#[test]
#[cfg(all(feature = "static", target_os = "linux", target_env = "gnu"))]
fn it_loads_no_library_to_find_a_host() {
    if !needs::needs_root() || !has_archives() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let switch = dir.path().join("nsswitch.conf");
    fs::write(&switch, "hosts: made-up myhostname files dns\n").expect("write");
    let script = "mount --bind \"$1\" /etc/nsswitch.conf && exec strace -f -e trace=openat,connect \
                  \"$2\" list --endpoint http://localhost:1";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([switch.as_os_str(), env!("CARGO_BIN_EXE_stockade").as_ref()])
        .output()
        .expect("unshare");
    let calls = String::from_utf8_lossy(&output.stderr);
    assert!(calls.contains("/etc/hosts"), "{calls}");
    assert!(calls.contains("sin_port=htons(1)"), "it was found: {calls}");
    assert!(!calls.contains(".so"), "{calls}");
}
