import subprocess


def needs_a_loose_mount():
    if ON_THE_HOST and os.statvfs(PLANTED["folder"]).f_flag & os.ST_NOSUID:
        raise Lacking("its temporary folder is mounted nosuid")


def run(program):
    """As a user that is not root, also on the host."""
    def give_up():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
    path = os.path.join(PLANTED["folder"] if ON_THE_HOST else "/planted", program)
    return subprocess.run([path, "/proc/self/status"], preexec_fn=give_up, stdout=subprocess.PIPE, check=True).stdout.decode()


def field(status, name):
    return next(line.split()[1:] for line in status.splitlines() if line.startswith(name + ":"))


@attack()
def a_set_uid_program_is_root():
    needs_a_loose_mount()
    uids = field(run("set-uid"), "Uid")
    return len(set(uids)) > 1 and "uids %s" % uids


@attack()
def a_set_gid_program_is_in_the_group():
    needs_a_loose_mount()
    gids = field(run("set-gid"), "Gid")
    return len(set(gids)) > 1 and "gids %s" % gids


@attack(errno.EPERM)
def a_program_with_capabilities_has_them():
    needs_a_loose_mount()
    held = int(field(run("capable"), "CapEff")[0], 16)
    return held and hex(held)
