import fcntl
import termios

ALL = (0, 1, 2)


def on_any(request, argument):
    """What the terminal's owner would notice, on each descriptor and on the controlling terminal."""
    descriptors = list(ALL)
    try:
        descriptors.append(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        pass
    last = None
    for fd in descriptors:
        try:
            fcntl.ioctl(fd, request, argument)
            return "on descriptor %d" % fd
        except OSError as error:
            last = error
    raise last


@attack()
def has_a_terminal():
    return [fd for fd in ALL if os.isatty(fd)]


@attack(errno.ENXIO)
def opens_the_controlling_terminal():
    return opens("/dev/tty", os.O_RDWR)


@attack(errno.ENOTTY)
def types_into_the_terminal():
    return on_any(termios.TIOCSTI, b"#")


@attack(errno.ENOTTY)
def changes_the_terminal():
    return on_any(termios.TIOCSWINSZ, b"\0" * 8)


@attack(errno.ENOTTY)
def puts_itself_in_the_foreground():
    return on_any(termios.TIOCSPGRP, os.getpgrp().to_bytes(4, "little"))


# The last, since its end hangs the terminal up for all.
@attack(errno.ENOTTY)
def takes_the_terminal():
    os.setsid()
    return on_any(termios.TIOCSCTTY, 1)
