//! Memory, wherever a job puts it, is its own: at the limit the job ends, and its record says why.

use serde_json::json;

use crate::harness::{Job, able};

const WAYS: [&str; 12] = [
    "in_one_process",
    "in_many_processes",
    "in_files",
    "in_files_without_a_name",
    "in_shared_mappings",
    "in_system_v_segments",
    "in_pipes",
    "in_sockets",
    "in_tcp_sockets",
    "in_udp_sockets",
    "in_netlink_sockets",
    "in_page_tables",
];
const BYTES: u64 = 160 << 20;

fn policy(memory: &str) -> String {
    // The disk's limit is not the one that is tried.
    format!("[limits]\nmemory = \"{memory}\"\ndisk = \"1G\"\nopen_files = 4096\npids = 100\n")
}

fn script(way: &str) -> String {
    let planted = json!({"bytes": BYTES, "only": way, "on_the_host": false}).to_string();
    let support = include_str!("probes/attack.py");
    let probe = include_str!("probes/memory.py");
    format!("import json\nPLANTED = json.loads({planted:?})\n{support}\n{probe}\nrun_attacks()\n")
}

#[test]
fn a_job_ends_where_its_memory_ends() {
    if !able() {
        return;
    }
    for way in WAYS {
        let finished = Job::under_own(&policy("64M")).python(&script(way)).run();
        let bounded = finished.stdout.contains(&format!("CONTAINED {way}"));
        assert!(
            bounded || finished.cause() == "OUT_OF_MEMORY",
            "{way}: {finished:?}"
        );
        let peak = finished.report["usage"]["memory_peak_bytes"]
            .as_u64()
            .expect("a number");
        // In v2 packets that come in are charged even where there is no room.
        let room = if way.ends_with("p_sockets") { 1 << 20 } else { 0 };
        assert!(peak <= (64 << 20) + room, "{way}: {peak}");
    }
}

#[test]
fn each_attack_can_succeed() {
    if !able() {
        return;
    }
    for way in WAYS {
        let finished = Job::under_own(&policy("1G")).python(&script(way)).run();
        // Pipes and sockets have bounds of their own, for each user and each socket, and of netlink sockets there are a few.
        let bounded = ["in_pipes", "in_sockets", "in_netlink_sockets"].contains(&way)
            && finished.stdout.contains(&format!("CONTAINED {way}"));
        assert!(
            bounded || finished.stdout.contains(&format!("ESCAPED {way}")),
            "{way}: {finished:?}"
        );
    }
}
