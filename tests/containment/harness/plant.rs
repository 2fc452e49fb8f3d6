//! What the tests leave on the host for probes to find, and what they look for there afterwards.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A name that nothing else on this machine has.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("stockade-{name}-{}-{number}", std::process::id())
}

/// A process of the host that no job may see. Killed with this.
#[derive(Debug)]
pub struct Canary {
    pub name: String,
    process: Child,
}

impl Canary {
    pub fn start() -> Self {
        let name = unique("canary");
        let mut process = Command::new("bash")
            .args(["-c", "exec -a \"$0\" sleep 600", &name])
            .stdin(Stdio::null())
            .spawn()
            .expect("bash");
        marked_process(&name, &mut process);
        Self { name, process }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn is_alive(&mut self) -> bool {
        self.process.try_wait().expect("waited for").is_none()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The one process that has `marker` as its first word, as soon as `starter` has brought it up.
pub fn marked_process(marker: &str, starter: &mut Child) -> u32 {
    loop {
        if let [pid] = marked_processes(marker)[..] {
            return pid;
        }
        let ended = starter.try_wait().expect("waited for");
        assert!(ended.is_none(), "{marker} never came up: {ended:?}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Processes of the host that have `marker` as their first word, zombies aside.
pub fn marked_processes(marker: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).next() == Some(marker.as_bytes())
        })
        .collect()
}
