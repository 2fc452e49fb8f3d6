"""Every limit holds, and the cause names it by the kernel's evidence."""

import pathlib
import subprocess

from harness import STOCKADE, between, equal, run

MIB = 1 << 20
SPIN = ["sh", "-c", "while :; do :; done"]


def limited(command, status, cause, *options):
    result = run(*command, options=options)
    equal((result.status, result.cause), (status, cause), result)
    return result


def test_wall_time():
    result = limited(["sleep", "100"], 124, "WALL_TIME", "--wall-time", "1s")
    between(1.0, result.seconds, 15.0, result)
    between(1000, result.report["usage"]["wall_ms"], 10_000, result)


def test_wall_time_of_a_job_that_ignores_every_signal():
    script = "trap '' TERM INT HUP QUIT; while :; do sleep 1; done"
    result = limited(["bash", "-c", script], 124, "WALL_TIME", "--wall-time", "1s")
    between(1.0, result.seconds, 15.0, result)


def test_cpu_time():
    result = limited(SPIN, 124, "CPU_TIME", "--cpu-time", "1s", "--wall-time", "60s")
    usage = result.report["usage"]
    between(1_000_000, usage["cpu_user_us"] + usage["cpu_system_us"], 2_000_000, result)


def test_cpu_time_is_of_all_processes_together():
    script = "for i in 1 2 3 4; do (while :; do :; done) & done; wait"
    limited(["sh", "-c", script], 124, "CPU_TIME", "--cpu-time", "2s", "--wall-time", "60s")


def test_cpu_rate():
    result = limited(SPIN, 124, "WALL_TIME", "--cpus", "0.25", "--wall-time", "4s", "--cpu-time", "60s")
    usage = result.report["usage"]
    rate = (usage["cpu_user_us"] + usage["cpu_system_us"]) / (usage["wall_ms"] * 1000)
    between(0.05, rate, 0.35, result)


def test_memory():
    result = limited(["python3", "-c", "b = b'x' * (300 << 20)"], 137, "OUT_OF_MEMORY", "--memory", "64M")
    assert result.report["usage"]["oom_kills"] >= 1, result
    between(32 * MIB, result.report["usage"]["memory_peak_bytes"], 65 * MIB, result)


def test_memory_of_many_processes_together():
    # Each of them is within the limit.
    script = "for i in 1 2 3 4; do python3 -c 'b = b\"x\" * (30 << 20); input()' </dev/zero & done; wait"
    limited(["bash", "-c", script], 137, "OUT_OF_MEMORY", "--memory", "64M")


def test_memory_for_the_arguments_alone():
    # It dies before it is the command, and its supervisor with it.
    limited(["/bin/true"] + ["x" * 104000] * 10, 137, "OUT_OF_MEMORY", "--memory", "1M")


def test_a_job_dies_no_later_than_its_worker():
    # As the kernel has it in a container that is to die first: the score cannot be lowered any more.
    worker = f"echo 1000 >/proc/self/oom_score_adj; exec {STOCKADE} run -- cat /proc/self/oom_score_adj"
    result = subprocess.run(["sh", "-c", worker], capture_output=True)
    equal((result.returncode, result.stdout), (0, b"1000\n"), result)


def test_memory_in_files_of_tmp_counts():
    result = run("sh", "-c", "head -c 200000000 /dev/zero >/tmp/x; echo $?", options=["--memory", "64M"])
    # The kernel kills for it, or the file system of /tmp is full before.
    assert result.cause == "OUT_OF_MEMORY" or result.stdout.strip() not in (b"0", b""), result


def test_memory_within_the_limit():
    limited(["python3", "-c", "b = b'x' * (40 << 20)"], 0, "EXITED", "--memory", "128M")


def test_pids():
    script = """
import os, time
made = 0
try:
    while made < 500:
        if os.fork() == 0:
            time.sleep(100)
            os._exit(0)
        made += 1
except BlockingIOError:
    print("refused after", made)
"""
    result = limited(["python3", "-c", script], 0, "EXITED", "--pids", "16")
    equal(result.stdout, b"refused after 15\n", result)


def test_fork_bomb():
    bomb = "b() { b | b & }; b; sleep 100"
    result = limited(["bash", "-c", bomb], 124, "WALL_TIME", "--pids", "32", "--wall-time", "3s")
    between(3.0, result.seconds, 30.0, result)


def test_output_is_cut_at_the_limit():
    result = limited(["head", "-c", "3000000", "/dev/zero"], 0, "EXITED", "--output-limit", "1M")
    output = result.report["output"]["stdout"]
    equal((output["total_bytes"], output["dropped_bytes"]), (3_000_000, 3_000_000 - MIB), result.report)
    assert result.stdout.startswith(bytes(MIB)), len(result.stdout)


def test_output_limit_kills_where_asked():
    options = ("--output-limit", "64K", "--on-output-limit", "kill")
    result = limited(["yes"], 137, "OUTPUT_LIMIT", *options)
    between(0.0, result.seconds, 30.0, result)


def test_workspace_bytes():
    script = "head -c 20000000 /dev/zero >file; stat -c %s file"
    result = limited(["sh", "-c", script], 0, "EXITED", "--disk", "4M")
    equal(int(result.stdout), 4 * MIB, result)
    assert b"No space left" in result.stderr, result


def test_workspace_inodes():
    script = "for i in $(seq 1000); do : >$i || break; done 2>/dev/null; ls | wc -l"
    result = limited(["bash", "-c", script], 0, "EXITED", "--inodes", "100")
    between(50, int(result.stdout), 100, result)


def test_open_files():
    script = """
import os
try:
    while True:
        last = os.dup(0)
except OSError as error:
    print(last + 1, error.errno)
"""
    result = limited(["python3", "-c", script], 0, "EXITED", "--open-files", "32")
    equal(result.stdout, b"32 24\n", result)


def test_the_receipt_shows_the_limits_as_the_kernel_has_them():
    result = limited(["true"], 0, "EXITED", "--memory", "96M", "--pids", "17", "--cpus", "0.5")
    isolation = result.report["isolation"]
    if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
        equal(isolation["cgroup_version"], "v2", isolation)
        limits = isolation["limits"]
        equal(limits["memory.max"], str(96 * MIB), limits)
        equal(limits["memory.swap.max"], "0", limits)
        equal(limits["pids.max"], "17", limits)
        equal(limits["cpu.max"].split()[0], str(int(limits["cpu.max"].split()[1]) // 2), limits)
    assert {"user", "pid", "mnt", "net", "uts", "ipc", "cgroup"} <= set(isolation["namespaces"]), isolation
    assert isolation["no_new_privs"] is True, isolation
    assert all(int(value, 16) == 0 for value in isolation["capabilities"].values()), isolation
    assert len(isolation["capabilities"]) == 5, isolation


def test_a_job_cannot_raise_its_limits():
    script = "for f in $(find / -name memory.max -o -name pids.max 2>/dev/null); do echo max >$f && echo raised $f; done; exit 0"
    result = limited(["bash", "-c", script], 0, "EXITED")
    equal(result.stdout, b"", result)
