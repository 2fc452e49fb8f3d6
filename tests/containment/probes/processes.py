import struct

X86 = os.uname().machine == "x86_64"
PTRACE, READV, WRITEV, KCMP, MOVE_PAGES, MIGRATE_PAGES, IOPRIO_SET, QUEUEINFO = \
    (101, 310, 311, 312, 279, 256, 251, 129) if X86 else (117, 270, 271, 272, 239, 238, 30, 138)
PIDFD_SEND_SIGNAL, PIDFD_OPEN, PIDFD_GETFD, PROCESS_MADVISE, PROCESS_MRELEASE = 424, 434, 438, 440, 448
# On the host it is a process that the harness keeps; in a sandbox process 1 is foreign, since it is the supervisor.
FOREIGN = PLANTED["canary"] if ON_THE_HOST else 1


@attack()
def sees_a_process_of_the_host():
    found = [pid for pid in os.listdir("/proc") if pid.isdigit() and PLANTED["marker"].encode() in content("/proc/%s/cmdline" % pid)]
    return found and "process " + found[0]


@attack(errno.ESRCH)
def signals_a_process_of_the_host():
    os.kill(PLANTED["canary"], 0)
    return "process %d" % PLANTED["canary"]


def transfers(number):
    # One byte at an address that no process has: EFAULT says that all else was allowed.
    byte = ctypes.create_string_buffer(1)
    here = struct.pack("QQ", ctypes.addressof(byte), 1)
    return reaches_the_kernel(number, FOREIGN, here, 1, struct.pack("QQ", 1, 1), 1, 0)


def does(name, function):
    attack(errno.ESRCH, name=name + "_a_foreign_process")(function)


does("signals", lambda: os.kill(FOREIGN, 0) or "kill")
does("queues_a_signal_to", lambda: syscall(QUEUEINFO, FOREIGN, 0, struct.pack("iii116x", 0, 0, -1)) == 0 and "rt_sigqueueinfo")
does("signals_by_descriptor", lambda: syscall(PIDFD_SEND_SIGNAL, syscall(PIDFD_OPEN, FOREIGN, 0), 0, 0, 0) == 0 and "pidfd_send_signal")
# PTRACE_SEIZE, which does not stop it; the tracer's end lets it go.
does("traces", lambda: syscall(PTRACE, 0x4206, FOREIGN, 0, 0) == 0 and "PTRACE_SEIZE")
does("reads_the_memory_of", lambda: transfers(READV))
does("writes_the_memory_of", lambda: transfers(WRITEV))
does("compares_itself_with", lambda: syscall(KCMP, FOREIGN, FOREIGN, 1, 0, 0) == 0 and "kcmp")
does("takes_a_descriptor_of", lambda: syscall(PIDFD_GETFD, syscall(PIDFD_OPEN, FOREIGN, 0), 0, 0) >= 0 and "pidfd_getfd")
does("advises_the_memory_of", lambda: reaches_the_kernel(PROCESS_MADVISE, -1, 0, 0, 0, 0))
does("reaps_the_memory_of", lambda: reaches_the_kernel(PROCESS_MRELEASE, -1, 0))
does("moves_the_memory_of", lambda: syscall(MOVE_PAGES, FOREIGN, 0, 0, 0, 0, 0) == 0 and "move_pages")
does("limits", lambda: __import__("resource").prlimit(FOREIGN, 7) and "prlimit")
does("schedules", lambda: os.sched_setscheduler(FOREIGN, os.SCHED_OTHER, os.sched_param(0)) or "sched_setscheduler")
does("binds_to_cpus", lambda: os.sched_setaffinity(FOREIGN, os.sched_getaffinity(FOREIGN)) or "sched_setaffinity")
does("slows", lambda: os.setpriority(os.PRIO_PROCESS, FOREIGN, os.getpriority(os.PRIO_PROCESS, FOREIGN)) or "setpriority")
does("starves_of_disks", lambda: syscall(IOPRIO_SET, 1, FOREIGN, 2 << 13 | 4) == 0 and "ioprio_set")


@attack()
def writes_to_the_memory_of_its_parents():
    # Those that are not the job's: its own may well be written.
    foreign = [str(FOREIGN)] + [pid for pid in os.listdir("/proc") if pid.isdigit() and os.stat("/proc/" + pid).st_uid != os.getuid()]
    return any_of(["/proc/%s/mem" % pid for pid in foreign[:200]], lambda path: opens(path, os.O_RDWR))


@attack()
def replaces_a_program_of_the_host():
    # As a container's runtime once was, by /proc/PID/exe. ETXTBSY: allowed, but for its being busy.
    def try_one(path):
        try:
            return opens(path, os.O_WRONLY)
        except OSError as error:
            if error.errno == errno.ETXTBSY:
                return path + " is merely busy"
            raise
    return any_of(["/proc/%s/exe" % pid for pid in ("1", str(FOREIGN), str(os.getppid()))], try_one)


@attack()
def is_in_the_session_of_the_worker():
    # Of a session outside of its pid namespace, a process sees 0.
    return os.getsid(0) in (0, PLANTED["session"]) and "session %d" % os.getsid(0)


@attack(errno.ESRCH)
def signals_the_workers_group():
    os.killpg(PLANTED["group"], 0)
    return "group %d" % PLANTED["group"]
