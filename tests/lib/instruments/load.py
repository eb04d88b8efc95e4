# SPDX-License-Identifier: BSD-2-Clause
"""Steady requests from a few threads, every answer looked at; nothing is forgiven."""

import collections
import threading
import time

from .client import Client, Closed


class Load:
    """with Load(to, threads=4) as load: ...; assert not load.failures

    per_connection: requests before the client opens a new connection (1: one each; 0: no end).
    check(response) may raise AssertionError.  pause: seconds between requests of a thread.
    connect() makes a client, a plain one otherwise."""

    def __init__(self, to, threads=4, path="/", method="GET", body=b"", per_connection=0, pause=0.0, check=None,
                 fields=(), timeout=10, limit=100000, connect=None):
        self.to, self.path, self.method, self.body = to, path, method, body
        self.per_connection, self.pause, self.verify, self.fields = per_connection, pause, check, list(fields)
        self.timeout, self.limit = timeout, limit
        self.connect = connect or (lambda: Client(self.to, timeout=self.timeout))
        self.done, self.failures, self.statuses = 0, [], collections.Counter()
        self.servers = collections.Counter()
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)
        return self

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    def _run(self, index):
        client, used = None, 0
        for _ in range(self.limit):
            if self.stopping.is_set():
                break
            try:
                if client is None:
                    client, used = self.connect(), 0
                used += 1
                last = self.per_connection and used >= self.per_connection
                fields = self.fields + ([("Content-Length", len(self.body))] if self.body else [])
                fields += [("Connection", "close")] if last else []
                head = f"{self.method} {self.path} HTTP/1.1\r\nHost: load\r\n"
                head += "".join(f"{n}: {v}\r\n" for n, v in fields)
                client.send(head.encode() + b"\r\n" + self.body)
                r = client.read_response(self.method)
                if self.verify:
                    self.verify(r)
                else:
                    assert r.status == 200, f"status {r.status} {r.fields}"
                with self.lock:
                    self.done += 1
                    self.statuses[r.status] += 1
                    self.servers[r.fields.get("x-server", "")] += 1
                if last or "close" in [v.lower() for v in r.fields.list("connection")]:
                    client.close()
                    client = None
            except (OSError, AssertionError, Closed) as e:
                with self.lock:
                    self.failures.append(f"{time.monotonic():.3f} thread {index} request {used}: {type(e).__name__} {e}")
                if client:
                    client.close()
                client = None
                if len(self.failures) > 200:
                    break
            if self.pause:
                self.stopping.wait(self.pause)
        if client:
            client.close()

    def __len__(self):
        return self.done
