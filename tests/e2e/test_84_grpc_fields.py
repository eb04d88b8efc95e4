# SPDX-License-Identifier: BSD-2-Clause
"""What gRPC says in fields, whichever version of HTTP carries them: deadlines, statuses, our own answers."""

import threading
import time
import urllib.parse

import pytest

from instruments.grpc_peers import Server
from instruments.origin import chunked, ok, response
from instruments.ports import free_port
from instruments.proxy_status import error_of
from instruments.wait import wait_until

CALL = [("Content-Type", "application/grpc"), ("TE", "trailers"), ("Content-Length", "0")]
UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1, "M": 60, "H": 3600}


def call(lb, timeout=None, path="/pkg.Svc/Do", type=None, client=None):
    fields = [("Content-Type", type or "application/grpc"), *CALL[1:]]
    if timeout is not None:
        fields.append(("grpc-timeout", timeout))
    return (client or lb.client()).get(path, method="POST", fields=fields).read_response("POST")


def seconds(text):
    assert len(text) <= 9
    return int(text[:-1]) * UNITS[text[-1]]


def told(origin, i=-1):
    return origin.requests[i].fields.get("grpc-timeout")


def is_own(r, status, error):
    assert r.status == 200 and r["content-type"] == "application/grpc" and r.body == b""
    assert r["grpc-status"] == str(status)
    assert r["x-request-id"] in urllib.parse.unquote(r["grpc-message"])
    assert error_of(r) == error


# --- our own answers -----------------------------------------------------------------------------

def test_no_server_is_unavailable(lab):
    lb = lab.proxy(f"127.0.0.1:{free_port()}", log="json", pool={"retries": 0})
    is_own(call(lb), 14, "connection_refused")
    line = lb.log_json(1)[0]
    assert line["status"] == 200 and line["end"] == "refused" and line["grpc_status"] == "UNAVAILABLE"


def test_a_drained_pool_is_unavailable_and_tells_when_to_come_back(lab):
    lb = lab.proxy(lab.origin(ok()))
    lb.cli("maint", "app/s1")
    r = call(lb)
    is_own(r, 14, "destination_unavailable")
    assert int(r["retry-after"]) >= 1


def test_no_route_is_unimplemented(lab):
    conf = lab.conf(lab.origin(ok()), routes=False).route("some", "app", path="/known.Svc")
    lb = lab.start(conf)
    is_own(call(lb), 12, "destination_not_found")
    assert call(lb, path="/known.Svc/Do").status == 200


def test_too_much_is_resource_exhausted(lab):
    conf = lab.conf(lab.origin(ok()), routes=False).route("some", "app", rate_limit=1, rate_burst=1)
    lb = lab.start(conf)
    answers = [call(lb) for _ in range(5)]
    limited = [r for r in answers if "grpc-status" in r.fields]
    assert limited
    is_own(limited[0], 8, "http_request_denied")
    assert "retry-after" in limited[0].fields


def test_a_broken_response_is_internal(lab):
    lb = lab.proxy(lab.origin(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"))
    is_own(call(lb), 13, "http_protocol_error")


def test_the_connection_goes_on_after_it(lab):
    lb = lab.proxy(lab.origin(ok()))
    lb.cli("maint", "app/s1")
    c = lb.client()
    is_own(call(lb, client=c), 14, "destination_unavailable")
    lb.cli("ready", "app/s1")
    assert call(lb, client=c).body == b"ok"


@pytest.mark.parametrize("type", ["application/grpc-web", "application/grpc-web+proto", "application/json"])
def test_others_get_what_others_get(lab, type):
    lb = lab.proxy(f"127.0.0.1:{free_port()}", pool={"retries": 0})
    r = call(lb, type=type)
    assert r.status == 502 and "grpc-status" not in r.fields and r["content-type"].startswith("text/plain")


# --- deadlines -----------------------------------------------------------------------------------

def test_a_deadline_ends_a_call_and_the_server_is_told_of_it(lab):
    hold = threading.Event()
    origin = lab.origin(lambda conn, r: hold.wait(30) and ok())
    lb = lab.proxy(origin, log="json")
    try:
        began = time.monotonic()
        is_own(call(lb, "300m"), 4, "http_response_timeout")
        assert time.monotonic() - began >= 0.3
    finally:
        hold.set()
    assert 0 < seconds(told(origin)) <= 0.3
    line = lb.log_json(1)[0]
    assert line["end"] == "grpc-timeout" and line["grpc_status"] == "DEADLINE_EXCEEDED"


def test_a_call_that_waits_ends_in_time_and_passes_on_what_is_left(lab):
    """One at a time: the second waits while the first is at the server, the third for longer than it may."""
    hold = threading.Event()
    origin = lab.origin(lambda conn, r: hold.wait(30) and ok())
    lb = lab.proxy({"s1": {"address": origin, "max_concurrent": 1}}, pool={"queue_timeout": "60s"})
    first, second = lb.client(), lb.client()
    try:
        first.get(method="POST", fields=CALL)
        wait_until(lambda: origin.requests, 10, "the first is there")
        second.get(method="POST", fields=[*CALL, ("grpc-timeout", "60S")])
        is_own(call(lb, "200m"), 4, "http_response_timeout")
    finally:
        hold.set()
    assert first.read_response("POST").body == b"ok"
    assert second.read_response("POST").body == b"ok"
    assert len(origin.requests) == 2
    assert 0 < seconds(told(origin)) <= 59.8  # the third alone waited for 200 ms of it


def test_the_cap_of_the_pool_holds_and_is_passed_on(lab):
    origin = lab.origin(lambda conn, r: ok() if conn.eof.wait(30) else None)
    lb = lab.proxy(origin, pool={"grpc_timeout_max": "200ms"})
    is_own(call(lb, "1H"), 4, "http_response_timeout")
    assert seconds(told(origin)) <= 0.2


def test_the_shorter_of_both_limits_counts(lab):
    origin = lab.origin(lambda conn, r: ok() if conn.eof.wait(30) else None)
    lb = lab.proxy(origin, pool={"total_timeout": "200ms"}, log="json")
    is_own(call(lb, "1H"), 4, "http_response_timeout")
    assert seconds(told(origin)) <= 0.2
    assert lb.log_json(1)[0]["end"] == "total-timeout"


def test_zero_leaves_it_to_the_servers(lab):
    origin = lab.origin(ok())
    lb = lab.proxy(origin, pool={"grpc_timeout_max": "0"})
    assert call(lb, "1n").body == b"ok"
    assert told(origin) == "1n"


@pytest.mark.parametrize("text", ["", "5", "5s", "-1S", "123456789n", "1.5S", "soon"])
def test_what_is_malformed_is_passed_on(lab, text):
    origin = lab.origin(ok())
    assert call(lab.proxy(origin), text).body == b"ok"
    assert told(origin) == text


def test_others_are_not_bound_by_it(lab):
    origin = lab.origin(lambda conn, r: time.sleep(0.3) or ok())
    lb = lab.proxy(origin)
    assert call(lb, "1m", type="application/json").body == b"ok"
    assert told(origin) == "1m"


def test_what_the_server_says_at_the_deadline_wins(lab):
    """It answers when the time that it was told is over, as servers do."""
    def late(conn, r):
        time.sleep(seconds(r.fields.get("grpc-timeout")))
        return response(200, b"", [("grpc-status", "4"), ("grpc-message", "theirs")])
    lb = lab.proxy(lab.origin(late))
    said = [call(lb, "100m").fields.get("grpc-message") for _ in range(5)]
    assert "theirs" in said  # each of them but for a machine that stood still for 100 ms


# --- statuses ------------------------------------------------------------------------------------

IN_HEAD = lambda n: response(200, b"", [("grpc-status", str(n))])
IN_TRAILERS = lambda n: chunked(b"\0\0\0\0\0", trailers=[("grpc-status", str(n))])


@pytest.mark.parametrize("where", [IN_HEAD, IN_TRAILERS], ids=["head", "trailers"])
def test_statuses_are_logged_and_counted(lab, where):
    codes = iter([0, 0, 5, 99])
    lb = lab.proxy(lab.origin(lambda conn, r: where(next(codes))), log="json", admin_http=True)
    c = lb.client()
    for _ in range(4):
        call(lb, client=c)
    assert [r["grpc_status"] for r in lb.log_json(4)] == ["OK", "OK", "NOT_FOUND", "UNKNOWN"]
    for status, n in ("OK", 2), ("NOT_FOUND", 1), ("UNKNOWN", 1):
        assert lb.metric("meercat_server_grpc_calls_total", proxy="app", server="s1", status=status) == n
    assert "UNAVAILABLE" not in str(lb.metrics())


@pytest.mark.parametrize("where", [IN_HEAD, IN_TRAILERS], ids=["head", "trailers"])
@pytest.mark.parametrize("status,fails", [(14, True), (13, False), (2, False), (4, False), (8, False)])
def test_only_unavailable_is_held_against_the_server(lab, status, fails, where):
    bad = lab.origin(where(status))
    lb = lab.proxy([bad, lab.origin(where(0))], pool={"eject_after": 3, "eject_time": "1h", "eject_max": "1h"})
    c = lb.client()
    for _ in range(20):
        call(lb, client=c)
    assert (len(bad.requests) == 3) if fails else (len(bad.requests) == 10)


def test_a_good_call_between_clears_it(lab):
    codes = iter([14, 14, 0] * 10)
    bad = lab.origin(lambda conn, r: IN_TRAILERS(next(codes)))
    lb = lab.proxy([bad, lab.origin(IN_TRAILERS(0))], pool={"eject_after": 3, "eject_time": "1h", "eject_max": "1h"})
    c = lb.client()
    for _ in range(24):
        call(lb, client=c)
    assert len(bad.requests) == 12


# --- health checks -------------------------------------------------------------------------------

FAST = {"type": "grpc", "interval": "50ms", "rise": 1, "fall": 1}


def checked(lab, server, **more):
    return lab.proxy(server.address, pool={"check": dict(FAST, **more)})


def test_a_server_is_up_while_it_says_that_it_serves(lab):
    server = lab.add(Server(health={"": 1}))
    lb = checked(lab, server)
    lb.wait_state("s1", "up")
    server.health[""] = 2
    lb.wait_state("s1", "down")
    assert "NOT_SERVING" in str(lb.cli_json("servers"))
    server.health[""] = 1
    lb.wait_state("s1", "up")
    service, metadata = server.checks[0]
    assert service == "" and metadata["user-agent"].startswith("meercat")


def test_a_service_is_asked_for_by_its_name(lab):
    server = lab.add(Server(health={"": 2, "acme.Chat": 1}))
    lb = checked(lab, server, service="acme.Chat")
    lb.wait_state("s1", "up")
    assert {s for s, _ in server.checks} == {"acme.Chat"}
    del server.health["acme.Chat"]
    lb.wait_state("s1", "down")
    assert "grpc-status NOT_FOUND" in str(lb.cli_json("servers"))


def test_a_server_without_the_service_is_down(lab):
    lb = checked(lab, lab.add(Server()))
    lb.wait_state("s1", "down")
    assert "grpc-status UNIMPLEMENTED" in str(lb.cli_json("servers"))


def test_a_server_that_speaks_http1_is_down(lab):
    lb = checked(lab, lab.origin(script=lambda c: c.recv() and c.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    lb.wait_state("s1", "down")
