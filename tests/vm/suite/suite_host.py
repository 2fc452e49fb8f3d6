"""What the host offers, so that a failure further down is not taken for one of stockade's."""

import os
import pathlib

from harness import equal, stockade


def test_doctor_finds_nothing_amiss():
    result = stockade("doctor")
    equal(result.returncode, 0, result)


def test_cgroups_are_of_version_2_alone_in_the_machine():
    if not pathlib.Path("/vm/command").exists():
        return  # on a host of another kind
    equal(pathlib.Path("/proc/self/cgroup").read_text(), "0::/init.scope\n", "/proc/self/cgroup")
    controllers = pathlib.Path("/sys/fs/cgroup/cgroup.subtree_control").read_text().split()
    assert {"cpu", "io", "memory", "pids"} <= set(controllers), controllers


def test_every_namespace_is_there():
    assert {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} <= set(os.listdir("/proc/self/ns"))
