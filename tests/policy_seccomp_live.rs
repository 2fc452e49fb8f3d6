//! Everyday programs work under the built-in filters.
//!
//! Needs no privilege: a filter may be installed by anybody with no_new_privs.

#[path = "support/needs.rs"]
mod needs;
mod policy_support;

use std::process::{Command, Stdio};

use policy_support::filter::{POLICIES, confined};

/// Whether a program is there to be tried.
fn available(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    needs::needs(
        name,
        std::env::split_paths(&path).any(|dir| dir.join(name).exists()),
    )
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
