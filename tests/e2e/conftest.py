# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures: the engine, the lab, and a bound on the time of every test.

Environment: MEERCAT (the binary), MEERCAT_SAN (address-undefined or thread: the variant that it is),
MEERCAT_ENGINE (epoll or uring: only that one), MEERCAT_BIG (bodies of 10 GB).
"""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from instruments.lab import Lab  # noqa: E402
from instruments.limits import *  # noqa: E402,F401,F403
from instruments.meercat import BINARY  # noqa: E402
from instruments.wait import SAN  # noqa: E402

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
