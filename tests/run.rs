//! `stockade run`: output that its own standard streams do not take, and other runs beside it.

#[path = "support/needs.rs"]
mod needs;

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// stockade's own failure.
const OWN: i32 = 125;

fn run(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(["run", "--output-limit", "16M"]);
    command.args(["--", "sh", "-c", script]);
    command.stdin(Stdio::null());
    command
}

fn able() -> bool {
    needs::needs_sandboxes()
}

fn ends_within(child: &mut Child, limit: Duration) -> ExitStatus {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("it is still there");
        }
        sleep(Duration::from_millis(20));
    }
}

fn terminate(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("kill");
}

fn lines(count: u32) -> Vec<u8> {
    (1..=count).fold(Vec::new(), |mut text, line| {
        text.extend_from_slice(format!("{line}\n").as_bytes());
        text
    })
}

/// Needs root. The old root is taken off late, when the job's stub is there already.
#[test]
fn a_job_finds_no_mount_of_the_host() {
    if !able() {
        return;
    }
    let table = run("cat /proc/self/mountinfo").output().expect("it runs");
    assert!(table.status.success(), "{table:?}");
    let table = String::from_utf8(table.stdout).expect("text");
    let mounts: Vec<(&str, &str)> = table
        .lines()
        .map(|line| {
            // proc_pid_mountinfo(5): the fifth field is where, and behind the dash comes the type.
            let (place, kind) = line.split_once(" - ").expect("two parts");
            let at = place.split(' ').nth(4).expect("a mount point");
            (at, kind.split(' ').next().expect("a type"))
        })
        .collect();
    assert_eq!(mounts.iter().filter(|(at, _)| *at == "/").count(), 1, "{table}");
    for (at, kind) in mounts {
        assert!(matches!(kind, "tmpfs" | "overlay" | "proc"), "{at}: {kind}");
        // Where the old root was.
        assert_ne!(at, "/proc/empty");
    }
}

/// Needs root.
#[test]
fn every_step_of_a_launch_is_told_once_with_its_time() {
    if !able() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(["run", "--timings", "--", "sh", "-c", "sleep 0.1"]);
    let (before, output) = (Instant::now(), command.output().expect("it runs"));
    let took = before.elapsed();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    let mut steps: Vec<(&str, Duration)> = Vec::new();
    for line in told.lines() {
        let line = line.strip_prefix("stockade:").expect("whose it is");
        let (micros, step) = line.split_once(" µs  ").expect("a time and a step");
        let micros = micros.trim().parse().expect("a number");
        assert!(
            steps.iter().all(|(other, _)| *other != step),
            "{step} twice: {told}"
        );
        steps.push((step, Duration::from_micros(micros)));
    }
    for step in [
        "launcher: command line",
        "launcher: policy",
        "launcher: cgroup, network",
        "launcher: clean-up",
        "supervisor: parts of the root",
        "supervisor: stub to exec",
    ] {
        assert!(steps.iter().any(|(told, _)| *told == step), "no {step}: {told}");
    }
    // The launcher's are the whole of it, one after the other, but for the start of the program.
    let launcher = steps.iter().filter(|(step, _)| step.starts_with("launcher: "));
    let launcher: Duration = launcher.map(|(_, time)| *time).sum();
    assert!(
        launcher <= took && launcher >= Duration::from_millis(100),
        "{launcher:?} of {took:?}"
    );
}

/// Needs root.
#[test]
fn a_full_disk_is_no_success() {
    if !able() {
        return;
    }
    let folder = tempfile::tempdir().expect("tempdir");
    let report = folder.path().join("report.json");
    for script in ["echo hello", "yes"] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("open");
        let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["run", "--report"])
            .arg(&report)
            .args(["--", "sh", "-c", script])
            .stdout(full)
            .output()
            .expect("stockade");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(OWN), "{message}");
        assert!(message.contains("stdout: No space left on device"), "{message}");
        let report = std::fs::read_to_string(&report).expect("the report is written all the same");
        assert!(report.contains("\"cause\""), "{report}");
    }
}

/// Needs root.
#[test]
fn a_report_that_cannot_be_written_keeps_the_job_from_starting() {
    if !able() {
        return;
    }
    for path in ["/nonexistent/report.json", "/dev/null/report.json", "/tmp"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command.args(["run", "--report", path, "--", "echo", "ran"]);
        let output = command.output().expect("stockade");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(OWN), "{message}");
        assert!(message.contains(&format!("--report {path}: ")), "{message}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

/// Needs root.
#[test]
fn a_report_to_the_standard_output_follows_what_the_job_wrote() {
    if !able() {
        return;
    }
    let folder = tempfile::tempdir().expect("tempdir");
    // As /dev/stdout of the host, which nobody is to replace.
    let link = folder.path().join("stdout");
    std::os::unix::fs::symlink("/proc/self/fd/1", &link).expect("symlink");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.arg("run").arg("--report").arg(&link);
    command.args(["--", "echo", "ran"]);
    let piped = command.output().expect("stockade").stdout;
    let file = folder.path().join("file");
    let status = command.stdout(File::create(&file).expect("create")).status();
    assert!(status.expect("stockade").success());
    for all in [piped, std::fs::read(&file).expect("read")] {
        let all = String::from_utf8(all).expect("text");
        assert!(all.starts_with("ran\n{") && all.ends_with("}\n"), "{all}");
    }
    assert!(link.is_symlink());
}

/// Needs root.
#[test]
fn a_folder_of_scripts_may_be_relative() {
    if !able() {
        return;
    }
    let folder = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(folder.path().join("scripts")).expect("mkdir");
    let write = |name, text| std::fs::write(folder.path().join(name), text).expect("write");
    write("scripts/hello.sh", "echo hello");
    write("here.toml", "[worker]\nscripts_dir = \"scripts\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(["run", "--config", "here.toml", "--path", "hello.sh", "--", "sh"]);
    let output = command.current_dir(&folder).output().expect("stockade");
    assert_eq!(output.stdout, b"hello\n", "{output:?}");
}

/// Needs root.
#[test]
fn a_reader_gets_every_byte_once_however_slowly() {
    if !able() {
        return;
    }
    for non_blocking in [false, true] {
        let (mut reader, writer) = io::pipe().expect("pipe");
        if non_blocking {
            let flags = fcntl_getfl(&writer).expect("F_GETFL");
            fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("F_SETFL");
        }
        let mut child = run("seq 1 100000").stdout(writer).spawn().expect("stockade");
        let mut read = Vec::new();
        let mut piece = [0; 5000];
        loop {
            match reader.read(&mut piece).expect("read") {
                0 => break,
                count => read.extend_from_slice(&piece[..count]),
            }
            if read.len() < 200_000 {
                sleep(Duration::from_millis(5));
            }
        }
        assert!(read == lines(100_000), "{} bytes", read.len());
        assert!(ends_within(&mut child, Duration::from_secs(10)).success());
    }
}

/// Needs root.
#[test]
fn signals_are_heard_while_nobody_reads() {
    if !able() {
        return;
    }
    // One that runs, and one that is over.
    for script in ["yes", "seq 1 100000"] {
        let (reader, writer) = io::pipe().expect("pipe");
        let mut child = run(script)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .expect("stockade");
        let until = Instant::now() + Duration::from_secs(10);
        while !is_full(&reader) && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
        sleep(Duration::from_millis(200));
        terminate(&child);
        let status = ends_within(&mut child, Duration::from_secs(10));
        let message = io::read_to_string(child.stderr.take().expect("piped")).expect("stderr");
        assert_eq!(status.code(), Some(OWN), "{message}");
        assert!(message.contains("stdout: nobody takes the rest"), "{message}");
    }
}

fn is_full(pipe: &io::PipeReader) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|held| held >= 60_000)
}

/// Needs root.
#[test]
fn a_reader_that_goes_ends_the_job_and_is_no_loss() {
    if !able() {
        return;
    }
    let (mut reader, writer) = io::pipe().expect("pipe");
    let mut child = run("yes")
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("stockade");
    reader.read_exact(&mut [0; 100]).expect("read");
    // More than the limit has been written then.
    sleep(Duration::from_millis(500));
    drop(reader);
    let status = ends_within(&mut child, Duration::from_secs(10));
    let message = io::read_to_string(child.stderr.take().expect("piped")).expect("stderr");
    assert_eq!(status.code(), Some(137), "{message}");
    assert_eq!(message, "", "nobody misses anything");
}

/// Needs root.
#[test]
fn a_file_gets_all_output() {
    if !able() {
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("tempfile");
    let to = File::create(file.path()).expect("create");
    let status = run("seq 1 100000").stdout(to).status().expect("stockade");
    assert!(status.success());
    assert!(std::fs::read(file.path()).expect("read") == lines(100_000));
}

/// Needs root.
#[test]
fn a_run_in_another_pid_namespace_is_left_alone() {
    if !able() {
        return;
    }
    let mut longer = run("sleep 2; exit 3").spawn().expect("stockade");
    sleep(Duration::from_millis(300));
    let other = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(env!("CARGO_BIN_EXE_stockade"))
        .args(["run", "--", "true"])
        .status()
        .expect("unshare");
    assert!(other.success());
    let status = ends_within(&mut longer, Duration::from_secs(10));
    assert_eq!(status.code(), Some(3));
}

/// Needs root and python3.
#[test]
fn what_the_kernel_limits_for_each_user_is_each_runs_own() {
    if !able() {
        return;
    }
    let taker = "import ctypes, time\nlibc, taken = ctypes.CDLL(None), 0\n\
        while libc.inotify_init() >= 0: taken += 1\nprint(taken, flush=True)\ntime.sleep(60)\n";
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command.args(["run", "--", "python3", "-c", taker]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().expect("run")
    };
    let mut runs = [start(), start()];
    for run in &mut runs {
        let mut line = String::new();
        let mut lines = BufReader::new(run.stdout.take().expect("a pipe"));
        lines.read_line(&mut line).expect("read");
        let taken: u32 = line.trim().parse().expect("a number");
        assert!(taken > 100, "{taken}");
    }
    // Nor from root of the host.
    rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).expect("an instance");
    for mut run in runs {
        terminate(&run);
        ends_within(&mut run, Duration::from_secs(10));
    }
}
