"""What the tests of the core suite share: running jobs, collecting results, and seeing what is left over."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import traceback
from dataclasses import dataclass, field

STOCKADE = os.environ.get("STOCKADE", "/usr/bin/stockade")
# No single command of this suite takes longer, not even under emulation.
COMMAND_TIMEOUT_S = 120
# Of a failure's message; an outcome with megabytes of output helps nobody.
MESSAGE_MAX = 1500


@dataclass(repr=False)
class Outcome:
    """How `stockade run` ended and what it reported."""

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float
    report: dict = field(default_factory=dict)

    @property
    def cause(self):
        return self.report.get("cause")

    def __repr__(self):
        """What helps to understand a failure, not the megabytes."""
        told = ("cause", "cause_detail", "exit_code", "signal", "error_text", "usage", "output", "stop")
        shown = {key: self.report[key] for key in told if self.report.get(key) is not None}
        ends = f"stdout={self.stdout[-200:]!r} stderr={self.stderr[-400:]!r}"
        return f"status={self.status} after {self.seconds:.1f} s {ends} report={shown}"


def stockade(*arguments, **keywords):
    """Runs a subcommand to its end."""
    return subprocess.run(
        [STOCKADE, *arguments], capture_output=True, timeout=COMMAND_TIMEOUT_S, **keywords
    )


class Job:
    """`stockade run` in the background."""

    def __init__(self, *command, options=()):
        self.folder = tempfile.TemporaryDirectory(prefix="suite-")
        self.report = pathlib.Path(self.folder.name) / "report.json"
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [STOCKADE, "run", "--report", self.report, *options, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def read_line(self):
        """The job's next line: that it came tells that the job runs."""
        return self.process.stdout.readline()

    def end(self):
        with self.folder:
            stdout, stderr = self.process.communicate(timeout=COMMAND_TIMEOUT_S)
            seconds = time.monotonic() - self.began
            report = json.loads(self.report.read_text()) if self.report.exists() else {}
        return Outcome(self.process.returncode, stdout, stderr, seconds, report)


def run(*command, options=()):
    return Job(*command, options=options).end()


def equal(actual, expected, of):
    """An assertion that shows both sides and the whole outcome."""
    assert actual == expected, f"{actual!r} instead of {expected!r}; {of}"


def between(low, actual, high, of):
    assert low <= actual <= high, f"{actual!r} is not within {low!r} and {high!r}; {of}"


def cgroups():
    """All of stockade's: a host makes others whenever it likes."""
    root = pathlib.Path("/sys/fs/cgroup")
    return {str(folder) for folder, _, _ in os.walk(root) if "stockade" in str(folder)}


def mounts():
    return sorted(line.split(" ", 1)[1] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines())


# Host ids of jobs begin here; see `isolation.first_host_id`.
FIRST_HOST_ID = 1_500_000_000


def processes():
    """Every process of a job, and every one of stockade's own, by pid and name."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "comm").read_text().strip()
            owner = entry.stat().st_uid
        except OSError:
            continue
        if owner >= FIRST_HOST_ID or name.startswith("stockade"):
            found.add(f"{entry.name} {name}")
    return found


def files():
    """Everything directly in the folders for temporary files, and all of stockade's there and where a host keeps its own."""
    temporary = ("/tmp", "/dev/shm")
    own = [os.path.join(top, "stockade") for top in (*temporary, "/run", "/var/lib")]
    found = {os.path.join(top, name) for top in temporary for name in os.listdir(top)}
    for folder, folders, names in (entry for top in own for entry in os.walk(top)):
        found.update(os.path.join(folder, name) for name in (*folders, *names))
    return found


KINDS = {"cgroup": cgroups, "mount": mounts, "process": processes, "file": files}


class Remains:
    """What is on the machine now, so that a later look tells what jobs have left."""

    def __init__(self):
        self.before = {kind: look() for kind, look in KINDS.items()}

    def check(self, kinds=tuple(KINDS), settle_s=2.0):
        """Orphans are reaped by the machine's init, which may take a moment."""
        deadline = time.monotonic() + settle_s
        while True:
            added = {kind: sorted(set(KINDS[kind]()) - set(self.before[kind])) for kind in kinds}
            if not any(added.values()):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"left over: { {kind: names for kind, names in added.items() if names} }")
            time.sleep(0.05)


def main(tests):
    """Runs the tests, prints a line for each and the closing line; the exit status."""
    failed = 0
    for number, test in enumerate(tests, 1):
        name = f"{test.__module__}: {test.__name__.replace('_', ' ')}"
        began = time.monotonic()
        try:
            test()
        except Exception as error:  # every failure is reported, and the next test goes on
            failed += 1
            print(f"not ok {number} - {name}")
            text = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
            print("".join(f"  # {line}\n" for line in text[:MESSAGE_MAX].splitlines()), end="")
        else:
            print(f"ok {number} - {name} ({time.monotonic() - began:.1f} s)")
    print(f"{len(tests) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0
