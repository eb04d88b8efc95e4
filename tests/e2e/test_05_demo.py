# SPDX-License-Identifier: BSD-2-Clause
"""What `make run` starts: it shows something, and leaves nothing behind however it ends."""

import os
import re
import signal
import socket
import urllib.request
import uuid

import pytest

from instruments.client import fetch
from instruments.meercat import BINARY, ROOT, command, san_env
from instruments.process import Process
from instruments.wait import wait_until

DEMO = os.path.join(ROOT, "tools/demo")
NAMES = ["app1", "app2", "app3", "app4"]
LINE = r"^\d\d:\d\d:\d\d +(\d+)/s .* failed (\d+)$"


class Demo(Process):
    """tools/demo, with a mark in its environment by which whatever it started can be found."""

    def __init__(self, directory, *arguments):
        self.directory, self.mark = str(directory), str(uuid.uuid4())
        env = {**san_env(), "MEERCAT": BINARY, "TMPDIR": self.directory, "DEMO_MARK": self.mark}
        # what it says goes where the instrument listens
        super().__init__(["/bin/sh", "-c", 'exec "$0" "$@" >&2', DEMO, *arguments], env=env)

    def wait_for(self, pattern, timeout=20):
        def seen():
            found = re.search(pattern, self.stderr, re.M)
            assert found or self.running(), f"the demo has ended:\n{self.stderr}"
            return found
        return wait_until(seen, timeout, pattern)

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


@pytest.fixture
def demo(tmp_path):
    """demo(*arguments): started; stopped and checked at the end of the test."""
    demos = []

    def start(*arguments):
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield start
    for d in demos:
        d.stop(timeout=15)
        d.check()


def test_it_shows_requests_to_all_four_servers_and_ends_by_itself(demo):
    d = demo("--seconds", "4")
    assert d.wait_exit(30) == 0, d.stderr
    lines = re.findall(LINE, d.stderr, re.M)
    assert lines and all(failed == "0" for _, failed in lines), d.stderr
    for name in NAMES:
        assert sum(map(int, re.findall(rf"{name} +(\d+) \(", d.stderr))) > 20, d.stderr


def test_what_it_tells_to_look_at_is_there(demo):
    d = demo()
    host, port = d.wait_for(r"curl -i http://([\d.]+):(\d+)/").groups()
    path = d.wait_for(r"servers --socket (\S+)")[1]
    metrics = d.wait_for(r"curl (http://\S+/metrics)")[1]
    seen = set()
    wait_until(lambda: seen.add(fetch((host, int(port)))["x-server"]) or seen == set(NAMES), 10,
               "an answer from each server")
    assert command("status", "--socket", path).returncode == 0
    servers = command("servers", "--socket", path)
    assert servers.returncode == 0 and all(name in servers.stdout for name in NAMES)
    with urllib.request.urlopen(metrics, timeout=10) as r:
        assert b"meercat_" in r.read()
    d.wait_for(LINE)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(demo, sig):
    d = demo()
    d.wait_for(r"^Traffic:")
    d.signal(sig)
    assert d.wait_exit(15) == 0, d.stderr
    assert "nothing is left behind" in d.stderr


def test_nothing_survives_when_it_is_killed(demo, tmp_path):
    d = demo()
    d.wait_for(r"^Traffic:")
    d.kill()
    wait_until(lambda: not d.started(), 15, "its processes have ended")
    for directory in tmp_path.iterdir():  # files are all that a SIGKILL may leave
        for f in directory.iterdir():
            f.unlink()
        directory.rmdir()


def test_a_server_that_is_killed_costs_no_request(demo):
    d = demo()
    victim = int(d.wait_for(r"app3 .* pid (\d+)$")[1])
    d.wait_for(LINE)
    os.kill(victim, signal.SIGKILL)
    d.wait_for(r"app3 has ended")
    d.wait_for(r"app3 is back")
    assert all(failed == "0" for _, failed in re.findall(LINE, d.stderr, re.M)), d.stderr


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
