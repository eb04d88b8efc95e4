# SPDX-License-Identifier: BSD-2-Clause
"""Two listeners of one balancer: one is flooded, the other has steady light traffic."""

import bisect
import socket
import statistics

import pytest

from instruments.conf import Conf
from instruments.netns import ENDS_WITH_US
from instruments.tools import Tool
from instruments.wait import wait_until
from instruments.wire import Wire, requests

pytestmark = pytest.mark.bound(90)

PORT = 8080
CALM, FLOODED = "10.78.0.1", "10.78.0.2"
NOBODY = "198.18.0.0"  # RFC 2544: whom nobody answers for
SECONDS = 3
ROUND = 4  # TURNS_WORK of io/turns.h


class Stage:
    """lb has both addresses; the calm client, the flood and a server for each are on other hosts."""

    def __init__(self, lab, net, engine, **top):
        self.lab = lab
        self.lb, self.client, self.flooder, *self.servers = [net.host(n) for n in ("lb", "client", "flooder", "s1", "s2")]
        self.lb.ip(f"addr add {CALM}/32 dev lo", f"addr add {FLOODED}/32 dev lo",
                   f"route add {NOBODY}/16 via {self.flooder.address}")
        for h in (self.client, self.flooder):
            h.ip(f"route add 10.78.0.0/24 via {self.lb.address}")
        self.flooder.ip(f"route add blackhole {NOBODY}/16")
        for h in self.servers:
            lab.add(Tool("ledger", "-a", h.address, "-p", 80, "-n", h.name, host=h))
        self.meercat = self._start(self.servers, engine, top)

    def _start(self, servers, engine, top):
        d = self.lab.dir("m")
        admin = {"socket": f"{d}/admin.sock", "http": f"{self.lb.address}:9090"}
        conf = Conf(workers=1, drain_timeout="2s", admin=admin, **top)
        for name, address, server in zip(("calm", "flooded"), (CALM, FLOODED), servers):
            conf.listen(name, bind=[f"{address}:{PORT}"])
            conf.pool(name, {server.name: f"{server.address}:80"}, balance="round-robin", idle_connections=1024)
            conf.route(name, name, path={"calm": "/c", "flooded": "/flood"}[name])
        conf.dir, conf.port, conf.log_path = d, PORT, None
        with self.lb:
            return self.lab.start(conf, engine=engine, prefix=ENDS_WITH_US)

    def flood(self, tool, *args):
        tool, *first = tool if isinstance(tool, tuple) else (tool,)
        return self.lab.add(Tool(tool, *first, "-a", FLOODED, "-p", PORT, *args, host=self.flooder))

    def traffic(self, *args):
        """Steady requests to the calm listener; what became of them."""
        t = self.lab.add(Tool("steady", "-a", CALM, "-p", PORT, "-c", 20, "-r", 200, "-s", "100,5000", "-t", SECONDS,
                              *args, host=self.client))
        said = t.said()
        assert said["done"] == said["requests"] == 200 * SECONDS and said["failed"] == 0, (said, t.told)
        return said

    def done_meanwhile(self, packets):
        """What the balancer sent for the flood while a request to the calm listener waited to be sent on."""
        vip, server = socket.inet_aton(FLOODED), socket.inet_aton(self.servers[1].address)
        done = [ns for ns, a, b, payload in packets if payload and (a[0] == vip or b[0] == server)]
        return [bisect.bisect(done, r.sent) - bisect.bisect(done, r.came)
                for r in requests(packets, CALM, self.servers[0].address) if done and r.sent < done[-1]]

    def counter(self, name):
        with self.lb:
            return self.meercat.metrics()[name]

    def connections(self, name):
        return self.counter(f'meercat_listener_connections{{proxy="{name}"}}')

    def tcp(self, name):
        """A counter of the balancer's kernel."""
        with self.lb, open("/proc/thread-self/net/netstat") as f:
            names, values = [line.split()[1:] for line in f if line.startswith("TcpExt:")]
        return int(dict(zip(names, values))[name])


@pytest.fixture(params=["epoll", "auto"])
def engine(request):
    return request.param


def test_requests_flood_one_listener_and_the_other_serves(lab, net, measured, engine):
    s = Stage(lab, net, engine)
    calm = s.traffic()
    flood = s.flood("load", "-c", 300, "-u", "/flood", "-e", 2, "-t", SECONDS + 1)
    wait_until(lambda: s.connections("flooded") == 300, 20, "the flood is there")
    wire = Wire(s.lb, [CALM, FLOODED, *[h.address for h in s.servers]])
    said = s.traffic()
    done = s.done_meanwhile(sorted(wire.packets()))
    wire.close()
    flooded = flood.said()
    assert flooded["requests"] > 0 and flooded["errors"] == 0, flooded
    # they waited for their turns, in which the other listener's were served
    assert s.counter("meercat_process_turns_deferred_total") > 0
    # two rounds at most are before it, of four things each; all that had come would be hundreds
    assert statistics.median(done) <= 4 * ROUND, done
    measured(f"p99 {calm['p99_ms']:.2f} ms without, {said['p99_ms']:.2f} ms beside {flooded['requests']} requests, "
             f"of which {statistics.median(done)} before one of ours")


def test_new_connections_flood_one_listener_and_the_other_takes_in_its_own(lab, net, measured, engine):
    s = Stage(lab, net, engine)
    flood = s.flood("load", "-c", 300, "-f", "-u", "/flood", "-e", 2, "-t", SECONDS + 1)
    wait_until(lambda: s.connections("flooded") > 0, 20, "the flood is there")
    said = s.traffic("-f")
    flooded = flood.said()
    assert flooded["requests"] > 0 and flooded["errors"] == 0, flooded
    assert s.counter("meercat_process_turns_deferred_total") > 0
    measured(f"p99 {said['p99_ms']:.2f} ms beside {flooded['connects']} connections")


def test_silent_connections_on_one_listener_leave_room_for_the_other(lab, net, engine):
    limit = 200
    s = Stage(lab, net, engine, max_connections=limit)
    s.flood(("flood", "connect"), "-c", 2 * limit, "-r", 5000, "-k", 60, "-t", 60)
    # the last quarter is for who has less than his part
    wait_until(lambda: s.connections("flooded") >= limit * 3 // 4, 20, "the flood is there")
    s.traffic("-f")
    s.traffic()
    assert s.connections("flooded") == limit * 3 // 4


def test_syns_flood_one_listener_and_the_kernel_answers_with_cookies(lab, net, measured, engine):
    s = Stage(lab, net, engine)
    with s.lb, open("/proc/sys/net/ipv4/tcp_syncookies") as f:
        if f.read().strip() == "0":
            pytest.skip("SYN cookies are off here (net.ipv4.tcp_syncookies)")
    before = s.tcp("SyncookiesSent")
    flood = s.flood(("flood", "syn"), "-f", NOBODY, "-r", 20000, "-t", SECONDS + 1)
    wait_until(lambda: s.tcp("SyncookiesSent") > before, 20, "cookies are sent")
    said = s.traffic("-f")
    assert flood.said()["sent"] > 0
    measured(f"p99 {said['p99_ms']:.2f} ms beside {s.tcp('SyncookiesSent') - before} cookies")
