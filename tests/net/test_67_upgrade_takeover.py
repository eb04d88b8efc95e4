# SPDX-License-Identifier: BSD-2-Clause
"""Balancers whose connections others could take over are upgraded in place: nothing is lost by it, nobody takes
them for dead, and shortly afterwards, or when it has failed, their connections survive them as before."""

import signal
import socket
import threading
import time

import pytest

from instruments import chaos
from instruments.netns import ENDS_WITH_US
from instruments.origin import ok
from instruments.steady import body_of
from instruments.vipcluster import HTTP, VIP, VipCluster
from instruments.wait import stays, wait_until

pytestmark = [pytest.mark.bound(120), pytest.mark.alone]

CONNECTIONS = 60
MORE = 20 * CONNECTIONS


@pytest.fixture
def trio(lab, net):
    def make(**kw):
        c = VipCluster(lab, net, takeover={"witness": ["10.77.0.5"]}, **dict({"upgrade_timeout": "20s"}, **kw))
        assert c.router.address == "10.77.0.5"
        c.wait_together()
        return c
    return make


def upgrade(c, i):
    with c.hosts[i]:
        c[i].upgrade()


def end(c, s, measured):
    report = c.end_steady(s)
    measured(f"{report['done']} requests, the longest took {report['longest_s']} s")


def found_dead(c, who=None):
    return sum("is dead or cut off" in c[i].stderr for i in who or range(c.n))


def test_one_is_upgraded_again_and_again(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    for _ in range(10):
        upgrade(c, 1)
        s.wait_for(2 * CONNECTIONS)
    c.wait_together()
    end(c, s, measured)
    assert not found_dead(c) or c.starved()
    c[1].wait_gone()


def test_all_are_upgraded_one_after_the_other(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    for i in range(3):
        upgrade(c, i)
    s.wait_for(MORE)
    c.wait_together()
    end(c, s, measured)
    assert not found_dead(c) or c.starved()


def test_who_dies_after_its_upgrade_is_taken_over_from(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    upgrade(c, 1)
    wait_until(lambda: c.is_whole(1, ["lb1", "lb3"]), 10, "it has a holder again")
    c[1].wait_gone()
    s.wait_for(CONNECTIONS)
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0


def test_an_upgrade_that_fails_leaves_takeover_on(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    c[1].write_conf("listen {")
    with c.hosts[1]:
        assert c[1].cli("upgrade", ok=False).returncode == 1
    s.wait_for(CONNECTIONS)
    c.wait_together()
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0
