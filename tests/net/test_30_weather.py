# SPDX-License-Identifier: BSD-2-Clause
"""Networks that lose and delay."""

import time

import pytest

from instruments.cluster import Cluster
from instruments.netcluster import NetCluster
from instruments.wait import Clock, wait_until

pytestmark = pytest.mark.bound(90)

TLIMIT = 20


def all_say(c, server, state):
    with Clock() as clock:
        for i in range(c.n):
            c[i].wait_state(server, state, timeout=TLIMIT)
    return clock.s


def test_a_network_that_loses_a_fifth(lab, net, measured):
    c = NetCluster(lab, net, 5)
    c.wait_alive()
    since = c.mark()
    with c.traffic(0, 4), Clock() as clock:
        net.lose(20, c.hosts)
        c[1].cli("drain", "app/s1")
        measured(f"a word is everywhere after {all_say(c, 's1', 'drain'):.2f} s")
        while clock.so_far < 10:
            c[2].cli("ready", "app/s1")
            took = all_say(c, "s1", "up")
            c[3].cli("drain", "app/s1")
            measured(f"then after {took:.2f} and {all_say(c, 's1', 'drain'):.2f} s")
            time.sleep(2)
        c.wait_alive()  # while it still loses
        net.heal()
        c.wait_alive()
    measured(f"suspected {len(c.said('does not answer', since))} times, found dead {len(c.said('is dead', since))} times")


def test_a_network_that_is_slow(lab, net, measured):
    c = NetCluster(lab, net, 3)
    c.wait_alive()
    net.delay(100, c.hosts)
    since = c.mark()
    with c.traffic(0, 2):
        def felt():
            """The mean of the round trips gets there."""
            return all((m["rtt_ms"] or 0) > 150 for lb in c for m in Cluster.view(lb)["members"] if not m["self"])
        wait_until(felt, TLIMIT, "the way is felt to be long")
        c[0].cli("drain", "app/s1")
        measured(f"a word is everywhere after {all_say(c, 's1', 'drain'):.2f} s")
        # the probes' time is 300 ms, the way takes 200: a busy machine may find one dead, but not for good
        c.wait_alive()
        measured(f"found dead {len(c.said('is dead', since))} times")
        c.kill(1)
        c.wait_seen("lb2", "dead", by=[0, 2])
        c.restart(1)
        with Clock() as clock:
            c.wait_alive()
        measured(f"a new one is in after {clock.s:.2f} s")
        c[1].wait_state("s1", "drain", timeout=TLIMIT)
        assert not any(r.lost for r in net.relays)
    net.heal()
    c.wait_alive()
