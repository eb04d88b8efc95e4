# SPDX-License-Identifier: BSD-2-Clause
"""Several balancers on this host as one cluster.

    c = Cluster(lab, 3, servers); c.wait_alive()
    c[0].cli("drain", "app/s1");  c.kill(1);  c.restart(1)
"""

import base64
import json
import os
import signal

from .ports import free_port
from .wait import wait_until


class Cluster:
    def __init__(self, lab, n, servers, start=True, key=None, addresses=None, **kw):
        self.lab, self.n, self.servers, self.kw = lab, n, servers, kw
        self.key_file = self.write_key(lab, key)
        self.addresses = addresses or [f"127.0.0.1:{free_port()}" for _ in range(n)]
        self.confs = [self._conf(i) for i in range(n)]
        self.lbs = [self.start(i) for i in range(n)] if start else []

    @staticmethod
    def write_key(lab, *keys):
        path = os.path.join(lab.dir("key"), "cluster.key")
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            for k in keys:
                f.write(base64.b64encode(k or os.urandom(32)).decode() + "\n")
        return path

    def _conf(self, i, **more):
        servers = self.servers(i) if callable(self.servers) else dict(self.servers)
        servers = {n: dict(s) if isinstance(s, dict) else s for n, s in servers.items()}
        kw = dict({"admin_http": True, "drain_timeout": "1s"}, **self.kw)
        kw.update(more)
        return self.lab.conf(servers, node=f"lb{i + 1}",
                             cluster={"bind": self.addresses[i], "key_file": self.key_file,
                                      "join": [a for k, a in enumerate(self.addresses) if k != i]}, **kw)

    def start(self, i):
        return self.lab.start(self.confs[i])

    def __getitem__(self, i):
        return self.lbs[i]

    def __iter__(self):
        return iter(self.lbs)

    @staticmethod
    def members(lb):
        """{name: state} as that one sees it."""
        return {m["name"]: m["state"] for m in Cluster.view(lb)["members"]}

    @staticmethod
    def view(lb):
        r = lb.cli("members", "--json", ok=False)  # exits with 1 when one of them is dead
        return json.loads(r.stdout)

    def sees(self, i, **states):
        seen = self.members(self.lbs[i])
        return all(seen.get(name) == state for name, state in states.items())

    def wait_alive(self, who=None, timeout=15):
        who = list(range(len(self.lbs))) if who is None else who
        names = {f"lb{i + 1}": "alive" for i in who}
        for i in who:
            wait_until(lambda: self.sees(i, **names), timeout, f"lb{i + 1} sees {sorted(names)} alive")

    def wait_seen(self, name, state, by, timeout=15):
        for i in by:
            wait_until(lambda: self.members(self.lbs[i]).get(name) == state, timeout,
                       f"lb{i + 1} sees {name} {state}")

    def kill(self, i):
        self.lbs[i].kill()
        self.lbs[i].expect_status = -signal.SIGKILL

    def restart(self, i):
        self.lbs[i] = self.start(i)
        return self.lbs[i]
