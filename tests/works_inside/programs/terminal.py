import os
import pty
import subprocess

master, slave = pty.openpty()
assert os.isatty(slave) and os.ttyname(slave).startswith("/dev/pts/")
subprocess.run(["script", "--quiet", "--command", "tty", "typescript"], stdout=subprocess.DEVNULL, check=True)
with open("typescript") as typescript:
    assert "/dev/pts/" in typescript.read()
