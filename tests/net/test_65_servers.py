# SPDX-License-Identifier: BSD-2-Clause
"""Servers that die in the middle of requests, or are cut off without a word; and agents that do."""

import collections
import signal
import subprocess
import sys
import threading

import pytest

from instruments.client import Client
from instruments.fake_agent import FakeAgent
from instruments.load import Load
from instruments.netns import ENDS_WITH_US
from instruments.origin import Origin, ok
from instruments.wait import Clock, wait_until

pytestmark = pytest.mark.bound(120)

HTTP = 8080
QUIET = {"type": "none"}  # checks: whatever is found is found by the requests
# An origin that can be killed: it tells who it is, when its standard input has ended, and counts nobody's
# deliveries but its own.
SERVER = """
import http.server, os, sys, threading
go = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), go.set()), daemon=True).start()
class H(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        os.write(1, f"got {self.headers['X-Id']}\\n".encode())
        go.wait()
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.send_header("X-Server", sys.argv[1])
        self.end_headers()
        self.wfile.write(b"x")
    do_POST = do_PUT = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.request_queue_size = 256
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), H).serve_forever()
"""


class Killable:
    """A server on a host of its own; .seen: {id: deliveries}.  held: it answers after go()."""

    def __init__(self, host, held=False):
        self.host, self.seen = host, collections.Counter()
        with host:
            self.child = subprocess.Popen([*ENDS_WITH_US, sys.executable, "-c", SERVER, host.address, str(HTTP)],
                                          stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                                          stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.address = f"{host.address}:{HTTP}"

    def _read(self):
        for line in self.child.stdout:
            self.seen[line.split()[1]] += 1

    def go(self):
        self.child.stdin.close()

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self):
        if self.child.poll() is None:
            self.kill()
        self.reader.join(5)
        for pipe in filter(None, (self.child.stdin, self.child.stdout)):
            pipe.close()

    def check(self):
        pass


class Site:
    """A client, a balancer, and servers s0, s1, ..., each on a host.  delay: of those that are not killable."""

    def __init__(self, lab, net, n, delay=0.0, killable=True, held=False, agents=False, listen=None, **pool):
        self.delay = delay
        self.client, self.lb_host = net.host("client"), net.host("lb")
        self.hosts = [net.host(f"s{i}") for i in range(n)]
        self.servers = [lab.add(Killable(h, held)) if killable else self._origin(lab, h) for h in self.hosts]
        servers = {h.name: {"address": s.address} for h, s in zip(self.hosts, self.servers)}
        self.agents = [self._agent(lab, h) for h in self.hosts] if agents else []
        for s, a in zip(servers.values(), self.agents):
            s["agent"] = a.address
        conf = lab.conf(servers, listen=dict({"bind": [f"{self.lb_host.address}:{HTTP}"]}, **(listen or {})),
                        pool=pool)
        conf.port = HTTP
        if (listen or {}).get("protocol") == "tcp":
            conf.routes["all"]["listen"] = ["web"]
        with self.lb_host:
            self.lb = lab.start(conf, prefix=ENDS_WITH_US)
        for s in self.servers:
            wait_until(lambda: self._listens(s), 10)

    def _origin(self, lab, host):
        with host:
            return lab.add(Origin(lambda conn, r: self._reply(conn, host), bind=host.address))

    def _reply(self, conn, host):
        conn.origin.stopping.wait(self.delay)
        return ok(host.name, fields=[("X-Server", host.name)])

    def _agent(self, lab, host):
        with host:
            return lab.add(FakeAgent(bind=host.address))

    def _listens(self, s):
        try:
            with self.client:
                host, port = s.address.split(":")
                Client((host, int(port)), timeout=1).close()
            return True
        except OSError:
            return False

    @property
    def to(self):
        return (self.lb_host.address, HTTP)

    def connect(self, **kw):
        with self.client:
            return Client(self.to, **kw)

    def load(self, **kw):
        with self.client:
            return Load(self.to, **dict({"threads": 4, "pause": 0.01}, **kw)).start()

    def ask_all(self, method, n):
        """n requests at once, each with its id; {id: response or exception}."""
        answers, threads = {}, []

        def one(i):
            try:
                c = self.connect(timeout=60)
                fields = [("X-Id", str(i))] + ([("Content-Length", "0")] if method != "GET" else [])
                answers[i] = c.request(method=method, fields=fields)
                c.close()
            except Exception as e:  # told by the assertion of whoever asked
                answers[i] = e
        for i in range(n):
            threads.append(threading.Thread(target=one, args=(i,), daemon=True))
            threads[-1].start()
        return answers, threads

    def go(self, threads):
        """The servers that are there answer; until all have been answered."""
        for s in self.servers:
            if s.child.poll() is None:
                s.go()
        for t in threads:
            t.join(60)


def seen(site):
    return sum((s.seen for s in site.servers), collections.Counter())


# --- killed ------------------------------------------------------------------------------------------

def test_requests_of_a_killed_server_go_to_another_one(lab, net):
    site = Site(lab, net, 3, held=True, check=QUIET, retry_min=1000)
    answers, threads = site.ask_all("GET", 60)
    wait_until(lambda: len(seen(site)) == 60, 20, "all were delivered")
    hit = set(site.servers[0].seen)
    assert hit
    site.servers[0].kill()
    site.go(threads)
    assert {getattr(a, "status", a) for a in answers.values()} == {200}
    told = seen(site)
    assert {i for i, n in told.items() if n == 2} == hit, "those, and no others, were sent again"


def test_what_may_not_be_repeated_is_not(lab, net):
    site = Site(lab, net, 2, held=True, check=QUIET, retry_min=1000)
    answers, threads = site.ask_all("POST", 40)
    wait_until(lambda: len(seen(site)) == 40, 20, "all were delivered")
    hit = set(site.servers[0].seen)
    site.servers[0].kill()
    site.go(threads)
    assert set(seen(site).values()) == {1}
    assert {str(i) for i, a in answers.items() if getattr(a, "status", a) == 502} == hit
    assert all(a.status in (200, 502) for a in answers.values())


# --- cut off without a word --------------------------------------------------------------------------

def test_requests_to_a_server_that_was_cut_off_go_to_another_one(lab, net, measured):
    """Nothing checks the servers, and responses have a minute: TCP itself tells that nobody is there.  A server
    answers in one piece: what had begun could not be repeated."""
    site = Site(lab, net, 3, check=QUIET, user_timeout="1s", connect_timeout="300ms", retry_min=1000)
    load = site.load()
    wait_until(lambda: load.done > 100 and len(load.servers) == 3)
    net.cut(site.lb_host, site.hosts[0])
    with Clock() as clock:
        wait_until(lambda: site.lb.state("s0") == "ejected", 30)
    measured(f"set aside {clock.s:.2f} s after the cut (user-timeout 1 s)")
    at = load.done
    wait_until(lambda: load.done > at + 100, 20)
    load.stop()
    assert not load.failures, load.failures[:3]


def test_who_is_cut_off_while_it_works_is_found_too(lab, net, measured):
    """The request was acknowledged, and nothing else is to be: the kernel asks whether anybody is there."""
    site = Site(lab, net, 2, held=True, check=QUIET, user_timeout="2s", connect_timeout="300ms", retry_min=1000)
    answers, threads = site.ask_all("GET", 20)
    wait_until(lambda: len(seen(site)) == 20, 20, "all were delivered")
    hit = set(site.servers[0].seen)
    net.cut(site.lb_host, site.hosts[0])
    with Clock() as clock:
        site.go(threads)
    measured(f"all answered {clock.s:.2f} s after the cut (user-timeout 2 s)")
    assert {getattr(a, "status", a) for a in answers.values()} == {200}
    assert {i for i, n in seen(site).items() if n == 2} == hit


def test_the_first_byte_is_waited_for_so_long(lab, net):
    """What the server's host acknowledges is no proof of the server: the request is not sent again."""
    site = Site(lab, net, 2, held=True, check=QUIET, first_byte_timeout="500ms")
    c = site.connect()
    assert c.request(fields=[("X-Id", "1")]).status == 504
    assert sum(seen(site).values()) == 1


def test_checks_find_it_and_what_was_sent_goes_elsewhere(lab, net, measured):
    site = Site(lab, net, 3, user_timeout="2s", connect_timeout="300ms", eject_after=0, retry_min=1000,
                check={"type": "tcp", "interval": "200ms", "timeout": "300ms", "fall": 2})
    for h in site.hosts:  # they may have begun after their first check
        site.lb.wait_state(h.name, "up", 20)
    load = site.load()
    wait_until(lambda: load.done > 100 and len(load.servers) == 3)
    net.cut(site.lb_host, site.hosts[1])
    with Clock() as clock:
        site.lb.wait_state("s1", "down", 20)
    measured(f"down {clock.s:.2f} s after the cut (every 200 ms, 300 ms each, twice)")
    net.heal()
    site.lb.wait_state("s1", "up", 20)
    wait_until(lambda: load.stop() or True, 30)
    assert not load.failures, load.failures[:3]


def test_a_connection_that_is_passed_through_ends_when_nobody_acknowledges(lab, net):
    site = Site(lab, net, 1, killable=False, listen={"protocol": "tcp"}, check=QUIET, user_timeout="1s")
    c = site.connect(timeout=30)
    assert c.request().status == 200
    net.cut(site.lb_host, site.hosts[0])
    c.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
    c.expect_rst(20)


def test_a_client_that_was_cut_off_is_let_go(lab, net):
    site = Site(lab, net, 1, killable=False, check=QUIET,
                listen={"user_timeout": "1s", "keep_alive_timeout": "1h", "send_timeout": "1h"})
    go = threading.Event()
    origin = site.servers[0]
    origin.reply = lambda conn, r: conn.hold(go) or ok("late")
    c = site.connect(timeout=60).get()
    origin.wait_requests(1)
    assert site.lb.cli_json("status")["connections"] == 1
    net.cut(site.lb_host, site.client)
    go.set()
    wait_until(lambda: site.lb.cli_json("status")["connections"] == 0, 30, "nobody acknowledges the answer")
    c.close()


# --- agents -------------------------------------------------------------------------------------------

@pytest.mark.alone
def test_without_its_agent_a_server_is_as_good_as_before(lab, net):
    site = Site(lab, net, 3, delay=0.05, killable=False, agents=True, balance="auto")
    load = site.load(threads=12, pause=0)
    wait_until(lambda: load.done > 200 and len(load.servers) == 3)
    site.agents[0].stop()

    def age(name):
        return site.lb.servers()[f"app/{name}"]["learned"]["agent"]["age_ms"]
    wait_until(lambda: age("s0") is None or age("s0") > 3000, 20, "it is known that the agent is silent")
    assert {site.lb.state(f"s{i}") for i in range(3)} == {"up"}
    before = dict(load.servers)
    at = load.done
    wait_until(lambda: load.done > at + 600, 30)
    load.stop()
    assert not load.failures, load.failures[:3]
    share = (load.servers["s0"] - before["s0"]) / (load.done - at)
    assert 0.2 < share < 0.5, "it gets its part as before"
