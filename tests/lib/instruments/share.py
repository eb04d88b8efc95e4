# SPDX-License-Identifier: BSD-2-Clause
"""How several processes share the tests (pytest -n, tools/e2e): file by file, and of a file each engine's part by
itself, so that none of them is left with the longest file when the others have ended.

A file marked "long" is begun before the others, for the same reason.  Fixtures of a module are made once by each
process that has a part of it."""

import re

ENGINE = re.compile(r"\[(epoll|uring)\b")


def part_of(nodeid):
    engine = ENGINE.search(nodeid)
    return nodeid.split("::", 1)[0] + (engine[0] if engine else "")


def scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByPart(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return part_of(nodeid)
    return ByPart(config, log)


def long_first(items):
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
