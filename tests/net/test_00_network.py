# SPDX-License-Identifier: BSD-2-Clause
"""The network itself: a fault that is none would prove that anything survives it."""

import itertools
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from instruments.client import fetch
from instruments.flood import SIZE, Flood, sniff
from instruments.origin import Origin, ok
from instruments.proc import alive
from instruments.wait import wait_until

TLIMIT = 20
PORT = 7000


class Post:
    """A host's mailbox."""

    def __init__(self, host):
        self.host = host
        with host:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host.address, PORT))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def send(self, to, text=b"x"):
        try:
            self.sock.sendto(text, (to.host.address, PORT))
        except OSError:  # the network is known to be down
            pass

    def got(self, timeout=0.0):
        self.sock.settimeout(timeout)
        try:
            return self.sock.recv(100)
        except (socket.timeout, BlockingIOError):
            return None

    def gets(self, text):
        """This one, whatever comes before it."""
        while (got := self.got(5)) is not None:
            if got == text:
                return True
        return False

    def empty(self):
        while self.got():
            pass


@pytest.fixture
def posts(net):
    made = [Post(net.host(f"h{i}")) for i in range(3)]
    yield made
    for p in made:
        p.sock.close()


def reaches(a, b, tries=40):
    """Within two seconds, in which the neighbour is looked for."""
    b.empty()
    for _ in range(tries):
        a.send(b)
        if b.got(0.05):
            return True
    return False


def test_hosts_reach_each_other_and_nobody_else(net, posts):
    assert all(reaches(a, b) for a in posts for b in posts if a is not b)
    with open("/proc/self/net/dev") as f:
        ours = f.read()
    assert "br0" not in ours and not any(f" {p.host.port}:" in ours for p in posts)


def deaf(b, to):
    return not reaches(to, b, tries=6)


def test_cuts_cut(net, posts):
    a, b, c = posts
    net.cut(a.host, b.host)
    assert deaf(b, to=a) and deaf(a, to=b) and reaches(a, c) and reaches(c, b)
    net.heal()
    assert reaches(a, b)
    net.deafen(b.host, to=a.host)
    assert reaches(b, a) and deaf(b, to=a) and reaches(c, b)
    net.heal()
    net.partition([a.host], [b.host, c.host])
    assert deaf(b, to=a) and deaf(a, to=c) and reaches(b, c)
    net.heal()
    assert reaches(a, b) and reaches(c, a)
    net.unplug(c.host)
    assert deaf(c, to=a) and deaf(a, to=c) and reaches(a, b)
    net.heal()
    wait_until(lambda: reaches(a, c), TLIMIT, "the cable is in again")


def test_a_part_is_lost(net, posts):
    a, b, _ = posts
    assert reaches(a, b)
    net.lose(20, [a.host, b.host])
    b.empty()
    n = 3000
    for i in range(n):
        a.send(b)
        if i % 50 == 49:
            time.sleep(0.002)  # the receiver keeps so many
    got = 0
    while b.got(0.3):
        got += 1
    assert 0.7 < got / n < 0.9, got


def test_the_wire_can_be_long(net, posts, lab):
    a, b, c = posts
    body = b"x" * 300000

    numbers = itertools.count()

    def round_trip(p, q):
        text = b"%d" % next(numbers)
        at = time.monotonic()
        p.send(q, text)
        assert q.gets(text)
        q.send(p, text)
        assert p.gets(text)
        return time.monotonic() - at
    with b.host:
        origin = lab.add(Origin(ok(body), bind=b.host.address))
    assert reaches(a, b) and reaches(b, a) and reaches(a, c) and reaches(c, a)
    net.delay(100, [a.host, b.host])
    assert reaches(a, b) and reaches(b, a)
    assert round_trip(a, b) > 0.199
    assert round_trip(a, c) > 0.099
    with a.host:
        assert fetch((b.host.address, origin.port), "/").body == body
    assert not any(r.lost for r in net.relays)
    net.heal()
    wait_until(lambda: round_trip(a, b) < 0.1, TLIMIT, "the wire is short again")


def test_garbage_comes_as_fast_as_it_should(net, posts, measured):
    a, b, _ = posts
    assert reaches(a, b)
    known = b"\1\0KEY!" + b"B" * 16 + b"S" * 60
    t = threading.Timer(0.2, lambda: a.send(b, known))
    t.start()
    assert sniff(net, b.host, PORT) == known
    b.empty()
    b.sock.settimeout(TLIMIT)
    with a.host:
        flood = Flood((b.host.address, PORT), known, per_s=20000, for_s=0.5).start()
    seen = set()
    for _ in range(200):
        d = b.sock.recv(1000)
        seen.add("replay" if d == known else "sender" if d[:22] == known[:22] else "key" if d[:6] == known[:6] else "none")
        assert d == known or len(d) == SIZE
    flood.join()
    assert seen == {"replay", "sender", "key", "none"}
    assert flood.sent > 1000 and not flood.faults
    measured(f"{flood.per_s:.0f} datagrams a second of 20,000")


def test_nothing_stays_behind(allowed):
    """Whoever runs the tests is killed: processes on its hosts end, and with them the hosts."""
    code = f"""
import subprocess, sys, time
sys.path[:0] = {sys.path!r}
from instruments.netns import ENDS_WITH_US, Network
net = Network()
with net.host("a"):
    child = subprocess.Popen([*ENDS_WITH_US, "sleep", "1000"])
print(child.pid, flush=True)
time.sleep(1000)
"""
    p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        child = int(p.stdout.readline())
        wait_until(lambda: open(f"/proc/{child}/comm").read() == "sleep\n", TLIMIT, "it runs on its host")
    finally:
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stdout.close()
    wait_until(lambda: not alive(child), TLIMIT, "it has ended")

