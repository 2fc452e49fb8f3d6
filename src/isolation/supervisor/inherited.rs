use crate::isolation::failure::{At, Failure};
use crate::job::StartStep;
use crate::sys::StartMemory;

/// What a fork has from its launcher. It is the same in both, and can be asked for in either.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    /// The launcher's command line and environment, of which a fork has a copy.
    pub start: StartMemory,
    /// The launcher's oom_score_adj.
    pub oom_score: i32,
}

impl Inherited {
    pub fn find() -> Result<Self, Failure> {
        Ok(Self {
            start: StartMemory::find().at(StartStep::Supervisor, "/proc/self/stat")?,
            oom_score: own_oom_score().at(StartStep::Supervisor, "/proc/self/oom_score_adj")?,
        })
    }
}

fn own_oom_score() -> std::io::Result<i32> {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    let number = text.trim().parse();
    number.map_err(|_| std::io::ErrorKind::InvalidData.into())
}
