# Each flood stops by itself at a number that the harness tells, a little above what the policy allows.
import mmap
import resource
import socket
import threading
import time

MIB = 1 << 20
PATIENCE = 10


def stopped_by(*errors):
    return attack(*errors, errno.EAGAIN, errno.ENOMEM, seconds=40)


@stopped_by()
def starts_processes():
    children = []
    try:
        for _ in range(PLANTED["pids"] + 20):
            pid = os.fork()
            if pid == 0:
                time.sleep(PATIENCE)
                os._exit(0)
            children.append(pid)
        return "%d processes" % len(children)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@attack()
def starts_threads():
    threading.stack_size(64 << 10)
    wait = threading.Event()
    try:
        for count in range(PLANTED["pids"] + 20):
            threading.Thread(target=wait.wait, daemon=True).start()
    except RuntimeError:
        return None
    return "%d threads" % count


@stopped_by()
def leaves_dead_processes_about():
    # Zombies count as well.
    made = 0
    try:
        for _ in range(PLANTED["pids"] + 20):
            if os.fork() == 0:
                os._exit(0)
            made += 1
        return "%d zombies" % made
    finally:
        for _ in range(made):
            os.wait()


@stopped_by(errno.EMFILE)
def opens_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for _ in range(PLANTED["open_files"] + 20):
        os.dup(0)
    return "%d descriptors" % PLANTED["open_files"]


def fill(paths, size):
    """Files of the given size altogether, spread over the paths."""
    block = b"x" * MIB
    try:
        for number in range(size // MIB):
            with open("%s-%d" % (paths[number % len(paths)], number // 8), "ab", 0) as file:
                if file.write(block) < MIB:
                    return None  # Full in the middle of a block.
        return "%d MiB" % (size // MIB)
    finally:
        for path in paths:
            for number in range(size // MIB):
                if os.path.exists("%s-%d" % (path, number)):
                    os.unlink("%s-%d" % (path, number))


@stopped_by(errno.ENOSPC)
def fills_its_folder():
    return fill(["fill"], PLANTED["disk"] + 4 * MIB)


@stopped_by(errno.ENOSPC)
def fills_all_places_together():
    return fill(["fill", "/tmp/fill", "/dev/shm/fill"], PLANTED["disk"] + 4 * MIB)


@stopped_by(errno.ENOSPC)
def makes_files():
    os.mkdir("many")
    made = 0
    try:
        for number in range(PLANTED["inodes"] + 20):
            os.close(os.open("many/%d" % number, os.O_CREAT | os.O_WRONLY))
            made += 1
        return "%d files" % made
    finally:
        for number in range(made):
            os.unlink("many/%d" % number)
        os.rmdir("many")


@stopped_by()
def locks_memory():
    area = mmap.mmap(-1, 32 * MIB)
    if libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(area))), ctypes.c_size_t(32 * MIB)) == 0:
        return "32 MiB"
    raise OSError(ctypes.get_errno(), "mlock")


@stopped_by(errno.EMFILE, errno.ENOSPC)
def queues_messages():
    # More of them than a user may have of all together: 819200 bytes.
    made = []
    try:
        for number in range(200):
            attributes = (ctypes.c_long * 8)(0, 10, 8192)
            name = b"/stockade-%d-%d" % (os.getpid(), number)
            made.append((name, libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, ctypes.byref(attributes))))
            if made[-1][1] < 0:
                if ON_THE_HOST and resource.getrlimit(12)[1] != resource.RLIM_INFINITY:
                    raise Lacking("RLIMIT_MSGQUEUE is the same here")
                raise OSError(ctypes.get_errno(), "mq_open")
        return "200 queues"
    finally:
        for name, _ in made:
            libc.mq_unlink(name)


@stopped_by()
def queues_signals():
    # Pending signals of a kind that adds up.
    signal.pthread_sigmask(signal.SIG_BLOCK, [40])
    libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    for _ in range(PLANTED["signals"] + 20):
        if libc.sigqueue(os.getpid(), 40, None) != 0:
            raise OSError(ctypes.get_errno(), "sigqueue")
    return "%d signals" % PLANTED["signals"]


@stopped_by(errno.EMFILE)
def watches_by_many_instances():
    for _ in range(PLANTED["inotify"] + 20):
        if libc.inotify_init1(0) < 0:
            if ON_THE_HOST and int(content("/proc/sys/fs/inotify/max_user_instances")) <= PLANTED["inotify"]:
                raise Lacking("each user has no more here")
            raise OSError(ctypes.get_errno(), "inotify_init1")
    return "%d instances" % PLANTED["inotify"]


@attack()
def drops_a_core():
    # Where the host pipes cores to a program of its own, a limit of 1 is what keeps the kernel from starting it.
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != resource.RLIM_INFINITY and hard > 1:
        return "a limit of %d" % hard
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    pid = os.fork()
    if pid == 0:
        os.chdir("/tmp" if ON_THE_HOST else ".")
        os.abort()
    dumped = os.WCOREDUMP(os.waitpid(pid, 0)[1])
    for name in ("core", "core.%d" % pid, "/tmp/core", "/tmp/core.%d" % pid):
        if os.path.exists(name):
            os.unlink(name)
    if ON_THE_HOST and hard == 0:
        raise Lacking("cores are off")
    return dumped and "dumped"


@attack()
def has_its_cores_piped():
    # No core at all is what a limit of 0 asks for, but where the host pipes them the kernel starts its program.
    setrlimit, prlimit64 = (160, 302) if os.uname().machine == "x86_64" else (164, 261)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    none = before[1].to_bytes(8, sys.byteorder, signed=True).rjust(16, b"\0")
    core, old = resource.RLIMIT_CORE, ctypes.create_string_buffer(16)
    ways = [(setrlimit, core, none), (prlimit64, 0, core, none, 0), (prlimit64, os.getpid(), core, none, old)]
    ways += [(setrlimit, core | 0x5ead << 32, none), (prlimit64, 0, core | 0x5ead << 32, none, 0)]
    for way in ways:
        try:
            syscall(*way)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
    lowered = resource.getrlimit(core)[0] == 0
    if lowered:
        resource.setrlimit(core, before)
    return lowered and "a limit of 0"


@attack()
def outlives_the_worker_when_memory_is_short():
    score = int(content("/proc/self/oom_score_adj"))
    return score <= 0 and "oom_score_adj is %d" % score


@attack()
def has_a_limit_that_is_none():
    # SIGPENDING is 11, and has no name in this module.
    limits = {"CORE": resource.RLIMIT_CORE, "NPROC": resource.RLIMIT_NPROC, "NOFILE": resource.RLIMIT_NOFILE, "SIGPENDING": 11}
    high = [name for name, number in limits.items() if not 0 <= resource.getrlimit(number)[1] <= PLANTED["highest"]]
    return high and " ".join(high)
