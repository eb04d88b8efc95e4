# SPDX-License-Identifier: BSD-2-Clause
"""Real servers behind it, real clients before it."""

import hashlib
import os
import re
import subprocess

import pytest

from instruments.client import fetch
from instruments.load import Load
from instruments.origin import ok
from instruments.wait import SLOW, wait_until


def curl(*args, data=None):
    r = subprocess.run(["curl", "-sS", "-m", str(int(20 * SLOW)), *args], input=data, capture_output=True)
    assert r.returncode == 0, r.stderr.decode()
    return r.stdout


def url(lb, path="/"):
    return f"http://127.0.0.1:{lb.port}{path}"


def test_four_nginx_each_answer(lab):
    origins = [lab.nginx(f"n{i}") for i in range(4)]
    lb = lab.proxy(origins)
    got = {curl(url(lb, "/name")) for _ in range(8)}
    assert got == {b"n0\n", b"n1\n", b"n2\n", b"n3\n"}


def test_nginx_and_haproxy_together(lab):
    lb = lab.proxy({"n": lab.nginx("n"), "h": lab.haproxy("h")})
    got = {curl(url(lb, "/name")) for _ in range(4)}
    assert got == {b"n\n", b"h GET /name\n"}


def test_nginx_sees_who_asked(lab):
    lb = lab.proxy(lab.nginx())
    out = curl("-H", "Host: shop.example", url(lb, "/headers?x=1")).decode()
    assert out == "127.0.0.1|1.1 meercat|shop.example|/headers?x=1\n"


def test_before_haproxy_before_nginx(lab):
    nginx = lab.nginx()
    big = os.urandom(3 << 20)
    with open(os.path.join(nginx.root, "big"), "wb") as f:
        f.write(big)
    lb = lab.proxy(lab.haproxy(backend=nginx.address))
    assert curl(url(lb, "/big")) == big
    front = lab.haproxy("front", backend=f"127.0.0.1:{lb.port}")
    assert curl(f"http://{front.address}/big") == big, "and behind HAProxy"


def test_curl_in_http10_and_http11(lab):
    nginx = lab.nginx("n")
    lb = lab.proxy(nginx)
    assert curl("--http1.0", url(lb, "/name")) == b"n\n"
    assert curl("--http1.1", url(lb, "/name")) == b"n\n"
    assert curl("--http2", url(lb, "/name")) == b"n\n", "an offer of h2c is declined, the request answered"


def test_several_requests_of_one_curl_share_a_connection(lab):
    lb = lab.proxy(lab.nginx("n"))
    out = subprocess.run(["curl", "-sv", "-m", "10"] + [url(lb, "/name")] * 3, capture_output=True)
    assert out.stdout == b"n\n" * 3 and out.stderr.count(b"Re-using existing connection") == 2


def test_head_ranges_and_conditions(lab):
    nginx = lab.nginx()
    data = os.urandom(100000)
    with open(os.path.join(nginx.root, "f"), "wb") as f:
        f.write(data)
    lb = lab.proxy(nginx)
    head = curl("-I", url(lb, "/f")).decode().lower()
    assert " 200 " in head and "content-length: 100000" in head
    assert curl("-r", "100-199", url(lb, "/f")) == data[100:200]
    assert b"multipart/byteranges" in curl("-i", "-r", "0-1,5-9", url(lb, "/f"))
    etag = re.search(r"etag: (.*)\r", head).group(1)
    r = fetch(lb.to, "/f", fields=[("If-None-Match", etag)])
    assert r.status == 304 and r.body == b""


@pytest.mark.parametrize("how", ["length", "chunked", "expect"])
def test_upload_and_download_with_checksums(lab, how, tmp_path):
    nginx = lab.nginx()
    lb = lab.proxy(nginx)
    data = os.urandom(30 << 20)
    path = tmp_path / "up"
    path.write_bytes(data)
    fields = {"length": ["-H", "Expect:"], "chunked": ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"],
              "expect": ["-H", "Expect: 100-continue"]}[how]
    curl("-T", str(path), *fields, url(lb, "/dav/x"))
    with open(os.path.join(nginx.root, "dav", "x"), "rb") as f:
        assert hashlib.sha256(f.read()).digest() == hashlib.sha256(data).digest()
    assert hashlib.sha256(curl(url(lb, "/dav/x"))).digest() == hashlib.sha256(data).digest()
    assert hashlib.sha256(curl("--limit-rate", "100M", url(lb, "/dav/x"))).digest() == hashlib.sha256(data).digest()


def test_gzip_from_nginx_is_chunked_and_passes(lab):
    nginx = lab.nginx(http="gzip on; gzip_types text/plain; gzip_min_length 1; gzip_proxied any;")
    with open(os.path.join(nginx.root, "t.txt"), "w") as f:
        f.write("meercat\n" * 100000)
    lb = lab.proxy(nginx)
    r = fetch(lb.to, "/t.txt", fields=[("Accept-Encoding", "gzip")])
    assert r["content-encoding"] == "gzip" and r.framing == "chunked"
    assert curl("--compressed", url(lb, "/t.txt")) == b"meercat\n" * 100000


def test_many_curls_at_once(lab):
    lb = lab.proxy([lab.nginx("a"), lab.nginx("b")], workers=2)
    r = subprocess.run(["curl", "-sS", "-m", "20", "-Z", "--parallel-max", "20"] + [url(lb, "/name")] * 100, capture_output=True)
    assert r.returncode == 0 and r.stdout.count(b"\n") == 100


@pytest.mark.slow
def test_wrk(lab):
    lb = lab.proxy([lab.nginx("a"), lab.nginx("b")], workers=2)
    r = subprocess.run(["wrk", "-t1", "-c50", "-d2s", url(lb, "/name")], capture_output=True, text=True)
    assert r.returncode == 0 and "Socket errors" not in r.stdout and "Non-2xx" not in r.stdout, r.stdout
    assert int(re.search(r"(\d+) requests in", r.stdout).group(1)) > 500


@pytest.mark.slow
def test_h2load_over_http1(lab):
    lb = lab.proxy([lab.nginx("a"), lab.nginx("b")], workers=2)
    for extra in ([], ["-m", "8"]):  # the second pipelines
        r = subprocess.run(["h2load", "--h1", "-n", "10000", "-c", "20", "-t", "1", *extra, url(lb, "/name")],
                           capture_output=True, text=True)
        assert r.returncode == 0 and "10000 succeeded, 0 failed, 0 errored" in r.stdout, r.stdout


@pytest.mark.slow
def test_wrk_uploads(lab, tmp_path):
    script = tmp_path / "post.lua"
    script.write_text('wrk.method = "POST"\nwrk.body = string.rep("x", 10240)\n')
    origin = lab.nginx(location="location /post { return 200 ok; }")
    lb = lab.proxy(origin, workers=2)
    r = subprocess.run(["wrk", "-t1", "-c20", "-d1s", "-s", str(script), url(lb, "/post")], capture_output=True, text=True)
    assert "Socket errors" not in r.stdout and "Non-2xx" not in r.stdout, r.stdout


def test_the_python_client_agrees(lab):
    import http.client
    origin = lab.origin(lambda conn, r: ok(r.body))
    lb = lab.proxy(origin)
    c = http.client.HTTPConnection("127.0.0.1", lb.port, timeout=10)
    for i in range(3):
        c.request("POST", "/", body=iter([b"a", b"b", b"%d" % i]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        assert c.getresponse().read() == b"ab%d" % i
    c.close()


def test_a_server_restarts_under_load(lab):
    a, b = lab.nginx("a"), lab.nginx("b")
    lb = lab.proxy([a, b], workers=2, pool={"retry_min": 1000, "eject_time": "200ms"})
    with Load(lb.to, threads=3, path="/name") as load:
        wait_until(lambda: load.servers["a"] > 30)
        a.stop()
        n = load.done
        wait_until(lambda: load.done > n + 100)
        lab.nginx("a", port=a.port)
        n = load.servers["a"]
        wait_until(lambda: load.servers["a"] > n + 20, 10, "the server that came back is used again")
    assert not load.failures, load.failures[:5]
