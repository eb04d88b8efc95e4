# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 frame by frame: sends exactly the frames that it is told to, sound or not, and reads strictly.

Only HPACK is somebody else's (python3-hpack).  Frames are bytes: `raw(type, flags, stream, payload)`.
"""

import socket
import struct

import hpack

from .client import Closed, Fields

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 0x10
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 0x20
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY,
 HTTP_1_1_REQUIRED) = range(14)
(HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE,
 _, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES) = range(1, 10)


def frame(type, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([type, flags]) + struct.pack(">I", stream) + payload


def settings(values):
    return b"".join(struct.pack(">HI", i, v) for i, v in dict(values).items())


def u32(n):
    return struct.pack(">I", n)


def request(method="GET", path="/", authority="t", fields=(), scheme="http"):
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path), *fields]


def literals(fields):
    """A field block without tables and Huffman coding."""
    out = b""
    for n, v in fields:
        n, v = n.encode("latin-1"), v.encode("latin-1")
        assert len(n) < 127 and len(v) < 127
        out += b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v
    return out


class GoneAway(Closed):
    """The peer ended the connection.  code: of its GOAWAY, None without one; last: its last stream."""

    def __init__(self, code, last, reset):
        super().__init__(b"", reset, f"GOAWAY {code}, last stream {last}")
        self.code, self.last = code, last


class Stream:
    """What came on one stream."""

    def __init__(self):
        self.status, self.fields, self.trailers = 0, Fields(), Fields()
        self.interim, self.body, self.data = [], b"", []
        self.ended, self.rst = False, None  # rst: the code of RST_STREAM

    def __repr__(self):
        return f"<{self.status} {list(self.fields)} {self.body[:60]!r} ended={self.ended} rst={self.rst}>"

    def __getitem__(self, name):
        return self.fields.get(name)


class H2:
    """c: a Client (or TlsClient) on which nothing has been said."""

    def __init__(self, c, values=(), preface=True, update=True):
        """update: give the peer's data room as it comes, so that windows are never empty."""
        self.c, self.update = c, update
        self.asked = set()        # streams on which HEADERS were sent
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 22
        self.streams, self.goaway, self.acks, self.pings, self.frames = {}, None, 0, [], 0
        self.theirs = {}          # SETTINGS of the peer
        self.window, self.windows = 65535, {}  # what it lets us send
        self.block = None         # (stream, flags, bytes) of a field block that goes on
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings(values)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.c.close()

    # --- sending ---------------------------------------------------------------------------
    def send(self, data):
        """A peer that has had enough is no error: what came of it is read."""
        self.c.send_some(data)
        return self

    def send_some(self, data):
        """False when the peer has had enough."""
        return self.c.send_some(data)

    def raw(self, type, flags=0, stream=0, payload=b""):
        if type == HEADERS:
            self.asked.add(stream)
        return self.send(frame(type, flags, stream, payload))

    def encode(self, fields, huffman=True):
        return self.encoder.encode([(n.encode("latin-1") if isinstance(n, str) else n,
                                     v.encode("latin-1") if isinstance(v, str) else v) for n, v in fields],
                                   huffman=huffman)

    def headers(self, stream, fields, end=True, flags=0):
        return self.raw(HEADERS, END_HEADERS | (END_STREAM if end else 0) | flags, stream, self.encode(fields))

    def data(self, stream, payload=b"", end=False):
        return self.raw(DATA, END_STREAM if end else 0, stream, payload)

    def rst(self, stream, code=CANCEL):
        return self.raw(RST_STREAM, 0, stream, u32(code))

    # --- receiving -------------------------------------------------------------------------
    def _end(self, c):
        code, last = self.goaway or (None, None)
        raise GoneAway(code, last, c.reset) from None

    def read_frame(self):
        """Reads one frame, takes note of it, and answers where the protocol asks for it."""
        try:
            head = self.c.read_exactly(9)
            payload = self.c.read_exactly(int.from_bytes(head[:3], "big"))
        except Closed as c:
            self._end(c)
        type, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        assert self.frames or (type == SETTINGS and not flags & ACK), "its first frame is no SETTINGS"
        assert len(payload) <= 16384, f"frame of {len(payload)} bytes"
        self.frames += 1
        if self.block:
            assert type == CONTINUATION and stream == self.block[0], f"frame {type} inside of a field block"
        self._take(type, flags, stream, payload)
        return type, flags, stream, payload

    def _take(self, type, flags, stream, payload):
        s = self.streams.setdefault(stream, Stream()) if stream else None
        if type == DATA:
            n = len(payload)
            if flags & PADDED:
                payload = payload[1:n - payload[0]]
            assert not s.ended and s.status, "DATA where none may be"
            s.data.append(len(payload))
            s.body += payload
            s.ended = bool(flags & END_STREAM)
            if self.update and n:
                self.send_some(frame(WINDOW_UPDATE, 0, 0, u32(n)) +
                               (b"" if s.ended else frame(WINDOW_UPDATE, 0, stream, u32(n))))
        elif type in (HEADERS, CONTINUATION):
            self._fields(type, flags, stream, payload)
        elif type == RST_STREAM:
            s.rst = int.from_bytes(payload, "big")
        elif type == SETTINGS and flags & ACK:
            assert not payload
            self.acks += 1
        elif type == SETTINGS:
            self.theirs.update(struct.unpack(">HI", payload[i:i + 6]) for i in range(0, len(payload), 6))
            self.send_some(frame(SETTINGS, ACK))
        elif type == PING and flags & ACK:
            self.pings.append(payload)
        elif type == PING:
            self.send_some(frame(PING, ACK, 0, payload))
        elif type == GOAWAY:
            self.goaway = (int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[:4], "big"))
        elif type == WINDOW_UPDATE:
            n = int.from_bytes(payload, "big")
            assert n > 0
            if stream:
                self.windows[stream] = self.windows.get(stream, 0) + n
            else:
                self.window += n
        else:
            raise AssertionError(f"frame of type {type} from a server")

    def _fields(self, type, flags, stream, payload):
        if type == HEADERS:
            if flags & PADDED:
                payload = payload[1:len(payload) - payload[0]]
            if flags & HAS_PRIORITY:
                payload = payload[5:]
            self.block = (stream, flags, payload)
        else:
            self.block = (stream, self.block[1], self.block[2] + payload)
        if not flags & END_HEADERS:
            return
        stream, flags, payload = self.block
        self.block = None
        self._section(self.streams[stream], self.decoder.decode(payload), bool(flags & END_STREAM))

    def _section(self, s, fields, end):
        fields = Fields((n, v) for n, v in fields)
        for n, v in fields:
            assert n == n.lower() and not set(v) & set("\r\n\0"), f"field {n!r}: {v!r}"
            assert n not in ("connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"), n
        assert not s.ended
        s.ended = end
        if s.status:
            assert end and not any(n.startswith(":") for n, _ in fields), f"trailers {fields}"
            s.trailers = fields
            return
        assert fields[0][0] == ":status" and len(fields.all(":status")) == 1, f"head {fields}"
        status = int(fields[0][1])
        if status < 200:
            assert not end
            s.interim.append((status, Fields(fields[1:])))
        else:
            s.status, s.fields = status, Fields(fields[1:])

    # --- waiting ---------------------------------------------------------------------------
    def until(self, cond):
        """Reads frames until cond() is true, and returns its value."""
        while True:
            value = cond()
            if value:
                return value
            self.read_frame()

    def stream(self, n):
        return self.streams.setdefault(n, Stream())

    def ended(self, n):
        """The stream, once it has ended, one way or the other."""
        s = self.stream(n)
        self.until(lambda: s.ended or s.rst is not None)
        return s

    def response(self, n):
        """A whole response."""
        s = self.ended(n)
        assert s.ended and s.status, f"stream {n}: {s}"
        return s

    def ask(self, n, fields=None, **kw):
        return self.headers(n, fields or request(**kw)).response(n)

    def settled(self):
        """Everything sent up to now was read by the peer: it has answered a PING behind it."""
        mark = b"mark%04d" % len(self.pings)
        self.raw(PING, 0, 0, mark)
        self.until(lambda: mark in self.pings)
        return self

    def end(self):
        """The peer ends the connection; returns (code of its GOAWAY or None, last stream)."""
        try:
            while True:
                self.read_frame()
        except GoneAway as g:
            return g
        except socket.timeout:
            raise AssertionError("the connection did not end") from None
