import mmap

X86 = os.uname().machine == "x86_64"
HERE, ME = -100, os.getpid()
# Arguments with which the kernel finds fault, or does nothing: number on x86_64, on aarch64 (0: it has none).
CALLS = {
    "add_key": (248, 217, 1, 1, 1, 1, -3), "request_key": (249, 218, 1, 1, 0, 0), "keyctl": (250, 219, 0xffff, 0, 0, 0, 0),
    "bpf": (321, 280, 0xffff, 0, 0), "perf_event_open": (298, 241, 1, 0, -1, -1, 0), "userfaultfd": (323, 282, 0xffffffff),
    "io_uring_setup": (425, 425, 1, 1), "io_uring_enter": (426, 426, -1, 0, 0, 0, 0, 0), "io_uring_register": (427, 427, -1, 0xffff, 0, 0),
    "io_setup": (206, 0, 0, 0), "fanotify_init": (300, 262, 0xffffffff, 0), "fanotify_mark": (301, 263, -1, 0, 0, HERE, 1),
    "name_to_handle_at": (303, 264, HERE, 1, 1, 1, 0), "open_by_handle_at": (304, 265, HERE, 1, 0),
    "reboot": (169, 142, 0, 0, 0, 0), "kexec_load": (246, 104, 0, 0, 0, -1), "kexec_file_load": (320, 294, -1, -1, 0, 0, -1),
    "init_module": (175, 105, 1, 0, 1), "finit_module": (313, 273, -1, 1, -1), "delete_module": (176, 106, 1, 0),
    "iopl": (172, 0, 7), "ioperm": (173, 0, 0xffffff, 1, 0), "swapon": (167, 224, 1, 0), "swapoff": (168, 225, 1), "acct": (163, 89, 1),
    "quotactl": (179, 60, 0x7fffffff, 0, 0, 0), "quotactl_fd": (443, 443, -1, 0x7fffffff, 0, 0),
    "settimeofday": (164, 170, 1, 1), "clock_settime": (227, 112, 0, 1), "adjtimex": (159, 171, 1), "clock_adjtime": (305, 266, 0, 1),
    "syslog": (103, 116, 99, 0, 0), "sethostname": (170, 161, 1, 8), "setdomainname": (171, 162, 1, 8),
    "lookup_dcookie": (212, 18, 0, 1, 1), "nfsservctl": (180, 42, 0, 0, 0), "uselib": (134, 0, 1), "ustat": (136, 0, 0, 1),
    "sysfs": (139, 0, 3, 0, 0), "modify_ldt": (154, 0, 0, 0, 0), "memfd_secret": (447, 447, 0xffffffff),
    "remap_file_pages": (216, 234, 0, 0, 0, 0, 0), "cachestat": (451, 451, -1, 1, 1, 0), "syncfs": (306, 267, -1),
    "mbind": (237, 235, 0, 0, 0, 0, 0, 0xff), "set_mempolicy": (238, 237, 0xff, 0, 0), "migrate_pages": (256, 238, ME, 0, 0, 0),
    "move_pages": (279, 239, ME, 0, 0, 0, 0, 0xff), "set_mempolicy_home_node": (450, 450, 0, 1, 0, 0xff),
    "ptrace": (101, 117, 0xffff, ME, 0, 0), "kcmp": (312, 272, ME, ME, 99, 0, 0), "unshare": (272, 97, 0x1),
    "setns": (308, 268, -1, 0), "clone3": (435, 435, 0, 0), "personality": (135, 92, 0x0040000),
    "seccomp_with_a_listener": (317, 277, 1, 8, 1), "seccomp_without_mitigations": (317, 277, 1, 4, 1),
    "prctl_on_mitigations": (157, 167, 53, 99, 0, 0, 0),
    "prctl_on_dispatch": (157, 167, 59, 99, 0, 0, 0), "prctl_on_securebits": (157, 167, 28, 0x10, 0, 0, 0),
    "listns": (470, 470, 1, 1, 1, 0), "landlock_of_the_future": (0xfff, 0xfff, 0),
}
ONLY_OF_SOME_ARCHITECTURES = {"lookup_dcookie", "nfsservctl", "uselib", "ustat", "sysfs"}


def calls(name, number, arguments):
    @attack(name="calls_" + name)
    def one():
        return reaches_the_kernel(number, *arguments)


for name, (x86, arm, *arguments) in CALLS.items():
    if X86 or arm:
        calls(name, x86 if X86 else arm, arguments)
# The kernel looks at the low half of the number only.
calls("bpf_with_high_bits", (321 if X86 else 280) | 0x5ead << 32, (0xffff, 0, 0))


@attack()
def enlarges_a_pipe():
    import fcntl
    return fcntl.fcntl(os.pipe()[0], 1031, 1 << 20) and "to 1 MiB"


def ioctls(name, request):
    @attack(name="asks_a_terminal_" + name)
    def one():
        return reaches_the_kernel(16 if X86 else 29, -1, request, 0)


ioctls("for_input", 0x5412)
ioctls("for_input_with_high_bits", 0x5412 | 0x5ead << 32)
ioctls("for_its_console", 0x541c)
ioctls("for_a_discipline", 0x5423)


@attack()
def maps_huge_pages():
    return mmap.mmap(-1, 2 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 0x4000) and "2 MiB"


@attack()
def makes_a_file_of_huge_pages():
    return os.memfd_create("huge", 4) and "made"


def machine_code(code):
    area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(area)))()


if X86:
    @attack()
    def calls_by_the_32_bit_entry():
        # mov $20, %eax (getpid); int $0x80; ret
        got = machine_code(b"\xb8\x14\0\0\0\xcd\x80\xc3")
        return got == os.getpid() and "getpid answered"

    @attack()
    def calls_by_the_x32_table():
        got = syscall(0x40000000 | 39)
        return got == os.getpid() and "getpid answered"
