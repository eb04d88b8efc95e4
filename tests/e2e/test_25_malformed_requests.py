# SPDX-License-Identifier: BSD-2-Clause
"""Requests that two implementations could read differently: refused, and never forwarded.

Each row of HEADS is a head that must be answered with one of the statuses (or be met with silence and
a close, where "close" is among them), after which the connection ends and the origin has seen nothing.
Each row of BODIES has a sound head and an unsound body: the origin may have seen the head, but never
a whole message.
"""

import pytest

from instruments.client import Closed
from instruments.origin import ok
from instruments.proxy_status import error_of
from instruments.wait import wait_until

B400 = (400,)
GET = b"GET / HTTP/1.1\r\nHost: t\r\n"
POST = b"POST / HTTP/1.1\r\nHost: t\r\n"
END = b"\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"


def line(text):
    return text + b"\r\nHost: t\r\n\r\n"


def field(text, base=GET):
    return base + text + b"\r\n\r\n"


def body(fields, data=b""):
    return POST + fields + b"\r\n\r\n" + data


HEADS = {
    # RFC 9112 2.2: line ends, control bytes
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: t\n\n", B400),
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: t\r\n\r\n", B400),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: t\nX-A: 1\r\n\r\n", B400),
    "bare LF as the empty line": (GET + b"\n", B400),
    "bare LF before the request line": (b"\nGET / HTTP/1.1\r\nHost: t\r\n\r\n", B400),
    "bare LF in a value hides a field": (field(b"X-A: 1\nContent-Length: 5"), B400),
    "bare CR in a value": (field(b"X-A: 1\r2"), B400),
    "bare CR before a hidden field": (field(b"X-A: 1\rTransfer-Encoding: chunked"), B400),
    "bare CR in the request line": (line(b"GET /\r HTTP/1.1"), B400),
    "bare CR before the request line": (b"\rGET / HTTP/1.1\r\nHost: t\r\n\r\n", B400),
    "CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: t\r\n\r\n", B400),
    "NUL in a value": (field(b"X-A: 1\x002"), B400),
    "NUL in a name": (field(b"X\x00A: 1"), B400),
    "NUL in the target": (line(b"GET /a\x00b HTTP/1.1"), B400),
    "NUL in the method": (line(b"G\x00T / HTTP/1.1"), B400),
    "control byte in a value": (field(b"X-A: 1\x012"), B400),
    "escape byte in a value": (field(b"X-A: \x1b[31m"), B400),
    "DEL in a value": (field(b"X-A: 1\x7f"), B400),
    "vertical tab in a value": (field(b"X-A: \x0b1"), B400),
    "form feed in a value": (field(b"X-A: \x0c1"), B400),
    # RFC 9112 5: field lines
    "folded line by space": (field(b"X-A: 1\r\n 2"), B400),
    "folded line by tab": (field(b"X-A: 1\r\n\t2"), B400),
    "folded empty line": (field(b"X-A: 1\r\n \r\nX-B: 2"), B400),
    "folded Transfer-Encoding": (body(b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n"), B400),
    "space before the first field": (b"GET / HTTP/1.1\r\n Host: t\r\nX-A: b\r\n\r\n", B400),
    "tab before the first field": (b"GET / HTTP/1.1\r\n\tX-A: b\r\nHost: t\r\n\r\n", B400),
    "space before the colon": (field(b"X-A : 1"), B400),
    "tab before the colon": (field(b"X-A\t: 1"), B400),
    "space before the colon of Content-Length": (body(b"Content-Length : 5", b"hello"), B400),
    "space before the colon of Transfer-Encoding": (body(b"Transfer-Encoding : chunked", b"0\r\n\r\n"), B400),
    "no colon": (field(b"X-A"), B400),
    "no name": (field(b": 1"), B400),
    "space in a name": (field(b"X A: 1"), B400),
    "bracket in a name": (field(b"X[A]: 1"), B400),
    "at sign in a name": (field(b"X@A: 1"), B400),
    "quote in a name": (field(b'X"A: 1'), B400),
    "comma in a name": (field(b"X,A: 1"), B400),
    "slash in a name": (field(b"X/A: 1"), B400),
    "8-bit byte in a name": (field(b"X\xe9: 1"), B400),
    "second request line as a field": (field(b"GET / HTTP/1.1"), B400),
    # RFC 9112 3: request line
    "no version": (b"GET /\r\nHost: t\r\n\r\n", B400),
    "HTTP/0.9": (b"GET /\r\n\r\n", B400),
    "no target": (line(b"GET HTTP/1.1"), B400),
    "only a method": (line(b"GET"), B400),
    "two spaces before the target": (line(b"GET  / HTTP/1.1"), B400),
    "two spaces after the target": (line(b"GET /  HTTP/1.1"), B400),
    "tab instead of space": (line(b"GET\t/\tHTTP/1.1"), B400),
    "space in the target": (line(b"GET /a b HTTP/1.1"), B400),
    "space at the begin": (line(b" GET / HTTP/1.1"), B400),
    "space at the end": (line(b"GET / HTTP/1.1 "), B400),
    "a fourth word": (line(b"GET / HTTP/1.1 x"), B400),
    "bracket in the method": (line(b"G(T / HTTP/1.1"), B400),
    "colon in the method": (line(b"GET: / HTTP/1.1"), B400),
    "8-bit byte in the method": (line(b"G\xc9T / HTTP/1.1"), B400),
    "no method": (line(b"/ HTTP/1.1"), B400),
    # versions
    "HTTP/2.0": (line(b"GET / HTTP/2.0"), (400, 505)),
    "HTTP/0.9 said aloud": (line(b"GET / HTTP/0.9"), (400, 505)),
    "HTTP/3": (line(b"GET / HTTP/3"), (400, 505)),
    "lower case http": (line(b"GET / http/1.1"), B400),
    "one digit": (line(b"GET / HTTP/1"), B400),
    "two digits after the dot": (line(b"GET / HTTP/1.10"), (400, 505)),
    "two digits before the dot": (line(b"GET / HTTP/11.1"), (400, 505)),
    "leading zero": (line(b"GET / HTTP/01.1"), (400, 505)),
    "comma for dot": (line(b"GET / HTTP/1,1"), B400),
    "no digit": (line(b"GET / HTTP/x.y"), B400),
    "space in the version": (line(b"GET / HTTP/ 1.1"), B400),
    "another protocol": (line(b"GET / FTP/1.1"), B400),
    "another protocol of four letters": (line(b"GET / HTTQ/1.1"), B400),
    # targets
    "relative target": (line(b"GET a/b HTTP/1.1"), B400),
    "query without path": (line(b"GET ?a HTTP/1.1"), B400),
    "asterisk with GET": (line(b"GET * HTTP/1.1"), B400),
    "asterisk and more": (line(b"OPTIONS *a HTTP/1.1"), B400),
    "absolute-form without host": (line(b"GET http:/// HTTP/1.1"), B400),
    "absolute-form with an empty host and port": (line(b"GET http://:80/ HTTP/1.1"), B400),
    "absolute-form with user": (line(b"GET http://me@t/ HTTP/1.1"), B400),
    "absolute-form with a bad port": (line(b"GET http://t:8x/ HTTP/1.1"), B400),
    "absolute-form of an unknown scheme": (line(b"GET gopher://t/ HTTP/1.1"), (400, 404, 421, 501)),
    "DEL in the target": (line(b"GET /\x7f HTTP/1.1"), B400),
    "fragment in the target": (line(b"GET /a#b HTTP/1.1"), B400),
    "authority-form with GET": (line(b"GET t:80 HTTP/1.1"), B400),
    # Host, RFC 9112 3.2
    "no Host": (b"GET / HTTP/1.1\r\nX-A: b\r\n\r\n", B400),
    "no field at all": (b"GET / HTTP/1.1\r\n\r\n", B400),
    "no Host with absolute-form": (b"GET http://t/ HTTP/1.1\r\n\r\n", B400),
    "two equal Hosts": (field(b"Host: t"), B400),
    "two different Hosts": (field(b"host: u"), B400),
    "two Hosts with absolute-form": (b"GET http://t/ HTTP/1.1\r\nHost: t\r\nHost: u\r\n\r\n", B400),
    "two Hosts in one": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", B400),
    "space in Host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", B400),
    "user in Host": (b"GET / HTTP/1.1\r\nHost: me@a\r\n\r\n", B400),
    "path in Host": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", B400),
    "scheme in Host": (b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", B400),
    "query in Host": (b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", B400),
    "fragment in Host": (b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", B400),
    "backslash in Host": (b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", B400),
    "letters in the port": (b"GET / HTTP/1.1\r\nHost: a:8o\r\n\r\n", B400),
    "two ports": (b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", B400),
    "IPv6 without end": (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", B400),
    "IPv6 with rubbish": (b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", B400),
    "Host in HTTP/1.0 twice": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", B400),
    # Content-Length, RFC 9112 6.3
    "different lengths": (body(b"Content-Length: 5\r\nContent-Length: 6", b"hello!"), B400),
    "different lengths in a list": (body(b"Content-Length: 5, 6", b"hello!"), B400),
    "length and empty length": (body(b"Content-Length: 5\r\nContent-Length:", b"hello"), B400),
    "lengths of different spelling": (body(b"Content-Length: 5\r\nContent-Length: +5", b"hello"), B400),
    "signed length": (body(b"Content-Length: +5", b"hello"), B400),
    "negative length": (body(b"Content-Length: -5", b"hello"), B400),
    "hexadecimal length": (body(b"Content-Length: 0x5", b"hello"), B400),
    "decimal length": (body(b"Content-Length: 5.0", b"hello"), B400),
    "length with a unit": (body(b"Content-Length: 5 bytes", b"hello"), B400),
    "length with an inner space": (body(b"Content-Length: 1 5", b"hello"), B400),
    "length with an underscore": (body(b"Content-Length: 1_0", b"hello"), B400),
    "length in words": (body(b"Content-Length: five", b"hello"), B400),
    "empty length": (body(b"Content-Length:"), B400),
    "length with exponent": (body(b"Content-Length: 1e1", b"hello"), B400),
    "length of 2^64": (body(b"Content-Length: 18446744073709551616", b"hello"), (400, 413)),
    "length of 2^64 + 5": (body(b"Content-Length: 18446744073709551621", b"hello"), (400, 413)),
    "length of many digits": (body(b"Content-Length: " + b"9" * 60, b"hello"), (400, 413)),
    "length with a comma at the end": (body(b"Content-Length: 5,", b"hello"), B400),
    "length in fullwidth digits": (body("Content-Length: ５".encode(), b"hello"), B400),
    # Transfer-Encoding, RFC 9112 6.1, 6.3
    "length and chunked": (body(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + NEXT), B400),
    "chunked and length": (body(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n" + NEXT), B400),
    "length 0 and chunked": (body(b"Content-Length: 0\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), B400),
    "length and identity": (body(b"Content-Length: 5\r\nTransfer-Encoding: identity", b"hello"), (400, 501)),
    "chunked is not last": (body(b"Transfer-Encoding: chunked, gzip", b"0\r\n\r\n"), (400, 501)),
    "chunked is not last, two fields": (body(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", b"0\r\n\r\n"), (400, 501)),
    "chunked twice": (body(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n"), (400, 501)),
    "chunked twice, two fields": (body(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), (400, 501)),
    "gzip alone": (body(b"Transfer-Encoding: gzip", b"x"), (400, 501)),
    "gzip, chunked": (body(b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"), (400, 501)),
    "identity": (body(b"Transfer-Encoding: identity", b"0\r\n\r\n"), (400, 501)),
    "xchunked": (body(b"Transfer-Encoding: xchunked", b"0\r\n\r\n"), (400, 501)),
    "chunkedx": (body(b"Transfer-Encoding: chunkedx", b"0\r\n\r\n"), (400, 501)),
    "chunked in quotes": (body(b'Transfer-Encoding: "chunked"', b"0\r\n\r\n"), (400, 501)),
    "chunked with a parameter": (body(b"Transfer-Encoding: chunked;q=1", b"0\r\n\r\n"), (400, 501)),
    "chunked after a vertical tab": (body(b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n"), (400, 501)),
    "chunked with NUL": (body(b"Transfer-Encoding: chunked\x00", b"0\r\n\r\n"), (400, 501)),
    "chunked and identity": (body(b"Transfer-Encoding: identity, chunked", b"0\r\n\r\n"), (400, 501)),
    "empty Transfer-Encoding": (body(b"Transfer-Encoding:", b"0\r\n\r\n"), (400, 501)),
    "only a comma": (body(b"Transfer-Encoding: ,", b"0\r\n\r\n"), (400, 501)),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", B400),
    "chunked and length in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", B400),
    # other protocols at this door
    "almost the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", (400, 505, "close")),
    "a TLS hello": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(64)) + b"\r\n\r\n", (400, "close")),
    "an SSH banner": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (400, "close")),
    "a PROXY line": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n", B400),
    "rubbish": (b"\xff\xfe\xfd\xfc\r\n\r\n", (400, "close")),
    "a lone colon": (b":\r\n\r\n", B400),
    "SMTP": (b"EHLO x\r\n\r\n", B400),
    # too much
    "too large a head": (field(b"X-A: " + b"b" * 20000), (431,)),
    "too many fields": (GET + b"".join(b"X-%d: 1\r\n" % i for i in range(200)) + END, (431,)),
    "too long a target": (line(b"GET /" + b"a" * 9000 + b" HTTP/1.1"), (414,)),
    "too long a name": (field(b"X" * 20000 + b": 1"), (431,)),
}

CH = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = {
    "empty chunk size": CH + b"\r\nhello\r\n0\r\n\r\n",
    "chunk size is a word": CH + b"xyz\r\nhello\r\n0\r\n\r\n",
    "chunk size with 0x": CH + b"0x5\r\nhello\r\n0\r\n\r\n",
    "negative chunk size": CH + b"-5\r\nhello\r\n0\r\n\r\n",
    "signed chunk size": CH + b"+5\r\nhello\r\n0\r\n\r\n",
    "space before the chunk size": CH + b" 5\r\nhello\r\n0\r\n\r\n",
    "space in the chunk size": CH + b"0 5\r\nhello\r\n0\r\n\r\n",
    "underscore in the chunk size": CH + b"0_5\r\nhello\r\n0\r\n\r\n",
    "rubbish after the chunk size": CH + b"5x\r\nhello\r\n0\r\n\r\n",
    "NUL after the chunk size": CH + b"5\x00\r\nhello\r\n0\r\n\r\n",
    "chunk size of 2^64": CH + b"10000000000000000\r\nhello\r\n0\r\n\r\n",
    "chunk size of 2^64 + 5": CH + b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk size of 2^128 + 5": CH + b"100000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk size of many zeros without end": CH + b"0" * 20000,
    "bare LF after the chunk size": CH + b"5\nhello\r\n0\r\n\r\n",
    "bare CR after the chunk size": CH + b"5\rhello\r\n0\r\n\r\n",
    "bare LF after the data": CH + b"5\r\nhello\n0\r\n\r\n",
    "nothing after the data": CH + b"5\r\nhello0\r\n\r\n",
    "more data than said": CH + b"5\r\nhello world\r\n0\r\n\r\n",
    "less data than said": CH + b"7\r\nhello\r\n0\r\n\r\n" + b"x" * 32,
    "bare LF in a chunk extension": CH + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "bare CR in a chunk extension": CH + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in a chunk extension": CH + b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
    "an endless chunk extension": CH + b"5;" + b"a" * 100000,
    "a bare LF ends the body": CH + b"5\r\nhello\r\n0\r\n\n",
    "a bare LF after the last chunk": CH + b"5\r\nhello\r\n0\n\r\n",
    "space before a colon in the trailers": CH + b"0\r\nX-A : b\r\n\r\n",
    "no colon in the trailers": CH + b"0\r\nX-A\r\n\r\n",
    "folded trailer": CH + b"0\r\nX-A: b\r\n c\r\n\r\n",
    "bare LF in the trailers": CH + b"0\r\nX-A: b\nX-B: c\r\n\r\n",
    "NUL in the trailers": CH + b"0\r\nX-A: b\x00\r\n\r\n",
    "a request line in the trailers": CH + b"0\r\nGET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n",
    "endless trailers": CH + b"0\r\n" + b"X-A: b\r\n" * 3000,
}


def test_the_table_is_as_long_as_it_should_be():
    assert len(HEADS) + len(BODIES) >= 80


@pytest.fixture(scope="module")
def world(house):
    origin = house.origin(lambda conn, r: ok(r.target))
    lb = house.proxy(origin)
    return origin, lb


def in_step(origin, lb, marker):
    """A sound request passes and the origin has seen nothing else."""
    c = lb.client()
    assert c.request(marker).status == 200
    c.close()
    seen = [r.target for r in origin.requests if r.whole]
    origin.clear()
    return seen == [marker] or pytest.fail(f"the origin saw {seen}")


@pytest.mark.parametrize("name", HEADS)
def test_head_is_refused(world, name):
    origin, lb = world
    data, allowed = HEADS[name]
    origin.clear()
    received = sum(c.n_received for c in origin.connections)
    c = lb.client()
    c.send_some(data)
    c.send_some(NEXT)  # what follows must not be taken for a request
    try:
        r = c.read_response()
    except Closed as e:
        assert "close" in allowed and not e.data, f"closed without the answer {allowed}: {e}"
    else:
        assert r.status in allowed, f"expected {allowed}, got {r}"
        assert error_of(r) and len(r.body) <= 2048
        c.expect_close()
    assert sum(x.n_received for x in origin.connections) == received, "something was forwarded"
    assert in_step(origin, lb, "/after")


@pytest.mark.parametrize("name", BODIES)
def test_body_is_refused(world, name):
    origin, lb = world
    origin.clear()
    c = lb.client()
    c.send_some(BODIES[name])
    c.send_some(NEXT)
    try:
        r = c.read_response()
        assert r.status in (400, 413, 431), f"{r}"
        c.expect_close()
    except Closed:
        pass  # broken off is sound too
    before = [x for x in origin.requests]
    wait_until(lambda: all(r.whole or r.conn.eof.is_set() or r.conn.done.is_set() for r in before), 5,
               "the origin's connection with the unfinished request ends")
    assert in_step(origin, lb, "/after")


@pytest.mark.parametrize("cut", [1, 7, 14, 16, 25, 26])
def test_a_request_cut_off_is_never_forwarded(world, cut):
    origin, lb = world
    origin.clear()
    c = lb.client()
    c.send((GET + END)[:cut])
    c.shutdown()
    data = c.drain()
    assert data == b"" or data.startswith(b"HTTP/1.1 400")
    assert in_step(origin, lb, "/after")


def test_a_reset_client_leaves_nothing_behind(world):
    origin, lb = world
    origin.clear()
    for data in (b"GET / HT", POST + b"Content-Length: 10\r\n\r\nabc"):
        c = lb.client()
        c.send(data)
        c.rst()
    assert in_step(origin, lb, "/after")
    wait_until(lambda: all(r.whole or r.conn.eof.is_set() for r in list(origin.requests)), 5)
