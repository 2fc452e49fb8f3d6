import glob
import re
import struct

# Files that tell of the machine, of other jobs, or of the kernel's memory.
TELLING = """buddyinfo cgroups cmdline consoles crypto diskstats dma execdomains interrupts iomem ioports kallsyms key-users
keys locks modules partitions pagetypeinfo schedstat slabinfo softirqs swaps timer_list vmallocinfo vmstat zoneinfo
sysvipc/shm sysvipc/msg sysvipc/sem pressure/cpu pressure/memory pressure/io fs/ext4 bus/pci/devices scsi/scsi
sys/fs/file-nr sys/fs/inode-nr sys/fs/inode-state sys/fs/dentry-state sys/fs/aio-nr sys/kernel/pty/nr
sys/kernel/random/boot_id""".split()
OF_INIT = "environ mem maps auxv stack syscall io mountinfo cmdline stat status limits fd/0 root cwd exe ns/mnt".split()
# Programs of the host that the kernel runs as root, and switches of the machine.
HOOKS = """/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/poweroff_cmd /proc/sysrq-trigger
/proc/sys/kernel/usermodehelper/bset /proc/sys/fs/binfmt_misc/register /proc/sys/vm/drop_caches /proc/sys/kernel/printk
/proc/irq/default_smp_affinity /proc/mtrr /proc/sys/kernel/ns_last_pid /proc/sys/kernel/hostname /proc/sys/vm/overcommit_memory
/sys/kernel/uevent_helper /sys/power/state /sys/fs/cgroup/release_agent /sys/kernel/mm/transparent_hugepage/enabled""".split()


@attack()
def learns_of_the_machine():
    told = [name for name in TELLING if content("/proc/" + name, 64).strip(b"\0 \n")]
    return told and "read: " + " ".join(told)


@attack()
def sees_the_load_of_the_machine():
    busy = [line for line in content("/proc/stat").decode().splitlines() if line.startswith(("cpu", "ctxt", "processes"))
            and any(int(word) for word in line.split()[1:])]
    if busy:
        return busy[0]
    load = content("/proc/loadavg").split()
    return load[:3] != [b"0.00"] * 3 and b" ".join(load).decode()


@attack()
def writes_beneath_proc():
    found = []
    for top, _, files in os.walk("/proc/sys"):
        for name in files:
            try:
                found.append(opens(os.path.join(top, name), os.O_WRONLY))
            except OSError:
                pass
    return found and "%d files, %s" % (len(found), found[0])


@attack()
def writes_over_what_hides():
    # What lies over a file of /proc must not open for writing either, nor take a lock from another job's.
    return any_of(["/proc/" + name for name in TELLING + ["loadavg", "stat"]], lambda path: opens(path, os.O_WRONLY))


@attack()
def opens_hooks_of_the_kernel():
    return any_of(HOOKS, lambda path: opens(path, os.O_WRONLY))


@attack()
def changes_itself_by_proc():
    # Nothing beneath /proc is written, not even a process's own.
    return any_of(["/proc/self/" + n for n in ("coredump_filter", "clear_refs", "oom_adj", "sched", "timerslack_ns")],
                  lambda path: opens(path, os.O_WRONLY))


def of_init(name):
    @attack(errno.ENOENT, name="reaches_%s_of_init" % name.replace("/", "_"))
    def one():
        # On the host, where process 1 has more privileges than a test, it is this process's parent.
        path = "/proc/%d/%s" % (os.getppid() if ON_THE_HOST else 1, name)
        if name in ("root", "cwd", "exe", "fd/0", "ns/mnt"):
            return "it is " + os.readlink(path)
        with open(path, "rb") as file:
            # The memory itself begins with what no process has.
            return name == "mem" and "it opens" or file.read(1) and "it reads"


for name in OF_INIT:
    of_init(name)


@attack()
def sees_process_1():
    return "1" in os.listdir("/proc") and "it is in /proc"


@attack()
def reads_addresses_of_the_kernel():
    for path in ("/proc/kallsyms", "/proc/modules", "/proc/vmallocinfo", "/proc/iomem", "/proc/timer_list"):
        found = re.search(rb"\b(0x)?[0-9a-f]{7,15}[1-9a-f]\b", content(path, 1 << 20))
        if found and found[0].strip(b"0x"):
            return "%s shows %s" % (path, found[0].decode())


@attack()
def reads_the_memory_of_the_kernel():
    found = [path for path in ("/proc/kcore", "/proc/kpageflags", "/dev/mem", "/dev/kmem") if content(path, 8)]
    return found and " ".join(found)


@attack()
def learns_physical_addresses():
    area = ctypes.create_string_buffer(b"x" * 8192)
    with open("/proc/self/pagemap", "rb", 0) as file:
        file.seek(ctypes.addressof(area) // 4096 * 8)
        frame = struct.unpack("Q", file.read(8))[0] & (1 << 55) - 1
    return frame and "page frame %#x" % frame


@attack()
def learns_its_place_in_the_cgroup_tree():
    with own_cgroup():
        paths = [line.split(":", 2)[2] for line in content("/proc/self/cgroup").decode().splitlines()]
        return any(path != "/" for path in paths) and " ".join(paths)


class own_cgroup:
    """On the host: a cgroup with a name for as long as the attack takes, lest it be in the root by accident."""

    def __enter__(self):
        self.path = None
        for line in content("/proc/self/mountinfo", 1 << 20).decode().splitlines():
            if ON_THE_HOST and " - cgroup2 " in line:
                self.parent, self.path = line.split()[4], line.split()[4] + "/" + PLANTED["name"]
                os.mkdir(self.path)
                self.move(self.path)

    def move(self, to):
        with open(to + "/cgroup.procs", "w") as file:
            file.write("0")

    def __exit__(self, *_):
        if self.path:
            self.move(self.parent)
            os.rmdir(self.path)


@attack()
def reaches_a_cgroup_file_system():
    points = [line.split()[4] for line in content("/proc/self/mountinfo", 1 << 20).decode().splitlines() if " - cgroup" in line]
    return (points or glob.glob("/sys/fs/cgroup/*")) and "mounted: " + " ".join(points)


@attack()
def sees_the_hardware():
    found = [path for path in ("/sys/block", "/sys/class/net", "/sys/class/dmi/id", "/sys/kernel/debug", "/sys/module",
                               "/sys/bus/pci/devices", "/sys/devices/system/cpu", "/sys/fs/bpf", "/sys/kernel/security")
             if os.path.isdir(path) and os.listdir(path)]
    return found and " ".join(found)
