import glob
import pwd

SYSTEM = ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/bin", "/var", "/run", "/dev", "/root", "/home", "/opt", "/srv", "/proc", "/sys"]


def secret(path):
    return PLANTED["words"].encode()[::-1] in content(path) and "read by " + path


@attack()
def reads_a_file_of_the_host():
    return secret(PLANTED["secret"])


@attack()
def climbs_out_of_its_folder():
    for start in (".", "/tmp", "/dev/shm", "/proc/self/fd", "/usr/share"):
        how = secret(start + "/.." * 64 + PLANTED["secret"])
        if how:
            return how


@attack()
def goes_by_links_of_proc():
    links = ["/proc/%s/%s" % (pid, link) for pid in ("self", "thread-self", "1", str(os.getppid()))
             for link in ("root", "cwd", "cwd/" + "../" * 64)]
    return any_of(links, lambda link: secret(link + PLANTED["secret"]))


@attack()
def goes_by_a_link_of_its_own():
    os.symlink(PLANTED["secret"], "link")
    return secret("link")


@attack()
def goes_by_open_descriptors():
    descriptors = glob.glob("/proc/[0-9]*/fd/*") + glob.glob("/proc/self/map_files/*")
    if ON_THE_HOST:
        descriptors += ["/proc/self/fd/%d" % os.open("/", os.O_RDONLY)]
    return any_of(descriptors, lambda link: os.path.isdir(link) and secret(link + PLANTED["secret"]))


@attack()
def sees_the_file_names_of_others():
    found = [name for name in PLANTED["names"] if os.path.lexists(name)]
    return found and " ".join(found)


@attack(errno.EOPNOTSUPP, errno.EISDIR)
def writes_to_system_folders():
    # A file without a name: nothing stays of it.
    return any_of(SYSTEM, unnamed)


def unnamed(folder):
    try:
        return opens(folder, os.O_TMPFILE | os.O_WRONLY)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise


@attack()
def opens_system_files_for_writing():
    return any_of(["/usr/bin/env", "/usr/lib/os-release", "/etc/passwd", "/etc/ld.so.cache", "/bin/sh"],
                  lambda path: opens(path, os.O_WRONLY))


@attack()
def changes_what_system_files_say_of_themselves():
    known = os.stat("/usr/bin/env")
    os.utime("/usr/bin/env", ns=(known.st_atime_ns, known.st_mtime_ns))
    return "times were set"


@attack()
def keeps_system_files_by_hard_links():
    for source in ("/usr/bin/env", "/etc/passwd", PLANTED["secret"]):
        try:
            os.link(source, "kept")
            os.unlink("kept")
            return source
        except OSError as error:
            if error.errno not in REFUSALS | {errno.EXDEV, errno.ENOENT}:
                raise


@attack()
def replaces_its_script():
    script = sys.argv[0]
    os.rename(script, script + "-moved")
    os.rename(script + "-moved", script)
    return "renamed"


@attack(errno.ETXTBSY)
def writes_to_its_script():
    return opens(sys.argv[0], os.O_WRONLY)


@attack()
def sees_users_of_the_host():
    known = {user.pw_name for user in pwd.getpwall()}
    return set(PLANTED["users"]) <= known and "all of them"


@attack()
def sees_folders_of_the_host():
    found = [path for path in ("/boot", "/var/log", "/var/lib/dpkg/info", "/var/cache", "/etc/cron.d", "/etc/ssh", "/etc/systemd",
                               "/etc/apt", "/root", "/home", "/srv", "/mnt", "/media", "/var/spool", "/var/backups")
             if os.path.isdir(path) and os.listdir(path)]
    return found and " ".join(found)


@attack()
def reads_secrets_of_the_host():
    return any_of(["/etc/shadow", "/etc/gshadow", "/etc/sudoers"], lambda path: opens(path, os.O_RDONLY))


@attack()
def leaves_files_for_later_jobs():
    # Places that one job might share with the next.
    for folder in ("/var/tmp", "/run/lock", "/var/lock", "/var/crash", "/dev/mqueue"):
        if os.path.isdir(folder) and not os.path.ismount(folder) and os.access(folder, os.W_OK):
            if os.stat(folder).st_dev != os.stat("/tmp").st_dev or ON_THE_HOST:
                return folder
