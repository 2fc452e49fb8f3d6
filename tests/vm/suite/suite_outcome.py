"""Exit status, cause and output."""

import hashlib
import signal
import tempfile

from harness import equal, run


def outcome(command, status, cause, options=()):
    result = run(*command, options=options)
    equal((result.status, result.cause), (status, cause), result)
    return result


def test_exit_0():
    result = outcome(["true"], 0, "EXITED")
    equal(result.report["exit_code"], 0, result)


def test_exit_3():
    result = outcome(["sh", "-c", "exit 3"], 3, "EXITED")
    equal(result.report["exit_code"], 3, result)


def test_not_found_is_127():
    result = outcome(["no-such-program"], 127, "START_FAILED")
    assert b"no-such-program" in result.stderr, result


def test_not_executable_is_126():
    outcome(["/etc/passwd"], 126, "START_FAILED")


def test_killed_by_a_signal_is_128_and_its_number():
    for name in ("SIGTERM", "SIGKILL", "SIGSEGV", "SIGUSR1"):
        number = getattr(signal, name)
        result = outcome(["sh", "-c", f"kill -{number} $$"], 128 + number, "SIGNALED")
        equal(result.report["signal"], number, result)


def test_a_shell_that_reports_its_childs_signal_exited():
    outcome(["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, "EXITED")


def test_output_is_passed_through_byte_for_byte():
    size = 10_000_000
    script = f"""
import os, random
os.write(2, b"\\x00\\xff no newline")
out = os.fdopen(1, "wb")
out.write(random.Random(7).randbytes({size}))
"""
    import random

    expected = random.Random(7).randbytes(size)
    result = outcome(["python3", "-c", script], 0, "EXITED")
    equal(hashlib.sha256(result.stdout).hexdigest(), hashlib.sha256(expected).hexdigest(), len(result.stdout))
    equal(result.stderr, b"\x00\xff no newline", "standard error")
    equal(result.report["output"]["stdout"]["total_bytes"], size, result.report)
    equal(result.report["output"]["stdout"]["sha256"], hashlib.sha256(expected).hexdigest(), result.report)


def test_one_line_of_many_megabytes():
    result = outcome(["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x"], 0, "EXITED")
    equal(result.stdout, b"x" * 5_000_000, len(result.stdout))


def test_standard_input_is_empty_unless_given():
    result = outcome(["cat"], 0, "EXITED")
    equal(result.stdout, b"", result)
    with tempfile.NamedTemporaryFile() as given:
        given.write(b"given\n")
        given.flush()
        result = outcome(["cat"], 0, "EXITED", options=["--stdin", given.name])
    equal(result.stdout, b"given\n", result)


def test_python_runs():
    result = outcome(["python3", "-c", "import json, sys; print(json.dumps({'ok': sys.version_info[0]}))"], 0, "EXITED")
    equal(result.stdout, b'{"ok": 3}\n', result)


def test_a_script_is_run_by_its_interpreter_line():
    with tempfile.NamedTemporaryFile() as script:
        script.write(b"#!/bin/bash\necho ${BASH_VERSION:+bash}\n")
        script.flush()
        result = outcome([], 0, "EXITED", options=["--script", script.name])
    equal(result.stdout, b"bash\n", result)


def test_a_script_is_run_by_the_command():
    with tempfile.NamedTemporaryFile() as script:
        script.write(b"import sys\nprint(sys.argv[1:])\n")
        script.flush()
        result = outcome(["python3"], 0, "EXITED", options=["--script", script.name])
    equal(result.stdout, b"[]\n", result)
