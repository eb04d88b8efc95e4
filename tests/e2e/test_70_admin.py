# SPDX-License-Identifier: BSD-2-Clause
"""What an operator and a collector of metrics can see."""

import json
import os
import socket
import subprocess

import pytest

from instruments.client import Client, Closed, fetch
from instruments.meercat import command
from instruments.origin import chunked, ok, response
from instruments.wait import wait_until


@pytest.fixture
def seen(lab):
    """A balancer that has something to tell: good, failing and dead servers, some traffic."""
    a = lab.origin(lambda conn, r: response(404) if r.target == "/missing" else chunked(b"abc") if r.target == "/c" else ok("hello"))
    b = lab.origin(response(500))
    conf = lab.conf({"a": a, "b": b, "spare": {"address": lab.origin(), "backup": True}},
                    admin_http=True, workers=2, pool={"eject_after": 0, "check": {"type": "tcp", "interval": "100ms"}})
    conf.pool("odd-name.2", {"x": "127.0.0.1:1"}).route("odd", "odd-name.2", path="/odd")
    conf.routes["all"] = conf.routes.pop("all")  # after the other one
    lb = lab.start(conf)
    c = lb.client()
    for path in ("/", "/", "/missing", "/missing", "/c", "/c", "/odd"):
        c.request(path)
    bad = lb.client()
    bad.send(b"BAD\r\n\r\n")
    bad.drain()
    return lb


def admin(lb):
    host, port = lb.conf.top["admin"]["http"].rsplit(":", 1)
    return host, int(port)


def test_status_for_people(seen):
    out = seen.cli("status").stdout
    for word in ("workers", "servers", "connections", "requests", "generation"):
        assert word in out
    assert not out.lstrip().startswith("{")


def test_status_as_json(seen):
    status = seen.cli_json("status")
    text = json.dumps(status)
    assert isinstance(status, dict) and "version" in text and "epoll" in text or "uring" in text


def test_servers_for_people(seen):
    out = seen.cli("servers").stdout
    lines = {l.split()[0]: l for l in out.splitlines() if l.strip()}
    assert any("a" in k for k in lines) and "up" in out and "backup" in out.lower()


def test_servers_as_json(seen):
    servers = seen.servers()
    assert {"app/a", "app/b", "app/spare"} <= set(servers), servers
    s = servers["app/a"]
    assert seen.state("a") == "up" and "127.0.0.1" in json.dumps(s) and any("since" in k for k in s)
    assert "odd-name.2/x" in servers


def test_without_a_balancer_the_command_says_so(tmp_path):
    for name in ("status", "servers"):
        r = command(name, "--socket", str(tmp_path / "none.sock"))
        assert r.returncode != 0 and "none.sock" in r.stderr


def test_metrics_are_what_prometheus_wants(seen):
    r = fetch(admin(seen), "/metrics")
    assert r.status == 200 and r["content-type"].startswith("text/plain")
    p = subprocess.run(["promtool", "check", "metrics"], input=r.body, capture_output=True)
    assert p.returncode == 0 and not p.stdout and not p.stderr, (p.stdout + p.stderr).decode()[:3000]


def test_metrics_count_what_happened(seen):
    text = fetch(admin(seen), "/metrics").body.decode()
    assert all(line.startswith(("#", "meercat_")) for line in text.splitlines() if line), "names begin with meercat_"
    m = seen.metrics()
    assert seen.metric("meercat_server_responses_total", server="a", code="4xx") == 1
    assert seen.metric("meercat_server_responses_total", server="a", code="2xx") >= 1
    assert seen.metric("meercat_server_responses_total", server="b", code="5xx") >= 2
    assert seen.metric("meercat_process_requests_bad_total") == 1
    assert seen.metric("meercat_server_status", server="a", state="up") == 1
    assert seen.metric("meercat_server_status", server="a", state="down") == 0
    assert any("_seconds_bucket{" in k for k in m), "a histogram of times"


def test_metrics_have_the_labels_of_haproxy(seen):
    """So that what people have for haproxy_server_* needs one word changed."""
    labels = [k for k in seen.metrics() if k.startswith("meercat_server_")]
    assert labels and all('proxy="' in k and 'server="' in k for k in labels), labels[:3]


def test_metrics_only_grow(seen):
    before = seen.metrics()
    for _ in range(5):
        fetch(seen.to)
    after = seen.metrics()
    for k, v in before.items():
        if k.split("{")[0].endswith(("_total", "_count", "_sum", "_bucket")):
            assert after.get(k, -1) >= v, k
    grown = [k for k in after if k.split("{")[0].endswith("requests_total") and after[k] >= before.get(k, 0) + 5]
    assert grown


def test_healthz(seen):
    assert fetch(admin(seen), "/healthz").status == 200


def test_the_http_door_only_reads(seen):
    for method in ("POST", "PUT", "DELETE"):
        with Client(admin(seen)) as c:
            c.send(f"{method} /metrics HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
            assert c.read_response().status in (400, 403, 404, 405, 501)
    assert fetch(admin(seen), "/nothing").status == 404
    assert seen.state("a") == "up"


def test_the_doors_survive_rubbish(seen):
    for to in (admin(seen), seen.socket_path):
        for data in (b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50000, b"{" * 10000 + b"\n",
                     b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n"):
            with Client(to) as c:
                c.send_some(data)
                try:
                    c.shutdown()
                except OSError:
                    pass
                try:
                    c.sock.settimeout(2)
                    while c.sock.recv(65536):
                        pass
                except OSError:
                    pass
    assert fetch(admin(seen), "/metrics").status == 200
    assert seen.cli("status").returncode == 0


def test_a_silent_visitor_does_not_block_the_door(seen):
    visitors = [Client(admin(seen)) for _ in range(50)] + [Client(seen.socket_path) for _ in range(20)]
    for v in visitors:
        v.send(b"GET /met")
    assert fetch(admin(seen), "/metrics").status == 200
    assert seen.cli("status").returncode == 0
    assert fetch(seen.to).status in (200, 500)
    for v in visitors:
        v.close()


def test_the_socket_is_not_for_everybody(seen):
    assert os.stat(seen.socket_path).st_mode & 0o007 == 0


def test_splice_is_counted(lab):
    big = b"x" * (4 << 20)
    lb = lab.proxy(lab.origin(ok(big)), admin_http=True, splice_from="64KiB")
    assert fetch(lb.to).body == big

    def spliced():
        return sum(v for k, v in lb.metrics().items() if "splice" in k)
    wait_until(lambda: spliced() > 1 << 20, 5, "bodies above the threshold are spliced")


def test_gauges_come_back_to_zero(lab):
    lb = lab.proxy(lab.origin(), admin_http=True)
    clients = [lb.client() for _ in range(5)]
    for c in clients:
        c.request()

    def now():
        m = lb.metrics()
        return {k: v for k, v in m.items() if "current" in k or "active" in k or "in_flight" in k}
    assert now(), "no gauges of what is going on"
    for c in clients:
        c.close()
    wait_until(lambda: all(v == 0 for k, v in now().items() if "session" in k or "connections" in k and "idle" not in k and "server" not in k),
               5, "connections of clients that left are counted off")


def test_the_same_door_serves_curl(seen):
    r = subprocess.run(["curl", "-sS", "-m", "5", "--unix-socket", seen.socket_path, "http://x/metrics"], capture_output=True)
    assert r.returncode in (0, 22, 52, 1, 56)  # whatever the socket speaks, it answers or closes
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(seen.socket_path)
    assert Closed


def test_orders_answer_scripts_in_json(lab):
    lb = lab.proxy([lab.origin(ok("x"))])
    said = lb.cli_json("drain", "app/s1")
    assert said["state"] == "drain" and said["name"] == "s1"
    assert lb.cli_json("weight", "app/s1", "9")["weight"] == 9
    said = lb.cli_json("unset", "app/s1")
    assert said["state"] == "up" and said["weight"] == 1
    r = lb.cli("drain", "app/nobody", "--json", ok=False)
    assert r.returncode == 1 and "nobody" in json.loads(r.stdout)["error"]
    assert lb.cli_json("reload")["ok"] is True
    with open(lb.conf_path, "a") as f:
        f.write("nonsense = 1\n")
    r = lb.cli("reload", "--json", ok=False)
    assert r.returncode == 1 and "nonsense" in json.loads(r.stdout)["text"]
    assert lb.cli_json("leave")["leaving"] is True
    assert lb.wait_exit() == 0
    r = command("drain", "--socket", lb.socket_path, "--json", "app/s1")
    assert r.returncode == 1 and json.loads(r.stdout)["error"]
