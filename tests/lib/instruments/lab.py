# SPDX-License-Identifier: BSD-2-Clause
"""Everything that a test starts, and its orderly end: clients first, then Meercat, then origins."""

import os
import tempfile

from .client import Client
from .conf import Conf
from .meercat import Meercat
from .origin import Origin
from .peers import Dnsmasq, HAProxy, Nginx, NotifySocket
from .ports import free_port


class Lab:
    def __init__(self, engine):
        self.engine = engine
        self.tmp = tempfile.mkdtemp(prefix="mc-", dir=os.environ.get("TMPDIR", "/tmp"))
        os.chmod(self.tmp, 0o755)
        self.clients, self.balancers, self.others = [], [], []
        self._n = 0

    def dir(self, name):
        self._n += 1
        path = os.path.join(self.tmp, f"{name}{self._n}")
        os.mkdir(path)
        return path

    def _keep(self, thing):
        self.others.append(thing)
        return thing

    def origin(self, *a, **kw):
        return self._keep(Origin(*a, **kw))

    def nginx(self, *a, **kw):
        return self._keep(Nginx(self.dir("n"), *a, **kw))

    def haproxy(self, *a, **kw):
        return self._keep(HAProxy(self.dir("h"), *a, **kw))

    def dnsmasq(self, *a, **kw):
        return self._keep(Dnsmasq(self.dir("d"), *a, **kw))

    def notify_socket(self):
        return self._keep(NotifySocket(self.dir("s")))

    def add(self, thing):
        """Something with stop() and check()."""
        return self._keep(thing)

    def client(self, to, **kw):
        c = Client(to, **kw)
        self.clients.append(c)
        return c

    def conf(self, servers, listen=None, pool=None, routes=True, admin_http=False, log=None, **top):
        """One listener "web", one pool "app", one route.  servers: origins, addresses, or a dict."""
        d = self.dir("m")
        port = free_port()
        if not isinstance(servers, dict):
            if not isinstance(servers, (list, tuple)):
                servers = [servers]
            servers = {f"s{i + 1}": s for i, s in enumerate(servers)}
        servers = {n: getattr(s, "address", s) for n, s in servers.items()}
        for s in servers.values():
            if isinstance(s, dict):
                s["address"] = getattr(s["address"], "address", s["address"])
        top = dict({"workers": 1, "drain_timeout": "2s"}, **top)
        admin = {"socket": os.path.join(d, "admin.sock")}
        if admin_http:
            admin["http"] = f"127.0.0.1:{free_port()}"
        top.setdefault("admin", admin)
        if log:
            top["access_log"] = {"file": os.path.join(d, "access.log"), "format": log}
        conf = Conf(**top)
        conf.dir, conf.port = d, port
        conf.log_path = os.path.join(d, "access.log")
        conf.listen("web", **dict({"bind": [f"127.0.0.1:{port}"]}, **(listen or {})))
        conf.pool("app", servers, **dict({"balance": "round-robin"}, **(pool or {})))
        if routes:
            conf.route("all", "app")
        return conf

    def start(self, conf, ports=None, **kw):
        kw.setdefault("engine", self.engine)
        m = Meercat(conf, conf.dir, ports=[conf.port] if ports is None else ports,
                    socket_path=conf.top.get("admin", {}).get("socket"), **kw)
        m.conf, m.log_path = conf, conf.log_path
        self.balancers.append(m)
        return m

    def proxy(self, servers, start=None, **kw):
        """A balancer before these servers, started."""
        return self.start(self.conf(servers, **kw), **(start or {}))

    def end(self):
        faults = []
        for c in self.clients:
            c.close()
        for things in (self.balancers, self.others):
            for t in things:
                getattr(t, "begin_stop", lambda: None)()
            for t in reversed(things):
                try:
                    t.stop()
                    t.check()
                except AssertionError as e:
                    faults.append(str(e))
        import shutil
        shutil.rmtree(self.tmp, ignore_errors=True)
        assert not faults, "\n".join(faults)
