# SPDX-License-Identifier: BSD-2-Clause
"""An agent that says what the test wants: a stream of reports as `meercat agent` writes them.

    agent = FakeAgent(cores=4, busy=0.5)     busy: cores in use by nobody's request
    agent.busy = 3.6;  agent.line = "cpu_utilization=nan";  agent.stop()
"""

import socket
import threading
import time


class FakeAgent:
    def __init__(self, cores=4, busy=0.0, port=0, bind="127.0.0.1"):
        self.cores, self.busy = cores, busy
        self.line = None  # said instead
        self.reports = 0
        self.boot = int(time.time())
        self.seq, self.cpu_s, self.at = 0, 0.0, time.monotonic()
        self.stopping = threading.Event()
        self.sock = socket.create_server((bind, port))
        self.port = self.sock.getsockname()[1]
        self.address = f"{bind}:{self.port}"
        self.conns = []
        self.paces = {}  # seconds between reports, by connection
        threading.Thread(target=self._accept, daemon=True).start()

    def _report(self):
        now = time.monotonic()
        self.cpu_s += self.busy * (now - self.at)
        self.at = now
        self.seq += 1
        named = {"cores": self.cores, "cpu_seconds": f"{self.cpu_s:.6f}", "cpu_pressure": 0, "boot": self.boot,
                 "seq": self.seq, "time": int(time.time() * 1000)}
        return f"cpu_utilization={self.busy / self.cores:.4f}," + ",".join(
            f"named_metrics.{k}={v}" for k, v in named.items())

    def _accept(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.conns.append(c)
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                got = c.recv(4096)
                if not got:
                    return
                head += got
            interval = head.split(b"interval=")[1].split()[0].decode()
            pause = float(interval[:-2]) / 1000 if interval.endswith("ms") else float(interval[:-1])
            self.paces[c] = pause
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
            while not self.stopping.wait(pause):
                c.sendall((self.line or self._report()).encode() + b"\n")
                self.reports += 1
        except OSError:
            pass

    @staticmethod
    def gone(conn):
        """True when the other side has closed the connection."""
        try:
            return conn.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def stop(self):
        self.stopping.set()
        self.sock.close()
        for c in self.conns:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            c.close()

    def check(self):
        pass
