import fcntl
import glob


@attack(errno.EBADF)
def finds_descriptors():
    found = []
    for fd in range(3, 1024):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            continue
        found.append("%d is %s" % (fd, os.readlink("/proc/self/fd/%d" % fd)))
    # The attack itself has the pipe that its verdict goes through.
    mine = [line for line in found if line.split(" is ")[1].startswith("pipe:")]
    others = [line for line in found if line not in mine]
    return (others or len(mine) > 1) and "; ".join(others or mine)


@attack()
def reads_the_workers_input():
    return PLANTED["reversed_secret"][::-1].encode() in os.read(0, 4096) and "it came on descriptor 0"


def secret_in(pattern):
    secret = PLANTED["reversed_secret"][::-1].encode()
    found = [path for path in glob.glob(pattern) if secret in content(path)]
    return found and " ".join(found[:3])


@attack()
def has_the_workers_environment():
    secret = PLANTED["reversed_secret"][::-1]
    found = [name for name, value in os.environ.items() if secret in value]
    return found and " ".join(found)


@attack()
def reads_an_environment():
    return secret_in("/proc/[0-9]*/environ")


@attack()
def reads_a_command_line():
    lines = [content(path) for path in glob.glob("/proc/[0-9]*/cmdline")]
    return any(PLANTED["reversed_name"][::-1].encode() in line for line in lines) and "the worker's is there"


@attack()
def has_more_variables_than_a_plain_login():
    known = set("PATH HOME USER LOGNAME SHELL LANG TMPDIR PWD SHLVL _ LC_CTYPE CI DEBIAN_FRONTEND".split())
    return " ".join(sorted(set(os.environ) - known))


@attack()
def has_signals_blocked_or_ignored():
    # A job that cannot be told to stop, because its worker was started that way.
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in content("/proc/self/status").decode().splitlines()
             if line.startswith(("SigBlk", "SigIgn"))}
    # Python itself ignores SIGPIPE and SIGXFSZ.
    masks["SigIgn"] &= ~(1 << 12 | 1 << 24)
    return any(masks.values()) and "%(SigBlk)#x and %(SigIgn)#x" % masks
