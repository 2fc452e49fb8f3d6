import struct

PR_CAP_AMBIENT, PR_SET_SECUREBITS = 47, 28
CAP_NET_BIND_SERVICE = 10
CAPSET = 126 if os.uname().machine == "x86_64" else 91


def sets():
    with open("/proc/self/status") as status:
        return {line.split()[0]: int(line.split()[1], 16) for line in status if line.startswith("Cap")}


def capset(mask):
    header = struct.pack("Ii", 0x20080522, 0)
    data = struct.pack("6I", mask, mask, mask, 0, 0, 0)
    return syscall(CAPSET, header, data)


@attack()
def holds_a_capability():
    held = {name: mask for name, mask in sets().items() if mask}
    return held and str(held)


@attack()
def holds_more_than_documented():
    more = {name: hex(mask & ~PLANTED["documented"]) for name, mask in sets().items() if mask & ~PLANTED["documented"]}
    return more and str(more)


@attack()
def sets_a_capability():
    return capset(1) == 0 and "CAP_CHOWN is in all three sets"


@attack()
def raises_an_ambient_capability():
    try:
        capset(1 << CAP_NET_BIND_SERVICE)
    except OSError:
        pass
    if libc.prctl(PR_CAP_AMBIENT, 2, CAP_NET_BIND_SERVICE, 0, 0) == 0:
        return "CAP_NET_BIND_SERVICE outlives an exec"
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@attack()
def keeps_capabilities_by_securebits():
    if libc.prctl(PR_SET_SECUREBITS, 1 << 4, 0, 0, 0) == 0:
        return "SECBIT_KEEP_CAPS is set"
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@attack()
def may_gain_privileges_by_exec():
    return libc.prctl(39, 0, 0, 0, 0) != 1 and "no_new_privs is off"


# EINVAL is the answer of a user namespace that has no such id.
@attack(errno.EINVAL)
def becomes_another_user():
    os.setresuid(4, 4, 4)
    return "is uid 4"


@attack(errno.EINVAL)
def takes_a_group_of_the_host():
    os.setgroups([4])
    # Under ci the call is skipped, and seems to have worked.
    return 4 in os.getgroups() and "is in group 4"


@attack(errno.EINVAL)
def is_in_a_group_of_the_host():
    # 65534 is any group that the namespace has no id for.
    if ON_THE_HOST:
        os.setgroups([4])
    extra = [group for group in os.getgroups() if group != os.getgid()]
    return extra and "is in %s" % extra


@attack(errno.EINVAL)
def gives_a_file_away():
    open("gift", "w").close()
    try:
        os.chown("gift", 4, 4)
        return "it belongs to uid 4"
    finally:
        os.unlink("gift")


@attack(errno.EOPNOTSUPP)
def puts_capabilities_on_a_file():
    open("capable", "w").close()
    try:
        os.setxattr("capable", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        return "security.capability is set"
    finally:
        os.unlink("capable")


@attack(errno.EOPNOTSUPP)
def writes_trusted_attributes():
    open("trusted", "w").close()
    try:
        os.setxattr("trusted", "trusted.overlay.opaque", b"y")
        return "trusted.overlay.opaque is set"
    finally:
        os.unlink("trusted")


@attack()
def reads_what_its_mode_forbids():
    os.close(os.open("closed", os.O_CREAT | os.O_WRONLY, 0))
    try:
        return opens("closed", os.O_RDONLY)
    finally:
        os.unlink("closed")


@attack()
def makes_a_file_that_cannot_be_removed():
    get, put, immutable = 0x80086601, 0x40086602, 0x10
    import fcntl
    fd = os.open("immutable", os.O_CREAT | os.O_RDWR)
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, get, flags)
        fcntl.ioctl(fd, put, bytes([flags[0] | immutable]) + bytes(flags[1:]))
        fcntl.ioctl(fd, put, bytes(flags))
        return "it was immutable for a moment"
    finally:
        os.unlink("immutable")


@attack()
def has_a_better_priority():
    os.nice(-5)
    return "nice is -5"


@attack()
def schedules_in_real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "SCHED_FIFO"


@attack()
def disks_serve_it_first():
    # IOPRIO_CLASS_RT for this process.
    syscall(251 if os.uname().machine == "x86_64" else 30, 1, 0, 1 << 13)
    return "IOPRIO_CLASS_RT"
