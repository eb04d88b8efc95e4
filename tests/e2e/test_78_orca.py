# SPDX-License-Identifier: BSD-2-Clause
"""What responses say of their server's load (ORCA): heard, kept from clients, placed by."""

import base64
import json
import struct
import threading
import time

import pytest

from instruments.load import Load
from instruments.origin import chunked, ok, response
from instruments.wait import wait_until

FIELD, FIELD_BIN = "endpoint-load-metrics", "endpoint-load-metrics-bin"


def proto(cpu, request_cost=None):
    """xds.data.orca.v3.OrcaLoadReport: cpu_utilization = 1, map request_cost = 4."""
    out = b"\x09" + struct.pack("<d", cpu)
    for name, value in (request_cost or {}).items():
        entry = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x11" + struct.pack("<d", value)
        out += b"\x22" + bytes([len(entry)]) + entry
    return base64.b64encode(out).decode()


FORMATS = {
    "text": (FIELD, "TEXT cpu_utilization=0.25,request_cost.cpu_seconds=0.125,named_metrics.queue=3"),
    "json": (FIELD, "JSON " + json.dumps({"cpu_utilization": 0.25, "request_cost": {"cpu": 0.125}})),
    "bin": (FIELD, "BIN " + proto(0.25, {"cpu": 0.125})),
    "bin-unpadded": (FIELD_BIN, proto(0.25, {"cpu_seconds": 0.125}).rstrip("=")),
}
ODD_CASE = [("Endpoint-Load-Metrics", "TEXT eps=1")]


def in_head(fields):
    return ok(fields=[*fields, ("X-Left", "yes")])


def in_trailers(fields):
    return chunked(b"ok", trailers=[*fields, ("X-Left", "yes")])


def server(lb, name, pool="app"):
    return next(s for s in lb.cli_json("servers")["servers"] if s["pool"] == pool and s["name"] == name)


def orca(lb, name):
    return server(lb, name)["learned"]["orca"]


def cost(lb, name):
    return next((c for c in lb.cli_json("costs")["classes"] if c["class"] == name), None)


def fields_of(r):
    return {**{n.lower(): v for n, v in r.fields}, **{n.lower(): v for n, v in r.trailers}}


class Telling:
    """Servers that say what they are told to, and count."""

    def __init__(self, lab, n, busy, delay=0.0):
        self.busy, self.delay = dict(busy), delay
        self.lock, self.done = threading.Lock(), dict.fromkeys((f"s{i}" for i in range(n)), 0)
        self.servers = {name: {"address": lab.origin(self.reply(name))} for name in self.done}

    def reply(self, name):
        def f(conn, r):
            if self.delay:
                time.sleep(self.delay)
            with self.lock:
                self.done[name] += 1
            said = [] if self.busy.get(name) is None else [(FIELD, f"TEXT cpu_utilization={self.busy[name]}")]
            return ok(name, fields=[("X-Server", name), *said])
        return f


def shares(lb, threads=4, seconds=0.7):
    with Load(lb.to, threads=threads) as load:
        time.sleep(seconds)
    assert not load.failures, load.failures[:3]
    return {s: n / load.done for s, n in load.servers.items()}


@pytest.mark.parametrize("where", [in_head, in_trailers], ids=["head", "trailers"])
@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_heard_and_kept_from_clients(lab, form, where):
    lb = lab.proxy({"s0": {"address": lab.origin(where([FORMATS[form]]))}}, pool={"balance": "resource"},
                   admin_http=True)
    got = fields_of(lb.client().request())
    assert FIELD not in got and FIELD_BIN not in got
    assert got["x-left"] == "yes"
    wait_until(lambda: (orca(lb, "s0") or {}).get("cpu") == 0.25, 5, "it is heard")
    said = orca(lb, "s0")
    assert said["reports"] == 1 and said["refused"] == 0 and said["age_ms"] is not None
    assert said["application"] is None and said["memory"] is None
    assert lb.metric("meercat_orca_reports_total", proxy="app", server="s0") == 1
    assert lb.metric("meercat_orca_cpu_utilization", proxy="app", server="s0") == 0.25


@pytest.mark.parametrize("where", [in_head, in_trailers], ids=["head", "trailers"])
@pytest.mark.parametrize("balance", ["resource", "least-request"])
def test_a_pool_keeps_them_or_passes_them_on(lab, balance, where):
    origin = lab.origin(where(ODD_CASE))
    kept = lab.proxy({"s0": {"address": origin}}, pool={"balance": balance})
    assert FIELD not in fields_of(kept.client().request())
    passing = lab.proxy({"s0": {"address": origin}}, pool={"balance": balance, "pass_load_reports": "yes"})
    got = fields_of(passing.client().request())
    assert got[FIELD] == "TEXT eps=1" and got["x-left"] == "yes"


def test_interim_heads_do_not_tell_clients_either(lab):
    early = b"HTTP/1.1 103 Early Hints\r\nEndpoint-Load-Metrics: TEXT eps=1\r\nLink: </x>\r\n\r\n"
    lb = lab.proxy({"s0": {"address": lab.origin(early + ok())}}, pool={"balance": "resource"})
    c = lb.client()
    c.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    raw = c.read_all()
    assert b"103 Early Hints" in raw and b"Link: </x>" in raw
    assert FIELD.encode() not in raw.lower()


def test_a_pool_that_does_not_learn_does_not_hear(lab):
    lb = lab.proxy({"s0": {"address": lab.origin(in_head([FORMATS["text"]]))}}, pool={"balance": "round-robin"})
    assert lb.client().request().status == 200
    assert server(lb, "s0").get("learned") is None


NONSENSE = [
    (FIELD, "TEXT cpu_utilization=nan"), (FIELD, "TEXT cpu_utilization=-1"), (FIELD, "TEXT cpu_utilization=1e5"),
    (FIELD, "TEXT mem_utilization=1.5"), (FIELD, "TEXT cpu_utilization=much"), (FIELD, "TEXT ="),
    (FIELD, "TEXT cpu_utilization=.1,cpu_utilization=.2"), (FIELD, "TEXT request_cost.cpu=1e9"),
    (FIELD, "TEXT named_metrics." + "x" * 100 + "=1"), (FIELD, "TEXT cpu_utilization=" + "0" * 9000),
    (FIELD, "JSON {\"cpu_utilization\": [0.5]}"), (FIELD, "JSON {\"cpu\": 1}"), (FIELD, "JSON ["),
    (FIELD, "BIN !!!"), (FIELD, "BIN CQ=="), (FIELD_BIN, "CQAAAAAAAPh/"), (FIELD, "0.5"), (FIELD, "XML <a>"),
    (FIELD, ""),
]


def test_nonsense_is_refused_counted_and_does_no_harm(lab):
    """One server tells nothing but nonsense: each is counted, and it gets its share all the same."""
    told_lies = []

    def lie(conn, r):
        time.sleep(0.005)
        told_lies.append(NONSENSE[len(told_lies) % len(NONSENSE)])
        return ok("s0", fields=[("X-Server", "s0"), told_lies[-1]])
    told = Telling(lab, 3, {"s1": 0.4, "s2": 0.4}, delay=0.005)
    told.servers["s0"] = {"address": lab.origin(lie)}
    lb = lab.proxy(told.servers, pool={"balance": "resource"}, admin_http=True)
    wait_until(lambda: shares(lb) and set(told_lies) == set(NONSENSE), 20, "all were told")
    wait_until(lambda: (orca(lb, "s0") or {}).get("refused") == len(told_lies), 5, "all are counted")
    said = orca(lb, "s0")
    assert said["reports"] == 0 and said["cpu"] is None and said["price"] == 1 and said["why"]
    assert lb.metric("meercat_orca_refused_total", proxy="app", server="s0") == len(told_lies)
    assert lb.metric("meercat_orca_reports_total", proxy="app", server="s0") == 0
    wait_until(lambda: min(shares(lb).get(f"s{i}", 0) for i in range(3)) > 0.15, 20, "all have a share")
    assert orca(lb, "s1")["refused"] == 0 and orca(lb, "s1")["price"] < 1.1


def test_what_a_request_took_overrules_what_was_learned(lab):
    say = {"fields": []}
    lb = lab.proxy({"s0": {"address": lab.origin(lambda conn, r: ok(fields=say["fields"]))}},
                   pool={"balance": "resource"}, admin_http=True)
    c = lb.client()

    def asked(path):
        for _ in range(5):
            assert c.request(path).status == 200
        return cost(lb, f"GET {path}") or {}
    wait_until(lambda: asked("/dear").get("known"), 10, "the cost is learned, from latency")
    assert not cost(lb, "GET /dear")["told"] and cost(lb, "GET /dear")["cpu_ms"] < 100
    say["fields"] = [FORMATS["json"]]
    wait_until(lambda: asked("/dear").get("told"), 10, "the server's own word is heard")
    wait_until(lambda: asked("/dear")["cpu_ms"] == pytest.approx(125, rel=0.05), 10, "and overrules")
    assert lb.metric("meercat_class_cpu_seconds", proxy="app", **{"class": "GET /dear"}) == pytest.approx(0.125, rel=0.05)
    assert "GET /dear" in lb.cli("costs").stdout
    say["fields"] = []  # of another class nothing was said
    wait_until(lambda: asked("/cheap").get("known"), 10, "another class")
    assert not cost(lb, "GET /cheap")["told"]


def test_a_cost_that_the_request_had_no_time_for_is_refused(lab):
    lb = lab.proxy({"s0": {"address": lab.origin(ok(fields=[(FIELD, "TEXT request_cost.cpu_seconds=90000")]))}},
                   pool={"balance": "resource"})
    assert lb.client().request().status == 200
    wait_until(lambda: orca(lb, "s0")["refused"] == 1, 5, "it is refused")
    assert not any(c["told"] for c in lb.cli_json("costs")["classes"])


@pytest.mark.bound(90)
def test_a_busy_server_gets_less_until_it_is_well_again(lab):
    told = Telling(lab, 3, {"s0": 0.2, "s1": 0.2, "s2": 0.2}, delay=0.005)
    lb = lab.proxy(told.servers, pool={"balance": "resource"})
    wait_until(lambda: min(shares(lb).get(f"s{i}", 0) for i in range(3)) > 0.2, 20, "all have a share")
    told.busy["s1"] = 0.95
    wait_until(lambda: shares(lb).get("s1", 0) < 0.12 and orca(lb, "s1")["price"] > 1.5, 30, "the busy one gets less")
    assert orca(lb, "s0")["price"] < 1.1
    assert orca(lb, "s1")["cpu"] == pytest.approx(0.95)
    told.busy["s1"] = 0.2
    wait_until(lambda: shares(lb).get("s1", 0) > 0.2, 45, "it gets its share again")


@pytest.mark.bound(60)
def test_a_reload_keeps_what_was_said(lab):
    told = Telling(lab, 2, {"s0": 0.9, "s1": 0.1})
    conf = lab.conf(told.servers, pool={"balance": "resource"})
    lb = lab.start(conf)
    wait_until(lambda: shares(lb) and orca(lb, "s0") and orca(lb, "s0")["price"] > 1.2, 20, "it is heard")
    before = orca(lb, "s0")["reports"]
    with Load(lb.to, threads=2) as load:
        time.sleep(0.2)
        lb.reload(conf)
        time.sleep(0.2)
    assert not load.failures, load.failures[:3]
    assert orca(lb, "s0")["reports"] >= before and orca(lb, "s0")["price"] > 1.1


def test_a_response_without_a_body_may_tell(lab):
    lb = lab.proxy({"s0": {"address": lab.origin(response(204, fields=[FORMATS["text"]]))}}, pool={"balance": "resource"})
    assert FIELD not in fields_of(lb.client().request())
    wait_until(lambda: (orca(lb, "s0") or {}).get("cpu") == 0.25, 5, "it is heard")
