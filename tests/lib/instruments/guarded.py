# SPDX-License-Identifier: BSD-2-Clause
"""Balancers of which only the guard is left (tests/drivers/guard_driver.c), on a network, with a client
whose packets for the virtual address go where the test says.

    with Guarded(net) as g:
        a, b = g.balancer("a"), g.balancer("b")      both have g.vip on lo, and a guard
        g.route(a)                                   the client's packets go to a
        sock, conn = g.connect(a)                    a client's socket, and the connection at a
        a.call("send", conn, b"hello".hex())
        a.kill()                                     kill -9
"""

import contextlib
import dataclasses
import os
import socket
import subprocess

from .meercat import BINARY
from .netns import ENDS_WITH_US
from .wait import SLOW, wait_until

DRIVER = os.path.join(os.path.dirname(BINARY), "guard_driver")
PORT = 80
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
CLOSING, OPEN = 1, 2  # flags of a flow


class Refused(Exception):
    """The driver said "no": its words."""


@dataclasses.dataclass
class Packet:
    """One that a guard has held."""
    client: str
    vip: str
    flags: int
    seq: int
    ack: int
    window: int
    has_ts: bool
    ts: int
    echo: int
    from_peer: bool
    payload: bytes

    @staticmethod
    def read(words):
        client, vip, *numbers, payload = words
        flags, seq, ack, window, has_ts, ts, echo, from_peer = map(int, numbers)
        return Packet(client, vip, flags, seq, ack, window, bool(has_ts), ts, echo, bool(from_peer),
                      unhex(payload))


@dataclasses.dataclass
class Accepted:
    """A connection as its owner knows it."""
    conn: int
    client: str
    vip: str
    recv_base: int
    send_base: int
    mss: int
    send_scale: int
    recv_scale: int
    options: int
    ts: int

    @staticmethod
    def read(words):
        conn, client, vip, *numbers = words
        return Accepted(int(conn), client, vip, *map(int, numbers))

    @property
    def params(self):
        return self.mss, self.send_scale, self.recv_scale, self.options


def unhex(word):
    return b"" if word == "-" else bytes.fromhex(word)


class Driver:
    """The program, in the network of whoever makes it; without some capabilities, "net_admin,bpf"."""

    def __init__(self, without=""):
        less = ["--bounding-set", ",".join(f"-{c}" for c in without.split(","))] if without else []
        self.proc = subprocess.Popen([*ENDS_WITH_US, *less, DRIVER], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)

    def call(self, *words):
        """The words of its answer; Refused when that is no."""
        self.proc.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.proc.stdin.flush()
        line = self.proc.stdout.readline()
        said, _, rest = line.strip().partition(" ")
        if said != "ok":
            raise Refused(rest or f"{words}: the driver has gone ({line!r})")
        return rest.split()

    def kill(self):
        self.proc.kill()
        self.proc.wait()

    def end(self):
        """In an orderly way: it has to find its memory as it should be."""
        if self.proc.poll() is None:
            self.proc.stdin.close()
            assert self.proc.wait(20 * SLOW) == 0


class Balancer:
    def __init__(self, host, vip, flows):
        self.host, self.vip, self.flows = host, vip, flows
        self.driver = None
        self.start()

    def start(self, listen=True):
        with self.host:
            self.driver = Driver()
            self.call("open", self.flows, "eth0", self.vip)
            if listen:
                self.call("listen", self.vip)

    def call(self, *words):
        return self.driver.call(*words)

    def accept(self, protect=True):
        return Accepted.read(self.call("accept", int(protect)))

    def recv(self, conn, n):
        """n bytes; fewer at the end."""
        got = b""
        while len(got) < n:
            (word,) = self.call("recv", conn, n - len(got))
            if word == "-":
                break
            got += unhex(word)
        return got

    def send(self, conn, data):
        self.call("send", conn, data.hex() or "-")

    def held(self, timeout=20.0):
        """The next packet that the guard has held; None: within the time there was none."""
        words = self.call("held", int(timeout * 1000 * SLOW))
        return Packet.read(words) if words else None

    def stats(self):
        return {k: int(v) for k, v in (w.split("=") for w in self.call("stats"))}

    @property
    def mac(self):
        return self.call("interfaces")[1]

    def knows(self, index, other, alive=True):
        self.call("peer", index, int(alive), "eth0", other.mac)

    def rebuild(self, acc, packet, received):
        """The connection that another one had, from what it knew (so many bytes had been received) and
        a packet that the client sent."""
        recv_next = (acc.recv_base + received) % 2**32
        known = (recv_next - packet.seq) % 2**32  # of its payload; huge, when it is newer
        conn, taken = self.call("rebuild", acc.client, acc.vip, *acc.params, recv_next, packet.ack,
                                packet.window, packet.ts, packet.echo, packet.payload[known:].hex() or "-")
        return int(conn), int(taken)

    def kill(self):
        self.driver.kill()

    def restart(self, **kw):
        """Another process, after one that was killed."""
        self.start(**kw)


class Guarded:
    def __init__(self, net, v6=False, flows=1024):
        self.net, self.v6, self.flows = net, v6, flows
        self.balancers, self.socks = [], []
        self.ip = "fd78::1" if v6 else "10.78.0.1"
        self.vip = f"[{self.ip}]:{PORT}" if v6 else f"{self.ip}:{PORT}"
        self.client = self._host("client")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.socks:
            s.close()
        for b in self.balancers:
            b.driver.end()

    def _host(self, name):
        h = self.net.host(name)
        if self.v6:
            h.ip(f"addr add {self._ip6(h)}/64 dev eth0 nodad")
        return h

    def _ip6(self, host):
        return f"fd77::{host.address.rsplit('.', 1)[1]}"

    def balancer(self, name):
        h = self._host(name)
        h.ip(f"addr add {self.ip} dev lo" + (" nodad" if self.v6 else ""))
        b = Balancer(h, self.vip, self.flows)
        self.balancers.append(b)
        return b

    def route(self, balancer, *options):
        """The client's packets go to that one from now on."""
        h = balancer.host
        via = self._ip6(h) if self.v6 else h.address
        self.client.ip(f"route replace {self.ip} via {via} " + " ".join(options))

    def socket(self, rcvbuf=None):
        with self.client:
            s = socket.socket(socket.AF_INET6 if self.v6 else socket.AF_INET)
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.settimeout(20 * SLOW)
        self.socks.append(s)
        return s

    def connect(self, balancer, protect=True, rcvbuf=None):
        s = self.socket(rcvbuf)
        s.connect((self.ip, PORT))
        return s, balancer.accept(protect)

    def begin(self, *names):
        """Balancers of these names, and a connection that the first of them has."""
        balancers = [self.balancer(name) for name in names]
        self.route(balancers[0])
        return (*balancers, *self.connect(balancers[0]))


@contextlib.contextmanager
def nothing_for(sock, seconds):
    """Nothing comes to the socket: no bytes, no end, no reset."""
    yield
    sock.settimeout(seconds)
    try:
        got = sock.recv(1)
    except socket.timeout:
        return
    finally:
        sock.settimeout(20 * SLOW)
    raise AssertionError(f"the client got {got!r}")


def why_not():
    """Why there can be no guard here; None when there can."""
    d = Driver()
    try:
        d.call("open", 16, "lo", "127.0.0.1:80")
        d.call("close", "remove")
    except Refused as e:
        return f"no guard here: {e}"
    finally:
        d.kill()
    return None

