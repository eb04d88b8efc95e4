# SPDX-License-Identifier: BSD-2-Clause
"""`meercat sim`: what it prints, that it repeats, and what placement must show in it."""

import csv
import io
import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from instruments.meercat import BINARY, ROOT, san_env

pytestmark = pytest.mark.long
COLUMNS = ["scenario", "policy", "class", "p50_ms", "p99_ms", "p999_ms", "slowdown_p99", "failed_ppm"]


def sim(*arguments, status=0):
    done = subprocess.run([BINARY, "sim", *map(str, arguments)], env=san_env(), capture_output=True, text=True,
                          timeout=100, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def rows(*arguments):
    out = sim("--csv", "--balancers", 4, "--servers", 40, *arguments)
    reader = csv.DictReader(io.StringIO(out))
    found = {(r["policy"], r["class"]): r for r in reader}
    assert reader.fieldnames == COLUMNS
    return found


@pytest.mark.bound(60)
def test_one_row_for_each_policy_and_class():
    found = rows("--seconds", 2, "--policy", "resource,prequal,least-request,p2c,oracle")
    assert set(found) == {(p, c) for p in ("resource", "prequal", "least-request", "p2c", "oracle")
                          for c in ("cheap", "medium", "heavy", "all")}
    for row in found.values():
        assert row["scenario"] == "web"
        assert 0 < float(row["p50_ms"]) <= float(row["p99_ms"]) <= float(row["p999_ms"])
        assert float(row["failed_ppm"]) == 0


def test_a_seed_repeats_and_another_differs():
    runs = [sim("--csv", "--seconds", 1, "--servers", 20, "--balancers", 2, "--policy", "resource", "--seed", s)
            for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.no_san
@pytest.mark.bound(90)
def test_resource_is_near_the_oracle_at_ten_balancers_and_a_hundred_servers():
    for scenario in ("web", "waiting"):
        out = sim("--csv", "--scenario", scenario, "--balancers", 10, "--servers", 100, "--load", 0.8, "--seconds", 9,
                  "--policy", "resource,prequal,least-request,p2c,oracle")
        p99 = {r["policy"]: float(r["p99_ms"]) for r in csv.DictReader(io.StringIO(out)) if r["class"] == "cheap"}
        assert p99["resource"] <= 1.10 * p99["oracle"]
        assert p99["prequal"] >= 1.3 * p99["resource"]
        assert p99["least-request"] >= 1.8 * p99["resource"]
        assert p99["p2c"] >= 4 * p99["resource"]


@pytest.mark.bound(60)
def test_leaving_a_part_out_shows():
    with_all = rows("--seconds", 3, "--policy", "resource")[("resource", "cheap")]
    without = rows("--seconds", 3, "--policy", "resource", "--without", "peers,homes")[("resource", "cheap")]
    assert float(without["p99_ms"]) > 1.1 * float(with_all["p99_ms"])


@pytest.mark.bound(60)
def test_the_picture_is_svg_with_a_curve_for_each_policy(tmp_path):
    path = tmp_path / "p.svg"
    sim("--plot", path, "--seconds", 0.5, "--servers", 10, "--balancers", 2, "--policy", "p2c,oracle")
    tree = ElementTree.parse(path)
    assert len(tree.findall(".//{http://www.w3.org/2000/svg}polyline")) == 2
    assert {"p2c", "oracle"} <= {t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")}


def write_log(path, n=4000):
    with open(path, "w", encoding="utf-8") as f:
        for i in range(n):
            ms = i * 0.5
            f.write(json.dumps({
                "time": f"2026-01-31T10:00:{int(ms / 1000):02d}.{int(ms) % 1000:03d}Z", "method": "GET",
                "target": f"/user/{i}" if i % 10 else "/report?id=7", "status": 200,
                "total_ms": 2.0 if i % 10 else 20.0}) + "\n")


@pytest.mark.bound(60)
def test_a_log_is_played_and_questions_are_answered(tmp_path):
    log = tmp_path / "access.log"
    write_log(log)
    common = ["--replay", log, "--load", 0.7, "--policy", "resource"]
    found = rows(*common)
    assert {c for _, c in found} == {"other", "GET /user/{}", "GET /report", "all"}
    assert found[("resource", "all")]["scenario"] == "replay"
    worse = rows(*common, "--lose", 10, "--traffic", "+20%")
    assert float(worse[("resource", "all")]["p99_ms"]) > float(found[("resource", "all")]["p99_ms"])


@pytest.mark.bound(60)
def test_a_log_is_drawn_too(tmp_path):
    log, path = tmp_path / "access.log", tmp_path / "p.svg"
    write_log(log, 500)
    sim("--plot", path, "--replay", log, "--servers", 6, "--balancers", 2, "--policy", "p2c")
    tree = ElementTree.parse(path)
    assert len(tree.findall(".//{http://www.w3.org/2000/svg}polyline")) == 1
    assert any("replay" in (t.text or "") for t in tree.iter("{http://www.w3.org/2000/svg}text"))
    assert "No such file" in sim("--plot", path, "--replay", tmp_path / "none", status=1)
    assert "directory" in sim("--replay", tmp_path, status=1)


def test_classes_of_a_log_are_its_own_and_stand_in_csv(tmp_path):
    log = tmp_path / "access.log"
    names = ["export", "other", "GET /a,b\"c", None, "two\nlines"]
    with open(log, "w", encoding="utf-8") as f:
        for i in range(500):
            line = {"time": f"2026-01-31T10:00:00.{i:03d}Z", "method": "GET", "target": "/x", "total_ms": 2.0}
            if names[i % 5]:
                line["class"] = names[i % 5]
            f.write(json.dumps(line) + "\n")
    found = rows("--replay", log, "--policy", "p2c")
    assert {c for _, c in found} == {"other", "export", "GET /a,b\"c", "GET /x", "all"}


@pytest.mark.slow
@pytest.mark.no_san
@pytest.mark.bound(180)
def test_the_tables_of_the_papers_are_made():
    out = sim("--tables", "--seconds", 0.1)
    with open(os.path.join(ROOT, "docs", "placement.md"), encoding="utf-8") as f:
        papers = f.read()
    heads = [line for line in out.splitlines() if line.startswith("### ")]
    assert len(heads) == 6 and all(h in papers for h in heads)
    assert "nan" not in out and "inf" not in out


@pytest.mark.parametrize("arguments, says", [
    (["--csv", "--costs"], "--csv stands alone"),
    (["--csv", "--bytes"], "--csv stands alone"),
    (["--policy", "best"], 'no policy "best"'),
    (["--scenario", "heaven"], 'no scenario "heaven"'),
    (["--load", "much"], "makes no sense"),
    (["--without", "everything"], "makes no sense"),
    (["--servers", "0"], "makes no sense"),
    (["--unknown"], "usage"),
    (["surplus"], "usage"),
])
def test_nonsense_is_refused(arguments, says):
    assert says in sim(*arguments, status=2)


def test_a_file_that_is_no_log_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_text("hello\n")
    assert "no line of it" in sim("--replay", path, status=1)
