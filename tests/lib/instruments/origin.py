# SPDX-License-Identifier: BSD-2-Clause
"""An origin server that records the exact bytes it receives and answers as it is told.

    origin = Origin(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")       same answer always
    origin = Origin(lambda conn, req: ok(req.target))                          computed
    origin = Origin(script=f)    f(conn) has the whole connection: read_request, send, rst, hold ...
"""

import hashlib
import os
import socket
import struct
import threading
import time

from .client import Fields, parse_fields
from .wait import wait_until


def response(status=200, body=b"", fields=(), reason=None, length=True):
    if isinstance(body, str):
        body = body.encode()
    reason = {200: "OK", 204: "No Content", 304: "Not Modified", 404: "Not Found", 500: "Internal Server Error",
              503: "Service Unavailable"}.get(status, "Status") if reason is None else reason
    head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields)
    if length and status not in (204, 304):
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


def ok(body=b"ok", fields=()):
    return response(200, body, fields)


def chunked(*pieces, trailers=(), fields=(), status=200):
    head = f"HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields)
    out = head.encode() + b"\r\n"
    for p in pieces:
        out += b"%x\r\n%s\r\n" % (len(p), p)
    return out + b"0\r\n" + b"".join(b"%s: %s\r\n" % (n.encode(), v.encode()) for n, v in trailers) + b"\r\n"


class Request:
    """A request as it arrived, read strictly: whatever is unsound raises in the origin's thread and
    is kept in origin.faults."""

    def __init__(self):
        self.head = b""      # raw, with the empty line
        self.line = ""
        self.method = self.target = self.version = ""
        self.fields = Fields()
        self.body = b""
        self.body_len = 0
        self.sha = None
        self.framing = "none"
        self.chunks = []     # size lines as received
        self.trailers = Fields()
        self.conn = None
        self.whole = False   # body has come to its proper end
        self.at = 0.0

    def __getitem__(self, name):
        return self.fields.get(name)

    def __repr__(self):
        return f"<{self.line} {self.fields}>"


class Eof(Exception):
    pass


class OriginConn:
    def __init__(self, origin, sock, index):
        self.origin, self.sock, self.index = origin, sock, index
        self.received = bytearray()   # everything, unless origin.keep is False
        self.n_received = 0
        self.buf = bytearray()
        self.requests = []
        self.eof = threading.Event()  # the peer has ended it
        self.was_reset = False
        self.done = threading.Event() # this side has ended it

    def recv(self, n=65536):
        """Next bytes, b"" at the end (self.was_reset tells how)."""
        try:
            data = self.sock.recv(n)
        except (ConnectionResetError, BrokenPipeError):
            self.was_reset = True
            data = b""
        except OSError:
            data = b""
        if not data:
            self.eof.set()
        else:
            self.n_received += len(data)
            if self.origin.keep:
                self.received += data
        return data

    def _fill(self):
        data = self.recv()
        if not data:
            raise Eof
        self.buf += data

    def _until(self, mark):
        while True:
            i = self.buf.find(mark)
            if i >= 0:
                out = bytes(self.buf[:i + len(mark)])
                del self.buf[:i + len(mark)]
                return out
            self._fill()

    def read_line(self):
        return self._until(b"\r\n")

    def read_exactly(self, n):
        """n bytes; Eof when the connection ends before."""
        while len(self.buf) < n:
            self._fill()
        out = bytes(self.buf[:n])
        del self.buf[:n]
        return out

    def read_head(self):
        """The next request head; None at the end of the connection.  The body is not read."""
        try:
            head = self._until(b"\r\n\r\n")
        except Eof:
            return None
        r = Request()
        r.at = time.monotonic()
        r.conn, r.head = self, head
        line, _, block = head[:-4].partition(b"\r\n")
        r.line = line.decode("latin-1")
        self.requests.append(r)
        with self.origin.lock:
            self.origin.requests.append(r)
        r.method, r.target, r.version = r.line.split(" ")
        assert r.version == "HTTP/1.1", f"version {r.line!r}"
        r.fields = parse_fields(block)
        assert len(r.fields.all("host")) == 1, f"Host: {r.fields.all('host')}"
        return r

    def read_body(self, r, keep=True):
        te, cl = r.fields.list("transfer-encoding"), r.fields.all("content-length")
        sha = hashlib.sha256()
        parts = []

        def take(data):
            r.body_len += len(data)
            sha.update(data)
            if keep and self.origin.keep:
                parts.append(data)

        def exactly(n):
            while n:
                if not self.buf:
                    self._fill()
                data = bytes(self.buf[:n])
                del self.buf[:len(data)]
                n -= len(data)
                take(data)

        try:
            if te:
                assert [t.lower() for t in te] == ["chunked"] and not cl, f"framing {te} {cl}"
                r.framing = "chunked"
                while True:
                    line = self._until(b"\r\n")[:-2]
                    r.chunks.append(line)
                    size = int(line.split(b";")[0].strip(), 16)
                    if size == 0:
                        break
                    exactly(size)
                    assert self._until(b"\r\n") == b"\r\n", "chunk end"
                block = b""
                while True:
                    t = self._until(b"\r\n")
                    if t == b"\r\n":
                        break
                    block += t
                r.trailers = parse_fields(block[:-2] if block else b"")
            elif cl:
                assert len(cl) == 1 and cl[0].isdigit(), f"Content-Length {cl}"
                r.framing = "length"
                exactly(int(cl[0]))
            r.whole = True
            return True
        except Eof:
            return False
        finally:
            r.body = b"".join(parts)
            r.sha = sha.hexdigest()

    def read_request(self):
        """The next whole request; None when the connection ended first."""
        r = self.read_head()
        if r is None or not self.read_body(r):
            return None
        return r

    def send(self, data):
        """False when the peer is gone."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            self.was_reset = True
            self.eof.set()
            return False

    def send_pieces(self, pieces, pause=0.02):
        """Writes that arrive as separate segments."""
        for p in pieces:
            if not self.send(p):
                return False
            self.origin.stopping.wait(pause)
        return True

    def wait_eof(self, timeout=10):
        """Reads on until the peer ends the connection."""
        self.sock.settimeout(timeout)
        while self.recv():
            pass
        return self.eof.is_set()

    def hold(self, event, timeout=30):
        """Waits for an event of the test, or the end of the origin."""
        end = time.monotonic() + timeout
        while not event.is_set() and not self.origin.stopping.is_set() and time.monotonic() < end:
            event.wait(0.05)

    def rst(self):
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close()

    def shutdown(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.done.set()
        self.sock.close()


class Origin:
    """bind: "127.0.0.1", "::1" or "unix:/path".  keep=False: count bodies, do not store them."""

    def __init__(self, reply=None, script=None, bind="127.0.0.1", port=0, keep=True, backlog=512):
        self.reply = ok() if reply is None else reply
        self.script, self.keep, self.backlog, self.bind_to = script, keep, backlog, bind
        self.lock = threading.Lock()
        self.requests, self.connections, self.faults = [], [], []
        self.stopping = threading.Event()
        self._gen = 0
        self.port = port
        self.listener = None
        self.listen()

    # --- being there or not ----------------------------------------------------------------
    def listen(self):
        """Starts listening (again, on the same port)."""
        if self.bind_to.startswith("unix:"):
            path = self.bind_to[5:]
            if os.path.exists(path):
                os.unlink(path)
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.bind(path)
        else:
            family = socket.AF_INET6 if ":" in self.bind_to else socket.AF_INET
            s = socket.socket(family, socket.SOCK_STREAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((self.bind_to, self.port))
            self.port = s.getsockname()[1]
        s.listen(self.backlog)
        self.listener = s
        self._gen += 1
        threading.Thread(target=self._accept, args=(s, self._gen), daemon=True).start()
        return self

    def refuse(self, drop=True):
        """Stops listening: connections are refused from now on.  drop: ends the ones it has."""
        s, self.listener = self.listener, None
        if s:
            try:
                s.shutdown(socket.SHUT_RDWR)  # wakes accept()
            except OSError:
                pass
            s.close()
        if drop:
            for c in list(self.connections):
                c.rst()
        return self

    def stop(self):
        self.stopping.set()
        self.refuse(drop=False)
        for c in list(self.connections):
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            c.close()

    @property
    def address(self):
        if self.bind_to.startswith("unix:"):
            return self.bind_to
        return f"[{self.bind_to}]:{self.port}" if ":" in self.bind_to else f"{self.bind_to}:{self.port}"

    # --- what came -------------------------------------------------------------------------
    @property
    def n_connections(self):
        return len(self.connections)

    @property
    def open_connections(self):
        return sum(1 for c in list(self.connections) if not c.eof.is_set() and not c.done.is_set())

    def wait_requests(self, n, timeout=5):
        wait_until(lambda: len(self.requests) >= n, timeout, f"{n} requests at the origin, have {len(self.requests)}")
        return self.requests[n - 1]

    def wait_connections(self, n, timeout=5):
        wait_until(lambda: len(self.connections) >= n, timeout, f"{n} connections, have {len(self.connections)}")
        return self.connections[n - 1]

    def whole_requests(self):
        return [r for r in list(self.requests) if r.whole]

    def clear(self):
        with self.lock:
            self.requests.clear()

    def check(self):
        assert not self.faults, f"unsound bytes reached the origin: {self.faults}"

    # --- serving ---------------------------------------------------------------------------
    def _accept(self, listener, gen):
        while not self.stopping.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if gen != self._gen or self.listener is not listener:
                sock.close()
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = OriginConn(self, sock, len(self.connections))
            with self.lock:
                self.connections.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            if self.script:
                self.script(conn)
                return
            while True:
                r = conn.read_request()
                if r is None:
                    return
                reply = self.reply
                out = reply(conn, r) if callable(reply) else reply
                if out is not None and not conn.send(out):
                    return
                if conn.done.is_set():
                    return
        except AssertionError as e:
            self.faults.append(str(e))
        except (OSError, ValueError) as e:
            if not self.stopping.is_set() and not conn.done.is_set():
                self.faults.append(repr(e))
        finally:
            conn.done.set()
            conn.sock.close()


class Blackhole:
    """An address where connecting neither succeeds nor fails: its accept queue is full."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.fillers = []
        for _ in range(16):
            s = socket.socket()
            s.settimeout(0.2)
            self.fillers.append(s)
            try:
                s.connect(("127.0.0.1", self.port))
            except socket.timeout:
                return
        raise AssertionError("the accept queue would not fill")

    address = property(lambda self: f"127.0.0.1:{self.port}")

    def check(self):
        pass

    def stop(self):
        for s in self.fillers:
            s.close()
        self.listener.close()
