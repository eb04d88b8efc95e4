# SPDX-License-Identifier: BSD-2-Clause
"""What an idle connection costs, and that nothing leaks."""

import resource

import pytest

from instruments import proc
from instruments.client import fetch
from instruments.crowd import Crowd
from instruments.load import Load
from instruments.origin import ok
from instruments.wait import wait_until

N = 9000
ALLOWED = {"epoll": 512, "uring": 1024}


@pytest.mark.no_san
@pytest.mark.slow
@pytest.mark.bound(120)
def test_nine_thousand_idle_connections_are_cheap(lab):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < N * 2:
        pytest.skip(f"only {hard} descriptors here")
    nginx = lab.nginx()
    lb = lab.proxy({"s": nginx}, workers=1, listen={"keep_alive_timeout": "10m"},
                   pool={"balance": "round-robin"}, max_connections=N + 500,
                   start={"preexec": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))})
    # something has been served: what is allocated once is there
    nginx_204(lab, lb)
    with Crowd(lb.port, 100):
        pass
    wait_until(lambda: proc.established_to(lb.port) == 0, 10)
    before = proc.pss_bytes(lb.pid)
    with Crowd(lb.port, N) as crowd:
        # PSS settles when the turn that answered last has ended
        wait_until(lambda: proc.fd_count(lb.pid) >= N, 10)
        after = proc.pss_bytes(lb.pid)
        crowd.leave()
    assert crowd.alive == N
    each = (after - before) / N
    print(f"\n{lab.engine}: {each:.0f} bytes for each of {N} idle connections")
    assert each <= ALLOWED[lab.engine], f"{each:.0f} bytes each, {ALLOWED[lab.engine]} are allowed"


def nginx_204(lab, lb):
    assert fetch(lb.to, "/204").status == 204


@pytest.mark.no_san
def test_nothing_leaks_over_many_connections(lab):
    """Descriptors and memory come back."""
    nginx = lab.nginx()
    lb = lab.proxy(nginx, workers=2)

    def run(n):
        with Load(lb.to, threads=4, path="/name", per_connection=1) as a, Load(lb.to, threads=2, path="/name", per_connection=7) as b:
            wait_until(lambda: a.done + b.done > n, 20)
        assert not a.failures and not b.failures
        wait_until(lambda: proc.established_to(lb.port) == 0, 10)
    run(1500)
    rss, fds = proc.rss_bytes(lb.pid), proc.fd_count(lb.pid)
    run(3000)
    assert proc.rss_bytes(lb.pid) - rss < 1 << 20, "memory grows with connections that are gone"
    wait_until(lambda: proc.fd_count(lb.pid) <= fds + 8, 5, "descriptors grow with connections that are gone")


@pytest.mark.no_san
def test_nothing_leaks_over_many_reloads(lab):
    conf = lab.conf(lab.origin(ok("x")), workers=2, listen={"server_header": "g"}, routes=False)
    conf.route("r", "app", host=["test"])
    lb = lab.start(conf)

    def reload(n):
        for i in range(n):
            mark = f"g{reload.count}"
            reload.count += 1
            conf.listeners["web"]["server_header"] = mark
            lb.reload(conf)
            wait_until(lambda: fetch(lb.to, host="none")["server"] == mark)
    reload.count = 0
    reload(15)
    rss, fds = proc.rss_bytes(lb.pid), proc.fd_count(lb.pid)
    reload(40)
    assert proc.rss_bytes(lb.pid) - rss < 1 << 20, "memory grows with reloads"
    assert proc.fd_count(lb.pid) <= fds + 4, "descriptors grow with reloads"


def test_an_idle_balancer_sleeps(lab):
    lb = lab.proxy(lab.origin(), workers=2, pool={"check": {"interval": "1s"}})
    fetch(lb.to)
    import time
    time.sleep(0.3)
    cpu = proc.cpu_seconds(lb.pid)
    time.sleep(1.5)
    assert proc.cpu_seconds(lb.pid) - cpu <= 0.05, "it uses CPU although nothing happens"
