# SPDX-License-Identifier: BSD-2-Clause
"""Balancers that act as one: membership, keys, verdicts, the operator's words, caps, costs."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from instruments.client import fetch
from instruments.cluster import Cluster
from instruments.fake_agent import FakeAgent
from instruments.load import Load
from instruments.meercat import command
from instruments.origin import ok
from instruments.ports import free_port
from instruments.wait import stays, wait_until

pytestmark = [pytest.mark.bound(90), pytest.mark.long]

TLIMIT = 20


def named(lab, n, **kw):
    servers = {}
    for i in range(n):
        name = f"s{i}"
        servers[name] = {"address": lab.origin(ok(name, fields=[("X-Server", name)]), **kw).address}
    return servers


# --- membership --------------------------------------------------------------------------------------------------

def test_three_find_each_other(lab):
    c = Cluster(lab, 3, named(lab, 2))
    c.wait_alive()
    for i, lb in enumerate(c):
        view = Cluster.view(lb)
        me = [m for m in view["members"] if m["self"]]
        assert [m["name"] for m in me] == [f"lb{i + 1}"]
        assert all(m["same_config"] for m in view["members"])
        status = lb.cli_json("status")
        assert status["cluster"]["alive"] == 3 and status["cluster"]["other_configs"] == 0
        assert "3 of 3 alive" in lb.cli("status").stdout
        table = lb.cli("members").stdout
        assert all(f"lb{k + 1}" in table for k in range(3)), table
    wait_until(lambda: all(m["rtt_ms"] for m in Cluster.view(c[0])["members"] if not m["self"]), TLIMIT, "rtt is known")


def test_a_lone_balancer_says_so(lab):
    lb = lab.proxy(named(lab, 1))
    assert lb.cli_json("members")["members"] == []
    assert "no cluster" in lb.cli("members").stdout
    assert lb.cli_json("status")["cluster"] is None


def test_a_killed_one_is_found_and_comes_back(lab):
    c = Cluster(lab, 3, named(lab, 2))
    c.wait_alive()
    was = next(m for m in Cluster.view(c[0])["members"] if m["name"] == "lb2")["incarnation"]
    c.kill(1)
    c.wait_seen("lb2", "dead", by=[0, 2])
    assert c[0].cli("members", ok=False).returncode == 1
    assert c[0].client().request().status == 200
    c.restart(1)
    c.wait_alive()
    now = next(m for m in Cluster.view(c[0])["members"] if m["name"] == "lb2")["incarnation"]
    assert now > was or now == was  # a new process; its incarnation is at least as great
    c[0].wait_line("lb2", since=0)


def test_one_that_ends_well_has_left(lab):
    c = Cluster(lab, 3, named(lab, 2))
    c.wait_alive()
    assert c[1].stop() == 0
    c.wait_seen("lb2", "left", by=[0, 2])
    assert c[0].cli("members").returncode == 0
    c.restart(1)
    c.wait_alive()
    c[2].cli("leave")
    assert c[2].wait_exit() == 0
    c[2]._was_stopped = True
    c.wait_seen("lb3", "left", by=[0, 1])


def test_a_frozen_one_is_found_and_forgiven(lab):
    c = Cluster(lab, 3, named(lab, 2))
    c.wait_alive()
    c[1].signal(signal.SIGSTOP)
    try:
        c.wait_seen("lb2", "dead", by=[0, 2])
    finally:
        c[1].signal(signal.SIGCONT)
    c.wait_alive()


def test_a_name_belongs_to_who_has_it(lab):
    c = Cluster(lab, 2, named(lab, 1))
    c.wait_alive()
    # of two that began within a second nobody can tell which one was first
    wait_until(lambda: c[0].cli_json("status")["uptime_s"] > 2.5, TLIMIT, "the holder is established")
    twin = c._conf(0)
    twin.top["cluster"]["bind"] = f"127.0.0.1:{free_port()}"
    twin.top["cluster"]["join"] = [c.addresses[1]]
    lb = lab.start(twin)
    lb.wait_line("belongs to a live member", 15)
    wait_until(lambda: lb.cli_json("status")["cluster"]["name_taken"], TLIMIT, "it says so")
    assert lb.client().request().status == 200  # it serves all the same
    stays(lambda: c.sees(1, lb1="alive", lb2="alive"), 1.0)
    assert next(m for m in Cluster.view(c[1])["members"] if m["name"] == "lb1")["address"] == c.addresses[0]


# --- keys --------------------------------------------------------------------------------------------------------

def test_a_wrong_key_is_met_with_silence(lab):
    c = Cluster(lab, 2, named(lab, 1))
    c.wait_alive()
    conf = c._conf(0)
    conf.top["node"] = "stranger"
    conf.top["cluster"].update(bind=f"127.0.0.1:{free_port()}", key_file=Cluster.write_key(lab, None), join=c.addresses)
    stranger = lab.start(conf)
    wait_until(lambda: Cluster.view(c[0])["refused"]["key"] > 2, TLIMIT, "it is refused")
    c[0].wait_line("is refused")
    assert "stranger" not in Cluster.members(c[0]) and len(Cluster.members(stranger)) == 1
    assert c[0].metric("meercat_cluster_refused_total", reason="key") > 2


def test_keys_rotate_without_a_pause(lab):
    c = Cluster(lab, 3, named(lab, 1))
    c.wait_alive()
    with open(c.key_file) as f:
        old = f.read().strip()
    new = command("keygen").stdout.strip().splitlines()[-1]
    for lines in ([old, new], [new, old], [new]):
        with open(c.key_file, "w") as f:
            f.write("\n".join(lines) + "\n")
        for lb in c:  # one after the other, as it is done
            n = lb.cli_json("status")["config"]["reloads"]
            lb.reload()
            wait_until(lambda: lb.cli_json("status")["config"]["reloads"] > n, TLIMIT, "reloaded")
            for other in c:
                assert set(Cluster.members(other).values()) == {"alive"}
        wait_until(lambda: all(len(Cluster.view(lb)["keys"]) == len(lines) for lb in c), TLIMIT, "keys are in force")
    sealed = Cluster.view(c[0])["counters"]["datagrams"]["opened"]
    wait_until(lambda: Cluster.view(c[0])["counters"]["datagrams"]["opened"] > sealed + 5, TLIMIT, "they still speak")
    for lb in c:
        assert set(Cluster.members(lb).values()) == {"alive"}
        assert "dead" not in lb.stderr


def test_without_a_key_it_stays_at_home(lab):
    conf = lab.conf(named(lab, 1), node="lb1", cluster={"bind": "192.0.2.1:7707"})
    r = command("check", "-c", lb_file(lab, conf))
    assert r.returncode == 1 and "key-file" in r.stderr + r.stdout, r
    conf = lab.conf(named(lab, 1), cluster={"bind": "127.0.0.1:7707"})
    r = command("check", "-c", lb_file(lab, conf))
    assert r.returncode == 1 and "node" in r.stderr + r.stdout, r


def lb_file(lab, conf):
    path = os.path.join(conf.dir, "check.conf")
    with open(path, "w") as f:
        f.write(str(conf))
    return path


def test_garbage_does_not_disturb(lab):
    c = Cluster(lab, 3, named(lab, 1))
    c.wait_alive()
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    host, port = c.addresses[0].rsplit(":", 1)
    end, n = time.monotonic() + 3, 0
    while time.monotonic() < end and n < 200000:
        for size in (0, 1, 29, 46, 200, 1400, 3000):
            s.sendto(os.urandom(size), (host, int(port)))
            n += 1
    s.close()
    t = socket.create_connection((host, int(port)))
    t.sendall(os.urandom(5000))
    t.settimeout(10)
    try:
        assert t.recv(100) == b""
    except ConnectionResetError:
        pass
    t.close()
    for lb in c:
        assert set(Cluster.members(lb).values()) == {"alive"}
        assert "dead" not in lb.stderr
    assert sum(Cluster.view(c[0])["refused"].values()) > 100


# --- configuration -----------------------------------------------------------------------------------------------

def test_other_configurations_are_seen(lab):
    c = Cluster(lab, 2, named(lab, 2))
    c.wait_alive()
    c.confs[1].pools["app"][0]["balance"] = "random"
    c[1].reload(c.confs[1])
    wait_until(lambda: c[0].cli_json("status")["cluster"]["other_configs"] == 1, TLIMIT, "the difference is seen")
    assert "another configuration" in c[0].cli("status").stdout
    assert c[0].metric("meercat_cluster_other_configs") == 1
    assert c[0].client().request().status == 200
    c.confs[0].pools["app"][0]["balance"] = "random"
    c[0].reload(c.confs[0])
    wait_until(lambda: c[0].cli_json("status")["cluster"]["other_configs"] == 0, TLIMIT, "they agree again")


def test_metrics_are_as_prometheus_wants_them(lab):
    c = Cluster(lab, 2, named(lab, 1))
    c.wait_alive()
    host, port = c.confs[0].top["admin"]["http"].rsplit(":", 1)
    r = fetch((host, int(port)), "/metrics")
    p = subprocess.run(["promtool", "check", "metrics"], input=r.body, capture_output=True)
    assert p.returncode == 0, p.stderr
    assert c[0].metric("meercat_cluster_members", state="alive") == 2


# --- health ------------------------------------------------------------------------------------------------------

CHECK = {"check": {"path": "/health", "interval": "200ms", "fall": 2, "rise": 1}}


def probed_by(origin, since):
    return len([r for r in origin.requests[since:] if r.target == "/health"])


def test_checks_are_shared_out_and_taken_over(lab):
    origins = [lab.origin(ok(f"s{i}")) for i in range(6)]
    servers = {f"s{i}": o.address for i, o in enumerate(origins)}
    c = Cluster(lab, 4, servers, pool={"check": {"path": "/health", "interval": "200ms", "fall": 2, "rise": 1}})
    c.wait_alive()

    def owners(i):
        return {s["name"]: s["owners"] for s in c[i].cli_json("servers")["servers"]}
    wait_until(lambda: all(owners(i) == owners(0) for i in range(4)), TLIMIT, "all know the same owners")
    assert all(len(o) == 2 for o in owners(0).values()), owners(0)
    for lb in c:
        mine = sum(lb.conf.top["node"] in o for o in owners(0).values())
        wait_until(lambda: lb.metric("meercat_cluster_owned_servers") == mine, TLIMIT, "it owns its part")

    def checked_by():  # seen from outside: how many connections ask a server in a time
        before = [o.n_connections for o in origins]
        time.sleep(2)
        return [o.n_connections - b for o, b in zip(origins, before)]
    n = checked_by()
    assert max(n) <= 2 * 10 + 6, f"more than two check a server: {n}"
    c.kill(3)
    c.wait_seen("lb4", "dead", by=[0, 1, 2])
    wait_until(lambda: all(len(o) == 2 and "lb4" not in o for o in owners(0).values()), TLIMIT, "others own them")
    wait_until(lambda: min(checked_by()) > 0, TLIMIT, "no server is left alone")


def test_a_verdict_is_everybodys(lab):
    sick = threading.Event()

    def reply(conn, r):
        return b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" if sick.is_set() and r.target == "/health" else ok("x")
    servers = {"s0": lab.origin(reply).address, "s1": lab.origin(ok("s1")).address}
    c = Cluster(lab, 4, servers, pool={"check": {"path": "/health", "interval": "100ms", "fall": 2, "rise": 1}})
    c.wait_alive()
    for lb in c:
        lb.wait_state("s0", "up")
    sick.set()
    for lb in c:
        lb.wait_state("s0", "down", timeout=TLIMIT)
    assert all("500" in lb.servers()["app/s0"]["reason"] for lb in c)
    sick.clear()
    for lb in c:
        lb.wait_state("s0", "up", timeout=TLIMIT)


def test_agents_are_followed_by_two_and_one_of_them_closely(lab):
    agents = [lab.add(FakeAgent()) for _ in range(4)]
    servers = named(lab, 4)
    for s, a in zip(servers.values(), agents):
        s["agent"] = a.address
    c = Cluster(lab, 4, servers, pool={"balance": "auto"})
    c.wait_alive()

    def paces():
        """Seconds between the reports that each agent's followers asked for."""
        return [sorted(a.paces.get(k, 0) for k in a.conns if k.fileno() >= 0 and not a.gone(k)) for a in agents]
    wait_until(lambda: paces() == [[0.1, 1]] * 4, TLIMIT, "two follow each agent")
    c.kill(0)
    c.wait_seen("lb1", "dead", by=[1, 2, 3])
    wait_until(lambda: paces() == [[0.1, 1]] * 4, TLIMIT, "two follow each agent again")

    def newest(lb):
        return [s["learned"]["report_seq"] for s in lb.cli_json("servers")["servers"]]
    told = [a.seq for a in agents]
    for lb in list(c)[1:]:
        wait_until(lambda: all(n and n > t for n, t in zip(newest(lb), told)), TLIMIT, "all hear of new reports")
    agents[1].busy = 3.9
    for lb in list(c)[1:]:
        wait_until(lambda: next(s for s in lb.cli_json("servers")["servers"] if s["name"] == "s1")
                   ["learned"]["other_load"] > 3, TLIMIT, "all know of the load")


# --- the operator's words ----------------------------------------------------------------------------------------

def word(lb, name):
    return lb.servers()[f"app/{name}"]


def test_a_word_is_everybodys_and_outlives_them(lab):
    c = Cluster(lab, 3, named(lab, 3), start=False)
    for i, conf in enumerate(c.confs):
        conf.top["state_dir"] = lab.dir("state")
    c.lbs = [lab.start(conf) for conf in c.confs]
    c.wait_alive()
    c[0].cli("drain", "app/s1")
    c[1].cli("weight", "app/s2", "7")
    for lb in c:
        lb.wait_state("s1", "drain", timeout=TLIMIT)
        wait_until(lambda: word(lb, "s2")["weight"] == 7, TLIMIT, "the weight is known")
        said = word(lb, "s1")
        assert "on lb1" in said["reason"], said
        assert said["words"][0]["say"] == "drain" and said["words"][0]["where"] == "lb1" and said["words"][0]["who"]
    c[2].cli("maint", "app/s1")
    for lb in c:
        lb.wait_state("s1", "maint", timeout=TLIMIT)
    for i in range(3):  # every process ends and begins anew
        c[i].stop()
    for i in range(3):
        c.restart(i)
    c.wait_alive()
    for lb in c:
        lb.wait_state("s1", "maint", timeout=TLIMIT)
        assert word(lb, "s2")["weight"] == 7
    c[0].cli("unset", "app/s1")
    c[0].cli("unset", "app/s2")
    for lb in c:
        lb.wait_state("s1", "up", timeout=TLIMIT)
        wait_until(lambda: word(lb, "s2")["weight"] == 1 and not word(lb, "s2")["words"], TLIMIT, "as configured")


def test_one_word_taken_back_leaves_the_other(lab):
    c = Cluster(lab, 2, named(lab, 2), start=False)
    state = lab.dir("state")
    at = "at=1700000000000.{}.17 when=1700000000000"
    with open(os.path.join(state, "words"), "w") as f:  # the older word stands first
        f.write(f"weight app/s0 {at.format(0)} to=5\nunset-state app/s0 {at.format(1)}\n"
                f"drain app/s1 {at.format(2)}\nunset-weight app/s1 {at.format(3)}\n")
    c.confs[0].top["state_dir"] = state
    c.lbs = [lab.start(conf) for conf in c.confs]
    c.wait_alive()
    for lb in c:
        lb.wait_state("s1", "drain", timeout=TLIMIT)
        wait_until(lambda: word(lb, "s0")["weight"] == 5, TLIMIT, "the weight is known")


def test_who_was_away_hears_it_later(lab):
    c = Cluster(lab, 3, named(lab, 2))
    c.wait_alive()
    c.kill(2)
    c[0].cli("drain", "app/s0")
    c.restart(2)
    c[2].wait_state("s0", "drain", timeout=TLIMIT)


def test_a_word_about_nothing_is_refused(lab):
    c = Cluster(lab, 2, named(lab, 1))
    c.wait_alive()
    r = c[0].cli("drain", "app/nobody", ok=False)
    assert r.returncode == 1 and "nobody" in r.stderr


# --- limits ------------------------------------------------------------------------------------------------------

def test_a_cap_holds_for_all_together(lab):
    at_once, most, lock = [0], [0], threading.Lock()

    def reply(conn, r):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.05)
        with lock:
            at_once[0] -= 1
        return ok("x")
    servers = {"s0": {"address": lab.origin(reply).address, "max_concurrent": 9}}
    c = Cluster(lab, 3, servers, pool={"queue_timeout": "20s"})
    c.wait_alive()
    shares = [lambda lb=lb: lb.servers()["app/s0"]["max_concurrent_share"] for lb in c]
    wait_until(lambda: sum(s() for s in shares) == 9 and min(s() for s in shares) >= 1, TLIMIT, "shares sum to the cap")
    with lock:
        most[0] = 0
    loads = [Load(lb.to, threads=8).start() for lb in c]
    wait_until(lambda: most[0] >= 8, TLIMIT, "the cap is used")
    wait_until(lambda: min(load.done for load in loads) > 30, TLIMIT, "everybody gets on")
    for load in loads:
        load.stop()
        assert not load.failures, load.failures[:3]
    assert most[0] <= 9, most
    # one alone may use more of it
    c[0].stop()
    c[1].stop()
    with Load(c[2].to, threads=12) as load:
        wait_until(lambda: shares[2]() >= 8, TLIMIT, "the share follows demand")
    assert not load.failures, load.failures[:3]


def test_a_rate_holds_for_all_together(lab):
    c = Cluster(lab, 3, named(lab, 1), routes=False, start=False)
    for conf in c.confs:
        conf.route("all", "app", rate_limit=60, rate_burst=6)
    c.lbs = [lab.start(conf) for conf in c.confs]
    c.wait_alive()

    def either(r):
        assert r.status in (200, 429), r.status
        assert r.status == 200 or r.fields.get("retry-after")
    loads = [Load(lb.to, threads=2, pause=0.005, check=either).start() for lb in c]

    def passed():
        return sum(load.statuses[200] for load in loads)
    wait_until(lambda: min(load.statuses[429] for load in loads) > 5, TLIMIT, "each refuses some")
    time.sleep(1)  # shares settle
    before, at = passed(), time.monotonic()
    wait_until(lambda: passed() - before >= 120, TLIMIT, "requests pass")
    took = time.monotonic() - at
    for load in loads:
        load.stop()
        assert not load.failures, load.failures[:3]
    assert 120 / took < 60 * 1.4, took


def test_who_is_asked_before_it_has_a_share_gets_one(lab):
    c = Cluster(lab, 2, named(lab, 1), routes=False, start=False)
    for conf in c.confs:
        conf.route("all", "app", rate_limit=60, rate_burst=6)

    def either(r):
        assert r.status in (200, 429), r.status
    c.lbs = [lab.start(c.confs[0])]
    with Load(c[0].to, threads=2, pause=0.01, check=either) as first:
        c.lbs.append(lab.start(c.confs[1]))
        with Load(c[1].to, threads=2, pause=0.01, check=either) as late:  # they do not know each other yet
            wait_until(lambda: late.statuses[200] >= 30, TLIMIT, "the late one has its share")
    assert not first.failures and not late.failures, (first.failures[:3], late.failures[:3])


# --- costs -------------------------------------------------------------------------------------------------------

def test_a_new_balancer_knows_what_the_others_learned(lab):
    servers = {f"s{i}": {"address": lab.origin(lambda conn, r: time.sleep(0.01) or ok("x")).address} for i in range(2)}
    agents = [lab.add(FakeAgent(busy=0.5)) for _ in servers]
    for s, a in zip(servers.values(), agents):
        s["agent"] = a.address
    c = Cluster(lab, 3, servers, start=False, pool={"balance": "auto"})
    c.lbs = [lab.start(conf) for conf in c.confs[:2]]
    c.wait_alive()

    def cost(lb):
        found = [k for k in lb.cli_json("costs")["classes"] if k["class"] == "GET /items/{}"]
        return found[0] if found else {"known": False}
    with Load(c[0].to, threads=4, path="/items/123") as load:
        wait_until(lambda: cost(c[0])["known"] and cost(c[0])["requests"] > 300, TLIMIT * 2, "its cost is known")
        c.lbs.append(lab.start(c.confs[2]))
        c.wait_alive()
        client = c[2].client()

        def known():
            assert client.request("/items/7").status == 200
            k, there = cost(c[2]), cost(c[0])
            assert k.get("requests", 0) < 2000, "it learned by itself"
            return k["known"] and k["cpu_ms"] == pytest.approx(there["cpu_ms"], rel=0.3)
        wait_until(known, TLIMIT, "the new one knows it")
    assert not load.failures, load.failures[:3]
