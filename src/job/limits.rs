use serde::{Deserialize, Serialize};

/// The limits of a job, all of them set. Sizes are bytes, times milliseconds, CPU thousandths of one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all of the job's processes, its tmpfs files included. Swap is not allowed.
    pub memory_bytes: u64,
    /// Processes and threads at one time.
    pub pids: u64,
    pub cpu_millis: u64,
    /// CPU time of all processes together.
    pub cpu_time_ms: u64,
    pub wall_time_ms: u64,
    /// Kept output of each stream.
    pub output_bytes: u64,
    /// Workspace, /tmp and /dev/shm together.
    pub disk_bytes: u64,
    pub inodes: u64,
    /// Descriptors of each process (RLIMIT_NOFILE).
    pub open_files: u64,
}

impl Limits {
    /// A scratch space that was made with the one serves with the other.
    #[must_use]
    pub const fn have_same_scratch(&self, other: &Self) -> bool {
        self.disk_bytes == other.disk_bytes && self.inodes == other.inodes
    }
}

/// The limits that a request names; `None` is the policy's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitsRequest {
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
    pub cpu_millis: Option<u64>,
    pub cpu_time_ms: Option<u64>,
    pub wall_time_ms: Option<u64>,
    pub output_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub inodes: Option<u64>,
    pub open_files: Option<u64>,
}

/// One of the limits, for code that treats them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    Memory,
    Pids,
    Cpu,
    CpuTime,
    WallTime,
    Output,
    Disk,
    Inodes,
    OpenFiles,
}

impl Limit {
    pub const ALL: [Self; 9] = [
        Self::Memory,
        Self::Pids,
        Self::Cpu,
        Self::CpuTime,
        Self::WallTime,
        Self::Output,
        Self::Disk,
        Self::Inodes,
        Self::OpenFiles,
    ];

    /// The field of [`Limits`] and of the interface.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Memory => "memory_bytes",
            Self::Pids => "pids",
            Self::Cpu => "cpu_millis",
            Self::CpuTime => "cpu_time_ms",
            Self::WallTime => "wall_time_ms",
            Self::Output => "output_bytes",
            Self::Disk => "disk_bytes",
            Self::Inodes => "inodes",
            Self::OpenFiles => "open_files",
        }
    }

    /// The smallest value with which a job can start at all.
    #[must_use]
    pub const fn smallest(self) -> u64 {
        match self {
            Self::Memory => 1 << 20,
            Self::Cpu => 10,
            Self::Disk => 64 << 10,
            Self::Inodes => 16,
            Self::OpenFiles => 8,
            Self::Pids | Self::CpuTime | Self::WallTime | Self::Output => 1,
        }
    }

    /// The largest value that means anything: the kernel's own maximum, or a century.
    #[must_use]
    pub const fn largest(self) -> u64 {
        match self {
            Self::Memory | Self::Disk | Self::Output => 1 << 50,
            Self::Pids => 4 << 20,
            Self::Cpu => 8_192_000,
            Self::CpuTime | Self::WallTime => 100 * 365 * 86_400_000,
            Self::Inodes => u32::MAX as u64,
            Self::OpenFiles => 1 << 20,
        }
    }
}

impl Limits {
    #[must_use]
    pub const fn get(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Memory => self.memory_bytes,
            Limit::Pids => self.pids,
            Limit::Cpu => self.cpu_millis,
            Limit::CpuTime => self.cpu_time_ms,
            Limit::WallTime => self.wall_time_ms,
            Limit::Output => self.output_bytes,
            Limit::Disk => self.disk_bytes,
            Limit::Inodes => self.inodes,
            Limit::OpenFiles => self.open_files,
        }
    }

    pub const fn set(&mut self, limit: Limit, value: u64) {
        *match limit {
            Limit::Memory => &mut self.memory_bytes,
            Limit::Pids => &mut self.pids,
            Limit::Cpu => &mut self.cpu_millis,
            Limit::CpuTime => &mut self.cpu_time_ms,
            Limit::WallTime => &mut self.wall_time_ms,
            Limit::Output => &mut self.output_bytes,
            Limit::Disk => &mut self.disk_bytes,
            Limit::Inodes => &mut self.inodes,
            Limit::OpenFiles => &mut self.open_files,
        } = value;
    }
}

impl LimitsRequest {
    #[must_use]
    pub const fn get(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::Memory => self.memory_bytes,
            Limit::Pids => self.pids,
            Limit::Cpu => self.cpu_millis,
            Limit::CpuTime => self.cpu_time_ms,
            Limit::WallTime => self.wall_time_ms,
            Limit::Output => self.output_bytes,
            Limit::Disk => self.disk_bytes,
            Limit::Inodes => self.inodes,
            Limit::OpenFiles => self.open_files,
        }
    }

    pub const fn set(&mut self, limit: Limit, value: Option<u64>) {
        *match limit {
            Limit::Memory => &mut self.memory_bytes,
            Limit::Pids => &mut self.pids,
            Limit::Cpu => &mut self.cpu_millis,
            Limit::CpuTime => &mut self.cpu_time_ms,
            Limit::WallTime => &mut self.wall_time_ms,
            Limit::Output => &mut self.output_bytes,
            Limit::Disk => &mut self.disk_bytes,
            Limit::Inodes => &mut self.inodes,
            Limit::OpenFiles => &mut self.open_files,
        } = value;
    }
}
