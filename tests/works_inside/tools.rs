//! The programs that a test needs.

/// Those that a machine on which the whole project is checked has: missing, they fail the tests where
/// `STOCKADE_TEST_REQUIRE` is set. Others fail them where it names them: `STOCKADE_TEST_REQUIRE=java,node`.
const EXPECTED: [&str; 14] = [
    "bash", "python3", "perl", "gcc", "make", "git", "tar", "gzip", "awk", "dpkg-deb", "script", "cargo",
    "zstd", "jq",
];

/// Whether all of them are there; says which is not.
pub fn available(names: &[&str]) -> bool {
    let missing: Vec<&&str> = names.iter().filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return true;
    }
    let required = std::env::var("STOCKADE_TEST_REQUIRE").ok();
    let is_required = |name: &str| {
        required.as_ref().is_some_and(|list| {
            EXPECTED.contains(&name) || list.split(',').any(|required| required.trim() == name)
        })
    };
    assert!(
        !missing.iter().any(|name| is_required(name)),
        "required, and not there: {missing:?}"
    );
    println!("skipped: not there: {missing:?}");
    false
}

/// In a folder that jobs have; but for cargo, which is mounted.
fn is_there(name: &str) -> bool {
    if name == "cargo" {
        return toolchain().is_some();
    }
    let folders = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    folders
        .iter()
        .any(|folder| std::path::Path::new(folder).join(name).exists())
}

/// The folder of the Rust toolchain that runs this test.
pub fn toolchain() -> Option<String> {
    let output = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
