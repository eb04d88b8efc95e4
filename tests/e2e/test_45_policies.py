# SPDX-License-Identifier: BSD-2-Clause
"""Which server gets a request, seen from outside."""

import collections
import threading
import time

import pytest

from instruments.client import Client, fetch
from instruments.load import Load
from instruments.origin import ok
from instruments.wait import wait_until


def named(lab, n, **keys):
    return {f"s{i}": dict({"address": lab.origin(ok(f"s{i}"))}, **keys) for i in range(n)}


def tell(lb, times, c=None, **kw):
    c = c or lb.client()
    return [c.request(**kw).body.decode() for _ in range(times)]


def test_round_robin_is_even_and_in_turn(lab):
    lb = lab.proxy(named(lab, 3), pool={"balance": "round-robin"})
    got = tell(lb, 30)
    assert collections.Counter(got) == {"s0": 10, "s1": 10, "s2": 10}
    assert all(len(set(got[i:i + 3])) == 3 for i in range(28))


def test_round_robin_by_weight_is_smooth(lab):
    servers = named(lab, 3)
    servers["s0"]["weight"], servers["s1"]["weight"] = 5, 1
    got = tell(lab.proxy(servers, pool={"balance": "round-robin"}), 70)
    assert collections.Counter(got) == {"s0": 50, "s1": 10, "s2": 10}
    assert "s0 s0 s0 s0 s0" not in " ".join(got), "the heavy one came five times in a row"


@pytest.mark.parametrize("balance", ["round-robin", "random", "least-request", "hash"])
def test_weight_0_gets_nothing(lab, balance):
    servers = named(lab, 3)
    servers["s1"]["weight"] = 0
    lb = lab.proxy(servers, pool={"balance": balance, "hash_by": "uri"})
    c = lb.client()
    got = {c.request(f"/{i}").body for i in range(60)}
    assert got == {b"s0", b"s2"}


def test_random_follows_the_weights(lab):
    servers = named(lab, 3)
    servers["s0"]["weight"] = 2
    got = collections.Counter(tell(lab.proxy(servers, pool={"balance": "random"}), 600))
    assert 225 <= got["s0"] <= 375 and 95 <= got["s1"] <= 210 and 95 <= got["s2"] <= 210


def busy_pool(lab, n, hold_path="/hold", **pool):
    """n servers that keep /hold until the event is set."""
    go = threading.Event()

    def reply(name):
        def f(conn, r):
            if r.target == hold_path:
                conn.hold(go)
            return ok(name)
        return f
    origins = {f"s{i}": lab.origin(reply(f"s{i}")) for i in range(n)}
    return go, origins, lab.proxy(origins, pool=pool)


@pytest.mark.parametrize("least_of", ["two", "all"])
def test_least_request_spares_the_busy(lab, least_of):
    go, origins, lb = busy_pool(lab, 2, balance="least-request", least_of=least_of)
    held = [lb.client().get("/hold") for _ in range(10)]
    list(origins.values())[0].wait_connections(1)
    for n, o in origins.items():
        o.wait_requests(5)
        assert len(o.requests) == 5, "two servers share ten requests in flight evenly"
    go.set()
    for c in held:
        c.read_response()


def test_least_of_all_finds_the_idle_one(lab):
    go, origins, lb = busy_pool(lab, 4, balance="least-request", least_of="all")
    held = [lb.client().get("/hold") for _ in range(3)]
    from instruments.wait import wait_until
    wait_until(lambda: sum(len(o.requests) for o in origins.values()) == 3)
    busy = {n for n, o in origins.items() if o.requests}
    assert len(busy) == 3
    assert set(tell(lb, 20)) == set(origins) - busy
    go.set()
    for c in held:
        c.read_response()


# --- hash ------------------------------------------------------------------------------------------

TABLE = pytest.mark.parametrize("table", ["ring", "maglev"])


def hashing(lab, n=4, by="uri", table="ring", bound=0, **kw):
    return lab.proxy(named(lab, n), pool=dict({"balance": "hash", "hash_by": by, "hash_table": table, "hash_bound": bound}, **kw))


@TABLE
def test_hash_by_uri_sticks_and_spreads(lab, table):
    lb = hashing(lab, table=table)
    c = lb.client()
    first = {i: c.request(f"/p{i}").body for i in range(200)}
    again = {i: c.request(f"/p{i}").body for i in range(200)}
    assert first == again
    counts = collections.Counter(first.values())
    assert len(counts) == 4 and min(counts.values()) >= 15, counts


@TABLE
def test_hash_is_the_same_on_every_balancer(lab, table):
    servers = named(lab, 4)
    pool = {"balance": "hash", "hash_by": "uri", "hash_table": table, "hash_bound": 0}
    a = lab.proxy({n: dict(s) for n, s in servers.items()}, pool=pool)
    b = lab.proxy({n: dict(s) for n, s in servers.items()}, pool=pool)
    ca, cb = a.client(), b.client()
    for i in range(50):
        assert ca.request(f"/{i}").body == cb.request(f"/{i}").body


@TABLE
def test_hash_moves_only_what_it_must(lab, table):
    lb = hashing(lab, 5, table=table)
    c = lb.client()
    before = {i: c.request(f"/{i}").body for i in range(300)}
    lb.cli("maint", "app/s2")
    from instruments.wait import wait_until
    wait_until(lambda: all(c.request(f"/{i}").body != b"s2" for i in range(300) if before[i] == b"s2"))
    after = {i: c.request(f"/{i}").body for i in range(300)}
    moved = [i for i in before if before[i] != b"s2" and before[i] != after[i]]
    assert len(moved) <= 30, f"{len(moved)} keys of other servers moved"
    assert len(set(after[i] for i in before if before[i] == b"s2")) > 1, "all went to one neighbour"


def test_hash_by_address(lab):
    lb = hashing(lab, by="address")
    got = {}
    for i in range(1, 60):
        source = f"127.0.{i % 3}.{i}"
        answers = set()
        for _ in range(2):
            with Client(lb.to, source=source) as c:
                answers.add(c.request().body)
        assert len(answers) == 1, f"{source} was sent to {answers}"
        got[source] = answers.pop()
    assert len(set(got.values())) == 4


def test_hash_by_address_believes_trusted_peers(lab):
    lb = lab.proxy(named(lab, 4), listen={"trusted": ["127.0.0.0/8"]},
                   pool={"balance": "hash", "hash_by": "address", "hash_bound": 0})
    c = lb.client()
    got = {i: c.request(fields=[("X-Forwarded-For", f"10.1.{i}.9")]).body for i in range(60)}
    assert len(set(got.values())) == 4
    assert got == {i: c.request(fields=[("X-Forwarded-For", f"10.1.{i}.9")]).body for i in range(60)}


def test_hash_by_header_and_by_cookie(lab):
    for by, field in (("header:X-User", lambda i: ("X-User", f"u{i}")),
                      ("cookie:sid", lambda i: ("Cookie", f"a=b; sid=s{i}; c=d"))):
        lb = hashing(lab, by=by)
        c = lb.client()
        got = {i: c.request(f"/{i}", fields=[field(i)]).body for i in range(60)}
        assert got == {i: c.request("/other", fields=[field(i)]).body for i in range(60)}
        assert len(set(got.values())) == 4
        assert c.request().status == 200, "no key: some server all the same"


def test_a_hash_bound_spills_over(lab):
    go, origins, lb = busy_pool(lab, 4, balance="hash", hash_by="uri", hash_bound=1.25)
    held = [lb.client().get("/hold") for _ in range(20)]
    from instruments.wait import wait_until
    wait_until(lambda: sum(len(o.requests) for o in origins.values()) == 20, 5)
    counts = sorted(len(o.requests) for o in origins.values())
    assert counts[-1] <= 8, f"one key held more than its share: {counts}"
    go.set()
    for c in held:
        c.read_response()


def test_without_a_bound_one_key_is_one_server(lab):
    go, origins, lb = busy_pool(lab, 4, balance="hash", hash_by="uri", hash_bound=0)
    held = [lb.client().get("/hold") for _ in range(10)]
    from instruments.wait import wait_until
    wait_until(lambda: sum(len(o.requests) for o in origins.values()) == 10, 5)
    assert sorted(len(o.requests) for o in origins.values()) == [0, 0, 0, 10]
    go.set()
    for c in held:
        c.read_response()


def test_hash_tries_the_next_when_its_server_is_dead(lab):
    servers = {f"s{i}": lab.origin(ok(f"s{i}")) for i in range(3)}
    lb = lab.proxy(dict(servers), pool={"balance": "hash", "hash_by": "uri", "hash_bound": 0, "eject_after": 0})
    owner = fetch(lb.to, "/k").body.decode()
    servers[owner].refuse()
    got = {fetch(lb.to, "/k").body.decode() for _ in range(5)}
    assert owner not in got and len(got) == 1


# --- prequal -------------------------------------------------------------------------------------

def slow_and_fast(lab, slow_s, **kw):
    def reply(name, pause):
        def f(conn, r):
            if pause:
                time.sleep(pause)
            return ok(name, fields=[("X-Server", name)])
        return f
    return lab.proxy({"fast": lab.origin(reply("fast", 0)), "slow": lab.origin(reply("slow", slow_s))},
                     pool={"balance": "prequal"}, **kw)


def test_prequal_goes_by_latency_where_nobody_is_crowded(lab):
    lb = slow_and_fast(lab, 0.02, log="json")
    c = lb.client()
    wait_until(lambda: tell(lb, 40, c).count("slow") < 14, 20, "the fast server gets more, one request at a time")
    assert {r["reason"] for r in lb.log_json(40)} <= {"prequal", "prequal-hot", "least-of-two", "only"}
    assert "prequal" in {r["reason"] for r in lb.log_json(40)}


def test_prequal_leaves_a_crowded_server(lab):
    lb = slow_and_fast(lab, 0.05)

    def share():
        with Load(lb.to, threads=6) as load:
            wait_until(lambda: load.done >= 200, 20, "requests are answered")
        assert not load.failures, load.failures[:3]
        return load.servers["slow"] / load.done
    wait_until(lambda: share() < 0.3, 20, "the slow server gets less")


def test_prequal_sends_servers_nothing_but_requests(lab):
    origins = {f"s{i}": lab.origin(ok(f"s{i}")) for i in range(6)}
    lb = lab.proxy(origins, pool={"balance": "prequal"})
    got = collections.Counter(tell(lb, 100))
    assert {n: len(o.requests) for n, o in origins.items()} == {n: got[n] for n in origins}


def test_prequal_uses_who_is_open(lab):
    servers = named(lab, 4)
    servers["s1"]["weight"], servers["s2"]["state"] = 0, "drain"
    lb = lab.proxy(servers, pool={"balance": "prequal"})
    assert set(tell(lb, 60)) <= {"s0", "s3"}
    lb.cli("drain", "app/s0")
    assert set(tell(lb, 10)) == {"s3"}
