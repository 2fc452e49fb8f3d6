# What every probe is written on. The harness puts PLANTED before it and run_attacks() behind the probe.
#
# An attack is a function. What it returns says how it got through; returning nothing, or failing with an error that
# means a refusal, means that it did not. Anything else that goes wrong is a fault of the probe, and fails the test.
#
# Nothing here changes a host on which it runs, as it does to show that it can succeed: files are opened and not
# written, calls get arguments with which the kernel does nothing, floods are small.
import ctypes
import errno
import os
import signal
import sys
import traceback

ON_THE_HOST = PLANTED["on_the_host"]
ATTACKS = []
REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS}
# What a kernel says that was built without the thing in question.
MISSING = {errno.ENOSYS, errno.ENOENT, errno.ENODEV, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Lacking(Exception):
    """This host cannot show that the attack works."""


def attack(*refusals, name=None, seconds=20):
    """Registers a function. `refusals` are error numbers that mean a refusal, beside the usual ones."""
    def register(function):
        ATTACKS.append((name or function.__name__, function, REFUSALS | set(refusals), seconds))
        return function
    return register


def syscall(number, *arguments):
    """A raw system call; fails with OSError. Bytes are passed as a pointer."""
    words = [a if isinstance(a, (bytes, ctypes.Array, ctypes.Structure)) else ctypes.c_long(a) for a in arguments]
    words = [ctypes.byref(w) if isinstance(w, ctypes.Structure) else w for w in words]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def reaches_the_kernel(number, *arguments):
    """For calls that no filter should let pass: every answer but a refusal shows that one did."""
    try:
        return "the kernel gave %d" % syscall(number, *arguments)
    except OSError as error:
        if error.errno in REFUSALS:
            raise
        return "the kernel said " + errno.errorcode.get(error.errno, str(error.errno))


def opens(path, flags):
    """Whether a file opens; says so. Nothing is read or written."""
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
    return path + " opens"


def content(path, size=1 << 16):
    """What a file holds, nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def any_of(paths, function):
    """The first of several ways that leads through."""
    for path in paths:
        try:
            how = function(path)
            if how:
                return how
        except OSError as error:
            if error.errno not in REFUSALS | {errno.ENOENT, errno.ENOTDIR, errno.ENXIO}:
                raise
    return None


def verdict(name, function, refusals):
    try:
        how = function()
    except Lacking as why:
        return "LACKING %s: %s" % (name, why) if ON_THE_HOST else "ERROR %s: has no use in a sandbox" % name
    except OSError as error:
        if ON_THE_HOST and error.errno in MISSING:
            return "LACKING %s: %s" % (name, error.strerror)
        if error.errno in refusals:
            return "CONTAINED %s: %s" % (name, error.strerror)
        return "ERROR %s: %s" % (name, traceback.format_exc().replace("\n", " | "))
    except Exception:
        return "ERROR %s: %s" % (name, traceback.format_exc().replace("\n", " | "))
    return "ESCAPED %s: %s" % (name, how) if how else "CONTAINED %s: without success" % name


def in_a_child(name, function, refusals, seconds):
    """Each attack has a process of its own: it may give things up, be killed, or leave a mess."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.alarm(seconds)
        os.write(write, verdict(name, function, refusals)[:4000].encode(errors="replace"))
        os._exit(0)
    os.close(write)
    status = os.waitpid(child, 0)[1]
    os.set_blocking(read, False)
    try:
        said = os.read(read, 4096).decode()
    except BlockingIOError:
        said = ""
    os.close(read)
    if said:
        return said
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
        return "CONTAINED %s: killed by the filter" % name
    return "ERROR %s: ended with wait status %d" % (name, status)


def run_attacks():
    only = PLANTED.get("only")
    chosen = [a for a in ATTACKS if only is None or a[0] == only]
    for each in chosen:
        print(in_a_child(*each), flush=True)
    print("ATTACKS %d" % len(chosen), flush=True)
