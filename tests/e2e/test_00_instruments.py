# SPDX-License-Identifier: BSD-2-Clause
"""The instruments themselves, against real nginx, HAProxy and curl: a ruler that is wrong proves nothing."""

import os
import socket
import subprocess

import pytest

from instruments.client import Client, Closed, fetch
from instruments.conf import Conf
from instruments.lab import Lab
from instruments.load import Load
from instruments.origin import Blackhole, chunked, ok, response
from instruments.wait import Timeout, wait_until


@pytest.fixture
def bench():
    lab = Lab("none")
    yield lab
    lab.end()


def at(origin):
    return ("127.0.0.1", origin.port)


def test_client_reads_nginx_exactly(bench):
    nginx = bench.nginx("n1")
    c = bench.client(at(nginx))
    for _ in range(3):
        r = c.request("/name")
        assert (r.status, r.body, r.framing, r["x-server"]) == (200, b"n1\n", "length", "n1")
    r = c.request("/name", method="HEAD")
    assert r.status == 200 and r.body == b"" and r["content-length"] == "3"
    assert c.request("/204").framing == "none"
    assert not c.buf
    c.get("/name", fields=[("Connection", "close")])
    assert c.read_response().body == b"n1\n"
    c.expect_fin()


def test_client_sees_a_refused_request(bench):
    nginx = bench.nginx()
    c = bench.client(at(nginx))
    c.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert c.read_response().status == 400
    c.expect_close()


def test_client_reads_haproxy(bench):
    h = bench.haproxy("h1")
    assert fetch(at(h), "/x", method="PUT").body == b"h1 PUT /x\n"


def test_haproxy_and_nginx_pass_what_the_origin_records(bench):
    origin = bench.origin(lambda conn, r: ok(r.body))
    h = bench.haproxy(backend=origin.address)
    c = bench.client(at(h))
    c.send(b"POST /p HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert c.read_response().body == b"abcde"
    r = origin.requests[0]
    assert r.whole and r.body == b"abcde" and r.framing == "chunked" and r["host"] == "t"
    assert bytes(origin.connections[0].received).startswith(b"POST /p HTTP/1.1\r\n")
    assert bytes(origin.connections[0].received).endswith(b"0\r\n\r\n")


def test_curl_reads_what_the_origin_says(bench, tmp_path):
    origin = bench.origin(lambda conn, r: chunked(b"ab", b"cd", trailers=[("X-Sum", "1")]) if r.target == "/c" else ok(r.body))
    run = lambda *a: subprocess.run(["curl", "-sS", "-m", "5", *a], capture_output=True)
    assert run(f"http://{origin.address}/c").stdout == b"abcd"
    assert run("--data-binary", "xyz", f"http://{origin.address}/").stdout == b"xyz"
    assert run("-H", "Transfer-Encoding: chunked", "--data-binary", "xyz", f"http://{origin.address}/").stdout == b"xyz"
    assert [r.framing for r in origin.requests] == ["none", "length", "chunked"]
    origin.check()


def test_client_and_origin_agree_on_chunks_and_trailers(bench):
    origin = bench.origin(chunked(b"one", b"", trailers=[("X-T", "v")]).replace(b"0\r\n\r\n0\r\n", b"0\r\n"))
    r = fetch(at(origin))
    assert r.chunks[0] == (b"3", b"one") and r.trailers.get("x-t") == "v" and r.body == b"one"


def test_origin_resets_and_client_tells_it_from_a_close(bench):
    origin = bench.origin(lambda conn, r: conn.rst() if r.target == "/rst" else conn.close())
    with pytest.raises(Closed) as e:
        fetch(at(origin), "/rst")
    assert e.value.reset
    with pytest.raises(Closed) as e:
        fetch(at(origin), "/fin")
    assert not e.value.reset


def test_client_notices_a_cut_body(bench):
    origin = bench.origin(lambda conn, r: conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") and conn.close())
    with pytest.raises(Closed) as e:
        fetch(at(origin))
    assert e.value.data == b"abc"


def test_origin_refuses_and_comes_back(bench):
    origin = bench.origin()
    assert fetch(at(origin)).body == b"ok"
    origin.refuse()
    with pytest.raises(ConnectionRefusedError):
        Client(at(origin))
    origin.listen()
    assert fetch(at(origin)).body == b"ok"


def test_origin_finds_unsound_bytes():
    lab = Lab("none")
    origin = lab.origin()
    c = Client(at(origin))
    c.send(b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n")
    c.expect_close()
    wait_until(lambda: origin.faults)
    with pytest.raises(AssertionError):
        lab.end()


def test_blackhole_neither_accepts_nor_refuses(bench):
    hole = bench.add(Blackhole())
    with socket.socket() as s:
        s.settimeout(0.3)
        with pytest.raises(socket.timeout):
            s.connect(("127.0.0.1", hole.port))


def test_interim_responses_are_told_apart(bench):
    origin = bench.origin(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok(b"x"))
    r = fetch(at(origin))
    assert [i.status for i in r.interim] == [103] and r.interim[0]["link"] == "a" and r.body == b"x"


def test_load_counts_and_forgives_nothing(bench):
    nginx = bench.nginx("n")
    with Load(at(nginx), threads=2, path="/name") as load:
        wait_until(lambda: load.done > 200)
    assert not load.failures and load.servers["n"] == load.done
    with Load(at(nginx), threads=1, path="/none") as load:
        wait_until(lambda: load.failures)
    with Load(at(nginx), threads=2, path="/name", per_connection=1) as load:
        wait_until(lambda: load.done > 50)
        nginx.kill()
        wait_until(lambda: load.failures)


def test_dnsmasq_answers_and_changes(bench):
    dns = bench.dnsmasq({"app.test": ["127.0.0.1"]})
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03app\x04test\x00\x00\x01\x00\x01"

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(2)
            s.sendto(query, ("127.0.0.1", dns.port))
            return s.recv(512)
    assert ask().endswith(bytes([127, 0, 0, 1]))
    dns.change({"app.test": ["127.0.0.2"]})
    assert ask().endswith(bytes([127, 0, 0, 2]))
    wait_until(lambda: dns.queries("app.test") == 2, 5, "both are in its log")


def test_configuration_text():
    conf = Conf(workers=1, admin={"socket": "/s"})
    conf.listen("web", bind=["*:80"], keep_alive_timeout="5s", via=False).pool("app", {"a": "1:2"}, check={"path": "/"})
    conf.route("r", "app", host=["a", "b"])
    assert str(conf) == ('workers = 1\nadmin {\n  socket = "/s"\n}\nlisten "web" {\n  bind = {"*:80"}\n'
                         '  keep-alive-timeout = "5s"\n  via = false\n}\npool "app" {\n  check {\n    path = "/"\n  }\n'
                         '  server "a" {\n    address = "1:2"\n  }\n}\nroute "r" {\n  host = {"a", "b"}\n'
                         '  pool = "app"\n}\n')


def test_waiting_ends():
    with pytest.raises(Timeout):
        wait_until(lambda: False, 0.05)
    assert wait_until(lambda: 7, 0.05) == 7


def test_notify_socket(bench):
    n = bench.notify_socket()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(b"STATUS=x\nREADY=1", n.path)
    assert n.wait("READY=1") == "READY=1"


def test_the_bound_on_a_test_is_real():
    import signal
    import time
    old = signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(AssertionError, match="took longer"):
        time.sleep(2)
    assert old[0] > 0 and os.getpid()
    assert response(204).startswith(b"HTTP/1.1 204")
