# SPDX-License-Identifier: BSD-2-Clause
"""A balancer that leaves: whoever came to it goes to another one, and no request is lost."""

import json
import signal
import threading

import pytest

from instruments.client import Closed, fetch
from instruments.h2client import H2
from instruments.load import Load
from instruments.origin import ok
from instruments.wait import wait_until


class Switch:
    """What sends clients to the first balancer that says it is well, as a switch with a health check does."""

    def __init__(self, *balancers):
        self.balancers, self.now = balancers, balancers[0]
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    def connect(self):
        return self.now.client()

    def _look(self):
        while not self.stopping.wait(0.02):
            self.now = next((b for b in self.balancers if well(b)), self.now)


def admin_of(lb):
    host, port = lb.conf.top["admin"]["http"].rsplit(":", 1)
    return host, int(port)


def well(lb):
    try:
        return fetch(admin_of(lb), "/healthz").status == 200
    except (OSError, Closed):
        return False


def order_leave(lb):
    lb.cli("leave")


def terminate(lb):
    lb.signal(signal.SIGTERM)


@pytest.mark.parametrize("leave", [order_leave, terminate])
def test_no_request_fails_while_one_of_two_leaves(lab, leave):
    nginx = lab.nginx()
    one, two = (lab.proxy(nginx, workers=2, admin_http=True, leave_grace="2s", drain_timeout="20s") for _ in range(2))
    with Switch(one, two) as switch, \
            Load(None, threads=4, path="/name", connect=switch.connect) as kept, \
            Load(None, threads=2, path="/name", per_connection=1, connect=switch.connect) as fresh:
        wait_until(lambda: min(kept.done, fresh.done) > 100)
        assert switch.now is one
        leave(one)
        assert one.wait_exit(30) == 0
        at = kept.done, fresh.done
        wait_until(lambda: kept.done > at[0] + 100 and fresh.done > at[1] + 100)
    assert not kept.failures + fresh.failures, (kept.failures + fresh.failures)[:5]
    assert switch.now is two


def test_who_comes_during_the_grace_is_served_and_sent_away(lab):
    lb = lab.proxy(lab.origin(ok("x")), admin_http=True, leave_grace="20s")
    kept = lb.client()
    assert kept.request().status == 200
    lb.cli("leave")
    wait_until(lambda: not well(lb), 5)
    for c in (kept, lb.client()):
        r = c.request()
        assert r.status == 200 and "close" in r.fields.list("connection")
        c.expect_fin(5)
    status = json.loads(lb.cli("status", "--json", ok=False).stdout)
    assert status["state"] == "ending" and status["step"] == "sending clients elsewhere"
    lb.signal(signal.SIGTERM)
    lb.wait_exit(5)
    lb.expect_status = None


def test_a_client_of_http2_is_told_to_go_during_the_grace(lab):
    lb = lab.proxy(lab.origin(ok("x")), leave_grace="20s")
    c = H2(lb)
    assert c.answer(c.ask())[0] == 200
    lb.cli("leave")
    c.until(lambda: c.goaways)
    again = H2(lb)
    assert again.answer(again.ask())[0] == 200
    again.until(lambda: again.goaways)
    lb.signal(signal.SIGTERM)
    lb.wait_exit(5)
    lb.expect_status = None


def test_the_last_answer_on_a_kept_connection_says_that_it_is_the_last(lab):
    lb = lab.proxy(lab.origin(ok("x")), drain_timeout="20s")
    c = lb.client()
    assert c.request().status == 200
    lb.signal(signal.SIGTERM)
    r = c.request()
    while "close" not in r.fields.list("connection"):
        assert r.status == 200
        r = c.request()
    c.expect_fin(5)
    assert lb.wait_exit(5) == 0
