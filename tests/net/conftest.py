# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures: a network, and a laboratory on it.

Environment: MEERCAT (the binary), MEERCAT_SAN (the variant that it is), MEERCAT_ENGINE (epoll or uring;
without it some balancers of a cluster have the one, some the other)."""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from instruments.lab import Lab  # noqa: E402
from instruments.limits import *  # noqa: E402,F401,F403
from instruments.meercat import BINARY  # noqa: E402
from instruments.netns import Network, forbidden  # noqa: E402


@pytest.fixture(scope="session")
def allowed():
    why = forbidden()
    if why:
        pytest.skip(why)


@pytest.fixture
def net(allowed):
    with Network() as n:
        yield n


@pytest.fixture
def lab(net):
    if not os.access(BINARY, os.X_OK):
        pytest.fail(f"there is no {BINARY}; run make", pytrace=False)
    lab = Lab(None)
    yield lab
    lab.end()
