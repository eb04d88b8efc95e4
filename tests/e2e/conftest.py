# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures: the engine, the lab, and a bound on the time of every test.

Environment: MEERCAT (the binary), MEERCAT_SAN (address-undefined or thread: the variant that it is),
MEERCAT_ENGINE (epoll or uring: only that one), MEERCAT_BIG (bodies of 10 GB).
"""

import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from instruments.lab import Lab  # noqa: E402
from instruments.meercat import BINARY  # noqa: E402
from instruments.wait import SAN, SLOW  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes seconds; left out under a sanitizer unless MEERCAT_SLOW is set")
    config.addinivalue_line("markers", "bound(seconds): time limit of the test, 30 s without")
    config.addinivalue_line("markers", "no_san: measures what a sanitizer would falsify")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if SAN and item.get_closest_marker("slow") and not os.environ.get("MEERCAT_SLOW"):
            item.add_marker(pytest.mark.skip(reason="slow, and this is a sanitizer build"))
        if SAN and item.get_closest_marker("no_san"):
            item.add_marker(pytest.mark.skip(reason="means nothing under a sanitizer"))




def _bounded(item, phase):
    marker = item.get_closest_marker("bound")
    limit = (marker.args[0] if marker else 30) * SLOW

    def ring(signum, frame):
        # an Exception, so that pytest reports this test and goes on with the next
        raise AssertionError(f"{phase} took longer than {limit:g} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)


def _free():
    signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    _bounded(item, "set-up")
    yield
    _free()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    _bounded(item, "test")
    yield
    _free()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    _bounded(item, "tear-down")
    yield
    _free()


ENGINES = [e for e in ("epoll", "uring") if os.environ.get("MEERCAT_ENGINE") in (None, "", e)]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    if request.param == "uring" and "thread" in SAN:
        pytest.skip("TSan cannot see the kernel's completions")
    return request.param


def _lab(engine):
    if not os.access(BINARY, os.X_OK):
        pytest.fail(f"there is no {BINARY}; run make", pytrace=False)
    return Lab(engine)


@pytest.fixture
def lab(engine):
    """A laboratory of this test alone."""
    lab = _lab(engine)
    yield lab
    lab.end()


@pytest.fixture(scope="module")
def house(engine):
    """A laboratory that the tests of a file share, for tables of many small cases."""
    lab = _lab(engine)
    yield lab
    lab.end()
