# SPDX-License-Identifier: BSD-2-Clause
"""Three balancers that carry one address, and a router that spreads clients' flows over them.

    c = VipCluster(lab, net); c.wait_together()
    s = c.steady(50); c.kill(1); s.wait_for(1000); ...

All are on one Ethernet; the client knows the address by the router only, and answers come to it straight.
The router spreads by addresses and ports (ECMP) and knows nothing of who is alive: route() tells it.
"""

import json

from .cluster import Cluster
from .netns import ENDS_WITH_US
from .origin import Origin, ok
from .starved import Starved, Watch
from .steady import Steady, body_of
from .wait import wait_until

VIP, HTTP, PORT = "10.99.0.1", 8080, 7707


class VipCluster(Cluster):
    """answer: f(conn, request) -> bytes.  listen, takeover: keys of these sections.  program: what they run."""

    def __init__(self, lab, net, n=3, origins=2, size=400, answer=None, listen=None, takeover=None, program=None, **kw):
        self.net, self.size = net, size
        self.start_keys = {"program": program} if program else {}
        self.listen, self.takeover_keys = dict({"takeover": {}}, **(listen or {})), takeover
        self.hosts = [net.host(f"lb{i + 1}") for i in range(n)]
        self.client, self.router = net.host("client"), net.host("router")
        self.steadies, self.origins, servers = [], [], {}
        self.watch = None
        for i in range(origins):
            h = net.host(f"s{i}")
            with h:
                o = lab.add(Origin(answer or (lambda conn, r: ok(body_of(r.target, size))), bind=h.address))
            o.keep = False
            self.origins.append(o)
            servers[h.name] = {"address": o.address}
        self._lay_out()
        super().__init__(lab, n, servers, addresses=[f"{h.address}:{PORT}" for h in self.hosts],
                         **dict({"admin_http": False, "workers": 2}, **kw))

    def _lay_out(self):
        for h in self.hosts:
            h.ip(f"addr add {VIP}/32 dev lo")
        self.client.ip(f"route add {VIP}/32 via {self.router.address}")
        with self.router:
            for name, value in (("ip_forward", 1), ("conf/all/send_redirects", 0), ("conf/eth0/send_redirects", 0),
                                ("fib_multipath_hash_policy", 1)):
                with open(f"/proc/sys/net/ipv4/{name}", "w") as f:
                    f.write(str(value))
        self.route(*range(len(self.hosts)))

    def route(self, *via):
        """From now on clients' flows go to these."""
        hops = " ".join(f"nexthop via {self.hosts[i].address}" for i in via)
        self.router.ip(f"route replace {VIP}/32 {hops}")

    def _conf(self, i, **more):
        keys = {"takeover": self.takeover_keys} if self.takeover_keys else {}
        conf = super()._conf(i, listen=dict(self.listen, bind=[f"{VIP}:{HTTP}"]), **keys, **more)
        conf.port = HTTP
        return conf

    def start(self, i):
        with self.hosts[i]:
            return self.lab.start(self.confs[i], prefix=ENDS_WITH_US, **self.start_keys)

    # --- what they say ---------------------------------------------------------------------
    def status(self, i):
        return json.loads(self.lbs[i].cli("status", "--json", ok=False).stdout)

    def takeover(self, i):
        return self.status(i)["takeover"]

    def counted(self, name, who=None):
        return sum(self.takeover(i)["counters"][name] for i in who or range(self.n))

    def is_whole(self, i, others):
        """It has its lease, reaches the others, and one of them has its flows."""
        t = self.takeover(i)
        peers = {p["name"]: p for p in t["peers"]}
        return (t["lease"] and any(p["role"] == "holder" for p in t["peers"]) and
                all(name in peers and peers[name]["alive"] and peers[name]["reachable"] for name in others))

    def wait_together(self, who=None, timeout=20):
        who = list(range(self.n)) if who is None else who
        for i in who:
            others = [f"lb{k + 1}" for k in who if k != i]
            wait_until(lambda: self.is_whole(i, others), timeout, f"lb{i + 1} and {others} take over for each other")
        if self.watch is None:
            self.watch = self.lab.add(Watch({f"lb{i + 1}": self.lbs[i].pid for i in who}, self.slept(who)))

    def slept(self, who):
        """How often they did not run for two beats and more."""
        return {f"lb{i + 1}": self.takeover(i)["beats"]["slept"] for i in who}

    # --- clients ---------------------------------------------------------------------------
    def steady(self, n, **kw):
        s = self.lab.add(Steady(self.client, (VIP, HTTP), n, **dict({"size": self.size}, **kw)))
        self.steadies.append(s)
        wait_until(lambda: s.done >= 2 * n or s.last.get("failures"), 20, "all connections are in use")
        return s

    def end_steady(self, s):
        """Its report; nothing may have failed, unless the machine had no time for balancers."""
        report = s.stop()
        self.watch.stop()
        unharmed = [i for i in range(self.n) if i != 1 and self.lbs[i].running()]
        if report["failures"] and (why := self.watch.excuse(self.slept(unharmed))):
            raise Starved(f"{why}: {report['failures'][:1]}")
        assert not report["failures"], f"{len(report['failures'])} of {report['done']}: {report['failures'][:3]}"
        return report
