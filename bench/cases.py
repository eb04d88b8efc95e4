# SPDX-License-Identifier: BSD-2-Clause
"""What bench/run measures, and whom: the cases, and the balancers with their configurations.

The cases are in two groups.  Each has its own configurations and is measured for itself: first plain
HTTP/1.1, then the protocols.
"""
import collections
import dataclasses
import os
import pathlib
import shutil
import subprocess

from stage import descendants

CONF = pathlib.Path(__file__).resolve().parent / "conf"

# Every balancer has a port for each of these, one after the other.
PORTS = ["http", "tls", "rsa", "tcp", "grpc"]

# what: is counted; per: how many bytes are one of it, None: a request is.  scale: of microseconds,
# in the table; cpu: its name there.
Unit = collections.namedtuple("Unit", "what per scale cpu")
REQUEST = Unit("request", None, 1, "us")
HANDSHAKE = REQUEST._replace(what="handshake")
MESSAGE = REQUEST._replace(what="message")
GIGABYTE = Unit("GB", 10**9, 1000, "ms")


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    title: str
    load: str              # arguments of the generator
    unit: Unit = REQUEST
    port: str = "http"
    h2: bool = False       # by h2load, else by our own load.c
    n_bytes: int = 0       # h2: of the body of an answer


HTTP1 = [
    Case("get-100", "GET 100 B, keep-alive, 64 connections", "-c 64 -u /b/100 -e 100"),
    Case("get-10k", "GET 10 KB, keep-alive, 64 connections", "-c 64 -u /b/10000 -e 10000"),
    Case("get-1m", "GET 1 MB, keep-alive, 64 connections", "-c 64 -u /b/1000000 -e 1000000"),
    Case("conns-1000", "GET 100 B, keep-alive, 1,000 connections", "-c 1000 -u /b/100 -e 100"),
    Case("new-conn", "GET 100 B, a new connection for each request", "-c 64 -f -u /b/100 -e 100"),
    Case("post-10k", "POST 10 KB, keep-alive, 64 connections", "-c 64 -b 10000 -u /b/100 -e 100"),
]
FRESH = "-c 32 -f -u /b/100 -e 100"
PROTOCOLS = [
    Case("tls-get-100", "GET 100 B, TLS 1.3, keep-alive, 64 connections",
         "-T 1.3 -c 64 -u /b/100 -e 100", port="tls"),
    Case("tls-get-10k", "GET 10 KB, TLS 1.3, keep-alive, 64 connections",
         "-T 1.3 -c 64 -u /b/10000 -e 10000", port="tls"),
    Case("tls-get-1m", "GET 1 MB, TLS 1.3, keep-alive, 64 connections",
         "-T 1.3 -c 64 -u /b/1000000 -e 1000000", port="tls"),
    Case("tls-full", "a new connection with TLS 1.3 for each request, ECDSA P-256",
         f"-T 1.3 {FRESH}", HANDSHAKE, "tls"),
    Case("tls-full-rsa", "a new connection with TLS 1.3 for each request, RSA 2048",
         f"-T 1.3 {FRESH}", HANDSHAKE, "rsa"),
    Case("tls-resumed", "a new connection with TLS 1.3 for each request, resumed",
         f"-T 1.3 -r {FRESH}", HANDSHAKE, "tls"),
    Case("tls12-full", "a new connection with TLS 1.2 for each request, ECDSA P-256",
         f"-T 1.2 {FRESH}", HANDSHAKE, "tls"),
    Case("tls12-resumed", "a new connection with TLS 1.2 for each request, resumed",
         f"-T 1.2 -r {FRESH}", HANDSHAKE, "tls"),
    Case("h2-get-100", "GET 100 B, HTTP/2 over TLS 1.3, 16 connections with 8 streams each",
         "-c 16 -m 8 /b/100", port="tls", h2=True, n_bytes=100),
    Case("h2-get-10k", "GET 10 KB, HTTP/2 over TLS 1.3, 16 connections with 8 streams each",
         "-c 16 -m 8 /b/10000", port="tls", h2=True, n_bytes=10000),
    Case("grpc-unary", "gRPC without TLS, 64 B each way, 16 connections with 8 streams each",
         "-c 16 -m 8 -d @DIR@/message -H content-type:application/grpc -H te:trailers "
         "/bench.Echo/Unary.grpc", port="grpc", h2=True, n_bytes=69),
    Case("ws-64", "WebSocket, messages of 64 B and their echo, 64 connections",
         "-W -c 64 -b 64 -u /websocket", MESSAGE),
    Case("ws-16k", "WebSocket, messages of 16 KB and their echo, 64 connections",
         "-W -c 64 -b 16384 -u /websocket", MESSAGE),
    Case("tcp", "TCP passed through: answers of 250 MB, each on a connection of its own, 4 at a time",
         "-c 4 -f -u /b/250000000 -e 250000000", GIGABYTE, "tcp"),
]

# rounds, seconds: unless the environment says otherwise.  crowd: the case whose memory is shown.
Group = collections.namedtuple("Group", "name cases roster rounds seconds crowd")


# ---- the balancers -------------------------------------------------------------------------------

class Proxy:
    def __init__(self, name, binary, conf, fill, only=None):
        self.name, self.binary, self.conf, self.fill = name, binary, conf, fill
        self.only = only  # the cases in which it is measured; None: all
        self.ports = self.process = self.pss_start_kib = None

    def start(self, children, directory, core, ports, fill):
        self.ports = ports
        fill = {"NAME": self.name, **{k.upper(): v for k, v in ports.items()}, **fill, **self.fill}
        conf = directory / f"{self.name}.conf"
        conf.write_text(filled((CONF / self.conf).read_text(), fill))
        argv = [self.binary] + [a.replace("@CONF@", str(conf)) for a in self.arguments()]
        self.process = children.start(self.name, argv, core)
        children.wait_for_answer(self.process, ports["http"])

    def arguments(self):
        if "haproxy" in self.conf:
            return ["-db", "-f", "@CONF@"]
        if "nginx" in self.conf:
            return ["-c", "@CONF@", "-g", "daemon off;"]
        return ["serve", "-c", "@CONF@", "--engine", self.name.removeprefix("meercat-")]

    def version(self):
        flag = "--version" if self.name.startswith("meercat") else "-v"
        done = subprocess.run([self.binary, flag], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=5)
        return ((done.stdout or done.stderr).splitlines() or ["?"])[0].strip()

    def pids(self):
        return descendants(self.process.pid)

    def measures(self, case):
        return self.only is None or case.name in self.only


def filled(text, fill):
    """Its @NAMES@ replaced, also those in what was filled in."""
    for _ in range(2):
        for key, value in fill.items():
            text = text.replace(f"@{key}@", str(value))
    return text


def others():
    return (os.environ.get("HAPROXY", "/usr/sbin/haproxy"),
            os.environ.get("NGINX", "/usr/sbin/nginx"),
            {"USER": "user root;" if os.geteuid() == 0 else "", "LOCATION": ""})


SPLICE = "option splice-response"
# What makes the others faster with large bodies (measured), so that nobody is beaten only for want
# of a setting.
LARGE_PIPES = "tune.pipesize 262144"


def http1_roster(meercat):
    haproxy, nginx, plain = others()
    large = {"get-1m"}
    buffers = "proxy_buffers 16 64k; proxy_busy_buffers_size 128k;"
    return [
        Proxy("meercat-epoll", meercat, "meercat.conf", {}),
        Proxy("meercat-uring", meercat, "meercat.conf", {}),
        Proxy("haproxy", haproxy, "haproxy.cfg", {"GLOBAL": "", "DEFAULTS": ""}),
        Proxy("haproxy-splice", haproxy, "haproxy.cfg", {"GLOBAL": "", "DEFAULTS": SPLICE}, large),
        Proxy("haproxy-pipe256", haproxy, "haproxy.cfg",
              {"GLOBAL": LARGE_PIPES, "DEFAULTS": SPLICE}, large),
        Proxy("nginx", nginx, "nginx.conf", plain),
        Proxy("nginx-buf64", nginx, "nginx.conf", {**plain, "LOCATION": buffers}, large),
    ]


def protocols_roster(meercat):
    haproxy, nginx, plain = others()
    tcp = {"tcp"}
    alone = {"GLOBAL": "", "TCP_OPTION": ""}
    spliced = {"GLOBAL": "", "TCP_OPTION": SPLICE}
    stream = nginx_stream(nginx)
    without = None if stream else {c.name for c in PROTOCOLS} - tcp
    conf = "protocols-nginx.conf"
    nginxes = [Proxy("nginx", nginx, conf, {**plain, **NO_STREAM, **(stream or {}), "BUFFER": ""}, without)]
    if stream:
        nginxes.append(Proxy("nginx-buf64", nginx, conf,
                             {**plain, **stream, "BUFFER": "proxy_buffer_size 64k;"}, tcp))
    conf = "protocols-haproxy.cfg"
    return [
        Proxy("meercat-epoll", meercat, "protocols-meercat.conf", {}),
        Proxy("meercat-uring", meercat, "protocols-meercat.conf", {}),
        Proxy("haproxy", haproxy, conf, alone),
        Proxy("haproxy-splice", haproxy, conf, spliced, tcp),
        Proxy("haproxy-pipe256", haproxy, conf, {**spliced, "GLOBAL": LARGE_PIPES}, tcp),
        *nginxes,
    ]


NO_STREAM = {"MODULES": "", "STREAM": ""}
STREAM = """stream {
    server {
        listen 127.0.0.1:@TCP@ backlog=4096;
        proxy_pass 127.0.0.1:@ORIGIN@;
        @BUFFER@
    }
}"""


def nginx_stream(nginx):
    """What to fill in for its TCP proxy, which is a module; None: it has none."""
    if not shutil.which(nginx):
        return None
    says = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False).stderr.split()
    modules = next((w.split("=", 1)[1] for w in says if w.startswith("--modules-path=")), "")
    module = pathlib.Path(modules, "ngx_stream_module.so")
    if "--with-stream" in says:
        return {"MODULES": "", "STREAM": STREAM}
    if "--with-stream=dynamic" in says and module.exists():
        return {"MODULES": f"load_module {module};", "STREAM": STREAM}
    return None


GROUPS = [
    Group("http1", HTTP1, http1_roster, 5, 2, "conns-1000"),
    Group("protocols", PROTOCOLS, protocols_roster, 4, 1.5, None),
]
CASES = [case for group in GROUPS for case in group.cases]
