# SPDX-License-Identifier: BSD-2-Clause
"""Balancers that die, sleep, know no key, or have a wrong clock; and strangers that shout."""

import glob
import re
import signal
import time

import pytest

from instruments.client import fetch
from instruments.cluster import Cluster
from instruments.flood import Flood, sniff
from instruments.netcluster import ENGINES, PORT, NetCluster
from instruments.netns import ENDS_WITH_US
from instruments.origin import ok
from instruments.wait import SAN, SLOW, Clock, stays, wait_until

pytestmark = pytest.mark.bound(90)

TLIMIT = 20


def test_each_of_three_may_die(lab, net, measured):
    c = NetCluster(lab, net, 3)
    c.wait_alive()
    for i in range(3):
        rest = [k for k in range(3) if k != i]
        with c.traffic(*rest), Clock() as clock:
            since = c.mark()
            c.kill(i)
            for k in rest:
                wait_until(lambda: [x for x in c[k].lines[since[c[k]]:] if f"lb{i + 1} (" in x and "is dead" in x],
                           6, f"lb{k + 1} finds lb{i + 1} dead", interval=0.02)
                measured(f"lb{k + 1} found lb{i + 1} dead after {clock.so_far:.2f} s")
            c.wait_seen(f"lb{i + 1}", "dead", by=rest)
            c.restart(i)
            c.wait_alive()
        assert not [x for x in c.said("is dead", since) if f"lb{i + 1} (" not in x], "others were found dead"
        with c.client:
            assert fetch(c.to(i), "/").status == 200


def test_one_that_slept_is_taken_back(lab, net, measured):
    c = NetCluster(lab, net, 3)
    c.wait_alive()
    since = c.mark()
    with c.traffic(0, 2), Clock() as clock:
        c[1].signal(signal.SIGSTOP)
        try:
            c.wait_seen("lb2", "dead", by=[0, 2])
            time.sleep(max(0, 5 - clock.so_far))
        finally:
            c[1].signal(signal.SIGCONT)
        woken = clock.so_far
        c.wait_alive()
        measured(f"alive everywhere {clock.so_far - woken:.2f} s after it woke")
    with c.traffic(1):
        stays(lambda: c.sees(0, lb1="alive", lb2="alive", lb3="alive"), 1.0)
    assert not [x for x in c.said("is dead", since) if not x.startswith("lb2:") and "lb2 (" not in x]


def test_a_stranger_hears_nothing(lab, net):
    c = NetCluster(lab, net, 2)
    host = net.host("stranger")
    conf = c._conf(0)
    conf.top["node"] = "stranger"
    conf.top["cluster"].update(bind=f"{host.address}:{PORT}", key_file=Cluster.write_key(lab, None), join=c.addresses)
    conf.listeners["web"]["bind"] = [f"{host.address}:8080"]
    c.wait_alive()
    with host:
        stranger = lab.start(conf, engine=ENGINES[0], prefix=ENDS_WITH_US)
    wait_until(lambda: all(Cluster.view(lb)["refused"]["key"] > 5 for lb in c), TLIMIT, "both refuse it")
    assert Cluster.members(stranger) == {"stranger": "alive"}
    assert all(set(Cluster.members(lb)) == {"lb1", "lb2"} for lb in c)
    udp = host.udp()
    assert udp["InDatagrams"] == udp["NoPorts"] == udp["InErrors"] == 0, udp  # not one came on its wire
    assert NetCluster.view(stranger)["counters"]["datagrams"]["syncs"] == 0


def test_one_that_was_given_another_key_is_a_stranger(lab, net):
    c = NetCluster(lab, net, 3, start=False)
    with open(c.key_file) as f:
        right = f.read()
    own = c.confs[2].top["cluster"]["key_file"] = Cluster.write_key(lab, None)

    def give(key):
        with open(own, "w") as f:
            f.write(key)
        c[2].reload()
    with open(own) as f:
        wrong = f.read()
    with open(own, "w") as f:
        f.write(right)
    c.lbs = [c.start(i) for i in range(3)]
    c.wait_alive()
    with c.traffic(0, 1, 2):
        give(wrong)
        c.wait_apart([2], [0, 1])
        wait_until(lambda: all(Cluster.view(lb)["refused"]["key"] > 5 for lb in c), TLIMIT, "all refuse the other key")
        give(right)
        c.wait_alive()


def test_garbage_at_full_speed_changes_nothing(lab, net, measured):
    c = NetCluster(lab, net, 3)
    host = net.host("stranger")
    c.wait_alive()
    known = sniff(net, c.hosts[0], PORT)
    since = c.mark()
    with c.traffic(0, 1, 2):
        with host:
            flood = Flood((c.hosts[0].address, PORT), known, per_s=50000 if not SAN else 10000, for_s=5).start()
        while flood.thread.is_alive():
            assert all("dead" not in Cluster.members(lb).values() for lb in c)
            flood.thread.join(0.2)
        flood.join()
        refused = Cluster.view(c[0])["refused"]
        udp = c.hosts[0].udp()
        measured(f"{flood.per_s:.0f} datagrams a second, {udp['RcvbufErrors']} of {flood.sent} found no room, refused {refused}")
        c.wait_alive()
    assert not c.said("is dead", since)
    assert flood.sent > 5000
    # each kind of garbage met its own refusal
    for reason in ("replay", "tag"):
        assert refused[reason] > 100, refused
    assert sum(refused.values()) + udp["RcvbufErrors"] > flood.sent * 0.9


# --- clocks ------------------------------------------------------------------------------------------------------

FAKETIME = (glob.glob("/usr/lib/*/faketime/libfaketime.so.1") + [None])[0]
HOUR_MS = 3600 * 1000


FAST = {"LD_PRELOAD": FAKETIME or "", "FAKETIME": "+3600", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

no_faketime = pytest.mark.skipif(bool(SAN), reason="faketime and a sanitizer both want to stand before the C library")


def clock(lb, of):
    """How far that one's wall clock is before this one's, as it says."""
    return next(m for m in Cluster.view(lb)["members"] if m["name"] == of).get("clock_ms")


def is_right(clock_ms):
    return clock_ms is not None and abs(clock_ms) < 5000 * SLOW


def wait_hour(c, i, seen_by):
    wait_until(lambda: clock(c[seen_by], f"lb{i + 1}"), TLIMIT, "its clock is heard")
    assert clock(c[seen_by], f"lb{i + 1}") == pytest.approx(HOUR_MS, abs=5000 * SLOW), "the clock is not as the test wants"


@no_faketime
def test_a_clock_that_is_an_hour_ahead_rules_nobody(lab, net):
    assert FAKETIME, "there is no libfaketime (tools/deps test)"
    c = NetCluster(lab, net, 3, env={0: FAST}, start=False)
    for conf in c.confs:
        conf.top["state_dir"] = lab.dir("state")
    c.lbs = [c.start(i) for i in range(3)]
    c.wait_alive()
    wait_hour(c, 0, seen_by=1)
    assert clock(c[0], "lb2") == pytest.approx(-HOUR_MS, abs=5000 * SLOW)
    assert abs(clock(c[1], "lb3")) < 5000 * SLOW
    table = c[1].cli("members").stdout
    assert "CLOCK-MS" in table and re.search(r"lb1 .*\b3\d{6}\b", table), table
    c[1].wait_line("the clock of lb1 is +")

    def all_say(server, state):
        wait_until(lambda: all(c.states(i)[server] == state for i in range(3)), TLIMIT, f"{server} is {state} everywhere")
    with c.traffic(0, 1, 2):
        c[0].cli("drain", "app/s1")
        all_say("s1", "drain")
        c[1].cli("ready", "app/s1")  # later, by a clock that is earlier
        all_say("s1", "up")
        c[2].cli("drain", "app/s0")  # of this server the fast one has said nothing
        all_say("s0", "drain")
        c[0].cli("ready", "app/s0")
        all_say("s0", "up")
        c[1].cli("maint", "app/s1")
        all_say("s1", "maint")
    # its clock is set right, which is an hour back for it
    c.kill(0)
    c.env = {}
    c.restart(0)
    c.wait_alive()
    wait_until(lambda: is_right(clock(c[1], "lb1")), TLIMIT, "its clock is right")
    all_say("s1", "maint")
    c[0].cli("ready", "app/s1")
    all_say("s1", "up")
    c[0].cli("drain", "app/s0")
    all_say("s0", "drain")


@no_faketime
def test_one_whose_clock_was_set_back_is_heard(lab, net):
    """It restarts before it is missed; what it says is in order by its boots, and those by the clock."""
    assert FAKETIME, "there is no libfaketime (tools/deps test)"
    c = NetCluster(lab, net, 3, origins=1, env={0: FAST}, server={"max_concurrent": 12})
    c.origins[0].reply = lambda conn, r: time.sleep(0.03) or ok("x")
    c.wait_alive()
    wait_hour(c, 0, seen_by=1)

    def shares():
        return [lb.servers()["app/s0"]["max_concurrent_share"] for lb in c]
    wait_until(lambda: sum(shares()) == 12 and min(shares()) >= 3, TLIMIT, "shares are even")
    c.kill(0)
    c.env = {}
    c.restart(0)
    c.wait_alive()
    wait_until(lambda: is_right(clock(c[1], "lb1")), TLIMIT, "its clock is right")
    with c.traffic(0, threads=12, pause=0):
        wait_until(lambda: shares()[0] >= 8, TLIMIT * 2, "its share follows its demand")
        assert sum(shares()) <= 12
