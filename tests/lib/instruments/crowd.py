# SPDX-License-Identifier: BSD-2-Clause
"""A process of its own that holds many idle keep-alive connections: crowd.py HOST PORT N

Each connection has had one answer.  Prints "ready N" and waits for the end of its standard input.
"""

import os
import resource
import socket
import subprocess
import sys

REQUEST = b"GET /204 HTTP/1.1\r\nHost: crowd\r\n\r\n"


def main(host, port, n):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = []
    for _ in range(n):
        s = socket.create_connection((host, port), timeout=10)
        s.sendall(REQUEST)
        got = b""
        while b"\r\n\r\n" not in got:
            data = s.recv(4096)
            if not data:
                raise SystemExit(f"closed after {len(socks)} connections")
            got += data
        if not got.startswith(b"HTTP/1.1 204"):
            raise SystemExit(f"connection {len(socks)}: {got[:80]!r}")
        socks.append(s)
    print("ready", len(socks), flush=True)
    sys.stdin.read()
    alive = 0
    for s in socks:
        s.setblocking(False)
        try:
            alive += bool(s.recv(1))
        except BlockingIOError:
            alive += 1
        except OSError:
            pass
    print("alive", alive, flush=True)


class Crowd:
    """With the connections open inside the block; .alive afterwards says how many were still there."""

    def __init__(self, port, n, host="127.0.0.1"):
        self.child = subprocess.Popen([sys.executable, os.path.abspath(__file__), host, str(port), str(n)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.n, self.alive = n, None

    def __enter__(self):
        line = self.child.stdout.readline()
        assert line == f"ready {self.n}\n", f"the crowd says {line!r}"
        return self

    def leave(self):
        self.child.stdin.close()
        self.alive = int(self.child.stdout.readline().split()[1])
        self.child.wait()

    def __exit__(self, *_):
        if self.child.poll() is None:
            if self.alive is None and not self.child.stdin.closed:
                self.leave()
            self.child.kill()
        self.child.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
