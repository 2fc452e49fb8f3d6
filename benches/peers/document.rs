//! The generated part of docs/performance.md, and its pictures.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use stockade::cli::bench::Host;

use super::context::Context;
use super::plot::Plot;
use super::table::Table;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

#[derive(Debug)]
pub(crate) struct Document {
    text: String,
    pictures: Vec<(String, String)>,
    quick: bool,
    began: std::time::Instant,
}

impl Document {
    pub(crate) fn new(context: &Context) -> Self {
        let host = Host::examine();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "Measured on {}: {}, {} cores, {:.0} GiB, Linux {}, cgroup {}. Load average at the start: {:.2}.",
            today(),
            host.cpu,
            host.cores,
            gib(host.memory_bytes),
            host.kernel,
            host.cgroup,
            host.load
        );
        let mut document = Self {
            text,
            pictures: Vec::new(),
            quick: context.quick,
            began: context.began,
        };
        if host.load > 0.5 {
            document.paragraph("**The machine was busy with other work: these figures are too high.**");
        }
        if context.quick {
            document.paragraph("**A quick run: few samples, so that percentiles and rates are rough.**");
        }
        if cfg!(debug_assertions) {
            document.paragraph("**A build without optimisation: releases are faster.**");
        }
        document
    }

    pub(crate) fn heading(&mut self, heading: &str) {
        let _ = write!(self.text, "\n### {heading}\n");
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        let _ = write!(self.text, "\n{text}\n");
    }

    pub(crate) fn table(&mut self, table: &Table) {
        let _ = write!(self.text, "\n{}", table.markdown());
    }

    pub(crate) fn picture(&mut self, name: &str, alternative: &str, plot: &Plot) {
        if plot.is_empty() {
            return;
        }
        let file = format!("{name}.svg");
        let _ = write!(self.text, "\n![{alternative}](performance/{file})\n");
        self.pictures.push((file, plot.svg()));
    }

    pub(crate) fn end(&mut self) {
        let run = if self.quick { " -- --quick" } else { "" };
        let seconds = self.began.elapsed().as_secs();
        self.paragraph(&format!("`cargo bench --bench peers{run}` took {seconds} s."));
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Replaces what an earlier run wrote, and its pictures.
    pub(crate) fn write(&self) -> io::Result<()> {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let (file, folder): (PathBuf, PathBuf) = (docs.join("performance.md"), docs.join("performance"));
        let old = std::fs::read_to_string(&file)?;
        let new =
            replaced(&old, &self.text).ok_or_else(|| io::Error::other(format!("lacks {BEGIN} and {END}")))?;
        std::fs::create_dir_all(&folder)?;
        for (name, svg) in &self.pictures {
            std::fs::write(folder.join(name), svg)?;
        }
        std::fs::write(file, new)
    }
}

fn replaced(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{text}{END}{after}"))
}

/// As RFC 3339 has it, in UTC.
fn today() -> String {
    let now = prost_types::Timestamp::from(std::time::SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// Exact enough for people.
#[allow(clippy::cast_precision_loss)]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
