# SPDX-License-Identifier: BSD-2-Clause
"""Neighbours on the network of the takeovers that have no key: they shout, they replay, they knock.  And who, on the
host itself, takes away what connections are protected by."""

import contextlib
import os
import socket
import subprocess
import threading

import pytest

from instruments.flood import Flood, sniff
from instruments.meercat import ROOT
from instruments.netns import ENDS_WITH_US
from instruments.vipcluster import PORT as CLUSTER
from instruments.vipcluster import VipCluster
from instruments.wait import SAN, wait_until

pytestmark = [pytest.mark.bound(120), pytest.mark.alone]

TAKEOVER = 7711
CONNECTIONS = 30
MORE = 20 * CONNECTIONS


@pytest.fixture
def trio(lab, net):
    c = VipCluster(lab, net)
    c.wait_together()
    return c


def survives(c, s, victim=1):
    """What they shout at does what it is there for."""
    others = [i for i in range(c.n) if i != victim]
    s.wait_for(MORE)
    c.kill(victim)
    s.wait_for(MORE)
    c.end_steady(s)
    assert c.counted("adopted", others) > 0


@pytest.mark.parametrize("of", [TAKEOVER, CLUSTER], ids=["beats", "gossip"])
def test_garbage_and_what_was_said_before_change_nothing(trio, net, measured, of):
    """What is sealed for one of the two protocols says nothing in the other."""
    c, stranger = trio, net.host("stranger")
    known = sniff(net, c.hosts[0], of)
    s = c.steady(CONNECTIONS)
    refused = c.counted("refused")
    with stranger:
        floods = [Flood((h.address, TAKEOVER), known, per_s=10000 if not SAN else 2000, for_s=4).start()
                  for h in c.hosts]
    for f in floods:
        f.join()
    measured(f"{sum(f.per_s for f in floods):.0f} datagrams a second, {c.counted('refused') - refused} refused")
    assert c.counted("refused") - refused > 1000
    survives(c, s)


def knock(stop, to, say):
    """Connects again and again, says something, and leaves some open."""
    kept = []
    while not stop.is_set():
        with contextlib.suppress(OSError):
            s = socket.create_connection(to, timeout=1)
            s.sendall(say)
            kept.append(s)
        if len(kept) > 100:
            kept.pop(0).close()
    for s in kept:
        s.close()


def test_strangers_at_the_door_keep_nobody_out(trio, net):
    c, stranger, stop = trio, net.host("stranger"), threading.Event()
    s = c.steady(CONNECTIONS)
    with stranger:
        knocking = [threading.Thread(target=knock, args=(stop, (h.address, TAKEOVER), say))
                    for h in c.hosts for say in (b"", os.urandom(600))]
        for t in knocking:
            t.start()
    try:
        s.wait_for(MORE)
        c.kill(1)
        s.wait_for(MORE)
        c.restart(1)
        c.wait_together()
        s.wait_for(MORE)
    finally:
        stop.set()
        for t in knocking:
            t.join()
    c.end_steady(s)
    assert c.counted("adopted", (0, 2)) > 0


@pytest.mark.parametrize("what", ["qdisc del dev eth0 clsact", "filter del dev eth0 egress"])
def test_a_guard_that_somebody_removes_is_put_back(trio, what):
    c = trio
    s = c.steady(CONNECTIONS)
    with c.hosts[1]:
        subprocess.run(["tc", *what.split()], check=True)
    wait_until(lambda: c.counted("mended", (1,)) == 1, 10, "it is noticed")
    survives(c, s)


def test_an_interface_that_is_made_anew_is_guarded(trio, net):
    c = trio
    c.route(1, 2)
    net.replace_card(c.hosts[0])
    wait_until(lambda: c.counted("mended", (0,)) == 1, 10, "it is noticed")
    c.wait_together()
    c.route(0, 1, 2)
    s = c.steady(CONNECTIONS)
    c.route(1, 2)  # what belongs to the first comes in elsewhere, and is sent on to it
    s.wait_for(MORE)
    assert c.counted("redirected", (1, 2)) > 0
    survives(c, s, victim=0)


# --- rights ---------------------------------------------------------------------------------------

def packaged_rights():
    """What the unit of systemd and its drop-in for takeover allow."""
    found = []
    for name in ("meercat.service", "meercat-takeover.conf"):
        with open(os.path.join(ROOT, "packaging", name)) as f:
            found += [w for line in f if line.startswith("CapabilityBoundingSet=") for w in line.strip().split("=")[1].split()]
    return ",".join(["-all", *("+" + w.removeprefix("CAP_").lower() for w in found)])


class Packaged(VipCluster):
    def start(self, i):
        with self.hosts[i]:
            return self.lab.start(self.confs[i], prefix=[*ENDS_WITH_US, "--bounding-set", packaged_rights()])


def test_the_rights_of_the_packages_suffice(lab, net):
    """Also for who is killed and comes back: what its kernel has kept is destroyed."""
    c = Packaged(lab, net)
    c.wait_together()
    s = c.steady(CONNECTIONS)
    for _ in range(2):
        c.kill(1)
        s.wait_for(MORE)
        c.restart(1)
        assert any("guard of a dead process is replaced" in line for line in c[1].lines), c[1].stderr
        c.wait_together()
        s.wait_for(MORE)
    c.end_steady(s)
