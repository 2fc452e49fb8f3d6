"""The core of the containment probes, on this kernel: contained in sandboxes, and getting through outside of them.

The probes are those of tests/containment; its harness does the same on a host with a Rust toolchain.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from harness import COMMAND_TIMEOUT_S, run

PROBES = pathlib.Path("/vm/probes")
KINDS = ("user", "mnt", "pid", "net", "uts", "ipc", "cgroup")


def text_of(source, planted, on_the_host):
    told = json.dumps({**planted, "on_the_host": on_the_host})
    support = (PROBES / "attack.py").read_text()
    return f"import json\nPLANTED = json.loads({told!r})\n{support}\n{source}\nrun_attacks()\n"


def verdicts_of(output):
    """What each attack came to; a probe that stumbled or did not reach its end has shown nothing."""
    verdicts, count = {}, None
    for line in output.decode(errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "ATTACKS":
            count = int(rest)
        elif word in ("CONTAINED", "ESCAPED", "LACKING", "ERROR"):
            verdicts[rest.split(": ")[0]] = (word, rest)
    assert count is not None and count == len(verdicts) > 0, output[-1500:]
    return verdicts


def in_a_sandbox(policy, source, planted, options=()):
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(text_of(source, planted, False))
        file.flush()
        result = run("python3", options=["--policy", policy, "--script", file.name, *options])
    return verdicts_of(result.stdout + result.stderr)


def on_the_host(source, planted):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "probe.py"
        path.write_text(text_of(source, planted, True))
        done = subprocess.run(
            ["python3", path], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_TIMEOUT_S
        )
    return verdicts_of(done.stdout + done.stderr)


def check(name, planted=None, lacking=()):
    """No attack gets through under `default` and `strict`; each does on the machine itself, but those for which this
    small system is `lacking` what they take."""
    if not PROBES.exists():
        return
    source, planted = (PROBES / f"{name}.py").read_text(), planted or {}
    for policy in ("default", "strict"):
        verdicts = in_a_sandbox(policy, source, planted)
        through = {key: told for key, (word, told) in verdicts.items() if word != "CONTAINED"}
        assert not through, f"{policy}: {through}"
    verdicts = on_the_host(source, planted)
    held = {key: told for key, (word, told) in verdicts.items() if word not in ("ESCAPED", "LACKING") and key not in lacking}
    assert not held, f"cannot fail: {held}"


def test_capabilities():
    check("capabilities", {"documented": 0x8000_00FB})


def test_namespaces():
    check("namespaces", {"namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}})


def test_calls():
    check("calls")


def test_devices():
    check("devices")


def test_kernel_files():
    check("kernel_files", {"name": "suite-cgroup"})


def test_information():
    # Files that a small system does not have.
    lacking = (
        "learns_the_machines_id",
        "learns_the_hosts_resolvers",
        "learns_who_logged_in",
        "learns_what_packages_there_are",
    )
    check("information", {"hostname": socket.gethostname()}, lacking)


def test_mounts():
    check("mounts", {"source": "/opt"})


def test_files():
    with tempfile.TemporaryDirectory(prefix="suite-host-", dir="/tmp") as folder:
        words = "terces-etius"
        secret = pathlib.Path(folder) / "secret"
        secret.write_text(words[::-1])
        with tempfile.NamedTemporaryFile(dir="/tmp") as one, tempfile.NamedTemporaryFile(dir="/dev/shm") as other:
            planted = {"secret": str(secret), "words": words, "names": [one.name, other.name], "users": ["root", "operator"]}
            check("files", planted)


def test_set_user_id_programs():
    if not PROBES.exists():
        return
    with tempfile.TemporaryDirectory(dir="/opt") as folder:
        os.chmod(folder, 0o755)
        for name, mode in (("set-uid", 0o4755), ("set-gid", 0o2755), ("capable", 0o755)):
            shutil.copy("/usr/bin/cat", f"{folder}/{name}")
            os.chmod(f"{folder}/{name}", mode)
        policies = pathlib.Path(folder) / "policies"
        policies.mkdir()
        (policies / "own.toml").write_text(f'[[mounts]]\nsource = "{folder}"\ntarget = "/planted"\n')
        config = policies / "config"
        config.write_text(f'[worker]\npolicies_dir = "{policies}"\n')
        source = (PROBES / "setuid.py").read_text()
        verdicts = in_a_sandbox("own", source, {"folder": folder}, ["--config", str(config)])
    through = {key: told for key, (word, told) in verdicts.items() if word != "CONTAINED"}
    assert not through, through


def test_network():
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(folder, 0o755)
        services = [socket.create_server(("127.0.0.1", 0))]
        services.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
        for address in ("\0suite-abstract", f"{folder}/socket"):
            service = socket.socket(socket.AF_UNIX)
            service.bind(address)
            service.listen()
            services.append(service)
        for service in services:
            stack.enter_context(service)
        planted = {
            "port": services[0].getsockname()[1],
            "port6": services[1].getsockname()[1],
            "abstract": "suite-abstract",
            "socket": f"{folder}/socket",
        }
        check("network", planted)


def test_a_crash_has_the_host_run_no_program():
    """Only in the machine: core_pattern is the whole host's."""
    if not pathlib.Path("/vm/command").exists():
        return
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern")
    before = pattern.read_text()
    with tempfile.TemporaryDirectory() as folder:
        program, ran = pathlib.Path(folder) / "program", pathlib.Path(folder) / "ran"
        program.write_text(f"#!/bin/sh\necho ran >{ran}\n")
        program.chmod(0o755)
        try:
            pattern.write_text(f"|{program}")
            for policy in ("default", "strict", "ci"):
                result = run("sh", "-c", "ulimit -c 0 && kill -SEGV $$", options=["--policy", policy])
                assert result.report.get("signal") == 11, result
            time.sleep(1)
            assert not ran.exists(), "the kernel ran the host's program"
            subprocess.run(["sh", "-c", "ulimit -c 0; kill -SEGV $$"], check=False)
            time.sleep(1)
            assert ran.exists(), "outside of a sandbox it does"
        finally:
            pattern.write_text(before)
