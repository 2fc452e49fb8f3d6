//! Dependencies go one way, as ARCHITECTURE.md says: read off the `crate::` paths of the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder of `src`, and the only modules of this crate, beside itself, that its code names.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("job", &["isolation::layout"]),
    ("policy", &["job", "units", "isolation::layout", "build_output"]),
    (
        "grpc",
        &[
            "server",
            "policy",
            "job",
            "proto",
            "isolation::ipc",
            "isolation::layout",
        ],
    ),
    (
        "server",
        &["policy", "job", "config", "proto", "sys", "isolation::ipc"],
    ),
    ("isolation/ipc", &["job", "config"]),
    ("isolation/cgroup", &["job", "sys"]),
    (
        "isolation/sandbox",
        &["job", "policy", "sys", "isolation::failure", "isolation::layout"],
    ),
    (
        "isolation/supervisor",
        &[
            "job",
            "sys",
            "isolation::cgroup",
            "isolation::failure",
            "isolation::ipc",
            "isolation::sandbox",
            "isolation::timings",
        ],
    ),
    ("sys", &[]),
];

#[test]
fn dependencies_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (folder, allowed) in MAY_USE {
        let own = folder.replace('/', "::");
        let files = sources(&src.join(folder));
        assert!(!files.is_empty(), "{folder}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source");
            // Tests may look at more.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for path in code.flat_map(named_modules) {
                let fits = |module: &str| path == module || path.starts_with(&format!("{module}::"));
                if !fits(&own) && !allowed.iter().any(|module| fits(module)) {
                    wrong.push(format!("{}: crate::{path}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// What follows `crate::` in a line: the lower-case words of the path.
fn named_modules(line: &str) -> Vec<String> {
    let paths = line.split("crate::").skip(1);
    let module = |path: &str| {
        let end = path
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
            .unwrap_or(path.len());
        let is_module = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        path[..end]
            .split("::")
            .take_while(is_module)
            .collect::<Vec<_>>()
            .join("::")
    };
    paths.map(module).filter(|path| !path.is_empty()).collect()
}
