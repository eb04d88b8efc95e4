# SPDX-License-Identifier: BSD-2-Clause
"""Clients that make it hard: odd TCP, odd HTTP, and whatever they do while their balancer is killed.

Each phase is a client that has begun something; its balancer dies; it goes on where it was."""

import contextlib
import os
import socket
import struct

import pytest

from instruments.rawtcp import ACK, FIN, PUSH, RST, SYN, RawTcp
from instruments.vipcluster import HTTP, VIP
from instruments.wait import wait_until
from test_42_takeover_requests import LARGE, Client, Stage, body_of

pytestmark = [pytest.mark.bound(120), pytest.mark.alone]


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def tuned(host, **values):
    for name, value in values.items():
        with host, open(f"/proc/sys/net/ipv4/{name}", "w") as f:
            f.write(value)


SHAPES = {
    "plain": {},
    "no timestamps": {"tcp_timestamps": "0"},
    "no sack": {"tcp_sack": "0"},
    "no scale": {"tcp_window_scaling": "0"},
    "nothing": {"tcp_timestamps": "0", "tcp_sack": "0", "tcp_window_scaling": "0"},
    "scale 14": {"tcp_rmem": "4096 131072 1073741824"},
    "mss 88": {},
}


class Resting:
    def begin(self, client, n):
        pass

    def go_on(self, client, n):
        client.get(f"/next/{n}")
        return f"/next/{n}", 400


class Reading:
    """Has read a part, and then nothing: its window is closed."""
    rcvbuf = 4096

    def begin(self, client, n):
        client.get(f"/large/{n}")
        client.read(20_000)

    def go_on(self, client, n):
        return f"/large/{n}", LARGE


class Waiting:
    def begin(self, client, n):
        client.get(f"/slow/{n}")

    def go_on(self, client, n):
        return f"/slow/{n}", 400


class HalfAHead:
    def begin(self, client, n):
        client.send(f"GET /half/{n} HTTP/1.1\r\nHo")

    def go_on(self, client, n):
        client.send("st: h\r\n\r\n")
        return f"/half/{n}", 400


class HalfABody:
    def begin(self, client, n):
        client.send(f"PUT /body/{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n" + "x" * 1000)

    def go_on(self, client, n):
        client.send(b"x" * 2000)
        return f"/body/{n}", 400


class HalfOfTheChunks:
    def begin(self, client, n):
        client.send(f"PUT /chunks/{n} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n1")

    def go_on(self, client, n):
        client.send("0\r\nsixteen in all..\r\n0\r\n\r\n")
        return f"/chunks/{n}", 400


class Expecting:
    """The server has said that it wants the body, and says so again to who asks it again."""

    def begin(self, client, n):
        client.send(f"PUT /expect/{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        client.read(len(CONTINUE))
        assert client.got == CONTINUE
        client.got = b""

    def go_on(self, client, n):
        client.send(b"0123456789")
        return f"/expect/{n}", 400


PHASES = [Resting(), Reading(), Waiting(), HalfAHead(), HalfABody(), HalfOfTheChunks(), Expecting()]


@pytest.fixture
def stage(lab, net):
    s = Stage(lab, net)

    def serve(conn):
        while (r := conn.read_head()) is not None:
            if r["expect"]:
                conn.send(CONTINUE)
            if not conn.read_body(r) or not conn.send(s.answer(conn, r)):
                return
    for o in s.c.origins:
        o.script = serve
    yield s
    s.go.set()


def begun(stage, phase, n):
    client = stage.connect(rcvbuf=getattr(phase, "rcvbuf", None))
    phase.begin(client, n)
    return client


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_has_begun_goes_on(stage, shape):
    tuned(stage.c.client, **SHAPES[shape])
    if shape == "mss 88":
        stage.c.client.ip(f"route replace {VIP}/32 via {stage.c.router.address} advmss 88 mtu lock 552")
    clients = [(p, n, begun(stage, p, n)) for n in range(6) for p in PHASES]
    wait_until(lambda: all(stage.count(f"/slow/{n}") for n in range(6)), 20, "what is slow is at its server")
    stage.c.kill(clients[0][2].owner())
    stage.go.set()
    for phase, n, client in clients:
        target, size = phase.go_on(client, n)
        status, _, body = client.answer()
        assert (status, body) == (200, body_of(target, size)), f"{type(phase).__name__} {n}"
        client.get("/last")
        assert client.answer()[2] == body_of("/last", 400)


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def test_the_rest_of_a_body_is_no_request(stage):
    """What was sent and may not be repeated is answered before its body is whole."""
    clients = [stage.connect() for _ in range(8)]
    for n, client in enumerate(clients):
        client.post(f"/refused/{n}", b"x" * 1000, length=1000 + 20 * len(SMUGGLED))
        client.owner()
    victim = clients[0].owner()
    others = [x for x in clients if x.owner() != victim]
    stage.c.kill(victim)
    for n, client in enumerate(clients):
        with contextlib.suppress(ConnectionError, EOFError):
            for _ in range(20):
                client.send(SMUGGLED)
            status, _, body = client.answer()
            assert status == 200 if client in others else status == 502, body
            client.get("/last")
            assert client.answer()[2] == body_of("/last", 400)
    assert stage.count("/smuggled") == 0


def test_a_thousand_pipelined_requests_are_answered_in_order(stage):
    clients = [stage.connect() for _ in range(4)]
    for client in clients:
        client.send("GET /slow/first HTTP/1.1\r\nHost: h\r\n\r\n" +
                    "".join(f"GET /{i} HTTP/1.1\r\nHost: h\r\n\r\n" for i in range(1000)))
    stage.wait_seen("/slow/first", 4)
    victim = clients[0].owner()
    theirs = sum(1 for x in clients if x.owner() == victim)
    stage.c.kill(victim)
    stage.wait_seen("/slow/first", 4 + theirs)
    stage.go.set()
    for client in clients:
        assert client.answer()[2] == body_of("/slow/first", 400)
        for i in range(1000):
            assert client.answer()[2] == body_of(f"/{i}", 400), i


def test_of_many_answers_under_way_none_is_another_ones(stage):
    """A holder keeps sixteen requests of a connection: one whose client lacks more answers is reset."""
    stage.go.set()
    clients = [stage.connect() for _ in range(4)]
    for client in clients:
        client.send("".join(f"GET /{i} HTTP/1.1\r\nHost: h\r\n\r\n" for i in range(1000)))
    for client in clients:
        for i in range(100):
            assert client.answer()[2] == body_of(f"/{i}", 400), i
    victim = clients[0].owner()
    theirs = [x for x in clients if x.owner() == victim]
    stage.c.kill(victim)
    for client in clients:
        with contextlib.suppress(ConnectionError if client in theirs else ()):
            for i in range(100, 1000):
                assert client.answer()[2] == body_of(f"/{i}", 400), i


def test_a_head_of_64_kb_goes_on_in_its_middle(lab, net):
    stage = Stage(lab, net, listen={"takeover": {"buffer": "128KiB"}, "head_max": "64KiB", "fields_max": 1000})
    fields = "".join(f"X-{i}: {'y' * 100}\r\n" for i in range(580))
    half = len(fields) // 2
    clients = [stage.connect() for _ in range(6)]
    for n, client in enumerate(clients):
        client.send(f"GET /head/{n} HTTP/1.1\r\nHost: h\r\n" + fields[:half])
    stage.c.kill(clients[0].owner())
    for n, client in enumerate(clients):
        client.send(fields[half:] + "\r\n")
        status, _, body = client.answer()
        assert (status, body) == (200, body_of(f"/head/{n}", 400)), body


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_who_ends_while_its_balancer_is_dead_leaves_nothing(stage, how):
    clients = [stage.connect() for _ in range(12)]
    for n, client in enumerate(clients):
        client.get(f"/slow/{n}")
    wait_until(lambda: all(stage.count(f"/slow/{n}") for n in range(12)), 20, "all are at a server")
    victim = clients[0].owner()
    others = [i for i in range(3) if i != victim]
    stage.c.kill(victim)
    for client in clients:
        if how == "reset":
            client.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            client.s.shutdown(socket.SHUT_WR)
        else:
            client.s.close()
    stage.go.set()
    wait_until(lambda: sum(stage.c.status(i)["connections"] for i in others) == 0, 20, "none is left")
    late = stage.connect()
    late.get("/late")
    assert late.answer()[0] == 200


def test_who_has_said_all_that_it_has_to_say_gets_its_answer(lab, net):
    stage = Stage(lab, net, listen={"takeover": {}, "half_close": True})
    with contextlib.ExitStack() as ends:
        ends.callback(stage.go.set)
        clients = [stage.connect() for _ in range(6)]
        victim = clients[0].owner()
        for n, client in enumerate(clients):
            client.get(f"/slow/{n}")
            client.s.shutdown(socket.SHUT_WR)
        wait_until(lambda: all(stage.count(f"/slow/{n}") for n in range(6)), 20, "all are at a server")
        stage.c.kill(victim)
        stage.go.set()
        for n, client in enumerate(clients):
            assert client.answer()[2] == body_of(f"/slow/{n}", 400)


# --- clients without a kernel ---------------------------------------------------------------------

def raw(stage, **kw):
    with stage.c.client:
        return RawTcp(stage.c.client.address, (VIP, HTTP), **kw)


def owner_of(stage, r):
    """Who serves it."""
    probe = Client.__new__(Client)
    probe.c, probe.port = stage.c, r.port
    return probe.owner()


def request(target):
    return f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


@pytest.mark.parametrize("mss", [1000, 1])
def test_bytes_that_were_acknowledged_are_those_that_count(stage, mss):
    """The client repeats others in their place, while its balancer dies."""
    r = raw(stage, mss=mss)
    r.connect()
    r.send(request("/first"))
    r.until(body_of("/first", 400))
    at, r.got = r.seq, b""
    r.send(request("/slow/a"))
    stage.wait_seen("/slow/a")
    stage.c.kill(owner_of(stage, r))
    r.segment(ACK | PUSH, seq=at, data=request("/slow/b"))
    stage.go.set()
    answer = r.until(body_of("/slow/a", 400), again=(at, request("/slow/b")))
    assert b"/slow/b" not in answer and stage.count("/slow/b") == 0


def test_a_request_that_comes_again_and_again_is_read_once(stage):
    """While its connection is rebuilt."""
    clients = [raw(stage) for _ in range(8)]
    for r in clients:
        r.connect()
        r.send(request("/first"))
        r.until(body_of("/first", 400))
    victim = owner_of(stage, clients[0])
    stage.c.route(*[i for i in range(3) if i != victim])
    stage.c.kill(victim)
    post = b"POST /next HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
    for r in clients:
        at, r.got = r.seq, b""
        r.send(post)
        for _ in range(300):
            r.segment(ACK | PUSH, seq=at, data=post)
        r.until(body_of("/next", 400), again=(at, post))
    assert stage.count("/next") == len(clients)


@pytest.mark.parametrize("what", ["syn", "ack of nothing", "seq of nothing", "reset", "end"])
def test_nonsense_while_the_balancer_is_dead_harms_nobody_else(stage, what):
    r, others = raw(stage), [stage.connect() for _ in range(6)]
    r.connect()
    r.send(request("/first"))
    r.until(body_of("/first", 400))
    victim = owner_of(stage, r)
    stage.c.kill(victim)
    for k in range(50):
        r.segment({"syn": SYN, "reset": RST, "end": FIN | ACK}.get(what, ACK | PUSH),
                  seq=r.seq + (k * 0x01000001 if what == "seq of nothing" else 0),
                  ack=r.ack + (k * 0x02000003 if what == "ack of nothing" else 0), data=os.urandom(k))
    for client in others:
        client.get("/next")
        assert client.answer()[2] == body_of("/next", 400)
    late = stage.connect()
    late.get("/late")
    assert late.answer()[0] == 200
    assert all(stage.c[i].running() for i in range(3) if i != victim)
