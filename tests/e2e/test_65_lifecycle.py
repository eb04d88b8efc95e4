# SPDX-License-Identifier: BSD-2-Clause
"""From start to end: signals, draining, logs, systemd, privileges."""

import grp
import json
import os
import pwd
import re
import signal
import threading

import pytest

from instruments import proc
from instruments.client import Closed, fetch
from instruments.load import Load
from instruments.origin import ok
from instruments.ports import free_port
from instruments.proc import listening_ports
from instruments.wait import Clock, wait_until


def slow_body(lab, length=True):
    go = threading.Event()

    def reply(conn, r):
        if r.target != "/slow":
            return ok("quick")
        framing = b"Content-Length: 10" if length else b"Connection: close"
        conn.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\nhello")
        conn.hold(go)
        return b"world"
    return go, lab.origin(reply)


# --- the end ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGQUIT])
def test_a_request_under_way_is_finished(lab, sig):
    go, origin = slow_body(lab)
    lb = lab.proxy(origin, drain_timeout="20s")
    c = lb.client().get("/slow")
    c.read_head()
    idle = lb.client()
    assert idle.request().status == 200
    lb.signal(sig)
    idle.expect_fin(5)
    wait_until(lambda: lb.port not in listening_ports(), 5, "nothing new is let in")
    assert lb.running()
    go.set()
    assert c.read_exactly(10) == b"helloworld"
    assert lb.wait_exit(5) == 0


def test_draining_is_bounded(lab):
    go, origin = slow_body(lab)
    lb = lab.proxy(origin, drain_timeout="600ms")
    c = lb.client().get("/slow")
    c.read_head()
    with Clock() as clock:
        lb.signal(signal.SIGTERM)
        assert lb.wait_exit(10) == 0
    assert 0.4 <= clock.s < 4
    with pytest.raises(Closed):
        c.read_exactly(10)
    go.set()


def test_what_a_drain_cuts_cannot_look_whole(lab):
    """A HTTP/1.0 client takes the end of the connection for the end of the body."""
    go, origin = slow_body(lab, length=False)
    lb = lab.proxy(origin, drain_timeout="300ms")
    c = lb.client().get("/slow", version="1.0")
    c.read_head()
    assert c.read_exactly(5) == b"hello"
    lb.signal(signal.SIGTERM)
    c.expect_rst(5)
    go.set()


def test_a_second_sigterm_ends_at_once(lab):
    go, origin = slow_body(lab)
    lb = lab.proxy(origin, drain_timeout="25s")
    c = lb.client().get("/slow")
    c.read_head()
    lb.signal(signal.SIGTERM)
    wait_until(lambda: lb.port not in listening_ports(), 5)
    assert lb.running()
    with Clock() as clock:
        lb.signal(signal.SIGTERM)
        lb.wait_exit(5)
    lb.expect_status = None  # hard: whatever it says, it says it now
    assert clock.s < 3
    go.set()


def test_the_answer_during_a_drain_says_close(lab):
    go = threading.Event()

    def reply(conn, r):
        conn.hold(go)
        return ok("x")
    origin = lab.origin(reply)
    lb = lab.proxy(origin, drain_timeout="10s")
    c = lb.client().get()
    origin.wait_requests(1)
    lb.signal(signal.SIGTERM)
    wait_until(lambda: lb.port not in listening_ports(), 5)
    go.set()
    r = c.read_response()
    assert r.body == b"x" and "close" in [v.lower() for v in r.fields.list("connection")]
    c.expect_fin(5)


def test_nothing_is_lost_when_it_ends_under_load(lab):
    """Everybody let in is answered; then connecting is refused.  A kept connection may be closed, but
    not after a request was read."""
    nginx = lab.nginx()
    lb = lab.proxy(nginx, workers=2, drain_timeout="5s")
    with Load(lb.to, threads=4, path="/name", per_connection=1) as load:
        wait_until(lambda: load.done > 100)
        lb.signal(signal.SIGTERM)
        assert lb.wait_exit(10) == 0
        wait_until(lambda: len(load.failures) > 4, 5)
    bad = [f for f in load.failures if "ConnectionRefused" not in f]
    assert not bad, f"{len(bad)} lost after {load.done}: {bad[:3]}"


def test_sigint_ends_it_too(lab):
    lb = lab.proxy(lab.origin())
    lb.signal(signal.SIGINT)
    lb.wait_exit(5)
    lb.expect_status = None


def test_sigpipe_is_nothing(lab):
    lb = lab.proxy(lab.origin())
    lb.signal(signal.SIGPIPE)
    assert fetch(lb.to).status == 200


def test_unix_sockets_and_the_pid_file_are_removed(lab):
    conf = lab.conf(lab.origin())
    conf.top["pid_file"] = f"{conf.dir}/pid"
    lb = lab.start(conf)
    with open(f"{conf.dir}/pid") as f:
        assert int(f.read()) == lb.pid
    assert os.path.exists(lb.socket_path)
    lb.stop()
    assert not os.path.exists(f"{conf.dir}/pid") and not os.path.exists(lb.socket_path)


# --- the access log ------------------------------------------------------------------------------------

def test_json_lines(lab):
    origin = lab.origin(lambda conn, r: ok("hello"))
    lb = lab.proxy(origin, log="json", listen={"trusted": ["127.0.0.1"]})
    c = lb.client()
    c.send(b"POST /p?q=\"x HTTP/1.1\r\nHost: h.example\r\nContent-Length: 3\r\nUser-Agent: a \"b\" \\ \xe9\r\n"
           b"X-Request-ID: rid-1\r\nReferer: http://r/\r\n\r\nabc")
    assert c.read_response().status == 200
    c.request("/second")
    first, second = lb.log_json(2)
    assert first["method"] == "POST" and first["target"] == '/p?q="x' and first["host"] == "h.example"
    assert first["status"] == 200 and first["bytes_in"] == 3 and first["bytes_out"] == 5
    assert first["request_id"] == "rid-1" and first["client"] == "127.0.0.1" and first["server"] == "s1"
    assert first["pool"] == "app" and first["route"] == "all" and first["listener"] == "web"
    assert first["retries"] == 0 and first["end"] == "ok" and first["reason"]
    assert first["referer"] == "http://r/" and '"b"' in first["user_agent"]
    assert not first["reused"] and second["reused"]
    assert first["total_ms"] >= first["first_byte_ms"] >= 0
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$", first["time"])
    assert origin.requests[0]["x-request-id"] == "rid-1" and second["request_id"] == origin.requests[1]["x-request-id"]


def test_times_of_the_phases(lab):
    def reply(conn, r):
        conn.origin.stopping.wait(0.15)
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        conn.origin.stopping.wait(0.1)
        return b"k"
    lb = lab.proxy(lab.origin(reply), log="json")
    assert fetch(lb.to).body == b"ok"
    x = lb.log_json(1)[0]
    assert 140 <= x["first_byte_ms"] < 1000 and x["total_ms"] >= x["first_byte_ms"] + 80


def test_how_a_request_ended_and_what_was_tried(lab):
    dead, good = lab.origin().refuse(), lab.origin(ok("x"))
    lb = lab.proxy([dead, good], log="json", pool={"eject_after": 0})
    c = lb.client()
    for _ in range(4):
        assert c.request().status == 200
    lines = lb.log_json(4)
    assert {1} <= {x["retries"] for x in lines} <= {0, 1} and all(x["server"] == "s2" for x in lines)
    alone = lab.proxy(dead, log="json")
    assert alone.client().request().status == 502
    x = alone.log_json(1)[0]
    assert x["status"] == 502 and "refused" in x["end"]


def test_times_of_a_retry_are_those_of_its_last_attempt(lab):
    closing, dead = lab.origin(lambda conn, r: conn.close()), lab.origin().refuse()
    lb = lab.proxy([closing, dead], pool={"retries": 1, "eject_after": 0}, log="json")
    c = lb.client()
    for _ in range(4):
        assert c.request().status == 502
    for line in map(json.loads, lb.log_lines(4)):
        assert all(v is None or v >= 0 for k, v in line.items() if k.endswith("_ms")), line


def test_a_body_that_goes_wrong_after_the_answer_began_keeps_its_status(lab):
    def script(conn):
        conn.read_head()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        conn.wait_eof()
    lb = lab.proxy(lab.origin(script=script), log="json")
    c = lb.client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    c.read_head()
    c.send(b"no size\r\n")
    line = json.loads(lb.log_lines(1)[0])
    assert line["status"] == 200 and line["end"] == "bad-request"


def test_bad_requests_and_missing_routes_are_logged(lab):
    conf = lab.conf(lab.origin(), log="json", routes=False)
    conf.route("r", "app", host=["here"])
    lb = lab.start(conf)
    assert lb.client().request("/x", host="nowhere").status == 404
    c = lb.client()
    c.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert c.read_response().status == 400
    a, b = sorted(lb.log_json(2), key=lambda x: x["status"])
    assert (a["status"], b["status"]) == (400, 404) and b["target"] == "/x" and "pool" not in b


def test_a_client_that_went_away_is_logged(lab):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.wait_eof())
    lb = lab.proxy(origin, log="json")
    c = lb.client().get("/gone")
    origin.wait_requests(1)
    c.close()
    x = lb.log_json(1)[0]
    assert x["target"] == "/gone" and x["end"] != "ok" and "client" in x["end"]


CLF = r'^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a\?b HTTP/1\.1" 200 5'


def test_common_format(lab):
    lb = lab.proxy(lab.origin(ok("hello")), log="common")
    lb.client().request("/a?b")
    assert re.match(CLF + "$", lb.log_lines(1)[0])


def test_combined_format(lab):
    lb = lab.proxy(lab.origin(ok("hello")), log="combined")
    c = lb.client()
    c.request("/a?b", fields=[("Referer", "http://r/x"), ("User-Agent", 'u "quoted" \x80')])
    c.request("/a?b")
    first, second = lb.log_lines(2)
    assert re.match(CLF + r' "http://r/x" "u (\\"|\\x22)quoted(\\"|\\x22) \\x80"$', first), first
    assert second.endswith(' "-" "-"')


def test_a_hostile_request_cannot_forge_a_line(lab):
    for format in ("json", "common", "combined"):
        lb = lab.proxy(lab.origin(), log=format)
        c = lb.client()
        c.send(b'GET /"\\%0a"} HTTP/1.1\r\nHost: t\r\nUser-Agent: a" 200 1\x80\xff "x\r\nReferer: {"a":1}\\\r\n\r\n')
        assert c.read_response().status in (200, 400)
        lines = lb.log_lines(1)
        assert len(lines) == 1
        if format == "json":
            json.loads(lines[0])


def test_sigusr1_opens_the_log_anew(lab):
    lb = lab.proxy(lab.origin(), log="json", workers=2)
    assert fetch(lb.to, "/one").status == 200
    lb.log_lines(1)
    os.rename(lb.log_path, lb.log_path + ".1")
    lb.signal(signal.SIGUSR1)
    wait_until(lambda: os.path.exists(lb.log_path), 5, "the log is opened again")
    assert fetch(lb.to, "/two").status == 200
    assert [x["target"] for x in lb.log_json(1)] == ["/two"]
    with open(lb.log_path + ".1") as f:
        assert [json.loads(x)["target"] for x in f] == ["/one"]


def test_rotation_under_load_loses_no_line(lab):
    nginx = lab.nginx()
    lb = lab.proxy(nginx, log="json", workers=2)
    with Load(lb.to, threads=3, path="/name") as load:
        for i in range(5):
            n = load.done
            wait_until(lambda: load.done > n + 50)
            os.rename(lb.log_path, f"{lb.log_path}.{i}")
            lb.signal(signal.SIGUSR1)
            wait_until(lambda: os.path.exists(lb.log_path), 5)
    assert not load.failures
    lb.stop()
    lines = 0
    for path in [lb.log_path] + [f"{lb.log_path}.{i}" for i in range(5)]:
        with open(path) as f:
            lines += sum(1 for x in f if json.loads(x))
    assert lines == load.done


def test_the_log_may_go_to_standard_output(lab):
    conf = lab.conf(lab.origin())
    conf.top["access_log"] = {"file": "stderr", "format": "json"}
    lb = lab.start(conf)
    fetch(lb.to, "/to-stderr")
    lb.wait_line("/to-stderr")


def test_the_log_level(lab):
    quiet = lab.proxy(lab.origin(), log_level="error")
    fetch(quiet.to)
    assert not any(" info" in x.lower() for x in quiet.lines)
    loud = lab.proxy(lab.origin(), log_level="debug")
    fetch(loud.to)
    assert loud.lines


# --- systemd and privileges ------------------------------------------------------------------------------

def test_systemd_is_told(lab):
    n = lab.notify_socket()
    conf = lab.conf(lab.origin(), drain_timeout="3s")
    lb = lab.start(conf, env={"NOTIFY_SOCKET": n.path})
    n.wait("READY=1")
    conf.listeners["web"]["server_header"] = "again"
    lb.reload(conf)
    n.wait("RELOADING=1")
    n.wait("READY=1")
    lb.signal(signal.SIGTERM)
    n.wait("STOPPING=1")
    assert lb.wait_exit(5) == 0


def test_a_reload_tells_systemd_when_it_began(lab):
    n = lab.notify_socket()
    conf = lab.conf(lab.origin())
    lb = lab.start(conf, env={"NOTIFY_SOCKET": n.path})
    n.wait("READY=1")
    lb.reload("listen {")
    wait_until(lambda: "READY=1" in n.pump(), 5)
    assert "RELOADING=1" in n.seen and any(x.startswith("MONOTONIC_USEC=") for x in n.seen)
    assert n.seen.index("RELOADING=1") < n.seen.index("READY=1"), "READY again, a broken reload too"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_is_given_up_after_binding(lab):
    low = next(p for p in range(600, 1023) if p not in listening_ports())
    conf = lab.conf(lab.origin(ok("x")), log="json")
    conf.top.update(user="nobody", group="nogroup")
    conf.listen("web", bind=[f"127.0.0.1:{low}"])
    conf.port = low
    lb = lab.start(conf)
    assert fetch(("127.0.0.1", low)).body == b"x"
    nobody, nogroup = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid
    for task in os.listdir(f"/proc/{lb.pid}/task"):
        at = f"{lb.pid}/task/{task}"
        assert set(proc.uids(at)) == {nobody} and set(proc.gids(at)) == {nogroup}
        assert set(proc.groups(at)) <= {nogroup}, "supplementary groups of root were kept"
    assert proc._status(lb.pid, "CapEff") == "0" * 16 or int(proc._status(lb.pid, "CapEff"), 16) & 0x3fffffff in (0, 1 << 10)
    lb.log_lines(1)
    more = free_port()
    conf.listen("more", bind=[f"127.0.0.1:{more}"])
    lb.reload(conf)
    wait_until(lambda: more in listening_ports())
    assert fetch(("127.0.0.1", more)).body == b"x"
    lb.cli("status")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_an_unknown_user_is_refused(lab):
    conf = lab.conf(lab.origin(), user="no-such-user-here")
    lb = lab.start(conf, wait=False)
    assert lb.wait_exit(5) != 0 and "no-such-user-here" in lb.stderr
    lb.expect_status = None
