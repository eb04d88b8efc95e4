# SPDX-License-Identifier: BSD-2-Clause
"""Balancers that do not reach each other, or not the servers that others reach."""

import time

import pytest

from instruments.netcluster import NetCluster
from instruments.wait import Clock, stays, wait_until

pytestmark = pytest.mark.bound(90)

TLIMIT = 20
CHECK = {"check": {"path": "/health", "interval": "200ms", "timeout": "500ms", "fall": 2, "rise": 1},
         "connect_timeout": "300ms"}


def others(c, i):
    return [k for k in range(c.n) if k != i]


def test_one_that_is_cut_off_serves_on_and_comes_back(lab, net, measured):
    c = NetCluster(lab, net, 3)
    c.wait_alive()
    with c.traffic(0, 1, 2):
        net.partition([c.hosts[2]], c.hosts[:2])
        c.wait_apart([2], [0, 1])
        net.heal()
        with Clock() as clock:
            c.wait_alive()
        measured(f"one again {clock.s:.2f} s after the cut was healed")


def test_a_cable_is_pulled_and_put_back(lab, net, measured):
    c = NetCluster(lab, net, 3)
    c.wait_alive()
    with c.traffic(0, 1):
        net.unplug(c.hosts[2])
        c.wait_apart([2], [0, 1])
        net.heal()
        with Clock() as clock:
            c.wait_alive()
        measured(f"one again {clock.s:.2f} s after the cable was in")
        with c.traffic(2) as (load,):
            wait_until(lambda: load.done > 20, TLIMIT, "it serves again")


def test_who_is_not_heard_by_one_is_vouched_for(lab, net):
    c = NetCluster(lab, net, 3)
    c.wait_alive()
    since = c.mark()
    probed = [c.counted(i, "membership", "indirect") for i in range(2)]
    with c.traffic(0, 1, 2):
        net.deafen(c.hosts[1], to=c.hosts[0])
        # both need the third for their probes of each other
        for i in range(2):
            wait_until(lambda: c.counted(i, "membership", "indirect") >= probed[i] + 5, TLIMIT, "others are asked")
        assert all(c.sees(i, lb1="alive", lb2="alive", lb3="alive") or "suspect" in c.members(c[i]).values()
                   for i in range(3)), [c.members(lb) for lb in c]
        # a word gets around the cut
        c[0].cli("drain", "app/s1")
        for i in range(3):
            c[i].wait_state("s1", "drain", timeout=TLIMIT)
        assert not c.said("is dead", since)
        net.heal()
        c.wait_alive()


def test_two_sides_that_were_told_different_things_agree(lab, net, measured):
    c = NetCluster(lab, net, 5, origins=5)
    c.wait_alive()
    left, right = [0, 1, 2], [3, 4]
    with c.traffic(0, 4), Clock() as clock:
        net.partition([c.hosts[i] for i in left], [c.hosts[i] for i in right])
        c.wait_apart(left, right)
        measured(f"apart after {clock.so_far:.2f} s")
        c[0].cli("drain", "app/s0")
        c[3].cli("maint", "app/s1")
        c[1].cli("drain", "app/s2")  # about the same server, and the later word is the right side's
        c[4].cli("maint", "app/s2")
        c[3].cli("weight", "app/s3", "5")  # the left side's
        c[2].cli("weight", "app/s3", "9")
        for side, states, weight in ((left, ("drain", "up", "drain"), 9), (right, ("up", "maint", "maint"), 5)):
            for i in side:
                for server, state in zip(("s0", "s1", "s2"), states):
                    c[i].wait_state(server, state, timeout=TLIMIT)
                wait_until(lambda: c[i].servers()["app/s3"]["weight"] == weight, TLIMIT, f"lb{i + 1} has the weight")
        time.sleep(max(0, 10 - clock.so_far))
        healed = clock.so_far
        net.heal()
        c.wait_alive()
        measured(f"all alive {clock.so_far - healed:.2f} s after the partition")
        for i in range(5):
            for server, state in (("s0", "drain"), ("s1", "maint"), ("s2", "maint"), ("s4", "up")):
                c[i].wait_state(server, state, timeout=TLIMIT)
            wait_until(lambda: c[i].servers()["app/s3"]["weight"] == 9, TLIMIT, f"lb{i + 1} has the later weight")
        measured(f"of one mind {clock.so_far - healed:.2f} s after the partition")
    words = [{n: [(w["say"], w["where"], w["when"]) for w in s["words"]] for n, s in lb.servers().items()} for lb in c]
    assert all(w == words[0] for w in words), words


# --- servers -----------------------------------------------------------------------------------------------------

def owners(c, i, server):
    return {int(name[2:]) - 1 for name in c[i].servers()[f"app/{server}"]["owners"]}


def agreed_owners(c, server, among=None):
    """Who looks after it, once all of these say the same."""
    among = range(c.n) if among is None else among

    def agreed():
        said = [owners(c, i, server) for i in among]
        return said[0] if len(said[0]) == 2 and all(s == said[0] for s in said) else None
    return wait_until(agreed, TLIMIT, f"owners of {server} are known")


def test_a_server_that_one_cannot_reach_is_up_for_the_others(lab, net):
    c = NetCluster(lab, net, 3, pool=CHECK)
    c.wait_alive()
    for i in range(3):
        c[i].wait_state("s0", "up")
    blind = min(agreed_owners(c, "s0"))
    asked = [c.load(i) for i in others(c, blind)]
    with c.traffic(0, 1, 2):
        net.cut(c.hosts[blind], c.origin_hosts[0])
        # its own checks and requests fail; the other owner says up
        c[blind].wait_state("s0", "down", timeout=TLIMIT)
        stays(lambda: all(c.states(i)["s0"] == "up" for i in others(c, blind)), 2.0, interval=0.1)
        before = [load.servers["s0"] for load in asked]
        wait_until(lambda: all(load.servers["s0"] > b + 10 for load, b in zip(asked, before)), TLIMIT,
                   "the others use it")
        assert c.states(blind)["s0"] == "down" and c.states(blind)["s1"] == "up"
        net.heal()
        c[blind].wait_state("s0", "up", timeout=TLIMIT)
        assert all(c.states(i)["s0"] == "up" for i in range(3))
    for load in asked:
        assert not load.stop().failures, load.failures[:3]


def test_a_server_is_looked_after_by_others_when_its_owner_is_cut_off(lab, net):
    c = NetCluster(lab, net, 4, pool=CHECK)
    c.wait_alive()
    lost = min(agreed_owners(c, "s0"))
    rest = others(c, lost)
    with c.traffic(*rest):
        net.unplug(c.hosts[lost])
        c.wait_apart([lost], rest)
        assert lost not in agreed_owners(c, "s0", among=rest)
        c.origins[0].refuse()
        for i in rest:
            c[i].wait_state("s0", "down", timeout=TLIMIT)
        with c.origin_hosts[0]:
            c.origins[0].listen()
        for i in rest:
            c[i].wait_state("s0", "up", timeout=TLIMIT)
    net.heal()
    c.wait_alive()
    for i in range(4):
        for s in ("s0", "s1"):
            c[i].wait_state(s, "up", timeout=TLIMIT)
    agreed_owners(c, "s0")
