//! A probe: a script full of attacks, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::job::Job;
use super::process::finish;

const SUPPORT: &str = include_str!("../probes/attack.py");

/// Where a probe runs.
#[derive(Debug, Clone, Copy)]
pub enum Setting<'a> {
    /// In a sandbox of this built-in policy.
    Policy(&'a str),
    /// In a sandbox of a policy of the test's own: the policy file.
    Own(&'a str),
    /// In a sandbox of an ordinary user's launcher, under a policy of the test's own that takes what limits there are.
    User(&'a str),
    /// In none, as root of the host.
    Host,
}

/// What an attack came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Contained(String),
    Escaped(String),
    /// Outside of any sandbox: this host itself has nothing of the kind.
    Lacking(String),
}

type Verdicts = BTreeMap<String, Verdict>;

/// Attacks on one boundary, in Python on top of `probes/attack.py`.
pub struct Probe<'a> {
    source: &'a str,
    planted: Value,
    around: Box<dyn Fn(&mut Command) + 'a>,
}

impl<'a> Probe<'a> {
    pub fn new(source: &'a str) -> Self {
        Self {
            source,
            planted: json!({}),
            around: Box::new(|_| {}),
        }
    }

    /// Tells the probe of something, as `PLANTED[key]`.
    pub fn planted(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.planted[key] = value.into();
        self
    }

    /// Changes what the launcher, or the probe on the host, inherits.
    pub fn around(mut self, around: impl Fn(&mut Command) + 'a) -> Self {
        self.around = Box::new(around);
        self
    }

    /// No attack gets through.
    pub fn is_contained_in(&self, settings: &[Setting<'_>]) {
        for setting in settings {
            self.is_contained_but(*setting, &[]);
        }
    }

    /// No attack gets through but, perhaps, these: what a policy gives on purpose, as far as this kernel can.
    pub fn is_contained_but(&self, setting: Setting<'_>, given: &[&str]) {
        let verdicts = self.run(setting);
        let known = given.iter().all(|name| verdicts.contains_key(*name));
        let contained = escaped(&verdicts).is_subset(&given.iter().copied().collect());
        assert!(known && contained, "{setting:?}\n{}", listed(&verdicts));
    }

    /// Whether this attack gets through.
    pub fn lets_through(&self, setting: Setting<'_>, attack: &str) -> bool {
        escaped(&self.run(setting)).contains(attack)
    }

    /// Each attack gets through in one of these settings, so a sandbox that does not hold would be found out.
    pub fn succeeds_in(&self, settings: &[Setting<'_>]) {
        let runs: Vec<Verdicts> = settings.iter().map(|setting| self.run(*setting)).collect();
        for name in runs[0].keys() {
            let all = || runs.iter().map(|run| &run[name]);
            if all().any(|verdict| matches!(verdict, Verdict::Escaped(_))) {
                continue;
            }
            let lacking = all().find_map(|verdict| match verdict {
                Verdict::Lacking(why) => Some(why),
                _ => None,
            });
            match lacking {
                Some(why) => println!("cannot be shown to succeed on this host: {name}: {why}"),
                None => panic!("cannot fail: {name}: {:?}", all().collect::<Vec<_>>()),
            }
        }
    }

    fn run(&self, setting: Setting<'_>) -> Verdicts {
        let mut planted = self.planted.clone();
        planted["on_the_host"] = matches!(setting, Setting::Host).into();
        let script = format!(
            "import json\nPLANTED = json.loads({:?})\n{SUPPORT}\n{}\nrun_attacks()\n",
            planted.to_string(),
            self.source
        );
        let (output, record) = match setting {
            Setting::Policy(policy) => self.run_job(Job::under(policy), &script),
            Setting::Own(policy) => self.run_job(Job::under_own(policy), &script),
            Setting::User(policy) => self.run_job(Job::under_own(policy).by_user(), &script),
            Setting::Host => (self.run_on_host(&script), Value::Null),
        };
        parse(&output)
            .unwrap_or_else(|problem| panic!("{setting:?}: {problem}\n{output}\n{}", record["error_text"]))
    }

    fn run_job(&self, job: Job, script: &str) -> (String, Value) {
        let finished = job.python(script).run_with(&self.around);
        (finished.stdout + &finished.stderr, finished.report)
    }

    fn run_on_host(&self, script: &str) -> String {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("probe.py");
        std::fs::write(&path, script).expect("probe");
        let mut command = Command::new("python3");
        // As a job's: no other python of whoever runs the tests.
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.arg(&path).current_dir(folder.path()).stdin(Stdio::null());
        (self.around)(&mut command);
        let output = finish(&mut command);
        output.stdout + &output.stderr
    }
}

fn escaped(verdicts: &Verdicts) -> BTreeSet<&str> {
    let chosen = verdicts
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Escaped(_)));
    chosen.map(|(name, _)| name.as_str()).collect()
}

fn listed(verdicts: &Verdicts) -> String {
    let mut text = String::new();
    for (name, verdict) in verdicts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name}: {verdict:?}");
    }
    text
}

/// The verdict lines. A probe that stumbles, or ends before its end, has shown nothing.
fn parse(output: &str) -> Result<Verdicts, String> {
    let mut verdicts = Verdicts::new();
    for line in output.lines() {
        let Some((word, rest)) = line.split_once(' ') else {
            continue;
        };
        let (name, detail) = rest.split_once(": ").unwrap_or((rest, ""));
        let verdict: fn(String) -> Verdict = match word {
            "CONTAINED" => Verdict::Contained,
            "ESCAPED" => Verdict::Escaped,
            "LACKING" => Verdict::Lacking,
            "ERROR" => return Err(format!("the attack {name} went wrong: {detail}")),
            _ => continue,
        };
        verdicts.insert(name.to_owned(), verdict(detail.to_owned()));
    }
    let count = output.lines().find_map(|line| line.strip_prefix("ATTACKS "));
    match count.and_then(|count| count.parse::<usize>().ok()) {
        Some(count) if count == verdicts.len() && count > 0 => Ok(verdicts),
        _ => Err("the probe did not come to its end".to_owned()),
    }
}
