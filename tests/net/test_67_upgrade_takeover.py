# SPDX-License-Identifier: BSD-2-Clause
"""Balancers whose connections others could take over are upgraded in place: nothing is lost by it, nobody takes
them for dead, and shortly afterwards, or when it has failed, their connections survive them as before."""

import os
import pwd
import signal
import subprocess

import pytest

from instruments import proc
from instruments.client import fetch
from instruments.meercat import BINARY, command
from instruments.netns import ENDS_WITH_US
from instruments.starved import BEAT_S, Starved
from instruments.vipcluster import HTTP, VIP, VipCluster
from instruments.wait import wait_until
from test_42_takeover_requests import LARGE, Stage, body_of
from test_66_upgrade import Watch

pytestmark = [pytest.mark.bound(120), pytest.mark.alone]

CONNECTIONS = 60
MORE = 20 * CONNECTIONS
WITNESS = {"witness": ["10.77.0.5"]}

# Says that it is ready, and has ended when the other one hears of it, or soon after.
DIES_WHEN_READY = """#!/usr/bin/python3
import os
import socket
s = socket.socket(fileno=int(os.environ["MEERCAT_UPGRADE"]))
s.send(b"R\\0")
os._exit(7)
"""


@pytest.fixture
def trio(lab, net):
    def make(**kw):
        c = VipCluster(lab, net, **dict({"upgrade_timeout": "20s", "takeover": WITNESS}, **kw))
        assert c.router.address == "10.77.0.5"
        c.wait_together()
        return c
    return make


@pytest.fixture
def stage(lab, net):
    """Answers to /slow... wait for stage.go."""
    s = Stage(lab, net, upgrade_timeout="20s", takeover=WITNESS)
    yield s
    s.go.set()


def upgrade(c, i):
    with c.hosts[i]:
        c[i].upgrade()


def wait_whole(c, i):
    others = [f"lb{k + 1}" for k in range(c.n) if k != i]
    wait_until(lambda: c.is_whole(i, others), 10, f"lb{i + 1} has a holder")


def end(c, s, measured):
    report = c.end_steady(s)
    measured(f"{report['done']} requests, the longest took {report['longest_s']} s")


def assert_not_found_dead(c, i):
    """By the others, unless one of them had no core for so long."""
    there = [k for k in range(c.n) if k != i]
    lines = [line for k in there for line in c[k].stderr.splitlines() if "is dead or cut off" in line]
    if lines and max(c.watch.stolen_s, *c.watch.longest.values()) >= BEAT_S:
        raise Starved(f"{c.watch.longest}: {lines[0]}")
    assert not lines


# --- steady traffic -------------------------------------------------------------------------------

def test_one_is_upgraded_again_and_again(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    for _ in range(10):
        upgrade(c, 1)
        s.wait_for(2 * CONNECTIONS)
    c.wait_together()
    end(c, s, measured)
    assert_not_found_dead(c, 1)
    c[1].wait_gone()


def test_all_are_upgraded_one_after_the_other(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    for i in range(3):
        upgrade(c, i)
    s.wait_for(MORE)
    c.wait_together()
    end(c, s, measured)


def test_long_responses_go_on(trio, measured):
    c = trio(size=LARGE)
    s = c.steady(10, size=LARGE)
    for _ in range(3):
        upgrade(c, 1)
        s.wait_for(20)
    end(c, s, measured)


def test_flows_that_land_elsewhere_find_their_owner_meanwhile(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    for via in ((0, 2), (1, 2), (0, 1), (0, 1, 2)):
        c.route(*via)
        upgrade(c, 1)
        s.wait_for(CONNECTIONS)
    s.wait_for(MORE)
    c.wait_together()
    end(c, s, measured)
    assert c.counted("redirected") > 0


# --- deaths ---------------------------------------------------------------------------------------

def test_who_dies_after_its_upgrade_is_taken_over_from(trio, measured):
    c = trio()
    s = c.steady(CONNECTIONS)
    upgrade(c, 1)
    wait_whole(c, 1)
    c[1].wait_gone()
    s.wait_for(CONNECTIONS)
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0, [lb.stderr for lb in c]


def test_an_upgrade_that_fails_leaves_takeover_on(lab, trio, measured):
    """At once, and when the new process had said that it is ready."""
    program = os.path.join(lab.dir("program"), "meercat")
    os.symlink(BINARY, program)
    c = trio(program=program)
    s = c.steady(CONNECTIONS)
    for text in ("#!/bin/false\n", DIES_WHEN_READY):
        os.remove(program)
        with open(program, "w") as f:
            f.write(text)
        os.chmod(program, 0o755)
        with c.hosts[1]:
            assert c[1].cli("upgrade", ok=False).returncode == 1
        s.wait_for(CONNECTIONS)
    c.wait_together()
    s.wait_for(2 * CONNECTIONS)
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0, [lb.stderr for lb in c]


# --- requests under way ---------------------------------------------------------------------------

def test_a_request_under_way_is_answered_by_the_old_process(stage):
    """Its connection goes on in the new one then; two upgrades meanwhile make no difference."""
    c, clients = stage.c, [stage.connect() for _ in range(6)]
    for i, client in enumerate(clients):
        if i % 2:
            client.post(f"/slow{i}", b"body")
        else:
            client.get(f"/slow{i}")
        stage.wait_seen(f"/slow{i}")
    for i in (0, 1, 2, 0, 1, 2):
        upgrade(c, i)
    stage.go.set()
    for i, client in enumerate(clients):
        status, fields, body = client.answer()
        assert (status, body) == (200, body_of(f"/slow{i}", 400)) and "connection" not in fields
        assert stage.count(f"/slow{i}") == 1
    for lb in c:
        lb.wait_gone()
    for client in clients:
        client.get("/after")
        assert client.answer()[0] == 200


def test_who_rested_is_protected_by_the_new_process_with_what_it_had_sent(stage):
    c, rests, half = stage.c, stage.connect(), stage.connect()
    half.send("POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo")
    for i in range(3):
        upgrade(c, i)
    half.send("dy")
    assert half.answer()[2] == body_of("/half", 400)
    for lb in c:
        lb.wait_gone()
    c.wait_together()
    for client in (rests, half):
        owner = client.owner()
        c.kill(owner)
        client.get("/after")
        assert client.answer()[2] == body_of("/after", 400)
        assert client.owner() != owner
        c.restart(owner)
        c.wait_together()


# --- root is given up -----------------------------------------------------------------------------

LOW, LATER = 80, 81
# CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF
NEEDED = f"{sum(1 << n for n in (10, 12, 13, 38, 39)):016x}"
NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def powerless(lab, net):
    """A cluster whose processes have become another user, also at a port that only root may have."""
    c = VipCluster(lab, net, start=False, upgrade_timeout="20s", takeover=WITNESS, user="nobody", group="nogroup")
    for conf in c.confs:
        conf.listen("low", bind=[f"{VIP}:{LOW}"], takeover={})
    for d, _, _ in os.walk(lab.tmp):
        os.chmod(d, 0o777)
    os.chown(c.key_file, NOBODY, -1)
    c.lbs = [c.start(i) for i in range(c.n)]
    c.wait_together()
    return c


def assert_powerless(lb):
    """What it needs, and nothing to lend on."""
    assert set(proc.uids(lb.pid)) == {NOBODY}
    assert [proc._status(lb.pid, k) for k in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [NEEDED] * 2 + ["0" * 16] * 2


def test_who_has_given_root_up_can_still_take_over(powerless, measured):
    c = powerless
    s = c.steady(CONNECTIONS)
    for i in (0, 1, 2, 1):
        assert_powerless(c[i])
        with c.hosts[i]:
            c[i].upgrade(signal.SIGUSR2)
        assert_powerless(c[i])
        s.wait_for(CONNECTIONS)
    wait_whole(c, 1)
    c[1].wait_gone()
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0, [lb.stderr for lb in c]


def test_who_has_given_root_up_mends_its_guard_and_binds_low_ports(powerless):
    c, host = powerless, powerless.hosts[0]
    c.route(0)
    with c.client:
        kept = c.lab.client((VIP, LOW))
        assert kept.request().status == 200
    c.confs[0].listen("later", bind=[f"{VIP}:{LATER}"], takeover={})
    c[0].write_conf(c.confs[0])
    upgrade(c, 0)
    c.wait_together()
    for port in (LOW, LATER):
        with c.client:
            assert fetch((VIP, port)).status == 200
    with host:
        shown = command("guard", "show").stdout
        assert f"{c[0].pid}" in shown and f"{VIP}:{LATER}" in shown, shown
    with host:
        subprocess.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"], check=True)
    wait_until(lambda: c.counted("mended", (0,)) > 0, 10, "the guard is put back")
    assert kept.request().status == 200
    wait_whole(c, 0)
    c.kill(0)
    c.route(1, 2)
    assert kept.request().status == 200
    assert c.counted("adopted", (1, 2)) > 0


def test_a_key_that_only_root_may_read_keeps_the_old_process(powerless, measured):
    c = powerless
    s = c.steady(CONNECTIONS)
    os.chown(c.key_file, 0, -1)
    with c.hosts[1]:
        r = c[1].cli("upgrade", ok=False)
    assert r.returncode == 1 and c.key_file in r.stdout + r.stderr, r
    os.chown(c.key_file, NOBODY, -1)
    c.wait_together()
    s.wait_for(CONNECTIONS)
    upgrade(c, 1)
    wait_whole(c, 1)
    c.kill(1)
    s.wait_for(MORE)
    end(c, s, measured)
    assert c.counted("adopted", (0, 2)) > 0, [lb.stderr for lb in c]


# --- the section comes, and goes ------------------------------------------------------------------

def test_the_first_takeover_takes_no_address_away(lab, net):
    host = net.host("lb")
    v4 = "192.0.2.10"
    with host:
        origin = lab.origin()
        conf = lab.conf(origin, node="lb", listen={"bind": [f"{v4}:{HTTP}", f"[2001:db8::10]:{HTTP}"]},
                        cluster={"bind": f"{host.address}:7707", "key_file": VipCluster.write_key(lab, None)})
        conf.port = HTTP
        conf.vip("web", address=[v4, "2001:db8::10"])
        lb = lab.start(conf, prefix=ENDS_WITH_US)
    wait_until(lambda: lb.cli_json("vips")["vips"][0]["state"] == "carried", 10, "it carries its addresses")
    for given in (True, False):
        if given:
            conf.listeners["web"]["takeover"] = {}
        else:
            del conf.listeners["web"]["takeover"]
        lb.write_conf(conf)
        with Watch(host) as watch:
            with host:
                lb.upgrade()
            wait_until(lambda: (lb.cli_json("status")["takeover"] is not None) is given, 5)
            at = watch.looks
            wait_until(lambda at=at: watch.looks > at + 50)
        assert watch.missing == 0
        with host:
            assert ("no interface has a guard" in command("guard", "show").stdout) is not given
