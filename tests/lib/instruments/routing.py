# SPDX-License-Identifier: BSD-2-Clause
"""Who brings traffic to balancers: BIRD and keepalived, as the files in packaging/ have them, and a client
that finds out for how long it was away.

    with host: bird = lab.add(Bird(lab.dir("bird"), "balancer.conf", {"10.0.0.1": host.address}))
    with client, Probe(("192.0.2.10", 80)) as probe: ...; probe.gap(since)
"""

import errno
import os
import selectors
import signal
import socket
import struct
import subprocess
import threading
import time

from .meercat import ROOT
from .process import Process
from .wait import wait_until

PACKAGING = os.path.join(ROOT, "packaging")


def _replaced(path, words):
    with open(os.path.join(PACKAGING, path)) as f:
        text = f.read()
    for old, new in words.items():
        assert old in text, f"{path} has no {old!r}"
        text = text.replace(old, new)
    return text


class Bird(Process):
    """One of packaging/bird, with words of it replaced.  Inside the host's namespace."""

    def __init__(self, directory, example, words):
        conf, self.socket = os.path.join(directory, "bird.conf"), os.path.join(directory, "bird.ctl")
        with open(conf, "w") as f:
            f.write(_replaced(f"bird/{example}", dict({"log syslog all": "log stderr all"}, **words)))
        super().__init__(["setpriv", "--pdeathsig", "KILL", "bird", "-f", "-c", conf, "-s", self.socket,
                          "-P", os.path.join(directory, "bird.pid")])
        wait_until(lambda: self.running() and os.path.exists(self.socket), 10, f"bird runs\n{self.stderr}")

    def ask(self, *words):
        return subprocess.run(["birdc", "-s", self.socket, *words], capture_output=True, text=True, timeout=20).stdout


class Keepalived(Process):
    def __init__(self, directory, words):
        conf = os.path.join(directory, "keepalived.conf")
        with open(conf, "w") as f:
            f.write(_replaced("keepalived/keepalived.conf", words))
        super().__init__(["setpriv", "--pdeathsig", "KILL", "keepalived", "-n", "-l", "-D", "-P", "-G", "-f", conf,
                          "-p", os.path.join(directory, "pid"), "-r", os.path.join(directory, "vrrp.pid")])

    def begin_stop(self):
        """It waits for a second."""
        self.child.send_signal(signal.SIGTERM)

    def stop(self):
        return super().stop(timeout=10)


class Probe:
    """Asks every few milliseconds by a connection of its own, and keeps what became of each."""

    EVERY_S = 0.005
    SLOW_S = 0.15   # an answer that took longer came by a packet that was sent again
    GIVE_UP_S = 5.0

    def __init__(self, to):
        self.to, self.bad, self.n_good, self.done_at = to, [], 0, 0.0
        self._selector, self._stopping = selectors.DefaultSelector(), threading.Event()
        self._waiting = {}  # socket: when it began; looked at from outside, too
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self.n_good >= 20, 20, f"answers of {self.to}")
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join(20)

    def _begin(self, now):
        s = socket.socket()
        s.setblocking(False)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
        rv = s.connect_ex(self.to)
        if rv not in (0, errno.EINPROGRESS):
            self._end(s, now, False)
        else:
            self._selector.register(s, selectors.EVENT_WRITE, [now, b""])
            with self._lock:
                self._waiting[s] = now

    def _end(self, s, began, good):
        with self._lock:
            self._waiting.pop(s, None)
            self._note(began, good)
        s.close()

    def _note(self, began, good):
        now = time.monotonic()
        if good and now - began < self.SLOW_S:
            self.n_good += 1
        else:
            self.bad.append(began)
        self.done_at = now

    def _step(self, key):
        s, (began, head) = key.fileobj, key.data
        try:
            if key.events == selectors.EVENT_WRITE:
                s.sendall(b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
                self._selector.modify(s, selectors.EVENT_READ, key.data)
                return
            data = s.recv(4096)
        except OSError:
            data = b""
        if data and b"\r\n\r\n" not in head + data:
            key.data[1] = head + data
            return
        self._selector.unregister(s)
        self._end(s, began, (head + data).startswith(b"HTTP/1.1 200"))

    def _give_up(self, now):
        for key in list(self._selector.get_map().values()):
            if now - key.data[0] > self.GIVE_UP_S:
                self._selector.unregister(key.fileobj)
                self._end(key.fileobj, key.data[0], False)

    def _run(self):
        due = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= due:
                due = max(due + self.EVERY_S, now - 0.1)
                self._begin(now)
            for key, _ in self._selector.select(max(0.0, min(self.EVERY_S, due - time.monotonic()))):
                self._step(key)
            self._give_up(now)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()

    def settled(self, since, quiet_s=1.0):
        """For so long, none that began after that moment went wrong, and those before it are known."""
        with self._lock:
            now = time.monotonic()
            pending = [b for b in self._waiting.values() if b < now - self.SLOW_S]
            return not pending and now - max([since, *self.bad]) > quiet_s

    def gap(self, since, timeout=30, quiet_s=1.0):
        """Seconds from that moment to the begin of the last attempt that went wrong; how many did."""
        wait_until(lambda: self.settled(since, quiet_s), timeout, "traffic flows again", interval=0.05)
        bad = [b for b in self.bad if b >= since - self.SLOW_S]
        return max(0.0, max(bad, default=since) - since), len(bad)
