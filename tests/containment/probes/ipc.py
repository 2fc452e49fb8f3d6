X86 = os.uname().machine == "x86_64"
SHMGET, SEMGET, MSGGET, MQ_OPEN = (29, 64, 68, 240) if X86 else (194, 190, 186, 180)


@attack(errno.ENOENT)
def finds_shared_memory():
    return "segment %d" % syscall(SHMGET, PLANTED["key"], 0, 0)


@attack(errno.ENOENT)
def finds_semaphores():
    return "set %d" % syscall(SEMGET, PLANTED["key"], 0, 0)


@attack(errno.ENOENT)
def finds_a_message_queue():
    return "queue %d" % syscall(MSGGET, PLANTED["key"], 0)


@attack(errno.ENOENT)
def opens_a_posix_queue():
    # The kernel takes the name without its slash.
    return "descriptor %d" % syscall(MQ_OPEN, PLANTED["queue"].encode(), os.O_RDONLY | os.O_NONBLOCK, 0, 0)


@attack()
def sees_objects_of_the_host():
    listed = [kind for kind in ("shm", "sem", "msg") if str(PLANTED["key"]).encode() in content("/proc/sysvipc/" + kind, 1 << 20)]
    return listed and "listed: " + " ".join(listed)


@attack()
def finds_shared_files():
    return PLANTED["shared"] in os.listdir("/dev/shm") and "in /dev/shm"
