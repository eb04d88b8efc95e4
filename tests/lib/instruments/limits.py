# SPDX-License-Identifier: BSD-2-Clause
"""What every conftest.py of ours wants: markers, a bound on the time of every test, `measured`, another try for
whom the machine had no time (starved.py), and a network of its own for each of several processes that share the
tests (pytest -n).

    from instruments.limits import *  # noqa: F401,F403 (pytest finds hooks and fixtures by their names)
"""

import os
import signal

import pytest
from _pytest.runner import runtestprotocol

from . import share
from .netns import move_to_own_loopback
from .starved import Starved
from .wait import SAN, SLOW

__all__ = ["pytest_configure", "pytest_collection_modifyitems", "pytest_runtest_setup", "pytest_runtest_call",
           "pytest_runtest_makereport", "pytest_runtest_protocol", "pytest_runtest_teardown", "pytest_terminal_summary",
           "pytest_xdist_make_scheduler", "measured"]

PLAYS = 3  # of a test for which the machine had no time


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        move_to_own_loopback()
    config.addinivalue_line("markers", "slow: takes seconds; left out under a sanitizer unless MEERCAT_SLOW is set")
    config.addinivalue_line("markers", "bound(seconds): time limit of the test, 30 s without")
    config.addinivalue_line("markers", "long: its file takes half a minute; begun first where several share the tests")
    config.addinivalue_line("markers", "alone: wants the whole machine; run after those that share it")
    config.addinivalue_line("markers", "no_san: measures what a sanitizer would falsify")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if SAN and item.get_closest_marker("slow") and not os.environ.get("MEERCAT_SLOW"):
            item.add_marker(pytest.mark.skip(reason="slow, and this is a sanitizer build"))
        if SAN and item.get_closest_marker("no_san"):
            item.add_marker(pytest.mark.skip(reason="means nothing under a sanitizer"))
    if hasattr(config, "workerinput"):
        share.long_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return share.scheduler(config, log)


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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().starved = call.excinfo is not None and call.excinfo.errisinstance(Starved)


def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for _ in range(PLAYS):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(r.starved for r in reports) or any(r.failed for r in reports):
            break
    for r in reports:
        item.ihook.pytest_runtest_logreport(report=r)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture
def measured(request):
    """measured("dead after 1.2 s"): a line for people at the end of the run, never a verdict."""
    return lambda text: request.node.user_properties.append(("measured", f"{request.node.name}: {text}"))


def pytest_terminal_summary(terminalreporter):
    lines = [text for reports in terminalreporter.stats.values() for r in reports
             if getattr(r, "when", "") == "teardown" or getattr(r, "when", "") == "call"
             for key, text in getattr(r, "user_properties", ()) if key == "measured"]
    if lines:
        terminalreporter.section("measured")
    for line in dict.fromkeys(lines):
        terminalreporter.line(line)
