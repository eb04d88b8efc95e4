# SPDX-License-Identifier: BSD-2-Clause
"""Hosts on a network of the test's own, and what goes wrong with networks.

    with Network() as net:
        a, b = net.host("a"), net.host("b")          10.77.0.1 and 10.77.0.2
        with a:                                      what is started here runs on that host: processes,
            child = subprocess.Popen(...)            threads, sockets
        net.cut(a, b);  net.deafen(b, to=a);  net.partition([a], [b]);  net.lose(20, [a, b])
        net.unplug(a);  net.delay(100, [a, b])
        net.heal()

A host is a network namespace that a veth joins to a bridge, which has a namespace, too: nothing of it
is in the namespace of whoever runs the tests.  Namespaces have no names; a descriptor of this process
holds them, so that the kernel takes everything away when this process ends, however it ends.  What runs
in them goes then, too, if started with ENDS_WITH_US before its arguments.

Faults lie between the ports of the bridge (nftables): hosts do not know of them.
"""

import ctypes
import os
import subprocess
import threading

from .netrelay import Relay

CLONE_NEWNET = 0x40000000
# setpriv(1): the child gets SIGKILL when its parent ends
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(rv, what):
    if rv != 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{what}: {os.strerror(e)}")


def _run(argv, stdin):
    p = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
    if p.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {p.stderr.strip()}\n{stdin}")


def move_to_own_loopback():
    """The calling process, which has one thread yet, gets a network where nobody else's ports are."""
    _checked(_libc.unshare(CLONE_NEWNET), "unshare")
    _run(["ip", "link", "set", "lo", "up"], None)


class Netns:
    """A network namespace; `with ns:` puts the calling thread into it, and what that starts."""

    def __init__(self):
        made = []

        def make():
            try:
                _checked(_libc.unshare(CLONE_NEWNET), "unshare")
                made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            except OSError as e:
                made.append(e)
        # a thread of its own, which ends: nobody has to find the way back
        t = threading.Thread(target=make)
        t.start()
        t.join()
        if isinstance(made[0], OSError):
            raise made[0]
        self.fd = made[0]
        self._back = []

    path = property(lambda self: f"/proc/{os.getpid()}/fd/{self.fd}")

    def __enter__(self):
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(self.fd, CLONE_NEWNET), "setns")
        except OSError:
            os.close(back)
            raise
        self._back.append(back)
        return self

    def __exit__(self, *_):
        back = self._back.pop()
        _checked(_libc.setns(back, CLONE_NEWNET), "setns")
        os.close(back)

    def ip(self, *lines):
        """ip(8) in this namespace, a command a line."""
        with self:
            _run(["ip", "-batch", "-"], "".join(line + "\n" for line in lines))

    def close(self):
        os.close(self.fd)


def forbidden():
    """Why no namespace can be made here; None when one can."""
    try:
        Netns().close()
    except OSError as e:
        return f"network namespaces are forbidden here ({e.strerror}): run as root"
    return None


class Host(Netns):
    def __init__(self, name, address, port):
        super().__init__()
        self.name, self.address, self.port = name, address, port

    def __repr__(self):
        return self.name

    def udp(self):
        """{counter: value} of its UDP, as in netstat -su."""
        with self, open("/proc/thread-self/net/snmp") as f:
            names, values = [line.split()[1:] for line in f if line.startswith("Udp:")]
        return dict(zip(names, map(int, values)))


class Network:
    def __init__(self):
        self.hosts, self.relays = [], []
        self.cuts, self.lossy, self.percent, self.unplugged = set(), [], 0, set()
        self.switch = Netns()
        self.switch.ip("link add br0 type bridge", "link set br0 up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._end_delay()
        for ns in [*self.hosts, self.switch]:
            ns.close()
        self.hosts = []

    def host(self, name):
        n = len(self.hosts) + 1
        h = Host(name, f"10.77.0.{n}", f"p{n}")
        self.hosts.append(h)
        h.ip("link set lo up")
        self._plug(h)
        return h

    def _plug(self, h):
        h.ip(f"link add eth0 type veth peer name {h.port} netns {self.switch.path}",
             f"addr add {h.address}/24 dev eth0", "link set eth0 up")
        self.switch.ip(f"link set {h.port} master br0 up")

    def replace_card(self, host):
        """Its interface is another one of the same name and address."""
        host.ip("link del eth0")
        self._plug(host)

    # --- faults ----------------------------------------------------------------------------
    def cut(self, a, b):
        """Nothing goes between the two."""
        self.cuts |= {(a, b), (b, a)}
        self._rule()

    def deafen(self, host, to):
        """The host hears nothing of that one, which hears it."""
        self.cuts.add((to, host))
        self._rule()

    def partition(self, *sides):
        """Nothing goes from one side to another; who is on no side reaches all."""
        for side in sides:
            for other in sides:
                if other is not side:
                    self.cuts |= {(a, b) for a in side for b in other}
        self._rule()

    def lose(self, percent, among):
        """So many of the packets between these are lost."""
        self.percent, self.lossy = percent, list(among)
        self._rule()

    def unplug(self, host):
        """Pulls its cable: it sees that its link is down."""
        self.unplugged.add(host)
        self.switch.ip(f"link set {host.port} down")

    def delay(self, ms, among):
        """A packet from one of these to another takes so long, and half of it to or from the rest."""
        for h in among:
            self.switch.ip(f"link set {h.port} nomaster", f"link add {h.port}q type veth peer name {h.port}b",
                           f"link set {h.port}q up", f"link set {h.port}b master br0 up")
            with self.switch:
                self.relays.append(Relay(h.port, f"{h.port}q", ms / 2e3))

    def heal(self):
        self.cuts, self.lossy, self.percent = set(), [], 0
        self._rule()
        for h in self.unplugged:
            self.switch.ip(f"link set {h.port} up")
        self.unplugged = set()
        self._end_delay()

    def _end_delay(self):
        for r in self.relays:
            r.stop()
            self.switch.ip(f"link del {r.outer}", f"link set {r.inner} master br0")
        self.relays = []

    def _rule(self):
        """All cuts and losses in one step, in the place of those before."""
        pairs = ", ".join(f"{a.port} . {b.port}" for a, b in sorted(self.cuts, key=str))
        ports = ", ".join(h.port for h in self.lossy)
        rules = f"iifname . oifname {{ {pairs} }} drop\n" if pairs else ""
        if self.percent:
            rules += f"iifname {{ {ports} }} oifname {{ {ports} }} numgen random mod 100 < {self.percent} drop\n"
        with self.switch:
            _run(["nft", "-f", "-"], "table bridge faults\ndelete table bridge faults\n"
                 "table bridge faults {\nchain forward {\ntype filter hook forward priority 0\n" + rules + "}\n}\n")
