use serde::Serialize;

/// The machine, as far as figures depend on it.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// "v2", "hybrid" (v1 with an empty v2 beside) or "v1".
    pub cgroup: &'static str,
    pub memory_bytes: u64,
    /// Load average of the last minute when the measurement began: other work spoils figures.
    pub load: f64,
}

impl Host {
    #[must_use]
    pub fn examine() -> Self {
        let info = rustix::system::sysinfo();
        // The kernel counts in 65536ths.
        #[allow(clippy::cast_precision_loss)]
        let load = info.loads[0] as f64 / 65536.0;
        Self {
            cpu: cpu().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cgroup: cgroup(),
            memory_bytes: info.totalram.saturating_mul(u64::from(info.mem_unit)),
            load,
        }
    }
}

fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cgroup() -> &'static str {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let has = |kind: &str| text.contains(&format!(" - {kind} "));
    match (has("cgroup"), has("cgroup2")) {
        (false, _) => "v2",
        (true, true) => "hybrid",
        (true, false) => "v1",
    }
}
