# SPDX-License-Identifier: BSD-2-Clause
"""bench/placement: it gives figures, and leaves nothing behind however it ends.  What the figures are
is no business of a test."""

import csv
import os
import shutil
import signal
import subprocess
import uuid

import pytest

from instruments.meercat import BINARY, ROOT, san_env
from instruments.process import Process
from instruments.wait import wait_until

CLASSES = {"cheap", "medium", "heavy", "waiting", "memory", "all"}
PROGRAM = os.path.join(ROOT, "bench/placement")
GROUPS = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"]

pytestmark = [pytest.mark.slow, pytest.mark.bound(120), pytest.mark.long]


class Placement(Process):
    """With a mark in its environment by which whatever it started can be found."""

    def __init__(self, directory, *arguments):
        self.directory, self.mark = str(directory), str(uuid.uuid4())
        env = {**san_env(), "TMPDIR": self.directory, "PLACEMENT_MARK": self.mark}
        super().__init__(["/bin/sh", "-c", 'exec "$0" "$@" >&2', PROGRAM, "--meercat", BINARY,
                          *arguments], env=env)

    def started(self, of=""):
        """Processes with the mark, the program itself among them, and this in their command."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as e, open(f"/proc/{pid}/cmdline", "rb") as c:
                    if self.mark.encode() in e.read() and of.encode() in c.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def check_nothing_is_left(self):
        wait_until(lambda: not self.started(), 10, "its processes have ended")
        assert os.listdir(self.directory) == [], self.stderr
        for tree in filter(os.path.isdir, GROUPS):
            assert f"meercat-placement-{self.pid}" not in os.listdir(tree)


@pytest.fixture
def placement(tmp_path):
    runs = []

    def start(*arguments):
        (tmp_path / "tmp").mkdir()
        runs.append(Placement(tmp_path / "tmp", *arguments))
        return runs[-1]
    yield start
    for r in runs:
        if r.running():
            r.signal(signal.SIGTERM)
            r.wait_exit(30)


@pytest.mark.parametrize("rival", ["haproxy", "nginx"])
def test_it_gives_figures_for_each_class(placement, tmp_path, rival):
    if not shutil.which(os.environ.get(rival.upper(), f"/usr/sbin/{rival}")):
        pytest.skip(f"there is no {rival} here")
    table = tmp_path / "table.csv"
    # little load: on a busy machine every request has its answer in time, too
    p = placement("--policies", f"resource,{rival}", "--rounds", "1", "--seconds", "2", "--warmup", "0.5",
                  "--load", "0.2", "--mix", "cheap=60,medium=10,heavy=1,waiting=14,memory=15", "--csv", str(table))
    assert p.wait_exit(90) == 0, p.stderr
    with open(table, encoding="ascii") as f:
        rows = list(csv.DictReader(f))
    assert {(r["policy"], r["round"]) for r in rows} == {("resource", "0"), (rival, "0")}
    for policy in ("resource", rival):
        mine = {r["class"]: r for r in rows if r["policy"] == policy}
        assert set(mine) == CLASSES
        assert int(mine["all"]["requests"]) == sum(int(mine[c]["requests"]) for c in CLASSES - {"all"})
        assert int(mine["cheap"]["requests"]) > 10
        assert 0 < float(mine["cheap"]["p50_ms"]) <= float(mine["cheap"]["p99_ms"]) <= float(mine["cheap"]["p999_ms"])
        assert int(mine["cheap"]["errors"]) < int(mine["cheap"]["requests"])
    # the very same requests
    assert len({tuple(r["requests"] for r in rows if r["policy"] == policy) for policy in ("resource", rival)}) == 1
    assert "share of requests" in p.stderr
    p.check_nothing_is_left()


def test_it_leaves_nothing_behind_when_it_is_interrupted(placement):
    p = placement("--policies", "resource,p2c", "--rounds", "2", "--seconds", "20")
    wait_until(lambda: p.started(of="place_load"), 30, "load is generated")
    p.signal(signal.SIGINT)
    assert p.wait_exit(30) == 130, p.stderr
    p.check_nothing_is_left()


@pytest.mark.parametrize("arguments,said", [
    (["--policies", "best"], "unknown policy"),
    (["--mix", "cheap=much"], "number"),
    (["--mix", "dear=1"], "unknown class"),
    (["--rounds", "0"], "positive"),
])
def test_options_that_make_no_sense_are_refused(arguments, said):
    r = subprocess.run([PROGRAM, "--meercat", BINARY, *arguments], capture_output=True, text=True, timeout=30)
    assert r.returncode == 2 and said in r.stderr, r.stderr
