//! `STOCKADE_FAULTS`, such as `cgroup.mkdir=ENOSPC@3; store.commit=abort@5; supervisor.output=EIO; supervisor.root=delay:200`:
//! what happens at a place, and at which of the times that it is passed (`@3`, `@3-5`; each time, where nothing is said).
//!
//! `STOCKADE_FAULT_PAGE` names a file of one page, whose first word arms one of the rules by its number, from 1 on, and
//! whose other words count how often each rule's place was passed meanwhile: a test holds the switch and sees what came
//! of it. Without that file all rules are armed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap};

const PAGE: usize = 4096;
const MOST: usize = 63;
const ALL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Fail(Errno),
    Abort,
    Delay(u32),
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    place: String,
    action: Action,
    first: u32,
    last: u32,
}

/// Shared by all processes that came from the first.
#[derive(Debug)]
#[repr(C)]
struct Counters {
    armed: AtomicU32,
    passed: [AtomicU32; MOST],
}

#[derive(Debug)]
struct Table {
    rules: Vec<Rule>,
    counters: &'static Counters,
}

static TABLE: OnceLock<Table> = OnceLock::new();

pub(super) fn start() {
    let Ok(text) = std::env::var("STOCKADE_FAULTS") else {
        return;
    };
    match read(&text) {
        Ok(table) => drop(TABLE.set(table)),
        Err(error) => {
            eprintln!("stockade: STOCKADE_FAULTS: {error}");
            super::super::exit_now(125);
        }
    }
}

/// Only atomic loads and system calls: the stub comes here, too.
pub(crate) fn hit(place: &str) -> Result<(), Errno> {
    let Some(table) = TABLE.get() else { return Ok(()) };
    let armed = table.counters.armed.load(Ordering::Relaxed);
    if armed == 0 {
        return Ok(());
    }
    for (number, (rule, passed)) in (1..).zip(table.rules.iter().zip(&table.counters.passed)) {
        if (armed == number || armed == ALL) && rule.place == place {
            let time = passed.fetch_add(1, Ordering::Relaxed) + 1;
            if (rule.first..=rule.last).contains(&time) {
                act(rule.action)?;
            }
        }
    }
    Ok(())
}

fn act(action: Action) -> Result<(), Errno> {
    match action {
        Action::Fail(errno) => Err(errno),
        Action::Abort => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The first process of a pid namespace is immune to its own signals.
            super::super::exit_now(137)
        }
        Action::Delay(ms) => {
            std::thread::sleep(std::time::Duration::from_millis(u64::from(ms)));
            Ok(())
        }
    }
}

fn read(text: &str) -> Result<Table, String> {
    let rules: Vec<Rule> = text
        .split(';')
        .map(str::trim)
        .filter(|rule| !rule.is_empty())
        .map(|rule| parse(rule).ok_or_else(|| format!("cannot be understood: {rule}")))
        .collect::<Result<_, _>>()?;
    if rules.len() > MOST {
        return Err(format!("more than {MOST} rules"));
    }
    let counters = counters().map_err(|error| format!("counters: {error}"))?;
    Ok(Table { rules, counters })
}

fn parse(rule: &str) -> Option<Rule> {
    let (place, what) = rule.split_once('=')?;
    let (action, times) = what.split_once('@').unwrap_or((what, "1-4294967295"));
    let (first, last) = times.split_once('-').unwrap_or((times, times));
    Some(Rule {
        place: place.trim().to_owned(),
        action: match action.trim().split_once(':') {
            Some(("delay", ms)) => Action::Delay(ms.parse().ok()?),
            Some(_) => return None,
            None if action.trim() == "abort" => Action::Abort,
            None => Action::Fail(errno(action.trim())?),
        },
        first: first.trim().parse().ok()?,
        last: last.trim().parse().ok()?,
    })
}

fn errno(name: &str) -> Option<Errno> {
    Some(match name {
        "EACCES" => Errno::ACCESS,
        "EAGAIN" => Errno::AGAIN,
        "EBUSY" => Errno::BUSY,
        "EDQUOT" => Errno::DQUOT,
        "EINVAL" => Errno::INVAL,
        "EIO" => Errno::IO,
        "EMFILE" => Errno::MFILE,
        "ENOMEM" => Errno::NOMEM,
        "ENOSPC" => Errno::NOSPC,
        "EPERM" => Errno::PERM,
        _ => return None,
    })
}

fn counters() -> Result<&'static Counters, Errno> {
    let page = match std::env::var_os("STOCKADE_FAULT_PAGE") {
        Some(path) => {
            let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            let access = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a new mapping, where the kernel likes it.
            unsafe { mmap(std::ptr::null_mut(), PAGE, access, MapFlags::SHARED, file, 0)? }
        }
        None => super::super::shared_memory(PAGE)?.as_mut_ptr().cast(),
    };
    // SAFETY: a page is larger than the counters, aligned, and never unmapped; any bits are counters.
    let counters = unsafe { &*page.cast::<Counters>() };
    if std::env::var_os("STOCKADE_FAULT_PAGE").is_none() {
        counters.armed.store(ALL, Ordering::Relaxed);
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_what_and_when() {
        let rule = parse("a.b = ENOSPC @ 3").expect("a rule");
        assert_eq!((rule.first, rule.last), (3, 3));
        assert_eq!(rule.action, Action::Fail(Errno::NOSPC));
        let rule = parse("a=abort@2-4").expect("a rule");
        assert_eq!((rule.first, rule.last, rule.action), (2, 4, Action::Abort));
        let rule = parse("a=delay:20").expect("a rule");
        assert_eq!(
            (rule.first, rule.last, rule.action),
            (1, u32::MAX, Action::Delay(20))
        );
        for wrong in ["a", "a=", "a=EWHAT", "a=delay:x", "a=EIO@x", "a=EIO:3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
