# SPDX-License-Identifier: BSD-2-Clause
"""Real neighbours: nginx, HAProxy, dnsmasq, and the socket that systemd would hold."""

import os
import socket

from . import proc
from .ports import free_port
from .process import Process
from .wait import wait_until


class Nginx(Process):
    """nginx as an origin, one process that can be killed: name in X-Server, files under root."""

    def __init__(self, directory, name="nginx", location="", http="", port=None, root=None, listen=""):
        self.name, self.port = name, port or free_port()
        self.dir = os.path.join(directory, f"nginx-{name}-{self.port}")
        self.root = root or os.path.join(self.dir, "root")
        os.makedirs(self.dir, exist_ok=True)
        os.makedirs(self.root, exist_ok=True)
        with open(os.path.join(self.root, "index.html"), "w") as f:
            f.write(f"{name}\n")
        os.chmod(directory, 0o755)
        conf = os.path.join(self.dir, "nginx.conf")
        with open(conf, "w") as f:
            f.write(f"""
daemon off; master_process off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/error.log;
user root; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log {self.dir}/access.log;
  client_body_temp_path {self.dir}/body; proxy_temp_path {self.dir}/proxy; fastcgi_temp_path {self.dir}/f;
  uwsgi_temp_path {self.dir}/u; scgi_temp_path {self.dir}/s;
  client_max_body_size 0; keepalive_requests 1000000; keepalive_timeout 60s; tcp_nodelay on; sendfile on;
  default_type text/plain;
  {http}
  server {{
    listen 127.0.0.1:{self.port} backlog=1024 {listen};
    root {self.root};
    add_header X-Server {name};
    location = /name {{ return 200 "{name}\\n"; }}
    location = /healthz {{ access_log off; return 200 "ok\\n"; }}
    location = /204 {{ return 204; }}
    location = /headers {{ return 200 "$http_x_forwarded_for|$http_via|$host|$request_uri\\n"; }}
    location /dav/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
    {location}
  }}
}}
""")
        super().__init__(["nginx", "-p", self.dir, "-c", conf, "-e", f"{self.dir}/error.log"])
        wait_until(lambda: self.running() and self.port in proc.listening_ports(), 10, f"nginx listens\n{self.stderr}")

    address = property(lambda self: f"127.0.0.1:{self.port}")


class HAProxy(Process):
    """HAProxy as an origin that answers by itself, or as a proxy before another origin."""

    def __init__(self, directory, name="haproxy", backend=None, extra="", bind="", text="%[method] %[path]"):
        self.name, self.port = name, free_port()
        self.dir = os.path.join(directory, f"haproxy-{name}-{self.port}")
        os.makedirs(self.dir)
        conf = os.path.join(self.dir, "haproxy.cfg")
        answer = (f"server s {backend}" if backend else
                  f'http-request return status 200 content-type text/plain lf-string "{name} {text}\\n" '
                  f"hdr X-Server {name}")
        with open(conf, "w") as f:
            f.write(f"""
global
  maxconn 2000
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 2s
  timeout http-keep-alive 30s
frontend f
  bind 127.0.0.1:{self.port} {bind}
  default_backend b
backend b
  {extra}
  {answer}
""")
        super().__init__(["haproxy", "-db", "-f", conf])
        wait_until(lambda: self.running() and self.port in proc.listening_ports(), 10, f"haproxy listens\n{self.stderr}")

    address = property(lambda self: f"127.0.0.1:{self.port}")


class Dnsmasq(Process):
    """A DNS server on a loopback port.  hosts: {name: [addresses]}."""

    def __init__(self, directory, hosts, ttl=1, port=None):
        self.port = port or free_port(udp=True)
        self.dir = os.path.join(directory, f"dnsmasq-{self.port}")
        os.makedirs(self.dir, exist_ok=True)
        self.hosts_path = os.path.join(self.dir, "hosts")
        self.write(hosts)
        super().__init__(["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                          f"--addn-hosts={self.hosts_path}", f"--port={self.port}", "--listen-address=127.0.0.1",
                          "--bind-interfaces", f"--local-ttl={ttl}", "--local=/test/", "--user=root",
                          "--pid-file=", "--log-facility=-", "--log-queries", "--cache-size=0"])
        wait_until(lambda: self.running() and self.port in proc.listening_ports(), 10, f"dnsmasq listens\n{self.stderr}")

    def write(self, hosts):
        with open(self.hosts_path, "w") as f:
            for name, addresses in hosts.items():
                for a in addresses:
                    f.write(f"{a} {name}\n")

    def change(self, hosts):
        import signal
        self.write(hosts)
        n = sum("read " in l for l in self.lines)
        self.signal(signal.SIGHUP)
        wait_until(lambda: sum("read " in l for l in self.lines) > n, 5, "dnsmasq read its hosts again")

    def queries(self, name):
        return sum(f"query[" in l and name in l for l in self.lines)

    address = property(lambda self: f"127.0.0.1:{self.port}")


class NotifySocket:
    """What systemd holds at the other end of NOTIFY_SOCKET."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o777)
        self.sock.setblocking(False)
        self.seen = []

    def pump(self):
        while True:
            try:
                self.seen += self.sock.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.seen

    def wait(self, word, timeout=5):
        """The first assignment that begins with word; those before it are forgotten."""
        def found():
            self.pump()
            for i, s in enumerate(self.seen):
                if s.startswith(word):
                    del self.seen[:i + 1]
                    return s
            return None
        return wait_until(found, timeout, f"{word} from sd_notify, have {self.seen}")

    def check(self):
        pass

    def stop(self):
        self.sock.close()
