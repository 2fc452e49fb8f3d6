//! Help, completions and the manual of the real binary.

#[path = "support/needs.rs"]
mod needs;

use std::io::Write;
use std::process::{Command, Output, Stdio};

const SUBCOMMANDS: [&str; 18] = [
    "run",
    "serve",
    "start",
    "stop",
    "query",
    "wait",
    "logs",
    "list",
    "events",
    "signal",
    "delete",
    "worker",
    "drain",
    "policy",
    "doctor",
    "bench",
    "completions",
    "man",
];

/// Subcommands of `policy`.
const BENEATH_POLICY: [&str; 3] = ["list", "show", "check"];

fn stockade(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn stdout_of(words: &[&str]) -> String {
    let output = stockade(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_subcommand_helps_with_examples_at_80_columns() {
    let beneath = BENEATH_POLICY.map(|word| vec!["policy", word]);
    for words in SUBCOMMANDS.map(|word| vec![word]).into_iter().chain(beneath) {
        for option in ["-h", "--help"] {
            let help = stdout_of(&[&words[..], &[option]].concat());
            assert!(help.contains("\nExamples:\n  "), "{words:?} {option}: {help}");
            let usage = format!("Usage: stockade {}", words.join(" "));
            assert!(help.contains(&usage), "{words:?}: {help}");
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{words:?} {option}: {long:#?}");
        }
    }
}

#[test]
fn the_help_names_every_subcommand() {
    let help = stdout_of(&["--help"]);
    for subcommand in SUBCOMMANDS {
        assert!(
            help.contains(&format!("\n  {subcommand} ")),
            "{subcommand} is missing in {help}"
        );
    }
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    assert_eq!(
        listed
            .take_while(|line| line.starts_with("  "))
            .filter(|line| !line.starts_with("   "))
            .count(),
        SUBCOMMANDS.len() + 1,
        "those and help"
    );
}

#[test]
fn the_version_is_the_crates() {
    assert_eq!(
        stdout_of(&["--version"]),
        format!("stockade {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn nothing_asked_for_is_a_usage_error() {
    for (words, status) in [
        (&[][..], 2),
        (&["nosuch"], 2),
        (&["serve", "--nosuch"], 2),
        (&["run", "--nosuch"], 125),
        (&["start", "--memory", "x", "--", "true"], 2),
        (&["start", "--wait", "--memory", "x", "--", "true"], 125),
        (&["start", "--follow", "--label", "x"], 125),
        (&["--color", "never", "wait", "--nosuch"], 125),
    ] {
        let output = stockade(words);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {output:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{words:?}: {output:?}"
        );
    }
}

#[test]
fn usage_errors_and_help_have_the_colours_asked_for() {
    let has_colours = |text: &[u8]| text.contains(&0x1b);
    for (words, expected) in [
        (&["list", "--nosuch", "--color", "always"][..], true),
        (&["--color=always", "list", "--help"], true),
        (&["list", "--nosuch", "--color", "never"], false),
        (&["list", "--nosuch"], false),
    ] {
        let output = stockade(words);
        let text = [output.stdout, output.stderr].concat();
        assert_eq!(has_colours(&text), expected, "{words:?}");
    }
}

#[test]
fn completions_know_the_options_of_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout_of(&["completions", shell]);
        assert!(
            script.contains("wall-time") && script.contains("completions"),
            "{shell}"
        );
    }
    let check = Command::new("bash")
        .args(["-n", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut bash) = check else {
        needs::needs("bash, to check its completions", false);
        return;
    };
    let script = stdout_of(&["completions", "bash"]);
    let mut stdin = bash.stdin.take().expect("a pipe");
    stdin.write_all(script.as_bytes()).expect("bash reads it");
    drop(stdin);
    let checked = bash.wait_with_output().expect("bash ends");
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{checked:?}"
    );
}

/// The requests of man(7) that the manual is made of; a line that begins with another one was meant as text.
const REQUESTS: [&str; 12] = [
    ".TH", ".SH", ".SS", ".TP", ".PP", ".br", ".nf", ".fi", ".RS", ".RE", ".ie", ".el",
];

#[track_caller]
fn assert_is_roff(name: &str, page: &str) {
    for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
        let request = line.split_whitespace().next().expect("a word");
        assert!(
            REQUESTS.contains(&request) || line.starts_with(".ds"),
            "{name}: {line:?}"
        );
    }
}

#[test]
fn the_manual_is_whole() {
    let manual = stdout_of(&["man"]);
    assert_is_roff("man", &manual);
    let pages = 1 + SUBCOMMANDS.len() + BENEATH_POLICY.len();
    assert_eq!(manual.matches(".TH ").count(), pages);
    assert_eq!(manual.matches(".SH NAME\n").count(), pages);
    assert!(manual.contains(".SH EXAMPLES\n.PP\n.nf\n"), "{manual}");
    assert!(manual.contains(".SH \"EXIT STATUS\"\n"), "{manual}");
}

#[test]
fn the_manual_can_be_written_as_pages() {
    let folder = tempfile::tempdir().expect("tempdir");
    let dir = folder.path().join("man1");
    assert_eq!(stdout_of(&["man", dir.to_str().expect("UTF-8")]), "");
    for subcommand in SUBCOMMANDS {
        let page = std::fs::read_to_string(dir.join(format!("stockade-{subcommand}.1"))).expect(subcommand);
        assert_is_roff(subcommand, &page);
        assert!(page.contains(".SH EXAMPLES\n"), "{subcommand}");
    }
    assert!(dir.join("stockade.1").exists());
    let output = stockade(&["man", "/dev/null/x"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
