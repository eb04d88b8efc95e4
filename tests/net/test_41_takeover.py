# SPDX-License-Identifier: BSD-2-Clause
"""Connections that survive their balancer: one address on three of them, behind a router that spreads flows.

Clients go on asking on connections that they have, and check every byte; nothing is tried again."""

import os
import signal
import time

import pytest

from instruments.origin import ok
from instruments.steady import body_of
from instruments.vipcluster import VipCluster
from instruments.wait import wait_until

pytestmark = [pytest.mark.bound(120), pytest.mark.alone]

CONNECTIONS = 60
MORE = 20 * CONNECTIONS  # requests, until what became of a fault has been seen


@pytest.fixture
def trio(lab, net):
    """Makes the cluster; its witness is the router."""
    def make(**kw):
        c = VipCluster(lab, net, takeover={"witness": ["10.77.0.5"]}, **kw)
        assert c.router.address == "10.77.0.5"
        c.wait_together()
        return c
    return make


def end(c, s, measured):
    report = c.end_steady(s)
    measured(f"{report['done']} requests, the longest took {report['longest_s']} s")
    return report


def test_connections_survive_the_kill_of_their_balancer(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0


def test_requests_under_way_are_answered_by_the_adopter(trio, measured):
    def slowly(conn, r):
        time.sleep(0.1)
        return ok(body_of(r.target, 400))
    c = trio(answer=slowly)
    s = c.steady(CONNECTIONS)
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0


def test_two_of_three_are_killed_in_turn(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    c.kill(1)
    s.wait_for(MORE)
    c.wait_together((0, 2))
    c.kill(2)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0,)) > 0


def test_one_that_was_killed_comes_back(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    c.kill(1)
    s.wait_for(MORE)
    c.restart(1)
    c.wait_together()
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("redirected") > 0  # the router still sends them to where they began


def test_one_that_was_frozen_lets_go_of_what_others_took(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    os.kill(c[1].pid, signal.SIGSTOP)
    try:
        s.wait_for(MORE)
    finally:
        os.kill(c[1].pid, signal.SIGCONT)
    s.wait_for(MORE)
    c.wait_together()
    end(c, s, measured)
    assert c.counted("claimed", (1,)) > 0


def test_one_that_is_cut_off_fences_itself_until_it_is_back(trio, net, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    net.unplug(c.hosts[1])
    wait_until(lambda: c.takeover(1)["fenced"], 10, "it fences itself")
    wait_until(lambda: "fenced" in c.status(1)["unfit_because"], 10, "it wants no traffic")
    c.route(0, 2)
    s.wait_for(MORE)
    net.heal()
    c.wait_together()
    assert not c.takeover(1)["fenced"]
    c.route(0, 1, 2)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0


def test_the_last_one_goes_on_while_its_witness_answers(trio, net):
    c = trio()
    net.unplug(c.hosts[1])
    net.unplug(c.hosts[2])
    wait_until(lambda: not any(p["alive"] for p in c.takeover(0)["peers"]), 10, "it is alone")
    c.route(0)
    s = c.steady(10)
    s.wait_for(500)
    c.end_steady(s)
    t = c.takeover(0)
    assert t["lease"] and not t["fenced"], t


def test_flows_that_land_elsewhere_are_sent_on_to_their_owner(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    for via in ((0, 2), (0, 1, 2), (1, 2), (0, 1), (0, 1, 2)):
        c.route(*via)
        s.wait_for(MORE // 2)
    end(c, s, measured)
    assert c.counted("redirected") > 0


def test_one_that_leaves_hands_its_connections_over(trio, measured):
    c = trio(leave_grace="1s", drain_timeout="10s")
    s = c.steady(CONNECTIONS)
    os.kill(c[1].pid, signal.SIGTERM)
    c.route(0, 2)
    s.wait_for(MORE)
    c[1].wait_exit()
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0


def test_all_leave_in_turn_and_come_back(trio, measured):
    c = trio(leave_grace="1s", drain_timeout="10s")
    s = c.steady(CONNECTIONS)
    for i in range(3):
        os.kill(c[i].pid, signal.SIGTERM)
        c.route(*(k for k in range(3) if k != i))
        c[i].wait_exit(30)
        c.restart(i)
        c.wait_together()
        c.route(0, 1, 2)
        s.wait_for(CONNECTIONS)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("held") < s.done / 2  # packets find their owner; they are not asked about each time
