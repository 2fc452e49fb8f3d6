//! What this machine must have for such a test.

/// Whether sandboxes can be made here at all.
///
/// Nearly every test of this suite needs root, since it looks at the host's side as well.
pub fn able() -> bool {
    let able = nix::unistd::geteuid().is_root();
    if !able {
        println!("skipped: needs root");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "root is required"
        );
    }
    able
}
