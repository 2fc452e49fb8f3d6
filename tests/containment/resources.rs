//! Numbers and sizes: processes, descriptors, files, disk, locked memory, queues, cores.

use crate::harness::{Probe, Setting, able};

const TIGHT: &str = "
[limits]
memory = \"256M\"
pids = 40
disk = \"24M\"
inodes = 500
open_files = 100
";

/// What the probe exceeds a little, and this policy has plenty of.
const GENEROUS: &str = "
[limits]
memory = \"1G\"
pids = 4000
disk = \"512M\"
inodes = 50000
open_files = 4000
";

pub(super) fn probe() -> Probe<'static> {
    Probe::new(include_str!("probes/resources.py"))
        .planted("pids", 40)
        .planted("disk", 24 << 20)
        .planted("inodes", 500)
        .planted("open_files", 100)
        .planted("signals", 4096)
        .planted("inotify", 128)
        .planted("highest", 4096)
}

#[test]
fn a_job_gets_what_its_policy_allows_and_no_more() {
    if able() {
        let strict = format!("inherits = \"strict\"\n{TIGHT}");
        let writable_root = format!("inherits = \"ci\"\n{TIGHT}");
        probe().is_contained_in(&[
            Setting::Own(TIGHT),
            Setting::Own(&strict),
            Setting::Own(&writable_root),
        ]);
    }
}

/// Some of them no policy can allow, so those are shown on the host.
#[test]
fn each_attack_can_succeed() {
    if able() {
        probe().succeeds_in(&[Setting::Own(GENEROUS), Setting::Host]);
    }
}
