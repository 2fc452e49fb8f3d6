use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(100);
const WIDTH: usize = 78;

/// One line on the terminal that tells what is measured at the moment; nothing where stderr is none.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    last: Mutex<Option<Instant>>,
}

impl Progress {
    #[must_use]
    pub fn on_terminal() -> Self {
        Self {
            shown: stderr().is_terminal(),
            last: Mutex::default(),
        }
    }

    #[must_use]
    pub fn none() -> Self {
        Self {
            shown: false,
            last: Mutex::default(),
        }
    }

    /// A new measurement.
    pub fn begin(&self, what: &str) {
        self.draw(what);
    }

    /// It is so far; not drawn more often than an eye follows.
    pub fn step(&self, what: &str, done: usize, of: usize) {
        if !self.shown {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= REDRAW) {
            *last = Some(Instant::now());
            drop(last);
            self.draw(&format!("{what} {done}/{of}"));
        }
    }

    pub fn clear(&self) {
        self.draw("");
    }

    fn draw(&self, text: &str) {
        if self.shown {
            let text: String = text.chars().take(WIDTH).collect();
            let mut stderr = stderr().lock();
            // Where nobody reads it, nothing is to be done.
            let _ = write!(stderr, "\r\u{1b}[K{text}");
            let _ = stderr.flush();
        }
    }
}
