//! What the payload's stub has to do, laid out in the memory that it shares with its supervisor.
//!
//! The stub is cloned before the job is known. When the job comes, the supervisor writes the plan; the stub
//! then follows pointers, and allocates nothing.

use std::ffi::{CStr, c_char};
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::job::{JobSpec, bounds};
use crate::sys;

/// Twice what a request may hold, for the pointers and for the candidates of a PATH look-up.
const REGION_BYTES: usize = 2 * (2 * bounds::ARGUMENTS_TOTAL_BYTES + (1 << 20));
const MAX_RLIMITS: usize = 10;

/// What the stub reads. All pointers lead into the same region.
#[derive(Debug)]
#[repr(C)]
pub struct Plan {
    pub argv: *const *const c_char,
    pub envp: *const *const c_char,
    /// Paths to try one after the other, as execvp(3) does; null-terminated.
    pub candidates: *const *const c_char,
    pub working_dir: *const c_char,
    pub stdin: *const c_char,
    /// To be set; afterwards as the kernel has them.
    pub rlimits: [Rlimit; MAX_RLIMITS],
    pub rlimit_count: usize,
}

/// One resource limit, soft and hard.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Rlimit {
    pub resource: u32,
    pub value: u64,
}

/// The region and how much of it is used.
#[derive(Debug)]
pub struct PlanMemory {
    region: &'static mut [u8],
    used: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("arguments and environment are too long")]
pub struct PlanTooLong;

impl PlanMemory {
    /// Maps the region. The kernel gives it memory only as it is written.
    pub fn map() -> Result<Self, Errno> {
        Ok(Self {
            region: sys::private_memory(REGION_BYTES)?,
            used: size_of::<Plan>(),
        })
    }

    /// Where the stub finds the plan once it has been laid out.
    #[must_use]
    pub fn plan(&self) -> *mut Plan {
        self.region.as_ptr().cast_mut().cast()
    }

    /// The resource limits as the stub has read them back.
    #[must_use]
    pub fn rlimits(&self) -> Vec<Rlimit> {
        // SAFETY: the region starts with a plan, zero-filled or laid out; the stub has left it by its exec.
        let plan = unsafe { &*self.plan() };
        plan.rlimits[..plan.rlimit_count.min(MAX_RLIMITS)].to_vec()
    }

    /// Lays out the plan for a job.
    pub fn lay_out(&mut self, spec: &JobSpec, stdin: &str, rlimits: &[Rlimit]) -> Result<(), PlanTooLong> {
        self.used = size_of::<Plan>();
        let argv = self.strings(spec.argv.iter().map(String::as_str))?;
        let envp = self.strings(spec.env.iter().map(String::as_str))?;
        let command = spec.argv.first().map_or("", String::as_str);
        let candidates = self.strings(candidates(command, &spec.env).iter().map(String::as_str))?;
        let working_dir = self.string(&spec.working_dir)?;
        let stdin = self.string(stdin)?;
        let mut fixed = [Rlimit {
            resource: 0,
            value: 0,
        }; MAX_RLIMITS];
        let rlimit_count = rlimits.len().min(MAX_RLIMITS);
        fixed[..rlimit_count].copy_from_slice(&rlimits[..rlimit_count]);
        let plan = Plan {
            argv,
            envp,
            candidates,
            working_dir,
            stdin,
            rlimits: fixed,
            rlimit_count,
        };
        // SAFETY: the region starts page-aligned and its first size_of::<Plan>() bytes are the plan's own.
        unsafe { self.region.as_mut_ptr().cast::<Plan>().write(plan) };
        Ok(())
    }

    /// Forgets the job of the last plan, whose command runs or never will, and gives the memory of a large one back.
    pub fn clear(&mut self) {
        /// Clearing as much takes about as long as the call.
        const SMALL: usize = 64 << 10;
        let (start, used) = (self.region.as_mut_ptr(), self.used);
        // SAFETY: pages of private memory of this process alone, which are zeros when they are read again.
        let given_back = used > SMALL
            && unsafe { madvise(start.cast(), self.region.len(), Advice::LinuxDontNeed) }.is_ok();
        if !given_back {
            self.region[..used].fill(0);
        }
        self.used = size_of::<Plan>();
    }

    fn reserve(&mut self, bytes: usize, align: usize) -> Result<usize, PlanTooLong> {
        let start = self.used.next_multiple_of(align);
        let end = start
            .checked_add(bytes)
            .filter(|&end| end <= self.region.len())
            .ok_or(PlanTooLong)?;
        self.used = end;
        Ok(start)
    }

    fn string(&mut self, text: &str) -> Result<*const c_char, PlanTooLong> {
        let start = self.reserve(text.len() + 1, 1)?;
        self.region[start..start + text.len()].copy_from_slice(text.as_bytes());
        self.region[start + text.len()] = 0;
        Ok(self.region[start..].as_ptr().cast())
    }

    /// An array of C strings, ended by a null pointer.
    fn strings<'a>(
        &mut self,
        texts: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<*const *const c_char, PlanTooLong> {
        const WIDTH: usize = size_of::<usize>();
        let count = texts.len();
        let array = self.reserve((count + 1) * WIDTH, WIDTH)?;
        for (index, text) in texts.enumerate() {
            let address = (self.string(text)? as usize).to_ne_bytes();
            self.region[array + index * WIDTH..][..WIDTH].copy_from_slice(&address);
        }
        self.region[array + count * WIDTH..][..WIDTH].fill(0);
        Ok(self.region[array..].as_ptr().cast())
    }
}

impl Plan {
    /// The paths to try.
    ///
    /// # Safety
    /// The plan must have been laid out by [`PlanMemory::lay_out`], and the region be still mapped.
    pub unsafe fn candidates(&self) -> impl Iterator<Item = &'static CStr> {
        let mut next = self.candidates;
        std::iter::from_fn(move || {
            // SAFETY: `next` stays within the null-terminated array.
            let path = unsafe { ptr::read(next) };
            if path.is_null() {
                return None;
            }
            // SAFETY: not past the end, since the entry was not the null pointer.
            next = unsafe { next.add(1) };
            // SAFETY: every entry is a C string in the region.
            Some(unsafe { CStr::from_ptr(path) })
        })
    }
}

/// The paths at which `command` may be: itself if it has a slash, else in the directories of PATH.
fn candidates(command: &str, env: &[String]) -> Vec<String> {
    if command.contains('/') {
        return vec![command.to_owned()];
    }
    let path = env
        .iter()
        .find_map(|word| word.strip_prefix("PATH="))
        .unwrap_or_default();
    // An empty entry would be the working directory, which the job can write: never looked in.
    path.split(':')
        .filter(|dir| dir.starts_with('/'))
        .take(64)
        .map(|dir| format!("{dir}/{command}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_up_in_absolute_directories_of_path_alone() {
        let env = ["A=b".to_owned(), "PATH=/bin::.:relative:/usr/bin".to_owned()];
        assert_eq!(candidates("ls", &env), ["/bin/ls", "/usr/bin/ls"]);
        assert_eq!(candidates("./ls", &env), ["./ls"]);
        assert!(candidates("ls", &[]).is_empty());
    }

    #[test]
    fn strings_are_laid_out_as_execve_reads_them() {
        let mut memory = PlanMemory::map().expect("map");
        let array = memory.strings(["one", "", "three"].into_iter()).expect("fits");
        // SAFETY: the array has three entries and a null pointer, as just laid out.
        let entries = unsafe { std::slice::from_raw_parts(array, 4) };
        let read = |index: usize| entries[index];
        // SAFETY: each entry is a C string in the region.
        let text = |index| unsafe { CStr::from_ptr(read(index)) }.to_str().expect("UTF-8");
        assert_eq!([text(0), text(1), text(2)], ["one", "", "three"]);
        assert!(read(3).is_null());
    }

    #[test]
    fn nothing_of_a_job_is_left_in_the_memory_for_the_next() {
        let mut memory = PlanMemory::map().expect("map");
        for length in [100, 300 << 10] {
            let secret = "s".repeat(length);
            memory.string(&secret).expect("fits");
            memory.clear();
            assert!(memory.region.iter().all(|byte| *byte == 0), "{length}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut memory = PlanMemory::map().expect("map");
        let long = "x".repeat(REGION_BYTES);
        assert!(memory.string(&long).is_err());
    }
}
