import fcntl
import select
import signal
import struct
import time

# Files that the host and a sandbox both have: one of a mount, one of the system.
SHARED = [PLANTED["folder"] if ON_THE_HOST else "/planted", "/usr/lib"]
PATIENCE = 0.4  # What the harness does again and again, it does every 20 ms.
PLAIN = SHARED[0] + "/locked"


@attack()
def sees_a_lock_of_the_host():
    for path in (PLAIN, "/usr/bin/env"):
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return path + " is locked"


@attack()
def sees_a_record_lock_of_the_host():
    with open(PLAIN) as file:
        request = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        kind = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, request))[0]
        return kind != fcntl.F_UNLCK and "a record is locked"


@attack()
def takes_a_lease():
    # Whoever opens the file then waits for the holder.
    with open(SHARED[0] + "/free") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        return "a read lease"


def watches(name, paths, mask):
    @attack(name=name)
    def one():
        fd = libc.inotify_init1(os.O_NONBLOCK)
        for path in paths:
            libc.inotify_add_watch(fd, path.encode(), mask)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if select.select([fd], [], [], 0.05)[0]:
                return os.read(fd, 64) and "somebody used what is watched"


# IN_ACCESS | IN_OPEN, by the harness, again and again.
watches("sees_files_of_a_mount_used", [SHARED[0], PLAIN], 0x21)
watches("sees_files_of_the_system_used", ["/usr/bin", "/usr/bin/env"], 0x21)
watches("sees_devices_used", ["/dev", "/dev/null"], 0x21)


@attack()
def is_told_of_uses_of_a_folder():
    # F_NOTIFY, the older way. It tells with a signal, which would end this process before it has answered.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    with open(PLAIN) as _:
        fcntl.fcntl(os.open(SHARED[0], os.O_RDONLY), fcntl.F_NOTIFY, 1)
        return "by F_NOTIFY"


@attack()
def reaches_a_socket_in_a_shared_folder():
    import socket
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(SHARED[0] + "/socket")
        except ConnectionRefusedError:
            return None  # An inode of an overlay of its own has nobody listening.
        return "connected"


@attack()
def reaches_a_pipe_in_a_shared_folder():
    path = SHARED[0] + "/fifo"
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if os.read(fd, 16) if select.select([fd], [], [], 0.05)[0] else b"":
            return "bytes came"
