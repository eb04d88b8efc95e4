# SPDX-License-Identifier: BSD-2-Clause
"""It starts, answers, tells who it is, and ends."""

import collections
import signal

import pytest

from instruments.client import fetch
from instruments.meercat import command
from instruments.origin import ok
from instruments.wait import wait_until


def test_version_and_help():
    r = command("--version")
    assert r.returncode == 0 and "meercat" in (r.stdout + r.stderr).lower()
    r = command("--help")
    assert r.returncode == 0 and "serve" in r.stdout + r.stderr and "check" in r.stdout + r.stderr


def test_an_unknown_command_is_refused_with_advice():
    r = command("serev")
    assert r.returncode != 0 and "serev" in r.stderr


def test_a_missing_file_is_named():
    r = command("serve", "-c", "/nonexistent/meercat.conf")
    assert r.returncode != 0 and "/nonexistent/meercat.conf" in r.stderr


def test_a_request_reaches_the_server_and_its_answer_the_client(lab):
    origin = lab.origin(ok("hello"))
    lb = lab.proxy(origin)
    r = lb.client().request("/path?q=1", host="example.org")
    assert (r.status, r.reason, r.body) == (200, "OK", b"hello")
    seen = origin.requests[0]
    assert seen.line == "GET /path?q=1 HTTP/1.1" and seen["host"] == "example.org"


def test_the_chosen_engine_is_said(lab):
    lb = lab.proxy(lab.origin())
    wait_until(lambda: any(lab.engine in line for line in lb.lines), 5, f"{lab.engine} in the log: {lb.stderr}")


def test_auto_is_an_engine_too(lab):
    lb = lab.proxy(lab.origin(), start={"engine": "auto"})
    assert lb.client().request().status == 200


def test_an_unknown_engine_is_refused():
    r = command("serve", "-c", "/dev/null", "--engine", "steam")
    assert r.returncode != 0 and "epoll" in r.stderr and "uring" in r.stderr


def test_four_servers_all_answer(lab):
    origins = [lab.origin(ok(f"s{i}")) for i in range(4)]
    lb = lab.proxy(origins)
    c = lb.client()
    assert collections.Counter(c.request().body for _ in range(40)) == {f"s{i}".encode(): 10 for i in range(4)}


def test_a_body_goes_both_ways(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    lb = lab.proxy(origin)
    c = lb.client()
    every_byte = bytes(range(256)) * 40
    c.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(every_byte) + every_byte)
    assert c.read_response().body == every_byte
    assert origin.requests[0].body == every_byte


def test_several_workers_serve(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, workers=3)
    for _ in range(30):
        assert fetch(lb.to).status == 200
    assert len(origin.requests) == 30


def test_workers_auto(lab):
    lb = lab.proxy(lab.origin(), workers="auto")
    assert lb.client().request().status == 200


def test_routes_first_match_wins_by_order(lab):
    a, b, c = (lab.origin(ok(x)) for x in "abc")
    conf = lab.conf(a, routes=False)
    conf.pool("pb", {"s": b.address}).pool("pc", {"s": c.address})
    conf.route("r1", "pb", host=["b.example", "*.b.example"], path="/api")
    conf.route("r2", "pc", path="/only/")
    conf.route("r3", "app", host=["a.example"])
    lb = lab.start(conf)
    cl = lb.client()

    def who(path, host):
        r = cl.request(path, host=host)
        return r.body.decode() if r.status == 200 else r.status
    assert who("/api", "b.example") == "b"
    assert who("/api/x?y", "B.Example") == "b"
    assert who("/api?x", "b.example:8080") == "b"
    assert who("/api", "deep.er.b.example") == "b"
    assert who("/apis", "b.example") == 404
    assert who("/only/x", "whatever") == "c"
    assert who("/only", "whatever") == 404
    assert who("/only/x", "a.example") == "c"
    assert who("/", "a.example") == "a"
    assert who("/", "a.example.") == "a"
    assert who("/", "other") == 404
    assert who("/", "notb.example") == 404


def test_listening_on_ipv4_and_ipv6_side_by_side(lab):
    origin = lab.origin()
    conf = lab.conf(origin)
    conf.listen("web", bind=[f"*:{conf.port}", f"[::]:{conf.port}"])
    lb = lab.start(conf)
    assert fetch(("127.0.0.1", lb.port)).status == 200
    assert fetch(("::1", lb.port)).status == 200


def test_listening_on_a_unix_socket(lab):
    origin = lab.origin()
    conf = lab.conf(origin)
    path = f"{conf.dir}/web.sock"
    conf.listen("web", bind=[f"unix:{path}", f"127.0.0.1:{conf.port}"])
    lb = lab.start(conf)
    assert fetch(path).status == 200
    assert fetch(lb.to).status == 200


def test_two_listeners_and_their_ports(lab):
    origin = lab.origin()
    conf = lab.conf(origin)
    from instruments.ports import free_port
    second = free_port()
    conf.listen("second", bind=[f"127.0.0.1:{second}"])
    lab.start(conf, ports=[conf.port, second])
    assert fetch(("127.0.0.1", second)).status == 200
    assert fetch(("127.0.0.1", conf.port)).status == 200
    assert [r["x-forwarded-port"] for r in origin.requests] == [str(second), str(conf.port)]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGQUIT])
def test_it_ends_on_a_signal_with_status_0(lab, sig):
    lb = lab.proxy(lab.origin())
    assert lb.client().request().status == 200
    lb.signal(sig)
    assert lb.wait_exit(5) == 0
