# SPDX-License-Identifier: BSD-2-Clause
"""The built-in VIP with takeover: one of three members of a flat network carries the addresses, and connections
live on when it goes to another member, whether the one before lives or not."""

import json
import re
import subprocess

import pytest

from instruments.client import fetch
from instruments.meercat import command
from instruments.steady import Steady
from instruments.vipcluster import HTTP, VipCluster
from instruments.wait import wait_until

pytestmark = [pytest.mark.bound(120), pytest.mark.alone]

V4, V6 = "10.77.0.200", "2001:db8::200"
CONNECTIONS = 60
MORE = 20 * CONNECTIONS  # requests, until what became of a fault has been seen


class Carried(VipCluster):
    def _lay_out(self):
        for i, h in enumerate([*self.hosts, self.client]):
            h.ip(f"addr add 2001:db8::{i + 1}/64 dev eth0 nodad")

    def _conf(self, i, **more):
        conf = super()._conf(i, **more)
        conf.listen("web", **dict(self.listen, bind=[f"*:{HTTP}", f"[::]:{HTTP}"]))
        conf.vip("web", address=[V4, V6], mode="cluster", interface="eth0", return_after="2s")
        return conf

    def carries(self, i):
        with self.hosts[i]:
            out = subprocess.run(["ip", "-j", "addr", "show", "dev", "eth0"], capture_output=True, text=True)
        return {a["local"] for a in json.loads(out.stdout)[0]["addr_info"]} & {V4, V6}

    def carrier(self, address):
        """The only one that has it, or None."""
        who = [i for i in range(self.n) if address in self.carries(i)]
        return who[0] if len(who) == 1 else None

    def wait_carried(self, address, by=None):
        return wait_until(lambda: self.carrier(address) in ([by] if by is not None else range(self.n)), 20,
                          f"{address} is carried {f'by lb{by + 1}' if by is not None else ''}")

    def local_routes(self, i):
        with self.hosts[i]:
            return "".join(subprocess.run(["ip", f, "route", "show", "table", "local", "proto", "77"],
                                          capture_output=True, text=True, check=True).stdout for f in ("-4", "-6"))

    def mac(self, i):
        with self.hosts[i]:
            out = subprocess.run(["ip", "-j", "link", "show", "dev", "eth0"], capture_output=True, text=True, check=True)
        return json.loads(out.stdout)[0]["address"]

    def asked(self, address):
        """The MAC address that the client gets when it knows none."""
        self.client.ip(f"neigh flush to {address} dev eth0")
        with self.client:
            assert fetch((address, HTTP), "/").status == 200
        return self.known(address)

    def known(self, address):
        with self.client:
            out = subprocess.run(["ip", "neigh", "show", address, "dev", "eth0"], capture_output=True, text=True).stdout
        return re.search(r"lladdr (\S+)", out).group(1)

    def guard(self, i, counter):
        with self.hosts[i]:
            text = command("guard", "show", "eth0").stdout
        return int(re.search(rf"{counter}\s+(\d+)", text).group(1))

    def asking(self, n, address):
        s = self.lab.add(Steady(self.client, (address, HTTP), n, size=self.size))
        wait_until(lambda: s.done >= 2 * n or s.last.get("failures"), 20, "all connections are in use")
        return s


@pytest.fixture
def carried(lab, net):
    def make(**kw):
        c = Carried(lab, net, takeover={"witness": ["10.77.0.5"]}, **kw)
        c.wait_together()
        for address in (V4, V6):
            c.wait_carried(address)
        return c
    return make


def end(c, s, measured, what):
    report = c.end_steady(s)
    measured(f"{what}: {report['done']} requests, the longest took {report['longest_s']} s")


def go_and_come_back(c, address):
    """Its first carrier is killed, started again, and has it again.  (the first, the second, who asks)"""
    first = c.carrier(address)
    s = c.asking(CONNECTIONS, address)
    c.kill(first)
    s.wait_for(MORE)
    second = c.carrier(address)
    assert second not in (None, first)
    c.restart(first)
    c.wait_together()
    c.wait_carried(address, first)
    return first, second, s


@pytest.mark.parametrize("address", [V4, V6])
def test_connections_stay_when_the_address_goes_back(carried, measured, address):
    c = carried()
    first, second, s = go_and_come_back(c, address)
    s.wait_for(2 * MORE)
    assert f"{address} " in c.local_routes(second)
    assert c.counted("redirected", [first]) > 0
    assert {c.asked(address) for _ in range(10)} == {c.mac(first)}, "the other one says that it has the address"
    c.hosts[second].ip("neigh flush dev eth0")  # it has to ask where its clients are
    s.wait_for(MORE)
    assert c.known(address) == c.mac(first)
    if address == V4:
        assert c.guard(second, "claims_silenced") > 10
    end(c, s, measured, "back while its carrier lives")
    wait_until(lambda: f"{address} " not in c.local_routes(second), 10, "nothing is left when all have ended")


def test_who_knows_the_old_carrier_still_begins_at_the_new_one(carried):
    c = carried()
    first, second, s = go_and_come_back(c, V4)
    c.client.ip(f"neigh replace {V4} lladdr {c.mac(second)} dev eth0 nud permanent")
    with c.client:
        for _ in range(10):
            assert fetch((V4, HTTP), "/").status == 200
    assert c.guard(second, "to_carrier") >= 10
    c.end_steady(s)


@pytest.mark.parametrize("address", [V4, V6])
def test_who_has_connections_of_an_address_that_went_back_may_die(carried, measured, address):
    c = carried()
    first, second, s = go_and_come_back(c, address)
    s.wait_for(MORE)
    c.kill(second)
    s.wait_for(2 * MORE)
    end(c, s, measured, "back, and the one that had carried it is killed")
    assert c.counted("adopted", [first]) > 0


def test_one_that_comes_back_without_takeover_may_carry_the_address(carried):
    """Its beats were missed, and come no more; the membership has not even found that it was away."""
    c = carried()
    first = c.carrier(V4)
    c.kill(first)
    conf = c.confs[first]
    conf.listen("web", bind=[f"*:{HTTP}"])
    c.restart(first)
    c.wait_carried(V4, first)
