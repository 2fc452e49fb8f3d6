//! The built-in filters in the kernel: everyday programs work, and what is refused is refused as the profile says.
//!
//! Needs no privilege: a filter may be installed by anybody with no_new_privs.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};

use stockade::job::JobRequest;
use stockade::policy::seccomp::call_number;
use stockade::policy::{PolicySet, Site, Tenant};

const POLICIES: [&str; 3] = ["default", "strict", "ci"];

fn program(policy: &str) -> Vec<u64> {
    let request = JobRequest {
        argv: vec!["true".into()],
        policy: Some(policy.into()),
        ..JobRequest::default()
    };
    let site = Site {
        default_policy: "default".into(),
        scripts_dir: None,
    };
    let tenant = Tenant { name: "t".into() };
    let resolved = PolicySet::built_in()
        .resolve(&request, &site, &tenant)
        .expect("a job");
    resolved
        .sandbox
        .seccomp
        .as_ref()
        .expect("a filter")
        .program
        .clone()
}

/// Installs `program` for this thread and what it executes. Makes only system calls.
fn install(program: &[u64]) -> std::io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: the pointer is to a sock_fprog whose array outlives the call and which the kernel only reads; each
    // word of it has the layout of a sock_filter.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

fn confined(policy: &str, command: &str, args: &[&str]) -> Output {
    let program = program(policy);
    let mut command = Command::new(command);
    command.args(args).stdin(Stdio::null());
    // SAFETY: between fork and exec `install` makes two system calls on memory that exists already.
    unsafe {
        command.pre_exec(move || install(&program));
    }
    command.output().expect("spawned")
}

/// Whether a program is there to be tried.
fn available(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(name).exists());
    if !found {
        println!("skipped: there is no {name}");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "{name} is required"
        );
    }
    found
}

fn assert_prints(policy: &str, command: &str, args: &[&str], expected: &str) {
    let output = confined(policy, command, args);
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout) == expected,
        "{policy}: {command}: {:?}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

const BASH: &str = r#"
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
for i in $(seq 200); do echo "line $i"; done | sort -rn -k2 | awk '{s += $2} END {print s}'
mkfifo p; (echo through > p &) ; cat p
ln -s p l; chmod 700 .; touch -d '2001-01-01' old; find . -newer old -name p
exec 3<>file; flock 3; echo x >&3; tar czf a.tgz file; tar xzOf a.tgz file
timeout 5 sleep 0.01; kill -0 $$; ulimit -n 64; wait
"#;

#[test]
fn shell_scripts_run() {
    for policy in POLICIES {
        assert_prints(policy, "bash", &["-c", BASH], "20100\nthrough\n./p\nx\n");
    }
}

const PYTHON: &str = r#"
import asyncio, fcntl, mmap, multiprocessing, os, signal, socket, sqlite3, subprocess, tempfile, threading, time

def square(x): return x * x

def main():
    done = []
    threads = [threading.Thread(target=done.append, args=(i,)) for i in range(8)]
    [t.start() for t in threads]; [t.join() for t in threads]
    assert sorted(done) == list(range(8))
    for how in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(how).Pool(2) as pool:
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    lock = multiprocessing.Lock()
    with lock: pass
    assert subprocess.check_output(["sh", "-c", "echo $((6*7))"]) == b"42\n"
    assert subprocess.run("exit 3", shell=True, start_new_session=True).returncode == 3

    async def serve():
        async def echo(reader, writer):
            writer.write(await reader.read(5)); await writer.drain(); writer.close()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        assert await reader.read(5) == b"hello"
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
    asyncio.run(serve())

    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(os.path.join(folder, "db"))
        db.execute("pragma journal_mode=wal"); db.execute("create table t (x)")
        db.executemany("insert into t values (?)", [(i,) for i in range(100)]); db.commit()
        assert db.execute("select sum(x) from t").fetchone() == (4950,)
        with open(os.path.join(folder, "f"), "wb") as f:
            fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX); f.truncate(1 << 16); os.fsync(f.fileno())
        os.mkfifo(os.path.join(folder, "p"))
    a, b = socket.socketpair(); a.sendall(b"x"); assert b.recv(1) == b"x"
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 0))
    try: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).bind(("::1", 0))
    except OSError as e: assert e.errno != 1
    mmap.mmap(-1, 1 << 20).close(); os.close(os.memfd_create("m"))
    signal.signal(signal.SIGALRM, lambda *_: done.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.05); assert done[-1] == "alarm"
    assert os.sched_getaffinity(0) and len(os.urandom(8)) == 8 and socket.if_nameindex
    print("fine")

if __name__ == "__main__":
    main()
"#;

#[test]
fn python_programs_run() {
    if !available("python3") {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let script = dir.path().join("everyday.py");
    std::fs::write(&script, PYTHON).expect("write");
    let script = script.to_str().expect("UTF-8");
    for policy in POLICIES {
        assert_prints(policy, "python3", &["-W", "ignore", script], "fine\n");
    }
}

const HELLO: &str = r#"
#include <pthread.h>
#include <stdio.h>
static void *work(void *p) { *(int *)p = 42; return p; }
int main(void) { pthread_t t; int n = 0; pthread_create(&t, 0, work, &n); pthread_join(t, 0); printf("%d\n", n); return 0; }
"#;

#[test]
fn a_compiler_and_what_it_makes_run() {
    if !available("gcc") {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("hello.c"), HELLO).expect("write");
    let script = format!(
        "cd '{}' && gcc -pthread -o hello hello.c && ./hello",
        dir.path().display()
    );
    for policy in POLICIES {
        assert_prints(policy, "sh", &["-c", &script], "42\n");
    }
}

/// Programs with runtimes of their own, where this machine has them.
#[test]
fn other_everyday_programs_run() {
    let git = "cd $(mktemp -d) && git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x \
               && git log --format=%s && rm -rf $PWD";
    let node = "const {Worker, isMainThread} = require('worker_threads'); \
                require('net').createServer().listen(0, '127.0.0.1', function () { this.close(); \
                require('child_process').execFile('true', () => require('fs').readFile('/dev/null', () => console.log('fine'))) })";
    let perl = "use Socket; socket(S, PF_INET, SOCK_STREAM, 6) or die; $p = fork // die; exit if !$p; \
                wait; print qq(fine\\n)";
    for (name, args, expected) in [
        ("git", vec!["sh", "-c", git], "x\n"),
        ("node", vec!["node", "-e", node], "fine\n"),
        ("perl", vec!["perl", "-e", perl], "fine\n"),
        ("jq", vec!["jq", "-n", "1+1"], "2\n"),
        ("xz", vec!["sh", "-c", "echo fine | xz -T2 | xz -d"], "fine\n"),
        (
            "zstd",
            vec!["sh", "-c", "echo fine | zstd -T2 -c | zstd -d -c"],
            "fine\n",
        ),
        (
            "make",
            vec![
                "sh",
                "-c",
                "printf 'all: a b\\na b:;@true\\n' | make -s -j2 -f - && echo fine",
            ],
            "fine\n",
        ),
        ("java", vec!["sh", "-c", "java -version 2>&1 | grep -c VM"], "1\n"),
    ] {
        let found = Command::new(name)
            .arg("--help")
            .stdin(Stdio::null())
            .output()
            .is_ok();
        if !found {
            println!("skipped: there is no {name}");
            continue;
        }
        for policy in POLICIES {
            assert_prints(policy, args[0], &args[1..], expected);
        }
    }
}

/// The error number of a call under `policy`'s filter, 0 where it succeeded.
///
/// A filter confines one thread, and what that thread starts: a thread is enough to try it in.
fn errno_of(policy: &str, call: &str, arguments: [u64; 5]) -> i32 {
    let number = i64::from(call_number(call).expect(call));
    let program = program(policy);
    std::thread::spawn(move || {
        install(&program).expect("installed");
        let [a, b, c, d, e] = arguments;
        // SAFETY: the tables below name calls with arguments that the kernel refuses or that change nothing here.
        match unsafe { libc::syscall(number, a, b, c, d, e) } {
            -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
            _ => 0,
        }
    })
    .join()
    .expect("the thread ends")
}

/// The signal that ends a process of `policy` which makes `call`.
fn signal_of(policy: &str, call: impl Fn() + Send + Sync + 'static) -> Option<i32> {
    let program = program(policy);
    let mut command = Command::new("true");
    // SAFETY: as in `confined`; all that `call` does is one system call.
    unsafe {
        command.pre_exec(move || {
            install(&program)?;
            call();
            Ok(())
        });
    }
    command.status().expect("spawned").signal()
}

fn system_call(number: i64, arguments: [u64; 2]) {
    // SAFETY: the calls that are tried are refused before their arguments are looked at, or refuse these arguments.
    unsafe { libc::syscall(number, arguments[0], arguments[1], 0, 0, 0) };
}

const NOWHERE: u64 = u64::MAX;

/// Each with arguments to which the kernel itself would give another answer.
#[test]
fn refused_calls_fail_as_the_profile_says() {
    let cases: &[(&str, [u64; 5], i32)] = &[
        ("clone3", [0; 5], libc::ENOSYS),
        ("clone", [0x0002_0000 | 0x200, 0, 0, 0, 0], libc::EPERM), // CLONE_NEWNS | CLONE_FS
        ("unshare", [0; 5], libc::EPERM),
        ("setns", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("ptrace", [1, NOWHERE, 0, 0, 0], libc::EPERM),
        ("process_vm_readv", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("process_madvise", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("pidfd_getfd", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("bpf", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("perf_event_open", [0; 5], libc::EPERM),
        ("userfaultfd", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("io_uring_setup", [0; 5], libc::ENOSYS),
        ("io_setup", [0; 5], libc::ENOSYS),
        ("keyctl", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("add_key", [0; 5], libc::EPERM),
        ("mount", [1, 1, 1, 0, 0], libc::EPERM),
        ("umount2", [1, 0, 0, 0, 0], libc::EPERM),
        ("chroot", [1, 0, 0, 0, 0], libc::EPERM),
        ("open_tree", [NOWHERE, 1, 0, 0, 0], libc::EPERM),
        ("fsopen", [1, 0, 0, 0, 0], libc::EPERM),
        ("mount_setattr", [NOWHERE, 1, 0, 1, 0], libc::EPERM),
        ("name_to_handle_at", [NOWHERE, 1, 1, 1, 0], libc::EPERM),
        ("open_by_handle_at", [NOWHERE, 1, 0, 0, 0], libc::EPERM),
        ("fanotify_init", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("sync", [0; 5], libc::EPERM),
        ("syncfs", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("reboot", [0; 5], libc::EPERM),
        ("init_module", [1, 0, 1, 0, 0], libc::EPERM),
        ("clock_settime", [NOWHERE, 1, 0, 0, 0], libc::EPERM),
        ("swapon", [1, 0, 0, 0, 0], libc::EPERM),
        ("acct", [1, 0, 0, 0, 0], libc::EPERM),
        ("syslog", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("sethostname", [1, NOWHERE, 0, 0, 0], libc::EPERM),
        ("move_pages", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("seccomp", [1, 8, 0, 0, 0], libc::EPERM),
        ("personality", [0x0004_0000, 0, 0, 0, 0], libc::EPERM),
        ("mknodat", [NOWHERE, 1, 0x2000, 0, 0], libc::EPERM), // S_IFCHR
        ("memfd_create", [1, 4, 0, 0, 0], libc::ENOMEM),      // MFD_HUGETLB
        ("shmget", [0, 1, 0x800 | 0x4000_0000, 0, 0], libc::ENOMEM),
        ("fcntl", [NOWHERE, 1031, 0, 0, 0], libc::EPERM), // F_SETPIPE_SZ
        ("fcntl", [NOWHERE, 1024, 0, 0, 0], libc::EPERM), // F_SETLEASE
        ("ioctl", [NOWHERE, 0x5412, 0, 0, 0], libc::EPERM),
        ("socket", [17, 3, 0, 0, 0], libc::EAFNOSUPPORT), // AF_PACKET
        ("socket", [40, 1, 0, 0, 0], libc::EAFNOSUPPORT), // AF_VSOCK
        ("socket", [38, 5, 0, 0, 0], libc::EAFNOSUPPORT), // AF_ALG
        ("socket", [2, 3, 1, 0, 0], libc::EPERM),         // raw ICMP
        ("socket", [2, 1, 132, 0, 0], libc::EPROTONOSUPPORT), // SCTP
        ("socket", [2, 1, 262, 0, 0], libc::EPROTONOSUPPORT), // MPTCP
        ("socket", [16, 3, 15, 0, 0], libc::EPROTONOSUPPORT), // NETLINK_KOBJECT_UEVENT
        ("socketpair", [2, 1, 0, 1, 0], libc::EAFNOSUPPORT),
    ];
    for (call, arguments, errno) in cases {
        assert_eq!(
            errno_of("default", call, *arguments),
            *errno,
            "{call} {arguments:x?}"
        );
    }
}

/// The kernel takes only the low half of these arguments: a rule that looked at all of it would be passed by.
#[test]
fn the_high_half_of_an_int_hides_nothing() {
    let high = 0xdead_beef_0000_0000;
    for (call, arguments, errno) in [
        ("ioctl", [NOWHERE, high | 0x5412, 0, 0, 0], libc::EPERM),
        ("fcntl", [NOWHERE, high | 1031, 0, 0, 0], libc::EPERM),
        ("socket", [high | 17, 3, 0, 0, 0], libc::EAFNOSUPPORT),
        ("socket", [high | 2, high | 3, 1, 0, 0], libc::EPERM),
        ("personality", [high | 0x0004_0000, 0, 0, 0, 0], libc::EPERM),
        ("clone", [high | 0x0002_0200, 0, 0, 0, 0], libc::EPERM),
        ("socket", [high | 2, high | 1, high, 0, 0], 0),
    ] {
        assert_eq!(
            errno_of("default", call, arguments),
            errno,
            "{call} {arguments:x?}"
        );
    }
}

#[test]
fn what_is_allowed_reaches_the_kernel() {
    for (policy, call, arguments, errno) in [
        ("default", "personality", [0xffff_ffff, 0, 0, 0, 0], 0),
        ("default", "mknodat", [NOWHERE, 1, 0x1000, 0, 0], libc::EFAULT),
        ("default", "socket", [16, 3, 0, 0, 0], 0),
        ("default", "prctl", [16, 1, 0, 0, 0], libc::EFAULT),
        ("default", "fcntl", [NOWHERE, 6, 0, 0, 0], libc::EBADF),
        ("ci", "ptrace", [1, 0x7fff_fff0, 0, 0, 0], libc::ESRCH),
        ("ci", "personality", [8, 0, 0, 0, 0], 0),
        ("strict", "socket", [16, 3, 0, 0, 0], libc::EAFNOSUPPORT),
        ("strict", "memfd_create", [1, 0, 0, 0, 0], libc::EFAULT),
    ] {
        assert_eq!(errno_of(policy, call, arguments), errno, "{policy}: {call}");
    }
}

#[test]
fn under_the_strict_policy_attacks_on_the_kernel_are_fatal() {
    for call in [
        "bpf",
        "mount",
        "ptrace",
        "keyctl",
        "finit_module",
        "setns",
        "userfaultfd",
        "open_by_handle_at",
    ] {
        let number = i64::from(call_number(call).expect(call));
        assert_eq!(
            signal_of("strict", move || system_call(number, [0; 2])),
            Some(libc::SIGSYS),
            "{call}"
        );
        assert_eq!(
            signal_of("default", move || system_call(number, [0; 2])),
            None,
            "{call}"
        );
    }
    let sti = [u64::MAX, 0xdead_beef_0000_5412];
    assert_eq!(
        signal_of("strict", move || system_call(libc::SYS_ioctl, sti)),
        Some(libc::SIGSYS)
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_other_abis_of_the_processor_are_closed() {
    for policy in POLICIES {
        let x32 = || system_call(0x4000_0000 | libc::SYS_getpid, [0; 2]);
        assert_eq!(signal_of(policy, x32), Some(libc::SIGSYS), "x32, {policy}");
        // SAFETY: the i386 entry; 20 is its getpid, and it touches only eax.
        let i386 = || unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => _) };
        let signal = signal_of(policy, i386);
        // A kernel without that entry answers with SIGSEGV.
        assert!(
            matches!(signal, Some(libc::SIGSYS | libc::SIGSEGV)),
            "i386, {policy}: {signal:?}"
        );
    }
}
