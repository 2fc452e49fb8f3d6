X86 = os.uname().machine == "x86_64"
MOUNT, UMOUNT, PIVOT_ROOT, CHROOT = (165, 166, 155, 161) if X86 else (40, 39, 41, 51)
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, FSPICK, MOUNT_SETATTR = 428, 429, 430, 431, 432, 433, 442
STATMOUNT, LISTMOUNT, OPEN_TREE_ATTR = 457, 458, 467
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18
HERE = -100


def apart():
    """On the host the attacks have a mount namespace of their own, which goes with them."""
    if ON_THE_HOST:
        libc.unshare(0x00020000)
        syscall(MOUNT, b"none", b"/", 0, MS_REC | MS_PRIVATE, 0)
    os.makedirs("here", exist_ok=True)
    os.makedirs("there", exist_ok=True)


def mounts(kind, options=0):
    @attack(errno.EBUSY, errno.EINVAL, name="mounts_" + kind.decode())
    def one():
        apart()
        return syscall(MOUNT, b"none", b"here", kind, 0, options) == 0 and "mounted"


for kind, options in ((b"tmpfs", 0), (b"proc", 0), (b"sysfs", 0), (b"cgroup2", 0), (b"mqueue", 0), (b"devpts", 0),
                      (b"overlay", b"lowerdir=/usr:/etc"), (b"debugfs", 0)):
    mounts(kind, options)


@attack()
def binds_a_folder():
    apart()
    return syscall(MOUNT, b"/usr", b"here", 0, MS_BIND, 0) == 0 and "bound"


@attack()
def makes_the_root_writable():
    apart()
    return syscall(MOUNT, b"none", b"/", 0, MS_REMOUNT | MS_BIND, 0) == 0 and "remounted"


@attack()
def makes_the_file_system_of_the_root_writable():
    apart()
    root = b"/"
    if ON_THE_HOST:
        root = b"here"
        syscall(MOUNT, b"none", root, b"tmpfs", MS_RDONLY, 0)
    return syscall(MOUNT, b"none", root, 0, MS_REMOUNT, 0) == 0 and "remounted"


@attack()
def takes_away_nosuid():
    apart()
    syscall(MOUNT, b"here", b"here", 0, MS_BIND, 0)
    return syscall(MOUNT, b"none", b"here", 0, MS_REMOUNT | MS_BIND, 0) == 0 and "remounted"


@attack()
def uncovers_what_lies_beneath():
    apart()
    # Each of these lies over something in a sandbox.
    for path in (b"/proc/kcore", b"/proc/sys", b"/proc", b"/dev/shm", b"/usr", b"/tmp"):
        try:
            syscall(UMOUNT, path, 2)
            return "unmounted " + path.decode()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return "umount2 reaches the kernel"


@attack()
def moves_a_mount():
    apart()
    syscall(MOUNT, b"here", b"here", 0, MS_BIND, 0)
    return syscall(MOUNT, b"here", b"there", 0, MS_MOVE, 0) == 0 and "moved"


@attack()
def shares_its_mounts():
    apart()
    return syscall(MOUNT, b"none", b"/", 0, MS_REC | 1 << 20, 0) == 0 and "propagation is on"


@attack()
def changes_its_root():
    syscall(CHROOT, b"/usr")
    return "chroot"


@attack()
def leaves_its_root():
    # The classic: chroot deeper, with a working directory that stayed outside, then climb.
    apart()
    syscall(CHROOT, b"here")
    for _ in range(64):
        os.chdir("..")
    syscall(CHROOT, b".")
    return "out by chdir and chroot"


def call(name, number, *arguments):
    @attack(name=name)
    def one():
        return reaches_the_kernel(number, *arguments)


call("pivots_its_root", PIVOT_ROOT, 1, 1)
call("opens_a_tree", OPEN_TREE, HERE, 1, 1)
call("opens_a_tree_with_attributes", OPEN_TREE_ATTR, HERE, 1, 1, 1, 32)
call("moves_a_tree", MOVE_MOUNT, -1, 1, -1, 1, 0)
call("opens_a_file_system", FSOPEN, b"tmpfs", 0)
call("configures_a_file_system", FSCONFIG, -1, 99, 0, 0, 0)
call("mounts_a_file_system", FSMOUNT, -1, 0, 0)
call("picks_a_file_system", FSPICK, HERE, 1, 0)
call("changes_a_mount", MOUNT_SETATTR, -1, 1, 0, 1, 1)
call("asks_for_a_mount", STATMOUNT, 1, 1, 1, 0)
call("lists_mounts", LISTMOUNT, 1, 1, 1, 0)
call("mounts_with_high_bits_in_the_number", MOUNT | 0x5ead << 32, 1, 1, 1, 0, 0)


@attack()
def has_set_uid_files_honoured():
    loose = [d for d in ("/", "/usr", "/tmp", "/dev/shm", "/run", ".") if not os.statvfs(d).f_flag & os.ST_NOSUID]
    return loose and "not nosuid: " + " ".join(loose)


@attack()
def has_devices_honoured():
    loose = [d for d in ("/usr", "/tmp", "/dev/shm", "/run", ".") if not os.statvfs(d).f_flag & os.ST_NODEV]
    return loose and "not nodev: " + " ".join(loose)


@attack()
def learns_host_paths_from_its_mounts():
    if ON_THE_HOST:
        apart()
        syscall(MOUNT, PLANTED["source"].encode(), b"here", 0, MS_BIND, 0)
    for path in ("/proc/self/mountinfo", "/proc/self/mounts", "/proc/self/mountstats"):
        if os.path.basename(PLANTED["source"]).encode() in content(path, 1 << 20):
            return path + " names the source of a mount"


@attack()
def learns_where_in_another_tree_a_mount_begins():
    if ON_THE_HOST:
        apart()
        syscall(MOUNT, b"/usr", b"here", 0, MS_BIND, 0)
    for line in content("/proc/self/mountinfo", 1 << 20).decode().splitlines():
        begins, point = line.split()[3:5]
        kind = line.split(" - ")[1].split()[0]
        # A tmpfs is the job's own, devtmpfs gives nodes by their names, and covers of /proc are of no host.
        if kind not in ("tmpfs", "devtmpfs") and begins not in ("/", point) and not begins.startswith("/proc/"):
            return begins + " is at " + point
