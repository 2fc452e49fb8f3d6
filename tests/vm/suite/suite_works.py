"""Everyday programs notice nothing of the sandbox on this kernel; those of tests/works_inside that this system has."""

import pathlib

from harness import equal, run

PROGRAMS = pathlib.Path("/vm/programs")


def works(name, interpreter, *policies):
    if not PROGRAMS.exists():
        return
    for policy in policies:
        result = run(interpreter, options=["--policy", policy, "--script", PROGRAMS / name])
        equal((result.status, result.cause), (0, "EXITED"), f"{policy}: {result}")


def test_shell():
    works("shell.sh", "bash", "default", "strict", "ci")


def test_coreutils():
    works("coreutils.sh", "bash", "default", "strict", "ci")


def test_text_tools():
    works("text.sh", "bash", "default", "strict", "ci")


def test_python():
    works("python.py", "python3", "default", "strict", "ci")


def test_many_processes():
    if PROGRAMS.exists():
        result = run("sh", "-c", "i=0; while [ $i -lt 200 ]; do true | cat; i=$((i+1)); done; echo done")
        equal((result.status, result.stdout), (0, b"done\n"), result)


def test_a_writable_root_without_id_mapping():
    """Here all of the system is in memory, which before Linux 6.3 maps no ids."""
    if not PROGRAMS.exists():
        return
    script = "set -e; echo x >/usr/bin/new; mkdir /opt/new; rm /usr/bin/yes; echo y >/etc/new; stat -c %U /usr/bin /etc"
    result = run("bash", "-c", script, options=["--policy", "ci"])
    equal((result.status, result.stdout), (0, b"root\nroot\n"), result)
    told = [entry for entry in result.report["isolation"]["weaker"] if "no id mapping" in entry]
    equal([entry.split(" beneath ")[1].split(":")[0] for entry in told], ["/", "/usr"], result)
