//! How Go's os/exec tells the end of a process: deployed schedulers show these texts to people.

use std::fmt::Write;

use nix::errno::Errno;

use crate::job::{Cause, StartStep};

/// The error of a job that has ended; `None` for success.
pub(super) fn error_text(cause: &Cause) -> Option<String> {
    match cause {
        Cause::Exited { code: 0 }
        | Cause::Stopped {
            signal: None,
            code: Some(0),
        } => None,
        Cause::Exited { code }
        | Cause::Stopped {
            signal: None,
            code: Some(code),
        } => Some(format!("exit status {code}")),
        Cause::Signaled { signal, core_dumped } => Some(signaled(*signal, *core_dumped)),
        Cause::Stopped {
            signal: Some(signal), ..
        } => Some(signaled(*signal, false)),
        // What a limit or a stop of ours ended was killed; the old interface has no other word for it.
        Cause::OutOfMemory
        | Cause::CpuTime
        | Cause::WallTime
        | Cause::OutputLimit
        | Cause::Stopped {
            signal: None,
            code: None,
        } => Some(signaled(libc::SIGKILL, false)),
        Cause::SyscallDenied { .. } => Some(signaled(libc::SIGSYS, false)),
        Cause::StartFailed {
            step: StartStep::Exec,
            errno,
            detail,
        } => Some(exec_failed(detail, *errno)),
        Cause::StartFailed { .. } | Cause::Lost { .. } => Some(cause.text()),
    }
}

/// The error of a command that could not be started.
pub(super) fn exec_failed(command: &str, errno: i32) -> String {
    let not_found = matches!(errno, libc::ENOENT | libc::EACCES | libc::ENOTDIR);
    if !command.contains('/') && not_found {
        return format!("exec: {}: executable file not found in $PATH", quote(command));
    }
    format!("fork/exec {command}: {}", describe(errno))
}

/// The error of an empty command.
pub(super) const NO_COMMAND: &str = "exec: no command";

fn signaled(signal: i32, core_dumped: bool) -> String {
    let suffix = if core_dumped { " (core dumped)" } else { "" };
    format!("signal: {}{suffix}", signal_name(signal))
}

/// Go's names for the signals of Linux on x86-64 and arm64.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "hangup",
        "interrupt",
        "quit",
        "illegal instruction",
        "trace/breakpoint trap",
        "aborted",
        "bus error",
        "floating point exception",
        "killed",
        "user defined signal 1",
        "segmentation fault",
        "user defined signal 2",
        "broken pipe",
        "alarm clock",
        "terminated",
        "stack fault",
        "child exited",
        "continued",
        "stopped (signal)",
        "stopped",
        "stopped (tty input)",
        "stopped (tty output)",
        "urgent I/O condition",
        "CPU time limit exceeded",
        "file size limit exceeded",
        "virtual timer expired",
        "profiling timer expired",
        "window changed",
        "I/O possible",
        "power failure",
        "bad system call",
    ];
    let known = usize::try_from(signal - 1)
        .ok()
        .and_then(|index| NAMES.get(index));
    known.map_or_else(|| format!("signal {signal}"), |name| (*name).to_owned())
}

/// The kernel's error in Go's words, which are the C library's with a small first letter.
fn describe(errno: i32) -> String {
    let text = Errno::from_raw(errno).desc();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// As Go's strconv.Quote does it, but for characters that Unicode has not assigned.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        let short = match letter {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '\u{07}' => Some("\\a"),
            '\u{08}' => Some("\\b"),
            '\u{0c}' => Some("\\f"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            '\u{0b}' => Some("\\v"),
            _ => None,
        };
        match (short, u32::from(letter)) {
            (Some(short), _) => quoted.push_str(short),
            // Writing to a String cannot fail.
            (None, code @ (0..=0x1f | 0x7f)) => drop(write!(quoted, "\\x{code:02x}")),
            (None, code) if is_unprintable(letter) => drop(match code {
                ..=0xffff => write!(quoted, "\\u{code:04x}"),
                _ => write!(quoted, "\\U{code:08x}"),
            }),
            (None, _) => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Beyond ASCII: controls, spaces of other widths, what changes the look of the text around it, and private use.
const fn is_unprintable(letter: char) -> bool {
    matches!(
        letter,
        '\u{80}'..='\u{a0}'
            | '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{1680}'
            | '\u{180e}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{3000}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(detail: &str, errno: i32) -> Cause {
        Cause::StartFailed {
            step: StartStep::Exec,
            errno,
            detail: detail.into(),
        }
    }

    #[test]
    fn texts_are_those_of_go() {
        let signaled = |signal, core_dumped| Cause::Signaled { signal, core_dumped };
        let stopped = |signal, code| Cause::Stopped { signal, code };
        for (cause, text) in [
            (Cause::Exited { code: 0 }, None),
            (Cause::Exited { code: 127 }, Some("exit status 127")),
            (signaled(15, false), Some("signal: terminated")),
            (
                signaled(11, true),
                Some("signal: segmentation fault (core dumped)"),
            ),
            (signaled(6, true), Some("signal: aborted (core dumped)")),
            (signaled(1, false), Some("signal: hangup")),
            (signaled(31, false), Some("signal: bad system call")),
            (signaled(40, false), Some("signal: signal 40")),
            (stopped(Some(9), None), Some("signal: killed")),
            (stopped(Some(15), None), Some("signal: terminated")),
            (stopped(None, Some(0)), None),
            (stopped(None, Some(3)), Some("exit status 3")),
            (stopped(None, None), Some("signal: killed")),
            (Cause::OutOfMemory, Some("signal: killed")),
            (
                failed("nope", libc::ENOENT),
                Some("exec: \"nope\": executable file not found in $PATH"),
            ),
            (
                failed("/no/such/cmd", libc::ENOENT),
                Some("fork/exec /no/such/cmd: no such file or directory"),
            ),
            (
                failed("/p", libc::EACCES),
                Some("fork/exec /p: permission denied"),
            ),
            (
                failed("/p", libc::ENOEXEC),
                Some("fork/exec /p: exec format error"),
            ),
        ] {
            assert_eq!(error_text(&cause).as_deref(), text, "{cause:?}");
        }
    }

    #[test]
    fn names_are_quoted_as_go_does() {
        for (text, quoted) in [
            ("a\"b\\c", r#""a\"b\\c""#),
            ("a\tb\nc\x01\x7f", r#""a\tb\nc\x01\x7f""#),
            ("grün'", "\"grün'\""),
            ("\u{85}\u{202e}gnp.exe", r#""\u0085\u202egnp.exe""#),
            ("\u{e0041}\u{1f980}", "\"\\U000e0041\u{1f980}\""),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
