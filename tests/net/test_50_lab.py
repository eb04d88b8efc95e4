# SPDX-License-Identifier: BSD-2-Clause
"""`meercat lab`: hosts that reach each other, faults that are faults, and nothing left behind."""

import contextlib
import glob
import os
import re
import signal
import socket
import subprocess
import textwrap
import threading
import time

import pytest

from instruments.meercat import BINARY, command
from instruments.meercat_lab import LabError, MeercatLab
from instruments.proc import alive
from instruments.wait import SAN, wait_until

pytestmark = [pytest.mark.bound(90), pytest.mark.usefixtures("allowed"),
              pytest.mark.skipif("thread" in SAN, reason="one thread a process, and forks it may not outlive")]

TLIMIT = 20

PAIR = """
network "near" { }
network "far"  { }
host "a" {
  role = "client"
  link "near" { address = {"10.0.0.1/24", "fd00::1/64"} }
}
host "b" {
  role = "server"
  address = "192.0.2.1/32"
  link "near" { address = {"10.0.0.2/24", "fd00::2/64"} }
  link "far"  { address = "10.1.0.2/24" }
  start "web" { command = "exec python3 -m http.server 8000"  port = 8000 }
  start "later" { command = "exec sleep 1000"  by-hand = yes }
}
host "c" {
  role = "server"
  link "near" { address = "10.0.0.3/24" }
  link "far"  { address = "10.1.0.3/24" }
}
"""


@pytest.fixture
def topology(tmp_path):
    """Writes a topology; its path."""
    def write(text, name="t.conf"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return str(tmp_path / name)
    return write


@pytest.fixture
def pair(topology):
    with MeercatLab(topology(PAIR)) as lab:
        yield lab


def reaches(lab, a, address):
    """Within two seconds, in which the neighbour is looked for."""
    return any(lab.exec(a, "ping", "-c1", "-W1", "-q", address, check=False).returncode == 0 for _ in range(2))


def got(lab, a, address, n):
    """How many of so many pings are answered, sent fast."""
    out = lab.exec(a, "ping", "-c", str(n), "-i", "0.002", "-W1", "-q", address, check=False).stdout
    return int(re.search(r"(\d+) received", out).group(1))


def round_trip_ms(lab, a, address):
    out = lab.exec(a, "ping", "-c5", "-i", "0.05", "-q", address).stdout
    return float(re.search(r"= ([\d.]+)/", out).group(1))


def groups(name):
    return glob.glob(f"/sys/fs/cgroup/**/meercat-lab/{name}", recursive=True)


def links():
    with open("/proc/self/net/dev") as f:
        return {line.split(":")[0].strip() for line in f if ":" in line}


def namespaces_of(pids):
    """The network namespaces of these processes, by the names that /proc has for them."""
    return {os.readlink(f"/proc/{p}/ns/net") for p in pids}


def in_use(namespaces):
    """Those that some process is in."""
    found = set()
    for link in glob.glob("/proc/[0-9]*/ns/net"):
        try:
            found.add(os.readlink(link))
        except OSError:  # ended meanwhile
            pass
    return found & namespaces


def works():
    """{part: does this machine have it}, as `meercat lab probe` says."""
    lines = command("lab", "probe").stdout.splitlines()[1:]
    return {part: word == "yes" for part, word in (re.match(r"(.+?)\s{2,}(yes|no) ", line).groups() for line in lines)}


def need(*parts):
    missing = [p for p in parts if not works()[p]]
    if missing:
        pytest.skip(f"this machine lacks {', '.join(missing)}")


class Traces:
    """All that a laboratory has on the machine, looked at while it is up."""

    def __init__(self, lab):
        s = lab.status()
        self.name = lab.name
        self.pids = {s["warden"]} | {p for h in s["hosts"] for p in h["pids"]}
        self.namespaces = namespaces_of(self.pids) - {os.readlink("/proc/self/ns/net")}
        self.state = s["dir"]
        assert self.namespaces and os.path.isdir(self.state)
        assert groups(self.name) or not works()["cpu group"]

    def left(self):
        return [*(p for p in self.pids if alive(p)), *in_use(self.namespaces), *groups(self.name),
                *glob.glob(self.state), *glob.glob(f"/run/meercat-lab/{self.name}")]


# --- up and down ----------------------------------------------------------------------------------

def test_hosts_reach_each_other_and_nobody_else(pair):
    assert reaches(pair, "a", "10.0.0.2") and reaches(pair, "a", "c") and reaches(pair, "b", "c.far")
    assert pair.exec("a", "ping", "-6", "-c1", "-W2", "fd00::2", check=False).returncode == 0
    assert pair.exec("a", "ping", "-c1", "-W1", "10.1.0.2", check=False).returncode != 0, "on another network"
    assert pair.exec("a", "hostname").stdout == "a\n"
    assert "200 OK" in pair.exec("a", "curl", "-si", "http://b:8000/").stdout
    assert "near" not in links(), "nothing of it is on the machine's own network"


def test_the_exit_status_is_the_commands_own(pair):
    assert pair.exec("a", "sh", "-c", "exit 7", check=False).returncode == 7
    assert pair.exec("a", "sh", "-c", "kill -9 $$", check=False).returncode == 137
    p = pair.exec("a", "no-such-program", check=False)
    assert p.returncode == 127 and "no-such-program: No such file" in p.stderr
    p = pair.exec("aa", "true", check=False)
    assert p.returncode == 125 and 'no host "aa", expected "a" perhaps' in p.stderr
    assert pair.exec("a", "cat", input="in and out", stdin=None).stdout == "in and out"


def test_a_host_has_run_and_name_of_its_own(pair):
    for d in ("/run", "/sys/fs/bpf"):
        pair.exec("a", "mkdir", f"{d}/only-here")
        assert "only-here" not in pair.exec("b", "ls", d).stdout and not os.path.exists(f"{d}/only-here")
    assert "near" in pair.exec("b", "ls", "/sys/class/net").stdout.split()
    assert "192.0.2.1" in pair.exec("b", "ip", "-br", "addr", "show", "lo").stdout


def test_nothing_is_left_when_it_is_taken_down(topology):
    need("freezer group")
    lab = MeercatLab(topology(PAIR)).up()
    lab.delay("a", 1)
    lab.cut("c")
    lab.freeze("b", whole=True)
    child = lab.popen("a", "sleep", "1000")
    wait_until(lambda: len(lab.host("a")["pids"]) == 1, TLIMIT, "it runs")
    traces = Traces(lab)
    lab.down()
    assert traces.left() == []
    assert child.wait(TLIMIT) == 137
    assert lab.name not in command("lab", "list").stdout


@pytest.mark.parametrize("who", ["warden", "janitor"])
def test_nothing_is_left_when_it_is_killed(topology, who):
    need("freezer group")
    lab = MeercatLab(topology(PAIR)).up()
    lab.freeze("b", whole=True)
    lab.delay("a", 1)
    traces = Traces(lab)
    with open(f"/run/meercat-lab/{lab.name}/pid") as f:
        janitor = int(f.read())
    os.kill(lab.status()["warden"] if who == "warden" else janitor, signal.SIGKILL)
    if who == "janitor":
        # the kernel takes all that runs; directory and control groups wait for the next command (not down --all:
        # somebody may have a laboratory of his own)
        wait_until(lambda: "is not up" in command("lab", "down", "--name", lab.name).stderr, TLIMIT, "it ends")
    wait_until(lambda: traces.left() == [], TLIMIT, "all is gone")


def test_only_root_has_laboratories(pair):
    # nobody, who may read the program wherever it is
    nobody = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
              "--ambient-caps=+dac_read_search"]
    for words in (["up", pair.topology], ["list"], ["status"], ["exec", "a", "true"], ["down"], ["down", "--all"]):
        p = subprocess.run([*nobody, BINARY, "lab", *words], capture_output=True, text=True)
        assert p.returncode in (1, 125) and "run as root" in p.stderr, (words, p.stderr)
    assert pair.program("b", "web")["state"] == "running"


def test_an_up_that_fails_leaves_nothing(topology):
    path = topology(PAIR.replace("exec sleep 1000", "echo this is why >&2; exit 3").replace("by-hand = yes", ""))
    lab = MeercatLab(path)
    with pytest.raises(LabError, match="this is why: later ended with status 3"):
        # what has ended before anybody looked counts as up unless it should listen
        with open(path) as f:
            text = f.read().replace("exit 3\"", 'exit 3"  port = 9')
        with open(path, "w") as f:
            f.write(text)
        lab.up()
    assert groups(lab.name) == [] and not os.path.exists(f"/run/meercat-lab/{lab.name}")
    assert lab.name not in command("lab", "list").stdout


def test_an_up_that_is_killed_leaves_nothing(topology):
    path = topology(PAIR.replace("exec sleep 1000", "exec sleep 1000  # waits").replace("by-hand = yes", "port = 9"))
    lab = MeercatLab(path)
    p = subprocess.Popen(lab.argv("up", path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    state = f"/run/meercat-lab/{lab.name}"
    wait_until(lambda: os.path.exists(f"{state}/socket"), TLIMIT, "it waits for what does not come")
    p.kill()
    p.wait()
    wait_until(lambda: not os.path.exists(state) and groups(lab.name) == [], TLIMIT, "all is gone")


def test_files_and_logs_stay_where_they_are_wanted(topology, tmp_path):
    (tmp_path / "hello.txt").write_text("I am {host}, number {n}, at {host.far}; c is {c.far}\n")
    path = topology(PAIR.replace('start "web"', 'file "hello" { from = "hello.txt"  mode = 0600 }\n  start "web"'))
    kept = tmp_path / "kept"
    with MeercatLab(path, dir=str(kept)) as lab:
        assert "I am b" in lab.exec("b", "sh", "-c", "cat $LAB_DIR/hello").stdout
    assert (kept / "b/hello").read_text() == "I am b, number 1, at 10.1.0.2; c is 10.1.0.3\n"
    assert os.stat(kept / "b/hello").st_mode & 0o777 == 0o600
    assert (kept / "b/web.log").exists()


def test_two_laboratories_do_not_know_of_each_other(topology):
    path = topology(PAIR)
    with MeercatLab(path) as one, MeercatLab(path) as two:
        one.cut("a")
        assert reaches(two, "a", "b") and not reaches(one, "a", "b")
        one.kill("b")
        assert two.program("b", "web")["state"] == "running"
        assert two.exec("a", "pgrep", "-c", "-x", "python3").stdout == "1\n", "its own, and nobody else's"
        with pytest.raises(LabError, match="is up"):
            MeercatLab(path, name=one.name).up()
        p = subprocess.run([BINARY, "lab", "status"], capture_output=True, text=True)
        assert p.returncode == 1 and "expected --name" in p.stderr
    assert not groups(one.name) and not groups(two.name)


# --- programs -------------------------------------------------------------------------------------

def test_programs_are_killed_stopped_and_started(pair):
    def state(name):
        return pair.program("b", name)["state"]
    assert state("web") == "running" and state("later") == "off"
    pair.start("b", "later")
    assert state("later") == "running"
    pair.kill("b", "web")
    assert state("web") == "killed by 9" and state("later") == "running"
    pair.start("b")
    assert state("web") == "running"
    pair.stop("b")
    assert state("web") == "killed by 15" and state("later") == "killed by 15"
    pair.start("b", "web")
    pair.kill("b", "web", signal="INT")
    wait_until(lambda: state("web") != "running", TLIMIT, "it was told to end")
    with pytest.raises(LabError, match='b has no program "wep"'):
        pair.start("b", "wep")
    with pytest.raises(LabError, match="nothing runs on c"):
        pair.kill("c", signal="HUP")


def test_killing_a_host_ends_what_went_into_the_background(pair):
    pair.exec("c", "sh", "-c", "setsid sh -c 'setsid sleep 1000 & sleep 1000' >/dev/null 2>&1 </dev/null &")
    wait_until(lambda: len(pair.host("c")["pids"]) >= 2, TLIMIT, "they run")
    pair.kill("c")
    assert pair.host("c")["pids"] == []


def answers(lab, timeout="2"):
    return lab.exec("a", "curl", "-s", "-o", "/dev/null", "-m", timeout, "http://b:8000/", check=False).returncode == 0


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_frozen_does_not_answer_until_it_is_thawed(pair, whole):
    if whole:
        need("freezer group")
    assert answers(pair)
    pair.freeze("b", whole=whole)
    assert not answers(pair, "0.5") and reaches(pair, "a", "b"), "its kernel goes on"
    assert pair.host("b")["frozen"] == whole
    pair.thaw("b")
    assert answers(pair, "10")
    pair.freeze("b", whole=whole)
    pair.heal()
    assert answers(pair, "10")
    pair.freeze("b", whole=whole)
    pair.kill("b")
    assert pair.program("b", "web")["state"] == "killed by 9" and not pair.host("b")["frozen"]


# A CPU of whom everybody wants some is no measure of a quota: the kernel's own count of how often it held
# this host back is.
def throttled(lab):
    found = glob.glob(f"/sys/fs/cgroup/**/meercat-lab/{lab.name}/b/cpu.stat", recursive=True)
    with open(next(f for f in found if "nr_throttled" in open(f).read())) as f:
        return int(re.search(r"nr_throttled (\d+)", f.read()).group(1))


def test_what_is_slow_is_held_back(pair):
    need("cpu group")
    p = pair.popen("b", "sh", "-c", "while :; do :; done")
    wait_until(lambda: len(pair.host("b")["pids"]) == 2, TLIMIT, "it spins")
    before = throttled(pair)
    time.sleep(0.2)
    assert throttled(pair) == before, "it has all that there is"
    pair.slow("b", 20)
    wait_until(lambda: throttled(pair) > before + 10, TLIMIT, "it is held back")
    assert pair.host("b")["cpu_percent"] == 20
    pair.heal("b")
    assert pair.host("b")["cpu_percent"] == 0
    p.kill()
    p.wait()
    wait_until(lambda: len(pair.host("b")["pids"]) == 1, TLIMIT, "what was run there ends with who ran it")


# --- networks -------------------------------------------------------------------------------------

def test_a_cut_is_from_all_from_one_or_from_a_network(pair):
    assert reaches(pair, "a", "b") and reaches(pair, "a", "c") and reaches(pair, "b", "c.far")
    pair.cut("b")
    assert not reaches(pair, "a", "b") and not reaches(pair, "b", "c.far") and reaches(pair, "a", "c")
    pair.heal()
    assert reaches(pair, "a", "b") and reaches(pair, "b", "c.far")
    pair.cut("b", "c")
    assert not reaches(pair, "b", "c") and not reaches(pair, "b", "c.far") and reaches(pair, "a", "b")
    pair.heal("c")
    assert reaches(pair, "b", "c")
    pair.cut("b", "far")
    assert not reaches(pair, "b", "c.far") and reaches(pair, "b", "c.near")
    pair.heal()
    pair.cut("near")
    assert not reaches(pair, "a", "b") and not reaches(pair, "a", "c") and reaches(pair, "b", "c.far")
    pair.heal("near")
    pair.cut("a,b", "c")
    assert reaches(pair, "a", "b") and not reaches(pair, "a", "c") and not reaches(pair, "c", "b")
    with pytest.raises(LabError, match="a and b.far are on no common network"):
        pair.cut("a", "b.far")
    with pytest.raises(LabError, match='no host or network "neer", expected "near" perhaps'):
        pair.cut("neer")
    assert pair.status()["cuts"] == [{"a": "a", "b": "c", "way": "both"}, {"a": "b", "b": "c", "way": "both"}]


class Rounds:
    """Numbered datagrams, in each round one each way between two hosts of each network.  One core sends them all, so
    that they come to the switch in this order."""

    def __init__(self, lab, *pairs):
        """(HOST, its address, HOST, its address)"""
        self.n, self.ways = 0, []
        for a, at, b, to in pairs:
            ends = self._socket(lab, a, at, to), self._socket(lab, b, to, at)
            self.ways += [(*ends, []), (*ends[::-1], [])]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _socket(self, lab, host, at, to):
        with lab.at(host):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setblocking(False)
        s.bind((at, 7000))
        s.connect((to, 7000))
        return s

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()
        for sender, _, _ in self.ways:
            sender.close()

    def _run(self):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        while not self._ending.is_set():
            for sender, _, _ in self.ways:
                sender.send(self.n.to_bytes(8, "big"))
            for _, receiver, heard in self.ways:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        heard.append(int.from_bytes(receiver.recv(8), "big"))
            self.n += 1

    def wait_for(self, more):
        until = self.n + more
        wait_until(lambda: self.n >= until, TLIMIT, f"{more} rounds")

    def silences(self):
        """Of each way the longest: the last round before it, and the first after it."""
        return [max(zip(heard, heard[1:]), key=lambda pair: pair[1] - pair[0]) for _, _, heard in self.ways]


def test_all_links_of_a_host_are_cut_and_healed_at_one_moment(pair):
    assert reaches(pair, "a", "b") and reaches(pair, "b", "c.far")
    with Rounds(pair, ("a", "10.0.0.1", "b", "10.0.0.2"), ("b", "10.1.0.2", "c", "10.1.0.3")) as rounds:
        for order in (pair.cut, pair.heal):
            rounds.wait_for(500)
            order("b")
        rounds.wait_for(500)
    for moment in zip(*rounds.silences()):
        assert max(moment) - min(moment) <= 1, "it may fall into a round"


def received(lab, host):
    return int(lab.exec(host, "cat", "/sys/class/net/near/statistics/rx_packets").stdout)


def test_one_way_the_others_are_still_heard(pair):
    assert reaches(pair, "a", "b")
    pair.cut("a", one_way=True)
    before = received(pair, "a")
    assert got(pair, "a", "b", 20) == 0
    # who is heard no more hears on: b asks, and nothing of the answers comes back
    assert pair.exec("b", "ping", "-c3", "-i0.2", "-W1", "-q", "a", check=False).returncode != 0
    assert received(pair, "a") > before
    pair.heal()
    assert reaches(pair, "a", "b")


def test_what_is_lost_is_lost_and_found_again(pair):
    assert reaches(pair, "a", "b")
    assert got(pair, "a", "b", 200) == 200
    # half of them each way: to have all or none of 200 come through is as good as impossible
    pair.loss("a", 50)
    assert 0 < got(pair, "a", "b", 200) < 200
    pair.loss("a", 100)
    assert got(pair, "a", "b", 10) == 0
    assert pair.host("a")["links"][0]["loss_percent"] == 100
    pair.heal("a")
    assert got(pair, "a", "b", 200) == 200


def test_a_delay_delays_each_way_and_segments_pass_whole(pair):
    assert reaches(pair, "a", "b")
    pair.delay("a", 20)
    assert round_trip_ms(pair, "a", "b") >= 40
    pair.delay("a", 30)
    assert round_trip_ms(pair, "a", "b") >= 60
    # a large answer, split and joined by the cards that there are none of
    out = pair.exec("b", "sh", "-c", "head -c 5000000 /dev/zero >$LAB_DIR/big; cd $LAB_DIR; md5sum <big").stdout
    assert pair.exec("a", "sh", "-c", "curl -s http://b:8000/big | md5sum").stdout == out
    pair.cut("a")
    assert not reaches(pair, "a", "b"), "a cut is one behind a delay, too"
    pair.heal()
    assert reaches(pair, "a", "b")
    assert pair.host("a")["links"][0]["delay_ms"] == 0
    assert pair.host("a")["links"][0]["port"] == "p1"


def test_the_weather_of_the_file_is_there_from_the_start(topology):
    need("tc tbf")
    path = topology(PAIR.replace('network "near" { }', 'network "near" { delay = 5ms  bandwidth = 100mbit }'))
    with MeercatLab(path) as lab:
        assert reaches(lab, "a", "b")
        assert round_trip_ms(lab, "a", "b") >= 20
        assert "tbf" in lab.exec("a", "tc", "qdisc", "show", "dev", "near").stdout
        lab.delay("near", 0)
        lab.heal()
        assert round_trip_ms(lab, "a", "b") >= 20, "as the file says"


# --- words ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("broken, said", [
    ('role = "cleint"', 't.conf:5: role: "cleint", expected client, router, balancer or server'),
    ('role = "client" rout = "x"', 't.conf:5: unknown option "rout" in host, expected "route" perhaps'),
    ('role = "client" file "x" { from = "missing" }', "expected a file that can be read"),
])
def test_a_broken_file_is_told_with_its_line(topology, broken, said):
    path = topology(PAIR.replace('role = "client"', broken, 1))
    for verb in ("check", "up"):
        p = command("lab", verb, path)
        assert p.returncode == 1 and said in p.stderr, p.stderr


@pytest.mark.parametrize("broken, said", [
    ('route = "default via 10.9.9.9"', 't.conf:5: "default via 10.9.9.9": Error: Nexthop has invalid gateway.'),
    ('sysctl = "net.ipv4.no_such=1"', "t.conf:5: net.ipv4.no_such: No such file or directory"),
    ('prepare = "echo so; exit 1"', "t.conf:5: prepare: /bin/sh: so"),
])
def test_what_the_kernel_refuses_is_told_with_its_line(topology, broken, said):
    lab = MeercatLab(topology(PAIR.replace('role = "client"', f'role = "client" {broken}', 1)))
    with pytest.raises(LabError) as e:
        lab.up()
    assert said in str(e.value)
    assert groups(lab.name) == []


def test_a_template_that_is_wrong_is_told_with_its_line(topology, tmp_path):
    (tmp_path / "x").write_text("first\nsecond {hots}\n")
    p = command("lab", "check", topology(PAIR.replace('role = "client"', 'role = "client" file "x" { from = "x" }', 1)))
    assert p.returncode == 1 and 'x:2: {hots} is unknown, expected {host} perhaps (for host "a")' in p.stderr


def test_what_the_machine_can_do_is_tried():
    p = command("lab", "probe")
    assert p.returncode == 0, p.stdout
    found = works()
    assert found["root"] and found["namespaces"] and found["veth"] and found["bridge"]
    assert "mc0" not in links(), "on a network of its own"


# --- the topologies that come with it -------------------------------------------------------------

def served_by(lab, url="http://192.0.2.10/"):
    return lab.exec("client", "curl", "-s", "-m", "3", url, check=False).stdout


@pytest.mark.no_san
@pytest.mark.parametrize("name", ["three", "bgp", "vrrp", "flat", "takeover"])
def test_the_nine_hosts_serve(name, measured):
    if name in ("three", "takeover"):
        need("resilient groups")
    since = time.monotonic()
    with MeercatLab(f"lab/{name}.conf") as lab:
        measured(f"lab/{name}.conf up in {time.monotonic() - since:.2f} s")
        wait_until(lambda: served_by(lab) in ("s1", "s2", "s3", "s4"), TLIMIT, "requests are served")
        wait_until(lambda: len(set(re.findall(r"^lb\d", lab.meercat("lb1", "members").stdout, re.M))) == 3, TLIMIT,
                   "three members")
        traces = Traces(lab)
        since = time.monotonic()
    measured(f"down in {time.monotonic() - since:.2f} s")
    assert traces.left() == []


@pytest.mark.no_san
def test_the_small_one_serves():
    need("cpu group", "memory group")
    with MeercatLab("lab/small.conf") as lab:
        wait_until(lambda: served_by(lab, "http://lb/") in ("s1", "s2"), TLIMIT, "requests are served")


def held(lab, lb):
    return "held by" in lab.meercat(lb, "status", check=False).stdout


@pytest.mark.no_san
@pytest.mark.alone
def test_a_connection_outlives_its_balancers():
    need("resilient groups")
    with MeercatLab("lab/takeover.conf") as lab:
        wait_until(lambda: all(held(lab, lb) for lb in ("lb1", "lb2", "lb3")), TLIMIT, "each has a holder")
        client = lab.popen("client", "curl", "-sN", "--rate", "20/s", "-w", " %{num_connects}\n",
                           "http://192.0.2.10/?[1-10000]", stdout=subprocess.PIPE, text=True)
        answers = [client.stdout.readline() for _ in range(5)]
        for lb in ("lb1", "lb2", "lb3"):
            lab.kill(lb, "meercat")
            answers += [client.stdout.readline() for _ in range(10)]
            lab.start(lb, "meercat")
            wait_until(lambda: held(lab, lb), TLIMIT, "it has a holder again")
        client.kill()
        client.communicate()
    assert re.fullmatch(r"s[1-4] 1\n(s[1-4] 0\n)+", "".join(answers)), answers
