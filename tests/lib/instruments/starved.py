# SPDX-License-Identifier: BSD-2-Clause
"""Plays that showed nothing, because the machine had no core for a balancer.

Balancers find each other dead after 80 ms without a beat, and where nothing else tells who lives, one that does not
run for so long may lose what it should not.  That is so on a busy machine, and is no fault of theirs; but a balancer
that is late by its own doing is one.  What tells them apart is the kernel's word: how long the thread that beats
was runnable and did not run (/proc/PID/task/TID/schedstat), and what the machine itself was not given (steal).

    watch = Watch({"lb1": pid, ...}, slept); ...; watch.stop()
    if failed and (why := watch.excuse({"lb1": slept, ...})): raise Starved(why)

A test that ends so is begun again, twice at most (limits.py), and is skipped when the machine never had the time.
"""

import os
import threading

import pytest

BEAT_S = 0.02  # takeover's beat-interval; "slept" counts when it is exceeded by another one
LOOK_S = 0.01
TICK = os.sysconf("SC_CLK_TCK")


class Starved(pytest.skip.Exception):
    """No verdict."""

    def __init__(self, why):
        super().__init__(f"starved machine: {why}")


def beater(pid):
    """The directory in /proc of the thread that beats; None: that process has none."""
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/comm") as f:
                if f.read().strip() == "takeover":
                    return f"/proc/{pid}/task/{tid}"
    except OSError:
        pass
    return None


def _waited_s(thread):
    """How long it was runnable and did not run, since its beginning; None: it has ended."""
    try:
        with open(thread + "/schedstat") as f:
            return int(f.read().split()[1]) / 1e9
    except OSError:
        return None


def _stolen_s():
    with open("/proc/stat") as f:
        return int(f.readline().split()[8]) / TICK


class Watch:
    """pids: {name: pid}, whose takeover is on.  slept: {name: how often it says that it overslept}."""

    def __init__(self, pids, slept):
        self.pids, self.slept = pids, slept
        self.longest = {}  # name: the longest that its thread waited for a core between two looks
        self.stolen_s = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self):
        self._ending.set()
        self._thread.join()

    def check(self):
        pass

    def _run(self):
        threads = {n: t for n, p in self.pids.items() if (t := beater(p))}
        before, stolen = {n: _waited_s(t) for n, t in threads.items()}, _stolen_s()
        while not self._ending.wait(LOOK_S):
            for name, thread in threads.items():
                now = _waited_s(thread)
                if now is not None and before[name] is not None:
                    self.longest[name] = max(self.longest.get(name, 0.0), now - before[name])
                before[name] = now
        self.stolen_s = _stolen_s() - stolen

    def excuse(self, slept):
        """After stop().  slept: what those say now to which nothing was done.  Why one overslept meanwhile, when that
        was the machine's doing; else None."""
        for name, times in slept.items():
            late, waited = times - self.slept[name], self.longest.get(name, 0.0)
            if late > 0 and max(waited, self.stolen_s) >= BEAT_S:
                return f"{name} overslept {late} times, and waited for a core for {waited * 1e3:.0f} ms"
        return None
