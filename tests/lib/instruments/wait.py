# SPDX-License-Identifier: BSD-2-Clause
"""Waiting on conditions, never for a time."""

import os
import time

# The variant that is tested: "" for release, "address-undefined", "thread".
SAN = os.environ.get("MEERCAT_SAN", "").replace(",", "-").replace("release", "")
SLOW = 4.0 if SAN else 1.0


class Timeout(AssertionError):
    pass


def wait_until(cond, timeout=5.0, what="", interval=0.005):
    """Calls cond() until it is true and returns its value; Timeout after `timeout` seconds."""
    end = time.monotonic() + timeout * SLOW
    pause = interval
    while True:
        value = cond()
        if value:
            return value
        if time.monotonic() >= end:
            raise Timeout(f"not within {timeout * SLOW:g} s: {what or cond.__name__}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def stays(cond, for_s, what="", interval=0.01):
    """Asserts that cond() stays true for a time: the only way to see that something does not happen."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        assert cond(), what or "did not stay so"
        time.sleep(interval)


class Clock:
    """How long a block took: `with Clock() as c: ...; assert 0.2 < c.s < 1`."""

    def __enter__(self):
        self.begin = time.monotonic()
        self.s = None
        return self

    def __exit__(self, *_):
        self.s = time.monotonic() - self.begin

    @property
    def so_far(self):
        return time.monotonic() - self.begin
