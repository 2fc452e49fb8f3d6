"""The same through a worker: the client's commands, lost workers, and what a worker leaves."""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from harness import COMMAND_TIMEOUT_S, STOCKADE, Remains, between, equal, stockade

CONFIG = """
[grpc_server]
addr = "unix:{folder}/socket"
[worker]
state_dir = "{folder}/state"
on_shutdown = "{on_shutdown}"
"""


class Worker:
    """`stockade serve` on a socket of its own."""

    def __init__(self, folder, on_shutdown):
        # The server, which is not root, binds its socket in here.
        os.chmod(folder, 0o755)
        self.folder = folder
        self.config = pathlib.Path(folder) / "config.toml"
        self.config.write_text(CONFIG.format(folder=folder, on_shutdown=on_shutdown))
        self.environment = {**os.environ, "STOCKADE_ENDPOINT": f"unix:{folder}/socket"}
        self.start()

    def start(self):
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(
                [STOCKADE, "serve", "--config", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while self.client("worker", check=False).returncode != 0:
            assert time.monotonic() < deadline, f"the worker does not answer; {self.log()}"
            time.sleep(0.1)

    def kill(self):
        """Kills launcher and server without a warning; supervisors have a name of their own."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            try:
                if pathlib.Path(f"/proc/{child}/comm").read_text() == "stockade\n":
                    os.kill(int(child), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                # One that was not needed any more has ended meanwhile.
                pass
        self.process.kill()
        self.process.wait()

    def shut_down(self):
        self.process.terminate()
        equal(self.process.wait(timeout=60), 0, self.log())

    def log(self):
        return pathlib.Path(f"{self.folder}/log").read_text()[-1000:]

    def client(self, *arguments, check=True):
        result = stockade(*arguments, env=self.environment)
        assert result.returncode == 0 or not check, f"{result}; {self.log()}"
        return result

    def begin(self, *command, options=()):
        return self.client("start", *options, "--", *command).stdout.decode().strip()

    def query(self, job):
        return json.loads(self.client("query", "-o", "json", job).stdout)

    def logs(self, job, *options):
        return self.client("logs", *options, job).stdout

    def follow(self, job):
        """`logs -f`; its end is the job's."""
        return subprocess.Popen([STOCKADE, "logs", "-f", job], stdout=subprocess.PIPE, env=self.environment)

    def await_line(self, job, line):
        with self.follow(job) as reader:
            equal(reader.stdout.readline(), line, job)
            reader.kill()


@contextlib.contextmanager
def worker(on_shutdown="stop"):
    remains = Remains()
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        running = Worker(folder, on_shutdown)
        try:
            yield running
        except BaseException:
            running.kill()
            raise
        running.shut_down()
    # What the worker keeps for the next one, such as its cgroup, holds no process.
    remains.check(("process", "mount"))


def test_a_jobs_status_output_and_record():
    with worker() as running:
        job = running.begin("bash", "-c", "echo out; echo err >&2; exit 5")
        equal(running.client("wait", job, check=False).returncode, 5, running.query(job))
        record = running.query(job)
        equal((record["state"], record["cause"], record["exit_code"]), ("FINISHED", "EXITED", 5), record)
        result = running.client("logs", job)
        equal((result.stdout, result.stderr), (b"out\n", b"err\n"), record)


def test_output_is_kept_byte_for_byte():
    with worker() as running:
        job = running.begin("sh", "-c", "head -c 5000000 /dev/urandom | tee copy; sha256sum copy >&2")
        equal(running.client("wait", job, check=False).returncode, 0, running.query(job))
        result = running.client("logs", job)
        kept = hashlib.sha256(result.stdout).hexdigest()
        equal((len(result.stdout), kept), (5_000_000, result.stderr.decode().split()[0]), running.query(job))
        equal(running.query(job)["output"]["stdout"]["sha256"], kept, running.query(job))


def test_output_comes_while_the_job_runs():
    with worker() as running:
        job = running.begin("sh", "-c", "echo first; while [ ! -e /tmp/never ]; do sleep 0.2; done")
        with running.follow(job) as reader:
            equal(reader.stdout.readline(), b"first\n", job)
            equal(running.query(job)["state"], "RUNNING", job)
            running.client("stop", "--grace", "0s", job)
            equal(reader.communicate(timeout=COMMAND_TIMEOUT_S)[0], b"", job)


def test_limits_end_a_job_with_their_cause():
    cases = {
        "WALL_TIME": (("sleep", "100"), ("--wall-time", "1s")),
        "CPU_TIME": (("sh", "-c", "while :; do :; done"), ("--cpu-time", "1s")),
        "OUT_OF_MEMORY": (("python3", "-c", "b = b'x' * (300 << 20)"), ("--memory", "64M")),
        "OUTPUT_LIMIT": (("yes",), ("--output-limit", "64K", "--on-output-limit", "kill")),
    }
    with worker() as running:
        jobs = {cause: running.begin(*command, options=options) for cause, (command, options) in cases.items()}
        for cause, job in jobs.items():
            running.client("wait", job, check=False)
            record = running.query(job)
            equal((record["state"], record["cause"]), ("FINISHED", cause), record)


def test_stop_ends_everything_before_it_returns():
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo ready; while :; do sleep 1; done"
    with worker() as running:
        job = running.begin("bash", "-c", script)
        running.await_line(job, b"ready\n")
        began = time.monotonic()
        running.client("stop", "--wait", "--grace", "1s", job)
        between(1.0, time.monotonic() - began, 20.0, job)
        record = running.query(job)
        equal((record["state"], record["cause"], record["stop"]["escalated"]), ("FINISHED", "STOPPED", True), record)
        assert record["stop"]["killed"] >= 3, record


def test_a_job_outlives_its_worker():
    with worker(on_shutdown="stop") as running:
        short = running.begin("sh", "-c", "echo before; sleep 3; echo after; exit 6")
        long = running.begin("sleep", "100", options=["--wall-time", "4s"])
        endless = running.begin("sleep", "100")
        running.await_line(short, b"before\n")
        running.kill()
        # Both end while there is no worker: one by itself, one by its deadline.
        time.sleep(8)
        running.start()
        equal(running.client("wait", short, check=False).returncode, 6, running.query(short))
        equal(running.logs(short), b"before\nafter\n", running.query(short))
        running.client("wait", long, check=False)
        record = running.query(long)
        equal(record["cause"], "WALL_TIME", record)
        between(4000, record["usage"]["wall_ms"], 6000, record)
        equal(running.query(endless)["state"], "RUNNING", endless)
        running.client("stop", "--wait", endless)
        equal(running.query(endless)["cause"], "STOPPED", endless)


def test_30_jobs_at_once():
    with worker() as running:
        jobs = [running.begin("sh", "-c", f"sleep 1; echo {number}; exit {number}") for number in range(30)]
        for number, job in enumerate(jobs):
            equal(running.client("wait", job, check=False).returncode, number, running.query(job))
            equal(running.logs(job), f"{number}\n".encode(), running.query(job))
