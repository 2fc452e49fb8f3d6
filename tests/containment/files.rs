//! Files: those of the host and of other jobs are out of reach, those of the system do not change.

use std::fs;

use serde_json::json;
use tempfile::{NamedTempFile, TempDir};

use crate::harness::{Job, Probe, Setting, able, able_as_user, unique};

/// Files of the host in places that a job has under the same names.
pub(super) struct Planted {
    folder: TempDir,
    shared: Vec<NamedTempFile>,
    words: String,
}

impl Planted {
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("stockade-host-")
            .tempdir_in("/tmp");
        let planted = Self {
            folder: folder.expect("tempdir"),
            shared: ["/tmp", "/dev/shm"]
                .map(|dir| NamedTempFile::new_in(dir).expect("a file"))
                .into(),
            words: unique("secret"),
        };
        // Told to the probe in reverse, so that it is found nowhere but here.
        fs::write(planted.secret(), planted.words.chars().rev().collect::<String>()).expect("secret");
        planted
    }

    fn secret(&self) -> std::path::PathBuf {
        self.folder.path().join("secret")
    }

    pub(super) fn probe(&self) -> Probe<'static> {
        let passwd = fs::read_to_string("/etc/passwd").expect("passwd");
        let users: Vec<&str> = passwd.lines().filter_map(|line| line.split(':').next()).collect();
        let names: Vec<_> = self
            .shared
            .iter()
            .map(|file| file.path().display().to_string())
            .collect();
        Probe::new(include_str!("probes/files.py"))
            .planted("secret", self.secret().display().to_string())
            .planted("words", self.words.as_str())
            .planted("names", json!(names))
            .planted("users", json!(users))
    }
}

#[test]
fn files_of_the_host_are_out_of_reach() {
    if able() {
        let planted = Planted::new();
        planted
            .probe()
            .is_contained_in(&[Setting::Policy("default"), Setting::Policy("strict")]);
        // It has the system's files to itself, in a layer that goes with it.
        planted.probe().is_contained_but(
            Setting::Policy("ci"),
            &[
                "writes_to_system_folders",
                "opens_system_files_for_writing",
                "changes_what_system_files_say_of_themselves",
                "replaces_its_script",
            ],
        );
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Planted::new().probe().succeeds_in(&[Setting::Host]);
    }
}

/// Whoever writes it: a launcher of one job does so while its supervisor is at work.
#[test]
fn etc_has_the_hosts_files_and_takes_nothing() {
    if !able() {
        return;
    }
    let look = "cd /etc; for f in ld.so.cache nsswitch.conf debian_version profile shells services bash.bashrc; do \
                [ -f $f ] && [ ! -L $f ] && stat -c '%n %s %y %a' $f && cksum <$f; done; true";
    let host = std::process::Command::new("bash").args(["-c", look]).output();
    let host = String::from_utf8(host.expect("bash").stdout).expect("text");
    assert!(host.contains("ld.so.cache"), "{host}");
    let unlimited = "inherits = \"default\"\n[sandbox]\nlimits = \"best-effort\"\n";
    let by_user = able_as_user().then(|| Job::under_own(unlimited).by_user());
    for setting in [Job::under("default"), Job::under("ci")]
        .into_iter()
        .chain(by_user)
    {
        let finished = setting.bash(look).run();
        assert_eq!(finished.stdout, host, "{finished:?}");
    }
    let script = "for f in /etc/new /etc/passwd /new; do { echo x >>$f; } 2>/dev/null && echo $f; done
                  while read -r _ _ _ _ at options _ _ _ own; do [ $at = / ] && echo ${options%%,*} ${own%%,*}; done \
                  </proc/self/mountinfo";
    let finished = Job::under("default").bash(script).run();
    assert_eq!(finished.stdout, "ro ro\n", "{finished:?}");
}

#[test]
fn what_a_writable_root_takes_never_reaches_the_host() {
    if !able() {
        return;
    }
    let name = unique("written");
    let script = format!(
        "set -e\nfor d in /usr /usr/bin /etc /opt /var /root /home /srv /; do echo x > $d/{name}; done\n\
         echo changed > /usr/bin/yes\nrm -rf /usr/share /usr/bin/tac\nls /opt/{name} /usr/{name}\n"
    );
    let before = fs::read("/usr/bin/yes").expect("a program");
    let finished = Job::under("ci").bash(&script).run();
    assert_eq!(finished.cause(), "EXITED", "{finished:?}");
    assert!(finished.status.success(), "{finished:?}");
    for folder in [
        "/usr", "/usr/bin", "/etc", "/opt", "/var", "/root", "/home", "/srv", "/",
    ] {
        let path = std::path::Path::new(folder).join(&name);
        assert!(!path.exists(), "{}", path.display());
    }
    assert_eq!(fs::read("/usr/bin/yes").expect("a program"), before);
}

/// A container's /usr is an overlay, which maps no ids: its files are nobody's inside.
#[test]
fn a_writable_root_without_id_mapping_is_told_and_can_be_installed_to() {
    if !able() {
        return;
    }
    let script = "set -e; echo x >/usr/bin/new; mkdir /usr/lib/new /usr/share/doc/new; rm /usr/bin/yes; echo y >/usr/bin/yes; \
                  stat -c %U /usr/bin /usr/bin/env /usr/bin/yes; mv /usr/bin/env /usr/bin/env2; ! echo x >>/usr/bin/bash";
    let job = Job::under("ci").bash(script);
    let run = job.to_command();
    let over = "d=$(mktemp -d) && mount -t overlay overlay -o lowerdir=/usr:$d /usr && \"$@\"; s=$?; rmdir $d; exit $s";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "bash", "-c", over, "bash"]);
    command.arg(run.get_program()).args(run.get_args());
    let output = command.output().expect("unshare");
    let report = job.report();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "root\nnobody\nroot\n",
        "{output:?}"
    );
    let weaker = report["isolation"]["weaker"].to_string();
    assert!(weaker.contains("no id mapping beneath /usr"), "{weaker}");
    // Where it maps them, nothing is told and all can be changed.
    let mapped = Job::under("ci")
        .bash("echo x >>/usr/bin/yes; stat -c %U /usr/bin/env")
        .run();
    assert_eq!(mapped.stdout, "root\n", "{mapped:?}");
    assert_eq!(mapped.report["isolation"]["weaker"], json!([]));
}
