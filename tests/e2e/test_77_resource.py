# SPDX-License-Identifier: BSD-2-Clause
"""The policy `resource` at work: agents are heard, costs learned, requests put where there is room."""

import os
import re
import sys
import time

import pytest

from instruments import proc
from instruments.fake_agent import FakeAgent
from instruments.load import Load
from instruments.meercat import BINARY, san_env
from instruments.origin import ok
from instruments.ports import free_port
from instruments.process import Process
from instruments.wait import wait_until

# A server that burns as many milliseconds of CPU as the last part of the path says.
BURNER = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        end = time.thread_time() + int(self.path.rsplit("-", 1)[1].split("/")[0]) / 1000
        while time.thread_time() < end:
            pass
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("X-Server", sys.argv[2])
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *a):
        pass

ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Burner(Process):
    def __init__(self, name):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__([sys.executable, "-c", BURNER, str(self.port), name])
        wait_until(lambda: self.port in proc.listening_ports(), 10, "the burner listens")
        self.pid = self.child.pid


class RealAgent(Process):
    """`meercat agent` that looks at one process."""

    def __init__(self, pid):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        super().__init__([BINARY, "agent", "--bind", self.address, "--pid", str(pid)], env=san_env())
        wait_until(lambda: self.port in proc.listening_ports(), 10, "the agent listens")


def named(lab, n, agents=(), delay=0.0):
    def reply(name):
        def f(conn, r):
            if delay:
                time.sleep(delay)
            return ok(name, fields=[("X-Server", name)])
        return f
    servers = {f"s{i}": {"address": lab.origin(reply(f"s{i}"))} for i in range(n)}
    for s, a in zip(servers.values(), agents):
        s["agent"] = a.address
    return servers


def fakes(lab, n, **kw):
    return [lab.add(FakeAgent(**kw)) for _ in range(n)]


def server(lb, name, pool="app"):
    return next(s for s in lb.cli_json("servers")["servers"] if s["pool"] == pool and s["name"] == name)


def learned(lb, name):
    return server(lb, name)["learned"]


def wanted(lb, name):
    """Cores that the policy believes to be in use there."""
    return next(s for s in lb.cli_json("explain", "GET", "/")["servers"] if s["name"] == name)["wanted"]


def classes(lb):
    return {c["class"]: c for c in lb.cli_json("costs")["classes"]}


def wait_reports(lb, names, n=3):
    wait_until(lambda: all(learned(lb, s)["agent"]["reports"] >= n for s in names), 10, "agents report")


def shares(lb, threads=4, seconds=0.7):
    with Load(lb.to, threads=threads) as load:
        time.sleep(seconds)
    assert not load.failures, load.failures[:3]
    return {s: n / load.done for s, n in load.servers.items()}


def test_an_agent_turns_the_policy_on(lab):
    agents = fakes(lab, 1)
    lb = lab.proxy(named(lab, 2, agents), pool={"balance": "auto"}, log="json")
    assert lb.cli_json("pools")["pools"][0]["balance"] == "resource"
    wait_reports(lb, ["s0"])
    assert learned(lb, "s0")["agent"]["cores"] == 4
    assert learned(lb, "s1")["agent"] is None
    assert lb.client().request().status == 200
    assert lb.log_json(1)[0]["reason"] in ("resource", "only", "resource-away")


def test_without_agents_it_works_on_what_it_sees(lab):
    lb = lab.proxy(named(lab, 3, delay=0.005), pool={"balance": "resource"})
    wait_until(lambda: min(shares(lb).get(f"s{i}", 0) for i in range(3)) > 0.15, 20, "all have a share")


def test_the_loaded_server_gets_less(lab):
    agents = fakes(lab, 3)
    lb = lab.proxy(named(lab, 3, agents, delay=0.005), pool={"balance": "auto"})
    wait_reports(lb, ["s0", "s1", "s2"])
    def spread():
        got = shares(lb)
        return min(got.get(f"s{i}", 0) for i in range(3)) > 0.15 and got
    even = wait_until(spread, 20, "all have a share")
    agents[1].busy = 3.9
    wait_until(lambda: learned(lb, "s1")["other_load"] > 3, 20, "the load is heard of")
    assert learned(lb, "s1")["agent"]["cpu"] > 0.9
    wait_until(lambda: shares(lb).get("s1", 0) < 0.5 * even["s1"], 20, f"s1 gets less than of {even}")


def test_more_cores_get_more(lab):
    agents = [lab.add(FakeAgent(cores=8)), lab.add(FakeAgent(cores=1))]
    lb = lab.proxy(named(lab, 2, agents, delay=0.01), pool={"balance": "auto"})
    wait_reports(lb, ["s0", "s1"])
    wait_until(lambda: shares(lb, threads=8).get("s0", 0) > 0.7, 20, "more cores, more requests")


@pytest.mark.bound(90)
def test_a_silent_agent_is_not_counted_on(lab):
    agents = fakes(lab, 2)
    agents[0].busy = 3.9
    lb = lab.proxy(named(lab, 2, agents, delay=0.005), pool={"balance": "auto"})
    wait_until(lambda: learned(lb, "s0")["other_load"] > 3, 20, "the load is heard of")
    wait_until(lambda: shares(lb).get("s0", 0) < 0.3, 15, "the loaded one gets little")
    assert wanted(lb, "s0") > 3
    port = agents[0].port
    agents[0].stop()
    wait_until(lambda: learned(lb, "s0")["other_load"] == 0, 15, "its word is forgotten")
    wait_until(lambda: "its agent at" in lb.stderr and "says nothing any more" in lb.stderr, 5, "that is logged")
    wait_until(lambda: wanted(lb, "s0") < 1, 15, "its load is not believed any more")
    # between idle servers the quicker one is taken, be it by a hair: what counts is that s0 has become one
    agents[1].busy = 3.9
    wait_until(lambda: shares(lb).get("s0", 0) > 0.7, 15, "it gets what a loaded one does not")
    agents[0] = lab.add(FakeAgent(port=port))
    wait_until(lambda: "is back" in lb.stderr, 15, "it is heard again")
    assert learned(lb, "s0")["agent"]["age_ms"] < 5000


def test_nonsense_is_refused_and_counted(lab):
    agents = fakes(lab, 2)
    lb = lab.proxy(named(lab, 2, agents), pool={"balance": "auto"}, admin_http=True)
    wait_reports(lb, ["s0", "s1"])
    agents[0].line = "cpu_utilization=nan,named_metrics.cores=-4"
    wait_until(lambda: learned(lb, "s0")["agent"]["refused"] > 3, 10, "lies are refused")
    assert learned(lb, "s0")["agent"]["cores"] == 4
    assert lb.metric("meercat_agent_refused_total", proxy="app", server="s0") > 3
    # between idle servers the quicker one is taken, be it by a hair: what counts is that s0 is not shunned
    wait_until(lambda: shares(lb).get("s0", 0) > 0.05, 20, "s0 has a share all the same")


@pytest.mark.slow
@pytest.mark.bound(90)
def test_costs_are_learned(lab):
    """Two servers that burn CPU, each with a real agent beside it."""
    burners = [lab.add(Burner(f"b{i}")) for i in range(2)]
    servers = {f"b{i}": {"address": b.address, "agent": lab.add(RealAgent(b.pid)).address}
               for i, b in enumerate(burners)}
    lb = lab.proxy(servers, pool={"balance": "auto"}, admin_http=True)
    wait_reports(lb, servers)
    loads = [Load(lb.to, threads=2, path="/cheap/17-1/x", pause=0.02), Load(lb.to, threads=1, path="/mid-8", pause=0.05),
             Load(lb.to, threads=1, path="/heavy-50", pause=0.25)]
    for load in loads:
        load.start()
    names = ["GET /cheap/{}/x", "GET /mid-8", "GET /heavy-50"]

    def cpu_of(c):
        return [c[n]["cpu_ms"] for n in names]

    def is_right(cpu):
        return cpu[0] < 5 and 3 < cpu[1] < 25 and 15 < cpu[2] < 120 and cpu[0] < cpu[1] < cpu[2]

    def is_known():  # learning goes on while others use the machine: in the end it is right
        c = classes(lb)
        return all(n in c and c[n]["known"] and c[n]["requests"] > 40 for n in names) and is_right(cpu_of(c))
    try:
        wait_until(is_known, 60, "costs are known")
    except AssertionError as e:
        raise AssertionError(f"{e}\n{lb.cli('costs').stdout}") from None
    for load in loads:
        load.stop()
        assert not load.failures, load.failures[:3]
    assert sum(c["share"] or 0 for c in classes(lb).values()) == pytest.approx(1, abs=0.01)
    assert lb.metric("meercat_class_cpu_seconds", proxy="app", **{"class": names[2]}) > 0.015
    table = lb.cli("costs").stdout
    assert re.search(r"^POOL +REQUESTS +CPU-MS +\+- +PHI +\+- +MB +\+- +SHARE +CLASS$", table, re.M), table
    assert names[0] in table


def test_a_reload_keeps_what_was_learned(lab):
    agents = fakes(lab, 2)
    conf = lab.conf(named(lab, 2, agents), pool={"balance": "auto"})
    lb = lab.start(conf)
    wait_reports(lb, ["s0", "s1"])
    c = lb.client()
    name = "GET /items/{}"

    def is_known():
        for i in range(10):
            assert c.request(f"/items/{1000 + i}").status == 200
        return classes(lb).get(name, {}).get("known")
    wait_until(is_known, 10, "the class is known")
    seen = classes(lb)[name]["requests"]
    lb.reload()
    assert classes(lb)[name]["requests"] >= seen
    # other servers: costs go over, requests under way finish
    keys, servers = conf.pools["app"]
    servers["s2"] = {"address": lab.origin(ok("s2")).address, "agent": agents[0].address}
    with Load(lb.to, threads=2, path="/items/7000") as load:
        time.sleep(0.2)
        lb.reload(conf)
        time.sleep(0.3)
    assert not load.failures, load.failures[:3]
    assert classes(lb)[name]["known"] and classes(lb)[name]["requests"] >= seen
    wait_reports(lb, ["s0", "s1", "s2"])
    # and without agents nothing of it is left
    for s in servers.values():
        del s["agent"]
    lb.reload(conf)
    assert lb.cli_json("pools")["pools"][0]["balance"] == "least-request"
    assert lb.cli_json("costs")["classes"] == []
    assert lb.client().request().status == 200


def test_costs_outlive_a_restart(lab):
    conf = lab.conf(named(lab, 2), pool={"balance": "resource"}, state_dir=lab.dir("state"))
    lb = lab.start(conf)
    c = lb.client()
    name = "GET /items/{}"

    def is_known():
        for i in range(10):
            assert c.request(f"/items/{1000 + i}").status == 200
        return classes(lb).get(name, {}).get("known")
    wait_until(is_known, 10, "the class is known")
    lb.stop()
    path = os.path.join(conf.top["state_dir"], "costs-app")
    with open(path) as f:
        assert name in f.read()
    with open(path, "a") as f:
        f.write("this is no cost\n")
    lb = lab.start(conf)
    assert classes(lb)[name]["known"]
    assert "1 lines make no sense" in lb.stderr
    lb.stop()
    os.unlink(path)
    lb = lab.start(conf)
    assert name not in classes(lb)


def test_an_agent_may_have_a_name(lab):
    dns = lab.dnsmasq({"agent.test": ["127.0.0.1"]})
    agent = lab.add(FakeAgent())
    servers = named(lab, 2)
    servers["s0"]["agent"] = f"agent.test:{agent.port}"
    servers["s1"]["agent"] = f"nobody.test:{agent.port}"
    lb = lab.proxy(servers, pool={"balance": "auto"}, resolvers=[f"127.0.0.1:{dns.port}"])
    wait_reports(lb, ["s0"])
    wait_until(lambda: "cannot resolve nobody.test of its agent" in lb.stderr, 10, "the name is unknown")
    assert learned(lb, "s1")["agent"]["why"] == "its name cannot be resolved"
    assert lb.client().request().status == 200


def test_routes_that_share_a_pool_have_classes_of_their_own(lab):
    conf = lab.conf(named(lab, 1), pool={"balance": "resource"}, routes=False)
    conf.route("one", "app", path="/one").route("two", "app")
    lb = lab.start(conf)
    c = lb.client()
    for _ in range(20):
        c.request("/one")
        c.request("/else")
    wait_until(lambda: {"one GET /one", "two GET /else"} <= set(classes(lb)), 10, "both are there")


def test_a_server_that_fails_does_not_look_idle(lab):
    bad = lab.origin(lambda conn, r: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    servers = named(lab, 1, delay=0.005)
    servers["bad"] = {"address": bad}
    lb = lab.proxy(servers, pool={"balance": "resource", "eject_after": 0})
    with Load(lb.to, threads=4, check=lambda r: None) as load:
        time.sleep(1)
    assert load.statuses[503] < 0.2 * load.done, load.statuses


def test_peak_ewma_avoids_the_slow(lab):
    servers = named(lab, 1)
    servers["slow"] = {"address": lab.origin(lambda conn, r: (time.sleep(0.05), ok("slow", fields=[("X-Server", "slow")]))[1])}
    lb = lab.proxy(servers, pool={"balance": "peak-ewma"})
    got = shares(lb)
    assert got["s0"] > 0.9, got
