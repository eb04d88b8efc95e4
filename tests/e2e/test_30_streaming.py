# SPDX-License-Identifier: BSD-2-Clause
"""Bodies of any size pass with bounded memory, in both directions, as fast as the slower side takes them."""

import hashlib
import os
import signal
import threading
import time

import pytest

from instruments import proc
from instruments.client import Closed
from instruments.origin import ok
from instruments.wait import SAN, stays, wait_until

pytestmark = pytest.mark.long

MiB = 1 << 20
ROOM = 24 * MiB          # what the process may grow by for one transfer, sockets of the kernel not counted
IN_FLIGHT = 64 * MiB     # what two sockets, a pipe and a few blocks can hold between origin and client
SPLICE = pytest.mark.parametrize("splice", ["0", "64KiB"], ids=["copy", "splice"])
BLOCK = bytes(range(256)) * 1024  # 256 KiB


def pieces(total):
    """A body of `total` bytes, in blocks that differ."""
    n, i = 0, 0
    while n < total:
        b = (b"%08d" % i + BLOCK)[:min(len(BLOCK), total - n)]
        yield b
        n, i = n + len(b), i + 1


def digest(total):
    h = hashlib.sha256()
    for b in pieces(total):
        h.update(b)
    return h.hexdigest()


def generator(total, chunked=False, sent=None):
    def script(conn):
        while (r := conn.read_request()) is not None:
            if r.target != "/big":
                conn.send(ok("small"))
                continue
            conn.send(b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % total) + b"\r\n\r\n")
            for b in pieces(total):
                if not conn.send(b"%x\r\n%s\r\n" % (len(b), b) if chunked else b):
                    return
                if sent is not None:
                    sent.append(len(b))
            if chunked:
                conn.send(b"0\r\n\r\n")
    return script


@SPLICE
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_download_arrives_whole(lab, chunked, splice):
    total = 20 * MiB + 12345
    lb = lab.proxy(lab.origin(script=generator(total, chunked)), splice_from=splice)
    c = lb.client()
    for _ in range(2):
        r = c.request("/big")
        assert len(r.body) == total and hashlib.sha256(r.body).hexdigest() == digest(total)
        assert c.request("/small").body == b"small"
    assert proc.rss_bytes(lb.pid)


@SPLICE
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_upload_arrives_whole(lab, chunked, splice):
    total = 20 * MiB + 12345
    origin = lab.origin(lambda conn, r: ok(str(r.body_len)), keep=False)
    c = lab.proxy(origin, splice_from=splice).client()
    for i in range(2):
        c.send(b"PUT /big HTTP/1.1\r\nHost: t\r\n" + (b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % total) + b"\r\n\r\n")
        for b in pieces(total):
            c.send(b"%x\r\n%s\r\n" % (len(b), b) if chunked else b)
        if chunked:
            c.send(b"0\r\n\r\n")
        assert c.read_response().body == str(total).encode()
        assert origin.requests[i].sha == digest(total)
        assert origin.requests[i].framing == ("chunked" if chunked else "length")


@SPLICE
@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 262143, 262144, 262145, 1000000])
def test_sizes_around_the_threshold(lab, size, splice):
    data = os.urandom(size)
    origin = lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy(origin, splice_from=splice).client()
    for _ in range(2):
        c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
        c.send(data)
        assert c.read_response().body == data
    assert origin.n_connections == 1


@SPLICE
def test_a_slow_reader_holds_the_server_back(lab, splice):
    total, sent = 1024 * MiB, []
    origin = lab.origin(script=generator(total, sent=sent))
    lb = lab.proxy(origin, splice_from=splice)
    before = proc.rss_bytes(lb.pid)
    c = lb.client(rcvbuf=65536)
    c.get("/big")
    c.read_head()

    def has_stopped():
        n = len(sent)
        time.sleep(0.3)
        return n and len(sent) == n
    wait_until(has_stopped, 10, "the origin is held back")
    assert sum(sent) < IN_FLIGHT, f"{sum(sent) >> 20} MiB taken from the server while the client read nothing"
    cpu = proc.cpu_seconds(lb.pid)
    stays(lambda: sum(sent) < IN_FLIGHT, 0.5)
    assert proc.cpu_seconds(lb.pid) - cpu < 0.1, "spins while the client reads nothing"
    if not SAN:
        assert proc.peak_rss_bytes(lb.pid) - before < ROOM
    n = len(sent)
    for b in list(pieces(80 * MiB)):  # and it goes on when the client does, with nothing lost
        assert c.read_exactly(len(b)) == b
    assert len(sent) > n


@SPLICE
def test_a_slow_server_holds_the_client_back(lab, splice):
    go = threading.Event()

    def script(conn):
        conn.read_head()
        conn.hold(go)
        total = len(conn.buf)
        conn.buf.clear()
        while total < 100 * MiB:
            data = conn.recv(1 << 20)
            if not data:
                return
            total += len(data)
        conn.send(ok(str(total)))
    lb = lab.proxy(lab.origin(script=script, keep=False), splice_from=splice)
    before = proc.rss_bytes(lb.pid)
    c = lb.client(timeout=20)
    sent = []

    def upload():
        c.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (100 * MiB))
        for b in pieces(100 * MiB):
            if not c.send_some(b):
                return
            sent.append(len(b))
    t = threading.Thread(target=upload, daemon=True)
    t.start()

    def has_stopped():
        n = len(sent)
        time.sleep(0.3)
        return n and len(sent) == n
    wait_until(has_stopped, 10, "the client is held back")
    assert sum(sent) < IN_FLIGHT
    if not SAN:
        assert proc.peak_rss_bytes(lb.pid) - before < ROOM
    go.set()
    t.join(20)
    assert c.read_response().body == str(100 * MiB).encode()


@SPLICE
def test_a_client_that_goes_away_stops_the_download(lab, splice):
    sent = []
    origin = lab.origin(script=generator(4096 * MiB, sent=sent))
    lb = lab.proxy(origin, splice_from=splice)
    c = lb.client()
    c.get("/big")
    c.read_head()
    c.read_exactly(MiB)
    c.close()
    wait_until(lambda: origin.open_connections == 0, 5, "the transfer from the server ends")
    assert sum(sent) < 2 * IN_FLIGHT
    assert lb.client().request("/small").body == b"small"


@SPLICE
def test_a_client_that_goes_away_while_stalled_stops_the_download(lab, splice):
    sent = []
    origin = lab.origin(script=generator(1024 * MiB, sent=sent))
    lb = lab.proxy(origin, splice_from=splice)
    c = lb.client(rcvbuf=65536)
    c.get("/big")
    c.read_head()
    wait_until(lambda: sum(sent) > MiB)
    c.rst()
    wait_until(lambda: origin.open_connections == 0, 5, "the transfer from the server ends")


@SPLICE
def test_a_client_that_goes_away_stops_the_upload(lab, splice):
    origin = lab.origin(keep=False)
    lb = lab.proxy(origin, splice_from=splice)
    c = lb.client()
    c.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (100 * MiB))
    c.send(BLOCK * 8)
    wait_until(lambda: origin.connections and origin.connections[0].n_received > MiB, 5, "some of it has come")
    c.close()
    wait_until(lambda: origin.open_connections == 0, 5, "the server's connection ends")
    assert not origin.whole_requests()


def test_a_client_that_goes_away_from_its_second_request_frees_the_server(lab):
    """Pipelined: nothing more was read while the first was answered, and that must not last."""
    def reply(conn, r):
        if r.target == "/second":
            conn.wait_eof(20)
            return None
        return ok("first")
    origin = lab.origin(reply)
    c = lab.proxy(origin).client()
    c.send(b"GET /first HTTP/1.1\r\nHost: t\r\n\r\nGET /second HTTP/1.1\r\nHost: t\r\n\r\n")
    assert c.read_response().body == b"first"
    origin.wait_requests(2)
    c.close()
    wait_until(lambda: origin.open_connections == 0, 5, "the server is let go")


@SPLICE
def test_a_client_that_goes_away_after_its_upload_frees_the_server(lab, splice):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.wait_eof(20), keep=False)
    c = lab.proxy(origin, splice_from=splice).client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (4 * MiB))
    c.send(bytes(4 * MiB))
    wait_until(lambda: origin.whole_requests(), 10)
    c.close()
    wait_until(lambda: origin.open_connections == 0, 5, "the server is let go")


def test_a_client_that_goes_away_while_waiting_frees_the_server(lab):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.wait_eof(20))
    lb = lab.proxy(origin)
    c = lb.client()
    c.get()
    origin.wait_requests(1)
    c.close()
    wait_until(lambda: origin.open_connections == 0, 5, "the server's connection ends")


@SPLICE
def test_a_server_that_breaks_off_breaks_the_client(lab, splice):
    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * MiB))
        for b in pieces(4 * MiB):
            conn.send(b)
        conn.close()
    c = lab.proxy(lab.origin(script=script), splice_from=splice).client()
    c.get()
    with pytest.raises(Closed) as e:
        c.read_response()
    assert len(e.value.data) <= 4 * MiB


@SPLICE
def test_a_server_may_answer_while_it_is_sent_to(lab, splice):
    """Both directions at once: each piece comes back before the next is sent."""
    def script(conn):
        r = conn.read_head()
        total = int(r["content-length"])
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        n = 0
        while n < total:
            data = bytes(conn.buf) or conn.recv()
            conn.buf.clear()
            if not data:
                return
            n += len(data)
            conn.send(data)
    c = lab.proxy(lab.origin(script=script), splice_from=splice).client()
    piece, times = os.urandom(10000), 100
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (len(piece) * times))
    c.send(piece)
    c.read_head()
    assert c.read_exactly(len(piece)) == piece
    for _ in range(times - 1):
        c.send(piece)
        assert c.read_exactly(len(piece)) == piece


def test_chunks_are_passed_as_they_come(lab):
    go = threading.Event()

    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(5):
            conn.send(b"1\r\n%d\r\n" % i)
            conn.hold(go)
            go.clear()
        conn.send(b"0\r\n\r\n")
    c = lab.proxy(lab.origin(script=script)).client()
    c.get()
    r = c.read_head()
    for i in range(5):
        assert c.read_chunk(r) == b"%d" % i
        c.expect_no_data(0.02)
        go.set()
    assert c.read_chunk(r) == b""


def test_many_bodies_at_once_keep_memory_bounded(lab):
    origin = lab.origin(script=generator(64 * MiB))
    lb = lab.proxy(origin)
    before = proc.rss_bytes(lb.pid)
    clients = [lb.client(rcvbuf=65536) for _ in range(30)]
    for c in clients:
        c.get("/big")
    for c in clients:
        c.read_head()
    if not SAN:
        assert proc.peak_rss_bytes(lb.pid) - before < 2 * ROOM


def test_pipelining_without_reading_is_held_back(lab):
    """Answers that the client does not take must not pile up: no further request is read."""
    origin = lab.origin(ok(b"y" * 2000), keep=False)
    lb = lab.proxy(origin)
    before = proc.rss_bytes(lb.pid)
    c = lb.client(rcvbuf=65536)
    request = b"GET / HTTP/1.1\r\nHost: t\r\nX-Pad: " + b"p" * 500 + b"\r\n\r\n"
    sent = []

    def flood():
        for _ in range(400):
            if not c.send_some(request * 100):
                return
            sent.append(100)
    threading.Thread(target=flood, daemon=True).start()

    def has_stopped():
        n = len(origin.requests)
        time.sleep(0.3)
        return n and len(origin.requests) == n
    wait_until(has_stopped, 20, "the client is held back")
    if not SAN:
        assert proc.peak_rss_bytes(lb.pid) - before < ROOM, \
            f"{len(origin.requests)} answers were taken in for a client that reads nothing"
    n = len(origin.requests)
    assert n < 20000, f"{n} requests were made for a client that reads nothing"
    for _ in range(n):
        assert len(c.read_response().body) == 2000


SIZES = range(3_000_000, 4_400_000, 40_000)  # one of them ends in the queue of the balancer, not in a socket


@pytest.mark.parametrize("why", ["keep-alive", "drain"])
def test_an_end_that_is_taken_late_is_sent_all_the_same(lab, why):
    """The limit for the next request does not count while the last answer is still to be taken."""
    origin = lab.origin(lambda conn, r: ok(bytes(int(r.target[1:]))), keep=False)
    keep = "300ms" if why == "keep-alive" else "60s"
    lb = lab.proxy(origin, listen={"keep_alive_timeout": keep}, splice_from="0", drain_timeout="20s")
    clients = [(n, lb.client(rcvbuf=8192).get(f"/{n}")) for n in SIZES]
    origin.wait_requests(len(clients))
    time.sleep(0.3)
    if why == "drain":
        lb.signal(signal.SIGTERM)
    time.sleep(1.5)
    for n, c in clients:
        assert len(c.read_response().body) == n


def test_a_slow_reader_may_take_its_time(lab):
    """Some bytes now and then are progress, though what is queued never becomes empty."""
    origin = lab.origin(ok(bytes(4 * MiB)), keep=False)
    lb = lab.proxy(origin, listen={"send_timeout": "500ms"}, splice_from="0")
    c = lb.client(rcvbuf=4096)
    c.get()
    r = c.read_head()
    got = len(c.buf)
    c.buf.clear()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        got += len(c.sock.recv(8192))
        time.sleep(0.02)
    assert got + c.skip_body(r, 4 * MiB - got) == 4 * MiB


def sparse(lab, gib):
    nginx = lab.nginx()
    with open(os.path.join(nginx.root, "big"), "wb") as f:
        f.truncate(gib << 30)
    return nginx


@pytest.mark.slow
@pytest.mark.bound(90)
@SPLICE
def test_two_gigabytes_down(lab, splice):
    big_down(lab, 2, splice)


@pytest.mark.slow
@pytest.mark.bound(90)
def test_two_gigabytes_up(lab):
    big_up(lab, 2)


@pytest.mark.bound(400)
@pytest.mark.skipif(not os.environ.get("MEERCAT_BIG"), reason="10 GB: set MEERCAT_BIG")
def test_ten_gigabytes_each_way(lab):
    big_down(lab, 10, "256KiB")
    big_up(lab, 10)


def big_down(lab, gib, splice):
    lb = lab.proxy(sparse(lab, gib), splice_from=splice)
    before = proc.rss_bytes(lb.pid)
    c = lb.client()
    c.get("/big")
    r = c.read_head()
    assert c.skip_body(r) == gib << 30
    assert proc.peak_rss_bytes(lb.pid) - before < ROOM
    assert c.request("/name").status == 200


def big_up(lab, gib):
    def script(conn):
        r = conn.read_head()
        n, total = len(conn.buf), int(r["content-length"])
        room = bytearray(1 << 20)
        while n < total:
            k = conn.sock.recv_into(room)
            if not k:
                return
            n += k
        conn.send(ok(str(n)))
    lb = lab.proxy(lab.origin(script=script, keep=False))
    before = proc.rss_bytes(lb.pid)
    c = lb.client()
    c.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (gib << 30))
    block = bytes(1 << 20)
    for _ in range(gib << 10):
        c.send(block)
    assert c.read_response().body == str(gib << 30).encode()
    assert proc.peak_rss_bytes(lb.pid) - before < ROOM
