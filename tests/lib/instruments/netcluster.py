# SPDX-License-Identifier: BSD-2-Clause
"""Balancers on hosts of their own, origins and clients, too (netns.py).

    c = NetCluster(lab, net, 3, origins=2); c.wait_alive()
    with c.traffic(0, 2) as loads: net.cut(c.hosts[0], c.hosts[1]); ...
"""

import contextlib
import os

from .cluster import Cluster
from .load import Load
from .netns import ENDS_WITH_US
from .origin import Origin, ok
from .wait import SAN, wait_until

PORT, HTTP = 7707, 8080
# Members of one cluster may differ in this: so that both are here.
ENGINES = [e for e in ("epoll", "auto") if os.environ.get("MEERCAT_ENGINE", "") in ("", e.replace("auto", "uring"))]
ENGINES = ["epoll"] if "thread" in SAN else ENGINES


class NetCluster(Cluster):
    """env: {index of a balancer: its environment}.  server: keys of every server."""

    def __init__(self, lab, net, n, origins=2, env=None, server=None, **kw):
        self.net, self.env = net, env or {}
        self.hosts = [net.host(f"lb{i + 1}") for i in range(n)]
        self.client = net.host("client")
        self.origin_hosts = [net.host(f"s{i}") for i in range(origins)]
        self.origins = []
        for h in self.origin_hosts:
            with h:
                self.origins.append(lab.add(Origin(ok(h.name, fields=[("X-Server", h.name)]), bind=h.address)))
        servers = {h.name: dict(server or {}, address=o.address) for h, o in zip(self.origin_hosts, self.origins)}
        super().__init__(lab, n, servers, addresses=[f"{h.address}:{PORT}" for h in self.hosts],
                         **dict({"admin_http": False}, **kw))

    def _conf(self, i, **more):
        conf = super()._conf(i, listen={"bind": [f"{self.hosts[i].address}:{HTTP}"]}, **more)
        conf.port = HTTP
        return conf

    def start(self, i):
        with self.hosts[i]:
            return self.lab.start(self.confs[i], engine=ENGINES[i % len(ENGINES)], prefix=ENDS_WITH_US,
                                  env=self.env.get(i))

    # --- requests --------------------------------------------------------------------------
    def to(self, i):
        return (self.hosts[i].address, HTTP)

    def load(self, i, **kw):
        """A client that goes on asking that balancer, from the client's host."""
        with self.client:
            return Load(self.to(i), **dict({"threads": 2, "pause": 0.02}, **kw)).start()

    @contextlib.contextmanager
    def traffic(self, *who, **kw):
        """Requests to each of these all the time; not one may fail."""
        loads = [self.load(i, **kw) for i in who]
        try:
            yield loads
        finally:
            for load in loads:
                load.stop()
        for i, load in zip(who, loads):
            assert not load.failures, f"through lb{i + 1}: {load.failures[:3]}\n{self.lbs[i].stderr[-3000:]}"
            assert load.done, f"nothing went through lb{i + 1}"

    # --- what they say ---------------------------------------------------------------------
    def states(self, i):
        """{server: its state} as that balancer has it."""
        return {name.partition("/")[2]: s["state"] for name, s in self.lbs[i].servers().items()}

    def wait_apart(self, *sides, timeout=20):
        """Each side sees its own alive and all others dead."""
        for side in sides:
            for i in side:
                want = {f"lb{k + 1}": "alive" if k in side else "dead" for k in range(self.n)}
                wait_until(lambda: self.members(self.lbs[i]) == want, timeout, f"lb{i + 1} sees {want}")

    def mark(self):
        """The present ends of their logs, for said()."""
        return {lb: len(lb.lines) for lb in self.lbs}

    def said(self, text, since):
        """Lines of all logs with this text."""
        return [f"{lb.conf.top['node']}: {line}" for lb in self.lbs for line in lb.lines[since.get(lb, 0):]
                if text in line]

    def counted(self, i, group, name):
        return self.view(self.lbs[i])["counters"][group][name]
