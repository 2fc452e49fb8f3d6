import fcntl
import stat

X86 = os.uname().machine == "x86_64"
MKNODAT = 259 if X86 else 33
HARMLESS = {"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
HERE = -100


@attack()
def finds_other_devices():
    found = []
    for top, _, files in os.walk("/dev"):
        # Of terminals, a job has those of an instance of its own.
        found += [os.path.join(top, name) for name in files if name not in HARMLESS and (ON_THE_HOST or top != "/dev/pts")
                  and stat.S_IFMT(os.lstat(os.path.join(top, name)).st_mode) in (stat.S_IFCHR, stat.S_IFBLK)]
    return found and " ".join(sorted(found)[:5])


def makes(name, mode, device):
    @attack(name="makes_" + name)
    def one():
        syscall(MKNODAT, HERE, b"node", mode | 0o600, device)
        os.unlink("node")
        return "made"


makes("a_memory_device", stat.S_IFCHR, os.makedev(1, 1))
makes("a_kernel_log_device", stat.S_IFCHR, os.makedev(1, 11))
makes("a_disk", stat.S_IFBLK, os.makedev(8, 0))
makes("a_tunnel_device", stat.S_IFCHR, os.makedev(10, 200))
# The kernel takes 16 bits of the mode.
makes("a_disk_with_high_bits", stat.S_IFBLK | 0x5ead << 16, os.makedev(8, 0))
# Character device 0:0 hides a file from an overlay, as the one that the sandbox is made of.


@attack()
def changes_the_kernels_randomness():
    # RNDADDTOENTCNT of 0.
    with open("/dev/random", "rb") as file:
        fcntl.ioctl(file, 0x40045201, b"\0\0\0\0")
    return "the entropy count was set"


@attack()
def changes_a_device_for_others():
    mode = stat.S_IMODE(os.stat("/dev/null").st_mode)
    os.chmod("/dev/null", mode)
    return "the mode of /dev/null was set"


@attack()
def replaces_a_device():
    os.rename("/dev/full", "/dev/full-moved")
    os.rename("/dev/full-moved", "/dev/full")
    return "renamed"
