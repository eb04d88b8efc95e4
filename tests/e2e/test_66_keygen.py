# SPDX-License-Identifier: BSD-2-Clause
"""`meercat keygen`: keys for a cluster, to standard output and into their file."""

import base64
import os
import re
import stat

from instruments.meercat import command

LINE = re.compile(r"([A-Za-z0-9+/]{43}=) # key [0-9a-f]{8} of \d{4}-\d\d-\d\d\n")


def keygen(*args):
    return command("keygen", *args)


def test_it_prints_a_new_key_each_time():
    lines = [keygen().stdout for _ in range(2)]
    keys = [base64.b64decode(LINE.fullmatch(line)[1], validate=True) for line in lines]
    assert len(keys[0]) == len(keys[1]) == 32
    assert keys[0] != keys[1]


def test_it_makes_a_file_that_only_its_owner_reads(tmp_path):
    file = tmp_path / "cluster.key"
    r = keygen(str(file))
    assert r.returncode == 0 and r.stdout == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert LINE.fullmatch(file.read_text())


def test_it_does_not_overwrite_keys(tmp_path):
    file = tmp_path / "cluster.key"
    keygen(str(file))
    before = file.read_text()
    r = keygen(str(file))
    assert r.returncode == 1 and "exists" in r.stderr and "--add" in r.stderr
    assert file.read_text() == before


def test_it_adds_keys_behind_the_others_up_to_eight(tmp_path):
    file = tmp_path / "cluster.key"
    keygen(str(file))
    file.write_text("# ours\n" + file.read_text().rstrip("\n"))  # the last line has no end
    for n in range(2, 9):
        assert keygen("--add", str(file)).returncode == 0
        lines = file.read_text().splitlines(keepends=True)
        assert len(lines) == n + 1 and all(LINE.fullmatch(line) for line in lines[1:])
    before = file.read_text()
    r = keygen("--add", str(file))
    assert r.returncode == 1 and "as many keys as can be" in r.stderr
    assert file.read_text() == before


def test_it_adds_nothing_to_a_file_that_is_not_good(tmp_path):
    file = tmp_path / "cluster.key"
    file.write_text("not a key\n")
    os.chmod(file, 0o600)
    r = keygen("--add", str(file))
    assert r.returncode == 1 and f"{file}:1: no key, expected 32 bytes" in r.stderr
    assert keygen("--add", str(tmp_path / "none")).returncode == 1
    keygen(str(tmp_path / "open"))
    os.chmod(tmp_path / "open", 0o644)
    r = keygen("--add", str(tmp_path / "open"))
    assert r.returncode == 1 and "expected 0600" in r.stderr


def test_it_tells_how_it_is_used():
    assert keygen("--add").returncode == 2
    assert keygen("a", "b").returncode == 2
