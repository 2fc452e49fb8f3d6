import socket


@attack()
def learns_the_hosts_name():
    names = {socket.gethostname(), os.uname().nodename} | set(content("/etc/hostname").decode().split())
    return PLANTED["hostname"] in names and "it is the job's too"


@attack()
def learns_the_machines_id():
    return any_of(["/etc/machine-id", "/var/lib/dbus/machine-id"], lambda path: content(path) and path)


@attack()
def learns_the_boots_id():
    return content("/proc/sys/kernel/random/boot_id").strip() and "it reads"


@attack()
def reads_the_kernels_log():
    try:
        klogctl = libc.klogctl(3, ctypes.create_string_buffer(4096), 4096)
        if klogctl > 0:
            return "by syslog(2)"
    except OSError:
        pass
    return any_of(["/dev/kmsg", "/proc/kmsg"], has_lines)


def has_lines(path):
    try:
        return os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 4096) and path
    except BlockingIOError:
        return path + " has none just now"


@attack()
def learns_the_hosts_resolvers():
    return b"nameserver" in content("/etc/resolv.conf") and "resolv.conf names one"


@attack()
def learns_the_hosts_neighbours():
    lines = [line for line in content("/etc/hosts").decode().splitlines() if line.strip() and not line.startswith("#")]
    inside = ("127.0.0.1", "::1")
    told = [line for line in lines if not line.startswith(inside) or PLANTED["hostname"] in line.split()]
    if ON_THE_HOST and not told:
        raise Lacking("it has none")
    return told and told[0]


@attack()
def learns_who_logged_in():
    return any_of(["/var/run/utmp", "/var/log/wtmp", "/var/log/lastlog", "/var/log/faillog"],
                  lambda path: os.path.exists(path) and path)


@attack()
def learns_the_audit_login():
    told = [content("/proc/self/" + name).decode() for name in ("loginuid", "sessionid")]
    if any(int(value or "4294967295") != 4294967295 for value in told):
        return " ".join(told)
    if ON_THE_HOST:
        raise Lacking("nobody has logged in")


@attack()
def learns_what_packages_there_are():
    return content("/var/lib/dpkg/status") and "the list of packages reads"


@attack()
def learns_the_daemons_configuration():
    found = [path for path in ("/etc/stockade", "/var/lib/stockade", "/run/stockade", "/etc/fstab", "/etc/environment",
                               "/etc/default", "/etc/systemd") if os.path.exists(path)]
    return found and " ".join(found)
