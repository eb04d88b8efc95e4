# SPDX-License-Identifier: BSD-2-Clause
"""Addresses that a balancer carries while it is fit, on a host of its own."""

import json
import os
import pwd
import signal
import subprocess

import pytest

from instruments.client import fetch
from instruments.cluster import Cluster
from instruments.meercat import command
from instruments.netns import ENDS_WITH_US
from instruments.wait import Clock, stays, wait_until

pytestmark = pytest.mark.bound(60)

V4, V6 = "192.0.2.10", "2001:db8::10"
PORT = 8080


@pytest.fixture
def host(net):
    return net.host("lb")


def addresses(host, dev="lo"):
    """{address: its words} on an interface of the host."""
    with host:
        out = subprocess.run(["ip", "-j", "addr", "show", "dev", dev], capture_output=True, text=True, check=True)
    return {a["local"]: a for a in json.loads(out.stdout)[0]["addr_info"]}


def carries(host, *want):
    return {V4, V6} & set(addresses(host)) == set(want)


def routes(host):
    """Local routes that are ours."""
    with host:
        out = [subprocess.run(["ip", f, "route", "show", "table", "local", "proto", "77"], capture_output=True,
                              text=True, check=True).stdout for f in ("-4", "-6")]
    return [line for text in out for line in text.splitlines()]


def wait_carries(host, *want, timeout=10):
    wait_until(lambda: carries(host, *want), timeout, f"the host has {want or 'neither address'}", interval=0.001)


def conf(lab, host, addrs=(V4, V6), fit=None, bind=None, **top):
    with host:
        origin = lab.origin()
        c = lab.conf(origin, listen={"bind": bind or [f"{V4}:{PORT}", f"[{V6}]:{PORT}"]}, fit=fit or {},
                     admin_http=True, **top)
    c.port = PORT
    c.vip("web", address=list(addrs))
    c.origin = origin
    return c


def start(lab, host, c, **kw):
    with host:
        return lab.start(c, prefix=(*ENDS_WITH_US, *kw.pop("prefix", ())), **kw)


def vips(lb):
    return {v["address"]: v for v in lb.cli_json("vips")["vips"]}


def keepers_of(lb):
    """Ids of the children of that process that are keepers."""
    with open(f"/proc/{lb.child.pid}/task/{lb.child.pid}/children") as f:
        children = f.read().split()
    return [int(p) for p in children if open(f"/proc/{p}/comm").read().strip() == "meercat-keeper"]


def keeper_of(lb):
    """The id of its keeper, which may have been forked a moment ago."""
    return wait_until(lambda: keepers_of(lb), 5, "it has a keeper")[0]


def test_addresses_are_carried_while_it_serves(lab, host, measured):
    c = conf(lab, host)
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    assert addresses(host)[V6].get("deprecated"), "nobody's source address"
    assert {v["state"] for v in vips(lb).values()} == {"carried"}
    with host:
        assert fetch((V4, PORT), "/").status == 200
        assert fetch((V6, PORT), "/").status == 200
        assert lb.metric("meercat_vip_carried", address=V4) == 1
        assert lb.metric("meercat_vip_keeper") == 1 and lb.metric("meercat_fit") == 1
        assert lb.cli("status", "--quiet").stdout == ""
    assert len(routes(host)) == 2
    lb.stop()
    assert carries(host), "an orderly end left an address behind"
    assert not routes(host)


def test_the_end_removes_them_before_requests_have_ended(lab, host, measured):
    c = conf(lab, host, drain_timeout="20s")
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    with host:
        busy = lab.client((V4, PORT))
        busy.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        wait_until(lambda: lb.cli_json("status")["in_flight"] == 1, 5)
    with Clock() as clock:
        lb.signal(signal.SIGTERM)
        wait_carries(host)
    measured(f"removed {clock.s * 1000:.1f} ms after SIGTERM")
    assert lb.running()
    assert lb.cli("status", "--quiet", ok=False).returncode == 1
    with host:
        busy.send(b"cde")
        assert busy.read_response().status == 200


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_one_that_dies_loses_them(lab, host, measured, sig):
    lb = start(lab, host, conf(lab, host))
    wait_carries(host, V4, V6)
    lb.expect_status, lb.expect_reports = None, True
    keeper = keeper_of(lb)
    with Clock() as clock:
        lb.signal(sig)
        wait_carries(host)
    measured(f"removed {clock.s * 1000:.1f} ms after {sig.name}")
    wait_until(lambda: not os.path.exists(f"/proc/{keeper}"), 5, "the keeper ends with its balancer")
    assert not routes(host)
    with host:
        assert command("status", "--quiet", "--socket", lb.socket_path).returncode > 1


def test_one_that_is_stopped_loses_them_and_gets_them_back(lab, host, measured):
    lb = start(lab, host, conf(lab, host))
    wait_carries(host, V4, V6)
    with Clock() as clock:
        lb.signal(signal.SIGSTOP)
        try:
            wait_carries(host)
            measured(f"removed {clock.so_far * 1000:.0f} ms after SIGSTOP")
        finally:
            lb.signal(signal.SIGCONT)
    with Clock() as clock:
        wait_carries(host, V4, V6)
    measured(f"back {clock.s * 1000:.0f} ms after SIGCONT")
    with host:
        assert lb.metric("meercat_vip_taken_total", address=V4) >= 1


def test_what_an_operator_put_there_is_left_alone(lab, host):
    host.ip(f"addr add {V4}/32 dev lo")
    lb = start(lab, host, conf(lab, host))
    wait_carries(host, V4, V6)
    wait_until(lambda: vips(lb)[V4]["state"] == "foreign", 5)
    assert vips(lb)[V6]["state"] == "carried"
    lb.stop()
    assert carries(host, V4)


def test_what_somebody_removes_is_put_there_again(lab, host):
    lb = start(lab, host, conf(lab, host))
    wait_carries(host, V4, V6)
    host.ip(f"addr del {V4}/32 dev lo")
    wait_carries(host, V4, V6)
    wait_until(lambda: vips(lb)[V4]["state"] == "carried", 5)


def left_by_a_dead_process(lab, host, c):
    """Its addresses, since its keeper was killed before it."""
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    lb.expect_status = None
    os.kill(keeper_of(lb), signal.SIGKILL)
    wait_until(lambda: any("keeper has ended" in x for x in lb.lines), 5)
    lb.kill()
    assert carries(host, V4, V6)


def test_what_a_dead_process_left_behind_is_taken_over(lab, host):
    c = conf(lab, host)
    left_by_a_dead_process(lab, host, c)
    again = start(lab, host, c)
    wait_until(lambda: {v["state"] for v in vips(again).values()} == {"carried"}, 5)
    again.stop()
    assert carries(host)


def shared_by_a_cluster(lab, host, c):
    """The same addresses, of which one member of a cluster is to have each."""
    c.top.update(node="lb1", cluster={"bind": f"{host.address}:7707", "key_file": Cluster.write_key(lab, None)})
    return c


def on_eth0(c):
    c.vip("web", address=[V4, V6], mode="cluster", interface="eth0")
    return c


def test_what_a_dead_process_left_elsewhere_is_removed(lab, host):
    c = shared_by_a_cluster(lab, host, conf(lab, host, bind=[f"*:{PORT}", f"[::]:{PORT}"]))
    left_by_a_dead_process(lab, host, c)
    assert len(routes(host)) == 2
    again = start(lab, host, on_eth0(c))
    assert carries(host) and not routes(host)
    wait_until(lambda: {V4, V6} <= set(addresses(host, "eth0")), 10, "it carries them where it is told to")
    again.stop()
    assert not {V4, V6} & set(addresses(host, "eth0")) and not routes(host)


def test_nothing_of_another_mode_is_left_behind_by_one_that_dies(lab, host):
    c = shared_by_a_cluster(lab, host, conf(lab, host, bind=[f"*:{PORT}", f"[::]:{PORT}"]))
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    lb.reload(on_eth0(c))
    wait_carries(host)
    assert not routes(host)
    wait_until(lambda: {V4, V6} <= set(addresses(host, "eth0")), 10, "it carries them where it is told to")
    lb.expect_status = None
    lb.kill()
    wait_until(lambda: not {V4, V6} & set(addresses(host, "eth0")), 5, "its keeper removes them")
    assert not routes(host)


def test_an_upgrade_keeps_them(lab, host):
    lb = start(lab, host, conf(lab, host, pid_file=os.path.join(lab.dir("pid"), "pid")))
    wait_carries(host, V4, V6)
    old, keeper = lb.child.pid, keeper_of(lb)
    lb.signal(signal.SIGUSR2)
    wait_until(lambda: lb.child.poll() is not None or not carries(host, V4, V6), 20, "the old process has ended")
    assert carries(host, V4, V6)
    lb.expect_status = None
    wait_until(lambda: not os.path.exists(f"/proc/{keeper}"), 5, "its keeper has ended, too")
    with open(lb.conf.top["pid_file"]) as f:
        new = int(f.read())
    assert new != old
    assert {v["state"] for v in vips(lb).values()} == {"carried"}
    os.kill(new, signal.SIGKILL)
    wait_carries(host)


def test_without_a_server_it_is_not_fit(lab, host):
    c = conf(lab, host)
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    with host:
        lb.cli("maint", "app/s1")
        wait_carries(host)
        r = lb.cli("status", ok=False)
        assert r.returncode == 1 and "no server" in r.stdout
        assert vips(lb)[V4]["why"].startswith("no server")
        lb.cli("ready", "app/s1")
        wait_carries(host, V4, V6)
        assert lb.cli("status").returncode == 0


def test_servers_do_not_matter_where_that_is_said(lab, host):
    lb = start(lab, host, conf(lab, host, fit={"need_server": False}))
    wait_carries(host, V4, V6)
    lb.cli("maint", "app/s1")
    stays(lambda: carries(host, V4, V6), 0.5)


def test_too_many_connections_are_an_overload(lab, host):
    lb = start(lab, host, conf(lab, host, max_connections=20, fit={"connections": "50%", "overload_after": "100ms",
                                                                  "recover_after": "100ms"}))
    wait_carries(host, V4, V6)
    with host:
        visitors = [lab.client((V4, PORT)) for _ in range(10)]
        wait_carries(host)
        assert "10 of 20 connections" in lb.cli("status", ok=False).stdout
        for v in visitors[:3]:
            v.close()
        wait_carries(host, V4, V6)


def test_a_reload_changes_them(lab, host):
    c = conf(lab, host, addrs=[V4], bind=[f"*:{PORT}"])
    lb = start(lab, host, c)
    wait_carries(host, V4)
    c.vip("web", address=[V6])
    lb.reload(c)
    wait_carries(host, V6)
    c.vips.clear()
    lb.reload(c)
    wait_carries(host)


def test_who_starts_without_any_needs_a_restart_for_the_first(lab, host):
    c = conf(lab, host)
    c.vips.clear()
    c.listen("web", bind=[f"127.0.0.1:{PORT}"])
    lb = start(lab, host, c)
    c.vip("web", address=[V4])
    lb.write_conf(c)
    assert "first vip has changed and needs a restart" in lb.cli("reload").stdout
    assert carries(host)
    assert not keepers_of(lb)


def test_root_is_given_up_and_addresses_still_change(lab, host):
    with host:
        c = conf(lab, host, user="nobody")
        os.chmod(lab.tmp, 0o777)
        for d, _, _ in os.walk(lab.tmp):
            os.chmod(d, 0o777)
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert os.stat(f"/proc/{lb.child.pid}").st_uid == nobody
    wait_until(lambda: os.stat(f"/proc/{keeper_of(lb)}").st_uid == nobody, 5, "so does its keeper")
    lb.cli("maint", "app/s1")
    wait_carries(host)
    lb.cli("ready", "app/s1")
    wait_carries(host, V4, V6)
    lb.kill()
    lb.expect_status = None
    wait_carries(host)


def test_without_the_right_to_change_addresses_it_says_so(lab, host):
    c = conf(lab, host)
    with host:
        lb = lab.start(c, prefix=(*ENDS_WITH_US, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"),
                       wait=False)
    lb.child.wait(10)
    lb.expect_status = 1
    wait_until(lambda: "CAP_NET_ADMIN" in lb.stderr, 5)


def test_an_interface_may_come_later(lab, host):
    c = conf(lab, host, bind=[f"*:{PORT}"])
    c.vip("web", address=[V4], interface="veth7")
    lb = start(lab, host, c)
    wait_until(lambda: "no such interface" in vips(lb)[V4]["why"], 5)
    host.ip("link add veth7 type veth peer name veth8", "link set veth7 up")
    wait_until(lambda: V4 in addresses(host, "veth7"), 5)
