# SPDX-License-Identifier: BSD-2-Clause
"""Starts Meercat, waits until it serves, and sees that it ends well."""

import json
import os
import re
import signal
import socket
import subprocess

from . import proc
from .client import Client
from .heir import Heir
from .process import Process
from .wait import SAN, SLOW, wait_until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BINARY = os.environ.get("MEERCAT") or os.path.join(ROOT, "build", SAN or "release", "meercat")

REPORTS = re.compile(
    r"(ERROR: \w*Sanitizer|WARNING: \w*Sanitizer|LeakSanitizer|runtime error:|SUMMARY: \w*Sanitizer"
    r"|stack smashing|buffer overflow detected|double free|corrupted|panic|assertion)", re.I)


def san_env():
    if "thread" in SAN:
        return {"TSAN_OPTIONS": "halt_on_error=0:second_deadlock_stack=1:exitcode=66"}
    if SAN:
        return {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=66:detect_stack_use_after_return=1",
                "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
    return {}


def command(*args, timeout=20, env=None, stdin=None):
    """Runs `meercat args...`; the result has .returncode, .stdout, .stderr as text."""
    return subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout * SLOW, env=dict(os.environ, **san_env(), **(env or {})))


class Meercat(Process):
    """conf: the text.  ports: TCP ports that must listen before it counts as ready."""

    def __init__(self, conf, directory, engine="auto", ports=(), socket_path=None, prefix=(), env=None,
                 preexec=None, wait=True, pass_fds=(), program=BINARY):
        self.conf_path = os.path.join(directory, "meercat.conf")
        self.write_conf(conf)
        self.ports, self.socket_path, self.engine = list(ports), socket_path, engine
        self.expect_status = 0
        self.expect_reports = False
        self._is_stopping = self._was_stopped = self.hung = False
        self.clients = []
        self.before = []  # processes whose place another has taken
        chosen = ["--engine", engine] if engine else []
        super().__init__([*prefix, program, "serve", "-c", self.conf_path, *chosen], env=dict(san_env(), **(env or {})), preexec=preexec, pass_fds=pass_fds)
        if wait:
            self.wait_ready()

    def write_conf(self, conf):
        with open(self.conf_path, "w") as f:
            f.write(str(conf))

    def wait_ready(self, timeout=10):
        def ready():
            if not self.running():
                self._reader.join(2)
                raise AssertionError(f"meercat ended with {self.child.returncode}:\n{self.stderr}")
            if not set(self.ports) <= proc.listening_ports():
                return False
            return self._socket_answers()
        try:
            wait_until(ready, timeout, "meercat is ready")
        except AssertionError as e:
            if self.running():
                self.kill()
            raise AssertionError(f"{e}\n{self.stderr}") from None
        return self

    def _socket_answers(self):
        if not self.socket_path:
            return True
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(self.socket_path)
            return True
        except OSError:
            return False
        finally:
            s.close()

    # --- its doors -------------------------------------------------------------------------
    @property
    def port(self):
        return self.ports[0]

    @property
    def to(self):
        return ("127.0.0.1", self.port)

    def client(self, port=None, **kw):
        c = Client(("127.0.0.1", port or self.port), **kw)
        self.clients.append(c)
        return c

    def cli(self, *args, ok=True):
        r = command(args[0], "--socket", self.socket_path, *args[1:])
        if ok:
            assert r.returncode == 0, f"meercat {args}: {r.returncode}\n{r.stdout}{r.stderr}"
        return r

    def cli_json(self, *args):
        return json.loads(self.cli(*args, "--json").stdout)

    # --- reload ----------------------------------------------------------------------------
    def reload(self, conf=None, ports=None):
        """SIGHUP and nothing else: what shows that it worked is the test's to wait for."""
        if conf is not None:
            self.write_conf(conf)
        if ports is not None:
            self.ports = list(ports)
        self.signal(signal.SIGHUP)

    # --- upgrade ---------------------------------------------------------------------------
    def upgrade(self, signal=None):
        """Another process takes over, which is this one from then on; the one before goes when it is done."""
        Heir.adopt_orphans()
        before = self.pid
        if signal is None:
            heir = self.cli_json("upgrade")["pid"]
        else:
            self.signal(signal)
            wait_until(lambda: self._serving() not in (None, before), 30, f"another process serves\n{self.stderr[-2000:]}")
            heir = self._serving()
        self.before.append(self.child)
        self.child = Heir(heir)
        self.pid = heir

    def _serving(self):
        r = self.cli("status", "--json", ok=False)
        return json.loads(r.stdout)["pid"] if r.stdout.startswith("{") else None

    def wait_gone(self, timeout=10):
        """The processes before have ended, all well."""
        for child in self.before:
            wait_until(lambda: child.poll() is not None, timeout, f"process {child.pid} ends\n{self.stderr[-2000:]}")
            assert child.returncode == 0, f"process {child.pid} ended with {child.returncode}\n{self.stderr[-2000:]}"
        self.before = []

    # --- the end ---------------------------------------------------------------------------
    def begin_stop(self):
        """SIGTERM; stop() waits for the end, which may take a second: several end side by side."""
        if self._is_stopping:
            return
        self._is_stopping = True
        for c in self.clients:
            c.close()
        for child in self.before:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                child.wait()
        if self.running():
            self.child.send_signal(signal.SIGTERM)

    def stop(self, timeout=15):
        """SIGTERM; killed when it does not end in time, which check() then reports."""
        if self._was_stopped:
            return self.child.returncode
        self.begin_stop()
        self._was_stopped = True
        if self.running():
            try:
                self.child.wait(timeout * SLOW)
            except subprocess.TimeoutExpired:
                self.hung = True
                self.child.send_signal(signal.SIGKILL)
                self.child.wait()
        if isinstance(self.child, Heir):
            Heir.adopt_orphans(False)
        self._reader.join(5)
        return self.child.returncode

    def check(self):
        """After stop(): it ended as it should, and no sanitizer or assertion had anything to say."""
        self.stop()
        said = self.stderr
        assert self.expect_reports or not REPORTS.search(said), f"meercat reported:\n{said[-6000:]}"
        assert not self.hung, f"meercat did not end after SIGTERM:\n{said[-3000:]}"
        if self.expect_status is not None:
            assert self.child.returncode == self.expect_status, \
                f"meercat ended with {self.child.returncode}, expected {self.expect_status}:\n{said[-3000:]}"

    # --- what it says of its servers -------------------------------------------------------
    def servers(self):
        """{"pool/server": what the API says of it}, from `meercat servers --json`."""
        found = {}

        def walk(x, pool):
            if isinstance(x, dict):
                if "state" in x and ("name" in x or "server" in x):
                    name, of = x.get("name", x.get("server")), x.get("pool", pool)
                    found[f"{of}/{name}"] = x
                here = x.get("name", pool) if "servers" in x else x.get("pool", pool)
                for k, v in x.items():
                    walk(v, here if isinstance(here, str) else k)
            elif isinstance(x, list):
                for v in x:
                    walk(v, pool)
        walk(self.cli_json("servers"), None)
        return found

    def state(self, server, pool="app"):
        s = self.servers()[f"{pool}/{server}"]["state"]
        return s if isinstance(s, str) else s["name"]

    def wait_state(self, server, state, timeout=5, pool="app"):
        def is_so():
            return self.state(server, pool) == state
        try:
            wait_until(is_so, timeout, f"{server} is {state}", interval=0.02)
        except AssertionError:
            raise AssertionError(f"{server} did not become {state}: {self.servers()}\n{self.stderr[-2000:]}") from None

    def metrics(self):
        """{name with labels: value} from /metrics."""
        from .client import fetch
        host, port = self.conf.top["admin"]["http"].rsplit(":", 1)
        r = fetch((host, int(port)), "/metrics")
        assert r.status == 200, r
        out = {}
        for line in r.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    def metric(self, name, **labels):
        """The sum of the samples of that name which carry these labels."""
        total, seen = 0.0, False
        for key, v in self.metrics().items():
            base, _, rest = key.partition("{")
            if base == name and all(f'{k}="{w}"' in rest for k, w in labels.items()):
                total, seen = total + v, True
        assert seen, f"no metric {name} {labels}"
        return total

    # --- access log ------------------------------------------------------------------------
    def log_lines(self, n=0, timeout=5):
        """Lines of the access log; waits until there are n of them."""
        def read():
            try:
                with open(self.log_path) as f:
                    return f.read().splitlines()
            except FileNotFoundError:
                return []
        if n:
            wait_until(lambda: len(read()) >= n, timeout, f"{n} lines in the access log, have {len(read())}")
        return read()

    def log_json(self, n=0, **kw):
        return [json.loads(x) for x in self.log_lines(n, **kw)]
