# SPDX-License-Identifier: BSD-2-Clause
"""`meercat lab` as tests use it (docs/lab.md).

    with MeercatLab("lab/three.conf") as lab:
        lab.exec("client", "curl", "-sf", "http://10.9.0.1/").stdout
        load = lab.popen("client", "wrk", ...)
        lab.cut("lb1");  lab.heal()
        lab.cut("lb1,lb2", "lb3");  lab.cut("lb1.front");  lab.cut("cluster")
        lab.kill("lb1");  lab.start("lb1");  lab.kill("lb2", "meercat", signal="USR2")
        with lab.at("client"):
            ...    what is started here runs on that host's network: threads, sockets, processes

Several at once do not know of each other; each has a name of its own.  exec() and popen() run in the
laboratory's PID namespace: they end with it.
"""

import itertools
import json
import os
import subprocess

from .meercat import BINARY, ROOT, san_env
from .netns import Netns
from .wait import SLOW

_numbers = itertools.count(1)


class LabError(Exception):
    """What `meercat lab` said against something."""


class _Net(Netns):
    """The network of a host; of a laboratory, so that nothing is made here."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._back = []


class MeercatLab:
    def __init__(self, topology, name=None, dir=None, timeout=60):
        self.topology = os.path.join(ROOT, topology)
        self.name = name or f"t{os.getpid()}-{next(_numbers)}"
        self.dir, self.timeout = dir, timeout * SLOW
        self._nets = {}

    # --- up and down -----------------------------------------------------------------------
    def up(self):
        self.run("up", *(["--dir", self.dir] if self.dir else []), self.topology)
        return self

    def down(self):
        for n in self._nets.values():
            n.close()
        self._nets = {}
        self.run("down")

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.down()

    # --- commands --------------------------------------------------------------------------
    def argv(self, verb, *args):
        return [BINARY, "lab", verb, "--name", self.name, *args]

    def run(self, verb, *args):
        """`meercat lab VERB`; its output.  LabError when it failed."""
        p = subprocess.run(self.argv(verb, *args), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=self.timeout, env=dict(os.environ, **san_env()))
        if p.returncode != 0:
            raise LabError(p.stderr.strip())
        return p.stdout

    def exec(self, host, *argv, check=True, timeout=30, **kw):
        """Runs to its end; has .returncode, .stdout, .stderr as text."""
        kw = dict({"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}, **kw)
        p = subprocess.run(self.argv("exec", host, *argv), timeout=timeout * SLOW, **kw)
        if check and p.returncode != 0:
            raise LabError(f"{host}: {' '.join(argv)}: {p.returncode}\n{p.stdout}{p.stderr}")
        return p

    def popen(self, host, *argv, **kw):
        """Started; ends with the laboratory at the latest."""
        return subprocess.Popen(self.argv("exec", host, *argv), **dict({"stdin": subprocess.DEVNULL}, **kw))

    def at(self, host):
        """`with lab.at(HOST):` puts the calling thread, and what it starts, on the host's network."""
        if host not in self._nets:
            self._nets[host] = _Net(self.host(host)["net"])
        return self._nets[host]

    # --- what there is ---------------------------------------------------------------------
    def status(self):
        return json.loads(self.run("status", "--json"))

    def host(self, name):
        return next(h for h in self.status()["hosts"] if h["name"] == name)

    def hosts(self, role=None):
        return [h["name"] for h in self.status()["hosts"] if role in (None, h["role"])]

    def program(self, host, name):
        """{"name", "state", "pids", "log"}"""
        return next(p for p in self.host(host)["programs"] if p["name"] == name)

    def meercat(self, host, *args, **kw):
        """The command line of the balancer on that host: lab.meercat("lb1", "members", "--json")."""
        return self.exec(host, BINARY, *args, **kw)

    # --- programs --------------------------------------------------------------------------
    def start(self, host, *program):
        self.run("start", host, *program)

    def stop(self, host, *program):
        self.run("stop", host, *program)

    def kill(self, host, *program, signal=None):
        self.run("kill", *(["--signal", signal] if signal else []), host, *program)

    def freeze(self, host, *program, whole=False):
        """SIGSTOP; whole: its control group, so that nothing new can run there either."""
        self.run("freeze", *(["--host"] if whole else []), host, *program)

    def thaw(self, host, *program):
        self.run("thaw", host, *program)

    def slow(self, host, percent):
        self.run("slow", host, f"{percent}%")

    # --- networks --------------------------------------------------------------------------
    def cut(self, a, b=None, one_way=False):
        self.run("cut", *(["--one-way"] if one_way else []), a, *([b] if b else []))

    def loss(self, a, percent):
        self.run("loss", a, f"{percent}%")

    def delay(self, a, ms):
        self.run("delay", a, f"{ms}ms")

    def heal(self, *a):
        self.run("heal", *a)
