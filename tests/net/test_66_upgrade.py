# SPDX-License-Identifier: BSD-2-Clause
"""A balancer that carries addresses is upgraded in place: they stay, and somebody keeps them; or it leaves."""

import os
import signal
import threading

import pytest

from instruments.client import fetch
from instruments.wait import stays, wait_until
from test_55_vip import PORT, V4, V6, carries, conf, keeper_of, routes, start, wait_carries

pytestmark = pytest.mark.bound(90)


@pytest.fixture
def host(net):
    return net.host("lb")


class Watch:
    """Looks whether the addresses are there, all the time."""

    def __init__(self, host):
        self.host, self.missing, self.looks = host, 0, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.stopping.is_set():
            self.missing += not carries(self.host, V4, V6)
            self.looks += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


@pytest.mark.parametrize("user", [None, "nobody"])
def test_addresses_stay_while_processes_change(lab, host, user):
    c = conf(lab, host, **({"user": user, "group": "nogroup"} if user else {}))
    for d in (c.dir, os.path.dirname(c.dir)):
        os.chmod(d, 0o777)
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    with Watch(host) as watch:
        for _ in range(3):
            before = keeper_of(lb)
            with host:
                lb.upgrade()
                assert fetch((V4, PORT)).status == 200
            wait_until(lambda: not os.path.exists(f"/proc/{before}"), 10, "its keeper has gone")
            assert keeper_of(lb) != before
        at = watch.looks
        wait_until(lambda: watch.looks > at + 20)
    assert watch.missing == 0
    assert all(v["state"] == "carried" for v in lb.cli_json("vips")["vips"])
    lb.wait_gone()
    lb.signal(signal.SIGKILL)
    wait_carries(host)
    assert not routes(host)
    lb.expect_status, lb.expect_reports = None, True


def test_addresses_stay_with_the_old_process_when_the_new_one_fails(lab, host):
    lb = start(lab, host, conf(lab, host))
    wait_carries(host, V4, V6)
    keeper = keeper_of(lb)
    lb.write_conf("listen {")
    assert lb.cli("upgrade", ok=False).returncode == 1
    stays(lambda: carries(host, V4, V6), 0.5)
    assert keeper_of(lb) == keeper
    lb.stop()
    assert carries(host)


def test_with_a_grace_addresses_go_behind_the_requests(lab, host):
    """Without one they go first, which test_55_vip.py shows."""
    lb = start(lab, host, conf(lab, host, leave_grace="3s", drain_timeout="20s"))
    wait_carries(host, V4, V6)
    with host:
        kept = lab.client((V4, PORT))
        assert kept.request().status == 200
        lb.cli("leave")
        lb.wait_line("clients have 3s")
        assert carries(host, V4, V6)
        r = kept.request()
        assert r.status == 200 and "close" in r.fields.list("connection")
        kept.close()
    wait_carries(host)
    assert lb.wait_exit(20) == 0


def test_what_the_new_configuration_has_not_is_removed(lab, host):
    c = conf(lab, host, bind=[f"*:{PORT}"])
    lb = start(lab, host, c)
    wait_carries(host, V4, V6)
    assert len(routes(host)) == 2
    for left in ([V6], []):
        c.vips.clear()
        if left:
            c.vip("web", address=left)
        lb.write_conf(c)
        with host:
            lb.upgrade()
        wait_carries(host, *left)
        wait_until(lambda: len(routes(host)) == len(left), 5, "nothing is taken in for it")
    c.vip("web", address=[V4])
    lb.reload(c)
    wait_carries(host, V4)
    lb.wait_gone()
    lb.stop()
    assert carries(host)
