# SPDX-License-Identifier: BSD-2-Clause
"""bench/run and its load generator: they give figures, and forgive nothing.  What the figures are is no
business of a test."""

import json
import os
import socket
import ssl
import subprocess
import threading

import pytest

from instruments.lab import Lab
from instruments.meercat import BINARY, ROOT, san_env
from instruments.origin import ok
from instruments.pki import Authority
from instruments.tools import tools
from instruments.wait import SLOW

PROGRAM = os.path.join(ROOT, "bench/run")

pytestmark = [pytest.mark.slow, pytest.mark.bound(200), pytest.mark.long]


def bench(tmp_path, cases, *arguments):
    told, tmp = tmp_path / "told.json", tmp_path / "tmp"
    tmp.mkdir()
    done = subprocess.run([PROGRAM, "--meercat", BINARY, "--json", str(told), "--cases", cases, *arguments],
                          capture_output=True, text=True, timeout=180 * SLOW,
                          env={**os.environ, **san_env(), "TMPDIR": str(tmp), "BENCH_ROUNDS": "1",
                               "BENCH_SECONDS": "0.02"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.listdir(tmp) == []
    return json.loads(told.read_text()), done.stdout


@pytest.mark.parametrize("group,n_cases", [("http1", 6), ("protocols", 14)])
def test_every_case_is_measured(tmp_path, group, n_cases):
    told, text = bench(tmp_path, group, "--proxies", "meercat-epoll,haproxy,nginx")
    assert len(told["summary"]) == n_cases
    for case, rows in told["summary"].items():
        assert f"\n{case}: " in text
        assert rows.keys() == {"meercat-epoll", "haproxy", "nginx"}
        for row in rows.values():
            assert row["cpu_us"][0] > 0 and row["rps"][0] > 0 and row["errors"] == 0


def test_names_that_are_unknown_are_refused():
    for option in ("--cases", "--proxies"):
        r = subprocess.run([PROGRAM, "--meercat", BINARY, option, "luck"], capture_output=True, text=True, timeout=60)
        assert r.returncode == 2 and "'luck'" in r.stderr, r.stderr


# --- the load generator against servers that are wrong --------------------------------------------------------

@pytest.fixture(scope="module")
def load():
    program = os.path.join(tools(), "load")

    def run(port, *options):
        r = subprocess.run([program, "-p", str(port), "-c", "1", "-n", "3", "-t", "5", *options], capture_output=True,
                           text=True, timeout=30 * SLOW)
        told = json.loads(r.stdout)
        assert (r.returncode != 0) == (told["errors"] > 0)
        return {k.removeprefix("error_"): v for k, v in told.items() if k.startswith("error_") and v > 0}
    return run


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Authority(str(tmp_path_factory.mktemp("pki"))).issue("bench.example")


@pytest.fixture
def lab():
    lab = Lab("none")
    yield lab
    lab.end()


def test_answers_that_are_not_what_was_asked_for_are_errors(lab, load):
    assert load(lab.origin(ok(b"x" * 100)).port) == {}
    assert load(lab.origin(ok(b"x" * 99)).port) == {"length": 3}
    assert load(lab.origin(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").port) == {"status": 3}


def test_a_server_that_does_not_switch_is_an_error(lab, load):
    assert load(lab.origin(ok(b"x")).port, "-W", "-b", "64") == {"status": 3}


@pytest.fixture
def serve():
    """serve(fn): a server whose connections are given to fn, one after the other; returns its port."""
    listeners, threads = [], []

    def start(fn):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run():
            while True:
                try:
                    c, _ = listener.accept()
                except OSError:
                    return
                with c:
                    try:
                        fn(c)
                    except OSError:
                        pass
        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return listener.getsockname()[1]
    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for t in threads:
        t.join()


SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


def test_an_echo_that_differs_is_an_error(load, serve):
    def wrong(c):
        c.recv(4096)
        c.sendall(SWITCH)
        c.recv(4096)
        c.sendall(b"\x82\x04abXd")

    def right(c):
        c.recv(4096)
        c.sendall(SWITCH)
        while c.recv(4096):
            c.sendall(b"\x82\x04abcd")
    assert load(serve(wrong), "-W", "-b", "4") == {"echo": 3}
    assert load(serve(right), "-W", "-b", "4") == {}


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_session_that_is_not_resumed_is_an_error(load, serve, certificate, version):
    def context():
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(certificate)
        return ctx

    def answer(c, ctx):
        with ctx.wrap_socket(c, server_side=True) as t:
            t.recv(4096)
            t.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)
            t.recv(1)
    one = context()
    remembers, forgets = serve(lambda c: answer(c, one)), serve(lambda c: answer(c, context()))
    for port in (remembers, forgets):
        assert load(port, "-T", version, "-f") == {}
    assert load(remembers, "-T", version, "-f", "-r") == {}
    assert load(forgets, "-T", version, "-f", "-r") == {"resumption": 2}


def test_what_is_not_tls_is_an_error(load, serve):
    port = serve(lambda c: c.recv(4096) and c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert load(port, "-T", "1.3", "-f") == {"tls": 3}
