# SPDX-License-Identifier: BSD-2-Clause
"""A client that sends exactly the bytes it is given and reads exactly one response at a time."""

import socket
import struct
import time

from .wait import SLOW


class Closed(Exception):
    """The connection ended before what was being read was whole.  data: what had come of it."""

    def __init__(self, data, reset, what=""):
        super().__init__(f"{'reset' if reset else 'closed'} {what} after {len(data)} bytes: {bytes(data[:200])!r}")
        self.data = bytes(data)
        self.reset = reset


class Fields(list):
    """(name, value) pairs as received, with look-ups in any case."""

    def all(self, name):
        return [v for n, v in self if n.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else default

    def list(self, name):
        """The members of a comma-separated field, over all its lines."""
        return [m.strip() for v in self.all(name) for m in v.split(",") if m.strip()]

    def names(self):
        return [n.lower() for n, _ in self]

    def __contains__(self, name):
        return bool(self.all(name))


def parse_fields(block):
    """Strict reading of field lines (without the empty line); AssertionError on anything unsound."""
    fields = Fields()
    if not block:
        return fields
    for line in block.split(b"\r\n"):
        assert b"\n" not in line and b"\r" not in line and b"\0" not in line, f"bare CR, LF or NUL: {line!r}"
        assert not line.startswith((b" ", b"\t")), f"folded line: {line!r}"
        name, colon, value = line.partition(b":")
        assert colon and name and not name.endswith((b" ", b"\t")), f"bad field line: {line!r}"
        fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    return fields


class Response:
    def __init__(self):
        self.version = self.reason = ""
        self.status = 0
        self.fields = Fields()
        self.body = b""
        self.framing = None   # "none", "length", "chunked", "close"
        self.chunks = []      # (size line as received, data)
        self.trailers = Fields()
        self.interim = []     # 1xx responses that came before
        self.head = b""

    def __repr__(self):
        return f"<{self.version} {self.status} {self.fields} {self.body[:80]!r}>"

    def __getitem__(self, name):
        return self.fields.get(name)


class Client:
    """One connection.  to: (host, port) or the path of a unix socket."""

    def __init__(self, to, timeout=10.0, rcvbuf=None, source=None):
        family = socket.AF_UNIX if isinstance(to, str) else (
            socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.timeout = timeout * SLOW
        self.sock.settimeout(self.timeout)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect(to)
        if family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = bytearray()
        self.eof = False
        self.was_reset = False

    # --- sending ---------------------------------------------------------------------------
    def send(self, data):
        if isinstance(data, str):
            data = data.encode("latin-1")
        self.sock.sendall(data)
        return self

    def send_some(self, data):
        """Like send, but a peer that has had enough is no error; False then."""
        try:
            self.send(data)
            return True
        except (ConnectionResetError, BrokenPipeError):
            self.was_reset = True  # said here, it is not said to who reads
            return False
        except OSError:
            return False

    def send_bytewise(self, data):
        for i in range(len(data)):
            self.send(data[i:i + 1])
        return self

    def get(self, path="/", host="test", fields=(), version="1.1", method="GET"):
        lines = [f"{method} {path} HTTP/{version}"]
        if host is not None:
            lines.append(f"Host: {host}")
        lines += [f"{n}: {v}" for n, v in (fields.items() if isinstance(fields, dict) else fields)]
        return self.send("\r\n".join(lines) + "\r\n\r\n")

    def request(self, path="/", method="GET", **kw):
        """Sends a request without body and returns its response."""
        self.get(path, method=method, **kw)
        return self.read_response(method)

    def shutdown(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    # --- receiving -------------------------------------------------------------------------
    def _fill(self, what="", n=65536):
        if self.eof:
            raise Closed(self.buf, self.was_reset, what)
        try:
            data = self.sock.recv(n)
        except ConnectionResetError:
            self.eof = self.was_reset = True
            raise Closed(self.buf, True, what) from None
        except socket.timeout:
            raise AssertionError(
                f"nothing came for {self.timeout:g} s {what}; so far {bytes(self.buf[:300])!r}") from None
        if not data:
            self.eof = True
            raise Closed(self.buf, self.was_reset, what)
        self.buf += data

    def read_until(self, mark):
        start = 0
        while True:
            i = self.buf.find(mark, start)
            if i >= 0:
                out = bytes(self.buf[:i + len(mark)])
                del self.buf[:i + len(mark)]
                return out
            start = max(0, len(self.buf) - len(mark) + 1)
            self._fill(f"while reading up to {mark!r}")

    def read_exactly(self, n):
        while len(self.buf) < n:
            self._fill(f"while reading {n} bytes")
        out = bytes(self.buf[:n])
        del self.buf[:n]
        return out

    def read_all(self):
        """Everything until the end of the connection; Closed when that was a reset."""
        try:
            while True:
                self._fill()
        except Closed as c:
            if c.reset:
                raise
        out = bytes(self.buf)
        self.buf.clear()
        return out

    def drain(self):
        """Everything until the end, however it comes."""
        try:
            return self.read_all()
        except Closed as c:
            self.buf.clear()
            return c.data

    def read_head(self):
        r = Response()
        r.head = self.read_until(b"\r\n\r\n")
        line, _, block = r.head[:-4].partition(b"\r\n")
        parts = line.decode("latin-1").split(" ", 2)
        assert len(parts) == 3 and parts[0].startswith("HTTP/1.") and len(parts[1]) == 3, f"bad status line {line!r}"
        r.version, r.status, r.reason = parts[0][5:], int(parts[1]), parts[2]
        r.fields = parse_fields(block)
        return r

    def read_chunk(self, r):
        """The next chunk of a chunked response: its data, b"" for the last (trailers are read too)."""
        line = self.read_until(b"\r\n")[:-2]
        size = int(line.split(b";")[0].strip(), 16)
        if size == 0:
            block = b""
            while True:
                t = self.read_until(b"\r\n")
                if t == b"\r\n":
                    break
                block += t
            r.trailers = parse_fields(block[:-2] if block else b"")
            r.chunks.append((line, b""))
            return b""
        data = self.read_exactly(size)
        assert self.read_exactly(2) == b"\r\n", "chunk not followed by CRLF"
        r.chunks.append((line, data))
        return data

    def read_body(self, r, method="GET"):
        te, cl = r.fields.list("transfer-encoding"), r.fields.all("content-length")
        if method == "HEAD" or r.status in (204, 304) or r.status < 200:
            r.framing = "none"
        elif te:
            assert [t.lower() for t in te] == ["chunked"] and not cl, f"framing {te} {cl}"
            r.framing = "chunked"
            while True:
                data = self.read_chunk(r)
                if not data:
                    break
            r.body = b"".join(d for _, d in r.chunks)
        elif cl:
            assert len(cl) == 1 and cl[0].isdigit(), f"Content-Length {cl}"
            r.framing = "length"
            r.body = self.read_exactly(int(cl[0]))
        else:
            r.framing = "close"
            r.body = self.read_all()
        return r

    def read_response(self, method="GET", interim=True):
        """One final response, exactly; 1xx before it are gathered in .interim.  interim=False: returns
        the next head even when it is a 1xx."""
        before = []
        while True:
            r = self.read_head()
            if r.status >= 200 or r.status == 101 or not interim:
                r.interim = before
                return self.read_body(r, method)
            before.append(r)

    def skip_body(self, r, n=None, chunk=1 << 18):
        """Reads a body with Content-Length without keeping it; returns the number of bytes."""
        left = int(r.fields.get("content-length")) if n is None else n
        got = min(left, len(self.buf))
        del self.buf[:got]
        room = bytearray(chunk)
        while got < left:
            k = self.sock.recv_into(room, min(chunk, left - got))
            if k == 0:
                raise Closed(b"", False, f"after {got} of {left}")
            got += k
        return got

    # --- expectations ----------------------------------------------------------------------
    def expect_close(self, timeout=None):
        """The peer ends the connection (FIN or RST) and sends nothing more."""
        data, _ = self._end(timeout)
        assert not data, f"more came before the end: {data[:300]!r}"

    def expect_fin(self, timeout=None):
        data, reset = self._end(timeout)
        assert not data and not reset, f"{'reset' if reset else 'data'}: {data[:300]!r}"

    def expect_rst(self, timeout=None):
        _, reset = self._end(timeout)
        assert reset, "ended by FIN, not by RST"

    def _end(self, timeout):
        old, self.timeout = self.timeout, (timeout * SLOW if timeout else self.timeout)
        self.sock.settimeout(self.timeout)
        try:
            while True:
                self._fill("waiting for the end")
        except Closed as c:
            self.buf.clear()
            return c.data, c.reset
        finally:
            self.timeout = old
            self.sock.settimeout(old)

    def expect_no_data(self, for_s=0.15):
        """Nothing comes, no end either, for a short time."""
        assert not self.buf, f"already here: {bytes(self.buf[:200])!r}"
        self.sock.settimeout(for_s)
        try:
            data = self.sock.recv(4096)
        except socket.timeout:
            return
        finally:
            self.sock.settimeout(self.timeout)
        raise AssertionError(f"expected silence, got {data[:200]!r}")

    def is_open(self):
        """True while the peer has not ended the connection (data that waits is kept)."""
        self.sock.setblocking(False)
        try:
            data = self.sock.recv(65536)
            if not data:
                self.eof = True
                return False
            self.buf += data
            return True
        except BlockingIOError:
            return True
        except ConnectionResetError:
            self.eof = self.was_reset = True
            return False
        finally:
            self.sock.settimeout(self.timeout)

    # --- ending ----------------------------------------------------------------------------
    def close(self):
        self.sock.close()

    def rst(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def fetch(to, path="/", **kw):
    """One request on a connection of its own."""
    with Client(to) as c:
        return c.request(path, fields=kw.pop("fields", []) + [("Connection", "close")], **kw)
