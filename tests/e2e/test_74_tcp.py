# SPDX-License-Identifier: BSD-2-Clause
"""Connections that are passed through: bytes both ways, ends, names in TLS, placement, limits, drain, reload."""

import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import urllib.request

import pytest

from instruments import proc
from instruments.pki import Authority
from instruments.ports import free_port
from instruments.tls import context
from instruments.wait import SAN, wait_until

BIG = (24 if SAN else 192) << 20


class Server:
    """Serves each connection by a function in a thread of its own."""

    def __init__(self, serve, port=0):
        self.serve, self.conns, self.n, self.faults = serve, [], 0, []
        self.sock = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self.sock.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.n += 1
            self.conns.append(c)
            threading.Thread(target=self._one, args=(c,), daemon=True).start()

    def _one(self, c):
        try:
            self.serve(c)
        except OSError:
            pass
        except Exception as e:  # what is wrong in here is the test's
            self.faults.append(repr(e))
        c.close()

    def stop(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        for c in self.conns:
            try:
                c.shutdown(socket.SHUT_RDWR)  # also under a thread that reads
            except OSError:
                pass
            c.close()

    def check(self):
        assert not self.faults, self.faults


def echo(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.shutdown(socket.SHUT_WR)


def says(name):
    """Tells its name first, then echoes."""
    def serve(c):
        c.sendall(name.encode() + b"\n")
        echo(c)
    return serve


def tcp(lab, servers, listen=None, routes=True, **kw):
    listen = dict({"protocol": "tcp"}, **(listen or {}))
    kw.setdefault("log", "json")
    conf = lab.conf(servers, listen=listen, routes=False, admin_http=True, **kw)
    if routes:
        conf.route("all", "app", listen=["web"])
    return conf


def started(lab, servers, **kw):
    return lab.start(tcp(lab, servers, **kw))


def connect(lab, lb, timeout=20):
    c = socket.create_connection(("127.0.0.1", lb.port), timeout=timeout)
    lab.clients.append(c)
    return c


def rest(c):
    data = b""
    while piece := c.recv(65536):
        data += piece
    return data


def exactly(c, n):
    data = b""
    while len(data) < n:
        piece = c.recv(n - len(data))
        assert piece, f"ended after {data!r}"
        data += piece
    return data


def is_cut(c):
    """Nothing more comes."""
    try:
        return c.recv(1) == b""
    except ConnectionError:
        return True


def is_refused(lab, lb):
    """Closed without a word, maybe before connecting has returned."""
    try:
        return is_cut(connect(lab, lb))
    except ConnectionError:
        return True


# --- bytes -------------------------------------------------------------------------------------------------------

def test_echo_and_the_log(lab):
    server = lab.add(Server(echo))
    lb = started(lab, server)
    c = connect(lab, lb)
    for word in (b"a", b"hello", bytes(range(256)) * 100):
        c.sendall(word)
        assert exactly(c, len(word)) == word
    c.shutdown(socket.SHUT_WR)
    assert rest(c) == b""
    line, = lb.log_json(1)
    assert line["protocol"] == "tcp" and line["end"] == "ok" and line["server"] == "s1"
    assert line["bytes_in"] == line["bytes_out"] == 25606 and line["listener"] == "web"
    assert line["route"] == "all" and line["pool"] == "app" and "status" not in line and "method" not in line
    assert line["total_ms"] > 0 and line["connect_ms"] >= 0 and line["client"] == "127.0.0.1"
    assert lb.metric("meercat_server_bytes_in_total", server="s1") == 25606
    assert lb.metric("meercat_server_bytes_out_total", server="s1") == 25606
    assert lb.metric("meercat_server_connects_total", server="s1") == 1
    assert lb.metric("meercat_process_tcp_connections_total") == 1
    wait_until(lambda: lb.metric("meercat_server_in_flight", server="s1") == 0, what="it is over")
    assert lb.metric("meercat_server_open_connections", server="s1") == 0


def pour(c, n, seed, out):
    block, h = os.urandom(1 << 20), hashlib.sha256()
    for i in range(n >> 20):
        piece = struct.pack("Q", i + seed) + block[8:]
        h.update(piece)
        c.sendall(piece)
    c.shutdown(socket.SHUT_WR)
    out.append(h.hexdigest())


def drink(c, out):
    h, n = hashlib.sha256(), 0
    while piece := c.recv(1 << 20):
        h.update(piece)
        n += len(piece)
    out.append((h.hexdigest(), n))


def test_much_both_ways_at_once(lab):
    sent, got = [], []

    def serve(c):
        t = threading.Thread(target=pour, args=(c, BIG, 7, sent))
        t.start()
        drink(c, got)
        t.join()

    lb = started(lab, lab.add(Server(serve)))
    c = connect(lab, lb, timeout=300)
    up, down = [], []
    t = threading.Thread(target=pour, args=(c, BIG, 1, up))
    t.start()
    drink(c, down)
    t.join()
    wait_until(lambda: got and sent, what="the server has it all", timeout=60)
    assert got[0] == (up[0], BIG) and down[0] == (sent[0], BIG)
    line, = lb.log_json(1)
    assert line["bytes_in"] == line["bytes_out"] == BIG
    assert lb.metric("meercat_process_spliced_bytes_total") > BIG  # of two BIGs
    assert lb.metric("meercat_process_bytes_in_total") == BIG


def test_never_spliced_when_it_is_off(lab):
    lb = started(lab, lab.add(Server(echo)), splice_from=0)
    c = connect(lab, lb)
    data = os.urandom(3 << 20)
    t = threading.Thread(target=c.sendall, args=(data,))
    t.start()
    assert exactly(c, len(data)) == data
    t.join()
    assert lb.metric("meercat_process_spliced_bytes_total") == 0


def test_bursts_and_chatter_alternate(lab):
    """A pipe comes with a burst, and goes back when it is over; then bytes are copied."""
    lb = started(lab, lab.add(Server(echo)))
    c = connect(lab, lb)
    data = os.urandom(4 << 20)

    def spliced():
        return lb.metric("meercat_process_spliced_bytes_total")

    def is_copied():
        """A byte that goes by splice is counted at the next tick at the latest, so a few are sent."""
        before, passed = spliced(), lb.metric("meercat_process_bytes_out_total")
        for _ in range(5):
            c.sendall(b"x")
            assert exactly(c, 1) == b"x"
        return spliced() == before and lb.metric("meercat_process_bytes_out_total") == passed + 5

    for _ in range(2):
        before = spliced()
        t = threading.Thread(target=c.sendall, args=(data,))
        t.start()
        assert exactly(c, len(data)) == data
        t.join()
        wait_until(lambda: spliced() > before, what="it was spliced")
        wait_until(is_copied, timeout=15, what="the pipe is back")


def test_half_close_goes_through_both_ways(lab):
    def serve(c):
        asked = rest(c)
        c.sendall(b"you said " + asked)

    lb = started(lab, lab.add(Server(serve)))
    c = connect(lab, lb)
    c.sendall(b"hello")
    c.shutdown(socket.SHUT_WR)
    assert rest(c) == b"you said hello"

    def first(c):
        c.sendall(b"bye")
        c.shutdown(socket.SHUT_WR)
        heard.append(rest(c))

    heard = []
    lb = started(lab, lab.add(Server(first)))
    c = connect(lab, lb)
    assert rest(c) == b"bye"
    c.sendall(b"and more")
    c.shutdown(socket.SHUT_WR)
    wait_until(lambda: heard, what="the server hears on")
    assert heard == [b"and more"]
    assert [x["end"] for x in lb.log_json(1)] == ["ok"]


def test_a_client_that_ends_before_it_is_connected(lab):
    lb = started(lab, lab.add(Server(lambda c: c.sendall(rest(c).upper()))))
    for _ in range(20):
        c = connect(lab, lb)
        c.sendall(b"quick")
        c.shutdown(socket.SHUT_WR)
        assert rest(c) == b"QUICK"


def test_a_reset_is_passed_on(lab):
    ends = []

    def serve(c):
        c.sendall(b"in")
        try:
            ends.append(rest(c))
        except ConnectionResetError:
            ends.append("reset")

    lb = started(lab, lab.add(Server(serve)))
    c = connect(lab, lb)
    assert exactly(c, 2) == b"in"
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    wait_until(lambda: ends, what="the server hears of it")
    assert ends == ["reset"]
    assert lb.log_json(1)[0]["end"] == "client-gone"


def test_a_server_that_breaks_off(lab):
    def serve(c):
        c.sendall(exactly(c, 4))
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    lb = started(lab, lab.add(Server(serve)))
    c = connect(lab, lb)
    c.sendall(b"once")
    assert exactly(c, 4) == b"once"
    with pytest.raises(ConnectionResetError):
        while c.recv(1):
            pass
    assert lb.log_json(1)[0]["end"] == "server-reset"


def test_a_reset_after_the_servers_end_takes_nothing_from_the_client(lab):
    """The server has said all it will, closes, and resets what it is sent then."""
    data = os.urandom(1 << 20)
    go = threading.Event()

    def serve(c):
        exactly(c, 1)
        c.sendall(data)
        go.wait(20)

    lb = started(lab, lab.add(Server(serve)))
    c = connect(lab, lb)
    c.sendall(b"?")
    assert exactly(c, 1000) == data[:1000]
    go.set()  # the server closes now
    assert rest(c) == data[1000:]

    def is_told():
        try:
            c.sendall(b"too late")  # the first is answered by a reset, by which the second is refused
        except ConnectionError:
            return True
    wait_until(is_told, what="the client knows")
    assert lb.log_json(1)[0]["end"] == "ok"


def test_a_slow_reader_costs_bounded_memory(lab):
    """One that does not read stops the server behind it: not more than the kernel's buffers and a pipe."""
    sent = []

    def serve(c):
        block = bytes(1 << 16)
        c.settimeout(0.5)
        n = 0
        try:
            while n < 400 << 20:
                n += c.send(block)
                sent[:] = [n]
        except TimeoutError:
            pass
        sent.append("blocked")
        c.settimeout(60)
        c.recv(1)

    lb = started(lab, lab.add(Server(serve)))
    c = connect(lab, lb, timeout=60)
    before = proc.rss_bytes(lb.pid)
    wait_until(lambda: "blocked" in sent, timeout=60, what="the server is stopped")
    assert proc.rss_bytes(lb.pid) - before < 8 << 20 or SAN
    n = len(exactly(c, sent[0]))  # all that the server could send comes, later
    assert n == sent[0]


def test_a_client_that_reads_nothing_is_cut(lab):
    def serve(c):
        while True:
            c.sendall(bytes(1 << 16))

    lb = started(lab, lab.add(Server(serve)), listen={"send_timeout": "300ms"})
    connect(lab, lb)
    assert lb.log_json(1, timeout=30)[0]["end"] == "send-timeout"


def test_a_server_that_takes_nothing_is_left(lab):
    lb = started(lab, lab.add(Server(lambda c: threading.Event().wait(60))), pool={"idle_timeout": "300ms"})
    c = connect(lab, lb)
    with pytest.raises(ConnectionError):
        while True:
            c.sendall(bytes(1 << 16))
    assert lb.log_json(1, timeout=30)[0]["end"] == "server-write-timeout"


def test_what_nothing_moves_on_ends(lab):
    lb = started(lab, lab.add(Server(echo)), pool={"tunnel_timeout": "300ms"})
    c = connect(lab, lb)
    c.sendall(b"x")
    assert exactly(c, 1) == b"x" and is_cut(c)
    assert lb.log_json(1)[0]["end"] == "tunnel-timeout"


def test_total_timeout_ends_every_connection(lab):
    lb = started(lab, lab.add(Server(echo)), pool={"total_timeout": "400ms"})
    c = connect(lab, lb)
    with pytest.raises((ConnectionError, AssertionError)):
        while True:
            c.sendall(b"x")
            exactly(c, 1)
    assert lb.log_json(1)[0]["end"] == "total-timeout"


# --- servers -----------------------------------------------------------------------------------------------------

def test_connecting_is_retried_elsewhere(lab):
    good = lab.add(Server(says("good")))
    lb = started(lab, {"dead": f"127.0.0.1:{free_port()}", "good": good}, pool={"eject_after": 0})
    for _ in range(10):
        c = connect(lab, lb)
        assert exactly(c, 5) == b"good\n"
        c.close()
    lines = lb.log_json(10)
    retried = sum(x["retries"] for x in lines)
    assert {x["server"] for x in lines} == {"good"} and 1 <= retried <= 10
    assert lb.metric("meercat_server_connect_errors_total", server="dead") == retried
    assert lb.metric("meercat_server_retries_total", server="dead") == retried


def test_a_server_that_is_killed_is_left_for_another(lab):
    """Refused connections set it aside; those to it end, the others go on."""
    a, b = lab.add(Server(says("a"))), lab.add(Server(says("b")))
    lb = started(lab, {"a": a, "b": b}, pool={"eject_after": 2, "eject_time": "30s"})
    cs = [connect(lab, lb) for _ in range(4)]
    names = [exactly(c, 2) for c in cs]
    assert sorted(names) == [b"a\n", b"a\n", b"b\n", b"b\n"]
    a.stop()
    for c, name in zip(cs, names):
        if name == b"a\n":
            assert is_cut(c)
        else:
            c.sendall(b"!")
            assert exactly(c, 1) == b"!"
    for _ in range(8):
        assert exactly(connect(lab, lb), 2) == b"b\n"
    lb.wait_state("a", "ejected")


def test_without_any_server_it_is_cut(lab):
    lb = started(lab, f"127.0.0.1:{free_port()}", pool={"eject_after": 0, "retries": 1})
    assert is_refused(lab, lb)
    assert lb.log_json(1)[0]["end"] == "refused"
    lb = started(lab, {"s1": {"address": f"127.0.0.1:{free_port()}", "state": "maint"}})
    assert is_refused(lab, lb)
    assert lb.log_json(1)[0]["end"] == "no-server"


def test_a_check_that_only_connects(lab):
    server = Server(echo)
    port = server.port
    lb = started(lab, lab.add(server), pool={"check": {"type": "tcp", "interval": "50ms", "rise": 1, "fall": 1}})
    lb.wait_state("s1", "up")
    server.stop()
    lb.wait_state("s1", "down")
    lab.add(Server(echo, port))
    lb.wait_state("s1", "up")
    c = connect(lab, lb)
    c.sendall(b"x")
    assert exactly(c, 1) == b"x"


def test_one_place_is_waited_for(lab):
    server = lab.add(Server(says("s")))
    lb = started(lab, {"s1": {"address": server, "max_concurrent": 1}}, pool={"queue_timeout": "20s", "queue_max": 2})
    first = connect(lab, lb)
    assert exactly(first, 2) == b"s\n"
    second = connect(lab, lb)
    second.sendall(b"early")
    wait_until(lambda: lb.metric("meercat_pool_queue", proxy="app") == 1, what="it waits")
    assert server.n == 1
    third = connect(lab, lb)
    wait_until(lambda: lb.metric("meercat_pool_queue", proxy="app") == 2, what="one more")
    assert is_refused(lab, lb)  # the queue is full
    first.close()
    assert exactly(second, 7) == b"s\nearly"
    second.close()
    assert exactly(third, 2) == b"s\n"
    third.close()
    ends = [x["end"] for x in lb.log_json(4)]
    assert sorted(ends)[-1] == "queue-full" and ends.count("queue-full") == 1


def test_waiting_ends(lab):
    server = lab.add(Server(says("s")))
    lb = started(lab, {"s1": {"address": server, "max_concurrent": 1}}, pool={"queue_timeout": "200ms"})
    first = connect(lab, lb)
    assert exactly(first, 2) == b"s\n"
    assert is_refused(lab, lb)
    assert lb.log_json(1)[0]["end"] == "queue-timeout"
    assert lb.metric("meercat_process_queue_timeouts_total") == 1


def test_the_same_client_gets_the_same_server(lab):
    servers = {n: lab.add(Server(says(n))) for n in "abcd"}
    lb = started(lab, servers, pool={"balance": "hash", "hash_bound": 0})
    of = {}
    for _ in range(3):
        for i in range(1, 21):
            c = socket.create_connection(("127.0.0.1", lb.port), source_address=(f"127.0.0.{i}", 0), timeout=20)
            lab.clients.append(c)
            of.setdefault(i, set()).add(exactly(c, 2))
    assert all(len(s) == 1 for s in of.values())
    assert len(set().union(*of.values())) > 1


def test_fewest_connections(lab):
    servers = {n: lab.add(Server(says(n))) for n in "ab"}
    lb = started(lab, servers, pool={"balance": "least-request", "least_of": "all"})
    got = [exactly(connect(lab, lb), 2) for _ in range(10)]
    assert got.count(b"a\n") == got.count(b"b\n") == 5


@pytest.mark.parametrize("balance", ["resource", "peak-ewma", "prequal", "random", "round-robin"])
def test_every_policy_places_connections(lab, balance):
    servers = {n: lab.add(Server(says(n))) for n in "ab"}
    lb = started(lab, servers, pool={"balance": balance})
    for _ in range(10):
        c = connect(lab, lb)
        c.sendall(b"x")
        assert exactly(c, 3)[2:] == b"x"
        c.close()
    assert all(x["end"] in ("ok", "client-gone") for x in lb.log_json(10))
    wait_until(lambda: sum(lb.metric("meercat_server_in_flight", server=s) for s in "ab") == 0, what="all are over")


def test_drain_by_the_operator(lab):
    """No new connections; those that exist go on."""
    servers = {n: lab.add(Server(says(n))) for n in "ab"}
    lb = started(lab, servers)
    cs = {exactly(c, 2): c for c in (connect(lab, lb), connect(lab, lb))}
    lb.cli("drain", "app/a")
    for _ in range(4):
        assert exactly(connect(lab, lb), 2) == b"b\n"
    cs[b"a\n"].sendall(b"still")
    assert exactly(cs[b"a\n"], 5) == b"still"


def test_limits_of_the_listener_and_of_routes(lab):
    conf = tcp(lab, lab.add(Server(says("s"))), listen={"max_connections": 1}, routes=False)
    conf.route("all", "app", listen=["web"])
    lb = lab.start(conf)
    first = connect(lab, lb)
    assert exactly(first, 2) == b"s\n"
    second = connect(lab, lb)
    second.settimeout(0.3)
    with pytest.raises(TimeoutError):
        second.recv(1)
    second.settimeout(20)
    first.close()
    assert exactly(second, 2) == b"s\n"
    conf = tcp(lab, lab.add(Server(says("s"))), routes=False)
    conf.route("all", "app", listen=["web"], rate_limit=1, rate_burst=2)
    lb = lab.start(conf)
    got = [is_refused(lab, lb) for _ in range(4)]
    assert got[:2] == [False, False] and True in got[2:]
    assert "rate-limited" in [x["end"] for x in lb.log_json(got.count(True))]


# --- the end and another configuration ---------------------------------------------------------------------------

def test_an_orderly_end_waits_with_a_bound(lab):
    lb = started(lab, lab.add(Server(echo)), drain_timeout="600ms")
    ends, stays_on = connect(lab, lb), connect(lab, lb)
    for c in (ends, stays_on):
        c.sendall(b"x")
        assert exactly(c, 1) == b"x"
    lb.signal(signal.SIGTERM)
    wait_until(lambda: lb.port not in proc.listening_ports(), what="nobody new")
    ends.sendall(b"more")
    assert exactly(ends, 4) == b"more"
    ends.shutdown(socket.SHUT_WR)
    assert rest(ends) == b""
    assert is_cut(stays_on)
    wait_until(lambda: not lb.running(), timeout=15, what="it has ended")
    assert sorted(x["end"] for x in lb.log_json(2)) == ["drained", "ok"]


def test_a_reload_leaves_connections_alone(lab):
    a, b = lab.add(Server(says("a"))), lab.add(Server(says("b")))
    conf = tcp(lab, {"a": a})
    lb = lab.start(conf)
    c = connect(lab, lb)
    assert exactly(c, 2) == b"a\n"
    for n in range(3):
        conf.pools["app"] = (conf.pools["app"][0], {"b": {"address": b.address}})
        conf.listeners["web"]["send_timeout"] = f"{10 + n}s"
        lb.reload(conf)
        wait_until(lambda: lb.metric("meercat_process_config_generation") == n + 2, what="the new one")
        wait_until(lambda: exactly(connect(lab, lb), 2) == b"b\n", what="it is in force")
    c.sendall(b"still there")
    assert exactly(c, 11) == b"still there"
    c.shutdown(socket.SHUT_WR)
    assert rest(c) == b""
    assert "a" in [x["server"] for x in lb.log_json(1)]


def test_reloads_do_not_pile_up_behind_a_connection(lab):
    """It goes over to each new configuration, limits of time and all."""
    conf = tcp(lab, lab.add(Server(echo)), pool={"tunnel_timeout": "1h", "idle_timeout": "300ms"})
    lb = lab.start(conf)
    c = connect(lab, lb)
    c.sendall(b"x")
    assert exactly(c, 1) == b"x"
    conf.routes["other"] = conf.routes.pop("all")
    conf.pools["app"][0]["tunnel_timeout"] = "200ms"
    lb.reload(conf)
    assert is_cut(c)
    line, = lb.log_json(1)
    assert line["end"] == "tunnel-timeout" and "route" not in line and line["server"] == "s1"


def test_a_listener_that_is_removed_keeps_its_connections(lab):
    conf = tcp(lab, lab.add(Server(echo)))
    lb = lab.start(conf)
    c = connect(lab, lb)
    c.sendall(b"x")
    assert exactly(c, 1) == b"x"
    other = free_port()
    del conf.listeners["web"], conf.routes["all"]
    conf.listen("new", bind=[f"127.0.0.1:{other}"])
    conf.route("all", "app")
    lb.reload(conf)
    wait_until(lambda: other in proc.listening_ports() and lb.port not in proc.listening_ports(), what="the new one")
    c.sendall(b"still")
    assert exactly(c, 5) == b"still"


def test_a_listener_that_is_removed_has_no_requests(lab):
    """Whoever had not said yet who he is gets no answer of HTTP."""
    conf = tcp(lab, lab.add(Server(echo)),
               listen={"proxy_protocol": "required", "proxy_protocol_from": ["127.0.0.1"]})
    lb = lab.start(conf)
    c = connect(lab, lb)
    wait_until(lambda: lb.metric("meercat_process_active_connections") == 1, what="it is accepted")
    other = free_port()
    del conf.listeners["web"], conf.routes["all"]
    conf.listen("new", bind=[f"127.0.0.1:{other}"])
    conf.route("all", "app")
    lb.reload(conf)
    wait_until(lambda: other in proc.listening_ports() and lb.port not in proc.listening_ports(), what="the new one")
    c.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.0\r\n\r\n")
    assert is_cut(c)


# --- by name -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.a, ca.b = ca.issue("a.test"), ca.issue("*.b.test")
    return ca


def tls_says(pem, name):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(pem)

    def serve(c):
        s = ctx.wrap_socket(c, server_side=True)
        s.sendall(name.encode() + b"\n")
        while data := s.recv(65536):
            s.sendall(data)
    return serve


def by_name(lab, pki, default=True, **kw):
    """a.test and *.b.test have pools of their own; the rest goes to "app", or nowhere."""
    conf = tcp(lab, lab.add(Server(says("rest"))), routes=False, **kw)
    for name, pem, sni in (("a", pki.a, "a.test"), ("b", pki.b, "*.b.test")):
        conf.pool(name, {name: lab.add(Server(tls_says(pem, name))).address})
        conf.route(name, name, listen=["web"], sni=[sni])
    if default:
        conf.route("rest", "app", listen=["web"])
    return lab.start(conf)


def hello(name="a.test", alpn=None):
    """What a real client says first."""
    ctx = context(alpn=alpn)
    to, fro = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ctx.wrap_bio(to, fro, server_hostname=name).do_handshake()
    return fro.read()


def records(message, most):
    """The same message in smaller records."""
    body = message[5:]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(body[i:i + most])) + body[i:i + most]
                    for i in range(0, len(body), most))


def test_tls_goes_to_the_server_that_is_named(lab, pki):
    lb = by_name(lab, pki)
    for name, is_at in (("a.test", b"a\n"), ("A.TEST", b"a\n"), ("x.b.test", b"b\n"), ("x.y.b.test", None)):
        s = context(pki if is_at and "y" not in name else None).wrap_socket(
            connect(lab, lb), server_hostname=name)
        assert exactly(s, 2) == (is_at or b"b\n")
        s.sendall(b"secret")
        assert exactly(s, 6) == b"secret"
        s.close()
    lines = lb.log_json(4)
    assert [x["sni"] for x in lines] == ["a.test", "A.TEST", "x.b.test", "x.y.b.test"]
    assert [x["pool"] for x in lines] == ["a", "a", "b", "b"] and "tls_version" not in lines[0]


def test_openssl_s_client(lab, pki):
    lb = by_name(lab, pki)
    for version in ("-tls1_2", "-tls1_3"):
        p = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{lb.port}", "-servername", "a.test", version,
                              "-CAfile", pki.pem, "-verify_return_error", "-verify_hostname", "a.test", "-quiet"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert p.stdout.readline() == b"a\n"
            p.stdin.write(b"ping\n")
            p.stdin.flush()
            assert p.stdout.readline() == b"ping\n"
        finally:
            p.kill()
            p.communicate()


def test_what_names_nothing_goes_by_the_other_routes(lab, pki):
    lb = by_name(lab, pki)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x00garbage", b"\x80\x2e\x01\x03\x01", hello(None), hello("other.test")):
        c = connect(lab, lb)
        c.sendall(data)
        assert exactly(c, 5 + len(data)) == b"rest\n" + data
    for step in (1, 7):
        c = connect(lab, lb)
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = hello("other.test")
        for i in range(0, len(data), step):
            c.sendall(data[i:i + step])
        assert exactly(c, 5 + len(data)) == b"rest\n" + data


def test_a_hello_in_pieces_and_small_records(lab, pki):
    lb = by_name(lab, pki)
    for data, step in ((hello(), 1), (records(hello(), 1), 4096), (records(hello(), 100), 3)):
        c = connect(lab, lb)
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(data), step):
            c.sendall(data[i:i + step])
        assert exactly(c, 1) == b"\x16"  # the ServerHello
    assert lb.metric("meercat_process_tcp_bad_hellos_total") == 0


def test_no_route_is_told_in_tls(lab, pki):
    lb = by_name(lab, pki, default=False)
    c = connect(lab, lb)
    c.sendall(hello("other.test"))
    assert rest(c) == b"\x15\x03\x03\x00\x02\x02\x70"  # fatal, unrecognized_name
    with pytest.raises(ssl.SSLError) as e:
        context().wrap_socket(connect(lab, lb), server_hostname="other.test")
    assert "UNRECOGNIZED_NAME" in str(e.value).upper()
    for data in (b"SSH-2.0-x\r\n", hello(None)):
        c = connect(lab, lb)
        c.sendall(data)
        assert is_cut(c)
    assert [x["end"] for x in lb.log_json(4)] == ["no-route"] * 4
    assert lb.metric("meercat_process_no_route_total") == 4


def test_what_only_looks_like_tls_is_closed_and_counted(lab, pki):
    lb = by_name(lab, pki)
    good = hello()
    bad = [
        b"\x16\x03\x01\x00\x00",                       # an empty record
        b"\x16\x03\x01\x41\x00",                       # one that is too long
        good[:5] + b"\x02" + good[6:],                 # another message
        good[:6] + b"\x01" + good[7:],                 # a message of 64 KiB
        records(good, 50)[:55] + b"\x17" + b"x" * 100,  # something else between
        good.replace(b"a.test", b"a\0test"),           # a name that is none
    ]
    for data in bad:
        c = connect(lab, lb)
        c.sendall(data)
        assert is_cut(c)
    assert [x["end"] for x in lb.log_json(len(bad))] == ["bad-hello"] * len(bad)
    assert lb.metric("meercat_process_tcp_bad_hellos_total") == len(bad)


def test_who_does_not_speak_is_not_waited_for(lab, pki):
    lb = by_name(lab, pki, listen={"head_timeout": "300ms"})
    silent, slow = connect(lab, lb), connect(lab, lb)
    slow.sendall(hello()[:20])
    assert is_cut(silent) and is_cut(slow)
    gone = connect(lab, lb)
    gone.sendall(hello()[:20])
    gone.shutdown(socket.SHUT_WR)
    assert is_cut(gone)
    assert [x["end"] for x in lb.log_json(3)] == ["head-timeout"] * 2 + ["client-gone"]


def test_tls_that_ends_here(lab, pki):
    """Then bytes are copied, and names are those of the handshake."""
    conf = tcp(lab, lab.add(Server(says("plain"))), listen={"tls": {"certificate": [pki.a, pki.b]}}, routes=False)
    conf.pool("b", {"b": lab.add(Server(says("b"))).address})
    conf.route("b", "b", listen=["web"], sni=["*.b.test"])
    conf.route("all", "app", listen=["web"])
    lb = lab.start(conf)
    s = context(pki, alpn=["anything"]).wrap_socket(connect(lab, lb), server_hostname="a.test")
    assert exactly(s, 6) == b"plain\n" and s.selected_alpn_protocol() is None
    for _ in range(32):  # by turns: Python's TLS sockets are for one thread at a time
        data = os.urandom(64 << 10)
        s.sendall(data)
        assert exactly(s, len(data)) == data
    s.unwrap().close()  # close_notify both ways
    s = context(pki).wrap_socket(connect(lab, lb), server_hostname="x.b.test")
    assert exactly(s, 2) == b"b\n"
    s.close()
    lines = lb.log_json(2)
    assert lines[0]["tls_version"] and lines[0]["sni"] == "a.test" and lines[0]["end"] == "ok"
    assert lb.metric("meercat_process_spliced_bytes_total") == 0


def test_tls_to_the_server(lab, pki):
    server = lab.add(Server(tls_says(pki.a, "a")))
    for name, end in (("a.test", "ok"), ("c.test", "tls-certificate")):
        lb = started(lab, {"s1": {"address": server, "tls_name": name}},
                     pool={"protocol": "tcp", "tls": {"ca": [pki.pem]}, "retries": 0})
        if end == "ok":
            c = connect(lab, lb)
            data = os.urandom(1 << 20)
            t = threading.Thread(target=c.sendall, args=(data,))
            t.start()
            assert exactly(c, 2 + len(data)) == b"a\n" + data
            t.join()
            c.close()
            lb.log_json(1)
            continue
        assert is_refused(lab, lb)
        assert lb.log_json(1)[0]["end"] == end
        assert lb.metric("meercat_server_connect_errors_total", server="s1") == 1
    server.faults.clear()  # whose handshake was refused


# --- the configuration, and what is shown of it ------------------------------------------------------------------

def test_what_is_shown(lab):
    conf = tcp(lab, lab.add(Server(echo)), routes=False)
    conf.route("named", "app", listen=["web"], sni=["a.test", "*.b.test"])
    lb = lab.start(conf)
    shown = json.loads(lb.cli("status", "--json").stdout)
    assert shown["counters"]["tcp_connections"] == 0
    with urllib.request.urlopen(f"http://{conf.top['admin']['http']}/v1/routes") as r:
        route, = json.load(r)["routes"]
    assert route["listen"] == ["web"] and route["sni"] == ["a.test", "*.b.test"] and route["pool"] == "app"


@pytest.mark.parametrize("fmt", ["common", "combined"])
def test_the_text_forms_of_the_log(lab, fmt):
    lb = started(lab, lab.add(Server(echo)), log=fmt)
    c = connect(lab, lb)
    c.sendall(b"hello")
    assert exactly(c, 5) == b"hello"
    c.close()
    line, = lb.log_lines(1)
    assert line.startswith("127.0.0.1 - - [") and '] "TCP -" 0 5' in line
