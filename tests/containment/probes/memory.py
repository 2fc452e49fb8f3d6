# Holds PLANTED["bytes"] of memory in one of many ways. The job is killed, or the way has a bound of its own.
import mmap
import socket
import time

MIB = 1 << 20
ALL = PLANTED["bytes"]


def holds(*errors):
    return attack(*errors, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC, errno.EMFILE, seconds=60)


@holds()
def in_one_process():
    try:
        held = [bytearray(b"x") * (8 * MIB) for _ in range(ALL // (8 * MIB))]
    except MemoryError:
        return None
    return "%d MiB" % (8 * len(held))


@holds()
def in_many_processes():
    pipes = []
    for _ in range(8):
        read, write = os.pipe()
        if os.fork() == 0:
            held = bytearray(b"x") * (ALL // 8)
            os.write(write, b"1")
            time.sleep(20)
            os._exit(len(held) & 1)
        os.close(write)
        pipes.append(read)
    full = sum(os.read(read, 1) == b"1" for read in pipes)
    return full == 8 and "in 8 processes"


def written(fd):
    for _ in range(ALL // MIB):
        os.write(fd, b"x" * MIB)
    return "%d MiB" % (ALL // MIB)


@holds()
def in_files():
    return written(os.open("/dev/shm/fill", os.O_CREAT | os.O_WRONLY))


@holds()
def in_files_without_a_name():
    return written(os.memfd_create("fill"))


@holds()
def in_shared_mappings():
    area = mmap.mmap(-1, ALL)
    for at in range(0, ALL, 4096):
        area[at] = 1
    return "%d MiB" % (ALL // MIB)


@holds(errno.EINVAL)
def in_system_v_segments():
    libc.shmat.restype = ctypes.c_void_p
    for _ in range(ALL // (16 * MIB)):
        segment = libc.shmget(0, 16 * MIB, 0o1600)
        if segment < 0:
            raise OSError(ctypes.get_errno(), "shmget")
        address = libc.shmat(segment, None, 0)
        libc.shmctl(segment, 0, None)
        ctypes.memset(address, 1, 16 * MIB)
    return "%d MiB" % (ALL // MIB)


@holds()
def in_pipes():
    held = 0
    while held < ALL:
        write = os.pipe()[1]
        os.set_blocking(write, False)
        held += os.write(write, b"x" * 65536)
    return "%d MiB" % (held // MIB)


@holds()
def in_sockets():
    held = 0
    while held < ALL:
        one, other = socket.socketpair()
        other.detach()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
        one.setblocking(False)
        try:
            while True:
                held += one.send(b"x" * 65536)
        except BlockingIOError:
            one.detach()
    return "%d MiB" % (held // MIB)


def filled(one):
    """What a socket takes that nobody reads from."""
    one.setblocking(False)
    held = 0
    try:
        while True:
            held += one.send(b"x" * 65536)
    except BlockingIOError:
        return held


@holds()
def in_tcp_sockets():
    listener = socket.create_server(("127.0.0.1", 0))
    held, pairs = 0, []
    while held < ALL:
        one = socket.create_connection(listener.getsockname())
        pairs.append((one, listener.accept()[0]))
        held += filled(one)
    return "%d MiB" % (held // MIB)


@holds()
def in_udp_sockets():
    held, pairs = 0, []
    for _ in range(10 * ALL // MIB):
        one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        other.bind(("127.0.0.1", 0))
        pairs.append((one, other))
        # More than fits is dropped without a word.
        for _ in range(20):
            one.sendto(b"x" * 8192, other.getsockname())
    for _, other in pairs:
        other.setblocking(False)
        try:
            while True:
                held += len(other.recv(65536))
        except BlockingIOError:
            pass
    return held >= ALL // 2 and "%d MiB" % (held // MIB)


@holds(errno.ENFILE)
def in_netlink_sockets():
    # Each refused request comes back as an answer.
    held, sockets, request = 0, [], b"x" * 8192
    header = (len(request) + 16).to_bytes(4, sys.byteorder) + (0xFFF).to_bytes(2, sys.byteorder) + b"\5\0" + b"\0" * 8
    while held < ALL:
        sockets.append(socket.socket(16, socket.SOCK_RAW, 0))
        try:
            for _ in range(10):
                held += sockets[-1].send(header + request, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                raise
    return "%d MiB" % (held // MIB)


@holds()
def in_page_tables():
    # One page in each 2 MiB needs a page of page table: 4 bytes of ours, 4096 of the kernel's.
    step = 2 * MIB
    area = mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, ALL // 8192 * step, step):
        area[at] = 1
    return "%d MiB" % (ALL // MIB)
