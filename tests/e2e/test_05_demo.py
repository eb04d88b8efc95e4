# SPDX-License-Identifier: BSD-2-Clause
"""What `make run` starts: it shows a cluster at work, and leaves nothing behind however it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
import uuid

import pytest

from instruments.client import fetch
from instruments.meercat import BINARY, ROOT, san_env
from instruments.process import Process
from instruments.wait import wait_until

DEMO = os.path.join(ROOT, "tools/demo")
BALANCERS = ["lb1", "lb2", "lb3"]
SERVERS = ["fast1", "fast2", "mid1", "mid2", "slow1", "slow2"]
LINE = r"^\d\d:\d\d:\d\d +(\d+)/s .* retried (\d+)  failed (\d+)$"
ALL_ALIVE = r"sees: lb1 alive, lb2 alive, lb3 alive$"


class Demo(Process):
    """tools/demo, with a mark in its environment by which whatever it started can be found."""

    def __init__(self, directory, *arguments):
        self.directory, self.mark = str(directory), str(uuid.uuid4())
        self.env = {**san_env(), "MEERCAT": BINARY, "TMPDIR": self.directory, "DEMO_MARK": self.mark}
        # what it says goes where the instrument listens
        super().__init__(["/bin/sh", "-c", 'exec "$0" "$@" >&2', DEMO, *arguments], env=self.env)

    def wait_for(self, pattern, timeout=30, since=0):
        """The match, in what it has said behind so many characters."""
        def seen():
            found = re.compile(pattern, re.M).search(self.stderr, since)
            assert found or self.running(), f"the demo has ended:\n{self.stderr}"
            return found
        return wait_until(seen, timeout, pattern)

    def told(self, command):
        """Lines of that command, as it tells them."""
        self.wait_for(r"^Traffic:")
        return re.findall(rf"^  (\S*meercat {command} .*)$", self.stderr, re.M)

    def run(self, line):
        r = subprocess.run(line, shell=True, env={**os.environ, **self.env}, capture_output=True, text=True)
        assert r.returncode == 0, f"{line}\n{r.stdout}{r.stderr}"
        return r.stdout

    def states(self, balancer):
        """{server: state} as that one sees it."""
        path = re.sub(r"lb\d\.sock", f"{balancer}.sock", self.told("servers")[0])
        return {s["name"]: s["state"] for s in json.loads(self.run(f"{path} --json"))["servers"]}

    def started(self):
        """Processes with the mark, the demo itself among them."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if self.mark.encode() in f.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def check(self):
        wait_until(lambda: not self.started(), 5, "its processes have ended")
        assert os.listdir(self.directory) == [], self.stderr
        lines = re.findall(LINE, self.stderr, re.M)
        assert all(failed == "0" for _, _, failed in lines), self.stderr


@pytest.fixture
def demo(tmp_path):
    """demo(*arguments): started; stopped and checked at the end of the test."""
    demos = []

    def start(*arguments):
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield start
    for d in demos:
        d.stop(timeout=20)
        d.check()


@pytest.mark.bound(60)
def test_it_shows_a_cluster_at_work_and_ends_by_itself(demo):
    d = demo("--seconds", "5")
    assert d.wait_exit(50) == 0, d.stderr
    assert re.search(LINE, d.stderr, re.M) and re.search(ALL_ALIVE, d.stderr, re.M), d.stderr
    for kind in ("cheap", "medium", "heavy", "waiting"):
        assert re.search(rf"\d/s .*{kind} +(\d+/\d+|-) ", d.stderr), d.stderr
    for name in SERVERS:
        assert re.search(rf"{name} +\d+%", d.stderr), d.stderr
    assert re.search(r"^\d+ requests: \d+ retried .*, 0 failed$", d.stderr, re.M), d.stderr


@pytest.mark.bound(60)
def test_what_it_tells_to_look_at_is_there(demo):
    d = demo()
    host, port = d.wait_for(r"curl -i http://([\d.]+):(\d+)/").groups()
    assert fetch((host, int(port)), "/items/1")["x-server"] in SERVERS
    for command in ("status", "members", "servers", "costs", "explain"):
        line, = d.told(command)
        assert d.run(line)
    assert all(name in d.run(d.told("members")[0]) for name in BALANCERS)
    assert "chosen" in d.run(d.told("explain")[0])
    with urllib.request.urlopen(d.wait_for(r"curl (http://\S+/metrics)")[1], timeout=10) as r:
        assert b"meercat_cluster_members" in r.read()


@pytest.mark.bound(60)
def test_what_one_is_told_all_do(demo):
    d = demo()
    for command, state in (("drain", "drain"), ("ready", "up"), ("drain", "drain"), ("unset", "up")):
        line, = d.told(command)
        d.run(line)
        name = line.rpartition("/")[2]
        for balancer in BALANCERS:
            wait_until(lambda: d.states(balancer)[name] == state, 10, f"{balancer}: {name} is {state}")


@pytest.mark.bound(90)
def test_a_balancer_that_leaves_costs_no_request(demo):
    d = demo()
    d.run(d.told("leave")[0])
    d.wait_for(r"lb3 left")
    d.wait_for(ALL_ALIVE, since=d.wait_for(r"lb3 is back").end())


@pytest.mark.bound(60)
@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(demo, sig):
    d = demo()
    d.wait_for(r"^Traffic:")
    d.signal(sig)
    assert d.wait_exit(20) == 0, d.stderr
    assert "nothing is left behind" in d.stderr


@pytest.mark.bound(60)
def test_nothing_survives_when_it_is_killed(demo, tmp_path):
    d = demo()
    d.wait_for(r"^Traffic:")
    d.kill()
    wait_until(lambda: not d.started(), 15, "its processes have ended")
    for directory in tmp_path.iterdir():  # files are all that a SIGKILL may leave
        for f in directory.iterdir():
            f.unlink()
        directory.rmdir()


@pytest.mark.bound(60)
def test_a_server_that_is_killed_costs_no_request(demo):
    d = demo()
    victim = int(d.wait_for(r"fast2 .*pid (\d+)$")[1])
    d.wait_for(LINE)
    os.kill(victim, signal.SIGKILL)
    d.wait_for(r"fast2 has ended")
    d.wait_for(LINE, since=d.wait_for(r"fast2 is back").end())


@pytest.mark.bound(120)
def test_balancers_and_servers_that_are_killed_cost_no_request(demo):
    d, seen = demo("--kill"), 0
    for name in ("lb1", "fast1", "lb2"):
        d.wait_for(rf"kill -9 {name}$")
        seen = d.wait_for(rf"{name} is back").end()
    d.wait_for(ALL_ALIVE, since=seen)
    assert int(re.findall(LINE, d.stderr, re.M)[-1][1]) > 0, "connections to the dead were retried"


@pytest.mark.bound(60)
def test_a_port_that_is_taken_is_replaced_and_said(demo):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", 8080))
            s.listen()
        except OSError:
            pass  # taken by somebody else: as good
        d = demo()
        other = d.wait_for(r"^port 8080 is taken, using (\d+)$")[1]
        d.wait_for(rf"curl -i http://127\.0\.0\.1:{other}/")


def test_a_missing_binary_is_named(tmp_path):
    r = Process([DEMO], env={"MEERCAT": "/nonexistent/meercat"})
    assert r.wait_exit(30) == 1 and "/nonexistent/meercat" in r.stderr
