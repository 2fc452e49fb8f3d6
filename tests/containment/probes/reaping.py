# Children of the supervisor's: most of them sleep, and others end as fast as the number of processes lets them be made.
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
SYS_CLONE = 56 if os.uname().machine == "x86_64" else 220
CLONE_VM, CLONE_PARENT, SIGCHLD = 0x100, 0x8000, 17
# Each calls one function of the C library, which does not return, so one stack does for all.
stack = ctypes.create_string_buffer(64 << 10)
top = ctypes.c_void_p((ctypes.addressof(stack) + len(stack)) & ~15)
pause, end = (ctypes.cast(function, ctypes.c_void_p) for function in (libc.pause, libc._exit))


def make(function):
    return libc.clone(function, top, CLONE_VM | CLONE_PARENT | SIGCHLD, None)


asleep = 0
while asleep < 3000 and make(pause) > 0:
    asleep += 1
print(asleep, "asleep", flush=True)
for _ in range(3):
    if libc.syscall(SYS_CLONE, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0:
        break
while True:
    make(end)
