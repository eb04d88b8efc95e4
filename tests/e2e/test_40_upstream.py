# SPDX-License-Identifier: BSD-2-Clause
"""Connections to servers: kept, reused safely, given up in time, tried again where that is safe."""

import threading

import pytest

from instruments.client import Closed, fetch
from instruments.origin import Blackhole, ok, response
from instruments.proxy_status import assert_own_answer
from instruments.wait import Clock, stays, wait_until

BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"


# --- keeping --------------------------------------------------------------------------------------

def test_a_connection_is_shared_by_clients_one_after_another(lab):
    origin = lab.origin()
    lb = lab.proxy(origin)
    for _ in range(10):
        assert fetch(lb.to).status == 200
    assert origin.n_connections == 1


def test_concurrent_requests_get_connections_of_their_own(lab):
    go = threading.Event()

    def reply(conn, r):
        conn.hold(go)
        return ok("x")
    origin = lab.origin(reply)
    lb = lab.proxy(origin)
    clients = [lb.client().get() for _ in range(5)]
    origin.wait_requests(5)
    assert origin.n_connections == 5
    go.set()
    assert all(c.read_response().status == 200 for c in clients)


def test_idle_connections_are_limited_in_number(lab):
    go = threading.Event()

    def reply(conn, r):
        conn.hold(go)
        return ok("x")
    origin = lab.origin(reply)
    lb = lab.proxy(origin, pool={"idle_connections": 2})
    clients = [lb.client().get() for _ in range(6)]
    origin.wait_requests(6)
    go.set()
    for c in clients:
        c.read_response()
    wait_until(lambda: origin.open_connections == 2, 5, "two are kept")
    stays(lambda: origin.open_connections == 2, 0.1)


def test_idle_connections_are_limited_in_time(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, pool={"idle_connection_timeout": "300ms"})
    c = lb.client()
    c.request()
    with Clock() as clock:
        assert origin.open_connections == 1
        wait_until(lambda: origin.open_connections == 0, 5, "the idle connection is closed")
    assert clock.s < 4
    assert c.request().status == 200 and origin.n_connections == 2


def test_idle_connections_may_be_none(lab):
    origin = lab.origin()
    lb = lab.proxy(origin, pool={"idle_connections": 0})
    c = lb.client()
    for _ in range(3):
        c.request()
    assert origin.n_connections == 3


def test_requests_per_connection_of_the_pool(lab):
    origin = lab.origin()
    c = lab.proxy(origin, pool={"requests_per_connection": 2}).client()
    for _ in range(6):
        assert c.request().status == 200
    assert [len(x.requests) for x in origin.connections] == [2, 2, 2]


def test_a_connection_that_the_server_closed_while_idle_is_not_used(lab):
    def reply(conn, r):
        conn.send(ok("x"))
        conn.close()  # without having said so
    origin = lab.origin(reply)
    c = lab.proxy(origin, pool={"retries": 0}).client()
    for i in range(5):
        c.get()
        assert c.read_response().status == 200
        wait_until(lambda: origin.connections[-1].done.is_set())


def test_an_unfinished_exchange_is_not_reused(lab):
    """The client goes away inside an answer: the rest of it must not meet the next request."""
    go = threading.Event()

    def reply(conn, r):
        if r.target == "/long":
            conn.send(BODY)
            conn.hold(go)
            return b"defghij"
        return ok(r.target)
    origin = lab.origin(reply)
    lb = lab.proxy(origin)
    c = lb.client()
    c.get("/long")
    c.read_head()
    c.close()
    wait_until(lambda: origin.connections[0].was_reset or origin.connections[0].eof.is_set() or not go.set(), 3)
    assert fetch(lb.to, "/next").body == b"/next"


# --- one transparent retry on a kept connection that turns out closed --------------------------------

def closes_on_second(conn):
    """Answers one request; ends the connection on the next, before the first byte of an answer."""
    for _ in range(2):
        r = conn.read_request()
        if r is None:
            return
        if r.target == "/warm" or len(conn.requests) == 1:
            conn.send(ok("first of connection %d" % conn.index))
        else:
            if conn.origin.end == "rst":
                conn.rst()
            return


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_a_repeatable_request_is_sent_again(lab, method, end):
    origin = lab.origin(script=closes_on_second)
    origin.end = end
    c = lab.proxy(origin).client()
    assert c.request("/warm").status == 200
    r = c.request("/again", method=method)
    assert r.status == 200
    assert [x.target for x in origin.requests] == ["/warm", "/again", "/again"]
    assert [x.conn.index for x in origin.requests] == [0, 0, 1]


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
def test_other_requests_are_not_sent_again(lab, method, end):
    origin = lab.origin(script=closes_on_second)
    origin.end = end
    c = lab.proxy(origin).client()
    assert c.request("/warm").status == 200
    c.send(f"{method} /once HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc")
    assert_own_answer(c.read_response(), 502)
    assert sum(x.target == "/once" for x in origin.requests) == 1


def test_a_put_is_sent_again_or_fails_but_is_never_mangled(lab):
    origin = lab.origin(script=closes_on_second)
    origin.end = "fin"
    c = lab.proxy(origin).client()
    c.request("/warm")
    c.send(b"PUT /p HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc")
    r = c.read_response()
    assert r.status in (200, 502)
    assert all(x.body == b"abc" for x in origin.requests if x.target == "/p" and x.whole)


@pytest.mark.parametrize("method, most", [("POST", 1), ("GET", 4)])
def test_an_answer_that_breaks_off_in_its_head(lab, method, most):
    """Once a byte of an answer has come, a request that may not be repeated has failed for good."""
    def reply(conn, r):
        if r.target == "/warm":
            return ok("x")
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Len")
        conn.close()
    origin = lab.origin(reply)
    c = lab.proxy(origin).client()
    c.request("/warm")
    c.send(f"{method} /cut HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
    assert_own_answer(c.read_response(), 502)
    assert 1 <= sum(r.target == "/cut" for r in origin.requests) <= most


def test_half_a_head_on_a_kept_connection_is_no_stale_connection(lab):
    """Only one that ended before the first byte of an answer is made good without counting a retry."""
    def reply(conn, r):
        if r.target == "/warm":
            return ok("x")
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Len")
        conn.close()
    origin = lab.origin(reply)
    c = lab.proxy(origin, pool={"retries": 0}).client()
    c.request("/warm")
    assert_own_answer(c.request("/cut"), 502)
    assert sum(r.target == "/cut" for r in origin.requests) == 1


def test_a_retry_goes_to_another_server(lab):
    bad = lab.origin(lambda conn, r: conn.close())
    good = lab.origin(ok("good"))
    c = lab.proxy([bad, good], pool={"eject_after": 0}).client()
    for _ in range(4):
        r = c.request()
        assert r.status == 200 and r.body == b"good"
    assert len(bad.requests) >= 1


# --- failing ---------------------------------------------------------------------------------------

def test_refused(lab):
    dead = lab.origin().refuse()
    r = lab.proxy(dead).client().request()
    assert_own_answer(r, 502, 503, error="connection_refused")


def test_refused_is_tried_elsewhere_even_for_post(lab):
    """Nothing was sent to the dead one: trying again is safe for every method."""
    dead, good = lab.origin().refuse(), lab.origin(lambda conn, r: ok(r.body))
    c = lab.proxy([dead, good], pool={"eject_after": 0}).client()
    for i in range(6):
        c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n%d" % i)
        assert c.read_response().body == b"%d" % i
    assert len(good.requests) == 6


def test_without_retries_a_refusal_is_told(lab):
    dead, good = lab.origin().refuse(), lab.origin()
    c = lab.proxy([dead, good], pool={"eject_after": 0, "retries": 0}).client()
    assert sorted(c.request().status for _ in range(4)) == [200, 200, 502, 502]


def test_closed_without_an_answer(lab):
    origin = lab.origin(lambda conn, r: conn.close())
    r = lab.proxy(origin, pool={"retries": 0}).client().request()
    assert_own_answer(r, 502, error=("connection_terminated", "http_response_incomplete"))


def test_connect_timeout(lab):
    hole = lab.add(Blackhole())
    lb = lab.proxy(hole, pool={"connect_timeout": "300ms", "retries": 0})
    with Clock() as clock:
        r = lb.client().request()
    assert_own_answer(r, 504, error="connection_timeout")
    assert 0.25 <= clock.s < 2


def test_connect_timeout_is_tried_elsewhere(lab):
    hole, good = lab.add(Blackhole()), lab.origin()
    lb = lab.proxy([hole, good], pool={"connect_timeout": "200ms"})
    c = lb.client()
    assert [c.request().status for _ in range(4)] == [200] * 4


def test_first_byte_timeout(lab):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.wait_eof(10))
    lb = lab.proxy(origin, pool={"first_byte_timeout": "300ms", "retries": 0})
    with Clock() as clock:
        r = lb.client().request()
    assert_own_answer(r, 504, error=("http_response_timeout", "connection_read_timeout"))
    assert 0.25 <= clock.s < 2
    wait_until(lambda: origin.open_connections == 0, 5, "the silent connection is given up")


def test_first_byte_timeout_of_half_a_head(lab):
    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nX-A")
        conn.wait_eof(10)
    lb = lab.proxy(lab.origin(script=script), pool={"first_byte_timeout": "300ms", "retries": 0})
    assert_own_answer(lb.client().request(), 504)


def test_a_slow_post_is_not_repeated_after_a_timeout(lab):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.wait_eof(10))
    lb = lab.proxy(origin, pool={"first_byte_timeout": "200ms"})
    c = lb.client()
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx")
    assert_own_answer(c.read_response(), 504)
    assert len(origin.requests) == 1


def test_idle_timeout_inside_a_body(lab):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.send(BODY) and conn.wait_eof(10))
    lb = lab.proxy(origin, pool={"idle_timeout": "300ms"})
    c = lb.client()
    c.get()
    c.read_head()
    with Clock() as clock, pytest.raises(Closed):
        c.read_exactly(10)
    assert clock.s < 3
    wait_until(lambda: origin.open_connections == 0, 5, "the stalled connection is given up")


def test_idle_timeout_does_not_end_a_body_that_moves(lab):
    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        conn.send_pieces([b"x"] * 10, 0.1)
    lb = lab.proxy(lab.origin(script=script), pool={"idle_timeout": "400ms", "first_byte_timeout": "400ms"})
    assert lb.client().request().body == b"x" * 10


@pytest.mark.parametrize("splice", ["0", "64KiB"], ids=["copy", "splice"])
def test_idle_timeout_when_a_server_takes_no_body(lab, splice):
    go = threading.Event()
    origin = lab.origin(script=lambda conn: (conn.read_head(), conn.hold(go)), keep=False)
    lb = lab.proxy(origin, pool={"idle_timeout": "300ms", "retries": 0}, listen={"body_timeout": "20s"},
                   splice_from=splice)
    c = lb.client()
    c.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 200000000\r\n\r\n")
    sent = threading.Thread(target=lambda: [c.send_some(bytes(1 << 20)) for _ in range(64)], daemon=True)
    sent.start()
    try:
        r = c.read_response()
        assert r.status in (502, 504), r
    except Closed:
        pass
    go.set()


def test_total_timeout(lab):
    def script(conn):
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        conn.send_pieces([b"x"] * 100, 0.05)
    origin = lab.origin(script=script)
    lb = lab.proxy(origin, pool={"total_timeout": "500ms", "idle_timeout": "5s"})
    c = lb.client()
    c.get()
    c.read_head()
    with Clock() as clock, pytest.raises(Closed):
        c.read_exactly(100)
    assert 0.3 <= clock.s < 3


def test_total_timeout_before_the_head(lab):
    origin = lab.origin(script=lambda conn: conn.read_request() and conn.wait_eof(10))
    lb = lab.proxy(origin, pool={"total_timeout": "300ms", "first_byte_timeout": "10s"})
    with Clock() as clock:
        r = lb.client().request()
    assert_own_answer(r, 504)
    assert clock.s < 3


def test_total_timeout_covers_the_attempts_together(lab):
    holes = [lab.add(Blackhole()) for _ in range(3)]
    lb = lab.proxy(holes, pool={"connect_timeout": "400ms", "total_timeout": "600ms", "eject_after": 0})
    with Clock() as clock:
        assert_own_answer(lb.client().request(), 504)
    assert clock.s < 1.1 * 2


def test_no_server_at_all(lab):
    lb = lab.proxy({"s1": {"address": lab.origin(), "state": "maint"}})
    assert_own_answer(lb.client().request(), 503, error="destination_unavailable")


def test_an_error_of_the_server_is_the_servers(lab):
    origin = lab.origin(response(503, b"its own", [("Retry-After", "7")]))
    r = lab.proxy(origin, pool={"eject_after": 0}).client().request()
    assert (r.status, r.body, r["retry-after"]) == (503, b"its own", "7")
    assert len(origin.requests) == 1


def test_the_client_may_go_on_after_an_own_answer(lab):
    dead, good = lab.origin().refuse(), lab.origin()
    conf = lab.conf(dead, routes=False)
    conf.pool("good", {"s": good.address}).route("g", "good", path="/good").route("d", "app")
    c = lab.start(conf).client()
    for path, status in (("/dead", 502), ("/good", 200), ("/dead", 502), ("/good", 200)):
        assert c.request(path).status == status


# --- the budget of retries ---------------------------------------------------------------------------

def test_retries_are_bounded_by_the_number(lab):
    origins = [lab.origin(lambda conn, r: conn.close()) for _ in range(5)]
    lb = lab.proxy(origins, pool={"retries": 2, "eject_after": 0})
    assert_own_answer(lb.client().request(), 502)
    assert sum(len(o.requests) for o in origins) == 3


def test_retries_are_bounded_by_the_budget(lab):
    origins = [lab.origin(lambda conn, r: conn.close()) for _ in range(3)]
    lb = lab.proxy(origins, pool={"retries": 2, "retry_budget": 20, "retry_min": 0, "eject_after": 0})
    c = lb.client()
    for _ in range(200):
        assert c.request().status == 502
    attempts = sum(len(o.requests) for o in origins)
    assert 200 < attempts <= 260, f"{attempts} attempts for 200 requests with a budget of 20 %"


def test_no_budget_no_retry(lab):
    origins = [lab.origin(lambda conn, r: conn.close()) for _ in range(2)]
    lb = lab.proxy(origins, pool={"retries": 2, "retry_budget": 0, "retry_min": 0, "eject_after": 0})
    c = lb.client()
    for _ in range(20):
        assert c.request().status == 502
    assert sum(len(o.requests) for o in origins) == 20
