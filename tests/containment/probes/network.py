import fcntl
import socket
import struct

X86 = os.uname().machine == "x86_64"
SOCKET, SETSOCKOPT = (41, 54) if X86 else (198, 208)
INET, INET6, NETLINK = socket.AF_INET, socket.AF_INET6, 16
STREAM, DGRAM, RAW, RDM, SEQPACKET, DCCP = 1, 2, 3, 4, 5, 6
# What each can be made of on some kernel: family, type, protocol.
SOCKETS = {
    "packet": (17, RAW, 0x0300), "vsock_stream": (40, STREAM, 0), "vsock_datagram": (40, DGRAM, 0), "crypto": (38, SEQPACKET, 0),
    "raw_icmp": (INET, RAW, 1), "raw_any": (INET, RAW, 255), "raw_icmp6": (INET6, RAW, 58), "obsolete_packet": (INET, 10, 0x0300),
    "ping": (INET, DGRAM, 1), "ping6": (INET6, DGRAM, 58), "sctp": (INET, STREAM, 132), "sctp_packets": (INET, SEQPACKET, 132),
    "dccp": (INET, DCCP, 33), "mptcp": (INET, STREAM, 262), "smc_in_tcp": (INET, STREAM, 256), "udplite": (INET, DGRAM, 136),
    "l2tp": (INET, DGRAM, 115), "netlink_sockets": (NETLINK, RAW, 4), "netlink_xfrm": (NETLINK, RAW, 6),
    "netlink_audit": (NETLINK, RAW, 9), "netlink_connector": (NETLINK, RAW, 11), "netlink_netfilter": (NETLINK, RAW, 12),
    "netlink_uevents": (NETLINK, RAW, 15), "netlink_generic": (NETLINK, RAW, 16), "netlink_crypto": (NETLINK, RAW, 21),
    "netlink_infiniband": (NETLINK, RAW, 20), "netlink_selinux": (NETLINK, RAW, 7), "ax25": (3, SEQPACKET, 0), "ipx": (4, DGRAM, 0),
    "appletalk": (5, DGRAM, 0), "x25": (9, SEQPACKET, 0), "key": (15, RAW, 2), "atm": (8, DGRAM, 0), "rds": (21, SEQPACKET, 0),
    "ppp": (24, STREAM, 0), "llc": (26, STREAM, 0), "infiniband": (27, RAW, 0), "can": (29, RAW, 1), "tipc": (30, RDM, 0),
    "bluetooth": (31, RAW, 1), "phonet": (35, DGRAM, 0), "ieee802154": (36, DGRAM, 0), "caif": (37, SEQPACKET, 0),
    "nfc": (39, SEQPACKET, 0), "kcm": (41, SEQPACKET, 0), "qipcrtr": (42, DGRAM, 0), "smc": (43, STREAM, 0), "xdp": (44, RAW, 0),
    "mctp": (45, DGRAM, 0),
}


def makes(name, family, kind, protocol):
    """The kernel's own refusals tell that it was asked, and may have loaded a module: only a filter's will do."""
    @attack(errno.EAFNOSUPPORT, name="makes_a_%s_socket" % name)
    def one():
        try:
            os.close(syscall(SOCKET, family, kind, protocol))
        except OSError as error:
            if not ON_THE_HOST and error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EINVAL):
                return "the kernel was asked: " + error.strerror
            if ON_THE_HOST and error.errno == errno.EACCES:
                raise Lacking("net.ipv4.ping_group_range is empty")
            raise
        return "made"


for name, words in SOCKETS.items():
    makes(name, *words)
makes("packet_with_high_bits", 17 | 0x5ead << 32, RAW | 0x5ead << 32, 0x0300)
makes("raw_with_flags", INET, RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 1)


def connects(name, family, address):
    @attack(errno.ECONNREFUSED, errno.ENETUNREACH, errno.ENOENT, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, name="connects_to_" + name)
    def one():
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(3)
            client.connect(address)
            return "connected"


connects("a_service_of_the_host", INET, ("127.0.0.1", PLANTED["port"]))
connects("a_service_of_the_host_by_ipv6", INET6, ("::1", PLANTED["port6"]))
connects("the_address_of_all", INET, ("0.0.0.0", PLANTED["port"]))
connects("an_abstract_socket", socket.AF_UNIX, "\0" + PLANTED["abstract"])
connects("a_socket_file", socket.AF_UNIX, PLANTED["socket"])


@attack()
def sees_abstract_sockets():
    return PLANTED["abstract"].encode() in content("/proc/net/unix", 1 << 20) and "listed"


@attack()
def sees_connections_of_the_host():
    return (":%04X" % PLANTED["port"]).encode() in content("/proc/net/tcp", 1 << 20) and "listed"


@attack()
def has_an_interface_that_leads_out():
    names = []
    for index in range(1, 100):
        try:
            names.append(socket.if_indextoname(index))
        except OSError:
            pass
    names.remove("lo")
    if ON_THE_HOST and not names:
        raise Lacking("it has none either")
    return names


@attack()
def has_a_route_that_leads_out():
    with socket.socket(INET, socket.SOCK_DGRAM) as client:
        try:
            client.connect(("198.51.100.1", 9))  # For documentation; a connect of this kind sends nothing.
        except OSError as error:
            if error.errno != errno.ENETUNREACH:
                raise
            if ON_THE_HOST:
                raise Lacking("it has no route either")
            return None
        return "there is a route"


def controls(name, request):
    @attack(name=name)
    def one():
        with socket.socket(INET, socket.SOCK_DGRAM) as control:
            # As they are now, so that nothing changes: SIOCGIFFLAGS and SIOCGIFMTU are one below.
            known = fcntl.ioctl(control, request - 1, struct.pack("16s24x", b"lo"))
            fcntl.ioctl(control, request, known)
            return "set"


controls("switches_an_interface", 0x8914)
controls("sizes_an_interface", 0x8922)


@attack()
def marks_its_packets():
    with socket.socket(INET, socket.SOCK_DGRAM) as marked:
        marked.setsockopt(socket.SOL_SOCKET, 36, 1)
        return "SO_MARK"


def joins(name, family, level, option, request):
    @attack(errno.ENODEV, name="joins_a_group_by_" + name)
    def one():
        with socket.socket(family, socket.SOCK_DGRAM) as member:
            member.setsockopt(level, option, request)
            return "joined"


GROUP, GROUP6, LOOPBACK = socket.inet_aton("239.1.1.1"), socket.inet_pton(INET6, "ff15::1"), struct.pack("=I", 1)
joins("address", INET, 0, 35, GROUP + socket.inet_aton("127.0.0.1"))
joins("ipv6", INET6, 41, 20, GROUP6 + LOOPBACK)
joins("either", INET, 0, 42, LOOPBACK + b"\0" * 4 + (struct.pack("=HH", INET, 0) + GROUP).ljust(128, b"\0"))
joins("either_ipv6", INET6, 41, 42, LOOPBACK + b"\0" * 4 + (struct.pack("=HHI", INET6, 0, 0) + GROUP6).ljust(128, b"\0"))


@attack(errno.ENODEV)
def leaves_a_flow_label():
    # For whoever wants it, for ten seconds after its socket.
    get, for_all, make, seconds = 0, 255, 1 | 2, 10
    request = socket.inet_pton(INET6, "::1") + struct.pack(">I", os.getpid())
    with socket.socket(INET6, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(41, 32, request + struct.pack("=BBHHHI", get, for_all, make, seconds, seconds, 0))
    return b"%05x" % os.getpid() in content("/proc/self/net/ip6_flowlabel").lower() and "left"


@attack()
def takes_tls_into_the_kernel():
    with socket.socket(INET, socket.SOCK_STREAM) as plain:
        try:
            syscall(SETSOCKOPT, plain.fileno(), 6, 31, b"tls\0", 4)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTCONN):
                if ON_THE_HOST:
                    raise Lacking("a kernel without it")
                return "the kernel was asked: " + error.strerror
            raise
        return "on"


@attack(errno.EINVAL, errno.ENOPROTOOPT)
def asks_for_packet_filters():
    # IPT_SO_SET_REPLACE with nothing.
    with socket.socket(INET, socket.SOCK_DGRAM) as plain:
        try:
            plain.setsockopt(0, 64, b"\0" * 8)
        except OSError as error:
            if ON_THE_HOST and error.errno in (errno.EINVAL, errno.ENOPROTOOPT):
                raise Lacking("a kernel without it")
            raise
        return "set"
