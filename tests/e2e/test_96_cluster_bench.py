# SPDX-License-Identifier: BSD-2-Clause
"""bench/cluster: it gives figures that can be true.  What they are is no business of a test."""

import csv
import os
import subprocess

import pytest

from instruments.meercat import BINARY, ROOT, san_env
from instruments.wait import SLOW

PROGRAM = os.path.join(ROOT, "bench/cluster")

pytestmark = [pytest.mark.slow, pytest.mark.bound(150)]


def bench(tmp_path, *arguments):
    table, tmp = tmp_path / "table.csv", tmp_path / "tmp"
    tmp.mkdir()
    done = subprocess.run([PROGRAM, "--meercat", BINARY, "--csv", str(table), *arguments], capture_output=True,
                          text=True, timeout=120 * SLOW, env={**os.environ, **san_env(), "TMPDIR": str(tmp)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.listdir(tmp) == []
    with open(table, encoding="utf-8") as f:
        return {r["what"]: float(r["value"]) for r in csv.DictReader(f)}


def test_a_small_cluster_is_measured(tmp_path):
    rows = bench(tmp_path, "--parts", "load,words", "--balancers", "3", "--servers", "20", "--rate", "60",
                 "--warmup", "1", "--seconds", "3", "--word-balancers", "3", "--words", "2")
    assert rows["CPU of a control thread, median"] > 0
    assert rows["sent by a balancer, median"] > 0 and rows["received by a balancer, median"] > 0
    # every balancer knows of every server; one whose owner speaks is newer than one that was lost
    assert rows["reports unknown, at its owner"] == 0 and rows["reports unknown, at the others"] == 0
    for who in ("at its owner", "at the others"):
        quantiles = [rows[f"age of the newest report {who}, {q}"] for q in ("median", "p99", "p99.9", "max")]
        assert 0 < quantiles[0] and quantiles == sorted(quantiles)
    assert rows["requests"] > 0
    assert 0 < rows["until the last one holds a word, median"] <= rows["until the last one holds a word, max"]


def test_a_death_is_timed(tmp_path):
    rows = bench(tmp_path, "--parts", "deaths", "--kills", "1")
    assert 0 < rows["until the first one knows, max"] <= rows["until the last one knows, max"]


@pytest.mark.parametrize("arguments,said", [
    (["--parts", "luck"], "parts are"),
    (["--balancers", "1"], "two balancers"),
    (["--servers", "0"], "two balancers and 1 to 5000 servers"),
])
def test_options_that_make_no_sense_are_refused(arguments, said):
    r = subprocess.run([PROGRAM, "--meercat", BINARY, *arguments], capture_output=True, text=True, timeout=30)
    assert r.returncode == 2 and said in r.stderr, r.stderr
