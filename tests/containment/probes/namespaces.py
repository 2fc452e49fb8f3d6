import fcntl
import struct

X86 = os.uname().machine == "x86_64"
SETNS, UNSHARE, CLONE = (308, 272, 56) if X86 else (268, 97, 220)
PIDFD_OPEN, CLONE3 = 434, 435
KINDS = {
    "user": 0x10000000, "mnt": 0x00020000, "pid": 0x20000000, "net": 0x40000000,
    "uts": 0x04000000, "ipc": 0x08000000, "cgroup": 0x02000000,
}
# Namespaces that only new ones can be made of.
OTHER = os.getpid() if ON_THE_HOST else 1  # In a sandbox that is the supervisor.
FLAGS = dict(KINDS, time=0x00000080)


def shares(kind):
    @attack(name="shares_the_%s_namespace" % kind)
    def one():
        return os.readlink("/proc/self/ns/" + kind) == PLANTED["namespaces"][kind] and "the host's"


def makes(kind, flag):
    @attack(name="unshares_a_%s_namespace" % kind)
    def by_unshare():
        return syscall(UNSHARE, flag) == 0 and "by unshare"

    def clone(flags):
        pid = syscall(CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return "by clone"

    if kind == "time":
        return  # Its bit is part of the exit signal in clone(2).

    @attack(name="clones_into_a_%s_namespace" % kind)
    def by_clone():
        return clone(flag)

    @attack(name="hides_the_flag_of_a_%s_namespace" % kind)
    def by_clone_with_high_bits():
        return clone(flag | 0x7ead0000 << 32)


for kind in KINDS:
    shares(kind)
for kind, flag in FLAGS.items():
    makes(kind, flag)


@attack()
def clones_by_the_newer_call():
    arguments = struct.pack("11Q", KINDS["user"], 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    pid = syscall(CLONE3, arguments, 88)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "by clone3"


@attack()
def joins_a_namespace():
    return any_of(["/proc/1/ns/net", "/proc/%d/ns/net" % os.getppid(), "/proc/self/ns/net"], join)


def join(path):
    fd = os.open(path, os.O_RDONLY)
    return syscall(SETNS, fd, 0) == 0 and path


@attack()
def joins_by_a_process_descriptor():
    fd = syscall(PIDFD_OPEN, OTHER, 0)
    return syscall(SETNS, fd, KINDS["uts"]) == 0 and "that of process %d" % OTHER


@attack(errno.ENOTTY, errno.EINVAL)
def gets_a_namespace_from_a_process_descriptor():
    # PIDFD_GET_MNT_NAMESPACE and its like, _IO(0xff, 1) to 10, of Linux 6.11.
    fd = syscall(PIDFD_OPEN, OTHER, 0)
    last = None
    for number in range(1, 11):
        try:
            fcntl.ioctl(fd, 0xff << 8 | number)
            return "number %d of process %d" % (number, OTHER)
        except OSError as error:
            last = error
    if ON_THE_HOST:
        raise Lacking("a kernel before 6.11")
    raise last


@attack(errno.ENOENT)
def maps_more_users():
    # Through a namespace of its own it would be root of it.
    if ON_THE_HOST:
        syscall(UNSHARE, KINDS["user"])
    with open("/proc/self/uid_map", "w") as file:
        file.write("0 0 1" if ON_THE_HOST else "0 1000 1")
    return "it wrote its uid_map"
