# SPDX-License-Identifier: BSD-2-Clause
"""Balancers are lost while a client goes on asking; `make chaos` does the same at length.

Each play is a laboratory of its own (instruments/chaos.py).  What is counted must be right on any machine; how
long a request had to wait is printed, and bounded so generously that only something that hangs exceeds it."""

import pytest

from instruments.chaos import play
from instruments.starved import Starved

pytestmark = [pytest.mark.bound(120), pytest.mark.slow, pytest.mark.long]

SMALL = {"connections": 60, "per_s": 300, "seconds": 4}
HANGS_MS = 5000
ABRUPT = ("kill", "cut", "freeze", "second", "both", "return", "upgrade-kill")


def played(measured, event, **kw):
    """No matter what happens, no request is delivered twice that may not be, and no byte is wrong."""
    r = play(event, seed=1, **dict(SMALL, **kw))
    assert r.requests > 0 and not r.repeated and not r.unheard and r.said["garbled"] == 0, r.text()
    assert r.longest_ms < HANGS_MS, r.text()
    measured(f"{r.requests} requests, {r.failed} failed, {r.resets} of them by resets, {r.said['dialled']} connections; "
             f"the longest wait {r.longest_ms:.0f} ms")
    return r


def lossless(r, abrupt=False):
    """abrupt: who was lost may have sent a POST to a server: that is answered with 502, and its client knows."""
    if r.failed and r.excuse:
        raise Starved(f"{r.excuse}: {r.told}")
    known = r.told_502 if abrupt else 0
    assert r.failed == known <= r.said["posts_failed"], r.text()


# --- without takeover -----------------------------------------------------------------------------

@pytest.mark.parametrize("way", ["static", pytest.param("bgp", marks=pytest.mark.alone)])
def test_nothing_fails_when_nothing_is_lost(allowed, measured, way):
    lossless(played(measured, "nothing", way=way))


def test_nothing_fails_when_the_network_of_the_cluster_is_cut(allowed, measured):
    lossless(played(measured, "partition"))


def test_nothing_fails_when_all_are_upgraded_in_place(allowed, measured):
    lossless(played(measured, "upgrade"))


@pytest.mark.parametrize("event", ["kill", "cut", "freeze"])
def test_one_that_is_lost_takes_its_connections_along(allowed, measured, event):
    r = played(measured, event)
    assert r.failed + r.said["closed_in_order"] > 0, r.text()
    assert r.said["done"] > r.requests / 2, r.text()


def test_one_that_returns_serves_again(allowed, measured):
    r = played(measured, "return", fresh=True)
    assert r.said["done"] > r.requests / 2, r.text()


# --- with takeover --------------------------------------------------------------------------------

@pytest.mark.alone
@pytest.mark.parametrize("event", ["kill", "cut", "freeze", "second", "partition", "return", "leave", "upgrade",
                                   "upgrades", "upgrade-kill"])
def test_nothing_fails_with_takeover(allowed, measured, event):
    lossless(played(measured, event, takeover="requests", way="bgp"), event in ABRUPT)


@pytest.mark.alone
@pytest.mark.parametrize("event", ["kill", "cut", "freeze", "partition", "return", "leave", "upgrade", "upgrade-kill"])
def test_nothing_fails_where_one_balancer_has_the_address(allowed, measured, event):
    r = played(measured, event, takeover="requests", way="vip")
    lossless(r, event in ABRUPT)
    # Its peers send it no beats any more when it has left, and are not dead for that.
    after = "".join(log.partition(" leaving: ")[2] for log in r.logs.values())
    assert ": carried" not in after, r.text()


@pytest.mark.alone
def test_nothing_fails_when_all_leave_in_turn_and_come_back(allowed, measured):
    lossless(played(measured, "roll", takeover="requests", way="bgp", seconds=20))


@pytest.mark.parametrize("way", ["static", "bgp", "vip"])
def test_who_slept_repeats_nothing(allowed, measured, way):
    played(measured, "nap", takeover="requests", way=way, seconds=10)


@pytest.mark.alone
@pytest.mark.parametrize("event", ["kill", "both", "leave"])
def test_nothing_fails_with_two_holders(allowed, measured, event):
    lossless(played(measured, event, takeover="requests", way="bgp", replicas=2, balancers=4), event in ABRUPT)


@pytest.mark.alone
@pytest.mark.parametrize("event", ["kill", "cut"])
def test_nothing_fails_when_responses_are_replicated(allowed, measured, event):
    lossless(played(measured, event, takeover="responses"), event in ABRUPT)
