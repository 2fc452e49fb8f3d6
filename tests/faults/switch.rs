//! Switches a worker's places to fail on and off while it runs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::worker::{Setup, Worker};

/// Of a worker's places to fail: switched on and off, with a count of how often each was passed while on.
pub(crate) struct Switch {
    page: PathBuf,
}

impl Switch {
    pub(crate) fn new(folder: &Path) -> Self {
        let page = folder.join("faults");
        fs::write(&page, [0; 4096]).expect("the page");
        Self { page }
    }

    /// Arms rule `number` alone, from 0 on, and begins to count anew.
    pub(crate) fn arm(&self, number: usize) {
        let file = self.open();
        file.write_all_at(&[0; 252], 4).expect("write");
        let word = u32::try_from(number + 1).expect("a small number");
        file.write_all_at(&word.to_ne_bytes(), 0).expect("write");
    }

    pub(crate) fn disarm(&self) {
        self.open().write_all_at(&[0; 4], 0).expect("write");
    }

    fn open(&self) -> File {
        let page = File::options().read(true).write(true).open(&self.page);
        page.expect("the page")
    }

    /// How often the place of rule `number` was passed.
    pub(crate) fn passed(&self, number: usize) -> u32 {
        let mut word = [0; 4];
        let at = 4 + 4 * number as u64;
        self.open().read_exact_at(&mut word, at).expect("read");
        u32::from_ne_bytes(word)
    }
}

/// A worker with these rules, all of them off.
pub(crate) fn worker_with(rules: &str, mut setup: Setup) -> (Worker, Switch) {
    let outside = tempfile::Builder::new()
        .prefix("faults-")
        .tempdir()
        .expect("tempdir");
    let folder = outside.keep();
    let switch = Switch::new(&folder);
    setup.environment.extend([
        ("STOCKADE_FAULTS", rules.to_owned()),
        ("STOCKADE_FAULT_PAGE", switch.page.display().to_string()),
    ]);
    (Worker::start_as(setup, |_| {}), switch)
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.page.parent().expect("a folder of its own"));
    }
}
