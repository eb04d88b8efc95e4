# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 towards clients: by ALPN and by prior knowledge, messages, back-pressure, ends, limits."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading

import h2.events
import h2.exceptions
import pytest

from instruments.h2client import H2
from instruments.origin import chunked, ok, response
from instruments.pki import Authority
from instruments.wait import stays, wait_until

MB = 1 << 20


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.a = ca.issue("a.test")
    return ca


def curl(lb, path="/", *args, pki=None, how="--http2-prior-knowledge", data=None, check=True):
    scheme = "https" if pki else "http"
    cmd = ["curl", "-sS", "--max-time", "60", how, *args]
    host = f"127.0.0.1:{lb.conf.port}"
    if pki:
        host = f"a.test:{lb.conf.port}"
        cmd += ["--cacert", pki.pem,
                "--resolve", f"a.test:{lb.conf.port}:127.0.0.1"]
    r = subprocess.run([*cmd, f"{scheme}://{host}{path}"], input=data, capture_output=True, timeout=70)
    assert not check or r.returncode == 0, r.stderr
    return r.stdout


@pytest.fixture
def raw(lab):
    def make(lb, **kw):
        c = H2(lb, **kw)
        lab.clients.append(c)
        return c
    return make


# --- how it is agreed on -----------------------------------------------------------------------------------------

def test_prior_knowledge_and_http1_on_one_listener(lab):
    lb = lab.proxy(lab.origin(ok("hello")), log="json")
    fmt = ["-w", " %{http_version} %{response_code}"]
    assert curl(lb, "/a", *fmt) == b"hello 2 200"
    assert curl(lb, "/b", *fmt, how="--http1.1") == b"hello 1.1 200"
    assert curl(lb, "/c", *fmt, how="--http2") == b"hello 1.1 200"      # Upgrade: h2c is passed over
    wait_until(lambda: len(open(lb.log_path).read().splitlines()) == 3)
    lines = [json.loads(x) for x in open(lb.log_path)]
    assert [x["version"] for x in lines] == ["2", "1.1", "1.1"]


def test_alpn(lab, pki):
    lb = lab.proxy(lab.origin(ok("hello")), listen={"tls": {"certificate": [pki.a]}}, admin_http=True)
    fmt = ["-w", " %{http_version}"]
    assert curl(lb, "/", *fmt, pki=pki, how="--http2") == b"hello 2"
    assert curl(lb, "/", *fmt, pki=pki, how="--http1.1") == b"hello 1.1"
    assert lb.metric("meercat_process_http2_connections_total") == 1
    assert lb.metric("meercat_process_http2_requests_total") == 1


def test_the_preface_may_come_in_pieces(lab):
    lb = lab.proxy(lab.origin(ok("hello")))
    s = socket.create_connection(("127.0.0.1", lb.conf.port), timeout=30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in (b"P", b"RI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"):
        s.sendall(piece)
    assert s.recv(9)[3] == 4       # SETTINGS
    s.close()
    s = socket.create_connection(("127.0.0.1", lb.conf.port), timeout=30)
    s.sendall(b"P")
    s.sendall(b"UT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    assert s.recv(100).startswith(b"HTTP/1.1 200")
    s.close()


def test_one_protocol_alone(lab):
    lb = lab.proxy(lab.origin(ok("hello")), listen={"protocol": "h2"})
    assert curl(lb) == b"hello"
    assert curl(lb, how="--http1.1", check=False) != b"hello"
    lb = lab.proxy(lab.origin(ok("hello")), listen={"protocol": "http1"})
    assert curl(lb, how="--http1.1") == b"hello"
    assert curl(lb, check=False) != b"hello"


# --- messages ----------------------------------------------------------------------------------------------------

def test_requests_are_translated(lab, raw):
    origin = lab.origin(ok("x"))
    c = raw(lab.proxy(origin))
    sid = c.ask("/p?q=1", fields=[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"),
                                  ("priority", "u=1, i"), ("x-a", "b")])
    assert c.answer(sid) == (200, b"x")
    req = origin.requests[0]
    assert req.line == "GET /p?q=1 HTTP/1.1"
    assert req["host"] == "a.test"
    assert req["cookie"] == "a=1; b=2"
    assert req["te"] == "trailers"
    assert req["priority"] == "u=1, i"
    assert req["via"] == "2.0 meercat"
    assert req["x-forwarded-for"] == "127.0.0.1"


def test_bodies_without_length_are_chunked_and_trailers_pass(lab, raw):
    origin = lab.origin(lambda conn, req: ok(req.body))
    c = raw(lab.proxy(origin))
    sid = c.ask("/", "POST", end=False)
    c.h2.send_data(sid, b"one")
    c.h2.send_data(sid, b"two")
    c.h2.send_headers(sid, [("x-sum", "6")], end_stream=True)
    c.flush()
    assert c.answer(sid) == (200, b"onetwo")
    assert origin.requests[0].framing == "chunked"
    assert origin.requests[0].trailers.get("x-sum") == "6"


@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 70000])
def test_bodies_with_a_length(lab, body):
    origin = lab.origin(lambda conn, req: ok(req.body))
    lb = lab.proxy(origin)
    assert curl(lb, "/", "--data-binary", "@-", data=body) == body
    assert origin.requests[0]["content-length"] == str(len(body))


def test_trailers_of_responses(lab, raw):
    c = raw(lab.proxy(lab.origin(chunked(b"abc", trailers=[("X-Sum", "3")]))))
    sid = c.ask(fields=[("te", "trailers")])
    assert c.answer(sid) == (200, b"abc")
    assert {k: v for k, v in c.trailers[sid].items()} in ({b"x-sum": b"3"}, {"x-sum": "3"})
    assert "transfer-encoding" not in c.heads[sid]


def test_interim_responses(lab):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    lb = lab.proxy(lab.origin(hints + ok("x")))
    out = curl(lb, "/", "-i").decode()
    assert re.search(r"HTTP/2 103 \r\nlink: </a.css>\r\n\r\nHTTP/2 200", out), out


def test_expect_continue(lab, raw):
    def script(conn):
        req = conn.read_head()
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        conn.read_body(req)
        conn.send(ok("done"))

    c = raw(lab.proxy(lab.origin(script=script)))
    sid = c.ask("/", "POST", [("expect", "100-continue"), ("content-length", "5")], end=False)
    c.until(lambda: any(isinstance(e, h2.events.InformationalResponseReceived) for e in c.events))
    c.h2.send_data(sid, b"hello", end_stream=True)
    c.flush()
    assert c.answer(sid) == (200, b"done")


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body(lab, raw, status):
    c = raw(lab.proxy(lab.origin(response(status, fields=[("X-A", "b")]))))
    sid = c.ask()
    assert c.answer(sid) == (status, b"")
    assert c.heads[sid]["x-a"] == "b"


def test_head(lab, raw):
    c = raw(lab.proxy(lab.origin(lambda conn, req: b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")))
    sid = c.ask(method="HEAD")
    assert c.answer(sid) == (200, b"")
    assert c.heads[sid]["content-length"] == "12"


def test_a_response_until_the_end_of_its_connection(lab):
    def script(conn):
        conn.read_head()
        conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"y" * 100000)
        conn.close()

    assert curl(lab.proxy(lab.origin(script=script))) == b"y" * 100000


def test_a_response_that_breaks_off_is_reset(lab, raw):
    def script(conn):
        conn.read_head()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        conn.close()

    lb = lab.proxy(lab.origin(script=script))
    c = raw(lb)
    sid = c.ask()
    c.until(lambda: sid in c.ended)
    assert c.ended[sid] == "reset 2"
    assert not c.eof       # the connection lives on
    sid = c.ask()
    c.until(lambda: sid in c.ended)


def test_malformed_requests_reach_no_server(lab, raw):
    origin = lab.origin(ok("x"))
    lb = lab.proxy(origin, admin_http=True, log="json")
    c = raw(lb)
    for fields in ([("X-Big", "a")], [("connection", "close")], [("transfer-encoding", "chunked")], [("te", "gzip")],
                   [("a", "b\r\nc: d")], [("host", "other.test")], [("content-length", "5")], [(":path", "/x")]):
        sid = c.ask(fields=fields)
        c.until(lambda: sid in c.ended)
        assert c.ended[sid] == "reset 1", fields
    sid = c.ask("/good")
    assert c.answer(sid) == (200, b"x")
    assert [r.target for r in origin.requests] == ["/good"]
    assert lb.metric("meercat_process_requests_bad_total") == 8
    wait_until(lambda: len(open(lb.log_path).read().splitlines()) == 9)


def test_data_that_disagrees_with_the_length(lab, raw):
    origin = lab.origin(lambda conn, req: ok(req.body))
    c = raw(lab.proxy(origin))
    sid = c.ask("/", "POST", [("content-length", "5")], end=False)
    c.h2.send_data(sid, b"toolong")
    c.flush()
    c.until(lambda: sid in c.ended)
    assert c.ended[sid] == "reset 1"
    sid = c.ask("/", "POST", [("content-length", "5")], end=False)
    c.h2.send_data(sid, b"abc", end_stream=True)
    c.flush()
    c.until(lambda: sid in c.ended)
    assert c.ended[sid] == "reset 1"
    assert not [r for r in origin.requests if r.whole]


def test_a_head_that_is_too_large_is_answered(lab, raw):
    c = raw(lab.proxy(lab.origin(ok("x"))))
    sid = c.ask(fields=[("x-big", "a" * 15000), ("x-more", "b" * 3000)])
    assert c.answer(sid)[0] == 431
    sid = c.ask("/" + "a" * 9000)
    assert c.answer(sid)[0] == 414
    sid = c.ask()
    assert c.answer(sid) == (200, b"x")


def test_our_own_answers(lab, raw):
    c = raw(lab.start(lab.conf(lab.origin(ok("x")), routes=False).route("b", "app", host=["b.test"])))
    sid = c.ask()
    status, body = c.answer(sid)
    assert status == 404 and b"no route" in body
    assert "no route" in c.heads[sid]["proxy-status"]
    sid = c.next
    c.next += 2
    c.h2.send_headers(sid, [(":method", "CONNECT"), (":authority", "a.test:80")], end_stream=True)
    c.flush()
    assert c.answer(sid)[0] == 501


def test_an_early_answer_stops_the_upload(lab, raw):
    c = raw(lab.proxy(lab.origin(ok("x")), listen={"body_max": "1KiB"}))
    sid = c.ask("/", "POST", [("content-length", "1000000")], end=False)
    c.until(lambda: sid in c.heads)
    assert c.heads[sid][":status"] == "413"
    c.until(lambda: any(isinstance(e, h2.events.StreamReset) and e.stream_id == sid for e in c.events))
    sid = c.ask()
    assert c.answer(sid) == (200, b"x")


# --- much at once, and back-pressure -----------------------------------------------------------------------------

def test_big_bodies_both_ways(lab, pki):
    blob = os.urandom(8 * MB)
    seen = []

    def answer(conn, req):
        seen.append(hashlib.sha256(req.body).hexdigest() if req.body else req.sha)
        return ok(blob)

    for tls in (None, {"certificate": [pki.a]}):
        lb = lab.proxy(lab.origin(answer), listen={"tls": tls} if tls else None)
        got = curl(lb, "/", "--data-binary", "@-", data=blob, pki=pki if tls else None,
                   how="--http2" if tls else "--http2-prior-knowledge")
        assert hashlib.sha256(got).digest() == hashlib.sha256(blob).digest()


def test_many_streams(lab):
    lb = lab.proxy(lab.origin(ok("x" * 300), keep=False), admin_http=True)
    r = subprocess.run(["h2load", "-n", "3000", "-c", "5", "-m", "50", f"http://127.0.0.1:{lb.conf.port}/"],
                       capture_output=True, timeout=120, text=True)
    assert "3000 succeeded, 0 failed, 0 errored" in r.stdout, r.stdout
    assert lb.metric("meercat_process_http2_requests_total") == 3000
    wait_until(lambda: lb.metric("meercat_http2_streams") == 0)


def test_a_stream_that_is_not_read_stops_its_server_and_no_other(lab, raw):
    sent = {"n": 0}

    def script(conn):
        while (req := conn.read_request()) is not None:
            if req.target != "/big":
                conn.send(ok("small"))
                continue
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MB))
            try:
                for _ in range(1024):
                    conn.sock.sendall(b"z" * 65536)
                    sent["n"] += 65536
            except OSError:
                return

    lb = lab.proxy(lab.origin(script=script))
    c = raw(lb)
    c.ack = False
    big = c.ask("/big")
    c.until(lambda: len(c.data.get(big, b"")) == 65535)      # the stream's window is closed
    c.h2.increment_flow_control_window(10 * MB)              # the connection's is open
    c.flush()
    for _ in range(20):
        sid = c.ask("/small")
        assert c.answer(sid) == (200, b"small")
    stays(lambda: sent["n"] < 32 * MB, 0.3)                     # kernels' buffers, and no more
    c.h2.reset_stream(big)
    c.flush()
    sid = c.ask("/small")
    assert c.answer(sid) == (200, b"small")


def test_a_server_that_does_not_read_holds_its_stream_and_no_other(lab, raw):
    go = threading.Event()

    def script(conn):
        while (req := conn.read_head()) is not None:
            if req.target == "/slow":
                conn.hold(go, 60)
                conn.read_body(req, keep=False)
            conn.send(ok("x"))

    lb = lab.proxy(lab.origin(script=script))
    c = raw(lb)
    slow = c.ask("/slow", "POST", end=False)
    sent = 0
    while sent < 16 * MB:
        c.read(0)
        n = min(c.h2.local_flow_control_window(slow), 16384)
        if n > 0:
            c.h2.send_data(slow, b"u" * n)
            c.flush()
            sent += n
        elif not c.read(0.5):
            break                                            # no window for half a second
    assert sent < 16 * MB
    sid = c.ask("/other")
    assert c.answer(sid) == (200, b"x")
    go.set()
    c.until(lambda: c.h2.local_flow_control_window(slow) > 0)
    c.h2.end_stream(slow)
    c.flush()
    assert c.answer(slow) == (200, b"x")


def test_a_window_that_stays_closed_is_bounded(lab, raw):
    lb = lab.proxy(lab.origin(ok(b"x" * MB)), listen={"send_timeout": "300ms"}, log="json")
    c = raw(lb)
    c.ack = False
    sid = c.ask()
    c.until(lambda: sid in c.ended or c.eof)
    assert c.ended.get(sid) == "reset 8" or c.eof
    # one that is whole here, but not there
    lb = lab.proxy(lab.origin(ok(b"x" * 1000)), listen={"send_timeout": "300ms"})
    c = raw(lb, window=10)
    c.ack = False
    sid = c.ask()
    c.until(lambda: sid in c.ended or c.eof)
    assert c.ended.get(sid) == "reset 8" or c.eof


# --- ends --------------------------------------------------------------------------------------------------------

def held(lab):
    go = threading.Event()

    def answer(conn, req):
        if req.target == "/held":
            go.wait(60)
        return ok("late")
    return lab.origin(answer), go


def test_a_reset_ends_the_attempt(lab, raw):
    origin, go = held(lab)
    lb = lab.proxy(origin, admin_http=True, log="json")
    c = raw(lb)
    sid = c.ask("/held")
    wait_until(lambda: origin.requests)
    c.h2.reset_stream(sid, 8)
    c.flush()
    wait_until(lambda: lb.metric("meercat_process_client_gone_total") == 1)
    assert lb.metric("meercat_process_http2_resets_received_total") == 1
    go.set()
    sid = c.ask("/next")
    assert c.answer(sid) == (200, b"late")


def test_a_drain_says_goaway_twice_and_loses_nothing(lab, raw):
    origin, go = held(lab)
    lb = lab.proxy(origin, drain_timeout="20s")
    c = raw(lb)
    first = c.ask("/held")
    c.until(lambda: origin.requests)
    lb.signal(signal.SIGTERM)
    c.until(lambda: c.goaways)
    assert c.goaways[0] == (2**31 - 1, 0)
    c.until(lambda: len(c.goaways) == 2)
    assert c.goaways[1] == (first, 0)
    assert first not in c.ended
    go.set()
    assert c.answer(first) == (200, b"late")
    c.until(lambda: c.eof)


def takes_connections(port):
    with socket.socket() as s:
        s.settimeout(0.1)  # a port that is being closed drops SYNs
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_a_listener_that_is_removed_loses_no_stream(lab, raw):
    origin, go = held(lab)
    conf = lab.conf(origin)
    lb = lab.start(conf)
    c = raw(lb)
    first = c.ask("/held")
    c.until(lambda: origin.requests)
    conf.listeners = {"other": {"bind": [f"unix:{conf.dir}/other"]}}
    port = lb.port
    lb.reload(conf, ports=[])
    wait_until(lambda: not takes_connections(port), what="nobody listens")
    second = c.ask()                   # it has not answered the PING behind the GOAWAY, and a second is not over
    assert c.answer(second) == (200, b"late")
    go.set()
    assert c.answer(first) == (200, b"late")
    c.until(lambda: c.eof)
    assert c.goaways == [(2**31 - 1, 0), (second, 0)]


def test_a_reload_keeps_connections(lab, raw):
    origin, go = held(lab)
    conf = lab.conf(origin)
    lb = lab.start(conf)
    c = raw(lb)
    first = c.ask("/held")
    c.until(lambda: origin.requests)
    for i in range(3):
        conf.listeners["web"]["http2"] = {"max_concurrent_streams": 100 + i}
        lb.reload(conf)
        sid = c.ask("/now")
        assert c.answer(sid) == (200, b"late")
    go.set()
    assert c.answer(first) == (200, b"late")
    assert not c.goaways and not c.eof


def test_an_error_of_the_connection_ends_its_requests(lab, raw):
    origin, go = held(lab)
    lb = lab.proxy(origin, admin_http=True)
    c = raw(lb)
    c.ask("/held")
    c.until(lambda: origin.requests)
    c.sock.sendall(b"\0\0\1\0\0\0\0\0\0x")               # DATA on stream 0
    c.until(lambda: c.goaways)
    assert c.goaways[0][1] == 1
    wait_until(lambda: lb.metric("meercat_process_client_gone_total") == 1)
    wait_until(lambda: lb.metric("meercat_http2_streams") == 0)
    go.set()


def test_requests_per_connection(lab, raw):
    lb = lab.proxy(lab.origin(ok("x")), listen={"requests_per_connection": 3})
    c = raw(lb)
    for _ in range(3):
        sid = c.ask()
        assert c.answer(sid) == (200, b"x")
    c.until(lambda: c.eof)
    assert c.goaways[0] == (2**31 - 1, 0) and c.goaways[-1] == (5, 0)


def test_idle_connections_end(lab, raw):
    c = raw(lab.proxy(lab.origin(ok("x")), listen={"keep_alive_timeout": "300ms"}))
    sid = c.ask()
    assert c.answer(sid) == (200, b"x")
    c.until(lambda: c.eof)
    assert c.goaways[-1] == (1, 0)


def test_a_head_that_does_not_end(lab):
    lb = lab.proxy(lab.origin(ok("x")), listen={"head_timeout": "300ms"}, log="json")
    s = socket.create_connection(("127.0.0.1", lb.conf.port), timeout=30)
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\1\1\0\0\0\0\1\x82")
    while s.recv(4096):
        pass
    s.close()
    wait_until(lambda: "head-timeout" in open(lb.log_path).read())


# --- limits ------------------------------------------------------------------------------------------------------

def abused(lb, reason):
    return lb.metric("meercat_http2_abuse_total", reason=reason)


def test_rapid_reset(lab, raw):
    lb = lab.proxy(lab.origin(ok("x")), listen={"http2": {"resets_per_second": 1}}, admin_http=True)
    c = raw(lb)
    try:
        for _ in range(200):
            c.h2.reset_stream(c.ask())
            c.flush()
    except (OSError, h2.exceptions.ProtocolError):
        pass
    wait_until(lambda: abused(lb, "resets") == 1)
    c.until(lambda: c.eof or c.goaways)


def test_control_frames(lab, raw):
    lb = lab.proxy(lab.origin(ok("x")), listen={"http2": {"control_frames_per_second": 1}}, admin_http=True)
    c = raw(lb)
    try:
        for i in range(100):
            c.h2.ping(b"%08d" % i)
            c.flush()
    except (OSError, h2.exceptions.ProtocolError):
        pass
    wait_until(lambda: abused(lb, "control-frames") == 1)
    c.until(lambda: c.eof or c.goaways)
    if c.goaways:
        assert c.goaways[-1][1] == 11
