# SPDX-License-Identifier: BSD-2-Clause
"""The configuration: what `check` says of it, and reloading it under way."""

import os
import re
import signal
import socket
import threading

import pytest

from instruments.client import Client, fetch
from instruments.load import Load
from instruments.meercat import command
from instruments.origin import ok
from instruments.ports import free_port
from instruments.proc import listening_ports
from instruments.wait import stays, wait_until

GOOD = """listen "web" {
  bind = {"127.0.0.1:8080"}
}
pool "app" {
  server "a" { address = "127.0.0.1:9001" }
}
route "all" { pool = "app" }
"""


def check(tmp_path, text):
    path = tmp_path / "m.conf"
    path.write_text(text)
    r = command("check", "-c", str(path))
    return r.returncode, r.stdout + r.stderr, str(path)


def at_line(out, path, line):
    """What is said of that line."""
    return " ".join(m.group(1) for m in re.finditer(rf"^{re.escape(path)}:{line}: (.*)$", out, re.M))


def test_a_good_file(tmp_path):
    status, out, _ = check(tmp_path, GOOD)
    assert status == 0, out


# replaced text in GOOD -> by what, line, words that the fault must contain
FAULTS = {
    "unknown key with a near name": ('bind = {"127.0.0.1:8080"}', 'bind = {"127.0.0.1:8080"}\n  head-timeuot = "5s"', 3, ["head-timeout"]),
    "unknown key": ('bind = {"127.0.0.1:8080"}', 'bind = {"127.0.0.1:8080"}\n  colour = "red"', 3, ["colour"]),
    "unknown section": ("route \"all\" {", "rout \"all\" {", 7, ["route"]),
    "misspelt pool key": ("  server \"a\"", "  balanse = \"random\"\n  server \"a\"", 5, ["balance"]),
    "unknown policy": ("  server \"a\"", "  balance = \"round-robbin\"\n  server \"a\"", 5, ["round-robin"]),
    "unknown pool": ('pool = "app"', 'pool = "ap"', 7, ["app"]),
    "duration without unit": ("  server \"a\"", "  connect-timeout = \"5\"\n  server \"a\"", 5, ["5"]),
    "duration in words": ("  server \"a\"", "  connect-timeout = \"soon\"\n  server \"a\"", 5, ["soon"]),
    "negative number": ("  server \"a\"", "  retries = -1\n  server \"a\"", 5, ["-1"]),
    "number too large": ("  server \"a\"", "  retries = 1000\n  server \"a\"", 5, ["1000", "10"]),
    "not a number": ("  server \"a\"", "  retries = many\n  server \"a\"", 5, ["many"]),
    "share above 100": ("  server \"a\"", "  panic-threshold = 120\n  server \"a\"", 5, ["100"]),
    "bad size": ('bind = {"127.0.0.1:8080"}', 'bind = {"127.0.0.1:8080"}\n  head-max = "16 parsecs"', 3, ["16 parsecs"]),
    "bad boolean": ('bind = {"127.0.0.1:8080"}', 'bind = {"127.0.0.1:8080"}\n  via = "perhaps"', 3, ["perhaps"]),
    "bad address to bind": ('"127.0.0.1:8080"', '"127.0.0.1"', 2, ["127.0.0.1"]),
    "bad port": ('"127.0.0.1:8080"', '"127.0.0.1:808080"', 2, ["808080"]),
    "a name to bind": ('"127.0.0.1:8080"', '"localhost:8080"', 2, ["localhost"]),
    "bad server address": ('"127.0.0.1:9001"', '"127.0.0.1:99999"', 5, ["99999"]),
    "server without address": ('address = "127.0.0.1:9001"', "weight = 1", 5, ["address"]),
    "weight out of range": ('address = "127.0.0.1:9001"', 'address = "127.0.0.1:9001" weight = 1000', 5, ["1000", "256"]),
    "bad trusted network": ('bind = {"127.0.0.1:8080"}', 'bind = {"127.0.0.1:8080"}\n  trusted = {"10.0.0.0/40"}', 3, ["10.0.0.0/40"]),
    "route path without slash": ('pool = "app" }', 'pool = "app" path = "api" }', 7, ["api"]),
    "listen without bind": ('bind = {"127.0.0.1:8080"}', "via = true", None, ["bind"]),
    "two servers of one name": ('9001" }', '9001" }\n  server "a" { address = "127.0.0.1:9002" }', 6, ["a"]),
    "two pools of one name": ("route", 'pool "app" { server "b" { address = "127.0.0.1:1" } }\nroute', 7, ["app"]),
    "address bound twice": ("pool \"app\"", 'listen "two" { bind = {"127.0.0.1:8080"} }\npool "app"', 4, ["8080"]),
    "bad check status": ("  server \"a\"", "  check { expect = \"999-20\" }\n  server \"a\"", 5, ["999-20"]),
    "unknown hash key": ("  server \"a\"", "  hash-by = \"colour\"\n  server \"a\"", 5, ["colour"]),
    "unknown engine": ("listen", "engine = \"steam\"\nlisten", 1, ["steam", "epoll"]),
    "key in the wrong section": ('bind = {"127.0.0.1:8080"}', 'bind = {"127.0.0.1:8080"}\n  retries = 2', 3, ["pool"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_line(tmp_path, name):
    old, new, line, words = FAULTS[name]
    assert old in GOOD
    status, out, path = check(tmp_path, GOOD.replace(old, new, 1))
    assert status == 1, f"{status}: {out}"
    said = at_line(out, path, line) if line else " ".join(x for x in out.splitlines() if x.startswith(path + ":"))
    assert said, f"nothing is said of {path}:{line}: {out}"
    for w in words:
        assert w in said, f"{w!r} is missing in {said!r}"


def test_all_faults_are_found_in_one_run(tmp_path):
    text = GOOD.replace('"127.0.0.1:8080"', '"nowhere"').replace('"127.0.0.1:9001"', '"127.0.0.1:x"').replace('pool = "app"', 'pool = "none"')
    status, out, path = check(tmp_path, text)
    assert status == 1
    for line in (2, 5, 7):
        assert at_line(out, path, line), f"line {line} is not told: {out}"


def test_a_syntax_error_is_told_with_its_line(tmp_path):
    status, out, path = check(tmp_path, GOOD.replace('server "a" {', 'server "a"'))
    assert status == 1 and re.search(rf"^{re.escape(path)}:\d+: ", out, re.M), out
    status, out, path = check(tmp_path, GOOD[:-3])
    assert status == 1 and out.strip()


def test_serve_refuses_what_check_refuses(tmp_path):
    path = tmp_path / "m.conf"
    path.write_text(GOOD.replace('pool = "app"', 'pool = "none"'))
    r = command("serve", "-c", str(path))
    assert r.returncode != 0 and f"{path}:7:" in r.stderr and "Traceback" not in r.stderr


def test_an_empty_file_is_told(tmp_path):
    status, out, _ = check(tmp_path, "")
    assert out is not None and status in (0, 1)
    r = command("serve", "-c", str(tmp_path / "m.conf"))
    assert r.returncode != 0 and r.stderr.strip(), "nothing to listen on must be said"


def test_the_examples_are_good():
    from instruments.meercat import ROOT
    found = [os.path.join(d, f) for d, _, fs in os.walk(os.path.join(ROOT, "examples")) for f in fs if f.endswith(".conf")]
    parts = [path for path in found if os.path.basename(path) == "app.conf"]  # included by the others
    assert parts and len(found) > 2 * len(parts)
    for path in set(found) - set(parts):
        r = command("check", "-c", path)
        assert r.returncode == 0, f"{path}: {r.stdout}{r.stderr}"


def test_an_address_in_use_is_told(lab):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        conf = lab.conf(lab.origin())
        conf.listen("web", bind=[f"127.0.0.1:{port}"])
        lb = lab.start(conf, ports=[], wait=False)
        assert lb.wait_exit(10) != 0
        assert str(port) in lb.stderr
        lb.expect_status = None


# --- reload -----------------------------------------------------------------------------------------

def adopted(lb, mark):
    """True when a worker answers with the Server field of that configuration."""
    return fetch(lb.to, host="no-such-host.invalid")["server"] == mark


def marked(lab, origins, mark, **kw):
    conf = lab.conf(origins, listen={"server_header": mark}, routes=False, **kw)
    conf.route("all", "app", host=["test", "load"])
    return conf


def remark(conf, mark):
    conf.listeners["web"]["server_header"] = mark
    return conf


def test_a_reload_takes_over(lab):
    a, b = lab.origin(ok("a")), lab.origin(ok("b"))
    conf = marked(lab, a, "g0")
    lb = lab.start(conf)
    c = lb.client()
    assert c.request().body == b"a"
    conf.pool("app", {"s9": b.address})
    lb.reload(remark(conf, "g1"))
    wait_until(lambda: adopted(lb, "g1"))
    assert fetch(lb.to).body == b"b"
    assert c.request().body == b"b", "a kept connection of a client goes on, with the new servers"


def test_the_reload_command(lab):
    conf = marked(lab, lab.origin(), "g0")
    lb = lab.start(conf)
    lb.write_conf(remark(conf, "g1"))
    lb.cli("reload")
    wait_until(lambda: adopted(lb, "g1"))
    lb.write_conf("listen {")
    r = lb.cli("reload", ok=False)
    assert r.returncode != 0 and lb.conf_path in r.stdout + r.stderr, f"{r}"


@pytest.mark.parametrize("broken", ["listen \"web\" {", GOOD.replace('pool = "app"', 'pool = "none"'), "", "colour = 3\n" + GOOD])
def test_a_broken_file_changes_nothing_and_says_so(lab, broken):
    conf = marked(lab, lab.origin(ok("a")), "g0")
    lb = lab.start(conf)
    c = lb.client()
    assert c.request().body == b"a"
    n = len(lb.lines)
    lb.reload(broken)
    wait_until(lambda: any(lb.conf_path in x for x in lb.lines[n:]), 5, "the fault is in the log")
    assert adopted(lb, "g0") and c.request().body == b"a"
    lb.reload(remark(conf, "g1"))
    wait_until(lambda: adopted(lb, "g1"), 5, "a good file afterwards is taken")


def test_a_missing_file_changes_nothing(lab):
    conf = marked(lab, lab.origin(ok("a")), "g0")
    lb = lab.start(conf)
    n = len(lb.lines)
    os.unlink(lb.conf_path)
    lb.signal(signal.SIGHUP)
    wait_until(lambda: any(lb.conf_path in x for x in lb.lines[n:]), 5)
    assert adopted(lb, "g0")


def test_an_address_that_cannot_be_bound_changes_nothing(lab):
    conf = marked(lab, lab.origin(ok("a")), "g0")
    lb = lab.start(conf)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        conf.listen("more", bind=[f"127.0.0.1:{s.getsockname()[1]}"])
        n = len(lb.lines)
        lb.reload(remark(conf, "g1"))
        wait_until(lambda: any(str(s.getsockname()[1]) in x for x in lb.lines[n:]), 5)
        assert adopted(lb, "g0") and fetch(lb.to).body == b"a"


def test_listeners_come_and_go(lab):
    conf = marked(lab, lab.origin(ok("a")), "g0")
    lb = lab.start(conf)
    more = free_port()
    conf.listen("more", bind=[f"127.0.0.1:{more}"])
    lb.reload(conf)
    wait_until(lambda: more in listening_ports())
    assert fetch(("127.0.0.1", more)).body == b"a"
    inside = lb.client(more)
    assert inside.request().body == b"a"
    del conf.listeners["more"]
    lb.reload(remark(conf, "g2"))
    wait_until(lambda: adopted(lb, "g2"))
    wait_until(lambda: more not in listening_ports(), 5, "the old address is given up")
    assert fetch(lb.to).body == b"a"


def test_an_address_may_move_to_another_listener(lab):
    conf = marked(lab, lab.origin(ok("a")), "g0")
    lb = lab.start(conf)
    web = conf.listeners.pop("web")
    conf.listen("renamed", **dict(web, server_header="g1"))
    lb.reload(conf)
    wait_until(lambda: adopted(lb, "g1"))
    assert fetch(lb.to).body == b"a"


def test_a_request_under_way_finishes_on_the_old_configuration(lab):
    go = threading.Event()

    def reply(conn, r):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        conn.hold(go)
        return b"world"
    old, new = lab.origin(reply), lab.origin(ok("new"))
    conf = marked(lab, old, "g0")
    lb = lab.start(conf)
    c = lb.client().get()
    r = c.read_head()
    assert c.read_exactly(5) == b"hello"
    conf.pool("app", {"other": new.address})
    lb.reload(remark(conf, "g1"))
    wait_until(lambda: adopted(lb, "g1"))
    assert fetch(lb.to).body == b"new"
    go.set()
    assert r.status == 200 and c.read_exactly(5) == b"world"
    wait_until(lambda: old.open_connections == 0, 5, "kept connections to a server that is gone are closed")


def test_the_operators_word_and_health_survive_a_reload(lab):
    a, b = lab.origin(ok("a")), lab.origin(ok("b"))
    conf = marked(lab, [a, b], "g0")
    lb = lab.start(conf)
    lb.cli("drain", "app/s1")
    lb.reload(remark(conf, "g1"))
    wait_until(lambda: adopted(lb, "g1"))
    assert lb.state("s1") == "drain"
    assert {fetch(lb.to).body for _ in range(6)} == {b"b"}


def test_counters_survive_a_reload(lab):
    a = lab.origin(ok("a"))
    conf = marked(lab, a, "g0", admin_http=True)
    lb = lab.start(conf)
    for _ in range(10):
        fetch(lb.to)

    def sums():
        m = lb.metrics()
        return {k: v for k, v in m.items() if "_total" in k and "request" in k}
    wait_until(lambda: max(sums().values()) >= 10)
    before = sums()
    lb.reload(remark(conf, "g1"))
    wait_until(lambda: adopted(lb, "g1"))
    after = sums()
    lost = {k: (v, after.get(k)) for k, v in before.items() if v and after.get(k, 0) < v}
    assert not lost, f"counters went back: {lost}"
    assert a.n_connections == 1, "kept connections to a server that stays are kept"


@pytest.mark.bound(60)
def test_twenty_reloads_under_load_lose_nothing(lab):
    """Kept and new connections; servers, routes and a second listener change meanwhile."""
    nginx = [lab.nginx(f"n{i}") for i in range(3)]
    conf = marked(lab, nginx, "g0", workers=2, admin_http=True)
    lb = lab.start(conf)
    extra = free_port()
    with Load(lb.to, threads=2, path="/name") as kept, Load(lb.to, threads=2, path="/name", per_connection=1) as new, \
            Load(lb.to, threads=1, path="/dav/x", method="PUT", body=b"b" * 20000, pause=0.005,
                 check=lambda r: _in(r.status, (201, 204))) as puts:
        wait_until(lambda: kept.done > 50 and new.done > 50)
        for i in range(1, 21):
            if i % 2:
                conf.listen("extra", bind=[f"127.0.0.1:{extra}"])
            else:
                conf.listeners.pop("extra", None)
            conf.pool("app", {f"s{k}": n.address for k, n in enumerate(nginx) if k != i % 4}, balance="random")
            lb.reload(remark(conf, f"g{i}"))
            wait_until(lambda: adopted(lb, f"g{i}"))
            n, m = kept.done, new.done
            wait_until(lambda: kept.done > n + 20 and new.done > m + 10)
    for load in (kept, new, puts):
        assert not load.failures, f"{len(load.failures)} of {load.done}: {load.failures[:5]}"
    assert lb.running()


def _in(status, allowed):
    assert status in allowed, f"status {status}"


@pytest.mark.bound(60)
def test_a_listener_that_goes_loses_no_queued_connection(lab):
    """Whoever was let in is answered; afterwards connecting is refused, nothing else."""
    nginx = lab.nginx()
    conf = marked(lab, nginx, "g0", workers=2)
    lb = lab.start(conf)
    for i in range(3):
        port = free_port()
        conf.listen("extra", bind=[f"127.0.0.1:{port}"])
        lb.reload(remark(conf, f"a{i}"))
        wait_until(lambda: port in listening_ports())
        with Load(("127.0.0.1", port), threads=4, path="/name", per_connection=1) as load:
            wait_until(lambda: load.done > 50)
            del conf.listeners["extra"]
            lb.reload(remark(conf, f"b{i}"))
            wait_until(lambda: load.failures, 10)
        bad = [f for f in load.failures if "ConnectionRefused" not in f]
        assert not bad, f"{len(bad)} lost after {load.done}: {bad[:3]}"


def test_many_reloads_at_once_end_well(lab):
    conf = marked(lab, lab.origin(ok("a")), "g0", workers=2)
    lb = lab.start(conf)
    for i in range(30):
        lb.reload(remark(conf, f"g{i}"))
    wait_until(lambda: all(adopted(lb, "g29") for _ in range(20)), 10, "both workers have it")
    stays(lambda: adopted(lb, "g29"), 0.2)


def test_a_stale_unix_socket_file_is_replaced_but_a_live_one_is_not(lab):
    conf = lab.conf(lab.origin(ok("a")))
    path = f"{conf.dir}/web.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
    conf.listen("web", bind=[f"unix:{path}"])
    lb = lab.start(conf, ports=[])
    with Client(path) as c:
        assert c.request().body == b"a"
    second = lab.conf(lab.origin(ok("b")))
    second.listen("web", bind=[f"unix:{path}"])
    other = lab.start(second, ports=[], wait=False)
    assert other.wait_exit(10) != 0 and path in other.stderr
    other.expect_status = None
    assert fetch(path).body == b"a" and lb.running()
