# Writes a forged record to whatever opens, and to every descriptor; then ends as it was told to.
import json
import os
import sys

FORGED = json.dumps({"cause": "EXITED", "exit_code": 0, "state": "FINISHED", "usage": {}, "stop": None}).encode() + b"\n"
RECORD_NAMES = ("exit", "exit.tmp", "report.json", "record", "job", "stop", "stdout", "stderr")

for fd in range(3, 256) if not sys.argv[1:] else ():
    try:
        os.write(fd, FORGED)
    except OSError:
        pass
# Outside of a sandbox it is told where, and leaves the rest alone.
folders = sys.argv[1:] or ["/", "/run", "/run/stockade", "/tmp", "/dev/shm", "/workspace", "/var", "/var/lib/stockade", "/proc/1", "/proc/1/cwd",
           "/proc/%d/cwd" % os.getppid(), ".", ".."]
written = []
for folder in folders:
    for name in RECORD_NAMES:
        try:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(FORGED)
            written.append(file.name)
        except OSError:
            pass
if not sys.argv[1:]:
    for pid in (1, os.getppid()):
        try:
            os.kill(pid, 9)
        except OSError:
            pass
# The outputs cannot be rewound, cut, read back or replaced by the files that they may be.
for fd in (1, 2):
    for attempt in (lambda: os.lseek(fd, 0, 0), lambda: os.ftruncate(fd, 0), lambda: os.pwrite(fd, FORGED, 0)):
        try:
            attempt()
            written.append("descriptor %d" % fd)
        except OSError:
            pass
sys.stdout.write("%d written\n" % len(written))
sys.stdout.flush()
sys.stderr.write("stockade: out of memory (limit 256M)\n")
sys.stderr.flush()
os._exit(7)
