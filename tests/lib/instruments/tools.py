# SPDX-License-Identifier: BSD-2-Clause
"""The programs of bench/ as tests use them: floods, steady clients, servers that keep a ledger.

    with host:
        said = run("steady", "-a", address, "-p", "80", "-r", "1000")      {"requests": ..., "failed": ...}
    lab.add(Tool("ledger", "-a", ..., host=h))                             ended with the laboratory
"""

import fcntl
import functools
import json
import os
import subprocess

from .meercat import ROOT
from .netns import ENDS_WITH_US
from .wait import SLOW


@functools.cache
def tools():
    """The directory that they are in; made when something is missing, by one process after the other."""
    # a make that runs the tests has a jobserver that is not for us
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    path = os.path.join(ROOT, "build/release/bench")
    os.makedirs(path, exist_ok=True)
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["make", "-s", "-f", "bench/bench.mk", "bench-tools"], cwd=ROOT, check=True, env=env,
                       stdout=subprocess.DEVNULL)
    finally:
        os.close(lock)
    return path


def argv(name, *args):
    return [*ENDS_WITH_US, os.path.join(tools(), name), *map(str, args)]


class Tool:
    """Started on this host (a namespace; None: here)."""

    def __init__(self, name, *args, host=None):
        self.name = name
        command = argv(name, *args)
        kw = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        if host:
            with host:
                self.child = subprocess.Popen(command, **kw)
        else:
            self.child = subprocess.Popen(command, **kw)

    def said(self, timeout=60):
        """What it says at its end: a line of JSON.  What it told on stderr is in .told."""
        out, self.told = self.child.communicate(timeout=timeout * SLOW)
        assert out, f"{self.name} said nothing: {self.told}"
        return json.loads(out)

    def stop(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdout, self.child.stderr):
            pipe.close()

    def check(self):
        pass
