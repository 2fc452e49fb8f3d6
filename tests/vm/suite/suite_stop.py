"""A stop ends everything that a job has started, and nothing else is waited for."""

import os
import signal

from harness import Job, Remains, between, equal, run


def stopped(script, options=(), sent=signal.SIGTERM, status=None):
    """Stops a job that has printed a line, and looks for what it has left."""
    remains = Remains()
    job = Job("bash", "-c", script, options=options)
    equal(job.read_line(), b"ready\n", script)
    os.kill(job.process.pid, sent)
    result = job.end()
    equal(result.cause, "STOPPED", result)
    if status is not None:
        equal(result.status, status, result)
    remains.check(("cgroup", "mount", "process"))
    return result


def test_sigterm_stops_the_job():
    result = stopped("echo ready; exec sleep 100", status=128 + signal.SIGTERM)
    equal(result.report["stop"]["escalated"], False, result)


def test_sigint_stops_the_job():
    stopped("echo ready; exec sleep 100", sent=signal.SIGINT)


def test_a_job_may_clean_up_within_the_grace_period():
    script = "trap 'echo cleaned; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    result = stopped(script, options=["--grace", "20s"], status=7)
    equal(result.stdout, b"cleaned\n", result)


def test_a_job_that_ignores_the_signal_is_killed_after_the_grace_period():
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    result = stopped(script, options=["--grace", "1s"], status=128 + signal.SIGKILL)
    equal(result.report["stop"]["escalated"], True, result)
    between(1.0, result.seconds, 15.0, result)


def test_grandchildren_in_sessions_of_their_own_are_killed():
    script = """
trap '' TERM
for i in 1 2 3; do setsid bash -c 'trap "" TERM; (while :; do sleep 1; done) & while :; do sleep 1; done' & done
echo ready
wait
"""
    stopped(script, options=["--grace", "1s"])


def test_a_job_ends_with_its_main_process():
    remains = Remains()
    result = run("bash", "-c", "setsid bash -c 'trap \"\" TERM HUP; sleep 100' & (sleep 100 &) ; echo done")
    equal((result.status, result.cause, result.stdout), (0, "EXITED", b"done\n"), result)
    between(0.0, result.seconds, 20.0, result)
    remains.check(("cgroup", "mount", "process"))


def test_a_stopped_process_is_killed():
    stopped("sleep 100 & kill -STOP $!; echo ready; kill -STOP $$", options=["--grace", "1s"])
