//! Each program under each policy that has room for it.

use crate::job::Job;
use crate::tools::{available, toolchain};

/// A program to be tried.
struct Program {
    interpreter: &'static [&'static str],
    text: &'static str,
    /// The tools that it needs, beside its interpreter.
    needs: &'static [&'static str],
    /// Limits above those of the policy, for what is large.
    options: &'static [&'static str],
}

impl Program {
    const fn new(interpreter: &'static [&'static str], text: &'static str) -> Self {
        Self {
            interpreter,
            text,
            needs: &[],
            options: &[],
        }
    }

    const fn shell(text: &'static str) -> Self {
        Self::new(&["bash"], text)
    }

    const fn needing(mut self, tools: &'static [&'static str]) -> Self {
        self.needs = tools;
        self
    }

    const fn with(mut self, options: &'static [&'static str]) -> Self {
        self.options = options;
        self
    }

    fn works_under(&self, policies: &[&str]) {
        if !crate::able() || !available(&[&self.interpreter[..1], self.needs].concat()) {
            return;
        }
        for policy in policies {
            self.works_as(Job::under(policy), policy);
        }
    }

    fn works_as(&self, job: Job, policy: &str) {
        let finished = job
            .options(self.options)
            .script_for(self.interpreter, self.text)
            .run();
        assert!(finished.status.success(), "{policy}: {finished:?}");
    }
}

const ALL: [&str; 3] = ["default", "strict", "ci"];
const LARGE: [&str; 2] = ["default", "ci"];

macro_rules! program {
    ($file:literal) => {
        include_str!(concat!("programs/", $file))
    };
}

#[test]
fn shell() {
    Program::shell(program!("shell.sh")).works_under(&ALL);
}

#[test]
fn coreutils() {
    Program::shell(program!("coreutils.sh")).works_under(&ALL);
}

#[test]
fn text_tools() {
    Program::shell(program!("text.sh"))
        .needing(&["awk"])
        .works_under(&ALL);
    Program::shell(program!("jq.sh"))
        .needing(&["jq"])
        .works_under(&ALL);
}

#[test]
fn archives() {
    let tools = &["tar", "gzip", "xz", "zstd"];
    Program::shell(program!("archives.sh"))
        .needing(tools)
        .works_under(&LARGE);
}

#[test]
fn python() {
    Program::new(&["python3"], program!("python.py")).works_under(&ALL);
    Program::shell(program!("venv.sh"))
        .needing(&["python3"])
        .works_under(&ALL);
}

#[test]
fn compilers() {
    let tools = &["gcc", "make"];
    Program::shell(program!("compiler.sh"))
        .needing(tools)
        .works_under(&ALL);
    Program::shell(program!("sanitizers.sh"))
        .needing(tools)
        .works_under(&["ci"]);
}

#[test]
fn git() {
    Program::shell(program!("git.sh"))
        .needing(&["git"])
        .works_under(&ALL);
}

#[test]
fn node() {
    Program::new(&["node"], program!("node.js")).works_under(&LARGE);
}

#[test]
fn perl() {
    Program::new(&["perl"], program!("perl.pl")).works_under(&ALL);
}

#[test]
fn java() {
    let source = &["java", "--source", "11"];
    Program::new(source, program!("Main.java"))
        .with(&["--memory", "1G"])
        .works_under(&LARGE);
}

#[test]
fn a_pipeline_of_a_thousand_processes() {
    Program::shell(program!("many_processes.sh"))
        .with(&["--pids", "1100", "--memory", "1G"])
        .works_under(&LARGE);
}

#[test]
fn packages_and_terminals_under_ci() {
    Program::shell(program!("package.sh"))
        .needing(&["dpkg-deb"])
        .works_under(&["ci"]);
    Program::new(&["python3"], program!("terminal.py"))
        .needing(&["script"])
        .works_under(&["ci"]);
}

#[test]
fn terminals_of_a_root_in_a_read_only_root() {
    if !crate::able() || !available(&["python3", "script"]) {
        return;
    }
    let policy = "inherits = \"default\"\n[sandbox]\nidentity = \"root\"\n";
    Program::new(&["python3"], program!("terminal.py")).works_as(Job::under_own(policy), policy);
}

#[test]
fn cargo() {
    if !crate::able() || !available(&["cargo", "gcc"]) {
        return;
    }
    let source = toolchain().expect("available");
    for policy in LARGE {
        let mounted =
            format!("inherits = {policy:?}\n[[mounts]]\nsource = {source:?}\ntarget = \"/toolchain\"\n");
        let options = &["--memory", "1G", "--disk", "1G"];
        let program = Program::shell(program!("cargo.sh")).with(options);
        program.works_as(Job::under_own(&mounted), policy);
    }
}
