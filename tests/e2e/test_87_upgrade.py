# SPDX-License-Identifier: BSD-2-Clause
"""WebSocket and other upgrades: the switch, the tunnel behind it, its ends and its bounds."""

import asyncio
import base64
import hashlib
import os
import signal
import ssl
import threading

import pytest
import websockets

from instruments import proc
from instruments.client import Closed
from instruments.h2client import H2
from instruments.meercat import command
from instruments.origin import ok, response
from instruments.pki import Authority
from instruments.proxy_status import assert_own_answer
from instruments.tls import TlsClient, context
from instruments.wait import Clock, stays, wait_until
from instruments.websocket import ACCEPT, ASK, SWITCH, WsServer, talk


def ask(c, fields=ASK, **kw):
    """Asks for an upgrade and reads the answer's head."""
    c.get(fields=fields, **kw)
    return c.read_head()


def switching(then, first=SWITCH):
    """An origin's script: switches, then has the connection."""
    def script(conn):
        r = conn.read_request()
        if r is None:
            return
        conn.send(first)
        then(conn)
    return script


def echo(conn):
    while True:
        data = bytes(conn.buf) or conn.recv()
        conn.buf.clear()
        if not data:
            return
        conn.send(data)


def idle(conn):
    conn.wait_eof(30)


def tunnels(lb):
    return lb.metric("meercat_process_active_tunnels")


def ends(lb, why):
    return lb.metric("meercat_process_tunnel_ends_total", end=why)


# --- real peers --------------------------------------------------------------------------------------------------

def ws_url(lb, path="/"):
    return f"ws://127.0.0.1:{lb.port}{path}"


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websocket_messages_go_both_ways(lab, compression):
    server = lab.add(WsServer(compression=compression))
    lb = lab.proxy(server, log="json")
    big = os.urandom(3 << 20)

    async def conversation(ws):
        assert bool(ws.extensions) == bool(compression)
        for message in ("hello", "ü" * 1000, b"", b"\0" * 70000, big):
            await ws.send(message)
            assert await ws.recv() == message
        await (await ws.ping())
        await asyncio.gather(*(ws.send(f"{i}") for i in range(500)))
        assert [await ws.recv() for _ in range(500)] == [f"{i}" for i in range(500)]
        await ws.close(4001, "enough")
        return ws.close_code, ws.close_reason

    assert talk(ws_url(lb, "/chat?x=1"), conversation, compression=compression) == (4001, "enough")
    path, fields = server.seen[0]
    assert path == "/chat?x=1" and fields["X-Forwarded-For"] == "127.0.0.1"
    line = lb.log_json(1)[0]
    assert line["status"] == 101 and line["tunnel"] == "websocket" and line["end"] == "ok"
    assert line["bytes_out"] > len(big) and line["bytes_in"] > len(big)
    assert 0 < line["tunnel_ms"] <= line["total_ms"]


def test_a_subprotocol_is_agreed_on(lab):
    lb = lab.proxy(lab.add(WsServer(subprotocols=["b", "c"])))

    async def conversation(ws):
        return ws.subprotocol
    assert talk(ws_url(lb), conversation, subprotocols=["a", "b"]) == "b"


def test_the_servers_close_code_reaches_the_client(lab):
    async def handler(ws):
        await ws.close(1013, "later")
    lb = lab.proxy(lab.add(WsServer(handler)))

    async def conversation(ws):
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()
        return ws.close_code, ws.close_reason
    assert talk(ws_url(lb), conversation) == (1013, "later")


def test_many_connections_at_once(lab):
    lb = lab.proxy([lab.add(WsServer()), lab.add(WsServer())], workers=2, admin_http=True)

    async def one(i):
        async with websockets.connect(ws_url(lb)) as ws:
            for k in range(5):
                await ws.send(f"{i} {k}")
                assert await ws.recv() == f"{i} {k}"

    async def all_of_them():
        await asyncio.gather(*(one(i) for i in range(50)))
    asyncio.run(all_of_them())
    wait_until(lambda: ends(lb, "ok") == 50, what="all have ended well")
    assert tunnels(lb) == 0 and lb.metric("meercat_process_tunnels_total") == 50


def test_websocket_over_tls(lab):
    ca = Authority(lab.dir("pki"))
    lb = lab.proxy(lab.add(WsServer()), listen={"tls": {"certificate": [ca.issue("a.test")]}}, log="json")
    big = os.urandom(1 << 20)

    async def conversation(ws):
        await ws.send(big)
        assert await ws.recv() == big
        await ws.close(1000)
        return ws.close_code
    url = f"wss://127.0.0.1:{lb.port}/"
    assert talk(url, conversation, ssl=context(ca), server_hostname="a.test") == 1000
    line = lb.log_json(1)[0]
    assert (line["status"], line["tunnel"]) == (101, "websocket") and line["tls_version"]


# --- the switch --------------------------------------------------------------------------------------------------

def test_upgrade_is_this_hops_field(lab):
    origin = lab.origin(script=switching(echo))
    c = lab.proxy(origin).client()
    r = ask(c, fields=[("Connection", "keep-alive, Upgrade, X-Hop"), ("X-Hop", "1"), *ASK[1:]])
    assert (r.status, r.reason) == (101, "Switching Protocols")
    assert r.fields.list("connection") == ["Upgrade"] and r["upgrade"] == "websocket"
    assert r["sec-websocket-accept"] == ACCEPT
    assert "content-length" not in r.fields and "transfer-encoding" not in r.fields
    seen = origin.requests[0].fields
    assert seen.list("connection") == ["Upgrade"] and seen.get("upgrade") == "websocket"
    assert seen.get("sec-websocket-key") and seen.get("sec-websocket-version") == "13"
    assert "x-hop" not in seen
    c.send(b"GET / not HTTP\r\n\r\n\0\xff")
    assert c.read_exactly(20) == b"GET / not HTTP\r\n\r\n\0\xff"


def test_bytes_behind_the_heads_are_passed_on_once(lab):
    before = []

    def script(conn):
        conn.read_request()
        before.append(bytes(conn.buf))
        conn.origin.stopping.wait(0.2)  # long enough for bytes that should not come to come
        conn.sock.setblocking(False)
        try:
            before.append(conn.sock.recv(100))
        except BlockingIOError:
            pass
        conn.sock.setblocking(True)
        conn.send(SWITCH + b"at once")
        echo(conn)

    lb = lab.proxy(lab.origin(script=script))
    c = lb.client()
    head = "GET / HTTP/1.1\r\nHost: t\r\n" + "".join(f"{n}: {v}\r\n" for n, v in ASK) + "\r\n"
    c.send(head.encode() + b"early ")
    c.send(b"bytes")
    assert c.read_head().status == 101
    assert c.read_exactly(18) == b"at onceearly bytes"
    c.send(b"later")
    assert c.read_exactly(5) == b"later"
    assert before == [b""], "nothing reaches the server before it has agreed"


def test_the_head_in_pieces_and_interim_responses_before_it(lab):
    def script(conn):
        conn.read_request()
        conn.send_pieces([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 1", b"01 Switching\r\nUpgr",
                          b"ade: WebSocket\r\nConnection: upgrade\r", b"\n\r", b"\nfirst"])
        echo(conn)
    c = lab.proxy(lab.origin(script=script)).client()
    c.get(fields=ASK)
    assert c.read_head().status == 103
    assert c.read_head()["upgrade"] == "WebSocket"
    assert c.read_exactly(5) == b"first"


WRONG = {
    "another protocol": SWITCH.replace(b"Upgrade: websocket", b"Upgrade: chat"),
    "one more protocol": SWITCH.replace(b"Upgrade: websocket", b"Upgrade: websocket, chat"),
    "no protocol": SWITCH.replace(b"Upgrade: websocket\r\n", b""),
    "no Connection": SWITCH.replace(b"Connection: Upgrade\r\n", b""),
    "h2c": SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_a_switch_to_what_was_not_asked_for_is_a_fault(lab, answer):
    origin = lab.origin(script=switching(echo, answer))
    lb = lab.proxy(origin, log="json")
    c = lb.client()
    c.get(fields=ASK)
    assert_own_answer(c.read_response(), 502)
    assert len(origin.requests) == 1
    assert lb.log_json(1)[0]["end"] == "bad-upgrade"
    assert origin.connections[0].eof.wait(5)
    assert c.is_open()


def test_a_switch_that_nobody_asked_for_is_a_fault(lab):
    lb = lab.proxy(lab.origin(script=switching(echo)), log="json")
    c = lb.client()
    assert_own_answer(c.request(), 502)
    assert_own_answer(c.request(fields=[("Upgrade", "websocket")]), 502)  # without Connection it is no request to
    assert [x["end"] for x in lb.log_json(2)] == ["bad-upgrade"] * 2


@pytest.mark.parametrize("status", [200, 401, 404])
def test_any_other_answer_is_an_ordinary_one(lab, status):
    def script(conn):
        while conn.read_request():
            conn.send(response(status, b"no", [("Upgrade", "h2c"), ("Connection", "upgrade")]))
    lb = lab.proxy(lab.origin(script=script))
    c = lb.client()
    head = "GET / HTTP/1.1\r\nHost: t\r\n" + "".join(f"{n}: {v}\r\n" for n, v in ASK) + "\r\n"
    c.send(head + "GET /next HTTP/1.1\r\nHost: t\r\n\r\n")
    for _ in range(2):  # what came behind is a request, then
        r = c.read_response()
        assert (r.status, r.body) == (status, b"no") and "upgrade" not in r.fields
    assert c.request("/third").body == b"no"


def test_a_426_says_what_is_required(lab):
    reply = response(426, b"", [("Upgrade", "h2c, websocket"), ("Connection", "Upgrade")])
    c = lab.proxy(lab.origin(reply)).client()
    for _ in range(2):
        r = c.request()
        assert r.status == 426 and r["upgrade"] == "websocket" and r.fields.list("connection") == ["Upgrade"]


@pytest.mark.parametrize("framing", ["length", "chunked", "large"])
def test_a_body_comes_before_the_switch(lab, framing):
    body = b"x" * (300000 if framing == "large" else 1000)
    origin = lab.origin(script=switching(echo))
    c = lab.proxy(origin).client()
    if framing == "chunked":
        c.get(fields=[*ASK, ("Transfer-Encoding", "chunked")], method="POST")
        c.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    else:
        c.get(fields=[*ASK, ("Content-Length", str(len(body)))], method="POST")
        c.send(body)
    c.send(b"and on")
    assert c.read_head().status == 101
    assert origin.requests[0].body == body
    assert c.read_exactly(6) == b"and on"


def test_a_switch_amid_the_request_body_is_a_fault(lab):
    def script(conn):
        conn.read_head()
        conn.send(SWITCH)
        conn.wait_eof()
    lb = lab.proxy(lab.origin(script=script), log="json")
    c = lb.client()
    c.get(fields=[*ASK, ("Content-Length", "1000")], method="POST")
    c.send(b"x" * 10)
    assert_own_answer(c.read_response(), 502)
    assert lb.log_json(1)[0]["end"] == "bad-upgrade"


def test_a_server_that_refuses_is_followed_by_another(lab):
    good = lab.origin(script=switching(echo))
    gone = lab.origin().refuse()
    lb = lab.proxy([gone, good])
    for _ in range(2):
        c = lb.client()
        assert ask(c).status == 101
        c.send(b"x")
        assert c.read_exactly(1) == b"x"


def plain_until_asked(conn):
    """A script: answers, until a request asks for another protocol, which is an echo."""
    while True:
        r = conn.read_request()
        if r is None:
            return
        if r["upgrade"]:
            conn.send(SWITCH)
            return echo(conn)
        conn.send(ok(b"plain"))


def test_a_kept_connection_may_become_a_tunnel_and_never_comes_back(lab):
    origin = lab.origin(script=plain_until_asked)
    lb = lab.proxy(origin)
    c = lb.client()
    assert c.request().body == b"plain"
    assert ask(c).status == 101
    assert origin.n_connections == 1
    c.send(b"x").shutdown()
    assert c.read_all() == b"x"
    assert lb.client().request().body == b"plain"
    assert origin.n_connections == 2


# --- what a pool allows ------------------------------------------------------------------------------------------

def offer(lab, upgrade, field):
    origin = lab.origin()
    lb = lab.proxy(origin, pool={"upgrade": upgrade} if upgrade is not None else {})
    c = lb.client()
    c.get(fields=[("Connection", "upgrade"), ("Upgrade", field)])
    r = c.read_response()
    return r, (origin.requests[0].fields.get("upgrade") if origin.requests else None)


@pytest.mark.parametrize("upgrade,field,sent", [
    (None, "websocket", "websocket"), (None, "chat, websocket", "websocket"), (None, "h2c, websocket", "websocket"),
    (["chat/2", "websocket"], "Chat/2, websocket", "Chat/2, websocket"), ("any", "a, b/1", "a, b/1"),
    ("any", "h2c, HTTP/2.0, x", "x")])
def test_what_is_allowed_is_offered(lab, upgrade, field, sent):
    r, seen = offer(lab, upgrade, field)
    assert r.status == 200 and seen == sent


@pytest.mark.parametrize("upgrade,field", [(None, "chat"), ("none", "websocket"), (["chat"], "websocket")])
def test_what_is_not_allowed_gets_a_clear_answer(lab, upgrade, field):
    r, seen = offer(lab, upgrade, field)
    assert_own_answer(r, 501)
    assert seen is None


@pytest.mark.parametrize("upgrade", [None, "any", "none"])
def test_h2c_is_never_passed_on(lab, upgrade):
    r, seen = offer(lab, upgrade, "h2c")
    assert r.status == 200 and seen is None


@pytest.mark.parametrize("value", ["h2c", "HTTP/2.0", "two words", "a/", ""])
def test_faults_of_the_configuration_are_named(lab, value):
    conf = lab.conf(lab.origin(), pool={"upgrade": ["websocket", value]})
    path = os.path.join(conf.dir, "x.conf")
    with open(path, "w") as f:
        f.write(str(conf))
    r = command("check", "-c", path)
    assert r.returncode != 0 and "upgrade:" in r.stderr + r.stdout and "expected like" in r.stderr + r.stdout


# --- ends --------------------------------------------------------------------------------------------------------

def test_the_client_ends_first_and_still_gets_the_rest(lab):
    def then(conn):
        data = b""
        while True:
            more = conn.recv()
            if not more:
                break
            data += more
        conn.send(b"got " + data)
    lb = lab.proxy(lab.origin(script=switching(then)), log="json", admin_http=True)
    c = lb.client()
    assert ask(c).status == 101
    c.send(b"all of it").shutdown()
    assert c.read_all() == b"got all of it"
    assert lb.log_json(1)[0]["end"] == "ok" and ends(lb, "ok") == 1


def test_the_server_ends_first_and_still_gets_the_rest(lab):
    got, done = [], threading.Event()

    def then(conn):
        conn.send(b"bye")
        conn.shutdown()
        while True:
            data = conn.recv()
            if not data:
                break
            got.append(data)
        done.set()
    lb = lab.proxy(lab.origin(script=switching(then)))
    c = lb.client()
    assert ask(c).status == 101
    assert c.read_all() == b"bye"
    c.send(b"after that").shutdown()
    assert done.wait(10)
    assert b"".join(got) == b"after that"


def test_ends_go_through_tls(lab):
    said = threading.Event()

    def then(conn):
        data = b""
        while True:
            more = conn.recv()
            if not more:
                break
            data += more
        conn.hold(said)
        conn.send(b"got " + data)
    ca = Authority(lab.dir("pki"))
    lb = lab.proxy(lab.origin(script=switching(then)), listen={"tls": {"certificate": [ca.issue("a.test")]}},
                   log="json")
    c = TlsClient(lb.to, context(ca))
    lb.clients.append(c)
    assert ask(c).status == 101
    c.send(b"all of it").say_end()
    said.set()
    assert c.read_exactly(13) == b"got all of it"
    with pytest.raises(ssl.SSLZeroReturnError):  # close_notify
        c.sock.recv(1)
    assert lb.log_json(1)[0]["end"] == "ok"


def test_what_a_server_said_before_it_died_arrives(lab):
    last = os.urandom(200000)

    def then(conn):
        conn.send(last)
        wait_until(lambda: lb.metric("meercat_process_tunnel_bytes_out_total") == len(last), what="it was received")
        conn.rst()
    lb = lab.proxy(lab.origin(script=switching(then)), log="json", admin_http=True)
    c = lb.client()
    assert ask(c).status == 101
    assert c.read_exactly(len(last)) == last
    c.expect_rst()
    assert lb.log_json(1)[0]["end"] == "server-reset" and ends(lb, "server-reset") == 1


def test_a_client_that_breaks_off_is_broken_off_to_the_server(lab):
    origin = lab.origin(script=switching(idle))
    lb = lab.proxy(origin, log="json", admin_http=True)
    c = lb.client()
    assert ask(c).status == 101
    wait_until(lambda: tunnels(lb) == 1)
    c.rst()
    assert origin.wait_connections(1).eof.wait(5)
    assert origin.connections[0].was_reset
    assert lb.log_json(1)[0]["end"] == "client-gone" and tunnels(lb) == 0


def test_a_silent_tunnel_ends_in_time(lab):
    origin = lab.origin(script=switching(idle))
    lb = lab.proxy(origin, pool={"tunnel_timeout": "300ms"}, log="json", admin_http=True)
    c = lb.client()
    with Clock() as clock:
        assert ask(c).status == 101
        c.expect_close()
    assert clock.s >= 0.3
    assert origin.connections[0].eof.wait(5)
    assert lb.log_json(1)[0]["end"] == "tunnel-timeout" and ends(lb, "tunnel-timeout") == 1


def test_one_that_speaks_does_not_and_no_limit_of_requests_holds(lab):
    lb = lab.proxy(lab.origin(script=switching(echo)), listen={"send_timeout": "200ms", "keep_alive_timeout": "200ms"},
                   pool={"tunnel_timeout": "60s", "total_timeout": "400ms", "idle_timeout": "200ms",
                         "first_byte_timeout": "300ms"})
    c = lb.client()
    assert ask(c).status == 101
    stays(c.is_open, 1.0, "a limit of requests ended it")
    c.send(b"still")
    assert c.read_exactly(5) == b"still"


def test_half_ended_it_has_the_time_of_a_body(lab):
    lb = lab.proxy(lab.origin(script=switching(lambda conn: conn.hold(threading.Event()))),
                   pool={"idle_timeout": "300ms"}, log="json")
    c = lb.client()
    assert ask(c).status == 101
    c.shutdown()
    c.expect_close()
    assert lb.log_json(1)[0]["end"] == "tunnel-timeout"


# --- bounds ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_slow_reader_costs_no_memory(lab, tls):
    total = 96 << 20
    piece = os.urandom(1 << 20)
    sent, want = [0], hashlib.sha256()

    def then(conn):
        for i in range(total // len(piece)):
            if not conn.send(piece):
                return
            sent[0] += len(piece)
        conn.shutdown()
        conn.wait_eof(60)
    ca = Authority(lab.dir("pki"))
    lb = lab.proxy(lab.origin(script=switching(then)),
                   listen={"tls": {"certificate": [ca.issue("a.test")]}} if tls else {})
    c = TlsClient(lb.to, context(ca)) if tls else lb.client()
    lb.clients.append(c)
    before = proc.rss_bytes(lb.pid)
    assert ask(c).status == 101
    last = [-1]

    def stalled():
        was, last[0] = last[0], sent[0]
        return was == sent[0] > 0
    wait_until(stalled, 15, "the server is held back", interval=0.3)
    assert sent[0] < total // 2
    assert proc.rss_bytes(lb.pid) - before < 4 << 20 or os.environ.get("MEERCAT_SAN")
    got = hashlib.sha256(c.buf)
    n = len(c.buf)
    while n < total:
        data = c.sock.recv(1 << 18)
        assert data, f"ended after {n}"
        got.update(data)
        n += len(data)
    for _ in range(total // len(piece)):
        want.update(piece)
    assert got.digest() == want.digest()


def test_a_slow_server_holds_the_client_back(lab):
    go, got = threading.Event(), hashlib.sha256()
    total = 64 << 20

    def then(conn):
        conn.hold(go)
        while True:
            data = conn.recv(1 << 18)
            if not data:
                return
            got.update(data)
    origin = lab.origin(script=switching(then), keep=False)
    lb = lab.proxy(origin)
    c = lb.client()
    assert ask(c).status == 101
    data = os.urandom(1 << 20)
    sent = 0
    c.sock.settimeout(1)
    rest = memoryview(data)
    try:
        while sent < total:
            n = c.sock.send(rest)
            sent += n
            rest = rest[n:] or memoryview(data)
    except TimeoutError:
        pass
    assert sent < total, "somebody has taken it all"
    go.set()
    c.sock.settimeout(c.timeout)
    while sent < total:
        n = c.sock.send(rest)
        sent += n
        rest = rest[n:] or memoryview(data)
    c.shutdown()
    assert c.read_all() == b""
    want = hashlib.sha256()
    for _ in range(total >> 20):
        want.update(data)
    assert got.digest() == want.digest()


def test_bulk_goes_by_splice_and_the_pipe_goes_back(lab):
    """Both ways at once, then small messages, then bulk again."""
    lb = lab.proxy(lab.origin(script=switching(echo), keep=False), admin_http=True, log="json")
    c = lb.client()
    assert ask(c).status == 101
    data = os.urandom(1 << 20)

    def counted(what):
        return lb.metric(f"meercat_process_{what}_total")

    def bulk(n):
        pump = threading.Thread(target=lambda: [c.send(data) for _ in range(n)])
        pump.start()
        for _ in range(n):
            assert c.read_exactly(len(data)) == data
        pump.join()
    bulk(24)
    wait_until(lambda: counted("spliced_bytes") > 8 << 20, what="pipes were used")
    spliced = counted("spliced_bytes")

    def copied_again():
        was = counted("tunnel_bytes_in"), counted("spliced_bytes")
        c.send(b"x" * 1000)
        assert c.read_exactly(1000) == b"x" * 1000
        return (counted("tunnel_bytes_in"), counted("spliced_bytes")) == (was[0] + 1000, was[1])
    wait_until(copied_again, 10, "the pipes have gone back")
    bulk(8)
    c.shutdown()
    assert c.read_all() == b""
    assert counted("spliced_bytes") > spliced
    line = lb.log_json(1)[0]
    assert line["end"] == "ok" and line["bytes_in"] == line["bytes_out"] > 32 << 20


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_side_that_breaks_amid_bulk(lab, who):
    data = os.urandom(1 << 20)
    ended = threading.Event()

    def then(conn):
        n = 0
        while conn.send(data):
            n += 1
            if who == "server" and n == 20:
                conn.rst()
                break
        ended.set()
    lb = lab.proxy(lab.origin(script=switching(then)), log="json", admin_http=True)
    c = lb.client()
    assert ask(c).status == 101
    if who == "client":
        for _ in range(10):
            c.read_exactly(len(data))
        c.rst()
    else:
        with pytest.raises((Closed, ConnectionError)):
            while True:
                c.read_exactly(len(data))
    assert ended.wait(10)
    line = lb.log_json(1)[0]
    assert line["end"] == ("client-gone" if who == "client" else "server-reset")
    assert lb.metric("meercat_process_spliced_bytes_total") > 0
    assert line["bytes_out"] == lb.metric("meercat_process_tunnel_bytes_out_total") > 5 << 20
    assert tunnels(lb) == 0


def test_a_tunnel_counts_as_a_request_under_way(lab):
    lb = lab.proxy({"s": {"address": lab.origin(script=plain_until_asked), "max_concurrent": 1}},
                   pool={"queue_timeout": "300ms"}, admin_http=True)
    c = lb.client()
    assert ask(c).status == 101
    assert lb.metric("meercat_server_in_flight", server="s") == 1
    assert_own_answer(lb.client().request(), 503)
    waiting = lb.client().get("/waits")
    c.shutdown()
    assert c.read_all() == b""
    assert waiting.read_response().body == b"plain"
    wait_until(lambda: lb.metric("meercat_server_in_flight", server="s") == 0, what="nothing is left")


@pytest.mark.parametrize("policy", ["least-request", "peak-ewma", "prequal", "resource"])
def test_policies_that_learn_live_with_tunnels(lab, policy):
    lb = lab.proxy([lab.origin(script=plain_until_asked) for _ in range(2)], pool={"balance": policy}, admin_http=True)
    open_ones = []
    for i in range(6):
        c = lb.client()
        assert ask(c).status == 101
        open_ones.append(c)
        assert lb.client().request().body == b"plain"
    for c in open_ones:
        c.send(b"x").shutdown()
        assert c.read_all() == b"x"
    wait_until(lambda: lb.metric("meercat_server_in_flight") == 0, what="nothing is left")
    assert lb.client().request().body == b"plain"


# --- WebSocket in HTTP/2 (RFC 8441) ------------------------------------------------------------------------------

def accepting(conn, then=echo, accept=None):
    """Switches with the answer to whatever key was sent."""
    r = conn.read_request()
    if r is None or not r["upgrade"]:
        conn.send(ok(b"plain"))
        return
    digest = hashlib.sha1((r["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    accept = accept or base64.b64encode(digest).decode()
    conn.send(SWITCH.replace(ACCEPT.encode(), accept.encode()))
    then(conn)


def connect(c, fields=(), protocol="websocket", path="/chat", end=False):
    wait_until(lambda: c.read() or c.h2.remote_settings.enable_connect_protocol, what="SETTINGS have come")
    return c.ask(path, method="CONNECT", fields=[(":protocol", protocol), *fields], end=end)


@pytest.fixture
def framed(lab):
    def make(lb, **kw):
        c = H2(lb, **kw)
        lab.clients.append(c)
        return c
    return make


def say(c, sid, data, end=False):
    while data or end:
        n = min(len(data), c.h2.local_flow_control_window(sid), c.h2.max_outbound_frame_size)
        if n or not data:
            c.h2.send_data(sid, data[:n], end_stream=end and n == len(data))
            if n == len(data):
                end = False
            data = data[n:]
            c.flush()
        c.read(0)


def test_connect_becomes_an_upgrade(lab, framed):
    origin = lab.origin(script=accepting)
    lb = lab.proxy(origin, log="json", admin_http=True)
    c = framed(lb)
    sid = connect(c, [("sec-websocket-version", "13"), ("sec-websocket-key", "of the client"), ("origin", "x")])
    c.h2.send_data(sid, b"early")
    c.flush()
    c.until(lambda: c.data.get(sid) == b"early")
    assert c.heads[sid][":status"] == "200"
    assert not {"sec-websocket-accept", "upgrade", "connection"} & set(c.heads[sid])
    seen = origin.requests[0]
    assert seen.line == "GET /chat HTTP/1.1" and seen["upgrade"] == "websocket" and seen["connection"] == "Upgrade"
    assert seen["sec-websocket-version"] == "13" and seen["origin"] == "x" and seen["host"] == "a.test"
    assert len(base64.b64decode(seen["sec-websocket-key"])) == 16
    assert c.answer(c.ask("/other")) == (200, b"plain")  # beside it
    say(c, sid, b"last", end=True)
    c.until(lambda: sid in c.ended)
    assert c.data[sid] == b"earlylast" and c.ended[sid] == "end"
    line = next(x for x in lb.log_json(2) if x["target"] == "/chat")
    assert (line["status"], line["tunnel"], line["end"], line["version"]) == (101, "websocket", "ok", "2")
    assert line["bytes_in"] == line["bytes_out"] == 9


def test_much_goes_both_ways_in_one_stream(lab, framed):
    lb = lab.proxy(lab.origin(script=accepting, keep=False))
    c = framed(lb)
    sid = connect(c)
    c.until(lambda: sid in c.heads)
    data = os.urandom(3 << 20)
    say(c, sid, data, end=True)
    c.until(lambda: sid in c.ended)
    assert c.data[sid] == data and c.ended[sid] == "end"


def test_a_stream_that_is_not_read_holds_its_server_back(lab, framed):
    sent, total = [0], 32 << 20

    def flood(conn):
        while sent[0] < total and conn.send(b"x" * 65536):
            sent[0] += 65536
        conn.shutdown()
        conn.wait_eof(30)
    origin = lab.origin(script=lambda conn: accepting(conn, flood))
    c = framed(lab.proxy(origin))
    c.ack = False
    sid = connect(c)
    c.until(lambda: len(c.data.get(sid, b"")) >= 65535)
    stays(lambda: sent[0] < total, 0.3, "all of it was taken")
    assert c.heads[sid][":status"] == "200"
    c.h2.reset_stream(sid, 8)
    c.flush()
    wait_until(lambda: origin.connections[0].was_reset, what="its server is broken off")
    assert sent[0] < total


@pytest.mark.parametrize("answer", ["wrong accept", "200", "wrong protocol"])
def test_what_is_no_switch_is_no_success(lab, framed, answer):
    def script(conn):
        if answer == "wrong accept":
            return accepting(conn, accept=ACCEPT)
        if conn.read_request():
            conn.send(ok(b"not a WebSocket") if answer == "200" else SWITCH.replace(b"websocket", b"chat"))
            conn.wait_eof()
    lb = lab.proxy(lab.origin(script=script), log="json")
    c = framed(lb)
    sid = connect(c)
    c.until(lambda: sid in c.ended)
    assert c.heads[sid][":status"] == "502"
    assert lb.log_json(1)[0]["end"] == "bad-upgrade"


def test_a_refusal_is_passed_on(lab, framed):
    c = framed(lab.proxy(lab.origin(response(403, b"no"))))
    sid = connect(c)
    c.until(lambda: sid in c.ended)
    assert c.heads[sid][":status"] == "403" and c.data[sid] == b"no"


def test_the_server_ends_and_breaks(lab, framed):
    def script(conn):
        def then(conn):
            conn.send(b"bye")
            if "fin" in conn.requests[0].target:
                conn.shutdown()
                conn.wait_eof()
            else:
                conn.origin.stopping.wait(0.2)
                conn.rst()
        accepting(conn, then)
    c = framed(lab.proxy(lab.origin(script=script)))
    fin = connect(c, path="/fin")
    c.until(lambda: fin in c.ended)
    assert c.ended[fin] == "end" and c.data[fin] == b"bye"
    say(c, fin, b"", end=True)
    rst = connect(c, path="/rst")
    c.until(lambda: rst in c.ended)
    assert c.ended[rst] == "reset 8" and c.data[rst] == b"bye"


def test_a_stream_that_is_reset_breaks_its_server_off(lab, framed):
    origin = lab.origin(script=lambda conn: accepting(conn, idle))
    lb = lab.proxy(origin, log="json")
    c = framed(lb)
    sid = connect(c)
    c.until(lambda: sid in c.heads)
    c.h2.reset_stream(sid, 8)
    c.flush()
    assert origin.wait_connections(1).eof.wait(5)
    assert lb.log_json(1)[0]["end"] == "client-gone"


def test_a_tunnel_in_a_stream_ends_in_time_and_with_the_process(lab, framed):
    lb = lab.proxy(lab.origin(script=lambda conn: accepting(conn, idle)), pool={"tunnel_timeout": "300ms"}, log="json")
    c = framed(lb)
    sid = connect(c)
    c.until(lambda: sid in c.ended)
    assert c.ended[sid] == "reset 8" and lb.log_json(1)[0]["end"] == "tunnel-timeout"
    lb = lab.proxy(lab.origin(script=lambda conn: accepting(conn, idle)), drain_timeout="500ms", log="json")
    c = framed(lb)
    sid = connect(c)
    c.until(lambda: sid in c.heads)
    lb.signal(signal.SIGTERM)
    c.until(lambda: c.eof)
    lb.child.wait(10)
    assert lb.log_json(1)[0]["end"] == "drained"


def test_where_it_is_not_allowed(lab, framed):
    lb = lab.proxy(lab.origin(), pool={"upgrade": "none"})
    c = framed(lb)
    assert c.answer(c.ask("/"))[0] == 200  # SETTINGS have come by then
    assert not c.h2.remote_settings.enable_connect_protocol
    sid = c.ask("/", method="CONNECT", fields=[(":protocol", "websocket")])
    c.until(lambda: sid in c.ended)
    assert c.ended[sid] == "reset 1"  # nobody said that it might ask so
    c = framed(lab.proxy(lab.origin()))
    sid = connect(c, protocol="chat")
    c.until(lambda: sid in c.ended)
    assert c.heads[sid][":status"] == "501"
    sid = c.ask("/", fields=[(":protocol", "websocket")])
    c.until(lambda: sid in c.ended)
    assert c.ended[sid] == "reset 1"  # only with CONNECT
    sid = c.next
    c.next += 2
    c.h2.send_headers(sid, [(":method", "CONNECT"), (":authority", "a.test:80")], end_stream=False)
    c.flush()
    c.until(lambda: sid in c.ended)
    assert c.heads[sid][":status"] == "501"  # plain CONNECT


def test_servers_of_http2_are_not_asked_to_switch(lab):
    c = lab.proxy(lab.origin(), pool={"protocol": "h2"}).client()
    assert_own_answer(c.request(fields=ASK), 501)


# --- reload and shutdown -----------------------------------------------------------------------------------------

def test_a_reload_leaves_tunnels_alone(lab):
    origin = lab.origin(script=switching(echo))
    lb = lab.proxy(origin, admin_http=True)
    c = lb.client()
    assert ask(c).status == 101
    lb.conf.pool("app", {"other": lab.origin(ok("new")).address}, balance="random", upgrade="none")
    lb.reload(lb.conf)
    wait_until(lambda: lb.client().request().body == b"new", what="the new configuration is in force")
    c.send(b"still here")
    assert c.read_exactly(10) == b"still here"
    c.shutdown()
    assert c.read_all() == b""
    wait_until(lambda: tunnels(lb) == 0)


def test_a_drain_waits_for_tunnels_that_end(lab):
    lb = lab.proxy(lab.origin(script=switching(echo)), drain_timeout="20s", log="json")
    c = lb.client()
    assert ask(c).status == 101
    lb.signal(signal.SIGTERM)
    wait_until(lambda: lb.port not in proc.listening_ports(), what="it has stopped listening")
    c.send(b"last words").shutdown()
    assert c.read_all() == b"last words"
    lb.child.wait(10)
    assert lb.log_json(1)[0]["end"] == "ok"


def test_a_drain_is_bounded(lab):
    origin = lab.origin(script=switching(echo))
    lb = lab.proxy(origin, drain_timeout="500ms", log="json")
    c = lb.client()
    assert ask(c).status == 101
    lb.signal(signal.SIGTERM)
    c.expect_close()
    lb.child.wait(10)
    assert lb.log_json(1)[0]["end"] == "drained"
    assert origin.connections[0].eof.wait(5)


def test_what_is_counted(lab):
    origin = lab.origin(script=switching(echo))
    lb = lab.proxy(origin, log="json", admin_http=True)
    c = lb.client()
    assert ask(c).status == 101
    c.send(b"x" * 1000)
    c.read_exactly(1000)
    assert tunnels(lb) == 1 and lb.cli_json("status")["tunnels"] == 1
    assert lb.metric("meercat_process_tunnels_total") == 1
    assert lb.metric("meercat_process_tunnel_bytes_in_total") == 1000
    assert lb.metric("meercat_process_tunnel_bytes_out_total") == 1000
    assert lb.metric("meercat_server_bytes_in_total") == 1000
    assert lb.metric("meercat_process_responses_total", code="1xx") == 1
    assert not lb.log_lines(), "a tunnel is logged at its end"
    c.shutdown()
    assert c.read_all() == b""
    line = lb.log_json(1)[0]
    assert (line["bytes_in"], line["bytes_out"], line["status"]) == (1000, 1000, 101)
    assert tunnels(lb) == 0
    with pytest.raises(Closed):
        c.read_exactly(1)
