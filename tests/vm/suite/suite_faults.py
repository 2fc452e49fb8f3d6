"""Faults: a worker killed at random moments, jobs out of memory, jobs that multiply."""

import os
import random
import time

from harness import between, equal
from suite_serve import worker

ROUNDS = int(os.environ.get("STOCKADE_TEST_ROUNDS", "1"))
# Under emulation each takes seconds.
BOMBS_AT_ONCE = 20 if ROUNDS > 1 else 6
# Whatever can be ignored is.
BEGIN = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
"""
BOMBS = {
    "a fork bomb": """
print('at it', flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "processes in sessions of their own": """
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
print('at it', flush=True)
time.sleep(3600)
""",
    "orphans that fork again and again": """
for _ in range(3):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
print('at it', flush=True)
time.sleep(3600)
""",
    "stopped processes": """
for _ in range(10):
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
print('at it', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(3600)
""",
}


def test_jobs_survive_a_worker_killed_at_a_random_moment():
    for _ in range(ROUNDS):
        with worker() as running:
            jobs = [
                running.begin("sh", "-c", f"echo begin; sleep {random.random() * 4:.2f}; echo end; exit {code % 5}")
                for code in range(20)
            ]
            time.sleep(random.random() * 2)
            running.kill()
            running.start()
            for code, job in enumerate(jobs):
                running.client("wait", job, check=False)
                record = running.query(job)
                if record["cause"] == "LOST":
                    # Its launcher died between writing down the job and letting it go.
                    equal(record["cause_detail"], "its supervisor was gone at the start of the worker", record)
                    equal(running.logs(job), b"", record)
                else:
                    equal((record["cause"], record["exit_code"]), ("EXITED", code % 5), record)
                    equal(running.logs(job), b"begin\nend\n", record)


def test_memory_bombs_end_themselves_alone():
    bomb = "b = []\nwhile True: b.append(bytearray(1 << 20))"
    neighbour = "import time\nb = bytearray(10 << 20)\nprint('at it', flush=True)\nwhile True: time.sleep(1)"
    with worker() as running:
        calm = running.begin("python3", "-c", neighbour, options=["--memory", "32M"])
        running.await_line(calm, b"at it\n")
        for _ in range(ROUNDS):
            jobs = [running.begin("python3", "-c", bomb, options=["--memory", "24M"]) for _ in range(BOMBS_AT_ONCE)]
            for job in jobs:
                running.client("wait", job, check=False)
                record = running.query(job)
                equal((record["state"], record["cause"]), ("FINISHED", "OUT_OF_MEMORY"), record)
                between(8 << 20, record["usage"]["memory_peak_bytes"], 24 << 20, record)
        equal(running.query(calm)["state"], "RUNNING", calm)
        running.client("stop", "--wait", "--grace", "0s", calm)


def test_nothing_escapes_a_stop():
    with worker() as running:
        for number in range(ROUNDS * len(BOMBS)):
            name, script = list(BOMBS.items())[number % len(BOMBS)]
            grace = (0, 2)[number // len(BOMBS) % 2]
            job = running.begin("python3", "-c", BEGIN + script)
            running.await_line(job, b"at it\n")
            began = time.monotonic()
            running.client("stop", "--wait", "--grace", f"{grace}s", job)
            # The client alone takes a second under emulation.
            between(grace, time.monotonic() - began, grace + 6, name)
            record = running.query(job)
            equal((record["state"], record["cause"]), ("FINISHED", "STOPPED"), record)
