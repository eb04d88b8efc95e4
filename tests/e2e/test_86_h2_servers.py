# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 towards servers: many requests on few connections, strictness, windows, GOAWAY, refusals."""

import collections
import os
import subprocess
import threading

import pytest

from instruments.client import Closed
from instruments.h2_origin import DataFrame, H2Origin, HeadersFrame, PingFrame, SettingsFrame
from instruments.origin import ok
from instruments.pki import Authority
from instruments.ports import free_port
from instruments.process import Process
from instruments import proc
from instruments.proxy_status import assert_own_answer
from instruments.tls import TlsOrigin, server_context
from instruments.wait import stays, wait_until

REFUSED, CANCEL, PROTOCOL_ERROR, CALM, INTERNAL = 7, 8, 1, 11, 2
BIG = os.urandom(1 << 20)


def h2_lab(lab, n=1, pool=None, **origin):
    """(balancer, server ...): each server an H2Origin."""
    servers = [lab.add(H2Origin(**origin)) for _ in range(n)]
    lb = lab.proxy(servers, pool=dict({"protocol": "h2"}, **(pool or {})), log="json", admin_http=True)
    return (lb, *servers)


def post(c, body, path="/", fields=()):
    return c.get(path, method="POST", fields=[("Content-Length", str(len(body))), *fields]).send(body)


def server_metric(lb, name, server="s1"):
    return lb.metric(f"meercat_server_{name}", server=server)


# --- requests and responses ------------------------------------------------------------------------

def test_a_request_and_its_response(lab):
    lb, o = h2_lab(lab)
    r = lb.client().request("/a?b=c", fields=[("X-A", "b"), ("Cookie", "a=b; c=d"), ("Priority", "u=1, i"),
                                              ("Connection", "keep-alive, x-hop"), ("X-Hop", "1"),
                                              ("Keep-Alive", "timeout=5")])
    assert (r.status, r.body) == (200, b"/a?b=c")
    s = o.seen[0]
    assert s.headers[:4] == [(":method", "GET"), (":scheme", "http"), (":path", "/a?b=c"), (":authority", "test")]
    assert s["x-a"] == "b" and s["cookie"] == "a=b; c=d" and s["priority"] == "u=1, i"
    assert s["via"] == "1.1 meercat" and s["x-forwarded-for"] == "127.0.0.1"
    assert not {"host", "connection", "keep-alive", "x-hop", "te", "transfer-encoding"} & {n for n, _ in s.headers}
    assert s.ended and s.body == b""


def test_fields_of_the_response_come_as_they_are(lab):
    lb, o = h2_lab(lab, on_end=lambda s: s.respond(404, b"no", [("set-cookie", "a=1"), ("set-cookie", "b=2"),
                                                               ("x-empty", "")]))
    r = lb.client().request("/")
    assert r.version == "1.1" and r.status == 404 and r.body == b"no" and r.framing == "length"
    assert r.fields.all("set-cookie") == ["a=1", "b=2"] and r["x-empty"] == "" and r["Date"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 16384, len(BIG)])
def test_bodies_both_ways(lab, size, framing):
    lb, o = h2_lab(lab, on_end=lambda s: s.respond(200, s.body))
    c, body = lb.client(), BIG[:size]
    if framing == "length":
        post(c, body)
    else:
        c.get(method="POST", fields=[("Transfer-Encoding", "chunked")])
        for i in range(0, size, 50000):
            piece = body[i:i + 50000]
            c.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        c.send("0\r\n\r\n")
    r = c.read_response()
    assert r.status == 200 and r.body == body
    assert o.seen[0]["content-length"] == (str(size) if framing == "length" else None)


def test_trailers_both_ways(lab):
    def answer(s):
        s.head(200, [("content-type", "text/plain")])
        s.data(b"body")
        s.trailers_out([("x-sum", "5"), ("grpc-status", "0")])
    lb, o = h2_lab(lab, on_end=answer)
    c = lb.client().get(method="POST", fields=[("Transfer-Encoding", "chunked"), ("TE", "trailers"),
                                               ("Connection", "TE")])
    c.send("3\r\nabc\r\n0\r\nX-Up: 1\r\n\r\n")
    r = c.read_response()
    assert r.body == b"body" and r.trailers.get("x-sum") == "5" and r.trailers.get("grpc-status") == "0"
    assert o.seen[0].trailers == [("x-up", "1")] and o.seen[0]["te"] == "trailers"


@pytest.mark.parametrize("status,method", [(204, "GET"), (304, "GET"), (200, "HEAD")])
def test_responses_without_a_body(lab, status, method):
    fields = [("content-length", "77")] if status != 204 else []
    lb, o = h2_lab(lab, on_end=lambda s: s.head(status, fields, end=True))
    c = lb.client()
    for _ in range(2):
        r = c.request("/", method=method)
        assert r.status == status and r.body == b""


def test_interim_responses_pass(lab):
    def answer(s):
        s.conn.fields(s.id, [(":status", "103"), ("link", "</a>")], end=False)
        s.respond(200, b"x")
    lb, o = h2_lab(lab, on_end=answer)
    r = lb.client().request("/")
    assert [i.status for i in r.interim] == [103] and r.interim[0]["link"] == "</a>" and r.body == b"x"


def test_too_many_interim_responses_are_a_fault(lab):
    def answer(s):
        for _ in range(40):
            s.conn.fields(s.id, [(":status", "103")], end=False)
        s.respond(200, b"x")
    lb, o = h2_lab(lab, on_end=answer, pool={"retries": 0})
    r = lb.client().request("/", method="POST", fields=[("Content-Length", "0")])
    assert_own_answer(r, 502, error="http_protocol_error")


def test_an_early_response_ends_the_upload(lab):
    def early(s):
        s.respond(413, b"too large")
        s.refuse(0)
    lb, o = h2_lab(lab, on_end=None, on_head=early)
    c = lb.client().get(method="POST", fields=[("Content-Length", "1000000")])
    c.send(b"x" * 1000)
    r = c.read_response()
    assert (r.status, r.body) == (413, b"too large")
    assert lb.client().request("/", method="GET").status == 413, "the connection goes on"
    assert len(o.conns) == 1


def test_the_response_head_may_come_before_the_request_ends(lab):
    def begin(s):
        s.head(200)
        s.data(b"first ")
    lb, o = h2_lab(lab, on_head=begin, on_end=lambda s: s.data(s.body, end=True))
    c = lb.client().get(method="POST", fields=[("Transfer-Encoding", "chunked")])
    r = c.read_head()
    assert r.status == 200
    assert c.read_chunk(r) == b"first ", "neither side waits for the other"
    c.send("5\r\nsecon\r\n1\r\nd\r\n0\r\n\r\n")
    got = b""
    while piece := c.read_chunk(r):
        got += piece
    assert got == b"second"


# --- connections -----------------------------------------------------------------------------------

def test_many_requests_share_a_connection(lab):
    held = []
    lb, o = h2_lab(lab, on_end=held.append)
    first = lb.client().get("/0")
    o.wait_seen(1)
    clients = [lb.client().get(f"/{i}") for i in range(1, 40)]
    wait_until(lambda: len(held) == 40, 5)
    assert len(o.conns) == 1
    for s in held[::-1]:
        s.respond(200, s.path.encode())
    assert [c.read_response().body for c in [first, *clients]] == [f"/{i}".encode() for i in range(40)]
    assert server_metric(lb, "open_connections") == 1
    wait_until(lambda: server_metric(lb, "idle_connections") == 1, 5, "it lies idle")
    assert server_metric(lb, "connects_total") == 1 and server_metric(lb, "reuses_total") == 39


def test_a_burst_to_a_cold_server_opens_few_connections(lab):
    """Nobody is greeted until all have come; then there is one for each hundred."""
    hold = threading.Event()
    lb, o = h2_lab(lab, hold=hold, pool={"connect_timeout": "20s"})
    clients = [lb.client().get(f"/{i}") for i in range(500)]
    wait_until(lambda: lb.metric("meercat_process_active_requests") == 500, 20, "all are under way")
    hold.set()
    assert {c.read_response().status for c in clients} == {200}
    assert len(o.conns) <= 6


def test_those_who_wait_for_a_greeting_do_not_wait_for_a_dead_connection(lab):
    class DiesOnce(H2Origin):
        died = False

        def _serve(self, sock):
            if self.died:
                return super()._serve(sock)
            self.died = True
            sock.recv(65536)
            self.hold.wait(30)
            sock.close()
            return None
    hold = threading.Event()
    o = lab.add(DiesOnce(hold=hold))
    lb = lab.proxy(o, pool={"protocol": "h2", "retries": 0, "connect_timeout": "20s"}, admin_http=True)
    clients = [lb.client() for _ in range(10)]
    for i, c in enumerate(clients):
        c.get(f"/{i}")
    wait_until(lambda: lb.metric("meercat_process_active_requests") == 10, 20, "all are under way")
    hold.set()
    assert {c.read_response().status for c in clients} <= {200, 502}


def test_the_cap_per_connection_holds(lab):
    lb, o = h2_lab(lab, on_end=None, pool={"streams_per_connection": 3})
    clients = [lb.client().get(f"/{i}") for i in range(7)]
    o.wait_seen(7)
    per = collections.Counter(s.conn for s in o.seen)
    assert max(per.values()) <= 3 and len(per) == 3
    for s in list(o.seen):
        s.respond(200)
    assert {c.read_response().status for c in clients} == {200}


def test_what_the_server_allows_holds(lab):
    lb, o = h2_lab(lab, on_end=None, settings={"max_concurrent_streams": 2})
    clients = [lb.client().get(f"/{i}") for i in range(6)]
    o.wait_seen(6)
    per = collections.Counter(s.conn for s in o.seen)
    assert max(per.values()) <= 2 and len(per) == 3
    for s in list(o.seen):
        s.respond(200)
    assert {c.read_response().status for c in clients} == {200}
    assert server_metric(lb, "unprocessed_total") == 0, "and nothing was refused"


def test_a_server_that_takes_no_streams_is_of_no_use(lab):
    lb, o = h2_lab(lab, settings={"max_concurrent_streams": 0}, pool={"retries": 0})
    c = lb.client()
    codes = [c.request(f"/{i}").status for i in range(3)]
    assert set(codes) <= {200, 502}
    wait_until(lambda: len(o.conns) < 40, 5, "no storm of connections")


def test_a_connection_ends_after_so_many_requests(lab):
    lb, o = h2_lab(lab, pool={"requests_per_connection": 5})
    c = lb.client()
    for i in range(12):
        assert c.request(f"/{i}").status == 200
    assert collections.Counter(s.conn for s in o.seen).most_common()[0][1] == 5 and len(o.conns) == 3
    wait_until(lambda: len(o.open) == 1, 5, "the others are closed")
    assert all(x.goaway == (0, 0) for x in o.conns[:2]), "with a goodbye"


def test_an_idle_connection_ends_in_time(lab):
    lb, o = h2_lab(lab, pool={"idle_connection_timeout": "100ms"})
    assert lb.client().request("/").status == 200
    wait_until(lambda: not o.open, 5, "it is closed")
    wait_until(lambda: server_metric(lb, "open_connections") == 0, 5, "and counted")
    assert server_metric(lb, "idle_connections") == 0
    assert lb.client().request("/").status == 200


def test_reload_keeps_what_is_under_way(lab):
    held = []
    lb, o = h2_lab(lab, on_end=lambda s: held.append(s) if s.path == "/old" else s.respond(200, b"before"))
    c = lb.client().get("/old")
    wait_until(lambda: held, 5)
    other = lab.add(H2Origin())
    lb.conf.pools["app"][1]["s1"]["address"] = other.address
    lb.reload(lb.conf)
    wait_until(lambda: lb.client().request("/").body == b"/" and other.seen, 5, "the new one answers")
    held[0].respond(200, b"old")
    assert c.read_response().body == b"old"
    wait_until(lambda: not o.open, 5, "nobody needs that connection any more")


def test_drain_lets_streams_finish(lab):
    held = []
    lb, o = h2_lab(lab, on_end=held.append)
    c = lb.client().get("/")
    wait_until(lambda: held, 5)
    lb.signal(15)
    wait_until(lambda: lb.port not in proc.listening_ports(), 5, "it listens no more")
    held[0].respond(200, b"last")
    assert c.read_response().body == b"last"
    lb.wait_exit()


# --- windows ---------------------------------------------------------------------------------------

def test_a_client_that_does_not_read_stops_no_other(lab):
    lb, o = h2_lab(lab, on_end=lambda s: s.respond(200, b"x" * (24 << 20) if s.path == "/big" else s.path.encode()))
    slow = lb.client(rcvbuf=4096).get("/big")
    o.wait_seen(1)
    big = o.seen[0]
    wait_until(lambda: 0 < big.unsent < (24 << 20), 10, "it is begun")
    last = [0]

    def rests():
        before, last[0] = last[0], big.unsent
        return before == last[0]
    wait_until(rests, 20, "no more window", interval=0.2)
    assert big.unsent > (8 << 20)
    for i in range(20):
        assert lb.client().request(f"/{i}").body == f"/{i}".encode()
    assert len(o.conns) == 1, "on the same connection"
    slow.sock.setsockopt(1, 8, 1 << 20)
    assert slow.skip_body(slow.read_head()) == 24 << 20


def test_a_server_that_does_not_read_stops_the_client(lab):
    lb, o = h2_lab(lab, on_end=None, reads=False)
    c = lb.client().get(method="POST", fields=[("Content-Length", str(256 << 20))])
    c.sock.settimeout(1.0)
    sent = 0
    try:
        while sent < 256 << 20:
            sent += c.sock.send(bytes(1 << 16))
    except TimeoutError:
        pass
    assert sent < 64 << 20, "the balancer does not take what it cannot give"
    assert len(o.seen[0].body) <= 65535


def test_a_large_body_of_the_response(lab):
    lb, o = h2_lab(lab, on_end=lambda s: s.respond(200, BIG * 8))
    assert lb.client().request("/").body == BIG * 8


# --- strictness ------------------------------------------------------------------------------------

MALFORMED = {
    "no status": [("server", "a")],
    "two": [(":status", "200"), (":status", "200")],
    "late": [("server", "a"), (":status", "200")],
    "unknown pseudo": [(":status", "200"), (":path", "/")],
    "short": [(":status", "20")],
    "101": [(":status", "101")],
    "capital": [(":status", "200"), ("Server", "a")],
    "connection": [(":status", "200"), ("connection", "close")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
    "crlf": [(":status", "200"), ("a", "b\r\nset-cookie: c")],
    "lf": [(":status", "200"), ("a", "b\nc")],
    "nul": [(":status", "200"), ("a", "b\0c")],
    "space": [(":status", "200"), ("a", " b")],
    "name": [(":status", "200"), ("a b", "c")],
    "length": [(":status", "200"), ("content-length", "5")],
    "lengths": [(":status", "200"), ("content-length", "0"), ("content-length", "1")],
    "no number": [(":status", "200"), ("content-length", "x")],
    "interim end": [(":status", "103")],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_heads_are_502_and_nobody_elses_trouble(lab, what):
    def answer(s):
        if s.path == "/bad":
            s.conn.fields(s.id, MALFORMED[what])
        else:
            s.respond(200, b"fine")
    lb, o = h2_lab(lab, on_end=answer)
    c = lb.client()
    assert_own_answer(c.request("/bad"), 502, error="http_protocol_error")
    assert c.request("/").body == b"fine"
    assert len(o.conns) == 1, "the connection lives on"
    wait_until(lambda: o.seen[0].reset in (PROTOCOL_ERROR, None), 2)


@pytest.mark.parametrize("length", [5, 2])
def test_a_body_that_is_not_what_was_said_never_looks_whole(lab, length):
    def answer(s):
        s.conn.fields(s.id, [(":status", "200"), ("content-length", str(length))], end=False)
        s.conn.bytes(s.id, b"abc", end=True)
    lb, o = h2_lab(lab, on_end=answer)
    with pytest.raises(Closed):
        lb.client().get("/").read_response()


def test_data_before_the_head(lab):
    lb, o = h2_lab(lab, on_end=lambda s: s.conn.bytes(s.id, b"x"))
    assert_own_answer(lb.client().request("/"), 502, error="http_protocol_error")


@pytest.mark.parametrize("fields,error", [([("a", "a" * 20000)], "http_response_header_section_size"),
                                          ([(f"a{i}", "") for i in range(200)], "http_response_header_section_size")])
def test_heads_are_bounded(lab, fields, error):
    lb, o = h2_lab(lab, on_end=lambda s: s.conn.fields(s.id, [(":status", "200"), *fields])
                   if s.path == "/bad" else s.respond(200))
    c = lb.client()
    assert_own_answer(c.request("/bad"), 502, error=error)
    assert c.request("/").status == 200 and len(o.conns) == 1


def test_trailers_without_an_end_break_the_response(lab):
    def answer(s):
        s.head(200)
        s.data(b"abc")
        s.conn.fields(s.id, [("x-a", "b")], end=False)
    lb, o = h2_lab(lab, on_end=answer)
    c = lb.client().get("/")
    with pytest.raises(Closed):
        c.read_response()


# --- what goes wrong -------------------------------------------------------------------------------

def test_a_reset_stream_is_nobody_elses_trouble(lab):
    held = []

    def answer(s):
        if s.path == "/hold":
            held.append(s)
        elif s.path == "/reset":
            s.refuse(INTERNAL)
        else:
            s.respond(200)
    lb, o = h2_lab(lab, on_end=answer, pool={"retries": 0})
    kept = lb.client().get("/hold")
    wait_until(lambda: held, 5)
    assert_own_answer(lb.client().request("/reset"), 502, error="connection_terminated")
    held[0].respond(200, b"kept")
    assert kept.read_response().body == b"kept" and len(o.conns) == 1


def test_a_reset_in_the_body_never_looks_whole(lab):
    def answer(s):
        s.head(200)
        s.data(b"abc")
        s.refuse(INTERNAL)
    lb, o = h2_lab(lab, on_end=answer)
    with pytest.raises(Closed):
        lb.client().get("/").read_response()


def test_what_is_refused_goes_elsewhere_whatever_the_method(lab):
    lb, a, b = h2_lab(lab, 2, on_end=None, pool={"retries": 0})
    a.on_end = lambda s: s.refuse(REFUSED)
    b.on_end = lambda s: s.respond(200, b"b got " + s.body)
    c = lb.client()
    for _ in range(4):
        r = post(c, b"once").read_response()
        assert (r.status, r.body) == (200, b"b got once")
    assert a.seen and len(b.seen) == 4
    assert server_metric(lb, "unprocessed_total") == len(a.seen)
    assert server_metric(lb, "response_errors_total") == 0, "that is no failure"
    assert lb.state("s1") == "up"


def test_a_long_body_is_not_sent_twice(lab):
    """What is gone cannot be sent again: 502, and no half of it elsewhere."""
    lb, a = h2_lab(lab, on_end=lambda s: s.refuse(REFUSED))
    r = post(lb.client(), bytes(200000)).read_response()
    assert_own_answer(r, 502, error="connection_terminated")
    assert len(a.seen) == 1


def test_a_server_that_refuses_all_is_not_asked_for_ever(lab):
    lb, a = h2_lab(lab, on_end=lambda s: s.refuse(REFUSED), pool={"retries": 0})
    assert_own_answer(lb.client().request("/", method="POST", fields=[("Content-Length", "0")]), 502)
    assert 2 <= len(a.seen) <= 8


def test_goaway_lets_the_others_finish_and_sends_the_rest_again(lab):
    held = []
    lb, o = h2_lab(lab, on_end=held.append)
    clients = [lb.client().get("/0")]
    o.wait_seen(1)
    for i in range(1, 6):
        clients.append(post(lb.client(), b"body", f"/{i}"))
        wait_until(lambda: len(held) == i + 1, 5)
    conn = o.conns[0]
    conn.send_goaway(held[2].id)
    wait_until(lambda: len(held) == 9, 5, "three are sent again")
    assert len(o.conns) == 2 and all(s.conn is o.conns[1] and s.body == b"body" for s in o.seen[6:])
    for s in held[:3] + held[6:]:
        s.respond(200, s.path.encode())
    assert [c.read_response().body for c in clients] == [f"/{i}".encode() for i in range(6)]
    wait_until(lambda: conn.closed, 5, "nothing is on the first any more")
    assert server_metric(lb, "unprocessed_total") == 3


def test_a_graceful_goaway_in_two_steps(lab):
    held = []
    lb, o = h2_lab(lab, on_end=held.append)
    c = lb.client().get("/0")
    o.wait_seen(1)
    o.conns[0].send_goaway(2 ** 31 - 1)
    second = lb.client().get("/1")
    wait_until(lambda: len(held) == 2, 5)
    assert len(o.conns) == 2 and held[1].conn is o.conns[1]
    o.conns[0].send_goaway(held[0].id)
    for s in held:
        s.respond(200, s.path.encode())
    assert (c.read_response().body, second.read_response().body) == (b"/0", b"/1")
    wait_until(lambda: o.conns[0].closed, 5, "closed when empty")


def test_an_idle_connection_that_the_server_ends(lab):
    lb, o = h2_lab(lab)
    c = lb.client()
    assert c.request("/").status == 200
    o.conns[0].send_goaway(1)
    o.conns[0].close()
    wait_until(lambda: server_metric(lb, "open_connections") == 0, 5, "it is gone")
    assert c.request("/").status == 200


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks_ends_its_streams(lab, reset):
    """A GET before its response is sent again, a POST is not, a begun response is broken off."""
    lb, o = h2_lab(lab, on_end=None, pool={"retries": 1})
    begun, put, get = lb.client().get("/begun"), post(lb.client(), b"x", "/put"), lb.client().get("/get")
    o.wait_seen(3)
    o.on_end = lambda s: s.respond(200, b"again")
    next(s for s in o.seen if s.path == "/begun").head(200)
    begun.read_head()
    o.conns[0].close(reset=reset)
    assert get.read_response().body == b"again"
    assert_own_answer(put.read_response(), 502)
    assert len(o.seen) == 4
    with pytest.raises(Closed):
        begun.read_all()
        raise AssertionError("it looks whole")


def test_time_limits_are_those_of_http1(lab):
    lb, o = h2_lab(lab, on_end=None, pool={"first_byte_timeout": "200ms", "retries": 0})
    keep = lb.client().get("/keep")
    r = lb.client().request("/")
    assert_own_answer(r, 504, error="http_response_timeout")
    wait_until(lambda: any(s.reset == CANCEL for s in o.seen), 5, "the stream is cancelled")
    assert keep.read_response().status == 504
    assert len(o.conns) == 1, "the connection is none the worse"


def test_a_client_that_leaves_cancels_its_stream(lab):
    lb, o = h2_lab(lab, on_end=None)
    c = lb.client().get("/")
    o.wait_seen(1)
    c.close()
    wait_until(lambda: o.seen[0].reset == CANCEL, 5, "RST_STREAM")
    assert len(o.open) == 1


def test_nobody_there(lab):
    port = free_port()
    lb = lab.proxy(f"127.0.0.1:{port}", pool={"protocol": "h2", "retries": 0})
    assert_own_answer(lb.client().request("/"), 502, error="connection_refused")


def test_a_server_that_does_not_accept(lab):
    import socket
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    fill = []
    for _ in range(8):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(full.getsockname())
        fill.append(s)
    lb = lab.proxy("127.0.0.1:%d" % full.getsockname()[1],
                   pool={"protocol": "h2", "retries": 0, "connect_timeout": "300ms", "first_byte_timeout": "1s"})
    assert lb.client().request("/").status == 504
    for s in [full, *fill]:
        s.close()


def test_a_server_of_http1_is_not_taken_for_one_of_http2(lab):
    lb = lab.proxy(lab.nginx(), pool={"protocol": "h2", "retries": 0})
    assert_own_answer(lb.client().request("/"), 502)


def test_auto_in_plain_text_is_http1(lab):
    lb = lab.proxy([lab.nginx("a")], pool={"protocol": "auto"})
    clients = [lb.client().get("/name") for _ in range(30)]
    assert {c.read_response().body for c in clients} == {b"a\n"}


# --- what TLS agrees on ----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.app = ca.issue("app.test", "127.0.0.1")
    return ca


def by_tls(lab, pki, servers, protocol, **pool):
    return lab.proxy(servers, pool=dict({"protocol": protocol, "tls": {"ca": [pki.pem]}, "retries": 0}, **pool),
                     admin_http=True)


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_http2_by_tls(lab, pki, protocol):
    o = lab.add(H2Origin(tls=server_context(pki.app, alpn=["h2", "http/1.1"])))
    lb = by_tls(lab, pki, o, protocol)
    clients = [lb.client().get(f"/{i}") for i in range(30)]
    assert [c.read_response().body for c in clients] == [f"/{i}".encode() for i in range(30)]
    assert len(o.conns) == 1 and o.seen[0][":scheme"] == "http"
    wait_until(lambda: server_metric(lb, "idle_connections") == 1, 5)


def test_a_large_body_by_tls(lab, pki):
    o = lab.add(H2Origin(on_end=lambda s: s.respond(200, s.body), tls=server_context(pki.app, alpn=["h2"])))
    lb = by_tls(lab, pki, o, "h2")
    assert post(lb.client(), BIG).read_response().body == BIG


def test_auto_is_http1_where_the_server_wants_it(lab, pki):
    o = lab.add(TlsOrigin(server_context(pki.app, alpn=["http/1.1"]), ok("one")))
    lb = by_tls(lab, pki, o, "auto")
    clients = [lb.client().get("/") for _ in range(20)]
    assert {c.read_response().body for c in clients} == {b"one"}
    assert lb.client().request("/").body == b"one" and "h2" not in o.alpn


def test_a_server_without_http2_is_of_no_use_to_h2(lab, pki):
    o = lab.add(TlsOrigin(server_context(pki.app), ok("one")))
    lb = by_tls(lab, pki, o, "h2")
    assert_own_answer(lb.client().request("/"), 502, error="http_protocol_error")


def test_a_certificate_that_is_not_believed(lab, pki, tmp_path):
    stranger = Authority(str(tmp_path), name="Stranger")
    o = lab.add(H2Origin(tls=server_context(stranger.issue("127.0.0.1"), alpn=["h2"])))
    lb = by_tls(lab, pki, o, "h2")
    assert_own_answer(lb.client().request("/"), 502, error="tls_certificate_error")
    assert not o.seen


def test_nginx_by_tls(lab, pki):
    port = free_port()
    nginx = lab.nginx("n", http=f"""
        server {{ listen 127.0.0.1:{port} ssl http2; keepalive_requests 100; ssl_certificate {pki.app}; ssl_certificate_key {pki.app};
                  root /; location = /name {{ return 200 "$server_protocol\n"; }}
                  location /dav/ {{ root {lab.tmp}; dav_methods PUT; create_full_put_path on; }} }}""")
    assert nginx.running()
    lb = by_tls(lab, pki, f"127.0.0.1:{port}", "auto")
    c = lb.client()
    assert c.request("/name").body == b"HTTP/2.0\n"
    put = [("Content-Length", str(len(BIG)))]
    assert c.get("/dav/x", method="PUT", fields=put).send(BIG).read_response().status == 201
    assert c.request("/dav/x").body == BIG
    r = subprocess.run(["h2load", "--h1", "-n", "2500", "-c", "30", f"http://127.0.0.1:{lb.port}/name"],
                       capture_output=True, text=True, timeout=100)
    assert "2500 succeeded, 0 failed" in r.stdout, "nginx says GOAWAY after a hundred\n" + r.stdout


# --- floods ----------------------------------------------------------------------------------------

FLOODS = {
    "ping": lambda s: PingFrame(0, opaque_data=b"12345678"),
    "settings": lambda s: SettingsFrame(0, settings={3: 100}),
    "empty data": lambda s: DataFrame(s.id, data=b""),
}


@pytest.mark.parametrize("what", FLOODS)
def test_floods_end_the_connection(lab, what):
    def answer(s):
        if s.path == "/":
            s.respond(200, b"fine")
            return
        s.head(200)
        s.conn.frame(*[FLOODS[what](s)] * 30000)
    lb, o = h2_lab(lab, on_end=answer, strict=False)
    begun = lb.client().get("/flood")
    begun.read_head()
    wait_until(lambda: o.conns[0].closed, 20, "it is thrown out")
    with pytest.raises(Closed):
        begun.read_all()
        raise AssertionError("it looks whole")
    assert lb.client().request("/").body == b"fine", "on another connection"


def test_a_flood_of_continuation_ends_the_connection(lab):
    from hyperframe.frame import ContinuationFrame

    def answer(s):
        s.conn.frame(HeadersFrame(s.id, data=s.conn.h2.encoder.encode([(":status", "200")])),
                     *[ContinuationFrame(s.id, data=b"\x00\x01a\x01b" * 10)] * 5000)
    lb, o = h2_lab(lab, on_end=answer, pool={"retries": 0})
    r = lb.client().request("/", method="POST", fields=[("Content-Length", "0")])
    assert_own_answer(r, 502)
    wait_until(lambda: o.conns[0].closed, 5)


def test_garbage_is_502(lab):
    lb, o = h2_lab(lab, on_end=lambda s: s.conn.sock.sendall(b"\xff" * 100000), pool={"retries": 0})
    assert_own_answer(lb.client().request("/"), 502)


def test_a_pushed_response_is_a_fault(lab):
    from hyperframe.frame import PushPromiseFrame

    def answer(s):
        with s.conn.lock:
            block = s.conn.h2.encoder.encode([(":method", "GET"), (":path", "/p"), (":scheme", "http"),
                                              (":authority", "a")])
        s.conn.frame(PushPromiseFrame(s.id, promised_stream_id=2, data=block, flags=["END_HEADERS"]))
    lb, o = h2_lab(lab, on_end=answer, pool={"retries": 0})
    assert_own_answer(lb.client().request("/"), 502)


# --- real servers ----------------------------------------------------------------------------------

class Nghttpd(Process):
    def __init__(self, directory):
        self.port, self.root = free_port(), directory
        with open(os.path.join(directory, "name"), "w") as f:
            f.write("nghttpd\n")
        with open(os.path.join(directory, "big"), "wb") as f:
            f.write(BIG * 4)
        super().__init__(["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", directory, str(self.port)])
        wait_until(lambda: self.port in proc.listening_ports(), 10, "nghttpd listens")

    address = property(lambda self: f"127.0.0.1:{self.port}")


class Nghttpx(Process):
    """Speaks HTTP/2 with us and HTTP/1.1 with what is behind it."""

    def __init__(self, directory, backend):
        self.port = free_port()
        conf = os.path.join(directory, "nghttpx.conf")
        open(conf, "w").close()
        host, port = backend.split(":")
        super().__init__(["nghttpx", "--conf", conf, "-f", f"127.0.0.1,{self.port};no-tls", "-b", f"{host},{port}",
                          "-n", "1", "--errorlog-file=/dev/null", "--accesslog-file=/dev/null"])
        wait_until(lambda: self.port in proc.listening_ports(), 10, "nghttpx listens")

    address = property(lambda self: f"127.0.0.1:{self.port}")


def test_nghttpd(lab):
    o = lab.add(Nghttpd(lab.dir("g")))
    lb = lab.proxy(o, pool={"protocol": "h2"})
    c = lb.client()
    assert c.request("/name").body == b"nghttpd\n"
    assert c.request("/big").body == BIG * 4
    assert post(c, BIG, "/name").read_response().body == b"nghttpd\n"
    assert c.request("/none").status == 404


def test_nghttpx_before_nginx(lab):
    nginx = lab.nginx("n")
    o = lab.add(Nghttpx(lab.dir("x"), nginx.address))
    lb = lab.proxy(o, pool={"protocol": "h2"})
    c = lb.client()
    assert c.request("/name").body == b"n\n"
    assert c.get("/dav/a", method="PUT", fields=[("Content-Length", str(len(BIG)))]).send(BIG).read_response().status == 201
    assert c.request("/dav/a").body == BIG
    assert c.request("/204").status == 204


def test_load_over_nghttpd(lab):
    o = lab.add(Nghttpd(lab.dir("g")))
    lb = lab.proxy(o, pool={"protocol": "h2"})
    r = subprocess.run(["h2load", "--h1", "-n", "3000", "-c", "50", f"http://127.0.0.1:{lb.port}/name"],
                       capture_output=True, text=True, timeout=100)
    assert "3000 succeeded, 0 failed" in r.stdout, r.stdout
    assert lb.servers()["app/s1"]["state"] == "up"


def test_silence_is_no_load(lab):
    """An idle connection, and one with a stream that rests, cost nothing."""
    lb, o = h2_lab(lab, on_end=None)
    lb.client().get("/")
    o.wait_seen(1)
    before = lb.cpu_seconds
    stays(lambda: len(o.open) == 1, 0.5)
    assert lb.cpu_seconds - before < 0.2
