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


@dataclass
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
    root = pathlib.Path("/sys/fs/cgroup")
    return {str(folder) for folder, _, _ in os.walk(root)}


def mounts():
    return sorted(line.split(" ", 1)[1] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines())


def processes():
    """Pid and name of every process that is neither a kernel thread nor this one."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            name, rest = (entry / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        parent = rest.split()[1]
        if parent != "2" and entry.name != "2":
            found[entry.name] = name.split("(", 1)[1]
    return found


def files():
    """Everything in the folders that a worker writes to."""
    return {
        os.path.join(folder, name)
        for top in ("/tmp", "/run", "/var", "/dev/shm")
        for folder, folders, names in os.walk(top)
        for name in (*folders, *names)
    }


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
            lines = traceback.format_exc() if not isinstance(error, AssertionError) else str(error)
            print("".join(f"  # {line}\n" for line in lines.splitlines()), end="")
        else:
            print(f"ok {number} - {name} ({time.monotonic() - began:.1f} s)")
    print(f"{len(tests) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0
