# SPDX-License-Identifier: BSD-2-Clause
"""How traffic comes to balancers, by the real programs, and for how long it stays away when one is lost."""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from instruments.client import fetch
from instruments.cluster import Cluster
from instruments.meercat import BINARY
from instruments.netns import ENDS_WITH_US, Netns
from instruments.routing import Bird, Keepalived, Probe
from instruments.wait import wait_until

pytestmark = [pytest.mark.bound(120), pytest.mark.no_san, pytest.mark.long]

VIP, PORT = "192.0.2.10", 8080


def allow(ns, name, value):
    with ns, open(f"/proc/sys/net/{name}", "w") as f:
        f.write(value)


class Site:
    """Balancers with an origin each, and a client; routed: a router stands between."""

    def __init__(self, lab, net, routed, n=3):
        self.lab, self.net, self.lbs = lab, net, []
        self.hosts = [net.host(f"lb{i + 1}") for i in range(n)]
        self.origins = []
        for h in self.hosts:
            with h:
                self.origins.append(lab.origin())
        if routed:
            self.router, self.client = net.host("router"), Netns()
            self.router.ip(f"link add eth1 type veth peer name eth0 netns {self.client.path}",
                           "addr add 10.78.0.1/24 dev eth1", "link set eth1 up")
            self.client.ip("link set lo up", "addr add 10.78.0.2/24 dev eth0", "link set eth0 up",
                           "route add default via 10.78.0.1")
            allow(self.router, "ipv4/ip_forward", "1")
            allow(self.router, "ipv4/fib_multipath_hash_policy", "1")
            for h in self.hosts:
                h.ip(f"route add default via {self.router.address}")
        else:
            self.client = net.host("client")
            self.client.ip(f"route add {VIP}/32 dev eth0")

    def balancer(self, i, vip=None, listen=None, **more):
        with self.hosts[i]:
            c = self.lab.conf(self.origins[i], node=f"lb{i + 1}", drain_timeout="1s",
                              listen={"bind": [f"*:{PORT}", f"[::]:{PORT}"], **(listen or {})}, **more)
            c.port = PORT
            if vip:
                c.vip("web", **vip)
            lb = self.lab.start(c, prefix=ENDS_WITH_US)
        self.lbs.append(lb)
        return lb

    @contextmanager
    def probe(self):
        """Begins on the client's host, where its thread stays."""
        with self.client:
            probe = Probe((VIP, PORT)).__enter__()
        try:
            yield probe
        finally:
            probe.__exit__()

    def cut(self, i):
        self.net.partition([self.hosts[i]], [h for h in self.net.hosts if h is not self.hosts[i]])

    def heal(self):
        self.net.heal()


def has_vip(host, dev):
    with host:
        out = subprocess.run(["ip", "-j", "addr", "show", "dev", dev], capture_output=True, text=True)
    return VIP in [a["local"] for a in json.loads(out.stdout)[0]["addr_info"]]


def next_hops(router):
    """Addresses that the router's kernel sends the VIP to."""
    with router:
        out = subprocess.run(["ip", "-j", "route", "show", f"{VIP}/32"], capture_output=True, text=True).stdout
    found = set()
    for r in json.loads(out or "[]"):
        found |= {hop["gateway"] for hop in r.get("nexthops", [r]) if "gateway" in hop}
    return found


def lose(site, i, how):
    """Does it to that balancer; the moment at which it was done."""
    lb = site.lbs[i]
    since = time.monotonic()
    if how == "cut":
        site.cut(i)
    elif how == "kill":
        lb.expect_status = -signal.SIGKILL
        lb.signal(signal.SIGKILL)
    elif how == "stop":
        lb.signal(signal.SIGSTOP)
    elif how == "unfit":
        lb.cli("withdraw")
    return since


def regain(site, i, how):
    if how == "cut":
        site.heal()
    elif how == "stop":
        site.lbs[i].signal(signal.SIGCONT)
    elif how == "unfit":
        site.lbs[i].cli("resume")


# --- BGP and ECMP ---------------------------------------------------------------------------------

def routed(lab, net, bfd):
    site = Site(lab, net, routed=True)
    plain = {} if bfd else {"bfd on;": ""}
    neighbours = {f"10.0.0.{i + 1} ": f"{h.address} " for i, h in enumerate(site.hosts)}
    with site.router:
        site.bird = lab.add(Bird(lab.dir("bird"), "router.conf", {"10.0.0.254": site.router.address, **neighbours,
                                                                  **plain}))
    site.birds = []
    for h in site.hosts:
        with h:
            site.birds.append(lab.add(Bird(lab.dir("bird"), "balancer.conf", {
                "10.0.0.254": site.router.address, "10.0.0.1;": f"{h.address};", **plain})))
    for i in range(3):
        site.balancer(i, vip={"address": [VIP]})
    wait_until(lambda: next_hops(site.router) == {h.address for h in site.hosts}, 30, "three next hops")
    if bfd:
        wait_until(lambda: site.bird.ask("show", "bfd", "sessions").count(" Up ") == 3, 20, "BFD is up")
    return site


# generous bounds: what is claimed is in docs/high-availability.md, as measured; this shows that it works
@pytest.mark.parametrize("bfd, how, at_most", [
    (True, "cut", 5), (True, "unfit", 5), (True, "kill", 5), (True, "stop", 5),
    (False, "cut", 15),
], ids=lambda x: {True: "bfd", False: "hold-3s"}.get(x, str(x)) if isinstance(x, bool) else str(x))
def test_a_balancer_that_is_lost_loses_its_route(lab, net, measured, bfd, how, at_most):
    site = routed(lab, net, bfd)
    with site.probe() as probe:
        since = lose(site, 0, how)
        rest = {h.address for h in site.hosts[1:]}
        wait_until(lambda: next_hops(site.router) == rest, 20, "two next hops")
        gap, bad = probe.gap(since)
        measured(f"{'BFD 50 ms x 3' if bfd else 'hold 3 s'}, {how}: {gap * 1000:.0f} ms, {bad} attempts went wrong")
        assert gap < at_most
        if how == "kill":
            return
        regain(site, 0, how)
        wait_until(lambda: len(next_hops(site.router)) == 3, 30, "it comes back")
        probe.gap(time.monotonic())


def test_an_orderly_end_stops_attracting_traffic_first(lab, net, measured):
    site = routed(lab, net, True)
    with site.probe() as probe:
        since = time.monotonic()
        site.lbs[0].signal(signal.SIGTERM)
        wait_until(lambda: len(next_hops(site.router)) == 2, 20)
        gap, bad = probe.gap(since)
        measured(f"BFD 50 ms x 3, SIGTERM: {gap * 1000:.0f} ms, {bad} attempts went wrong")
        assert gap < 5


# --- VRRP -----------------------------------------------------------------------------------------

def tracked(lab, net, advert="0.05"):
    site = Site(lab, net, routed=False)
    site.keepers = []
    for i, h in enumerate(site.hosts):
        lb = site.balancer(i)
        with h:
            site.keepers.append(lab.add(Keepalived(lab.dir("ka"), {
                '"/usr/local/sbin/meercat status --quiet"': f'"{BINARY} status --quiet --socket {lb.socket_path}"',
                "priority 100 ": f"priority {100 - i} ", "advert_int 0.05": f"advert_int {advert}"})))
    wait_until(lambda: any(has_vip(h, "eth0") for h in site.hosts), 30, "somebody has the address")
    return site


def carriers(site):
    return [i for i, h in enumerate(site.hosts) if has_vip(h, "eth0")]


def until_another_has_it(site, probe, first, since):
    """For how long nobody was reached, and how many attempts failed."""
    wait_until(lambda: [i for i in carriers(site) if i != first], 30, "another has it")
    return probe.gap(since)


@pytest.mark.parametrize("advert, how, at_most", [("0.05", "cut", 10), ("0.05", "unfit", 15), ("0.05", "kill", 15),
                                                  ("0.05", "stop", 20), ("1", "cut", 20)])
def test_vrrp_goes_where_a_balancer_is_fit(lab, net, measured, advert, how, at_most):
    site = tracked(lab, net, advert)
    wait_until(lambda: len(carriers(site)) == 1, 20, "one of them has the address")
    first = carriers(site)[0]
    with site.probe() as probe:
        since = lose(site, first, how)
        gap, bad = until_another_has_it(site, probe, first, since)
        measured(f"keepalived, advert_int {advert}, {how}: {gap * 1000:.0f} ms, {bad} attempts went wrong")
        assert gap < at_most
        if how in ("unfit", "kill", "stop"):
            wait_until(lambda: first not in carriers(site), 20, "the first has lost it")
        if how == "stop":
            regain(site, first, how)


# --- the built-in VIP -----------------------------------------------------------------------------

V6 = "2001:db8::10"


def shared(lab, net, n=3, return_after="2s", addresses=(VIP,), takeover=False):
    site = Site(lab, net, routed=False, n=n)
    key = Cluster.write_key(lab, None)
    for i, h in enumerate(site.hosts):
        site.balancer(i, listen={"takeover": {}} if takeover else {},
                      vip={"address": list(addresses), "mode": "cluster", "interface": "eth0",
                           "return_after": return_after},
                      cluster={"bind": f"{h.address}:7707", "key_file": key,
                               "join": [f"{o.address}:7707" for o in site.hosts if o is not h]})
    wait_until(lambda: len(carriers(site)) == 1, 30, "one has the address")
    return site


@pytest.mark.parametrize("how, at_most", [("cut", 20), ("unfit", 10), ("kill", 20), ("stop", 20)])
def test_a_member_carries_the_address_and_another_when_it_is_lost(lab, net, measured, how, at_most):
    site = shared(lab, net)
    first = carriers(site)[0]
    with site.probe() as probe:
        since = lose(site, first, how)
        gap, bad = until_another_has_it(site, probe, first, since)
        measured(f"built in, {how}: {gap * 1000:.0f} ms, {bad} attempts went wrong")
        assert gap < at_most
        if how != "cut":
            wait_until(lambda: first not in carriers(site), 5, "the first has lost it")
        if how == "kill":
            return
        since = time.monotonic()
        regain(site, first, how)
        wait_until(lambda: all(set(Cluster.members(lb).values()) == {"alive"} for lb in site.lbs), 30, "all are alive")
        time.sleep(3)  # what comes of return-after, if that one is the owner
        wait_until(lambda: len(carriers(site)) == 1, 10, "one has it")
        gap, bad = probe.gap(since)
        measured(f"built in, back after {how}: {bad} attempts went wrong until {gap * 1000:.0f} ms later")


@pytest.mark.alone
@pytest.mark.parametrize("how, at_most", [("cut", 20), ("kill", 20), ("stop", 20)])
def test_the_heart_beats_of_takeover_find_a_loss_sooner(lab, net, measured, how, at_most):
    site = shared(lab, net, takeover=True)
    if any("connections are lost with this balancer" in lb.stderr for lb in site.lbs):
        pytest.skip("takeover is not possible here")
    first = carriers(site)[0]
    for lb in site.lbs:
        wait_until(lambda: sum("peer" in x and "is there" in x for x in lb.lines) >= 2, 20, "both peers are there")
    with site.probe() as probe:
        since = lose(site, first, how)
        gap, bad = until_another_has_it(site, probe, first, since)
        measured(f"built in, with takeover, {how}: {gap * 1000:.0f} ms, {bad} attempts went wrong")
        assert gap < at_most
        if how == "stop":
            regain(site, first, how)


def test_one_that_ends_gives_the_address_to_another_first(lab, net, measured):
    site = shared(lab, net)
    first = carriers(site)[0]
    site.lbs[first].conf.top["leave_grace"] = "1s"
    site.lbs[first].write_conf(site.lbs[first].conf)
    site.lbs[first].cli("reload")
    with site.probe() as probe:
        since = time.monotonic()
        site.lbs[first].signal(signal.SIGTERM)
        gap, bad = until_another_has_it(site, probe, first, since)
        measured(f"built in, SIGTERM: {gap * 1000:.0f} ms, {bad} attempts went wrong")
        left = site.lbs[first].wait_line("cluster: left", 20)
        (other,) = {i for i in carriers(site) if i != first}
        carried = site.lbs[other].wait_line("carried")
        assert carried.split()[0] < left.split()[0], "it says goodbye when another has the address"


def test_several_addresses_are_on_several_members(lab, net):
    many = [f"192.0.2.{i}" for i in range(10, 34)]
    site = shared(lab, net, addresses=many)

    def where():
        return [sorted(v["address"] for v in lb.cli_json("vips")["vips"] if v["state"] == "carried") for lb in site.lbs]
    wait_until(lambda: sorted(sum(where(), [])) == sorted(many), 20, "each is on one member")
    wait_until(lambda: all(where()), 20, "none of them has all")


def test_without_sight_of_each_other_one_of_two_yields(lab, net, measured):
    """The members do not hear each other, but both hear ARP."""
    site = shared(lab, net, n=2)
    for h in site.hosts:
        with h:
            subprocess.run(["nft", "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; "
                            "add rule inet deaf in meta l4proto { tcp, udp } th dport 7707 drop"], check=True)
    wait_until(lambda: all("dead" in Cluster.members(lb).values() for lb in site.lbs), 30, "both think to be alone")
    wait_until(lambda: len(carriers(site)) == 1, 20, "one has it")
    time.sleep(3)
    owners = [carriers(site) for _ in range(20)]
    assert all(o == owners[0] for o in owners), owners


def test_an_ipv6_address_moves(lab, net):
    site = shared(lab, net, addresses=[VIP, V6])
    for i, h in enumerate(site.hosts):
        h.ip(f"addr add 2001:db8::{i + 1}/64 dev eth0 nodad")
    site.client.ip("addr add 2001:db8::99/64 dev eth0 nodad")
    with site.client:
        wait_until(lambda: fetch((V6, PORT), "/").status == 200, 20)
    at = [i for i, lb in enumerate(site.lbs)
          if V6 in [v["address"] for v in lb.cli_json("vips")["vips"] if v["state"] == "carried"]]
    assert len(at) == 1
    site.lbs[at[0]].cli("withdraw")
    with site.client:
        def other():
            try:
                return fetch((V6, PORT), "/").status == 200
            except (OSError, AssertionError):
                return False
        wait_until(other, 20, "it is served by another")


def test_examples_are_read_as_they_are(tmp_path):
    for name in ("balancer.conf", "router.conf"):
        path = os.path.join(os.path.dirname(__file__), "..", "..", "packaging", "bird", name)
        r = subprocess.run(["bird", "-p", "-c", path], capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
