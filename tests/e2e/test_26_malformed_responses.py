# SPDX-License-Identifier: BSD-2-Clause
"""Responses that could be read differently: 502 while no head is out, a broken connection afterwards.

Nobody shall take a cut or doubtful body for a whole one, and no byte of one answer for the next.
"""

import time

import pytest

from instruments.client import Closed
from instruments.origin import ok
from instruments.proxy_status import assert_own_answer
from instruments.wait import wait_until

OK = b"HTTP/1.1 200 OK\r\n"


def field(text):
    return OK + text + b"\r\nContent-Length: 2\r\n\r\nok"


def framed(fields, data=b""):
    return OK + fields + b"\r\n\r\n" + data


# the client gets 502
HEADS = {
    "nothing": b"",
    "rubbish": b"\x00\x01\x02\x03\r\n\r\n",
    "words": b"hello world\r\n\r\n",
    "half a status line": b"HTTP/1.1 2",
    "half a head": OK + b"X-A: b\r\n",
    "another protocol": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "lower case http": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "two digits of status": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "four digits of status": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status in letters": b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
    "status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
    "two spaces before the status": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no space after the status": b"HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\nok",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok",
    "bare LF everywhere": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "bare LF after the status line": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
    "bare LF after a field": field(b"X-A: b\nX-B: c"),
    "bare CR in a value": field(b"X-A: b\rc"),
    "NUL in a value": field(b"X-A: b\x00c"),
    "control byte in a value": field(b"X-A: b\x01c"),
    "folded line": field(b"X-A: b\r\n c"),
    "space before the first field": OK + b" X-A: b\r\nContent-Length: 2\r\n\r\nok",
    "space before a colon": field(b"X-A : b"),
    "no colon": field(b"X-A"),
    "no name": field(b": b"),
    "space in a name": field(b"X A: b"),
    "length and chunked": framed(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "chunked and length": framed(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n"),
    "different lengths": framed(b"Content-Length: 2\r\nContent-Length: 3", b"okk"),
    "different lengths in a list": framed(b"Content-Length: 2, 3", b"okk"),
    "negative length": framed(b"Content-Length: -2", b"ok"),
    "signed length": framed(b"Content-Length: +2", b"ok"),
    "hexadecimal length": framed(b"Content-Length: 0x2", b"ok"),
    "length with rubbish": framed(b"Content-Length: 2x", b"ok"),
    "empty length": framed(b"Content-Length:", b"ok"),
    "length of 2^64 + 2": framed(b"Content-Length: 18446744073709551618", b"ok"),
    "chunked is not last": framed(b"Transfer-Encoding: chunked, gzip", b"0\r\n\r\n"),
    "chunked twice": framed(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n"),
    "unknown coding": framed(b"Transfer-Encoding: xchunked", b"ok"),
    "gzip, chunked that nobody asked for": framed(b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "switching although nobody asked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "an interim response and then nothing": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "an interim response and then rubbish": b"HTTP/1.1 103 Early Hints\r\n\r\nrubbish\r\n\r\n",
    "a head that is far too large": OK + b"X-A: " + b"b" * 300000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "far too many fields": OK + b"X-A: b\r\n" * 3000 + b"Content-Length: 2\r\n\r\nok",
    "a head without end": OK + b"X-A: " + b"b" * 2000000,
}

# the head was sound: the client must notice that the rest is not
BODIES = {
    "closed inside the length": framed(b"Content-Length: 10", b"abc"),
    "closed before any byte of the length": framed(b"Content-Length: 10"),
    "closed inside a chunk": framed(b"Transfer-Encoding: chunked", b"5\r\nab"),
    "closed between chunks": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n"),
    "closed inside a chunk size": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n1"),
    "closed before the last empty line": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n0\r\n"),
    "closed inside the trailers": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n0\r\nX-A: b"),
    "chunk size in letters": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\nzz\r\nab\r\n0\r\n\r\n"),
    "empty chunk size": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n\r\nab\r\n0\r\n\r\n"),
    "chunk size of 2^64 + 2": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n10000000000000002\r\nab\r\n0\r\n\r\n"),
    "negative chunk size": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n-2\r\nab\r\n0\r\n\r\n"),
    "bare LF after a chunk size": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n2\nab\r\n0\r\n\r\n"),
    "no CRLF after a chunk": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n2\r\nabc0\r\n\r\n"),
    "bare LF in a chunk extension": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n2;a\nb\r\nab\r\n0\r\n\r\n"),
    "space before a colon in the trailers": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n0\r\nX-A : b\r\n\r\n"),
    "folded trailer": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
    "endless trailers": framed(b"Transfer-Encoding: chunked", b"2\r\nab\r\n0\r\n" + b"X-A: b\r\n" * 20000),
}


def test_the_tables_are_as_long_as_they_should_be():
    assert len(HEADS) + len(BODIES) >= 30


@pytest.fixture(scope="module")
def world(house):
    def reply(conn, r):
        if r.target == "/good":
            return ok("good")
        conn.send(origin.bad)
        if origin.bad_end == "rst":
            conn.rst()
        elif origin.bad_end == "fin":
            conn.shutdown()
            conn.wait_eof(3)
            conn.close()
        return None
    origin = house.origin(reply)
    origin.bad_end = "fin"
    return origin, house.proxy(origin, pool={"retries": 0, "eject_after": 0, "first_byte_timeout": "5s"})


def still_serves(lb):
    c = lb.client()
    assert c.request("/good").body == b"good"
    c.close()


@pytest.mark.parametrize("name", HEADS)
def test_a_bad_head_is_a_502(world, name):
    origin, lb = world
    origin.bad, origin.bad_end = HEADS[name], "fin"
    c = lb.client()
    r = c.request("/bad")
    assert_own_answer(r, 502)
    assert b"ok" != r.body
    still_serves(lb)


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_breaks_the_connection(world, name):
    origin, lb = world
    origin.bad, origin.bad_end = BODIES[name], "fin"
    c = lb.client()
    c.get("/bad")
    try:
        r = c.read_response()
    except Closed:
        pass
    else:
        assert r.status == 502, f"a broken body looks whole: {r}"
    still_serves(lb)


@pytest.mark.parametrize("name", list(BODIES)[:8])
def test_a_bad_body_resets_a_http10_client(world, name):
    """HTTP/1.0 has no other way to say that a body of unknown length was cut."""
    origin, lb = world
    origin.bad, origin.bad_end = BODIES[name], "fin"
    c = lb.client()
    c.get("/bad", version="1.0")
    try:
        r = c.read_response()
    except Closed:
        pass
    else:
        assert r.status == 502, f"a broken body looks whole: {r}"
    still_serves(lb)


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("sent", [b"", OK, framed(b"Content-Length: 10", b"abc"), framed(b"X-A: b", b"abc"),
                                  framed(b"Transfer-Encoding: chunked", b"3\r\nabc\r\n")])
def test_a_server_that_resets(world, end, sent):
    origin, lb = world
    origin.bad, origin.bad_end = sent, end
    c = lb.client()
    c.get("/bad")
    try:
        r = c.read_response()
    except Closed:
        pass
    else:
        by_close = sent.startswith(OK + b"X-A") and end == "fin"
        assert r.status == 502 or (by_close and r.body == b"abc"), f"a broken body looks whole: {r}"
    still_serves(lb)


def test_a_reset_in_a_body_that_ends_with_the_connection_is_no_end(world):
    """The head and some body are out for certain before the reset."""
    origin, lb = world
    import threading
    seen = threading.Event()

    def reply(conn, r):
        if r.target == "/good":
            return ok("good")
        conn.send(framed(b"X-A: b", b"abc"))
        conn.hold(seen)
        conn.rst()
    old, origin.reply = origin.reply, reply
    try:
        for version in ("1.1", "1.0"):
            seen.clear()
            c = lb.client()
            c.get("/bad", version=version)
            r = c.read_head()
            if "transfer-encoding" in r.fields:
                assert c.read_chunk(r) == b"abc"
            else:
                assert c.read_exactly(3) == b"abc"
            seen.set()
            with pytest.raises(Closed) as e:
                c.read_body(r) if version == "1.1" else c.read_all()
            assert e.value.reset or version == "1.1"
    finally:
        origin.reply = old
    still_serves(lb)


def test_more_than_the_length_is_not_the_next_answer(lab):
    origin = lab.origin(lambda conn, r: ok(r.target) + (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" if r.target == "/a" else b""))
    c = lab.proxy(origin).client()
    c.get("/a")
    try:
        assert c.read_response().body == b"/a"
    except Closed:
        c = lab.balancers[0].client()
    assert c.request("/b").body == b"/b"
    assert c.request("/c").body == b"/c"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No Content\r\n\r\nextra", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nextra",
                                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nextra"])
def test_bytes_after_the_end_are_not_passed_on(lab, answer):
    origin = lab.origin(lambda conn, r: answer if r.target == "/a" else ok(r.target))
    lb = lab.proxy(origin)
    c = lb.client()
    c.get("/a")
    try:
        r = c.read_response()
        assert b"extra" not in r.body
        r = c.request("/b")
        assert r.body == b"/b"
    except Closed as e:
        assert b"extra" not in e.data
    assert lb.client().request("/c").body == b"/c"


def test_a_body_after_the_answer_to_head_is_not_passed_on(lab):
    origin = lab.origin(lambda conn, r: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra" if r.target == "/a" else ok(r.target))
    lb = lab.proxy(origin)
    c = lb.client()
    assert c.request("/a", method="HEAD")["content-length"] == "5"
    assert c.request("/b").body == b"/b"


def test_words_on_a_kept_connection_that_nobody_asked_for(lab):
    """The answer to the next request must not be what came before it was sent."""
    def script(conn):
        while (r := conn.read_request()) is not None:
            conn.send(ok(r.target))
            if r.target == "/a":
                conn.send(ok("evil"))
    origin = lab.origin(script=script)
    lb = lab.proxy(origin)
    c = lb.client()
    assert c.request("/a").body == b"/a"
    wait_until(lambda: origin.open_connections == 0, 5, "the connection with unasked bytes is closed")
    assert c.request("/b").body == b"/b"
    assert origin.n_connections == 2


def test_endless_interim_responses_are_bounded(lab):
    def script(conn):
        conn.read_request()
        end = time.monotonic() + 10
        while conn.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50) and time.monotonic() < end:
            pass
    lb = lab.proxy(lab.origin(script=script), pool={"retries": 0, "first_byte_timeout": "2s"})
    c = lb.client(timeout=8)
    c.get()
    try:
        r = c.read_response()
        assert r.status in (502, 504)
    except Closed:
        pass
