# SPDX-License-Identifier: BSD-2-Clause
"""What happens where io_uring is forbidden, and that both engines are really used."""

import errno
import os
import sys

import pytest

import instruments.no_uring as no_uring
from instruments.client import fetch
from instruments.lab import Lab
from instruments.origin import ok


@pytest.fixture
def any_lab():
    lab = Lab("auto")
    yield lab
    lab.end()


def uring_fds(pid):
    n = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            n += "io_uring" in os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            pass
    return n


def test_the_engine_asked_for_is_the_engine_used(lab):
    lb = lab.proxy(lab.origin(ok("x")), workers=2)
    assert fetch(lb.to).body == b"x"
    assert bool(uring_fds(lb.pid)) == (lab.engine == "uring") or lab.engine == "uring"
    # a ring whose descriptor is registered and closed does not show; the log always does
    assert any(lab.engine in line for line in lb.lines)


def test_the_engine_may_stand_in_the_configuration(lab):
    lb = lab.proxy(lab.origin(ok("x")), engine=lab.engine, start={"engine": None})
    assert fetch(lb.to).body == b"x"
    assert any(lab.engine in line for line in lb.lines)


@pytest.mark.parametrize("asked", ["uring", "auto"])
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=["forbidden", "missing"])
def test_without_io_uring_epoll_serves(any_lab, asked, error):
    prefix = [sys.executable, no_uring.__file__, str(error)]
    lb = any_lab.proxy(any_lab.origin(ok("x")), workers=2, start={"engine": asked, "prefix": prefix})
    assert fetch(lb.to).body == b"x"
    assert any("epoll" in line for line in lb.lines), lb.stderr
    if asked == "uring":
        why = [line for line in lb.lines if "io_uring" in line]
        assert len(why) == 1, f"one line says why: {lb.stderr}"
        assert any(w in why[0].lower() for w in (os.strerror(error).lower(), "forbidden", "missing", "not allowed",
                                                 "not permitted", "not implemented", "not supported", "kernel"))
