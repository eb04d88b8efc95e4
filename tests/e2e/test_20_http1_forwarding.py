# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/1.1 between a client and a server, as RFC 9110 and 9112 say."""

import threading
import time

import pytest

from instruments.client import fetch
from instruments.origin import chunked, ok, response
from instruments.proxy_status import assert_own_answer
from instruments.wait import stays, wait_until


# --- what passes untouched ---------------------------------------------------------------------

def test_end_to_end_fields_reach_the_server_in_order_and_as_sent(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    c.send(b"GET /a HTTP/1.1\r\nHost: h.example:81\r\nX-One: 1\r\nx-two:   two words \t\r\nAccept: a\r\nX-ONE: again\r\n"
           b"Cookie: a=b; c=d\r\nX-Empty:\r\nX-Eight: \xe9\xff\r\nUser-Agent: t/1 (x)\r\nProxy-Authorization: Basic eA==\r\n\r\n")
    assert c.read_response().status == 200
    r = origin.requests[0]
    assert r["host"] == "h.example:81"
    mine = [(n.lower(), v) for n, v in r.fields if n.lower() in (
        "x-one", "x-two", "accept", "cookie", "x-empty", "x-eight", "user-agent")]
    assert mine == [("x-one", "1"), ("x-two", "two words"), ("accept", "a"), ("x-one", "again"), ("cookie", "a=b; c=d"),
                    ("x-empty", ""), ("x-eight", "\xe9\xff"), ("user-agent", "t/1 (x)")]


def test_the_response_passes_as_sent(lab):
    origin = lab.origin(b"HTTP/1.1 299 Quite Fine\r\nSet-Cookie: a=1; Path=/\r\nX-A: 1\r\nSet-Cookie: b=2\r\n"
                        b"Server: origin/1\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 3\r\nETag: \"x\"\r\n\r\nabc")
    r = lab.proxy(origin).client().request()
    assert (r.version, r.status, r.reason, r.body) == ("1.1", 299, "Quite Fine", b"abc")
    assert r.fields.all("set-cookie") == ["a=1; Path=/", "b=2"]
    assert r["server"] == "origin/1" and r["etag"] == '"x"' and r["date"] == "Tue, 15 Nov 1994 08:12:31 GMT"


@pytest.mark.parametrize("target", ["/", "/a%2Fb%20c", "/a/../b/./c", "//double//slash", "/?", "/?a=b&c=%26?d",
                                    "/~user;v=1/x,y", "/a:b@c!$&'()*+,;=", "/" + "x" * 4000])
def test_the_target_is_not_rewritten(lab, target):
    origin = lab.origin()
    assert lab.proxy(origin).client().request(target).status == 200
    assert origin.requests[0].target == target


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "x"])
def test_any_method_passes(lab, method):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    c.send(f"{method} /m HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi")
    assert c.read_response(method).status == 200
    r = origin.requests[0]
    assert (r.method, r.target, r.body) == (method, "/m", b"hi")


def test_a_post_without_content_says_so(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
    assert c.read_response().status == 200
    assert origin.requests[0]["content-length"] == "0"  # RFC 9110 8.6: servers answer 411 without it


def test_the_server_is_spoken_to_in_http11(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    assert c.request(version="1.0", fields=[("Connection", "keep-alive")]).version == "1.1"
    assert origin.requests[0].version == "HTTP/1.1"


def test_a_large_field_passes(lab):
    origin = lab.origin(ok(b"x", [("X-Big", "r" * 7000)]))
    r = lab.proxy(origin).client().request(fields=[("X-Big", "q" * 7000)])
    assert origin.requests[0]["x-big"] == "q" * 7000 and r["x-big"] == "r" * 7000


# --- how bytes are cut -------------------------------------------------------------------------

def test_a_request_may_come_byte_by_byte(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy(origin).client()
    c.send_bytewise(b"POST /b HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
    assert c.read_response().body == b"abc"
    c.send_bytewise(b"POST /b HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nwxyz")
    assert c.read_response().body == b"wxyz"


def test_a_request_may_be_cut_anywhere(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy(origin).client()
    whole = b"POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;e\r\nbc\r\n0\r\n\r\n"
    for i in range(1, len(whole)):
        c.send(whole[:i])
        time.sleep(0.001)  # lets the first part arrive alone; nothing depends on it
        c.send(whole[i:])
        r = c.read_response()
        assert (r.status, r.body) == (200, b"abc"), f"cut at {i}"
    assert len(origin.requests) == len(whole) - 1


def test_a_response_may_come_byte_by_byte(lab):
    whole = chunked(b"ab", b"cde", trailers=[("X-T", "1")])
    origin = lab.origin(lambda conn, r: conn.send_pieces([whole[i:i + 1] for i in range(len(whole))], 0.0005) and None)
    c = lab.proxy(origin).client()
    for _ in range(2):
        assert c.request().body == b"abcde"


def test_empty_lines_before_a_request_are_skipped(lab):
    c = lab.proxy(lab.origin()).client()
    c.send(b"\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n")
    assert c.read_response().status == 200
    c.send(b"\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n")
    assert c.read_response().status == 200


# --- keep-alive and pipelining -----------------------------------------------------------------

def test_connections_are_kept_on_both_sides(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    for i in range(5):
        r = c.request(f"/{i}")
        assert r.status == 200 and "close" not in r.fields.list("connection")
    assert origin.n_connections == 1


def test_close_is_honoured(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    r = c.request(fields=[("Connection", "close")])
    assert [v.lower() for v in r.fields.list("connection")] == ["close"]
    c.expect_fin()
    assert not [v for v in origin.requests[0].fields.list("connection") if v.lower() == "close"]


def test_close_among_other_options_in_any_case(lab):
    c = lab.proxy(lab.origin()).client()
    c.request(fields=[("Connection", "foo, CLOSE")])
    c.expect_fin()


def test_a_closing_server_does_not_end_the_clients_connection(lab):
    def reply(conn, r):
        conn.send(ok("x", [("Connection", "close")]))
        conn.close()
    origin = lab.origin(reply)
    c = lab.proxy(origin).client()
    for _ in range(3):
        r = c.request()
        assert r.body == b"x" and "close" not in r.fields.list("connection")
    assert origin.n_connections == 3


def test_pipelined_requests_are_answered_in_order(lab):
    first_may_go = threading.Event()

    def reply(conn, r):
        if r.target == "/0":
            conn.hold(first_may_go)
        return ok(r.target)
    origin = lab.origin(reply)
    c = lab.proxy(origin, workers=1).client()
    c.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % i for i in range(8)))
    origin.wait_requests(1)
    c.expect_no_data(0.05)
    first_may_go.set()
    assert [c.read_response().body for _ in range(8)] == [b"/%d" % i for i in range(8)]


def test_pipelining_over_servers_of_different_speed(lab):
    """The second answer is ready before the first."""
    go = threading.Event()

    def reply(conn, r):
        if r.target == "/0":
            conn.hold(go)
        return ok(r.target)
    origins = [lab.origin(reply), lab.origin(reply)]
    c = lab.proxy(origins).client()
    c.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % i for i in range(4)))
    c.expect_no_data(0.05)
    go.set()
    assert [c.read_response().body for _ in range(4)] == [b"/0", b"/1", b"/2", b"/3"]


def test_pipelined_bodies_and_heads_stay_apart(lab):
    origin = lab.origin(lambda conn, r: ok(b"%s %s" % (r.method.encode(), r.body)))
    c = lab.proxy(origin).client()
    c.send(b"POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc"
           b"HEAD /b HTTP/1.1\r\nHost: t\r\n\r\n"
           b"PUT /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
           b"GET /d HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
           b"GET /never HTTP/1.1\r\nHost: t\r\n\r\n")
    assert c.read_response().body == b"POST abc"
    r = c.read_response("HEAD")
    assert r.body == b"" and r["content-length"] == "5"
    assert c.read_response().body == b"PUT de"
    assert c.read_response().body == b"GET "
    c.expect_close()
    assert [r.target for r in origin.requests] == ["/a", "/b", "/c", "/d"]  # nothing after close (RFC 9112 9.6)


def test_rubbish_after_a_good_request_is_refused_after_the_answer(lab):
    origin = lab.origin(lambda conn, r: ok(r.target))
    c = lab.proxy(origin).client()
    c.send(b"GET /good HTTP/1.1\r\nHost: t\r\n\r\nRUB BISH\r\n\r\n")
    assert c.read_response().body == b"/good"
    assert c.read_response().status == 400
    c.expect_close()
    assert len(origin.requests) == 1


def test_requests_per_connection_of_the_listener(lab):
    c = lab.proxy(lab.origin(), listen={"requests_per_connection": 3}).client()
    assert ["close" in c.request().fields.list("connection") for _ in range(3)] == [False, False, True]
    c.expect_fin()


# --- hop by hop --------------------------------------------------------------------------------

def test_hop_by_hop_fields_of_the_request_stay_here(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    c.request(fields=[("Connection", "keep-alive, X-Hop, x-two"), ("X-Hop", "1"), ("X-TWO", "2"), ("Keep-Alive", "timeout=5"),
                      ("Proxy-Connection", "keep-alive"), ("TE", "gzip"), ("X-Stays", "yes")])
    f = origin.requests[0].fields
    for gone in ("x-hop", "x-two", "keep-alive", "proxy-connection", "te"):
        assert gone not in f, f"{gone} was forwarded: {f}"
    assert f.get("x-stays") == "yes"
    assert not {"x-hop", "x-two"} & {v.lower() for v in f.list("connection")}


def test_hop_by_hop_fields_of_the_response_stay_here(lab):
    origin = lab.origin(ok("x", [("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("X-Stays", "1"),
                                 ("Proxy-Connection", "keep-alive"), ("Upgrade", "h2c")]))
    f = lab.proxy(origin).client().request().fields
    for gone in ("x-hop", "keep-alive", "proxy-connection", "upgrade"):
        assert gone not in f, f"{gone} was forwarded: {f}"
    assert f.get("x-stays") == "1"


@pytest.mark.parametrize("option", ["content-length", "host", "transfer-encoding", "content-length, host", "x-forwarded-for"])
def test_connection_cannot_nominate_what_framing_and_routing_need(lab, option):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    body = b"Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n" if "transfer" in option else b"Content-Length: 5\r\n\r\nGET /"
    c.send(b"POST /n HTTP/1.1\r\nHost: t\r\nConnection: %s\r\n" % option.encode() + body)
    if c.read_response().status == 400:
        assert not origin.requests
        return
    c.request("/next")
    first, second = origin.requests
    assert first.whole and first.body == b"GET /" and first["host"] == "t" and second.target == "/next"
    if option == "x-forwarded-for":
        assert first["x-forwarded-for"] == "127.0.0.1"


def test_te_trailers_is_passed_on_as_this_hops_own(lab):
    origin = lab.origin()
    lab.proxy(origin).client().request(fields=[("TE", "trailers"), ("Connection", "TE")])
    f = origin.requests[0].fields
    if "te" in f:  # RFC 9110 10.1.4: then Connection names it
        assert f.get("te").lower() == "trailers" and "te" in [v.lower() for v in f.list("connection")]


# --- who asked ---------------------------------------------------------------------------------

def test_via_is_added(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    c.request()
    c.request(fields=[("Via", "1.0 fred, 1.1 p.example")])
    c.request(version="1.0")
    via = [r.fields.list("via") for r in origin.requests]
    assert via[0] == ["1.1 meercat"]
    assert via[1] == ["1.0 fred", "1.1 p.example", "1.1 meercat"]
    assert via[2] == ["1.0 meercat"]


def test_via_carries_the_nodes_name_and_can_be_left_out(lab):
    origin = lab.origin()
    lab.proxy(origin, node="lb7").client().request()
    lab.proxy(origin, listen={"via": False}).client().request(fields=[("Via", "1.0 fred")])
    assert origin.requests[0].fields.list("via") == ["1.1 lb7"]
    assert origin.requests[1].fields.list("via") == ["1.0 fred"]


def test_x_forwarded_fields_tell_who_asked(lab):
    origin = lab.origin()
    lb = lab.proxy(origin)
    lb.client().request(host="shop.example:8080")
    r = origin.requests[0]
    assert (r["x-forwarded-for"], r["x-forwarded-proto"], r["x-forwarded-host"], r["x-forwarded-port"]) == (
        "127.0.0.1", "http", "shop.example:8080", str(lb.port))
    assert "forwarded" not in r.fields


LIES = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "7.7.7.7"), ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "bank.example"), ("X-Forwarded-Port", "443"), ("Forwarded", "for=6.6.6.6")]


def test_a_stranger_is_not_believed(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, listen={"trusted": ["10.0.0.0/8"]})
    lb.client().request(fields=LIES)
    r = origin.requests[0]
    assert (r["x-forwarded-for"], r["x-forwarded-proto"], r["x-forwarded-host"], r["x-forwarded-port"]) == (
        "127.0.0.1", "http", "test", str(lb.port))
    assert "6.6.6.6" not in r.head.decode("latin-1")


def test_a_trusted_peer_is_believed_and_the_list_grows(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, listen={"trusted": ["127.0.0.0/8"]})
    lb.client().request(fields=LIES[:5])
    r = origin.requests[0]
    assert r.fields.list("x-forwarded-for") == ["6.6.6.6", "7.7.7.7", "127.0.0.1"]
    assert (r["x-forwarded-proto"], r["x-forwarded-host"], r["x-forwarded-port"]) == ("https", "bank.example", "443")


def test_forwarded_as_rfc_7239_says(lab):
    origin = lab.origin()
    conf = lab.conf(origin)
    conf.listen("web", bind=[f"127.0.0.1:{conf.port}", f"[::1]:{conf.port}"], forward=["forwarded"])
    lb = lab.start(conf)
    fetch(lb.to, host="a.example:81")
    fetch(("::1", lb.port), host="b.example")
    fetch(lb.to, host="c.example", fields=[("Forwarded", "for=6.6.6.6;proto=https")])

    def pairs(r):
        value = r["forwarded"]
        assert "," not in value
        return dict(p.strip().split("=", 1) for p in value.lower().split(";"))
    a, b, c = (pairs(r) for r in origin.requests)
    assert a["for"].strip('"').split(":")[0] == "127.0.0.1" and a["proto"] == "http"
    assert a["host"] == '"a.example:81"', "a host with a port must be quoted (RFC 7239 4)"
    assert b["for"].startswith('"[::1]'), f"an IPv6 address is bracketed and quoted (RFC 7239 6): {b}"
    assert c["for"].strip('"').split(":")[0] == "127.0.0.1"
    assert not any("x-forwarded-for" in r.fields for r in origin.requests)


def test_forwarded_from_a_trusted_peer_is_extended(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, listen={"forward": ["x-forwarded", "forwarded"], "trusted": ["127.0.0.1"]})
    lb.client().request(fields=[("Forwarded", 'for="[2001:db8::1]:4711";proto=https;by=203.0.113.43')])
    r = origin.requests[0]
    elements = r.fields.list("forwarded")
    assert elements[0] == 'for="[2001:db8::1]:4711";proto=https;by=203.0.113.43' and len(elements) == 2
    assert "for=127.0.0.1" in elements[1].lower() or 'for="127.0.0.1' in elements[1].lower()
    assert r.fields.list("x-forwarded-for")[-1] == "127.0.0.1"


def test_a_request_id_is_set_or_passed_on(lab):
    origin = lab.origin()
    lb = lab.proxy(origin)
    c = lb.client()
    for _ in range(3):
        c.request()
    ids = [r["x-request-id"] for r in origin.requests]
    assert all(ids) and len(set(ids)) == 3
    trusting = lab.proxy(origin, listen={"trusted": ["127.0.0.1"]})
    trusting.client().request(fields=[("X-Request-ID", "given-42")])
    assert origin.requests[3]["x-request-id"] == "given-42"
    c.request(fields=[("X-Request-ID", "a\tb\"c")])
    assert len(origin.requests[4].fields.all("x-request-id")) == 1


# --- Host and the forms of a target --------------------------------------------------------------

@pytest.mark.parametrize("target, sent, host", [
    ("http://abs.example/x?y", "/x?y", "abs.example"),
    ("http://abs.example:81/", "/", "abs.example:81"),
    ("http://abs.example", "/", "abs.example"),
    ("http://abs.example?q=1", "/?q=1", "abs.example"),
    ("HTTP://ABS.example/x", "/x", "ABS.example"),
    ("http://[::1]:80/v6", "/v6", "[::1]:80"),
])
def test_absolute_form_overrides_host(lab, target, sent, host):
    origin = lab.origin()
    r = lab.proxy(origin).client().request(target, host="wrong.example")
    assert r.status == 200
    seen = origin.requests[0]
    assert seen.target == sent and seen["host"].lower() == host.lower()


def test_absolute_form_decides_the_route(lab):
    a, b = lab.origin(ok("a")), lab.origin(ok("b"))
    conf = lab.conf(a, routes=False)
    conf.pool("pb", {"s": b.address}).route("rb", "pb", host=["b.example"]).route("ra", "app", host=["a.example"])
    c = lab.start(conf).client()
    assert c.request("http://b.example/", host="a.example").body == b"b"
    assert c.request("/", host="a.example").body == b"a"


def test_options_asterisk(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    assert c.request("*", method="OPTIONS").status == 200
    assert origin.requests[0].line == "OPTIONS * HTTP/1.1"


def test_http10_without_host_is_served(lab):
    origin = lab.origin()
    r = lab.proxy(origin).client().request(host=None, version="1.0")
    assert r.status == 200  # that Host was sent on, and once, the origin has checked


# --- bodies ------------------------------------------------------------------------------------

def test_chunk_extensions_do_not_disturb_a_request(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy(origin).client()
    c.send(b'POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n'
           b'3;a\r\nabc\r\n3;a=b;c="d e\\"f"\r\ndef\r\n0A;x\r\n0123456789\r\n0;last\r\n\r\n')
    assert c.read_response().body == b"abcdef0123456789"
    assert c.request().status == 200
    assert origin.n_connections == 1


def test_chunk_extensions_do_not_disturb_a_response(lab):
    origin = lab.origin(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n000003;q=\"r\"\r\ncde\r\n00;z\r\n\r\n")
    c = lab.proxy(origin).client()
    for _ in range(2):
        assert c.request().body == b"abcde"


def test_transfer_encoding_in_any_case(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy(origin).client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\ntransfer-ENCODING: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
    assert c.read_response().body == b"x"


def test_trailers_of_a_request_pass_but_not_those_that_frame_or_route(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy(origin).client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
           b"X-Sum: 42\r\nContent-Length: 7\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nX-B: c\r\n\r\n")
    r = c.read_response()
    if r.status == 400:
        return  # refusing is sound too
    assert r.body == b"x"
    seen = origin.requests[0]
    assert seen.trailers.get("x-sum") == "42" and seen.trailers.get("x-b") == "c"
    assert not {"content-length", "transfer-encoding", "host"} & set(seen.trailers.names())
    assert seen["trailer"] == "X-Sum"


def test_trailers_of_a_response_pass(lab):
    origin = lab.origin(chunked(b"body", trailers=[("X-Sum", "42"), ("Content-Length", "3")], fields=[("Trailer", "X-Sum")]))
    c = lab.proxy(origin).client()
    for _ in range(2):
        r = c.request(fields=[("TE", "trailers"), ("Connection", "TE")])
        assert r.body == b"body" and r.trailers.get("x-sum") == "42" and "content-length" not in r.trailers


def test_ten_thousand_small_chunks(lab):
    origin = lab.origin(lambda conn, r: chunked(*[b"%d" % (i % 7) * (i % 5 + 1) for i in range(10000)]))
    want = b"".join(b"%d" % (i % 7) * (i % 5 + 1) for i in range(10000))
    assert lab.proxy(origin).client().request().body == want


def test_a_body_that_ends_with_the_connection(lab):
    def reply(conn, r):
        conn.send(b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\npart one,")
        conn.send(b"part two")
        conn.close()
    origin = lab.origin(reply)
    lb = lab.proxy(origin)
    assert lb.client().request().body == b"part one,part two"
    r = lb.client().request(version="1.0")
    assert r.body == b"part one,part two" and r.framing == "close"


def test_an_empty_body_that_ends_with_the_connection(lab):
    origin = lab.origin(lambda conn, r: conn.send(b"HTTP/1.1 200 OK\r\n\r\n") and conn.close())
    assert lab.proxy(origin).client().request().body == b""


def test_identical_content_lengths_are_made_one_or_refused(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    for lines in (b"Content-Length: 3\r\nContent-Length: 3\r\n", b"Content-Length: 3, 3\r\n"):
        c = lab.proxy(origin).client()
        c.send(b"POST / HTTP/1.1\r\nHost: t\r\n" + lines + b"\r\nabc")
        r = c.read_response()
        assert r.status == 400 or (r.body == b"abc" and origin.requests[-1]["content-length"] == "3")


def test_a_server_may_answer_before_it_has_the_body(lab):
    def script(conn):
        conn.read_head()
        conn.send(response(413, b"too much", [("Connection", "close")]))
        conn.shutdown()
        conn.wait_eof()
    origin = lab.origin(script=script)
    c = lab.proxy(origin).client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
    r = c.read_response()
    assert r.status == 413 and r.body == b"too much"


# --- interim responses ---------------------------------------------------------------------------

def test_expect_continue_is_a_conversation(lab):
    def script(conn):
        while (r := conn.read_head()) is not None:
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if not conn.read_body(r):
                return
            conn.send(ok(r.body))
    origin = lab.origin(script=script)
    c = lab.proxy(origin).client()
    for i in range(2):
        c.send(b"POST /%d HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n" % i)
        r = c.read_response(interim=False)
        assert r.status == 100
        c.send(b"body")
        r = c.read_response()
        assert (r.status, r.body) == (200, b"body")
        assert origin.requests[i]["expect"].lower() == "100-continue"


def test_expect_continue_refused_by_the_server(lab):
    def script(conn):
        conn.read_head()
        conn.send(response(401, b"no", [("Connection", "close")]))
        conn.wait_eof()
    origin = lab.origin(script=script)
    c = lab.proxy(origin).client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    r = c.read_response()
    assert r.status == 401 and r.body == b"no"
    # the body was never sent: the connection ends, or says that it goes on with the body
    c.send_some(b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n")
    c.drain()
    assert [r.target for r in origin.requests] == ["/"]


def test_expect_continue_without_waiting(lab):
    origin = lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy(origin).client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody")
    assert c.read_response().body == b"body"
    assert c.request().status == 200


def test_expect_in_http10_means_nothing(lab):
    origin = lab.origin(lambda conn, r: b"HTTP/1.1 100 Continue\r\n\r\n" + ok(r.body))
    c = lab.proxy(origin).client()
    c.send(b"POST / HTTP/1.0\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody")
    r = c.read_response(interim=False)
    assert (r.status, r.body) == (200, b"body")


def test_interim_responses_are_passed_on(lab):
    origin = lab.origin(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" + ok("end"))
    c = lab.proxy(origin).client()
    for _ in range(2):
        r = c.request()
        assert [i.status for i in r.interim] == [102, 103] and r.body == b"end"
        assert r.interim[1]["link"] == "</a.css>; rel=preload"
        assert not {"content-length", "transfer-encoding"} & set(r.interim[1].fields.names())


def test_an_interim_response_does_not_wait_for_the_final_one(lab):
    go = threading.Event()

    def reply(conn, r):
        conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
        conn.hold(go)
        return ok("x")
    c = lab.proxy(lab.origin(reply)).client()
    c.get()
    assert c.read_response(interim=False).status == 103
    c.expect_no_data(0.05)
    go.set()
    assert c.read_response().body == b"x"


def test_http10_clients_get_no_interim_responses(lab):
    origin = lab.origin(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok("x"))
    c = lab.proxy(origin).client()
    c.get(version="1.0")
    assert c.read_response(interim=False).status == 200


# --- responses without a body ----------------------------------------------------------------------

def test_head_has_the_length_and_no_body(lab):
    origin = lab.origin(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
    c = lab.proxy(origin).client()
    for _ in range(3):
        r = c.request(method="HEAD")
        assert r.status == 200 and r["content-length"] == "12345"
    c.expect_no_data(0.05)
    assert origin.n_connections == 1 and origin.requests[0].method == "HEAD"


def test_head_of_a_chunked_resource(lab):
    origin = lab.origin(lambda conn, r: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if r.method == "HEAD" else ok("x"))
    c = lab.proxy(origin).client()
    r = c.request(method="HEAD")
    assert r.status == 200 and not r.fields.all("content-length")
    assert c.request().body == b"x"


def test_head_without_length(lab):
    origin = lab.origin(lambda conn, r: b"HTTP/1.1 200 OK\r\n\r\n" if r.method == "HEAD" else ok("x"))
    c = lab.proxy(origin).client()
    assert c.request(method="HEAD").status == 200
    assert c.request().body == b"x"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
                                    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
                                    b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"])
def test_204_and_304_have_no_body(lab, answer):
    origin = lab.origin(lambda conn, r: answer if r.target == "/n" else ok("x"))
    c = lab.proxy(origin).client()
    for _ in range(2):
        r = c.request("/n")
        assert r.status == int(answer[9:12])
        if r.status == 204:
            assert not {"content-length", "transfer-encoding"} & set(r.fields.names())  # RFC 9110 8.6, 9112 6.1
        assert c.request("/x").body == b"x"


# --- HTTP/1.0 ------------------------------------------------------------------------------------

def test_a_http10_client_gets_no_chunks(lab):
    origin = lab.origin(chunked(b"ab", b"cd", trailers=[("X-T", "1")]))
    c = lab.proxy(origin).client()
    r = c.request(version="1.0")
    assert r.body == b"abcd" and r.framing in ("close", "length") and "transfer-encoding" not in r.fields
    c.expect_close()


def test_a_http10_client_is_closed_unless_it_asks(lab):
    lb = lab.proxy(lab.origin())
    c = lb.client()
    c.request(version="1.0")
    c.expect_fin()
    c = lb.client()
    for _ in range(2):
        r = c.request(version="1.0", fields=[("Connection", "Keep-Alive")])
        assert r.status == 200
        if "keep-alive" not in [v.lower() for v in r.fields.list("connection")]:
            c.expect_fin()  # not kept is allowed, but only then
            return
    assert c.is_open()


def test_a_http10_server(lab):
    def reply(conn, r):
        conn.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold " + r.body)
        conn.close()
    origin = lab.origin(reply)
    c = lab.proxy(origin).client()
    for _ in range(2):
        r = c.request()
        assert (r.version, r.body) == ("1.1", b"old ")
        if r.framing == "close":
            return
    assert origin.n_connections == 2


def test_a_http10_server_with_length_is_not_reused(lab):
    def reply(conn, r):
        conn.send(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold")
        conn.close()
    origin = lab.origin(reply)
    c = lab.proxy(origin).client()
    for _ in range(3):
        assert c.request().body == b"old"
    assert origin.n_connections == 3


# --- not spoken here -----------------------------------------------------------------------------

def test_connect_gets_a_clear_answer(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    c.send(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n"
           b"GET /in-the-tunnel HTTP/1.1\r\nHost: t\r\n\r\n")
    assert_own_answer(c.read_response(), 400, 403, 405, 501)
    c.expect_close()
    assert not origin.requests


def test_an_upgrade_that_is_not_allowed_gets_a_clear_answer(lab):
    origin = lab.origin()
    c = lab.proxy(origin, pool={"upgrade": "none"}).client()
    r = c.request(fields=[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
                          ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
    assert_own_answer(r, 501)
    assert not origin.requests


def test_an_upgrade_to_h2c_is_declined_or_answered_in_http11(lab):
    origin = lab.origin()
    r = lab.proxy(origin).client().request(fields=[
        ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")])
    assert r.status in (200, 501)
    for seen in origin.requests:
        assert "upgrade" not in seen.fields and "http2-settings" not in seen.fields


# --- limits and errors for people ------------------------------------------------------------------

def test_413_by_length_comes_before_the_body(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, listen={"body_max": "1000B"})
    c = lb.client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1001\r\n\r\n")
    assert_own_answer(c.read_response(), 413)
    assert not origin.requests
    c = lb.client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
    assert c.read_response().status == 200


def test_413_for_chunks_that_grow_too_much(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, listen={"body_max": "1000B"})
    c = lb.client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3E8\r\n" + b"x" * 1000 + b"\r\n")
    c.send(b"1\r\ny\r\n0\r\n\r\n")
    assert_own_answer(c.read_response(), 413)
    c.expect_close()
    assert not origin.whole_requests()


def test_414_431_and_404(lab):
    origin = lab.origin()
    conf = lab.conf(origin, listen={"target_max": "1KiB", "head_max": "4KiB", "fields_max": 20}, routes=False)
    conf.route("r", "app", host=["here"])
    lb = lab.start(conf)
    assert lb.client().request("/" + "a" * 1000, host="here").status == 200
    for status, kw in ((414, {"path": "/" + "a" * 1100}), (431, {"fields": [("X-A", "b" * 5000)]}),
                       (431, {"fields": [(f"X-{i}", "1") for i in range(30)]}), (404, {"host": "elsewhere"})):
        c = lb.client()
        r = c.request(**dict({"host": "here"}, **kw))
        assert_own_answer(r, status)
        if status != 404:
            c.expect_close()
    assert len(origin.requests) == 1


def test_a_head_without_end_is_refused_before_it_is_whole(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, listen={"head_max": "4KiB", "target_max": "1KiB"})
    c = lb.client()
    c.send(b"GET / HTTP/1.1\r\nHost: t\r\nX-Long: ")
    c.send_some(b"y" * 20000)
    assert_own_answer(c.read_response(), 431)
    c.expect_close()
    c = lb.client()
    c.send_some(b"GET /" + b"y" * 60000)
    assert_own_answer(c.read_response(), 414, 431)
    c.expect_close()
    assert not origin.connections


def test_no_route_keeps_the_connection_in_step(lab):
    origin = lab.origin()
    conf = lab.conf(origin, routes=False)
    conf.route("r", "app", host=["here"])
    c = lab.start(conf).client()
    hidden = b"GET /smuggled HTTP/1.1\r\nHost: here\r\n\r\n"
    c.send(b"POST /x HTTP/1.1\r\nHost: nowhere\r\nContent-Length: %d\r\n\r\n" % len(hidden))
    assert_own_answer(c.read_response(), 404)
    c.send_some(hidden + b"GET /next HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    c.drain()
    assert [r.target for r in origin.requests] in ([], ["/next"])


def test_an_error_to_head_has_no_body(lab):
    origin = lab.origin()
    conf = lab.conf(origin, routes=False)
    conf.route("r", "app", host=["here"])
    c = lab.start(conf).client()
    r = c.request(method="HEAD", host="nowhere")
    assert_own_answer(r, 404, method="HEAD")
    if "close" not in [v.lower() for v in r.fields.list("connection")]:
        assert c.request(host="here").status == 200
    else:
        c.expect_fin()


def test_the_server_field_of_own_answers(lab):
    conf = lab.conf(lab.origin(), listen={"server_header": "mine"}, routes=False)
    conf.route("r", "app", host=["here"])
    assert lab.start(conf).client().request(host="nowhere")["server"] == "mine"


def test_an_own_answer_can_be_dated(lab):
    conf = lab.conf(lab.origin(), routes=False)
    conf.route("r", "app", host=["here"])
    r = lab.start(conf).client().request(host="nowhere")
    assert r["content-length"] == str(len(r.body)) and r.fields.all("date")  # RFC 9110 6.6.1


def test_max_forwards_of_options_and_trace(lab):
    origin = lab.origin()
    c = lab.proxy(origin).client()
    c.request(method="OPTIONS", fields=[("Max-Forwards", "5")])
    assert origin.requests[0]["max-forwards"] == "4"  # RFC 9110 7.6.2
    r = c.request(method="OPTIONS", fields=[("Max-Forwards", "0")])
    assert len(origin.requests) == 1, "forwarded although Max-Forwards was 0"
    assert 200 <= r.status < 600
    r = c.request(method="TRACE", fields=[("Max-Forwards", "0")])
    assert r.status == 405 and "GET" in r.fields.list("allow")  # RFC 9110 15.5.6
    c.request(method="GET", fields=[("Max-Forwards", "0")])
    assert origin.requests[1]["max-forwards"] == "0"  # means nothing elsewhere


def test_an_answer_is_not_destroyed_by_what_still_comes(lab):
    """RFC 9112 9.6: who closes with unread bytes makes TCP reset, and the client may lose the answer."""
    lb = lab.proxy(lab.origin(), listen={"body_max": "10B"})
    for head in (b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
        c = lb.client()
        c.send(head)
        wait_until(lambda: c.is_open() and c.buf)
        for _ in range(5):
            assert c.send_some(b"x" * 10000), "reset while the client was sending"
            time.sleep(0.01)
        assert c.read_response().status in (400, 413)
        c.expect_fin()


@pytest.mark.parametrize("framing, rest", [(b"Content-Length: 300000\r\n\r\nabc", b"x" * 299997),
                                           (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\n")],
                         ids=["length", "chunked"])
def test_the_rest_of_a_body_that_was_answered_early_is_no_request(lab, framing, rest):
    def script(conn):
        while (r := conn.read_head()) is not None:
            conn.send(ok(r.target))
            if not conn.read_body(r):
                return
    origin = lab.origin(script=script)
    c = lab.proxy(origin).client()
    c.send(b"POST /a HTTP/1.1\r\nHost: t\r\n" + framing)
    assert c.read_response().body == b"/a"
    c.send_some(rest + b"GET /b HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    assert c.drain() == b"" or [r.target for r in origin.requests] == ["/a", "/b"]


# --- half-closed clients ---------------------------------------------------------------------------

def test_a_client_that_shuts_down_is_gone_by_default(lab):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.wait_eof())
    c = lab.proxy(origin).client()
    c.get()
    origin.wait_requests(1)
    c.shutdown()
    assert origin.connections[0].eof.wait(5), "the request went on for nobody"


def test_half_close_may_be_allowed(lab):
    go = threading.Event()

    def reply(conn, r):
        conn.hold(go)
        return ok("late")
    origin = lab.origin(reply)
    c = lab.proxy(origin, listen={"half_close": True}).client()
    c.get()
    c.shutdown()
    origin.wait_requests(1)
    stays(lambda: origin.open_connections == 1, 0.1)
    go.set()
    assert c.read_response().body == b"late"
    c.expect_fin()


def test_a_client_that_shuts_down_inside_its_body_is_never_whole(lab):
    origin = lab.origin()
    for framing in (b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"):
        c = lab.proxy(origin, listen={"half_close": True}).client()
        c.send(b"POST / HTTP/1.1\r\nHost: t\r\n" + framing)
        origin.wait_requests(1)
        c.shutdown()
        c.drain()
        wait_until(lambda: origin.open_connections == 0, 5, "the server's connection ends")
        assert not origin.whole_requests()
        origin.clear()
