# SPDX-License-Identifier: BSD-2-Clause
"""`meercat agent`: what it reads on this machine, and those who ask it: curl, Prometheus, HAProxy."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from instruments import proc
from instruments.client import fetch
from instruments.meercat import BINARY, ROOT, REPORTS, command, san_env
from instruments.peers import NotifySocket
from instruments.ports import free_port
from instruments.process import Process
from instruments.wait import wait_until

FIXTURES = os.path.join(ROOT, "tests", "fixtures", "sysfs")


def parse(line):
    """A line of ORCA's TEXT as {name: number}, without the prefix of named metrics."""
    pairs = [p.split("=") for p in line.strip().split(",")]
    assert len({n for n, _ in pairs}) == len(pairs), line
    return {n.removeprefix("named_metrics."): float(v) for n, v in pairs}


class Agent(Process):
    def __init__(self, *options, check=False, env=None):
        self.port, self.check_port = free_port(), free_port()
        doors = ["--bind", f"127.0.0.1:{self.port}"]
        if check:
            doors += ["--agent-check-bind", f"127.0.0.1:{self.check_port}"]
        super().__init__([BINARY, "agent", *doors, *map(str, options)], env=dict(san_env(), **(env or {})))
        wait_until(lambda: not self.running() or self.port in proc.listening_ports(), 10, "the agent listens")
        assert self.running(), self.stderr

    def load(self):
        r = fetch(("127.0.0.1", self.port), "/load")
        assert r.status == 200, r
        return parse(r.body.decode())

    def wait_load(self, what, timeout=10):
        """The first report for which what(report) is true."""
        found = {}

        def holds():
            found.clear()
            found.update(self.load())
            return "cpu_utilization" in found and what(found)  # the first sample has nothing to compare
        try:
            wait_until(holds, timeout, interval=0.05)
        except AssertionError as e:
            raise AssertionError(f"{e}\nlast: {found}\n{self.stderr}") from None
        return found

    def metrics(self):
        return fetch(("127.0.0.1", self.port), "/metrics").body.decode()

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(), re.M).group(1))

    def reply(self, send=b""):
        with socket.create_connection(("127.0.0.1", self.check_port), timeout=5) as s:
            s.sendall(send)
            return b"".join(iter(lambda: s.recv(4096), b"")).decode()

    def end(self):
        code = self.stop()
        assert not REPORTS.search(self.stderr), self.stderr
        assert code == 0, self.stderr


@pytest.fixture
def agent():
    """agent(options...) starts one; all of them must end well."""
    started = []

    def start(*options, **kw):
        started.append(Agent(*options, **kw))
        return started[-1]
    yield start
    for a in started:
        a.end()


@contextlib.contextmanager
def burner(code="", preexec=None):
    """A process that computes, and has run `code` before; it may have children."""
    def begin():
        os.setsid()
        if preexec:
            preexec()
    p = Process([sys.executable, "-c", f"{code}\nwhile True: pass"], preexec=begin)
    try:
        yield p
    finally:
        os.killpg(p.pid, signal.SIGKILL)
        p.kill()


# --- one report --------------------------------------------------------------------------------------------------

def test_once_prints_one_report_of_the_host():
    r = command("agent", "--once", "--host")
    assert r.returncode == 0, r.stderr
    load = parse(r.stdout)
    assert r.stdout.count("\n") == 1
    assert load["cores"] == load["host_cores"] == os.cpu_count()
    assert 0 < load["mem_bytes"] < load["mem_limit"] and 0 < load["mem_utilization"] < 1
    assert load["seq"] == 2 and abs(load["time"] / 1000 - time.time()) < 60


@pytest.mark.parametrize("tree,options,want", [
    ("host", [], {"cores": 2, "mem_utilization": 0.25, "run_queue": 3}),
    ("v2", ["--unit", "web"], {"cores": 0.5, "mem_bytes": 400e6, "mem_limit": 1e9, "throttled_seconds": 0.3}),
    ("v2", ["--cgroup=/system.slice/web.service"], {"cores": 0.5, "host_cores": 4}),
    ("v1", ["--cgroup=/docker/abc"], {"cores": 1.5, "mem_bytes": 400e6}),
    ("v1", ["--cgroup"], {"cores": 1.5, "mem_limit": 1e9}),
    ("hybrid", ["--cgroup=/web"], {"cores": 4, "cpu_pressure": 0}),
    ("container", [], {"cores": 2, "mem_limit": 1e9}),
    ("container-v1", [], {"cores": 1.5, "mem_limit": 1e9}),
])
def test_hosts_of_other_kinds(tree, options, want):
    r = command("agent", "--once", "--interval", "20ms", "--sysfs-root", os.path.join(FIXTURES, tree), *options)
    assert r.returncode == 0, r.stderr
    load = parse(r.stdout)
    assert {k: load.get(k) for k in want} == want


def test_what_is_missing_is_said_once(agent):
    a = agent("--interval", "20ms", "--sysfs-root", os.path.join(FIXTURES, "bare"))
    wait_until(lambda: a.load()["seq"] > 10, 10)
    assert set(a.load()) >= {"cores", "run_queue"} and "cpu_pressure" not in a.load()
    assert sum("PSI" in line for line in a.lines) == 1
    assert sum("MemAvailable" in line for line in a.lines) == 1


@pytest.mark.parametrize("options,said", [
    (["--interval", "1ms"], "20ms"),
    (["--interval", "fast"], "duration"),
    (["--bind", "localhost:1"], "localhost"),
    (["--allow", "10.0.0.0/33"], "prefix"),
    (["--max-watchers", "0"], "1 to"),
    (["--pid", "1", "--unit", "x"], "only one of"),
    (["--pid", "-5"], "number"),
    (["--listen-port", "65536"], "65535"),
    (["--cgroup=/no/such/group", "--once"], "/no/such/group"),
    (["--frobnicate"], "usage"),
    (["word"], "usage"),
])
def test_options_that_make_no_sense_are_refused(options, said):
    r = command("agent", *options)
    assert r.returncode != 0 and said in r.stderr, r.stderr


# --- this machine ------------------------------------------------------------------------------------------------

def test_a_process_and_its_children(agent):
    child = "import os\nif os.fork() == 0:\n  while True: pass"
    with burner(child) as p:
        a = agent("--pid", p.pid)
        a.wait_load(lambda r: r["cpu_utilization"] > 0.6 / os.cpu_count() and r["mem_bytes"] > 1e6)
        before, spent = a.load()["cpu_seconds"], p.cpu_seconds
        a.wait_load(lambda r: r["cpu_seconds"] > before + 0.5)
        # parent and child share the cores with whatever else runs: together more than the parent alone
        assert a.load()["cpu_seconds"] - before > p.cpu_seconds - spent - 0.1


def test_a_listening_port(agent):
    port = free_port()
    with burner(f"import socket\ns = socket.create_server(('127.0.0.1', {port}))"):
        wait_until(lambda: port in proc.listening_ports(), 10)
        a = agent("--listen-port", port)
        r = a.wait_load(lambda r: r["cpu_seconds"] > 0.2)
        assert 1e6 < r["mem_bytes"] < 200e6


def test_a_pid_file_that_changes(agent, tmp_path):
    pid_file = tmp_path / "web.pid"
    a = agent("--pid-file", pid_file)
    a.wait_line("no such process runs")
    with burner() as p:
        pid_file.write_text(f"{p.pid}\n")
        r = a.wait_load(lambda r: r["mem_bytes"] < 200e6)
        a.wait_load(lambda later: later["cpu_seconds"] > r["cpu_seconds"] + 0.2)


class V1Group:
    """A control group of this machine, in its v1 trees and in the v2 tree beside them."""

    def __init__(self, name):
        self.dirs = [f"/sys/fs/cgroup/{t}/{name}" for t in ("cpu", "cpuacct", "memory", "unified")]
        self.dirs = list(dict.fromkeys(os.path.realpath(d) for d in self.dirs
                                       if os.path.isdir(os.path.dirname(d))))

    def __enter__(self):
        for d in self.dirs:
            os.mkdir(d)
        return self

    def __exit__(self, *_):
        for d in self.dirs:
            wait_until(lambda d=d: self._gone(d), 5, f"{d} is empty")

    @staticmethod
    def _gone(d):
        try:
            os.rmdir(d)
            return True
        except OSError:
            return False

    def write(self, file, text):
        for d in self.dirs:
            if os.path.exists(f"{d}/{file}"):
                with open(f"{d}/{file}", "w") as f:
                    f.write(str(text))

    def enter(self):
        for d in self.dirs:
            with open(f"{d}/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))


def can_make_v1_groups():
    return os.path.exists("/sys/fs/cgroup/cpuacct/cpuacct.usage") and os.access("/sys/fs/cgroup/cpuacct", os.W_OK) \
        and os.geteuid() == 0


@pytest.mark.skipif(not can_make_v1_groups(), reason="needs root and controllers of cgroup v1")
def test_a_live_group_of_v1(agent):
    name = f"meercat-test-{os.getpid()}"
    with V1Group(name) as group:
        group.write("cpu.cfs_period_us", 10000)
        group.write("cpu.cfs_quota_us", 2500)
        group.write("memory.limit_in_bytes", 256 << 20)
        a = agent(f"--cgroup=/{name}")
        with burner("x = bytearray(50 << 20)", preexec=group.enter) as p:
            r = a.wait_load(lambda r: r["cpu_utilization"] > 0.5 and r["mem_bytes"] > 50 << 20)
            assert r["cores"] == 0.25 and r["host_cores"] == os.cpu_count()
            assert r["mem_limit"] == 256 << 20 and r["mem_utilization"] < 0.6
            assert r["cpu_utilization"] < 2  # of a quarter of a core
            counter, spent = r["cpu_seconds"], p.cpu_seconds
            r = a.wait_load(lambda r: r["cpu_seconds"] > counter + 0.5 and r["throttled_seconds"] > 0, 20)
            assert abs((r["cpu_seconds"] - counter) - (p.cpu_seconds - spent)) < 0.3
            if os.path.exists(f"/sys/fs/cgroup/unified/{name}/cpu.pressure"):
                assert "the host's is taken" not in a.stderr
        # the group is gone, and made anew: the counter goes on
        counter = a.load()["cpu_seconds"]
    with V1Group(name) as group, burner(preexec=group.enter):
        a.wait_load(lambda r: r["cpu_seconds"] > counter + 0.2)


# --- who asks ----------------------------------------------------------------------------------------------------

def test_curl_reads_a_line_and_a_stream(agent):
    a = agent()
    one = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{a.port}/load"], capture_output=True, text=True, check=True)
    assert one.stdout.endswith("\n") and parse(one.stdout)["cores"] > 0
    curl = subprocess.Popen(["curl", "-sSN", f"http://127.0.0.1:{a.port}/load?interval=50ms"], text=True,
                            stdout=subprocess.PIPE)
    try:
        loads = [parse(curl.stdout.readline()) for _ in range(5)]
    finally:
        curl.kill()
        curl.wait()
    assert [x["seq"] for x in loads] == sorted({x["seq"] for x in loads})
    assert len({x["boot"] for x in loads}) == 1
    assert all(y["time"] > x["time"] for x, y in zip(loads, loads[1:]))
    wait_until(lambda: a.metric("meercat_agent_watchers") == 0, 5, "the watcher is gone")


def test_lines_come_at_whole_intervals_of_the_clock(agent):
    a = agent()
    curl = subprocess.Popen(["curl", "-sSN", f"http://127.0.0.1:{a.port}/load?interval=200ms"], text=True,
                            stdout=subprocess.PIPE)
    try:  # a busy machine makes some late; one that began when it liked would be off by the same each time
        # timers have a grain of 1 ms: what is that much early is meant for the interval that comes
        late = [(parse(curl.stdout.readline())["time"] + 1) % 200 for _ in range(16)][1:]
        assert min(late) <= 11 and len([ms for ms in late if ms <= 51]) >= 5, late
    finally:
        curl.kill()
        curl.wait()


def test_metrics_are_as_prometheus_wants_them(agent):
    a = agent("--host")
    wait_until(lambda: a.metric("meercat_agent_samples_total") > 2, 5)
    r = subprocess.run(["promtool", "check", "metrics"], input=a.metrics(), text=True, capture_output=True)
    assert r.returncode == 0 and not r.stdout and not r.stderr, r.stdout + r.stderr


def test_watchers_are_bounded(agent):
    a = agent("--max-watchers", "1")
    with socket.create_connection(("127.0.0.1", a.port)) as s:
        s.sendall(b"GET /load?interval=1s HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in s.recv(4096)
        assert fetch(("127.0.0.1", a.port), "/load?interval=1s").status == 503
        assert fetch(("127.0.0.1", a.port), "/load").status == 200


def test_other_networks_hear_nothing(agent):
    a = agent("--allow", "192.0.2.0/24", "--allow", "2001:db8::/32", check=True)
    with socket.create_connection(("127.0.0.1", a.port)) as s:
        assert s.recv(10) == b""
    assert a.reply() == ""
    a.wait_line("in no allowed network")


# --- HAProxy -----------------------------------------------------------------------------------------------------

class Busy:
    """A host of files whose service uses a share of its cores, as the test wants it."""

    def __init__(self, directory):
        self.root = os.path.join(directory, "root")
        shutil.copytree(os.path.join(FIXTURES, "v2"), self.root, symlinks=True)
        self.share = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        used, then = 10e6, time.monotonic()
        path = f"{self.root}/sys/fs/cgroup/system.slice/web.service/cpu.stat"
        while not self._done.wait(0.01):
            now = time.monotonic()
            used, then = used + (now - then) * 0.5 * self.share * 1e6, now  # of half a core
            with open(path, "r+") as f:
                f.write(f"usage_usec {used:.0f}\n")

    def stop(self):
        self._done.set()
        self._thread.join()


@pytest.fixture
def busy(tmp_path):
    b = Busy(str(tmp_path))
    yield b
    b.stop()


class Balancer(Process):
    """A real HAProxy whose only server has an agent."""

    def __init__(self, directory, agent_port, extra=""):
        self.socket_path = os.path.join(directory, "haproxy.sock")
        conf = os.path.join(directory, "agent.cfg")
        with open(conf, "w") as f:
            f.write(f"""
global
  stats socket {self.socket_path} level admin
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 1s
frontend f
  bind 127.0.0.1:{free_port()}
  default_backend b
backend b
  server s 127.0.0.1:9 weight 100 maxconn 500 agent-check agent-inter 50ms agent-addr 127.0.0.1 agent-port {agent_port} {extra}
""")
        super().__init__(["haproxy", "-db", "-f", conf])
        wait_until(lambda: os.path.exists(self.socket_path), 10, "haproxy listens")

    def tell(self, text):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.socket_path)
            s.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def weight(self):
        """In percent of what is configured."""
        return int(self.tell("get weight b/s").split()[0])

    def stat(self, column):
        rows = [line.split(",") for line in self.tell("show stat").splitlines() if line]
        names = rows[0]
        row = next(r for r in rows if r[0] == "b" and r[1] == "s")
        return row[names.index(column)]


@pytest.fixture
def haproxy(tmp_path):
    started = []

    def start(port, extra=""):
        started.append(Balancer(str(tmp_path), port, extra))
        return started[-1]
    yield start
    for h in started:
        h.stop()


def of_web(busy):
    return ["--sysfs-root", busy.root, "--unit", "web", "--interval", "50ms"]


def test_the_weight_in_haproxy_follows_what_is_free(agent, busy, haproxy):
    h = haproxy(agent(*of_web(busy), check=True).check_port)
    for share, low, high in ((0.0, 95, 100), (0.8, 12, 28), (0.3, 62, 78), (2.0, 1, 3)):
        busy.share = share
        wait_until(lambda: low <= h.weight() <= high, 15, f"weight for {share}: {h.weight()}")
    assert h.stat("agent_status").removeprefix("* ") == "L7OK"  # with a star while the next one is under way


def test_words_of_the_state_file_reach_haproxy(agent, busy, haproxy, tmp_path):
    state = tmp_path / "state"
    h = haproxy(agent(*of_web(busy), "--state-file", state, check=True).check_port)

    def becomes(status):
        wait_until(lambda: h.stat("status").startswith(status), 10, f"{status}, is {h.stat('status')}")
    becomes("no check")
    for text, status in (("drain\n", "DRAIN"), ("ready\n", "no check"), ("maint\n", "MAINT")):
        state.write_text(text)
        becomes(status)
    state.unlink()  # without the file: ready, since it was closed before
    becomes("no check")
    state.write_text("down # disk full\n")
    becomes("DOWN")
    state.write_text("up 40% maxconn:7\n")
    becomes("no check")
    wait_until(lambda: h.weight() == 40, 5)
    wait_until(lambda: h.stat("slim") == "7", 5)


def test_what_an_operator_does_in_haproxy_is_left_alone(agent, busy, haproxy):
    a = agent(*of_web(busy), check=True)
    h = haproxy(a.check_port)
    wait_until(lambda: a.metric("meercat_agent_check_replies_total") > 1, 10)
    h.tell("set server b/s state drain")
    asked = a.metric("meercat_agent_check_replies_total")
    wait_until(lambda: a.metric("meercat_agent_check_replies_total") > asked + 3, 10)
    assert h.stat("status").startswith("DRAIN")


def test_signals_drain_and_make_ready(agent, busy, haproxy):
    a = agent(*of_web(busy), check=True)
    h = haproxy(a.check_port)
    a.signal(signal.SIGUSR1)
    wait_until(lambda: h.stat("status").startswith("DRAIN"), 10)
    a.signal(signal.SIGUSR2)
    wait_until(lambda: not h.stat("status").startswith("DRAIN"), 10)


def test_the_capacity_is_shared_by_the_fleet(agent, busy, haproxy):
    a = agent(*of_web(busy), "--capacity", "100", "--fleet", "3", check=True)
    assert a.reply(b"what do you say\n").split()[-1] == "maxconn:34"
    h = haproxy(a.check_port, 'agent-send "hello\\n"')
    wait_until(lambda: h.stat("slim") == "34", 10)


# --- life --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_it_tells_the_service_manager_and_ends_on_a_signal(tmp_path, sig):
    manager = NotifySocket(str(tmp_path))
    a = Agent(env={"NOTIFY_SOCKET": manager.path})
    manager.wait("READY=1")
    watcher = socket.create_connection(("127.0.0.1", a.port))
    watcher.sendall(b"GET /load?interval=100ms HTTP/1.1\r\nHost: a\r\n\r\n")
    assert watcher.recv(4096)
    a.signal(sig)
    manager.wait("STOPPING=1")
    assert a.wait_exit() == 0
    while watcher.recv(65536):
        pass
    watcher.close()
    manager.stop()
    a.end()


def test_a_port_in_use_is_an_error(agent):
    a = agent()
    r = command("agent", "--bind", f"127.0.0.1:{a.port}")
    assert r.returncode == 1 and f"127.0.0.1:{a.port}" in r.stderr


@pytest.mark.no_san
@pytest.mark.parametrize("options", [["--host"], ["--cgroup"], ["--pid", str(os.getpid())]], ids=lambda o: o[0])
def test_it_costs_less_than_a_percent_and_4_mb(agent, options):
    """By CPU time for each sample, at 100 ms and with three watchers: a busy machine does not matter."""
    a = agent(*options)
    watchers = []
    for _ in range(3):
        s = socket.create_connection(("127.0.0.1", a.port))
        s.sendall(b"GET /load?interval=100ms HTTP/1.1\r\nHost: a\r\n\r\n")
        watchers.append(s)
    first, cpu = a.metric("meercat_agent_samples_total"), a.metric("process_cpu_seconds_total")
    wait_until(lambda: a.metric("meercat_agent_samples_total") >= first + 40, 20, interval=0.5)
    n = a.metric("meercat_agent_samples_total") - first
    per_sample = (a.metric("process_cpu_seconds_total") - cpu) / n
    for s in watchers:
        s.close()
    assert per_sample < 1e-3, f"{per_sample * 1e6:.0f} us a sample"
    assert proc.rss_bytes(a.pid) < 4 << 20
