//! What the documents say of the command line and of files is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents, wherever they are in the tree.
fn documents() -> Vec<PathBuf> {
    let mut folders = vec![root().join("docs"), root().join("examples")];
    let mut found: Vec<PathBuf> = markdown_in(root());
    while let Some(folder) = folders.pop() {
        found.extend(markdown_in(&folder));
        folders.extend(entries(&folder).into_iter().filter(|path| path.is_dir()));
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

fn markdown_in(folder: &Path) -> Vec<PathBuf> {
    let is_markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    entries(folder).into_iter().filter(is_markdown).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the source tree");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a text of the source tree")
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(words)
        .arg("--help")
        .output()
        .expect("the binary runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn subcommands() -> BTreeSet<String> {
    let help = help(&[]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// The options that an invocation gives to a subcommand of ours: up to the command of the job, and to the end of
/// the shell's command.
fn options(words: &str) -> impl Iterator<Item = &str> {
    words
        .split_whitespace()
        .take_while(|word| !matches!(*word, "--" | "|" | ">" | "&&" | "\\") && !word.ends_with([';', '`']))
        .filter(|word| word.starts_with("--"))
        .map(|word| word.split('=').next().unwrap_or(word))
}

#[test]
fn every_invocation_that_is_shown_exists() {
    let subcommands = subcommands();
    let mut texts: Vec<(String, String)> = documents()
        .iter()
        .map(|path| (path.display().to_string(), read(path)))
        .collect();
    texts.push(("limits.sh".into(), read(&root().join("examples/limits.sh"))));
    texts.extend(
        subcommands
            .iter()
            .map(|name| (format!("help of {name}"), help(&[name]))),
    );
    let mut checked = 0;
    for (origin, text) in texts {
        for line in text.lines() {
            for invocation in line.split("stockade ").skip(1) {
                let Some(name) = invocation.split([' ', '`', '\n', ')', ',']).next() else {
                    continue;
                };
                if !subcommands.contains(name) {
                    continue;
                }
                let help = help(&[name]);
                for option in options(invocation) {
                    checked += 1;
                    let known = help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n"));
                    let beneath = name == "policy";
                    assert!(known || beneath, "{origin}: {name} has no {option}: {line}");
                }
            }
        }
    }
    assert!(checked > 45, "only {checked} options were found");
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().expect("a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = folder.join(target.split('#').next().unwrap_or(target));
            assert!(path.exists(), "{}: {target}", document.display());
        }
    }
}

#[test]
fn every_test_that_holds_a_promise_exists() {
    let specification = read(&root().join("SPECIFICATION.md"));
    let promises: Vec<&str> = specification.split("\n- **").skip(1).collect();
    assert!(promises.len() > 30, "{}", promises.len());
    let mut numbers = BTreeSet::new();
    for promise in promises {
        let (number, text) = promise.split_once("**").expect("a number");
        assert!(numbers.insert(number), "{number} is there twice");
        let (_, holders) = text.split_once("Held by:").expect(number);
        let paths = holders.split('`').skip(1).step_by(2);
        for path in paths {
            assert!(root().join(path).exists(), "{number} is held by {path}");
            if path.starts_with("src/") {
                let source = read(&root().join(path));
                let tests = ["#[test]", "#[tokio::test]", "mod tests;"];
                let has_tests = tests.iter().any(|words| source.contains(words));
                assert!(has_tests, "{number} is held by {path}, which has no test");
            }
        }
    }
}

#[test]
fn what_the_unit_of_systemd_starts_is_installed_by_its_document() {
    let unit = read(&root().join("packaging/systemd/stockade.service"));
    let document = read(&root().join("docs/systemd.md"));
    let start = unit.lines().find(|line| line.starts_with("ExecStart="));
    let files = start
        .expect("a command")
        .split(['=', ' '])
        .filter(|word| word.starts_with('/'));
    let installs = |file: &&str| {
        document
            .lines()
            .any(|line| line.starts_with("install ") && line.ends_with(*file))
    };
    assert_eq!(files.filter(installs).count(), 2, "{start:?}");
}

/// Of all the files of the tree that cargo or the Dockerfile names: cargo builds no target where the source of any is
/// missing.
#[test]
fn an_image_is_built_from_what_its_context_has() {
    let ignored = read(&root().join(".dockerignore"));
    let let_through: Vec<&Path> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .map(Path::new)
        .collect();
    let dockerfile = read(&root().join("Dockerfile"));
    let copied = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ")?.split_whitespace().next())
        .filter(|source| *source != "." && !source.starts_with("--"));
    let build = read(&root().join("build.rs"));
    let read_by_build = build.split('"').skip(1).step_by(2);
    let mut needed: Vec<PathBuf> = ["Cargo.toml", "Cargo.lock", "build.rs", "src/main.rs"]
        .into_iter()
        .chain(copied)
        .chain(read_by_build.filter(|text| !text.is_empty() && root().join(text).exists()))
        .map(PathBuf::from)
        .collect();
    needed.extend(explicit_targets());
    assert!(needed.len() > 12, "{needed:?}");
    for path in needed {
        assert!(root().join(&path).exists(), "{}", path.display());
        let passes = let_through
            .iter()
            .any(|let_through| path.starts_with(let_through));
        assert!(passes, ".dockerignore keeps out {}", path.display());
    }
}

/// Where cargo looks for the targets that Cargo.toml names.
fn explicit_targets() -> Vec<PathBuf> {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("TOML");
    let mut found = Vec::new();
    for (kind, folder) in [
        ("test", "tests"),
        ("bench", "benches"),
        ("bin", "src/bin"),
        ("example", "examples"),
    ] {
        for target in manifest
            .get(kind)
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |key| target.get(key).and_then(toml::Value::as_str);
            let name = text("name").expect("a name");
            let file = PathBuf::from(folder).join(format!("{name}.rs"));
            let inferred = if root().join(&file).exists() {
                file
            } else {
                PathBuf::from(folder).join(name).join("main.rs")
            };
            found.push(text("path").map_or(inferred, PathBuf::from));
        }
    }
    found
}
