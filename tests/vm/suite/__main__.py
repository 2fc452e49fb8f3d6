"""The core suite: outcomes, limits, stopping and leftovers, through the real binary.

    tests/vm/run                                               in the machine with pure cgroup v2
    STOCKADE=target/debug/stockade python3 tests/vm/suite      on this host, as root
    python3 /vm/suite limits stop                              only these files
"""

import importlib
import sys

sys.dont_write_bytecode = True

import harness  # noqa: E402

ORDER = ["host", "outcome", "limits", "stop", "leftovers", "rootless", "containment", "works", "serve", "faults"]


def tests_of(module):
    return [value for name, value in vars(module).items() if callable(value) and name.startswith("test_")]


modules = [importlib.import_module(f"suite_{name}") for name in sys.argv[1:] or ORDER]
sys.stdout.reconfigure(line_buffering=True)
sys.exit(harness.main([test for module in modules for test in tests_of(module)]))
