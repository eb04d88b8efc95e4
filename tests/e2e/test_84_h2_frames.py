# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/2 from clients, frame by frame: what RFC 9113 asks for, and what attackers send.

Each case of CASES sends its frames while stream 1 is a POST under way.  What must come of it:
  stream(CODE, ...)  stream 3 ends by RST_STREAM with one of these codes, or by an answer of 4xx (8.1.1); stream 1
                     and the connection go on
  conn(CODE, ...)    the connection ends by GOAWAY with one of these codes; the balancer goes on
  either(CODE, ...)  one or the other: RFC 9113 5.4.1 lets a peer take any stream error for one of the connection
  fine()             stream 3 is answered with 200
  passed_over(CODE)  as conn(), or nothing comes of it at all
No request for /evil may reach the origin, none for /half as a whole, no byte of what is smuggled, and what the
origin reads it reads strictly, as raw bytes.  Sections are RFC 9113's unless they say otherwise.
"""

import signal
import socket
import threading
import time

import hpack
import pytest

from instruments.client import Client
from instruments.h2raw import (
    ACK, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM,
    ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, H2, HAS_PRIORITY, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, NO_ERROR, PADDED, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE,
    REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, GoneAway, frame, literals, request, settings,
    u32)
from instruments.origin import Eof, chunked, ok, response
from instruments.pki import Authority
from instruments.ports import free_port
from instruments.proc import rss_bytes
from instruments.tls import TlsClient, context
from instruments.wait import SLOW, wait_until

GOOD = request(path="/good")
EVIL = request(path="/evil")
HALF = request("POST", "/half")

CASES = {}


class Outcome:
    def __init__(self, kind, codes=()):
        self.kind, self.codes = kind, codes


def stream(*codes):
    return Outcome("stream", codes)


def conn(*codes):
    return Outcome("conn", codes)


def either(*codes):
    return Outcome("either", codes)


def passed_over(*codes):
    return Outcome("passed over", codes)


def fine():
    return Outcome("fine")


def case(name, outcome, *args):
    """Decorates what sends the frames: f(h, *args)."""
    def add(f):
        assert name not in CASES, name
        CASES[name] = (lambda h: f(h, *args), outcome)
        return f
    return add


def sends(name, outcome, *frames):
    """Frames as they are, after stream 3 got nothing."""
    assert name not in CASES, name
    CASES[name] = (lambda h: h.send(b"".join(frames)), outcome)


def head(name, outcome, fields, end=True):
    """One field section on stream 3."""
    assert name not in CASES, name
    CASES[name] = (lambda h: h.headers(3, fields, end), outcome)


def pings(payload=b"12345678", flags=0, stream=0):
    return frame(PING, flags, stream, payload)


# --- 4.1, 4.2, 5.5: frames -----------------------------------------------------------------------

sends("SETTINGS longer than frames may be", conn(FRAME_SIZE_ERROR), frame(SETTINGS, 0, 0, bytes(16386)))
sends("a type that nobody knows, on the connection", fine(), frame(0xfa, 0xff, 0, b"x" * 100))
sends("a type that nobody knows, on a stream", fine(), frame(0xfb, 0xff, 1, b"x" * 100))
sends("PING with flags that mean nothing", fine(), pings(flags=0xfe))
sends("the reserved bit of a stream id", fine(), frame(WINDOW_UPDATE, 0, 0x80000000, u32(1)))


@case("DATA longer than frames may be", either(FRAME_SIZE_ERROR))
def _(h):
    h.headers(3, HALF, end=False).data(3, bytes(16385))


@case("HEADERS longer than frames may be", conn(FRAME_SIZE_ERROR))
def _(h):
    h.raw(HEADERS, END_HEADERS | END_STREAM, 3, h.encode(EVIL) + bytes(16385))


@case("a type that nobody knows inside of a field block", conn(PROTOCOL_ERROR))
def _(h):
    h.raw(HEADERS, END_STREAM, 3, h.encode(EVIL)).raw(0xfa, 0, 3, b"").raw(CONTINUATION, END_HEADERS, 3)


# --- 5.1: stream ids and states ------------------------------------------------------------------

sends("DATA on stream 0", conn(PROTOCOL_ERROR), frame(DATA, END_STREAM, 0, b"x"))
sends("DATA on an idle stream", conn(PROTOCOL_ERROR), frame(DATA, END_STREAM, 3, b"x"))
sends("RST_STREAM on an idle stream", conn(PROTOCOL_ERROR), frame(RST_STREAM, 0, 3, u32(CANCEL)))
sends("WINDOW_UPDATE on an idle stream", conn(PROTOCOL_ERROR), frame(WINDOW_UPDATE, 0, 3, u32(1)))
sends("PRIORITY on an idle stream", fine(), frame(PRIORITY, 0, 3, u32(0) + b"\x10"))
sends("PRIORITY on a stream far ahead", fine(), frame(PRIORITY, 0, 1001, u32(0) + b"\x10"))


@case("HEADERS on stream 0", conn(PROTOCOL_ERROR))
def _(h):
    h.headers(0, EVIL)


@case("a stream id of the server's", conn(PROTOCOL_ERROR))
def _(h):
    h.headers(2, EVIL)


@case("a stream id below the last", passed_over(PROTOCOL_ERROR, STREAM_CLOSED))
def _(h):
    """5.1.1 has it end the connection, but trailers behind a RST_STREAM of ours look the same."""
    h.ask(7, GOOD)
    h.headers(3, EVIL)


@case("a stream id of a response that is over", passed_over(PROTOCOL_ERROR, STREAM_CLOSED))
def _(h):
    h.ask(3, GOOD)
    h.headers(3, EVIL)


@case("HEADERS on a half-closed stream", either(STREAM_CLOSED, PROTOCOL_ERROR))
def _(h):
    h.headers(3, request(path="/hang")).headers(3, EVIL)


@case("DATA on a half-closed stream", either(STREAM_CLOSED))
def _(h):
    h.headers(3, request(path="/hang")).data(3, b"x")


@case("WINDOW_UPDATE and RST_STREAM just behind the end of a stream", fine())
def _(h):
    h.ask(3, GOOD)
    h.raw(WINDOW_UPDATE, 0, 3, u32(1)).rst(3)


@case("PRIORITY on a stream that is over", fine())
def _(h):
    h.ask(3, GOOD)
    h.raw(PRIORITY, 0, 3, u32(0) + b"\x01")


# --- 6.1, 6.2: DATA, HEADERS, padding ------------------------------------------------------------

@case("padding as long as DATA", conn(PROTOCOL_ERROR))
def _(h):
    h.headers(3, HALF, end=False).raw(DATA, PADDED | END_STREAM, 3, b"\x06hello")


@case("padding longer than HEADERS", conn(PROTOCOL_ERROR))
def _(h):
    block = h.encode(EVIL)
    h.raw(HEADERS, PADDED | END_HEADERS | END_STREAM, 3, bytes([255]) + block)


@case("padding flagged in an empty frame", conn(PROTOCOL_ERROR, FRAME_SIZE_ERROR))
def _(h):
    h.headers(3, HALF, end=False).raw(DATA, PADDED | END_STREAM, 3, b"")


@case("HEADERS too short for the priority it says", conn(PROTOCOL_ERROR, FRAME_SIZE_ERROR))
def _(h):
    h.raw(HEADERS, HAS_PRIORITY | END_HEADERS | END_STREAM, 3, b"\0\0")


@case("padding of DATA and HEADERS", fine())
def _(h):
    h.raw(HEADERS, PADDED | END_HEADERS, 3, b"\x04" + h.encode(request("POST", "/good")) + bytes(4))
    h.raw(DATA, PADDED, 3, b"\xff" + b"x" + bytes(255)).raw(DATA, PADDED | END_STREAM, 3, b"\0")


@case("HEADERS with the priority of old", fine())
def _(h):
    h.raw(HEADERS, HAS_PRIORITY | END_HEADERS | END_STREAM, 3, u32(1) + b"\x20" + h.encode(GOOD))


# --- 6.3 to 6.9: the other frames ----------------------------------------------------------------

sends("PRIORITY on stream 0", conn(PROTOCOL_ERROR), frame(PRIORITY, 0, 0, u32(1) + b"\0"))
sends("RST_STREAM on stream 0", conn(PROTOCOL_ERROR), frame(RST_STREAM, 0, 0, u32(CANCEL)))
sends("RST_STREAM of 3 bytes", conn(FRAME_SIZE_ERROR), frame(RST_STREAM, 0, 1, b"\0\0\0"))
sends("SETTINGS on a stream", conn(PROTOCOL_ERROR), frame(SETTINGS, 0, 1, settings({1: 4096})))
sends("SETTINGS of 5 bytes", conn(FRAME_SIZE_ERROR), frame(SETTINGS, 0, 0, bytes(5)))
sends("SETTINGS ACK with a payload", conn(FRAME_SIZE_ERROR), frame(SETTINGS, ACK, 0, settings({1: 4096})))
sends("SETTINGS: push is 2", conn(PROTOCOL_ERROR), frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 2})))
sends("SETTINGS: window of 2^31", conn(FLOW_CONTROL_ERROR), frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 1 << 31})))
sends("SETTINGS: frames of 16383", conn(PROTOCOL_ERROR), frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 16383})))
sends("SETTINGS: frames of 2^24", conn(PROTOCOL_ERROR), frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 1 << 24})))
sends("SETTINGS that nobody knows", fine(), frame(SETTINGS, 0, 0, settings({0xfafa: 0xffffffff, 0: 1})))
sends("PUSH_PROMISE from a client", conn(PROTOCOL_ERROR), frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + b"\x82"))
sends("PING of 7 bytes", conn(FRAME_SIZE_ERROR), pings(b"1234567"))
sends("PING of 9 bytes", conn(FRAME_SIZE_ERROR), pings(b"123456789"))
sends("PING on a stream", conn(PROTOCOL_ERROR), pings(stream=1))
sends("PING ACK that nobody asked for", fine(), pings(flags=ACK))
sends("GOAWAY on a stream", conn(PROTOCOL_ERROR), frame(GOAWAY, 0, 1, u32(0) + u32(0)))
sends("GOAWAY of 7 bytes", conn(FRAME_SIZE_ERROR), frame(GOAWAY, 0, 0, bytes(7)))
sends("WINDOW_UPDATE of 3 bytes", conn(FRAME_SIZE_ERROR), frame(WINDOW_UPDATE, 0, 0, bytes(3)))
sends("WINDOW_UPDATE of 0 for the connection", conn(PROTOCOL_ERROR), frame(WINDOW_UPDATE, 0, 0, u32(0)))
sends("WINDOW_UPDATE beyond 2^31 for the connection", conn(FLOW_CONTROL_ERROR),
      frame(WINDOW_UPDATE, 0, 0, u32(0x7fffffff)), frame(WINDOW_UPDATE, 0, 0, u32(0x7fffffff)))


@case("PRIORITY of 4 bytes", either(FRAME_SIZE_ERROR))
def _(h):
    h.headers(3, request(path="/hang")).raw(PRIORITY, 0, 3, bytes(4))


@case("WINDOW_UPDATE of 0 for a stream", either(PROTOCOL_ERROR))
def _(h):
    h.headers(3, request(path="/hang")).raw(WINDOW_UPDATE, 0, 3, u32(0))


@case("WINDOW_UPDATE beyond 2^31 for a stream", either(FLOW_CONTROL_ERROR))
def _(h):
    h.headers(3, request(path="/hang")).raw(WINDOW_UPDATE, 0, 3, u32(0x7fffffff))


@case("DATA beyond the stream's window", either(FLOW_CONTROL_ERROR))
def _(h):
    """The origin does not read; whatever window there is, it is over some time: buffers of sockets are 10 MB."""
    h.headers(3, request("POST", "/stuck"), end=False)
    for _ in range(64):
        h.send(frame(DATA, 0, 3, bytes(16384)) * 16).settled()
        if h.stream(3).rst is not None:
            break


# --- 6.10: field blocks --------------------------------------------------------------------------

sends("CONTINUATION on stream 0", conn(PROTOCOL_ERROR), frame(CONTINUATION, END_HEADERS, 0, b"\x82"))
sends("CONTINUATION without HEADERS", conn(PROTOCOL_ERROR), frame(CONTINUATION, END_HEADERS, 1, b"\x82"))


@case("CONTINUATION behind the end of a block", conn(PROTOCOL_ERROR))
def _(h):
    h.headers(3, request(path="/hang")).raw(CONTINUATION, END_HEADERS, 3, b"\x82")


@case("CONTINUATION of another stream", conn(PROTOCOL_ERROR))
def _(h):
    h.raw(HEADERS, END_STREAM, 3, h.encode(EVIL)).raw(CONTINUATION, END_HEADERS, 1)


@case("DATA inside of a field block", conn(PROTOCOL_ERROR))
def _(h):
    h.raw(HEADERS, END_STREAM, 3, h.encode(EVIL)).data(1, b"x")


@case("HEADERS inside of a field block", conn(PROTOCOL_ERROR))
def _(h):
    h.raw(HEADERS, END_STREAM, 3, h.encode(EVIL)).headers(5, EVIL)


@case("PING inside of a field block", conn(PROTOCOL_ERROR))
def _(h):
    h.raw(HEADERS, END_STREAM, 3, h.encode(EVIL)).send(pings())


@case("a field block in pieces, one of them empty", fine())
def _(h):
    block = h.encode(GOOD)
    h.raw(HEADERS, END_STREAM, 3, block[:3]).raw(CONTINUATION, 0, 3, b"").raw(CONTINUATION, 0, 3, block[3:4])
    h.raw(CONTINUATION, END_HEADERS, 3, block[4:])


# --- RFC 7541: HPACK -----------------------------------------------------------------------------

HPACK = {
    "index 0": b"\x80",
    "an index beyond the tables": b"\xff\x80\x01",
    "a name's index beyond the tables": b"\x7f\xff\x01\x01x",
    "an integer without end": b"\xff" + b"\xff" * 20 + b"\x01",
    "an integer cut off": b"\xff",
    "a string cut off": b"\x00\x05ab",
    "a Huffman string with EOS": b"\x00\x84\xff\xff\xff\xff\x01x",
    "a Huffman string padded with zeros": b"\x00\x81\x00\x01x",
    "a Huffman string padded by a byte": b"\x00\x82\x07\xff\x01x",
    "a table larger than allowed": b"\x3f\xe2\x1f" + b"\x82",
    "a table resized behind a field": b"\x82\x20",
}

for _name, _bytes in HPACK.items():
    sends(f"HPACK: {_name}", conn(COMPRESSION_ERROR), frame(HEADERS, END_HEADERS | END_STREAM, 3, _bytes))


@case("HPACK: a table that shrinks and grows again", fine())
def _(h):
    h.raw(HEADERS, END_HEADERS | END_STREAM, 3, b"\x20\x3f\xe1\x1f" + literals(GOOD))
    h.encoder = hpack.Encoder()  # which knew of what the table held before


# --- 8.1, 8.2: malformed fields ------------------------------------------------------------------

FIELDS = {
    "a capital letter in a name": ("X-Upper", "1"),
    "a space in a name": ("x bad", "1"),
    "a colon in a name": ("x:bad", "1"),
    "an empty name": ("", "1"),
    "a control byte in a name": ("x\x01", "1"),
    "a byte above ASCII in a name": ("x\xe4", "1"),
    "a name that holds a line": ("x: 1\r\nx-smuggled", "1"),
    "CR LF in a value": ("x-a", "1\r\nx-smuggled: 1"),
    "a request in a value": ("x-a", "1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: t\r\n\r\n"),
    "LF in a value": ("x-a", "1\nx-smuggled: 1"),
    "CR in a value": ("x-a", "1\rx-smuggled: 1"),
    "NUL in a value": ("x-a", "1\0smuggled"),
    "a space before a value": ("x-a", " 1"),
    "a tab behind a value": ("x-a", "1\t"),
    "connection": ("connection", "close"),
    "connection that names a field": ("connection", "x-a"),
    "keep-alive": ("keep-alive", "timeout=5"),
    "proxy-connection": ("proxy-connection", "keep-alive"),
    "transfer-encoding": ("transfer-encoding", "chunked"),
    "upgrade": ("upgrade", "websocket"),
    "te with more than trailers": ("te", "gzip"),
    "te with trailers and more": ("te", "trailers, gzip"),
}

for _name, _field in FIELDS.items():
    head(f"field: {_name}", stream(PROTOCOL_ERROR), EVIL + [_field])

head("field: te is trailers", fine(), GOOD + [("te", "trailers")])
head("field: an empty value", fine(), GOOD + [("x-a", "")])


@case("transfer-encoding with a body that looks chunked", stream(PROTOCOL_ERROR))
def _(h):
    h.headers(3, request("POST", "/evil", fields=[("transfer-encoding", "chunked")]), end=False)
    h.send_some(frame(DATA, END_STREAM, 3, b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: t\r\n\r\n"))


# --- 8.3: pseudo-header fields -------------------------------------------------------------------

def pseudo(method="GET", scheme="http", authority="t", path="/evil", **more):
    given = {"method": method, "scheme": scheme, "authority": authority, "path": path, **more}
    return [(f":{n}", v) for n, v in given.items() if v is not None]


PSEUDO = {
    "behind a field": pseudo(path=None) + [("x-a", "1"), (":path", "/evil")],
    "that nobody knows": pseudo(evil="1"),
    "of responses": pseudo(status="200"),
    "method twice": pseudo() + [(":method", "GET")],
    "scheme twice": pseudo() + [(":scheme", "http")],
    "path twice": pseudo() + [(":path", "/evil2")],
    "authority twice": pseudo() + [(":authority", "u")],
    "no method": pseudo(method=None),
    "no scheme": pseudo(scheme=None),
    "no path": pseudo(path=None),
    "an empty method": pseudo(method=""),
    "an empty path": pseudo(path=""),
    "a path without slash": pseudo(path="evil"),
    "a path that is a URL": pseudo(path="http://u/evil"),
    "a path with a space": pseudo(path="/evil HTTP/1.1"),
    "a path with a line": pseudo(path="/evil HTTP/1.1\r\nx-smuggled: 1\r\nx-a: "),
    "a path with NUL": pseudo(path="/evil\0smuggled"),
    "a path that is * of GET": pseudo(path="*"),
    "a method with a space": pseudo(method="GET /smuggled HTTP/1.1\r\nx: "),
    "a method with one space": pseudo(method="GE T"),
    "a method with a tab": pseudo(method="GET\t/smuggled"),
    "a scheme with a space": pseudo(scheme="http s"),
    "a scheme with a line": pseudo(scheme="http\r\nx-smuggled: 1"),
    "userinfo in the authority": pseudo(authority="smuggled@t"),
    "a space in the authority": pseudo(authority="t smuggled"),
    "a path in the authority": pseudo(authority="t/smuggled"),
    "a line in the authority": pseudo(authority="t\r\nx-smuggled: 1"),
    "Host is another": pseudo() + [("host", "smuggled")],
    "Host twice": pseudo(authority=None) + [("host", "t"), ("host", "smuggled")],
    "Host with a line": pseudo(authority=None) + [("host", "t\r\nx-smuggled: 1")],
    "neither authority nor Host": pseudo(authority=None),
    "CONNECT with a path": pseudo(method="CONNECT"),
    "CONNECT without authority": [(":method", "CONNECT")],
    "CONNECT with an empty authority": [(":method", "CONNECT"), (":authority", "")],
    "CONNECT with a scheme": [(":method", "CONNECT"), (":scheme", "http"), (":authority", "t:80")],
    "protocol without CONNECT (RFC 8441)": pseudo(protocol="websocket"),
}

for _name, _fields in PSEUDO.items():
    head(f"pseudo: {_name}", stream(PROTOCOL_ERROR), _fields)

head("pseudo: only Host", fine(), pseudo(authority=None, path="/good") + [("host", "t")])
head("pseudo: Host says the same", fine(), pseudo(path="/good") + [("host", "t")])
head("pseudo: * of OPTIONS", fine(), pseudo(method="OPTIONS", path="*"))
head("pseudo: a scheme of another kind", fine(), pseudo(scheme="https", path="/good"))


@case("CONNECT to somewhere", stream(PROTOCOL_ERROR, REFUSED_STREAM, CONNECT_ERROR))
def _(h):
    """It is understood and refused: 501 here."""
    h.headers(3, [(":method", "CONNECT"), (":authority", "evil:443")], end=False)


# --- 8.1.1: content-length -----------------------------------------------------------------------

def length(*values, path="/evil"):
    return request("POST", path, fields=[("content-length", v) for v in values])


for _name, _values in {"a sign": ["+5"], "letters": ["0x5"], "empty": [""], "two that differ": ["5", "6"],
                       "a list that differs": ["5,6"], "too large": ["99999999999999999999999"], "negative": ["-1"]}.items():
    @case(f"content-length: {_name}", stream(PROTOCOL_ERROR), _values)
    def _(h, values):
        h.headers(3, length(*values), end=False)
        h.send_some(frame(DATA, END_STREAM, 3, b"12345"))

head("content-length: said, and no DATA", stream(PROTOCOL_ERROR), length("5"))


@case("content-length: DATA is more", stream(PROTOCOL_ERROR))
def _(h):
    h.headers(3, length("5", path="/half"), end=False).data(3, b"12345smuggled", end=True)


@case("content-length: DATA is more, in a frame of its own", stream(PROTOCOL_ERROR))
def _(h):
    """What was said went to the server already, which must not see the rest."""
    h.headers(3, request("POST", "/hang", fields=[("content-length", "5")]), end=False)
    h.data(3, b"12345").data(3, b"smuggled", end=True)


@case("content-length: DATA is less", stream(PROTOCOL_ERROR))
def _(h):
    h.headers(3, length("5", path="/half"), end=False).data(3, b"123", end=True)


@case("content-length: the same twice is once (RFC 9110 8.6)", fine())
def _(h):
    h.headers(3, request("POST", "/good", fields=[("content-length", "5"), ("content-length", "5")]), end=False)
    h.data(3, b"12345", end=True)


@case("content-length: 0 and an empty DATA", fine())
def _(h):
    h.headers(3, request("POST", "/good", fields=[("content-length", "0")]), end=False).data(3, b"", end=True)


# --- 8.1: trailers -------------------------------------------------------------------------------

def with_trailers(h, trailers, end=True):
    h.headers(3, HALF, end=False).data(3, b"12345")
    h.send_some(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), 3, h.encode(trailers)))


for _name, _fields in {"a pseudo-header field": [(":path", "/smuggled")], "a status": [(":status", "200")],
                       "a capital letter": [("X-T", "1")], "CR LF": [("x-t", "1\r\nx-smuggled: 1")],
                       "transfer-encoding": [("transfer-encoding", "chunked")], "connection": [("connection", "close")]}.items():
    case(f"trailers: {_name}", stream(PROTOCOL_ERROR), _fields)(with_trailers)
case("trailers: without END_STREAM", stream(PROTOCOL_ERROR), [("x-t", "1")], False)(with_trailers)


@case("trailers: DATA behind them", either(PROTOCOL_ERROR, STREAM_CLOSED))
def _(h):
    h.headers(3, request("POST", "/hang"), end=False).headers(3, [("x-t", "1")])
    h.send_some(frame(DATA, END_STREAM, 3, b"smuggled"))


# --- too much ------------------------------------------------------------------------------------

@case("a field of 64 KB", stream(PROTOCOL_ERROR, ENHANCE_YOUR_CALM))
def _(h):
    big(h, 3, EVIL + [("x-big", "x" * 65000)])


@case("a thousand fields", stream(PROTOCOL_ERROR, ENHANCE_YOUR_CALM))
def _(h):
    big(h, 3, EVIL + [(f"x-{i}", "1") for i in range(1000)])


@case("a path of 16 KB", stream(PROTOCOL_ERROR, ENHANCE_YOUR_CALM))
def _(h):
    big(h, 3, request(path="/evil" + "x" * 12000))


def big(h, stream, fields):
    """A field block in as many frames as it takes."""
    block = h.encode(fields, huffman=False)
    parts = [block[i:i + 16384] for i in range(0, len(block), 16384)]
    out = b"".join(frame(CONTINUATION if i else HEADERS, (0 if i else END_STREAM) |
                         (END_HEADERS if i == len(parts) - 1 else 0), stream, p) for i, p in enumerate(parts))
    return h.send_some(out)


@case("HPACK bomb: 4 KB said 4000 times", either(PROTOCOL_ERROR, ENHANCE_YOUR_CALM, COMPRESSION_ERROR))
def _(h):
    h.raw(HEADERS, END_STREAM | END_HEADERS, 3,
          literals(EVIL) + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 4000)
    h.encoder = hpack.Encoder()


# --- running them --------------------------------------------------------------------------------

class Stage:
    """One balancer: a plain listener and one with TLS, before an origin that says what it got."""

    def __init__(self, house, pki, **listen):
        self.over = threading.Event()
        self.origin = house.origin(script=self.script)
        conf = house.conf(self.origin, listen=listen, pool={"retries": 0}, admin_http=True, log="json")
        self.tls_port = free_port()
        conf.listen("tls", bind=[f"127.0.0.1:{self.tls_port}"], tls={"certificate": pki.pem_of}, **listen)
        self.lb = house.start(conf, ports=[conf.port, self.tls_port])
        self.ctx = context(pki, alpn=["h2"])

    def script(self, conn):
        """/hang is never answered, the body of /stuck is not read, all else gets its body back."""
        while True:
            r = conn.read_head()
            if r is None:
                return
            if r.target == "/stuck":
                conn.hold(self.over)
                return
            try:
                conn.read_body(r)
            except Eof:
                return
            if r.target == "/hang":
                conn.wait_eof(30)
                return
            conn.send(response(200, r.body, [("x-target", r.target)]))

    def connect(self, carrier, **kw):
        if carrier == "plain":
            c = Client(self.lb.to, timeout=20)
        else:
            c = TlsClient(("127.0.0.1", self.tls_port), self.ctx, timeout=20)
            assert c.sock.selected_alpn_protocol() == "h2"
        self.lb.clients.append(c)
        return H2(c, **kw)

    def evil(self):
        """What should not have come."""
        return [r for r in list(self.origin.requests)
                if r.target.startswith(("/evil", "/smuggled")) or (r.target == "/half" and r.whole)]

    def raw_bytes(self):
        return b"".join(bytes(c.received) for c in list(self.origin.connections))


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca = Authority(str(tmp_path_factory.mktemp("pki")))
    ca.pem_of = ca.issue("a.test")
    return ca


@pytest.fixture(scope="module")
def stage(house, pki):
    s = Stage(house, pki)
    yield s
    s.over.set()


CARRIERS = ["plain", "tls"]


def is_refused(h, outcome):
    s = h.ended(3)
    if s.rst is not None and not s.status:
        assert s.rst in outcome.codes, f"RST_STREAM with {s.rst}"
    else:
        assert 400 <= s.status < 600 and s.status not in (500, 502, 503, 504), s


def goes_on(h):
    """The stream that was under way ends well, and another one can be begun."""
    h.data(1, b"cd", end=True)
    assert h.response(1).body == b"abcd"
    n = max(5, max(h.streams) + 2 | 1)
    s = h.ask(n, GOOD)
    assert s.status == 200 and s["x-target"] == "/good"


def plays(h, outcome):
    if outcome.kind == "conn":
        g = h.end()
        assert g.code in outcome.codes, f"{g}"
        return
    if outcome.kind == "fine":
        if not h.stream(3).ended:
            h.settled()
            if 3 not in h.asked:
                h.headers(3, GOOD)
        assert h.response(3).status == 200
    elif outcome.kind == "passed over":
        try:
            asked = h.stream(3).status
            h.settled()
            assert h.stream(3).status == asked
        except GoneAway as g:
            assert g.code in outcome.codes, f"{g}"
            return
    else:
        try:
            is_refused(h, outcome)
        except GoneAway as g:
            assert outcome.kind == "either" and g.code in outcome.codes, f"{g}"
            return
    goes_on(h)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_settings_that_make_a_window_too_large(stage, carrier):
    """6.9.2: the connection ends; some end the stream alone."""
    with stage.connect(carrier) as h:
        h.headers(1, request("POST", "/hang"), end=False).raw(WINDOW_UPDATE, 0, 1, u32(0x7fffffff - 65535))
        h.raw(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 65536}))
        try:
            assert h.ended(1).rst == FLOW_CONTROL_ERROR
        except GoneAway as g:
            assert g.code == FLOW_CONTROL_ERROR


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", CASES)
def test_case(stage, name, carrier):
    send, outcome = CASES[name]
    with stage.connect(carrier) as h:
        h.headers(1, request("POST", "/good"), end=False).data(1, b"ab").settled()
        send(h)
        plays(h, outcome)
    with stage.connect(carrier) as h:
        assert h.ask(1, GOOD).status == 200
    assert not stage.evil()
    assert b"smuggl" not in stage.raw_bytes()
    stage.origin.check()
    stage.origin.clear()


# --- 3.4: how a connection begins ----------------------------------------------------------------

def begun(stage, carrier, first):
    h = stage.connect(carrier, preface=False)
    return h.send(first)


WRONG_BEGIN = {
    "not SETTINGS but PING": PREFACE + pings(),
    "not SETTINGS but HEADERS": PREFACE + frame(HEADERS, END_HEADERS | END_STREAM, 1, literals(EVIL)),
    "an ACK of SETTINGS": PREFACE + frame(SETTINGS, ACK),
    "SETTINGS of 5 bytes": PREFACE + frame(SETTINGS, 0, 0, bytes(5)),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("first", WRONG_BEGIN.values(), ids=WRONG_BEGIN)
def test_a_connection_that_begins_wrongly_ends(stage, carrier, first):
    with begun(stage, carrier, first) as h:
        assert h.end().code in (PROTOCOL_ERROR, FRAME_SIZE_ERROR, None)
    assert not stage.evil()


@pytest.mark.parametrize("first", [b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", b"GET /evil HTTP/1.1\r\nHost: t\r\n\r\n",
                                   b"PRI * HTTP/2.0\r\n\r\n" + b"x" * 100], ids=["nearly", "HTTP/1", "half"])
def test_who_agreed_on_h2_and_speaks_something_else_is_cut_off(stage, first):
    with begun(stage, "tls", first) as h:
        out = h.c.drain()
        assert b"HTTP/1.1" not in out
    assert not stage.evil()


@pytest.mark.parametrize("first", [b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nGET /evil HTTP/1.1\r\nHost: t\r\n\r\n"],
                         ids=["nearly", "and HTTP/1 behind it"])
def test_nearly_a_preface_in_plain_text_is_refused(stage, first):
    with begun(stage, "plain", first) as h:
        out = h.c.drain()
        assert b" 200 " not in out
    assert not stage.evil()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_preface_byte_by_byte(stage, carrier):
    with stage.connect(carrier, preface=False) as h:
        h.c.send_bytewise(PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS | END_STREAM, 1, literals(GOOD)))
        assert h.response(1).status == 200


@pytest.mark.parametrize("carrier", CARRIERS)
def test_settings_are_said_and_acknowledged(stage, carrier):
    with stage.connect(carrier, values={INITIAL_WINDOW_SIZE: 1000, 0xfafa: 7}) as h:
        h.until(lambda: h.acks == 1 and h.theirs)
        assert h.theirs.get(ENABLE_PUSH, 0) == 0 and h.theirs.get(MAX_FRAME_SIZE, 16384) >= 16384
        assert 1 <= h.theirs[MAX_CONCURRENT_STREAMS] <= 1000
        h.raw(SETTINGS).until(lambda: h.acks == 2)


def test_the_same_port_speaks_http1(stage):
    c = stage.lb.client()
    assert c.get("/good", "t").read_response().status == 200
    c.get("/good", "t", [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAAA")])
    assert c.read_response().status == 200  # an offer that is passed over (RFC 9113 3.1)


# --- what passes through -------------------------------------------------------------------------

def last(stage):
    return stage.origin.requests[-1]


@pytest.fixture(params=CARRIERS)
def h(stage, request):
    with stage.connect(request.param) as h:
        yield h
    stage.origin.check()
    stage.origin.clear()


def test_cookies_are_joined(stage, h):
    h.ask(1, GOOD + [("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")])
    assert last(stage).fields.all("cookie") == ["a=1; b=2; c=3; d=4"]


def test_a_request_is_one_of_http1(stage, h):
    s = h.ask(1, request("PUT", "/good?q=%20", "Example.org:81", [("x-a", "1"), ("x-a", "2")]))
    r = last(stage)
    assert s.status == 200 and r.line == "PUT /good?q=%20 HTTP/1.1" and r["host"] == "Example.org:81"
    assert r.fields.all("x-a") == ["1", "2"] and r["x-forwarded-for"] == "127.0.0.1"
    assert r.framing == "none" or r.body == b""
    assert not [n for n in r.fields.names() if n.startswith(":")]


def test_priorities_are_passed_on(stage, h):
    h.raw(0x10, 0, 0, u32(1) + b"u=2")  # PRIORITY_UPDATE (RFC 9218 7.1), of a stream that is to come
    h.ask(1, GOOD + [("priority", "u=1, i")])
    assert last(stage)["priority"] == "u=1, i"


def test_trailers_of_a_request(stage, h):
    h.headers(1, request("POST", "/good", fields=[("te", "trailers")]), end=False).data(1, b"hello")
    h.headers(1, [("x-sum", "42"), ("x-more", "")])
    assert h.response(1).body == b"hello"
    assert last(stage).trailers.get("x-sum") == "42" and last(stage).framing == "chunked"


def test_a_body_with_length_keeps_it(stage, h):
    h.headers(1, request("POST", "/good", fields=[("content-length", "10")]), end=False)
    h.data(1, b"hello").data(1, b"").data(1, b"world").data(1, b"", end=True)
    assert h.response(1).body == b"helloworld"
    assert last(stage).framing == "length"


def test_trailers_and_interim_heads_of_a_response(lab):
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    body = chunked(b"one", b"two", trailers=[("X-Sum", "42")], fields=[("Connection", "keep-alive, x-gone"), ("Keep-Alive", "9"),
                                                                      ("X-Gone", "1"), ("X-Case", "Kept")])
    lb = lab.proxy(lab.origin(early + early + body))
    with H2(lb.client()) as h:
        s = h.ask(1)
        assert s.body == b"onetwo" and s.trailers.get("x-sum") == "42"
        assert [(n, f.get("link")) for n, f in s.interim] == [(103, "</x>")] * 2
        assert s["x-case"] == "Kept" and "x-gone" not in s.fields  # and none of the connection's: h2raw looks


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body(lab, status):
    lb = lab.proxy(lab.origin(response(status)))
    with H2(lb.client()) as h:
        assert h.ask(1).status == status
        assert h.ask(3).body == b""


def test_head_keeps_the_length(lab):
    lb = lab.proxy(lab.origin(lambda conn, r: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
    with H2(lb.client()) as h:
        for n in (1, 3):
            s = h.ask(n, method="HEAD")
            assert s.status == 200 and s["content-length"] == "1000" and s.body == b""


def test_continue_is_passed_on(lab):
    def script(conn):
        r = conn.read_head()
        conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        conn.read_body(r)
        conn.send(ok(r.body))
    lb = lab.proxy(lab.origin(script=script))
    with H2(lb.client()) as h:
        h.headers(1, request("POST", fields=[("expect", "100-continue")]), end=False)
        h.until(lambda: [n for n, _ in h.stream(1).interim] == [100])
        assert h.data(1, b"hello", end=True).response(1).body == b"hello"


@pytest.mark.parametrize("reply,status", [(b"", 502), (b"HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n", 502)], ids=["nothing", "nonsense"])
def test_faults_of_servers_are_those_of_one_stream(lab, reply, status):
    def script(conn):
        r = conn.read_head()
        if r is None:
            return
        conn.send(reply if r.target == "/bad" else ok())
        conn.close()
    lb = lab.proxy(lab.origin(script=script), pool={"retries": 0, "eject_after": 0})
    with H2(lb.client()) as h:
        s = h.ask(1, path="/bad")
        assert s.status == status and s["proxy-status"]
        assert h.ask(3).status == 200


def test_a_body_that_breaks_off_never_looks_whole(lab):
    lb = lab.proxy(lab.origin(script=lambda conn: conn.read_head() and conn.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")))
    with H2(lb.client()) as h:
        s = h.headers(1, request()).ended(1)
        assert s.status in (0, 200) and not s.ended and s.rst not in (None, NO_ERROR)
        h.settled()


# --- flow control --------------------------------------------------------------------------------

def upload(h, n, size):
    """DATA as windows allow."""
    window = h.theirs.get(INITIAL_WINDOW_SIZE, 65535)
    sent = 0
    while sent < size:
        piece = min(16384, size - sent, window + h.windows.get(n, 0) - sent, h.window)
        if piece <= 0:
            h.read_frame()
            continue
        h.window -= piece
        sent += piece
        h.data(n, bytes(piece), end=sent == size)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_megabytes_both_ways(stage, carrier):
    with stage.connect(carrier) as h:
        h.settled()
        h.headers(1, request("POST", "/good"), end=False)
        upload(h, 1, 3 << 20)
        assert h.response(1).body == bytes(3 << 20)
    stage.origin.clear()


def test_one_that_does_not_read_does_not_stop_the_others(lab):
    lb = lab.proxy(lab.origin(lambda conn, r: ok(bytes(2 << 20) if r.target == "/big" else b"small")))
    with H2(lb.client(), values={INITIAL_WINDOW_SIZE: 0}, update=False) as h:
        h.raw(WINDOW_UPDATE, 0, 0, u32(1 << 30))
        h.headers(1, request(path="/big")).until(lambda: h.stream(1).status)
        for n in range(3, 23, 2):
            h.headers(n, request()).raw(WINDOW_UPDATE, 0, n, u32(100))
            assert h.response(n).body == b"small"
        assert h.stream(1).body == b""
        h.raw(WINDOW_UPDATE, 0, 1, u32(3 << 20))
        assert len(h.response(1).body) == 2 << 20


def test_windows_hold_to_the_byte(lab):
    lb = lab.proxy(lab.origin(ok(b"x" * 100)))
    with H2(lb.client(), values={INITIAL_WINDOW_SIZE: 3}, update=False) as h:
        h.headers(1, request()).until(lambda: len(h.stream(1).body) == 3)
        h.settled()
        assert len(h.stream(1).body) == 3
        h.raw(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 10})).until(lambda: len(h.stream(1).body) == 10)
        h.raw(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 0})).settled()  # now it is -10: 6.9.2
        h.raw(WINDOW_UPDATE, 0, 1, u32(10)).settled()
        assert len(h.stream(1).body) == 10
        h.raw(WINDOW_UPDATE, 0, 1, u32(90))
        assert len(h.response(1).body) == 100


def test_an_upload_that_nobody_reads_stops(lab):
    """Back-pressure: the balancer does not open the window for what the server does not take."""
    over = threading.Event()
    lb = lab.proxy(lab.origin(script=lambda conn: conn.read_head() and conn.hold(over)))
    try:
        with H2(lb.client()) as h:
            h.headers(1, request("POST"), end=False).settled()
            sent, silence = 0, 0
            while silence < 50 and sent < 64 << 20:
                room = min(h.theirs.get(INITIAL_WINDOW_SIZE, 65535) + h.windows.get(1, 0) - sent, h.window, 16384)
                silence = silence + 1 if room <= 0 else 0
                if room <= 0:
                    h.settled()
                    continue
                h.data(1, bytes(room))
                h.window -= room
                sent += room
            assert sent < 64 << 20, "it takes whatever comes"
    finally:
        over.set()


# --- many streams, ends --------------------------------------------------------------------------

def test_streams_beyond_the_limit_are_refused(lab):
    """5.1.2.  A client that has acknowledged the limit and exceeds it may lose its connection (5.4.1)."""
    over = threading.Event()
    origin = lab.origin(lambda conn, r: (r.target == "/hang" and conn.hold(over)) or ok())
    lb = lab.proxy(origin, workers=1, listen={"http2": {"max_concurrent_streams": 10}})
    ids = list(range(1, 31, 2))
    try:
        with H2(lb.client()) as h:
            for n in ids:
                h.headers(n, request(path="/hang"))
            assert {h.ended(n).rst for n in ids[10:]} == {REFUSED_STREAM}
            assert h.theirs[MAX_CONCURRENT_STREAMS] == 10
            assert {h.stream(n).rst for n in ids[:10]} == {None}
            assert len(origin.requests) <= 10
            over.set()
            assert all(h.response(n).status == 200 for n in ids[:10])
            assert h.ask(31).status == 200
        over.clear()
        with H2(lb.client()) as h:
            h.settled()
            for n in ids:
                h.headers(n, request(path="/hang"))
            try:
                assert h.ended(ids[10]).rst == REFUSED_STREAM
            except GoneAway as g:
                assert g.code in (PROTOCOL_ERROR, REFUSED_STREAM)
    finally:
        over.set()


def test_a_client_that_goes_away_gets_what_it_asked_for(lab):
    over = threading.Event()
    origin = lab.origin(lambda conn, r: conn.hold(over) or ok(b"late"))
    lb = lab.proxy(origin)
    with H2(lb.client()) as h:
        h.headers(1, request()).headers(3, request())
        origin.wait_requests(2)
        h.raw(GOAWAY, 0, 0, u32(0) + u32(NO_ERROR) + b"bye").settled()
        over.set()
        assert h.response(1).body == h.response(3).body == b"late"
        h.end()


def test_an_ending_balancer_says_so_and_ends_what_it_has(lab):
    over = threading.Event()
    origin = lab.origin(lambda conn, r: conn.hold(over) or ok(b"late"))
    lb = lab.proxy(origin, drain_timeout="20s")
    with H2(lb.client()) as h:
        h.headers(1, request())
        origin.wait_requests(1)
        lb.signal(signal.SIGTERM)
        h.until(lambda: h.goaway)
        assert h.goaway[0] == NO_ERROR and h.goaway[1] >= 1
        over.set()
        assert h.response(1).body == b"late"
        assert h.end().code == NO_ERROR


def test_what_goaway_calls_untouched_is(lab):
    """6.8: streams above its last one may be sent again.  Here it waits behind what the client does not read,
    and the client, which has not heard of it, goes on asking."""
    origin = lab.origin(lambda conn, r: ok(bytes(16 << 20)) if r.target == "/big" else ok())
    lb = lab.proxy(origin, drain_timeout="60s")
    with H2(lb.client(rcvbuf=4096), values={INITIAL_WINDOW_SIZE: 1 << 30}, update=False) as h:
        h.raw(WINDOW_UPDATE, 0, 0, u32(1 << 30)).headers(1, request(path="/big"))
        origin.wait_requests(1)
        lb.signal(signal.SIGTERM)
        for n in range(3, 103, 2):  # until well after its word of warning
            h.headers(n, request(path=f"/{n}"))
            time.sleep(0.04)
        g = h.end()
        assert g.code == NO_ERROR and 1 <= g.last < 0x7fffffff
        assert {int(r.target[1:]) for r in origin.requests if r.target != "/big"} <= set(range(g.last + 1))


def test_a_stream_that_is_cancelled_ends_at_the_server(lab):
    gone = threading.Event()
    origin = lab.origin(script=lambda conn: conn.read_head() and conn.wait_eof(20) and gone.set())
    lb = lab.proxy(origin, log="json")
    with H2(lb.client()) as h:
        h.headers(1, request())
        origin.wait_requests(1)
        h.rst(1).settled()
        assert gone.wait(10 * SLOW)
        assert lb.log_json(1)[0]["end"] == "client-gone"


# --- attacks -------------------------------------------------------------------------------------

def flood(h, packets, most=10.0):
    """Sends packets without reading much, until the peer has had enough.  Returns its GoneAway, None when it
    took them all."""
    end = time.monotonic() + most * SLOW
    try:
        for p in packets:
            assert time.monotonic() < end, "it neither takes them nor ends the connection"
            if not h.c.send_some(p):
                break
            while h.c.is_open() and len(h.c.buf) > 9:
                h.read_frame()
        h.settled()
    except GoneAway as g:
        return g
    return None


@pytest.fixture
def attacked(lab):
    origin = lab.origin(lambda conn, r: None if conn.eof.wait(0.05) else ok())
    lb = lab.proxy(origin, admin_http=True, workers=1)
    before = rss_bytes(lb.child.pid)
    with H2(lb.client()) as bystander:
        assert bystander.ask(1).status == 200
        yield lb, origin
        assert bystander.ask(3).status == 200
    assert lb.client().get("/").read_response().status == 200
    assert rss_bytes(lb.child.pid) - before < (64 << 20) * SLOW, "memory grew"


def open_stream(n):
    return frame(HEADERS, END_HEADERS | END_STREAM, n, literals(request()))


def batches(make, n, per=50):
    return (b"".join(make(i) for i in range(at, at + per)) for at in range(0, n, per))


# Each makes the server drop a stream that it has just begun to work for.
RESETS = {
    "RST_STREAM (CVE-2023-44487)": lambda n: frame(RST_STREAM, 0, n, u32(CANCEL)),
    "WINDOW_UPDATE of 0 (CVE-2025-8671)": lambda n: frame(WINDOW_UPDATE, 0, n, u32(0)),
    "WINDOW_UPDATE beyond 2^31 (CVE-2025-8671)": lambda n: frame(WINDOW_UPDATE, 0, n, u32(0x7fffffff)),
    "DATA behind the end (CVE-2025-8671)": lambda n: frame(DATA, 0, n, b"x"),
    "HEADERS behind the end (CVE-2025-8671)": lambda n: frame(HEADERS, END_HEADERS | END_STREAM, n, literals([("x-t", "1")])),
}


@pytest.mark.parametrize("reset", RESETS.values(), ids=RESETS)
def test_who_begins_streams_only_to_have_them_dropped_is_sent_away(attacked, reset):
    lb, origin = attacked
    with H2(lb.client()) as h:
        g = flood(h.settled(), batches(lambda i: open_stream(2 * i + 1) + reset(2 * i + 1), 10000))
        # who goes on sending for long is reset in the end, which may eat the GOAWAY
        assert g and g.code in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, STREAM_CLOSED, FLOW_CONTROL_ERROR,
                                *([None] if g.reset else [])), g
    assert len(origin.requests) < 5000


def test_malformed_requests_without_end_are_sent_away(attacked):
    """Each is answered by a reset: the same, by another way (CVE-2025-8671)."""
    lb, origin = attacked
    bad = literals(request(fields=[("connection", "close")]))
    with H2(lb.client()) as h:
        g = flood(h.settled(), batches(lambda i: frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, bad), 10000))
        assert g and g.code in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR), g


def test_a_client_that_cancels_now_and_then_is_not_an_attacker(attacked):
    lb, _ = attacked
    with H2(lb.client()) as h:
        for n in range(1, 401, 2):
            h.headers(n, request())
            if n % 5 == 1:
                h.rst(n).settled()
            else:
                h.response(n)


@pytest.mark.parametrize("size", [0, 1, 1000, 16384])
def test_a_field_block_without_end(attacked, size):
    """CVE-2024-27316."""
    lb, _ = attacked
    with H2(lb.client()) as h:
        h.raw(HEADERS, END_STREAM, 1, literals(request()))
        piece = frame(CONTINUATION, 0, 1, (b"\0\x01x\x01y" * 4096)[:size])
        g = flood(h, batches(lambda i: piece, 20000, per=100))
        assert g is not None, "it goes on reading"


# What is answered, or has to be remembered, one for one.
FLOODS = {
    "SETTINGS": lambda i: frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 65535 + i % 7})),
    "empty SETTINGS": lambda i: frame(SETTINGS),
    "PING": lambda i: pings(),
    "PRIORITY": lambda i: frame(PRIORITY, 0, 2 * i + 3, u32(2 * i + 1) + b"\x10"),
    "PRIORITY_UPDATE": lambda i: frame(0x10, 0, 0, u32(2 * i + 3) + b"u=1"),
    "empty DATA": lambda i: frame(DATA, 0, 1),
    "DATA of padding": lambda i: frame(DATA, PADDED, 1, b"\0"),
    "WINDOW_UPDATE": lambda i: frame(WINDOW_UPDATE, 0, 0, u32(1)),
    "frames of an unknown type": lambda i: frame(0xfa, 0, 0, b"x" * 10),
    "GOAWAY": lambda i: frame(GOAWAY, 0, 0, u32(0) + u32(0)),
}
ENDED = {"SETTINGS", "empty SETTINGS", "PING", "empty DATA", "DATA of padding"}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_small_frames(attacked, name):
    lb, _ = attacked
    with H2(lb.client()) as h:
        h.headers(1, request("POST"), end=False).settled()
        g = flood(h, batches(FLOODS[name], 50000, per=500))
        if name in ENDED:
            assert g and g.code == ENHANCE_YOUR_CALM, g
        else:
            assert g is None or g.code in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, NO_ERROR), g


def test_answers_that_nobody_reads_are_bounded(attacked):
    """PING and SETTINGS are answered; who does not read the answers is not read from."""
    lb, _ = attacked
    h = H2(lb.client(timeout=2, rcvbuf=4096))
    try:
        for _ in range(4000):
            h.c.send(pings() * 100)
    except OSError:
        pass


def test_refusals_that_nobody_reads_are_bounded(lab):
    """Streams beyond a limit that is not acknowledged: each is reset, and who does not read gathers the resets."""
    origin = lab.origin(lambda conn, r: ok(bytes(16 << 20)))
    lb = lab.proxy(origin)
    h = H2(lb.client(rcvbuf=4096), values={INITIAL_WINDOW_SIZE: 1 << 30}, update=False)
    h.raw(WINDOW_UPDATE, 0, 0, u32(1 << 30)).headers(1, request())
    wait_until(lambda: len(h.c.sock.recv(1024, socket.MSG_PEEK)) == 1024, 5, "the answer begins")
    for n in range(3, 201, 2):  # these it takes, and meanwhile the way back fills
        h.headers(n, request("POST"), end=False)
        time.sleep(0.01)
    for p in batches(lambda i: frame(HEADERS, END_HEADERS, 2 * i + 201, literals(request())), 200000, per=500):
        if not h.send_some(p):
            break
    else:
        raise AssertionError("it takes them all")


def test_a_field_block_by_the_byte_has_its_time(lab):
    """Each byte is an event; none of them puts the head's time limit off."""
    lb = lab.proxy(lab.origin(ok()), listen={"head_timeout": "300ms"})
    with H2(lb.client()) as h:
        h.raw(HEADERS, END_STREAM, 1, literals(request())).send(frame(CONTINUATION, 0, 1, bytes(5000))[:9])
        for _ in range(1000):
            if not h.send_some(b"x"):
                break
            time.sleep(0.02)
        else:
            raise AssertionError("it goes on reading")


def test_windows_that_stay_shut_are_not_waited_for(lab):
    """Each answer waits for a window that never opens: they end by the listener's send-timeout."""
    origin = lab.origin(ok(bytes(200000)))
    lb = lab.proxy(origin, listen={"send_timeout": "300ms"}, log="json")
    with H2(lb.client(), values={INITIAL_WINDOW_SIZE: 0}, update=False) as h:
        for n in range(1, 21, 2):
            h.headers(n, request())
        try:
            h.until(lambda: all(h.stream(n).rst is not None for n in range(1, 21, 2)))
        except GoneAway:
            pass
        assert {r["end"] for r in lb.log_json(10)} <= {"send-timeout"}
    wait_until(lambda: lb.cli_json("status")["in_flight"] == 0, 5, "nothing is held")


def test_windows_that_open_by_a_byte_are_bounded(lab):
    """Slow windows: a byte now and then is progress, but no other connection waits for it."""
    lb = lab.proxy(lab.origin(ok(bytes(50000))))
    with H2(lb.client(), values={INITIAL_WINDOW_SIZE: 1}, update=False) as slow, H2(lb.client()) as other:
        slow.headers(1, request())
        for n in range(1, 101, 2):
            slow.raw(WINDOW_UPDATE, 0, 1, u32(1))
            assert len(other.ask(n).body) == 50000
        slow.until(lambda: len(slow.stream(1).body) == 51)
