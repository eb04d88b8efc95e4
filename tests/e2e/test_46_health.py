# SPDX-License-Identifier: BSD-2-Clause
"""Who is up: active checks, what traffic shows, what the operator says, and where servers live."""

import os
import re
import threading

import pytest

from instruments.client import fetch
from instruments.origin import ok, response
from instruments.proxy_status import assert_own_answer
from instruments.wait import Clock, stays, wait_until

FAST = {"interval": "50ms", "timeout": "300ms", "rise": 2, "fall": 3}


def checked(lab, n=2, check=None, pool=None, servers=None, **kw):
    """n origins whose answer to /healthz is origin.health (bytes)."""
    origins = []
    for i in range(n):
        def reply(conn, r, i=i):
            o = conn.origin
            if r.target == "/healthz":
                o.checks.append(r)
                return o.health
            return ok(f"s{i + 1}")
        o = lab.origin(reply)
        o.health, o.checks = ok("fine"), []
        origins.append(o)
    addresses = {f"s{i + 1}": dict({"address": o}, **((servers or {}).get(f"s{i + 1}", {}))) for i, o in enumerate(origins)}
    lb = lab.proxy(addresses, pool=dict({"check": dict(FAST, **{"path": "/healthz", **(check or {})}), "eject_after": 0}, **(pool or {})), **kw)
    return lb, origins


def who(lb, times=8):
    c = lb.client()
    got = {c.request().body.decode() for _ in range(times)}
    c.close()
    return got


# --- active checks -------------------------------------------------------------------------------

def test_a_check_is_a_sound_request(lab):
    lb, origins = checked(lab, 1, check={"host": "check.example", "method": "HEAD"})
    wait_until(lambda: len(origins[0].checks) >= 2)
    r = origins[0].checks[0]
    assert (r.method, r.target, r["host"]) == ("HEAD", "/healthz", "check.example")
    origins[0].check()


def test_a_failing_check_takes_a_server_out_and_back(lab):
    lb, (a, b) = checked(lab)
    assert who(lb) == {"s1", "s2"}
    a.health = response(503)
    lb.wait_state("s1", "down")
    assert who(lb) == {"s2"}
    s = lb.servers()["app/s1"]
    assert "503" in str(s), f"the reason is not told: {s}"
    a.health = ok()
    lb.wait_state("s1", "up")
    assert who(lb) == {"s1", "s2"}


def answer_checks(origin, statuses, then):
    """With these, one after the other, and with the last one from then on."""
    answers, old = iter(statuses), origin.reply

    def reply(conn, r):
        if r.target == "/healthz":
            origin.checks.append(r)
            return response(next(answers, then))
        return old(conn, r)
    origin.reply = reply


def test_fall_and_rise_count(lab):
    lb, (a, b) = checked(lab, check={"fall": 4, "rise": 3, "timeout": "5s"})
    wait_until(lambda: len(a.checks) >= 2)
    n = len(a.checks)
    # down: not by the first three, by the four, and by those at the end if three good ones brought it back
    answer_checks(a, [500] * 3 + [200] * 3 + [500] * 4 + [200] * 2 + [500] * 4 + [200] * 3, then=500)
    wait_until(lambda: len(a.checks) >= n + 24, 10)
    lb.wait_state("s1", "down")
    told = [re.search(r"server s1 is (up|down)", line) for line in lb.lines]
    assert [m.group(1) for m in told if m] == ["down", "up", "down"], lb.stderr


def test_a_single_failure_is_forgiven(lab):
    lb, (a, b) = checked(lab, check={"fall": 3, "timeout": "5s"})
    answer_checks(a, [500, 200, 500, 500, 200, 500, 200, 500, 500, 200], then=200)
    wait_until(lambda: len(a.checks) >= 14, 10)
    assert lb.state("s1") == "up" and not any("down" in line and "s1" in line for line in lb.lines)


@pytest.mark.parametrize("expect, status, up", [("204", 204, True), ("204", 200, False), ("200-299", 204, True),
                                                ("200-299", 301, False), (None, 301, True), (None, 404, False)])
def test_the_expected_status(lab, expect, status, up):
    lb, (a, b) = checked(lab, check={"expect": expect} if expect else {})
    b.health = response(int(expect[:3]) if expect else 200)
    a.health = response(status)
    n = len(a.checks)
    wait_until(lambda: len(a.checks) >= n + 6, 5)
    if up:
        assert lb.state("s1") == "up"
    else:
        lb.wait_state("s1", "down")


def test_a_check_that_hangs_has_failed(lab):
    lb, (a, b) = checked(lab, check={"timeout": "100ms"})
    go = threading.Event()
    old = a.reply
    a.reply = lambda conn, r: conn.hold(go) if r.target == "/healthz" else old(conn, r)
    lb.wait_state("s1", "down")
    assert who(lb) == {"s2"}
    go.set()


def test_rubbish_is_no_healthy_answer(lab):
    lb, (a, b) = checked(lab)
    a.health = b"hello 200 OK\r\n\r\n"
    lb.wait_state("s1", "down")


def test_refused_checks(lab):
    lb, (a, b) = checked(lab)
    a.refuse()
    lb.wait_state("s1", "down")
    assert "refused" in str(lb.servers()["app/s1"]).lower()
    assert who(lb) == {"s2"}
    a.listen()
    lb.wait_state("s1", "up")


def test_tcp_checks(lab):
    a, b = lab.origin(ok("s1")), lab.origin(ok("s2"))
    lb = lab.proxy([a, b], pool={"check": dict(FAST, type="tcp"), "eject_after": 0})
    wait_until(lambda: a.n_connections >= 2)
    a.refuse()
    lb.wait_state("s1", "down")
    assert who(lb) == {"s2"}
    a.listen()
    lb.wait_state("s1", "up")
    assert not any(r for r in a.requests if r.target == "/healthz")


def test_a_port_of_its_own_for_checks(lab):
    door = lab.origin(response(500))
    special = lab.origin(ok())
    a = lab.origin(ok("s1"))
    lb = lab.proxy({"s1": {"address": a, "check_port": special.port}, "s2": {"address": a}},
                   pool={"check": dict(FAST, path="/h", port=door.port), "eject_after": 0})
    lb.wait_state("s2", "down")
    wait_until(lambda: len(special.requests) >= 3)
    assert lb.state("s1") == "up"
    assert not any(r.target == "/h" for r in a.requests)


def test_checks_vary_in_time(lab):
    lb, origins = checked(lab, 1, check={"interval": "100ms"})
    wait_until(lambda: len(origins[0].checks) >= 12, 10)
    gaps = [y.at - x.at for x, y in zip(origins[0].checks, origins[0].checks[1:])]
    assert 0.05 < sorted(gaps)[len(gaps) // 2] < 0.25


def test_all_down_is_a_503_with_a_reason(lab):
    lb, (a, b) = checked(lab)
    a.health = b.health = response(500)
    lb.wait_state("s1", "down")
    lb.wait_state("s2", "down")
    assert_own_answer(lb.client().request(), 503, error="destination_unavailable")


# --- what traffic shows --------------------------------------------------------------------------

def test_failures_in_a_row_eject_for_a_while(lab):
    bad = lab.origin(lambda conn, r: conn.close())
    good = lab.origin(ok("good"))
    lb = lab.proxy({"bad": bad, "good": good}, pool={"eject_after": 3, "eject_time": "700ms", "retry_min": 1000})
    c = lb.client()
    for _ in range(10):
        assert c.request().body == b"good"
    lb.wait_state("bad", "ejected")
    n = len(bad.requests)
    assert n == 3
    for _ in range(10):
        c.request()
    assert len(bad.requests) == n
    bad.reply = ok("healed")
    lb.wait_state("bad", "up")
    assert b"healed" in {c.request().body for _ in range(4)}


def test_refused_connections_eject(lab):
    bad, good = lab.origin().refuse(), lab.origin(ok("good"))
    lb = lab.proxy({"bad": bad, "good": good}, pool={"eject_after": 2, "eject_time": "30s", "retry_min": 1000})
    c = lb.client()
    for _ in range(8):
        assert c.request().status == 200
    lb.wait_state("bad", "ejected")
    assert "refused" in str(lb.servers()["app/bad"]).lower()


def test_5xx_answers_count_as_failures_but_not_4xx(lab):
    a, b = lab.origin(response(500)), lab.origin(response(404))
    lb = lab.proxy({"a": a, "b": b}, pool={"eject_after": 3, "eject_time": "30s"})
    c = lb.client()
    for _ in range(20):
        c.request()
    lb.wait_state("a", "ejected")
    assert lb.state("b") == "up" and len(a.requests) == 3


def test_a_success_between_forgives(lab):
    answers = iter([500, 500, 200] * 10)
    a = lab.origin(lambda conn, r: response(next(answers)))
    lb = lab.proxy({"a": a}, pool={"eject_after": 3})
    c = lb.client()
    for _ in range(30):
        c.request()
    assert lb.state("a") == "up" and len(a.requests) == 30


def test_ejection_backs_off(lab):
    bad, good = lab.origin().refuse(), lab.origin(ok("good"))
    lb = lab.proxy({"bad": bad, "good": good}, pool={"eject_after": 1, "eject_time": "150ms", "retry_min": 1000})
    c = lb.client()
    lengths = []
    for _ in range(3):
        wait_until(lambda: c.request().status == 200 and lb.state("bad") == "ejected", 10)
        with Clock() as clock:
            lb.wait_state("bad", "up", 10)
        lengths.append(clock.s)
    assert lengths[2] > lengths[0] * 1.6, f"time-outs did not grow: {lengths}"


def test_panic_uses_all_when_too_few_are_up(lab):
    lb, (a, b, d) = checked(lab, 3, pool={"panic_threshold": 50})
    a.health = response(500)
    lb.wait_state("s1", "down")
    assert who(lb, 12) == {"s2", "s3"}
    b.health = response(500)
    lb.wait_state("s2", "down")
    wait_until(lambda: who(lb, 12) == {"s1", "s2", "s3"}, 5, "panic: all are used")
    b.health = ok()
    lb.wait_state("s2", "up")
    wait_until(lambda: who(lb, 12) == {"s2", "s3"}, 5, "panic ends")


def test_backup_serves_only_when_nobody_else_can(lab):
    lb, (a, b, d) = checked(lab, 3, servers={"s3": {"backup": True}})
    assert who(lb, 12) == {"s1", "s2"}
    a.health = response(500)
    lb.wait_state("s1", "down")
    assert who(lb, 12) == {"s2"}
    b.health = response(500)
    lb.wait_state("s2", "down")
    wait_until(lambda: who(lb) == {"s3"})
    a.health = ok()
    lb.wait_state("s1", "up")
    wait_until(lambda: who(lb) == {"s1"})


def test_a_returning_server_starts_slowly(lab):
    lb, (a, b) = checked(lab, pool={"slow_start": "3s"})
    assert lb.state("s1") == "up"
    a.health = response(500)
    lb.wait_state("s1", "down")
    a.health = ok()
    lb.wait_state("s1", "up")
    c = lb.client()
    early = [c.request().body for _ in range(100)].count(b"s1")
    assert early <= 30, f"{early} of the first 100 requests went to the server that came back"

    def has_its_share():
        return [c.request().body for _ in range(40)].count(b"s1") >= 17
    wait_until(has_its_share, 10, "it gets its share in the end")


# --- the operator ---------------------------------------------------------------------------------

def test_drain_maint_ready(lab):
    go = threading.Event()

    def reply(name):
        def f(conn, r):
            if r.target == "/hold":
                conn.hold(go)
            return ok(name)
        return f
    a, b = lab.origin(reply("s1")), lab.origin(reply("s2"))
    lb = lab.proxy([a, b])
    held = [lb.client().get("/hold") for _ in range(2)]
    a.wait_requests(1)
    b.wait_requests(1)
    lb.cli("drain", "app/s1")
    assert lb.state("s1") == "drain"
    assert who(lb) == {"s2"}
    go.set()
    assert {c.read_response().body for c in held} == {b"s1", b"s2"}, "a request under way is finished"
    lb.cli("ready", "app/s1")
    assert lb.state("s1") == "up" and who(lb) == {"s1", "s2"}
    lb.cli("maint", "app/s1")
    assert lb.state("s1") == "maint" and who(lb) == {"s2"}
    s = lb.servers()["app/s1"]
    assert any("since" in k for k in s), f"since when? {s}"


def test_maint_is_not_checked_and_ready_needs_no_reload(lab):
    lb, (a, b) = checked(lab)
    lb.cli("maint", "app/s1")
    n = len(a.checks)
    wait_until(lambda: len(b.checks) >= 12, 5)
    assert len(a.checks) <= n + 1
    lb.cli("ready", "app/s1")
    lb.wait_state("s1", "up")


def test_weight_by_the_operator(lab):
    lb = lab.proxy([lab.origin(ok("s1")), lab.origin(ok("s2"))])
    lb.cli("weight", "app/s1", "3")
    c = lb.client()
    wait_until(lambda: [c.request().body for _ in range(40)].count(b"s1") == 30, 5)
    lb.cli("weight", "app/s1", "0")
    wait_until(lambda: [c.request().body for _ in range(20)].count(b"s1") == 0, 5)


def test_orders_that_make_no_sense(lab):
    lb = lab.proxy(lab.origin())
    for args in (("drain", "app/none"), ("drain", "none/s1"), ("drain", "s1"), ("weight", "app/s1", "many"),
                 ("weight", "app/s1", "9999"), ("drain",)):
        r = lb.cli(*args, ok=False)
        assert r.returncode != 0 and r.stderr.strip(), f"{args}: {r}"


def test_states_of_the_configuration(lab):
    o = [lab.origin(ok(f"s{i + 1}")) for i in range(3)]
    lb = lab.proxy({"s1": {"address": o[0], "state": "drain"}, "s2": {"address": o[1], "state": "maint"}, "s3": o[2]})
    assert who(lb) == {"s3"} and (lb.state("s1"), lb.state("s2"), lb.state("s3")) == ("drain", "maint", "up")


# --- where servers live -----------------------------------------------------------------------------

def test_a_server_on_a_unix_socket(lab):
    path = os.path.join(lab.dir("u"), "origin.sock")
    origin = lab.origin(lambda conn, r: ok(r.body), bind=f"unix:{path}")
    lb = lab.proxy(origin, pool={"check": dict(FAST, path="/")})
    c = lb.client()
    for _ in range(3):
        assert c.request().status == 200
    big = os.urandom(2 << 20)  # spliced, if it is
    c.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(big) + big)
    assert c.read_response().body == big


def test_a_server_on_ipv6(lab):
    origin = lab.origin(bind="::1")
    lb = lab.proxy(origin, pool={"check": dict(FAST, path="/")})
    assert lb.client().request().status == 200


def test_a_server_by_name(lab):
    a = lab.origin(ok("a"))
    dns = lab.dnsmasq({"app.test": ["127.0.0.1"]})
    lb = lab.proxy({"s1": f"app.test:{a.port}"}, resolvers=[dns.address])
    wait_until(lambda: fetch(lb.to).status == 200, 5, "the name is resolved")


def test_a_name_is_asked_again_after_its_ttl(lab):
    a = lab.origin(ok("one"), bind="127.0.0.1")
    b = lab.origin(ok("two"), bind="127.0.0.2", port=a.port)
    dns = lab.dnsmasq({"app.test": ["127.0.0.1"]}, ttl=1)
    lb = lab.proxy({"s1": f"app.test:{a.port}"}, resolvers=[dns.address])
    wait_until(lambda: fetch(lb.to).body == b"one", 5)
    dns.change({"app.test": ["127.0.0.2"]})
    wait_until(lambda: fetch(lb.to).body == b"two", 10, "the new address is used")
    c = lb.client()
    assert {c.request().body for _ in range(10)} == {b"two"}, "a kept connection to the old address was used"
    assert len(b.connections) <= 6


def test_the_last_answer_stays_when_dns_is_gone(lab):
    a = lab.origin(ok("a"))
    dns = lab.dnsmasq({"app.test": ["127.0.0.1"]}, ttl=1)
    lb = lab.proxy({"s1": f"app.test:{a.port}"}, resolvers=[dns.address])
    wait_until(lambda: fetch(lb.to).status == 200, 5)
    n = dns.queries("app.test")
    wait_until(lambda: dns.queries("app.test") > n, 10, "it is asked again")
    dns.kill()
    stays(lambda: fetch(lb.to).status == 200, 2.5, interval=0.1)


def test_several_addresses_of_a_name(lab):
    a = lab.origin(ok("one"), bind="127.0.0.1")
    b = lab.origin(ok("two"), bind="127.0.0.2", port=a.port)
    dns = lab.dnsmasq({"app.test": ["127.0.0.1", "127.0.0.2"]})
    lb = lab.proxy({"s1": f"app.test:{a.port}"}, resolvers=[dns.address], pool={"idle_connections": 0})
    wait_until(lambda: fetch(lb.to).status == 200, 5)
    assert {fetch(lb.to).body for _ in range(20)} == {b"one", b"two"}


def test_a_name_that_does_not_exist(lab):
    dns = lab.dnsmasq({"app.test": ["127.0.0.1"]})
    lb = lab.proxy({"s1": "none.test:80"}, resolvers=[dns.address])
    wait_until(lambda: dns.queries("none.test") > 0, 5)
    assert_own_answer(lb.client().request(), 502, 503, 504)
    a = lab.origin(ok("a"))
    assert a.port


def test_a_name_that_appears_later(lab):
    a = lab.origin(ok("a"))
    dns = lab.dnsmasq({"x.test": ["127.0.0.1"]}, ttl=1)
    lb = lab.proxy({"s1": f"late.test:{a.port}"}, resolvers=[dns.address])
    wait_until(lambda: dns.queries("late.test") > 0, 5)
    dns.change({"late.test": ["127.0.0.1"]})
    wait_until(lambda: fetch(lb.to).status == 200, 15, "the name is found after all")
