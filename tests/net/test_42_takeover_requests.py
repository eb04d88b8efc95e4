# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of requests in flight when their balancer is killed."""

import contextlib
import signal
import socket
import struct
import threading
import time

import h2.connection
import h2.events
import pytest

from instruments.origin import chunked, ok
from instruments.starved import Starved
from instruments.steady import body_of
from instruments.vipcluster import HTTP, VIP, VipCluster
from instruments.wait import wait_until

pytestmark = [pytest.mark.bound(90), pytest.mark.alone]

LARGE = 400_000


class Client:
    """A connection of the client's host, and who serves it."""

    def __init__(self, c, rcvbuf=None):
        self.c = c
        with c.client:
            self.s = socket.socket()
            if rcvbuf:
                self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.s.settimeout(30)
            self.s.connect((VIP, HTTP))
        self.port = self.s.getsockname()[1]
        self.got = b""
        c.lab.clients.append(self)  # whose ends no balancer waits for when the test has ended

    def close(self):
        self.s.close()

    def owner(self):
        """The balancer that has the connection."""
        return wait_until(lambda: self._owners(), 5, "somebody has the connection")[0]

    def _owners(self):
        local = f"{int.from_bytes(socket.inet_aton(VIP), 'little'):08X}:{HTTP:04X}"
        remote = f"{int.from_bytes(socket.inet_aton(self.c.client.address), 'little'):08X}:{self.port:04X}"
        owners = []
        for i, h in enumerate(self.c.hosts):
            with h, open("/proc/thread-self/net/tcp") as f:  # a row may be missing while others come and go
                rows = [line.split() for line in f]
            if any(r[1:3] == [local, remote] and r[3] == "01" for r in rows):
                owners.append(i)
        return owners

    def back_off(self, less_than=99):
        """How often it has doubled the time after which it sends again, and whether anything is not acknowledged;
        None: not less often than that."""
        info = self.s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
        return (info[4], struct.unpack_from("I", info, 24)[0] > 0) if info[4] < less_than else None

    def send(self, text):
        self.s.sendall(text.encode() if isinstance(text, str) else text)

    def read(self, n):
        """Until n bytes are there in all."""
        while len(self.got) < n:
            data = self.s.recv(min(65536, n - len(self.got)))
            if not data:
                raise EOFError(f"after {len(self.got)} bytes: {self.got[:300]!r}")
            self.got += data

    def answer(self):
        """(status, fields, body) of the next response."""
        while b"\r\n\r\n" not in self.got:
            self.read(len(self.got) + 1)
        head, _, rest = self.got.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = {k.lower(): v for k, _, v in (x.partition(": ") for x in lines[1:])}
        length = int(fields.get("content-length", 0))
        self.read(len(head) + 4 + length)
        body, self.got = self.got[len(head) + 4:len(head) + 4 + length], self.got[len(head) + 4 + length:]
        return int(lines[0].split()[1]), fields, body

    def get(self, target):
        self.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")

    def post(self, target, body=b"", length=None):
        self.send(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body) if length is None else length}"
                  "\r\n\r\n")
        self.send(body)


class Stage:
    """Origins whose answers to /slow... wait for self.go; each request is counted by its target."""

    def __init__(self, lab, net, **kw):
        self.go, self.lock, self.seen = threading.Event(), threading.Lock(), {}
        self.c = VipCluster(lab, net, answer=self.answer, log="json", **kw)
        self.c.wait_together()

    def answer(self, conn, r):
        with self.lock:
            self.seen[r.target] = self.seen.get(r.target, 0) + 1
        if r.target.startswith("/slow"):
            self.go.wait(60)
        if "chunked" in r.target:
            return chunked(b"one", b"two")
        size = LARGE if "large" in r.target else 400
        return ok(body_of(r.target, size), fields=[("ETag", '"1"')])

    def count(self, target):
        with self.lock:
            return self.seen.get(target, 0)

    def wait_seen(self, target, n=1):
        wait_until(lambda: self.count(target) >= n, 20, f"{n} deliveries of {target}")

    def logged(self, target, **said):
        """The line of the access log about that target, of who took it over; it says this."""
        def lines():
            return [x for lb in self.c for x in lb.log_json() if x.get("target") == target and "adopted_from" in x]
        line = wait_until(lines, 10, f"{target} is in an adopter's log")[0]
        assert {k: line.get(k) for k in said} == said, line

    def connect(self, **kw):
        client = Client(self.c, **kw)
        client.get("/first")
        assert client.answer()[0] == 200
        return client


@pytest.fixture
def stage(lab, net):
    s = Stage(lab, net)
    yield s
    s.go.set()


def test_a_request_at_a_slow_server_is_sent_again(stage):
    client = stage.connect()
    client.get("/slow")
    stage.wait_seen("/slow")
    owner = client.owner()
    stage.c.kill(owner)
    stage.wait_seen("/slow", 2)
    stage.go.set()
    status, _, body = client.answer()
    assert (status, body) == (200, body_of("/slow", 400))
    client.get("/next")
    assert client.answer()[2] == body_of("/next", 400)
    stage.logged("/slow", adopted_from=f"lb{owner + 1}", adopted="repeated", status=200, end="ok")
    stage.logged("/next", adopted_from=f"lb{owner + 1}", adopted=None)


@pytest.mark.parametrize("read", [100, 50_000, 200_000])
def test_a_long_response_is_carried_on_where_it_was_cut(stage, read):
    client = stage.connect(rcvbuf=4096)
    client.get("/large")
    client.read(read)
    stage.c.kill(client.owner())
    status, _, body = client.answer()
    assert status == 200 and body == body_of("/large", LARGE)
    client.get("/next")
    assert client.answer()[2] == body_of("/next", 400)
    stage.logged("/large", adopted="continued", status=200, end="ok")


def test_a_post_that_was_sent_is_delivered_once(stage):
    client = stage.connect()
    client.post("/slow/post")
    stage.wait_seen("/slow/post")
    stage.c.kill(client.owner())
    status, fields, body = client.answer()
    assert status == 502 and b"may not be sent again" in body
    assert "connection_terminated" in fields["proxy-status"]
    stage.logged("/slow/post", adopted="refused", status=502, end="takeover-sent")
    stage.go.set()
    client.get("/next")
    assert client.answer()[0] == 200
    assert stage.count("/slow/post") == 1


def test_a_post_that_was_not_sent_is_served(lab, net):
    stage = Stage(lab, net, origins=1, pool={"max_concurrent": 1})
    with contextlib.ExitStack() as ends:
        ends.callback(stage.go.set)
        # the only place at the server is taken, by a request over the same balancer
        others = [stage.connect() for _ in range(12)]
        client = stage.connect()
        owner = client.owner()
        holder = next(x for x in others if x.owner() == owner)
        holder.get("/slow")
        stage.wait_seen("/slow")
        client.post("/post", b"y" * 100)
        wait_until(lambda: stage.c[owner].cli_json("pools")["pools"][0]["queued"] == 1, 5, "it waits")
        stage.c.kill(owner)
        stage.go.set()
        assert client.answer()[0] == 200
        assert stage.count("/post") == 1


@pytest.mark.parametrize("probed", [True, False])
def test_a_request_of_many_segments_waits_for_one_timeout(stage, net, probed):
    """Whoever answers the client's first retransmission, a segment, gets the others at once."""
    c, timeout = stage.c, 6
    c.client.ip(f"route replace {VIP}/32 via {c.router.address} rto_min {timeout}s")
    client = stage.connect()
    owner = client.owner()
    others = [i for i in range(3) if i != owner]
    net.deafen(c.hosts[owner], to=c.router)
    begun = time.monotonic()
    client.post("/post", b"y" * 4096)
    if not probed:  # then the retransmission is the first that comes from the client
        for i in others:
            net.deafen(c.client, to=c.hosts[i])
    c.kill(owner)
    if not probed:
        wait_until(lambda: c.counted("probes", others) >= 3, 20, "all probes are lost")
        net.heal()
    c.route(*others)
    if time.monotonic() - begun > timeout - 1:
        raise Starved("too slow to be in time for the retransmission")
    assert client.answer()[0] == 200
    assert time.monotonic() - begun < 2 * timeout  # the next would come at 3 times
    assert stage.count("/post") == 1


def test_who_waits_for_long_is_nudged(stage, net):
    """Where the network finds another way late, a client has doubled its time by then; it takes that back."""
    c = stage.c

    def send_by(i):
        c.client.ip(f"route replace {VIP}/32 via {c.hosts[i].address} rto_min 1s")
    send_by(0)
    client = stage.connect()
    net.deafen(c.hosts[0], to=c.client)
    client.post("/post", b"y" * 100)
    c.kill(0)
    wait_until(lambda: client.back_off() == (2, True), 30, "it has doubled its time twice")
    send_by(1)
    backed_off, waits = wait_until(lambda: client.back_off(less_than=2), 30, "it has taken that back")
    assert client.answer()[0] == 200
    assert stage.count("/post") == 1
    assert c.counted("nudged", (1,)) == 1
    if not waits:
        raise Starved("too slow to see it wait")
    assert backed_off == 0


def test_pipelined_requests_are_all_answered(stage):
    client = stage.connect()
    client.send("".join(f"GET /slow/{i} HTTP/1.1\r\nHost: h\r\n\r\n" for i in range(3)))
    stage.wait_seen("/slow/0")
    stage.c.kill(client.owner())
    stage.wait_seen("/slow/0", 2)
    stage.go.set()
    for i in range(3):
        assert client.answer()[2] == body_of(f"/slow/{i}", 400)


def test_a_chunked_response_of_which_nothing_was_sent_is_fetched_again(stage):
    client = stage.connect()
    client.get("/slow/chunked")
    stage.wait_seen("/slow/chunked")
    stage.c.kill(client.owner())
    stage.wait_seen("/slow/chunked", 2)
    stage.go.set()
    while not client.got.endswith(b"0\r\n\r\n"):
        client.read(len(client.got) + 1)
    assert b"Transfer-Encoding: chunked" in client.got and b"onetwo" in client.got


def wait_lost(c, client, owner):
    """Until the log of one says of whom the connection was and why it is lost."""
    line = f"{c.client.address}:{client.port} > {VIP}:{HTTP} of lb{owner + 1} is reset: it was not protected"
    wait_until(lambda: any(line in lb.stderr for lb in c), 10, line)


def test_an_upload_beyond_the_buffer_ends_with_its_balancer(stage):
    client = stage.connect()
    client.post("/upload", b"z" * 200_000, length=1_000_000)
    stage.c.kill(client.owner())
    with pytest.raises((ConnectionError, EOFError)):  # though it says no more
        client.answer()
    assert stage.count("/upload") == 0


def test_an_upload_beyond_the_buffer_to_a_frozen_balancer_is_reset(stage):
    client = stage.connect()
    client.post("/upload", b"z" * 200_000, length=1_000_000)
    owner = client.owner()
    stage.c[owner].signal(signal.SIGSTOP)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        for _ in range(300):
            client.send(b"z" * 1000)
            with contextlib.suppress(TimeoutError):
                client.s.settimeout(0.1)
                client.answer()
    assert stage.count("/upload") == 0
    wait_lost(stage.c, client, owner)
    stage.c.kill(owner)


class Frames:
    """A connection of the client's host that speaks HTTP/2 without having asked."""

    def __init__(self, c):
        self.client, self.h2, self.ended = Client(c), h2.connection.H2Connection(), set()
        self.h2.initiate_connection()

    def flush(self):
        self.client.send(self.h2.data_to_send())

    def ask(self, target):
        sid = self.h2.get_next_available_stream_id()
        self.h2.send_headers(sid, [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", target)],
                             end_stream=True)
        self.flush()
        return sid

    def read(self):
        for e in self.h2.receive_data(self.client.s.recv(65536)):
            if isinstance(e, h2.events.StreamEnded):
                self.ended.add(e.stream_id)
        self.flush()

    def get(self, target):
        sid = self.ask(target)
        while sid not in self.ended:
            self.read()


@pytest.fixture
def asking(stage):
    """Who waits for a response, by HTTP/2."""
    frames = Frames(stage.c)
    frames.get("/first")
    frames.ask("/slow/stream")
    stage.wait_seen("/slow/stream")
    return frames


def test_a_connection_of_http2_ends_with_its_balancer(stage, asking):
    stage.c.kill(asking.client.owner())
    with contextlib.suppress(ConnectionResetError):  # though it says nothing
        while asking.client.s.recv(65536):
            pass
    assert stage.count("/slow/stream") == 1


def test_a_connection_of_http2_to_a_frozen_balancer_is_reset_when_its_client_speaks(stage, asking):
    owner = asking.client.owner()
    stage.c[owner].signal(signal.SIGSTOP)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        for _ in range(300):  # the kernel there takes the first ones
            asking.h2.ping(b"01234567")
            asking.flush()
            with contextlib.suppress(TimeoutError):
                asking.client.s.settimeout(0.1)
                assert asking.client.s.recv(65536)
    assert stage.count("/slow/stream") == 1
    wait_lost(stage.c, asking.client, owner)
    stage.c.kill(owner)


def test_a_logged_response_is_said_again(lab, net):
    stage = Stage(lab, net, listen={"takeover": {"replicate": "responses"}})
    with contextlib.ExitStack() as ends:
        ends.callback(stage.go.set)
        client = stage.connect()
        owner = client.owner()
        client.post("/slow/post", b"x" * 100)
        stage.wait_seen("/slow/post")
        # what the balancer says does not arrive, its peers hear it
        net.deafen(stage.c.client, to=stage.c.hosts[owner])
        stage.go.set()
        wait_until(lambda: stage.c.counted("frames_in", [i for i in range(3) if i != owner]) > 0, 5, "told")
        stage.c.kill(owner)
        status, _, body = client.answer()
        assert (status, body) == (200, body_of("/slow/post", 400))
        assert stage.count("/slow/post") == 1
        stage.logged("/slow/post", adopted_from=f"lb{owner + 1}", adopted="answered", method="POST", status=200)


def test_connections_are_handed_over_by_who_leaves(lab, net, measured):
    c = VipCluster(lab, net)
    c.wait_together()
    s = c.steady(60)
    c.route(0, 2)
    c[1].stop()
    s.wait_for(20 * 60)
    report = c.end_steady(s)
    assert c.counted("adopted", (0, 2)) > 0
    measured(f"{report['done']} requests, the longest took {report['longest_s']} s")


def test_who_is_silent_is_handed_over_too(stage):
    """Before it speaks: later nobody would know of its connection."""
    c, clients = stage.c, [stage.connect() for _ in range(12)]
    leaver = clients[0].owner()
    others = [i for i in range(3) if i != leaver]
    theirs = sum(1 for x in clients if x.owner() == leaver)
    c.route(*others)
    c[leaver].stop()
    wait_until(lambda: c.counted("adopted", others) >= theirs, 10, "others have all connections")
    for x in clients:
        x.get("/next")
        assert x.answer()[2] == body_of("/next", 400)


def test_a_request_that_outlives_the_drain_is_answered_by_another(lab, net):
    stage = Stage(lab, net, drain_timeout="500ms")
    with contextlib.ExitStack() as ends:
        ends.callback(stage.go.set)
        client = stage.connect()
        owner = client.owner()
        client.get("/slow")
        stage.wait_seen("/slow")
        stage.c.route(*(i for i in range(3) if i != owner))
        stage.c[owner].stop()
        stage.wait_seen("/slow", 2)
        stage.go.set()
        assert client.answer()[2] == body_of("/slow", 400)
