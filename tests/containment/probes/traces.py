# What files tell beside their content: of the disk that they are on, and of who has read them.
import fcntl
import mmap
import struct

X86 = os.uname().machine == "x86_64"
PREADV2 = 327 if X86 else 286
FIEMAP, GETFSSYSFSPATH = 0xC020660B, 0x80811501
FILES = ["/usr/bin/env", "/usr/lib/os-release", "/usr/bin/python3"]
SELDOM_USED = "/usr/bin/tsort"


def mount_points():
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4] for line in file]


@attack()
def learns_how_large_the_hosts_disk_is():
    # Where its size is told, so is how full it is, by which one job could tell another.
    for path in mount_points():
        try:
            stat = os.statvfs(path)
        except OSError:
            continue
        if stat.f_blocks * stat.f_frsize == PLANTED["disk"]:
            return "that of %s, of which %d MiB are free" % (path, stat.f_bfree * stat.f_frsize >> 20)


@attack()
def learns_the_disks_number():
    return any_of(FILES, lambda path: os.stat(path).st_dev == PLANTED["device"] and path + " is on it")


# Of file systems that have no such thing.
@attack(errno.EOPNOTSUPP, errno.ENOTTY)
def learns_where_a_file_lies_on_the_disk():
    with open(FILES[0], "rb") as file:
        answer = bytearray(struct.pack("QQIIII", 0, 1 << 30, 0, 0, 1, 0) + bytes(56))
        fcntl.ioctl(file, FIEMAP, answer)
    return "at byte %d" % struct.unpack_from("Q", answer, 40)


@attack(errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)
def learns_the_file_systems_name():
    answer = bytearray(129)
    try:
        with open(FILES[0], "rb") as file:
            fcntl.ioctl(file, GETFSSYSFSPATH, answer)
    except OSError as error:
        if ON_THE_HOST:
            raise Lacking("a kernel before 6.9, or a file system without a name: %s" % error)
        raise
    return answer[1:].rstrip(b"\0").decode()


def evicted(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


@attack(errno.EOPNOTSUPP)
def sees_by_reading_what_others_have_read():
    # RWF_NOWAIT: an answer at once for what is in memory, and a refusal for what is not.
    fd = evicted(SELDOM_USED)
    page = ctypes.create_string_buffer(4096)
    part = Part(ctypes.addressof(page), 4096)
    try:
        return "%d bytes were there" % syscall(PREADV2, fd, part, 1, 0, 0, 8)
    except BlockingIOError:
        return "it is not there"


@attack()
def sees_by_mapping_what_others_have_read():
    fd = evicted(SELDOM_USED)
    size = os.fstat(fd).st_size
    libc.mmap.restype = ctypes.c_void_p
    start = libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(0))
    pages = (ctypes.c_ubyte * ((size + 4095) // 4096))()
    if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), pages):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # A kernel that does not tell says that all are there.
    return 0 in pages and "%d of %d pages are not" % (list(pages).count(0), len(pages))
