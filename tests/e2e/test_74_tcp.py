# SPDX-License-Identifier: BSD-2-Clause
"""Connections that are passed through: bytes both ways, ends, names in TLS, placement, limits, drain, reload."""

import hashlib
import os
import socket
import struct
import threading

import pytest

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
