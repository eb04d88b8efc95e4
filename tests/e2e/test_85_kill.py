# SPDX-License-Identifier: BSD-2-Clause
"""A server is killed under load, and no client notices."""

import os
import signal

import pytest

from instruments.load import Load
from instruments.wait import wait_until


@pytest.mark.parametrize("per_connection", [0, 1], ids=["kept", "new"])
@pytest.mark.parametrize("check", [False, True], ids=["passive", "checked"])
def test_kill_9_of_one_of_four(lab, per_connection, check):
    origins = [lab.nginx(f"n{i}") for i in range(4)]
    pool = {"retries": 2, "retry_budget": 50, "retry_min": 1000}
    if check:
        pool["check"] = {"path": "/healthz", "interval": "100ms", "fall": 2}
    lb = lab.proxy(origins, workers=2, pool=pool)
    with Load(lb.to, threads=4, path="/name", per_connection=per_connection) as load:
        wait_until(lambda: min(load.servers[f"n{i}"] for i in range(4)) > 20)
        os.kill(origins[1].pid, signal.SIGKILL)
        n = load.done
        wait_until(lambda: load.done > n + 600, 10)
    assert not load.failures, f"{len(load.failures)} of {load.done} seen by clients: {load.failures[:5]}"


def test_kill_9_with_answers_under_way(lab):
    """Requests whose answer had not begun are repeated elsewhere; one that had begun cannot be."""
    slow = "location = /slow { limit_rate 200k; root %s; try_files /name.txt =404; }"
    origins = []
    for i in range(4):
        o = lab.nginx(f"n{i}", location="location /wait { return 200 ok; }")
        origins.append(o)
    assert slow
    lb = lab.proxy(origins, workers=2, pool={"retry_min": 1000, "balance": "least-request"})
    with Load(lb.to, threads=6, path="/name") as load:
        for victim in (0, 1, 2):
            n = load.done
            wait_until(lambda: load.done > n + 200)
            os.kill(origins[victim].pid, signal.SIGKILL)
            n = load.done
            wait_until(lambda: load.done > n + 200, 10)
    assert not load.failures, load.failures[:5]
    assert load.servers["n3"] > 100


def test_a_server_that_freezes(lab):
    """SIGSTOP: the kernel accepts, nobody answers.  Time-outs and checks find it."""
    origins = [lab.nginx(f"n{i}") for i in range(3)]
    lb = lab.proxy(origins, workers=2, pool={
        "first_byte_timeout": "300ms", "retry_min": 1000, "retries": 2,
        "check": {"path": "/healthz", "interval": "100ms", "timeout": "100ms", "fall": 2}})
    with Load(lb.to, threads=4, path="/name") as load:
        wait_until(lambda: load.servers["n0"] > 20)
        os.kill(origins[0].pid, signal.SIGSTOP)
        try:
            lb.wait_state("s1", "down")
            n = load.done
            wait_until(lambda: load.done > n + 300, 10)
        finally:
            os.kill(origins[0].pid, signal.SIGCONT)
        lb.wait_state("s1", "up")
        n = load.servers["n0"]
        wait_until(lambda: load.servers["n0"] > n + 20, 10)
    statuses = {f.split("status ")[1][:3] for f in load.failures if "status " in f}
    assert statuses <= {"504"} and all("status 504" in f for f in load.failures), load.failures[:5]
