//! What a test needs of the machine, which may lack it.

/// Whether it is there. Where it is not, that is told; with `STOCKADE_TEST_REQUIRE` set, the test fails instead.
pub(crate) fn needs(what: &str, is_there: bool) -> bool {
    if !is_there {
        println!("skipped: needs {what}");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "needs {what}"
        );
    }
    is_there
}
