//! Why a launch failed: the step, the kernel's error number, and words for people.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::job::{Cause, StartStep};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{step}: {detail}{}", describe(*errno))]
pub struct Failure {
    pub step: StartStep,
    /// 0 where the kernel gave none.
    pub errno: i32,
    pub detail: String,
}

fn describe(errno: i32) -> String {
    if errno == 0 {
        String::new()
    } else {
        format!(": {}", std::io::Error::from_raw_os_error(errno))
    }
}

impl Failure {
    pub fn new(step: StartStep, errno: i32, detail: impl Into<String>) -> Self {
        Self {
            step,
            errno,
            detail: detail.into(),
        }
    }

    #[must_use]
    pub fn into_cause(self) -> Cause {
        Cause::StartFailed {
            step: self.step,
            errno: self.errno,
            detail: self.detail,
        }
    }
}

/// Names the step that an error belongs to.
pub(crate) trait At<T> {
    fn at(self, step: StartStep, detail: &str) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: StartStep, detail: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error.raw_os_error(), detail))
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: StartStep, detail: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error.raw_os_error().unwrap_or(0), detail))
    }
}
