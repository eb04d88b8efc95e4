# SPDX-License-Identifier: BSD-2-Clause
"""Everything at once: bodies of all kinds, clients and servers that break off, reloads.  Whatever is
answered is right to the byte, and the balancer lives.

MEERCAT_ROUNDS and MEERCAT_SEED make it longer and other."""

import hashlib
import os
import random
import threading
import time

import pytest

from instruments.client import Client, Closed
from instruments.origin import ok
from instruments.wait import wait_until

ROUNDS = int(os.environ.get("MEERCAT_ROUNDS", 10))
SEED = int(os.environ.get("MEERCAT_SEED", 1))
SIZES = (0, 1, 100, 4096, 16383, 16384, 16385, 65536, 70000, 262144, 300000, 1500000)


def behave(seed):
    """An origin that echoes, framed one way or another, and now and then misbehaves when asked to."""
    def script(conn):
        rng = random.Random(seed + conn.index)
        while (r := conn.read_request()) is not None:
            how = r.fields.get("x-how", "")
            body, sha = r.body, r.sha
            head = f"HTTP/1.1 200 OK\r\nX-Sha: {sha}\r\n"
            if how == "refuse":
                conn.rst()
                return
            if how == "cut":
                conn.send(f"{head}Content-Length: {len(body) + 10}\r\n\r\n".encode() + body)
                (conn.rst if rng.random() < 0.5 else conn.close)()
                return
            kind = rng.randrange(4)
            if kind == 0:
                out = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            elif kind == 1:
                out = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
                i = 0
                while i < len(body):
                    n = rng.choice((1, 10, 1000, 20000, 100000))
                    piece = body[i:i + n]
                    out += b"%x\r\n%s\r\n" % (len(piece), piece)
                    i += n
                    if len(out) > 1 << 22:
                        break
                out += b"" if i < len(body) else b"0\r\n\r\n"
            elif kind == 2:
                conn.send(f"{head}\r\n".encode() + body)
                conn.close()
                return
            else:
                out = f"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            if rng.random() < 0.3 and len(out) > 2:
                cut = rng.randrange(1, len(out))
                conn.send(out[:cut])
                time.sleep(rng.random() * 0.005)
                conn.send(out[cut:])
            else:
                conn.send(out)
            if rng.random() < 0.05:
                conn.close()
                return
    return script


class Mischief(threading.Thread):
    def __init__(self, to, seed, stop):
        super().__init__(daemon=True)
        self.to, self.rng, self.stop = to, random.Random(seed), stop
        self.data = random.Random(seed).randbytes(max(SIZES))
        self.whole = self.broken = 0
        self.wrong = []

    def run(self):
        c = None
        while not self.stop.is_set():
            try:
                if c is None or c.eof:
                    c = Client(self.to, timeout=15)
                c = self.one(c)
            except Closed:
                self.broken += 1
                c = None
            except (AssertionError, ValueError) as e:
                self.wrong.append(repr(e)[:300])
                c = None
            except OSError:
                self.broken += 1
                c = None

    def one(self, c):
        rng = self.rng
        size = rng.choice(SIZES)
        body = self.data[:size]
        how = rng.choices(("echo", "refuse", "cut", "leave"), (12, 1, 1, 2))[0]
        head = f"PUT /{size} HTTP/1.1\r\nHost: t\r\nX-How: {how}\r\n"
        if rng.random() < 0.5:
            message = f"{head}Content-Length: {size}\r\n\r\n".encode() + body
        else:
            half = rng.randrange(size + 1)
            message = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"".join(
                b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:half], body[half:]) if p) + b"0\r\n\r\n"
        if how == "leave":
            c.send_some(message[:rng.randrange(len(message))])
            (c.rst if rng.random() < 0.5 else c.close)()
            return None
        if rng.random() < 0.2:
            cut = rng.randrange(len(message))
            c.send(message[:cut])
            time.sleep(rng.random() * 0.003)
            c.send(message[cut:])
        else:
            c.send(message)
        r = c.read_response("PUT")
        if r.status != 200:
            assert how == "refuse" or how == "cut" or r.status in (502, 503), f"{how} {r}"
            return None if "close" in r.fields.list("connection") else c
        assert how != "cut", f"a cut body looks whole: {r}"
        assert r.body == body, f"{size} bytes sent, {len(r.body)} other bytes came back, {r.fields}"
        assert r["x-sha"] == hashlib.sha256(body).hexdigest(), "the server received something else"
        self.whole += 1
        return None if "close" in r.fields.list("connection") else c


@pytest.mark.bound(60 + ROUNDS)
@pytest.mark.parametrize("splice", ["0", "64KiB"], ids=["copy", "splice"])
def test_everything_at_once(lab, splice):
    origins = [lab.origin(script=behave(1000 * i + SEED)) for i in range(3)]
    conf = lab.conf(origins, workers=2, splice_from=splice, pool={"eject_after": 0, "retry_min": 1000},
                    listen={"server_header": "g"}, log="json")
    lb = lab.start(conf)
    stop = threading.Event()
    crowd = [Mischief(lb.to, 100 * SEED + i, stop) for i in range(8)]
    for m in crowd:
        m.start()
    try:
        for i in range(ROUNDS):
            n = sum(m.whole for m in crowd)
            wait_until(lambda: not lb.running() or sum(m.whole for m in crowd) > n + 40, 20, "answers keep coming")
            assert lb.running(), lb.stderr[-3000:]
            conf.listeners["web"]["server_header"] = f"g{i}"
            lb.reload(conf)
    finally:
        stop.set()
        for m in crowd:
            m.join(20)
    wrong = [w for m in crowd for w in m.wrong]
    assert not wrong, f"{len(wrong)} wrong of {sum(m.whole for m in crowd)}: {wrong[:5]}"
    for o in origins:
        assert not o.faults, o.faults[:3]
    wait_until(lambda: all(o.open_connections <= 100 for o in origins))
    lb.log_json(100)
