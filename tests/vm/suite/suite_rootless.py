"""A launcher of an ordinary user: in a cgroup that is delegated to it, and without one."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile

from harness import COMMAND_TIMEOUT_S, STOCKADE, Outcome, equal

USER = 64_999
ROOT = pathlib.Path("/sys/fs/cgroup")
IN_THE_MACHINE = pathlib.Path("/vm/command").exists()
BEST_EFFORT = '[sandbox]\nlimits = "best-effort"\n'


@contextlib.contextmanager
def delegated():
    """A cgroup that belongs to the user, as systemd-run --user --scope -p Delegate=yes makes one."""
    cgroup = ROOT / f"user-{os.getpid()}"
    cgroup.mkdir()
    for path in (cgroup, *(cgroup / f"cgroup.{name}" for name in ("procs", "threads", "subtree_control"))):
        os.chown(path, USER, USER)
    try:
        yield cgroup
    finally:
        for folder, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(folder)


def run(*command, options=(), cgroup=None, policy=None):
    """`stockade run` as the user, in that cgroup."""
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        report = pathlib.Path(folder) / "report.json"
        if policy:
            policies = pathlib.Path(folder) / "policies"
            policies.mkdir()
            (policies / "own.toml").write_text(policy)
            config = pathlib.Path(folder) / "config.toml"
            config.write_text(f'[worker]\npolicies_dir = "{policies}"\ndefault_policy = "own"\n')
            options = (*options, "--config", str(config))
        for path in (folder, *pathlib.Path(folder).rglob("*")):
            os.chown(path, USER, USER)

        def become_user():
            if cgroup:
                # An earlier run has made the leaf: a cgroup that hands controllers on holds no process.
                leaf = cgroup / "init"
                place = leaf if leaf.exists() else cgroup
                (place / "cgroup.procs").write_text(str(os.getpid()))
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)

        done = subprocess.run(
            [STOCKADE, "run", "--report", report, *options, "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            preexec_fn=become_user,
        )
        record = json.loads(report.read_text()) if report.exists() else {}
    return Outcome(done.returncode, done.stdout, done.stderr, 0.0, record)


def weaker(result):
    return [entry.split(":")[0] for entry in result.report["isolation"]["weaker"]]


def test_a_delegated_cgroup_has_all_limits():
    if not IN_THE_MACHINE:
        return
    with delegated() as cgroup:
        script = "id -u; id -G; cat /proc/self/cgroup; cat /proc/self/uid_map | tr -s ' '"
        result = run("sh", "-c", script, options=["--memory", "64M", "--pids", "20", "--cpus", "0.5"], cgroup=cgroup)
        equal((result.status, result.stdout), (0, b"1000\n1000\n0::/\n 1000 0 1\n"), result)
        isolation = result.report["isolation"]
        equal(isolation["cgroup_version"], "v2", isolation)
        limits = {name: isolation["limits"].get(name) for name in ("memory.max", "pids.max", "cpu.max")}
        equal(limits, {"memory.max": str(64 << 20), "pids.max": "20", "cpu.max": "50000 100000"}, isolation)
        equal(isolation["host_uid"], USER, isolation)
        equal(weaker(result), ["host uid", "devices"], isolation)
        equal(sorted(entry.name for entry in (cgroup / "stockade").iterdir() if entry.is_dir()), [], "left over")


def test_limits_of_a_delegated_cgroup_hold():
    if not IN_THE_MACHINE:
        return
    with delegated() as cgroup:
        result = run("python3", "-c", "b = b'x' * (300 << 20)", options=["--memory", "64M"], cgroup=cgroup)
        equal((result.status, result.cause), (137, "OUT_OF_MEMORY"), result)
        script = "for i in 1 2 3 4; do (while :; do :; done) & done; wait"
        result = run("sh", "-c", script, options=["--cpu-time", "2s", "--wall-time", "60s"], cgroup=cgroup)
        equal((result.status, result.cause), (124, "CPU_TIME"), result)
        result = run("sh", "-c", "setsid sleep 100 & exit 3", cgroup=cgroup)
        equal((result.status, result.cause), (3, "EXITED"), result)


def test_strict_runs_in_a_delegated_cgroup():
    if not IN_THE_MACHINE:
        return
    with delegated() as cgroup:
        result = run("sh", "-c", "grep -c CapEff:.0000000000000000 /proc/self/status", options=["--policy", "strict"], cgroup=cgroup)
        equal((result.status, result.stdout), (0, b"1\n"), result)


def test_without_a_cgroup_the_mend_is_named():
    if not IN_THE_MACHINE:
        return
    result = run("echo", "ran")
    equal((result.status, result.stdout), (125, b""), result)
    equal(result.report["start_failure"]["step"], "cgroup", result)
    for words in (b"sudo stockade run", b'sandbox.limits = "best-effort"'):
        assert words in result.stderr, result


def test_best_effort_runs_without_a_cgroup_and_tells():
    if not IN_THE_MACHINE:
        return
    result = run("sh", "-c", "echo ran; cat /proc/self/cgroup", policy=BEST_EFFORT)
    equal((result.status, result.stdout), (0, b"ran\n0::/\n"), result)
    told = ["limits.memory", "limits.pids", "limits.cpus", "limits.cpu_time"]
    equal([name for name in weaker(result) if name.startswith("limits.")], told, result)
    result = run("sh", "-c", "kill -9 $$", policy=BEST_EFFORT)
    equal((result.status, result.cause), (128 + signal.SIGKILL, "SIGNALED"), result)
